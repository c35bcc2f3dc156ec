// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests the engine: sharing, failing jobs, batches, providers.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod detect_support;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use detect_support::{HEIGHT, RgbFrame, WIDTH, overlap, runtime, settings, shared};
use gstvx::detect::{
    Engine, EngineSpec, Error, Frame, ModelSource, OptimizeFor, Picture, PluginProvider, Precision, Provider, Tuning,
};

/// Returns a spec that no other test here uses, because engines with equal specs are shared.
fn spec(inter_op_threads: usize) -> EngineSpec {
    EngineSpec { provider: Provider::Cpu, sessions: 1, intra_op_threads: 1, inter_op_threads, ..EngineSpec::default() }
}

/// A frame that a function draws and whose drop is counted.
struct Scripted<F>(F, Arc<AtomicUsize>);

impl<F: Fn() -> Result<(), Error> + Send> Frame for Scripted<F> {
    fn picture(&self) -> Result<Picture<'_>, Error> {
        (self.0)()?;
        Err(Error::Picture { reason: "scripted".to_owned() })
    }
}

impl<F> Drop for Scripted<F> {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn simultaneous_requests_share_one_engine() {
    let start = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                start.wait();
                Engine::acquire(runtime(), &spec(2)).unwrap()
            })
        })
        .collect();
    let engines: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(engines[0].stats().users, 8);
    let other = Engine::acquire(runtime(), &EngineSpec { sessions: 2, ..spec(2) }).unwrap();
    assert_eq!((other.stats().users, engines[0].stats().users), (1, 8));
}

#[test]
fn equal_models_with_two_names_share_one_engine() {
    let dir = tempfile::tempdir().unwrap();
    let engines = ["a.onnx", "b.onnx"].map(|name| {
        let path = dir.path().join(name);
        std::fs::write(&path, include_bytes!("../models/person-320.onnx")).unwrap();
        Engine::acquire(runtime(), &EngineSpec { model: ModelSource::File(path), ..spec(1) }).unwrap()
    });
    assert_eq!(engines[0].stats().users, 2);
}

#[test]
fn a_bad_frame_fails_without_affecting_others() {
    let engine = Engine::acquire(runtime(), &spec(3)).unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    let panicking = engine.submit(Box::new(Scripted(|| panic!("scripted panic"), Arc::clone(&ended))), settings(0.5));
    let failing = engine.submit(Box::new(Scripted(|| Ok(()), Arc::clone(&ended))), settings(0.5));
    let good = engine.submit(RgbFrame::stop_sign(), settings(0.5));
    let panicked = panicking.wait().unwrap_err();
    assert!(matches!(&panicked, Error::WorkerPanicked { reason } if reason.contains("scripted")), "{panicked:?}");
    assert!(matches!(failing.wait(), Err(Error::Picture { .. })));
    let result = good.wait().unwrap();
    assert!(result.infer > result.prepare, "{result:?}");
    assert_eq!(ended.load(Ordering::SeqCst), 2, "frames are gone before their tickets are answered");
    let stats = engine.stats();
    assert_eq!((stats.frames, stats.failures), (1, 2));
}

#[test]
fn dropped_tickets_do_not_affect_other_jobs() {
    let engine = Engine::acquire(runtime(), &spec(4)).unwrap();
    for _ in 0..20 {
        drop(engine.submit(RgbFrame::stop_sign(), settings(0.5)));
    }
    engine.submit(RgbFrame::stop_sign(), settings(0.5)).wait().unwrap();
    // One session processes jobs in order, so the other jobs are complete.
    assert_eq!(engine.stats().frames, 21);
}

#[test]
fn pending_jobs_of_a_closed_engine_get_an_answer() {
    let engine = Engine::acquire(runtime(), &spec(5)).unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    let (release, gate) = crossbeam_channel::bounded::<()>(0);
    let wait = move || {
        let _ = gate.recv();
        Ok(())
    };
    let first = engine.submit(Box::new(Scripted(wait, Arc::clone(&ended))), settings(0.5));
    let rest: Vec<_> =
        (0..3).map(|_| engine.submit(Box::new(Scripted(|| Ok(()), Arc::clone(&ended))), settings(0.5))).collect();
    let closing = thread::spawn(move || drop(engine));
    drop(release);
    closing.join().unwrap();
    assert!(first.is_done() && rest.iter().all(gstvx::detect::Ticket::is_done));
    assert_eq!(ended.load(Ordering::SeqCst), 4);
    for ticket in rest {
        assert!(matches!(ticket.wait(), Err(Error::EngineClosed | Error::Picture { .. })));
    }
}

