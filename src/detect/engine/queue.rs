// SPDX-License-Identifier: MIT OR Apache-2.0
//! The queue of an engine: jobs wait here until a worker takes them, in batches for one input size.
//!
//! Guarantees that each job is taken by one worker, given back, or dropped when the queue is closed, so that its ticket is answered;
//! and that no thread waits for ever while there is something to do for it. `make interleavings` checks this in many orders of threads.
//!
//! Lock order: the state alone. Jobs are not dropped while it is held, because their frames and answers call code of users.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::job::{Job, POLL_INTERVAL};
use super::sync::{Condvar, Mutex};

/// A bounded queue of jobs, shared by users and workers.
pub(super) struct JobQueue {
    state: Mutex<State>,
    /// Signals to workers that there are jobs, or that the queue is closed.
    has_jobs: Condvar,
    /// Signals to users that there is room, or that the queue is closed.
    has_room: Condvar,
    room: usize,
    batch_timeout: Duration,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl std::fmt::Debug for JobQueue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("JobQueue").field("room", &self.room).finish_non_exhaustive()
    }
}

impl JobQueue {
    /// Creates a queue for up to `room` jobs. A batch waits for `batch_timeout` to fill.
    pub fn new(room: usize, batch_timeout: Duration) -> Self {
        let state = State { jobs: VecDeque::with_capacity(room), is_closed: false };
        Self {
            state: Mutex::new(state),
            has_jobs: Condvar::default(),
            has_room: Condvar::default(),
            room,
            batch_timeout,
        }
    }

    /// Adds a job; gives it back if the queue is full or closed.
    pub fn try_push(&self, job: Job) -> Result<(), Job> {
        let mut state = self.state.lock();
        if state.is_closed || state.jobs.len() >= self.room {
            return Err(job);
        }
        state.jobs.push_back(job);
        drop(state);
        self.has_jobs.notify_one();
        Ok(())
    }

    /// Adds a job. Blocks while the queue is full and `keep_waiting` returns true; gives the job back if it is not in the queue then.
    pub fn push(&self, mut job: Job, keep_waiting: impl Fn() -> bool) -> Result<(), Job> {
        loop {
            job = match self.try_push(job) {
                Ok(()) => return Ok(()),
                Err(job) => job,
            };
            let mut state = self.state.lock();
            let is_full = !state.is_closed && state.jobs.len() >= self.room;
            let is_late = is_full && self.has_room.wait_for(&mut state, POLL_INTERVAL).timed_out();
            let is_closed = state.is_closed;
            drop(state);
            if is_closed || (is_late && !keep_waiting()) {
                return Err(job);
            }
        }
    }

    /// Waits for a job and moves a batch of up to `capacity` jobs for its input size into `batch`, which is empty. Returns false, and
    /// takes nothing, once the queue is closed.
    pub fn take(&self, batch: &mut Vec<Job>, capacity: usize) -> bool {
        let mut state = self.state.lock();
        let first = loop {
            if state.is_closed {
                return false;
            }
            match state.jobs.pop_front() {
                Some(job) => break job,
                None => self.has_jobs.wait(&mut state),
            }
        };
        self.has_room.notify_one();
        let size = first.size;
        batch.push(first);
        // A time that is too far away is none.
        let deadline = Instant::now().checked_add(self.batch_timeout);
        while batch.len() < capacity && !state.is_closed {
            match state.jobs.front() {
                Some(next) if next.size == size => {
                    batch.extend(state.jobs.pop_front());
                    self.has_room.notify_one();
                }
                Some(_) => break,
                None if self.batch_timeout.is_zero() => break,
                None => {
                    let is_late = match deadline {
                        Some(deadline) => self.has_jobs.wait_until(&mut state, deadline).timed_out(),
                        None => {
                            self.has_jobs.wait(&mut state);
                            false
                        }
                    };
                    if is_late && state.jobs.is_empty() {
                        break;
                    }
                }
            }
        }
        let (is_closed, has_more) = (state.is_closed, !state.jobs.is_empty());
        drop(state);
        if has_more {
            // The signal for these jobs may have reached this thread while it waited for its batch to fill.
            self.has_jobs.notify_one();
        }
        if is_closed {
            batch.clear();
        }
        !is_closed
    }

    /// Closes the queue: drops the jobs in it, which answers them, and those that come.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        self.has_jobs.notify_all();
        self.has_room.notify_all();
        drop(jobs);
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod test_jobs {
    use std::sync::Arc;

    use super::super::job::{OnAnswer, ResultSlots, Ticket};
    use super::super::sizes::Size;
    use super::*;
    use crate::detect::error::{Error, Result};
    use crate::detect::pixels::picture::{Frame, Picture};

    pub const SQUARE: Size = (64, 64);
    pub const WIDE: Size = (64, 32);

    struct NoFrame;

    impl Frame for NoFrame {
        fn picture(&self) -> Result<Picture<'_>> {
            Err(Error::Picture { reason: "none".to_owned() })
        }
    }

