// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading from keyframe to keyframe without reading what lies between.
//!
//! [`Jumper`] is the same for all containers. How a container's keyframes are found is a [`Strategy`]; [`strategy_for`] lists
//! them. Other containers are read from front to back.
//!
//! Positions in a file are byte positions, never times: times repeat and go back in files that were concatenated, edited or
//! damaged, and a demuxer can only seek to a time. Where it lands elsewhere the jump is given up ([`Jump::Lost`]). Every jump
//! leads to an index entry or a block behind the last one, so there are no more jumps than entries or blocks.

use crate::av::containers::plausibility::Plausibility;
use crate::av::containers::{matroska, mp4};
use crate::av::error::Error;
use crate::av::input::Input;
use crate::av::input::container::Container;
use crate::av::input::packet::Packet;
use crate::av::input::parameter_sets::ParameterSets;
use crate::av::input::video_stream::VideoStream;

/// Bytes of a skipped keyframe that are searched for parameter sets.
const HEAD_BYTES: usize = 512;

/// Finds the keyframes in one kind of container.
pub(super) trait Strategy: Send {
    /// Reads the next keyframe.
    fn next(&mut self, plausibility: &mut Plausibility, context: &mut JumpContext<'_>) -> Result<Jump, Error>;

    /// Forgets the position, as after a seek.
    fn reset(&mut self);

    /// Continues after `packet`, the keyframe at the end of a gap that was read frame by frame. Returns the length of the gap in
    /// units of the stream's time base.
    fn resume_after(&mut self, packet: &Packet, position: i64, time: i64) -> i64;
}

/// Returns the strategy for the container of `input`; `None` where its files are read from front to back.
fn strategy_for(input: &mut Input, video: &VideoStream) -> Result<Option<Box<dyn Strategy>>, Error> {
    match input.container() {
        Container::Mp4 => mp4::strategy(input, video),
        Container::Matroska => matroska::strategy(input, video),
        _ => Ok(None),
    }
}

/// Finds and reads the keyframes of a file, and nothing else of it.
pub(crate) struct Jumper {
    strategy: Box<dyn Strategy>,
    plausibility: Plausibility,
}

/// Result of a jump.
pub(crate) enum Jump {
    /// The next keyframe is in the packet.
    Landed,
    /// The end of the file.
    End,
    /// The container names no keyframe for implausibly long: read frame by frame until [`Jumper::ends_gap`].
    DoubtfulGap,
    /// The index does not lead there: read the file from front to back.
    Lost,
    /// The container does not flag all keyframes: read the file from front to back.
    Unflagged,
}

/// What a jump works with.
pub(crate) struct JumpContext<'a> {
    pub(crate) input: &'a mut Input,
    pub(crate) video: &'a VideoStream,
    pub(crate) packet: &'a mut Packet,
    /// Parameter sets in force, where the codec has them: a keyframe that changes them is not skipped.
    pub(crate) sets: Option<&'a ParameterSets>,
    /// Keyframes whose decoding time is before this need not be read.
    pub(crate) earliest: i64,
}

impl Jumper {
    /// Returns a jumper for `input`, or `None` if there is no strategy for its container.
    pub(crate) fn new(input: &mut Input, video: &VideoStream) -> Result<Option<Self>, Error> {
        let Some(strategy) = strategy_for(input, video)? else { return Ok(None) };
        Ok(Some(Self { strategy, plausibility: Plausibility::new(video)? }))
    }

    /// Forgets the position, as after a seek.
    pub(crate) fn reset(&mut self) {
        self.plausibility.begin_gap(None);
        self.strategy.reset();
    }

    /// Reads the next keyframe.
    pub(crate) fn next(&mut self, context: &mut JumpContext<'_>) -> Result<Jump, Error> {
        let jump = self.strategy.next(&mut self.plausibility, context)?;
        if self.plausibility.search.has_found() {
            return Ok(Jump::Unflagged);
        }
        if matches!(jump, Jump::Landed) {
            self.plausibility.count_keyframe();
        }
        Ok(jump)
    }

    /// Whether a packet that was read within a doubtful gap is the keyframe at its end. Jumping then continues from there: the
    /// container is right about the gap.
    pub(crate) fn ends_gap(&mut self, packet: &Packet) -> bool {
        let gap_end = self.plausibility.gap_end();
        if gap_end.is_none() || packet.position() != gap_end {
            return false;
        }
        let (Some(position), Some(time)) = (packet.position(), packet.timestamp()) else { return false };
        self.plausibility.begin_gap(None);
        self.plausibility.count_keyframe();
        let distance = self.strategy.resume_after(packet, position, time);
        self.plausibility.confirm(distance);
        true
    }
}

/// Reads the next keyframe that the demuxer itself comes to; false at the end.
pub(super) fn read_next_keyframe(context: &mut JumpContext<'_>) -> Result<bool, Error> {
    while context.input.read(context.packet)? {
        let packet = &context.packet;
        if packet.stream_index() == context.video.index() && packet.is_key() && packet.byte_len() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the keyframe at byte `position` changes parameter sets.
pub(super) fn changes_parameters(position: i64, context: &mut JumpContext<'_>) -> Result<bool, Error> {
    let (Some(sets), Ok(position)) = (context.sets, u64::try_from(position)) else { return Ok(false) };
    let mut head = [0; HEAD_BYTES];
    let count = context.input.read_at(position, &mut head)?;
    Ok(sets.would_change(&head[..count]))
}

/// Seeks the demuxer to a time, reading no further than byte `end`; false where it cannot go there.
pub(super) fn seek_demuxer(time: i64, end: i64, context: &mut JumpContext<'_>) -> Result<bool, Error> {
    context.input.limit_read_ahead(end);
    match context.input.seek(context.video, time) {
        Ok(()) => Ok(true),
        Err(Error::Call { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Runs `action` with reads that take no more bytes than they need.
pub(super) fn unbuffered<T>(context: &mut JumpContext<'_>, action: impl FnOnce(&mut JumpContext<'_>) -> T) -> T {
    context.input.set_unbuffered(true);
    let result = action(context);
    context.input.set_unbuffered(false);
    result
}
