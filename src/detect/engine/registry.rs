// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engines of this process: an engine is opened once and shared by all users with the same specification.
//!
//! Lock order: the list, then one entry's progress. Neither is held while a model is loaded or an engine dropped; users that wait
//! for a model to load wait on the entry's condition.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::Inner;
use super::plan::ThreadPlan;
use crate::detect::error::{Error, Result};
use crate::detect::model::hints::ModelHints;
use crate::detect::onnx::file::Identity;
use crate::detect::runtime::cancel::CancelToken;
use crate::detect::runtime::provider::{ProviderChoice, Tuning};
use crate::detect::runtime::shutdown::{self, REARM_INTERVAL, RuntimeGuard};

/// Engines with equal keys are shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub model: Identity,
    pub choices: Vec<ProviderChoice>,
    pub plan: ThreadPlan,
    pub batch_timeout: Duration,
    pub pin_threads: bool,
    pub tuning: Tuning,
    pub hints: ModelHints,
    /// Text of the file beside the model.
    pub modelinfo: String,
}

enum Entry {
    Loading(Arc<Loading>),
    Ready(Weak<Inner>),
}

/// A model that is being loaded, and the users that wait for it.
#[derive(Default)]
struct Loading {
    progress: Mutex<Progress>,
    changed: Condvar,
    cancel: CancelToken,
}

#[derive(Default)]
struct Progress {
    /// Threads that will read the outcome. They are counted while the list is locked, so that none arrives after the outcome.
    waiting: usize,
    outcome: Option<Result<Arc<Inner>>>,
}

static ENGINES: Lazy<Mutex<HashMap<Key, Entry>>> = Lazy::new(Mutex::default);

/// Returns the engine for `key`: the one in the list, the one that another thread is opening, or the result of `open`, which runs
/// on a separate thread because it may never return.
///
/// # Errors
/// Those of `open`, for every waiting thread. [`Error::LoadTimeout`] after `limit`; when no thread waits any more, loading is
/// cancelled.
pub(super) fn get_or_open(
    key: &Key,
    model: &str,
    limit: Option<Duration>,
    open: impl FnOnce(&CancelToken) -> Result<Inner> + Send + 'static,
) -> Result<Arc<Inner>> {
    let lookup = lookup(&mut ENGINES.lock(), key);
    let loading = match lookup {
        Lookup::Ready(engine) => return Ok(engine),
        Lookup::Loading(loading) => loading,
        Lookup::MustOpen(loading) => {
            // Sends an outcome even if `open` panics or never runs.
            let mut sender = OutcomeSender { key: key.clone(), loading: Arc::clone(&loading), outcome: None };
            let work = move || {
                let Some(_guard) = RuntimeGuard::new() else { return };
                sender.outcome = Some(open(&sender.loading.cancel).map(Arc::new));
                drop(sender);
            };
            let thread = std::thread::Builder::new().name("vxload".to_owned()).spawn(work);
            if let Err(error) = thread {
                return Err(Error::NoThread { reason: error.to_string() });
            }
            loading
        }
    };
    loading.wait(limit).unwrap_or_else(|| {
        let limit = limit.unwrap_or_default();
        Err(Error::LoadTimeout { model: model.to_owned(), limit })
    })
}

/// What the list contains for a key.
enum Lookup {
    Ready(Arc<Inner>),
    /// Another thread opens it; the caller is counted as waiting.
    Loading(Arc<Loading>),
    /// The caller must open it, and is counted as waiting.
    MustOpen(Arc<Loading>),
}

fn lookup(engines: &mut HashMap<Key, Entry>, key: &Key) -> Lookup {
    match engines.get(key) {
        Some(Entry::Loading(loading)) if !loading.cancel.is_cancelled() => {
            loading.progress.lock().waiting += 1;
            Lookup::Loading(Arc::clone(loading))
        }
        Some(Entry::Ready(engine)) if let Some(engine) = engine.upgrade() => Lookup::Ready(engine),
        _ => {
            let loading = Arc::new(Loading::default());
            loading.progress.lock().waiting = 1;
            engines.insert(key.clone(), Entry::Loading(Arc::clone(&loading)));
            Lookup::MustOpen(loading)
        }
    }
}

impl Loading {
    /// Waits for the outcome; `None` if there is none within `limit`.
    fn wait(&self, limit: Option<Duration>) -> Option<Result<Arc<Inner>>> {
        // A time that is too far away is none.
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut progress = self.progress.lock();
        let mut step = REARM_INTERVAL;
        while progress.outcome.is_none() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            let next = Instant::now() + step;
            let next = deadline.map_or(next, |deadline| deadline.min(next));
            if self.changed.wait_until(&mut progress, next).timed_out()
                && !MutexGuard::unlocked(&mut progress, shutdown::arm_again)
            {
                step = Duration::from_secs(1);
            }
        }
        progress.waiting -= 1;
        let is_last = progress.waiting == 0;
        // The last one takes it, so that only handles keep an engine open.
        let outcome = if is_last { progress.outcome.take() } else { progress.outcome.clone() };
        drop(progress);
        if outcome.is_none() && is_last {
            self.cancel.cancel();
        }
        outcome
    }
}

/// Sends the outcome to the waiting threads when it is dropped.
struct OutcomeSender {
    key: Key,
    loading: Arc<Loading>,
    /// `None` if the process is ending, or `open` panicked.
    outcome: Option<Result<Arc<Inner>>>,
}

impl Drop for OutcomeSender {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or(Err(Error::EngineClosed));
        let mut engines = ENGINES.lock();
        // A cancelled entry may have been replaced.
        let is_listed = |entry: &Entry| matches!(entry, Entry::Loading(listed) if Arc::ptr_eq(listed, &self.loading));
        if engines.get(&self.key).is_some_and(is_listed) {
            match &outcome {
                Ok(engine) => engines.insert(self.key.clone(), Entry::Ready(Arc::downgrade(engine))),
                Err(_) => engines.remove(&self.key),
            };
        }
        drop(engines);
        let mut progress = self.loading.progress.lock();
        // If no thread waits it is dropped, outside the lock.
        let unused = if progress.waiting > 0 { progress.outcome.replace(outcome) } else { Some(outcome) };
        drop(progress);
        drop(unused);
        self.loading.changed.notify_all();
    }
}

/// Cancels all loading and stops all engines for good, without waiting. Returns their worker threads.
pub(super) fn stop_all() -> Vec<JoinHandle<()>> {
    let mut threads = Vec::new();
    let mut engines = Vec::new();
    for entry in ENGINES.lock().values() {
        match entry {
            Entry::Loading(loading) => loading.cancel.cancel(),
            Entry::Ready(engine) => engines.extend(engine.upgrade()),
        }
    }
    for engine in engines {
        threads.extend(engine.stop());
        // Dropping the last handle would wait for the workers.
        std::mem::forget(engine);
    }
    threads
}

/// Removes an engine that is being dropped from the list, unless it has been replaced.
pub(super) fn remove(key: &Key, engine: &Inner) {
    let mut engines = ENGINES.lock();
    if let Some(Entry::Ready(listed)) = engines.get(key)
        && std::ptr::eq(listed.as_ptr(), engine)
    {
        engines.remove(key);
    }
}
