//! UltraFace (Linzaer, Ultra-Light-Fast-Generic-Face-Detector-1MB): `scores` `[1, priors, 2]` (background, face) and `boxes`
//! `[1, priors, 4]`, corners as shares of the stretched input; not yet suppressed.

use super::boxes::{BoxForm, FOUR_STRIDES, Unit};
use super::evidence::Evidence;
use super::lists::{PerClass, Scores};
use super::names::Names;
use super::preparation::Preparation;
use super::{Claim, Verdict};

/// Boxes for each cell of the strides 8, 16, 32 and 64 (vision/ssd/config/fd_config.py, `min_boxes`).
const BOXES: [usize; 4] = [3, 2, 2, 3];

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let (width, height) = evidence.size();
    let priors: usize = FOUR_STRIDES
        .iter()
        .zip(BOXES)
        .map(|(stride, boxes)| width.div_ceil(*stride) * height.div_ceil(*stride) * boxes)
        .sum();
    let of = |columns: usize| {
        evidence
            .outputs
            .iter()
            .position(|output| matches!(*output.shape, [_, rows, last] if rows == priors && last == columns))
    };
    let (Some(boxes), Some(scores), None) = (of(4), of(2), evidence.forced) else { return Verdict::No };
    let reader = PerClass {
        form: BoxForm::Corners,
        unit: Unit::Shares,
        scores: Scores::AfterBackground,
        columns: 2,
        is_finished: false,
    };
    let reason =
        format!("{priors} boxes with scores of background and face, as many as UltraFace has for {width}x{height}");
    let claim = Claim::new("ultraface", reader, vec![boxes, scores], reason).classes(1);
    claim.prepared([Preparation::ULTRAFACE]).named(Names::Face).into()
}
