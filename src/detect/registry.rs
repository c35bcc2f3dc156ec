//! The engines of this process, so that the same one is opened once however many ask for it.
//!
//! Lock order: the list, then one entry's outcome. Neither is held while a model is loaded or an engine dropped; those who
//! wait for somebody else's loading wait on the entry's condition.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use once_cell::sync::Lazy;
use parking_lot::{Condvar, Mutex};

use super::engine::Inner;
use super::error::{Error, Result};
use super::plan::{Plan, Reading};
use super::provider::{Choice, Tuning};
use super::source::Identity;

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

/// The outcome of a loading in progress, and who waits for it.
#[derive(Default)]
struct Loading {
    outcome: Mutex<Option<Result<Arc<Inner>>>>,
    changed: Condvar,
}

static ENGINES: Lazy<Mutex<HashMap<Key, Entry>>> = Lazy::new(Mutex::default);

/// The engine for `key`: the one in the list, the one that another thread is opening, or what `open` gives.
///
/// # Errors
/// Those of `open`, for everyone who waited.
pub(super) fn get_or_open(key: &Key, open: impl FnOnce() -> Result<Inner>) -> Result<Arc<Inner>> {
    let claim = claim(&mut ENGINES.lock(), key);
    let loading = match claim {
        Claim::Ready(engine) => return Ok(engine),
        Claim::Loading(loading) => return loading.wait(),
        Claim::Mine(loading) => loading,
    };
    // Answers those who wait even if `open` panics.
    let mut guard = Answer { key, loading: &loading, outcome: Err(Error::EngineClosed) };
    guard.outcome = open().map(Arc::new);
    guard.outcome.clone()
}

/// What the list has for a key.
enum Claim {
    Ready(Arc<Inner>),
    /// Another thread opens it.
    Loading(Arc<Loading>),
    /// The caller has to open it.
    Mine(Arc<Loading>),
}

fn claim(engines: &mut HashMap<Key, Entry>, key: &Key) -> Claim {
    match engines.get(key) {
        Some(Entry::Loading(loading)) => Claim::Loading(Arc::clone(loading)),
        Some(Entry::Ready(engine)) if let Some(engine) = engine.upgrade() => Claim::Ready(engine),
        _ => {
            let loading = Arc::new(Loading::default());
            engines.insert(key.clone(), Entry::Loading(Arc::clone(&loading)));
            Claim::Mine(loading)
        }
    }
}

impl Loading {
    fn wait(&self) -> Result<Arc<Inner>> {
        let mut outcome = self.outcome.lock();
        loop {
            match &*outcome {
                Some(outcome) => return outcome.clone(),
                None => self.changed.wait(&mut outcome),
            }
        }
    }
}

struct Answer<'a> {
    key: &'a Key,
    loading: &'a Loading,
    outcome: Result<Arc<Inner>>,
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        let mut engines = ENGINES.lock();
        match &self.outcome {
            Ok(engine) => engines.insert(self.key.clone(), Entry::Ready(Arc::downgrade(engine))),
            Err(_) => engines.remove(self.key),
        };
        drop(engines);
        *self.loading.outcome.lock() = Some(self.outcome.clone());
        self.loading.changed.notify_all();
    }
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
