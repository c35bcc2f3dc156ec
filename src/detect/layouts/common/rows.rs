// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reader of one output `[1, rows, columns]` with a box in each row, which most families have, in different orders.

use std::ops::Range;

use super::boxes::{BoxFormat, CoordinateUnit, MAX_CLASS_ID, best_of};
use super::reader::{OutputReader, OutputStatistics, Outputs, Scratch};

/// Where the score is in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowScore {
    /// A probability for each class, in these columns.
    Classes { first: usize, count: usize },
    /// Objectness, to be multiplied by a probability for each class.
    Objectness { at: usize, first: usize, count: usize },
    /// The score and the class id.
    ScoreAndClass { score: usize, class: usize },
}

/// The columns of a row.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    /// Number of columns.
    pub columns: usize,
    /// First column of the box.
    pub first: usize,
    pub format: BoxFormat,
    pub unit: CoordinateUnit,
    pub score: RowScore,
    /// Columns of mask coefficients, keypoints or the angle.
    pub extra: Range<usize>,
    /// Where `extra` holds keypoints: the number of values that follow x and y of each, which are in the box's unit.
    pub points: Option<usize>,
    /// Channels of the mask prototypes, the second output.
    pub prototypes: Option<usize>,
    /// Whether overlapping boxes are already suppressed.
    pub is_suppressed: bool,
    /// Whether there is a row for each cell of the input.
    pub is_dense: bool,
}

impl Rows {
    /// Creates a reader of rows that hold boxes and scores only.
    pub fn new(columns: usize, format: BoxFormat, unit: CoordinateUnit, score: RowScore) -> Self {
        Self {
            columns,
            first: 0,
            format,
            unit,
            score,
            extra: columns..columns,
            points: None,
            prototypes: None,
            is_suppressed: false,
            is_dense: true,
        }
    }
}

/// Whether the second output holds prototypes of this many channels.
pub(crate) fn has_prototypes(outputs: Outputs<'_>, channels: Option<usize>) -> bool {
    channels.is_none_or(|channels| outputs.shape(1, 3).is_some_and(|shape| shape[0] == channels))
}

/// Scales the coordinates of keypoints, x and y followed by `others` values each.
pub(crate) fn scale_points(values: &mut [f32], others: usize, scale: [f32; 2]) {
    for point in values.chunks_exact_mut(2 + others) {
        point[0] *= scale[0];
        point[1] *= scale[1];
    }
}

impl OutputReader for Rows {
    fn accepts(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        outputs.shape(0, 2).is_some_and(|shape| shape[1] == self.columns && (shape[0] > 0 || !self.is_dense))
            && has_prototypes(outputs, self.prototypes)
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let scale = self.unit.scale(size);
        let rows = outputs.part(0, image, 2).rows().enumerate();
        let corners = |row: &[f32]| self.format.corners(&row[self.first..self.first + 4], scale);
        match self.score {
            RowScore::Classes { first, count } => {
                for (index, row) in rows {
                    let (class, score) = best_of(&row[first..first + count]);
                    if score > threshold {
                        scratch.push(corners(row), score, class, index);
                    }
                }
            }
            // Class probabilities are at most 1: an objectness below the threshold cannot give a score above it.
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

    fn is_suppressed(&self) -> bool {
        self.is_suppressed
    }

    fn is_dense(&self) -> bool {
        self.is_dense
    }

    fn extra_values(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), index: usize) -> Vec<f32> {
        let row = outputs.part(0, image, 2).rows().nth(index);
        let mut values = row.map(|row| row[self.extra.clone()].to_vec()).unwrap_or_default();
        if let Some(others) = self.points {
            scale_points(&mut values, others, self.unit.scale(size));
        }
        values
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        statistics.is_in_pixels = self.unit == CoordinateUnit::Pixels;
        statistics.has_every_cell = self.is_dense;
        for row in outputs.views[0].rows() {
            if statistics.is_in_pixels {
                statistics.boxes(&row[self.first..self.first + 4]);
            }
            match self.score {
                RowScore::Classes { first, count } => statistics.scores(&row[first..first + count]),
                RowScore::Objectness { at, first, count } => {
                    statistics.scores([&row[at]]);
                    statistics.scores(&row[first..first + count]);
                }
                RowScore::ScoreAndClass { score, .. } => statistics.scores([&row[score]]),
            }
        }
    }
}
