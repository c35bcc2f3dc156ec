// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of the FFmpeg layer as GStreamer messages: the domain, and advice.

use gst::subclass::prelude::*;

use super::imp::KeyframeDec;
use crate::av;
use crate::elements::error_details::post_error;

/// Posts `error` for the file at `location`.
pub fn post(element: &KeyframeDec, error: &av::Error, location: Option<&str>) {
    let file = location.unwrap_or("the stream");
    let advice = advice(error);
    macro_rules! post {
        ($code:expr) => {{
            let reason = if advice.is_empty() { error.to_string() } else { format!("{error}. {advice}") };
            post_error!(element, $code, file: file, reason, format!("{error:?}"))
        }};
    }
    match error {
        av::Error::Source(_) => post!(gst::ResourceError::Read),
        av::Error::Unreadable { .. } => post!(gst::StreamError::CodecNotFound),
        av::Error::Empty | av::Error::NotMedia { .. } | av::Error::Reference { .. } => {
            post!(gst::StreamError::TypeNotFound)
        }
        av::Error::NoVideo { .. } | av::Error::NoSuchStream { .. } => post!(gst::StreamError::WrongType),
        av::Error::TooLarge { .. } => post!(gst::StreamError::Decode),
        av::Error::UnknownCodec { .. } => post!(gst::StreamError::CodecNotFound),
        av::Error::Encrypted => post!(gst::StreamError::DecryptNokey),
        av::Error::Hardware { .. } => post!(gst::LibraryError::Init),
        av::Error::NoKeyframes(_) => post!(gst::StreamError::Decode),
        av::Error::WrongLibrary { .. } => post!(gst::LibraryError::Init),
        _ => post!(gst::StreamError::Demux),
    }
}

fn advice(error: &av::Error) -> &'static str {
    match error {
        av::Error::Source(_) => "Check that the source can still be read",
        av::Error::Empty => "Check that it was copied or recorded completely",
        av::Error::NotMedia { .. } => "Check with `ffprobe` what it is",
        av::Error::Unreadable { .. } => "Convert it to JPEG or PNG, or install a newer FFmpeg",
        av::Error::Reference { .. } => "Read those files one by one",
        av::Error::NoVideo { .. } => "Remove it from the list",
        av::Error::NoSuchStream { .. } => "Set stream-index to one of them, or to -1 for the best",
        av::Error::TooLarge { .. } => "Raise max-pixels to decode it",
        av::Error::UnknownCodec { .. } => "Install an FFmpeg with a decoder for it",
        av::Error::Encrypted => "Decrypt it first",
        av::Error::Hardware { .. } => "Set hardware=auto to use a device only where possible, or hardware=none",
        av::Error::NoKeyframes(_) => "Check its packets with `ffprobe -show_packets`",
        _ => "",
    }
}
