// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vxyolodetect`: frames in, the same frames with detections out.

mod engine;
mod enums;
mod frame;
mod frame_selection;
mod imp;
mod messages;
mod pacing;
mod queue;
mod settings;
mod streaming;

/**
 * SECTION:element-vxyolodetect
 *
 * Runs a YOLO model (or another detector) in ONNX format on frames and attaches its detections as metas. Pixels are not changed.
 * Elements with the same model and settings share one engine in the process. Without `model-file` a built-in person detector is used.
 *
 * ## Example launch line
 *
 * ```bash
 * gst-launch-1.0 -q filesrc location=examples/media/scenes.mp4 ! vxkeyframedec ! vxyolodetect ! vxjsonenc ! fdsink
 * ```
 *
 * Prints the people on the keyframes of a file.
 *
 * ```bash
 * gst-launch-1.0 -q filesrc location=examples/media/scenes.mp4 ! vxkeyframedec ! vxyolodetect confidence-threshold=0.5 region-of-interest=0,0,0.5,1 ! vxjsonenc ! fdsink
 * ```
 *
 * Runs inference only on the left half of the frames.
 *
 * ```bash
 * gst-launch-1.0 -q videotestsrc is-live=true num-buffers=20 ! vxyolodetect when-late=drop ! vxjsonenc ! fdsink
 * ```
 *
 * Runs inference on the newest frames of a live source, and drops those that the model has no time for.
 *
 * Since: 0.1
 */
use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// Runs a YOLO model on frames and attaches its detections as metas.
    pub struct YoloDetect(ObjectSubclass<imp::YoloDetect>) @extends gst::Element, gst::Object;
}

/// Registers the element.
///
/// # Errors
/// When GStreamer rejects the name.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), imp::FACTORY, gst::Rank::NONE, YoloDetect::static_type())
}

/// Creates the properties called `names`, for a bin that forwards them: a `ParamSpec` belongs to one class. None of them may change
/// while the bin runs.
pub(super) fn forwarded_properties(names: &[&str]) -> Vec<glib::ParamSpec> {
    let mut properties = settings::param_specs(gst::PARAM_FLAG_MUTABLE_READY, glib::ParamFlags::empty());
    properties.retain(|property| names.contains(&property.name()));
    properties
}

/// What an element has loaded in READY.
pub struct Loaded {
    /// The engine.
    pub engine: crate::detect::Engine,
    /// Names of the classes.
    pub labels: std::sync::Arc<crate::detect::Labels>,
    /// What counts as a detection, by the element's properties.
    pub settings: std::sync::Arc<crate::detect::DetectSettings>,
}

impl YoloDetect {
    /// Returns the engine that the element has loaded, to run it on other frames as well; `None` below READY.
    #[must_use]
    pub fn loaded(&self) -> Option<Loaded> {
        use gst::subclass::prelude::*;
        let ready = self.imp().ready.lock();
        ready.as_ref().map(|ready| Loaded {
            engine: ready.engine.clone(),
            labels: std::sync::Arc::clone(&ready.labels),
            settings: std::sync::Arc::clone(&ready.detect),
        })
    }

    /// Describes ONNX Runtime's version and the providers that the element's settings would try. Loads ONNX Runtime, as
    /// the element does in READY, but no model.
    ///
    /// # Errors
    /// When ONNX Runtime, the model or the provider is missing.
    pub fn candidates(&self) -> Result<String, crate::detect::Error> {
        use gst::subclass::prelude::*;
        let settings = std::sync::Arc::clone(&self.imp().settings.lock());
        engine::candidates(&settings)
    }

    /// Whether both elements are in READY, or beyond, with the same engine: the same content of a model, run in the same way.
    pub fn shares_engine_with(&self, other: &Self) -> bool {
        use gst::subclass::prelude::*;
        let [own, others] = [self, other].map(|element| element.imp().engine());
        own.is_some_and(|own| others.is_some_and(|others| own.is_same(&others)))
    }
}
