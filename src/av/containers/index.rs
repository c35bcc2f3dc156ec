//! From keyframe to keyframe, without reading what lies between.
//!
//! **mp4 and mov**, by their index. Told to discard what is not a keyframe, FFmpeg's mov demuxer skips samples without reading
//! them, but does not count their composition offsets (`ctts`): every keyframe after the first skip then carries the presentation
//! time offset of some other sample (libavformat/mov.c, `mov_read_packet`; 5.1 to 7.1). A seek sets that count right. So the next
//! keyframe is looked up in the index and sought to, which reads nothing in between either.
//!
//! **Matroska and WebM**, by their block headers (see matroska.rs), where jumps in the file are free. What is found goes
//! into FFmpeg's index, so that its demuxer can be sent there.
//!
//! Places in a file are told by byte position, never by time: times repeat and go back in files that were concatenated, edited
//! or damaged, and a demuxer can only be sent to a time. Where it lands elsewhere the jump is given up ([`Jump::Lost`]). Every
//! jump leads to an index entry or a block behind the last one, so there are no more jumps than entries or blocks.

use std::ops::Range;

use crate::av::containers::matroska::{Found, Walker};
use crate::av::containers::unmarked::Search;
use crate::av::error::Error;
use crate::av::input::Input;
use crate::av::input::packet::Packet;
use crate::av::input::parameter_sets::ParameterSets;
use crate::av::input::video_stream::{IndexEntry, VideoStream};

/// Top-level boxes looked at to tell whether there are fragments.
const BOXES: usize = 64;

/// Seeks for one keyframe before the index is held to be unusable.
const TRIES: usize = 6;

/// Bytes of a keyframe that is skipped in which parameter sets are looked for.
const HEAD_BYTES: usize = 512;

/// Keyframes further apart than this, or twice as far as any before, are doubted. The common encoders put one every 250 frames
/// (x264 and x265), which is 42 s at the 6 frames a second of cameras that watch. Shorter gaps are searched by size alone
/// (unmarked.rs).
const DOUBTFUL_SECONDS: i64 = 42;

/// The same for a file with a single keyframe.
const DOUBTFUL_SECONDS_ALONE: i64 = 2;

/// Finds and reads the keyframes of a file, and nothing else of it.
pub(crate) struct Jumper {
    way: Way,
    spacing: Spacing,
    search: Search,
    /// Where the stretch ends that is read frame by frame because its length is doubtful; `None` for the end of the file.
    gap_end: Option<i64>,
}

enum Way {
    Index(IndexJumper),
    Blocks(BlockJumper),
}

/// What a [`Jumper`] came to.
pub(crate) enum Jump {
    /// The next keyframe is in the packet.
    Landed,
    /// The end of the file.
    End,
    /// The container names no keyframe for implausibly long: read frame by frame until [`Jumper::ends_gap`].
    Doubt,
    /// The index does not lead there: read the file from front to back.
    Lost,
    /// The container does not mark all keyframes: read the file from front to back.
    Unmarked,
}

/// What a jump has to work with.
pub(crate) struct Reach<'a> {
    pub(crate) input: &'a mut Input,
    pub(crate) video: &'a VideoStream,
    pub(crate) packet: &'a mut Packet,
    /// Parameter sets in force, where the codec has them: a keyframe that changes them is not skipped.
    pub(crate) sets: Option<&'a ParameterSets>,
    /// Keyframes decoded before this time need not be read.
    pub(crate) earliest: i64,
}

impl Jumper {
    /// For `input` if its container is of a kind that allows it.
    pub(crate) fn new(input: &mut Input, video: &VideoStream) -> Result<Option<Self>, Error> {
        let (spacing, search) = (Spacing::new(video.time_base()), Search::new(video)?);
        if let Some(jumper) = IndexJumper::new(input, video)? {
            return Ok(Some(Self { way: Way::Index(jumper), spacing, search, gap_end: None }));
        }
        let is_matroska = input.container_names().split(',').any(|name| name == "matroska");
        if !is_matroska || !input.jumps_are_free() {
            return Ok(None);
        }
        let walker = Walker::new(input, video.is_intra_only())?;
        let way = |walker| Way::Blocks(BlockJumper { walker, ahead: None, last: None, is_at_start: true });
        Ok(walker.map(|walker| Self { way: way(walker), spacing, search, gap_end: None }))
    }