#[test]
fn a_frame_can_drop_its_own_engine() {
    struct Owner {
        _engine: Engine,
    }
    impl Frame for Owner {
        fn picture(&self) -> Result<Picture<'_>, Error> {
            Err(Error::Picture { reason: "none".to_owned() })
        }
    }
    let engine = Engine::acquire(runtime(), &spec(6)).unwrap();
    let ticket = engine.submit(Box::new(Owner { _engine: engine.clone() }), settings(0.5));
    drop(engine);
    assert!(ticket.wait().is_err());
}

#[test]
fn batches_give_the_same_results_as_single_frames() {
    let Some(path) = shared("models/yolov8n_fp32_dynamic.onnx") else {
        return;
    };
    let engine = |batch_size| {
        let model = ModelSource::File(path.clone());
        Engine::acquire(runtime(), &EngineSpec { model, batch_size, ..spec(1) }).unwrap()
    };
    let single = engine(1).submit(RgbFrame::stop_sign(), settings(0.2)).wait().unwrap().detections;
    let batched = engine(4);
    let tickets: Vec<_> = (0..9).map(|_| batched.submit(RgbFrame::stop_sign(), settings(0.2))).collect();
    for ticket in tickets {
        let found = ticket.wait().unwrap().detections;
        assert_eq!(found.len(), single.len());
        for (a, b) in found.iter().zip(&single) {
            assert!(a.class_id == b.class_id && (a.confidence - b.confidence).abs() < 1e-3, "{a:?} {b:?}");
        }
    }
    assert!(batched.stats().batches < 9, "{:?}", batched.stats());
}

#[test]
fn openvino_and_the_cpu_provider_give_the_same_detections() {
    let Some(path) = shared("models/yolov8n_fp32_dynamic.onnx") else {
        return;
    };
    let openvino = EngineSpec { model: ModelSource::File(path), provider: Provider::OpenVino, ..EngineSpec::default() };
    match Engine::acquire(runtime(), &openvino) {
        Err(error @ Error::ProviderUnavailable { .. }) => {
            assert!(error.to_string().contains("openvino"), "{error}");
            println!("skipped: {error}");
        }
        engine => {
            let engine = engine.unwrap();
            assert_eq!(engine.provider().provider, Provider::OpenVino);
            let found = engine.submit(RgbFrame::stop_sign(), settings(0.25)).wait().unwrap().detections;
            let [sign] = found.as_slice() else { panic!("{found:?}") };
            assert!(sign.class_id == 11 && (sign.confidence - 0.9538).abs() < 0.05, "{sign:?}");
            assert!(overlap(sign, [98.46, 28.77, 124.15, 123.93]) > 0.95, "{sign:?}");
        }
    }
}

#[test]
fn a_broken_provider_library_is_an_error_when_requested_and_a_reported_reason_under_auto() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("libonnxruntime_providers_openvino_plugin.so"), "no library").unwrap();
    let spec = |provider| EngineSpec { provider, provider_dirs: vec![dir.path().to_owned()], ..spec(7) };
    let automatic = Engine::acquire(runtime(), &spec(Provider::Auto)).unwrap();
    // If another test registers a working library, it replaces the broken one from then on.
    if let Err(error) = Engine::acquire(runtime(), &spec(Provider::OpenVino)) {
        assert!(matches!(error, Error::ProviderUnavailable { .. }), "{error:?}");
        assert_eq!(automatic.provider().provider, Provider::Cpu);
    }
    automatic.submit(RgbFrame::stop_sign(), settings(0.5)).wait().unwrap();
}

