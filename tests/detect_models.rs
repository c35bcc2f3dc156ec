//! Real models of every layout against golden results, and files that are no detector.
//!
//! The golden results are `../shared/reference/reference.py`'s for the same picture (ONNX Runtime 1.31.1, CPU provider).

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod detect_support;

use std::path::PathBuf;

use detect_support::{RgbFrame, overlap, runtime, settings, shared};
use gstvx::detect::{Engine, EngineSpec, Error, Labels, Layout, ModelSource, Provider};

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

/// The stop sign is the only thing found, where and as surely as the reference finds it.
fn finds_the_stop_sign(file: &str, layout: Layout, confidence: f32, box_: [f32; 4]) {
    let Some(path) = shared(&format!("models/{file}")) else {
        return;
    };
    let engine = open(path).unwrap();
    assert_eq!(engine.model().layout, layout, "{}", engine.model().layout_reason);
    let (labels, warning) = Labels::resolve(engine.model(), None).unwrap();
    assert_eq!(warning, None);
    let found = engine.submit(RgbFrame::stop_sign(), settings(0.1)).wait().unwrap().detections;
    let [sign] = found.as_slice() else { panic!("{file}: {found:?}") };
    assert_eq!((sign.class_id, &*labels.name(sign.class_id)), (11, "stop sign"));
    let apart = (sign.confidence - confidence).abs();
    assert!(apart < 0.02 && overlap(sign, box_) > 0.97, "{file}: {sign:?}");
}

#[test]
fn v8_with_free_batch() {
    let golden = [98.46, 28.77, 124.15, 123.93];
    finds_the_stop_sign("yolov8n_fp32_dynamic.onnx", Layout::V8 { transposed: false }, 0.9538, golden);
}

#[test]
fn v5_in_half_floats_with_free_size() {
    finds_the_stop_sign("yolov5n_fp16.onnx", Layout::V5, 0.8831, [102.34, 27.06, 119.31, 124.62]);
}

#[test]
fn end_to_end() {
    finds_the_stop_sign("yolo26n_int8.onnx", Layout::EndToEnd, 0.9787, [97.88, 26.7, 122.9, 129.39]);
}

#[test]
fn yolox() {
    finds_the_stop_sign("yolox_nano_416.onnx", Layout::Yolox, 0.9383, [101.42, 28.09, 118.4, 124.04]);
}

#[test]
fn v8_quantised_at_320() {
    let golden = [98.46, 27.74, 122.62, 125.65];
    finds_the_stop_sign("yolo11n_320_int8.onnx", Layout::V8 { transposed: false }, 0.9545, golden);
}

#[test]
fn the_detr_family_is_refused_by_name() {
    let Some(path) = shared("models/deimv2_atto_320_int8.onnx") else {
        return;
    };
    let text = open(path).unwrap_err().to_string();
    assert!(text.contains("deimv2_atto_320_int8.onnx") && text.contains("DETR"), "{text}");
}

#[test]
fn files_that_are_no_model_are_refused_by_name() {
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
fn the_built_in_model_is_a_person_detector() {
    let spec = EngineSpec { provider: Provider::Cpu, sessions: 1, ..EngineSpec::default() };
    let engine = Engine::acquire(runtime(), &spec).unwrap();
    let model = engine.model();
    assert_eq!((model.width, model.height, model.class_count), (320, 320, Some(1)));
    assert_eq!(Labels::resolve(model, None).unwrap().0.name(0), "person");
    let result = engine.submit(RgbFrame::stop_sign(), settings(0.25)).wait().unwrap();
    assert_eq!(result.detections, [], "a stop sign is nobody");
}
