// SPDX-License-Identifier: MIT OR Apache-2.0
//! A video decoder: for single keyframes, or for all frames of a section.

use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use ffmpeg_sys_next as ffi;

use crate::av::codec_context::CodecContext;
use crate::av::decode::hardware::Assignment;
use crate::av::decode::options::DecoderOptions;
use crate::av::error::Error;
use crate::av::frame::Frame;
use crate::av::frame::canary;
use crate::av::frame::pixel_format::PixelFormat;
use crate::av::frame::pool::{InitialContent, PictureMemory};
use crate::av::input::packet::Packet;
use crate::av::input::parameter_sets::{Framing, Syntax, is_idr};
use crate::av::input::video_stream::VideoStream;
use crate::av::log::LogSink;

/// What a decoder decodes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DecodeMode {
    /// Single keyframes.
    Keyframes {
        /// Threads for the slices of a keyframe; 1 for none.
        slice_threads: u32,
    },
    /// All frames of a section, one after the other.
    AllFrames {
        /// Threads, for frames or slices as the codec supports.
        threads: u32,
    },
}

/// Resources that the decoders of a file share.
#[derive(Clone)]
pub(crate) struct Resources {
    pub(crate) options: DecoderOptions,
    /// Allocates pictures.
    pub(crate) memory: PictureMemory,
    /// The device that decodes; `None` for the processor.
    pub(crate) device: Option<Assignment>,
    /// Receives FFmpeg's log lines about the file.
    pub(crate) log: LogSink,
    /// The version of x264 that made the file, once its first keyframe was seen.
    pub(crate) x264_build: Arc<OnceLock<Option<c_int>>>,
}

/// An opened AVCodecContext.
pub(crate) struct Decoder {
    /// Dropped before `shared`, to which its `opaque` points.
    context: CodecContext,
    name: String,
    /// How packets are delimited, where the decoder is not flushed after IDR pictures.
    framing: Option<Framing>,
    /// Whether the decoder still holds pictures of earlier packets.
    holds_references: bool,
    /// The context's `opaque` points to this, which does not move.
    shared: Box<Shared>,
}

/// State of a decoder's callbacks, on any thread.
struct Shared {
    resources: Resources,
    /// Pictures are filled with black, since parts of the current one are known to stay unwritten.
    fills_black: AtomicBool,
}

/// FFmpeg's threads read [`Shared`] as well as the thread that has the decoder.
const _: () = {
    const fn is_shareable<T: Send + Sync>() {}
    is_shareable::<Shared>();
};

