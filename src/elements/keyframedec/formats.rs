// SPDX-License-Identifier: MIT OR Apache-2.0
//! Conversion of decoder formats and colours to GStreamer's.

use std::sync::LazyLock;

use crate::av;

/// FFmpeg's pixel formats with an identical GStreamer format, by their names on both sides.
const FORMAT_PAIRS: &[(&str, gst_video::VideoFormat)] = {
    use gst_video::VideoFormat as F;
    &[
        ("yuv420p", F::I420),
        ("yuvj420p", F::I420),
        ("nv12", F::Nv12),
        ("yuv422p", F::Y42b),
        ("yuvj422p", F::Y42b),
        ("yuv444p", F::Y444),
        ("yuvj444p", F::Y444),
        ("yuv420p10le", F::I42010le),
        ("yuv422p10le", F::I42210le),
        ("yuv444p10le", F::Y44410le),
        ("p010le", F::P01010le),
        ("p012le", F::P012Le),
        ("p016le", F::P016Le),
        ("yuv420p12le", F::I42012le),
        ("yuv422p12le", F::I42212le),
        ("yuv444p12le", F::Y44412le),
        ("yuv444p16le", F::Y44416le),
        ("yuv411p", F::Y41b),
        ("yuvj411p", F::Y41b),
        ("yuv410p", F::Yuv9),
        ("nv21", F::Nv21),
        ("nv16", F::Nv16),
        ("nv24", F::Nv24),
        ("yuyv422", F::Yuy2),
        ("uyvy422", F::Uyvy),
        ("yuva420p", F::A420),
        ("yuva420p10le", F::A42010le),
        ("yuva422p10le", F::A42210le),
        ("yuva444p10le", F::A44410le),
        ("gray", F::Gray8),
        ("gray16le", F::Gray16Le),
        ("rgb24", F::Rgb),
        ("bgr24", F::Bgr),
        ("rgba", F::Rgba),
        ("bgra", F::Bgra),
        ("argb", F::Argb),
        ("abgr", F::Abgr),
        ("rgb0", F::Rgbx),
        ("bgr0", F::Bgrx),
        ("0rgb", F::Xrgb),
        ("0bgr", F::Xbgr),
        ("gbrp", F::Gbr),
        ("gbrp10le", F::Gbr10le),
        ("gbrp12le", F::Gbr12le),
        ("gbrap", F::Gbra),
        ("gbrap10le", F::Gbra10le),
        ("gbrap12le", F::Gbra12le),
        ("rgba64le", F::Rgba64Le),
        ("bgra64le", F::Bgra64Le),
    ]
};

/// The output formats.
pub static FORMATS: LazyLock<Vec<gst_video::VideoFormat>> = LazyLock::new(|| {
    let mut formats: Vec<gst_video::VideoFormat> = Vec::new();
    for (_, format) in FORMAT_PAIRS {
        if !formats.contains(format) {
            formats.push(*format);
        }
    }
    formats
});

/// Returns the GStreamer format that is identical to `format`.
pub fn to_gst(format: av::PixelFormat) -> Option<gst_video::VideoFormat> {
    FORMAT_PAIRS.iter().find(|(name, _)| *name == format.name()).map(|(_, format)| *format)
}

/// Returns the FFmpeg format that is identical to `format`.
pub fn to_av(format: gst_video::VideoFormat) -> Option<av::PixelFormat> {
    FORMAT_PAIRS.iter().find(|(_, known)| *known == format).and_then(|(name, _)| av::PixelFormat::from_name(name))
}

/// Returns the colorimetry of pictures with this `colour` in `format`, or `None` where nothing is specified and caps should not
/// specify it either. Where only a part is specified, the matrix is BT.601 as in FFmpeg, the rest GStreamer's default for the size.
///
/// Without colorimetry in the caps GStreamer guesses the matrix from the size, which a rotation by 90 degrees changes; then the
/// guess for the size `stored` in the file is written into the caps.
pub fn colorimetry(
    colour: av::Colour,
    format: gst_video::VideoFormat,
    size: (u32, u32),
    stored: (u32, u32),
) -> Option<gst_video::VideoColorimetry> {
    let guess = |(width, height): (u32, u32)| {
        let info = gst_video::VideoInfo::builder(format, width, height).build();
        info.map(|info| info.colorimetry()).ok()
    };
    let default = guess(size)?;
    let info = gst_video::VideoFormatInfo::from_format(format);
    if !info.is_yuv() && !info.is_gray() {
        return Some(default);
    }
    let is_full = colour.is_full_range();
    // Code points 0 and 2 mean unspecified.
    let specified = |code: u32| Some(code).filter(|&code| code != 2 && code != 0);
    let matrix = specified(colour.matrix)
        .map(gst_video::VideoColorMatrix::from_iso)
        .filter(|matrix| !matches!(matrix, gst_video::VideoColorMatrix::Unknown | gst_video::VideoColorMatrix::Rgb));
    let transfer = specified(colour.transfer)
        .map(gst_video::VideoTransferFunction::from_iso)
        .filter(|transfer| *transfer != gst_video::VideoTransferFunction::Unknown);
    let primaries = specified(colour.primaries)
        .map(gst_video::VideoColorPrimaries::from_iso)
        .filter(|primaries| *primaries != gst_video::VideoColorPrimaries::Unknown);
    if !is_full && matrix.is_none() && transfer.is_none() && primaries.is_none() && !info.is_gray() {
        return guess(stored).filter(|stored| *stored != default);
    }
    Some(gst_video::VideoColorimetry::new(
        if is_full { gst_video::VideoColorRange::Range0_255 } else { gst_video::VideoColorRange::Range16_235 },
        matrix.unwrap_or(gst_video::VideoColorMatrix::Bt601),
        transfer.unwrap_or(default.transfer()),
        primaries.unwrap_or(default.primaries()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paired_formats_have_the_same_planes() {
        gst::init().unwrap();
        for (name, format) in FORMAT_PAIRS {
            let Some(av) = av::PixelFormat::from_name(name) else { continue };
            let info = gst_video::VideoInfo::builder(*format, 64, 32).build().unwrap();
            assert_eq!(av.plane_count(), info.n_planes() as usize, "{name}");
            for plane in 0..av.plane_count() {
                assert_eq!(av.row_bytes(plane, 64).unwrap(), info.stride()[plane] as usize, "{name} plane {plane}");
            }
        }
    }
}
