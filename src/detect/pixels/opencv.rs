//! Scaling of 8-bit pictures with the arithmetic of the tools that models are trained and measured with, bit for bit.
//!
//! A frame usually reaches a model through FFmpeg's conversion to 8-bit RGB and then `cv2.resize` with `INTER_LINEAR`.
//! Models are sensitive to how these round (a dynamically quantised one turns a single level into several per cent of
//! confidence), so the same is computed here, but only for the samples that are needed: picked from the planes, converted as
//! swscale does ([`Levels`]), then blended as OpenCV does (OpenCV 4, modules/imgproc/src/resize.cpp: `resizeGeneric_`,
//! `HResizeLinear`, `VResizeLinear`). One [`ExactScaler`] for each worker thread.

use super::colour::Levels;
use super::letterbox::Letterbox;
use super::picture::Picture;
use super::pixel_format::{Component, Family, Layout};

/// OpenCV's `INTER_RESIZE_COEF_SCALE`.
const ONE: f32 = 2048.0;

/// Whether pictures of this layout go this way: 8 bits, RGB or YUV with full or half the columns of chroma.
///
/// swscale takes its fast way only for planar YUV and interpolates the chroma of NV12 and packed 4:2:2; here they give what
/// the same picture in planes gives, so that a hardware decoder's frames are seen as a software decoder's.
pub(super) fn is_exact(layout: &Layout) -> bool {
    let is_colour = layout.family == Family::Rgb || (layout.family == Family::Yuv && layout.components[1].h_shift <= 1);
    layout.sample_bytes == 1 && is_colour
}

/// Two neighbouring samples and their weights, which add up to about 2048.
#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    first: u32,
    second: u32,
    weights: [i16; 2],
}

/// Pairs for one axis. With `clamps_weight` positions beyond the ends take the end alone, as OpenCV does for columns; for
/// rows it keeps the weights and repeats the row, which rounds differently.
fn pairs(from: usize, to: usize, clamps_weight: bool) -> impl Iterator<Item = Pair> {
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
        Pair {
            first: at.clamp(0, last) as u32,
            second: (at + 1).clamp(0, last) as u32,
            weights: [weight(1.0 - part), weight(part)],
        }
    })
}

/// Scales rows of one geometry; keeps the two source rows that it read last.
#[derive(Debug, Default)]
pub(super) struct ExactScaler {
    /// For the first and the second of each pair of columns: where the three components' samples are in their rows.
    places: [[Places; 3]; 2],
    /// Weights of the first and the second.
    weights: [Vec<i16>; 2],
    /// Whether any second sample counts; pictures scaled by an odd whole number need none.
    has_seconds: bool,
    rows: Vec<Pair>,
    /// Samples picked for the first and the second of each pair, then their red, green and blue.
    picked: [[Vec<i16>; 3]; 2],
    /// Horizontally scaled source rows in 128ths of a level.
    scaled: [[Vec<i16>; 3]; 2],
    /// Which source rows they are.
    holds: [Option<u32>; 2],
}

impl ExactScaler {
    /// Makes room and pairs for pictures of this layout that go to `fit`.
    pub fn learn(&mut self, layout: &Layout, fit: &Letterbox) {
        let columns: Vec<Pair> = pairs(fit.frame.0, fit.width, true).collect();
        for (second, places) in self.places.iter_mut().enumerate() {
            for (component, places) in layout.components.iter().zip(places) {
                // A chroma sample serves all columns over it, as in swscale.
                let place = |column: u32| (column as usize >> component.h_shift) * component.step + component.offset;
                let columns = columns.iter().map(|pair| if second == 1 { pair.second } else { pair.first });
                *places = Places::new(columns.map(|column| place(column) as u32).collect());
            }
        }
        for (index, weights) in self.weights.iter_mut().enumerate() {
            weights.clear();
            weights.extend(columns.iter().map(|pair| pair.weights[index]));
        }
        self.has_seconds = self.weights[1].iter().any(|&weight| weight != 0);
        self.rows.clear();
        self.rows.extend(pairs(fit.frame.1, fit.height, false));
        for row in self.scaled.iter_mut().chain(&mut self.picked).flatten() {
            row.clear();
            row.resize(fit.width, 0);
        }
    }

    /// Forgets the rows of the last picture.
    pub fn start(&mut self) {
        self.holds = [None; 2];
    }

    /// Output row `row` as red, green, blue in 0 to `white`. `levels` converts what is not RGB.
    #[inline(always)]
    pub fn row(
        &mut self,
        picture: &Picture<'_>,
        layout: &Layout,
        levels: Option<&Levels>,
        row: usize,
        white: f32,
        out: [&mut [f32]; 3],
    ) {
        let Pair { first, mut second, weights } = self.rows[row];
        if weights[1] == 0 {
            second = first;
        }
        let a = self.fetch(picture, layout, levels, first, second);
        let b = if first == second { a } else { self.fetch(picture, layout, levels, second, first) };
        for (component, out) in out.into_iter().enumerate() {
            let (a, b) = (&self.scaled[a][component], &self.scaled[b][component]);
            match (white == 1.0, weights[1] == 0) {
                (true, true) => one_row(a, out, |level| level / 255.0),
                (true, false) => blend_rows(a, b, weights, out, |level| level / 255.0),
                (false, _) => blend_rows(a, b, weights, out, |level| level * (white / 255.0)),
            }
        }
    }

