//! Keyframes whose two fields are packets of their own: whether a packet holds a single field, so that the next one has
//! to be decoded with it.
//!
//! H.264 field pairs (PAFF) come as two packets out of transport streams and whatever was copied from one. FFmpeg's own
//! parser tells the structure of a picture without decoding it. Field pictures of MPEG-2 come as one packet wherever FFmpeg's
//! demuxers parse them; containers that keep them apart are detected by the picture coding extension (ISO/IEC 13818-2 6.2.3.1).

use std::ffi::c_int;
use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use super::error::Error;
use super::packet::Packet;
use super::video_stream::VideoStream;

/// What a packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Structure {
    /// A whole picture, or nobody knows.
    Frame,
    /// A top field alone.
    Top,
    /// A bottom field alone.
    Bottom,
}

impl Structure {
    /// Whether `second` completes this one.
    pub(super) fn is_completed_by(self, second: Self) -> bool {
        matches!((self, second), (Self::Top, Self::Bottom) | (Self::Bottom, Self::Top))
    }
}

/// Tells the structure of packets.
pub(super) enum Fields {
    H264(Parser),
    Mpeg2,
}

impl Fields {
    /// For the codec of `video`; `None` where a packet is always a picture.
    pub(super) fn new(video: &VideoStream) -> Result<Option<Self>, Error> {
        let codec = video.codec_id();
        if codec == ffi::AVCodecID::AV_CODEC_ID_H264 as u32 {
            return Parser::new(video).map(|parser| Some(Self::H264(parser)));
        }
        Ok((codec == ffi::AVCodecID::AV_CODEC_ID_MPEG2VIDEO as u32).then_some(Self::Mpeg2))
    }

    /// What `packet` holds.
    pub(super) fn structure(&mut self, packet: &Packet) -> Structure {
        match self {
            Self::H264(parser) => parser.structure(packet),
            Self::Mpeg2 => mpeg2_structure(packet.data()),
        }
    }
}

/// An AVCodecParser and a context for it that is never opened.
pub(super) struct Parser {
    parser: NonNull<ffi::AVCodecParserContext>,
    context: NonNull<ffi::AVCodecContext>,
}

// SAFETY: both are owned by this value alone and tied to no thread.
unsafe impl Send for Parser {}

impl Parser {
    fn new(video: &VideoStream) -> Result<Self, Error> {
        // SAFETY: a static codec; null is handled.
        let context = unsafe { ffi::avcodec_alloc_context3(video.native_decoder().as_ptr()) };
        let context = NonNull::new(context).ok_or_else(|| Error::memory("avcodec_alloc_context3"))?;
        // SAFETY: no preconditions; null is handled.
        let parser = unsafe { ffi::av_parser_init(video.codec_id() as c_int) };
        let Some(parser) = NonNull::new(parser) else {
            let mut context = context.as_ptr();
            // SAFETY: allocated above and used by nobody else.
            unsafe { ffi::avcodec_free_context(&raw mut context) };
            return Err(Error::memory("av_parser_init"));
        };
        let parser = Self { parser, context };
        // SAFETY: the parser is ours; packets are whole.
        unsafe { (*parser.parser.as_ptr()).flags |= ffi::PARSER_FLAG_COMPLETE_FRAMES as c_int };
        // SAFETY: both are valid; the parameters are copied.
        let result = unsafe { ffi::avcodec_parameters_to_context(parser.context.as_ptr(), video.parameters()) };
        if result < 0 { Err(Error::call("avcodec_parameters_to_context", result)) } else { Ok(parser) }
    }

    fn structure(&mut self, packet: &Packet) -> Structure {
        let data = packet.data();
        let Ok(len) = c_int::try_from(data.len()) else { return Structure::Frame };
        let (mut out, mut out_len) = (std::ptr::null_mut(), 0);
        let none = ffi::AV_NOPTS_VALUE;
        // SAFETY: parser and context are ours and belong together; data has len bytes and, being a packet's, FFmpeg's
        // padding. What comes out points into data and is not used.
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
        match structure {
            top if top == ffi::AVPictureStructure::AV_PICTURE_STRUCTURE_TOP_FIELD as u32 => Structure::Top,
            bottom if bottom == ffi::AVPictureStructure::AV_PICTURE_STRUCTURE_BOTTOM_FIELD as u32 => Structure::Bottom,
            _ => Structure::Frame,
        }
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        // SAFETY: from av_parser_init and not used afterwards.
        unsafe { ffi::av_parser_close(self.parser.as_ptr()) };
        let mut context = self.context.as_ptr();
        // SAFETY: from avcodec_alloc_context3 and not used afterwards.
        unsafe { ffi::avcodec_free_context(&raw mut context) };
    }
}

/// By the picture coding extensions in a packet of MPEG-2 video, one for each field or frame.
fn mpeg2_structure(packet: &[u8]) -> Structure {
    let mut found = Structure::Frame;
    for start in memchr::memmem::find_iter(packet, &[0, 0, 1, 0xb5]) {
        let Some(&[first, _, third, ..]) = packet.get(start + 4..) else { break };
        if first >> 4 != 8 {
            continue;
        }
        if found != Structure::Frame {
            return Structure::Frame;
        }
        found = match third & 3 {
            1 => Structure::Top,
            2 => Structure::Bottom,
            _ => return Structure::Frame,
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_fields_of_mpeg2_are_told_from_pairs() {
        let field = |structure: u8| [0, 0, 1, 0xb5, 0x8f, 0xff, 0xf0 | structure, 0x41];
        assert_eq!(mpeg2_structure(&field(1)), Structure::Top);
        assert_eq!(mpeg2_structure(&field(2)), Structure::Bottom);
        assert_eq!(mpeg2_structure(&field(3)), Structure::Frame);
        assert_eq!(mpeg2_structure(&[field(1), field(2)].concat()), Structure::Frame);
        assert_eq!(mpeg2_structure(&[0, 0, 1, 0xb5, 0x14, 0, 0]), Structure::Frame);
        assert!(Structure::Top.is_completed_by(Structure::Bottom));
        assert!(!Structure::Top.is_completed_by(Structure::Top) && !Structure::Frame.is_completed_by(Structure::Top));
    }
}
