// SPDX-License-Identifier: MIT OR Apache-2.0
//! Determines how many threads can be started, before a run needs them.
//!
//! GStreamer queues a pad's task for which no thread can be started, and then waits for its end for ever (`gst_task_join`, seen with
//! 1.22): a run must not get there.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

/// Threads beside those of lanes: the source pad's task, and two spare ones.
const RUN_THREADS: usize = 3;

/// Threads of a lane: its own, the tasks of decoder and detector, one that decodes, and as many of the previous file that may not
/// have ended. The decoder works without the others.
const LANE_THREADS: usize = 6;

/// How long to retry if there are none even for one lane: other processes of the user may start threads at the same moment.
const RETRY_TIME: Duration = Duration::from_secs(1);

/// Longest wait until ended threads are no longer counted.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// Returns how many of `wanted` lanes can start their threads.
///
/// # Errors
/// When there are not enough threads for one lane.
pub(super) fn lanes_with_threads(wanted: usize) -> std::io::Result<usize> {
    let deadline = Instant::now() + RETRY_TIME;
    loop {
        match probe(wanted) {
            Err(_) if Instant::now() < deadline => {
                // Processes that retry at the same time must not stay in step.
                std::thread::sleep(Duration::from_millis(20 + u64::from(std::process::id()) % 41));
            }
            result => return result,
        }
    }
}

fn probe(wanted: usize) -> std::io::Result<usize> {
    let before = running();
    let (release, wait) = bounded::<()>(0);
    let mut threads = Vec::new();
    let mut refused = None;
    while threads.len() < RUN_THREADS + wanted * LANE_THREADS {
        let wait: Receiver<()> = wait.clone();
        match std::thread::Builder::new().name("vxprobe".to_owned()).stack_size(16 << 10).spawn(move || wait.recv()) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    drop(release);
    let lanes = threads.len().saturating_sub(RUN_THREADS) / LANE_THREADS;
    threads.into_iter().for_each(|thread| drop(thread.join()));
    // A joined thread may still be counted for a moment.
    let deadline = Instant::now() + SETTLE_TIME;
    while running() > before && Instant::now() < deadline {
        std::thread::yield_now();
    }
    match refused {
        Some(error) if lanes == 0 => Err(error),
        _ => Ok(lanes.min(wanted)),
    }
}

/// Returns the threads of this process; 0 where unknown.
fn running() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    threads.and_then(|threads| threads.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn usually_there_are_threads_for_all_lanes() {
        assert_eq!([1, 3, 64].map(|lanes| lanes_with_threads(lanes).unwrap()), [1, 3, 64]);
    }
}
