//! Which family of detectors a model is, told from shapes and metadata alone.
//!
//! Owns the rules and the sentences that explain them; runs nothing. Pure functions.

use super::error::Result;
use super::task::Task;

/// How a detector's output is to be read. C is the number of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// `[1, 4 + C, cells]`, or transposed `[1, cells, 4 + C]`: centre x, centre y, width, height in input pixels, then a
    /// probability for each class. YOLOv8, v9, v10 without its head, 11, 12.
    V8 {
        /// Whether it is `[1, cells, 4 + C]`.
        transposed: bool,
    },
    /// `[1, cells, 5 + C]`: centre x, centre y, width, height in input pixels, objectness, then class probabilities.
    /// YOLOv5, YOLOv7.
    V5,
    /// `[1, N, 6]`: x1, y1, x2, y2 in input pixels, confidence, class; already suppressed. YOLOv10, YOLO26, exports with NMS.
    EndToEnd,
    /// `[1, cells, 5 + C]` with cells of strides 8, 16, 32 not yet decoded; input BGR 0..255, frame at the top left. YOLOX.
    Yolox,
    /// Boxes, scores and perhaps classes as outputs of their own: the DETR family, YOLO-NAS, exports with NMS inside.
    Separate(Separate),
    /// `[D, 6 or 7]`: one finished box in a row, of all images.
    Flat(FlatForm),
    /// `[1, C]`: a probability for each class, of the whole picture.
    Classes,
    /// A grid of cells for each stride, boxes as distributions over distances to their four sides: NanoDet, PicoDet.
    Distances(Distances),
}

impl Layout {
    /// Whether there is a value for each cell of the input, so that the outputs are as long for every picture.
    pub(super) fn is_dense(&self) -> bool {
        matches!(self, Self::V8 { .. } | Self::V5 | Self::Yolox | Self::Classes | Self::Distances(_))
    }
}

/// How outputs of their own are read. Boxes are `[1, N, 4]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Separate {
    /// Whether a box is centre and size; else it is two corners.
    pub centred: bool,
    /// Whether coordinates are shares of the picture; else they are input pixels.
    pub normalised: bool,
    /// What makes scores of the values.
    pub scores: Scores,
    /// Whether overlaps are still to be suppressed.
    pub overlapping: bool,
    /// Whether an output tells how many boxes there are.
    pub counted: bool,
}

/// What an output of scores holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scores {
    /// `[1, N]`, with the classes as an output of their own.
    OfBoxes,
    /// `[1, N, C]` probabilities.
    OfClasses,
    /// `[1, N, C]` before a sigmoid.
    Sigmoid,
    /// `[1, N, C + 1]` before a softmax, the last being "no object".
    Softmax,
}

/// Order of the values of a finished box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlatForm {
    /// Image, x1, y1, x2, y2, class, score. YOLOv7 with NMS.
    ClassScore,
    /// Image, x1, y1, x2, y2, score, class. YOLO-NAS, flat.
    ScoreClass,
    /// Class, score, x1, y1, x2, y2; a second output counts the boxes of each image. PaddleDetection.
    Paddle,
}

/// The grid of a distance-based head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Distances {
    /// Number of classes.
    pub class_count: usize,
    /// Values for each side of a box.
    pub bins: usize,
    /// Whether all strides are one output `[1, cells, C + 4 bins]`; else each stride has scores and boxes of its own.
    pub joined: bool,
    /// Whether cells are centred at half a stride; NanoDet-Plus has them at their corner.
    pub half_shift: bool,
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V8 { transposed: false } => "v8",
            Self::V8 { transposed: true } => "v8-transposed",
            Self::V5 => "v5",
            Self::EndToEnd => "end-to-end",
            Self::Yolox => "yolox",
            Self::Separate(Separate { scores: Scores::OfBoxes, .. }) => "separate",
            Self::Separate(_) => "separate-classes",
            Self::Flat(FlatForm::ClassScore) => "flat-class-score",
            Self::Flat(FlatForm::ScoreClass) => "flat-score-class",
            Self::Flat(FlatForm::Paddle) => "flat-paddle",
            Self::Distances(_) => "distances",
            Self::Classes => "classes",
        })
    }
}

/// What the metadata says that bears on the layout.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hints {
    /// Number of class names.
    pub class_count: Option<usize>,
    /// `end2end` of Ultralytics exports.
    pub end_to_end: Option<bool>,
    /// Whether Ultralytics wrote it.
    pub is_ultralytics: bool,
    /// What the user says it is.
    pub forced: Option<Family>,
    /// What the model does, as its metadata says.
    pub task: Task,
}

/// Layouts of one output that a user can name where a model does not show its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// [`Layout::V8`].
    V8,
    /// [`Layout::V8`], transposed.
    V8Transposed,
    /// [`Layout::V5`].
    V5,
    /// [`Layout::Yolox`].
    Yolox,
    /// [`Layout::EndToEnd`].
    EndToEnd,
}

