//! Hands out files to worker processes and replaces those that are lost; a thread for each.
//!
//! A file gets a summary if it was read, or if its worker was lost over it. One that no worker has begun gets none, so that
//! `--resume` reads it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use gstvx::elements::bulkbin::{Failure, Status, Summary};
use parking_lot::Mutex;

use super::process::{Received, WorkerProcess};
use super::protocol::{MAX_RESULT_LEN, Message};
use super::staff::{Staff, Usage};
use crate::bulk::{Event, Properties, Running};
use crate::frames::Frames;
use crate::unit::{Unit, Units};

/// Longest time from a worker's start to its first message, before it loads the model.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time for a model to load where there is no `--file-timeout`: TensorRT may build an engine for tens of minutes.
const LOAD_TIMEOUT: Duration = Duration::from_secs(3600);

/// How often a thread that waits to be needed looks whether the run ends.
const MOMENT: Duration = Duration::from_millis(100);

/// How workers are run.
#[derive(Clone)]
pub struct Settings {
    /// Properties of the run, without those of all workers together.
    pub properties: Properties,
    /// Frames that workers save.
    pub frames: Frames,
    /// Most workers.
    pub workers: usize,
    /// Cores for all workers.
    pub cores: usize,
    /// Longest time for a file.
    pub timeout: Option<Duration>,
    /// Bytes of memory for all workers.
    pub memory: Option<u64>,
    /// The user has asked for the end: no worker is started any more.
    pub is_interrupted: Arc<AtomicBool>,
}

/// A running set of workers.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    settings: Settings,
    files: Mutex<VecDeque<String>>,
    /// How far the files are that are being read, by worker.
    running: Mutex<BTreeMap<usize, Running>>,
    staff: Staff,
    usage: Arc<Usage>,
    /// Workers end, whatever they are doing.
    is_abandoned: AtomicBool,
    /// Why the run fails.
    failure: Mutex<Option<String>>,
    /// What the user has been warned of: every worker warns of the same model.
    warnings: Mutex<HashSet<String>>,
}

impl Workers {
    /// Starts workers on `files`; what happens goes to `events`, [`Event::End`] last.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(settings: Settings, files: Vec<String>, events: &Sender<Event>) -> Result<Self, String> {
        let wanted = settings.workers.max(1);
        let shared = Arc::new(Shared {
            staff: Staff::new(wanted, settings.memory),
            settings,
            files: Mutex::new(VecDeque::from(files)),
            running: Mutex::default(),
            usage: Arc::default(),
            is_abandoned: AtomicBool::new(false),
            failure: Mutex::default(),
            warnings: Mutex::default(),
        });
        let mut threads = Vec::new();
        for index in 0..wanted {
            let keeper = Keeper { shared: Arc::clone(&shared), index, events: events.clone() };
            match std::thread::Builder::new().name(format!("vxworker-{index}")).spawn(move || keeper.run()) {
                Ok(thread) => threads.push(thread),
                Err(error) if threads.is_empty() => {
                    return Err(format!("no thread could be started to look after a worker process: {error}"));
                }
                Err(error) => {
                    let text =
                        format!("only {index} of {wanted} worker processes run: no thread could be started: {error}");
                    let _ = events.send(Event::Warning(text));
                    (index..wanted).for_each(|_| {
                        if shared.staff.leave() {
                            let _ = events.send(Event::End);
                        }
                    });
                    break;
                }
            }
        }
        Ok(Self { shared, threads })
    }

    /// To end them from elsewhere.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// What they took.
    pub fn usage(&self) -> Arc<Usage> {
        Arc::clone(&self.shared.usage)
    }

    /// Waits for the workers' ends.
    pub fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Ends workers.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// How far the files are that are being read.
    pub fn running(&self) -> Vec<Running> {
        self.0.running.lock().values().cloned().collect()
    }

    /// Begins no file any more.
    pub fn wind_down(&self) {
        self.0.files.lock().clear();
    }

    /// Ends the workers, whatever they are doing. Files that they have begun get no summary.
    pub fn abandon(&self) {
        self.0.is_abandoned.store(true, Ordering::Release);
        self.wind_down();
    }
}

/// Looks after one worker at a time.
struct Keeper {
    shared: Arc<Shared>,
    index: usize,
    events: Sender<Event>,
}

