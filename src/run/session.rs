// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread of a run: waits for updates of the pipeline or of the supervisor, writes results, reports events, ends the run.
//!
//! It owns the output and the cache, and is the only sender of events.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::cache::RunCache;
use super::error::Error;
use super::event::{EngineReport, Event, FileDone, Progress, Report, Warning};
use super::file_record::FileRecord;
use super::inputs::Unreadable;
use super::output::OpenOutput;
use super::pictures::{self, Pictures};
use super::pipeline::{Delivery, Pipeline, Update};
use super::properties::Properties;
use super::resolved::{RUN_PROPERTIES, RunSettings};
use super::settings::{Order, Settings, WorkerProgram};
use super::workers::{ModelContent, Supervisor, SupervisorSettings, most_workers};
use crate::detect::ModelSource;
use crate::memory;
use crate::path::path_of;
use crate::record::{Frame, HeaderLine, Status, Summary};

/// Updates that wait for the run's thread beyond which the elements wait, too.
const MAX_WAITING_UPDATES: usize = 1024;

/// Progress is reported this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Returns whether a file is not empty.
fn is_filled(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

/// The state of the run's thread.
pub(super) struct Session {
    pub settings: Settings,
    pub run: RunSettings,
    pub properties: Properties,
    pub model: Option<PathBuf>,
    pub output: OpenOutput,
    pub cache: Option<RunCache>,
    pub pictures: Option<Pictures>,
    pub delivery: Delivery,
    pub events: Sender<Event>,
    pub counters: Counters,
}

/// What the thread counts and remembers.
#[derive(Default)]
pub(super) struct Counters {
    /// Files without a result.
    pub missing: usize,
    failed: usize,
    has_cache_warning: bool,
    /// The beginning of a line, where lines are delivered as they come.
    rest_of_line: Vec<u8>,
}

impl Counters {
    /// Creates it for so many files.
    pub fn new(missing: usize) -> Self {
        Self { missing, ..Self::default() }
    }
}

impl Session {
    /// Runs to the end, with `files` to read and `failures` to report.
    pub fn run(mut self, files: Vec<String>, failures: &[Unreadable]) {
        let mut report =
            self.read_all(files, failures).unwrap_or_else(|error| Report { error: Some(error), ..Report::default() });
        let canceller = self.settings.canceller.clone();
        canceller.end_reading();
        // A run that is cancelled when nothing is left to do is done.
        report.is_cancelled = canceller.is_cancelled() && self.counters.missing > 0;
        (report.missing, report.failed) = (self.counters.missing, self.counters.failed);
        if report.error.is_none() && !report.is_cancelled && self.counters.missing > 0 {
            let reason = format!("{} files were not read, which is a bug of vx", self.counters.missing);
            report.error = Some(Error::Failed { reason });
        }
        let Self { output, events, .. } = self;
        if report.error.is_none() && !report.is_cancelled {
            report.error = output.finish().err();
        } else {
            report.kept_in = output.kept_in().filter(|place| is_filled(place)).map(Path::to_owned);
            drop(output);
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
        let (sender, updates) = bounded(MAX_WAITING_UPDATES);
        let pipeline = Pipeline::new(&self.properties, &sender, self.delivery).map_err(Error::setting)?;
        if let Some(pictures) = &self.pictures {
            pictures::save_from(&pipeline.element(), pictures);
        }
        pipeline.load().map_err(|reason| Error::Model { reason })?;
        // `listen` reacts: calls of the element may wait for its threads.
        if !self.settings.canceller.begin_reading(move || drop(sender.try_send(Update::Wake))) {
            return Ok(Report::default());
        }
        pipeline.start(files).map_err(|reason| Error::Failed { reason })?;
        let error = self.listen(&updates, || pipeline.progress(), || pipeline.finish());
        if error.is_some() {
            pipeline.finish();
        }
        let engine = EngineReport::from_structure(&pipeline.stats());
        // The elements must not wait for a receiver of updates.
        drop(updates);
        Ok(Report { error, has_started: true, engine: Some(engine), ..Report::default() })
    }

    fn read_in_workers(&mut self, program: WorkerProgram, mut files: Vec<String>) -> Result<Report, Error> {
        let cores = num_cpus::get();
        let workers = most_workers(self.run.lanes, cores, files.len());
        let mut properties = self.properties.clone();
        // Each worker has its share of cores and memory; the supervisor handles what is about the run.
        properties.retain(|(name, _)| !RUN_PROPERTIES.contains(&name.as_str()));
        if self.run.order == Order::LargestFirst {
            files.sort_by_cached_key(|file| {
                std::cmp::Reverse(std::fs::metadata(path_of(file)).map_or(0, |file| file.len()))
            });
        }
        let source = self.model.clone().map_or(ModelSource::BuiltIn, ModelSource::File);
        let model = ModelContent::now(source).map_err(|reason| Error::Model { reason })?;
        let canceller = self.settings.canceller.clone();
        let settings = SupervisorSettings {
            program,
            properties,
            model,
            pictures: self.pictures.clone(),
            workers,
            cores,
            timeout: self.run.file_timeout,
            memory: memory::budget(self.run.memory_limit.unwrap_or(0)),
            canceller: canceller.clone(),
        };
        let (sender, updates) = bounded(MAX_WAITING_UPDATES);
        let supervisor = Supervisor::start(settings, files, &sender).map_err(|reason| Error::Failed { reason })?;
        drop(sender);
        let handle = supervisor.handle();
        let (at_request, request) = (handle.clone(), canceller.clone());
        let has_begun =
            canceller.begin_reading(move || if request.is_stopped() { at_request.stop() } else { at_request.finish() });
        if !has_begun {
            handle.finish();
        }
        let error = self.listen(&updates, || handle.progress(), || handle.finish());
        handle.finish();
        drop(updates);
        if error.is_some() || canceller.is_stopped() {
            // The results of the files that are being read are not needed.
            handle.stop();
        }
        let workers = supervisor.join();
        Ok(Report { error, has_started: has_begun, workers: Some(workers), ..Report::default() })
    }

    /// Handles updates up to the last one, or until the run is stopped, and reports progress; returns why the run failed.
    fn listen(
        &mut self,
        updates: &Receiver<Update>,
        progress: impl Fn() -> Vec<Progress>,
        finish: impl Fn(),
    ) -> Option<Error> {
        let canceller = self.settings.canceller.clone();
        let mut failure = None;
        let mut is_finishing = false;
        let mut reported = Instant::now();
        loop {
            let update = match updates.recv_timeout(PROGRESS_INTERVAL) {
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
                // The elements finish the files that are being read.
                Some(Update::Error(reason)) => {
                    failure.get_or_insert(Error::Failed { reason });
                }
                Some(Update::Stopped(reason)) => {
                    failure.get_or_insert(Error::Stopped { reason });
                }
                Some(Update::Done(record)) => {
                    if self.run.stop_on_error
                        && failure.is_none()
                        && let Some(error) = &record.summary.error
                    {
                        // Workers do not stop by themselves.
                        finish();
                        let reason = format!("{}: {}", record.summary.file, error.message);
                        failure = Some(Error::Stopped { reason });
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
                Some(Update::Started(file)) => self.report(Event::FileStarted(file)),
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
        self.counters.rest_of_line.extend_from_slice(lines);
        let Some(end) = memchr::memrchr(b'\n', &self.counters.rest_of_line) else { return };
        let rest = self.counters.rest_of_line.split_off(end + 1);
        let complete = std::mem::replace(&mut self.counters.rest_of_line, rest);
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
        self.counters.missing = self.counters.missing.saturating_sub(1);
        self.counters.failed += usize::from(summary.status == Status::Failed);
        self.report(Event::FileDone(Box::new(FileDone { summary, is_cached })));
    }

    /// Warns about the cache, once.
    fn warn_of_cache(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.counters.has_cache_warning, true) {
            self.report(Event::Warning(Warning::new(format!("{reason} (reported once)"))));
        }
    }

    /// Sends an event; a caller that has dropped the run has stopped it.
    fn report(&self, event: Event) {
        let _ = self.events.send(event);
    }
}
