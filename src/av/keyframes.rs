//! The job of this layer: the keyframes of a file, one after the other.
//!
//! Demuxer, decoder and the rules that hold them to keyframes: the demuxer is told to skip everything else before it
//! reads it, packets that are not flagged as keyframes are dropped (VP9, AV1 and GIF decoders decode what they get),
//! each keyframe is decoded alone (see decoders.rs), and the decoder is told to skip the rest.
//!
//! Thread rule: one thread at a time. [`Interrupt`] ends a call from any other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::decoders::{Decoders, ThreadOptions};
use super::error::Error;
use super::frame::Frame;
use super::input::{Input, metadata_key};
use super::io::{ByteSource, Interrupt};
use super::jump::{Jump, Jumper};
use super::opening::{self, LockTimes};
use super::packet::Packet;
use super::scaler::Scaler;
use super::turn::Turn;
use super::video_stream::VideoStream;

/// A file opened for its keyframes.
pub struct KeyframeReader {
    decoders: Decoders,
    // The stream points into the input: fields are dropped in this order.
    video: VideoStream,
    input: Input,
    packet: Packet,
    /// Pictures that came out together with one already given.
    ready: VecDeque<(Option<i64>, Frame)>,
    jumper: Option<Jumper>,
    /// Decoding time of the last keyframe that was handed out before the jumper lost its way: what lies before is known.
    known_until: Option<i64>,
    interrupt: Interrupt,
    at_end: bool,
    /// How long the last packet took to read, and to decode.
    pace: (Duration, Duration),
    counts: Counts,
    info: Info,
}

/// What was read and decoded so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keyframe packets handed to the decoder.
    pub key_packets: u64,
    /// Their bytes.
    pub key_bytes: u64,
    /// Packets of the video that the demuxer read although they were no keyframes.
    pub dropped_packets: u64,
    /// Pictures that came out.
    pub frames: u64,
    /// Packets that could not be decoded.
    pub damaged: u64,
    /// Packets that are encrypted.
    pub encrypted: u64,
    /// Time spent reading from the container.
    pub read_time: Duration,
    /// Time spent decoding, summed over the decoders' threads.
    pub decode_time: Duration,
    /// What opening the file and its decoders cost of the opening lock.
    pub lock_times: LockTimes,
}

