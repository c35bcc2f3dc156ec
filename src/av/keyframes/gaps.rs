// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames between keyframes, where those are too far apart: recordings with a keyframe a minute, or with none at all
//! (intra refresh).
//!
//! Packets after a keyframe are held until it is clear whether the next keyframe comes in time. If it does they are
//! dropped undecoded. If not they are decoded from the keyframe on, and the first frame is output that is as far from the
//! previous output frame as allowed.
//!
//! With a minimum interval as well, a keyframe that follows a frame of a gap too closely is skipped. Both limits equal give steady
//! sampling: frames that far apart, keyframes where they come often enough.

use crate::av::decode::decoder::{DecodeMode, Decoder, Resources};
use crate::av::error::Error;
use crate::av::frame::Frame;
use crate::av::input::packet::Packet;
use crate::av::input::video_stream::VideoStream;
use crate::av::io::Interrupt;
use crate::av::opening_lock;

/// Most bytes held: past this a section is decoded without waiting for its end.
const MAX_HELD_BYTES: u64 = 64 << 20;

/// Fills gaps: state of the section since the last keyframe.
pub(super) struct GapFiller {
    /// Longest time without a frame, in units of the stream's time base.
    longest: i64,
    /// Least time between frames.
    shortest: i64,
    threads: u32,
    resources: Resources,
    interrupt: Interrupt,
    decoder: Option<Decoder>,
    /// Whether the section is being decoded.
    is_decoding: bool,
    /// Whether the section cannot be decoded because its decoder could not be opened.
    is_given_up: bool,
    held: Vec<Packet>,
    held_bytes: u64,
    /// Time at which the section began.
    start: Option<i64>,
    /// Time of the previous output frame.
    last_output: Option<i64>,
    /// Time at which the next frame is due.
    due: Option<i64>,
    /// Whether there was a keyframe, or a frame in place of one.
    has_begun: bool,
}

impl GapFiller {
    pub(crate) fn new(longest: i64, threads: u32, resources: Resources, interrupt: Interrupt) -> Self {
        Self {
            longest: longest.max(1),
            shortest: 0,
            threads,
            resources,
            interrupt,
            decoder: None,
            is_decoding: false,
            is_given_up: false,
            held: Vec::new(),
            held_bytes: 0,
            start: None,
            last_output: None,
            due: None,
            has_begun: false,
        }
    }

    /// Sets the least time between frames.
    pub(super) fn set_shortest(&mut self, shortest: i64) {
        self.shortest = shortest;
    }

    /// Whether a keyframe of this time follows the previous output frame too closely. The section before it must have ended.
    pub(super) fn is_too_close(&self, time: Option<i64>) -> bool {
        let distance = time.zip(self.last_output).map(|(time, last_output)| time.saturating_sub(last_output));
        // Times may go back where recordings were concatenated.
        distance.is_some_and(|distance| (0..self.shortest).contains(&distance))
    }

    fn note_output(&mut self, time: Option<i64>) {
        self.last_output = time;
        self.due = time.map(|time| time.saturating_add(self.longest.max(self.shortest)));
    }

    /// Begins the next section with a keyframe, whether that was output itself or not. Outputs the last frames of the section that it
    /// ends.
    pub(crate) fn begin(&mut self, keyframe: Packet, is_output: bool, frames: &mut Vec<Frame>) -> Result<(), Error> {
        let ended = self.end(frames);
        if is_output {
            self.note_output(keyframe.timestamp());
        }
        self.start = keyframe.timestamp();
        self.has_begun = true;
        self.hold(keyframe);
        ended
    }

    /// Adds a packet of the section. Outputs the frames that it makes due.
    pub(crate) fn add(&mut self, video: &VideoStream, packet: Packet, frames: &mut Vec<Frame>) -> Result<(), Error> {
        if self.is_given_up {
            return Ok(());
        }
        let time = packet.timestamp();
        let is_first = self.held.is_empty() && !self.is_decoding;
        if self.is_decoding {
            return self.decode(&packet, frames);
        }
        self.hold(packet);
        if is_first && !self.has_begun {
            // No keyframe so far. If none comes in time, the first frame that can be decoded is due.
            self.start = time;
            self.due = time.map(|time| time.saturating_add(self.longest));
        }
        // Keyframes that were skipped as too close still bound the gap.
        let is_overdue = time.zip(self.due).is_some_and(|(time, due)| {
            time >= due && self.start.is_none_or(|start| time.saturating_sub(start) >= self.longest)
        });
        if !is_overdue && self.held_bytes <= MAX_HELD_BYTES {
            return Ok(());
        }
        if self.decoder.is_none() {
            let lock = opening_lock::acquire();
            let decoder = Decoder::open(video, DecodeMode::AllFrames { threads: self.threads }, &self.resources);
            drop(lock);
            match decoder {
                Ok(decoder) => self.decoder = Some(decoder),
                Err(error) => {
                    self.drop_section();
                    self.is_given_up = true;
                    return Err(error);
                }
            }
        }
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        self.is_decoding = true;
        if !self.has_begun {
            self.due = held.first().and_then(Packet::timestamp);
        }
        self.has_begun = true;
        let mut result = Ok(());
        for packet in held {
            if self.interrupt.is_set() {
                return Err(Error::Interrupted);
            }
            result = result.and(self.decode(&packet, frames));
        }
        result
    }

