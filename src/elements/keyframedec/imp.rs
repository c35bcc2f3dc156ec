// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pads, events, queries, properties and states of `vxkeyframedec`. The streaming task is in `streaming.rs`.
//!
//! Locks: `settings`, `state` and `session` are never held together, and none is held over a call into GStreamer or
//! FFmpeg that can wait. The streaming task takes the session out of its lock while it uses it.

use std::sync::{Arc, LazyLock};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;

use super::byte_queue::{ByteQueue, UpstreamStats};
use super::elementary::{self, ElementaryStream};
use super::segment::Playback;
use super::settings::{self, PROPERTIES, Settings};
use super::streaming::Session;
use super::{errors, formats};
use crate::av;
use crate::elements::log::Category;
use crate::elements::pad_task::PadTask;
use crate::elements::qos::Lateness;
use crate::elements::{pad_templates, property_lock};

pub(super) static CAT: Category = Category::new("vxkeyframedec", "Keyframe decoder over FFmpeg");

/// State from start to stop.
#[derive(Default)]
pub(super) struct State {
    /// Mode of the sink pad; `None` while it is inactive.
    pub mode: Option<gst::PadMode>,
    /// Access units arrive, not the bytes of a file.
    pub is_elementary: bool,
    pub playback: Playback,
    pub duration: Option<gst::ClockTime>,
    /// Stream time of the last output frame.
    pub position: Option<gst::ClockTime>,
    pub seqnum: Option<gst::Seqnum>,
    /// Whether the opened file is seekable.
    pub is_seekable: bool,
    /// Another stream came before this one on the same pad. Elements that concatenate streams (concat) do not pass byte seeks across
    /// them.
    pub is_follower: bool,
    /// Running time after the last output frame: a stream that follows on the same pad continues there.
    pub running_end: gst::ClockTime,
    /// The message that the processor decodes instead of a device was posted.
    pub has_reported_fallback: bool,
    pub stats: Stats,
}

/// Contents of the property `stats`.
#[derive(Default, Clone)]
pub(super) struct Stats {
    pub info: Option<av::Info>,
    pub counts: av::Counts,
    pub bytes_read: u64,
    /// Length of the input, where upstream knows it.
    pub bytes: Option<u64>,
    /// In push mode.
    pub upstream_stats: Option<UpstreamStats>,
    /// The device that decodes.
    pub hardware: Option<String>,
    /// Missing or incomplete parts of the file, in words.
    pub problems: Vec<String>,
    /// Keyframes in the container's index.
    pub indexed_keyframes: Option<u64>,
    pub open_time: gst::ClockTime,
    pub push_time: gst::ClockTime,
}

pub struct KeyframeDec {
    pub(super) sinkpad: gst::Pad,
    pub(super) srcpad: gst::Pad,
    task: PadTask,
    pub(super) settings: Mutex<Settings>,
    pub(super) state: Mutex<State>,
    pub(super) session: Mutex<Option<Session>>,
    /// The elementary stream on the sink pad.
    pub(super) elementary: Mutex<Option<ElementaryStream>>,
    pub(super) lateness: Lateness,
    pub(super) interrupt: av::Interrupt,
    pub(super) queue: Arc<ByteQueue>,
    /// Frame memory, reused from file to file.
    pub(super) pool: av::FramePool,
}

