// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vxbulkbin` over GstBin: lanes inside, one source pad with lines.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;

use super::MIN_LOAD_TIMEOUT;
use super::child_properties::ChildProperties;
use super::lane::Lane;
use super::output::{Output, OutputItem};
use super::settings::{DETECTOR_PROPERTIES, PROPERTIES, Settings};
use super::supervisor::RunState;
use super::totals::Totals;
use crate::elements::error_details::MODEL_DETAILS;
use crate::elements::log::Category;
use crate::elements::pad_task::PadTask;
use crate::elements::{pad_templates, property_lock};

pub(super) static CAT: Category = Category::new("vxbulkbin", "Many files in parallel lanes");

/// Locks: no two are held together, and none over a call into GStreamer: the receiver of a message may read `stats`.
pub struct BulkBin {
    srcpad: gst::Pad,
    task: PadTask,
    pub(super) settings: Mutex<Settings>,
    pub(super) lanes: Mutex<Vec<Lane>>,
    pub(super) child_properties: Arc<ChildProperties>,
    pub(super) output: Arc<Output>,
    pub(super) run: Mutex<Option<Arc<RunState>>>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    /// The stream's first events were sent.
    pub(super) has_begun: AtomicBool,
    /// Sequence number of the events of a run: that of the EOS event from outside, if one ends it.
    seqnum: Mutex<Option<gst::Seqnum>>,
    /// The detectors' `load-timeout` was derived from this element's `file-timeout`.
    has_set_load_timeout: AtomicBool,
    /// Set from PLAYING on.
    pub(super) is_playing: AtomicBool,
    /// Warnings of detectors that were forwarded: those of other lanes would repeat them.
    reported_warnings: Mutex<HashSet<String>>,
}

#[glib::object_subclass]
impl ObjectSubclass for BulkBin {
    const NAME: &'static str = "GstVxBulkBin";
    type Type = super::BulkBin;
    type ParentType = gst::Bin;

    fn with_class(class: &Self::Class) -> Self {
        let template = class.pad_template("src").expect("declared in pad_templates");
        let srcpad = gst::Pad::builder_from_template(&template)
            .activatemode_function(|pad, parent, mode, active| {
                let failed = || Err(gst::loggable_error!(CAT, "Panic while activating"));
                Self::catch_panic_pad_function(parent, failed, |imp| imp.activate(pad, mode, active))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.src_query(pad, query))
            })
            .build();
        Self {
            srcpad,
            task: PadTask::default(),
            settings: Mutex::default(),
            lanes: Mutex::default(),
            child_properties: Arc::default(),
            output: Arc::default(),
            run: Mutex::default(),
            threads: Mutex::default(),
            has_begun: AtomicBool::new(false),
            seqnum: Mutex::default(),
            has_set_load_timeout: AtomicBool::new(false),
            is_playing: AtomicBool::new(false),
            reported_warnings: Mutex::default(),
        }
    }
}

impl ObjectImpl for BulkBin {
    fn constructed(&self) {
        self.parent_constructed();
        let bin = self.obj();
        // The elements inside would make the bin a sink.
        bin.set_suppressed_flags(gst::ElementFlags::SINK | gst::ElementFlags::SOURCE);
        bin.set_element_flags(gst::ElementFlags::SOURCE);
        bin.add_pad(&self.srcpad).expect("a new element has no pad of this name");
        // The first lane always exists: its elements have the properties of all.
        if let Err(error) = self.add_lanes(1) {
            gst::error!(CAT, imp = self, "cannot create a lane: {error}");
        }
    }

    fn properties() -> &'static [glib::ParamSpec] {
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if property_lock::rejects_change(&*self.obj(), pspec) {
            return;
        }
        if DETECTOR_PROPERTIES.contains(&pspec.name()) {
            let lanes = self.lanes.lock().clone();
            for lane in lanes {
                lane.detector.set_property_from_value(pspec.name(), value);
            }
        } else {
            self.settings.lock().set(pspec.name(), value);
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if DETECTOR_PROPERTIES.contains(&pspec.name()) {
            let detector = self.lanes.lock().first().map(|lane| lane.detector.clone());
            return detector
                .map_or_else(|| pspec.default_value().clone(), |detector| detector.property_value(pspec.name()));
        }
        let setting = self.settings.lock().get(pspec.name());
        setting.unwrap_or_else(|| self.stats().to_value())
    }
}

impl GstObjectImpl for BulkBin {}

