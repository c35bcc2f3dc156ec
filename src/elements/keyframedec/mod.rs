// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vxkeyframedec`: the bytes of a file, or the access units of a stream, in; decoded keyframes out.

mod byte_queue;
mod elementary;
mod errors;
mod formats;
mod imp;
mod output;
mod pull;
mod push;
mod range_source;
mod segment;
mod settings;
mod streaming;
pub mod url;

/// Returns the GStreamer format that is identical to FFmpeg's, if there is one.
#[must_use]
pub fn gst_format(format: crate::av::PixelFormat) -> Option<gst_video::VideoFormat> {
    formats::to_gst(format)
}

/**
 * SECTION:element-vxkeyframedec
 *
 * Decodes the keyframes of any media file that FFmpeg supports. With random access (filesrc) it reads little but keyframes; from a
 * stream (fdsrc, souphttpsrc) it demuxes data as it arrives. Each keyframe is decoded alone, several at once, and output in the
 * decoder's own pixel format, rotated upright.
 *
 * ## Example launch line
 *
 * ```bash
 * gst-launch-1.0 filesrc location=examples/media/scenes.mp4 ! vxkeyframedec ! videoconvert ! jpegenc ! multifilesink location=%03d.jpg
 * ```
 *
 * Saves the keyframes of a file as JPEG images.
 *
 * ```bash
 * gst-launch-1.0 filesrc location=examples/media/scenes.mp4 ! vxkeyframedec min-interval=5000000000 max-frames=3 ! fakesink
 * ```
 *
 * Outputs three keyframes that are at least five seconds apart.
 *
 * It also accepts compressed video in access units, from demuxers, parsers and RTP depayloaders, and then keeps upstream's times:
 *
 * ```bash
 * gst-launch-1.0 -q filesrc location=examples/media/scenes.mp4 ! qtdemux ! rtph264pay ! rtph264depay ! vxkeyframedec ! fakesink
 * ```
 *
 * Decodes the keyframes of an RTP stream.
 *
 * Since: 0.1
 */
use gst::glib;
use gst::prelude::*;

pub use settings::{Orientation, ThreadType};

glib::wrapper! {
    /// Decodes the keyframes of any media file that FFmpeg supports.
    pub struct KeyframeDec(ObjectSubclass<imp::KeyframeDec>) @extends gst::Element, gst::Object;
}

/// Registers the element.
///
/// # Errors
/// When GStreamer rejects the name.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "vxkeyframedec", gst::Rank::NONE, KeyframeDec::static_type())
}
