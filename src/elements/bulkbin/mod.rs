// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vxbulkbin`: many files in parallel lanes, their detections as JSON lines.

mod child_properties;
mod file_queue;
mod imp;
mod lane;
mod list;
mod memory_gate;
mod output;
mod plan;
mod settings;
mod source;
mod summary;
mod supervisor;
mod thread_probe;
mod totals;

/**
 * SECTION:element-vxbulkbin
 *
 * Detects objects on the keyframes of many files. Each lane is `filesrc ! vxkeyframedec ! vxyolodetect ! vxjsonenc`, created once and
 * used for file after file; all lanes share one engine. A file's lines are contiguous and end with its summary. A file that fails
 * does not affect the others.
 *
 * ## Example launch line
 *
 * ```bash
 * gst-launch-1.0 vxbulkbin location='examples/media/scene?.mp4' ! filesink location=detections.jsonl
 * ```
 *
 * Writes the detections of all files that match a pattern to detections.jsonl.
 *
 * Since: 0.1
 */
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

pub use list::read_list;
pub use plan::{LanePlan, PlanInputs};
pub use settings::{DETECTOR_PROPERTIES, OnError, Order};

/// Name of the messages about a file, and of the details of warnings and errors about one.
pub const FILE_MESSAGE: &str = "vx-file";

/// A `file-timeout` limits the time for loading the model as well, but never to less than this: the model serves every file.
pub(crate) const MIN_LOAD_TIMEOUT: Duration = Duration::from_secs(10);

glib::wrapper! {
    /// Detects objects on the keyframes of many files.
    pub struct BulkBin(ObjectSubclass<imp::BulkBin>) @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy;
}

impl BulkBin {
    /// Outputs the lines of each file at once when it has ended, for applications that take whole files. Otherwise the lines of one
    /// file come as they are made, and files that end meanwhile wait for its end. Call it before the element starts.
    pub fn output_whole_files(&self) {
        self.imp().output.set_whole_files();
    }
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "vxbulkbin", gst::Rank::NONE, BulkBin::static_type())
}
