// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares [`Preparer`] with a slow reference that computes each output value separately, in f64, from a second description of
//! the formats.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use half::f16;

use super::input_format::{ChannelOrder, Filter, InputFormat, Normalise, PADDING, SlotMut};
use super::letterbox::{Letterbox, ResizeMode};
use super::picture::{Matrix, Picture, Plane, Range};
use super::pixel_format::PixelFormat;
use super::preparer::Preparer;

/// Reproducible pseudo-random bytes.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 24) as u8).collect()
    }
}

/// Memory for a picture: strides with spare bytes, noise everywhere, unused high bits zero.
struct Canvas {
    format: PixelFormat,
    width: usize,
    height: usize,
    planes: Vec<(Vec<u8>, usize)>,
}

/// (columns, rows) of chroma, bits, and whether a sample takes two bytes, by name.
fn shape(format: PixelFormat) -> (usize, usize, u32, bool) {
    let name = format.name();
    let bits = if name.contains("10") {
        10
    } else if name.contains("12LE") || name.contains("12_LE") || name == "P012_LE" {
        12
    } else if name.contains("16") && name != "NV16" {
        16
    } else {
        8
    };
    let (across, down) = match name.split('_').next().unwrap() {
        "I420" | "YV12" | "NV12" | "NV21" | "A420" | "P010" | "P012" | "P016" => (2, 2),
        "Y42B" | "I422" | "NV16" | "NV61" | "YUY2" | "UYVY" | "YVYU" | "VYUY" => (2, 1),
        "Y41B" => (4, 1),
        _ => (1, 1),
    };
    (across, down, bits, bits > 8)
}

/// (plane, samples from the row's start) of component `c` (Y U V or R G B) at column `x` of its own resolution.
fn place(format: PixelFormat, c: usize, x: usize) -> (usize, usize) {
    let name = format.name();
    let packed = |order: &str, letter: char| (0, x * order.len() + order.find(letter).unwrap());
    let yuv = ['Y', 'U', 'V'][c];
    let rgb = ['R', 'G', 'B'][c];
    match name {
        "I420" | "Y42B" | "Y444" | "Y41B" | "A420" | "I420_10LE" | "I422_10LE" | "Y444_10LE" | "I420_12LE"
        | "I422_12LE" | "Y444_12LE" | "A420_10LE" => (c, x),
        "YV12" => ([0, 2, 1][c], x),
        "NV12" | "NV16" | "NV24" | "P010_10LE" | "P012_LE" | "P016_LE" => [(0, x), (1, 2 * x), (1, 2 * x + 1)][c],
        "NV21" | "NV61" => [(0, x), (1, 2 * x + 1), (1, 2 * x)][c],
        "YUY2" => (0, [2 * x, 4 * x + 1, 4 * x + 3][c]),
        "UYVY" => (0, [2 * x + 1, 4 * x, 4 * x + 2][c]),
        "YVYU" => (0, [2 * x, 4 * x + 3, 4 * x + 1][c]),
        "VYUY" => (0, [2 * x + 1, 4 * x + 2, 4 * x][c]),
        "AYUV" | "VUYA" => packed(name, yuv),
        "GRAY8" | "GRAY10_LE16" | "GRAY16_LE" => (0, x),
        "RGB" | "BGR" | "RGBA" | "BGRA" | "ARGB" | "ABGR" => packed(name, rgb),
        "RGBx" | "BGRx" | "xRGB" | "xBGR" => packed(name, rgb),
        "GBR" | "GBRA" | "GBR_10LE" | "GBR_12LE" => ([2, 0, 1][c], x),
        other => panic!("{other} has no reference"),
    }
}

fn is_rgb(format: PixelFormat) -> bool {
    format.name().contains('R') && !format.name().starts_with("GRAY")
}

fn is_gray(format: PixelFormat) -> bool {
    format.name().starts_with("GRAY")
}

