// SPDX-License-Identifier: MIT OR Apache-2.0
//! The supported pixel formats, each described as three components in a table.
//!
//! Owns the position of each sample; knows nothing of scaling or colour. Pure data, any thread.
//! Sample layouts as in GStreamer's "Raw video media types" (part-mediatype-video-raw).

/// A raw video format, by GStreamer's names in [`PixelFormat::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant is the GStreamer format of the same name")]
pub enum PixelFormat {
    I420,
    Yv12,
    Y42b,
    Y444,
    Y41b,
    Nv12,
    Nv21,
    Nv16,
    Nv61,
    Nv24,
    Yuy2,
    Uyvy,
    Yvyu,
    Vyuy,
    Ayuv,
    Vuya,
    A420,
    I42010le,
    I42210le,
    Y44410le,
    I42012le,
    I42212le,
    Y44412le,
    A42010le,
    P01010le,
    P012le,
    P016le,
    Gray8,
    Gray10le16,
    Gray16le,
    Rgb,
    Bgr,
    Rgba,
    Bgra,
    Argb,
    Abgr,
    Rgbx,
    Bgrx,
    Xrgb,
    Xbgr,
    Gbr,
    Gbra,
    Gbr10le,
    Gbr12le,
}

/// How the components of a format represent colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColourModel {
    /// Components are luma, blue difference, red difference.
    Yuv,
    /// Components are red, green, blue.
    Rgb,
    /// The first component is luma; the others are unused.
    Gray,
}

/// The position of one component's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Component {
    /// Plane index.
    pub plane: usize,
    /// Samples from the row's start to the first sample.
    pub offset: usize,
    /// Samples from one sample to the next.
    pub step: usize,
    /// log2 of the horizontal subsampling.
    pub h_shift: u32,
    /// log2 of the vertical subsampling.
    pub v_shift: u32,
}

/// The sample layout of one format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SampleLayout {
    pub name: &'static str,
    pub planes: usize,
    pub colour_model: ColourModel,
    /// Significant bits in a sample, 8 to 16.
    pub bits: u32,
    /// Bytes in a sample, 1 or 2 (little endian).
    pub sample_bytes: usize,
    /// Left shift that moves a sample to the upper end of 16 bits: 16 - bits, or 0 if it is stored that way.
    pub left_shift: u32,
    pub components: [Component; 3],
}

const fn at(plane: usize, offset: usize, step: usize, h_shift: u32, v_shift: u32) -> Component {
    Component { plane, offset, step, h_shift, v_shift }
}

const fn eight(
    name: &'static str,
    planes: usize,
    colour_model: ColourModel,
    components: [Component; 3],
) -> SampleLayout {
    SampleLayout { name, planes, colour_model, bits: 8, sample_bytes: 1, left_shift: 0, components }
}

/// Three planes with chroma subsampled by 2^h and 2^v; `u` is the plane of the blue difference.
const fn planar(name: &'static str, planes: usize, h: u32, v: u32, u: usize) -> SampleLayout {
    eight(name, planes, ColourModel::Yuv, [at(0, 0, 1, 0, 0), at(u, 0, 1, h, v), at(3 - u, 0, 1, h, v)])
}

/// A luma plane and a plane of chroma pairs; `u` is the index of the blue difference in the pair.
const fn pairs(name: &'static str, h: u32, v: u32, u: usize) -> SampleLayout {
    eight(name, 2, ColourModel::Yuv, [at(0, 0, 1, 0, 0), at(1, u, 2, h, v), at(1, 1 - u, 2, h, v)])
}

/// One plane of 4-byte groups, each for two pixels.
const fn packed422(name: &'static str, y: usize, u: usize, v: usize) -> SampleLayout {
    eight(name, 1, ColourModel::Yuv, [at(0, y, 2, 0, 0), at(0, u, 4, 1, 0), at(0, v, 4, 1, 0)])
}

/// One plane with `step` bytes per pixel.
const fn packed(
    name: &'static str,
    colour_model: ColourModel,
    step: usize,
    first: usize,
    second: usize,
    third: usize,
) -> SampleLayout {
    eight(name, 1, colour_model, [at(0, first, step, 0, 0), at(0, second, step, 0, 0), at(0, third, step, 0, 0)])
}

