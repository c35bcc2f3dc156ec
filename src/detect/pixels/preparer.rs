// SPDX-License-Identifier: MIT OR Apache-2.0
//! Converts a picture's planes to the model's input in one pass: scale, convert, normalise, letterbox.
//!
//! Owns the row kernels and their memory; knows nothing of ONNX Runtime or of detections. The kernels are plain loops that are
//! compiled once for each instruction set (x86-64 v1, v3, v4; others as they are); the best one that the processor supports is
//! used. Each worker thread has its own [`Preparer`]; it allocates nothing while frames keep their size and format.
//!
//! Most 8-bit formats are scaled by [`OpenCvScaler`], with the rounding of FFmpeg and OpenCV. The others (over 8 bits, grey,
//! 4:1:1) are scaled here without rounding to levels in between: for each output row two source rows are blended (to 8.8 fixed
//! point), each component is picked from the blended row (to 8.16) with its chroma interpolated at its own resolution, and the
//! colour map writes three float rows into the slot. A row of bytes that needs no blending is picked from the source itself.
//! [`Filter::Area`] uses [`AreaScaler`] instead of blending and picking.

use super::area_average::AreaScaler;
use super::bilinear::{Axis, SamplePair, WEIGHT_BITS};
use super::colour::{FRACTION_BITS, RgbConversion, Transform};
use super::input_format::{ChannelOrder, Filter, InputFormat, Normalise, PADDING, SlotMut};
use super::letterbox::Letterbox;
use super::opencv::{self, OpenCvScaler};
use super::picture::Picture;
use super::pixel_format::{ColourModel, SampleLayout};

/// What the sample pairs depend on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Geometry {
    picture: (super::pixel_format::PixelFormat, usize, usize),
    format: InputFormat,
}

/// Both conversions from components to colours; the scaling method determines which is used.
struct Conversion {
    transform: Transform,
    rgb: Option<RgbConversion>,
}

/// Horizontal sample pairs of one component, as indices into a row of interleaved samples.
#[derive(Debug, Default)]
struct Columns {
    step: usize,
    /// Index of the first sample of each pair.
    first: Vec<u32>,
    /// 0 to 256.
    weight: Vec<i32>,
}

/// Vertical sample pairs of one plane, and the number of samples of a row that are read.
#[derive(Debug, Default)]
struct Rows {
    pairs: Vec<SamplePair>,
    samples: usize,
}

/// How pictures are scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum ScalingMethod {
    /// Bilinear, with the intermediate rounding of FFmpeg and OpenCV.
    #[default]
    OpenCv,
    /// Bilinear, without intermediate rounding.
    FixedPoint,
    /// The mean of the covered pixels.
    Area,
}

/// Prepares pictures for one model input; keeps the sample pairs of the last geometry.
#[derive(Debug, Default)]
pub struct Preparer {
    /// The instruction set of the row kernels.
    pub(super) arch: pulp::Arch,
    geometry: Option<Geometry>,
    method: ScalingMethod,
    columns: [Columns; 3],
    rows: [Rows; 4],
    /// One blended source row, 8.8 fixed point, with spare samples at the end.
    blended: Vec<u16>,
    /// Component rows at output resolution, 8.16 fixed point.
    picked: [Vec<i32>; 3],
    opencv: OpenCvScaler,
    area: AreaScaler,
    /// Three float rows for inputs that are not f32.
    floats: [Vec<f32>; 3],
}

/// Largest distance of two samples of the same component.
const MAX_STEP: usize = 4;

