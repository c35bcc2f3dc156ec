//! Dynamically quantised models, put into the form that the CPU provider computes fastest.
//!
//! ONNX Runtime runs `ConvInteger` as a product of matrices, weights on the left. On x86-64 it has fast kernels for unsigned
//! left sides only; signed weights, as `quantize_dynamic` writes them on request, take a loop of plain C++, about ten times
//! slower. And with VNNI instructions a signed right side, the picture's, is twice as fast as the unsigned one that
//! `DynamicQuantizeLinear` gives. Both can be had without another result: the operator multiplies values minus zero points,
//! so values and zero point may be moved by 128 together. [`for_cpu`] does that:
//!
//! - weights of signed bytes, and their zero points, become unsigned ones;
//! - with VNNI, what `DynamicQuantizeLinear` measured (its scale and zero point) goes to a `QuantizeLinear` beside it that
//!   rounds the same values to signed bytes. Where it kept to 0..=255 this one keeps to -128..=127, so the sums are equal to
//!   the last bit.
//!
//! Without VNNI signed right sides are left alone: there their kernel adds in 16 bits and saturates.
//!
//! Only what has to change is decoded (field numbers: onnx.proto, `ModelProto`, `GraphProto`, `NodeProto`, `TensorProto`);
//! every other byte is copied. Whatever is out of the ordinary makes it `None`, and the model is run as it came. Pure
//! functions.

use std::collections::{HashMap, HashSet};

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, skip_field};

/// Fields of `ModelProto` and `GraphProto`.
const MODEL_GRAPH: u32 = 7;
const GRAPH_NODE: u32 = 1;
const GRAPH_INITIALIZER: u32 = 5;
const GRAPH_VALUES: [u32; 3] = [11, 12, 13];

/// `TensorProto.DataType`.
const UINT8: i32 = 2;
const INT8: i32 = 3;
const INT32: i32 = 6;

/// What signed and unsigned bytes are apart.
const HALF: i32 = 128;

/// `NodeProto`; attributes and metadata stay as they are.
#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, optional, tag = "3")]
    name: Option<String>,
    #[prost(string, optional, tag = "4")]
    op_type: Option<String>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    attribute: Vec<Vec<u8>>,
    #[prost(string, optional, tag = "6")]
    doc_string: Option<String>,
    #[prost(string, optional, tag = "7")]
    domain: Option<String>,
    #[prost(string, optional, tag = "8")]
    overload: Option<String>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    metadata: Vec<Vec<u8>>,
}

/// `TensorProto` of bytes that are in the file.
#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    data_type: Option<i32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(string, optional, tag = "8")]
    name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "9")]
    raw_data: Option<Vec<u8>>,
}

/// `AttributeProto` of an integer.
#[derive(Clone, PartialEq, Message)]
struct IntAttribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "3")]
    i: i64,
    /// `AttributeType.INT` is 2.
    #[prost(int32, tag = "20")]
    kind: i32,
}

/// Only the name of a `ValueInfoProto` or `TensorProto`.
#[derive(Clone, PartialEq, Message)]
struct ValueName {
    #[prost(string, tag = "1")]
    name: String,
}

impl Node {
    fn new(op_type: &str, input: &[&str], output: &str) -> Self {
        Self {
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(format!("{output}/{op_type}")),
            op_type: Some(op_type.to_owned()),
            ..Self::default()
        }
    }

    fn cast(input: &str, output: &str, to: i32) -> Self {
        let to = IntAttribute { name: "to".to_owned(), i: to.into(), kind: 2 };
        Self { attribute: vec![to.encode_to_vec()], ..Self::new("Cast", &[input], output) }
    }

    /// Whether it is this operator of ONNX's own.
    fn is(&self, op_type: &str) -> bool {
        self.op_type.as_deref() == Some(op_type) && matches!(self.domain.as_deref(), None | Some("" | "ai.onnx"))
    }

    fn input(&self, slot: usize) -> Option<&str> {
        self.input.get(slot).map(String::as_str).filter(|name| !name.is_empty())
    }
}

impl Tensor {
    /// The same values and 128 more, as unsigned bytes; `None` where it is not signed bytes.
    fn unsigned(&self) -> Option<Self> {
        let mut tensor = self.clone();
        if self.data_type != Some(INT8) {
            return None;
        }
        tensor.data_type = Some(UINT8);
        tensor.raw_data.iter_mut().flatten().for_each(|byte| *byte ^= 0x80);
        for value in &mut tensor.int32_data {
            *value = i32::from(i8::try_from(*value).ok()?) + HALF;
        }
        Some(tensor)
    }

    fn scalar(name: &str, data_type: i32, value: i32) -> Self {
        Self { data_type: Some(data_type), int32_data: vec![value], name: Some(name.to_owned()), ..Self::default() }
    }
}

