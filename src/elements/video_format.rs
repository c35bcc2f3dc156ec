// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raw video formats of GStreamer in the terms of the detect layer.

use crate::detect::{Matrix, PixelFormat, Range};

/// Returns the caps of all supported formats in system memory.
pub fn supported_caps() -> gst::Caps {
    let formats = PixelFormat::ALL.iter().map(|format| gst_video::VideoFormat::from_string(format.name()));
    // Older versions of GStreamer do not know all of them.
    let formats = formats.filter(|format| *format != gst_video::VideoFormat::Unknown);
    gst_video::VideoCapsBuilder::new().format_list(formats).build()
}

/// Returns the pixel format.
///
/// # Errors
/// The name of a format that is not supported.
pub fn pixel_format(info: &gst_video::VideoInfo) -> Result<PixelFormat, String> {
    let name = info.format().to_str();
    PixelFormat::from_name(name).ok_or_else(|| format!("the format {name} is not supported"))
}

/// Returns the colour matrix and range.
pub fn colour(info: &gst_video::VideoInfo) -> (Matrix, Range) {
    let colorimetry = info.colorimetry();
    let matrix = match colorimetry.matrix() {
        gst_video::VideoColorMatrix::Bt709 => Matrix::Bt709,
        gst_video::VideoColorMatrix::Bt2020 => Matrix::Bt2020,
        gst_video::VideoColorMatrix::Fcc => Matrix::Fcc,
        gst_video::VideoColorMatrix::Smpte240m => Matrix::Smpte240m,
        _ => Matrix::Bt601,
    };
    let range = match colorimetry.range() {
        gst_video::VideoColorRange::Range0_255 => Range::Full,
        _ => Range::Limited,
    };
    (matrix, range)
}