impl Canvas {
    fn new(format: PixelFormat, width: usize, height: usize, noise: &mut Noise) -> Self {
        let (_, _, bits, wide) = shape(format);
        let is_high = format.name().starts_with('P');
        let planes = (0..format.plane_count())
            .map(|_| {
                // Room for four samples of each pixel whatever the format, then cut to what is needed by Picture::new.
                let stride = (4 * width + 8) * if wide { 2 } else { 1 };
                let mut data = noise.bytes(stride * height);
                if wide {
                    for sample in data.as_chunks_mut::<2>().0 {
                        let value = u16::from_le_bytes(*sample) >> (16 - bits);
                        *sample = (if is_high { value << (16 - bits) } else { value }).to_le_bytes();
                    }
                }
                (data, stride)
            })
            .collect();
        Self { format, width, height, planes }
    }

    fn picture(&self, matrix: Matrix, range: Range) -> Picture<'_> {
        let planes: Vec<_> = self.planes.iter().map(|(data, stride)| Plane { data, stride: *stride }).collect();
        Picture::new(self.format, self.width, self.height, &planes, matrix, range).unwrap()
    }

    /// A sample in units of an 8-bit one.
    fn sample(&self, c: usize, x: usize, y: usize) -> f64 {
        let (_, _, bits, wide) = shape(self.format);
        let (plane, index) = place(self.format, c, x);
        let (data, stride) = &self.planes[plane];
        let row = &data[y * stride..];
        if !wide {
            return f64::from(row[index]);
        }
        let value = u16::from_le_bytes([row[2 * index], row[2 * index + 1]]);
        let value = if self.format.name().starts_with('P') { value >> (16 - bits) } else { value };
        f64::from(value) / f64::from(1 << (bits - 8))
    }

    /// Whether whole pixels are converted first and then interpolated, instead of the components.
    fn converts_pixels_first(&self) -> bool {
        let (across, _, bits, _) = shape(self.format);
        bits == 8 && across <= 2 && !is_gray(self.format)
    }

    /// The colour of a pixel in 0..1, its chroma that of the sample that covers it.
    fn pixel(&self, x: usize, y: usize, matrix: Matrix, range: Range) -> [f64; 3] {
        let (across, down, _, _) = shape(self.format);
        let sample = [0, 1, 2].map(|c| {
            let (across, down) = if c == 0 { (1, 1) } else { (across, down) };
            self.sample(c, x / across, y / down)
        });
        colour(self.format, matrix, range, sample)
    }

    /// Component `c` at a position in frame pixels, bilinear with clamped edges.
    fn at(&self, c: usize, x: f64, y: f64) -> f64 {
        let (across, down, _, _) = shape(self.format);
        let (across, down) = if c == 0 || is_rgb(self.format) { (1, 1) } else { (across, down) };
        // On the first column, between the rows.
        let (right, below) = (0.0, (down as f64 - 1.0) / 2.0);
        let (columns, rows) = (self.width.div_ceil(across), self.height.div_ceil(down));
        let x = ((x - right) / across as f64).clamp(0.0, (columns - 1) as f64);
        let y = ((y - below) / down as f64).clamp(0.0, (rows - 1) as f64);
        let (x0, y0) = (x.floor() as usize, y.floor() as usize);
        let (x1, y1) = ((x0 + 1).min(columns - 1), (y0 + 1).min(rows - 1));
        let (fx, fy) = (x.fract(), y.fract());
        let top = self.sample(c, x0, y0) * (1.0 - fx) + self.sample(c, x1, y0) * fx;
        let bottom = self.sample(c, x0, y1) * (1.0 - fx) + self.sample(c, x1, y1) * fx;
        top * (1.0 - fy) + bottom * fy
    }
}