impl Preparer {
    /// Writes `picture` into `slot` in `format` and returns its position there.
    ///
    /// `padded` is the letterbox whose padding the slot already contains; the padding is written only when that changes, and
    /// `padded` is updated.
    pub fn prepare(
        &mut self,
        picture: &Picture<'_>,
        format: &InputFormat,
        slot: SlotMut<'_>,
        padded: &mut Option<Letterbox>,
    ) -> Letterbox {
        let fit =
            Letterbox::new((picture.width(), picture.height()), (format.width, format.height), format.resize_mode);
        self.configure(picture, format, &fit);
        self.opencv.start();
        let layout = picture.format().layout();
        let conversion = Conversion {
            transform: Transform::new(picture.format(), picture.matrix(), picture.range(), format.white),
            rgb: RgbConversion::new(picture.format(), picture.matrix(), picture.range()),
        };
        let fresh = padded.replace(fit).is_none_or(|before| !same_padding(&before, &fit));
        let order = match format.order {
            ChannelOrder::Rgb => [0, 1, 2],
            ChannelOrder::Bgr => [2, 1, 0],
        };
        let area = format.width * format.height;
        match slot {
            SlotMut::F32(values) if !format.channels_last && !format.is_grey && format.normalise.is_none() => {
                if fresh {
                    values.fill(PADDING / 255.0 * format.white);
                }
                let (first, rest) = values.split_at_mut(area);
                let (second, third) = rest.split_at_mut(area);
                for row in 0..fit.height {
                    let start = (fit.top + row) * format.width + fit.left;
                    let span = start..start + fit.width;
                    let planes = [&mut first[span.clone()], &mut second[span.clone()], &mut third[span]];
                    let planes = reordered(planes, format.order);
                    self.dispatch_row(picture, &layout, &conversion, row, planes);
                }
            }
            mut slot => {
                let channels = if format.is_grey { 1 } else { 3 };
                let (step, plane) = if format.channels_last { (channels, 1) } else { (1, area) };
                let normalised = |value: f32, channel: usize| match format.normalise {
                    Some(Normalise { mean, deviation }) => (value - mean[channel]) / deviation[channel],
                    None => value,
                };
                if fresh {
                    let padding = PADDING / 255.0 * format.white;
                    (0..channels)
                        .for_each(|channel| slot.fill(normalised(padding, channel), channel * plane, step, area));
                }
                let mut floats = std::mem::take(&mut self.floats);
                for row in &mut floats {
                    row.resize(fit.width, 0.0);
                }
                for row in 0..fit.height {
                    let [red, green, blue] = &mut floats;
                    let planes = [&mut red[..], &mut green[..], &mut blue[..]];
                    self.dispatch_row(picture, &layout, &conversion, row, planes);
                    let start = (fit.top + row) * format.width + fit.left;
                    if format.is_grey {
                        let [red, green, blue] = &mut floats;
                        luma(red, green, blue);
                    }
                    for (channel, colour) in order.into_iter().take(channels).enumerate() {
                        let colour = if format.is_grey { 0 } else { colour };
                        if format.normalise.is_some() {
                            floats[colour].iter_mut().for_each(|value| *value = normalised(*value, channel));
                        }
                        slot.write(&floats[colour], channel * plane + start * step, step);
                    }
                }
                self.floats = floats;
            }
        }
        fit
    }

    /// Computes the sample pairs and allocates rows for this geometry, unless it is the last one.
    fn configure(&mut self, picture: &Picture<'_>, format: &InputFormat, fit: &Letterbox) {
        let geometry = Geometry { picture: (picture.format(), picture.width(), picture.height()), format: *format };
        if self.geometry == Some(geometry) {
            return;
        }
        let layout = picture.format().layout();
        self.method = match format.filter {
            Filter::Area => ScalingMethod::Area,
            Filter::Bilinear if opencv::supports(&layout) => ScalingMethod::OpenCv,
            Filter::Bilinear => ScalingMethod::FixedPoint,
        };
        for row in &mut self.picked {
            row.clear();
            row.resize(fit.width, 0);
        }
        match self.method {
            ScalingMethod::OpenCv => self.opencv.configure(&layout, fit),
            ScalingMethod::Area => self.area.configure(&layout, fit, sites),
            ScalingMethod::FixedPoint => self.configure_fixed_point(&layout, fit),
        }
        self.geometry = Some(geometry);
    }

