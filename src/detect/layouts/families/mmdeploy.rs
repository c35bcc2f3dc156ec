// SPDX-License-Identifier: MIT OR Apache-2.0
//! mmdeploy and mmyolo: `dets` `[1, N, 5]` (corners in pixels and score, after NMS) and `labels` `[1, N]`; masks of
//! segmentation models are not read (open-mmlab, mmdeploy/docs/en/04-supported-codebases/mmdet.md).
//!
//! mmyolo's YOLO models take RGB 0..1; RTMDet and most of mmdetection BGR minus a mean. A trial run decides.

use super::Family;
use crate::detect::layouts::common::boxes::BoxFormat;
use crate::detect::layouts::common::separate_outputs::BoxListReader;
use crate::detect::layouts::evidence::{Evidence, Output};
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};
use crate::detect::pixels::input_format::Normalise;

/// BGR, at the top left, with its own mean and deviation (open-mmlab, mmdetection/configs/rtmdet/rtmdet_l_8xb32-300e_coco.py).
const RTMDET: Preparation = Preparation {
    normalise: Some(Normalise { mean: [103.53, 116.28, 123.675], deviation: [57.375, 57.12, 58.395] }),
    ..Preparation::YOLOX
};

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let is_rows = |output: &Output<'_>| matches!(output.shape, [.., _, 5]) && matches!(output.shape.len(), 2 | 3);
    let Some(boxes) = evidence.outputs.iter().position(is_rows) else { return Recognition::NoMatch };
    let lead = &evidence.outputs[boxes].shape[..evidence.outputs[boxes].shape.len() - 1];
    let labels = (0..evidence.outputs.len()).find(|&index| index != boxes && evidence.outputs[index].shape == lead);
    let Some(labels) = labels else { return Recognition::NoMatch };
    let Some(values) = evidence.outputs[boxes].columns() else { return Recognition::NeedsTrialRun };
    let unit = evidence.unit_of(&values[..4]);
    let reader =
        BoxListReader { columns: 5, scores: None, classes: Some(1), ..BoxListReader::new(BoxFormat::Corners, unit) };
    let reason = format!(
        "rows of 5 (corners in {unit} and score) and a list of classes, as dets and labels of mmdeploy and mmyolo"
    );
    let matched = LayoutMatch::new("mmdeploy", reader, vec![boxes, labels], reason).classes(evidence.class_count());
    matched.prepared([Preparation::YOLO, RTMDET, Preparation::YOLOX]).into()
}
