// SPDX-License-Identifier: MIT OR Apache-2.0
//! The input sizes at which an engine runs its model.
//!
//! A frame with another aspect ratio than the model's input leaves a part of the input empty: a 16:9 frame in a square 44 %. With
//! [`InputSize::Auto`] each frame therefore runs at the smallest multiple of the model's stride that contains the scaled frame, as
//! Ultralytics' `predict` does. A model of a fixed size is rewritten for that size ([`resized`]) and used if it detects the same
//! as the exported one on a photograph.
//!
//! Lock order: the state alone; it is not held while a model is rewritten or run.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::loading::fixed_dimensions;
use crate::detect::detection::Detection;
use crate::detect::layouts::nms::iou;
use crate::detect::layouts::task::Task;
use crate::detect::model::description::Model;
use crate::detect::model::hints::InputSize;
use crate::detect::onnx::file::{LoadFrom, ModelBytes};
use crate::detect::onnx::resize::resized;
use crate::detect::pixels::letterbox::{Letterbox, ResizeMode};
use crate::detect::runtime::provider::Provider;

/// Width and height in pixels.
pub(super) type Size = (usize, usize);

/// Most rewritten models that are kept; each has the length of the model file.
const MAX_SIZES: usize = 8;
/// Detections with at least this confidence must be found at both sizes.
const CERTAIN: f32 = 0.5;
/// Lowest overlap (intersection over union) of a detection at both sizes.
const MIN_OVERLAP: f32 = 0.5;
/// Largest difference of their confidences.
const MAX_DIFFERENCE: f32 = 0.25;
/// How often a wait checks whether the engine closes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A model at one input size.
#[derive(Debug)]
pub(super) struct SizedModel {
    pub model: Model,
    pub bytes: Arc<ModelBytes>,
    /// Lengths of dynamic dimensions.
    pub overrides: Vec<(String, usize)>,
}

impl SizedModel {
    pub fn size(&self) -> Size {
        (self.model.width, self.model.height)
    }
}

/// The sizes of one engine.
#[derive(Debug)]
pub(super) struct Sizes {
    exported: Arc<SizedModel>,
    is_auto: bool,
    /// Most images in one run of a model with a dynamic batch.
    batch_size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Other sizes than the exported one, the most recently used last.
    entries: Vec<(Size, Entry)>,
    /// The size of the first frame.
    first: Option<Size>,
    /// Why a size is not used.
    refused: Option<String>,
}

impl State {
    /// Returns the entry for `size`, and makes it the most recently used.
    fn use_entry(&mut self, size: Size) -> Option<Entry> {
        let index = self.entries.iter().position(|(known, _)| *known == size)?;
        self.entries[index..].rotate_left(1);
        self.entries.last().map(|(_, entry)| entry.clone())
    }

    /// Adds a size that is being built, in place of the one that was not used for longest.
    fn add_building(&mut self, size: Size) {
        let oldest = self.entries.iter().position(|(_, entry)| !matches!(entry, Entry::Building));
        if let Some(oldest) = oldest.filter(|_| self.entries.len() >= MAX_SIZES) {
            self.entries.remove(oldest);
        }
        self.entries.push((size, Entry::Building));
    }
}

#[derive(Debug, Clone)]
enum Entry {
    /// A worker rewrites and verifies the model.
    Building,
    Ready(Arc<SizedModel>),
    Refused,
}

impl Sizes {
    /// `exported` is the model as opened on `provider`, for runs of at most `batch_size` images.
    pub fn new(exported: SizedModel, hint: InputSize, provider: &Provider, batch_size: usize) -> Self {
        let model = &exported.model;
        // TensorRT builds an engine for each size, which takes minutes.
        let is_auto = hint == InputSize::Auto
            && *provider != Provider::TensorRt
            && model.task != Task::Classify
            && model.input.extras.is_empty()
            && model.input_format().resize_mode != ResizeMode::Stretch;
        let first = (!is_auto).then(|| exported.size());
        let state = Mutex::new(State { first, ..State::default() });
        Self { exported: Arc::new(exported), is_auto, batch_size, state, changed: Condvar::new() }
    }

