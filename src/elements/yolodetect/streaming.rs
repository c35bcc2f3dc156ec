// SPDX-License-Identifier: MIT OR Apache-2.0
//! The path of frames through `vxyolodetect`: submitted by upstream's thread, pushed in order by the source pad's task. No lock is
//! held while a frame is mapped, while the engine is called, or while anything is pushed, posted or queried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::frame::MappedFrame;
use super::frame_selection::{Selection, thumbnail};
use super::imp::{CAT, YoloDetect};
use super::messages;
use super::queue::{Item, PushFailure, Taken};
use crate::detect::Frame as _;
use crate::elements::buffer_layout;
use crate::elements::detector::MODEL_DETAILS;
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
    buffer: gst::Buffer,
    wait: Wait,
    info: gst_video::VideoInfo,
    labels: Arc<detect::Labels>,
}

/// Source of a frame's detections.
enum Wait {
    /// None: it has no picture, or is skipped.
    Nothing,
    /// The frame before.
    Before,
    /// The engine, for each selected part.
    Engine(Vec<Part>),
}

/// A part of a frame in the engine.
struct Part {
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
}

impl YoloDetect {
    /// Submits a frame and queues it, on upstream's thread.
    pub(super) fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let info = self.info.lock().clone();
        let Some(info) = info else {
            gst::element_imp_error!(self, gst::CoreError::Negotiation, ("a frame came before its caps"));
            return Err(gst::FlowError::NotNegotiated);
        };
        self.sync_controlled(&buffer);
        let tools = self.ready.lock().as_ref().map(|ready| {
            (ready.engine.clone(), Arc::clone(&ready.detect), Arc::clone(&ready.labels), ready.max_inflight)
        });
        let Some((engine, settings, labels, most)) = tools else { return Err(gst::FlowError::Flushing) };
        self.queue.wait_for_room(most)?;
        let wait = match self.select(&buffer, &info) {
            Selection::Skip => Wait::Nothing,
            Selection::Repeat => Wait::Before,
            Selection::Detect(areas) => {
                let mut parts = Vec::with_capacity(areas.len());
                for area in areas {
                    let frame = MappedFrame::new(buffer.clone(), &info, area).map_err(|error| self.failed(&error))?;
                    let corner = area.map_or([0.0; 2], |area| [area.x as f32, area.y as f32]);
                    let is_open = || !self.queue.is_closed();
                    let ticket = engine.submit_while(Box::new(frame), Arc::clone(&settings), is_open);
                    parts.push(Part { ticket, corner });
                }
                Wait::Engine(parts)
            }
        };
        let pending = Pending { buffer, wait, info, labels };
        self.queue.put_frame(pending).map(|()| gst::FlowSuccess::Ok)
    }

    /// Updates controlled properties to the time of `buffer`.
    fn sync_controlled(&self, buffer: &gst::BufferRef) {
        let element = self.obj();
        if !element.has_active_control_bindings() {
            return;
        }
        let segment = self.segment.lock().clone();
        let time = buffer.pts().zip(segment).and_then(|(pts, segment)| segment.to_stream_time(pts));
        if let Some(time) = time
            && let Err(error) = element.sync_values(time)
        {
            gst::debug!(CAT, imp = self, "controlled properties have no value at {time}: {error}");
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
            Some(Taken { item: Item::Frame(pending), is_dropped: true }) => {
                drop(pending);
                self.queue.frame_done(None);
            }
            Some(Taken { item: Item::Frame(pending), is_dropped: false }) => {
                let refused = match self.complete(pending) {
                    Ok(buffer) => self.push(buffer).err().map(|flow| PushFailure { flow, is_reported: false }),
                    Err(flow) => Some(PushFailure { flow, is_reported: true }),
                };
                if let Some(flow) = self.queue.frame_done(refused) {
                    self.report(flow);
                }
            }
        }
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

    /// Waits for a frame's detections and attaches them. Returns the buffer in a layout that downstream reads.
    fn complete(&self, pending: Pending) -> Result<gst::Buffer, gst::FlowError> {
        let Pending { mut buffer, wait, info, labels } = pending;
        let (has_result, is_looked_at) = (!matches!(wait, Wait::Nothing), matches!(wait, Wait::Engine(_)));
        let detections = match wait {
            Wait::Nothing => Vec::new(),
            Wait::Before => std::mem::take(&mut self.output.lock().last),
            Wait::Engine(parts) => self.collect(parts, &buffer)?,
        };
        // Also without detections: an empty analytics meta shows that; without a meta overlays keep the last detections.
        if has_result {
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
        if self.takes_video_meta() {
            return Ok(buffer);
        }
        buffer_layout::default_layout(buffer, &info).map_err(|error| {
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

    /// Waits for the engine and combines its detections, by descending confidence.
    fn collect(&self, parts: Vec<Part>, buffer: &gst::BufferRef) -> Result<Vec<detect::Detection>, gst::FlowError> {
        let mut detections = Vec::new();
        let is_combined = parts.len() > 1;
        for Part { ticket, corner } in parts {
            let result = ticket.wait_while(|| !self.queue.is_closed()).map_err(|error| self.failed(&error))?;
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
        Ok(detections)
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
