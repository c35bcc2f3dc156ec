// SPDX-License-Identifier: MIT OR Apache-2.0
//! The streaming task of `vxkeyframedec`: open, read, push, end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::byte_queue::WaitLimit;
use super::imp::{CAT, KeyframeDec};
use super::output::{FrameOutput, OutputError};
use super::pull::PullSource;
use super::segment::{Seek, Snap, Timeline};
use super::settings::Orientation;
use super::{errors, push};
use crate::av;
use crate::elements::error_details::post_error;
use crate::elements::stages::{self, FrameStage};
use crate::elements::{container_time, gst_launch, top_level, upstream};

/// Damaged packets that get a warning on the bus; further ones are only logged, so that a badly damaged file does not flood the bus.
pub(super) const MAX_WARNINGS: u64 = 20;

/// Consecutive interruptions without a cause before they are an error.
const MAX_SPURIOUS_INTERRUPTS: u32 = 100;

/// An opened file and the task's progress in it.
pub(super) struct Session {
    reader: av::KeyframeReader,
    output: FrameOutput,
    location: Option<String>,
    timeline: Option<Timeline>,
    /// A seek whose first frame has not come yet.
    seek: Option<Seek>,
    /// The keyframe before the position of a seek to the nearest, and the frames after it, until it is clear which is nearer.
    held: Vec<av::Keyframe>,
    has_sent_stream_start: bool,
    needs_segment: bool,
    /// The next frame does not follow the last one.
    is_discontinuous: bool,
    warnings: u64,
    /// Times of the last output frame.
    last: Option<Last>,
    /// The segment sent last.
    segment: gst::FormattedSegment<gst::ClockTime>,
    /// The container's time at stream time zero, as sent downstream.
    sent_origin_ns: Option<i64>,
    /// Consecutive reads that were interrupted without a cause.
    spurious_interrupts: u32,
}

/// The last output frame.
#[derive(Clone, Copy)]
struct Last {
    container_ns: i64,
    pts: gst::ClockTime,
    duration: gst::ClockTime,
}

/// Why the task stops.
enum Stop {
    /// Flush or state change: its initiator restarts the task if it is to continue.
    Interrupted,
    /// All frames were output.
    Eos,
    /// The input failed.
    Input(av::Error),
    /// A frame could not be output.
    Output(OutputError),
    /// Downstream's flow return.
    Downstream(gst::FlowError),
}

impl From<av::Error> for Stop {
    fn from(error: av::Error) -> Self {
        match error {
            av::Error::Interrupted => Self::Interrupted,
            error => Self::Input(error),
        }
    }
}

impl From<OutputError> for Stop {
    fn from(error: OutputError) -> Self {
        Self::Output(error)
    }
}

impl KeyframeDec {
    /// Runs one iteration of the task: at most one frame.
    pub(super) fn iterate(&self) {
        let session = self.session.lock().take();
        let session = match session {
            Some(session) => Ok(session),
            None => self.open(),
        };
        let stop = match session {
            Ok(mut session) => {
                let mut result = self.advance(&mut session);
                if matches!(result, Err(Stop::Interrupted)) && !self.is_stopping() {
                    session.spurious_interrupts += 1;
                    result = if session.spurious_interrupts < MAX_SPURIOUS_INTERRUPTS {
                        gst::warning!(CAT, imp = self, "reading was interrupted without a cause: continuing");
                        Ok(())
                    } else {
                        Err(Stop::Input(av::Error::Source("reading was interrupted repeatedly without a cause".into())))
                    };
                } else {
                    session.spurious_interrupts = 0;
                }
                let location = session.location.clone();
                // After a failure of the input the session is dropped: a restart opens the file again.
                if !matches!(result, Err(Stop::Input(_))) {
                    *self.session.lock() = Some(session);
                }
                result.err().map(|stop| (stop, location))
            }
            Err(stop) => Some((stop, self.location())),
        };
        if let Some((stop, location)) = stop {
            self.stop(stop, location.as_deref());
        }
    }

