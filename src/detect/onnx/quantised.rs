//! Dynamically quantised models, put into the form that the CPU provider computes fastest.
//!
//! ONNX Runtime runs `ConvInteger` as a product of matrices, weights on the left. On most x86-64 processors it has fast kernels
//! for unsigned left sides only: signed weights, which `quantize_dynamic` writes unless told otherwise, take a loop of plain
//! C++, about ten times slower (before 1.24 they were refused). And since 1.25 (its pull request 27671) a signed right side,
//! the picture's, is with VNNI instructions twice as fast as the unsigned one that `DynamicQuantizeLinear` gives. Both can be
//! had without another result: the operator multiplies values minus zero points, so values and zero point may be moved by 128
//! together. [`for_cpu`] does that:
//!
//! - weights of signed bytes, and their zero points, become unsigned ones;
//! - with [`Gain::SignedPictures`] what `DynamicQuantizeLinear` measured (its scale and zero point) goes to a
//!   `QuantizeLinear` beside it that rounds the same values to signed bytes. Where the one keeps to 0..=255 the other keeps to
//!   -128..=127, so the sums are equal to the last bit.
//!
//! Only what has to change is decoded (field numbers: onnx.proto, `ModelProto`, `GraphProto`, `NodeProto`, `TensorProto`);
//! every other byte is copied. Whatever is out of the ordinary makes it `None`, and the model is run as it came. Pure
//! functions; time and memory grow with the length of the file and not faster.

use std::collections::{HashMap, HashSet};

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};

/// Fields of `ModelProto` and `GraphProto`.
pub(crate) const MODEL_GRAPH: u32 = 7;
const GRAPH_NODE: u32 = 1;
pub(crate) const GRAPH_INITIALIZER: u32 = 5;
const GRAPH_VALUES: [u32; 3] = [11, 12, 13];

/// `TensorProto.DataType`.
const UINT8: i32 = 2;
const INT8: i32 = 3;
const INT32: i32 = 6;

/// Largest file that is changed: there are then up to three copies of it for a moment.
const MAX_LENGTH: usize = 256 << 20;
/// Most fields of a message, and so most nodes of a graph, and most names that they read and write.
const MAX_FIELDS: usize = 200_000;
/// Weights that share zero points in chains longer than this are left as they are.
const MAX_ROUNDS: usize = 8;

/// What there is to be gained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gain {
    /// By unsigned weights.
    UnsignedWeights,
    /// By signed pictures as well: on processors with VNNI, from ONNX Runtime 1.25. Without VNNI their kernel adds in 16 bits
    /// and saturates.
    SignedPictures,
}

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
    #[prost(string, optional, tag = "12")]
    doc_string: Option<String>,
    #[prost(bytes = "vec", repeated, tag = "16")]
    metadata: Vec<Vec<u8>>,
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

/// Only the name of a `ValueInfoProto`.
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

    /// Whether a graph is among its attributes (`AttributeProto.g` and `.graphs`): such a graph sees the names of this one.
    fn holds_graph(&self) -> bool {
        let is_graph = |attribute: &Vec<u8>| {
            fields(attribute).is_none_or(|fields| fields.iter().any(|field| matches!(field.number, 6 | 11)))
        };
        self.attribute.iter().any(is_graph)
    }

    fn input(&self, slot: usize) -> Option<&str> {
        self.input.get(slot).map(String::as_str).filter(|name| !name.is_empty())
    }
}

impl Tensor {
    /// The same values and 128 more, as unsigned bytes; `None` where it is not signed bytes.
    fn unsigned(mut self) -> Option<Self> {
        if self.data_type != Some(INT8) {
            return None;
        }
        self.data_type = Some(UINT8);
        self.raw_data.iter_mut().flatten().for_each(|byte| *byte ^= 0x80);
        for value in &mut self.int32_data {
            *value = i32::from(i8::try_from(*value).ok()?) + HALF;
        }
        Some(self)
    }

    fn scalar(name: &str, data_type: i32, value: i32) -> Self {
        Self { data_type: Some(data_type), int32_data: vec![value], name: Some(name.to_owned()), ..Self::default() }
    }
}

/// A field of a message: all its bytes, and those after its key and length.
pub(crate) struct Field<'a> {
    pub number: u32,
    pub whole: &'a [u8],
    /// Empty where it holds a number.
    pub payload: &'a [u8],
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
        self.message(&[1, 2, 5, 8, 9, 12, 16])
    }
}

/// The fields of a message; `None` if it is none, or of too many.
pub(crate) fn fields(mut rest: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while rest.has_remaining() {
        if fields.len() == MAX_FIELDS {
            return None;
        }
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
    put_bytes(number, &message.encode_to_vec(), into);
}

pub(crate) fn put_bytes(number: u32, payload: &[u8], into: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, into);
    encode_varint(payload.len() as u64, into);
    into.extend_from_slice(payload);
}

