// SPDX-License-Identifier: MIT OR Apache-2.0
//! A worker thread: takes jobs from the queue, runs its session and answers.
//!
//! Owns the order prepare, run, decode, and ensures that a failing or panicking job does not affect others. Each worker has its own
//! session, input tensor and memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::findings::Verdicts;
use super::job::{FrameResult, Job};
use super::queue::JobQueue;
use super::sizes::{COMPARED, Size, SizedModel, Sizes, difference};
use crate::detect::detection::{DetectSettings, Detection};
use crate::detect::error::{Error, panic_message};
use crate::detect::layouts::Outputs;
use crate::detect::layouts::decoder::Decoder;
use crate::detect::layouts::sanity::{CHECKED_RUNS, RepetitionCheck, check_outputs, sample};
use crate::detect::layouts::task::Task;
use crate::detect::model::description::{Batch, Model, max_images};
use crate::detect::model::identification::photograph;
use crate::detect::pixels::input_format::InputFormat;
use crate::detect::pixels::letterbox::Letterbox;
use crate::detect::pixels::picture::{Area, Picture};
use crate::detect::pixels::preparer::Preparer;
use crate::detect::runtime::binding::InputTensor;
use crate::detect::runtime::cancel::CancelToken;
use crate::detect::runtime::library::Runtime;
use crate::detect::runtime::session::{Session, Setup};
use crate::detect::runtime::shutdown;

/// The state that the workers and the handles of one engine share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The model at each of its input sizes.
    pub sizes: Sizes,
    /// Closed when the last handle is dropped.
    pub queue: JobQueue,
    /// Whether a fault in the model's outputs has been reported.
    pub has_warned: AtomicBool,
    /// Compares the first frames of all workers.
    pub repetition: Mutex<RepetitionCheck>,
    /// ONNX Runtime's name of the provider.
    pub provider: String,
    /// Running worker threads.
    pub running: Mutex<usize>,
    /// Signals changes of `running`.
    pub changed: Condvar,
    pub counters: Mutex<Counters>,
}

impl Shared {
    /// Returns the model at the size that it was opened with.
    pub fn model(&self) -> &Model {
        &self.sizes.exported().model
    }

    /// Waits until at most `left` workers are running; returns false after `timeout`.
    pub fn wait_for_workers(&self, left: usize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut running = self.running.lock();
        let mut is_late = false;
        while *running > left && !is_late {
            is_late = self.changed.wait_until(&mut running, deadline).timed_out();
        }
        let is_done = *running <= left;
        drop(running);
        is_done
    }
}

/// Counts a worker thread as running until it is dropped.
pub(super) struct WorkerGuard(Arc<Shared>);

impl WorkerGuard {
    pub fn new(shared: &Arc<Shared>) -> Self {
        *shared.running.lock() += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        let mut running = self.0.running.lock();
        *running -= 1;
        let is_last = *running == 0;
        drop(running);
        if is_last {
            // No worker takes further jobs, for example after a panic.
            self.0.queue.close();
        }
        self.0.changed.notify_all();
    }
}

/// Counters since the engine was opened.
#[derive(Debug, Default, Clone)]
pub(super) struct Counters {
    pub frames: u64,
    pub failures: u64,
    pub batches: u64,
    pub queued: Duration,
    pub prepare: Duration,
    pub infer: Duration,
    pub decode: Duration,
    /// Open sessions.
    pub sessions: usize,
    /// Why planned sessions could not be opened.
    pub missing_sessions: Option<String>,
    /// Why the engine fell back to the CPU provider.
    pub cpu_fallback: Option<String>,
}

/// How a worker opens its sessions.
#[derive(Clone)]
pub(super) struct SessionOpener {
    pub runtime: &'static Runtime,
    pub setup: Setup,
    pub cancel: Arc<CancelToken>,
    /// Most images in one run of a model with a dynamic batch.
    pub batch_size: usize,
    /// Most sessions of a worker, each for another input size.
    pub max_sessions: usize,
    /// What earlier starts found out about other input sizes.
    pub verdicts: Option<Verdicts>,
}

