// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keyframes, and the information reported about them and their file.

use std::time::Duration;

use crate::av::error::Error;
use crate::av::frame::Frame;
use crate::av::frame::rotation::Rotation;
use crate::av::frame::scaler::Scaler;
use crate::av::opening_lock::LockTimes;

/// Counts of what was read and decoded so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keyframe packets passed to the decoder.
    pub key_packets: u64,
    /// Their bytes.
    pub key_bytes: u64,
    /// Packets of the video that the demuxer read although they are not keyframes.
    pub dropped_packets: u64,
    /// Keyframes skipped because they follow another too closely.
    pub skipped: u64,
    /// Decoded pictures.
    pub frames: u64,
    /// Those of them that are not keyframes.
    pub between: u64,
    /// Packets that could not be decoded.
    pub damaged: u64,
    /// Pictures with missing parts, or with errors that the decoder concealed.
    pub corrupt: u64,
    /// Keyframes that the container's index names past the end of the file.
    pub missing: u64,
    /// Packets that are encrypted.
    pub encrypted: u64,
    /// Time spent reading from the container.
    pub read_time: Duration,
    /// Time spent decoding, summed over the decoder threads.
    pub decode_time: Duration,
    /// Times of the opening lock for the file and its decoders.
    pub lock_times: LockTimes,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let mut lock_times = self.lock_times;
        lock_times += other.lock_times;
        Self {
            key_packets: self.key_packets + other.key_packets,
            key_bytes: self.key_bytes + other.key_bytes,
            dropped_packets: self.dropped_packets + other.dropped_packets,
            skipped: self.skipped + other.skipped,
            frames: self.frames + other.frames,
            between: self.between + other.between,
            damaged: self.damaged + other.damaged,
            corrupt: self.corrupt + other.corrupt,
            missing: self.missing + other.missing,
            encrypted: self.encrypted + other.encrypted,
            read_time: self.read_time + other.read_time,
            decode_time: self.decode_time + other.decode_time,
            lock_times,
        }
    }
}

impl Counts {
    /// Returns the error for a file of `bytes` bytes that yielded no picture; `last_damage` is the decoder's last error.
    pub(super) fn no_picture_error(&self, codec: &str, last_damage: &str, bytes: Option<u64>) -> Error {
        let Counts { key_packets, dropped_packets, encrypted, .. } = *self;
        if encrypted > 0 {
            return Error::Encrypted;
        }
        if key_packets > 0 {
            let reason = if last_damage.is_empty() { "the decoder returned no picture" } else { last_damage };
            let (number, verb) = if key_packets == 1 {
                ("the only keyframe".into(), "cannot")
            } else {
                (format!("none of the {key_packets} keyframes"), "can")
            };
            return Error::Damaged(format!("{number} {verb} be decoded ({codec}): {reason}"));
        }
        Error::NoKeyframes(if dropped_packets > 0 {
            format!("no frame of the {codec} video is flagged as a keyframe ({dropped_packets} other frames were read)")
        } else {
            let what = bytes.map_or_else(|| "the stream".into(), |bytes| format!("the file ({bytes} bytes)"));
            format!("{what} announces {codec} video but contains no keyframe of it")
        })
    }
}

/// Information about an opened file.
#[derive(Debug, Clone)]
pub struct Info {
    /// Long name of the container.
    pub container: String,
    /// Long name of the codec.
    pub codec: String,
    /// FFmpeg's name of the decoder.
    pub decoder: String,
    /// Decoder threads, and "frame", "slice" or "none".
    pub threads: (u32, &'static str),
    /// Index of the video stream.
    pub stream_index: i32,
    /// Description of all streams, for example "0: video (h264); 1: audio (aac)".
    pub streams: String,
    /// Title in the container's metadata.
    pub title: Option<String>,
    /// Duration in nanoseconds.
    pub duration_ns: Option<u64>,
    /// Frame rate of the stream as a fraction.
    pub frame_rate: Option<(i32, i32)>,
    /// Whether the stream is flagged as interlaced.
    pub is_interlaced: bool,
    /// Whether every frame of the codec is a keyframe.
    pub is_intra_only: bool,
}

/// A decoded keyframe with its container's information about it.
#[derive(Debug)]
pub struct Keyframe {
    /// The picture as stored.
    pub frame: Frame,
    /// Presentation time of the container in nanoseconds, as ffprobe's `pts_time`; may be negative or unknown.
    pub pts_ns: Option<i64>,
    /// Duration of the frame itself in nanoseconds (not the time to the next keyframe).
    pub duration_ns: Option<u64>,
    /// Pixel aspect ratio, width to height.
    pub pixel_aspect_ratio: (i32, i32),
    /// The rotation that shows the picture upright.
    pub rotation: Rotation,
    /// Bytes of its packet; 0 for a frame between keyframes.
    pub packet_bytes: u64,
    /// Time spent reading its packets, and what was read to find them; zero for a frame between keyframes.
    pub read_time: Duration,
    /// Time spent decoding it; zero for a frame between keyframes.
    pub decode_time: Duration,
    /// Whether it is a keyframe; if not, it fills a gap between keyframes.
    pub is_keyframe: bool,
}

impl Keyframe {
    /// Returns the keyframe with its picture upright: itself, or a rotated copy.
    ///
    /// # Errors
    /// As [`Rotation::apply`].
    pub fn upright(mut self, scaler: &mut Scaler) -> Result<Self, Error> {
        if !self.rotation.is_identity() {
            self.frame = self.rotation.apply(&self.frame, scaler)?;
            if self.rotation.swap {
                self.pixel_aspect_ratio = (self.pixel_aspect_ratio.1, self.pixel_aspect_ratio.0);
            }
            self.rotation = Rotation::default();
        }
        Ok(self)
    }
}

/// A keyframe as the container lists it, without decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyframeEntry {
    /// Presentation time of the container in nanoseconds; may be negative or unknown.
    pub pts_ns: Option<i64>,
    /// Bytes of its packets.
    pub bytes: u64,
}

/// Result of [`KeyframeReader::next`](super::KeyframeReader::next).
#[derive(Debug)]
pub enum Step {
    /// A keyframe, in order of presentation.
    Keyframe(Keyframe),
    /// A packet, or the container from here on, is damaged: its content is lost, reading continues if possible.
    Damaged {
        /// Its time, if known.
        pts_ns: Option<i64>,
        /// FFmpeg's message.
        reason: String,
    },
    /// Information about the file, reported once. Nothing is lost.
    Notice(String),
    /// The end of the file.
    End,
}
