// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detects in transport and program streams that the video continues in another stream, as in a recording over a change of
//! programme.
//!
//! Packets of other videos are held until it is clear whether they run in parallel with the selected one (another programme,
//! another camera) or follow it.

use crate::av::input::packet::Packet;

/// Seconds of another video without a packet of the selected one after which the selected one has ended.
const SILENCE_SECONDS: i64 = 2;

/// Packets of another video without a packet of the selected one, where they carry no times.
const SILENCE_PACKETS: u32 = 100;

/// Most bytes of packets held meanwhile.
const MAX_HELD_BYTES: u64 = 64 << 20;

/// State of the detection.
#[derive(Default)]
pub(super) struct StreamSwitchDetector {
    candidate: Option<Candidate>,
    /// Streams that run in parallel with the selected one.
    parallel: Vec<i32>,
}

/// Another video that began since the last packet of the selected one.
struct Candidate {
    index: i32,
    first: Option<i64>,
    packets: u32,
    held: Vec<Packet>,
    held_bytes: u64,
    /// The selected video had a packet since this one began.
    is_parallel: bool,
}

/// What another video is.
pub(super) enum SwitchDecision {
    Undecided,
    /// An independent video, to be discarded.
    Parallel,
    /// The continuation of the selected one, with its packets from its first keyframe on.
    Successor(Vec<Packet>),
}

impl StreamSwitchDetector {
    /// Drops held packets, as after a seek.
    pub(crate) fn reset(&mut self) {
        self.candidate = None;
    }

    /// Ignores packets of this stream from now on.
    pub(crate) fn ignore(&mut self, index: i32) {
        self.parallel.push(index);
    }

    /// Records a packet of the selected video: any other that has begun runs in parallel.
    pub(super) fn note_selected(&mut self) {
        if let Some(candidate) = &mut self.candidate {
            candidate.is_parallel = true;
            candidate.held.clear();
        }
    }

    /// Records a packet of another video; times are in units of `time_base`, which streams of a programme share.
    pub(super) fn note_other(&mut self, packet: Packet, (num, den): (i64, i64)) -> SwitchDecision {
        let index = packet.stream_index();
        if self.parallel.contains(&index) {
            return SwitchDecision::Undecided;
        }
        let time = packet.dts().or_else(|| packet.pts());
        let candidate = match &mut self.candidate {
            Some(candidate) if candidate.index == index => candidate,
            other => other.insert(Candidate {
                index,
                first: time,
                packets: 0,
                held: Vec::new(),
                held_bytes: 0,
                is_parallel: false,
            }),
        };
        if candidate.is_parallel {
            self.candidate = None;
            self.parallel.push(index);
            return SwitchDecision::Parallel;
        }
        candidate.packets += 1;
        let since = time.zip(candidate.first).map(|(time, first)| time.saturating_sub(first));
        if packet.is_key() || !candidate.held.is_empty() {
            candidate.held_bytes += packet.byte_len();
            candidate.held.push(packet);
        }
        let silence = SILENCE_SECONDS.saturating_mul(den) / num.max(1);
        let has_ended = since.is_some_and(|since| since >= silence || since < 0)
            || candidate.packets >= SILENCE_PACKETS
            || candidate.held_bytes > MAX_HELD_BYTES;
        if !has_ended {
            return SwitchDecision::Undecided;
        }
        let held = self.candidate.take().map(|candidate| candidate.held).unwrap_or_default();
        SwitchDecision::Successor(held)
    }

    /// Returns at the end of the file the stream that began last and its held packets: the selected video has ended.
    pub(super) fn at_end(&mut self) -> Option<(i32, Vec<Packet>)> {
        let candidate = self.candidate.take_if(|candidate| !candidate.is_parallel && !candidate.held.is_empty())?;
        Some((candidate.index, candidate.held))
    }
}
