//! `vxyolodetect`: frames in, the same frames with detections out.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! vxkeyframedec ! vxyolodetect ! vxjsonenc ! filesink location=clip.jsonl
//! ```

mod engine;
mod frame;
mod imp;
mod queue;
mod reading;
mod running;
mod scope;
mod settings;
mod streaming;

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// Runs a YOLO model on frames and puts what it finds on them as metas.
    pub struct YoloDetect(ObjectSubclass<imp::YoloDetect>) @extends gst::Element, gst::Object;
}

/// Registers the element.
///
/// # Errors
/// When GStreamer refuses the name.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), imp::FACTORY, gst::Rank::NONE, YoloDetect::static_type())
}

/// Its properties, for elements that pass some of them on.
pub(super) fn properties() -> &'static [glib::ParamSpec] {
    settings::PROPERTIES.as_ref()
}

impl YoloDetect {
    /// ONNX Runtime's version and the providers that would be tried with the element's settings, in words. Loads ONNX Runtime, as
    /// the element does in READY, but no model.
    ///
    /// # Errors
    /// Where ONNX Runtime, the model or the provider is not there.
    pub fn candidates(&self) -> Result<String, crate::detect::Error> {
        use gst::subclass::prelude::*;
        let settings = std::sync::Arc::clone(&self.imp().settings.lock());
        engine::candidates(&settings)
    }
}
