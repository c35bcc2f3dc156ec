// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pad templates of elements whose pads always exist.

fn template(name: &str, direction: gst::PadDirection, caps: &gst::Caps) -> gst::PadTemplate {
    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps).expect("name, direction and caps are valid")
}

/// Returns the template of a pad `src`.
pub fn src(caps: &gst::Caps) -> gst::PadTemplate {
    template("src", gst::PadDirection::Src, caps)
}

/// Returns the templates of a pad `sink` and a pad `src`.
pub fn sink_and_src(sink_caps: &gst::Caps, src_caps: &gst::Caps) -> Vec<gst::PadTemplate> {
    vec![template("sink", gst::PadDirection::Sink, sink_caps), src(src_caps)]
}
