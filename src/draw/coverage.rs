// SPDX-License-Identifier: MIT OR Apache-2.0
//! The part of each pixel that a shape covers: filled rectangles, lines with smooth edges, discs, masks.
//!
//! Shapes are united here before they are mixed into a picture, so that a half-transparent line is equally transparent where its
//! pieces meet. Only the tiles that a shape touches are read and cleared, so that small shapes cost little in large pictures.

use std::ops::Range;

use super::rectangle::Rectangle;
use crate::detect::Mask;

/// Side of a tile in pixels: a multiple of every chroma subsampling.
pub const TILE: usize = 16;

/// Longest piece of a line that is drawn at once, in pixels: only pixels around a piece are examined.
const PIECE: f64 = 16.0;

/// The pixels of a tile, 0 to 255. Those outside the picture are 0.
type Pixels = [[u8; TILE]; TILE];

/// The part of each pixel of a picture that a shape covers.
pub struct Coverage {
    width: usize,
    height: usize,
    tiles: Vec<Pixels>,
    tiles_across: usize,
    is_touched: Vec<bool>,
    touched: Vec<usize>,
}

/// A square part of the coverage.
pub struct Tile<'a> {
    pub left: usize,
    pub top: usize,
    /// Its part inside the picture.
    width: usize,
    height: usize,
    pixels: &'a Pixels,
}

/// A share of 1.
pub const WHOLE: u16 = 256;

/// How much of each sample of a tile is covered, 0 to [`WHOLE`], in the resolution of a component.
#[derive(Default)]
pub struct Shares {
    values: [[u16; TILE]; TILE],
    is_covered: [bool; TILE],
    columns: usize,
    rows: usize,
}

impl Shares {
    /// Measures the samples of `tile`, each of which belongs to `1 << h_shift` by `1 << v_shift` pixels as far as they are inside the
    /// picture, times `opacity`, 0 to 1.
    pub fn of_tile(&mut self, tile: &Tile<'_>, (h_shift, v_shift): (u32, u32), opacity: f64) {
        (self.columns, self.rows) = (tile.width.div_ceil(1 << h_shift), tile.height.div_ceil(1 << v_shift));
        // In units of 1/65536, so that all the pixels of a sample, 255 each, are `WHOLE`.
        let factor = |pixels: usize| (opacity * f64::from(WHOLE) * 65536.0 / (255 * pixels) as f64).round() as u32;
        let share = |sum: u16, factor: u32| ((u32::from(sum) * factor + 32768) >> 16) as u16;
        let (across, down) = (1 << h_shift, 1 << v_shift);
        let whole = factor(across * down);
        for row in 0..self.rows {
            let rows = (row * down)..((row + 1) * down).min(tile.height);
            let is_cut = rows.len() < down;
            let mut sums = [0_u16; TILE];
            for pixels in &tile.pixels[rows.clone()] {
                for (sum, pixel) in sums.iter_mut().zip(pixels) {
                    *sum += u16::from(*pixel);
                }
            }
            self.is_covered[row] = sums != [0; TILE];
            let values = self.values[row].iter_mut();
            if across == 1 && !is_cut {
                values.zip(sums).for_each(|(value, sum)| *value = share(sum, whole));
                continue;
            }
            for (value, pixels) in values.zip(sums[..tile.width].chunks(across)) {
                let is_cut = is_cut || pixels.len() < across;
                let factor = if is_cut { factor(pixels.len() * rows.len()) } else { whole };
                *value = share(pixels.iter().sum(), factor);
            }
        }
    }

    /// Returns the rows in which something is covered, with their numbers.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &[u16])> {
        let rows = self.values.iter().enumerate().take(self.rows);
        rows.filter(|(row, _)| self.is_covered[*row]).map(|(row, values)| (row, &values[..self.columns]))
    }
}

impl Coverage {
    /// Creates an empty one for a picture of this size in pixels.
    pub fn new(width: usize, height: usize) -> Self {
        let tiles_across = width.div_ceil(TILE);
        let count = tiles_across * height.div_ceil(TILE);
        Self {
            width,
            height,
            tiles: vec![[[0; TILE]; TILE]; count],
            tiles_across,
            is_touched: vec![false; count],
            touched: Vec::new(),
        }
    }