/// A field of a message: all its bytes, and those after its key and length.
struct Field<'a> {
    number: u32,
    whole: &'a [u8],
    payload: &'a [u8],
}

impl Field<'_> {
    /// The message in it, if that has no other fields than the `known`.
    fn message<M: Message + Default>(&self, known: &[u32]) -> Option<M> {
        let is_known = fields(self.payload)?.iter().all(|field| known.contains(&field.number));
        is_known.then(|| M::decode(self.payload).ok()).flatten()
    }

    fn node(&self) -> Option<Node> {
        self.message(&[1, 2, 3, 4, 5, 6, 7, 8, 9])
    }

    fn tensor(&self) -> Option<Tensor> {
        self.message(&[1, 2, 5, 8, 9])
    }
}

fn fields(mut rest: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while rest.has_remaining() {
        let start = rest;
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        let mut payload = &start[..0];
        if wire_type == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            (payload, rest) = rest.split_at_checked(length)?;
        } else {
            skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
        }
        fields.push(Field { number, whole: &start[..start.len() - rest.len()], payload });
    }
    Some(fields)
}

fn put(number: u32, message: &impl Message, into: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, into);
    into.extend(message.encode_length_delimited_to_vec());
}

/// Whether an ONNX file has convolutions of bytes that are quantised while it runs. The word may stand there for another
/// reason; then the model merely is not run on what is fastest.
pub(super) fn is_dynamic(model: &[u8]) -> bool {
    memchr::memmem::find(model, b"ConvInteger").is_some()
}

/// The ONNX file `model` with the same results in less time on an x86-64 processor; `None` where there is nothing to gain or
/// the model is not understood.
pub(super) fn for_cpu(model: &[u8], has_vnni: bool) -> Option<Vec<u8>> {
    if !is_dynamic(model) {
        return None;
    }
    let parts = fields(model)?;
    let mut graphs = parts.iter().filter(|part| part.number == MODEL_GRAPH);
    let graph = graph_for_cpu(graphs.next()?.payload, has_vnni)?;
    if graphs.next().is_some() {
        return None;
    }
    let mut made = Vec::with_capacity(model.len() + graph.len() / 16 + 1024);
    for part in &parts {
        if part.number == MODEL_GRAPH {
            encode_key(MODEL_GRAPH, WireType::LengthDelimited, &mut made);
            prost::encoding::encode_varint(graph.len() as u64, &mut made);
            made.extend_from_slice(&graph);
        } else {
            made.extend_from_slice(part.whole);
        }
    }
    Some(made)
}

fn graph_for_cpu(graph: &[u8], has_vnni: bool) -> Option<Vec<u8>> {
    let parts = fields(graph)?;
    let of = |number: u32| parts.iter().filter(move |part| part.number == number);
    let mut nodes = of(GRAPH_NODE).map(Field::node).collect::<Option<Vec<Node>>>()?;
    // Graphs inside of operators see the names of this one.
    if nodes.iter().any(|node| ["If", "Loop", "Scan", "SequenceMap"].iter().any(|op| node.is(op))) {
        return None;
    }
    let tensors = of(GRAPH_INITIALIZER).filter_map(Field::tensor);
    let tensors = tensors.filter_map(|tensor| Some((tensor.name.clone()?, tensor.unsigned()?)));
    let mut unsigned: HashMap<String, Tensor> = tensors.collect();
    keep_convertible(&mut unsigned, &nodes, &declared(&parts)?);

    let mut inserted = HashMap::<usize, Vec<Node>>::new();
    let mut constants = Vec::new();
    if has_vnni && sign_pictures(&mut nodes, &mut inserted) {
        constants.push(Tensor::scalar(HALF_NAME, INT32, HALF));
    }
    if constants.is_empty() && unsigned.is_empty() {
        return None;
    }
    for node in nodes.iter_mut().filter(|node| is_convertible(node, &unsigned) && node.input(3).is_none()) {
        // Zero, where it is not given.
        node.input.resize(4, String::new());
        node.input[3] = ZERO_NAME.to_owned();
        if constants.iter().all(|constant| constant.name.as_deref() != Some(ZERO_NAME)) {
            constants.push(Tensor::scalar(ZERO_NAME, UINT8, HALF));
        }
    }

    let mut made = Vec::with_capacity(graph.len() + graph.len() / 16);
    let mut node_indices = 0..;
    for part in &parts {
        match part.number {
            GRAPH_NODE => {
                let index = node_indices.next()?;
                inserted.remove(&index).iter().flatten().for_each(|node| put(GRAPH_NODE, node, &mut made));
                put(GRAPH_NODE, &nodes[index], &mut made);
            }
            GRAPH_INITIALIZER => {
                let name = part.tensor().and_then(|tensor| tensor.name);
                match name.and_then(|name| unsigned.get(&name)) {
                    Some(tensor) => put(GRAPH_INITIALIZER, tensor, &mut made),
                    None => made.extend_from_slice(part.whole),
                }
            }
            _ => made.extend_from_slice(part.whole),
        }
    }
    constants.iter().for_each(|constant| put(GRAPH_INITIALIZER, constant, &mut made));
    Some(made)
}

