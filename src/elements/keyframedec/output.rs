//! From decoded frames to GstBuffers: negotiation with downstream, memory, metas.

use std::sync::Arc;

use gst_video::prelude::*;

use super::formats;
use super::settings::Orientation;
use crate::av;
use crate::elements::layout;

/// Why a frame could not be put out.
#[derive(Debug)]
pub enum Refusal {
    /// Downstream takes none of the formats on offer.
    Caps { offered: String, taken: String },
    /// The picture itself is the trouble.
    Frame(String),
}

impl From<av::Error> for Refusal {
    fn from(error: av::Error) -> Self {
        Self::Frame(error.to_string())
    }
}

/// A buffer ready to be pushed, and the caps to announce before it if they are new.
pub struct Output {
    pub buffer: gst::Buffer,
    pub new_caps: Option<gst::Caps>,
}

/// What has been agreed with downstream. Kept from frame to frame.
pub struct Outlet {
    agreed: Option<Agreed>,
    scaler: av::Scaler,
    /// Once interlaced pictures were seen, caps say "mixed" until the next change of format.
    interlaced: bool,
}

struct Agreed {
    source: Traits,
    info: gst_video::VideoInfo,
    caps: gst::Caps,
    /// The format to convert to, where downstream does not take the decoder's own.
    convert_to: Option<av::PixelFormat>,
    /// Asked when the caps were sent.
    takes_video_meta: Option<bool>,
}

/// What caps are made from: new caps are due when one of these changes.
#[derive(Debug, Clone, PartialEq)]
struct Traits {
    format: av::PixelFormat,
    size: (u32, u32),
    pixel_aspect_ratio: (i32, i32),
    frame_rate: Option<(i32, i32)>,
    colour: av::Colour,
    /// Size in the file, before any turn.
    stored: (u32, u32),
    interlaced: bool,
}

impl Outlet {
    /// For frames that get their memory, where they have to be changed, from `pool`.
    pub fn new(pool: &av::FramePool) -> Self {
        Self { agreed: None, scaler: av::Scaler::new(pool), interlaced: false }
    }

    /// Downstream asked to agree anew.
    pub fn renegotiate(&mut self) {
        self.agreed = None;
    }

    /// Makes a buffer of `keyframe`, without timestamps.
    pub fn prepare(
        &mut self,
        pad: &gst::Pad,
        keyframe: av::Keyframe,
        info: &av::Info,
        orientation: Orientation,
    ) -> Result<Output, Refusal> {
        let stored = size_of(&keyframe.frame)?;
        let keyframe = match orientation {
            Orientation::Upright => keyframe.upright(&mut self.scaler)?,
            Orientation::Stored => keyframe,
        };
        let frame = &keyframe.frame;
        let top_field_first = frame.interlaced_top_field_first();
        let (is_corrupt, is_keyframe) = (frame.is_corrupt(), keyframe.is_keyframe);
        self.interlaced |= info.is_interlaced || top_field_first.is_some();
        let traits = Traits {
            format: frame.pixel_format()?,
            size: size_of(frame)?,
            pixel_aspect_ratio: keyframe.pixel_aspect_ratio,
            frame_rate: info.frame_rate,
            colour: frame.colour(),
            stored,
            interlaced: self.interlaced,
        };
        let mut new_caps = None;
        if self.agreed.as_ref().is_none_or(|agreed| agreed.source != traits) {
            let agreed = agree(pad, traits)?;
            new_caps = Some(agreed.caps.clone());
            self.agreed = Some(agreed);
        }
        let Some(agreed) = &self.agreed else { return Err(Refusal::Frame("no format is agreed".into())) };
        let mut frame = keyframe.frame;
        if let Some(format) = agreed.convert_to {
            frame = self.scaler.convert(&frame, format)?;
        }
        let frame = Arc::new(self.scaler.with_plain_planes(frame)?);
        let mut buffer = wrap(&frame, &agreed.info, top_field_first)?;
        let mut flags = gst::BufferFlags::empty();
        flags.set(gst::BufferFlags::CORRUPTED, is_corrupt);
        flags.set(gst::BufferFlags::DELTA_UNIT, !is_keyframe);
        buffer.make_mut().set_flags(flags);
        Ok(Output { buffer, new_caps })
    }

    /// The buffer in a layout that downstream reads; called after the caps were sent.
    pub fn fit_layout(&mut self, pad: &gst::Pad, buffer: gst::Buffer) -> Result<gst::Buffer, Refusal> {
        let Some(agreed) = &mut self.agreed else { return Ok(buffer) };
        let takes_video_meta = match agreed.takes_video_meta {
            Some(known) => known,
            None => {
                let takes = pad.current_caps().is_some_and(|caps| layout::takes_video_meta(pad, &caps));
                *agreed.takes_video_meta.insert(takes)
            }
        };
        if takes_video_meta {
            return Ok(buffer);
        }
        layout::default_layout(buffer, &agreed.info).map_err(|error| Refusal::Frame(error.to_string()))
    }
}

