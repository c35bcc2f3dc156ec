// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decoded pictures, reference-counted by FFmpeg, and their planes as byte slices.
//!
//! Thread rule: a frame and its planes may be moved to and read from any thread; only a sole owner writes.

pub mod canary;
pub mod pixel_format;
pub mod pool;
pub mod rotation;
pub mod scaler;

use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::Arc;

use ffmpeg_sys_next as ffi;

use crate::av::error::Error;
use crate::av::frame::pixel_format::PixelFormat;
use crate::av::frame::pool::{InitialContent, PictureMemory};
use crate::av::frame::rotation::Rotation;

/// Colour description as the code points of ISO/IEC 23091-2 (which FFmpeg and GStreamer share); 2 = unspecified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour {
    /// 0 = unspecified, 1 = limited ("tv"), 2 = full ("pc").
    pub range: u32,
    /// Matrix coefficients.
    pub matrix: u32,
    /// Transfer characteristics.
    pub transfer: u32,
    /// Colour primaries.
    pub primaries: u32,
}

impl Colour {
    const LIMITED: u32 = 1;
    const FULL: u32 = 2;
    /// Matrix coefficients of RGB samples.
    const IDENTITY: u32 = 0;
    const UNSPECIFIED: u32 = 2;
    /// Matrix coefficients of BT.601 (BT.470 B/G).
    const BT601: u32 = 5;

    /// Whether samples use the full range of codes.
    #[must_use]
    pub fn is_full_range(self) -> bool {
        self.range == Self::FULL
    }

    /// Whether the stream specifies the matrix of its luma and chroma.
    #[must_use]
    pub fn names_matrix(self) -> bool {
        self.matrix != Self::IDENTITY && self.matrix != Self::UNSPECIFIED
    }

    /// Returns the colour description of pictures converted from `from` to `to`: unchanged where both have luma, BT.601 in limited
    /// range where RGB becomes luma and chroma.
    #[must_use]
    pub fn converted(self, from: PixelFormat, to: PixelFormat) -> Self {
        let is_full =
            self.is_full_range() || from.is_full_range_by_name() || from.is_gray() && self.range != Self::LIMITED;
        match (from.is_rgb(), to.is_rgb()) {
            (_, true) => Self { range: Self::FULL, matrix: Self::IDENTITY, ..self },
            (true, false) if to.is_gray() => Self { range: Self::FULL, matrix: Self::BT601, ..self },
            (true, false) => Self { range: Self::LIMITED, matrix: Self::BT601, ..self },
            (false, false) if from.is_gray() && !self.names_matrix() => {
                Self { range: if is_full { Self::FULL } else { Self::LIMITED }, matrix: Self::BT601, ..self }
            }
            (false, false) if is_full => Self { range: Self::FULL, ..self },
            (false, false) => self,
        }
    }
}

/// An AVFrame with picture data.
pub struct Frame {
    frame: NonNull<ffi::AVFrame>,
}

// SAFETY: the AVFrame struct is owned by this value alone; what it points to is reference-counted with atomics and,
// once the decoder has handed it out, no longer written.
unsafe impl Send for Frame {}
// SAFETY: &Frame only reads.
unsafe impl Sync for Frame {}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({}x{} {:?})", self.width(), self.height(), self.pixel_format().ok())
    }
}

impl Frame {
    pub(crate) fn new() -> Result<Self, Error> {
        // SAFETY: plain allocation; null is handled.
        let frame = unsafe { ffi::av_frame_alloc() };
        NonNull::new(frame).map(|frame| Self { frame }).ok_or_else(|| Error::memory("av_frame_alloc"))
    }

    /// Allocates a frame with memory for a picture.
    pub(super) fn allocate(
        memory: &PictureMemory,
        format: PixelFormat,
        width: usize,
        height: usize,
    ) -> Result<Self, Error> {
        let too_large = || Error::Damaged(format!("a picture of {width}x{height} pixels is too large"));
        let mut frame = Self::new()?;
        let raw = frame.as_mut_ptr();
        let (w, h) = (c_int::try_from(width), c_int::try_from(height));
        let (Ok(w), Ok(h)) = (w, h) else { return Err(too_large()) };
        // SAFETY: the frame is valid, empty and ours.
        unsafe {
            (*raw).format = format.raw() as c_int;
            (*raw).width = w;
            (*raw).height = h;
        }
        // SAFETY: as above.
        let filled = unsafe { memory.fill(raw, format, (w, h), [64; 4], InitialContent::Unspecified) };
        filled.map_err(|code| Error::call("allocation of a picture", code))?;
        Ok(frame)
    }

