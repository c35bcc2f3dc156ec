// SPDX-License-Identifier: MIT OR Apache-2.0
//! The specification of an engine, and the numbers of sessions and threads that follow from it.
//!
//! Pure arithmetic; starts nothing.

use std::path::PathBuf;
use std::time::Duration;

use crate::detect::model::hints::ModelHints;
use crate::detect::onnx::file::ModelSource;
use crate::detect::runtime::provider::{Provider, Tuning};

/// The specification of an engine; 0 means automatic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EngineSpec {
    /// The model.
    pub model: ModelSource,
    /// The execution provider.
    pub provider: Provider,
    /// Sessions, each with a worker thread.
    pub sessions: usize,
    /// Threads inside one operator, for each session.
    pub intra_op_threads: usize,
    /// Operators that run in parallel, for each session; 0 is 1.
    pub inter_op_threads: usize,
    /// Most frames in one run; 0 is 1. Models with a fixed batch use theirs.
    pub batch_size: usize,
    /// How long a run waits for its batch to fill.
    pub batch_timeout: Duration,
    /// The goal of automatic numbers of sessions and threads.
    pub optimize_for: OptimizeFor,
    /// Whether the threads of the CPU provider are pinned to processor cores.
    pub pin_threads: bool,
    /// Precision and options of the provider.
    pub tuning: Tuning,
    /// What the user says about the model.
    pub hints: ModelHints,
    /// Bytes of memory that the model may use; 0 is 80 % of the available memory.
    pub memory_limit: u64,
    /// How long the model may take to load; `None` for no limit.
    pub load_timeout: Option<Duration>,
    /// Folders with plugin provider libraries, searched before the folder of ONNX Runtime.
    pub provider_dirs: Vec<PathBuf>,
    /// Folder with compiled models and findings about models, which make later starts faster; `None` for none. Results do not
    /// depend on it. It is created if necessary, and bounded ([`MAX_CACHE`](crate::detect::MAX_CACHE)). Only users who may
    /// replace the model should be able to write to it.
    pub cache_dir: Option<PathBuf>,
}

/// The goal of automatic numbers of sessions and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OptimizeFor {
    /// Most frames per time.
    #[default]
    Throughput,
    /// Shortest time for each frame: all cores work on one frame.
    Latency,
}

/// Largest number of sessions and of threads.
pub const MAX_THREADS: usize = 256;
/// The largest batch.
pub const MAX_BATCH_SIZE: usize = 64;

/// Sessions on a device that is not the processor.
const DEVICE_SESSIONS: usize = 2;

/// Up to this many cores each core gets a session; with more, sessions get more threads.
const MAX_AUTOMATIC_SESSIONS: usize = 8;

/// Sessions, threads and batch size, without automatic values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ThreadPlan {
    pub sessions: usize,
    pub intra_op_threads: usize,
    pub inter_op_threads: usize,
    pub batch_size: usize,
}

impl ThreadPlan {
    /// Replaces automatic values so that sessions times threads does not exceed `cores`. With `is_device` the provider does not
    /// compute on the processor, and cores do not count.
    pub fn new(spec: &EngineSpec, cores: usize, is_device: bool) -> Self {
        let cores = cores.max(1);
        let inter = spec.inter_op_threads.clamp(1, MAX_THREADS);
        let (sessions, intra) = match (spec.sessions, spec.intra_op_threads) {
            (0, intra) if is_device => {
                // One session's frames are prepared and decoded while the other's run.
                (if spec.optimize_for == OptimizeFor::Latency { 1 } else { DEVICE_SESSIONS.min(cores) }, intra.max(1))
            }
            (0, 0) if spec.optimize_for == OptimizeFor::Latency => (1, cores),
            (0, 0) => {
                let intra = cores.div_ceil(MAX_AUTOMATIC_SESSIONS);
                (cores / intra, intra)
            }
            (0, intra) => (cores / intra, intra),
            (sessions, 0) => (sessions, cores / sessions),
            asked => asked,
        };
        Self {
            sessions: sessions.clamp(1, MAX_THREADS),
            intra_op_threads: intra.clamp(1, MAX_THREADS),
            inter_op_threads: inter,
            batch_size: spec.batch_size.clamp(1, MAX_BATCH_SIZE),
        }
    }

    /// Limits the number of sessions, for providers that cannot run several at the same time.
    pub fn with_max_sessions(self, max: usize) -> Self {
        Self { sessions: self.sessions.min(max), ..self }
    }
}

/// Sessions that a worker keeps at least: the exported size, to which others are compared, and one more.
const MIN_SIZES: usize = 2;
/// Bytes of a session for each byte of its model: ONNX Runtime rearranges the weights of each session.
const BYTES_PER_MODEL_BYTE: u64 = 2;
/// Bytes of a session for each pixel of its input, for a model of [`REFERENCE_MODEL`] bytes. Measured with YOLOv8n on the CPU
/// provider; intermediate results grow with the channels, and weights with the square of the channels.
const BYTES_PER_PIXEL: f64 = 100.0;
const REFERENCE_MODEL: f64 = (13 << 20) as f64;

