//! One output `[1, rows, columns]` with a box in each row: what most families give, in different orders.

use std::ops::Range;

use super::boxes::{BoxForm, MAX_CLASS_ID, Unit, best_of};
use super::reader::{Reader, Scratch, Survey};
use crate::detect::layouts::decoder::Outputs;

/// Where a row has its score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowScore {
    /// A probability for each class, in these columns.
    Classes { first: usize, count: usize },
    /// Objectness, and a probability for each class by which it is multiplied.
    Objectness { at: usize, first: usize, count: usize },
    /// The score and the number of the class.
    ScoreAndClass { score: usize, class: usize },
}

/// How a row is read.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    /// Columns of a row.
    pub columns: usize,
    /// The column of the first number of the box.
    pub first: usize,
    pub form: BoxForm,
    pub unit: Unit,
    pub score: RowScore,
    /// Columns of masks, keypoints or the angle.
    pub extra: Range<usize>,
    /// Which values of `extra` are coordinates in the box's unit: x, y and this many others in turn.
    pub points: Option<usize>,
    /// Channels of the prototypes, which are then the second output.
    pub prototypes: Option<usize>,
    /// Whether overlapping boxes are already suppressed.
    pub is_finished: bool,
    /// Whether there is a row for each cell of the input.
    pub is_dense: bool,
}

impl Rows {
    /// Boxes and nothing else.
    pub fn new(columns: usize, form: BoxForm, unit: Unit, score: RowScore) -> Self {
        Self {
            columns,
            first: 0,
            form,
            unit,
            score,
            extra: columns..columns,
            points: None,
            prototypes: None,
            is_finished: false,
            is_dense: true,
        }
    }
}

/// Whether the second output holds prototypes of this many channels.
pub(super) fn has_prototypes(outputs: Outputs<'_>, channels: Option<usize>) -> bool {
    channels.is_none_or(|channels| outputs.shape(1, 3).is_some_and(|shape| shape[0] == channels))
}

/// Scales the coordinates of keypoints, x and y followed by `others` values each.
pub(super) fn scale_points(values: &mut [f32], others: usize, scale: [f32; 2]) {
    for point in values.chunks_exact_mut(2 + others) {
        point[0] *= scale[0];
        point[1] *= scale[1];
    }
}

impl Reader for Rows {
    fn is_readable(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        outputs.shape(0, 2).is_some_and(|shape| shape[1] == self.columns && (shape[0] > 0 || !self.is_dense))
            && has_prototypes(outputs, self.prototypes)
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let scale = self.unit.scale(size);
        let rows = outputs.part(0, image, 2).rows().enumerate();
        let corners = |row: &[f32]| self.form.corners(&row[self.first..self.first + 4], scale);
        match self.score {
            RowScore::Classes { first, count } => {
                for (index, row) in rows {
                    let (class, score) = best_of(&row[first..first + count]);
                    if score > threshold {
                        scratch.push(corners(row), score, class, index);
                    }
                }
            }
            // Classes are probabilities, so that their product with an objectness under the threshold cannot be over it.
            RowScore::Objectness { at, first, count } => {
                for (index, row) in rows.filter(|(_, row)| row[at] > threshold) {
                    let (class, probability) = best_of(&row[first..first + count]);
                    let score = row[at] * probability;
                    if score > threshold {
                        scratch.push(corners(row), score, class, index);
                    }
                }
            }
            RowScore::ScoreAndClass { score, class } => {
                for (index, row) in rows {
                    if row[score] > threshold && (0.0..MAX_CLASS_ID).contains(&row[class]) {
                        scratch.push(corners(row), row[score], row[class] as u32, index);
                    }
                }
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.is_finished
    }

    fn is_dense(&self) -> bool {
        self.is_dense
    }

    fn extra(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), index: usize) -> Vec<f32> {
        let row = outputs.part(0, image, 2).rows().nth(index);
        let mut values = row.map(|row| row[self.extra.clone()].to_vec()).unwrap_or_default();
        if let Some(others) = self.points {
            scale_points(&mut values, others, self.unit.scale(size));
        }
        values
    }

    fn survey(&self, outputs: Outputs<'_>, _size: (usize, usize), survey: &mut Survey) {
        survey.is_in_pixels = self.unit == Unit::Pixels;
        survey.has_every_cell = self.is_dense;
        for row in outputs.views[0].rows() {
            if survey.is_in_pixels {
                survey.boxes(&row[self.first..self.first + 4]);
            }
            match self.score {
                RowScore::Classes { first, count } => survey.scores(&row[first..first + count]),
                RowScore::Objectness { at, first, count } => {
                    survey.scores([&row[at]]);
                    survey.scores(&row[first..first + count]);
                }
                RowScore::ScoreAndClass { score, .. } => survey.scores([&row[score]]),
            }
        }
    }
}
