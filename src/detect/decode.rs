//! From a model's output tensor to detections in the frame.
//!
//! Owns one reader for each [`Layout`]; knows nothing of ONNX Runtime. One [`Decoder`] for each worker thread, its scratch
//! memory reused. Values that are not finite never become detections.

use super::detection::{DetectSettings, Detection};
use super::layout::{Layout, Scores, YOLOX_STRIDES};
use super::letterbox::Letterbox;
use super::nms::{Candidate, MAX_CANDIDATES, iou, rank, suppress};
use super::task::{Details, Task, keypoints, mask, rotated};

/// One output of a run, of all images.
#[derive(Debug, Clone, Copy)]
pub struct OutputView<'a> {
    /// The tensor's shape.
    pub shape: &'a [usize],
    /// As many values as the shape says.
    pub values: &'a [f32],
}

impl<'a> OutputView<'a> {
    /// What belongs to image `index` of `images`, without the batch's dimension; all of it where there is none.
    pub(super) fn image(self, index: usize, images: usize, rank: usize) -> Self {
        if self.shape.len() <= rank {
            return self;
        }
        let length = self.values.len() / images.max(1);
        Self { shape: &self.shape[1..], values: &self.values[index * length..][..length] }
    }

    /// Rows of the last dimension.
    pub(super) fn rows(self) -> std::slice::ChunksExact<'a, f32> {
        self.values.chunks_exact(self.shape.last().copied().unwrap_or(1).max(1))
    }
}

/// The outputs of a run, in the order in which the layout's reader takes them.
#[derive(Debug, Clone, Copy)]
pub struct Outputs<'a> {
    /// The outputs.
    pub views: &'a [OutputView<'a>],
    /// Images in the run.
    pub images: usize,
}

/// Class ids that come as floats; beyond this they are nonsense.
pub(super) const MAX_CLASS_ID: f32 = 1e6;

/// Reads outputs; keeps its scratch memory.
#[derive(Debug, Default)]
pub struct Decoder {
    best: Vec<f32>,
    pub(super) candidates: Vec<Candidate>,
}

