//! yolov5-face: `[1, cells, 16]`. Centre x, centre y, width, height, objectness, five points, the probability of a face
//! (deepcam-cn/yolov5-face, models/yolo.py).

use super::boxes::{BoxForm, LARGEST_SHARE, Unit};
use super::evidence::{Evidence, Main};
use super::names::Names;
use super::rows::{RowScore, Rows};
use super::{Claim, Verdict};
use crate::detect::layouts::task::Task;

const COLUMNS: usize = 16;
/// Five points of x and y.
const POINTS: std::ops::Range<usize> = 5..15;

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let Some(Main { index, rows, columns }) = evidence.main() else { return Verdict::No };
    let has_classes = evidence.class_count().is_some_and(|classes| classes != 1);
    if evidence.forced.is_some() || columns != COLUMNS || rows <= columns || has_classes {
        return Verdict::No;
    }
    let Some(values) = evidence.outputs[index].columns() else { return Verdict::NeedsTrial };
    let has_points = values[POINTS].iter().any(|point| point.most.max(-point.least) > LARGEST_SHARE);
    if !has_points || !values[4].is_share() || !values[15].is_share() {
        return Verdict::No;
    }
    let reason = format!(
        "[1, {rows}, 16] is 4 box values, objectness, five points and one class for each of {rows} cells: a trial run gave \
         points in pixels"
    );
    let reader = Rows {
        extra: POINTS,
        points: Some(0),
        ..Rows::new(COLUMNS, BoxForm::Centre, Unit::Pixels, RowScore::Objectness { at: 4, first: 15, count: 1 })
    };
    let claim = Claim::new("v5-face", reader, vec![index], reason).classes(1);
    claim.task(Task::Pose { points: 5, values: 2 }).named(Names::Face).into()
}
