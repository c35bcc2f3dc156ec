//! One lane: the four elements that files go through, one file after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::output::{Output, Refused};
use super::run::Gate;
use crate::path::{name_of, path_of};
use crate::record::{Failure, Summary};

/// Texts of warnings that are kept for each file.
const MAX_WARNINGS: usize = 8;

/// How often progress is reported while a file is read.
const TICK: Duration = Duration::from_secs(1);

/// The elements of a lane, and what they report.
#[derive(Clone)]
pub(super) struct Lane {
    pub index: usize,
    pub source: gst::Element,
    pub decoder: gst::Element,
    pub detector: gst::Element,
    pub encoder: gst::Element,
    /// Takes the lines.
    pad: gst::Pad,
    inbox: Arc<Inbox>,
}

/// What has come of the file at hand.
#[derive(Default)]
struct Inbox {
    report: Mutex<Report>,
    /// How far it is; stays until the next file begins.
    running: Mutex<Running>,
    /// What is to be known of the model: it concerns every file.
    of_model: Mutex<Vec<String>>,
    changed: Condvar,
}

#[derive(Default)]
struct Report {
    /// A file is being read.
    is_running: bool,
    has_ended: bool,
    is_cancelled: bool,
    warnings: Vec<String>,
    failure: Option<Failure>,
}

/// How far a lane is with its file.
#[derive(Debug, Clone, Default)]
pub(super) struct Running {
    /// Counts the files of the lane, from 1.
    pub number: u64,
    pub file: String,
    pub counts: Counts,
    pub detections: u64,
    pub bytes_read: u64,
    /// Nanoseconds, where the container says it.
    pub duration: Option<u64>,
    has_ended: bool,
}

impl Running {
    /// Share of the file that has lines, 0 to 1, by time; `None` where the container does not say how long it is.
    pub fn share(&self) -> Option<f64> {
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

/// Lines of a file so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub keyframes: u64,
    pub between: u64,
    /// The earliest and the latest time of a frame.
    span: Option<(gst::ClockTime, gst::ClockTime)>,
}

impl Counts {
    /// Time from the first frame to the last.
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

impl Inbox {
    /// Empties it, whether or not a file is going to be read; what was in it. A cancellation stays.
    fn restart(&self, is_running: bool) -> Report {
        let mut report = self.report.lock();
        let is_cancelled = report.is_cancelled;
        std::mem::replace(&mut *report, Report { is_running, is_cancelled, ..Report::default() })
    }
}

impl Lane {
    /// Makes the elements, not yet in a bin.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn new(index: usize, output: &Arc<Output>) -> Result<Self, gst::glib::BoolError> {
        let make = |factory: &str, name: &str| {
            let name = if index == 0 { name.to_owned() } else { format!("{name}-{index}") };
            gst::ElementFactory::make(factory).name(name).build()
        };
        let inbox = Arc::<Inbox>::default();
        let lane = Self {
            index,
            source: make("filesrc", "source")?,
            decoder: make("vxkeyframedec", "decoder")?,
            detector: make("vxyolodetect", "detector")?,
            encoder: make("vxjsonenc", "encoder")?,
            pad: line_pad(index, Arc::clone(output), Arc::clone(&inbox)),
            inbox,
        };
        // Their states are this lane's business, not the bin's.
        lane.elements().into_iter().for_each(|element| {
            element.set_locked_state(true);
        });
        Ok(lane)
    }

    /// From the last to the first.
    pub fn elements(&self) -> [&gst::Element; 4] {
        [&self.encoder, &self.detector, &self.decoder, &self.source]
    }

    /// Links the elements, which must be in a bin by now.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn link(&self) -> Result<(), gst::glib::BoolError> {
        gst::Element::link_many([&self.source, &self.decoder, &self.detector, &self.encoder])?;
        let lines = self.encoder.static_pad("src").ok_or_else(|| gst::glib::bool_error!("vxjsonenc has no pad src"))?;
        lines.link(&self.pad).map(|_| ()).map_err(|error| gst::glib::bool_error!("the lane cannot be linked: {error}"))
    }

    /// Whether `source` is one of its elements, or inside one.
    pub fn holds(&self, source: &gst::Object) -> bool {
        self.elements().into_iter().any(|element| source == element || source.has_as_ancestor(element))
    }

    /// Brings the elements to a state below PAUSED.
    ///
    /// # Errors
    /// When one of them does not get there; it has said why on the bus.
    pub fn rest(&self, state: gst::State) -> Result<(), gst::StateChangeError> {
        self.elements().into_iter().try_for_each(|element| element.set_state(state).map(|_| ()))
    }

