// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run as an iterator: starts it, waits for its events without the interpreter lock, ends it.
//!
//! A run may be used from several threads. Its lock is only held by threads that do not hold the interpreter.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use gstvx::run::{self, Canceller, Error, Event, FileDone, Overview, Report, Status};
use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrow::ArrowStream;
use crate::records::{FileSummary, Frame};
use crate::settings::{self, Arguments};
use crate::waiting::{SIGNAL_INTERVAL, interruptible};
use crate::{error, process};

/// Longest wait for the files that are being read when a run is closed. They go on in the background then.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs that may still have to be closed at the end of the process.
static OPEN: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// A run, shared by its iterators.
pub struct Shared {
    state: Mutex<process::Own<State>>,
    canceller: Canceller,
}

/// What is known of a run.
struct State {
    stage: Stage,
    /// Events that were received and not yet passed on.
    waiting: VecDeque<Event>,
    overview: Option<Overview>,
    progress: Vec<run::Progress>,
    tally: Tally,
    report: Option<Report>,
    /// Summaries that no iterator has passed on.
    kept: Vec<FileDone>,
}

enum Stage {
    Starting(Receiver<Result<run::Run, Error>>),
    Running(Box<run::Run>),
    Ended,
}

/// What a run has passed on so far.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    files: usize,
    failed: usize,
    damaged: usize,
    cached: usize,
    frames: u64,
    detections: u64,
}

/// What a wait for a record has found.
pub enum Pulled {
    Frame(Box<gstvx::record::Frame>),
    File(Box<FileDone>),
    Warning(String),
    /// Nothing yet.
    Nothing,
    /// The end, and why the run failed.
    End(Option<Error>),
}

impl Shared {
    /// Starts a run in the background.
    fn start(settings: run::Settings) -> PyResult<Arc<Self>> {
        let canceller = settings.canceller.clone();
        let (sender, started) = sync_channel(1);
        // If nobody waits for it any more, the run is dropped, which stops it.
        let start = move || drop(sender.send(run::Run::start(settings)));
        let spawned = std::thread::Builder::new().name("vxstart".to_owned()).spawn(start);
        spawned.map_err(|error| PyRuntimeError::new_err(format!("no thread could be started: {error}")))?;
        let state = State {
            stage: Stage::Starting(started),
            waiting: VecDeque::new(),
            overview: None,
            progress: Vec::new(),
            tally: Tally::default(),
            report: None,
            kept: Vec::new(),
        };
        let shared = Arc::new(Self { state: Mutex::new(process::Own::new(state)), canceller });
        let mut open = OPEN.lock();
        open.retain(|run| run.strong_count() > 0);
        open.push(Arc::downgrade(&shared));
        drop(open);
        Ok(shared)
    }

    /// Waits for the next record, at most for `timeout`.
    pub fn pull(&self, timeout: Duration) -> Pulled {
        let deadline = Instant::now() + timeout;
        loop {
            let mut guard = self.state.lock();
            let Some(state) = guard.get_mut() else { return Pulled::End(None) };
            let pulled = state.step(deadline);
            drop(guard);
            if let Some(pulled) = pulled {
                return pulled;
            }
        }
    }

    /// Whether the run was stopped before its end.
    pub fn is_stopped(&self) -> bool {
        self.canceller.is_stopped()
    }

    /// Keeps the summary of a file whose rows are passed on without it.
    pub fn keep(&self, done: FileDone) {
        let mut guard = self.state.lock();
        if let Some(state) = guard.get_mut() {
            state.kept.push(done);
        }
    }

    /// Waits until a record is there or the run has ended; returns whether that is so.
    fn fill(&self, timeout: Duration) -> bool {
        let mut guard = self.state.lock();
        guard.get_mut().is_none_or(|state| state.fill(Instant::now() + timeout))
    }

    /// Waits until the run has started, at most for `timeout`; returns whether it has, or has failed.
    fn has_started(&self, timeout: Duration) -> Result<bool, Error> {
        let mut guard = self.state.lock();
        let Some(state) = guard.get_mut() else { return Ok(true) };
        state.start(timeout).map(|()| !matches!(state.stage, Stage::Starting(_)))
    }

    /// Stops the run and waits for its end, but not for long.
    pub fn close(self: &Arc<Self>) {
        self.canceller.stop();
        let this = Arc::clone(self);
        let (sender, closed) = sync_channel::<()>(1);
        let close = move || {
            let mut guard = this.state.lock();
            if let Some(state) = guard.get_mut() {
                state.close();
            }
            drop(guard);
            drop(sender);
        };
        // Without a thread the run goes on until the process ends.
        if std::thread::Builder::new().name("vxclose".to_owned()).spawn(close).is_ok() {
            let _ = closed.recv_timeout(CLOSE_TIMEOUT);
        }
    }
}

