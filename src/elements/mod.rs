// SPDX-License-Identifier: MIT OR Apache-2.0
//! The GStreamer elements: pads, events, properties, messages. Their logic is in the layers below.

#![forbid(unsafe_code)]

mod buffer_layout;
pub mod bulkbin;
pub mod container_time;
mod controlled;
pub mod detector_event;
pub mod error_details;
mod gst_launch;
mod http;
pub mod jsonenc;
pub mod keyframedec;
pub mod latency;
pub mod library_paths;
mod log;
pub mod overlay;
mod pad_task;
mod pad_templates;
mod property_lock;
mod qos;
pub mod stages;
mod upstream;
mod video_format;
pub mod yolodetect;

use gst::prelude::*;

/// Returns the pipeline of `element`, or its outermost bin.
fn top_level(element: &impl IsA<gst::Element>) -> gst::Element {
    let mut top = element.clone().upcast::<gst::Element>();
    while let Some(parent) = top.parent().and_downcast::<gst::Element>() {
        top = parent;
    }
    top
}
