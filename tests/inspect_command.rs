// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests the command `vx inspect`: media files, models, and other files.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{clip, made, scratch};
use serde_json::Value;

fn inspect(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vx")).arg("inspect").args(arguments).output().unwrap()
}

fn json(file: &Path) -> Value {
    let output = inspect(&["--json", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn media_files_are_printed_with_keyframes_and_the_bytes_to_read() {
    let source = clip();
    // A keyframe every two seconds, with much data between them.
    let long = made(
        "inspected.mkv",
        &["-i", source.to_str().unwrap(), "-an", "-vf", "scale=320:-2", "-g", "50", "-sc_threshold", "0", "-t", "10"],
    );
    for (file, keyframes, spacing, turned) in [(&source, 16, 1.0, false), (&long, 5, 2.0, false)] {
        let found = json(file);
        assert_eq!((&found["keyframes"], &found["turned"]), (&keyframes.into(), &turned.into()), "{found}");
        assert_eq!(found["spacing_seconds"], serde_json::json!([spacing, spacing, spacing]), "{found}");
        let number = |field: &str| found[field].as_u64().unwrap();
        assert_eq!(number("bytes"), std::fs::metadata(file).unwrap().len());
        assert!(number("keyframe_bytes") < number("bytes_read") && number("bytes_read") < number("bytes"), "{found}");
    }
    let output = inspect(&[source.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("640x480 yuv420p") && text.contains("16, every 1.00 s (1.00 to 1.00)"), "{text}");
}

#[test]
fn models_are_printed_with_their_layout() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/person-320.onnx");
    let found = json(&model);
    assert_eq!((&found["layout"], &found["task"]), (&"v8".into(), &"detect".into()), "{found}");
    assert_eq!(found["classes"], serde_json::json!(["person"]));
    assert_eq!(found["inputs"], serde_json::json!(["images f32 [batch, 3, 320, 320]"]));
    assert!(found["frames"].as_str().unwrap().starts_with("320x320, in the middle"), "{found}");
}

#[test]
fn models_are_printed_with_the_evidence_for_their_layout_and_the_alternatives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let found = json(&folder.join("nms_detect.onnx"));
    let evidence = found["evidence"].to_string();
    assert!(evidence.contains("author = Ultralytics") && evidence.contains("names 10 classes"), "{found}");
    assert!(found["reason"].as_str().unwrap().contains("exported with nms"), "{found}");
    assert_eq!((&found["warnings"], &found["alternatives"]), (&serde_json::json!([]), &Value::Null), "{found}");

    let model = folder.join("yolov6.onnx");
    let text = inspect(&[model.to_str().unwrap(), "--try", clip().to_str().unwrap()]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("a trial run on a photograph decided"), "{text}");
    for tried in [
        "    1 detections, best 0.75, mean 0.75  as inferred (v5)",
        "    1 detections, best 0.75, mean 0.75  resize-mode=stretch (v5)",
        "    1 detections, best 0.75, mean 0.75  input-range=0-255 channel-order=bgr (v5)",
        "model-layout=yolox (yolox)",
    ] {
        assert!(text.contains(tried), "{tried}: {text}");
    }
    let nothing = inspect(&[model.to_str().unwrap(), "--try", "/nowhere/a.jpg"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("/nowhere/a.jpg"));
}

#[test]
fn unreadable_files_are_reported_and_the_others_are_printed() {
    let notes = scratch("inspected.mp4");
    std::fs::write(&notes, "no video").unwrap();
    let model = scratch("inspected.onnx");
    std::fs::write(&model, "no model").unwrap();
    let source = clip();
    let names = [&notes, &model, &source].map(|path| path.to_str().unwrap());
    let output = inspect(&[names[0], names[1], "/nowhere/a.mp4", names[2]]);
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
    assert!(out.contains("16, every"), "{out}");
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 3, "{errors}");
    assert!(lines[0].contains("inspected.mp4: not a media file"), "{errors}");
    assert!(lines[1].contains("inspected.onnx"), "{errors}");
    assert!(lines[2].contains("/nowhere/a.mp4: No such file"), "{errors}");
}