#[test]
fn plugin_providers_are_found_by_name_and_errors_name_the_library() {
    let plugins = [
        (Provider::WebGpu, "libonnxruntime_providers_webgpu.so", "onnxruntime-ep-webgpu"),
        (Provider::TensorRtRtx, "libonnxruntime_providers_nv_tensorrt_rtx.so", "onnxruntime-ep-nv-tensorrt-rtx"),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (provider, file, package) in plugins {
        let error = || {
            let dirs = vec![dir.path().to_owned()];
            let spec = EngineSpec { provider: provider.clone(), provider_dirs: dirs, ..spec(7) };
            Engine::acquire(runtime(), &spec).map(drop).unwrap_err().to_string()
        };
        if PluginProvider::ALL.iter().any(|plugin| plugin.provider == provider && plugin.find(runtime(), &[]).is_ok()) {
            println!("skipped a part: {provider} is installed");
        } else {
            let missing = error();
            for part in [file, package, &dir.path().display().to_string()] {
                assert!(missing.contains(part), "{missing}");
            }
        }
        let library = dir.path().join(file);
        std::fs::write(&library, "no library").unwrap();
        let broken = error();
        assert!(broken.contains(&format!("{} cannot be loaded", library.display())), "{broken}");
    }
}

#[test]
fn frames_of_any_size_are_accepted() {
    let engine = Engine::acquire(runtime(), &spec(8)).unwrap();
    for (width, height) in [(1, 1), (1, 500), (3000, 2), (WIDTH, HEIGHT)] {
        let pixels = Arc::new(vec![128; width * height * 3]);
        engine.submit(Box::new(RgbFrame { pixels, width, height }), settings(0.5)).wait().unwrap();
    }
}

#[test]
fn a_second_library_is_reported_and_not_loaded() {
    let runtime = runtime();
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("libonnxruntime.so");
    std::fs::write(&other, "").unwrap();
    let options = gstvx::detect::RuntimeOptions { library: Some(other.clone()), ..Default::default() };
    let (same, note) = gstvx::detect::Runtime::load(&options).unwrap();
    assert_eq!(same.library(), runtime.library());
    assert!(note.unwrap().contains(&other.display().to_string()));
    assert!(Path::new(same.library()).is_absolute() && same.version().contains('.'), "{same:?}");
}

#[test]
fn a_requested_but_missing_provider_causes_an_error_that_names_what_is_missing() {
    let of = |provider: Provider, tuning: Tuning| {
        Engine::acquire(runtime(), &EngineSpec { provider, tuning, ..spec(9) }).map(|engine| engine.provider().clone())
    };
    let text = |provider, tuning| of(provider, tuning).unwrap_err().to_string();
    let providers = [
        Provider::Cuda,
        Provider::TensorRt,
        Provider::TensorRtRtx,
        Provider::CoreMl,
        Provider::DirectMl,
        Provider::WebGpu,
    ];
    for provider in providers {
        match of(provider.clone(), Tuning::default()) {
            Ok(report) => println!("skipped: {} is there", report.name),
            Err(error) => {
                let text = error.to_string();
                let is_clear = ["built without it", "does not run on it", "was not found in"]
                    .iter()
                    .any(|reason| text.contains(reason));
                assert!(text.contains(&provider.to_string()) && is_clear, "{text}");
            }
        }
    }
    let missing = text(Provider::Library("/nowhere/libep.so".into()), Tuning::default());
    assert!(missing.contains("/nowhere/libep.so") && missing.contains("no such file"), "{missing}");
    // The CPU provider supports one number format and no options. As a fallback it may ignore both.
    let half = Tuning { precision: Precision::Fp16, options: Vec::new() };
    assert!(text(Provider::Cpu, half.clone()).contains("precision=auto"));
    let report = of(Provider::Auto, half).unwrap();
    // Either no other provider exists, or the processor cannot multiply this format.
    let is_reported = |reason: String| reason.contains("requested precision") || reason.contains("does not support");
    assert!(report.provider != Provider::Cpu || report.fallback.is_some_and(is_reported));
    // Unknown names are an error even where a fallback is allowed.
    let toaster = Tuning { precision: Precision::Auto, options: Tuning::parse_options("device=TOASTER").unwrap() };
    let wrong = text(Provider::Auto, toaster);
    assert!(wrong.contains("TOASTER") && wrong.contains("CPU, GPU or NPU"), "{wrong}");
}

#[test]
fn a_plugin_provider_runs_the_model_with_its_options() {
    let of = |precision: Precision, options: &str| {
        let tuning = Tuning { precision, options: Tuning::parse_options(options).unwrap() };
        Engine::acquire(runtime(), &EngineSpec { provider: Provider::OpenVino, tuning, ..spec(10) })
    };
    let engine = match of(Precision::Fp32, "NUM_STREAMS=2,device=CPU") {
        Ok(engine) => engine,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    let report = engine.provider();
    assert_eq!((&*report.name, &*report.device, &*report.precision), ("OpenVINOExecutionProvider", "CPU", "f32"));
    assert!(report.operators.on_provider > 0, "{report:?}");
    engine.submit(RgbFrame::stop_sign(), settings(0.5)).wait().unwrap();
}

#[test]
fn a_run_waits_for_a_full_batch_and_threads_can_be_pinned_to_cores() {
    let Some(path) = shared("models/yolov8n_fp32_dynamic.onnx") else {
        return;
    };
    let spec = EngineSpec {
        model: ModelSource::File(path),
        provider: Provider::Cpu,
        sessions: 1,
        batch_size: 3,
        batch_timeout: Duration::from_secs(20),
        optimize_for: OptimizeFor::Latency,
        pin_threads: true,
        ..EngineSpec::default()
    };
    let engine = Engine::acquire(runtime(), &spec).unwrap();
    let before = engine.stats().batches;
    let tickets: Vec<_> = (0..6).map(|_| engine.submit(RgbFrame::stop_sign(), settings(0.25))).collect();
    for ticket in tickets {
        assert_eq!(ticket.wait().unwrap().detections.len(), 1);
    }
    assert_eq!(engine.stats().batches - before, 2);
}

#[test]
fn bound_outputs_are_not_carried_over_to_the_next_frame() {
    let spec = spec(11);
    let engine = Engine::acquire(runtime(), &spec).unwrap();
    let grey = || {
        let pixels = Arc::new(vec![128; WIDTH * HEIGHT * 3]);
        Box::new(RgbFrame { pixels, width: WIDTH, height: HEIGHT })
    };
    let best = |frame: Box<dyn Frame>| {
        let result = engine.submit(frame, settings(0.0)).wait().unwrap();
        result.detections.first().map(|found| (found.confidence, found.x_min))
    };
    let (sign, blank) = (best(RgbFrame::stop_sign()), best(grey()));
    assert_ne!(sign, blank);
    for _ in 0..3 {
        assert_eq!(best(RgbFrame::stop_sign()), sign);
        assert_eq!(best(grey()), blank);
    }
}

/// Runs threads that open, use, abandon and close engines with two specs, and read their statistics, all at once.
#[test]
fn many_threads_can_open_use_and_drop_engines_at_once() {
    let threads: Vec<_> = (0..8)
        .map(|thread: usize| {
            thread::spawn(move || {
                let mut answered = 0;
                for round in 0..12 {
                    let spec = EngineSpec { sessions: 1 + (thread + round) % 2, batch_size: 1 + round % 3, ..spec(12) };
                    let engine = Engine::acquire(runtime(), &spec).unwrap();
                    let mut tickets: Vec<_> =
                        (0..6).map(|_| engine.submit(RgbFrame::stop_sign(), settings(0.5))).collect();
                    let kept = tickets.split_off(round % 4);
                    drop(tickets);
                    assert!(engine.stats().users > 0);
                    if round % 3 == 0 {
                        // The last handle can be dropped while frames are queued: they still get an answer.
                        drop(engine);
                    }
                    for ticket in kept {
                        match ticket.wait() {
                            Ok(_) => answered += 1,
                            Err(error) => assert!(matches!(error, Error::EngineClosed), "{error}"),
                        }
                    }
                }
                answered
            })
        })
        .collect();
    let answered: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(answered > 0);
}
