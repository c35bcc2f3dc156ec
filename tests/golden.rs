// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares keyframes and detections of real files with the results of an independent detector (`tests/golden/README.md`).

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{pipeline, play, quoted, root, shared};
use gst::prelude::*;
use serde::Deserialize;

/// Unmatched detections up to this confidence are ignored: the threshold is 0.25, and rounding moves some detections above it.
const FLOOR: f64 = 0.30;
/// Minimum overlap at which two boxes count as equal.
const SAME: f64 = 0.9;
/// Maximum difference between the confidences of matching detections. Decoders of different FFmpeg releases conceal damage
/// differently, and scaling of 4:4:4 is rounded differently. On most files the confidences agree to four digits.
const TOLERANCE: f64 = 0.05;

#[derive(Deserialize)]
struct Golden {
    file: String,
    /// Sizes of the model's input; not compared where there are none.
    #[serde(default)]
    sizes: Vec<String>,
    frames: Vec<(i64, u32, u32, Vec<Found>)>,
}

/// Label, confidence, x, y, width, height.
#[derive(Deserialize, Debug, Clone, PartialEq)]
struct Found(String, f64, f64, f64, f64, f64);

#[derive(Deserialize)]
struct Line {
    pts_ns: Option<i64>,
    width: u32,
    height: u32,
    detections: Vec<Detection>,
}

#[derive(Deserialize)]
struct Detection {
    label: String,
    confidence: f64,
    #[serde(rename = "box")]
    rectangle: [f64; 4],
}

impl From<Detection> for Found {
    fn from(detection: Detection) -> Self {
        let [x, y, width, height] = detection.rectangle;
        Self(detection.label, detection.confidence, x, y, width, height)
    }
}

fn overlap(a: &Found, b: &Found) -> f64 {
    let across = ((a.2 + a.4).min(b.2 + b.4) - a.2.max(b.2)).max(0.0);
    let down = ((a.3 + a.5).min(b.3 + b.5) - a.3.max(b.3)).max(0.0);
    let both = across * down;
    let either = a.4 * a.5 + b.4 * b.5 - both;
    if either > 0.0 { both / either } else { 0.0 }
}

/// Returns the differences between two lists of detections.
fn differences(golden: &[Found], found: &[Found]) -> Vec<String> {
    let mut rest = found.to_vec();
    let mut differences = Vec::new();
    for expected in golden {
        let best = (0..rest.len()).max_by(|&a, &b| overlap(expected, &rest[a]).total_cmp(&overlap(expected, &rest[b])));
        match best.filter(|&best| rest[best].0 == expected.0 && overlap(expected, &rest[best]) >= SAME) {
            Some(best) => {
                let match_ = rest.swap_remove(best);
                if (match_.1 - expected.1).abs() > TOLERANCE {
                    differences.push(format!("{expected:?} has confidence {}", match_.1));
                }
            }
            None if expected.1 > FLOOR => differences.push(format!("{expected:?} is missing")),
            None => {}
        }
    }
    differences.extend(rest.iter().filter(|found| found.1 > FLOOR).map(|found| format!("{found:?} is too much")));
    differences
}

#[test]
fn keyframes_and_detections_match_an_independent_detector() {
    compare("keyframes.jsonl", "input-size=model");
}

#[test]
fn detections_at_tight_input_sizes_match_an_independent_detector() {
    compare("tight.jsonl", "input-size=auto");
}

/// Compares the detections of all files in a list of golden results.
fn compare(list: &str, settings: &str) {
    let Some(model) = shared("models/yolov8n_fp32_dynamic.onnx") else { return };
    let golden = std::fs::read_to_string(root().join("tests/golden").join(list)).unwrap();
    let mut wrong = Vec::new();
    let mut frames = 0;
    for line in golden.lines() {
        let golden: Golden = serde_json::from_str(line).unwrap();
        let Some(file) = shared(&golden.file) else { continue };
        let detect =
            format!("vxyolodetect name=detect {settings} execution-provider=cpu model-file={}", quoted(&model));
        let (pipeline, sink) =
            pipeline(&format!("filesrc location={} ! vxkeyframedec ! {detect} ! vxjsonenc", quoted(&file)));
        let outcome = play(&pipeline, &sink);
        let stats: gst::Structure = pipeline.by_name("detect").unwrap().property("stats");
        pipeline.set_state(gst::State::Null).unwrap();
        if let Some((error, _)) = &outcome.error {
            let text = error.message();
            // The FFmpeg release decides whether a decoder exists (VVC was added in 7.0).
            if !golden.frames.is_empty() && !text.contains("has no decoder")
                || !text.contains(file.file_name().unwrap().to_str().unwrap())
            {
                wrong.push(format!("{}: {text}", golden.file));
            }
            continue;
        }
        if !golden.sizes.is_empty() {
            let used = stats.get::<String>("input-sizes").unwrap();
            let used: Vec<_> = used.split(", ").filter_map(|size| size.split(": ").next()).collect();
            if used != golden.sizes {
                wrong.push(format!("{}: runs at {used:?}, not at {:?}", golden.file, golden.sizes));
            }
        }
        let found: Vec<Line> = outcome.json().into_iter().map(|line| serde_json::from_value(line).unwrap()).collect();
        frames += found.len();
        let times = |line: &Line| (line.pts_ns.unwrap_or(0), line.width, line.height);
        let found_times: Vec<_> = found.iter().map(times).collect();
        let golden_times: Vec<_> = golden.frames.iter().map(|frame| (frame.0, frame.1, frame.2)).collect();
        if found_times != golden_times {
            wrong.push(format!("{}: frames {found_times:?} are not {golden_times:?}", golden.file));
            continue;
        }
        for (found, golden_frame) in found.into_iter().zip(&golden.frames) {
            let pts = golden_frame.0;
            let found: Vec<Found> = found.detections.into_iter().map(Into::into).collect();
            let differences = differences(&golden_frame.3, &found);
            wrong.extend(differences.iter().map(|text| format!("{} at {pts} ns: {text}", golden.file)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(frames > 0, "no file of the collection is there");
}
