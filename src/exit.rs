// SPDX-License-Identifier: MIT OR Apache-2.0
//! Process exit, for every layer: hooks before static destructors, and an immediate exit.
//!
//! Plain functions; any thread.

use crate::av::process;

/// Calls `hook` when the process exits, before the destructors of everything loaded so far; see [`process::at_exit`].
pub(crate) fn before_destructors(hook: process::Hook) {
    process::at_exit(hook);
}

/// Ends a forked process, after writing what the C library has buffered; see [`process::flush_and_leave`].
pub(crate) fn leave_fork(status: i32) -> ! {
    process::flush_and_leave(status)
}

/// Ends the process immediately, for programs that must not wait: no destructors and no flushing, so that nothing is destroyed
/// while threads still use it.
pub fn leave(status: i32) -> ! {
    process::leave(status)
}