    /// Whether a flush, a seek or a state change stops the task.
    fn is_stopping(&self) -> bool {
        let is_flushing = |pad: &gst::Pad| pad.pad_flags().contains(gst::PadFlags::FLUSHING);
        self.interrupt.is_set()
            || self.queue.is_interrupted()
            || is_flushing(&self.srcpad)
            || is_flushing(&self.sinkpad)
            || self.task_pad().task_state() != gst::TaskState::Started
    }

    /// Returns a sink that writes FFmpeg's lines to the debug log, where the program has captured them.
    pub(super) fn ffmpeg_log(&self, location: Option<&String>) -> av::LogSink {
        let element = self.obj().downgrade();
        let location = location.cloned().unwrap_or_default();
        av::LogSink::new(move |line| {
            if let Some(element) = element.upgrade() {
                gst::debug!(CAT, obj = element, "{location}: FFmpeg: {line}");
            }
        })
    }

    /// Returns path or URI of the input, where known.
    pub(super) fn location(&self) -> Option<String> {
        let start = self.sinkpad.sticky_event::<gst::event::StreamStart>(0);
        upstream::location(&self.sinkpad, start.as_ref().map(|start| start.stream_id()))
    }

    fn open(&self) -> Result<Session, Stop> {
        let started = Instant::now();
        let settings = self.settings.lock().clone();
        let pulls = self.state.lock().mode == Some(gst::PadMode::Pull);
        let mut source: Box<dyn av::ByteSource> = if pulls {
            Box::new(PullSource::new(self.sinkpad.clone(), settings.io_timeout()))
        } else {
            let element = self.obj().downgrade();
            let wait_limit = WaitLimit {
                limit: settings.io_timeout(),
                // Live sources deliver nothing in a paused pipeline.
                is_idle_allowed: Arc::new(move || element.upgrade().is_some_and(|element| is_paused(&element))),
            };
            let may_seek = !self.state.lock().is_follower;
            push::open(&self.sinkpad, &self.queue, may_seek, settings.spool_limit, &wait_limit)
                .map_err(av::Error::from)?
        };
        self.state.lock().stats.bytes = source.size();
        let location = self.location();
        let log = self.ffmpeg_log(location.as_ref());
        let reader = av::KeyframeReader::open(source, &settings.to_options(&self.pool, log), self.interrupt.clone())?;
        let open_time = started.elapsed();
        stages::report(None, &[(FrameStage::Open, open_time)]);
        let info = reader.info().clone();
        let is_seekable = reader.is_seekable();
        gst::info!(
            CAT,
            imp = self,
            "opened {}: {}, stream {}, decoder {} with {} threads ({}), hardware {}",
            info.container,
            info.codec,
            info.stream_index,
            info.decoder,
            info.threads.0,
            info.threads.1,
            reader.device().unwrap_or("none")
        );
        let choice =
            if settings.stream_index < 0 { "the first default one or the only one" } else { "as set by stream-index" };
        gst::debug!(CAT, imp = self, "streams: {}; stream {} selected: {choice}", info.streams, info.stream_index);
        {
            let mut state = self.state.lock();
            state.duration = info.duration_ns.map(gst::ClockTime::from_nseconds);
            state.is_seekable = is_seekable;
            state.stats.open_time = clock_time(open_time);
            state.stats.info = Some(info);
        }
        Ok(Session {
            reader,
            output: FrameOutput::new(&self.pool),
            location,
            timeline: None,
            seek: None,
            held: Vec::new(),
            has_sent_stream_start: false,
            needs_segment: true,
            is_discontinuous: true,
            warnings: 0,
            last: None,
            segment: gst::FormattedSegment::new(),
            sent_origin_ns: None,
            spurious_interrupts: 0,
        })
    }