impl State {
    /// Takes the started run, if it is there by then.
    fn start(&mut self, timeout: Duration) -> Result<(), Error> {
        let Stage::Starting(started) = &self.stage else { return Ok(()) };
        match started.recv_timeout(timeout) {
            Ok(Ok(run)) => {
                self.overview = Some(run.overview().clone());
                self.stage = Stage::Running(Box::new(run));
                Ok(())
            }
            Ok(Err(error)) => {
                self.stage = Stage::Ended;
                Err(error)
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                self.stage = Stage::Ended;
                Err(Error::Failed { reason: "the thread of the run panicked, which is a bug of vx".to_owned() })
            }
        }
    }

    /// Receives an event and returns what it means for the caller; `None` if it means nothing.
    fn step(&mut self, deadline: Instant) -> Option<Pulled> {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Err(error) = self.start(left) {
            return Some(Pulled::End(Some(error)));
        }
        let event = match (self.waiting.pop_front(), &mut self.stage) {
            (Some(event), _) => event,
            (None, Stage::Starting(_)) => return Some(Pulled::Nothing),
            (None, Stage::Ended) => return Some(Pulled::End(None)),
            (None, Stage::Running(run)) => {
                let left = deadline.saturating_duration_since(Instant::now());
                match run.next_timeout(left) {
                    Some(event) => event,
                    None => return Some(Pulled::Nothing),
                }
            }
        };
        match event {
            Event::Frame(frame) => {
                self.tally.frames += 1;
                self.tally.detections += frame.detections.len() as u64;
                Some(Pulled::Frame(frame))
            }
            Event::FileDone(done) => {
                self.tally.files += 1;
                self.tally.failed += usize::from(done.summary.status == Status::Failed);
                self.tally.damaged += usize::from(done.summary.status == Status::Damaged);
                self.tally.cached += usize::from(done.is_cached);
                Some(Pulled::File(done))
            }
            Event::Warning(warning) => Some(Pulled::Warning(warning.text)),
            Event::Progress(progress) => {
                self.progress = progress;
                None
            }
            Event::End(report) => {
                self.stage = Stage::Ended;
                let error = report.error.clone();
                self.report = Some(*report);
                Some(Pulled::End(error))
            }
            _ => None,
        }
    }

    /// Receives events until one waits that the caller gets.
    fn fill(&mut self, deadline: Instant) -> bool {
        let counts = |event: &Event| !matches!(event, Event::Progress(_) | Event::FileStarted(_));
        loop {
            if self.waiting.iter().any(counts) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // The next call reports the error.
            if let Stage::Starting(started) = &self.stage {
                match started.recv_timeout(left) {
                    Ok(result) => {
                        let (sender, again) = sync_channel(1);
                        let _ = sender.send(result);
                        self.stage = Stage::Starting(again);
                        return true;
                    }
                    Err(RecvTimeoutError::Timeout) => return false,
                    Err(RecvTimeoutError::Disconnected) => return true,
                }
            }
            let Stage::Running(run) = &mut self.stage else { return true };
            match run.next_timeout(left) {
                Some(event) => self.waiting.push_back(event),
                None => return false,
            }
        }
    }

    /// Ends a run that was stopped, and keeps its report.
    fn close(&mut self) {
        self.waiting.clear();
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        let run = match stage {
            Stage::Running(run) => Some(*run),
            // The thread that starts it drops it, if it is not there yet.
            Stage::Starting(started) => started.try_recv().ok().and_then(Result::ok),
            Stage::Ended => None,
        };
        if let Some(run) = run {
            self.overview.get_or_insert_with(|| run.overview().clone());
            self.report = Some(run.join());
        }
    }
}

/// Objects on the keyframes of files: an iterator of frames and of file summaries. See `vx.detect`.
#[pyclass(frozen, module = "vx", weakref)]
pub struct Run {
    handle: Option<Arc<Handle>>,
    shared: Arc<Shared>,
}

/// Keeps a run going: the iterator and its Arrow streams have one together, and the last one closes the run.
pub struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        // In a forked process the lock may belong to a thread that does not exist.
        if process::enter().is_ok() {
            self.0.close();
        }
    }
}

