//! Grids of cells with a distribution over the distances to each side of a box: NanoDet (v1 and Plus), PicoDet without its last
//! step. Class probabilities `[1, cells, C]` and `[1, cells, 4 bins]`, in one output or in two for each stride.
//!
//! NanoDet (RangiLyu, nanodet/model/head/nanodet_plus_head.py and gfl_head.py) and PicoDet (PaddleDetection,
//! ppdet/modeling/heads/pico_head.py), after Li et al., "Generalized Focal Loss", 2020.

use super::boxes::{FOUR_STRIDES, STRIDES, best_of, cell_count_up};
use super::evidence::{Column, Evidence, Main};
use super::preparation::Preparation;
use super::reader::{Reader, Scratch, Survey};
use super::{Claim, Verdict};
use crate::detect::layouts::decoder::Outputs;

/// Values for each side of a box that published models have: 0 to 7.
const BINS: usize = 8;

#[derive(Debug)]
struct Distances {
    classes: usize,
    /// Values for each side of a box.
    bins: usize,
    strides: &'static [usize],
    /// Whether all strides are one output `[1, cells, C + 4 bins]`; else there are scores of each stride, then boxes of each.
    is_joined: bool,
    /// Cells are at this share of their stride: NanoDet-Plus has them at their corner.
    shift: f32,
}

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    if evidence.forced.is_some() {
        return Verdict::No;
    }
    match split(evidence, &FOUR_STRIDES).or_else(|| split(evidence, &STRIDES)) {
        Some(claim) => claim.into(),
        None => joined(evidence),
    }
}

/// One output.
fn joined(evidence: &Evidence<'_>) -> Verdict {
    let Some(Main { index, rows, columns }) = evidence.main() else { return Verdict::No };
    let size = evidence.size();
    let (strides, shift): (&'static [usize], f32) = if rows == cell_count_up(size, &FOUR_STRIDES) {
        (&FOUR_STRIDES, 0.0)
    } else if rows == cell_count_up(size, &STRIDES) {
        (&STRIDES, 0.5)
    } else {
        return Verdict::No;
    };
    let bins = evidence.class_count().map_or(BINS, |classes| columns.saturating_sub(classes) / 4);
    let classes = columns.checked_sub(4 * bins).filter(|&classes| classes > 0 && bins > 1);
    let Some(classes) = classes.filter(|classes| evidence.class_count().is_none_or(|names| names == *classes)) else {
        return Verdict::No;
    };
    let is_other = evidence.class_count().is_some_and(|names| columns == names + 4 || columns == names + 5);
    if is_other {
        return Verdict::No;
    }
    let Some(values) = evidence.outputs[index].columns() else { return Verdict::NeedsTrial };
    if !values[..classes].iter().all(Column::is_share) || values[classes..].iter().all(Column::is_share) {
        return Verdict::No;
    }
    let which = if strides.len() == 4 { "NanoDet-Plus" } else { "NanoDet" };
    let reason = format!(
        "{rows} cells of {} strides with {classes} classes and 4 x {bins} values of box, as of {which}",
        strides.len()
    );
    let reader = Distances { classes, bins, strides, is_joined: true, shift };
    Claim::new("distances", reader, vec![index], reason).classes(classes).prepared([Preparation::NANODET]).into()
}

/// The last length of an output's shape.
fn columns_of(evidence: &Evidence<'_>, index: usize) -> usize {
    evidence.outputs[index].shape.last().copied().unwrap_or(0)
}

