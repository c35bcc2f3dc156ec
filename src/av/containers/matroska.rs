//! Where the keyframes of a Matroska or WebM file are, read from its block headers alone.
//!
//! FFmpeg's demuxer reads every block to its end, also those it discards, and the file's own index (Cues) need not
//! name every keyframe. A walk over the headers reads a few dozen bytes for each block instead.
//!
//! Format: RFC 8794 (EBML) and RFC 9559 (Matroska).

use crate::av::containers::unmarked::Search;
use crate::av::error::Error;
use crate::av::input::Input;

/// Bytes read to parse one element's header and the head of a block.
const HEAD: usize = 32;

/// Largest list of tracks that is looked at.
const TRACKS_BYTES: u64 = 1 << 20;

/// A file whose elements are on average smaller than this is not worth a walk, or made to be slow.
const SMALL_ELEMENTS: u64 = 64;

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

/// What else may stand at the top of a segment: index, tags, chapters, attachments, seek head, info, tracks.
const TOP_LEVEL: [u64; 7] = [0x1C53_BB6B, 0x1254_C367, 0x1043_A770, 0x1941_A469, 0x114D_9B74, 0x1549_A966, TRACKS];
/// What else may stand in a cluster or a block group; the first two anywhere: void and checksum.
const PASSED_OVER: [u64; 14] =
    [0xEC, 0xBF, 0x9B, 0x75A2, 0x75A1, 0xA4, 0xAB, 0xA7, 0x5854, 0xFA, 0x8E, 0xAF, 0xA2, 0xFD];

const VIDEO: u64 = 1;

/// A keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Byte position of its cluster.
    pub cluster: i64,
    /// Byte position of its block's content, as FFmpeg's demuxer has it of the packet.
    pub position: i64,
    /// Bytes of that content before the frame's own.
    pub head: i64,
    /// Byte position after it.
    pub end: i64,
    /// Its presentation time in units of the stream's time base.
    pub time: i64,
    /// Whether no other frame of the video lies between it and the keyframe before.
    pub adjacent: bool,
}

impl Found {
    /// Byte position and size of the frame itself.
    fn frame(&self) -> (u64, u64) {
        let position = self.position.saturating_add(self.head);
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        (unsigned(position), unsigned(self.end.saturating_sub(position)))
    }
}

/// A walk over a file's blocks.
pub(super) struct Walker {
    at: u64,
    /// Number of the video track in block headers.
    track: u64,
    cluster: Option<Cluster>,
    /// A block in a group: it is a keyframe unless a reference to another follows in the group.
    in_group: Option<Found>,
    /// Every block is a keyframe, whatever its flag says: the codec knows no other frames.
    is_intra_only: bool,
    /// Latest time of a block of the video.
    last_time: Option<i64>,
    /// Frames of the video since the last keyframe.
    others: u64,
    /// Elements read, and where counting began.
    effort: (u64, u64),
}

/// The cluster that the walk is in.
#[derive(Clone, Copy)]
struct Cluster {
    start: u64,
    /// Byte position after it, where the file says so.
    end: Option<u64>,
    time: i64,
}

struct Element {
    id: u64,
    /// `None` where the file does not say.
    size: Option<u64>,
    header: u64,
    head: [u8; HEAD],
    available: usize,
}

impl Element {
    /// The first bytes of the content.
    fn content(&self) -> &[u8] {
        let header = usize::try_from(self.header).unwrap_or(HEAD);
        let content = self.head[..self.available].get(header..).unwrap_or_default();
        let size = self.size.and_then(|size| usize::try_from(size).ok()).unwrap_or(content.len());
        &content[..size.min(content.len())]
    }
}

