//! mmdeploy and mmyolo: `dets` `[1, N, 5]` (corners in pixels and score, already suppressed) and `labels` `[1, N]`; masks of
//! segmenters are not read (open-mmlab, mmdeploy/docs/en/04-supported-codebases/mmdet.md).
//!
//! mmyolo's YOLO models take RGB 0..1; RTMDet and most of mmdetection BGR less a mean. A trial decides.

use super::boxes::BoxForm;
use super::evidence::{Evidence, Output};
use super::lists::Finished;
use super::preparation::Preparation;
use super::{Claim, Verdict};

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let is_rows = |output: &Output<'_>| matches!(output.shape, [.., _, 5]) && matches!(output.shape.len(), 2 | 3);
    let Some(boxes) = evidence.outputs.iter().position(is_rows) else { return Verdict::No };
    let lead = &evidence.outputs[boxes].shape[..evidence.outputs[boxes].shape.len() - 1];
    let labels = (0..evidence.outputs.len()).find(|&index| index != boxes && evidence.outputs[index].shape == lead);
    let Some(labels) = labels.filter(|_| evidence.forced.is_none()) else { return Verdict::No };
    let Some(values) = evidence.outputs[boxes].columns() else { return Verdict::NeedsTrial };
    let unit = evidence.unit_of(&values[..4]);
    let reader = Finished { columns: 5, scores: None, classes: Some(1), ..Finished::new(BoxForm::Corners, unit) };
    let reason = format!(
        "rows of 5 (corners in {} and score) and a list of classes, as mmdeploy and mmyolo export dets and labels",
        unit.words()
    );
    let claim = Claim::new("mmdeploy", reader, vec![boxes, labels], reason).classes(evidence.class_count());
    claim.prepared([Preparation::YOLO, Preparation::RTMDET, Preparation::YOLOX]).into()
}
