// SPDX-License-Identifier: MIT OR Apache-2.0
//! The input sizes at which an engine runs its model.
//!
//! A frame with another aspect ratio than the model's input leaves a part of the input empty: a 16:9 frame in a square 44 %. With
//! [`InputSize::Auto`] each frame therefore runs at the smallest size of a small set that contains the scaled frame. A model of a
//! fixed size is rewritten for that size ([`resized`]) and used if its best boxes on a photograph are those of the exported one.
//!
//! The set follows from the model and the size of a frame from the frame alone, so that the results of a file do not depend on the
//! files before it, or beside it. It has a size for each common aspect ratio. Workers keep sessions for the sizes that they used last.
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

/// Aspect ratios, short to long, that have a size of their own: 21:9, 2:1, 16:9, 16:10, 3:2, 4:3, 5:4 and 1:1. For these it is the
/// smallest multiple of the stride that contains the scaled frame. A frame between two of them takes the larger size.
const ASPECT_RATIOS: [(usize, usize); 8] = [(3, 7), (1, 2), (9, 16), (5, 8), (2, 3), (3, 4), (4, 5), (1, 1)];
/// Most sizes for which a worker keeps a session. Each takes memory (YOLOv8n 60 MB), and opening one again costs less than a second of
/// decoding and detection.
pub(super) const MAX_KEPT: usize = 4;
/// Detections with at least this confidence must be found at both sizes.
const CERTAIN: f32 = 0.5;
/// Lowest overlap (intersection over union) of a detection at both sizes.
const MIN_OVERLAP: f32 = 0.5;
/// Largest difference of their confidences.
const MAX_DIFFERENCE: f32 = 0.25;
/// Detections of a picture that are compared, the best ones whatever their confidence.
pub(super) const COMPARED: usize = 50;
/// Of so many best ones at the exported size, at least this share must be found in their places at the other size. For a picture
/// without any object of the model they are all that there is to compare. Measured with YOLOv5n, v8n, YOLOX-nano, YOLO11n int8 and
/// YOLO26n int8 at three sizes each: 17 to 20 of 20 are found, and 5 to 13 if boxes are wrong by the ratio of the sizes.
const BEST: usize = 20;
const MIN_FOUND: f32 = 0.8;
/// How often a wait checks whether the engine closes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A model at one input size.
#[derive(Debug)]
pub(super) struct SizedModel {
    pub model: Model,
    /// The model as exported.
    exported: Arc<ModelBytes>,
    /// The size that it was exported for.
    exported_size: Size,
    /// Lengths of dynamic dimensions.
    pub overrides: Vec<(String, usize)>,
}

impl SizedModel {
    /// Creates the model at the size that it was exported for.
    pub fn exported(model: Model, bytes: Arc<ModelBytes>, overrides: Vec<(String, usize)>) -> Self {
        Self { exported_size: (model.width, model.height), model, exported: bytes, overrides }
    }

    /// Returns the model at `size`, for runs of at most `batch_size` images; it may not be usable there.
    pub fn at(&self, size: Size, batch_size: usize) -> Self {
        let mut model = self.model.clone();
        (model.width, model.height) = size;
        (model.input.width, model.input.height) = size;
        let overrides = if self.overrides.is_empty() { Vec::new() } else { fixed_dimensions(&model, batch_size) };
        Self { model, exported: Arc::clone(&self.exported), exported_size: self.exported_size, overrides }
    }

    pub fn size(&self) -> Size {
        (self.model.width, self.model.height)
    }

    /// Returns the length of the model in bytes; 0 if it is not in memory.
    pub fn length(&self) -> u64 {
        match self.exported.load_from() {
            LoadFrom::Memory(bytes) => bytes.len() as u64,
            LoadFrom::File(_) => 0,
        }
    }