    /// Passes each tile that has covered pixels to `visit`, and clears it.
    pub fn drain(&mut self, mut visit: impl FnMut(&Tile<'_>)) {
        for number in std::mem::take(&mut self.touched) {
            let (left, top) = (number % self.tiles_across * TILE, number / self.tiles_across * TILE);
            let (width, height) = ((self.width - left).min(TILE), (self.height - top).min(TILE));
            visit(&Tile { left, top, width, height, pixels: &self.tiles[number] });
            self.is_touched[number] = false;
            self.tiles[number] = [[0; TILE]; TILE];
        }
    }

    /// Covers a pixel by `share`, 0 to 1; pixels outside the picture are ignored.
    pub fn cover(&mut self, x: i64, y: i64, share: f32) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        // Rounded, and within 0 to 255, by the conversion.
        let share = (share * 255.0 + 0.5) as u8;
        if x < self.width && y < self.height && share > 0 {
            let pixel = &mut self.row(x / TILE, y)[x % TILE];
            *pixel = share.max(*pixel);
        }
    }

    /// Returns the row of a tile, which is drained then.
    fn row(&mut self, tile_column: usize, y: usize) -> &mut [u8; TILE] {
        let number = y / TILE * self.tiles_across + tile_column;
        if !std::mem::replace(&mut self.is_touched[number], true) {
            self.touched.push(number);
        }
        &mut self.tiles[number][y % TILE]
    }

    /// Passes the pixels of a row to `change` piece by piece, each with its first column.
    fn change(&mut self, columns: Range<usize>, y: usize, change: impl Fn(usize, &mut [u8])) {
        for tile in columns.start / TILE..columns.end.div_ceil(TILE) {
            let (first, last) = (columns.start.max(tile * TILE), columns.end.min((tile + 1) * TILE));
            change(first, &mut self.row(tile, y)[first - tile * TILE..last - tile * TILE]);
        }
    }

    /// Fills a rectangle, its edges rounded to pixels.
    pub fn fill(&mut self, rectangle: Rectangle) {
        let within = |value: f64, limit: usize| value.round().clamp(0.0, limit as f64) as usize;
        let (left, right) = (within(rectangle.left, self.width), within(rectangle.right, self.width));
        if left < right {
            for y in within(rectangle.top, self.height)..within(rectangle.bottom, self.height) {
                self.change(left..right, y, |_, pixels| pixels.fill(255));
            }
        }
    }

    /// Draws the edges of an upright rectangle, lines of `line_width` pixels with the edges in their middle.
    pub fn frame(&mut self, rectangle: Rectangle, line_width: f64) {
        let Rectangle { left, top, right, bottom } = rectangle;
        // Whole pixels, so that lines are as wide on all sides.
        let thick = line_width.round().max(1.0);
        let at = |edge: f64| (edge - thick / 2.0).round();
        for y in [top, bottom] {
            self.fill(Rectangle { left: at(left), right: at(right) + thick, top: at(y), bottom: at(y) + thick });
        }
        for x in [left, right] {
            self.fill(Rectangle { left: at(x), right: at(x) + thick, top: at(top), bottom: at(bottom) + thick });
        }
    }

    /// Draws a closed polygon.
    pub fn outline(&mut self, corners: &[(f64, f64)], line_width: f64) {
        for (from, to) in corners.iter().zip(corners.iter().cycle().skip(1)) {
            self.line(*from, *to, line_width);
            self.disc(*from, line_width / 2.0);
        }
    }

    /// Moves a distant point near the picture, so that drawing a line to it takes little time; `None` for a coordinate that is not a
    /// number.
    fn near(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let within = |value: f64, length: usize| value.clamp(-(length as f64), 2.0 * length as f64);
        (!x.is_nan() && !y.is_nan()).then(|| (within(x, self.width), within(y, self.height)))
    }

    /// Returns the pixels of a row or column between `low` and `high` that are inside the picture.
    fn inside(low: f64, high: f64, limit: usize) -> Range<i64> {
        (low.floor().max(0.0) as i64)..(high.ceil().min(limit as f64) as i64)
    }

