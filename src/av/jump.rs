//! From keyframe to keyframe in an mp4 or mov file, by its index.
//!
//! Told to discard what is not a keyframe, FFmpeg's mov demuxer skips samples without reading them, but does not count
//! their composition offsets (`ctts`): every keyframe after the first skip then carries the presentation time offset of
//! some other sample (libavformat/mov.c, `mov_read_packet`; 5.1 to 7.1). A seek sets that count right. So the next
//! keyframe is looked up in the index and sought to, which reads nothing in between either.

use super::error::Error;
use super::input::Input;
use super::packet::Packet;
use super::video_stream::VideoStream;

/// Seeks for one keyframe before the index is held to be unusable.
const TRIES: usize = 6;

/// Finds and reads the keyframes of a file whose index FFmpeg holds.
pub(super) struct Jumper {
    /// What a seek must ask for beyond a keyframe's decoding time to land on it: the demuxer takes the target for a
    /// presentation time.
    shift: i64,
    /// Decoding time of the last packet handed out.
    last: Option<i64>,
}

/// What a [`Jumper`] came to.
pub(super) enum Jump {
    /// The next keyframe is in the packet.
    Landed,
    /// The end of the file.
    End,
    /// The index does not lead there: read on from front to back.
    Lost,
}

impl Jumper {
    /// For `input` if its container is of the kind, its bytes can be sought, and there is an index.
    pub(super) fn new(input: &Input, video: &VideoStream) -> Option<Self> {
        let applies = input.container_names().split(',').any(|name| name == "mp4") && input.is_seekable();
        (applies && video.index_len() > 0).then_some(Self { shift: 0, last: None })
    }

    /// Decoding time of the last keyframe handed out.
    pub(super) fn last(&self) -> Option<i64> {
        self.last
    }

    /// Forgets where it was, as after a seek.
    pub(super) fn reset(&mut self) {
        self.last = None;
    }

    /// Reads the next keyframe of `video` into `packet`; those decoded before `earliest` need not be read.
    pub(super) fn next(
        &mut self,
        earliest: i64,
        input: &mut Input,
        video: &VideoStream,
        packet: &mut Packet,
    ) -> Result<Jump, Error> {
        let Some(last) = self.last else {
            // Nothing has been skipped yet: the first keyframe comes as it is.
            return self.read_on(input, video, packet);
        };
        match video.next_keyframe(last, earliest) {
            Some(next) if next.adjacent => self.read_on(input, video, packet),
            Some(next) => self.seek_to(next.dts, input, video, packet),
            // The index ends here. A fragmented file goes on; what it gives has to be read again after a seek.
            None => match self.read_on(input, video, packet)? {
                Jump::Landed => match packet.dts() {
                    Some(dts) => self.seek_to(dts, input, video, packet),
                    None => Ok(Jump::Lost),
                },
                other => Ok(other),
            },
        }
    }

    /// The next keyframe that the demuxer itself comes to.
    fn read_on(&mut self, input: &mut Input, video: &VideoStream, packet: &mut Packet) -> Result<Jump, Error> {
        while input.read(packet)? {
            if packet.stream_index() == video.index() && packet.is_key() && packet.byte_len() > 0 {
                let (Some(dts), Some(pts)) = (packet.dts(), packet.pts()) else { return Ok(Jump::Lost) };
                if self.last.is_none() {
                    self.shift = pts.saturating_sub(dts);
                }
                self.last = Some(dts);
                return Ok(Jump::Landed);
            }
        }
        Ok(Jump::End)
    }

    fn seek_to(
        &mut self,
        dts: i64,
        input: &mut Input,
        video: &VideoStream,
        packet: &mut Packet,
    ) -> Result<Jump, Error> {
        let before = self.last;
        for _ in 0..TRIES {
            input.seek(video, dts.saturating_add(self.shift))?;
            let Jump::Landed = self.read_on(input, video, packet)? else { break };
            let landed = packet.dts().unwrap_or(dts);
            if landed == dts {
                return Ok(Jump::Landed);
            }
            self.shift = self.shift.saturating_add(dts.saturating_sub(landed));
        }
        self.last = before;
        Ok(Jump::Lost)
    }
}