impl ElementImpl for BulkBin {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Bulk detector",
                "Source/Analyzer/Video",
                "Detects objects on the keyframes of many files in parallel and outputs them as JSON lines",
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
            let lines = gst::Caps::builder("application/x-ndjson").build();
            vec![pad_templates::src(&lines)]
        });
        TEMPLATES.as_ref()
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => {
                self.reported_warnings.lock().clear();
                let lanes = self.lanes.lock().clone();
                lanes.iter().for_each(|lane| lane.clear_model_warnings());
                // Loads the model, or posts why it cannot.
                let lane = self.lanes.lock().first().cloned().ok_or(gst::StateChangeError)?;
                let file_timeout = self.settings.lock().file_timeout;
                // No file has started, but a model that never loads must not block for ever.
                if lane.detector.property::<u64>("load-timeout") == 0 && file_timeout > 0 {
                    lane.detector.set_property("load-timeout", file_timeout.max(MIN_LOAD_TIMEOUT.as_nanos() as u64));
                    self.has_set_load_timeout.store(true, Ordering::Release);
                }
                lane.set_state(gst::State::Ready).inspect_err(|_| {
                    let _ = lane.set_state(gst::State::Null);
                    if self.has_set_load_timeout.swap(false, Ordering::AcqRel) {
                        lane.detector.set_property("load-timeout", 0_u64);
                    }
                })?;
            }
            gst::StateChange::PausedToPlaying => {
                self.is_playing.store(true, Ordering::Release);
                let run = self.run.lock().clone();
                if let Some(run) = run {
                    let is_over = run.active.load(Ordering::Acquire) == 0;
                    let kind = if is_over { run.final_progress() } else { gst::ProgressType::Start };
                    self.report_progress(&run, kind);
                }
            }
            // Before the pad is deactivated, which waits for its task.
            gst::StateChange::PausedToReady => {
                self.stop();
                self.is_playing.store(false, Ordering::Release);
            }
            _ => {}
        }
        let result = self.parent_change_state(transition)?;
        if transition == gst::StateChange::ReadyToNull {
            let lanes = self.lanes.lock().clone();
            let has_set_load_timeout = self.has_set_load_timeout.swap(false, Ordering::AcqRel);
            for lane in lanes {
                let _ = lane.set_state(gst::State::Null);
                if has_set_load_timeout {
                    lane.detector.set_property("load-timeout", 0_u64);
                }
            }
        }
        Ok(result)
    }

    fn send_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            // An end from outside: files that were started are finished, no other is started.
            gst::EventType::Eos => {
                gst::info!(CAT, imp = self, "received EOS: files that were not started are skipped");
                let run = self.run.lock().clone();
                run.is_some_and(|run| {
                    *self.seqnum.lock() = Some(event.seqnum());
                    run.files.stop();
                    true
                })
            }
            // Lines on their way downstream are dropped there; lanes continue as far as there is room.
            gst::EventType::FlushStart => {
                let is_pushed = self.srcpad.push_event(event);
                self.output.pause(true);
                is_pushed && self.srcpad.pause_task().is_ok()
            }
            gst::EventType::FlushStop => {
                // While this lock is held, the task does not run.
                let stream = self.srcpad.stream_lock();
                self.has_begun.store(false, Ordering::Relaxed);
                let is_pushed = self.srcpad.push_event(event);
                self.output.pause(false);
                drop(stream);
                let has_run = self.run.lock().is_some();
                is_pushed && (!has_run || self.start_task().is_ok())
            }
            // The elements inside never get events from outside: theirs are those of a file.
            _ if event.is_downstream() => self.srcpad.push_event(event),
            _ => false,
        }
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        self.src_query(&self.srcpad, query) || self.parent_query(query)
    }
}

impl BinImpl for BulkBin {
    fn handle_message(&self, message: gst::Message) {
        let lane_of = |source: Option<&gst::Object>| {
            let lanes = self.lanes.lock().clone();
            source.and_then(|source| lanes.into_iter().find(|lane| lane.holds(source)))
        };
        match message.view() {
            // An error while a file is read fails the file; any other is forwarded.
            gst::MessageView::Error(error)
                if lane_of(message.src()).is_some_and(|lane| lane.fail(lane.failure(error))) =>
            {
                return;
            }
            gst::MessageView::Warning(warning) => {
                if let Some(lane) = lane_of(message.src()) {
                    let error = warning.error();
                    let is_detector = message.src() == Some(lane.detector.upcast_ref());
                    if warning.details().is_some_and(|details| details.name() == MODEL_DETAILS) {
                        // It concerns the files of all lanes: they share the engine, which warns once.
                        let lanes = self.lanes.lock().clone();
                        lanes.iter().for_each(|lane| lane.add_model_warning(error.message()));
                    } else {
                        lane.add_warning(error.message().to_owned());
                    }
                    if is_detector && !self.reported_warnings.lock().insert(error.message().to_owned()) {
                        return;
                    }
                }
            }
            _ => {}
        }
        self.parent_handle_message(message);
    }
}

