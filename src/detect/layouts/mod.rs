//! Detector families: how a model is recognised, checked and read.
//!
//! One file per family. [`FAMILIES`] lists them; a new family is one file and one line there. Each family weighs the
//! [`Evidence`] on a model and, where it recognises it, returns a [`Claim`]: the outputs to read, a [`Reader`] for them and
//! how frames are prepared. Pure functions; knows nothing of ONNX Runtime.

mod anchors;
mod boxes;
mod classes;
pub mod decoder;
mod deepstream;
mod detr;
mod distances;
mod distribution;
mod end_to_end;
mod evidence;
mod face;
mod fastest;
mod flat;
mod lists;
mod mmdeploy;
mod names;
pub mod nms;
mod paddle;
mod per_class;
pub mod plausibility;
mod preparation;
mod reader;
mod retinaface;
mod rows;
mod rtdetr;
mod scrfd;
mod separate;
pub mod task;
mod tensorflow;
mod ultraface;
mod v5;
mod v8;
mod yolov3;
mod yolov4;
mod yolox;
mod yunet;

use std::fmt;
use std::sync::Arc;

use task::Task;

pub(crate) use evidence::{Evidence, Metadata, Seen};
pub use names::COCO;
pub(crate) use names::Names;
pub(crate) use preparation::Preparation;
pub(crate) use reader::{Reader, Scratch, Survey};

/// A way to recognise one family.
type Recognise = fn(&Evidence<'_>) -> Verdict;

/// The families in the order in which they are asked: what names and metadata decide comes before what shapes decide, and
/// decoded outputs before raw ones.
const FAMILIES: &[Recognise] = &[
    classes::recognise,
    tensorflow::recognise,
    yolov4::recognise,
    yolov3::recognise,
    retinaface::recognise,
    ultraface::recognise,
    scrfd::recognise,
    yunet::recognise,
    flat::recognise,
    paddle::recognise,
    distances::recognise,
    mmdeploy::recognise,
    detr::recognise,
    separate::recognise,
    per_class::recognise,
    end_to_end::recognise,
    rtdetr::recognise,
    deepstream::recognise,
    face::recognise,
    yolox::recognise,
    v8::recognise,
    v5::recognise,
    v8::recognise_transposed,
    fastest::recognise,
    distribution::recognise,
    anchors::recognise,
];

/// How a detector's outputs are read.
#[derive(Debug, Clone)]
pub struct Layout {
    name: &'static str,
    reader: Arc<dyn Reader>,
}

impl Layout {
    pub(crate) fn new(name: &'static str, reader: Arc<dyn Reader>) -> Self {
        Self { name, reader }
    }

    /// The family's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn reader(&self) -> &dyn Reader {
        self.reader.as_ref()
    }

    /// Whether there is a value for each cell of the input, so that the outputs are as long for every picture.
    pub(crate) fn is_dense(&self) -> bool {
        self.reader.is_dense()
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Layouts of one output that a user can name where a model does not show its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// `[1, 4 + C, cells]`: centre x, centre y, width, height, then a probability for each class. YOLOv8, v9, 11, 12.
    V8,
    /// `[1, cells, 4 + C]`, the same transposed.
    V8Transposed,
    /// `[1, cells, 5 + C]`: centre x, centre y, width, height, objectness, then class probabilities. YOLOv5, v6, v7.
    V5,
    /// `[1, cells, 5 + C]` with cells of strides 8, 16, 32 not yet decoded; input BGR 0..255, frame at the top left. YOLOX.
    Yolox,
    /// `[1, N, 6]`: x1, y1, x2, y2, confidence, class; already suppressed. YOLOv10, YOLO26, exports with NMS.
    EndToEnd,
    /// `[1, cells, 6]`: x1, y1, x2, y2, confidence, class; not yet suppressed. DeepStream-Yolo.
    DeepStream,
    /// `[1, N, 4 + C]`: centre x, centre y, width, height as shares of the input, then class probabilities. Ultralytics
    /// RT-DETR.
    RtDetr,
    /// Maps of three strides with the anchors of YOLOv5 and YOLOv7-tiny, not decoded.
    V5Raw,
    /// The same with the anchors of YOLOv7.
    V7Raw,
}

impl Family {
    /// What its output looks like.
    fn form(self) -> &'static str {
        match self {
            Self::V8 => "[1, 4 + classes, cells]",
            Self::V8Transposed | Self::RtDetr => "[1, cells, 4 + classes]",
            Self::V5 => "[1, cells, 5 + classes]",
            Self::Yolox => "[1, cells of strides 8, 16 and 32, 5 + classes]",
            Self::EndToEnd | Self::DeepStream => "[1, N, 6]",
            Self::V5Raw | Self::V7Raw => "three maps with 3 (5 + classes) channels",
        }
    }
}

