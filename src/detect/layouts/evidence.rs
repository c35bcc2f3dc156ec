//! What is known of a model before it is read: metadata, names and shapes of inputs and outputs, and values of a trial run.
//!
//! Owns the questions that families ask. Metadata is untrusted text: what does not parse counts as absent, with a warning.

use std::collections::HashMap;

use super::Family;
use super::boxes::{STRIDES, Unit, cell_count};
use crate::detect::layouts::task::Task;
use crate::detect::onnx::input::{ExtraKind, InputSpec};
use crate::detect::onnx::python_literal;
use crate::detect::onnx::tensor::{ElementType, TensorInfo};

/// Most keypoints of an object.
const MAX_KEYPOINTS: usize = 1000;
/// Most rows of an output whose rows are finished boxes.
pub(super) const MOST_FINISHED: usize = 1000;

/// An output as it came from a run, or as it is declared where that leaves nothing open.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// Its shape, the first length being that of the batch where it has one.
    pub shape: Vec<usize>,
    /// Its values in the trial run; `None` where there was none.
    pub values: Option<Vec<f32>>,
}

/// What the metadata says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metadata {
    pub names: Option<Vec<String>>,
    /// What the model does, in Ultralytics' words.
    pub task: Option<String>,
    pub end_to_end: Option<bool>,
    /// Whether boxes are suppressed in the graph.
    pub has_nms: bool,
    pub is_ultralytics: bool,
    pub channels: Option<usize>,
    /// Height and width.
    pub image_size: Option<(usize, usize)>,
    /// Keypoints of an object and values of each.
    pub keypoints: Option<(usize, usize)>,
    /// What could not be understood.
    pub warnings: Vec<String>,
    /// What there is, for people.
    pub lines: Vec<String>,
}

impl Metadata {
    /// Reads the metadata of a model, by key.
    pub fn parse(metadata: &HashMap<String, String>) -> Self {
        let text = |key: &str| metadata.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
        let flag = |text: &str| match text {
            "True" | "true" | "1" => Some(true),
            "False" | "false" | "0" => Some(false),
            _ => None,
        };
        let mut warnings = Vec::new();
        let names = text("names").and_then(|text| {
            let names = python_literal::class_names(text);
            if names.is_none() {
                warnings.push(
                    "its metadata has class names that cannot be read: they are not a dictionary of numbers and names or a \
                     list; give a file of names (label-file)"
                        .to_owned(),
                );
            }
            names
        });
        let mut lines = Vec::new();
        for key in ["author", "task", "end2end", "nms", "args", "head", "imgsz", "channels", "stride", "kpt_shape"] {
            if let Some(text) = text(key) {
                let mut short: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(100).collect();
                if short.len() < text.len() {
                    short.push('…');
                }
                lines.push(format!("metadata {key} = {short}"));
            }
        }
        if let Some(names) = &names {
            lines.push(format!("metadata names {} classes", names.len()));
        }
        Self {
            names,
            task: text("task").map(str::to_owned),
            end_to_end: text("end2end").and_then(flag),
            has_nms: text("nms").and_then(flag) == Some(true) || text("args").is_some_and(has_nms),
            is_ultralytics: text("author").is_some_and(|author| author.contains("Ultralytics")),
            channels: text("channels").and_then(|text| text.parse().ok()),
            image_size: text("imgsz").and_then(python_literal::image_size),
            keypoints: text("kpt_shape")
                .and_then(python_literal::image_size)
                .filter(|&(points, values)| (2..=3).contains(&values) && points <= MAX_KEYPOINTS),
            warnings,
            lines,
        }
    }

    /// Number of class names.
    pub fn class_count(&self) -> Option<usize> {
        self.names.as_ref().map(Vec::len)
    }
}

/// Whether a Python dictionary of export arguments has `'nms': True`.
fn has_nms(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\'')).collect();
    ["{nms:True", ",nms:True", "{nms:true", ",nms:true"].iter().any(|wanted| plain.contains(wanted))
}

/// An output as families look at it.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    /// Its name in lower case.
    pub name: String,
    pub element: &'a ElementType,
    pub shape: &'a [usize],
    /// Its values in the trial run.
    pub values: Option<&'a [f32]>,
}

