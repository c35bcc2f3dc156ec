//! Raw heads with anchors: YOLOv5 and v7 (`[1, 3, rows, columns, 5 + C]` or `[1, 3 (5 + C), rows, columns]`), YOLOv4 of the ONNX model
//! zoo (`[1, rows, columns, 3, 5 + C]`), for each of the strides 8, 16 and 32; not yet decoded.
//!
//! The models do not hold the sizes of their anchors: those of COCO are assumed.

use super::boxes::{STRIDES, centred, sigmoid};
use super::distances::grid;
use super::distribution::maps;
use super::evidence::{Evidence, Output};
use super::names::Names;
use super::preparation::Preparation;
use super::reader::{Reader, Scratch, Survey};
use super::{Claim, Family, Verdict};
use crate::detect::layouts::decoder::Outputs;
use crate::detect::layouts::task::Task;

/// Widths and heights of the three anchors of each stride.
type Anchors = [[[f32; 2]; 3]; 3];

/// ultralytics/yolov5, models/yolov5s.yaml.
const V5: Anchors = [
    [[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]],
    [[30.0, 61.0], [62.0, 45.0], [59.0, 119.0]],
    [[116.0, 90.0], [156.0, 198.0], [373.0, 326.0]],
];
/// AlexeyAB/darknet, cfg/yolov4.cfg; WongKinYiu/yolov7, cfg/training/yolov7.yaml.
const V4: Anchors = [
    [[12.0, 16.0], [19.0, 36.0], [40.0, 28.0]],
    [[36.0, 75.0], [76.0, 55.0], [72.0, 146.0]],
    [[142.0, 110.0], [192.0, 243.0], [459.0, 401.0]],
];
/// Mean over which values are no logits of classes.
const MEAN_OF_CLASSES: f32 = -2.0;
/// How far a centre may leave its cell, in YOLOv4: `scale_x_y` of each stride.
const V4_SCALES: [f32; 3] = [1.2, 1.1, 1.05];

/// deepcam-cn/yolov5-face, models/yolov5s.yaml.
const V5_FACE: Anchors = [
    [[4.0, 5.0], [8.0, 10.0], [13.0, 16.0]],
    [[23.0, 29.0], [43.0, 55.0], [73.0, 105.0]],
    [[146.0, 217.0], [231.0, 300.0], [335.0, 433.0]],
];
/// Features of yolov5-face: box, objectness, five points, the class.
const FACE_FEATURES: usize = 16;
/// Where the points are.
const FACE_POINTS: std::ops::Range<usize> = 5..15;

/// How a map's axes follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axes {
    /// `[anchors, rows, columns, features]`.
    FeaturesLast,
    /// `[anchors * features, rows, columns]`.
    Planes,
    /// `[rows, columns, anchors, features]`.
    CellsFirst,
}

#[derive(Debug)]
struct AnchorHeads {
    classes: usize,
    axes: Axes,
    anchors: Anchors,
    /// Whether five points of a face stand before the classes.
    has_points: bool,
    /// Whether values are still to go through a sigmoid.
    is_logits: bool,
}

