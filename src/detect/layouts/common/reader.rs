// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interface between a family and the worker: check the outputs, read their boxes, collect statistics for sanity checks.

use std::fmt;

use crate::detect::layouts::nms::Candidate;
use crate::detect::onnx::tensor::OutputView;

/// The outputs of a run, in the order that the layout's reader expects.
#[derive(Debug, Clone, Copy)]
pub struct Outputs<'a> {
    /// The outputs.
    pub views: &'a [OutputView<'a>],
    /// Number of images in the run.
    pub images: usize,
}

impl<'a> Outputs<'a> {
    /// Returns the shape of output `index` without the batch, if `rank` dimensions remain.
    pub(crate) fn shape(&self, index: usize, rank: usize) -> Option<&'a [usize]> {
        let shape = self.views.get(index)?.shape;
        match shape.len().checked_sub(rank)? {
            0 if self.images == 1 => Some(shape),
            1 if shape[0] == self.images => Some(&shape[1..]),
            _ => None,
        }
    }

    /// Whether output `index` can be split by image. A list without a batch dimension belongs to a single image.
    pub(crate) fn are_separable(&self, index: usize) -> bool {
        let has_batch = |view: &OutputView<'_>| view.shape.len() > 2 && view.shape[0] == self.images;
        self.images == 1 || self.images > 1 && self.views.get(index).is_some_and(has_batch)
    }

    /// Returns output `index` of image `image`, with `rank` dimensions.
    pub(crate) fn part(&self, index: usize, image: usize, rank: usize) -> OutputView<'a> {
        self.views[index].image(image, self.images, rank)
    }
}

/// Reads the outputs of one family. Only [`accepts`](Self::accepts) checks shapes; the other methods rely on it.
pub(crate) trait OutputReader: fmt::Debug + Send + Sync {
    /// Whether outputs of these shapes can be read for an input of this size. Models with dynamic shapes may change them from
    /// run to run.
    fn accepts(&self, outputs: Outputs<'_>, size: (usize, usize)) -> bool;

    /// Adds the boxes of image `image` with a score above `threshold` to `scratch`, in pixels of an input of `size`.
    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch);

    /// Whether overlapping boxes are already suppressed.
    fn is_suppressed(&self) -> bool;

    /// Whether there is a value for each cell of the input, so that the outputs have the same length for every picture.
    fn is_dense(&self) -> bool {
        false
    }

    /// Returns what the task adds to the candidate with this index: mask coefficients, keypoints or an angle.
    fn extra_values(&self, _outputs: Outputs<'_>, _image: usize, _size: (usize, usize), _index: usize) -> Vec<f32> {
        Vec::new()
    }

    /// Adds the values of a run to `statistics`.
    fn collect(&self, outputs: Outputs<'_>, size: (usize, usize), statistics: &mut OutputStatistics);

    /// Returns the class scores of the whole picture, for classifiers.
    fn class_scores<'a>(&self, _outputs: Outputs<'a>, _image: usize) -> Option<&'a [f32]> {
        None
    }
}

/// Memory that is reused for each image.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The best score of each cell.
    pub best: Vec<f32>,
    pub candidates: Vec<Candidate>,
}

impl Scratch {
    /// Adds a box.
    #[inline]
    pub fn push(&mut self, corners: [f32; 4], score: f32, class_id: u32, index: usize) {
        self.candidates.push(Candidate { corners, score, class_id, index: index as u32 });
    }
}

/// The ranges of the values of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutputStatistics {
    pub min_score: f32,
    pub max_score: f32,
    /// Largest absolute coordinate of a box in pixels; 0 if boxes are not in pixels yet.
    pub max_coordinate: f32,
    /// Whether boxes are in pixels, so that very small ones indicate normalised coordinates.
    pub is_in_pixels: bool,
    /// Whether there is a score for each cell, so that all of them being 0 is a fault. Padded lists may hold zeros only.
    pub has_every_cell: bool,
}

impl Default for OutputStatistics {
    fn default() -> Self {
        Self {
            min_score: f32::INFINITY,
            max_score: f32::NEG_INFINITY,
            max_coordinate: 0.0,
            is_in_pixels: false,
            has_every_cell: false,
        }
    }
}

impl OutputStatistics {
    /// Adds scores.
    pub fn scores<'a>(&mut self, scores: impl IntoIterator<Item = &'a f32>) {
        let (mut min, mut max) = (self.min_score, self.max_score);
        for &score in scores {
            min = min.min(score);
            max = max.max(score);
        }
        (self.min_score, self.max_score) = (min, max);
    }

    /// Adds coordinates of boxes.
    pub fn boxes<'a>(&mut self, values: impl IntoIterator<Item = &'a f32>) {
        self.max_coordinate = values.into_iter().fold(self.max_coordinate, |max, value| max.max(value.abs()));
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Makes an output.
    pub fn view<'a>(shape: &'a [usize], values: &'a [f32]) -> OutputView<'a> {
        OutputView { shape, values }
    }

    /// Returns class, score and corners of what is found for a 64x64 input, by falling score.
    pub fn read(reader: &dyn OutputReader, views: &[OutputView<'_>], threshold: f32) -> Vec<(u32, f32, [f32; 4])> {
        let outputs = Outputs { views, images: 1 };
        assert!(reader.accepts(outputs, (64, 64)), "{reader:?}");
        let mut scratch = Scratch::default();
        reader.read(outputs, 0, (64, 64), threshold, &mut scratch);
        scratch.candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        scratch.candidates.iter().map(|found| (found.class_id, found.score, found.corners)).collect()
    }
}
