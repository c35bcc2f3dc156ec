// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties that change with the time of the stream (GstController).
//!
//! Thread rule: the streaming thread.

use gst::prelude::*;

/// Updates the controlled properties of `element`, if there are any, to the time of `buffer` in `segment`.
///
/// # Errors
/// They have no value at this time.
pub fn sync(
    element: &impl IsA<gst::Object>,
    buffer: &gst::BufferRef,
    segment: impl FnOnce() -> Option<gst::FormattedSegment<gst::ClockTime>>,
) -> Result<(), String> {
    if !element.has_active_control_bindings() {
        return Ok(());
    }
    let time = buffer.pts().zip(segment()).and_then(|(pts, segment)| segment.to_stream_time(pts));
    let Some(time) = time else { return Ok(()) };
    element.sync_values(time).map_err(|error| format!("controlled properties have no value at {time}: {error}"))
}
