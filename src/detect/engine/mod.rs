//! The engine: a model, its sessions and their workers, shared by everyone in the process who asks for the same.
//!
//! Owns opening and closing; the work is the workers'. [`Engine`] is a handle: cheap to clone, usable from any thread. The
//! last handle to go closes the queue, lets the jobs in it be answered with [`Error::EngineClosed`] and waits for the workers;
//! one whose run does not end is left to itself.

mod batches;
pub mod job;
pub mod loading;
pub mod plan;
mod registry;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use parking_lot::{Condvar, Mutex};

use crate::detect::detection::DetectSettings;
use crate::detect::error::{Error, Result, panic_message};
use crate::detect::model::description::Model;
use crate::detect::onnx::file::{ModelBytes, ModelSource};
use crate::detect::onnx::modelinfo;
use crate::detect::pixels::picture::Frame;
use crate::detect::runtime::cancel::Cancel;
use crate::detect::runtime::library::Runtime;
use crate::detect::runtime::provider::{Provider, ProviderReport, choose};
use crate::detect::runtime::session::{Session, Setup};
use crate::detect::runtime::shutdown::{self, Busy};
use crate::memory;
use job::{Answers, Job, LOOK, Ticket};
use loading::{Opened, cpu_setup, open_first};
use plan::{EngineSpec, Plan};
use registry::Key;
use worker::{Alive, Rescue, Shared, Totals, Worker};

/// A running detector; see the module.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// Sums since an engine was opened, over all its users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Frames answered with detections (none found included).
    pub frames: u64,
    /// Frames answered with an error.
    pub failures: u64,
    /// Runs of the model.
    pub batches: u64,
    /// Waiting in the queue, summed over frames.
    pub queued: Duration,
    /// Pixels to model input, summed over frames.
    pub prepare: Duration,
    /// The model, summed over batches.
    pub infer: Duration,
    /// Output to detections, summed over frames.
    pub decode: Duration,
    /// Models loaded in this process so far, by any engine.
    pub model_loads: u64,
    /// Handles to this engine.
    pub users: usize,
    /// Sessions that are open; those beyond the first open in the background.
    pub sessions: usize,
    /// Why sessions that were planned could not be opened.
    pub missing_sessions: Option<String>,
    /// Why the CPU provider has taken over from another while running.
    pub rescued: Option<String>,
}

static MODEL_LOADS: AtomicU64 = AtomicU64::new(0);

/// What the handles share; dropped with the last of them.
#[derive(Debug)]
pub(super) struct Inner {
    key: Key,
    shared: Arc<Shared>,
    report: ProviderReport,
    queue: Sender<Job>,
    /// The workers' end of the queue, until the engine stops.
    jobs: Mutex<Option<Receiver<Job>>>,
    answers: Arc<Answers>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    /// Workers stop when it is dropped.
    running: Mutex<Option<Sender<Never>>>,
    /// Sessions that are opened in the background.
    late: Mutex<Vec<Arc<Cancel>>>,
}

/// What is never sent.
#[derive(Debug)]
pub(super) enum Never {}

