// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sticky event with information about the detector.
//!
//! `vxyolodetect` announces its model and its provider in a sticky event; `vxjsonenc` writes them into its header line.

pub use crate::record::DetectorInfo;

const NAME: &str = "vx-detector";

/// Creates the event for `detector`.
#[must_use]
pub fn event(detector: &DetectorInfo) -> gst::Event {
    let structure = gst::Structure::builder(NAME)
        .field("model", &detector.model)
        .field("layout", &detector.layout)
        .field("task", &detector.task)
        .field("provider", &detector.provider)
        .field("device", &detector.device)
        .field("precision", &detector.precision)
        .field("fallback", &detector.fallback)
        .field("classes", gst::Array::new(&detector.classes))
        .field("keypoints", detector.keypoints)
        .field("input-size", &detector.input_size);
    gst::event::CustomDownstreamSticky::new(structure.build())
}

/// Returns the detector in `event`, if it is such an event.
#[must_use]
pub fn from_event(event: &gst::EventRef) -> Option<DetectorInfo> {
    let structure = event.structure().filter(|structure| structure.name() == NAME)?;
    let text = |field: &str| structure.get::<Option<String>>(field).ok().flatten();
    let required = |field: &str| text(field).unwrap_or_default();
    Some(DetectorInfo {
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
        input_size: required("input-size"),
    })
}
