//! The bounded byte queue between upstream's thread and the demuxer's.
//!
//! Thread rule: upstream's thread puts in, the element's task takes out, any thread may flush.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::av::SourceError;

/// Most bytes waiting for the demuxer.
const QUEUE_BYTES: usize = 4 << 20;

/// How long to wait for upstream.
#[derive(Clone)]
pub struct Patience {
    /// Longest wait for the next bytes; `None` for ever.
    pub limit: Option<Duration>,
    /// Whether upstream has a reason to deliver nothing now: then the wait begins anew.
    pub is_excused: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Between upstream's thread and the demuxer's.
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
    is_cut: bool,
    /// Most bytes that may wait; 0 for [`QUEUE_BYTES`].
    limit: usize,
    /// The reader is telling upstream to push from elsewhere.
    seeking: bool,
    /// What arrives is still from before that.
    is_stale: bool,
    /// The reader wants nothing more.
    refused: bool,
    /// Bytes or an end have come since the queue was reset.
    has_begun: bool,
    /// Another stream waits for the end of this one.
    is_followed: bool,
    /// The reader has dealt with the stream.
    is_finished: bool,
    traffic: Traffic,
}

/// What upstream was asked for and what it sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that arrived, read or not.
    pub bytes_received: u64,
    /// Times that upstream was told to push from elsewhere.
    pub seeks: u64,
}

impl State {
    fn limit(&self) -> usize {
        if self.limit == 0 { QUEUE_BYTES } else { self.limit }
    }

    /// Whether nothing more is taken in.
    fn closed(&self) -> bool {
        self.flushing || self.refused || self.ended || self.is_stale
    }
}

