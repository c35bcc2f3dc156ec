//! ONNX Runtime: the library, execution providers, sessions. The only room that names `ort`.
//!
//! Knows no detector families. None of `ort`'s types appear in the signatures that other rooms use.

pub mod accelerator;
pub mod binding;
pub mod cancel;
pub mod library;
pub mod processor;
pub mod provider;
pub mod session;
pub mod shutdown;
