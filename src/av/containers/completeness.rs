// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a file is complete, as far as its container shows: what its index names, the length that it announces, and how it ends.

use memchr::memmem;

use crate::av::containers::{matroska, mp4};
use crate::av::error::Error;
use crate::av::input::Input;
use crate::av::input::container::Container;
use crate::av::input::video_stream::VideoStream;

/// What a container shows about the end of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completeness {
    /// Nothing is missing, or the container does not show it.
    Complete,
    /// The index names frames past the end of the file.
    MissingFrames {
        /// Frames past the end.
        frames: u64,
        /// Keyframes among them.
        keyframes: u64,
        /// Length of the file in bytes.
        length: u64,
    },
    /// The file is shorter than its outermost structure announces.
    Shorter {
        /// Length of the file in bytes.
        length: u64,
        /// Announced length in bytes.
        announced: u64,
    },
    /// The file ends in the middle of an element.
    InsideElement,
    /// As [`InsideElement`](Self::InsideElement), in a container of which intact files may end so: it counts only together with
    /// other evidence.
    PerhapsInsideElement,
    /// The file ends after an element that is not the last one.
    MissingEndMarker,
}

impl Completeness {
    /// Checks the file of `input` when it has been read to its end.
    pub(crate) fn check(input: &mut Input, video: &VideoStream) -> Result<Self, Error> {
        let length = input.byte_len();
        if let Some(missing) = length.and_then(|length| missing_frames(input, video, length)) {
            return Ok(missing);
        }
        let Some(length) = length.filter(|_| input.has_cheap_seeks()) else { return Ok(Self::Complete) };
        match announced_len(input)? {
            Some(announced) if announced > length => Ok(Self::Shorter { length, announced }),
            _ => end_of(input, length),
        }
    }

    /// Whether the file certainly or probably ends in the middle of an element.
    pub(crate) fn is_inside_element(self) -> bool {
        matches!(self, Self::InsideElement | Self::PerhapsInsideElement)
    }

    /// Returns the problem in words, if there is one.
    pub(crate) fn problem(self) -> Option<String> {
        match self {
            Self::Complete | Self::PerhapsInsideElement => None,
            Self::MissingFrames { frames, keyframes, length } => Some(format!(
                "the file is truncated: {frames} frames of its index, {keyframes} of them keyframes, lie past its end (byte {length})"
            )),
            Self::Shorter { length, announced } => {
                Some(format!("the file is truncated: it has {length} of {announced} bytes"))
            }
            Self::InsideElement => Some("the file is truncated in the middle of an element".to_owned()),
            Self::MissingEndMarker => Some("the file may be truncated: its end marker is missing".to_owned()),
        }
    }
}

/// Returns the frames of an MP4 file's index that lie past its end.
fn missing_frames(input: &Input, video: &VideoStream, length: u64) -> Option<Completeness> {
    if input.container() != Container::Mp4 {
        return None;
    }
    let (end, is_intra_only) = (i64::try_from(length).ok()?, video.is_intra_only());
    let (mut frames, mut keyframes) = (0_u64, 0_u64);
    for entry in video.index_entries().filter(|entry| entry.end > end) {
        frames += 1;
        keyframes += u64::from((entry.is_key || is_intra_only) && entry.position < i64::MAX);
    }
    (frames > 0).then_some(Completeness::MissingFrames { frames, keyframes, length })
}

/// Returns the length in bytes that the file's outermost structure announces.
fn announced_len(input: &mut Input) -> Result<Option<u64>, Error> {
    match input.container() {
        Container::Mp4 => mp4::announced_len(input),
        Container::Matroska => matroska::segment_end(input),
        Container::Avi => riff_len(input),
        Container::Asf => asf_len(input),
        _ => Ok(None),
    }
}

/// Returns what the last bytes of a file of `length` bytes show.
fn end_of(input: &mut Input, length: u64) -> Result<Completeness, Error> {
    let (size, judge): (usize, fn(&[u8]) -> Completeness) = match input.container() {
        Container::Ogg => (OGG_PAGE, ogg),
        Container::Gif => (PADDING, gif),
        Container::Flv => return flv(input, length),
        _ => return Ok(Completeness::Complete),
    };
    let mut tail = vec![0; size.min(usize::try_from(length).unwrap_or(size))];
    let count = input.read_at(length - tail.len() as u64, &mut tail)?;
    Ok(judge(&tail[..count]))
}

/// Returns the length in the RIFF header of an AVI file; `None` for a recording that was not closed, which has 0 there or the
/// largest number.
fn riff_len(input: &mut Input) -> Result<Option<u64>, Error> {
    let mut head = [0; 8];
    let count = input.read_at(0, &mut head)?;
    let size = head[..count].last_chunk::<4>().map(|size| u64::from(u32::from_le_bytes(*size)));
    Ok(size.filter(|&size| count == 8 && size > 0 && size < 0xffff_ff00).map(|size| size + 8))
}

/// Most objects of an ASF header that are read.
const MAX_ASF_OBJECTS: usize = 64;

