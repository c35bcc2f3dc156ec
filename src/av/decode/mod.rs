// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decoding: a single decoder, several in parallel, and decoders on a device.

pub mod decoder;
pub mod hardware;
pub mod options;
pub mod parallel;
