// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asserts that a frame's way through the engine allocates no memory: inputs, outputs and scratch memory are reused.
//!
//! Alone in its binary, because the counting allocator counts the allocations of all threads. It counts Rust allocations, including
//! those of ort, but not those of ONNX Runtime's own arena.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod detect_support;

use std::alloc::System;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use detect_support::{HEIGHT, WIDTH, runtime, settings, stop_sign};
use gstvx::detect::{
    DetectSettings, Engine, EngineSpec, Error, Frame, Matrix, ModelSource, Picture, PixelFormat, Plane, Provider, Range,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A frame without memory.
struct Sign;

impl Frame for Sign {
    fn picture(&self) -> Result<Picture<'_>, Error> {
        static PIXELS: OnceLock<Vec<u8>> = OnceLock::new();
        let planes = [Plane { data: PIXELS.get_or_init(stop_sign), stride: 3 * WIDTH }];
        Picture::new(PixelFormat::Rgb, WIDTH, HEIGHT, &planes, Matrix::Bt601, Range::Full)
    }
}

/// Returns the allocations of 20 runs with one frame each, as the minimum of several measurements, and the number of detections in
/// a frame.
fn allocations(engine: &Engine, settings: &Arc<DetectSettings>, batch_size: usize) -> (usize, usize) {
    let mut tickets = Vec::with_capacity(batch_size);
    let mut found = 0;
    let mut run = || {
        found = 0;
        tickets.extend((0..batch_size).map(|_| engine.submit(Box::new(Sign), Arc::clone(settings))));
        for ticket in tickets.drain(..) {
            found += ticket.wait().unwrap().detections.len();
        }
    };
    // The first frames get additional checks, and grow the scratch memory to its maximum.
    (0..12).for_each(|_| run());
    // Other threads of the process (the test harness, one-time system setup) allocate occasionally. Allocations for a frame would
    // occur in every measurement.
    let measured = (0..5).map(|_| {
        let region = Region::new(ALLOCATOR);
        (0..20).for_each(|_| run());
        let change = region.change();
        change.allocations + change.reallocations
    });
    (measured.min().unwrap_or(0), found)
}

#[test]
fn a_frame_allocates_only_the_list_of_detections() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let file = |name: &str| ModelSource::File(models.join(name));
    let sources = [ModelSource::BuiltIn, file("v8_bytes_last.onnx"), file("yolo_nas.onnx"), file("detr_logits.onnx")];
    let mut seen = 0;
    for model in sources {
        let spec =
            EngineSpec { model, provider: Provider::Cpu, sessions: 1, intra_op_threads: 1, ..EngineSpec::default() };
        let engine = Engine::acquire(runtime(), &spec).unwrap();
        let (count, found) = allocations(&engine, &settings(1.0), 1);
        assert_eq!((count, found), (0, 0), "{:?}", spec.model);
        let (count, found) = allocations(&engine, &settings(0.01), 1);
        assert!(
            count <= 20 * found.min(4),
            "{count} allocations in 20 frames with {found} detections, {:?}",
            spec.model
        );
        seen += found;
    }
    assert!(seen > 0);
}
