// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared helpers for the tests of the detection layer: ONNX Runtime, a picture that every detector recognizes, and frames made
//! from it.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gstvx::detect::{
    DetectSettings, Detection, Error, Frame, Matrix, Picture, PixelFormat, Plane, Range, Runtime, RuntimeOptions,
};

/// Loads ONNX Runtime from the folder where `make setup` installs it.
pub fn runtime() -> &'static Runtime {
    let options = RuntimeOptions {
        search_dirs: vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/lib")],
        ..RuntimeOptions::default()
    };
    match Runtime::load(&options) {
        Ok((runtime, _)) => runtime,
        Err(error) => panic!("this test needs ONNX Runtime: {error}"),
    }
}

/// Returns the path of a file in the shared test material; prints a message if it is missing.
pub fn shared(path: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    println!("skipped: {} is not there", found.display());
    None
}

pub const WIDTH: usize = 320;
pub const HEIGHT: usize = 240;

/// Draws a stop sign on a pole in front of sky and grass, as RGB.
pub fn stop_sign() -> Vec<u8> {
    let mut pixels = Vec::with_capacity(WIDTH * HEIGHT * 3);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let (dx, dy) = (x.abs_diff(160), y.abs_diff(90));
            let around = dx.max(dy).max((dx + dy) * 5 / 7);
            let column = x % 20;
            let letter = dy < 14 && dx < 40 && column < 12 && (column < 4 || !(3..10).contains(&dy));
            let colour = if around < 56 {
                if letter { [240, 240, 240] } else { [190, 20, 30] }
            } else if around < 62 {
                [235, 235, 235]
            } else if dx < 4 && (90..230).contains(&y) {
                [120, 120, 120]
            } else if y < 190 {
                [100 + y / 4, 150 + y / 8, 220]
            } else {
                [90 + (x * 7 + y * 3) % 16, 110, 60]
            };
            pixels.extend(colour.map(|level| level as u8));
        }
    }
    pixels
}

/// A frame that owns RGB pixels.
pub struct RgbFrame {
    pub pixels: Arc<Vec<u8>>,
    pub width: usize,
    pub height: usize,
}

impl RgbFrame {
    pub fn stop_sign() -> Box<Self> {
        Box::new(Self { pixels: Arc::new(stop_sign()), width: WIDTH, height: HEIGHT })
    }
}

impl Frame for RgbFrame {
    fn picture(&self) -> Result<Picture<'_>, Error> {
        let planes = [Plane { data: &self.pixels, stride: 3 * self.width }];
        Picture::new(PixelFormat::Rgb, self.width, self.height, &planes, Matrix::Bt601, Range::Full)
    }
}

pub fn settings(confidence_threshold: f32) -> Arc<DetectSettings> {
    Arc::new(DetectSettings { confidence_threshold, ..DetectSettings::default() })
}

/// Returns the intersection over union of a detection and [x, y, width, height].
pub fn overlap(found: &Detection, [x, y, width, height]: [f32; 4]) -> f32 {
    let across = (found.x_max.min(x + width) - found.x_min.max(x)).max(0.0);
    let down = (found.y_max.min(y + height) - found.y_min.max(y)).max(0.0);
    let both = across * down;
    both / ((found.x_max - found.x_min) * (found.y_max - found.y_min) + width * height - both)
}
