// SPDX-License-Identifier: MIT OR Apache-2.0
//! Selects the packets of a file that are keyframes.
//!
//! Where it can be relied on, the demuxer is told to skip all but keyframes before it reads them; packets that are not flagged as
//! keyframes are dropped (VP9, AV1 and GIF decoders decode whatever they get). State that packets establish for later ones
//! (parameter sets, palettes) is recorded before any is dropped.
//!
//! Nothing is lost where the container is wrong: when a jump fails, or the container names implausibly few keyframes, the file is
//! read from front to back, with FFmpeg's parsers recognising keyframes as for a pipe, and packets that were delivered before are
//! recognised by their byte position. That happens at most once per file, and then each packet is read once, so reading ends.
//!
//! Thread rule: one thread at a time.

use std::collections::HashMap;
use std::collections::VecDeque;

use crate::av::containers::completeness::Completeness;
use crate::av::containers::index;
use crate::av::containers::jump::{Jump, JumpContext, Jumper};
use crate::av::error::Error;
use crate::av::frame::rotation::Rotation;
use crate::av::input::Input;
use crate::av::input::container::Container;
use crate::av::input::field_pairs::{FieldParser, PictureStructure};
use crate::av::input::packet::{KeyframePackets, Packet, SideData};
use crate::av::input::parameter_sets::ParameterSets;
use crate::av::input::parser::Parser;
use crate::av::input::video_stream::VideoStream;
use crate::av::io::Interrupt;
use crate::av::keyframes::overlap::OverlapSearch;
use crate::av::keyframes::still_image::StillImage;
use crate::av::keyframes::stream_switch::{StreamSwitchDetector, Successor, SwitchDecision};
use crate::av::opening_lock::{self, LockTimes};

/// Duration up to which a video with a single keyframe is plausible, in seconds.
const TRUSTED_SECONDS: i64 = 2;

/// Reads the packets of a file's video.
pub(crate) struct PacketSelector {
    /// Points into `input`: replaced whenever that is.
    pub(crate) video: VideoStream,
    pub(crate) input: Input,
    packet: Packet,
    /// Packets that were read ahead and come before others.
    backlog: VecDeque<Packet>,
    jumper: Option<Jumper>,
    /// Reading frame by frame through a gap in which the container names no keyframe.
    in_gap: bool,
    /// Recognises keyframes where the container is known not to flag all of them.
    keyframe_parser: Option<Parser>,
    /// Number of keyframes delivered so far, by position (packets of one block have the same).
    delivered: HashMap<PacketId, u32>,
    /// Those that must be skipped: they were delivered before reading restarted.
    to_skip: HashMap<PacketId, u32>,
    sets: Option<ParameterSets>,
    persistent: Vec<SideData>,
    fields: Option<FieldParser>,
    switch_detector: StreamSwitchDetector,
    /// The streams that the video was found in so far, in order.
    parts: Vec<Part>,
    /// The one that is being read.
    part: usize,
    /// A seek has returned to a stream that the video had left.
    pub(super) has_returned: bool,
    /// Metadata of a still image.
    still_image: Option<StillImage>,
    is_still: bool,
    is_mp4: bool,
    /// The current hidden frames are those of a fragment that overlaps the previous one.
    overlaps: bool,
    overlap_search: OverlapSearch,
    /// All that follows are previews of an image that was delivered.
    only_previews: bool,
    max_pixels: u64,
    pub(super) min_interval_ns: u64,
    /// The last keyframe that was delivered.
    last_delivered: Option<DeliveredTimes>,
    /// First and latest time of a packet of the video since the last seek.
    span: Option<(i64, i64)>,
    /// A part of the file may have been skipped by a seek.
    has_seeked: bool,
    interrupt: Interrupt,
    pub(super) report: ReadReport,
}

/// Identifies a packet however it is read: its byte position, and where samples may be shown more than once (mp4 edit lists) its
/// decoding time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PacketId {
    position: i64,
    /// 0 where the position alone identifies a packet.
    dts: i64,
}

