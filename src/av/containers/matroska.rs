// SPDX-License-Identifier: MIT OR Apache-2.0
//! Matroska and WebM: keyframes found by block headers alone.
//!
//! FFmpeg's demuxer reads every block to its end, also those it discards, and the file's own index (Cues) need not
//! name every keyframe. A walk over the headers reads a few dozen bytes for each block instead. What it finds goes into FFmpeg's
//! index, so that its demuxer can seek there.
//!
//! Format: RFC 8794 (EBML) and RFC 9559 (Matroska).

use crate::av::containers::jump::{
    Jump, JumpContext, Strategy, changes_parameters, read_next_keyframe, seek_demuxer, unbuffered,
};
use crate::av::containers::plausibility::Plausibility;
use crate::av::containers::unflagged::UnflaggedSearch;
use crate::av::error::Error;
use crate::av::input::Input;
use crate::av::input::packet::Packet;
use crate::av::input::video_stream::VideoStream;

/// Bytes read to parse one element's header and the head of a block.
const HEAD: usize = 32;

/// Largest list of tracks that is parsed, in bytes.
const TRACKS_BYTES: u64 = 1 << 20;

/// A file whose elements are on average smaller than this many bytes is not worth a walk, or was made to be slow.
const SMALL_ELEMENTS: u64 = 64;

/// Elements after which that average counts.
const MIN_ELEMENTS: u64 = 4096;

// Element IDs.
const SEGMENT: u64 = 0x1853_8067;
const TRACKS: u64 = 0x1654_AE6B;
const TRACK_ENTRY: u64 = 0xAE;
const TRACK_NUMBER: u64 = 0xD7;
const TRACK_TYPE: u64 = 0x83;
const CLUSTER: u64 = 0x1F43_B675;
const TIMESTAMP: u64 = 0xE7;
const SIMPLE_BLOCK: u64 = 0xA3;
const BLOCK_GROUP: u64 = 0xA0;
const BLOCK: u64 = 0xA1;
const REFERENCE_BLOCK: u64 = 0xFB;

/// Other elements at the top of a segment: index, tags, chapters, attachments, seek head, info, tracks.
const TOP_LEVEL: [u64; 7] = [0x1C53_BB6B, 0x1254_C367, 0x1043_A770, 0x1941_A469, 0x114D_9B74, 0x1549_A966, TRACKS];
/// Other elements in a cluster or a block group; the first two, void and checksum, may be anywhere.
const IGNORED: [u64; 14] = [0xEC, 0xBF, 0x9B, 0x75A2, 0x75A1, 0xA4, 0xAB, 0xA7, 0x5854, 0xFA, 0x8E, 0xAF, 0xA2, 0xFD];

const VIDEO: u64 = 1;

/// Returns the strategy for a Matroska file with a single video, where seeks are cheap.
pub(super) fn strategy(input: &mut Input, video: &VideoStream) -> Result<Option<Box<dyn Strategy>>, Error> {
    if !input.has_cheap_seeks() {
        return Ok(None);
    }
    let walker = Walker::new(input, video.is_intra_only())?;
    Ok(walker.map(|walker| Box::new(BlockStrategy { walker, ahead: None, last: None, is_at_start: true }) as _))
}

/// Jumps by block headers.
struct BlockStrategy {
    walker: Walker,
    /// The keyframe after the one delivered last, if it is known already.
    ahead: Option<Block>,
    /// The keyframe delivered last.
    last: Option<Delivered>,
    /// Nothing was read yet.
    is_at_start: bool,
}

/// A keyframe that was delivered.
#[derive(Clone, Copy)]
struct Delivered {
    /// Byte position.
    position: i64,
    /// Presentation time in units of the stream's time base.
    time: i64,
}