impl SessionOpener {
    /// Opens a session for `sized`.
    pub fn open(&self, sized: &Arc<SizedModel>) -> Result<SizedSession, String> {
        let bytes = sized.bytes()?;
        let open = || Session::open(self.runtime, &bytes, &self.setup, &sized.overrides, None, Some(&self.cancel));
        let (session, _) = shutdown::while_loading(open).map_err(|error| error.reason)?;
        SizedSession::new(Arc::clone(sized), session, self.batch_size)
    }
}

/// A session for one input size, with its input tensor.
pub(super) struct SizedSession {
    sized: Arc<SizedModel>,
    session: Session,
    format: InputFormat,
    input: InputTensor,
    /// For each image of the input: the letterbox whose padding it contains.
    padded: Vec<Option<Letterbox>>,
    /// Images of each run, if the model has a fixed batch.
    fixed_batch: Option<usize>,
    capacity: usize,
}

impl SizedSession {
    /// The error is a reason: there is not enough memory for the model's input.
    pub fn new(sized: Arc<SizedModel>, mut session: Session, batch_size: usize) -> Result<Self, String> {
        let model = &sized.model;
        if model.layout.is_dense() {
            session.expect_same_shapes();
        }
        let format = model.input_format();
        let fixed_batch = match model.batch {
            Batch::Fixed(count) => Some(count),
            Batch::Dynamic => None,
        };
        let limit = max_images(format.width, format.height);
        let capacity = fixed_batch.unwrap_or_else(|| batch_size.clamp(1, limit));
        let input = session.input(capacity, &model.input)?;
        Ok(Self { sized, session, format, input, padded: vec![None; capacity], fixed_batch, capacity })
    }

    /// Detects objects in one picture, placed as frames are: a model whose results do not follow the picture's place in the input, for
    /// example because coordinates are stored in it, must differ between two sizes. The error is a reason.
    fn detect(&mut self, picture: &Picture<'_>, settings: &DetectSettings) -> Result<Vec<Detection>, String> {
        let images = self.fixed_batch.unwrap_or(1);
        let mut preparer = Preparer::default();
        let fit = preparer.prepare(picture, &self.format, self.input.slot(0), &mut self.padded[0]);
        let (model, size) = (&self.sized.model, self.sized.size());
        self.session.run(&self.input, images, &model.read_outputs, |views| {
            let outputs = Outputs { views, images };
            if !model.layout.reader().accepts(outputs, size) {
                return Err("its outputs then have other shapes than expected".to_owned());
            }
            Ok(Decoder::default().decode(&model.layout, model.task, outputs, 0, settings, &fit))
        })?
    }
}

/// A worker.
pub(super) struct Worker {
    shared: Arc<Shared>,
    opener: SessionOpener,
    /// The most recently used last; that of the current jobs while they are processed.
    sessions: Vec<SizedSession>,
    /// The setup for the CPU provider, which replaces a provider that fails while it runs; used at most once.
    fallback: Option<Setup>,
    preparer: Preparer,
    decoder: Decoder,
    /// All for the same input size.
    jobs: Vec<Job>,
    /// Empty between runs.
    prepared: Vec<Prepared>,
    /// Runs whose outputs were checked.
    checked_runs: u32,
}

/// A job whose pixels are in the input tensor.
struct Prepared {
    /// Index in the list of jobs.
    job: usize,
    fit: Letterbox,
    /// Width and height of the frame; a classifier is given its central part.
    frame: (usize, usize),
    /// A sample of its pixels, for the first frames.
    sample: Option<Vec<f32>>,
    result: FrameResult,
}

