// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests GstAnalyticsRelationMeta: GStreamer's own elements read the metas of `vxyolodetect`. Only in builds for GStreamer 1.24 or
//! newer.

#![cfg(feature = "analytics")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::collections::BTreeSet;

use common::{clip, init, pixels, quoted, root, run, scratch};
use gst_analytics::prelude::*;
use gst_analytics::{
    AnalyticsClassificationMtd, AnalyticsODMtd, AnalyticsRelationMeta, AnalyticsTrackingMtd, RelTypes,
};

const DETECT: &str = "vxkeyframedec ! vxyolodetect execution-provider=cpu";

/// Returns whether this GStreamer has all of `elements`; prints those that it lacks.
fn has_elements(elements: &[&str]) -> bool {
    init();
    let missing: Vec<_> = elements.iter().filter(|name| gst::ElementFactory::find(name).is_none()).collect();
    if !missing.is_empty() {
        println!("skipped: this GStreamer has no {missing:?}");
    }
    missing.is_empty()
}

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
    if !has_elements(&["objectdetectionoverlay"]) {
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

/// GStreamer's own inference runs an SSD with one box in every frame, and its decoder writes the metas.
#[test]
fn detections_of_onnxinference_are_written_and_drawn() {
    if !has_elements(&["onnxinference", "ssdobjectdetector"]) {
        return;
    }
    let labels = scratch("labels.txt");
    std::fs::write(&labels, "background\nperson\nbicycle\ncar\n").unwrap();
    let model = root().join("tests/models/tensorflow.onnx");
    let frames = "videotestsrc num-buffers=2 pattern=black ! video/x-raw,format=RGB,width=64,height=64,framerate=1/1";
    let infer = format!("{frames} ! onnxinference model-file={} ! ssdobjectdetector", quoted(&model));
    for (label_file, label) in [(format!("label-file={}", quoted(&labels)), "car"), (String::new(), "")] {
        let lines = run(&format!("{infer} {label_file} ! vxjsonenc")).json();
        assert_eq!(lines.len(), 2);
        for line in &lines {
            let detection = &line["detections"][0];
            assert_eq!(line["detections"].as_array().unwrap().len(), 1, "{line}");
            assert_eq!(detection["label"], label, "{line}");
            assert_eq!(detection["confidence"], 0.75, "{line}");
            assert_eq!(detection["box"], serde_json::json!([16.0, 8.0, 32.0, 32.0]), "{line}");
        }
        let drawn = run(&format!("{infer} {label_file} ! vxoverlay"));
        let plain = run(frames);
        assert_eq!(drawn.samples.len(), 2);
        for (drawn, plain) in drawn.samples.iter().zip(&plain.samples) {
            assert!(pixels(drawn) != pixels(plain));
        }
    }
}

/// Returns the tracks on each frame that have a detection there, as pairs of the track's id and the left edge of the box.
fn tracks(launch: &str) -> Vec<Vec<(u64, i32)>> {
    let outcome = run(launch);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let of_frame = |sample: &gst::Sample| {
        let Some(meta) = sample.buffer().unwrap().meta::<AnalyticsRelationMeta>() else { return Vec::new() };
        let found = meta.iter::<AnalyticsODMtd>().flat_map(|entry| {
            let left = entry.location().unwrap().x;
            let tracks = meta.iter_direct_related::<AnalyticsTrackingMtd>(entry.id(), RelTypes::RELATE_TO);
            tracks.map(|track| (track.info().0, left)).collect::<Vec<_>>()
        });
        found.collect()
    };
    outcome.samples.iter().map(of_frame).collect()
}

/// Every frame of the clip's first scene has the same person.
#[test]
fn a_tracker_gives_an_object_the_same_id_in_every_frame() {
    if !has_elements(&["ioutracker"]) {
        return;
    }
    let file = quoted(&clip());
    let detect = "vxyolodetect execution-provider=cpu";
    let every_frame = format!("filesrc location={file} ! vxkeyframedec max-gap=40000000 max-frames=40");
    // Each frame of a file, and those that the detector has time for at the pace of a camera.
    for (pace, fewest) in
        [(format!("{detect} meta=both"), 36), (format!("identity sync=true ! {detect} when-late=drop"), 2)]
    {
        let frames = tracks(&format!("{every_frame} ! {pace} ! ioutracker"));
        let with_track = frames.iter().filter(|found| !found.is_empty()).count();
        assert!(with_track >= fewest, "{pace}: {frames:?}");
        let ids: BTreeSet<_> = frames.iter().flatten().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), 1, "{pace}: {frames:?}");
    }
    // The tracker does not see the region-of-interest metas.
    assert!(tracks(&format!("{every_frame} ! {detect} meta=roi ! ioutracker")).iter().all(Vec::is_empty));
}
