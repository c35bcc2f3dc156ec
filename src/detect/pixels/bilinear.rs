//! Which two samples make each output sample, and how much of each: bilinear resampling along one axis.
//!
//! Pure arithmetic. The rule is OpenCV's `INTER_LINEAR`: half-pixel centres, edges clamped; colour planes are sampled at
//! their own resolution and siting.

/// Weights have this many fraction bits: 256 is all of the second sample.
pub(super) const WEIGHT_BITS: u32 = 8;
const ONE: f64 = (1 << WEIGHT_BITS) as f64;

/// One axis of one component.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    /// Pixels of the frame along this axis.
    pub frame: usize,
    /// Output samples along this axis.
    pub output: usize,
    /// Samples of the component along this axis.
    pub samples: usize,
    /// log2 of the component's subsampling.
    pub shift: u32,
    /// Where the component's first sample lies, in frame pixels from the first pixel's centre.
    pub site: f64,
}

/// output = (256 - weight) * sample[first] + weight * sample[second].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tap {
    pub first: u32,
    /// `first` + 1, or `first` where there is only one sample.
    pub second: u32,
    /// 0 to 256.
    pub weight: u16,
}

impl Axis {
    /// A tap for each output sample. `first` is at most `samples` - 2 where there are two samples or more.
    pub fn taps(self) -> impl Iterator<Item = Tap> {
        let ratio = self.frame as f64 / self.output as f64;
        let last = (self.samples - 1) as f64;
        (0..self.output).map(move |index| {
            let in_frame = (index as f64 + 0.5) * ratio - 0.5;
            let position = ((in_frame - self.site) / f64::from(1u32 << self.shift)).clamp(0.0, last);
            // The last sample is reached as the second of the last two, so that `first` + 1 always exists.
            let first = position.floor().min((last - 1.0).max(0.0));
            let weight = ((position - first) * ONE).round();
            Tap { first: first as u32, second: (first + 1.0).min(last) as u32, weight: weight as u16 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(frame: usize, output: usize) -> Vec<Tap> {
        Axis { frame, output, samples: frame, shift: 0, site: 0.0 }.taps().collect()
    }

    #[test]
    fn a_third_of_the_size_takes_the_middle_of_three() {
        let taps = plain(9, 3);
        assert_eq!(taps.iter().map(|tap| tap.first).collect::<Vec<_>>(), [1, 4, 7]);
        assert!(taps.iter().all(|tap| tap.weight == 0));
    }

    #[test]
    fn half_the_size_takes_the_mean_of_two() {
        assert!(plain(8, 4).iter().all(|tap| tap.weight == 128));
    }

    #[test]
    fn the_same_size_changes_nothing() {
        for (index, tap) in plain(5, 5).into_iter().enumerate() {
            let taken = if tap.weight == 0 { tap.first } else { tap.second };
            assert!(taken as usize == index && tap.weight % 256 == 0, "{tap:?}");
        }
    }

    #[test]
    fn edges_are_clamped() {
        let taps = plain(2, 4);
        assert_eq!((taps[0].first, taps[0].weight), (0, 0));
        assert_eq!((taps[3].second, taps[3].weight), (1, 256));
        assert!(plain(1, 7).iter().all(|tap| *tap == Tap { first: 0, second: 0, weight: 0 }));
    }

    #[test]
    fn every_index_is_inside() {
        for frame in 1..40usize {
            for output in 1..40 {
                for (shift, site) in [(0, 0.0), (1, 0.0), (1, 0.5), (2, 0.0)] {
                    let samples = frame.div_ceil(1 << shift);
                    for tap in (Axis { frame, output, samples, shift, site }).taps() {
                        assert!((tap.second as usize) < samples && tap.first <= tap.second && tap.weight <= 256);
                        assert!(samples == 1 || tap.second == tap.first + 1);
                    }
                }
            }
        }
    }
}
