//! What a model is, found out with its session: from what it declares where that is enough, else from a trial run.
//!
//! A trial shows the model a photograph, of a person, scaled down from the example clip. Its values show what shapes and names
//! leave open; where a family's models want their pictures in different ways, each is tried. Costs one run, or one for each way.

use super::description::{Batch, Draft, Model, input_form};
use crate::detect::error::{Error, Result};
use crate::detect::layouts::decoder::Outputs;
use crate::detect::layouts::nms::{Candidate, iou};
use crate::detect::layouts::{Claim, Preparation, Scratch, Seen};
use crate::detect::model::reading::Reading;
use crate::detect::onnx::modelinfo::ModelInfo;
use crate::detect::onnx::tensor::ElementType;
use crate::detect::onnx::tensor::OutputView;
use crate::detect::pixels::letterbox::Letterbox;
use crate::detect::pixels::picture::{Matrix, Picture, Plane, Range};
use crate::detect::pixels::pixel_format::PixelFormat;
use crate::detect::pixels::preparer::Preparer;
use crate::detect::runtime::cancel::Cancel;
use crate::detect::runtime::session::Session;

/// I420 of [`WIDTH`] by [`HEIGHT`] pixels: the astronaut of examples/media/scenes.mp4, which is in the public domain.
static PHOTOGRAPH: &[u8] = include_bytes!("astronaut_160x120.i420");
const WIDTH: usize = 160;
const HEIGHT: usize = 120;
/// Corners of the person on it, as YOLOv8n and YOLOX find them.
const PERSON: [f32; 4] = [3.0, 0.0, 120.0, 118.0];
/// Boxes that overlap so much are the person's.
const OVERLAP: f32 = 0.5;

/// Largest stride of most detectors' output grids, in pixels of the input.
const STRIDE: usize = 32;

/// Most values of outputs that are kept: 256 MiB.
const MOST_VALUES: usize = 1 << 26;
/// The best score of a way that fits.
const SURE: f32 = 0.4;
/// How much better than all others it has to be.
const LEAD: f32 = 0.1;
/// Score from which on what a model of unknown classes finds is surely the person.
const CERTAIN: f32 = 0.6;
/// Candidates of a trial have at least this score.
const THRESHOLD: f32 = 0.05;

/// Determines what model a session runs.
///
/// # Errors
/// [`Error::ModelUnsupported`] for what cannot be read, [`Error::Inference`] where a trial run fails.
pub fn understand(
    name: &str,
    session: &mut Session,
    reading: Reading,
    info: &ModelInfo,
    cancel: &Cancel,
) -> Result<Model> {
    let session = &mut Trial { session, cancel };
    let draft = Draft::new(name, session.session.describe(), reading.size)?;
    let known = match &draft.declared {
        Some(declared) => draft.claim(declared, reading, info)?,
        None => None,
    };
    let (mut evidence, mut warnings) = (Vec::new(), Vec::new());
    let claim = match known {
        Some(claim) => claim,
        None => {
            evidence.push("shapes and metadata left doubts: a trial run on a photograph decided".to_owned());
            let claim = draft.claim(&look(name, session, &draft, reading, info, Shown::Photograph)?, reading, info);
            let claim = claim.or_else(|error| {
                // Lists that are as long as there are objects may be shorter without any.
                let black = look(name, session, &draft, reading, info, Shown::Black)?;
                draft.claim(&black, reading, info).map_err(|_| error)
            })?;
            claim.ok_or_else(|| Error::Inference {
                model: name.to_owned(),
                reason: "a trial run gave no values by which its outputs could be told apart".to_owned(),
            })?
        }
    };
    let preparation = match &claim.preparations[..] {
        [first, _, ..] if is_free(&draft, reading, info) => {
            let scores = compare(name, session, &draft, &claim, reading)?;
            let (chosen, is_sure) = choose(&scores);
            let shown: Vec<String> =
                claim.preparations.iter().zip(&scores).map(|(way, score)| format!("{way}: {score:.2}")).collect();
            evidence.push(format!(
                "score of the person on the photograph, for each way to prepare it: {}",
                shown.join("; ")
            ));
            if is_sure {
                let way = claim.preparations[chosen];
                if chosen != 0 && scores[chosen] < CERTAIN && claim.class_count.is_none() {
                    warnings.push(format!(
                        "models of this layout want their pictures in different ways: {way} is assumed, since with it alone \
                         something is found where a photograph shows a person. If the model does not know people, that may be \
                         wrong: then set resize-mode, channel-order and input-range, most likely to {first}; \
                         `vx inspect MODEL --try PICTURE` compares them"
                    ));
                }
                way
            } else {
                warnings.push(format!(
                    "models of this layout want their pictures in different ways, and a trial did not show which: {first} is \
                     assumed. If it finds nothing, set resize-mode, channel-order and input-range; \
                     `vx inspect MODEL --try PICTURE` compares them"
                ));
                *first
            }
        }
        [first, ..] => *first,
        [] => Preparation::YOLO,
    };
    Ok(draft.finish(claim, preparation, reading, info, (evidence, warnings)))
}

