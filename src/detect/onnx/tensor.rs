// SPDX-License-Identifier: MIT OR Apache-2.0
//! Inputs and outputs of a model: declared names, types and shapes, and views of a run's values.
//!
//! Plain data.

use std::fmt;

/// Type of a tensor's elements.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 64-bit float; outputs only.
    F64,
    /// Unsigned byte.
    U8,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// Any other type, by ONNX Runtime's name.
    Other(String),
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::F64 => "f64",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Other(name) => name,
        })
    }
}

/// One dimension of a tensor's shape.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Dimension {
    /// A fixed length.
    Fixed(usize),
    /// A length that is known at run time only; its name in the model, or an empty text.
    Dynamic(String),
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => write!(f, "{length}"),
            Self::Dynamic(name) if name.is_empty() => f.write_str("?"),
            Self::Dynamic(name) => f.write_str(name),
        }
    }
}

/// An input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TensorInfo {
    /// Name in the graph.
    pub name: String,
    /// Type of its elements.
    pub element: ElementType,
    /// Its declared shape; empty if it is not a tensor or has no declared rank.
    pub shape: Vec<Dimension>,
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape: Vec<_> = self.shape.iter().map(ToString::to_string).collect();
        write!(f, "{} {} [{}]", self.name, self.element, shape.join(", "))
    }
}

/// One output of a run, for all images.
#[derive(Debug, Clone, Copy)]
pub struct OutputView<'a> {
    /// The tensor's shape.
    pub shape: &'a [usize],
    /// The values, as many as the shape says.
    pub values: &'a [f32],
}

impl<'a> OutputView<'a> {
    /// Returns the part of image `index` of `images`, without the batch dimension; the whole view if it has none.
    pub(crate) fn image(self, index: usize, images: usize, rank: usize) -> Self {
        if self.shape.len() <= rank {
            return self;
        }
        let length = self.values.len() / images.max(1);
        Self { shape: &self.shape[1..], values: &self.values[index * length..][..length] }
    }

    /// Returns the rows along the last dimension.
    pub(crate) fn rows(self) -> std::slice::ChunksExact<'a, f32> {
        self.values.chunks_exact(self.shape.last().copied().unwrap_or(1).max(1))
    }
}
