//! The way of frames through `vxyolodetect`: submitted by upstream's thread, pushed in order by the source pad's task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::{Condvar, Mutex};

use super::frame::MappedFrame;
use super::imp::{CAT, YoloDetect};
use super::scope::{Look, thumbnail};
use crate::detect::Frame as _;
use crate::elements::layout;
use crate::{detect, meta};

/// What `stats` sums up.
#[derive(Debug, Default, Clone)]
pub(super) struct Counts {
    pub frames: u64,
    /// Pictures that the model looked at: all frames, unless some are left out or several parts of one are seen.
    pub looks: u64,
    pub detections: u64,
    pub queued: Duration,
    pub prepare: Duration,
    pub infer: Duration,
    pub decode: Duration,
    pub push: Duration,
}

/// What travels from the sink pad to the source pad, in order.
pub(super) enum Item {
    Frame(Pending),
    Event(gst::Event),
}

/// A frame whose detections are awaited.
pub(super) struct Pending {
    buffer: gst::Buffer,
    wait: Wait,
    info: gst_video::VideoInfo,
    labels: Arc<detect::Labels>,
}

/// Where a frame's detections come from.
enum Wait {
    /// It gets none: it has no picture, or is not looked at.
    Nothing,
    /// The frame before.
    Before,
    /// The engine, for each part that is looked at: with the place of its left upper corner in the frame.
    Engine(Vec<(detect::Ticket, [f32; 2])>),
}

/// Items between the two pads, bounded by the number of frames.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    items: VecDeque<Item>,
    frames: usize,
    /// The task works on an item that it has taken out.
    busy: bool,
    flushing: bool,
    /// What downstream last answered.
    flow: Result<gst::FlowSuccess, gst::FlowError>,
    info: Option<gst_video::VideoInfo>,
    /// Whether downstream reads GstVideoMeta.
    takes_video_meta: bool,
}

impl Default for Queue {
    fn default() -> Self {
        let state = State {
            items: VecDeque::new(),
            frames: 0,
            busy: false,
            flushing: true,
            flow: Ok(gst::FlowSuccess::Ok),
            info: None,
            takes_video_meta: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl Queue {
    /// Forgets what is in it and ends every wait, until [`open`](Self::open).
    pub fn flush(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.flushing = true;
            state.frames = 0;
            std::mem::take(&mut state.items)
        };
        self.changed.notify_all();
        drop(dropped);
    }

    /// Takes items again.
    pub fn open(&self) {
        let mut state = self.state.lock();
        state.flushing = false;
        state.flow = Ok(gst::FlowSuccess::Ok);
    }

    /// A new stream: what downstream answered to the last one counts no more.
    pub fn restart(&self) {
        self.state.lock().flow = Ok(gst::FlowSuccess::Ok);
    }

    pub fn set_info(&self, info: gst_video::VideoInfo) {
        self.state.lock().info = Some(info);
    }

    pub fn info(&self) -> Option<gst_video::VideoInfo> {
        self.state.lock().info.clone()
    }

    /// Adds an item, whatever room there is.
    ///
    /// # Errors
    /// `Flushing`, or what downstream last answered.
    pub fn put(&self, item: Item) -> Result<(), gst::FlowError> {
        let mut state = self.state.lock();
        if state.flushing {
            return Err(gst::FlowError::Flushing);
        }
        state.flow?;
        state.frames += usize::from(matches!(item, Item::Frame(_)));
        state.items.push_back(item);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until fewer than `most` frames are inside.
    fn wait_for_room(&self, most: usize) -> Result<(), gst::FlowError> {
        let mut state = self.state.lock();
        loop {
            if state.flushing {
                return Err(gst::FlowError::Flushing);
            }
            state.flow?;
            if state.frames < most.max(1) {
                return Ok(());
            }
            self.changed.wait(&mut state);
        }
    }

    /// Waits until everything inside was pushed; false if flushed meanwhile.
    pub fn wait_until_empty(&self) -> bool {
        let mut state = self.state.lock();
        while (!state.items.is_empty() || state.busy) && !state.flushing && state.flow.is_ok() {
            self.changed.wait(&mut state);
        }
        !state.flushing
    }

    /// The next item; `None` when flushed.
    fn take(&self) -> Option<Item> {
        let mut state = self.state.lock();
        loop {
            if state.flushing {
                return None;
            }
            if let Some(item) = state.items.pop_front() {
                state.busy = true;
                return Some(item);
            }
            self.changed.wait(&mut state);
        }
    }

    /// The item taken last is dealt with.
    fn done(&self, was_frame: bool, flow: Result<gst::FlowSuccess, gst::FlowError>) {
        let dropped = {
            let mut state = self.state.lock();
            state.busy = false;
            if was_frame {
                state.frames = state.frames.saturating_sub(1);
            }
            state.flow = flow;
            if flow.is_err() { std::mem::take(&mut state.items) } else { VecDeque::new() }
        };
        self.changed.notify_all();
        drop(dropped);
    }
}

impl YoloDetect {
    /// Upstream's thread: submits a frame and queues it.
    pub(super) fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Some(info) = self.queue.info() else {
            gst::element_imp_error!(self, gst::CoreError::Negotiation, ("a frame came before its caps"));
            return Err(gst::FlowError::NotNegotiated);
        };
        let (engine, settings, labels, most) = {
            let ready = self.ready.lock();
            let Some(ready) = &*ready else { return Err(gst::FlowError::Flushing) };
            (ready.engine.clone(), Arc::clone(&ready.detect), Arc::clone(&ready.labels), ready.max_inflight)
        };
        self.queue.wait_for_room(most)?;
        let has_picture = buffer.size() > 0 && !buffer.flags().contains(gst::BufferFlags::GAP);
        let look = if has_picture {
            let coarse = || MappedFrame::new(buffer.clone(), &info, None).ok()?.picture().ok().map(|p| thumbnail(&p));
            self.scope.lock().look(&self.settings.lock(), &buffer, &info, coarse)
        } else {
            Look::Away
        };
        let wait = match look {
            Look::Away => Wait::Nothing,
            Look::AsBefore => Wait::Before,
            Look::At(areas) => {
                let mut tickets = Vec::with_capacity(areas.len());
                for area in areas {
                    let frame = MappedFrame::new(buffer.clone(), &info, area).map_err(|error| self.failed(&error))?;
                    let corner = area.map_or([0.0; 2], |area| [area.x as f32, area.y as f32]);
                    tickets.push((engine.submit(Box::new(frame), Arc::clone(&settings)), corner));
                }
                Wait::Engine(tickets)
            }
        };
        let pending = Pending { buffer, wait, info, labels };
        self.queue.put(Item::Frame(pending)).map(|()| gst::FlowSuccess::Ok)
    }

    /// One round of the source pad's task: one item.
    pub(super) fn iterate(&self) {
        let Some(item) = self.queue.take() else {
            let _ = self.srcpad.pause_task();
            return;
        };
        match item {
            Item::Frame(pending) => {
                let flow = self.push(pending);
                self.queue.done(true, flow);
                if let Err(error) = flow {
                    gst::debug!(CAT, imp = self, "downstream answered {error:?}");
                    let _ = self.srcpad.pause_task();
                }
            }
            Item::Event(event) => {
                let is_eos = event.type_() == gst::EventType::Eos;
                let is_caps = event.type_() == gst::EventType::Caps;
                self.srcpad.push_event(event);
                if is_caps && let Some(caps) = self.srcpad.current_caps() {
                    let takes = layout::takes_video_meta(&self.srcpad, &caps);
                    self.queue.state.lock().takes_video_meta = takes;
                }
                self.queue.done(false, if is_eos { Err(gst::FlowError::Eos) } else { Ok(gst::FlowSuccess::Ok) });
                if is_eos {
                    let _ = self.srcpad.pause_task();
                }
            }
        }
    }

    fn push(&self, pending: Pending) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Pending { mut buffer, wait, info, labels } = pending;
        let is_seen = !matches!(wait, Wait::Nothing);
        let detections = match wait {
            Wait::Nothing => Vec::new(),
            Wait::Before => std::mem::take(&mut *self.last.lock()),
            Wait::Engine(tickets) => self.collect(tickets, &buffer)?,
        };
        // Also where nothing was found: an empty analytics meta says that, where none makes overlays go on with the last.
        if is_seen {
            let kinds = self.settings.lock().meta.kinds();
            meta::write(buffer.make_mut(), &detections, &labels, (info.width(), info.height()), kinds);
            self.counts.lock().detections += detections.len() as u64;
        }
        *self.last.lock() = detections;
        let takes_video_meta = self.queue.state.lock().takes_video_meta;
        if !takes_video_meta {
            buffer = layout::default_layout(buffer, &info).map_err(|error| {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Format,
                    ("a frame cannot be copied for downstream: {error}")
                );
                gst::FlowError::Error
            })?;
        }
        let started = Instant::now();
        let flow = self.srcpad.push(buffer);
        let mut counts = self.counts.lock();
        counts.frames += 1;
        counts.push += started.elapsed();
        flow
    }

