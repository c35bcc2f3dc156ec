// SPDX-License-Identifier: MIT OR Apache-2.0
//! Undecoded heads with anchors: YOLOv5 and v7 (`[1, 3, rows, columns, 5 + C]` or `[1, 3 (5 + C), rows, columns]`), YOLOv4 of the
//! ONNX model zoo (`[1, rows, columns, 3, 5 + C]`), for each of the strides 8, 16 and 32.
//!
//! The models do not contain the sizes of their anchors: those of COCO are assumed.

use super::{Family, ModelLayout};
use crate::detect::layouts::class_names::ClassNames;
use crate::detect::layouts::common::boxes::{corners_from_centre, sigmoid};
use crate::detect::layouts::common::face::FACE_TASK;
use crate::detect::layouts::common::grids::STRIDES;
use crate::detect::layouts::common::grids::grid;
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::evidence::{Evidence, Output};
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};

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
/// Values with a higher mean are not logits of classes.
const MAX_MEAN_OF_CLASSES: f32 = -2.0;
/// How far a centre may lie outside its cell in YOLOv4: `scale_x_y` of each stride.
const V4_SCALES: [f32; 3] = [1.2, 1.1, 1.05];

/// deepcam-cn/yolov5-face, models/yolov5s.yaml.
const V5_FACE: Anchors = [
    [[4.0, 5.0], [8.0, 10.0], [13.0, 16.0]],
    [[23.0, 29.0], [43.0, 55.0], [73.0, 105.0]],
    [[146.0, 217.0], [231.0, 300.0], [335.0, 433.0]],
];
/// Features of yolov5-face: box, objectness, five points, the class.
const FACE_FEATURES: usize = 16;
/// Features of the points.
const FACE_POINTS: std::ops::Range<usize> = 5..15;

/// Order of a map's axes.
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
    /// Whether five points of a face precede the classes.
    has_points: bool,
    /// Whether values are logits of a sigmoid.
    is_logits: bool,
}

/// Returns axes and number of features of an output that can be the head of a stride with a grid of this size.
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

pub(super) const FAMILY: Family = Family::new(recognise).selected_by(&[ModelLayout::V5Raw, ModelLayout::V7Raw]);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let head = |stride: usize| {
        let fits = |output: &Output<'_>| axes_of(output.shape, grid(evidence.size(), stride));
        (0..evidence.outputs.len()).find_map(|index| Some((index, fits(&evidence.outputs[index])?)))
    };
    let (Some(first), Some(second), Some(third)) = (head(8), head(16), head(32)) else { return Recognition::NoMatch };
    let (axes, features) = first.1;
    let has_one_map_per_stride =
        axes != Axes::Planes || evidence.maps_per_stride().is_some_and(|maps| maps[0].len() == 1);
    if features < 6 || second.1 != first.1 || third.1 != first.1 || !has_one_map_per_stride {
        return Recognition::NoMatch;
    }
    let read = vec![first.0, second.0, third.0];
    let values: Option<Vec<&[f32]>> = read.iter().map(|&index| evidence.outputs[index].values).collect();
    let Some(values) = values else { return Recognition::NeedsTrialRun };
    if is_face(evidence, features, axes, &values) {
        return face(read, axes);
    }
    let is_logits = values.into_iter().flatten().any(|value| !(-1e-3..=1.001).contains(value));
    let classes = features - 5;
    let values = match axes {
        Axes::CellsFirst => "undecoded",
        _ if is_logits => "before the sigmoid",
        _ => "after the sigmoid",
    };
    let (which, anchors) = match (axes, evidence.selected) {
        (Axes::CellsFirst, _) => ("YOLOv4", V4),
        // Both have the same anchors.
        (_, Some(ModelLayout::V7Raw)) => ("YOLOv7", V4),
        _ => ("YOLOv5", V5),
    };
    let reason = format!(
        "maps of strides 8, 16 and 32 with 3 anchors and {classes} classes, {values}: undecoded heads of {which}"
    );
    let reader = AnchorHeads { classes, axes, anchors, has_points: false, is_logits };
    let matched = LayoutMatch::new("anchors-raw", reader, read, reason).classes(classes).prepared([Preparation::YOLO]);
    if evidence.is_selected() {
        return matched.into();
    }
    matched
        .warn(format!(
            "its outputs are undecoded and do not contain the sizes of its anchors: those of {which} on COCO are assumed. For a YOLOv7 \
             model set model-layout=v7-raw; export a model with other anchors so that its graph decodes them"
        ))
        .into()
}