/// The same layout with 16-bit little-endian samples of `bits` bits, at the lower end or (`high`) at the upper end.
const fn deep(name: &'static str, like: SampleLayout, bits: u32, high: bool) -> SampleLayout {
    let left_shift = if high { 0 } else { 16 - bits };
    SampleLayout {
        name,
        planes: like.planes,
        colour_model: like.colour_model,
        bits,
        sample_bytes: 2,
        left_shift,
        components: like.components,
    }
}

/// Green, blue and red planes.
const fn green_first(name: &'static str, planes: usize) -> SampleLayout {
    eight(name, planes, ColourModel::Rgb, [at(2, 0, 1, 0, 0), at(0, 0, 1, 0, 0), at(1, 0, 1, 0, 0)])
}

const fn gray(name: &'static str) -> SampleLayout {
    eight(name, 1, ColourModel::Gray, [at(0, 0, 1, 0, 0); 3])
}

const I420: SampleLayout = planar("I420", 3, 1, 1, 1);
const Y42B: SampleLayout = planar("Y42B", 3, 1, 0, 1);
const Y444: SampleLayout = planar("Y444", 3, 0, 0, 1);
const A420: SampleLayout = planar("A420", 4, 1, 1, 1);
const NV12: SampleLayout = pairs("NV12", 1, 1, 0);
const GRAY8: SampleLayout = gray("GRAY8");
const GBR: SampleLayout = green_first("GBR", 3);

impl PixelFormat {
    /// Every format, in the order of preference: the formats that decoders produce first.
    pub const ALL: &[PixelFormat] = &[
        Self::I420,
        Self::Nv12,
        Self::I42010le,
        Self::P01010le,
        Self::Y42b,
        Self::Y444,
        Self::I42210le,
        Self::Y44410le,
        Self::Yv12,
        Self::Nv21,
        Self::Nv16,
        Self::Nv61,
        Self::Nv24,
        Self::Y41b,
        Self::I42012le,
        Self::I42212le,
        Self::Y44412le,
        Self::P012le,
        Self::P016le,
        Self::Gray8,
        Self::Gray10le16,
        Self::Gray16le,
        Self::Rgb,
        Self::Bgr,
        Self::Rgba,
        Self::Bgra,
        Self::Argb,
        Self::Abgr,
        Self::Rgbx,
        Self::Bgrx,
        Self::Xrgb,
        Self::Xbgr,
        Self::Gbr,
        Self::Gbra,
        Self::Gbr10le,
        Self::Gbr12le,
        Self::Yuy2,
        Self::Uyvy,
        Self::Yvyu,
        Self::Vyuy,
        Self::Ayuv,
        Self::Vuya,
        Self::A420,
        Self::A42010le,
    ];

    /// Returns the format that GStreamer calls `gst_name`, if it is supported.
    pub fn from_name(gst_name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.name() == gst_name)
    }

    /// Returns GStreamer's name, for example "P010_10LE".
    pub fn name(self) -> &'static str {
        self.layout().name
    }

    /// Returns the number of planes of a [`Picture`](super::picture::Picture) of this format, alpha included: 1 to 4.
    pub fn plane_count(self) -> usize {
        self.layout().planes
    }

    pub(crate) const fn layout(self) -> SampleLayout {
        use ColourModel::{Rgb, Yuv};
        match self {
            Self::I420 => I420,
            Self::Yv12 => planar("YV12", 3, 1, 1, 2),
            Self::Y42b => Y42B,
            Self::Y444 => Y444,
            Self::Y41b => planar("Y41B", 3, 2, 0, 1),
            Self::Nv12 => NV12,
            Self::Nv21 => pairs("NV21", 1, 1, 1),
            Self::Nv16 => pairs("NV16", 1, 0, 0),
            Self::Nv61 => pairs("NV61", 1, 0, 1),
            Self::Nv24 => pairs("NV24", 0, 0, 0),
            Self::Yuy2 => packed422("YUY2", 0, 1, 3),
            Self::Uyvy => packed422("UYVY", 1, 0, 2),
            Self::Yvyu => packed422("YVYU", 0, 3, 1),
            Self::Vyuy => packed422("VYUY", 1, 2, 0),
            Self::Ayuv => packed("AYUV", Yuv, 4, 1, 2, 3),
            Self::Vuya => packed("VUYA", Yuv, 4, 2, 1, 0),
            Self::A420 => A420,
            Self::I42010le => deep("I420_10LE", I420, 10, false),
            Self::I42210le => deep("I422_10LE", Y42B, 10, false),
            Self::Y44410le => deep("Y444_10LE", Y444, 10, false),
            Self::I42012le => deep("I420_12LE", I420, 12, false),
            Self::I42212le => deep("I422_12LE", Y42B, 12, false),
            Self::Y44412le => deep("Y444_12LE", Y444, 12, false),
            Self::A42010le => deep("A420_10LE", A420, 10, false),
            Self::P01010le => deep("P010_10LE", NV12, 10, true),
            Self::P012le => deep("P012_LE", NV12, 12, true),
            Self::P016le => deep("P016_LE", NV12, 16, true),
            Self::Gray8 => GRAY8,
            Self::Gray10le16 => deep("GRAY10_LE16", GRAY8, 10, false),
            Self::Gray16le => deep("GRAY16_LE", GRAY8, 16, true),
            Self::Rgb => packed("RGB", Rgb, 3, 0, 1, 2),
            Self::Bgr => packed("BGR", Rgb, 3, 2, 1, 0),
            Self::Rgba => packed("RGBA", Rgb, 4, 0, 1, 2),
            Self::Bgra => packed("BGRA", Rgb, 4, 2, 1, 0),
            Self::Argb => packed("ARGB", Rgb, 4, 1, 2, 3),
            Self::Abgr => packed("ABGR", Rgb, 4, 3, 2, 1),
            Self::Rgbx => packed("RGBx", Rgb, 4, 0, 1, 2),
            Self::Bgrx => packed("BGRx", Rgb, 4, 2, 1, 0),
            Self::Xrgb => packed("xRGB", Rgb, 4, 1, 2, 3),
            Self::Xbgr => packed("xBGR", Rgb, 4, 3, 2, 1),
            Self::Gbr => GBR,
            Self::Gbra => green_first("GBRA", 4),
            Self::Gbr10le => deep("GBR_10LE", GBR, 10, false),
            Self::Gbr12le => deep("GBR_12LE", GBR, 12, false),
        }
    }
}

