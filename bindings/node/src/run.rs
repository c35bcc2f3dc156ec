// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs: a thread starts each and answers requests with the records that have come since the last one.

use std::time::{Duration, Instant};

use gstvx::path::name_of;
use gstvx::run::{self, Canceller, Event, Report, Status};
use napi::Env;
use napi::bindgen_prelude::{Either, Object};
use napi_derive::napi;

use crate::error::Failure;
use crate::records::Record;
use crate::requests::{Request, Requests, Source};
use crate::settings::Options;

/// Most records of one answer: JavaScript goes through them without looking at anything else.
const MAX_RECORDS: usize = 16;

/// How often a wait looks whether the run was stopped.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// Time that a stopped run has to report its end; then it ends in the background. Loading a model cannot be interrupted.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// What has happened in a run since the last answer.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct Batch {
    /// Records, in order.
    pub records: Vec<Record>,
    /// Warnings about the run.
    pub warnings: Vec<String>,
    /// What the run is about to do; in the first answer.
    pub overview: Option<Overview>,
    /// How far the files are that are being read.
    pub progress: Option<Vec<FileProgress>>,
    /// How the run ended; in the last answer, unless it could not be started.
    pub summary: Option<RunSummary>,
    /// Why the run failed; in the last answer.
    pub failure: Option<Failure>,
    /// Whether this is the last answer.
    pub is_last: bool,
}

/// What a run is about to do.
#[napi(object, object_from_js = false)]
pub struct Overview {
    /// Names of the files to read.
    pub files: Vec<String>,
    /// Other names of files that are read.
    pub duplicates: Vec<Duplicate>,
    /// Number of pictures in folders that were left out.
    pub pictures_left_out: u32,
    /// Remarks on the search for files.
    pub notes: Vec<String>,
}

/// Another name of a file.
#[napi(object, object_from_js = false)]
pub struct Duplicate {
    /// The other name.
    pub name: String,
    /// The name under which the file is read.
    pub read_as: String,
}

/// How far a file is.
#[napi(object, object_from_js = false)]
pub struct FileProgress {
    /// The file's name.
    pub file: String,
    /// Frames analysed.
    pub frames: i64,
    /// Detections.
    pub detections: i64,
    /// Share of the file that is done, 0 to 1.
    pub share: f64,
}

/// How a run ended.
#[napi(object, object_from_js = false, use_nullable = true)]
#[derive(Default)]
pub struct RunSummary {
    /// Files that are done.
    pub files: i64,
    /// Files that failed, among these.
    pub failed: i64,
    /// Damaged files, among these.
    pub damaged: i64,
    /// Files whose results were in the cache, among these.
    pub cached: i64,
    /// Files without a result.
    pub missing: i64,
    /// Frames that were passed on.
    pub frames: i64,
    /// Detections on these.
    pub detections: i64,
    /// Whether the run was stopped before all files were done.
    pub is_cancelled: bool,
    /// The file that holds the results so far, if the output is not complete.
    pub kept_in: Option<String>,
    /// The engine, if files were read in this process.
    pub engine: Option<EngineReport>,
    /// Worker processes that were started, with `isolate`.
    pub workers: Option<i64>,
}

/// The engine of a run.
#[napi(object, object_from_js = false)]
pub struct EngineReport {
    /// The model.
    pub model: String,
    /// Execution provider.
    pub provider: String,
    /// Kind of device.
    pub device: String,
    /// Number format of the arithmetic.
    pub precision: String,
    /// Sessions.
    pub sessions: u32,
    /// Threads of each session.
    pub intra_op_threads: u32,
    /// How often a model was loaded.
    pub model_loads: i64,
    /// Files read side by side.
    pub lanes: u32,
    /// Decoder threads of each lane.
    pub decoder_threads: u32,
}

/// What a run would read, with which model and how many threads.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct Plan {
    /// Names of the files to read.
    pub files: Vec<String>,
    /// Bytes of all files.
    pub bytes: i64,
    /// The model.
    pub model: String,
    /// Layout of its output.
    pub layout: String,
    /// Execution provider.
    pub provider: String,
    /// Kind of device.
    pub device: String,
    /// Number format of the arithmetic.
    pub precision: String,
    /// Files read side by side.
    pub lanes: i64,
    /// Bytes of memory to plan with, where that is known.
    pub memory: Option<i64>,
}

fn number(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

impl From<&run::Overview> for Overview {
    fn from(overview: &run::Overview) -> Self {
        let duplicates = overview.duplicates.iter();
        Self {
            files: overview.files.clone(),
            duplicates: duplicates
                .map(|other| Duplicate { name: other.name.clone(), read_as: other.read_as.clone() })
                .collect(),
            pictures_left_out: u32::try_from(overview.pictures_left_out).unwrap_or(u32::MAX),
            notes: overview.notes.clone(),
        }
    }
}

impl From<run::Progress> for FileProgress {
    fn from(progress: run::Progress) -> Self {
        let share = progress.share();
        let run::Progress { file, frames, detections, .. } = progress;
        Self { file, frames: number(frames), detections: number(detections), share }
    }
}

impl From<&run::EngineReport> for EngineReport {
    fn from(engine: &run::EngineReport) -> Self {
        Self {
            model: engine.model.clone(),
            provider: engine.provider.clone(),
            device: engine.device.clone(),
            precision: engine.precision.clone(),
            sessions: engine.sessions,
            intra_op_threads: engine.intra_op_threads,
            model_loads: number(engine.model_loads),
            lanes: engine.lanes,
            decoder_threads: engine.decoder_threads,
        }
    }
}

impl From<run::Plan> for Plan {
    fn from(plan: run::Plan) -> Self {
        Self {
            files: plan.files,
            bytes: number(plan.bytes),
            model: plan.model,
            layout: plan.layout,
            provider: plan.provider,
            device: plan.device,
            precision: plan.precision,
            lanes: number(plan.lanes),
            memory: plan.memory.map(number),
        }
    }
}

/// A run.
#[napi]
pub struct NativeRun {
    source: Source<Batch>,
    canceller: Canceller,
}

#[napi]
impl NativeRun {
    /// Requests what happens next.
    #[napi(ts_return_type = "Promise<Batch>")]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.source.next(env)
    }

    /// Stops the run: files that are being read are abandoned.
    #[napi]
    pub fn stop(&self) {
        self.canceller.stop();
    }

    /// Starts no other file and finishes those that are being read.
    #[napi]
    pub fn finish(&self) {
        self.canceller.finish();
    }
}