    /// The place that holds source row `wanted`, filled if need be without losing `other`.
    #[inline(always)]
    fn fetch(
        &mut self,
        picture: &Picture<'_>,
        layout: &Layout,
        levels: Option<&Levels>,
        wanted: u32,
        other: u32,
    ) -> usize {
        if let Some(place) = self.holds.iter().position(|&held| held == Some(wanted)) {
            return place;
        }
        let place = usize::from(self.holds[0] == Some(other));
        let source = |component: &Component| {
            let samples = layout.plane_extent(component.plane, picture.width(), picture.height()).0;
            picture.row(component.plane, wanted as usize >> component.v_shift, samples)
        };
        let used = if self.has_seconds { 2 } else { 1 };
        for (places, picked) in self.places.iter().zip(&mut self.picked).take(used) {
            for ((component, places), picked) in layout.components.iter().zip(places).zip(picked.iter_mut()) {
                pick(source(component), places, picked);
            }
            if let Some(levels) = levels {
                let [y, u, v] = picked;
                levels.convert([y, u, v]);
            }
        }
        let [firsts, seconds] = &self.picked;
        for ((out, first), second) in self.scaled[place].iter_mut().zip(firsts).zip(seconds) {
            if self.has_seconds {
                blend_columns(first, second, &self.weights, out);
            } else {
                // The weight is all of 2048, and 16 of it go at once.
                out.iter_mut().zip(first).for_each(|(out, &level)| *out = level << 7);
            }
        }
        self.holds[place] = Some(wanted);
        place
    }
}

/// Where the samples of a row are picked.
#[derive(Debug)]
enum Places {
    /// At `first` and every `step` from there, as pictures scaled by a whole number have them.
    Stepped { first: usize, step: usize },
    /// In turn at `first` and `second` and every `step` from there: chroma of pictures scaled by three.
    InTurn { first: usize, second: usize, step: usize },
    /// Anywhere.
    Listed(Vec<u32>),
}

impl Default for Places {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl Places {
    fn new(list: Vec<u32>) -> Self {
        let has_period = |period: usize| {
            let step = list.get(period).and_then(|later| later.checked_sub(list[0])).filter(|&step| step > 0);
            step.filter(|&step| list.iter().zip(&list[period..]).all(|(a, b)| a + step == *b))
        };
        if let Some(step) = has_period(1).filter(|step| (1..=MAX_STEP).contains(step)) {
            return Self::Stepped { first: list[0] as usize, step: step as usize };
        }
        if list.len() > 2
            && let Some(step) = has_period(2).filter(|step| (1..=MAX_STEP).contains(step))
        {
            return Self::InTurn { first: list[0] as usize, second: list[1] as usize, step: step as usize };
        }
        Self::Listed(list)
    }
}

/// Longest step with a loop of its own.
const MAX_STEP: u32 = 4;

#[inline(always)]
fn pick(source: &[u8], places: &Places, out: &mut [i16]) {
    match *places {
        Places::Stepped { first, step: 1 } => {
            out.iter_mut().zip(&source[first..]).for_each(|(out, &sample)| *out = i16::from(sample));
        }
        Places::Stepped { first, step: 2 } => stepped::<2>(source, first, out),
        Places::Stepped { first, step: 3 } => stepped::<3>(source, first, out),
        Places::Stepped { first, .. } => stepped::<4>(source, first, out),
        Places::InTurn { first, second, step: 1 } => in_turn::<1>(source, first, second, out),
        Places::InTurn { first, second, step: 2 } => in_turn::<2>(source, first, second, out),
        Places::InTurn { first, second, step: 3 } => in_turn::<3>(source, first, second, out),
        Places::InTurn { first, second, .. } => in_turn::<4>(source, first, second, out),
        Places::Listed(ref places) => {
            for (out, &place) in out.iter_mut().zip(places) {
                *out = i16::from(source[place as usize]);
            }
        }
    }
}

#[inline(always)]
fn stepped<const STEP: usize>(source: &[u8], first: usize, out: &mut [i16]) {
    let source = &source[first..];
    let (groups, rest) = source.as_chunks::<STEP>();
    for (out, group) in out.iter_mut().zip(groups) {
        *out = i16::from(group[0]);
    }
    // The last sample may have none behind it.
    if let (Some(last), Some(&sample)) = (out.get_mut(groups.len()), rest.first()) {
        *last = i16::from(sample);
    }
}

#[inline(always)]
fn in_turn<const STEP: usize>(source: &[u8], first: usize, second: usize, out: &mut [i16]) {
    let (firsts, _) = source[first..].as_chunks::<STEP>();
    let (seconds, _) = source[second..].as_chunks::<STEP>();
    let (pairs, _) = out.as_chunks_mut::<2>();
    let whole = pairs.len().min(firsts.len()).min(seconds.len());
    for ((pair, a), b) in pairs[..whole].iter_mut().zip(&firsts[..whole]).zip(&seconds[..whole]) {
        *pair = [i16::from(a[0]), i16::from(b[0])];
    }
    // The last samples may have none behind them.
    for (index, out) in out.iter_mut().enumerate().skip(2 * whole) {
        let start = if index % 2 == 0 { first } else { second };
        *out = i16::from(source[start + index / 2 * STEP]);
    }
}

/// `HResizeLinear` and the shift that `VResizeLinear` begins with.
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

/// `VResizeLinear` for bytes, then `finish` on the whole level.
#[inline(always)]
fn blend_rows(a: &[i16], b: &[i16], weights: [i16; 2], out: &mut [f32], finish: impl Fn(f32) -> f32) {
    let high = |value: i16, weight: i16| ((i32::from(value) * i32::from(weight)) >> 16) as i16;
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        let level = (high(a, weights[0]) + high(b, weights[1]) + 2) >> 2;
        *out = finish(f32::from(level));
    }
}

/// [`blend_rows`] where all of the weight is the first row's.
#[inline(always)]
fn one_row(a: &[i16], out: &mut [f32], finish: impl Fn(f32) -> f32) {
    for (out, &a) in out.iter_mut().zip(a) {
        *out = finish(f32::from(((a >> 5) + 2) >> 2));
    }
}
