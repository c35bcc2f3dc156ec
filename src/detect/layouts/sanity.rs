// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sanity checks on the outputs of the first runs: values that no working detector returns indicate a wrong layout, a wrong scale
//! of the input, or a broken export.
//!
//! Pure functions and a counter. A check costs a pass over the outputs, so workers stop after [`CHECKED_RUNS`].

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{OutputLayout, OutputStatistics, Outputs};
use crate::detect::detection::Detection;
use crate::detect::pixels::input_format::SlotMut;

/// Runs of a session that are checked.
pub(crate) const CHECKED_RUNS: u32 = 8;

/// Boxes that are this many times the input away from it are invalid.
const MAX_DISTANCE: f32 = 20.0;
/// Coordinates in pixels that are all below this are not pixels: normalised coordinates end at 1.
const MIN_EXTENT: f32 = 2.0;
/// Boxes with a higher score are not padding.
const MAX_PADDING_SCORE: f32 = 0.25;

/// Checks the outputs of a run for a `width` by `height` input. Returns what is wrong with them, for the user.
pub(crate) fn check_outputs(
    layout: &OutputLayout,
    outputs: Outputs<'_>,
    (width, height): (usize, usize),
) -> Option<String> {
    if outputs.views.iter().any(|view| view.values.iter().any(|value| value.is_nan())) {
        return Some("its outputs contain NaN values".to_owned());
    }
    let mut statistics = OutputStatistics::default();
    layout.reader().collect(outputs, (width, height), &mut statistics);
    let OutputStatistics { min_score: min, max_score: max, max_coordinate, is_in_pixels, has_every_cell } = statistics;
    if has_every_cell && max == 0.0 && min == 0.0 {
        return Some("all of its scores are 0".to_owned());
    }
    if has_every_cell && min >= 1.0 {
        return Some("all of its scores are 1 or more".to_owned());
    }
    if max > 1.01 {
        return Some(format!("its scores reach {max:.2}, but scores must not exceed 1; they are clamped to 1"));
    }
    if has_every_cell && min < -0.01 {
        return Some(format!(
            "its scores go down to {min:.2}, but scores must not be negative: a sigmoid may be missing"
        ));
    }
    if is_in_pixels
        && max_coordinate > 0.0
        && max_coordinate <= MIN_EXTENT
        && (has_every_cell || max > MAX_PADDING_SCORE)
    {
        return Some(format!(
            "the largest coordinate of its boxes is {max_coordinate:.2}, for an input of {width}x{height} pixels: coordinates seem to \
             be normalised; if boxes are in the wrong places, export it with boxes in pixels"
        ));
    }
    let limit = MAX_DISTANCE * width.max(height) as f32;
    (max_coordinate > limit).then(|| {
        format!("coordinates of its boxes reach {max_coordinate:.0} pixels, for an input of {width}x{height} pixels")
    })
}

/// Different pictures in a row with the same boxes that cause a warning.
const PICTURES: u32 = 5;
/// Mean difference of two different pictures, as a share of their value range: more than noise or a clock in a corner.
const MIN_DIFFERENCE: f32 = 0.02;

/// Notices a model that returns the same boxes for every picture.
#[derive(Debug, Default)]
pub(crate) struct RepetitionCheck {
    picture: Vec<f32>,
    found: u64,
    count: u32,
}

impl RepetitionCheck {
    /// Adds a sample of a picture and its detections. Returns a warning when [`PICTURES`] different pictures in a row had exactly
    /// the same detections.
    pub fn add(&mut self, picture: &[f32], detections: &[Detection]) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        for found in detections {
            let values = [found.x_min, found.y_min, found.x_max, found.y_max, found.confidence];
            values.iter().for_each(|value| value.to_bits().hash(&mut hasher));
        }
        let found = hasher.finish();
        if detections.is_empty() || found != self.found {
            self.count = u32::from(!detections.is_empty());
        } else if are_different(&self.picture, picture) {
            self.count += 1;
        } else {
            return None;
        }
        self.found = found;
        self.picture.clear();
        self.picture.extend_from_slice(picture);
        (self.count == PICTURES).then(|| {
            format!("it found exactly the same boxes in {PICTURES} different pictures: its input does not affect its outputs")
        })
    }
}

/// Whether two pictures differ visibly.
fn are_different(one: &[f32], other: &[f32]) -> bool {
    let all = || one.iter().chain(other);
    let (min, max) =
        all().fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &value| (min.min(value), max.max(value)));
    let sum: f32 = one.iter().zip(other).map(|(a, b)| (a - b).abs()).sum();
    one.len() != other.len() || sum > MIN_DIFFERENCE * (max - min) * one.len() as f32
}

/// Returns a sample of the values in a slot.
pub(crate) fn sample(slot: &SlotMut<'_>) -> Vec<f32> {
    /// Prime, so as not to coincide with a period of the picture.
    const STEP: usize = 251;
    match slot {
        SlotMut::F32(values) => values.iter().step_by(STEP).copied().collect(),
        SlotMut::F16(values) => values.iter().step_by(STEP).map(|value| value.to_f32()).collect(),
        SlotMut::U8(values) => values.iter().step_by(STEP).map(|&value| f32::from(value)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::detection::Details;

    #[test]
    fn the_same_boxes_in_different_pictures_are_noticed_once() {
        let found = |x_min| Detection {
            class_id: 0,
            confidence: 0.9,
            x_min,
            y_min: 0.0,
            x_max: 50.0,
            y_max: 50.0,
            details: Details::default(),
        };
        // Every other place has another value in each picture.
        let picture = |number: usize| (0..100).map(|place| ((place * number) % 7) as f32 / 7.0).collect::<Vec<f32>>();
        let warnings_at = |of: &dyn Fn(usize) -> (Vec<f32>, Vec<Detection>)| -> Vec<usize> {
            let mut repetition = RepetitionCheck::default();
            let warns = |number: &usize| {
                let (picture, detections) = of(*number);
                repetition.add(&picture, &detections).is_some()
            };
            (1..20).filter(warns).collect()
        };
        assert_eq!(warnings_at(&|number| (picture(number), vec![found(1.0)])), [5]);
        // The same picture again, almost the same picture, moving boxes and no boxes are all valid.
        assert!(warnings_at(&|_| (picture(1), vec![found(1.0)])).is_empty());
        let noisy = |number: usize| picture(1).iter().map(|value| value + number as f32 * 1e-4).collect();
        assert!(warnings_at(&|number| (noisy(number), vec![found(1.0)])).is_empty());
        assert!(warnings_at(&|number| (picture(number), vec![found(number as f32)])).is_empty());
        assert!(warnings_at(&|number| (picture(number), Vec::new())).is_empty());
    }
}