impl Output<'_> {
    /// Whether its name contains one of `parts`.
    pub fn is_called(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.name.contains(part))
    }

    pub fn is_integer(&self) -> bool {
        matches!(self.element, ElementType::I32 | ElementType::I64 | ElementType::U8)
    }

    /// The largest finite value of the trial run.
    pub fn largest(&self) -> Option<f32> {
        self.values?.iter().copied().filter(|value| value.is_finite()).reduce(f32::max)
    }

    /// Rows of the last axis in the trial run; none without values.
    pub fn trial_rows(&self) -> impl Iterator<Item = &[f32]> {
        let columns = self.shape.last().copied().unwrap_or(1).max(1);
        self.values.unwrap_or_default().chunks_exact(columns)
    }

    /// Whether all values of the trial run are whole numbers from 0 on; `None` without values.
    pub fn is_whole(&self) -> Option<bool> {
        let values = self.values.filter(|values| !values.is_empty())?;
        Some(values.iter().all(|&value| value >= 0.0 && value.fract() == 0.0))
    }

    /// The range of each column of the last axis.
    pub fn columns(&self) -> Option<Vec<Column>> {
        let count = self.shape.last().copied().filter(|&count| count > 0)?;
        let mut columns = vec![Column::default(); count];
        for row in self.values?.chunks_exact(count) {
            columns.iter_mut().zip(row).for_each(|(column, &value)| column.take(value));
        }
        Some(columns)
    }

    /// The range of each row of `[images, rows, columns]`.
    pub fn rows(&self) -> Option<Vec<Column>> {
        let [_, count, columns] = *self.shape else { return None };
        let mut rows = vec![Column::default(); count];
        for (index, row) in self.values?.chunks_exact(columns.max(1)).enumerate() {
            row.iter().for_each(|&value| rows[index % count.max(1)].take(value));
        }
        Some(rows)
    }
}

/// The values of one feature of all boxes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub least: f32,
    pub most: f32,
    /// Whether all are whole numbers from 0 on.
    pub is_whole: bool,
}

impl Default for Column {
    fn default() -> Self {
        Self { least: f32::INFINITY, most: f32::NEG_INFINITY, is_whole: true }
    }
}

impl Column {
    fn take(&mut self, value: f32) {
        self.least = self.least.min(value);
        self.most = self.most.max(value);
        self.is_whole &= value >= 0.0 && value.fract() == 0.0;
    }

    /// Whether all values are probabilities.
    pub fn is_share(&self) -> bool {
        self.least >= -1e-3 && self.most <= 1.001
    }

    /// Whether it is 1 for every box.
    pub fn is_one(&self) -> bool {
        (self.least - 1.0).abs() < 1e-3 && (self.most - 1.0).abs() < 1e-3
    }
}

/// All that is known of a model.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    pub metadata: &'a Metadata,
    pub input: &'a InputSpec,
    pub outputs: Vec<Output<'a>>,
    /// What the user says it is.
    pub forced: Option<Family>,
}

/// The one output of three dimensions that families with one output read, split into its parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Main {
    pub index: usize,
    pub rows: usize,
    pub columns: usize,
}

/// What an object has beside its box and its classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extra {
    pub task: Task,
    /// The output of prototypes.
    pub prototypes: Option<usize>,
}

impl<'a> Evidence<'a> {
    pub fn new(
        metadata: &'a Metadata,
        input: &'a InputSpec,
        outputs: &'a [TensorInfo],
        seen: &'a [Seen],
        forced: Option<Family>,
    ) -> Self {
        let outputs = outputs.iter().zip(seen).map(|(info, seen)| Output {
            name: info.name.to_lowercase(),
            element: &info.element,
            shape: &seen.shape,
            values: seen.values.as_deref(),
        });
        Self { metadata, input, outputs: outputs.collect(), forced }
    }

    /// Whether values of a trial run are at hand.
    pub fn has_trial(&self) -> bool {
        self.outputs.iter().any(|output| output.values.is_some())
    }

    /// Width and height of the input.
    pub fn size(&self) -> (usize, usize) {
        (self.input.width, self.input.height)
    }

    /// Number of class names in the metadata.
    pub fn class_count(&self) -> Option<usize> {
        self.metadata.class_count()
    }

