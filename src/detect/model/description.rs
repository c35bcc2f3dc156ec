// SPDX-License-Identifier: MIT OR Apache-2.0
//! A detector as the engine uses it: its tensors, input size, layout and classes.
//!
//! Owns the decision whether a model is a detector that can be read, from what ONNX Runtime reports about it; runs nothing
//! itself. Plain data once built.

use crate::detect::error::{Error, Result, Unsupported};
use crate::detect::layouts::task::Task;
use crate::detect::layouts::{
    Conclusion, Evidence, LayoutMatch, Metadata, ModelLayout, ObservedOutput, OutputLayout, Preparation, recognise,
};
use crate::detect::model::hints::{InputRange, ModelHints};
use crate::detect::model::identification::TrialReport;
use crate::detect::onnx::declaration::Declaration;
use crate::detect::onnx::input::{InputSpec, extra_input, picture_size};
use crate::detect::onnx::modelinfo::ModelInfo;
use crate::detect::onnx::python_literal;
use crate::detect::onnx::tensor::{Dimension, ElementType, TensorInfo};
use crate::detect::pixels::input_format::{ChannelOrder, InputFormat, Normalise};

/// Largest fixed batch of a model.
pub const MAX_BATCH: usize = 64;
/// Largest stride of most detectors, in pixels of the input.
const DEFAULT_STRIDE: usize = 32;
/// Largest stride in metadata that is used.
const MAX_STRIDE: usize = 256;
/// Most values in an input tensor: half a gigabyte of f32.
pub(super) const MAX_INPUT_VALUES: usize = 1 << 27;
/// Side of DETR's input, if the model leaves it free: the size that pictures are scaled to in training.
const DETR_SIDE: usize = 800;
/// Most tensor names that are listed as evidence.
const MAX_NAMES_SHOWN: usize = 12;
/// Most tensors that are listed in an error.
const MAX_TENSORS_SHOWN: usize = 8;

/// How many images a model takes in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// Always this many.
    Fixed(usize),
    /// Any number.
    Dynamic,
}

impl Batch {
    /// Returns the smallest number of images in a run.
    pub(crate) fn images(self) -> usize {
        match self {
            Self::Fixed(count) => count,
            Self::Dynamic => 1,
        }
    }
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
    /// Indices of the outputs that are read, in the order that the layout's reader expects.
    pub read_outputs: Vec<usize>,
    /// Width of the input in pixels.
    pub width: usize,
    /// Height of the input in pixels.
    pub height: usize,
    /// Images in each run.
    pub batch: Batch,
    /// How the outputs are decoded.
    pub layout: OutputLayout,
    /// Why this layout was chosen, in a sentence.
    pub layout_reason: String,
    /// What is known about the model, in the order in which it was considered.
    pub evidence: Vec<String>,
    /// Assumptions and contradictions, for the user.
    pub warnings: Vec<String>,
    /// Number of classes; `None` if neither outputs nor metadata say.
    pub class_count: Option<usize>,
    /// The confidence above which detections count, as its author recommends in the metadata; 0 to 1.
    pub recommended_confidence: Option<f32>,
    /// Class names from the metadata.
    pub names: Option<Vec<String>>,
    /// Class names that are usual for the model's family, if the metadata has none.
    pub(super) family_names: Option<Vec<String>>,
    /// What the model does.
    pub task: Task,
    /// The inputs of the model.
    pub(crate) input: InputSpec,
    /// How models of this family expect frames to be prepared.
    pub(crate) preparation: Preparation,
    /// What the user says about the model.
    pub(crate) hints: ModelHints,
    /// The sides of its input are multiples of this, if its size can be chosen.
    pub(crate) stride: usize,
    /// Values of black and white in each channel, from the file beside the model.
    pub(crate) ranges: Option<[(f32, f32); 3]>,
}

impl Model {
    /// Returns the format of the pictures that the model takes.
    #[must_use]
    pub fn input_format(&self) -> InputFormat {
        input_format(&self.input, self.preparation, self.hints, self.ranges)
    }
}

