//! Push mode: bytes as upstream delivers them (fdsrc, appsrc, a network source).
//!
//! They pass through a bounded queue. Containers that read from front to back are demuxed as they come. Those that must
//! be searched (an mp4 with its index at the end, avi) are first collected in an unlinked temporary file.
//!
//! Thread rule: used by the element's task.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use super::queue::{ByteQueue, Patience};
use super::seeked::{self, SeekedSource};
use crate::av::{ByteSource, SourceError};

/// Most bytes looked at to tell whether a container reads from front to back.
const SNIFF_BYTES: usize = 1 << 20;

/// Bytes of a PNG file in which an animation shows (`acTL`, behind the header and before the picture).
const PNG_HEAD: usize = 1024;

/// Opens what arrives in `queue` from upstream of `pad`: by seeks if it may and upstream takes them, as a stream if the container
/// reads from front to back, else from a temporary file of at most `spool_limit` bytes, written first.
pub fn open(
    pad: &gst::Pad,
    queue: &Arc<ByteQueue>,
    may_seek: bool,
    spool_limit: u64,
    patience: &Patience,
) -> Result<Box<dyn ByteSource>, SourceError> {
    let mut wanted = 64;
    loop {
        let head = queue.peek(wanted, patience)?;
        if may_seek && !head.is_empty() && seeked::is_offered(pad) {
            return Ok(Box::new(SeekedSource::new(pad.clone(), Arc::clone(queue), patience.clone())));
        }
        match reads_front_to_back(&head) {
            Order::FrontToBack => {
                return Ok(Box::new(StreamSource { queue: Arc::clone(queue), patience: patience.clone() }));
            }
            Order::NeedsBytes(more) if head.len() >= wanted && more <= SNIFF_BYTES => wanted = more,
            Order::NeedsBytes(_) | Order::MustBeSearched => {
                return Ok(Box::new(SpooledSource::collect(queue, spool_limit, patience)?));
            }
        }
    }
}

/// What the first bytes say about reading the rest.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    FrontToBack,
    MustBeSearched,
    /// Undecided: look at this many bytes.
    NeedsBytes(usize),
}

/// Whether a container, by its first bytes, gives the same frames when read once from front to back.
fn reads_front_to_back(head: &[u8]) -> Order {
    let starts = |prefix: &[u8]| head.starts_with(prefix);
    // A transport stream shows by its sync byte (0x47) at the start of packets, three of which are looked at.
    let packets_of = |size: usize, offset: usize| {
        head.len() > offset && head[offset..].iter().step_by(size).all(|&byte| byte == 0x47)
    };
    let is_transport_stream = packets_of(188, 0) || packets_of(192, 4);
    if is_transport_stream && head.len() < 3 * 192 {
        return Order::NeedsBytes(3 * 192);
    }
    // Of animations the demuxer reads the end of the chunks first.
    if starts(b"\x89PNG") {
        if head.len() < PNG_HEAD {
            return Order::NeedsBytes(PNG_HEAD);
        }
        let is_animation = head.windows(4).any(|window| window == b"acTL");
        return if is_animation { Order::MustBeSearched } else { Order::FrontToBack };
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
        return Order::FrontToBack;
    }
    iso_boxes(head)
}

/// An ISO file (mp4, mov) reads from front to back if its index (`moov`) stands before its media data.
fn iso_boxes(head: &[u8]) -> Order {
    // Audio books and podcasts: that their pictures are no video is told by chapters, which are found by searching.
    if matches!(head.get(4..12), Some(b"ftypM4A " | b"ftypM4B " | b"ftypM4P ")) {
        return Order::MustBeSearched;
    }
    let mut at = 0_usize;
    loop {
        let Some(header) = head.get(at..).and_then(|rest| rest.first_chunk::<8>()) else {
            return Order::NeedsBytes(at.saturating_add(16));
        };
        let (size, kind) = header.split_at(4);
        let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize;
        match kind {
            b"moov" | b"moof" => return Order::FrontToBack,
            b"ftyp" | b"styp" | b"sidx" | b"free" | b"skip" | b"wide" | b"uuid" | b"pdin" if size >= 8 => {
                at = at.saturating_add(size);
            }
            _ => return Order::MustBeSearched,
        }
    }
}

