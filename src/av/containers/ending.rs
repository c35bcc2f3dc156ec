//! Whether a file ends as its container ends: containers without a length that have a last element.

use memchr::memmem;

use crate::av::error::Error;
use crate::av::input::Input;

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As the container asks, or nothing is known of that.
    Proper,
    /// In the middle of an element.
    InElement,
    /// After an element that is not the last one.
    WithoutLast,
}

/// Longest page of an Ogg stream: header, table of 255 segments, 255 segments of 255 bytes (RFC 3533, section 6).
const OGG_PAGE: usize = 27 + 255 + 255 * 255;

/// Longest run of zeros behind a GIF's trailer that is taken for padding.
const PADDING: usize = 4096;

/// Looks at the last bytes of a file.
pub(crate) fn ending(input: &mut Input) -> Result<Ending, Error> {
    let Some(len) = input.byte_len().filter(|_| input.jumps_are_free()) else { return Ok(Ending::Proper) };
    let (size, judge): (usize, fn(&[u8]) -> Ending) = match &*input.container_names() {
        "ogg" => (OGG_PAGE, ogg),
        "gif" => (PADDING, gif),
        "flv" => return flv(input, len),
        _ => return Ok(Ending::Proper),
    };
    let mut tail = vec![0; size.min(usize::try_from(len).unwrap_or(size))];
    let count = input.read_at(len - tail.len() as u64, &mut tail)?;
    Ok(judge(&tail[..count]))
}

/// The last page must be whole and have the flag "end of stream" (RFC 3533, section 6, `header_type_flag`).
fn ogg(tail: &[u8]) -> Ending {
    let Some(start) = memmem::rfind(tail, b"OggS") else { return Ending::InElement };
    let page = &tail[start..];
    let (Some(&flags), Some(&segments)) = (page.get(5), page.get(26)) else { return Ending::InElement };
    let Some(table) = page.get(27..27 + usize::from(segments)) else { return Ending::InElement };
    let size = 27 + table.len() + table.iter().map(|length| usize::from(*length)).sum::<usize>();
    match page.len() == size {
        false => Ending::InElement,
        true if flags & 4 != 0 => Ending::Proper,
        true => Ending::WithoutLast,
    }
}

/// The last byte must be the trailer (GIF89a specification, section 27).
fn gif(tail: &[u8]) -> Ending {
    match tail.iter().rfind(|byte| **byte != 0) {
        Some(0x3b) | None => Ending::Proper,
        Some(_) => Ending::WithoutLast,
    }
}

/// The last tag must be followed by its size (Adobe Flash Video specification 10.1, E.3 and E.4.1).
fn flv(input: &mut Input, len: u64) -> Result<Ending, Error> {
    const TAG_HEADER: u64 = 11;
    let mut size = [0; 4];
    let Some(end) = len.checked_sub(4) else { return Ok(Ending::InElement) };
    input.read_at(end, &mut size)?;
    let tag_size = u64::from(u32::from_be_bytes(size));
    let Some(start) = end.checked_sub(tag_size).filter(|_| tag_size >= TAG_HEADER) else {
        return Ok(Ending::InElement);
    };
    let mut tag = [0; 4];
    input.read_at(start, &mut tag)?;
    let [kind, s0, s1, s2] = tag;
    let is_tag =
        matches!(kind & 0x1f, 8 | 9 | 18) && u64::from(u32::from_be_bytes([0, s0, s1, s2])) + TAG_HEADER == tag_size;
    Ok(if is_tag { Ending::Proper } else { Ending::InElement })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ogg_files_end_with_a_whole_page_that_says_so() {
        let page = |flags: u8| {
            let mut page = b"OggS\0".to_vec();
            page.push(flags);
            page.extend([0; 20]);
            page.extend([2, 3, 1, 9, 9, 9, 9]);
            page
        };
        let file = [page(2), page(4)].concat();
        assert_eq!(ogg(&file), Ending::Proper);
        for cut in 1..page(4).len() {
            assert_eq!(ogg(&file[..file.len() - cut]), Ending::InElement, "{cut} bytes less");
        }
        assert_eq!(ogg(&page(2)), Ending::WithoutLast);
        assert_eq!(ogg(b""), Ending::InElement);
    }

    #[test]
    fn gifs_end_with_a_trailer() {
        assert_eq!((gif(b"x;"), gif(b"x;\0\0"), gif(b"x")), (Ending::Proper, Ending::Proper, Ending::WithoutLast));
    }
}