impl Decoder {
    /// The detections of image `image`, by falling confidence.
    ///
    /// `outputs` must have been checked to be what `layout` says ([`is_readable`](super::readable::is_readable)).
    pub fn decode(
        &mut self,
        (layout, task): (Layout, Task),
        outputs: Outputs<'_>,
        image: usize,
        settings: &DetectSettings,
        fit: &Letterbox,
    ) -> Vec<Detection> {
        self.candidates.clear();
        let threshold = settings.confidence_threshold;
        let Outputs { views, images } = outputs;
        let part = |index: usize, rank: usize| views[index].image(image, images, rank);
        let extra = task.extra();
        let is_finished = match layout {
            Layout::V8 { transposed: false } => {
                self.v8(part(0, 2), extra, threshold);
                false
            }
            Layout::V8 { transposed: true } => {
                self.cells(part(0, 2), (4, extra), threshold, |row, _| Some(centred(row)));
                false
            }
            Layout::V5 => {
                self.cells(part(0, 2), (5, extra), threshold, |row, _| Some(centred(row)));
                false
            }
            Layout::Yolox => {
                let (width, height) = fit.canvas;
                self.cells(part(0, 2), (5, 0), threshold, |row, index| yolox_box(row, index, width, height));
                false
            }
            Layout::EndToEnd => {
                self.finished(part(0, 2).rows(), threshold, |row| (&row[..4], row[4], row[5]));
                true
            }
            Layout::Classes => return classes(part(0, 1).values, settings, fit),
            Layout::Separate(form) => {
                self.separate(
                    form,
                    [part(0, 2), part(1, if form.scores == Scores::OfBoxes { 1 } else { 2 })],
                    {
                        let classes = (form.scores == Scores::OfBoxes).then(|| part(2, 1));
                        let count = form.counted.then(|| part(3, 0)).and_then(|count| count.values.first().copied());
                        (classes, count)
                    },
                    threshold,
                    fit.canvas,
                );
                !form.overlapping
            }
            Layout::Flat(form) => {
                self.flat(form, views, image, threshold);
                true
            }
            Layout::Distances(head) => {
                self.distances(head, views, (image, images), threshold, fit.canvas);
                false
            }
        };
        let candidates = &mut self.candidates;
        candidates.retain(|candidate| {
            candidate.score.is_finite()
                && candidate.corners.iter().all(|value| value.is_finite())
                && settings.classes.as_ref().is_none_or(|classes| classes.contains(&(candidate.class_id as usize)))
        });
        let behind = |candidate: &Candidate| behind(layout, part(0, 2), extra, candidate.index as usize);
        let turned = |candidate: &Candidate| {
            let [x1, y1, x2, y2] = candidate.corners;
            let upright = [(x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1];
            rotated(upright, behind(candidate).first().copied().unwrap_or(0.0), fit)
        };
        if is_finished {
            rank(candidates, settings.max_detections.min(MAX_CANDIDATES));
        } else {
            rank(candidates, MAX_CANDIDATES);
            let overlap = |a: &Candidate, b: &Candidate| match task {
                Task::Obb => turned(a).likeness(turned(b)),
                _ => iou(&a.corners, &b.corners),
            };
            suppress(candidates, settings.iou_threshold, settings.class_agnostic, settings.max_detections, overlap);
        }
        let with_details = |candidate: &Candidate| {
            let mut found = in_frame(candidate, fit)?;
            match task {
                Task::Detect | Task::Classify => {}
                Task::Segment { .. } => {
                    let prototypes = views.get(1)?.image(image, images, 3);
                    found.details.mask = mask(&behind(candidate), prototypes, candidate.corners, fit.canvas);
                }
                Task::Pose { values, .. } => found.details.keypoints = keypoints(&behind(candidate), values, fit),
                Task::Obb => {
                    let turned = turned(candidate);
                    let bounds = turned.bounds();
                    let limit = |value: f32, side: usize| value.clamp(0.0, side as f32);
                    (found.x_min, found.x_max) = (limit(bounds[0], fit.frame.0), limit(bounds[2], fit.frame.0));
                    (found.y_min, found.y_max) = (limit(bounds[1], fit.frame.1), limit(bounds[3], fit.frame.1));
                    found.details.rotated = turned.angle.is_finite().then_some(turned);
                }
            }
            Some(found)
        };
        candidates.iter().filter_map(with_details).collect()
    }

    /// `[4 + C, cells]`: the best probability of each cell in one pass along the rows, the class only where it counts.
    fn v8(&mut self, output: OutputView<'_>, extra: usize, threshold: f32) {
        let cells = output.shape[1];
        if cells == 0 {
            return;
        }
        let (boxes, classes) = output.values[..output.values.len() - extra * cells].split_at(4 * cells);
        let best = &mut self.best;
        best.clear();
        best.resize(cells, f32::NEG_INFINITY);
        for row in classes.chunks_exact(cells) {
            for (best, &value) in best.iter_mut().zip(row) {
                *best = if value > *best { value } else { *best };
            }
        }
        for (cell, &score) in best.iter().enumerate() {
            if score > threshold {
                let class_id = classes.iter().skip(cell).step_by(cells).position(|&value| value == score);
                let row = [boxes[cell], boxes[cells + cell], boxes[2 * cells + cell], boxes[3 * cells + cell]];
                self.candidates.push(Candidate {
                    corners: centred(&row),
                    score,
                    class_id: class_id.unwrap_or_default() as u32,
                    index: cell as u32,
                });
            }
        }
    }

    /// `[cells, head + C + extra]` with `head` 4 (box) or 5 (box and objectness).
    ///
    /// With objectness, a cell whose objectness is not over the threshold is passed over: classes are probabilities, so their
    /// product cannot be over it either.
    fn cells(
        &mut self,
        output: OutputView<'_>,
        (head, extra): (usize, usize),
        threshold: f32,
        corners: impl Fn(&[f32], usize) -> Option<[f32; 4]>,
    ) {
        for (index, row) in output.rows().enumerate() {
            let objectness = if head == 5 { row[4] } else { 1.0 };
            if objectness > threshold {
                let (class_id, probability) = best_of(&row[head..row.len() - extra]);
                let score = objectness * probability;
                if score > threshold
                    && let Some(corners) = corners(row, index)
                {
                    self.candidates.push(Candidate { corners, score, class_id, index: index as u32 });
                }
            }
        }
    }

    /// Rows of finished boxes, out of which `parts` takes the corners, the score and the class.
    pub(super) fn finished<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a [f32]>,
        threshold: f32,
        parts: impl Fn(&'a [f32]) -> (&'a [f32], f32, f32),
    ) {
        for (index, row) in rows.enumerate() {
            let (corners, score, class) = parts(row);
            if score > threshold && (0.0..MAX_CLASS_ID).contains(&class) {
                let corners = [corners[0], corners[1], corners[2], corners[3]];
                self.candidates.push(Candidate { corners, score, class_id: class as u32, index: index as u32 });
            }
        }
    }
}

