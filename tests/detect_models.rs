// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares real models of every layout with golden results, and tests files that are not detectors.
//!
//! The golden results were computed for the same picture by `../shared/reference/reference.py` (ONNX Runtime 1.31.1, CPU provider).

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod detect_support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use detect_support::{RgbFrame, overlap, runtime, settings, shared};
use gstvx::detect::{
    ChannelOrder, Engine, EngineSpec, Error, Labels, ModelHints, ModelLayout, ModelSource, Provider, ResizeMode,
};

fn open(path: PathBuf) -> Result<Engine, Error> {
    let spec = EngineSpec {
        model: ModelSource::File(path),
        provider: Provider::Cpu,
        sessions: 1,
        intra_op_threads: 2,
        ..EngineSpec::default()
    };
    Engine::acquire(runtime(), &spec)
}

/// Asserts that the stop sign is the only detection, with the box and the confidence of the reference.
fn assert_stop_sign(file: &str, layout: &str, confidence: f32, box_: [f32; 4]) {
    let Some(path) = shared(&format!("models/{file}")) else {
        return;
    };
    let engine = open(path).unwrap();
    assert_eq!(engine.model().layout.name(), layout, "{}", engine.model().layout_reason);
    let (labels, warning) = Labels::resolve(engine.model(), None).unwrap();
    assert_eq!(warning, None);
    let found = engine.submit(RgbFrame::stop_sign(), settings(0.1)).wait().unwrap().detections;
    let [sign] = found.as_slice() else { panic!("{file}: {found:?}") };
    assert_eq!((sign.class_id, &*labels.name(sign.class_id)), (11, "stop sign"));
    let apart = (sign.confidence - confidence).abs();
    assert!(apart < 0.02 && overlap(sign, box_) > 0.97, "{file}: {sign:?}");
}

#[test]
fn v8_with_a_dynamic_batch_detects_the_stop_sign() {
    let golden = [98.46, 28.77, 124.15, 123.93];
    assert_stop_sign("yolov8n_fp32_dynamic.onnx", "v8", 0.9538, golden);
}

#[test]
fn v5_in_half_precision_detects_the_stop_sign() {
    assert_stop_sign("yolov5n_fp16.onnx", "v5", 0.8831, [102.34, 27.06, 119.31, 124.62]);
}

#[test]
fn an_end_to_end_model_detects_the_stop_sign() {
    assert_stop_sign("yolo26n_int8.onnx", "end-to-end", 0.9787, [97.88, 26.7, 122.9, 129.39]);
}

#[test]
fn yolox_detects_the_stop_sign() {
    assert_stop_sign("yolox_nano_416.onnx", "yolox", 0.9383, [101.42, 28.09, 118.4, 124.04]);
}

#[test]
fn v8_quantised_at_320_detects_the_stop_sign() {
    let golden = [98.46, 27.74, 122.62, 125.65];
    assert_stop_sign("yolo11n_320_int8.onnx", "v8", 0.9545, golden);
}

#[test]
fn a_detr_model_with_a_size_input_detects_the_stop_sign() {
    // Quantisation makes all its scores low: the sign has the highest one.
    let Some(path) = shared("models/deimv2_atto_320_int8.onnx") else {
        return;
    };
    let engine = open(path).unwrap();
    assert_eq!(engine.model().layout.name(), "separate", "{}", engine.model().layout_reason);
    let found = engine.submit(RgbFrame::stop_sign(), settings(0.02)).wait().unwrap().detections;
    assert!(!found.is_empty());
}

