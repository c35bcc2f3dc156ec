// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plans how many files are processed at once, and with which resources.
//!
//! Pure arithmetic, so that it can be shown before anything runs; the engine's own plan (sessions and threads of the model)
//! is in `detect`.

use serde::Serialize;

/// Inputs of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanInputs {
    /// Processor cores.
    pub cores: usize,
    /// Bytes of memory that may be used; `None` where unknown.
    pub memory: Option<u64>,
    /// Files to read.
    pub files: usize,
    /// Bytes of the largest of them.
    pub largest_file_bytes: u64,
    /// Bytes of all of them.
    pub total_bytes: u64,
    /// Requested lanes; 0 for automatic.
    pub lanes: usize,
    /// Sessions of the model, each with one frame at a time.
    pub sessions: usize,
    /// Bytes that the sessions may use, for all input sizes.
    pub session_memory: u64,
}

/// A plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LanePlan {
    /// Files that are processed at once.
    pub lanes: usize,
    /// Threads that decode keyframes, in each lane: `threads` of the decoder.
    pub decoder_threads: usize,
    /// Frames that each lane may have before the model: `max-inflight` of the detector.
    pub frames_in_flight: usize,
    /// Bytes that decoded frames of all lanes may use; `None` for no limit.
    pub frame_memory: Option<u64>,
}

/// Most lanes: beyond, threads cost more than they gain.
const MAX_LANES: usize = 64;

/// Most decoder threads of a lane.
const MAX_DECODER_THREADS: usize = 16;

/// Memory of the process and the runtime before the first frame.
const BASE_MEMORY: u64 = 200 << 20;

/// Memory of a lane beside its frames: contexts, queues, lines.
const LANE_MEMORY: u64 = 16 << 20;

impl LanePlan {
    /// Plans lanes to keep every core busy, as far as there are files and memory for them.
    ///
    /// Inference nearly always takes longest, and each session has a core; so one lane more than there are cores keeps all sessions
    /// busy while a file is being opened or ends. Each lane gets its share of the cores as decoder threads; a file that is larger than a
    /// lane's share of all bytes outlasts the others, and its decoder gets the corresponding share of the cores.
    #[must_use]
    pub fn new(inputs: PlanInputs) -> Self {
        let PlanInputs { cores, memory, files, largest_file_bytes: largest, total_bytes: total, lanes, .. } = inputs;
        let PlanInputs { sessions, session_memory, .. } = inputs;
        let (cores, files) = (cores.max(1), files.max(1));
        let room = memory.map_or(u64::MAX, |memory| memory.saturating_sub(BASE_MEMORY).saturating_sub(session_memory));
        let affordable = usize::try_from(room / (2 * LANE_MEMORY)).unwrap_or(usize::MAX);
        let wanted = if lanes == 0 { (cores + 1).min(affordable.max(1)) } else { lanes };
        let lanes = wanted.clamp(1, MAX_LANES).min(files);
        let share = if total == 0 { 0.0 } else { largest.min(total) as f64 / total as f64 };
        let for_largest = if share * lanes as f64 > 1.0 { (share * cores as f64).ceil() as usize } else { 1 };
        let decoder_threads = cores.div_ceil(lanes).max(for_largest).min(MAX_DECODER_THREADS);
        // Enough that a single lane keeps all sessions busy when the others have ended, with the next frame ready.
        let frames_in_flight = (sessions.max(1) + 1).clamp(2, 64);
        let frame_memory = memory.map(|_| room.saturating_sub(lanes as u64 * LANE_MEMORY));
        Self { lanes, decoder_threads, frames_in_flight, frame_memory }
    }

    /// Returns the most frames of one lane:
    ///
    /// - in the decoder two for each thread, one that it works on and one that is done or comes next, because a thread that has
    ///   finished must find work at once; with one thread only one (`is_full` in `av/decode/parallel.rs`),
    /// - one that the decoder element pushes, which waits for room in the detector (`wait_for_room` in `yolodetect/queue.rs`),
    /// - in the detector as many as its `max-inflight`, from the frame in inference to the one that is pushed.
    pub fn frames(&self) -> usize {
        let in_decoder = if self.decoder_threads <= 1 { 1 } else { 2 * self.decoder_threads };
        in_decoder + 1 + self.frames_in_flight
    }

