//! How this process ends, for every layer: hooks before static destructors, and leaving at once.
//!
//! Plain functions; any thread.

use crate::av::process;

/// Calls `hook` when the process exits, before the destructors of all that is loaded now; see [`process::at_exit`].
pub(crate) fn before_destructors(hook: process::Hook) {
    process::at_exit(hook);
}

/// Ends the process at once, for programs that must not wait: no destructor runs and nothing is flushed, so that nothing is torn
/// down under threads that still work.
pub fn leave(status: i32) -> ! {
    process::leave(status)
}
