// SPDX-License-Identifier: MIT OR Apache-2.0
//! Items between the two pads of `vxyolodetect`: frames and serialized events in order, bounded by the number of frames.
//!
//! It behaves as GStreamer's own `queue`: once downstream has rejected a frame, frames are dropped and upstream gets the flow error, while
//! events still pass; a new stream resets that.
//!
//! Thread rule: one thread adds items (upstream's), one removes them (the source pad's task); any thread flushes.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use super::streaming::{Candidate, Pending, Wait};

/// An item on its way from the sink pad to the source pad.
#[expect(clippy::large_enum_variant, reason = "nearly all items are frames")]
pub(super) enum Item {
    Frame(Pending),
    /// Here frames were dropped.
    Gap,
    Event(gst::Event),
}

/// An item for the task.
pub(super) struct Taken {
    pub item: Item,
    /// Downstream accepts no frames: drop it if it is one.
    pub is_dropped: bool,
}

/// A frame that waits for room in the engine.
pub(super) struct Newest {
    /// Identifies it for [`Queue::set_wait`].
    pub number: u64,
    pub buffer: gst::Buffer,
    pub info: gst_video::VideoInfo,
    pub candidate: Box<Candidate>,
}

/// Why frames are no longer pushed.
#[derive(Debug, Clone, Copy)]
pub(super) struct PushFailure {
    pub flow: gst::FlowError,
    /// Reported to upstream or the application.
    pub is_reported: bool,
}

/// See the module.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    items: VecDeque<Item>,
    frames: usize,
    /// Number of the frame added last.
    last_number: u64,
    /// Upstream waits for room.
    is_crowded: bool,
    /// The task works on an item that it has removed.
    is_busy: bool,
    is_flushing: bool,
    /// Set while frames that the task removes are dropped.
    failure: Option<PushFailure>,
}

impl PushFailure {
    /// Whether `event` begins something that downstream may accept again. After the end of a segment, which
    /// [`gst::FlowError::Eos`] means, that is the next segment; after an error only a new stream.
    fn ends_with(self, event: &gst::Event) -> bool {
        match event.type_() {
            gst::EventType::StreamStart => true,
            gst::EventType::Segment => self.flow == gst::FlowError::Eos,
            _ => false,
        }
    }

    /// Whether the pipeline would hang if it were not reported.
    fn is_error(self) -> bool {
        !matches!(self.flow, gst::FlowError::Eos | gst::FlowError::Flushing)
    }
}

impl State {
    /// Returns why a frame that is added now would be dropped.
    fn failure_at_end(&mut self) -> Option<&mut PushFailure> {
        let failure = self.failure?;
        let ends = |item: &Item| matches!(item, Item::Event(event) if failure.ends_with(event));
        if self.items.iter().any(ends) { None } else { self.failure.as_mut() }
    }

    /// Adds a gap, unless the last item is one.
    fn put_gap(&mut self) {
        if !matches!(self.items.back(), Some(Item::Gap)) {
            self.items.push_back(Item::Gap);
        }
    }

    /// Removes the next item.
    fn next(&mut self) -> Option<Taken> {
        if self.is_flushing {
            return None;
        }
        let item = self.items.pop_front()?;
        self.is_busy = true;
        if let (Item::Event(event), Some(failure)) = (&item, self.failure)
            && failure.ends_with(event)
        {
            self.failure = None;
        }
        Some(Taken { item, is_dropped: self.failure.is_some() })
    }

    /// Returns the error that upstream does not get, since it pushes no more frames; it counts as reported from here on.
    fn take_unreported(&mut self) -> Option<gst::FlowError> {
        let is_eos = |item: &Item| matches!(item, Item::Event(event) if event.type_() == gst::EventType::Eos);
        let has_ended = self.items.iter().any(is_eos);
        let failure =
            self.failure.as_mut().filter(|failure| has_ended && failure.is_error() && !failure.is_reported)?;
        failure.is_reported = true;
        Some(failure.flow)
    }
}