    fn configure_fixed_point(&mut self, layout: &SampleLayout, fit: &Letterbox) {
        let (width, height) = fit.frame;
        let mut longest = 0;
        for (component, columns) in layout.used().iter().zip(&mut self.columns) {
            let (across, down) = component.size(width, height);
            let (site_x, site_y) = sites(component.v_shift);
            let axis =
                Axis { frame: width, output: fit.width, samples: across, shift: component.h_shift, site: site_x };
            columns.step = component.step;
            columns.first.clear();
            columns.weight.clear();
            for pair in axis.pairs() {
                columns.first.push(pair.first * component.step as u32 + component.offset as u32);
                columns.weight.push(i32::from(pair.weight));
            }
            let rows = &mut self.rows[component.plane];
            let axis =
                Axis { frame: height, output: fit.height, samples: down, shift: component.v_shift, site: site_y };
            rows.pairs.clear();
            rows.pairs.extend(axis.pairs());
            rows.samples = layout.plane_extent(component.plane, width, height).0;
            longest = longest.max(rows.samples);
        }
        self.blended.clear();
        self.blended.resize(longest + MAX_STEP, 0);
    }

    /// Calls [`write_row`](Self::write_row), compiled for the selected instruction set.
    fn dispatch_row(
        &mut self,
        picture: &Picture<'_>,
        layout: &SampleLayout,
        conversion: &Conversion,
        row: usize,
        planes: [&mut [f32]; 3],
    ) {
        self.arch.dispatch(WriteRow { preparer: self, picture, layout, conversion, row, planes });
    }

    /// Writes output row `row` as red, green and blue.
    #[inline(always)]
    fn write_row(
        &mut self,
        picture: &Picture<'_>,
        layout: &SampleLayout,
        conversion: &Conversion,
        row: usize,
        out: [&mut [f32]; 3],
    ) {
        match self.method {
            ScalingMethod::OpenCv => {
                let rgb = conversion.rgb.as_ref();
                self.opencv.row(picture, layout, rgb, row, conversion.transform.maximum, out);
                return;
            }
            ScalingMethod::Area => self.area.row(picture, layout, row, &mut self.picked),
            ScalingMethod::FixedPoint => self.pick_row(picture, layout, row),
        }
        self.colour_row(layout, &conversion.transform, out);
    }

    /// Fills the component rows with output row `row`.
    #[inline(always)]
    fn pick_row(&mut self, picture: &Picture<'_>, layout: &SampleLayout, row: usize) {
        let mut blended_plane = None;
        for (index, component) in layout.used().iter().enumerate() {
            let plane = component.plane;
            let rows = &self.rows[plane];
            let pair = rows.pairs[row];
            let bytes = rows.samples * layout.sample_bytes;
            let (columns, out) = (&self.columns[index], &mut self.picked[index][..]);
            let only = match pair.weight {
                0 => Some(pair.first),
                256 => Some(pair.second),
                _ => None,
            };
            // Pairs are read directly from the source only if it has two samples of each component.
            let has_pairs = rows.samples > component.step + component.offset;
            if let (Some(only), 1, true) = (only, layout.sample_bytes, has_pairs) {
                pick_bytes(picture.row(plane, only as usize, bytes), columns, out);
                continue;
            }
            if blended_plane != Some(plane) {
                let first = picture.row(plane, pair.first as usize, bytes);
                let second = picture.row(plane, pair.second as usize, bytes);
                let blended = &mut self.blended[..rows.samples + MAX_STEP];
                let (filled, spare) = blended.split_at_mut(rows.samples);
                spare.fill(0);
                if layout.sample_bytes == 1 {
                    blend_bytes(first, second, pair.weight, filled);
                } else {
                    blend_words(first, second, pair.weight, layout.left_shift, filled);
                }
                blended_plane = Some(plane);
            }
            pick_words(&self.blended[..rows.samples + MAX_STEP], columns, out);
        }
    }

    /// Writes the component rows as red, green and blue rows.
    #[inline(always)]
    fn colour_row(&self, layout: &SampleLayout, transform: &Transform, out: [&mut [f32]; 3]) {
        let [first, second, third] = &self.picked;
        match layout.colour_model {
            ColourModel::Yuv => transform.yuv_rows([first, second, third], out),
            ColourModel::Rgb => {
                for (component, out) in self.picked.iter().zip(out) {
                    transform.plain_row(component, out);
                }
            }
            ColourModel::Gray => {
                let [red, green, blue] = out;
                transform.plain_row(first, red);
                green.copy_from_slice(red);
                blue.copy_from_slice(red);
            }
        }
    }
}

