// SPDX-License-Identifier: MIT OR Apache-2.0
//! MP4, QuickTime and other ISO base media files: top-level boxes, fragments, and how their keyframes are found.
//!
//! Told to discard what is not a keyframe, FFmpeg's mov demuxer skips samples without reading them, but does not count their
//! composition offsets (`ctts`): every keyframe after the first skip then carries the presentation time offset of some other
//! sample (libavformat/mov.c, `mov_read_packet`; 5.1 to 7.1). A seek resets that count. So keyframes are found by the index
//! (index.rs), which reads nothing in between either.
//!
//! Format: ISO/IEC 14496-12.

use crate::av::containers::index::IndexStrategy;
use crate::av::containers::jump::Strategy;
use crate::av::error::Error;
use crate::av::input::Input;
use crate::av::input::video_stream::VideoStream;

/// Most top-level boxes that are read.
const MAX_BOXES: usize = 64;

/// Returns the strategy for an MP4 file, if its bytes can be sought and it has an index.
pub(super) fn strategy(input: &mut Input, video: &VideoStream) -> Result<Option<Box<dyn Strategy>>, Error> {
    if !input.is_seekable() || video.index_len() == 0 {
        return Ok(None);
    }
    // Each fragment has an index of its own.
    let is_complete = input.has_cheap_seeks() && !has_fragments(input)?;
    Ok(Some(Box::new(IndexStrategy::new(is_complete))))
}

/// Returns the length in bytes that the last fragment announces. The size of a media data box is not checked: it may be wrong in
/// an intact file, and the index is more reliable.
pub(super) fn announced_len(input: &mut Input) -> Result<Option<u64>, Error> {
    let mut boxes = Boxes::new();
    let mut last = None;
    for _ in 0..MAX_BOXES {
        match boxes.next(input)? {
            Some(found) => last = found.end.filter(|_| found.kind == *b"moof"),
            None => break,
        }
    }
    Ok(last)
}

/// Whether there are movie fragments (`moof`) among the top-level boxes. True also where that cannot be determined.
fn has_fragments(input: &mut Input) -> Result<bool, Error> {
    let mut boxes = Boxes::new();
    for _ in 0..MAX_BOXES {
        let Some(found) = boxes.next(input)? else { return Ok(false) };
        if found.kind == *b"moof" || found.end.is_none() {
            return Ok(found.kind == *b"moof" || found.is_broken);
        }
    }
    Ok(true)
}

/// A top-level box (ISO/IEC 14496-12 4.2).
struct TopLevelBox {
    kind: [u8; 4],
    /// Byte position after it; `None` where it runs to the end of the file, or its size is invalid.
    end: Option<u64>,
    /// Its size is invalid.
    is_broken: bool,
}

/// Walks over the top-level boxes.
struct Boxes {
    position: Option<u64>,
}

impl Boxes {
    fn new() -> Self {
        Self { position: Some(0) }
    }

    /// Returns the next box; `None` at the end of the file.
    fn next(&mut self, input: &mut Input) -> Result<Option<TopLevelBox>, Error> {
        let Some(position) = self.position else { return Ok(None) };
        let mut head = [0; 16];
        let count = input.read_at(position, &mut head)?;
        let Some((header, long)) = head[..count].split_first_chunk::<8>() else { return Ok(None) };
        let [s0, s1, s2, s3, kind @ ..] = *header;
        let size = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => None,
            1 => Some(long.first_chunk::<8>().map_or(0, |size| u64::from_be_bytes(*size))),
            size => Some(size.into()),
        };
        let is_broken = size.is_some_and(|size| size < 8);
        let end = size.filter(|_| !is_broken).map(|size| position.saturating_add(size));
        self.position = end;
        Ok(Some(TopLevelBox { kind, end, is_broken }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;
    use crate::av::input::test_files::{bytes_of, file_of, opened};

    #[test]
    fn boxes_behind_many_others_are_not_examined() {
        let clip = bytes_of("examples/media/scenes.mp4");
        // An empty box, and the header of a fragment of which the rest is missing.
        let (free, fragment) = (b"\0\0\0\x08free", b"\0\0\x10\0moof\0\0\0\x10mfhd\0\0\0\0\0\0\0\x01");
        let announced = |count: usize| {
            let file = [&clip[..], &free.repeat(count), fragment].concat();
            let mut input = opened(file_of(&file)).unwrap();
            (announced_len(&mut input).unwrap().map(|len| len - file.len() as u64), has_fragments(&mut input).unwrap())
        };
        let mut boxes = Boxes::new();
        let mut input = opened(file_of(&clip)).unwrap();
        let count = std::iter::from_fn(|| boxes.next(&mut input).unwrap()).count();
        let missing = 0x1000 - fragment.len() as u64;
        assert_eq!(announced(MAX_BOXES - count - 1), (Some(missing), true));
        assert_eq!(announced(MAX_BOXES - count), (None, true));
    }
}
