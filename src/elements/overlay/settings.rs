// SPDX-License-Identifier: MIT OR Apache-2.0
//! The properties of `vxoverlay`: the style of the drawing.

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use crate::draw::Style;

/// Largest `thickness` and `font-size`.
const MAX_PIXELS: u32 = 512;

/// Sets a property.
pub fn set(style: &mut Style, name: &str, value: &glib::Value) {
    let fits = "GObject has checked the value against the property's type";
    let text = || value.get::<Option<String>>().expect(fits).unwrap_or_default();
    match name {
        "thickness" => style.thickness = value.get().expect(fits),
        "font-size" => style.font_size = value.get().expect(fits),
        "opacity" => style.opacity = value.get().expect(fits),
        "labels" => style.classes = text().into(),
        "draw-boxes" => style.boxes = value.get().expect(fits),
        "draw-masks" => style.masks = value.get().expect(fits),
        "draw-keypoints" => style.keypoints = value.get().expect(fits),
        "draw-labels" => style.labels = value.get().expect(fits),
        "draw-confidence" => style.confidence = value.get().expect(fits),
        "redact" => style.redact = text().into(),
        _ => unreachable!("GObject passes on only properties of the list below"),
    }
}

/// Returns a property's value.
pub fn get(style: &Style, name: &str) -> glib::Value {
    match name {
        "thickness" => style.thickness.to_value(),
        "font-size" => style.font_size.to_value(),
        "opacity" => style.opacity.to_value(),
        "labels" => style.classes.as_str().to_value(),
        "draw-boxes" => style.boxes.to_value(),
        "draw-masks" => style.masks.to_value(),
        "draw-keypoints" => style.keypoints.to_value(),
        "draw-labels" => style.labels.to_value(),
        "draw-confidence" => style.confidence.to_value(),
        "redact" => style.redact.as_str().to_value(),
        _ => unreachable!("GObject asks only for properties of the list below"),
    }
}

/// The properties. All of them may change at any time.
pub static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let defaults = Style::default();
    let live = glib::ParamFlags::READWRITE | gst::PARAM_FLAG_MUTABLE_PLAYING;
    let controllable = live | gst::PARAM_FLAG_CONTROLLABLE;
    let pixels = |name, nick, blurb| {
        let spec = glib::ParamSpecUInt::builder(name).nick(nick).blurb(blurb);
        spec.maximum(MAX_PIXELS).flags(controllable).build()
    };
    let text = |name, nick, blurb| glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).flags(live).build();
    let switch = |name, nick, blurb, default| {
        let spec = glib::ParamSpecBoolean::builder(name).nick(nick).blurb(blurb);
        spec.default_value(default).flags(controllable).build()
    };
    vec![
        pixels(
            "thickness",
            "Thickness",
            "Width of lines in pixels (0 = automatic: grows with the frame, 3 for full HD, at least 2)",
        ),
        pixels(
            "font-size",
            "Font size",
            "Height of letters in pixels (0 = automatic: grows with the frame, 20 for full HD, at least 11)",
        ),
        glib::ParamSpecDouble::builder("opacity")
            .nick("Opacity")
            .blurb("Opacity of everything that is drawn; masks have half of it. Redaction is always opaque")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(defaults.opacity)
            .flags(controllable)
            .build(),
        text(
            "labels",
            "Labels",
            "Classes to draw: names or numbers, separated by commas (default: all). Names that no detection has draw nothing",
        ),
        switch("draw-boxes", "Draw boxes", "Draw boxes and rotated boxes", defaults.boxes),
        switch("draw-masks", "Draw masks", "Tint the pixels of masks", defaults.masks),
        switch(
            "draw-keypoints",
            "Draw keypoints",
            "Draw keypoints, connected if they are the 17 of a person in COCO's order",
            defaults.keypoints,
        ),
        switch("draw-labels", "Draw labels", "Write the names of classes", defaults.labels),
        switch("draw-confidence", "Draw confidence", "Write confidences", defaults.confidence),
        text(
            "redact",
            "Redact",
            "Classes whose objects are pixelated: names or numbers, separated by commas, * for all (default: none). Independent of labels",
        ),
    ]
});