/// Whether these are heads of yolov5-face. Logits of classes are far below 0 almost everywhere, coordinates of points are around 0.
fn is_face(evidence: &Evidence<'_>, features: usize, axes: Axes, values: &[&[f32]]) -> bool {
    let is_possible = features == FACE_FEATURES && axes == Axes::FeaturesLast;
    if !is_possible || evidence.class_count().is_some_and(|classes| classes != 1) {
        return false;
    }
    let rows = || values.iter().flat_map(|values| values.chunks_exact(FACE_FEATURES));
    let sum: f32 = rows().flat_map(|row| &row[FACE_POINTS]).sum();
    let mean = sum / (rows().count() * FACE_POINTS.len()).max(1) as f32;
    mean > MAX_MEAN_OF_CLASSES && rows().flat_map(|row| &row[FACE_POINTS]).any(|value| *value < 0.0)
}

/// Matches yolov5-face without its decoding step (deepcam-cn/yolov5-face, models/yolo.py).
fn face(read: Vec<usize>, axes: Axes) -> Recognition {
    let reason = "maps of strides 8, 16 and 32 with 3 anchors, a face and five points: undecoded heads of yolov5-face";
    let reader = AnchorHeads { classes: 1, axes, anchors: V5_FACE, has_points: true, is_logits: true };
    let matched = LayoutMatch::new("v5-face-raw", reader, read, reason.to_owned()).classes(1);
    matched.task(FACE_TASK).named(ClassNames::Face).into()
}

impl AnchorHeads {
    /// Returns the number of values of an anchor.
    fn features(&self) -> usize {
        self.first_class() + self.classes
    }

    /// Returns the index of the first class.
    fn first_class(&self) -> usize {
        if self.has_points { FACE_POINTS.end } else { 5 }
    }

    /// Returns value `feature` of anchor `anchor` in cell `cell`.
    fn at(&self, values: &[f32], cells: usize, anchor: usize, cell: usize, feature: usize) -> f32 {
        let features = self.features();
        values[match self.axes {
            Axes::FeaturesLast => (anchor * cells + cell) * features + feature,
            Axes::Planes => (anchor * features + feature) * cells + cell,
            Axes::CellsFirst => (cell * 3 + anchor) * features + feature,
        }]
    }

    /// Returns the box of an anchor of `level` in the cell at column `x`, row `y`.
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
            return corners_from_centre(&[
                place(values[0], x),
                place(values[1], y),
                values[2].exp() * width,
                values[3].exp() * height,
            ]);
        }
        let [width, height] = self.anchors[level][anchor];
        let place = |value: f32, cell: f32| (squash(value) * 2.0 - 0.5 + cell) * stride;
        let side = |value: f32, anchor: f32| (squash(value) * 2.0).powi(2) * anchor;
        corners_from_centre(&[
            place(values[0], x),
            place(values[1], y),
            side(values[2], width),
            side(values[3], height),
        ])
    }
}

impl OutputReader for AnchorHeads {
    fn accepts(&self, outputs: Outputs<'_>, size: (usize, usize)) -> bool {
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

    fn is_suppressed(&self) -> bool {
        false
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn extra_values(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), index: usize) -> Vec<f32> {
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

    fn collect(&self, _outputs: Outputs<'_>, _size: (usize, usize), _survey: &mut OutputStatistics) {}
}
