// SPDX-License-Identifier: MIT OR Apache-2.0
//! Container-specific knowledge: where a file's keyframes are, and whether the file is complete.
//!
//! Reads bytes through [`Input`](crate::av::input::Input) and positions its demuxer; decodes nothing. A container gets a file of
//! its own here and a line in [`jump`]'s table of strategies or in [`completeness`].

pub mod completeness;
pub mod index;
pub mod jump;
mod matroska;
mod mp4;
mod plausibility;
mod unflagged;
