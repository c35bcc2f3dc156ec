//! A run over a list of files: which is next, who waits for memory, what has come of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parking_lot::{Condvar, Mutex};

use super::lane::Running;
use crate::memory;
use crate::record::{Status, Summary};

/// Files in the order in which they are taken.
#[derive(Debug, Default)]
pub(super) struct Files {
    left: Mutex<VecDeque<String>>,
}

impl Files {
    /// With `largest_first`, files of more bytes come first: the longest one then does not begin when all others have ended.
    pub fn new(mut files: Vec<(String, u64)>, largest_first: bool) -> Self {
        if largest_first {
            files.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        }
        Self { left: Mutex::new(files.into_iter().map(|(file, _)| file).collect()) }
    }

    pub fn next(&self) -> Option<String> {
        self.left.lock().pop_front()
    }

    /// None of those that are left is taken.
    pub fn stop(&self) {
        self.left.lock().clear();
    }
}

/// Lets lanes pass as far as their frames fit into memory; one is always let through.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Bytes for the frames of all lanes; `None` for no limit.
    limit: Option<u64>,
    /// Bytes of memory that the process may have before no file more is begun.
    process_limit: Option<u64>,
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_open: bool,
    /// Bytes by lane.
    held: BTreeMap<usize, u64>,
    /// Lanes whose file has ended: what is left of it waits for nothing.
    ended: BTreeSet<usize>,
}

impl GateState {
    /// Whether frames of so many bytes of `lane` fit; if so they count, else the lane counts for nothing.
    fn admit(&mut self, lane: usize, bytes: u64, limit: Option<u64>) -> bool {
        if self.ended.contains(&lane) {
            return true;
        }
        let others: u64 = self.held.iter().filter(|(other, _)| **other != lane).map(|(_, bytes)| bytes).sum();
        let fits = limit.is_none_or(|limit| others.saturating_add(bytes) <= limit) || others == 0 || self.is_open;
        // Two lanes that both want more must not wait for what each other has.
        self.held.insert(lane, if fits { bytes } else { 0 });
        fits
    }
}

impl Gate {
    pub fn new(limit: Option<u64>, process_limit: Option<u64>) -> Self {
        Self { limit, process_limit, ..Self::default() }
    }

    /// Waits until the process has memory for another file on `lane`, if others are being read meanwhile; whether it had to.
    pub fn enter(&self, lane: usize) -> bool {
        let mut has_waited = false;
        let mut state = self.state.lock();
        state.ended.remove(&lane);
        while !state.is_open
            && !state.held.is_empty()
            && self.process_limit.zip(memory::resident()).is_some_and(|(limit, taken)| taken > limit)
        {
            has_waited = true;
            // Others give memory back also without releasing the gate.
            self.changed.wait_for(&mut state, std::time::Duration::from_millis(200));
        }
        state.held.insert(lane, 0);
        has_waited
    }

    /// Waits until frames of so many bytes fit beside those of the other lanes; whether it had to.
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

    /// The lane's file has ended.
    pub fn release(&self, lane: usize) {
        let mut state = self.state.lock();
        state.held.remove(&lane);
        state.ended.insert(lane);
        drop(state);
        self.changed.notify_all();
    }

    /// Lets everyone through from now on.
    pub fn open(&self) {
        self.state.lock().is_open = true;
        self.changed.notify_all();
    }
}

/// Sums over the files so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Sums {
    pub files: u64,
    pub done: u64,
    pub failed: u64,
    pub damaged: u64,
    pub keyframes: u64,
    pub frames_between: u64,
    pub detections: u64,
    pub bytes_read: u64,
    pub open: f64,
    pub lock_wait: f64,
    pub lock_hold: f64,
    pub read: f64,
    pub decode: f64,
    pub prepare: f64,
    pub infer: f64,
    /// By lane the number of the last file that is in these sums.
    pub last_of_lane: BTreeMap<usize, u64>,
}

impl Sums {
    /// Adds what files came to so far that have not ended; those that these sums have already are left out. Returns the shares
    /// that are done of the others.
    pub fn add_running(&mut self, lanes: &[(usize, Running)]) -> Vec<Running> {
        let counted = |lane: usize, number: u64| self.last_of_lane.get(&lane).is_some_and(|last| *last >= number);
        let running = lanes.iter().filter(|(lane, running)| running.number > 0 && !counted(*lane, running.number));
        let running: Vec<Running> = running.map(|(_, running)| running.clone()).collect();
        for file in &running {
            self.keyframes += file.counts.keyframes;
            self.frames_between += file.counts.between;
            self.detections += file.detections;
            self.bytes_read += file.bytes_read;
        }
        running
    }

