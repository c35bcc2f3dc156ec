// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boxes and a score for each class, for each cell, as separate outputs, before NMS: YOLO-NAS, DAMO-YOLO (whose scores come
//! first).

use super::Family;
use crate::detect::layouts::common::boxes::{BoxFormat, CoordinateUnit};
use crate::detect::layouts::common::separate_outputs::{ClassScores, PerClassReader};
use crate::detect::layouts::evidence::{Evidence, Output};
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};
use crate::detect::pixels::input_format::ChannelOrder;

/// RGB 0..255, at the top left (DAMO-YOLO, damo/utils/demo_utils.py, `transform_img`).
const DAMO_YOLO: Preparation = Preparation { order: ChannelOrder::Rgb, ..Preparation::YOLOX };

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let outputs = &evidence.outputs;
    let Some(boxes) = outputs.iter().position(Output::is_box_list) else {
        return Recognition::NoMatch;
    };
    let lead = &outputs[boxes].shape[..outputs[boxes].shape.len() - 1];
    // A single row is a refined box, not a list: MTCNN's later stages.
    if evidence.has_box_lists_per_stride() || lead.last() == Some(&1) {
        return Recognition::NoMatch;
    }
    let is_scores = |index: &usize| {
        let shape = outputs[*index].shape;
        *index != boxes && matches!(shape.split_last(), Some((columns, rest)) if rest == lead && *columns > 0)
    };
    let Some(scores) = (0..outputs.len()).find(is_scores) else { return Recognition::NoMatch };
    let (Some(largest), Some(values)) = (outputs[boxes].largest(), outputs[scores].columns()) else {
        return if evidence.has_trial() { Recognition::NoMatch } else { Recognition::NeedsTrialRun };
    };
    let (unit, rows, columns) =
        (CoordinateUnit::from_largest(largest), lead.last().copied().unwrap_or(0), values.len());
    let kind = if values.iter().all(|value| value.is_probability()) {
        ClassScores::Probabilities
    } else {
        ClassScores::Sigmoid
    };
    let format = BoxFormat::infer(outputs[boxes].trial_rows());
    let reader = PerClassReader { format, unit, scores: kind, columns, is_suppressed: false };
    let is_damo = scores < boxes;
    let (which, preparations) = match is_damo {
        true => ("DAMO-YOLO, whose scores come first", vec![DAMO_YOLO, Preparation::YOLO]),
        false => ("YOLO-NAS", vec![Preparation::YOLO]),
    };
    let reason = format!(
        "boxes ({format} in {unit}) and {columns} class scores of {rows} cells as separate outputs; most likely {which}"
    );
    let matched = LayoutMatch::new("per-class", reader, vec![boxes, scores], reason).classes(columns);
    matched.prepared(preparations).into()
}
