// SPDX-License-Identifier: MIT OR Apache-2.0
//! Building blocks that detector families share: box formats, grids of cells, output readers.

pub(crate) mod boxes;
pub(crate) mod face;
pub(crate) mod grids;
pub(crate) mod reader;
pub(crate) mod rows;
pub(crate) mod separate_outputs;