    /// Copies a picture from a device into memory.
    pub(crate) fn download(&self, memory: &PictureMemory) -> Result<Frame, Error> {
        let mut formats = std::ptr::null_mut();
        let direction = ffi::AVHWFrameTransferDirection::AV_HWFRAME_TRANSFER_DIRECTION_FROM;
        // SAFETY: a device frame has a frames context; the call leaves a list that ends with -1, ours to free.
        let result =
            unsafe { ffi::av_hwframe_transfer_get_formats(self.get().hw_frames_ctx, direction, &raw mut formats, 0) };
        if result < 0 {
            return Err(Error::call("av_hwframe_transfer_get_formats", result));
        }
        // SAFETY: the list has one entry at least, read as the integer it is.
        let first = unsafe { formats.cast::<c_int>().read() };
        // SAFETY: allocated by the call above and not used afterwards.
        unsafe { ffi::av_free(formats.cast()) };
        let format = PixelFormat::from_raw(first)
            .ok_or_else(|| Error::Damaged(format!("unknown pixel format of the device ({first})")))?;
        let mut copy = Frame::allocate(memory, format, self.width(), self.height())?;
        // SAFETY: both frames are valid; the copy has memory of its own for a picture of that size.
        let result = unsafe { ffi::av_hwframe_transfer_data(copy.as_mut_ptr(), self.as_ptr(), 0) };
        if result < 0 {
            return Err(Error::call("av_hwframe_transfer_data", result));
        }
        copy.copy_properties(self)?;
        // Cropping at the left and the top was not possible while the picture was on the device.
        // SAFETY: the frame is valid, with planes of plain memory.
        let result = unsafe { ffi::av_frame_apply_cropping(copy.as_mut_ptr(), ffi::AV_FRAME_CROP_UNALIGNED as c_int) };
        if result < 0 { Err(Error::call("av_frame_apply_cropping", result)) } else { Ok(copy) }
    }

    pub(crate) fn as_ptr(&self) -> *const ffi::AVFrame {
        self.frame.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut ffi::AVFrame {
        self.frame.as_ptr()
    }

    /// Fields read through this must not be C enums: those are read as integers through raw pointers.
    fn get(&self) -> &FrameFields {
        // SAFETY: FrameFields is AVFrame; the frame is valid until Drop and written only through &mut self.
        unsafe { self.frame.as_ref() }
    }

    /// Returns the pixels in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        usize::try_from(self.get().width).unwrap_or(0)
    }

    /// Returns the number of lines.
    #[must_use]
    pub fn height(&self) -> usize {
        usize::try_from(self.get().height).unwrap_or(0)
    }

    pub(super) fn raw_width(&self) -> c_int {
        self.get().width
    }

    pub(super) fn raw_height(&self) -> c_int {
        self.get().height
    }

    /// Returns the pixel format.
    ///
    /// # Errors
    /// When the library in use has a format that these bindings do not have.
    pub fn pixel_format(&self) -> Result<PixelFormat, Error> {
        let raw = self.get().format;
        PixelFormat::from_raw(raw).ok_or_else(|| Error::Damaged(format!("unknown pixel format of the picture ({raw})")))
    }

