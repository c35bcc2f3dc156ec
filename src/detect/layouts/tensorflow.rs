//! TensorFlow's Object Detection API, converted by tf2onnx: `detection_boxes` (y1, x1, y2, x2 as shares of the stretched input),
//! `detection_scores`, `detection_classes` (numbers from 1) and `num_detections`. TFLite's own detection step numbers classes
//! from 0 and calls its four outputs `TFLite_Detection_PostProcess`.

use super::boxes::{BoxForm, Unit};
use super::evidence::{Evidence, Output};
use super::lists::Finished;
use super::names::Names;
use super::preparation::Preparation;
use super::{Claim, Verdict};
use crate::detect::onnx::tensor::ElementType;

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    if evidence.forced.is_some() {
        return Verdict::No;
    }
    let plain = |output: &Output<'_>| !output.is_called(&["raw_", "multiclass", "anchor"]);
    let of = |name: &str| evidence.find(&[name], plain);
    let named = |boxes, scores, classes, count, first| Some((boxes, scores, classes, count, first));
    let found = match (of("detection_boxes"), of("detection_scores"), of("detection_classes")) {
        (Some(boxes), Some(scores), Some(classes)) => named(boxes, scores, classes, of("num_detections"), 1),
        _ => {
            let all: Vec<usize> = (0..evidence.outputs.len())
                .filter(|&index| evidence.outputs[index].is_called(&["detection_postprocess"]))
                .collect();
            match all[..] {
                [boxes, classes, scores, count] => named(boxes, scores, classes, Some(count), 0),
                _ => None,
            }
        }
    };
    let Some((boxes, scores, classes, count, first_class)) = found else { return Verdict::No };
    if evidence.outputs[boxes].shape.last() != Some(&4) {
        return Verdict::No;
    }
    let reader =
        Finished { count: count.map(|_| 3), first_class, ..Finished::new(BoxForm::CornersYFirst, Unit::Shares) };
    let outputs = [Some(boxes), Some(scores), Some(classes), count].into_iter().flatten().collect();
    let reason = format!(
        "outputs are called as in TensorFlow's Object Detection API: y before x, shares of the input, classes from {first_class}"
    );
    let claim =
        Claim::new("tensorflow", reader, outputs, reason).classes(evidence.class_count()).named(Names::CocoIdsFromOne);
    match evidence.input.element {
        ElementType::U8 => claim.prepared([Preparation::BYTES_STRETCHED]).into(),
        // Their graphs begin after the conversion to floats, which some exports leave out.
        _ => claim.prepared([Preparation::BYTES_STRETCHED, Preparation::STRETCHED]).into(),
    }
}