impl BlockStrategy {
    /// Reads the first keyframe, at the beginning or after a seek, and leaves the walk behind it.
    fn read_first(&mut self, search: &mut UnflaggedSearch, context: &mut JumpContext<'_>) -> Result<Jump, WalkError> {
        if !read_next_keyframe(context)? {
            return Ok(Jump::End);
        }
        let (Some(time), Some(position)) = (context.packet.pts(), context.packet.position()) else {
            return Ok(Jump::Lost);
        };
        if std::mem::take(&mut self.is_at_start) {
            // Also searches the frames before this keyframe.
            let mut next = self.walker.next(context.input, search)?;
            while next.is_some_and(|block| block.position < position) {
                next = self.walker.next(context.input, search)?;
            }
            self.ahead = next.filter(|block| block.position > position);
        }
        search.note_packet(context.packet);
        let cluster = context.video.indexed_position(time).filter(|&cluster| cluster < position);
        if let Some(cluster) = cluster.and_then(|cluster| u64::try_from(cluster).ok()) {
            self.walker.go_to(cluster);
        }
        self.last = Some(Delivered { position, time });
        Ok(Jump::Landed)
    }

    fn read_next(
        &mut self,
        last: Delivered,
        plausibility: &mut Plausibility,
        context: &mut JumpContext<'_>,
    ) -> Result<Jump, WalkError> {
        let mut is_adjacent = true;
        let mut before = last.time;
        let block = loop {
            let next = match self.ahead.take() {
                Some(block) => Some(block),
                None => self.walker.next(context.input, &mut plausibility.search)?,
            };
            let Some(block) = next else {
                let end = self.walker.last_time().unwrap_or(before);
                if before == last.time && plausibility.is_doubtful(end.saturating_sub(before), true) {
                    plausibility.begin_gap(None);
                    self.last = None;
                    return Ok(Jump::DoubtfulGap);
                }
                return Ok(Jump::End);
            };
            if block.position <= last.position {
                continue;
            }
            is_adjacent &= block.adjacent;
            let distance = block.time.saturating_sub(before);
            // Reading frame by frame from the last keyframe leads through the gap only if it begins there.
            if before == last.time && plausibility.is_doubtful(distance, false) {
                plausibility.begin_gap(Some(block.position));
                return Ok(Jump::DoubtfulGap);
            }
            plausibility.confirm(distance);
            // A block that is not later than the last is not too close to it either: times start over.
            if block.time >= context.earliest
                || block.time <= last.time
                || changes_parameters(block.position.saturating_add(block.head), context)?
            {
                break block;
            }
            is_adjacent = false;
            before = block.time;
        };
        if !is_adjacent {
            self.ahead = self.walker.next(context.input, &mut plausibility.search)?;
            context.video.add_to_index(block.cluster, block.time, true);
            // Asked for the last entry of its index, the demuxer reads to the end of the file in search of more.
            match self.ahead {
                Some(ahead) if ahead.time > block.time => context.video.add_to_index(ahead.cluster, ahead.time, true),
                _ => context.video.add_to_index(block.cluster, block.time.saturating_add(1), false),
            }
            if !unbuffered(context, |context| seek_demuxer(block.time, block.end, context))? {
                return Ok(Jump::Lost);
            }
        }
        if !read_next_keyframe(context)? || context.packet.position() != Some(block.position) {
            return Ok(Jump::Lost);
        }
        self.last = Some(Delivered { position: block.position, time: block.time });
        Ok(Jump::Landed)
    }
}

impl Strategy for BlockStrategy {
    fn next(&mut self, plausibility: &mut Plausibility, context: &mut JumpContext<'_>) -> Result<Jump, Error> {
        let jump = match self.last {
            None => self.read_first(&mut plausibility.search, context),
            Some(last) => self.read_next(last, plausibility, context),
        };
        match jump {
            Ok(jump) => Ok(jump),
            Err(WalkError::Irregular) => Ok(Jump::Lost),
            Err(WalkError::Input(error)) => Err(error),
        }
    }

    fn reset(&mut self) {
        (self.last, self.ahead, self.is_at_start) = (None, None, false);
    }

    fn resume_after(&mut self, _packet: &Packet, position: i64, time: i64) -> i64 {
        self.ahead = None;
        self.last.replace(Delivered { position, time }).map_or(0, |before| time.saturating_sub(before.time))
    }
}

/// A block of the video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    /// Byte position of its cluster.
    pub cluster: i64,
    /// Byte position of its content, which FFmpeg's demuxer reports as the packet's position.
    pub position: i64,
    /// Bytes of that content before the frame itself.
    pub head: i64,
    /// Byte position after it.
    pub end: i64,
    /// Presentation time in units of the stream's time base.
    pub time: i64,
    /// Whether no other frame of the video lies between it and the keyframe before.
    pub adjacent: bool,
}