    /// Forgets where it was, as after a seek.
    pub(crate) fn reset(&mut self) {
        self.gap_end = None;
        match &mut self.way {
            Way::Index(jumper) => (jumper.last, jumper.is_at_start) = (None, false),
            Way::Blocks(jumper) => (jumper.last, jumper.ahead, jumper.is_at_start) = (None, None, false),
        }
    }

    /// Reads the next keyframe.
    pub(crate) fn next(&mut self, reach: &mut Reach<'_>) -> Result<Jump, Error> {
        let (spacing, search, gap_end) = (&mut self.spacing, &mut self.search, &mut self.gap_end);
        let jump = match &mut self.way {
            Way::Index(jumper) => jumper.next(spacing, search, gap_end, reach)?,
            Way::Blocks(jumper) => jumper.next(spacing, search, gap_end, reach)?,
        };
        if self.search.has_found() {
            return Ok(Jump::Unmarked);
        }
        self.spacing.keyframes += u64::from(matches!(jump, Jump::Landed));
        Ok(jump)
    }

    /// Whether a packet that was read within a doubtful gap is the keyframe at its end, from where jumping goes on: the gap is
    /// what the container says it is.
    pub(crate) fn ends_gap(&mut self, packet: &Packet) -> bool {
        if self.gap_end.is_none() || packet.position() != self.gap_end {
            return false;
        }
        let (Some(position), Some(time)) = (packet.position(), packet.timestamp()) else { return false };
        self.gap_end = None;
        self.spacing.keyframes += 1;
        let before = match &mut self.way {
            Way::Index(jumper) => {
                let dts = packet.dts().unwrap_or(time);
                jumper.last.replace(At { number: 0, position, dts }).map_or(dts, |last| dts.saturating_sub(last.dts))
            }
            Way::Blocks(jumper) => {
                jumper.ahead = None;
                jumper.last.replace((position, time)).map_or(0, |last| time.saturating_sub(last.1))
            }
        };
        self.spacing.longest = self.spacing.longest.max(before);
        true
    }
}

/// How far apart keyframes were so far.
struct Spacing {
    keyframes: u64,
    /// Longest distance that turned out to be right.
    longest: i64,
    doubtful: i64,
    doubtful_alone: i64,
}

impl Spacing {
    fn new((num, den): (i64, i64)) -> Self {
        let units = |seconds: i64| seconds.saturating_mul(den) / num.max(1);
        let (doubtful, doubtful_alone) = (units(DOUBTFUL_SECONDS), units(DOUBTFUL_SECONDS_ALONE));
        Self { keyframes: 0, longest: 0, doubtful, doubtful_alone }
    }

    fn is_doubtful(&self, distance: i64, is_last: bool) -> bool {
        let limit = if is_last && self.keyframes <= 1 { self.doubtful_alone } else { self.doubtful };
        distance > limit.max(self.longest.saturating_mul(2))
    }
}

impl IndexEntry {
    fn byte_len(&self) -> u64 {
        u64::try_from(self.end.saturating_sub(self.position)).unwrap_or(0)
    }

    /// Whether this sample, which is not marked, is a keyframe.
    fn is_unmarked_keyframe(&self, search: &mut Search, input: &mut Input) -> Result<bool, Error> {
        match u64::try_from(self.position) {
            Ok(position) if !self.is_key => search.is_keyframe(position, self.byte_len(), input),
            _ => Ok(false),
        }
    }
}

