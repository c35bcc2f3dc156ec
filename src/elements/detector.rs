// SPDX-License-Identifier: MIT OR Apache-2.0
//! Information about the detector, sent downstream.
//!
//! `vxyolodetect` announces its model and its provider in a sticky event; `vxjsonenc` writes them into its header line.

const NAME: &str = "vx-detector";

/// Name of the details structure of warnings about the model, which concern every result.
pub const MODEL_DETAILS: &str = "vx-model";

/// A detector's model, provider and classes.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Detector {
    /// File name of the model.
    pub model: String,
    /// Layout of its output.
    pub layout: String,
    /// Its task.
    pub task: String,
    /// ONNX Runtime's name of the execution provider.
    pub provider: String,
    /// Kind of device.
    pub device: String,
    /// Number format of the arithmetic.
    pub precision: String,
    /// Why another provider than the preferred one is used; null if it is the preferred one.
    pub fallback: Option<String>,
    /// Names of all its classes, by index; empty where the model does not state how many it has.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Keypoints of each object; 0 for models without.
    #[serde(default)]
    pub keypoints: u32,
}

/// Creates the event for `detector`.
#[must_use]
pub fn event(detector: &Detector) -> gst::Event {
    let structure = gst::Structure::builder(NAME)
        .field("model", &detector.model)
        .field("layout", &detector.layout)
        .field("task", &detector.task)
        .field("provider", &detector.provider)
        .field("device", &detector.device)
        .field("precision", &detector.precision)
        .field("fallback", &detector.fallback)
        .field("classes", gst::Array::new(&detector.classes))
        .field("keypoints", detector.keypoints);
    gst::event::CustomDownstreamSticky::new(structure.build())
}

/// Returns the detector in `event`, if it is such an event.
#[must_use]
pub fn from_event(event: &gst::EventRef) -> Option<Detector> {
    let structure = event.structure().filter(|structure| structure.name() == NAME)?;
    let text = |field: &str| structure.get::<Option<String>>(field).ok().flatten();
    let required = |field: &str| text(field).unwrap_or_default();
    Some(Detector {
        model: required("model"),
        layout: required("layout"),
        task: required("task"),
        provider: required("provider"),
        device: required("device"),
        precision: required("precision"),
        fallback: text("fallback"),
        classes: structure
            .get::<gst::Array>("classes")
            .map(|classes| classes.iter().filter_map(|name| name.get().ok()).collect())
            .unwrap_or_default(),
        keypoints: structure.get("keypoints").unwrap_or(0),
    })
}
