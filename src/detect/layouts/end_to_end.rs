//! Finished boxes in one output `[1, N, 6 + extra]`: YOLOv10, YOLO26, and Ultralytics' exports with `nms=True`. Corners, score,
//! class, then what the task adds; rotated boxes have centre and size in place of corners.
//!
//! Ultralytics, ultralytics/engine/exporter.py (`NMSModel`) and ultralytics/nn/modules/head.py (`postprocess`).

use super::boxes::{BoxForm, Unit};
use super::evidence::{Evidence, MOST_FINISHED, Main};
use super::rows::{RowScore, Rows};
use super::v8::{outputs_of, points_of, prototypes_of};
use super::{Claim, Family, Verdict};
use crate::detect::layouts::task::Task;

/// Box, score and class.
const HEAD: usize = 6;

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let Some(main) = evidence.main() else { return Verdict::No };
    let Main { rows, columns, .. } = main;
    let is_forced = match evidence.forced(Family::EndToEnd) {
        Some(false) => return Verdict::No,
        forced => forced.is_some(),
    };
    if columns < HEAD {
        return Verdict::No;
    }
    // No classes stand between head and extra values: one that counts as such makes the rules for others hold.
    let extra = match evidence.metadata.task.as_deref() {
        Some("pose") => {
            let (points, values) = evidence.metadata.keypoints.unwrap_or(((columns - HEAD) / 3, 3));
            super::evidence::Extra { task: Task::Pose { points, values }, prototypes: None }
        }
        Some("obb") => super::evidence::Extra { task: Task::Obb, prototypes: None },
        Some("segment") => {
            let prototypes = evidence
                .outputs
                .iter()
                .position(|output| matches!(*output.shape, [_, channels, _, _] if channels + HEAD == columns));
            let task = prototypes.map(|_| Task::Segment { coefficients: columns - HEAD });
            super::evidence::Extra { task: task.unwrap_or_default(), prototypes }
        }
        _ => super::evidence::Extra { task: Task::Detect, prototypes: None },
    };
    if columns != HEAD + extra.task.extra() {
        return Verdict::No;
    }
    let is_few = rows <= MOST_FINISHED && rows != evidence.cells() && rows != 3 * evidence.cells();
    let values = evidence.outputs[main.index].columns();
    let (is_stated, why) = match &evidence.metadata {
        _ if is_forced => (true, "as was set"),
        metadata if metadata.end_to_end == Some(true) => (true, "the metadata says end2end"),
        metadata if metadata.has_nms => (true, "the metadata says that it was exported with nms"),
        _ => (false, "few rows, with score and class"),
    };
    if !is_stated {
        // 4 values and two classes, or 5 and one, are as many; other numbers of classes leave nothing else.
        let is_open = evidence.class_count().is_none_or(|classes| classes <= 2) || !evidence.metadata.is_ultralytics;
        match &values {
            _ if !is_few => return Verdict::No,
            Some(values) if !(values[5].is_whole && values[4].is_share()) => return Verdict::No,
            None if is_open => return Verdict::NeedsTrial,
            _ => {}
        }
    }
    let unit = match &values {
        Some(values) => evidence.unit_of(&values[..4]),
        None if evidence.has_plain_pixels() => Unit::Pixels,
        None => return Verdict::NeedsTrial,
    };
    let form = match extra.task {
        Task::Obb => BoxForm::Centre,
        _ => BoxForm::of(evidence.outputs[main.index].trial_rows()),
    };
    let reason = format!(
        "[1, {rows}, {columns}] is up to {rows} finished boxes ({} in {}) with score and class: {why}",
        form.words(),
        unit.words()
    );
    let reader = Rows {
        extra: HEAD..columns,
        points: points_of(extra.task),
        prototypes: prototypes_of(extra.task),
        is_finished: true,
        is_dense: false,
        ..Rows::new(columns, form, unit, RowScore::ScoreAndClass { score: 4, class: 5 })
    };
    let claim = Claim::new("end-to-end", reader, outputs_of(main, extra), reason);
    claim.classes(evidence.class_count()).task(extra.task).into()
}

#[cfg(test)]
mod tests {
    use super::super::reader::testing::{read, view};
    use super::*;

    #[test]
    fn classes_that_are_no_numbers_are_left_out() {
        let values = [
            [0.0, 0.0, 10.0, 10.0, 0.5, 3.0],
            [0.0, 0.0, 10.0, 10.0, 0.7, 3.0],
            [0.0, 0.0, 10.0, 10.0, 0.6, -1.0],
            [0.0, 0.0, 10.0, 10.0, 0.2, 1.0],
        ]
        .concat();
        let score = RowScore::ScoreAndClass { score: 4, class: 5 };
        let reader = Rows { is_finished: true, ..Rows::new(6, BoxForm::Corners, Unit::Pixels, score) };
        let scores: Vec<f32> = read(&reader, &[view(&[1, 4, 6], &values)], 0.25).iter().map(|found| found.1).collect();
        assert_eq!(scores, [0.7, 0.5]);
    }
}
