// SPDX-License-Identifier: MIT OR Apache-2.0
//! The supervisor: hands out files to worker processes and replaces workers that are lost, with a thread for each worker.
//!
//! A file gets a summary if it was read, or if its worker was lost while reading it. A file that no worker has begun gets none, so that
//! a resumed run reads it. Knows no output.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::super::cancel::Canceller;
use super::super::event::{Progress, Warning, WorkerReport};
use super::super::file_record::{Assembler, FileRecord, MAX_RESULT_LEN};
use super::super::pictures::Pictures;
use super::super::pipeline::Update;
use super::super::properties::Properties;
use super::super::settings::WorkerProgram;
use super::pool::{Pool, Usage};
use super::process::{Received, WorkerProcess};
use super::protocol::{Message, WorkerSettings};
use crate::detect::ModelSource;
use crate::elements::bulkbin::MIN_LOAD_TIMEOUT;
use crate::record::{Failure, Summary};

/// Longest time from the start of a worker to its first message, before it loads the model.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time for a model to load without a timeout for files: TensorRT may take tens of minutes to build an engine.
const LOAD_TIMEOUT: Duration = Duration::from_secs(3600);

/// A thread that waits to be needed checks this often whether the run ends.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How workers are run.
pub struct SupervisorSettings {
    /// The program of a worker.
    pub program: WorkerProgram,
    /// Properties of the run, without those that are about all workers together.
    pub properties: Properties,
    /// The model's content when the run begins; workers that are started later load the file again.
    pub model: ModelContent,
    /// Pictures that workers save.
    pub pictures: Option<Pictures>,
    /// Most workers.
    pub workers: usize,
    /// Cores for all workers.
    pub cores: usize,
    /// Longest time for a file.
    pub timeout: Option<Duration>,
    /// Bytes of memory for all workers.
    pub memory: Option<u64>,
    /// After cancellation no worker is started.
    pub canceller: Canceller,
}

/// A model, and a hash of its content at some time.
pub struct ModelContent {
    source: ModelSource,
    hash: String,
}

impl ModelContent {
    /// Reads the model.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn now(source: ModelSource) -> Result<Self, String> {
        let hash = source.content_hash().map_err(|error| error.to_string())?;
        Ok(Self { source, hash })
    }

    /// Checks that the model still has this content.
    ///
    /// # Errors
    /// It has another, or cannot be read.
    fn check(&self) -> Result<(), String> {
        if self.source.content_hash().map_err(|error| error.to_string())? == self.hash {
            return Ok(());
        }
        let ModelSource::File(path) = &self.source else { return Ok(()) };
        Err(format!(
            "the model {} was replaced during the run; results of two models do not belong in one output. Put the model back and \
             continue with `resume`, or detect all files with the new one",
            path.display()
        ))
    }
}

/// See the module.
pub struct Supervisor {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    settings: SupervisorSettings,
    files: Mutex<VecDeque<String>>,
    /// How far the files are that are being read, by worker.
    progress: Mutex<BTreeMap<usize, Progress>>,
    pool: Pool,
    usage: Arc<Usage>,
    /// Workers are killed.
    is_stopped: AtomicBool,
    /// Why the run fails.
    failure: Mutex<Option<String>>,
    /// Warnings that were passed on: every worker warns about the same model.
    warnings: Mutex<HashSet<String>>,
}

