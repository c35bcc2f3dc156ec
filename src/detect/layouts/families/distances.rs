// SPDX-License-Identifier: MIT OR Apache-2.0
//! Grids of cells with a distribution over the distances to each side of a box: NanoDet (v1 and Plus), PicoDet without
//! postprocessing. Class probabilities `[1, cells, C]` and `[1, cells, 4 bins]`, in one output or in two for each stride.
//!
//! NanoDet (RangiLyu, nanodet/model/head/nanodet_plus_head.py and gfl_head.py) and PicoDet (PaddleDetection,
//! ppdet/modeling/heads/pico_head.py), after Li et al., "Generalized Focal Loss", 2020.

use super::Family;
use crate::detect::layouts::common::boxes::best_of;
use crate::detect::layouts::common::grids::{FOUR_STRIDES, STRIDES, cell_count_up};
use crate::detect::layouts::common::grids::{expected_bin, sides_to_corners};
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::evidence::{BoxOutput, Evidence, ValueRange};
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};
use crate::detect::pixels::input_format::{ChannelOrder, Normalise};
use crate::detect::pixels::letterbox::ResizeMode;

/// Bins for each side of a box in published models: 0 to 7.
const BINS: usize = 8;

#[derive(Debug)]
struct Distances {
    classes: usize,
    /// Bins for each side of a box.
    bins: usize,
    strides: &'static [usize],
    /// Whether all strides are in one output `[1, cells, C + 4 bins]`; otherwise there are scores of each stride, then boxes of
    /// each.
    is_joined: bool,
    /// Position of a cell's point as a fraction of its stride: 0 for NanoDet-Plus, which has it at the corner.
    shift: f32,
}

/// BGR, stretched, with its own mean and deviation (RangiLyu, nanodet/config/nanodet-plus-m_416.yml).
const NANODET: Preparation = Preparation {
    order: ChannelOrder::Bgr,
    white: 255.0,
    resize_mode: ResizeMode::Stretch,
    normalise: Some(Normalise { mean: [103.53, 116.28, 123.675], deviation: [57.375, 57.12, 58.395] }),
};

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    match split(evidence, &FOUR_STRIDES).or_else(|| split(evidence, &STRIDES)) {
        Some(matched) => matched.into(),
        None => joined(evidence),
    }
}

/// Matches models with one output.
fn joined(evidence: &Evidence<'_>) -> Recognition {
    let Some(BoxOutput { index, rows, columns }) = evidence.box_output() else { return Recognition::NoMatch };
    let size = evidence.size();
    let (strides, shift): (&'static [usize], f32) = if rows == cell_count_up(size, &FOUR_STRIDES) {
        (&FOUR_STRIDES, 0.0)
    } else if rows == cell_count_up(size, &STRIDES) {
        (&STRIDES, 0.5)
    } else {
        return Recognition::NoMatch;
    };
    let bins = evidence.class_count().map_or(BINS, |classes| columns.saturating_sub(classes) / 4);
    let classes = columns.checked_sub(4 * bins).filter(|&classes| classes > 0 && bins > 1);
    let Some(classes) = classes.filter(|classes| evidence.class_count().is_none_or(|names| names == *classes)) else {
        return Recognition::NoMatch;
    };
    let is_other = evidence.class_count().is_some_and(|names| columns == names + 4 || columns == names + 5);
    if is_other {
        return Recognition::NoMatch;
    }
    let Some(values) = evidence.outputs[index].columns() else { return Recognition::NeedsTrialRun };
    if !values[..classes].iter().all(ValueRange::is_probability)
        || values[classes..].iter().all(ValueRange::is_probability)
    {
        return Recognition::NoMatch;
    }
    let which = if strides.len() == 4 { "NanoDet-Plus" } else { "NanoDet" };
    let reason = format!(
        "{rows} cells of {} strides with {classes} classes and 4 x {bins} box values, as in {which}",
        strides.len()
    );
    let reader = Distances { classes, bins, strides, is_joined: true, shift };
    LayoutMatch::new("distances", reader, vec![index], reason).classes(classes).prepared([NANODET]).into()
}

/// Returns the last dimension of an output.
fn columns_of(evidence: &Evidence<'_>, index: usize) -> usize {
    evidence.outputs[index].shape.last().copied().unwrap_or(0)
}

/// Matches models with two outputs for each stride, with a batch or without.
fn split(evidence: &Evidence<'_>, strides: &'static [usize]) -> Option<LayoutMatch> {
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
        // PicoDet lists all scores before all boxes, NanoDet both for each stride; scores come first.
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
        _ => ("NanoDet", NANODET),
    };
    let reason = format!(
        "scores of {classes} classes and 4 x {} box values for each of {} strides, as in {which}",
        values / 4,
        strides.len()
    );
    let reader = Distances { classes, bins: values / 4, strides, is_joined: false, shift: 0.5 };
    let matched = LayoutMatch::new("distances", reader, [scores, boxes].concat(), reason);
    (is_same && classes > 0).then(|| matched.classes(classes).prepared([preparation]))
}

impl OutputReader for Distances {
    fn accepts(&self, outputs: Outputs<'_>, size: (usize, usize)) -> bool {
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
                    let corners = sides_to_corners(
                        [x, y],
                        stride as f32,
                        side_row.chunks_exact(self.bins).map(|bins| expected_bin(bins.iter().copied())),
                    );
                    scratch.push(corners, score, class_id, index);
                }
                index += 1;
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
        match self.is_joined {
            true => outputs.views[0].rows().for_each(|row| statistics.scores(&row[..self.classes])),
            false => outputs.views[..self.strides.len()].iter().for_each(|view| statistics.scores(view.values)),
        }
    }
}
