// SPDX-License-Identifier: MIT OR Apache-2.0
//! YOLOv8, v9, v10 without its end-to-end head, 11, 12: `[1, 4 + C, cells]`, or transposed `[1, cells, 4 + C]`. Centre x, centre
//! y, width, height, a probability for each class, then what its task adds.
//!
//! Boxes are in pixels of the input; converters to TensorFlow (onnx2tf, TFLite) normalise them.

use super::{Family, ModelLayout};
use crate::detect::layouts::common::boxes::{BoxFormat, CoordinateUnit, MAX_NORMALISED};
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::common::rows::{RowScore, Rows, has_prototypes, scale_points};
use crate::detect::layouts::evidence::{BoxOutput, Evidence};
use crate::detect::layouts::{LayoutMatch, Recognition};

/// `[4 + classes + extra, cells]`.
#[derive(Debug)]
struct V8 {
    classes: usize,
    extra: usize,
    unit: CoordinateUnit,
    /// Whether the unit is assumed, not seen in a trial run: coordinates that are all small then count as normalised.
    is_unit_assumed: bool,
    points: Option<usize>,
    prototypes: Option<usize>,
}

pub(super) const FAMILY: Family = Family::new(recognise).selected_by(&[ModelLayout::V8]).with_tensor_id("yolo-v8");

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let Some(main) = evidence.box_output() else { return Recognition::NoMatch };
    let BoxOutput { rows, columns, .. } = main;
    let is_selected = evidence.is_selected();
    if rows < 5 || (!is_selected && rows >= columns && evidence.class_count().is_none()) {
        return Recognition::NoMatch;
    }
    let extra = match evidence.extra_values(rows, 4) {
        Ok(extra) => extra,
        Err(_) if rows >= columns => return Recognition::NoMatch,
        Err(unsupported) => return Recognition::Unsupported(unsupported),
    };
    let extra_count = extra.task.extra_values();
    let why = match evidence.class_count() {
        _ if is_selected => "as selected".to_owned(),
        Some(classes) if rows == classes + 4 + extra_count => {
            let by_row = columns == classes + 4 + extra_count || columns == classes + 5 + extra_count;
            if by_row && rows >= columns {
                return Recognition::NoMatch;
            }
            format!("its metadata names {classes} classes")
        }
        _ if rows < columns => "fewer rows than columns".to_owned(),
        _ => return Recognition::NoMatch,
    };
    if rows <= 4 + extra_count {
        return Recognition::unsupported(
            format!(
                "its output [1, {rows}, {columns}] is too small for the {extra_count} values of each object that its metadata (task = {}) \
                 announces",
                extra.task
            ),
            "Export it again, so that its metadata matches its outputs",
        );
    }
    let is_unit_assumed = !evidence.has_trial();
    let unit = match evidence.outputs[main.index].rows() {
        Some(values) => evidence.unit_of(&values[..4]),
        None if evidence.implies_pixels() => CoordinateUnit::Pixels,
        None => return Recognition::NeedsTrialRun,
    };
    let classes = rows - 4 - extra_count;
    let reason = format!(
        "[1, {rows}, {columns}] is 4 box values in {unit} and {classes} classes for each of {columns} cells: {why}"
    );
    let (points, prototypes) = (extra.task.values_after_point(), extra.task.prototype_channels());
    let reader = V8 { classes, extra: extra_count, unit, is_unit_assumed, points, prototypes };
    LayoutMatch::new("v8", reader, extra.outputs(main), reason).classes(classes).task(extra.task).into()
}

pub(super) const TRANSPOSED: Family = Family::new(recognise_transposed).selected_by(&[ModelLayout::V8Transposed]);

