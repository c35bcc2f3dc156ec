// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps `vxyolodetect` in time on a live stream: how many of its frames may be in the engine, how long a frame waits for its
//! result, and the latency that follows.
//!
//! A detector that is slower than the source runs on the newest frame whenever the engine has room; the frames in between pass.
//! The time from a frame's arrival to its result is measured, the wait for other users of the engine included. From the largest
//! of the last ones follow the latency that the element reports, and the longest time that a frame is held.
//!
//! Thread rule: any thread. [`Look`]s end on the engine's threads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::enums::WhenLate;

/// Latency that is reported before the first measurement.
const INITIAL_LATENCY: Duration = Duration::from_millis(100);

/// Longest time that a frame is held before the first measurement: sessions may still be opening, and the stream goes on meanwhile.
const INITIAL_HOLD: Duration = Duration::from_secs(1);

/// Longest time that a frame is held with a fast model, which may be slow once.
const MIN_HOLD: Duration = Duration::from_millis(200);

/// Measurements that the latency is based on.
const WINDOW: usize = 32;

/// Most bytes of frames that wait behind one in the engine.
const MAX_HELD_BYTES: usize = 512 << 20;

/// Fewest and most frames that wait, whatever their size.
const HELD_FRAMES: (usize, usize) = (8, 1024);

/// What happens to frames that the detector has no time for: the property `when-late`, with `auto` decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They wait, and so does upstream.
    Block,
    /// They pass without inference.
    Skip,
    /// They are dropped.
    Drop,
}

impl Policy {
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Skip => "skip",
            Self::Drop => "drop",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Pacing {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether upstream is live, as its last answer to a latency query said.
    is_live: bool,
    /// Frames in the engine, those included that have left the element without waiting for their result.
    in_engine: usize,
    /// The last times from arrival to result.
    holds: VecDeque<Duration>,
    /// The latency that follows from them; `None` before the first.
    latency: Option<Duration>,
    /// Whether the latency has changed since it was last announced.
    has_changed: bool,
    /// Whether a first result came too late to count: it includes opening the session.
    has_warmed_up: bool,
}

impl Pacing {
    /// Forgets everything but the frames that are still in the engine.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        *state = State { in_engine: state.in_engine, ..State::default() };
    }

    pub fn set_live(&self, is_live: bool) {
        self.state.lock().is_live = is_live;
    }

    pub fn is_live(&self) -> bool {
        self.state.lock().is_live
    }

    pub fn policy(&self, when_late: WhenLate) -> Policy {
        match when_late {
            WhenLate::Auto if self.is_live() => Policy::Skip,
            WhenLate::Auto | WhenLate::Block => Policy::Block,
            WhenLate::Skip => Policy::Skip,
            WhenLate::Drop => Policy::Drop,
        }
    }

    /// Reserves room in the engine for a frame that arrived at `arrival`, if fewer than `most` are in it.
    pub fn begin(self: &Arc<Self>, arrival: Instant, most: usize) -> Option<Arc<Look>> {
        let mut state = self.state.lock();
        if state.in_engine >= most {
            return None;
        }
        state.in_engine += 1;
        drop(state);
        Some(Arc::new(Look { pacing: Arc::clone(self), arrival, has_failed: AtomicBool::new(false) }))
    }

    fn end(&self, hold: Option<Duration>) {
        let mut state = self.state.lock();
        state.in_engine = state.in_engine.saturating_sub(1);
        if let Some(hold) = hold {
            state.measured(hold);
        }
    }

    /// Returns the longest time between arrival and departure of a frame in normal operation.
    pub fn latency(&self) -> Duration {
        self.state.lock().latency.unwrap_or(INITIAL_LATENCY)
    }

    /// Returns the latency if it has changed notably since the last call.
    pub fn changed_latency(&self) -> Option<Duration> {
        let mut state = self.state.lock();
        let has_changed = std::mem::take(&mut state.has_changed);
        state.latency.filter(|_| has_changed)
    }

    /// Returns the longest time that a frame of a live stream waits for its result.
    pub fn longest_hold(&self) -> Duration {
        self.state.lock().latency.map_or(INITIAL_HOLD, |latency| (2 * latency).max(MIN_HOLD))
    }
}