    /// Returns the presentation time in units of the stream's time base, or the decoding time where there is none.
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        let frame = self.get();
        [frame.pts, frame.pkt_dts].into_iter().find(|&ts| ts != ffi::AV_NOPTS_VALUE)
    }

    /// Returns the duration in units of the stream's time base, where known.
    #[must_use]
    pub fn duration(&self) -> Option<i64> {
        #[cfg(ffmpeg_6_0)]
        let duration = self.get().duration;
        #[cfg(not(ffmpeg_6_0))]
        let duration = self.get().pkt_duration;
        (duration > 0).then_some(duration)
    }

    /// Returns whether the top field comes first, or `None` for a picture that is not interlaced.
    #[must_use]
    pub fn interlaced_top_field_first(&self) -> Option<bool> {
        #[cfg(ffmpeg_6_1)]
        let (interlaced, top_first) = {
            let flags = self.get().flags;
            (flags & ffi::AV_FRAME_FLAG_INTERLACED != 0, flags & ffi::AV_FRAME_FLAG_TOP_FIELD_FIRST != 0)
        };
        #[cfg(not(ffmpeg_6_1))]
        let (interlaced, top_first) = (self.get().interlaced_frame != 0, self.get().top_field_first != 0);
        interlaced.then_some(top_first)
    }

    /// Whether the decoder concealed errors in the picture, or parts of it are missing.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        let frame = self.get();
        frame.flags & ffi::AV_FRAME_FLAG_CORRUPT != 0 || frame.decode_error_flags != 0
    }

    /// Returns the colour description of the stream.
    #[must_use]
    pub fn colour(&self) -> Colour {
        let frame = self.as_ptr();
        // C enums are read as integers: a newer library may use values that these bindings do not have.
        // SAFETY: the frame is valid; all four are 32-bit enums (C int) in every supported FFmpeg.
        unsafe {
            Colour {
                range: (&raw const (*frame).color_range).cast::<u32>().read(),
                matrix: (&raw const (*frame).colorspace).cast::<u32>().read(),
                transfer: (&raw const (*frame).color_trc).cast::<u32>().read(),
                primaries: (&raw const (*frame).color_primaries).cast::<u32>().read(),
            }
        }
    }

    /// Returns the colour description with what the pixel format implies: `yuvj` formats, and grey without a description, use the
    /// full range.
    #[must_use]
    pub fn effective_colour(&self) -> Colour {
        let colour = self.colour();
        self.pixel_format()
            .map_or(colour, |format| if format.is_rgb() { colour } else { colour.converted(format, format) })
    }

    /// Sets the colour description.
    pub(super) fn set_colour(&mut self, colour: Colour) {
        let frame = self.as_mut_ptr();
        // SAFETY: the frame is valid and ours; the fields are 32-bit enums, and the values came out of such fields or are
        // among those that every supported FFmpeg has.
        unsafe {
            (&raw mut (*frame).color_range).cast::<u32>().write(colour.range);
            (&raw mut (*frame).colorspace).cast::<u32>().write(colour.matrix);
        }
    }

    /// Returns the rotation that the frame itself specifies (EXIF, H.264 display orientation).
    #[must_use]
    pub fn rotation(&self) -> Option<Rotation> {
        let kind = ffi::AVFrameSideDataType::AV_FRAME_DATA_DISPLAYMATRIX;
        // SAFETY: the frame is valid; the result is null or valid as long as the frame.
        let side_data = unsafe { ffi::av_frame_get_side_data(self.as_ptr(), kind).as_ref() }?;
        // SAFETY: data and size describe the side data's own memory.
        let bytes = unsafe { std::slice::from_raw_parts(side_data.data, side_data.size) };
        display_matrix(bytes).map(|matrix| Rotation::from_display_matrix(&matrix))
    }

    pub(super) fn drop_display_matrix(&mut self) {
        let kind = ffi::AVFrameSideDataType::AV_FRAME_DATA_DISPLAYMATRIX;
        // SAFETY: the frame is valid and ours.
        unsafe { ffi::av_frame_remove_side_data(self.as_mut_ptr(), kind) };
    }

    pub(super) fn copy_properties(&mut self, from: &Frame) -> Result<(), Error> {
        // SAFETY: both frames are valid and distinct.
        let result = unsafe { ffi::av_frame_copy_props(self.as_mut_ptr(), from.as_ptr()) };
        if result < 0 { Err(Error::call("av_frame_copy_props", result)) } else { Ok(()) }
    }

    pub(super) fn copy_pixels_to(&self, target: &mut Frame) -> Result<(), Error> {
        // SAFETY: both frames are valid; FFmpeg checks that formats and sizes agree.
        let result = unsafe { ffi::av_frame_copy(target.as_mut_ptr(), self.as_ptr()) };
        if result < 0 { Err(Error::call("av_frame_copy", result)) } else { Ok(()) }
    }

    /// Returns the bytes from one line of `plane` to the next; 0 if there is no such plane.
    #[must_use]
    pub fn stride(&self, plane: usize) -> usize {
        self.get().linesize.get(plane).and_then(|&stride| usize::try_from(stride).ok()).unwrap_or(0)
    }

    /// Whether every plane lies inside its own buffer, lines from top to bottom, so that [`plane`](Self::plane) returns it without a
    /// copy.
    #[must_use]
    pub fn has_plain_planes(&self) -> bool {
        let Ok(format) = self.pixel_format() else { return false };
        (0..format.plane_count()).all(|plane| self.plane(plane).is_some())
    }

    /// Returns the bytes of a plane, from its first line's start to its last line's end, full strides where the buffer has
    /// them; `None` if there is no such plane or it is not plain (see [`has_plain_planes`](Self::has_plain_planes)).
    #[must_use]
    pub fn plane(&self, plane: usize) -> Option<&[u8]> {
        let (start, len) = self.plane_span(plane)?;
        // SAFETY: plane_span checked that start..start + len lies inside a buffer that this frame keeps alive.
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }

    /// Returns the bytes of the first plane and its offset in its buffer; `None` where it is not plain.
    pub(super) fn first_plane_with_offset(&self) -> Option<(&[u8], usize)> {
        let plane = self.plane(0).filter(|_| self.stride(0) > 0)?;
        let buffer = self.get().buf[0];
        if buffer.is_null() {
            return None;
        }
        // SAFETY: a non-null entry of buf is valid for the frame's life.
        let start = unsafe { (*buffer).data } as usize;
        Some((plane, (plane.as_ptr() as usize).checked_sub(start)?))
    }

    /// Whether the decoder reports that the picture was predicted from others, and so is not a keyframe whatever the container states.
    pub(crate) fn is_predicted(&self) -> bool {
        #[cfg(ffmpeg_6_1)]
        let is_key = self.get().flags & ffi::AV_FRAME_FLAG_KEY != 0;
        #[cfg(not(ffmpeg_6_1))]
        let is_key = self.get().key_frame != 0;
        // SAFETY: the frame is valid; the C enum is read as an integer.
        let kind = unsafe { (&raw const (*self.as_ptr()).pict_type).cast::<u32>().read() };
        let predicted = [ffi::AVPictureType::AV_PICTURE_TYPE_P, ffi::AVPictureType::AV_PICTURE_TYPE_B];
        !is_key && predicted.iter().any(|predicted| *predicted as u32 == kind)
    }

    /// Flags the picture as incomplete.
    pub(crate) fn mark_corrupt(&mut self) {
        // SAFETY: the frame is valid and ours.
        unsafe { (*self.as_mut_ptr()).flags |= ffi::AV_FRAME_FLAG_CORRUPT };
    }

    /// Flags the picture as incomplete if the decoder has not written all of it.
    pub(crate) fn mark_corrupt_where_unwritten(&mut self) {
        if canary::is_visible(self) {
            self.mark_corrupt();
        }
    }

    pub(super) fn plane_mut(&mut self, plane: usize) -> Option<&mut [u8]> {
        // SAFETY: the frame is valid.
        let writable = unsafe { ffi::av_frame_is_writable(self.as_mut_ptr()) };
        if writable == 0 {
            return None;
        }
        let (start, len) = self.plane_span(plane)?;
        // SAFETY: plane_span checked the bounds, the buffers belong to this frame alone (writable), and &mut self.
        Some(unsafe { std::slice::from_raw_parts_mut(start, len) })
    }

    /// Returns start and length of a plane if it lies, top line first, inside one of the frame's buffers.
    fn plane_span(&self, plane: usize) -> Option<(*mut u8, usize)> {
        let format = self.pixel_format().ok()?;
        if plane >= format.plane_count() {
            return None;
        }
        let fields = self.get();
        let start = fields.data[plane];
        let stride = usize::try_from(fields.linesize[plane]).ok()?;
        let rows = format.plane_rows(plane, self.height());
        let row_bytes = format.row_bytes(plane, self.width())?;
        if start.is_null() || rows == 0 || row_bytes == 0 || row_bytes > stride {
            return None;
        }
        let least = stride.checked_mul(rows - 1)?.checked_add(row_bytes)?;
        for &buffer in fields.buf.iter().take_while(|buffer| !buffer.is_null()) {
            // SAFETY: non-null entries of buf are valid for the frame's life.
            let (data, size) = unsafe { ((*buffer).data as usize, (*buffer).size) };
            let Some(offset) = (start as usize).checked_sub(data) else { continue };
            let Some(available) = size.checked_sub(offset) else { continue };
            if available >= least {
                return Some((start, available.min(stride * rows)));
            }
        }
        None
    }
}

