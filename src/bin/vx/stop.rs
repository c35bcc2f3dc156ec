//! Signals: how a run is told to stop, and what stopping means at each moment of it.
//!
//! | signal | before a file has begun | while files are read | again |
//! |---|---|---|---|
//! | SIGINT | the process exits | files that have begun are finished | the process exits at once |
//! | SIGTERM, SIGHUP | the process exits | the same, for [`GRACE`] at most | the process exits at once |
//!
//! The exit status is always [`INTERRUPTED`]. A signal that is ignored when the process starts stays ignored: `nohup` does that
//! with SIGHUP, and shells without job control do it with SIGINT for what they start in the background.

use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use indicatif::ProgressBar;
use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::terminal::tell;

/// Exit status of a run that was told to stop before it was done.
pub const INTERRUPTED: u8 = 130;

/// After SIGTERM and SIGHUP, the time for files that have begun. Those that are not done by then are left for `--resume`.
pub const GRACE: Duration = Duration::from_secs(10);

/// After that, the time for the process to exit.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// A signal that comes again within this time is the same request: `timeout` sends one to its child and to the child's group.
const REPEAT: Duration = Duration::from_millis(20);

/// What a run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Begin no file any more.
    WindDown,
    /// End what has begun, too.
    Abandon,
}

type OnRequest = Arc<dyn Fn(Request) + Send + Sync>;

/// See the module. Clones are handles of the same.
#[derive(Clone, Default)]
pub struct Stop {
    is_interrupted: Arc<AtomicBool>,
    is_abandoned: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// An output that this run has made, and that goes again if nothing has come into it.
    new_output: Option<PathBuf>,
    /// What is printed must not be drawn over.
    bar: Option<ProgressBar>,
}

#[derive(Default, Clone)]
enum Phase {
    /// Nothing has begun that could be finished.
    #[default]
    Starting,
    Reading(OnRequest),
    /// Files are done, the results are being written.
    Writing,
}

impl Stop {
    /// Handles signals from now on. Call it before anything takes long, once.
    pub fn on_signals() -> Self {
        let stop = Self::default();
        if let Err(reason) = stop.clone().watch() {
            tell!("vx: signals end the run at once, files that have begun with it: {reason}");
        }
        stop
    }