struct Worker {
    process: WorkerProcess,
    /// Threads that its model was given.
    threads: usize,
    /// Number of the last file.
    number: u32,
    /// What it said before it exited.
    error: Option<String>,
}

/// Why there is no worker.
enum Unstarted {
    /// The run ends.
    Stopped,
    Failed(String),
}

/// Why a file was not read to its end.
enum Lost {
    /// The run ends.
    Stopped,
    /// The worker is gone.
    Exited {
        /// Nothing came of this file before.
        is_silent: bool,
    },
    /// The worker has to be ended.
    Ended(String),
    /// The worker cannot read any file.
    Unable(String),
}

impl Keeper {
    fn run(&self) {
        let Shared { staff, files, failure, .. } = &*self.shared;
        let result = loop {
            if self.is_stopped() || files.lock().is_empty() {
                break Ok(());
            }
            match staff.is_needed(self.index, MOMENT) {
                Some(true) => break self.work(),
                Some(false) => break Ok(()),
                None => {}
            }
        };
        staff.weigh(self.index, 0);
        if self.index == 0 {
            // It was not measured, if nobody had a worker; then nobody will.
            staff.close();
        }
        if let Err(reason) = &result {
            failure.lock().get_or_insert_with(|| reason.clone());
        }
        let is_last = staff.leave();
        if let Err(reason) = &result
            && staff.has_others(self.index)
        {
            self.warn(Event::Warning, &format!("the other worker processes go on: {reason}"));
        }
        if is_last {
            let left = files.lock().len();
            let reason = failure.lock().take().filter(|_| left > 0);
            if let Some(reason) = reason {
                let _ = self.events.send(Event::Error(format!("{reason}; {left} files were not read")));
            }
            let _ = self.events.send(Event::End);
        }
    }

    /// File after file; why no worker can be started any more.
    fn work(&self) -> Result<(), String> {
        let mut idle: Option<Worker> = None;
        while !self.is_stopped() && !self.shared.files.lock().is_empty() {
            // The first one was started before it was known among how many the cores are shared.
            if let Some(worker) = idle.take_if(|worker| worker.threads != self.threads()) {
                worker.process.end();
            }
            let mut worker = match idle.take().map_or_else(|| self.start(), Ok) {
                Ok(worker) => worker,
                Err(Unstarted::Stopped) => return Ok(()),
                Err(Unstarted::Failed(reason)) => return Err(reason),
            };
            let Some(file) = self.shared.files.lock().pop_front() else {
                idle = Some(worker);
                break;
            };
            let _ = self.events.send(Event::Begun(file.clone()));
            let is_tried = worker.number > 0;
            let started = Instant::now();
            let read = self.read(&mut worker, &file, started);
            self.shared.running.lock().remove(&self.index);
            match read {
                Ok(unit) => {
                    idle = Some(worker);
                    let _ = self.events.send(Event::Done(Box::new(unit)));
                }
                Err(Lost::Stopped) => return Ok(()),
                // It may have died of the file before.
                Err(Lost::Exited { is_silent: true }) if is_tried => self.shared.files.lock().push_front(file),
                // Nor could another that is started now.
                Err(Lost::Unable(reason)) => {
                    self.shared.files.lock().push_front(file);
                    return Err(format!("a worker process cannot read files: {reason}"));
                }
                Err(Lost::Exited { .. }) => {
                    let Worker { process, error, .. } = worker;
                    let reason = error.unwrap_or_else(|| match process.exited() {
                        Some(status) => format!("the worker process that read it ended with {status}"),
                        None => "the worker process that read it closed its connection and was killed".to_owned(),
                    });
                    self.fail(&file, &reason, started);
                }
                Err(Lost::Ended(reason)) => {
                    drop(worker);
                    self.fail(&file, &reason, started);
                }
            }
            if idle.is_none() {
                self.shared.staff.weigh(self.index, 0);
            }
        }
        if let Some(worker) = idle.filter(|_| !self.is_abandoned()) {
            worker.process.end();
        }
        Ok(())
    }