/// Starts a run, or says why its options are not valid.
#[napi]
pub fn detect(
    env: &Env,
    inputs: Vec<Either<String, Vec<String>>>,
    options: Options,
) -> napi::Result<Either<NativeRun, Failure>> {
    let settings = match options.to_settings(inputs) {
        Ok(settings) => settings,
        Err(reason) => return Ok(Either::B(Failure::of_setting(reason))),
    };
    let canceller = settings.canceller.clone();
    let (stopped, cancelled) = (canceller.clone(), canceller.clone());
    let work = move |requests: Requests<Batch>| serve(settings, &requests, &stopped);
    let source = Source::start(env, "vxnoderun", work, move || cancelled.stop())?;
    Ok(Either::A(NativeRun { source, canceller }))
}

/// What `plan` resolves to.
#[napi(object, object_from_js = false)]
pub struct Planned {
    /// The plan.
    pub plan: Option<Plan>,
    /// Why there is none.
    pub failure: Option<Failure>,
}

/// Finds the files and loads the model, but reads and writes nothing.
#[napi(ts_return_type = "Promise<Planned>")]
pub fn plan(env: &Env, inputs: Vec<Either<String, Vec<String>>>, options: Options) -> napi::Result<Object<'_>> {
    let (request, promise) = Request::new(env)?;
    let settings = options.to_settings(inputs);
    let work = move || {
        let planned = settings.map_err(Failure::of_setting);
        let planned = planned.and_then(|settings| run::Run::plan(&settings).map_err(|error| Failure::from(&error)));
        request.answer(match planned {
            Ok(plan) => Planned { plan: Some(plan.into()), failure: None },
            Err(failure) => Planned { plan: None, failure: Some(failure) },
        });
    };
    // Without a thread the request is dropped, which rejects it.
    drop(std::thread::Builder::new().name("vxnodeplan".to_owned()).spawn(work));
    Ok(promise)
}

/// Starts a run and answers requests until its end, or until nobody wants to know more of it.
fn serve(settings: run::Settings, requests: &Requests<Batch>, canceller: &Canceller) {
    let mut run = match run::Run::start(settings) {
        Ok(run) => run,
        Err(error) => {
            if let Some(request) = requests.next() {
                request.answer(Batch { failure: Some(Failure::from(&error)), is_last: true, ..Batch::default() });
            }
            return;
        }
    };
    let mut overview = Some(Overview::from(run.overview()));
    let mut tally = RunSummary::default();
    while let Some(request) = requests.next() {
        let batch = Batch { overview: overview.take(), ..next_batch(&mut run, canceller, &mut tally) };
        let is_last = batch.is_last;
        request.answer(batch);
        if is_last {
            return;
        }
    }
}

/// Waits until something happens that JavaScript gets to know.
fn next_batch(run: &mut run::Run, canceller: &Canceller, tally: &mut RunSummary) -> Batch {
    let mut batch = Batch::default();
    let mut stopped_at = None;
    loop {
        let is_new = batch.records.is_empty() && batch.warnings.is_empty() && batch.progress.is_none();
        let Some(event) = run.next_timeout(if is_new { STOP_INTERVAL } else { Duration::ZERO }) else {
            if !is_new {
                return batch;
            }
            if canceller.is_stopped() && stopped_at.get_or_insert_with(Instant::now).elapsed() >= STOP_TIMEOUT {
                let mut report = Report::default();
                report.is_cancelled = true;
                return Batch { summary: Some(end(tally, &report)), is_last: true, ..batch };
            }
            continue;
        };
        match event {
            Event::Frame(frame) => {
                tally.frames += 1;
                tally.detections += number(frame.detections.len());
                batch.records.push((*frame).into());
            }
            Event::FileDone(done) => {
                tally.files += 1;
                tally.failed += i64::from(done.summary.status == Status::Failed);
                tally.damaged += i64::from(done.summary.status == Status::Damaged);
                tally.cached += i64::from(done.is_cached);
                batch.records.push((*done).into());
            }
            Event::Progress(progress) => batch.progress = Some(progress.into_iter().map(Into::into).collect()),
            Event::Warning(warning) => batch.warnings.push(warning.text),
            Event::End(report) => {
                batch.summary = Some(end(tally, &report));
                batch.failure = report.error.as_ref().map(Failure::from);
                batch.is_last = true;
                return batch;
            }
            _ => {}
        }
        if batch.records.len() >= MAX_RECORDS {
            return batch;
        }
    }
}

/// Completes the summary of a run.
fn end(tally: &mut RunSummary, report: &Report) -> RunSummary {
    RunSummary {
        missing: number(report.missing),
        is_cancelled: report.is_cancelled,
        kept_in: report.kept_in.as_deref().map(name_of),
        engine: report.engine.as_ref().map(EngineReport::from),
        workers: report.workers.map(|workers| number(workers.started)),
        ..std::mem::take(tally)
    }
}
