// SPDX-License-Identifier: MIT OR Apache-2.0
//! Output layouts of detectors: how a model is recognised, checked and decoded.
//!
//! [`families`] holds one file per detector family and the table that lists them. Each family examines the [`Evidence`] about a
//! model and, if it recognises it, returns a [`LayoutMatch`]: the outputs to read, an [`OutputReader`] for them and how frames
//! are prepared. [`decoder`] turns what the reader finds into detections. Pure functions; knows nothing of ONNX Runtime.

mod class_names;
mod common;
pub mod decoder;
mod evidence;
mod families;
mod metadata;
pub mod nms;
mod preparation;
pub mod sanity;
pub mod task;

use std::fmt;
use std::sync::Arc;

use crate::detect::error::Unsupported;
use task::Task;

pub use class_names::COCO;
pub(crate) use class_names::ClassNames;
pub(crate) use common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
pub(crate) use evidence::{Evidence, ObservedOutput};
pub use families::ModelLayout;
pub(crate) use families::selectable_layouts;
pub(crate) use metadata::Metadata;
pub(crate) use preparation::Preparation;

/// How a detector's outputs are decoded.
#[derive(Debug, Clone)]
pub struct OutputLayout {
    name: &'static str,
    reader: Arc<dyn OutputReader>,
}

impl OutputLayout {
    pub(crate) fn new(name: &'static str, reader: Arc<dyn OutputReader>) -> Self {
        Self { name, reader }
    }

    /// Returns the layout's name, as shown in statistics and by `vx inspect`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn reader(&self) -> &dyn OutputReader {
        self.reader.as_ref()
    }

    /// Whether there is a value for each cell of the input, so that the outputs have the same length for every picture.
    pub(crate) fn is_dense(&self) -> bool {
        self.reader.is_dense()
    }
}

impl fmt::Display for OutputLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What a family decides about a model.
pub(crate) enum Recognition {
    /// The model is not of this family.
    NoMatch,
    /// The model may be of this family; values of a trial run decide.
    NeedsTrialRun,
    /// The model is of this family.
    Match(LayoutMatch),
    /// The model is of this family, but cannot be read.
    Unsupported(Unsupported),
}

impl Recognition {
    fn unsupported(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Unsupported(Unsupported::new(reason, advice))
    }
}

impl From<LayoutMatch> for Recognition {
    fn from(matched: LayoutMatch) -> Self {
        Self::Match(matched)
    }
}

/// How a model is read, as the family that recognised it decided.
#[derive(Debug, Clone)]
pub(crate) struct LayoutMatch {
    pub layout: OutputLayout,
    /// Indices of the outputs to read, in the order that the reader expects.
    pub outputs: Vec<usize>,
    /// `None` if neither outputs nor metadata say.
    pub class_count: Option<usize>,
    pub task: Task,
    /// Ways to prepare frames, the most likely first. Several are compared in a trial run.
    pub preparations: Vec<Preparation>,
    /// Class names for models that have none of their own.
    pub names: ClassNames,
    /// Why this layout was chosen, in a sentence.
    pub reason: String,
    /// Assumptions that the user should know of.
    pub warnings: Vec<String>,
}

impl LayoutMatch {
    /// Creates the match of a plain detector: RGB 0..1 in a letterbox, COCO's names if it has 80 classes.
    pub fn new(name: &'static str, reader: impl OutputReader + 'static, outputs: Vec<usize>, reason: String) -> Self {
        Self {
            layout: OutputLayout::new(name, Arc::new(reader)),
            outputs,
            class_count: None,
            task: Task::Detect,
            preparations: vec![Preparation::YOLO],
            names: ClassNames::Unknown,
            reason,
            warnings: Vec::new(),
        }
    }

    pub fn classes(mut self, count: impl Into<Option<usize>>) -> Self {
        self.class_count = count.into();
        self
    }

    pub fn task(mut self, task: Task) -> Self {
        self.task = task;
        self
    }