/// The output formats of families without available weights; tests/models/make_models.py describes their content.
#[test]
fn every_output_format_gives_the_same_box() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let forms = [
        ("detr_sized", "separate"),
        ("detr_shares", "separate"),
        ("detr_logits", "detr"),
        ("rfdetr", "detr"),
        ("detr_softmax", "detr"),
        ("yolo_nas", "per-class"),
        ("yolo_nas_flat", "flat-score-class"),
        ("yolov7_nms", "flat-class-score"),
        ("efficient_nms", "separate"),
        ("torchvision", "separate"),
        ("paddle", "paddle"),
        ("nanodet_plus", "distances"),
        ("picodet", "distances"),
        ("v8_bytes_last", "v8"),
    ];
    for (name, layout) in forms {
        let engine = open(folder.join(name).with_extension("onnx")).unwrap();
        let reason = &engine.model().layout_reason;
        assert_eq!(engine.model().layout.to_string(), layout, "{name}: {reason}");
        let frame = RgbFrame { pixels: Arc::new(vec![90; 3 * 128 * 128]), width: 128, height: 128 };
        for _ in 0..2 {
            let frame = RgbFrame { pixels: frame.pixels.clone(), ..frame };
            let found = engine.submit(Box::new(frame), settings(0.25)).wait().unwrap().detections;
            let [one] = found.as_slice() else { panic!("{name} ({reason}): {found:?}") };
            assert_eq!(one.class_id, 2, "{name}");
            assert!((one.confidence - 0.75).abs() < 1e-3, "{name}: {one:?}");
            assert!(overlap(one, [32.0, 16.0, 64.0, 64.0]) > 0.999, "{name} ({reason}): {one:?}");
        }
    }
}

/// Outputs of current exporters that shapes alone cannot distinguish. Each model detects the one box, with class 2 unless stated
/// otherwise. tests/models/make_models.py describes their content.
#[test]
fn every_family_is_recognised_by_its_evidence() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let families = [
        ("nms_detect", "end-to-end", 2),
        ("end_to_end_unnamed", "end-to-end", 2),
        ("ultralytics_rtdetr", "rtdetr", 2),
        ("ultralytics_rtdetr_two", "rtdetr", 1),
        ("hf_detr", "detr", 2),
        ("hf_table", "detr", 1),
        ("hf_rtdetr", "detr", 2),
        ("paddle_rtdetr", "paddle", 2),
        ("paddle_yoloe", "paddle", 2),
        ("paddle_uncounted", "paddle", 2),
        ("deepstream", "deepstream", 2),
        ("deepstream_first", "separate", 2),
        ("tensorflow", "tensorflow", 2),
        ("tflite_postprocess", "tensorflow", 2),
        ("yolov6", "v5", 2),
        ("yolox_decoded", "v5", 2),
        ("mmdeploy", "mmdeploy", 2),
        ("two_heads", "v8", 2),
        ("maps_beside", "v8", 2),
        ("grey", "v8", 2),
        ("v8_shares", "v8", 2),
        ("v5_shares", "v5", 2),
        ("double", "v8", 2),
        ("v8_raw", "v8-raw", 2),
        ("v8_rockchip", "v8-raw", 2),
        ("v5_raw", "anchors-raw", 2),
        ("v5_planes", "anchors-raw", 2),
        ("yolov4_zoo", "anchors-raw", 2),
        ("yolov4_torch", "yolov4", 2),
        ("yolov3_zoo", "yolov3", 2),
        ("damo_yolo", "per-class", 2),
        ("nanodet_v1", "distances", 2),
        ("nanodet_v1_split", "distances", 2),
        ("fastestdet", "fastestdet", 2),
        ("ultraface", "ultraface", 0),
        ("scrfd", "scrfd", 0),
        ("scrfd_boxes", "scrfd", 0),
        ("yunet", "yunet", 0),
        ("retinaface", "retinaface", 0),
        ("v5_face_raw", "v5-face-raw", 0),
        ("torchvision_single", "separate", 2),
        ("unnamed_lists", "separate", 2),
        ("pose_in_lists", "separate", 2),
        ("centres_in_lists", "separate", 2),
        ("centres_per_class", "per-class", 2),
        ("broken_names", "v8", 2),
    ];
    for (name, layout, class_id) in families {
        let engine = open(folder.join(name).with_extension("onnx")).unwrap();
        let reason = &engine.model().layout_reason;
        assert_eq!(engine.model().layout.name(), layout, "{name}: {reason}");
        let result = engine.submit(grey(90), settings(0.25)).wait().unwrap();
        let [one] = result.detections.as_slice() else { panic!("{name} ({reason}): {result:?}") };
        assert_eq!(one.class_id, class_id, "{name} ({reason})");
        assert!((one.confidence - 0.75).abs() < 1e-3, "{name} ({reason}): {one:?}");
        assert!(overlap(one, [32.0, 16.0, 64.0, 64.0]) > 0.999, "{name} ({reason}): {one:?}");
        assert_eq!(result.warning, None, "{name} ({reason})");
    }
}

