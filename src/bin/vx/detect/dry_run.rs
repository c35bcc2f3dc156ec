// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vx detect --dry-run`: prints the plan of a run.

use gstvx::run::Plan;

use crate::terminal::{printable, show};

/// Prints the files and the plan.
pub fn print(plan: &Plan) {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    show!("files       {}, {} in all, {} the largest", plan.files.len(), mib(plan.bytes), mib(plan.largest_bytes));
    show!("machine     {} cores, {} of memory to plan with", plan.cores, plan.memory.map_or("unknown".into(), mib));
    show!("model       {} ({})", plan.model, plan.layout);
    show!(
        "provider    {} on {}, {}; {} sessions of {} threads, {} frames in a batch",
        plan.provider,
        plan.device,
        plan.precision,
        plan.sessions,
        plan.intra_op_threads,
        plan.batch_size
    );
    if let Some(workers) = plan.workers {
        show!(
            "workers     {workers} processes, as far as they fit, each with {} of memory, and with the sessions above",
            plan.worker_memory.map_or("unlimited".into(), mib)
        );
    }
    show!(
        "plan        {} lanes, {} decoder threads and {} frames in flight each; {} for frames, up to {} for the model",
        plan.lanes,
        plan.decoder_threads,
        plan.frames_in_flight,
        plan.frame_memory.map_or("no limit".into(), mib),
        mib(plan.session_memory)
    );
    plan.files.iter().for_each(|file| show!("  {}", printable(file)));
}
