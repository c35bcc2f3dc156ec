// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture in memory: borrowed planes with strides, format and colour.
//!
//! Owns the check that every row lies inside its plane, so that no code after it can read past an end. Knows nothing of
//! models or of the origin of the memory.

use super::pixel_format::PixelFormat;
use crate::detect::error::{Error, Result};

/// Largest supported width and height.
pub const MAX_DIMENSION: usize = 65_536;

/// Coefficients of luma and colour differences; not used for RGB formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Matrix {
    /// ITU-R BT.601, also SMPTE 170M: standard definition, JPEG.
    #[default]
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
    /// ITU-R BT.2020 with non-constant luminance: ultra high definition.
    Bt2020,
    /// FCC Title 47: old analogue television.
    Fcc,
    /// SMPTE 240M: early high definition.
    Smpte240m,
}

/// Sample values of black and white; not used for RGB formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Range {
    /// Luma 16 to 235, colour differences 16 to 240 (in 8-bit terms).
    #[default]
    Limited,
    /// All values, as in JPEG.
    Full,
}

/// One plane of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// The plane's bytes, starting with the first row.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// A picture all of whose samples are inside its planes.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    format: PixelFormat,
    width: usize,
    height: usize,
    planes: [Plane<'a>; 4],
    matrix: Matrix,
    range: Range,
}

/// A frame that is submitted to the engine: owns the memory and gives access to the picture.
///
/// The engine drops it as soon as the pixels are read, always before its [`Ticket`](crate::detect::Ticket) is done.
pub trait Frame: Send {
    /// Returns the picture in this frame.
    ///
    /// # Errors
    /// If the memory cannot be read; the engine passes the error to whoever waits for the frame.
    fn picture(&self) -> Result<Picture<'_>>;

    /// Returns width and height of the picture, if they are known without reading it. The engine then chooses an input size that fits
    /// them ([`InputSize::Auto`](crate::detect::InputSize::Auto)).
    fn size(&self) -> Option<(usize, usize)> {
        None
    }
}

/// A rectangle of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// Left edge.
    pub x: usize,
    /// Top edge.
    pub y: usize,
    /// Width, at least 1.
    pub width: usize,
    /// Height, at least 1.
    pub height: usize,
}

impl Area {
    /// Returns the part of the area inside a picture of `format`, `width` by `height`, extended to the left and upwards to the
    /// start of a chroma sample; `None` if the area is outside.
    #[must_use]
    pub fn within(self, format: PixelFormat, width: usize, height: usize) -> Option<Self> {
        let layout = format.layout();
        let coarsest =
            |shift: fn(&super::pixel_format::Component) -> u32| layout.used().iter().map(shift).max().unwrap_or(0);
        let (across, down) = (coarsest(|component| component.h_shift), coarsest(|component| component.v_shift));
        let (x, y) = (self.x >> across << across, self.y >> down << down);
        let right = self.x.saturating_add(self.width).min(width);
        let bottom = self.y.saturating_add(self.height).min(height);
        let area = Self { x, y, width: right.checked_sub(x)?, height: bottom.checked_sub(y)? };
        (area.width > 0 && area.height > 0 && self.x < right && self.y < bottom).then_some(area)
    }
}

impl<'a> Picture<'a> {
    /// Returns the part of the picture in `area`, as returned by [`Area::within`].
    ///
    /// # Errors
    /// [`Error::Picture`] if the area is not inside the picture.
    pub fn cropped(&self, area: Area) -> Result<Self> {
        let layout = self.format.layout();
        let outside =
            || Error::Picture { reason: format!("{area:?} is not inside {}x{} pixels", self.width, self.height) };
        if area.x + area.width > self.width || area.y + area.height > self.height {
            return Err(outside());
        }
        let mut planes = self.planes;
        for (index, plane) in planes.iter_mut().enumerate().take(layout.planes) {
            // A plane without a component is alpha, which is not read.
            let Some(component) = layout.used().iter().find(|component| component.plane == index) else { continue };
            let columns = (area.x >> component.h_shift) * component.step * layout.sample_bytes;
            let start = (area.y >> component.v_shift) * plane.stride + columns;
            plane.data = plane.data.get(start..).ok_or_else(outside)?;
        }
        Self::new(self.format, area.width, area.height, &planes[..layout.planes], self.matrix, self.range)
    }

