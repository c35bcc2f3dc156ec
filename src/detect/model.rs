//! What a model is: its tensors, the size it looks at, its layout and its classes.
//!
//! Owns the judgement whether a model is a detector that can be read, from what ONNX Runtime says of it; runs nothing
//! itself. Plain data once made.

use std::collections::HashMap;

use super::error::{Error, Result};
use super::form::{ChannelOrder, InputForm, Normalise};
use super::heads::{Seen, tell_outputs};
use super::input::{InputSpec, picture_size, size_input};
use super::layout::{Distances, FlatForm, Hints, Layout, Told};
use super::letterbox::Anchor;
use super::literal;
use super::modelinfo::ModelInfo;
use super::plan::Reading;
use super::task::Task;
use super::tensor::{Dimension, ElementType, TensorInfo};

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
    /// Number of classes; `None` where neither output nor metadata tells it.
    pub class_count: Option<usize>,
    /// Class names from the metadata.
    pub names: Option<Vec<String>>,
    /// What it does.
    pub task: Task,
    /// What it is given.
    pub(super) input: InputSpec,
    /// What the user says of it.
    pub(super) reading: Reading,
    /// What black and white stand for in each channel, as the file beside the model says.
    pub(super) ranges: Option<[(f32, f32); 3]>,
}

impl Model {
    /// The picture as this model wants it.
    #[must_use]
    pub fn input_form(&self) -> InputForm {
        let (order, white, anchor, normalise) = match self.layout {
            // YOLOX: BGR 0..255, padded at the right and below (Megvii, yolox/data/data_augment.py, `preproc`).
            Layout::Yolox => (ChannelOrder::Bgr, 255.0, Anchor::TopLeft, None),
            // NanoDet-Plus: BGR, stretched (RangiLyu, nanodet/config/nanodet-plus-m_416.yml).
            Layout::Distances(Distances { joined: true, .. }) => {
                let normalise = Normalise { mean: [103.53, 116.28, 123.675], deviation: [57.375, 57.12, 58.395] };
                (ChannelOrder::Bgr, 255.0, Anchor::Stretch, Some(normalise))
            }
            // PicoDet: RGB, stretched, ImageNet's mean and deviation (PaddleDetection, configs/picodet/_base_/*.yml).
            Layout::Distances(_) | Layout::Flat(FlatForm::Paddle) => {
                let normalise = Normalise { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };
                (ChannelOrder::Rgb, 1.0, Anchor::Stretch, Some(normalise))
            }
            _ => (ChannelOrder::Rgb, 1.0, Anchor::Center, None),
        };
        let Reading { anchor: wanted_anchor, order: wanted_order, white_is_255, filter, .. } = self.reading;
        let white = white_is_255.map_or(white, |is_255| if is_255 { 255.0 } else { 1.0 });
        let white = if self.input.element == ElementType::U8 { 255.0 } else { white };
        let (anchor, order) = (wanted_anchor.unwrap_or(anchor), wanted_order.unwrap_or(order));
        let (white, normalise) = match self.ranges {
            Some(ranges) if white_is_255.is_none() && self.input.element != ElementType::U8 => from_ranges(ranges),
            _ => (white, normalise),
        };
        let (width, height, channels_last) = (self.width, self.height, self.input.channels_last);
        InputForm { width, height, order, white, anchor, channels_last, normalise, filter }
    }
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

/// What ONNX Runtime says of a model.
#[derive(Debug, Clone, Default)]
pub(super) struct Description {
    pub inputs: Vec<TensorInfo>,
    pub outputs: Vec<TensorInfo>,
    /// Custom metadata, by key.
    pub metadata: HashMap<String, String>,
}

/// Metadata keys that are looked at.
pub(super) const METADATA_KEYS: [&str; 6] = ["names", "task", "imgsz", "end2end", "author", "kpt_shape"];

/// A model of which everything is known but, perhaps, its outputs.
#[derive(Debug)]
pub(super) struct Draft {
    source: String,
    description: Description,
    pub input: InputSpec,
    pub batch: Batch,
    /// The outputs as one image gives them, where what is declared leaves nothing open.
    pub declared: Option<Vec<Seen>>,
    names: Option<Vec<String>>,
    task: Task,
}

impl Draft {
    /// Judges a model by its declared tensors and metadata; it is given pictures of the `wanted_size`, if that is free.
    ///
    /// # Errors
    /// [`Error::ModelUnsupported`] with the reason where it cannot be a detector of a known layout.
    pub fn new(source: &str, description: Description, wanted_size: Option<(usize, usize)>) -> Result<Self> {
        let refuse = |reason: String, advice: &str| Err(unsupported(source, &description, reason, advice));
        let task = match task_of(&description) {
            Ok(task) => task,
            Err(reason) => {
                return refuse(
                    reason,
                    "Known tasks are detect, segment, pose, obb and classify; use the model's detection variant",
                );
            }
        };
        let pictures: Vec<&TensorInfo> = description.inputs.iter().filter(|input| input.shape.len() == 4).collect();
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
        let mut sizes = Vec::with_capacity(others.len());
        for other in others {
            let Some(size) = size_input(other) else {
                return refuse(
                    format!("it wants an input {other}, and only a picture and its size can be given"),
                    "The nearest is the DETR family with orig_target_sizes [batch, 2]; this may be a model for another purpose",
                );
            };
            sizes.push(size);
        }
        if !matches!(input.element, ElementType::F32 | ElementType::F16 | ElementType::U8) {
            return refuse(
                format!("its input holds {}, and only f32, f16 and u8 are given", input.element),
                "Export it with a floating-point input; quantised models of that kind keep f32 at their ends",
            );
        }
        let [batch, one, two, three] = input.shape.as_slice() else {
            return refuse(
                match input.shape.len() {
                    0 => "its input declares no shape, and a picture has four dimensions".to_owned(),
                    count => format!("its input has {count} dimensions, not the four of a picture"),
                },
                "An image detector takes [batch, 3, height, width]; this may be a model for another purpose",
            );
        };
        let is_three = |dimension: &Dimension| matches!(dimension, Dimension::Fixed(3));
        let channels_last = is_three(three) && !is_three(one);
        let (channels, rows, columns) = if channels_last { (three, one, two) } else { (one, two, three) };
        if matches!(channels, Dimension::Fixed(count) if *count != 3) {
            return refuse(
                format!("its input has {channels} channels, not 3"),
                "A detector takes [batch, 3, height, width]; this may be a model for another purpose",
            );
        }
        let trained = description.metadata.get("imgsz").and_then(|text| literal::image_size(text));
        let trained = trained.map(|(height, width)| (width, height));
        let (width, height) = match picture_size((columns, rows), trained, wanted_size) {
            Ok(size) => size,
            Err((reason, advice)) => return refuse(reason, advice),
        };
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
        if let Some(output) = description.outputs.iter().find(|output| matches!(output.element, ElementType::Other(_)))
        {
            return refuse(
                format!("its output {} holds {}, which is not read", output.name, output.element),
                "Export it with floating-point outputs",
            );
        }
        let names = description.metadata.get("names").and_then(|text| literal::class_names(text));
        let (name, element) = (input.name.clone(), input.element.clone());
        let input = InputSpec { name, element, width, height, channels_last, sizes };
        let declared = declared(&description.outputs);
        Ok(Self { source: source.to_owned(), input, batch, declared, names, task, description })
    }