impl Supervisor {
    /// Starts workers on `files`; what happens is sent to `updates`, [`Update::End`] last.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(settings: SupervisorSettings, files: Vec<String>, updates: &Sender<Update>) -> Result<Self, String> {
        let wanted = settings.workers.max(1);
        let shared = Arc::new(Shared {
            pool: Pool::new(wanted, settings.memory),
            settings,
            files: Mutex::new(VecDeque::from(files)),
            progress: Mutex::default(),
            usage: Arc::default(),
            is_stopped: AtomicBool::new(false),
            failure: Mutex::default(),
            warnings: Mutex::default(),
        });
        let mut threads = Vec::new();
        for index in 0..wanted {
            let thread = WorkerThread { shared: Arc::clone(&shared), index, updates: updates.clone() };
            match std::thread::Builder::new().name(format!("vxworker-{index}")).spawn(move || thread.run()) {
                Ok(thread) => threads.push(thread),
                Err(error) if threads.is_empty() => {
                    return Err(format!("no thread could be started for a worker process: {error}"));
                }
                Err(error) => {
                    let text =
                        format!("only {index} of {wanted} worker processes run: no thread could be started: {error}");
                    let _ = updates.send(Update::Warning(Warning::new(text)));
                    (index..wanted).for_each(|_| {
                        if shared.pool.leave() {
                            let _ = updates.send(Update::End);
                        }
                    });
                    break;
                }
            }
        }
        Ok(Self { shared, threads })
    }

    /// Returns a handle to end the workers.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Waits for the workers to end, and returns what they used.
    pub fn join(self) -> WorkerReport {
        for thread in self.threads {
            let _ = thread.join();
        }
        let usage = &self.shared.usage;
        WorkerReport {
            started: usage.started.load(Ordering::Relaxed),
            peak_bytes: usage.memory.load(Ordering::Relaxed),
        }
    }
}

/// Ends workers.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// Returns how far the files are that are being read.
    pub fn progress(&self) -> Vec<Progress> {
        self.0.progress.lock().values().cloned().collect()
    }

    /// Begins no other file.
    pub fn finish(&self) {
        self.0.files.lock().clear();
    }

    /// Kills the workers. Files that they have begun get no summary.
    pub fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Release);
        self.finish();
    }
}

/// Keeps one worker running.
struct WorkerThread {
    shared: Arc<Shared>,
    index: usize,
    updates: Sender<Update>,
}

struct Worker {
    process: WorkerProcess,
    /// Threads of its model.
    threads: usize,
    /// Number of the last file.
    number: u32,
    /// The error that it reported before it exited.
    error: Option<String>,
}

/// Why a worker was not started.
enum NotStarted {
    /// The run ends.
    Stopped,
    Failed(String),
}

/// Why a file was not read to its end.
enum WorkerLost {
    /// The run ends.
    Stopped,
    /// The worker is gone.
    Exited {
        /// It sent nothing about this file before.
        is_silent: bool,
    },
    /// The worker has to be killed.
    Killed(String),
    /// The worker cannot read any file.
    Unable(String),
}

impl WorkerThread {
    fn run(&self) {
        let Shared { pool, files, failure, .. } = &*self.shared;
        let result = loop {
            if self.is_ending() || files.lock().is_empty() {
                break Ok(());
            }
            match pool.is_needed(self.index, POLL_INTERVAL) {
                Some(true) => break self.work(),
                Some(false) => break Ok(()),
                None => {}
            }
        };
        pool.record_memory(self.index, 0);
        if self.index == 0 {
            // If the first worker was never measured, no other one may run.
            pool.close();
        }
        if let Err(reason) = &result {
            failure.lock().get_or_insert_with(|| reason.clone());
        }
        let is_last = pool.leave();
        if let Err(reason) = &result
            && pool.has_others(self.index)
        {
            self.warn(Warning::new(format!("the other worker processes continue: {reason}")));
        }
        if is_last {
            let left = files.lock().len();
            let reason = failure.lock().take().filter(|_| left > 0);
            if let Some(reason) = reason {
                let _ = self.updates.send(Update::Error(format!("{reason}; {left} files were not read")));
            }
            let _ = self.updates.send(Update::End);
        }
    }

