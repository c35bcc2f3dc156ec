// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pixel formats by FFmpeg's names ("yuv420p"), and their geometry.

use std::ffi::{CStr, CString, c_int};

use ffmpeg_sys_next as ffi;

use crate::av::c_enums;

/// A pixel format of the FFmpeg in use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PixelFormat(ffi::AVPixelFormat);

impl std::fmt::Debug for PixelFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Memory layout of the samples of one plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneGeometry {
    /// Samples (or groups of interleaved samples) in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// Bytes from one sample (or group) to the next.
    pub step: usize,
}

impl PixelFormat {
    /// Converts the integer in a field of a C struct, which a newer library may fill with values that these bindings do not have.
    pub(crate) fn from_raw(raw: c_int) -> Option<Self> {
        if !(0..ffi::AVPixelFormat::AV_PIX_FMT_NB as c_int).contains(&raw) {
            return None;
        }
        // SAFETY: AVPixelFormat is repr(i32) and has a value for each integer from 0 to AV_PIX_FMT_NB, checked above.
        Some(Self(unsafe { std::mem::transmute::<c_int, ffi::AVPixelFormat>(raw) }))
    }

    pub(crate) fn raw(self) -> ffi::AVPixelFormat {
        self.0
    }

    /// Returns the format that FFmpeg calls `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = CString::new(name).ok()?;
        // SAFETY: a terminated string, read during the call.
        Self::from_raw(unsafe { c_enums::av_get_pix_fmt(name.as_ptr()) })
    }

    /// Returns FFmpeg's name, for example "yuv420p".
    #[must_use]
    pub fn name(self) -> &'static str {
        // SAFETY: any value is allowed; the result is null or a static string.
        let name = unsafe { ffi::av_get_pix_fmt_name(self.0) };
        if name.is_null() {
            return "unknown";
        }
        // SAFETY: FFmpeg's names are static, terminated ASCII.
        unsafe { CStr::from_ptr(name) }.to_str().unwrap_or("unknown")
    }

    fn descriptor(self) -> Option<&'static ffi::AVPixFmtDescriptor> {
        // SAFETY: any value is allowed; the result is null or a static descriptor.
        unsafe { ffi::av_pix_fmt_desc_get(self.0).as_ref() }
    }

    fn has_flag(self, flag: u64) -> bool {
        self.descriptor().is_some_and(|descriptor| descriptor.flags & flag != 0)
    }

    /// Returns the number of planes with picture data.
    #[must_use]
    pub fn plane_count(self) -> usize {
        // SAFETY: any value is allowed.
        let count = unsafe { ffi::av_pix_fmt_count_planes(self.0) };
        usize::try_from(count).unwrap_or(0)
    }

    /// Returns the rows of `plane` in a picture of `height` lines.
    #[must_use]
    pub fn plane_rows(self, plane: usize, height: usize) -> usize {
        let Some(descriptor) = self.descriptor() else { return 0 };
        // As FFmpeg's av_image_fill_pointers: planes 1 and 2 are the subsampled ones.
        let shift = if plane == 1 || plane == 2 { descriptor.log2_chroma_h } else { 0 };
        height.div_ceil(1 << shift)
    }

    /// Returns the bytes of picture data in a row of `plane`, without padding.
    #[must_use]
    pub fn row_bytes(self, plane: usize, width: usize) -> Option<usize> {
        let (Ok(width), Ok(plane)) = (c_int::try_from(width), c_int::try_from(plane)) else { return None };
        // SAFETY: any values are allowed; errors are negative.
        let bytes = unsafe { ffi::av_image_get_linesize(self.0, width, plane) };
        usize::try_from(bytes).ok()
    }

    /// Returns the planes of a `width` x `height` picture if each is a plain grid of whole samples, which rotation needs; `None` for
    /// bit-packed, palette and packed subsampled formats.
    #[must_use]
    pub fn grid(self, width: usize, height: usize) -> Option<Vec<PlaneGeometry>> {
        let descriptor = self.descriptor()?;
        let flags = ffi::AV_PIX_FMT_FLAG_BITSTREAM | ffi::AV_PIX_FMT_FLAG_PAL | ffi::AV_PIX_FMT_FLAG_HWACCEL;
        if self.has_flag(flags as u64) {
            return None;
        }
        let mut planes = Vec::with_capacity(self.plane_count());
        for plane in 0..self.plane_count() {
            let components = &descriptor.comp[..usize::from(descriptor.nb_components).min(4)];
            let mut steps = components.iter().filter(|c| usize::try_from(c.plane) == Ok(plane)).map(|c| c.step);
            let step = steps.next()?;
            // Packed 4:2:2 has components of different steps in one plane.
            if steps.any(|other| other != step) {
                return None;
            }
            let shift = if plane == 1 || plane == 2 { descriptor.log2_chroma_w } else { 0 };
            let columns = width.div_ceil(1 << shift);
            planes.push(PlaneGeometry {
                columns,
                rows: self.plane_rows(plane, height),
                step: usize::try_from(step).ok()?,
            });
        }
        Some(planes)
    }

    /// Whether a picture in this format that is rotated by 90 degrees has the same format.
    #[must_use]
    pub fn is_square_sampled(self) -> bool {
        self.descriptor().is_some_and(|descriptor| descriptor.log2_chroma_w == descriptor.log2_chroma_h)
    }

    /// Whether the samples are RGB or indices into an RGB palette (no colour matrix applies).
    #[must_use]
    pub fn is_rgb(self) -> bool {
        self.has_flag((ffi::AV_PIX_FMT_FLAG_RGB | ffi::AV_PIX_FMT_FLAG_PAL) as u64) || self.name().starts_with("xyz")
    }

    /// Whether there is only luma, with or without alpha.
    #[must_use]
    pub fn is_gray(self) -> bool {
        self.descriptor().is_some_and(|descriptor| descriptor.nb_components <= 2) && !self.is_rgb()
    }

    /// Returns the bytes of a sample of one component.
    #[must_use]
    pub fn sample_bytes(self) -> usize {
        let depth = self.descriptor().map_or(8, |descriptor| descriptor.comp[0].depth);
        usize::try_from(depth).unwrap_or(8).div_ceil(8)
    }

    /// Whether samples of several bytes begin with the highest one.
    #[must_use]
    pub fn is_big_endian(self) -> bool {
        self.has_flag(ffi::AV_PIX_FMT_FLAG_BE as u64)
    }

    /// Whether pictures in this format are handles on a device, without bytes to read.
    #[must_use]
    pub fn is_on_device(self) -> bool {
        self.has_flag(ffi::AV_PIX_FMT_FLAG_HWACCEL as u64)
    }

    /// Whether there is an alpha channel.
    #[must_use]
    pub fn has_alpha(self) -> bool {
        self.has_flag(ffi::AV_PIX_FMT_FLAG_ALPHA as u64)
    }

    /// Whether the name implies that luma uses all 256 codes (the yuvj family).
    #[must_use]
    pub fn is_full_range_by_name(self) -> bool {
        self.name().starts_with("yuvj")
    }

    /// Returns the candidate into which pictures of this format convert with the least loss.
    #[must_use]
    pub fn closest(self, candidates: &[PixelFormat]) -> Option<PixelFormat> {
        candidates.iter().copied().reduce(|best, candidate| {
            // SAFETY: valid formats by construction, one of which is returned; a null loss pointer is allowed.
            let chosen = unsafe {
                ffi::av_find_best_pix_fmt_of_2(
                    best.0,
                    candidate.0,
                    self.0,
                    self.has_alpha().into(),
                    std::ptr::null_mut(),
                )
            };
            if chosen == candidate.0 { candidate } else { best }
        })
    }
}
