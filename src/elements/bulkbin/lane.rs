// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lane: the four elements that process one file after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::imp::CAT;
use super::memory_gate::MemoryGate;
use super::output::{Output, WriteError};
use super::source::{self, Source};
use crate::elements::error_details::ErrorDetails;
use crate::elements::http;
use crate::record::{Failure, Summary};

/// Most warnings that are kept for each file.
const MAX_WARNINGS: usize = 8;

/// Interval of progress reports while a file is read.
const TICK: Duration = Duration::from_secs(1);

/// Pauses before a URL is read again after a failure that may pass, before its first frame.
const RETRY_PAUSES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// The elements of a lane, and their state.
#[derive(Clone)]
pub(super) struct Lane {
    pub index: usize,
    source: Source,
    pub decoder: gst::Element,
    pub detector: gst::Element,
    pub encoder: gst::Element,
    /// Receives the lines.
    pad: gst::Pad,
    state: Arc<LaneState>,
}

/// What one attempt to read a file gave.
struct Attempt {
    summary: Summary,
    /// Whether another attempt may succeed.
    may_pass: bool,
}

/// State of a lane.
#[derive(Default)]
struct LaneState {
    file: Mutex<FileState>,
    /// Progress of the file; stays until the next file starts.
    progress: Mutex<FileProgress>,
    /// Warnings about the model, which concern every file.
    model_warnings: Mutex<Vec<String>>,
    changed: Condvar,
}

#[derive(Default)]
struct FileState {
    /// A file is being read.
    is_running: bool,
    has_ended: bool,
    is_cancelled: bool,
    warnings: Vec<String>,
    failure: Option<LaneFailure>,
}

/// Why a file failed.
#[derive(Debug, Clone)]
pub(super) struct LaneFailure {
    pub failure: Failure,
    /// Whether the same request may succeed later: a server is overloaded or cannot be reached.
    pub may_pass: bool,
}

impl From<Failure> for LaneFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, may_pass: false }
    }
}

/// Progress of a lane in its file.
#[derive(Debug, Clone, Default)]
pub(super) struct FileProgress {
    /// Counts the files of the lane, from 1.
    pub number: u64,
    pub file: String,
    pub counts: Counts,
    pub detections: u64,
    pub bytes_read: u64,
    /// Nanoseconds, where the container states it.
    pub duration: Option<u64>,
    has_ended: bool,
}

impl FileProgress {
    /// Returns the fraction of the file that has lines, 0 to 1, by time; `None` where the container does not state a duration.
    pub fn fraction_done(&self) -> Option<f64> {
        let duration = self.duration.filter(|duration| *duration > 0)?;
        Some((self.counts.position()?.nseconds() as f64 / duration as f64).min(1.0))
    }

    pub fn to_structure(&self) -> gst::Structure {
        gst::Structure::builder("vx-running")
            .field("file", &self.file)
            .field("keyframes", self.counts.keyframes)
            .field("frames-between", self.counts.between)
            .field("detections", self.detections)
            .field("bytes-read", self.bytes_read)
            .field_if_some("position", self.counts.position())
            .field_if_some("duration", self.duration.map(gst::ClockTime::from_nseconds))
            .build()
    }
}

/// Counts of a file's lines so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub keyframes: u64,
    pub between: u64,
    /// The earliest and the latest time of a frame.
    span: Option<(gst::ClockTime, gst::ClockTime)>,
}

impl Counts {
    /// Returns the time from the first frame to the last.
    fn position(&self) -> Option<gst::ClockTime> {
        self.span.map(|(first, last)| last - first)
    }

    fn add(&mut self, line: &gst::BufferRef) {
        if line.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            self.between += 1;
        } else {
            self.keyframes += 1;
        }
        if let Some(pts) = line.pts() {
            let (first, last) = self.span.unwrap_or((pts, pts));
            self.span = Some((first.min(pts), last.max(pts)));
        }
    }
}

