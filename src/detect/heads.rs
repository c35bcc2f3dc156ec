//! Which of a model's outputs hold what: boxes, scores, classes, counts; told from names and shapes.
//!
//! Owns the rules for models with several outputs or with rows of finished boxes, and hands the rest to
//! [`layout::tell`](super::layout::tell). Pure functions.

use super::layout::{Distances, FlatForm, Hints, Layout, Scores, Separate, Told, cell_count, tell};
use super::task::Task;
use super::tensor::{ElementType, TensorInfo};

/// An output as it came from a run, or as it is declared where that leaves nothing open.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// Its shape, the first length being that of the batch where it has one.
    pub shape: Vec<usize>,
    /// The largest value of the run; `None` where there was none.
    pub largest: Option<f32>,
}

/// What the rules look at.
struct Output<'a> {
    name: String,
    element: &'a ElementType,
    shape: &'a [usize],
    largest: Option<f32>,
}

impl Output<'_> {
    fn is_called(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.name.contains(part))
    }

    fn is_integer(&self) -> bool {
        matches!(self.element, ElementType::I32 | ElementType::I64)
    }
}

/// Strides of NanoDet-Plus and PicoDet.
pub(super) const DISTANCE_STRIDES: [usize; 4] = [8, 16, 32, 64];

/// Coordinates up to this are shares of the picture: a little over 1 for boxes that reach over its edge.
const LARGEST_SHARE: f32 = 2.0;

/// What a reason and an advice look like when nothing fits.
type Refusal = (String, String);

/// Tells the layout of a model with these outputs and a `width` by `height` input. `sized` is whether it is given the
/// picture's size as a second input.
///
/// # Errors
/// What does not fit, and the nearest family, as a pair of sentences.
pub(super) fn tell_outputs(
    outputs: &[TensorInfo],
    seen: &[Seen],
    (width, height): (usize, usize),
    sized: bool,
    hints: Hints,
) -> Result<Told, Refusal> {
    let outputs: Vec<Output<'_>> = outputs
        .iter()
        .zip(seen)
        .map(|(info, seen)| Output {
            name: info.name.to_lowercase(),
            element: &info.element,
            shape: &seen.shape,
            largest: seen.largest,
        })
        .collect();
    if hints.task == Task::Classify {
        return classes(&outputs);
    }
    if let Some(told) = flat(&outputs, hints).or_else(|| distances(&outputs, (width, height), hints)) {
        return Ok(told);
    }
    if outputs.len() > 1
        && let Some(boxes) = outputs.iter().position(|output| is_boxes(output))
    {
        return separate(&outputs, boxes, (width, height), sized, hints);
    }
    let with_rank = |rank: usize| -> Vec<usize> {
        (0..outputs.len()).filter(|&index| outputs[index].shape.len() == rank).collect()
    };
    let refuse = |reason: String, advice: &str| Err((reason, advice.to_owned()));
    let index = match with_rank(3).as_slice() {
        [index] => *index,
        [] => {
            return refuse(
                "none of its outputs has the three dimensions of a list of boxes".to_owned(),
                "An output of two dimensions is an image classifier's, one of four a segmenter's; a detector is needed",
            );
        }
        several => {
            return refuse(
                format!("{} of its outputs could hold boxes", several.len()),
                "Export it with one output, as [1, 4 + classes, cells] or [1, cells, 5 + classes]",
            );
        }
    };
    let prototypes = with_rank(4);
    let mut read = vec![index];
    match (hints.task, prototypes.as_slice()) {
        (Task::Segment { .. }, [prototypes]) => read.push(*prototypes),
        (Task::Segment { .. }, _) => {
            return refuse(
                "its metadata says that it segments, but it has no single output of four dimensions with prototypes"
                    .to_owned(),
                "Export it as Ultralytics does, with outputs [1, 4 + classes + 32, cells] and [1, 32, height, width]",
            );
        }
        (_, []) => {}
        _ => {
            return refuse(
                "it has an output of four dimensions beside its boxes, as segmentation models do".to_owned(),
                "Models that segment are told by task = segment in their metadata; export it again, or use its detection variant",
            );
        }
    }
    let [_, rows, columns] = *outputs[index].shape else { return refuse(String::new(), "") };
    // What stands behind the class scores is no class: the layout is told without it.
    let extra = hints.task.extra();
    let by_row = rows < columns && !(rows <= MOST_FINISHED && columns == 6 + extra);
    let features = if by_row { rows } else { columns };
    if extra > 0 && features <= 4 + extra {
        let reason = format!(
            "its output [1, {rows}, {columns}] has no room for the {extra} values that its metadata tells of each object"
        );
        return refuse(reason, "Export it again, so that metadata and outputs belong together");
    }
    let (told_rows, told_columns) =
        if by_row { (rows.saturating_sub(extra), columns) } else { (rows, columns.saturating_sub(extra)) };
    tell(told_rows, told_columns, width, height, hints).map(|told| Told { outputs: read, ..told })
}