    /// Waits for the engine and puts together what it found, by falling confidence.
    fn collect(
        &self,
        tickets: Vec<(detect::Ticket, [f32; 2])>,
        buffer: &gst::BufferRef,
    ) -> Result<Vec<detect::Detection>, gst::FlowError> {
        let mut detections = Vec::new();
        let parts = tickets.len();
        for (ticket, corner) in tickets {
            let result = ticket.wait().map_err(|error| self.failed(&error))?;
            gst::log!(
                CAT,
                imp = self,
                "{} detections on {:?}; queued {:?}, prepared {:?}, inferred {:?}, decoded {:?}",
                result.detections.len(),
                buffer.pts(),
                result.queued,
                result.prepare,
                result.infer,
                result.decode
            );
            if let Some(complaint) = &result.warning {
                self.warn_of_outputs(complaint);
            }
            {
                let mut counts = self.counts.lock();
                counts.looks += 1;
                counts.queued += result.queued;
                counts.prepare += result.prepare;
                counts.infer += result.infer;
                counts.decode += result.decode;
            }
            detections.extend(result.detections.into_iter().map(|found| found.moved(corner)));
        }
        if parts > 1 {
            detections.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        }
        Ok(detections)
    }

    fn warn_of_outputs(&self, complaint: &str) {
        let model = self.ready.lock().as_ref().map(|ready| ready.engine.model().source.clone()).unwrap_or_default();
        gst::element_imp_warning!(
            self,
            gst::StreamError::Decode,
            ("{model}: {complaint}. The model may be broken, or not be read as it should be: see GST_DEBUG=vxyolodetect:4")
        );
    }

    fn failed(&self, error: &detect::Error) -> gst::FlowError {
        match error {
            detect::Error::EngineClosed => gst::FlowError::Flushing,
            detect::Error::Picture { .. } => {
                gst::element_imp_error!(self, gst::StreamError::Format, ("{error}"), ["{error:?}"]);
                gst::FlowError::Error
            }
            _ => {
                gst::element_imp_error!(self, gst::StreamError::Failed, ("{error}"), ["{error:?}"]);
                gst::FlowError::Error
            }
        }
    }
}
