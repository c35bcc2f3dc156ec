// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures what `vxoverlay` adds to a frame: the drawing of detections into planes, without GStreamer.
//!
//! `cargo bench --bench overlay`. One core; 1080p in I420, NV12, RGB and 10 bits, with the boxes and labels of ten objects, with
//! their masks, with the keypoints of ten persons, and with two persons pixelated.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gstvx::detect::{Details, Mask, Matrix, PixelFormat, Range};
use gstvx::draw::{PlaneMut, Style, Surface, draw};
use gstvx::meta::Found;

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
const OBJECTS: usize = 10;

/// Ten objects of 200 to 425 pixels that overlap here and there.
fn objects(details: impl Fn([f64; 4]) -> Details) -> Vec<Found> {
    let names = ["person", "dog", "bicycle", "traffic light"];
    let object = |number: usize| {
        let (side, at) = (200.0 + 25.0 * number as f64, number as f64);
        let rectangle = [at * 160.0, at * 60.0, side, side * 1.2];
        Found {
            label: names[number % names.len()].into(),
            class_id: None,
            confidence: Some(0.9 - 0.05 * at),
            rectangle,
            details: details(rectangle),
        }
    };
    (0..OBJECTS).map(object).collect()
}

/// An ellipse, of the size that a model with 640x640 pixels has.
fn ellipse(rectangle: [f64; 4]) -> Mask {
    let (width, height) = (rectangle[2] as usize / 12, rectangle[3] as usize / 12);
    let from_centre = |at: usize, length: usize| (2 * at + 1) as f64 / length as f64 - 1.0;
    let value = |index: usize| {
        let (x, y) = (from_centre(index % width, width), from_centre(index / width, height));
        if x * x + y * y < 1.0 { 255 } else { 0 }
    };
    Mask { width, height, values: (0..width * height).map(value).collect() }
}

/// 17 points in a box.
fn person([left, top, width, height]: [f64; 4]) -> Vec<[f32; 3]> {
    let point = |number: usize| {
        let (x, y) = ((number * 7 % 17) as f64 / 16.0, number as f64 / 16.0);
        [(left + x * width) as f32, (top + y * height) as f32, 0.9]
    };
    (0..17).map(point).collect()
}

fn overlay(criterion: &mut Criterion) {
    let plain = objects(|_| Details::default());
    let masks = objects(|rectangle| Details { mask: Some(ellipse(rectangle)), ..Details::default() });
    let keypoints = objects(|rectangle| Details { keypoints: person(rectangle), ..Details::default() });
    let redacted = Style { redact: "person".to_owned().into(), ..Style::default() };
    let cases = [
        ("boxes", &plain, Style::default()),
        ("masks", &masks, Style::default()),
        ("keypoints", &keypoints, Style::default()),
        ("redact=person", &plain, redacted),
    ];
    let (whole, half) = ((WIDTH, HEIGHT), (WIDTH / 2, HEIGHT / 2));
    // Bytes of a row, and rows, of each plane.
    for (format, name, planes) in [
        (PixelFormat::I420, "I420", vec![whole, half, half]),
        (PixelFormat::Nv12, "NV12", vec![whole, (WIDTH, HEIGHT / 2)]),
        (PixelFormat::Rgb, "RGB", vec![(3 * WIDTH, HEIGHT)]),
        (PixelFormat::I42010le, "I420_10LE", vec![(2 * WIDTH, HEIGHT), (WIDTH, HEIGHT / 2), (WIDTH, HEIGHT / 2)]),
    ] {
        let mut planes: Vec<_> = planes.into_iter().map(|(stride, rows)| (vec![1; stride * rows], stride)).collect();
        let mut group = criterion.benchmark_group(format!("{name} {WIDTH}x{HEIGHT}"));
        for (what, found, style) in &cases {
            group.bench_function(*what, |bencher| {
                bencher.iter(|| {
                    let planes = planes.iter_mut().map(|(data, stride)| PlaneMut { data, stride: *stride }).collect();
                    let mut surface =
                        Surface::new(format, (WIDTH, HEIGHT), planes, Matrix::Bt709, Range::Limited).unwrap();
                    draw(&mut surface, black_box(found), style);
                });
            });
        }
    }
}

criterion_group!(benches, overlay);
criterion_main!(benches);
