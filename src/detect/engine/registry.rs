//! The engines of this process, so that the same one is opened once however many ask for it.
//!
//! Lock order: the list, then one entry's progress. Neither is held while a model is loaded or an engine dropped; those who
//! wait for a loading wait on the entry's condition.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::Inner;
use super::plan::Plan;
use crate::detect::error::{Error, Result};
use crate::detect::model::reading::Reading;
use crate::detect::onnx::file::Identity;
use crate::detect::runtime::cancel::Cancel;
use crate::detect::runtime::provider::{Choice, Tuning};
use crate::detect::runtime::shutdown::{self, BETWEEN, Busy};

/// What makes two engines the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub model: Identity,
    pub choices: Vec<Choice>,
    pub plan: Plan,
    pub batch_timeout: Duration,
    pub pin_threads: bool,
    pub tuning: Tuning,
    pub reading: Reading,
    /// Text of the file beside the model.
    pub modelinfo: String,
}

enum Entry {
    Loading(Arc<Loading>),
    Ready(Weak<Inner>),
}

/// A loading in progress, and who waits for it.
#[derive(Default)]
struct Loading {
    progress: Mutex<Progress>,
    changed: Condvar,
    cancel: Cancel,
}

#[derive(Default)]
struct Progress {
    /// Threads that will take the outcome. They are counted while the list is locked, so that none comes after the outcome.
    waiting: usize,
    outcome: Option<Result<Arc<Inner>>>,
}

static ENGINES: Lazy<Mutex<HashMap<Key, Entry>>> = Lazy::new(Mutex::default);

/// The engine for `key`: the one in the list, the one that another thread is opening, or what `open` gives. It runs on a
/// thread of its own, since it may take for ever.
///
/// # Errors
/// Those of `open`, for everyone who waited. [`Error::LoadTimeout`] after `limit`; when nobody waits any more it is cancelled.
pub(super) fn get_or_open(
    key: &Key,
    model: &str,
    limit: Option<Duration>,
    open: impl FnOnce(&Cancel) -> Result<Inner> + Send + 'static,
) -> Result<Arc<Inner>> {
    let claim = claim(&mut ENGINES.lock(), key);
    let loading = match claim {
        Claim::Ready(engine) => return Ok(engine),
        Claim::Loading(loading) => loading,
        Claim::Mine(loading) => {
            // Answers those who wait even if `open` panics, or never runs.
            let mut answer = Answer { key: key.clone(), loading: Arc::clone(&loading), outcome: None };
            let work = move || {
                let Some(_busy) = Busy::new() else { return };
                answer.outcome = Some(open(&answer.loading.cancel).map(Arc::new));
                drop(answer);
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

/// What the list has for a key.
enum Claim {
    Ready(Arc<Inner>),
    /// Another thread opens it; the caller is counted among those who wait.
    Loading(Arc<Loading>),
    /// The caller has to have it opened, and is counted too.
    Mine(Arc<Loading>),
}

fn claim(engines: &mut HashMap<Key, Entry>, key: &Key) -> Claim {
    match engines.get(key) {
        Some(Entry::Loading(loading)) if !loading.cancel.is_cancelled() => {
            loading.progress.lock().waiting += 1;
            Claim::Loading(Arc::clone(loading))
        }
        Some(Entry::Ready(engine)) if let Some(engine) = engine.upgrade() => Claim::Ready(engine),
        _ => {
            let loading = Arc::new(Loading::default());
            loading.progress.lock().waiting = 1;
            engines.insert(key.clone(), Entry::Loading(Arc::clone(&loading)));
            Claim::Mine(loading)
        }
    }
}

impl Loading {
    /// The outcome; `None` if it did not come within `limit`.
    fn wait(&self, limit: Option<Duration>) -> Option<Result<Arc<Inner>>> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut progress = self.progress.lock();
        let mut step = BETWEEN;
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
        // The last one takes it, so that nothing but handles keeps an engine open.
        let outcome = if is_last { progress.outcome.take() } else { progress.outcome.clone() };
        drop(progress);
        if outcome.is_none() && is_last {
            self.cancel.cancel();
        }
        outcome
    }
}

struct Answer {
    key: Key,
    loading: Arc<Loading>,
    /// `None` where the process ended first, or `open` panicked.
    outcome: Option<Result<Arc<Inner>>>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or(Err(Error::EngineClosed));
        let mut engines = ENGINES.lock();
        // A cancelled loading may have been replaced by another.
        let is_listed = |entry: &Entry| matches!(entry, Entry::Loading(listed) if Arc::ptr_eq(listed, &self.loading));
        if engines.get(&self.key).is_some_and(is_listed) {
            match &outcome {
                Ok(engine) => engines.insert(self.key.clone(), Entry::Ready(Arc::downgrade(engine))),
                Err(_) => engines.remove(&self.key),
            };
        }
        drop(engines);
        let mut progress = self.loading.progress.lock();
        // Without anybody who waits it is dropped, outside of the lock.
        let unwanted = if progress.waiting > 0 { progress.outcome.replace(outcome) } else { Some(outcome) };
        drop(progress);
        drop(unwanted);
        self.loading.changed.notify_all();
    }
}

/// Ends every loading and every engine for ever, without waiting for them; their threads that are known.
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

/// Takes an engine that is being dropped off the list, unless a new one has its place.
pub(super) fn forget(key: &Key, engine: &Inner) {
    let mut engines = ENGINES.lock();
    if let Some(Entry::Ready(listed)) = engines.get(key)
        && std::ptr::eq(listed.as_ptr(), engine)
    {
        engines.remove(key);
    }
}
