// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests several providers in one process: one provider must not affect the results of another.
//!
//! A registration lasts as long as the process, so each test that depends on the order runs this program again, with that test
//! alone.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;
mod detect_support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{clip, quoted};
use detect_support::{RgbFrame, runtime, settings, shared};
use gst::prelude::*;
use gstvx::detect::{Engine, EngineSpec, Error, ModelSource, Provider};

fn own(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model)
}

fn spec(model: &Path, provider: Provider) -> EngineSpec {
    let model = ModelSource::File(model.to_owned());
    EngineSpec { model, provider, sessions: 1, intra_op_threads: 1, ..EngineSpec::default() }
}

fn open(model: &Path, provider: Provider) -> Result<Engine, Error> {
    Engine::acquire(runtime(), &spec(model, provider))
}

/// Returns the bits of all scores and edges detected with `engine`.
fn found(engine: &Engine) -> Vec<[u32; 5]> {
    let result = engine.submit(RgbFrame::stop_sign(), settings(0.001)).wait().unwrap();
    let bits = result
        .detections
        .iter()
        .map(|found| [found.confidence, found.x_min, found.y_min, found.x_max, found.y_max].map(f32::to_bits));
    bits.collect()
}

fn trained() -> Option<PathBuf> {
    shared("models/yolov8n_fp32_dynamic.onnx")
}

/// Opens an engine on OpenVINO; prints a message if OpenVINO is missing.
fn openvino(model: &Path) -> Option<Engine> {
    match open(model, Provider::OpenVino) {
        Err(error @ Error::ProviderUnavailable { .. }) => {
            println!("skipped: {error}");
            None
        }
        engine => Some(engine.unwrap()),
    }
}

/// The environment variable with the file in which one process leaves its results for the next one.
const RESULTS: &str = "VX_TEST_RESULTS";

/// Runs the ignored tests `names` one after the other, each in a separate process. The second one reads the results of the first.
fn run_each_alone<const N: usize>(names: [&str; N]) {
    let folder = tempfile::tempdir().unwrap();
    names.iter().for_each(|name| run_alone(name, &folder.path().join("results")));
}

