//! Items between the two pads of `vxyolodetect`: frames and serialized events in order, bounded by the number of frames.
//!
//! It behaves as GStreamer's own `queue`: once downstream has refused a frame, frames are dropped and upstream is told so, while
//! events still travel; a new stream makes frames flow again.
//!
//! Thread rule: one thread puts items in (upstream's), one takes them out (the source pad's task); any thread flushes.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use super::streaming::Pending;

/// What travels from the sink pad to the source pad.
pub(super) enum Item {
    Frame(Pending),
    Event(gst::Event),
}

/// An item that the task has to deal with.
pub(super) struct Taken {
    pub item: Item,
    /// Downstream takes no frames: drop it if it is one.
    pub is_refused: bool,
}

/// Why frames are not pushed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    pub flow: gst::FlowError,
    /// Upstream or the application knows of it.
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
    /// The task works on an item that it has taken out.
    is_busy: bool,
    is_flushing: bool,
    /// Frames that the task takes out now are dropped.
    refusal: Option<Refusal>,
}

impl Refusal {
    /// Whether `event` begins something that downstream may take again. After the end of a segment, which is what
    /// [`gst::FlowError::Eos`] says, that is the next segment; after an error only a new stream.
    fn ends_with(self, event: &gst::Event) -> bool {
        match event.type_() {
            gst::EventType::StreamStart => true,
            gst::EventType::Segment => self.flow == gst::FlowError::Eos,
            _ => false,
        }
    }

    /// Whether the pipeline would hang if nobody reported it.
    fn is_error(self) -> bool {
        !matches!(self.flow, gst::FlowError::Eos | gst::FlowError::Flushing)
    }
}

impl State {
    /// Why a frame that is put in now would be dropped.
    fn refusal_at_end(&mut self) -> Option<&mut Refusal> {
        let refusal = self.refusal?;
        let ends = |item: &Item| matches!(item, Item::Event(event) if refusal.ends_with(event));
        if self.items.iter().any(ends) { None } else { self.refusal.as_mut() }
    }

    /// Takes out the next item.
    fn next(&mut self) -> Option<Taken> {
        if self.is_flushing {
            return None;
        }
        let item = self.items.pop_front()?;
        self.is_busy = true;
        if let (Item::Event(event), Some(refusal)) = (&item, self.refusal)
            && refusal.ends_with(event)
        {
            self.refusal = None;
        }
        Some(Taken { item, is_refused: self.refusal.is_some() })
    }

    /// The error that upstream will not hear of, since it pushes no frame any more; it counts as reported from here on.
    fn take_unreported(&mut self) -> Option<gst::FlowError> {
        let is_eos = |item: &Item| matches!(item, Item::Event(event) if event.type_() == gst::EventType::Eos);
        let has_ended = self.items.iter().any(is_eos);
        let refusal =
            self.refusal.as_mut().filter(|refusal| has_ended && refusal.is_error() && !refusal.is_reported)?;
        refusal.is_reported = true;
        Some(refusal.flow)
    }
}

impl Default for Queue {
    fn default() -> Self {
        let state = State { items: VecDeque::new(), frames: 0, is_busy: false, is_flushing: true, refusal: None };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl Queue {
    /// Ends every wait; nothing is taken or given until [`open`](Self::open).
    pub fn close(&self) {
        self.state.lock().is_flushing = true;
        self.changed.notify_all();
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.state.lock().is_flushing
    }

    /// Empties a closed queue; the events that were in it, in order.
    pub fn drain(&self) -> Vec<gst::Event> {
        let items = {
            let mut state = self.state.lock();
            state.frames = 0;
            // What the task still has in its hands was before the flush.
            state.is_busy = false;
            state.refusal = None;
            std::mem::take(&mut state.items)
        };
        let events = items.into_iter().filter_map(|item| match item {
            Item::Event(event) => Some(event),
            Item::Frame(_) => None,
        });
        events.collect()
    }

    /// Takes items again.
    pub fn open(&self) {
        self.state.lock().is_flushing = false;
    }

    /// Adds a frame as soon as there are fewer than `most`.
    ///
    /// # Errors
    /// `Flushing`, or what downstream answered to the last frame.
    pub fn put_frame(&self, frame: Pending) -> Result<(), gst::FlowError> {
        let mut state = self.state.lock();
        Self::check(&mut state)?;
        state.frames += 1;
        state.items.push_back(Item::Frame(frame));
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Adds an event; gives the error of downstream that nobody but this element can report.
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
            self.changed.wait(&mut state);
            flow = Self::check(&mut state);
        }
        drop(state);
        flow
    }

    /// Whether frames are taken.
    fn check(state: &mut State) -> Result<(), gst::FlowError> {
        if state.is_flushing {
            return Err(gst::FlowError::Flushing);
        }
        match state.refusal_at_end() {
            Some(refusal) => {
                refusal.is_reported = true;
                Err(refusal.flow)
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

    /// The frame taken last is dealt with; gives the error of downstream that nobody but this element can report.
    pub fn frame_done(&self, refused: Option<Refusal>) -> Option<gst::FlowError> {
        let mut state = self.state.lock();
        if !state.is_busy {
            return None;
        }
        state.is_busy = false;
        state.frames = state.frames.saturating_sub(1);
        state.refusal = refused.or(state.refusal);
        let unreported = state.take_unreported();
        drop(state);
        self.changed.notify_all();
        unreported
    }

    /// The event taken last was pushed.
    pub fn event_done(&self) {
        self.state.lock().is_busy = false;
        self.changed.notify_all();
    }

    /// Downstream is linked again, so frames can be pushed again.
    pub fn relinked(&self) {
        let mut state = self.state.lock();
        state.refusal = state.refusal.filter(|refusal| refusal.flow != gst::FlowError::NotLinked);
    }
}
