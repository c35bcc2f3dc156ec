// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine: a model, its sessions and their workers, shared by all users in the process with the same specification.
//!
//! Owns opening and closing; workers run the model. [`Engine`] is a handle: cheap to clone, usable from any thread. Dropping the
//! last handle closes the queue, answers the jobs in it with [`Error::EngineClosed`] and waits for the workers; a worker whose
//! run does not end is detached.

mod batches;
mod findings;
pub mod job;
pub mod loading;
pub mod plan;
mod queue;
mod registry;
mod sizes;
mod sync;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::detect::cache::ModelCache;
use crate::detect::detection::DetectSettings;
use crate::detect::error::{Error, Result, panic_message};
use crate::detect::model::description::{Batch, Model};
use crate::detect::onnx::file::{ModelBytes, ModelSource};
use crate::detect::onnx::modelinfo;
use crate::detect::pixels::picture::Frame;
use crate::detect::runtime::cancel::CancelToken;
use crate::detect::runtime::library::Runtime;
use crate::detect::runtime::provider::{Provider, ProviderChoice, ProviderReport, choose};
use crate::detect::runtime::session::Setup;
use crate::detect::runtime::shutdown::{self, RuntimeGuard};
use crate::memory;
use job::{Job, OnAnswer, ResultSlots, Ticket};
use loading::{OpenedModel, cpu_setup, open_first};
use plan::{EngineSpec, SessionMemory, ThreadPlan};
use queue::JobQueue;
use registry::Key;
use sizes::{SizedModel, Sizes};
use worker::{Counters, SessionOpener, Shared, SizedSession, Worker, WorkerGuard};

/// A running detector; see the module.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// Statistics of an engine since it was opened, over all its users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Frames answered without an error.
    pub frames: u64,
    /// Frames answered with an error.
    pub failures: u64,
    /// Runs of the model.
    pub batches: u64,
    /// Time in the queue, summed over frames.
    pub queued: Duration,
    /// Time to prepare frames, summed over frames.
    pub prepare: Duration,
    /// Time to run the model, summed over batches.
    pub infer: Duration,
    /// Time to decode outputs, summed over frames.
    pub decode: Duration,
    /// Models loaded in this process so far, by any engine.
    pub model_loads: u64,
    /// Handles to this engine.
    pub users: usize,
    /// Open sessions. All but the first are opened in the background; the first one too, if the model is known from an earlier
    /// start, but it counts from the beginning.
    pub sessions: usize,
    /// Estimated bytes of all sessions, for all input sizes that may be in use.
    pub session_memory: u64,
    /// Why planned sessions could not be opened.
    pub missing_sessions: Option<String>,
    /// Why the engine fell back to the CPU provider while running.
    pub cpu_fallback: Option<String>,
    /// Why the model does not run at a size that fits the frames ([`InputSize::Auto`](crate::detect::InputSize::Auto)).
    pub refused_size: Option<String>,
    /// Why nothing, or not everything, is kept for later starts ([`EngineSpec::cache_dir`]).
    pub cache_problem: Option<String>,
}

static MODEL_LOADS: AtomicU64 = AtomicU64::new(0);

/// The state that all handles share; dropped with the last of them.
#[derive(Debug)]
pub(super) struct Inner {
    key: Key,
    shared: Arc<Shared>,
    report: ProviderReport,
    memory: SessionMemory,
    answers: Arc<ResultSlots>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    /// Sessions that are being opened in the background.
    opening: Mutex<Vec<Arc<CancelToken>>>,
    /// The folder for later starts, or why it cannot be used.
    cache: Option<Result<ModelCache, String>>,
}

