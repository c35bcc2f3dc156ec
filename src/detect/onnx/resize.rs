// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rewrites a model that was exported for one input size for another size.
//!
//! Convolutional detectors work at any input size that is a multiple of their stride, but an export of a fixed size stores facts
//! about that size as constants: the declared input and output shapes, targets of `Reshape` and similar operators, and
//! coordinates of grid cells. [`resized`] recognises each of them, computes it for the new size, and compares the same computation
//! for the old size with what is stored. A constant that has the shape of a grid but other values (learned positions, for example)
//! makes the model unsuitable.
//!
//! The rules for integers, with `h` and `w` rows and columns of cells at some stride:
//!
//! - two successive values `h, w` become those of the new size;
//! - where no value is -1, which ONNX infers, a multiple of the number of cells at the deepest stride is scaled with that number:
//!   cells of one level, of all levels, and of several anchors are such multiples.
//!
//! A wrong guess does not go unnoticed: the number of elements then differs, and ONNX Runtime refuses the model. Callers run the
//! rewritten model before they use it.
//!
//! Only what has to change is decoded (field numbers: onnx.proto); every other byte is copied. Pure functions; time and memory
//! grow with the length of the file and not faster.

use std::collections::{HashMap, HashSet};

use half::f16;
use prost::Message;

use super::protobuf::{Field, GRAPH_INITIALIZER, MODEL_GRAPH, fields, put_bytes};

/// Width and height in pixels.
type Size = (usize, usize);

/// Fields of `GraphProto`, `NodeProto`, `AttributeProto` and `ValueInfoProto`.
const GRAPH_NODE: u32 = 1;
const GRAPH_INPUT: u32 = 11;
const GRAPH_OUTPUT: u32 = 12;
const GRAPH_VALUE_INFO: u32 = 13;
const NODE_INPUT: u32 = 1;
const NODE_OUTPUT: u32 = 2;
const NODE_OP_TYPE: u32 = 4;
const NODE_ATTRIBUTE: u32 = 5;
const ATTRIBUTE_TENSOR: u32 = 5;
const ATTRIBUTE_GRAPH: u32 = 6;
const ATTRIBUTE_GRAPHS: u32 = 11;

/// `TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT32: i32 = 6;
const INT64: i32 = 7;
const FLOAT16: i32 = 10;
const DOUBLE: i32 = 11;

/// Strides at which a grid of cells may be stored.
const STRIDES: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];
/// Strides of detection heads, whose cells may be listed.
const HEAD_STRIDES: [usize; 4] = [32, 16, 8, 4];
/// Sets of strides whose cells are listed one level after the other.
const LEVELS: [&[usize]; 4] = [&[8, 16, 32], &[8, 16, 32, 64], &[4, 8, 16, 32], &[16, 32]];
/// Most anchors for each cell.
const MAX_ANCHORS: usize = 3;
/// Largest model that is rewritten: there are then up to three copies of it for a moment.
const MAX_LENGTH: usize = 512 << 20;
/// Most values of a constant that is examined.
const MAX_VALUES: usize = 1 << 22;

/// Returns the ONNX file `model`, exported for inputs of size `from`, for inputs of size `to`.
///
/// # Errors
/// The reason, as the end of a sentence about the model, where it cannot be rewritten.
pub(crate) fn resized(model: &[u8], from: Size, to: Size) -> Result<Vec<u8>, String> {
    const MALFORMED: &str = "it is not an ONNX file of the usual form";
    if model.len() > MAX_LENGTH {
        return Err(format!("it is larger than {} MiB", MAX_LENGTH >> 20));
    }
    let parts = fields(model).ok_or(MALFORMED)?;
    let mut made = Vec::with_capacity(model.len());
    let mut graphs = 0;
    for part in &parts {
        if part.number == MODEL_GRAPH {
            graphs += 1;
            let graph = Graph::parse(part.payload).ok_or(MALFORMED)?;
            put_bytes(MODEL_GRAPH, &graph.resized(Change { from, to })?, &mut made);
        } else {
            made.extend_from_slice(part.whole);
        }
    }
    if graphs == 1 { Ok(made) } else { Err(MALFORMED.to_owned()) }
}

/// The input size that a model was exported for, and the one that it is rewritten for.
#[derive(Debug, Clone, Copy)]
struct Change {
    from: Size,
    to: Size,
}

/// Rows and columns of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grid {
    rows: usize,
    columns: usize,
}

