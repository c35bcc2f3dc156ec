// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vxoverlay` over GstBaseTransform: each frame out in the buffer in which it came.

use std::sync::{Arc, LazyLock};

use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;

use super::{frame, settings};
use crate::draw::Style;
use crate::elements::controlled;
use crate::elements::detector_event;
use crate::elements::error_details::post_error;
use crate::elements::log::Category;
use crate::elements::pad_templates;
use crate::meta::{self, FrameDetections};

pub(super) const FACTORY: &str = "vxoverlay";

static CAT: Category = Category::new(FACTORY, "Detections drawn into frames");

/// State of the current stream.
#[derive(Default)]
struct State {
    info: Option<gst_video::VideoInfo>,
    /// Whether `vxyolodetect` is upstream.
    has_detector: bool,
    /// Names of its classes by index.
    classes: Vec<String>,
    /// A warning about lost detections was posted.
    has_warned_of_loss: bool,
    /// A warning about frames that were not analysed was posted.
    has_warned_of_gaps: bool,
}

/// Locks: no two are held together, and none over a call into GStreamer.
#[derive(Default)]
pub struct Overlay {
    style: Mutex<Arc<Style>>,
    state: Mutex<State>,
}

#[glib::object_subclass]
impl ObjectSubclass for Overlay {
    const NAME: &'static str = "GstVxOverlay";
    type Type = super::Overlay;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for Overlay {
    fn properties() -> &'static [glib::ParamSpec] {
        settings::PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        settings::set(Arc::make_mut(&mut self.style.lock()), pspec.name(), value);
        if matches!(pspec.name(), "labels" | "redact") {
            self.warn_of_unknown_classes();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        settings::get(&self.style.lock(), pspec.name())
    }
}

impl GstObjectImpl for Overlay {}

impl ElementImpl for Overlay {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Detection overlay",
                "Filter/Editor/Video",
                "Draws the detections in the metas of frames, or pixelates the detected objects",
                "The vx developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = crate::elements::video_format::supported_caps();
            pad_templates::sink_and_src(&caps, &caps)
        });
        TEMPLATES.as_ref()
    }
}

impl BaseTransformImpl for Overlay {
    const MODE: gst_base::subclass::BaseTransformMode = gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.state.lock() = State::default();
        Ok(())
    }

    /// The colours are those of the caps as other elements of GStreamer read them, so that they show what was drawn.
    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info =
            gst_video::VideoInfo::from_caps(incaps).map_err(|_| gst::loggable_error!(CAT, "Unusable caps {incaps}"))?;
        self.state.lock().info = Some(info);
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::StreamStart {
            let mut state = self.state.lock();
            (state.has_warned_of_loss, state.has_warned_of_gaps) = (false, false);
        }
        if let Some(detector) = detector_event::from_event(&event) {
            {
                let mut state = self.state.lock();
                (state.has_detector, state.classes) = (true, detector.classes);
            }
            self.warn_of_unknown_classes();
        }
        self.parent_sink_event(event)
    }

    /// Returns frames in which nothing is drawn as they came: GstBaseTransform would make each of them writable first, which copies
    /// frames that another element holds.
    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        let Some(mut buffer) = self.take_queued_buffer() else { return Ok(GenerateOutputSuccess::NoOutput) };
        let Some(info) = self.state.lock().info.clone() else { return Err(gst::FlowError::NotNegotiated) };
        let element = self.obj();
        let segment = || element.segment().downcast_ref::<gst::ClockTime>().cloned();
        if let Err(reason) = controlled::sync(&*element, &buffer, segment) {
            gst::debug!(CAT, imp = self, "{reason}");
        }
        let style = Arc::clone(&self.style.lock());
        if buffer.size() == 0 || buffer.flags().contains(gst::BufferFlags::GAP) {
            return Ok(GenerateOutputSuccess::Buffer(buffer));
        }
        let detections = meta::read(&buffer, info.width(), info.height());
        self.warn_of_missing(&buffer, &detections, &style);
        if style.changes_pixels(&detections.found) {
            gst::log!(CAT, imp = self, "{} detections on {:?}", detections.found.len(), buffer.pts());
            frame::draw(buffer.make_mut(), &info, &detections.found, &style).map_err(|reason| {
                let reason = format!("a frame cannot be drawn on: {reason}. Put videoconvert before vxoverlay");
                post_error!(self, gst::StreamError::Format, reason, String::new());
                gst::FlowError::Error
            })?;
        }
        Ok(GenerateOutputSuccess::Buffer(buffer))
    }
}

impl Overlay {
    /// Warns of classes in `labels` and `redact` that the detector does not have, as far as one is known.
    fn warn_of_unknown_classes(&self) {
        let classes = self.state.lock().classes.clone();
        if classes.is_empty() {
            return;
        }
        let style = Arc::clone(&self.style.lock());
        for (property, list, effect) in [("labels", &style.classes, "drawn"), ("redact", &style.redact, "pixelated")] {
            let unknown = list.unknown_of(&classes);
            if !unknown.is_empty() {
                gst::element_imp_warning!(
                    self,
                    gst::LibraryError::Settings,
                    (
                        "{property}: the detector has no class {}, so nothing is {effect} for it; check the spelling. `vx inspect \
                         MODEL` lists the classes",
                        unknown.join(", ")
                    )
                );
            }
        }
    }

    /// Warns once of frames whose detections are incomplete.
    fn warn_of_missing(&self, buffer: &gst::BufferRef, detections: &FrameDetections, style: &Style) {
        let redacts = !style.redact.is_empty();
        let has_detector = self.state.lock().has_detector;
        let is_new_frame = has_detector && detections.found.is_empty() && !meta::has_record(buffer);
        let has_lost = detections.lost > 0 || is_new_frame;
        if has_lost && !std::mem::replace(&mut self.state.lock().has_warned_of_loss, true) {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Format,
                (
                    "an element between the detector and vxoverlay drops detections, as videocrop and deinterlace do{}: put vxoverlay \
                     before it, or the detector after it",
                    if redacts { "; their objects are not redacted" } else { "" }
                )
            );
        }
        let is_gap = redacts && !detections.is_looked_at && detections.found.is_empty();
        if is_gap && !std::mem::replace(&mut self.state.lock().has_warned_of_gaps, true) {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Format,
                ("frames on which the detector did not run pass without redaction: set inference-interval=1 or carry-over=true \
                     on vxyolodetect")
            );
        }
    }
}