/// Names of what is added; should a model have them already, ONNX Runtime refuses the result and gets the original.
const HALF_NAME: &str = "vx/128";
const ZERO_NAME: &str = "vx/zero_point";
const SIGNED: &str = "/vx/signed";

/// Names whose types the graph declares.
fn declared(parts: &[Field<'_>]) -> Option<HashSet<String>> {
    let values = parts.iter().filter(|part| GRAPH_VALUES.contains(&part.number));
    values.map(|value| Some(ValueName::decode(value.payload).ok()?.name)).collect()
}

/// Whether both weights and zero point of the node are among `unsigned`, or there is no zero point.
fn is_convertible(node: &Node, unsigned: &HashMap<String, Tensor>) -> bool {
    node.is("ConvInteger")
        && node.input(1).is_some_and(|name| unsigned.contains_key(name))
        && node.input(3).is_none_or(|name| unsigned.contains_key(name))
}

/// Keeps of `unsigned` what nothing else reads than `ConvInteger` as weights or zero point, of which both are there.
fn keep_convertible(unsigned: &mut HashMap<String, Tensor>, nodes: &[Node], declared: &HashSet<String>) {
    unsigned.retain(|name, _| !declared.contains(name));
    loop {
        let (mut fit, mut unfit) = (HashSet::new(), HashSet::new());
        for node in nodes {
            let converts = is_convertible(node, unsigned);
            for slot in 0..node.input.len() {
                let names = if converts && matches!(slot, 1 | 3) { &mut fit } else { &mut unfit };
                names.extend(node.input(slot));
            }
        }
        let before = unsigned.len();
        unsigned.retain(|name, _| fit.contains(name.as_str()) && !unfit.contains(name.as_str()));
        // What was taken away may have been the other half of what a node reads.
        if unsigned.len() == before {
            return;
        }
    }
}

/// Gives each `ConvInteger` that reads a `DynamicQuantizeLinear` the same in signed bytes; `inserted` gets what has to stand
/// before the node of that number. Whether there was any.
fn sign_pictures(nodes: &mut [Node], inserted: &mut HashMap<usize, Vec<Node>>) -> bool {
    let quantizers = nodes.iter().filter(|node| node.is("DynamicQuantizeLinear") && node.output.len() == 3);
    let quantizers: HashMap<String, Node> = quantizers.map(|node| (node.output[0].clone(), node.clone())).collect();
    let mut is_signed = HashSet::new();
    for (index, node) in nodes.iter_mut().enumerate().filter(|(_, node)| node.is("ConvInteger")) {
        let (Some(picture), Some(zero_point)) = (node.input(0), node.input(2)) else { continue };
        let Some(quantizer) = quantizers.get(picture) else { continue };
        let ([values], [_, scale, measured]) = (&quantizer.input[..], &quantizer.output[..]) else { continue };
        if measured != zero_point || scale.is_empty() {
            continue;
        }
        let (signed, signed_zero) = (format!("{picture}{SIGNED}"), format!("{zero_point}{SIGNED}"));
        if is_signed.insert(picture.to_owned()) {
            let (wide, moved) = (format!("{zero_point}/vx/wide"), format!("{zero_point}/vx/moved"));
            inserted.entry(index).or_default().extend([
                Node::cast(zero_point, &wide, INT32),
                Node::new("Sub", &[&wide, HALF_NAME], &moved),
                Node::cast(&moved, &signed_zero, INT8),
                Node::new("QuantizeLinear", &[values, scale, &signed_zero], &signed),
            ]);
        }
        node.input[0] = signed;
        node.input[2] = signed_zero;
    }
    !is_signed.is_empty()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::path::Path;

    use super::super::form::SlotMut;
    use super::super::loading::cpu_setup;
    use super::super::model::Draft;
    use super::super::plan::{EngineSpec, Plan};
    use super::super::runtime::{Runtime, RuntimeOptions};
    use super::super::session::Session;
    use super::super::source::{ModelBytes, ModelSource};
    use super::*;

    /// What a model gives for a picture of noise.
    fn outputs(model: &ModelBytes) -> Vec<Vec<f32>> {
        let search_dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/lib")];
        let (runtime, _) = Runtime::load(&RuntimeOptions { search_dirs, ..RuntimeOptions::default() }).unwrap();
        let setup = cpu_setup(runtime, &EngineSpec::default(), Plan::new(&EngineSpec::default(), 1, false));
        let (mut session, _) = Session::open(runtime, model, &setup, &[], None).unwrap();
        let draft = Draft::new("test", session.describe(), None).unwrap();
        let mut input = session.input(1, &draft.input).unwrap();
        let SlotMut::F32(pixels) = input.slot(0) else { panic!("the model takes f32") };
        let mut noise = 1_u32;
        for pixel in pixels {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *pixel = (noise >> 8) as f32 / (1 << 24) as f32;
        }
        let every: Vec<usize> = (0..session.describe().outputs.len()).collect();
        session.run(&input, 1, &every, |views| views.iter().map(|view| view.values.to_vec()).collect()).unwrap()
    }

    /// Nodes and constants of a model.
    fn decoded(model: &[u8]) -> (Vec<Node>, Vec<Tensor>) {
        let parts = fields(model).unwrap();
        let graph = fields(parts.iter().find(|part| part.number == MODEL_GRAPH).unwrap().payload).unwrap();
        let nodes = graph.iter().filter(|part| part.number == GRAPH_NODE).map(|part| part.node().unwrap());
        let tensors = graph.iter().filter(|part| part.number == GRAPH_INITIALIZER).filter_map(Field::tensor);
        (nodes.collect(), tensors.collect())
    }

    fn same_results(path: &Path) {
        let source = ModelSource::File(path.to_owned());
        let bytes = std::fs::read(path).unwrap();
        let expected = outputs(&source.read(None).unwrap().unchanged());
        assert!(expected.iter().flatten().any(|value| value.abs() > 1e-3), "{} gives nothing", path.display());
        for has_vnni in [false, true] {
            let Some(changed) = for_cpu(&bytes, has_vnni) else {
                assert!(!has_vnni, "{} is left as it is", path.display());
                continue;
            };
            let dir = tempfile::tempdir().unwrap();
            let place = dir.path().join("changed.onnx");
            std::fs::write(&place, changed).unwrap();
            let changed = ModelSource::File(place).read(None).unwrap().unchanged();
            // Without VNNI signed right sides may saturate, which is why they are not made there.
            if !has_vnni || super::super::processor::processor().has_vnni {
                assert_eq!(outputs(&changed), expected, "{} with VNNI: {has_vnni}", path.display());
            }
        }
    }

    #[test]
    fn results_are_the_same_to_the_last_bit() {
        same_results(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/quantised.onnx"));
    }

    #[test]
    fn results_of_whole_detectors_are_the_same() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
        for name in ["yolo26n_int8.onnx", "yolo11n_320_int8.onnx"] {
            if folder.join(name).exists() {
                same_results(&folder.join(name));
            } else {
                println!("skipped: {} is not there", folder.join(name).display());
            }
        }
    }

    #[test]
    fn weights_become_unsigned_where_nothing_else_reads_them() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/quantised.onnx");
        let original = std::fs::read(path).unwrap();
        let kinds = |model: &[u8]| {
            let (_, tensors) = decoded(model);
            let kind = |name: &str| tensors.iter().find(|tensor| tensor.name.as_deref() == Some(name))?.data_type;
            ["signed", "signed_zero", "symmetric", "shared", "shared_zero", ZERO_NAME].map(kind)
        };
        let (int8, uint8) = (Some(INT8), Some(UINT8));
        assert_eq!(kinds(&original), [int8, int8, int8, int8, int8, None]);
        let changed = for_cpu(&original, false).unwrap();
        assert_eq!(kinds(&changed), [uint8, uint8, uint8, int8, int8, uint8]);
        let operators = |model: &[u8], op: &str| decoded(model).0.iter().filter(|node| node.is(op)).count();
        assert_eq!(operators(&changed, "QuantizeLinear"), 0);
        // One picture is read by two operators.
        let changed = for_cpu(&original, true).unwrap();
        assert_eq!((operators(&original, "ConvInteger"), operators(&changed, "QuantizeLinear")), (4, 3));
    }

    #[test]
    fn what_is_no_such_model_is_left_alone() {
        assert!(for_cpu(b"", true).is_none() && for_cpu(b"ConvInteger", true).is_none());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/quantised.onnx");
        let bytes = std::fs::read(path).unwrap();
        for cut in 1..bytes.len() {
            // Must not panic; what is left of a file may still be a model.
            let _ = for_cpu(&bytes[..cut], true);
        }
        assert!(for_cpu(&for_cpu(&bytes, true).unwrap(), true).is_none(), "it is as it should be already");
    }
}
