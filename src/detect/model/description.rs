//! What a model is: its tensors, the size it looks at, its layout and its classes.
//!
//! Owns the judgement whether a model is a detector that can be read, from what ONNX Runtime says of it; runs nothing
//! itself. Plain data once made.

use crate::detect::error::{Error, Result};
use crate::detect::layouts::task::Task;
use crate::detect::layouts::{Claim, Evidence, Family, Layout, Metadata, Outcome, Preparation, Seen, recognise};
use crate::detect::model::reading::InputRange;
use crate::detect::model::reading::Reading;
use crate::detect::onnx::declaration::Declaration;
use crate::detect::onnx::input::{InputSpec, extra_input, picture_size};
use crate::detect::onnx::modelinfo::ModelInfo;
use crate::detect::onnx::python_literal;
use crate::detect::onnx::tensor::{Dimension, ElementType, TensorInfo};
use crate::detect::pixels::input_format::{ChannelOrder, InputForm, Normalise};

/// Largest fixed batch of a model.
pub const MAX_BATCH: usize = 64;
/// Most values in an input tensor: half a gigabyte of f32.
pub(super) const MAX_INPUT_VALUES: usize = 1 << 27;

/// How many images a model takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// Always this many.
    Fixed(usize),
    /// Any number.
    Dynamic,
}

/// A detector that can be read.
#[derive(Debug, Clone)]
pub struct Model {
    /// File name as given, or "the built-in model".
    pub source: String,
    /// All inputs.
    pub inputs: Vec<TensorInfo>,
    /// All outputs.
    pub outputs: Vec<TensorInfo>,
    /// Which outputs are read, in the order in which the layout's reader takes them.
    pub read_outputs: Vec<usize>,
    /// Columns of the picture that the model sees.
    pub width: usize,
    /// Rows of the picture that the model sees.
    pub height: usize,
    /// Images for each run.
    pub batch: Batch,
    /// How the output is read.
    pub layout: Layout,
    /// Why this layout was chosen, in a sentence.
    pub layout_reason: String,
    /// What was found out about it, in the order in which it was weighed.
    pub evidence: Vec<String>,
    /// What is assumed or contradictory, for the user.
    pub warnings: Vec<String>,
    /// Number of classes; `None` where neither output nor metadata says it.
    pub class_count: Option<usize>,
    /// Class names from the metadata.
    pub names: Option<Vec<String>>,
    /// Class names that models of its family have, where the metadata has none.
    pub(super) family_names: Option<Vec<String>>,
    /// What it does.
    pub task: Task,
    /// What it is given.
    pub(crate) input: InputSpec,
    /// How its family wants its pictures.
    pub(crate) preparation: Preparation,
    /// What the user says of it.
    pub(crate) reading: Reading,
    /// What black and white stand for in each channel, as the file beside the model says.
    pub(crate) ranges: Option<[(f32, f32); 3]>,
}

impl Model {
    /// The picture as this model wants it.
    #[must_use]
    pub fn input_form(&self) -> InputForm {
        input_form(&self.input, self.preparation, self.reading, self.ranges)
    }
}

/// The picture as the user, the file beside the model and its family want it, in this order.
pub(crate) fn input_form(
    input: &InputSpec,
    preparation: Preparation,
    reading: Reading,
    ranges: Option<[(f32, f32); 3]>,
) -> InputForm {
    let order = reading.order.unwrap_or(preparation.order);
    let bytes = input.element == ElementType::U8;
    let (white, normalise) = match (reading.range, ranges) {
        _ if bytes => (255.0, None),
        (Some(InputRange::One), _) => (1.0, None),
        (Some(InputRange::Byte), _) => (255.0, None),
        (Some(InputRange::Signed), _) => (1.0, Some(Normalise { mean: [0.5; 3], deviation: [0.5; 3] })),
        (Some(InputRange::ImageNet), _) => (1.0, in_order(Preparation::IMAGENET, order)),
        (None, Some(ranges)) => from_ranges(ranges),
        (None, None) => (preparation.white, in_order(preparation, order)),
    };
    InputForm {
        width: input.width,
        height: input.height,
        order,
        white,
        anchor: reading.anchor.unwrap_or(preparation.anchor),
        channels_last: input.channels_last,
        is_grey: input.channels == 1,
        normalise,
        filter: reading.filter,
    }
}

