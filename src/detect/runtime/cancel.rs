//! Ending the loading of a model from another thread.
//!
//! Part of the small circle of files that call `ort`. A [`Cancel`] is shared by the thread that loads and those that wait for
//! it; it reaches into ONNX Runtime's compiling and into the runs by which a model is examined, both of which may take for ever
//! with a model that is made so.

use std::sync::Arc;

use ort::session::RunOptions;
#[cfg(feature = "plugin-providers")]
use ort::session::builder::LoadCanceler;
use ort::session::builder::SessionBuilder;
use parking_lot::Mutex;

/// Ends one loading; see the module.
#[derive(Default)]
pub(crate) struct Cancel {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_cancelled: bool,
    at_work: Option<Work>,
}

/// What the loading thread is in.
enum Work {
    #[cfg(feature = "plugin-providers")]
    Compiling(LoadCanceler),
    Running(Arc<RunOptions>),
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancel").field("is_cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

impl Work {
    fn end(&self) {
        // Either fails only where there is nothing left to end.
        match self {
            #[cfg(feature = "plugin-providers")]
            Self::Compiling(canceler) => drop(canceler.cancel()),
            Self::Running(options) => drop(options.terminate()),
        }
    }
}

impl Cancel {
    /// Ends what is at work, and lets nothing more begin.
    pub fn cancel(&self) {
        let mut state = self.state.lock();
        state.is_cancelled = true;
        if let Some(work) = &state.at_work {
            work.end();
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.state.lock().is_cancelled
    }

    /// Notes that `builder` is going to make a session; false if that is not to be.
    #[cfg(feature = "plugin-providers")]
    pub fn compiles(&self, builder: &SessionBuilder) -> bool {
        self.begins(Work::Compiling(builder.canceler()))
    }

    /// ONNX Runtime before 1.22 cannot be stopped there.
    #[cfg(not(feature = "plugin-providers"))]
    pub fn compiles(&self, _: &SessionBuilder) -> bool {
        !self.is_cancelled()
    }

    /// Notes that a run with `options` is going to begin; false if that is not to be.
    pub fn runs(&self, options: &Arc<RunOptions>) -> bool {
        self.begins(Work::Running(Arc::clone(options)))
    }

    fn begins(&self, work: Work) -> bool {
        let mut state = self.state.lock();
        state.at_work = (!state.is_cancelled).then_some(work);
        state.at_work.is_some()
    }
}