    fn advance(&self, session: &mut Session) -> Result<(), Stop> {
        let seek = self.state.lock().playback.seek.take();
        if let Some(seek) = seek {
            let timeline =
                *session.timeline.get_or_insert_with(|| Timeline { origin_ns: session.reader.start_ns().unwrap_or(0) });
            session.reader.seek(timeline.container_ns(seek.position))?;
            session.needs_segment = true;
            session.is_discontinuous = true;
            session.last = None;
            session.held.clear();
            session.seek = Some(seek);
        }
        session.reader.set_min_interval(self.settings.lock().min_interval);
        let step = session.reader.next();
        let upstream_stats = self.queue.upstream_stats();
        {
            let mut state = self.state.lock();
            state.stats.upstream_stats = (state.mode == Some(gst::PadMode::Push)).then_some(upstream_stats);
            state.stats.counts = session.reader.counts();
            state.stats.bytes_read = session.reader.bytes_read();
            state.stats.hardware = session.reader.device().map(str::to_owned);
            state.stats.problems = session.reader.problems();
            state.stats.indexed_keyframes = session.reader.indexed_keyframes();
        }
        self.report_fallback(session);
        match step? {
            av::Step::Keyframe(keyframe) => {
                let ready = nearest(session, keyframe);
                ready.into_iter().try_for_each(|keyframe| self.push_keyframe(session, keyframe))
            }
            av::Step::Damaged { pts_ns, reason } => {
                self.report_damage(session, pts_ns, "was skipped", &reason);
                Ok(())
            }
            av::Step::Notice(text) => {
                let file = session.location.as_deref().unwrap_or("the stream");
                gst::element_imp_warning!(self, gst::StreamError::Demux, ("{file}: {text}"));
                Ok(())
            }
            av::Step::End => {
                let held = std::mem::take(&mut session.held);
                held.into_iter().try_for_each(|keyframe| self.push_keyframe(session, keyframe))?;
                Err(Stop::Eos)
            }
        }
    }