impl std::fmt::Display for Family {
    /// Its name among the values of `model-layout`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V8 => "v8",
            Self::V8Transposed => "v8-transposed",
            Self::V5 => "v5",
            Self::Yolox => "yolox",
            Self::EndToEnd => "end-to-end",
        })
    }
}

/// The outcome: layout, classes, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub layout: Layout,
    /// `None` for end-to-end models without names: their output does not say.
    pub class_count: Option<usize>,
    pub reason: String,
    /// Which outputs are read, in the order in which the layout's reader takes them.
    pub outputs: Vec<usize>,
}

/// Most rows of an output that may be end to end.
const MAX_END_TO_END: usize = 1000;

/// Cells of a detector with one prediction for each position of these strides.
pub(super) fn cell_count(width: usize, height: usize, strides: &[usize]) -> usize {
    strides.iter().map(|stride| (width / stride) * (height / stride)).sum()
}

/// Strides in the order in which YOLOX lists its cells.
pub(super) const YOLOX_STRIDES: [usize; 3] = [8, 16, 32];

/// Tells the layout of an output `[_, rows, columns]` of a model with a `width` by `height` input.
///
/// # Errors
/// What does not fit, and the nearest family, as a pair of sentences.
pub(super) fn tell(
    rows: usize,
    columns: usize,
    width: usize,
    height: usize,
    hints: Hints,
) -> Result<Told, (String, String)> {
    let cells = cell_count(width, height, &YOLOX_STRIDES);
    let shape = format!("[1, {rows}, {columns}]");
    let told = |layout, class_count, reason: String| Ok(Told { layout, class_count, reason, outputs: vec![0] });
    let v8 = |transposed: bool, why: &str| {
        let (features, cells) = if transposed { (columns, rows) } else { (rows, columns) };
        told(
            Layout::V8 { transposed },
            Some(features - 4),
            format!("{shape} is 4 box values and {} classes for each of {cells} cells: {why}", features - 4),
        )
    };
    let v5 = |why: &str| {
        told(
            Layout::V5,
            Some(columns - 5),
            format!("{shape} is 4 box values, objectness and {} classes for each of {rows} cells: {why}", columns - 5),
        )
    };
    let yolox = |why: &str| {
        told(
            Layout::Yolox,
            Some(columns - 5),
            format!("{shape} is one undecoded row for each of the {cells} cells of strides 8, 16 and 32: {why}"),
        )
    };
    let end_to_end = |why: &str| {
        told(
            Layout::EndToEnd,
            hints.class_count,
            format!("{shape} is up to {rows} finished boxes with score and class: {why}"),
        )
    };

    if let Some(family) = hints.forced {
        let why = "as was set";
        let misfit = |wants: &str| {
            Err((
                format!("its output {shape} cannot be read as {family}: that is {wants}"),
                "Set another layout, or auto".to_owned(),
            ))
        };
        return match family {
            Family::V8 if rows > 4 => v8(false, why),
            Family::V8Transposed if columns > 4 => v8(true, why),
            Family::V5 if columns > 5 => v5(why),
            Family::Yolox if columns > 5 && rows == cells => yolox(why),
            Family::EndToEnd if columns == 6 => end_to_end(why),
            Family::V8 => misfit("[1, 4 + classes, cells]"),
            Family::V8Transposed => misfit("[1, cells, 4 + classes]"),
            Family::V5 => misfit("[1, cells, 5 + classes]"),
            Family::Yolox => misfit(&format!("[1, {cells}, 5 + classes] for this input")),
            Family::EndToEnd => misfit("[1, N, 6]"),
        };
    }
    if columns == 6 && hints.end_to_end == Some(true) {
        return end_to_end("the metadata says end2end");
    }
    if let Some(classes) = hints.class_count {
        let is_v8 = rows == classes + 4;
        let is_transposed = columns == classes + 4;
        let has_objectness = columns == classes + 5;
        if is_v8 && (!(is_transposed || has_objectness) || rows < columns) {
            return v8(false, &format!("the metadata names {classes} classes"));
        }
        if has_objectness && rows == cells {
            return yolox(&format!("the metadata names {classes} classes"));
        }
        if has_objectness && (columns != 6 || rows > MAX_END_TO_END || rows == 3 * cells) {
            return v5(&format!("the metadata names {classes} classes"));
        }
        if is_transposed && (columns != 6 || rows > MAX_END_TO_END) {
            return v8(true, &format!("the metadata names {classes} classes"));
        }
    }
    if columns == 6 && rows <= MAX_END_TO_END && rows != cells && rows != 3 * cells && hints.end_to_end != Some(false) {
        return end_to_end("six values, few rows");
    }
    if rows >= 5 && rows < columns {
        return v8(false, "fewer rows than columns");
    }
    if rows == cells && columns >= 6 && !(columns == 84 || hints.is_ultralytics) {
        return yolox("as many rows as cells");
    }
    if rows == cells && columns >= 5 {
        return v8(true, "as many rows as cells, one fewer value than YOLOX would have");
    }
    if rows > columns && columns >= 6 {
        return v5(if rows == 3 * cells { "three rows for each cell" } else { "more rows than columns" });
    }
    Err((
        format!("its output {shape} fits no known layout"),
        format!(
            "The nearest is {}. Known are [1, 4 + classes, cells] (YOLOv8, 11, 12), [1, cells, 5 + classes] (YOLOv5, YOLOX) and \
             [1, N, 6] (YOLOv10, YOLO26); export the model again as a detector in one of these",
            if rows < columns { "[1, 4 + classes, cells]" } else { "[1, cells, 5 + classes]" }
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(rows: usize, columns: usize, size: usize, hints: Hints) -> Option<(Layout, Option<usize>)> {
        tell(rows, columns, size, size, hints).ok().map(|told| (told.layout, told.class_count))
    }

    fn named(class_count: usize) -> Hints {
        Hints { class_count: Some(class_count), ..Hints::default() }
    }

    const V8: Layout = Layout::V8 { transposed: false };
    const V8_TRANSPOSED: Layout = Layout::V8 { transposed: true };

    #[test]
    fn shapes_alone_tell_the_common_exports() {
        let none = Hints::default();
        assert_eq!(layout(84, 8400, 640, none), Some((V8, Some(80))));
        assert_eq!(layout(5, 2100, 320, none), Some((V8, Some(1))));
        assert_eq!(layout(25200, 85, 640, none), Some((Layout::V5, Some(80))));
        assert_eq!(layout(25200, 6, 640, none), Some((Layout::V5, Some(1))));
        assert_eq!(layout(3549, 85, 416, none), Some((Layout::Yolox, Some(80))));
        assert_eq!(layout(300, 6, 640, none), Some((Layout::EndToEnd, None)));
        assert_eq!(layout(8400, 84, 640, none), Some((V8_TRANSPOSED, Some(80))));
        // YOLOv8-P2 has cells of stride 4 too, YOLOv5-P6 of stride 64.
        assert_eq!(layout(84, 34_000, 640, none), Some((V8, Some(80))));
        assert_eq!(layout(102_000, 85, 1280, none), Some((Layout::V5, Some(80))));
    }

    #[test]
    fn names_settle_what_shapes_leave_open() {
        // Two classes of YOLOv8, transposed, or one class of YOLOX.
        assert_eq!(layout(8400, 6, 640, named(2)), Some((V8_TRANSPOSED, Some(2))));
        assert_eq!(layout(8400, 6, 640, named(1)), Some((Layout::Yolox, Some(1))));
        // A small YOLOv5 of one class against 567 finished boxes.
        assert_eq!(layout(567, 6, 96, named(1)), Some((Layout::V5, Some(1))));
        assert_eq!(layout(300, 6, 640, named(80)), Some((Layout::EndToEnd, Some(80))));
        assert_eq!(layout(300, 6, 640, named(1)), Some((Layout::EndToEnd, Some(1))));
        assert_eq!(layout(300, 6, 640, named(2)), Some((Layout::EndToEnd, Some(2))));
        // More classes than cells.
        assert_eq!(layout(1004, 84, 64, named(1000)), Some((V8, Some(1000))));
        assert_eq!(layout(6, 8400, 640, named(2)), Some((V8, Some(2))));
    }

    #[test]
    fn the_end_to_end_flag_is_believed() {
        let hints = Hints { class_count: Some(1), end_to_end: Some(true), is_ultralytics: true, ..Hints::default() };
        assert_eq!(layout(25200, 6, 640, hints), Some((Layout::EndToEnd, Some(1))));
    }

    #[test]
    fn what_the_user_says_goes_where_it_can() {
        let forced = |family| Hints { class_count: Some(80), forced: Some(family), ..Hints::default() };
        assert_eq!(layout(300, 6, 640, forced(Family::V8Transposed)), Some((V8_TRANSPOSED, Some(2))));
        assert_eq!(layout(84, 8400, 640, forced(Family::V5)), Some((Layout::V5, Some(8395))));
        assert_eq!(layout(8400, 85, 640, forced(Family::Yolox)), Some((Layout::Yolox, Some(80))));
        let (reason, _) = tell(84, 8400, 640, 640, forced(Family::Yolox)).expect_err("no grid");
        assert!(reason.contains("[1, 84, 8400]") && reason.contains("8400, 5 + classes"), "{reason}");
    }

    #[test]
    fn nonsense_is_refused_with_the_nearest_family() {
        for (rows, columns) in [(1, 1000), (3, 3), (4, 8400), (8400, 4), (0, 0)] {
            let (reason, advice) = tell(rows, columns, 640, 640, Hints::default()).expect_err("no layout");
            assert!(
                reason.contains(&format!("[1, {rows}, {columns}]")) && advice.contains("nearest"),
                "{reason} {advice}"
            );
        }
    }
}
