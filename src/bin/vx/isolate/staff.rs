//! How many workers run: as many as were asked for, as fit into memory by what the first of them takes, and as can be started.
//!
//! Shared by the threads that look after them.

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// What a worker takes beyond a loaded model: frames of full HD in decoder and model, and the rest of its heap. Measured with the
/// built-in model: 12 MiB for a small clip; H.264 of 1080p with one decoder thread: about 50 MiB.
pub const WORKING_MEMORY: u64 = 64 << 20;

/// What workers took.
#[derive(Debug, Default)]
pub struct Usage {
    /// How many were started, each of which loads the model.
    pub started: AtomicUsize,
    /// The most bytes of memory that one of them held.
    pub memory: AtomicU64,
}

/// See the module.
pub struct Staff {
    wanted: usize,
    /// Bytes of memory for all.
    budget: Option<u64>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// How many may run, as soon as that is known.
    allowed: Option<usize>,
    /// Threads that have not ended.
    active: usize,
    /// Bytes that each worker holds.
    held: Vec<u64>,
}

impl Staff {
    /// Of `wanted` workers at most.
    pub fn new(wanted: usize, budget: Option<u64>) -> Self {
        let state = State { allowed: None, active: wanted, held: vec![0; wanted] };
        Self { wanted, budget, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Workers among which cores are shared.
    pub fn expected(&self) -> usize {
        self.state.lock().allowed.unwrap_or(self.wanted).max(1)
    }

    /// The share of one worker.
    pub fn memory_share(&self) -> Option<u64> {
        self.budget.map(|budget| budget / self.expected() as u64)
    }

    /// The first worker is ready and holds so many bytes; decides how many there can be, if that is not decided.
    ///
    /// # Errors
    /// When not even one fits: what it needs.
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
                "--isolate: a worker process with this model needs {} MiB of memory, and {} MiB are allowed; raise \
                 --memory-limit, or read files without --isolate",
                (first + WORKING_MEMORY) >> 20,
                budget >> 20
            )),
            _ => Ok(()),
        }
    }

    /// No worker will run beside those that do.
    pub fn close(&self) {
        self.state.lock().allowed.get_or_insert(0);
        self.changed.notify_all();
    }

    /// Waits until it is known how many run; whether the one with this index is among them. Nothing after a moment.
    pub fn is_needed(&self, index: usize, moment: Duration) -> Option<bool> {
        let mut state = self.state.lock();
        if index > 0 && state.allowed.is_none() {
            self.changed.wait_for(&mut state, moment);
        }
        let allowed = if index == 0 { Some(state.allowed.unwrap_or(1)) } else { state.allowed };
        drop(state);
        allowed.map(|allowed| index < allowed)
    }

    /// A worker holds so many bytes. If that is more than its share, and all together hold more than there is for all: its share.
    pub fn weigh(&self, index: usize, bytes: u64) -> Option<u64> {
        let mut state = self.state.lock();
        state.held[index] = bytes;
        let all: u64 = state.held.iter().sum();
        drop(state);
        self.memory_share().filter(|share| bytes > *share && self.budget.is_some_and(|budget| all > budget))
    }

    /// Whether there are workers beside the one with this index.
    pub fn has_others(&self, index: usize) -> bool {
        self.state.lock().held.iter().enumerate().any(|(other, held)| other != index && *held > 0)
    }

    /// A thread has ended, or never started; whether it was the last one.
    pub fn leave(&self) -> bool {
        let mut state = self.state.lock();
        state.active -= 1;
        state.active == 0
    }
}

/// How many workers fit into `budget` bytes if the first holds `first` when it is ready.
fn fitting(budget: u64, first: u64) -> usize {
    usize::try_from(budget / (first + WORKING_MEMORY)).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn workers_are_as_many_as_fit() {
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
            let staff = Staff::new(wanted, budget.map(|budget: u64| budget * MIB));
            assert_eq!(staff.is_needed(0, Duration::ZERO), Some(true));
            assert!(wanted == 1 || staff.is_needed(1, Duration::ZERO).is_none());
            staff.measure(first.map(|first: u64| first * MIB)).unwrap();
            let running = (0..wanted).filter(|index| staff.is_needed(*index, Duration::ZERO) == Some(true)).count();
            assert_eq!((running, staff.expected()), (expected, expected), "{wanted} {budget:?} {first:?}");
        }
        let staff = Staff::new(4, Some(200 * MIB));
        let reason = staff.measure(Some(160 * MIB)).unwrap_err();
        assert!(reason.contains("224 MiB") && reason.contains("200 MiB are allowed"), "{reason}");
        assert_eq!(staff.is_needed(1, Duration::ZERO), Some(false));
    }

    #[test]
    fn a_worker_may_take_more_than_its_share_while_there_is_room() {
        let staff = Staff::new(2, Some(1000));
        staff.measure(Some(1)).unwrap_err();
        let staff = Staff::new(2, Some(1000 * MIB));
        staff.measure(Some(100 * MIB)).unwrap();
        assert_eq!(staff.weigh(0, 800 * MIB), None);
        assert_eq!(staff.weigh(1, 300 * MIB), None);
        assert_eq!(staff.weigh(0, 800 * MIB), Some(500 * MIB));
        assert_eq!(staff.weigh(0, 0), None);
    }

    #[test]
    fn the_last_to_leave_knows_it() {
        let staff = Staff::new(3, None);
        staff.close();
        assert_eq!(staff.is_needed(2, Duration::ZERO), Some(false));
        assert_eq!([staff.leave(), staff.leave(), staff.leave()], [false, false, true]);
    }
}
