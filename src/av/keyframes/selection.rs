//! Which packet comes next, and what it is for: the rules by which packets of a file become keyframes.
//!
//! The demuxer is told to skip all but keyframes before it reads them, where that can be relied on; packets that are not flagged
//! as keyframes are dropped (VP9, AV1 and GIF decoders decode what they get). What packets establish for later ones (parameter
//! sets, palettes) is remembered before any is dropped.
//!
//! Nothing is lost where the container is wrong: when a jump goes astray, or the container names implausibly few keyframes, the
//! file is read from front to back, with FFmpeg's parsers telling keyframes as for a pipe, and what was handed out before is
//! known by its byte position. That happens at most once for each file, and each packet is read once then, so reading ends.
//!
//! Thread rule: one thread at a time.

use std::collections::HashMap;
use std::collections::VecDeque;

use crate::av::containers::ending::{Ending, ending};
use crate::av::containers::index::{Jump, Jumper, Reach};
use crate::av::containers::length;
use crate::av::error::Error;
use crate::av::frame::rotation::Turn;
use crate::av::input::Input;
use crate::av::input::fields::{Fields, Structure};
use crate::av::input::packet::{Packet, SideData};
use crate::av::input::parameter_sets::ParameterSets;
use crate::av::input::parser::Parser;
use crate::av::input::video_stream::VideoStream;
use crate::av::io::Interrupt;
use crate::av::keyframes::program::{Programme, Turnout};
use crate::av::keyframes::still;
use crate::av::opening::{self, LockTimes};

/// Seconds of a video with a single keyframe that are taken on trust.
const TRUSTED_SECONDS: i64 = 2;

/// Reading packets of a file's video.
pub(crate) struct Packets {
    // The stream points into the input: fields are dropped in this order.
    pub(crate) video: VideoStream,
    pub(crate) input: Input,
    packet: Packet,
    /// Packets that were read ahead, to be dealt with before others are read.
    backlog: VecDeque<Packet>,
    jumper: Option<Jumper>,
    /// Reading frame by frame through a stretch that the container says has no keyframe.
    in_gap: bool,
    /// The demuxer skips all but keyframes.
    only_keyframes: bool,
    /// Marks keyframes where the container is known not to mark all of them.
    marker: Option<Parser>,
    /// Keyframes handed out so far (packets of one block have the same place).
    given: HashMap<Place, u32>,
    /// Of those, what has to be passed over: they were handed out before reading began anew.
    known: HashMap<Place, u32>,
    sets: Option<ParameterSets>,
    standing: Vec<SideData>,
    fields: Option<Fields>,
    programme: Programme,
    /// What a still picture says beside its pixels.
    still: Option<still::Findings>,
    is_still: bool,
    is_mp4: bool,
    /// Hidden frames are those of a fragment that overlaps the one before.
    overlaps: bool,
    /// All that follows are previews of a picture that was handed out.
    only_previews: bool,
    max_pixels: u64,
    pub(super) min_interval_ns: u64,
    /// Time of the last keyframe that was handed out, and its decoding time.
    last_taken: Option<(i64, i64)>,
    /// First and latest time of a packet of the video.
    span: Option<(i64, i64)>,
    interrupt: Interrupt,
    pub(super) tally: Tally,
}

/// Identifies a packet however it is read: its byte position, and where samples may be shown more than once (edit
/// lists of mp4), its decoding time.
type Place = (i64, i64);

/// What was seen while reading.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Keyframes, those that are left out included.
    pub(crate) keyframes: u64,
    /// Packets of the video that were read although they were no keyframes.
    pub(crate) dropped: u64,
    /// Keyframes left out because they follow another too closely.
    pub(crate) skipped: u64,
    /// Packets that are encrypted.
    pub(crate) encrypted: u64,
    /// Keyframes that the container's index names past the end of the file.
    pub(crate) missing: u64,
    /// Keyframes in the container's index, known at the end.
    pub(super) indexed: Option<u64>,
    /// What is known to be missing, in words.
    pub(crate) problems: Vec<String>,
    /// How many of them were told.
    pub(super) problems_told: usize,
    /// What a user should know, to be told once.
    pub(super) notices: Vec<String>,
    /// What opening a file anew, or another decoder, cost of the opening lock.
    pub(crate) lock_times: LockTimes,
}