/// Corners from centre x, centre y, width, height.
pub(super) fn centred(row: &[f32]) -> [f32; 4] {
    let (half_width, half_height) = (row[2] / 2.0, row[3] / 2.0);
    [row[0] - half_width, row[1] - half_height, row[0] + half_width, row[1] + half_height]
}

/// The first of the greatest values; (0, -inf) where there is none.
pub(super) fn best_of(values: &[f32]) -> (u32, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (index as u32, value);
        }
    }
    best
}

/// Corners of YOLOX's cell `index`: centre = (value + position) * stride, size = exp(value) * stride.
///
/// As in YOLOX's `demo_postprocess` (Megvii, yolox/utils/demo_utils.py).
fn yolox_box(row: &[f32], index: usize, width: usize, height: usize) -> Option<[f32; 4]> {
    let mut rest = index;
    for stride in YOLOX_STRIDES {
        let (across, down) = (width / stride, height / stride);
        if rest < across * down {
            let (x, y, stride) = ((rest % across) as f32, (rest / across) as f32, stride as f32);
            let centre = [(row[0] + x) * stride, (row[1] + y) * stride];
            return Some(centred(&[centre[0], centre[1], row[2].exp() * stride, row[3].exp() * stride]));
        }
        rest -= across * down;
    }
    None
}

/// A candidate in the frame's pixels, unless nothing of it lies in the frame.
fn in_frame(candidate: &Candidate, fit: &Letterbox) -> Option<Detection> {
    let [x_min, y_min, x_max, y_max] = fit.to_frame(candidate.corners);
    (x_max > x_min && y_max > y_min).then_some(Detection {
        class_id: candidate.class_id as usize,
        confidence: candidate.score,
        x_min,
        y_min,
        x_max,
        y_max,
        details: Details::default(),
    })
}

/// The values behind the class scores of row or cell `index`.
fn behind(layout: Layout, output: OutputView<'_>, extra: usize, index: usize) -> Vec<f32> {
    let (Some(&features), Some(&columns)) = (output.shape.first(), output.shape.last()) else { return Vec::new() };
    match layout {
        Layout::V8 { transposed: false } => {
            (features - extra..features).map(|row| output.values[row * columns + index]).collect()
        }
        _ => output.values[(index + 1) * columns - extra..(index + 1) * columns].to_vec(),
    }
}

/// Names for the whole frame: the best five over the threshold. Values that are no shares of 1 go through a softmax.
fn classes(values: &[f32], settings: &DetectSettings, fit: &Letterbox) -> Vec<Detection> {
    let sum: f32 = values.iter().sum();
    let are_shares = values.iter().all(|value| *value >= 0.0) && (sum - 1.0).abs() < 0.05;
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = values.iter().map(|value| (value - greatest).exp()).sum();
    let share = |value: f32| if are_shares { value } else { (value - greatest).exp() / total };
    let wanted = |class: usize| settings.classes.as_ref().is_none_or(|classes| classes.contains(&class));
    let mut named: Vec<(usize, f32)> = values.iter().map(|&value| share(value)).enumerate().collect();
    named.retain(|(class, share)| share.is_finite() && *share > settings.confidence_threshold && wanted(*class));
    named.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    named.truncate(MOST_NAMES.min(settings.max_detections));
    let named = named.into_iter().map(|(class_id, confidence)| Detection {
        class_id,
        confidence,
        x_min: 0.0,
        y_min: 0.0,
        x_max: fit.frame.0 as f32,
        y_max: fit.frame.1 as f32,
        details: Details::default(),
    });
    named.collect()
}