    /// Reports a file whose worker was lost over it.
    fn fail(&self, file: &str, reason: &str, started: Instant) {
        let mut summary = Summary::new(file);
        summary.status = Status::Failed;
        summary.seconds.total = started.elapsed().as_secs_f64();
        let error = gst::glib::Error::new(gst::ResourceError::Failed, reason);
        summary.error = Some(Failure::new(&error, None));
        let _ = self.events.send(Event::Done(Box::new(Unit::bare(summary))));
    }

    fn is_abandoned(&self) -> bool {
        self.shared.is_abandoned.load(Ordering::Acquire)
    }

    /// No worker is to be started.
    fn is_stopped(&self) -> bool {
        self.is_abandoned() || self.shared.settings.is_interrupted.load(Ordering::Acquire)
    }

    /// Threads of a worker's model and decoder.
    fn threads(&self) -> usize {
        (self.shared.settings.cores / self.shared.staff.expected()).max(1)
    }

    fn arguments(&self) -> Vec<OsString> {
        let Settings { properties, frames, .. } = &self.shared.settings;
        let threads = self.threads() as u64;
        let shares =
            [("detector::sessions", 1), ("detector::intra-op-threads", threads), ("decoder::thread-count", threads)];
        let memory = self.shared.staff.memory_share().map(|share| ("memory-limit", share));
        let shares = shares.into_iter().chain(memory);
        let shares = shares.filter(|(name, _)| !properties.iter().any(|(other, _)| other == name));
        let properties = properties.iter().cloned();
        let all = properties.chain(shares.map(|(name, value)| (name.to_owned(), value.to_string())));
        let mut arguments: Vec<OsString> =
            all.flat_map(|(name, value)| ["--set".into(), format!("{name}={value}").into()]).collect();
        arguments.extend(frames.for_worker());
        arguments
    }

    /// Starts a worker and waits until its model is loaded.
    fn start(&self) -> Result<Worker, Unstarted> {
        let failed = |error| Unstarted::Failed(format!("no worker process could be started: {error}"));
        let (arguments, threads) = (self.arguments(), self.threads());
        let process = WorkerProcess::spawn(arguments).map_err(failed)?;
        self.shared.usage.started.fetch_add(1, Ordering::Relaxed);
        let mut worker = Worker { process, threads, number: 0, error: None };
        let started = Instant::now();
        let mut has_started = false;
        loop {
            match worker.process.receive() {
                Received::Message(Message::Started) => has_started = true,
                Received::Message(Message::Ready) => {
                    let held = worker.process.memory();
                    self.weigh(&worker);
                    self.shared.staff.measure(held).map_err(Unstarted::Failed)?;
                    return Ok(worker);
                }
                Received::Message(other) => self.listen(&mut worker, other).map_err(Unstarted::Failed)?,
                Received::Nothing => {}
                Received::Malformed(malformed) => {
                    return Err(Unstarted::Failed(format!("a worker process sent {malformed} instead of an answer")));
                }
                Received::Gone if self.is_stopped() => return Err(Unstarted::Stopped),
                Received::Gone => {
                    let Worker { process, error, .. } = worker;
                    return Err(Unstarted::Failed(error.unwrap_or_else(|| {
                        let end =
                            process.exited().map_or_else(|| "was killed".to_owned(), |end| format!("ended with {end}"));
                        format!("a worker process {end} while it loaded the model")
                    })));
                }
            }
            if self.is_stopped() {
                return Err(Unstarted::Stopped);
            }
            let waited = started.elapsed();
            if !has_started && waited > START_TIMEOUT {
                let reason =
                    format!("a worker process did not answer within {} s of its start", START_TIMEOUT.as_secs());
                return Err(Unstarted::Failed(reason));
            }
            let timeout = self.shared.settings.timeout.unwrap_or(LOAD_TIMEOUT);
            if waited > timeout {
                return Err(Unstarted::Failed(format!(
                    "the model did not finish loading within {:.1} s, so its worker was ended: it may contain an endless loop, \
                     or need longer; raise --file-timeout, or use another model",
                    timeout.as_secs_f64()
                )));
            }
        }
    }

    /// Takes a message that is not about a file.
    fn listen(&self, worker: &mut Worker, message: Message) -> Result<(), String> {
        match message {
            Message::Warning(text) => self.warn(Event::Warning, &text),
            Message::ModelWarning(text) => self.warn(Event::ModelWarning, &text),
            Message::Error(text) => worker.error = Some(text),
            _ => return Err("a worker process sent a message out of turn".to_owned()),
        }
        Ok(())
    }

