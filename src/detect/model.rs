//! What a model is: its tensors, the size it looks at, its layout and its classes.
//!
//! Owns the judgement whether a model is a detector that can be read, from what ONNX Runtime says of it; runs nothing
//! itself. Plain data once made.

use std::collections::HashMap;

use super::error::{Error, Result};
use super::layout::{Hints, Layout, Told, tell};
use super::letterbox::Anchor;
use super::literal;
use super::prepare::{ChannelOrder, InputForm};
use super::tensor::{Dimension, ElementType, TensorInfo};

/// Side of models that take any size and do not say which they were trained for, in pixels.
pub const DEFAULT_SIDE: usize = 640;
/// Longest side of a model's input, in pixels.
pub const MAX_SIDE: usize = 4096;
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
    /// Which output holds the boxes.
    pub output_index: usize,
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
    /// `task` of the metadata.
    pub task: Option<String>,
}

impl Model {
    /// The picture as this model wants it.
    pub(super) fn input_form(&self) -> InputForm {
        let (order, white, anchor) = match self.layout {
            // YOLOX: BGR 0..255, padded at the right and below (Megvii, yolox/data/data_augment.py, `preproc`).
            Layout::Yolox => (ChannelOrder::Bgr, 255.0, Anchor::TopLeft),
            _ => (ChannelOrder::Rgb, 1.0, Anchor::Center),
        };
        InputForm { width: self.width, height: self.height, order, white, anchor }
    }

