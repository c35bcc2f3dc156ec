// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vxjsonenc` over GstBaseTransform: one line out for each frame in.

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::{BaseTransformImplExt, GenerateOutputSuccess};
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;

use crate::elements::detector_event::{self, DetectorInfo};
use crate::elements::log::Category;
use crate::elements::{container_time, upstream};
use crate::elements::{pad_templates, property_lock};
use crate::meta;
use crate::record::{Frame, HeaderLine, SCHEMA};

static CAT: Category = Category::new("vxjsonenc", "Detections as JSON lines");

/// State of the current stream.
#[derive(Default, Clone)]
struct State {
    info: Option<gst_video::VideoInfo>,
    /// As upstream reports it.
    location: Option<String>,
    /// The container's time at stream time zero.
    origin_ns: i64,
    /// The detector, as upstream announces it.
    detector: Option<DetectorInfo>,
    /// The header line was written.
    has_header: bool,
    /// A warning about lost detections was posted.
    has_warned: bool,
}

/// Values of the properties.
#[derive(Default)]
struct Settings {
    file: Option<String>,
    header: bool,
}

#[derive(Default)]
pub struct JsonEnc {
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

#[glib::object_subclass]
impl ObjectSubclass for JsonEnc {
    const NAME: &'static str = "GstVxJsonEnc";
    type Type = super::JsonEnc;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for JsonEnc {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecString::builder("file")
                    .nick("File")
                    .blurb("Value of the field `file` (default: the path that upstream reads from)")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoolean::builder("header")
                    .nick("Header")
                    .blurb("Write a header line with model, provider and device before the first line of each stream")
                    .mutable_ready()
                    .build(),
            ]
        });
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let fits = "GObject has checked the value against the property's type";
        if property_lock::rejects_change(&*self.obj(), pspec) {
            return;
        }
        let mut settings = self.settings.lock();
        match pspec.name() {
            "file" => settings.file = value.get().expect(fits),
            "header" => settings.header = value.get().expect(fits),
            _ => unreachable!("GObject passes on only properties of the list above"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings.lock();
        if pspec.name() == "header" { settings.header.to_value() } else { settings.file.to_value() }
    }
}

impl GstObjectImpl for JsonEnc {}

impl ElementImpl for JsonEnc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Detections to JSON lines",
                "Encoder/Metadata",
                "Writes one JSON line per frame with the detections in its metas",
                "The vx developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let frames = gst_video::VideoCapsBuilder::new().build();
            let lines = gst::Caps::builder("application/x-ndjson").build();
            pad_templates::sink_and_src(&frames, &lines)
        });
        TEMPLATES.as_ref()
    }
}

impl BaseTransformImpl for JsonEnc {
    const MODE: gst_base::subclass::BaseTransformMode = gst_base::subclass::BaseTransformMode::NeverInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.state.lock() = State::default();
        Ok(())
    }

    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        _caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        let other = if direction == gst::PadDirection::Sink { "src" } else { "sink" };
        let caps = self.obj().pad_template(other)?.caps().clone();
        Some(
            filter.map_or_else(
                || caps.clone(),
                |filter| filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
            ),
        )
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info =
            gst_video::VideoInfo::from_caps(incaps).map_err(|_| gst::loggable_error!(CAT, "Unusable caps {incaps}"))?;
        self.state.lock().info = Some(info);
        Ok(())
    }

    fn propose_allocation(
        &self,
        decide: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        self.parent_propose_allocation(decide, query)?;
        // The pixels are not read, so any layout is accepted.
        query.add_allocation_meta::<gst_video::VideoMeta>(None);
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if let gst::EventView::StreamStart(start) = event.view() {
            let location = upstream::location(self.obj().sink_pad(), Some(start.stream_id()));
            let mut state = self.state.lock();
            state.location = location;
            state.origin_ns = 0;
            (state.has_header, state.has_warned) = (false, false);
        }
        if let Some(detector) = detector_event::from_event(&event) {
            self.state.lock().detector = Some(detector);
            return true;
        }
        if let Some(origin_ns) = container_time::from_event(&event) {
            self.state.lock().origin_ns = origin_ns;
            return true;
        }
        self.parent_sink_event(event)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        let Some(frame) = self.take_queued_buffer() else { return Ok(GenerateOutputSuccess::NoOutput) };
        let (info, location, origin_ns) = {
            let state = self.state.lock();
            (state.info.clone(), state.location.clone(), state.origin_ns)
        };
        let Some(info) = info else { return Err(gst::FlowError::NotNegotiated) };
        let (file, header) = {
            let settings = self.settings.lock();
            (settings.file.clone(), settings.header)
        };
        let file = file.or(location);
        let mut lines = Vec::new();
        if header && !std::mem::replace(&mut self.state.lock().has_header, true) {
            let detector = self.state.lock().detector.clone();
            self.write(&HeaderLine::of_file(file.clone(), detector), &mut lines)?;
        }
        let frame_detections = meta::read(&frame, info.width(), info.height());
        if frame_detections.lost > 0 && !std::mem::replace(&mut self.state.lock().has_warned, true) {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Format,
                ("an element between the detector and vxjsonenc drops detections, as videocrop and videobox do: put vxjsonenc before \
                  it, or the detector after it")
            );
        }
        let record = Frame {
            schema: SCHEMA,
            file,
            pts_ns: frame.pts().and_then(|pts| self.container_ns(pts, origin_ns)),
            is_keyframe: !frame.flags().contains(gst::BufferFlags::DELTA_UNIT),
            is_analysed: frame_detections.is_looked_at,
            lost: frame_detections.lost,
            width: info.width(),
            height: info.height(),
            detections: frame_detections.found.into_iter().map(Into::into).collect(),
        };
        self.write(&record, &mut lines)?;
        let mut buffer = gst::Buffer::from_mut_slice(lines);
        {
            let buffer = buffer.make_mut();
            buffer.set_pts(frame.pts());
            buffer.set_duration(frame.duration());
            buffer.set_flags(frame.flags() & gst::BufferFlags::DELTA_UNIT);
        }
        Ok(GenerateOutputSuccess::Buffer(buffer))
    }
}

impl JsonEnc {
    fn write(&self, line: &impl serde::Serialize, lines: &mut Vec<u8>) -> Result<(), gst::FlowError> {
        serde_json::to_writer(&mut *lines, line).map_err(|error| {
            gst::element_imp_error!(self, gst::StreamError::Encode, ("a frame cannot be written as JSON: {error}"));
            gst::FlowError::Error
        })?;
        lines.push(b'\n');
        Ok(())
    }

    /// Returns the container's time of a buffer timestamp.
    fn container_ns(&self, pts: gst::ClockTime, origin_ns: i64) -> Option<i64> {
        let segment = self.obj().segment();
        container_time::container_ns(segment.downcast_ref()?, pts, origin_ns)
    }
}
