// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pull mode: random access to upstream (filesrc).

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::av::{ByteSource, SourceError};

/// Reads from upstream of a sink pad at any position.
pub struct PullSource {
    pad: gst::Pad,
    position: u64,
    /// Interrupts pulls that take too long; `None` without a limit.
    watchdog: Option<Watchdog>,
}

impl PullSource {
    /// Creates a source over `pad`; `limit` is the longest wait for a range, `None` for no limit.
    pub fn new(pad: gst::Pad, limit: Option<Duration>) -> Self {
        let watchdog = limit.map(|limit| Watchdog::new(&pad, limit));
        Self { pad, position: 0, watchdog }
    }

    /// Pulls a range. Where that takes longer than the limit, a flush tells upstream to give up, which makes a call that waits for
    /// data return, unless the source is stuck in the operating system. `None` at the end.
    fn pull(&mut self, wanted: u32) -> Result<Option<gst::Buffer>, SourceError> {
        let Some(watchdog) = &mut self.watchdog else {
            return self.outcome(self.pad.pull_range(self.position, wanted));
        };
        watchdog.begin();
        let pulled = self.pad.pull_range(self.position, wanted);
        if !watchdog.end() {
            return self.outcome(pulled);
        }
        self.pad.push_event(gst::event::FlushStop::new(false));
        pulled.map(Some).map_err(|_| {
            let (seconds, position) = (watchdog.limit.as_secs_f64(), self.position);
            SourceError::Failed(format!(
                "upstream did not deliver the bytes at {position} within {seconds} s (io-timeout)"
            ))
        })
    }

    fn outcome(&self, pulled: Result<gst::Buffer, gst::FlowError>) -> Result<Option<gst::Buffer>, SourceError> {
        match pulled {
            Ok(buffer) => Ok(Some(buffer)),
            Err(gst::FlowError::Eos) => Ok(None),
            Err(gst::FlowError::Flushing) => Err(SourceError::Interrupted),
            Err(error) => {
                let position = self.position;
                Err(SourceError::Failed(format!("upstream failed to read at byte {position} ({error})")))
            }
        }
    }
}

impl ByteSource for PullSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let wanted = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let Some(pulled) = self.pull(wanted)? else { return Ok(0) };
        let map =
            pulled.map_readable().map_err(|_| SourceError::Failed("upstream's buffer cannot be mapped".into()))?;
        let count = map.len().min(buffer.len());
        buffer[..count].copy_from_slice(&map[..count]);
        self.position += count as u64;
        Ok(count)
    }

    fn seek(&mut self, position: u64) -> Result<(), SourceError> {
        self.position = position;
        Ok(())
    }

    fn size(&mut self) -> Option<u64> {
        self.pad.peer_query_duration::<gst::format::Bytes>().map(u64::from)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn has_cheap_seeks(&self) -> bool {
        true
    }
}

/// Tells upstream to give up when a pull takes longer than the limit. One thread for all pulls of a source, started with the
/// first; it sleeps while they are quick.
struct Watchdog {
    limit: Duration,
    pad: gst::glib::WeakRef<gst::Pad>,
    watch: Arc<Watch>,
    has_thread: bool,
}

#[derive(Default)]
struct Watch {
    phase: Mutex<Phase>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Idle,
    /// A pull is running; this is its deadline.
    Pulling(Instant),
    /// Upstream is being told to give up.
    GivingUp,
    /// Upstream was told.
    GaveUp,
    /// The source is gone.
    Over,
}

impl Watchdog {
    fn new(pad: &gst::Pad, limit: Duration) -> Self {
        Self { limit, pad: pad.downgrade(), watch: Arc::default(), has_thread: false }
    }

    /// Begins a pull.
    fn begin(&mut self) {
        let deadline = Instant::now().checked_add(self.limit);
        *self.watch.phase.lock() = deadline.map_or(Phase::Idle, Phase::Pulling);
        if std::mem::replace(&mut self.has_thread, true) {
            return;
        }
        let (watch, pad, limit) = (Arc::clone(&self.watch), self.pad.clone(), self.limit);
        let thread = std::thread::Builder::new().name("vx-io-timeout".into()).spawn(move || watch.run(&pad, limit));
        if thread.is_err() {
            gst::warning!(super::imp::CAT, "cannot start the thread for io-timeout");
        }
    }

    /// Ends a pull. Returns whether upstream was told to give up; waits until that has finished, since flushes come in pairs.
    fn end(&self) -> bool {
        let mut phase = self.watch.phase.lock();
        while *phase == Phase::GivingUp {
            self.watch.changed.wait(&mut phase);
        }
        std::mem::take(&mut *phase) == Phase::GaveUp
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.watch.phase.lock() = Phase::Over;
        self.watch.changed.notify_all();
    }
}

impl Watch {
    #[allow(clippy::significant_drop_tightening, reason = "the lock is given up by every wait and around the flush")]
    fn run(&self, pad: &gst::glib::WeakRef<gst::Pad>, limit: Duration) {
        let mut phase = self.phase.lock();
        loop {
            match *phase {
                Phase::Over => return,
                Phase::Pulling(deadline) if deadline <= Instant::now() => {
                    *phase = Phase::GivingUp;
                    MutexGuard::unlocked(&mut phase, || {
                        if let Some(pad) = pad.upgrade() {
                            pad.push_event(gst::event::FlushStart::new());
                        }
                    });
                    if *phase == Phase::GivingUp {
                        *phase = Phase::GaveUp;
                    }
                    self.changed.notify_all();
                }
                Phase::Pulling(deadline) => {
                    let _ = self.changed.wait_until(&mut phase, deadline);
                }
                // A pull that begins meanwhile is not late before this wait ends.
                _ => {
                    let _ = self.changed.wait_for(&mut phase, limit);
                }
            }
        }
    }
}