    /// Returns the most bytes of one lane's frames of this size.
    #[must_use]
    pub fn frame_bytes(&self, width: u32, height: u32, bits_per_pixel: u32) -> u64 {
        let frame = u64::from(width) * u64::from(height) * u64::from(bits_per_pixel) / 8;
        frame * self.frames() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn lanes_follow_cores_files_and_memory() {
        // cores, memory, files, asked for, sessions: lanes, decoder threads, frames in flight.
        let table = [
            ((2, Some(16 * GIB), 100, 0, 2), (3, 1, 3)),
            ((2, Some(16 * GIB), 1, 0, 2), (1, 2, 3)),
            ((2, None, 2, 0, 2), (2, 1, 3)),
            ((1, Some(GIB), 100, 0, 1), (2, 1, 2)),
            ((16, Some(64 * GIB), 1000, 0, 8), (17, 1, 9)),
            ((16, Some(64 * GIB), 4, 0, 8), (4, 4, 9)),
            ((16, Some(300 << 20), 1000, 0, 8), (3, 6, 9)),
            ((16, Some(0), 1000, 0, 8), (1, 16, 9)),
            ((64, Some(64 * GIB), 1000, 0, 8), (64, 1, 9)),
            ((2, Some(16 * GIB), 100, 8, 2), (8, 1, 3)),
            ((2, Some(16 * GIB), 100, 1, 2), (1, 2, 3)),
            ((0, Some(16 * GIB), 0, 0, 0), (1, 1, 2)),
            ((2, Some(16 * GIB), 1000, 100_000, 2), (64, 1, 3)),
        ];
        for ((cores, memory, files, lanes, sessions), (expected, threads, in_flight)) in table {
            let inputs = PlanInputs {
                cores,
                memory,
                files,
                largest_file_bytes: 1,
                total_bytes: files as u64,
                lanes,
                sessions,
                session_memory: 0,
            };
            let plan = LanePlan::new(inputs);
            let shown = (plan.lanes, plan.decoder_threads, plan.frames_in_flight);
            assert_eq!(shown, (expected, threads, in_flight), "{inputs:?}");
            assert_eq!(plan.frame_memory.is_some(), memory.is_some());
        }
    }

    #[test]
    fn a_file_that_outlasts_the_others_is_decoded_by_its_share_of_the_cores() {
        let threads = |cores, (largest_file_bytes, total_bytes)| {
            let inputs = PlanInputs {
                cores,
                memory: None,
                files: 100,
                largest_file_bytes,
                total_bytes,
                lanes: 0,
                sessions: 2,
                session_memory: 0,
            };
            LanePlan::new(inputs).decoder_threads
        };
        // Largest and all: threads on 2 and on 8 cores.
        let table = [((1, 100), (1, 1)), ((32, 100), (1, 3)), ((90, 100), (2, 8)), ((0, 0), (1, 1)), ((7, 3), (2, 8))];
        for (bytes, expected) in table {
            assert_eq!((threads(2, bytes), threads(8, bytes)), expected, "{bytes:?}");
        }
    }

    #[test]
    fn lanes_and_threads_are_limited() {
        let inputs = PlanInputs {
            cores: 1000,
            memory: None,
            files: 100_000,
            largest_file_bytes: 90,
            total_bytes: 100,
            lanes: 0,
            sessions: 1000,
            session_memory: 0,
        };
        let plan = LanePlan::new(inputs);
        assert_eq!((plan.lanes, plan.decoder_threads), (MAX_LANES, MAX_DECODER_THREADS));
        assert_eq!(LanePlan::new(PlanInputs { lanes: usize::MAX, ..inputs }).lanes, MAX_LANES);
    }

    #[test]
    fn all_frames_in_flight_count() {
        // Decoder threads and max-inflight: frames.
        for ((decoder_threads, frames_in_flight), expected) in
            [((0, 2), 4), ((1, 3), 5), ((2, 3), 8), ((4, 9), 18), ((16, 64), 97)]
        {
            let plan = LanePlan { lanes: 1, decoder_threads, frames_in_flight, frame_memory: None };
            assert_eq!(plan.frames(), expected, "{plan:?}");
            assert_eq!(plan.frame_bytes(1920, 1080, 12), expected as u64 * 1920 * 1080 * 3 / 2);
        }
    }

    #[test]
    fn frames_of_8k_count_more() {
        let inputs = PlanInputs {
            cores: 2,
            memory: Some(GIB),
            files: 9,
            largest_file_bytes: 1,
            total_bytes: 9,
            lanes: 0,
            sessions: 2,
            session_memory: 100 << 20,
        };
        let plan = LanePlan::new(inputs);
        let frames = |session_memory| LanePlan::new(PlanInputs { session_memory, ..inputs }).frame_memory;
        assert_eq!(frames(0), frames(100 << 20).map(|left| left + (100 << 20)));
        assert_eq!(frames(2 * GIB), Some(0));
        let [small, large] = [(854, 480), (7680, 4320)].map(|(width, height)| plan.frame_bytes(width, height, 12));
        assert!(large > 70 * small && large < plan.frame_memory.unwrap_or_default());
    }
}