impl Grid {
    fn new((width, height): Size, stride: usize) -> Self {
        Self { rows: height.div_ceil(stride), columns: width.div_ceil(stride) }
    }

    fn cells(self) -> usize {
        self.rows * self.columns
    }
}

impl Change {
    /// Returns the grids at `stride`, before and after.
    fn grids(self, stride: usize) -> (Grid, Grid) {
        (Grid::new(self.from, stride), Grid::new(self.to, stride))
    }

    /// Returns the grid that `rows` and `columns` are the lengths of.
    fn grid_of(self, rows: i64, columns: i64) -> Option<Grid> {
        let is_grid = |grid: Grid| (grid.rows as i64, grid.columns as i64) == (rows, columns);
        STRIDES.iter().map(|&stride| self.grids(stride)).find(|(old, _)| is_grid(*old)).map(|(_, new)| new)
    }

    /// Returns the new number of cells for an old one: of one level or several, of one anchor or several.
    fn cells_of(self, cells: i64) -> Option<i64> {
        let cells = usize::try_from(cells).ok().filter(|&cells| cells > 0)?;
        let sum =
            |levels: &[usize], size: Size| levels.iter().map(|&stride| Grid::new(size, stride).cells()).sum::<usize>();
        let single = HEAD_STRIDES.iter().map(std::slice::from_ref);
        for levels in LEVELS.into_iter().chain(single) {
            let old = sum(levels, self.from);
            if cells % old == 0 && cells / old <= MAX_ANCHORS {
                return i64::try_from(cells / old * sum(levels, self.to)).ok();
            }
        }
        None
    }

    /// Returns the new lengths for those of a shape; `None` where none of them depends on the input size.
    fn shape(self, lengths: &[i64]) -> Option<Vec<i64>> {
        let mut new = lengths.to_vec();
        let pair = (1..lengths.len()).rev().find_map(|index| {
            let grid = self.grid_of(lengths[index - 1], lengths[index]).filter(|_| lengths[index] > 1)?;
            Some((index, grid))
        });
        match pair {
            Some((index, grid)) => (new[index - 1], new[index]) = (grid.rows as i64, grid.columns as i64),
            None if lengths.contains(&-1) => return None,
            None => {
                for length in &mut new {
                    *length = self.cells_of(*length).unwrap_or(*length);
                }
            }
        }
        (new != lengths).then_some(new)
    }
}

/// How an operator uses a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Use {
    /// As lengths of a tensor.
    Shape,
    /// As lengths of the parts of a tensor.
    Parts,
    /// As positions along one axis.
    Positions,
    /// As weights, whose shape does not depend on the input size.
    Weights,
    /// As values that are combined with those of a picture.
    Values,
}

/// Returns how the operator uses the input in this place.
fn use_of(op_type: &str, slot: usize) -> Use {
    match (op_type, slot) {
        ("Reshape" | "Expand", 1) | ("ConstantOfShape", 0) | ("Resize", 3) => Use::Shape,
        ("Split", 1) => Use::Parts,
        ("Slice", 1 | 2) => Use::Positions,
        ("Add" | "Sub" | "Mul" | "Div" | "Pow" | "Concat" | "Expand" | "Gather" | "GatherElements" | "Where", _) => {
            Use::Values
        }
        _ => Use::Weights,
    }
}

/// `TensorProto` with its values in the file.
#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    data_type: Option<i32>,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, optional, tag = "8")]
    name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "9")]
    raw_data: Option<Vec<u8>>,
    #[prost(double, repeated, tag = "10")]
    double_data: Vec<f64>,
    #[prost(string, optional, tag = "12")]
    doc_string: Option<String>,
    /// 0: in this message.
    #[prost(int32, optional, tag = "14")]
    data_location: Option<i32>,
}

/// The values of a tensor, in the order of its elements.
#[derive(Debug, Clone, PartialEq)]
enum Values {
    Float(Vec<f32>),
    Half(Vec<f16>),
    Double(Vec<f64>),
    Int(Vec<i64>),
}

impl Tensor {
    fn count(&self) -> Option<usize> {
        self.dims.iter().try_fold(1usize, |count, &length| count.checked_mul(usize::try_from(length).ok()?))
    }