impl Tally {
    /// A problem that has not been told yet.
    pub(super) fn untold_problem(&mut self) -> Option<String> {
        let problem = self.problems.get(self.problems_told).cloned();
        self.problems_told += usize::from(problem.is_some());
        problem
    }
}

/// What the packet is that was read.
pub(super) enum Next {
    /// A keyframe, whole: one packet, or one for each field.
    Keyframe(Vec<Packet>),
    /// A keyframe that the container hides because the clip begins after it: it is needed to decode the clip's first frame.
    Hidden(Vec<Packet>),
    /// A keyframe that follows another too closely.
    TooClose(Packet),
    /// A frame between keyframes.
    Between(Packet),
    /// Nothing of the video, or nothing new.
    Nothing,
    /// The video is encrypted from here on.
    Encrypted,
    /// The video goes on in another stream or codec: [`Packets::video`] has changed.
    Moved,
    /// Nothing more.
    End,
}

/// What [`Packets`] is to do.
pub(super) struct Rules {
    pub(crate) max_pixels: u64,
    pub(super) min_interval_ns: u64,
    /// Frames between keyframes are wanted too.
    pub(super) wants_all: bool,
}

impl Packets {
    /// Over `video` of an input that was just opened.
    pub(crate) fn new(
        mut input: Input,
        video: VideoStream,
        rules: &Rules,
        interrupt: Interrupt,
    ) -> Result<Self, Error> {
        let jumper = if rules.wants_all { None } else { Jumper::new(&mut input, &video)? };
        // Without jumps the file is read whole, so that parsers see every frame: the container's flags may be wrong. Codecs of
        // nothing but keyframes need no flags.
        let only_keyframes = !rules.wants_all && !video.is_intra_only() && jumper.is_some();
        input.select(&video, only_keyframes);
        let is_still = input.container_names().ends_with("_pipe");
        let is_mp4 = input.container_names().split(',').any(|name| name == "mp4");
        let mut packets = Self {
            packet: Packet::new()?,
            backlog: VecDeque::new(),
            jumper,
            in_gap: false,
            only_keyframes,
            marker: None,
            given: HashMap::new(),
            known: HashMap::new(),
            sets: None,
            standing: Vec::new(),
            fields: None,
            programme: Programme::default(),
            still: None,
            is_still,
            is_mp4,
            overlaps: false,
            only_previews: false,
            max_pixels: rules.max_pixels,
            min_interval_ns: rules.min_interval_ns,
            last_taken: None,
            span: None,
            interrupt,
            tally: Tally::default(),
            video,
            input,
        };
        packets.learn_codec()?;
        Ok(packets)
    }

    /// What depends on the codec of the video.
    fn learn_codec(&mut self) -> Result<(), Error> {
        self.sets = self.video.syntax().map(|syntax| ParameterSets::new(syntax, self.video.extradata()));
        self.standing.clear();
        self.fields = Fields::new(&self.video)?;
        Ok(())
    }

    /// Time of the packet read last.
    pub(crate) fn time(&self) -> Option<i64> {
        self.packet.timestamp()
    }

    /// The turn that a still picture's EXIF data asks for.
    pub(super) fn still_turn(&self) -> Option<Turn> {
        self.still.and_then(|still| still.turn)
    }

    /// Moves to the keyframe at or before `timestamp`, or to the first after it.
    pub(crate) fn seek(&mut self, timestamp: i64) -> Result<(), Error> {
        self.input.seek(&self.video, timestamp)?;
        if let Some(jumper) = &mut self.jumper {
            jumper.reset();
        }
        if std::mem::take(&mut self.in_gap) {
            self.input.select(&self.video, self.only_keyframes);
        }
        if let Some(sets) = &mut self.sets {
            sets.reset();
        }
        self.backlog.clear();
        self.given.clear();
        self.known.clear();
        self.tally.problems.clear();
        self.tally.problems_told = 0;
        self.programme.forget();
        self.only_previews = false;
        self.last_taken = None;
        self.span = None;
        Ok(())
    }