    pub fn job(size: Size, on_answer: Option<OnAnswer>, spare: &Arc<ResultSlots>) -> (Job, Ticket) {
        Job::new(Box::new(NoFrame), size, Arc::default(), on_answer, spare)
    }

    /// Most jobs in a batch.
    pub const CAPACITY: usize = 3;
}

#[cfg(all(test, not(shuttle)))]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::sync::Arc;

    use super::test_jobs::{CAPACITY, SQUARE, WIDE, job};
    use super::*;
    use crate::detect::error::Error;

    #[test]
    fn a_batch_holds_jobs_of_one_size_in_their_order_and_no_more_than_its_capacity() {
        let queue = JobQueue::new(9, Duration::ZERO);
        for size in [SQUARE, SQUARE, WIDE, WIDE, SQUARE, SQUARE, SQUARE, SQUARE] {
            assert!(queue.try_push(job(size, None, &Arc::default()).0).is_ok());
        }
        let mut batches = Vec::new();
        for _ in 0..4 {
            let mut batch = Vec::new();
            assert!(queue.take(&mut batch, CAPACITY));
            batches.push((batch[0].size, batch.len()));
            assert!(batch.iter().all(|job| job.size == batch[0].size));
        }
        assert_eq!(batches, [(SQUARE, 2), (WIDE, 2), (SQUARE, 3), (SQUARE, 1)]);
    }

    #[test]
    fn a_full_queue_gives_jobs_back_or_waits_for_room() {
        let queue = JobQueue::new(1, Duration::ZERO);
        let spare = Arc::default();
        assert!(queue.try_push(job(WIDE, None, &spare).0).is_ok());
        assert!(queue.try_push(job(WIDE, None, &spare).0).is_err());
        assert!(queue.push(job(WIDE, None, &spare).0, || false).is_err());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| queue.push(job(SQUARE, None, &spare).0, || true).is_ok());
            for size in [WIDE, SQUARE] {
                let mut batch = Vec::new();
                assert!(queue.take(&mut batch, CAPACITY));
                assert_eq!(batch[0].size, size);
            }
            assert!(waits.join().unwrap());
        });
    }

    #[test]
    fn a_batch_waits_for_further_jobs_and_takes_no_others() {
        let queue = JobQueue::new(4, Duration::from_secs(60));
        let spare = Arc::default();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut batch = Vec::new();
                assert!(queue.take(&mut batch, CAPACITY));
                batch.len()
            });
            for size in [SQUARE, SQUARE, WIDE] {
                assert!(queue.try_push(job(size, None, &spare).0).is_ok());
            }
            assert_eq!(worker.join().unwrap(), 2);
        });
    }

    #[test]
    fn closing_answers_the_jobs_and_wakes_everyone() {
        let queue = JobQueue::new(1, Duration::ZERO);
        let spare = Arc::default();
        let (first, ticket) = job(SQUARE, None, &spare);
        assert!(queue.try_push(first).is_ok());
        std::thread::scope(|scope| {
            let user = scope.spawn(|| queue.push(job(SQUARE, None, &spare).0, || true).is_ok());
            queue.close();
            assert!(!user.join().unwrap());
        });
        assert!(matches!(ticket.wait(), Err(Error::EngineClosed)));
        assert!(queue.is_closed() && !queue.take(&mut Vec::new(), CAPACITY));
        assert!(queue.try_push(job(SQUARE, None, &spare).0).is_err());
    }
}

/// `make interleavings`
#[cfg(all(test, shuttle))]
mod interleavings {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use shuttle::thread;

    use super::super::job::{FrameResult, OnAnswer, Ticket};
    use super::super::sizes::Size;
    use super::super::sync::with_late_polls;
    use super::test_jobs::{CAPACITY, SQUARE, WIDE, job};
    use super::*;

    const USERS: usize = 2;
    const WORKERS: usize = 2;
    /// The jobs of a user; the ticket of the second is dropped, as elements do when they are flushed.
    const SIZES: [Size; 4] = [SQUARE, SQUARE, WIDE, SQUARE];

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Case {
        /// The queue is closed when all tickets are answered.
        Complete,
        /// The queue is closed at any time.
        Closed,
        /// Users give up at any time.
        GivenUp,
    }

