// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests GstAnalyticsRelationMeta: GStreamer's own elements read the metas of `vxyolodetect`. Only in builds for GStreamer 1.24 or
//! newer.

#![cfg(feature = "analytics")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{clip, pixels, quoted, run};
use gst_analytics::prelude::*;
use gst_analytics::{AnalyticsClassificationMtd, AnalyticsODMtd, AnalyticsRelationMeta, RelTypes};

const DETECT: &str = "vxkeyframedec ! vxyolodetect execution-provider=cpu";

#[test]
fn every_detection_is_an_entry_with_a_related_class() {
    let file = quoted(&clip());
    let lines = run(&format!("filesrc location={file} ! {DETECT} meta=roi ! vxjsonenc")).json();
    let outcome = run(&format!("filesrc location={file} ! {DETECT}"));
    assert_eq!(outcome.samples.len(), lines.len());
    let mut count = 0;
    for (sample, line) in outcome.samples.iter().zip(&lines) {
        let buffer = sample.buffer().unwrap();
        let detections = line["detections"].as_array().unwrap();
        // Present on every analysed frame: an empty meta means that there are no detections.
        let meta = buffer.meta::<AnalyticsRelationMeta>().unwrap();
        let entries: Vec<_> = meta.iter::<AnalyticsODMtd>().collect();
        assert_eq!(entries.len(), detections.len());
        for (entry, detection) in entries.iter().zip(detections) {
            let place = entry.location().unwrap();
            let ours = [place.x, place.y, place.w, place.h].map(f64::from);
            let expected: Vec<f64> = serde_json::from_value(detection["box"].clone()).unwrap();
            assert!(ours.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1.0), "{ours:?} {expected:?}");
            assert!((f64::from(place.loc_conf_lvl) - detection["confidence"].as_f64().unwrap()).abs() < 1e-3);
            assert_eq!(entry.obj_type().unwrap().as_str(), "person");
            let classes: Vec<_> =
                meta.iter_direct_related::<AnalyticsClassificationMtd>(entry.id(), RelTypes::RELATE_TO).collect();
            assert_eq!(classes.len(), 1);
            assert_eq!(classes[0].quark(0).as_str(), "person");
            count += 1;
        }
    }
    assert!(count > 5);
}

#[test]
fn json_lines_are_written_from_either_meta() {
    let file = quoted(&clip());
    let of = |kind: &str| run(&format!("filesrc location={file} ! {DETECT} meta={kind} ! vxjsonenc")).json();
    for (roi, analytics) in of("roi").iter().zip(&of("analytics")) {
        let count = |line: &serde_json::Value| line["detections"].as_array().unwrap().len();
        assert_eq!(count(roi), count(analytics));
        assert!(count(roi) == 0 || analytics["detections"][0]["label"] == "person");
    }
    assert_eq!(of("both"), of("roi"));
}

/// An element that drops the metas does not make detections disappear silently.
#[test]
fn dropped_detections_are_counted_with_either_meta() {
    let file = quoted(&clip());
    for kind in ["roi", "analytics", "both"] {
        let detect = format!("filesrc location={file} ! {DETECT} meta={kind}");
        let whole = run(&format!("{detect} ! vxjsonenc")).json();
        let cropped = run(&format!("{detect} ! videocrop left=40 ! vxjsonenc")).json();
        let count = |line: &serde_json::Value| line["detections"].as_array().unwrap().len();
        assert!(whole.iter().map(count).sum::<usize>() > 5);
        for (whole, cropped) in whole.iter().zip(&cropped) {
            assert_eq!(
                count(cropped) + cropped["lost"].as_u64().unwrap_or(0) as usize,
                count(whole),
                "{kind}: {cropped}"
            );
        }
    }
}

#[test]
fn vxoverlay_draws_from_either_meta() {
    let file = quoted(&clip());
    let frames = |launch: &str| -> Vec<Vec<u8>> {
        run(&format!("filesrc location={file} ! {DETECT} {launch}")).samples.iter().map(pixels).collect()
    };
    let plain = frames("");
    let drawn = |kind: &str| -> Vec<bool> {
        let frames = frames(&format!("meta={kind} ! vxoverlay"));
        plain.iter().zip(&frames).map(|(plain, drawn)| plain != drawn).collect()
    };
    assert!(drawn("roi").contains(&true) && drawn("roi").contains(&false));
    assert_eq!(drawn("analytics"), drawn("roi"));
}

#[test]
fn the_gstreamer_overlay_draws_boxes_correctly_after_scaling() {
    if gst::init().is_ok() && gst::ElementFactory::find("objectdetectionoverlay").is_none() {
        println!("skipped: objectdetectionoverlay (gst-plugins-bad) is not there");
        return;
    }
    let file = quoted(&clip());
    for scale in ["", "videoscale ! video/x-raw,width=320,height=240 !"] {
        let convert = "videoconvert ! video/x-raw,format=BGRx !";
        let plain = run(&format!("filesrc location={file} ! {DETECT} ! {scale} {convert} identity"));
        let drawn = run(&format!("filesrc location={file} ! {DETECT} ! {scale} {convert} objectdetectionoverlay"));
        let lines = run(&format!("filesrc location={file} ! {DETECT} ! vxjsonenc")).json();
        assert_eq!(plain.samples.len(), drawn.samples.len());
        let mut boxes = 0;
        for ((plain, drawn), line) in plain.samples.iter().zip(&drawn.samples).zip(&lines) {
            let has_any = !line["detections"].as_array().unwrap().is_empty();
            assert_eq!(pixels(plain) != pixels(drawn), has_any, "with \"{scale}\" at {}", line["pts_ns"]);
            boxes += usize::from(has_any);
        }
        assert!(boxes > 3);
    }
}