    /// Returns the model at the size that it was opened with.
    pub fn exported(&self) -> &Arc<SizedModel> {
        &self.exported
    }

    /// Returns the input size for a frame of this size.
    pub fn size_for(&self, frame: Option<Size>) -> Size {
        let exported = self.exported.size();
        match frame {
            Some((width, height)) if self.is_auto && width > 0 && height > 0 => {
                let model = &self.exported.model;
                tight((width, height), exported, model.stride, model.input_format().resize_mode)
            }
            _ => exported,
        }
    }

    /// Records the size of a submitted frame.
    pub fn submitted(&self, size: Size) {
        let mut state = self.state.lock();
        if state.first.is_none() {
            state.first = Some(size);
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Why a size is not used, if one was refused.
    pub fn refused(&self) -> Option<String> {
        self.state.lock().refused.clone()
    }

    /// Returns the model at `size`, or the exported one if that size cannot be used. The first caller for a size rewrites the model
    /// and calls `verify`, which returns the reason if it is not usable; others wait, or return `None` if `is_closing`.
    pub fn get(
        &self,
        size: Size,
        is_closing: impl Fn() -> bool,
        verify: impl FnOnce(&Arc<SizedModel>) -> Result<(), String>,
    ) -> Option<Arc<SizedModel>> {
        if size == self.exported.size() {
            return Some(Arc::clone(&self.exported));
        }
        if let Some(found) = self.wait(size, true, &is_closing)? {
            return Some(found);
        }
        // Ends the building even if `verify` panics.
        let mut building = Building { sizes: self, size, outcome: Err("it failed".to_owned()) };
        building.outcome = self.rewritten(size).map(Arc::new).and_then(|made| verify(&made).map(|()| made));
        Some(building.outcome.as_ref().map_or_else(|_| Arc::clone(&self.exported), Arc::clone))
    }

    /// Waits until the size of the first frame is known; `None` if `is_closing`.
    pub fn first(&self, is_closing: impl Fn() -> bool) -> Option<Size> {
        let mut state = self.state.lock();
        loop {
            match state.first {
                _ if is_closing() => return None,
                Some(size) => return Some(size),
                None => drop(self.changed.wait_for(&mut state, POLL_INTERVAL)),
            }
        }
    }

    /// Waits for the first frame and for the model at its size; `None` if `is_closing`.
    pub fn wait_for_first(&self, is_closing: impl Fn() -> bool) -> Option<Arc<SizedModel>> {
        let size = self.first(&is_closing)?;
        if size == self.exported.size() {
            Some(Arc::clone(&self.exported))
        } else {
            self.wait(size, false, &is_closing)?
        }
    }

    /// Waits until the model at `size` is ready. With `claim` the caller builds it if nobody does, which is `Some(None)`.
    fn wait(&self, size: Size, claim: bool, is_closing: &impl Fn() -> bool) -> Option<Option<Arc<SizedModel>>> {
        loop {
            let mut state = self.state.lock();
            match state.use_entry(size) {
                Some(Entry::Ready(found)) => return Some(Some(found)),
                Some(Entry::Refused) => return Some(Some(Arc::clone(&self.exported))),
                None if claim => {
                    state.add_building(size);
                    return Some(None);
                }
                Some(Entry::Building) | None => drop(self.changed.wait_for(&mut state, POLL_INTERVAL)),
            }
            drop(state);
            if is_closing() {
                return None;
            }
        }
    }

    /// Returns the model rewritten for `size`.
    fn rewritten(&self, size: Size) -> Result<SizedModel, String> {
        let LoadFrom::Memory(bytes) = self.exported.bytes.load_from() else {
            return Err("its weights are in other files".to_owned());
        };
        let made = resized(bytes, self.exported.size(), size)?;
        let mut model = self.exported.model.clone();
        (model.width, model.height) = size;
        (model.input.width, model.input.height) = size;
        let has_overrides = !self.exported.overrides.is_empty();
        let overrides = if has_overrides { fixed_dimensions(&model, self.batch_size) } else { Vec::new() };
        Ok(SizedModel { model, bytes: Arc::new(self.exported.bytes.rewritten(made)), overrides })
    }
}

/// A size that is being built; its end is recorded when it is dropped.
struct Building<'a> {
    sizes: &'a Sizes,
    size: Size,
    outcome: Result<Arc<SizedModel>, String>,
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        let mut state = self.sizes.state.lock();
        let entry = match &self.outcome {
            Ok(made) => Entry::Ready(Arc::clone(made)),
            Err(reason) => {
                let (width, height) = self.size;
                state.refused.get_or_insert_with(|| format!("not at {width}x{height}: {reason}"));
                Entry::Refused
            }
        };
        if let Some(place) = state.entries.iter_mut().find(|(known, _)| *known == self.size) {
            place.1 = entry;
        }
        drop(state);
        self.sizes.changed.notify_all();
    }
}

