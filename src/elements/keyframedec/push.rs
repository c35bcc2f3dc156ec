// SPDX-License-Identifier: MIT OR Apache-2.0
//! Push mode: bytes as upstream delivers them (fdsrc, appsrc, a network source).
//!
//! They pass through a bounded queue. Containers that can be read sequentially are demuxed as they arrive. Those that need random
//! access (an mp4 with its index at the end, avi) are first collected in an unlinked temporary file.
//!
//! Thread rule: used by the element's task.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use super::byte_queue::{ByteQueue, WaitLimit};
use super::range_source::{self, RangeSource};
use crate::av::{ByteSource, SourceError};

/// Most bytes that are examined to determine whether a container can be read sequentially.
const MAX_HEAD_BYTES: usize = 1 << 20;

/// Bytes of a PNG file in which an animation is recognisable (`acTL`, after the header and before the picture).
const PNG_HEAD: usize = 1024;

/// Opens the stream that arrives in `queue` from upstream of `pad`: by seeks if `may_seek` and upstream supports them, as a stream if
/// the container can be read sequentially, else from a temporary file of at most `spool_limit` bytes, written first.
pub fn open(
    pad: &gst::Pad,
    queue: &Arc<ByteQueue>,
    may_seek: bool,
    spool_limit: u64,
    wait_limit: &WaitLimit,
) -> Result<Box<dyn ByteSource>, SourceError> {
    let mut wanted = 64;
    loop {
        let head = queue.peek(wanted, wait_limit)?;
        if may_seek && !head.is_empty() && range_source::is_offered(pad) {
            return Ok(Box::new(RangeSource::new(pad.clone(), Arc::clone(queue), wait_limit.clone())));
        }
        match access_order(&head) {
            AccessOrder::Sequential => {
                return Ok(Box::new(StreamSource { queue: Arc::clone(queue), wait_limit: wait_limit.clone() }));
            }
            AccessOrder::NeedsBytes(more) if head.len() >= wanted && more <= MAX_HEAD_BYTES => wanted = more,
            AccessOrder::NeedsBytes(_) | AccessOrder::Random => {
                return Ok(Box::new(SpooledSource::collect(queue, spool_limit, wait_limit)?));
            }
        }
    }
}

/// Whether a file can be read sequentially, according to its first bytes.
#[derive(Debug, PartialEq, Eq)]
enum AccessOrder {
    Sequential,
    Random,
    /// Undecided: examine this many bytes.
    NeedsBytes(usize),
}

/// Determines by its first bytes whether a container gives the same frames when read once from front to back.
fn access_order(head: &[u8]) -> AccessOrder {
    let starts = |prefix: &[u8]| head.starts_with(prefix);
    // A transport stream has its sync byte (0x47) at the start of packets, three of which are checked.
    let packets_of = |size: usize, offset: usize| {
        head.len() > offset && head[offset..].iter().step_by(size).all(|&byte| byte == 0x47)
    };
    let is_transport_stream = packets_of(188, 0) || packets_of(192, 4);
    if is_transport_stream && head.len() < 3 * 192 {
        return AccessOrder::NeedsBytes(3 * 192);
    }
    // Of animations the demuxer reads the last chunks first.
    if starts(b"\x89PNG") {
        if head.len() < PNG_HEAD {
            return AccessOrder::NeedsBytes(PNG_HEAD);
        }
        let is_animation = head.windows(4).any(|window| window == b"acTL");
        return if is_animation { AccessOrder::Random } else { AccessOrder::Sequential };
    }
    let known = starts(b"\x1a\x45\xdf\xa3") // Matroska, WebM
        || starts(b"FLV\x01")
        || starts(b"OggS")
        || starts(b"DKIF") // IVF
        || starts(b"\xff\xd8\xff") // JPEG
        || starts(b"YUV4MPEG2 ")
        || starts(b"\x00\x00\x01\xba") // MPEG program stream
        || starts(b"\x00\x00\x01\xb3") // MPEG video
        || starts(b"\x00\x00\x00\x01") // H.264, H.265 byte stream
        || (starts(b"RIFF") && head.get(8..12) == Some(b"WEBP"))
        || is_transport_stream;
    if known {
        return AccessOrder::Sequential;
    }
    iso_boxes(head)
}

/// Checks an ISO file (mp4, mov): it can be read sequentially if its index (`moov`) is before its media data.
fn iso_boxes(head: &[u8]) -> AccessOrder {
    // Audio books and podcasts: chapters, which need random access, show that their pictures are not video.
    if matches!(head.get(4..12), Some(b"ftypM4A " | b"ftypM4B " | b"ftypM4P ")) {
        return AccessOrder::Random;
    }
    let mut at = 0_usize;
    loop {
        let Some(header) = head.get(at..).and_then(|rest| rest.first_chunk::<8>()) else {
            return AccessOrder::NeedsBytes(at.saturating_add(16));
        };
        let (size, kind) = header.split_at(4);
        let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize;
        match kind {
            b"moov" | b"moof" => return AccessOrder::Sequential,
            b"ftyp" | b"styp" | b"sidx" | b"free" | b"skip" | b"wide" | b"uuid" | b"pdin" if size >= 8 => {
                at = at.saturating_add(size);
            }
            _ => return AccessOrder::Random,
        }
    }
}

/// Reads bytes as they arrive.
struct StreamSource {
    queue: Arc<ByteQueue>,
    wait_limit: WaitLimit,
}