impl Family {
    /// Returns the layout that one of these tensor identifiers names: those of GStreamer's tensor decoders.
    pub(crate) fn named_by(ids: &[String]) -> Option<Self> {
        ids.iter().find_map(|id| match id {
            id if id.contains("yolo-v10") => Some(Self::EndToEnd),
            id if id.contains("yolo-v8") => Some(Self::V8),
            _ => None,
        })
    }
}

impl fmt::Display for Family {
    /// Its name among the values of `model-layout`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V8 => "v8",
            Self::V8Transposed => "v8-transposed",
            Self::V5 => "v5",
            Self::Yolox => "yolox",
            Self::EndToEnd => "end-to-end",
            Self::DeepStream => "deepstream",
            Self::RtDetr => "rtdetr",
            Self::V5Raw => "v5-raw",
            Self::V7Raw => "v7-raw",
        })
    }
}

/// What a family says of a model.
pub(super) enum Verdict {
    /// It is another family's.
    No,
    /// It may be this one's: values of a trial run decide.
    NeedsTrial,
    /// It is this one's.
    Yes(Claim),
    /// It is this one's, but cannot be read: reason and advice.
    Refused(String, String),
}

/// How a model is read, according to one family.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub layout: Layout,
    /// The outputs to read, in the order in which the reader takes them.
    pub outputs: Vec<usize>,
    /// `None` where neither the outputs nor the metadata say.
    pub class_count: Option<usize>,
    pub task: Task,
    /// How frames may have to be prepared; the first one is the most likely. Several are compared in a trial.
    pub preparations: Vec<Preparation>,
    /// Names of classes where the model has none of its own.
    pub names: Names,
    /// Why it was chosen, in a sentence.
    pub reason: String,
    /// Assumptions the user should know of.
    pub warnings: Vec<String>,
}