#[test]
fn class_names_follow_the_family_if_the_file_has_none() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let families = [
        ("deepstream", "car", true),
        ("tensorflow", "car", true),
        // COCO's category 2 is a bicycle: torchvision and DETR number the background 0.
        ("torchvision_single", "bicycle", true),
        ("hf_detr", "bicycle", false),
        ("hf_rtdetr", "car", false),
        ("mmdeploy", "class-2", false),
    ];
    for (name, label, is_assumed) in families {
        let engine = open(folder.join(name).with_extension("onnx")).unwrap();
        let (labels, warning) = Labels::resolve(engine.model(), None).unwrap();
        assert_eq!(labels.name(2), label, "{name}");
        assert_eq!(warning.is_some_and(|warning| warning.contains("label-file")), is_assumed, "{name}");
    }
}

#[test]
fn preprocessing_follows_the_training_of_the_family() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let format = |name: &str| open(folder.join(name).with_extension("onnx")).unwrap().model().input_format();
    let mean = |name: &str| format(name).normalise.map(|normalise| normalise.mean[0]);
    for name in ["rfdetr", "hf_detr", "picodet"] {
        assert_eq!((mean(name), format(name).resize_mode), (Some(0.485), ResizeMode::Stretch), "{name}");
    }
    for name in ["paddle_rtdetr", "hf_rtdetr", "ultralytics_rtdetr", "tensorflow", "yolov4_torch"] {
        assert_eq!((mean(name), format(name).resize_mode), (None, ResizeMode::Stretch), "{name}");
    }
    assert_eq!((mean("ultraface"), format("ultraface").white), (Some(127.0), 255.0));
    assert_eq!((mean("scrfd"), format("scrfd").resize_mode), (Some(127.5), ResizeMode::LetterboxTopLeft));
    assert_eq!((mean("retinaface"), format("retinaface").order), (Some(104.0), ChannelOrder::Bgr));
    assert_eq!((mean("yunet"), format("yunet").order, format("yunet").white), (None, ChannelOrder::Bgr, 255.0));
    assert_eq!((mean("nanodet_v1"), format("nanodet_v1").order), (Some(103.53), ChannelOrder::Bgr));
    assert!(format("grey").is_grey && !format("yolov6").is_grey);
    assert_eq!(format("yolov6").resize_mode, ResizeMode::Letterbox);
}

#[test]
fn assumptions_and_contradictions_are_reported() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    for (name, words) in [
        ("mmdeploy", "input-range"),
        ("paddle_yoloe", "input-range"),
        ("broken_names", "label-file"),
        ("pose_in_lists", "task = pose"),
        ("v5_raw", "anchors"),
    ] {
        let engine = open(folder.join(name).with_extension("onnx")).unwrap();
        let warnings = &engine.model().warnings;
        assert!(warnings.iter().any(|warning| warning.contains(words)), "{name}: {warnings:?}");
    }
    for name in
        ["nms_detect", "ultralytics_rtdetr", "rfdetr", "yolov6", "paddle_rtdetr", "grey", "pose", "obb", "segment"]
    {
        let engine = open(folder.join(name).with_extension("onnx")).unwrap();
        assert!(engine.model().warnings.is_empty(), "{name}: {:?}", engine.model().warnings);
        assert!(!engine.model().evidence.is_empty(), "{name}");
    }
}

