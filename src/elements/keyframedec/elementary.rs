// SPDX-License-Identifier: MIT OR Apache-2.0
//! Elementary streams: compressed video in access units, one in each buffer, as demuxers, parsers and RTP depayloaders deliver it.
//!
//! Their times, segments and events are those of upstream, and pass unchanged, so that cameras and other live sources stay in time.
//! Keyframes are decoded one by one on upstream's thread; other access units are dropped before decoding.
//!
//! A stream is elementary if its caps name a codec and its segment is in time format. Everything else is the bytes of a file.
//!
//! Locks: the stream is taken out of its lock while a buffer or an event is handled, under the sink pad's stream lock.

use std::time::Instant;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::errors;
use super::imp::{CAT, KeyframeDec};
use super::output::FrameOutput;
use super::streaming::clock_time;
use crate::av;
use crate::elements::stages::{self, FrameStage};

/// Most events that wait for the first caps; later ones are dropped.
const MAX_HELD_EVENTS: usize = 256;

/// An elementary stream on the sink pad.
pub(super) struct ElementaryStream {
    format: Result<Format, String>,
    /// Opened at the first buffer in this format.
    decoder: Option<av::ElementaryDecoder<Origin>>,
    output: FrameOutput,
    segment: gst::FormattedSegment<gst::ClockTime>,
    /// Events that follow the caps, which are known at the first keyframe.
    held_events: Vec<gst::Event>,
    has_caps: bool,
    /// Upstream marked a break since the last output frame.
    is_discontinuous: bool,
    /// Time of the last output frame.
    last_pts: Option<gst::ClockTime>,
    frames: u64,
    warnings: u64,
    /// Counts of decoders that were replaced.
    past: av::Counts,
}

/// The format of a stream by its caps.
#[derive(Debug, Clone, PartialEq)]
struct Format {
    stream: av::StreamFormat,
    /// Whether keyframe flags come from a container rather than a parser or depayloader.
    has_container_flags: bool,
}

/// What a frame takes over from the buffer of its access unit.
struct Origin {
    pts: Option<gst::ClockTime>,
    duration: Option<gst::ClockTime>,
    is_discontinuous: bool,
    is_corrupt: bool,
    /// Times of other clocks, such as those of RTP senders.
    references: Vec<(gst::Caps, gst::ClockTime, Option<gst::ClockTime>)>,
}

/// Why a buffer or an event was not handled.
enum Failure {
    Flow(gst::FlowError),
    /// Posted already.
    Posted,
}

/// Returns the caps of access units that upstream should choose where it has a choice.
fn accepted(name: &str) -> Option<gst::Caps> {
    let builder = gst::Caps::builder(name);
    let caps = match name {
        "video/x-h264" => builder
            .field("alignment", "au")
            .field("stream-format", gst::List::new(["byte-stream", "avc", "avc3"]))
            .build(),
        "video/x-h265" => builder
            .field("alignment", "au")
            .field("stream-format", gst::List::new(["byte-stream", "hvc1", "hev1"]))
            .build(),
        "video/x-av1" => builder.field("alignment", "tu").field("stream-format", "obu-stream").build(),
        _ => return None,
    };
    Some(caps)
}

/// Returns what the sink pad accepts of `filter`: everything, of H.264, H.265 and AV1 only whole access units.
pub(super) fn sink_caps(filter: Option<&gst::CapsRef>) -> gst::Caps {
    let Some(filter) = filter.filter(|filter| !filter.is_any()) else { return gst::Caps::new_any() };
    let mut caps = gst::Caps::new_empty();
    for (structure, features) in filter.iter_with_features() {
        let mut one = gst::Caps::new_empty();
        one.make_mut().append_structure_full(structure.to_owned(), Some(features.to_owned()));
        caps.merge(match accepted(structure.name()) {
            Some(accepted) => one.intersect(&accepted),
            None => one,
        });
    }
    caps
}