/// Axes and features of an output that is a head of this stride.
fn axes_of(shape: &[usize], (across, down): (usize, usize)) -> Option<(Axes, usize)> {
    match *shape {
        [_, 3, rows, columns, features] if (columns, rows) == (across, down) => Some((Axes::FeaturesLast, features)),
        [_, rows, columns, 3, features] if (columns, rows) == (across, down) => Some((Axes::CellsFirst, features)),
        [_, channels, rows, columns] if (columns, rows) == (across, down) && channels.is_multiple_of(3) => {
            Some((Axes::Planes, channels / 3))
        }
        _ => None,
    }
}

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    if evidence.forced.is_some_and(|forced| ![Family::V5Raw, Family::V7Raw].contains(&forced)) {
        return Verdict::No;
    }
    let head = |stride: usize| {
        let fits = |output: &Output<'_>| axes_of(output.shape, grid(evidence.size(), stride));
        (0..evidence.outputs.len()).find_map(|index| Some((index, fits(&evidence.outputs[index])?)))
    };
    let (Some(first), Some(second), Some(third)) = (head(8), head(16), head(32)) else { return Verdict::No };
    let (axes, features) = first.1;
    let is_alone = axes != Axes::Planes || maps(evidence).is_some_and(|maps| maps[0].len() == 1);
    if features < 6 || second.1 != first.1 || third.1 != first.1 || !is_alone {
        return Verdict::No;
    }
    let read = vec![first.0, second.0, third.0];
    let values: Option<Vec<&[f32]>> = read.iter().map(|&index| evidence.outputs[index].values).collect();
    let Some(values) = values else { return Verdict::NeedsTrial };
    if is_face(evidence, features, axes, &values) {
        return face(read, axes);
    }
    let is_logits = values.into_iter().flatten().any(|value| !(-1e-3..=1.001).contains(value));
    let classes = features - 5;
    let form = match axes {
        Axes::CellsFirst => "not decoded",
        _ if is_logits => "before their sigmoid",
        _ => "after their sigmoid",
    };
    let (which, anchors) = match (axes, evidence.forced) {
        (Axes::CellsFirst, _) => ("YOLOv4", V4),
        // They are the same sizes.
        (_, Some(Family::V7Raw)) => ("YOLOv7", V4),
        _ => ("YOLOv5", V5),
    };
    let reason =
        format!("maps of strides 8, 16 and 32 with 3 anchors, {classes} classes, values {form}: raw heads of {which}");
    let reader = AnchorHeads { classes, axes, anchors, has_points: false, is_logits };
    let claim = Claim::new("anchors-raw", reader, read, reason).classes(classes).prepared([Preparation::YOLO]);
    if evidence.forced.is_some() {
        return claim.into();
    }
    claim
        .warn(format!(
            "its outputs are raw and do not hold the sizes of its anchors: those of {which} on COCO are assumed; for a YOLOv7 \
             set model-layout=v7-raw, and export a model that was trained with anchors of its own with its last step"
        ))
        .into()
}

/// Whether these are heads of yolov5-face. Logits of classes are far below 0 nearly everywhere, places of points about 0.
fn is_face(evidence: &Evidence<'_>, features: usize, axes: Axes, values: &[&[f32]]) -> bool {
    let is_possible = features == FACE_FEATURES && evidence.forced.is_none() && axes == Axes::FeaturesLast;
    if !is_possible || evidence.class_count().is_some_and(|classes| classes != 1) {
        return false;
    }
    let rows = || values.iter().flat_map(|values| values.chunks_exact(FACE_FEATURES));
    let sum: f32 = rows().flat_map(|row| &row[FACE_POINTS]).sum();
    let mean = sum / (rows().count() * FACE_POINTS.len()).max(1) as f32;
    mean > MEAN_OF_CLASSES && rows().flat_map(|row| &row[FACE_POINTS]).any(|value| *value < 0.0)
}

/// yolov5-face (deepcam-cn/yolov5-face, models/yolo.py, without its last step).
fn face(read: Vec<usize>, axes: Axes) -> Verdict {
    let reason = "maps of strides 8, 16 and 32 with 3 anchors, a face and five points: raw heads of yolov5-face";
    let reader = AnchorHeads { classes: 1, axes, anchors: V5_FACE, has_points: true, is_logits: true };
    let claim = Claim::new("v5-face-raw", reader, read, reason.to_owned()).classes(1);
    claim.task(Task::Pose { points: 5, values: 2 }).named(Names::Face).into()
}

impl AnchorHeads {
    /// Values of an anchor.
    fn features(&self) -> usize {
        self.first_class() + self.classes
    }

    /// Where the classes begin.
    fn first_class(&self) -> usize {
        if self.has_points { FACE_POINTS.end } else { 5 }
    }

    /// Value `feature` of anchor `anchor` in cell `cell`.
    fn at(&self, values: &[f32], cells: usize, anchor: usize, cell: usize, feature: usize) -> f32 {
        let features = self.features();
        values[match self.axes {
            Axes::FeaturesLast => (anchor * cells + cell) * features + feature,
            Axes::Planes => (anchor * features + feature) * cells + cell,
            Axes::CellsFirst => (cell * 3 + anchor) * features + feature,
        }]
    }