    /// Reads on, at most one packet of the video.
    ///
    /// # Errors
    /// [`Error::Interrupted`], an error of the source, or what the demuxer says.
    pub(crate) fn next(&mut self) -> Result<Next, Error> {
        if self.only_previews {
            return Ok(Next::End);
        }
        if !self.read()? {
            let Some((index, held)) = self.programme.at_end() else { return Ok(Next::End) };
            self.backlog.extend(held);
            return self.move_to(index);
        }
        if self.packet.stream_index() != self.video.index() {
            return self.other_stream();
        }
        self.programme.note_chosen();
        if self.packet.byte_len() == 0 {
            return Ok(Next::Nothing);
        }
        if self.video.codec_has_changed() {
            self.backlog.push_front(self.packet.take()?);
            return self.move_to(self.video.index());
        }
        let (time, is_key) = (self.packet.timestamp(), self.packet.is_key());
        if self.packet.is_encrypted() {
            self.tally.encrypted += u64::from(is_key);
            return Ok(if self.tally.encrypted == 1 && is_key { Next::Encrypted } else { Next::Nothing });
        }
        self.show_overlap();
        self.remember()?;
        if let Some(time) = time {
            let (first, latest) = self.span.unwrap_or((time, time));
            self.span = Some((first.min(time), latest.max(time)));
        }
        if !is_key {
            self.tally.dropped += 1;
            return Ok(Next::Between(self.packet.take()?));
        }
        if self.is_known() {
            return Ok(Next::Nothing);
        }
        self.tally.keyframes += 1;
        self.note_given();
        if self.follows_too_closely(time) {
            self.tally.skipped += 1;
            return Ok(Next::TooClose(self.packet.take()?));
        }
        self.last_taken = time.map(|time| (time, self.packet.dts().unwrap_or(time)));
        let is_hidden = self.packet.is_hidden();
        if self.is_still {
            let findings = still::examine(self.packet.data(), &self.input.container_names());
            if self.still.is_some_and(|first| first.has_preview(&findings)) {
                return Ok(Next::Nothing);
            }
            self.only_previews = self.still.get_or_insert(findings).has_previews;
        }
        let packets = self.whole_keyframe()?;
        Ok(if is_hidden { Next::Hidden(packets) } else { Next::Keyframe(packets) })
    }

    /// FFmpeg's mov demuxer hides frames for two reasons: the edit list leaves them out, or a fragment's times overlap those of the
    /// one before (a fragment sent twice, recordings put together). The latter are as good as any.
    fn show_overlap(&mut self) {
        if !self.packet.is_hidden() {
            return;
        }
        if self.packet.is_key() {
            self.overlaps = self.place().is_some_and(|place| self.is_overlap(place));
        }
        if self.overlaps {
            self.packet.show();
        }
    }

    /// Whether the run of hidden samples up to the one at this place begins at a time that the sample before it has passed.
    fn is_overlap(&self, (position, dts): Place) -> bool {
        let entry = |number: usize| self.video.index_entry(number);
        let numbers = (0..self.video.index_len()).rev();
        let is_it = |number: &usize| entry(*number).is_some_and(|it| (it.position, it.dts) == (position, dts));
        let Some(mut number) = numbers.into_iter().find(is_it) else { return false };
        while let (Some(this), Some(before)) = (entry(number), number.checked_sub(1).and_then(entry)) {
            if before.dts >= this.dts {
                return true;
            }
            if !before.is_hidden {
                return false;
            }
            number -= 1;
        }
        false
    }

    /// The next packet of the video as it comes, keyframe or not; `None` at the end. For what has to be decoded in a row.
    pub(super) fn next_in_a_row(&mut self) -> Result<Option<Packet>, Error> {
        let discards = self.only_keyframes && !self.in_gap;
        if discards {
            self.input.select(&self.video, false);
        }
        let read = loop {
            match self.input.read(&mut self.packet) {
                Ok(true) if self.packet.stream_index() == self.video.index() && self.packet.byte_len() > 0 => {
                    break Ok(true);
                }
                Ok(true) => {}
                other => break other,
            }
            if self.interrupt.is_set() {
                break Err(Error::Interrupted);
            }
        };
        if discards {
            self.input.select(&self.video, true);
        }
        if !read? {
            return Ok(None);
        }
        self.remember()?;
        Ok(Some(self.packet.take()?))
    }

    /// Deals with `packet` before others are read.
    pub(super) fn put_back(&mut self, packet: Packet) {
        self.backlog.push_front(packet);
    }

