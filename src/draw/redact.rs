// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pixelation: objects replaced by a few large blocks, each the mean of its pixels.
//!
//! Detail that the means do not contain is removed from the frame. Blocks are placed relative to the box, and several frames of a moving object
//! have different means, so a recording tells more than one frame does.

use super::rectangle::Rectangle;
use super::surface::Surface;
use crate::detect::Mask;

/// Most blocks along the longer side of a box: far fewer than the 16 x 16 with which portraits are still recognised (L. D. Harmon,
/// "The recognition of faces", 1973).
const BLOCKS: f64 = 6.0;

/// Smallest block in pixels.
const MIN_BLOCK: usize = 8;

/// Edges are on multiples of this many pixels: of every chroma subsampling, also between the fields of interlaced frames, so that no
/// sample with detail remains at an edge.
const GRID: usize = 4;

/// An area to pixelate.
pub struct Area<'a> {
    /// The box, in pixels.
    pub rectangle: Rectangle,
    /// The part of the box; all of it without a mask.
    pub mask: Option<&'a Mask>,
}

/// Pixelates `areas`, the largest first.
pub fn pixelate(surface: &mut Surface<'_>, areas: &[Area<'_>]) {
    let mut areas: Vec<_> = areas.iter().filter_map(|area| Blocks::of(area, surface)).collect();
    areas.sort_by_key(|blocks| std::cmp::Reverse((blocks.right - blocks.left) * (blocks.bottom - blocks.top)));
    let mut whole: Vec<(usize, usize, usize, usize)> = Vec::new();
    for Blocks { left, top, right, bottom, size, mask, rectangle } in areas {
        // Already inside coarser blocks.
        if whole.iter().any(|(l, t, r, b)| *l <= left && *t <= top && *r >= right && *b >= bottom) {
            continue;
        }
        if mask.is_none() {
            whole.push((left, top, right, bottom));
        }
        for y in (top..bottom).step_by(size) {
            for x in (left..right).step_by(size) {
                let end = ((x + size).min(right), (y + size).min(bottom));
                match mask {
                    Some(mask) => surface.average((x, y), end, |x, y| is_in_mask(mask, rectangle, (x, y))),
                    None => surface.average((x, y), end, |_, _| true),
                }
            }
        }
    }
}

/// An area in whole blocks, clipped to the picture.
struct Blocks<'a> {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
    size: usize,
    mask: Option<&'a Mask>,
    rectangle: Rectangle,
}

impl<'a> Blocks<'a> {
    /// Returns `None` for an area outside the picture.
    fn of(area: &Area<'a>, surface: &Surface<'_>) -> Option<Self> {
        let Rectangle { left, top, right, bottom } = area.rectangle;
        let low = |edge: f64| edge.max(0.0) as usize / GRID * GRID;
        let high = |edge: f64, limit: usize| (edge.max(0.0).ceil() as usize).next_multiple_of(GRID).min(limit);
        let clipped = area.rectangle.clipped(surface.width() as f64, surface.height() as f64);
        let (right_px, bottom_px) = (high(clipped.right, surface.width()), high(clipped.bottom, surface.height()));
        let (left_px, top_px) = (low(clipped.left), low(clipped.top));
        let side = (right - left).max(bottom - top) / BLOCKS;
        let longest = surface.width().max(surface.height());
        let size = (side.ceil() as usize).clamp(MIN_BLOCK, longest.max(MIN_BLOCK)).next_multiple_of(GRID);
        // A mask that covers nothing is of no use.
        let mask = area.mask.filter(|mask| {
            mask.values.len() == mask.width * mask.height && mask.values.iter().any(|value| *value >= 128)
        });
        let is_visible = clipped.left < clipped.right && clipped.top < clipped.bottom;
        is_visible.then_some(Self {
            left: left_px,
            top: top_px,
            right: right_px,
            bottom: bottom_px,
            size,
            mask,
            rectangle: area.rectangle,
        })
    }
}

