//! Files in worker processes: what crashes, eats memory or, with a timeout, hangs costs its file and its worker, which is replaced.
//!
//! A worker is this program with `--worker`: it takes a path on each line of its standard input, as a JSON string, and answers
//! with that file's lines. A thread here looks after each.

use std::collections::VecDeque;
use std::io::{BufRead, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use gstvx::elements::bulkbin::{Failure, Status, Summary};
use gstvx::memory;
use parking_lot::Mutex;

use crate::bulk::{Bulk, Event, Hand, Properties};
use crate::frames::Frames;
use crate::terminal::{show_bytes, tell};
use crate::unit::{Unit, Units};

/// How workers are watched.
#[derive(Clone)]
pub struct Watch {
    /// Frames that they save.
    pub frames: Frames,
    pub workers: usize,
    /// Longest time for a file.
    pub timeout: Option<Duration>,
    /// Most bytes of memory for a worker.
    pub memory: Option<u64>,
    /// The user has asked for the end: no worker is set up any more.
    pub is_interrupted: Arc<AtomicBool>,
}

/// How often a worker is looked at while it works.
const LOOK: Duration = Duration::from_millis(100);

/// What a worker says first.
const READY: &[u8] = b"\n";

/// The exit status of a worker that cannot be set up.
const USELESS: i32 = 3;

/// What has been seen of workers.
#[derive(Debug, Default)]
pub struct Seen {
    /// How many were started, each of which loads the model.
    pub started: AtomicUsize,
    /// The most bytes of memory that one of them held.
    pub memory: AtomicU64,
}

/// A running set of workers.
pub struct Workers {
    /// What has been seen of them.
    pub seen: Arc<Seen>,
    files: Arc<Mutex<VecDeque<String>>>,
    is_broken: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `watch.workers` workers on `files`; what happens goes to `events`.
    pub fn start(properties: &Properties, files: Vec<String>, watch: &Watch, events: &Sender<Event>) -> Self {
        let files = Arc::new(Mutex::new(VecDeque::from(files)));
        let is_broken = Arc::new(AtomicBool::new(false));
        let left = Arc::new(AtomicUsize::new(watch.workers.max(1)));
        let seen = Arc::<Seen>::default();
        let threads = (0..watch.workers.max(1)).map(|_| {
            let keeper = Keeper {
                properties: properties.clone(),
                files: Arc::clone(&files),
                watch: watch.clone(),
                events: events.clone(),
                is_broken: Arc::clone(&is_broken),
                seen: Arc::clone(&seen),
            };
            let left = Arc::clone(&left);
            std::thread::spawn(move || {
                keeper.keep();
                if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    let _ = keeper.events.send(Event::End);
                }
            })
        });
        Self { threads: threads.collect(), is_broken, seen, files }
    }

    /// The files that are not begun, to empty.
    pub fn queue(&self) -> Arc<Mutex<VecDeque<String>>> {
        Arc::clone(&self.files)
    }

    /// Ends the workers, whatever they are at.
    pub fn abandon(&self) {
        self.is_broken.store(true, Ordering::Release);
    }

    /// Waits for the workers' ends.
    pub fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Looks after one worker at a time.
struct Keeper {
    properties: Properties,
    files: Arc<Mutex<VecDeque<String>>>,
    watch: Watch,
    events: Sender<Event>,
    /// A worker could not work at all, so none can.
    is_broken: Arc<AtomicBool>,
    seen: Arc<Seen>,
}

struct Worker {
    child: Child,
    /// Files that it has read.
    units_done: usize,
    /// Nothing has come of the file at hand.
    is_silent: bool,
    input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    units: Units,
}

impl Keeper {
    fn keep(&self) {
        let mut worker = None;
        while !self.is_broken.load(Ordering::Acquire) {
            let Some(file) = self.files.lock().pop_front() else { break };
            let _ = self.events.send(Event::Begun(file.clone()));
            let mut at_work = match worker.take().map_or_else(|| self.hire(), Ok) {
                Ok(at_work) => at_work,
                Err(reason) => {
                    if let Some(reason) = reason
                        && !self.is_broken.swap(true, Ordering::AcqRel)
                    {
                        let _ = self.events.send(Event::Error(reason));
                    }
                    return;
                }
            };
            let is_tried = at_work.units_done > 0;
            let started = Instant::now();
            match self.watch_over(&mut at_work, &file, started) {
                Ok(unit) => {
                    at_work.units_done += 1;
                    worker = Some(at_work);
                    let _ = self.events.send(Event::Done(Box::new(unit)));
                }
                // It may have died of the file before.
                Err(None) if is_tried && at_work.is_silent => {
                    let _ = at_work.child.kill();
                    let _ = at_work.child.wait();
                    self.files.lock().push_front(file);
                }
                Err(reason) => {
                    let _ = at_work.child.kill();
                    let status = at_work.child.wait();
                    if status.as_ref().is_ok_and(|status| status.code() == Some(USELESS)) {
                        if !self.is_broken.swap(true, Ordering::AcqRel) {
                            let text = "a worker process could not be set up; its reason stands above";
                            let _ = self.events.send(Event::Error(text.to_owned()));
                        }
                        return;
                    }
                    let reason = reason.unwrap_or_else(|| match status {
                        Ok(status) => format!("the worker process that read it ended with {status}"),
                        Err(error) => format!("the worker process that read it was lost: {error}"),
                    });
                    let mut summary = Summary::new(&file);
                    summary.status = Status::Failed;
                    summary.seconds.total = started.elapsed().as_secs_f64();
                    let error = gst::glib::Error::new(gst::ResourceError::Failed, &reason);
                    summary.error = Some(Failure::new(&error, None));
                    let _ = self.events.send(Event::Done(Box::new(Unit::bare(summary))));
                }
            }
        }
        if let Some(mut worker) = worker {
            // It ends with its input.
            worker.input = None;
            let _ = worker.child.wait();
        }
    }

    /// Starts a worker and waits until its model is loaded; otherwise why there is none, or nothing if the run is ended.
    fn hire(&self) -> Result<Worker, Option<String>> {
        let failed = |error: std::io::Error| Some(format!("no worker process could be started: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["detect", "--worker"]);
        for (name, value) in &self.properties {
            command.args(["--set", &format!("{name}={value}")]);
        }
        command.args(self.watch.frames.for_worker());
        self.seen.started.fetch_add(1, Ordering::Relaxed);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let input = child.stdin.take();
        let (sender, output) = unbounded();
        if let Some(mut out) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut block = vec![0; 1 << 16];
                while let Ok(length @ 1..) = out.read(&mut block) {
                    if sender.send(block[..length].to_vec()).is_err() {
                        return;
                    }
                }
            });
        }
        // It says when it is ready, so that its start is on nobody's account; or it ends, which is seen when it is asked to work.
        let started = Instant::now();
        loop {
            match output.recv_timeout(LOOK) {
                Ok(ready) => {
                    debug_assert!(ready == READY, "{ready:?}");
                    break;
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let is_ended =
                [&self.is_broken, &self.watch.is_interrupted].iter().any(|flag| flag.load(Ordering::Acquire));
            let timeout = self.watch.timeout.filter(|timeout| started.elapsed() > *timeout);
            if is_ended || timeout.is_some() {
                let _ = child.kill();
                let _ = child.wait();
                return Err(timeout.filter(|_| !is_ended).map(|timeout| {
                    format!(
                        "the model did not finish loading within {:.1} s, so its worker was ended: it may contain an endless \
                         loop, or need longer; raise --file-timeout, or use another model",
                        timeout.as_secs_f64()
                    )
                }));
            }
        }
        Ok(Worker { child, units_done: 0, is_silent: true, input, output, units: Units::default() })
    }

    /// Bytes of memory that `worker` holds.
    fn weigh(&self, worker: &Worker) -> Option<u64> {
        let taken = memory::resident_of(worker.child.id())?;
        self.seen.memory.fetch_max(taken, Ordering::Relaxed);
        Some(taken)
    }

    /// Has `worker` read `file`; otherwise why it was given up, or nothing if it ended of itself.
    fn watch_over(&self, worker: &mut Worker, file: &str, started: Instant) -> Result<Unit, Option<String>> {
        let mut line = serde_json::to_vec(file).map_err(|error| Some(error.to_string()))?;
        line.push(b'\n');
        worker.is_silent = true;
        let given = worker.input.as_mut().map(|input| input.write_all(&line).and_then(|()| input.flush()));
        if !matches!(given, Some(Ok(()))) {
            return Err(None);
        }
        loop {
            match worker.output.recv_timeout(LOOK) {
                Ok(bytes) => {
                    worker.is_silent = false;
                    if let Some(unit) = worker.units.push(&bytes).into_iter().next() {
                        self.weigh(worker);
                        return Ok(unit);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.is_broken.load(Ordering::Acquire) {
                return Err(Some("the run was ended".to_owned()));
            }
            if let Some(timeout) = self.watch.timeout
                && started.elapsed() > timeout
            {
                return Err(Some(format!(
                    "it took longer than {:.1} s, so its worker was ended",
                    timeout.as_secs_f64()
                )));
            }
            if let Some((limit, taken)) = self.watch.memory.zip(self.weigh(worker))
                && taken > limit
            {
                return Err(Some(format!(
                    "its worker took {} MiB of memory, {} MiB are allowed, so it was ended; raise --memory-limit or lower --lanes",
                    taken >> 20,
                    limit >> 20
                )));
            }
        }
    }
}

/// The worker's side.
pub fn work(properties: &Properties, frames: &Frames) -> ExitCode {
    // Told to end, the supervisor decides what that means for the file at hand.
    let _ = ctrlc::set_handler(|| {});
    gstvx::av::capture_log();
    let (events, happened) = unbounded();
    let useless = |reason: String| {
        tell!("vx: {reason}");
        ExitCode::from(USELESS as u8)
    };
    // Loading the model is work too, which the supervisor's end ends.
    let at_work = Arc::new(AtomicUsize::new(1));
    let files = read_files(Arc::clone(&at_work));
    let bulk = match Bulk::new(properties, &events, Hand::Units) {
        Ok(bulk) => bulk,
        Err(reason) => return useless(reason),
    };
    frames.save_from(&bulk.handle());
    if let Err(reason) = bulk.load() {
        let reasons =
            happened.try_iter().filter_map(|event| if let Event::Error(text) = event { Some(text) } else { None });
        return useless(reasons.last().unwrap_or(reason));
    }
    at_work.fetch_sub(1, Ordering::AcqRel);
    show_bytes(READY);
    let broken = |reason: String| {
        tell!("vx: {reason}");
        ExitCode::FAILURE
    };
    for file in files {
        misbehave(&file);
        if let Err(reason) = bulk.start(&[file]) {
            return broken(reason);
        }
        for event in &happened {
            match event {
                Event::Done(unit) => {
                    // The supervisor may close the pipe as soon as it has this.
                    at_work.fetch_sub(1, Ordering::AcqRel);
                    let mut out = std::io::stdout().lock();
                    if out.write_all(&unit.lines).and_then(|()| out.flush()).is_err() {
                        return ExitCode::FAILURE;
                    }
                }
                Event::Warning(text) | Event::ModelWarning(text) => tell!("vx: {text}"),
                Event::Error(text) => return broken(text),
                Event::End => break,
                Event::Begun(_) | Event::Running(_) | Event::Lines(_) => {}
            }
        }
        if let Err(reason) = bulk.rest() {
            return broken(reason);
        }
    }
    ExitCode::SUCCESS
}

/// Files that the supervisor names. It closes the pipe when a worker has nothing to do; if that happens while files are `at_work`,
/// the supervisor is gone, and the worker goes too.
fn read_files(at_work: Arc<AtomicUsize>) -> Receiver<String> {
    let (sender, files) = unbounded();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Some(file) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else { break };
            at_work.fetch_add(1, Ordering::AcqRel);
            if sender.send(file).is_err() {
                return;
            }
        }
        if at_work.load(Ordering::Acquire) > 0 {
            gstvx::exit::leave(1);
        }
    });
    files
}

/// The seam for what no file can be made to do on purpose: `VX_TEST_WORKER=crash:WORD`, `hang:WORD` or `eat:WORD` does that to
/// files with this word in their path.
fn misbehave(file: &str) {
    let Ok(hook) = std::env::var("VX_TEST_WORKER") else { return };
    match hook.split_once(':') {
        Some(("crash", word)) if file.contains(word) => std::process::abort(),
        Some(("hang", word)) if file.contains(word) => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        Some(("eat", word)) if file.contains(word) => {
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(vec![1; 16 << 20]);
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        _ => {}
    }
}
