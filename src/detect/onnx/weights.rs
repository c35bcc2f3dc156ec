//! Weights of an ONNX file, put into the form that every provider takes.
//!
//! - Some exporters list weights among the graph's inputs too, as IR version 3 demanded (Paddle2ONNX, older PyTorch). From
//!   version 4 on that says that whoever runs the model may replace them, so they are not constants: ONNX Runtime folds nothing,
//!   and OpenVINO refuses the model. [`as_constants`] removes them from the list.
//! - Weights in files of their own (`TensorProto.external_data`) are found by their path beside the model. OpenVINO refuses such
//!   a file behind a symbolic link, which is how caches such as Hugging Face's keep files. [`inside`] puts them into the model.
//!
//! Only what has to change is decoded (field numbers: onnx.proto); every other byte is copied. Whatever is out of the ordinary
//! makes it `None`, and the model is used as it came. Time and memory grow with the length of what is given and not faster.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use prost::encoding::{WireType, decode_key, decode_varint};

use super::file::open_regular;
use super::quantised::{Field, GRAPH_INITIALIZER, MODEL_GRAPH, fields, put_bytes};

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

/// Up to this IR version weights have to be inputs, and are constants.
const WEIGHTS_ARE_INPUTS: u64 = 3;

/// The ONNX file `model` without weights among its inputs; `None` where there are none.
pub(super) fn as_constants(model: &[u8]) -> Option<Vec<u8>> {
    let parts = fields(model)?;
    let graph = fields(only(&parts, MODEL_GRAPH)?.payload)?;
    let version = number(only(&parts, MODEL_IR_VERSION)?)?;
    let mut weights = HashSet::new();
    for part in &graph {
        match part.number {
            GRAPH_INITIALIZER => weights.extend(bytes_of(part.payload, TENSOR_NAME)),
            GRAPH_SPARSE_INITIALIZER => {
                let values = bytes_of(part.payload, SPARSE_VALUES);
                weights.extend(values.and_then(|values| bytes_of(values, TENSOR_NAME)));
            }
            _ => {}
        }
    }
    let is_weight = |part: &Field<'_>| {
        part.number == GRAPH_INPUT && bytes_of(part.payload, VALUE_NAME).is_some_and(|name| weights.contains(name))
    };
    if version <= WEIGHTS_ARE_INPUTS || !graph.iter().any(is_weight) {
        return None;
    }
    let kept: Vec<u8> = graph.iter().filter(|part| !is_weight(part)).flat_map(|part| part.whole).copied().collect();
    let mut made = Vec::with_capacity(model.len());
    for part in &parts {
        match part.number {
            MODEL_GRAPH => put_bytes(MODEL_GRAPH, &kept, &mut made),
            _ => made.extend_from_slice(part.whole),
        }
    }
    Some(made)
}

/// The ONNX file `model` with the weights in it that lie in files in `folder`, if that makes no more than `limit` bytes; `None`
/// otherwise, and where weights of a graph within the graph lie elsewhere, or a file cannot be read.
pub(crate) fn inside(model: &[u8], folder: &Path, limit: u64) -> Option<Vec<u8>> {
    let parts = fields(model)?;
    let graph = only(&parts, MODEL_GRAPH)?;
    let mut files = HashMap::new();
    let mut left = limit.checked_sub(model.len() as u64)?;
    let mut made_graph = Vec::with_capacity(graph.payload.len());
    for part in fields(graph.payload)? {
        match external(&part) {
            None => made_graph.extend_from_slice(part.whole),
            Some(external) => {
                let tensor = external?.read(folder, &mut files, &mut left)?;
                put_bytes(GRAPH_INITIALIZER, &tensor, &mut made_graph);
            }
        }
    }
    let mut made = Vec::with_capacity(model.len() + made_graph.len());
    for part in &parts {
        if part.number == MODEL_GRAPH {
            put_bytes(MODEL_GRAPH, &made_graph, &mut made);
        } else {
            made.extend_from_slice(part.whole);
        }
    }
    // What still lies elsewhere is in a graph within the graph.
    memchr::memmem::find(&made, b"location\x12").is_none().then_some(made)
}

/// A tensor whose values lie in a file.
struct External<'a> {
    /// Its other fields.
    rest: Vec<Field<'a>>,
    location: &'a str,
    offset: u64,
    /// `None` for all that follows.
    length: Option<u64>,
}

