//! What an engine is asked to be, and how many sessions and threads that makes.
//!
//! Pure arithmetic; starts nothing.

use std::path::PathBuf;

use super::provider::Provider;
use super::source::ModelSource;

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
    /// Folders with plugin provider libraries, searched before the folder of ONNX Runtime.
    pub provider_dirs: Vec<PathBuf>,
}

/// The most sessions and threads that are started whatever is asked for.
pub const MAX_THREADS: usize = 256;
/// The largest batch.
pub const MAX_BATCH_SIZE: usize = 64;

/// Up to this many cores each core gets a session; with more, sessions get more threads.
const MAX_AUTOMATIC_SESSIONS: usize = 8;

/// A spec with nothing left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub sessions: usize,
    pub intra_op_threads: usize,
    pub inter_op_threads: usize,
    pub batch_size: usize,
}

impl Plan {
    /// Fills in what is automatic so that sessions times threads stays within `cores`.
    pub fn new(spec: &EngineSpec, cores: usize) -> Self {
        let cores = cores.max(1);
        let inter = spec.inter_op_threads.clamp(1, MAX_THREADS);
        let (sessions, intra) = match (spec.sessions, spec.intra_op_threads) {
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
mod tests {
    use super::*;

    fn plan(sessions: usize, intra_op_threads: usize, cores: usize) -> (usize, usize) {
        let plan = Plan::new(&EngineSpec { sessions, intra_op_threads, ..EngineSpec::default() }, cores);
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
    fn what_is_asked_for_is_kept() {
        assert_eq!(plan(3, 5, 2), (3, 5));
        assert_eq!(plan(0, 4, 8), (2, 4));
        assert_eq!(plan(0, 4, 2), (1, 4));
        assert_eq!(plan(2, 0, 8), (2, 4));
        assert_eq!(plan(8, 0, 2), (8, 1));
        assert_eq!(plan(usize::MAX, usize::MAX, 2), (MAX_THREADS, MAX_THREADS));
    }
}
