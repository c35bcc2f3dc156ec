// SPDX-License-Identifier: MIT OR Apache-2.0
//! ONNX Runtime: the library, execution providers, sessions. The only module that uses `ort`.
//!
//! Knows no detector families. No type of `ort` appears in the signatures that other modules use.

pub mod accelerator;
pub mod binding;
pub mod cancel;
pub mod library;
pub mod processor;
pub mod provider;
pub mod session;
pub mod shutdown;