#[test]
fn raw_heads_are_decoded_with_the_configured_anchors() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/v5_raw.onnx");
    let find = |layout| {
        let hints = ModelHints { layout, ..ModelHints::default() };
        let spec = EngineSpec {
            model: ModelSource::File(file.clone()),
            provider: Provider::Cpu,
            sessions: 1,
            hints,
            ..EngineSpec::default()
        };
        let engine = Engine::acquire(runtime(), &spec).unwrap();
        assert_eq!(engine.model().warnings.is_empty(), layout.is_some());
        let found = engine.submit(grey(90), settings(0.25)).wait().unwrap().detections;
        (found[0].x_max - found[0].x_min, found[0].y_max - found[0].y_min)
    };
    // In pixels of the frame, which is twice the input size: anchors of 62 by 45 and of 76 by 55.
    let (five, seven) = (find(Some(ModelLayout::V5Raw)), find(Some(ModelLayout::V7Raw)));
    assert_eq!(find(None), five);
    assert!((five.0 - 64.0).abs() < 0.1 && (five.1 - 64.0).abs() < 0.1, "{five:?}");
    assert!((seven.0 - 64.0 * 76.0 / 62.0).abs() < 0.1 && (seven.1 - 64.0 * 55.0 / 45.0).abs() < 0.1, "{seven:?}");
}

#[test]
fn scores_above_one_and_empty_boxes_cause_warnings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let first = |name: &str| {
        let engine = open(folder.join(name).with_extension("onnx")).unwrap();
        engine.submit(grey(90), settings(0.25)).wait().unwrap()
    };
    let high = first("score_18");
    assert_eq!(high.detections[0].confidence, 1.0);
    assert!(high.warning.as_ref().is_some_and(|warning| warning.contains("1.80")), "{high:?}");
    // Ultralytics exports pixels, unless a converter has normalised them.
    let tiny = first("tiny_boxes");
    assert!(tiny.warning.as_ref().is_some_and(|warning| warning.contains("normalised")), "{tiny:?}");
    assert!(overlap(&tiny.detections[0], [32.0, 16.0, 64.0, 64.0]) > 0.99, "{tiny:?}");
    // Pixels and angles after the scores are not scores.
    for name in ["pose", "obb", "segment", "nms_pose", "nms_obb", "nms_segment", "v5_face"] {
        assert_eq!(first(name).warning, None, "{name}");
    }
}

#[test]
fn a_model_that_ignores_its_input_is_detected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let engine = open(folder.join("two_heads.onnx")).unwrap();
    // Left and right halves have different brightness, so that the pictures differ by more than one level.
    let mut warning = |number: u8| {
        let pixels = (0..3 * 128 * 128).map(|at| if at % 384 < 192 { 15 * number } else { 255 - 15 * number });
        let frame = RgbFrame { pixels: Arc::new(pixels.collect()), width: 128, height: 128 };
        engine.submit(Box::new(frame), settings(0.25)).wait().unwrap().warning
    };
    let warnings: Vec<String> = (0..16).filter_map(&mut warning).collect();
    let [same] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(same.contains("exactly the same"), "{same}");
    let engine = open(folder.join("nms_detect.onnx")).unwrap();
    let mut warning = |_: u8| engine.submit(grey(90), settings(0.25)).wait().unwrap().warning;
    assert_eq!((0..16).find_map(&mut warning), None, "of one picture");
}

#[test]
fn a_modelinfo_file_supplies_missing_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.onnx");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/not_a_number.onnx"), &model).unwrap();
    let info = folder.path().join("m.onnx.modelinfo");
    // The model outputs numbers only for pictures whose mean is at most 0.1.
    let warning = || open(model.clone()).unwrap().submit(grey(200), settings(0.25)).wait().unwrap().warning;
    assert!(warning().is_some());
    std::fs::write(&info, "[images]\ndir=input\nranges=-1.0,0.0\n").unwrap();
    assert_eq!(warning(), None);
    std::fs::write(&info, "[images]\ndir=input\nranges=wide\n").unwrap();
    let error = open(model.clone()).unwrap_err().to_string();
    assert!(error.contains("m.onnx") && error.contains("modelinfo") && error.contains("wide"), "{error}");
}

