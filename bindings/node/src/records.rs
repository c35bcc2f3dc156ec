// SPDX-License-Identifier: MIT OR Apache-2.0
//! The records of a run as JavaScript gets them: as the command's line, with what a number of JavaScript cannot hold beside it.

use gstvx::record::Frame;
use gstvx::run::FileDone;
use napi::bindgen_prelude::BigInt;
use napi_derive::napi;

/// A frame, or the summary of a file.
#[napi(object, object_from_js = false)]
pub struct Record {
    /// The line of `vx detect`, without its line feed.
    pub line: String,
    /// Presentation time of a frame in nanoseconds.
    pub pts_ns: Option<BigInt>,
    /// Whether it is the summary of a file.
    pub is_file: bool,
    /// Whether the result of a file was in the cache.
    pub is_cached: bool,
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}

impl From<Frame> for Record {
    fn from(frame: Frame) -> Self {
        Self { line: text(&frame.to_line()), pts_ns: frame.pts_ns.map(BigInt::from), is_file: false, is_cached: false }
    }
}

impl From<FileDone> for Record {
    fn from(done: FileDone) -> Self {
        Self { line: text(&done.summary.to_line()), pts_ns: None, is_file: true, is_cached: done.is_cached }
    }
}
