//! What can go wrong in the FFmpeg layer, sorted by what a caller can do about it.

use std::ffi::{CStr, c_int};

use ffmpeg_sys_next as ffi;

/// Why bytes could not be had from the source behind a demuxer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The wait for data was ended on purpose: flush or stop.
    #[error("reading was interrupted")]
    Interrupted,
    /// Upstream failed; the text names the cause.
    #[error("{0}")]
    Failed(String),
}

/// A failure of opening, reading or decoding.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Flush or stop was asked for.
    #[error("interrupted")]
    Interrupted,
    /// The byte source failed.
    #[error("{0}")]
    Source(String),
    /// There was not one byte.
    #[error("the input is empty (0 bytes)")]
    Empty,
    /// No demuxer knows these bytes.
    #[error("the input is not a media file that FFmpeg {version} knows ({detail})")]
    NotMedia {
        /// Version of libavformat in use.
        version: String,
        /// FFmpeg's words.
        detail: String,
    },
    /// The input only names other files or addresses, which are never opened.
    #[error("this is {kind}, no media file: it only names other files, which are not followed")]
    Reference {
        /// What such a file is called.
        kind: &'static str,
    },
    /// The file is of a kind that the installed FFmpeg has no means to read.
    #[error("this is {kind}, which the installed FFmpeg ({version}) cannot read")]
    Unreadable {
        /// What such a file is called.
        kind: String,
        /// Version of libavformat in use.
        version: String,
    },
    /// The container is known but cannot be read: cut, or damaged.
    #[error("{0}")]
    Damaged(String),
    /// The container holds no video.
    #[error("there is no video in this {container} file (it holds {found})")]
    NoVideo {
        /// Long name of the container.
        container: String,
        /// What it does hold, in words.
        found: String,
    },
    /// The stream asked for is not there, or no video.
    #[error("stream {index} is no video stream (this {container} file has {videos})")]
    NoSuchStream {
        /// The stream asked for.
        index: u32,
        /// Long name of the container.
        container: String,
        /// Which streams are videos, in words.
        videos: String,
    },
    /// The picture is larger than allowed.
    #[error("a picture of {width}x{height} pixels is more than max-pixels ({max_pixels}) allows")]
    TooLarge {
        /// Pixels in a row.
        width: u32,
        /// Lines.
        height: u32,
        /// The limit.
        max_pixels: u64,
    },
    /// The installed FFmpeg has no decoder for the video.
    #[error("the installed FFmpeg ({version}) has no decoder for {codec}")]
    UnknownCodec {
        /// Name of the codec, or its tag.
        codec: String,
        /// Version of libavcodec in use.
        version: String,
    },
    /// The device that was asked for does not decode the file.
    #[error("{kind} does not decode this file: {reason}")]
    Hardware {
        /// The device as the user named it.
        kind: String,
        /// What is missing.
        reason: String,
    },
    /// The video is encrypted and there is no key.
    #[error("the video is encrypted (DRM) and cannot be decoded without its key")]
    Encrypted,
    /// There is a video stream, but no keyframe came out of it.
    #[error("{0}")]
    NoKeyframes(String),
    /// The FFmpeg found at run time is not the one this library was built against.
    #[error(
        "this plugin was built for {library} {built}, but {found} is loaded: build it again on this system, or install the FFmpeg it was built for"
    )]
    WrongLibrary {
        /// Which of FFmpeg's libraries.
        library: &'static str,
        /// Major version at build time.
        built: u32,
        /// Major version at run time.
        found: u32,
    },
    /// Any other failure of a call into FFmpeg.
    #[error("{operation} failed: {message}")]
    Call {
        /// The FFmpeg function.
        operation: &'static str,
        /// Its return value.
        code: i32,
        /// FFmpeg's text for it.
        message: String,
    },
}

impl Error {
    /// An [`Error::Call`] with FFmpeg's own text for `code`.
    pub(crate) fn call(operation: &'static str, code: c_int) -> Self {
        Self::Call { operation, code, message: message(code) }
    }

    /// An allocation inside FFmpeg that returned null.
    pub(crate) fn memory(operation: &'static str) -> Self {
        Self::call(operation, ffi::AVERROR(ffi::ENOMEM))
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Interrupted => Self::Interrupted,
            SourceError::Failed(text) => Self::Source(text),
        }
    }
}

/// FFmpeg's text for an error code.
pub(crate) fn message(code: c_int) -> String {
    let mut buffer = [0; ffi::AV_ERROR_MAX_STRING_SIZE];
    // SAFETY: the pointer and the length describe `buffer`, which av_strerror fills and terminates.
    unsafe { ffi::av_strerror(code, buffer.as_mut_ptr(), buffer.len()) };
    // SAFETY: av_strerror always leaves a terminating zero inside the buffer.
    let text = unsafe { CStr::from_ptr(buffer.as_ptr()) };
    text.to_string_lossy().into_owned()
}

/// "59.27.100" from FFmpeg's packed version number.
pub(crate) fn version_text(packed: u32) -> String {
    format!("{}.{}.{}", packed >> 16, (packed >> 8) & 0xff, packed & 0xff)
}
