// SPDX-License-Identifier: MIT OR Apache-2.0
//! pytorch-YOLOv4: `boxes` `[1, N, 1, 4]`, corners normalised to the stretched input, and `confs` `[1, N, C]` (Tianxiaomo,
//! pytorch-YOLOv4/tool/yolo_layer.py); before NMS.

use super::Family;
use crate::detect::layouts::common::boxes::{BoxFormat, CoordinateUnit};
use crate::detect::layouts::common::separate_outputs::{ClassScores, PerClassReader};
use crate::detect::layouts::evidence::Evidence;
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let boxes = evidence.outputs.iter().position(|output| matches!(output.shape, [_, _, 1, 4]));
    let Some(boxes) = boxes else { return Recognition::NoMatch };
    let count = evidence.outputs[boxes].shape[1];
    let scores = evidence.outputs.iter().position(|output| matches!(output.shape, [_, rows, _] if *rows == count));
    let Some(scores) = scores.filter(|&scores| evidence.outputs[scores].shape[2] > 0) else {
        return Recognition::NoMatch;
    };
    let columns = evidence.outputs[scores].shape[2];
    let reader = PerClassReader {
        format: BoxFormat::Corners,
        unit: CoordinateUnit::Normalised,
        scores: ClassScores::Probabilities,
        columns,
        is_suppressed: false,
    };
    let reason =
        format!("{count} boxes [N, 1, 4] in normalised coordinates with {columns} class scores, as in pytorch-YOLOv4");
    let matched = LayoutMatch::new("yolov4", reader, vec![boxes, scores], reason);
    matched.classes(columns).prepared([Preparation::STRETCHED]).into()
}
