// SPDX-License-Identifier: MIT OR Apache-2.0
//! The container formats that need special treatment, by FFmpeg's demuxer names.
//!
//! All code that depends on the container asks [`Container`]; demuxer names are compared nowhere else.

/// A container format, as far as this layer tells formats apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    /// MP4, QuickTime and other ISO base media files.
    Mp4,
    /// Matroska and WebM.
    Matroska,
    Avi,
    /// Advanced Systems Format: WMV, WMA.
    Asf,
    Flv,
    Ogg,
    Gif,
    /// MPEG transport streams.
    MpegTs,
    /// MPEG program streams.
    MpegPs,
    /// A single JPEG image.
    Jpeg,
    /// A single image of a format that can hold EXIF metadata which FFmpeg does not read.
    ImageWithExif,
    /// A single image of another format.
    Image,
    /// Any other format.
    Other,
}

impl Container {
    /// Returns the container for FFmpeg's short names of a demuxer, for example "mov,mp4,m4a,3gp,3g2,mj2".
    pub(crate) fn from_demuxer_names(names: &str) -> Self {
        let container = names.split(',').find_map(|name| {
            Some(match name {
                "mp4" => Self::Mp4,
                "matroska" => Self::Matroska,
                "avi" => Self::Avi,
                "asf" => Self::Asf,
                "flv" => Self::Flv,
                "ogg" => Self::Ogg,
                "gif" => Self::Gif,
                "mpegts" => Self::MpegTs,
                "mpeg" => Self::MpegPs,
                "jpeg_pipe" => Self::Jpeg,
                "png_pipe" | "webp_pipe" | "tiff_pipe" => Self::ImageWithExif,
                name if name.ends_with("_pipe") => Self::Image,
                _ => return None,
            })
        });
        container.unwrap_or(Self::Other)
    }

    /// Whether the file is a single still image.
    pub(crate) fn is_still_image(self) -> bool {
        matches!(self, Self::Jpeg | Self::ImageWithExif | Self::Image)
    }

    /// Whether streams may end and others begin in the middle of the file.
    pub(crate) fn streams_may_change(self) -> bool {
        matches!(self, Self::MpegTs | Self::MpegPs)
    }

    /// Whether streams can be probed without decoding: the container or parameter sets in packets state what is needed.
    pub(crate) fn describes_streams(self) -> bool {
        matches!(self, Self::Mp4 | Self::Matroska | Self::Avi | Self::Asf | Self::Flv | Self::MpegTs | Self::MpegPs)
    }

    /// Whether the header does not list the streams: each becomes known with its first packet.
    pub(crate) fn names_streams_late(self) -> bool {
        matches!(self, Self::Flv | Self::MpegPs)
    }

    /// Whether the container states the frame rate, so that it need not be estimated from packets.
    pub(crate) fn states_frame_rate(self) -> bool {
        matches!(self, Self::Mp4 | Self::Matroska)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_recognised_by_demuxer_names() {
        let cases = [
            ("mov,mp4,m4a,3gp,3g2,mj2", Container::Mp4),
            ("matroska,webm", Container::Matroska),
            ("mpegts", Container::MpegTs),
            ("jpeg_pipe", Container::Jpeg),
            ("tiff_pipe", Container::ImageWithExif),
            ("bmp_pipe", Container::Image),
            ("apng", Container::Other),
        ];
        for (names, container) in cases {
            assert_eq!(Container::from_demuxer_names(names), container, "{names}");
        }
        assert!(Container::Image.is_still_image() && !Container::Gif.is_still_image());
    }
}
