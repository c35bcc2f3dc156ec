//! A video decoder that decodes keyframes only.

use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use ffmpeg_sys_next as ffi;

use crate::av::decode::hardware::Assignment;
use crate::av::error::Error;
use crate::av::frame::Frame;
use crate::av::frame::pixel_format::PixelFormat;
use crate::av::frame::pool::{Beginning, PictureMemory};
use crate::av::frame::unwritten;
use crate::av::input::packet::Packet;
use crate::av::input::parameter_sets::{Framing, Syntax, is_idr};
use crate::av::input::video_stream::VideoStream;
use crate::av::log::LogSink;

/// What a decoder is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
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

/// What the decoders of a file share.
#[derive(Clone)]
pub(crate) struct Resources {
    /// Larger pictures are refused before memory is asked for.
    pub(crate) max_pixels: u64,
    /// Where pictures get their memory.
    pub(crate) memory: PictureMemory,
    /// The device that decodes; `None` for the processor.
    pub(crate) device: Option<Assignment>,
    /// Receives what FFmpeg writes about the file.
    pub(crate) log: LogSink,
}

/// An opened AVCodecContext.
pub(crate) struct Decoder {
    context: NonNull<ffi::AVCodecContext>,
    name: String,
    /// How packets are delimited, where the decoder is not flushed after IDR pictures.
    framing: Option<Framing>,
    /// Whether pictures of earlier packets are still in the decoder.
    has_memory: bool,
    /// The context's `opaque` points to this: it outlives the context and does not move.
    shared: Box<Shared>,
}

/// What the callbacks of a decoder work with, on any thread.
struct Shared {
    resources: Resources,
    /// Pictures begin black, since parts of this one are known to stay as they are.
    begins_black: AtomicBool,
}

// SAFETY: the context is owned by this value alone and FFmpeg ties it to no thread; calls are made through &mut self.
unsafe impl Send for Decoder {}