/// What is known of an opened file.
#[derive(Debug, Clone)]
pub struct Info {
    /// Long name of the container.
    pub container: String,
    /// FFmpeg's short names of it.
    pub container_names: String,
    /// Long name of the codec.
    pub codec: String,
    /// FFmpeg's name of the decoder.
    pub decoder: String,
    /// Decoder threads, and "frame", "slice" or "none".
    pub threads: (u32, &'static str),
    /// Index of the video stream.
    pub stream_index: i32,
    /// Title in the container's metadata.
    pub title: Option<String>,
    /// Duration in nanoseconds.
    pub duration_ns: Option<u64>,
    /// Frame rate of the stream as a fraction.
    pub frame_rate: Option<(i32, i32)>,
    /// Whether the stream says that it is interlaced.
    pub is_interlaced: bool,
}

/// A decoded keyframe with what its container says about it.
#[derive(Debug)]
pub struct Keyframe {
    /// The picture as stored.
    pub frame: Frame,
    /// Presentation time of the container in nanoseconds, as ffprobe's `pts_time`; may be negative or unknown.
    pub pts_ns: Option<i64>,
    /// How long the frame itself is shown, in nanoseconds (not the time to the next keyframe).
    pub duration_ns: Option<u64>,
    /// Shape of a pixel, width to height.
    pub pixel_aspect_ratio: (i32, i32),
    /// The turn that shows the picture upright.
    pub turn: Turn,
}

impl Keyframe {
    /// The keyframe with its picture upright: itself, or a turned copy.
    ///
    /// # Errors
    /// As [`Turn::apply`].
    pub fn upright(mut self, scaler: &mut Scaler) -> Result<Self, Error> {
        if !self.turn.is_identity() {
            self.frame = self.turn.apply(&self.frame, scaler)?;
            if self.turn.swap {
                self.pixel_aspect_ratio = (self.pixel_aspect_ratio.1, self.pixel_aspect_ratio.0);
            }
            self.turn = Turn::default();
        }
        Ok(self)
    }
}

/// What [`KeyframeReader::next`] came to.
#[derive(Debug)]
pub enum Step {
    /// A keyframe, in order of presentation.
    Keyframe(Keyframe),
    /// A packet, or the container from here on, was damaged: what it held is lost, reading goes on if it can.
    Damaged {
        /// Where, if known.
        pts_ns: Option<i64>,
        /// What FFmpeg says.
        reason: String,
    },
    /// Nothing more.
    End,
}

impl KeyframeReader {
    /// Opens what `source` holds and finds the video to decode. Waits for and holds the opening lock.
    ///
    /// # Errors
    /// Every way in which a file can be unfit: see [`Error`].
    pub fn open(source: Box<dyn ByteSource>, threads: ThreadOptions, interrupt: Interrupt) -> Result<Self, Error> {
        super::check_version()?;
        let lock = opening::enter();
        let mut input = Input::open(source, interrupt.clone())?;
        let video = input.best_video()?;
        let decoders = Decoders::open(&video, threads)?;
        let lock_times = lock.leave();
        let jumper = Jumper::new(&input, &video);
        // A mov demuxer that discards loses count of presentation times: see jump.rs.
        let only_keyframes = jumper.is_some() || !input.container_names().contains("mp4");
        input.select(&video, only_keyframes);
        let info = Info {
            container: input.container(),
            container_names: input.container_names(),
            codec: video.codec_long_name(),
            decoder: decoders.name().to_owned(),
            threads: decoders.threads(),
            stream_index: video.index(),
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
            jumper,
            known_until: None,
            interrupt,
            at_end: false,
            pace: (Duration::ZERO, Duration::ZERO),
            counts: Counts { lock_times, ..Counts::default() },
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
            if let Some((pts, frame)) = self.ready.pop_front() {
                self.counts.frames += 1;
                return Ok(Step::Keyframe(self.describe(pts, frame)));
            }
            // Reading ahead of the decoders is worth it only while it is faster than they are: from a slow source a
            // keyframe that is nearly done must not wait for the next to arrive.
            let (reading, decoding) = self.pace;
            let wait = self.at_end || self.decoders.is_full() || reading > decoding;
            match self.decoders.take(wait) {
                Some(decoded) => {
                    self.pace.1 = decoded.took;
                    self.counts.decode_time += decoded.took;
                    match decoded.pictures {
                        Ok(pictures) => self.ready.extend(pictures),
                        Err(error) => return Ok(self.damaged(decoded.pts, error.to_string())),
                    }
                }
                None if self.at_end => {
                    self.explain_nothing()?;
                    return Ok(Step::End);
                }
                None => {
                    if let Some(step) = self.feed()? {
                        return Ok(step);
                    }
                }
            }
        }
    }

