// SPDX-License-Identifier: MIT OR Apache-2.0
//! Identifies a model with an open session: from its declaration if that is enough, otherwise by a trial run.
//!
//! A trial run gives the model a photograph of a person, scaled down from the example clip. Its values resolve what shapes and
//! names leave ambiguous. Where models of a family expect frames to be prepared in different ways, each way is tried. Costs one
//! run, or one for each way.

use super::description::{DeclaredModel, Model, input_format};
use super::hints::ModelHints;
use crate::detect::error::{Error, Result};
use crate::detect::layouts::nms::{Candidate, iou};
use crate::detect::layouts::{LayoutMatch, ObservedOutput, Outputs, Preparation, Scratch};
use crate::detect::onnx::declaration::Declaration;
use crate::detect::onnx::modelinfo::ModelInfo;
use crate::detect::onnx::tensor::{ElementType, OutputView};
use crate::detect::pixels::letterbox::Letterbox;
use crate::detect::pixels::picture::{Matrix, Picture, Plane, Range};
use crate::detect::pixels::pixel_format::PixelFormat;
use crate::detect::pixels::preparer::Preparer;
use crate::detect::runtime::cancel::CancelToken;
use crate::detect::runtime::session::Session;

/// I420 of [`WIDTH`] by [`HEIGHT`] pixels: the astronaut of examples/media/scenes.mp4, which is in the public domain.
static PHOTOGRAPH: &[u8] = include_bytes!("astronaut_160x120.i420");
const WIDTH: usize = 160;
const HEIGHT: usize = 120;
/// Corners of the person in the photograph, as YOLOv8n and YOLOX detect them.
const PERSON: [f32; 4] = [3.0, 0.0, 120.0, 118.0];
/// Boxes with at least this overlap (intersection over union) with [`PERSON`] are the person.
const MIN_OVERLAP: f32 = 0.5;

/// Largest stride of most detectors' output grids, in pixels of the input.
const STRIDE: usize = 32;

/// Most output values of a trial run: 256 MiB.
const MAX_VALUES: usize = 1 << 26;
/// Lowest score of the person with which a preparation is chosen.
const MIN_SCORE: f32 = 0.4;
/// Lowest lead of that score over all others.
const MIN_LEAD: f32 = 0.1;
/// Lowest score with which a model of unknown classes certainly detects the person.
const CERTAIN_SCORE: f32 = 0.6;
/// Candidates of a trial run have at least this score.
const THRESHOLD: f32 = 0.05;

/// What trial runs found out.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct TrialReport {
    /// The outputs of the run that decided, if the declaration is not enough: without their values, which are kept as bytes.
    pub outputs: Option<Vec<RecordedOutput>>,
    /// Index of the chosen preparation among those of the layout, if several were tried.
    pub preparation: Option<usize>,
    /// Evidence, for the user.
    pub evidence: Vec<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// An output of a trial run, without its values.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct RecordedOutput {
    shape: Vec<usize>,
    /// Number of its values; `None` if it was not read.
    count: Option<usize>,
}

/// Converts outputs into a record and the bytes of their values, as little-endian f32.
fn record_outputs(outputs: &[ObservedOutput]) -> (Vec<RecordedOutput>, Vec<u8>) {
    let records = outputs
        .iter()
        .map(|output| RecordedOutput { shape: output.shape.clone(), count: output.values.as_ref().map(Vec::len) });
    let values = outputs.iter().flat_map(|output| output.values.iter().flatten());
    (records.collect(), values.flat_map(|value| value.to_le_bytes()).collect())
}

/// Restores outputs; `None` if there are not as many values as recorded.
fn restore_outputs(records: &[RecordedOutput], bytes: &[u8]) -> Option<Vec<ObservedOutput>> {
    let (floats, []) = bytes.as_chunks::<4>() else { return None };
    let mut floats = floats.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let outputs = records.iter().map(|RecordedOutput { shape, count }| {
        let values = count.map(|count| floats.by_ref().take(count).collect::<Vec<_>>());
        (values.as_ref().map(Vec::len) == *count).then(|| ObservedOutput { shape: shape.clone(), values })
    });
    outputs.collect::<Option<Vec<_>>>().filter(|_| floats.next().is_none())
}

