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

#[test]
fn fifty_openings_leak_no_threads_and_no_memory() {
    let spec = EngineSpec { provider: Provider::Cpu, sessions: 2, ..EngineSpec::default() };
    let mut after_warm_up = (0, 0);
    for round in 0..50 {
        let engine = Engine::acquire(runtime(), &spec).unwrap();
        let tickets: Vec<_> = (0..2).map(|_| engine.submit(RgbFrame::stop_sign(), settings(0.5))).collect();
        let again = Engine::acquire(runtime(), &spec).unwrap();
        drop(engine);
        for ticket in tickets {
            ticket.wait().unwrap();
        }
        assert_eq!(again.stats().model_loads, round + 1);
        drop(again);
        if round == 9 {
            after_warm_up = (threads(), resident_kib());
        }
    }
    let (before, memory) = after_warm_up;
    assert_eq!(threads(), before, "every worker has ended");
    let grown = resident_kib().saturating_sub(memory);
    assert!(grown < 64 * 1024, "40 openings kept {grown} KiB");
}
