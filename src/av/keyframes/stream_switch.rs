// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detects in transport and program streams that the video continues in another stream, as in a recording over a change of
//! programme.
//!
//! Packets of other videos are held until it is clear whether they run in parallel with the selected one (another programme,
//! another camera) or follow it. Of several that follow it, the first that has lasted long enough continues it.

use crate::av::input::packet::Packet;

/// Seconds of another video without a packet of the selected one after which the selected one has ended.
const SILENCE_SECONDS: i64 = 2;

/// Packets of another video without a packet of the selected one, where they carry no times.
const SILENCE_PACKETS: u32 = 100;

/// Most bytes of packets held meanwhile, of all videos together.
const MAX_HELD_BYTES: u64 = 64 << 20;

/// State of the detection.
#[derive(Default)]
pub(super) struct StreamSwitchDetector {
    /// Other videos that began since the last packet of the selected one, in this order.
    candidates: Vec<Candidate>,
    /// Streams that run in parallel with the selected one.
    parallel: Vec<i32>,
    /// Streams in which the video was before.
    left: Vec<i32>,
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
    /// The continuation of the selected one.
    Successor(Successor),
}

/// The continuation of the selected video.
pub(super) struct Successor {
    pub(super) index: i32,
    /// Its packets so far, from its first keyframe on.
    pub(super) held: Vec<Packet>,
}

impl StreamSwitchDetector {
    /// Drops held packets and forgets which streams the video has left, as after a seek.
    pub(crate) fn reset(&mut self) {
        self.candidates.clear();
        self.left.clear();
    }

    /// Ignores packets of this stream, which the video has left, until the next [`reset`](Self::reset).
    pub(crate) fn leave(&mut self, index: i32) {
        self.left.push(index);
    }

    /// Returns the streams that run in parallel with the selected one.
    pub(super) fn parallel(&self) -> &[i32] {
        &self.parallel
    }

    /// Records a packet of the selected video: any other that has begun runs in parallel.
    pub(super) fn note_selected(&mut self) {
        for candidate in &mut self.candidates {
            candidate.is_parallel = true;
            candidate.held.clear();
            candidate.held_bytes = 0;
        }
    }

    /// Records a packet of another video; times are in units of `time_base`, which streams of a programme share.
    pub(super) fn note_other(&mut self, packet: Packet, (num, den): (i64, i64)) -> SwitchDecision {
        let index = packet.stream_index();
        if self.parallel.contains(&index) || self.left.contains(&index) {
            return SwitchDecision::Undecided;
        }
        let time = packet.dts().or_else(|| packet.pts());
        let number = self.candidates.iter().position(|candidate| candidate.index == index).unwrap_or_else(|| {
            let held = Vec::new();
            let candidate = Candidate { index, first: time, packets: 0, held, held_bytes: 0, is_parallel: false };
            self.candidates.push(candidate);
            self.candidates.len() - 1
        });
        let candidate = &mut self.candidates[number];
        if candidate.is_parallel {
            self.candidates.remove(number);
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
        let has_lasted =
            since.is_some_and(|since| since >= silence || since < 0) || candidate.packets >= SILENCE_PACKETS;
        let successor = if has_lasted { Some(number) } else { self.first_where_too_much_is_held() };
        match successor {
            Some(number) => SwitchDecision::Successor(self.take(number)),
            None => SwitchDecision::Undecided,
        }
    }

    /// Returns at the end of the file the stream that began first of those with held packets: the selected video has ended.
    pub(super) fn at_end(&mut self) -> Option<Successor> {
        let number = self.candidates.iter().position(|candidate| !candidate.held.is_empty())?;
        Some(self.take(number))
    }

    /// Returns the candidate that began first of those with held packets, if they hold too many bytes.
    fn first_where_too_much_is_held(&self) -> Option<usize> {
        let held: u64 = self.candidates.iter().map(|candidate| candidate.held_bytes).sum();
        self.candidates.iter().position(|candidate| held > MAX_HELD_BYTES && !candidate.held.is_empty())
    }

    fn take(&mut self, number: usize) -> Successor {
        let Candidate { index, held, .. } = self.candidates.remove(number);
        Successor { index, held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME_BASE: (i64, i64) = (1, 90_000);

    /// A packet of `stream` at this time in units of the time base.
    fn packet(stream: i32, time: i64, len: usize) -> Packet {
        let mut packet = Packet::of(&vec![0; len]).unwrap();
        packet.set_key();
        // SAFETY: the packet is valid and ours.
        unsafe {
            (*packet.as_mut_ptr()).stream_index = stream;
            (*packet.as_mut_ptr()).dts = time;
        }
        packet
    }

    #[test]
    fn one_of_several_videos_that_begin_together_is_the_continuation() {
        let mut detector = StreamSwitchDetector::default();
        detector.note_selected();
        let mut found = None;
        for frame in 0..=50 {
            for stream in [3, 2] {
                match detector.note_other(packet(stream, frame * 3600, 10), TIME_BASE) {
                    SwitchDecision::Successor(successor) if found.is_none() => found = Some(successor),
                    SwitchDecision::Undecided => {}
                    _ => assert_eq!((stream, frame), (2, 50)),
                }
            }
        }
        let found = found.unwrap();
        assert_eq!((found.index, found.held.len()), (3, 51));
    }

    #[test]
    fn videos_beside_the_selected_one_are_parallel() {
        let mut detector = StreamSwitchDetector::default();
        for stream in [3, 2] {
            assert!(matches!(detector.note_other(packet(stream, 0, 10), TIME_BASE), SwitchDecision::Undecided));
        }
        detector.note_selected();
        assert!(detector.at_end().is_none());
        for stream in [3, 2] {
            assert!(matches!(detector.note_other(packet(stream, 3600, 10), TIME_BASE), SwitchDecision::Parallel));
        }
        assert_eq!(detector.parallel(), [3, 2]);
        detector.reset();
        let long_after = packet(2, 1 << 30, 10);
        assert!(matches!(detector.note_other(long_after, TIME_BASE), SwitchDecision::Undecided));
    }

    #[test]
    fn the_limit_of_held_bytes_is_for_all_videos_together() {
        const BYTES: usize = 1 << 20;
        let mut detector = StreamSwitchDetector::default();
        for number in 0.. {
            match detector.note_other(packet(2 + number % 4, 0, BYTES), TIME_BASE) {
                SwitchDecision::Undecided => assert!((number as u64) < MAX_HELD_BYTES / BYTES as u64),
                SwitchDecision::Successor(successor) => {
                    assert_eq!(successor.index, 2);
                    assert_eq!(number as u64, MAX_HELD_BYTES / BYTES as u64);
                    break;
                }
                SwitchDecision::Parallel => panic!("unexpected second video"),
            }
        }
    }

    #[test]
    fn a_stream_that_the_video_has_left_counts_again_after_a_seek() {
        let mut detector = StreamSwitchDetector::default();
        detector.leave(0);
        for time in [0, 1 << 30] {
            assert!(matches!(detector.note_other(packet(0, time, 10), TIME_BASE), SwitchDecision::Undecided));
        }
        assert!(detector.at_end().is_none());
        detector.reset();
        detector.note_other(packet(0, 0, 10), TIME_BASE);
        assert_eq!(detector.at_end().unwrap().index, 0);
    }
}
