// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jumping by the index that FFmpeg's demuxer holds, whatever the container.
//!
//! The next keyframe is looked up in the index and sought to. A container that uses this strategy says whether its index is
//! complete ([`IndexStrategy::new`]).

use std::ops::Range;

use crate::av::containers::jump::{
    Jump, JumpContext, Strategy, changes_parameters, read_next_keyframe, seek_demuxer, unbuffered,
};
use crate::av::containers::plausibility::Plausibility;
use crate::av::containers::unflagged::UnflaggedSearch;
use crate::av::error::Error;
use crate::av::input::Input;
use crate::av::input::container::Container;
use crate::av::input::packet::Packet;
use crate::av::input::video_stream::{IndexEntry, VideoStream};

/// Seeks for one keyframe before the index counts as unusable.
const MAX_SEEKS: usize = 6;

/// Whether the demuxer has the file's own index. Elsewhere FFmpeg builds an index from what it reads.
fn has_index(input: &Input, video: &VideoStream) -> bool {
    input.container() == Container::Mp4 && input.is_seekable() && video.index_len() > 0
}

/// Returns the number of keyframes in the container's index, where it has one that flags them. Edit lists may hide some.
pub(crate) fn indexed_keyframes(input: &Input, video: &VideoStream) -> Option<u64> {
    let is_intra_only = video.is_intra_only();
    let is_shown_keyframe = |entry: &IndexEntry| (entry.is_key || is_intra_only) && !entry.is_hidden;
    has_index(input, video).then(|| video.index_entries().filter(is_shown_keyframe).count() as u64)
}

impl IndexEntry {
    fn byte_len(&self) -> u64 {
        u64::try_from(self.end.saturating_sub(self.position)).unwrap_or(0)
    }

    /// Whether this sample is a keyframe that is not flagged as one.
    fn is_unflagged_keyframe(&self, search: &mut UnflaggedSearch, input: &mut Input) -> Result<bool, Error> {
        match u64::try_from(self.position) {
            Ok(position) if !self.is_key => search.is_keyframe(position, self.byte_len(), input),
            _ => Ok(false),
        }
    }
}

/// A sample in the index.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Its index number when it was last looked up: fragments may have put others before it since.
    number: usize,
    position: i64,
    dts: i64,
}

/// Jumps by the demuxer's index.
pub(super) struct IndexStrategy {
    /// What a seek adds to a keyframe's decoding time to land on it: the demuxer takes the target for a presentation time.
    shift: i64,
    /// The sample delivered last.
    last: Option<Sample>,
    /// Nothing was read yet.
    is_at_start: bool,
    /// Whether the index covers the whole file.
    is_complete: bool,
}

impl IndexStrategy {
    /// `is_complete` is false where more of the index may appear while the file is read (fragments).
    pub(super) fn new(is_complete: bool) -> Self {
        Self { shift: 0, last: None, is_at_start: true, is_complete }
    }

    /// Returns the number of a sample in the index as it is now.
    fn number_of(sample: Sample, video: &VideoStream) -> Option<usize> {
        let is_it = |number: &usize| {
            video.index_entry(*number).is_some_and(|entry| entry.position == sample.position && entry.dts == sample.dts)
        };
        Some(sample.number).filter(is_it).or_else(|| (0..video.index_len()).find(is_it))
    }

    /// Reads the next keyframe that the demuxer itself comes to.
    fn read_next(&mut self, context: &mut JumpContext<'_>) -> Result<Jump, Error> {
        if !read_next_keyframe(context)? {
            return Ok(Jump::End);
        }
        let packet = &context.packet;
        let (Some(dts), Some(pts), Some(position)) = (packet.dts(), packet.pts(), packet.position()) else {
            return Ok(Jump::Lost);
        };
        if self.last.is_none() {
            self.shift = pts.saturating_sub(dts);
        }
        self.last = Some(Sample { number: self.last.map_or(0, |last| last.number + 1), position, dts });
        Ok(Jump::Landed)
    }

    /// Reads the first keyframe, at the beginning or after a seek: the demuxer has skipped nothing yet.
    fn read_first(&mut self, search: &mut UnflaggedSearch, context: &mut JumpContext<'_>) -> Result<Jump, Error> {
        let jump = self.read_next(context)?;
        if let Some(first) = self.last.filter(|_| std::mem::take(&mut self.is_at_start)) {
            let end = Self::number_of(first, context.video).unwrap_or(0);
            if contains_unflagged_keyframe(0..end, search, context)? {
                return Ok(Jump::Unflagged);
            }
        }
        search.note_packet(context.packet);
        Ok(jump)
    }

    /// Reads on behind the end of an index that is not complete. What that gives has to be read again after a seek.
    fn read_past_index(
        &mut self,
        last: Sample,
        search: &mut UnflaggedSearch,
        context: &mut JumpContext<'_>,
    ) -> Result<Jump, Error> {
        match self.read_next(context)? {
            Jump::Landed => {
                let Some(landed) = self.last else { return Ok(Jump::Lost) };
                let numbers = Self::number_of(last, context.video).zip(Self::number_of(landed, context.video));
                let (from, to) = numbers.unwrap_or((0, 0));
                if contains_unflagged_keyframe(from + 1..to, search, context)? {
                    return Ok(Jump::Unflagged);
                }
                search.note_packet(context.packet);
                self.seek_to(landed, i64::MAX, context)
            }
            other => Ok(other),
        }
    }

