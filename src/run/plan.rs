// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan of a run: what would be read, with which model and how many threads. The model is loaded, no file is read.

use crossbeam_channel::bounded;
use gst::prelude::*;

use super::error::Error;
use super::pipeline::{Delivery, Pipeline, Update};
use super::properties::Properties;
use crate::elements::bulkbin;
use crate::memory;
use crate::path::path_of;

/// The plan of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// Files to read.
    pub files: Vec<String>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of the largest file.
    pub largest_bytes: u64,
    /// Cores.
    pub cores: usize,
    /// Bytes of memory to plan with; `None` where that is not known.
    pub memory: Option<u64>,
    /// The model.
    pub model: String,
    /// Layout of its output.
    pub layout: String,
    /// Execution provider.
    pub provider: String,
    /// Kind of device.
    pub device: String,
    /// Number format of the arithmetic.
    pub precision: String,
    /// Sessions.
    pub sessions: u32,
    /// Bytes that the sessions may use, for all input sizes.
    pub session_memory: u64,
    /// Threads of each session.
    pub intra_op_threads: u32,
    /// Frames in a batch.
    pub batch_size: u32,
    /// Files read side by side.
    pub lanes: usize,
    /// Decoder threads of each lane.
    pub decoder_threads: usize,
    /// Frames in flight in each lane.
    pub frames_in_flight: usize,
    /// Bytes for frames; `None` for no limit.
    pub frame_memory: Option<u64>,
}

/// Plans a run over `files`.
pub(super) fn plan(properties: &Properties, files: Vec<String>) -> Result<Plan, Error> {
    let (updates, happened) = bounded(1024);
    let pipeline = Pipeline::new(properties, &updates, Delivery::Files).map_err(Error::setting)?;
    pipeline.load().map_err(|general| {
        let specific = happened.try_iter().find_map(|update| match update {
            Update::Error(reason) => Some(reason),
            _ => None,
        });
        Error::Model { reason: specific.unwrap_or(general) }
    })?;
    let (stats, bin) = (pipeline.stats(), pipeline.element());
    let text = |name: &str| stats.get::<String>(name).unwrap_or_default();
    let number = |name: &str| stats.get::<u32>(name).unwrap_or(0);
    let budget = memory::budget(bin.property("memory-limit"));
    let sizes: Vec<u64> =
        files.iter().map(|file| std::fs::metadata(path_of(file)).map_or(0, |file| file.len())).collect();
    let (largest_bytes, bytes) = (sizes.iter().copied().max().unwrap_or(0), sizes.iter().sum());
    let planned = bulkbin::Plan::new(bulkbin::PlanInputs {
        cores: num_cpus::get(),
        memory: budget,
        files: files.len(),
        largest_file_bytes: largest_bytes,
        total_bytes: bytes,
        lanes: bin.property::<u32>("lanes") as usize,
        sessions: number("sessions") as usize,
        session_memory: stats.get("session-memory").unwrap_or(0),
    });
    Ok(Plan {
        files,
        bytes,
        largest_bytes,
        cores: num_cpus::get(),
        memory: budget,
        model: text("model"),
        layout: text("layout"),
        provider: text("provider"),
        device: text("device"),
        precision: text("precision"),
        sessions: number("sessions"),
        session_memory: stats.get("session-memory").unwrap_or(0),
        intra_op_threads: number("intra-op-threads"),
        batch_size: number("batch-size").max(1),
        lanes: planned.lanes,
        decoder_threads: planned.decoder_threads,
        frames_in_flight: planned.frames_in_flight,
        frame_memory: planned.frame_memory,
    })
}
