//! Detector families: how a model is recognised, checked and read.
//!
//! One file per family. [`FAMILIES`] lists them; a new family is one file and one line there. Each family weighs the
//! [`Evidence`] on a model and, where it recognises it, returns a [`Claim`]: the outputs to read, a [`Reader`] for them and
//! how frames are prepared. Pure functions; knows nothing of ONNX Runtime.

mod anchors;
mod boxes;
mod classes;
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
mod paddle;
mod per_class;
mod preparation;
mod reader;
mod rows;
mod rtdetr;
mod separate;
mod tensorflow;
mod ultraface;
mod v5;
mod v8;
mod yolov3;
mod yolov4;
mod yolox;

use std::fmt;
use std::sync::Arc;

use super::task::Task;

pub(super) use evidence::{Evidence, Metadata, Seen};
pub(super) use names::Names;
pub(super) use preparation::Preparation;
pub(super) use reader::{Reader, Scratch, Survey};

/// A way to recognise one family.
type Recognise = fn(&Evidence<'_>) -> Verdict;

/// The families in the order in which they are asked: what names and metadata decide comes before what shapes decide, and
/// decoded outputs before raw ones.
const FAMILIES: &[Recognise] = &[
    classes::recognise,
    tensorflow::recognise,
    yolov4::recognise,
    yolov3::recognise,
    ultraface::recognise,
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
    pub(super) fn new(name: &'static str, reader: Arc<dyn Reader>) -> Self {
        Self { name, reader }
    }

    /// The family's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn reader(&self) -> &dyn Reader {
        self.reader.as_ref()
    }

    /// Whether there is a value for each cell of the input, so that the outputs are as long for every picture.
    pub(super) fn is_dense(&self) -> bool {
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
        }
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
pub(super) struct Claim {
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
pub(super) enum Outcome {
    Known(Box<Claim>),
    /// Values of a trial run are needed first.
    NeedsTrial,
    /// Reason and advice.
    Unknown(String, String),
}

/// Asks the families in turn.
pub(super) fn recognise(evidence: &Evidence<'_>) -> Outcome {
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
    Outcome::Known(Box::new(claim))
}
