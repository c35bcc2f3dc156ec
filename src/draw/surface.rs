// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture that is drawn on: writable planes of any supported pixel format.
//!
//! A colour is converted once to the components of the format. A sample of a subsampled component belongs to several pixels and gets
//! the colour to the extent that they are covered. Where a format has an alpha channel, drawn pixels become opaque.

use super::colour::Colour;
use super::coverage::{Coverage, Shares, WHOLE};
use crate::detect::{Component, Matrix, Picture, PixelFormat, Plane, Range, Result, SampleLayout};

/// A plane of a picture.
#[derive(Debug, Default)]
pub struct PlaneMut<'a> {
    /// Its bytes, starting with the first row.
    pub data: &'a mut [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// A picture that is drawn on.
#[derive(Debug)]
pub struct Surface<'a> {
    layout: SampleLayout,
    alpha: Option<Component>,
    width: usize,
    height: usize,
    planes: Vec<PlaneMut<'a>>,
    matrix: Matrix,
    range: Range,
}

impl<'a> Surface<'a> {
    /// Creates a surface of `width` x `height` pixels from `planes` (as many as the format has).
    ///
    /// # Errors
    /// [`Error::Picture`](crate::detect::Error::Picture) if the size is 0 or above
    /// [`MAX_DIMENSION`](crate::detect::MAX_DIMENSION), a plane is missing, or a row is not inside its plane.
    pub fn new(
        format: PixelFormat,
        (width, height): (usize, usize),
        planes: Vec<PlaneMut<'a>>,
        matrix: Matrix,
        range: Range,
    ) -> Result<Self> {
        let borrowed: Vec<_> = planes.iter().map(|plane| Plane { data: &*plane.data, stride: plane.stride }).collect();
        Picture::new(format, width, height, &borrowed, matrix, range)?;
        Ok(Self { layout: format.layout(), alpha: alpha(format), width, height, planes, matrix, range })
    }

    /// Returns its width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns its height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Mixes `colour` into the covered pixels, to the extent that they are covered, times `opacity` (0 to 1). Clears `coverage`.
    pub(super) fn blend(&mut self, coverage: &mut Coverage, colour: Colour, opacity: f64) {
        let wanted = colour.components(&self.layout, self.matrix, self.range).map(|value| value.round() as u16);
        let opaque = ((1_u32 << self.layout.bits) - 1) as u16;
        let components: Vec<_> =
            self.components().into_iter().zip(wanted).chain(self.alpha.map(|alpha| (alpha, opaque))).collect();
        let mut shares = Shares::default();
        coverage.drain(|tile| {
            let mut resolution = None;
            for (component, wanted) in &components {
                let shifts = (component.h_shift, component.v_shift);
                // Components of one resolution follow each other.
                if resolution.replace(shifts) != Some(shifts) {
                    shares.of_tile(tile, shifts, opacity);
                }
                let (left, top) = (tile.left >> component.h_shift, tile.top >> component.v_shift);
                for (row, line) in shares.lines() {
                    self.mix(component, (left, top + row), line, *wanted);
                }
            }
        });
    }

    /// Mixes `wanted` into samples of a component that follow each other in a row, into each to its share.
    fn mix(&mut self, component: &Component, (column, row): (usize, usize), shares: &[u16], wanted: u16) {
        let (start, unused) = (self.position(component, column, row), self.unused_bits());
        let Some(bytes) = self.planes[component.plane].data.get_mut(start..) else { return };
        // Within 16 bits, because neither value has more than 8.
        let mix_byte = |(byte, share): (&mut u8, &u16)| {
            *byte = ((u16::from(*byte) * (WHOLE - share) + wanted * share + WHOLE / 2) / WHOLE) as u8;
        };
        match (self.layout.sample_bytes, component.step) {
            (1, 1) => bytes.iter_mut().zip(shares).for_each(mix_byte),
            (1, step) => bytes.iter_mut().step_by(step).zip(shares).for_each(mix_byte),
            (_, step) => {
                let [whole, wanted] = [WHOLE, wanted].map(u32::from);
                for (sample, share) in bytes.chunks_mut(2 * step).zip(shares).filter(|(_, share)| **share > 0) {
                    if let [low, high, ..] = sample {
                        let (value, share) = (u16::from_le_bytes([*low, *high]) >> unused, u32::from(*share));
                        let mixed = (u32::from(value) * (whole - share) + wanted * share + whole / 2) / whole;
                        [*low, *high] = ((mixed as u16) << unused).to_le_bytes();
                    }
                }
            }
        }
    }

    /// Replaces the pixels for which `is_inside` in a block by their mean, alpha included.
    pub(super) fn average(
        &mut self,
        (left, top): (usize, usize),
        (right, bottom): (usize, usize),
        is_inside: impl Fn(usize, usize) -> bool,
    ) {
        for component in self.components().into_iter().chain(self.alpha) {
            let (across, down) = (1_usize << component.h_shift, 1_usize << component.v_shift);
            let mut samples = Vec::new();
            for row in top >> component.v_shift..bottom.div_ceil(down) {
                for column in left >> component.h_shift..right.div_ceil(across) {
                    let mut pixels = (0..down).flat_map(|y| (0..across).map(move |x| (x, y)));
                    if pixels.any(|(x, y)| is_inside(column * across + x, row * down + y)) {
                        samples.push((column, row));
                    }
                }
            }
            let sum: f64 = samples.iter().map(|(column, row)| f64::from(self.value(&component, *column, *row))).sum();
            let mean = (sum / samples.len().max(1) as f64) as f32;
            for (column, row) in samples {
                self.set(&component, column, row, mean);
            }
        }
    }

