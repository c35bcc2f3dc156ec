//! The job of this layer: the keyframes of a file, one after the other.
//!
//! Demuxer, decoder and the rules that hold them to keyframes: the demuxer is told to skip everything else before it
//! reads it, packets that are not flagged as keyframes are dropped (VP9, AV1 and GIF decoders decode what they get),
//! each keyframe is decoded alone (see decoders.rs), and the decoder is told to skip the rest.
//!
//! Thread rule: one thread at a time. [`Interrupt`] ends a call from any other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::decoder::Resources;
use super::decoders::{Decoded, Decoders};
use super::error::Error;
use super::frame::Frame;
use super::gaps::Gaps;
use super::hardware;
use super::input::{Input, metadata_key};
use super::io::{ByteSource, Interrupt};
use super::jump::{Jump, Jumper};
use super::keyframe::{Counts, Info, Keyframe, Step};
use super::opening;
use super::options::Options;
use super::packet::Packet;
use super::video_stream::VideoStream;

/// A file opened for its keyframes.
pub struct KeyframeReader {
    decoders: Decoders,
    // The stream points into the input: fields are dropped in this order.
    pub(super) video: VideoStream,
    input: Input,
    pub(super) packet: Packet,
    /// What came out of the decoders and is still to be given out, in order.
    ready: VecDeque<Outcome>,
    /// Frames between keyframes, where they are wanted.
    gaps: Option<Gaps>,
    min_interval_ns: i64,
    /// Time of the last keyframe that was handed to the decoders, and its decoding time.
    pub(super) last_taken: Option<(i64, i64)>,
    /// Frames that may still be given out.
    wanted: u64,
    max_frames: u64,
    jumper: Option<Jumper>,
    /// Time of the last keyframe that was read before the jumper lost its way: what lies before is known.
    pub(super) known_until: Option<i64>,
    /// Time of the last keyframe read.
    pub(super) last_read: Option<i64>,
    pub(super) interrupt: Interrupt,
    at_end: bool,
    /// How long the last packet took to read, and to decode.
    pace: (Duration, Duration),
    counts: Counts,
    last_damage: String,
    /// Why no device decodes although one was asked for.
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
    pub(super) fn open_with(
        source: Box<dyn ByteSource>,
        options: &Options,
        interrupt: Interrupt,
        open_device: hardware::Opener<'_>,
    ) -> Result<Self, Error> {
        super::check_version()?;
        let lock = opening::enter();
        let mut input = Input::open(source, interrupt.clone(), options.max_pixels)?;
        let video = match options.stream_index {
            Some(index) => input.video_at(index)?,
            None => input.best_video()?,
        };
        video.check_size(options.max_pixels)?;
        let choice = hardware::choose(&options.hardware, video.native_decoder(), open_device)?;
        let (max_pixels, memory) = (options.max_pixels, options.pool.for_file());
        let resources = Resources { max_pixels, memory, device: choice.device };
        let decoders = Decoders::open(&video, options.threads, resources.clone())?;
        let lock_times = lock.leave();
        let units = |ns: u64| to_units(video.time_base(), i64::try_from(ns).unwrap_or(i64::MAX));
        let gaps = (options.max_gap_ns > 0)
            .then(|| Gaps::new(units(options.max_gap_ns), decoders.threads().0, resources, interrupt.clone()));
        let jumper = if gaps.is_none() { Jumper::new(&mut input, &video)? } else { None };
        // A mov demuxer that discards loses count of presentation times: see jump.rs.
        let only_keyframes = gaps.is_none() && (jumper.is_some() || !input.container_names().contains("mp4"));
        input.select(&video, only_keyframes);
        let info = Info {
            container: input.container(),
            container_names: input.container_names(),
            codec: video.codec_long_name(),
            decoder: decoders.name().to_owned(),
            threads: decoders.threads(),
            stream_index: video.index(),
            streams: input.describe_streams(),
            title: input.metadata(&metadata_key("title")),
            duration_ns: input.duration_us().and_then(|us| u64::try_from(us).ok()?.checked_mul(1000)),
            frame_rate: input.frame_rate(&video),
            is_interlaced: video.is_interlaced(),
        };
        let packet = Packet::new()?;
        Ok(Self {
            decoders,
            video,
            input,
            packet,
            ready: VecDeque::new(),
            gaps,
            min_interval_ns: i64::try_from(options.min_interval_ns).unwrap_or(i64::MAX),
            last_taken: None,
            wanted: options.max_frames,
            max_frames: options.max_frames,
            jumper,
            known_until: None,
            last_read: None,
            interrupt,
            at_end: false,
            pace: (Duration::ZERO, Duration::ZERO),
            counts: Counts { lock_times, ..Counts::default() },
            last_damage: String::new(),
            no_device: choice.reason,
            info,
        })
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
        counts.lock_times += self.decoders.lock_times();
        counts
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
        self.input.is_seekable()
    }