/// A stream that holds a part of the video.
#[derive(Debug, Clone, Copy)]
struct Part {
    index: i32,
    /// Time at which it begins, in units of the time base, where times continue from the part before.
    start: Option<i64>,
}

/// Times of a delivered keyframe, in units of the stream's time base.
#[derive(Clone, Copy)]
struct DeliveredTimes {
    pts: i64,
    dts: i64,
}

/// Counts, problems and notices of what was read.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadReport {
    /// Keyframes, including skipped ones.
    pub(crate) keyframes: u64,
    /// Packets of the video that were read although they are not keyframes.
    pub(crate) dropped: u64,
    /// Keyframes skipped because they follow another too closely.
    pub(crate) skipped: u64,
    /// Encrypted keyframes.
    pub(crate) encrypted: u64,
    /// Keyframes that the container's index names past the end of the file.
    pub(crate) missing: u64,
    /// Keyframes in the container's index, known at the end.
    pub(super) indexed: Option<u64>,
    /// Missing or incomplete parts of the file, in words.
    pub(crate) problems: Vec<String>,
    /// Number of them that were reported.
    pub(super) problems_reported: usize,
    /// Information for the user, not yet reported.
    pub(super) notices: Vec<String>,
    /// Times of the opening lock for reopening the file.
    pub(crate) lock_times: LockTimes,
}

impl ReadReport {
    /// Returns a problem that has not been reported yet.
    pub(super) fn next_unreported_problem(&mut self) -> Option<String> {
        let problem = self.problems.get(self.problems_reported).cloned();
        self.problems_reported += usize::from(problem.is_some());
        problem
    }
}

/// The packet that was read, by kind.
pub(super) enum Next {
    /// A complete keyframe.
    Keyframe(KeyframePackets),
    /// A keyframe that the container hides because the clip begins after it: needed to decode the clip's first frame.
    Hidden(KeyframePackets),
    /// A keyframe that follows another too closely.
    TooClose(Packet),
    /// A frame between keyframes.
    OtherFrame(Packet),
    /// A packet that is not needed.
    Skipped,
    /// The video is encrypted from here on.
    Encrypted,
    /// The video continues in another stream or codec: [`PacketSelector::video`] has changed.
    VideoChanged,
    /// The end of the file.
    End,
}

/// Options of a [`PacketSelector`].
pub(super) struct SelectionOptions {
    pub(crate) max_pixels: u64,
    pub(super) min_interval_ns: u64,
    /// Frames between keyframes are wanted too.
    pub(super) wants_all: bool,
}

impl PacketSelector {
    /// Creates a selector for `video` of an input that was just opened.
    pub(crate) fn new(
        mut input: Input,
        video: VideoStream,
        rules: &SelectionOptions,
        interrupt: Interrupt,
    ) -> Result<Self, Error> {
        let jumper = if rules.wants_all { None } else { Jumper::new(&mut input, &video)? };
        let is_still = input.container().is_still_image();
        let is_mp4 = input.container() == Container::Mp4;
        let parts = vec![Part { index: video.index(), start: None }];
        let mut packets = Self {
            packet: Packet::new()?,
            backlog: VecDeque::new(),
            jumper,
            in_gap: false,
            keyframe_parser: None,
            delivered: HashMap::new(),
            to_skip: HashMap::new(),
            sets: None,
            persistent: Vec::new(),
            fields: None,
            switch_detector: StreamSwitchDetector::default(),
            parts,
            part: 0,
            has_returned: false,
            still_image: None,
            is_still,
            is_mp4,
            overlaps: false,
            overlap_search: OverlapSearch::default(),
            only_previews: false,
            max_pixels: rules.max_pixels,
            min_interval_ns: rules.min_interval_ns,
            last_delivered: None,
            span: None,
            has_seeked: false,
            interrupt,
            report: ReadReport::default(),
            video,
            input,
        };
        packets.select_packets();
        packets.set_up_codec()?;
        Ok(packets)
    }