    fn watch(self) -> Result<(), String> {
        let signals: Vec<c_int> = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal)).collect();
        let (sender, answer) = bounded(1);
        // The thread comes first: signals that are handled by nobody would be lost.
        let watch = move || {
            let is_armed = Arc::new(AtomicBool::new(false));
            let register = || {
                for signal in &signals {
                    let status = c_int::from(INTERRUPTED);
                    signal_hook::flag::register_conditional_shutdown(*signal, status, Arc::clone(&is_armed))?;
                }
                Signals::new(&signals)
            };
            match register() {
                Ok(signals) => {
                    let _ = sender.send(Ok(()));
                    self.handle(signals, &is_armed);
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
    fn handle(&self, mut signals: Signals, is_armed: &AtomicBool) {
        let Some(signal) = signals.forever().next() else { return };
        self.leave_if_starting();
        self.is_interrupted.store(true, Ordering::Release);
        std::thread::sleep(REPEAT);
        signals.pending().for_each(drop);
        is_armed.store(true, Ordering::Release);
        let phase = self.state.lock().phase.clone();
        let is_patient = signal == SIGINT;
        let again = "send it again to stop at once";
        match &phase {
            Phase::Starting => {}
            Phase::Reading(on_request) => {
                on_request(Request::WindDown);
                if is_patient {
                    self.say("vx: interrupted: finishing the files that have begun; interrupt again to stop at once");
                } else {
                    self.say(&format!(
                        "vx: {}: files that have begun have {} s to finish; {again}",
                        name(signal),
                        GRACE.as_secs()
                    ));
                }
            }
            Phase::Writing => self.say(&format!("vx: {}: the results are being written; {again}", name(signal))),
        }
        if is_patient {
            return;
        }
        std::thread::sleep(GRACE);
        self.is_abandoned.store(true, Ordering::Release);
        let phase = self.state.lock().phase.clone();
        if let Phase::Reading(on_request) = phase {
            on_request(Request::Abandon);
        }
        std::thread::sleep(EXIT_GRACE);
        self.say("vx: something does not end in time, so the run ends without it; --resume goes on");
        leave();
    }

    /// Ends the process if nothing has begun.
    fn leave_if_starting(&self) {
        // Opening an output may hang too.
        let Some(state) = self.state.try_lock_for(Duration::from_secs(1)) else { leave() };
        if !matches!(state.phase, Phase::Starting) {
            return;
        }
        let is_empty = |path: &Path| std::fs::metadata(path).is_ok_and(|file| file.len() == 0);
        if let Some(path) = state.new_output.as_deref().filter(|path| is_empty(path)) {
            // It is empty, so nothing is lost if it stays.
            let _ = std::fs::remove_file(path);
        }
        // The lock is kept, so that nothing begins meanwhile.
        print(state.bar.clone(), "vx: interrupted before the first file".to_owned());
        leave();
    }

    fn say(&self, text: &str) {
        let bar = self.state.lock().bar.clone();
        print(bar, text.to_owned());
    }

    /// Opens an output; `open` also returns its path if it is a new one, which then goes again if a signal comes before
    /// something is in it.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn open_output<T>(&self, open: impl FnOnce() -> Result<(T, Option<PathBuf>), String>) -> Result<T, String> {
        let mut state = self.state.lock();
        let (output, path) = open()?;
        state.new_output = path;
        drop(state);
        Ok(output)
    }

    /// Something comes into the output.
    pub fn keep_output(&self) {
        self.state.lock().new_output = None;
    }

    /// Prints beside this bar.
    pub fn print_beside(&self, bar: Option<ProgressBar>) {
        self.state.lock().bar = bar;
    }

    /// Files are read from now on, and `on_request` is called when that shall end. It must not wait for anything.
    pub fn begin_reading(&self, on_request: impl Fn(Request) + Send + Sync + 'static) {
        let mut state = self.state.lock();
        state.phase = Phase::Reading(Arc::new(on_request));
        state.new_output = None;
    }

    /// No file is read any more.
    pub fn end_reading(&self) {
        self.state.lock().phase = Phase::Writing;
    }

    /// A signal has come.
    pub fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::Acquire)
    }

    /// The same, for those who know nothing of signals.
    pub fn interrupted_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_interrupted)
    }

    /// The grace period is over.
    pub fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Acquire)
    }
}

/// Whatever is in the output has been flushed.
fn leave() -> ! {
    gstvx::exit::leave(i32::from(INTERRUPTED))
}

/// Prints, but does not wait long for whoever should read it: nothing may keep a run from being stopped.
fn print(bar: Option<ProgressBar>, text: String) {
    let (sender, printed) = bounded::<()>(0);
    let write = move || {
        match bar {
            Some(bar) => bar.suspend(|| tell!("{text}")),
            None => tell!("{text}"),
        }
        drop(sender);
    };
    // Where no thread can be started, the run stops without a word.
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

/// Whether a signal is ignored. Only Linux says so without system calls for which there is no safe form.
fn is_ignored(signal: c_int) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    is_ignored_in(&status, signal)
}

/// The same with the text of `/proc/self/status`, in which SigIgn is a mask in hexadecimal digits.
fn is_ignored_in(status: &str, signal: c_int) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=64).contains(&signal) && mask >> (signal - 1) & 1 == 1
}

/// Makes writing beyond `ulimit -f` an error of the write; otherwise SIGXFSZ ends the process. Call it first thing.
pub fn make_file_limit_an_error() {
    // Nobody looks at the flag. If this fails, the signal does what it does to every program.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// Makes the signals that stop a run do nothing in this process, which a supervisor ends.
pub fn leave_signals_to_supervisor() {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // If this fails, the worker ends with the run, and the supervisor sees to its file.
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