fn run_alone(name: &str, results: &Path) {
    let output = Command::new(std::env::current_exe().unwrap())
        .env(RESULTS, results)
        .args(["--exact", name, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n");
    assert!(output.status.success() && text.contains("1 passed"), "{name}: {}\n{text}", output.status);
    text.lines().filter(|line| line.starts_with("skipped")).for_each(|line| println!("{line}"));
}

/// Writes `found` for the next process, or asserts that it equals the result of the previous one.
fn same_as_in_the_process_before(found: &str) {
    let place = std::env::var_os(RESULTS).map(PathBuf::from).unwrap();
    match std::fs::read_to_string(&place) {
        Ok(before) => assert_eq!(before, found),
        Err(_) => std::fs::write(place, found).unwrap(),
    }
}

#[test]
fn the_cpu_provider_is_unaffected_by_earlier_providers() {
    run_each_alone(["cpu_before_and_after_openvino", "cpu_after_openvino"]);
}

#[test]
#[ignore = "in a process of its own"]
fn cpu_before_and_after_openvino() {
    let Some(model) = trained() else { return };
    let before = open(&model, Provider::Cpu).unwrap();
    let scores = found(&before);
    assert!(!scores.is_empty());
    let Some(other) = openvino(&model) else { return };
    assert_ne!(found(&other), scores, "the providers compute differently, or this test shows nothing");
    assert_eq!(found(&before), scores);
    drop(before);
    let after = open(&model, Provider::Cpu).unwrap();
    assert_eq!(after.provider().name, "CPUExecutionProvider");
    assert_eq!(found(&after), scores);
    same_as_in_the_process_before(&format!("{scores:?}"));
}

#[test]
#[ignore = "in a process of its own"]
fn cpu_after_openvino() {
    let Some(model) = trained() else { return };
    let Some(other) = openvino(&model) else { return };
    let scores = found(&open(&model, Provider::Cpu).unwrap());
    assert_ne!(scores, found(&other));
    same_as_in_the_process_before(&format!("{scores:?}"));
}

#[test]
fn elements_in_one_process_keep_their_providers() {
    run_each_alone(["element_on_cpu_first", "element_on_openvino_first"]);
}

/// Returns the exact detections of an element on `provider` in the clip, and the provider that it used; `None` without this
/// provider.
fn lines(provider: &str) -> Option<String> {
    gstvx::elements::library_paths::set_library_dirs(vec![common::root().join(".deps/lib")]);
    let detect = format!(
        "vxyolodetect name=detector execution-provider={provider} sessions=1 meta=roi model-file={}",
        quoted(&trained()?)
    );
    let (pipeline, sink) =
        common::pipeline(&format!("filesrc location={} ! vxkeyframedec ! {detect}", quoted(&clip())));
    let outcome = common::play(&pipeline, &sink);
    if let Some((error, _)) = &outcome.error {
        println!("skipped: {error}");
        pipeline.set_state(gst::State::Null).unwrap();
        return None;
    }
    let stats: gst::Structure = pipeline.by_name("detector").unwrap().property("stats");
    let mut text = stats.get::<String>("provider").unwrap();
    for sample in &outcome.samples {
        for meta in sample.buffer().unwrap().iter_meta::<gst_video::VideoRegionOfInterestMeta>() {
            let confidence = meta.params().next().unwrap().get::<f64>("confidence").unwrap();
            text += &format!("\n{} {confidence}", meta.roi_type());
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    Some(text)
}

#[test]
#[ignore = "in a process of its own"]
fn element_on_cpu_first() {
    let Some(before) = lines("cpu") else { return };
    assert!(before.contains("CPUExecutionProvider"), "{before}");
    let Some(other) = lines("openvino") else { return };
    assert!(other.contains("OpenVINOExecutionProvider"), "{other}");
    assert_eq!(lines("cpu").unwrap(), before);
    same_as_in_the_process_before(&before);
}

#[test]
#[ignore = "in a process of its own"]
fn element_on_openvino_first() {
    let Some(other) = lines("openvino") else { return };
    assert!(other.contains("OpenVINOExecutionProvider"), "{other}");
    let after = lines("cpu").unwrap();
    assert!(after.contains("CPUExecutionProvider"), "{after}");
    same_as_in_the_process_before(&after);
}

#[test]
fn a_model_that_openvino_refuses_runs_on_the_cpu_and_reports_the_reason() {
    run_each_alone(["refused_under_auto"]);
}

#[test]
#[ignore = "in a process of its own"]
fn refused_under_auto() {
    // Weights are removed from the inputs; except in a model in two parts, which protobuf merges.
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("refused.onnx");
    let mut bytes = std::fs::read(own("weights_as_inputs.onnx")).unwrap();
    bytes.extend([0x3a, 0]);
    std::fs::write(&model, bytes).unwrap();
    let scores = found(&open(&model, Provider::Cpu).unwrap());
    if openvino(&own("picodet.onnx")).is_none() {
        return;
    }
    let error = open(&model, Provider::OpenVino).unwrap_err();
    assert!(matches!(&error, Error::ProviderUnavailable { .. }), "{error:?}");
    let engine = open(&model, Provider::Auto).unwrap();
    let report = engine.provider();
    if report.fallback.is_none() {
        println!("skipped: auto does not try OpenVINO on this processor");
        return;
    }
    assert_eq!((report.provider.clone(), &*report.name), (Provider::Cpu, "CPUExecutionProvider"));
    let reason = report.fallback.as_ref().unwrap();
    assert!(reason.contains("openvino") && reason.contains("refused.onnx"), "{reason}");
    assert_eq!(found(&engine), scores);
}

#[test]
fn weights_among_the_inputs_work_with_every_provider() {
    let mut models = vec![own("weights_as_inputs.onnx")];
    models.extend(shared("cases/real/ultraface_rfb320.onnx"));
    for model in models {
        let auto = open(&model, Provider::Auto).unwrap();
        assert_eq!(auto.provider().fallback, None, "{}", model.display());
        auto.submit(RgbFrame::stop_sign(), settings(0.1)).wait().unwrap();
        open(&model, Provider::Cpu).unwrap().submit(RgbFrame::stop_sign(), settings(0.1)).wait().unwrap();
        let _ = openvino(&model);
    }
    let cpu = open(&own("weights_as_inputs.onnx"), Provider::Cpu).unwrap();
    let plain = open(&own("picodet.onnx"), Provider::Cpu).unwrap();
    assert_eq!(found(&cpu), found(&plain));
}

/// Download caches store files like this: the model and its weights are links to files named by their content.
#[test]
#[cfg(unix)]
fn every_provider_finds_weights_behind_links() {
    let folder = tempfile::tempdir().unwrap();
    let [blobs, snapshot] = ["blobs", "snapshots/main"].map(|name| folder.path().join(name));
    for (name, blob) in [("outside.onnx", "4f2a"), ("outside.weights", "91c0")] {
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::copy(own(name), blobs.join(blob)).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{blob}"), snapshot.join(name)).unwrap();
    }
    let model = snapshot.join("outside.onnx");
    let expected = found(&open(&own("outside.onnx"), Provider::Cpu).unwrap());
    assert!(!expected.is_empty());
    assert_eq!(found(&open(&model, Provider::Cpu).unwrap()), expected);
    let auto = open(&model, Provider::Auto).unwrap();
    assert_eq!(auto.provider().fallback, None);
    if let Some(engine) = openvino(&model) {
        assert_eq!(found(&engine).len(), expected.len());
    }
}

#[test]
fn an_invalid_model_causes_an_error_and_not_a_crash() {
    run_each_alone(["invalid_model"]);
}

#[test]
#[ignore = "in a process of its own"]
fn invalid_model() {
    let Some(model) = shared("cases/real/invalid_yolo_fastest.onnx") else { return };
    let _ = openvino(&own("picodet.onnx"));
    for provider in [Provider::Auto, Provider::OpenVino, Provider::Cpu] {
        let error = open(&model, provider).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::ModelInvalid { .. }), "{text}");
        assert!(text.contains("Concat_504") && text.contains("is inconsistent"), "{text}");
        assert!(!text.contains("older opset"), "{text}");
    }
}

#[test]
fn loading_an_endless_model_times_out_and_leaks_no_thread() {
    let limit = Duration::from_millis(600);
    for provider in [Provider::Cpu, Provider::Auto] {
        let spec = EngineSpec { load_timeout: Some(limit), ..spec(&own("endless_unknown.onnx"), provider) };
        let started = Instant::now();
        let error = Engine::acquire(runtime(), &spec).unwrap_err();
        assert!(matches!(error, Error::LoadTimeout { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("endless_unknown.onnx") && text.contains("0.6 s"), "{text}");
        assert!(started.elapsed() >= limit && started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
    // The initial probe run ends with it. Other tests of this process load models, too.
    let deadline = Instant::now() + Duration::from_secs(60);
    while running_threads("vxload") > 0 {
        assert!(Instant::now() < deadline, "a thread goes on loading");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the number of threads with this name that are not waiting. OpenVINO's threads, which wait for work, inherit the name of
/// the thread that has created them.
fn running_threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let is_running = |task: &std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses.
        stat.contains(&format!("({name}) R"))
    };
    tasks.filter(is_running).count()
}

/// Its output shape is declared, so only a run shows that it never ends.
#[test]
fn waiting_for_an_endless_model_can_be_cancelled() {
    let engine = open(&own("endless.onnx"), Provider::Cpu).unwrap();
    let ticket = engine.submit(RgbFrame::stop_sign(), settings(0.5));
    let queued = engine.submit(RgbFrame::stop_sign(), settings(0.5));
    let started = Instant::now();
    let goes_on = || started.elapsed() < Duration::from_millis(300);
    assert!(matches!(ticket.wait_while(goes_on), Err(Error::EngineClosed)));
    // The engine closes without its worker and answers the queued jobs.
    drop(engine);
    assert!(matches!(queued.wait(), Err(Error::EngineClosed)));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