    /// Reads files one after the other.
    ///
    /// # Errors
    /// No worker can be started any more.
    fn work(&self) -> Result<(), String> {
        let mut idle: Option<Worker> = None;
        while !self.is_ending() && !self.shared.files.lock().is_empty() {
            // The first one was started before the number of workers that share the cores was known.
            if let Some(worker) = idle.take_if(|worker| worker.threads != self.threads()) {
                worker.process.end();
            }
            let mut worker = match idle.take().map_or_else(|| self.start(), Ok) {
                Ok(worker) => worker,
                Err(NotStarted::Stopped) => return Ok(()),
                Err(NotStarted::Failed(reason)) => return Err(reason),
            };
            let Some(file) = self.shared.files.lock().pop_front() else {
                idle = Some(worker);
                break;
            };
            let _ = self.updates.send(Update::Started(file.clone()));
            let has_read_others = worker.number > 0;
            let started = Instant::now();
            let read = self.read(&mut worker, &file, started);
            self.shared.progress.lock().remove(&self.index);
            match read {
                Ok(record) => {
                    idle = Some(worker);
                    let _ = self.updates.send(Update::Done(Box::new(record)));
                }
                Err(WorkerLost::Stopped) => return Ok(()),
                // The file before may have been the cause.
                Err(WorkerLost::Exited { is_silent: true }) if has_read_others => {
                    self.shared.files.lock().push_front(file)
                }
                // A new worker could not either.
                Err(WorkerLost::Unable(reason)) => {
                    self.shared.files.lock().push_front(file);
                    return Err(format!("a worker process cannot read files: {reason}"));
                }
                Err(WorkerLost::Exited { .. }) => {
                    let Worker { process, error, .. } = worker;
                    let reason = error.unwrap_or_else(|| match process.exited() {
                        Some(status) => format!("the worker process that read it ended with {status}"),
                        None => "the worker process that read it closed its connection and was killed".to_owned(),
                    });
                    self.fail(&file, &reason, started);
                }
                Err(WorkerLost::Killed(reason)) => {
                    drop(worker);
                    self.fail(&file, &reason, started);
                }
            }
            if idle.is_none() {
                self.shared.pool.record_memory(self.index, 0);
            }
        }
        if let Some(worker) = idle.filter(|_| !self.is_stopped()) {
            worker.process.end();
        }
        Ok(())
    }

    /// Reports a file whose worker was lost while reading it.
    fn fail(&self, file: &str, reason: &str, started: Instant) {
        let mut summary = Summary::new(file);
        summary.seconds.total = started.elapsed().as_secs_f64();
        let error = gst::glib::Error::new(gst::ResourceError::Failed, reason);
        summary.end(Some(Failure::new(&error, None)));
        let _ = self.updates.send(Update::Done(Box::new(FileRecord::of_summary(summary))));
    }

