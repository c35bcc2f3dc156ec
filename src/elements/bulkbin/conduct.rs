//! Conducting a run: lanes made, a thread for each, what they report passed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;

use super::imp::{BulkBin, CAT};
use super::lane::{Lane, Running};
use super::plan::{Plan, Situation};
use super::run::{Files, Gate, Sums};
use super::settings::{OnError, Order};
use super::threads::lanes_with_threads;
use crate::memory;
use crate::record::Summary;

/// One pass over the list of files.
pub(super) struct Run {
    pub files: Files,
    pub gate: Gate,
    pub plan: Plan,
    pub sums: Mutex<Sums>,
    /// Lanes that have not ended.
    pub active: AtomicUsize,
    pub is_stopping: AtomicBool,
    pub has_warned: AtomicBool,
    /// How far the messages about its progress are.
    pub told: Mutex<Told>,
    pub on_error: OnError,
    /// Of the first file that failed, where that ends the run.
    pub failure: Mutex<Option<Summary>>,
    pub timeout: Option<Duration>,
    pub started: Instant,
}

/// What has been told of a run's progress. Applications stay in PAUSED while there is progress (gst-launch-1.0 does), so nothing
/// is told before PLAYING.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Told {
    #[default]
    Nothing,
    Start,
    End,
}

impl Run {
    /// How its progress ends.
    pub fn end(&self) -> gst::ProgressType {
        if self.failure.lock().is_some() { gst::ProgressType::Error } else { gst::ProgressType::Complete }
    }
}

/// Tells of a lane's end when it is dropped.
struct Ended<'a> {
    bin: &'a BulkBin,
    run: &'a Run,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.bin.lane_ended(self.run);
    }
}

impl BulkBin {
    /// Makes lanes until there are `count`, like the first.
    pub(super) fn add_lanes(&self, count: usize) -> Result<(), glib::BoolError> {
        let mut lanes = self.lanes.lock().clone();
        while lanes.len() < count {
            let lane = Lane::new(lanes.len(), &self.output)?;
            for element in lane.elements().into_iter().rev() {
                self.obj().add(element)?;
            }
            lane.link()?;
            self.guard_memory(&lane);
            if lane.index == 0 {
                self.equipment.watch(&lane);
            }
            lanes.push(lane);
        }
        *self.lanes.lock() = lanes;
        Ok(())
    }

    /// Makes frames of `lane` wait where there is no memory for them.
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