    /// Brings the elements to READY.
    ///
    /// # Errors
    /// Why one of them does not get there; it is not told on the bus.
    pub fn come_up(&self) -> Result<(), Failure> {
        self.inbox.restart(true);
        let has_come = self.rest(gst::State::Ready).is_ok();
        let report = self.inbox.restart(false);
        if has_come {
            return Ok(());
        }
        let error =
            || gst::glib::Error::new(gst::CoreError::StateChange, "an element did not reach READY and gave no reason");
        Err(report.failure.unwrap_or_else(|| Failure::new(&error(), None)))
    }

    /// What an error message of one of its elements says.
    pub fn failure(&self, message: &gst::message::Error) -> Failure {
        // The first line is a place in the source and the element's name, which differs with the lane.
        let debug = message.debug();
        let debug = debug.as_deref().and_then(|debug| debug.split_once('\n')).map(|(_, rest)| rest);
        let mut failure = Failure::new(&message.error(), debug);
        // filesrc says what it means only there: "No such file \"a.mp4\"".
        if message.src().is_some_and(|source| source == &self.source)
            && let Some(reason) = debug
        {
            failure.message = reason.to_owned();
        }
        // Elements begin with the file's path, which stands beside the message anyway.
        let file: Option<PathBuf> = self.source.property("location");
        let absolute = file.as_deref().and_then(|file| std::path::absolute(file).ok());
        let real = file.as_deref().and_then(|file| std::fs::canonicalize(file).ok());
        for path in file.into_iter().chain(absolute).chain(real) {
            let prefix = format!("{}: ", name_of(&path));
            if let Some(rest) = failure.message.strip_prefix(&prefix) {
                failure.message = rest.to_owned();
            }
        }
        failure
    }

    /// Takes an error of one of its elements; false if no file is being read, so that it is not a file's.
    pub fn fail(&self, failure: Failure) -> bool {
        let mut report = self.inbox.report.lock();
        if report.is_running && report.failure.is_none() {
            report.failure = Some(failure);
            self.inbox.changed.notify_all();
        }
        report.is_running
    }

    /// Takes a warning of one of its elements.
    pub fn warn(&self, text: String) {
        let mut report = self.inbox.report.lock();
        if report.warnings.len() < MAX_WARNINGS {
            report.warnings.push(text);
        }
    }

    /// Takes a warning about the model, for this file and those that follow.
    pub fn warn_of_model(&self, text: &str) {
        let mut of_model = self.inbox.of_model.lock();
        if of_model.len() < MAX_WARNINGS && !of_model.iter().any(|known| known == text) {
            of_model.push(text.to_owned());
        }
    }

    /// Another model may be loaded.
    pub fn forget_model(&self) {
        self.inbox.of_model.lock().clear();
    }

    /// How far it is with its file, or the last one.
    pub fn running(&self) -> Running {
        let mut running = self.inbox.running.lock().clone();
        if !running.has_ended && running.number > 0 {
            let decoder: gst::Structure = self.decoder.property("stats");
            let detector: gst::Structure = self.detector.property("stats");
            running.detections = detector.get("detections").unwrap_or(0);
            running.bytes_read = decoder.get("bytes-read").unwrap_or(0);
            running.duration = decoder.get("duration").ok();
        }
        running
    }

    /// Ends the file at hand without a summary.
    pub fn cancel(&self) {
        self.inbox.report.lock().is_cancelled = true;
        self.inbox.changed.notify_all();
    }

    /// Files can be read again after [`cancel`](Self::cancel).
    pub fn uncancel(&self) {
        self.inbox.report.lock().is_cancelled = false;
    }