impl SampleLayout {
    /// Returns the components that carry the picture: one for grey, otherwise three.
    pub fn used(&self) -> &[Component] {
        match self.colour_model {
            ColourModel::Gray => &self.components[..1],
            ColourModel::Yuv | ColourModel::Rgb => &self.components,
        }
    }

    /// Returns the samples in a row, up to the last one that is read, and the rows of `plane` in a picture of this size; (0, 0)
    /// for a plane that is not read, such as alpha.
    pub fn plane_extent(&self, plane: usize, width: usize, height: usize) -> (usize, usize) {
        let mut extent = (0, 0);
        for component in self.used().iter().filter(|component| component.plane == plane) {
            let (columns, rows) = component.size(width, height);
            extent.0 = extent.0.max((columns - 1) * component.step + component.offset + 1);
            extent.1 = extent.1.max(rows);
        }
        extent
    }
}

impl Component {
    /// Returns columns and rows of this component in a picture of `width` by `height` (both at least 1): rounded up.
    pub fn size(&self, width: usize, height: usize) -> (usize, usize) {
        (width.div_ceil(1 << self.h_shift), height.div_ceil(1 << self.v_shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_to_their_format() {
        for &format in PixelFormat::ALL {
            assert_eq!(PixelFormat::from_name(format.name()), Some(format));
        }
        assert_eq!(PixelFormat::from_name("ENCODED"), None);
    }

    #[test]
    fn every_plane_index_is_below_the_plane_count() {
        for &format in PixelFormat::ALL {
            let layout = format.layout();
            assert!(layout.components.iter().all(|component| component.plane < layout.planes), "{}", layout.name);
        }
    }

    #[test]
    fn components_that_share_a_plane_share_its_rows() {
        for &format in PixelFormat::ALL {
            let layout = format.layout();
            for a in layout.used() {
                assert!(layout.used().iter().all(|b| a.plane != b.plane || a.v_shift == b.v_shift), "{}", layout.name);
            }
        }
    }

    #[test]
    fn plane_extents_of_odd_sizes_round_up() {
        assert_eq!(PixelFormat::I420.layout().plane_extent(1, 5, 3), (3, 2));
        assert_eq!(PixelFormat::Nv12.layout().plane_extent(1, 5, 3), (6, 2));
        assert_eq!(PixelFormat::Yuy2.layout().plane_extent(0, 3, 1), (8, 1));
        assert_eq!(PixelFormat::Rgb.layout().plane_extent(0, 5, 3), (15, 3));
        assert_eq!(PixelFormat::A420.layout().plane_extent(3, 5, 3), (0, 0));
    }
}
