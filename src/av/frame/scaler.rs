// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pixel format conversion by swscale, where downstream or a rotation cannot use the decoder's own format.

use std::ffi::c_int;

use ffmpeg_sys_next as ffi;

use crate::av::error::Error;
use crate::av::frame::Frame;
use crate::av::frame::pixel_format::PixelFormat;
use crate::av::frame::pool::{FramePool, PictureMemory};

/// A swscale context, reused while formats and size stay the same, and memory for its pictures.
pub struct Scaler {
    /// Null until first used; sws_getCachedContext takes and returns it.
    context: Context,
    memory: PictureMemory,
}

struct Context(*mut ffi::SwsContext);

// SAFETY: the context is owned by this value alone and has no tie to a thread.
unsafe impl Send for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: null or a context of our own; not used afterwards.
        unsafe { ffi::sws_freeContext(self.0) };
    }
}

impl Scaler {
    /// Creates a scaler whose pictures get their memory from `pool`.
    #[must_use]
    pub fn new(pool: &FramePool) -> Self {
        Self { context: Context(std::ptr::null_mut()), memory: pool.for_file() }
    }

    pub(crate) fn memory(&self) -> &PictureMemory {
        &self.memory
    }

    /// Returns the frame, or a copy in the same format whose planes are plain: for pictures stored bottom up.
    ///
    /// # Errors
    /// When memory is short.
    pub fn with_plain_planes(&self, frame: Frame) -> Result<Frame, Error> {
        if frame.has_plain_planes() {
            return Ok(frame);
        }
        let mut copy = Frame::allocate(&self.memory, frame.pixel_format()?, frame.width(), frame.height())?;
        copy.copy_properties(&frame)?;
        frame.copy_pixels_to(&mut copy)?;
        Ok(copy)
    }

    /// Returns a format that can be rotated and loses nothing of `format`.
    pub(super) fn rotatable_format(format: PixelFormat) -> PixelFormat {
        let names: &[&str] = if format.is_rgb() || format.has_alpha() {
            &["rgb24", "rgba"]
        } else {
            &["yuv444p", "yuv444p10le", "yuv444p12le", "gray"]
        };
        let candidates: Vec<_> = names.iter().filter_map(|name| PixelFormat::from_name(name)).collect();
        format.closest(&candidates).unwrap_or(format)
    }

    /// Returns a copy of `frame` in the format `to`, same size. Its colour description is the frame's as far as the format allows
    /// (see [`Colour::converted`](super::Colour::converted)).
    ///
    /// # Errors
    /// When swscale does not support the pair of formats, or memory is short.
    pub fn convert(&mut self, frame: &Frame, to: PixelFormat) -> Result<Frame, Error> {
        self.resize(frame, to, (frame.width(), frame.height()))
    }

    /// Returns a copy of `frame` in the format `to` with this width and height in pixels; as [`convert`](Self::convert) otherwise.
    ///
    /// # Errors
    /// As [`convert`](Self::convert), and for a size of 0 or one that is too large.
    pub fn resize(&mut self, frame: &Frame, to: PixelFormat, (width, height): (usize, usize)) -> Result<Frame, Error> {
        let from = frame.pixel_format()?;
        let mut converted = Frame::allocate(&self.memory, to, width, height)?;
        converted.copy_properties(frame)?;
        if from == to && (width, height) == (frame.width(), frame.height()) {
            frame.copy_pixels_to(&mut converted)?;
            return Ok(converted);
        }
        let (w, h) = (frame.raw_width(), frame.raw_height());
        let (to_w, to_h) = (converted.raw_width(), converted.raw_height());
        let flags = ffi::SWS_BICUBIC | ffi::SWS_ACCURATE_RND | ffi::SWS_FULL_CHR_H_INT;
        // SAFETY: the old context is ours or null, ownership passes to the call and comes back with the result.
        let context = unsafe {
            ffi::sws_getCachedContext(
                self.context.0,
                w,
                h,
                from.raw(),
                to_w,
                to_h,
                to.raw(),
                flags,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null(),
            )
        };
        self.context.0 = context;
        if context.is_null() {
            return Err(Error::Damaged(format!("swscale cannot convert {from:?} pictures to {to:?}")));
        }
        let source = frame.effective_colour();
        let target = frame.colour().converted(from, to);
        converted.set_colour(target);
        // SAFETY: any colour space number is allowed, unknown ones give the default table, which is static.
        let tables = [source, target].map(|colour| unsafe { ffi::sws_getCoefficients(colour.matrix as c_int) });
        // From RGB to RGB swscale may convert by way of luma and chroma: both ways by the same matrix.
        let tables = match (from.is_rgb(), to.is_rgb()) {
            (_, true) => [tables[0]; 2],
            (true, false) => [tables[1]; 2],
            (false, false) => tables,
        };
        let ranges = [source.is_full_range() || from.is_rgb(), target.is_full_range()];
        // SAFETY: context is valid, the tables have their four entries; brightness 0, contrast and saturation 1 in 16.16.
        unsafe {
            ffi::sws_setColorspaceDetails(
                context,
                tables[0],
                ranges[0].into(),
                tables[1],
                ranges[1].into(),
                0,
                1 << 16,
                1 << 16,
            )
        };
        let (source, target) = (frame.as_ptr(), converted.as_mut_ptr());
        // SAFETY: both frames are valid and allocated for exactly this size and format.
        let rows = unsafe {
            ffi::sws_scale(
                context,
                (*source).data.as_ptr().cast(),
                (*source).linesize.as_ptr(),
                0,
                h,
                (*target).data.as_ptr(),
                (*target).linesize.as_ptr(),
            )
        };
        if rows < 0 {
            return Err(Error::call("sws_scale", rows));
        }
        Ok(converted)
    }
}
