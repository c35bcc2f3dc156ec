//! Errors of the FFmpeg layer as GStreamer messages: the domain, and what to do next.

use gst::subclass::prelude::*;

use super::imp::KeyframeDec;
use crate::av;

/// Posts `error` for the file at `location`.
pub fn post(element: &KeyframeDec, error: &av::Error, location: Option<&str>) {
    let file = location.unwrap_or("the stream");
    let advice = advice(error);
    let text = if advice.is_empty() { format!("{file}: {error}") } else { format!("{file}: {error}. {advice}") };
    let debug = format!("{error:?}");
    macro_rules! post {
        ($code:expr) => {
            gst::element_imp_error!(element, $code, ("{text}"), ["{debug}"])
        };
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
        av::Error::NoVideo { .. } => "Leave it out of the list",
        av::Error::NoSuchStream { .. } => "Set stream-index to one of them, or to -1 for the best",
        av::Error::TooLarge { .. } => "Raise max-pixels if it is to be decoded all the same",
        av::Error::UnknownCodec { .. } => "Install an FFmpeg with a decoder for it",
        av::Error::Encrypted => "Decrypt it first",
        av::Error::Hardware { .. } => "Set hardware=auto to use a device only where it can, or hardware=none",
        av::Error::NoKeyframes(_) => "Check with `ffprobe -show_packets` what it holds",
        _ => "",
    }
}
