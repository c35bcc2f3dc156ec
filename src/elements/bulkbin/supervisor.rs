// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts, supervises and stops a run: creates lanes, runs a thread for each, and forwards what they report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;

use super::FILE_MESSAGE;
use super::imp::{BulkBin, CAT};
use super::lane::{FileProgress, Lane};
use super::plan::{LanePlan, PlanInputs};
use super::settings::{OnError, Order};
use super::thread_probe::lanes_with_threads;
use super::{file_queue::FileQueue, memory_gate::MemoryGate, totals::Totals};
use crate::elements::yolodetect::YoloDetect;
use crate::memory;
use crate::record::{Failure, Summary};

/// One pass over the list of files.
pub(super) struct RunState {
    pub files: FileQueue,
    pub gate: MemoryGate,
    pub plan: LanePlan,
    pub totals: Mutex<Totals>,
    /// Lanes that have not ended.
    pub active: AtomicUsize,
    pub is_stopping: AtomicBool,
    pub has_warned: AtomicBool,
    /// State of the progress messages.
    pub progress: Mutex<ProgressState>,
    pub on_error: OnError,
    /// Summary of the first file that failed, where that ends the run.
    pub failure: Mutex<Option<Summary>>,
    pub timeout: Option<Duration>,
    pub started: Instant,
}

/// State of a run's progress messages. Applications stay in PAUSED while there is progress (gst-launch-1.0 does), so none is
/// posted before PLAYING.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ProgressState {
    #[default]
    NotStarted,
    Started,
    Ended,
}

impl RunState {
    /// Returns the type of the last progress message.
    pub fn final_progress(&self) -> gst::ProgressType {
        if self.failure.lock().is_some() { gst::ProgressType::Error } else { gst::ProgressType::Complete }
    }
}

/// Reports the end of a lane when it is dropped.
struct LaneEndGuard<'a> {
    bin: &'a BulkBin,
    run: &'a RunState,
}

impl Drop for LaneEndGuard<'_> {
    fn drop(&mut self) {
        self.bin.lane_ended(self.run);
    }
}

impl BulkBin {
    /// Creates lanes until there are `count`, like the first.
    pub(super) fn add_lanes(&self, count: usize) -> Result<(), glib::BoolError> {
        let mut lanes = self.lanes.lock().clone();
        while lanes.len() < count {
            let lane = Lane::new(lanes.len(), &self.output)?;
            for element in lane.elements().into_iter().rev() {
                self.obj().add(&element)?;
            }
            lane.link()?;
            self.guard_memory(&lane);
            if lane.index == 0 {
                self.child_properties.watch(&lane);
            }
            lanes.push(lane);
        }
        *self.lanes.lock() = lanes;
        Ok(())
    }

