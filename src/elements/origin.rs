//! The container's own clock, handed downstream.
//!
//! Stream time starts at zero with the file; a container's timestamps may start anywhere, below zero too, which a
//! GstBuffer cannot express. `vxkeyframedec` says by a sticky event how far the two lie apart, and `vxjsonenc` adds it,
//! so that `pts_ns` is what ffprobe calls `pts_time`.

const NAME: &str = "vx-origin";
const FIELD: &str = "container-time-at-zero";

/// The event that says that stream time zero is `origin_ns` on the container's clock.
pub fn event(origin_ns: i64) -> gst::Event {
    gst::event::CustomDownstreamSticky::new(gst::Structure::builder(NAME).field(FIELD, origin_ns).build())
}

/// The container's time at stream time zero, if `event` tells it.
pub fn from_event(event: &gst::EventRef) -> Option<i64> {
    event.structure().filter(|structure| structure.name() == NAME)?.get(FIELD).ok()
}
