// SPDX-License-Identifier: MIT OR Apache-2.0
//! yolov5-face: `[1, cells, 16]`. Centre x, centre y, width, height, objectness, five points, the probability of a face
//! (deepcam-cn/yolov5-face, models/yolo.py).

use super::Family;
use crate::detect::layouts::class_names::ClassNames;
use crate::detect::layouts::common::boxes::{BoxFormat, CoordinateUnit, MAX_NORMALISED};
use crate::detect::layouts::common::face::FACE_TASK;
use crate::detect::layouts::common::rows::{RowScore, Rows};
use crate::detect::layouts::evidence::{BoxOutput, Evidence};
use crate::detect::layouts::{LayoutMatch, Recognition};

const COLUMNS: usize = 16;
/// Five points of x and y.
const POINTS: std::ops::Range<usize> = 5..15;

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let Some(BoxOutput { index, rows, columns }) = evidence.box_output() else { return Recognition::NoMatch };
    let has_classes = evidence.class_count().is_some_and(|classes| classes != 1);
    if columns != COLUMNS || rows <= columns || has_classes {
        return Recognition::NoMatch;
    }
    let Some(values) = evidence.outputs[index].columns() else { return Recognition::NeedsTrialRun };
    let has_points = values[POINTS].iter().any(|point| point.max.max(-point.min) > MAX_NORMALISED);
    if !has_points || !values[4].is_probability() || !values[15].is_probability() {
        return Recognition::NoMatch;
    }
    let reason = format!(
        "[1, {rows}, 16] is 4 box values, objectness, five points and one class for each of {rows} cells: a trial run returned \
         points in pixels"
    );
    let reader = Rows {
        extra: POINTS,
        points: Some(0),
        ..Rows::new(
            COLUMNS,
            BoxFormat::Centre,
            CoordinateUnit::Pixels,
            RowScore::Objectness { at: 4, first: 15, count: 1 },
        )
    };
    let matched = LayoutMatch::new("v5-face", reader, vec![index], reason).classes(1);
    matched.task(FACE_TASK).named(ClassNames::Face).into()
}