    /// Keeps what the packet says for all after it, and says in it what others said before.
    fn remember(&mut self) -> Result<(), Error> {
        if let Some(extradata) = self.packet.new_extradata()
            && let Some(sets) = &mut self.sets
        {
            sets.replace(extradata);
        }
        self.packet.exchange_standing(&mut self.standing)?;
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

    /// The keyframe in the packet with its second field, where that is a packet of its own.
    fn whole_keyframe(&mut self) -> Result<Vec<Packet>, Error> {
        let packet = self.packet.take()?;
        let structure = self.fields.as_mut().map_or(Structure::Frame, |fields| fields.structure(&packet));
        let mut packets = vec![packet];
        if structure == Structure::Frame {
            return Ok(packets);
        }
        let Some(next) = self.next_in_a_row()? else { return Ok(packets) };
        if self.fields.as_mut().is_some_and(|fields| structure.is_completed_by(fields.structure(&next))) {
            self.tally.dropped += 1;
            packets.push(next);
        } else {
            self.put_back(next);
        }
        Ok(packets)
    }

    fn place(&self) -> Option<Place> {
        let dts = if self.is_mp4 { self.packet.dts()? } else { 0 };
        Some((self.packet.position()?, dts))
    }

    fn is_known(&mut self) -> bool {
        let Some(place) = self.place() else { return false };
        let Some(count) = self.known.get_mut(&place) else { return false };
        *count -= 1;
        if *count == 0 {
            self.known.remove(&place);
        }
        true
    }

    fn note_given(&mut self) {
        if (self.jumper.is_some() || self.only_keyframes)
            && let Some(place) = self.place()
        {
            *self.given.entry(place).or_default() += 1;
        }
    }

    fn follows_too_closely(&self, time: Option<i64>) -> bool {
        let Some((time, (last, _))) = time.zip(self.last_taken) else { return false };
        let (num, den) = self.video.time_base();
        let interval_ns = i128::from(time.saturating_sub(last)) * i128::from(num) * 1_000_000_000 / i128::from(den);
        (0..i128::from(self.min_interval_ns)).contains(&interval_ns)
    }

    /// Reads the next packet: of a file that is jumped through the next keyframe, else whatever comes; false at the end.
    fn read(&mut self) -> Result<bool, Error> {
        if let Some(packet) = self.backlog.pop_front() {
            self.packet = packet;
            self.mark_keyframe();
            return Ok(true);
        }
        if let Some(jumper) = self.jumper.as_mut().filter(|_| !self.in_gap) {
            // Before this decoding time keyframes surely follow too closely. It and presentation time lie a few frames apart, so
            // what is only just too close is read.
            let interval_ns = i64::try_from(self.min_interval_ns).unwrap_or(i64::MAX).saturating_sub(1_000_000_000);
            let interval = to_units(self.video.time_base(), interval_ns.max(0));
            let earliest = self.last_taken.map_or(i64::MIN, |(_, last)| last.saturating_add(interval));
            let (input, video, packet) = (&mut self.input, &self.video, &mut self.packet);
            let jump = jumper.next(&mut Reach { input, video, packet, sets: self.sets.as_ref(), earliest })?;
            match jump {
                // A jump that comes back to where it was before would do so for ever.
                Jump::Landed if self.place().is_some_and(|place| self.given.contains_key(&place)) => {
                    self.begin_anew()?
                }
                Jump::Landed => return Ok(true),
                Jump::End => return self.end(),
                Jump::Lost => self.begin_anew()?,
                Jump::Unmarked => {
                    self.begin_anew()?;
                    self.say_that_flags_are_wrong()?;
                }
                Jump::Doubt => {
                    self.in_gap = true;
                    self.input.select(&self.video, false);
                    self.marker = Parser::new(&self.video)?;
                }
            }
        }
        if !self.input.read(&mut self.packet)? {
            return self.end();
        }
        self.mark_keyframe();
        if self.in_gap && self.packet.stream_index() == self.video.index() && self.packet.byte_len() > 0 {
            self.check_gap()?;
        }
        Ok(true)
    }

    /// Marks the packet as the keyframe that it is, where the container is known not to.
    fn mark_keyframe(&mut self) {
        if let Some(marker) = &mut self.marker
            && self.packet.stream_index() == self.video.index()
            && !self.packet.is_encrypted()
            && marker.parse(&self.packet).is_key
        {
            self.packet.set_key();
        }
    }

    /// A packet of a stretch in which the container names no keyframe.
    fn check_gap(&mut self) -> Result<(), Error> {
        let Some(jumper) = &mut self.jumper else { return Ok(()) };
        if jumper.ends_gap(&self.packet) {
            (self.in_gap, self.marker) = (false, None);
            self.input.select(&self.video, self.only_keyframes);
        } else if self.packet.is_key() && !self.place().is_some_and(|place| self.given.contains_key(&place)) {
            (self.jumper, self.in_gap) = (None, false);
            self.say_that_flags_are_wrong()?;
        }
        Ok(())
    }

    fn say_that_flags_are_wrong(&mut self) -> Result<(), Error> {
        self.only_keyframes = false;
        self.marker = Parser::new(&self.video)?;
        self.tally.notices.push(
            "the container does not mark all keyframes as such: the file is read frame by frame to find them".into(),
        );
        Ok(())
    }

    /// The end of what can be read: true if there is more after all.
    fn end(&mut self) -> Result<bool, Error> {
        if self.names_too_few_keyframes() {
            self.begin_anew()?;
            self.marker = Parser::new(&self.video)?;
            // One more keyframe tells whether it was worth it.
            while self.input.read(&mut self.packet)? {
                if self.packet.stream_index() != self.video.index() || self.packet.byte_len() == 0 {
                    continue;
                }
                self.mark_keyframe();
                if self.packet.is_key() && self.place().is_none_or(|place| !self.known.contains_key(&place)) {
                    self.say_that_flags_are_wrong()?;
                    return Ok(true);
                }
                self.remember()?;
                if self.packet.is_key() {
                    self.is_known();
                }
                self.tally.dropped += 1;
                if self.interrupt.is_set() {
                    return Err(Error::Interrupted);
                }
            }
        }
        self.take_stock()?;
        Ok(false)
    }

    /// Whether the container's flags were relied on and gave one keyframe at most, of a video that is longer than that.
    fn names_too_few_keyframes(&self) -> bool {
        if !self.only_keyframes || self.tally.keyframes > 1 || self.tally.dropped > 0 {
            return false;
        }
        let Some((_, latest)) = self.span else { return true };
        let (num, den) = self.video.time_base();
        let start = self.input.start_us().map_or(latest, |us| to_units((num, den), us.saturating_mul(1000)));
        let length = self.input.duration_us().map(|us| to_units((num, den), us.saturating_mul(1000)));
        let trusted = to_units((num, den), TRUSTED_SECONDS * 1_000_000_000);
        length.is_none_or(|length| start.saturating_add(length).saturating_sub(latest) > trusted)
    }

    /// Opens the file again, to be read from front to back, and passes over what was handed out before.
    fn begin_anew(&mut self) -> Result<(), Error> {
        let lock = opening::enter();
        let stream = u32::try_from(self.video.index()).unwrap_or(0);
        let opened = self.input.reopen(self.max_pixels).and_then(|()| self.input.video_at(stream));
        self.tally.lock_times += lock.leave();
        self.video = opened?;
        (self.jumper, self.in_gap, self.only_keyframes) = (None, false, false);
        self.input.select(&self.video, false);
        self.known = std::mem::take(&mut self.given);
        self.programme.forget();
        self.learn_codec()
    }

    /// Keyframes in the container's index, where it has one that marks them. Edit lists may hide some.
    fn count_indexed(&self) -> Option<u64> {
        // Elsewhere FFmpeg makes an index of what it reads.
        let has_index = self.is_mp4 && self.input.is_seekable() && self.video.index_len() > 0;
        let is_intra_only = self.video.is_intra_only();
        let entries = (0..self.video.index_len()).filter_map(|number| self.video.index_entry(number));
        has_index.then(|| entries.filter(|entry| (entry.is_key || is_intra_only) && !entry.is_hidden).count() as u64)
    }

    /// At the end: what the container announced and did not come.
    fn take_stock(&mut self) -> Result<(), Error> {
        self.tally.indexed = self.count_indexed();
        if !self.tally.problems.is_empty() {
            return Ok(());
        }
        let length = self.input.byte_len();
        if let Some(length) = length.and_then(|length| i64::try_from(length).ok()).filter(|_| self.is_mp4) {
            let entries = (0..self.video.index_len()).filter_map(|number| self.video.index_entry(number));
            let is_intra_only = self.video.is_intra_only();
            let lost = entries.filter(|entry| entry.end > length);
            let (mut all, mut keyframes) = (0_u64, 0_u64);
            for entry in lost {
                all += 1;
                keyframes += u64::from((entry.is_key || is_intra_only) && entry.position < i64::MAX);
            }
            if all > 0 {
                self.tally.missing = keyframes;
                self.tally.problems.push(format!(
                    "the file is cut off: {all} frames of its index, {keyframes} of them keyframes, lie past its end (byte {length})"
                ));
                return Ok(());
            }
        }
        if let Some(announced) = length::announced_len(&mut self.input)? {
            let length = length.unwrap_or_default();
            self.tally.problems.push(format!("the file is cut off: it has {length} of {announced} bytes"));
            return Ok(());
        }
        let ending = ending(&mut self.input)?;
        self.check_length(ending);
        if !self.tally.problems.is_empty() || self.input.container_names() == "flv" {
            return Ok(());
        }
        match ending {
            Ending::Proper => {}
            Ending::InElement => self.tally.problems.push("the file is cut off in the middle of an element".to_owned()),
            Ending::WithoutLast => {
                self.tally.problems.push("the file may be cut off: the marker of its end is missing".to_owned());
            }
        }
        Ok(())
    }

    /// Whether what came covers the length that the container tells of the video.
    fn check_length(&mut self, ending: Ending) {
        let Some((first, latest)) = self.span.filter(|_| self.input.tells_duration()) else { return };
        // Another stream may be longer than the video, so that the duration of the whole counts only with other evidence.
        let of_all = self.input.duration_us().filter(|_| self.input.is_alone() || ending == Ending::InElement);
        let of_all = of_all.map(|us| to_units(self.video.time_base(), us.saturating_mul(1000)));
        let length = self.video.duration().or(of_all);
        let Some(length) = length.filter(|_| self.tally.keyframes > 1) else { return };
        // The mean distance of keyframes stands in for the last one, of which the end is not known.
        let mean = latest.saturating_sub(first) / i64::try_from(self.tally.keyframes - 1).unwrap_or(1).max(1);
        let slack = to_units(self.video.time_base(), 3_000_000_000).max(mean.saturating_mul(4));
        let covered = latest.saturating_sub(first);
        if length.saturating_sub(covered) > slack {
            let (num, den) = self.video.time_base();
            let seconds = |units: i64| units as f64 * num as f64 / den as f64;
            self.tally.problems.push(format!(
                "the video ends after {:.1} s, but the container says that it lasts {:.1} s",
                seconds(covered),
                seconds(length)
            ));
        }
    }

    /// A packet of another stream: perhaps the video goes on there.
    fn other_stream(&mut self) -> Result<Next, Error> {
        let index = self.packet.stream_index();
        let is_video = usize::try_from(index).is_ok_and(|index| self.input.is_video(index));
        if !is_video || !self.input.programme_may_move() {
            self.input.leave_out(index);
            return Ok(Next::Nothing);
        }
        let packet = self.packet.take()?;
        match self.programme.note_other(packet, self.video.time_base()) {
            Turnout::Undecided => Ok(Next::Nothing),
            Turnout::Beside => {
                self.input.leave_out(index);
                self.tally.notices.push(format!(
                    "stream {index} is another video and was left out (stream-index={index} decodes it)"
                ));
                Ok(Next::Nothing)
            }
            Turnout::Successor(held) => {
                self.backlog.extend(held);
                self.move_to(index)
            }
        }
    }

    /// Goes on with another stream, or the same in another codec.
    fn move_to(&mut self, index: i32) -> Result<Next, Error> {
        let (before, wanted) = (self.video.index(), u32::try_from(index).unwrap_or(0));
        match self.input.video_at(wanted) {
            Ok(video) => self.video = video,
            Err(error) => {
                self.backlog.clear();
                self.input.leave_out(index);
                self.tally.problems.push(format!("the video goes on in stream {index}, which was left out: {error}"));
                return Ok(Next::Nothing);
            }
        }
        if index != before {
            self.programme.leave(before);
            self.input.leave_out(before);
            self.tally.notices.push(format!("the video goes on in stream {index}"));
        }
        self.learn_codec()?;
        Ok(Next::Moved)
    }
}

/// Nanoseconds in units of a time base, rounded towards zero and kept within i64.
pub(super) fn to_units((num, den): (i64, i64), ns: i64) -> i64 {
    let units = i128::from(ns) * i128::from(den) / (i128::from(num.max(1)) * 1_000_000_000);
    i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
}
