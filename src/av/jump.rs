//! From keyframe to keyframe, without reading what lies between.
//!
//! **mp4 and mov**, by their index. Told to discard what is not a keyframe, FFmpeg's mov demuxer skips samples without reading them, but does not count
//! their composition offsets (`ctts`): every keyframe after the first skip then carries the presentation time offset of
//! some other sample (libavformat/mov.c, `mov_read_packet`; 5.1 to 7.1). A seek sets that count right. So the next
//! keyframe is looked up in the index and sought to, which reads nothing in between either.
//!
//! **Matroska and WebM**, by their block headers (see matroska.rs), where jumps in the file are free. What is found goes
//! into FFmpeg's index, so that its demuxer can be sent there.

use super::error::Error;
use super::input::Input;
use super::matroska::{Found, Walker};
use super::packet::Packet;
use super::video_stream::VideoStream;

/// Top-level boxes looked at to tell whether there are fragments.
const BOXES: usize = 64;

/// Seeks for one keyframe before the index is held to be unusable.
const TRIES: usize = 6;

/// Finds and reads the keyframes of a file, and nothing else of it.
pub(super) enum Jumper {
    Index(IndexJumper),
    Blocks(BlockJumper),
}

impl Jumper {
    /// For `input` if its container is of a kind that allows it.
    pub(super) fn new(input: &mut Input, video: &VideoStream) -> Result<Option<Self>, Error> {
        if let Some(jumper) = IndexJumper::new(input, video)? {
            return Ok(Some(Self::Index(jumper)));
        }
        let is_matroska = input.container_names().split(',').any(|name| name == "matroska");
        if !is_matroska || !input.jumps_are_free() {
            return Ok(None);
        }
        let walker = Walker::new(input)?;
        Ok(walker.map(|walker| Self::Blocks(BlockJumper { walker, ahead: None, last: None })))
    }

    /// Forgets where it was, as after a seek.
    pub(super) fn reset(&mut self) {
        match self {
            Self::Index(jumper) => jumper.last = None,
            Self::Blocks(jumper) => (jumper.last, jumper.ahead) = (None, None),
        }
    }

    /// Reads the next keyframe of `video` into `packet`; those decoded before `earliest` need not be read.
    pub(super) fn next(
        &mut self,
        earliest: i64,
        input: &mut Input,
        video: &VideoStream,
        packet: &mut Packet,
    ) -> Result<Jump, Error> {
        match self {
            Self::Index(jumper) => jumper.next(earliest, input, video, packet),
            Self::Blocks(jumper) => jumper.next(earliest, input, video, packet),
        }
    }
}