/// AVFrame, under a name that recalls the rule in [`Frame::get`].
type FrameFields = ffi::AVFrame;

impl Drop for Frame {
    fn drop(&mut self) {
        let mut frame = self.frame.as_ptr();
        // SAFETY: allocated by av_frame_alloc and not used afterwards.
        unsafe { ffi::av_frame_free(&raw mut frame) };
    }
}

/// One plane of a shared frame: bytes that keep the whole frame alive, without a copy.
#[derive(Debug, Clone)]
pub struct PlaneBytes {
    frame: Arc<Frame>,
    plane: usize,
}

impl PlaneBytes {
    /// Returns the planes of `frame`, if all are plain.
    #[must_use]
    pub fn all(frame: &Arc<Frame>) -> Option<Vec<PlaneBytes>> {
        let count = frame.pixel_format().ok()?.plane_count();
        let planes = (0..count).map(|plane| PlaneBytes { frame: Arc::clone(frame), plane });
        frame.has_plain_planes().then(|| planes.collect())
    }
}

impl AsRef<[u8]> for PlaneBytes {
    fn as_ref(&self) -> &[u8] {
        self.frame.plane(self.plane).unwrap_or_default()
    }
}

/// Reads the nine elements of a display matrix from side data in native byte order.
pub(crate) fn display_matrix(bytes: &[u8]) -> Option<[i32; 9]> {
    let mut matrix = [0; 9];
    if bytes.len() < size_of_val(&matrix) {
        return None;
    }
    for (number, chunk) in matrix.iter_mut().zip(bytes.chunks_exact(4)) {
        *number = i32::from_ne_bytes(chunk.try_into().ok()?);
    }
    Some(matrix)
}
