//! Keyframes named instead of decoded: where they are and how large, for no more than reading them.

use super::error::Error;
use super::keyframes::KeyframeReader;

/// A keyframe as the container has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Presentation time of the container in nanoseconds; may be negative or unknown.
    pub pts_ns: Option<i64>,
    /// Bytes of its packet.
    pub bytes: u64,
}

impl KeyframeReader {
    /// The next keyframe that [`next`](Self::next) would hand to a decoder, whatever `max_frames` says; `None` at the end. A reader
    /// is for one or the other.
    ///
    /// # Errors
    /// [`Error::Interrupted`], [`Error::Encrypted`], an error of the source or of the container.
    pub fn list_next(&mut self) -> Result<Option<Listed>, Error> {
        while !self.interrupt.is_set() {
            if !self.read()? {
                return Ok(None);
            }
            let is_of_video = self.packet.stream_index() == self.video.index() && self.packet.byte_len() > 0;
            let time = self.packet.timestamp();
            let is_known = self.known_until.zip(time).is_some_and(|(known, time)| time <= known);
            if !is_of_video || !self.packet.is_key() || is_known {
                continue;
            }
            if self.packet.is_encrypted() {
                return Err(Error::Encrypted);
            }
            self.last_read = time;
            if self.follows_too_closely(time) {
                continue;
            }
            self.last_taken = time.map(|time| (time, self.packet.dts().unwrap_or(time)));
            let pts_ns = time.and_then(|time| self.to_ns(time));
            return Ok(Some(Listed { pts_ns, bytes: self.packet.byte_len() }));
        }
        Err(Error::Interrupted)
    }
}