    /// Blocks frames of `lane` while there is no memory for them.
    fn guard_memory(&self, lane: &Lane) {
        let Some(pad) = lane.decoder.static_pad("src") else { return };
        let (bin, index) = (self.obj().downgrade(), lane.index);
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_pad, info| {
            if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
                && let Ok(info) = gst_video::VideoInfo::from_caps(caps.caps())
                && let Some(bin) = bin.upgrade()
            {
                bin.imp().reserve(index, &info);
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn reserve(&self, lane: usize, info: &gst_video::VideoInfo) {
        let run = self.run.lock().clone();
        let Some(run) = run else { return };
        let pixels = u64::from(info.width()) * u64::from(info.height());
        let bits = (info.size() as u64 * 8).div_ceil(pixels.max(1));
        let bytes = run.plan.frame_bytes(info.width(), info.height(), bits as u32);
        if run.gate.acquire(lane, bytes) {
            self.warn_of_memory(&run);
        }
    }

    fn warn_of_memory(&self, run: &RunState) {
        if !run.has_warned.swap(true, Ordering::Relaxed) {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::NoSpaceLeft,
                ("lanes wait for each other because together they exceed memory-limit; raise it if more memory is available")
            );
        }
    }

    /// Plans and starts a run.
    pub(super) fn start(&self) -> Result<(), String> {
        let settings = self.settings.lock().clone();
        let files = settings.all_files()?.into_iter();
        let files: Vec<(String, u64)> = files.map(|file| (file.clone(), byte_len(&file))).collect();
        let stats = self.first_stats();
        let sessions = stats.as_ref().and_then(|stats| stats.get::<u32>("sessions").ok()).unwrap_or(1);
        let session_memory = stats.and_then(|stats| stats.get::<u64>("session-memory").ok()).unwrap_or(0);
        let budget = memory::budget(settings.memory_limit);
        let mut plan = LanePlan::new(PlanInputs {
            cores: num_cpus::get(),
            memory: budget,
            files: files.len(),
            largest_file_bytes: files.iter().map(|file| file.1).max().unwrap_or(0),
            total_bytes: files.iter().map(|file| file.1).sum(),
            lanes: settings.lanes as usize,
            sessions: sessions as usize,
            session_memory,
        });
        self.limit_lanes(&mut plan)?;
        let failed = |error: glib::BoolError| format!("cannot create lanes: {error}");
        self.add_lanes(plan.lanes).map_err(failed)?;
        let lanes: Vec<Lane> = self.lanes.lock().iter().take(plan.lanes).cloned().collect();
        self.child_properties.apply(&lanes, &mut plan);
        gst::info!(CAT, imp = self, "{} files: {plan:?}", files.len());
        self.output.start();
        self.has_begun.store(false, Ordering::Relaxed);
        let total = files.len() as u64;
        // Files of an earlier run do not count.
        let all_lanes = self.lanes.lock().clone();
        let last_counted = all_lanes.iter().map(|lane| (lane.index, lane.running().number)).collect();
        let run = Arc::new(RunState {
            files: FileQueue::new(files, settings.order == Order::LargestFirst),
            gate: MemoryGate::new(plan.frame_memory, budget),
            plan,
            totals: Mutex::new(Totals { files: total, last_counted, ..Totals::default() }),
            active: AtomicUsize::new(lanes.len()),
            is_stopping: AtomicBool::new(false),
            has_warned: AtomicBool::new(false),
            progress: Mutex::default(),
            on_error: settings.on_error,
            failure: Mutex::default(),
            timeout: (settings.file_timeout > 0).then(|| Duration::from_nanos(settings.file_timeout)),
            started: Instant::now(),
        });
        *self.run.lock() = Some(Arc::clone(&run));
        for lane in lanes {
            let index = lane.index;
            let (bin, for_lane) = (self.obj().downgrade(), Arc::clone(&run));
            let thread = std::thread::Builder::new().name(format!("vxlane-{index}")).spawn(move || {
                if let Some(bin) = bin.upgrade() {
                    bin.imp().run_lane(&lane, &for_lane);
                }
            });
            match thread {
                Ok(thread) => self.threads.lock().push(thread),
                Err(error) if index == 0 => return Err(format!("cannot start a thread to read files: {error}")),
                Err(error) => {
                    gst::element_imp_warning!(
                        self,
                        gst::ResourceError::NoSpaceLeft,
                        ("lane {index} is not used because its thread cannot be started: {error}; the others continue without it")
                    );
                    // The other lanes may have ended already.
                    self.lane_ended(&run);
                }
            }
        }
        Ok(())
    }

    /// Reduces the lanes to those whose threads can be started.
    fn limit_lanes(&self, plan: &mut LanePlan) -> Result<(), String> {
        let lanes = lanes_with_threads(plan.lanes).map_err(|error| {
            format!("cannot start threads to read files: {error}. Raise the limit on processes (`ulimit -u`)")
        })?;
        if lanes < plan.lanes {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::NoSpaceLeft,
                ("{lanes} of {} lanes are used: threads for the others cannot be started", plan.lanes)
            );
            plan.lanes = lanes;
        }
        Ok(())
    }

    /// Runs a lane's thread: file after file.
    fn run_lane(&self, lane: &Lane, run: &RunState) {
        // Whatever happens, the end of the lane is reported.
        let _ended = LaneEndGuard { bin: self, run };
        // The first lane is in READY before the run; the others get there here, in parallel. A run continues without those that fail.
        let up = lane.bring_to_ready().and_then(|()| self.check_model(lane));
        if let Err(failure) = &up {
            gst::element_imp_warning!(
                self,
                gst::CoreError::StateChange,
                ("lane {} is not used: {}; the others continue without it", lane.index, failure.message),
                ["{}", failure.debug]
            );
        }
        while up.is_ok() && !run.is_stopping.load(Ordering::Acquire) {
            let Some(file) = run.files.next() else { break };
            if run.gate.enter(lane.index) {
                self.warn_of_memory(run);
            }
            gst::debug!(CAT, imp = self, "lane {} reads {file}", lane.index);
            let started = gst::Structure::builder(FILE_MESSAGE).field("file", &file).field("status", "started").build();
            let _ = self.obj().post_message(gst::message::Element::builder(started).src(&*self.obj()).build());
            let tick = || self.report_progress(run, gst::ProgressType::Continue);
            let Some(mut summary) = lane.process_file(&file, &run.gate, run.timeout, tick) else { break };
            let Ok(all_lost) = self.output.finish(lane.index, &mut summary) else { break };
            self.output.wait_for_delivery();
            let number = lane.running().number;
            {
                let mut totals = run.totals.lock();
                totals.add(&summary);
                totals.last_counted.insert(lane.index, number);
            }
            self.report_file(run, &summary);
            // Files of other lanes that were already reported.
            for lost in all_lost {
                run.totals.lock().replace(&lost.before, &lost.summary);
                self.report_file(run, &lost.summary);
            }
        }
    }

    /// Checks that a lane runs the model of the first one.
    fn check_model(&self, lane: &Lane) -> Result<(), Failure> {
        let first = self.lanes.lock().first().cloned();
        let detectors =
            first.as_ref().map(|first| [first, lane].map(|lane| lane.detector.downcast_ref::<YoloDetect>()));
        match detectors {
            Some([Some(first), Some(own)]) if !own.shares_engine_with(first) => {
                let replaced = "the model file was replaced during the run";
                Err(Failure::new(&glib::Error::new(gst::ResourceError::Failed, replaced), None))
            }
            _ => Ok(()),
        }
    }

    /// Handles the end of a lane; the last one ends the run.
    fn lane_ended(&self, run: &RunState) {
        if run.active.fetch_sub(1, Ordering::AcqRel) > 1 || run.is_stopping.load(Ordering::Acquire) {
            return;
        }
        self.report_progress(run, run.final_progress());
        let failure = run.failure.lock().clone();
        if let Some((summary, error)) = failure.as_ref().and_then(|summary| Some((summary, summary.error.as_ref()?))) {
            gst::element_imp_error!(
                self,
                gst::ResourceError::Failed,
                ("{}: {}", summary.file, error.message),
                ["{}", error.debug],
                details: summary.to_structure()
            );
        }
        self.output.end();
    }

    /// Reports the result of a file on the bus and in the log.
    fn report_file(&self, run: &RunState, summary: &Summary) {
        gst::info!(
            CAT,
            imp = self,
            "{}: {:?}, {} keyframes, {} detections in {:.3} s",
            summary.file,
            summary.status,
            summary.keyframes,
            summary.detection_count,
            summary.seconds.total
        );
        let message = gst::message::Element::builder(summary.to_structure()).src(&*self.obj()).build();
        // The result does not matter: there may be no receiver.
        let _ = self.obj().post_message(message);
        self.report_progress(run, gst::ProgressType::Continue);
        let Some(error) = &summary.error else { return };
        if run.on_error == OnError::Continue {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Failed,
                ("{}: {}", summary.file, error.message),
                ["{}", error.debug],
                details: summary.to_structure()
            );
        } else {
            // Files that were started are finished, then the run fails.
            run.files.stop();
            run.failure.lock().get_or_insert_with(|| summary.clone());
        }
    }