/// The next keyframe that the demuxer itself comes to; false at the end.
fn read_on(reach: &mut Reach<'_>) -> Result<bool, Error> {
    while reach.input.read(reach.packet)? {
        let packet = &reach.packet;
        if packet.stream_index() == reach.video.index() && packet.is_key() && packet.byte_len() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the keyframe at byte `position` changes parameter sets.
fn changes_parameters(position: i64, reach: &mut Reach<'_>) -> Result<bool, Error> {
    let (Some(sets), Ok(position)) = (reach.sets, u64::try_from(position)) else { return Ok(false) };
    let mut head = [0; HEAD_BYTES];
    let count = reach.input.read_at(position, &mut head)?;
    Ok(sets.would_change(&head[..count]))
}

/// By the block headers of a Matroska file.
struct BlockJumper {
    walker: Walker,
    /// The keyframe after the one handed out last, if it is known already.
    ahead: Option<Found>,
    /// Byte position and presentation time of the last packet handed out.
    last: Option<(i64, i64)>,
    /// Nothing was read yet.
    is_at_start: bool,
}

impl BlockJumper {
    fn next(
        &mut self,
        spacing: &mut Spacing,
        search: &mut Search,
        gap_end: &mut Option<i64>,
        reach: &mut Reach<'_>,
    ) -> Result<Jump, Error> {
        let Some((last_position, last_time)) = self.last else {
            // The first keyframe, at the beginning or after a seek, comes as it is.
            if !read_on(reach)? {
                return Ok(Jump::End);
            }
            let (Some(time), Some(position)) = (reach.packet.pts(), reach.packet.position()) else {
                return Ok(Jump::Lost);
            };
            if std::mem::take(&mut self.is_at_start) {
                // The walk ends at this keyframe, and on its way searches the frames before it.
                loop {
                    match self.walker.next(reach.input, search) {
                        Ok(Some(found)) if found.position < position => {}
                        Ok(found) => {
                            self.ahead = found.filter(|found| found.position > position);
                            break;
                        }
                        Err(Some(error)) => return Err(error),
                        Err(None) => return Ok(Jump::Lost),
                    }
                }
            }
            search.note_packet(reach.packet);
            let cluster = reach.video.indexed_position(time).filter(|&cluster| cluster < position);
            if let Some(cluster) = cluster.and_then(|cluster| u64::try_from(cluster).ok()) {
                self.walker.go_to(cluster);
            }
            self.last = Some((position, time));
            return Ok(Jump::Landed);
        };
        let mut adjacent = true;
        let mut before = last_time;
        let found = loop {
            let found = match self.ahead.take() {
                Some(found) => Some(found),
                None => match self.walker.next(reach.input, search) {
                    Ok(found) => found,
                    Err(Some(error)) => return Err(error),
                    Err(None) => return Ok(Jump::Lost),
                },
            };
            let Some(found) = found else {
                let end = self.walker.last_time().unwrap_or(before);
                if adjacent_gap(before, last_time) && spacing.is_doubtful(end.saturating_sub(before), true) {
                    *gap_end = None;
                    self.last = None;
                    return Ok(Jump::Doubt);
                }
                return Ok(Jump::End);
            };
            if found.position <= last_position {
                continue;
            }
            adjacent &= found.adjacent;
            let distance = found.time.saturating_sub(before);
            if adjacent_gap(before, last_time) && spacing.is_doubtful(distance, false) {
                *gap_end = Some(found.position);
                return Ok(Jump::Doubt);
            }
            spacing.longest = spacing.longest.max(distance);
            // What is not later than the last is not too close to it either: times start over.
            if found.time >= reach.earliest
                || found.time <= last_time
                || changes_parameters(found.position.saturating_add(found.head), reach)?
            {
                break found;
            }
            adjacent = false;
            before = found.time;
        };
        if !adjacent {
            self.ahead = match self.walker.next(reach.input, search) {
                Ok(ahead) => ahead,
                Err(Some(error)) => return Err(error),
                Err(None) => return Ok(Jump::Lost),
            };
            reach.video.add_to_index(found.cluster, found.time, true);
            // Asked for the last entry of its index, the demuxer reads to the end of the file in search of more.
            match self.ahead {
                Some(ahead) if ahead.time > found.time => reach.video.add_to_index(ahead.cluster, ahead.time, true),
                _ => reach.video.add_to_index(found.cluster, found.time.saturating_add(1), false),
            }
            if !directly(reach, |reach| jump_to(found.time, found.end, reach))? {
                return Ok(Jump::Lost);
            }
        }
        if !read_on(reach)? || reach.packet.position() != Some(found.position) {
            return Ok(Jump::Lost);
        }
        self.last = Some((found.position, found.time));
        Ok(Jump::Landed)
    }
}

/// Whether the keyframe before a gap is the one handed out last, from where reading on leads through the gap.
fn adjacent_gap(before: i64, last: i64) -> bool {
    before == last
}

/// Sends the demuxer to a time, reading no further than byte `end`; false where it cannot go there.
fn jump_to(time: i64, end: i64, reach: &mut Reach<'_>) -> Result<bool, Error> {
    reach.input.set_fence(end);
    match reach.input.seek(reach.video, time) {
        Ok(()) => Ok(true),
        Err(Error::Call { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Does what reads no more than it needs.
fn directly<T>(reach: &mut Reach<'_>, what: impl FnOnce(&mut Reach<'_>) -> T) -> T {
    reach.input.set_direct(true);
    let done = what(reach);
    reach.input.set_direct(false);
    done
}

/// A sample in the index.
#[derive(Debug, Clone, Copy)]
struct At {
    /// Its number when it was looked up last: fragments may have put others before it since.
    number: usize,
    position: i64,
    dts: i64,
}

/// By the index that FFmpeg holds of an mp4 or mov file.
struct IndexJumper {
    /// What a seek must ask for beyond a keyframe's decoding time to land on it: the demuxer takes the target for a
    /// presentation time.
    shift: i64,
    /// The last packet handed out.
    last: Option<At>,
    /// Nothing was read yet.
    is_at_start: bool,
    /// Whether the index is that of the whole file: no fragments follow that have their own.
    is_complete: bool,
}

impl IndexJumper {
    /// For `input` if its container is of the kind, its bytes can be sought, and there is an index.
    fn new(input: &mut Input, video: &VideoStream) -> Result<Option<Self>, Error> {
        let applies = input.container_names().split(',').any(|name| name == "mp4") && input.is_seekable();
        if !applies || video.index_len() == 0 {
            return Ok(None);
        }
        let is_complete = input.jumps_are_free() && !has_fragments(input)?;
        Ok(Some(Self { shift: 0, last: None, is_at_start: true, is_complete }))
    }

    /// The number of the last packet in the index as it is now.
    fn number_of(&self, last: At, video: &VideoStream) -> Option<usize> {
        let is_it = |number: &usize| {
            video.index_entry(*number).is_some_and(|entry| entry.position == last.position && entry.dts == last.dts)
        };
        Some(last.number).filter(is_it).or_else(|| (0..video.index_len()).find(is_it))
    }

    fn next(
        &mut self,
        spacing: &mut Spacing,
        search: &mut Search,
        gap_end: &mut Option<i64>,
        reach: &mut Reach<'_>,
    ) -> Result<Jump, Error> {
        let Some(last) = self.last else {
            // Nothing has been skipped yet: the first keyframe comes as it is.
            let jump = self.read_on(reach)?;
            if let Some(at) = self.last.filter(|_| std::mem::take(&mut self.is_at_start)) {
                let end = self.number_of(at, reach.video).unwrap_or(0);
                if passes_keyframe(0..end, search, reach)? {
                    return Ok(Jump::Unmarked);
                }
            }
            search.note_packet(reach.packet);
            return Ok(jump);
        };
        let Some(number) = self.number_of(last, reach.video) else { return Ok(Jump::Lost) };
        let (mut before, mut end) = (last.dts, last.dts);
        for candidate in number + 1..reach.video.index_len() {
            let Some(entry) = reach.video.index_entry(candidate) else { break };
            end = end.max(entry.dts);
            if !entry.is_key {
                if entry.is_unmarked_keyframe(search, reach.input)? {
                    return Ok(Jump::Unmarked);
                }
                continue;
            }
            search.note_keyframe(entry.byte_len());
            let distance = entry.dts.saturating_sub(before);
            if adjacent_gap(before, last.dts) && spacing.is_doubtful(distance, false) {
                *gap_end = Some(entry.position);
                return Ok(Jump::Doubt);
            }
            spacing.longest = spacing.longest.max(distance);
            // What is not later than the last is not too close to it either: times start over.
            let is_wanted = entry.dts >= reach.earliest || entry.dts <= last.dts;
            if !is_wanted && !changes_parameters(entry.position, reach)? {
                before = entry.dts;
                continue;
            }
            if candidate == number + 1 {
                let jump = self.read_on(reach)?;
                let is_there = reach.packet.position() == Some(entry.position);
                return Ok(if matches!(jump, Jump::Landed) && !is_there { Jump::Lost } else { jump });
            }
            let target = At { number: candidate, position: entry.position, dts: entry.dts };
            // The demuxer moves in the file when it reads.
            return directly(reach, |reach| self.seek_to(target, entry.end, reach));
        }
        if self.is_complete {
            if adjacent_gap(before, last.dts) && spacing.is_doubtful(end.saturating_sub(before), true) {
                *gap_end = None;
                return Ok(Jump::Doubt);
            }
            return Ok(Jump::End);
        }
        // The index ends here. A fragmented file goes on; what it gives has to be read again after a seek.
        match self.read_on(reach)? {
            Jump::Landed => {
                let Some(at) = self.last else { return Ok(Jump::Lost) };
                let numbers = self.number_of(last, reach.video).zip(self.number_of(at, reach.video));
                let (from, to) = numbers.unwrap_or((0, 0));
                if passes_keyframe(from + 1..to, search, reach)? {
                    return Ok(Jump::Unmarked);
                }
                search.note_packet(reach.packet);
                self.seek_to(at, i64::MAX, reach)
            }
            other => Ok(other),
        }
    }

    /// The next keyframe that the demuxer itself comes to.
    fn read_on(&mut self, reach: &mut Reach<'_>) -> Result<Jump, Error> {
        if !read_on(reach)? {
            return Ok(Jump::End);
        }
        let packet = &reach.packet;
        let (Some(dts), Some(pts), Some(position)) = (packet.dts(), packet.pts(), packet.position()) else {
            return Ok(Jump::Lost);
        };
        if self.last.is_none() {
            self.shift = pts.saturating_sub(dts);
        }
        self.last = Some(At { number: self.last.map_or(0, |last| last.number + 1), position, dts });
        Ok(Jump::Landed)
    }

    /// Seeks to a keyframe whose bytes end at `end`.
    fn seek_to(&mut self, target: At, end: i64, reach: &mut Reach<'_>) -> Result<Jump, Error> {
        for _ in 0..TRIES {
            if !jump_to(target.dts.saturating_add(self.shift), end, reach)? {
                break;
            }
            let Jump::Landed = self.read_on(reach)? else { break };
            let Some(landed) = self.last else { break };
            if (landed.position, landed.dts) == (target.position, target.dts) {
                self.last = Some(At { number: target.number, ..landed });
                return Ok(Jump::Landed);
            }
            if landed.dts == target.dts {
                break;
            }
            self.shift = self.shift.saturating_add(target.dts.saturating_sub(landed.dts));
        }
        Ok(Jump::Lost)
    }
}

/// Whether a keyframe that is not marked is among the samples of these numbers, which the demuxer has passed.
fn passes_keyframe(numbers: Range<usize>, search: &mut Search, reach: &mut Reach<'_>) -> Result<bool, Error> {
    for number in numbers {
        let Some(entry) = reach.video.index_entry(number) else { break };
        if entry.is_unmarked_keyframe(search, reach.input)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether there are movie fragments (`moof`) among the top-level boxes of an ISO file. True also where that cannot be
/// told.
fn has_fragments(input: &mut Input) -> Result<bool, Error> {
    let mut boxes = crate::av::containers::length::Boxes::new();
    for _ in 0..BOXES {
        let Some(found) = boxes.next(input)? else { return Ok(false) };
        if found.kind == *b"moof" || found.end.is_none() {
            return Ok(found.kind == *b"moof" || found.is_broken);
        }
    }
    Ok(true)
}
