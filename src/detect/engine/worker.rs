//! A worker thread: takes jobs from the queue, runs its own session, answers.
//!
//! Owns the order prepare, run, decode, and what a failing or panicking job means for the others: nothing. Each worker has
//! its session, input tensor and scratch memory to itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use parking_lot::{Condvar, Mutex};

use super::Never;
use super::job::{FrameResult, Job};
use crate::detect::error::{Error, panic_message};
use crate::detect::layouts::decoder::{Decoder, Outputs};
use crate::detect::layouts::plausibility::{FRAMES, Repetition, complaint, sample};
use crate::detect::layouts::task::Task;
use crate::detect::model::description::{Batch, Model, most_images};
use crate::detect::onnx::file::ModelBytes;
use crate::detect::pixels::input_format::InputForm;
use crate::detect::pixels::letterbox::Letterbox;
use crate::detect::pixels::picture::{Area, Picture};
use crate::detect::pixels::preparer::Preparer;
use crate::detect::runtime::binding::InputTensor;
use crate::detect::runtime::library::Runtime;
use crate::detect::runtime::session::{Session, Setup};
use crate::detect::runtime::shutdown;

/// What the workers of one engine and its handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub model: Model,
    /// How long a run waits for its batch to fill.
    pub batch_timeout: Duration,
    /// What is odd about the model's outputs has been told.
    pub has_complained: AtomicBool,
    /// What the first frames of all workers showed.
    pub repetition: Mutex<Repetition>,
    /// Set when the last handle goes: what is still queued is answered without being run.
    pub is_closing: AtomicBool,
    /// ONNX Runtime's name of what runs the model.
    pub provider: String,
    /// Worker threads that have not ended.
    pub alive: Mutex<usize>,
    /// Tells of changes of `alive`.
    pub changed: Condvar,
    pub totals: Mutex<Totals>,
}

impl Shared {
    /// Waits until no more than `left` workers are there; false if that takes longer than `patience`.
    pub fn wait_for_workers(&self, left: usize, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut alive = self.alive.lock();
        let mut is_late = false;
        while *alive > left && !is_late {
            is_late = self.changed.wait_until(&mut alive, deadline).timed_out();
        }
        let is_done = *alive <= left;
        drop(alive);
        is_done
    }
}

/// A worker thread that has not ended.
pub(super) struct Alive(Arc<Shared>);

impl Alive {
    pub fn new(shared: &Arc<Shared>) -> Self {
        *shared.alive.lock() += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        *self.0.alive.lock() -= 1;
        self.0.changed.notify_all();
    }
}

/// Sums since the engine was opened.
#[derive(Debug, Default, Clone)]
pub(super) struct Totals {
    pub frames: u64,
    pub failures: u64,
    pub batches: u64,
    pub queued: Duration,
    pub prepare: Duration,
    pub infer: Duration,
    pub decode: Duration,
    /// Sessions that are open.
    pub sessions: usize,
    /// Why sessions that were planned are not open.
    pub missing_sessions: Option<String>,
    /// Why the CPU provider has taken over while running.
    pub rescued: Option<String>,
}

/// What takes over from a provider that fails while it runs.
#[derive(Clone)]
pub(super) struct Rescue {
    pub runtime: &'static Runtime,
    pub model: Arc<ModelBytes>,
    /// The CPU provider's.
    pub setup: Setup,
}

/// A worker's own things.
pub(super) struct Worker {
    shared: Arc<Shared>,
    session: Session,
    /// Used once, if at all.
    rescue: Option<Rescue>,
    form: InputForm,
    input: InputTensor,
    /// For each image of the input: the letterbox for which its padding holds.
    padded: Vec<Option<Letterbox>>,
    /// Images of each run where the model fixes it.
    fixed_batch: Option<usize>,
    capacity: usize,
    preparer: Preparer,
    decoder: Decoder,
    jobs: Vec<Job>,
    /// Empty between runs.
    prepared: Vec<Prepared>,
    /// Runs whose outputs were looked at.
    looked_at: u32,
}

