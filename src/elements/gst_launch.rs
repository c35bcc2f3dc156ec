// SPDX-License-Identifier: MIT OR Apache-2.0
//! Workaround for gst-launch-1.0: errors that are posted before it runs its main loop.
//!
//! gst-launch-1.0 (1.22 and later) quits its main loop from the bus's sync handler when an error is posted. If it does not yet run the
//! loop, the call is lost and it waits for ever after the error. A file that cannot be opened fails so early that one run in some
//! two hundred hangs on a busy machine. There is no message or state that says that an application runs its main loop, so the error
//! is delayed: until the pipeline has reached PAUSED, or for [`GRACE`]. Nothing else depends on this module.

use std::time::{Duration, Instant};

use gst::prelude::*;

use super::top_level;

/// Longest delay: time for an application to get from setting the pipeline to PAUSED to its main loop.
const GRACE: Duration = Duration::from_millis(100);
/// Interval at which the state is checked.
const STEP: Duration = Duration::from_millis(2);

/// Call before posting an error from a streaming thread. Where the pipeline of `element` is still on its way to PAUSED this waits
/// a moment, or until `has_ended`.
pub fn wait_for_main_loop(element: &impl IsA<gst::Element>, has_ended: impl Fn() -> bool) {
    let top = top_level(element);
    let until = Instant::now() + GRACE;
    while top.current_state() < gst::State::Paused && Instant::now() < until && !has_ended() {
        std::thread::sleep(STEP);
    }
}