    /// Whether it leaves width or height free.
    pub fn has_free_size(&self) -> bool {
        let picture = self.description.inputs.iter().find(|input| input.name == self.input.name);
        picture.is_some_and(|input| input.shape[1..].iter().any(|side| matches!(side, Dimension::Dynamic(_))))
    }

    /// The model, now that its outputs were seen.
    ///
    /// # Errors
    /// [`Error::ModelUnsupported`] where they fit no layout.
    pub fn finish(self, seen: &[Seen], reading: Reading, info: &ModelInfo) -> Result<Model> {
        let metadata = &self.description.metadata;
        let hints = Hints {
            class_count: self.names.as_ref().map(Vec::len),
            end_to_end: metadata.get("end2end").and_then(|text| match text.trim() {
                "True" | "true" => Some(true),
                "False" | "false" => Some(false),
                _ => None,
            }),
            forced: reading.family.or(info.family),
            task: self.task,
            is_ultralytics: metadata.get("author").is_some_and(|author| author.contains("Ultralytics")),
        };
        let size = (self.input.width, self.input.height);
        let sized = !self.input.sizes.is_empty();
        let Told { layout, class_count, reason, outputs } =
            tell_outputs(&self.description.outputs, seen, size, sized, hints).map_err(|(reason, advice)| {
                let is_told_beside = reading.family.is_none() && info.family.is_some();
                let beside = "The .modelinfo file beside it says so; correct its id or take it away".to_owned();
                let advice = if is_told_beside { beside } else { advice };
                unsupported(&self.source, &self.description, reason, &advice)
            })?;
        if class_count.is_some_and(|count| count > literal::MAX_CLASSES) {
            let reason = format!("its output would have over {} classes", literal::MAX_CLASSES);
            let advice = "This may be a model for another purpose";
            return Err(unsupported(&self.source, &self.description, reason, advice));
        }
        let Self { source, description, input, batch, names, task, .. } = self;
        Ok(Model {
            source,
            inputs: description.inputs,
            outputs: description.outputs,
            read_outputs: outputs,
            width: input.width,
            height: input.height,
            batch,
            layout,
            layout_reason: reason,
            class_count,
            names,
            task,
            input,
            reading,
            ranges: info.ranges,
        })
    }
}

/// Most images in one run of a model that sees `width` by `height` pixels.
pub(super) fn most_images(width: usize, height: usize) -> usize {
    (MAX_INPUT_VALUES / (3 * width * height).max(1)).clamp(1, MAX_BATCH)
}

/// What the metadata says that the model does; fails with a reason.
fn task_of(description: &Description) -> Result<Task, String> {
    let metadata = |key: &str| description.metadata.get(key).map(|text| text.trim());
    match metadata("task") {
        None | Some("detect") => Ok(Task::Detect),
        Some("classify") => Ok(Task::Classify),
        Some("obb") => Ok(Task::Obb),
        Some("segment") => {
            let prototypes = description.outputs.iter().find(|output| output.shape.len() == 4);
            match prototypes.map(|output| &output.shape[1]) {
                Some(Dimension::Fixed(coefficients)) => Ok(Task::Segment { coefficients: *coefficients }),
                _ => Err("its metadata says that it segments, but it has no output of prototypes".to_owned()),
            }
        }
        Some("pose") => match metadata("kpt_shape").and_then(literal::image_size) {
            Some((points, values)) if (2..=3).contains(&values) && points <= MAX_KEYPOINTS => {
                Ok(Task::Pose { points, values })
            }
            _ => Err("its metadata says that it finds poses, but not how many keypoints (kpt_shape)".to_owned()),
        },
        Some(other) => Err(format!("its metadata says its task is \"{other}\", which is not known")),
    }
}

/// Most keypoints of an object.
const MAX_KEYPOINTS: usize = 1000;

/// The outputs as one image gives them, if a single one is declared in full but for the batch. Several are better seen:
/// whether boxes are in pixels shows only in their values.
fn declared(outputs: &[TensorInfo]) -> Option<Vec<Seen>> {
    let boxes: Vec<_> = outputs.iter().filter(|output| output.shape.len() == 3).collect();
    let beside = |output: &TensorInfo| output.shape.len() == 3 || output.shape.len() > 3;
    if boxes.len() != 1 || !outputs.iter().all(beside) {
        return None;
    }
    let seen = outputs.iter().map(|output| {
        let lengths = output.shape.iter().enumerate().map(|(axis, dimension)| match dimension {
            Dimension::Fixed(length) => Some(*length),
            Dimension::Dynamic(_) if axis == 0 => Some(1),
            Dimension::Dynamic(_) => None,
        });
        Some(Seen { shape: lengths.collect::<Option<_>>()?, largest: None })
    });
    seen.collect()
}

fn unsupported(source: &str, description: &Description, reason: String, advice: &str) -> Error {
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

    fn description(input: &[i64], output: &[i64], metadata: &[(&str, &str)]) -> Description {
        Description {
            inputs: vec![tensor("images", ElementType::F32, input)],
            outputs: vec![tensor("output0", ElementType::F32, output)],
            metadata: metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        }
    }

    fn refusal(description: Description) -> String {
        Draft::new("m.onnx", description, None).unwrap_err().to_string()
    }

    #[test]
    fn fixed_shapes_need_no_run() {
        let draft = Draft::new("m.onnx", description(&[1, 3, 384, 640], &[1, 84, 5040], &[]), None).unwrap();
        assert_eq!((draft.input.width, draft.input.height), (640, 384));
        let seen = draft.declared.clone().unwrap();
        assert_eq!(seen[0].shape, [1, 84, 5040]);
        let model = draft.finish(&seen, Reading::default(), &ModelInfo::default()).unwrap();
        assert_eq!((model.class_count, model.batch), (Some(80), Batch::Fixed(1)));
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
        let seen = [Seen { shape: vec![1, 1000], largest: None }];
        let text = draft.finish(&seen, Reading::default(), &ModelInfo::default()).unwrap_err().to_string();
        assert!(text.contains("m.onnx") && text.contains("[1, 1000]") && text.contains("classifier"), "{text}");
        let text = refusal(description(&[1, 3, 640, 640], &[1, 116, 8400], &[("task", "segment")]));
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
        assert_eq!(input.sizes[0].values(640, 384), [640, 384]);
        assert_eq!(input.sizes[1].values(640, 384), [384, 640]);
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
    fn raw_heads_beside_the_boxes_are_passed_over() {
        let mut old = description(&[1, 3, 640, 640], &[1, 25200, 85], &[]);
        for side in [80, 40, 20] {
            old.outputs.push(tensor("raw", ElementType::F32, &[1, 3, side, side, 85]));
        }
        let draft = Draft::new("m", old, None).unwrap();
        let seen = draft.declared.clone().unwrap();
        assert_eq!(draft.finish(&seen, Reading::default(), &ModelInfo::default()).unwrap().read_outputs, [0]);
    }
}
