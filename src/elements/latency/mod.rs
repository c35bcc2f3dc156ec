// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vxlatency`: a tracer that reports the latency of each stage.

mod imp;

/**
 * SECTION:tracer-vxlatency
 *
 * Logs the median, the 95th and the 99th percentile of the time of each stage, when a pipeline with elements of this plugin stops.
 *
 * ## Example launch line
 *
 * ```bash
 * GST_TRACERS=vxlatency gst-launch-1.0 filesrc location=examples/media/scenes.mp4 ! vxkeyframedec ! vxyolodetect ! fakesink
 * ```
 *
 * The table is logged in the category `vxlatency` at level INFO, which the tracer enables.
 *
 * Since: 0.1
 */
use gst::glib;
use gst::prelude::*;

/// Name of the tracer, as in `GST_TRACERS`.
const NAME: &str = "vxlatency";

glib::wrapper! {
    /// Reports the latency of each stage.
    pub struct Latency(ObjectSubclass<imp::Latency>) @extends gst::Tracer, gst::Object;
}

/// Registers the tracer.
///
/// # Errors
/// When GStreamer rejects the name.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Tracer::register(Some(plugin), NAME, Latency::static_type())
}

/// Creates the tracer if `GST_TRACERS` names it, for programs that register the plugin after GStreamer has read that variable.
pub(crate) fn start_if_requested() {
    let is_requested = |tracers: String| {
        let names = tracers.split(';').map(|tracer| tracer.split('(').next().unwrap_or(tracer).trim());
        names.into_iter().any(|name| name == NAME)
    };
    if std::env::var("GST_TRACERS").is_ok_and(is_requested) && !imp::is_active() {
        // Tracers exist until the process ends.
        std::mem::forget(glib::Object::new::<Latency>());
    }
}
