//! YOLOv8, v9, v10 without its head, 11, 12: `[1, 4 + C, cells]`, or transposed `[1, cells, 4 + C]`. Centre x, centre y, width,
//! height, a probability for each class, then what its task adds.
//!
//! Boxes are in pixels of the input; converters to TensorFlow (onnx2tf, TFLite) make shares of them.

use super::boxes::{BoxForm, LARGEST_SHARE, Unit};
use super::evidence::{Evidence, Extra, Main};
use super::reader::{Reader, Scratch, Survey};
use super::rows::{RowScore, Rows, has_prototypes, scale_points};
use super::{Claim, Family, Verdict};
use crate::detect::layouts::decoder::Outputs;
use crate::detect::layouts::task::Task;

/// `[4 + classes + extra, cells]`.
#[derive(Debug)]
struct V8 {
    classes: usize,
    extra: usize,
    unit: Unit,
    /// Whether nobody has looked at the values: coordinates that are all shares are then taken as such.
    is_assumed: bool,
    points: Option<usize>,
    prototypes: Option<usize>,
}

/// Coordinates among the extra values of a task: x, y and so many others.
pub(super) fn points_of(task: Task) -> Option<usize> {
    match task {
        Task::Pose { values, .. } => Some(values - 2),
        _ => None,
    }
}

/// Channels of the prototypes of a task.
pub(super) fn prototypes_of(task: Task) -> Option<usize> {
    match task {
        Task::Segment { coefficients } => Some(coefficients),
        _ => None,
    }
}

/// The outputs to read: the boxes, and prototypes where there are any.
pub(super) fn outputs_of(main: Main, extra: Extra) -> Vec<usize> {
    [Some(main.index), extra.prototypes].into_iter().flatten().collect()
}

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let Some(main) = evidence.main() else { return Verdict::No };
    let Main { rows, columns, .. } = main;
    let is_forced = match evidence.forced(Family::V8) {
        Some(false) => return Verdict::No,
        forced => forced.is_some(),
    };
    if rows < 5 || (!is_forced && rows >= columns && evidence.class_count().is_none()) {
        return Verdict::No;
    }
    let extra = match evidence.extra(rows, 4) {
        Ok(extra) => extra,
        Err(_) if rows >= columns => return Verdict::No,
        Err((reason, advice)) => return Verdict::Refused(reason, advice),
    };
    let behind = extra.task.extra();
    let why = match evidence.class_count() {
        _ if is_forced => "as was set".to_owned(),
        Some(classes) if rows == classes + 4 + behind => {
            let by_row = columns == classes + 4 + behind || columns == classes + 5 + behind;
            if by_row && rows >= columns {
                return Verdict::No;
            }
            format!("the metadata names {classes} classes")
        }
        _ if rows < columns => "fewer rows than columns".to_owned(),
        _ => return Verdict::No,
    };
    if rows <= 4 + behind {
        return Verdict::Refused(
            format!(
                "its output [1, {rows}, {columns}] has no room for the {behind} values of each object that its metadata \
                 (task {}) announces",
                extra.task
            ),
            "Export it again, so that metadata and outputs belong together".to_owned(),
        );
    }
    let is_assumed = !evidence.has_trial();
    let unit = match evidence.outputs[main.index].rows() {
        Some(values) => evidence.unit_of(&values[..4]),
        None if evidence.has_plain_pixels() => Unit::Pixels,
        None => return Verdict::NeedsTrial,
    };
    let classes = rows - 4 - behind;
    let reason = format!(
        "[1, {rows}, {columns}] is 4 box values in {} and {classes} classes for each of {columns} cells: {why}",
        unit.words()
    );
    let (points, prototypes) = (points_of(extra.task), prototypes_of(extra.task));
    let reader = V8 { classes, extra: behind, unit, is_assumed, points, prototypes };
    Claim::new("v8", reader, outputs_of(main, extra), reason).classes(classes).task(extra.task).into()
}