/// Two outputs for each stride, with a batch or without.
fn split(evidence: &Evidence<'_>, strides: &'static [usize]) -> Option<Claim> {
    if evidence.outputs.len() != 2 * strides.len() {
        return None;
    }
    let (mut scores, mut boxes) = (Vec::new(), Vec::new());
    for stride in strides {
        let cells = cell_count_up(evidence.size(), &[*stride]);
        let of_stride: Vec<usize> = (0..evidence.outputs.len())
            .filter(|&index| matches!(*evidence.outputs[index].shape, [rows, _] | [_, rows, _] if rows == cells))
            .collect();
        let [a, b] = of_stride[..] else { return None };
        let columns = |index: usize| columns_of(evidence, index);
        // PicoDet lists all scores before all boxes, NanoDet both of each stride; scores come first.
        if !columns(b).is_multiple_of(4) || columns(b) < 8 {
            return None;
        }
        scores.push(a);
        boxes.push(b);
    }
    let (classes, values) = (columns_of(evidence, scores[0]), columns_of(evidence, boxes[0]));
    let is_same = scores.iter().all(|&index| columns_of(evidence, index) == classes)
        && boxes.iter().all(|&index| columns_of(evidence, index) == values);
    let (which, preparation) = match strides.len() {
        4 => ("PicoDet", Preparation::IMAGENET),
        _ => ("NanoDet", Preparation::NANODET),
    };
    let reason = format!(
        "scores of {classes} classes and 4 x {} values of box for each of {} strides, as of {which}",
        values / 4,
        strides.len()
    );
    let reader = Distances { classes, bins: values / 4, strides, is_joined: false, shift: 0.5 };
    let claim = Claim::new("distances", reader, [scores, boxes].concat(), reason);
    (is_same && classes > 0).then(|| claim.classes(classes).prepared([preparation]))
}

impl Reader for Distances {
    fn is_readable(&self, outputs: Outputs<'_>, size: (usize, usize)) -> bool {
        if self.is_joined {
            return outputs.shape(0, 2) == Some(&[cell_count_up(size, self.strides), self.classes + 4 * self.bins]);
        }
        let levels = self.strides.len();
        self.strides.iter().enumerate().all(|(level, stride)| {
            let cells = cell_count_up(size, &[*stride]);
            outputs.shape(level, 2) == Some(&[cells, self.classes])
                && outputs.shape(levels + level, 2) == Some(&[cells, 4 * self.bins])
        })
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let (width, height) = size;
        let mut index = 0;
        for (level, &stride) in self.strides.iter().enumerate() {
            let (across, down) = (width.div_ceil(stride), height.div_ceil(stride));
            let (scores, sides) = match self.is_joined {
                true => (outputs.part(0, image, 2), outputs.part(0, image, 2)),
                false => (outputs.part(level, image, 2), outputs.part(self.strides.len() + level, image, 2)),
            };
            let (score_columns, side_columns) = (scores.shape[1], sides.shape[1]);
            for cell in 0..across * down {
                let row = if self.is_joined { index } else { cell };
                let score_row = &scores.values[row * score_columns..][..self.classes];
                let first = row * side_columns + if self.is_joined { self.classes } else { 0 };
                let side_row = &sides.values[first..][..4 * self.bins];
                let (class_id, score) = best_of(score_row);
                if score > threshold {
                    let x = ((cell % across) as f32 + self.shift) * stride as f32;
                    let y = ((cell / across) as f32 + self.shift) * stride as f32;
                    let corners =
                        sides_to_corners([x, y], stride as f32, side_row.chunks_exact(self.bins).map(mean_of));
                    scratch.push(corners, score, class_id, index);
                }
                index += 1;
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
        match self.is_joined {
            true => outputs.views[0].rows().for_each(|row| survey.scores(&row[..self.classes])),
            false => outputs.views[..self.strides.len()].iter().for_each(|view| survey.scores(view.values)),
        }
    }
}

/// Corners around a point from distances in strides to the left, top, right and bottom.
pub(super) fn sides_to_corners([x, y]: [f32; 2], stride: f32, mut sides: impl Iterator<Item = f32>) -> [f32; 4] {
    let mut next = || sides.next().unwrap_or_default() * stride;
    let (left, top, right, bottom) = (next(), next(), next(), next());
    [x - left, y - top, x + right, y + bottom]
}

/// Mean of the places of a softmax.
pub(crate) fn mean_of(logits: &[f32]) -> f32 {
    mean_of_places(logits.iter().copied())
}

/// The same of values that do not lie side by side.
pub(super) fn mean_of_places(logits: impl Iterator<Item = f32> + Clone) -> f32 {
    let greatest = logits.clone().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (place, logit) in logits.enumerate() {
        let share = (logit - greatest).exp();
        sum += share;
        weighted += share * place as f32;
    }
    weighted / sum
}

/// Cells of a grid; grids of other families are rounded down.
pub(crate) fn grid((width, height): (usize, usize), stride: usize) -> (usize, usize) {
    (width / stride, height / stride)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_two_equal_places_lies_between_them() {
        assert_eq!(mean_of(&[0.0, 60.0, 60.0, 0.0]), 1.5);
    }
}
