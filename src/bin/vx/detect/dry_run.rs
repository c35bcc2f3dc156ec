// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vx detect --dry-run`: prints the plan of a run.

use gstvx::run::Plan;

use crate::terminal::{print_line, printable};

/// Prints the files and the plan.
pub fn print(plan: &Plan) {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    print_line!(
        "files       {}, {} in all, {} the largest",
        plan.files.len(),
        mib(plan.bytes),
        mib(plan.largest_bytes)
    );
    print_line!(
        "machine     {} cores, {} of memory to plan with",
        plan.cores,
        plan.memory.map_or("unknown".into(), mib)
    );
    print_line!("model       {} ({})", plan.model, plan.layout);
    print_line!(
        "provider    {} on {}, {}; {} sessions of {} threads, {} frames in a batch",
        plan.provider,
        plan.device,
        plan.precision,
        plan.sessions,
        plan.intra_op_threads,
        plan.batch_size
    );
    if let Some(workers) = plan.workers {
        print_line!(
            "workers     {workers} processes at most, each with the sessions above and {}",
            plan.worker_memory.map_or("unlimited memory".into(), |bytes| format!("{} of memory", mib(bytes)))
        );
    }
    print_line!(
        "plan        {} lanes, {} decoder threads and {} frames in flight each; {} for frames, up to {} for the model",
        plan.lanes,
        plan.decoder_threads,
        plan.frames_in_flight,
        plan.frame_memory.map_or("no limit".into(), mib),
        mib(plan.session_memory)
    );
    plan.files.iter().for_each(|file| print_line!("  {}", printable(file)));
}
