//! `vxkeyframedec`: a byte stream in, decoded keyframes out.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! vxkeyframedec ! videoconvert ! jpegenc ! multifilesink location=%03d.jpg
//! ```

mod errors;
mod formats;
mod imp;
mod output;
mod pull;
mod push;
mod queue;
mod seeked;
mod seeking;
mod settings;
mod streaming;

use gst::glib;
use gst::prelude::*;

pub use settings::{Orientation, ThreadType};

glib::wrapper! {
    /// Reads a media file of any kind that FFmpeg knows and puts out its keyframes, decoded.
    pub struct KeyframeDec(ObjectSubclass<imp::KeyframeDec>) @extends gst::Element, gst::Object;
}

/// Registers the element.
///
/// # Errors
/// When GStreamer refuses the name.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "vxkeyframedec", gst::Rank::NONE, KeyframeDec::static_type())
}
