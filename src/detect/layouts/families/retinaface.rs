// SPDX-License-Identifier: MIT OR Apache-2.0
//! RetinaFace and its small variants (biubug6, Pytorch_Retinaface and Face-Detector-1MB-with-landmark): for each prior box an
//! offset `[N, 4]`, probabilities of background and face `[N, 2]` and five points `[N, 10]`; with a batch or without.
//!
//! The models do not contain their prior boxes: models for faces are recognised by the number of boxes and the five points.

use super::Family;
use crate::detect::layouts::class_names::ClassNames;
use crate::detect::layouts::common::boxes::corners_from_centre;
use crate::detect::layouts::common::face::{FACE_TASK, POINT_VALUES};
use crate::detect::layouts::common::grids::{FOUR_STRIDES, STRIDES};
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::evidence::{Evidence, Output};
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};
use crate::detect::pixels::input_format::Normalise;

/// Strides, and the sides of the square prior boxes in each of their cells (data/config.py, `min_sizes`).
#[derive(Debug, Clone, Copy)]
struct Priors {
    strides: &'static [usize],
    sides: &'static [&'static [f32]],
}

const RETINAFACE: Priors = Priors { strides: &STRIDES, sides: &[&[16.0, 32.0], &[64.0, 128.0], &[256.0, 512.0]] };
const SMALL: Priors = Priors {
    strides: &FOUR_STRIDES,
    sides: &[&[10.0, 16.0, 24.0], &[32.0, 48.0], &[64.0, 96.0], &[128.0, 192.0, 256.0]],
};
/// Columns of offsets, scores and points in one output.
const JOINED: usize = 4 + 2 + POINT_VALUES;
/// Factors of the offsets of centres and of sides (data/config.py, `variance`).
const VARIANCE: [f32; 2] = [0.1, 0.2];

#[derive(Debug)]
struct RetinaFace {
    priors: Priors,
}

impl Priors {
    /// Returns the number of prior boxes.
    fn count(self, (width, height): (usize, usize)) -> usize {
        let of_level =
            |(stride, sides): (&usize, &&[f32])| width.div_ceil(*stride) * height.div_ceil(*stride) * sides.len();
        self.strides.iter().zip(self.sides).map(of_level).sum()
    }

    /// Returns centre and side of each prior box, in pixels.
    fn boxes(self, (width, height): (usize, usize)) -> impl Iterator<Item = [f32; 3]> {
        self.strides.iter().zip(self.sides).flat_map(move |(&stride, &sides)| {
            let across = width.div_ceil(stride);
            (0..across * height.div_ceil(stride)).flat_map(move |cell| {
                let middle = |at: usize| (at as f32 + 0.5) * stride as f32;
                let (x, y) = (middle(cell % across), middle(cell / across));
                sides.iter().map(move |side| [x, y, *side])
            })
        })
    }
}

/// BGR 0..255 minus a mean, at the top left (detect.py).
const PREPARATION: Preparation = Preparation {
    normalise: Some(Normalise { mean: [104.0, 117.0, 123.0], deviation: [1.0; 3] }),
    ..Preparation::YOLOX
};

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    if let [output] = evidence.outputs.as_slice()
        && matches!(*output.shape, [_, rows, JOINED] if rows == RETINAFACE.count(evidence.size()))
        && evidence.class_count().is_none()
    {
        return Recognition::unsupported(
            "its one output has as many rows of 16 values as RetinaFace has prior boxes, and the order of offsets, scores and points \
             in a row is unknown",
            "Export it with three outputs (offsets, scores after the softmax, points)",
        );
    }
    let Some(priors) = [RETINAFACE, SMALL].into_iter().find(|priors| {
        let rows = priors.count(evidence.size());
        evidence.outputs.iter().any(|output| matches!(*output.shape, [.., of_output, 4] if of_output == rows))
    }) else {
        return Recognition::NoMatch;
    };
    let rows = priors.count(evidence.size());
    let of = |columns: usize| {
        let fits = |output: &Output<'_>| match *output.shape {
            [1, of_output, last] | [of_output, last] => (of_output, last) == (rows, columns),
            _ => false,
        };
        evidence.outputs.iter().position(fits)
    };
    let (Some(boxes), Some(scores), 3) = (of(4), of(2), evidence.outputs.len()) else {
        return Recognition::NoMatch;
    };
    let Some(points) = of(POINT_VALUES) else {
        return Recognition::unsupported(
            format!(
                "its {rows} boxes are offsets from prior boxes, as in RetinaFace, but without the five points of a face the sizes of \
                 its prior boxes are unknown"
            ),
            "Export it with its decoding step, so that it returns boxes in pixels",
        );
    };
    let Some(values) = evidence.outputs[scores].columns() else { return Recognition::NeedsTrialRun };
    if !values.iter().all(|value| value.is_probability()) {
        return Recognition::unsupported(
            "it has the outputs of RetinaFace, but its scores are not probabilities",
            "Export it for inference (phase = \"test\"), so that its graph contains the softmax of the scores",
        );
    }
    let which = if priors.strides.len() == 3 { "RetinaFace" } else { "Face-Detector-1MB" };
    let reason =
        format!("offsets, scores of background and face, and five points for {rows} prior boxes, as in {which}");
    let matched = LayoutMatch::new("retinaface", RetinaFace { priors }, vec![boxes, scores, points], reason).classes(1);
    matched.prepared([PREPARATION]).named(ClassNames::Face).task(FACE_TASK).into()
}

impl OutputReader for RetinaFace {
    fn accepts(&self, outputs: Outputs<'_>, size: (usize, usize)) -> bool {
        let rows = self.priors.count(size);
        [4, 2, POINT_VALUES]
            .iter()
            .enumerate()
            .all(|(index, &columns)| outputs.shape(index, 2) == Some(&[rows, columns]))
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let (offsets, scores) = (outputs.part(0, image, 2), outputs.part(1, image, 2));
        let rows = self.priors.boxes(size).zip(offsets.rows()).zip(scores.rows());
        for (index, (([x, y, side], offset), scores)) in rows.enumerate() {
            if scores[1] > threshold {
                let place = |middle: f32, offset: f32| middle + offset * VARIANCE[0] * side;
                let length = |offset: f32| (offset * VARIANCE[1]).exp() * side;
                let row = [place(x, offset[0]), place(y, offset[1]), length(offset[2]), length(offset[3])];
                scratch.push(corners_from_centre(&row), scores[1], 0, index);
            }
        }
    }

    fn is_suppressed(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn extra_values(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), index: usize) -> Vec<f32> {
        let points = outputs.part(2, image, 2);
        let (Some([x, y, side]), Some(points)) = (self.priors.boxes(size).nth(index), points.rows().nth(index)) else {
            return Vec::new();
        };
        points.iter().enumerate().map(|(at, value)| [x, y][at % 2] + value * VARIANCE[0] * side).collect()
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        statistics.has_every_cell = true;
        statistics.scores(outputs.views[1].values);
    }
}
