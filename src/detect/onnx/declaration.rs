// SPDX-License-Identifier: MIT OR Apache-2.0
//! The declaration of a model: inputs, outputs and metadata.
//!
//! Plain data.

use std::collections::HashMap;

use super::tensor::TensorInfo;

/// The declaration of a model, as ONNX Runtime reports it.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Declaration {
    pub inputs: Vec<TensorInfo>,
    pub outputs: Vec<TensorInfo>,
    /// Custom metadata, by key.
    pub metadata: HashMap<String, String>,
}

/// The metadata keys that are read.
pub(crate) const METADATA_KEYS: [&str; 12] = [
    "confidence",
    "names",
    "task",
    "imgsz",
    "end2end",
    "author",
    "kpt_shape",
    "args",
    "nms",
    "head",
    "channels",
    "stride",
];
