// SPDX-License-Identifier: MIT OR Apache-2.0
//! TensorFlow's Object Detection API, converted by tf2onnx: `detection_boxes` (y1, x1, y2, x2 normalised to the stretched input),
//! `detection_scores`, `detection_classes` (numbers from 1) and `num_detections`. TFLite's own detection step numbers classes
//! from 0 and names its four outputs `TFLite_Detection_PostProcess`.

use super::Family;
use crate::detect::layouts::class_names::ClassNames;
use crate::detect::layouts::common::boxes::{BoxFormat, CoordinateUnit};
use crate::detect::layouts::common::separate_outputs::BoxListReader;
use crate::detect::layouts::evidence::{Evidence, Output};
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};
use crate::detect::onnx::tensor::ElementType;

/// RGB 0..255, stretched; the graph scales the picture.
const BYTES: Preparation = Preparation { white: 255.0, ..Preparation::STRETCHED };

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
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
    let Some((boxes, scores, classes, count, first_class)) = found else { return Recognition::NoMatch };
    if evidence.outputs[boxes].shape.last() != Some(&4) {
        return Recognition::NoMatch;
    }
    let reader = BoxListReader {
        count: count.map(|_| 3),
        first_class,
        ..BoxListReader::new(BoxFormat::CornersYFirst, CoordinateUnit::Normalised)
    };
    let outputs = [Some(boxes), Some(scores), Some(classes), count].into_iter().flatten().collect();
    let reason = format!(
        "outputs are named as in TensorFlow's Object Detection API: y before x, normalised coordinates, classes from {first_class}"
    );
    let matched = LayoutMatch::new("tensorflow", reader, outputs, reason)
        .classes(evidence.class_count())
        .named(ClassNames::CocoIdsFromOne);
    match evidence.input.element {
        ElementType::U8 => matched.prepared([BYTES]).into(),
        // Their graphs start after the conversion to floats, which some exports omit.
        _ => matched.prepared([BYTES, Preparation::STRETCHED]).into(),
    }
}
