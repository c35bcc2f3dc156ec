// SPDX-License-Identifier: MIT OR Apache-2.0
//! FFmpeg's parsers: the kind of picture in a packet, without decoding it.
//!
//! Thread rule: one thread at a time.

use std::ffi::c_int;
use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use crate::av::codec_context::CodecContext;
use crate::av::error::Error;
use crate::av::input::field_pairs::PictureStructure;
use crate::av::input::packet::Packet;
use crate::av::input::video_stream::VideoStream;

/// Bytes after the data that FFmpeg's parsers may read.
const PADDING: usize = ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize;

/// An AVCodecParser and its codec context, which is never opened.
pub(crate) struct Parser {
    parser: ParserContext,
    context: CodecContext,
}

/// An AVCodecParserContext that is closed when it is dropped.
struct ParserContext(NonNull<ffi::AVCodecParserContext>);

// SAFETY: the parser is owned by this value alone and FFmpeg does not tie it to a thread.
unsafe impl Send for ParserContext {}

impl ParserContext {
    fn as_ptr(&self) -> *mut ffi::AVCodecParserContext {
        self.0.as_ptr()
    }
}

impl Drop for ParserContext {
    fn drop(&mut self) {
        // SAFETY: from av_parser_init and not used afterwards.
        unsafe { ffi::av_parser_close(self.0.as_ptr()) };
    }
}

/// Result of parsing a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) structure: PictureStructure,
    /// Whether decoding can start at the packet.
    pub(crate) is_key: bool,
}

impl Parser {
    /// Returns a parser for the codec of `video`, or `None` if FFmpeg has none.
    pub(crate) fn new(video: &VideoStream) -> Result<Option<Self>, Error> {
        // SAFETY: no preconditions; null is handled.
        let parser = unsafe { ffi::av_parser_init(video.codec_id() as c_int) };
        let Some(parser) = NonNull::new(parser).map(ParserContext) else { return Ok(None) };
        let parser = Self { parser, context: CodecContext::new(video.native_decoder())? };
        // SAFETY: the parser is ours; packets are whole.
        unsafe { (*parser.parser.as_ptr()).flags |= ffi::PARSER_FLAG_COMPLETE_FRAMES as c_int };
        // SAFETY: both are valid; the parameters are copied.
        let result = unsafe { ffi::avcodec_parameters_to_context(parser.context.as_ptr(), video.parameters()) };
        if result < 0 { Err(Error::call("avcodec_parameters_to_context", result)) } else { Ok(Some(parser)) }
    }

    /// Parses a packet that holds a whole frame.
    pub(crate) fn parse(&mut self, packet: &Packet) -> Parsed {
        // A packet's data is followed by FFmpeg's padding.
        self.parse_padded(packet.data())
    }

    /// Parses a whole frame.
    pub(crate) fn parse_bytes(&mut self, mut frame: Vec<u8>) -> Parsed {
        let len = frame.len();
        frame.resize(len + PADDING, 0);
        self.parse_padded(&frame[..len])
    }

    /// The callers ensure that [`PADDING`] readable bytes follow `data`.
    fn parse_padded(&mut self, data: &[u8]) -> Parsed {
        let Ok(len) = c_int::try_from(data.len()) else {
            return Parsed { structure: PictureStructure::Frame, is_key: false };
        };
        let (mut out, mut out_len) = (std::ptr::null_mut(), 0);
        let none = ffi::AV_NOPTS_VALUE;
        // SAFETY: parser and context are ours and belong together; data has len bytes, and FFmpeg's padding follows, as both
        // callers ensure. The output points into data and is not used.
        unsafe {
            ffi::av_parser_parse2(
                self.parser.as_ptr(),
                self.context.as_ptr(),
                &raw mut out,
                &raw mut out_len,
                data.as_ptr(),
                len,
                none,
                none,
                -1,
            )
        };
        // SAFETY: the parser is valid; the C enum is read as an integer.
        let structure = unsafe { (&raw const (*self.parser.as_ptr()).picture_structure).cast::<u32>().read() };
        let structure = match structure {
            top if top == ffi::AVPictureStructure::AV_PICTURE_STRUCTURE_TOP_FIELD as u32 => PictureStructure::Top,
            bottom if bottom == ffi::AVPictureStructure::AV_PICTURE_STRUCTURE_BOTTOM_FIELD as u32 => {
                PictureStructure::Bottom
            }
            _ => PictureStructure::Frame,
        };
        // SAFETY: the parser is valid.
        let (key_frame, pict_type) = unsafe { ((*self.parser.as_ptr()).key_frame, (*self.parser.as_ptr()).pict_type) };
        // As libavformat flags packets (demux.c, parse_packet).
        let is_intra = pict_type == ffi::AVPictureType::AV_PICTURE_TYPE_I as c_int;
        Parsed { structure, is_key: key_frame == 1 || key_frame == -1 && is_intra }
    }
}