/// How long closing an engine waits for its workers: a model may run for ever.
const PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// The providers that would be tried for `spec`, in this order, in words. What they are, and ONNX Runtime's version, decides
    /// on results beside the model and the settings.
    ///
    /// # Errors
    /// Where the model cannot be read, or the provider is not there.
    pub fn candidates(runtime: &'static Runtime, spec: &EngineSpec) -> Result<String> {
        let model = spec.model.read(None)?;
        let choices = choose(&spec.provider, &spec.tuning, runtime, &spec.provider_dirs, model.is_quantised)?;
        let names = choices.iter().map(|choice| match &choice.library {
            Some(library) => format!("{} ({})", choice.provider, library.display()),
            None => choice.provider.to_string(),
        });
        Ok(format!("ONNX Runtime {}: {}", runtime.version(), names.collect::<Vec<_>>().join(", ")))
    }

    /// An engine for `spec`: the running one if there is one for the same model content, provider and plan, else a new one.
    ///
    /// Blocks while the model is read and its first session opened; whoever asks for the same meanwhile waits for it and gets
    /// the same engine, or the same error.
    ///
    /// # Errors
    /// Whatever keeps the model from being read, run or understood, or the provider from being used.
    pub fn acquire(runtime: &'static Runtime, spec: &EngineSpec) -> Result<Self> {
        shutdown::stop_engines_with(registry::stop_all);
        shutdown::arm("ONNX Runtime");
        let model = spec.model.read(memory::budget(spec.memory_limit))?;
        spec.tuning.device()?;
        let choices = choose(&spec.provider, &spec.tuning, runtime, &spec.provider_dirs, model.is_quantised)?;
        let is_device = choices.first().is_some_and(|choice| choice.provider.is_device());
        let key = Key {
            model: model.identity.clone(),
            choices,
            plan: Plan::new(spec, num_cpus::get(), is_device),
            batch_timeout: spec.batch_timeout,
            pin_threads: spec.pin_threads,
            tuning: spec.tuning.clone(),
            reading: spec.reading,
            modelinfo: match &spec.model {
                ModelSource::File(path) => modelinfo::beside(path)?,
                _ => String::new(),
            },
        };
        let (name, spec, own_key) = (model.name.clone(), spec.clone(), key.clone());
        let limit = spec.load_timeout;
        let inner = registry::get_or_open(&key, &name, limit, move |cancel| {
            catch_unwind(AssertUnwindSafe(|| Inner::open(runtime, model, &spec, own_key, cancel)))
                .unwrap_or_else(|panic| Err(Error::WorkerPanicked { reason: panic_message(panic.as_ref()) }))
        })?;
        Ok(Self { inner })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.inner.shared.model
    }

    /// What it runs on.
    pub fn provider(&self) -> &ProviderReport {
        &self.inner.report
    }

    /// Queues a frame. Blocks only while the queue is full.
    pub fn submit(&self, frame: Box<dyn Frame>, settings: Arc<DetectSettings>) -> Ticket {
        self.submit_while(frame, settings, || true)
    }

    /// Queues a frame. Blocks while the queue is full and `goes_on` says so; without room the ticket is answered with
    /// [`Error::EngineClosed`].
    pub fn submit_while(
        &self,
        frame: Box<dyn Frame>,
        settings: Arc<DetectSettings>,
        goes_on: impl Fn() -> bool,
    ) -> Ticket {
        let (mut job, ticket) = Job::new(frame, settings, &self.inner.answers);
        while !self.inner.shared.is_closing.load(Ordering::Acquire) {
            match self.inner.queue.send_timeout(job, LOOK) {
                Err(SendTimeoutError::Timeout(again)) if goes_on() => job = again,
                // A job that is refused answers its ticket when it is dropped.
                _ => break,
            }
        }
        ticket
    }

    /// Sums so far.
    pub fn stats(&self) -> EngineStats {
        let totals = self.inner.shared.totals.lock().clone();
        EngineStats {
            frames: totals.frames,
            failures: totals.failures,
            batches: totals.batches,
            queued: totals.queued,
            prepare: totals.prepare,
            infer: totals.infer,
            decode: totals.decode,
            model_loads: MODEL_LOADS.load(Ordering::Relaxed),
            users: Arc::strong_count(&self.inner),
            sessions: totals.sessions,
            missing_sessions: totals.missing_sessions,
            rescued: totals.rescued,
        }
    }
}

