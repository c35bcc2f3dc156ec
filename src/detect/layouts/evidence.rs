// SPDX-License-Identifier: MIT OR Apache-2.0
//! The evidence by which families recognise a model: its metadata, names and shapes of inputs and outputs, and the values of a
//! trial run.
//!
//! Owns the questions that several families ask. Metadata and values are untrusted.

use super::ModelLayout;
use super::common::boxes::CoordinateUnit;
use super::common::grids::{STRIDES, cell_count, grid};
use super::metadata::Metadata;
use super::task::{Task, TaskName};
use crate::detect::error::Unsupported;
use crate::detect::onnx::input::{ExtraKind, InputSpec};
use crate::detect::onnx::tensor::{ElementType, TensorInfo};

/// Most rows of an output whose rows are final boxes.
pub(super) const MAX_FINAL_BOXES: usize = 1000;

/// An output as a run returned it, or as it is declared if the declaration is complete.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ObservedOutput {
    /// Its shape; the first dimension is the batch if there is one.
    pub shape: Vec<usize>,
    /// Its values in the trial run; `None` if there was none.
    pub values: Option<Vec<f32>>,
}

/// An output as families examine it.
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

    /// Whether it can be a list of boxes: `[1, N, 4]`, or `[N, 4]` of a model for single pictures.
    pub fn is_box_list(&self) -> bool {
        matches!(self.shape, [.., 4]) && matches!(self.shape.len(), 2 | 3) && !self.is_integer()
    }

    /// Returns the largest finite value of the trial run.
    pub fn largest(&self) -> Option<f32> {
        self.values?.iter().copied().filter(|value| value.is_finite()).reduce(f32::max)
    }

    /// Returns the rows along the last axis in the trial run; none without values.
    pub fn trial_rows(&self) -> impl Iterator<Item = &[f32]> {
        let columns = self.shape.last().copied().unwrap_or(1).max(1);
        self.values.unwrap_or_default().chunks_exact(columns)
    }

    /// Whether all values of the trial run are non-negative integers; `None` without values.
    pub fn holds_integers(&self) -> Option<bool> {
        let values = self.values.filter(|values| !values.is_empty())?;
        Some(values.iter().all(|&value| value >= 0.0 && value.fract() == 0.0))
    }

    /// Returns the range of the values in each column of the last axis.
    pub fn columns(&self) -> Option<Vec<ValueRange>> {
        let count = self.shape.last().copied().filter(|&count| count > 0)?;
        let mut columns = vec![ValueRange::default(); count];
        for row in self.values?.chunks_exact(count) {
            columns.iter_mut().zip(row).for_each(|(column, &value)| column.add(value));
        }
        Some(columns)
    }

    /// Returns the range of the values in each row of `[images, rows, columns]`.
    pub fn rows(&self) -> Option<Vec<ValueRange>> {
        let [_, count, columns] = *self.shape else { return None };
        let mut rows = vec![ValueRange::default(); count];
        for (index, row) in self.values?.chunks_exact(columns.max(1)).enumerate() {
            row.iter().for_each(|&value| rows[index % count.max(1)].add(value));
        }
        Some(rows)
    }
}

/// The range of one feature over all boxes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValueRange {
    pub min: f32,
    pub max: f32,
    /// Whether all values are non-negative integers.
    pub is_integer: bool,
}

impl Default for ValueRange {
    fn default() -> Self {
        Self { min: f32::INFINITY, max: f32::NEG_INFINITY, is_integer: true }
    }
}

impl ValueRange {
    fn add(&mut self, value: f32) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.is_integer &= value >= 0.0 && value.fract() == 0.0;
    }

    /// Whether all values can be probabilities.
    pub fn is_probability(&self) -> bool {
        self.min >= -1e-3 && self.max <= 1.001
    }

    /// Whether the value is 1 for every box.
    pub fn is_one(&self) -> bool {
        (self.min - 1.0).abs() < 1e-3 && (self.max - 1.0).abs() < 1e-3
    }
}

/// All that is known about a model.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    pub metadata: &'a Metadata,
    pub input: &'a InputSpec,
    pub outputs: Vec<Output<'a>>,
    /// The layout that the user selected.
    pub selected: Option<ModelLayout>,
}

/// The output with three dimensions that holds the boxes, for families with one such output.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoxOutput {
    pub index: usize,
    pub rows: usize,
    pub columns: usize,
}

/// The values of an object after its box and its classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExtraValues {
    pub task: Task,
    /// Index of the output with mask prototypes.
    pub prototypes: Option<usize>,
}

