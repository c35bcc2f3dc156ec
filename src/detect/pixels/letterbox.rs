// SPDX-License-Identifier: MIT OR Apache-2.0
//! The geometry between a frame and a model's input: scale, position, and the inverse mapping.
//!
//! Pure arithmetic; knows no pixels. Any thread.

/// How a frame is fitted to the model's input, the canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResizeMode {
    /// With its aspect ratio, in the middle: Ultralytics.
    Letterbox,
    /// With its aspect ratio, at the top left: YOLOX.
    LetterboxTopLeft,
    /// Stretched to the whole canvas: PicoDet, NanoDet.
    Stretch,
}

/// The position of a scaled frame on a canvas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Letterbox {
    /// Canvas pixels per frame pixel, horizontally and vertically.
    pub scale: (f64, f64),
    /// Columns of the canvas left of the frame.
    pub left: usize,
    /// Rows of the canvas above the frame.
    pub top: usize,
    /// Width of the scaled frame, at least 1.
    pub width: usize,
    /// Height of the scaled frame, at least 1.
    pub height: usize,
    /// Size of the canvas.
    pub canvas: (usize, usize),
    /// Size of the frame in pixels.
    pub frame: (usize, usize),
}

impl Letterbox {
    /// Fits a frame of size `frame` (width, height) to a canvas of size `canvas` (width, height), all at least 1.
    ///
    /// As in the usual training code: scale = min of the two ratios, sides rounded half to even (Python's `round`), the spare
    /// pixels halved and rounded down.
    pub fn new(frame: (usize, usize), canvas: (usize, usize), resize_mode: ResizeMode) -> Self {
        let ratios = (canvas.0 as f64 / frame.0 as f64, canvas.1 as f64 / frame.1 as f64);
        if resize_mode == ResizeMode::Stretch {
            return Self { scale: ratios, left: 0, top: 0, width: canvas.0, height: canvas.1, canvas, frame };
        }
        let scale = ratios.1.min(ratios.0);
        let side = |length: usize, limit: usize| ((length as f64 * scale).round_ties_even() as usize).clamp(1, limit);
        let (width, height) = (side(frame.0, canvas.0), side(frame.1, canvas.1));
        let (left, top) = match resize_mode {
            ResizeMode::Letterbox => ((canvas.0 - width) / 2, (canvas.1 - height) / 2),
            ResizeMode::LetterboxTopLeft | ResizeMode::Stretch => (0, 0),
        };
        Self { scale: (scale, scale), left, top, width, height, canvas, frame }
    }

    /// Converts a box (x1, y1, x2, y2) from pixels of the canvas to pixels of the frame, clamped to the frame.
    pub fn to_frame(&self, canvas_box: [f32; 4]) -> [f32; 4] {
        let back = |value: f32, offset: usize, scale: f64, limit: usize| {
            ((f64::from(value) - offset as f64) / scale).clamp(0.0, limit as f64) as f32
        };
        let x = |value| back(value, self.left, self.scale.0, self.frame.0);
        let y = |value| back(value, self.top, self.scale.1, self.frame.1);
        [x(canvas_box[0]), y(canvas_box[1]), x(canvas_box[2]), y(canvas_box[3])]
    }

    /// Clamps a box in pixels of the canvas to the area of the frame.
    pub fn clamp(&self, canvas_box: [f32; 4]) -> [f32; 4] {
        let limit = |value: f32, offset: usize, scale: f64, side: usize| {
            f64::from(value).clamp(offset as f64, offset as f64 + side as f64 * scale) as f32
        };
        let x = |value| limit(value, self.left, self.scale.0, self.frame.0);
        let y = |value| limit(value, self.top, self.scale.1, self.frame.1);
        [x(canvas_box[0]), y(canvas_box[1]), x(canvas_box[2]), y(canvas_box[3])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_frames_are_padded_above_and_below() {
        let fit = Letterbox::new((1920, 1080), (640, 640), ResizeMode::Letterbox);
        assert_eq!((fit.left, fit.top, fit.width, fit.height), (0, 140, 640, 360));
        assert_eq!(fit.to_frame([0.0, 140.0, 640.0, 500.0]), [0.0, 0.0, 1920.0, 1080.0]);
    }

    #[test]
    fn boxes_are_clamped_to_the_frame() {
        let fit = Letterbox::new((100, 200), (320, 320), ResizeMode::Letterbox);
        assert_eq!(fit.to_frame([-50.0, -50.0, 900.0, 900.0]), [0.0, 0.0, 100.0, 200.0]);
    }

    #[test]
    fn boxes_are_clamped_to_the_area_of_the_frame_on_the_canvas() {
        let fit = Letterbox::new((1920, 1080), (640, 640), ResizeMode::Letterbox);
        assert_eq!(fit.clamp([-5.0, 100.0, 700.0, 300.0]), [0.0, 140.0, 640.0, 300.0]);
    }

    #[test]
    fn halves_round_to_even_as_in_python() {
        // 5 * (2 / 4) = 2.5 rounds to 2, 7 * 0.5 = 3.5 to 4.
        assert_eq!(Letterbox::new((4, 5), (2, 9), ResizeMode::Letterbox).height, 2);
        assert_eq!(Letterbox::new((4, 7), (2, 9), ResizeMode::Letterbox).height, 4);
    }

    #[test]
    fn extreme_shapes_keep_a_pixel_and_stay_on_the_canvas() {
        let fit = Letterbox::new((65_536, 1), (640, 640), ResizeMode::Letterbox);
        assert_eq!((fit.width, fit.height), (640, 1));
        let tiny = Letterbox::new((1, 1), (640, 320), ResizeMode::LetterboxTopLeft);
        assert_eq!((tiny.width, tiny.height, tiny.left, tiny.top), (320, 320, 0, 0));
    }
}