#[test]
fn other_tasks_add_their_results_to_a_box() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let find = |name: &str| {
        let engine = open(folder.join(name).with_extension("onnx")).unwrap();
        assert_eq!(engine.model().task.to_string(), name);
        let found = engine.submit(grey(90), settings(0.25)).wait().unwrap().detections;
        let [one] = <[_; 1]>::try_from(found).unwrap_or_else(|found| panic!("{name}: {found:?}"));
        assert_eq!(one.class_id, 2);
        assert!((one.confidence - 0.75).abs() < 1e-3, "{name}: {one:?}");
        one
    };
    let place = [32.0, 16.0, 64.0, 64.0];
    let pose = find("pose");
    assert_eq!(pose.details.keypoints, [[32.0, 16.0, 0.5], [96.0, 80.0, 1.0]]);
    let turned = find("obb");
    let rotated = turned.details.rotated.unwrap();
    assert_eq!((rotated.x, rotated.y, rotated.width, rotated.height), (64.0, 48.0, 64.0, 64.0));
    let segment = find("segment");
    let mask = segment.details.mask.as_ref().unwrap();
    assert_eq!((mask.width, mask.height), (8, 8));
    assert!(mask.values.chunks(8).all(|row| row.iter().enumerate().all(|(x, &value)| (value >= 128) == (x < 4))));
    for found in [&pose, &turned, &segment] {
        assert!(overlap(found, place) > 0.99, "{found:?}");
    }
    let named = find("classify");
    assert_eq!((named.x_min, named.y_min, named.x_max, named.y_max), (0.0, 0.0, 128.0, 128.0));
}

/// Exports with nms=True, and segmenters and a face detector whose metadata contains no task.
#[test]
fn final_boxes_and_unnamed_tasks_also_have_details() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let find = |name: &str, task: &str| {
        let engine = open(folder.join(name).with_extension("onnx")).unwrap();
        assert_eq!(engine.model().task.to_string(), task, "{name}");
        let found = engine.submit(grey(90), settings(0.25)).wait().unwrap().detections;
        let [one] = <[_; 1]>::try_from(found).unwrap_or_else(|found| panic!("{name}: {found:?}"));
        assert!((one.confidence - 0.75).abs() < 1e-3, "{name}: {one:?}");
        assert!(overlap(&one, [32.0, 16.0, 64.0, 64.0]) > 0.99, "{name}: {one:?}");
        one
    };
    assert_eq!(find("nms_pose", "pose").details.keypoints, [[32.0, 16.0, 0.5], [96.0, 80.0, 1.0]]);
    let rotated = find("nms_obb", "obb").details.rotated.unwrap();
    assert_eq!((rotated.x, rotated.y, rotated.width, rotated.height), (64.0, 48.0, 64.0, 64.0));
    let mask = find("nms_segment", "segment").details.mask.unwrap();
    assert!(mask.values.chunks(8).all(|row| row.iter().enumerate().all(|(x, &value)| (value >= 128) == (x < 4))));
    for name in ["v5_segment_no_task", "v8_segment_no_task"] {
        let mask = find(name, "segment").details.mask.unwrap();
        assert!((mask.width, mask.height) == (8, 8) && mask.values.iter().all(|&value| value >= 128), "{name}");
    }
    for name in ["v5_face", "v5_face_raw", "scrfd", "yunet", "retinaface"] {
        let face = find(name, "pose");
        let points = &face.details.keypoints;
        let is_near = |point: &[f32; 3]| (point[0] - 32.0).abs() < 1e-3 && (point[1] - 16.0).abs() < 1e-3;
        assert!(face.class_id == 0 && points.len() == 5 && points.iter().all(is_near), "{name}: {face:?}");
    }
    assert!(find("scrfd_boxes", "detect").details.keypoints.is_empty());
}

