// SPDX-License-Identifier: MIT OR Apache-2.0
//! OpenCV's fixed-point bilinear scaling of 8-bit pictures, bit for bit.
//!
//! A frame usually reaches a model through FFmpeg's conversion to 8-bit RGB and then `cv2.resize` with `INTER_LINEAR`. Models are
//! sensitive to the rounding of these steps (in a dynamically quantised model a single level can change a confidence by several
//! per cent), so the same is computed here, but only for the samples that are needed: picked from the planes, converted as in
//! swscale ([`RgbConversion`]), then blended as in OpenCV (OpenCV 4, modules/imgproc/src/resize.cpp: `resizeGeneric_`,
//! `HResizeLinear`, `VResizeLinear`). Each worker thread has its own [`OpenCvScaler`].

use super::colour::RgbConversion;
use super::letterbox::Letterbox;
use super::picture::Picture;
use super::pixel_format::{ColourModel, Component, SampleLayout};

/// OpenCV's `INTER_RESIZE_COEF_SCALE`.
const ONE: f32 = 2048.0;

/// Whether pictures of this layout are supported: 8 bits, RGB or YUV with full or half the columns of chroma.
///
/// swscale uses its fast path only for planar YUV and interpolates the chroma of NV12 and packed 4:2:2. Here these give the same
/// result as planar YUV, so that frames of hardware and software decoders give the same detections.
pub(super) fn supports(layout: &SampleLayout) -> bool {
    let is_colour = layout.colour_model == ColourModel::Rgb
        || (layout.colour_model == ColourModel::Yuv && layout.components[1].h_shift <= 1);
    layout.sample_bytes == 1 && is_colour
}

/// Two neighbouring samples and their weights, which add up to about 2048.
#[derive(Debug, Clone, Copy, Default)]
struct WeightedPair {
    first: u32,
    second: u32,
    weights: [i16; 2],
}

/// Returns the pairs for one axis. With `clamps_weight`, positions beyond the ends use the last sample only, as OpenCV does for
/// columns; for rows it keeps the weights and repeats the row, which rounds differently.
fn weighted_pairs(from: usize, to: usize, clamps_weight: bool) -> impl Iterator<Item = WeightedPair> {
    let scale = 1.0 / (to as f64 / from as f64);
    let last = from as i64 - 1;
    (0..to).map(move |index| {
        let position = ((index as f64 + 0.5) * scale - 0.5) as f32;
        let floor = position.floor();
        let (mut at, mut part) = (floor as i64, position - floor);
        if clamps_weight && (at < 0 || at >= last) {
            (at, part) = (at.clamp(0, last), 0.0);
        }
        let weight = |part: f32| (part * ONE).round_ties_even() as i16;
        WeightedPair {
            first: at.clamp(0, last) as u32,
            second: (at + 1).clamp(0, last) as u32,
            weights: [weight(1.0 - part), weight(part)],
        }
    })
}

/// Scales the rows of a picture; keeps the two source rows that it read last.
#[derive(Debug, Default)]
pub(super) struct OpenCvScaler {
    /// For the first and the second column of each pair: offsets of the three components' samples in their rows.
    offsets: [[SampleOffsets; 3]; 2],
    /// Weights of the first and the second.
    weights: [Vec<i16>; 2],
    /// Whether any second sample has a weight; pictures reduced by an odd integer need none.
    has_seconds: bool,
    rows: Vec<WeightedPair>,
    /// Samples picked for the first and the second of each pair, then their red, green and blue.
    picked: [[Vec<i16>; 3]; 2],
    /// Horizontally scaled source rows in 128ths of a level.
    scaled: [[Vec<i16>; 3]; 2],
    /// The source rows that `scaled` holds.
    held_rows: [Option<u32>; 2],
}

impl OpenCvScaler {
    /// Allocates rows and computes pairs for pictures of this layout that are scaled as in `fit`.
    pub fn configure(&mut self, layout: &SampleLayout, fit: &Letterbox) {
        let columns: Vec<WeightedPair> = weighted_pairs(fit.frame.0, fit.width, true).collect();
        for (second, offsets) in self.offsets.iter_mut().enumerate() {
            for (component, offsets) in layout.components.iter().zip(offsets) {
                // A chroma sample applies to all columns that it covers, as in swscale.
                let offset = |column: u32| (column as usize >> component.h_shift) * component.step + component.offset;
                let columns = columns.iter().map(|pair| if second == 1 { pair.second } else { pair.first });
                *offsets = SampleOffsets::new(columns.map(|column| offset(column) as u32).collect());
            }
        }
        for (index, weights) in self.weights.iter_mut().enumerate() {
            weights.clear();
            weights.extend(columns.iter().map(|pair| pair.weights[index]));
        }
        self.has_seconds = self.weights[1].iter().any(|&weight| weight != 0);
        self.rows.clear();
        self.rows.extend(weighted_pairs(fit.frame.1, fit.height, false));
        for row in self.scaled.iter_mut().chain(&mut self.picked).flatten() {
            row.clear();
            row.resize(fit.width, 0);
        }
    }

