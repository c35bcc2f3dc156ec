// SPDX-License-Identifier: MIT OR Apache-2.0
//! Final boxes in one output `[1, N, 6 + extra]`: YOLOv10, YOLO26, and Ultralytics' exports with `nms=True`. Corners, score,
//! class, then what the task adds; rotated boxes have centre and size instead of corners.
//!
//! Ultralytics, ultralytics/engine/exporter.py (`NMSModel`) and ultralytics/nn/modules/head.py (`postprocess`).

use super::{Family, ModelLayout};
use crate::detect::layouts::common::boxes::{BoxFormat, CoordinateUnit};
use crate::detect::layouts::common::rows::{RowScore, Rows};
use crate::detect::layouts::evidence::{BoxOutput, Evidence, ExtraValues, MAX_FINAL_BOXES};
use crate::detect::layouts::task::{Task, TaskName};
use crate::detect::layouts::{LayoutMatch, Recognition};

/// Box, score and class.
const HEAD: usize = 6;

pub(super) const FAMILY: Family =
    Family::new(recognise).selected_by(&[ModelLayout::EndToEnd]).with_tensor_id("yolo-v10");

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let Some(main) = evidence.box_output() else { return Recognition::NoMatch };
    let BoxOutput { rows, columns, .. } = main;
    let is_selected = evidence.is_selected();
    if columns < HEAD {
        return Recognition::NoMatch;
    }
    let extra = match evidence.metadata.task {
        Some(TaskName::Pose) => {
            let (points, values) = evidence.metadata.keypoints.unwrap_or(((columns - HEAD) / 3, 3));
            ExtraValues { task: Task::Pose { points, values }, prototypes: None }
        }
        Some(TaskName::Obb) => ExtraValues { task: Task::Obb, prototypes: None },
        Some(TaskName::Segment) => {
            let prototypes = evidence
                .outputs
                .iter()
                .position(|output| matches!(*output.shape, [_, channels, _, _] if channels + HEAD == columns));
            let task = prototypes.map(|_| Task::Segment { coefficients: columns - HEAD });
            ExtraValues { task: task.unwrap_or_default(), prototypes }
        }
        _ => ExtraValues::NONE,
    };
    if columns != HEAD + extra.task.extra_values() {
        return Recognition::NoMatch;
    }
    let is_few = rows <= MAX_FINAL_BOXES && rows != evidence.cells() && rows != 3 * evidence.cells();
    let values = evidence.outputs[main.index].columns();
    let (is_stated, why) = match &evidence.metadata {
        _ if is_selected => (true, "as selected"),
        metadata if metadata.end_to_end == Some(true) => (true, "its metadata says end2end"),
        metadata if metadata.has_nms => (true, "its metadata says that it was exported with nms"),
        _ => (false, "few rows with score and class"),
    };
    if !is_stated {
        // Four values and two classes, or five and one, also make six columns; other numbers of classes leave no other reading.
        let is_ambiguous =
            evidence.class_count().is_none_or(|classes| classes <= 2) || !evidence.metadata.is_ultralytics;
        match &values {
            _ if !is_few => return Recognition::NoMatch,
            Some(values) if !(values[5].is_integer && values[4].is_probability()) => return Recognition::NoMatch,
            None if is_ambiguous => return Recognition::NeedsTrialRun,
            _ => {}
        }
    }
    let unit = match &values {
        Some(values) => evidence.unit_of(&values[..4]),
        None if evidence.implies_pixels() => CoordinateUnit::Pixels,
        None => return Recognition::NeedsTrialRun,
    };
    let format = match extra.task {
        Task::Obb => BoxFormat::Centre,
        _ => BoxFormat::infer(evidence.outputs[main.index].trial_rows()),
    };
    let reason =
        format!("[1, {rows}, {columns}] is up to {rows} final boxes ({format} in {unit}) with score and class: {why}");
    let reader = Rows {
        extra: HEAD..columns,
        points: extra.task.values_after_point(),
        prototypes: extra.task.prototype_channels(),
        is_suppressed: true,
        is_dense: false,
        ..Rows::new(columns, format, unit, RowScore::ScoreAndClass { score: 4, class: 5 })
    };
    let matched = LayoutMatch::new("end-to-end", reader, extra.outputs(main), reason);
    matched.classes(evidence.class_count()).task(extra.task).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::layouts::common::reader::testing::{read, view};

    #[test]
    fn negative_class_ids_are_skipped() {
        let values = [
            [0.0, 0.0, 10.0, 10.0, 0.5, 3.0],
            [0.0, 0.0, 10.0, 10.0, 0.7, 3.0],
            [0.0, 0.0, 10.0, 10.0, 0.6, -1.0],
            [0.0, 0.0, 10.0, 10.0, 0.2, 1.0],
        ]
        .concat();
        let score = RowScore::ScoreAndClass { score: 4, class: 5 };
        let reader = Rows { is_suppressed: true, ..Rows::new(6, BoxFormat::Corners, CoordinateUnit::Pixels, score) };
        let scores: Vec<f32> = read(&reader, &[view(&[1, 4, 6], &values)], 0.25).iter().map(|found| found.1).collect();
        assert_eq!(scores, [0.7, 0.5]);
    }
}
