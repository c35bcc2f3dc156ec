// SPDX-License-Identifier: MIT OR Apache-2.0
//! The DETR family without its postprocessing step: `[1, N, C]` logits and `[1, N, 4]` boxes, centre and size normalised to the
//! stretched input. DETR, YOLOS, Deformable and Conditional DETR, Table Transformer (all with ImageNet's mean and
//! deviation), RT-DETR, D-FINE (without), RF-DETR.
//!
//! Hugging Face's exports call them `logits` and `pred_boxes`, RF-DETR's `labels` and `dets`.

use super::Family;
use crate::detect::layouts::class_names::ClassNames;
use crate::detect::layouts::common::boxes::{BoxFormat, CoordinateUnit};
use crate::detect::layouts::common::separate_outputs::{ClassScores, PerClassReader};
use crate::detect::layouts::evidence::{Evidence, MAX_FINAL_BOXES, Output};
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};

/// COCO's category numbers, 0 to 90.
const COCO_IDS: usize = 91;
/// Share of the queries whose largest logit is the last one, "no object".
const MIN_EMPTY: f32 = 0.6;

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let is_boxes = |output: &Output<'_>| matches!(output.shape, [_, _, 4]) && !output.is_integer();
    let Some(boxes) = evidence.outputs.iter().position(is_boxes) else { return Recognition::NoMatch };
    let queries = evidence.outputs[boxes].shape[1];
    let scores = (0..evidence.outputs.len()).find(|&index| {
        let output = &evidence.outputs[index];
        index != boxes && matches!(*output.shape, [_, rows, _] if rows == queries) && !output.is_integer()
    });
    let Some(scores) = scores else { return Recognition::NoMatch };
    let columns = evidence.outputs[scores].shape[2];
    let is_rf = evidence.outputs[boxes].is_called(&["dets"]) && evidence.outputs[scores].is_called(&["labels"]);
    let is_named =
        is_rf || evidence.outputs[scores].is_called(&["logit"]) || evidence.outputs[boxes].is_called(&["pred_boxes"]);
    if columns == 0
        || (columns == 1 && !is_named)
        || (!is_named && (queries > MAX_FINAL_BOXES || queries == evidence.cells()))
    {
        return Recognition::NoMatch;
    }
    if !is_named {
        // Probabilities with boxes in pixels belong to another family.
        let Some(largest) = evidence.outputs[boxes].values.map(|_| evidence.outputs[boxes].largest().unwrap_or(0.0))
        else {
            return Recognition::NeedsTrialRun;
        };
        if CoordinateUnit::from_largest(largest) == CoordinateUnit::Pixels {
            return Recognition::NoMatch;
        }
    }
    // DETR itself has 91 category numbers for COCO and one for "no object".
    let is_softmax = match evidence.class_count() {
        _ if is_rf => false,
        Some(classes) if classes + 1 == columns => true,
        Some(classes) if classes == columns => false,
        _ if columns == COCO_IDS + 1 => true,
        _ if columns == COCO_IDS || columns == 80 => false,
        _ if evidence.outputs[scores].values.is_none() => return Recognition::NeedsTrialRun,
        _ => ends_with_no_object(&evidence.outputs[scores], columns),
    };
    let is_probability =
        evidence.outputs[scores].columns().is_some_and(|values| values.iter().all(|value| value.is_probability()));
    let kind = match (is_softmax, is_probability && !is_named) {
        (true, _) if columns > 1 => ClassScores::Softmax,
        (_, true) => ClassScores::Probabilities,
        _ => ClassScores::Sigmoid,
    };
    let classes = if kind == ClassScores::Softmax { columns - 1 } else { columns };
    let is_hugging_face = evidence.input.name.contains("pixel_values");
    let (preparations, which) = match kind {
        _ if is_rf => (vec![Preparation::IMAGENET], "RF-DETR, by the names of its outputs"),
        ClassScores::Softmax => (vec![Preparation::IMAGENET], "DETR or YOLOS, whose last class is \"no object\""),
        _ if evidence.has_input("mask") || columns == COCO_IDS => {
            (vec![Preparation::IMAGENET], "Deformable or Conditional DETR, by its mask input or its 91 classes")
        }
        _ if is_hugging_face && columns == 80 => (vec![Preparation::STRETCHED], "RT-DETR or D-FINE"),
        _ => (vec![Preparation::STRETCHED, Preparation::IMAGENET], "RT-DETR or D-FINE"),
    };
    let reader = PerClassReader {
        format: BoxFormat::Centre,
        unit: CoordinateUnit::Normalised,
        scores: kind,
        columns,
        is_suppressed: true,
    };
    let reason = format!("{queries} boxes in normalised coordinates with {classes} class scores; most likely {which}");
    let names = if classes == COCO_IDS { ClassNames::CocoIds } else { ClassNames::Unknown };
    let matched = LayoutMatch::new("detr", reader, vec![boxes, scores], reason).classes(classes).named(names);
    matched.prepared(preparations).into()
}

/// Whether the last value stands for "no object": it is the largest one in most queries of the trial run.
fn ends_with_no_object(output: &Output<'_>, columns: usize) -> bool {
    let rows = output.values.unwrap_or_default().chunks_exact(columns);
    let count = rows.len();
    let empty = rows.filter(|row| row[..columns - 1].iter().all(|value| *value < row[columns - 1])).count();
    columns > 1 && count > 0 && empty as f32 >= MIN_EMPTY * count as f32
}
