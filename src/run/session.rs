//! A run from its settings to its report: prepares it on the caller's thread, conducts it on a thread of its own.
//!
//! The run's thread owns the output and the cache, and is the only sender of events. It waits for updates of the pipeline or of the
//! supervisor, which it also ends.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::cache::{Cache, RunCache};
use super::cancel::Canceller;
use super::conditions::Current;
use super::error::Error;
use super::event::{EngineReport, Event, FileDone, Progress, Report, Warning};
use super::file_record::FileRecord;
use super::inputs::{self, Duplicate, Found, Search, Unreadable};
use super::journal::Done;
use super::output::OpenOutput;
use super::pictures::{self, Pictures};
use super::pipeline::{Delivery, Pipeline, Update, init};
use super::plan::{self, Plan};
use super::properties::{self, Properties, model_of};
use super::resume::{Comparison, compare};
use super::settings::{Existing, Order, Output, Settings, WorkerProgram};
use super::tables::Format;
use super::workers::{Supervisor, SupervisorSettings};
use crate::detect::ModelSource;
use crate::memory;
use crate::path::path_of;
use crate::record::{Frame, HeaderLine, Status, Summary};

/// Events that wait for the caller beyond which the run waits, too.
const MAX_WAITING_EVENTS: usize = 1024;

/// Updates that wait for the run's thread beyond which the elements wait, too.
const MAX_WAITING_UPDATES: usize = 1024;

