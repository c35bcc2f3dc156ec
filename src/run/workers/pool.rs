// SPDX-License-Identifier: MIT OR Apache-2.0
//! The number of workers: as many as are wanted, fit into memory by the need of the first, and can be started.
//!
//! Shared by the supervisor's threads.

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Memory that a worker needs beyond a loaded model: frames of full HD in decoder and model, and the rest of its heap. Measured with the
/// built-in model: 12 MiB for a small clip; H.264 of 1080p with one decoder thread: about 50 MiB.
pub const WORKING_MEMORY: u64 = 64 << 20;

/// The use of workers.
#[derive(Debug, Default)]
pub struct Usage {
    /// Workers that were started, each of which loads the model.
    pub started: AtomicUsize,
    /// The most bytes of memory that one of them held.
    pub memory: AtomicU64,
}

/// See the module.
pub struct Pool {
    wanted: usize,
    /// Bytes of memory for all.
    budget: Option<u64>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Workers that may run; `None` until that is known.
    allowed: Option<usize>,
    /// Threads that have not ended.
    active: usize,
    /// Bytes that each worker holds.
    held: Vec<u64>,
}

impl Pool {
    /// Creates a pool of at most `wanted` workers.
    pub fn new(wanted: usize, budget: Option<u64>) -> Self {
        let state = State { allowed: None, active: wanted, held: vec![0; wanted] };
        Self { wanted, budget, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Returns the number of workers that share the cores.
    pub fn expected(&self) -> usize {
        self.state.lock().allowed.unwrap_or(self.wanted).max(1)
    }

    /// Returns the bytes of memory for one worker.
    pub fn memory_share(&self) -> Option<u64> {
        self.budget.map(|budget| budget / self.expected() as u64)
    }

    /// Decides how many workers may run, by the bytes that the first holds when it is ready; once.
    ///
    /// # Errors
    /// Not even one fits; with the bytes that it needs.
    pub fn measure(&self, first: Option<u64>) -> Result<(), String> {
        let mut state = self.state.lock();
        if state.allowed.is_some() {
            return Ok(());
        }
        let fitting = self.budget.zip(first).map(|(budget, first)| fitting(budget, first));
        let allowed = fitting.map_or(self.wanted, |fitting| fitting.min(self.wanted));
        state.allowed = Some(allowed);
        drop(state);
        self.changed.notify_all();
        match first.zip(self.budget) {
            Some((first, budget)) if allowed == 0 => Err(format!(
                "a worker process with this model needs {} MiB of memory, and {} MiB are allowed; raise `memory_limit`, or \
                 read files without `isolate`",
                (first + WORKING_MEMORY) >> 20,
                budget >> 20
            )),
            _ => Ok(()),
        }
    }

    /// Allows no other worker than those that run.
    pub fn close(&self) {
        self.state.lock().allowed.get_or_insert(0);
        self.changed.notify_all();
    }

    /// Waits until the number of workers is known; returns whether the one with this index is needed, or `None` after `timeout`.
    pub fn is_needed(&self, index: usize, timeout: Duration) -> Option<bool> {
        let mut state = self.state.lock();
        if index > 0 && state.allowed.is_none() {
            self.changed.wait_for(&mut state, timeout);
        }
        let allowed = if index == 0 { Some(state.allowed.unwrap_or(1)) } else { state.allowed };
        drop(state);
        allowed.map(|allowed| index < allowed)
    }

    /// Records the bytes that a worker holds. Returns its share, if it holds more, and all workers hold more than is allowed.
    pub fn record_memory(&self, index: usize, bytes: u64) -> Option<u64> {
        let mut state = self.state.lock();
        state.held[index] = bytes;
        let all: u64 = state.held.iter().sum();
        drop(state);
        self.memory_share().filter(|share| bytes > *share && self.budget.is_some_and(|budget| all > budget))
    }

    /// Returns whether there are workers beside the one with this index.
    pub fn has_others(&self, index: usize) -> bool {
        self.state.lock().held.iter().enumerate().any(|(other, held)| other != index && *held > 0)
    }

    /// Records that a thread has ended, or was never started; returns whether it was the last one.
    pub fn leave(&self) -> bool {
        let mut state = self.state.lock();
        state.active -= 1;
        state.active == 0
    }
}

/// Returns how many workers fit into `budget` bytes if the first holds `first` when it is ready.
fn fitting(budget: u64, first: u64) -> usize {
    usize::try_from(budget / (first + WORKING_MEMORY)).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn as_many_workers_run_as_fit() {
        // Wanted, budget and what the first one holds in MiB: how many run.
        for (wanted, budget, first, expected) in [
            (4, None, Some(160), 4),
            (4, Some(512), None, 4),
            (4, Some(512), Some(160), 2),
            (4, Some(448), Some(160), 2),
            (4, Some(447), Some(160), 1),
            (1, Some(100_000), Some(160), 1),
            (64, Some(100_000), Some(160), 64),
        ] {
            let pool = Pool::new(wanted, budget.map(|budget: u64| budget * MIB));
            assert_eq!(pool.is_needed(0, Duration::ZERO), Some(true));
            assert!(wanted == 1 || pool.is_needed(1, Duration::ZERO).is_none());
            pool.measure(first.map(|first: u64| first * MIB)).unwrap();
            let running = (0..wanted).filter(|index| pool.is_needed(*index, Duration::ZERO) == Some(true)).count();
            assert_eq!((running, pool.expected()), (expected, expected), "{wanted} {budget:?} {first:?}");
        }
        let pool = Pool::new(4, Some(200 * MIB));
        let reason = pool.measure(Some(160 * MIB)).unwrap_err();
        assert!(reason.contains("224 MiB") && reason.contains("200 MiB are allowed"), "{reason}");
        assert_eq!(pool.is_needed(1, Duration::ZERO), Some(false));
    }

    #[test]
    fn a_worker_may_hold_more_than_its_share_while_there_is_room() {
        let pool = Pool::new(2, Some(1000));
        pool.measure(Some(1)).unwrap_err();
        let pool = Pool::new(2, Some(1000 * MIB));
        pool.measure(Some(100 * MIB)).unwrap();
        assert_eq!(pool.record_memory(0, 800 * MIB), None);
        assert_eq!(pool.record_memory(1, 300 * MIB), None);
        assert_eq!(pool.record_memory(0, 800 * MIB), Some(500 * MIB));
        assert_eq!(pool.record_memory(0, 0), None);
    }

    #[test]
    fn the_last_thread_is_recognised() {
        let pool = Pool::new(3, None);
        pool.close();
        assert_eq!(pool.is_needed(2, Duration::ZERO), Some(false));
        assert_eq!([pool.leave(), pool.leave(), pool.leave()], [false, false, true]);
    }
}
