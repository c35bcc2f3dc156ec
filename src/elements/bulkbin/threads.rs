//! How many threads can be started, asked before a run needs them.
//!
//! GStreamer queues a pad's task for which no thread could be started, and waits for its end for ever (`gst_task_join`, seen with
//! 1.22): a run must not come to that.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

/// Threads beside those of lanes: the source pad's task, and two for whoever needs one meanwhile.
const OF_RUN: usize = 3;

/// Threads of a lane: its own, the tasks of decoder and detector, one that decodes, and as many of the file before that may not
/// have ended. The decoder makes do without the others.
const OF_LANE: usize = 6;

/// How long to try if there are none even for one lane: other processes of the user may ask at the same moment.
const PATIENCE: Duration = Duration::from_secs(1);

/// Longest time for ended threads to be counted as such.
const COUNTED: Duration = Duration::from_millis(100);

/// How many lanes there are threads for, of `wanted`.
///
/// # Errors
/// Why there are none for even one.
pub(super) fn lanes_with_threads(wanted: usize) -> std::io::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match probe(wanted) {
            Err(_) if Instant::now() < deadline => {
                // Not all in step.
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
    while threads.len() < OF_RUN + wanted * OF_LANE {
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
    let lanes = threads.len().saturating_sub(OF_RUN) / OF_LANE;
    threads.into_iter().for_each(|thread| drop(thread.join()));
    // A joined thread may count for a moment yet.
    let deadline = Instant::now() + COUNTED;
    while running() > before && Instant::now() < deadline {
        std::thread::yield_now();
    }
    match refused {
        Some(error) if lanes == 0 => Err(error),
        _ => Ok(lanes.min(wanted)),
    }
}

/// Threads of this process; 0 where that is not known.
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
