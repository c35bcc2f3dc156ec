//! From a picture's planes to the model's input in one pass: scale, convert, normalise, letterbox.
//!
//! The row kernels are plain loops, compiled once for each instruction set (x86-64 v1, v3, v4; others as they are); the best
//! one that the processor has is taken at run time.
//!
//! Owns the row kernels and their scratch memory; knows nothing of ONNX Runtime or of detections. One [`Preparer`] for each
//! worker thread; nothing is allocated while frames keep their size and format.
//!
//! Most 8-bit formats are scaled by [`ExactScaler`], as FFmpeg and OpenCV do. The others (over 8 bits, grey, 4:1:1) are scaled
//! here without rounding to levels in between: for each output row two source rows are blended (to 8.8 fixed point), each
//! component is picked from the blended row with its horizontal taps (to 8.16), its chroma interpolated at its own resolution,
//! and the colour map writes three float rows straight into the slot. Where a row of bytes needs no blending, it is picked
//! from the source itself. [`Filter::Area`] has its own [`AreaScaler`] in place of blending and picking.

use super::area_average::AreaScaler;
use super::bilinear::{Axis, Tap, WEIGHT_BITS};
use super::colour::{FRACTION_BITS, Levels, Transform};
use super::input_format::{ChannelOrder, Filter, InputForm, Normalise, PADDING, SlotMut};
use super::letterbox::Letterbox;
use super::opencv::{ExactScaler, is_exact};
use super::picture::Picture;
use super::pixel_format::{Family, Layout};

/// What the prepared taps and the colour map depend on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Geometry {
    picture: (super::pixel_format::PixelFormat, usize, usize),
    form: InputForm,
}

/// Both ways from components to colours; which one is used depends on the format.
struct Conversion {
    transform: Transform,
    levels: Option<Levels>,
}

/// Horizontal taps of one component, ready for a row of interleaved samples.
#[derive(Debug, Default)]
struct Columns {
    step: usize,
    /// Index of the first sample of each pair.
    first: Vec<u32>,
    /// 0 to 256.
    weight: Vec<i32>,
}

/// Vertical taps of one plane and how much of each row is read.
#[derive(Debug, Default)]
struct Rows {
    taps: Vec<Tap>,
    samples: usize,
}

/// How the rows of a picture are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Way {
    /// Bilinear, rounded in between as FFmpeg and OpenCV do.
    #[default]
    Exact,
    /// Bilinear without rounding in between.
    Fine,
    /// The mean of what is covered.
    Area,
}

/// Prepares pictures for one model input; keeps what it learnt about the last geometry.
#[derive(Debug, Default)]
pub struct Preparer {
    /// The instruction set that the row kernels are run with.
    pub(super) arch: pulp::Arch,
    geometry: Option<Geometry>,
    way: Way,
    columns: [Columns; 3],
    rows: [Rows; 4],
    /// One blended source row, 8.8 fixed point, with spare samples at the end.
    blended: Vec<u16>,
    /// Component rows at output resolution, 8.16 fixed point.
    picked: [Vec<i32>; 3],
    exact: ExactScaler,
    area: AreaScaler,
    /// Three float rows for inputs that are not f32.
    floats: [Vec<f32>; 3],
}

/// The most samples between one sample and the next of the same component.
const MAX_STEP: usize = 4;