/// Red, green, blue in 0..1.
fn colour(format: PixelFormat, matrix: Matrix, range: Range, sample: [f64; 3]) -> [f64; 3] {
    let (_, _, bits, _) = shape(format);
    let full = (f64::from((1u32 << bits) - 1)) / f64::from(1u32 << (bits - 8));
    let clamp = |value: f64| value.clamp(0.0, 1.0);
    if is_rgb(format) {
        return sample.map(|value| clamp(value / full));
    }
    let (y, cb, cr) = match range {
        Range::Limited => ((sample[0] - 16.0) / 219.0, (sample[1] - 128.0) / 224.0, (sample[2] - 128.0) / 224.0),
        Range::Full => (sample[0] / full, (sample[1] - 128.0) / full, (sample[2] - 128.0) / full),
    };
    if is_gray(format) {
        return [clamp(y); 3];
    }
    let (kr, kb) = match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
        Matrix::Fcc => (0.30, 0.11),
        Matrix::Smpte240m => (0.212, 0.087),
    };
    let red = y + 2.0 * (1.0 - kr) * cr;
    let blue = y + 2.0 * (1.0 - kb) * cb;
    let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
    [red, green, blue].map(clamp)
}

fn reference(canvas: &Canvas, matrix: Matrix, range: Range, format: &InputFormat) -> Vec<f64> {
    let fit = Letterbox::new((canvas.width, canvas.height), (format.width, format.height), format.resize_mode);
    let white = f64::from(format.white);
    let area = format.width * format.height;
    let mut out = vec![f64::from(PADDING) / 255.0 * white; 3 * area];
    for row in 0..fit.height {
        for column in 0..fit.width {
            let position =
                |index: usize, frame: usize, output: usize| (index as f64 + 0.5) * frame as f64 / output as f64 - 0.5;
            let x = position(column, canvas.width, fit.width);
            let y = position(row, canvas.height, fit.height);
            let rgb = if canvas.converts_pixels_first() {
                let x = x.clamp(0.0, (canvas.width - 1) as f64);
                let y = y.clamp(0.0, (canvas.height - 1) as f64);
                let (x0, y0) = (x as usize, y as usize);
                let (x1, y1) = ((x0 + 1).min(canvas.width - 1), (y0 + 1).min(canvas.height - 1));
                let mix = |a: [f64; 3], b: [f64; 3], part: f64| [0, 1, 2].map(|c| a[c] * (1.0 - part) + b[c] * part);
                let pixel = |x, y| canvas.pixel(x, y, matrix, range);
                let top = mix(pixel(x0, y0), pixel(x1, y0), x.fract());
                mix(top, mix(pixel(x0, y1), pixel(x1, y1), x.fract()), y.fract())
            } else {
                let count = if is_gray(canvas.format) { 1 } else { 3 };
                let mut sample = [0.0; 3];
                for (c, value) in sample.iter_mut().enumerate().take(count) {
                    *value = canvas.at(c, x, y);
                }
                colour(canvas.format, matrix, range, sample)
            };
            for (c, value) in rgb.into_iter().enumerate() {
                let plane = if format.order == ChannelOrder::Rgb { c } else { 2 - c };
                out[plane * area + (fit.top + row) * format.width + fit.left + column] = value * white;
            }
        }
    }
    out
}

/// Largest and mean difference in units of an 8-bit level.
fn difference(ours: impl Iterator<Item = f64>, reference: &[f64], white: f32) -> (f64, f64) {
    let level = f64::from(white) / 255.0;
    let (mut largest, mut sum) = (0.0f64, 0.0);
    for (a, b) in ours.zip(reference) {
        let apart = (a - b).abs() / level;
        largest = largest.max(apart);
        sum += apart;
    }
    (largest, sum / reference.len() as f64)
}

const FORMAT: InputFormat = InputFormat {
    width: 48,
    height: 32,
    order: ChannelOrder::Rgb,
    white: 1.0,
    resize_mode: ResizeMode::Letterbox,
    channels_last: false,
    is_grey: false,
    normalise: None,
    filter: Filter::Bilinear,
};