/// [`Preparer::write_row`] as an object that is compiled once for each instruction set: a closure would not be inlined into the
/// variants, and so would not be compiled for them.
struct WriteRow<'a, 'b> {
    preparer: &'a mut Preparer,
    picture: &'a Picture<'b>,
    layout: &'a SampleLayout,
    conversion: &'a Conversion,
    row: usize,
    planes: [&'a mut [f32]; 3],
}

impl pulp::WithSimd for WriteRow<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _simd: S) {
        self.preparer.write_row(self.picture, self.layout, self.conversion, self.row, self.planes);
    }
}

/// Replaces red by luma, as OpenCV and Pillow convert to grey (ITU-R BT.601).
fn luma(red: &mut [f32], green: &[f32], blue: &[f32]) {
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        *red = 0.299 * *red + 0.587 * green + 0.114 * blue;
    }
}

/// Whether two letterboxes leave the same padding.
fn same_padding(a: &Letterbox, b: &Letterbox) -> bool {
    (a.left, a.top, a.width, a.height, a.canvas) == (b.left, b.top, b.width, b.height, b.canvas)
}

/// Returns planes in memory order as red, green, blue.
fn reordered(planes: [&mut [f32]; 3], order: ChannelOrder) -> [&mut [f32]; 3] {
    let [first, second, third] = planes;
    match order {
        ChannelOrder::Rgb => [first, second, third],
        ChannelOrder::Bgr => [third, second, first],
    }
}

/// Returns the position of a component's first sample, in frame pixels right of and below the centre of the first pixel: on the
/// first column and between the rows, as in H.264, H.265, VP9 and AV1.
fn sites(v_shift: u32) -> (f64, f64) {
    (0.0, (f64::from(1u32 << v_shift) - 1.0) / 2.0)
}

/// Computes first + weight / 256 * (second - first) in 8.8 fixed point; the three rows have the same length.
#[inline(always)]
fn blend_bytes(first: &[u8], second: &[u8], weight: u16, out: &mut [u16]) {
    let other = 256 - weight;
    for ((out, &a), &b) in out.iter_mut().zip(first).zip(second) {
        *out = u16::from(a) * other + u16::from(b) * weight;
    }
}

/// Blends little-endian 16-bit samples, shifted left by `left_shift`.
#[inline(always)]
fn blend_words(first: &[u8], second: &[u8], weight: u16, left_shift: u32, out: &mut [u16]) {
    let (other, weight) = (256 - u32::from(weight), u32::from(weight));
    let (first, _) = first.as_chunks::<2>();
    let (second, _) = second.as_chunks::<2>();
    for ((out, a), b) in out.iter_mut().zip(first).zip(second) {
        let (a, b) = (u32::from(u16::from_le_bytes(*a)), u32::from(u16::from_le_bytes(*b)));
        *out = (((a * other + b * weight) << left_shift) >> WEIGHT_BITS) as u16;
    }
}

/// Picks a component from a blended row (8.8), to 8.16.
#[inline(always)]
fn pick_words(row: &[u16], columns: &Columns, out: &mut [i32]) {
    match columns.step {
        1 => pick::<1, u16>(row, columns, 0, out),
        2 => pick::<2, u16>(row, columns, 0, out),
        3 => pick::<3, u16>(row, columns, 0, out),
        _ => pick::<4, u16>(row, columns, 0, out),
    }
}

/// Picks a component from a row of 8-bit samples, to 8.16.
#[inline(always)]
fn pick_bytes(row: &[u8], columns: &Columns, out: &mut [i32]) {
    const LIFT: u32 = FRACTION_BITS - WEIGHT_BITS;
    match columns.step {
        1 => pick::<1, u8>(row, columns, LIFT, out),
        2 => pick::<2, u8>(row, columns, LIFT, out),
        3 => pick::<3, u8>(row, columns, LIFT, out),
        _ => pick::<4, u8>(row, columns, LIFT, out),
    }
}

#[inline(always)]
fn pick<const STEP: usize, T: Copy + Into<i32>>(row: &[T], columns: &Columns, left_shift: u32, out: &mut [i32]) {
    for ((out, &first), &weight) in out.iter_mut().zip(&columns.first).zip(&columns.weight) {
        let first = first as usize;
        let (a, b): (i32, i32) = (row[first].into(), row[first + STEP].into());
        *out = ((a << WEIGHT_BITS) + (b - a) * weight) << left_shift;
    }
}