    /// Whether the demuxer skips all packets but keyframes, except in gaps. Without jumps the whole file is read, so that parsers see
    /// every frame: the container's flags may be wrong. Intra-only codecs need no flags.
    fn only_keyframes(&self) -> bool {
        self.jumper.is_some() && !self.video.is_intra_only()
    }

    /// Tells the demuxer which packets to read.
    fn select_packets(&mut self) {
        let only_keyframes = self.only_keyframes() && !self.in_gap;
        self.input.select(&self.video, only_keyframes);
        for &index in self.switch_detector.parallel() {
            self.input.discard_stream(index);
        }
    }

    /// Sets up what depends on the codec of the video.
    fn set_up_codec(&mut self) -> Result<(), Error> {
        self.sets = self.video.syntax().map(|syntax| ParameterSets::new(syntax, self.video.extradata()));
        self.persistent.clear();
        self.fields = FieldParser::new(&self.video)?;
        Ok(())
    }

    /// Returns the time of the packet read last.
    pub(crate) fn time(&self) -> Option<i64> {
        self.packet.timestamp()
    }

    /// Returns the rotation in a still image's EXIF data.
    pub(super) fn still_image_rotation(&self) -> Option<Rotation> {
        self.still_image.and_then(|still| still.rotation)
    }

    /// Seeks to the keyframe at or before `timestamp`, or to the first after it. Where the video continues in other streams, this may
    /// change [`PacketSelector::video`]: [`next`](Self::next) then reports that first.
    pub(crate) fn seek(&mut self, timestamp: i64) -> Result<(), Error> {
        self.switch_detector.reset();
        self.return_to_part_at(timestamp)?;
        self.input.seek(&self.video, timestamp)?;
        if let Some(jumper) = &mut self.jumper {
            jumper.reset();
        }
        if std::mem::take(&mut self.in_gap) {
            self.select_packets();
        }
        if let Some(sets) = &mut self.sets {
            sets.reset();
        }
        self.backlog.clear();
        self.delivered.clear();
        self.to_skip.clear();
        self.report.problems.clear();
        self.report.problems_reported = 0;
        self.only_previews = false;
        self.last_delivered = None;
        self.span = None;
        self.has_seeked = true;
        Ok(())
    }

    /// Selects the stream in which the video was at a time.
    fn return_to_part_at(&mut self, timestamp: i64) -> Result<(), Error> {
        if self.parts.len() == 1 {
            return Ok(());
        }
        // Where times start over, reading leads from the part before to the next.
        let later = self.parts[1..].iter().take_while(|part| part.start.is_some_and(|start| start <= timestamp));
        let part = later.count();
        let index = self.parts[part].index;
        if index != self.video.index() {
            self.video = self.input.video_at(u32::try_from(index).unwrap_or(0))?;
            self.has_returned = true;
            self.set_up_codec()?;
        }
        self.part = part;
        for left in &self.parts[..part] {
            self.switch_detector.leave(left.index);
        }
        self.select_packets();
        Ok(())
    }

