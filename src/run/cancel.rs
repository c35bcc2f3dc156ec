// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cancellation: how a run is asked to end from another thread, and what that means at each moment.
//!
//! | call | before the first file | while files are read |
//! |---|---|---|
//! | [`Canceller::finish`] | no file is read | files that are being read are finished |
//! | [`Canceller::finish_within`] | no file is read | the same, until the time is over; then as `stop` |
//! | [`Canceller::stop`] | no file is read | files that are being read are abandoned: they have no summary, and `resume` reads them again |
//!
//! Results that are complete are kept. Any thread may call any of these, at any time, and none waits for the run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The state of a run, as far as cancellation depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// No file has begun.
    #[default]
    Starting,
    /// Files are read.
    Reading,
    /// All files are done; the results are being written.
    Writing,
}

/// Wakes the run's thread, which waits for its elements or its workers.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// Cancels a run. Clones are handles of the same run.
#[derive(Clone, Default)]
pub struct Canceller {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_cancelled: AtomicBool,
    is_stopped: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    wake: Option<Wake>,
    /// When files that are being read are abandoned.
    deadline: Option<Instant>,
    /// An output that this run has created; removed if the run ends before anything is in it.
    new_output: Option<PathBuf>,
}

impl std::fmt::Debug for Canceller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canceller")
            .field("is_cancelled", &self.is_cancelled())
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

impl Canceller {
    /// Creates the canceller of a run that is to be started; [`Settings`](super::Settings) takes it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts no other file; finishes those that are being read.
    pub fn finish(&self) {
        self.shared.is_cancelled.store(true, Ordering::Release);
        self.wake();
    }

    /// Begins no other file, and abandons those that are not finished after `grace`.
    pub fn finish_within(&self, grace: Duration) {
        self.shared.state.lock().deadline = Instant::now().checked_add(grace);
        self.finish();
    }

    /// Abandons all files at once.
    pub fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.finish();
    }

    /// Cancels a run that has not begun a file, and removes an empty output that it has created; returns whether that was so. No
    /// file begins afterwards. For a process that is about to exit: it returns true also where the output is still being opened after a
    /// second, because its disk does not respond.
    #[must_use]
    pub fn cancel_before_first_file(&self) -> bool {
        let Some(state) = self.shared.state.try_lock_for(Duration::from_secs(1)) else {
            self.shared.is_stopped.store(true, Ordering::Release);
            self.shared.is_cancelled.store(true, Ordering::Release);
            return true;
        };
        if state.phase != Phase::Starting {
            return false;
        }
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.is_cancelled.store(true, Ordering::Release);
        let is_empty = |path: &Path| std::fs::metadata(path).is_ok_and(|file| file.len() == 0);
        if let Some(path) = state.new_output.as_deref().filter(|path| is_empty(path)) {
            // It is empty, so nothing is lost if it stays.
            let _ = std::fs::remove_file(path);
        }
        true
    }

    /// Returns whether the run was cancelled in any way.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.is_cancelled.load(Ordering::Acquire)
    }

    /// Returns whether files that are being read are abandoned.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::Acquire)
            || self.shared.state.lock().deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Returns the state of the run.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.shared.state.lock().phase
    }

    fn wake(&self) {
        let wake = self.shared.state.lock().wake.clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Opens an output with `open`, which also returns its path if it is a new one.
    pub(super) fn open_output<T, E>(&self, open: impl FnOnce() -> Result<(T, Option<PathBuf>), E>) -> Result<T, E> {
        let mut state = self.shared.state.lock();
        let (output, path) = open()?;
        state.new_output = path;
        drop(state);
        Ok(output)
    }

    /// Enters the phase in which files are read; `wake` must not wait for anything. Returns false if the run was cancelled before.
    pub(super) fn begin_reading(&self, wake: impl Fn() + Send + Sync + 'static) -> bool {
        let mut state = self.shared.state.lock();
        if self.is_cancelled() {
            return false;
        }
        state.phase = Phase::Reading;
        state.wake = Some(Arc::new(wake));
        state.new_output = None;
        true
    }

    /// Enters the phase in which results are written.
    pub(super) fn end_reading(&self) {
        let mut state = self.shared.state.lock();
        state.phase = Phase::Writing;
        state.wake = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_cancelled_before_its_first_file_or_told_to_finish() {
        let canceller = Canceller::new();
        assert!(canceller.cancel_before_first_file() && canceller.is_cancelled());
        assert!(!canceller.begin_reading(|| {}), "a cancelled run begins");
        let canceller = Canceller::new();
        assert!(canceller.begin_reading(|| {}) && !canceller.cancel_before_first_file());
        canceller.finish();
        assert!(canceller.is_cancelled() && !canceller.is_stopped());
        canceller.finish_within(Duration::ZERO);
        assert!(canceller.is_stopped());
    }

    #[test]
    fn a_new_output_goes_with_a_run_that_never_began() {
        let folder = tempfile::tempdir().expect("a folder");
        for (content, is_removed) in [("", true), ("x", false)] {
            let path = folder.path().join("out");
            let canceller = Canceller::new();
            let opened: Result<(), std::io::Error> =
                canceller.open_output(|| std::fs::write(&path, content).map(|()| ((), Some(path.clone()))));
            assert!(opened.is_ok() && canceller.cancel_before_first_file());
            assert_eq!(path.exists(), !is_removed);
        }
    }
}
