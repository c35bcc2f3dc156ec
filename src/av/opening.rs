//! The opening lock: one process-wide lock under which libav opens and probes.
//!
//! `avformat_open_input`, `avformat_find_stream_info` and `avcodec_open2` run between [`enter`] and the drop of what it
//! returns. Reads from a [`ByteSource`](super::ByteSource) give the lock up for as long as they last
//! ([`while_waiting`]), so one source that never delivers holds up nobody else. Decoding never takes it.
//!
//! Measured on two cores: 1 to 3 ms for a 1080p file of those containers that tell what is in them (see probe.rs), 32 to 35 ms
//! for the same video in ts or avi, of which avformat_find_stream_info decodes frames. A thread of its own for opening would queue just the same.
//!
//! Thread rule: any thread; the lock belongs to the thread that entered.

use std::cell::Cell;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

static TAKEN: Mutex<bool> = Mutex::new(false);
static FREED: Condvar = Condvar::new();

thread_local! {
    /// What this thread holds of the lock, while it does.
    static HELD: Cell<Option<Times>> = const { Cell::new(None) };
}

/// How long one opening waited for the lock and held it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LockTimes {
    /// Time spent waiting for others.
    pub waited: Duration,
    /// Time during which others had to wait.
    pub held: Duration,
}

impl std::ops::AddAssign for LockTimes {
    fn add_assign(&mut self, other: Self) {
        self.waited += other.waited;
        self.held += other.held;
    }
}

#[derive(Clone, Copy)]
struct Times {
    times: LockTimes,
    since: Instant,
}

/// The lock, held by this thread until dropped.
#[must_use]
pub struct Opening {
    /// A lock that belongs to a thread must not move to another.
    _not_send: PhantomData<*const ()>,
}

/// Waits for the lock and takes it.
pub fn enter() -> Opening {
    debug_assert!(HELD.get().is_none(), "the opening lock is not recursive");
    take(LockTimes::default());
    Opening { _not_send: PhantomData }
}

impl Opening {
    /// Gives the lock back and tells what it cost.
    #[must_use]
    pub fn leave(self) -> LockTimes {
        let times = give_back().unwrap_or_default();
        std::mem::forget(self);
        times
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        give_back();
    }
}

/// Runs `wait` without the lock if this thread holds it, and takes it again afterwards.
pub fn while_waiting<R>(wait: impl FnOnce() -> R) -> R {
    let Some(times) = give_back() else { return wait() };
    // Taken again on the way out even if `wait` panics: the caller still believes it holds the lock.
    struct Again(LockTimes);
    impl Drop for Again {
        fn drop(&mut self) {
            take(self.0);
        }
    }
    let _again = Again(times);
    wait()
}

fn take(mut times: LockTimes) {
    let asked = Instant::now();
    let mut taken = TAKEN.lock();
    while *taken {
        FREED.wait(&mut taken);
    }
    *taken = true;
    drop(taken);
    let since = Instant::now();
    times.waited += since - asked;
    HELD.set(Some(Times { times, since }));
}

fn give_back() -> Option<LockTimes> {
    let Times { mut times, since } = HELD.take()?;
    times.held += since.elapsed();
    *TAKEN.lock() = false;
    FREED.notify_one();
    Some(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_thread_that_waits_for_data_lets_others_open() {
        let (finish, finished) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        let stalled = std::thread::spawn(move || {
            let opening = enter();
            while_waiting(|| {
                started.send(()).unwrap();
                finished.recv().unwrap();
            });
            opening.leave()
        });
        has_started.recv().unwrap();
        for _ in 0..16 {
            std::thread::spawn(|| enter().leave()).join().unwrap();
        }
        finish.send(()).unwrap();
        stalled.join().unwrap();
    }

    #[test]
    fn only_one_thread_is_inside() {
        static INSIDE: Mutex<u32> = Mutex::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let opening = enter();
                        assert_eq!(std::mem::replace(&mut *INSIDE.lock(), 1), 0);
                        *INSIDE.lock() = 0;
                        drop(opening);
                    }
                });
            }
        });
    }
}