pub(super) fn recognise_transposed(evidence: &Evidence<'_>) -> Verdict {
    let Some(main) = evidence.main() else { return Verdict::No };
    let Main { rows, columns, .. } = main;
    let is_forced = match evidence.forced(Family::V8Transposed) {
        Some(false) => return Verdict::No,
        forced => forced.is_some(),
    };
    if columns < 5 || (!is_forced && rows < columns && evidence.class_count().is_none()) {
        return Verdict::No;
    }
    let Ok(extra) = evidence.extra(columns, 4) else { return Verdict::No };
    let behind = extra.task.extra();
    let is_named = evidence.class_count().is_some_and(|classes| columns == classes + 4 + behind);
    let why = match evidence.class_count() {
        _ if is_forced => "as was set".to_owned(),
        Some(classes) if is_named => format!("the metadata names {classes} classes"),
        _ if rows == evidence.cells() => "as many rows as cells".to_owned(),
        _ => return Verdict::No,
    };
    if columns <= 4 + behind {
        return Verdict::No;
    }
    let Some(values) = evidence.outputs[main.index].columns() else { return Verdict::NeedsTrial };
    let unit = evidence.unit_of(&values[..4]);
    let classes = columns - 4 - behind;
    let reason = format!(
        "[1, {rows}, {columns}] is 4 box values in {} and {classes} classes for each of {rows} cells: {why}",
        unit.words()
    );
    let reader = Rows {
        extra: 4 + classes..columns,
        points: points_of(extra.task),
        prototypes: prototypes_of(extra.task),
        ..Rows::new(columns, BoxForm::Centre, unit, RowScore::Classes { first: 4, count: classes })
    };
    Claim::new("v8-transposed", reader, outputs_of(main, extra), reason).classes(classes).task(extra.task).into()
}

impl V8 {
    /// The unit of the boxes `[4, cells]` of an image. Among the cells of any picture are some far from its corner.
    fn unit_of(&self, boxes: &[f32]) -> Unit {
        let is_near = || boxes.iter().all(|value| *value <= LARGEST_SHARE) && boxes.iter().any(|value| *value > 0.0);
        if self.is_assumed && is_near() { Unit::Shares } else { self.unit }
    }
}

impl Reader for V8 {
    fn is_readable(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        let features = 4 + self.classes + self.extra;
        outputs.shape(0, 2).is_some_and(|shape| shape[0] == features && shape[1] > 0)
            && has_prototypes(outputs, self.prototypes)
    }

    /// The best probability of each cell in one pass along the rows, the class only where it counts.
    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let output = outputs.part(0, image, 2);
        let cells = output.shape[1];
        let (boxes, classes) = output.values[..output.values.len() - self.extra * cells].split_at(4 * cells);
        let mut best = std::mem::take(&mut scratch.best);
        best.clear();
        best.resize(cells, f32::NEG_INFINITY);
        for row in classes.chunks_exact(cells) {
            for (best, &value) in best.iter_mut().zip(row) {
                *best = if value > *best { value } else { *best };
            }
        }
        let scale = self.unit_of(boxes).scale(size);
        for (cell, &score) in best.iter().enumerate() {
            if score > threshold {
                let class_id = classes.iter().skip(cell).step_by(cells).position(|&value| value == score);
                let row = [boxes[cell], boxes[cells + cell], boxes[2 * cells + cell], boxes[3 * cells + cell]];
                let corners = BoxForm::Centre.corners(&row, scale);
                scratch.push(corners, score, class_id.unwrap_or_default() as u32, cell);
            }
        }
        scratch.best = best;
    }

    fn is_finished(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn extra(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), index: usize) -> Vec<f32> {
        let output = outputs.part(0, image, 2);
        let (cells, first) = (output.shape[1], 4 + self.classes);
        let mut values: Vec<f32> = (first..first + self.extra).map(|row| output.values[row * cells + index]).collect();
        if let Some(others) = self.points {
            scale_points(&mut values, others, self.unit_of(&output.values[..4 * cells]).scale(size));
        }
        values
    }

    fn survey(&self, outputs: Outputs<'_>, _size: (usize, usize), survey: &mut Survey) {
        survey.is_in_pixels = self.unit == Unit::Pixels;
        survey.has_every_cell = true;
        for image in 0..outputs.images {
            let output = outputs.part(0, image, 2);
            let cells = output.shape[1];
            if survey.is_in_pixels {
                survey.boxes(&output.values[..4 * cells]);
            }
            survey.scores(&output.values[4 * cells..(4 + self.classes) * cells]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::testing::{read, view};
    use super::*;

    #[test]
    fn both_orders_give_the_same_boxes() {
        // Two cells, two classes.
        let major = [10.0, 40.0, 10.0, 40.0, 4.0, 8.0, 4.0, 8.0, 0.1, 0.6, 0.9, 0.2];
        let minor = [10.0, 10.0, 4.0, 4.0, 0.1, 0.9, 40.0, 40.0, 8.0, 8.0, 0.6, 0.2];
        let expected = [(1, 0.9, [8.0, 8.0, 12.0, 12.0]), (0, 0.6, [36.0, 36.0, 44.0, 44.0])];
        let reader = V8 { classes: 2, extra: 0, unit: Unit::Pixels, is_assumed: false, points: None, prototypes: None };
        assert_eq!(read(&reader, &[view(&[1, 6, 2], &major)], 0.25), expected);
        let reader = Rows::new(6, BoxForm::Centre, Unit::Pixels, RowScore::Classes { first: 4, count: 2 });
        assert_eq!(read(&reader, &[view(&[1, 2, 6], &minor)], 0.25), expected);
    }
}