impl ByteQueue {
    /// Adds a buffer, waiting for room.
    #[allow(
        clippy::significant_drop_tightening,
        reason = "the wait gives the lock up, and what it waited for is used under it"
    )]
    pub fn push(&self, buffer: gst::Buffer) -> Result<(), gst::FlowError> {
        let chunk = buffer.into_mapped_buffer_readable().map_err(|_| gst::FlowError::Error)?;
        let mut state = self.state.lock();
        state.has_begun = true;
        state.traffic.bytes_received += chunk.len() as u64;
        while state.bytes >= state.limit() && !state.closed() {
            self.changed.wait(&mut state);
        }
        if state.flushing || state.is_stale {
            return Err(gst::FlowError::Flushing);
        }
        if state.refused || state.ended {
            return Err(gst::FlowError::Eos);
        }
        if !chunk.is_empty() {
            state.bytes += chunk.len();
            state.chunks.push_back(chunk);
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Upstream has nothing more.
    pub fn end(&self) {
        {
            let mut state = self.state.lock();
            (state.ended, state.has_begun) = (true, true);
        }
        self.changed.notify_all();
    }

    /// Whether anything has come since the last reset.
    pub fn has_begun(&self) -> bool {
        self.state.lock().has_begun
    }

    /// Ends the stream because another follows, and waits until the reader has dealt with it; false if that was flushed.
    pub fn end_before_next(&self) -> bool {
        let mut state = self.state.lock();
        // Where upstream has ended the stream itself, downstream is told so too.
        state.is_followed = !state.ended;
        state.ended = true;
        self.changed.notify_all();
        while !state.is_finished && !state.flushing && !state.is_stale {
            self.changed.wait(&mut state);
        }
        state.is_finished
    }

    /// The reader has dealt with the stream; whether another one waits for that, so that it is not the end of all.
    pub fn finish(&self) -> bool {
        let is_followed = {
            let mut state = self.state.lock();
            state.is_finished = true;
            state.is_followed
        };
        self.changed.notify_all();
        is_followed
    }

    /// Counts since the last reset.
    pub fn traffic(&self) -> Traffic {
        self.state.lock().traffic
    }

    /// Whether the reader was asked to stop.
    pub fn is_interrupted(&self) -> bool {
        let state = self.state.lock();
        state.flushing || state.interrupted
    }

    /// The reader wants nothing more: what upstream still sends is answered with EOS.
    #[allow(clippy::significant_drop_tightening, reason = "the reader must not see half of it")]
    pub fn refuse(&self) {
        let mut state = self.state.lock();
        (state.refused, state.is_cut) = (true, true);
        state.chunks.clear();
        (state.bytes, state.taken) = (0, 0);
        self.changed.notify_all();
    }

    /// Lets only this many bytes wait from now on.
    pub fn set_limit(&self, bytes: usize) {
        self.state.lock().limit = bytes;
    }

    /// Runs `seek`, which makes upstream push from elsewhere; its flush is met by [`flush_of_seek`](Self::flush_of_seek).
    pub fn while_seeking(&self, seek: impl FnOnce() -> bool) -> bool {
        {
            let mut state = self.state.lock();
            state.seeking = true;
            state.traffic.seeks += 1;
        }
        let done = seek();
        self.state.lock().seeking = false;
        done
    }

    /// A flush from upstream: true if the reader's own seek is the cause, and then all that waits is gone.
    #[allow(clippy::significant_drop_tightening, reason = "the reader must not see half of it")]
    pub fn flush_of_seek(&self, starts: bool) -> bool {
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

    /// Ends every wait, now and until [`reset`](Self::reset).
    pub fn flush(&self) {
        self.state.lock().flushing = true;
        self.changed.notify_all();
    }

    /// Ends the reader's waits, now and until [`resume`](Self::resume); upstream goes on.
    pub fn interrupt(&self) {
        self.state.lock().interrupted = true;
        self.changed.notify_all();
    }

    /// The reader goes on after an interrupt, or wants more after all.
    pub fn resume(&self) {
        let mut state = self.state.lock();
        (state.interrupted, state.refused, state.is_finished) = (false, false, false);
    }

    /// Whether bytes were thrown away since this was last asked: what comes next does not follow on what was read.
    pub fn was_cut(&self) -> bool {
        std::mem::take(&mut self.state.lock().is_cut)
    }

    /// Empty and open again.
    pub fn reset(&self) {
        *self.state.lock() = State::default();
        self.changed.notify_all();
    }

    /// Takes at least one byte, 0 at the end.
    #[allow(
        clippy::significant_drop_tightening,
        reason = "the wait gives the lock up, and what it waited for is used under it"
    )]
    pub fn read(&self, buffer: &mut [u8], patience: &Patience) -> Result<usize, SourceError> {
        let mut state = self.state.lock();
        let mut deadline = patience.deadline();
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
            self.wait(&mut state, &mut deadline, patience)?;
        }
    }

    /// The first `count` bytes, without taking them; fewer at the end.
    pub fn peek(&self, count: usize, patience: &Patience) -> Result<Vec<u8>, SourceError> {
        let mut state = self.state.lock();
        let mut deadline = patience.deadline();
        let mut bytes = state.bytes;
        while state.bytes < count && !state.ended && !state.flushing && !state.interrupted {
            self.wait(&mut state, &mut deadline, patience)?;
            if std::mem::replace(&mut bytes, state.bytes) != state.bytes {
                deadline = patience.deadline();
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
        patience: &Patience,
    ) -> Result<(), SourceError> {
        let Some(until) = *deadline else {
            self.changed.wait(state);
            return Ok(());
        };
        if !self.changed.wait_until(state, until).timed_out() {
            return Ok(());
        }
        // Outside the lock: the question goes to the pipeline.
        if MutexGuard::unlocked(state, || (patience.is_excused)()) {
            *deadline = patience.deadline();
            return Ok(());
        }
        let limit = patience.limit.unwrap_or_default().as_secs_f64();
        Err(SourceError::Failed(format!("upstream delivered nothing for {limit} s (io-timeout)")))
    }
}

impl Patience {
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
        let patient = Patience { limit: None, is_excused: Arc::new(|| false) };
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
    fn a_wait_ends_after_the_timeout_but_not_while_it_is_excused() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let queue = Arc::new(ByteQueue::default());
        let asked = Arc::new(AtomicU32::new(0));
        let limit = Some(Duration::from_millis(20));
        let is_excused = {
            let asked = Arc::clone(&asked);
            Arc::new(move || asked.fetch_add(1, Ordering::SeqCst) < 3)
        };
        let failed = queue.read(&mut [0], &Patience { limit, is_excused }).unwrap_err();
        assert!(failed.to_string().contains("nothing for 0.02 s (io-timeout)"), "{failed}");
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }
}
