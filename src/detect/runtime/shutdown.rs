// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stops inference before the process exits.
//!
//! `exit` runs the destructors of C++ libraries while other threads are still running: ONNX Runtime and its providers then crash.
//! So a hook that runs before those destructors closes all engines, cancels all loading, and waits for every thread that may be
//! inside ONNX Runtime. If one does not end in time, the process exits without running destructors.
//!
//! Lock order: the state alone. Any thread.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::exit;

/// How long the process waits for its engines; a run of a large model takes less.
const EXIT_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval of looks at what the exit waits for.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// How often the hook may be registered while models load: the C library keeps 32 bytes for each registration.
const MAX_REGISTRATIONS: usize = 2000;
/// Interval between registrations. An exit within that time after a library was loaded still crashes.
pub(crate) const REARM_INTERVAL: Duration = Duration::from_millis(2);

#[derive(Default)]
struct State {
    is_ending: bool,
    /// Threads that may be inside ONNX Runtime.
    threads: usize,
    /// Libraries that were in use when the hook was last registered.
    used: Option<HashSet<String>>,
    registrations: usize,
}

static STATE: Mutex<State> = Mutex::new(State { is_ending: false, threads: 0, used: None, registrations: 0 });
/// The process that registered the hook: a forked process has none of its threads.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Cancels all loading and stops all engines for good, without waiting, and returns their threads.
type StopEngines = fn() -> Vec<JoinHandle<()>>;

static STOP_ENGINES: OnceCell<StopEngines> = OnceCell::new();

/// Sets the function that stops the engines; only the first call has an effect.
pub(crate) fn stop_engines_with(stop: StopEngines) {
    STOP_ENGINES.get_or_init(|| stop);
}

/// Marks a thread that may be inside ONNX Runtime, until it is dropped.
pub(crate) struct RuntimeGuard;

impl RuntimeGuard {
    /// Marks the current thread; `None` if the process is ending, when nothing may be started.
    pub fn new() -> Option<Self> {
        let mut state = STATE.lock();
        let may_start = !state.is_ending;
        state.threads += usize::from(may_start);
        drop(state);
        // Not `then_some`, which would always create a guard and drop it.
        may_start.then(|| Self)
    }
}

impl Drop for RuntimeGuard {
    fn drop(&mut self) {
        STATE.lock().threads -= 1;
    }
}

/// Ensures that the hook runs before the destructors of the libraries that `use_of` has loaded into the process: a provider that
/// has been loaded, or has run for the first time.
pub(crate) fn arm(use_of: &str) {
    PROCESS.store(std::process::id(), Ordering::Release);
    let mut state = STATE.lock();
    let is_new = state.used.get_or_insert_default().insert(use_of.to_owned());
    drop(state);
    if is_new {
        exit::before_destructors(hook);
    }
}

/// Registers the hook again while a model loads, because providers load libraries one after the other. Returns false once the limit
/// is reached.
pub(crate) fn arm_again() -> bool {
    let mut state = STATE.lock();
    state.registrations += 1;
    let is_due = state.registrations <= MAX_REGISTRATIONS && !state.is_ending;
    drop(state);
    if is_due {
        exit::before_destructors(hook);
    }
    is_due
}

/// Runs `work`, which may load libraries, and registers the hook at short intervals meanwhile and once after it.
pub(crate) fn while_loading<T>(work: impl FnOnce() -> T) -> T {
    /// Ends the thread, also if `work` panics.
    struct Finish<'a>(&'a Mutex<bool>, &'a Condvar);
    impl Drop for Finish<'_> {
        fn drop(&mut self) {
            *self.0.lock() = true;
            self.1.notify_all();
            arm_again();
        }
    }
    let (is_done, changed) = (Mutex::new(false), Condvar::new());
    std::thread::scope(|scope| {
        let register = || {
            let mut done = is_done.lock();
            while !*done && (!changed.wait_for(&mut done, REARM_INTERVAL).timed_out() || arm_again()) {}
        };
        // Without the thread an exit at the wrong moment may crash, which is no reason not to work.
        let _ = std::thread::Builder::new().name("vxexit".to_owned()).spawn_scoped(scope, register);
        let _finish = Finish(&is_done, &changed);
        work()
    })
}

fn hook(status: Option<i32>) {
    if PROCESS.load(Ordering::Acquire) != std::process::id() {
        // A forked process: destructors would wait for threads that do not exist in it.
        if let Some(status) = status {
            exit::leave_fork(status);
        }
        return;
    }
    // It runs once for each registration.
    let is_due = |state: &State| !state.is_ending;
    if lock_until(Instant::now() + EXIT_TIMEOUT).is_some_and(|state| is_due(&state))
        && !stop_all(EXIT_TIMEOUT)
        && let Some(status) = status
    {
        exit::leave(status);
    }
}

/// Locks the state by looking now and then. A wait would register a destructor of this thread, for which the C library takes the lock
/// that a library holds as long as it loads: one that never finishes would prevent the exit.
fn lock_until(deadline: Instant) -> Option<MutexGuard<'static, State>> {
    loop {
        match STATE.try_lock() {
            None if Instant::now() < deadline => std::thread::sleep(POLL_INTERVAL),
            state => return state,
        }
    }
}

/// Stops all engines for good, cancels all loading, and waits up to `timeout` for the threads. Returns false if one of them still
/// runs.
fn stop_all(timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    let Some(mut state) = lock_until(deadline) else { return false };
    state.is_ending = true;
    drop(state);
    let threads = STOP_ENGINES.get().map(|stop| stop()).unwrap_or_default();
    while lock_until(deadline).is_none_or(|state| state.threads > 0) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    // Destructors of C++ thread-local values run after a thread has dropped its guard.
    for thread in threads {
        let _ = thread.join();
    }
    true
}