/// Drops a handle on a thread that holds the interpreter. A finalizer runs at the end of the interpreter, too, when there is nothing to
/// detach from.
pub fn let_go(handle: Option<Arc<Handle>>) {
    Python::try_attach(move |py| py.detach(move || drop(handle)));
}

impl Drop for Run {
    fn drop(&mut self) {
        let_go(self.handle.take());
    }
}

/// Starts a run with the arguments of `vx.detect`.
#[pyfunction]
pub fn detect(py: Python<'_>, inputs: &Bound<'_, PyAny>, arguments: &Bound<'_, PyDict>) -> PyResult<Run> {
    process::enter()?;
    let settings = arguments.extract::<Arguments<'_>>()?.to_settings(py, settings::inputs(inputs)?)?;
    let shared = Shared::start(settings)?;
    let run = Run { handle: Some(Arc::new(Handle(Arc::clone(&shared)))), shared };
    // In a coroutine nothing may block: the first record reports what is wrong.
    if !is_in_event_loop(py)? {
        run.wait_for_start(py)?;
    }
    Ok(run)
}

/// Whether this thread runs an event loop of asyncio.
fn is_in_event_loop(py: Python<'_>) -> PyResult<bool> {
    let modules = py.import("sys")?.getattr("modules")?;
    match modules.call_method1("get", ("asyncio",))? {
        asyncio if asyncio.is_none() => Ok(false),
        asyncio => Ok(!asyncio.call_method0("_get_running_loop")?.is_none()),
    }
}

/// Finds the files and loads the model, but reads and writes nothing.
#[pyfunction]
pub fn plan(py: Python<'_>, inputs: &Bound<'_, PyAny>, arguments: &Bound<'_, PyDict>) -> PyResult<Plan> {
    process::enter()?;
    let settings = arguments.extract::<Arguments<'_>>()?.to_settings(py, settings::inputs(inputs)?)?;
    let plan = interruptible(py, "vxplan", move || run::Run::plan(&settings))?;
    plan.map(|plan| Plan { plan }).map_err(|error| error::from(&error))
}

/// An input, and why it cannot be read.
type Reason = (String, String);

/// Returns the names of the files that a run would read, and what it would leave out: inputs that cannot be read, and why.
#[pyfunction]
pub fn find(
    py: Python<'_>,
    inputs: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyDict>,
) -> PyResult<(Vec<String>, Vec<Reason>)> {
    process::enter()?;
    let settings = arguments.extract::<Arguments<'_>>()?.to_settings(py, settings::inputs(inputs)?)?;
    let found = interruptible(py, "vxfind", move || run::Run::find(&settings))?;
    let found = found.map_err(|error| error::from(&error))?;
    Ok((found.files, found.failures.into_iter().map(|failure| (failure.name, failure.reason)).collect()))
}

/// Closes all runs; called when the interpreter ends.
#[pyfunction]
pub fn _close_all(py: Python<'_>) {
    if process::enter().is_ok() {
        py.detach(|| {
            let open = std::mem::take(&mut *OPEN.lock());
            let open: Vec<Arc<Shared>> = open.iter().filter_map(Weak::upgrade).collect();
            open.iter().for_each(|run| run.canceller.stop());
            open.iter().for_each(Shared::close);
        });
    }
}

impl Run {
    fn wait_for_start(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            match py.detach(|| self.shared.has_started(SIGNAL_INTERVAL)) {
                Ok(true) => return Ok(()),
                Ok(false) => self.check_signals(py)?,
                Err(error) => return Err(error::from(&error)),
            }
        }
    }

    /// Handles signals; one that raises an exception stops the run.
    fn check_signals(&self, py: Python<'_>) -> PyResult<()> {
        py.check_signals().inspect_err(|_| py.detach(|| self.shared.close()))
    }

    fn overview<T>(&self, py: Python<'_>, get: impl Fn(&Overview) -> T + Send + Sync) -> PyResult<T>
    where
        T: Default + Send,
    {
        process::enter()?;
        self.wait_for_start(py)?;
        Ok(py.detach(|| {
            let mut guard = self.shared.state.lock();
            guard.get_mut().and_then(|state| state.overview.as_ref()).map(get).unwrap_or_default()
        }))
    }

    /// Converts what was pulled into a record; `None` if there is none yet.
    fn record(&self, py: Python<'_>, pulled: Pulled) -> PyResult<Option<Py<PyAny>>> {
        match pulled {
            Pulled::Frame(frame) => Ok(Some(Py::new(py, Frame::from(*frame))?.into_any())),
            Pulled::File(done) => Ok(Some(Py::new(py, FileSummary { done: *done })?.into_any())),
            Pulled::Warning(text) => {
                error::warn(py, &text)?;
                Ok(None)
            }
            Pulled::Nothing => Ok(None),
            Pulled::End(Some(error)) => Err(error::from(&error)),
            Pulled::End(None) => Err(PyStopIteration::new_err(())),
        }
    }
}