    fn push_keyframe(&self, session: &mut Session, keyframe: av::Keyframe) -> Result<(), Stop> {
        let (pts_ns, duration_ns) = (keyframe.pts_ns, keyframe.duration_ns);
        let (bytes, is_keyframe) = (keyframe.packet_bytes, keyframe.is_keyframe);
        let (read_time, decode_time) = (keyframe.read_time, keyframe.decode_time);
        let duration = duration_ns.map(gst::ClockTime::from_nseconds);
        let mut timeline = *session.timeline.get_or_insert_with(|| {
            let starts = [session.reader.start_ns(), pts_ns].into_iter().flatten();
            Timeline { origin_ns: starts.min().unwrap_or(0) }
        });
        let went_back = session.last.zip(pts_ns).filter(|(last, ns)| *ns < last.container_ns).map(|(last, _)| last);
        if went_back.is_some() {
            // A recording in which times start over may start over below its beginning.
            timeline.origin_ns = timeline.origin_ns.min(pts_ns.unwrap_or(timeline.origin_ns));
            session.timeline = Some(timeline);
        }
        let stream_time = pts_ns.map(|ns| timeline.stream_time(ns));
        if !self.is_wanted(session, stream_time, duration)? {
            session.reader.allow_one_more();
            return Ok(());
        }
        if self.srcpad.check_reconfigure() {
            session.output.renegotiate();
        }
        if keyframe.frame.is_corrupt() {
            let reason = "the decoder found errors in this keyframe and concealed them";
            self.report_damage(session, pts_ns, "was concealed", reason);
        }
        let orientation = self.settings.lock().orientation;
        let rotation = keyframe.rotation;
        let output = session.output.prepare(&self.srcpad, keyframe, session.reader.info(), orientation)?;
        if !session.has_sent_stream_start {
            self.push_stream_start();
        }
        if let Some(caps) = output.new_caps {
            gst::info!(CAT, imp = self, "caps {caps}");
            if !self.srcpad.push_event(gst::event::Caps::new(&caps))
                && self.srcpad.pad_flags().contains(gst::PadFlags::FLUSHING)
            {
                return Err(Stop::Interrupted);
            }
        }
        if let (Some(last), Some(time)) = (went_back, stream_time) {
            // Running time continues as if the frame followed the last one.
            let end = session.segment.to_running_time(last.pts).unwrap_or_default() + last.duration;
            self.state.lock().playback.continue_at(time, end);
            (session.needs_segment, session.is_discontinuous) = (true, true);
        }
        if std::mem::take(&mut session.needs_segment) {
            session.segment = self.push_segment(timeline);
        }
        if session.sent_origin_ns.replace(timeline.origin_ns) != Some(timeline.origin_ns) {
            self.srcpad.push_event(container_time::event(timeline.origin_ns));
        }
        if !std::mem::replace(&mut session.has_sent_stream_start, true) {
            let orientation = (orientation == Orientation::Stored).then_some(rotation.tag());
            self.srcpad.push_event(gst::event::Tag::new(tags(session.reader.info(), orientation)));
        }
        let outputs_every_frame = session.reader.info().is_intra_only && self.settings.lock().min_interval == 0;
        let mut buffer = session.output.fit_layout(&self.srcpad, output.buffer)?;
        let pts = stream_time.map(|time| time + timeline.buffer_time_at_zero());
        if let (Some(pts), Some(container_ns)) = (pts, pts_ns) {
            session.last = Some(Last { container_ns, pts, duration: duration.unwrap_or_default() });
        }
        {
            let buffer = buffer.make_mut();
            buffer.set_pts(pts);
            // A frame's own duration is not how long it is shown where the frames after it are skipped.
            buffer.set_duration(duration.filter(|_| outputs_every_frame));
            if std::mem::take(&mut session.is_discontinuous) {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
        }
        let kind = if is_keyframe { "keyframe" } else { "frame between keyframes" };
        gst::debug!(CAT, imp = self, "{kind} at {}: {bytes} bytes, decoded in {decode_time:.1?}", pts.display());
        let started = Instant::now();
        let pushed = self.srcpad.push(buffer);
        let push_time = started.elapsed();
        if is_keyframe {
            stages::report(pts, &[(FrameStage::Read, read_time), (FrameStage::Decode, decode_time)]);
        }
        stages::report(pts, &[(FrameStage::PushFrame, push_time)]);
        {
            let mut state = self.state.lock();
            state.stats.push_time += clock_time(push_time);
            state.position = stream_time.or(state.position);
            let running_time = pts.and_then(|pts| session.segment.to_running_time(pts));
            if let Some(running_time) = running_time {
                state.running_end = running_time + duration.unwrap_or_default();
            }
        }
        pushed.map(|_| ()).map_err(Stop::Downstream)
    }

    /// Whether a frame lies in the segment that is played; ends the stream after it.
    fn is_wanted(
        &self,
        session: &mut Session,
        time: Option<gst::ClockTime>,
        duration: Option<gst::ClockTime>,
    ) -> Result<bool, Stop> {
        let Some(time) = time else { return Ok(true) };
        if let Some(seek) = &session.seek {
            let before = if seek.key_unit {
                seek.snap == Snap::After && time < seek.position
            } else {
                time + duration.unwrap_or_default() <= seek.position && time < seek.position
            };
            if before {
                return Ok(false);
            }
        }
        let starts_here = session.seek.take().is_some_and(|seek| seek.key_unit);
        let stop = {
            let mut state = self.state.lock();
            if starts_here {
                state.playback.start_at(time);
            }
            state.playback.segment.stop()
        };
        if stop.is_some_and(|stop| time >= stop) { Err(Stop::Eos) } else { Ok(true) }
    }

    fn push_stream_start(&self) {
        let from_upstream = self.sinkpad.sticky_event::<gst::event::StreamStart>(0);
        let group = from_upstream.and_then(|event| event.group_id()).unwrap_or_else(gst::GroupId::next);
        let id = self.srcpad.create_stream_id(&*self.obj(), Some("video"));
        let seqnum = self.seqnum();
        self.srcpad.push_event(gst::event::StreamStart::builder(&id).group_id(group).seqnum(seqnum).build());
    }

    fn push_segment(&self, timeline: Timeline) -> gst::FormattedSegment<gst::ClockTime> {
        let segment = {
            let mut state = self.state.lock();
            let duration = state.duration;
            state.playback.segment.set_duration(duration);
            state.playback.to_buffer_time(timeline)
        };
        let seqnum = self.seqnum();
        gst::debug!(CAT, imp = self, "{segment:?}");
        self.srcpad.push_event(gst::event::Segment::builder(&segment).seqnum(seqnum).build());
        segment
    }

    /// Returns the sequence number of the last seek, or one for this run of the stream.
    fn seqnum(&self) -> gst::Seqnum {
        *self.state.lock().seqnum.get_or_insert_with(gst::Seqnum::next)
    }

    /// Posts once that the processor decodes although a device was requested.
    fn report_fallback(&self, session: &Session) {
        let Some(reason) = session.reader.fallback_reason() else { return };
        if !std::mem::replace(&mut self.state.lock().has_reported_fallback, true) {
            let file = session.location.as_deref().unwrap_or("the stream");
            gst::element_imp_info!(
                self,
                gst::LibraryError::Init,
                ("{file}: decoded by the processor, because no device can decode it"),
                // gst-launch-1.0 prints this instead of the line above.
                ["{file}: decoded by the processor, because no device can decode it: {reason}"]
            );
        }
    }

    fn report_damage(&self, session: &mut Session, pts_ns: Option<i64>, outcome: &str, reason: &str) {
        let file = session.location.as_deref().unwrap_or("the stream");
        let at = pts_ns.map_or_else(String::new, |ns| format!(" at {:.3} s", ns as f64 / 1e9));
        self.warn_of_damage(&mut session.warnings, &format!("{file}: damaged data{at} {outcome}"), reason);
    }

    /// Logs what was damaged, and warns of it unless there were too many warnings already; counts them.
    pub(super) fn warn_of_damage(&self, warnings: &mut u64, text: &str, reason: &str) {
        gst::warning!(CAT, imp = self, "{text}: {reason}");
        *warnings += 1;
        if *warnings <= MAX_WARNINGS {
            let more = if *warnings == MAX_WARNINGS { "; further ones are only logged" } else { "" };
            gst::element_imp_warning!(self, gst::StreamError::Decode, ("{text}{more}"), ["{reason}"]);
        }
    }

    fn stop(&self, stop: Stop, location: Option<&str>) {
        let _ = self.task_pad().pause_task();
        let file = location.unwrap_or("the stream");
        let is_error = !matches!(
            stop,
            Stop::Interrupted | Stop::Eos | Stop::Downstream(gst::FlowError::Flushing | gst::FlowError::Eos)
        );
        if is_error {
            gst_launch::wait_for_main_loop(&*self.obj(), || self.interrupt.is_set());
        }
        match stop {
            Stop::Interrupted | Stop::Downstream(gst::FlowError::Flushing) => {
                gst::debug!(CAT, imp = self, "interrupted");
                return;
            }
            Stop::Eos | Stop::Downstream(gst::FlowError::Eos) => {
                let stats = self.state.lock().stats.to_structure();
                gst::info!(CAT, imp = self, "end of {file}: {stats}");
            }
            Stop::Input(error) => errors::post(self, &error, location),
            Stop::Output(error) => self.report_output_error(error, file),
            Stop::Downstream(gst::FlowError::NotLinked) => post_error!(
                self,
                gst::CoreError::Pad,
                file: file,
                "vxkeyframedec's source pad is not linked. Link a sink, for example fakesink".to_owned(),
                String::new()
            ),
            Stop::Downstream(gst::FlowError::NotNegotiated) => post_error!(
                self,
                gst::CoreError::Negotiation,
                file: file,
                "an element after vxkeyframedec does not accept its frames. Add videoconvert after vxkeyframedec".to_owned(),
                String::new()
            ),
            Stop::Downstream(error) => post_error!(
                self,
                gst::StreamError::Failed,
                file: file,
                "stopped because an element after vxkeyframedec failed (see its own message)".to_owned(),
                format!("flow return {error:?}")
            ),
        }
        self.queue.reject_input();
        self.end_stream(is_error);
    }

    /// Posts why a frame could not be output.
    pub(super) fn report_output_error(&self, error: OutputError, file: &str) {
        match error {
            OutputError::Caps { offered, accepted } => post_error!(
                self,
                gst::CoreError::Negotiation,
                file: file,
                format!("downstream accepts no format that {offered} frames can be converted to. Add `videoconvert ! videoscale` after vxkeyframedec"),
                format!("downstream accepts {accepted}")
            ),
            OutputError::Frame(reason) => post_error!(
                self,
                gst::StreamError::Decode,
                file: file,
                format!("a frame cannot be output: {reason}"),
                String::new()
            ),
        }
    }

    /// Sends the end of the stream or segment.
    fn end_stream(&self, is_error: bool) {
        let seqnum = self.seqnum();
        if self.srcpad.sticky_event::<gst::event::StreamStart>(0).is_none() {
            self.push_stream_start();
        }
        let (segment, duration, last) = {
            let state = self.state.lock();
            (state.playback.segment.clone(), state.duration, state.position)
        };
        let segment_done = segment.flags().contains(gst::SegmentFlags::SEGMENT) && !is_error;
        // The end of the segment, not of its last frame: there the next segment of a loop begins.
        let position = segment.stop().or(duration).or(last);
        if self.queue.finish() && !is_error {
            gst::debug!(CAT, imp = self, "another stream follows");
        } else if segment_done {
            let position = gst::GenericFormattedValue::from(position);
            let message = gst::message::SegmentDone::builder(position).src(&*self.obj()).seqnum(seqnum).build();
            let _ = self.obj().post_message(message);
            self.srcpad.push_event(gst::event::SegmentDone::builder(position).seqnum(seqnum).build());
        } else {
            self.srcpad.push_event(gst::event::Eos::builder().seqnum(seqnum).build());
        }
    }
}

/// Returns the frames to output after `keyframe` was read: after a seek to the nearest keyframe none until it is clear which that is.
fn nearest(session: &mut Session, keyframe: av::Keyframe) -> Vec<av::Keyframe> {
    let wanted = session.seek.as_ref().filter(|seek| seek.key_unit && seek.snap == Snap::Nearest);
    let (Some(position), Some(timeline)) = (wanted.map(|seek| seek.position), session.timeline) else {
        return vec![keyframe];
    };
    let time_of = |keyframe: &av::Keyframe| keyframe.pts_ns.map(|ns| timeline.stream_time(ns));
    let Some(time) = time_of(&keyframe) else { return vec![keyframe] };
    let before = session.held.first().and_then(time_of);
    if time < position {
        if keyframe.is_keyframe {
            session.held.drain(..).for_each(|_| session.reader.allow_one_more());
        }
        session.held.push(keyframe);
        return Vec::new();
    }
    let is_decided = match before {
        // The one before is as near.
        Some(before) if time - position >= position - before => true,
        _ if keyframe.is_keyframe => {
            session.held.drain(..).for_each(|_| session.reader.allow_one_more());
            true
        }
        _ => false,
    };
    session.held.push(keyframe);
    if is_decided { std::mem::take(&mut session.held) } else { Vec::new() }
}

fn is_paused(element: &super::KeyframeDec) -> bool {
    let top = top_level(element);
    top.current_state() == gst::State::Paused && top.pending_state() == gst::State::VoidPending
}

pub(super) fn clock_time(duration: Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn tags(info: &av::Info, orientation: Option<&str>) -> gst::TagList {
    let mut tags = gst::TagList::new();
    let merge = gst::TagMergeMode::Append;
    let list = tags.make_mut();
    list.add::<gst::tags::ContainerFormat>(&info.container.as_str(), merge);
    list.add::<gst::tags::VideoCodec>(&info.codec.as_str(), merge);
    if let Some(title) = &info.title {
        list.add::<gst::tags::Title>(&title.as_str(), merge);
    }
    if let Some(orientation) = orientation {
        list.add::<gst::tags::ImageOrientation>(&orientation, merge);
    }
    tags
}