impl ExtraValues {
    pub const NONE: Self = Self { task: Task::Detect, prototypes: None };

    fn segment(coefficients: usize, prototypes: usize) -> Self {
        Self { task: Task::Segment { coefficients }, prototypes: Some(prototypes) }
    }

    /// Returns the outputs to read: the boxes, and the prototypes if there are any.
    pub fn outputs(self, boxes: BoxOutput) -> Vec<usize> {
        [Some(boxes.index), self.prototypes].into_iter().flatten().collect()
    }
}

impl<'a> Evidence<'a> {
    pub fn new(
        metadata: &'a Metadata,
        input: &'a InputSpec,
        outputs: &'a [TensorInfo],
        observed: &'a [ObservedOutput],
        selected: Option<ModelLayout>,
    ) -> Self {
        let outputs = outputs.iter().zip(observed).map(|(info, observed)| Output {
            name: info.name.to_lowercase(),
            element: &info.element,
            shape: &observed.shape,
            values: observed.values.as_deref(),
        });
        Self { metadata, input, outputs: outputs.collect(), selected }
    }

    /// Whether the user selected the layout.
    pub fn is_selected(&self) -> bool {
        self.selected.is_some()
    }

    /// Whether the values of a trial run are available.
    pub fn has_trial(&self) -> bool {
        self.outputs.iter().any(|output| output.values.is_some())
    }

    /// Returns width and height of the input.
    pub fn size(&self) -> (usize, usize) {
        (self.input.width, self.input.height)
    }

    /// Returns the number of class names in the metadata.
    pub fn class_count(&self) -> Option<usize> {
        self.metadata.class_count()
    }

    /// Returns the index of the first output whose name contains one of `parts` and that satisfies `fits`.
    pub fn find(&self, parts: &[&str], fits: impl Fn(&Output<'_>) -> bool) -> Option<usize> {
        self.outputs.iter().position(|output| output.is_called(parts) && fits(output))
    }

    /// Whether an input other than the picture has a name that contains `part`.
    pub fn has_input(&self, part: &str) -> bool {
        self.input.extras.iter().any(|extra| extra.name.to_lowercase().contains(part))
    }

    /// Whether the size of the picture is an input of the model, so that it returns boxes in pixels.
    pub fn takes_picture_size(&self) -> bool {
        self.input.extras.iter().any(|extra| !matches!(extra.kind, ExtraKind::Ones(_)))
    }

    /// Returns the number of cells of strides 8, 16 and 32.
    pub fn cells(&self) -> usize {
        cell_count(self.size(), &STRIDES)
    }

    /// Returns the output with three dimensions whose rows or columns are boxes. Of several with the same shape (the two heads
    /// of YOLOv9) it is the first, of several with different shapes the one named output, output0, outputs or predictions.
    pub(super) fn box_output(&self) -> Option<BoxOutput> {
        let of = |index: usize| match *self.outputs[index].shape {
            [_, rows, columns] => Some(BoxOutput { index, rows, columns }),
            _ => None,
        };
        let plausible: Vec<BoxOutput> = (0..self.outputs.len())
            .filter_map(of)
            .filter(|output| output.rows.max(output.columns) > 4 && output.columns > 0)
            .collect();
        let first = plausible.first()?;
        if plausible.iter().all(|output| (output.rows, output.columns) == (first.rows, first.columns)) {
            return Some(*first);
        }
        let is_named = |output: &&BoxOutput| {
            ["output", "output0", "outputs", "predictions"].contains(&&*self.outputs[output.index].name)
        };
        let mut named = plausible.iter().filter(is_named);
        named.next().filter(|_| named.next().is_none()).copied()
    }

    /// Whether boxes come in lists of several lengths, as those of an undecoded head do, one list for each stride. TensorFlow's
    /// detectors have two.
    pub(super) fn has_box_lists_per_stride(&self) -> bool {
        let rows = |output: &Output<'_>| output.shape[output.shape.len() - 2];
        let mut lengths: Vec<usize> = self.outputs.iter().filter(|output| output.is_box_list()).map(rows).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths.len() > 2
    }

    /// Returns the outputs `[rows, columns]` (or `[1, rows, columns]`) of each stride, with `boxes` rows for each cell. Where a
    /// stride has several, the first of each stride come first. Empty if the strides have different numbers of them.
    pub(super) fn outputs_per_stride(&self, boxes: usize, columns: usize) -> Vec<usize> {
        let (width, height) = self.size();
        let of = |stride: usize| -> Vec<usize> {
            let rows = boxes * width.div_ceil(stride) * height.div_ceil(stride);
            let fits = |output: &Output<'_>| match *output.shape {
                [1, of_output, last] | [of_output, last] => (of_output, last) == (rows, columns),
                _ => false,
            };
            (0..self.outputs.len()).filter(|&index| fits(&self.outputs[index])).collect()
        };
        let found = STRIDES.map(of);
        let count = found[0].len();
        if found.iter().any(|of_stride| of_stride.len() != count) {
            return Vec::new();
        }
        (0..count).flat_map(|place| found.iter().map(move |of_stride| of_stride[place])).collect()
    }

