// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ultralytics' RT-DETR: `[1, 300, 4 + C]`. Centre x, centre y, width, height normalised to the stretched input, then
//! probabilities of final boxes, which need no NMS (ultralytics/models/rtdetr/predict.py).

use super::{Family, ModelLayout};
use crate::detect::layouts::common::boxes::{BoxFormat, CoordinateUnit};
use crate::detect::layouts::common::rows::{RowScore, Rows};
use crate::detect::layouts::evidence::{BoxOutput, Evidence, MAX_FINAL_BOXES};
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};

pub(super) const FAMILY: Family = Family::new(recognise).selected_by(&[ModelLayout::RtDetr]);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let Some(BoxOutput { index, rows, columns }) = evidence.box_output() else { return Recognition::NoMatch };
    let is_selected = evidence.is_selected();
    if columns < 5
        || (!is_selected && (rows > MAX_FINAL_BOXES || rows == evidence.cells() || rows == 3 * evidence.cells()))
    {
        return Recognition::NoMatch;
    }
    let is_named = evidence.class_count().is_some_and(|classes| columns == classes + 4);
    if !is_selected {
        // Class names that fit another family exclude this one.
        let fits_another = evidence.class_count().is_some_and(|classes| rows == classes + 4 || columns == classes + 5);
        if !is_named && (fits_another || rows < columns) {
            return Recognition::NoMatch;
        }
        match evidence.outputs[index].columns() {
            None => return Recognition::NeedsTrialRun,
            Some(values) => {
                let is_normalised = evidence.unit_of(&values[..4]) == CoordinateUnit::Normalised;
                if !is_normalised || values[4..].iter().any(|class| !class.is_probability()) {
                    return Recognition::NoMatch;
                }
            }
        }
    }
    let classes = columns - 4;
    let why = match is_selected {
        true => "as selected",
        false => "few rows, and a trial run returned normalised coordinates and probabilities",
    };
    let reason =
        format!("[1, {rows}, {columns}] is {rows} final boxes in normalised coordinates with {classes} classes: {why}");
    let reader = Rows {
        is_suppressed: true,
        is_dense: false,
        ..Rows::new(
            columns,
            BoxFormat::Centre,
            CoordinateUnit::Normalised,
            RowScore::Classes { first: 4, count: classes },
        )
    };
    let matched = LayoutMatch::new("rtdetr", reader, vec![index], reason).classes(classes);
    matched.prepared([Preparation::STRETCHED]).into()
}