    fn warn_of_memory(&self, run: &Run) {
        if !run.has_warned.swap(true, Ordering::Relaxed) {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::NoSpaceLeft,
                ("lanes wait for one another, because all at once do not fit into memory-limit; raise it if there is more")
            );
        }
    }

    /// Plans and starts a run.
    pub(super) fn start(&self) -> Result<(), String> {
        let settings = self.settings.lock().clone();
        let files = settings.all_files()?.into_iter();
        let files: Vec<(String, u64)> = files.map(|file| (file.clone(), byte_len(&file))).collect();
        let sessions = self.first_stats().and_then(|stats| stats.get::<u32>("sessions").ok()).unwrap_or(1);
        let budget = memory::budget(settings.memory_limit);
        let mut plan = Plan::new(Situation {
            cores: num_cpus::get(),
            memory: budget,
            files: files.len(),
            bytes: (files.iter().map(|file| file.1).max().unwrap_or(0), files.iter().map(|file| file.1).sum()),
            lanes: settings.lanes as usize,
            sessions: sessions as usize,
        });
        self.limit_lanes(&mut plan)?;
        let failed = |error: glib::BoolError| format!("lanes cannot be made: {error}");
        self.add_lanes(plan.lanes).map_err(failed)?;
        let lanes: Vec<Lane> = self.lanes.lock().iter().take(plan.lanes).cloned().collect();
        self.equipment.equip(&lanes, &mut plan);
        gst::info!(CAT, imp = self, "{} files: {plan:?}", files.len());
        self.output.start();
        self.has_begun.store(false, Ordering::Relaxed);
        let total = files.len() as u64;
        // Files of an earlier run are not of this one.
        let all_lanes = self.lanes.lock().clone();
        let last_of_lane = all_lanes.iter().map(|lane| (lane.index, lane.running().number)).collect();
        let run = Arc::new(Run {
            files: Files::new(files, settings.order == Order::LargestFirst),
            gate: Gate::new(plan.frame_memory, budget),
            plan,
            sums: Mutex::new(Sums { files: total, last_of_lane, ..Sums::default() }),
            active: AtomicUsize::new(lanes.len()),
            is_stopping: AtomicBool::new(false),
            has_warned: AtomicBool::new(false),
            told: Mutex::default(),
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
                    bin.imp().work(&lane, &for_lane);
                }
            });
            match thread {
                Ok(thread) => self.threads.lock().push(thread),
                Err(error) if index == 0 => return Err(format!("no thread could be started to read files: {error}")),
                Err(error) => {
                    gst::element_imp_warning!(
                        self,
                        gst::ResourceError::NoSpaceLeft,
                        ("lane {index} cannot be used: no thread could be started: {error}; the others go on without it")
                    );
                    // The others may have ended already.
                    self.lane_ended(&run);
                }
            }
        }
        Ok(())
    }

    /// Leaves out lanes for which no threads can be started.
    fn limit_lanes(&self, plan: &mut Plan) -> Result<(), String> {
        let lanes = lanes_with_threads(plan.lanes).map_err(|error| {
            format!("no threads could be started to read files: {error}. Raise the limit on processes (`ulimit -u`)")
        })?;
        if lanes < plan.lanes {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::NoSpaceLeft,
                ("{lanes} of {} lanes are used: no threads could be started for the others", plan.lanes)
            );
            plan.lanes = lanes;
        }
        Ok(())
    }

    /// A lane's thread: file after file.
    fn work(&self, lane: &Lane, run: &Run) {
        // Whatever happens in it, a lane's end is seen.
        let _ended = Ended { bin: self, run };
        // Those beyond the first, which has come up before the run, do so here, side by side. The others do without one.
        let up = lane.come_up();
        if let Err(failure) = &up {
            gst::element_imp_warning!(
                self,
                gst::CoreError::StateChange,
                ("lane {} cannot be used: {}; the others go on without it", lane.index, failure.message),
                ["{}", failure.debug]
            );
        }
        while up.is_ok() && !run.is_stopping.load(Ordering::Acquire) {
            let Some(file) = run.files.next() else { break };
            if run.gate.enter(lane.index) {
                self.warn_of_memory(run);
            }
            gst::debug!(CAT, imp = self, "lane {} reads {file}", lane.index);
            let begun = gst::Structure::builder("vx-file").field("file", &file).field("status", "begun").build();
            let _ = self.obj().post_message(gst::message::Element::builder(begun).src(&*self.obj()).build());
            let tick = || self.tell_progress(run, gst::ProgressType::Continue);
            let Some(mut summary) = lane.play(&file, &run.gate, run.timeout, tick) else { break };
            let Ok(all_lost) = self.output.finish(lane.index, &mut summary) else { break };
            let number = lane.running().number;
            {
                let mut sums = run.sums.lock();
                sums.add(&summary);
                sums.last_of_lane.insert(lane.index, number);
            }
            self.tell(run, &summary);
            // Files of other lanes, which were reported as read.
            for lost in all_lost {
                run.sums.lock().replace(&lost.before, &lost.summary);
                self.tell(run, &lost.summary);
            }
        }
    }

    /// A lane has ended; the last one ends the run.
    fn lane_ended(&self, run: &Run) {
        if run.active.fetch_sub(1, Ordering::AcqRel) > 1 || run.is_stopping.load(Ordering::Acquire) {
            return;
        }
        self.tell_progress(run, run.end());
        let failure = run.failure.lock().clone();
        if let Some((summary, error)) = failure.as_ref().and_then(|summary| Some((summary, summary.error.as_ref()?))) {
            gst::element_imp_error!(
                self,
                gst::ResourceError::Failed,
                ("{}: {}", summary.file, error.message),
                ["{}", error.debug]
            );
        }
        self.output.end();
    }

    /// Says on the bus and in the log what a file came to.
    fn tell(&self, run: &Run, summary: &Summary) {
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
        // Nobody has to listen.
        let _ = self.obj().post_message(message);
        self.tell_progress(run, gst::ProgressType::Continue);
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
            // Those that are begun are ended, then there is an error.
            run.files.stop();
            run.failure.lock().get_or_insert_with(|| summary.clone());
        }
    }

    /// Tells of progress what is due at this moment, which is of `kind`.
    pub(super) fn tell_progress(&self, run: &Run, kind: gst::ProgressType) {
        let is_end = !matches!(kind, gst::ProgressType::Start | gst::ProgressType::Continue);
        let before = {
            let mut told = run.told.lock();
            let before = *told;
            if before == Told::End || before == Told::Nothing && !self.is_playing.load(Ordering::Acquire) {
                return;
            }
            *told = if is_end { Told::End } else { Told::Start };
            before
        };
        if before == Told::Nothing {
            self.post_progress(gst::ProgressType::Start, run);
        }
        if kind != gst::ProgressType::Start {
            self.post_progress(kind, run);
        }
    }

    /// Sums of a run with what its files came to so far that have not ended, and these.
    pub(super) fn sums(&self, run: &Run) -> (Sums, Vec<Running>) {
        let lanes = self.lanes.lock().clone();
        // First what may end meanwhile: sums then know of it.
        let lanes: Vec<_> = lanes.iter().map(|lane| (lane.index, lane.running())).collect();
        let mut sums = run.sums.lock().clone();
        let running = sums.add_running(&lanes);
        (sums, running)
    }

    fn post_progress(&self, kind: gst::ProgressType, run: &Run) {
        let (sums, _) = self.sums(run);
        let text = format!(
            "{} of {} files, {} failed, {} damaged, {} keyframes, {} detections, {:.1} s",
            sums.done,
            sums.files,
            sums.failed,
            sums.damaged,
            sums.keyframes,
            sums.detections,
            run.started.elapsed().as_secs_f64()
        );
        let message = gst::message::Progress::builder(kind, "bulk", &text).src(&*self.obj()).build();
        let _ = self.obj().post_message(message);
    }

    /// Ends what lanes do and wait for, since nobody takes their lines any more.
    pub(super) fn abandon(&self, kind: gst::ProgressType) {
        let run = self.run.lock().clone();
        if let Some(run) = run {
            run.is_stopping.store(true, Ordering::Release);
            run.files.stop();
            run.gate.open();
            self.tell_progress(&run, kind);
        }
        self.output.flush();
        let lanes = self.lanes.lock().clone();
        lanes.iter().for_each(Lane::cancel);
    }

    /// Ends a run, whatever its lanes wait for.
    pub(super) fn stop(&self) {
        let run = self.run.lock().clone();
        if let Some(run) = &run {
            run.is_stopping.store(true, Ordering::Release);
            run.files.stop();
            run.gate.open();
            if run.active.load(Ordering::Acquire) > 0 {
                self.tell_progress(run, gst::ProgressType::Canceled);
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

/// Length of a file; 0 for what cannot be looked at.
fn byte_len(file: &str) -> u64 {
    std::fs::metadata(crate::path::path_of(file)).map_or(0, |metadata| metadata.len())
}
