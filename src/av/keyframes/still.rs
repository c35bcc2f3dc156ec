//! What still pictures say beside their pixels: orientation in EXIF data, and previews behind the picture.

use std::io::Cursor;
use std::panic::catch_unwind;

use crate::av::frame::rotation::Turn;

/// Marks of pictures that carry others behind them: the Multi-Picture Format (CIPA DC-007), Ultra HDR gain maps and Motion
/// Photos of Android (their XMP names).
const WITH_PREVIEWS: [&[u8]; 4] = [b"MPF\0", b"hdrgm:Version", b"GContainer", b"MotionPhoto"];

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// The turn that shows the picture upright, where FFmpeg's decoder does not tell it.
    pub(crate) turn: Option<Turn>,
    /// What follows in the file are previews and gain maps of this picture.
    pub(super) has_previews: bool,
    /// Lines and columns of a JPEG, as four bytes of its frame header.
    jpeg_size: Option<[u8; 4]>,
}

impl Findings {
    /// Whether what was found of a later picture makes it a preview of this one: a JPEG of another size behind a JPEG.
    pub(super) fn has_preview(&self, later: &Findings) -> bool {
        self.jpeg_size.is_some() && later.jpeg_size.is_some() && self.jpeg_size != later.jpeg_size
    }
}

/// Looks into a still picture; `container` is FFmpeg's name of the demuxer.
pub(super) fn examine(picture: &[u8], container: &str) -> Findings {
    match container {
        // FFmpeg's JPEG decoder tells the orientation itself.
        "jpeg_pipe" => jpeg(picture),
        "png_pipe" | "webp_pipe" | "tiff_pipe" => Findings { turn: orientation(picture), ..Findings::default() },
        _ => Findings::default(),
    }
}

/// What a JPEG's segments say of its size and of further pictures (ITU-T T.81 B.1.1).
fn jpeg(picture: &[u8]) -> Findings {
    let mut findings = Findings::default();
    let mut rest = picture.get(2..).unwrap_or_default();
    while let [0xff, marker, high, low, ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // Start of scan: no application segment follows.
        if *marker == 0xda || length < 2 {
            break;
        }
        let Some((segment, after)) = rest.split_at_checked(2 + length) else { break };
        let content = &segment[4..];
        // Frame headers, but for three markers between them that are none.
        if (0xc0..=0xcf).contains(marker) && ![0xc4, 0xc8, 0xcc].contains(marker) {
            findings.jpeg_size = content.get(1..).and_then(|size| size.first_chunk().copied());
        }
        if (0xe1..=0xef).contains(marker)
            && WITH_PREVIEWS.iter().any(|mark| memchr::memmem::find(content, mark).is_some())
        {
            findings.has_previews = true;
        }
        rest = after;
    }
    findings
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

    fn previews_in(picture: &[u8]) -> bool {
        jpeg(picture).has_previews
    }

    #[test]
    fn jpegs_that_carry_others_are_known_by_their_segments() {
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
        assert!(sized(120).has_preview(&sized(40)) && !sized(120).has_preview(&sized(120)));
        assert!(!sized(120).has_preview(&Findings::default()));
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
