//! One lane: the four elements that files go through, one file after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use parking_lot::{Condvar, Mutex};

use super::output::{Output, Refused};
use super::run::Gate;
use super::summary::{Failure, Summary};

/// Texts of warnings that are kept for each file.
const MAX_WARNINGS: usize = 8;

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
    counts: Counts,
    warnings: Vec<String>,
    failure: Option<Failure>,
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
        let file: Option<String> = self.source.property("location");
        let absolute = file.as_deref().and_then(|file| std::path::absolute(file).ok());
        let real = file.as_deref().and_then(|file| std::fs::canonicalize(file).ok());
        for path in file.map(std::path::PathBuf::from).into_iter().chain(absolute).chain(real) {
            let prefix = format!("{}: ", path.display());
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

    /// Ends the file at hand without a summary.
    pub fn cancel(&self) {
        self.inbox.report.lock().is_cancelled = true;
        self.inbox.changed.notify_all();
    }

    /// Files can be read again after [`cancel`](Self::cancel).
    pub fn uncancel(&self) {
        self.inbox.report.lock().is_cancelled = false;
    }

    /// Reads a file from beginning to end; `None` if that was cancelled.
    pub fn play(&self, file: &str, gate: &Gate, timeout: Option<Duration>) -> Option<Summary> {
        let started = Instant::now();
        let mut summary = Summary::new(file);
        if let Err(error) = readable(file) {
            // Opening a pipe that nobody writes to would wait for ever.
            summary.fail(&error);
            gate.release(self.index);
            return Some(summary);
        }
        self.inbox.restart(true);
        self.source.set_property("location", file);
        // Lines name the file as the summary does.
        self.encoder.set_property("file", file);
        // What the last file left on the pad goes with it.
        let _ = self.pad.set_active(false);
        let _ = self.pad.set_active(true);
        let has_started = self.elements().into_iter().all(|element| element.set_state(gst::State::Playing).is_ok());
        let (is_cancelled, mut failure) = self.wait(has_started, timeout.map(|timeout| started + timeout));
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
        summary.set_counts(report.counts.keyframes, report.counts.between, report.counts.span);
        summary.warnings = self.inbox.of_model.lock().clone();
        summary.warnings.extend(report.warnings);
        summary.warnings.truncate(MAX_WARNINGS);
        summary.end(failure);
        summary.seconds.total = started.elapsed().as_secs_f64();
        Some(summary)
    }

    /// Waits for the end of the file: whether it was cancelled, and why it failed.
    fn wait(&self, has_started: bool, deadline: Option<Instant>) -> (bool, Option<Failure>) {
        let mut report = self.inbox.report.lock();
        while has_started && !report.has_ended && !report.is_cancelled && report.failure.is_none() {
            match deadline {
                Some(deadline) => {
                    if self.inbox.changed.wait_until(&mut report, deadline).timed_out() && !report.has_ended {
                        let error =
                            gst::glib::Error::new(gst::ResourceError::Busy, "it took longer than file-timeout allows");
                        report.failure.get_or_insert_with(|| Failure::new(&error, None));
                    }
                }
                None => self.inbox.changed.wait(&mut report),
            }
        }
        (report.is_cancelled, report.failure.clone())
    }
}

/// Whether there is a file of that name.
fn readable(file: &str) -> Result<(), gst::glib::Error> {
    let error = |kind: gst::ResourceError, text: &str| Err(gst::glib::Error::new(kind, text));
    match std::fs::metadata(file) {
        Ok(metadata) if metadata.is_file() => Ok(()),
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
                    inbox.report.lock().counts.add(&buffer);
                    Ok(gst::FlowSuccess::Ok)
                }
                Err(Refused::Flushing) => Err(gst::FlowError::Flushing),
                Err(Refused::Lost { error, lines }) => {
                    let failure = Failure::new(&error, None);
                    let mut report = inbox.report.lock();
                    report.failure.get_or_insert(failure);
                    report.counts = Counts { keyframes: lines, ..Counts::default() };
                    drop(report);
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
