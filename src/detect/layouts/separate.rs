//! Finished boxes, scores and classes as outputs of their own: RT-DETR, D-FINE and DEIM with their last step, torchvision, SSD,
//! EfficientNMS of TensorRT, and DeepStream-Yolo's first generation, whose boxes are still to be suppressed.

use super::boxes::{BoxForm, Unit};
use super::evidence::{Evidence, MOST_FINISHED, Output};
use super::lists::Finished;
use super::names::Names;
use super::preparation::Preparation;
use super::{Claim, Verdict};

/// `[1, N, 4]`, or `[N, 4]` of a model for single pictures.
pub(super) fn is_boxes(output: &Output<'_>) -> bool {
    matches!(output.shape, [.., 4]) && matches!(output.shape.len(), 2 | 3) && !output.is_integer()
}

/// Whether boxes come in lists of several lengths, as those of the strides of a raw head do. TensorFlow's detectors have two.
pub(super) fn has_levels(outputs: &[Output<'_>]) -> bool {
    let rows = |output: &Output<'_>| output.shape[output.shape.len() - 2];
    let mut lengths: Vec<usize> = outputs.iter().filter(|output| is_boxes(output)).map(rows).collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths.len() > 2
}

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let outputs = &evidence.outputs;
    let Some(boxes) = outputs.iter().position(is_boxes).filter(|_| evidence.forced.is_none()) else {
        return Verdict::No;
    };
    if has_levels(outputs) {
        return Verdict::No;
    }
    let lead = &outputs[boxes].shape[..outputs[boxes].shape.len() - 1];
    let is_of_boxes = |index: &usize| {
        let shape = outputs[*index].shape;
        *index != boxes && (shape == lead || matches!(shape.split_last(), Some((1, rest)) if rest == lead))
    };
    let of_boxes: Vec<usize> = (0..outputs.len()).filter(is_of_boxes).collect();
    let is_named_class = |index: &usize| outputs[*index].is_called(&["label", "class", "cls"]);
    let classes = of_boxes.iter().copied().find(|&index| outputs[index].is_integer());
    let classes = classes.or_else(|| of_boxes.iter().copied().find(is_named_class));
    let classes = match (classes, of_boxes.len()) {
        (None, 2..) if of_boxes.iter().any(|&index| outputs[index].values.is_none()) => return Verdict::NeedsTrial,
        (None, 2..) => of_boxes.iter().copied().find(|&index| outputs[index].is_whole() == Some(true)),
        (found, _) => found,
    };
    let scores = of_boxes.iter().copied().find(|&index| Some(index) != classes);
    let (Some(classes), Some(scores)) = (classes, scores) else { return Verdict::No };
    let largest = match outputs[boxes].values {
        _ if evidence.is_sized() => None,
        None => return Verdict::NeedsTrial,
        Some(_) => outputs[boxes].largest(),
    };
    let unit = largest.map_or(Unit::Pixels, Unit::of);
    let rows = lead.last().copied().unwrap_or(0);
    let images = lead.iter().rev().skip(1).fold(1_usize, |images, side| images.saturating_mul(*side));
    let is_count = |output: &Output<'_>| {
        output.is_called(&["num", "count"])
            && output.shape.iter().fold(1_usize, |length, side| length.saturating_mul(*side)) == images
    };
    let count =
        (0..outputs.len()).find(|&index| ![boxes, scores, classes].contains(&index) && is_count(&outputs[index]));
    let is_dense = outputs[boxes].shape.len() == 3
        && count.is_none()
        && (rows == evidence.cells() || rows == 3 * evidence.cells() || rows > MOST_FINISHED);
    // torchvision's detectors have no batch; their classes are COCO's category numbers, with the background as 0.
    let is_torchvision = lead.len() == 1 && !evidence.is_sized() && outputs[classes].is_called(&["label"]);
    let form = BoxForm::of(outputs[boxes].trial_rows());
    let reader = Finished { count: count.map(|_| 3), is_finished: !is_dense, ..Finished::new(form, unit) };
    let read = [Some(boxes), Some(scores), Some(classes), count].into_iter().flatten().collect();
    let state = if is_dense { "boxes that are not yet suppressed" } else { "finished boxes" };
    let reason = format!(
        "boxes ({} in {}), scores and classes of {rows} {state} as outputs of their own",
        form.words(),
        unit.words()
    );
    let mut claim = Claim::new("separate", reader, read, reason).classes(evidence.class_count());
    if !is_torchvision && !evidence.is_sized() && largest.is_none_or(|largest| largest <= 0.0) {
        claim = claim.warn(
            "it found nothing in a trial, so that it is not known whether its boxes are pixels or shares of the input: pixels \
             are assumed; if boxes have no size, export it with boxes in pixels",
        );
    }
    let claim = match (is_torchvision, is_dense) {
        (true, _) => claim.named(Names::CocoIds),
        (_, true) => claim.named(Names::Coco),
        _ => claim,
    };
    // The DETR family stretches; so does SSD, whose boxes are in shares.
    let is_stretched = evidence.has_input("orig_target_sizes") || (unit == Unit::Shares && count.is_none());
    if is_stretched { claim.prepared([Preparation::STRETCHED]).into() } else { claim.into() }
}
