// SPDX-License-Identifier: MIT OR Apache-2.0
//! A video stream without a container: its parameters come from the caller, and so do its packets.
//!
//! Parsers and decoders are opened for a stream of an AVFormatContext. This owns such a context, which reads nothing.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use crate::av::error::{Error, version_text};
use crate::av::frame::Frame;
use crate::av::input::text;
use crate::av::input::video_stream::VideoStream;

/// A codec whose keyframes are decoded without a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// ITU-T H.264, MPEG-4 AVC.
    H264,
    /// ITU-T H.265, HEVC.
    H265,
    /// AOMedia Video 1.
    Av1,
    /// VP8.
    Vp8,
    /// VP9.
    Vp9,
    /// JPEG pictures, one after the other.
    Jpeg,
    /// MPEG-1 video.
    Mpeg1,
    /// MPEG-2 video.
    Mpeg2,
    /// MPEG-4 part 2.
    Mpeg4,
}

impl Codec {
    fn id(self) -> ffi::AVCodecID {
        match self {
            Self::H264 => ffi::AVCodecID::AV_CODEC_ID_H264,
            Self::H265 => ffi::AVCodecID::AV_CODEC_ID_HEVC,
            Self::Av1 => ffi::AVCodecID::AV_CODEC_ID_AV1,
            Self::Vp8 => ffi::AVCodecID::AV_CODEC_ID_VP8,
            Self::Vp9 => ffi::AVCodecID::AV_CODEC_ID_VP9,
            Self::Jpeg => ffi::AVCodecID::AV_CODEC_ID_MJPEG,
            Self::Mpeg1 => ffi::AVCodecID::AV_CODEC_ID_MPEG1VIDEO,
            Self::Mpeg2 => ffi::AVCodecID::AV_CODEC_ID_MPEG2VIDEO,
            Self::Mpeg4 => ffi::AVCodecID::AV_CODEC_ID_MPEG4,
        }
    }
}

/// The parameters of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFormat {
    /// The codec of all access units.
    pub codec: Codec,
    /// The decoder's configuration (avcC, hvcC, av1C, sequence headers); empty where the access units hold it.
    pub extradata: Vec<u8>,
    /// Width and height in pixels, where known.
    pub size: Option<(u32, u32)>,
    /// Pixel aspect ratio, width to height, where known.
    pub pixel_aspect_ratio: Option<(i32, i32)>,
    /// Frames for each second, as a fraction, where known.
    pub frame_rate: Option<(i32, i32)>,
    /// Whether pictures may consist of two fields.
    pub is_interlaced: bool,
}

/// Longest extradata, in bytes: real ones take kilobytes.
const EXTRADATA_LIMIT: usize = 1 << 20;

/// Bytes after extradata that FFmpeg may read.
const PADDING: usize = ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize;

/// See the module. Outlives its [`VideoStream`], as an [`Input`](super::Input) does.
pub(crate) struct BareStream {
    context: BareContext,
    video: Option<VideoStream>,
}

/// An AVFormatContext that was never opened, and is freed when it is dropped.
struct BareContext(NonNull<ffi::AVFormatContext>);

// SAFETY: the context is owned by this value alone and FFmpeg does not tie it to a thread.
unsafe impl Send for BareContext {}

impl BareContext {
    fn as_ptr(&self) -> *mut ffi::AVFormatContext {
        self.0.as_ptr()
    }
}

impl Drop for BareContext {
    fn drop(&mut self) {
        // SAFETY: from avformat_alloc_context, never opened, and not used afterwards; its stream goes with it.
        unsafe { ffi::avformat_free_context(self.0.as_ptr()) };
    }
}

