//! The way of frames through `vxyolodetect`: submitted by upstream's thread, pushed in order by the source pad's task. No lock is
//! held while a frame is mapped, while the engine is asked, or while anything is pushed, posted or queried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::frame::MappedFrame;
use super::imp::{CAT, YoloDetect};
use super::queue::{Item, Refusal, Taken};
use super::scope::{Look, thumbnail};
use crate::detect::Frame as _;
use crate::elements::detector::MODEL_DETAILS;
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

/// What the source pad's task knows of the frames before and of downstream.
#[derive(Default)]
pub(super) struct Outlet {
    /// Detections of the frame that was pushed last.
    last: Vec<detect::Detection>,
    /// Whether downstream reads GstVideoMeta; `None` where that has to be asked.
    takes_video_meta: Option<bool>,
}

impl YoloDetect {
    /// Upstream's thread: submits a frame and queues it.
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
        let wait = match self.look(&buffer, &info) {
            Look::Away => Wait::Nothing,
            Look::AsBefore => Wait::Before,
            Look::At(areas) => {
                let mut tickets = Vec::with_capacity(areas.len());
                for area in areas {
                    let frame = MappedFrame::new(buffer.clone(), &info, area).map_err(|error| self.failed(&error))?;
                    let corner = area.map_or([0.0; 2], |area| [area.x as f32, area.y as f32]);
                    let goes_on = || !self.queue.is_closed();
                    tickets.push((engine.submit_while(Box::new(frame), Arc::clone(&settings), goes_on), corner));
                }
                Wait::Engine(tickets)
            }
        };
        let pending = Pending { buffer, wait, info, labels };
        self.queue.put_frame(pending).map(|()| gst::FlowSuccess::Ok)
    }

    /// Gives properties that are controlled their values at the time of `buffer`.
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

    /// Decides which parts of a frame the model looks at.
    fn look(&self, buffer: &gst::Buffer, info: &gst_video::VideoInfo) -> Look {
        if buffer.size() == 0 {
            return Look::Away;
        }
        let settings = Arc::clone(&self.settings.lock());
        let coarse = || MappedFrame::new(buffer.clone(), info, None).ok()?.picture().ok().map(|p| thumbnail(&p));
        // Taken out, because the frame is mapped meanwhile. Only this thread has to do with it.
        let mut scope = std::mem::take(&mut *self.scope.lock());
        let look = scope.look(&settings, buffer, info, coarse);
        *self.scope.lock() = scope;
        look
    }

    /// Upstream's thread: queues an event behind the frames that came before it.
    pub(super) fn put_event(&self, event: gst::Event) -> bool {
        let put = self.queue.put_event(event);
        if let Ok(Some(flow)) = put {
            self.report(flow);
        }
        put.is_ok()
    }

    /// One round of the source pad's task: one item.
    pub(super) fn iterate(&self) {
        match self.queue.take() {
            None => {
                let _ = self.srcpad.pause_task();
            }
            Some(Taken { item: Item::Event(event), .. }) => {
                match event.type_() {
                    gst::EventType::StreamStart => *self.outlet.lock() = Outlet::default(),
                    gst::EventType::Caps => self.outlet.lock().takes_video_meta = None,
                    _ => {}
                }
                self.srcpad.push_event(event);
                self.queue.event_done();
            }
            Some(Taken { item: Item::Frame(pending), is_refused: true }) => {
                drop(pending);
                self.queue.frame_done(None);
            }
            Some(Taken { item: Item::Frame(pending), is_refused: false }) => {
                let refused = match self.complete(pending) {
                    Ok(buffer) => self.push(buffer).err().map(|flow| Refusal { flow, is_reported: false }),
                    Err(flow) => Some(Refusal { flow, is_reported: true }),
                };
                if let Some(flow) = self.queue.frame_done(refused) {
                    self.report(flow);
                }
            }
        }
    }

    /// Says that downstream takes no frames, where upstream has ended and so cannot.
    fn report(&self, flow: gst::FlowError) {
        gst::element_imp_error!(
            self,
            gst::StreamError::Failed,
            ("frames cannot be pushed: downstream returned {flow:?}. Check that everything after vxyolodetect is linked and \
                 accepts its caps")
        );
    }

    /// Waits for a frame's detections and puts them on it; the buffer as downstream takes it.
    fn complete(&self, pending: Pending) -> Result<gst::Buffer, gst::FlowError> {
        let Pending { mut buffer, wait, info, labels } = pending;
        let (is_seen, is_looked_at) = (!matches!(wait, Wait::Nothing), matches!(wait, Wait::Engine(_)));
        let detections = match wait {
            Wait::Nothing => Vec::new(),
            Wait::Before => std::mem::take(&mut self.outlet.lock().last),
            Wait::Engine(tickets) => self.collect(tickets, &buffer)?,
        };
        // Also where nothing was found: an empty analytics meta says that, where none makes overlays go on with the last.
        if is_seen {
            let kinds = self.settings.lock().meta.kinds();
            let size = (info.width(), info.height());
            meta::write(buffer.make_mut(), &detections, &labels, size, kinds, is_looked_at);
            self.counts.lock().detections += detections.len() as u64;
            self.outlet.lock().last = detections;
        } else {
            meta::write_unlooked(buffer.make_mut(), (info.width(), info.height()));
        }
        if self.takes_video_meta() {
            return Ok(buffer);
        }
        layout::default_layout(buffer, &info).map_err(|error| {
            gst::element_imp_error!(
                self,
                gst::StreamError::Format,
                ("a frame cannot be copied for downstream: {error}")
            );
            gst::FlowError::Error
        })
    }

    /// Whether downstream reads GstVideoMeta. Asked after caps were sent and after something else was linked.
    fn takes_video_meta(&self) -> bool {
        let is_stale = self.srcpad.check_reconfigure();
        let known = self.outlet.lock().takes_video_meta.filter(|_| !is_stale);
        if let Some(takes) = known {
            return takes;
        }
        let takes = self.srcpad.current_caps().is_some_and(|caps| layout::takes_video_meta(&self.srcpad, &caps));
        self.outlet.lock().takes_video_meta = Some(takes);
        takes
    }

    fn push(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let started = Instant::now();
        let flow = self.srcpad.push(buffer);
        let took = started.elapsed();
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

    /// Waits for the engine and puts together what it found, by falling confidence.
    fn collect(
        &self,
        tickets: Vec<(detect::Ticket, [f32; 2])>,
        buffer: &gst::BufferRef,
    ) -> Result<Vec<detect::Detection>, gst::FlowError> {
        let mut detections = Vec::new();
        let parts = tickets.len();
        for (ticket, corner) in tickets {
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
            (
                "{model}: {complaint}. The model may be broken, or be read in the wrong way: `vx inspect {model}` prints how it is \
                 read and why, with --try PICTURE also what else it could be; set model-layout, resize-mode, channel-order or \
                 input-range"
            ),
            details: gst::Structure::new_empty(MODEL_DETAILS)
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