/// Boxes as offsets from prior boxes of unknown sizes, or values in an unknown order.
#[test]
fn ambiguous_outputs_are_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    for name in ["retinaface_plate", "retinaface_joined"] {
        let error = open(folder.join(name).with_extension("onnx")).unwrap_err().to_string();
        assert!(error.contains("RetinaFace") && error.contains("Export"), "{name}: {error}");
    }
    for name in ["unknown_levels", "mtcnn_last"] {
        let error = open(folder.join(name).with_extension("onnx")).unwrap_err();
        assert!(matches!(error, Error::ModelUnsupported { .. }), "{name}: {error}");
    }
}

fn grey(level: u8) -> Box<RgbFrame> {
    Box::new(RgbFrame { pixels: Arc::new(vec![level; 3 * 128 * 128]), width: 128, height: 128 })
}

#[test]
fn implausible_outputs_cause_one_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    for (name, complaint) in [
        ("not_a_number", "NaN"),
        ("all_zero", "scores are 0"),
        ("all_one", "scores are 1"),
        ("far_away", "reach 32000 pixels"),
    ] {
        let engine = open(folder.join(name).with_extension("onnx")).unwrap();
        let first = engine.submit(grey(200), settings(0.25)).wait().unwrap();
        assert!(first.warning.as_ref().is_some_and(|warning| warning.contains(complaint)), "{name}: {first:?}");
        let finite = |found: &gstvx::detect::Detection| found.x_min.is_finite() && found.confidence.is_finite();
        assert!(first.detections.iter().all(finite), "{name}");
        assert_eq!(engine.submit(grey(200), settings(0.25)).wait().unwrap().warning, None, "{name}");
    }
    let engine = open(folder.join("yolo_nas.onnx")).unwrap();
    assert_eq!(engine.submit(grey(200), settings(0.25)).wait().unwrap().warning, None);
}

#[test]
fn an_output_with_a_changed_shape_fails_only_that_frame() {
    let engine = open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/changing.onnx")).unwrap();
    assert_eq!(engine.submit(grey(0), settings(0.25)).wait().unwrap().detections.len(), 1);
    let error = engine.submit(grey(255), settings(0.25)).wait().unwrap_err().to_string();
    assert!(error.contains("changing.onnx") && error.contains("became"), "{error}");
    assert_eq!(engine.submit(grey(0), settings(0.25)).wait().unwrap().detections.len(), 1);
}

#[test]
fn a_model_with_wrong_batch_results_runs_on_single_frames() {
    let model = |name: &str| EngineSpec {
        model: ModelSource::File(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(name)),
        provider: Provider::Cpu,
        sessions: 1,
        batch_size: 4,
        ..EngineSpec::default()
    };
    let engine = Engine::acquire(runtime(), &model("wrong_batch.onnx")).unwrap();
    let report = engine.provider();
    assert_eq!(report.batch_size, 1);
    assert!(report.fallback.as_ref().unwrap().contains("two pictures at once"), "{report:?}");
    let tickets: Vec<_> = (0..8).map(|_| engine.submit(grey(90), settings(0.25))).collect();
    for ticket in tickets {
        assert!((ticket.wait().unwrap().detections[0].confidence - 0.75).abs() < 1e-3);
    }
    let scores = Engine::acquire(runtime(), &model("wrong_scores.onnx")).unwrap();
    assert_eq!(scores.provider().batch_size, 1);
    let engine = Engine::acquire(runtime(), &model("far_away.onnx")).unwrap();
    assert_eq!((engine.provider().batch_size, &engine.provider().fallback), (4, &None));
}