    /// Returns a thumbnail: the 8-bit value of the first component at `columns` by `rows` positions.
    #[must_use]
    pub fn thumbnail(&self, columns: usize, rows: usize) -> Vec<u8> {
        let layout = self.format.layout();
        let component = layout.components[0];
        let samples = layout.plane_extent(component.plane, self.width, self.height).0;
        let mut values = Vec::with_capacity(columns * rows);
        for row in 0..rows {
            let y = (2 * row + 1) * self.height / (2 * rows);
            let line = self.row(component.plane, y, samples * layout.sample_bytes);
            for column in 0..columns {
                let x = (2 * column + 1) * self.width / (2 * columns);
                let sample = x * component.step + component.offset;
                values.push(match layout.sample_bytes {
                    1 => line[sample],
                    _ => {
                        ((u16::from_le_bytes([line[2 * sample], line[2 * sample + 1]]) << layout.left_shift) >> 8) as u8
                    }
                });
            }
        }
        values
    }

    /// Creates a picture of `width` by `height` pixels from `planes` (as many as the format has), with left-sited chroma as in
    /// H.264.
    ///
    /// # Errors
    /// [`Error::Picture`] if the size is 0 or above [`MAX_DIMENSION`], a plane is missing, or a row is not inside its plane.
    pub fn new(
        format: PixelFormat,
        width: usize,
        height: usize,
        planes: &[Plane<'a>],
        matrix: Matrix,
        range: Range,
    ) -> Result<Self> {
        let refuse = |reason: String| Err(Error::Picture { reason });
        if !(1..=MAX_DIMENSION).contains(&width) || !(1..=MAX_DIMENSION).contains(&height) {
            return refuse(format!("its size is {width}x{height}; each side must be 1 to {MAX_DIMENSION}"));
        }
        let layout = format.layout();
        if planes.len() < layout.planes {
            return refuse(format!("{} has {} planes, but {} were given", layout.name, layout.planes, planes.len()));
        }
        let mut kept = [Plane { data: &[], stride: 0 }; 4];
        for (index, plane) in planes.iter().take(layout.planes).enumerate() {
            let (samples, rows) = layout.plane_extent(index, width, height);
            let row_bytes = samples * layout.sample_bytes;
            if rows > 1 && plane.stride < row_bytes {
                return refuse(format!(
                    "plane {index} of {} {width}x{height} has a stride of {} bytes, but its rows have {row_bytes}",
                    layout.name, plane.stride
                ));
            }
            let needed = rows.saturating_sub(1).saturating_mul(plane.stride).saturating_add(row_bytes);
            if plane.data.len() < needed {
                return refuse(format!(
                    "plane {index} of {} {width}x{height} with stride {} needs {needed} bytes, but has {}",
                    layout.name,
                    plane.stride,
                    plane.data.len()
                ));
            }
            kept[index] = *plane;
        }
        Ok(Self { format, width, height, planes: kept, matrix, range })
    }

    /// Returns the pixel format.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Returns the width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Returns the luma and chroma coefficients.
    pub fn matrix(&self) -> Matrix {
        self.matrix
    }

    /// Returns the sample range.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Returns the first `bytes` bytes of a row, which must not exceed what [`Picture::new`] checked.
    pub(crate) fn row(&self, plane: usize, row: usize, bytes: usize) -> &'a [u8] {
        let Plane { data, stride } = self.planes[plane];
        &data[row * stride..][..bytes]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn picture(format: PixelFormat, width: usize, height: usize, planes: &[(usize, usize)]) -> Result<()> {
        let bytes: Vec<Vec<u8>> = planes.iter().map(|&(length, _)| vec![0; length]).collect();
        let planes: Vec<_> = bytes.iter().zip(planes).map(|(data, &(_, stride))| Plane { data, stride }).collect();
        Picture::new(format, width, height, &planes, Matrix::Bt601, Range::Limited).map(|_| ())
    }

    #[test]
    fn a_last_row_may_end_before_its_stride() {
        picture(PixelFormat::I420, 5, 3, &[(8 + 8 + 5, 8), (4 + 3, 4), (4 + 3, 4)]).unwrap();
        picture(PixelFormat::Rgb, 1, 1, &[(3, 0)]).unwrap();
    }

    #[test]
    fn a_part_of_a_picture_has_the_same_pixels() {
        for &format in PixelFormat::ALL {
            let layout = format.layout();
            let (width, height) = (40, 24);
            let bytes: Vec<(Vec<u8>, usize)> = (0..layout.planes)
                .map(|plane| {
                    let (samples, rows) = layout.plane_extent(plane, width, height);
                    let stride = samples * layout.sample_bytes + 6;
                    ((0..stride * rows).map(|index| (index * 7 + plane) as u8).collect(), stride)
                })
                .collect();
            let planes: Vec<_> = bytes.iter().map(|(data, stride)| Plane { data, stride: *stride }).collect();
            let whole = Picture::new(format, width, height, &planes, Matrix::Bt601, Range::Limited).unwrap();
            let asked = Area { x: 9, y: 5, width: 20, height: 90 };
            let area = asked.within(format, width, height).unwrap();
            assert!(area.x <= 9 && area.x > 4 && area.y <= 5 && area.y >= 4, "{}: {area:?}", format.name());
            assert_eq!((area.x + area.width, area.y + area.height), (29, 24));
            let part = whole.cropped(area).unwrap_or_else(|error| panic!("{}: {error}", format.name()));
            for component in layout.used() {
                let sample = |picture: &Picture<'_>, x: usize, y: usize| {
                    let at = ((x >> component.h_shift) * component.step + component.offset) * layout.sample_bytes;
                    picture.row(component.plane, y >> component.v_shift, at + layout.sample_bytes)[at]
                };
                for (x, y) in [(0, 0), (7, 3), (area.width - 1, area.height - 1)] {
                    assert_eq!(sample(&part, x, y), sample(&whole, area.x + x, area.y + y), "{}", format.name());
                }
            }
            assert!(whole.cropped(Area { x: 30, y: 0, width: 11, height: 1 }).is_err());
            assert_eq!(Area { x: 40, y: 0, width: 5, height: 5 }.within(format, width, height), None);
            assert_eq!(part.thumbnail(4, 3).len(), 12);
        }
    }

    #[test]
    fn planes_that_do_not_hold_the_picture_are_rejected() {
        let short = picture(PixelFormat::I420, 5, 3, &[(20, 8), (7, 4), (7, 4)]).unwrap_err().to_string();
        assert!(short.contains("plane 0") && short.contains("21"), "{short}");
        assert!(picture(PixelFormat::I420, 5, 3, &[(21, 8), (7, 4)]).is_err(), "a plane is missing");
        assert!(picture(PixelFormat::Gray8, 5, 3, &[(100, 4)]).is_err(), "stride below the row's length");
        assert!(picture(PixelFormat::Gray8, 0, 3, &[(100, 4)]).is_err(), "no width");
        assert!(picture(PixelFormat::Gray8, MAX_DIMENSION + 1, 1, &[(1 << 20, 1 << 20)]).is_err(), "too wide");
        assert!(picture(PixelFormat::Gray8, 8, 8, &[(100, usize::MAX)]).is_err(), "a stride that overflows");
    }
}
