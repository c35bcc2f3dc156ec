// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handle of a run: checks the settings, finds the files, opens output and cache, starts the run's thread, and passes on its
//! events. The caller's thread.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::cache::{Cache, RunCache};
use super::cancel::Canceller;
use super::conditions::Current;
use super::error::Error;
use super::event::{Event, Report};
use super::inputs::{self, Duplicate, FoundFiles, Search, Unreadable};
use super::journal::Done;
use super::output::OpenOutput;
use super::pictures::{self, Pictures};
use super::pipeline::{Delivery, init};
use super::plan::{self, Plan};
use super::resolved::Resolved;
use super::resume::{Comparison, compare};
use super::session::{Counters, Session};
use super::settings::{Existing, Output, Settings};
use super::tables::Format;
use crate::detect::ModelSource;

/// Events that wait for the caller beyond which the run waits, too.
const MAX_WAITING_EVENTS: usize = 1024;

/// A run: an iterator over its events. Dropping it stops the run and waits for its thread.
#[derive(Debug)]
pub struct Run {
    events: Option<Receiver<Event>>,
    thread: Option<JoinHandle<()>>,
    canceller: Canceller,
    overview: Overview,
    has_ended: bool,
}

/// What a run is about to do.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Overview {
    /// Files to read, or to find in the cache.
    pub files: Vec<String>,
    /// Inputs that are not files and cannot be read; each gets an [`Event::FileDone`].
    pub failures: Vec<Unreadable>,
    /// Other names of files that are read.
    pub duplicates: Vec<Duplicate>,
    /// Number of pictures in folders that were left out.
    pub pictures_left_out: usize,
    /// Remarks on the search.
    pub notes: Vec<String>,
    /// How the inputs and a resumed output with results compare.
    pub comparison: Option<Comparison>,
    /// Whether the model and settings of a resumed output are not known, because it has no header.
    pub lacks_header: bool,
    /// Folder of the saved pictures.
    pub pictures: Option<PathBuf>,
}

impl Run {
    /// Starts a run.
    ///
    /// # Errors
    /// A setting, an input, the output or the cache is not usable; GStreamer or the model is missing. No file has been read then, and
    /// no output was changed.
    pub fn start(mut settings: Settings) -> Result<Self, Error> {
        let (Resolved { mut properties, run, model, has_header }, mut found) = prepare(&settings)?;
        let canceller = settings.canceller.clone();
        let output = std::mem::take(&mut settings.output);
        let path = match &output {
            Output::File(path) => Some(path.as_path()),
            Output::None | Output::Writer(_) => None,
        };
        let format = match Format::select(settings.format.as_deref(), path)? {
            Format::Lines { .. } => Format::Lines { with_headers: has_header },
            table @ Format::Table(_) => table,
        };
        let pictures = pictures_of(&settings, format, path)?;
        let current = if path.is_some() || settings.cache.is_some() { Some(Current::new(&properties)?) } else { None };
        if path.is_none() && settings.existing == Existing::Resume {
            return Err(Error::setting("`resume` continues a file: set `output`"));
        }
        let (mut output, done) = canceller.open_output(|| {
            let (output, done) = match output {
                Output::None => (OpenOutput::None, Done::new()),
                Output::Writer(writer) => (OpenOutput::Writer { writer, format, is_first: true }, Done::new()),
                Output::File(path) => OpenOutput::open(&path, format, settings.existing, current.as_ref())?,
            };
            let new = output.new_file().map(Path::to_owned);
            Ok::<_, Error>(((output, done), new))
        })?;
        if let Some(pictures) = &pictures {
            pictures::prepare(&pictures.folder)?;
        }
        let resumption = compare(std::mem::take(&mut found.files), &done, settings.retry_failed);
        output.replace(resumption.replaced);
        let cache = match (&settings.cache, &current) {
            (Some(folder), Some(current)) if !resumption.left.is_empty() => {
                Some(RunCache::new(Cache::open(folder, &current.cache_key()?)?, &resumption.left))
            }
            _ => None,
        };
        let overview = Overview {
            files: resumption.left.clone(),
            failures: found.failures,
            duplicates: found.duplicates,
            pictures_left_out: found.pictures,
            notes: found.notes,
            comparison: (!done.is_empty()).then_some(resumption.comparison),
            lacks_header: output.lacks_header(),
            pictures: pictures.as_ref().map(|pictures| pictures.folder.clone()),
        };
        let is_streamed = !matches!(output, OpenOutput::File { .. })
            && matches!(format, Format::Lines { .. })
            && settings.isolate.is_none()
            && cache.is_none();
        let delivery = if is_streamed { Delivery::Lines } else { Delivery::Files };
        if delivery == Delivery::Files && !has_header {
            // Tables need the names of all classes; the output leaves these lines out again.
            properties.push(("encoder::header".to_owned(), "true".to_owned()));
        }
        let (sender, events) = bounded(MAX_WAITING_EVENTS);
        let counters = Counters::new(resumption.left.len() + overview.failures.len());
        let session =
            Session { settings, run, properties, model, output, cache, pictures, delivery, events: sender, counters };
        let (files, failures) = (resumption.left, overview.failures.clone());
        let thread = std::thread::Builder::new()
            .name("vxrun".to_owned())
            .spawn(move || session.run(files, &failures))
            .map_err(|error| Error::Failed { reason: format!("no thread could be started: {error}") })?;
        Ok(Self { events: Some(events), thread: Some(thread), canceller, overview, has_ended: false })
    }

