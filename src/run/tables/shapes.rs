// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shapes of detections in tables: masks of whole frames, outlines of masks, corners of rotated boxes.

use crate::detect::MAX_DIMENSION;
use crate::draw;
use crate::record::Mask;

/// A mask of a whole frame in COCO's format: pixels column by column, in runs, the first of background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameMask {
    counts: Vec<u32>,
}

/// Longest side of a mask's grid that is expanded. Models have grids of a few hundred cells: at most a quarter of the side of their
/// input; lines are untrusted.
const MAX_SIDE: usize = 1 << 11;

/// Returns the cells of a mask, row by row.
fn cells(mask: &Mask) -> Option<Vec<bool>> {
    let [rows, columns] = mask.size;
    if rows == 0 || columns == 0 || rows > MAX_SIDE || columns > MAX_SIDE {
        return None;
    }
    let mut cells = Vec::with_capacity(rows * columns);
    for (index, count) in mask.counts.iter().enumerate() {
        let left = rows * columns - cells.len();
        cells.extend(std::iter::repeat_n(index % 2 == 1, (*count).min(left)));
    }
    cells.resize(rows * columns, false);
    Some(cells)
}

impl FrameMask {
    /// Creates it from the pixels of a frame of `width` x `height` whose centres lie in cells of `mask`, a grid over `rectangle`. The
    /// mask is empty where the frame or the grid is larger than any of vx.
    pub fn new(mask: &Mask, [left, top, box_width, box_height]: [f64; 4], width: u32, height: u32) -> Self {
        let [rows, columns] = mask.size;
        let mut counts = Runs::default();
        let is_plausible = width.max(height) as usize <= MAX_DIMENSION;
        let cells = is_plausible.then(|| cells(mask)).flatten();
        let (width, height) = (u64::from(width), u64::from(height));
        let Some(cells) = cells else { return counts.end(width * height) };
        // Pixels whose centres lie in the box.
        let span = |start: f64, length: f64, limit: u64| {
            let first = (start - 0.5).ceil().clamp(0.0, limit as f64) as u64;
            first..((start + length - 0.5).ceil().clamp(0.0, limit as f64) as u64).max(first)
        };
        let (x_span, y_span) = (span(left, box_width, width), span(top, box_height, height));
        let cell = |pixel: u64, start: f64, length: f64, cells: usize| {
            (((pixel as f64 + 0.5 - start) / length * cells as f64) as usize).min(cells - 1)
        };
        // The pixels of each row of cells, which are the same in all columns.
        let mut spans: Vec<(usize, u64, u64)> = Vec::new();
        for y in y_span {
            let row = cell(y, top, box_height, rows);
            match spans.last_mut() {
                Some((last, _, end)) if *last == row => *end = y + 1,
                _ => spans.push((row, y, y + 1)),
            }
        }
        for x in x_span {
            let column = cell(x, left, box_width, columns);
            for (row, start, end) in &spans {
                if cells[row * columns + column] {
                    counts.add(x * height + start, end - start);
                }
            }
        }
        counts.end(width * height)
    }

    /// Returns the number of pixels of the object.
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|count| u64::from(*count)).sum()
    }

    /// Returns the runs as text in COCO's compression, differences to the last run but one in groups of five bits (`rleToString` in
    /// `maskApi.c` of cocoapi).
    pub fn compressed(&self) -> String {
        let mut text = String::new();
        for (index, count) in self.counts.iter().enumerate() {
            let before = if index > 2 { i64::from(self.counts[index - 2]) } else { 0 };
            let mut value = i64::from(*count) - before;
            loop {
                let bits = (value & 0x1f) as u8;
                value >>= 5;
                let has_more = if bits & 0x10 != 0 { value != -1 } else { value != 0 };
                text.push(char::from((bits | if has_more { 0x20 } else { 0 }) + 48));
                if !has_more {
                    break;
                }
            }
        }
        text
    }
}

/// Counts runs.
#[derive(Default)]
struct Runs {
    counts: Vec<u32>,
    /// The pixel after the last of the object.
    end: u64,
}

impl Runs {
    /// Adds pixels of the object from `pixel` on, behind those before.
    fn add(&mut self, pixel: u64, count: u64) {
        let gap = pixel - self.end;
        let short = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        match self.counts.last_mut() {
            Some(last) if gap == 0 && self.end > 0 => *last = last.saturating_add(short(count)),
            _ => self.counts.extend([short(gap), short(count)]),
        }
        self.end = pixel + count;
    }