/// Rows of finished boxes are no more than these.
const MOST_FINISHED: usize = 1000;

/// `[1, C]`.
fn classes(outputs: &[Output<'_>]) -> Result<Told, Refusal> {
    match outputs {
        [output] if matches!(output.shape, [_, count] if *count > 1) => Ok(Told {
            layout: Layout::Classes,
            class_count: Some(output.shape[1]),
            reason: format!("the metadata says that it classifies: {} scores for a picture", output.shape[1]),
            outputs: vec![0],
        }),
        _ => Err((
            "its metadata says that it classifies, but its output is not [1, classes]".to_owned(),
            "Export it as Ultralytics does, with one output [1, classes]".to_owned(),
        )),
    }
}

/// `[D, 7]` alone, or `[D, 6]` with a count.
fn flat(outputs: &[Output<'_>], hints: Hints) -> Option<Told> {
    let told = |form, outputs, reason: &str| {
        Some(Told { layout: Layout::Flat(form), class_count: hints.class_count, reason: reason.to_owned(), outputs })
    };
    match outputs {
        [rows] if matches!(rows.shape, [_, 7]) && rows.is_called(&["flat"]) => {
            told(FlatForm::ScoreClass, vec![0], "rows of 7 called flat: image, corners, score, class, as of YOLO-NAS")
        }
        [rows] if matches!(rows.shape, [_, 7]) => {
            told(FlatForm::ClassScore, vec![0], "rows of 7: image, corners, class, score, as of YOLOv7 with NMS")
        }
        [rows, count] | [count, rows]
            if matches!(rows.shape, [_, 6]) && count.is_integer() && count.shape.len() == 1 =>
        {
            let first = usize::from(std::ptr::eq(rows, &raw const outputs[1]));
            told(
                FlatForm::Paddle,
                vec![first, 1 - first],
                "rows of 6 and a count: class, score, corners, as of PaddleDetection",
            )
        }
        _ => None,
    }
}

/// One output `[1, cells, C + 4 bins]`, or scores and boxes for each stride.
fn distances(outputs: &[Output<'_>], (width, height): (usize, usize), hints: Hints) -> Option<Told> {
    let told = |class_count, bins, joined, outputs, reason: String| {
        let head = Distances { class_count, bins, joined, half_shift: !joined };
        Some(Told { layout: Layout::Distances(head), class_count: Some(class_count), reason, outputs })
    };
    // Each stride's grid is rounded up: a cell that is not whole still looks at something.
    let grid = |stride: usize| width.div_ceil(stride) * height.div_ceil(stride);
    let cells: usize = DISTANCE_STRIDES.iter().map(|&stride| grid(stride)).sum();
    if let [output] = outputs
        && let [_, rows, columns] = *output.shape
        && rows == cells
        && cells != cell_count(width, height, &[8, 16, 32])
    {
        // 4 * 8 values of box are what every published NanoDet-Plus has.
        let bins = hints.class_count.map_or(8, |classes| columns.saturating_sub(classes) / 4);
        let classes = columns.checked_sub(4 * bins).filter(|&classes| classes > 0 && bins > 1)?;
        let reason = format!("{rows} cells of strides 8 to 64 with {classes} classes and 4 x {bins} values of box");
        return told(classes, bins, true, vec![0], reason);
    }
    if outputs.len() != 2 * DISTANCE_STRIDES.len() {
        return None;
    }
    let (mut scores, mut boxes) = (Vec::new(), Vec::new());
    for stride in DISTANCE_STRIDES {
        let of_stride: Vec<usize> = (0..outputs.len())
            .filter(|&index| matches!(*outputs[index].shape, [_, rows, _] if rows == grid(stride)))
            .collect();
        let [a, b] = of_stride[..] else { return None };
        let columns = |index: usize| outputs[index].shape[2];
        // PicoDet lists all scores before all boxes.
        if !columns(b).is_multiple_of(4) || columns(b) < 8 {
            return None;
        }
        scores.push(a);
        boxes.push(b);
    }
    let (classes, values) = (outputs[scores[0]].shape[2], outputs[boxes[0]].shape[2]);
    let same = scores.iter().all(|&index| outputs[index].shape[2] == classes)
        && boxes.iter().all(|&index| outputs[index].shape[2] == values);
    let reason = format!("scores of {classes} classes and 4 x {} values of box for each of four strides", values / 4);
    if same { told(classes, values / 4, false, [scores, boxes].concat(), reason) } else { None }
}

/// `[1, N, 4]`, or `[N, 4]` of a model for single pictures.
fn is_boxes(output: &Output<'_>) -> bool {
    matches!(output.shape, [.., 4]) && matches!(output.shape.len(), 2 | 3) && !output.is_integer()
}

/// Boxes, scores and perhaps classes and a count as outputs of their own.
fn separate(
    outputs: &[Output<'_>],
    boxes: usize,
    (width, height): (usize, usize),
    sized: bool,
    hints: Hints,
) -> Result<Told, Refusal> {
    let lead = &outputs[boxes].shape[..outputs[boxes].shape.len() - 1];
    let count_of_boxes = lead.last().copied().unwrap_or(0);
    let others = || (0..outputs.len()).filter(|&index| index != boxes);
    let flat_ones: Vec<usize> = others().filter(|&index| outputs[index].shape == lead).collect();
    let is_class =
        |index: &usize| outputs[*index].is_integer() || outputs[*index].is_called(&["label", "class", "cls"]);
    let labels = flat_ones.iter().copied().find(is_class);
    let scores = flat_ones.iter().copied().find(|index| Some(*index) != labels);
    // One number for each image.
    let images: usize = lead.iter().rev().skip(1).product();
    let counts = |output: &Output<'_>| output.shape.iter().product::<usize>() == images;
    let count = others().find(|&index| outputs[index].is_called(&["num", "count"]) && counts(&outputs[index]));
    if let (Some(labels), Some(scores)) = (labels, scores) {
        let largest = outputs[boxes].largest.filter(|&largest| largest > 0.0);
        let normalised = !sized && largest.is_some_and(|largest| largest <= LARGEST_SHARE);
        let layout = Separate {
            centred: false,
            normalised,
            scores: Scores::OfBoxes,
            overlapping: false,
            counted: count.is_some(),
        };
        let unit = if normalised { "shares of the picture" } else { "pixels" };
        return Ok(Told {
            layout: Layout::Separate(layout),
            class_count: hints.class_count,
            reason: format!(
                "boxes, scores and classes of {count_of_boxes} finished boxes as outputs of their own, in {unit}"
            ),
            outputs: [Some(boxes), Some(scores), Some(labels), count].into_iter().flatten().collect(),
        });
    }
    let of_classes =
        others().find(|&index| matches!(outputs[index].shape.split_last(), Some((_, rest)) if rest == lead));
    let Some(of_classes) = of_classes else {
        return Err((
            format!("it has an output of boxes ({}) but none of their scores", outputs[boxes].name),
            "The nearest is the DETR family with outputs boxes [1, N, 4], scores [1, N] and labels [1, N]; export it so".to_owned(),
        ));
    };
    let columns = outputs[of_classes].shape.last().copied().unwrap_or(0);
    let is_grid = count_of_boxes == cell_count(width, height, &[8, 16, 32]) || count_of_boxes > 1000;
    let is_logits = !is_grid || outputs[of_classes].is_called(&["logit"]);
    // DETR itself has 91 numbers for COCO and one for "no object"; those after it have no such class.
    let is_softmax = is_logits && (columns == 92 || hints.class_count.is_some_and(|classes| classes + 1 == columns));
    let (scores, class_count) = match (is_logits, is_softmax) {
        (_, true) => (Scores::Softmax, columns - 1),
        (true, _) => (Scores::Sigmoid, columns),
        _ => (Scores::OfClasses, columns),
    };
    let layout = Separate { centred: !is_grid, normalised: !is_grid, scores, overlapping: is_grid, counted: false };
    let reason = if is_grid {
        format!(
            "corners and {class_count} class scores of {count_of_boxes} cells as outputs of their own, as of YOLO-NAS"
        )
    } else {
        format!(
            "{count_of_boxes} boxes as shares of the picture with {class_count} class scores, as of DETR and its kin"
        )
    };
    Ok(Told {
        layout: Layout::Separate(layout),
        class_count: Some(class_count),
        reason,
        outputs: vec![boxes, of_classes],
    })
}
