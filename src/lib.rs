// SPDX-License-Identifier: MIT OR Apache-2.0
//! GStreamer plugin that extracts keyframes from video files and detects objects in them.
//!
//! Layers, lowest first: [`av`] over FFmpeg, [`detect`] over ONNX Runtime, [`meta`] between detections and GstMeta, [`draw`] for
//! detections in pictures, [`record`] for the JSON lines, [`elements`] for GStreamer, [`run`] for many files. [`memory`], [`exit`] and [`path`] serve all of them: memory
//! budgets, the end of the process, names of files.

pub mod av;
pub mod detect;
pub mod draw;
pub mod elements;
pub mod exit;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod memory;
pub mod meta;
pub mod path;
pub mod record;
pub mod run;

/// Registers the elements and the tracer and does nothing else: a failure here would make GStreamer blacklist the plugin.
fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    elements::keyframedec::register(plugin)?;
    elements::yolodetect::register(plugin)?;
    elements::overlay::register(plugin)?;
    elements::jsonenc::register(plugin)?;
    elements::bulkbin::register(plugin)?;
    elements::latency::register(plugin)
}

gst::plugin_define!(
    vx,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("BUILD_REL_DATE")
);