/// Identifies the model of a session. Returns it with what trial runs found out, and the values of the outputs in the report.
///
/// # Errors
/// [`Error::ModelUnsupported`] for a model that cannot be read, [`Error::Inference`] if a trial run fails.
pub fn identify_model(
    name: &str,
    session: &mut Session,
    hints: ModelHints,
    info: &ModelInfo,
    cancel: &CancelToken,
) -> Result<(Model, TrialReport, Vec<u8>)> {
    let model = DeclaredModel::new(name, session.declaration(), hints.size.fixed())?;
    let (mut report, mut values) = (TrialReport::default(), Vec::new());
    let declared = match &model.declared_outputs {
        Some(outputs) => model.match_layout(outputs, hints, info)?,
        None => None,
    };
    let mut trial = Trial { name, session, cancel, model: &model, hints, info };
    let matched = match declared {
        Some(matched) => matched,
        None => {
            report.evidence.push("shapes and metadata are ambiguous: a trial run on a photograph decided".to_owned());
            let (matched, outputs) = trial.match_layout()?;
            let recorded = record_outputs(&outputs);
            (report.outputs, values) = (Some(recorded.0), recorded.1);
            matched
        }
    };
    let preparation = match &matched.preparations[..] {
        [_, _, ..] if trial.may_choose_preparation() => trial.choose_preparation(&matched, &mut report)?,
        [first, ..] => *first,
        [] => Preparation::YOLO,
    };
    Ok((model.finish(matched, preparation, hints, info, report.clone()), report, values))
}

/// Identifies a model with what trial runs in an earlier process found out, with the `values` of the outputs in the report; `None` if
/// they do not belong to the model.
pub fn identify_known(
    name: &str,
    declaration: Declaration,
    hints: ModelHints,
    info: &ModelInfo,
    report: &TrialReport,
    values: &[u8],
) -> Option<Model> {
    let model = DeclaredModel::new(name, declaration, hints.size.fixed()).ok()?;
    let observed = match &report.outputs {
        Some(records) => Some(restore_outputs(records, values)?),
        None => None,
    };
    let outputs = observed.as_deref().or(model.declared_outputs.as_deref())?;
    let matched = model.match_layout(outputs, hints, info).ok()??;
    let preparation = match (&matched.preparations[..], report.preparation) {
        (preparations, Some(chosen)) => *preparations.get(chosen)?,
        ([first, ..], None) => *first,
        ([], None) => Preparation::YOLO,
    };
    Some(model.finish(matched, preparation, hints, info, report.clone()))
}

/// Returns the photograph of trial runs.
pub(crate) fn photograph() -> Result<Picture<'static>> {
    let (luma, colour) = PHOTOGRAPH.split_at(WIDTH * HEIGHT);
    let (blue, red) = colour.split_at(colour.len() / 2);
    let planes = [(luma, WIDTH), (blue, WIDTH / 2), (red, WIDTH / 2)].map(|(data, stride)| Plane { data, stride });
    Picture::new(PixelFormat::I420, WIDTH, HEIGHT, &planes, Matrix::Bt601, Range::Limited)
}

/// Returns the index of the best of these scores, and whether it is clearly the best.
fn best_score(scores: &[f32]) -> (usize, bool) {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    let is_ahead = scores.iter().enumerate().all(|(index, score)| index == best || *score + MIN_LEAD <= scores[best]);
    (best, scores[best] >= MIN_SCORE && is_ahead)
}

/// Returns advice for a model that fails at the size of `input-size`.
fn size_advice((width, height): (usize, usize)) -> String {
    let [near_width, near_height] = [width, height].map(|side| ((side + STRIDE / 2) / STRIDE).max(1) * STRIDE);
    if (near_width, near_height) == (width, height) {
        return format!(
            "; input-size is {width}x{height}. The model declares that its size is free, but may work with one size only: set \
             input-size=model, or try another size"
        );
    }
    format!(
        "; input-size is {width}x{height}, but both sides must be multiples of the model's stride, {STRIDE} for most detectors: \
         try {near_width}x{near_height}"
    )
}

/// What the model is given in a trial run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum TestImage {
    Photograph(Preparation),
    Black,
}