/// Returns the format of a model's pictures. The user's hints take precedence over the file beside the model, and that over the
/// family's usual preparation.
pub(crate) fn input_format(
    input: &InputSpec,
    preparation: Preparation,
    hints: ModelHints,
    ranges: Option<[(f32, f32); 3]>,
) -> InputFormat {
    let order = hints.order.unwrap_or(preparation.order);
    let bytes = input.element == ElementType::U8;
    let (white, normalise) = match (hints.range, ranges) {
        _ if bytes => (255.0, None),
        (Some(InputRange::One), _) => (1.0, None),
        (Some(InputRange::Byte), _) => (255.0, None),
        (Some(InputRange::Signed), _) => (1.0, Some(Normalise { mean: [0.5; 3], deviation: [0.5; 3] })),
        (Some(InputRange::ImageNet), _) => (1.0, in_order(Preparation::IMAGENET, order)),
        (None, Some(ranges)) => from_ranges(ranges),
        (None, None) => (preparation.white, in_order(preparation, order)),
    };
    InputFormat {
        width: input.width,
        height: input.height,
        order,
        white,
        resize_mode: hints.resize_mode.unwrap_or(preparation.resize_mode),
        channels_last: input.channels_last,
        is_grey: input.channels == 1,
        normalise,
        filter: hints.filter,
    }
}

/// Returns the family's mean and deviation of each channel in `order`.
fn in_order(preparation: Preparation, order: ChannelOrder) -> Option<Normalise> {
    let Normalise { mut mean, mut deviation } = preparation.normalise?;
    if order != preparation.order {
        mean.reverse();
        deviation.reverse();
    }
    Some(Normalise { mean, deviation })
}

/// Converts ranges of channels to the value of white, and mean and deviation unless all ranges are 0 to 1 or 0 to 255.
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

/// A model as it is declared: everything is known except, possibly, its outputs.
#[derive(Debug)]
pub(crate) struct DeclaredModel {
    source: String,
    declaration: Declaration,
    pub input: InputSpec,
    pub batch: Batch,
    /// The outputs for one image, if their declaration is complete.
    pub declared_outputs: Option<Vec<ObservedOutput>>,
    metadata: Metadata,
}