    /// Reads the next packet, at most one of the video.
    ///
    /// # Errors
    /// [`Error::Interrupted`], an error of the source, or an error of the demuxer.
    pub(crate) fn next(&mut self) -> Result<Next, Error> {
        if std::mem::take(&mut self.has_returned) {
            return Ok(Next::VideoChanged);
        }
        if self.only_previews {
            return Ok(Next::End);
        }
        if !self.read()? {
            let Some(Successor { index, held }) = self.switch_detector.at_end() else { return Ok(Next::End) };
            self.backlog.extend(held);
            return self.move_to(index);
        }
        if self.packet.stream_index() != self.video.index() {
            return self.other_stream();
        }
        self.switch_detector.note_selected();
        if self.packet.byte_len() == 0 {
            return Ok(Next::Skipped);
        }
        if self.video.codec_has_changed() {
            self.backlog.push_front(self.packet.take()?);
            return self.move_to(self.video.index());
        }
        let (time, is_key) = (self.packet.timestamp(), self.packet.is_key());
        if self.packet.is_encrypted() {
            self.report.encrypted += u64::from(is_key);
            return Ok(if self.report.encrypted == 1 && is_key { Next::Encrypted } else { Next::Skipped });
        }
        self.unhide_overlap();
        self.update_stream_state()?;
        if let Some(time) = time {
            let (first, latest) = self.span.unwrap_or((time, time));
            self.span = Some((first.min(time), latest.max(time)));
        }
        if !is_key {
            self.report.dropped += 1;
            return Ok(Next::OtherFrame(self.packet.take()?));
        }
        if self.was_delivered_before() {
            return Ok(Next::Skipped);
        }
        self.report.keyframes += 1;
        self.note_delivered();
        if self.follows_too_closely(time) {
            self.report.skipped += 1;
            return Ok(Next::TooClose(self.packet.take()?));
        }
        self.last_delivered = time.map(|pts| DeliveredTimes { pts, dts: self.packet.dts().unwrap_or(pts) });
        let is_hidden = self.packet.is_hidden();
        if self.is_still {
            let image = StillImage::read(self.packet.data(), self.input.container());
            if self.still_image.is_some_and(|first| first.is_previewed_by(&image)) {
                return Ok(Next::Skipped);
            }
            self.only_previews = self.still_image.get_or_insert(image).has_previews;
        }
        let packets = self.whole_keyframe()?;
        Ok(if is_hidden { Next::Hidden(packets) } else { Next::Keyframe(packets) })
    }

    /// Clears the hidden flag of frames in overlapping fragments.
    fn unhide_overlap(&mut self) {
        if !self.packet.is_hidden() {
            return;
        }
        if self.packet.is_key() {
            let video = &self.video;
            let place = self.packet.position().zip(self.packet.dts()).filter(|_| self.is_mp4);
            self.overlaps = place.is_some_and(|place| {
                self.overlap_search.is_overlap(place, video.index_len(), |number| video.index_entry(number))
            });
        }
        if self.overlaps {
            self.packet.show();
        }
    }

    /// Reads the next packet of the video, keyframe or not; `None` at the end. For packets that have to be decoded in sequence.
    pub(super) fn next_packet_of_video(&mut self) -> Result<Option<Packet>, Error> {
        if !self.read_packet_of_video()? {
            return Ok(None);
        }
        self.update_stream_state()?;
        Ok(Some(self.packet.take()?))
    }

    fn read_packet_of_video(&mut self) -> Result<bool, Error> {
        let index = self.video.index();
        let is_wanted = |packet: &Packet| packet.stream_index() == index && packet.byte_len() > 0;
        while let Some(packet) = self.backlog.pop_front() {
            if is_wanted(&packet) {
                self.packet = packet;
                return Ok(true);
            }
        }
        let discards = self.only_keyframes() && !self.in_gap;
        if discards {
            self.input.select(&self.video, false);
        }
        let read = loop {
            match self.input.read(&mut self.packet) {
                Ok(true) if !is_wanted(&self.packet) => {}
                other => break other,
            }
            if self.interrupt.is_set() {
                break Err(Error::Interrupted);
            }
        };
        if discards {
            self.select_packets();
        }
        read
    }

    /// Puts `packet` back, to come before others.
    pub(super) fn put_back(&mut self, packet: Packet) {
        self.backlog.push_front(packet);
    }

    /// Records the state that the packet establishes for later ones, and adds to it the state that it lacks.
    fn update_stream_state(&mut self) -> Result<(), Error> {
        if let Some(extradata) = self.packet.new_extradata()
            && let Some(sets) = &mut self.sets
        {
            sets.replace(extradata);
        }
        self.packet.carry_side_data(&mut self.persistent)?;
        let Some(sets) = &mut self.sets else { return Ok(()) };
        sets.remember(self.packet.data());
        if self.packet.is_key() {
            let missing = sets.missing_in(self.packet.data());
            if !missing.is_empty() {
                self.packet.prepend(&missing)?;
            }
        }
        Ok(())
    }

