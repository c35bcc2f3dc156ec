// SPDX-License-Identifier: MIT OR Apache-2.0
//! Process exit: a hook that runs before static destructors, and an exit without destructors.
//!
//! Two calls into the C library for which Rust's standard library has no safe form. They are not FFmpeg's, but this is the only
//! layer that may contain `unsafe`. Any thread.

use std::ffi::c_int;
use std::panic::catch_unwind;
use std::sync::OnceLock;

/// The function that runs before static destructors. It receives the exit status where the C library passes it on (glibc).
pub type Hook = fn(Option<i32>);

static HOOK: OnceLock<Hook> = OnceLock::new();

/// Calls `hook` when the process exits, before the destructors of everything constructed so far.
///
/// The C library runs handlers in the reverse order of their registration, and C++ libraries register the destructors of
/// their statics when they construct them. So call this again after a library was loaded or used for the first time; the hook
/// then runs more than once. Only the first `hook` is kept.
pub fn at_exit(hook: Hook) {
    HOOK.get_or_init(|| hook);
    platform::register();
}

/// Ends the process immediately: no destructors, no handlers, no flushing. Flush standard output before.
pub fn leave(status: i32) -> ! {
    // SAFETY: it has no preconditions and never returns; other threads may be anywhere, since nothing that they use is torn
    // down.
    unsafe { _exit(status) }
}

fn run(status: Option<i32>) {
    if let Some(hook) = HOOK.get() {
        // The caller is C: a panic must not reach it.
        let _ = catch_unwind(|| hook(status));
    }
}

/// Writes what is buffered in the C library's streams, then ends the process as [`leave`] does: for a forked process, in which other
/// threads than the calling one do not exist.
pub fn flush_and_leave(status: i32) -> ! {
    // SAFETY: a null stream stands for all; glibc resets the locks of its streams in a forked process.
    unsafe { fflush(std::ptr::null_mut()) };
    leave(status)
}

unsafe extern "C" {
    fn _exit(status: c_int) -> !;
    fn fflush(stream: *mut std::ffi::c_void) -> c_int;
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod platform {
    use std::ffi::{c_int, c_void};
    use std::ptr;

    unsafe extern "C" {
        fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }

    extern "C" fn handler(status: c_int, _argument: *mut c_void) {
        super::run(Some(status));
    }

    pub fn register() {
        // SAFETY: `handler` is of the type that on_exit(3) calls and takes no notice of its argument. It stays in memory
        // until the process ends: GStreamer makes plugins resident, and programs cannot unload themselves. on_exit may be
        // called from any thread; where it has no memory it registers nothing.
        unsafe { on_exit(handler, ptr::null_mut()) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod platform {
    use std::ffi::c_int;

    unsafe extern "C" {
        fn atexit(function: extern "C" fn()) -> c_int;
    }

    extern "C" fn handler() {
        super::run(None);
    }

    pub fn register() {
        // SAFETY: `handler` is of the type that atexit(3) calls. Where it is part of a library that is unloaded, the C library
        // calls it then and not later. atexit may be called from any thread; where it has no memory it registers nothing.
        unsafe { atexit(handler) };
    }
}