impl Default for Queue {
    fn default() -> Self {
        let state = State {
            items: VecDeque::new(),
            frames: 0,
            last_number: 0,
            is_crowded: false,
            is_busy: false,
            is_flushing: true,
            failure: None,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl Queue {
    /// Interrupts every wait; nothing is added or removed until [`open`](Self::open).
    pub fn close(&self) {
        self.state.lock().is_flushing = true;
        self.changed.notify_all();
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.state.lock().is_flushing
    }

    /// Empties a closed queue. Returns the events that were in it, in order.
    pub fn drain(&self) -> Vec<gst::Event> {
        let items = {
            let mut state = self.state.lock();
            state.frames = 0;
            // An item that the task still works on is from before the flush.
            state.is_busy = false;
            state.failure = None;
            std::mem::take(&mut state.items)
        };
        let events = items.into_iter().filter_map(|item| match item {
            Item::Event(event) => Some(event),
            Item::Frame(_) | Item::Gap => None,
        });
        events.collect()
    }

    /// Accepts items again.
    pub fn open(&self) {
        self.state.lock().is_flushing = false;
    }

    /// Adds a frame; see [`wait_for_room`](Self::wait_for_room).
    ///
    /// # Errors
    /// `Flushing`, or downstream's flow return for the last frame.
    pub fn put_frame(&self, mut frame: Pending) -> Result<(), gst::FlowError> {
        let mut state = self.state.lock();
        Self::check(&mut state)?;
        state.frames += 1;
        state.last_number += 1;
        frame.number = state.last_number;
        state.items.push_back(Item::Frame(frame));
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Adds a gap in place of a frame.
    ///
    /// # Errors
    /// As [`put_frame`](Self::put_frame).
    pub fn put_gap(&self) -> Result<(), gst::FlowError> {
        let mut state = self.state.lock();
        Self::check(&mut state)?;
        state.put_gap();
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Replaces the frames that wait for room in the engine by gaps. Returns their number.
    pub fn drop_candidates(&self) -> u64 {
        let mut dropped = Vec::new();
        let mut state = self.state.lock();
        for item in &mut state.items {
            if matches!(item, Item::Frame(Pending { wait: Wait::Room(_), .. })) {
                dropped.push(std::mem::replace(item, Item::Gap));
            }
        }
        state.frames = state.frames.saturating_sub(dropped.len());
        drop(state);
        dropped.len() as u64
    }

    /// Takes the newest frame that waits for room in the engine, if there is one. The frame itself stays in the queue. Called by the
    /// thread that removes items.
    pub fn newest_candidate(&self) -> Option<Newest> {
        let mut state = self.state.lock();
        let mut frames = state.items.iter_mut().rev().filter_map(|item| match item {
            Item::Frame(frame) if matches!(frame.wait, Wait::Room(_)) => Some(frame),
            _ => None,
        });
        let frame = frames.next()?;
        let wait = std::mem::replace(&mut frame.wait, Wait::Nothing);
        let (number, buffer, info) = (frame.number, frame.buffer.clone(), frame.info.clone());
        drop(state);
        let Wait::Room(candidate) = wait else { return None };
        Some(Newest { number, buffer, info, candidate })
    }

    /// Sets what the frame `number` waits for, if it is still inside.
    pub fn set_wait(&self, number: u64, wait: Wait) {
        let mut state = self.state.lock();
        for item in state.items.iter_mut().rev() {
            if let Item::Frame(frame) = item
                && frame.number == number
            {
                frame.wait = wait;
                break;
            }
        }
        drop(state);
    }

    /// Whether upstream waits for room.
    pub fn is_crowded(&self) -> bool {
        self.state.lock().is_crowded
    }

    /// Whether fewer than `most` frames are inside.
    pub fn has_room(&self, most: usize) -> bool {
        self.state.lock().frames < most.max(1)
    }

    /// Adds an event. Returns an error of downstream that only this element can report.
    ///
    /// # Errors
    /// `Flushing`.
    pub fn put_event(&self, event: gst::Event) -> Result<Option<gst::FlowError>, gst::FlowError> {
        let mut state = self.state.lock();
        if state.is_flushing {
            return Err(gst::FlowError::Flushing);
        }
        state.items.push_back(Item::Event(event));
        let unreported = state.take_unreported();
        drop(state);
        self.changed.notify_all();
        Ok(unreported)
    }

    /// Waits until fewer than `most` frames are inside.
    ///
    /// # Errors
    /// As [`put_frame`](Self::put_frame).
    pub fn wait_for_room(&self, most: usize) -> Result<(), gst::FlowError> {
        let mut state = self.state.lock();
        let mut flow = Self::check(&mut state);
        while flow.is_ok() && state.frames >= most.max(1) {
            state.is_crowded = true;
            self.changed.wait(&mut state);
            flow = Self::check(&mut state);
        }
        state.is_crowded = false;
        drop(state);
        flow
    }

    /// Checks whether frames are accepted.
    fn check(state: &mut State) -> Result<(), gst::FlowError> {
        if state.is_flushing {
            return Err(gst::FlowError::Flushing);
        }
        match state.failure_at_end() {
            Some(failure) => {
                failure.is_reported = true;
                Err(failure.flow)
            }
            None => Ok(()),
        }
    }

    /// Waits until everything inside was pushed; false if flushed meanwhile.
    pub fn wait_until_empty(&self) -> bool {
        let mut state = self.state.lock();
        let is_at_work = |state: &mut State| !state.is_flushing && (state.is_busy || !state.items.is_empty());
        self.changed.wait_while(&mut state, is_at_work);
        !state.is_flushing
    }

    /// Waits for the next item; `None` when flushed.
    pub fn take(&self) -> Option<Taken> {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| !state.is_flushing && state.items.is_empty());
        state.next()
    }

    /// Marks the frame removed last as finished. Returns an error of downstream that only this element can report.
    pub fn frame_done(&self, failed: Option<PushFailure>) -> Option<gst::FlowError> {
        let mut state = self.state.lock();
        if !state.is_busy {
            return None;
        }
        state.is_busy = false;
        state.frames = state.frames.saturating_sub(1);
        state.failure = failed.or(state.failure);
        let unreported = state.take_unreported();
        drop(state);
        self.changed.notify_all();
        unreported
    }

    /// Marks the item removed last, which was not a frame, as finished.
    pub fn event_done(&self) {
        self.state.lock().is_busy = false;
        self.changed.notify_all();
    }

    /// Resets `NotLinked` when downstream is linked again.
    pub fn relinked(&self) {
        let mut state = self.state.lock();
        state.failure = state.failure.filter(|failure| failure.flow != gst::FlowError::NotLinked);
    }
}
