// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pads, events, queries, properties and states of `vxyolodetect`. `streaming.rs` handles frames.

use std::sync::{Arc, LazyLock};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;

use super::engine::{LoadedEngine, SetupWarning};
use super::enums::Meta;
use super::frame;
use super::frame_selection::{FrameSelector, Region};
use super::pacing::{Pacing, Policy, most_held};
use super::queue::Queue;
use super::settings::{PROPERTIES, Settings};
use super::streaming::{Counts, OutputState};
use crate::detect;
use crate::elements::detector_event;
use crate::elements::error_details::{MODEL_DETAILS, post_error};
use crate::elements::log::Category;
use crate::elements::pad_task::PadTask;
use crate::elements::qos::Lateness;
use crate::elements::video_format;
use crate::elements::{pad_templates, property_lock};

pub(super) const FACTORY: &str = "vxyolodetect";

pub(super) static CAT: Category = Category::new(FACTORY, "Object detection with ONNX Runtime");

/// Locks: no two are held together, and none over a call into GStreamer or the engine.
pub struct YoloDetect {
    pub(super) sinkpad: gst::Pad,
    pub(super) srcpad: gst::Pad,
    task: PadTask,
    pub(super) settings: Mutex<Arc<Settings>>,
    pub(super) ready: Mutex<Option<LoadedEngine>>,
    pub(super) counts: Mutex<Counts>,
    /// Format of frames on the sink pad.
    pub(super) info: Mutex<Option<gst_video::VideoInfo>>,
    pub(super) queue: Queue,
    pub(super) pacing: Arc<Pacing>,
    pub(super) lateness: Lateness,
    /// Segment of the frames on the sink pad; `None` where it is not in time format.
    pub(super) segment: Mutex<Option<gst::FormattedSegment<gst::ClockTime>>>,
    /// Used by upstream's thread.
    pub(super) frame_selector: Mutex<FrameSelector>,
    /// Used by the source pad's task.
    pub(super) output: Mutex<OutputState>,
}

#[glib::object_subclass]
impl ObjectSubclass for YoloDetect {
    const NAME: &'static str = "GstVxYoloDetect";
    type Type = super::YoloDetect;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let template = class.pad_template("sink").expect("declared in pad_templates");
        let sinkpad = gst::Pad::builder_from_template(&template)
            .chain_function(|_pad, parent, buffer| {
                let failed = || Err(gst::FlowError::Error);
                Self::catch_panic_pad_function(parent, failed, |imp| imp.chain(buffer))
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.sink_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.sink_query(pad, query))
            })
            .flags(gst::PadFlags::PROXY_CAPS)
            .build();
        let template = class.pad_template("src").expect("declared in pad_templates");
        let srcpad = gst::Pad::builder_from_template(&template)
            .activatemode_function(|pad, parent, mode, active| {
                let failed = || Err(gst::loggable_error!(CAT, "Panic while activating"));
                Self::catch_panic_pad_function(parent, failed, |imp| imp.src_activate_mode(pad, mode, active))
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.src_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.src_query(pad, query))
            })
            .flags(gst::PadFlags::PROXY_CAPS)
            .build();
        Self {
            sinkpad,
            srcpad,
            task: PadTask::default(),
            settings: Mutex::default(),
            ready: Mutex::default(),
            counts: Mutex::default(),
            info: Mutex::default(),
            queue: Queue::default(),
            pacing: Arc::default(),
            lateness: Lateness::default(),
            segment: Mutex::default(),
            frame_selector: Mutex::default(),
            output: Mutex::default(),
        }
    }
}

impl ObjectImpl for YoloDetect {
    fn constructed(&self) {
        self.parent_constructed();
        self.obj().add_pad(&self.sinkpad).expect("a new element has no pad of this name");
        self.obj().add_pad(&self.srcpad).expect("a new element has no pad of this name");
    }

    fn properties() -> &'static [glib::ParamSpec] {
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if property_lock::rejects_change(&*self.obj(), pspec) {
            return;
        }
        if let Err(error) = self.check_change(pspec.name(), value) {
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{error}; {} is unchanged", pspec.name()));
            return;
        }
        let settings = {
            let mut settings = self.settings.lock();
            Arc::make_mut(&mut settings).set(pspec.name(), value);
            Arc::clone(&settings)
        };
        self.ready.lock().as_mut().into_iter().for_each(|ready| ready.update(&settings));
        if pspec.name() == "when-late" && self.obj().current_state() > gst::State::Ready {
            self.post_latency();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let setting = self.settings.lock().get(pspec.name());
        setting.unwrap_or_else(|| self.stats().to_value())
    }
}

