//! The job of this layer: the keyframes of a file, one after the other.
//!
//! Which packets those are is decided in packets.rs; each is decoded alone (see decoders.rs). Here they are brought together:
//! decoders that work while the next packet is read, frames between keyframes where those are too far apart, and a clip's first
//! frame where its keyframe lies before its beginning.
//!
//! Thread rule: one thread at a time. [`Interrupt`] ends a call from any other.

mod gaps;
pub mod keyframe;
pub mod options;
mod program;
mod selection;
mod still;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::av::decode::decoder::{Decoder, Purpose, Resources};
use crate::av::decode::hardware;
use crate::av::decode::parallel::{Decoded, Decoders, ThreadOptions};
use crate::av::error::Error;
use crate::av::frame::Frame;
use crate::av::input::packet::Packet;
use crate::av::input::video_stream::VideoStream;
use crate::av::input::{Input, metadata_key};
use crate::av::io::{ByteSource, Interrupt};
use crate::av::keyframes::gaps::Gaps;
use crate::av::keyframes::keyframe::{Counts, Info, Keyframe, Listed, Step};
use crate::av::keyframes::options::Options;
use crate::av::keyframes::selection::{Next, Packets, Rules, to_units};
use crate::av::opening;

/// Packets that are decoded at most to get to the first frame of a clip whose keyframe lies before it.
const APPROACH_PACKETS: usize = 5000;

/// A file opened for its keyframes.
pub struct KeyframeReader {
    decoders: Decoders,
    packets: Packets,
    resources: Resources,
    threads: ThreadOptions,
    /// What came out of the decoders and is still to be given out, in order.
    ready: VecDeque<Outcome>,
    /// Frames between keyframes, where they are wanted.
    gaps: Option<Gaps>,
    /// Frames that may still be given out.
    wanted: u64,
    max_frames: u64,
    interrupt: Interrupt,
    at_end: bool,
    /// Why reading ended before the end: told when all that came before is given out.
    failure: Option<Error>,
    /// How long the last packet took to read, and to decode.
    pace: (Duration, Duration),
    counts: Counts,
    /// What the decoder said of the last packet that it could not decode.
    last_damage: String,
    no_device: Option<String>,
    info: Info,
}

/// What decoding a keyframe's packet was like.
struct Decoding {
    bytes: u64,
    took: Duration,
}

enum Outcome {
    Picture { pts: Option<i64>, frame: Frame, packet: Option<Decoding> },
    Damage { pts: Option<i64>, reason: String },
    Notice(String),
}

impl KeyframeReader {
    /// Opens what `source` holds and finds the video to decode. Waits for and holds the opening lock.
    ///
    /// # Errors
    /// Every way in which a file can be unfit: see [`Error`].
    pub fn open(source: Box<dyn ByteSource>, options: &Options, interrupt: Interrupt) -> Result<Self, Error> {
        Self::open_with(source, options, interrupt, &hardware::open_shared)
    }

