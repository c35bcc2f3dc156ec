// SPDX-License-Identifier: MIT OR Apache-2.0
//! FFmpeg's log lines, routed to the reader of the file that they are about.
//!
//! FFmpeg has one log callback for the whole process, and its lines do not name the file. A program that owns the process
//! replaces the callback ([`capture_log`]); a plugin never does, since the application or another plugin may have set its own. A
//! thread registers the [`LogSink`] of the file that it works on. Lines of other threads (FFmpeg's slice threads, other libraries
//! in the process) cannot be attributed to a file and are dropped.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;

use ffmpeg_sys_next as ffi;

/// Size of the buffer for FFmpeg's line formatter, in bytes.
const LINE_BYTES: usize = 1024;

/// Longest incomplete line that is kept, in bytes.
const PENDING_BYTES: usize = 8 * LINE_BYTES;

/// Receives FFmpeg's warnings and errors about one file, one line per call, from any thread that reads or decodes it.
#[derive(Clone, Default)]
pub struct LogSink(Option<Receiver>);

type Receiver = Arc<dyn Fn(&str) + Send + Sync>;

impl LogSink {
    /// Calls `receive` with each line, without its line break.
    pub fn new(receive: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(receive)))
    }

    /// Attributes what FFmpeg logs on this thread to this file until the guard is dropped.
    pub(crate) fn enter(&self) -> Guard {
        let previous =
            CURRENT.with(|current| current.replace(Current { sink: self.0.clone(), pending: String::new() }));
        Guard { previous: Some(previous) }
    }
}

impl std::fmt::Debug for LogSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "LogSink(set)" } else { "LogSink(none)" })
    }
}

/// Ends the attribution of a thread's lines and restores the previous one.
pub(crate) struct Guard {
    previous: Option<Current>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(previous) = self.previous.take() {
            CURRENT.with(|current| current.replace(previous));
        }
    }
}

#[derive(Default)]
struct Current {
    sink: Option<Receiver>,
    /// Start of a line that FFmpeg writes in pieces.
    pending: String,
}

thread_local! {
    static CURRENT: RefCell<Current> = RefCell::default();
}

/// Routes FFmpeg's warnings and errors in the whole process to the [`LogSink`] of the file that they are about. For programs that
/// own the process: FFmpeg then writes nothing to standard error.
pub fn capture_log() {
    // SAFETY: callback and level may be set at any time from any thread; the callback is a function, which lives for ever.
    unsafe {
        ffi::av_log_set_level(ffi::AV_LOG_WARNING);
        ffi::av_log_set_callback(Some(receive));
    }
}

/// FFmpeg's `va_list` parameter, whose type depends on the platform: the one of the default callback.
#[cfg(all(target_arch = "x86_64", not(windows)))]
type Arguments = *mut ffi::__va_list_tag;
#[cfg(not(all(target_arch = "x86_64", not(windows))))]
type Arguments = ffi::va_list;

unsafe extern "C" fn receive(object: *mut c_void, level: c_int, format: *const c_char, arguments: Arguments) {
    // The upper bits may carry a colour.
    if level & 0xff > ffi::AV_LOG_WARNING {
        return;
    }
    let mut line: [c_char; LINE_BYTES] = [0; LINE_BYTES];
    let mut with_prefix = 1;
    // SAFETY: object, format and arguments are FFmpeg's own, passed on as they came; the buffer has the length given, and the
    // result is terminated.
    unsafe {
        ffi::av_log_format_line2(
            object,
            level,
            format,
            arguments,
            line.as_mut_ptr(),
            LINE_BYTES as c_int,
            &raw mut with_prefix,
        )
    };
    // SAFETY: av_log_format_line2 terminates what it writes, within the buffer.
    let text = unsafe { CStr::from_ptr(line.as_ptr()) }.to_string_lossy();
    // A thread that is ending no longer has a sink.
    let _ = CURRENT.try_with(|current| {
        let Ok(mut current) = current.try_borrow_mut() else { return };
        let Some(sink) = current.sink.clone() else { return };
        current.pending.push_str(&text);
        if !current.pending.ends_with('\n') && current.pending.len() < PENDING_BYTES {
            return;
        }
        let complete = std::mem::take(&mut current.pending);
        // The sink may log, and so call this function again.
        drop(current);
        // A panic must not pass through FFmpeg.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sink(complete.trim_end())));
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn a_line_without_an_end_is_passed_on_in_pieces() {
        capture_log();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let receiver = lines.clone();
        let _attributed = LogSink::new(move |line| receiver.lock().push(line.len())).enter();
        let log = |text: &CStr| {
            // SAFETY: no object; a format and its argument, both terminated.
            unsafe { ffi::av_log(std::ptr::null_mut(), ffi::AV_LOG_WARNING, c"%s".as_ptr(), text.as_ptr()) };
        };
        let piece = std::ffi::CString::new([b'x'; LINE_BYTES / 2]).unwrap();
        for _ in 1..PENDING_BYTES / (LINE_BYTES / 2) {
            log(&piece);
        }
        assert!(lines.lock().is_empty());
        log(&piece);
        assert_eq!(*lines.lock(), [PENDING_BYTES]);
        log(c"end\n");
        assert_eq!(*lines.lock(), [PENDING_BYTES, 3]);
    }
}
