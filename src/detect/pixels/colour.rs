// SPDX-License-Identifier: MIT OR Apache-2.0
//! Conversion of luma and colour differences to red, green and blue: as one linear map, and with the rounding of swscale.
//!
//! Pure arithmetic; knows no memory layout. Any thread.

use super::picture::{Matrix, Range};
use super::pixel_format::{ColourModel, PixelFormat};

/// Component rows are integers with 16 fraction bits, in units of an 8-bit sample: 255 is 255 << 16.
pub(super) const FRACTION_BITS: u32 = 16;

/// out = clamp(luma * y + blue_difference * u + red_difference * v + constant, 0, maximum), for red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Transform {
    /// Rows red, green, blue; columns y, u, v, constant.
    pub rows: [[f32; 4]; 3],
    /// The value of white.
    pub maximum: f32,
}

impl Matrix {
    /// Returns the shares of red and blue in luma (Kr, Kb): ITU-T H.273 (07/2021), table 4.
    pub(crate) fn luma_shares(self) -> (f64, f64) {
        match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
            Self::Fcc => (0.30, 0.11),
            Self::Smpte240m => (0.212, 0.087),
        }
    }
}

impl Transform {
    /// Creates the map for `format` with `matrix` and `range`, with white at `maximum` (1 or 255).
    ///
    /// Equations of ITU-T H.273, section 8.3: with luma in 0..1 and differences in -0.5..0.5,
    /// R = Y + 2 (1 - Kr) Cr, B = Y + 2 (1 - Kb) Cb, G = (Y - Kr R - Kb B) / Kg.
    pub fn new(format: PixelFormat, matrix: Matrix, range: Range, maximum: f32) -> Self {
        let layout = format.layout();
        // Full scale of `bits` bits in units of an 8-bit sample: 255, 255.75, 255.9375 ...
        let full = (f64::from(1u32 << layout.bits) - 1.0) / f64::from(1u32 << (layout.bits - 8));
        let fraction = f64::from(1u32 << FRACTION_BITS);
        let white = f64::from(maximum);
        let (black, luma_span, chroma_span) = match (layout.colour_model, range) {
            (ColourModel::Rgb, _) | (_, Range::Full) => (0.0, full, full),
            (_, Range::Limited) => (16.0, 219.0, 224.0),
        };
        let luma = white / luma_span;
        let (red_share, blue_share) = matrix.luma_shares();
        let green_share = 1.0 - red_share - blue_share;
        let chroma = white / chroma_span;
        let red = 2.0 * (1.0 - red_share) * chroma;
        let blue = 2.0 * (1.0 - blue_share) * chroma;
        let row = |y: f64, u: f64, v: f64| {
            let constant = -(y * black + (u + v) * 128.0);
            [(y / fraction) as f32, (u / fraction) as f32, (v / fraction) as f32, constant as f32]
        };
        let rows = match layout.colour_model {
            ColourModel::Yuv => [
                row(luma, 0.0, red),
                row(luma, -blue * blue_share / green_share, -red * red_share / green_share),
                row(luma, blue, 0.0),
            ],
            ColourModel::Rgb | ColourModel::Gray => [row(luma, 0.0, 0.0); 3],
        };
        Self { rows, maximum }
    }

    /// Converts three component rows to three colour rows of the same length.
    #[inline(always)]
    pub fn yuv_rows(&self, components: [&[i32]; 3], out: [&mut [f32]; 3]) {
        let [red, green, blue] = out;
        let length = red.len();
        let [y, u, v] = components.map(|row| &row[..length]);
        let (green, blue) = (&mut green[..length], &mut blue[..length]);
        let [r, g, b] = self.rows;
        for i in 0..length {
            let (y, u, v) = (y[i] as f32, u[i] as f32, v[i] as f32);
            red[i] = clamped(y * r[0] + v * r[2] + r[3], self.maximum);
            green[i] = clamped(y * g[0] + u * g[1] + v * g[2] + g[3], self.maximum);
            blue[i] = clamped(y * b[0] + u * b[1] + b[3], self.maximum);
        }
    }

