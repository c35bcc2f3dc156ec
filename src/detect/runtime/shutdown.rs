//! The end of inference before the end of the process.
//!
//! `exit` runs the destructors of C++ libraries while other threads go on: ONNX Runtime and its providers then crash under
//! their own threads. So a hook that runs before those destructors closes all engines, ends what is being loaded, and waits for
//! every thread that may be inside ONNX Runtime. Where one does not end in time the process leaves without destructors.
//!
//! Lock order: the state alone. Any thread.

use std::collections::HashSet;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use parking_lot::{Condvar, Mutex};

use crate::exit;

/// How long the process waits for its engines; a run of a large model takes less.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the hook is registered again while models load: the C library keeps 32 bytes for each.
const MAX_REGISTRATIONS: usize = 2000;
/// The time between two of them. An exit in that time after a library was loaded still crashes.
pub(crate) const BETWEEN: Duration = Duration::from_millis(2);

#[derive(Default)]
struct State {
    is_ending: bool,
    /// Threads that may be inside ONNX Runtime.
    busy: usize,
    /// The process that registered the hook: a fork of it has none of its threads.
    process: u32,
    /// What has been used when the hook was last registered.
    used: Option<HashSet<String>>,
    registrations: usize,
}

static STATE: Mutex<State> = Mutex::new(State { is_ending: false, busy: 0, process: 0, used: None, registrations: 0 });
static CHANGED: Condvar = Condvar::new();

/// Ends every loading and every engine for ever, without waiting, and returns their threads.
type StopEngines = fn() -> Vec<JoinHandle<()>>;

static STOP_ENGINES: OnceCell<StopEngines> = OnceCell::new();

/// Registers the function that stops the engines; the first one counts.
pub(crate) fn stop_engines_with(stop: StopEngines) {
    STOP_ENGINES.get_or_init(|| stop);
}

/// A thread that may be inside ONNX Runtime; dropped when it no longer is.
pub(crate) struct Busy;

impl Busy {
    /// `None` once the process is ending: nothing may be started then.
    pub fn new() -> Option<Self> {
        let mut state = STATE.lock();
        let may_start = !state.is_ending;
        state.busy += usize::from(may_start);
        drop(state);
        // Not `then_some`, which would make one in any case, and drop it.
        may_start.then(|| Self)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = STATE.lock();
        state.busy -= 1;
        if state.busy == 0 {
            CHANGED.notify_all();
        }
    }
}

/// Makes sure that the hook runs before the destructors of what `use_of` has brought into the process: a provider that has been
/// loaded, or run for the first time.
pub(crate) fn arm(use_of: &str) {
    let mut state = STATE.lock();
    state.process = std::process::id();
    let is_new = state.used.get_or_insert_default().insert(use_of.to_owned());
    drop(state);
    if is_new {
        exit::before_destructors(hook);
    }
}

/// The same while a model loads: providers load libraries then, one after the other. False once that has been done often enough.
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

fn hook(status: Option<i32>) {
    // It runs as often as it was registered; and in a fork of this process, where the lock may be held by nobody who is there.
    let is_due = |state: &State| state.process == std::process::id() && !state.is_ending;
    if STATE.try_lock_for(PATIENCE).is_some_and(|state| is_due(&state))
        && !stop_all(PATIENCE)
        && let Some(status) = status
    {
        exit::leave(status);
    }
}

/// Closes all engines for ever, ends what is being loaded and waits up to `patience` for the threads; false where one of them
/// still runs.
fn stop_all(patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    STATE.lock().is_ending = true;
    let threads = STOP_ENGINES.get().map(|stop| stop()).unwrap_or_default();
    let mut state = STATE.lock();
    while state.busy > 0 {
        if CHANGED.wait_until(&mut state, deadline).timed_out() {
            return state.busy == 0;
        }
    }
    drop(state);
    // Destructors of thread-local values of C++ run after a thread has given up its claim.
    for thread in threads {
        let _ = thread.join();
    }
    true
}
