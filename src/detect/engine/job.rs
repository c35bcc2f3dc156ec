// SPDX-License-Identifier: MIT OR Apache-2.0
//! One frame in an engine, and the ticket for its result.
//!
//! Guarantees that every ticket is answered exactly once, whatever happens to its job. A job moves from the submitting thread to
//! a worker; its ticket stays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sync::{Condvar, Mutex};
use crate::detect::detection::{DetectSettings, Detection};
use crate::detect::error::{Error, Result};
use crate::detect::pixels::picture::Frame;

/// The detections in a frame, and the time of each stage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FrameResult {
    /// Detections, by falling confidence.
    pub detections: Vec<Detection>,
    /// Width and height of the model's input for this frame.
    pub input_size: (usize, usize),
    /// Time from [`Engine::submit`](super::Engine::submit) to a worker.
    pub queued: Duration,
    /// Time to write the pixels into the model's input.
    pub prepare: Duration,
    /// Time of the model's run, for the whole batch.
    pub infer: Duration,
    /// Time to decode the outputs.
    pub decode: Duration,
    /// What is wrong with the model's outputs, reported with the first frame that shows it.
    pub warning: Option<String>,
}

/// How often a wait checks whether to continue.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A handle for the [`FrameResult`] of a submitted frame. It may be dropped.
#[derive(Debug)]
pub struct Ticket {
    slot: Arc<ResultSlot>,
    spare: Arc<ResultSlots>,
}

impl Ticket {
    /// Waits for the result. The frame has been dropped by then.
    ///
    /// # Errors
    /// What went wrong with this frame.
    pub fn wait(self) -> Result<FrameResult> {
        self.wait_while(|| true)
    }

    /// Waits for the result while `keep_waiting` returns true: a model may run for ever.
    ///
    /// # Errors
    /// What went wrong with this frame; [`Error::EngineClosed`] if the wait was given up.
    pub fn wait_while(self, keep_waiting: impl Fn() -> bool) -> Result<FrameResult> {
        let result = {
            let mut result = self.slot.result.lock();
            loop {
                if let Some(result) = result.take() {
                    break result;
                }
                let is_late = self.slot.is_filled.wait_for(&mut result, POLL_INTERVAL).timed_out();
                if is_late && result.is_none() && !keep_waiting() {
                    return Err(Error::EngineClosed);
                }
            }
        };
        self.spare.0.lock().push(self.slot);
        result
    }

    /// Whether [`wait`](Self::wait) would return at once.
    pub fn is_done(&self) -> bool {
        self.slot.result.lock().is_some()
    }
}

/// The place of a result, shared by ticket and job.
#[derive(Debug, Default)]
struct ResultSlot {
    result: Mutex<Option<Result<FrameResult>>>,
    is_filled: Condvar,
}

/// Slots of finished tickets, to be reused.
#[derive(Debug, Default)]
pub(super) struct ResultSlots(Mutex<Vec<Arc<ResultSlot>>>);

/// Called once just before a ticket is answered, on the thread that answers it: whether there is a result.
pub type OnAnswer = Box<dyn FnOnce(bool) + Send>;

/// The job's end of a ticket; answers [`Error::EngineClosed`] if it is dropped without an answer.
pub(super) struct Reply {
    slot: Option<Arc<ResultSlot>>,
    on_answer: Option<OnAnswer>,
}

impl Reply {
    /// Answers the ticket, unless it is already answered.
    pub fn answer(&mut self, result: Result<FrameResult>) {
        let Some(slot) = self.slot.take() else { return };
        let is_ok = result.is_ok();
        let answer = Answer { slot, result: Some(result) };
        if let Some(on_answer) = self.on_answer.take() {
            on_answer(is_ok);
        }
        drop(answer);
    }
}

/// Fills the slot when it is dropped, also if the user's call panics before.
struct Answer {
    slot: Arc<ResultSlot>,
    result: Option<Result<FrameResult>>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        *self.slot.result.lock() = self.result.take();
        self.slot.is_filled.notify_one();
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.answer(Err(Error::EngineClosed));
    }
}