    /// Returns the keyframe in the packet with its second field, where that is a separate packet.
    fn whole_keyframe(&mut self) -> Result<KeyframePackets, Error> {
        let packet = self.packet.take()?;
        let structure = self.fields.as_mut().map_or(PictureStructure::Frame, |fields| fields.structure(&packet));
        let mut packets = KeyframePackets::new(packet);
        if structure == PictureStructure::Frame {
            return Ok(packets);
        }
        let Some(next) = self.next_packet_of_video()? else { return Ok(packets) };
        if self.fields.as_mut().is_some_and(|fields| structure.is_paired_with(fields.structure(&next))) {
            self.report.dropped += 1;
            packets.push(next);
        } else {
            self.put_back(next);
        }
        Ok(packets)
    }

    fn packet_id(&self) -> Option<PacketId> {
        let dts = if self.is_mp4 { self.packet.dts()? } else { 0 };
        Some(PacketId { position: self.packet.position()?, dts })
    }

    fn was_delivered_before(&mut self) -> bool {
        let Some(id) = self.packet_id() else { return false };
        let Some(count) = self.to_skip.get_mut(&id) else { return false };
        *count -= 1;
        if *count == 0 {
            self.to_skip.remove(&id);
        }
        true
    }

    fn note_delivered(&mut self) {
        if self.jumper.is_some()
            && let Some(id) = self.packet_id()
        {
            *self.delivered.entry(id).or_default() += 1;
        }
    }

    fn follows_too_closely(&self, time: Option<i64>) -> bool {
        let Some((time, last)) = time.zip(self.last_delivered) else { return false };
        let (num, den) = self.video.time_base();
        let interval_ns = i128::from(time.saturating_sub(last.pts)) * i128::from(num) * 1_000_000_000 / i128::from(den);
        (0..i128::from(self.min_interval_ns)).contains(&interval_ns)
    }

    /// Reads the next packet: the next keyframe where jumps are possible, else any packet; false at the end.
    fn read(&mut self) -> Result<bool, Error> {
        if let Some(packet) = self.backlog.pop_front() {
            self.packet = packet;
            self.flag_keyframe();
            return Ok(true);
        }
        if let Some(jumper) = self.jumper.as_mut().filter(|_| !self.in_gap) {
            // Before this decoding time keyframes certainly follow too closely. It and the presentation time are a few frames apart, so
            // a keyframe that is only just too close is read.
            let interval_ns = i64::try_from(self.min_interval_ns).unwrap_or(i64::MAX).saturating_sub(1_000_000_000);
            let interval = to_units(self.video.time_base(), interval_ns.max(0));
            let earliest = self.last_delivered.map_or(i64::MIN, |last| last.dts.saturating_add(interval));
            let (input, video, packet) = (&mut self.input, &self.video, &mut self.packet);
            let jump = jumper.next(&mut JumpContext { input, video, packet, sets: self.sets.as_ref(), earliest })?;
            match jump {
                // A jump that returns to an earlier position would do so for ever.
                Jump::Landed if self.packet_id().is_some_and(|id| self.delivered.contains_key(&id)) => {
                    self.restart()?
                }
                Jump::Landed => return Ok(true),
                Jump::End => return self.end(),
                Jump::Lost => self.restart()?,
                Jump::Unflagged => {
                    self.restart()?;
                    self.distrust_flags()?;
                }
                Jump::DoubtfulGap => {
                    self.in_gap = true;
                    self.input.select(&self.video, false);
                    self.keyframe_parser = Parser::new(&self.video)?;
                }
            }
        }
        if !self.input.read(&mut self.packet)? {
            return self.end();
        }
        self.flag_keyframe();
        if self.in_gap && self.packet.stream_index() == self.video.index() && self.packet.byte_len() > 0 {
            self.check_gap()?;
        }
        Ok(true)
    }

    /// Flags the packet as a keyframe if it is one, where the container is known not to.
    fn flag_keyframe(&mut self) {
        if let Some(keyframe_parser) = &mut self.keyframe_parser
            && self.packet.stream_index() == self.video.index()
            && !self.packet.is_encrypted()
            && keyframe_parser.parse(&self.packet).is_key
        {
            self.packet.set_key();
        }
    }