    /// Converts one component row to one colour row, for RGB and grey.
    #[inline(always)]
    pub fn plain_row(&self, component: &[i32], out: &mut [f32]) {
        let [factor, _, _, constant] = self.rows[0];
        for (out, &value) in out.iter_mut().zip(component) {
            *out = clamped(value as f32 * factor + constant, self.maximum);
        }
    }
}

/// Converts 8-bit luma and colour differences to 8-bit RGB with the rounding of FFmpeg's swscale on x86.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RgbConversion {
    /// For subsampled formats: products rounded down.
    Truncated(TruncatedProducts),
    /// For 4:4:4: the nearest level; rows as in [`Transform`], in levels.
    Nearest([[f32; 4]; 3]),
}

/// Each product is rounded down separately, so that pictures are up to two levels darker than with the exact map, as in players
/// and training pipelines. FFmpeg, libswscale/yuv2rgb.c (`ff_yuv2rgb_c_init_tables`) and
/// libswscale/x86/yuv_2_rgb.asm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TruncatedProducts {
    /// Eight times the level of black.
    black: i16,
    luma: i16,
    red_from_v: i16,
    blue_from_u: i16,
    green_from_u: i16,
    green_from_v: i16,
}

impl RgbConversion {
    /// Returns the conversion for `format`; `None` for formats other than 8-bit YUV.
    pub fn new(format: PixelFormat, matrix: Matrix, range: Range) -> Option<Self> {
        let layout = format.layout();
        if layout.colour_model != ColourModel::Yuv || layout.bits != 8 {
            return None;
        }
        Some(if layout.components[1].h_shift > 0 {
            Self::Truncated(TruncatedProducts::new(matrix, range))
        } else {
            let unit = (1u32 << FRACTION_BITS) as f32;
            let rows = Transform::new(format, matrix, range, 255.0).rows;
            Self::Nearest(rows.map(|[y, u, v, constant]| [y * unit, u * unit, v * unit, constant]))
        })
    }

    /// Converts rows of Y, U, V (0 to 255, of the same length) to R, G, B (0 to 255) in place.
    #[inline(always)]
    pub fn convert(&self, [y, u, v]: [&mut [i16]; 3]) {
        let length = y.len();
        let rows = [y, &mut u[..length], &mut v[..length]];
        match self {
            Self::Truncated(products) => products.convert(rows),
            Self::Nearest(map) => nearest(map, rows),
        }
    }
}

impl TruncatedProducts {
    fn new(matrix: Matrix, range: Range) -> Self {
        // Coefficients have 16 fraction bits in swscale's tables, which include the wider chroma of limited range ...
        let (red_share, blue_share) = matrix.luma_shares();
        let green_share = 1.0 - red_share - blue_share;
        let table = |value: f64| (value * 255.0 / 224.0 * 65536.0).round() as i64;
        // ... which is removed for full range.
        let ranged = |value: i64| {
            if range == Range::Full { value * 224 / 255 } else { value }
        };
        // The vector code uses 13 fraction bits.
        let coefficient = |value: i64| ((value * 8192 + 32768) >> 16) as i16;
        let red = 2.0 * (1.0 - red_share);
        let blue = 2.0 * (1.0 - blue_share);
        Self {
            black: if range == Range::Full { 0 } else { 16 * 8 },
            luma: coefficient(if range == Range::Full { 65536 } else { 65536 * 255 / 219 }),
            red_from_v: coefficient(ranged(table(red))),
            blue_from_u: coefficient(ranged(table(blue))),
            green_from_u: coefficient(-ranged(table(blue * blue_share / green_share))),
            green_from_v: coefficient(-ranged(table(red * red_share / green_share))),
        }
    }