    /// Returns whether workers are killed.
    fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::Acquire)
    }

    /// Returns whether no other file begins.
    fn is_ending(&self) -> bool {
        self.is_stopped() || self.shared.settings.canceller.is_cancelled()
    }

    /// Returns the number of threads for a worker's model and decoder.
    fn threads(&self) -> usize {
        threads_of_each(self.shared.settings.cores, self.shared.pool.expected())
    }

    /// Returns the settings of a worker: those of the run, and its share of cores and memory.
    fn worker_settings(&self) -> WorkerSettings {
        let SupervisorSettings { properties, pictures, .. } = &self.shared.settings;
        let properties = with_shares(properties, self.threads(), self.shared.pool.memory_share());
        WorkerSettings::new(properties, pictures.as_ref())
    }

    /// Starts a worker and waits until it has loaded the model.
    fn start(&self) -> Result<Worker, NotStarted> {
        let failed = |error| NotStarted::Failed(format!("no worker process could be started: {error}"));
        let (settings, threads) = (self.worker_settings(), self.threads());
        let mut process = WorkerProcess::spawn(&self.shared.settings.program).map_err(failed)?;
        self.shared.usage.started.fetch_add(1, Ordering::Relaxed);
        // A worker that ends before it reads them is noticed below.
        let _ = process.send(&Message::Settings(settings));
        let mut worker = Worker { process, threads, number: 0, error: None };
        let started = Instant::now();
        let mut has_started = false;
        loop {
            match worker.process.receive() {
                Received::Message(Message::Started) => has_started = true,
                Received::Message(Message::Ready) => {
                    // After loading, so that it has loaded this content.
                    self.shared.settings.model.check().map_err(NotStarted::Failed)?;
                    let held = worker.process.memory();
                    self.measure(&worker);
                    self.shared.pool.measure(held).map_err(NotStarted::Failed)?;
                    return Ok(worker);
                }
                Received::Message(other) => self.handle(&mut worker, other).map_err(NotStarted::Failed)?,
                Received::Nothing => {}
                Received::Malformed(malformed) => {
                    return Err(NotStarted::Failed(format!("a worker process sent {malformed} instead of an answer")));
                }
                Received::Gone if self.is_ending() => return Err(NotStarted::Stopped),
                Received::Gone => {
                    let Worker { process, error, .. } = worker;
                    return Err(NotStarted::Failed(error.unwrap_or_else(|| {
                        let end =
                            process.exited().map_or_else(|| "was killed".to_owned(), |end| format!("ended with {end}"));
                        format!("a worker process {end} while it loaded the model")
                    })));
                }
            }
            if self.is_ending() {
                return Err(NotStarted::Stopped);
            }
            let waited = started.elapsed();
            if !has_started && waited > START_TIMEOUT {
                let reason =
                    format!("a worker process did not answer within {} s of its start", START_TIMEOUT.as_secs());
                return Err(NotStarted::Failed(reason));
            }
            let timeout = self.shared.settings.timeout.map_or(LOAD_TIMEOUT, |timeout| timeout.max(MIN_LOAD_TIMEOUT));
            if waited > timeout {
                return Err(NotStarted::Failed(format!(
                    "the model did not finish loading within {:.1} s, so its worker was ended: it may contain an endless loop, \
                     or need longer; raise `file_timeout`, or use another model",
                    timeout.as_secs_f64()
                )));
            }
        }
    }

    /// Handles a message that is not about a file.
    fn handle(&self, worker: &mut Worker, message: Message) -> Result<(), String> {
        match message {
            Message::Warning(text) => self.warn(Warning::new(text)),
            Message::ModelWarning(text) => self.warn(Warning::of_model(text)),
            Message::Error(text) => worker.error = Some(text),
            _ => return Err("a worker process sent a message out of turn".to_owned()),
        }
        Ok(())
    }

    /// Passes on a warning, once.
    fn warn(&self, warning: Warning) {
        if self.shared.warnings.lock().insert(warning.text.clone()) {
            let _ = self.updates.send(Update::Warning(warning));
        }
    }

    /// Measures the memory of a worker; returns the bytes that it holds and is allowed, if it holds too many.
    fn measure(&self, worker: &Worker) -> Option<(u64, u64)> {
        let held = worker.process.memory()?;
        self.shared.usage.memory.fetch_max(held, Ordering::Relaxed);
        self.shared.pool.record_memory(self.index, held).map(|share| (held, share))
    }

    /// Makes `worker` read `file`.
    fn read(&self, worker: &mut Worker, file: &str, started: Instant) -> Result<FileRecord, WorkerLost> {
        worker.number += 1;
        let request = Message::Read { number: worker.number, file: file.to_owned() };
        if worker.process.send(&request).is_err() {
            return Err(WorkerLost::Exited { is_silent: true });
        }
        let mut result = Vec::new();
        loop {
            match worker.process.receive() {
                Received::Message(Message::Result { number, bytes }) if number == worker.number => {
                    if result.len() + bytes.len() > MAX_RESULT_LEN {
                        let limit = MAX_RESULT_LEN >> 20;
                        return Err(WorkerLost::Killed(format!(
                            "its results are longer than {limit} MiB, so its worker was ended"
                        )));
                    }
                    result.extend(bytes);
                }
                Received::Message(Message::End { number }) if number == worker.number => {
                    self.measure(worker);
                    return record_of(file, &result).ok_or_else(|| {
                        WorkerLost::Killed(
                            "its worker process sent results that are not this file's, so it was ended".to_owned(),
                        )
                    });
                }
                Received::Message(Message::Progress { number, progress }) if number == worker.number => {
                    let progress = Progress { file: file.to_owned(), ..progress };
                    self.shared.progress.lock().insert(self.index, progress);
                }
                Received::Message(Message::Unable(reason)) if result.is_empty() => {
                    return Err(WorkerLost::Unable(reason));
                }
                Received::Message(other) => self
                    .handle(worker, other)
                    .map_err(|reason| WorkerLost::Killed(format!("{reason}, so it was ended")))?,
                Received::Nothing => {}
                Received::Malformed(malformed) => {
                    return Err(WorkerLost::Killed(format!(
                        "its worker process sent {malformed} instead of an answer, so it was ended"
                    )));
                }
                Received::Gone if self.is_stopped() => return Err(WorkerLost::Stopped),
                Received::Gone => {
                    return Err(WorkerLost::Exited { is_silent: result.is_empty() && worker.error.is_none() });
                }
            }
            if self.is_stopped() {
                return Err(WorkerLost::Stopped);
            }
            if let Some(timeout) = self.shared.settings.timeout.filter(|timeout| started.elapsed() > *timeout) {
                return Err(WorkerLost::Killed(format!(
                    "it took longer than {:.1} s, so its worker was ended",
                    timeout.as_secs_f64()
                )));
            }
            if let Some((held, share)) = self.measure(worker) {
                return Err(WorkerLost::Killed(format!(
                    "its worker used {} MiB of memory, {} MiB are allowed, so it was ended; raise the memory limit or use fewer lanes",
                    held >> 20,
                    share >> 20
                )));
            }
        }
    }
}