/// Whether nobody has said how pictures are to be prepared.
fn is_free(draft: &Draft, reading: Reading, info: &ModelInfo) -> bool {
    let is_unset = reading.range.is_none() && reading.order.is_none() && reading.anchor.is_none();
    is_unset && info.ranges.is_none() && draft.input.element != ElementType::U8
}

/// The best of these scores, and whether it is clearly so.
fn choose(scores: &[f32]) -> (usize, bool) {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    let is_ahead = scores.iter().enumerate().all(|(index, score)| index == best || *score + LEAD <= scores[best]);
    (best, scores[best] >= SURE && is_ahead)
}

/// A session for runs that end when its loading is cancelled.
struct Trial<'a> {
    session: &'a mut Session,
    cancel: &'a Cancel,
}

/// What to try where a model fails at the size that `input-size` asks for.
fn size_hint((width, height): (usize, usize)) -> String {
    let [near_width, near_height] = [width, height].map(|side| ((side + STRIDE / 2) / STRIDE).max(1) * STRIDE);
    if (near_width, near_height) == (width, height) {
        return format!(
            "; input-size asks for {width}x{height}, and although the model says that its size is free, it may work with one only: \
             leave input-size away, or try another"
        );
    }
    format!(
        "; input-size asks for {width}x{height}, but both sides have to be multiples of the model's stride, {STRIDE} for most \
         detectors: try {near_width}x{near_height}"
    )
}

/// What a model is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Photograph,
    Black,
}

fn images_of(draft: &Draft) -> usize {
    match draft.batch {
        Batch::Fixed(count) => count,
        Batch::Dynamic => 1,
    }
}

