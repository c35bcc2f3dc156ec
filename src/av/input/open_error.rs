// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a container could not be opened: its first bytes show more than FFmpeg's error code.

use std::ffi::c_int;

use ffmpeg_sys_next as ffi;

use crate::av::error::{Error, message, version_text};
use crate::av::io::Io;

/// Returns the error for a container that FFmpeg could not open, in words that help.
pub(super) fn open_error(io: &mut Io, code: c_int) -> Error {
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
    if let Some(error) = unsupported_kind(io.head()) {
        return error;
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

/// Returns the error for a file that begins with `head`, if FFmpeg releases without support for its kind are common.
pub(crate) fn unsupported_kind(head: &[u8]) -> Option<Error> {
    let kind = if head.starts_with(b"RIFF") && head.get(8..16) == Some(b"WEBPVP8X") && head.get(20)? & 2 != 0 {
        "an animated WebP picture".to_owned()
    } else if head.get(4..8) == Some(b"ftyp") {
        still_brand(head)?
    } else {
        return None;
    };
    // SAFETY: no preconditions.
    let version = unsafe { ffi::avformat_version() };
    Some(Error::Unreadable { kind, version: format!("libavformat {}", version_text(version)) })
}

/// Names the kind of an ISO file whose major or compatible brands are those of still images (ISO/IEC 23008-12, AVIF), unless
/// it has those of a movie too.
fn still_brand(head: &[u8]) -> Option<String> {
    let size = u32::from_be_bytes(*head.first_chunk()?) as usize;
    let brands = head.get(8..size.min(head.len()))?;
    let is_movie = brands.chunks_exact(4).any(|brand| matches!(brand, b"isom" | b"mp41" | b"mp42" | b"qt  "));
    let name = match brands.first_chunk::<4>()? {
        b"heic" | b"heix" | b"heim" | b"heis" => "HEIC",
        b"hevc" | b"hevx" => "HEIC sequence",
        b"avif" | b"avis" => "AVIF",
        b"mif1" | b"msf1" | b"miaf" => "HEIF",
        _ => return None,
    };
    let major = String::from_utf8_lossy(&brands[..4]);
    (!is_movie).then(|| format!("a {name} still image (brand {major})"))
}

/// Names the kind of a text file that only refers to other files or addresses, if `head` begins one.
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
    fn files_that_refer_to_other_files_are_recognised() {
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
