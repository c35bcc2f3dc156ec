// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vxjsonenc`: one line of JSON for each frame.

mod imp;

/**
 * SECTION:element-vxjsonenc
 *
 * Writes one JSON line per frame with its time, its size and the detections in its metas, whatever element attached them.
 *
 * ## Example launch line
 *
 * ```bash
 * gst-launch-1.0 filesrc location=examples/media/scenes.mp4 ! vxkeyframedec ! vxyolodetect ! vxjsonenc header=true ! filesink location=scenes.jsonl
 * ```
 *
 * Writes the detections of a file to scenes.jsonl, after a header line with model and provider.
 *
 * Since: 0.1
 */
use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// Writes one JSON line per frame with its detections.
    pub struct JsonEnc(ObjectSubclass<imp::JsonEnc>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Registers the element.
///
/// # Errors
/// When GStreamer rejects the name.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "vxjsonenc", gst::Rank::NONE, JsonEnc::static_type())
}
