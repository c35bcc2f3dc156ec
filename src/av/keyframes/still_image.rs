// SPDX-License-Identifier: MIT OR Apache-2.0
//! Metadata of still images: orientation in EXIF data, and previews behind the image.

use std::io::Cursor;
use std::panic::catch_unwind;

use crate::av::frame::rotation::Rotation;
use crate::av::input::container::Container;

/// Markers of images with others behind them: the Multi-Picture Format (CIPA DC-007), Ultra HDR gain maps and Android Motion
/// Photos (their XMP names).
const WITH_PREVIEWS: [&[u8]; 4] = [b"MPF\0", b"hdrgm:Version", b"GContainer", b"MotionPhoto"];

/// Metadata of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StillImage {
    /// The rotation that shows the image upright, where FFmpeg's decoder does not report it.
    pub(crate) rotation: Option<Rotation>,
    /// Previews and gain maps of this image follow in the file.
    pub(super) has_previews: bool,
    /// Lines and columns of a JPEG, as four bytes of its frame header.
    jpeg_size: Option<[u8; 4]>,
}

impl StillImage {
    /// Reads the metadata of `picture`, the compressed image in a container of this kind.
    pub(super) fn read(picture: &[u8], container: Container) -> Self {
        match container {
            // FFmpeg's JPEG decoder reports the orientation itself.
            Container::Jpeg => jpeg(picture),
            Container::ImageWithExif => Self { rotation: orientation(picture), ..Self::default() },
            _ => Self::default(),
        }
    }

    /// Whether a later image is a preview of this one: a JPEG of another size behind a JPEG.
    pub(super) fn is_previewed_by(&self, later: &StillImage) -> bool {
        self.jpeg_size.is_some() && later.jpeg_size.is_some() && self.jpeg_size != later.jpeg_size
    }
}

/// Reads size and previews from a JPEG's segments (ITU-T T.81 B.1.1).
fn jpeg(picture: &[u8]) -> StillImage {
    let mut image = StillImage::default();
    let mut rest = picture.get(2..).unwrap_or_default();
    while let [0xff, marker, high, low, ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // Start of scan: no application segment follows.
        if *marker == 0xda || length < 2 {
            break;
        }
        let Some((segment, after)) = rest.split_at_checked(2 + length) else { break };
        let content = &segment[4..];
        // Frame headers, except for three other markers in that range.
        if (0xc0..=0xcf).contains(marker) && ![0xc4, 0xc8, 0xcc].contains(marker) {
            image.jpeg_size = content.get(1..).and_then(|size| size.first_chunk().copied());
        }
        if (0xe1..=0xef).contains(marker)
            && WITH_PREVIEWS.iter().any(|mark| memchr::memmem::find(content, mark).is_some())
        {
            image.has_previews = true;
        }
        rest = after;
    }
    image
}

/// Reads the EXIF orientation (EXIF 2.32, tag 0x0112).
fn orientation(picture: &[u8]) -> Option<Rotation> {
    // The image is untrusted: whatever it does to the parser, it affects the orientation at most.
    let code = catch_unwind(|| {
        let exif = exif::Reader::new().continue_on_error(true).read_from_container(&mut Cursor::new(picture));
        let exif = exif.or_else(|error| error.distill_partial_result(|_| {})).ok()?;
        exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY)?.value.get_uint(0)
    });
    let (swap, flip_x, flip_y) = match code.ok()?? {
        2 => (false, true, false),
        3 => (false, true, true),
        4 => (false, false, true),
        5 => (true, false, false),
        6 => (true, true, false),
        7 => (true, true, true),
        8 => (true, false, true),
        _ => return None,
    };
    Some(Rotation { swap, flip_x, flip_y })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn previews_in(picture: &[u8]) -> bool {
        jpeg(picture).has_previews
    }

    #[test]
    fn jpegs_with_previews_are_recognised_by_their_segments() {
        let segment = |marker: u8, content: &[u8]| {
            let length = (content.len() as u16 + 2).to_be_bytes();
            [&[0xff, marker][..], &length, content].concat()
        };
        let made = |segments: &[Vec<u8>]| {
            [&[0xff, 0xd8][..], &segments.concat(), &[0xff, 0xda, 0, 2, b'M', b'P', b'F', 0]].concat()
        };
        assert!(previews_in(&made(&[segment(0xe0, b"JFIF\0"), segment(0xe2, b"MPF\0MM")])));
        assert!(previews_in(&made(&[segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0 hdrgm:Version=\"1.0\"")])));
        assert!(!previews_in(&made(&[segment(0xe0, b"JFIF\0"), segment(0xe2, b"ICC_PROFILE\0")])), "not in the scan");
        assert!(!previews_in(&[]) && !previews_in(&[0xff, 0xd8, 0xff]));
        let sized = |columns: u8| jpeg(&made(&[segment(0xc4, b"tables"), segment(0xc0, &[8, 0, 90, 0, columns, 1])]));
        assert!(sized(120).is_previewed_by(&sized(40)) && !sized(120).is_previewed_by(&sized(120)));
        assert!(!sized(120).is_previewed_by(&StillImage::default()));
    }

    #[test]
    fn orientations_of_tiff_headers_are_rotations() {
        let tiff = |code: u8| [&b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[code], &[0; 6]].concat();
        let tag = |code: u8| orientation(&tiff(code)).map(Rotation::tag);
        assert_eq!(tag(1), None);
        assert_eq!(tag(3), Some("rotate-180"));
        assert_eq!(tag(6), Some("rotate-90"));
        assert_eq!(tag(8), Some("rotate-270"));
        assert_eq!(tag(2), Some("flip-rotate-0"));
        assert_eq!(orientation(b"no picture"), None);
    }
}