/// The next keyframe that the demuxer itself comes to; false at the end.
fn read_on(input: &mut Input, video: &VideoStream, packet: &mut Packet) -> Result<bool, Error> {
    while input.read(packet)? {
        if packet.stream_index() == video.index() && packet.is_key() && packet.byte_len() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// By the block headers of a Matroska file.
pub(super) struct BlockJumper {
    walker: Walker,
    /// The keyframe after the one handed out last, if it is known already.
    ahead: Option<Found>,
    /// Presentation time of the last packet handed out.
    last: Option<i64>,
}

impl BlockJumper {
    fn next(
        &mut self,
        earliest: i64,
        input: &mut Input,
        video: &VideoStream,
        packet: &mut Packet,
    ) -> Result<Jump, Error> {
        let Some(last) = self.last else {
            // The first keyframe, at the beginning or after a seek, comes as it is.
            if !read_on(input, video, packet)? {
                return Ok(Jump::End);
            }
            let Some(time) = packet.pts() else { return Ok(Jump::Lost) };
            if let Some(position) = video.indexed_position(time).and_then(|position| u64::try_from(position).ok()) {
                self.walker.go_to(position);
            }
            self.last = Some(time);
            return Ok(Jump::Landed);
        };
        let mut adjacent = true;
        let found = loop {
            let found = match self.ahead.take() {
                Some(found) => Some(found),
                None => match self.walker.next(input) {
                    Ok(found) => found,
                    Err(Some(error)) => return Err(error),
                    Err(None) => return Ok(Jump::Lost),
                },
            };
            let Some(found) = found else { return Ok(Jump::End) };
            if found.time > last {
                adjacent &= found.adjacent;
                if found.time >= earliest {
                    break found;
                }
                adjacent = false;
            }
        };
        if !adjacent {
            self.ahead = match self.walker.next(input) {
                Ok(ahead) => ahead,
                Err(Some(error)) => return Err(error),
                Err(None) => return Ok(Jump::Lost),
            };
            video.add_to_index(found.cluster, found.time, true);
            // Asked for the last entry of its index, the demuxer reads to the end of the file in search of more.
            match self.ahead {
                Some(ahead) => video.add_to_index(ahead.cluster, ahead.time, true),
                None => video.add_to_index(found.cluster, found.time.saturating_add(1), false),
            }
            input.set_fence(found.end);
            input.set_direct(true);
            let sought = input.seek(video, found.time);
            input.set_direct(false);
            sought?;
        }
        if !read_on(input, video, packet)? || packet.pts() != Some(found.time) {
            return Ok(Jump::Lost);
        }
        self.last = Some(found.time);
        Ok(Jump::Landed)
    }
}

/// By the index that FFmpeg holds of an mp4 or mov file.
pub(super) struct IndexJumper {
    /// What a seek must ask for beyond a keyframe's decoding time to land on it: the demuxer takes the target for a
    /// presentation time.
    shift: i64,
    /// Decoding time of the last packet handed out.
    last: Option<i64>,
    /// Whether the index is that of the whole file: no fragments follow that have their own.
    is_complete: bool,
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

impl IndexJumper {
    /// For `input` if its container is of the kind, its bytes can be sought, and there is an index.
    fn new(input: &mut Input, video: &VideoStream) -> Result<Option<Self>, Error> {
        let applies = input.container_names().split(',').any(|name| name == "mp4") && input.is_seekable();
        if !applies || video.index_len() == 0 {
            return Ok(None);
        }
        let is_complete = input.jumps_are_free() && !has_fragments(input)?;
        Ok(Some(Self { shift: 0, last: None, is_complete }))
    }

    fn next(
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
            Some(next) => {
                input.set_fence(next.end);
                input.set_direct(true);
                let jump = self.seek_to(next.dts, input, video, packet);
                input.set_direct(false);
                jump
            }
            None if self.is_complete => Ok(Jump::End),
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
        if !read_on(input, video, packet)? {
            return Ok(Jump::End);
        }
        let (Some(dts), Some(pts)) = (packet.dts(), packet.pts()) else { return Ok(Jump::Lost) };
        if self.last.is_none() {
            self.shift = pts.saturating_sub(dts);
        }
        self.last = Some(dts);
        Ok(Jump::Landed)
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

/// Whether there are movie fragments (`moof`) among the top-level boxes of an ISO file. True also where that cannot be
/// told.
fn has_fragments(input: &mut Input) -> Result<bool, Error> {
    let mut at = 0_u64;
    for _ in 0..BOXES {
        let mut head = [0; 16];
        let count = input.read_at(at, &mut head)?;
        let Some((header, long)) = head[..count].split_first_chunk::<8>() else { return Ok(false) };
        let [s0, s1, s2, s3, kind @ ..] = *header;
        let size = match u32::from_be_bytes([s0, s1, s2, s3]) {
            // To the end of the file.
            0 => return Ok(kind == *b"moof"),
            1 => long.first_chunk::<8>().map_or(0, |size| u64::from_be_bytes(*size)),
            size => size.into(),
        };
        if kind == *b"moof" || size < 8 {
            return Ok(true);
        }
        at = at.saturating_add(size);
    }
    Ok(true)
}
