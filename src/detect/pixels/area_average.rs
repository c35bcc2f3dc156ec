// SPDX-License-Identifier: MIT OR Apache-2.0
//! Area averaging: each output pixel is the mean of all pixels that it covers, for strong reductions.
//!
//! Owns the spans of source samples and the sums of a row; knows nothing of colours. An axis along which a component is not
//! reduced is scaled bilinearly. Half-pixel centres, chroma planes at their own resolution and siting, as OpenCV's `INTER_AREA`
//! on each plane.

use super::bilinear::{Axis, WEIGHT_BITS};
use super::colour::FRACTION_BITS;
use super::letterbox::Letterbox;
use super::picture::Picture;
use super::pixel_format::SampleLayout;

/// The consecutive samples of each output sample along one axis, and their weights.
#[derive(Debug, Default)]
struct Spans {
    /// For each output sample: its first sample, and the index of its first weight.
    starts: Vec<(u32, u32)>,
    /// Weights; those of an output sample add up to 1.
    weights: Vec<f32>,
}

impl Spans {
    fn configure(&mut self, axis: Axis) {
        self.starts.clear();
        self.weights.clear();
        let step = f64::from(1u32 << axis.shift);
        let ratio = axis.frame as f64 / axis.output as f64;
        if ratio <= step {
            for pair in axis.pairs() {
                let weight = f32::from(pair.weight) / (1 << WEIGHT_BITS) as f32;
                self.starts.push((pair.first, self.weights.len() as u32));
                self.weights.push(1.0 - weight);
                if pair.second > pair.first {
                    self.weights.push(weight);
                }
            }
            return;
        }
        // Sample k covers k to k + 1; its centre is `site` + k * `step` frame pixels from that of the first pixel.
        let edge = |index: usize| {
            let in_frame = index as f64 * ratio - 0.5;
            ((in_frame - axis.site) / step + 0.5).clamp(0.0, axis.samples as f64)
        };
        for index in 0..axis.output {
            let (begin, end) = (edge(index), edge(index + 1));
            let first = (begin.floor() as usize).min(axis.samples - 1);
            let last = (end.ceil() as usize).clamp(first + 1, axis.samples);
            self.starts.push((first as u32, self.weights.len() as u32));
            let from = self.weights.len();
            self.weights.extend((first..last).map(|sample| {
                let covered = end.min(sample as f64 + 1.0) - begin.max(sample as f64);
                covered.max(0.0) as f32
            }));
            let sum: f32 = self.weights[from..].iter().sum();
            match sum > 0.0 {
                true => self.weights[from..].iter_mut().for_each(|weight| *weight /= sum),
                false => self.weights[from] = 1.0,
            }
        }
    }

    /// Returns the first sample of output sample `index`, and its weights.
    fn of(&self, index: usize) -> (usize, &[f32]) {
        let (first, begin) = self.starts[index];
        let end = self.starts.get(index + 1).map_or(self.weights.len(), |next| next.1 as usize);
        (first as usize, &self.weights[begin as usize..end])
    }
}

/// Scales components row by row; keeps the spans of the last geometry.
#[derive(Debug, Default)]
pub(super) struct AreaScaler {
    columns: [Spans; 3],
    rows: [Spans; 4],
    samples: [usize; 4],
    /// The mean of the source rows of one output row.
    mean: Vec<f32>,
}

impl AreaScaler {
    /// Computes the spans for pictures of `layout` that are scaled as in `fit`; `sites` returns the position of a component's first
    /// sample.
    pub fn configure(&mut self, layout: &SampleLayout, fit: &Letterbox, sites: impl Fn(u32) -> (f64, f64)) {
        let (width, height) = fit.frame;
        for (component, columns) in layout.used().iter().zip(&mut self.columns) {
            let (across, down) = component.size(width, height);
            let (site_x, site_y) = sites(component.v_shift);
            let axis = |frame, output, samples, shift, site| Axis { frame, output, samples, shift, site };
            columns.configure(axis(width, fit.width, across, component.h_shift, site_x));
            self.rows[component.plane].configure(axis(height, fit.height, down, component.v_shift, site_y));
            self.samples[component.plane] = layout.plane_extent(component.plane, width, height).0;
        }
    }

