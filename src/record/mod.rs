// SPDX-License-Identifier: MIT OR Apache-2.0
//! The JSON lines that `vxjsonenc` and `vxbulkbin` write: one declaration for writing and for reading.
//!
//! A file's lines are a [`Header`] (on request), a [`Frame`] for each frame, and a [`Summary`]. A new field is declared here and set
//! where the line is written; readers get it by its type.
//!
//! Version 2 of the schema gave each field one type in all lines: the number of detections in a summary, `detections` in version 1,
//! is `detection_count`. Fields are only added within a version; readers ignore fields that they do not know.
//!
//! Plain data: knows no pipeline, no file and no element. Any thread.

#![forbid(unsafe_code)]

mod frame;
mod header;
mod summary;

pub use self::frame::{Detection, Frame, Mask};
pub use self::header::{Conditions, DetectorInfo, Header, HeaderLine, ModelId};
pub use self::summary::{Failure, Seconds, Status, Summary, modified_ns};

/// Version of the schema, in each line's `schema`.
pub const SCHEMA: u32 = 2;

/// Returns `value` as a line of JSON with its line feed; empty if it cannot be serialised, which none of the types here is.
fn to_line(value: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}