impl GstObjectImpl for YoloDetect {}

impl ElementImpl for YoloDetect {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "YOLO object detector",
                "Filter/Analyzer/Video",
                "Detects objects in frames with a YOLO model in ONNX format and attaches them as metas",
                "The vx developers",
            )
        });
        Some(&METADATA)
    }

    fn post_message(&self, message: gst::Message) -> bool {
        self.task.observe(&*self.obj(), &message);
        self.parent_post_message(message)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = video_format::supported_caps();
            pad_templates::sink_and_src(&caps, &caps)
        });
        TEMPLATES.as_ref()
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => self.prepare()?,
            gst::StateChange::ReadyToPaused => {
                *self.counts.lock() = Counts::default();
                self.pacing.reset();
                self.lateness.reset();
                *self.info.lock() = None;
                *self.segment.lock() = None;
                *self.frame_selector.lock() = FrameSelector::default();
                *self.output.lock() = OutputState::default();
                let settings = Arc::clone(&self.settings.lock());
                // Properties may have changed in READY.
                let fits = self.ready.lock().as_mut().is_some_and(|ready| ready.adapt(&settings));
                if !fits {
                    self.prepare()?;
                }
            }
            // Before the pads are deactivated, which waits for the streaming threads.
            gst::StateChange::PausedToReady => self.queue.close(),
            _ => {}
        }
        let result = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            self.log_totals();
        }
        if transition == gst::StateChange::ReadyToNull {
            let ready = self.ready.lock().take();
            drop(ready);
        }
        Ok(result)
    }
}