    /// Moves to the keyframe at or before `position_ns` of the container's time, or to the first after it.
    ///
    /// # Errors
    /// When the container cannot be searched, or the source fails.
    pub fn seek(&mut self, position_ns: i64) -> Result<(), Error> {
        let (num, den) = self.video.time_base();
        let units = i128::from(position_ns) * i128::from(den) / (i128::from(num.max(1)) * 1_000_000_000);
        let units = i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX });
        self.input.seek(&self.video, units)?;
        if let Some(jumper) = &mut self.jumper {
            jumper.reset();
        }
        self.decoders.clear();
        self.ready.clear();
        self.known_until = None;
        self.at_end = false;
        Ok(())
    }

    /// Reads a packet and hands it to the decoders if it is a keyframe.
    fn feed(&mut self) -> Result<Option<Step>, Error> {
        let started = Instant::now();
        let read = self.read();
        self.counts.read_time += started.elapsed();
        match read {
            Ok(true) => {}
            Ok(false) => {
                self.at_end = true;
                return Ok(None);
            }
            Err(error @ Error::Call { .. }) => {
                // What the demuxer cannot read it cannot skip either: give out what is in the decoders and end.
                self.at_end = true;
                let reason = format!("the file cannot be read on from here: {error}");
                return Ok(Some(self.damaged(self.packet.timestamp(), reason)));
            }
            Err(error) => return Err(error),
        }
        if self.packet.stream_index() != self.video.index() || self.packet.byte_len() == 0 {
            return Ok(None);
        }
        if !self.packet.is_key() {
            self.counts.dropped_packets += 1;
            return Ok(None);
        }
        if self.packet.is_encrypted() {
            self.counts.encrypted += 1;
            let first = self.counts.encrypted == 1 && self.counts.frames > 0;
            let pts = self.packet.timestamp();
            return Ok(first.then(|| self.damaged(pts, "the video is encrypted from here on".into())));
        }
        if self.known_until.is_some_and(|known| self.packet.dts().is_some_and(|dts| dts <= known)) {
            return Ok(None);
        }
        self.counts.key_packets += 1;
        self.counts.key_bytes += self.packet.byte_len();
        self.pace.0 = started.elapsed();
        self.decoders.put(&self.video, &mut self.packet)?;
        Ok(None)
    }

    /// Reads the next packet: of a file that is jumped through the next keyframe, else whatever comes.
    fn read(&mut self) -> Result<bool, Error> {
        if let Some(jumper) = &mut self.jumper {
            match jumper.next(&mut self.input, &self.video, &mut self.packet)? {
                Jump::Landed => return Ok(true),
                Jump::End => return Ok(false),
                Jump::Lost => {
                    self.known_until = jumper.last();
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

    fn damaged(&mut self, pts: Option<i64>, reason: String) -> Step {
        self.counts.damaged += 1;
        Step::Damaged { pts_ns: pts.and_then(|ts| self.to_ns(ts)), reason }
    }

    /// At the end: if no picture came, say why.
    fn explain_nothing(&mut self) -> Result<(), Error> {
        let Counts { key_packets, dropped_packets, frames, damaged, encrypted, .. } = self.counts;
        if frames > 0 {
            return Ok(());
        }
        let codec = &self.info.codec;
        Err(if encrypted > 0 {
            Error::Encrypted
        } else if key_packets > 0 {
            Error::Damaged(format!("none of the {key_packets} keyframes could be decoded ({codec}; {damaged} damaged)"))
        } else if dropped_packets > 0 {
            Error::NoKeyframes(format!(
                "no frame of the {codec} video is marked as a keyframe ({dropped_packets} other frames were read)"
            ))
        } else if let Some(bytes) = self.input.byte_len() {
            Error::NoKeyframes(format!("the file ({bytes} bytes) announces {codec} video but holds no keyframe of it"))
        } else {
            Error::NoKeyframes(format!("the stream announces {codec} video but holds no keyframe of it"))
        })
    }

    fn describe(&self, pts: Option<i64>, frame: Frame) -> Keyframe {
        Keyframe {
            pts_ns: pts.and_then(|ts| self.to_ns(ts)),
            duration_ns: frame.duration().and_then(|units| self.to_ns(units)).and_then(|ns| u64::try_from(ns).ok()),
            pixel_aspect_ratio: self.input.sample_aspect_ratio(&self.video, &frame),
            turn: frame.turn().unwrap_or_else(|| self.video.turn()),
            frame,
        }
    }

    /// Units of the stream's time base in nanoseconds, rounded towards zero; `None` where i64 cannot hold it.
    fn to_ns(&self, units: i64) -> Option<i64> {
        let (num, den) = self.video.time_base();
        i64::try_from(i128::from(units) * i128::from(num) * 1_000_000_000 / i128::from(den)).ok()
    }
}