fn recognise_transposed(evidence: &Evidence<'_>) -> Recognition {
    let Some(main) = evidence.box_output() else { return Recognition::NoMatch };
    let BoxOutput { rows, columns, .. } = main;
    let is_selected = evidence.is_selected();
    if columns < 5 || (!is_selected && rows < columns && evidence.class_count().is_none()) {
        return Recognition::NoMatch;
    }
    let Ok(extra) = evidence.extra_values(columns, 4) else { return Recognition::NoMatch };
    let extra_count = extra.task.extra_values();
    let is_named = evidence.class_count().is_some_and(|classes| columns == classes + 4 + extra_count);
    let why = match evidence.class_count() {
        _ if is_selected => "as selected".to_owned(),
        Some(classes) if is_named => format!("its metadata names {classes} classes"),
        _ if rows == evidence.cells() => "as many rows as cells".to_owned(),
        _ => return Recognition::NoMatch,
    };
    if columns <= 4 + extra_count {
        return Recognition::NoMatch;
    }
    let Some(values) = evidence.outputs[main.index].columns() else { return Recognition::NeedsTrialRun };
    let unit = evidence.unit_of(&values[..4]);
    let classes = columns - 4 - extra_count;
    let reason = format!(
        "[1, {rows}, {columns}] is 4 box values in {unit} and {classes} classes for each of {rows} cells: {why}"
    );
    let reader = Rows {
        extra: 4 + classes..columns,
        points: extra.task.values_after_point(),
        prototypes: extra.task.prototype_channels(),
        ..Rows::new(columns, BoxFormat::Centre, unit, RowScore::Classes { first: 4, count: classes })
    };
    LayoutMatch::new("v8-transposed", reader, extra.outputs(main), reason).classes(classes).task(extra.task).into()
}

impl V8 {
    /// Returns the unit of the boxes `[4, cells]` of an image. In any picture some cells are far from its corner.
    fn unit_of(&self, boxes: &[f32]) -> CoordinateUnit {
        let are_small = || boxes.iter().all(|value| *value <= MAX_NORMALISED) && boxes.iter().any(|value| *value > 0.0);
        if self.is_unit_assumed && are_small() { CoordinateUnit::Normalised } else { self.unit }
    }
}

impl OutputReader for V8 {
    fn accepts(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        let features = 4 + self.classes + self.extra;
        outputs.shape(0, 2).is_some_and(|shape| shape[0] == features && shape[1] > 0)
            && has_prototypes(outputs, self.prototypes)
    }

    /// Determines the best score of each cell in one pass along the rows, and its class only for scores above the threshold.
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
                let corners = BoxFormat::Centre.corners(&row, scale);
                scratch.push(corners, score, class_id.unwrap_or_default() as u32, cell);
            }
        }
        scratch.best = best;
    }

    fn is_suppressed(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn extra_values(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), index: usize) -> Vec<f32> {
        let output = outputs.part(0, image, 2);
        let (cells, first) = (output.shape[1], 4 + self.classes);
        let mut values: Vec<f32> = (first..first + self.extra).map(|row| output.values[row * cells + index]).collect();
        if let Some(others) = self.points {
            scale_points(&mut values, others, self.unit_of(&output.values[..4 * cells]).scale(size));
        }
        values
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        statistics.is_in_pixels = self.unit == CoordinateUnit::Pixels;
        statistics.has_every_cell = true;
        for image in 0..outputs.images {
            let output = outputs.part(0, image, 2);
            let cells = output.shape[1];
            if statistics.is_in_pixels {
                statistics.boxes(&output.values[..4 * cells]);
            }
            statistics.scores(&output.values[4 * cells..(4 + self.classes) * cells]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::layouts::common::reader::testing::{read, view};

    #[test]
    fn both_orders_give_the_same_boxes() {
        // Two cells, two classes.
        let major = [10.0, 40.0, 10.0, 40.0, 4.0, 8.0, 4.0, 8.0, 0.1, 0.6, 0.9, 0.2];
        let minor = [10.0, 10.0, 4.0, 4.0, 0.1, 0.9, 40.0, 40.0, 8.0, 8.0, 0.6, 0.2];
        let expected = [(1, 0.9, [8.0, 8.0, 12.0, 12.0]), (0, 0.6, [36.0, 36.0, 44.0, 44.0])];
        let reader = V8 {
            classes: 2,
            extra: 0,
            unit: CoordinateUnit::Pixels,
            is_unit_assumed: false,
            points: None,
            prototypes: None,
        };
        assert_eq!(read(&reader, &[view(&[1, 6, 2], &major)], 0.25), expected);
        let reader = Rows::new(6, BoxFormat::Centre, CoordinateUnit::Pixels, RowScore::Classes { first: 4, count: 2 });
        assert_eq!(read(&reader, &[view(&[1, 2, 6], &minor)], 0.25), expected);
    }
}