/// A job whose pixels are in the input tensor.
struct Prepared {
    /// Index in the list of jobs.
    job: usize,
    fit: Letterbox,
    /// Width and height of the frame, of which a classifier sees only the middle.
    frame: (usize, usize),
    /// Some of its pixels, of the first frames.
    sample: Option<Vec<f32>>,
    result: FrameResult,
}

impl Worker {
    /// Without `rescue` a provider that fails is an error of the frame.
    ///
    /// # Errors
    /// When there is no memory for the model's input.
    pub fn new(
        shared: Arc<Shared>,
        mut session: Session,
        batch_size: usize,
        rescue: Option<Rescue>,
    ) -> Result<Self, Error> {
        if shared.model.layout.is_dense() {
            session.expect_same_shapes();
        }
        let form = shared.model.input_form();
        let fixed_batch = match shared.model.batch {
            Batch::Fixed(count) => Some(count),
            Batch::Dynamic => None,
        };
        let most = most_images(form.width, form.height);
        let capacity = fixed_batch.unwrap_or_else(|| batch_size.clamp(1, most));
        let input = session
            .input(capacity, &shared.model.input)
            .map_err(|reason| Error::Inference { model: shared.model.source.clone(), reason })?;
        let (preparer, decoder) = (Preparer::default(), Decoder::default());
        let jobs = Vec::with_capacity(capacity);
        Ok(Self {
            shared,
            session,
            rescue,
            form,
            input,
            padded: vec![None; capacity],
            fixed_batch,
            capacity,
            preparer,
            decoder,
            jobs,
            prepared: Vec::with_capacity(capacity),
            looked_at: 0,
        })
    }

