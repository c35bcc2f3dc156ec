// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cancels the loading of a model from another thread.
//!
//! Calls `ort`. A [`CancelToken`] is shared by the loading thread and those that wait for it. It stops ONNX Runtime's compilation
//! and the trial runs of a model, both of which may never end for a malicious model.

use std::sync::Arc;

use ort::session::RunOptions;
#[cfg(feature = "plugin-providers")]
use ort::session::builder::LoadCanceler;
use ort::session::builder::SessionBuilder;
use parking_lot::Mutex;

/// Cancels the loading of one model; see the module.
#[derive(Default)]
pub(crate) struct CancelToken {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_cancelled: bool,
    work: Option<Work>,
}

/// What the loading thread is doing.
enum Work {
    #[cfg(feature = "plugin-providers")]
    Compiling(LoadCanceler),
    Running(Arc<RunOptions>),
}

impl std::fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelToken").field("is_cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

impl Work {
    fn stop(&self) {
        // Both fail only if there is nothing left to stop.
        match self {
            #[cfg(feature = "plugin-providers")]
            Self::Compiling(canceler) => drop(canceler.cancel()),
            Self::Running(options) => drop(options.terminate()),
        }
    }
}

impl CancelToken {
    /// Stops the current work and prevents further work.
    pub fn cancel(&self) {
        let mut state = self.state.lock();
        state.is_cancelled = true;
        if let Some(work) = &state.work {
            work.stop();
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.state.lock().is_cancelled
    }

    /// Registers that `builder` is about to compile a session. Returns false if loading is cancelled.
    #[cfg(feature = "plugin-providers")]
    pub fn start_compiling(&self, builder: &SessionBuilder) -> bool {
        self.start(Work::Compiling(builder.canceler()))
    }

    /// Returns false if loading is cancelled. ONNX Runtime before 1.22 cannot be stopped while it compiles.
    #[cfg(not(feature = "plugin-providers"))]
    pub fn start_compiling(&self, _: &SessionBuilder) -> bool {
        !self.is_cancelled()
    }

    /// Registers that a run with `options` is about to start. Returns false if loading is cancelled.
    pub fn start_run(&self, options: &Arc<RunOptions>) -> bool {
        self.start(Work::Running(Arc::clone(options)))
    }

    fn start(&self, work: Work) -> bool {
        let mut state = self.state.lock();
        state.work = (!state.is_cancelled).then_some(work);
        state.work.is_some()
    }
}
