//! YuNet (libfacedetection, OpenCV's zoo since 2023): for each of the strides 8, 16 and 32 the probabilities of a class and of an
//! object `[1, cells, 1]`, boxes `[1, cells, 4]` and five points `[1, cells, 10]`, in strides from the cell's corner.
//!
//! opencv/opencv, modules/objdetect/src/face_detect.cpp, `postProcess`.

use super::boxes::{STRIDES, centred};
use super::evidence::Evidence;
use super::names::Names;
use super::preparation::Preparation;
use super::reader::{Reader, Scratch, Survey};
use super::scrfd::{POINTS, are_shares, levels};
use super::{Claim, Verdict};
use crate::detect::layouts::decoder::Outputs;
use crate::detect::layouts::task::Task;

/// Columns of each kind of output, in the order in which the reader takes them.
const KINDS: [usize; 4] = [1, 1, 4, POINTS];

#[derive(Debug)]
struct YuNet;

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    if evidence.forced.is_some() {
        return Verdict::No;
    }
    let [scores, boxes, points] = [1, 4, POINTS].map(|columns| levels(evidence, 1, columns));
    let is_whole = [&scores, &boxes, &points].map(Vec::len) == [2 * STRIDES.len(), STRIDES.len(), STRIDES.len()];
    if !is_whole || evidence.outputs.len() != KINDS.len() * STRIDES.len() {
        return Verdict::No;
    }
    match are_shares(evidence, &scores) {
        None => return Verdict::NeedsTrial,
        Some(false) => return Verdict::No,
        Some(true) => {}
    }
    let reason = "two scores, a box and five points for each cell of strides 8, 16 and 32, as YuNet gives them";
    let claim = Claim::new("yunet", YuNet, [scores, boxes, points].concat(), reason.to_owned()).classes(1);
    claim.prepared([Preparation::YOLOX]).named(Names::Face).task(Task::Pose { points: 5, values: 2 }).into()
}

/// Column and row of a cell.
fn place(cell: usize, width: usize, stride: usize) -> [f32; 2] {
    let across = width.div_ceil(stride);
    [(cell % across) as f32, (cell / across) as f32]
}

impl Reader for YuNet {
    fn is_readable(&self, outputs: Outputs<'_>, (width, height): (usize, usize)) -> bool {
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
                    scratch.push(centred(&[centre[0], centre[1], sides[0], sides[1]]), score, 0, first + cell);
                }
            }
            first += part(0).shape[0];
        }
    }

    fn is_finished(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn extra(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), index: usize) -> Vec<f32> {
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

    fn survey(&self, outputs: Outputs<'_>, _size: (usize, usize), survey: &mut Survey) {
        survey.has_every_cell = true;
        outputs.views[..2 * STRIDES.len()].iter().for_each(|view| survey.scores(view.values));
    }
}