    /// Returns the file for this size. It is rewritten each time and not kept: it is as long as the model, and only read when a
    /// session is opened.
    ///
    /// # Errors
    /// The reason where the model cannot be rewritten.
    pub fn bytes(&self) -> Result<Arc<ModelBytes>, String> {
        if self.size() == self.exported_size {
            return Ok(Arc::clone(&self.exported));
        }
        let LoadFrom::Memory(bytes) = self.exported.load_from() else {
            return Err("its weights are in other files".to_owned());
        };
        let made = resized(bytes, self.exported_size, self.size())?;
        Ok(Arc::new(self.exported.rewritten(made)))
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
    /// Other sizes than the exported one, at most one in width and one in height for each of [`ASPECT_RATIOS`].
    entries: Vec<(Size, Entry)>,
    /// The size of the first frame.
    first: Option<Size>,
    /// Why a size is not used.
    refused: Option<String>,
}

impl State {
    fn entry(&self, size: Size) -> Option<&Entry> {
        self.entries.iter().find(|(known, _)| *known == size).map(|(_, entry)| entry)
    }
}

#[derive(Debug, Clone)]
enum Entry {
    /// A worker verifies the rewritten model.
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

    /// Returns the model at `size`, at which an earlier start found it usable.
    pub fn known(&self, size: Size) -> Arc<SizedModel> {
        if size == self.exported.size() {
            return Arc::clone(&self.exported);
        }
        let sized = Arc::new(self.exported.at(size, self.batch_size));
        self.state.lock().entries.push((size, Entry::Ready(Arc::clone(&sized))));
        sized
    }

    /// Returns the number of sizes for which a worker should keep a session.
    pub fn kept(&self) -> usize {
        if self.is_auto { MAX_KEPT } else { 1 }
    }