/// The tensor in `part`, if its values lie in a file; `Some(None)` where it is not understood.
fn external<'a>(part: &Field<'a>) -> Option<Option<External<'a>>> {
    const EXTERNAL: u64 = 1;
    if part.number != GRAPH_INITIALIZER {
        return None;
    }
    let Some(all) = fields(part.payload) else { return Some(None) };
    all.iter().find(|field| field.number == TENSOR_DATA_LOCATION && number(field) == Some(EXTERNAL))?;
    let (entries, rest): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|field| field.number != TENSOR_DATA_LOCATION)
        .partition(|field| field.number == TENSOR_EXTERNAL_DATA);
    let value = |key: &str| {
        let entry = entries.iter().find(|entry| bytes_of(entry.payload, ENTRY_KEY) == Some(key.as_bytes()))?;
        std::str::from_utf8(bytes_of(entry.payload, ENTRY_VALUE)?).ok()
    };
    let read = || {
        let number = |key| value(key).map_or(Some(None), |text: &str| text.parse().ok().map(Some));
        Some((value("location")?, number("offset")?.unwrap_or(0), number("length")?))
    };
    Some(read().map(|(location, offset, length)| External { rest, location, offset, length }))
}

impl External<'_> {
    /// The tensor with its values in it; `left` is what may be read.
    fn read(&self, folder: &Path, files: &mut HashMap<String, File>, left: &mut u64) -> Option<Vec<u8>> {
        // Nothing but files beside the model and below.
        let is_below = Path::new(self.location).components().all(|part| matches!(part, Component::Normal(_)));
        if !is_below || self.location.is_empty() {
            return None;
        }
        if !files.contains_key(self.location) {
            files.insert(self.location.to_owned(), open_regular(&folder.join(self.location)).ok()?);
        }
        let file = files.get_mut(self.location)?;
        let most = file.metadata().ok()?.len().checked_sub(self.offset)?;
        let length = self.length.unwrap_or(most);
        *left = left.checked_sub(length)?;
        if length > most {
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

/// The one field of that number; `None` where there are several.
fn only<'a, 'b>(parts: &'a [Field<'b>], number: u32) -> Option<&'a Field<'b>> {
    let mut found = parts.iter().filter(|part| part.number == number);
    found.next().filter(|_| found.next().is_none())
}

/// What the last field of that number in `message` holds, if it is text, bytes or a message.
fn bytes_of(message: &[u8], number: u32) -> Option<&[u8]> {
    fields(message)?.iter().rev().find(|field| field.number == number).map(|field| field.payload)
}

/// The number in a field that holds one.
fn number(field: &Field<'_>) -> Option<u64> {
    let mut bytes = field.whole;
    let (_, kind) = decode_key(&mut bytes).ok()?;
    if kind != WireType::Varint {
        return None;
    }
    decode_varint(&mut bytes).ok()
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
        let names = inputs.map(|part| bytes_of(part.payload, VALUE_NAME).unwrap());
        names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
    }

    #[test]
    fn weights_are_no_inputs() {
        let before = model("weights_as_inputs.onnx");
        assert!(inputs(&before).len() > 1);
        let after = as_constants(&before).unwrap();
        assert_eq!(inputs(&after), ["image"]);
        assert_eq!(as_constants(&after), None, "there is nothing left to do");
        assert_eq!(as_constants(&model("picodet.onnx")), None);
        // In version 3 they have to be inputs: the version is the first field.
        let mut older = before.clone();
        assert_eq!(older[..2], [8, 4]);
        older[1] = 3;
        assert_eq!(as_constants(&older), None);
        // Two graphs are one to protobuf, which merges them.
        let mut split = before;
        put_bytes(MODEL_GRAPH, &[], &mut split);
        assert_eq!(as_constants(&split), None);
    }

    #[test]
    fn files_of_weights_are_put_into_the_model() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        let (before, weights) = (model("external.onnx"), model("external.weights"));
        let after = inside(&before, &folder, 1 << 20).unwrap();
        let is_in = |bytes: &[u8]| memchr::memmem::find(&after, bytes).is_some();
        assert!(is_in(&weights[..16]) && !is_in(b"external.weights"));
        assert_eq!(inside(&before, &folder, before.len() as u64 + 8), None, "more than is allowed");
        assert_eq!(inside(&before, Path::new("/nowhere"), 1 << 20), None);
    }

    #[test]
    fn nothing_outside_of_the_folder_is_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        let text = model("external.onnx");
        let place = memchr::memmem::find(&text, b"external.weights").unwrap();
        for elsewhere in [b"../models/s.onnx", b"/models/s.onnx//", b"./.././//s.onnxx"] {
            let mut changed = text.clone();
            changed[place..place + 16].copy_from_slice(elsewhere);
            assert_eq!(inside(&changed, &folder, 1 << 20), None);
        }
    }

    #[test]
    fn damaged_models_are_left_as_they_are() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        for name in ["weights_as_inputs.onnx", "external.onnx"] {
            let whole = model(name);
            for length in 0..whole.len() {
                let (_, _) = (as_constants(&whole[..length]), inside(&whole[..length], &folder, 1 << 20));
            }
            for place in 0..whole.len() {
                for mask in [0x01, 0x80, 0xff] {
                    let mut changed = whole.clone();
                    changed[place] ^= mask;
                    let (_, _) = (as_constants(&changed), inside(&changed, &folder, 1 << 20));
                }
            }
        }
    }
}