    /// Whether the metadata names this task.
    pub fn is_task(&self, task: &str) -> bool {
        self.metadata.task.as_deref() == Some(task)
    }

    /// The first output whose name contains one of `parts` and that satisfies `fits`.
    pub fn find(&self, parts: &[&str], fits: impl Fn(&Output<'_>) -> bool) -> Option<usize> {
        self.outputs.iter().position(|output| output.is_called(parts) && fits(output))
    }

    /// Whether an input beside the picture has a name that contains `part`.
    pub fn has_input(&self, part: &str) -> bool {
        self.input.extras.iter().any(|extra| extra.name.to_lowercase().contains(part))
    }

    /// Whether the model is given the picture's size, so that it gives boxes in pixels.
    pub fn is_sized(&self) -> bool {
        self.input.extras.iter().any(|extra| !matches!(extra.kind, ExtraKind::Ones(_)))
    }

    /// Cells of strides 8, 16 and 32.
    pub fn cells(&self) -> usize {
        cell_count(self.size(), &STRIDES)
    }

    /// Whether this family was set, and whether another one was.
    pub fn forced(&self, family: Family) -> Option<bool> {
        self.forced.map(|forced| forced == family)
    }

    /// The output of three dimensions whose rows or columns are boxes. Of several with the same shape (the two heads of
    /// YOLOv9) it is the first; of several with different shapes the one called output, output0 or predictions.
    pub(super) fn main(&self) -> Option<Main> {
        let of = |index: usize| match *self.outputs[index].shape {
            [_, rows, columns] => Some(Main { index, rows, columns }),
            _ => None,
        };
        let all: Vec<Main> = (0..self.outputs.len()).filter_map(of).collect();
        let plausible: Vec<Main> =
            all.iter().copied().filter(|main| main.rows.max(main.columns) > 4 && main.columns > 0).collect();
        let first = plausible.first()?;
        if plausible.iter().all(|main| (main.rows, main.columns) == (first.rows, first.columns)) {
            return Some(*first);
        }
        let named =
            |main: &&Main| ["output", "output0", "outputs", "predictions"].contains(&&*self.outputs[main.index].name);
        let mut named = plausible.iter().filter(named);
        named.next().filter(|_| named.next().is_none()).copied()
    }

    /// What stands behind the class scores of `features` values for each box, of which `head` come before the classes.
    pub(super) fn extra(&self, features: usize, head: usize) -> Result<Extra, (String, String)> {
        let maps = || (0..self.outputs.len()).filter(|&index| self.outputs[index].shape.len() == 4);
        let channels = |index: usize| self.outputs[index].shape[1];
        let plain = |task| Ok(Extra { task, prototypes: None });
        match self.metadata.task.as_deref() {
            Some("obb") => plain(Task::Obb),
            Some("pose") => match (self.metadata.keypoints, self.class_count()) {
                (Some((points, values)), _) => plain(Task::Pose { points, values }),
                (None, Some(classes)) if features > head + classes && (features - head - classes).is_multiple_of(3) => {
                    plain(Task::Pose { points: (features - head - classes) / 3, values: 3 })
                }
                _ => Err((
                    "its metadata says that it finds poses, but not how many keypoints (kpt_shape)".to_owned(),
                    "Export it again, so that its metadata has kpt_shape".to_owned(),
                )),
            },
            Some("segment") => {
                let mut found = maps().filter(|&index| channels(index) + head < features);
                let fits = |index: &usize| {
                    self.class_count().is_none_or(|classes| head + classes + channels(*index) == features)
                };
                let first = maps().find(fits).or_else(|| found.next());
                first.map(|index| Extra {
                    task: Task::Segment { coefficients: channels(index) },
                    prototypes: Some(index),
                }).ok_or_else(|| (
                    "its metadata says that it segments, but it has no output of prototypes that fits".to_owned(),
                    "Export it as Ultralytics does, with outputs [1, 4 + classes + 32, cells] and [1, 32, height, width]".to_owned(),
                ))
            }
            _ => {
                // Without a task: prototypes are one map, at a quarter of the input's size, with as many channels as there
                // are values behind the classes; feature maps are several, or have other channels.
                let is_prototypes = |index: &usize| match *self.outputs[*index].shape {
                    [_, channels, rows, columns] => {
                        let is_quarter = (columns.saturating_mul(4), rows.saturating_mul(4)) == self.size();
                        let fits = match self.class_count() {
                            Some(classes) => head + classes + channels == features,
                            None => channels == 32 && features > head + channels,
                        };
                        is_quarter && fits
                    }
                    _ => false,
                };
                Ok(maps().find(is_prototypes).map_or(Extra { task: Task::Detect, prototypes: None }, |index| Extra {
                    task: Task::Segment { coefficients: channels(index) },
                    prototypes: Some(index),
                }))
            }
        }
    }

    /// Whether the main output's boxes are in shares, by the values of the trial run.
    pub(super) fn unit_of(&self, coordinates: &[Column]) -> Unit {
        Unit::of(coordinates.iter().fold(0.0, |most: f32, column| most.max(column.most)))
    }

    /// Whether the exporter and the input are such that boxes are in pixels: Ultralytics' own exports for ONNX. Converted
    /// models (TFLite, TensorFlow) keep the metadata but give shares; their inputs have the channels last.
    pub fn has_plain_pixels(&self) -> bool {
        self.metadata.is_ultralytics && !self.input.channels_last
    }

    /// Why no family takes it, and what to do.
    pub fn refusal(&self) -> (String, String) {
        if let Some(family) = self.forced {
            let shape = self.main().map_or_else(
                || "none of its outputs has three dimensions".to_owned(),
                |main| format!("its output is [1, {}, {}]", main.rows, main.columns),
            );
            let form = match family {
                Family::Yolox => format!("[1, {}, 5 + classes] for this input", self.cells()),
                family => family.form().to_owned(),
            };
            return (
                format!("it cannot be read as {family}, which is {form}: {shape}"),
                "Set another model-layout, or auto".to_owned(),
            );
        }
        let known = "Known are [1, 4 + classes, cells] (YOLOv8, 11, 12), [1, cells, 5 + classes] (YOLOv5, YOLOX), [1, N, 6] \
                     (YOLOv10, YOLO26), and boxes, scores and classes as separate outputs; export the model again as a \
                     detector in one of these";
        if let Some(Main { rows, columns, .. }) = self.main() {
            let nearest = if rows < columns { "[1, 4 + classes, cells]" } else { "[1, cells, 5 + classes]" };
            return (
                format!("its output [1, {rows}, {columns}] fits no known layout"),
                format!("The nearest is {nearest}. {known}"),
            );
        }
        let ranks: Vec<usize> = self.outputs.iter().map(|output| output.shape.len()).collect();
        if ranks.iter().filter(|&&rank| rank == 3).count() > 1 {
            return (
                "several of its outputs could hold boxes".to_owned(),
                format!("Export it with one output. {known}"),
            );
        }
        let boxes = self.outputs.iter().find(|output| super::separate::is_boxes(output));
        if let Some(boxes) = boxes {
            return (
                format!("it has an output of boxes ({}) but none of their scores", boxes.name),
                "The nearest is the DETR family with outputs boxes [1, N, 4], scores [1, N] and labels [1, N]"
                    .to_owned(),
            );
        }
        (
            "none of its outputs has the three dimensions of a list of boxes".to_owned(),
            "An output of two dimensions is an image classifier's, one of four a segmenter's or a raw head's; a detector is \
             needed"
                .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_arguments_say_whether_boxes_are_suppressed() {
        for (text, expected) in [
            ("{'batch': 1, 'half': False, 'nms': True}", true),
            ("{\"nms\": true}", true),
            ("{'nms': False}", false),
            ("{'agnostic_nms': True}", false),
            ("", false),
        ] {
            assert_eq!(has_nms(text), expected, "{text}");
        }
    }

    #[test]
    fn names_that_cannot_be_read_are_warned_of() {
        let parse = |names: &str| Metadata::parse(&HashMap::from([("names".to_owned(), names.to_owned())]));
        assert!(parse("{0: 'a'}").warnings.is_empty());
        let broken = parse("person, car");
        assert!(broken.names.is_none() && broken.warnings[0].contains("label-file"), "{broken:?}");
    }
}