/// The memory of an engine's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionMemory {
    /// Most sessions of a worker, each for another input size.
    pub sizes: usize,
    /// Estimated bytes of all sessions of all workers, and of the model file, which is kept.
    pub bytes: u64,
}

impl SessionMemory {
    /// Plans sessions for up to `sizes` input sizes on each of `workers` workers, within half of `budget` bytes: the other half is for
    /// frames. The model has `model` bytes, and its largest input `pixels` pixels.
    ///
    /// A worker with fewer sessions than sizes in use replaces them in turn, which takes time and does not change results.
    pub fn plan(budget: Option<u64>, model: u64, pixels: u64, workers: usize, sizes: usize) -> Self {
        let intermediate = pixels as f64 * BYTES_PER_PIXEL * (model as f64 / REFERENCE_MODEL).sqrt();
        let session = model.saturating_mul(BYTES_PER_MODEL_BYTE).saturating_add(intermediate as u64).max(1);
        let workers = workers.max(1) as u64;
        let affordable = budget.map_or(u64::MAX, |budget| budget / 2 / session.saturating_mul(workers));
        let sizes = usize::try_from(affordable).unwrap_or(usize::MAX).max(MIN_SIZES).min(sizes);
        let sessions = session.saturating_mul(workers).saturating_mul(sizes as u64);
        Self { sizes, bytes: sessions.saturating_add(model) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn plan(sessions: usize, intra_op_threads: usize, cores: usize) -> (usize, usize) {
        let plan = ThreadPlan::new(&EngineSpec { sessions, intra_op_threads, ..EngineSpec::default() }, cores, false);
        (plan.sessions, plan.intra_op_threads)
    }

    #[test]
    fn automatic_plans_stay_within_the_cores() {
        assert_eq!(plan(0, 0, 1), (1, 1));
        assert_eq!(plan(0, 0, 2), (2, 1));
        assert_eq!(plan(0, 0, 8), (8, 1));
        assert_eq!(plan(0, 0, 16), (8, 2));
        assert_eq!(plan(0, 0, 9), (4, 2));
        for cores in 1..200 {
            let (sessions, threads) = plan(0, 0, cores);
            assert!(sessions * threads <= cores && sessions * threads * 2 > cores, "{cores}: {sessions} x {threads}");
        }
    }

    #[test]
    fn latency_puts_all_cores_on_one_frame_and_devices_need_few_sessions() {
        let spec = |sessions, optimize_for| EngineSpec { sessions, optimize_for, ..EngineSpec::default() };
        let of = |spec: &EngineSpec, is_device| {
            let plan = ThreadPlan::new(spec, 8, is_device);
            (plan.sessions, plan.intra_op_threads)
        };
        assert_eq!(of(&spec(0, OptimizeFor::Latency), false), (1, 8));
        assert_eq!(of(&spec(2, OptimizeFor::Latency), false), (2, 4));
        assert_eq!(of(&spec(0, OptimizeFor::Throughput), true), (2, 1));
        assert_eq!(of(&spec(0, OptimizeFor::Latency), true), (1, 1));
        assert_eq!(of(&spec(5, OptimizeFor::Throughput), true).0, 5);
    }

    #[test]
    fn workers_keep_as_many_sizes_as_fit_into_half_of_the_memory() {
        let plan = |budget, model, workers, sizes| {
            let plan = SessionMemory::plan(budget, model, 640 * 640, workers, sizes);
            (plan.sizes, plan.bytes >> 20)
        };
        const GIB: u64 = 1 << 30;
        let (nano, medium) = (13 << 20, 100 << 20);
        assert_eq!(plan(None, nano, 1, 1), (1, 78));
        assert_eq!(plan(None, nano, 2, 7), (7, 923));
        assert_eq!(plan(Some(16 * GIB), nano, 2, 7), (7, 923));
        assert_eq!(plan(Some(GIB), nano, 2, 7), (3, 403));
        assert_eq!(plan(Some(GIB), medium, 2, 7).0, 2);
        assert_eq!(plan(Some(16 * GIB), medium, 8, 7).0, 3);
        assert_eq!(plan(Some(0), u64::MAX / 4, usize::MAX, 7), (2, u64::MAX >> 20));
        assert_eq!(plan(Some(0), 0, 0, 0).0, 0);
    }

    #[test]
    fn explicit_numbers_are_kept() {
        let spec = EngineSpec { batch_size: usize::MAX, ..EngineSpec::default() };
        assert_eq!(ThreadPlan::new(&spec, 2, false).batch_size, MAX_BATCH_SIZE);
        assert_eq!(plan(3, 5, 2), (3, 5));
        assert_eq!(plan(0, 4, 8), (2, 4));
        assert_eq!(plan(0, 4, 2), (1, 4));
        assert_eq!(plan(2, 0, 8), (2, 4));
        assert_eq!(plan(8, 0, 2), (8, 1));
        assert_eq!(plan(usize::MAX, usize::MAX, 2), (MAX_THREADS, MAX_THREADS));
    }
}
