// SPDX-License-Identifier: MIT OR Apache-2.0
//! Converts a picture in memory to the values of a model's input: pixel formats, colour, scaling, letterbox.
//!
//! The lowest part of the layer: knows neither models nor ONNX Runtime.

mod area_average;
mod bilinear;
mod colour;
pub mod input_format;
pub mod letterbox;
mod opencv;
pub mod picture;
pub mod pixel_format;
pub mod preparer;
#[cfg(test)]
mod preparer_tests;
