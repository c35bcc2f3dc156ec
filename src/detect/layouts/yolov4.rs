//! pytorch-YOLOv4: `boxes` `[1, N, 1, 4]`, corners as shares of the stretched input, and `confs` `[1, N, C]` (Tianxiaomo,
//! pytorch-YOLOv4/tool/yolo_layer.py); not yet suppressed.

use super::boxes::{BoxForm, Unit};
use super::evidence::Evidence;
use super::lists::{PerClass, Scores};
use super::preparation::Preparation;
use super::{Claim, Verdict};

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let boxes = evidence.outputs.iter().position(|output| matches!(output.shape, [_, _, 1, 4]));
    let Some(boxes) = boxes.filter(|_| evidence.forced.is_none()) else { return Verdict::No };
    let count = evidence.outputs[boxes].shape[1];
    let scores = evidence.outputs.iter().position(|output| matches!(output.shape, [_, rows, _] if *rows == count));
    let Some(scores) = scores.filter(|&scores| evidence.outputs[scores].shape[2] > 0) else { return Verdict::No };
    let columns = evidence.outputs[scores].shape[2];
    let reader = PerClass {
        form: BoxForm::Corners,
        unit: Unit::Shares,
        scores: Scores::Probabilities,
        columns,
        is_finished: false,
    };
    let reason = format!(
        "{count} boxes [N, 1, 4] as shares of the input with {columns} class scores, as pytorch-YOLOv4 exports"
    );
    let claim = Claim::new("yolov4", reader, vec![boxes, scores], reason);
    claim.classes(columns).prepared([Preparation::STRETCHED]).into()
}