    /// As [`open`](Self::open), with devices that `open_device` opens.
    pub(crate) fn open_with(
        source: Box<dyn ByteSource>,
        options: &Options,
        interrupt: Interrupt,
        open_device: hardware::Opener<'_>,
    ) -> Result<Self, Error> {
        super::check_version()?;
        let _attributed = options.log.enter();
        let lock = opening::enter();
        let mut input = Input::open(source, interrupt.clone(), options.max_pixels)?;
        let video = match options.stream_index {
            Some(index) => input.video_at(index)?,
            None => input.best_video()?,
        };
        video.check_size(options.max_pixels)?;
        let choice = hardware::choose(&options.hardware, video.native_decoder(), open_device)?;
        let (max_pixels, memory) = (options.max_pixels, options.pool.for_file());
        let resources = Resources { max_pixels, memory, device: choice.device, log: options.log.clone() };
        let decoders = Decoders::open(&video, options.threads, resources.clone())?;
        let lock_times = lock.leave();
        let units = |ns: u64| to_units(video.time_base(), i64::try_from(ns).unwrap_or(i64::MAX));
        let gaps = (options.max_gap_ns > 0)
            .then(|| Gaps::new(units(options.max_gap_ns), decoders.threads().0, resources.clone(), interrupt.clone()));
        let info = Info {
            container: input.container(),
            container_names: input.container_names(),
            codec: video.codec_long_name(),
            decoder: decoders.name().to_owned(),
            threads: decoders.threads(),
            stream_index: video.index(),
            streams: input.describe_streams(),
            title: input.metadata(&metadata_key("title")),
            is_intra_only: video.is_intra_only(),
            duration_ns: input.duration_us().and_then(|us| u64::try_from(us).ok()?.checked_mul(1000)),
            frame_rate: input.frame_rate(&video),
            is_interlaced: video.is_interlaced(),
        };
        let rules = Rules { max_pixels, min_interval_ns: 0, wants_all: gaps.is_some() };
        let mut reader = Self {
            decoders,
            packets: Packets::new(input, video, &rules, interrupt.clone())?,
            resources,
            threads: options.threads,
            ready: VecDeque::new(),
            gaps,
            wanted: options.max_frames,
            max_frames: options.max_frames,
            interrupt,
            at_end: false,
            failure: None,
            pace: (Duration::ZERO, Duration::ZERO),
            counts: Counts { lock_times, ..Counts::default() },
            last_damage: String::new(),
            no_device: choice.reason,
            info,
        };
        reader.set_min_interval(options.min_interval_ns);
        Ok(reader)
    }