    /// Reads a file from beginning to end; `None` if that was cancelled. Calls `tick` now and then meanwhile.
    pub fn play(&self, file: &str, gate: &Gate, timeout: Option<Duration>, tick: impl Fn()) -> Option<Summary> {
        let started = Instant::now();
        let mut summary = Summary::new(file);
        let number = self.inbox.running.lock().number + 1;
        *self.inbox.running.lock() = Running { number, file: file.to_owned(), ..Running::default() };
        if let Err(error) = readable(file) {
            // Opening a pipe that nobody writes to would wait for ever.
            summary.fail(&error);
            gate.release(self.index);
            return Some(summary);
        }
        self.inbox.restart(true);
        self.source.set_property("location", &*path_of(file));
        // Lines name the file as the summary does.
        self.encoder.set_property("file", file);
        // What the last file left on the pad goes with it.
        let _ = self.pad.set_active(false);
        let _ = self.pad.set_active(true);
        let has_started = self.elements().into_iter().all(|element| element.set_state(gst::State::Playing).is_ok());
        let (is_cancelled, mut failure) = self.wait(has_started, timeout.map(|timeout| started + timeout), tick);
        if !has_started && failure.is_none() {
            let error = gst::glib::Error::new(gst::CoreError::StateChange, "it could not be started");
            failure = Some(Failure::new(&error, None));
        }
        summary.add_stats(&self.decoder, &self.detector);
        // A thread of the elements may be waiting for memory.
        gate.release(self.index);
        // The elements' other waits are ended by this, whatever they wait for.
        if self.rest(gst::State::Ready).is_err() {
            let _ = self.rest(gst::State::Null);
            let _ = self.rest(gst::State::Ready);
        }
        let report = self.inbox.restart(false);
        if is_cancelled {
            return None;
        }
        {
            let mut running = self.inbox.running.lock();
            summary.set_counts(running.counts.keyframes, running.counts.between, running.counts.position());
            (running.detections, running.bytes_read) = (summary.detection_count, summary.bytes_read);
            running.has_ended = true;
        }
        summary.warnings = self.inbox.of_model.lock().clone();
        summary.warnings.extend(report.warnings);
        summary.warnings.truncate(MAX_WARNINGS);
        summary.end(failure);
        summary.seconds.total = started.elapsed().as_secs_f64();
        Some(summary)
    }

    /// Waits for the end of the file: whether it was cancelled, and why it failed.
    fn wait(&self, has_started: bool, deadline: Option<Instant>, tick: impl Fn()) -> (bool, Option<Failure>) {
        let mut report = self.inbox.report.lock();
        while has_started && !report.has_ended && !report.is_cancelled && report.failure.is_none() {
            let next = Instant::now() + TICK;
            let until = deadline.map_or(next, |deadline| deadline.min(next));
            if !self.inbox.changed.wait_until(&mut report, until).timed_out() || report.has_ended {
                continue;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let error = gst::glib::Error::new(gst::ResourceError::Busy, "it took longer than file-timeout allows");
                report.failure.get_or_insert_with(|| Failure::new(&error, None));
            } else {
                MutexGuard::unlocked(&mut report, &tick);
            }
        }
        (report.is_cancelled, report.failure.clone())
    }
}

/// Whether there is a file of that name.
fn readable(file: &str) -> Result<(), gst::glib::Error> {
    let error = |kind: gst::ResourceError, text: &str| Err(gst::glib::Error::new(kind, text));
    let path = path_of(file);
    match std::fs::metadata(&path) {
        // filesrc would say so with the name as raw bytes.
        Ok(metadata) if metadata.is_file() => match std::fs::File::open(&path) {
            Ok(_) => Ok(()),
            Err(denied) if denied.kind() == std::io::ErrorKind::PermissionDenied => {
                error(gst::ResourceError::NotAuthorized, "this user may not read it; check its permissions")
            }
            Err(other) => error(gst::ResourceError::OpenRead, &format!("it cannot be opened: {other}")),
        },
        Ok(metadata) if metadata.is_dir() => error(gst::ResourceError::OpenRead, "it is a folder, not a file"),
        Ok(_) => error(
            gst::ResourceError::OpenRead,
            "it is no regular file but a pipe, a socket or a device; copy what comes out of it to a file",
        ),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {
            error(gst::ResourceError::NotFound, "No such file; check the path")
        }
        Err(other) => error(gst::ResourceError::OpenRead, &format!("it cannot be looked at: {other}")),
    }
}

/// The pad after the encoder: lines go to the output, the end into the inbox.
fn line_pad(index: usize, output: Arc<Output>, inbox: Arc<Inbox>) -> gst::Pad {
    let ended = Arc::clone(&inbox);
    gst::Pad::builder(gst::PadDirection::Sink)
        .name(format!("lines_{index}"))
        .chain_function(move |_pad, _parent, buffer| {
            let lines = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            match output.line(index, &lines) {
                Ok(()) => {
                    inbox.running.lock().counts.add(&buffer);
                    Ok(gst::FlowSuccess::Ok)
                }
                Err(Refused::Flushing) => Err(gst::FlowError::Flushing),
                Err(Refused::Lost { error, lines }) => {
                    let failure = Failure::new(&error, None);
                    let mut report = inbox.report.lock();
                    report.failure.get_or_insert(failure);
                    drop(report);
                    inbox.running.lock().counts = Counts { keyframes: lines, ..Counts::default() };
                    inbox.changed.notify_all();
                    Err(gst::FlowError::Error)
                }
            }
        })
        .event_function(move |_pad, _parent, event| {
            if event.type_() == gst::EventType::Eos {
                ended.report.lock().has_ended = true;
                ended.changed.notify_all();
            }
            true
        })
        .build()
}
