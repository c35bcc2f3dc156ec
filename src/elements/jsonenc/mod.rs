//! `vxjsonenc`: one line of JSON for each frame.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! vxkeyframedec ! vxyolodetect ! vxjsonenc ! filesink location=clip.jsonl
//! ```

mod imp;

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// Turns the detections on each frame into a line of JSON.
    pub struct JsonEnc(ObjectSubclass<imp::JsonEnc>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Registers the element.
///
/// # Errors
/// When GStreamer refuses the name.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "vxjsonenc", gst::Rank::NONE, JsonEnc::static_type())
}
