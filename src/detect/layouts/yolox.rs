//! YOLOX: `[1, cells, 5 + C]` of strides 8, 16 and 32, not yet decoded: offsets from the cell, logarithms of sizes in strides.

use super::boxes::{STRIDES, best_of, cell_count, centred};
use super::evidence::{Column, Evidence, Main};
use super::preparation::Preparation;
use super::reader::{Reader, Scratch, Survey};
use super::{Claim, Family, Verdict};
use crate::detect::layouts::decoder::Outputs;

/// Values before decoding are not larger: e^16 strides are more than any picture.
const LARGEST_RAW: f32 = 16.0;

#[derive(Debug)]
struct Yolox {
    classes: usize,
}

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let Some(Main { index, rows, columns }) = evidence.main() else { return Verdict::No };
    let is_forced = match evidence.forced(Family::Yolox) {
        Some(false) => return Verdict::No,
        forced => forced.is_some(),
    };
    if columns < 6 || rows != evidence.cells() {
        return Verdict::No;
    }
    let is_other = evidence.class_count().is_some_and(|classes| columns == classes + 4);
    let why = if is_forced {
        "as was set"
    } else if is_other || evidence.metadata.is_ultralytics {
        return Verdict::No;
    } else {
        let Some(values) = evidence.outputs[index].columns() else { return Verdict::NeedsTrial };
        if !is_raw(&values) {
            return Verdict::No;
        }
        "as many rows as cells, with values too small for pixels"
    };
    let classes = columns - 5;
    let reason = format!(
        "[1, {rows}, {columns}] is one undecoded row for each of the {rows} cells of strides 8, 16 and 32: {why}"
    );
    let claim = Claim::new("yolox", Yolox { classes }, vec![index], reason);
    claim.classes(classes).prepared([Preparation::YOLOX]).into()
}

/// Whether boxes are not yet decoded: offsets and logarithms are small, and some are negative or 0, which sizes are not.
fn is_raw(values: &[Column]) -> bool {
    let most = values[..4].iter().fold(0.0, |most: f32, column| most.max(column.most));
    let has_no_size = values[2].least <= 0.0 || values[3].least <= 0.0;
    most <= LARGEST_RAW && (has_no_size || values[0].least < -0.5 || values[1].least < -0.5)
}

/// Corners of cell `index`: centre = (value + position) * stride, size = exp(value) * stride.
///
/// As in YOLOX's `demo_postprocess` (Megvii, yolox/utils/demo_utils.py).
fn corners(row: &[f32], index: usize, (width, height): (usize, usize)) -> Option<[f32; 4]> {
    let mut rest = index;
    for stride in STRIDES {
        let (across, down) = (width / stride, height / stride);
        if rest < across * down {
            let (x, y, stride) = ((rest % across) as f32, (rest / across) as f32, stride as f32);
            let centre = [(row[0] + x) * stride, (row[1] + y) * stride];
            return Some(centred(&[centre[0], centre[1], row[2].exp() * stride, row[3].exp() * stride]));
        }
        rest -= across * down;
    }
    None
}

impl Reader for Yolox {
    fn is_readable(&self, outputs: Outputs<'_>, size: (usize, usize)) -> bool {
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

    fn is_finished(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn survey(&self, outputs: Outputs<'_>, _size: (usize, usize), survey: &mut Survey) {
        survey.has_every_cell = true;
        outputs.views[0].rows().for_each(|row| survey.scores(&row[4..]));
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::testing::{read, view};
    use super::*;

    #[test]
    fn cells_get_their_grid_stride_and_exponent() {
        // 64x64: 64 cells of stride 8, 16 of 16, 4 of 32. Cell 64 + 5 is column 1, row 1 of stride 16.
        let mut values = vec![0.0; 84 * 6];
        values[69 * 6..70 * 6].copy_from_slice(&[0.5, 0.25, 0.0, 0.0, 1.0, 0.9]);
        let found = read(&Yolox { classes: 1 }, &[view(&[1, 84, 6], &values)], 0.25);
        assert_eq!(found, [(0, 0.9, [16.0, 12.0, 32.0, 28.0])]);
    }

    #[test]
    fn a_grid_that_is_not_the_inputs_is_not_readable() {
        for (rows, fits) in [(84, true), (85, false)] {
            let values = vec![0.0; rows * 6];
            let shape = [1, rows, 6];
            let outputs = Outputs { views: &[view(&shape, &values)], images: 1 };
            assert_eq!(Yolox { classes: 1 }.is_readable(outputs, (64, 64)), fits);
        }
    }
}
