// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happened to each frame of one file, stage by stage, for people who look for the reason of a delay.
//!
//! Any thread: elements report on their streaming threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use crate::elements::stages::FrameStage;
use crate::elements::stages::{self, Watcher};

/// Most frames that are kept; later ones are counted.
const MAX_FRAMES: usize = 10_000;

/// The times of the stages of one file's frames.
#[derive(Debug, Clone, Default)]
pub struct StageTimes {
    /// Time to open the file.
    pub open: Option<Duration>,
    /// For each presentation time in nanoseconds from the beginning of the file: the stages of its frame.
    pub frames: BTreeMap<u64, BTreeMap<FrameStage, Duration>>,
    /// Stages of frames that came after the first 10,000 frames, or have no time.
    pub left_out: u64,
}

/// Collects the times of frames in this process from its creation on. Of several files at once the frames cannot be told apart: use
/// it for runs over one file that are not isolated.
#[derive(Debug)]
pub struct StageRecorder {
    times: Arc<Mutex<StageTimes>>,
    _watcher: Watcher,
}

impl StageRecorder {
    /// Starts collecting.
    #[must_use]
    pub fn start() -> Self {
        let times = Arc::new(Mutex::new(StageTimes::default()));
        let shared = Arc::clone(&times);
        let watcher = stages::watch(move |time| {
            let mut times = shared.lock();
            let is_full = times.frames.len() >= MAX_FRAMES;
            match time.pts.map(gst::ClockTime::nseconds) {
                _ if time.stage == FrameStage::Open => times.open = Some(time.took),
                Some(pts) if !is_full || times.frames.contains_key(&pts) => {
                    *times.frames.entry(pts).or_default().entry(time.stage).or_default() += time.took;
                }
                _ => times.left_out += 1,
            }
        });
        Self { times, _watcher: watcher }
    }

    /// Returns what was collected so far.
    #[must_use]
    pub fn times(&self) -> StageTimes {
        self.times.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_after_many_others_are_only_counted() {
        let recorder = StageRecorder::start();
        let report = |pts: u64, stage: FrameStage| {
            stages::report(Some(gst::ClockTime::from_nseconds(pts)), &[(stage, Duration::from_nanos(1))]);
        };
        (0..=MAX_FRAMES as u64).for_each(|pts| report(pts, FrameStage::Read));
        // A later stage of a frame that is kept.
        report(0, FrameStage::Decode);
        let times = recorder.times();
        assert_eq!((times.frames.len(), times.frames[&0].len()), (MAX_FRAMES, 2));
        // Other tests of this process may report too.
        assert!(times.left_out >= 1 && !times.frames.contains_key(&(MAX_FRAMES as u64)));
    }
}
