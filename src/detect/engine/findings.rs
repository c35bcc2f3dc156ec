// SPDX-License-Identifier: MIT OR Apache-2.0
//! What opening a model on a provider found out, kept so that the next start need not find it out again.
//!
//! Everything depends on the model's content, the provider with its options, the processor, and the versions of ONNX Runtime and
//! this crate; whether an input size is usable, also on how the model is read. An entry that does not parse counts as missing.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::plan::ThreadPlan;
use super::sizes::Size;
use crate::detect::cache::{CacheKey, ModelCache};
use crate::detect::model::description::Model;
use crate::detect::model::identification::TrialReport;
use crate::detect::onnx::declaration::Declaration;
use crate::detect::onnx::file::ModelBytes;
use crate::detect::runtime::accelerator::Accelerator;
use crate::detect::runtime::library::Runtime;
use crate::detect::runtime::provider::OperatorCounts;

/// Most bytes of the values of a trial run; those of a detector for 640x640 have some 10 MB.
const MAX_VALUES: usize = 64 << 20;

/// The findings about a model on a provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Findings {
    pub declaration: Declaration,
    pub trial: TrialReport,
    /// The values of the outputs in `trial`, kept as an entry of their own.
    #[serde(skip)]
    pub trial_values: Vec<u8>,
    /// ONNX Runtime's name of the provider.
    pub provider: String,
    pub device: String,
    pub precision: String,
    pub operators: OperatorCounts,
    pub is_rewritten: bool,
    /// Why the model must be given one picture at a time.
    pub batching_fault: Option<String>,
}

/// Whether a model may run at another input size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Verdict {
    refused: Option<String>,
}

/// The place of the findings about a model on a provider.
#[derive(Debug, Clone)]
pub(super) struct FindingsStore {
    cache: ModelCache,
    key: CacheKey,
}

impl FindingsStore {
    /// Returns the place for `model`, when the user and the file beside it say `hints` about it; `None` if a part of it is in files that are not hashed.
    pub fn new(
        cache: &ModelCache,
        runtime: &Runtime,
        model: &ModelBytes,
        accelerator: &Accelerator,
        plan: ThreadPlan,
        hints: &str,
    ) -> Option<Self> {
        let key = accelerator.provider_key(runtime).with(model.digest()?.as_bytes());
        let key = key.with(format!("{plan:?}")).with(hints);
        Some(Self { cache: cache.clone(), key })
    }

    fn read<T: DeserializeOwned>(&self, key: &CacheKey) -> Option<T> {
        serde_json::from_slice(&self.cache.get(key)?).ok()
    }

    fn write(&self, key: &CacheKey, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_vec(value) {
            self.cache.put(key, &text);
        }
    }

    /// Returns the findings of an earlier start.
    pub fn get(&self) -> Option<Findings> {
        let mut findings: Findings = self.read(&self.key)?;
        if findings.trial.outputs.is_some() {
            findings.trial_values = self.cache.get(&self.values_key())?;
        }
        Some(findings)
    }

    fn values_key(&self) -> CacheKey {
        self.key.clone().with("values")
    }

    /// Keeps `findings` for later starts.
    pub fn put(&self, findings: &Findings) {
        if findings.trial_values.len() > MAX_VALUES {
            return;
        }
        if findings.trial.outputs.is_some() {
            self.cache.put(&self.values_key(), &findings.trial_values);
        }
        self.write(&self.key, findings);
    }

    /// Returns the place of the verdicts about other input sizes of the model when it is read as `model` says.
    pub fn verdicts(&self, model: &Model) -> Verdicts {
        // Equal models at different paths have equal verdicts.
        let mut model = model.clone();
        model.source.clear();
        let key = self.key.clone().with(format!("{model:?}"));
        Verdicts(Self { cache: self.cache.clone(), key })
    }
}

/// The input size of the first frame at the last start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FirstSize {
    width: usize,
    height: usize,
}

/// The verdicts about other input sizes of a model, and which of them was used first.
#[derive(Debug, Clone)]
pub(super) struct Verdicts(FindingsStore);

impl Verdicts {
    fn key(&self, (width, height): Size) -> CacheKey {
        self.0.key.clone().with(format!("{width}x{height}"))
    }

    /// Returns whether the model may run at `size`, or why not; `None` if no earlier start found that out.
    pub fn get(&self, size: Size) -> Option<Result<(), String>> {
        let verdict: Verdict = self.0.read(&self.key(size))?;
        Some(verdict.refused.map_or(Ok(()), Err))
    }

    fn first_size_key(&self) -> CacheKey {
        self.0.key.clone().with("first size")
    }

    /// Returns the usable input size of the first frame at the last start.
    pub fn first_size(&self) -> Option<Size> {
        let FirstSize { width, height } = self.0.read(&self.first_size_key())?;
        self.get((width, height))?.ok().map(|()| (width, height))
    }

    /// Keeps the input size of the first frame for the next start.
    pub fn put_first_size(&self, (width, height): Size) {
        let (key, size) = (self.first_size_key(), FirstSize { width, height });
        if self.0.read(&key) != Some(size) {
            self.0.write(&key, &size);
        }
    }

    /// Keeps a verdict for later starts.
    pub fn put(&self, size: Size, verdict: &Result<(), String>) {
        self.0.write(&self.key(size), &Verdict { refused: verdict.clone().err() });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn many_values_of_a_trial_run_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ModelCache::open(folder.path()).unwrap();
        for (len, is_kept) in [(4, true), (MAX_VALUES + 1, false)] {
            let store = FindingsStore { cache: cache.clone(), key: CacheKey::new("test").with(len.to_string()) };
            store.put(&Findings {
                declaration: Declaration::default(),
                trial: TrialReport { outputs: Some(Vec::new()), ..TrialReport::default() },
                trial_values: vec![0; len],
                provider: String::new(),
                device: String::new(),
                precision: String::new(),
                operators: OperatorCounts::default(),
                is_rewritten: false,
                batching_fault: None,
            });
            assert_eq!(store.get().map(|found| found.trial_values.len()), is_kept.then_some(len));
        }
        // Of the second, neither the values nor the rest.
        assert_eq!(folder.path().read_dir().unwrap().count(), 2);
    }
}