impl Worker {
    /// Creates a worker; without an open session it opens one for the first frame, or before it ([`expect`](super::Engine::expect)).
    /// Without `fallback` a failing provider is an error of the frame.
    pub fn new(
        shared: Arc<Shared>,
        opener: SessionOpener,
        session: Option<SizedSession>,
        fallback: Option<Setup>,
    ) -> Self {
        let capacity = session.as_ref().map_or(1, |session| session.capacity);
        Self {
            shared,
            opener,
            sessions: session.into_iter().collect(),
            fallback,
            preparer: Preparer::default(),
            decoder: Decoder::default(),
            jobs: Vec::with_capacity(capacity),
            prepared: Vec::with_capacity(capacity),
            checked_runs: 0,
        }
    }

    /// Processes jobs until the queue is closed.
    pub fn run(mut self) {
        // What fails or panics here does so again with the first frame, which reports it.
        let _ = catch_unwind(AssertUnwindSafe(|| self.open_first()));
        let shared = Arc::clone(&self.shared);
        let model = shared.model();
        let capacity = match model.batch {
            Batch::Fixed(count) => count,
            // Of the exported size, which is the largest, because it takes the place of others that cannot be used.
            Batch::Dynamic => self.opener.batch_size.clamp(1, max_images(model.width, model.height)),
        };
        while shared.queue.take(&mut self.jobs, capacity) {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.process())) {
                self.recover(&panic_message(panic.as_ref()));
            }
        }
    }

    /// Waits until the size of the first frame is known, and opens the session for it.
    fn open_first(&mut self) -> Result<(), Error> {
        let is_closing = || self.shared.queue.is_closed();
        let Some(size) = self.shared.sizes.first(is_closing) else { return Ok(()) };
        self.select_session(size)?;
        if let (Some(verdicts), Some(open)) = (&self.opener.verdicts, self.sessions.last()) {
            verdicts.put_first_size(open.sized.size());
        }
        Ok(())
    }

    /// Makes the session for input size `size` the last of `sessions`, and opens it if necessary.
    fn select_session(&mut self, size: Size) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let is_closing = || shared.queue.is_closed();
        let sized = shared.sizes.get(size, is_closing, |made| self.verify(made)).ok_or(Error::EngineClosed)?;
        self.open_session(&sized).map_err(|reason| Error::Inference { model: shared.model().source.clone(), reason })
    }

    fn open_session(&mut self, sized: &Arc<SizedModel>) -> Result<(), String> {
        if let Some(index) = self.sessions.iter().position(|open| open.sized.size() == sized.size()) {
            self.sessions[index..].rotate_left(1);
            return Ok(());
        }
        let opened = self.opener.open(sized)?;
        if self.sessions.len() >= self.opener.max_sessions.max(1) {
            self.sessions.remove(0);
        }
        self.sessions.push(opened);
        Ok(())
    }

    /// Checks that the model rewritten for another input size detects the same on a photograph, cut to the shape of that size, as the
    /// exported one. The error is the reason why the rewritten one is not usable.
    fn verify(&mut self, made: &Arc<SizedModel>) -> Result<(), String> {
        let verdicts = self.opener.verdicts.clone();
        if let Some(verdict) = verdicts.as_ref().and_then(|verdicts| verdicts.get(made.size())) {
            return verdict;
        }
        let exported = Arc::clone(self.shared.sizes.exported());
        let photograph = photograph().map_err(|error| error.to_string())?;
        let (width, height) = (photograph.width(), photograph.height());
        let (columns, rows) = made.size();
        let area = Area {
            x: 0,
            y: 0,
            width: width.min(height * columns / rows).max(1),
            height: height.min(width * rows / columns).max(1),
        };
        let picture = photograph.cropped(area).map_err(|error| error.to_string())?;
        let settings =
            DetectSettings { confidence_threshold: 0.0, max_detections: COMPARED, ..DetectSettings::default() };
        let mut detect = |sized: &Arc<SizedModel>| {
            self.open_session(sized)?;
            let open = self.sessions.last_mut().ok_or("no session is open")?;
            open.detect(&picture, &settings)
        };
        let (before, after) = shutdown::while_loading(|| Ok::<_, String>((detect(&exported)?, detect(made)?)))?;
        let verdict = difference(&before, &after).map_or(Ok(()), Err);
        verdicts.iter().for_each(|verdicts| verdicts.put(made.size(), &verdict));
        verdict
    }

    /// Prepares, runs and answers all jobs of the batch.
    fn process(&mut self) {
        let mut prepared = std::mem::take(&mut self.prepared);
        prepared.clear();
        let mut failures = 0;
        let (selected, warning) = self.select_or_fall_back(self.jobs[0].size);
        if let Err(error) = selected {
            failures = self.jobs.len() as u64;
            self.jobs.iter_mut().for_each(|job| job.reply.answer(Err(error.clone())));
            self.jobs.clear();
        }
        for index in 0..self.jobs.len() {
            match self.prepare(index, prepared.len()) {
                Ok(job) => prepared.push(job),
                Err(error) => {
                    failures += 1;
                    self.jobs[index].reply.answer(Err(error));
                }
            }
        }
        if !prepared.is_empty() {
            // The first run may load what the provider needs to run.
            let is_first = self.shared.counters.lock().batches == 0;
            let mut outcome = if is_first {
                shutdown::while_loading(|| self.infer(&mut prepared))
            } else {
                self.infer(&mut prepared)
            };
            if let Err(error) = &outcome
                && let Some(fallback) = self.fallback.take()
            {
                let reason = error.to_string();
                outcome = self.fall_back(fallback, &reason).and_then(|()| self.infer(&mut prepared));
                if let (Ok(_), Some(first)) = (&outcome, prepared.first_mut()) {
                    first.result.warning = Some(format!("{reason}; the model now runs on the CPU provider"));
                }
            }
            if let (Some(warning), Some(first)) = (warning, prepared.first_mut()) {
                first.result.warning = Some(warning);
            }
            let mut counters = self.shared.counters.lock();
            counters.batches += 1;
            match &outcome {
                Ok(infer) => {
                    counters.infer += *infer;
                    counters.frames += prepared.len() as u64;
                    for Prepared { result, .. } in &prepared {
                        counters.queued += result.queued;
                        counters.prepare += result.prepare;
                        counters.decode += result.decode;
                    }
                }
                Err(_) => failures += prepared.len() as u64,
            }
            drop(counters);
            for Prepared { job, result, .. } in prepared.drain(..) {
                self.jobs[job].reply.answer(outcome.clone().map(|_| result));
            }
        }
        self.prepared = prepared;
        if failures > 0 {
            self.shared.counters.lock().failures += failures;
        }
        self.jobs.clear();
    }

    /// Selects the session for `size`. If the worker's first session cannot be opened, the CPU provider takes the place of the
    /// provider; returns a warning then.
    fn select_or_fall_back(&mut self, size: Size) -> (Result<(), Error>, Option<String>) {
        let selected = self.select_session(size);
        let Err(Error::Inference { reason, .. }) = &selected else { return (selected, None) };
        let Some(setup) = self.fallback.take_if(|_| self.sessions.is_empty()) else { return (selected, None) };
        let reason = format!("{} cannot open the model: {reason}", self.shared.provider);
        self.opener.setup = setup;
        self.opener.verdicts = None;
        self.shared.counters.lock().cpu_fallback = Some(reason.clone());
        (self.select_session(size), Some(format!("{reason}; the model now runs on the CPU provider")))
    }

    /// Replaces the sessions by one on the CPU provider; the prepared pixels stay.
    fn fall_back(&mut self, setup: Setup, reason: &str) -> Result<(), Error> {
        let failed = |cause: String| Error::Inference {
            model: self.shared.model().source.clone(),
            reason: format!("{reason}; falling back to the CPU provider failed too: {cause}"),
        };
        // Sessions for other sizes run on the provider that failed.
        self.sessions.drain(..self.sessions.len().saturating_sub(1));
        let Some(open) = self.sessions.last_mut() else { return Err(failed("no session is open".to_owned())) };
        let bytes = open.sized.bytes().map_err(&failed)?;
        let (session, _) = Session::open(self.opener.runtime, &bytes, &setup, &[], None, None)
            .map_err(|error| failed(error.reason))?;
        open.session = session;
        self.opener.setup = setup;
        self.opener.verdicts = None;
        self.shared.counters.lock().cpu_fallback = Some(reason.to_owned());
        Ok(())
    }

    /// Writes the pixels of job `index` into slot `slot` of the input, and drops its frame.
    fn prepare(&mut self, index: usize, slot: usize) -> Result<Prepared, Error> {
        let job = &mut self.jobs[index];
        let start = Instant::now();
        let queued = start.duration_since(job.submitted);
        let Some(frame) = job.frame.take() else {
            return Err(Error::Picture { reason: "its pixels have already been read".to_owned() });
        };
        let task = self.shared.model().task;
        let Some(open) = self.sessions.last_mut() else { return Err(Error::EngineClosed) };
        let size;
        let fit = {
            let mut picture = frame.picture()?;
            size = (picture.width(), picture.height());
            if task == Task::Classify {
                picture = centre_crop(&picture, &open.format)?;
            }
            self.preparer.prepare(&picture, &open.format, open.input.slot(slot), &mut open.padded[slot])
        };
        drop(frame);
        // More runs than are checked, so that enough of their pictures differ.
        let is_first = self.checked_runs < 2 * CHECKED_RUNS && task != Task::Classify;
        let sample = is_first.then(|| sample(&open.input.slot(slot)));
        let input_size = open.sized.size();
        Ok(Prepared {
            job: index,
            fit,
            frame: size,
            sample,
            result: FrameResult { input_size, queued, prepare: start.elapsed(), ..FrameResult::default() },
        })
    }

    /// Runs the model on the prepared images and stores their detections. Returns the time of the run.
    fn infer(&mut self, prepared: &mut [Prepared]) -> Result<Duration, Error> {
        let Some(SizedSession { sized, session, input, fixed_batch, .. }) = self.sessions.last_mut() else {
            return Err(Error::EngineClosed);
        };
        let (model, size) = (&sized.model, sized.size());
        let images = fixed_batch.unwrap_or(prepared.len());
        let start = Instant::now();
        let (decoder, jobs) = (&mut self.decoder, &self.jobs);
        let (checked_runs, has_warned) = (&mut self.checked_runs, &self.shared.has_warned);
        let repetition = &self.shared.repetition;
        let first_warning = |warning: Option<String>| warning.filter(|_| !has_warned.swap(true, Ordering::Relaxed));
        let outcome = session.run(input, images, &model.read_outputs, |views| {
            let infer = start.elapsed();
            let outputs = Outputs { views, images };
            if !model.layout.reader().accepts(outputs, size) {
                let shapes: Vec<_> = views.iter().map(|view| format!("{:?}", view.shape)).collect();
                let (layout, (width, height)) = (&model.layout, size);
                return Err(format!(
                    "the shapes of its outputs became {}, which are not those of {layout} for an input of {width}x{height}; export it \
                     with fixed output shapes",
                    shapes.join(", ")
                ));
            }
            if *checked_runs < 2 * CHECKED_RUNS {
                *checked_runs += 1;
            }
            if *checked_runs <= CHECKED_RUNS
                && let Some(first) = prepared.first_mut()
            {
                first.result.warning = first_warning(check_outputs(&model.layout, outputs, size));
            }
            for (index, prepared) in prepared.iter_mut().enumerate() {
                let start = Instant::now();
                let settings = &jobs[prepared.job].settings;
                prepared.result.detections =
                    decoder.decode(&model.layout, model.task, outputs, index, settings, &prepared.fit);
                if let Some(sample) = prepared.sample.take() {
                    let warning = repetition.lock().add(&sample, &prepared.result.detections);
                    if warning.is_some() && prepared.result.warning.is_none() {
                        prepared.result.warning = first_warning(warning);
                    }
                }
                if model.task == Task::Classify {
                    for named in &mut prepared.result.detections {
                        (named.x_max, named.y_max) = (prepared.frame.0 as f32, prepared.frame.1 as f32);
                    }
                }
                prepared.result.infer = infer;
                prepared.result.decode = start.elapsed();
            }
            Ok(infer)
        });
        let failed = |reason| Error::Inference { model: model.source.clone(), reason };
        outcome.map_err(failed)?.map_err(failed)
    }

    /// Answers the jobs that a panic left unanswered, and resets all state that it may have left inconsistent.
    fn recover(&mut self, reason: &str) {
        let mut failures = 0;
        for mut job in self.jobs.drain(..) {
            job.frame = None;
            failures += 1;
            job.reply.answer(Err(Error::WorkerPanicked { reason: reason.to_owned() }));
        }
        self.shared.counters.lock().failures += failures;
        self.sessions.iter_mut().for_each(|open| open.padded.fill(None));
        self.preparer = Preparer::default();
        self.decoder = Decoder::default();
    }
}

