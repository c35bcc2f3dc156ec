// SPDX-License-Identifier: MIT OR Apache-2.0
//! PaddleDetection with NMS: `[D, 6]`, class, score, corners in pixels, and the number of boxes for each image. PP-YOLOE,
//! PP-YOLOE+, RT-DETR, PicoDet, PP-YOLO, YOLOv3.
//!
//! All stretch the picture. They differ in mean and deviation (PaddleDetection, configs/*/_base_/*reader.yml, `NormalizeImage`):
//! RT-DETR and PP-YOLOE+ have none, the others ImageNet's. Only RT-DETR has `im_shape` without suppression; PP-YOLOE+ and the
//! others that have only `scale_factor` look the same, so a trial run decides.

use super::Family;
use crate::detect::layouts::common::boxes::MAX_CLASS_ID;
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::evidence::{Evidence, Output};
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};

/// Largest side of PicoDet's inputs; PP-YOLOE+ has 640.
const MAX_PICODET_SIDE: usize = 416;

#[derive(Debug)]
struct Paddle {
    has_count: bool,
}

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let is_rows = |output: &Output<'_>| matches!(output.shape, [_, 6]) && !output.is_integer();
    let Some(rows) = evidence.outputs.iter().position(is_rows) else { return Recognition::NoMatch };
    let count = evidence.outputs.iter().position(|output| output.is_integer() && output.shape.len() == 1);
    let has_scale = evidence.has_input("scale_factor");
    if count.is_none() && !has_scale {
        // Class, score and corners without a count are recognised by their values only.
        match evidence.outputs[rows].columns() {
            None => return Recognition::NeedsTrialRun,
            Some(values) if values[0].is_integer && values[1].is_probability() && !values[5].is_integer => {}
            Some(_) => return Recognition::NoMatch,
        }
    }
    let has_shape = evidence.has_input("im_shape");
    let is_suppressed = evidence.outputs[rows].is_called(&["nms"]);
    let (preparations, which) = match (has_shape, is_suppressed) {
        (true, false) => (vec![Preparation::STRETCHED], "RT-DETR, by its input im_shape"),
        (true, true) => (vec![Preparation::IMAGENET, Preparation::STRETCHED], "YOLOv3 or PP-YOLO, by im_shape and NMS"),
        (false, _) if evidence.input.width.min(evidence.input.height) <= MAX_PICODET_SIDE => {
            (vec![Preparation::IMAGENET, Preparation::STRETCHED], "PicoDet, by its small input")
        }
        (false, _) => (vec![Preparation::STRETCHED, Preparation::IMAGENET], "PP-YOLOE+, by its large input"),
    };
    let reason = format!("rows of 6: class, score, corners in pixels, as in PaddleDetection; most likely {which}");
    let reader = Paddle { has_count: count.is_some() };
    let outputs = [Some(rows), count].into_iter().flatten().collect();
    LayoutMatch::new("paddle", reader, outputs, reason).classes(evidence.class_count()).prepared(preparations).into()
}

impl OutputReader for Paddle {
    fn accepts(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        let is_count = || outputs.views.get(1).is_some_and(|count| count.values.len() == outputs.images);
        let is_separable = if self.has_count { is_count() } else { outputs.images == 1 };
        is_separable && outputs.views.first().is_some_and(|rows| matches!(rows.shape, [_, 6]))
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, _size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let (start, count) = match self.has_count {
            true => {
                let counts = outputs.views[1].values;
                let start: f32 = counts[..image].iter().sum();
                (start.max(0.0) as usize, counts[image].max(0.0) as usize)
            }
            false => (0, usize::MAX),
        };
        for (index, row) in outputs.views[0].rows().enumerate().skip(start).take(count) {
            if row[1] > threshold && (0.0..MAX_CLASS_ID).contains(&row[0]) {
                scratch.push([row[2], row[3], row[4], row[5]], row[1], row[0] as u32, index);
            }
        }
    }

    fn is_suppressed(&self) -> bool {
        true
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        statistics.is_in_pixels = true;
        for row in outputs.views[0].rows() {
            statistics.boxes(&row[2..6]);
            statistics.scores([&row[1]]);
        }
    }
}