    /// Forgets the rows of the last picture.
    pub fn start(&mut self) {
        self.held_rows = [None; 2];
    }

    /// Computes output row `row` as red, green, blue in 0 to `white`. `conversion` converts formats other than RGB.
    #[inline(always)]
    pub fn row(
        &mut self,
        picture: &Picture<'_>,
        layout: &SampleLayout,
        conversion: Option<&RgbConversion>,
        row: usize,
        white: f32,
        out: [&mut [f32]; 3],
    ) {
        let WeightedPair { first, mut second, weights } = self.rows[row];
        if weights[1] == 0 {
            second = first;
        }
        let a = self.fetch(picture, layout, conversion, first, second);
        let b = if first == second { a } else { self.fetch(picture, layout, conversion, second, first) };
        for (component, out) in out.into_iter().enumerate() {
            let (a, b) = (&self.scaled[a][component], &self.scaled[b][component]);
            match (white == 1.0, weights[1] == 0) {
                (true, true) => one_row(a, out, |level| level / 255.0),
                (true, false) => blend_rows(a, b, weights, out, |level| level / 255.0),
                (false, _) => blend_rows(a, b, weights, out, |level| level * (white / 255.0)),
            }
        }
    }

    /// Returns the index in `scaled` of source row `wanted`, which is read if necessary, without replacing `other`.
    #[inline(always)]
    fn fetch(
        &mut self,
        picture: &Picture<'_>,
        layout: &SampleLayout,
        conversion: Option<&RgbConversion>,
        wanted: u32,
        other: u32,
    ) -> usize {
        if let Some(place) = self.held_rows.iter().position(|&held| held == Some(wanted)) {
            return place;
        }
        let place = usize::from(self.held_rows[0] == Some(other));
        let source = |component: &Component| {
            let samples = layout.plane_extent(component.plane, picture.width(), picture.height()).0;
            picture.row(component.plane, wanted as usize >> component.v_shift, samples)
        };
        let used = if self.has_seconds { 2 } else { 1 };
        for (offsets, picked) in self.offsets.iter().zip(&mut self.picked).take(used) {
            for ((component, offsets), picked) in layout.components.iter().zip(offsets).zip(picked.iter_mut()) {
                pick(source(component), offsets, picked);
            }
            if let Some(conversion) = conversion {
                let [y, u, v] = picked;
                conversion.convert([y, u, v]);
            }
        }
        let [firsts, seconds] = &self.picked;
        for ((out, first), second) in self.scaled[place].iter_mut().zip(firsts).zip(seconds) {
            if self.has_seconds {
                blend_columns(first, second, &self.weights, out);
            } else {
                // The weight is 2048; the division by 16 is already included.
                out.iter_mut().zip(first).for_each(|(out, &level)| *out = level << 7);
            }
        }
        self.held_rows[place] = Some(wanted);
        place
    }
}

/// Offsets of the samples that are picked from a row.
#[derive(Debug)]
enum SampleOffsets {
    /// `first` and every `step` from there: pictures reduced by an integer.
    Strided { first: usize, step: usize },
    /// Alternately `first` and `second` and every `step` from there: chroma of pictures reduced by three.
    Alternating { first: usize, second: usize, step: usize },
    /// Any offsets.
    Indexed(Vec<u32>),
}

impl Default for SampleOffsets {
    fn default() -> Self {
        Self::Indexed(Vec::new())
    }
}

impl SampleOffsets {
    fn new(list: Vec<u32>) -> Self {
        let has_period = |period: usize| {
            let step = list.get(period).and_then(|later| later.checked_sub(list[0])).filter(|&step| step > 0);
            step.filter(|&step| list.iter().zip(&list[period..]).all(|(a, b)| a + step == *b))
        };
        if let Some(step) = has_period(1).filter(|step| (1..=MAX_STEP).contains(step)) {
            return Self::Strided { first: list[0] as usize, step: step as usize };
        }
        if list.len() > 2
            && let Some(step) = has_period(2).filter(|step| (1..=MAX_STEP).contains(step))
        {
            return Self::Alternating { first: list[0] as usize, second: list[1] as usize, step: step as usize };
        }
        Self::Indexed(list)
    }
}