/// Finds the format that downstream takes: the decoder's own, or else the closest.
fn agree(pad: &gst::Pad, traits: Traits) -> Result<Agreed, Refusal> {
    let allowed = pad.peer_query_caps(None);
    let native = formats::to_gst(traits.format);
    if let Some(format) = native {
        let (info, caps) = describe(traits.format, format, &traits)?;
        if allowed.can_intersect(&caps) {
            return Ok(Agreed { source: traits, info, caps, convert_to: None, takes_video_meta: None });
        }
    }
    let mut candidates = Vec::new();
    for &format in formats::FORMATS.iter() {
        let Some(av) = formats::to_av(format) else { continue };
        let (info, caps) = describe(av, format, &traits)?;
        if allowed.can_intersect(&caps) {
            candidates.push((av, info, caps));
        }
    }
    // Red, green and blue stay so where they can: no matrix, no subsampling.
    let is_akin = |format: &av::PixelFormat| format.is_rgb() == traits.format.is_rgb();
    let all: Vec<_> = candidates.iter().map(|(format, ..)| *format).collect();
    let akin: Vec<_> = all.iter().copied().filter(is_akin).collect();
    let closest = traits.format.closest(if akin.is_empty() { &all } else { &akin });
    let Some((format, info, caps)) =
        closest.and_then(|closest| candidates.into_iter().find(|(format, ..)| *format == closest))
    else {
        let offered = format!("{}x{} {:?}", traits.size.0, traits.size.1, traits.format);
        return Err(Refusal::Caps { offered, taken: allowed.to_string() });
    };
    Ok(Agreed { source: traits, info, caps, convert_to: Some(format), takes_video_meta: None })
}

fn size_of(frame: &av::Frame) -> Result<(u32, u32), Refusal> {
    match (u32::try_from(frame.width()), u32::try_from(frame.height())) {
        (Ok(width), Ok(height)) => Ok((width, height)),
        _ => Err(Refusal::Frame("the picture has no size".into())),
    }
}

/// What frames with these traits are called when they are in `format`, which is `pixels` to FFmpeg.
fn describe(
    pixels: av::PixelFormat,
    format: gst_video::VideoFormat,
    traits: &Traits,
) -> Result<(gst_video::VideoInfo, gst::Caps), Refusal> {
    let (width, height) = traits.size;
    let (num, den) = traits.frame_rate.unwrap_or((0, 1));
    let (par_num, par_den) = traits.pixel_aspect_ratio;
    let interlace_mode = if traits.interlaced {
        gst_video::VideoInterlaceMode::Mixed
    } else {
        gst_video::VideoInterlaceMode::Progressive
    };
    let mut builder = gst_video::VideoInfo::builder(format, width, height)
        .fps(gst::Fraction::new(num, den))
        .par(gst::Fraction::new(par_num, par_den))
        .interlace_mode(interlace_mode);
    let colour = traits.colour.converted(traits.format, pixels);
    let colorimetry = formats::colorimetry(colour, format, traits.size, traits.stored);
    if let Some(colorimetry) = &colorimetry {
        builder = builder.colorimetry(colorimetry);
    }
    let refuse = |error| Refusal::Frame(format!("{width}x{height} pixels: {error}"));
    let info = builder.build().map_err(refuse)?;
    let mut caps = info.to_caps().map_err(refuse)?;
    if colorimetry.is_none() {
        // GstVideoInfo fills its own guess in, which then could not be told from what a stream says.
        caps.make_mut().iter_mut().for_each(|structure| {
            structure.remove_field("colorimetry");
        });
    }
    Ok((info, caps))
}

/// A buffer over the frame's own planes: one memory for each, nothing copied.
fn wrap(
    frame: &Arc<av::Frame>,
    info: &gst_video::VideoInfo,
    top_field_first: Option<bool>,
) -> Result<gst::Buffer, Refusal> {
    let planes = av::PlaneBytes::all(frame).ok_or_else(|| Refusal::Frame("the picture's planes are missing".into()))?;
    let mut buffer = gst::Buffer::new();
    let target = buffer.make_mut();
    let mut offsets = Vec::with_capacity(planes.len());
    let mut strides = Vec::with_capacity(planes.len());
    let mut offset = 0;
    for (plane, bytes) in planes.into_iter().enumerate() {
        let stride = i32::try_from(frame.stride(plane)).map_err(|_| Refusal::Frame("a line is too long".into()))?;
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
        .map_err(|error| Refusal::Frame(error.to_string()))?;
    Ok(buffer)
}
