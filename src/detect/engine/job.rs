//! One frame on its way through an engine, and the ticket for its result.
//!
//! Owns the promise that every ticket is answered exactly once, whatever happens to its job. A job travels from the
//! submitting thread to a worker; its ticket stays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::detect::detection::{DetectSettings, Detection};
use crate::detect::error::{Error, Result};
use crate::detect::pixels::picture::Frame;

/// What was found in a frame, and how long it took.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FrameResult {
    /// By falling confidence.
    pub detections: Vec<Detection>,
    /// From [`Engine::submit`](super::Engine::submit) to a worker.
    pub queued: Duration,
    /// Pixels to model input.
    pub prepare: Duration,
    /// The model's run, of the whole batch.
    pub infer: Duration,
    /// Model output to detections.
    pub decode: Duration,
    /// What is odd about the model's outputs, told with the first frame on which it showed.
    pub warning: Option<String>,
}

/// How often a wait looks whether it is to go on.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// The promise of a [`FrameResult`]. Dropping it disturbs nobody.
#[derive(Debug)]
pub struct Ticket {
    answer: Arc<Answer>,
    spare: Arc<Answers>,
}

impl Ticket {
    /// Waits for the result. The frame has been dropped by then.
    ///
    /// # Errors
    /// What went wrong with this frame.
    pub fn wait(self) -> Result<FrameResult> {
        self.wait_while(|| true)
    }

    /// Waits for the result while `goes_on` says so: a model may run for ever.
    ///
    /// # Errors
    /// What went wrong with this frame; [`Error::EngineClosed`] where the wait was given up.
    pub fn wait_while(self, goes_on: impl Fn() -> bool) -> Result<FrameResult> {
        let result = {
            let mut result = self.answer.result.lock();
            loop {
                if let Some(result) = result.take() {
                    break result;
                }
                let is_late = self.answer.is_there.wait_for(&mut result, LOOK).timed_out();
                if is_late && result.is_none() && !goes_on() {
                    return Err(Error::EngineClosed);
                }
            }
        };
        self.spare.0.lock().push(self.answer);
        result
    }

    /// Whether [`wait`](Self::wait) would return at once.
    pub fn is_done(&self) -> bool {
        self.answer.result.lock().is_some()
    }
}

/// Where a result is put for the ticket to find.
#[derive(Debug, Default)]
struct Answer {
    result: Mutex<Option<Result<FrameResult>>>,
    is_there: Condvar,
}

/// Those of tickets that are done with, for the next ones.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<Vec<Arc<Answer>>>);

/// The other end of a ticket; answers "closed" if it is dropped without an answer.
pub(super) struct Reply {
    answer: Option<Arc<Answer>>,
}

impl Reply {
    /// Answers, if that has not been done.
    pub fn answer(&mut self, result: Result<FrameResult>) {
        if let Some(answer) = self.answer.take() {
            *answer.result.lock() = Some(result);
            answer.is_there.notify_one();
        }
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
    pub settings: Arc<DetectSettings>,
    pub submitted: Instant,
    pub reply: Reply,
}

impl Job {
    pub fn new(frame: Box<dyn Frame>, settings: Arc<DetectSettings>, spare: &Arc<Answers>) -> (Self, Ticket) {
        let answer = spare.0.lock().pop().unwrap_or_default();
        let reply = Reply { answer: Some(Arc::clone(&answer)) };
        let ticket = Ticket { answer, spare: Arc::clone(spare) };
        (Self { frame: Some(frame), settings, submitted: Instant::now(), reply }, ticket)
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
        let (job, ticket) = Job::new(Box::new(NoFrame), Arc::default(), &Arc::default());
        assert!(!ticket.is_done());
        drop(job);
        assert!(ticket.is_done());
        assert!(matches!(ticket.wait(), Err(Error::EngineClosed)));
    }

    #[test]
    fn only_the_first_answer_counts_and_a_dropped_ticket_is_no_trouble() {
        let (mut job, ticket) = Job::new(Box::new(NoFrame), Arc::default(), &Arc::default());
        job.reply.answer(Ok(FrameResult::default()));
        job.reply.answer(Err(Error::EngineClosed));
        assert!(ticket.wait().is_ok());
        let (mut job, ticket) = Job::new(Box::new(NoFrame), Arc::default(), &Arc::default());
        drop(ticket);
        job.reply.answer(Ok(FrameResult::default()));
    }

    #[test]
    fn a_place_for_answers_is_used_again_and_empty_then() {
        let spare = Arc::default();
        let (mut job, ticket) = Job::new(Box::new(NoFrame), Arc::default(), &spare);
        job.reply.answer(Ok(FrameResult::default()));
        assert!(ticket.wait().is_ok());
        assert_eq!(spare.0.lock().len(), 1);
        let (job, ticket) = Job::new(Box::new(NoFrame), Arc::default(), &spare);
        assert!(spare.0.lock().is_empty() && !ticket.is_done());
        drop(job);
        assert!(ticket.wait().is_err());
    }
}
