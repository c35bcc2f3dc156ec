//! Whether a model's outputs make sense, looked at on the first frames: what no working detector gives is a sign of a wrong
//! layout, a wrong scale of the input, or a broken export.
//!
//! Pure functions and a counter. Looking costs a pass over the outputs, so workers stop after [`FRAMES`].

use std::hash::{DefaultHasher, Hash, Hasher};

use super::decoder::Outputs;
use super::{Layout, Survey};
use crate::detect::detection::Detection;
use crate::detect::pixels::input_format::SlotMut;

/// How many runs of a session are looked at.
pub(crate) const FRAMES: u32 = 8;

/// Boxes this many times the input away from it are nonsense.
const FAR: f32 = 20.0;
/// Boxes in pixels that all end before this are none: coordinates in shares end at 1.
const NEAR: f32 = 2.0;
/// Scores of boxes that are no padding.
const SURE: f32 = 0.25;

/// What is wrong with the outputs of a run for a `width` by `height` input, in words for the user.
pub(crate) fn complaint(layout: &Layout, outputs: Outputs<'_>, (width, height): (usize, usize)) -> Option<String> {
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
        return Some(format!("its scores reach {most:.2}, although none should be above 1; they are written as 1"));
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

/// Different pictures that have to give the same for a complaint.
const PICTURES: u32 = 5;
/// Share of a picture's range by which another has to differ from it on average: more than noise or a clock in a corner.
const DIFFERENT: f32 = 0.02;

/// Notices a model that finds the same in every picture.
#[derive(Debug, Default)]
pub(crate) struct Repetition {
    picture: Vec<f32>,
    found: u64,
    count: u32,
}

impl Repetition {
    /// Takes some values of a picture and what was found in it; complains when [`PICTURES`] different pictures in turn gave
    /// exactly the same.
    pub fn complaint(&mut self, picture: &[f32], detections: &[Detection]) -> Option<String> {
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
            format!("it found exactly the same boxes in {PICTURES} different pictures: it does not react to what it is shown")
        })
    }
}

/// Whether two pictures differ visibly.
fn are_different(one: &[f32], other: &[f32]) -> bool {
    let all = || one.iter().chain(other);
    let (least, most) =
        all().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), &value| (least.min(value), most.max(value)));
    let sum: f32 = one.iter().zip(other).map(|(a, b)| (a - b).abs()).sum();
    one.len() != other.len() || sum > DIFFERENT * (most - least) * one.len() as f32
}

/// Some values of what is in a slot.
pub(crate) fn sample(slot: &SlotMut<'_>) -> Vec<f32> {
    /// Prime, so that no period of the picture is met.
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
        let complaints = |of: &dyn Fn(usize) -> (Vec<f32>, Vec<Detection>)| -> Vec<usize> {
            let mut repetition = Repetition::default();
            let complains = |number: &usize| {
                let (picture, detections) = of(*number);
                repetition.complaint(&picture, &detections).is_some()
            };
            (1..20).filter(complains).collect()
        };
        assert_eq!(complaints(&|number| (picture(number), vec![found(1.0)])), [5]);
        // The same picture again, next to the same, boxes that move, and nothing at all are fine.
        assert!(complaints(&|_| (picture(1), vec![found(1.0)])).is_empty());
        let noisy = |number: usize| picture(1).iter().map(|value| value + number as f32 * 1e-4).collect();
        assert!(complaints(&|number| (noisy(number), vec![found(1.0)])).is_empty());
        assert!(complaints(&|number| (picture(number), vec![found(number as f32)])).is_empty());
        assert!(complaints(&|number| (picture(number), Vec::new())).is_empty());
    }
}
