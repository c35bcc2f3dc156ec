// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rewrites how an ONNX file stores its weights, so that every provider accepts it.
//!
//! - Some exporters list weights among the graph's inputs, as IR version 3 required (Paddle2ONNX, older PyTorch). From version 4 on
//!   this means that the caller may replace them, so they are not constants: ONNX Runtime folds nothing, and OpenVINO rejects the
//!   model. [`as_constants`] removes them from the inputs.
//! - Weights in separate files (`TensorProto.external_data`) are found by their path relative to the model. OpenVINO rejects such a
//!   file behind a symbolic link, as in the cache of Hugging Face. [`embedded`] moves them into the model.
//!
//! Only what changes is decoded; every other byte is copied. Anything unexpected returns `None`, and the model is used unchanged.
//! Time and memory are linear in the length of the input.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use super::file::open_regular;
use super::protobuf::{Field, GRAPH_INITIALIZER, MODEL_GRAPH, fields, only, payload_of, put_bytes};

/// Fields of `ModelProto`, `GraphProto`, `ValueInfoProto`, `SparseTensorProto`, `TensorProto` and `StringStringEntryProto`.
const MODEL_IR_VERSION: u32 = 1;
const GRAPH_INPUT: u32 = 11;
const GRAPH_SPARSE_INITIALIZER: u32 = 15;
const VALUE_NAME: u32 = 1;
const SPARSE_VALUES: u32 = 1;
const TENSOR_NAME: u32 = 8;
const TENSOR_RAW_DATA: u32 = 9;
const TENSOR_EXTERNAL_DATA: u32 = 13;
const TENSOR_DATA_LOCATION: u32 = 14;
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;

/// Up to this IR version weights must be inputs, and are constants.
const LAST_VERSION_WITH_WEIGHTS_AS_INPUTS: u64 = 3;

/// Removes weights from the inputs of the ONNX file `model`; `None` if there are none.
pub(super) fn as_constants(model: &[u8]) -> Option<Vec<u8>> {
    let parts = fields(model)?;
    let graph = fields(only(&parts, MODEL_GRAPH)?.payload)?;
    let version = only(&parts, MODEL_IR_VERSION)?.integer()?;
    let mut weights = HashSet::new();
    for part in &graph {
        match part.number {
            GRAPH_INITIALIZER => weights.extend(payload_of(part.payload, TENSOR_NAME)),
            GRAPH_SPARSE_INITIALIZER => {
                let values = payload_of(part.payload, SPARSE_VALUES);
                weights.extend(values.and_then(|values| payload_of(values, TENSOR_NAME)));
            }
            _ => {}
        }
    }
    let is_weight = |part: &Field<'_>| {
        part.number == GRAPH_INPUT && payload_of(part.payload, VALUE_NAME).is_some_and(|name| weights.contains(name))
    };
    if version <= LAST_VERSION_WITH_WEIGHTS_AS_INPUTS || !graph.iter().any(is_weight) {
        return None;
    }
    let kept: Vec<u8> = graph.iter().filter(|part| !is_weight(part)).flat_map(|part| part.whole).copied().collect();
    let mut rewritten = Vec::with_capacity(model.len());
    for part in &parts {
        match part.number {
            MODEL_GRAPH => put_bytes(MODEL_GRAPH, &kept, &mut rewritten),
            _ => rewritten.extend_from_slice(part.whole),
        }
    }
    Some(rewritten)
}

/// Embeds weights from files in `folder` into the ONNX file `model`; `None` if the result exceeds `limit` bytes, if weights of a
/// subgraph are external, or if a file cannot be read.
pub(super) fn embedded(model: &[u8], folder: &Path, limit: u64) -> Option<Vec<u8>> {
    let parts = fields(model)?;
    let graph = only(&parts, MODEL_GRAPH)?;
    let mut files = HashMap::new();
    let mut left = limit.checked_sub(model.len() as u64)?;
    let mut rewritten_graph = Vec::with_capacity(graph.payload.len());
    for part in fields(graph.payload)? {
        match external(&part) {
            None => rewritten_graph.extend_from_slice(part.whole),
            Some(external) => {
                let tensor = external?.read(folder, &mut files, &mut left)?;
                put_bytes(GRAPH_INITIALIZER, &tensor, &mut rewritten_graph);
            }
        }
    }
    let mut rewritten = Vec::with_capacity(model.len() + rewritten_graph.len());
    for part in &parts {
        if part.number == MODEL_GRAPH {
            put_bytes(MODEL_GRAPH, &rewritten_graph, &mut rewritten);
        } else {
            rewritten.extend_from_slice(part.whole);
        }
    }
    // Remaining external data belongs to a subgraph.
    memchr::memmem::find(&rewritten, b"location\x12").is_none().then_some(rewritten)
}

/// A tensor whose values are in a separate file.
struct External<'a> {
    /// Its other fields.
    rest: Vec<Field<'a>>,
    location: &'a str,
    offset: u64,
    /// `None` for everything after `offset`.
    length: Option<u64>,
}

