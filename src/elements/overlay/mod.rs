// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vxoverlay`: draws the detections in the metas of frames into the frames.

mod frame;
mod imp;
mod settings;

/**
 * SECTION:element-vxoverlay
 *
 * Draws the detections in the metas of frames into the frames, whichever element wrote them: boxes, rotated boxes, masks, keypoints,
 * labels. It draws in the frame's own format, without a conversion, and copies a frame only if another element holds it too. Frames
 * without detections pass unchanged. With `redact` the objects of some classes are pixelated.
 *
 * ## Example launch line
 *
 * ```bash
 * gst-launch-1.0 -q filesrc location=examples/media/scenes.mp4 ! vxkeyframedec ! vxyolodetect ! vxoverlay ! jpegenc ! multifilesink location=overlay-%03d.jpg
 * ```
 *
 * Writes the keyframes of a file as pictures with boxes and labels.
 *
 * ```bash
 * gst-launch-1.0 -q filesrc location=examples/media/scenes.mp4 ! vxkeyframedec ! vxyolodetect ! vxoverlay redact=person draw-boxes=false draw-labels=false draw-confidence=false ! jpegenc ! multifilesink location=redacted-%03d.jpg
 * ```
 *
 * Writes them with persons pixelated.
 *
 * Since: 0.1
 */
use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// Draws the detections in the metas of frames into the frames.
    pub struct Overlay(ObjectSubclass<imp::Overlay>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Registers the element.
///
/// # Errors
/// When GStreamer rejects the name.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), imp::FACTORY, gst::Rank::NONE, Overlay::static_type())
}