impl BulkBin {
    fn activate(&self, pad: &gst::Pad, mode: gst::PadMode, active: bool) -> Result<(), gst::LoggableError> {
        if mode != gst::PadMode::Push {
            return Err(gst::loggable_error!(CAT, "Only push mode is supported"));
        }
        if !active {
            self.stop();
            *self.seqnum.lock() = None;
            return self.task.stop(pad).map_err(|_| gst::loggable_error!(CAT, "The streaming task cannot be stopped"));
        }
        self.start().map_err(|text| {
            self.stop();
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{text}"));
            gst::loggable_error!(CAT, "{text}")
        })?;
        self.start_task().map_err(|error| {
            self.stop();
            gst::loggable_error!(CAT, "{error}")
        })
    }

    fn start_task(&self) -> Result<(), glib::BoolError> {
        let bin = self.obj().downgrade();
        self.task.start(&self.srcpad, move || {
            if let Some(bin) = bin.upgrade() {
                bin.imp().iterate();
            }
        })
    }

    /// Runs one iteration of the source pad's task.
    fn iterate(&self) {
        let pause = || {
            let _ = self.srcpad.pause_task();
        };
        let out = self.output.take();
        if out == OutputItem::Flushing {
            return pause();
        }
        let is_first = !self.has_begun.swap(true, Ordering::Relaxed);
        if is_first {
            self.push_first_events();
        }
        let OutputItem::Lines(lines) = out else {
            self.push_eos();
            return pause();
        };
        let mut buffer = gst::Buffer::from_mut_slice(lines);
        if is_first {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        match self.srcpad.push(buffer) {
            Ok(_) => {}
            Err(gst::FlowError::Flushing) => pause(),
            Err(flow) => {
                gst::debug!(CAT, imp = self, "downstream returned {flow:?}");
                let is_end = flow == gst::FlowError::Eos;
                self.abandon(if is_end { gst::ProgressType::Canceled } else { gst::ProgressType::Error });
                if !is_end {
                    gst::element_imp_error!(
                        self,
                        gst::StreamError::Failed,
                        ("lines cannot be pushed: downstream returned {flow:?}. Check that everything after vxbulkbin is linked and accepts application/x-ndjson")
                    );
                }
                self.push_eos();
                pause();
            }
        }
    }

    fn push_first_events(&self) {
        let seqnum = self.seqnum();
        let id = self.srcpad.create_stream_id(&*self.obj(), None);
        let start = gst::event::StreamStart::builder(&id).group_id(gst::GroupId::next()).seqnum(seqnum);
        self.srcpad.push_event(start.build());
        let caps = self.srcpad.pad_template_caps();
        self.srcpad.push_event(gst::event::Caps::builder(&caps).seqnum(seqnum).build());
        let segment = gst::FormattedSegment::<gst::format::Bytes>::new();
        self.srcpad.push_event(gst::event::Segment::builder(&segment).seqnum(seqnum).build());
    }

    fn push_eos(&self) {
        self.srcpad.push_event(gst::event::Eos::builder().seqnum(self.seqnum()).build());
    }

    fn seqnum(&self) -> gst::Seqnum {
        *self.seqnum.lock().get_or_insert_with(gst::Seqnum::next)
    }

    fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        use gst::QueryViewMut;
        match query.view_mut() {
            // Percent of the files.
            QueryViewMut::Position(position) if position.format() == gst::Format::Percent => {
                let run = self.run.lock().clone();
                let Some(run) = run else { return false };
                let (totals, running) = self.totals(&run);
                let fraction = totals.fraction_done(&running);
                position.set(gst::format::Percent::from_ratio(fraction));
                true
            }
            QueryViewMut::Seeking(seeking) => {
                let format = seeking.format();
                seeking.set(
                    false,
                    gst::GenericFormattedValue::none_for_format(format),
                    gst::GenericFormattedValue::none_for_format(format),
                );
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    pub(super) fn first_stats(&self) -> Option<gst::Structure> {
        let detector = self.lanes.lock().first().map(|lane| lane.detector.clone())?;
        Some(detector.property("stats"))
    }

    fn stats(&self) -> gst::Structure {
        let run = self.run.lock().clone();
        let mut stats = match &run {
            Some(run) => {
                let (totals, running) = self.totals(run);
                let running = running.iter().map(|file| file.to_structure().to_send_value());
                let totals = totals.to_structure().field("running", gst::Array::from_values(running));
                totals.field("lanes", run.plan.lanes as u32).field("decoder-threads", run.plan.decoder_threads as u32)
            }
            None => Totals::default().to_structure(),
        };
        if let Some(detector) = self.first_stats() {
            for name in ["model", "layout", "provider", "device", "precision", "fallback"] {
                if let Ok(text) = detector.get::<String>(name) {
                    stats = stats.field(name, text);
                }
            }
            for name in ["sessions", "intra-op-threads", "batch-size"] {
                stats = stats.field(name, detector.get::<u32>(name).unwrap_or(0));
            }
            for name in ["model-loads", "engine-frames", "session-memory"] {
                stats = stats.field(name, detector.get::<u64>(name).unwrap_or(0));
            }
        }
        stats.build()
    }
}
