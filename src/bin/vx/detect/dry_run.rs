//! What a run would do, shown and not done.

use crossbeam_channel::bounded;
use gst::prelude::*;
use gstvx::elements::bulkbin::{Plan, PlanInputs};
use gstvx::memory;
use gstvx::path::path_of;

use super::reason_in;
use crate::bulk::{Bulk, Hand, Properties};
use crate::terminal::{printable, show};

/// Loads the model and prints files and plan.
pub fn show(properties: &Properties, files: &[String]) -> Result<(), String> {
    let (events, happened) = bounded(1024);
    let bulk = Bulk::new(properties, &events, Hand::Units)?;
    bulk.load().map_err(|reason| reason_in(&happened).unwrap_or(reason))?;
    let stats = bulk.stats();
    let bin = bulk.handle();
    let text = |name: &str| stats.get::<String>(name).unwrap_or_default();
    let number = |name: &str| stats.get::<u32>(name).unwrap_or(0);
    let budget = memory::budget(bin.property("memory-limit"));
    let sizes: Vec<u64> =
        files.iter().map(|file| std::fs::metadata(path_of(file)).map_or(0, |file| file.len())).collect();
    let (largest_file_bytes, total_bytes) = (sizes.iter().copied().max().unwrap_or(0), sizes.iter().sum());
    let plan = Plan::new(PlanInputs {
        cores: num_cpus::get(),
        memory: budget,
        files: files.len(),
        largest_file_bytes,
        total_bytes,
        lanes: bin.property::<u32>("lanes") as usize,
        sessions: number("sessions") as usize,
    });
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    show!("files       {}, {} in all, {} the largest", files.len(), mib(total_bytes), mib(largest_file_bytes));
    show!("machine     {} cores, {} of memory to plan with", num_cpus::get(), budget.map_or("unknown".into(), mib));
    show!("model       {} ({})", text("model"), text("layout"));
    show!(
        "provider    {} on {}, {}; {} sessions of {} threads, {} frames in a run",
        text("provider"),
        text("device"),
        text("precision"),
        number("sessions"),
        number("intra-op-threads"),
        number("batch-size").max(1)
    );
    show!(
        "plan        {} lanes, {} decoder threads and {} frames in flight each, {} for frames",
        plan.lanes,
        plan.decoder_threads,
        plan.frames_in_flight,
        plan.frame_memory.map_or("no limit".into(), mib)
    );
    files.iter().for_each(|file| show!("  {}", printable(file)));
    Ok(())
}
