// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bilinear resampling along one axis: the two samples of each output sample, and their weights.
//!
//! Pure arithmetic, as OpenCV's `INTER_LINEAR`: half-pixel centres, clamped edges; chroma planes are sampled at their own
//! resolution and siting.

/// Fraction bits of weights: 256 selects the second sample only.
pub(super) const WEIGHT_BITS: u32 = 8;
const ONE: f64 = (1 << WEIGHT_BITS) as f64;

/// One axis of one component.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    /// Pixels of the frame.
    pub frame: usize,
    /// Output samples.
    pub output: usize,
    /// Samples of the component.
    pub samples: usize,
    /// log2 of the component's subsampling.
    pub shift: u32,
    /// Position of the component's first sample, in frame pixels from the centre of the first pixel.
    pub site: f64,
}

/// Two neighbouring samples: output = (256 - weight) * sample[first] + weight * sample[second].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SamplePair {
    pub first: u32,
    /// `first` + 1, or `first` if there is only one sample.
    pub second: u32,
    /// 0 to 256.
    pub weight: u16,
}

impl Axis {
    /// Returns a pair for each output sample. `first` is at most `samples` - 2 if there are two samples or more.
    pub fn pairs(self) -> impl Iterator<Item = SamplePair> {
        let ratio = self.frame as f64 / self.output as f64;
        let last = (self.samples - 1) as f64;
        (0..self.output).map(move |index| {
            let in_frame = (index as f64 + 0.5) * ratio - 0.5;
            let position = ((in_frame - self.site) / f64::from(1u32 << self.shift)).clamp(0.0, last);
            // The last sample is always the second of a pair, so that `first` + 1 exists.
            let first = position.floor().min((last - 1.0).max(0.0));
            let weight = ((position - first) * ONE).round();
            SamplePair { first: first as u32, second: (first + 1.0).min(last) as u32, weight: weight as u16 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(frame: usize, output: usize) -> Vec<SamplePair> {
        Axis { frame, output, samples: frame, shift: 0, site: 0.0 }.pairs().collect()
    }

    #[test]
    fn a_third_of_the_size_selects_the_middle_of_three() {
        let pairs = plain(9, 3);
        assert_eq!(pairs.iter().map(|pair| pair.first).collect::<Vec<_>>(), [1, 4, 7]);
        assert!(pairs.iter().all(|pair| pair.weight == 0));
    }

    #[test]
    fn half_the_size_averages_two() {
        assert!(plain(8, 4).iter().all(|pair| pair.weight == 128));
    }

    #[test]
    fn the_same_size_changes_nothing() {
        for (index, pair) in plain(5, 5).into_iter().enumerate() {
            let selected = if pair.weight == 0 { pair.first } else { pair.second };
            assert!(selected as usize == index && pair.weight % 256 == 0, "{pair:?}");
        }
    }

    #[test]
    fn edges_are_clamped() {
        let pairs = plain(2, 4);
        assert_eq!((pairs[0].first, pairs[0].weight), (0, 0));
        assert_eq!((pairs[3].second, pairs[3].weight), (1, 256));
        assert!(plain(1, 7).iter().all(|pair| *pair == SamplePair { first: 0, second: 0, weight: 0 }));
    }

    #[test]
    fn every_index_is_inside() {
        for frame in 1..40usize {
            for output in 1..40 {
                for (shift, site) in [(0, 0.0), (1, 0.0), (1, 0.5), (2, 0.0)] {
                    let samples = frame.div_ceil(1 << shift);
                    for pair in (Axis { frame, output, samples, shift, site }).pairs() {
                        assert!((pair.second as usize) < samples && pair.first <= pair.second && pair.weight <= 256);
                        assert!(samples == 1 || pair.second == pair.first + 1);
                    }
                }
            }
        }
    }
}