/// Returns the central part of a picture with the aspect ratio of the model's input: classifiers are trained on such crops.
fn centre_crop<'a>(picture: &Picture<'a>, format: &InputFormat) -> Result<Picture<'a>, Error> {
    let (width, height) = (picture.width(), picture.height());
    let scale = (width as f64 / format.width as f64).min(height as f64 / format.height as f64);
    let side = |length: usize, limit: usize| ((length as f64 * scale).round() as usize).clamp(1, limit);
    let (across, down) = (side(format.width, width), side(format.height, height));
    let area = Area { x: (width - across) / 2, y: (height - down) / 2, width: across, height: down };
    area.within(picture.format(), width, height).map_or(Ok(*picture), |area| picture.cropped(area))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::path::Path;

    use super::super::loading::{OpenedModel, open_first};
    use super::super::plan::{EngineSpec, SessionMemory};
    use super::super::sizes::MAX_KEPT;
    use super::*;
    use crate::detect::PixelFormat;
    use crate::detect::model::hints::InputSize;
    use crate::detect::onnx::file::{ModelBytes, ModelSource};
    use crate::detect::pixels::picture::{Frame, Matrix, Plane, Range};
    use crate::detect::runtime::accelerator::Accelerator;
    use crate::detect::runtime::cancel::CancelToken;
    use crate::detect::runtime::library::RuntimeOptions;
    use crate::detect::runtime::provider::{Provider, ProviderChoice, Tuning};

    struct Grey(Vec<u8>);

    impl Frame for Grey {
        fn picture(&self) -> Result<Picture<'_>, Error> {
            let plane = Plane { data: &self.0, stride: 64 };
            Picture::new(PixelFormat::Gray8, 64, 64, &[plane], Matrix::Bt601, Range::Full)
        }
    }

    fn runtime() -> &'static Runtime {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let options = RuntimeOptions { search_dirs: vec![root.join(".deps/lib")], ..RuntimeOptions::default() };
        Runtime::load(&options).unwrap().0
    }

    /// Opens a model on the CPU provider.
    fn open(name: &str) -> (OpenedModel, Arc<ModelBytes>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(name);
        let spec = EngineSpec { model: ModelSource::File(path), ..EngineSpec::default() };
        let bytes = Arc::new(spec.model.read(None).unwrap());
        let choice = ProviderChoice { provider: Provider::Cpu, library: None };
        let opened = open_first(runtime(), &bytes, &[choice], &spec, "", &CancelToken::default(), None).unwrap();
        (opened, bytes)
    }

    fn shared(opened: &OpenedModel, bytes: Arc<ModelBytes>, hint: InputSize) -> Arc<Shared> {
        let exported = SizedModel::exported(opened.model.clone(), bytes, Vec::new());
        Arc::new(Shared {
            sizes: Sizes::new(exported, hint, &Provider::Cpu, 1),
            queue: JobQueue::new(1, Duration::ZERO),
            has_warned: AtomicBool::new(true),
            repetition: Mutex::default(),
            provider: String::new(),
            running: Mutex::new(1),
            changed: Condvar::new(),
            counters: Mutex::default(),
        })
    }

    /// A session of a model with another input stands for a failing provider: each of its runs fails. A library that does not exist
    /// stands for a provider that cannot open a model that it could open at an earlier start.
    #[test]
    fn a_failing_provider_is_replaced_once_or_an_error() {
        for (works, is_open) in [(true, true), (false, true), (true, false), (false, false)] {
            let (right, bytes) = open("yolo_nas.onnx");
            let fallback = works.then(|| right.setup.clone());
            let choice = ProviderChoice {
                provider: Provider::Library("none.so".into()),
                library: Some("/nowhere/none.so".into()),
            };
            let missing = Accelerator { choice, tuning: Tuning::default(), threads: 1, cache: None };
            let opener = SessionOpener {
                runtime: runtime(),
                setup: if is_open { right.setup.clone() } else { Setup::Accelerated(missing) },
                cancel: Arc::default(),
                batch_size: 1,
                max_sessions: 1,
                verdicts: None,
            };
            let shared = shared(&right, bytes, InputSize::Model);
            let (wrong, _) = open("picodet.onnx");
            let session = SizedSession::new(Arc::clone(shared.sizes.exported()), wrong.session.unwrap(), 1).unwrap();
            let mut worker = Worker::new(Arc::clone(&shared), opener, is_open.then_some(session), fallback);
            for round in 0..2 {
                let (job, ticket) =
                    Job::new(Box::new(Grey(vec![90; 64 * 64])), (64, 64), Arc::default(), None, &Arc::default());
                worker.jobs.push(job);
                worker.process();
                let result = ticket.wait();
                assert_eq!(result.is_ok(), works, "{result:?}");
                if let Ok(result) = result {
                    assert_eq!(result.detections.len(), 1);
                    assert_eq!(result.warning.is_some(), round == 0, "{:?}", result.warning);
                }
            }
            assert_eq!(shared.counters.lock().cpu_fallback.is_some(), works);
        }
    }

    #[test]
    fn a_worker_closes_the_session_that_was_not_used_for_longest() {
        let (opened, bytes) = open("sizes/v8_160x160.onnx");
        let setup = opened.setup.clone();
        let shared = shared(&opened, bytes, InputSize::Auto);
        // As an earlier start found out.
        let sizes = [(160, 96), (96, 160), (160, 128), (128, 160)];
        sizes.into_iter().for_each(|size| drop(shared.sizes.known(size)));
        let max_sessions = SessionMemory::plan(None, 1, 1, 1, shared.sizes.kept()).sizes;
        let opener = SessionOpener {
            runtime: runtime(),
            setup,
            cancel: Arc::default(),
            batch_size: 1,
            max_sessions,
            verdicts: None,
        };
        let mut worker = Worker::new(shared, opener, None, None);
        let order = [(160, 160), sizes[0], sizes[1], sizes[2], (160, 160), sizes[3]];
        for size in order {
            worker.select_session(size).unwrap();
        }
        let kept: Vec<Size> = worker.sessions.iter().map(|open| open.sized.size()).collect();
        assert_eq!(kept, order[6 - MAX_KEPT..]);
    }

    #[test]
    fn the_wait_for_a_worker_that_does_not_return_ends() {
        let (opened, bytes) = open("picodet.onnx");
        let shared = shared(&opened, bytes, InputSize::Model);
        let started = Instant::now();
        // One worker is running, which the caller may be itself.
        assert!(!shared.wait_for_workers(0, Duration::from_millis(50)));
        assert!(started.elapsed() >= Duration::from_millis(50));
        assert!(shared.wait_for_workers(1, Duration::from_secs(60)));
    }
}