    /// Returns the components that carry the picture, without alpha.
    fn components(&self) -> Vec<Component> {
        self.layout.used().to_vec()
    }

    /// Returns the position of a sample in its plane, in bytes.
    fn position(&self, component: &Component, column: usize, row: usize) -> usize {
        row * self.planes[component.plane].stride
            + (column * component.step + component.offset) * self.layout.sample_bytes
    }

    /// Returns a sample; 0 where there is none.
    fn value(&self, component: &Component, column: usize, row: usize) -> f32 {
        let start = self.position(component, column, row);
        let bytes = self.planes[component.plane].data.get(start..start + self.layout.sample_bytes);
        match bytes {
            Some([byte]) => f32::from(*byte),
            Some([low, high]) => f32::from(u16::from_le_bytes([*low, *high]) >> self.unused_bits()),
            _ => 0.0,
        }
    }

    /// Replaces a sample.
    fn set(&mut self, component: &Component, column: usize, row: usize, value: f32) {
        let (start, unused) = (self.position(component, column, row), self.unused_bits());
        match self.planes[component.plane].data.get_mut(start..start + self.layout.sample_bytes) {
            Some([byte]) => *byte = value.round() as u8,
            Some([low, high]) => [*low, *high] = ((value.round() as u16) << unused).to_le_bytes(),
            _ => {}
        }
    }

    /// Returns the unused bits at the lower end of a sample.
    fn unused_bits(&self) -> u32 {
        if self.layout.sample_bytes == 1 { 0 } else { 16 - self.layout.bits - self.layout.left_shift }
    }
}

/// Returns the alpha channel of a format. The table of formats has only what models see.
fn alpha(format: PixelFormat) -> Option<Component> {
    let at = |plane, offset, step| Some(Component { plane, offset, step, h_shift: 0, v_shift: 0 });
    match format {
        PixelFormat::Argb | PixelFormat::Abgr | PixelFormat::Ayuv => at(0, 0, 4),
        PixelFormat::Rgba | PixelFormat::Bgra | PixelFormat::Vuya => at(0, 3, 4),
        PixelFormat::A420 | PixelFormat::A42010le | PixelFormat::Gbra => at(3, 0, 1),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    /// Draws a white square over black in every format and returns what `check` makes of it.
    fn with_square(format: PixelFormat, opacity: f64, check: impl Fn(&Surface<'_>)) {
        let layout = format.layout();
        let (width, height) = (33, 17);
        let mut bytes: Vec<_> = (0..layout.planes)
            .map(|plane| {
                let (samples, rows) = layout.plane_extent(plane, width, height);
                // Alpha planes are not read by models.
                let (samples, rows) = if samples == 0 { (width, height) } else { (samples, rows) };
                let stride = samples * layout.sample_bytes + 6;
                (vec![0; stride * rows], stride)
            })
            .collect();
        let planes = bytes.iter_mut().map(|(data, stride)| PlaneMut { data, stride: *stride }).collect();
        let mut surface = Surface::new(format, (width, height), planes, Matrix::Bt709, Range::Full).unwrap();
        let mut coverage = Coverage::new(width, height);
        coverage.fill([8.0, 4.0, 16.0, 9.0].into());
        surface.blend(&mut coverage, Colour::WHITE, opacity);
        check(&surface);
    }

    #[test]
    fn every_format_gets_the_colour_where_it_is_covered_and_nowhere_else() {
        for &format in PixelFormat::ALL {
            let first = format.layout().components[0];
            let white = f32::from(((1_u32 << format.layout().bits) - 1) as u16);
            with_square(format, 1.0, |surface| {
                for (y, x) in (0..17).flat_map(|y| (0..33).map(move |x| (y, x))) {
                    let is_inside = (8..24).contains(&x) && (4..13).contains(&y);
                    let wanted = if is_inside { white } else { 0.0 };
                    assert_eq!(surface.value(&first, x, y), wanted, "{} at {x}, {y}", format.name());
                    if let Some(alpha) = surface.alpha {
                        assert_eq!(surface.value(&alpha, x, y), wanted, "alpha of {} at {x}, {y}", format.name());
                    }
                }
            });
            with_square(format, 0.5, |surface| {
                let half = surface.value(&first, 10, 6);
                assert!((half - white / 2.0).abs() <= 1.0, "{}: {half}", format.name());
            });
        }
    }

    #[test]
    fn a_chroma_sample_at_an_edge_gets_its_share() {
        with_square(PixelFormat::I420, 1.0, |surface| {
            let blue_difference = surface.layout.components[1];
            // Row 6 has the rows 12, which is covered, and 13, which is not.
            let values = [5, 6, 7].map(|row| surface.value(&blue_difference, 6, row));
            assert_eq!(values, [128.0, 64.0, 0.0]);
        });
    }

    #[test]
    fn a_block_becomes_its_mean() {
        let mut bytes: Vec<u8> = (0..64).collect();
        let plane = PlaneMut { data: &mut bytes, stride: 8 };
        let mut surface = Surface::new(PixelFormat::Gray8, (8, 8), vec![plane], Matrix::Bt601, Range::Full).unwrap();
        surface.average((0, 0), (4, 4), |x, _| x > 0);
        assert_eq!(bytes[..4], [0, 14, 14, 14]);
        assert_eq!(bytes[24..32], [24, 14, 14, 14, 28, 29, 30, 31]);
        assert_eq!(bytes[32..], (32..64).collect::<Vec<u8>>());
    }
}