/// Mean and deviation of each colour, for planes in another order than the family's.
fn in_order(preparation: Preparation, order: ChannelOrder) -> Option<Normalise> {
    let Normalise { mut mean, mut deviation } = preparation.normalise?;
    if order != preparation.order {
        mean.reverse();
        deviation.reverse();
    }
    Some(Normalise { mean, deviation })
}

/// White, and mean and deviation where the channels' ranges are not the plain ones from 0 to it.
fn from_ranges(ranges: [(f32, f32); 3]) -> (f32, Option<Normalise>) {
    match ranges[0] {
        (black, white) if black == 0.0 && (white == 1.0 || white == 255.0) && ranges == [ranges[0]; 3] => (white, None),
        // With white at 1: black + value * (white - black) = (value - mean) / deviation.
        _ => {
            let mean = ranges.map(|(black, white)| -black / (white - black));
            let deviation = ranges.map(|(black, white)| 1.0 / (white - black));
            (1.0, Some(Normalise { mean, deviation }))
        }
    }
}

/// A model of which everything is known but, perhaps, its outputs.
#[derive(Debug)]
pub(crate) struct Draft {
    source: String,
    description: Declaration,
    pub input: InputSpec,
    pub batch: Batch,
    /// The outputs as one image gives them, where what is declared leaves nothing open.
    pub declared: Option<Vec<Seen>>,
    metadata: Metadata,
}

