// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boxes, scores and classes as separate outputs: RT-DETR, D-FINE and DEIM with postprocessing, torchvision, SSD, TensorRT's
//! EfficientNMS, and DeepStream-Yolo's first generation, whose boxes are those before NMS.

use super::Family;
use crate::detect::layouts::class_names::ClassNames;
use crate::detect::layouts::common::boxes::{BoxFormat, CoordinateUnit};
use crate::detect::layouts::common::separate_outputs::BoxListReader;
use crate::detect::layouts::evidence::{Evidence, MAX_FINAL_BOXES, Output};
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let outputs = &evidence.outputs;
    let Some(boxes) = outputs.iter().position(Output::is_box_list) else {
        return Recognition::NoMatch;
    };
    if evidence.has_box_lists_per_stride() {
        return Recognition::NoMatch;
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
        (None, 2..) if of_boxes.iter().any(|&index| outputs[index].values.is_none()) => {
            return Recognition::NeedsTrialRun;
        }
        (None, 2..) => of_boxes.iter().copied().find(|&index| outputs[index].holds_integers() == Some(true)),
        (found, _) => found,
    };
    let scores = of_boxes.iter().copied().find(|&index| Some(index) != classes);
    let (Some(classes), Some(scores)) = (classes, scores) else { return Recognition::NoMatch };
    let largest = match outputs[boxes].values {
        _ if evidence.takes_picture_size() => None,
        None => return Recognition::NeedsTrialRun,
        Some(_) => outputs[boxes].largest(),
    };
    let unit = largest.map_or(CoordinateUnit::Pixels, CoordinateUnit::from_largest);
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
        && (rows == evidence.cells() || rows == 3 * evidence.cells() || rows > MAX_FINAL_BOXES);
    // torchvision's detectors have no batch; their classes are COCO's category numbers, 0 being the background.
    let is_torchvision = lead.len() == 1 && !evidence.takes_picture_size() && outputs[classes].is_called(&["label"]);
    let format = BoxFormat::infer(outputs[boxes].trial_rows());
    let reader =
        BoxListReader { count: count.map(|_| 3), is_suppressed: !is_dense, ..BoxListReader::new(format, unit) };
    let read = [Some(boxes), Some(scores), Some(classes), count].into_iter().flatten().collect();
    let state = if is_dense { "boxes before NMS" } else { "final boxes" };
    let reason = format!("boxes ({format} in {unit}), scores and classes of {rows} {state} as separate outputs");
    let mut matched = LayoutMatch::new("separate", reader, read, reason).classes(evidence.class_count());
    if !is_torchvision && !evidence.takes_picture_size() && largest.is_none_or(|largest| largest <= 0.0) {
        matched = matched.warn(
            "a trial run found no object, so the unit of its boxes is unknown: pixels are assumed. If boxes have no size, export it \
             with boxes in pixels",
        );
    }
    let matched = match (is_torchvision, is_dense) {
        (true, _) => matched.named(ClassNames::CocoIds),
        (_, true) => matched.named(ClassNames::Coco),
        _ => matched,
    };
    // The DETR family stretches the picture; so does SSD, whose boxes are normalised.
    let is_stretched =
        evidence.has_input("orig_target_sizes") || (unit == CoordinateUnit::Normalised && count.is_none());
    if is_stretched { matched.prepared([Preparation::STRETCHED]).into() } else { matched.into() }
}
