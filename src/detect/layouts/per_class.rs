//! Boxes and scores of each class, for each cell, as outputs of their own: YOLO-NAS, DAMO-YOLO (whose scores come first); not yet
//! suppressed.

use super::boxes::{BoxForm, Unit};
use super::evidence::Evidence;
use super::lists::{PerClass, Scores};
use super::preparation::Preparation;
use super::separate::{has_levels, is_boxes};
use super::{Claim, Verdict};

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let outputs = &evidence.outputs;
    let Some(boxes) = outputs.iter().position(is_boxes).filter(|_| evidence.forced.is_none()) else {
        return Verdict::No;
    };
    let lead = &outputs[boxes].shape[..outputs[boxes].shape.len() - 1];
    // One row is a box that is made better, not a list: MTCNN's later stages.
    if has_levels(outputs) || lead.last() == Some(&1) {
        return Verdict::No;
    }
    let is_scores = |index: &usize| {
        let shape = outputs[*index].shape;
        *index != boxes && matches!(shape.split_last(), Some((columns, rest)) if rest == lead && *columns > 0)
    };
    let Some(scores) = (0..outputs.len()).find(is_scores) else { return Verdict::No };
    let (Some(largest), Some(values)) = (outputs[boxes].largest(), outputs[scores].columns()) else {
        return if evidence.has_trial() { Verdict::No } else { Verdict::NeedsTrial };
    };
    let (unit, rows, columns) = (Unit::of(largest), lead.last().copied().unwrap_or(0), values.len());
    let kind = if values.iter().all(|value| value.is_share()) { Scores::Probabilities } else { Scores::Sigmoid };
    let form = BoxForm::of(outputs[boxes].trial_rows());
    let reader = PerClass { form, unit, scores: kind, columns, is_finished: false };
    let is_damo = scores < boxes;
    let (which, preparations) = match is_damo {
        true => ("DAMO-YOLO, whose scores come first", vec![Preparation::BYTES_TOP_LEFT, Preparation::YOLO]),
        false => ("YOLO-NAS", vec![Preparation::YOLO]),
    };
    let reason = format!(
        "{} in {} and {columns} class scores of {rows} cells as outputs of their own; most likely {which}",
        form.words(),
        unit.words()
    );
    let claim = Claim::new("per-class", reader, vec![boxes, scores], reason).classes(columns);
    claim.prepared(preparations).into()
}
