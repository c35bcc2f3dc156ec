//! PaddleDetection with NMS: `[D, 6]`, class, score, corners in pixels, and the number of boxes of each image. PP-YOLOE, PP-YOLOE+,
//! RT-DETR, PicoDet, PP-YOLO, YOLOv3.
//!
//! All are stretched. They differ in mean and deviation (PaddleDetection, configs/*/_base_/*reader.yml, `NormalizeImage`):
//! RT-DETR and PP-YOLOE+ have none, the others ImageNet's. RT-DETR alone has `im_shape` without suppression; PP-YOLOE+ and the
//! others with `scale_factor` alone look the same, so that a trial decides.

use super::boxes::MAX_CLASS_ID;
use super::evidence::{Evidence, Output};
use super::preparation::Preparation;
use super::reader::{Reader, Scratch, Survey};
use super::{Claim, Verdict};
use crate::detect::layouts::decoder::Outputs;

/// Sides of PicoDet's inputs; PP-YOLOE+ has 640.
const PICODET_SIDE: usize = 416;

#[derive(Debug)]
struct Paddle {
    is_counted: bool,
}

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    if evidence.forced.is_some() {
        return Verdict::No;
    }
    let is_rows = |output: &Output<'_>| matches!(output.shape, [_, 6]) && !output.is_integer();
    let Some(rows) = evidence.outputs.iter().position(is_rows) else { return Verdict::No };
    let count = evidence.outputs.iter().position(|output| output.is_integer() && output.shape.len() == 1);
    let has_scale = evidence.has_input("scale_factor");
    if count.is_none() && !has_scale {
        // Class, score, corners without a count: only their values say so.
        match evidence.outputs[rows].columns() {
            None => return Verdict::NeedsTrial,
            Some(values) if values[0].is_whole && values[1].is_share() && !values[5].is_whole => {}
            Some(_) => return Verdict::No,
        }
    }
    let has_shape = evidence.has_input("im_shape");
    let is_suppressed = evidence.outputs[rows].is_called(&["nms"]);
    let (preparations, which) = match (has_shape, is_suppressed) {
        (true, false) => (vec![Preparation::STRETCHED], "RT-DETR, by its input im_shape"),
        (true, true) => (vec![Preparation::IMAGENET, Preparation::STRETCHED], "YOLOv3 or PP-YOLO, by im_shape and NMS"),
        (false, _) if evidence.input.width.min(evidence.input.height) <= PICODET_SIDE => {
            (vec![Preparation::IMAGENET, Preparation::STRETCHED], "PicoDet, by its small input")
        }
        (false, _) => (vec![Preparation::STRETCHED, Preparation::IMAGENET], "PP-YOLOE+, by its large input"),
    };
    let reason = format!("rows of 6: class, score, corners in pixels, as PaddleDetection exports; most likely {which}");
    let reader = Paddle { is_counted: count.is_some() };
    let outputs = [Some(rows), count].into_iter().flatten().collect();
    Claim::new("paddle", reader, outputs, reason).classes(evidence.class_count()).prepared(preparations).into()
}

impl Reader for Paddle {
    fn is_readable(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        let is_counted = || outputs.views.get(1).is_some_and(|count| count.values.len() == outputs.images);
        outputs.views.first().is_some_and(|rows| matches!(rows.shape, [_, 6])) && (!self.is_counted || is_counted())
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, _size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let (before, count) = match self.is_counted {
            true => {
                let counts = outputs.views[1].values;
                let before: f32 = counts[..image].iter().sum();
                (before.max(0.0) as usize, counts[image].max(0.0) as usize)
            }
            false => (0, usize::MAX),
        };
        for (index, row) in outputs.views[0].rows().enumerate().skip(before).take(count) {
            if row[1] > threshold && (0.0..MAX_CLASS_ID).contains(&row[0]) {
                scratch.push([row[2], row[3], row[4], row[5]], row[1], row[0] as u32, index);
            }
        }
    }

    fn is_finished(&self) -> bool {
        true
    }

    fn survey(&self, outputs: Outputs<'_>, _size: (usize, usize), survey: &mut Survey) {
        survey.is_in_pixels = true;
        for row in outputs.views[0].rows() {
            survey.boxes(&row[2..6]);
            survey.scores([&row[1]]);
        }
    }
}
