// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory layout of video buffers.

use gst_video::prelude::*;

/// Whether downstream of `pad` reads GstVideoMeta, and so accepts any strides. `caps` are those just sent.
pub fn takes_video_meta(pad: &gst::Pad, caps: &gst::Caps) -> bool {
    let mut query = gst::query::Allocation::new(Some(caps), false);
    pad.peer_query(&mut query) && query.find_allocation_meta::<gst_video::VideoMeta>().is_some()
}

/// Returns `buffer` itself if its planes have the layout of `info`, else a copy in that layout.
///
/// # Errors
/// When the buffer cannot be mapped as a frame, or memory is short.
pub fn default_layout(buffer: gst::Buffer, info: &gst_video::VideoInfo) -> Result<gst::Buffer, gst::glib::BoolError> {
    let plain = buffer.meta::<gst_video::VideoMeta>().is_none_or(|meta| {
        let planes = info.n_planes() as usize;
        meta.offset()[..planes] == info.offset()[..planes] && meta.stride()[..planes] == info.stride()[..planes]
    });
    if plain && buffer.size() >= info.size() {
        return Ok(buffer);
    }
    let mut copy = gst::Buffer::with_size(info.size())?;
    {
        let copy = copy.make_mut();
        let flags = gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::META;
        buffer.copy_into(copy, flags, ..)?;
        // The copied meta describes the old layout.
        while let Some(meta) = copy.meta_mut::<gst_video::VideoMeta>() {
            meta.remove().map_err(|_| gst::glib::bool_error!("GstVideoMeta cannot be removed"))?;
        }
        let source = gst_video::VideoFrameRef::from_buffer_ref_readable(&buffer, info)?;
        let mut target = gst_video::VideoFrameRef::from_buffer_ref_writable(copy, info)?;
        source.copy(&mut target)?;
    }
    Ok(copy)
}