/// Returns the format of an elementary stream with these caps, or what upstream must change; `None` if they do not name a codec.
fn format_of(caps: &gst::CapsRef) -> Option<Result<Format, String>> {
    let structure = caps.structure(0)?;
    let text = |name: &str| structure.get::<&str>(name).ok();
    let is_parsed = structure.get::<bool>("parsed").unwrap_or(false);
    let extradata =
        structure.get::<gst::Buffer>("codec_data").ok().and_then(|data| Some(data.map_readable().ok()?.to_vec()));
    let needs = |parser: &str, what: &str| Some(Err(format!("it arrives {what}. Add {parser} before vxkeyframedec")));
    let codec = match structure.name().as_str() {
        "video/x-h264" | "video/x-h265" => {
            let is_h264 = structure.name() == "video/x-h264";
            let (codec, parser) = if is_h264 { (av::Codec::H264, "h264parse") } else { (av::Codec::H265, "h265parse") };
            if text("alignment") != Some("au") {
                return needs(parser, "in parts of access units");
            }
            if matches!(text("stream-format"), Some("avc" | "avc3" | "hvc1" | "hev1")) && extradata.is_none() {
                return needs(parser, "without codec_data, which its caps promise");
            }
            codec
        }
        "video/x-av1" => {
            if text("stream-format").is_some_and(|format| format != "obu-stream")
                || text("alignment").is_some_and(|alignment| alignment != "tu")
            {
                return needs("av1parse", "in parts of temporal units");
            }
            av::Codec::Av1
        }
        "video/x-vp8" => av::Codec::Vp8,
        "video/x-vp9" => av::Codec::Vp9,
        "image/jpeg" => av::Codec::Jpeg,
        "video/mpeg" if !structure.get::<bool>("systemstream").unwrap_or(false) => {
            let (codec, parser) = match structure.get::<i32>("mpegversion") {
                Ok(1) => (av::Codec::Mpeg1, "mpegvideoparse"),
                Ok(2) => (av::Codec::Mpeg2, "mpegvideoparse"),
                Ok(4) => (av::Codec::Mpeg4, "mpeg4videoparse"),
                _ => return None,
            };
            // Demuxers of transport streams deliver parts of pictures, of which they know no size.
            if !is_parsed && extradata.is_none() && !structure.has_field("width") {
                return needs(parser, "in parts of pictures");
            }
            codec
        }
        _ => return None,
    };
    let positive = |value: i32| u32::try_from(value).ok().filter(|value| *value > 0);
    let side = |name: &str| structure.get::<i32>(name).ok().and_then(positive);
    let fraction = |name: &str| {
        let fraction = structure.get::<gst::Fraction>(name).ok()?;
        (fraction.numer() > 0 && fraction.denom() > 0).then(|| (fraction.numer(), fraction.denom()))
    };
    Some(Ok(Format {
        stream: av::StreamFormat {
            codec,
            extradata: extradata.unwrap_or_default(),
            size: side("width").zip(side("height")),
            pixel_aspect_ratio: fraction("pixel-aspect-ratio"),
            frame_rate: fraction("framerate"),
            is_interlaced: text("interlace-mode").is_some_and(|mode| mode != "progressive"),
        },
        has_container_flags: !is_parsed && text("stream-format").is_none_or(|format| format != "byte-stream"),
    }))
}

impl Origin {
    fn of(buffer: &gst::BufferRef) -> Self {
        let references = buffer.iter_meta::<gst::ReferenceTimestampMeta>();
        Self {
            pts: buffer.pts(),
            duration: buffer.duration(),
            is_discontinuous: buffer.flags().contains(gst::BufferFlags::DISCONT),
            is_corrupt: buffer.flags().contains(gst::BufferFlags::CORRUPTED),
            references: references.map(|meta| (meta.reference_owned(), meta.timestamp(), meta.duration())).collect(),
        }
    }

