// SPDX-License-Identifier: MIT OR Apache-2.0
//! Models: their inputs, output layouts and class names, determined from their declaration and a trial run.

pub mod description;
pub mod hints;
pub mod identification;
pub(super) mod label_file;
pub mod labels;