/// Whether an ONNX file has convolutions of bytes that are quantised while it runs. The word may stand there for another
/// reason; then the model merely is not run on what is fastest.
pub(super) fn is_dynamic(model: &[u8]) -> bool {
    memchr::memmem::find(model, b"ConvInteger").is_some()
}

/// The ONNX file `model` with the same results in less time on an x86-64 processor; `None` where there is nothing to gain or
/// the model is not understood.
pub(crate) fn for_cpu(model: &[u8], gain: Gain) -> Option<Vec<u8>> {
    // A model with our names in it has been here before, or would get them twice.
    if !is_dynamic(model) || model.len() > MAX_LENGTH || memchr::memmem::find(model, MARK.as_bytes()).is_some() {
        return None;
    }
    let parts = fields(model)?;
    let mut graphs = parts.iter().filter(|part| part.number == MODEL_GRAPH);
    let graph = graph_for_cpu(graphs.next()?.payload, gain)?;
    if graphs.next().is_some() {
        return None;
    }
    let mut made = Vec::with_capacity(model.len() + graph.len() / 16 + 1024);
    for part in &parts {
        if part.number == MODEL_GRAPH {
            put_bytes(MODEL_GRAPH, &graph, &mut made);
        } else {
            made.extend_from_slice(part.whole);
        }
    }
    Some(made)
}

fn graph_for_cpu(graph: &[u8], gain: Gain) -> Option<Vec<u8>> {
    let parts = fields(graph)?;
    let of = |number: u32| parts.iter().filter(move |part| part.number == number);
    let (mut nodes, mut names) = (Vec::new(), 0);
    for part in of(GRAPH_NODE) {
        let node = part.node()?;
        names += node.input.len() + node.output.len();
        if names > MAX_FIELDS {
            return None;
        }
        nodes.push(node);
    }
    if nodes.iter().any(Node::holds_graph) {
        return None;
    }
    let tensors = parts.iter().enumerate().filter(|(_, part)| part.number == GRAPH_INITIALIZER);
    let tensors = tensors.filter_map(|(place, part)| {
        let tensor = part.tensor()?.unsigned()?;
        Some((tensor.name.clone()?, (place, tensor)))
    });
    let mut unsigned: Unsigned = tensors.collect();
    keep_convertible(&mut unsigned, &nodes, &declared(&parts)?);

    let mut inserted = HashMap::<usize, Vec<Node>>::new();
    let mut constants = Vec::new();
    if gain == Gain::SignedPictures && sign_pictures(&mut nodes, &mut inserted) {
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

    let changed: HashMap<usize, &Tensor> = unsigned.values().map(|(place, tensor)| (*place, tensor)).collect();
    let mut made = Vec::with_capacity(graph.len() + graph.len() / 16);
    let mut node_indices = 0..;
    for (place, part) in parts.iter().enumerate() {
        match part.number {
            GRAPH_NODE => {
                let index = node_indices.next()?;
                inserted.remove(&index).iter().flatten().for_each(|node| put(GRAPH_NODE, node, &mut made));
                put(GRAPH_NODE, &nodes[index], &mut made);
            }
            _ => match changed.get(&place) {
                Some(&tensor) => put(GRAPH_INITIALIZER, tensor, &mut made),
                None => made.extend_from_slice(part.whole),
            },
        }
    }
    constants.iter().for_each(|constant| put(GRAPH_INITIALIZER, constant, &mut made));
    Some(made)
}

/// Signed tensors by name, with their place among the fields of the graph, as they are once unsigned.
type Unsigned = HashMap<String, (usize, Tensor)>;

/// In every name that is added.
const MARK: &str = "gstvx~";
const HALF_NAME: &str = "gstvx~128";
const ZERO_NAME: &str = "gstvx~zero_point";
const SIGNED: &str = "/gstvx~signed";

/// Names whose types the graph declares.
fn declared(parts: &[Field<'_>]) -> Option<HashSet<String>> {
    let values = parts.iter().filter(|part| GRAPH_VALUES.contains(&part.number));
    values.map(|value| Some(ValueName::decode(value.payload).ok()?.name)).collect()
}

/// Whether both weights and zero point of the node are among `unsigned`, or there is no zero point.
fn is_convertible(node: &Node, unsigned: &Unsigned) -> bool {
    node.is("ConvInteger")
        && node.input(1).is_some_and(|name| unsigned.contains_key(name))
        && node.input(3).is_none_or(|name| unsigned.contains_key(name))
}

/// Keeps of `unsigned` what nothing else reads than `ConvInteger` as weights or zero point, of which both are there.
fn keep_convertible(unsigned: &mut Unsigned, nodes: &[Node], declared: &HashSet<String>) {
    unsigned.retain(|name, _| !declared.contains(name));
    for _ in 0..MAX_ROUNDS {
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
    unsigned.clear();
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
            let (wide, moved) = (format!("{zero_point}/gstvx~wide"), format!("{zero_point}/gstvx~moved"));
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
#[path = "quantised_tests.rs"]
mod tests;