#[pymethods]
impl Run {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        process::enter()?;
        loop {
            let pulled = py.detach(|| self.shared.pull(SIGNAL_INTERVAL));
            if matches!(pulled, Pulled::Nothing) {
                self.check_signals(py)?;
            }
            if let Some(record) = self.record(py, pulled)? {
                return Ok(record);
            }
        }
    }

    fn __aiter__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        this.py().import("vx._asyncio")?.call_method1("Records", (this,))
    }

    /// Returns the next record, or None if there is none yet, without waiting.
    fn _poll(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        process::enter()?;
        let pulled = py.detach(|| self.shared.pull(Duration::ZERO));
        self.record(py, pulled)
    }

    /// Waits until `_poll` has something to return, at most for this number of seconds.
    fn _wait(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        process::enter()?;
        let timeout = Duration::try_from_secs_f64(seconds).unwrap_or(SIGNAL_INTERVAL);
        Ok(py.detach(|| self.shared.fill(timeout)))
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __aenter__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        this.py().import("vx._asyncio")?.call_method1("enter", (this,))
    }

    #[pyo3(signature = (*_exception))]
    fn __aexit__<'py>(
        this: &Bound<'py, Self>,
        _exception: &Bound<'py, pyo3::types::PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        this.py().import("vx._asyncio")?.call_method1("close", (this,))
    }

    /// Stops at once: files that are being read are abandoned and have no summary. Iteration ends.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        process::enter()?;
        py.detach(|| self.shared.close());
        Ok(())
    }

    /// Asks the run to stop at once, and does not wait for that.
    fn stop(&self) -> PyResult<()> {
        process::enter()?;
        self.shared.canceller.stop();
        Ok(())
    }

    /// Starts no other file and finishes those that are being read; iteration goes on to the end.
    fn finish(&self) -> PyResult<()> {
        process::enter()?;
        self.shared.canceller.finish();
        Ok(())
    }

    /// Names of the files to read.
    #[getter]
    fn files(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.overview(py, |overview| overview.files.clone())
    }

    /// Remarks on the search for files.
    #[getter]
    fn notes(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.overview(py, |overview| overview.notes.clone())
    }

    /// Other names of files that are read, and the names under which these are read.
    #[getter]
    fn duplicates(&self, py: Python<'_>) -> PyResult<Vec<(String, String)>> {
        self.overview(py, |overview| {
            overview.duplicates.iter().map(|other| (other.name.clone(), other.read_as.clone())).collect()
        })
    }

    /// Number of pictures in folders that were left out.
    #[getter]
    fn pictures_left_out(&self, py: Python<'_>) -> PyResult<usize> {
        self.overview(py, |overview| overview.pictures_left_out)
    }

    /// How far the files are that are being read: dictionaries with file, frames, detections and share (0 to 1).
    #[getter]
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        process::enter()?;
        let progress = py.detach(|| {
            let mut guard = self.shared.state.lock();
            guard.get_mut().map(|state| state.progress.clone()).unwrap_or_default()
        });
        progress
            .into_iter()
            .map(|file| {
                let each = PyDict::new(py);
                each.set_item("share", file.share())?;
                each.set_item("file", file.file)?;
                each.set_item("frames", file.frames)?;
                each.set_item("detections", file.detections)?;
                Ok(each)
            })
            .collect()
    }

    /// How the run ended; None before.
    #[getter]
    fn summary(&self, py: Python<'_>) -> PyResult<Option<Summary>> {
        process::enter()?;
        Ok(py.detach(|| {
            let mut guard = self.shared.state.lock();
            let state = guard.get_mut()?;
            Some(Summary { tally: state.tally, report: state.report.clone()? })
        }))
    }

    /// Summaries of the files whose detections were read as an Arrow stream.
    #[getter]
    fn file_summaries(&self, py: Python<'_>) -> PyResult<Vec<FileSummary>> {
        process::enter()?;
        let kept = py.detach(|| {
            let mut guard = self.shared.state.lock();
            guard.get_mut().map(|state| state.kept.clone()).unwrap_or_default()
        });
        Ok(kept.into_iter().map(|done| FileSummary { done }).collect())
    }

    /// Returns the detections that the run has not yet passed on as an Arrow stream: a row for each, in the schema of the Parquet tables.
    fn to_arrow(&self, py: Python<'_>) -> PyResult<ArrowStream> {
        process::enter()?;
        self.wait_for_start(py)?;
        Ok(ArrowStream::new(Arc::clone(&self.shared), self.handle.clone()))
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.to_arrow(py)?.__arrow_c_stream__(py, requested_schema)
    }
}

