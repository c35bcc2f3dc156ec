// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bounds the memory of a run: lanes wait where their frames do not fit.
//!
//! Thread rule: any thread.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::{Condvar, Mutex};

use crate::memory;

/// Admits lanes as far as their frames fit into memory; one lane is always admitted.
#[derive(Debug, Default)]
pub(super) struct MemoryGate {
    /// Bytes for the frames of all lanes; `None` for no limit.
    limit: Option<u64>,
    /// Bytes of process memory beyond which no further file is started.
    process_limit: Option<u64>,
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_open: bool,
    /// Bytes in use by lane.
    held: BTreeMap<usize, u64>,
    /// Lanes whose file has ended: its remaining frames are always admitted.
    ended: BTreeSet<usize>,
}

impl GateState {
    /// Whether frames of so many bytes fit on `lane`. If so they are counted, else the lane counts as empty.
    fn admit(&mut self, lane: usize, bytes: u64, limit: Option<u64>) -> bool {
        if self.ended.contains(&lane) {
            return true;
        }
        let others: u64 = self.held.iter().filter(|(other, _)| **other != lane).map(|(_, bytes)| bytes).sum();
        let fits = limit.is_none_or(|limit| others.saturating_add(bytes) <= limit) || others == 0 || self.is_open;
        // Two lanes that both want more must not wait for each other.
        self.held.insert(lane, if fits { bytes } else { 0 });
        fits
    }
}

impl MemoryGate {
    pub fn new(limit: Option<u64>, process_limit: Option<u64>) -> Self {
        Self { limit, process_limit, ..Self::default() }
    }

    /// Waits until the process has memory for another file on `lane`, if other files are being read. Returns whether it had to wait.
    pub fn enter(&self, lane: usize) -> bool {
        let mut has_waited = false;
        let mut state = self.state.lock();
        state.ended.remove(&lane);
        while !state.is_open
            && !state.held.is_empty()
            && self.process_limit.zip(memory::resident()).is_some_and(|(limit, taken)| taken > limit)
        {
            has_waited = true;
            // Other lanes free memory also without releasing the gate.
            self.changed.wait_for(&mut state, std::time::Duration::from_millis(200));
        }
        state.held.insert(lane, 0);
        has_waited
    }

    /// Waits until frames of so many bytes fit beside those of the other lanes. Returns whether it had to wait.
    pub fn acquire(&self, lane: usize, bytes: u64) -> bool {
        let mut has_waited = false;
        let mut state = self.state.lock();
        while !state.admit(lane, bytes, self.limit) {
            self.changed.notify_all();
            has_waited = true;
            self.changed.wait(&mut state);
        }
        drop(state);
        has_waited
    }

    /// Releases the memory of the lane's file, which has ended.
    pub fn release(&self, lane: usize) {
        let mut state = self.state.lock();
        state.held.remove(&lane);
        state.ended.insert(lane);
        drop(state);
        self.changed.notify_all();
    }

    /// Admits all lanes from now on.
    pub fn open(&self) {
        self.state.lock().is_open = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn lanes_wait_for_memory_but_one_is_always_admitted() {
        let gate = Arc::new(MemoryGate::new(Some(100), None));
        gate.enter(0);
        assert!(!gate.acquire(0, 1000));
        let other = {
            let gate = Arc::clone(&gate);
            std::thread::spawn(move || gate.acquire(1, 10))
        };
        std::thread::sleep(Duration::from_millis(20));
        assert!(!other.is_finished());
        gate.release(0);
        other.join().unwrap();
        assert!(!gate.acquire(2, 90));
        gate.open();
        assert!(!gate.acquire(3, 1000));
    }

    #[test]
    fn no_file_starts_beyond_the_limit_while_others_are_read() {
        let gate = MemoryGate::new(None, Some(1));
        assert!(!gate.enter(0));
        std::thread::scope(|scope| {
            let other = scope.spawn(|| gate.enter(1));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!other.is_finished() || memory::resident().is_none());
            gate.release(0);
            other.join().unwrap();
        });
    }

    #[test]
    fn lanes_that_both_want_more_do_not_wait_for_each_other() {
        let gate = MemoryGate::new(Some(100), None);
        (0..2).for_each(|lane| {
            gate.enter(lane);
            gate.acquire(lane, 40);
        });
        std::thread::scope(|scope| {
            let lanes = [0, 1].map(|lane| {
                let gate = &gate;
                scope.spawn(move || {
                    gate.acquire(lane, 90);
                    gate.release(lane);
                })
            });
            lanes.into_iter().for_each(|lane| lane.join().unwrap());
            gate.enter(0);
            gate.acquire(0, 90);
            gate.enter(1);
            let waiting = scope.spawn(|| gate.acquire(1, 90));
            gate.release(1);
            waiting.join().unwrap();
        });
    }
}
