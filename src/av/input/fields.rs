//! Keyframes whose two fields are packets of their own: whether a packet holds a single field, so that the next one has
//! to be decoded with it.
//!
//! H.264 field pairs (PAFF) come as two packets out of transport streams and whatever was copied from one. FFmpeg's own
//! parser tells the structure of a picture without decoding it. Field pictures of MPEG-2 come as one packet wherever FFmpeg's
//! demuxers parse them; containers that keep them apart are detected by the picture coding extension (ISO/IEC 13818-2 6.2.3.1).

use ffmpeg_sys_next as ffi;

use crate::av::error::Error;
use crate::av::input::packet::Packet;
use crate::av::input::parser::Parser;
use crate::av::input::video_stream::VideoStream;

/// What a packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Structure {
    /// A whole picture, or nobody knows.
    Frame,
    /// A top field alone.
    Top,
    /// A bottom field alone.
    Bottom,
}

impl Structure {
    /// Whether `second` completes this one.
    pub(crate) fn is_completed_by(self, second: Self) -> bool {
        matches!((self, second), (Self::Top, Self::Bottom) | (Self::Bottom, Self::Top))
    }
}

/// Tells the structure of packets.
pub(crate) enum Fields {
    H264(Parser),
    Mpeg2,
}

impl Fields {
    /// For the codec of `video`; `None` where a packet is always a picture.
    pub(crate) fn new(video: &VideoStream) -> Result<Option<Self>, Error> {
        let codec = video.codec_id();
        if codec == ffi::AVCodecID::AV_CODEC_ID_H264 as u32 {
            return Ok(Parser::new(video)?.map(Self::H264));
        }
        Ok((codec == ffi::AVCodecID::AV_CODEC_ID_MPEG2VIDEO as u32).then_some(Self::Mpeg2))
    }

    /// What `packet` holds.
    pub(crate) fn structure(&mut self, packet: &Packet) -> Structure {
        match self {
            Self::H264(parser) => parser.parse(packet).structure,
            Self::Mpeg2 => mpeg2_structure(packet.data()),
        }
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
