//! How long a file says that it is: the outermost elements of ISO files, RIFF files and Matroska segments.

use super::error::Error;
use super::input::Input;

/// Top-level boxes looked at.
const BOXES: usize = 64;

/// A top-level box of an ISO file (ISO/IEC 14496-12 4.2).
pub(super) struct TopLevelBox {
    pub(super) kind: [u8; 4],
    /// Byte position after it; `None` where it runs to the end of the file, or its size makes no sense.
    pub(super) end: Option<u64>,
    /// Its size makes no sense.
    pub(super) is_broken: bool,
}

/// A walk over the top-level boxes.
pub(super) struct Boxes {
    at: Option<u64>,
}

impl Boxes {
    pub(super) fn new() -> Self {
        Self { at: Some(0) }
    }

    /// The next box; `None` at the end of the file.
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<TopLevelBox>, Error> {
        let Some(at) = self.at else { return Ok(None) };
        let mut head = [0; 16];
        let count = input.read_at(at, &mut head)?;
        let Some((header, long)) = head[..count].split_first_chunk::<8>() else { return Ok(None) };
        let [s0, s1, s2, s3, kind @ ..] = *header;
        let size = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => None,
            1 => Some(long.first_chunk::<8>().map_or(0, |size| u64::from_be_bytes(*size))),
            size => Some(size.into()),
        };
        let is_broken = size.is_some_and(|size| size < 8);
        let end = size.filter(|_| !is_broken).map(|size| at.saturating_add(size));
        self.at = end;
        Ok(Some(TopLevelBox { kind, end, is_broken }))
    }
}

/// The length in bytes that the file's outermost structure announces, where it announces one and the file is shorter.
pub(super) fn announced_len(input: &mut Input) -> Result<Option<u64>, Error> {
    let Some(len) = input.byte_len().filter(|_| input.jumps_are_free()) else { return Ok(None) };
    let names = input.container_names();
    let announced = if names.split(',').any(|name| name == "mp4") {
        // The size of a media data box is not checked: it may be wrong in an intact file, and the index is more reliable.
        let mut boxes = Boxes::new();
        let mut last = None;
        for _ in 0..BOXES {
            match boxes.next(input)? {
                Some(found) => last = found.end.filter(|_| found.kind == *b"moof"),
                None => break,
            }
        }
        last
    } else if names == "avi" {
        let mut head = [0; 8];
        let count = input.read_at(0, &mut head)?;
        let size = head[..count].last_chunk::<4>().map(|size| u64::from(u32::from_le_bytes(*size)));
        // Recordings that were not closed have 0 there, or the largest number.
        size.filter(|&size| count == 8 && size > 0 && size < 0xffff_ff00).map(|size| size + 8)
    } else if names.split(',').any(|name| name == "matroska") {
        super::matroska::segment_end(input)?
    } else {
        None
    };
    Ok(announced.filter(|&announced| announced > len))
}