impl Draft {
    /// Judges a model by its declared tensors and metadata; it is given pictures of the `wanted_size`, if that is free.
    ///
    /// # Errors
    /// [`Error::ModelUnsupported`] with the reason where it cannot be a detector of a known layout.
    pub fn new(source: &str, description: Declaration, wanted_size: Option<(usize, usize)>) -> Result<Self> {
        let refuse = |reason: String, advice: &str| Err(unsupported(source, &description, reason, advice));
        let metadata = Metadata::parse(&description.metadata);
        if let Some(task) = metadata.task.as_deref()
            && !["detect", "segment", "pose", "obb", "classify"].contains(&task)
        {
            return refuse(
                format!("its metadata says its task is \"{task}\", which is not known"),
                "Known tasks are detect, segment, pose, obb and classify; use the model's detection variant",
            );
        }
        // A picture has four dimensions, or three where the model takes a single one.
        let of_rank = |rank: usize| description.inputs.iter().filter(move |input| input.shape.len() == rank);
        let is_channels = |dimension: Option<&Dimension>| matches!(dimension, Some(Dimension::Fixed(1 | 3)));
        let single = || of_rank(3).filter(|input| is_channels(input.shape.first()) || is_channels(input.shape.last()));
        let mut pictures: Vec<&TensorInfo> = of_rank(4).collect();
        if pictures.is_empty() {
            pictures = single().collect();
        }
        let (input, others) = match (description.inputs.as_slice(), pictures.as_slice()) {
            ([input], _) => (input, Vec::new()),
            (inputs, [input]) => (*input, inputs.iter().filter(|other| other.name != input.name).collect()),
            (inputs, pictures) => {
                return refuse(
                    format!("it has {} inputs, of which {} could be the picture", inputs.len(), pictures.len()),
                    "Export a model whose one input of four dimensions is the picture",
                );
            }
        };
        if !matches!(input.element, ElementType::F32 | ElementType::F16 | ElementType::U8) {
            return refuse(
                format!("its input holds {}, and only f32, f16 and u8 are given", input.element),
                "Export it with a floating-point input; quantised models of that kind keep f32 at their ends",
            );
        }
        let free_batch = Dimension::Fixed(1);
        let (batch, one, two, three) = match input.shape.as_slice() {
            [batch, one, two, three] => (batch, one, two, three),
            [one, two, three] if !pictures.is_empty() => (&free_batch, one, two, three),
            other => {
                return refuse(
                    match other.len() {
                        0 => "its input declares no shape, and a picture has four dimensions".to_owned(),
                        count => format!("its input has {count} dimensions, not the four of a picture"),
                    },
                    "An image detector takes [batch, 3, height, width]; this may be a model for another purpose",
                );
            }
        };
        let is =
            |dimension: &Dimension, length: usize| matches!(dimension, Dimension::Fixed(fixed) if *fixed == length);
        let channels_last = (is(three, 3) && !is(one, 3)) || (is(three, 1) && !is(one, 1) && !is(one, 3));
        let (channels, rows, columns) = if channels_last { (three, one, two) } else { (one, two, three) };
        let channels = match channels {
            Dimension::Fixed(count @ (1 | 3)) => *count,
            Dimension::Dynamic(_) => metadata.channels.filter(|count| [1, 3].contains(count)).unwrap_or(3),
            Dimension::Fixed(count) => {
                return refuse(
                    format!("its input has {count} channels, not 3 or 1"),
                    "A detector takes [batch, 3, height, width]; this may be a model for another purpose",
                );
            }
        };
        let has_mask = others.iter().any(|other| other.name.to_lowercase().contains("mask"));
        let trained = match metadata.image_size {
            Some((height, width)) => Some((width, height)),
            None => has_mask.then_some((DETR_SIDE, DETR_SIDE)),
        };
        let (width, height) = match picture_size((columns, rows), trained, wanted_size) {
            Ok(size) => size,
            Err((reason, advice)) => return refuse(reason, advice),
        };
        let mut extras = Vec::with_capacity(others.len());
        for other in others {
            let Some(extra) = extra_input(other, (width, height)) else {
                return refuse(
                    format!(
                        "it wants an input {other}, and only a picture, its size and a mask of its pixels can be given"
                    ),
                    "The nearest is the DETR family with orig_target_sizes [batch, 2]; this may be a model for another purpose",
                );
            };
            extras.push(extra);
        }
        let batch = match batch {
            Dimension::Dynamic(_) => Batch::Dynamic,
            Dimension::Fixed(count) if (1..=most_images(width, height)).contains(count) => Batch::Fixed(*count),
            Dimension::Fixed(count) => {
                return refuse(
                    format!("it takes {count} pictures at once; 1 to {} can be given", most_images(width, height)),
                    "Export it with a batch of 1",
                );
            }
        };
        let (name, element, has_batch) = (input.name.clone(), input.element.clone(), input.shape.len() == 4);
        let input = InputSpec { name, element, width, height, channels_last, channels, has_batch, extras };
        let declared = declared(&description.outputs);
        Ok(Self { source: source.to_owned(), input, batch, declared, metadata, description })
    }

    /// Whether it leaves width or height free.
    pub fn has_free_size(&self) -> bool {
        let picture = self.description.inputs.iter().find(|input| input.name == self.input.name);
        picture.is_some_and(|input| input.shape[1..].iter().any(|side| matches!(side, Dimension::Dynamic(_))))
    }

    /// The outputs whose values can be read.
    pub fn readable_outputs(&self) -> Vec<usize> {
        let outputs = self.description.outputs.iter().enumerate();
        outputs.filter(|(_, output)| is_readable(output)).map(|(index, _)| index).collect()
    }

    /// Number of outputs.
    pub fn output_count(&self) -> usize {
        self.description.outputs.len()
    }