/// Returns the smallest size in multiples of `stride` that contains a frame as it is scaled for an input of size `exported`.
fn tight(frame: Size, exported: Size, stride: usize, resize_mode: ResizeMode) -> Size {
    let fit = Letterbox::new(frame, exported, resize_mode);
    let side = |length: usize, limit: usize| length.next_multiple_of(stride).min(limit);
    (side(fit.width, exported.0), side(fit.height, exported.1))
}

/// Compares detections of the same picture at two sizes. Returns what differs more than the borders of the pictures explain.
pub(super) fn difference(exported: &[Detection], rewritten: &[Detection]) -> Option<String> {
    let corners = |found: &Detection| [found.x_min, found.y_min, found.x_max, found.y_max];
    let lacks = |ones: &[Detection], others: &[Detection]| {
        ones.iter().filter(|one| one.confidence >= CERTAIN).any(|one| {
            !others.iter().any(|other| {
                other.class_id == one.class_id
                    && iou(&corners(one), &corners(other)) >= MIN_OVERLAP
                    && (one.confidence - other.confidence).abs() <= MAX_DIFFERENCE
            })
        })
    };
    (lacks(exported, rewritten) || lacks(rewritten, exported)).then(|| {
        format!(
            "on a test picture it then detects {} objects instead of {}, or detects them elsewhere",
            rewritten.len(),
            exported.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tight_size_contains_the_scaled_frame() {
        let square = (640, 640);
        for (frame, size) in [
            ((1920, 1080), (640, 384)),
            ((1080, 1920), (384, 640)),
            ((640, 480), (640, 480)),
            ((480, 480), (640, 640)),
            ((768, 432), (640, 384)),
            ((4000, 10), (640, 32)),
            ((1, 1), (640, 640)),
        ] {
            assert_eq!(tight(frame, square, 32, ResizeMode::Letterbox), size, "{frame:?}");
        }
        // A side that is not a multiple of the stride stays as it is.
        assert_eq!(tight((1920, 1080), (300, 300), 32, ResizeMode::LetterboxTopLeft), (300, 192));
    }

    #[test]
    fn detections_are_compared_by_class_place_and_confidence() {
        let found = |class_id, confidence, x_min: f32| Detection {
            class_id,
            confidence,
            x_min,
            y_min: 0.0,
            x_max: x_min + 10.0,
            y_max: 10.0,
            details: crate::detect::detection::Details::default(),
        };
        let one = [found(0, 0.9, 0.0), found(3, 0.3, 50.0)];
        assert_eq!(difference(&one, &[found(0, 0.8, 1.0)]), None);
        assert_eq!(difference(&[], &[]), None);
        for other in [&[][..], &[found(1, 0.9, 0.0)], &[found(0, 0.9, 30.0)], &[found(0, 0.6, 0.0)]] {
            assert!(difference(&one, other).is_some() && difference(other, &one).is_some(), "{other:?}");
        }
    }
}
