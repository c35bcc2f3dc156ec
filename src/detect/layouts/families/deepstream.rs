// SPDX-License-Identifier: MIT OR Apache-2.0
//! DeepStream-Yolo's exports: `[1, cells, 6]`, corners, score, class, before NMS (marcoslucianops/DeepStream-Yolo,
//! utils/export_yoloV8.py). Its first generation exports boxes, scores and classes as separate outputs.

use super::{Family, ModelLayout};
use crate::detect::layouts::class_names::ClassNames;
use crate::detect::layouts::common::boxes::BoxFormat;
use crate::detect::layouts::common::rows::{RowScore, Rows};
use crate::detect::layouts::evidence::{BoxOutput, Evidence, Output};
use crate::detect::layouts::{LayoutMatch, Recognition};

/// Share of the rows whose third and fourth values must not be below the first and second, for them to be corners.
const MIN_ORDERED: f32 = 0.95;

pub(super) const FAMILY: Family = Family::new(recognise).selected_by(&[ModelLayout::DeepStream]);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let Some(BoxOutput { index, rows, columns }) = evidence.box_output() else { return Recognition::NoMatch };
    let is_selected = evidence.is_selected();
    if columns != 6 || (rows < 7 && !is_selected) {
        return Recognition::NoMatch;
    }
    let Some(values) = evidence.outputs[index].columns() else { return Recognition::NeedsTrialRun };
    let matches = values[5].is_integer && values[4].is_probability() && are_corners(&evidence.outputs[index]);
    if !is_selected && !matches {
        return Recognition::NoMatch;
    }
    let unit = evidence.unit_of(&values[..4]);
    let why = if is_selected { "as selected" } else { "a trial run returned corners and integer class ids" };
    let reason =
        format!("[1, {rows}, 6] is a box in {unit} with score and class for each of {rows} cells, before NMS: {why}");
    let reader = Rows::new(6, BoxFormat::Corners, unit, RowScore::ScoreAndClass { score: 4, class: 5 });
    LayoutMatch::new("deepstream", reader, vec![index], reason)
        .classes(evidence.class_count())
        .named(ClassNames::Coco)
        .into()
}

/// Whether the boxes of the trial run are corners rather than centre and size.
fn are_corners(output: &Output<'_>) -> bool {
    let rows = output.values.unwrap_or_default().chunks_exact(6);
    let count = rows.len();
    let ordered = rows.clone().filter(|row| row[2] >= row[0] && row[3] >= row[1]).count();
    let is_empty = rows.clone().all(|row| row[2] <= row[0] && row[3] <= row[1]);
    count > 0 && !is_empty && ordered as f32 >= MIN_ORDERED * count as f32
}
