// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks whether a model with a dynamic batch gives correct results for several pictures: some exports do not.
//!
//! Runs the given session three times; keeps nothing.

use smallvec::SmallVec;

use crate::detect::error::{Error, Result};
use crate::detect::layouts::Outputs;
use crate::detect::model::description::Model;
use crate::detect::onnx::tensor::OutputView;
use crate::detect::pixels::input_format::SlotMut;
use crate::detect::runtime::binding::InputTensor;
use crate::detect::runtime::session::Session;

/// Largest difference between batches, as a share of a feature's largest value: 16-bit floats have 11 bits.
const TOLERANCE: f32 = 0.02;
/// Lower limit of a feature's largest value: scores of classes that are not in the picture are almost 0.
const MIN_LARGEST: f32 = 0.01;

/// An output's values and shape.
type Values = (Vec<f32>, SmallVec<[usize; 4]>);

/// Runs two pictures in one batch and one after the other. Returns why `model` must be given one picture at a time, if so.
///
/// # Errors
/// [`Error::Inference`] if the model does not run with one picture either.
pub(super) fn batching_fault(name: &str, session: &mut Session, model: &Model) -> Result<Option<String>> {
    let failed = |reason| Error::Inference { model: name.to_owned(), reason };
    let mut input = session.input(2, &model.input).map_err(failed)?;
    fill(input.slot(0), 1);
    fill(input.slot(1), 2);
    let size = (model.width, model.height);
    let outputs = |session: &mut Session, input: &InputTensor, images: usize| {
        let values = |views: &[OutputView<'_>]| -> Result<Vec<Values>, String> {
            if !model.layout.reader().accepts(Outputs { views, images }, size) {
                return Err(format!("its outputs for {images} pictures have other shapes than expected"));
            }
            Ok(views.iter().map(|view| (view.values.to_vec(), SmallVec::from_slice(view.shape))).collect())
        };
        session.run(input, images, &model.read_outputs, values)?
    };
    let both = outputs(session, &input, 2);
    let first = outputs(session, &input, 1);
    fill(input.slot(0), 2);
    let second = outputs(session, &input, 1);
    match (both, first, second) {
        (Ok(both), Ok(first), Ok(second)) => {
            let differs = both.iter().zip(first.iter().zip(&second)).any(|(both, (first, second))| {
                let mut alone = first.0.clone();
                alone.extend_from_slice(&second.0);
                both.0.len() != alone.len() || difference(&both.0, &alone, &first.1) > TOLERANCE
            });
            Ok(differs.then(|| "two pictures at once give other results than one after the other".to_owned()))
        }
        (Err(reason), Ok(_), Ok(_)) => Ok(Some(reason)),
        (_, Err(reason), _) | (_, _, Err(reason)) => Err(failed(reason)),
    }
}

/// Returns the largest difference of two outputs of `shape`, as a share of the largest value of the same feature.
///
/// The shorter of the last two axes enumerates the features, such as the left edge or the score of a class: coordinates in
/// pixels must not set the scale for scores.
fn difference(both: &[f32], alone: &[f32], shape: &[usize]) -> f32 {
    let (features, step) = match *shape {
        [.., rows, columns] if shape.len() > 1 && rows <= columns => (rows, columns),
        [.., _, columns] => (columns, 1),
        _ => (1, 1),
    };
    let (features, step) = (features.max(1), step.max(1));
    let mut largest = vec![MIN_LARGEST; features];
    let mut differs = vec![0.0_f32; features];
    for (index, (a, b)) in both.iter().zip(alone).enumerate() {
        let feature = index / step % features;
        largest[feature] = largest[feature].max(b.abs());
        let difference = (a - b).abs();
        // NaN in only one of them is the largest difference.
        let difference = if difference.is_nan() && a.is_nan() != b.is_nan() { f32::INFINITY } else { difference };
        differs[feature] = differs[feature].max(difference);
    }
    differs.iter().zip(&largest).map(|(differs, largest)| differs / largest).fold(0.0, f32::max)
}

/// Fills a slot with a picture of stripes, different for each `seed`.
fn fill(slot: SlotMut<'_>, seed: usize) {
    let level = |index: usize| ((index / 7 * (seed + 2)) % 17) as f32 / 17.0;
    match slot {
        SlotMut::F32(values) => values.iter_mut().enumerate().for_each(|(index, value)| *value = level(index)),
        SlotMut::F16(values) => {
            values.iter_mut().enumerate().for_each(|(index, value)| *value = half::f16::from_f32(level(index)));
        }
        SlotMut::U8(values) => {
            values.iter_mut().enumerate().for_each(|(index, value)| *value = (level(index) * 255.0) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_of_boxes_does_not_apply_to_scores() {
        // Two cells: centre across, score.
        let alone = [320.0, 600.0, 0.75, 0.1];
        assert_eq!(difference(&alone, &alone, &[1, 2, 2]), 0.0);
        assert!(difference(&[321.0, 601.0, 0.75, 0.1], &alone, &[1, 2, 2]) < TOLERANCE);
        assert!(difference(&[320.0, 600.0, 0.375, 0.05], &alone, &[1, 2, 2]) > TOLERANCE);
        // The same with features last, as three cells.
        let alone = [320.0, 0.75, 600.0, 0.1, 10.0, 0.0];
        assert!(difference(&[320.0, 0.375, 600.0, 0.1, 10.0, 0.0], &alone, &[1, 3, 2]) > TOLERANCE);
        assert!(difference(&[0.5], &[0.6], &[1]) > TOLERANCE);
        assert!(difference(&[f32::NAN], &[0.6], &[1]) > TOLERANCE);
    }
}