impl State {
    fn measured(&mut self, hold: Duration) {
        if self.latency.is_none() && !self.has_warmed_up && hold > INITIAL_HOLD {
            self.has_warmed_up = true;
            return;
        }
        if self.holds.len() == WINDOW {
            self.holds.pop_front();
        }
        self.holds.push_back(hold);
        let longest = self.holds.iter().max().copied().unwrap_or_default();
        let fitting = longest * 5 / 4;
        let latency = match self.latency {
            // The next frame may have to wait for a whole run before its own.
            None => hold * 2,
            Some(latency) if longest > latency => fitting,
            Some(latency) if self.holds.len() == WINDOW && fitting * 2 < latency => fitting,
            Some(latency) => latency,
        };
        self.has_changed |= self.latency != Some(latency);
        self.latency = Some(latency);
    }
}

/// A frame in the engine. Ends when it is dropped, with the last part of the frame that is answered.
#[derive(Debug)]
pub struct Look {
    pacing: Arc<Pacing>,
    arrival: Instant,
    has_failed: AtomicBool,
}

impl Look {
    /// Marks it as without a result: its time does not count.
    pub fn fail(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let has_result = !self.has_failed.load(Ordering::Relaxed);
        self.pacing.end(has_result.then(|| self.arrival.elapsed()));
    }
}

/// Returns the most frames of `bytes` bytes that wait in the element on a live stream.
pub fn most_held(bytes: usize) -> usize {
    (MAX_HELD_BYTES / bytes.max(1)).clamp(HELD_FRAMES.0, HELD_FRAMES.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(holds_ms: &[u64]) -> (State, usize) {
        let mut state = State::default();
        let mut changes = 0;
        for hold in holds_ms {
            state.measured(Duration::from_millis(*hold));
            changes += usize::from(std::mem::take(&mut state.has_changed));
        }
        (state, changes)
    }

    fn latency_ms(holds_ms: &[u64]) -> Option<u128> {
        measured(holds_ms).0.latency.map(|latency| latency.as_millis())
    }

    #[test]
    fn the_latency_follows_the_longest_of_the_last_times_and_rarely_changes() {
        assert_eq!(latency_ms(&[]), None);
        let steady: Vec<_> = (0..100).map(|look| 100 + look % 33).collect();
        let (state, changes) = measured(&steady);
        assert_eq!((state.latency, changes), (Some(Duration::from_millis(200)), 1));
        // Slower: at once. Faster: when the slow ones are out of the window.
        assert_eq!(latency_ms(&[100, 400]), Some(500));
        let faster = |count: usize| [vec![400], vec![10; count]].concat();
        assert_eq!(latency_ms(&faster(WINDOW - 1)), Some(800));
        assert_eq!(latency_ms(&faster(WINDOW)), Some(12));
    }

    #[test]
    fn the_first_result_does_not_count_if_a_session_was_opened_for_it() {
        assert_eq!(latency_ms(&[3000]), None);
        assert_eq!(latency_ms(&[3000, 50]), Some(100));
        assert_eq!(latency_ms(&[3000, 3000]), Some(6000));
    }

    #[test]
    fn room_in_the_engine_is_returned_by_every_end_of_a_look() {
        let pacing = Arc::new(Pacing::default());
        let now = Instant::now();
        let look = pacing.begin(now, 1);
        assert!(look.is_some() && pacing.begin(now, 1).is_none() && pacing.begin(now, 2).is_some());
        // A stream that ends does not take its frames out of the engine.
        pacing.reset();
        assert!(pacing.begin(now, 1).is_none());
        drop(look);
        let look = pacing.begin(now, 1);
        assert!(look.is_some_and(|look| {
            look.fail();
            true
        }));
        assert!(pacing.begin(now, 1).is_some());
        // Since the reset; one failed.
        assert_eq!(pacing.state.lock().holds.len(), 2);
    }

    #[test]
    fn memory_limits_the_frames_that_wait() {
        assert_eq!(most_held(1920 * 1080 * 3 / 2), 172);
        assert_eq!(most_held(0), 1024);
        assert_eq!(most_held(usize::MAX), 8);
    }
}
