// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests a missing or broken ONNX Runtime: it causes an error, never a panic or a hang, and a retry can succeed.
//!
//! Runs in a separate process, because a process can load ONNX Runtime only once. It is one test, because the order matters.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod detect_support;

use gstvx::detect::{Engine, EngineSpec, Error, Provider, Runtime, RuntimeOptions};

#[test]
fn a_missing_or_broken_library_causes_an_error_and_can_be_retried() {
    let dir = tempfile::tempdir().unwrap();
    let load = |path: &std::path::Path| {
        Runtime::load(&RuntimeOptions { library: Some(path.to_owned()), ..RuntimeOptions::default() })
    };

    let missing = dir.path().join("libonnxruntime.so");
    let error = load(&missing).unwrap_err();
    assert!(matches!(error, Error::RuntimeNotFound { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&missing.display().to_string()) && text.contains("make setup"), "{text}");
    assert!(Runtime::get().is_none());

    let error = load(dir.path()).unwrap_err();
    assert!(matches!(error, Error::RuntimeNotFound { .. }), "an empty folder: {error:?}");

    std::fs::write(&missing, "this is no library").unwrap();
    for path in [missing.as_path(), dir.path()] {
        let error = load(path).unwrap_err();
        assert!(matches!(error, Error::RuntimeUnusable { .. }), "{error:?}");
        assert!(error.to_string().contains(&missing.display().to_string()), "{error}");
    }

    // A library that loads but is not ONNX Runtime: any shared object on this system.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let libc = maps.lines().filter_map(|line| line.split_whitespace().last()).find(|path| path.contains("libc.so"));
    if let Some(libc) = libc {
        let error = load(std::path::Path::new(libc)).unwrap_err();
        assert!(matches!(error, Error::RuntimeUnusable { .. }), "{error:?}");
        assert!(error.to_string().contains("OrtGetApiBase"), "{error}");
    }

    let runtime = detect_support::runtime();
    let spec = EngineSpec { provider: Provider::Cpu, ..EngineSpec::default() };
    let engine = Engine::acquire(runtime, &spec).unwrap();
    engine.submit(detect_support::RgbFrame::stop_sign(), detect_support::settings(0.5)).wait().unwrap();
}