impl LaneState {
    /// Resets the state of the file, for another or for none. Returns the previous one. A cancellation stays.
    fn restart(&self, is_running: bool) -> FileState {
        let mut report = self.file.lock();
        let is_cancelled = report.is_cancelled;
        std::mem::replace(&mut *report, FileState { is_running, is_cancelled, ..FileState::default() })
    }
}

impl Lane {
    /// Creates the elements, not yet in a bin.
    ///
    /// # Errors
    /// When one of them is not available.
    pub fn new(index: usize, output: &Arc<Output>) -> Result<Self, gst::glib::BoolError> {
        let make = |factory: &str, name: &str| {
            let name = if index == 0 { name.to_owned() } else { format!("{name}-{index}") };
            gst::ElementFactory::make(factory).name(name).build()
        };
        let state = Arc::<LaneState>::default();
        let lane = Self {
            index,
            source: Source::new(if index == 0 { "source".to_owned() } else { format!("source-{index}") })?,
            decoder: make("vxkeyframedec", "decoder")?,
            detector: make("vxyolodetect", "detector")?,
            encoder: make("vxjsonenc", "encoder")?,
            pad: line_pad(index, Arc::clone(output), Arc::clone(&state)),
            state,
        };
        // The lane sets their states, not the bin.
        lane.elements().into_iter().for_each(|element| {
            element.set_locked_state(true);
        });
        Ok(lane)
    }

    /// Returns the elements, from the last to the first.
    pub fn elements(&self) -> [gst::Element; 4] {
        [self.encoder.clone(), self.detector.clone(), self.decoder.clone(), self.source.element()]
    }

    /// Links the elements, which must be in a bin by now.
    ///
    /// # Errors
    /// When they cannot be linked.
    pub fn link(&self) -> Result<(), gst::glib::BoolError> {
        gst::Element::link_many([&self.source.element(), &self.decoder, &self.detector, &self.encoder])?;
        let lines = self.encoder.static_pad("src").ok_or_else(|| gst::glib::bool_error!("vxjsonenc has no pad src"))?;
        lines.link(&self.pad).map(|_| ()).map_err(|error| gst::glib::bool_error!("the lane cannot be linked: {error}"))
    }

    /// Whether `source` is one of its elements, or inside one.
    pub fn holds(&self, source: &gst::Object) -> bool {
        self.elements().into_iter().any(|element| *source == element || source.has_as_ancestor(&element))
    }

    /// Sets the elements to a state below PAUSED.
    ///
    /// # Errors
    /// When one of them fails; it has posted why.
    pub fn set_state(&self, state: gst::State) -> Result<(), gst::StateChangeError> {
        self.elements().into_iter().try_for_each(|element| element.set_state(state).map(|_| ()))
    }

    /// Sets the elements to READY.
    ///
    /// # Errors
    /// Why one of them fails; that is not forwarded to the bus.
    pub fn bring_to_ready(&self) -> Result<(), Failure> {
        self.state.restart(true);
        let is_ready = self.set_state(gst::State::Ready).is_ok();
        let report = self.state.restart(false);
        if is_ready {
            return Ok(());
        }
        let error =
            || gst::glib::Error::new(gst::CoreError::StateChange, "an element did not reach READY and posted no error");
        Err(report.failure.map_or_else(|| Failure::new(&error(), None), |reported| reported.failure))
    }

    /// Converts an error message of one of its elements.
    pub fn failure(&self, message: &gst::message::Error) -> LaneFailure {
        let error = message.error();
        if let Some(details) = message.details().and_then(ErrorDetails::from_structure) {
            return Failure { message: details.reason, ..Failure::new(&error, Some(&details.debug)) }.into();
        }
        // Elements of others attach no details. The first line of their debug text is a source location and the element's path,
        // which differs with the lane.
        let debug = message.debug();
        let debug = debug.as_deref().and_then(|debug| debug.split_once('\n')).map(|(_, cause)| cause);
        let mut failure = LaneFailure::from(Failure::new(&error, debug));
        if message.src().is_some_and(|source| *source == self.source.element()) {
            if let Some(refusal) = http::Refusal::from_message(message) {
                failure.failure.message = refusal.reason;
                failure.may_pass = refusal.may_pass;
            } else if let Some(reason) = debug {
                // filesrc has its reason only there: "No such file \"a.mp4\"".
                failure.failure.message = reason.to_owned();
            }
        }
        failure
    }