impl Decoder {
    /// Opens a decoder for `stream`. The caller holds the opening lock.
    pub(crate) fn open(stream: &VideoStream, purpose: Purpose, resources: &Resources) -> Result<Self, Error> {
        let codec = resources.device.as_ref().map_or(stream.native_decoder().as_ptr().cast_const(), Assignment::codec);
        // SAFETY: codec is a static AVCodec of libavcodec.
        let context = unsafe { ffi::avcodec_alloc_context3(codec) };
        let context = NonNull::new(context).ok_or_else(|| Error::memory("avcodec_alloc_context3"))?;
        // SAFETY: an AVCodec's name is a static, terminated string.
        let name = unsafe { CStr::from_ptr((*codec).name) }.to_string_lossy().into_owned();
        let shared = Box::new(Shared { resources: resources.clone(), begins_black: AtomicBool::new(false) });
        let is_kept_open = resources.device.is_some() && stream.syntax() == Some(Syntax::H264);
        let framing = is_kept_open.then(|| Framing::of(Syntax::H264, stream.extradata()));
        let decoder = Self { context, name, framing, has_memory: false, shared };
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
            (*raw).max_pixels = i64::try_from(resources.max_pixels).unwrap_or(i64::MAX);
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
            let threads = match purpose {
                Purpose::Keyframes { slice_threads } => {
                    // Packets are chosen already. What is skipped here is what some AVI files pack behind a keyframe: frames
                    // that need others. Not the second field of a keyframe, which may be coded from the first (P): MPEG-2, and
                    // H.264, where even that much skipping is too much.
                    (*raw).skip_frame = if stream.syntax() == Some(Syntax::H264) {
                        ffi::AVDiscard::AVDISCARD_DEFAULT
                    } else {
                        ffi::AVDiscard::AVDISCARD_NONINTRA
                    };
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
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Threads that share the slices of a picture: 1 where the codec has no slices to share.
    pub(super) fn slice_threads(&self) -> u32 {
        let raw = self.context.as_ptr();
        // SAFETY: the context is valid and open.
        let (count, kind) = unsafe { ((*raw).thread_count, (*raw).active_thread_type) };
        if kind == ffi::FF_THREAD_SLICE { u32::try_from(count).unwrap_or(1) } else { 1 }
    }

    /// Decodes one keyframe alone, without memory of those before: all its pictures, nearly always one. It has a packet, or
    /// one for each field. A picture of which parts are missing is flagged as corrupt, and black there.
    pub(super) fn decode_alone(&mut self, packets: &[Packet]) -> Result<Vec<Frame>, Error> {
        let (mut frames, mut decoded) = self.decode_once(packets);
        if frames.iter().any(unwritten::has_marks) {
            frames.clear();
            self.shared.begins_black.store(true, Ordering::Relaxed);
            (frames, decoded) = self.decode_once(packets);
            self.shared.begins_black.store(false, Ordering::Relaxed);
            frames.iter_mut().for_each(Frame::mark_corrupt);
        }
        // Of two fields the second may be coded from the first.
        if packets.len() == 1 && !frames.is_empty() && frames.iter().all(Frame::is_predicted) {
            return Err(Error::Damaged("the container marks it as a keyframe, but it needs frames before it".into()));
        }
        if packets.iter().any(Packet::is_corrupt) {
            frames.iter_mut().for_each(Frame::mark_corrupt);
        }
        if !frames.is_empty() {
            return Ok(frames);
        }
        if let Some(refusal) = self.shared.resources.device.as_ref().and_then(Assignment::refusal) {
            return Err(refusal);
        }
        decoded.map(|()| frames)
    }

    fn decode_once(&mut self, packets: &[Packet]) -> (Vec<Frame>, Result<(), Error>) {
        // libavcodec's H.264 decoder closes its hardware decoder when it is flushed, and NVDEC takes up to 0.3 s to open another.
        // An IDR picture needs no flush: it makes the decoder forget earlier pictures.
        let is_idr = matches!((self.framing, packets), (Some(framing), [packet]) if is_idr(framing, packet.data()));
        if self.has_memory && !is_idr {
            self.flush();
        }
        let mut frames = Vec::new();
        let mut decoded = Ok(());
        for packet in packets {
            // A second field that cannot be decoded costs itself.
            decoded = decoded.and(self.decode(packet, &mut frames));
        }
        let drained = if is_idr { self.push_out(&mut frames) } else { self.drain(&mut frames) };
        let decoded = decoded.and(drained);
        self.has_memory = is_idr && decoded.is_ok() && !frames.is_empty();
        if !self.has_memory {
            self.flush();
        }
        (frames, decoded)
    }

    /// Returns the pictures that the decoder holds back, and leaves it ready for more packets. For each packet without data
    /// libavcodec's decoders return one, as they do at the end of the stream.
    fn push_out(&mut self, frames: &mut Vec<Frame>) -> Result<(), Error> {
        let empty = Packet::without_data()?;
        loop {
            let before = frames.len();
            self.decode(&empty, frames)?;
            if frames.len() == before {
                return Ok(());
            }
        }
    }

    /// Decodes the next packet of a stretch: the pictures that are complete by then.
    pub(crate) fn decode(&mut self, packet: &Packet, frames: &mut Vec<Frame>) -> Result<(), Error> {
        self.send(packet.as_ptr())?;
        self.receive(frames)
    }

    /// What the decoder holds back for frames that could follow. It takes no more packets until it is flushed.
    pub(crate) fn drain(&mut self, frames: &mut Vec<Frame>) -> Result<(), Error> {
        self.send(std::ptr::null())?;
        self.receive(frames)
    }

    /// Forgets everything.
    pub(crate) fn flush(&mut self) {
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

    /// Hands over a packet, or with null the end of the stream.
    fn send(&mut self, packet: *const ffi::AVPacket) -> Result<(), Error> {
        // SAFETY: the context is open; the packet is valid or null; the decoder takes a reference of its own.
        let result = unsafe { ffi::avcodec_send_packet(self.context.as_ptr(), packet) };
        if result < 0 { Err(self.failed("avcodec_send_packet", result)) } else { Ok(()) }
    }

    fn failed(&self, operation: &'static str, code: c_int) -> Error {
        let raw = self.context.as_ptr();
        // SAFETY: the context is open.
        let (width, height) = unsafe { ((*raw).width, (*raw).height) };
        // What libavutil's check of picture sizes returns; libavcodec forgets a size that it has refused.
        if code == ffi::AVERROR(ffi::EINVAL) && (width == 0 || height == 0) {
            return Error::Damaged(
                "the decoder refuses the picture: its size is wrong, or more than max-pixels allows".into(),
            );
        }
        Error::call(operation, code)
    }
}

/// Memory for the picture that a decoder is about to write.
unsafe extern "C" fn get_buffer(context: *mut ffi::AVCodecContext, frame: *mut ffi::AVFrame, flags: c_int) -> c_int {
    // SAFETY: libavcodec passes a valid, open context.
    let (by_device, capabilities) = unsafe { (!(*context).hw_frames_ctx.is_null(), (*(*context).codec).capabilities) };
    // SAFETY: libavcodec passes a valid frame.
    let format = PixelFormat::from_raw(unsafe { (*frame).format });
    let is_plain = !by_device && capabilities & ffi::AV_CODEC_CAP_DR1 as c_int != 0;
    let Some(format) = format.filter(|format| is_plain && !format.is_on_device()) else {
        // SAFETY: as this function was called.
        return unsafe { ffi::avcodec_default_get_buffer2(context, frame, flags) };
    };
    // SAFETY: set in Decoder::open to what outlives the context; never changed.
    let shared = unsafe { &*(*context).opaque.cast::<Shared>() };
    // SAFETY: the frame is valid; its size is to be read here, not the context's.
    let (mut width, mut height) = unsafe { ((*frame).width, (*frame).height) };
    let mut alignment = [0; ffi::AV_NUM_DATA_POINTERS as usize];
    // SAFETY: a context whose codec draws on such buffers; the array has the entries that are written.
    unsafe {
        ffi::avcodec_align_dimensions2(context, &raw mut width, &raw mut height, alignment.as_mut_ptr());
    }
    let alignment = [alignment[0], alignment[1], alignment[2], alignment[3]];
    let beginning = if shared.begins_black.load(Ordering::Relaxed) { Beginning::Black } else { Beginning::Marked };
    // A panic must not cross into C: it would abort the process.
    let filled = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: libavcodec gives a frame without buffers to fill.
        unsafe { shared.resources.memory.fill(frame, format, (width, height), alignment, beginning) }
    }));
    match filled {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code,
        Err(_) => ffi::AVERROR(ffi::ENOMEM),
    }
}

/// The pixel format, on the device or not, that a decoder is to use out of a list that ends with -1.
unsafe extern "C" fn get_format(
    context: *mut ffi::AVCodecContext,
    offered: *const ffi::AVPixelFormat,
) -> ffi::AVPixelFormat {
    // The enum is read as an integer: a newer library may offer what these bindings do not know.
    let offered = offered.cast::<c_int>();
    let mut count = 0;
    // SAFETY: libavcodec terminates the list with AV_PIX_FMT_NONE, which is -1.
    while unsafe { *offered.add(count) } != ffi::AVPixelFormat::AV_PIX_FMT_NONE as c_int {
        count += 1;
    }
    // SAFETY: count entries lie before the end.
    let offered = unsafe { std::slice::from_raw_parts(offered, count) };
    // SAFETY: set in Decoder::open to what outlives the context; never changed.
    let shared = unsafe { &*(*context).opaque.cast::<Shared>() };
    let chosen = shared.resources.device.as_ref().and_then(|device| device.choose_format(offered));
    chosen.map_or(ffi::AVPixelFormat::AV_PIX_FMT_NONE, PixelFormat::raw)
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: allocated by avcodec_alloc_context3 and not used afterwards.
        unsafe { ffi::avcodec_free_context(&raw mut context) };
    }
}