impl Block {
    /// Returns byte position and size of the frame itself.
    fn frame(&self) -> (u64, u64) {
        let position = self.position.saturating_add(self.head);
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        (unsigned(position), unsigned(self.end.saturating_sub(position)))
    }
}

/// Walks over a file's blocks.
struct Walker {
    at: u64,
    /// Number of the video track in block headers.
    track: u64,
    cluster: Option<Cluster>,
    /// A block in a group: a keyframe unless a reference to another block follows in the group.
    in_group: Option<Block>,
    /// Every block is a keyframe, whatever its flag says: the codec has no other frames.
    is_intra_only: bool,
    /// Latest time of a block of the video.
    last_time: Option<i64>,
    /// Frames of the video since the last keyframe.
    others: u64,
    /// Elements read since `counted_from`.
    elements: u64,
    /// Byte position at which counting began.
    counted_from: u64,
}

/// Why a walk cannot go on.
enum WalkError {
    /// The file is damaged or truncated, or has a keyframe that is not flagged ([`UnflaggedSearch::has_found`]).
    Irregular,
    Input(Error),
}

impl From<Error> for WalkError {
    fn from(error: Error) -> Self {
        Self::Input(error)
    }
}

/// The cluster that the walk is in.
#[derive(Clone, Copy)]
struct Cluster {
    start: u64,
    /// Byte position after it, where the file states it.
    end: Option<u64>,
    time: i64,
}

struct Element {
    id: u64,
    /// `None` where it is unknown.
    size: Option<u64>,
    header: u64,
    head: [u8; HEAD],
    available: usize,
}

impl Element {
    /// Returns the first bytes of the content.
    fn content(&self) -> &[u8] {
        let header = usize::try_from(self.header).unwrap_or(HEAD);
        let content = self.head[..self.available].get(header..).unwrap_or_default();
        let size = self.size.and_then(|size| usize::try_from(size).ok()).unwrap_or(content.len());
        &content[..size.min(content.len())]
    }
}

impl Walker {
    /// Returns a walker over the file of `input`; `None` where it has not exactly one video, or anything is unusual.
    fn new(input: &mut Input, is_intra_only: bool) -> Result<Option<Self>, Error> {
        let mut at = 0;
        let mut track = None;
        // EBML header, segment, and what stands before the first cluster.
        for _ in 0..64 {
            let Some(element) = element_at(input, at)? else { break };
            match (element.id, element.size) {
                (SEGMENT, _) => at += element.header,
                (CLUSTER, _) => {
                    return Ok(track.map(|track| Self {
                        at,
                        track,
                        cluster: None,
                        in_group: None,
                        is_intra_only,
                        last_time: None,
                        others: 0,
                        elements: 0,
                        counted_from: at,
                    }));
                }
                (TRACKS, Some(size)) if size <= TRACKS_BYTES => {
                    track = only_video(&input.read_range(at + element.header, size)?);
                    at += element.header + size;
                }
                (_, Some(size)) => at = at.saturating_add(element.header).saturating_add(size),
                (_, None) => break,
            }
        }
        Ok(None)
    }

    /// Returns the latest presentation time of the blocks passed so far.
    fn last_time(&self) -> Option<i64> {
        self.last_time
    }

    /// Continues from the cluster at byte position `cluster`.
    fn go_to(&mut self, cluster: u64) {
        self.at = cluster;
        (self.cluster, self.in_group, self.others) = (None, None, 1);
        (self.elements, self.counted_from) = (0, cluster);
    }

