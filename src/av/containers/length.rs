//! How long a file says that it is: the outermost elements of ISO files, RIFF files and Matroska segments, the header of ASF.

use crate::av::error::Error;
use crate::av::input::Input;

/// Top-level boxes looked at.
const BOXES: usize = 64;

/// A top-level box of an ISO file (ISO/IEC 14496-12 4.2).
pub(super) struct TopLevelBox {
    pub(crate) kind: [u8; 4],
    /// Byte position after it; `None` where it runs to the end of the file, or its size makes no sense.
    pub(crate) end: Option<u64>,
    /// Its size makes no sense.
    pub(super) is_broken: bool,
}

/// A walk over the top-level boxes.
pub(super) struct Boxes {
    at: Option<u64>,
}

impl Boxes {
    pub(crate) fn new() -> Self {
        Self { at: Some(0) }
    }

    /// The next box; `None` at the end of the file.
    pub(crate) fn next(&mut self, input: &mut Input) -> Result<Option<TopLevelBox>, Error> {
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
pub(crate) fn announced_len(input: &mut Input) -> Result<Option<u64>, Error> {
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
        crate::av::containers::matroska::segment_end(input)?
    } else if names == "asf" {
        asf_len(input)?
    } else {
        None
    };
    Ok(announced.filter(|&announced| announced > len))
}

/// Objects of an ASF header looked at.
const ASF_OBJECTS: usize = 64;

/// The length in the File Properties Object of an ASF file (Advanced Systems Format specification, 3.1 and 3.2); `None` for a
/// broadcast, which does not know it.
fn asf_len(input: &mut Input) -> Result<Option<u64>, Error> {
    const FILE_PROPERTIES: [u8; 16] =
        [0xa1, 0xdc, 0xab, 0x8c, 0x47, 0xa9, 0xcf, 0x11, 0x8e, 0xe4, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65];
    const HEADER_OBJECT: u64 = 30;
    let mut at = HEADER_OBJECT;
    for _ in 0..ASF_OBJECTS {
        // GUID, size, file identifier, file size; dates, counts and durations; flags.
        let mut object = [0; 92];
        if input.read_at(at, &mut object)? < object.len() {
            break;
        }
        let number = |start: usize| object[start..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if object[..16] == FILE_PROPERTIES {
            let (is_broadcast, len) = (object[88] & 1 != 0, number(40));
            return Ok((!is_broadcast && len > 0).then_some(len));
        }
        let size = number(16);
        if size < 24 {
            break;
        }
        at = at.saturating_add(size);
    }
    Ok(None)
}
