// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keyframes that the container does not flag as such.
//!
//! An index or block header that omits keyframes would hide them, since nothing else of the file is read. A keyframe is much
//! larger than the frames around it, and sizes are known without reading: a frame of about a keyframe's size is read and parsed.
//! The first that proves to be a keyframe shows that the container's flags are wrong; after a few that prove not to be, the search
//! stops, so that it costs little in files whose frames are all of similar size.
//!
//! Thread rule: one thread at a time.

use crate::av::error::Error;
use crate::av::input::Input;
use crate::av::input::packet::Packet;
use crate::av::input::parser::Parser;
use crate::av::input::video_stream::VideoStream;

/// Frames read in vain before the container's flags are trusted.
const MAX_TRIES: u32 = 8;

/// A frame is a candidate from this fraction (1/n) of the last keyframe's size.
const SHARE_OF_KEYFRAME: u64 = 3;

/// And from this many times the mean size of the frames since that keyframe.
const TIMES_MEAN: u64 = 2;

/// Largest frame that is read, in bytes.
const MAX_BYTES: u64 = 8 << 20;

/// Searches the frames that a container does not flag for keyframes.
pub(super) struct UnflaggedSearch {
    parser: Option<Parser>,
    tries: u32,
    keyframe_bytes: u64,
    /// Number and total size of the frames since the last keyframe.
    others: u64,
    other_bytes: u64,
    has_found: bool,
}

impl UnflaggedSearch {
    pub(crate) fn new(video: &VideoStream) -> Result<Self, Error> {
        Ok(Self {
            parser: Parser::new(video)?,
            tries: 0,
            keyframe_bytes: 0,
            others: 0,
            other_bytes: 0,
            has_found: false,
        })
    }

    /// Whether an unflagged keyframe was found.
    pub(super) fn has_found(&self) -> bool {
        self.has_found
    }

    /// Records a flagged keyframe of `bytes` bytes.
    pub(super) fn note_keyframe(&mut self, bytes: u64) {
        (self.keyframe_bytes, self.others, self.other_bytes) = (bytes, 0, 0);
    }

    /// Records a flagged keyframe that was read. Encrypted video cannot be searched.
    pub(super) fn note_packet(&mut self, packet: &Packet) {
        if packet.is_encrypted() {
            self.parser = None;
        }
        self.note_keyframe(packet.byte_len());
    }

    /// Whether the unflagged frame of `bytes` bytes at byte `position` is a keyframe. Reads it only if its size suggests so.
    pub(crate) fn is_keyframe(&mut self, position: u64, bytes: u64, input: &mut Input) -> Result<bool, Error> {
        let (count, sum) = (self.others, self.other_bytes);
        (self.others, self.other_bytes) = (count + 1, sum.saturating_add(bytes));
        let is_large = bytes.saturating_mul(SHARE_OF_KEYFRAME) >= self.keyframe_bytes
            && bytes.saturating_mul(count) >= sum.saturating_mul(TIMES_MEAN);
        // The first frame after a keyframe has no other to be compared with; the first of a file needs none.
        if !is_large || count == 0 && self.keyframe_bytes > 0 || self.tries >= MAX_TRIES || bytes > MAX_BYTES {
            return Ok(false);
        }
        let Some(parser) = &mut self.parser else { return Ok(false) };
        let frame = input.read_range(position, bytes)?;
        self.has_found = parser.parse_bytes(frame).is_key;
        self.tries += u32::from(!self.has_found);
        Ok(self.has_found)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;
    use crate::av::input::test_files::{bytes_of, file_of, opened};

    /// Passes a keyframe, a small frame and one of `bytes` bytes, all zeros. Returns the bytes read to examine the last.
    fn examined(search: &mut UnflaggedSearch, bytes: u64, input: &mut Input) -> u64 {
        let before = input.bytes_read();
        search.note_keyframe(bytes);
        assert!(!search.is_keyframe(0, 1, input).unwrap());
        let position = input.byte_len().unwrap() - bytes;
        assert!(!search.is_keyframe(position, bytes, input).unwrap());
        input.bytes_read() - before
    }

    /// Opens a clip that is followed by zeros.
    fn open() -> (Input, UnflaggedSearch) {
        let file = file_of(&bytes_of("examples/media/scenes.mp4"));
        file.set_len(4 * MAX_BYTES).unwrap();
        let mut input = opened(file).unwrap();
        let search = UnflaggedSearch::new(&input.best_video().unwrap()).unwrap();
        (input, search)
    }

    #[test]
    fn the_search_ends_after_some_frames_in_vain() {
        let (mut input, mut search) = open();
        for _ in 0..MAX_TRIES {
            assert_eq!(examined(&mut search, 1000, &mut input), 1000);
        }
        assert_eq!(examined(&mut search, 1000, &mut input), 0);
    }

    #[test]
    fn large_frames_are_not_read() {
        let (mut input, mut search) = open();
        assert_eq!(examined(&mut search, MAX_BYTES + 1, &mut input), 0);
        assert_eq!(examined(&mut search, MAX_BYTES, &mut input), MAX_BYTES);
    }
}