    fn write(&self, buffer: &mut gst::BufferRef) {
        buffer.set_pts(self.pts);
        buffer.set_duration(self.duration);
        if self.is_corrupt {
            buffer.set_flags(gst::BufferFlags::CORRUPTED);
        }
        for (caps, timestamp, duration) in &self.references {
            gst::ReferenceTimestampMeta::add(buffer, caps, *timestamp, *duration);
        }
    }
}

impl From<gst::FlowError> for Failure {
    fn from(flow: gst::FlowError) -> Self {
        Self::Flow(flow)
    }
}

impl KeyframeDec {
    /// Whether the stream on the sink pad is elementary.
    pub(super) fn is_elementary(&self) -> bool {
        self.state.lock().is_elementary
    }

    /// Begins an elementary stream if the sink pad's caps and `segment`, which follows them, are those of one.
    pub(super) fn begins_elementary(&self, segment: &gst::event::Segment) -> bool {
        let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>() else { return false };
        let Some(format) = self.sinkpad.current_caps().and_then(|caps| format_of(&caps)) else { return false };
        // The task waits for the bytes of a file.
        self.interrupt_waits();
        let _ = self.srcpad.pause_task();
        // When its stream lock is free, the task has finished its iteration.
        drop(self.srcpad.stream_lock());
        self.reset();
        gst::info!(CAT, imp = self, "elementary stream: {format:?}");
        self.state.lock().is_elementary = true;
        *self.elementary.lock() = Some(ElementaryStream {
            format,
            decoder: None,
            output: FrameOutput::new(&self.pool),
            segment: segment.clone(),
            held_events: Vec::new(),
            has_caps: false,
            is_discontinuous: true,
            last_pts: None,
            frames: 0,
            warnings: 0,
            past: av::Counts::default(),
        });
        if let Some(start) = self.sinkpad.sticky_event::<gst::event::StreamStart>(0) {
            self.srcpad.push_event(start);
        }
        true
    }

    /// Handles an event of an elementary stream. Returns false if it is refused.
    pub(super) fn elementary_event(&self, event: gst::Event) -> bool {
        use gst::EventView;
        match event.view() {
            EventView::FlushStart(_) => {
                self.interrupt.set();
                self.srcpad.push_event(event)
            }
            EventView::FlushStop(_) => {
                let stream = self.elementary.lock().take();
                self.interrupt.clear();
                self.lateness.reset();
                if let Some(mut stream) = stream {
                    stream.flush();
                    *self.elementary.lock() = Some(stream);
                }
                self.srcpad.push_event(event)
            }
            _ if !event.is_serialized() => self.srcpad.push_event(event),
            _ => {
                let Some(mut stream) = self.elementary.lock().take() else { return false };
                let handled = self.serialized_event(&mut stream, event);
                *self.elementary.lock() = Some(stream);
                handled
            }
        }
    }

    fn serialized_event(&self, stream: &mut ElementaryStream, event: gst::Event) -> bool {
        use gst::EventView;
        // What follows is not the second field of a keyframe.
        if matches!(
            event.view(),
            EventView::Caps(_) | EventView::Segment(_) | EventView::StreamStart(_) | EventView::Eos(_)
        ) && let Some(field) = stream.decoder.as_mut().and_then(av::ElementaryDecoder::take_field)
        {
            // Its flow is returned for the next buffer.
            let _ = self.decode_and_push(stream, field);
        }
        match event.view() {
            EventView::Caps(caps) => {
                let Some(format) = format_of(caps.caps()) else {
                    gst::element_imp_error!(
                        self,
                        gst::StreamError::WrongType,
                        (
                            "the stream changes to {}, which is not the video that it began with. Add a parser before vxkeyframedec",
                            caps.caps()
                        )
                    );
                    return false;
                };
                if stream.format != format {
                    gst::info!(CAT, imp = self, "the format changes: {format:?}");
                    stream.close_decoder();
                    stream.format = format;
                }
                true
            }
            EventView::Segment(segment) => {
                let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>() else {
                    gst::element_imp_error!(
                        self,
                        gst::StreamError::Format,
                        ("the segment is not in time format any more")
                    );
                    return false;
                };
                stream.segment = segment.clone();
                self.lateness.reset();
                self.pass_on(stream, event)
            }
            EventView::StreamStart(_) => {
                stream.last_pts = None;
                self.srcpad.push_event(event)
            }
            EventView::Eos(_) => {
                let error = stream.decoder.as_ref().and_then(av::ElementaryDecoder::no_picture_error);
                if let Some(error) = error.filter(|_| stream.frames == 0) {
                    errors::post(self, &error, self.location().as_deref());
                }
                // A stream without a frame still has a segment.
                self.push_held_events(stream);
                self.srcpad.push_event(event)
            }
            // Without a frame before it there is nothing to repeat.
            EventView::Gap(_) if !stream.has_caps => true,
            _ => self.pass_on(stream, event),
        }
    }