    /// Returns the values; `None` for other types, and where their number is not that of the shape.
    fn values(&self) -> Option<Values> {
        if self.data_location.unwrap_or(0) != 0 {
            return None;
        }
        let raw = self.raw_data.as_deref();
        let values = match self.data_type? {
            FLOAT => Values::Float(match raw {
                Some(raw) => raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
                None => self.float_data.clone(),
            }),
            FLOAT16 => Values::Half(match raw {
                Some(raw) => raw.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect(),
                None => self.int32_data.iter().map(|&bits| f16::from_bits(bits as u16)).collect(),
            }),
            DOUBLE => Values::Double(match raw {
                Some(raw) => raw.chunks_exact(8).map(|b| b.try_into().map_or(0.0, f64::from_le_bytes)).collect(),
                None => self.double_data.clone(),
            }),
            INT64 => Values::Int(match raw {
                Some(raw) => raw.chunks_exact(8).map(|b| b.try_into().map_or(0, i64::from_le_bytes)).collect(),
                None => self.int64_data.clone(),
            }),
            INT32 => Values::Int(match raw {
                Some(raw) => raw.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect(),
                None => self.int32_data.iter().map(|&value| value.into()).collect(),
            }),
            _ => return None,
        };
        (values.len() == self.count()?).then_some(values)
    }

