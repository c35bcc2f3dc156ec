// SPDX-License-Identifier: MIT OR Apache-2.0
//! Grids of cells, one for each stride, and the arithmetic of heads that predict one box for each cell.
//!
//! Pure functions.

/// Strides of the three levels of most detectors, in the order in which their cells are listed.
pub(crate) const STRIDES: [usize; 3] = [8, 16, 32];
/// The same with the fourth level of larger variants (P6), NanoDet-Plus and PicoDet.
pub(crate) const FOUR_STRIDES: [usize; 4] = [8, 16, 32, 64];

/// Returns the number of cells of all `strides`, with grids rounded down.
pub(crate) fn cell_count((width, height): (usize, usize), strides: &[usize]) -> usize {
    strides.iter().map(|stride| (width / stride) * (height / stride)).sum()
}

/// Returns the number of cells of all `strides`, with grids rounded up: a partial cell still predicts a box.
pub(crate) fn cell_count_up((width, height): (usize, usize), strides: &[usize]) -> usize {
    strides.iter().map(|stride| width.div_ceil(*stride) * height.div_ceil(*stride)).sum()
}

/// Returns columns and rows of the grid of one stride, rounded down.
pub(crate) fn grid((width, height): (usize, usize), stride: usize) -> (usize, usize) {
    (width / stride, height / stride)
}

/// Returns the corners of a box around a point, from the distances to its left, top, right and bottom side in strides.
pub(crate) fn sides_to_corners([x, y]: [f32; 2], stride: f32, mut sides: impl Iterator<Item = f32>) -> [f32; 4] {
    let mut next = || sides.next().unwrap_or_default() * stride;
    let (left, top, right, bottom) = (next(), next(), next(), next());
    [x - left, y - top, x + right, y + bottom]
}

/// Returns the expected bin of a distribution given as logits: the softmax-weighted mean of the bin numbers (Li et al.,
/// "Generalized Focal Loss", 2020).
pub(crate) fn expected_bin(logits: impl Iterator<Item = f32> + Clone) -> f32 {
    let greatest = logits.clone().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (bin, logit) in logits.enumerate() {
        let share = (logit - greatest).exp();
        sum += share;
        weighted += share * bin as f32;
    }
    weighted / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_bin_lies_between_two_equally_likely_ones() {
        assert_eq!(expected_bin([0.0, 60.0, 60.0, 0.0].into_iter()), 1.5);
    }
}
