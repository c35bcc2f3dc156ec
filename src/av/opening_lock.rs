// SPDX-License-Identifier: MIT OR Apache-2.0
//! The opening lock: one process-wide lock under which FFmpeg opens and probes files.
//!
//! `avformat_open_input`, `avformat_find_stream_info` and `avcodec_open2` run between [`acquire`] and the drop of the guard that it
//! returns. Reads from a [`ByteSource`](crate::av::ByteSource) release the lock while they wait ([`released_while`]), so a source
//! that never delivers blocks nobody else. Decoding never takes the lock.
//!
//! Measured on two cores: 1 to 2 ms for a 1080p file in most containers, whose streams are probed without decoding (see
//! input/probe.rs). A dedicated opening thread would queue just the same.
//!
//! Thread rule: any thread; the lock belongs to the thread that acquired it.

use std::cell::Cell;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

static TAKEN: Mutex<bool> = Mutex::new(false);
static FREED: Condvar = Condvar::new();

thread_local! {
    /// Set while this thread holds the lock.
    static HELD: Cell<Option<Times>> = const { Cell::new(None) };
}

/// How long one opening waited for the lock, and how long it held it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LockTimes {
    /// Time spent waiting for the lock.
    pub waited: Duration,
    /// Time during which the lock was held.
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

/// Holds the lock for this thread until dropped.
#[must_use]
pub struct OpeningGuard {
    /// A lock that belongs to a thread must not move to another.
    _not_send: PhantomData<*const ()>,
}

/// Waits for the lock and acquires it.
pub fn acquire() -> OpeningGuard {
    debug_assert!(HELD.get().is_none(), "the opening lock is not recursive");
    take(LockTimes::default());
    OpeningGuard { _not_send: PhantomData }
}

impl OpeningGuard {
    /// Releases the lock and returns how long it was waited for and held.
    #[must_use]
    pub fn release(self) -> LockTimes {
        let times = give_back().unwrap_or_default();
        std::mem::forget(self);
        times
    }
}

impl Drop for OpeningGuard {
    fn drop(&mut self) {
        give_back();
    }
}

/// Runs `wait` with the lock released, if this thread holds it, and acquires it again afterwards.
pub fn released_while<R>(wait: impl FnOnce() -> R) -> R {
    let Some(times) = give_back() else { return wait() };
    // Acquired again even if `wait` panics: the caller still assumes that it holds the lock.
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
            let guard = acquire();
            released_while(|| {
                started.send(()).unwrap();
                finished.recv().unwrap();
            });
            guard.release()
        });
        has_started.recv().unwrap();
        for _ in 0..16 {
            std::thread::spawn(|| acquire().release()).join().unwrap();
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
                        let guard = acquire();
                        assert_eq!(std::mem::replace(&mut *INSIDE.lock(), 1), 0);
                        *INSIDE.lock() = 0;
                        drop(guard);
                    }
                });
            }
        });
    }
}