#[test]
fn grey_inputs_get_luma_in_one_plane() {
    let pixels = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]].concat();
    let plane = Plane { data: &pixels, stride: 12 };
    let picture = Picture::new(PixelFormat::Rgb, 4, 1, &[plane], Matrix::Bt601, Range::Full).unwrap();
    let format = InputFormat { width: 4, height: 1, is_grey: true, white: 255.0, ..FORMAT };
    for channels_last in [false, true] {
        let mut slot = [f32::NAN; 4];
        let format = InputFormat { channels_last, ..format };
        Preparer::default().prepare(&picture, &format, SlotMut::F32(&mut slot), &mut None);
        let close = slot.iter().zip([76.245, 149.685, 29.07, 255.0]).all(|(a, b)| (a - b).abs() < 0.6);
        assert!(close, "{slot:?}");
    }
}

fn prepared(preparer: &mut Preparer, picture: &Picture<'_>, format: &InputFormat) -> Vec<f32> {
    let mut slot = vec![f32::NAN; 3 * format.width * format.height];
    preparer.prepare(picture, format, SlotMut::F32(&mut slot), &mut None);
    slot
}

/// What rounding may do, in levels: weights of 8 bits for each axis, times what the matrix makes of it; or, where whole
/// pixels are converted, three products that are rounded down and two roundings to levels.
const LARGEST: f64 = 4.0;
const MEAN: f64 = 1.6;

#[test]
fn every_format_and_size_equals_the_slow_twin() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut preparer = Preparer::default();
    for &format in PixelFormat::ALL {
        for (width, height) in
            [(1, 1), (2, 2), (1, 9), (9, 1), (5, 7), (33, 17), (48, 32), (96, 64), (145, 97), (300, 3)]
        {
            let canvas = Canvas::new(format, width, height, &mut noise);
            let picture = canvas.picture(Matrix::Bt709, Range::Limited);
            let ours = prepared(&mut preparer, &picture, &FORMAT);
            let reference = reference(&canvas, Matrix::Bt709, Range::Limited, &FORMAT);
            let (largest, mean) = difference(ours.iter().copied().map(f64::from), &reference, 1.0);
            assert!(largest < LARGEST && mean < MEAN, "{} {width}x{height}: {largest} {mean}", format.name());
        }
    }
}

#[test]
fn every_matrix_and_range_equals_the_slow_twin() {
    let mut noise = Noise(7);
    let formats = [PixelFormat::I420, PixelFormat::I42010le, PixelFormat::Y444, PixelFormat::Y41b];
    for canvas in formats.map(|format| Canvas::new(format, 61, 43, &mut noise)) {
        for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020, Matrix::Fcc, Matrix::Smpte240m] {
            for range in [Range::Limited, Range::Full] {
                let ours = prepared(&mut Preparer::default(), &canvas.picture(matrix, range), &FORMAT);
                let reference = reference(&canvas, matrix, range, &FORMAT);
                let (largest, mean) = difference(ours.iter().copied().map(f64::from), &reference, 1.0);
                assert!(largest < LARGEST && mean < MEAN, "{matrix:?} {range:?}: {largest} {mean}");
            }
        }
    }
}