impl YoloDetect {
    /// Checks whether a property may get this value now. Before PAUSED any value may be set; errors are reported at the start.
    fn check_change(&self, name: &str, value: &glib::Value) -> Result<(), detect::Error> {
        if self.obj().current_state() <= gst::State::Ready {
            return Ok(());
        }
        let text = || value.get::<Option<String>>().ok().flatten().filter(|text| !text.trim().is_empty());
        match (name, text()) {
            ("classes", Some(text)) => {
                let labels = self.ready.lock().as_ref().map(|ready| Arc::clone(&ready.labels));
                labels.map_or(Ok(()), |labels| super::engine::classes(&labels, &text).map(drop))
            }
            ("region-of-interest", Some(text)) => text.parse::<Region>().map(drop),
            ("meta", _) if value.get::<Meta>().is_ok_and(|meta| !meta.is_supported()) => Err(detect::Error::Setting {
                setting: "meta",
                reason: "this plugin was built without GstAnalyticsRelationMeta".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Returns the engine, from READY on.
    pub(super) fn engine(&self) -> Option<detect::Engine> {
        self.ready.lock().as_ref().map(|ready| ready.engine.clone())
    }

    /// Logs the totals of a stream.
    fn log_totals(&self) {
        let counts = self.counts.lock().clone();
        let each =
            |sum: std::time::Duration| sum.checked_div(counts.looks.try_into().unwrap_or(u32::MAX)).unwrap_or_default();
        gst::info!(
            CAT,
            imp = self,
            "{} frames, {} inference runs, {} detections; {} skipped, {} late, {} dropped; per run: queued {:.1?}, prepared {:.1?}, inferred {:.1?}, \
             decoded {:.1?}",
            counts.frames,
            counts.looks,
            counts.detections,
            counts.skipped,
            counts.late,
            counts.dropped,
            each(counts.queued),
            each(counts.prepare),
            each(counts.infer),
            each(counts.decode)
        );
        let problem = self.ready.lock().as_ref().and_then(|ready| ready.engine.stats().cache_problem);
        if let Some(problem) = problem {
            gst::warning!(CAT, imp = self, "later starts are slow: {problem}; set cache-dir");
        }
    }

    fn prepare(&self) -> Result<(), gst::StateChangeError> {
        let settings = Arc::clone(&self.settings.lock());
        if !settings.meta.is_supported() {
            gst::element_imp_error!(
                self,
                gst::LibraryError::Settings,
                ("this plugin was built without GstAnalyticsRelationMeta, which needs GStreamer 1.24 or newer. Set meta=roi, or rebuild the plugin on such a system")
            );
            return Err(gst::StateChangeError);
        }
        let warn = |note: SetupWarning| match note {
            SetupWarning::Setup(text) => gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{text}")),
            SetupWarning::Model(text) => gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                ("{text}"),
                details: gst::Structure::new_empty(MODEL_DETAILS)
            ),
        };
        let takes_long = matches!(settings.execution_provider.parse(), Ok(detect::Provider::TensorRt));
        if takes_long {
            self.post_progress(
                gst::ProgressType::Start,
                "TensorRT is building an engine for the model, which takes minutes the first time",
            );
        }
        let made = LoadedEngine::new(&settings, warn);
        if takes_long {
            let (kind, text) = match &made {
                Ok(_) => (gst::ProgressType::Complete, "the engine is built and cached"),
                Err(_) => (gst::ProgressType::Error, "building the engine failed"),
            };
            self.post_progress(kind, text);
        }
        match made {
            Ok(ready) => {
                let before = self.ready.lock().replace(ready);
                drop(before);
                Ok(())
            }
            Err(error) => {
                let (reason, debug) = (error.to_string(), format!("{error:?}"));
                match &error {
                    detect::Error::ModelUnreadable { .. } | detect::Error::LabelFile { .. } => {
                        post_error!(self, gst::ResourceError::NotFound, reason, debug);
                    }
                    detect::Error::UnknownClass { .. } | detect::Error::Setting { .. } => {
                        post_error!(self, gst::LibraryError::Settings, reason, debug);
                    }
                    _ => post_error!(self, gst::LibraryError::Init, reason, debug),
                }
                Err(gst::StateChangeError)
            }
        }
    }

    fn post_progress(&self, kind: gst::ProgressType, text: &str) {
        gst::info!(CAT, imp = self, "{text}");
        let message = gst::message::Progress::builder(kind, "tensorrt", text).src(&*self.obj()).build();
        // The result does not matter: there may be no receiver.
        let _ = self.obj().post_message(message);
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::FlushStart(_) => {
                let passed_on = self.srcpad.push_event(event);
                self.flush();
                passed_on
            }
            gst::EventView::FlushStop(_) => {
                // Again, for what came in between, or if there was no start.
                self.flush();
                let passed_on = self.srcpad.push_event(event);
                *self.frame_selector.lock() = FrameSelector::default();
                *self.output.lock() = OutputState::default();
                self.lateness.reset();
                self.queue.open();
                self.start_task().is_ok() && passed_on
            }
            gst::EventView::Caps(caps) => {
                let Ok(info) = frame::video_info(caps.caps()) else {
                    gst::error!(CAT, imp = self, "unusable caps {}", caps.caps());
                    return false;
                };
                self.warn_of_region(&info);
                self.expect_frames(&info);
                *self.info.lock() = Some(info);
                self.query_liveness();
                // Boxes are in pixels, so they do not carry over to frames of another size.
                *self.frame_selector.lock() = FrameSelector::default();
                self.put_event(event)
            }
            gst::EventView::StreamStart(_) => {
                *self.frame_selector.lock() = FrameSelector::default();
                self.put_event(event)
            }
            gst::EventView::Segment(segment) => {
                *self.segment.lock() = segment.segment().downcast_ref().cloned();
                self.lateness.reset();
                // Frames that were selected may have been dropped: see `queue.rs`.
                *self.frame_selector.lock() = FrameSelector::default();
                let detector = self.ready.lock().as_ref().map(LoadedEngine::detector);
                let passed_on = self.put_event(event);
                detector.is_none_or(|detector| self.put_event(detector_event::event(&detector))) && passed_on
            }
            _ if event.is_serialized() => self.put_event(event),
            _ => gst::Pad::event_default(pad, Some(&*self.obj()), event),
        }
    }

    fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Reconfigure(_) => self.queue.relinked(),
            gst::EventView::Qos(qos) => self.lateness.record(qos),
            _ => {}
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    /// Stops the task and empties the queue. Sticky events that were in it are stored on the source pad, since they would not be sent
    /// again.
    fn flush(&self) {
        self.queue.close();
        let _ = self.srcpad.pause_task();
        for event in self.queue.drain() {
            let is_of_stream = !matches!(event.type_(), gst::EventType::Segment | gst::EventType::Eos);
            if event.is_sticky() && is_of_stream {
                let _ = self.srcpad.store_sticky_event(&event);
            }
        }
    }

    /// Announces the frames to the engine, unless inference runs on parts of them.
    fn expect_frames(&self, info: &gst_video::VideoInfo) {
        let settings = Arc::clone(&self.settings.lock());
        let engine = self.engine();
        if let Some(engine) = engine
            && settings.region_of_interest.is_empty()
            && settings.region_type.is_empty()
        {
            engine.expect((info.width() as usize, info.height() as usize));
        }
    }

    fn warn_of_region(&self, info: &gst_video::VideoInfo) {
        let settings = Arc::clone(&self.settings.lock());
        if settings.region_is_outside_of(info) {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                (
                    "region-of-interest={} is outside of frames of {}x{}: nothing will be detected in them",
                    settings.region_of_interest,
                    info.width(),
                    info.height()
                )
            );
        }
    }

    fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        use gst::QueryViewMut;
        match query.view_mut() {
            QueryViewMut::Allocation(_) => {
                // Items from before the query are pushed before it.
                if !self.queue.wait_until_empty() {
                    return false;
                }
                self.srcpad.peer_query(query);
                if let QueryViewMut::Allocation(allocation) = query.view_mut()
                    && allocation.find_allocation_meta::<gst_video::VideoMeta>().is_none()
                {
                    allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
                }
                true
            }
            QueryViewMut::Drain(_) => self.queue.wait_until_empty() && self.srcpad.peer_query(query),
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        let answered = gst::Pad::query_default(pad, Some(&*self.obj()), query);
        if let gst::QueryViewMut::Latency(latency) = query.view_mut()
            && answered
        {
            let (is_live, least, most) = latency.result();
            self.pacing.set_live(is_live);
            let (ours, room) = self.latency();
            gst::debug!(CAT, imp = self, "adding {ours} of latency, room for {room}");
            latency.set(is_live, least + ours, most.map(|most| most + room));
        }
        answered
    }

    /// Asks upstream whether it is live, on upstream's thread. Posts the latency where it follows from the caps.
    fn query_liveness(&self) {
        let mut query = gst::query::Latency::new();
        if self.sinkpad.peer_query(&mut query) {
            self.pacing.set_live(query.result().0);
        }
        if self.pacing.is_live() && self.policy() == Policy::Block {
            self.post_latency();
        }
    }

    /// Returns the time that frames spend in the element, and the time for which it can take frames in while none leaves.
    fn latency(&self) -> (gst::ClockTime, gst::ClockTime) {
        let info = self.info.lock().clone();
        let rate = info.as_ref().map(gst_video::VideoInfo::fps).filter(|fps| fps.numer() > 0);
        let frame = rate.and_then(|fps| gst::ClockTime::SECOND.mul_div_floor(fps.denom() as u64, fps.numer() as u64));
        let of_frames = |frames: usize| frame.unwrap_or_default() * frames as u64;
        if self.policy() == Policy::Block {
            let held = of_frames(self.ready.lock().as_ref().map_or(0, |ready| ready.max_inflight));
            return (held, held);
        }
        let ours = gst::ClockTime::try_from(self.pacing.latency()).unwrap_or_default();
        let room = of_frames(most_held(info.map_or(0, |info| info.size())));
        (ours, room.max(ours))
    }

    fn src_activate_mode(&self, pad: &gst::Pad, mode: gst::PadMode, active: bool) -> Result<(), gst::LoggableError> {
        if mode != gst::PadMode::Push {
            return Err(gst::loggable_error!(CAT, "Only push mode is supported"));
        }
        if active {
            self.queue.open();
            self.start_task()
        } else {
            self.queue.close();
            self.task.stop(pad).map_err(|_| gst::loggable_error!(CAT, "The streaming task cannot be stopped"))?;
            self.queue.drain();
            Ok(())
        }
    }

    pub(super) fn start_task(&self) -> Result<(), gst::LoggableError> {
        let element = self.obj().downgrade();
        let started = self.task.start(&self.srcpad, move || {
            if let Some(element) = element.upgrade() {
                element.imp().iterate();
            }
        });
        started.map_err(|error| gst::loggable_error!(CAT, "{error}"))
    }

    fn stats(&self) -> gst::Structure {
        let counts = self.counts.lock().clone();
        let sizes = counts.input_sizes.iter().map(|((width, height), runs)| format!("{width}x{height}: {runs}"));
        let stats = gst::Structure::builder("vxyolodetect-stats")
            .field("frames", counts.frames)
            .field("looks", counts.looks)
            .field("input-sizes", sizes.collect::<Vec<_>>().join(", "))
            .field("detections", counts.detections)
            .field("when-late", self.policy().name())
            .field("skipped", counts.skipped)
            .field("late", counts.late)
            .field("dropped", counts.dropped)
            .field("latency", self.latency().0)
            .field("queued-time", counts.queued.as_nanos() as u64)
            .field("prepare-time", counts.prepare.as_nanos() as u64)
            .field("infer-time", counts.infer.as_nanos() as u64)
            .field("decode-time", counts.decode.as_nanos() as u64)
            .field("push-time", counts.push.as_nanos() as u64);
        let report = self.ready.lock().as_ref().map(LoadedEngine::report);
        match report {
            Some(report) => report.describe(stats).build(),
            None => stats.build(),
        }
    }
}