    /// Seeks to a keyframe whose bytes end at `end`.
    fn seek_to(&mut self, target: Sample, end: i64, context: &mut JumpContext<'_>) -> Result<Jump, Error> {
        for _ in 0..MAX_SEEKS {
            if !seek_demuxer(target.dts.saturating_add(self.shift), end, context)? {
                break;
            }
            let Jump::Landed = self.read_next(context)? else { break };
            let Some(landed) = self.last else { break };
            if (landed.position, landed.dts) == (target.position, target.dts) {
                self.last = Some(Sample { number: target.number, ..landed });
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

impl Strategy for IndexStrategy {
    fn next(&mut self, plausibility: &mut Plausibility, context: &mut JumpContext<'_>) -> Result<Jump, Error> {
        let Some(last) = self.last else { return self.read_first(&mut plausibility.search, context) };
        let Some(number) = Self::number_of(last, context.video) else { return Ok(Jump::Lost) };
        let (mut before, mut end) = (last.dts, last.dts);
        for candidate in number + 1..context.video.index_len() {
            let Some(entry) = context.video.index_entry(candidate) else { break };
            end = end.max(entry.dts);
            if !entry.is_key {
                if entry.is_unflagged_keyframe(&mut plausibility.search, context.input)? {
                    return Ok(Jump::Unflagged);
                }
                continue;
            }
            plausibility.search.note_keyframe(entry.byte_len());
            let distance = entry.dts.saturating_sub(before);
            // Reading frame by frame from the last keyframe leads through the gap only if it begins there.
            if before == last.dts && plausibility.is_doubtful(distance, false) {
                plausibility.begin_gap(Some(entry.position));
                return Ok(Jump::DoubtfulGap);
            }
            plausibility.confirm(distance);
            // An entry that is not later than the last is not too close to it either: times start over.
            let is_wanted = entry.dts >= context.earliest || entry.dts <= last.dts;
            if !is_wanted && !changes_parameters(entry.position, context)? {
                before = entry.dts;
                continue;
            }
            if candidate == number + 1 {
                let jump = self.read_next(context)?;
                let is_there = context.packet.position() == Some(entry.position);
                return Ok(if matches!(jump, Jump::Landed) && !is_there { Jump::Lost } else { jump });
            }
            let target = Sample { number: candidate, position: entry.position, dts: entry.dts };
            // The demuxer moves in the file when it reads.
            return unbuffered(context, |context| self.seek_to(target, entry.end, context));
        }
        if !self.is_complete {
            return self.read_past_index(last, &mut plausibility.search, context);
        }
        if before == last.dts && plausibility.is_doubtful(end.saturating_sub(before), true) {
            plausibility.begin_gap(None);
            return Ok(Jump::DoubtfulGap);
        }
        Ok(Jump::End)
    }

    fn reset(&mut self) {
        (self.last, self.is_at_start) = (None, false);
    }

    fn resume_after(&mut self, packet: &Packet, position: i64, time: i64) -> i64 {
        let dts = packet.dts().unwrap_or(time);
        let before = self.last.replace(Sample { number: 0, position, dts });
        before.map_or(dts, |before| dts.saturating_sub(before.dts))
    }
}

/// Whether a keyframe that is not flagged is among the samples of these numbers, which the demuxer has passed.
fn contains_unflagged_keyframe(
    numbers: Range<usize>,
    search: &mut UnflaggedSearch,
    context: &mut JumpContext<'_>,
) -> Result<bool, Error> {
    for number in numbers {
        let Some(entry) = context.video.index_entry(number) else { break };
        if entry.is_unflagged_keyframe(search, context.input)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;
    use crate::av::input::test_files::{bytes_of, file_of, opened};

    #[test]
    fn a_keyframe_that_no_seek_leads_to_is_given_up() {
        let mut input = opened(file_of(&bytes_of("examples/media/scenes.mp4"))).unwrap();
        let video = input.best_video().unwrap();
        input.select(&video, true);
        let keyframes: Vec<IndexEntry> = video.index_entries().filter(|entry| entry.is_key).collect();
        let mut packet = Packet::new().unwrap();
        let (input, packet) = (&mut input, &mut packet);
        let mut context = JumpContext { input, video: &video, packet, sets: None, earliest: i64::MIN };
        let mut strategy = IndexStrategy::new(true);
        let sample = |dts: i64| Sample { number: 1, position: keyframes[1].position, dts };
        let jump = strategy.seek_to(sample(keyframes[1].dts), i64::MAX, &mut context).unwrap();
        assert!(matches!(jump, Jump::Landed));
        // Between two keyframes: seeks lead to the one and the other in turn.
        let between = (keyframes[1].dts + keyframes[2].dts) / 2;
        let before = context.input.bytes_read();
        let jump = unbuffered(&mut context, |context| strategy.seek_to(sample(between), i64::MAX, context)).unwrap();
        assert!(matches!(jump, Jump::Lost));
        let read = context.input.bytes_read() - before;
        let longest = keyframes.iter().map(IndexEntry::byte_len).max().unwrap();
        assert!((1..=MAX_SEEKS as u64 * longest).contains(&read), "{read} bytes");
    }
}
