// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits that hold no interpreter lock and end with a signal (Ctrl-C).

use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::ThreadId;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// How often a wait looks for signals.
pub const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

static MAIN_THREAD: OnceLock<ThreadId> = OnceLock::new();

/// Remembers Python's main thread, the only one that handles signals, if this is it.
pub fn remember_main_thread(py: Python<'_>) -> PyResult<()> {
    let threading = py.import("threading")?;
    let [main, own] = ["main_thread", "current_thread"].map(|name| threading.call_method0(name));
    if main?.is(&own?) {
        MAIN_THREAD.get_or_init(|| std::thread::current().id());
    }
    Ok(())
}

/// Whether this is Python's main thread.
pub fn is_main_thread() -> bool {
    MAIN_THREAD.get() == Some(&std::thread::current().id())
}

/// Runs `work` in a thread of its own and waits for it; with a signal the wait ends and the thread goes on.
pub fn interruptible<T: Send + 'static>(
    py: Python<'_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (sender, receiver) = sync_channel(1);
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || drop(sender.send(work())));
    spawned.map_err(|error| PyRuntimeError::new_err(format!("no thread could be started: {error}")))?;
    // A receiver may be waited for by one thread only, which is this one.
    let receiver = std::sync::Mutex::new(receiver);
    loop {
        let received = py.detach(|| {
            receiver.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv_timeout(SIGNAL_INTERVAL)
        });
        match received {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("a thread panicked, which is a bug of vx"));
            }
        }
    }
}
