// SPDX-License-Identifier: MIT OR Apache-2.0
//! The locks of the queue and of its tickets: `parking_lot`'s, or in `make interleavings` ones whose threads the model checker
//! [shuttle](https://docs.rs/shuttle) runs in any order.

#[cfg(all(test, shuttle))]
pub(super) use modelled::{Condvar, Mutex, with_late_polls};
#[cfg(not(all(test, shuttle)))]
pub(super) use parking_lot::{Condvar, Mutex};

/// What the engine uses of `parking_lot`, made of shuttle's locks. Shuttle's condition variables never time out; these do at any time.
#[cfg(all(test, shuttle))]
mod modelled {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::ops::{Deref, DerefMut};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use shuttle::sync;
    use shuttle::thread;

    thread_local! {
        static HAS_LATE_POLLS: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `test` with waits for a duration that may time out. Elsewhere they never do, because they only look whether to continue:
    /// nothing may depend on them.
    pub fn with_late_polls(test: impl FnOnce()) {
        HAS_LATE_POLLS.set(true);
        test();
        HAS_LATE_POLLS.set(false);
    }

    #[derive(Debug, Default)]
    pub struct Mutex<T>(sync::Mutex<T>);

    pub struct MutexGuard<'a, T> {
        lock: &'a sync::Mutex<T>,
        /// `None` while the thread waits for a condition.
        held: Option<sync::MutexGuard<'a, T>>,
    }

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard { lock: &self.0, held: Some(self.0.lock().expect("no thread panics")) }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.held.as_ref().expect("the lock is held")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.held.as_mut().expect("the lock is held")
        }
    }

    pub struct WaitTimeoutResult(bool);

    impl WaitTimeoutResult {
        pub fn timed_out(&self) -> bool {
            self.0
        }
    }

    #[derive(Debug, Default)]
    pub struct Condvar {
        waiters: sync::Mutex<VecDeque<Arc<Waiter>>>,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum End {
        Notified,
        TimedOut,
    }

    #[derive(Debug, Default)]
    struct Waiter {
        end: sync::Mutex<Option<End>>,
        has_ended: sync::Condvar,
    }

    impl Waiter {
        /// Ends the wait, unless it has ended.
        fn end(&self, how: End) -> bool {
            let mut end = self.end.lock().expect("no thread panics");
            let is_first = end.is_none();
            end.get_or_insert(how);
            self.has_ended.notify_one();
            is_first
        }
    }

    impl Condvar {
        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            self.wait_with(guard, false);
        }

        pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitTimeoutResult {
            self.wait_with(guard, HAS_LATE_POLLS.get())
        }

        pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> WaitTimeoutResult {
            self.wait_with(guard, true)
        }

        fn wait_with<T>(&self, guard: &mut MutexGuard<'_, T>, has_timer: bool) -> WaitTimeoutResult {
            let waiter = Arc::<Waiter>::default();
            self.waiters.lock().expect("no thread panics").push_back(Arc::clone(&waiter));
            guard.held = None;
            if has_timer {
                let waiter = Arc::clone(&waiter);
                thread::spawn(move || waiter.end(End::TimedOut));
            }
            let mut end = waiter.end.lock().expect("no thread panics");
            while end.is_none() {
                end = waiter.has_ended.wait(end).expect("no thread panics");
            }
            let is_late = *end == Some(End::TimedOut);
            drop(end);
            guard.held = Some(guard.lock.lock().expect("no thread panics"));
            WaitTimeoutResult(is_late)
        }

        pub fn notify_one(&self) {
            let mut waiters = self.waiters.lock().expect("no thread panics");
            while waiters.pop_front().is_some_and(|waiter| !waiter.end(End::Notified)) {}
        }

        pub fn notify_all(&self) {
            let waiters = std::mem::take(&mut *self.waiters.lock().expect("no thread panics"));
            for waiter in waiters {
                waiter.end(End::Notified);
            }
        }
    }
}
