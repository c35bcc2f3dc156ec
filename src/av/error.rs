// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of the FFmpeg layer, by what a caller can do about them.

use std::ffi::{CStr, c_int};

use ffmpeg_sys_next as ffi;

/// A failed read from the source behind a demuxer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The wait for data was interrupted on purpose: flush or stop.
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
    /// Flush or stop was requested.
    #[error("interrupted")]
    Interrupted,
    /// The byte source failed.
    #[error("{0}")]
    Source(String),
    /// The input has no bytes.
    #[error("the input is empty (0 bytes)")]
    Empty,
    /// No demuxer recognises the input.
    #[error("not a media file that FFmpeg {version} recognises ({detail})")]
    NotMedia {
        /// Version of libavformat in use.
        version: String,
        /// FFmpeg's message.
        detail: String,
    },
    /// The input only refers to other files or addresses, which are never opened.
    #[error("this is {kind}, not a media file: it only refers to other files, which are not opened")]
    Reference {
        /// What such a file is called.
        kind: &'static str,
    },
    /// The installed FFmpeg cannot read files of this kind.
    #[error("this is {kind}, which the installed FFmpeg ({version}) cannot read")]
    Unreadable {
        /// What such a file is called.
        kind: String,
        /// Version of libavformat in use.
        version: String,
    },
    /// The container is recognised but cannot be read: truncated, or damaged.
    #[error("{0}")]
    Damaged(String),
    /// The container has no video stream.
    #[error("no video in this {container} file (it contains {found})")]
    NoVideo {
        /// Long name of the container.
        container: String,
        /// Its contents, in words.
        found: String,
    },
    /// The requested stream does not exist, or is not video.
    #[error("stream {index} is not a video stream (this {container} file has {videos})")]
    NoSuchStream {
        /// The requested stream.
        index: u32,
        /// Long name of the container.
        container: String,
        /// Which streams are videos, in words.
        videos: String,
    },
    /// The picture is larger than allowed.
    #[error("a picture of {width}x{height} pixels exceeds max-pixels ({max_pixels})")]
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
    /// The requested device does not decode the file.
    #[error("{kind} cannot decode this file: {reason}")]
    Hardware {
        /// The device as the user named it.
        kind: String,
        /// What is missing.
        reason: String,
    },
    /// The video is encrypted, and no key is available.
    #[error("the video is encrypted (DRM) and cannot be decoded without its key")]
    Encrypted,
    /// The video stream yielded no keyframe.
    #[error("{0}")]
    NoKeyframes(String),
    /// The FFmpeg loaded at run time is not the version this library was built against.
    #[error(
        "this plugin was built for {library} {built}, but {found} is loaded: rebuild it on this system, or install that version of FFmpeg"
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
        /// FFmpeg's message for it.
        message: String,
    },
}

impl Error {
    /// Returns an [`Error::Call`] with FFmpeg's own message for `code`.
    pub(crate) fn call(operation: &'static str, code: c_int) -> Self {
        Self::Call { operation, code, message: message(code) }
    }

    /// Returns the error for an allocation inside FFmpeg that returned null.
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

/// Returns FFmpeg's message for an error code.
pub(crate) fn message(code: c_int) -> String {
    let mut buffer = [0; ffi::AV_ERROR_MAX_STRING_SIZE];
    // SAFETY: the pointer and the length describe `buffer`, which av_strerror fills and terminates.
    unsafe { ffi::av_strerror(code, buffer.as_mut_ptr(), buffer.len()) };
    // SAFETY: av_strerror always leaves a terminating zero inside the buffer.
    let text = unsafe { CStr::from_ptr(buffer.as_ptr()) };
    text.to_string_lossy().into_owned()
}

/// Formats FFmpeg's packed version number, for example "59.27.100".
pub(crate) fn version_text(packed: u32) -> String {
    format!("{}.{}.{}", packed >> 16, (packed >> 8) & 0xff, packed & 0xff)
}