impl Preparer {
    /// Writes `picture` into `slot` as `form` wants it and returns where it went.
    ///
    /// `padded` says for which letterbox the slot's padding already holds; it is written only when that changes, and kept
    /// up to date.
    pub fn prepare(
        &mut self,
        picture: &Picture<'_>,
        form: &InputForm,
        slot: SlotMut<'_>,
        padded: &mut Option<Letterbox>,
    ) -> Letterbox {
        let fit = Letterbox::new((picture.width(), picture.height()), (form.width, form.height), form.anchor);
        self.learn(picture, form, &fit);
        self.exact.start();
        let layout = picture.format().layout();
        let conversion = Conversion {
            transform: Transform::new(picture.format(), picture.matrix(), picture.range(), form.white),
            levels: Levels::new(picture.format(), picture.matrix(), picture.range()),
        };
        let fresh = padded.replace(fit).is_none_or(|before| !same_place(&before, &fit));
        let order = match form.order {
            ChannelOrder::Rgb => [0, 1, 2],
            ChannelOrder::Bgr => [2, 1, 0],
        };
        let area = form.width * form.height;
        match slot {
            SlotMut::F32(values) if !form.channels_last && !form.is_grey && form.normalise.is_none() => {
                if fresh {
                    values.fill(PADDING / 255.0 * form.white);
                }
                let (first, rest) = values.split_at_mut(area);
                let (second, third) = rest.split_at_mut(area);
                for row in 0..fit.height {
                    let start = (fit.top + row) * form.width + fit.left;
                    let span = start..start + fit.width;
                    let planes = [&mut first[span.clone()], &mut second[span.clone()], &mut third[span]];
                    let planes = reordered(planes, form.order);
                    self.dispatch_row(picture, &layout, &conversion, row, planes);
                }
            }
            mut slot => {
                let channels = if form.is_grey { 1 } else { 3 };
                let (step, plane) = if form.channels_last { (channels, 1) } else { (1, area) };
                let normalised = |value: f32, channel: usize| match form.normalise {
                    Some(Normalise { mean, deviation }) => (value - mean[channel]) / deviation[channel],
                    None => value,
                };
                if fresh {
                    let padding = PADDING / 255.0 * form.white;
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
                    let start = (fit.top + row) * form.width + fit.left;
                    if form.is_grey {
                        let [red, green, blue] = &mut floats;
                        luma(red, green, blue);
                    }
                    for (channel, colour) in order.into_iter().take(channels).enumerate() {
                        let colour = if form.is_grey { 0 } else { colour };
                        if form.normalise.is_some() {
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

    /// Makes taps and scratch memory for this geometry, unless they are there.
    fn learn(&mut self, picture: &Picture<'_>, form: &InputForm, fit: &Letterbox) {
        let geometry = Geometry { picture: (picture.format(), picture.width(), picture.height()), form: *form };
        if self.geometry == Some(geometry) {
            return;
        }
        let layout = picture.format().layout();
        self.way = match form.filter {
            Filter::Area => Way::Area,
            Filter::Bilinear if is_exact(&layout) => Way::Exact,
            Filter::Bilinear => Way::Fine,
        };
        for row in &mut self.picked {
            row.clear();
            row.resize(fit.width, 0);
        }
        match self.way {
            Way::Exact => self.exact.learn(&layout, fit),
            Way::Area => self.area.learn(&layout, fit, sites),
            Way::Fine => self.learn_fine(&layout, fit),
        }
        self.geometry = Some(geometry);
    }

    fn learn_fine(&mut self, layout: &Layout, fit: &Letterbox) {
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
            for tap in axis.taps() {
                columns.first.push(tap.first * component.step as u32 + component.offset as u32);
                columns.weight.push(i32::from(tap.weight));
            }
            let rows = &mut self.rows[component.plane];
            let axis =
                Axis { frame: height, output: fit.height, samples: down, shift: component.v_shift, site: site_y };
            rows.taps.clear();
            rows.taps.extend(axis.taps());
            rows.samples = layout.plane_extent(component.plane, width, height).0;
            longest = longest.max(rows.samples);
        }
        self.blended.clear();
        self.blended.resize(longest + MAX_STEP, 0);
    }

    /// [`write_row`](Self::write_row) as compiled for the chosen instruction set.
    fn dispatch_row(
        &mut self,
        picture: &Picture<'_>,
        layout: &Layout,
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
        layout: &Layout,
        conversion: &Conversion,
        row: usize,
        out: [&mut [f32]; 3],
    ) {
        match self.way {
            Way::Exact => {
                let levels = conversion.levels.as_ref();
                self.exact.row(picture, layout, levels, row, conversion.transform.maximum, out);
                return;
            }
            Way::Area => self.area.row(picture, layout, row, &mut self.picked),
            Way::Fine => self.pick_row(picture, layout, row),
        }
        self.colour_row(layout, &conversion.transform, out);
    }

    /// Fills the component rows with output row `row`.
    #[inline(always)]
    fn pick_row(&mut self, picture: &Picture<'_>, layout: &Layout, row: usize) {
        let mut blended_plane = None;
        for (index, component) in layout.used().iter().enumerate() {
            let plane = component.plane;
            let rows = &self.rows[plane];
            let tap = rows.taps[row];
            let bytes = rows.samples * layout.sample_bytes;
            let (columns, out) = (&self.columns[index], &mut self.picked[index][..]);
            let only = match tap.weight {
                0 => Some(tap.first),
                256 => Some(tap.second),
                _ => None,
            };
            // Two samples of each component are needed to read pairs straight from the source.
            let has_pairs = rows.samples > component.step + component.offset;
            if let (Some(only), 1, true) = (only, layout.sample_bytes, has_pairs) {
                pick_bytes(picture.row(plane, only as usize, bytes), columns, out);
                continue;
            }
            if blended_plane != Some(plane) {
                let first = picture.row(plane, tap.first as usize, bytes);
                let second = picture.row(plane, tap.second as usize, bytes);
                let blended = &mut self.blended[..rows.samples + MAX_STEP];
                let (filled, spare) = blended.split_at_mut(rows.samples);
                spare.fill(0);
                if layout.sample_bytes == 1 {
                    blend_bytes(first, second, tap.weight, filled);
                } else {
                    blend_words(first, second, tap.weight, layout.lift, filled);
                }
                blended_plane = Some(plane);
            }
            pick_words(&self.blended[..rows.samples + MAX_STEP], columns, out);
        }
    }

    /// Writes the component rows as red, green and blue rows.
    #[inline(always)]
    fn colour_row(&self, layout: &Layout, transform: &Transform, out: [&mut [f32]; 3]) {
        let [first, second, third] = &self.picked;
        match layout.family {
            Family::Yuv => transform.yuv_rows([first, second, third], out),
            Family::Rgb => {
                for (component, out) in self.picked.iter().zip(out) {
                    transform.plain_row(component, out);
                }
            }
            Family::Gray => {
                let [red, green, blue] = out;
                transform.plain_row(first, red);
                green.copy_from_slice(red);
                blue.copy_from_slice(red);
            }
        }
    }
}

/// [`Preparer::write_row`] as something that is compiled once for each instruction set: a closure would not be inlined
/// into the variants, and so not be compiled for them.
struct WriteRow<'a, 'b> {
    preparer: &'a mut Preparer,
    picture: &'a Picture<'b>,
    layout: &'a Layout,
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

/// Luma in place of red, as OpenCV and Pillow make grey pictures (ITU-R BT.601).
fn luma(red: &mut [f32], green: &[f32], blue: &[f32]) {
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        *red = 0.299 * *red + 0.587 * green + 0.114 * blue;
    }
}

/// Whether two letterboxes leave the same padding.
fn same_place(a: &Letterbox, b: &Letterbox) -> bool {
    (a.left, a.top, a.width, a.height, a.canvas) == (b.left, b.top, b.width, b.height, b.canvas)
}

/// Planes in memory order as red, green, blue.
fn reordered(planes: [&mut [f32]; 3], order: ChannelOrder) -> [&mut [f32]; 3] {
    let [first, second, third] = planes;
    match order {
        ChannelOrder::Rgb => [first, second, third],
        ChannelOrder::Bgr => [third, second, first],
    }
}

/// Where a component's first sample lies, in frame pixels right of and below the first pixel's centre: on the first column
/// and between the rows, as in H.264, H.265, VP9 and AV1.
fn sites(v_shift: u32) -> (f64, f64) {
    (0.0, (f64::from(1u32 << v_shift) - 1.0) / 2.0)
}

/// out = first + weight / 256 * (second - first), 8.8 fixed point; the three rows have one length.
#[inline(always)]
fn blend_bytes(first: &[u8], second: &[u8], weight: u16, out: &mut [u16]) {
    let other = 256 - weight;
    for ((out, &a), &b) in out.iter_mut().zip(first).zip(second) {
        *out = u16::from(a) * other + u16::from(b) * weight;
    }
}

/// The same for little-endian 16-bit samples that stand `lift` bits too low.
#[inline(always)]
fn blend_words(first: &[u8], second: &[u8], weight: u16, lift: u32, out: &mut [u16]) {
    let (other, weight) = (256 - u32::from(weight), u32::from(weight));
    let (first, _) = first.as_chunks::<2>();
    let (second, _) = second.as_chunks::<2>();
    for ((out, a), b) in out.iter_mut().zip(first).zip(second) {
        let (a, b) = (u32::from(u16::from_le_bytes(*a)), u32::from(u16::from_le_bytes(*b)));
        *out = (((a * other + b * weight) << lift) >> WEIGHT_BITS) as u16;
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
fn pick<const STEP: usize, T: Copy + Into<i32>>(row: &[T], columns: &Columns, lift: u32, out: &mut [i32]) {
    for ((out, &first), &weight) in out.iter_mut().zip(&columns.first).zip(&columns.weight) {
        let first = first as usize;
        let (a, b): (i32, i32) = (row[first].into(), row[first + STEP].into());
        *out = ((a << WEIGHT_BITS) + (b - a) * weight) << lift;
    }
}