impl Claim {
    /// A plain detector: RGB 0..1 in a letterbox, COCO's names where it has 80 classes.
    pub fn new(name: &'static str, reader: impl Reader + 'static, outputs: Vec<usize>, reason: String) -> Self {
        Self {
            layout: Layout::new(name, Arc::new(reader)),
            outputs,
            class_count: None,
            task: Task::Detect,
            preparations: vec![Preparation::YOLO],
            names: Names::Unknown,
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

    pub fn named(mut self, names: Names) -> Self {
        self.names = names;
        self
    }

    pub fn warn(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }
}

impl From<Claim> for Verdict {
    fn from(claim: Claim) -> Self {
        Self::Yes(claim)
    }
}

/// The outcome of asking all families.
pub(crate) enum Outcome {
    Known(Box<Claim>),
    /// Values of a trial run are needed first.
    NeedsTrial,
    /// Reason and advice.
    Unknown(String, String),
}

/// Asks the families in turn.
pub(crate) fn recognise(evidence: &Evidence<'_>) -> Outcome {
    for recognise in FAMILIES {
        match recognise(evidence) {
            Verdict::No => {}
            Verdict::NeedsTrial if evidence.has_trial() => {}
            Verdict::NeedsTrial => return Outcome::NeedsTrial,
            Verdict::Yes(claim) => return settled(claim, evidence),
            Verdict::Refused(reason, advice) => return Outcome::Unknown(reason, advice),
        }
    }
    let (reason, advice) = evidence.refusal();
    Outcome::Unknown(reason, advice)
}

/// The claim, unless metadata contradicts it beyond repair; smaller contradictions become warnings.
fn settled(mut claim: Claim, evidence: &Evidence<'_>) -> Outcome {
    if let Some(task) = evidence.metadata.task.as_deref()
        && task != claim.task.to_string()
    {
        claim.warnings.push(format!(
            "its metadata says task = {task}, but its outputs hold what \"{}\" models give ({}): it is read as {}",
            claim.task, claim.reason, claim.task
        ));
    }
    let says_finished = evidence.metadata.end_to_end == Some(true) || evidence.metadata.has_nms;
    if says_finished && !claim.layout.reader().is_finished() {
        claim.warnings.push(format!(
            "its metadata says that its boxes are suppressed already, but its outputs hold all of them ({}): they are \
             suppressed here",
            claim.reason
        ));
    }
    Outcome::Known(Box::new(claim))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::detect::layouts::decoder::Outputs;
    use crate::detect::onnx::input::{ExtraInput, ExtraKind, InputSpec};
    use crate::detect::onnx::tensor::OutputView;
    use crate::detect::onnx::tensor::{Dimension, ElementType, TensorInfo};

    /// Numbers that look random, the same in every run (Marsaglia, "Xorshift RNGs", 2003).
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

    fn output(random: &mut Random, images: usize) -> (TensorInfo, Seen) {
        let lengths = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 14, 15, 16, 32, 42, 45, 64, 74, 84, 85, 92, 235, 252, 300];
        let rank = random.below(6);
        let mut shape: Vec<usize> = (0..rank).map(|_| random.of(&lengths)).collect();
        if let Some(first) = shape.first_mut().filter(|_| random.below(4) > 0) {
            *first = images;
        }
        // Large ones are seldom anything and take long.
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
        (info, Seen { shape, values: Some(made) })
    }

    /// Whatever shapes, names, values and metadata a model has: it is refused or read, and what is read is bounded.
    #[test]
    fn no_model_makes_a_family_panic() {
        let mut random = Random(0x2545_F491_4F6C_DD1D);
        let mut known = HashMap::<&str, usize>::new();
        for _ in 0..20_000 {
            let images = random.of(&[1, 1, 1, 2]);
            let (infos, seen): (Vec<_>, Vec<_>) = (0..1 + random.below(4)).map(|_| output(&mut random, images)).unzip();
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
            let forced =
                [None, None, None, Some(Family::V8), Some(Family::V5), Some(Family::Yolox), Some(Family::EndToEnd)];
            let forced = random.of(&forced);
            // As it is declared, without values, and after a trial run.
            let declared: Vec<Seen> = seen.iter().map(|seen| Seen { values: None, ..seen.clone() }).collect();
            let _ = recognise(&Evidence::new(&metadata, &input, &infos, &declared, forced));
            let evidence = Evidence::new(&metadata, &input, &infos, &seen, forced);
            let Outcome::Known(claim) = recognise(&evidence) else { continue };
            *known.entry(claim.layout.name()).or_default() += 1;
            // The same outputs, and others than it was recognised by.
            for other in [false, true] {
                let given: Vec<Seen> = claim
                    .outputs
                    .iter()
                    .map(|&index| if other { output(&mut random, images).1 } else { seen[index].clone() })
                    .collect();
                let views: Vec<OutputView<'_>> = given
                    .iter()
                    .map(|seen| OutputView { shape: &seen.shape, values: seen.values.as_deref().unwrap() })
                    .collect();
                let outputs = Outputs { views: &views, images };
                let (reader, size) = (claim.layout.reader(), (input.width, input.height));
                if !reader.is_readable(outputs, size) {
                    continue;
                }
                let mut survey = Survey::default();
                reader.survey(outputs, size, &mut survey);
                let mut scratch = Scratch::default();
                for image in 0..images {
                    reader.read(outputs, image, size, 0.25, &mut scratch);
                }
                for candidate in scratch.candidates.iter().take(4) {
                    let _ = reader.extra(outputs, 0, size, candidate.index as usize);
                }
            }
        }
        assert!(known.len() > 8, "{known:?}");
    }
}