/// How long closing an engine waits for its workers: a model may run for ever.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Engine {
    /// Returns ONNX Runtime's version and the providers that would be tried for `spec`, in this order, as text. Results depend on
    /// them as well as on model and settings.
    ///
    /// # Errors
    /// If the model cannot be read or the provider is not available.
    pub fn candidates(runtime: &'static Runtime, spec: &EngineSpec) -> Result<String> {
        let model = spec.model.read(None)?;
        let choices = choose(&spec.provider, &spec.tuning, runtime, &spec.provider_dirs, model.is_quantised)?;
        let names = choices.iter().map(|choice| match &choice.library {
            Some(library) => format!("{} ({})", choice.provider, library.display()),
            None => choice.provider.to_string(),
        });
        Ok(format!("ONNX Runtime {}: {}", runtime.version(), names.collect::<Vec<_>>().join(", ")))
    }

    /// Returns an engine for `spec`: a running one with the same model content, provider and plan, or a new one.
    ///
    /// Blocks while the model is read and its first session is opened; other callers with the same specification wait for it and
    /// get the same engine, or the same error.
    ///
    /// # Errors
    /// If the model cannot be read, run or identified, or the provider cannot be used.
    pub fn acquire(runtime: &'static Runtime, spec: &EngineSpec) -> Result<Self> {
        shutdown::stop_engines_with(registry::stop_all);
        shutdown::arm("ONNX Runtime");
        let model = spec.model.read(memory::budget(spec.memory_limit))?;
        spec.tuning.device()?;
        let choices = choose(&spec.provider, &spec.tuning, runtime, &spec.provider_dirs, model.is_quantised)?;
        let is_device = choices.first().is_some_and(|choice| choice.provider.is_device());
        let max_sessions = choices.first().map_or(usize::MAX, ProviderChoice::max_sessions);
        let key = Key {
            model: model.identity.clone(),
            choices,
            plan: ThreadPlan::new(spec, num_cpus::get(), is_device).with_max_sessions(max_sessions),
            batch_timeout: spec.batch_timeout,
            pin_threads: spec.pin_threads,
            tuning: spec.tuning.clone(),
            hints: spec.hints,
            modelinfo: match &spec.model {
                ModelSource::File(path) => modelinfo::beside(path)?,
                _ => String::new(),
            },
        };
        let (name, spec, own_key) = (model.name.clone(), spec.clone(), key.clone());
        let limit = spec.load_timeout;
        let inner = registry::get_or_open(&key, &name, limit, move |cancel| {
            catch_unwind(AssertUnwindSafe(|| Inner::open(runtime, Arc::new(model), &spec, own_key, cancel)))
                .unwrap_or_else(|panic| Err(Error::WorkerPanicked { reason: panic_message(panic.as_ref()) }))
        })?;
        Ok(Self { inner })
    }

    /// Whether both are handles of one engine.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Returns the model.
    pub fn model(&self) -> &Model {
        self.inner.shared.model()
    }

    /// Returns what the engine runs on.
    pub fn provider(&self) -> &ProviderReport {
        &self.inner.report
    }

    /// Announces frames of this width and height, before the first is submitted: the workers open the sessions for them meanwhile.
    pub fn expect(&self, frame: (usize, usize)) {
        let sizes = &self.inner.shared.sizes;
        sizes.submitted(sizes.size_for(Some(frame)));
    }

    /// Queues a frame. Blocks only while the queue is full.
    pub fn submit(&self, frame: Box<dyn Frame>, settings: Arc<DetectSettings>) -> Ticket {
        self.submit_while(frame, settings, None, || true)
    }

    /// Queues a frame. Blocks while the queue is full and `keep_waiting` returns true; if it is still full then, the ticket is
    /// answered with [`Error::EngineClosed`].
    pub fn submit_while(
        &self,
        frame: Box<dyn Frame>,
        settings: Arc<DetectSettings>,
        on_answer: Option<OnAnswer>,
        keep_waiting: impl Fn() -> bool,
    ) -> Ticket {
        let (job, ticket) = self.job(frame, settings, on_answer);
        // A rejected job answers its ticket when it is dropped.
        drop(self.inner.shared.queue.push(job, keep_waiting));
        ticket
    }

    /// Queues a frame if the queue has room. `on_answer` is called in any case, with `false` if the frame was not queued.
    pub fn try_submit(
        &self,
        frame: Box<dyn Frame>,
        settings: Arc<DetectSettings>,
        on_answer: OnAnswer,
    ) -> Option<Ticket> {
        let (job, ticket) = self.job(frame, settings, Some(on_answer));
        self.inner.shared.queue.try_push(job).is_ok().then_some(ticket)
    }

    fn job(&self, frame: Box<dyn Frame>, settings: Arc<DetectSettings>, on_answer: Option<OnAnswer>) -> (Job, Ticket) {
        let sizes = &self.inner.shared.sizes;
        let size = sizes.size_for(frame.size());
        sizes.submitted(size);
        Job::new(frame, size, settings, on_answer, &self.inner.answers)
    }

    /// Returns the statistics.
    pub fn stats(&self) -> EngineStats {
        let counters = self.inner.shared.counters.lock().clone();
        EngineStats {
            frames: counters.frames,
            failures: counters.failures,
            batches: counters.batches,
            queued: counters.queued,
            prepare: counters.prepare,
            infer: counters.infer,
            decode: counters.decode,
            model_loads: MODEL_LOADS.load(Ordering::Relaxed),
            users: Arc::strong_count(&self.inner),
            sessions: counters.sessions,
            session_memory: self.inner.memory.bytes,
            missing_sessions: counters.missing_sessions,
            cpu_fallback: counters.cpu_fallback,
            refused_size: self.inner.shared.sizes.refused(),
            cache_problem: match &self.inner.cache {
                Some(Ok(cache)) => cache.problem(),
                Some(Err(reason)) => Some(reason.clone()),
                None => None,
            },
        }
    }
}

