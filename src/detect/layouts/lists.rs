//! Boxes, and scores of each class, as outputs of their own; and boxes, scores and classes: readers that several families share.

use super::boxes::{BoxForm, MAX_CLASS_ID, Unit, best_of, sigmoid};
use super::reader::{Reader, Scratch, Survey};
use crate::detect::layouts::decoder::Outputs;

/// What makes scores of a row of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scores {
    /// Probabilities.
    Probabilities,
    /// Probabilities, of which the first is that of the background.
    AfterBackground,
    /// Values before a sigmoid.
    Sigmoid,
    /// Values before a softmax, of which the last is that of "no object".
    Softmax,
}

/// Boxes `[N, 4]` (or `[N, 1, 4]`) and scores `[N, C]`.
#[derive(Debug)]
pub(super) struct PerClass {
    pub form: BoxForm,
    pub unit: Unit,
    pub scores: Scores,
    /// Columns of the scores, with those of the background.
    pub columns: usize,
    pub is_finished: bool,
}

impl Reader for PerClass {
    fn is_readable(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        let (Some(boxes), Some(scores)) = (outputs.views.first(), outputs.views.get(1)) else { return false };
        let is_whole = boxes.shape.last() == Some(&4) && scores.shape.last() == Some(&self.columns);
        is_whole
            && outputs.images > 0
            && boxes.values.len().is_multiple_of(4 * outputs.images)
            && boxes.values.len() / 4 == scores.values.len() / self.columns
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let scale = self.unit.scale(size);
        let (boxes, scores) = (outputs.part(0, image, 2), outputs.part(1, image, 2));
        for (index, (values, row)) in boxes.rows().zip(scores.values.chunks_exact(self.columns)).enumerate() {
            let (class, score) = match self.scores {
                Scores::Probabilities => best_of(row),
                Scores::AfterBackground => best_of(&row[1..]),
                Scores::Sigmoid => {
                    let (class, logit) = best_of(row);
                    (class, sigmoid(logit))
                }
                Scores::Softmax => {
                    let (class, logit) = best_of(&row[..self.columns - 1]);
                    let sum: f32 = row.iter().map(|other| (other - logit).exp()).sum();
                    (class, 1.0 / sum)
                }
            };
            if score > threshold {
                scratch.push(self.form.corners(values, scale), score, class, index);
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.is_finished
    }

    fn survey(&self, outputs: Outputs<'_>, _size: (usize, usize), survey: &mut Survey) {
        survey.has_every_cell = !self.is_finished;
        if self.unit == Unit::Pixels {
            survey.is_in_pixels = true;
            survey.boxes(outputs.views[0].values);
        }
        if matches!(self.scores, Scores::Probabilities | Scores::AfterBackground) {
            survey.scores(outputs.views[1].values);
        }
    }
}

/// Boxes `[N, 4]`, or `[N, 5]` with the score, scores `[N]`, classes `[N]` and perhaps how many of them count.
#[derive(Debug)]
pub(super) struct Finished {
    pub form: BoxForm,
    pub unit: Unit,
    /// Columns of the boxes: 4, or 5 with the score.
    pub columns: usize,
    /// Which of the outputs are the scores, the classes and the count.
    pub scores: Option<usize>,
    pub classes: Option<usize>,
    pub count: Option<usize>,
    /// The number of the first class.
    pub first_class: u32,
    pub is_finished: bool,
}

impl Finished {
    /// Boxes in the first output, scores in the second, classes in the third.
    pub fn new(form: BoxForm, unit: Unit) -> Self {
        Self {
            form,
            unit,
            columns: 4,
            scores: Some(1),
            classes: Some(2),
            count: None,
            first_class: 0,
            is_finished: true,
        }
    }
}

impl Reader for Finished {
    fn is_readable(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        let Some(boxes) = outputs.views.first() else { return false };
        if boxes.shape.last() != Some(&self.columns) || outputs.images == 0 {
            return false;
        }
        let rows = boxes.values.len() / self.columns;
        let of_boxes = |index: Option<usize>| {
            index.is_none_or(|index| outputs.views.get(index).is_some_and(|view| view.values.len() == rows))
        };
        rows.is_multiple_of(outputs.images)
            && of_boxes(self.scores)
            && of_boxes(self.classes)
            && self
                .count
                .is_none_or(|index| outputs.views.get(index).is_some_and(|count| count.values.len() == outputs.images))
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let scale = self.unit.scale(size);
        let rows = outputs.views[0].values.len() / self.columns / outputs.images;
        let of_image =
            |index: usize, columns: usize| &outputs.views[index].values[image * rows * columns..][..rows * columns];
        let (scores, classes) =
            (self.scores.map(|index| of_image(index, 1)), self.classes.map(|index| of_image(index, 1)));
        let most = self.count.map_or(usize::MAX, |index| outputs.views[index].values[image].max(0.0) as usize);
        for (index, row) in of_image(0, self.columns).chunks_exact(self.columns).take(most).enumerate() {
            let score = scores.map_or_else(|| row[self.columns - 1], |scores| scores[index]);
            let class = classes.map_or(0.0, |classes| classes[index]) - self.first_class as f32;
            if score > threshold && (0.0..MAX_CLASS_ID).contains(&class) {
                scratch.push(self.form.corners(row, scale), score, class as u32, index);
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.is_finished
    }

    fn survey(&self, outputs: Outputs<'_>, _size: (usize, usize), survey: &mut Survey) {
        // Lists may be padded, so that only what is too large is a fault.
        let rows = outputs.views[0].rows();
        survey.is_in_pixels = self.unit == Unit::Pixels;
        for row in rows {
            if survey.is_in_pixels {
                survey.boxes(&row[..4]);
            }
            if self.scores.is_none() {
                survey.scores([&row[self.columns - 1]]);
            }
        }
        if let Some(index) = self.scores {
            survey.scores(outputs.views[index].values);
        }
    }
}
