// SPDX-License-Identifier: MIT OR Apache-2.0
//! ONNX files: reading, declarations, and rewriting for ONNX Runtime.
//!
//! Knows neither ONNX Runtime nor detector families. Files are untrusted: sizes, names and loops have limits.

pub mod declaration;
pub mod file;
pub mod input;
pub mod modelinfo;
mod protobuf;
pub mod python_literal;
pub mod quantised;
pub mod resize;
pub mod tensor;
mod weights;