impl Inner {
    fn open(
        runtime: &'static Runtime,
        model: Arc<ModelBytes>,
        spec: &EngineSpec,
        key: Key,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let cache = spec.cache_dir.as_deref().map(ModelCache::open);
        let usable = cache.as_ref().and_then(|cache| cache.as_ref().ok());
        let OpenedModel { model: description, session, size, setup, overrides, report, plan, verdicts } =
            open_first(runtime, &model, &key.choices, spec, &key.modelinfo, cancel, usable)?;
        shutdown::arm(&report.name);
        MODEL_LOADS.fetch_add(1, Ordering::Relaxed);
        let exported = SizedModel::exported(description, model, overrides);
        let room = (2 * plan.sessions * report.batch_size).max(4);
        let shared = Arc::new(Shared {
            sizes: Sizes::new(exported, spec.hints.size, &report.provider, plan.batch_size),
            queue: JobQueue::new(room, spec.batch_timeout),
            has_warned: AtomicBool::new(false),
            repetition: Mutex::default(),
            provider: report.name.clone(),
            running: Mutex::new(0),
            changed: Condvar::new(),
            counters: Mutex::new(Counters { sessions: 1, ..Counters::default() }),
        });
        let exported = shared.sizes.exported();
        let images = match exported.model.batch {
            Batch::Fixed(count) => count,
            Batch::Dynamic => plan.batch_size,
        };
        let pixels = (exported.model.width * exported.model.height * images) as u64;
        let budget = memory::budget(spec.memory_limit);
        let memory = SessionMemory::plan(budget, exported.length(), pixels, plan.sessions, shared.sizes.kept());
        // Built before the threads start, so that all are stopped if one cannot be started.
        let inner = Self {
            key,
            shared: Arc::clone(&shared),
            report,
            memory,
            answers: Arc::default(),
            workers: Mutex::new(Vec::with_capacity(plan.sessions)),
            opening: Mutex::default(),
            cache,
        };
        // The CPU provider may replace an automatically chosen provider, but not one that was requested by name.
        let may_fall_back = inner.key.choices.len() > 1 && inner.report.provider != Provider::Cpu;
        let fallback = may_fall_back.then(|| cpu_setup(runtime, spec, ThreadPlan::new(spec, num_cpus::get(), false)));
        let pinned = |index: usize| spec.pin_threads.then_some(index * plan.intra_op_threads);
        let opener = |index: usize| {
            let cancel = Arc::<CancelToken>::default();
            inner.opening.lock().push(Arc::clone(&cancel));
            let (setup, verdicts) = (setup.for_core(pinned(index)), verdicts.clone());
            let (batch_size, max_sessions) = (plan.batch_size, memory.sizes);
            SessionOpener { runtime, setup, cancel, batch_size, max_sessions, verdicts }
        };
        let open = |session| SizedSession::new(shared.sizes.known(size), session, plan.batch_size);
        let session = session.map(open).transpose();
        let session = session.map_err(|reason| Error::Inference { model: shared.model().source.clone(), reason })?;
        let first = Worker::new(Arc::clone(&shared), opener(0), session, fallback.clone());
        let core = pinned(0);
        inner.start(0, move || {
            pin(core);
            first.run();
        })?;
        for index in 1..plan.sessions {
            let worker =
                BackgroundWorker { opener: opener(index), shared: Arc::clone(&shared), fallback: fallback.clone() };
            let core = pinned(index);
            inner.start(index, move || {
                pin(core);
                worker.run();
            })?;
        }
        Ok(inner)
    }