impl BareStream {
    /// Creates a stream of this format.
    ///
    /// # Errors
    /// [`Error::UnknownCodec`] where FFmpeg has no decoder for it.
    pub(crate) fn new(format: &StreamFormat) -> Result<Self, Error> {
        let id = format.codec.id();
        // SAFETY: no preconditions; the result is null or static.
        let codec = unsafe { ffi::avcodec_find_decoder(id) };
        let Some(codec) = NonNull::new(codec.cast_mut()) else {
            // SAFETY: neither has preconditions; the name is a static, terminated string.
            let (name, version) = unsafe { (CStr::from_ptr(ffi::avcodec_get_name(id)), ffi::avcodec_version()) };
            return Err(Error::UnknownCodec {
                codec: text(name.as_ptr()).unwrap_or_default(),
                version: format!("libavcodec {}", version_text(version)),
            });
        };
        if format.extradata.len() > EXTRADATA_LIMIT {
            return Err(Error::Damaged(format!("its codec_data has {} bytes", format.extradata.len())));
        }
        // SAFETY: plain allocation; null is handled.
        let context = unsafe { ffi::avformat_alloc_context() };
        let context = NonNull::new(context).map(BareContext).ok_or_else(|| Error::memory("avformat_alloc_context"))?;
        let mut bare = Self { context, video: None };
        // SAFETY: the context is valid; without a codec the stream has default parameters. It belongs to the context.
        let stream = unsafe { ffi::avformat_new_stream(bare.context.as_ptr(), std::ptr::null()) };
        let stream = NonNull::new(stream).ok_or_else(|| Error::memory("avformat_new_stream"))?;
        // SAFETY: a new stream, which has parameters; they are in use nowhere else.
        unsafe {
            (*stream.as_ptr()).time_base = ffi::AVRational { num: 1, den: 1_000_000_000 };
            let parameters = (*stream.as_ptr()).codecpar;
            (*parameters).codec_type = ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
            (*parameters).codec_id = id;
            if let Some((width, height)) = format.size {
                (*parameters).width = c_int::try_from(width).unwrap_or(0);
                (*parameters).height = c_int::try_from(height).unwrap_or(0);
            }
            if let Some((num, den)) = format.pixel_aspect_ratio {
                (*stream.as_ptr()).sample_aspect_ratio = ffi::AVRational { num, den };
                (*parameters).sample_aspect_ratio = ffi::AVRational { num, den };
            }
        }
        if !format.extradata.is_empty() {
            // SAFETY: plain allocation; null is handled. The padding after the data is zero, as decoders require.
            let data = unsafe { ffi::av_mallocz(format.extradata.len() + PADDING) }.cast::<u8>();
            if data.is_null() {
                return Err(Error::memory("av_mallocz"));
            }
            // SAFETY: the memory is new and long enough; the parameters own it from here on.
            unsafe {
                std::ptr::copy_nonoverlapping(format.extradata.as_ptr(), data, format.extradata.len());
                let parameters = (*stream.as_ptr()).codecpar;
                (*parameters).extradata = data;
                (*parameters).extradata_size = c_int::try_from(format.extradata.len()).unwrap_or(0);
            }
        }
        bare.video = Some(VideoStream::new(stream, codec));
        Ok(bare)
    }

    /// Returns the stream.
    pub(crate) fn video(&self) -> &VideoStream {
        self.video.as_ref().expect("set by the only constructor")
    }

    /// Returns the pixel aspect ratio of `frame`: its own, or that of the stream.
    pub(crate) fn pixel_aspect_ratio(&self, frame: &Frame) -> (i32, i32) {
        let (context, stream) = (self.context.as_ptr(), self.video().as_ptr());
        // SAFETY: all three are valid; the call only reads them.
        let ratio = unsafe { ffi::av_guess_sample_aspect_ratio(context, stream, frame.as_ptr().cast_mut()) };
        if ratio.num > 0 && ratio.den > 0 { (ratio.num, ratio.den) } else { (1, 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_data_over_the_limit_is_refused() {
        let format = |length: usize| StreamFormat {
            codec: Codec::H264,
            extradata: vec![0; length],
            size: None,
            pixel_aspect_ratio: None,
            frame_rate: None,
            is_interlaced: false,
        };
        assert!(BareStream::new(&format(EXTRADATA_LIMIT)).is_ok());
        let refused = BareStream::new(&format(EXTRADATA_LIMIT + 1)).err();
        assert!(refused.is_some_and(|error| error.to_string().contains("codec_data")));
    }
}
