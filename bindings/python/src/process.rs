// SPDX-License-Identifier: MIT OR Apache-2.0
//! Forked processes: a fork copies none of the threads that runs, models and decoders need, so that calls would wait for ever. They fail
//! instead, and objects of the other process are left alone. Forking before the first use is fine.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::error;

/// The process that has used the module; 0 for none.
static USER: AtomicU32 = AtomicU32::new(0);

/// Checks that the module may be used in this process, and marks it as used. Call it first.
pub fn enter() -> PyResult<()> {
    let own = std::process::id();
    match USER.compare_exchange(0, own, Ordering::AcqRel, Ordering::Acquire) {
        Err(user) if user != own => Err(error::with(
            "settings",
            None,
            "vx was used before this process was forked, and its threads do not exist here",
            "start processes with multiprocessing.get_context('spawn') or 'forkserver', or use vx only after the fork",
        )),
        _ => Ok(()),
    }
}

/// Something with threads, which is dropped only in the process that made it.
pub struct Own<T> {
    value: Option<T>,
    process: u32,
}

impl<T> Own<T> {
    /// Wraps what this process has made.
    pub fn new(value: T) -> Self {
        Self { value: Some(value), process: std::process::id() }
    }

    /// Returns it; `None` in another process, and after it was taken.
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.is_ours())
    }

    /// Returns it to be changed; `None` in another process, and after it was taken.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if self.is_ours() { self.value.as_mut() } else { None }
    }

    /// Takes it out; `None` in another process.
    pub fn take(&mut self) -> Option<T> {
        if self.is_ours() { self.value.take() } else { None }
    }

    fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        if !self.is_ours() {
            std::mem::forget(self.value.take());
        }
    }
}