    /// What the families say of a model with these outputs; `None` where they need values of a trial run.
    ///
    /// # Errors
    /// [`Error::ModelUnsupported`] where they fit no layout.
    pub fn claim(&self, seen: &[Seen], reading: Reading, info: &ModelInfo) -> Result<Option<Claim>> {
        let forced = reading.family.or(Family::named_by(&info.output_ids));
        let evidence = Evidence::new(&self.metadata, &self.input, &self.description.outputs, seen, forced);
        let (reason, advice) = match recognise(&evidence) {
            Outcome::NeedsTrial => return Ok(None),
            Outcome::Known(claim) if claim.class_count.is_some_and(|count| count > python_literal::MAX_CLASSES) => (
                format!("its output would have over {} classes", python_literal::MAX_CLASSES),
                "This may be a model for another purpose".to_owned(),
            ),
            Outcome::Known(claim) => return Ok(Some(*claim)),
            Outcome::Unknown(reason, advice) => (reason, advice),
        };
        let is_stated_beside = reading.family.is_none() && Family::named_by(&info.output_ids).is_some();
        let beside = "The .modelinfo file beside it says so; correct its id or remove it".to_owned();
        let advice = if is_stated_beside { beside } else { advice };
        Err(unsupported(&self.source, &self.description, reason, &advice))
    }

    /// The model, read as `claim` says and given pictures as `preparation` says; `evidence` is what a trial showed.
    pub fn finish(
        self,
        claim: Claim,
        preparation: Preparation,
        reading: Reading,
        info: &ModelInfo,
        trial: (Vec<String>, Vec<String>),
    ) -> Model {
        let Self { source, description, input, batch, metadata, .. } = self;
        let mut evidence = Vec::new();
        if let Some(family) = reading.family {
            evidence.push(format!("model-layout = {family} was set"));
        } else if let Some(family) = Family::named_by(&info.output_ids) {
            evidence.push(format!("the .modelinfo file beside it says {family}"));
        }
        evidence.extend(metadata.lines);
        let names = |tensors: &[TensorInfo]| {
            tensors.iter().take(12).map(|tensor| tensor.name.clone()).collect::<Vec<_>>().join(", ")
        };
        evidence.push(format!(
            "inputs are called {}, outputs {}",
            names(&description.inputs),
            names(&description.outputs)
        ));
        evidence.extend(trial.0);
        let mut warnings = metadata.warnings;
        warnings.extend(claim.warnings);
        warnings.extend(trial.1);
        Model {
            source,
            inputs: description.inputs,
            outputs: description.outputs,
            read_outputs: claim.outputs,
            width: input.width,
            height: input.height,
            batch,
            layout: claim.layout,
            layout_reason: claim.reason,
            evidence,
            warnings,
            class_count: claim.class_count,
            names: metadata.names,
            family_names: claim.names.list(),
            task: claim.task,
            input,
            preparation,
            reading,
            ranges: info.ranges,
        }
    }
}

/// Side of DETR's pictures, where it leaves them free: what they are scaled to in training.
const DETR_SIDE: usize = 800;

/// Whether the values of an output can be read.
fn is_readable(output: &TensorInfo) -> bool {
    !matches!(output.element, ElementType::Other(_))
}

/// Most images in one run of a model that sees `width` by `height` pixels.
pub(crate) fn most_images(width: usize, height: usize) -> usize {
    (MAX_INPUT_VALUES / (3 * width * height).max(1)).clamp(1, MAX_BATCH)
}

/// The outputs as one image gives them, if they are declared in full but for the batch.
fn declared(outputs: &[TensorInfo]) -> Option<Vec<Seen>> {
    let seen = outputs.iter().map(|output| {
        if !is_readable(output) {
            return Some(Seen { shape: Vec::new(), values: None });
        }
        let rank = output.shape.len();
        let lengths = output.shape.iter().enumerate().map(|(axis, dimension)| match dimension {
            Dimension::Fixed(length) => Some(*length),
            // The first of two may be the number of boxes.
            Dimension::Dynamic(_) if axis == 0 && rank > 2 => Some(1),
            Dimension::Dynamic(_) => None,
        });
        Some(Seen { shape: lengths.collect::<Option<_>>()?, values: None })
    });
    seen.collect::<Option<Vec<_>>>().filter(|seen| seen.iter().any(|seen| !seen.shape.is_empty()))
}