    /// Returns the input size for a frame of this size.
    pub fn size_for(&self, frame: Option<Size>) -> Size {
        let exported = self.exported.size();
        match frame {
            Some((width, height)) if self.is_auto && width > 0 && height > 0 => {
                let model = &self.exported.model;
                size_for((width, height), exported, model.stride, model.input_format().resize_mode)
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

    /// Returns the model at `size`, or the exported one if that size cannot be used. The first caller for a size calls `verify`, which
    /// returns the reason if the rewritten model is not usable; others wait, or return `None` if `is_closing`.
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
        let made = Arc::new(self.exported.at(size, self.batch_size));
        building.outcome = verify(&made).map(|()| made);
        Some(building.outcome.as_ref().map_or_else(|_| Arc::clone(&self.exported), Arc::clone))
    }

    /// Waits until the size of the first frame is known; `None` if `is_closing`.
    pub fn first(&self, is_closing: impl Fn() -> bool) -> Option<Size> {
        while !is_closing() {
            let mut state = self.state.lock();
            if state.first.is_none() {
                self.changed.wait_for(&mut state, POLL_INTERVAL);
            }
            if state.first.is_some() {
                return state.first;
            }
        }
        None
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
            match state.entry(size) {
                Some(Entry::Ready(found)) => return Some(Some(Arc::clone(found))),
                Some(Entry::Refused) => return Some(Some(Arc::clone(&self.exported))),
                None if claim => {
                    state.entries.push((size, Entry::Building));
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

/// Returns the smallest size for one of [`ASPECT_RATIOS`], in multiples of `stride`, that contains a frame as it is scaled for an input
/// of size `exported`.
fn size_for(frame: Size, exported: Size, stride: usize, resize_mode: ResizeMode) -> Size {
    let fit = Letterbox::new(frame, exported, resize_mode);
    let side = |length: usize, limit: usize| {
        let sides = ASPECT_RATIOS.iter().map(|(short, long)| (limit * short).div_ceil(*long));
        sides.map(|side| side.next_multiple_of(stride)).find(|side| (length..limit).contains(side)).unwrap_or(limit)
    };
    (side(fit.width, exported.0), side(fit.height, exported.1))
}

/// Compares detections of the same picture at two sizes, by falling confidence. Returns what differs more than the borders of the
/// pictures explain.
pub(super) fn difference(exported: &[Detection], rewritten: &[Detection]) -> Option<String> {
    if exported.is_empty() {
        return Some("it detects nothing on a test picture, so that the two sizes cannot be compared".to_owned());
    }
    let corners = |found: &Detection| [found.x_min, found.y_min, found.x_max, found.y_max];
    let is_in_place = |one: &Detection, other: &Detection| iou(&corners(one), &corners(other)) >= MIN_OVERLAP;
    let certain = |ones: &[Detection]| ones.iter().filter(|one| one.confidence >= CERTAIN).count();
    let lacks = |ones: &[Detection], others: &[Detection]| {
        ones.iter().filter(|one| one.confidence >= CERTAIN).any(|one| {
            !others.iter().any(|other| {
                other.class_id == one.class_id
                    && is_in_place(one, other)
                    && (one.confidence - other.confidence).abs() <= MAX_DIFFERENCE
            })
        })
    };
    if lacks(exported, rewritten) || lacks(rewritten, exported) {
        let (after, before) = (certain(rewritten), certain(exported));
        return Some(format!(
            "on a test picture it then detects {after} objects instead of {before}, or detects them elsewhere"
        ));
    }
    let best = &exported[..exported.len().min(BEST)];
    let found = best.iter().filter(|one| rewritten.iter().any(|other| is_in_place(one, other))).count();
    let count = best.len();
    ((found as f32) < MIN_FOUND * count as f32)
        .then(|| format!("on a test picture only {found} of its {count} best boxes are then in the same places"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_contains_the_scaled_frame() {
        let square = (640, 640);
        for (frame, size) in [
            ((1920, 1080), (640, 384)),
            ((1080, 1920), (384, 640)),
            ((1366, 768), (640, 384)),
            ((640, 480), (640, 480)),
            ((720, 480), (640, 448)),
            ((720, 576), (640, 512)),
            ((1280, 800), (640, 416)),
            ((1080, 1350), (512, 640)),
            ((2000, 1000), (640, 320)),
            ((1000, 900), (640, 640)),
            ((480, 480), (640, 640)),
            ((768, 432), (640, 384)),
            ((1920, 800), (640, 288)),
            ((1080, 2400), (288, 640)),
            ((4000, 10), (640, 288)),
            ((1, 1), (640, 640)),
        ] {
            assert_eq!(size_for(frame, square, 32, ResizeMode::Letterbox), size, "{frame:?}");
        }
        for (side, height) in [(320, 192), (416, 256), (512, 288), (960, 544), (1280, 736)] {
            assert_eq!(size_for((1920, 1080), (side, side), 32, ResizeMode::Letterbox), (side, height));
        }
        // A side that is not a multiple of the stride stays as it is.
        assert_eq!(size_for((1920, 1080), (300, 300), 32, ResizeMode::LetterboxTopLeft), (300, 192));
        assert_eq!(size_for((1000, 990), (300, 300), 32, ResizeMode::LetterboxTopLeft), (300, 300));
    }

    #[test]
    fn all_frames_together_have_few_sizes() {
        for exported in [(640, 640), (640, 384), (320, 320), (416, 256), (300, 200), (32, 32), (1, 1)] {
            let mut sizes = std::collections::HashSet::new();
            for (width, height) in (1..200).flat_map(|width| (1..200).map(move |height| (width, height))) {
                let size = size_for((width, height), exported, 32, ResizeMode::Letterbox);
                let fit = Letterbox::new((width, height), exported, ResizeMode::Letterbox);
                assert!(fit.width <= size.0 && fit.height <= size.1 && size.0 <= exported.0 && size.1 <= exported.1);
                sizes.insert(size);
            }
            // The exported one, and smaller ones in width or in height.
            assert!(sizes.len() < 2 * ASPECT_RATIOS.len(), "{exported:?}: {sizes:?}");
        }
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
        assert_eq!(difference(&one, &[found(0, 0.8, 1.0), found(2, 0.1, 51.0)]), None);
        for other in [&[][..], &[found(1, 0.9, 0.0)], &[found(0, 0.9, 30.0)], &[found(0, 0.6, 0.0)]] {
            assert!(difference(&one, other).is_some() && difference(other, &one).is_some(), "{other:?}");
        }
        // Without certain detections the places of the best ones count; without any, nothing can be compared.
        let weak: Vec<Detection> = (0..30).map(|index| found(index, 0.2, index as f32 * 20.0)).collect();
        assert_eq!(difference(&weak, &weak[..16]), None);
        assert!(difference(&weak, &weak[..15]).is_some_and(|reason| reason.contains("15 of its 20")));
        assert!(difference(&[], &[]).is_some_and(|reason| reason.contains("nothing")));
    }
}
