//! Why a container could not be opened: its first bytes tell more than FFmpeg's error code.

use std::ffi::c_int;

use ffmpeg_sys_next as ffi;

use super::error::{Error, message, version_text};
use super::io::Io;

/// What kept a container from being opened, in words that help.
pub(super) fn why_not_opened(io: &mut Io, code: c_int) -> Error {
    if let Some(error) = io.take_error() {
        return error.into();
    }
    if code == ffi::AVERROR_EXIT {
        return Error::Interrupted;
    }
    if io.bytes_read() == 0 {
        return Error::Empty;
    }
    if let Some(kind) = reference_file(io.head()) {
        return Error::Reference { kind };
    }
    let detail = message(code);
    match io.head().get(4..8) {
        Some(b"ftyp" | b"mdat" | b"wide" | b"moov" | b"free" | b"skip") => Error::Damaged(format!(
            "the mp4/mov file cannot be opened: its index (moov box) is missing or damaged, as in a recording that was \
             cut off or is still being written ({detail})"
        )),
        Some(b"styp" | b"moof" | b"sidx") => Error::Damaged(format!(
            "this is a media segment (fragment) without its initialization segment: put the initialization segment in \
             front of it ({detail})"
        )),
        _ => {
            // SAFETY: no preconditions.
            let version = unsafe { ffi::avformat_version() };
            Error::NotMedia { version: format!("libavformat {}", version_text(version)), detail }
        }
    }
}

/// What a text file is called that only names other files or addresses, if `head` begins one.
fn reference_file(head: &[u8]) -> Option<&'static str> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let contains = |text: &[u8]| head.windows(text.len()).any(|window| window == text);
    if head.starts_with(b"#EXTM3U") {
        Some("a playlist (m3u8)")
    } else if head.starts_with(b"ffconcat version") {
        Some("a list of files (ffconcat)")
    } else if head.starts_with(b"v=0") && contains(b"\nm=") {
        Some("a session description (sdp)")
    } else if head.starts_with(b"<") && contains(b"<MPD") {
        Some("a DASH manifest (mpd)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_name_other_files_are_known() {
        assert_eq!(reference_file(b"#EXTM3U\n#EXT-X-VERSION:3\n"), Some("a playlist (m3u8)"));
        assert_eq!(reference_file(b"<?xml version=\"1.0\"?>\n<MPD xmlns="), Some("a DASH manifest (mpd)"));
        assert_eq!(
            reference_file(b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5000 RTP/AVP 96"),
            Some("a session description (sdp)")
        );
        assert_eq!(reference_file(b"<html>"), None);
        assert_eq!(reference_file(b"\0\0\0\x18ftyp"), None);
    }
}