    /// Posts progress of type `kind`, preceded by the start if that is still due.
    pub(super) fn report_progress(&self, run: &RunState, kind: gst::ProgressType) {
        let is_end = !matches!(kind, gst::ProgressType::Start | gst::ProgressType::Continue);
        let before = {
            let mut progress = run.progress.lock();
            let before = *progress;
            if before == ProgressState::Ended
                || before == ProgressState::NotStarted && !self.is_playing.load(Ordering::Acquire)
            {
                return;
            }
            *progress = if is_end { ProgressState::Ended } else { ProgressState::Started };
            before
        };
        if before == ProgressState::NotStarted {
            self.post_progress(gst::ProgressType::Start, run);
        }
        if kind != gst::ProgressType::Start {
            self.post_progress(kind, run);
        }
    }

    /// Returns the totals of a run including the progress of files that have not ended, and that progress.
    pub(super) fn totals(&self, run: &RunState) -> (Totals, Vec<FileProgress>) {
        let lanes = self.lanes.lock().clone();
        // Progress first: a file that ends meanwhile is then in the totals.
        let lanes: Vec<_> = lanes.iter().map(|lane| (lane.index, lane.running())).collect();
        let mut totals = run.totals.lock().clone();
        let running = totals.add_running(&lanes);
        (totals, running)
    }

    fn post_progress(&self, kind: gst::ProgressType, run: &RunState) {
        let (totals, _) = self.totals(run);
        let text = format!(
            "{} of {} files, {} failed, {} damaged, {} keyframes, {} detections, {:.1} s",
            totals.done,
            totals.files,
            totals.failed,
            totals.damaged,
            totals.keyframes,
            totals.detections,
            run.started.elapsed().as_secs_f64()
        );
        let message = gst::message::Progress::builder(kind, "bulk", &text).src(&*self.obj()).build();
        let _ = self.obj().post_message(message);
    }

    /// Cancels the lanes, since downstream takes no more lines.
    pub(super) fn abandon(&self, kind: gst::ProgressType) {
        let run = self.run.lock().clone();
        if let Some(run) = run {
            run.is_stopping.store(true, Ordering::Release);
            run.files.stop();
            run.gate.open();
            self.report_progress(&run, kind);
        }
        self.output.flush();
        let lanes = self.lanes.lock().clone();
        lanes.iter().for_each(Lane::cancel);
    }

    /// Stops a run, whatever its lanes wait for.
    pub(super) fn stop(&self) {
        let run = self.run.lock().clone();
        if let Some(run) = &run {
            run.is_stopping.store(true, Ordering::Release);
            run.files.stop();
            run.gate.open();
            if run.active.load(Ordering::Acquire) > 0 {
                self.report_progress(run, gst::ProgressType::Canceled);
            }
        }
        self.output.flush();
        let lanes = self.lanes.lock().clone();
        lanes.iter().for_each(Lane::cancel);
        let me = std::thread::current().id();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.thread().id() != me {
                let _ = thread.join();
            }
        }
        lanes.iter().for_each(Lane::uncancel);
    }
}

/// Returns the size of a file; 0 if it cannot be read.
fn byte_len(file: &str) -> u64 {
    std::fs::metadata(crate::path::path_of(file)).map_or(0, |metadata| metadata.len())
}
