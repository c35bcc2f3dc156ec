// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the keyframes of a file, one after the other: the purpose of this layer.
//!
//! selection.rs decides which packets are keyframes; each is decoded alone (see decode/parallel.rs). This module combines them:
//! decoders that work while the next packet is read, frames between keyframes where those are too far apart (gaps.rs), and a clip's
//! first frame where its keyframe lies before the clip's beginning.
//!
//! Thread rule: one thread at a time. [`Interrupt`] interrupts a call from any other.

pub mod elementary;
mod gaps;
pub mod keyframe;
pub mod options;
mod overlap;
mod selection;
mod still_image;
mod stream_switch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::av::decode::decoder::{DecodeMode, Decoder, Resources};
use crate::av::decode::hardware;
use crate::av::decode::parallel::{Decoded, Decoders};
use crate::av::error::Error;
use crate::av::frame::Frame;
use crate::av::input::container::Container;
use crate::av::input::packet::KeyframePackets;
use crate::av::input::video_stream::VideoStream;
use crate::av::input::{Input, metadata_key};
use crate::av::io::{ByteSource, Interrupt};
use crate::av::keyframes::gaps::GapFiller;
use crate::av::keyframes::keyframe::{Counts, Info, Keyframe, KeyframeEntry, Step};
use crate::av::keyframes::options::Options;
use crate::av::keyframes::selection::{Next, PacketSelector, SelectionOptions, to_units};
use crate::av::opening_lock;

/// Most packets that are decoded to reach the first frame of a clip whose keyframe lies before it.
const MAX_LEAD_IN_PACKETS: usize = 5000;

/// Reads the keyframes of an opened file.
pub struct KeyframeReader {
    decoders: Decoders,
    packets: PacketSelector,
    resources: Resources,
    /// Decoded pictures and messages that are still to be returned, in order.
    ready: VecDeque<Outcome>,
    /// Outputs frames between keyframes, where requested.
    gaps: Option<GapFiller>,
    /// Frames that may still be returned.
    remaining: u64,
    max_frames: u64,
    interrupt: Interrupt,
    at_end: bool,
    /// The video has changed, and the decoders are still those of the video before.
    needs_decoders: bool,
    /// Error that ended reading early: returned after all that came before.
    failure: Option<Error>,
    /// Times of the last keyframe.
    pace: Pace,
    counts: Counts,
    /// The decoder's error for the last packet that it could not decode.
    last_damage: String,
    /// Why no device decodes, where one was requested.
    no_device_reason: Option<String>,
    info: Info,
}

/// How long the last keyframe took.
#[derive(Default)]
struct Pace {
    read: Duration,
    decode: Duration,
}

/// Size of a keyframe, and times to read and to decode it.
struct Decoding {
    bytes: u64,
    read: Duration,
    took: Duration,
}

enum Outcome {
    Picture { pts: Option<i64>, frame: Frame, packet: Option<Decoding> },
    Damage { pts: Option<i64>, reason: String },
    Notice(String),
}

