// SPDX-License-Identifier: MIT OR Apache-2.0
//! A GstBuffer as a frame of the detect layer: mapped planes, no copy.

use crate::detect;
use crate::elements::video_format;

/// Returns the video info of `caps`. Without colorimetry in the caps the matrix is BT.601, as FFmpeg and OpenCV assume and
/// models were therefore trained; GStreamer's own default would be BT.709 for high definition.
///
/// # Errors
/// When the caps are not those of raw video.
pub fn video_info(caps: &gst::CapsRef) -> Result<gst_video::VideoInfo, gst::glib::BoolError> {
    let info = gst_video::VideoInfo::from_caps(caps)?;
    let colour = info.colorimetry();
    let is_specified = caps.structure(0).is_some_and(|structure| structure.has_field("colorimetry"));
    if is_specified || !info.is_yuv() {
        return Ok(info);
    }
    let matrix = gst_video::VideoColorMatrix::Bt601;
    let colour = gst_video::VideoColorimetry::new(colour.range(), matrix, colour.transfer(), colour.primaries());
    gst_video::VideoInfo::builder_from_info(&info).colorimetry(&colour).build()
}

/// A mapped video frame, or a part of it. Holds a reference to the buffer until the engine has read the pixels.
pub struct MappedFrame {
    frame: gst_video::VideoFrame<gst_video::video_frame::Readable>,
    area: Option<detect::Area>,
}

impl MappedFrame {
    /// Maps `buffer`, of which the model sees `area`.
    ///
    /// # Errors
    /// When it cannot be mapped as `info`.
    pub fn new(
        buffer: gst::Buffer,
        info: &gst_video::VideoInfo,
        area: Option<detect::Area>,
    ) -> Result<Self, detect::Error> {
        gst_video::VideoFrame::from_buffer_readable(buffer, info)
            .map(|frame| Self { frame, area })
            .map_err(|_| detect::Error::Picture { reason: format!("it cannot be mapped as {info:?}") })
    }
}

impl detect::Frame for MappedFrame {
    fn size(&self) -> Option<(usize, usize)> {
        use gst_video::VideoFrameExt;
        // Regions have many sizes, for which sessions would be opened again and again.
        let info = self.frame.info();
        self.area.is_none().then(|| (info.width() as usize, info.height() as usize))
    }

    fn picture(&self) -> Result<detect::Picture<'_>, detect::Error> {
        use gst_video::VideoFrameExt;
        let refuse = |reason: String| detect::Error::Picture { reason };
        let info = self.frame.info();
        let format = video_format::pixel_format(info).map_err(refuse)?;
        let mut planes = Vec::with_capacity(4);
        for plane in 0..self.frame.n_planes() {
            let data = self.frame.plane_data(plane).map_err(|error| refuse(error.to_string()))?;
            let stride = usize::try_from(self.frame.plane_stride()[plane as usize])
                .map_err(|_| refuse("its lines run from bottom to top".into()))?;
            planes.push(detect::Plane { data, stride });
        }
        let (matrix, range) = video_format::colour(info);
        let (width, height) = (info.width() as usize, info.height() as usize);
        let whole = detect::Picture::new(format, width, height, &planes, matrix, range)?;
        self.area.map_or(Ok(whole), |area| whole.cropped(area))
    }
}