    /// Pushes an event, or holds it until the caps are known.
    fn pass_on(&self, stream: &mut ElementaryStream, event: gst::Event) -> bool {
        if stream.has_caps {
            return self.srcpad.push_event(event);
        }
        stream.held_events.retain(|held| event.type_() != gst::EventType::Segment || held.type_() != event.type_());
        // No frame can be output without a segment.
        if stream.held_events.len() < MAX_HELD_EVENTS || event.type_() == gst::EventType::Segment {
            stream.held_events.push(event);
        }
        true
    }

    fn push_held_events(&self, stream: &mut ElementaryStream) {
        let events = std::mem::take(&mut stream.held_events);
        // The segment comes first, as sticky events are ordered.
        let (segments, others): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|event| event.type_() == gst::EventType::Segment);
        segments.into_iter().chain(others).for_each(|event| {
            self.srcpad.push_event(event);
        });
    }

    /// Handles an access unit.
    pub(super) fn elementary_chain(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Some(mut stream) = self.elementary.lock().take() else { return Err(gst::FlowError::Flushing) };
        let result = self.handle_unit(&mut stream, buffer);
        self.update_stats(&stream);
        *self.elementary.lock() = Some(stream);
        match result {
            Ok(()) => Ok(gst::FlowSuccess::Ok),
            Err(Failure::Flow(flow)) => Err(flow),
            Err(Failure::Posted) => Err(gst::FlowError::Error),
        }
    }

    fn handle_unit(&self, stream: &mut ElementaryStream, buffer: &gst::Buffer) -> Result<(), Failure> {
        let settings = self.settings.lock().clone();
        if settings.max_frames > 0 && stream.frames >= settings.max_frames {
            return Err(gst::FlowError::Eos.into());
        }
        let format = match &stream.format {
            Ok(format) => format,
            Err(reason) => {
                let caps = self.sinkpad.current_caps().map(|caps| caps.to_string()).unwrap_or_default();
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Format,
                    ("this elementary stream cannot be decoded: {reason}"),
                    ["{caps}"]
                );
                return Err(Failure::Posted);
            }
        };
        let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        if map.is_empty() {
            return Ok(());
        }
        let has_container_flags = format.has_container_flags;
        let decoder = match &mut stream.decoder {
            Some(decoder) => decoder,
            None => {
                let log = self.ffmpeg_log(self.location().as_ref());
                let options = settings.to_options(&self.pool, log);
                let opened = av::ElementaryDecoder::open(&format.stream, &options, self.interrupt.clone());
                let decoder = opened.map_err(|error| self.fatal(&error))?;
                self.state.lock().stats.info = Some(decoder.info().clone());
                if settings.max_gap > 0 {
                    gst::element_imp_warning!(
                        self,
                        gst::LibraryError::Settings,
                        ("max-gap applies to files only: of this elementary stream nothing but keyframes is output")
                    );
                }
                stream.decoder.insert(decoder)
            }
        };
        let origin = Origin::of(buffer);
        let flags = av::UnitFlags {
            is_key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            is_trusted: has_container_flags,
            is_corrupt: origin.is_corrupt,
        };
        stream.is_discontinuous |= origin.is_discontinuous;
        let keyframes = decoder.add(&map, flags, origin).map_err(|error| self.fatal(&error))?;
        drop(map);
        keyframes.into_iter().try_for_each(|keyframe| self.decode_and_push(stream, keyframe))
    }

    /// Decodes a keyframe, unless it is not wanted, and pushes it.
    fn decode_and_push(
        &self,
        stream: &mut ElementaryStream,
        keyframe: av::KeyframeUnits<Origin>,
    ) -> Result<(), Failure> {
        let (min_interval, orientation) = {
            let settings = self.settings.lock();
            (gst::ClockTime::from_nseconds(settings.min_interval), settings.orientation)
        };
        let Some(decoder) = &mut stream.decoder else { return Ok(()) };
        let pts = keyframe.origin.pts;
        let end = pts.map(|pts| pts + keyframe.origin.duration.unwrap_or_default());
        let is_outside = pts.is_some() && stream.segment.clip(pts, end).is_none();
        let is_too_close = pts.zip(stream.last_pts).is_some_and(|(pts, last)| pts >= last && pts - last < min_interval);
        let running_time = pts.and_then(|pts| stream.segment.to_running_time(pts));
        if is_outside || is_too_close || self.lateness.is_too_late(running_time) {
            gst::debug!(CAT, imp = self, "keyframe at {} is skipped", pts.display());
            decoder.skip();
            return Ok(());
        }
        let (pictures, origin) = match decoder.decode(keyframe) {
            Ok(decoded) => decoded,
            Err((av::Error::Interrupted, _)) => return Err(gst::FlowError::Flushing.into()),
            Err((error @ av::Error::Hardware { .. }, _)) => return Err(self.fatal(&error)),
            Err((error, origin)) => {
                self.report_damaged_unit(stream, origin.pts, "was skipped", &error.to_string());
                return Ok(());
            }
        };
        for picture in pictures {
            if picture.frame.is_corrupt() && !origin.is_corrupt {
                let reason = "the decoder found errors in this keyframe and concealed them";
                self.report_damaged_unit(stream, origin.pts, "was concealed", reason);
            }
            if self.srcpad.check_reconfigure() {
                stream.output.renegotiate();
            }
            let Some(decoder) = &stream.decoder else { return Ok(()) };
            let decode_time = picture.decode_time;
            let output = stream.output.prepare(&self.srcpad, picture, decoder.info(), orientation);
            let output = output.map_err(|error| self.output_failed(error))?;
            if let Some(caps) = output.new_caps {
                gst::info!(CAT, imp = self, "caps {caps}");
                if !self.srcpad.push_event(gst::event::Caps::new(&caps))
                    && self.srcpad.pad_flags().contains(gst::PadFlags::FLUSHING)
                {
                    return Err(gst::FlowError::Flushing.into());
                }
            }
            if !std::mem::replace(&mut stream.has_caps, true) {
                self.push_held_events(stream);
            }
            let fitted = stream.output.fit_layout(&self.srcpad, output.buffer);
            let mut buffer = fitted.map_err(|error| self.output_failed(error))?;
            origin.write(buffer.make_mut());
            if std::mem::take(&mut stream.is_discontinuous) {
                buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
            }
            stream.last_pts = origin.pts.or(stream.last_pts);
            stream.frames += 1;
            self.state.lock().position = origin.pts.and_then(|pts| stream.segment.to_stream_time(pts));
            gst::debug!(CAT, imp = self, "keyframe at {}", origin.pts.display());
            let started = Instant::now();
            let pushed = self.srcpad.push(buffer);
            let push_time = started.elapsed();
            stages::report(origin.pts, &[(FrameStage::Decode, decode_time), (FrameStage::PushFrame, push_time)]);
            self.state.lock().stats.push_time += clock_time(push_time);
            pushed?;
        }
        Ok(())
    }

    fn fatal(&self, error: &av::Error) -> Failure {
        errors::post(self, error, self.location().as_deref());
        Failure::Posted
    }

    fn output_failed(&self, error: super::output::OutputError) -> Failure {
        if self.srcpad.pad_flags().contains(gst::PadFlags::FLUSHING) {
            return gst::FlowError::Flushing.into();
        }
        self.report_output_error(error, "the stream");
        Failure::Posted
    }

    fn report_damaged_unit(
        &self,
        stream: &mut ElementaryStream,
        pts: Option<gst::ClockTime>,
        outcome: &str,
        reason: &str,
    ) {
        let at = pts.map_or_else(String::new, |pts| format!(" at {pts}"));
        self.warn_of_damage(&mut stream.warnings, &format!("the stream: damaged data{at} {outcome}"), reason);
    }

    fn update_stats(&self, stream: &ElementaryStream) {
        let Some(decoder) = &stream.decoder else { return };
        let mut state = self.state.lock();
        state.stats.counts = stream.past + decoder.counts();
        state.stats.hardware = decoder.device().map(str::to_owned);
    }
}

