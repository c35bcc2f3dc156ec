// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals: what they mean at each moment of a run. What cancellation does is the library's matter.
//!
//! | signal | before a file has begun | while files are read | again |
//! |---|---|---|---|
//! | SIGINT | the process exits | files that have begun are finished | the process exits at once |
//! | SIGTERM, SIGHUP | the process exits | the same, for [`GRACE`] at most | the process exits at once |
//!
//! The exit status is always [`INTERRUPTED`]. A signal that is ignored when the process starts stays ignored: `nohup` does that
//! with SIGHUP, and shells without job control do it with SIGINT for background processes.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use gstvx::run::{Canceller, Phase};
use indicatif::ProgressBar;
use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals as Iterator;

use crate::terminal::print_error;

/// Exit status of a run that was cancelled by a signal.
pub const INTERRUPTED: u8 = 130;

/// After SIGTERM and SIGHUP, the time for files that have begun. Files that are not done by then are left for `--resume`.
pub const GRACE: Duration = Duration::from_secs(10);

/// After that, the time for the process to exit.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// A signal that is repeated within this time is the same request: `timeout` sends one to its child and to the child's group.
const REPEAT: Duration = Duration::from_millis(20);

/// The handler of signals. Clones are handles of the same.
#[derive(Clone)]
pub struct Signals {
    canceller: Canceller,
    /// What is printed must not be drawn over by this.
    bar: Arc<Mutex<Option<ProgressBar>>>,
}

impl Signals {
    /// Handles signals from now on, by cancelling with `canceller`. Call it once, before anything that takes long.
    pub fn handle(canceller: &Canceller) -> Self {
        let signals = Self { canceller: canceller.clone(), bar: Arc::default() };
        if let Err(reason) = signals.clone().watch() {
            print_error!("vx: signals end the run at once, without finishing files: {reason}");
        }
        signals
    }

    /// Prints beside this bar.
    pub fn print_beside(&self, bar: Option<ProgressBar>) {
        *self.bar.lock() = bar;
    }

    fn watch(self) -> Result<(), String> {
        let signals: Vec<c_int> = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal)).collect();
        let (sender, answer) = bounded(1);
        // The thread comes first: signals without a handler would be lost.
        let watch = move || {
            let is_armed = Arc::new(AtomicBool::new(false));
            let register = || {
                for signal in &signals {
                    let status = c_int::from(INTERRUPTED);
                    signal_hook::flag::register_conditional_shutdown(*signal, status, Arc::clone(&is_armed))?;
                }
                Iterator::new(&signals)
            };
            match register() {
                Ok(signals) => {
                    let _ = sender.send(Ok(()));
                    self.wait(signals, &is_armed);
                }
                Err(error) => {
                    let _ = sender.send(Err(error.to_string()));
                }
            }
        };
        let thread = std::thread::Builder::new().name("vxsignals".to_owned()).spawn(watch);
        thread.map_err(|error| format!("no thread could be started: {error}"))?;
        answer.recv().map_err(|error| error.to_string())?
    }

    /// Handles the first signal; `is_armed` makes another one end the process, whatever this thread is doing then.
    fn wait(&self, mut signals: Iterator, is_armed: &AtomicBool) {
        let Some(signal) = signals.forever().next() else { return };
        if self.canceller.cancel_before_first_file() {
            self.print("vx: interrupted before the first file");
            leave();
        }
        let is_patient = signal == SIGINT;
        if is_patient {
            self.canceller.finish()
        } else {
            self.canceller.finish_within(GRACE)
        }
        std::thread::sleep(REPEAT);
        signals.pending().for_each(drop);
        is_armed.store(true, Ordering::Release);
        let again = "send it again to stop at once";
        match (self.canceller.phase(), is_patient) {
            (Phase::Writing, _) => self.print(&format!("vx: {}: the results are being written; {again}", name(signal))),
            (_, true) => {
                self.print("vx: interrupted: finishing the files that have begun; interrupt again to stop at once");
            }
            (_, false) => self.print(&format!(
                "vx: {}: files that have begun have {} s to finish; {again}",
                name(signal),
                GRACE.as_secs()
            )),
        }
        if is_patient {
            return;
        }
        std::thread::sleep(GRACE + EXIT_GRACE);
        self.print("vx: the run does not end in time and is aborted; --resume continues");
        leave();
    }

    fn print(&self, text: &str) {
        let bar = self.bar.lock().clone();
        print(bar, text.to_owned());
    }
}

/// Exits. All results have been flushed.
fn leave() -> ! {
    gstvx::exit::leave(i32::from(INTERRUPTED))
}

/// Prints, but does not wait long for a reader: nothing may prevent a run from being stopped.
fn print(bar: Option<ProgressBar>, text: String) {
    let (sender, printed) = bounded::<()>(0);
    let write = move || {
        match bar {
            Some(bar) => bar.suspend(|| print_error!("{text}")),
            None => print_error!("{text}"),
        }
        drop(sender);
    };
    // Without a thread, nothing is printed.
    if std::thread::Builder::new().name("vxprint".to_owned()).spawn(write).is_ok() {
        let _ = printed.recv_timeout(Duration::from_secs(1));
    }
}

fn name(signal: c_int) -> &'static str {
    match signal {
        SIGTERM => "SIGTERM",
        SIGHUP => "SIGHUP",
        _ => "SIGINT",
    }
}

/// Returns whether a signal is ignored. Only Linux has this information outside of system calls without a safe wrapper.
fn is_ignored(signal: c_int) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    is_ignored_in(&status, signal)
}

/// Reads that from the text of `/proc/self/status`, in which SigIgn is a hexadecimal mask.
fn is_ignored_in(status: &str, signal: c_int) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=64).contains(&signal) && mask >> (signal - 1) & 1 == 1
}

/// Makes writing beyond `ulimit -f` an error of the write; otherwise SIGXFSZ ends the process. Call it first.
pub fn make_file_limit_an_error() {
    // The flag is not used. If this fails, the signal has its usual effect.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// Ignores the signals that cancel a run, in a worker process, which its supervisor ends.
pub fn ignore_signals() {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // If this fails, the worker ends with the signal, and the supervisor handles its file.
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let status = "Name:\tvx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        let ignored = [SIGHUP, SIGINT, 13, SIGTERM].map(|signal| is_ignored_in(status, signal));
        assert_eq!(ignored, [true, false, true, false]);
        assert!(!is_ignored_in("", SIGHUP) && !is_ignored_in("SigIgn:\tx\n", SIGHUP));
    }
}
