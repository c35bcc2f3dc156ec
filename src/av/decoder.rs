//! A video decoder that decodes keyframes only.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use super::error::Error;
use super::frame::Frame;
use super::packet::Packet;
use super::video_stream::VideoStream;

/// What a decoder is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// Single keyframes, with this many threads for the slices of one.
    Keyframes {
        /// 1 for none.
        slice_threads: u32,
    },
    /// All frames of a stretch, one after the other.
    EveryFrame {
        /// Threads, for frames or slices as the codec can.
        threads: u32,
    },
}

/// An opened AVCodecContext.
pub(super) struct Decoder {
    context: NonNull<ffi::AVCodecContext>,
    name: String,
}

// SAFETY: the context is owned by this value alone and FFmpeg ties it to no thread; calls are made through &mut self.
unsafe impl Send for Decoder {}

impl Decoder {
    /// Opens a decoder for `stream`. The caller holds the opening lock.
    pub(super) fn open(stream: &VideoStream, purpose: Purpose, max_pixels: u64) -> Result<Self, Error> {
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
            // Crop exactly, also where that leaves lines unaligned.
            (*raw).flags |= ffi::AV_CODEC_FLAG_UNALIGNED as c_int;
            // A larger picture is refused before its memory is asked for.
            (*raw).max_pixels = i64::try_from(max_pixels).unwrap_or(i64::MAX);
            let threads = match purpose {
                Purpose::Keyframes { slice_threads } => {
                    (*raw).skip_frame = ffi::AVDiscard::AVDISCARD_NONKEY;
                    (*raw).thread_type = ffi::FF_THREAD_SLICE;
                    slice_threads
                }
                Purpose::EveryFrame { threads } => {
                    (*raw).thread_type = ffi::FF_THREAD_FRAME | ffi::FF_THREAD_SLICE;
                    threads
                }
            };
            (*raw).thread_count = c_int::try_from(threads).unwrap_or(1);
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
    pub(super) fn decode_alone(&mut self, packet: &Packet) -> Result<Vec<Frame>, Error> {
        let mut frames = Vec::new();
        let decoded = self.decode(packet, &mut frames).and_then(|()| self.drain(&mut frames));
        self.flush();
        if frames.is_empty() { decoded.map(|()| frames) } else { Ok(frames) }
    }

    /// Decodes the next packet of a stretch: the pictures that are complete by then.
    pub(super) fn decode(&mut self, packet: &Packet, frames: &mut Vec<Frame>) -> Result<(), Error> {
        self.send(packet.as_ptr())?;
        self.receive(frames)
    }

    /// What the decoder holds back for frames that could follow. It takes no more packets until it is flushed.
    pub(super) fn drain(&mut self, frames: &mut Vec<Frame>) -> Result<(), Error> {
        self.send(std::ptr::null())?;
        self.receive(frames)
    }

    /// Forgets everything.
    pub(super) fn flush(&mut self) {
        // SAFETY: the context is open.
        unsafe { ffi::avcodec_flush_buffers(self.context.as_ptr()) };
    }

    /// Takes out the pictures that are there.
    fn receive(&mut self, frames: &mut Vec<Frame>) -> Result<(), Error> {
        loop {
            let mut frame = Frame::new()?;
            // SAFETY: the context is open and the frame is empty and ours.
            let result = unsafe { ffi::avcodec_receive_frame(self.context.as_ptr(), frame.as_mut_ptr()) };
            match result {
                0.. => frames.push(frame),
                ffi::AVERROR_EOF => return Ok(()),
                _ if result == ffi::AVERROR(ffi::EAGAIN) => return Ok(()),
                _ => return Err(failed("avcodec_receive_frame", result)),
            }
        }
    }

    /// Hands over a packet, or with null the end of the stream.
    fn send(&mut self, packet: *const ffi::AVPacket) -> Result<(), Error> {
        // SAFETY: the context is open; the packet is valid or null; the decoder takes a reference of its own.
        let result = unsafe { ffi::avcodec_send_packet(self.context.as_ptr(), packet) };
        if result < 0 { Err(failed("avcodec_send_packet", result)) } else { Ok(()) }
    }
}

fn failed(operation: &'static str, code: c_int) -> Error {
    if code == ffi::AVERROR(ffi::EINVAL) {
        // What libavutil's check of picture sizes returns.
        return Error::Damaged(
            "the decoder refuses the picture: its size is wrong, or more than max-pixels allows".into(),
        );
    }
    Error::call(operation, code)
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: allocated by avcodec_alloc_context3 and not used afterwards.
        unsafe { ffi::avcodec_free_context(&raw mut context) };
    }
}