    /// Checks a packet of a gap in which the container names no keyframe.
    fn check_gap(&mut self) -> Result<(), Error> {
        let Some(jumper) = &mut self.jumper else { return Ok(()) };
        if jumper.ends_gap(&self.packet) {
            (self.in_gap, self.keyframe_parser) = (false, None);
            self.select_packets();
        } else if self.packet.is_key() && !self.packet_id().is_some_and(|id| self.delivered.contains_key(&id)) {
            (self.jumper, self.in_gap) = (None, false);
            self.distrust_flags()?;
        }
        Ok(())
    }

    fn distrust_flags(&mut self) -> Result<(), Error> {
        self.keyframe_parser = Parser::new(&self.video)?;
        self.report
            .notices
            .push("the container does not flag all keyframes: the file is read frame by frame to find them".into());
        Ok(())
    }

    /// Handles the end of the file: true if there is more to read after all.
    fn end(&mut self) -> Result<bool, Error> {
        if self.flags_too_few_keyframes() {
            self.restart()?;
            self.keyframe_parser = Parser::new(&self.video)?;
            // One more keyframe confirms the suspicion.
            while self.input.read(&mut self.packet)? {
                if self.packet.stream_index() != self.video.index() || self.packet.byte_len() == 0 {
                    continue;
                }
                self.flag_keyframe();
                if self.packet.is_key() && self.packet_id().is_none_or(|id| !self.to_skip.contains_key(&id)) {
                    self.distrust_flags()?;
                    return Ok(true);
                }
                self.update_stream_state()?;
                if self.packet.is_key() {
                    self.was_delivered_before();
                }
                self.report.dropped += 1;
                if self.interrupt.is_set() {
                    return Err(Error::Interrupted);
                }
            }
        }
        self.check_completeness()?;
        Ok(false)
    }

    /// Whether the container's flags were relied on and gave at most one keyframe, in a video that is too long for that.
    fn flags_too_few_keyframes(&self) -> bool {
        if !self.only_keyframes() || self.report.keyframes > 1 || self.report.dropped > 0 {
            return false;
        }
        let Some((_, latest)) = self.span else { return true };
        let (num, den) = self.video.time_base();
        let start = self.input.start_us().map_or(latest, |us| to_units((num, den), us.saturating_mul(1000)));
        let length = self.input.duration_us().map(|us| to_units((num, den), us.saturating_mul(1000)));
        let trusted = to_units((num, den), TRUSTED_SECONDS * 1_000_000_000);
        length.is_none_or(|length| start.saturating_add(length).saturating_sub(latest) > trusted)
    }

    /// Opens the file again, to be read from front to back, skipping what was delivered before.
    fn restart(&mut self) -> Result<(), Error> {
        let lock = opening_lock::acquire();
        let stream = u32::try_from(self.video.index()).unwrap_or(0);
        let opened = self.input.reopen(self.max_pixels).and_then(|mut input| Ok((input.video_at(stream)?, input)));
        self.report.lock_times += lock.release();
        // If the file has another layout by now, the old input stays, and with it the stream that points into it.
        (self.video, self.input) = opened?;
        (self.jumper, self.in_gap) = (None, false);
        self.select_packets();
        self.to_skip = std::mem::take(&mut self.delivered);
        self.switch_detector.reset();
        self.set_up_codec()
    }

    /// Checks at the end of the file whether all that the container announced has come.
    fn check_completeness(&mut self) -> Result<(), Error> {
        self.report.indexed = index::indexed_keyframes(&self.input, &self.video);
        if !self.report.problems.is_empty() {
            return Ok(());
        }
        let completeness = Completeness::check(&mut self.input, &self.video)?;
        match completeness {
            Completeness::MissingFrames { keyframes, .. } => self.report.missing = keyframes,
            Completeness::Shorter { .. } => {}
            // What follows from times says more than how the file ends.
            _ => self.check_duration(completeness),
        }
        if self.report.problems.is_empty() {
            self.report.problems.extend(completeness.problem());
        }
        if self.report.problems.is_empty()
            && let Some((left, before)) = self.input.shrinkage()
        {
            let problem = format!("the file became smaller while it was read: {left} of {before} bytes are left");
            self.report.problems.push(problem);
        }
        Ok(())
    }

