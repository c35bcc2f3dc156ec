// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots of the elements: names, pads and properties. A change here is a change for users.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::fmt::Write;

use gst::prelude::*;

fn describe(factory: &str) -> String {
    common::init();
    let element = gst::ElementFactory::make(factory).build().unwrap();
    let factory = element.factory().unwrap();
    let mut text = String::new();
    for key in ["long-name", "klass", "description"] {
        writeln!(text, "{key}: {}", factory.metadata(key).unwrap_or_default()).unwrap();
    }
    writeln!(text, "rank: {:?}", factory.rank()).unwrap();
    for pad in element.pad_template_list() {
        let caps = if *pad.caps() == gst_video::VideoCapsBuilder::new().build() {
            "video/x-raw in all formats".into()
        } else {
            // Available since GStreamer 1.24.
            pad.caps().to_string().replace("GRAY10_LE16, ", "")
        };
        writeln!(text, "pad {}: {:?}, {:?}, {caps}", pad.name_template(), pad.direction(), pad.presence()).unwrap();
    }
    for property in element.list_properties() {
        if property.owner_type() != element.type_() {
            continue;
        }
        let flags = property.flags();
        let access = if flags.contains(gst::glib::ParamFlags::WRITABLE) { "" } else { " (read only)" };
        write!(text, "{}: {}{access}", property.name(), property.value_type()).unwrap();
        if flags.contains(gst::glib::ParamFlags::WRITABLE) {
            let default = property.default_value().transform::<String>().ok();
            let mut default = default.and_then(|value| value.get::<Option<String>>().unwrap()).unwrap_or_default();
            if cfg!(feature = "analytics") && property.name() == "meta" {
                // The snapshot has the default of builds for older GStreamer releases.
                default = "GstVideoRegionOfInterestMeta".into();
            }
            write!(text, " = {default:?}").unwrap();
        }
        writeln!(text, "\n    {}", property.blurb().unwrap_or_default()).unwrap();
    }
    text
}

#[test]
fn vxkeyframedec() {
    insta::assert_snapshot!(describe("vxkeyframedec"));
}

#[test]
fn vxyolodetect() {
    insta::assert_snapshot!(describe("vxyolodetect"));
}

#[test]
fn vxjsonenc() {
    insta::assert_snapshot!(describe("vxjsonenc"));
}

#[test]
fn vxbulkbin() {
    insta::assert_snapshot!(describe("vxbulkbin"));
}

#[test]
fn vxoverlay() {
    insta::assert_snapshot!(describe("vxoverlay"));
}
