//! A video decoder that decodes keyframes only.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use super::error::Error;
use super::frame::Frame;
use super::packet::Packet;
use super::video_stream::VideoStream;

/// An opened AVCodecContext.
pub(super) struct Decoder {
    context: NonNull<ffi::AVCodecContext>,
    name: String,
}

// SAFETY: the context is owned by this value alone and FFmpeg ties it to no thread; calls are made through &mut self.
unsafe impl Send for Decoder {}

impl Decoder {
    /// Opens a decoder for `stream` that works on up to `slice_threads` slices at once. The caller holds the opening lock.
    pub(super) fn open(stream: &VideoStream, slice_threads: u32) -> Result<Self, Error> {
        let codec = stream.codec();
        // SAFETY: codec is a static AVCodec of libavcodec.
        let context = unsafe { ffi::avcodec_alloc_context3(codec) };
        let context = NonNull::new(context).ok_or_else(|| Error::memory("avcodec_alloc_context3"))?;
        // SAFETY: an AVCodec's name is a static, terminated string.
        let name = unsafe { CStr::from_ptr((*codec).name) }.to_string_lossy().into_owned();
        let decoder = Self { context, name };
        let raw = decoder.context.as_ptr();
        // SAFETY: both are valid; the parameters are copied.
        let result = unsafe { ffi::avcodec_parameters_to_context(raw, stream.parameters()) };
        if result < 0 {
            return Err(Error::call("avcodec_parameters_to_context", result));
        }
        // SAFETY: the context is ours and not opened yet, which is when these fields may be set.
        unsafe {
            (*raw).pkt_timebase = stream.raw_time_base();
            (*raw).skip_frame = ffi::AVDiscard::AVDISCARD_NONKEY;
            // Crop exactly, also where that leaves lines unaligned.
            (*raw).flags |= ffi::AV_CODEC_FLAG_UNALIGNED as c_int;
            (*raw).thread_count = c_int::try_from(slice_threads).unwrap_or(1);
            (*raw).thread_type = ffi::FF_THREAD_SLICE;
        }
        // SAFETY: the context was made for this codec; null options are allowed.
        let result = unsafe { ffi::avcodec_open2(raw, codec, std::ptr::null_mut()) };
        if result < 0 {
            return Err(Error::call("avcodec_open2", result));
        }
        Ok(decoder)
    }

    /// FFmpeg's name of the decoder, for example "h264".
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Threads that share the slices of a picture: 1 where the codec has no slices to share.
    pub(super) fn slice_threads(&self) -> u32 {
        let raw = self.context.as_ptr();
        // SAFETY: the context is valid and open.
        let (count, kind) = unsafe { ((*raw).thread_count, (*raw).active_thread_type) };
        if kind == ffi::FF_THREAD_SLICE { u32::try_from(count).unwrap_or(1) } else { 1 }
    }

    /// Decodes one packet alone, without memory of those before: all its pictures, nearly always one.
    pub(super) fn decode(&mut self, packet: &Packet) -> Result<Vec<Frame>, Error> {
        let frames = self.decode_and_drain(packet);
        // SAFETY: the context is open.
        unsafe { ffi::avcodec_flush_buffers(self.context.as_ptr()) };
        frames
    }

    fn decode_and_drain(&mut self, packet: &Packet) -> Result<Vec<Frame>, Error> {
        self.send(packet.as_ptr())?;
        // What the decoder holds back for frames that could follow comes out when it is told that none will.
        self.send(std::ptr::null())?;
        let mut frames = Vec::new();
        loop {
            let mut frame = Frame::new()?;
            // SAFETY: the context is open and the frame is empty and ours.
            let result = unsafe { ffi::avcodec_receive_frame(self.context.as_ptr(), frame.as_mut_ptr()) };
            match result {
                0.. => frames.push(frame),
                ffi::AVERROR_EOF => return Ok(frames),
                _ if frames.is_empty() => return Err(Error::call("avcodec_receive_frame", result)),
                _ => return Ok(frames),
            }
        }
    }

    /// Hands over a packet, or with null the end of the stream.
    fn send(&mut self, packet: *const ffi::AVPacket) -> Result<(), Error> {
        // SAFETY: the context is open; the packet is valid or null; the decoder takes a reference of its own.
        let result = unsafe { ffi::avcodec_send_packet(self.context.as_ptr(), packet) };
        if result < 0 { Err(Error::call("avcodec_send_packet", result)) } else { Ok(()) }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: allocated by avcodec_alloc_context3 and not used afterwards.
        unsafe { ffi::avcodec_free_context(&raw mut context) };
    }
}
