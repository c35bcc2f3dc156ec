//! YOLOv3 of the ONNX model zoo (converted from keras-yolo3): boxes `[1, N, 4]` (y1, x1, y2, x2 in pixels of the picture whose
//! size it is given), scores `[1, C, N]`, and `[D, 3]` (or `[1, D, 3]`) numbers of image, class and box that NonMaxSuppression chose.

use super::boxes::{BoxForm, Unit};
use super::evidence::{Evidence, Output};
use super::reader::{Reader, Scratch, Survey};
use super::{Claim, Verdict};
use crate::detect::layouts::decoder::Outputs;

#[derive(Debug)]
struct Selected {
    classes: usize,
    form: BoxForm,
    unit: Unit,
}

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let is_choice = |output: &Output<'_>| output.is_integer() && output.shape.last() == Some(&3);
    let choice = evidence.outputs.iter().position(is_choice);
    let Some(choice) = choice.filter(|_| evidence.forced.is_none()) else { return Verdict::No };
    let boxes = evidence.outputs.iter().position(|output| matches!(output.shape, [_, _, 4]) && !output.is_integer());
    let Some(boxes) = boxes else { return Verdict::No };
    let count = evidence.outputs[boxes].shape[1];
    let scores = (0..evidence.outputs.len())
        .find(|&index| index != boxes && matches!(*evidence.outputs[index].shape, [_, _, boxes] if boxes == count));
    let Some(scores) = scores else { return Verdict::No };
    let classes = evidence.outputs[scores].shape[1];
    let Some(largest) = evidence.outputs[boxes].values.map(|_| evidence.outputs[boxes].largest().unwrap_or(0.0)) else {
        return Verdict::NeedsTrial;
    };
    let unit = if evidence.is_sized() { Unit::Pixels } else { Unit::of(largest) };
    let reason = format!(
        "boxes [1, {count}, 4] with y before x, scores of {classes} classes and a list of those that were chosen, as in the ONNX \
         model zoo's YOLOv3"
    );
    let reader = Selected { classes, form: BoxForm::CornersYFirst, unit };
    Claim::new("yolov3", reader, vec![boxes, scores, choice], reason).classes(classes).into()
}

impl Reader for Selected {
    fn is_readable(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        let (Some([count, 4]), Some([classes, of_boxes])) = (outputs.shape(0, 2), outputs.shape(1, 2)) else {
            return false;
        };
        let is_choice = outputs.views.get(2).is_some_and(|view| view.shape.last() == Some(&3));
        count == of_boxes && *classes == self.classes && is_choice
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let scale = self.unit.scale(size);
        let (boxes, scores) = (outputs.part(0, image, 2), outputs.part(1, image, 2));
        let count = boxes.shape[0];
        for row in outputs.views[2].values.chunks_exact(3).filter(|row| row[0] == image as f32) {
            // Rows past the last are filled with -1.
            if row[1] < 0.0 || row[2] < 0.0 {
                continue;
            }
            let (class, index) = (row[1] as usize, row[2] as usize);
            if class < self.classes && index < count {
                let score = scores.values[class * count + index];
                if score > threshold {
                    let corners = self.form.corners(&boxes.values[4 * index..][..4], scale);
                    scratch.push(corners, score, class as u32, index);
                }
            }
        }
    }

    fn is_finished(&self) -> bool {
        true
    }

    fn survey(&self, outputs: Outputs<'_>, _size: (usize, usize), survey: &mut Survey) {
        survey.scores(outputs.views[1].values);
    }
}
