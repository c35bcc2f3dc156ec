//! Keyframes that the container does not mark as such.
//!
//! An index or block header that forgets some keyframes would hide them, since nothing else of the file is read. A keyframe is
//! much larger than the frames around it, and sizes are known without reading: a frame of about a keyframe's size is read and
//! parsed. The first that proves to be a keyframe shows that the container's marks are wrong; a few that prove not to be end
//! the search, so that it costs little in files whose frames are all of similar size.
//!
//! Thread rule: one thread at a time.

use crate::av::error::Error;
use crate::av::input::Input;
use crate::av::input::packet::Packet;
use crate::av::input::parser::Parser;
use crate::av::input::video_stream::VideoStream;

/// Frames read for nothing before the container's marks are trusted.
const TRIES: u32 = 8;

/// A frame is suspect from this share of the last keyframe's size.
const SHARE_OF_KEYFRAME: u64 = 3;

/// And from this many times the mean size of the frames since that keyframe.
const TIMES_MEAN: u64 = 2;

/// Largest frame that is read.
const MOST_BYTES: u64 = 8 << 20;

/// Searches the frames that a container does not mark for keyframes.
pub(super) struct Search {
    parser: Option<Parser>,
    tries: u32,
    keyframe_bytes: u64,
    /// Number and size of the frames since the last keyframe.
    others: (u64, u64),
    has_found: bool,
}

impl Search {
    pub(crate) fn new(video: &VideoStream) -> Result<Self, Error> {
        Ok(Self { parser: Parser::new(video)?, tries: 0, keyframe_bytes: 0, others: (0, 0), has_found: false })
    }

    /// Whether an unmarked keyframe was found.
    pub(super) fn has_found(&self) -> bool {
        self.has_found
    }

    /// Notes a marked keyframe of `bytes` bytes.
    pub(super) fn note_keyframe(&mut self, bytes: u64) {
        (self.keyframe_bytes, self.others) = (bytes, (0, 0));
    }

    /// Notes a marked keyframe that was read. What is encrypted cannot be searched.
    pub(super) fn note_packet(&mut self, packet: &Packet) {
        if packet.is_encrypted() {
            self.parser = None;
        }
        self.note_keyframe(packet.byte_len());
    }

    /// Returns whether the unmarked frame of `bytes` bytes at byte `position` is a keyframe. Reads it only if its size suggests so.
    pub(crate) fn is_keyframe(&mut self, position: u64, bytes: u64, input: &mut Input) -> Result<bool, Error> {
        let (count, sum) = self.others;
        self.others = (count + 1, sum.saturating_add(bytes));
        let is_large = bytes.saturating_mul(SHARE_OF_KEYFRAME) >= self.keyframe_bytes
            && bytes.saturating_mul(count) >= sum.saturating_mul(TIMES_MEAN);
        // The frame after a keyframe has none to be compared with; the first of a file needs none.
        if !is_large || count == 0 && self.keyframe_bytes > 0 || self.tries >= TRIES || bytes > MOST_BYTES {
            return Ok(false);
        }
        let Some(parser) = &mut self.parser else { return Ok(false) };
        let frame = input.read_range(position, bytes)?;
        self.has_found = parser.parse_bytes(frame).is_key;
        self.tries += u32::from(!self.has_found);
        Ok(self.has_found)
    }
}