    /// Computes output row `row` of each component, in 8-bit units with [`FRACTION_BITS`] fraction bits.
    #[inline(always)]
    pub fn row(&mut self, picture: &Picture<'_>, layout: &SampleLayout, row: usize, out: &mut [Vec<i32>; 3]) {
        let mut mean_of = None;
        for (index, component) in layout.used().iter().enumerate() {
            let plane = component.plane;
            if mean_of.replace(plane) != Some(plane) {
                let samples = self.samples[plane];
                self.mean.clear();
                self.mean.resize(samples, 0.0);
                let (first, weights) = self.rows[plane].of(row);
                for (line, &weight) in weights.iter().enumerate() {
                    let bytes = picture.row(plane, first + line, samples * layout.sample_bytes);
                    if layout.sample_bytes == 1 {
                        for (sum, &byte) in self.mean.iter_mut().zip(bytes) {
                            *sum += weight * f32::from(byte);
                        }
                    } else {
                        // Shifted left by `left_shift`, samples have 16 bits; one 8-bit level is 256 of these.
                        let weight = weight * (1u32 << layout.left_shift) as f32 / 256.0;
                        for (sum, word) in self.mean.iter_mut().zip(bytes.as_chunks::<2>().0) {
                            *sum += weight * f32::from(u16::from_le_bytes(*word));
                        }
                    }
                }
            }
            let columns = &self.columns[index];
            for (column, out) in out[index].iter_mut().enumerate() {
                let (first, weights) = columns.of(column);
                let samples = self.mean[first * component.step + component.offset..].iter().step_by(component.step);
                let sum: f32 = samples.zip(weights).map(|(sample, weight)| sample * weight).sum();
                *out = (sum * (1u32 << FRACTION_BITS) as f32) as i32;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::super::input_format::{ChannelOrder, Filter, InputFormat, SlotMut};
    use super::super::letterbox::ResizeMode;
    use super::super::picture::{Matrix, Plane, Range};
    use super::super::pixel_format::PixelFormat;
    use super::super::preparer::Preparer;
    use super::*;

    fn spans(axis: Axis) -> Spans {
        let mut spans = Spans::default();
        spans.configure(axis);
        spans
    }

    #[test]
    fn a_third_of_the_size_is_the_mean_of_three() {
        let spans = spans(Axis { frame: 9, output: 3, samples: 9, shift: 0, site: 0.0 });
        for index in 0..3 {
            let (first, weights) = spans.of(index);
            assert_eq!((first, weights.len()), (3 * index, 3));
            assert!(weights.iter().all(|weight| (weight - 1.0 / 3.0).abs() < 1e-6), "{weights:?}");
        }
    }

    #[test]
    fn parts_of_samples_count_as_parts() {
        // 5 samples to 2: each output covers two and a half.
        let spans = spans(Axis { frame: 5, output: 2, samples: 5, shift: 0, site: 0.0 });
        assert_eq!(spans.of(0), (0, &[0.4, 0.4, 0.2][..]));
        assert_eq!(spans.of(1), (2, &[0.2, 0.4, 0.4][..]));
    }

    #[test]
    fn every_sample_is_inside_and_weights_add_up_to_one() {
        for frame in 1..40usize {
            for output in 1..40 {
                for (shift, site) in [(0, 0.0), (1, 0.0), (1, 0.5), (2, 0.0), (2, 1.5)] {
                    let samples = frame.div_ceil(1 << shift);
                    let spans = spans(Axis { frame, output, samples, shift, site });
                    for index in 0..output {
                        let (first, weights) = spans.of(index);
                        assert!(first + weights.len() <= samples && !weights.is_empty());
                        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{weights:?}");
                    }
                }
            }
        }
    }

    /// Blocks of 3 by 3 pixels of an RGB picture, and of 6 by 6 pixels of an I420 one.
    #[test]
    fn whole_blocks_become_their_mean() {
        let format = InputFormat {
            width: 4,
            height: 2,
            order: ChannelOrder::Rgb,
            white: 255.0,
            resize_mode: ResizeMode::Stretch,
            channels_last: false,
            is_grey: false,
            normalise: None,
            filter: Filter::Area,
        };
        let prepared = |picture: &Picture<'_>| {
            let mut slot = vec![f32::NAN; 24];
            Preparer::default().prepare(picture, &format, SlotMut::F32(&mut slot), &mut None);
            slot
        };
        let value = |x: usize, y: usize, channel: usize| ((x * 37 + y * 91 + channel * 53) % 256) as u8;
        let rgb: Vec<u8> =
            (0..6).flat_map(|y| (0..12).flat_map(move |x| (0..3).map(move |c| value(x, y, c)))).collect();
        let plane = [Plane { data: &rgb, stride: 36 }];
        let ours = prepared(&Picture::new(PixelFormat::Rgb, 12, 6, &plane, Matrix::Bt601, Range::Full).unwrap());
        for (index, ours) in ours.into_iter().enumerate() {
            let (channel, y, x) = (index / 8, index / 4 % 2, index % 4);
            let block = (0..9).map(|i| f32::from(value(x * 3 + i % 3, y * 3 + i / 3, channel)));
            let mean = block.sum::<f32>() / 9.0;
            assert!((ours - mean).abs() < 0.01, "{index}: {ours} {mean}");
        }
        let luma: Vec<u8> = (0..24 * 12).map(|i| value(i % 24, i / 24, 0)).collect();
        let grey = [128; 12 * 6];
        let planes = [(&luma[..], 24), (&grey[..], 12), (&grey[..], 12)].map(|(data, stride)| Plane { data, stride });
        let ours = prepared(&Picture::new(PixelFormat::I420, 24, 12, &planes, Matrix::Bt601, Range::Full).unwrap());
        for (index, ours) in ours.into_iter().enumerate() {
            let (y, x) = (index / 4 % 2, index % 4);
            let block = (0..36).map(|i| f32::from(value(x * 6 + i % 6, y * 6 + i / 6, 0)));
            let mean = block.sum::<f32>() / 36.0;
            assert!((ours - mean).abs() < 0.1, "{index}: {ours} {mean}");
        }
    }
}
