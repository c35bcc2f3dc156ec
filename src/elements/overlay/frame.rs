// SPDX-License-Identifier: MIT OR Apache-2.0
//! A GstBuffer as a surface of the draw layer: its planes, mapped for writing.

use gst_video::prelude::*;

use crate::draw::{self, PlaneMut, Style, Surface};
use crate::elements::video_format;
use crate::meta::Found;

/// Draws `found` into a frame. Memory that is read-only or shared with another buffer is replaced by a copy.
///
/// # Errors
/// When the frame cannot be mapped as `info`, or its planes do not hold it.
pub fn draw(
    buffer: &mut gst::BufferRef,
    info: &gst_video::VideoInfo,
    found: &[Found],
    style: &Style,
) -> Result<(), String> {
    let format = video_format::pixel_format(info)?;
    let (matrix, range) = video_format::colour(info);
    let mut frame = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, info)
        .map_err(|_| format!("it cannot be mapped as {info:?}"))?;
    let strides: Vec<_> = frame.plane_stride().iter().map(|stride| usize::try_from(*stride)).collect();
    let strides: Vec<_> =
        strides.into_iter().collect::<Result<_, _>>().map_err(|_| "its lines run from bottom to top".to_owned())?;
    let size = (frame.width() as usize, frame.height() as usize);
    let planes = frame.planes_data_mut().into_iter().zip(strides);
    let planes = planes.take(format.plane_count()).map(|(data, stride)| PlaneMut { data, stride }).collect();
    let mut surface = Surface::new(format, size, planes, matrix, range).map_err(|error| error.to_string())?;
    draw::draw(&mut surface, found, style);
    Ok(())
}
