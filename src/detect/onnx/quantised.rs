// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rewrites dynamically quantised models so that ONNX Runtime's CPU provider computes the same results faster.
//!
//! ONNX Runtime runs `ConvInteger` as a matrix product with the weights on the left. On most x86-64 processors it has fast kernels
//! for unsigned left-hand sides only: signed weights, the default of `quantize_dynamic`, run through a plain C++ loop that is about
//! ten times slower (before 1.24 they were rejected). Since 1.25 (pull request 27671) a signed right-hand side, the activations, is
//! with VNNI instructions twice as fast as the unsigned one that `DynamicQuantizeLinear` returns. Both can be used without changing
//! the result: the operator multiplies values minus zero points, so values and zero point can be shifted by 128 together.
//! [`for_cpu`] does that:
//!
//! - signed weights and their zero points become unsigned;
//! - with [`KernelPreference::SignedActivations`], scale and zero point of `DynamicQuantizeLinear` go to an additional
//!   `QuantizeLinear` that rounds the same values to signed bytes. One clamps to 0..=255 and the other to -128..=127, so the sums
//!   are equal to the last bit.
//!
//! Only what changes is decoded (`ModelProto`, `GraphProto`, `NodeProto`, `TensorProto` of onnx.proto); every other byte is copied.
//! Anything unexpected returns `None`, and the model runs unchanged. Pure functions; time and memory are linear in the length of
//! the file.

use std::collections::{HashMap, HashSet};

use prost::Message;

use super::protobuf::{Field, GRAPH_INITIALIZER, MAX_FIELDS, MODEL_GRAPH, fields, put, put_bytes};

/// Fields of `GraphProto`.
const GRAPH_NODE: u32 = 1;
const GRAPH_VALUES: [u32; 3] = [11, 12, 13];

/// `TensorProto.DataType`.
const UINT8: i32 = 2;
const INT8: i32 = 3;
const INT32: i32 = 6;

/// Largest file that is rewritten: up to three copies of it exist temporarily.
const MAX_LENGTH: usize = 256 << 20;
/// Weights that share zero points in longer chains than this are not changed.
const MAX_ROUNDS: usize = 8;

/// The types for which the CPU provider has its fastest kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KernelPreference {
    /// Unsigned weights.
    UnsignedWeights,
    /// Unsigned weights and signed activations: on processors with VNNI, from ONNX Runtime 1.25. Without VNNI the kernel adds in
    /// 16 bits and saturates.
    SignedActivations,
}

/// Difference of signed and unsigned bytes.
const HALF: i32 = 128;

/// `NodeProto`; attributes and metadata are not decoded.
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

/// `TensorProto` with values in the file.
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

    /// Whether it is this operator of the default ONNX domain.
    fn is(&self, op_type: &str) -> bool {
        self.op_type.as_deref() == Some(op_type) && matches!(self.domain.as_deref(), None | Some("" | "ai.onnx"))
    }

    /// Whether one of its attributes is a graph (`AttributeProto.g` and `.graphs`), which can use the names of this graph.
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
    /// Converts signed bytes to unsigned bytes by adding 128; `None` for other types.
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

fn node_in(field: &Field<'_>) -> Option<Node> {
    field.message(&[1, 2, 3, 4, 5, 6, 7, 8, 9])
}

fn tensor_in(field: &Field<'_>) -> Option<Tensor> {
    field.message(&[1, 2, 5, 8, 9, 12, 16])
}

/// Whether an ONNX file contains dynamically quantised convolutions. The name of the operator may occur for another reason; then
/// the model only runs on a slower provider.
pub(super) fn is_dynamic(model: &[u8]) -> bool {
    memchr::memmem::find(model, b"ConvInteger").is_some()
}

/// Rewrites the ONNX file `model` to compute the same results faster on an x86-64 processor; `None` if there is nothing to gain or
/// the model has an unexpected structure.
pub(crate) fn for_cpu(model: &[u8], preference: KernelPreference) -> Option<Vec<u8>> {
    // A model that contains our names has already been rewritten.
    if !is_dynamic(model) || model.len() > MAX_LENGTH || memchr::memmem::find(model, MARK.as_bytes()).is_some() {
        return None;
    }
    let parts = fields(model)?;
    let mut graphs = parts.iter().filter(|part| part.number == MODEL_GRAPH);
    let graph = graph_for_cpu(graphs.next()?.payload, preference)?;
    if graphs.next().is_some() {
        return None;
    }
    let mut rewritten = Vec::with_capacity(model.len() + graph.len() / 16 + 1024);
    for part in &parts {
        if part.number == MODEL_GRAPH {
            put_bytes(MODEL_GRAPH, &graph, &mut rewritten);
        } else {
            rewritten.extend_from_slice(part.whole);
        }
    }
    Some(rewritten)
}