/// Trial runs of one model, which end when its loading is cancelled.
struct Trial<'a> {
    name: &'a str,
    session: &'a mut Session,
    cancel: &'a CancelToken,
    model: &'a DeclaredModel,
    hints: ModelHints,
    info: &'a ModelInfo,
}

impl Trial<'_> {
    /// Matches the layout by the values of a trial run, which are returned.
    fn match_layout(&mut self) -> Result<(LayoutMatch, Vec<ObservedOutput>)> {
        let mut outputs = self.observe(TestImage::Photograph(Preparation::YOLO))?;
        let matched = self.model.match_layout(&outputs, self.hints, self.info).or_else(|error| {
            // A list with as many rows as objects may be short enough without any object.
            outputs = self.observe(TestImage::Black)?;
            self.model.match_layout(&outputs, self.hints, self.info).map_err(|_| error)
        })?;
        matched.map(|matched| (matched, outputs)).ok_or_else(|| Error::Inference {
            model: self.name.to_owned(),
            reason: "the values of a trial run are not enough to tell its outputs apart".to_owned(),
        })
    }

    /// Whether neither the user nor a file beside the model says how frames are prepared.
    fn may_choose_preparation(&self) -> bool {
        let ModelHints { range, order, resize_mode, .. } = self.hints;
        let is_unset = range.is_none() && order.is_none() && resize_mode.is_none();
        is_unset && self.info.ranges.is_none() && self.model.input.element != ElementType::U8
    }

    /// Tries each preparation. Returns the one with which the person is detected best, or the most likely one if that is not
    /// clear.
    fn choose_preparation(&mut self, matched: &LayoutMatch, report: &mut TrialReport) -> Result<Preparation> {
        let scores = self.score_preparations(matched)?;
        let (best, is_clear) = best_score(&scores);
        let list =
            matched.preparations.iter().zip(&scores).map(|(preparation, score)| format!("{preparation}: {score:.2}"));
        report.evidence.push(format!(
            "score of the person in the photograph, for each way to prepare it: {}",
            list.collect::<Vec<_>>().join("; ")
        ));
        let first = matched.preparations[0];
        if !is_clear {
            report.warnings.push(format!(
                "models of this layout expect frames to be prepared in different ways, and a trial run did not show which: {first} \
                 is assumed. If nothing is detected, set resize-mode, channel-order and input-range; \
                 `vx inspect MODEL --try PICTURE` compares them"
            ));
            report.preparation = Some(0);
            return Ok(first);
        }
        report.preparation = Some(best);
        let chosen = matched.preparations[best];
        if best != 0 && scores[best] < CERTAIN_SCORE && matched.class_count.is_none() {
            report.warnings.push(format!(
                "models of this layout expect frames to be prepared in different ways: {chosen} is assumed, because only with it \
                 something is detected in a photograph of a person. If the model does not detect people, this may be wrong: then \
                 set resize-mode, channel-order and input-range, most likely to {first}; `vx inspect MODEL --try PICTURE` compares \
                 them"
            ));
        }
        Ok(chosen)
    }

    /// Runs the model on a test image. Returns the result of `read`, which is given the outputs `wanted`.
    fn run<R>(
        &mut self,
        image: TestImage,
        wanted: &[usize],
        read: impl FnMut(&[OutputView<'_>]) -> R,
    ) -> Result<R, String> {
        let images = self.model.batch.images();
        let mut input = self.session.input(images, &self.model.input)?;
        if let TestImage::Photograph(preparation) = image {
            let picture = photograph().map_err(|error| error.to_string())?;
            let format = input_format(&self.model.input, preparation, self.hints, self.info.ranges);
            for index in 0..images {
                Preparer::default().prepare(&picture, &format, input.slot(index), &mut None);
            }
        }
        self.session.examine(&input, images, wanted, self.cancel, read)
    }

    /// Returns the outputs of a trial run.
    fn observe(&mut self, image: TestImage) -> Result<Vec<ObservedOutput>> {
        let (name, size) = (self.name, self.hints.size.fixed().filter(|_| self.model.has_free_size()));
        let failed = |reason: String| {
            let advice = size.map(size_advice).unwrap_or_default();
            Error::Inference { model: name.to_owned(), reason: format!("{reason}{advice}") }
        };
        let readable = self.model.readable_outputs();
        let copy = |outputs: &[OutputView<'_>]| {
            let count: usize = outputs.iter().map(|output| output.values.len()).sum();
            if count > MAX_VALUES {
                return Err(format!("its outputs hold {count} values"));
            }
            let observed = outputs
                .iter()
                .map(|output| ObservedOutput { shape: output.shape.to_vec(), values: Some(output.values.to_vec()) });
            Ok(observed.collect::<Vec<_>>())
        };
        let read = self.run(image, &readable, copy).map_err(failed)?.map_err(failed)?;
        let mut observed = vec![ObservedOutput { shape: Vec::new(), values: None }; self.model.output_count()];
        for (index, output) in readable.into_iter().zip(read) {
            observed[index] = output;
        }
        Ok(observed)
    }

    /// Returns the best score of the person in the photograph for each preparation.
    fn score_preparations(&mut self, matched: &LayoutMatch) -> Result<Vec<f32>> {
        let images = self.model.batch.images();
        let size = (self.model.input.width, self.model.input.height);
        let scores = matched.preparations.iter().map(|preparation| {
            let resize_mode = self.hints.resize_mode.unwrap_or(preparation.resize_mode);
            let best = |views: &[OutputView<'_>]| {
                let outputs = Outputs { views, images };
                let mut scratch = Scratch::default();
                let reader = matched.layout.reader();
                if !reader.accepts(outputs, size) {
                    return 0.0;
                }
                reader.read(outputs, 0, size, THRESHOLD, &mut scratch);
                let fit = Letterbox::new((WIDTH, HEIGHT), size, resize_mode);
                // With the wrong range a model detects many small objects with high scores: only the person counts.
                let is_person = |candidate: &&Candidate| iou(&fit.to_frame(candidate.corners), &PERSON) >= MIN_OVERLAP;
                let scores = scratch.candidates.iter().filter(is_person).map(|candidate| candidate.score);
                scores.filter(|score| score.is_finite()).fold(0.0, f32::max).min(1.0)
            };
            self.run(TestImage::Photograph(*preparation), &matched.outputs, best)
                .map_err(|reason| Error::Inference { model: self.name.to_owned(), reason })
        });
        scores.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preparation_is_chosen_if_it_is_clearly_better() {
        assert_eq!(best_score(&[0.1, 0.8]), (1, true));
        assert_eq!(best_score(&[0.9, 0.3]), (0, true));
        assert!(!best_score(&[0.9, 0.85]).1 && !best_score(&[0.0, 0.2]).1 && !best_score(&[0.5, 0.5]).1);
    }

    #[test]
    fn the_advice_for_a_size_that_fits_no_grid_is_the_nearest_that_does() {
        assert!(size_advice((641, 480)).ends_with("try 640x480"));
        assert!(size_advice((10, 1000)).ends_with("try 32x992"));
        assert!(size_advice((640, 480)).contains("set input-size=model"));
    }

    #[test]
    fn recorded_outputs_are_restored_to_the_last_bit() {
        let output = |shape: &[usize], values: Option<&[f32]>| ObservedOutput {
            shape: shape.to_vec(),
            values: values.map(<[f32]>::to_vec),
        };
        let outputs =
            [output(&[2], Some(&[f32::MIN_POSITIVE, -0.0])), output(&[], None), output(&[1, 1], Some(&[0.1]))];
        let (records, values) = record_outputs(&outputs);
        assert_eq!(restore_outputs(&records, &values).unwrap(), outputs);
        for wrong in [&values[..11], &values[..8], &[&values[..], &[0; 4]].concat()] {
            assert_eq!(restore_outputs(&records, wrong), None);
        }
        let nan = [output(&[1], Some(&[f32::NAN]))];
        let (records, values) = record_outputs(&nan);
        assert!(restore_outputs(&records, &values).unwrap()[0].values.as_ref().unwrap()[0].is_nan());
    }

    #[test]
    fn the_photograph_has_all_its_planes() {
        assert_eq!(PHOTOGRAPH.len(), WIDTH * HEIGHT * 3 / 2);
    }
}
