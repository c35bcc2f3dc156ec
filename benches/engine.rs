// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares the frames per second of the engine with a plain loop of ONNX Runtime's `run`, with the same number of sessions and
//! threads.
//!
//! `cargo bench --bench engine [-- MODEL.onnx]`; the default is the built-in model. The loop only runs the model on an existing
//! tensor. The engine also queues 720p frames, prepares them and reads the detections. Each round measures both in separate
//! processes; the output shows medians and extremes.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use gstvx::detect::{
    DetectSettings, Engine, EngineSpec, Error, Frame, Matrix, ModelSource, Picture, PixelFormat, Plane, Provider,
    Range, Runtime, RuntimeOptions,
};
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Tensor;

const ROUNDS: usize = 7;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(4);
const WIDTH: usize = 1280;
const HEIGHT: usize = 720;

fn library() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/lib/libonnxruntime.so")
}

fn model() -> PathBuf {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/person-320.onnx");
    std::env::args().skip(1).find(|argument| argument.ends_with(".onnx")).map_or(built_in, PathBuf::from)
}

/// Returns an I420 frame of stripes.
struct Stripes(Arc<Vec<u8>>);

impl Frame for Stripes {
    fn picture(&self) -> Result<Picture<'_>, Error> {
        let (luma, chroma) = self.0.split_at(WIDTH * HEIGHT);
        let (blue, red) = chroma.split_at(chroma.len() / 2);
        let plane = |data, stride| Plane { data, stride };
        let planes = [plane(luma, WIDTH), plane(blue, WIDTH / 2), plane(red, WIDTH / 2)];
        Picture::new(PixelFormat::I420, WIDTH, HEIGHT, &planes, Matrix::Bt709, Range::Limited)
    }
}

/// Returns the frames per second of the engine.
fn engine() -> f64 {
    let options = RuntimeOptions { search_dirs: vec![library().parent().unwrap().to_owned()], ..Default::default() };
    let (runtime, _) = Runtime::load(&options).unwrap();
    let spec = EngineSpec { model: ModelSource::File(model()), provider: Provider::Cpu, ..EngineSpec::default() };
    let engine = Engine::acquire(runtime, &spec).unwrap();
    let pixels: Arc<Vec<u8>> = Arc::new((0..WIDTH * HEIGHT * 3 / 2).map(|i| (i * 7 % 251) as u8).collect());
    let settings = Arc::new(DetectSettings::default());
    let work = |time: Duration| {
        let submit = || engine.submit(Box::new(Stripes(Arc::clone(&pixels))), Arc::clone(&settings));
        let (started, mut frames) = (Instant::now(), 0_u32);
        let mut tickets: std::collections::VecDeque<_> = (0..2 * num_cpus::get()).map(|_| submit()).collect();
        while let Some(ticket) = tickets.pop_front() {
            ticket.wait().unwrap();
            frames += 1;
            if started.elapsed() < time {
                tickets.push_back(submit());
            }
        }
        f64::from(frames) / started.elapsed().as_secs_f64()
    };
    work(WARM_UP);
    work(MEASURED)
}

/// Returns the runs per second of the plain loop, with one session per core.
fn bare() -> f64 {
    let environment = ort::init_from(library()).unwrap().build().unwrap();
    let threads = num_cpus::get();
    let barrier = Arc::new(Barrier::new(threads));
    let weights = ort::session::builder::PrepackedWeights::new();
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let builder = ort::session::Session::builder(&environment).unwrap();
            let builder = builder.with_optimization_level(GraphOptimizationLevel::All).unwrap();
            let builder = builder.with_intra_threads(1).unwrap().with_prepacked_weights(&weights).unwrap();
            let mut session = builder.with_memory_pattern(true).unwrap().commit_from_file(model()).unwrap();
            let barrier = Arc::clone(&barrier);
            std::thread::spawn(move || {
                let shape = session.inputs()[0].dtype().tensor_shape().unwrap();
                let shape: Vec<i64> = shape.iter().map(|&length| if length < 0 { 1 } else { length }).collect();
                let count: i64 = shape.iter().product();
                let input = Tensor::from_array((shape, vec![0.4_f32; count as usize])).unwrap();
                let mut work = |time: Duration| {
                    barrier.wait();
                    let (started, mut runs) = (Instant::now(), 0_u32);
                    while started.elapsed() < time {
                        session.run(ort::inputs![&input]).unwrap();
                        runs += 1;
                    }
                    f64::from(runs) / started.elapsed().as_secs_f64()
                };
                work(WARM_UP);
                work(MEASURED)
            })
        })
        .collect();
    workers.into_iter().map(|worker| worker.join().unwrap()).sum()
}

fn main() {
    match std::env::var("VX_ENGINE_BENCH").as_deref() {
        Ok("engine") => return println!("{}", engine()),
        Ok("bare") => return println!("{}", bare()),
        _ => {}
    }
    let measure = |what: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(std::env::args().skip(1)).env("VX_ENGINE_BENCH", what).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        text.parse::<f64>().unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    };
    let mut rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (measure("bare"), measure("engine"))).collect();
    let show = |name: &str, mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let (least, median, most) = (values[0], values[values.len() / 2], values[values.len() - 1]);
        println!("{name:24} {median:8.2}  ({least:.2} to {most:.2})");
    };
    println!("{} on {} cores, frames a second", model().display(), num_cpus::get());
    show("bare loop of run", rounds.iter().map(|(bare, _)| *bare).collect());
    show("engine, 720p frames", rounds.iter().map(|(_, engine)| *engine).collect());
    show("engine / bare", rounds.drain(..).map(|(bare, engine)| engine / bare).collect());
}
