// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens and closes engines repeatedly. Runs in a separate process, because it counts threads.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod detect_support;

use detect_support::{RgbFrame, runtime, settings};
use gstvx::detect::{Engine, EngineSpec, Provider};

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Opens an engine twice, detects, and closes it.
fn open_and_close(spec: &EngineSpec, model_loads: u64) {
    let engine = Engine::acquire(runtime(), spec).unwrap();
    let tickets: Vec<_> = (0..2).map(|_| engine.submit(RgbFrame::stop_sign(), settings(0.5))).collect();
    let again = Engine::acquire(runtime(), spec).unwrap();
    drop(engine);
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    assert_eq!(again.stats().model_loads, model_loads);
}

#[test]
fn openings_leak_no_threads_and_no_memory() {
    const OPENINGS: u64 = 10;
    let spec = EngineSpec { provider: Provider::Cpu, sessions: 2, ..EngineSpec::default() };
    let mut rounds: Vec<(usize, usize)> = Vec::new();
    // What is lost grows in every round, the allocator's pools in the first ones.
    for round in 0..8 {
        (1..=OPENINGS).for_each(|opening| open_and_close(&spec, round * OPENINGS + opening));
        let grown = rounds.last().map(|(_, memory)| resident_kib().saturating_sub(*memory));
        rounds.push((threads(), resident_kib()));
        if grown.is_some_and(|grown| grown < 8 * 1024) {
            break;
        }
    }
    let (before, memory) = rounds[rounds.len() - 2];
    let (after, last) = rounds[rounds.len() - 1];
    assert_eq!(after, before, "every worker has ended");
    assert!(last.saturating_sub(memory) < 8 * 1024, "memory grew in every round: {rounds:?} (threads, KiB)");
}
