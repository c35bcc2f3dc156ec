// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bounded byte queue between upstream's thread and the demuxer's.
//!
//! Thread rule: upstream's thread writes, the element's task reads, any thread may flush.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::av::SourceError;

/// Most bytes waiting for the demuxer.
const QUEUE_BYTES: usize = 4 << 20;

/// How long a read waits for upstream.
#[derive(Clone)]
pub struct WaitLimit {
    /// Longest wait for the next bytes; `None` for no limit.
    pub limit: Option<Duration>,
    /// Whether upstream may deliver nothing now: then the wait restarts.
    pub is_idle_allowed: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// The queue.
#[derive(Default)]
pub struct ByteQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<gst::MappedBuffer<gst::buffer::Readable>>,
    /// Bytes of the first chunk that are already taken.
    taken: usize,
    bytes: usize,
    ended: bool,
    flushing: bool,
    interrupted: bool,
    is_discontinuous: bool,
    /// Most bytes that may wait; 0 for [`QUEUE_BYTES`].
    limit: usize,
    /// The reader is sending a seek upstream.
    seeking: bool,
    /// What arrives is still from before that seek.
    is_stale: bool,
    /// The reader needs nothing more.
    rejects_input: bool,
    /// Bytes or an end have come since the queue was reset.
    has_begun: bool,
    /// Another stream waits for the end of this one.
    is_followed: bool,
    /// The reader has finished the stream.
    is_finished: bool,
    upstream_stats: UpstreamStats,
}

/// Counts of what upstream sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpstreamStats {
    /// Bytes that arrived, read or not.
    pub bytes_received: u64,
    /// Seeks that were sent upstream.
    pub seeks: u64,
}

impl State {
    fn limit(&self) -> usize {
        if self.limit == 0 { QUEUE_BYTES } else { self.limit }
    }

    /// Whether no more bytes are accepted.
    fn closed(&self) -> bool {
        self.flushing || self.rejects_input || self.ended || self.is_stale
    }
}