impl ElementaryStream {
    /// Forgets what came so far.
    fn flush(&mut self) {
        if let Some(decoder) = &mut self.decoder {
            decoder.clear();
        }
        self.held_events.retain(|event| {
            event.is_sticky() && !matches!(event.type_(), gst::EventType::Segment | gst::EventType::Eos)
        });
        self.is_discontinuous = true;
        self.last_pts = None;
        self.frames = 0;
    }

    /// Closes the decoder; the next buffer opens another.
    fn close_decoder(&mut self) {
        if let Some(decoder) = self.decoder.take() {
            self.past = self.past + decoder.counts();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn format(caps: &str) -> Option<Result<Format, String>> {
        gst::init().unwrap();
        format_of(&gst::Caps::from_str(caps).unwrap())
    }

    #[test]
    fn caps_of_access_units_name_a_format_and_others_what_is_missing() {
        let h264 = "video/x-h264,stream-format=byte-stream,width=640,height=480,framerate=25/1";
        let of_units = format(&format!("{h264},alignment=au")).unwrap().unwrap();
        assert_eq!((of_units.stream.codec, of_units.stream.size), (av::Codec::H264, Some((640, 480))));
        assert_eq!(of_units.stream.frame_rate, Some((25, 1)));
        assert!(!of_units.has_container_flags);
        for (caps, parser) in [
            (h264, "h264parse"),
            ("video/x-h265,stream-format=byte-stream,alignment=nal", "h265parse"),
            ("video/x-h264,stream-format=avc,alignment=au", "h264parse"),
            ("video/x-av1,alignment=frame", "av1parse"),
            ("video/mpeg,mpegversion=2,systemstream=false", "mpegvideoparse"),
        ] {
            assert!(format(caps).unwrap().unwrap_err().contains(parser), "{caps}");
        }
        for caps in ["video/quicktime", "video/mpeg,mpegversion=2,systemstream=true", "video/x-raw", "audio/mpeg"] {
            assert!(format(caps).is_none(), "{caps}");
        }
    }

    #[test]
    fn upstream_with_a_choice_is_asked_for_access_units() {
        gst::init().unwrap();
        assert!(sink_caps(None).is_any());
        let filter = gst::Caps::from_str(
            "video/x-h264,stream-format={avc,byte-stream,avc3},alignment={nal,au};video/quicktime;video/x-av1",
        )
        .unwrap();
        let caps = sink_caps(Some(&filter));
        assert_eq!(caps.structure(0).unwrap().get::<&str>("alignment").unwrap(), "au");
        assert!(caps.can_intersect(&gst::Caps::from_str("video/quicktime").unwrap()));
        assert!(!caps.can_intersect(&gst::Caps::from_str("video/x-h264,alignment=nal").unwrap()));
    }
}