    /// Records an error of one of its elements; false if no file is being read, so that it is not a file's.
    pub fn fail(&self, failure: LaneFailure) -> bool {
        let mut report = self.state.file.lock();
        if report.is_running && report.failure.is_none() {
            report.failure = Some(failure);
            self.state.changed.notify_all();
        }
        report.is_running
    }

    /// Records a warning of one of its elements.
    pub fn add_warning(&self, text: String) {
        let mut report = self.state.file.lock();
        if report.warnings.len() < MAX_WARNINGS {
            report.warnings.push(text);
        }
    }

    /// Records a warning about the model, for this file and all that follow.
    pub fn add_model_warning(&self, text: &str) {
        let mut model_warnings = self.state.model_warnings.lock();
        if model_warnings.len() < MAX_WARNINGS && !model_warnings.iter().any(|known| known == text) {
            model_warnings.push(text.to_owned());
        }
    }

    /// Drops warnings about the model: another one may be loaded.
    pub fn clear_model_warnings(&self) {
        self.state.model_warnings.lock().clear();
    }

    /// Returns the progress of its file, or of the last one.
    pub fn running(&self) -> FileProgress {
        let mut running = self.state.progress.lock().clone();
        if !running.has_ended && running.number > 0 {
            let decoder: gst::Structure = self.decoder.property("stats");
            let detector: gst::Structure = self.detector.property("stats");
            running.detections = detector.get("detections").unwrap_or(0);
            running.bytes_read = decoder.get("bytes-read").unwrap_or(0);
            running.duration = decoder.get("duration").ok();
        }
        running
    }

    /// Cancels the current file, without a summary.
    pub fn cancel(&self) {
        self.state.file.lock().is_cancelled = true;
        self.state.changed.notify_all();
    }

    /// Accepts files again after [`cancel`](Self::cancel).
    pub fn uncancel(&self) {
        self.state.file.lock().is_cancelled = false;
    }

    /// Processes a file from beginning to end; `None` if cancelled. Calls `tick` at intervals. `timeout` is for each attempt to read
    /// a URL.
    pub fn process_file(
        &self,
        file: &str,
        gate: &MemoryGate,
        timeout: Option<Duration>,
        tick: impl Fn(),
    ) -> Option<Summary> {
        let started = Instant::now();
        let number = self.state.progress.lock().number + 1;
        *self.state.progress.lock() = FileProgress { number, file: file.to_owned(), ..FileProgress::default() };
        let mut pauses = RETRY_PAUSES.iter();
        let mut summary = loop {
            let attempt = self.attempt(file, gate, timeout, &tick)?;
            match pauses.next() {
                Some(pause) if attempt.may_pass && attempt.summary.keyframes == 0 => {
                    gst::info!(CAT, obj = self.decoder, "{file}: reading it again in {pause:?}");
                    self.pause(*pause)?;
                }
                _ => break attempt.summary,
            }
        };
        summary.seconds.total = started.elapsed().as_secs_f64();
        Some(summary)
    }

    /// Waits; `None` if cancelled.
    fn pause(&self, pause: Duration) -> Option<()> {
        let until = Instant::now() + pause;
        let mut report = self.state.file.lock();
        while !report.is_cancelled && !self.state.changed.wait_until(&mut report, until).timed_out() {}
        (!report.is_cancelled).then_some(())
    }

