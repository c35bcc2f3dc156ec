//! `vxbulkbin`: many files in parallel lanes, their detections as JSON lines.
//!
//! Each lane is `filesrc ! vxkeyframedec ! vxyolodetect ! vxjsonenc`, made once and used for file after file; all lanes share
//! the sessions of the process. A file's lines come one after the other and end with its summary. A file that fails costs
//! itself.

mod conduct;
mod equipment;
mod imp;
mod lane;
mod output;
mod plan;
mod run;
mod settings;
mod summary;
mod threads;

use gst::glib;
use gst::prelude::*;

pub use plan::{Plan, Situation};
pub use settings::paths_in;

glib::wrapper! {
    /// The element; see the module.
    pub struct BulkBin(ObjectSubclass<imp::BulkBin>) @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "vxbulkbin", gst::Rank::NONE, BulkBin::static_type())
}
