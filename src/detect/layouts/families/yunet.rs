// SPDX-License-Identifier: MIT OR Apache-2.0
//! YuNet (libfacedetection, OpenCV's zoo since 2023): for each of the strides 8, 16 and 32 the probabilities of the class and of an
//! object `[1, cells, 1]`, boxes `[1, cells, 4]` and five points `[1, cells, 10]`, in strides from the cell's corner.
//!
//! opencv/opencv, modules/objdetect/src/face_detect.cpp, `postProcess`.

use super::Family;
use crate::detect::layouts::class_names::ClassNames;
use crate::detect::layouts::common::boxes::corners_from_centre;
use crate::detect::layouts::common::face::{FACE_TASK, POINT_VALUES};
use crate::detect::layouts::common::grids::STRIDES;
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::evidence::Evidence;
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};

/// Columns of each kind of output, in the order that the reader expects.
const KINDS: [usize; 4] = [1, 1, 4, POINT_VALUES];

#[derive(Debug)]
struct YuNet;

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let [scores, boxes, points] = [1, 4, POINT_VALUES].map(|columns| evidence.outputs_per_stride(1, columns));
    let is_complete = [&scores, &boxes, &points].map(Vec::len) == [2 * STRIDES.len(), STRIDES.len(), STRIDES.len()];
    if !is_complete || evidence.outputs.len() != KINDS.len() * STRIDES.len() {
        return Recognition::NoMatch;
    }
    match evidence.are_probabilities(&scores) {
        None => return Recognition::NeedsTrialRun,
        Some(false) => return Recognition::NoMatch,
        Some(true) => {}
    }
    let reason = "two scores, a box and five points for each cell of strides 8, 16 and 32, as in YuNet";
    let matched = LayoutMatch::new("yunet", YuNet, [scores, boxes, points].concat(), reason.to_owned()).classes(1);
    matched.prepared([Preparation::YOLOX]).named(ClassNames::Face).task(FACE_TASK).into()
}

/// Returns column and row of a cell.
fn place(cell: usize, width: usize, stride: usize) -> [f32; 2] {
    let across = width.div_ceil(stride);
    [(cell % across) as f32, (cell / across) as f32]
}

impl OutputReader for YuNet {
    fn accepts(&self, outputs: Outputs<'_>, (width, height): (usize, usize)) -> bool {
        KINDS.iter().enumerate().all(|(kind, &columns)| {
            STRIDES.iter().enumerate().all(|(level, stride)| {
                let cells = width.div_ceil(*stride) * height.div_ceil(*stride);
                outputs.shape(kind * STRIDES.len() + level, 2) == Some(&[cells, columns])
            })
        })
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let mut first = 0;
        for (level, &stride) in STRIDES.iter().enumerate() {
            let part = |kind: usize| outputs.part(kind * STRIDES.len() + level, image, 2);
            let scores = part(0).values.iter().zip(part(1).values);
            for (cell, ((one, other), values)) in scores.zip(part(2).rows()).enumerate() {
                let score = (one.clamp(0.0, 1.0) * other.clamp(0.0, 1.0)).sqrt();
                if score > threshold {
                    let ([x, y], stride) = (place(cell, size.0, stride), stride as f32);
                    let sides = [values[2].exp() * stride, values[3].exp() * stride];
                    let centre = [(x + values[0]) * stride, (y + values[1]) * stride];
                    scratch.push(
                        corners_from_centre(&[centre[0], centre[1], sides[0], sides[1]]),
                        score,
                        0,
                        first + cell,
                    );
                }
            }
            first += part(0).shape[0];
        }
    }

    fn is_suppressed(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn extra_values(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), index: usize) -> Vec<f32> {
        let mut cell = index;
        for (level, &stride) in STRIDES.iter().enumerate() {
            let points = outputs.part(3 * STRIDES.len() + level, image, 2);
            let Some(points) = points.rows().nth(cell) else {
                cell -= points.shape[0];
                continue;
            };
            let place = place(cell, size.0, stride);
            return points.iter().enumerate().map(|(at, value)| (value + place[at % 2]) * stride as f32).collect();
        }
        Vec::new()
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        statistics.has_every_cell = true;
        outputs.views[..2 * STRIDES.len()].iter().for_each(|view| statistics.scores(view.values));
    }
}