    /// Processes a file once.
    fn attempt(&self, file: &str, gate: &MemoryGate, timeout: Option<Duration>, tick: impl Fn()) -> Option<Attempt> {
        let started = Instant::now();
        let mut summary = Summary::new(file);
        // Opening a pipe without a writer would wait for ever.
        if let Err(error) = source::check_readable(file).and_then(|()| self.source.select(file, &self.decoder)) {
            summary.fail(&error);
            gate.release(self.index);
            return Some(Attempt { summary, may_pass: false });
        }
        self.state.restart(true);
        // Lines name the file as the summary does.
        self.encoder.set_property("file", file);
        // Clears what the last file left on the pad.
        let _ = self.pad.set_active(false);
        let _ = self.pad.set_active(true);
        let has_started = self.elements().into_iter().all(|element| element.set_state(gst::State::Playing).is_ok());
        let (is_cancelled, mut failure) = self.wait(has_started, timeout.map(|timeout| started + timeout), tick);
        if !has_started && failure.is_none() {
            let error = gst::glib::Error::new(gst::CoreError::StateChange, "the lane could not be started");
            failure = Some(Failure::new(&error, None).into());
        }
        summary.add_stats(&self.decoder, &self.detector);
        // A thread of the elements may be waiting for memory.
        gate.release(self.index);
        // This interrupts all other waits of the elements.
        if self.set_state(gst::State::Ready).is_err() {
            let _ = self.set_state(gst::State::Null);
            let _ = self.set_state(gst::State::Ready);
        }
        let report = self.state.restart(false);
        if is_cancelled {
            return None;
        }
        {
            let mut running = self.state.progress.lock();
            summary.set_counts(running.counts.keyframes, running.counts.between, running.counts.position());
            (running.detections, running.bytes_read) = (summary.detection_count, summary.bytes_read);
            running.has_ended = true;
        }
        summary.warnings = self.state.model_warnings.lock().clone();
        summary.warnings.extend(report.warnings);
        summary.warnings.truncate(MAX_WARNINGS);
        let may_pass = failure.as_ref().is_some_and(|failure| failure.may_pass);
        summary.end(failure.map(|failure| failure.failure));
        Some(Attempt { summary, may_pass })
    }

    /// Waits for the end of the file. Returns whether it was cancelled, and why it failed.
    fn wait(&self, has_started: bool, deadline: Option<Instant>, tick: impl Fn()) -> (bool, Option<LaneFailure>) {
        let mut report = self.state.file.lock();
        while has_started && !report.has_ended && !report.is_cancelled && report.failure.is_none() {
            let next = Instant::now() + TICK;
            let until = deadline.map_or(next, |deadline| deadline.min(next));
            if !self.state.changed.wait_until(&mut report, until).timed_out() || report.has_ended {
                continue;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let error = gst::glib::Error::new(gst::ResourceError::Busy, "it took longer than file-timeout");
                report.failure.get_or_insert_with(|| Failure::new(&error, None).into());
            } else {
                MutexGuard::unlocked(&mut report, &tick);
            }
        }
        (report.is_cancelled, report.failure.clone())
    }
}

/// Creates the pad after the encoder: it passes lines to the output and the end to the lane.
fn line_pad(index: usize, output: Arc<Output>, state: Arc<LaneState>) -> gst::Pad {
    let ended = Arc::clone(&state);
    gst::Pad::builder(gst::PadDirection::Sink)
        .name(format!("lines_{index}"))
        .chain_function(move |_pad, _parent, buffer| {
            let lines = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            match output.line(index, &lines) {
                Ok(()) => {
                    state.progress.lock().counts.add(&buffer);
                    Ok(gst::FlowSuccess::Ok)
                }
                Err(WriteError::Flushing) => Err(gst::FlowError::Flushing),
                Err(WriteError::Lost { error, lines }) => {
                    let failure = Failure::new(&error, None);
                    let mut report = state.file.lock();
                    report.failure.get_or_insert(failure.into());
                    drop(report);
                    state.progress.lock().counts = Counts { keyframes: lines, ..Counts::default() };
                    state.changed.notify_all();
                    Err(gst::FlowError::Error)
                }
            }
        })
        .event_function(move |_pad, _parent, event| {
            if event.type_() == gst::EventType::Eos {
                ended.file.lock().has_ended = true;
                ended.changed.notify_all();
            }
            true
        })
        .build()
}
