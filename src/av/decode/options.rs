// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the video of a file is decoded.

/// Most pixels of a picture by default: twice 8192x8192.
pub const DEFAULT_MAX_PIXELS: u64 = 2 * 8192 * 8192;

/// Options of the decoders of a file.
#[derive(Debug, Clone)]
pub struct DecoderOptions {
    /// Decoder threads.
    pub threads: ThreadOptions,
    /// The processor or a device.
    pub hardware: Hardware,
    /// Pictures with more pixels are refused before memory is allocated for them.
    pub max_pixels: u64,
    /// Skips the in-loop deblocking filter, which is faster. Pixels then differ slightly from those of a complete decode.
    pub skip_loop_filter: bool,
}

impl Default for DecoderOptions {
    fn default() -> Self {
        Self {
            threads: ThreadOptions::default(),
            hardware: Hardware::None,
            max_pixels: DEFAULT_MAX_PIXELS,
            skip_loop_filter: false,
        }
    }
}

/// Threads that decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ThreadOptions {
    /// Number of threads; 0 counts as 1.
    pub count: u32,
    /// How they share the work.
    pub kind: ThreadType,
}

/// What the decoder threads of a file share among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThreadType {
    /// Nothing: one keyframe after the other, on one thread.
    None,
    /// Several keyframes at once: highest throughput.
    #[default]
    Frame,
    /// Several slices of one keyframe at once, where the encoder made slices: lowest latency.
    Slice,
}

/// What decodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Hardware {
    /// The processor.
    #[default]
    None,
    /// A device if there is one for the file's codec, else the processor.
    Auto,
    /// This kind of device and nothing else.
    Named {
        /// FFmpeg's name of the kind, for example "cuda" or "vaapi".
        kind: String,
        /// Which of several, as FFmpeg names them: an index for cuda, a path for vaapi. `None` for the first.
        device: Option<String>,
    },
}