    /// Returns the next keyframe; `None` at the end.
    fn next(&mut self, input: &mut Input, search: &mut UnflaggedSearch) -> Result<Option<Block>, WalkError> {
        loop {
            let Some(element) = element_at(input, self.at)? else {
                // Anywhere but at the end of the file it is a header that makes no sense, or one past the end.
                let is_end = input.byte_len() == Some(self.at);
                return if is_end { Ok(self.in_group.take()) } else { Err(WalkError::Irregular) };
            };
            self.elements += 1;
            if self.elements > MIN_ELEMENTS && (self.at - self.counted_from) / self.elements < SMALL_ELEMENTS {
                return Err(WalkError::Irregular);
            }
            let ends_group = matches!(element.id, CLUSTER | SIMPLE_BLOCK | BLOCK_GROUP | BLOCK);
            if let Some(found) = self.in_group.take_if(|_| ends_group) {
                search.note_keyframe(found.frame().1);
                return Ok(Some(found));
            }
            let start = self.at;
            self.at = self.at.saturating_add(element.header);
            match element.id {
                CLUSTER => {
                    let end = element.size.map(|size| self.at.saturating_add(size));
                    self.cluster = Some(Cluster { start, end, time: 0 });
                    continue;
                }
                BLOCK_GROUP => continue,
                TIMESTAMP => {
                    if let Some(Cluster { time, .. }) = &mut self.cluster {
                        *time = number(element.content())
                            .and_then(|time| i64::try_from(time).ok())
                            .ok_or(WalkError::Irregular)?;
                    }
                }
                REFERENCE_BLOCK => {
                    if let Some(other) = self.in_group.take() {
                        self.pass(other, input, search)?;
                    }
                }
                SIMPLE_BLOCK | BLOCK => {
                    let end = self.at.saturating_add(element.size.ok_or(WalkError::Irregular)?);
                    if let Some((found, flags)) =
                        self.block(element.content(), self.at, end).ok_or(WalkError::Irregular)?
                    {
                        self.last_time = self.last_time.max(Some(found.time));
                        let is_keyframe = self.is_intra_only || element.id == SIMPLE_BLOCK && flags & 0x80 != 0;
                        if is_keyframe || element.id == BLOCK {
                            self.at = end;
                            self.others = 0;
                            if is_keyframe {
                                search.note_keyframe(found.frame().1);
                                return Ok(Some(found));
                            }
                            self.in_group = Some(found);
                            continue;
                        }
                        self.pass(found, input, search)?;
                    }
                }
                id if TOP_LEVEL.contains(&id) => self.cluster = None,
                id if IGNORED.contains(&id) => {}
                _ => return Err(WalkError::Irregular),
            }
            self.at = self.at.saturating_add(element.size.ok_or(WalkError::Irregular)?);
            if self.cluster.and_then(|cluster| cluster.end).is_some_and(|end| self.at > end) {
                return Err(WalkError::Irregular);
            }
        }
    }

    /// Passes a frame that is not flagged as a keyframe.
    fn pass(&mut self, other: Block, input: &mut Input, search: &mut UnflaggedSearch) -> Result<(), WalkError> {
        self.others += 1;
        let (position, bytes) = other.frame();
        if search.is_keyframe(position, bytes, input)? { Err(WalkError::Irregular) } else { Ok(()) }
    }

    /// Returns a block and its flags, `Some(None)` for other tracks; `None` where it cannot be parsed.
    fn block(&self, content: &[u8], position: u64, end: u64) -> Option<Option<(Block, u8)>> {
        let (track, len) = vint(content, true)?;
        if track? != self.track {
            return Some(None);
        }
        let rest = content.get(len..)?;
        let &[high, low, flags, ..] = rest else { return None };
        let cluster = self.cluster?;
        if cluster.end.is_some_and(|cluster_end| end > cluster_end) {
            return None;
        }
        let time = cluster.time.checked_add(i16::from_be_bytes([high, low]).into())?;
        let (cluster, end) = (i64::try_from(cluster.start).ok()?, i64::try_from(end).ok()?);
        let (position, head) = (i64::try_from(position).ok()?, i64::try_from(len).ok()? + 3);
        Some(Some((Block { cluster, position, head, end, time, adjacent: self.others == 0 }, flags)))
    }
}

/// Returns the byte position after the segment, where the file states it.
pub(super) fn segment_end(input: &mut Input) -> Result<Option<u64>, Error> {
    let mut at = 0_u64;
    for _ in 0..8 {
        let Some(element) = element_at(input, at)? else { break };
        let end = element.size.map(|size| at.saturating_add(element.header).saturating_add(size));
        if element.id == SEGMENT {
            return Ok(end);
        }
        let Some(end) = end else { break };
        at = end;
    }
    Ok(None)
}