impl Inner {
    fn open(
        runtime: &'static Runtime,
        model: ModelBytes,
        spec: &EngineSpec,
        key: Key,
        cancel: &Cancel,
    ) -> Result<Self> {
        let Opened { model: description, session, setup, overrides, report, plan } =
            open_first(runtime, &model, &key.choices, spec, &key.modelinfo, cancel)?;
        shutdown::arm(&report.name);
        MODEL_LOADS.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared {
            model: description,
            batch_timeout: spec.batch_timeout,
            has_complained: AtomicBool::new(false),
            repetition: Mutex::default(),
            is_closing: AtomicBool::new(false),
            provider: report.name.clone(),
            alive: Mutex::new(0),
            changed: Condvar::new(),
            totals: Mutex::new(Totals { sessions: 1, ..Totals::default() }),
        });
        let room = (2 * plan.sessions * report.batch_size).max(4);
        let (sender, receiver) = bounded(room);
        // Waiting at a channel without room allocates.
        let (running, stopped) = bounded(1);
        // Built before the threads start, so that a thread that cannot be started leaves none behind.
        let inner = Self {
            key,
            shared: Arc::clone(&shared),
            report,
            queue: sender,
            jobs: Mutex::new(Some(receiver.clone())),
            answers: Arc::default(),
            workers: Mutex::new(Vec::with_capacity(plan.sessions)),
            running: Mutex::new(Some(running)),
            late: Mutex::default(),
        };
        let model = Arc::new(model);
        // Under a choice of several another one may still take over; one that was asked for by name may not.
        let may_fall_back = inner.key.choices.len() > 1 && inner.report.provider != Provider::Cpu;
        let rescue = may_fall_back.then(|| Rescue {
            runtime,
            model: Arc::clone(&model),
            setup: cpu_setup(runtime, spec, Plan::new(spec, num_cpus::get(), false)),
        });
        let first = Worker::new(Arc::clone(&shared), session, plan.batch_size, rescue.clone())?;
        let (queue, stop) = (receiver.clone(), stopped.clone());
        let pinned = |index: usize| spec.pin_threads.then_some(index * plan.intra_op_threads);
        let core = pinned(0);
        inner.start(0, move || {
            pin(core);
            first.run(&queue, &stop);
        })?;
        for index in 1..plan.sessions {
            let cancel = Arc::<Cancel>::default();
            inner.late.lock().push(Arc::clone(&cancel));
            let late = LateWorker {
                runtime,
                cancel,
                stop: stopped.clone(),
                model: Arc::clone(&model),
                setup: setup.for_core(pinned(index)),
                overrides: overrides.clone(),
                shared: Arc::clone(&shared),
                queue: receiver.clone(),
                batch_size: plan.batch_size,
                rescue: rescue.clone(),
            };
            let core = pinned(index);
            inner.start(index, move || {
                pin(core);
                late.run();
            })?;
        }
        Ok(inner)
    }

    fn start(&self, index: usize, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let alive = Alive::new(&self.shared);
        let thread = std::thread::Builder::new()
            .name(format!("vxdetect-{index}"))
            .spawn(move || {
                let Some(busy) = Busy::new() else { return };
                work();
                drop(busy);
                drop(alive);
            })
            .map_err(|error| Error::NoThread { reason: error.to_string() })?;
        self.workers.lock().push(thread);
        Ok(())
    }
}

impl Inner {
    /// Lets the workers end without waiting for them: what is queued is answered, nothing more is taken. Their threads.
    pub(crate) fn stop(&self) -> Vec<JoinHandle<()>> {
        self.shared.is_closing.store(true, Ordering::Release);
        let running = self.running.lock().take();
        drop(running);
        self.late.lock().iter().for_each(|cancel| cancel.cancel());
        // A worker whose run does not end would keep what is queued from being answered.
        let jobs = self.jobs.lock().take();
        jobs.iter().for_each(|jobs| jobs.try_iter().for_each(drop));
        std::mem::take(&mut *self.workers.lock())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A frame may own the last handle, and be dropped by a worker, which cannot wait for itself.
        let me = std::thread::current().id();
        let (own, others): (Vec<_>, Vec<_>) = self.stop().into_iter().partition(|thread| thread.thread().id() == me);
        if self.shared.wait_for_workers(own.len(), PATIENCE) {
            others.into_iter().for_each(|thread| drop(thread.join()));
        }
        registry::forget(&self.key, self);
    }
}

/// Ties this thread to a processor core; where that cannot be done the system goes on deciding.
fn pin(core: Option<usize>) {
    let Some(core) = core else { return };
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(id) = cores.get(core % cores.len().max(1)) {
        core_affinity::set_for_current(*id);
    }
}

/// A worker that opens its session in its own thread, while the first already works.
struct LateWorker {
    runtime: &'static Runtime,
    cancel: Arc<Cancel>,
    stop: Receiver<Never>,
    model: Arc<ModelBytes>,
    setup: Setup,
    overrides: Vec<(String, usize)>,
    shared: Arc<Shared>,
    queue: Receiver<Job>,
    batch_size: usize,
    rescue: Option<Rescue>,
}

impl LateWorker {
    fn run(self) {
        let Self { runtime, cancel, stop, model, setup, overrides, shared, queue, batch_size, rescue } = self;
        if shared.is_closing.load(Ordering::Acquire) {
            return;
        }
        let opened =
            catch_unwind(AssertUnwindSafe(|| Session::open(runtime, &model, &setup, &overrides, None, Some(&cancel))))
                .map_err(|panic| panic_message(panic.as_ref()))
                .and_then(|opened| opened.map(|(session, _)| session).map_err(|error| error.reason));
        drop(model);
        let worker = opened.and_then(|session| {
            Worker::new(Arc::clone(&shared), session, batch_size, rescue).map_err(|error| error.to_string())
        });
        match worker {
            Ok(worker) => {
                shared.totals.lock().sessions += 1;
                worker.run(&queue, &stop);
            }
            Err(reason) => shared.totals.lock().missing_sessions = Some(reason),
        }
    }
}
