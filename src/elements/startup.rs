//! Errors found before the application listens.

use std::time::{Duration, Instant};

use gst::prelude::*;

use super::top_level;

/// How long an application may take from setting a pipeline to PAUSED until it listens for messages.
const GRACE: Duration = Duration::from_millis(100);
const STEP: Duration = Duration::from_millis(2);

/// Call before posting an error from a streaming thread. Where the pipeline around `element` is still on its way to
/// PAUSED this waits a moment, or until `has_ended`.
///
/// gst-launch-1.0 (1.22 and later) quits its main loop when an error is posted, then and there. If it has not yet run
/// the loop the call is lost, and after the error it waits for ever. A file that cannot be opened is found out so soon
/// that without the wait one run in some two hundred on a busy machine hangs.
pub fn wait_for_listeners(element: &impl IsA<gst::Element>, has_ended: impl Fn() -> bool) {
    let top = top_level(element);
    let until = Instant::now() + GRACE;
    while top.current_state() < gst::State::Paused && Instant::now() < until && !has_ended() {
        std::thread::sleep(STEP);
    }
}