impl ByteQueue {
    /// Adds a buffer, waiting for room.
    #[allow(
        clippy::significant_drop_tightening,
        reason = "the wait releases the lock, and its result is used under it"
    )]
    pub fn push(&self, buffer: gst::Buffer) -> Result<(), gst::FlowError> {
        let chunk = buffer.into_mapped_buffer_readable().map_err(|_| gst::FlowError::Error)?;
        let mut state = self.state.lock();
        state.has_begun = true;
        state.upstream_stats.bytes_received += chunk.len() as u64;
        while state.bytes >= state.limit() && !state.closed() {
            self.changed.wait(&mut state);
        }
        if state.flushing || state.is_stale {
            return Err(gst::FlowError::Flushing);
        }
        if state.rejects_input || state.ended {
            return Err(gst::FlowError::Eos);
        }
        if !chunk.is_empty() {
            state.bytes += chunk.len();
            state.chunks.push_back(chunk);
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Marks the end of the stream.
    pub fn end(&self) {
        {
            let mut state = self.state.lock();
            (state.ended, state.has_begun) = (true, true);
        }
        self.changed.notify_all();
    }

    /// Whether anything has arrived since the last reset.
    pub fn has_begun(&self) -> bool {
        self.state.lock().has_begun
    }

    /// Ends the stream because another follows, and waits until the reader has finished it; false if flushed.
    pub fn end_and_wait(&self) -> bool {
        let mut state = self.state.lock();
        // If upstream has ended the stream itself, its end is sent downstream too.
        state.is_followed = !state.ended;
        state.ended = true;
        self.changed.notify_all();
        while !state.is_finished && !state.flushing && !state.is_stale {
            self.changed.wait(&mut state);
        }
        state.is_finished
    }

    /// Marks the stream as finished by the reader. Returns whether another stream waits, so that this is not the end of all.
    pub fn finish(&self) -> bool {
        let is_followed = {
            let mut state = self.state.lock();
            state.is_finished = true;
            state.is_followed
        };
        self.changed.notify_all();
        is_followed
    }

    /// Returns the counts since the last reset.
    pub fn upstream_stats(&self) -> UpstreamStats {
        self.state.lock().upstream_stats
    }

    /// Whether the reader was asked to stop.
    pub fn is_interrupted(&self) -> bool {
        let state = self.state.lock();
        state.flushing || state.interrupted
    }

    /// Rejects further input: upstream's buffers are answered with EOS.
    #[allow(clippy::significant_drop_tightening, reason = "the reader must see all changes at once")]
    pub fn reject_input(&self) {
        let mut state = self.state.lock();
        (state.rejects_input, state.is_discontinuous) = (true, true);
        state.chunks.clear();
        (state.bytes, state.taken) = (0, 0);
        self.changed.notify_all();
    }

    /// Limits the bytes that wait from now on.
    pub fn set_limit(&self, bytes: usize) {
        self.state.lock().limit = bytes;
    }

    /// Runs `seek`, which sends a seek upstream; its flush is handled by [`handle_own_flush`](Self::handle_own_flush).
    pub fn while_seeking(&self, seek: impl FnOnce() -> bool) -> bool {
        {
            let mut state = self.state.lock();
            state.seeking = true;
            state.upstream_stats.seeks += 1;
        }
        let done = seek();
        self.state.lock().seeking = false;
        done
    }

    /// Handles a flush from upstream: true if the reader's own seek caused it; the queue is then emptied.
    #[allow(clippy::significant_drop_tightening, reason = "the reader must see all changes at once")]
    pub fn handle_own_flush(&self, starts: bool) -> bool {
        let mut state = self.state.lock();
        if !state.seeking {
            return false;
        }
        state.is_stale = starts;
        state.chunks.clear();
        (state.bytes, state.taken, state.ended) = (0, 0, false);
        self.changed.notify_all();
        true
    }

    /// Interrupts every wait, until [`reset`](Self::reset).
    pub fn flush(&self) {
        self.state.lock().flushing = true;
        self.changed.notify_all();
    }

    /// Interrupts the reader's waits, until [`resume`](Self::resume); upstream continues.
    pub fn interrupt(&self) {
        self.state.lock().interrupted = true;
        self.changed.notify_all();
    }

    /// Lets the reader continue after an interrupt, or accept input again.
    pub fn resume(&self) {
        let mut state = self.state.lock();
        (state.interrupted, state.rejects_input, state.is_finished) = (false, false, false);
    }

    /// Whether bytes were dropped since the last call: the next ones do not follow what was read.
    pub fn take_discontinuity(&self) -> bool {
        std::mem::take(&mut self.state.lock().is_discontinuous)
    }

    /// Empties and reopens the queue.
    pub fn reset(&self) {
        *self.state.lock() = State::default();
        self.changed.notify_all();
    }

    /// Reads at least one byte, 0 at the end.
    #[allow(
        clippy::significant_drop_tightening,
        reason = "the wait releases the lock, and its result is used under it"
    )]
    pub fn read(&self, buffer: &mut [u8], wait_limit: &WaitLimit) -> Result<usize, SourceError> {
        let mut state = self.state.lock();
        let mut deadline = wait_limit.deadline();
        loop {
            if state.flushing || state.interrupted {
                return Err(SourceError::Interrupted);
            }
            if let Some(chunk) = state.chunks.front() {
                let rest = &chunk[state.taken..];
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                let used_up = count == rest.len();
                state.taken += count;
                state.bytes -= count;
                if used_up {
                    state.chunks.pop_front();
                    state.taken = 0;
                }
                self.changed.notify_all();
                return Ok(count);
            }
            if state.ended {
                return Ok(0);
            }
            self.wait(&mut state, &mut deadline, wait_limit)?;
        }
    }

    /// Returns the first `count` bytes without removing them; fewer at the end.
    pub fn peek(&self, count: usize, wait_limit: &WaitLimit) -> Result<Vec<u8>, SourceError> {
        let mut state = self.state.lock();
        let mut deadline = wait_limit.deadline();
        let mut bytes = state.bytes;
        while state.bytes < count && !state.ended && !state.flushing && !state.interrupted {
            self.wait(&mut state, &mut deadline, wait_limit)?;
            if std::mem::replace(&mut bytes, state.bytes) != state.bytes {
                deadline = wait_limit.deadline();
            }
        }
        if state.flushing || state.interrupted {
            return Err(SourceError::Interrupted);
        }
        let mut head: Vec<u8> = Vec::with_capacity(count);
        for (index, chunk) in state.chunks.iter().enumerate() {
            let rest = if index == 0 { &chunk[state.taken..] } else { &chunk[..] };
            head.extend(rest.iter().take(count - head.len()));
        }
        Ok(head)
    }

    /// Waits for a change, or fails at the deadline.
    fn wait(
        &self,
        state: &mut MutexGuard<'_, State>,
        deadline: &mut Option<Instant>,
        wait_limit: &WaitLimit,
    ) -> Result<(), SourceError> {
        let Some(until) = *deadline else {
            self.changed.wait(state);
            return Ok(());
        };
        if !self.changed.wait_until(state, until).timed_out() {
            return Ok(());
        }
        // Outside the lock: this queries the pipeline.
        if MutexGuard::unlocked(state, || (wait_limit.is_idle_allowed)()) {
            *deadline = wait_limit.deadline();
            return Ok(());
        }
        let limit = wait_limit.limit.unwrap_or_default().as_secs_f64();
        Err(SourceError::Failed(format!("upstream delivered nothing for {limit} s (io-timeout)")))
    }
}

impl WaitLimit {
    fn deadline(&self) -> Option<Instant> {
        self.limit.and_then(|limit| Instant::now().checked_add(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_waits_for_the_reader_and_a_flush_ends_the_wait() {
        gst::init().unwrap();
        let queue = Arc::new(ByteQueue::default());
        queue.push(gst::Buffer::from_slice(vec![7_u8; QUEUE_BYTES])).unwrap();
        let writer = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.push(gst::Buffer::from_slice([8_u8; 4]))
        });
        let mut byte = [0];
        let patient = WaitLimit { limit: None, is_idle_allowed: Arc::new(|| false) };
        assert_eq!(queue.read(&mut byte, &patient), Ok(1));
        writer.join().unwrap().unwrap();
        let writer = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.push(gst::Buffer::from_slice([9_u8; 4]))
        });
        queue.flush();
        assert_eq!(writer.join().unwrap(), Err(gst::FlowError::Flushing));
        assert_eq!(queue.read(&mut byte, &patient), Err(SourceError::Interrupted));
    }

    #[test]
    fn a_wait_ends_after_the_timeout_unless_upstream_may_be_idle() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let queue = Arc::new(ByteQueue::default());
        let asked = Arc::new(AtomicU32::new(0));
        let limit = Some(Duration::from_millis(20));
        let is_idle_allowed = {
            let asked = Arc::clone(&asked);
            Arc::new(move || asked.fetch_add(1, Ordering::SeqCst) < 3)
        };
        let failed = queue.read(&mut [0], &WaitLimit { limit, is_idle_allowed }).unwrap_err();
        assert!(failed.to_string().contains("nothing for 0.02 s (io-timeout)"), "{failed}");
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }
}