/// Longest step with a specialised loop.
const MAX_STEP: u32 = 4;

#[inline(always)]
fn pick(source: &[u8], offsets: &SampleOffsets, out: &mut [i16]) {
    match *offsets {
        SampleOffsets::Strided { first, step: 1 } => {
            out.iter_mut().zip(&source[first..]).for_each(|(out, &sample)| *out = i16::from(sample));
        }
        SampleOffsets::Strided { first, step: 2 } => strided::<2>(source, first, out),
        SampleOffsets::Strided { first, step: 3 } => strided::<3>(source, first, out),
        SampleOffsets::Strided { first, .. } => strided::<4>(source, first, out),
        SampleOffsets::Alternating { first, second, step: 1 } => alternating::<1>(source, first, second, out),
        SampleOffsets::Alternating { first, second, step: 2 } => alternating::<2>(source, first, second, out),
        SampleOffsets::Alternating { first, second, step: 3 } => alternating::<3>(source, first, second, out),
        SampleOffsets::Alternating { first, second, .. } => alternating::<4>(source, first, second, out),
        SampleOffsets::Indexed(ref offsets) => {
            for (out, &place) in out.iter_mut().zip(offsets) {
                *out = i16::from(source[place as usize]);
            }
        }
    }
}

#[inline(always)]
fn strided<const STEP: usize>(source: &[u8], first: usize, out: &mut [i16]) {
    let source = &source[first..];
    let (groups, rest) = source.as_chunks::<STEP>();
    for (out, group) in out.iter_mut().zip(groups) {
        *out = i16::from(group[0]);
    }
    // The last group may be incomplete.
    if let (Some(last), Some(&sample)) = (out.get_mut(groups.len()), rest.first()) {
        *last = i16::from(sample);
    }
}

#[inline(always)]
fn alternating<const STEP: usize>(source: &[u8], first: usize, second: usize, out: &mut [i16]) {
    let (firsts, _) = source[first..].as_chunks::<STEP>();
    let (seconds, _) = source[second..].as_chunks::<STEP>();
    let (pairs, _) = out.as_chunks_mut::<2>();
    let whole = pairs.len().min(firsts.len()).min(seconds.len());
    for ((pair, a), b) in pairs[..whole].iter_mut().zip(&firsts[..whole]).zip(&seconds[..whole]) {
        *pair = [i16::from(a[0]), i16::from(b[0])];
    }
    // The last groups may be incomplete.
    for (index, out) in out.iter_mut().enumerate().skip(2 * whole) {
        let start = if index % 2 == 0 { first } else { second };
        *out = i16::from(source[start + index / 2 * STEP]);
    }
}

/// `HResizeLinear`, and the first shift of `VResizeLinear`.
#[inline(always)]
fn blend_columns(first: &[i16], second: &[i16], weights: &[Vec<i16>; 2], out: &mut [i16]) {
    let length = out.len();
    let (first, second) = (&first[..length], &second[..length]);
    let (a, b) = (&weights[0][..length], &weights[1][..length]);
    for i in 0..length {
        let sum = i32::from(first[i]) * i32::from(a[i]) + i32::from(second[i]) * i32::from(b[i]);
        out[i] = (sum >> 4) as i16;
    }
}

/// `VResizeLinear` for bytes, then `finish` on the integer level.
#[inline(always)]
fn blend_rows(a: &[i16], b: &[i16], weights: [i16; 2], out: &mut [f32], finish: impl Fn(f32) -> f32) {
    let high = |value: i16, weight: i16| ((i32::from(value) * i32::from(weight)) >> 16) as i16;
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        let level = (high(a, weights[0]) + high(b, weights[1]) + 2) >> 2;
        *out = finish(f32::from(level));
    }
}

/// [`blend_rows`] for a first row with the whole weight.
#[inline(always)]
fn one_row(a: &[i16], out: &mut [f32], finish: impl Fn(f32) -> f32) {
    for (out, &a) in out.iter_mut().zip(a) {
        *out = finish(f32::from(((a >> 5) + 2) >> 2));
    }
}