/// Progress is reported this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

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
        let (mut properties, mut found) = prepare(&settings)?;
        let canceller = settings.canceller.clone();
        let output = std::mem::take(&mut settings.output);
        let path = match &output {
            Output::File(path) => Some(path.as_path()),
            Output::None | Output::Writer(_) => None,
        };
        let format = match Format::select(settings.format.as_deref(), path)? {
            Format::Lines { .. } => Format::Lines { with_headers: has_header_setting(&properties) },
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
        if delivery == Delivery::Files && !has_header_setting(&properties) {
            // Tables need the names of all classes; the output leaves these lines out again.
            properties.push((HEADER.to_owned(), "true".to_owned()));
        }
        let (sender, events) = bounded(MAX_WAITING_EVENTS);
        let session = Session {
            properties,
            output,
            cache,
            pictures,
            delivery,
            events: sender,
            missing: resumption.left.len() + overview.failures.len(),
            failed: 0,
            has_cache_warning: false,
            rest_of_line: Vec::new(),
            settings,
        };
        let (files, failures) = (resumption.left, overview.failures.clone());
        let thread = std::thread::Builder::new()
            .name("vxrun".to_owned())
            .spawn(move || session.run(files, &failures))
            .map_err(|error| Error::Failed { reason: format!("no thread could be started: {error}") })?;
        Ok(Self { events: Some(events), thread: Some(thread), canceller, overview, has_ended: false })
    }

    /// Plans a run: finds the files and loads the model, but reads and writes nothing.
    ///
    /// # Errors
    /// As those of [`start`](Self::start), except for output and cache.
    pub fn plan(settings: &Settings) -> Result<Plan, Error> {
        let (properties, found) = prepare(settings)?;
        plan::plan(&properties, found.files)
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
fn prepare(settings: &Settings) -> Result<(Properties, Found), Error> {
    init()?;
    let mut properties = settings.to_properties();
    properties::resolve(&mut properties).map_err(Error::setting)?;
    let found = inputs::find(&settings.inputs, Search { probe: settings.probe, shard: settings.shard })?;
    if found.files.is_empty() && found.failures.is_empty() && settings.shard.is_none() {
        return Err(Error::NoFiles { pictures: found.pictures });
    }
    if let Some(model) = model_of(&properties).filter(|path| !path.exists()) {
        // For its message.
        ModelSource::File(model.to_owned())
            .content_hash()
            .map_err(|error| Error::Model { reason: error.to_string() })?;
    }
    Ok((properties, found))
}

/// The property for a header line before a file's first line.
const HEADER: &str = "encoder::header";

fn has_header_setting(properties: &Properties) -> bool {
    properties.iter().any(|(name, _)| name == HEADER)
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

/// Returns whether a file is not empty.
fn is_filled(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

/// Returns the specific error among the updates.
fn error_in(updates: &Receiver<Update>) -> Option<String> {
    updates.try_iter().find_map(|update| if let Update::Error(text) = update { Some(text) } else { None })
}

/// The state of the run's thread.
struct Session {
    settings: Settings,
    properties: Properties,
    output: OpenOutput,
    cache: Option<RunCache>,
    pictures: Option<Pictures>,
    delivery: Delivery,
    events: Sender<Event>,
    /// Files without a result.
    missing: usize,
    failed: usize,
    has_cache_warning: bool,
    /// The beginning of a line, where lines are delivered as they come.
    rest_of_line: Vec<u8>,
}

impl Session {
    fn run(mut self, files: Vec<String>, failures: &[Unreadable]) {
        let mut report =
            self.read_all(files, failures).unwrap_or_else(|error| Report { error: Some(error), ..Report::default() });
        let canceller = self.settings.canceller.clone();
        canceller.end_reading();
        // A run that is cancelled when nothing is left to do is done.
        report.is_cancelled = canceller.is_cancelled() && self.missing > 0;
        (report.missing, report.failed) = (self.missing, self.failed);
        if report.error.is_none() && !report.is_cancelled && self.missing > 0 {
            let reason = format!("{} files were not read, which is a bug of vx", self.missing);
            report.error = Some(Error::Failed { reason });
        }
        let Self { output, events, settings, .. } = self;
        if report.error.is_none() && !report.is_cancelled {
            report.error = output.finish().err();
        } else {
            report.kept_in = output.kept_in().filter(|place| is_filled(place)).map(Path::to_owned);
            drop(output);
        }
        if let Some(Error::Failed { reason }) = &report.error
            && settings.stop_on_error
            && report.failed > 0
        {
            report.error = Some(Error::Stopped { reason: reason.clone() });
        }
        let _ = events.send(Event::End(Box::new(report)));
    }

    /// Reports files from the cache and reads the others.
    fn read_all(&mut self, files: Vec<String>, failures: &[Unreadable]) -> Result<Report, Error> {
        for Unreadable { name, reason } in failures {
            let mut summary = Summary::new(name);
            summary.bytes = None;
            summary.fail(&gst::glib::Error::new(gst::ResourceError::OpenRead, reason));
            self.file_done(summary, false);
        }
        let files = self.take_from_cache(files)?;
        if files.is_empty() {
            return Ok(Report { has_started: true, ..Report::default() });
        }
        match self.settings.isolate.clone() {
            Some(program) => self.read_in_workers(program, files),
            None => self.read_in_process(&files),
        }
    }

    /// Reports files that are in the cache; returns the others.
    fn take_from_cache(&mut self, files: Vec<String>) -> Result<Vec<String>, Error> {
        // The cache has no pictures.
        if self.pictures.is_some() {
            return Ok(files);
        }
        let Some(cache) = self.cache.take() else { return Ok(files) };
        let mut left = Vec::new();
        for file in files {
            match cache.get(&file) {
                Ok(Some(record)) if !self.settings.canceller.is_cancelled() => {
                    self.output.add(&record)?;
                    self.report_frames(&record);
                    self.file_done(record.summary, true);
                }
                Ok(_) => left.push(file),
                Err(reason) => {
                    self.warn_of_cache(&reason);
                    left.push(file);
                }
            }
        }
        self.cache = Some(cache);
        Ok(left)
    }

    fn read_in_process(&mut self, files: &[String]) -> Result<Report, Error> {
        let (updates, happened) = bounded(MAX_WAITING_UPDATES);
        let pipeline = Pipeline::new(&self.properties, &updates, self.delivery).map_err(Error::setting)?;
        if let Some(pictures) = &self.pictures {
            pictures::save_from(&pipeline.element(), pictures);
        }
        pipeline.load().map_err(|general| Error::Model { reason: error_in(&happened).unwrap_or(general) })?;
        // `listen` reacts: calls of the element may wait for its threads.
        if !self.settings.canceller.begin_reading(move || drop(updates.try_send(Update::Wake))) {
            return Ok(Report::default());
        }
        pipeline.start(files).map_err(|general| Error::Failed { reason: error_in(&happened).unwrap_or(general) })?;
        let error = self.listen(&happened, || pipeline.progress(), || pipeline.finish());
        if error.is_some() {
            pipeline.finish();
        }
        let engine = EngineReport::from_structure(&pipeline.stats());
        // The elements must not wait for a receiver of updates.
        drop(happened);
        Ok(Report { error, has_started: true, engine: Some(engine), ..Report::default() })
    }

    fn read_in_workers(&mut self, program: WorkerProgram, mut files: Vec<String>) -> Result<Report, Error> {
        let cores = num_cpus::get();
        let mut properties = self.properties.clone();
        let lanes = properties.iter().rfind(|(name, _)| name == "lanes").and_then(|(_, lanes)| lanes.parse().ok());
        let workers = lanes.filter(|lanes| *lanes > 0).unwrap_or(cores).clamp(1, 64).min(files.len());
        // Each worker has its share of cores and memory; the supervisor handles what is about the run.
        properties.retain(|(name, _)| !["lanes", "memory-limit", "on-error", "file-timeout"].contains(&name.as_str()));
        if self.settings.order == Order::LargestFirst {
            files.sort_by_cached_key(|file| {
                std::cmp::Reverse(std::fs::metadata(path_of(file)).map_or(0, |file| file.len()))
            });
        }
        let canceller = self.settings.canceller.clone();
        let settings = SupervisorSettings {
            program,
            properties,
            pictures: self.pictures.clone(),
            workers,
            cores,
            timeout: self.settings.file_timeout,
            memory: memory::budget(self.settings.memory_limit.unwrap_or(0)),
            canceller: canceller.clone(),
        };
        let (updates, happened) = bounded(MAX_WAITING_UPDATES);
        let supervisor = Supervisor::start(settings, files, &updates).map_err(|reason| Error::Failed { reason })?;
        drop(updates);
        let handle = supervisor.handle();
        let (at_request, request) = (handle.clone(), canceller.clone());
        let has_begun =
            canceller.begin_reading(move || if request.is_stopped() { at_request.stop() } else { at_request.finish() });
        if !has_begun {
            handle.finish();
        }
        let error = self.listen(&happened, || handle.progress(), || handle.finish());
        handle.finish();
        drop(happened);
        if error.is_some() || canceller.is_stopped() {
            // The results of the files that have begun are not needed.
            handle.stop();
        }
        let workers = supervisor.join();
        Ok(Report { error, has_started: has_begun, workers: Some(workers), ..Report::default() })
    }

    /// Handles updates up to the last one, or until the run is stopped, and reports progress; returns why the run failed.
    fn listen(
        &mut self,
        happened: &Receiver<Update>,
        progress: impl Fn() -> Vec<Progress>,
        finish: impl Fn(),
    ) -> Option<Error> {
        let canceller = self.settings.canceller.clone();
        let stops_by_itself = self.settings.stop_on_error && self.settings.isolate.is_some();
        let mut failure = None;
        let mut is_finishing = false;
        let mut reported = Instant::now();
        loop {
            let update = match happened.recv_timeout(PROGRESS_INTERVAL) {
                Ok(update) => Some(update),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return failure,
            };
            if canceller.is_cancelled() && !std::mem::replace(&mut is_finishing, true) {
                finish();
            }
            if canceller.is_stopped() {
                return failure;
            }
            if reported.elapsed() >= PROGRESS_INTERVAL {
                reported = Instant::now();
                // Progress is dropped if the caller is slow.
                let _ = self.events.try_send(Event::Progress(progress()));
            }
            match update {
                None | Some(Update::Wake) => {}
                Some(Update::End) => return failure,
                // The elements finish the files that have begun.
                Some(Update::Error(reason)) => {
                    failure.get_or_insert(Error::Failed { reason });
                }
                Some(Update::Done(record)) => {
                    if stops_by_itself && let Some(error) = &record.summary.error {
                        finish();
                        let reason = format!("{}: {}", record.summary.file, error.message);
                        failure.get_or_insert(Error::Failed { reason });
                    }
                    if let Err(error) = self.record_done(*record) {
                        return Some(failure.unwrap_or(error));
                    }
                }
                Some(Update::Lines(lines)) => {
                    if let Err(error) = self.output.write_lines(&lines) {
                        return Some(failure.unwrap_or(error));
                    }
                    self.report_lines(&lines);
                }
                Some(Update::Begun(file)) => self.report(Event::Begun(file)),
                Some(Update::Warning(warning)) => self.report(Event::Warning(warning)),
            }
        }
    }

    /// Writes and reports the results of a file.
    fn record_done(&mut self, record: FileRecord) -> Result<(), Error> {
        if self.delivery == Delivery::Files {
            self.output.add(&record)?;
            self.report_frames(&record);
        }
        if let Some(cache) = self.cache.as_ref().filter(|_| record.summary.error.is_none())
            && let Err(reason) = cache.put(&record)
        {
            self.warn_of_cache(&reason);
        }
        self.file_done(record.summary, false);
        Ok(())
    }

    fn report_frames(&self, record: &FileRecord) {
        if !self.settings.frame_events {
            return;
        }
        for frame in record.frames() {
            self.report(match frame {
                Ok((_, frame)) => Event::Frame(Box::new(frame)),
                Err(reason) => Event::Warning(Warning::new(reason)),
            });
        }
    }

    /// Reports the frames in lines as they come.
    fn report_lines(&mut self, lines: &[u8]) {
        if !self.settings.frame_events {
            return;
        }
        self.rest_of_line.extend_from_slice(lines);
        let Some(end) = memchr::memrchr(b'\n', &self.rest_of_line) else { return };
        let rest = self.rest_of_line.split_off(end + 1);
        let complete = std::mem::replace(&mut self.rest_of_line, rest);
        for line in complete.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if !HeaderLine::is_in(line)
                && Summary::from_line(line).is_none()
                && let Ok(frame) = Frame::from_line(line)
            {
                self.report(Event::Frame(Box::new(frame)));
            }
        }
    }

    fn file_done(&mut self, summary: Summary, is_cached: bool) {
        self.missing = self.missing.saturating_sub(1);
        self.failed += usize::from(summary.status == Status::Failed);
        self.report(Event::FileDone(Box::new(FileDone { summary, is_cached })));
    }

    /// Warns about the cache, once.
    fn warn_of_cache(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.has_cache_warning, true) {
            self.report(Event::Warning(Warning::new(format!("{reason} (reported once)"))));
        }
    }

    /// Sends an event; a caller that has dropped the run has stopped it.
    fn report(&self, event: Event) {
        let _ = self.events.send(event);
    }
}