    /// The box of an anchor of `level` in the cell at column `x`, row `y`.
    ///
    /// YOLOv5: ultralytics/yolov5, models/yolo.py, `Detect`. YOLOv4: onnx/models, yolov4, `postprocess_bbbox`.
    fn corners(&self, values: [f32; 4], [x, y]: [f32; 2], level: usize, anchor: usize) -> [f32; 4] {
        let stride = STRIDES[level] as f32;
        let squash = |value: f32| if self.is_logits { sigmoid(value) } else { value };
        if self.axes == Axes::CellsFirst {
            let [width, height] = self.anchors[level][anchor];
            let place = |value: f32, cell: f32| {
                let scale = V4_SCALES[level];
                (sigmoid(value) * scale - 0.5 * (scale - 1.0) + cell) * stride
            };
            return centred(&[
                place(values[0], x),
                place(values[1], y),
                values[2].exp() * width,
                values[3].exp() * height,
            ]);
        }
        let [width, height] = self.anchors[level][anchor];
        let place = |value: f32, cell: f32| (squash(value) * 2.0 - 0.5 + cell) * stride;
        let side = |value: f32, anchor: f32| (squash(value) * 2.0).powi(2) * anchor;
        centred(&[place(values[0], x), place(values[1], y), side(values[2], width), side(values[3], height)])
    }
}

impl Reader for AnchorHeads {
    fn is_readable(&self, outputs: Outputs<'_>, size: (usize, usize)) -> bool {
        let features = self.features();
        STRIDES.iter().enumerate().all(|(level, &stride)| {
            let Some(view) = outputs.views.get(level) else { return false };
            view.shape.first() == Some(&outputs.images)
                && axes_of(view.shape, grid(size, stride)) == Some((self.axes, features))
        })
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let mut index = 0;
        let squash = |value: f32| if self.is_logits { sigmoid(value) } else { value };
        for (level, &stride) in STRIDES.iter().enumerate() {
            let (across, down) = grid(size, stride);
            let cells = across * down;
            let rank = outputs.views[level].shape.len() - 1;
            let values = outputs.part(level, image, rank).values;
            for anchor in 0..3 {
                for cell in 0..cells {
                    let at = |feature: usize| self.at(values, cells, anchor, cell, feature);
                    let objectness = squash(at(4));
                    if objectness > threshold {
                        let mut best = (0, f32::NEG_INFINITY);
                        for class in 0..self.classes {
                            let value = at(self.first_class() + class);
                            if value > best.1 {
                                best = (class as u32, value);
                            }
                        }
                        let score = objectness * squash(best.1);
                        if score > threshold {
                            let place = [(cell % across) as f32, (cell / across) as f32];
                            let corners = self.corners([at(0), at(1), at(2), at(3)], place, level, anchor);
                            scratch.push(corners, score, best.0, index + cell);
                        }
                    }
                }
                index += cells;
            }
        }
    }

    fn is_finished(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn extra(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), index: usize) -> Vec<f32> {
        let mut place = index;
        for (level, &stride) in STRIDES.iter().enumerate().filter(|_| self.has_points) {
            let (across, down) = grid(size, stride);
            let cells = across * down;
            if place >= 3 * cells {
                place -= 3 * cells;
                continue;
            }
            let (anchor, cell) = (place / cells, place % cells);
            let rank = outputs.views[level].shape.len() - 1;
            let values = outputs.part(level, image, rank).values;
            let corner = [cell % across * stride, cell / across * stride];
            let point = |feature: usize| {
                let axis = (feature - FACE_POINTS.start) % 2;
                self.at(values, cells, anchor, cell, feature) * self.anchors[level][anchor][axis] + corner[axis] as f32
            };
            return FACE_POINTS.map(point).collect();
        }
        Vec::new()
    }

    fn survey(&self, _outputs: Outputs<'_>, _size: (usize, usize), _survey: &mut Survey) {}
}