#[glib::object_subclass]
impl ObjectSubclass for KeyframeDec {
    const NAME: &'static str = "GstVxKeyframeDec";
    type Type = super::KeyframeDec;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let template = class.pad_template("sink").expect("declared in pad_templates");
        let sinkpad = gst::Pad::builder_from_template(&template)
            .activate_function(|pad, parent| {
                let failed = || Err(gst::loggable_error!(CAT, "Panic while activating"));
                Self::catch_panic_pad_function(parent, failed, |imp| imp.sink_activate(pad))
            })
            .activatemode_function(|_pad, parent, mode, active| {
                let failed = || Err(gst::loggable_error!(CAT, "Panic while activating"));
                Self::catch_panic_pad_function(parent, failed, |imp| imp.sink_activate_mode(mode, active))
            })
            .chain_function(|_pad, parent, buffer| {
                let failed = || Err(gst::FlowError::Error);
                Self::catch_panic_pad_function(parent, failed, |imp| {
                    if imp.is_elementary() {
                        return imp.elementary_chain(&buffer);
                    }
                    imp.queue.push(buffer).map(|()| gst::FlowSuccess::Ok)
                })
            })
            .event_function(|_pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.sink_event(event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.sink_query(pad, query))
            })
            .build();
        let template = class.pad_template("src").expect("declared in pad_templates");
        let srcpad = gst::Pad::builder_from_template(&template)
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.src_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.src_query(pad, query))
            })
            .build();
        Self {
            sinkpad,
            srcpad,
            task: PadTask::default(),
            settings: Mutex::default(),
            state: Mutex::default(),
            session: Mutex::default(),
            elementary: Mutex::default(),
            lateness: Lateness::default(),
            interrupt: av::Interrupt::default(),
            queue: Arc::default(),
            pool: av::FramePool::default(),
        }
    }
}

impl ObjectImpl for KeyframeDec {
    fn constructed(&self) {
        self.parent_constructed();
        self.obj().add_pad(&self.sinkpad).expect("a new element has no pad of this name");
        self.obj().add_pad(&self.srcpad).expect("a new element has no pad of this name");
    }

    fn properties() -> &'static [glib::ParamSpec] {
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if !property_lock::rejects_change(&*self.obj(), pspec) {
            self.settings.lock().set(pspec.name(), value);
            // The property has an alias: notify handlers of both names.
            if let Some(alias) = settings::alias_of(pspec.name()) {
                self.obj().notify(alias);
            }
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let setting = self.settings.lock().get(pspec.name());
        setting.unwrap_or_else(|| self.state.lock().stats.to_structure().to_value())
    }
}

impl GstObjectImpl for KeyframeDec {}

impl ElementImpl for KeyframeDec {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Keyframe decoder",
                "Codec/Demuxer/Decoder/Video",
                "Decodes the keyframes of any media file that FFmpeg supports, reading little else",
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
            let frames = gst_video::VideoCapsBuilder::new().format_list(formats::FORMATS.iter().copied()).build();
            pad_templates::sink_and_src(&gst::Caps::new_any(), &frames)
        });
        TEMPLATES.as_ref()
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => {
                if let Err(error) = av::check_version() {
                    errors::post(self, &error, None);
                    return Err(gst::StateChangeError);
                }
            }
            gst::StateChange::ReadyToPaused => self.reset(),
            // Before the pads are deactivated, which waits for the streaming task.
            gst::StateChange::PausedToReady => self.interrupt_waits(),
            _ => {}
        }
        let result = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            let session = self.session.lock().take();
            drop(session);
            let elementary = self.elementary.lock().take();
            drop(elementary);
            self.queue.reset();
        }
        if transition == gst::StateChange::ReadyToNull {
            self.pool.clear();
        }
        Ok(result)
    }
}

impl KeyframeDec {
    /// Interrupts every wait of the streaming task.
    pub(super) fn interrupt_waits(&self) {
        self.interrupt.set();
        self.queue.flush();
    }

    /// Prepares for a new stream.
    pub(super) fn reset(&self) {
        let session = self.session.lock().take();
        drop(session);
        let elementary = self.elementary.lock().take();
        drop(elementary);
        self.lateness.reset();
        let mut state = self.state.lock();
        *state = State { mode: state.mode, ..State::default() };
        drop(state);
        self.queue.reset();
        self.interrupt.clear();
    }

    fn sink_activate(&self, pad: &gst::Pad) -> Result<(), gst::LoggableError> {
        let mut query = gst::query::Scheduling::new();
        let pulls = pad.peer_query(&mut query)
            && query.has_scheduling_mode_with_flags(gst::PadMode::Pull, gst::SchedulingFlags::SEEKABLE);
        let mode = if pulls { gst::PadMode::Pull } else { gst::PadMode::Push };
        gst::debug!(CAT, imp = self, "upstream {} random access", if pulls { "offers" } else { "does not offer" });
        pad.activate_mode(mode, true).map_err(Into::into)
    }

