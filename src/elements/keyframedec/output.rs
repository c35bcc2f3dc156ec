// SPDX-License-Identifier: MIT OR Apache-2.0
//! Converts decoded frames to GstBuffers: negotiation with downstream, memory, metas.

use std::sync::Arc;

use gst_video::prelude::*;

use super::formats;
use super::settings::Orientation;
use crate::av;
use crate::elements::buffer_layout;

/// Why a frame could not be output.
#[derive(Debug)]
pub enum OutputError {
    /// Downstream accepts none of the offered formats.
    Caps { offered: String, accepted: String },
    /// The picture is unusable.
    Frame(String),
}

impl From<av::Error> for OutputError {
    fn from(error: av::Error) -> Self {
        Self::Frame(error.to_string())
    }
}

/// A buffer, and the caps to send before it if they are new.
pub struct PreparedBuffer {
    pub buffer: gst::Buffer,
    pub new_caps: Option<gst::Caps>,
}

/// Converts frames to buffers. Keeps the negotiated format from frame to frame.
pub struct FrameOutput {
    negotiated: Option<Negotiated>,
    scaler: av::Scaler,
    /// After the first interlaced picture, caps have the mode "mixed" until the next change of format.
    interlaced: bool,
}

struct Negotiated {
    source: FrameFormat,
    info: gst_video::VideoInfo,
    caps: gst::Caps,
    /// The format to convert to, where downstream does not accept the decoder's own.
    convert_to: Option<av::PixelFormat>,
    /// Queried after the caps were sent.
    takes_video_meta: Option<bool>,
}

/// Properties of a frame that determine the caps: new caps are sent when one of them changes.
#[derive(Debug, Clone, PartialEq)]
struct FrameFormat {
    format: av::PixelFormat,
    size: (u32, u32),
    pixel_aspect_ratio: (i32, i32),
    frame_rate: Option<(i32, i32)>,
    colour: av::Colour,
    /// Size in the file, before rotation.
    stored: (u32, u32),
    interlaced: bool,
}

impl FrameOutput {
    /// Creates an output whose converted frames get their memory from `pool`.
    pub fn new(pool: &av::FramePool) -> Self {
        Self { negotiated: None, scaler: av::Scaler::new(pool), interlaced: false }
    }

    /// Negotiates again at the next frame.
    pub fn renegotiate(&mut self) {
        self.negotiated = None;
    }

    /// Converts `keyframe` to a buffer without timestamps.
    pub fn prepare(
        &mut self,
        pad: &gst::Pad,
        keyframe: av::Keyframe,
        info: &av::Info,
        orientation: Orientation,
    ) -> Result<PreparedBuffer, OutputError> {
        let stored = size_of(&keyframe.frame)?;
        let keyframe = match orientation {
            Orientation::Upright => keyframe.upright(&mut self.scaler)?,
            Orientation::Stored => keyframe,
        };
        let frame = &keyframe.frame;
        let top_field_first = frame.interlaced_top_field_first();
        let (is_corrupt, is_keyframe) = (frame.is_corrupt(), keyframe.is_keyframe);
        self.interlaced |= info.is_interlaced || top_field_first.is_some();
        let source = FrameFormat {
            format: frame.pixel_format()?,
            size: size_of(frame)?,
            pixel_aspect_ratio: keyframe.pixel_aspect_ratio,
            frame_rate: info.frame_rate,
            colour: frame.colour(),
            stored,
            interlaced: self.interlaced,
        };
        let mut new_caps = None;
        if self.negotiated.as_ref().is_none_or(|negotiated| negotiated.source != source) {
            let negotiated = negotiate(pad, source)?;
            new_caps = Some(negotiated.caps.clone());
            self.negotiated = Some(negotiated);
        }
        let Some(negotiated) = &self.negotiated else {
            return Err(OutputError::Frame("no format is negotiated".into()));
        };
        let mut frame = keyframe.frame;
        if let Some(format) = negotiated.convert_to {
            frame = self.scaler.convert(&frame, format)?;
        }
        let frame = Arc::new(self.scaler.with_plain_planes(frame)?);
        let mut buffer = wrap(&frame, &negotiated.info, top_field_first)?;
        let mut flags = gst::BufferFlags::empty();
        flags.set(gst::BufferFlags::CORRUPTED, is_corrupt);
        flags.set(gst::BufferFlags::DELTA_UNIT, !is_keyframe);
        buffer.make_mut().set_flags(flags);
        Ok(PreparedBuffer { buffer, new_caps })
    }

    /// Returns the buffer in a layout that downstream reads; called after the caps were sent.
    pub fn fit_layout(&mut self, pad: &gst::Pad, buffer: gst::Buffer) -> Result<gst::Buffer, OutputError> {
        let Some(negotiated) = &mut self.negotiated else { return Ok(buffer) };
        let takes_video_meta = match negotiated.takes_video_meta {
            Some(known) => known,
            None => {
                let takes = pad.current_caps().is_some_and(|caps| buffer_layout::takes_video_meta(pad, &caps));
                *negotiated.takes_video_meta.insert(takes)
            }
        };
        if takes_video_meta {
            return Ok(buffer);
        }
        buffer_layout::default_layout(buffer, &negotiated.info).map_err(|error| OutputError::Frame(error.to_string()))
    }
}

