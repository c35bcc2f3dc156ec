//! What the worker asks of a family: check the outputs, read them, and survey their values for sanity checks.

use std::fmt;

use crate::detect::layouts::decoder::Outputs;
use crate::detect::layouts::nms::Candidate;
use crate::detect::onnx::tensor::OutputView;

/// Reads one family's outputs. Nothing but [`is_readable`](Self::is_readable) checks shapes.
pub(crate) trait Reader: fmt::Debug + Send + Sync {
    /// Whether outputs of these shapes can be read for an input of this size; models with free shapes may change them from
    /// run to run.
    fn is_readable(&self, outputs: Outputs<'_>, size: (usize, usize)) -> bool;

    /// Adds the boxes of image `image` with a score over `threshold`, in pixels of the `size` of the input.
    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch);

    /// Whether overlapping boxes are already suppressed.
    fn is_finished(&self) -> bool;

    /// Whether there is a value for each cell of the input, so that the outputs are as long for every picture.
    fn is_dense(&self) -> bool {
        false
    }

    /// The values of a task beside boxes (mask coefficients, keypoints, angle) of the candidate with this index.
    fn extra(&self, _outputs: Outputs<'_>, _image: usize, _size: (usize, usize), _index: usize) -> Vec<f32> {
        Vec::new()
    }

    /// Shows the values of a run.
    fn survey(&self, outputs: Outputs<'_>, size: (usize, usize), survey: &mut Survey);

    /// The probabilities of a whole picture's classes, of models that find no boxes.
    fn classes<'a>(&self, _outputs: Outputs<'a>, _image: usize) -> Option<&'a [f32]> {
        None
    }
}

/// Memory that is used again for each image.
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
pub(crate) struct Survey {
    pub least_score: f32,
    pub most_score: f32,
    /// The largest coordinate of a box as pixels, by its absolute value; 0 where boxes are not in pixels yet.
    pub farthest: f32,
    /// Whether boxes that are all of next to no size are a sign of coordinates in shares.
    pub is_in_pixels: bool,
    /// Whether scores of nothing but 0 are a fault: not so where lists are padded.
    pub has_every_cell: bool,
}

impl Default for Survey {
    fn default() -> Self {
        Self {
            least_score: f32::INFINITY,
            most_score: f32::NEG_INFINITY,
            farthest: 0.0,
            is_in_pixels: false,
            has_every_cell: false,
        }
    }
}

impl Survey {
    /// Takes scores.
    pub fn scores<'a>(&mut self, scores: impl IntoIterator<Item = &'a f32>) {
        let (mut least, mut most) = (self.least_score, self.most_score);
        for &score in scores {
            least = least.min(score);
            most = most.max(score);
        }
        (self.least_score, self.most_score) = (least, most);
    }

    /// Takes coordinates of boxes.
    pub fn boxes<'a>(&mut self, values: impl IntoIterator<Item = &'a f32>) {
        self.farthest = values.into_iter().fold(self.farthest, |farthest, value| farthest.max(value.abs()));
    }
}

impl<'a> Outputs<'a> {
    /// The shape of output `index` without the batch's dimension, if what remains has `rank` dimensions.
    pub(crate) fn shape(&self, index: usize, rank: usize) -> Option<&'a [usize]> {
        let shape = self.views.get(index)?.shape;
        match shape.len().checked_sub(rank)? {
            0 if self.images == 1 => Some(shape),
            1 if shape[0] == self.images => Some(&shape[1..]),
            _ => None,
        }
    }

    /// Output `index` of image `image`, with `rank` dimensions.
    pub(crate) fn part(&self, index: usize, image: usize, rank: usize) -> OutputView<'a> {
        self.views[index].image(image, self.images, rank)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// An output.
    pub fn view<'a>(shape: &'a [usize], values: &'a [f32]) -> OutputView<'a> {
        OutputView { shape, values }
    }

    /// Class, score and corners of what is found for a 64x64 input, by falling score.
    pub fn read(reader: &dyn Reader, views: &[OutputView<'_>], threshold: f32) -> Vec<(u32, f32, [f32; 4])> {
        let outputs = Outputs { views, images: 1 };
        assert!(reader.is_readable(outputs, (64, 64)), "{reader:?}");
        let mut scratch = Scratch::default();
        reader.read(outputs, 0, (64, 64), threshold, &mut scratch);
        scratch.candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        scratch.candidates.iter().map(|found| (found.class_id, found.score, found.corners)).collect()
    }
}
