//! A keyframe and what is told of it and of its file.

use std::time::Duration;

use crate::av::error::Error;
use crate::av::frame::Frame;
use crate::av::frame::rotation::Turn;
use crate::av::frame::scaler::Scaler;
use crate::av::opening::LockTimes;

/// What was read and decoded so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keyframe packets handed to the decoder.
    pub key_packets: u64,
    /// Their bytes.
    pub key_bytes: u64,
    /// Packets of the video that the demuxer read although they were no keyframes.
    pub dropped_packets: u64,
    /// Keyframes left out because they follow another too closely.
    pub skipped: u64,
    /// Pictures that came out.
    pub frames: u64,
    /// Those of them that are no keyframes.
    pub between: u64,
    /// Packets that could not be decoded.
    pub damaged: u64,
    /// Pictures with parts that are missing or were made up by the decoder.
    pub corrupt: u64,
    /// Keyframes that the container's index names past the end of the file.
    pub missing: u64,
    /// Packets that are encrypted.
    pub encrypted: u64,
    /// Time spent reading from the container.
    pub read_time: Duration,
    /// Time spent decoding, summed over the decoders' threads.
    pub decode_time: Duration,
    /// What opening the file and its decoders cost of the opening lock.
    pub lock_times: LockTimes,
}

impl Counts {
    /// Why a file of `bytes` that was read to its end gave no picture; `last_damage` is what the decoder said last.
    pub(super) fn why_no_picture(&self, codec: &str, last_damage: &str, bytes: Option<u64>) -> Error {
        let Counts { key_packets, dropped_packets, encrypted, .. } = *self;
        if encrypted > 0 {
            return Error::Encrypted;
        }
        if key_packets > 0 {
            let reason = if last_damage.is_empty() { "no picture came out" } else { last_damage };
            let (number, verb) = if key_packets == 1 {
                ("the only keyframe".into(), "cannot")
            } else {
                (format!("none of the {key_packets} keyframes"), "can")
            };
            return Error::Damaged(format!("{number} {verb} be decoded ({codec}): {reason}"));
        }
        Error::NoKeyframes(if dropped_packets > 0 {
            format!("no frame of the {codec} video is marked as a keyframe ({dropped_packets} other frames were read)")
        } else {
            let what = bytes.map_or_else(|| "the stream".into(), |bytes| format!("the file ({bytes} bytes)"));
            format!("{what} announces {codec} video but holds no keyframe of it")
        })
    }
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
    /// All streams in words, for example "0: video (h264), 1: audio (aac)".
    pub streams: String,
    /// Title in the container's metadata.
    pub title: Option<String>,
    /// Duration in nanoseconds.
    pub duration_ns: Option<u64>,
    /// Frame rate of the stream as a fraction.
    pub frame_rate: Option<(i32, i32)>,
    /// Whether the stream says that it is interlaced.
    pub is_interlaced: bool,
    /// Whether every frame of the codec is a keyframe.
    pub is_intra_only: bool,
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
    /// Bytes of its packet; 0 for a frame between keyframes.
    pub packet_bytes: u64,
    /// How long it was decoded; zero for a frame between keyframes.
    pub decode_time: Duration,
    /// Whether it is a keyframe; if not, it fills a gap between keyframes.
    pub is_keyframe: bool,
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

/// A keyframe as the container has it: where it is and how large, for no more than reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Presentation time of the container in nanoseconds; may be negative or unknown.
    pub pts_ns: Option<i64>,
    /// Bytes of its packets.
    pub bytes: u64,
}

/// What [`KeyframeReader::next`](super::KeyframeReader::next) came to.
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
    /// Something to know about the file, told once. Nothing is lost by it.
    Notice(String),
    /// Nothing more.
    End,
}