/// Runs the model on a picture and shows the outputs `wanted`.
fn run<R>(
    trial: &mut Trial<'_>,
    draft: &Draft,
    (shown, preparation, reading): (Shown, Preparation, Reading),
    info: &ModelInfo,
    wanted: &[usize],
    read: impl FnMut(&[OutputView<'_>]) -> R,
) -> Result<R, String> {
    let images = images_of(draft);
    let Trial { session, cancel } = trial;
    let mut input = session.input(images, &draft.input)?;
    if shown == Shown::Black {
        return session.examine(&input, images, wanted, cancel, read);
    }
    let chroma = WIDTH / 2;
    let (luma, colour) = PHOTOGRAPH.split_at(WIDTH * HEIGHT);
    let (blue, red) = colour.split_at(colour.len() / 2);
    let planes = [(luma, WIDTH), (blue, chroma), (red, chroma)].map(|(data, stride)| Plane { data, stride });
    let picture = Picture::new(PixelFormat::I420, WIDTH, HEIGHT, &planes, Matrix::Bt601, Range::Limited)
        .map_err(|error| error.to_string())?;
    let form = input_form(&draft.input, preparation, reading, info.ranges);
    for index in 0..images {
        Preparer::default().prepare(&picture, &form, input.slot(index), &mut None);
    }
    session.examine(&input, images, wanted, cancel, read)
}

/// The outputs of a run.
fn look(
    name: &str,
    trial: &mut Trial<'_>,
    draft: &Draft,
    reading: Reading,
    info: &ModelInfo,
    shown: Shown,
) -> Result<Vec<Seen>> {
    let failed = |reason: String| {
        let asked = reading.size.filter(|_| draft.has_free_size()).map(size_hint);
        Error::Inference { model: name.to_owned(), reason: format!("{reason}{}", asked.unwrap_or_default()) }
    };
    let readable = draft.readable_outputs();
    let see = |outputs: &[OutputView<'_>]| {
        let count: usize = outputs.iter().map(|output| output.values.len()).sum();
        let seen =
            outputs.iter().map(|output| Seen { shape: output.shape.to_vec(), values: Some(output.values.to_vec()) });
        if count <= MOST_VALUES {
            Ok(seen.collect::<Vec<_>>())
        } else {
            Err(format!("its outputs hold {count} values"))
        }
    };
    let way = (shown, Preparation::YOLO, reading);
    let shown = run(trial, draft, way, info, &readable, see).map_err(failed)?.map_err(failed)?;
    let mut seen = vec![Seen { shape: Vec::new(), values: None }; draft.output_count()];
    for (index, shown) in readable.into_iter().zip(shown) {
        seen[index] = shown;
    }
    Ok(seen)
}

/// The best score of the person on the photograph for each way to prepare it.
fn compare(name: &str, trial: &mut Trial<'_>, draft: &Draft, claim: &Claim, reading: Reading) -> Result<Vec<f32>> {
    let images = images_of(draft);
    let size = (draft.input.width, draft.input.height);
    let scores = claim.preparations.iter().map(|preparation| {
        let best = |views: &[OutputView<'_>]| {
            let outputs = Outputs { views, images };
            let mut scratch = Scratch::default();
            let reader = claim.layout.reader();
            if !reader.is_readable(outputs, size) {
                return 0.0;
            }
            reader.read(outputs, 0, size, THRESHOLD, &mut scratch);
            let anchor = reading.anchor.unwrap_or(preparation.anchor);
            let fit = Letterbox::new((WIDTH, HEIGHT), size, anchor);
            // A picture in the wrong range makes a model sure of many small things: only the person counts.
            let is_person = |candidate: &&Candidate| iou(&fit.to_frame(candidate.corners), &PERSON) >= OVERLAP;
            let scores = scratch.candidates.iter().filter(is_person).map(|candidate| candidate.score);
            scores.filter(|score| score.is_finite()).fold(0.0, f32::max).min(1.0)
        };
        run(trial, draft, (Shown::Photograph, *preparation, reading), &ModelInfo::default(), &claim.outputs, best)
            .map_err(|reason| Error::Inference { model: name.to_owned(), reason })
    });
    scores.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_chosen_where_it_is_clearly_better() {
        assert_eq!(choose(&[0.1, 0.8]), (1, true));
        assert_eq!(choose(&[0.9, 0.3]), (0, true));
        assert!(!choose(&[0.9, 0.85]).1 && !choose(&[0.0, 0.2]).1 && !choose(&[0.5, 0.5]).1);
    }

    #[test]
    fn a_size_that_no_grid_fits_gets_the_nearest_that_does() {
        assert!(size_hint((641, 480)).ends_with("try 640x480"));
        assert!(size_hint((10, 1000)).ends_with("try 32x992"));
        assert!(size_hint((640, 480)).contains("leave input-size away"));
    }

    #[test]
    fn the_photograph_has_all_its_planes() {
        assert_eq!(PHOTOGRAPH.len(), WIDTH * HEIGHT * 3 / 2);
    }
}
