//! What to read of a file, and how.

use crate::av::decode::hardware::Hardware;
use crate::av::decode::parallel::ThreadOptions;
use crate::av::frame::pool::FramePool;
use crate::av::log::LogSink;

/// Most pixels of a picture, unless said otherwise: twice 8192x8192.
pub const DEFAULT_MAX_PIXELS: u64 = 2 * 8192 * 8192;

/// Options of a [`KeyframeReader`](super::KeyframeReader).
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that decode.
    pub threads: ThreadOptions,
    /// Which of the container's streams to decode; `None` for the one that players show.
    pub stream_index: Option<u32>,
    /// Keyframes that follow a frame given out by less than this many nanoseconds are left out, undecoded.
    pub min_interval_ns: u64,
    /// Where keyframes are further apart than this many nanoseconds, frames between them are given out too, so that
    /// nothing longer goes unseen; 0 for keyframes alone.
    pub max_gap_ns: u64,
    /// Frames to give out; 0 for all.
    pub max_frames: u64,
    /// Pictures with more pixels are refused before memory is taken for them.
    pub max_pixels: u64,
    /// What decodes.
    pub hardware: Hardware,
    /// Where pictures get their memory.
    pub pool: FramePool,
    /// Receives FFmpeg's warnings about the file, where [`capture_log`](super::capture_log) is in force.
    pub log: LogSink,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: ThreadOptions::default(),
            stream_index: None,
            min_interval_ns: 0,
            max_gap_ns: 0,
            max_frames: 0,
            max_pixels: DEFAULT_MAX_PIXELS,
            hardware: Hardware::None,
            pool: FramePool::default(),
            log: LogSink::default(),
        }
    }
}
