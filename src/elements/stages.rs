// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time that each stage of a frame took, for watchers: the tracer `vxlatency`, and [`StageRecorder`](crate::run::StageRecorder).
//!
//! Elements report each stage of each frame; without a watcher that is one atomic read. Watchers are called on streaming threads and
//! must return at once. Lock order: the list of watchers alone; it is held while they are called.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use once_cell::sync::Lazy;
use parking_lot::RwLock;

/// A stage of a frame's way through the elements, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FrameStage {
    /// `vxkeyframedec` opens the file: the container's header, stream and decoder. Once for each file.
    Open,
    /// It reads the keyframe's packets, and what it reads to find them.
    Read,
    /// It decodes the keyframe.
    Decode,
    /// It pushes the frame downstream, which includes waiting for room there.
    PushFrame,
    /// The frame waits in the queue of the engine of `vxyolodetect`.
    Queue,
    /// Its pixels are written into the model's input: letterbox, scaling, colour.
    Prepare,
    /// The model runs. All frames of a batch have the time of the batch.
    Infer,
    /// The model's outputs are decoded into detections, and overlapping ones suppressed.
    Outputs,
    /// `vxyolodetect` pushes the frame downstream.
    PushResult,
}

impl FrameStage {
    /// All stages, in order.
    pub const ALL: [Self; 9] = [
        Self::Open,
        Self::Read,
        Self::Decode,
        Self::PushFrame,
        Self::Queue,
        Self::Prepare,
        Self::Infer,
        Self::Outputs,
        Self::PushResult,
    ];

    /// Returns the name of its element.
    #[must_use]
    pub fn element(self) -> &'static str {
        match self {
            Self::Open | Self::Read | Self::Decode | Self::PushFrame => "vxkeyframedec",
            Self::Queue | Self::Prepare | Self::Infer | Self::Outputs | Self::PushResult => "vxyolodetect",
        }
    }
}

impl fmt::Display for FrameStage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Decode => "decode",
            Self::Queue => "queue",
            Self::Prepare => "letterbox",
            Self::Infer => "model",
            Self::Outputs => "outputs",
            Self::PushFrame | Self::PushResult => "push",
        })
    }
}

/// The time of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageTime {
    pub stage: FrameStage,
    /// PTS of the frame's buffer; `None` for files and for frames without one.
    pub pts: Option<gst::ClockTime>,
    pub took: Duration,
}

type Callback = Arc<dyn Fn(&StageTime) + Send + Sync>;

static WATCHERS: Lazy<RwLock<Vec<(usize, Callback)>>> = Lazy::new(RwLock::default);
/// Number of watchers.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A watcher of all elements in the process, until it is dropped.
#[derive(Debug)]
pub struct Watcher(usize);

/// Calls `watch` for each stage from now on.
#[must_use]
pub fn watch(watch: impl Fn(&StageTime) + Send + Sync + 'static) -> Watcher {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    WATCHERS.write().push((number, Arc::new(watch)));
    COUNT.fetch_add(1, Ordering::Release);
    Watcher(number)
}

impl Drop for Watcher {
    fn drop(&mut self) {
        WATCHERS.write().retain(|(number, _)| *number != self.0);
        COUNT.fetch_sub(1, Ordering::Release);
    }
}

/// Reports the times of stages of a frame.
pub(crate) fn report(pts: Option<gst::ClockTime>, times: &[(FrameStage, Duration)]) {
    if COUNT.load(Ordering::Acquire) == 0 {
        return;
    }
    for (_, watch) in WATCHERS.read().iter() {
        times.iter().for_each(|&(stage, took)| watch(&StageTime { stage, pts, took }));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn watchers_get_what_is_reported_while_they_exist() {
        let (sender, received) = channel();
        let own = Duration::from_nanos(123_456_789);
        let watcher = watch(move |time| sender.send(*time).unwrap());
        let pts = Some(gst::ClockTime::from_seconds(3));
        report(pts, &[(FrameStage::Read, own), (FrameStage::Decode, own)]);
        drop(watcher);
        report(pts, &[(FrameStage::Infer, own)]);
        // Other tests of this process may report too.
        let got: Vec<_> = received.iter().filter(|time| time.took == own).map(|time| (time.stage, time.pts)).collect();
        assert_eq!(got, [(FrameStage::Read, pts), (FrameStage::Decode, pts)]);
    }
}