/// A frame in the queue. Fields drop in this order: the frame is gone before its ticket is answered.
pub(super) struct Job {
    pub frame: Option<Box<dyn Frame>>,
    /// Width and height of the model's input for this frame.
    pub size: (usize, usize),
    pub settings: Arc<DetectSettings>,
    pub submitted: Instant,
    pub reply: Reply,
}

impl Job {
    pub fn new(
        frame: Box<dyn Frame>,
        size: (usize, usize),
        settings: Arc<DetectSettings>,
        on_answer: Option<OnAnswer>,
        spare: &Arc<ResultSlots>,
    ) -> (Self, Ticket) {
        let slot = spare.0.lock().pop().unwrap_or_default();
        let reply = Reply { slot: Some(Arc::clone(&slot)), on_answer };
        let ticket = Ticket { slot, spare: Arc::clone(spare) };
        (Self { frame: Some(frame), size, settings, submitted: Instant::now(), reply }, ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::pixels::picture::Picture;

    struct NoFrame;

    impl Frame for NoFrame {
        fn picture(&self) -> Result<Picture<'_>> {
            Err(Error::Picture { reason: "none".to_owned() })
        }
    }

    #[test]
    fn a_dropped_job_answers_that_the_engine_is_closed() {
        let (job, ticket) = Job::new(Box::new(NoFrame), (64, 64), Arc::default(), None, &Arc::default());
        assert!(!ticket.is_done());
        drop(job);
        assert!(ticket.is_done());
        assert!(matches!(ticket.wait(), Err(Error::EngineClosed)));
    }

    #[test]
    fn only_the_first_answer_counts_and_a_ticket_may_be_dropped() {
        let (mut job, ticket) = Job::new(Box::new(NoFrame), (64, 64), Arc::default(), None, &Arc::default());
        job.reply.answer(Ok(FrameResult::default()));
        job.reply.answer(Err(Error::EngineClosed));
        assert!(ticket.wait().is_ok());
        let (mut job, ticket) = Job::new(Box::new(NoFrame), (64, 64), Arc::default(), None, &Arc::default());
        drop(ticket);
        job.reply.answer(Ok(FrameResult::default()));
    }

    #[test]
    fn every_answer_is_announced_once_whether_or_not_the_ticket_is_kept() {
        let announced = Arc::new(Mutex::new(Vec::new()));
        for result in [Some(Ok(FrameResult::default())), Some(Err(Error::EngineClosed)), None] {
            let list = Arc::clone(&announced);
            let on_answer: OnAnswer = Box::new(move |is_ok| list.lock().push(is_ok));
            let (mut job, ticket) =
                Job::new(Box::new(NoFrame), (64, 64), Arc::default(), Some(on_answer), &Arc::default());
            drop(ticket);
            if let Some(result) = result {
                job.reply.answer(result);
            }
            drop(job);
        }
        assert_eq!(*announced.lock(), [true, false, false]);
    }

    #[test]
    fn a_call_that_panics_does_not_prevent_the_answer() {
        let on_answer: OnAnswer = Box::new(|_| panic!("expected"));
        let (mut job, ticket) = Job::new(Box::new(NoFrame), (64, 64), Arc::default(), Some(on_answer), &Arc::default());
        let answer = std::panic::AssertUnwindSafe(|| job.reply.answer(Ok(FrameResult::default())));
        assert!(std::panic::catch_unwind(answer).is_err());
        assert!(ticket.is_done() && ticket.wait().is_ok());
    }

    #[test]
    fn result_slots_are_reused_and_empty() {
        let spare = Arc::default();
        let (mut job, ticket) = Job::new(Box::new(NoFrame), (64, 64), Arc::default(), None, &spare);
        job.reply.answer(Ok(FrameResult::default()));
        assert!(ticket.wait().is_ok());
        assert_eq!(spare.0.lock().len(), 1);
        let (job, ticket) = Job::new(Box::new(NoFrame), (64, 64), Arc::default(), None, &spare);
        assert!(spare.0.lock().is_empty() && !ticket.is_done());
        drop(job);
        assert!(ticket.wait().is_err());
    }
}