    #[inline(always)]
    fn convert(&self, [y, u, v]: [&mut [i16]; 3]) {
        let high = |value: i16, factor: i16| ((i32::from(value) * i32::from(factor)) >> 16) as i16;
        let length = y.len();
        let (u, v) = (&mut u[..length], &mut v[..length]);
        for i in 0..length {
            let luma = high(y[i] * 8 - self.black, self.luma);
            let (blue, red) = (u[i] * 8 - 1024, v[i] * 8 - 1024);
            y[i] = (luma + high(red, self.red_from_v)).clamp(0, 255);
            v[i] = (luma + high(blue, self.blue_from_u)).clamp(0, 255);
            u[i] = (luma + (high(blue, self.green_from_u) + high(red, self.green_from_v))).clamp(0, 255);
        }
    }
}

#[inline(always)]
fn nearest(map: &[[f32; 4]; 3], [y, u, v]: [&mut [i16]; 3]) {
    let length = y.len();
    let (u, v) = (&mut u[..length], &mut v[..length]);
    for i in 0..length {
        let sample = [f32::from(y[i]), f32::from(u[i]), f32::from(v[i])];
        let level = |row: &[f32; 4]| {
            let exact = sample[0] * row[0] + sample[1] * row[1] + sample[2] * row[2] + row[3];
            (clamped(exact, 255.0) + 0.5) as i32 as i16
        };
        (y[i], u[i], v[i]) = (level(&map[0]), level(&map[1]), level(&map[2]));
    }
}

/// Clamps `value` to 0..=`maximum`; written so that it compiles to two vector instructions.
#[inline(always)]
fn clamped(value: f32, maximum: f32) -> f32 {
    let value = if value > 0.0 { value } else { 0.0 };
    if value < maximum { value } else { maximum }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rgb(format: PixelFormat, matrix: Matrix, range: Range, sample: [i32; 3]) -> [f32; 3] {
        let mut out = [[0.0f32]; 3];
        let [r, g, b] = &mut out;
        let rows = sample.map(|value| [value << FRACTION_BITS]);
        Transform::new(format, matrix, range, 255.0).yuv_rows([&rows[0], &rows[1], &rows[2]], [r, g, b]);
        out.map(|[value]| value.round())
    }

    #[test]
    fn coefficients_are_those_of_swscale() {
        // round(t * 8192 / 65536) of its tables {104597, 132201, 25675, 53279} and {117489, 138438, 13975, 34925}.
        let old = TruncatedProducts::new(Matrix::Bt601, Range::Limited);
        let new = TruncatedProducts::new(Matrix::Bt709, Range::Limited);
        let list = |l: TruncatedProducts| [l.luma, l.red_from_v, l.blue_from_u, l.green_from_u, l.green_from_v];
        assert_eq!(list(old), [9539, 13075, 16525, -3209, -6660]);
        assert_eq!(list(new), [9539, 14686, 17305, -1747, -4366]);
        assert_eq!(TruncatedProducts::new(Matrix::Bt601, Range::Full).luma, 8192);
    }

    #[test]
    fn limited_black_and_white_reach_both_ends() {
        assert_eq!(rgb(PixelFormat::I420, Matrix::Bt601, Range::Limited, [16, 128, 128]), [0.0; 3]);
        assert_eq!(rgb(PixelFormat::I420, Matrix::Bt709, Range::Limited, [235, 128, 128]), [255.0; 3]);
    }

    #[test]
    fn pure_red_of_bt601_and_bt709_is_converted_to_red() {
        // Red in limited range: ITU-R BT.601 gives Y 81.5, Cb 90.2, Cr 240; BT.709 gives Y 62.6, Cb 102.3, Cr 240.
        let old = rgb(PixelFormat::I420, Matrix::Bt601, Range::Limited, [81, 90, 240]);
        let new = rgb(PixelFormat::I420, Matrix::Bt709, Range::Limited, [63, 102, 240]);
        for red in [old, new] {
            assert!(red[0] >= 253.0 && red[1] <= 2.0 && red[2] <= 2.0, "{red:?}");
        }
    }

    #[test]
    fn ten_bit_limited_values_are_four_times_the_eight_bit_ones() {
        let eight = Transform::new(PixelFormat::I420, Matrix::Bt709, Range::Limited, 1.0);
        let ten = Transform::new(PixelFormat::I42010le, Matrix::Bt709, Range::Limited, 1.0);
        assert_eq!(eight, ten);
    }
}
