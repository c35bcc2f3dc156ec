//! SCRFD (InsightFace): for each of the strides 8, 16 and 32 the probability of a face `[2 cells, 1]`, distances to the sides of
//! its box `[2 cells, 4]` and perhaps five points `[2 cells, 10]`, in strides from the cell's corner; with a batch or without.
//!
//! deepinsight/insightface, detection/scrfd/tools/scrfd.py.

use super::boxes::STRIDES;
use super::distances::sides_to_corners;
use super::evidence::{Column, Evidence, Output};
use super::names::Names;
use super::preparation::Preparation;
use super::reader::{Reader, Scratch, Survey};
use super::{Claim, Verdict};
use crate::detect::layouts::decoder::Outputs;
use crate::detect::layouts::task::Task;

/// Boxes for each cell.
const BOXES: usize = 2;
/// Five points of x and y.
pub(super) const POINTS: usize = 10;

#[derive(Debug)]
struct Scrfd {
    has_points: bool,
}

/// The outputs of `[rows, columns]` (or `[1, rows, columns]`) for each stride, where there are `boxes` rows for a cell: as many for
/// each stride, those of the first kind first.
pub(crate) fn levels(evidence: &Evidence<'_>, boxes: usize, columns: usize) -> Vec<usize> {
    let (width, height) = evidence.size();
    let of = |stride: usize| -> Vec<usize> {
        let rows = boxes * width.div_ceil(stride) * height.div_ceil(stride);
        let fits = |output: &Output<'_>| match *output.shape {
            [1, of_output, last] | [of_output, last] => (of_output, last) == (rows, columns),
            _ => false,
        };
        (0..evidence.outputs.len()).filter(|&index| fits(&evidence.outputs[index])).collect()
    };
    let found = STRIDES.map(of);
    let count = found[0].len();
    if found.iter().any(|of_stride| of_stride.len() != count) {
        return Vec::new();
    }
    (0..count).flat_map(|place| found.iter().map(move |of_stride| of_stride[place])).collect()
}

/// Whether all values of these outputs in the trial run are probabilities; `None` without a run.
pub(super) fn are_shares(evidence: &Evidence<'_>, outputs: &[usize]) -> Option<bool> {
    let columns: Option<Vec<Vec<Column>>> = outputs.iter().map(|&index| evidence.outputs[index].columns()).collect();
    Some(columns?.iter().flatten().all(Column::is_share))
}

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    if evidence.forced.is_some() {
        return Verdict::No;
    }
    let [scores, boxes, points] = [1, 4, POINTS].map(|columns| levels(evidence, BOXES, columns));
    let has_points = points.len() == STRIDES.len();
    let is_whole = scores.len() == STRIDES.len() && boxes.len() == STRIDES.len() && (has_points || points.is_empty());
    if !is_whole || evidence.outputs.len() != scores.len() + boxes.len() + points.len() {
        return Verdict::No;
    }
    match are_shares(evidence, &scores) {
        None => return Verdict::NeedsTrial,
        Some(false) => return Verdict::No,
        Some(true) => {}
    }
    let reason = format!(
        "scores, distances to the sides of boxes{} for two faces in each cell of strides 8, 16 and 32, as SCRFD gives them",
        if has_points { " and five points" } else { "" }
    );
    let claim = Claim::new("scrfd", Scrfd { has_points }, [scores, boxes, points].concat(), reason).classes(1);
    let claim = claim.prepared([Preparation::SCRFD]).named(Names::Face);
    if has_points { claim.task(Task::Pose { points: 5, values: 2 }).into() } else { claim.into() }
}

/// The corner of the cell in which box `place` of a level lies.
fn corner(place: usize, width: usize, stride: usize) -> [f32; 2] {
    let (cell, across) = (place / BOXES, width.div_ceil(stride));
    [(cell % across * stride) as f32, (cell / across * stride) as f32]
}

impl Reader for Scrfd {
    fn is_readable(&self, outputs: Outputs<'_>, (width, height): (usize, usize)) -> bool {
        let kinds: &[usize] = if self.has_points { &[1, 4, POINTS] } else { &[1, 4] };
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

    fn is_finished(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn extra(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), index: usize) -> Vec<f32> {
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

    fn survey(&self, outputs: Outputs<'_>, _size: (usize, usize), survey: &mut Survey) {
        survey.has_every_cell = true;
        outputs.views[..STRIDES.len()].iter().for_each(|view| survey.scores(view.values));
    }
}