    pub fn add(&mut self, summary: &Summary) {
        self.done += 1;
        self.failed += u64::from(summary.status == Status::Failed);
        self.damaged += u64::from(summary.status == Status::Damaged);
        self.keyframes += summary.keyframes;
        self.frames_between += summary.frames_between;
        self.detections += summary.detection_count;
        self.bytes_read += summary.bytes_read;
        let seconds = &summary.seconds;
        self.open += seconds.open;
        self.lock_wait += seconds.lock_wait;
        self.lock_hold += seconds.lock_hold;
        self.read += seconds.read;
        self.decode += seconds.decode;
        self.prepare += seconds.prepare;
        self.infer += seconds.infer;
    }

    /// Corrects what was added of a file whose lines were lost afterwards.
    pub fn replace(&mut self, before: &Summary, after: &Summary) {
        let is = |status, summary: &Summary| u64::from(summary.status == status);
        self.failed = self.failed + is(Status::Failed, after) - is(Status::Failed, before);
        self.damaged = self.damaged + is(Status::Damaged, after) - is(Status::Damaged, before);
        self.frames_between = self.frames_between + after.frames_between - before.frames_between;
        self.keyframes = self.keyframes + after.keyframes - before.keyframes;
        self.detections = self.detections + after.detection_count - before.detection_count;
    }

    /// Share of the files that is done, those counted in part that are being read.
    pub fn share(&self, running: &[Running]) -> f32 {
        let parts: f64 = running.iter().filter_map(Running::share).sum();
        ((self.done as f64 + parts) / self.files.max(1) as f64) as f32
    }

    pub fn to_structure(&self) -> gst::structure::Builder {
        let time = |seconds: f64| (seconds * 1e9) as u64;
        gst::Structure::builder("vxbulkbin-stats")
            .field("files", self.files)
            .field("done", self.done)
            .field("failed", self.failed)
            .field("damaged", self.damaged)
            .field("keyframes", self.keyframes)
            .field("frames-between", self.frames_between)
            .field("detections", self.detections)
            .field("bytes-read", self.bytes_read)
            .field("open-time", time(self.open))
            .field("lock-wait-time", time(self.lock_wait))
            .field("lock-hold-time", time(self.lock_hold))
            .field("read-time", time(self.read))
            .field("decode-time", time(self.decode))
            .field("prepare-time", time(self.prepare))
            .field("infer-time", time(self.infer))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn sums_follow_what_a_file_came_to() {
        let damaged = Summary { status: Status::Damaged, keyframes: 5, detection_count: 3, ..Summary::new("a") };
        let failed = Summary { status: Status::Failed, keyframes: 2, detection_count: 3, ..Summary::new("a") };
        let mut sums = Sums { files: 3, ..Sums::default() };
        [Summary::new("b"), damaged.clone(), failed.clone()].iter().for_each(|summary| sums.add(summary));
        assert_eq!((sums.done, sums.damaged, sums.failed, sums.keyframes, sums.detections), (3, 1, 1, 7, 6));
        sums.replace(&damaged, &failed);
        assert_eq!((sums.done, sums.damaged, sums.failed, sums.keyframes, sums.detections), (3, 0, 2, 4, 6));
    }

    #[test]
    fn the_largest_file_comes_first_and_the_missing_last() {
        let listed = [("/nowhere", 0), ("a", 5), ("b", 50), ("c", 20)].map(|(name, bytes)| (name.to_owned(), bytes));
        let files = Files::new(listed.to_vec(), true);
        let taken: Vec<String> = std::iter::from_fn(|| files.next()).collect();
        assert_eq!(taken, ["b", "c", "a", "/nowhere"]);
        let files = Files::new(listed.to_vec(), false);
        assert_eq!(files.next().as_deref(), Some("/nowhere"));
        files.stop();
        assert_eq!(files.next(), None);
    }

    #[test]
    fn lanes_wait_for_memory_but_one_always_passes() {
        let gate = Arc::new(Gate::new(Some(100), None));
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
    fn no_file_is_begun_beyond_the_limit_while_others_are_read() {
        let gate = Gate::new(None, Some(1));
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
    fn lanes_that_both_want_more_and_files_that_end_wait_for_nobody() {
        let gate = Gate::new(Some(100), None);
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
