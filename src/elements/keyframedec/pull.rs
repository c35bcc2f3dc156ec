//! Pull mode: bytes taken from upstream at any position (filesrc).

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use gst::prelude::*;
use parking_lot::Mutex;

use crate::av::{ByteSource, SourceError};

/// Random access to what upstream of a sink pad holds.
pub struct PullSource {
    pad: gst::Pad,
    position: u64,
    /// Longest wait for a range; `None` for ever.
    limit: Option<Duration>,
}

/// How a range that was asked for stands.
enum Pull {
    Waiting,
    Over,
    /// It took too long: the thread that told upstream to give up.
    Ended(JoinHandle<bool>),
}

impl PullSource {
    pub fn new(pad: gst::Pad, limit: Option<Duration>) -> Self {
        Self { pad, position: 0, limit }
    }

    /// Asks upstream for a range. Where that takes longer than the limit upstream is told to give up, by a flush that
    /// makes a call that waits for data return; only a source that is stuck in the system itself cannot. `None` at the
    /// end.
    fn pull(&self, wanted: u32) -> Result<Option<gst::Buffer>, SourceError> {
        let Some(limit) = self.limit else { return self.outcome(self.pad.pull_range(self.position, wanted)) };
        let state = Arc::new(Mutex::new(Pull::Waiting));
        let clock = gst::SystemClock::obtain();
        let limit_ns = gst::ClockTime::from_nseconds(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        let alarm = clock.new_single_shot_id(clock.time().saturating_add(limit_ns));
        let (watched, pad) = (Arc::clone(&state), self.pad.downgrade());
        let armed = alarm.wait_async(move |_, _, _| {
            let mut state = watched.lock();
            if let (Pull::Waiting, Some(pad)) = (&*state, pad.upgrade()) {
                // Not on the clock's own thread, which others wait for.
                *state = Pull::Ended(std::thread::spawn(move || pad.push_event(gst::event::FlushStart::new())));
            }
        });
        if armed.is_err() {
            gst::warning!(super::imp::CAT, obj = self.pad, "no clock to watch over io-timeout");
        }
        let pulled = self.pad.pull_range(self.position, wanted);
        alarm.unschedule();
        match std::mem::replace(&mut *state.lock(), Pull::Over) {
            Pull::Waiting | Pull::Over => self.outcome(pulled),
            Pull::Ended(flush) => {
                // A flush has its two ends in this order; a panic in it has been told by the thread itself.
                let _ = flush.join();
                self.pad.push_event(gst::event::FlushStop::new(false));
                pulled.map(Some).map_err(|_| {
                    let (seconds, position) = (limit.as_secs_f64(), self.position);
                    SourceError::Failed(format!(
                        "upstream did not deliver the bytes at {position} within {seconds} s (io-timeout)"
                    ))
                })
            }
        }
    }

    fn outcome(&self, pulled: Result<gst::Buffer, gst::FlowError>) -> Result<Option<gst::Buffer>, SourceError> {
        match pulled {
            Ok(buffer) => Ok(Some(buffer)),
            Err(gst::FlowError::Eos) => Ok(None),
            Err(gst::FlowError::Flushing) => Err(SourceError::Interrupted),
            Err(error) => {
                let position = self.position;
                Err(SourceError::Failed(format!("upstream could not read at byte {position} ({error})")))
            }
        }
    }
}

impl ByteSource for PullSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let wanted = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let Some(pulled) = self.pull(wanted)? else { return Ok(0) };
        let map = pulled.map_readable().map_err(|_| SourceError::Failed("upstream's bytes cannot be read".into()))?;
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

    fn jumps_are_free(&self) -> bool {
        true
    }
}