    /// Returns this tensor with other lengths and values.
    fn with(&self, dims: Vec<i64>, values: &Values) -> Self {
        let raw = match values {
            Values::Float(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Half(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Double(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Int(values) if self.data_type == Some(INT32) => {
                values.iter().flat_map(|&value| (value as i32).to_le_bytes()).collect()
            }
            Values::Int(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        Self {
            dims,
            float_data: Vec::new(),
            int32_data: Vec::new(),
            int64_data: Vec::new(),
            double_data: Vec::new(),
            raw_data: Some(raw),
            ..self.clone()
        }
    }
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Half(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Int(values) => values.len(),
        }
    }

    fn get(&self, index: usize) -> f64 {
        match self {
            Self::Float(values) => values[index].into(),
            Self::Half(values) => values[index].into(),
            Self::Double(values) => values[index],
            Self::Int(values) => values[index] as f64,
        }
    }

    /// Returns values of the same type, rounded to it.
    fn rounded(&self, values: impl Iterator<Item = f64>) -> Self {
        match self {
            Self::Float(_) => Self::Float(values.map(|value| value as f32).collect()),
            Self::Half(_) => Self::Half(values.map(f16::from_f64).collect()),
            Self::Double(_) => Self::Double(values.collect()),
            Self::Int(_) => Self::Int(values.map(|value| value as i64).collect()),
        }
    }
}

/// Where the cells of a constant lie among its axes.
#[derive(Debug, Clone)]
struct Cells {
    /// The grids that follow each other along the axis, before and after.
    levels: Vec<(Grid, Grid)>,
    /// Elements before the axis (or the two axes) of cells.
    outer: usize,
    /// Elements behind it.
    inner: usize,
    dims: Vec<i64>,
}

impl Cells {
    /// Finds the axes of cells in the shape of a constant.
    fn find(dims: &[i64], change: Change) -> Option<Self> {
        let product = |lengths: &[i64]| lengths.iter().product::<i64>() as usize;
        let new = |index: usize, count: usize, lengths: &[i64]| {
            let mut dims = dims.to_vec();
            dims.splice(index..index + count, lengths.iter().copied());
            dims
        };
        // Rows and columns.
        for index in (1..dims.len()).rev() {
            for stride in STRIDES {
                let (old, grid) = change.grids(stride);
                if (old.rows as i64, old.columns as i64) == (dims[index - 1], dims[index]) && old.cells() > 1 {
                    return Some(Self {
                        levels: vec![(old, grid)],
                        outer: product(&dims[..index - 1]),
                        inner: product(&dims[index + 1..]),
                        dims: new(index - 1, 2, &[grid.rows as i64, grid.columns as i64]),
                    });
                }
            }
        }
        // Cells of all levels, or of one.
        let single = HEAD_STRIDES.iter().map(std::slice::from_ref);
        for levels in LEVELS.into_iter().chain(single) {
            let levels: Vec<_> = levels.iter().map(|&stride| change.grids(stride)).collect();
            let sum =
                |pick: fn(&(Grid, Grid)) -> Grid| levels.iter().map(|pair| pick(pair).cells()).sum::<usize>() as i64;
            let (old, cells) = (sum(|pair| pair.0), sum(|pair| pair.1));
            if let Some(index) = dims.iter().rposition(|&length| length == old && old > 1) {
                return Some(Self {
                    levels,
                    outer: product(&dims[..index]),
                    inner: product(&dims[index + 1..]),
                    dims: new(index, 1, &[cells]),
                });
            }
        }
        None
    }

    /// Finds the rows or columns of a grid in a constant that is expanded to one: right-aligned, as ONNX broadcasts.
    fn find_line(dims: &[i64], change: Change) -> Option<Self> {
        let (rows, columns) = match *dims {
            [columns] => (1, columns),
            [.., rows, columns] if rows == 1 || columns == 1 => (rows, columns),
            _ => return None,
        };
        let (old, new) = STRIDES.iter().map(|&stride| change.grids(stride)).find(|(old, _)| match (rows, columns) {
            (1, 1) => false,
            (1, columns) => old.columns as i64 == columns,
            (rows, _) => old.rows as i64 == rows,
        })?;
        let line = |grid: Grid| match rows {
            1 => Grid { rows: 1, ..grid },
            _ => Grid { columns: 1, ..grid },
        };
        let mut lengths = dims.to_vec();
        let last = lengths.len() - 1;
        match rows {
            1 => lengths[last] = new.columns as i64,
            _ => lengths[last - 1] = new.rows as i64,
        }
        let outer = dims[..dims.len().saturating_sub(2)].iter().product::<i64>() as usize;
        Some(Self { levels: vec![(line(old), line(new))], outer, inner: 1, dims: lengths })
    }

    /// Computes the constant for the new size, if each of its channels is, in each level, a linear function of row and column.
    fn values(&self, values: &Values) -> Option<Values> {
        let old_cells: usize = self.levels.iter().map(|(old, _)| old.cells()).sum();
        let new_cells: usize = self.levels.iter().map(|(_, new)| new.cells()).sum();
        let mut made = vec![0.0; self.outer * new_cells * self.inner];
        for outer in 0..self.outer {
            for inner in 0..self.inner {
                let (mut old_start, mut new_start) = (0, 0);
                for (old, new) in &self.levels {
                    let index = |cell: usize| (outer * old_cells + old_start + cell) * self.inner + inner;
                    let at = |row: usize, column: usize| values.get(index(row * old.columns + column));
                    let origin = at(0, 0);
                    let across = if old.columns > 1 { at(0, 1) - origin } else { 0.0 };
                    let down = if old.rows > 1 { at(1, 0) - origin } else { 0.0 };
                    let linear = |row: usize, column: usize| origin + across * column as f64 + down * row as f64;
                    let places = (0..old.rows).flat_map(|row| (0..old.columns).map(move |column| (row, column)));
                    let expected = values.rounded(places.map(|(row, column)| linear(row, column)));
                    if (0..old.cells()).any(|cell| expected.get(cell) != values.get(index(cell))) {
                        return None;
                    }
                    for row in 0..new.rows {
                        for column in 0..new.columns {
                            let cell = new_start + row * new.columns + column;
                            made[(outer * new_cells + cell) * self.inner + inner] = linear(row, column);
                        }
                    }
                    old_start += old.cells();
                    new_start += new.cells();
                }
            }
        }
        Some(values.rounded(made.into_iter()))
    }
}

/// A graph, its constants and how they are used.
struct Graph<'a> {
    parts: Vec<Field<'a>>,
    /// Uses of each value, by name.
    uses: HashMap<&'a [u8], HashSet<Use>>,
    /// Names of values that `Expand` repeats.
    expanded: HashSet<&'a [u8]>,
}

impl<'a> Graph<'a> {
    /// Reads the nodes of a graph; `None` for graphs within graphs, which see the names of this one.
    fn parse(graph: &'a [u8]) -> Option<Self> {
        let parts = fields(graph)?;
        let (mut uses, mut expanded) = (HashMap::<_, HashSet<Use>>::new(), HashSet::new());
        for part in parts.iter().filter(|part| part.number == GRAPH_NODE) {
            let node = fields(part.payload)?;
            let op_type = node.iter().find(|field| field.number == NODE_OP_TYPE)?.payload;
            let op_type = std::str::from_utf8(op_type).ok()?;
            let inputs = node.iter().filter(|field| field.number == NODE_INPUT);
            for (slot, input) in inputs.enumerate() {
                uses.entry(input.payload).or_default().insert(use_of(op_type, slot));
                if op_type == "Expand" && slot == 0 {
                    expanded.insert(input.payload);
                }
            }
            for attribute in node.iter().filter(|field| field.number == NODE_ATTRIBUTE) {
                if fields(attribute.payload)?
                    .iter()
                    .any(|field| [ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS].contains(&field.number))
                {
                    return None;
                }
            }
        }
        Some(Self { parts, uses, expanded })
    }

    fn resized(&self, change: Change) -> Result<Vec<u8>, String> {
        let mut made = Vec::new();
        for part in &self.parts {
            match part.number {
                // Shapes between the operators are inferred again.
                GRAPH_VALUE_INFO => {}
                GRAPH_INITIALIZER => match self.tensor(part.payload, name_of(part.payload), change)? {
                    Some(tensor) => put_bytes(GRAPH_INITIALIZER, &tensor.encode_to_vec(), &mut made),
                    None => made.extend_from_slice(part.whole),
                },
                GRAPH_NODE => match self.constant(part.payload, change)? {
                    Some(node) => put_bytes(GRAPH_NODE, &node, &mut made),
                    None => made.extend_from_slice(part.whole),
                },
                GRAPH_INPUT | GRAPH_OUTPUT => match declared(part, change) {
                    Some(value) => put_bytes(part.number, &value, &mut made),
                    None => made.extend_from_slice(part.whole),
                },
                _ => made.extend_from_slice(part.whole),
            }
        }
        Ok(made)
    }

    /// Returns the new tensor in place of the constant `bytes`; `None` where it does not depend on the input size.
    fn tensor(&self, bytes: &[u8], name: &[u8], change: Change) -> Result<Option<Tensor>, String> {
        let Some(uses) = self.uses.get(name) else { return Ok(None) };
        let is_shape = uses.iter().any(|found| matches!(found, Use::Shape | Use::Parts | Use::Positions));
        if !is_shape && !uses.contains(&Use::Values) {
            return Ok(None);
        }
        let Ok(tensor) = Tensor::decode(bytes) else { return Ok(None) };
        if tensor.count().is_none_or(|count| count > MAX_VALUES) {
            return Ok(None);
        }
        let unknown = || {
            let name = String::from_utf8_lossy(name);
            format!("its constant \"{name}\" depends on the input size in a way that is not known")
        };
        if is_shape {
            if uses.len() > 1 {
                // One constant with two meanings; it may still be independent of the input size.
                return match tensor.values() {
                    Some(Values::Int(values)) if change.shape(&values).is_some() => Err(unknown()),
                    _ => Ok(None),
                };
            }
            let Some(Values::Int(values)) = tensor.values() else { return Ok(None) };
            let new = match uses.iter().next() {
                Some(Use::Shape) => change.shape(&values),
                Some(Use::Parts) => {
                    let new: Option<Vec<i64>> = values.iter().map(|&value| change.cells_of(value)).collect();
                    new.filter(|new| *new != values)
                }
                _ => change.positions(&values),
            };
            return Ok(new.map(|new| tensor.with(tensor.dims.clone(), &Values::Int(new))));
        }
        let is_expanded = self.expanded.contains(name);
        let cells = Cells::find(&tensor.dims, change)
            .or_else(|| is_expanded.then(|| Cells::find_line(&tensor.dims, change)).flatten());
        let Some(cells) = cells else { return Ok(None) };
        let values = tensor.values().and_then(|values| cells.values(&values)).ok_or_else(unknown)?;
        Ok(Some(tensor.with(cells.dims.clone(), &values)))
    }

    /// Returns a new `Constant` node in place of the node `bytes`; `None` for other nodes, and where nothing changes.
    fn constant(&self, bytes: &[u8], change: Change) -> Result<Option<Vec<u8>>, String> {
        let Some(node) = fields(bytes) else { return Ok(None) };
        let find = |number: u32| node.iter().find(|field| field.number == number);
        if find(NODE_OP_TYPE).is_none_or(|op_type| op_type.payload != b"Constant") {
            return Ok(None);
        }
        let (Some(output), Some(attribute)) = (find(NODE_OUTPUT), find(NODE_ATTRIBUTE)) else { return Ok(None) };
        let Some(parts) = fields(attribute.payload) else { return Ok(None) };
        let Some(value) = parts.iter().find(|part| part.number == ATTRIBUTE_TENSOR) else { return Ok(None) };
        let Some(tensor) = self.tensor(value.payload, output.payload, change)? else { return Ok(None) };
        let mut made_attribute = Vec::new();
        for part in &parts {
            match part.number {
                ATTRIBUTE_TENSOR => put_bytes(ATTRIBUTE_TENSOR, &tensor.encode_to_vec(), &mut made_attribute),
                _ => made_attribute.extend_from_slice(part.whole),
            }
        }
        let mut made = Vec::new();
        for field in &node {
            match field.number {
                NODE_ATTRIBUTE => put_bytes(NODE_ATTRIBUTE, &made_attribute, &mut made),
                _ => made.extend_from_slice(field.whole),
            }
        }
        Ok(Some(made))
    }
}

impl Change {
    /// Returns the new positions for those where one level ends and the next begins.
    fn positions(self, values: &[i64]) -> Option<Vec<i64>> {
        let move_one = |value: i64| {
            LEVELS.iter().find_map(|levels| {
                let (mut old, mut new) = (0, 0);
                levels.iter().find_map(|&stride| {
                    let (before, after) = self.grids(stride);
                    (old, new) = (old + before.cells() as i64, new + after.cells() as i64);
                    (old == value).then_some(new)
                })
            })
        };
        let new: Vec<i64> = values.iter().map(|&value| move_one(value).unwrap_or(value)).collect();
        (new != values).then_some(new)
    }
}

fn name_of(tensor: &[u8]) -> &[u8] {
    const TENSOR_NAME: u32 = 8;
    let fields = fields(tensor).unwrap_or_default();
    fields.iter().find(|field| field.number == TENSOR_NAME).map_or(&[], |field| field.payload)
}

/// `ValueInfoProto` of a tensor.
#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, optional, tag = "1")]
    element: Option<i32>,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dims: Vec<Length>,
}

#[derive(Clone, PartialEq, Message)]
struct Length {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
}

/// Returns the declaration of an input or output with the new shape; `None` where it stays as it is.
///
/// Numbers of cells in an output become unknown, and ONNX Runtime infers them: a number of boxes may look the same.
fn declared(part: &Field<'_>, change: Change) -> Option<Vec<u8>> {
    let mut value = ValueInfo::decode(part.payload).ok()?;
    let dims = &mut value.kind.as_mut()?.tensor.as_mut()?.shape.as_mut()?.dims;
    let lengths: Vec<i64> = dims.iter().map(|length| length.value.unwrap_or(-1)).collect();
    let pair = |index: usize| change.grid_of(lengths[index - 1], lengths[index]).filter(|_| lengths[index] > 1);
    if let Some((index, grid)) = (1..lengths.len()).rev().find_map(|index| Some((index, pair(index)?))) {
        (dims[index - 1].value, dims[index].value) = (Some(grid.rows as i64), Some(grid.columns as i64));
    } else {
        for length in
            dims.iter_mut().filter(|length| length.value.is_some_and(|value| change.cells_of(value).is_some()))
        {
            *length = Length::default();
        }
    }
    Some(value.encode_to_vec())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(name: &str, (width, height): Size) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/sizes");
        std::fs::read(folder.join(format!("{name}_{width}x{height}.onnx"))).unwrap()
    }

    /// Constants by name, with their shapes.
    type Constants = HashMap<Vec<u8>, (Vec<i64>, Option<Values>)>;

    /// Returns the constants of a model, and the shapes of its inputs.
    fn facts(model: &[u8]) -> (Constants, Vec<Vec<Option<i64>>>) {
        let (mut constants, mut inputs) = (HashMap::new(), Vec::new());
        let mut add = |name: &[u8], tensor: &[u8]| {
            let tensor = Tensor::decode(tensor).unwrap();
            constants.insert(name.to_owned(), (tensor.dims.clone(), tensor.values()));
        };
        let parts = fields(model).unwrap();
        let graph = parts.iter().find(|part| part.number == MODEL_GRAPH).unwrap();
        for part in fields(graph.payload).unwrap() {
            let of = |fields: &[Field<'_>], number: u32| fields.iter().position(|field| field.number == number);
            match part.number {
                GRAPH_INITIALIZER => add(name_of(part.payload), part.payload),
                GRAPH_INPUT => {
                    let value = ValueInfo::decode(part.payload).unwrap();
                    let shape = value.kind.unwrap().tensor.unwrap().shape.unwrap();
                    inputs.push(shape.dims.iter().map(|length| length.value).collect());
                }
                GRAPH_NODE => {
                    let node = fields(part.payload).unwrap();
                    if node[of(&node, NODE_OP_TYPE).unwrap()].payload == b"Constant" {
                        let attribute = fields(node[of(&node, NODE_ATTRIBUTE).unwrap()].payload).unwrap();
                        let tensor = attribute[of(&attribute, ATTRIBUTE_TENSOR).unwrap()].payload;
                        add(node[of(&node, NODE_OUTPUT).unwrap()].payload, tensor);
                    }
                }
                _ => {}
            }
        }
        (constants, inputs)
    }

    #[test]
    fn a_rewritten_model_is_the_one_exported_for_that_size() {
        let square = (160, 160);
        for name in ["v8", "v5", "v5_half", "v6", "yolox", "raw"] {
            for to in [(160, 96), (96, 160)] {
                let made = resized(&read(name, square), square, to).unwrap();
                let (made, exported) = (facts(&made), facts(&read(name, to)));
                assert_eq!(made.1, exported.1, "{name} {to:?}");
                assert_eq!(made.0.len(), exported.0.len(), "{name} {to:?}");
                for (constant, expected) in &exported.0 {
                    let name_of = String::from_utf8_lossy(constant);
                    assert_eq!(made.0.get(constant), Some(expected), "{name} {to:?} {name_of}");
                }
            }
        }
    }

    #[test]
    fn a_constant_that_is_not_understood_is_named() {
        let square = (160, 160);
        let reason = resized(&read("learned", square), square, (160, 96)).unwrap_err();
        assert!(reason.contains("constant_") && reason.contains("depends on the input size"), "{reason}");
    }

    #[test]
    fn a_constant_that_looks_like_cells_by_chance_is_refused() {
        // 25 classes, and 25 cells at stride 32.
        let square = (160, 160);
        let reason = resized(&read("coincidence", square), square, (160, 96)).unwrap_err();
        assert!(reason.contains("depends on the input size in a way that is not known"), "{reason}");
        // Lengths with -1 are left to ONNX, whatever numbers stand beside it.
        let change = Change { from: square, to: (160, 96) };
        assert_eq!(change.shape(&[1, 25, -1]), None);
        assert_eq!(change.shape(&[1, 80, 400]), Some(vec![1, 80, 240]));
    }

    #[test]
    fn damaged_models_are_refused_or_rewritten() {
        let model = read("v8", (160, 160));
        for cut in (0..model.len()).step_by(97) {
            let _ = resized(&model[..cut], (160, 160), (160, 96));
            let mut damaged = model.clone();
            damaged[cut] ^= 0x55;
            let _ = resized(&damaged, (160, 160), (160, 96));
        }
        assert!(resized(b"", (160, 160), (160, 96)).is_err());
    }

    #[test]
    fn a_long_model_is_not_rewritten() {
        // Never read: the memory of zeros is not touched.
        let reason = resized(&vec![0; MAX_LENGTH + 1], (160, 160), (160, 96)).unwrap_err();
        assert!(reason.contains("larger than 512 MiB"), "{reason}");
    }

    #[test]
    fn a_constant_of_many_values_is_not_examined() {
        // Channels for 8400 cells, which become 2100.
        let made = |channels: usize| {
            let (name, dims) = ("c".to_owned(), vec![channels as i64, 8400]);
            let raw_data = Some(vec![0; channels * 8400 * 2]);
            let tensor = Tensor { name: Some(name), dims, data_type: Some(FLOAT16), raw_data, ..Tensor::default() };
            let mut node = Vec::new();
            put_bytes(NODE_INPUT, b"c", &mut node);
            put_bytes(NODE_OP_TYPE, b"Add", &mut node);
            let (mut graph, mut model) = (Vec::new(), Vec::new());
            put_bytes(GRAPH_NODE, &node, &mut graph);
            put_bytes(GRAPH_INITIALIZER, &tensor.encode_to_vec(), &mut graph);
            put_bytes(MODEL_GRAPH, &graph, &mut model);
            let model = resized(&model, (640, 640), (320, 320)).unwrap();
            let model = fields(&model).unwrap();
            let graph = fields(model[0].payload).unwrap();
            let tensor = graph.iter().find(|part| part.number == GRAPH_INITIALIZER).unwrap();
            Tensor::decode(tensor.payload).unwrap().dims
        };
        let most = MAX_VALUES / 8400;
        assert_eq!(made(most), [most as i64, 2100]);
        assert_eq!(made(most + 1), [most as i64 + 1, 8400]);
    }
}
