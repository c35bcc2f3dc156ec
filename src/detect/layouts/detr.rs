//! DETR and its kin as trained, without their last step: `[1, N, C]` logits and `[1, N, 4]` boxes, centre and size as shares of
//! the stretched input. DETR, YOLOS, Deformable and Conditional DETR, Table Transformer (all with ImageNet's mean and
//! deviation), RT-DETR, D-FINE (with none), RF-DETR.
//!
//! Hugging Face's exports call them `logits` and `pred_boxes`, RF-DETR's `labels` and `dets`.

use super::boxes::{BoxForm, Unit};
use super::evidence::{Evidence, MOST_FINISHED, Output};
use super::lists::{PerClass, Scores};
use super::names::Names;
use super::preparation::Preparation;
use super::{Claim, Verdict};

/// COCO's category numbers, 0 to 90.
const COCO_IDS: usize = 91;
/// Share of the queries that find nothing, whose largest logit is then the last one's.
const MOST_EMPTY: f32 = 0.6;

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let is_boxes = |output: &Output<'_>| matches!(output.shape, [_, _, 4]) && !output.is_integer();
    let Some(boxes) = evidence.outputs.iter().position(is_boxes) else { return Verdict::No };
    let queries = evidence.outputs[boxes].shape[1];
    let scores = (0..evidence.outputs.len()).find(|&index| {
        let output = &evidence.outputs[index];
        index != boxes && matches!(*output.shape, [_, rows, _] if rows == queries) && !output.is_integer()
    });
    let Some(scores) = scores.filter(|_| evidence.forced.is_none()) else { return Verdict::No };
    let columns = evidence.outputs[scores].shape[2];
    let is_rf = evidence.outputs[boxes].is_called(&["dets"]) && evidence.outputs[scores].is_called(&["labels"]);
    let is_named =
        is_rf || evidence.outputs[scores].is_called(&["logit"]) || evidence.outputs[boxes].is_called(&["pred_boxes"]);
    if columns == 0
        || (columns == 1 && !is_named)
        || (!is_named && (queries > MOST_FINISHED || queries == evidence.cells()))
    {
        return Verdict::No;
    }
    if !is_named {
        // Scores that are probabilities already, of boxes in pixels, are another family's.
        let Some(largest) = evidence.outputs[boxes].values.map(|_| evidence.outputs[boxes].largest().unwrap_or(0.0))
        else {
            return Verdict::NeedsTrial;
        };
        if Unit::of(largest) == Unit::Pixels {
            return Verdict::No;
        }
    }
    // DETR itself has 91 numbers for COCO and one for "no object".
    let is_softmax = match evidence.class_count() {
        _ if is_rf => false,
        Some(classes) if classes + 1 == columns => true,
        Some(classes) if classes == columns => false,
        _ if columns == COCO_IDS + 1 => true,
        _ if columns == COCO_IDS || columns == 80 => false,
        _ if evidence.outputs[scores].values.is_none() => return Verdict::NeedsTrial,
        _ => ends_with_no_object(&evidence.outputs[scores], columns),
    };
    let is_probability =
        evidence.outputs[scores].columns().is_some_and(|values| values.iter().all(|value| value.is_share()));
    let kind = match (is_softmax, is_probability && !is_named) {
        (true, _) if columns > 1 => Scores::Softmax,
        (_, true) => Scores::Probabilities,
        _ => Scores::Sigmoid,
    };
    let classes = if kind == Scores::Softmax { columns - 1 } else { columns };
    let is_hugging_face = evidence.input.name.contains("pixel_values");
    let (preparations, which) = match kind {
        _ if is_rf => (vec![Preparation::IMAGENET], "RF-DETR, by the names of its outputs"),
        Scores::Softmax => (vec![Preparation::IMAGENET], "DETR or YOLOS, whose last number is that of no object"),
        _ if evidence.has_input("mask") || columns == COCO_IDS => {
            (vec![Preparation::IMAGENET], "Deformable or Conditional DETR, by its mask or its 91 numbers")
        }
        _ if is_hugging_face && columns == 80 => (vec![Preparation::STRETCHED], "RT-DETR or D-FINE"),
        _ => (vec![Preparation::STRETCHED, Preparation::IMAGENET], "RT-DETR or D-FINE"),
    };
    let reader = PerClass { form: BoxForm::Centre, unit: Unit::Shares, scores: kind, columns, is_finished: true };
    let reason = format!("{queries} boxes as shares of the input with {classes} class scores; most likely {which}");
    let names = if classes == COCO_IDS { Names::CocoIds } else { Names::Unknown };
    let claim = Claim::new("detr", reader, vec![boxes, scores], reason).classes(classes).named(names);
    claim.prepared(preparations).into()
}

/// Whether the last value stands for "no object": in most queries of the trial run it is the largest.
fn ends_with_no_object(output: &Output<'_>, columns: usize) -> bool {
    let rows = output.values.unwrap_or_default().chunks_exact(columns);
    let count = rows.len();
    let empty = rows.filter(|row| row[..columns - 1].iter().all(|value| *value < row[columns - 1])).count();
    columns > 1 && count > 0 && empty as f32 >= MOST_EMPTY * count as f32
}
