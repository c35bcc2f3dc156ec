//! A picture in memory as it came: borrowed planes with strides, format and colour.
//!
//! Owns the check that every row lies inside its plane, so that nothing behind it can read past an end. Knows nothing of
//! models or of where the memory came from.

use super::error::{Error, Result};
use super::format::PixelFormat;

/// Largest width and height that is read.
pub const MAX_DIMENSION: usize = 65_536;

/// The coefficients that made luma and colour differences; means nothing for RGB formats.
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

/// Which sample values are black and white; means nothing for RGB formats.
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
    /// The plane's bytes from its first row on.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// A picture whose every sample is known to be inside its planes.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    format: PixelFormat,
    width: usize,
    height: usize,
    planes: [Plane<'a>; 4],
    matrix: Matrix,
    range: Range,
}

/// A frame handed to the engine: owns the memory and shows the picture when asked.
///
/// The engine drops it as soon as the pixels are read, always before its [`Ticket`](super::Ticket) is done.
pub trait Frame: Send {
    /// The picture in this frame.
    ///
    /// # Errors
    /// Whatever keeps the memory from being read; the engine passes it on to who waits for the frame.
    fn picture(&self) -> Result<Picture<'_>>;
}

impl<'a> Picture<'a> {
    /// A picture over `planes` (as many as the format has), `width` by `height` pixels, whose chroma is sited left as in H.264.
    ///
    /// # Errors
    /// [`Error::Picture`] if the size is 0 or over [`MAX_DIMENSION`], a plane is missing, or a row would not lie inside its
    /// plane.
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
            return refuse(format!("{} has {} planes, got {}", layout.name, layout.planes, planes.len()));
        }
        let mut kept = [Plane { data: &[], stride: 0 }; 4];
        for (index, plane) in planes.iter().take(layout.planes).enumerate() {
            let (samples, rows) = layout.plane_extent(index, width, height);
            let row_bytes = samples * layout.sample_bytes;
            if rows > 1 && plane.stride < row_bytes {
                return refuse(format!(
                    "plane {index} of {} {width}x{height} has a stride of {} bytes, its rows are {row_bytes}",
                    layout.name, plane.stride
                ));
            }
            let needed = rows.saturating_sub(1).saturating_mul(plane.stride).saturating_add(row_bytes);
            if plane.data.len() < needed {
                return refuse(format!(
                    "plane {index} of {} {width}x{height} with stride {} needs {needed} bytes and has {}",
                    layout.name,
                    plane.stride,
                    plane.data.len()
                ));
            }
            kept[index] = *plane;
        }
        Ok(Self { format, width, height, planes: kept, matrix, range })
    }

    /// Pixel format.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Luma and chroma coefficients.
    pub fn matrix(&self) -> Matrix {
        self.matrix
    }

    /// Sample range.
    pub fn range(&self) -> Range {
        self.range
    }

    /// The first `bytes` bytes of a row; callers ask for no more than [`Picture::new`] checked.
    pub(super) fn row(&self, plane: usize, row: usize, bytes: usize) -> &'a [u8] {
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
    fn whatever_does_not_hold_the_picture_is_refused() {
        let short = picture(PixelFormat::I420, 5, 3, &[(20, 8), (7, 4), (7, 4)]).unwrap_err().to_string();
        assert!(short.contains("plane 0") && short.contains("21"), "{short}");
        assert!(picture(PixelFormat::I420, 5, 3, &[(21, 8), (7, 4)]).is_err(), "a plane is missing");
        assert!(picture(PixelFormat::Gray8, 5, 3, &[(100, 4)]).is_err(), "stride under the row's length");
        assert!(picture(PixelFormat::Gray8, 0, 3, &[(100, 4)]).is_err(), "no width");
        assert!(picture(PixelFormat::Gray8, MAX_DIMENSION + 1, 1, &[(1 << 20, 1 << 20)]).is_err(), "too wide");
        assert!(picture(PixelFormat::Gray8, 8, 8, &[(100, usize::MAX)]).is_err(), "a stride that overflows");
    }
}
