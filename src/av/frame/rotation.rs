// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rotating pictures upright: the container's display matrix, and the rotated copy.
//!
//! A display matrix maps a stored pixel (x, y) to (a x + c y, b x + d y), y downwards, in 16.16 fixed point; a, b, c, d
//! are its elements 0, 1, 3 and 4 (libavutil/display.h). Angles that are not multiples of 90 degrees are rounded to one.

use crate::av::error::Error;
use crate::av::frame::Frame;
use crate::av::frame::pool::PictureMemory;
use crate::av::frame::scaler::Scaler;

/// A rotation by a multiple of 90 degrees, or a mirroring: first swap x and y if `swap`, then mirror the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rotation {
    /// Rows become columns.
    pub swap: bool,
    /// The result is mirrored left to right.
    pub flip_x: bool,
    /// The result is mirrored top to bottom.
    pub flip_y: bool,
}

impl Rotation {
    /// Converts a display matrix.
    #[must_use]
    pub fn from_display_matrix(matrix: &[i32; 9]) -> Self {
        let [a, b, _, c, d, ..] = matrix.map(i64::from);
        if a == 0 && b == 0 && c == 0 && d == 0 {
            return Self::default();
        }
        if a.abs() + d.abs() >= b.abs() + c.abs() {
            Self { swap: false, flip_x: a < 0, flip_y: d < 0 }
        } else {
            Self { swap: true, flip_x: c < 0, flip_y: b < 0 }
        }
    }

    /// Whether the picture stays unchanged.
    #[must_use]
    pub fn is_identity(self) -> bool {
        self == Self::default()
    }

    /// Returns GStreamer's `image-orientation` tag: the mirroring, then the clockwise rotation, that shows the picture upright.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match (self.swap, self.flip_x, self.flip_y) {
            (false, false, false) => "rotate-0",
            (false, true, true) => "rotate-180",
            (false, true, false) => "flip-rotate-0",
            (false, false, true) => "flip-rotate-180",
            (true, true, false) => "rotate-90",
            (true, false, true) => "rotate-270",
            (true, false, false) => "flip-rotate-270",
            (true, true, true) => "flip-rotate-90",
        }
    }

    /// Returns a rotated copy of `frame`. Formats whose rotated form does not exist (4:2:2 becomes 4:4:0) are first converted
    /// to one that has it.
    ///
    /// # Errors
    /// When memory is short or no conversion exists.
    pub fn apply(self, frame: &Frame, scaler: &mut Scaler) -> Result<Frame, Error> {
        let format = frame.pixel_format()?;
        let is_rotatable = format.grid(1, 1).is_some() && (!self.swap || format.is_square_sampled());
        if is_rotatable && frame.has_plain_planes() {
            return self.rotated(frame, scaler.memory());
        }
        let target = if is_rotatable { format } else { Scaler::rotatable_format(format) };
        self.rotated(&scaler.convert(frame, target)?, scaler.memory())
    }

    fn rotated(self, frame: &Frame, memory: &PictureMemory) -> Result<Frame, Error> {
        let format = frame.pixel_format()?;
        let (width, height) = (frame.width(), frame.height());
        let (new_width, new_height) = if self.swap { (height, width) } else { (width, height) };
        let mut rotated = Frame::allocate(memory, format, new_width, new_height)?;
        rotated.copy_properties(frame)?;
        rotated.drop_display_matrix();
        let geometry = format.grid(new_width, new_height).unwrap_or_default();
        for (plane, to) in geometry.iter().enumerate() {
            let source =
                frame.plane(plane).ok_or_else(|| Error::Damaged("a plane of the picture is missing".into()))?;
            let source_stride = frame.stride(plane);
            let target_stride = rotated.stride(plane);
            let Some(target) = rotated.plane_mut(plane) else { continue };
            for (row, line) in target.chunks_mut(target_stride).take(to.rows).enumerate() {
                let row = if self.flip_y { to.rows - 1 - row } else { row };
                // Walk the source along a row, or along a column when x and y are swapped.
                let (start, stride) =
                    if self.swap { (row * to.step, source_stride) } else { (row * source_stride, to.step) };
                copy_samples(line, source, start, stride, to.columns, to.step, self.flip_x);
            }
        }
        Ok(rotated)
    }
}

/// Writes `count` samples of `step` bytes to `line`, read from `source` at `start`, `start + stride`, ...
fn copy_samples(
    line: &mut [u8],
    source: &[u8],
    start: usize,
    stride: usize,
    count: usize,
    step: usize,
    backwards: bool,
) {
    let samples = (0..count).map(|i| start + stride * if backwards { count - 1 - i } else { i });
    match step {
        1 => line.iter_mut().zip(samples).for_each(|(to, from)| *to = source[from]),
        _ => {
            for (to, from) in line.chunks_exact_mut(step).zip(samples) {
                to.copy_from_slice(&source[from..from + step]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::av::frame::pool::FramePool;

    const ONE: i32 = 1 << 16;

    fn matrix(a: i32, b: i32, c: i32, d: i32) -> [i32; 9] {
        [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    }

    #[test]
    fn display_matrices_give_the_rotation_that_shows_pictures_upright() {
        let cases = [
            (matrix(ONE, 0, 0, ONE), "rotate-0"),
            (matrix(0, ONE, -ONE, 0), "rotate-90"),
            (matrix(-ONE, 0, 0, -ONE), "rotate-180"),
            (matrix(0, -ONE, ONE, 0), "rotate-270"),
            (matrix(-ONE, 0, 0, ONE), "flip-rotate-0"),
            (matrix(ONE, 0, 0, -ONE), "flip-rotate-180"),
            (matrix(0, 0, 0, 0), "rotate-0"),
            (matrix(ONE, ONE / 9, -ONE / 9, ONE), "rotate-0"),
        ];
        for (matrix, tag) in cases {
            assert_eq!(Rotation::from_display_matrix(&matrix).tag(), tag, "{matrix:?}");
        }
    }

    #[test]
    fn rotations_move_the_corner_pixels() {
        // 3 x 2 picture: 1 2 3 / 4 5 6
        let format = crate::av::PixelFormat::from_name("gray").unwrap();
        let mut scaler = Scaler::new(&FramePool::default());
        let mut source = Frame::allocate(scaler.memory(), format, 3, 2).unwrap();
        let stride = source.stride(0);
        let pixels = source.plane_mut(0).unwrap();
        pixels[..3].copy_from_slice(&[1, 2, 3]);
        pixels[stride..stride + 3].copy_from_slice(&[4, 5, 6]);
        let cases: [(bool, bool, bool, &[&[u8]]); 6] = [
            (true, true, false, &[&[4, 1], &[5, 2], &[6, 3]]),
            (false, true, true, &[&[6, 5, 4], &[3, 2, 1]]),
            (true, false, true, &[&[3, 6], &[2, 5], &[1, 4]]),
            (false, true, false, &[&[3, 2, 1], &[6, 5, 4]]),
            (false, false, true, &[&[4, 5, 6], &[1, 2, 3]]),
            (true, false, false, &[&[1, 4], &[2, 5], &[3, 6]]),
        ];
        for (swap, flip_x, flip_y, rows) in cases {
            let rotated = Rotation { swap, flip_x, flip_y }.apply(&source, &mut scaler).unwrap();
            let stride = rotated.stride(0);
            let plane = rotated.plane(0).unwrap();
            for (y, row) in rows.iter().enumerate() {
                assert_eq!(&plane[y * stride..][..row.len()], *row, "swap {swap} x {flip_x} y {flip_y}");
            }
        }
    }
}