impl Walker {
    /// Over the file of `input`, if it is one with a single video. `None` also where something is unusual.
    pub(crate) fn new(input: &mut Input, is_intra_only: bool) -> Result<Option<Self>, Error> {
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
                        effort: (0, at),
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

    /// Latest presentation time of the blocks passed so far.
    pub(super) fn last_time(&self) -> Option<i64> {
        self.last_time
    }

    /// Goes on from the cluster at byte position `cluster`.
    pub(super) fn go_to(&mut self, cluster: u64) {
        self.at = cluster;
        (self.cluster, self.in_group, self.others) = (None, None, 1);
        self.effort = (0, cluster);
    }

    /// The next keyframe; `None` at the end. `Err(None)` where the file is not as it should be: damaged, cut, or with a keyframe
    /// that is not marked ([`Search::has_found`]).
    pub(crate) fn next(&mut self, input: &mut Input, search: &mut Search) -> Result<Option<Found>, Option<Error>> {
        loop {
            let Some(element) = element_at(input, self.at).map_err(Some)? else {
                // Anywhere but at the end of the file it is a header that makes no sense, or one past the end.
                let is_end = input.byte_len() == Some(self.at);
                return if is_end { Ok(self.in_group.take()) } else { Err(None) };
            };
            self.effort.0 += 1;
            if self.effort.0 > 4096 && (self.at - self.effort.1) / self.effort.0 < SMALL_ELEMENTS {
                return Err(None);
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
                        *time = number(element.content()).and_then(|time| i64::try_from(time).ok()).ok_or(None)?;
                    }
                }
                REFERENCE_BLOCK => {
                    if let Some(other) = self.in_group.take() {
                        self.pass(other, input, search)?;
                    }
                }
                SIMPLE_BLOCK | BLOCK => {
                    let end = self.at.saturating_add(element.size.ok_or(None)?);
                    if let Some((found, flags)) = self.block(element.content(), self.at, end).ok_or(None)? {
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
                id if PASSED_OVER.contains(&id) => {}
                _ => return Err(None),
            }
            self.at = self.at.saturating_add(element.size.ok_or(None)?);
            if self.cluster.and_then(|cluster| cluster.end).is_some_and(|end| self.at > end) {
                return Err(None);
            }
        }
    }

    /// Passes over a frame that is not marked as a keyframe.
    fn pass(&mut self, other: Found, input: &mut Input, search: &mut Search) -> Result<(), Option<Error>> {
        self.others += 1;
        let (position, bytes) = other.frame();
        if search.is_keyframe(position, bytes, input).map_err(Some)? { Err(None) } else { Ok(()) }
    }

    /// Time and flags of a block, `Some(None)` for other tracks; `None` where it cannot be read.
    fn block(&self, content: &[u8], position: u64, end: u64) -> Option<Option<(Found, u8)>> {
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
        Some(Some((Found { cluster, position, head, end, time, adjacent: self.others == 0 }, flags)))
    }
}

/// Byte position after the segment, where the file says so.
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

/// Number of the only video track in the content of a `Tracks` element.
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

/// ID and content of the first element in `bytes`, and what follows it.
fn child(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (id, id_len) = vint(bytes, false)?;
    let (size, size_len) = vint(bytes.get(id_len..)?, true)?;
    let content = bytes.get(id_len + size_len..)?;
    let (content, rest) = content.split_at_checked(usize::try_from(size?).ok()?)?;
    Some((id?, content, rest))
}

/// A number of variable length and how many bytes it takes, with the marker bit cut off for sizes. The number is `None`
/// where all bits are set: size unknown.
fn vint(bytes: &[u8], cut: bool) -> Option<(Option<u64>, usize)> {
    let &first = bytes.first()?;
    let len = first.leading_zeros() as usize + 1;
    if len > 8 {
        return None;
    }
    let value = bytes.get(..len)?.iter().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    if !cut {
        return (len <= 4).then_some((Some(value), len));
    }
    let bits = 7 * u32::try_from(len).ok()?;
    let mask = (1_u64 << bits) - 1;
    Some(((value & mask != mask).then_some(value & mask), len))
}

/// An unsigned integer of up to eight bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// The element whose header starts at byte `at`; `None` at the end of the file.
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
mod tests {
    use super::*;

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
}