impl ByteSource for StreamSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.queue.read(buffer, &self.wait_limit)
    }

    fn seek(&mut self, _position: u64) -> Result<(), SourceError> {
        Err(SourceError::Failed("a stream without random access is not seekable".into()))
    }

    fn size(&mut self) -> Option<u64> {
        None
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn has_cheap_seeks(&self) -> bool {
        false
    }
}

/// A whole stream in an unlinked temporary file.
struct SpooledSource {
    file: File,
    size: u64,
    position: u64,
}

impl SpooledSource {
    fn collect(queue: &ByteQueue, limit: u64, wait_limit: &WaitLimit) -> Result<Self, SourceError> {
        let failed = |error: std::io::Error| {
            SourceError::Failed(format!(
                "this stream needs random access and so is stored in a temporary file in {}, which failed: {error}; set \
                 TMPDIR to a folder with room, or read the file with filesrc",
                std::env::temp_dir().display()
            ))
        };
        let mut file = tempfile::tempfile().map_err(failed)?;
        let mut size = 0_u64;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = queue.read(&mut buffer, wait_limit)?;
            if count == 0 {
                break;
            }
            size += count as u64;
            if size > limit {
                return Err(SourceError::Failed(format!(
                    "this stream needs random access (its index is not at the start) but is longer than spool-limit ({limit} \
                     bytes); raise spool-limit, read the file with filesrc, or move its index to the start with `ffmpeg -i IN \
                     -c copy -movflags +faststart OUT.mp4`"
                )));
            }
            file.write_all(&buffer[..count]).map_err(failed)?;
        }
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(Self { file, size, position: 0 })
    }
}

impl ByteSource for SpooledSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        if self.position >= self.size {
            return Ok(0);
        }
        let failed = |error| SourceError::Failed(format!("the temporary file cannot be read: {error}"));
        let count = self.file.read(buffer).map_err(failed)?;
        self.position += count as u64;
        Ok(count)
    }

    fn seek(&mut self, position: u64) -> Result<(), SourceError> {
        self.position = position;
        // Files may name any position; past the end there is nothing, and the system refuses those beyond 2^63.
        if position >= self.size {
            return Ok(());
        }
        let moved = self.file.seek(SeekFrom::Start(position));
        moved.map(|_| ()).map_err(|error| SourceError::Failed(format!("cannot seek in the temporary file: {error}")))
    }

    fn size(&mut self) -> Option<u64> {
        Some(self.size)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn has_cheap_seeks(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn iso(boxes: &[(&[u8; 4], u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, size) in boxes {
            bytes.extend(size.to_be_bytes());
            bytes.extend(*kind);
            bytes.resize(bytes.len() + (*size as usize).saturating_sub(8), 0);
        }
        bytes
    }

    #[test]
    fn an_mp4_is_streamed_only_with_its_index_at_the_start() {
        assert_eq!(access_order(&iso(&[(b"ftyp", 32), (b"free", 8), (b"moov", 8)])), AccessOrder::Sequential);
        assert_eq!(access_order(&iso(&[(b"ftyp", 32), (b"mdat", 8)])), AccessOrder::Random);
        assert_eq!(access_order(&iso(&[(b"styp", 24), (b"sidx", 40), (b"moof", 8)])), AccessOrder::Sequential);
        assert_eq!(access_order(&iso(&[(b"ftyp", 32)])), AccessOrder::NeedsBytes(48));
        assert_eq!(access_order(&iso(&[(b"ftyp", 0)])), AccessOrder::Random);
    }

    #[test]
    fn other_containers_are_recognised_by_their_first_bytes() {
        assert_eq!(access_order(b"\x1a\x45\xdf\xa3...."), AccessOrder::Sequential);
        assert_eq!(access_order(b"RIFF....AVI LIST"), AccessOrder::Random);
        assert_eq!(access_order(b"RIFF....WEBPVP8 "), AccessOrder::Sequential);
        let mut ts = vec![0; 1000];
        (ts[0], ts[188], ts[376], ts[564], ts[752], ts[940]) = (0x47, 0x47, 0x47, 0x47, 0x47, 0x47);
        assert_eq!(access_order(&ts), AccessOrder::Sequential);
        assert_eq!(access_order(&ts[..64]), AccessOrder::NeedsBytes(576));
        // The same first byte.
        assert_eq!(access_order(&[b"GIF89a" as &[u8], &[0; 994]].concat()), AccessOrder::Random);
        assert_eq!(access_order(b""), AccessOrder::NeedsBytes(16));
    }

    #[test]
    fn an_index_behind_a_long_beginning_counts_as_missing() {
        gst::init().unwrap();
        let is_streamed = |beginning: usize| {
            let free = u32::try_from(beginning - 32).unwrap();
            let bytes = iso(&[(b"ftyp", 32), (b"free", free), (b"moov", 16)]);
            let queue = Arc::<ByteQueue>::default();
            queue.push(gst::Buffer::from_slice(bytes)).unwrap();
            queue.end();
            let pad = gst::Pad::new(gst::PadDirection::Sink);
            let patient = WaitLimit { limit: None, is_idle_allowed: Arc::new(|| false) };
            !open(&pad, &queue, true, u64::MAX, &patient).unwrap().is_seekable()
        };
        assert!(is_streamed(MAX_HEAD_BYTES - 16));
        assert!(!is_streamed(MAX_HEAD_BYTES - 15));
    }
}