    fn end(mut self, pixels: u64) -> FrameMask {
        if pixels > self.end {
            self.counts.push(u32::try_from(pixels - self.end).unwrap_or(u32::MAX));
        }
        FrameMask { counts: self.counts }
    }
}

/// Returns the outline of the largest connected part of a mask over `rectangle`, as corners in pixels of the frame, clockwise; empty if
/// nothing is in the mask. Holes are left out.
pub fn outline(mask: &Mask, [left, top, width, height]: [f64; 4]) -> Vec<[f64; 2]> {
    let [rows, columns] = mask.size;
    let Some(cells) = cells(mask) else { return Vec::new() };
    let largest = largest_part(&cells, columns);
    let is_set = |x: i64, y: i64| {
        let inside = (0..columns as i64).contains(&x) && (0..rows as i64).contains(&y);
        inside && largest[y as usize * columns + x as usize]
    };
    let Some(first) = largest.iter().position(|cell| *cell) else { return Vec::new() };
    let start = ((first % columns) as i64, (first / columns) as i64);
    // Along the edges of cells with the object on the right, from the upper left corner of the first cell to the right.
    let (mut position, mut direction) = (start, (1, 0));
    let mut corners = Vec::new();
    loop {
        let (x, y) = position;
        // The two cells ahead, on the left and on the right of the way.
        let (ahead_left, ahead_right) = match direction {
            (1, 0) => ((x, y - 1), (x, y)),
            (0, 1) => ((x, y), (x - 1, y)),
            (-1, 0) => ((x - 1, y), (x - 1, y - 1)),
            _ => ((x - 1, y - 1), (x, y - 1)),
        };
        let turned = if !is_set(ahead_right.0, ahead_right.1) {
            (-direction.1, direction.0)
        } else if is_set(ahead_left.0, ahead_left.1) {
            (direction.1, -direction.0)
        } else {
            direction
        };
        if turned != direction || corners.is_empty() {
            corners.push(position);
        }
        direction = turned;
        position = (x + direction.0, y + direction.1);
        if position == start {
            break;
        }
    }
    let place = |(x, y): (i64, i64)| [left + x as f64 / columns as f64 * width, top + y as f64 / rows as f64 * height];
    corners.into_iter().map(place).collect()
}

/// Returns the cells of the largest part whose cells share sides.
fn largest_part(cells: &[bool], columns: usize) -> Vec<bool> {
    // A grid has far fewer cells than numbers of 32 bits.
    let mut part_of = vec![0_u32; cells.len()];
    let (mut sizes, mut open) = (vec![0_usize], Vec::new());
    for first in 0..cells.len() {
        if !cells[first] || part_of[first] != 0 {
            continue;
        }
        let part = sizes.len();
        sizes.push(0);
        let number = part as u32;
        part_of[first] = number;
        open.push(first);
        while let Some(cell) = open.pop() {
            sizes[part] += 1;
            let x = cell % columns;
            let sides = [
                (x > 0).then(|| cell - 1),
                (x + 1 < columns).then_some(cell + 1),
                cell.checked_sub(columns),
                (cell + columns < cells.len()).then_some(cell + columns),
            ];
            for side in sides.into_iter().flatten() {
                if cells[side] && part_of[side] == 0 {
                    part_of[side] = number;
                    open.push(side);
                }
            }
        }
    }
    let largest = (1..sizes.len()).max_by_key(|part| sizes[*part]).unwrap_or(usize::MAX);
    part_of.into_iter().map(|part| part as usize == largest).collect()
}

