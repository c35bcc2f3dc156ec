// SPDX-License-Identifier: MIT OR Apache-2.0
//! The path of frames through `vxyolodetect`: submitted by upstream's thread, pushed in order by the source pad's task. No lock is
//! held while a frame is mapped, while the engine is called, or while anything is pushed, posted or queried.
//!
//! Where frames may not wait for the detector (see pacing.rs), a frame for which the engine has no room is queued as a candidate. When
//! the engine has room again, the task submits the newest candidate, and those before it pass.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::frame::MappedFrame;
use super::frame_selection::{FrameSelector, Selection, thumbnail};
use super::imp::{CAT, YoloDetect};
use super::messages;
use super::pacing::{Policy, most_held};
use super::queue::{Item, Newest, PushFailure, Taken};
use crate::detect::{Area, Frame as _};
use crate::elements::buffer_layout;
use crate::elements::controlled;
use crate::elements::error_details::MODEL_DETAILS;
use crate::elements::error_details::post_error;
use crate::elements::stages::{self, FrameStage};
use crate::{detect, meta};

/// Sums for `stats`.
#[derive(Debug, Default, Clone)]
pub(super) struct Counts {
    pub frames: u64,
    /// Inference runs: one per frame, unless frames are skipped or several parts of one are selected.
    pub looks: u64,
    pub detections: u64,
    /// Frames that passed without inference since the model had no room for them.
    pub skipped: u64,
    /// Frames that passed without inference, or without its result, since they would have been late.
    pub late: u64,
    /// Frames that were dropped for one of these reasons.
    pub dropped: u64,
    pub queued: Duration,
    pub prepare: Duration,
    pub infer: Duration,
    pub decode: Duration,
    pub push: Duration,
    /// Inference runs by width and height of the model's input.
    pub input_sizes: Vec<((usize, usize), u64)>,
}

impl Counts {
    fn count_input_size(&mut self, size: (usize, usize)) {
        match self.input_sizes.iter_mut().find(|(known, _)| *known == size) {
            Some((_, count)) => *count += 1,
            None => self.input_sizes.push((size, 1)),
        }
    }
}

/// A frame that waits for its detections.
pub(super) struct Pending {
    pub buffer: gst::Buffer,
    pub wait: Wait,
    pub info: gst_video::VideoInfo,
    labels: Arc<detect::Labels>,
    arrival: Instant,
    /// Identifies it in the queue, which sets it.
    pub number: u64,
}

/// Source of a frame's detections.
pub(super) enum Wait {
    /// None: it has no picture, or is skipped.
    Nothing,
    /// The frame before.
    Before,
    /// The engine, for each selected part.
    Engine(Vec<Part>),
    /// The engine, as soon as it has room.
    Room(Box<Candidate>),
}

/// What inference would run on.
pub(super) struct Candidate {
    areas: Vec<Option<Area>>,
    arrival: Instant,
    /// The selector's state after this frame.
    selector: FrameSelector,
}

/// A part of a frame in the engine.
pub(super) struct Part {
    ticket: detect::Ticket,
    /// Its top left corner in the frame.
    corner: [f32; 2],
}

/// State of the source pad's task.
#[derive(Default)]
pub(super) struct OutputState {
    /// Detections of the last frame.
    last: Vec<detect::Detection>,
    /// Whether downstream reads GstVideoMeta; `None` where that must be queried.
    takes_video_meta: Option<bool>,
    /// Frames were dropped since the last one that was pushed.
    is_after_gap: bool,
    /// Frames in a row that left before their result; there is a warning after a few.
    late_in_a_row: u32,
}

/// Frames in a row that leave before their result until a warning is posted.
const LATE_UNTIL_WARNING: u32 = 3;

/// What a frame is submitted with.
struct Tools {
    engine: detect::Engine,
    settings: Arc<detect::DetectSettings>,
    labels: Arc<detect::Labels>,
    /// Most frames in the element where frames wait.
    max_inflight: usize,
}