/// Most names for a picture.
const MOST_NAMES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::letterbox::Anchor;

    /// A 64x64 canvas over a 128x128 frame: twice the size back.
    fn fit() -> Letterbox {
        Letterbox::new((128, 128), (64, 64), Anchor::Center)
    }

    fn read(layout: Layout, views: &[OutputView<'_>], settings: &DetectSettings) -> Vec<Detection> {
        let outputs = Outputs { views, images: 1 };
        Decoder::default().decode((layout, Task::Detect), outputs, 0, settings, &fit())
    }

    fn run(layout: Layout, columns: usize, values: &[f32], settings: &DetectSettings) -> Vec<Detection> {
        let shape = [1, values.len() / columns, columns];
        read(layout, &[OutputView { shape: &shape, values }], settings)
    }

    fn detection(class_id: usize, confidence: f32, corners: [f32; 4]) -> Detection {
        let [x_min, y_min, x_max, y_max] = corners;
        Detection { class_id, confidence, x_min, y_min, x_max, y_max, details: Details::default() }
    }

    #[test]
    fn v8_reads_class_major_and_transposed_outputs_alike() {
        // Two cells, two classes.
        let major = [10.0, 40.0, 10.0, 40.0, 4.0, 8.0, 4.0, 8.0, 0.1, 0.6, 0.9, 0.2];
        let minor = [10.0, 10.0, 4.0, 4.0, 0.1, 0.9, 40.0, 40.0, 8.0, 8.0, 0.6, 0.2];
        let expected = [detection(1, 0.9, [16.0, 16.0, 24.0, 24.0]), detection(0, 0.6, [72.0, 72.0, 88.0, 88.0])];
        let settings = DetectSettings::default();
        assert_eq!(run(Layout::V8 { transposed: false }, 2, &major, &settings), expected);
        assert_eq!(run(Layout::V8 { transposed: true }, 6, &minor, &settings), expected);
    }

    #[test]
    fn v5_multiplies_objectness_and_class() {
        let values = [10.0, 10.0, 4.0, 4.0, 0.5, 0.2, 0.8, 40.0, 40.0, 8.0, 8.0, 0.5, 0.4, 0.1];
        let settings = DetectSettings { confidence_threshold: 0.3, ..DetectSettings::default() };
        assert_eq!(run(Layout::V5, 7, &values, &settings), [detection(1, 0.4, [16.0, 16.0, 24.0, 24.0])]);
    }

    #[test]
    fn yolox_cells_get_their_grid_stride_and_exponent() {
        // 64x64: 64 cells of stride 8, 16 of 16, 4 of 32. Cell 64 + 5 is column 1, row 1 of stride 16.
        let mut values = vec![0.0; 84 * 6];
        values[69 * 6..70 * 6].copy_from_slice(&[0.5, 0.25, 0.0, 0.0, 1.0, 0.9]);
        let expected = detection(0, 0.9, [32.0, 24.0, 64.0, 56.0]);
        assert_eq!(run(Layout::Yolox, 6, &values, &DetectSettings::default()), [expected]);
    }

    #[test]
    fn end_to_end_boxes_are_not_suppressed_but_ordered_and_limited() {
        let values = [
            [0.0, 0.0, 10.0, 10.0, 0.5, 3.0],
            [0.0, 0.0, 10.0, 10.0, 0.7, 3.0],
            [0.0, 0.0, 10.0, 10.0, 0.6, -1.0],
            [0.0, 0.0, 10.0, 10.0, 0.2, 1.0],
        ]
        .concat();
        let confidences = |settings: &DetectSettings| -> Vec<f32> {
            run(Layout::EndToEnd, 6, &values, settings).iter().map(|found| found.confidence).collect()
        };
        assert_eq!(confidences(&DetectSettings::default()), [0.7, 0.5]);
        assert_eq!(confidences(&DetectSettings { max_detections: 1, ..DetectSettings::default() }), [0.7]);
        assert!(confidences(&DetectSettings { max_detections: 0, ..DetectSettings::default() }).is_empty());
    }

    #[test]
    fn chosen_classes_alone_are_kept_before_suppression() {
        let values = [10.0, 10.0, 10.0, 10.0, 4.0, 4.0, 4.0, 4.0, 0.1, 0.6, 0.9, 0.2];
        let settings = DetectSettings { classes: Some(vec![0]), class_agnostic: true, ..DetectSettings::default() };
        let found = run(Layout::V8 { transposed: false }, 2, &values, &settings);
        assert_eq!(found.iter().map(|found| found.class_id).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn values_that_are_not_finite_never_become_detections() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 0.9];
        for layout in [Layout::V8 { transposed: false }, Layout::V8 { transposed: true }, Layout::V5, Layout::EndToEnd]
        {
            for place in 0..6 {
                for value in odd {
                    let mut values = [10.0, 10.0, 20.0, 20.0, 0.9, 1.0];
                    values[place] = value;
                    let columns = if layout == (Layout::V8 { transposed: false }) { 1 } else { 6 };
                    for found in run(layout, columns, &values, &DetectSettings::default()) {
                        let edges = [found.x_min, found.y_min, found.x_max, found.y_max, found.confidence];
                        assert!(edges.iter().all(|edge| edge.is_finite()), "{layout:?} {place} {value} {found:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn boxes_outside_the_frame_are_no_detections() {
        let values = [-50.0, -50.0, 4.0, 4.0, 0.9];
        assert!(run(Layout::V8 { transposed: false }, 1, &values, &DetectSettings::default()).is_empty());
    }
}
