// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pixels: filled rectangles, lines with smooth edges, discs, tinted areas.

use crate::detect::Mask;

use super::labels::Rectangle;

/// Longest piece of a line that is painted at once, in pixels: only pixels around a piece are examined.
const PIECE: f64 = 16.0;

/// Red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour([u8; 3]);

impl Colour {
    pub const BLACK: Self = Self([0; 3]);
    pub const WHITE: Self = Self([255; 3]);

    /// Returns the colour of a class: hues a golden angle apart, so that neighbouring numbers differ much and the circle is never
    /// exhausted; every third class is lighter, every third darker.
    pub fn of_class(number: i64) -> Self {
        const GOLDEN_ANGLE: f64 = 137.507_764;
        // The first class, a person for most models, is red.
        let hue = (number as f64 * GOLDEN_ANGLE + 350.0).rem_euclid(360.0);
        let lightness = [0.56, 0.42, 0.70][number.rem_euclid(3) as usize];
        Self::from_hsl(hue, 0.85, lightness)
    }

    /// Converts hue in degrees, saturation and lightness 0 to 1 (CSS Color Module Level 4, section 7.1).
    fn from_hsl(hue: f64, saturation: f64, lightness: f64) -> Self {
        let channel = |offset: f64| {
            let k = (offset + hue / 30.0) % 12.0;
            let a = saturation * f64::min(lightness, 1.0 - lightness);
            let value = lightness - a * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
            (value * 255.0).round() as u8
        };
        Self([channel(0.0), channel(8.0), channel(4.0)])
    }

    #[cfg(test)]
    pub fn bytes(self) -> [u8; 3] {
        self.0
    }

