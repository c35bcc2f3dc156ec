//! A video decoder that decodes keyframes only.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use super::error::Error;
use super::frame::Frame;
use super::packet::Packet;
use super::video_stream::VideoStream;

/// How a decoder may use several threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThreadType {
    /// Whatever the codec can: frame threads where it has them, slice threads otherwise.
    #[default]
    Auto,
    /// Several frames at once: more throughput, later first frame.
    Frame,
    /// Several slices of one frame at once, where the encoder made slices.
    Slice,
}

/// Threads of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ThreadOptions {
    /// Number of threads; 0 lets FFmpeg start one for each core.
    pub count: u32,
    /// How they share the work.
    pub kind: ThreadType,
}

/// An opened AVCodecContext.
pub(super) struct Decoder {
    context: NonNull<ffi::AVCodecContext>,
    name: String,
}

// SAFETY: the context is owned by this value alone and FFmpeg ties it to no thread; calls are made through &mut self.
unsafe impl Send for Decoder {}

/// What [`Decoder::receive`] found.
pub(super) enum Received {
    /// A picture.
    Frame(Frame),
    /// Another packet is due.
    NeedsPacket,
    /// The decoder is drained.
    End,
}

impl Decoder {
    /// Opens a decoder for `stream`. The caller holds the opening lock.
    pub(super) fn open(stream: &VideoStream, threads: ThreadOptions) -> Result<Self, Error> {
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
            (*raw).thread_count = c_int::try_from(threads.count).unwrap_or(0);
            (*raw).thread_type = match threads.kind {
                ThreadType::Auto => ffi::FF_THREAD_FRAME | ffi::FF_THREAD_SLICE,
                ThreadType::Frame => ffi::FF_THREAD_FRAME,
                ThreadType::Slice => ffi::FF_THREAD_SLICE,
            };
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

    /// Threads in use, and how.
    pub(super) fn threads(&self) -> (u32, &'static str) {
        let raw = self.context.as_ptr();
        // SAFETY: the context is valid and open.
        let (count, kind) = unsafe { ((*raw).thread_count, (*raw).active_thread_type) };
        let kind = match kind {
            ffi::FF_THREAD_FRAME => "frame",
            ffi::FF_THREAD_SLICE => "slice",
            _ => "none",
        };
        (u32::try_from(count).unwrap_or(1), kind)
    }

    /// Most packets that are inside at a time: those that threads work on, and those whose pictures wait for others.
    pub(super) fn delay(&self) -> usize {
        let (threads, kind) = self.threads();
        // SAFETY: the context is valid and open.
        let reordered = unsafe { (*self.context.as_ptr()).has_b_frames };
        let threaded = if kind == "frame" { threads as usize } else { 1 };
        threaded + usize::try_from(reordered).unwrap_or(0)
    }

    /// Hands a packet over, or with `None` asks for what is still inside.
    pub(super) fn send(&mut self, packet: Option<&Packet>) -> Result<(), Error> {
        let packet = packet.map_or(std::ptr::null(), Packet::as_ptr);
        // SAFETY: the context is open; the packet is valid or null (drain); the decoder takes its own reference.
        let result = unsafe { ffi::avcodec_send_packet(self.context.as_ptr(), packet) };
        if result < 0 && result != ffi::AVERROR_EOF { Err(Error::call("avcodec_send_packet", result)) } else { Ok(()) }
    }

    /// Takes the next picture out.
    pub(super) fn receive(&mut self) -> Result<Received, Error> {
        let mut frame = Frame::new()?;
        // SAFETY: the context is open and the frame is empty and ours.
        let result = unsafe { ffi::avcodec_receive_frame(self.context.as_ptr(), frame.as_mut_ptr()) };
        match result {
            0.. => Ok(Received::Frame(frame)),
            ffi::AVERROR_EOF => Ok(Received::End),
            _ if result == ffi::AVERROR(ffi::EAGAIN) => Ok(Received::NeedsPacket),
            _ => Err(Error::call("avcodec_receive_frame", result)),
        }
    }

    /// Forgets everything, as after a seek.
    pub(super) fn flush(&mut self) {
        // SAFETY: the context is open.
        unsafe { ffi::avcodec_flush_buffers(self.context.as_ptr()) };
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: allocated by avcodec_alloc_context3 and not used afterwards.
        unsafe { ffi::avcodec_free_context(&raw mut context) };
    }
}