/// Returns the number of the only video track in the content of a `Tracks` element.
fn only_video(mut tracks: &[u8]) -> Option<u64> {
    let mut video = None;
    while let Some((id, content, rest)) = child(tracks) {
        tracks = rest;
        if id != TRACK_ENTRY {
            continue;
        }
        let (mut entry, mut track, mut kind) = (content, None, None);
        while let Some((id, content, rest)) = child(entry) {
            entry = rest;
            match id {
                TRACK_NUMBER => track = number(content),
                TRACK_TYPE => kind = number(content),
                _ => {}
            }
        }
        if kind == Some(VIDEO) && std::mem::replace(&mut video, track).is_some() {
            return None;
        }
    }
    video
}

/// Splits `bytes` into ID and content of the first element, and what follows it.
fn child(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (id, id_len) = vint(bytes, false)?;
    let (size, size_len) = vint(bytes.get(id_len..)?, true)?;
    let content = bytes.get(id_len + size_len..)?;
    let (content, rest) = content.split_at_checked(usize::try_from(size?).ok()?)?;
    Some((id?, content, rest))
}

/// Parses a number of variable length; returns it and the bytes that it takes. `is_size` removes the marker bit. The number is
/// `None` where all bits are set: size unknown.
fn vint(bytes: &[u8], is_size: bool) -> Option<(Option<u64>, usize)> {
    let &first = bytes.first()?;
    let len = first.leading_zeros() as usize + 1;
    if len > 8 {
        return None;
    }
    let value = bytes.get(..len)?.iter().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    if !is_size {
        return (len <= 4).then_some((Some(value), len));
    }
    let bits = 7 * u32::try_from(len).ok()?;
    let mask = (1_u64 << bits) - 1;
    Some(((value & mask != mask).then_some(value & mask), len))
}

/// Parses an unsigned integer of up to eight bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// Reads the element whose header starts at byte `at`; `None` at the end of the file.
fn element_at(input: &mut Input, at: u64) -> Result<Option<Element>, Error> {
    let mut head = [0; HEAD];
    let available = input.read_at(at, &mut head)?;
    let parsed = vint(&head[..available], false).and_then(|(id, id_len)| {
        let (size, size_len) = vint(&head[id_len..available], true)?;
        Some(Element { id: id?, size, header: (id_len + size_len) as u64, head, available })
    });
    Ok(parsed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;
    use crate::av::input::test_files::{element, matroska, track, unprobed};

    #[test]
    fn numbers_of_variable_length() {
        assert_eq!(vint(&[0x81], true), Some((Some(1), 1)));
        assert_eq!(vint(&[0x40, 0x02, 9], true), Some((Some(2), 2)));
        assert_eq!(vint(&[0x1A, 0x45, 0xDF, 0xA3], false), Some((Some(0x1A45_DFA3), 4)));
        assert_eq!(vint(&[0xff], true), Some((None, 1)));
        assert_eq!(vint(&[0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], true), Some((None, 8)));
        assert_eq!(vint(&[0x00; 9], true), None);
        assert_eq!(vint(&[0x40], true), None);
        assert_eq!(vint(&[], true), None);
    }

    #[test]
    fn the_only_video_is_found_among_tracks() {
        let video = [0xAE, 0x86, 0xD7, 0x81, 0x02, 0x83, 0x81, 0x01];
        let audio = [0xAE, 0x86, 0xD7, 0x81, 0x01, 0x83, 0x81, 0x02];
        assert_eq!(only_video(&[audio, video].concat()), Some(2));
        assert_eq!(only_video(&[video, video].concat()), None);
        assert_eq!(only_video(&audio), None);
        assert_eq!(only_video(&video[..5]), None);
    }

    #[test]
    fn a_long_list_of_tracks_is_not_parsed() {
        let video = track(1, 1, "V_MPEG4/ISO/AVC");
        for (extra, is_parsed) in [(0, true), (1, false)] {
            let void = 0xEC;
            let header = element(void, &[]).len();
            let padding = TRACKS_BYTES as usize - video.len() - header + extra;
            let file = matroska(&[&video[..], &element(void, &vec![0; padding])].concat(), &[]);
            let mut input = unprobed(&file).unwrap();
            assert_eq!(input.streams().len(), 1);
            assert_eq!(Walker::new(&mut input, false).unwrap().is_some(), is_parsed);
        }
    }
}