impl Decoder {
    /// Opens a decoder for `stream`. The caller holds the opening lock.
    pub(crate) fn open(stream: &VideoStream, mode: DecodeMode, resources: &Resources) -> Result<Self, Error> {
        let codec = resources.device.as_ref().map_or(stream.native_decoder(), Assignment::codec);
        let context = CodecContext::new(codec)?;
        // SAFETY: an AVCodec's name is a static, terminated string.
        let name = unsafe { CStr::from_ptr((*codec.as_ptr()).name) }.to_string_lossy().into_owned();
        let shared = Box::new(Shared { resources: resources.clone(), fills_black: AtomicBool::new(false) });
        let is_kept_open = resources.device.is_some() && stream.syntax() == Some(Syntax::H264);
        let framing = is_kept_open.then(|| Framing::of(Syntax::H264, stream.extradata()));
        let mut decoder = Self { context, name, framing, holds_references: false, shared };
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
            (*raw).max_pixels = i64::try_from(resources.options.max_pixels).unwrap_or(i64::MAX);
            if resources.options.skip_loop_filter {
                (*raw).skip_loop_filter = ffi::AVDiscard::AVDISCARD_ALL;
            }
            (*raw).opaque = std::ptr::from_ref::<Shared>(&decoder.shared).cast_mut().cast();
            (*raw).get_buffer2 = Some(get_buffer);
            // Both callbacks may be called from any thread.
            #[cfg(not(ffmpeg_6_0))]
            {
                (*raw).thread_safe_callbacks = 1;
            }
            if let Some(device) = &decoder.shared.resources.device {
                device.attach(raw)?;
                (*raw).get_format = Some(get_format);
            }
            let threads = match mode {
                DecodeMode::Keyframes { slice_threads } => {
                    // Packets are selected already. This skips frames that some AVI files pack behind a keyframe and that
                    // need others. It must not skip the second field of a keyframe, which may be coded from the first (P):
                    // MPEG-2, and H.264, where even this setting skips too much.
                    (*raw).skip_frame = if stream.syntax() == Some(Syntax::H264) {
                        ffi::AVDiscard::AVDISCARD_DEFAULT
                    } else {
                        ffi::AVDiscard::AVDISCARD_NONINTRA
                    };
                    (*raw).thread_type = ffi::FF_THREAD_SLICE;
                    slice_threads
                }
                DecodeMode::AllFrames { threads } => {
                    (*raw).thread_type = ffi::FF_THREAD_FRAME | ffi::FF_THREAD_SLICE;
                    threads
                }
            };
            (*raw).thread_count = c_int::try_from(threads).unwrap_or(1);
        }
        // SAFETY: the context was made for this codec; null options are allowed.
        let result = unsafe { ffi::avcodec_open2(raw, codec.as_ptr(), std::ptr::null_mut()) };
        if result < 0 {
            return Err(Error::call("avcodec_open2", result));
        }
        if let Some(Some(build)) = resources.x264_build.get() {
            decoder.set_x264_build(*build);
        }
        Ok(decoder)
    }

    /// Sets the version of x264 that made the file. Versions before 151 coded 4:4:4 pictures in their own way, which FFmpeg imitates;
    /// but only the first access unit of a file has the version, and most decoders are given others.
    pub(crate) fn set_x264_build(&mut self, build: c_int) {
        let context = self.context.as_ptr();
        // Decoders without this option return an error, and need none.
        // SAFETY: the context is ours; options are also looked up in the private data of its codec.
        unsafe {
            ffi::av_opt_set_int(
                context.cast(),
                c"x264_build".as_ptr(),
                i64::from(build),
                ffi::AV_OPT_SEARCH_CHILDREN as c_int,
            );
        }
    }

    /// FFmpeg's name of the decoder, for example "h264".
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the threads that share the slices of a picture: 1 where the codec has no slices to share.
    pub(super) fn slice_threads(&self) -> u32 {
        let raw = self.context.as_ptr();
        // SAFETY: the context is valid and open.
        let (count, kind) = unsafe { ((*raw).thread_count, (*raw).active_thread_type) };
        if kind == ffi::FF_THREAD_SLICE { u32::try_from(count).unwrap_or(1) } else { 1 }
    }

    /// Decodes one keyframe alone, without references to earlier ones: all its pictures, nearly always one. It has a packet, or
    /// one for each field. A picture of which parts are missing is flagged as corrupt, and black there.
    pub(super) fn decode_keyframe(&mut self, packets: &[Packet]) -> Result<Vec<Frame>, Error> {
        let (mut frames, mut decoded) = self.decode_once(packets);
        if frames.iter().any(canary::is_visible) {
            frames.clear();
            self.shared.fills_black.store(true, Ordering::Relaxed);
            (frames, decoded) = self.decode_once(packets);
            self.shared.fills_black.store(false, Ordering::Relaxed);
            frames.iter_mut().for_each(Frame::mark_corrupt);
        }
        // Of two fields the second may be coded from the first.
        if packets.len() == 1 && !frames.is_empty() && frames.iter().all(Frame::is_predicted) {
            return Err(Error::Damaged("the container flags it as a keyframe, but it needs earlier frames".into()));
        }
        if packets.iter().any(Packet::is_corrupt) {
            frames.iter_mut().for_each(Frame::mark_corrupt);
        }
        if !frames.is_empty() {
            return Ok(frames);
        }
        if let Some(refusal) = self.shared.resources.device.as_ref().and_then(Assignment::refusal_error) {
            return Err(refusal);
        }
        decoded.map(|()| frames)
    }

    fn decode_once(&mut self, packets: &[Packet]) -> (Vec<Frame>, Result<(), Error>) {
        // libavcodec's H.264 decoder closes its hardware decoder when it is flushed, and NVDEC takes up to 0.3 s to open another.
        // An IDR picture needs no flush: it makes the decoder drop earlier pictures.
        let is_idr = matches!((self.framing, packets), (Some(framing), [packet]) if is_idr(framing, packet.data()));
        if self.holds_references && !is_idr {
            self.flush();
        }
        let mut frames = Vec::new();
        let mut decoded = Ok(());
        for packet in packets {
            // A second field that cannot be decoded affects only itself.
            decoded = decoded.and(self.decode(packet, &mut frames));
        }
        let drained = if is_idr { self.flush_delayed(&mut frames) } else { self.drain(&mut frames) };
        let decoded = decoded.and(drained);
        self.holds_references = is_idr && decoded.is_ok() && !frames.is_empty();
        if !self.holds_references {
            self.flush();
        }
        (frames, decoded)
    }

    /// Outputs the pictures that the decoder delays, and leaves it ready for more packets. For each packet without data
    /// libavcodec's decoders output one, as they do at the end of the stream.
    fn flush_delayed(&mut self, frames: &mut Vec<Frame>) -> Result<(), Error> {
        let empty = Packet::without_data()?;
        loop {
            let before = frames.len();
            self.decode(&empty, frames)?;
            if frames.len() == before {
                return Ok(());
            }
        }
    }

    /// Decodes the next packet of a section; outputs the pictures that are complete by then.
    pub(crate) fn decode(&mut self, packet: &Packet, frames: &mut Vec<Frame>) -> Result<(), Error> {
        self.send(packet.as_ptr())?;
        self.receive(frames)
    }

    /// Outputs the pictures that the decoder delays. It takes no more packets until it is flushed.
    pub(crate) fn drain(&mut self, frames: &mut Vec<Frame>) -> Result<(), Error> {
        self.send(std::ptr::null())?;
        self.receive(frames)
    }

    /// Drops all state.
    pub(crate) fn flush(&mut self) {
        // SAFETY: the context is open.
        unsafe { ffi::avcodec_flush_buffers(self.context.as_ptr()) };
    }

    /// Receives the pictures that are ready.
    fn receive(&mut self, frames: &mut Vec<Frame>) -> Result<(), Error> {
        loop {
            let mut frame = Frame::new()?;
            // SAFETY: the context is open and the frame is empty and ours.
            let result = unsafe { ffi::avcodec_receive_frame(self.context.as_ptr(), frame.as_mut_ptr()) };
            match result {
                0.. => frames.push(match &self.shared.resources.device {
                    Some(device) => device.fetch(frame, &self.shared.resources.memory)?,
                    None => frame,
                }),
                ffi::AVERROR_EOF => return Ok(()),
                _ if result == ffi::AVERROR(ffi::EAGAIN) => return Ok(()),
                _ => return Err(self.failed("avcodec_receive_frame", result)),
            }
        }
    }

    /// Sends a packet, or with null the end of the stream.
    fn send(&mut self, packet: *const ffi::AVPacket) -> Result<(), Error> {
        // SAFETY: the context is open; the packet is valid or null; the decoder takes a reference of its own.
        let result = unsafe { ffi::avcodec_send_packet(self.context.as_ptr(), packet) };
        if result < 0 { Err(self.failed("avcodec_send_packet", result)) } else { Ok(()) }
    }

    fn failed(&self, operation: &'static str, code: c_int) -> Error {
        let raw = self.context.as_ptr();
        // SAFETY: the context is open.
        let (width, height) = unsafe { ((*raw).width, (*raw).height) };
        // This is what libavutil's check of picture sizes returns; libavcodec drops a size that it has refused.
        if code == ffi::AVERROR(ffi::EINVAL) && (width == 0 || height == 0) {
            return Error::Damaged(
                "the decoder refuses the picture: its size is invalid, or exceeds max-pixels".into(),
            );
        }
        Error::call(operation, code)
    }
}

