// SPDX-License-Identifier: MIT OR Apache-2.0
//! Undecoded heads of YOLOv8 and its successors: maps for each stride with a distribution over the distances to each side of a
//! box and a score for each class. In one map `[1, 64 + C, rows, columns]` as in PyTorch, or in separate maps as in Rockchip's
//! exports: `[1, 64, ...]` (or `[1, 4, ...]` if the distribution is already reduced to a distance), `[1, C, ...]`, and optionally
//! a sum of the scores `[1, 1, ...]` (airockchip, rknn_model_zoo/examples/yolov8).

use super::Family;
use crate::detect::layouts::common::boxes::sigmoid;
use crate::detect::layouts::common::grids::STRIDES;
use crate::detect::layouts::common::grids::{expected_bin, grid, sides_to_corners};
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::evidence::{Evidence, Output};
use crate::detect::layouts::{LayoutMatch, Recognition};

/// Channels of the boxes: 16 bins for each side.
const BOX: usize = 64;

#[derive(Debug)]
struct DistributionHeads {
    classes: usize,
    /// Bins for each side of a box.
    bins: usize,
    /// Whether boxes and scores are one map.
    is_joined: bool,
    /// Whether scores are logits of a sigmoid.
    is_logits: bool,
}

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    if evidence.outputs.iter().any(|output| output.shape.len() != 4) {
        return Recognition::NoMatch;
    }
    let Some(maps) = evidence.maps_per_stride() else { return Recognition::NoMatch };
    let channels = |index: usize| evidence.outputs[index].shape[1];
    let (classes, bins, read, is_joined) = match maps[0].as_slice() {
        [only] => {
            let all = channels(*only);
            let Some(classes) = all.checked_sub(BOX).filter(|&classes| classes > 0) else {
                return Recognition::NoMatch;
            };
            // 255 channels are three anchors of COCO, 144 the distributions of COCO.
            let is_anchors = all.is_multiple_of(3)
                && all > 15
                && match evidence.class_count() {
                    Some(names) => all == 3 * (5 + names),
                    None => all == 255,
                };
            if is_anchors || evidence.class_count().is_some_and(|names| names != classes) {
                return Recognition::NoMatch;
            }
            (classes, BOX / 4, maps.iter().map(|of_stride| of_stride[0]).collect::<Vec<_>>(), true)
        }
        [first, second] | [first, second, _] => {
            let bins = match channels(*first) {
                BOX => BOX / 4,
                4 => 1,
                _ => return Recognition::NoMatch,
            };
            let read = (0..2).flat_map(|place| maps.iter().map(move |of_stride| of_stride[place])).collect::<Vec<_>>();
            (channels(*second), bins, read, false)
        }
        _ => return Recognition::NoMatch,
    };
    let is_same = |place: usize, count: usize| maps.iter().all(|of_stride| channels(of_stride[place]) == count);
    if classes == 0
        || !is_same(0, if is_joined { BOX + classes } else { 4 * bins })
        || (!is_joined && !is_same(1, classes))
    {
        return Recognition::NoMatch;
    }
    let scores: Option<Vec<&[f32]>> = match is_joined {
        true => read.iter().map(|&index| scores_of(&evidence.outputs[index], BOX)).collect(),
        false => read[3..].iter().map(|&index| scores_of(&evidence.outputs[index], 0)).collect(),
    };
    let Some(scores) = scores else { return Recognition::NeedsTrialRun };
    let is_logits = scores.into_iter().flatten().any(|value| !(-1e-3..=1.001).contains(value));
    let scores = if is_logits { "logits" } else { "probabilities" };
    let reason = format!(
        "maps of strides 8, 16 and 32 with distributions over distances and {scores} of {classes} classes: undecoded heads of YOLOv8"
    );
    let reader = DistributionHeads { classes, bins, is_joined, is_logits };
    LayoutMatch::new("v8-raw", reader, read, reason).classes(classes).into()
}

/// Returns the class values of the first image in the trial run.
fn scores_of<'a>(output: &Output<'a>, first: usize) -> Option<&'a [f32]> {
    let [_, channels, rows, columns] = *output.shape else { return None };
    let cells = rows * columns;
    output.values?.get(first * cells..channels * cells)
}

impl OutputReader for DistributionHeads {
    fn accepts(&self, outputs: Outputs<'_>, size: (usize, usize)) -> bool {
        STRIDES.iter().enumerate().all(|(level, &stride)| {
            let (across, down) = grid(size, stride);
            match self.is_joined {
                true => outputs.shape(level, 3) == Some(&[4 * self.bins + self.classes, down, across]),
                false => {
                    outputs.shape(level, 3) == Some(&[4 * self.bins, down, across])
                        && outputs.shape(3 + level, 3) == Some(&[self.classes, down, across])
                }
            }
        })
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let mut index = 0;
        for (level, &stride) in STRIDES.iter().enumerate() {
            let (across, down) = grid(size, stride);
            let cells = across * down;
            let sides = outputs.part(level, image, 3).values;
            let scores = match self.is_joined {
                true => &sides[4 * self.bins * cells..],
                false => outputs.part(3 + level, image, 3).values,
            };
            for cell in 0..cells {
                let mut best = (0, f32::NEG_INFINITY);
                for class in 0..self.classes {
                    let value = scores[class * cells + cell];
                    if value > best.1 {
                        best = (class as u32, value);
                    }
                }
                let score = if self.is_logits { sigmoid(best.1) } else { best.1 };
                if score > threshold {
                    let centre = [
                        ((cell % across) as f32 + 0.5) * stride as f32,
                        ((cell / across) as f32 + 0.5) * stride as f32,
                    ];
                    let side = |side: usize| {
                        let value = |bin: usize| sides[(side * self.bins + bin) * cells + cell];
                        if self.bins == 1 { value(0) } else { expected_bin((0..self.bins).map(value)) }
                    };
                    scratch.push(
                        sides_to_corners(centre, stride as f32, (0..4).map(side)),
                        score,
                        best.0,
                        index + cell,
                    );
                }
            }
            index += cells;
        }
    }

    fn is_suppressed(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        if !self.is_logits && !self.is_joined {
            statistics.has_every_cell = true;
            outputs.views[3..].iter().for_each(|view| statistics.scores(view.values));
        }
    }
}