/// Returns the corners of a rotated box: centre x and y, width, height, radians clockwise.
pub fn corners([x, y, width, height, angle]: [f64; 5]) -> [[f64; 2]; 4] {
    let [x, y, width, height, angle] = [x, y, width, height, angle].map(|value| value as f32);
    draw::corners(&crate::detect::Rotated { x, y, width, height, angle }).map(|(x, y)| [x, y])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(rows: &[&str]) -> Mask {
        let size = [rows.len(), rows[0].len()];
        let (mut counts, mut is_object) = (vec![0], false);
        for cell in rows.concat().chars() {
            if (cell == '#') != is_object {
                is_object = !is_object;
                counts.push(0);
            }
            let last = counts.len() - 1;
            counts[last] += 1;
        }
        Mask { size, counts }
    }

    #[test]
    fn a_mask_of_a_box_becomes_one_of_the_frame() {
        // A grid of 2 x 2 over 4 x 2 pixels at (1, 1) of 6 x 4.
        let whole = FrameMask::new(&mask(&["#.", "##"]), [1.0, 1.0, 4.0, 2.0], 6, 4);
        // Columns 1 and 2 have rows 1 and 2, columns 3 and 4 row 2.
        assert_eq!(whole.counts, [5, 2, 2, 2, 3, 1, 3, 1, 5]);
        assert_eq!(whole.area(), 6);
        let full = FrameMask::new(&mask(&["#"]), [-5.0, -5.0, 50.0, 50.0], 6, 4);
        assert_eq!((full.counts.as_slice(), full.area()), ([0, 24].as_slice(), 24));
        let none = FrameMask::new(&mask(&["."]), [0.0, 0.0, 6.0, 4.0], 6, 4);
        assert_eq!((none.counts.as_slice(), none.area()), ([24].as_slice(), 0));
        let nowhere = FrameMask::new(&mask(&["#"]), [f64::NAN, 0.0, f64::INFINITY, 4.0], 6, 4);
        assert_eq!(nowhere.counts.iter().sum::<u32>(), 24);
        // Sizes that only a hostile line has cost nothing.
        let huge = FrameMask::new(&mask(&["#.", "##"]), [0.0, 0.0, 4e9, 4e9], u32::MAX, u32::MAX);
        assert_eq!((huge.counts.len(), huge.area()), (1, 0));
        let large = FrameMask::new(&mask(&["#"]), [0.0, 0.0, 65_536.0, 65_536.0], 65_536, 65_536);
        assert_eq!(large.counts, [0, u32::MAX]);
        let wide = Mask { size: [MAX_SIDE + 1, 1], counts: vec![0, MAX_SIDE + 1] };
        assert_eq!(FrameMask::new(&wide, [0.0, 0.0, 6.0, 4.0], 6, 4).area(), 0);
        let wrong = Mask { size: [usize::MAX, usize::MAX], counts: vec![usize::MAX] };
        assert_eq!(FrameMask::new(&wrong, [0.0, 0.0, 6.0, 4.0], 6, 4).area(), 0);
    }

    #[test]
    fn runs_are_compressed_as_pycocotools_does() {
        // `mask.frPyObjects({"size": […], "counts": …}, …)["counts"]` of pycocotools 2.0.
        for (counts, text) in [
            (vec![5, 2, 2, 2, 3, 1, 3, 1, 181], "52201O00b5"),
            (vec![0, 200], "0X6"),
            (vec![1000, 40, 1040, 38, 1042, 30, 2_070_450], "Xo0X1`P1N2HPmTo1"),
        ] {
            assert_eq!(FrameMask { counts }.compressed(), text);
        }
    }

    #[test]
    fn an_outline_goes_around_the_largest_part() {
        let shape = mask(&["#..#", "..##", "..##"]);
        assert_eq!(
            outline(&shape, [10.0, 20.0, 40.0, 30.0]),
            [[40.0, 20.0], [50.0, 20.0], [50.0, 50.0], [30.0, 50.0], [30.0, 30.0], [40.0, 30.0]]
        );
        assert_eq!(outline(&mask(&["##", "##"]), [0.0, 0.0, 2.0, 2.0]).len(), 4);
        assert!(outline(&mask(&["..", ".."]), [0.0, 0.0, 2.0, 2.0]).is_empty());
        // With a hole, and cells that touch by a corner.
        let area = |corners: &[[f64; 2]]| {
            let next = corners.iter().cycle().skip(1);
            corners.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<f64>() / 2.0
        };
        for (rows, expected) in
            [(["####", "#..#", "####"], 12.0), (["##..", ".#..", "..##"], 3.0), ([".##.", "##..", "####"], 8.0)]
        {
            let found = outline(&mask(&rows), [0.0, 0.0, 4.0, 3.0]);
            assert!((area(&found) - expected).abs() < 1e-9, "{rows:?}: {found:?}");
        }
    }
}