    /// Works until nobody holds the other end of `stop`.
    pub fn run(mut self, queue: &Receiver<Job>, stop: &Receiver<Never>) {
        loop {
            let first = crossbeam_channel::select! {
                recv(queue) -> job => job,
                recv(stop) -> _ => return,
            };
            let Ok(first) = first else { return };
            self.jobs.push(first);
            self.collect(queue);
            if self.shared.is_closing.load(Ordering::Acquire) {
                self.jobs.clear();
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.process())) {
                self.recover(&panic_message(panic.as_ref()));
            }
        }
    }

    /// Takes what else is in the queue, and what comes within the batch's time, as far as there is room.
    fn collect(&mut self, queue: &Receiver<Job>) {
        let timeout = self.shared.batch_timeout;
        let deadline = Instant::now() + timeout;
        while self.jobs.len() < self.capacity {
            let next = queue.try_recv().ok();
            let next = next.or_else(|| if timeout.is_zero() { None } else { queue.recv_deadline(deadline).ok() });
            let Some(next) = next else { return };
            self.jobs.push(next);
        }
    }

    /// Prepares, runs and answers all jobs in the list.
    fn process(&mut self) {
        let mut prepared = std::mem::take(&mut self.prepared);
        prepared.clear();
        let mut failures = 0;
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
            let mut outcome = self.infer(&mut prepared);
            if let Err(error) = &outcome
                && let Some(rescue) = self.rescue.take()
            {
                let reason = error.to_string();
                outcome = self.take_over(&rescue, &reason).and_then(|()| self.infer(&mut prepared));
                if let (Ok(_), Some(first)) = (&outcome, prepared.first_mut()) {
                    first.result.warning = Some(format!("{reason}; the CPU provider has taken over"));
                }
            }
            let mut totals = self.shared.totals.lock();
            totals.batches += 1;
            let is_first = totals.batches == 1;
            match &outcome {
                Ok(infer) => {
                    totals.infer += *infer;
                    totals.frames += prepared.len() as u64;
                    for Prepared { result, .. } in &prepared {
                        totals.queued += result.queued;
                        totals.prepare += result.prepare;
                        totals.decode += result.decode;
                    }
                }
                Err(_) => failures += prepared.len() as u64,
            }
            drop(totals);
            if is_first {
                shutdown::arm(&format!("{} at work", self.shared.provider));
            }
            for Prepared { job, result, .. } in prepared.drain(..) {
                self.jobs[job].reply.answer(outcome.clone().map(|_| result));
            }
        }
        self.prepared = prepared;
        if failures > 0 {
            self.shared.totals.lock().failures += failures;
        }
        self.jobs.clear();
    }

    /// Goes on with the CPU provider.
    fn take_over(&mut self, rescue: &Rescue, reason: &str) -> Result<(), Error> {
        let failed = |also: String| Error::Inference {
            model: self.shared.model.source.clone(),
            reason: format!("{reason}; and the CPU provider cannot take over: {also}"),
        };
        let (session, _) = Session::open(rescue.runtime, &rescue.model, &rescue.setup, &[], None, None)
            .map_err(|error| failed(error.reason))?;
        self.session = session;
        self.shared.totals.lock().rescued = Some(reason.to_owned());
        Ok(())
    }

    /// Puts the pixels of job `index` at place `slot` of the input, and lets go of its frame.
    fn prepare(&mut self, index: usize, slot: usize) -> Result<Prepared, Error> {
        let job = &mut self.jobs[index];
        let start = Instant::now();
        let queued = start.duration_since(job.submitted);
        let Some(frame) = job.frame.take() else {
            return Err(Error::Picture { reason: "it has been taken already".to_owned() });
        };
        let size;
        let fit = {
            let mut picture = frame.picture()?;
            size = (picture.width(), picture.height());
            if self.shared.model.task == Task::Classify {
                picture = centre(&picture, &self.form)?;
            }
            self.preparer.prepare(&picture, &self.form, self.input.slot(slot), &mut self.padded[slot])
        };
        drop(frame);
        // Some runs more, so that there are enough different pictures among them.
        let is_first = self.looked_at < 2 * FRAMES && self.shared.model.task != Task::Classify;
        let sample = is_first.then(|| sample(&self.input.slot(slot)));
        Ok(Prepared {
            job: index,
            fit,
            frame: size,
            sample,
            result: FrameResult { queued, prepare: start.elapsed(), ..FrameResult::default() },
        })
    }

    /// Runs the model on what is prepared and fills in the detections; the time of the run.
    fn infer(&mut self, prepared: &mut [Prepared]) -> Result<Duration, Error> {
        let model = &self.shared.model;
        let images = self.fixed_batch.unwrap_or(prepared.len());
        let size = (model.width, model.height);
        let start = Instant::now();
        let (decoder, jobs) = (&mut self.decoder, &self.jobs);
        let (looked_at, has_complained) = (&mut self.looked_at, &self.shared.has_complained);
        let repetition = &self.shared.repetition;
        let is_new = |complaint: Option<String>| complaint.filter(|_| !has_complained.swap(true, Ordering::Relaxed));
        let outcome = self.session.run(&self.input, images, &model.read_outputs, |views| {
            let infer = start.elapsed();
            let outputs = Outputs { views, images };
            if !model.layout.reader().is_readable(outputs, size) {
                let shapes: Vec<_> = views.iter().map(|view| format!("{:?}", view.shape)).collect();
                let (layout, (width, height)) = (&model.layout, size);
                return Err(format!(
                    "its outputs became {}, which cannot be read as {layout} of a {width}x{height} input; export it with \
                     outputs of fixed shape",
                    shapes.join(", ")
                ));
            }
            if *looked_at < 2 * FRAMES {
                *looked_at += 1;
            }
            if *looked_at <= FRAMES
                && let Some(first) = prepared.first_mut()
            {
                first.result.warning = is_new(complaint(&model.layout, outputs, size));
            }
            for (index, prepared) in prepared.iter_mut().enumerate() {
                let start = Instant::now();
                let settings = &jobs[prepared.job].settings;
                prepared.result.detections =
                    decoder.decode((&model.layout, model.task), outputs, index, settings, &prepared.fit);
                if let Some(sample) = prepared.sample.take() {
                    let complaint = repetition.lock().complaint(&sample, &prepared.result.detections);
                    if complaint.is_some() && prepared.result.warning.is_none() {
                        prepared.result.warning = is_new(complaint);
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

    /// Answers what a panic left unanswered, and forgets everything that it may have left half done.
    fn recover(&mut self, reason: &str) {
        let mut failures = 0;
        for mut job in self.jobs.drain(..) {
            job.frame = None;
            failures += 1;
            job.reply.answer(Err(Error::WorkerPanicked { reason: reason.to_owned() }));
        }
        self.shared.totals.lock().failures += failures;
        self.padded.fill(None);
        self.preparer = Preparer::default();
        self.decoder = Decoder::default();
    }
}

/// The middle of a picture in the shape of the model's input: classifiers are trained on such cuts.
fn centre<'a>(picture: &Picture<'a>, form: &InputForm) -> Result<Picture<'a>, Error> {
    let (width, height) = (picture.width(), picture.height());
    let scale = (width as f64 / form.width as f64).min(height as f64 / form.height as f64);
    let side = |length: usize, limit: usize| ((length as f64 * scale).round() as usize).clamp(1, limit);
    let (across, down) = (side(form.width, width), side(form.height, height));
    let area = Area { x: (width - across) / 2, y: (height - down) / 2, width: across, height: down };
    area.within(picture.format(), width, height).map_or(Ok(*picture), |area| picture.cropped(area))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::path::Path;

    use super::super::loading::open_first;
    use super::super::plan::EngineSpec;
    use super::*;
    use crate::detect::PixelFormat;
    use crate::detect::onnx::file::ModelSource;
    use crate::detect::pixels::picture::{Frame, Matrix, Plane, Range};
    use crate::detect::runtime::cancel::Cancel;
    use crate::detect::runtime::library::RuntimeOptions;
    use crate::detect::runtime::provider::{Choice, Provider};

    struct Grey(Vec<u8>);

    impl Frame for Grey {
        fn picture(&self) -> Result<Picture<'_>, Error> {
            let plane = Plane { data: &self.0, stride: 64 };
            Picture::new(PixelFormat::Gray8, 64, 64, &[plane], Matrix::Bt601, Range::Full)
        }
    }

    /// A session that fails whenever it runs stands for a provider that does: it is of a model with another input.
    #[test]
    fn a_provider_that_fails_while_running_is_replaced_once_or_an_error() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let options = RuntimeOptions { search_dirs: vec![root.join(".deps/lib")], ..RuntimeOptions::default() };
        let (runtime, _) = Runtime::load(&options).unwrap();
        let open = |name: &str| {
            let spec =
                EngineSpec { model: ModelSource::File(root.join("tests/models").join(name)), ..EngineSpec::default() };
            let bytes = spec.model.read(None).unwrap();
            let choice = Choice { provider: Provider::Cpu, library: None };
            let opened = open_first(runtime, &bytes, &[choice], &spec, "", &Cancel::default()).unwrap();
            (opened, bytes)
        };
        let (right, bytes) = open("yolo_nas.onnx");
        let rescue = Rescue { runtime, model: Arc::new(bytes), setup: right.setup.clone() };
        for (rescue, works) in [(Some(rescue), true), (None, false)] {
            let shared = Arc::new(Shared {
                model: right.model.clone(),
                batch_timeout: Duration::ZERO,
                has_complained: AtomicBool::new(true),
                repetition: Mutex::default(),
                is_closing: AtomicBool::new(false),
                provider: String::new(),
                alive: Mutex::new(1),
                changed: Condvar::new(),
                totals: Mutex::default(),
            });
            let (wrong, _) = open("picodet.onnx");
            let mut worker = Worker::new(Arc::clone(&shared), wrong.session, 1, rescue).unwrap();
            for round in 0..2 {
                let (job, ticket) = Job::new(Box::new(Grey(vec![90; 64 * 64])), Arc::default(), &Arc::default());
                worker.jobs.push(job);
                worker.process();
                let result = ticket.wait();
                assert_eq!(result.is_ok(), works, "{result:?}");
                if let Ok(result) = result {
                    assert_eq!(result.detections.len(), 1);
                    assert_eq!(result.warning.is_some(), round == 0, "{:?}", result.warning);
                }
            }
            assert_eq!(shared.totals.lock().rescued.is_some(), works);
        }
    }
}