/// Whether any of the four cells of the mask around a pixel belongs to the object, so that nothing of its edge remains.
fn is_in_mask(mask: &Mask, rectangle: Rectangle, (x, y): (usize, usize)) -> bool {
    let cell = |at: usize, from: f64, to: f64, cells: usize| {
        let position = (at as f64 + 0.5 - from) / (to - from) * cells as f64 - 0.5;
        [position.floor(), position.floor() + 1.0].map(|cell| cell.clamp(0.0, cells as f64 - 1.0) as usize)
    };
    let columns = cell(x, rectangle.left, rectangle.right, mask.width);
    let rows = cell(y, rectangle.top, rectangle.bottom, mask.height);
    rows.into_iter().any(|row| columns.into_iter().any(|column| mask.values[row * mask.width + column] >= 128))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::collections::BTreeSet;

    use super::super::surface::PlaneMut;
    use super::*;
    use crate::detect::{Matrix, PixelFormat, Range};

    const WIDTH: usize = 203;
    const HEIGHT: usize = 151;

    /// Noise without a repeating pattern.
    fn noise() -> Vec<u8> {
        (0..(WIDTH * HEIGHT) as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    fn pixelated(areas: &[Area<'_>]) -> Vec<u8> {
        let mut bytes = noise();
        let plane = PlaneMut { data: &mut bytes, stride: WIDTH };
        let mut surface =
            Surface::new(PixelFormat::Gray8, (WIDTH, HEIGHT), vec![plane], Matrix::Bt601, Range::Full).unwrap();
        pixelate(&mut surface, areas);
        bytes
    }

    fn area(rectangle: [f64; 4], mask: Option<&Mask>) -> Area<'_> {
        Area { rectangle: rectangle.into(), mask }
    }

    #[test]
    fn few_values_remain_and_they_depend_only_on_the_means() {
        let bytes = pixelated(&[area([20.0, 20.0, 120.0, 100.0], None)]);
        let inside: BTreeSet<_> =
            (20..120).flat_map(|y| (20..140).map(move |x| (x, y))).map(|(x, y)| bytes[y * WIDTH + x]).collect();
        assert!(inside.len() <= 30, "6 x 5 blocks have {} values", inside.len());
        let outside = (0..WIDTH * HEIGHT)
            .filter(|index| !(20..140).contains(&(index % WIDTH)) || !(20..120).contains(&(index / WIDTH)));
        let before = noise();
        assert!(outside.into_iter().all(|index| bytes[index] == before[index]));
    }

    #[test]
    fn edges_are_extended_and_odd_areas_are_clipped() {
        let before = noise();
        let bytes = pixelated(&[area([21.7, 21.7, 10.0, 10.0], None)]);
        // From 20 to 32: two by two blocks of 8, the second ones cut.
        assert_ne!(bytes[31 * WIDTH + 31], before[31 * WIDTH + 31]);
        assert_eq!(bytes[32 * WIDTH + 32], before[32 * WIDTH + 32]);
        for odd in [[-50.0, -50.0, 1e9, 1e9], [200.0, 148.0, 50.0, 50.0]] {
            assert_ne!(pixelated(&[area(odd, None)])[WIDTH * HEIGHT - 1], before[WIDTH * HEIGHT - 1]);
        }
        for outside in [[300.0, 0.0, 10.0, 10.0], [-30.0, 0.0, 10.0, 10.0], [0.0; 4], [10.0, 10.0, -5.0, 5.0]] {
            let changed = pixelated(&[area(outside, None)]).iter().zip(&before).filter(|(a, b)| a != b).count();
            assert_eq!(changed, 0, "{outside:?}");
        }
    }

    #[test]
    fn a_mask_limits_it_and_a_mask_of_nothing_does_not() {
        let before = noise();
        let mut values = vec![0; 100];
        values[..50].fill(255);
        let half = Mask { width: 10, height: 10, values };
        let bytes = pixelated(&[area([0.0, 0.0, 100.0, 100.0], Some(&half))]);
        let rows: Vec<_> = (0..100).filter(|y| bytes[y * WIDTH..][..100] != before[y * WIDTH..][..100]).collect();
        // Half, and half a cell around it.
        assert!((54..=56).contains(&rows.len()) && rows[0] == 0, "{rows:?}");
        for useless in [vec![0; 100], vec![255; 7]] {
            let mask = Mask { width: 10, height: 10, values: useless };
            let bytes = pixelated(&[area([0.0, 0.0, 100.0, 100.0], Some(&mask))]);
            assert_ne!(bytes[99 * WIDTH..][..100], before[99 * WIDTH..][..100]);
        }
    }
}