/// FNV-1a over the levels of a slot, plane by plane.
fn hash(slot: &[f32]) -> u64 {
    let step = |hash: u64, &value: &f32| (hash ^ (value * 255.0).round() as u64).wrapping_mul(0x0100_0000_01b3);
    slot.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Size of the picture, then hashes for RGB and for I420 in BT.601, BT.709 and full-range BT.601.
type Golden = ((usize, usize), (usize, usize), [u64; 4]);

/// Made with OpenCV 4's `cv2.resize(…, INTER_LINEAR)`, for I420 after FFmpeg 8.0's swscale (PyAV 18.1, x86-64), from pictures
/// of the same noise.
const GOLDEN: [Golden; 6] = [
    ((48, 36), (48, 36), [0xf8e08489ca14629b, 0xb0e1e6146cca3340, 0x7d6fe0c3ca602294, 0x431038c70d2ef2f5]),
    ((64, 48), (48, 36), [0x26c1aaad70cb2de2, 0xdf2c79f14e289d27, 0x6efa17daf77ebdb4, 0xebdb69fcaf7fe3d1]),
    ((96, 72), (48, 36), [0x494a68ef3604715d, 0x4d28f01062d15de4, 0x4b0fe41c7528e1f0, 0x4eb20efa2234cd64]),
    ((144, 108), (48, 36), [0x4242e78fe7832115, 0x1d0c7ee306a573ec, 0xc2657026abb4fa72, 0x448e9aa6ff41d0c6]),
    ((32, 24), (48, 36), [0x9a5524703042a184, 0x524dbe98392db881, 0xa2c66af31398c5d5, 0x9ae45f54883d4c9a]),
    ((200, 152), (47, 36), [0xb5ed4c8b3a618c2c, 0x6c63bba1e2f4365c, 0x221f10642588e467, 0x0d20c82bea28b932]),
];

#[test]
fn rgb_and_i420_equal_swscale_and_opencv_bit_for_bit() {
    for ((width, height), (across, down), hashes) in GOLDEN {
        let mut noise = Noise((width * 1000 + height) as u64);
        let rgb = noise.bytes(width * height * 3);
        let yuv = noise.bytes(width * height * 3 / 2);
        let (luma, chroma) = yuv.split_at(width * height);
        let (u, v) = chroma.split_at(chroma.len() / 2);
        let format = InputFormat { width: across, height: down, ..FORMAT };
        let packed = [Plane { data: &rgb, stride: 3 * width }];
        let planar = [
            Plane { data: luma, stride: width },
            Plane { data: u, stride: width / 2 },
            Plane { data: v, stride: width / 2 },
        ];
        let picture =
            |format, planes, matrix, range| Picture::new(format, width, height, planes, matrix, range).unwrap();
        let pictures = [
            picture(PixelFormat::Rgb, &packed[..], Matrix::Bt601, Range::Full),
            picture(PixelFormat::I420, &planar[..], Matrix::Bt601, Range::Limited),
            picture(PixelFormat::I420, &planar[..], Matrix::Bt709, Range::Limited),
            picture(PixelFormat::I420, &planar[..], Matrix::Bt601, Range::Full),
        ];
        let ours = pictures.map(|picture| hash(&prepared(&mut Preparer::default(), &picture, &format)));
        assert_eq!(ours, hashes, "{width}x{height}");
    }
}

#[test]
fn channel_order_white_and_resize_mode_are_applied() {
    let mut noise = Noise(11);
    for pixel_format in [PixelFormat::Rgb, PixelFormat::I420, PixelFormat::Gray8] {
        let canvas = Canvas::new(pixel_format, 50, 90, &mut noise);
        let format =
            InputFormat { order: ChannelOrder::Bgr, white: 255.0, resize_mode: ResizeMode::LetterboxTopLeft, ..FORMAT };
        let picture = canvas.picture(Matrix::Bt601, Range::Full);
        let ours = prepared(&mut Preparer::default(), &picture, &format);
        let reference = reference(&canvas, Matrix::Bt601, Range::Full, &format);
        let (largest, _) = difference(ours.iter().copied().map(f64::from), &reference, 255.0);
        assert!(largest < LARGEST, "{}: {largest}", pixel_format.name());
    }
}

#[test]
fn every_instruction_set_gives_the_same_values() {
    let mut noise = Noise(14);
    for &format in PixelFormat::ALL {
        for (width, height) in [(96, 64), (144, 96), (50, 20), (199, 77)] {
            let canvas = Canvas::new(format, width, height, &mut noise);
            let picture = canvas.picture(Matrix::Bt709, Range::Limited);
            let best = prepared(&mut Preparer::default(), &picture, &FORMAT);
            let mut plain = Preparer::default();
            plain.arch = pulp::Arch::Scalar;
            let scalar = prepared(&mut plain, &picture, &FORMAT);
            assert!(
                best.iter().zip(&scalar).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{} {width}x{height}",
                format.name()
            );
        }
    }
}

#[test]
fn channels_last_bytes_and_normalised_values_are_the_same_picture() {
    let mut noise = Noise(12);
    let canvas = Canvas::new(PixelFormat::I420, 50, 20, &mut noise);
    let picture = canvas.picture(Matrix::Bt601, Range::Limited);
    let area = FORMAT.width * FORMAT.height;
    for order in [ChannelOrder::Rgb, ChannelOrder::Bgr] {
        for resize_mode in [ResizeMode::Letterbox, ResizeMode::LetterboxTopLeft, ResizeMode::Stretch] {
            let planar = InputFormat { order, resize_mode, white: 255.0, ..FORMAT };
            let expected = prepared(&mut Preparer::default(), &picture, &planar);
            let last = InputFormat { channels_last: true, ..planar };
            let floats = prepared(&mut Preparer::default(), &picture, &last);
            let mut bytes = vec![0; 3 * area];
            Preparer::default().prepare(&picture, &last, SlotMut::U8(&mut bytes), &mut None);
            let normalise = Normalise { mean: [10.0, 20.0, 30.0], deviation: [2.0, 4.0, 8.0] };
            let format = InputFormat { normalise: Some(normalise), ..planar };
            let normalised = prepared(&mut Preparer::default(), &picture, &format);
            for (index, &value) in expected.iter().enumerate() {
                let (channel, pixel) = (index / area, index % area);
                assert_eq!(floats[3 * pixel + channel], value);
                assert_eq!(bytes[3 * pixel + channel], value.round() as u8);
                let normal = (value - normalise.mean[channel]) / normalise.deviation[channel];
                assert!((normalised[index] - normal).abs() < 1e-4);
            }
        }
    }
}

#[test]
fn half_floats_are_the_rounded_floats() {
    let mut noise = Noise(13);
    for order in [ChannelOrder::Rgb, ChannelOrder::Bgr] {
        let format = InputFormat { order, ..FORMAT };
        let canvas = Canvas::new(PixelFormat::Nv12, 77, 33, &mut noise);
        let picture = canvas.picture(Matrix::Bt601, Range::Limited);
        let floats = prepared(&mut Preparer::default(), &picture, &format);
        let mut halves = vec![f16::NAN; floats.len()];
        Preparer::default().prepare(&picture, &format, SlotMut::F16(&mut halves), &mut None);
        assert!(halves.iter().zip(&floats).all(|(half, &float)| *half == f16::from_f32(float)));
    }
}

#[test]
fn padding_is_renewed_when_the_letterbox_changes_and_only_then() {
    let mut noise = Noise(17);
    let mut preparer = Preparer::default();
    let mut padded = None;
    let mut slot = vec![f32::NAN; 3 * FORMAT.width * FORMAT.height];
    for (width, height) in [(40, 10), (10, 40), (40, 10), (80, 20)] {
        let canvas = Canvas::new(PixelFormat::Rgb, width, height, &mut noise);
        let picture = canvas.picture(Matrix::Bt601, Range::Full);
        preparer.prepare(&picture, &FORMAT, SlotMut::F32(&mut slot), &mut padded);
        assert_eq!(slot, prepared(&mut Preparer::default(), &picture, &FORMAT), "{width}x{height}");
    }
    // Twice the size in the same place: what lies around it is not written again.
    slot[0] = 42.0;
    let canvas = Canvas::new(PixelFormat::Rgb, 160, 40, &mut noise);
    preparer.prepare(&canvas.picture(Matrix::Bt601, Range::Full), &FORMAT, SlotMut::F32(&mut slot), &mut padded);
    assert_eq!(slot[0], 42.0);
}