    /// Checks whether the packets that came cover the duration that the container states. After a seek they need not.
    fn check_duration(&mut self, completeness: Completeness) {
        if self.has_seeked {
            return;
        }
        let Some((first, latest)) = self.span.filter(|_| self.input.states_duration()) else { return };
        // Another stream may be longer than the video, so the total duration counts only with other evidence.
        let of_all =
            self.input.duration_us().filter(|_| self.input.has_single_stream() || completeness.is_inside_element());
        let of_all = of_all.map(|us| to_units(self.video.time_base(), us.saturating_mul(1000)));
        let length = self.video.duration().or(of_all);
        let Some(length) = length.filter(|_| self.report.keyframes > 1) else { return };
        // The mean distance of keyframes stands in for the last one, whose end is unknown.
        let mean = latest.saturating_sub(first) / i64::try_from(self.report.keyframes - 1).unwrap_or(1).max(1);
        let slack = to_units(self.video.time_base(), 3_000_000_000).max(mean.saturating_mul(4));
        let covered = latest.saturating_sub(first);
        if length.saturating_sub(covered) > slack {
            let (num, den) = self.video.time_base();
            let seconds = |units: i64| units as f64 * num as f64 / den as f64;
            self.report.problems.push(format!(
                "the video ends after {:.1} s, but the container states a duration of {:.1} s",
                seconds(covered),
                seconds(length)
            ));
        }
    }

    /// Handles a packet of another stream, in which the video may continue.
    fn other_stream(&mut self) -> Result<Next, Error> {
        let index = self.packet.stream_index();
        let is_video = usize::try_from(index).is_ok_and(|index| self.input.is_video(index));
        if !is_video || !self.input.container().streams_may_change() {
            self.input.discard_stream(index);
            return Ok(Next::Skipped);
        }
        let packet = self.packet.take()?;
        match self.switch_detector.note_other(packet, self.video.time_base()) {
            SwitchDecision::Undecided => Ok(Next::Skipped),
            SwitchDecision::Parallel => {
                self.input.discard_stream(index);
                self.report
                    .notices
                    .push(format!("stream {index} is another video and is ignored (stream-index={index} decodes it)"));
                Ok(Next::Skipped)
            }
            SwitchDecision::Successor(Successor { index, held }) => {
                self.backlog.extend(held);
                self.move_to(index)
            }
        }
    }

    /// Continues with another stream, or the same stream in another codec.
    fn move_to(&mut self, index: i32) -> Result<Next, Error> {
        let (before, wanted) = (self.video.index(), u32::try_from(index).unwrap_or(0));
        match self.input.video_at(wanted) {
            Ok(video) => self.video = video,
            Err(error) => {
                self.backlog.clear();
                self.input.discard_stream(index);
                self.report.problems.push(format!("the video continues in stream {index}, which is skipped: {error}"));
                return Ok(Next::Skipped);
            }
        }
        if index != before {
            self.switch_detector.leave(before);
            self.input.discard_stream(before);
            let latest = self.span.map(|(_, latest)| latest);
            let start = self.backlog.front().and_then(Packet::timestamp);
            let start = start.filter(|start| latest.is_some_and(|latest| *start >= latest));
            self.parts.truncate(self.part + 1);
            self.parts.push(Part { index, start });
            self.part += 1;
            self.report.notices.push(format!("the video continues in stream {index}"));
        }
        self.set_up_codec()?;
        Ok(Next::VideoChanged)
    }
}

/// Converts nanoseconds into units of a time base, rounded towards zero and limited to i64.
pub(super) fn to_units((num, den): (i64, i64), ns: i64) -> i64 {
    let units = i128::from(ns) * i128::from(den) / (i128::from(num.max(1)) * 1_000_000_000);
    i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
