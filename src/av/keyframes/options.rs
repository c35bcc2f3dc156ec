// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of a reader: which frames to output, and how to decode them.

use crate::av::decode::options::DecoderOptions;
use crate::av::frame::pool::FramePool;
use crate::av::log::LogSink;

/// Options of a [`KeyframeReader`](super::KeyframeReader).
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How the video is decoded.
    pub decoder: DecoderOptions,
    /// Index of the container's stream to decode; `None` for the one that players show.
    pub stream_index: Option<u32>,
    /// Keyframes that follow the previous output frame by less than this many nanoseconds are skipped, undecoded.
    pub min_interval_ns: u64,
    /// Where keyframes are further apart than this many nanoseconds, frames between them are output too, so that no longer
    /// stretch is unseen; 0 for keyframes only.
    pub max_gap_ns: u64,
    /// Most frames to output; 0 for all.
    pub max_frames: u64,
    /// Picture memory.
    pub pool: FramePool,
    /// Receives FFmpeg's warnings about the file, where [`capture_log`](crate::av::capture_log) was called.
    pub log: LogSink,
}