    /// Whether input values are 16-bit floats.
    pub(super) fn input_is_half(&self) -> bool {
        self.inputs.first().is_some_and(|input| input.element == ElementType::F16)
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
pub(super) const METADATA_KEYS: [&str; 5] = ["names", "task", "imgsz", "end2end", "author"];

/// A model of which everything is known but, perhaps, the shape of its output.
#[derive(Debug)]
pub(super) struct Draft {
    source: String,
    description: Description,
    pub width: usize,
    pub height: usize,
    pub batch: Batch,
    pub output_index: usize,
    /// Rows and columns of the output where they are declared.
    pub declared: Option<(usize, usize)>,
    names: Option<Vec<String>>,
}

impl Draft {
    /// Judges a model by its declared tensors and metadata.
    ///
    /// # Errors
    /// [`Error::ModelUnsupported`] with the reason where it cannot be a detector of a known layout.
    pub fn new(source: &str, description: Description) -> Result<Self> {
        let refuse = |reason: String, advice: &str| Err(unsupported(source, &description, reason, advice));
        if let Some(task) = description.metadata.get("task")
            && task.trim() != "detect"
        {
            return refuse(
                format!("its metadata says its task is \"{}\", and only detection is read", task.trim()),
                "Use the model's detection variant, for example yolo11n instead of yolo11n-seg",
            );
        }
        let [input] = description.inputs.as_slice() else {
            return refuse(
                format!("it has {} inputs, and one picture is all that is given", description.inputs.len()),
                "The nearest is the DETR family with a second input for sizes, which is not read; export a model whose one \
                 input is the picture",
            );
        };
        if !matches!(input.element, ElementType::F32 | ElementType::F16) {
            return refuse(
                format!("its input holds {}, and only f32 and f16 are given", input.element),
                "Export it with a floating-point input; quantised models of that kind keep f32 at their ends",
            );
        }
        let [batch, channels, rows, columns] = input.shape.as_slice() else {
            return refuse(
                format!("its input has {} dimensions, not the four of a picture", input.shape.len()),
                "An image detector takes [batch, 3, height, width]; this may be a model for another purpose",
            );
        };
        if matches!(columns, Dimension::Fixed(3)) && !matches!(channels, Dimension::Fixed(3)) {
            return refuse(
                "its input has the colour channels last".to_owned(),
                "Export it with channels first: [batch, 3, height, width]",
            );
        }
        if matches!(channels, Dimension::Fixed(count) if *count != 3) {
            return refuse(
                format!("its input has {channels} channels, not 3"),
                "A detector takes [batch, 3, height, width]; this may be a model for another purpose",
            );
        }
        let trained = description.metadata.get("imgsz").and_then(|text| literal::image_size(text));
        let side = |dimension: &Dimension, trained: Option<usize>| match dimension {
            Dimension::Fixed(length) => *length,
            Dimension::Dynamic(_) => trained.unwrap_or(DEFAULT_SIDE),
        };
        let height = side(rows, trained.map(|size| size.0));
        let width = side(columns, trained.map(|size| size.1));
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return refuse(
                format!("its input is {width}x{height} pixels; each side must be 1 to {MAX_SIDE}"),
                "Export it with a smaller input",
            );
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
        let output_index = choose_output(source, &description)?;
        let declared = match description.outputs[output_index].shape.as_slice() {
            [_, Dimension::Fixed(rows), Dimension::Fixed(columns)] => Some((*rows, *columns)),
            _ => None,
        };
        let names = description.metadata.get("names").and_then(|text| literal::class_names(text));
        Ok(Self { source: source.to_owned(), width, height, batch, output_index, declared, names, description })
    }

    /// Whether input values are 16-bit floats.
    pub fn input_is_half(&self) -> bool {
        self.description.inputs.first().is_some_and(|input| input.element == ElementType::F16)
    }

    /// The model, now that the rows and columns of its output are known.
    ///
    /// # Errors
    /// [`Error::ModelUnsupported`] where the shape fits no layout.
    pub fn finish(self, rows: usize, columns: usize) -> Result<Model> {
        let metadata = &self.description.metadata;
        let hints = Hints {
            class_count: self.names.as_ref().map(Vec::len),
            end_to_end: metadata.get("end2end").and_then(|text| match text.trim() {
                "True" | "true" => Some(true),
                "False" | "false" => Some(false),
                _ => None,
            }),
            is_ultralytics: metadata.get("author").is_some_and(|author| author.contains("Ultralytics")),
        };
        let Told { layout, class_count, reason } = tell(rows, columns, self.width, self.height, hints)
            .map_err(|(reason, advice)| unsupported(&self.source, &self.description, reason, &advice))?;
        if class_count.is_some_and(|count| count > literal::MAX_CLASSES) {
            let reason = format!("its output [1, {rows}, {columns}] would have over {} classes", literal::MAX_CLASSES);
            return Err(unsupported(
                &self.source,
                &self.description,
                reason,
                "This may be a model for another purpose",
            ));
        }
        let task = metadata.get("task").cloned();
        let Self { source, description, width, height, batch, output_index, names, .. } = self;
        Ok(Model {
            source,
            inputs: description.inputs,
            outputs: description.outputs,
            output_index,
            width,
            height,
            batch,
            layout,
            layout_reason: reason,
            class_count,
            names,
            task,
        })
    }
}

/// Most images in one run of a model that sees `width` by `height` pixels.
pub(super) fn most_images(width: usize, height: usize) -> usize {
    (MAX_INPUT_VALUES / (3 * width * height).max(1)).clamp(1, MAX_BATCH)
}

/// The one output that can hold the boxes: three dimensions, beside nothing but raw heads of five.
fn choose_output(source: &str, description: &Description) -> Result<usize> {
    let refuse = |reason: String, advice: &str| Err(unsupported(source, description, reason, advice));
    let with_rank = |rank: usize| -> Vec<usize> {
        let ranks = description.outputs.iter().enumerate();
        ranks.filter(|(_, output)| output.shape.len() == rank).map(|(index, _)| index).collect()
    };
    if description.outputs.iter().any(|output| matches!(output.name.as_str(), "labels" | "scores")) {
        return refuse(
            "its boxes, labels and scores are separate outputs".to_owned(),
            "This is the DETR family (RT-DETR, D-FINE, DEIM), which is not read; use a YOLO export",
        );
    }
    let index = match (with_rank(3).as_slice(), with_rank(0).as_slice()) {
        ([index], _) | ([], [index]) => *index,
        ([], _) => {
            return refuse(
                "none of its outputs has the three dimensions of a list of boxes".to_owned(),
                "An output of two dimensions is an image classifier's, one of four a segmenter's; a detector is needed",
            );
        }
        (several, _) => {
            return refuse(
                format!("{} of its outputs could hold boxes", several.len()),
                "Export it with one output, as [1, 4 + classes, cells] or [1, cells, 5 + classes]",
            );
        }
    };
    if !with_rank(4).is_empty() {
        return refuse(
            "it has an output of four dimensions beside its boxes, as segmentation models do".to_owned(),
            "Segmentation is not read yet; use the model's detection variant",
        );
    }
    let output = &description.outputs[index];
    if !matches!(output.element, ElementType::F32 | ElementType::F16) {
        return refuse(
            format!("its output {} holds {}, and only f32 and f16 are read", output.name, output.element),
            "Export it with a floating-point output",
        );
    }
    Ok(index)
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
        Draft::new("m.onnx", description).unwrap_err().to_string()
    }

    #[test]
    fn fixed_shapes_need_no_run() {
        let draft = Draft::new("m.onnx", description(&[1, 3, 384, 640], &[1, 84, 5040], &[])).unwrap();
        assert_eq!((draft.width, draft.height, draft.declared), (640, 384, Some((84, 5040))));
        let model = draft.finish(84, 5040).unwrap();
        assert_eq!((model.class_count, model.batch), (Some(80), Batch::Fixed(1)));
    }

    #[test]
    fn free_sizes_come_from_the_metadata_or_are_640() {
        let free = [-1, 3, -1, -1];
        let draft = Draft::new("m", description(&free, &[-1, -1, 85], &[])).unwrap();
        assert_eq!((draft.width, draft.height, draft.declared), (640, 640, None));
        assert_eq!(draft.batch, Batch::Dynamic);
        let draft = Draft::new("m", description(&free, &[-1, -1, 85], &[("imgsz", "[384, 672]")])).unwrap();
        assert_eq!((draft.width, draft.height), (672, 384));
    }

    #[test]
    fn what_is_no_detector_is_refused_with_its_shapes() {
        let text = refusal(description(&[1, 3, 224, 224], &[1, 1000], &[]));
        assert!(text.contains("m.onnx") && text.contains("[1, 1000]") && text.contains("classifier"), "{text}");
        let text = refusal(description(&[1, 3, 640, 640], &[1, 116, 8400], &[("task", "segment")]));
        assert!(text.contains("segment"), "{text}");
        let text = refusal(description(&[1, 128], &[1, 128, 768], &[]));
        assert!(text.contains("four of a picture"), "{text}");
        let text = refusal(description(&[1, 640, 640, 3], &[1, 84, 8400], &[]));
        assert!(text.contains("channels last"), "{text}");
        let text = refusal(description(&[1, 3, 64, 99_999], &[1, 84, 8400], &[]));
        assert!(text.contains("99999x64"), "{text}");
        let mut two = description(&[1, 3, 640, 640], &[1, 300, 4], &[]);
        two.outputs.push(tensor("logits", ElementType::F32, &[1, 300, 80]));
        assert!(refusal(two).contains("2 of its outputs"));
        let mut bytes = description(&[1, 3, 640, 640], &[1, 84, 8400], &[]);
        bytes.inputs[0].element = ElementType::Other("Uint8".to_owned());
        assert!(refusal(bytes).contains("Uint8"));
        let mut sizes = description(&[1, 3, 640, 640], &[1, 84, 8400], &[]);
        sizes.inputs.push(tensor("orig_target_sizes", ElementType::Other("Int64".to_owned()), &[1, 2]));
        assert!(refusal(sizes).contains("DETR"));
    }

    #[test]
    fn raw_heads_beside_the_boxes_are_passed_over() {
        let mut old = description(&[1, 3, 640, 640], &[1, 25200, 85], &[]);
        for side in [80, 40, 20] {
            old.outputs.push(tensor("raw", ElementType::F32, &[1, 3, side, side, 85]));
        }
        assert_eq!(Draft::new("m", old).unwrap().output_index, 0);
    }
}