    /// Returns the relative luminance (WCAG 2.1).
    fn luminance(self) -> f64 {
        let linear = |byte: u8| {
            let value = f64::from(byte) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        let [red, green, blue] = self.0.map(linear);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    /// Returns the contrast ratio of two colours, 1 to 21 (WCAG 2.1).
    pub fn contrast(self, other: Self) -> f64 {
        let [one, other] = [self.luminance(), other.luminance()];
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// Returns black or white, whichever is easier to read on this colour.
    pub fn text_colour(self) -> Self {
        if self.contrast(Self::BLACK) >= self.contrast(Self::WHITE) { Self::BLACK } else { Self::WHITE }
    }
}

/// Rows of red, green and blue bytes.
pub struct Surface<'a> {
    pixels: &'a mut [u8],
    width: usize,
    height: usize,
}

impl<'a> Surface<'a> {
    pub fn new(pixels: &'a mut [u8], width: u32, height: u32) -> Self {
        Self { pixels, width: width as usize, height: height as usize }
    }

    /// Mixes `colour` into a pixel; pixels outside the picture are ignored.
    pub fn mix(&mut self, x: i64, y: i64, colour: Colour, share: f32) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x >= self.width || y >= self.height {
            return;
        }
        let start = (y * self.width + x) * 3;
        let share = share.clamp(0.0, 1.0);
        for (byte, wanted) in self.pixels[start..start + 3].iter_mut().zip(colour.0) {
            *byte = (f32::from(*byte) + (f32::from(wanted) - f32::from(*byte)) * share).round() as u8;
        }
    }

    /// Fills a rectangle, its edges rounded to pixels.
    pub fn fill(&mut self, rectangle: Rectangle, colour: Colour) {
        let within = |value: f64, limit: usize| value.round().clamp(0.0, limit as f64) as usize;
        let (left, right) = (within(rectangle.left, self.width), within(rectangle.right, self.width));
        for y in within(rectangle.top, self.height)..within(rectangle.bottom, self.height) {
            let start = y * self.width;
            for pixel in self.pixels[(start + left) * 3..(start + right.max(left)) * 3].chunks_exact_mut(3) {
                pixel.copy_from_slice(&colour.0);
            }
        }
    }

    /// Draws the edges of an upright rectangle, lines of `line_width` pixels with the edges in their middle.
    pub fn frame(&mut self, rectangle: Rectangle, line_width: f64, colour: Colour) {
        let Rectangle { left, top, right, bottom } = rectangle;
        // Whole pixels, so that lines are as wide on all sides.
        let thick = line_width.round().max(1.0);
        let at = |edge: f64| (edge - thick / 2.0).round();
        for y in [top, bottom] {
            let edge = Rectangle { left: at(left), right: at(right) + thick, top: at(y), bottom: at(y) + thick };
            self.fill(edge, colour);
        }
        for x in [left, right] {
            let edge = Rectangle { left: at(x), right: at(x) + thick, top: at(top), bottom: at(bottom) + thick };
            self.fill(edge, colour);
        }
    }

    /// Draws a closed polygon.
    pub fn outline(&mut self, corners: &[(f64, f64)], line_width: f64, colour: Colour) {
        for (from, to) in corners.iter().zip(corners.iter().cycle().skip(1)) {
            self.line(*from, *to, line_width, colour);
            self.disc(*from, line_width / 2.0, colour);
        }
    }

    /// Moves a distant point near the picture, so that drawing a line to it takes little time; `None` for a coordinate that is not a number.
    fn near(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let within = |value: f64, length: usize| value.clamp(-(length as f64), 2.0 * length as f64);
        (!x.is_nan() && !y.is_nan()).then(|| (within(x, self.width), within(y, self.height)))
    }

    /// Draws a line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), line_width: f64, colour: Colour) {
        let (Some(from), Some(to)) = (self.near(from), self.near(to)) else { return };
        let (across, down) = (to.0 - from.0, to.1 - from.1);
        let length = across.hypot(down);
        if length < 1e-6 {
            return;
        }
        let (along, half) = ((across / length, down / length), line_width / 2.0);
        let pieces = (length / PIECE).ceil() as usize;
        for piece in 0..pieces {
            let [start, end] = [piece, piece + 1].map(|number| number as f64 * length / pieces as f64);
            let x = [from.0 + along.0 * start, from.0 + along.0 * end];
            let y = [from.1 + along.1 * start, from.1 + along.1 * end];
            let low = |values: [f64; 2]| (values[0].min(values[1]) - half - 1.0).floor() as i64;
            let high = |values: [f64; 2]| (values[0].max(values[1]) + half + 1.0).ceil() as i64;
            for row in low(y)..high(y) {
                for column in low(x)..high(x) {
                    let (dx, dy) = (column as f64 + 0.5 - from.0, row as f64 + 0.5 - from.1);
                    // Each pixel belongs to one piece.
                    let position = dx * along.0 + dy * along.1;
                    if (start..end).contains(&position) {
                        let distance = (dx * along.1 - dy * along.0).abs();
                        self.mix(column, row, colour, (half + 0.5 - distance) as f32);
                    }
                }
            }
        }
    }

    /// Draws a filled circle.
    pub fn disc(&mut self, centre: (f64, f64), radius: f64, colour: Colour) {
        let Some((x, y)) = self.near(centre) else { return };
        let reach = |value: f64| (value - radius - 1.0).floor() as i64..(value + radius + 1.0).ceil() as i64;
        for row in reach(y) {
            for column in reach(x) {
                let distance = (column as f64 + 0.5 - x).hypot(row as f64 + 0.5 - y);
                self.mix(column, row, colour, (radius + 0.5 - distance) as f32);
            }
        }
    }

    /// Mixes half of the colour into the pixels that the mask over a box covers.
    pub fn tint(&mut self, mask: &Mask, [left, top, width, height]: [f64; 4], colour: Colour) {
        if mask.values.is_empty() || mask.width == 0 || mask.height == 0 {
            return;
        }
        let end = |start: f64, length: f64, limit: usize| ((start + length).max(0.0) as usize).min(limit);
        for y in top.max(0.0) as usize..end(top, height, self.height) {
            let row = ((y as f64 + 0.5 - top) / height * mask.height as f64) as usize;
            for x in left.max(0.0) as usize..end(left, width, self.width) {
                let column = ((x as f64 + 0.5 - left) / width * mask.width as f64) as usize;
                let value = mask.values.get(row.min(mask.height - 1) * mask.width + column.min(mask.width - 1));
                if value.is_some_and(|value| *value >= 128) {
                    self.mix(x as i64, y as i64, colour, 0.5);
                }
            }
        }
    }
}
