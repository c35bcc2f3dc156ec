//! Whether a model's outputs make sense, looked at on the first frames: what no working detector gives is a sign of a wrong
//! layout, a wrong scale of the input, or a broken export.
//!
//! Pure functions and a counter. Looking costs a pass over the outputs, so workers stop after [`FRAMES`].

use std::hash::{DefaultHasher, Hash, Hasher};

use super::decode::Outputs;
use super::detection::Detection;
use super::form::SlotMut;
use super::layouts::{Layout, Survey};

/// How many runs of a session are looked at.
pub(super) const FRAMES: u32 = 8;

/// Boxes this many times the input away from it are nonsense.
const FAR: f32 = 20.0;
/// Boxes in pixels that all end before this are none: coordinates in shares end at 1.
const NEAR: f32 = 2.0;
/// Scores of boxes that are no padding.
const SURE: f32 = 0.25;

/// What is wrong with the outputs of a run for a `width` by `height` input, in words for the user.
pub(super) fn complaint(layout: &Layout, outputs: Outputs<'_>, (width, height): (usize, usize)) -> Option<String> {
    if outputs.views.iter().any(|view| view.values.iter().any(|value| value.is_nan())) {
        return Some("its outputs hold values that are not numbers (NaN)".to_owned());
    }
    let mut survey = Survey::default();
    layout.reader().survey(outputs, (width, height), &mut survey);
    let Survey { least_score: least, most_score: most, farthest, is_in_pixels, has_every_cell } = survey;
    if has_every_cell && most == 0.0 && least == 0.0 {
        return Some("all of its scores are 0".to_owned());
    }
    if has_every_cell && least >= 1.0 {
        return Some("all of its scores are 1 or more".to_owned());
    }
    if most > 1.01 {
        return Some(format!("its scores reach {most:.2}, and none is above 1; they are written as 1"));
    }
    if has_every_cell && least < -0.01 {
        return Some(format!("its scores go down to {least:.2}, and none is below 0: they may lack their sigmoid"));
    }
    if is_in_pixels && farthest > 0.0 && farthest <= NEAR && (has_every_cell || most > SURE) {
        return Some(format!(
            "its boxes end at {farthest:.2}, for an input of {width}x{height} pixels: they seem to be shares of the input; export \
             it with boxes in pixels if they are in the wrong places"
        ));
    }
    let limit = FAR * width.max(height) as f32;
    (farthest > limit).then(|| format!("its boxes reach {farthest:.0} pixels, for an input of {width}x{height}"))
}

/// Notices a model that finds the same in every picture.
#[derive(Debug, Default)]
pub(super) struct Repetition {
    pictures: u64,
    found: u64,
    count: u32,
}

impl Repetition {
    /// Takes a picture as the model is given it, and what was found in it; says so when other pictures gave exactly the same
    /// for [`FRAMES`] times.
    pub fn complaint(&mut self, picture: u64, detections: &[Detection]) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        for found in detections {
            let values = [found.x_min, found.y_min, found.x_max, found.y_max, found.confidence];
            values.iter().for_each(|value| value.to_bits().hash(&mut hasher));
        }
        let found = hasher.finish();
        let is_same = !detections.is_empty() && found == self.found;
        if !is_same {
            self.count = 0;
        } else if picture != self.pictures {
            self.count += 1;
        }
        (self.pictures, self.found) = (picture, found);
        (self.count + 1 == FRAMES).then(|| {
            format!(
                "it found exactly the same boxes in {FRAMES} different pictures: it does not react to what it is shown"
            )
        })
    }
}

/// A number for what is in a slot, from some of its values.
pub(super) fn fingerprint(slot: &SlotMut<'_>) -> u64 {
    /// Prime, so that no period of the picture is met.
    const STEP: usize = 251;
    let mut hasher = DefaultHasher::new();
    match slot {
        SlotMut::F32(values) => values.iter().step_by(STEP).for_each(|value| value.to_bits().hash(&mut hasher)),
        SlotMut::F16(values) => values.iter().step_by(STEP).for_each(|value| value.to_bits().hash(&mut hasher)),
        SlotMut::U8(values) => values.iter().step_by(STEP).for_each(|value| value.hash(&mut hasher)),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::task::Details;

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
        let mut repetition = Repetition::default();
        let complaints: Vec<u64> =
            (0..20).filter(|&picture| repetition.complaint(picture, &[found(1.0)]).is_some()).collect();
        assert_eq!(complaints, [7]);
        let mut repetition = Repetition::default();
        // The same picture again, boxes that move, and nothing at all are fine.
        assert!((0..20).all(|_| repetition.complaint(1, &[found(1.0)]).is_none()));
        assert!((0..20).all(|picture| repetition.complaint(picture, &[found(picture as f32)]).is_none()));
        assert!((0..20).all(|picture| repetition.complaint(picture, &[]).is_none()));
    }
}