    /// Draws a line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), line_width: f64) {
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
            let low = |values: [f64; 2]| values[0].min(values[1]) - half - 1.0;
            let high = |values: [f64; 2]| values[0].max(values[1]) + half + 1.0;
            for row in Self::inside(low(y), high(y), self.height) {
                for column in Self::inside(low(x), high(x), self.width) {
                    let (dx, dy) = (column as f64 + 0.5 - from.0, row as f64 + 0.5 - from.1);
                    // Each pixel belongs to one piece.
                    let position = dx * along.0 + dy * along.1;
                    if (start..end).contains(&position) {
                        let distance = (dx * along.1 - dy * along.0).abs();
                        self.cover(column, row, (half + 0.5 - distance) as f32);
                    }
                }
            }
        }
    }

    /// Draws a filled circle.
    pub fn disc(&mut self, centre: (f64, f64), radius: f64) {
        let Some((x, y)) = self.near(centre) else { return };
        for row in Self::inside(y - radius - 1.0, y + radius + 1.0, self.height) {
            for column in Self::inside(x - radius - 1.0, x + radius + 1.0, self.width) {
                let distance = (column as f64 + 0.5 - x).hypot(row as f64 + 0.5 - y);
                self.cover(column, row, (radius + 0.5 - distance) as f32);
            }
        }
    }

    /// Covers the pixels of a box (left, top, width, height) that `mask` covers.
    pub fn mask(&mut self, mask: &Mask, [left, top, width, height]: [f64; 4]) {
        if mask.values.is_empty() || mask.width == 0 || mask.height == 0 {
            return;
        }
        let cell = |at: i64, from: f64, length: f64, cells: usize| {
            (((at as f64 + 0.5 - from).max(0.0) / length * cells as f64) as usize).min(cells - 1)
        };
        let columns = Self::inside(left, left + width, self.width);
        if columns.is_empty() {
            return;
        }
        let cells: Vec<usize> = columns.clone().map(|x| cell(x, left, width, mask.width)).collect();
        let first = columns.start as usize;
        for y in Self::inside(top, top + height, self.height) {
            let Some(row) = mask.values.get(cell(y, top, height, mask.height) * mask.width..) else { return };
            self.change(first..first + cells.len(), y as usize, |x, pixels| {
                for (pixel, cell) in pixels.iter_mut().zip(&cells[x - first..]) {
                    if row.get(*cell).is_some_and(|value| *value >= 128) {
                        *pixel = 255;
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(coverage: &mut Coverage) -> Vec<(usize, usize)> {
        let mut pixels = Vec::new();
        let mut shares = Shares::default();
        coverage.drain(|tile| {
            shares.of_tile(tile, (0, 0), 1.0);
            for (row, line) in shares.lines() {
                let columns = (0..line.len()).filter(|column| line[*column] > 0);
                pixels.extend(columns.map(|column| (tile.left + column, tile.top + row)));
            }
        });
        pixels
    }

    #[test]
    fn only_what_was_covered_is_visited_and_it_is_cleared() {
        let mut coverage = Coverage::new(100, 50);
        coverage.cover(99, 49, 1.0);
        coverage.cover(3, 2, 0.5);
        for (x, y) in [(-1, 0), (0, -1), (100, 0), (0, 50), (i64::MAX, i64::MIN)] {
            coverage.cover(x, y, 1.0);
        }
        assert_eq!(covered(&mut coverage), [(99, 49), (3, 2)]);
        assert_eq!(covered(&mut coverage), []);
        coverage.fill(Rectangle { left: 14.6, top: -5.0, right: 17.4, bottom: 1.0 });
        assert_eq!(covered(&mut coverage), [(15, 0), (16, 0)]);
    }

    #[test]
    fn coordinates_that_are_no_numbers_and_endless_lines_are_harmless() {
        let mut coverage = Coverage::new(64, 48);
        coverage.line((f64::NAN, 0.0), (10.0, 10.0), 3.0);
        coverage.disc((f64::INFINITY, f64::NAN), 3.0);
        coverage.frame([f64::NAN, 0.0, f64::INFINITY, 1e300].into(), 3.0);
        coverage.mask(&Mask { width: 2, height: 2, values: vec![255; 4] }, [f64::NAN, 0.0, 0.0, f64::INFINITY]);
        coverage.drain(|_| {});
        coverage.line((-1e30, 24.0), (1e30, 24.0), 2.0);
        assert_eq!(covered(&mut coverage).len(), 2 * 64);
    }
}