    /// Ends the section. Outputs its last frames.
    pub(crate) fn end(&mut self, frames: &mut Vec<Frame>) -> Result<(), Error> {
        let mut drained = Ok(());
        if let Some(decoder) = self.decoder.as_mut().filter(|_| self.is_decoding) {
            let mut all = Vec::new();
            drained = decoder.drain(&mut all);
            decoder.flush();
            self.keep_due(all, frames);
        }
        self.drop_section();
        drained
    }

    fn drop_section(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
        (self.is_decoding, self.is_given_up) = (false, false);
    }

    /// Drops all state and the decoder: the video continues in another codec.
    pub(super) fn change_codec(&mut self) {
        self.clear();
        self.decoder = None;
    }

    /// Drops all state, as after a seek.
    pub(crate) fn clear(&mut self) {
        if let Some(decoder) = &mut self.decoder {
            decoder.flush();
        }
        self.drop_section();
        (self.start, self.last_output, self.due) = (None, None, None);
        self.has_begun = false;
    }

    fn hold(&mut self, packet: Packet) {
        self.held_bytes += packet.byte_len();
        self.held.push(packet);
    }

    fn decode(&mut self, packet: &Packet, frames: &mut Vec<Frame>) -> Result<(), Error> {
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        let mut all = Vec::new();
        let decoded = decoder.decode(packet, &mut all);
        self.keep_due(all, frames);
        decoded
    }

    fn keep_due(&mut self, all: Vec<Frame>, frames: &mut Vec<Frame>) {
        for mut frame in all {
            let Some(time) = frame.timestamp() else { continue };
            if self.due.is_none_or(|due| time >= due) {
                self.note_output(Some(time));
                frame.mark_corrupt_where_unwritten();
                frames.push(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::av::decode::options::DecoderOptions;
    use crate::av::frame::pool::FramePool;
    use crate::av::input::bare_stream::{BareStream, Codec, StreamFormat};
    use crate::av::log::LogSink;

    fn resources() -> Resources {
        Resources {
            options: DecoderOptions::default(),
            memory: FramePool::default().for_file(),
            device: None,
            log: LogSink::default(),
            x264_build: Arc::default(),
        }
    }

    fn stream(codec: Codec, extradata: Vec<u8>) -> BareStream {
        let format = StreamFormat {
            codec,
            extradata,
            size: None,
            pixel_aspect_ratio: None,
            frame_rate: None,
            is_interlaced: false,
        };
        BareStream::new(&format).unwrap()
    }

    #[test]
    fn a_section_whose_decoder_cannot_be_opened_is_one_error() {
        // An hvcC with one array of one unit, which ends within its length.
        let mut extradata = vec![1; 22];
        extradata.extend([1, 33, 0, 1, 0xff]);
        let stream = stream(Codec::H265, extradata);
        let mut gaps = GapFiller::new(10, 1, resources(), Interrupt::default());
        let mut frames = Vec::new();
        let packet = |time: i64| {
            let mut packet = Packet::of(&[0; 100]).unwrap();
            // SAFETY: the packet is valid and ours.
            unsafe { (*packet.as_mut_ptr()).pts = time };
            packet
        };
        for section in [0, 1000] {
            gaps.begin(packet(section), true, &mut frames).unwrap();
            let errors = (1..100).filter(|time| gaps.add(stream.video(), packet(section + time), &mut frames).is_err());
            assert_eq!(errors.count(), 1);
            assert_eq!((gaps.held.len(), gaps.held_bytes), (0, 0));
        }
    }

    #[test]
    fn a_section_of_many_bytes_is_decoded_without_waiting_for_its_end() {
        let stream = stream(Codec::H264, Vec::new());
        let mut gaps = GapFiller::new(10, 1, resources(), Interrupt::default());
        // References to the same memory.
        let packet = Packet::of(&vec![0; 16 << 20]).unwrap();
        let mut frames = Vec::new();
        gaps.begin(packet.share().unwrap(), true, &mut frames).unwrap();
        for _ in 1..MAX_HELD_BYTES / packet.byte_len() {
            gaps.add(stream.video(), packet.share().unwrap(), &mut frames).unwrap();
        }
        assert_eq!((gaps.is_decoding, gaps.held_bytes), (false, MAX_HELD_BYTES));
        // These packets have no pictures.
        let _ = gaps.add(stream.video(), packet, &mut frames);
        assert_eq!((gaps.is_decoding, gaps.held.len(), gaps.held_bytes), (true, 0, 0));
    }
}