#[test]
fn files_that_are_not_models_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let built_in = include_bytes!("../models/person-320.onnx");
    let cases: [(&str, &[u8]); 5] = [
        ("text.onnx", b"this is no model"),
        ("image.onnx", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        ("zeros.onnx", &[0; 4096]),
        ("cut.onnx", &built_in[..built_in.len() / 2]),
        ("cut-early.onnx", &built_in[..100]),
    ];
    for (name, bytes) in cases {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = open(path.clone()).unwrap_err();
        assert!(matches!(error, Error::ModelInvalid { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{name}: {error}");
    }
    for path in [dir.path().to_owned(), dir.path().join("none.onnx")] {
        let error = open(path.clone()).unwrap_err();
        assert!(matches!(error, Error::ModelUnreadable { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn errors_for_incomplete_models_name_a_remedy() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let newer = open(models.join("opset_99.onnx")).unwrap_err().to_string();
    assert!(newer.contains("opset_99.onnx") && newer.contains("99") && newer.contains("older opset"), "{newer}");

    let folder = tempfile::tempdir().unwrap();
    let [model, weights] = ["external.onnx", "external.weights"].map(|name| folder.path().join(name));
    std::fs::copy(models.join("external.onnx"), &model).unwrap();
    let alone = open(model.clone()).unwrap_err().to_string();
    assert!(alone.contains("external.onnx") && alone.contains("in the same folder"), "{alone}");
    let bytes = std::fs::read(models.join("external.weights")).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    assert!(open(model.clone()).is_err());
    std::fs::write(&weights, &bytes).unwrap();
    assert_eq!(open(model).unwrap().submit(grey(90), settings(0.25)).wait().unwrap().detections.len(), 1);
}

#[test]
#[cfg(unix)]
fn reading_a_model_does_not_wait_for_pipes() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = |name: &str| {
        let path = folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    };
    let text = open(pipe("model.onnx")).unwrap_err().to_string();
    assert!(text.contains("model.onnx") && text.contains("regular file"), "{text}");
    let model = folder.path().join("beside.onnx");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/pose.onnx"), &model).unwrap();
    let engine = open(model.clone()).unwrap();
    let labels = Labels::resolve(engine.model(), Some(&pipe("labels.txt"))).unwrap_err().to_string();
    assert!(labels.contains("labels.txt") && labels.contains("regular file"), "{labels}");
    drop(engine);
    pipe("beside.onnx.modelinfo");
    let text = open(model).unwrap_err().to_string();
    assert!(text.contains("modelinfo") && text.contains("regular file"), "{text}");
}

#[test]
fn a_model_over_the_memory_limit_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("external.onnx");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/external.onnx"), &model).unwrap();
    let open = |memory_limit| {
        let spec = EngineSpec { model: ModelSource::File(model.clone()), memory_limit, ..EngineSpec::default() };
        Engine::acquire(runtime(), &spec)
    };
    // A sparse file of one terabyte without data.
    let weights = std::fs::File::create(folder.path().join("external.weights")).unwrap();
    weights.set_len(1 << 40).unwrap();
    for (limit, allowed) in [(0, "MiB are allowed"), (64 << 20, "64 MiB are allowed")] {
        let error = open(limit).unwrap_err().to_string();
        assert!(error.contains("external.onnx") && error.contains("at least 2097153 MiB"), "{error}");
        assert!(error.contains(allowed) && error.contains("memory-limit"), "{error}");
    }
    assert!(open(1000).unwrap_err().to_string().contains("0 MiB are allowed"));
}

#[test]
fn the_built_in_model_detects_people() {
    let spec = EngineSpec { provider: Provider::Cpu, sessions: 1, ..EngineSpec::default() };
    let engine = Engine::acquire(runtime(), &spec).unwrap();
    let model = engine.model();
    assert_eq!((model.width, model.height, model.class_count), (320, 320, Some(1)));
    assert_eq!(Labels::resolve(model, None).unwrap().0.name(0), "person");
    let result = engine.submit(RgbFrame::stop_sign(), settings(0.25)).wait().unwrap();
    assert_eq!(result.detections, [], "a stop sign is nobody");
}