impl DeclaredModel {
    /// Checks a model by its declared tensors and metadata. A free input size becomes `wanted_size`.
    ///
    /// # Errors
    /// [`Error::ModelUnsupported`] if it cannot be a detector of a known layout.
    pub fn new(source: &str, declaration: Declaration, wanted_size: Option<(usize, usize)>) -> Result<Self> {
        let refuse = |reason: String, advice: &str| Err(reject(source, &declaration, Unsupported::new(reason, advice)));
        let metadata = Metadata::parse(&declaration.metadata);
        if let Some(task) = &metadata.unknown_task {
            return refuse(
                format!("its metadata says task = {task}, which is not supported"),
                "Supported tasks are detect, segment, pose, obb and classify; use the detection variant of the model",
            );
        }
        // A picture has four dimensions, or three if the model takes a single picture.
        let of_rank = |rank: usize| declaration.inputs.iter().filter(move |input| input.shape.len() == rank);
        let is_channels = |dimension: Option<&Dimension>| matches!(dimension, Some(Dimension::Fixed(1 | 3)));
        let single = || of_rank(3).filter(|input| is_channels(input.shape.first()) || is_channels(input.shape.last()));
        let mut pictures: Vec<&TensorInfo> = of_rank(4).collect();
        if pictures.is_empty() {
            pictures = single().collect();
        }
        let (input, others) = match (declaration.inputs.as_slice(), pictures.as_slice()) {
            ([input], _) => (input, Vec::new()),
            (inputs, [input]) => (*input, inputs.iter().filter(|other| other.name != input.name).collect()),
            (inputs, pictures) => {
                return refuse(
                    format!("it has {} inputs, of which {} could be the picture", inputs.len(), pictures.len()),
                    "Export a model with exactly one input of four dimensions, the picture",
                );
            }
        };
        if !matches!(input.element, ElementType::F32 | ElementType::F16 | ElementType::U8) {
            return refuse(
                format!("its input has the type {}; supported are f32, f16 and u8", input.element),
                "Export it with a floating-point input; dynamically quantised models have f32 inputs and outputs",
            );
        }
        let free_batch = Dimension::Fixed(1);
        let (batch, one, two, three) = match input.shape.as_slice() {
            [batch, one, two, three] => (batch, one, two, three),
            [one, two, three] if !pictures.is_empty() => (&free_batch, one, two, three),
            other => {
                return refuse(
                    match other.len() {
                        0 => "its input has no declared shape; a picture has four dimensions".to_owned(),
                        count => format!("its input has {count} dimensions, not the four of a picture"),
                    },
                    "A detector takes [batch, 3, height, width]; this may be a model for another purpose",
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
            Err(unsupported) => return Err(reject(source, &declaration, unsupported)),
        };
        let mut extras = Vec::with_capacity(others.len());
        for other in others {
            let Some(extra) = extra_input(other, (width, height)) else {
                return refuse(
                    format!("it has an input {other}; supported are a picture, its size and a mask of its pixels"),
                    "The nearest layout is that of the DETR family, with orig_target_sizes [batch, 2]; this may be a model for another purpose",
                );
            };
            extras.push(extra);
        }
        let batch = match batch {
            Dimension::Dynamic(_) => Batch::Dynamic,
            Dimension::Fixed(count) if (1..=max_images(width, height)).contains(count) => Batch::Fixed(*count),
            Dimension::Fixed(count) => {
                return refuse(
                    format!("its batch is {count}; supported are 1 to {} pictures", max_images(width, height)),
                    "Export it with a batch of 1",
                );
            }
        };
        let (name, element, has_batch) = (input.name.clone(), input.element.clone(), input.shape.len() == 4);
        let input = InputSpec { name, element, width, height, channels_last, channels, has_batch, extras };
        let declared_outputs = declared_outputs(&declaration.outputs);
        Ok(Self { source: source.to_owned(), input, batch, declared_outputs, metadata, declaration })
    }

    /// Whether width or height of the input is free.
    pub fn has_free_size(&self) -> bool {
        let picture = self.declaration.inputs.iter().find(|input| input.name == self.input.name);
        picture.is_some_and(|input| input.shape[1..].iter().any(|side| matches!(side, Dimension::Dynamic(_))))
    }

    /// Returns the indices of the outputs whose values can be read.
    pub fn readable_outputs(&self) -> Vec<usize> {
        let outputs = self.declaration.outputs.iter().enumerate();
        outputs.filter(|(_, output)| is_readable(output)).map(|(index, _)| index).collect()
    }

    /// Returns the number of outputs.
    pub fn output_count(&self) -> usize {
        self.declaration.outputs.len()
    }

    /// Matches the model with these outputs to a layout; `None` if values of a trial run are needed.
    ///
    /// # Errors
    /// [`Error::ModelUnsupported`] if no layout matches.
    pub fn match_layout(
        &self,
        outputs: &[ObservedOutput],
        hints: ModelHints,
        info: &ModelInfo,
    ) -> Result<Option<LayoutMatch>> {
        let stated = ModelLayout::from_tensor_ids(&info.output_ids);
        let selected = hints.layout.or(stated);
        let evidence = Evidence::new(&self.metadata, &self.input, &self.declaration.outputs, outputs, selected);
        let mut unsupported = match recognise(&evidence) {
            Conclusion::NeedsTrialRun => return Ok(None),
            Conclusion::Match(matched)
                if matched.class_count.is_some_and(|count| count > python_literal::MAX_CLASSES) =>
            {
                Unsupported::new(
                    format!("its output would have more than {} classes", python_literal::MAX_CLASSES),
                    "This may be a model for another purpose",
                )
            }
            Conclusion::Match(matched) => return Ok(Some(*matched)),
            Conclusion::Unsupported(unsupported) => unsupported,
        };
        if hints.layout.is_none() && stated.is_some() {
            unsupported.advice =
                "The .modelinfo file beside it states this layout; correct the id in that file or remove the file"
                    .to_owned();
        }
        Err(reject(&self.source, &self.declaration, unsupported))
    }

    /// Builds the model that is read as `matched` says, with frames prepared as `preparation` says.
    pub fn finish(
        self,
        matched: LayoutMatch,
        preparation: Preparation,
        hints: ModelHints,
        info: &ModelInfo,
        trial: TrialReport,
    ) -> Model {
        let Self { source, declaration, input, batch, metadata, .. } = self;
        let mut evidence = Vec::new();
        if let Some(layout) = hints.layout {
            evidence.push(format!("model-layout is set to {layout}"));
        } else if let Some(layout) = ModelLayout::from_tensor_ids(&info.output_ids) {
            evidence.push(format!("the .modelinfo file beside it states the layout {layout}"));
        }
        evidence.extend(metadata.lines);
        let names = |tensors: &[TensorInfo]| {
            let names = tensors.iter().take(MAX_NAMES_SHOWN).map(|tensor| tensor.name.clone());
            names.collect::<Vec<_>>().join(", ")
        };
        evidence.push(format!(
            "inputs are named {}, outputs {}",
            names(&declaration.inputs),
            names(&declaration.outputs)
        ));
        evidence.extend(trial.evidence);
        let mut warnings = metadata.warnings;
        warnings.extend(matched.warnings);
        warnings.extend(trial.warnings);
        Model {
            source,
            inputs: declaration.inputs,
            outputs: declaration.outputs,
            read_outputs: matched.outputs,
            width: input.width,
            height: input.height,
            batch,
            layout: matched.layout,
            layout_reason: matched.reason,
            evidence,
            warnings,
            class_count: matched.class_count,
            recommended_confidence: metadata.confidence,
            names: metadata.names,
            family_names: matched.names.list(),
            task: matched.task,
            input,
            preparation,
            hints,
            stride: metadata.stride.filter(|stride| (1..=MAX_STRIDE).contains(stride)).unwrap_or(DEFAULT_STRIDE),
            ranges: info.ranges,
        }
    }
}

/// Whether the values of an output can be read.
fn is_readable(output: &TensorInfo) -> bool {
    !matches!(output.element, ElementType::Other(_))
}

/// Returns the most images in one run of a model with an input of `width` by `height` pixels.
pub(crate) fn max_images(width: usize, height: usize) -> usize {
    (MAX_INPUT_VALUES / (3 * width * height).max(1)).clamp(1, MAX_BATCH)
}

/// Returns the outputs for one image, if all dimensions except the batch are declared.
fn declared_outputs(outputs: &[TensorInfo]) -> Option<Vec<ObservedOutput>> {
    let observed = outputs.iter().map(|output| {
        if !is_readable(output) {
            return Some(ObservedOutput { shape: Vec::new(), values: None });
        }
        let rank = output.shape.len();
        let lengths = output.shape.iter().enumerate().map(|(axis, dimension)| match dimension {
            Dimension::Fixed(length) => Some(*length),
            // The first dimension of two may be the number of boxes.
            Dimension::Dynamic(_) if axis == 0 && rank > 2 => Some(1),
            Dimension::Dynamic(_) => None,
        });
        Some(ObservedOutput { shape: lengths.collect::<Option<_>>()?, values: None })
    });
    let observed = observed.collect::<Option<Vec<_>>>();
    observed.filter(|outputs| outputs.iter().any(|output| !output.shape.is_empty()))
}

/// Builds the error for a model that is not supported.
fn reject(source: &str, declaration: &Declaration, Unsupported { reason, advice }: Unsupported) -> Error {
    let list = |tensors: &[TensorInfo]| -> String {
        let shown: Vec<_> = tensors.iter().take(MAX_TENSORS_SHOWN).map(ToString::to_string).collect();
        shown.join(", ")
    };
    let tensors = format!("in {}; out {}", list(&declaration.inputs), list(&declaration.outputs));
    Error::ModelUnsupported { model: source.to_owned(), reason, tensors, advice }
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

    fn declaration(input: &[i64], output: &[i64], metadata: &[(&str, &str)]) -> Declaration {
        Declaration {
            inputs: vec![tensor("images", ElementType::F32, input)],
            outputs: vec![tensor("output0", ElementType::F32, output)],
            metadata: metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        }
    }

    fn refusal(declaration: Declaration) -> String {
        DeclaredModel::new("m.onnx", declaration, None).unwrap_err().to_string()
    }

    #[test]
    fn fixed_shapes_need_no_run() {
        let model = DeclaredModel::new("m.onnx", declaration(&[1, 3, 384, 640], &[1, 84, 5040], &[]), None).unwrap();
        assert_eq!((model.input.width, model.input.height), (640, 384));
        let outputs = model.declared_outputs.clone().unwrap();
        assert_eq!(outputs[0].shape, [1, 84, 5040]);
        // A trial run shows whether boxes are in pixels, except for Ultralytics' own exports.
        assert!(model.match_layout(&outputs, ModelHints::default(), &ModelInfo::default()).unwrap().is_none());
        let metadata = [("author", "Ultralytics")];
        let model =
            DeclaredModel::new("m.onnx", declaration(&[1, 3, 384, 640], &[1, 84, 5040], &metadata), None).unwrap();
        let matched = model.match_layout(&outputs, ModelHints::default(), &ModelInfo::default()).unwrap().unwrap();
        assert_eq!((matched.class_count, model.batch), (Some(80), Batch::Fixed(1)));
    }

    #[test]
    fn batches_and_strides_over_the_limits_are_not_used() {
        let batch = |images: usize| declaration(&[images as i64, 3, 64, 64], &[images as i64, 84, 84], &[]);
        assert!(DeclaredModel::new("m.onnx", batch(MAX_BATCH), None).is_ok());
        assert!(refusal(batch(MAX_BATCH + 1)).contains("batch"));
        for (stride, used) in [(MAX_STRIDE, MAX_STRIDE), (MAX_STRIDE + 1, DEFAULT_STRIDE), (0, DEFAULT_STRIDE)] {
            let metadata = [("author", "Ultralytics"), ("stride", &*stride.to_string())];
            let model =
                DeclaredModel::new("m.onnx", declaration(&[1, 3, 384, 640], &[1, 84, 5040], &metadata), None).unwrap();
            let (hints, info) = (ModelHints::default(), ModelInfo::default());
            let outputs = model.declared_outputs.clone().unwrap();
            let matched = model.match_layout(&outputs, hints, &info).unwrap().unwrap();
            let model = model.finish(matched, Preparation::YOLO, hints, &info, TrialReport::default());
            assert_eq!(model.stride, used, "{stride}");
        }
    }

    #[test]
    fn free_sizes_come_from_the_metadata_or_are_640() {
        let free = [-1, 3, -1, -1];
        let model = DeclaredModel::new("m", declaration(&free, &[-1, -1, 85], &[]), None).unwrap();
        assert_eq!((model.input.width, model.input.height, model.declared_outputs), (640, 640, None));
        assert_eq!(model.batch, Batch::Dynamic);
        let model =
            DeclaredModel::new("m", declaration(&free, &[-1, -1, 85], &[("imgsz", "[384, 672]")]), None).unwrap();
        assert_eq!((model.input.width, model.input.height), (672, 384));
    }

    #[test]
    fn other_models_are_rejected_with_their_shapes() {
        let model = DeclaredModel::new("m.onnx", declaration(&[1, 3, 224, 224], &[1, 1000], &[]), None).unwrap();
        let outputs = [ObservedOutput { shape: vec![1, 1000], values: None }];
        let text = model.match_layout(&outputs, ModelHints::default(), &ModelInfo::default()).unwrap_err().to_string();
        assert!(text.contains("m.onnx") && text.contains("[1, 1000]") && text.contains("classifier"), "{text}");
        let segment = declaration(&[1, 3, 640, 640], &[1, 116, 8400], &[("task", "segment")]);
        let model = DeclaredModel::new("m.onnx", segment, None).unwrap();
        let outputs = model.declared_outputs.clone().unwrap();
        let text = model.match_layout(&outputs, ModelHints::default(), &ModelInfo::default()).unwrap_err().to_string();
        assert!(text.contains("segment"), "{text}");
        let text = refusal(declaration(&[1, 128], &[1, 128, 768], &[]));
        assert!(text.contains("four of a picture"), "{text}");
        let text = refusal(declaration(&[1, 3, 64, 99_999], &[1, 84, 8400], &[]));
        assert!(text.contains("99999x64"), "{text}");
        let mut words = declaration(&[1, 3, 640, 640], &[1, 84, 8400], &[]);
        words.inputs[0].element = ElementType::Other("String".to_owned());
        assert!(refusal(words).contains("String"));
        let mut tokens = declaration(&[1, 3, 640, 640], &[1, 84, 8400], &[]);
        tokens.inputs.push(tensor("tokens", ElementType::I64, &[1, 77]));
        assert!(refusal(tokens).contains("tokens i64 [1, 77]"));
        let mut pair = declaration(&[1, 3, 640, 640], &[1, 84, 8400], &[]);
        pair.inputs.push(tensor("second", ElementType::F32, &[1, 3, 640, 640]));
        assert!(refusal(pair).contains("2 could be the picture"));
    }

    #[test]
    fn channels_last_bytes_and_sizes_are_supported() {
        let mut last = declaration(&[1, 384, 640, 3], &[1, 84, 5040], &[]);
        last.inputs[0].element = ElementType::U8;
        for (name, element) in [("orig_target_sizes", ElementType::I64), ("im_shape", ElementType::F32)] {
            last.inputs.push(tensor(name, element, &[-1, 2]));
        }
        let input = DeclaredModel::new("m", last, None).unwrap().input;
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
        let mut old = declaration(&[1, 3, 640, 640], &[1, 84, 8400], &[("author", "Ultralytics")]);
        for side in [80, 40, 20] {
            old.outputs.push(tensor("raw", ElementType::F32, &[1, 3, side, side, 85]));
        }
        old.outputs.push(tensor("flags", ElementType::Other("Bool".to_owned()), &[1, 84, 8400]));
        let model = DeclaredModel::new("m", old, None).unwrap();
        let outputs = model.declared_outputs.clone().unwrap();
        let matched = model.match_layout(&outputs, ModelHints::default(), &ModelInfo::default()).unwrap().unwrap();
        assert_eq!(matched.outputs, [0]);
    }

    #[test]
    fn the_users_range_replaces_mean_and_deviation() {
        let model = DeclaredModel::new("m", declaration(&[1, 3, 64, 64], &[1, 14, 84], &[]), None).unwrap();
        let format = |range| {
            let hints = ModelHints { range, ..ModelHints::default() };
            let format = input_format(&model.input, Preparation::IMAGENET, hints, None);
            (format.white, format.normalise.map(|normalise| normalise.mean[0]))
        };
        assert_eq!(format(None), (1.0, Some(0.485)));
        assert_eq!(format(Some(InputRange::Byte)), (255.0, None));
        assert_eq!(format(Some(InputRange::One)), (1.0, None));
        assert_eq!(format(Some(InputRange::Signed)), (1.0, Some(0.5)));
        let bytes = InputSpec { element: ElementType::U8, ..model.input };
        let format = input_format(&bytes, Preparation::IMAGENET, ModelHints::default(), None);
        assert_eq!((format.white, format.normalise), (255.0, None));
    }

    #[test]
    fn an_input_of_too_many_values_is_refused() {
        let side = crate::detect::onnx::input::MAX_SIDE;
        let most = MAX_INPUT_VALUES / (3 * side * side);
        assert!((1..MAX_BATCH).contains(&most));
        let input = |images: usize| declaration(&[images as i64, 3, side as i64, side as i64], &[-1, 84, -1], &[]);
        assert!(DeclaredModel::new("m.onnx", input(most), None).is_ok());
        let refused = refusal(input(most + 1));
        assert!(refused.contains(&format!("its batch is {}; supported are 1 to {most}", most + 1)), "{refused}");
        assert_eq!((max_images(side, side), max_images(64, 64)), (most, MAX_BATCH));
    }
}