impl KeyframeReader {
    /// Opens the file in `source` and selects the video to decode. Waits for and holds the opening lock.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(source: Box<dyn ByteSource>, options: &Options, interrupt: Interrupt) -> Result<Self, Error> {
        Self::open_with(source, options, interrupt, &hardware::open_shared)
    }

    /// As [`open`](Self::open), with `open_device` to open devices.
    pub(crate) fn open_with(
        source: Box<dyn ByteSource>,
        options: &Options,
        interrupt: Interrupt,
        open_device: hardware::Opener<'_>,
    ) -> Result<Self, Error> {
        super::check_version()?;
        let _attributed = options.log.enter();
        let lock = opening_lock::acquire();
        let mut input = Input::open(source, interrupt.clone(), options.decoder.max_pixels)?;
        let video = match options.stream_index {
            Some(index) => input.video_at(index)?,
            None => input.best_video()?,
        };
        video.check_size(options.decoder.max_pixels)?;
        let choice = hardware::choose(&options.decoder.hardware, video.native_decoder(), open_device)?;
        let resources = Resources {
            options: options.decoder.clone(),
            memory: options.pool.for_file(),
            device: choice.device,
            log: options.log.clone(),
            x264_build: Arc::default(),
        };
        let decoders = Decoders::open(&video, resources.clone())?;
        let lock_times = lock.release();
        let units = |ns: u64| to_units(video.time_base(), i64::try_from(ns).unwrap_or(i64::MAX));
        let gaps = (options.max_gap_ns > 0).then(|| {
            GapFiller::new(units(options.max_gap_ns), decoders.threads().0, resources.clone(), interrupt.clone())
        });
        let info = Info {
            container: input.container_name(),
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
        let rules =
            SelectionOptions { max_pixels: options.decoder.max_pixels, min_interval_ns: 0, wants_all: gaps.is_some() };
        let mut reader = Self {
            decoders,
            packets: PacketSelector::new(input, video, &rules, interrupt.clone())?,
            resources,
            ready: VecDeque::new(),
            gaps,
            remaining: options.max_frames,
            max_frames: options.max_frames,
            interrupt,
            at_end: false,
            needs_decoders: false,
            failure: None,
            pace: Pace::default(),
            counts: Counts { lock_times, ..Counts::default() },
            last_damage: String::new(),
            no_device_reason: choice.reason,
            info,
        };
        reader.set_min_interval(options.min_interval_ns);
        Ok(reader)
    }

    /// Returns information about the file.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Returns counts of what was read and decoded so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        let report = &self.packets.report;
        (counts.dropped_packets, counts.skipped) = (report.dropped, report.skipped);
        (counts.encrypted, counts.missing) = (report.encrypted, report.missing);
        counts.lock_times += self.decoders.lock_times();
        counts.lock_times += report.lock_times;
        counts
    }

    /// Describes what is missing or incomplete of what was read so far; empty where nothing is.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let counts = self.counts();
        let mut problems = self.packets.report.problems.clone();
        let frames = |count: u64| if count == 1 { "1 frame".to_owned() } else { format!("{count} frames") };
        if counts.damaged > 0 {
            problems.push(format!("{} could not be read or decoded: {}", frames(counts.damaged), self.last_damage));
        }
        if counts.corrupt > 0 {
            problems.push(format!(
                "{} incomplete: parts are missing, or the decoder concealed errors",
                frames(counts.corrupt)
            ));
        }
        if counts.encrypted > 0 && counts.frames > 0 {
            problems.push(format!("{} encrypted", frames(counts.encrypted)));
        }
        problems
    }

    /// Returns the number of keyframes in the container's index; known at the end of the file, `None` before and where there is none.
    #[must_use]
    pub fn indexed_keyframes(&self) -> Option<u64> {
        self.packets.report.indexed
    }

    /// Returns the name of the device that decodes; `None` for the processor, which may take over at the first picture.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        self.decoders.device().0
    }

    /// Returns why the processor decodes, where a device was requested.
    #[must_use]
    pub fn fallback_reason(&self) -> Option<String> {
        self.no_device_reason.clone().or_else(|| self.decoders.device().1.then(|| hardware::REFUSED.into()))
    }

    /// Whether the source has random access, so that [`seek`](Self::seek) may work.
    #[must_use]
    pub fn is_seekable(&self) -> bool {
        self.packets.input.is_seekable()
    }

    /// Returns the bytes read from the source so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.packets.input.bytes_read()
    }

    /// Returns the length of the source in bytes, where it is known.
    pub fn byte_len(&mut self) -> Option<u64> {
        self.packets.input.byte_len()
    }

    /// Returns the container's first presentation time in nanoseconds, where it has one.
    #[must_use]
    pub fn start_ns(&self) -> Option<i64> {
        self.packets.input.start_us().and_then(|us| us.checked_mul(1000))
    }

    /// Returns the next keyframe.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; after all that came before, an error of the source, or at the end of a file that yielded no picture
    /// the reason.
    #[expect(clippy::should_implement_trait, reason = "four outcomes and an error do not fit Iterator")]
    pub fn next(&mut self) -> Result<Step, Error> {
        let _attributed = self.resources.log.enter();
        loop {
            if self.interrupt.is_set() {
                return Err(Error::Interrupted);
            }
            if self.max_frames > 0 && self.remaining == 0 {
                return Ok(Step::End);
            }
            match self.ready.pop_front() {
                Some(Outcome::Picture { pts, frame, packet }) => {
                    self.counts.frames += 1;
                    self.counts.between += u64::from(packet.is_none());
                    self.counts.corrupt += u64::from(frame.is_corrupt());
                    self.remaining = self.remaining.saturating_sub(1);
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
            // Reading ahead of the decoders pays only while it is faster than they are: from a slow source a keyframe that is nearly
            // decoded must not wait for the next to arrive.
            let is_reading_slower = self.pace.read > self.pace.decode;
            let is_enough = self.max_frames > 0 && self.decoders.len() as u64 >= self.remaining;
            let wait = self.at_end || is_enough || self.decoders.is_full() || is_reading_slower;
            if let Some(decoded) = self.decoders.take(wait, &self.interrupt)? {
                self.queue_decoded(decoded)?;
            } else if self.at_end {
                match self.failure.take() {
                    Some(error @ Error::Call { .. }) => {
                        let reason = format!("the rest of the file cannot be read: {error}");
                        self.ready.push_back(Outcome::Damage { pts: self.packets.time(), reason });
                        continue;
                    }
                    Some(failure) => return Err(failure),
                    None => {}
                }
                self.check_for_pictures()?;
                return Ok(self.packets.report.next_unreported_problem().map_or(Step::End, Step::Notice));
            } else {
                self.read_packet()?;
            }
        }
    }

    /// Returns the next keyframe that [`next`](Self::next) would pass to a decoder, whatever `max_frames` is; `None` at the end. Use
    /// either this or `next` on a reader.
    ///
    /// # Errors
    /// [`Error::Interrupted`], [`Error::Encrypted`], an error of the source or of the container.
    pub fn list_next(&mut self) -> Result<Option<KeyframeEntry>, Error> {
        let _attributed = self.resources.log.enter();
        while !self.interrupt.is_set() {
            match self.select_next().0? {
                Next::Keyframe(packets) | Next::Hidden(packets) => {
                    let pts_ns = packets.timestamp().and_then(|time| self.to_ns(time));
                    return Ok(Some(KeyframeEntry { pts_ns, bytes: packets.byte_len() }));
                }
                Next::Encrypted => return Err(Error::Encrypted),
                Next::End => return Ok(None),
                Next::TooClose(_) | Next::OtherFrame(_) | Next::Skipped | Next::VideoChanged => {}
            }
        }
        Err(Error::Interrupted)
    }

    /// Allows one more frame, because the caller discarded one.
    pub fn allow_one_more(&mut self) {
        self.remaining = self.remaining.saturating_add(u64::from(self.max_frames > 0));
    }

    fn queue_decoded(&mut self, decoded: Decoded) -> Result<(), Error> {
        self.pace.decode = decoded.took;
        self.counts.decode_time += decoded.took;
        match decoded.pictures {
            Ok(pictures) => {
                if pictures.is_empty() {
                    let reason = "the decoder returned no picture for this keyframe".into();
                    self.ready.push_back(Outcome::Damage { pts: decoded.pts, reason });
                }
                for (pts, frame) in pictures {
                    let packet = Some(Decoding { bytes: decoded.bytes, read: decoded.read, took: decoded.took });
                    self.ready.push_back(Outcome::Picture { pts, frame, packet });
                }
            }
            Err(error @ Error::Hardware { .. }) => return Err(error),
            Err(error) => self.ready.push_back(Outcome::Damage { pts: decoded.pts, reason: error.to_string() }),
        }
        Ok(())
    }

    /// From the next packet on, skips keyframes that follow another by less than `interval_ns`; 0 for none.
    pub fn set_min_interval(&mut self, interval_ns: u64) {
        match &mut self.gaps {
            // Frames in gaps count too, and only the gap filler knows them.
            Some(gaps) => {
                let interval_ns = i64::try_from(interval_ns).unwrap_or(i64::MAX);
                gaps.set_shortest(to_units(self.packets.video.time_base(), interval_ns));
            }
            None => self.packets.min_interval_ns = interval_ns,
        }
    }

    /// Seeks to the keyframe at or before `position_ns` of the container's time, or to the first after it.
    ///
    /// # Errors
    /// When the container cannot be sought in, or the source fails.
    pub fn seek(&mut self, position_ns: i64) -> Result<(), Error> {
        let _attributed = self.resources.log.enter();
        self.packets.seek(to_units(self.packets.video.time_base(), position_ns))?;
        self.decoders.clear();
        self.ready.clear();
        if let Some(gaps) = &mut self.gaps {
            gaps.clear();
        }
        self.remaining = self.max_frames;
        self.at_end = false;
        self.failure = None;
        Ok(())
    }

    /// Reads the next packet; also returns how long that took.
    fn select_next(&mut self) -> (Result<Next, Error>, Duration) {
        let started = Instant::now();
        let next = self.packets.next();
        let took = started.elapsed();
        self.counts.read_time += took;
        self.ready.extend(self.packets.report.notices.drain(..).map(Outcome::Notice));
        (next, took)
    }

    /// Reads a packet and passes it to the decoders if it is a keyframe.
    ///
    /// # Errors
    /// [`Error::Interrupted`] and [`Error::Hardware`]. Any other is returned after all that came before.
    fn read_packet(&mut self) -> Result<(), Error> {
        match self.read_and_decode() {
            Ok(()) => Ok(()),
            Err(error @ (Error::Interrupted | Error::Hardware { .. })) => Err(error),
            Err(error) => {
                // What cannot be read cannot be skipped either.
                self.at_end = true;
                self.failure = Some(error);
                self.fill_gap(|gaps, _, frames| gaps.end(frames))
            }
        }
    }

    fn read_and_decode(&mut self) -> Result<(), Error> {
        if self.needs_decoders {
            return self.change_decoders();
        }
        let (next, took) = self.select_next();
        match next? {
            Next::Keyframe(packets) => self.decode_keyframe(packets, took),
            Next::Hidden(packets) => self.decode_to_first_visible(packets),
            Next::TooClose(packet) => self.fill_gap(|gaps, _, frames| gaps.begin(packet, false, frames)),
            Next::OtherFrame(packet) => self.fill_gap(|gaps, video, frames| gaps.add(video, packet, frames)),
            Next::Skipped => Ok(()),
            Next::Encrypted if self.counts.key_packets > 0 => {
                let pts = self.packets.time();
                self.drain_decoders()?;
                self.ready.push_back(Outcome::Damage { pts, reason: "the video is encrypted from here on".into() });
                Ok(())
            }
            Next::Encrypted => Ok(()),
            Next::VideoChanged => {
                self.needs_decoders = true;
                self.change_decoders()
            }
            Next::End => {
                self.at_end = true;
                self.fill_gap(|gaps, _, frames| gaps.end(frames))
            }
        }
    }

    fn decode_keyframe(&mut self, packets: KeyframePackets, took: Duration) -> Result<(), Error> {
        if self.follows_too_closely(&packets) {
            return self.skip_keyframe(packets);
        }
        self.counts.key_packets += 1;
        self.counts.key_bytes += packets.byte_len();
        self.pace.read = took;
        if self.gaps.is_none() {
            return self.decoders.put(&self.packets.video, packets, took);
        }
        // The result of a keyframe must be known before what follows it: some are keyframes only by their flag.
        let shared = packets.share()?;
        self.decoders.put(&self.packets.video, packets, took)?;
        let Some(decoded) = self.decoders.take(true, &self.interrupt)? else { return Ok(()) };
        let is_keyframe = !decoded.pictures.as_ref().is_ok_and(Vec::is_empty);
        if is_keyframe {
            // The last frames of the section before may be too close to it.
            self.fill_gap(|gaps, _, frames| gaps.end(frames))?;
            if self.follows_too_closely(&shared) {
                return self.skip_keyframe(shared);
            }
        }
        let mut shared = shared.into_packets();
        let Some(keyframe) = shared.next() else { return Ok(()) };
        if !is_keyframe {
            self.fill_gap(|gaps, video, frames| gaps.add(video, keyframe, frames))?;
        } else {
            let is_given = decoded.pictures.is_ok();
            self.fill_gap(|gaps, _, frames| gaps.begin(keyframe, is_given, frames))?;
            self.queue_decoded(decoded)?;
        }
        shared.try_for_each(|field| self.fill_gap(|gaps, video, frames| gaps.add(video, field, frames)))
    }

    /// Whether a keyframe follows the previous output frame too closely, where frames in gaps count too.
    fn follows_too_closely(&self, packets: &KeyframePackets) -> bool {
        let time = packets.timestamp();
        self.gaps.as_ref().is_some_and(|gaps| gaps.is_too_close(time))
    }

    /// Skips a keyframe. Frames in a gap may still be decoded from it.
    fn skip_keyframe(&mut self, packets: KeyframePackets) -> Result<(), Error> {
        self.packets.report.skipped += 1;
        let mut packets = packets.into_packets();
        if let Some(keyframe) = packets.next() {
            self.fill_gap(|gaps, _, frames| gaps.begin(keyframe, false, frames))?;
        }
        packets.try_for_each(|field| self.fill_gap(|gaps, video, frames| gaps.add(video, field, frames)))
    }

    /// Decodes from a keyframe before the clip's beginning to the first frame that is shown.
    fn decode_to_first_visible(&mut self, packets: KeyframePackets) -> Result<(), Error> {
        self.drain_decoders()?;
        let started = Instant::now();
        let pts = packets.timestamp();
        self.counts.key_packets += 1;
        self.counts.key_bytes += packets.byte_len();
        let lock = opening_lock::acquire();
        let threads = self.decoders.threads().0;
        let decoder = Decoder::open(&self.packets.video, DecodeMode::AllFrames { threads }, &self.resources);
        self.counts.lock_times += lock.release();
        let mut decoder = decoder?;
        let mut frames = Vec::new();
        let mut decoded = packets.as_slice().iter().try_for_each(|packet| decoder.decode(packet, &mut frames));
        let mut lead_in = 0;
        while frames.is_empty() && lead_in < MAX_LEAD_IN_PACKETS {
            lead_in += 1;
            if self.interrupt.is_set() {
                return Err(Error::Interrupted);
            }
            let Some(packet) = self.packets.next_packet_of_video()? else { break };
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
            (Some(mut frame), _) => {
                frame.mark_corrupt_where_unwritten();
                self.ready.push_back(Outcome::Picture { pts: frame.timestamp(), frame, packet: None });
            }
            (None, Err(error)) => self.ready.push_back(Outcome::Damage { pts, reason: error.to_string() }),
            (None, Ok(())) if lead_in == MAX_LEAD_IN_PACKETS => {
                let reason = format!(
                    "the first frame that is shown comes more than {MAX_LEAD_IN_PACKETS} packets after its keyframe"
                );
                self.ready.push_back(Outcome::Damage { pts, reason });
            }
            // All hidden frames stay hidden: the clip begins at the next keyframe.
            (None, Ok(())) => {}
        }
        Ok(())
    }

    /// Opens new decoders for the video, which has changed.
    fn change_decoders(&mut self) -> Result<(), Error> {
        self.drain_decoders()?;
        let lock = opening_lock::acquire();
        let opened = self
            .packets
            .video
            .check_size(self.resources.options.max_pixels)
            .and_then(|()| Decoders::open(&self.packets.video, self.resources.clone()));
        self.counts.lock_times += lock.release();
        self.counts.lock_times += self.decoders.lock_times();
        self.decoders = opened?;
        self.needs_decoders = false;
        if let Some(gaps) = &mut self.gaps {
            gaps.change_codec();
        }
        self.info.codec = self.packets.video.codec_long_name();
        self.info.decoder = self.decoders.name().to_owned();
        self.info.stream_index = self.packets.video.index();
        Ok(())
    }

    /// Waits for all results of the decoders.
    fn drain_decoders(&mut self) -> Result<(), Error> {
        while let Some(decoded) = self.decoders.take(true, &self.interrupt)? {
            self.queue_decoded(decoded)?;
        }
        Ok(())
    }

    /// Lets `act` decode frames between keyframes, which come after all keyframes so far.
    fn fill_gap(
        &mut self,
        act: impl FnOnce(&mut GapFiller, &VideoStream, &mut Vec<Frame>) -> Result<(), Error>,
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
            Ok(()) => {}
            Err(error @ (Error::Interrupted | Error::Hardware { .. })) => return Err(error),
            Err(error) => self.ready.push_back(Outcome::Damage { pts: None, reason: error.to_string() }),
        }
        Ok(())
    }

    /// Fails with the reason if the file yielded no picture.
    fn check_for_pictures(&mut self) -> Result<(), Error> {
        if self.counts.frames > 0 {
            return Ok(());
        }
        Err(self.no_picture_error())
    }

    fn no_picture_error(&mut self) -> Error {
        let input = &mut self.packets.input;
        if let Some(known) = input.unsupported_kind() {
            return known;
        }
        let is_elsewhere = self.packets.input.container() == Container::Mp4
            && self.packets.video.index_len() > 0
            && self.packets.report.keyframes + self.packets.report.dropped + self.packets.report.encrypted == 0
            && self.packets.report.problems.is_empty();
        if is_elsewhere && !self.packets.input.is_seekable() {
            return Error::Damaged(
                "its media data is not stored in presentation order, which needs random access: use filesrc".into(),
            );
        }
        if is_elsewhere {
            return Error::Reference { kind: "a movie whose media data is in another file" };
        }
        let bytes = self.packets.input.byte_len();
        let cause = self.packets.report.problems.first().cloned();
        let error = self.counts().no_picture_error(&self.info.codec, &self.last_damage, bytes);
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
            rotation: frame
                .rotation()
                .or_else(|| self.packets.still_image_rotation())
                .unwrap_or_else(|| video.rotation()),
            packet_bytes: packet.as_ref().map_or(0, |packet| packet.bytes),
            read_time: packet.as_ref().map_or(Duration::ZERO, |packet| packet.read),
            decode_time: packet.as_ref().map_or(Duration::ZERO, |packet| packet.took),
            is_keyframe: packet.is_some(),
            frame,
        }
    }

    /// Converts units of the stream's time base into nanoseconds, rounded towards zero; `None` where i64 cannot hold it.
    fn to_ns(&self, units: i64) -> Option<i64> {
        let (num, den) = self.packets.video.time_base();
        i64::try_from(i128::from(units) * i128::from(num) * 1_000_000_000 / i128::from(den)).ok()
    }
}

#[cfg(test)]
mod tests;