    /// Finds the files of a run, and does nothing else.
    ///
    /// # Errors
    /// As those of [`start`](Self::start) that are about settings and inputs.
    pub fn find(settings: &Settings) -> Result<Overview, Error> {
        let (_, found) = prepare(settings)?;
        Ok(Overview {
            files: found.files,
            failures: found.failures,
            duplicates: found.duplicates,
            pictures_left_out: found.pictures,
            notes: found.notes,
            ..Overview::default()
        })
    }

    /// Plans a run: finds the files and loads the model, but reads and writes nothing.
    ///
    /// # Errors
    /// As those of [`start`](Self::start), except for output and cache.
    pub fn plan(settings: &Settings) -> Result<Plan, Error> {
        let (resolved, found) = prepare(settings)?;
        plan::plan(&resolved, settings.isolate.is_some(), found.files)
    }

    /// Returns what the run is about to do.
    #[must_use]
    pub fn overview(&self) -> &Overview {
        &self.overview
    }

    /// Returns a handle to cancel the run, from any thread.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Waits for the next event, at most for `timeout`; `None` if there is none by then, or after [`Event::End`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Event> {
        let events = self.events.as_ref().filter(|_| !self.has_ended)?;
        let event = match events.recv_timeout(timeout) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => ended_without_report(),
        };
        self.has_ended = matches!(event, Event::End(_));
        Some(event)
    }

    /// Waits for the end of the run, without its events.
    #[must_use]
    pub fn join(mut self) -> Report {
        self.find_map(|event| if let Event::End(report) = event { Some(*report) } else { None }).unwrap_or_default()
    }
}

impl Iterator for Run {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let events = self.events.as_ref().filter(|_| !self.has_ended)?;
        let event = events.recv().unwrap_or_else(|_| ended_without_report());
        self.has_ended = matches!(event, Event::End(_));
        Some(event)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.has_ended {
            self.canceller.stop();
        }
        // The run's thread must not wait for a receiver of events.
        self.events = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ended_without_report() -> Event {
    let error = Error::Failed { reason: "the thread of the run panicked, which is a bug of vx".to_owned() };
    Event::End(Box::new(Report { error: Some(error), ..Report::default() }))
}

/// Checks the settings as far as that changes nothing, and finds the files.
fn prepare(settings: &Settings) -> Result<(Resolved, FoundFiles), Error> {
    init()?;
    let resolved = Resolved::new(settings)?;
    let found = inputs::find(&settings.inputs, Search { probe: settings.probe, shard: settings.shard })?;
    if found.files.is_empty() && found.failures.is_empty() && settings.shard.is_none() {
        return Err(Error::NoFiles { pictures: found.pictures });
    }
    if let Some(model) = resolved.model.as_ref().filter(|path| !path.exists()) {
        // For its message.
        ModelSource::File(model.clone()).content_hash().map_err(|error| Error::Model { reason: error.to_string() })?;
    }
    Ok((resolved, found))
}

/// Returns the pictures to save: on request, or as part of the output.
fn pictures_of(settings: &Settings, format: Format, output: Option<&Path>) -> Result<Option<Pictures>, Error> {
    let within = match (format, output) {
        (Format::Table(table), Some(output)) => table.describe().pictures.map(|folder| output.join(folder)),
        _ => None,
    };
    let folder = match (within, &settings.save_frames) {
        (Some(within), Some(_)) => {
            let name = settings.format.as_deref().unwrap_or_default();
            return Err(Error::setting(format!(
                "`format` {name} saves frames in {}: leave `save_frames` out",
                within.display()
            )));
        }
        (within, asked) => within.or_else(|| asked.clone()),
    };
    match folder {
        Some(folder) => {
            Ok(Some(Pictures { folder, which: settings.which_frames.unwrap_or_default(), draw: settings.draw }))
        }
        None if settings.which_frames.is_some() => {
            Err(Error::setting("`which_frames` selects the keyframes to save: set `save_frames`"))
        }
        None => Ok(None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;
    use crate::run::settings::Input;

    #[test]
    fn the_run_waits_for_a_caller_that_reads_no_events() {
        const FILES: usize = MAX_WAITING_EVENTS + 100;
        // Each of these files is an event.
        let inputs = (0..FILES).map(|number| Input::Path(format!("/nowhere/{number}.mp4").into())).collect();
        let mut run = Run::start(Settings { inputs, ..Settings::default() }).unwrap();
        let events = run.events.clone().unwrap();
        while !events.is_full() {
            assert!(run.thread.as_ref().is_some_and(|thread| !thread.is_finished()));
            std::thread::yield_now();
        }
        drop(events);
        assert_eq!(run.by_ref().filter(|event| matches!(event, Event::FileDone(_))).count(), FILES);
        assert!(run.has_ended);
    }
}