/// Most worker processes, however many cores there are.
const MAX_WORKERS: usize = 64;

/// Returns the number of workers for a run, as far as they fit into memory: `lanes`, or one for each core.
pub fn most_workers(lanes: Option<u32>, cores: usize, files: usize) -> usize {
    lanes.map_or(cores, |lanes| lanes as usize).clamp(1, MAX_WORKERS).min(files)
}

/// Returns the threads of each of so many workers, for its model and its decoder.
pub fn threads_of_each(cores: usize, workers: usize) -> usize {
    (cores / workers.max(1)).max(1)
}

/// Returns the properties of a worker: those of the run, and its share of cores and memory where the user has not set them.
pub fn with_shares(properties: &Properties, threads: usize, memory: Option<u64>) -> Properties {
    let threads = threads as u64;
    let shares = [("detector::sessions", 1), ("detector::intra-op-threads", threads), ("decoder::threads", threads)];
    let is_set = |name: &str| {
        // The alias, where properties were not resolved.
        let alias = (name == "decoder::threads").then_some("decoder::thread-count");
        properties.iter().any(|(other, _)| other == name || Some(other.as_str()) == alias)
    };
    let shares = shares.into_iter().chain(memory.map(|share| ("memory-limit", share)));
    let shares = shares.filter(|(name, _)| !is_set(name)).map(|(name, value)| (name.to_owned(), value.to_string()));
    properties.iter().cloned().chain(shares).collect()
}

/// Returns a file's results, if the bytes are these and nothing else.
fn record_of(file: &str, bytes: &[u8]) -> Option<FileRecord> {
    let mut records = Assembler::default().push(bytes).into_iter();
    let record = records.next()?;
    (records.next().is_none() && record.lines.len() == bytes.len() && record.summary.file == file).then_some(record)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_cores_unless_the_user_has_set_threads() {
        let shares = |own: &[(&str, &str)]| {
            let own: Properties = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let added = with_shares(&own, 3, Some(7)).split_off(own.len()).into_iter();
            added.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        let (model, memory) = ("detector::sessions=1 detector::intra-op-threads=3", "memory-limit=7");
        assert_eq!(shares(&[("classes", "person")]), format!("{model} decoder::threads=3 {memory}"));
        for name in ["decoder::threads", "decoder::thread-count"] {
            assert_eq!(shares(&[(name, "1")]), format!("{model} {memory}"));
        }
        assert_eq!(
            (most_workers(None, 4, 9), most_workers(Some(2), 4, 9), most_workers(Some(99), 4, 1000)),
            (4, 2, 64)
        );
        assert_eq!((threads_of_each(8, 3), threads_of_each(2, 5)), (2, 1));
    }

    #[test]
    fn results_of_another_file_are_rejected() {
        let line = Summary::new("a").to_line();
        assert_eq!(record_of("a", &line).unwrap().lines, line);
        for wrong in [&b""[..], b"{}\n", &line[1..], &[&line[..], b"{}\n"].concat(), &line.repeat(2)] {
            assert!(record_of("a", wrong).is_none(), "{}", String::from_utf8_lossy(wrong));
        }
        assert!(record_of("b", &line).is_none());
    }
}