/// Returns the tensor in `part`, if its values are in a separate file; `Some(None)` if it is invalid.
fn external<'a>(part: &Field<'a>) -> Option<Option<External<'a>>> {
    const EXTERNAL: u64 = 1;
    if part.number != GRAPH_INITIALIZER {
        return None;
    }
    let Some(all) = fields(part.payload) else { return Some(None) };
    all.iter().find(|field| field.number == TENSOR_DATA_LOCATION && field.integer() == Some(EXTERNAL))?;
    let (entries, rest): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|field| field.number != TENSOR_DATA_LOCATION)
        .partition(|field| field.number == TENSOR_EXTERNAL_DATA);
    let value = |key: &str| {
        let entry = entries.iter().find(|entry| payload_of(entry.payload, ENTRY_KEY) == Some(key.as_bytes()))?;
        std::str::from_utf8(payload_of(entry.payload, ENTRY_VALUE)?).ok()
    };
    let read = || {
        let number = |key| value(key).map_or(Some(None), |text: &str| text.parse().ok().map(Some));
        Some((value("location")?, number("offset")?.unwrap_or(0), number("length")?))
    };
    Some(read().map(|(location, offset, length)| External { rest, location, offset, length }))
}

impl External<'_> {
    /// Returns the tensor with its values embedded. `left` is the number of bytes that may still be read.
    fn read(&self, folder: &Path, files: &mut HashMap<String, File>, left: &mut u64) -> Option<Vec<u8>> {
        // Only files in the folder of the model and below.
        let is_below = Path::new(self.location).components().all(|part| matches!(part, Component::Normal(_)));
        if !is_below || self.location.is_empty() {
            return None;
        }
        if !files.contains_key(self.location) {
            files.insert(self.location.to_owned(), open_regular(&folder.join(self.location)).ok()?);
        }
        let file = files.get_mut(self.location)?;
        let available = file.metadata().ok()?.len().checked_sub(self.offset)?;
        let length = self.length.unwrap_or(available);
        *left = left.checked_sub(length)?;
        if length > available {
            return None;
        }
        let mut values = Vec::with_capacity(usize::try_from(length).ok()?);
        file.seek(SeekFrom::Start(self.offset)).ok()?;
        file.take(length).read_to_end(&mut values).ok()?;
        let mut tensor = Vec::with_capacity(values.len() + 128);
        self.rest.iter().for_each(|field| tensor.extend_from_slice(field.whole));
        put_bytes(TENSOR_RAW_DATA, &values, &mut tensor);
        (values.len() as u64 == length).then_some(tensor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn model(name: &str) -> Vec<u8> {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(name)).unwrap()
    }

    /// Names of the graph's inputs.
    fn inputs(model: &[u8]) -> Vec<String> {
        let parts = fields(model).unwrap();
        let graph = fields(only(&parts, MODEL_GRAPH).unwrap().payload).unwrap();
        let inputs = graph.iter().filter(|part| part.number == GRAPH_INPUT);
        let names = inputs.map(|part| payload_of(part.payload, VALUE_NAME).unwrap());
        names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
    }

    #[test]
    fn weights_are_removed_from_the_inputs() {
        let before = model("weights_as_inputs.onnx");
        assert!(inputs(&before).len() > 1);
        let after = as_constants(&before).unwrap();
        assert_eq!(inputs(&after), ["image"]);
        assert_eq!(as_constants(&after), None, "nothing is left to change");
        assert_eq!(as_constants(&model("picodet.onnx")), None);
        // In version 3 they must be inputs: the version is the first field.
        let mut older = before.clone();
        assert_eq!(older[..2], [8, 4]);
        older[1] = 3;
        assert_eq!(as_constants(&older), None);
        // Protobuf merges two graphs into one.
        let mut split = before;
        put_bytes(MODEL_GRAPH, &[], &mut split);
        assert_eq!(as_constants(&split), None);
    }

    #[test]
    fn external_weights_are_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        let (before, weights) = (model("external.onnx"), model("external.weights"));
        let after = embedded(&before, &folder, 1 << 20).unwrap();
        let is_in = |bytes: &[u8]| memchr::memmem::find(&after, bytes).is_some();
        assert!(is_in(&weights[..16]) && !is_in(b"external.weights"));
        assert_eq!(embedded(&before, &folder, before.len() as u64 + 8), None, "exceeds the limit");
        assert_eq!(embedded(&before, Path::new("/nowhere"), 1 << 20), None);
    }

    #[test]
    fn nothing_outside_of_the_folder_is_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        let text = model("external.onnx");
        let place = memchr::memmem::find(&text, b"external.weights").unwrap();
        for elsewhere in [b"../models/s.onnx", b"/models/s.onnx//", b"./.././//s.onnxx"] {
            let mut changed = text.clone();
            changed[place..place + 16].copy_from_slice(elsewhere);
            assert_eq!(embedded(&changed, &folder, 1 << 20), None);
        }
    }

    #[test]
    fn damaged_models_do_not_panic() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        for name in ["weights_as_inputs.onnx", "external.onnx"] {
            let whole = model(name);
            for length in 0..whole.len() {
                let (_, _) = (as_constants(&whole[..length]), embedded(&whole[..length], &folder, 1 << 20));
            }
            for place in 0..whole.len() {
                for mask in [0x01, 0x80, 0xff] {
                    let mut changed = whole.clone();
                    changed[place] ^= mask;
                    let (_, _) = (as_constants(&changed), embedded(&changed, &folder, 1 << 20));
                }
            }
        }
    }
}