/// Bytes as they come.
struct StreamSource {
    queue: Arc<ByteQueue>,
    patience: Patience,
}

impl ByteSource for StreamSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.queue.read(buffer, &self.patience)
    }

    fn seek(&mut self, _position: u64) -> Result<(), SourceError> {
        Err(SourceError::Failed("a stream without random access cannot be searched".into()))
    }

    fn size(&mut self) -> Option<u64> {
        None
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn jumps_are_free(&self) -> bool {
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
    fn collect(queue: &ByteQueue, limit: u64, patience: &Patience) -> Result<Self, SourceError> {
        let failed = |error: std::io::Error| {
            SourceError::Failed(format!(
                "this stream has to be searched, so it is kept in a temporary file in {}, which failed: {error}; set \
                 TMPDIR to a folder with room, or read the file with filesrc",
                std::env::temp_dir().display()
            ))
        };
        let mut file = tempfile::tempfile().map_err(failed)?;
        let mut size = 0_u64;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = queue.read(&mut buffer, patience)?;
            if count == 0 {
                break;
            }
            size += count as u64;
            if size > limit {
                return Err(SourceError::Failed(format!(
                    "this stream has to be searched (its index is not in front) but is longer than spool-limit ({limit} \
                     bytes); raise spool-limit, read the file with filesrc, or put its index in front with `ffmpeg -i IN \
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
        moved
            .map(|_| ())
            .map_err(|error| SourceError::Failed(format!("the temporary file cannot be searched: {error}")))
    }

    fn size(&mut self) -> Option<u64> {
        Some(self.size)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn jumps_are_free(&self) -> bool {
        true
    }
}

#[cfg(test)]
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
    fn an_mp4_is_streamed_only_with_its_index_in_front() {
        assert_eq!(reads_front_to_back(&iso(&[(b"ftyp", 32), (b"free", 8), (b"moov", 8)])), Order::FrontToBack);
        assert_eq!(reads_front_to_back(&iso(&[(b"ftyp", 32), (b"mdat", 8)])), Order::MustBeSearched);
        assert_eq!(reads_front_to_back(&iso(&[(b"styp", 24), (b"sidx", 40), (b"moof", 8)])), Order::FrontToBack);
        assert_eq!(reads_front_to_back(&iso(&[(b"ftyp", 32)])), Order::NeedsBytes(48));
        assert_eq!(reads_front_to_back(&iso(&[(b"ftyp", 0)])), Order::MustBeSearched);
    }

    #[test]
    fn other_containers_are_told_by_their_first_bytes() {
        assert_eq!(reads_front_to_back(b"\x1a\x45\xdf\xa3...."), Order::FrontToBack);
        assert_eq!(reads_front_to_back(b"RIFF....AVI LIST"), Order::MustBeSearched);
        assert_eq!(reads_front_to_back(b"RIFF....WEBPVP8 "), Order::FrontToBack);
        let mut ts = vec![0; 1000];
        (ts[0], ts[188], ts[376], ts[564], ts[752], ts[940]) = (0x47, 0x47, 0x47, 0x47, 0x47, 0x47);
        assert_eq!(reads_front_to_back(&ts), Order::FrontToBack);
        assert_eq!(reads_front_to_back(&ts[..64]), Order::NeedsBytes(576));
        // The same first byte.
        assert_eq!(reads_front_to_back(&[b"GIF89a" as &[u8], &[0; 994]].concat()), Order::MustBeSearched);
        assert_eq!(reads_front_to_back(b""), Order::NeedsBytes(16));
    }
}
