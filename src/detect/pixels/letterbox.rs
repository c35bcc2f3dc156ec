//! The geometry between a frame and a model's input: scale, place, and the way back.
//!
//! Pure arithmetic; knows no pixels. Any thread.

/// Where the scaled frame lies on the model's canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Anchor {
    /// In the middle, as Ultralytics trains and infers.
    Center,
    /// At the top left, as YOLOX does.
    TopLeft,
    /// All over the canvas, its aspect ratio not kept, as PicoDet and NanoDet do.
    Stretch,
}

/// A frame scaled to fit a canvas, with its aspect ratio kept unless it is stretched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Letterbox {
    /// Canvas pixels for each frame pixel, across and down.
    pub scale: (f64, f64),
    /// Columns of the canvas left of the frame.
    pub left: usize,
    /// Rows of the canvas above the frame.
    pub top: usize,
    /// Columns that the scaled frame takes, at least 1.
    pub width: usize,
    /// Rows that the scaled frame takes, at least 1.
    pub height: usize,
    /// Size of the canvas.
    pub canvas: (usize, usize),
    /// Size of the frame in pixels.
    pub frame: (usize, usize),
}

impl Letterbox {
    /// Fits a frame of `frame` (width, height) onto a canvas of `canvas` (width, height), all at least 1.
    ///
    /// As the usual training code: scale = min of the two ratios, sides rounded half to even (Python's `round`), the spare
    /// pixels halved and rounded down.
    pub fn new(frame: (usize, usize), canvas: (usize, usize), anchor: Anchor) -> Self {
        let ratios = (canvas.0 as f64 / frame.0 as f64, canvas.1 as f64 / frame.1 as f64);
        if anchor == Anchor::Stretch {
            return Self { scale: ratios, left: 0, top: 0, width: canvas.0, height: canvas.1, canvas, frame };
        }
        let scale = ratios.1.min(ratios.0);
        let side = |length: usize, limit: usize| ((length as f64 * scale).round_ties_even() as usize).clamp(1, limit);
        let (width, height) = (side(frame.0, canvas.0), side(frame.1, canvas.1));
        let (left, top) = match anchor {
            Anchor::Center => ((canvas.0 - width) / 2, (canvas.1 - height) / 2),
            Anchor::TopLeft | Anchor::Stretch => (0, 0),
        };
        Self { scale: (scale, scale), left, top, width, height, canvas, frame }
    }

    /// A box in canvas pixels (x1, y1, x2, y2) as pixels of the frame, clamped to it.
    pub fn to_frame(&self, canvas_box: [f32; 4]) -> [f32; 4] {
        let back = |value: f32, offset: usize, scale: f64, limit: usize| {
            ((f64::from(value) - offset as f64) / scale).clamp(0.0, limit as f64) as f32
        };
        let x = |value| back(value, self.left, self.scale.0, self.frame.0);
        let y = |value| back(value, self.top, self.scale.1, self.frame.1);
        [x(canvas_box[0]), y(canvas_box[1]), x(canvas_box[2]), y(canvas_box[3])]
    }

    /// A box in canvas pixels, clamped to where the frame lies on the canvas.
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
        let fit = Letterbox::new((1920, 1080), (640, 640), Anchor::Center);
        assert_eq!((fit.left, fit.top, fit.width, fit.height), (0, 140, 640, 360));
        assert_eq!(fit.to_frame([0.0, 140.0, 640.0, 500.0]), [0.0, 0.0, 1920.0, 1080.0]);
    }

    #[test]
    fn boxes_are_clamped_to_the_frame() {
        let fit = Letterbox::new((100, 200), (320, 320), Anchor::Center);
        assert_eq!(fit.to_frame([-50.0, -50.0, 900.0, 900.0]), [0.0, 0.0, 100.0, 200.0]);
    }

    #[test]
    fn boxes_are_clamped_to_the_part_of_the_canvas_that_shows_the_frame() {
        let fit = Letterbox::new((1920, 1080), (640, 640), Anchor::Center);
        assert_eq!(fit.clamp([-5.0, 100.0, 700.0, 300.0]), [0.0, 140.0, 640.0, 300.0]);
    }

    #[test]
    fn halves_round_to_even_as_in_python() {
        // 5 * (2 / 4) = 2.5 rounds to 2, 7 * 0.5 = 3.5 to 4.
        assert_eq!(Letterbox::new((4, 5), (2, 9), Anchor::Center).height, 2);
        assert_eq!(Letterbox::new((4, 7), (2, 9), Anchor::Center).height, 4);
    }

    #[test]
    fn extreme_shapes_keep_a_pixel_and_stay_on_the_canvas() {
        let fit = Letterbox::new((65_536, 1), (640, 640), Anchor::Center);
        assert_eq!((fit.width, fit.height), (640, 1));
        let tiny = Letterbox::new((1, 1), (640, 320), Anchor::TopLeft);
        assert_eq!((tiny.width, tiny.height, tiny.left, tiny.top), (320, 320, 0, 0));
    }
}
