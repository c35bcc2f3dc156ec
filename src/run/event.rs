// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run reports: typed events, in order.
//!
//! A file's events are [`Event::FileStarted`], its frames, and [`Event::FileDone`]. Files are read side by side, so that another file may
//! begin in between; the frames of one file are never mixed with those of another. Files from the cache, and inputs that are not
//! files, do not begin. [`Event::End`] is the last event. Plain data, any thread.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::record::{Frame, Summary};

/// One event.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A file is being read from now on.
    FileStarted(String),
    /// A frame of a file; only if [`frame_events`](super::Settings::frame_events) is set, and not for files that failed after their
    /// worker process was lost.
    Frame(Box<Frame>),
    /// A file is done: read, found in the cache, or failed.
    FileDone(Box<FileDone>),
    /// How far the files are that are being read; several times a second.
    Progress(Vec<Progress>),
    /// A warning.
    Warning(Warning),
    /// The run has ended.
    End(Box<Report>),
}

/// The result of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileDone {
    /// Its summary, as in the output. Inputs that are not files (a folder that cannot be read, a URL of another protocol in a list)
    /// have no line there: each run reports them.
    pub summary: Summary,
    /// Whether the result was in the cache.
    pub is_cached: bool,
}

/// How far a file is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The file's name.
    #[serde(skip)]
    pub file: String,
    /// Frames analysed.
    pub frames: u64,
    /// Detections.
    pub detections: u64,
    /// Position in the file, in seconds.
    pub position_seconds: f64,
    /// Duration in seconds, where the container gives one.
    pub duration_seconds: Option<f64>,
}

impl Progress {
    /// Returns the share of the file that is done, 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.duration_seconds.map_or(0.0, |duration| (self.position_seconds / duration).clamp(0.0, 1.0))
    }
}

/// A warning about the run. Warnings about a file are in its summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Whether it is about the model, and so concerns every result.
    pub is_about_model: bool,
    /// The text.
    pub text: String,
}

impl Warning {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { is_about_model: false, text: text.into() }
    }

    pub(super) fn of_model(text: impl Into<String>) -> Self {
        Self { is_about_model: true, text: text.into() }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// Why the run failed; `None` if it did not.
    pub error: Option<Error>,
    /// Whether it was cancelled before all files were done.
    pub is_cancelled: bool,
    /// Whether reading started; false where the model could not be loaded, for example.
    pub has_started: bool,
    /// Files without a result.
    pub missing: usize,
    /// Files that failed in this run.
    pub failed: usize,
    /// The file that holds the results so far, if the output is not complete and there are any.
    pub kept_in: Option<PathBuf>,
    /// The engine, if files were read in this process.
    pub engine: Option<EngineReport>,
    /// The worker processes, if files were read in some.
    pub workers: Option<WorkerReport>,
}

/// The engine of a run, and how it was used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineReport {
    /// The model.
    pub model: String,
    /// Execution provider.
    pub provider: String,
    /// Kind of device.
    pub device: String,
    /// Number format of the arithmetic.
    pub precision: String,
    /// Sessions.
    pub sessions: u32,
    /// Threads of each session.
    pub intra_op_threads: u32,
    /// How often a model was loaded.
    pub model_loads: u64,
    /// Files read side by side.
    pub lanes: u32,
    /// Decoder threads of each lane.
    pub decoder_threads: u32,
}

impl EngineReport {
    pub(super) fn from_structure(stats: &gst::StructureRef) -> Self {
        let text = |name: &str| stats.get::<String>(name).unwrap_or_default();
        let number = |name: &str| stats.get::<u32>(name).unwrap_or(0);
        Self {
            model: text("model"),
            provider: text("provider"),
            device: text("device"),
            precision: text("precision"),
            sessions: number("sessions"),
            intra_op_threads: number("intra-op-threads"),
            model_loads: stats.get::<u64>("model-loads").unwrap_or(0),
            lanes: number("lanes"),
            decoder_threads: number("decoder-threads"),
        }
    }
}

/// The worker processes of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerReport {
    /// Processes that were started, each of which loads the model.
    pub started: usize,
    /// The most bytes of memory that one of them held.
    pub peak_bytes: u64,
}
