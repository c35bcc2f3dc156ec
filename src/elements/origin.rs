//! The container's own clock, handed downstream.
//!
//! Stream time starts at zero with the file; a container's timestamps may start anywhere, below zero too, which a
//! GstBuffer cannot express. `vxkeyframedec` says by a sticky event how far the two lie apart, and `vxjsonenc` adds it,
//! so that `pts_ns` is what ffprobe calls `pts_time`.

const NAME: &str = "vx-origin";
const FIELD: &str = "container-time-at-zero";

/// The container's time of a buffer timestamp; `None` outside of `segment`'s stream time.
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

/// The event that says that stream time zero is `origin_ns` on the container's clock.
#[must_use]
pub fn event(origin_ns: i64) -> gst::Event {
    gst::event::CustomDownstreamSticky::new(gst::Structure::builder(NAME).field(FIELD, origin_ns).build())
}

/// The container's time at stream time zero, if `event` tells it.
#[must_use]
pub fn from_event(event: &gst::EventRef) -> Option<i64> {
    event.structure().filter(|structure| structure.name() == NAME)?.get(FIELD).ok()
}
