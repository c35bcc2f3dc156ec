//! What is specific to a container: where its keyframes are, and whether a file is complete.
//!
//! Reads bytes through [`Input`](crate::av::input::Input) and moves its demuxer; decodes nothing.

pub mod ending;
pub mod index;
pub mod length;
mod matroska;
mod unmarked;
