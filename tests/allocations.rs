// SPDX-License-Identifier: MIT OR Apache-2.0
//! A frame's way through the engine allocates nothing: inputs, outputs and scratch memory stay from frame to frame.
//!
//! Alone in its binary, because the counting allocator counts what all threads do. It sees what Rust code allocates, ort's
//! included; ONNX Runtime's own arena is not Rust's.

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

/// A frame that needs no memory of its own.
struct Sign;

impl Frame for Sign {
    fn picture(&self) -> Result<Picture<'_>, Error> {
        static PIXELS: OnceLock<Vec<u8>> = OnceLock::new();
        let planes = [Plane { data: PIXELS.get_or_init(stop_sign), stride: 3 * WIDTH }];
        Picture::new(PixelFormat::Rgb, WIDTH, HEIGHT, &planes, Matrix::Bt601, Range::Full)
    }
}

/// Allocations of 20 runs with a frame each, the least of several times, and what is found on a frame.
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
    // The first frames are looked at closely, and make the scratch memory as large as it gets.
    (0..12).for_each(|_| run());
    // Other threads of the process (the test harness, what the system brings up once) allocate now and then: a frame's own
    // allocations are there every time.
    let measured = (0..5).map(|_| {
        let region = Region::new(ALLOCATOR);
        (0..20).for_each(|_| run());
        let change = region.change();
        change.allocations + change.reallocations
    });
    (measured.min().unwrap_or(0), found)
}

#[test]
fn a_frame_allocates_nothing_but_the_list_of_what_was_found() {
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
