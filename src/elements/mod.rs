//! The GStreamer elements: pads, events, properties, messages. What they do lives in the layers below.

#![forbid(unsafe_code)]

pub mod bulkbin;
pub mod detector;
pub mod jsonenc;
pub mod keyframedec;
mod layout;
mod log;
pub mod origin;
pub mod places;
mod refusal;
mod startup;
mod upstream;
pub mod yolodetect;

use gst::prelude::*;

/// The pipeline around `element`, or whatever bin is outermost.
fn top_level(element: &impl IsA<gst::Element>) -> gst::Element {
    let mut top = element.clone().upcast::<gst::Element>();
    while let Some(parent) = top.parent().and_downcast::<gst::Element>() {
        top = parent;
    }
    top
}