    fn sink_activate_mode(&self, mode: gst::PadMode, active: bool) -> Result<(), gst::LoggableError> {
        if active {
            self.state.lock().mode = Some(mode);
            self.start_task()
        } else {
            self.interrupt_waits();
            let stopped = self.task.stop(self.task_pad());
            self.state.lock().mode = None;
            stopped.map_err(|_| gst::loggable_error!(CAT, "The streaming task cannot be stopped"))
        }
    }

    /// Returns the pad whose task does the work: in pull mode the sink pad, as in demuxers; in push mode the source pad, since
    /// upstream's thread holds the sink pad's stream lock.
    pub(super) fn task_pad(&self) -> &gst::Pad {
        if self.state.lock().mode == Some(gst::PadMode::Pull) { &self.sinkpad } else { &self.srcpad }
    }

    fn start_task(&self) -> Result<(), gst::LoggableError> {
        let element = self.obj().downgrade();
        let started = self.task.start(self.task_pad(), move || {
            if let Some(element) = element.upgrade() {
                element.imp().iterate();
            }
        });
        started.map_err(|error| gst::loggable_error!(CAT, "{error}"))
    }

    /// Events come from upstream in push mode only.
    fn sink_event(&self, event: gst::Event) -> bool {
        use gst::EventView;
        if self.is_elementary() {
            return self.elementary_event(event);
        }
        match event.view() {
            EventView::StreamStart(_) => self.begin_next_stream(),
            EventView::Segment(segment) if self.begins_elementary(segment) => self.elementary_event(event),
            EventView::Eos(_) => {
                self.queue.end();
                true
            }
            EventView::FlushStart(_) if self.queue.handle_own_flush(true) => true,
            EventView::FlushStop(_) if self.queue.handle_own_flush(false) => true,
            EventView::FlushStart(_) => {
                let passed_on = self.srcpad.push_event(event);
                self.interrupt_waits();
                let paused = self.srcpad.pause_task();
                passed_on && paused.is_ok()
            }
            EventView::FlushStop(_) => {
                // When its stream lock is free, the task has finished its iteration.
                drop(self.srcpad.stream_lock());
                let passed_on = self.srcpad.push_event(event);
                self.reset();
                self.start_task().is_ok() && passed_on
            }
            // Caps, segment and tags of the byte stream are not forwarded: the frames get their own.
            _ => true,
        }
    }

    /// Handles a new stream on the sink pad: a previous one is first output to its end.
    fn begin_next_stream(&self) -> bool {
        if !self.queue.has_begun() {
            return true;
        }
        gst::debug!(CAT, imp = self, "another stream begins");
        if !self.queue.end_and_wait() {
            return false;
        }
        let running_end = self.state.lock().running_end;
        // When its stream lock is free, the task has finished its iteration.
        drop(self.srcpad.stream_lock());
        self.reset();
        {
            let mut state = self.state.lock();
            state.running_end = running_end;
            state.is_follower = true;
            state.playback.continue_at(gst::ClockTime::ZERO, running_end);
        }
        self.start_task().is_ok()
    }

    fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Seek(seek) if !self.is_elementary() => self.seek(seek),
            gst::EventView::Qos(qos) => {
                self.lateness.record(qos);
                gst::Pad::event_default(pad, Some(&*self.obj()), event)
            }
            _ => gst::Pad::event_default(pad, Some(&*self.obj()), event),
        }
    }

    fn seek(&self, seek: &gst::event::Seek) -> bool {
        let mut playback = {
            let state = self.state.lock();
            if state.mode != Some(gst::PadMode::Pull) && !state.is_seekable {
                drop(state);
                gst::warning!(CAT, imp = self, "seek rejected: upstream has no random access");
                return false;
            }
            let mut playback = state.playback.clone();
            if let Err(reason) = playback.apply(seek, state.duration) {
                drop(state);
                gst::warning!(CAT, imp = self, "seek rejected: {reason}");
                return false;
            }
            playback
        };
        let flush = seek.get().1.contains(gst::SeekFlags::FLUSH);
        let seqnum = seek.seqnum();
        let task_pad = self.task_pad().clone();
        let pulls = task_pad == self.sinkpad;
        if flush {
            if pulls {
                // The task may wait in pull_range.
                self.sinkpad.push_event(gst::event::FlushStart::builder().seqnum(seqnum).build());
            }
            self.srcpad.push_event(gst::event::FlushStart::builder().seqnum(seqnum).build());
            self.interrupt.set();
            self.queue.interrupt();
        }
        let _ = task_pad.pause_task();
        let round_ended = task_pad.stream_lock();
        self.interrupt.clear();
        self.queue.resume();
        if flush {
            if pulls {
                self.sinkpad.push_event(gst::event::FlushStop::builder(true).seqnum(seqnum).build());
            }
            self.srcpad.push_event(gst::event::FlushStop::builder(true).seqnum(seqnum).build());
        }
        gst::info!(CAT, imp = self, "seek to {:?}", playback.segment);
        {
            let mut state = self.state.lock();
            // The task may have advanced while it was being stopped; the new segment counts.
            std::mem::swap(&mut state.playback, &mut playback);
            state.seqnum = Some(seqnum);
        }
        drop(round_ended);
        self.start_task().is_ok()
    }

    fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        use gst::QueryViewMut;
        match query.view_mut() {
            QueryViewMut::Caps(query) => {
                let caps = elementary::sink_caps(query.filter());
                query.set_result(&caps);
                true
            }
            // Caps that do not fit are reported with advice when the stream begins.
            QueryViewMut::AcceptCaps(query) => {
                query.set_result(true);
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        use gst::QueryViewMut;
        // Times of an elementary stream are upstream's.
        if self.is_elementary() {
            return gst::Pad::query_default(pad, Some(&*self.obj()), query);
        }
        match query.view_mut() {
            QueryViewMut::Position(query) if query.format() == gst::Format::Time => {
                let Some(position) = self.state.lock().position else { return false };
                query.set(position);
                true
            }
            QueryViewMut::Duration(query) if query.format() == gst::Format::Time => {
                let Some(duration) = self.state.lock().duration else { return false };
                query.set(duration);
                true
            }
            QueryViewMut::Seeking(query) if query.format() == gst::Format::Time => {
                let (seekable, duration) = {
                    let state = self.state.lock();
                    (state.mode == Some(gst::PadMode::Pull) || state.is_seekable, state.duration)
                };
                query.set(seekable, gst::ClockTime::ZERO, duration);
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }
}

impl Stats {
    pub(super) fn to_structure(&self) -> gst::Structure {
        let counts = self.counts;
        let mut stats = gst::Structure::builder("vxkeyframedec-stats")
            .field("frames", counts.frames)
            .field("keyframes", counts.frames - counts.between)
            .field("skipped-keyframes", counts.skipped)
            .field("key-packets", counts.key_packets)
            .field("dropped-packets", counts.dropped_packets)
            .field("damaged", counts.damaged)
            .field("corrupted", counts.corrupt)
            .field("missing-keyframes", counts.missing)
            .field("bytes-read", self.bytes_read)
            .field("keyframe-bytes", counts.key_bytes)
            .field("open-time", self.open_time)
            .field("lock-wait-time", nanoseconds(counts.lock_times.waited))
            .field("lock-hold-time", nanoseconds(counts.lock_times.held))
            .field("read-time", nanoseconds(counts.read_time))
            .field("decode-time", nanoseconds(counts.decode_time))
            .field("push-time", self.push_time);
        stats = stats.field_if_some("indexed-keyframes", self.indexed_keyframes);
        stats = stats.field_if_some("bytes", self.bytes);
        if let Some(UpstreamStats { bytes_received, seeks }) = self.upstream_stats {
            stats = stats.field("bytes-received", bytes_received).field("upstream-seeks", seeks);
        }
        if !self.problems.is_empty() {
            stats = stats.field("problems", gst::Array::new(&self.problems));
        }
        if let Some(info) = &self.info {
            let (threads, thread_type) = info.threads;
            stats = stats
                .field_if_some("duration", info.duration_ns)
                .field("container", &info.container)
                .field("codec", &info.codec)
                .field("decoder", &info.decoder)
                .field("stream-index", info.stream_index)
                .field("threads", threads)
                .field("thread-type", thread_type)
                .field("hardware", self.hardware.as_deref().unwrap_or("none"));
        }
        stats.build()
    }
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