    /// What is known of the file.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// What was read and decoded so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        let tally = &self.packets.tally;
        (counts.dropped_packets, counts.skipped) = (tally.dropped, tally.skipped);
        (counts.encrypted, counts.missing) = (tally.encrypted, tally.missing);
        counts.lock_times += self.decoders.lock_times();
        counts.lock_times += tally.lock_times;
        counts
    }

    /// What is missing or incomplete of what was read so far, in words; empty where nothing is.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let counts = self.counts();
        let mut problems = self.packets.tally.problems.clone();
        let frames = |count: u64| if count == 1 { "1 frame".to_owned() } else { format!("{count} frames") };
        if counts.damaged > 0 {
            problems.push(format!("{} could not be read or decoded: {}", frames(counts.damaged), self.last_damage));
        }
        if counts.corrupt > 0 {
            problems.push(format!(
                "{} incomplete: parts are missing or were made up by the decoder",
                frames(counts.corrupt)
            ));
        }
        if counts.encrypted > 0 && counts.frames > 0 {
            problems.push(format!("{} encrypted", frames(counts.encrypted)));
        }
        problems
    }

    /// Keyframes in the container's index; known at the end of the file, `None` before and where there is no index.
    #[must_use]
    pub fn indexed_keyframes(&self) -> Option<u64> {
        self.packets.tally.indexed
    }

    /// The device that decodes, by its name; `None` for the processor. It may hand over to that with the first picture.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        self.decoders.device().0
    }

    /// Why the processor decodes, where a device was asked for.
    #[must_use]
    pub fn fallback_reason(&self) -> Option<String> {
        self.no_device.clone().or_else(|| self.decoders.device().1.then(|| hardware::REFUSED.into()))
    }

    /// Whether the source has random access, so that [`seek`](Self::seek) may work.
    #[must_use]
    pub fn is_seekable(&self) -> bool {
        self.packets.input.is_seekable()
    }

    /// Bytes taken from the source so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.packets.input.bytes_read()
    }

    /// The container's first presentation time in nanoseconds, where it has one.
    #[must_use]
    pub fn start_ns(&self) -> Option<i64> {
        self.packets.input.start_us().and_then(|us| us.checked_mul(1000))
    }

    /// The next keyframe.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; when all that came before was given out, an error of the source, or at the end of a file that gave
    /// no picture the reason why.
    #[expect(clippy::should_implement_trait, reason = "four outcomes and an error do not fit Iterator")]
    pub fn next(&mut self) -> Result<Step, Error> {
        let _attributed = self.resources.log.enter();
        loop {
            if self.interrupt.is_set() {
                return Err(Error::Interrupted);
            }
            if self.max_frames > 0 && self.wanted == 0 {
                return Ok(Step::End);
            }
            match self.ready.pop_front() {
                Some(Outcome::Picture { pts, frame, packet }) => {
                    self.counts.frames += 1;
                    self.counts.between += u64::from(packet.is_none());
                    self.counts.corrupt += u64::from(frame.is_corrupt());
                    self.wanted = self.wanted.saturating_sub(1);
                    return Ok(Step::Keyframe(self.describe(pts, frame, packet)));
                }
                Some(Outcome::Damage { pts, reason }) => {
                    self.counts.damaged += 1;
                    self.last_damage.clone_from(&reason);
                    return Ok(Step::Damaged { pts_ns: pts.and_then(|ts| self.to_ns(ts)), reason });
                }
                Some(Outcome::Notice(text)) => return Ok(Step::Notice(text)),
                None => {}
            }
            // Reading ahead of the decoders is worth it only while it is faster than they are: from a slow source a
            // keyframe that is nearly done must not wait for the next to arrive.
            let (reading, decoding) = self.pace;
            let is_enough = self.max_frames > 0 && self.decoders.len() as u64 >= self.wanted;
            let wait = self.at_end || is_enough || self.decoders.is_full() || reading > decoding;
            if let Some(decoded) = self.decoders.take(wait, &self.interrupt)? {
                self.take_in(decoded)?;
            } else if self.at_end {
                if let Some(failure) = self.failure.take() {
                    return Err(failure);
                }
                self.explain_nothing()?;
                return Ok(self.packets.tally.untold_problem().map_or(Step::End, Step::Notice));
            } else {
                self.feed()?;
            }
        }
    }

    /// The next keyframe that [`next`](Self::next) would hand to a decoder, whatever `max_frames` says; `None` at the end. A reader
    /// is for one or the other.
    ///
    /// # Errors
    /// [`Error::Interrupted`], [`Error::Encrypted`], an error of the source or of the container.
    pub fn list_next(&mut self) -> Result<Option<Listed>, Error> {
        let _attributed = self.resources.log.enter();
        while !self.interrupt.is_set() {
            match self.packets.next()? {
                Next::Keyframe(packets) | Next::Hidden(packets) => {
                    let pts_ns = packets.first().and_then(Packet::timestamp).and_then(|time| self.to_ns(time));
                    return Ok(Some(Listed { pts_ns, bytes: packets.iter().map(Packet::byte_len).sum() }));
                }
                Next::Encrypted => return Err(Error::Encrypted),
                Next::End => return Ok(None),
                Next::TooClose(_) | Next::Between(_) | Next::Nothing | Next::Moved => {}
            }
        }
        Err(Error::Interrupted)
    }

    /// Makes up for a frame that was given out and is not counted among those wanted.
    pub fn want_one_more(&mut self) {
        self.wanted = self.wanted.saturating_add(u64::from(self.max_frames > 0));
    }

    fn take_in(&mut self, decoded: Decoded) -> Result<(), Error> {
        self.pace.1 = decoded.took;
        self.counts.decode_time += decoded.took;
        match decoded.pictures {
            Ok(pictures) => {
                if pictures.is_empty() {
                    let reason = "the decoder gave no picture for this keyframe".into();
                    self.ready.push_back(Outcome::Damage { pts: decoded.pts, reason });
                }
                for (pts, frame) in pictures {
                    let packet = Some(Decoding { bytes: decoded.bytes, took: decoded.took });
                    self.ready.push_back(Outcome::Picture { pts, frame, packet });
                }
            }
            Err(error @ Error::Hardware { .. }) => return Err(error),
            Err(error) => self.ready.push_back(Outcome::Damage { pts: decoded.pts, reason: error.to_string() }),
        }
        Ok(())
    }

    /// From the next packet on, leaves out keyframes that follow another by less than `interval_ns`; 0 for none.
    pub fn set_min_interval(&mut self, interval_ns: u64) {
        match &mut self.gaps {
            // Frames of gaps count too, and they are known only here.
            Some(gaps) => {
                let interval_ns = i64::try_from(interval_ns).unwrap_or(i64::MAX);
                gaps.set_shortest(to_units(self.packets.video.time_base(), interval_ns));
            }
            None => self.packets.min_interval_ns = interval_ns,
        }
    }

    /// Moves to the keyframe at or before `position_ns` of the container's time, or to the first after it.
    ///
    /// # Errors
    /// When the container cannot be searched, or the source fails.
    pub fn seek(&mut self, position_ns: i64) -> Result<(), Error> {
        let _attributed = self.resources.log.enter();
        self.packets.seek(to_units(self.packets.video.time_base(), position_ns))?;
        self.decoders.clear();
        self.ready.clear();
        if let Some(gaps) = &mut self.gaps {
            gaps.clear();
        }
        self.wanted = self.max_frames;
        self.at_end = false;
        self.failure = None;
        Ok(())
    }

    /// Reads a packet and hands it to the decoders if it is a keyframe.
    fn feed(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        let next = self.packets.next();
        let took = started.elapsed();
        self.counts.read_time += took;
        self.ready.extend(self.packets.tally.notices.drain(..).map(Outcome::Notice));
        match next {
            Ok(Next::Keyframe(packets)) => self.decode_keyframe(packets, took),
            Ok(Next::Hidden(packets)) => self.approach(packets),
            Ok(Next::TooClose(packet)) => self.follow_with(|gaps, _, frames| gaps.begin(packet, false, frames)),
            Ok(Next::Between(packet)) => self.follow_with(|gaps, video, frames| gaps.add(video, packet, frames)),
            Ok(Next::Nothing) => Ok(()),
            Ok(Next::Encrypted) if self.counts.key_packets > 0 => {
                let pts = self.packets.time();
                self.drain_decoders()?;
                self.ready.push_back(Outcome::Damage { pts, reason: "the video is encrypted from here on".into() });
                Ok(())
            }
            Ok(Next::Encrypted) => Ok(()),
            Ok(Next::Moved) => self.change_decoders(),
            Ok(Next::End) => {
                self.at_end = true;
                self.follow_with(|gaps, _, frames| gaps.end(frames))
            }
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                // What cannot be read cannot be skipped either: what is in the decoders is given out, then comes the end.
                self.at_end = true;
                self.drain_decoders()?;
                match error {
                    Error::Call { .. } => {
                        let reason = format!("the file cannot be read on from here: {error}");
                        self.ready.push_back(Outcome::Damage { pts: self.packets.time(), reason });
                    }
                    error => self.failure = Some(error),
                }
                Ok(())
            }
        }
    }

    fn decode_keyframe(&mut self, packets: Vec<Packet>, took: Duration) -> Result<(), Error> {
        if self.follows_too_closely(&packets) {
            return self.pass_over(packets);
        }
        self.counts.key_packets += 1;
        self.counts.key_bytes += packets.iter().map(Packet::byte_len).sum::<u64>();
        self.pace.0 = took;
        if self.gaps.is_none() {
            return self.decoders.put(&self.packets.video, packets);
        }
        // What comes of a keyframe must be known before what follows it: some are so in name only.
        let shared = packets.iter().map(Packet::share).collect::<Result<Vec<_>, _>>()?;
        self.decoders.put(&self.packets.video, packets)?;
        let Some(decoded) = self.decoders.take(true, &self.interrupt)? else { return Ok(()) };
        let is_keyframe = !decoded.pictures.as_ref().is_ok_and(Vec::is_empty);
        if is_keyframe {
            // The last frames of the stretch before may be too close to it.
            self.follow_with(|gaps, _, frames| gaps.end(frames))?;
            if self.follows_too_closely(&shared) {
                return self.pass_over(shared);
            }
        }
        let mut shared = shared.into_iter();
        let Some(keyframe) = shared.next() else { return Ok(()) };
        if !is_keyframe {
            self.follow_with(|gaps, video, frames| gaps.add(video, keyframe, frames))?;
        } else {
            let is_given = decoded.pictures.is_ok();
            self.follow_with(|gaps, _, frames| gaps.begin(keyframe, is_given, frames))?;
            self.take_in(decoded)?;
        }
        shared.try_for_each(|field| self.follow_with(|gaps, video, frames| gaps.add(video, field, frames)))
    }

    /// Whether a keyframe follows the last frame given out too closely, where frames of gaps count too.
    fn follows_too_closely(&self, packets: &[Packet]) -> bool {
        let time = packets.first().and_then(Packet::timestamp);
        self.gaps.as_ref().is_some_and(|gaps| gaps.is_too_close(time))
    }

    /// Leaves a keyframe out. What follows may be decoded from it.
    fn pass_over(&mut self, packets: Vec<Packet>) -> Result<(), Error> {
        self.packets.tally.skipped += 1;
        let mut packets = packets.into_iter();
        if let Some(keyframe) = packets.next() {
            self.follow_with(|gaps, _, frames| gaps.begin(keyframe, false, frames))?;
        }
        packets.try_for_each(|field| self.follow_with(|gaps, video, frames| gaps.add(video, field, frames)))
    }

    /// Decodes on from a keyframe that lies before the clip's beginning, to the first frame that is seen.
    fn approach(&mut self, packets: Vec<Packet>) -> Result<(), Error> {
        self.drain_decoders()?;
        let started = Instant::now();
        let pts = packets.first().and_then(Packet::timestamp);
        self.counts.key_packets += 1;
        self.counts.key_bytes += packets.iter().map(Packet::byte_len).sum::<u64>();
        let lock = opening::enter();
        let threads = self.decoders.threads().0;
        let decoder = Decoder::open(&self.packets.video, Purpose::EveryFrame { threads }, &self.resources);
        self.counts.lock_times += lock.leave();
        let mut decoder = decoder?;
        let mut frames = Vec::new();
        let mut decoded = packets.iter().try_for_each(|packet| decoder.decode(packet, &mut frames));
        for _ in 0..APPROACH_PACKETS {
            if !frames.is_empty() {
                break;
            }
            if self.interrupt.is_set() {
                return Err(Error::Interrupted);
            }
            let Some(packet) = self.packets.next_in_a_row()? else { break };
            if packet.is_key() && !packet.is_hidden() {
                self.packets.put_back(packet);
                break;
            }
            decoded = decoder.decode(&packet, &mut frames);
        }
        if frames.is_empty() {
            decoded = decoder.drain(&mut frames);
        }
        self.counts.decode_time += started.elapsed();
        match (frames.into_iter().next(), decoded) {
            (Some(frame), _) => {
                self.ready.push_back(Outcome::Picture { pts: frame.timestamp(), frame, packet: None });
            }
            (None, Err(error)) => self.ready.push_back(Outcome::Damage { pts, reason: error.to_string() }),
            // All that was hidden stays so: the next keyframe is where the clip begins.
            (None, Ok(())) => {}
        }
        Ok(())
    }

    /// Decoders for what the video has become.
    fn change_decoders(&mut self) -> Result<(), Error> {
        self.drain_decoders()?;
        let lock = opening::enter();
        let opened = self
            .packets
            .video
            .check_size(self.resources.max_pixels)
            .and_then(|()| Decoders::open(&self.packets.video, self.threads, self.resources.clone()));
        self.counts.lock_times += lock.leave();
        self.counts.lock_times += self.decoders.lock_times();
        self.decoders = opened?;
        if let Some(gaps) = &mut self.gaps {
            gaps.renew();
        }
        self.info.codec = self.packets.video.codec_long_name();
        self.info.decoder = self.decoders.name().to_owned();
        self.info.stream_index = self.packets.video.index();
        Ok(())
    }

    /// Takes what is inside the decoders.
    fn drain_decoders(&mut self) -> Result<(), Error> {
        while let Some(decoded) = self.decoders.take(true, &self.interrupt)? {
            self.take_in(decoded)?;
        }
        Ok(())
    }

    /// Lets `act` decode frames between keyframes, which come after all keyframes so far.
    fn follow_with(
        &mut self,
        act: impl FnOnce(&mut Gaps, &VideoStream, &mut Vec<Frame>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(gaps) = &mut self.gaps else { return Ok(()) };
        let started = Instant::now();
        let mut frames = Vec::new();
        let decoded = act(gaps, &self.packets.video, &mut frames);
        if frames.is_empty() && decoded.is_ok() {
            return Ok(());
        }
        self.counts.decode_time += started.elapsed();
        self.drain_decoders()?;
        for frame in frames {
            self.ready.push_back(Outcome::Picture { pts: frame.timestamp(), frame, packet: None });
        }
        match decoded {
            Err(error @ Error::Call { .. }) => {
                self.ready.push_back(Outcome::Damage { pts: None, reason: error.to_string() });
                Ok(())
            }
            other => other,
        }
    }

    /// At the end: if no picture came, say why.
    fn explain_nothing(&mut self) -> Result<(), Error> {
        if self.counts.frames > 0 {
            return Ok(());
        }
        Err(self.why_nothing())
    }

    fn why_nothing(&mut self) -> Error {
        let input = &mut self.packets.input;
        if let Some(known) = input.known_trouble() {
            return known;
        }
        let is_elsewhere = self.info.container_names.split(',').any(|name| name == "mp4")
            && self.packets.video.index_len() > 0
            && self.packets.tally.keyframes + self.packets.tally.dropped + self.packets.tally.encrypted == 0
            && self.packets.tally.problems.is_empty();
        if is_elsewhere && !self.packets.input.is_seekable() {
            return Error::Damaged(
                "its media data does not lie in the order in which it is shown, so that it has to be read from a file: use filesrc"
                    .into(),
            );
        }
        if is_elsewhere {
            return Error::Reference { kind: "a movie whose media data lies in another file" };
        }
        let bytes = self.packets.input.byte_len();
        let cause = self.packets.tally.problems.first().cloned();
        let error = self.counts().why_no_picture(&self.info.codec, &self.last_damage, bytes);
        match (error, cause) {
            (Error::NoKeyframes(_), Some(cause)) => Error::Damaged(cause),
            (error, _) => error,
        }
    }

    fn describe(&self, pts: Option<i64>, frame: Frame, packet: Option<Decoding>) -> Keyframe {
        let video = &self.packets.video;
        Keyframe {
            pts_ns: pts.and_then(|ts| self.to_ns(ts)),
            duration_ns: frame.duration().and_then(|units| self.to_ns(units)).and_then(|ns| u64::try_from(ns).ok()),
            pixel_aspect_ratio: self.packets.input.sample_aspect_ratio(video, &frame),
            turn: frame.turn().or_else(|| self.packets.still_turn()).unwrap_or_else(|| video.turn()),
            packet_bytes: packet.as_ref().map_or(0, |packet| packet.bytes),
            decode_time: packet.as_ref().map_or(Duration::ZERO, |packet| packet.took),
            is_keyframe: packet.is_some(),
            frame,
        }
    }

    /// Units of the stream's time base in nanoseconds, rounded towards zero; `None` where i64 cannot hold it.
    fn to_ns(&self, units: i64) -> Option<i64> {
        let (num, den) = self.packets.video.time_base();
        i64::try_from(i128::from(units) * i128::from(num) * 1_000_000_000 / i128::from(den)).ok()
    }
}