fn unsupported(source: &str, description: &Declaration, reason: String, advice: &str) -> Error {
    let list = |tensors: &[TensorInfo]| -> String {
        let shown: Vec<_> = tensors.iter().take(8).map(ToString::to_string).collect();
        shown.join(", ")
    };
    let tensors = format!("in {}; out {}", list(&description.inputs), list(&description.outputs));
    Error::ModelUnsupported { model: source.to_owned(), reason, tensors, advice: advice.to_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn tensor(name: &str, element: ElementType, shape: &[i64]) -> TensorInfo {
        let shape = shape
            .iter()
            .map(|&length| usize::try_from(length).map_or(Dimension::Dynamic("n".to_owned()), Dimension::Fixed))
            .collect();
        TensorInfo { name: name.to_owned(), element, shape }
    }

    fn description(input: &[i64], output: &[i64], metadata: &[(&str, &str)]) -> Declaration {
        Declaration {
            inputs: vec![tensor("images", ElementType::F32, input)],
            outputs: vec![tensor("output0", ElementType::F32, output)],
            metadata: metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        }
    }

    fn refusal(description: Declaration) -> String {
        Draft::new("m.onnx", description, None).unwrap_err().to_string()
    }

    #[test]
    fn fixed_shapes_need_no_run() {
        let draft = Draft::new("m.onnx", description(&[1, 3, 384, 640], &[1, 84, 5040], &[]), None).unwrap();
        assert_eq!((draft.input.width, draft.input.height), (640, 384));
        let seen = draft.declared.clone().unwrap();
        assert_eq!(seen[0].shape, [1, 84, 5040]);
        // Whether boxes are in pixels shows in a trial, but for what Ultralytics exports.
        assert!(draft.claim(&seen, Reading::default(), &ModelInfo::default()).unwrap().is_none());
        let metadata = [("author", "Ultralytics")];
        let draft = Draft::new("m.onnx", description(&[1, 3, 384, 640], &[1, 84, 5040], &metadata), None).unwrap();
        let claim = draft.claim(&seen, Reading::default(), &ModelInfo::default()).unwrap().unwrap();
        assert_eq!((claim.class_count, draft.batch), (Some(80), Batch::Fixed(1)));
    }

    #[test]
    fn free_sizes_come_from_the_metadata_or_are_640() {
        let free = [-1, 3, -1, -1];
        let draft = Draft::new("m", description(&free, &[-1, -1, 85], &[]), None).unwrap();
        assert_eq!((draft.input.width, draft.input.height, draft.declared), (640, 640, None));
        assert_eq!(draft.batch, Batch::Dynamic);
        let draft = Draft::new("m", description(&free, &[-1, -1, 85], &[("imgsz", "[384, 672]")]), None).unwrap();
        assert_eq!((draft.input.width, draft.input.height), (672, 384));
    }

    #[test]
    fn what_is_no_detector_is_refused_with_its_shapes() {
        let draft = Draft::new("m.onnx", description(&[1, 3, 224, 224], &[1, 1000], &[]), None).unwrap();
        let seen = [Seen { shape: vec![1, 1000], values: None }];
        let text = draft.claim(&seen, Reading::default(), &ModelInfo::default()).unwrap_err().to_string();
        assert!(text.contains("m.onnx") && text.contains("[1, 1000]") && text.contains("classifier"), "{text}");
        let segment = description(&[1, 3, 640, 640], &[1, 116, 8400], &[("task", "segment")]);
        let draft = Draft::new("m.onnx", segment, None).unwrap();
        let seen = draft.declared.clone().unwrap();
        let text = draft.claim(&seen, Reading::default(), &ModelInfo::default()).unwrap_err().to_string();
        assert!(text.contains("segment"), "{text}");
        let text = refusal(description(&[1, 128], &[1, 128, 768], &[]));
        assert!(text.contains("four of a picture"), "{text}");
        let text = refusal(description(&[1, 3, 64, 99_999], &[1, 84, 8400], &[]));
        assert!(text.contains("99999x64"), "{text}");
        let mut words = description(&[1, 3, 640, 640], &[1, 84, 8400], &[]);
        words.inputs[0].element = ElementType::Other("String".to_owned());
        assert!(refusal(words).contains("String"));
        let mut tokens = description(&[1, 3, 640, 640], &[1, 84, 8400], &[]);
        tokens.inputs.push(tensor("tokens", ElementType::I64, &[1, 77]));
        assert!(refusal(tokens).contains("tokens i64 [1, 77]"));
        let mut pair = description(&[1, 3, 640, 640], &[1, 84, 8400], &[]);
        pair.inputs.push(tensor("second", ElementType::F32, &[1, 3, 640, 640]));
        assert!(refusal(pair).contains("2 could be the picture"));
    }

    #[test]
    fn channels_last_bytes_and_sizes_are_given_what_they_ask_for() {
        let mut last = description(&[1, 384, 640, 3], &[1, 84, 5040], &[]);
        last.inputs[0].element = ElementType::U8;
        for (name, element) in [("orig_target_sizes", ElementType::I64), ("im_shape", ElementType::F32)] {
            last.inputs.push(tensor(name, element, &[-1, 2]));
        }
        let input = Draft::new("m", last, None).unwrap().input;
        assert_eq!((input.width, input.height, input.channels_last), (640, 384, true));
        assert_eq!(input.extras[0].values(640, 384), [640, 384]);
        assert_eq!(input.extras[1].values(640, 384), [384, 640]);
    }

    #[test]
    fn ranges_are_white_or_mean_and_deviation() {
        assert_eq!(from_ranges([(0.0, 1.0); 3]), (1.0, None));
        assert_eq!(from_ranges([(0.0, 255.0); 3]), (255.0, None));
        let (white, normalise) = from_ranges([(-1.0, 1.0), (-2.0, 2.0), (0.0, 4.0)]);
        let Normalise { mean, deviation } = normalise.unwrap();
        let ends = |channel: usize| [0.0, white].map(|value| (value - mean[channel]) / deviation[channel]);
        assert_eq!([ends(0), ends(1), ends(2)], [[-1.0, 1.0], [-2.0, 2.0], [0.0, 4.0]]);
    }

    #[test]
    fn raw_heads_beside_the_boxes_are_ignored() {
        let mut old = description(&[1, 3, 640, 640], &[1, 84, 8400], &[("author", "Ultralytics")]);
        for side in [80, 40, 20] {
            old.outputs.push(tensor("raw", ElementType::F32, &[1, 3, side, side, 85]));
        }
        old.outputs.push(tensor("flags", ElementType::Other("Bool".to_owned()), &[1, 84, 8400]));
        let draft = Draft::new("m", old, None).unwrap();
        let seen = draft.declared.clone().unwrap();
        let claim = draft.claim(&seen, Reading::default(), &ModelInfo::default()).unwrap().unwrap();
        assert_eq!(claim.outputs, [0]);
    }

    #[test]
    fn the_users_range_replaces_mean_and_deviation() {
        let draft = Draft::new("m", description(&[1, 3, 64, 64], &[1, 14, 84], &[]), None).unwrap();
        let form = |range| {
            let reading = Reading { range, ..Reading::default() };
            let form = input_form(&draft.input, Preparation::IMAGENET, reading, None);
            (form.white, form.normalise.map(|normalise| normalise.mean[0]))
        };
        assert_eq!(form(None), (1.0, Some(0.485)));
        assert_eq!(form(Some(InputRange::Byte)), (255.0, None));
        assert_eq!(form(Some(InputRange::One)), (1.0, None));
        assert_eq!(form(Some(InputRange::Signed)), (1.0, Some(0.5)));
        let bytes = InputSpec { element: ElementType::U8, ..draft.input };
        let form = input_form(&bytes, Preparation::IMAGENET, Reading::default(), None);
        assert_eq!((form.white, form.normalise), (255.0, None));
    }
}