    /// Returns the feature maps `[batch, channels, rows, columns]` of each stride, in the order of the outputs; `None` unless each
    /// stride has the same number of them.
    pub(super) fn maps_per_stride(&self) -> Option<[Vec<usize>; 3]> {
        let of = |stride: usize| -> Vec<usize> {
            let size = grid(self.size(), stride);
            let fits = |output: &Output<'_>| matches!(*output.shape, [_, _, rows, columns] if (columns, rows) == size);
            (0..self.outputs.len()).filter(|&index| fits(&self.outputs[index])).collect()
        };
        let maps = STRIDES.map(of);
        let is_complete = maps.iter().all(|of_stride| !of_stride.is_empty() && of_stride.len() == maps[0].len());
        is_complete.then_some(maps)
    }

    /// Whether all values of these outputs in the trial run can be probabilities; `None` without a run.
    pub(super) fn are_probabilities(&self, outputs: &[usize]) -> Option<bool> {
        let columns: Option<Vec<_>> = outputs.iter().map(|&index| self.outputs[index].columns()).collect();
        Some(columns?.iter().flatten().all(ValueRange::is_probability))
    }

    /// Determines what follows the class scores in a box of `features` values, `head` of which precede the classes.
    pub(super) fn extra_values(&self, features: usize, head: usize) -> Result<ExtraValues, Unsupported> {
        let maps = || (0..self.outputs.len()).filter(|&index| self.outputs[index].shape.len() == 4);
        let channels = |index: usize| self.outputs[index].shape[1];
        let without_prototypes = |task| Ok(ExtraValues { task, prototypes: None });
        match self.metadata.task {
            Some(TaskName::Obb) => without_prototypes(Task::Obb),
            Some(TaskName::Pose) => match (self.metadata.keypoints, self.class_count()) {
                (Some((points, values)), _) => without_prototypes(Task::Pose { points, values }),
                (None, Some(classes)) if features > head + classes && (features - head - classes).is_multiple_of(3) => {
                    without_prototypes(Task::Pose { points: (features - head - classes) / 3, values: 3 })
                }
                _ => Err(Unsupported::new(
                    "its metadata says task = pose, but not the number of keypoints (kpt_shape)",
                    "Export it again, so that its metadata contains kpt_shape",
                )),
            },
            Some(TaskName::Segment) => {
                let mut candidates = maps().filter(|&index| channels(index) + head < features);
                let fits = |index: &usize| {
                    self.class_count().is_none_or(|classes| head + classes + channels(*index) == features)
                };
                let prototypes = maps().find(fits).or_else(|| candidates.next());
                prototypes.map(|index| ExtraValues::segment(channels(index), index)).ok_or_else(|| {
                    Unsupported::new(
                        "its metadata says task = segment, but none of its outputs holds matching prototypes",
                        "Export it as Ultralytics does, with outputs [1, 4 + classes + 32, cells] and [1, 32, height, width]",
                    )
                })
            }
            _ => {
                // Without a task: prototypes are one map, at a quarter of the input's size, with as many channels as there
                // are values after the classes; feature maps are several, or have other channels.
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
                let prototypes = maps().find(is_prototypes);
                Ok(prototypes.map_or(ExtraValues::NONE, |index| ExtraValues::segment(channels(index), index)))
            }
        }
    }

    /// Infers the unit of boxes from the ranges of their coordinates in the trial run.
    pub(super) fn unit_of(&self, coordinates: &[ValueRange]) -> CoordinateUnit {
        CoordinateUnit::from_largest(coordinates.iter().fold(0.0, |max: f32, column| max.max(column.max)))
    }

    /// Whether exporter and input imply that boxes are in pixels: Ultralytics' own exports to ONNX. Converted models (TFLite,
    /// TensorFlow) keep the metadata but return normalised coordinates; their inputs have the channels last.
    pub fn implies_pixels(&self) -> bool {
        self.metadata.is_ultralytics && !self.input.channels_last
    }
}
