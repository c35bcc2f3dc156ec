// SPDX-License-Identifier: MIT OR Apache-2.0
//! SCRFD (InsightFace): for each of the strides 8, 16 and 32 the probability of a face `[2 cells, 1]`, distances to the sides of
//! its box `[2 cells, 4]` and optionally five points `[2 cells, 10]`, in strides from the cell's corner; with a batch or without.
//!
//! deepinsight/insightface, detection/scrfd/tools/scrfd.py.

use super::Family;
use crate::detect::layouts::class_names::ClassNames;
use crate::detect::layouts::common::face::{FACE_TASK, POINT_VALUES};
use crate::detect::layouts::common::grids::STRIDES;
use crate::detect::layouts::common::grids::sides_to_corners;
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::evidence::Evidence;
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};
use crate::detect::pixels::input_format::{ChannelOrder, Normalise};

/// Boxes for each cell.
const BOXES: usize = 2;

#[derive(Debug)]
struct Scrfd {
    has_points: bool,
}

/// RGB, (value - 127.5) / 128, at the top left.
const PREPARATION: Preparation = Preparation {
    order: ChannelOrder::Rgb,
    normalise: Some(Normalise { mean: [127.5; 3], deviation: [128.0; 3] }),
    ..Preparation::YOLOX
};

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let [scores, boxes, points] = [1, 4, POINT_VALUES].map(|columns| evidence.outputs_per_stride(BOXES, columns));
    let has_points = points.len() == STRIDES.len();
    let is_complete =
        scores.len() == STRIDES.len() && boxes.len() == STRIDES.len() && (has_points || points.is_empty());
    if !is_complete || evidence.outputs.len() != scores.len() + boxes.len() + points.len() {
        return Recognition::NoMatch;
    }
    match evidence.are_probabilities(&scores) {
        None => return Recognition::NeedsTrialRun,
        Some(false) => return Recognition::NoMatch,
        Some(true) => {}
    }
    let reason = format!(
        "scores and distances to the sides of boxes{} for two faces in each cell of strides 8, 16 and 32, as in SCRFD",
        if has_points { ", and five points," } else { "" }
    );
    let matched = LayoutMatch::new("scrfd", Scrfd { has_points }, [scores, boxes, points].concat(), reason).classes(1);
    let matched = matched.prepared([PREPARATION]).named(ClassNames::Face);
    if has_points { matched.task(FACE_TASK).into() } else { matched.into() }
}

/// Returns the corner of the cell of box `place` of a level.
fn corner(place: usize, width: usize, stride: usize) -> [f32; 2] {
    let (cell, across) = (place / BOXES, width.div_ceil(stride));
    [(cell % across * stride) as f32, (cell / across * stride) as f32]
}

impl OutputReader for Scrfd {
    fn accepts(&self, outputs: Outputs<'_>, (width, height): (usize, usize)) -> bool {
        let kinds: &[usize] = if self.has_points { &[1, 4, POINT_VALUES] } else { &[1, 4] };
        kinds.iter().enumerate().all(|(kind, &columns)| {
            STRIDES.iter().enumerate().all(|(level, stride)| {
                let rows = BOXES * width.div_ceil(*stride) * height.div_ceil(*stride);
                outputs.shape(kind * STRIDES.len() + level, 2) == Some(&[rows, columns])
            })
        })
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let mut first = 0;
        for (level, &stride) in STRIDES.iter().enumerate() {
            let scores = outputs.part(level, image, 2).values;
            let sides = outputs.part(STRIDES.len() + level, image, 2);
            for (place, (&score, sides)) in scores.iter().zip(sides.rows()).enumerate() {
                if score > threshold {
                    let point = corner(place, size.0, stride);
                    let corners = sides_to_corners(point, stride as f32, sides.iter().copied());
                    scratch.push(corners, score, 0, first + place);
                }
            }
            first += scores.len();
        }
    }

    fn is_suppressed(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn extra_values(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), index: usize) -> Vec<f32> {
        let mut place = index;
        for (level, &stride) in STRIDES.iter().enumerate().filter(|_| self.has_points) {
            let points = outputs.part(2 * STRIDES.len() + level, image, 2);
            let Some(points) = points.rows().nth(place) else {
                place -= points.shape[0];
                continue;
            };
            let corner = corner(place, size.0, stride);
            return points.iter().enumerate().map(|(at, value)| value * stride as f32 + corner[at % 2]).collect();
        }
        Vec::new()
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        statistics.has_every_cell = true;
        outputs.views[..STRIDES.len()].iter().for_each(|view| statistics.scores(view.values));
    }
}