fn graph_for_cpu(graph: &[u8], preference: KernelPreference) -> Option<Vec<u8>> {
    let parts = fields(graph)?;
    let of = |number: u32| parts.iter().filter(move |part| part.number == number);
    let (mut nodes, mut names) = (Vec::new(), 0);
    for part in of(GRAPH_NODE) {
        let node = node_in(part)?;
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
        let tensor = tensor_in(part)?.unsigned()?;
        Some((tensor.name.clone()?, (place, tensor)))
    });
    let mut unsigned: Unsigned = tensors.collect();
    keep_convertible(&mut unsigned, &nodes, &declared(&parts)?);

    let mut inserted = HashMap::<usize, Vec<Node>>::new();
    let mut constants = Vec::new();
    if preference == KernelPreference::SignedActivations && sign_activations(&mut nodes, &mut inserted) {
        constants.push(Tensor::scalar(HALF_NAME, INT32, HALF));
    }
    if constants.is_empty() && unsigned.is_empty() {
        return None;
    }
    for node in nodes.iter_mut().filter(|node| is_convertible(node, &unsigned) && node.input(3).is_none()) {
        // The default zero point is 0.
        node.input.resize(4, String::new());
        node.input[3] = ZERO_NAME.to_owned();
        if constants.iter().all(|constant| constant.name.as_deref() != Some(ZERO_NAME)) {
            constants.push(Tensor::scalar(ZERO_NAME, UINT8, HALF));
        }
    }

    let changed: HashMap<usize, &Tensor> = unsigned.values().map(|(place, tensor)| (*place, tensor)).collect();
    let mut rewritten = Vec::with_capacity(graph.len() + graph.len() / 16);
    let mut node_indices = 0..;
    for (place, part) in parts.iter().enumerate() {
        match part.number {
            GRAPH_NODE => {
                let index = node_indices.next()?;
                inserted.remove(&index).iter().flatten().for_each(|node| put(GRAPH_NODE, node, &mut rewritten));
                put(GRAPH_NODE, &nodes[index], &mut rewritten);
            }
            _ => match changed.get(&place) {
                Some(&tensor) => put(GRAPH_INITIALIZER, tensor, &mut rewritten),
                None => rewritten.extend_from_slice(part.whole),
            },
        }
    }
    constants.iter().for_each(|constant| put(GRAPH_INITIALIZER, constant, &mut rewritten));
    Some(rewritten)
}

/// Tensors converted to unsigned bytes by name, with their index among the fields of the graph.
type Unsigned = HashMap<String, (usize, Tensor)>;

/// Part of every name that is added.
const MARK: &str = "gstvx~";
const HALF_NAME: &str = "gstvx~128";
const ZERO_NAME: &str = "gstvx~zero_point";
const SIGNED: &str = "/gstvx~signed";

/// Returns the names whose types the graph declares.
fn declared(parts: &[Field<'_>]) -> Option<HashSet<String>> {
    let values = parts.iter().filter(|part| GRAPH_VALUES.contains(&part.number));
    values.map(|value| Some(ValueName::decode(value.payload).ok()?.name)).collect()
}

/// Whether the weights of the node, and its zero point if there is one, are in `unsigned`.
fn is_convertible(node: &Node, unsigned: &Unsigned) -> bool {
    node.is("ConvInteger")
        && node.input(1).is_some_and(|name| unsigned.contains_key(name))
        && node.input(3).is_none_or(|name| unsigned.contains_key(name))
}

/// Keeps those tensors of `unsigned` that are used only as weights or zero point of a `ConvInteger` whose weights and zero point
/// can both be converted.
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
        // A removed tensor may have been the weights or zero point of another node.
        if unsigned.len() == before {
            return;
        }
    }
    unsigned.clear();
}

/// Changes the input of each `ConvInteger` that reads a `DynamicQuantizeLinear` to signed bytes. `inserted` receives the nodes to
/// be inserted before the node with that index. Returns whether there was any.
fn sign_activations(nodes: &mut [Node], inserted: &mut HashMap<usize, Vec<Node>>) -> bool {
    let quantizers = nodes.iter().filter(|node| node.is("DynamicQuantizeLinear") && node.output.len() == 3);
    let quantizers: HashMap<String, Node> = quantizers.map(|node| (node.output[0].clone(), node.clone())).collect();
    let mut is_signed = HashSet::new();
    for (index, node) in nodes.iter_mut().enumerate().filter(|(_, node)| node.is("ConvInteger")) {
        let (Some(activations), Some(zero_point)) = (node.input(0), node.input(2)) else { continue };
        let Some(quantizer) = quantizers.get(activations) else { continue };
        let ([values], [_, scale, measured]) = (&quantizer.input[..], &quantizer.output[..]) else { continue };
        if measured != zero_point || scale.is_empty() {
            continue;
        }
        let (signed, signed_zero) = (format!("{activations}{SIGNED}"), format!("{zero_point}{SIGNED}"));
        if is_signed.insert(activations.to_owned()) {
            let (wide, shifted) = (format!("{zero_point}/gstvx~wide"), format!("{zero_point}/gstvx~shifted"));
            inserted.entry(index).or_default().extend([
                Node::cast(zero_point, &wide, INT32),
                Node::new("Sub", &[&wide, HALF_NAME], &shifted),
                Node::cast(&shifted, &signed_zero, INT8),
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
