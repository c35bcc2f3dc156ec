// SPDX-License-Identifier: MIT OR Apache-2.0
//! The container's own timestamps, sent downstream.
//!
//! Stream time starts at zero with the file; a container's timestamps may start anywhere, even below zero, which a
//! GstBuffer cannot express. `vxkeyframedec` sends the offset in a sticky event, and `vxjsonenc` adds it, so that `pts_ns` is what
//! ffprobe calls `pts_time`.

const NAME: &str = "vx-origin";
const FIELD: &str = "container-time-at-zero";

/// Returns the container's time of a buffer timestamp; `None` outside of `segment`'s stream time.
#[must_use]
pub fn container_ns(
    segment: &gst::FormattedSegment<gst::ClockTime>,
    pts: gst::ClockTime,
    origin_ns: i64,
) -> Option<i64> {
    let stream_ns = match segment.to_stream_time_full(pts)? {
        gst::Signed::Positive(time) => i64::try_from(time.nseconds()).ok()?,
        gst::Signed::Negative(time) => -i64::try_from(time.nseconds()).ok()?,
    };
    stream_ns.checked_add(origin_ns)
}

/// Creates the event that announces `origin_ns`, the container's time at stream time zero.
#[must_use]
pub fn event(origin_ns: i64) -> gst::Event {
    gst::event::CustomDownstreamSticky::new(gst::Structure::builder(NAME).field(FIELD, origin_ns).build())
}

/// Returns the container's time at stream time zero, if `event` announces it.
#[must_use]
pub fn from_event(event: &gst::EventRef) -> Option<i64> {
    event.structure().filter(|structure| structure.name() == NAME)?.get(FIELD).ok()
}
