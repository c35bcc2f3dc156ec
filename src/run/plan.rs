// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan of a run: what would be read, with which model and how many threads. The model is loaded, no file is read.

use crossbeam_channel::unbounded;
use gst::prelude::*;

use super::error::Error;
use super::pipeline::{Delivery, Pipeline};
use super::resolved::{RUN_PROPERTIES, Resolved};
use super::workers::{most_workers, threads_of_each, with_shares};
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
    /// Worker processes, as far as they fit into memory, where files are read in some. Sessions, lanes, threads and memory for frames
    /// are then those of each worker.
    pub workers: Option<usize>,
    /// Bytes of memory for each worker process.
    pub worker_memory: Option<u64>,
}

/// Plans a run over `files`.
pub(super) fn plan(resolved: &Resolved, is_isolated: bool, files: Vec<String>) -> Result<Plan, Error> {
    // Nobody receives them.
    let (updates, _) = unbounded();
    let cores = num_cpus::get();
    let all_memory = memory::budget(resolved.run.memory_limit.unwrap_or(0));
    let workers = is_isolated.then(|| most_workers(resolved.run.lanes, cores, files.len()).max(1));
    let worker_memory = workers.zip(all_memory).map(|(workers, memory)| memory / workers as u64);
    let properties = match workers {
        Some(workers) => {
            let mut properties = resolved.properties.clone();
            properties.retain(|(name, _)| !RUN_PROPERTIES.contains(&name.as_str()));
            with_shares(&properties, threads_of_each(cores, workers), worker_memory)
        }
        None => resolved.properties.clone(),
    };
    let pipeline = Pipeline::new(&properties, &updates, Delivery::Files).map_err(Error::setting)?;
    pipeline.load().map_err(|reason| Error::Model { reason })?;
    let (stats, bin) = (pipeline.stats(), pipeline.element());
    let text = |name: &str| stats.get::<String>(name).unwrap_or_default();
    let number = |name: &str| stats.get::<u32>(name).unwrap_or(0);
    let sizes: Vec<u64> =
        files.iter().map(|file| std::fs::metadata(path_of(file)).map_or(0, |file| file.len())).collect();
    let (largest_bytes, bytes) = (sizes.iter().copied().max().unwrap_or(0), sizes.iter().sum());
    let planned = bulkbin::LanePlan::new(bulkbin::PlanInputs {
        cores,
        memory: if is_isolated { worker_memory } else { all_memory },
        // A worker reads one file at a time.
        files: if is_isolated { 1 } else { files.len() },
        largest_file_bytes: largest_bytes,
        total_bytes: if is_isolated { largest_bytes } else { bytes },
        lanes: bin.property::<u32>("lanes") as usize,
        sessions: number("sessions") as usize,
        session_memory: stats.get("session-memory").unwrap_or(0),
    });
    Ok(Plan {
        files,
        bytes,
        largest_bytes,
        cores,
        memory: all_memory,
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
        decoder_threads: if is_isolated { decoder_threads(&bin) } else { planned.decoder_threads },
        frames_in_flight: planned.frames_in_flight,
        frame_memory: planned.frame_memory,
        workers,
        worker_memory,
    })
}

/// Returns the decoder threads that are set.
fn decoder_threads(bin: &gst::Element) -> usize {
    let decoder = bin.downcast_ref::<gst::Bin>().and_then(|bin| bin.by_name("decoder"));
    decoder.map_or(1, |decoder| decoder.property::<u32>("threads") as usize)
}
