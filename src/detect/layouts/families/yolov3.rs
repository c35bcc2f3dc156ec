// SPDX-License-Identifier: MIT OR Apache-2.0
//! YOLOv3 of the ONNX model zoo (converted from keras-yolo3): boxes `[1, N, 4]` (y1, x1, y2, x2 in pixels of the picture, whose
//! size is an input), scores `[1, C, N]`, and `[D, 3]` (or `[1, D, 3]`) indices of image, class and box that NonMaxSuppression
//! selected.

use super::Family;
use crate::detect::layouts::common::boxes::{BoxFormat, CoordinateUnit};
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::evidence::{Evidence, Output};
use crate::detect::layouts::{LayoutMatch, Recognition};

#[derive(Debug)]
struct SelectedBoxes {
    classes: usize,
    format: BoxFormat,
    unit: CoordinateUnit,
}

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let is_selection = |output: &Output<'_>| output.is_integer() && output.shape.last() == Some(&3);
    let choice = evidence.outputs.iter().position(is_selection);
    let Some(choice) = choice else { return Recognition::NoMatch };
    let boxes = evidence.outputs.iter().position(|output| matches!(output.shape, [_, _, 4]) && !output.is_integer());
    let Some(boxes) = boxes else { return Recognition::NoMatch };
    let count = evidence.outputs[boxes].shape[1];
    let scores = (0..evidence.outputs.len())
        .find(|&index| index != boxes && matches!(*evidence.outputs[index].shape, [_, _, boxes] if boxes == count));
    let Some(scores) = scores else { return Recognition::NoMatch };
    let classes = evidence.outputs[scores].shape[1];
    let Some(largest) = evidence.outputs[boxes].values.map(|_| evidence.outputs[boxes].largest().unwrap_or(0.0)) else {
        return Recognition::NeedsTrialRun;
    };
    let unit =
        if evidence.takes_picture_size() { CoordinateUnit::Pixels } else { CoordinateUnit::from_largest(largest) };
    let reason = format!(
        "boxes [1, {count}, 4] with y before x, scores of {classes} classes and a list of selected boxes, as in the YOLOv3 of the ONNX \
         model zoo"
    );
    let reader = SelectedBoxes { classes, format: BoxFormat::CornersYFirst, unit };
    LayoutMatch::new("yolov3", reader, vec![boxes, scores, choice], reason).classes(classes).into()
}

impl OutputReader for SelectedBoxes {
    fn accepts(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        let (Some([count, 4]), Some([classes, of_boxes])) = (outputs.shape(0, 2), outputs.shape(1, 2)) else {
            return false;
        };
        let is_selection = outputs.views.get(2).is_some_and(|view| view.shape.last() == Some(&3));
        count == of_boxes && *classes == self.classes && is_selection
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let scale = self.unit.scale(size);
        let (boxes, scores) = (outputs.part(0, image, 2), outputs.part(1, image, 2));
        let count = boxes.shape[0];
        for row in outputs.views[2].values.chunks_exact(3).filter(|row| row[0] == image as f32) {
            // The list is padded with -1.
            if row[1] < 0.0 || row[2] < 0.0 {
                continue;
            }
            let (class, index) = (row[1] as usize, row[2] as usize);
            if class < self.classes && index < count {
                let score = scores.values[class * count + index];
                if score > threshold {
                    let corners = self.format.corners(&boxes.values[4 * index..][..4], scale);
                    scratch.push(corners, score, class as u32, index);
                }
            }
        }
    }

    fn is_suppressed(&self) -> bool {
        true
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        statistics.scores(outputs.views[1].values);
    }
}