    fn users(
        queue: &Arc<JobQueue>,
        case: Case,
        answers: &Arc<[[AtomicUsize; SIZES.len()]; USERS]>,
    ) -> Vec<thread::JoinHandle<()>> {
        let spare = Arc::default();
        let user = |user: usize| {
            let (queue, answers, spare) = (Arc::clone(queue), Arc::clone(answers), Arc::clone(&spare));
            move || {
                let mut tickets: Vec<Ticket> = Vec::new();
                for (index, size) in SIZES.into_iter().enumerate() {
                    let answers = Arc::clone(&answers);
                    let count = move |_| {
                        answers[user][index].fetch_add(1, Ordering::Relaxed);
                    };
                    let on_answer: OnAnswer = Box::new(count);
                    let (job, ticket) = job(size, Some(on_answer), &spare);
                    let is_queued = queue.push(job, || case != Case::GivenUp).is_ok();
                    assert!(is_queued || case != Case::Complete);
                    if index != 1 {
                        tickets.push(ticket);
                    }
                }
                for ticket in tickets {
                    let result = ticket.wait_while(|| case != Case::GivenUp);
                    assert!(result.is_ok() || case != Case::Complete);
                }
            }
        };
        (0..USERS).map(|index| thread::spawn(user(index))).collect()
    }

    fn workers(queue: &Arc<JobQueue>) -> Vec<thread::JoinHandle<()>> {
        let worker = || {
            let queue = Arc::clone(queue);
            move || {
                let mut batch: Vec<Job> = Vec::new();
                while queue.take(&mut batch, CAPACITY) {
                    let size = batch[0].size;
                    assert!(batch.len() <= CAPACITY && batch.iter().all(|job| job.size == size));
                    batch.drain(..).for_each(|mut job| job.reply.answer(Ok(FrameResult::default())));
                }
                assert!(batch.is_empty());
            }
        };
        (0..WORKERS).map(|_| thread::spawn(worker())).collect()
    }

    /// Every job is answered once, and no thread waits for ever, which shuttle reports.
    fn run(case: Case, batch_timeout: Duration) {
        let queue = Arc::new(JobQueue::new(2, batch_timeout));
        let answers = Arc::<[[AtomicUsize; SIZES.len()]; USERS]>::default();
        let (users, workers) = (users(&queue, case, &answers), workers(&queue));
        if case == Case::Closed {
            queue.close();
        }
        users.into_iter().for_each(|user| user.join().expect("no thread panics"));
        queue.close();
        workers.into_iter().for_each(|worker| worker.join().expect("no thread panics"));
        let answers = answers.as_flattened().iter().map(|count| count.load(Ordering::Relaxed));
        assert!(answers.clone().all(|count| count == 1), "{:?}", answers.collect::<Vec<_>>());
    }

    fn orders() -> usize {
        std::env::var("VX_ORDERS").map_or(20_000, |orders| orders.parse().expect("a number"))
    }

    /// Runs a case in so many random orders, and in as many with few switches of threads at the points that matter most.
    fn check(case: Case) {
        let orders = orders();
        for batch_timeout in [Duration::ZERO, Duration::from_millis(1)] {
            shuttle::check_random(move || run(case, batch_timeout), orders);
            shuttle::check_pct(move || run(case, batch_timeout), orders, 3);
        }
    }

    #[test]
    fn every_job_is_done() {
        check(Case::Complete);
    }

    #[test]
    fn closing_at_any_time_answers_every_job() {
        check(Case::Closed);
    }

    /// The first batch is not done before the second job: a signal for it that reaches the worker of the first batch, while that waits
    /// for its batch to fill, must go on to the other worker.
    fn run_slow_batch() {
        let queue = Arc::new(JobQueue::new(2, Duration::from_millis(1)));
        let second_is_done = Arc::new((Mutex::new(false), Condvar::default()));
        let worker = || {
            let (queue, second_is_done) = (Arc::clone(&queue), Arc::clone(&second_is_done));
            move || {
                let mut batch: Vec<Job> = Vec::new();
                while queue.take(&mut batch, CAPACITY) {
                    let (is_done, changed) = &*second_is_done;
                    let mut is_done = is_done.lock();
                    if batch[0].size == WIDE {
                        *is_done = true;
                        changed.notify_all();
                    }
                    while !*is_done {
                        changed.wait(&mut is_done);
                    }
                    drop(is_done);
                    batch.drain(..).for_each(|mut job| job.reply.answer(Ok(FrameResult::default())));
                }
            }
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| thread::spawn(worker())).collect();
        let spare = Arc::default();
        let tickets = [SQUARE, WIDE].map(|size| {
            let (job, ticket) = job(size, None, &spare);
            assert!(queue.try_push(job).is_ok());
            ticket
        });
        tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
        queue.close();
        workers.into_iter().for_each(|worker| worker.join().expect("no thread panics"));
    }

    #[test]
    fn an_idle_worker_takes_what_another_one_leaves() {
        shuttle::check_random(run_slow_batch, orders());
        shuttle::check_pct(run_slow_batch, orders(), 3);
    }

    #[test]
    fn users_may_give_up_at_any_time() {
        with_late_polls(|| check(Case::GivenUp));
    }
}