    pub fn prepared(mut self, preparations: impl Into<Vec<Preparation>>) -> Self {
        self.preparations = preparations.into();
        self
    }

    pub fn named(mut self, names: ClassNames) -> Self {
        self.names = names;
        self
    }

    pub fn warn(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }
}

/// What all families together decide about a model.
pub(crate) enum Conclusion {
    Match(Box<LayoutMatch>),
    /// Values of a trial run are needed first.
    NeedsTrialRun,
    Unsupported(Unsupported),
}

/// Determines how a model is read.
pub(crate) fn recognise(evidence: &Evidence<'_>) -> Conclusion {
    match families::try_all(evidence) {
        Recognition::Match(matched) => Conclusion::Match(Box::new(with_contradictions(matched, evidence))),
        Recognition::NeedsTrialRun => Conclusion::NeedsTrialRun,
        Recognition::Unsupported(reason) => Conclusion::Unsupported(reason),
        Recognition::NoMatch => Conclusion::Unsupported(families::no_match(evidence)),
    }
}

/// Adds a warning for each statement of the metadata that the outputs contradict.
fn with_contradictions(mut matched: LayoutMatch, evidence: &Evidence<'_>) -> LayoutMatch {
    if let Some(task) = evidence.metadata.task
        && task != matched.task.name()
    {
        matched.warnings.push(format!(
            "its metadata says task = {task}, but its outputs are those of a \"{}\" model ({}): it is read as {}",
            matched.task, matched.reason, matched.task
        ));
    }
    let claims_nms = evidence.metadata.end_to_end == Some(true) || evidence.metadata.has_nms;
    if claims_nms && !matched.layout.reader().is_suppressed() {
        matched.warnings.push(format!(
            "its metadata says that overlapping boxes are already suppressed, but its outputs contain them ({}): they are \
             suppressed here",
            matched.reason
        ));
    }
    matched
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::detect::onnx::input::{ExtraInput, ExtraKind, InputSpec};
    use crate::detect::onnx::tensor::OutputView;
    use crate::detect::onnx::tensor::{Dimension, ElementType, TensorInfo};

    /// Reproducible pseudo-random numbers (Marsaglia, "Xorshift RNGs", 2003).
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % limit as u64) as usize
        }

        fn of<T: Clone>(&mut self, list: &[T]) -> T {
            list[self.below(list.len())].clone()
        }
    }

    fn input(random: &mut Random) -> InputSpec {
        let kinds = [ExtraKind::Scale, ExtraKind::HeightWidth, ExtraKind::Ones(vec![8, 8])];
        let extra = |random: &mut Random| ExtraInput {
            name: random.of(&["scale_factor", "im_shape", "pixel_mask", "orig_target_sizes"]).to_owned(),
            element: ElementType::F32,
            kind: random.of(&kinds),
        };
        InputSpec {
            name: random.of(&["images", "pixel_values", "image"]).to_owned(),
            element: random.of(&[ElementType::F32, ElementType::U8]),
            width: 64,
            height: random.of(&[64, 32]),
            channels_last: random.below(4) == 0,
            channels: 3,
            has_batch: true,
            extras: (0..random.below(3)).map(|_| extra(random)).collect(),
        }
    }

    fn output(random: &mut Random, images: usize) -> (TensorInfo, ObservedOutput) {
        let lengths = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 14, 15, 16, 32, 42, 45, 64, 74, 84, 85, 92, 235, 252, 300];
        let rank = random.below(6);
        let mut shape: Vec<usize> = (0..rank).map(|_| random.of(&lengths)).collect();
        if let Some(first) = shape.first_mut().filter(|_| random.below(4) > 0) {
            *first = images;
        }
        // Large ones rarely match a family and take long.
        if shape.iter().product::<usize>() > 100_000 {
            shape.truncate(2);
        }
        let values =
            [0.0, 0.0, 0.01, 0.5, 0.9, 1.0, 2.0, 17.0, 60.0, 640.0, -3.0, f32::NAN, f32::INFINITY, -1e30, 1e30];
        let is_plain = random.below(2) == 0;
        let count = shape.iter().product();
        let value = |random: &mut Random| if is_plain { random.of(&values[..6]) } else { random.of(&values) };
        let made = (0..count).map(|_| value(random)).collect();
        let names = ["output0", "boxes", "scores", "labels", "dets", "logits", "num_dets", "detection_boxes", "x"];
        let element = random.of(&[ElementType::F32, ElementType::F32, ElementType::I64]);
        let info = TensorInfo {
            name: random.of(&names).to_owned(),
            element,
            shape: shape.iter().map(|&length| Dimension::Fixed(length)).collect(),
        };
        (info, ObservedOutput { shape, values: Some(made) })
    }

    /// A model with any shapes, names, values and metadata is rejected or read without a panic.
    #[test]
    fn no_model_makes_a_family_panic() {
        let mut random = Random(0x2545_F491_4F6C_DD1D);
        let mut known = HashMap::<&str, usize>::new();
        for _ in 0..20_000 {
            let images = random.of(&[1, 1, 1, 2]);
            let (infos, observed): (Vec<_>, Vec<_>) =
                (0..1 + random.below(4)).map(|_| output(&mut random, images)).unzip();
            let mut texts = HashMap::new();
            for (key, values) in [
                ("task", &["detect", "pose", "segment", "obb", "classify"][..]),
                ("names", &["{0: 'a'}", "['a', 'b']", "nonsense", "{9: 'j'}"]),
                ("end2end", &["True", "False"]),
                ("kpt_shape", &["[2, 3]", "[17, 3]", "[1, 2]"]),
                ("args", &["{'nms': True}", "{}"]),
                ("author", &["Ultralytics"]),
            ] {
                if random.below(4) == 0 {
                    texts.insert(key.to_owned(), random.of(values).to_owned());
                }
            }
            let metadata = Metadata::parse(&texts);
            let input = input(&mut random);
            let selected = [
                None,
                None,
                None,
                Some(ModelLayout::V8),
                Some(ModelLayout::V5),
                Some(ModelLayout::Yolox),
                Some(ModelLayout::EndToEnd),
            ];
            let selected = random.of(&selected);
            // As declared, without values, and after a trial run.
            let declared: Vec<ObservedOutput> =
                observed.iter().map(|observed| ObservedOutput { values: None, ..observed.clone() }).collect();
            let _ = recognise(&Evidence::new(&metadata, &input, &infos, &declared, selected));
            let evidence = Evidence::new(&metadata, &input, &infos, &observed, selected);
            let Conclusion::Match(matched) = recognise(&evidence) else { continue };
            *known.entry(matched.layout.name()).or_default() += 1;
            // The same outputs, and other ones.
            for other in [false, true] {
                let given: Vec<ObservedOutput> = matched
                    .outputs
                    .iter()
                    .map(|&index| if other { output(&mut random, images).1 } else { observed[index].clone() })
                    .collect();
                let views: Vec<OutputView<'_>> = given
                    .iter()
                    .map(|observed| OutputView { shape: &observed.shape, values: observed.values.as_deref().unwrap() })
                    .collect();
                let outputs = Outputs { views: &views, images };
                let (reader, size) = (matched.layout.reader(), (input.width, input.height));
                if !reader.accepts(outputs, size) {
                    continue;
                }
                let mut statistics = OutputStatistics::default();
                reader.collect(outputs, size, &mut statistics);
                let mut scratch = Scratch::default();
                for image in 0..images {
                    reader.read(outputs, image, size, 0.25, &mut scratch);
                }
                for candidate in scratch.candidates.iter().take(4) {
                    let _ = reader.extra_values(outputs, 0, size, candidate.index as usize);
                }
            }
        }
        assert!(known.len() > 8, "{known:?}");
    }
}