/// How a run ended.
#[pyclass(frozen, module = "vx")]
pub struct Summary {
    tally: Tally,
    report: Report,
}

#[pymethods]
impl Summary {
    /// Files that are done.
    #[getter]
    fn files(&self) -> usize {
        self.tally.files
    }

    /// Files that failed, among these.
    #[getter]
    fn failed(&self) -> usize {
        self.tally.failed
    }

    /// Damaged files, among these.
    #[getter]
    fn damaged(&self) -> usize {
        self.tally.damaged
    }

    /// Files whose results were in the cache, among these.
    #[getter]
    fn cached(&self) -> usize {
        self.tally.cached
    }

    /// Files without a result.
    #[getter]
    fn missing(&self) -> usize {
        self.report.missing
    }

    /// Frames that were passed on.
    #[getter]
    fn frames(&self) -> u64 {
        self.tally.frames
    }

    /// Detections on these.
    #[getter]
    fn detections(&self) -> u64 {
        self.tally.detections
    }

    /// Whether the run was stopped before all files were done.
    #[getter]
    fn is_cancelled(&self) -> bool {
        self.report.is_cancelled
    }

    /// The file that holds the results so far, if the output is not complete.
    #[getter]
    fn kept_in(&self) -> Option<PathBuf> {
        self.report.kept_in.clone()
    }

    /// The engine: model, provider, device, precision, sessions, intra_op_threads, model_loads, lanes, decoder_threads. None if no file was
    /// read in this process.
    #[getter]
    fn engine<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.report.engine.as_ref().map(|engine| describe(py, engine)).transpose()
    }

    /// Worker processes that were started, with `isolate`.
    #[getter]
    fn workers(&self) -> Option<usize> {
        self.report.workers.map(|workers| workers.started)
    }

    fn __repr__(&self) -> String {
        let Tally { files, failed, damaged, frames, detections, .. } = self.tally;
        format!("Summary(files={files}, failed={failed}, damaged={damaged}, frames={frames}, detections={detections})")
    }
}

/// Returns the report of an engine as a dictionary.
pub fn describe<'py>(py: Python<'py>, engine: &run::EngineReport) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("model", &engine.model)?;
    fields.set_item("provider", &engine.provider)?;
    fields.set_item("device", &engine.device)?;
    fields.set_item("precision", &engine.precision)?;
    fields.set_item("sessions", engine.sessions)?;
    fields.set_item("intra_op_threads", engine.intra_op_threads)?;
    fields.set_item("model_loads", engine.model_loads)?;
    fields.set_item("lanes", engine.lanes)?;
    fields.set_item("decoder_threads", engine.decoder_threads)?;
    Ok(fields)
}

/// What a run would read, with which model and how many threads.
#[pyclass(frozen, module = "vx")]
pub struct Plan {
    plan: run::Plan,
}

#[pymethods]
impl Plan {
    /// Names of the files to read.
    #[getter]
    fn files(&self) -> Vec<String> {
        self.plan.files.clone()
    }

    /// Bytes of all files.
    #[getter]
    fn bytes(&self) -> u64 {
        self.plan.bytes
    }

    /// The model.
    #[getter]
    fn model(&self) -> &str {
        &self.plan.model
    }

    /// Layout of its output.
    #[getter]
    fn layout(&self) -> &str {
        &self.plan.layout
    }

    /// Execution provider.
    #[getter]
    fn provider(&self) -> &str {
        &self.plan.provider
    }

    /// Kind of device.
    #[getter]
    fn device(&self) -> &str {
        &self.plan.device
    }

    /// Number format of the arithmetic.
    #[getter]
    fn precision(&self) -> &str {
        &self.plan.precision
    }

    /// Files read side by side.
    #[getter]
    fn lanes(&self) -> usize {
        self.plan.lanes
    }

    /// Bytes of memory to plan with; None where that is not known.
    #[getter]
    fn memory(&self) -> Option<u64> {
        self.plan.memory
    }

    fn __repr__(&self) -> String {
        format!("Plan(files={}, bytes={}, lanes={})", self.plan.files.len(), self.plan.bytes, self.plan.lanes)
    }
}