    /// Warns once.
    fn warn(&self, event: fn(String) -> Event, text: &str) {
        if self.shared.warnings.lock().insert(text.to_owned()) {
            let _ = self.events.send(event(text.to_owned()));
        }
    }

    /// Measures a worker; if it takes too much, how much it has and may have.
    fn weigh(&self, worker: &Worker) -> Option<(u64, u64)> {
        let held = worker.process.memory()?;
        self.shared.usage.memory.fetch_max(held, Ordering::Relaxed);
        self.shared.staff.weigh(self.index, held).map(|share| (held, share))
    }

    /// Has `worker` read `file`.
    fn read(&self, worker: &mut Worker, file: &str, started: Instant) -> Result<Unit, Lost> {
        worker.number += 1;
        let request = Message::Read { number: worker.number, file: file.to_owned() };
        if worker.process.send(&request).is_err() {
            return Err(Lost::Exited { is_silent: true });
        }
        let mut result = Vec::new();
        loop {
            match worker.process.receive() {
                Received::Message(Message::Result { number, bytes }) if number == worker.number => {
                    if result.len() + bytes.len() > MAX_RESULT_LEN {
                        let limit = MAX_RESULT_LEN >> 20;
                        return Err(Lost::Ended(format!(
                            "its results are longer than {limit} MiB, so its worker was ended"
                        )));
                    }
                    result.extend(bytes);
                }
                Received::Message(Message::End { number }) if number == worker.number => {
                    self.weigh(worker);
                    return unit_of(file, &result).ok_or_else(|| {
                        Lost::Ended(
                            "its worker process sent results that are not this file's, so it was ended".to_owned(),
                        )
                    });
                }
                Received::Message(Message::Running { number, running }) if number == worker.number => {
                    let running = Running { file: file.to_owned(), ..running };
                    self.shared.running.lock().insert(self.index, running);
                }
                Received::Message(Message::Unable(reason)) if result.is_empty() => return Err(Lost::Unable(reason)),
                Received::Message(other) => {
                    self.listen(worker, other).map_err(|reason| Lost::Ended(format!("{reason}, so it was ended")))?
                }
                Received::Nothing => {}
                Received::Malformed(malformed) => {
                    return Err(Lost::Ended(format!(
                        "its worker process sent {malformed} instead of an answer, so it was ended"
                    )));
                }
                Received::Gone if self.is_abandoned() => return Err(Lost::Stopped),
                Received::Gone => {
                    return Err(Lost::Exited { is_silent: result.is_empty() && worker.error.is_none() });
                }
            }
            if self.is_abandoned() {
                return Err(Lost::Stopped);
            }
            if let Some(timeout) = self.shared.settings.timeout.filter(|timeout| started.elapsed() > *timeout) {
                return Err(Lost::Ended(format!(
                    "it took longer than {:.1} s, so its worker was ended",
                    timeout.as_secs_f64()
                )));
            }
            if let Some((held, share)) = self.weigh(worker) {
                return Err(Lost::Ended(format!(
                    "its worker took {} MiB of memory, {} MiB are allowed, so it was ended; raise --memory-limit or lower --lanes",
                    held >> 20,
                    share >> 20
                )));
            }
        }
    }
}

/// A file's results, if that is what the bytes are and nothing else.
fn unit_of(file: &str, bytes: &[u8]) -> Option<Unit> {
    let mut units = Units::default().push(bytes).into_iter();
    let unit = units.next()?;
    (units.next().is_none() && unit.lines.len() == bytes.len() && unit.summary.file == file).then_some(unit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn results_are_those_of_the_file_that_was_asked_for() {
        let line = Summary::new("a").to_line();
        assert_eq!(unit_of("a", &line).unwrap().lines, line);
        for wrong in [&b""[..], b"{}\n", &line[1..], &[&line[..], b"{}\n"].concat(), &line.repeat(2)] {
            assert!(unit_of("a", wrong).is_none(), "{}", String::from_utf8_lossy(wrong));
        }
        assert!(unit_of("b", &line).is_none());
    }
}
