// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keyframes whose two fields are separate packets: whether a packet holds a single field, so that the next one has to be decoded
//! with it.
//!
//! H.264 field pairs (PAFF) are two packets in transport streams and in whatever was copied from one. FFmpeg's parser reports the
//! structure of a picture without decoding it. MPEG-2 field pairs are one packet wherever FFmpeg's demuxers parse them; in
//! containers that keep them apart they are detected by the picture coding extension (ISO/IEC 13818-2 6.2.3.1).

use ffmpeg_sys_next as ffi;

use crate::av::error::Error;
use crate::av::input::packet::Packet;
use crate::av::input::parser::Parser;
use crate::av::input::video_stream::VideoStream;

/// Contents of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PictureStructure {
    /// A whole picture, or unknown.
    Frame,
    /// A top field alone.
    Top,
    /// A bottom field alone.
    Bottom,
}

impl PictureStructure {
    /// Whether `second` is the other field of this one's picture.
    pub(crate) fn is_paired_with(self, second: Self) -> bool {
        matches!((self, second), (Self::Top, Self::Bottom) | (Self::Bottom, Self::Top))
    }
}

/// Determines the structure of packets.
pub(crate) enum FieldParser {
    H264(Parser),
    Mpeg2,
}

impl FieldParser {
    /// Returns a parser for the codec of `video`; `None` where a packet is always a picture.
    pub(crate) fn new(video: &VideoStream) -> Result<Option<Self>, Error> {
        let codec = video.codec_id();
        if codec == ffi::AVCodecID::AV_CODEC_ID_H264 as u32 {
            return Ok(Parser::new(video)?.map(Self::H264));
        }
        Ok((codec == ffi::AVCodecID::AV_CODEC_ID_MPEG2VIDEO as u32).then_some(Self::Mpeg2))
    }

    /// Returns the structure of `packet`.
    pub(crate) fn structure(&mut self, packet: &Packet) -> PictureStructure {
        match self {
            Self::H264(parser) => parser.parse(packet).structure,
            Self::Mpeg2 => mpeg2_structure(packet.data()),
        }
    }
}

/// Reads the picture coding extensions in a packet of MPEG-2 video, one for each field or frame.
fn mpeg2_structure(packet: &[u8]) -> PictureStructure {
    let mut found = PictureStructure::Frame;
    for start in memchr::memmem::find_iter(packet, &[0, 0, 1, 0xb5]) {
        let Some(&[first, _, third, ..]) = packet.get(start + 4..) else { break };
        if first >> 4 != 8 {
            continue;
        }
        if found != PictureStructure::Frame {
            return PictureStructure::Frame;
        }
        found = match third & 3 {
            1 => PictureStructure::Top,
            2 => PictureStructure::Bottom,
            _ => return PictureStructure::Frame,
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_fields_of_mpeg2_are_distinguished_from_pairs() {
        let field = |structure: u8| [0, 0, 1, 0xb5, 0x8f, 0xff, 0xf0 | structure, 0x41];
        assert_eq!(mpeg2_structure(&field(1)), PictureStructure::Top);
        assert_eq!(mpeg2_structure(&field(2)), PictureStructure::Bottom);
        assert_eq!(mpeg2_structure(&field(3)), PictureStructure::Frame);
        assert_eq!(mpeg2_structure(&[field(1), field(2)].concat()), PictureStructure::Frame);
        assert_eq!(mpeg2_structure(&[0, 0, 1, 0xb5, 0x14, 0, 0]), PictureStructure::Frame);
        assert!(PictureStructure::Top.is_paired_with(PictureStructure::Bottom));
        assert!(
            !PictureStructure::Top.is_paired_with(PictureStructure::Top)
                && !PictureStructure::Frame.is_paired_with(PictureStructure::Top)
        );
    }
}