/// Allocates memory for the picture that a decoder is about to write.
unsafe extern "C" fn get_buffer(context: *mut ffi::AVCodecContext, frame: *mut ffi::AVFrame, flags: c_int) -> c_int {
    // SAFETY: libavcodec passes a valid, open context.
    let (by_device, capabilities) = unsafe { (!(*context).hw_frames_ctx.is_null(), (*(*context).codec).capabilities) };
    // SAFETY: libavcodec passes a valid frame.
    let format = PixelFormat::from_raw(unsafe { (*frame).format });
    let is_plain = !by_device && capabilities & ffi::AV_CODEC_CAP_DR1 as c_int != 0;
    let Some(format) = format.filter(|format| is_plain && !format.is_on_device()) else {
        // SAFETY: the arguments are those of this function.
        return unsafe { ffi::avcodec_default_get_buffer2(context, frame, flags) };
    };
    // SAFETY: set in Decoder::open to a value that outlives the context; never changed.
    let shared = unsafe { &*(*context).opaque.cast::<Shared>() };
    // SAFETY: the frame is valid; its size applies here, not the context's.
    let (mut width, mut height) = unsafe { ((*frame).width, (*frame).height) };
    let mut alignment = [0; ffi::AV_NUM_DATA_POINTERS as usize];
    // SAFETY: a context whose codec uses such buffers; the array has the entries that are written.
    unsafe {
        ffi::avcodec_align_dimensions2(context, &raw mut width, &raw mut height, alignment.as_mut_ptr());
    }
    let alignment = [alignment[0], alignment[1], alignment[2], alignment[3]];
    let beginning =
        if shared.fills_black.load(Ordering::Relaxed) { InitialContent::Black } else { InitialContent::Canary };
    // A panic must not cross into C: it would abort the process.
    let filled = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: libavcodec passes a frame without buffers to fill.
        unsafe { shared.resources.memory.fill(frame, format, (width, height), alignment, beginning) }
    }));
    match filled {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code,
        Err(_) => ffi::AVERROR(ffi::ENOMEM),
    }
}

/// Chooses the pixel format, on the device or not, from a list that ends with -1.
unsafe extern "C" fn get_format(
    context: *mut ffi::AVCodecContext,
    offered: *const ffi::AVPixelFormat,
) -> ffi::AVPixelFormat {
    // The enum is read as an integer: a newer library may offer values that these bindings do not have.
    let offered = offered.cast::<c_int>();
    let mut count = 0;
    // SAFETY: libavcodec terminates the list with AV_PIX_FMT_NONE, which is -1.
    while unsafe { *offered.add(count) } != ffi::AVPixelFormat::AV_PIX_FMT_NONE as c_int {
        count += 1;
    }
    // SAFETY: count entries lie before the end.
    let offered = unsafe { std::slice::from_raw_parts(offered, count) };
    // SAFETY: set in Decoder::open to a value that outlives the context; never changed.
    let shared = unsafe { &*(*context).opaque.cast::<Shared>() };
    let chosen = shared.resources.device.as_ref().and_then(|device| device.choose_format(offered));
    chosen.map_or(ffi::AVPixelFormat::AV_PIX_FMT_NONE, PixelFormat::raw)
}