/// Finds the format that downstream accepts: the decoder's own, or else the closest.
fn negotiate(pad: &gst::Pad, source: FrameFormat) -> Result<Negotiated, OutputError> {
    let allowed = pad.peer_query_caps(None);
    let native = formats::to_gst(source.format);
    if let Some(format) = native {
        let (info, caps) = describe(source.format, format, &source)?;
        if allowed.can_intersect(&caps) {
            return Ok(Negotiated { source, info, caps, convert_to: None, takes_video_meta: None });
        }
    }
    let mut candidates = Vec::new();
    for &format in formats::FORMATS.iter() {
        let Some(av) = formats::to_av(format) else { continue };
        let (info, caps) = describe(av, format, &source)?;
        if allowed.can_intersect(&caps) {
            candidates.push((av, info, caps));
        }
    }
    // A picture in colour becomes a grey one only if nothing else is accepted.
    let is_grey = native.is_some_and(|format| gst_video::VideoFormatInfo::from_format(format).is_gray());
    if !is_grey && candidates.iter().any(|(_, info, _)| !info.is_gray()) {
        candidates.retain(|(_, info, _)| !info.is_gray());
    }
    // RGB stays RGB where possible: no matrix, no subsampling.
    let is_same_kind = |format: &av::PixelFormat| format.is_rgb() == source.format.is_rgb();
    let all: Vec<_> = candidates.iter().map(|(format, ..)| *format).collect();
    let same_kind: Vec<_> = all.iter().copied().filter(is_same_kind).collect();
    let closest = source.format.closest(if same_kind.is_empty() { &all } else { &same_kind });
    let Some((format, info, caps)) =
        closest.and_then(|closest| candidates.into_iter().find(|(format, ..)| *format == closest))
    else {
        let offered = format!("{}x{} {:?}", source.size.0, source.size.1, source.format);
        return Err(OutputError::Caps { offered, accepted: allowed.to_string() });
    };
    Ok(Negotiated { source, info, caps, convert_to: Some(format), takes_video_meta: None })
}

fn size_of(frame: &av::Frame) -> Result<(u32, u32), OutputError> {
    match (u32::try_from(frame.width()), u32::try_from(frame.height())) {
        (Ok(width), Ok(height)) => Ok((width, height)),
        _ => Err(OutputError::Frame("the picture has no size".into())),
    }
}

/// Returns info and caps of frames of `source` in `format`, which is `pixels` in FFmpeg.
fn describe(
    pixels: av::PixelFormat,
    format: gst_video::VideoFormat,
    source: &FrameFormat,
) -> Result<(gst_video::VideoInfo, gst::Caps), OutputError> {
    let (width, height) = source.size;
    let (num, den) = source.frame_rate.unwrap_or((0, 1));
    let (par_num, par_den) = source.pixel_aspect_ratio;
    let interlace_mode = if source.interlaced {
        gst_video::VideoInterlaceMode::Mixed
    } else {
        gst_video::VideoInterlaceMode::Progressive
    };
    let mut builder = gst_video::VideoInfo::builder(format, width, height)
        .fps(gst::Fraction::new(num, den))
        .par(gst::Fraction::new(par_num, par_den))
        .interlace_mode(interlace_mode);
    let colour = source.colour.converted(source.format, pixels);
    let colorimetry = formats::colorimetry(colour, format, source.size, source.stored);
    if let Some(colorimetry) = &colorimetry {
        builder = builder.colorimetry(colorimetry);
    }
    let invalid = |error| OutputError::Frame(format!("{width}x{height} pixels: {error}"));
    let info = builder.build().map_err(invalid)?;
    let mut caps = info.to_caps().map_err(invalid)?;
    if colorimetry.is_none() {
        // GstVideoInfo fills in its own guess, which could not be distinguished from what the stream specifies.
        caps.make_mut().iter_mut().for_each(|structure| {
            structure.remove_field("colorimetry");
        });
    }
    Ok((info, caps))
}

/// Wraps the frame's own planes in a buffer: one memory for each, without a copy.
fn wrap(
    frame: &Arc<av::Frame>,
    info: &gst_video::VideoInfo,
    top_field_first: Option<bool>,
) -> Result<gst::Buffer, OutputError> {
    let planes =
        av::PlaneBytes::all(frame).ok_or_else(|| OutputError::Frame("the picture's planes are missing".into()))?;
    let mut buffer = gst::Buffer::new();
    let target = buffer.make_mut();
    let mut offsets = Vec::with_capacity(planes.len());
    let mut strides = Vec::with_capacity(planes.len());
    let mut offset = 0;
    for (plane, bytes) in planes.into_iter().enumerate() {
        let stride = i32::try_from(frame.stride(plane)).map_err(|_| OutputError::Frame("a line is too long".into()))?;
        let memory = gst::Memory::from_slice(bytes);
        offsets.push(offset);
        strides.push(stride);
        offset += memory.size();
        target.append_memory(memory);
    }
    let mut frame_flags = gst_video::VideoFrameFlags::empty();
    if let Some(top_field_first) = top_field_first {
        frame_flags |= gst_video::VideoFrameFlags::INTERLACED;
        target.set_video_flags(gst_video::VideoBufferFlags::INTERLACED);
        if top_field_first {
            frame_flags |= gst_video::VideoFrameFlags::TFF;
            target.set_video_flags(gst_video::VideoBufferFlags::TFF);
        }
    }
    let (format, width, height) = (info.format(), info.width(), info.height());
    gst_video::VideoMeta::add_full(target, frame_flags, format, width, height, &offsets, &strides)
        .map_err(|error| OutputError::Frame(error.to_string()))?;
    Ok(buffer)
}