/// Returns the length in the File Properties Object of an ASF file (Advanced Systems Format specification, 3.1 and 3.2); `None`
/// for a broadcast, which does not know it.
fn asf_len(input: &mut Input) -> Result<Option<u64>, Error> {
    const FILE_PROPERTIES: [u8; 16] =
        [0xa1, 0xdc, 0xab, 0x8c, 0x47, 0xa9, 0xcf, 0x11, 0x8e, 0xe4, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65];
    const HEADER_OBJECT: u64 = 30;
    let mut at = HEADER_OBJECT;
    for _ in 0..MAX_ASF_OBJECTS {
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

/// Longest page of an Ogg stream in bytes: header, table of 255 segments, 255 segments of 255 bytes (RFC 3533, section 6).
const OGG_PAGE: usize = 27 + 255 + 255 * 255;

/// Longest run of zeros behind a GIF's trailer that counts as padding.
const PADDING: usize = 4096;

/// Checks that the last page is whole and has the flag "end of stream" (RFC 3533, section 6, `header_type_flag`).
fn ogg(tail: &[u8]) -> Completeness {
    let Some(start) = memmem::rfind(tail, b"OggS") else { return Completeness::InsideElement };
    let page = &tail[start..];
    let (Some(&flags), Some(&segments)) = (page.get(5), page.get(26)) else { return Completeness::InsideElement };
    let Some(table) = page.get(27..27 + usize::from(segments)) else { return Completeness::InsideElement };
    let size = 27 + table.len() + table.iter().map(|length| usize::from(*length)).sum::<usize>();
    match page.len() == size {
        false => Completeness::InsideElement,
        true if flags & 4 != 0 => Completeness::Complete,
        true => Completeness::MissingEndMarker,
    }
}

/// Checks that the last byte is the trailer (GIF89a specification, section 27).
fn gif(tail: &[u8]) -> Completeness {
    match tail.iter().rfind(|byte| **byte != 0) {
        Some(0x3b) | None => Completeness::Complete,
        Some(_) => Completeness::MissingEndMarker,
    }
}

/// Checks that the last tag is followed by its size (Adobe Flash Video specification 10.1, E.3 and E.4.1).
fn flv(input: &mut Input, len: u64) -> Result<Completeness, Error> {
    const TAG_HEADER: u64 = 11;
    let mut size = [0; 4];
    let Some(end) = len.checked_sub(4) else { return Ok(Completeness::PerhapsInsideElement) };
    input.read_at(end, &mut size)?;
    let tag_size = u64::from(u32::from_be_bytes(size));
    let Some(start) = end.checked_sub(tag_size).filter(|_| tag_size >= TAG_HEADER) else {
        return Ok(Completeness::PerhapsInsideElement);
    };
    let mut tag = [0; 4];
    input.read_at(start, &mut tag)?;
    let [kind, s0, s1, s2] = tag;
    let is_tag =
        matches!(kind & 0x1f, 8 | 9 | 18) && u64::from(u32::from_be_bytes([0, s0, s1, s2])) + TAG_HEADER == tag_size;
    Ok(if is_tag { Completeness::Complete } else { Completeness::PerhapsInsideElement })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;
    use crate::av::input::test_files::unprobed;

    #[test]
    fn ogg_files_end_with_a_whole_page_that_says_so() {
        let page = |flags: u8| {
            let mut page = b"OggS\0".to_vec();
            page.push(flags);
            page.extend([0; 20]);
            page.extend([2, 3, 1, 9, 9, 9, 9]);
            page
        };
        let file = [page(2), page(4)].concat();
        assert_eq!(ogg(&file), Completeness::Complete);
        for cut in 1..page(4).len() {
            assert_eq!(ogg(&file[..file.len() - cut]), Completeness::InsideElement, "{cut} bytes less");
        }
        assert_eq!(ogg(&page(2)), Completeness::MissingEndMarker);
        assert_eq!(ogg(b""), Completeness::InsideElement);
    }

    #[test]
    fn gifs_end_with_a_trailer() {
        assert_eq!(
            (gif(b"x;"), gif(b"x;\0\0"), gif(b"x")),
            (Completeness::Complete, Completeness::Complete, Completeness::MissingEndMarker)
        );
    }

    #[test]
    fn objects_behind_many_others_are_not_examined() {
        let object =
            |guid: [u8; 16], content: &[u8]| [&guid[..], &(24 + content.len() as u64).to_le_bytes(), content].concat();
        let announced = |objects: usize| {
            let padding = object(*b"\x74\xd4\x06\x18\xdf\xca\x09\x45\xa4\xba\x9a\xab\xcb\x96\xaa\xe8", &[]);
            // The file's GUID and size, then dates, counts, durations and flags.
            let properties = [&[0; 16][..], &1_000_000_u64.to_le_bytes(), &[0; 56]].concat();
            let properties = object(*b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\0\xc0\x0c\x20\x53\x65", &properties);
            let objects = [padding.repeat(objects), properties].concat();
            let counts = [&66_u32.to_le_bytes()[..], &[1, 2], &objects].concat();
            let header = object(*b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c", &counts);
            let data = object(*b"\x36\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c", &[0; 26]);
            announced_len(&mut unprobed(&[header, data].concat()).unwrap()).unwrap()
        };
        assert_eq!(announced(MAX_ASF_OBJECTS - 1), Some(1_000_000));
        assert_eq!(announced(MAX_ASF_OBJECTS), None);
    }
}
