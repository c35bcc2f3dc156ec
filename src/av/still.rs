//! What still pictures say beside their pixels: orientation in EXIF data, and previews behind the picture.

use std::io::Cursor;
use std::panic::catch_unwind;

use super::turn::Turn;

/// Marks of pictures that carry others behind them: the Multi-Picture Format (CIPA DC-007), Ultra HDR gain maps and Motion
/// Photos of Android (their XMP names).
const WITH_PREVIEWS: [&[u8]; 4] = [b"MPF\0", b"hdrgm:Version", b"GContainer", b"MotionPhoto"];

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// The turn that shows the picture upright, where FFmpeg's decoder does not tell it.
    pub(super) turn: Option<Turn>,
    /// What follows in the file are previews and gain maps of this picture.
    pub(super) has_previews: bool,
}

/// Looks into a still picture; `container` is FFmpeg's name of the demuxer.
pub(super) fn examine(picture: &[u8], container: &str) -> Findings {
    match container {
        // FFmpeg's JPEG decoder tells the orientation itself.
        "jpeg_pipe" => Findings { turn: None, has_previews: has_previews(picture) },
        "png_pipe" | "webp_pipe" | "tiff_pipe" => Findings { turn: orientation(picture), has_previews: false },
        _ => Findings::default(),
    }
}

/// Whether a JPEG's application segments announce further pictures.
fn has_previews(jpeg: &[u8]) -> bool {
    let mut rest = jpeg.get(2..).unwrap_or_default();
    while let [0xff, marker, high, low, ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // Start of scan: no application segment follows.
        if *marker == 0xda || length < 2 {
            return false;
        }
        let Some((segment, after)) = rest.split_at_checked(2 + length) else { return false };
        let content = &segment[4..];
        if (0xe1..=0xef).contains(marker)
            && WITH_PREVIEWS.iter().any(|mark| memchr::memmem::find(content, mark).is_some())
        {
            return true;
        }
        rest = after;
    }
    false
}

/// The EXIF orientation (EXIF 2.32, tag 0x0112).
fn orientation(picture: &[u8]) -> Option<Turn> {
    // The picture is anybody's: whatever a parser does with it, it costs the orientation at most.
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
    Some(Turn { swap, flip_x, flip_y })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jpegs_that_carry_others_are_known_by_their_segments() {
        let segment = |marker: u8, content: &[u8]| {
            let length = (content.len() as u16 + 2).to_be_bytes();
            [&[0xff, marker][..], &length, content].concat()
        };
        let jpeg = |segments: &[Vec<u8>]| {
            [&[0xff, 0xd8][..], &segments.concat(), &[0xff, 0xda, 0, 2, b'M', b'P', b'F', 0]].concat()
        };
        assert!(has_previews(&jpeg(&[segment(0xe0, b"JFIF\0"), segment(0xe2, b"MPF\0MM")])));
        assert!(has_previews(&jpeg(&[segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0 hdrgm:Version=\"1.0\"")])));
        assert!(!has_previews(&jpeg(&[segment(0xe0, b"JFIF\0"), segment(0xe2, b"ICC_PROFILE\0")])), "not in the scan");
        assert!(!has_previews(&[]) && !has_previews(&[0xff, 0xd8, 0xff]));
    }

    #[test]
    fn orientations_of_tiff_headers_are_turns() {
        let tiff = |code: u8| [&b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[code], &[0; 6]].concat();
        let tag = |code: u8| orientation(&tiff(code)).map(Turn::tag);
        assert_eq!(tag(1), None);
        assert_eq!(tag(3), Some("rotate-180"));
        assert_eq!(tag(6), Some("rotate-90"));
        assert_eq!(tag(8), Some("rotate-270"));
        assert_eq!(tag(2), Some("flip-rotate-0"));
        assert_eq!(orientation(b"no picture"), None);
    }
}
