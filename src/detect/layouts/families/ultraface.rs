// SPDX-License-Identifier: MIT OR Apache-2.0
//! UltraFace (Linzaer, Ultra-Light-Fast-Generic-Face-Detector-1MB): `scores` `[1, priors, 2]` (background, face) and `boxes`
//! `[1, priors, 4]`, corners normalised to the stretched input, before NMS.

use super::Family;
use crate::detect::layouts::class_names::ClassNames;
use crate::detect::layouts::common::boxes::{BoxFormat, CoordinateUnit};
use crate::detect::layouts::common::grids::FOUR_STRIDES;
use crate::detect::layouts::common::separate_outputs::{ClassScores, PerClassReader};
use crate::detect::layouts::evidence::Evidence;
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};
use crate::detect::pixels::input_format::Normalise;

/// Boxes for each cell of the strides 8, 16, 32 and 64 (vision/ssd/config/fd_config.py, `min_boxes`).
const BOXES: [usize; 4] = [3, 2, 2, 3];

/// RGB, (value - 127) / 128, stretched (run_video_face_detect_onnx.py).
const PREPARATION: Preparation = Preparation {
    white: 255.0,
    normalise: Some(Normalise { mean: [127.0; 3], deviation: [128.0; 3] }),
    ..Preparation::STRETCHED
};

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
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
    let (Some(boxes), Some(scores)) = (of(4), of(2)) else { return Recognition::NoMatch };
    let reader = PerClassReader {
        format: BoxFormat::Corners,
        unit: CoordinateUnit::Normalised,
        scores: ClassScores::AfterBackground,
        columns: 2,
        is_suppressed: false,
    };
    let reason =
        format!("{priors} boxes with scores of background and face, as many as UltraFace has for {width}x{height}");
    let matched = LayoutMatch::new("ultraface", reader, vec![boxes, scores], reason).classes(1);
    matched.prepared([PREPARATION]).named(ClassNames::Face).into()
}
