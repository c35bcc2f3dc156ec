// SPDX-License-Identifier: MIT OR Apache-2.0
//! FastestDet: one output `[1, 5 + C, rows, columns]` of stride 16: objectness, offset of the centre through a tanh, normalised
//! size through a sigmoid, then class probabilities (dog-qiuqiu, FastestDet/example/onnx-runtime/runtime.py).

use super::Family;
use crate::detect::layouts::common::boxes::{corners_from_centre, sigmoid};
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::evidence::Evidence;
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};
use crate::detect::pixels::input_format::ChannelOrder;

const STRIDE: usize = 16;

#[derive(Debug)]
struct FastestDet {
    classes: usize,
}

/// BGR 0..1, stretched.
const PREPARATION: Preparation = Preparation { order: ChannelOrder::Bgr, ..Preparation::STRETCHED };

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let [output] = evidence.outputs.as_slice() else { return Recognition::NoMatch };
    let [_, channels, rows, columns] = *output.shape else { return Recognition::NoMatch };
    let (width, height) = evidence.size();
    let is_grid = (columns, rows) == (width.div_ceil(STRIDE), height.div_ceil(STRIDE));
    if !is_grid || channels < 6 {
        return Recognition::NoMatch;
    }
    let Some(values) = output.values else { return Recognition::NeedsTrialRun };
    let cells = rows * columns;
    let is_probability = |channel: usize| {
        let map = values.get(channel * cells..(channel + 1) * cells).unwrap_or_default();
        map.iter().all(|value| (-1e-3..=1.001).contains(value))
    };
    if cells == 0 || values.is_empty() || !is_probability(0) || !(5..channels).all(is_probability) {
        return Recognition::NoMatch;
    }
    let classes = channels - 5;
    let reason = format!(
        "one map [1, {channels}, {rows}, {columns}] of stride 16 with probabilities of {classes} classes, as in FastestDet"
    );
    let matched = LayoutMatch::new("fastestdet", FastestDet { classes }, vec![0], reason).classes(classes);
    matched.prepared([PREPARATION]).into()
}

impl OutputReader for FastestDet {
    fn accepts(&self, outputs: Outputs<'_>, (width, height): (usize, usize)) -> bool {
        outputs.shape(0, 3) == Some(&[5 + self.classes, height.div_ceil(STRIDE), width.div_ceil(STRIDE)])
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let map = outputs.part(0, image, 3);
        let (rows, columns) = (map.shape[1], map.shape[2]);
        let cells = rows * columns;
        for cell in 0..cells {
            let at = |channel: usize| map.values[channel * cells + cell];
            if at(0) <= threshold {
                continue;
            }
            let mut best = (0, f32::NEG_INFINITY);
            for class in 0..self.classes {
                let value = at(5 + class);
                if value > best.1 {
                    best = (class as u32, value);
                }
            }
            let score = at(0) * best.1;
            if score > threshold {
                let (width, height) = (size.0 as f32, size.1 as f32);
                let x = ((cell % columns) as f32 + at(1).tanh()) / columns as f32 * width;
                let y = ((cell / columns) as f32 + at(2).tanh()) / rows as f32 * height;
                scratch.push(
                    corners_from_centre(&[x, y, sigmoid(at(3)) * width, sigmoid(at(4)) * height]),
                    score,
                    best.0,
                    cell,
                );
            }
        }
    }

    fn is_suppressed(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        statistics.has_every_cell = true;
        for image in 0..outputs.images {
            let map = outputs.part(0, image, 3);
            let cells = map.shape[1] * map.shape[2];
            statistics.scores(&map.values[..cells]);
            statistics.scores(&map.values[5 * cells..]);
        }
    }
}
