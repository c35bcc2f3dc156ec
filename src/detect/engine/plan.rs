//! What an engine is asked to be, and how many sessions and threads that makes.
//!
//! Pure arithmetic; starts nothing.

use std::path::PathBuf;
use std::time::Duration;

use crate::detect::model::reading::Reading;
use crate::detect::onnx::file::ModelSource;
use crate::detect::runtime::provider::{Provider, Tuning};

/// Everything that tells engines apart; 0 means automatic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EngineSpec {
    /// The model.
    pub model: ModelSource,
    /// Who runs it.
    pub provider: Provider,
    /// Sessions, and so worker threads.
    pub sessions: usize,
    /// Threads inside one operator, for each session.
    pub intra_op_threads: usize,
    /// Operators side by side, for each session; 0 is 1.
    pub inter_op_threads: usize,
    /// Most frames in one run; 0 is 1. Models with a fixed batch use theirs.
    pub batch_size: usize,
    /// How long a run waits for its batch to fill.
    pub batch_timeout: Duration,
    /// What automatic numbers of sessions and threads are to do.
    pub optimize_for: OptimizeFor,
    /// Whether the threads of the CPU provider are tied to processor cores.
    pub pin_threads: bool,
    /// How the provider is to work.
    pub tuning: Tuning,
    /// What the user knows of the model better than its file does.
    pub reading: Reading,
    /// Bytes that the model may take; 0 is 80 % of what is available.
    pub memory_limit: u64,
    /// How long the model may take to load; `None` for as long as it takes.
    pub load_timeout: Option<Duration>,
    /// Folders with plugin provider libraries, searched before the folder of ONNX Runtime.
    pub provider_dirs: Vec<PathBuf>,
}

/// What sessions and threads are planned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OptimizeFor {
    /// Most frames in a time, which is what keyframes of whole files want.
    #[default]
    Throughput,
    /// Each frame as soon as possible: all cores on one frame.
    Latency,
}

/// The most sessions and threads that are started whatever is asked for.
pub const MAX_THREADS: usize = 256;
/// The largest batch.
pub const MAX_BATCH_SIZE: usize = 64;

/// Sessions on a device that is not the processor.
const DEVICE_SESSIONS: usize = 2;

/// Up to this many cores each core gets a session; with more, sessions get more threads.
const MAX_AUTOMATIC_SESSIONS: usize = 8;

/// A spec with nothing left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    pub sessions: usize,
    pub intra_op_threads: usize,
    pub inter_op_threads: usize,
    pub batch_size: usize,
}

impl Plan {
    /// Fills in what is automatic so that sessions times threads stays within `cores`; with `is_device` they compute
    /// elsewhere, and cores do not count.
    pub fn new(spec: &EngineSpec, cores: usize, is_device: bool) -> Self {
        let cores = cores.max(1);
        let inter = spec.inter_op_threads.clamp(1, MAX_THREADS);
        let (sessions, intra) = match (spec.sessions, spec.intra_op_threads) {
            (0, intra) if is_device => {
                // While one session's frames are prepared and read the other's run.
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
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn plan(sessions: usize, intra_op_threads: usize, cores: usize) -> (usize, usize) {
        let plan = Plan::new(&EngineSpec { sessions, intra_op_threads, ..EngineSpec::default() }, cores, false);
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
            let plan = Plan::new(spec, 8, is_device);
            (plan.sessions, plan.intra_op_threads)
        };
        assert_eq!(of(&spec(0, OptimizeFor::Latency), false), (1, 8));
        assert_eq!(of(&spec(2, OptimizeFor::Latency), false), (2, 4));
        assert_eq!(of(&spec(0, OptimizeFor::Throughput), true), (2, 1));
        assert_eq!(of(&spec(0, OptimizeFor::Latency), true), (1, 1));
        assert_eq!(of(&spec(5, OptimizeFor::Throughput), true).0, 5);
    }

    #[test]
    fn sizes_are_width_and_height() {
        for (text, size) in [(" ", None), ("640x384", Some((640, 384))), ("1280", Some((1280, 1280)))] {
            assert_eq!(Reading::parse_size(text).unwrap(), size, "{text}");
        }
        for wrong in ["0", "640x", "x", "wide", "-3x3", "640x99999", "1x2x3"] {
            assert!(Reading::parse_size(wrong).unwrap_err().to_string().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_is_asked_for_is_kept() {
        assert_eq!(plan(3, 5, 2), (3, 5));
        assert_eq!(plan(0, 4, 8), (2, 4));
        assert_eq!(plan(0, 4, 2), (1, 4));
        assert_eq!(plan(2, 0, 8), (2, 4));
        assert_eq!(plan(8, 0, 2), (8, 1));
        assert_eq!(plan(usize::MAX, usize::MAX, 2), (MAX_THREADS, MAX_THREADS));
    }
}