    /// Bytes taken from the source so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.input.bytes_read()
    }

    /// The container's first presentation time in nanoseconds, where it has one.
    #[must_use]
    pub fn start_ns(&self) -> Option<i64> {
        self.input.start_us().and_then(|us| us.checked_mul(1000))
    }

    /// The next keyframe.
    ///
    /// # Errors
    /// [`Error::Interrupted`], an error of the source, or at the end of a file that gave no picture the reason why.
    #[expect(clippy::should_implement_trait, reason = "three outcomes and an error do not fit Iterator")]
    pub fn next(&mut self) -> Result<Step, Error> {
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
                    self.wanted = self.wanted.saturating_sub(1);
                    return Ok(Step::Keyframe(self.describe(pts, frame, packet)));
                }
                Some(Outcome::Damage { pts, reason }) => {
                    self.counts.damaged += 1;
                    self.last_damage.clone_from(&reason);
                    return Ok(Step::Damaged { pts_ns: pts.and_then(|ts| self.to_ns(ts)), reason });
                }
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
                self.explain_nothing()?;
                return Ok(Step::End);
            } else {
                self.feed()?;
            }
        }
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

    /// Moves to the keyframe at or before `position_ns` of the container's time, or to the first after it.
    ///
    /// # Errors
    /// When the container cannot be searched, or the source fails.
    pub fn seek(&mut self, position_ns: i64) -> Result<(), Error> {
        self.input.seek(&self.video, to_units(self.video.time_base(), position_ns))?;
        if let Some(jumper) = &mut self.jumper {
            jumper.reset();
        }
        self.decoders.clear();
        self.ready.clear();
        if let Some(gaps) = &mut self.gaps {
            gaps.clear();
        }
        self.last_taken = None;
        self.wanted = self.max_frames;
        (self.known_until, self.last_read) = (None, None);
        self.at_end = false;
        Ok(())
    }

    /// Reads a packet and hands it to the decoders if it is a keyframe.
    fn feed(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        let read = self.read();
        let took = started.elapsed();
        self.counts.read_time += took;
        match read {
            Ok(true) => {}
            Ok(false) => {
                self.at_end = true;
                return self.follow_with(|gaps, _, frames| gaps.end(frames));
            }
            Err(error @ Error::Call { .. }) => {
                // What the demuxer cannot read it cannot skip either: give out what is in the decoders and end.
                self.at_end = true;
                self.drain_decoders()?;
                let reason = format!("the file cannot be read on from here: {error}");
                self.ready.push_back(Outcome::Damage { pts: self.packet.timestamp(), reason });
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if self.packet.stream_index() != self.video.index() || self.packet.byte_len() == 0 {
            return Ok(());
        }
        let time = self.packet.timestamp();
        if self.packet.is_encrypted() {
            self.counts.encrypted += u64::from(self.packet.is_key());
            if self.counts.encrypted == 1 && self.counts.frames > 0 {
                self.drain_decoders()?;
                self.ready
                    .push_back(Outcome::Damage { pts: time, reason: "the video is encrypted from here on".into() });
            }
            return Ok(());
        }
        if !self.packet.is_key() {
            self.counts.dropped_packets += 1;
            if self.gaps.is_some() {
                let packet = self.packet.take()?;
                self.follow_with(|gaps, video, frames| gaps.add(video, packet, frames))?;
            }
            return Ok(());
        }
        if self.known_until.zip(time).is_some_and(|(known, time)| time <= known) {
            return Ok(());
        }
        self.last_read = time;
        if self.follows_too_closely(time) {
            self.counts.skipped += 1;
            if self.gaps.is_some() {
                let keyframe = self.packet.take()?;
                self.follow_with(|gaps, _, frames| gaps.begin(keyframe, false, frames))?;
            }
            return Ok(());
        }
        self.last_taken = time.map(|time| (time, self.packet.dts().unwrap_or(time)));
        self.counts.key_packets += 1;
        self.counts.key_bytes += self.packet.byte_len();
        self.pace.0 = took;
        if self.gaps.is_none() {
            return self.decoders.put(&self.video, &mut self.packet);
        }
        // What comes of a keyframe must be known before what follows it: some are so in name only.
        let keyframe = self.packet.share()?;
        self.decoders.put(&self.video, &mut self.packet)?;
        let Some(decoded) = self.decoders.take(true, &self.interrupt)? else { return Ok(()) };
        if decoded.pictures.as_ref().is_ok_and(Vec::is_empty) {
            self.follow_with(|gaps, video, frames| gaps.add(video, keyframe, frames))
        } else {
            let is_given = decoded.pictures.is_ok();
            self.follow_with(|gaps, _, frames| gaps.begin(keyframe, is_given, frames))?;
            self.take_in(decoded)?;
            Ok(())
        }
    }

    pub(super) fn follows_too_closely(&self, time: Option<i64>) -> bool {
        let Some((time, (last, _))) = time.zip(self.last_taken) else { return false };
        let interval = time.saturating_sub(last);
        interval >= 0 && self.to_ns(interval).is_some_and(|ns| ns < self.min_interval_ns)
    }

    /// Decoding time before which keyframes surely follow too closely. It and presentation time lie a few frames apart,
    /// so what is only just too close is read.
    fn earliest_wanted(&self) -> i64 {
        let Some((_, last)) = self.last_taken else { return i64::MIN };
        last.saturating_add(to_units(self.video.time_base(), self.min_interval_ns.saturating_sub(1_000_000_000).max(0)))
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
        let decoded = act(gaps, &self.video, &mut frames);
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

    /// Reads the next packet: of a file that is jumped through the next keyframe, else whatever comes.
    pub(super) fn read(&mut self) -> Result<bool, Error> {
        let earliest = self.earliest_wanted();
        if let Some(jumper) = &mut self.jumper {
            match jumper.next(earliest, &mut self.input, &self.video, &mut self.packet)? {
                Jump::Landed => return Ok(true),
                Jump::End => return Ok(false),
                Jump::Lost => {
                    self.known_until = self.last_read;
                    self.jumper = None;
                    self.input.select(&self.video, false);
                    if let Some(last) = self.known_until {
                        self.input.seek(&self.video, last)?;
                    }
                }
            }
        }
        self.input.read(&mut self.packet)
    }

    /// At the end: if no picture came, say why.
    fn explain_nothing(&mut self) -> Result<(), Error> {
        if self.counts.frames > 0 {
            return Ok(());
        }
        Err(self.counts.why_no_picture(&self.info.codec, &self.last_damage, self.input.byte_len()))
    }

    fn describe(&self, pts: Option<i64>, frame: Frame, packet: Option<Decoding>) -> Keyframe {
        Keyframe {
            pts_ns: pts.and_then(|ts| self.to_ns(ts)),
            duration_ns: frame.duration().and_then(|units| self.to_ns(units)).and_then(|ns| u64::try_from(ns).ok()),
            pixel_aspect_ratio: self.input.sample_aspect_ratio(&self.video, &frame),
            turn: frame.turn().unwrap_or_else(|| self.video.turn()),
            packet_bytes: packet.as_ref().map_or(0, |packet| packet.bytes),
            decode_time: packet.as_ref().map_or(Duration::ZERO, |packet| packet.took),
            is_keyframe: packet.is_some(),
            frame,
        }
    }

    /// Units of the stream's time base in nanoseconds, rounded towards zero; `None` where i64 cannot hold it.
    pub(super) fn to_ns(&self, units: i64) -> Option<i64> {
        let (num, den) = self.video.time_base();
        i64::try_from(i128::from(units) * i128::from(num) * 1_000_000_000 / i128::from(den)).ok()
    }
}

/// Nanoseconds in units of a time base, rounded towards zero and kept within i64.
fn to_units((num, den): (i64, i64), ns: i64) -> i64 {
    let units = i128::from(ns) * i128::from(den) / (i128::from(num.max(1)) * 1_000_000_000);
    i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
}
