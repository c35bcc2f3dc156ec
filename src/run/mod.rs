// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detecting on many files, as a library: inputs and shards, output and resume, cache, tables, saved pictures, worker processes.
//!
//! [`Settings`] go in, [`Event`]s come out, a [`Canceller`] ends a run from any thread:
//!
//! ```no_run
//! use gstvx::run::{Event, Run, Settings};
//!
//! # fn main() -> Result<(), gstvx::run::Error> {
//! for event in Run::start(Settings::new(["recordings/"]))? {
//!     match event {
//!         Event::Frame(frame) => println!("{:?} {:?}: {} objects", frame.file, frame.pts_ns, frame.detections.len()),
//!         Event::FileDone(done) => println!("{}: {:?}", done.summary.file, done.summary.status),
//!         Event::End(report) => println!("{} files failed, {:?}", report.failed, report.error),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A file that cannot be read does not end a run: its summary says why. [`Run::start`] fails for wrong settings, inputs and outputs;
//! what fails later is in the [`Report`] of [`Event::End`].
//!
//! The layer is built on the elements (`vxbulkbin`) and below its users: the command `vx detect`, applications, bindings. It knows no
//! command line and no terminal, and prints nothing. A run has a thread of its own, which owns the output; the other modules say in
//! their first lines on which thread they are used.

#![forbid(unsafe_code)]

pub mod arrow;
mod cache;
mod cancel;
mod conditions;
mod detector;
mod error;
mod event;
mod events;
mod file_record;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod handle;
mod inputs;
mod journal;
mod keyframes;
mod libraries;
mod media_file;
mod output;
mod part_file;
mod pictures;
mod pipeline;
mod plan;
mod properties;
pub mod quantity;
mod report;
mod resolved;
mod results;
mod resume;
mod session;
mod settings;
mod stage_recorder;
mod tables;
mod workers;

pub use self::cancel::{Canceller, Phase};
pub use self::detector::{DecodedFrame, Detector, PixelBuffer};
pub use self::error::{Error, Stage};
pub use self::event::{EngineReport, Event, FileDone, Progress, Report, Warning, WorkerReport};
pub use self::events::{Best, EventCounts, EventSettings, Stretch, default_gap, stretches, write_events};
pub use self::handle::{Overview, Run};
pub use self::inputs::{Duplicate, Shard, Unreadable};
pub use self::keyframes::{KeyframeSettings, Keyframes, MAX_SIDE};
pub use self::libraries::{add_library_dirs, library_dirs};
pub use self::media_file::open_media;
pub use self::output::lines_of;
pub use self::pipeline::init;
pub use self::plan::Plan;
pub use self::report::{ReportCounts, ReportSettings, check_report, write_report};
pub use self::results::{FileResults, Results};
pub use self::resume::Comparison;
pub use self::settings::{
    DetectorSettings, Existing, Input, Order, Output, SamplingSettings, Settings, WhichFrames, WorkerProgram,
};
pub use self::stage_recorder::{FrameStage, StageRecorder, StageTimes};
pub use self::tables::format_names;
pub use self::workers::serve_worker;
pub use crate::elements::bulkbin::read_list;
pub use crate::record::{Detection, Frame, Mask, Status, Summary};
