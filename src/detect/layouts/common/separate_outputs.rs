// SPDX-License-Identifier: MIT OR Apache-2.0
//! Readers of boxes and scores that are separate outputs: with a score for each class, or with one score and one class each.

use super::boxes::{BoxFormat, CoordinateUnit, MAX_CLASS_ID, best_of, sigmoid};
use super::reader::{OutputReader, OutputStatistics, Outputs, Scratch};

/// How a row of class values becomes a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClassScores {
    /// Probabilities.
    Probabilities,
    /// Probabilities; the first one is the background's.
    AfterBackground,
    /// Logits of a sigmoid.
    Sigmoid,
    /// Logits of a softmax; the last one stands for "no object".
    Softmax,
}

/// Reads boxes `[N, 4]` (or `[N, 1, 4]`) and scores `[N, C]`.
#[derive(Debug)]
pub(crate) struct PerClassReader {
    pub format: BoxFormat,
    pub unit: CoordinateUnit,
    pub scores: ClassScores,
    /// Columns of the scores, background included.
    pub columns: usize,
    pub is_suppressed: bool,
}

impl OutputReader for PerClassReader {
    fn accepts(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        let (Some(boxes), Some(scores)) = (outputs.views.first(), outputs.views.get(1)) else { return false };
        let has_columns = boxes.shape.last() == Some(&4) && scores.shape.last() == Some(&self.columns);
        has_columns
            && outputs.are_separable(0)
            && outputs.are_separable(1)
            && boxes.values.len().is_multiple_of(4 * outputs.images)
            && boxes.values.len() / 4 == scores.values.len() / self.columns
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let scale = self.unit.scale(size);
        let (boxes, scores) = (outputs.part(0, image, 2), outputs.part(1, image, 2));
        for (index, (values, row)) in boxes.rows().zip(scores.values.chunks_exact(self.columns)).enumerate() {
            let (class, score) = match self.scores {
                ClassScores::Probabilities => best_of(row),
                ClassScores::AfterBackground => best_of(&row[1..]),
                ClassScores::Sigmoid => {
                    let (class, logit) = best_of(row);
                    (class, sigmoid(logit))
                }
                ClassScores::Softmax => {
                    let (class, logit) = best_of(&row[..self.columns - 1]);
                    let sum: f32 = row.iter().map(|other| (other - logit).exp()).sum();
                    (class, 1.0 / sum)
                }
            };
            if score > threshold {
                scratch.push(self.format.corners(values, scale), score, class, index);
            }
        }
    }

    fn is_suppressed(&self) -> bool {
        self.is_suppressed
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        statistics.has_every_cell = !self.is_suppressed;
        if self.unit == CoordinateUnit::Pixels {
            statistics.is_in_pixels = true;
            statistics.boxes(outputs.views[0].values);
        }
        if matches!(self.scores, ClassScores::Probabilities | ClassScores::AfterBackground) {
            statistics.scores(outputs.views[1].values);
        }
    }
}

/// Reads boxes `[N, 4]` or, with the score, `[N, 5]`, scores `[N]`, classes `[N]` and, for padded lists, the number of boxes.
#[derive(Debug)]
pub(crate) struct BoxListReader {
    pub format: BoxFormat,
    pub unit: CoordinateUnit,
    /// Columns of the boxes: 4, or 5 with the score.
    pub columns: usize,
    /// Indices of the scores, the classes and the count among the outputs read.
    pub scores: Option<usize>,
    pub classes: Option<usize>,
    pub count: Option<usize>,
    /// Id of the first class.
    pub first_class: u32,
    pub is_suppressed: bool,
}

impl BoxListReader {
    /// Creates a reader of boxes in the first output, scores in the second and classes in the third.
    pub fn new(format: BoxFormat, unit: CoordinateUnit) -> Self {
        Self {
            format,
            unit,
            columns: 4,
            scores: Some(1),
            classes: Some(2),
            count: None,
            first_class: 0,
            is_suppressed: true,
        }
    }
}

impl OutputReader for BoxListReader {
    fn accepts(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        let Some(boxes) = outputs.views.first() else { return false };
        if boxes.shape.last() != Some(&self.columns) || !outputs.are_separable(0) {
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
        let limit = self.count.map_or(usize::MAX, |index| outputs.views[index].values[image].max(0.0) as usize);
        for (index, row) in of_image(0, self.columns).chunks_exact(self.columns).take(limit).enumerate() {
            let score = scores.map_or_else(|| row[self.columns - 1], |scores| scores[index]);
            let class = classes.map_or(0.0, |classes| classes[index]) - self.first_class as f32;
            if score > threshold && (0.0..MAX_CLASS_ID).contains(&class) {
                scratch.push(self.format.corners(row, scale), score, class as u32, index);
            }
        }
    }

    fn is_suppressed(&self) -> bool {
        self.is_suppressed
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        // Lists may be padded: only values that are too large are a fault.
        let rows = outputs.views[0].rows();
        statistics.is_in_pixels = self.unit == CoordinateUnit::Pixels;
        for row in rows {
            if statistics.is_in_pixels {
                statistics.boxes(&row[..4]);
            }
            if self.scores.is_none() {
                statistics.scores([&row[self.columns - 1]]);
            }
        }
        if let Some(index) = self.scores {
            statistics.scores(outputs.views[index].values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::testing::view;
    use super::*;
    use crate::detect::onnx::tensor::OutputView;

    /// A list of all boxes does not say which picture they belong to.
    #[test]
    fn lists_without_a_batch_are_those_of_one_picture() {
        let per_class = PerClassReader {
            format: BoxFormat::Corners,
            unit: CoordinateUnit::Pixels,
            scores: ClassScores::Probabilities,
            columns: 3,
            is_suppressed: true,
        };
        let listed = BoxListReader::new(BoxFormat::Corners, CoordinateUnit::Pixels);
        let (boxes, scores, single) = ([0.0; 16], [0.0; 12], [0.0; 4]);
        let cases: [(&dyn OutputReader, &[OutputView<'_>], &[OutputView<'_>]); 2] = [
            (
                &per_class,
                &[view(&[4, 4], &boxes), view(&[4, 3], &scores)],
                &[view(&[2, 2, 4], &boxes), view(&[2, 2, 3], &scores)],
            ),
            (
                &listed,
                &[view(&[4, 4], &boxes), view(&[4], &single), view(&[4], &single)],
                &[view(&[2, 2, 4], &boxes), view(&[2, 2], &single), view(&[2, 2], &single)],
            ),
        ];
        for (reader, flat, batched) in cases {
            let accepts = |views, images| reader.accepts(Outputs { views, images }, (64, 64));
            assert!(accepts(flat, 1) && !accepts(flat, 2), "{reader:?}");
            assert!(accepts(batched, 2) && !accepts(batched, 3) && !accepts(batched, 0), "{reader:?}");
        }
    }
}