impl Part {
    fn new(ticket: detect::Ticket, area: Option<Area>) -> Self {
        Self { ticket, corner: area.map_or([0.0; 2], |area| [area.x as f32, area.y as f32]) }
    }
}

impl YoloDetect {
    fn tools(&self) -> Option<Tools> {
        let ready = self.ready.lock();
        ready.as_ref().map(|ready| Tools {
            engine: ready.engine.clone(),
            settings: Arc::clone(&ready.detect),
            labels: Arc::clone(&ready.labels),
            max_inflight: ready.max_inflight,
        })
    }

    /// Returns what happens to frames that the detector has no time for.
    pub(super) fn policy(&self) -> Policy {
        let when_late = self.settings.lock().when_late;
        self.pacing.policy(when_late)
    }

    /// Submits a frame and queues it, on upstream's thread.
    pub(super) fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let info = self.info.lock().clone();
        let Some(info) = info else {
            gst::element_imp_error!(self, gst::CoreError::Negotiation, ("a frame came before its caps"));
            return Err(gst::FlowError::NotNegotiated);
        };
        self.sync_controlled(&buffer);
        let Some(tools) = self.tools() else { return Err(gst::FlowError::Flushing) };
        let policy = self.policy();
        let wait = match policy {
            Policy::Block => {
                self.queue.wait_for_room(tools.max_inflight)?;
                self.wait_for_inference(&tools, &buffer, &info)?
            }
            Policy::Skip | Policy::Drop => match self.wait_in_time(policy, &tools, &buffer, &info)? {
                Some(wait) => wait,
                None => {
                    self.counts.lock().dropped += 1;
                    return self.queue.put_gap().map(|()| gst::FlowSuccess::Ok);
                }
            },
        };
        let pending = Pending { buffer, wait, info, labels: tools.labels, arrival: Instant::now(), number: 0 };
        self.queue.put_frame(pending).map(|()| gst::FlowSuccess::Ok)
    }

    /// Selects and submits a frame, however long that takes.
    fn wait_for_inference(
        &self,
        tools: &Tools,
        buffer: &gst::Buffer,
        info: &gst_video::VideoInfo,
    ) -> Result<Wait, gst::FlowError> {
        let areas = match self.select(buffer, info) {
            Selection::Skip => return Ok(Wait::Nothing),
            Selection::Repeat => return Ok(Wait::Before),
            Selection::Detect(areas) => areas,
        };
        let mut parts = Vec::with_capacity(areas.len());
        for area in areas {
            let frame = MappedFrame::new(buffer.clone(), info, area).map_err(|error| self.failed(&error))?;
            let is_open = || !self.queue.is_closed();
            let ticket = tools.engine.submit_while(Box::new(frame), Arc::clone(&tools.settings), None, is_open);
            parts.push(Part::new(ticket, area));
        }
        Ok(Wait::Engine(parts))
    }

    /// Selects a frame, and submits it if the engine has room. Returns `None` if the frame is to be dropped.
    fn wait_in_time(
        &self,
        policy: Policy,
        tools: &Tools,
        buffer: &gst::Buffer,
        info: &gst_video::VideoInfo,
    ) -> Result<Option<Wait>, gst::FlowError> {
        let arrival = Instant::now();
        let most = if self.pacing.is_live() { most_held(info.size()) } else { 2 * self.most_in_engine(tools) + 1 };
        if policy == Policy::Drop && !self.queue.has_room(most) {
            return Ok(None);
        }
        self.queue.wait_for_room(most)?;
        let areas = match self.select(buffer, info) {
            Selection::Skip => return Ok(Some(Wait::Nothing)),
            Selection::Repeat => return Ok(Some(Wait::Before)),
            Selection::Detect(areas) => areas,
        };
        let segment = self.segment.lock().clone();
        let running_time = segment.zip(buffer.pts()).and_then(|(segment, pts)| segment.to_running_time(pts));
        if self.lateness.is_too_late(running_time) {
            *self.frame_selector.lock() = FrameSelector::default();
            if policy == Policy::Drop {
                return Ok(None);
            }
            self.counts.lock().late += 1;
            return Ok(Some(self.without_inference()));
        }
        if let Some(parts) = self.submit_in_time(tools, buffer, info, &areas, arrival)? {
            return Ok(Some(Wait::Engine(parts)));
        }
        if policy == Policy::Drop {
            let dropped = self.queue.drop_candidates();
            self.counts.lock().dropped += dropped;
        }
        // Inference does not run on it yet, so the frames that follow must not count as being like it.
        let selector = std::mem::take(&mut *self.frame_selector.lock());
        Ok(Some(Wait::Room(Box::new(Candidate { areas, arrival, selector }))))
    }

    /// Returns the source of detections for a frame that the detector has no time for.
    fn without_inference(&self) -> Wait {
        if self.settings.lock().carry_over { Wait::Before } else { Wait::Nothing }
    }

    /// Returns the most frames that this element may have in the engine where frames do not wait: more would only queue there.
    fn most_in_engine(&self, tools: &Tools) -> usize {
        let report = tools.engine.provider();
        let by_user = self.settings.lock().max_inflight as usize;
        let useful = (report.sessions * report.batch_size.max(1)).max(1);
        if by_user == 0 { useful } else { useful.min(by_user) }
    }

    /// Submits a frame that arrived at `arrival`, if the engine has room for it.
    fn submit_in_time(
        &self,
        tools: &Tools,
        buffer: &gst::Buffer,
        info: &gst_video::VideoInfo,
        areas: &[Option<Area>],
        arrival: Instant,
    ) -> Result<Option<Vec<Part>>, gst::FlowError> {
        let Some(look) = self.pacing.begin(arrival, self.most_in_engine(tools)) else { return Ok(None) };
        let mut parts = Vec::with_capacity(areas.len());
        for &area in areas {
            let frame = MappedFrame::new(buffer.clone(), info, area).map_err(|error| {
                look.fail();
                self.failed(&error)
            })?;
            let part_of = Arc::clone(&look);
            let on_answer: detect::OnAnswer = Box::new(move |is_ok| {
                if !is_ok {
                    part_of.fail();
                }
            });
            let (frame, settings) = (Box::new(frame), Arc::clone(&tools.settings));
            let ticket = if parts.is_empty() {
                let Some(ticket) = tools.engine.try_submit(frame, settings, on_answer) else { return Ok(None) };
                ticket
            } else {
                // There may be more parts than the engine's queue has room for.
                tools.engine.submit_while(frame, settings, Some(on_answer), || !self.queue.is_closed())
            };
            parts.push(Part::new(ticket, area));
        }
        Ok(Some(parts))
    }

    /// Submits the newest frame that waits for room in the engine, on the source pad's task.
    fn submit_newest(&self) -> Result<(), gst::FlowError> {
        let Some(tools) = self.tools() else { return Ok(()) };
        let Some(Newest { number, buffer, info, candidate }) = self.queue.newest_candidate() else { return Ok(()) };
        let parts = self.submit_in_time(&tools, &buffer, &info, &candidate.areas, candidate.arrival)?;
        let wait = match parts {
            Some(parts) => {
                self.frame_selector.lock().resume(candidate.selector);
                Wait::Engine(parts)
            }
            None => Wait::Room(candidate),
        };
        self.queue.set_wait(number, wait);
        Ok(())
    }

    /// Updates controlled properties to the time of `buffer`.
    fn sync_controlled(&self, buffer: &gst::BufferRef) {
        if let Err(reason) = controlled::sync(&*self.obj(), buffer, || self.segment.lock().clone()) {
            gst::debug!(CAT, imp = self, "{reason}");
        }
    }

    /// Selects the parts of a frame on which inference runs.
    fn select(&self, buffer: &gst::Buffer, info: &gst_video::VideoInfo) -> Selection {
        if buffer.size() == 0 {
            return Selection::Skip;
        }
        let settings = Arc::clone(&self.settings.lock());
        let coarse = || MappedFrame::new(buffer.clone(), info, None).ok()?.picture().ok().map(|p| thumbnail(&p));
        // Taken out of its lock, because the frame is mapped meanwhile. Only this thread uses it.
        let mut frame_selector = std::mem::take(&mut *self.frame_selector.lock());
        let look = frame_selector.select(&settings, buffer, info, coarse);
        *self.frame_selector.lock() = frame_selector;
        look
    }

    /// Queues an event after the frames that came before it, on upstream's thread.
    pub(super) fn put_event(&self, event: gst::Event) -> bool {
        let put = self.queue.put_event(event);
        if let Ok(Some(flow)) = put {
            self.report(flow);
        }
        put.is_ok()
    }

    /// Runs one iteration of the source pad's task: one item.
    pub(super) fn iterate(&self) {
        let submitted = self.submit_newest();
        self.announce_latency();
        match self.queue.take() {
            None => {
                let _ = self.srcpad.pause_task();
            }
            Some(Taken { item: Item::Event(event), .. }) => {
                match event.type_() {
                    gst::EventType::StreamStart => *self.output.lock() = OutputState::default(),
                    gst::EventType::Caps => self.output.lock().takes_video_meta = None,
                    gst::EventType::Eos => self.log_refused_size(),
                    _ => {}
                }
                self.srcpad.push_event(event);
                self.queue.event_done();
            }
            Some(Taken { item: Item::Gap, .. }) => {
                self.output.lock().is_after_gap = true;
                self.queue.event_done();
            }
            Some(Taken { item: Item::Frame(pending), is_dropped: true }) => {
                drop(pending);
                self.queue.frame_done(None);
            }
            Some(Taken { item: Item::Frame(pending), is_dropped: false }) => {
                let refused = match submitted.and_then(|()| self.complete(pending)) {
                    Ok(Some(buffer)) => self.push(buffer).err().map(|flow| PushFailure { flow, is_reported: false }),
                    Ok(None) => None,
                    Err(flow) => Some(PushFailure { flow, is_reported: true }),
                };
                if let Some(flow) = self.queue.frame_done(refused) {
                    self.report(flow);
                }
            }
        }
    }

    /// Posts that the latency has changed, so that the pipeline distributes it again.
    fn announce_latency(&self) {
        if let Some(latency) = self.pacing.changed_latency()
            && self.pacing.is_live()
            && self.policy() != Policy::Block
        {
            gst::info!(CAT, imp = self, "a frame takes up to {latency:?}: announcing this latency");
            self.post_latency();
        }
    }

    pub(super) fn post_latency(&self) {
        let _ = self.obj().post_message(gst::message::Latency::builder().src(&*self.obj()).build());
    }

    /// Posts that downstream accepts no frames, where upstream has ended and so cannot.
    fn report(&self, flow: gst::FlowError) {
        gst::element_imp_error!(
            self,
            gst::StreamError::Failed,
            ("frames cannot be pushed: downstream returned {flow:?}. Check that everything after vxyolodetect is linked and \
                 accepts its caps")
        );
    }

    /// Waits for a frame's detections and attaches them. Returns the buffer in a layout that downstream reads, or `None` if the frame
    /// is dropped.
    fn complete(&self, pending: Pending) -> Result<Option<gst::Buffer>, gst::FlowError> {
        let Pending { mut buffer, wait, info, labels, arrival, .. } = pending;
        let mut wait = wait;
        if matches!(wait, Wait::Room(_)) {
            if self.policy() == Policy::Drop {
                self.counts.lock().dropped += 1;
                self.output.lock().is_after_gap = true;
                return Ok(None);
            }
            self.skipped();
            wait = self.without_inference();
        }
        let mut inferred = None;
        if let Wait::Engine(parts) = wait {
            inferred = self.collect(parts, &buffer, arrival)?;
            wait = if inferred.is_some() { Wait::Nothing } else { self.without_inference() };
        }
        let is_looked_at = inferred.is_some();
        let detections = match wait {
            Wait::Before => Some(std::mem::take(&mut self.output.lock().last)),
            _ => inferred,
        };
        // Also without detections: an empty analytics meta shows that; without a meta overlays keep the last detections.
        if let Some(detections) = detections {
            let kinds = self.settings.lock().meta.into();
            let size = (info.width(), info.height());
            meta::write(buffer.make_mut(), &detections, &labels, size, kinds, is_looked_at);
            if is_looked_at {
                self.post_detections(&buffer, &info);
            }
            self.counts.lock().detections += detections.len() as u64;
            self.output.lock().last = detections;
        } else {
            meta::write_skipped(buffer.make_mut(), (info.width(), info.height()));
        }
        let is_after_gap = std::mem::take(&mut self.output.lock().is_after_gap);
        if is_after_gap {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        if self.takes_video_meta() {
            return Ok(Some(buffer));
        }
        buffer_layout::default_layout(buffer, &info).map(Some).map_err(|error| {
            gst::element_imp_error!(
                self,
                gst::StreamError::Format,
                ("a frame cannot be copied for downstream: {error}")
            );
            gst::FlowError::Error
        })
    }

    /// Posts the detections of a frame on the bus, on request.
    fn post_detections(&self, buffer: &gst::BufferRef, info: &gst_video::VideoInfo) {
        if !self.settings.lock().post_messages {
            return;
        }
        let segment = self.srcpad.sticky_event::<gst::event::Segment>(0);
        let segment = segment.as_ref().and_then(|segment| segment.segment().downcast_ref::<gst::ClockTime>());
        let structure = messages::detections(buffer, segment, info);
        let _ = self.obj().post_message(gst::message::Element::builder(structure).src(&*self.obj()).build());
    }

    /// Whether downstream reads GstVideoMeta. Queried after caps were sent and after downstream was relinked.
    fn takes_video_meta(&self) -> bool {
        let is_stale = self.srcpad.check_reconfigure();
        let known = self.output.lock().takes_video_meta.filter(|_| !is_stale);
        if let Some(takes) = known {
            return takes;
        }
        let takes = self.srcpad.current_caps().is_some_and(|caps| buffer_layout::takes_video_meta(&self.srcpad, &caps));
        self.output.lock().takes_video_meta = Some(takes);
        takes
    }

    fn push(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (started, pts) = (Instant::now(), buffer.pts());
        let flow = self.srcpad.push(buffer);
        let took = started.elapsed();
        stages::report(pts, &[(FrameStage::PushResult, took)]);
        {
            let mut counts = self.counts.lock();
            counts.frames += 1;
            counts.push += took;
        }
        if let Err(error) = flow {
            gst::debug!(CAT, imp = self, "downstream returned {error:?}");
        }
        flow
    }

    /// Counts a frame that passes since the model has no room for it.
    fn skipped(&self) {
        let skipped = {
            let mut counts = self.counts.lock();
            counts.skipped += 1;
            counts.skipped
        };
        if skipped == 1 {
            gst::info!(
                CAT,
                imp = self,
                "frames come faster than the model runs: inference runs on the newest, the others pass (see `skipped` in stats)"
            );
        }
    }

    /// Whether a frame that arrived at `arrival` must leave now, with or without its result.
    fn must_leave(&self, arrival: Instant) -> bool {
        self.pacing.is_live()
            && self.policy() == Policy::Skip
            && (self.queue.is_crowded() || arrival.elapsed() > self.pacing.longest_hold())
    }

    /// Counts a frame that leaves before its result.
    fn left_early(&self, arrival: Instant) {
        self.counts.lock().late += 1;
        let late_in_a_row = {
            let mut output = self.output.lock();
            output.late_in_a_row += 1;
            output.late_in_a_row
        };
        gst::debug!(CAT, imp = self, "no result after {:?}: the frame leaves without", arrival.elapsed());
        if late_in_a_row == LATE_UNTIL_WARNING {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                (
                    "the model is too slow for this live stream: a frame has no result after {:.1?} and can wait no longer, so that \
                     none gets its detections. Set when-late=drop, a smaller input-size, or optimize-for=latency, or use a smaller \
                     model",
                    arrival.elapsed()
                )
            );
        }
    }

    /// Waits for the engine and combines its detections, by descending confidence. Returns `None` if they came too late.
    fn collect(
        &self,
        parts: Vec<Part>,
        buffer: &gst::BufferRef,
        arrival: Instant,
    ) -> Result<Option<Vec<detect::Detection>>, gst::FlowError> {
        let mut detections = Vec::new();
        let is_combined = parts.len() > 1;
        for Part { ticket, corner } in parts {
            let has_left = Cell::new(false);
            let result = ticket.wait_while(|| {
                has_left.set(self.must_leave(arrival));
                !has_left.get() && !self.queue.is_closed()
            });
            let result = match result {
                Err(detect::Error::EngineClosed) if has_left.get() => {
                    self.left_early(arrival);
                    return Ok(None);
                }
                result => result.map_err(|error| self.failed(&error))?,
            };
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
            stages::report(
                buffer.pts(),
                &[
                    (FrameStage::Queue, result.queued),
                    (FrameStage::Prepare, result.prepare),
                    (FrameStage::Infer, result.infer),
                    (FrameStage::Outputs, result.decode),
                ],
            );
            {
                let mut counts = self.counts.lock();
                counts.looks += 1;
                counts.count_input_size(result.input_size);
                counts.queued += result.queued;
                counts.prepare += result.prepare;
                counts.infer += result.infer;
                counts.decode += result.decode;
            }
            detections.extend(result.detections.into_iter().map(|found| found.moved(corner)));
        }
        if is_combined {
            detections.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        }
        self.output.lock().late_in_a_row = 0;
        Ok(Some(detections))
    }

    /// Logs why the model ran at the size that it was exported for, if a smaller one was tried.
    fn log_refused_size(&self) {
        let engine = self.ready.lock().as_ref().map(|ready| ready.engine.clone());
        if let Some(engine) = engine
            && let Some(reason) = engine.stats().refused_size
        {
            gst::info!(CAT, imp = self, "{} runs at its exported input size: {reason}", engine.model().source);
        }
    }

    fn warn_of_outputs(&self, complaint: &str) {
        let model = self.ready.lock().as_ref().map(|ready| ready.engine.model().source.clone()).unwrap_or_default();
        gst::element_imp_warning!(
            self,
            gst::StreamError::Decode,
            (
                "{model}: {complaint}. The model may be broken, or its output misread: `vx inspect {model}` prints how it is \
                 read and why, with --try PICTURE also the alternatives; set model-layout, resize-mode, channel-order or \
                 input-range"
            ),
            details: gst::Structure::new_empty(MODEL_DETAILS)
        );
    }

    /// Posts an error of the engine and returns its flow.
    fn failed(&self, error: &detect::Error) -> gst::FlowError {
        let (reason, debug) = (error.to_string(), format!("{error:?}"));
        match error {
            detect::Error::EngineClosed => return gst::FlowError::Flushing,
            detect::Error::Picture { .. } => post_error!(self, gst::StreamError::Format, reason, debug),
            _ => post_error!(self, gst::StreamError::Failed, reason, debug),
        }
        gst::FlowError::Error
    }
}
