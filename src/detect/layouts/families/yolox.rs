// SPDX-License-Identifier: MIT OR Apache-2.0
//! YOLOX: `[1, cells, 5 + C]` of strides 8, 16 and 32, undecoded: offsets from the cell, logarithms of sizes in strides.

use super::{Family, ModelLayout};
use crate::detect::layouts::common::boxes::{best_of, corners_from_centre};
use crate::detect::layouts::common::grids::{STRIDES, cell_count};
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::evidence::{BoxOutput, Evidence, ValueRange};
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};

/// Limit of undecoded values: e^16 strides exceed any picture.
const MAX_UNDECODED: f32 = 16.0;

#[derive(Debug)]
struct Yolox {
    classes: usize,
}

pub(super) const FAMILY: Family = Family::new(recognise).selected_by(&[ModelLayout::Yolox]);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let Some(BoxOutput { index, rows, columns }) = evidence.box_output() else { return Recognition::NoMatch };
    let is_selected = evidence.is_selected();
    if columns < 6 || rows != evidence.cells() {
        return Recognition::NoMatch;
    }
    let fits_v8 = evidence.class_count().is_some_and(|classes| columns == classes + 4);
    let why = if is_selected {
        "as selected"
    } else if fits_v8 || evidence.metadata.is_ultralytics {
        return Recognition::NoMatch;
    } else {
        let Some(values) = evidence.outputs[index].columns() else { return Recognition::NeedsTrialRun };
        if !is_undecoded(&values) {
            return Recognition::NoMatch;
        }
        "as many rows as cells, and values too small for pixels"
    };
    let classes = columns - 5;
    let reason = format!(
        "[1, {rows}, {columns}] is one undecoded row for each of the {rows} cells of strides 8, 16 and 32: {why}"
    );
    let matched = LayoutMatch::new("yolox", Yolox { classes }, vec![index], reason);
    matched.classes(classes).prepared([Preparation::YOLOX]).into()
}

/// Whether boxes are undecoded: offsets and logarithms are small, and some are negative or 0, unlike sizes.
fn is_undecoded(values: &[ValueRange]) -> bool {
    let max = values[..4].iter().fold(0.0, |max: f32, column| max.max(column.max));
    let has_no_size = values[2].min <= 0.0 || values[3].min <= 0.0;
    max <= MAX_UNDECODED && (has_no_size || values[0].min < -0.5 || values[1].min < -0.5)
}

/// Returns the corners of cell `index`: centre = (value + position) * stride, size = exp(value) * stride.
///
/// As in YOLOX's `demo_postprocess` (Megvii, yolox/utils/demo_utils.py).
fn corners(row: &[f32], index: usize, (width, height): (usize, usize)) -> Option<[f32; 4]> {
    let mut rest = index;
    for stride in STRIDES {
        let (across, down) = (width / stride, height / stride);
        if rest < across * down {
            let (x, y, stride) = ((rest % across) as f32, (rest / across) as f32, stride as f32);
            let centre = [(row[0] + x) * stride, (row[1] + y) * stride];
            return Some(corners_from_centre(&[centre[0], centre[1], row[2].exp() * stride, row[3].exp() * stride]));
        }
        rest -= across * down;
    }
    None
}

impl OutputReader for Yolox {
    fn accepts(&self, outputs: Outputs<'_>, size: (usize, usize)) -> bool {
        outputs.shape(0, 2) == Some(&[cell_count(size, &STRIDES), 5 + self.classes])
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        for (index, row) in outputs.part(0, image, 2).rows().enumerate() {
            if row[4] > threshold {
                let (class_id, probability) = best_of(&row[5..]);
                let score = row[4] * probability;
                if score > threshold
                    && let Some(corners) = corners(row, index, size)
                {
                    scratch.push(corners, score, class_id, index);
                }
            }
        }
    }

    fn is_suppressed(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        statistics.has_every_cell = true;
        outputs.views[0].rows().for_each(|row| statistics.scores(&row[4..]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::layouts::common::reader::testing::{read, view};

    #[test]
    fn cells_get_their_grid_stride_and_exponent() {
        // 64x64: 64 cells of stride 8, 16 of 16, 4 of 32. Cell 64 + 5 is column 1, row 1 of stride 16.
        let mut values = vec![0.0; 84 * 6];
        values[69 * 6..70 * 6].copy_from_slice(&[0.5, 0.25, 0.0, 0.0, 1.0, 0.9]);
        let found = read(&Yolox { classes: 1 }, &[view(&[1, 84, 6], &values)], 0.25);
        assert_eq!(found, [(0, 0.9, [16.0, 12.0, 32.0, 28.0])]);
    }

    #[test]
    fn a_grid_of_another_input_size_is_rejected() {
        for (rows, fits) in [(84, true), (85, false)] {
            let values = vec![0.0; rows * 6];
            let shape = [1, rows, 6];
            let outputs = Outputs { views: &[view(&shape, &values)], images: 1 };
            assert_eq!(Yolox { classes: 1 }.accepts(outputs, (64, 64)), fits);
        }
    }
}