    fn start(&self, index: usize, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let guard = WorkerGuard::new(&self.shared);
        let thread = std::thread::Builder::new()
            .name(format!("vxdetect-{index}"))
            .spawn(move || {
                let Some(runtime_guard) = RuntimeGuard::new() else { return };
                work();
                drop(runtime_guard);
                drop(guard);
            })
            .map_err(|error| Error::NoThread { reason: error.to_string() })?;
        self.workers.lock().push(thread);
        Ok(())
    }
}

impl Inner {
    /// Stops the workers without waiting for them: queued jobs are answered, no further jobs are accepted. Returns their threads.
    pub(crate) fn stop(&self) -> Vec<JoinHandle<()>> {
        // Queued jobs are answered here, because a worker's run may not end.
        self.shared.queue.close();
        self.opening.lock().iter().for_each(|cancel| cancel.cancel());
        std::mem::take(&mut *self.workers.lock())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A frame may own the last handle and be dropped by a worker, which cannot wait for itself.
        let me = std::thread::current().id();
        let (own, others): (Vec<_>, Vec<_>) = self.stop().into_iter().partition(|thread| thread.thread().id() == me);
        if self.shared.wait_for_workers(own.len(), CLOSE_TIMEOUT) {
            others.into_iter().for_each(|thread| drop(thread.join()));
        }
        registry::remove(&self.key, self);
    }
}

/// Pins this thread to a processor core, if the system allows it.
fn pin(core: Option<usize>) {
    let Some(core) = core else { return };
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(id) = cores.get(core % cores.len().max(1)) {
        core_affinity::set_for_current(*id);
    }
}

/// A worker that opens its session on its own thread while the first worker already runs.
struct BackgroundWorker {
    opener: SessionOpener,
    shared: Arc<Shared>,
    fallback: Option<Setup>,
}

impl BackgroundWorker {
    fn run(self) {
        let Self { opener, shared, fallback } = self;
        let Some(sized) = shared.sizes.wait_for_first(|| shared.queue.is_closed()) else { return };
        let opened = catch_unwind(AssertUnwindSafe(|| opener.open(&sized)))
            .unwrap_or_else(|panic| Err(panic_message(panic.as_ref())));
        match opened {
            Ok(session) => {
                shared.counters.lock().sessions += 1;
                Worker::new(Arc::clone(&shared), opener, Some(session), fallback).run();
            }
            Err(reason) => shared.counters.lock().missing_sessions = Some(reason),
        }
    }
}
