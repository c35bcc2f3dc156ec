// SPDX-License-Identifier: MIT OR Apache-2.0
//! Converts a model's output tensors to detections in the frame: reads boxes by the layout's reader, suppresses overlaps, maps
//! boxes back and adds what the task provides.
//!
//! Knows nothing of ONNX Runtime or of families. Each worker thread has its own [`Decoder`], which reuses its memory. Values that
//! are not finite never become detections.

use std::borrow::Borrow;

use super::nms::{Candidate, MAX_CANDIDATES, iou, rank, suppress};
use super::task::{Task, keypoints, mask, rotated};
use super::{OutputLayout, Outputs, Scratch};
use crate::detect::detection::{Details, DetectSettings, Detection, Rotated};
use crate::detect::pixels::letterbox::Letterbox;

/// Decodes outputs; keeps its memory between images.
#[derive(Debug, Default)]
pub struct Decoder {
    scratch: Scratch,
}

impl Decoder {
    /// Returns the detections of image `image`, by falling confidence.
    ///
    /// `layout` must have accepted `outputs` ([`accepts`](super::OutputReader::accepts)).
    pub fn decode(
        &mut self,
        layout: &OutputLayout,
        task: Task,
        outputs: Outputs<'_>,
        image: usize,
        settings: &DetectSettings,
        fit: &Letterbox,
    ) -> Vec<Detection> {
        let reader = layout.reader();
        if let Some(values) = reader.class_scores(outputs, image) {
            return classify(values, settings, fit);
        }
        self.scratch.candidates.clear();
        reader.read(outputs, image, fit.canvas, settings.confidence_threshold, &mut self.scratch);
        let candidates = &mut self.scratch.candidates;
        candidates.retain(|candidate| {
            candidate.score.is_finite()
                && candidate.corners.iter().all(|value| value.is_finite())
                && settings.classes.as_ref().is_none_or(|classes| classes.contains(&(candidate.class_id as usize)))
        });
        let extra = |candidate: &Candidate| reader.extra_values(outputs, image, fit.canvas, candidate.index as usize);
        let rotated_box = |candidate: &Candidate| {
            let [x1, y1, x2, y2] = candidate.corners;
            let upright = [(x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1];
            let angle = extra(candidate).first().copied().filter(|angle| angle.is_finite()).unwrap_or(0.0);
            rotated(upright, angle, fit)
        };
        if reader.is_suppressed() {
            rank(candidates, settings.max_detections.min(MAX_CANDIDATES));
        } else {
            rank(candidates, MAX_CANDIDATES);
            let (threshold, agnostic, limit) =
                (settings.iou_threshold, settings.class_agnostic, settings.max_detections);
            if task == Task::Obb {
                let of = |candidate: &Candidate| RotatedCandidate { plain: *candidate, shape: rotated_box(candidate) };
                let mut shaped: Vec<RotatedCandidate> = candidates.iter().map(of).collect();
                suppress(&mut shaped, threshold, agnostic, limit, |a, b| a.shape.probabilistic_iou(b.shape));
                candidates.clear();
                candidates.extend(shaped.iter().map(|candidate| candidate.plain));
            } else {
                suppress(candidates, threshold, agnostic, limit, |a, b| iou(&a.corners, &b.corners));
            }
        }
        // In pixels of the frame. A rotated box may lie in the frame although the same box, upright, does not.
        let bounds_of = |candidate: &Candidate| match task {
            Task::Obb => rotated_box(candidate).bounds(),
            _ => fit.to_frame(candidate.corners),
        };
        let with_details = |candidate: &Candidate| {
            let mut found = in_frame(candidate, bounds_of(candidate), fit)?;
            match task {
                Task::Detect | Task::Classify => {}
                Task::Segment { .. } => {
                    let prototypes = outputs.views.get(1)?.image(image, outputs.images, 3);
                    // The mask covers its box, which ends at the edge of the frame.
                    let corners = fit.clamp(candidate.corners);
                    found.details.mask = mask(&extra(candidate), prototypes, corners, fit.canvas);
                }
                Task::Pose { values, .. } => found.details.keypoints = keypoints(&extra(candidate), values, fit),
                Task::Obb => found.details.rotated = Some(rotated_box(candidate)),
            }
            Some(found)
        };
        candidates.iter().filter_map(with_details).collect()
    }
}

/// A candidate with its rotated box in pixels of the frame.
#[derive(Clone, Copy)]
struct RotatedCandidate {
    plain: Candidate,
    shape: Rotated,
}

impl Borrow<Candidate> for RotatedCandidate {
    fn borrow(&self) -> &Candidate {
        &self.plain
    }
}

/// Converts a candidate with these corners in pixels of the frame; `None` if no part of it lies in the frame.
fn in_frame(candidate: &Candidate, corners: [f32; 4], fit: &Letterbox) -> Option<Detection> {
    let limit = |value: f32, side: usize| value.clamp(0.0, side as f32);
    let [x_min, x_max] = [corners[0], corners[2]].map(|x| limit(x, fit.frame.0));
    let [y_min, y_max] = [corners[1], corners[3]].map(|y| limit(y, fit.frame.1));
    (x_max > x_min && y_max > y_min).then_some(Detection {
        class_id: candidate.class_id as usize,
        // The sanity checks warn of scores above 1.
        confidence: candidate.score.min(1.0),
        x_min,
        y_min,
        x_max,
        y_max,
        details: Details::default(),
    })
}

/// Returns the best classes of the whole frame above the threshold. Values that do not add up to 1 go through a softmax.
fn classify(values: &[f32], settings: &DetectSettings, fit: &Letterbox) -> Vec<Detection> {
    let sum: f32 = values.iter().sum();
    let are_probabilities = values.iter().all(|value| *value >= 0.0) && (sum - 1.0).abs() < 0.05;
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = values.iter().map(|value| (value - greatest).exp()).sum();
    // A sum of almost 1 may have a value just above.
    let probability = |value: f32| if are_probabilities { value.min(1.0) } else { (value - greatest).exp() / total };
    let wanted = |class: usize| settings.classes.as_ref().is_none_or(|classes| classes.contains(&class));
    let mut named: Vec<(usize, f32)> = values.iter().map(|&value| probability(value)).enumerate().collect();
    named.retain(|(class, probability)| {
        probability.is_finite() && *probability > settings.confidence_threshold && wanted(*class)
    });
    named.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    named.truncate(MAX_CLASSES_OF_PICTURE.min(settings.max_detections));
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

/// Most classes of a picture.
const MAX_CLASSES_OF_PICTURE: usize = 5;

#[cfg(test)]
mod tests {
    use super::super::{OutputReader, OutputStatistics};
    use super::*;
    use crate::detect::onnx::tensor::OutputView;
    use crate::detect::pixels::letterbox::ResizeMode;
    use std::sync::Arc;

    /// Rows of corners, score and class.
    #[derive(Debug)]
    struct Plain {
        is_suppressed: bool,
    }

    impl OutputReader for Plain {
        fn accepts(&self, _: Outputs<'_>, _: (usize, usize)) -> bool {
            true
        }

        fn read(&self, outputs: Outputs<'_>, _: usize, _: (usize, usize), threshold: f32, scratch: &mut Scratch) {
            for (index, row) in outputs.views[0].rows().enumerate().filter(|(_, row)| row[4] > threshold) {
                scratch.push([row[0], row[1], row[2], row[3]], row[4], row[5] as u32, index);
            }
        }

        fn is_suppressed(&self) -> bool {
            self.is_suppressed
        }

        fn collect(&self, _: Outputs<'_>, _: (usize, usize), _: &mut OutputStatistics) {}
    }

    /// A 64x64 canvas over a 128x128 frame: twice the size back.
    fn read(is_suppressed: bool, values: &[[f32; 6]], settings: &DetectSettings) -> Vec<Detection> {
        let values = values.concat();
        let view = OutputView { shape: &[1, values.len() / 6, 6], values: &values };
        let fit = Letterbox::new((128, 128), (64, 64), ResizeMode::Letterbox);
        let layout = OutputLayout::new("plain", Arc::new(Plain { is_suppressed }));
        let outputs = Outputs { views: &[view], images: 1 };
        Decoder::default().decode(&layout, Task::Detect, outputs, 0, settings, &fit)
    }

    fn detection(class_id: usize, confidence: f32, corners: [f32; 4]) -> Detection {
        let [x_min, y_min, x_max, y_max] = corners;
        Detection { class_id, confidence, x_min, y_min, x_max, y_max, details: Details::default() }
    }

    #[test]
    fn boxes_are_returned_in_the_frame_by_falling_confidence() {
        let values = [[0.0, 0.0, 10.0, 10.0, 0.5, 3.0], [20.0, 20.0, 40.0, 30.0, 0.7, 1.0]];
        let expected = [detection(1, 0.7, [40.0, 40.0, 80.0, 60.0]), detection(3, 0.5, [0.0, 0.0, 20.0, 20.0])];
        assert_eq!(read(false, &values, &DetectSettings::default()), expected);
    }

    #[test]
    fn suppressed_boxes_are_only_sorted_and_limited() {
        let values =
            [[0.0, 0.0, 10.0, 10.0, 0.5, 3.0], [0.0, 0.0, 10.0, 10.0, 0.7, 3.0], [0.0, 0.0, 10.0, 10.0, 0.2, 1.0]];
        let confidences = |is_suppressed, settings: &DetectSettings| -> Vec<f32> {
            read(is_suppressed, &values, settings).iter().map(|found| found.confidence).collect()
        };
        assert_eq!(confidences(true, &DetectSettings::default()), [0.7, 0.5]);
        assert_eq!(confidences(false, &DetectSettings::default()), [0.7]);
        assert_eq!(confidences(true, &DetectSettings { max_detections: 1, ..DetectSettings::default() }), [0.7]);
        assert!(confidences(true, &DetectSettings { max_detections: 0, ..DetectSettings::default() }).is_empty());
    }

    #[test]
    fn chosen_classes_alone_are_kept_before_suppression() {
        let values = [[0.0, 0.0, 10.0, 10.0, 0.6, 0.0], [0.0, 0.0, 10.0, 10.0, 0.9, 1.0]];
        let settings = DetectSettings { classes: Some(vec![0]), class_agnostic: true, ..DetectSettings::default() };
        let found = read(false, &values, &settings);
        assert_eq!(found.iter().map(|found| found.class_id).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn values_that_are_not_finite_never_become_detections() {
        for place in 0..5 {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
                let mut values = [10.0, 10.0, 20.0, 20.0, 0.9, 1.0];
                values[place] = value;
                for found in read(false, &[values], &DetectSettings::default()) {
                    let edges = [found.x_min, found.y_min, found.x_max, found.y_max, found.confidence];
                    assert!(edges.iter().all(|edge| edge.is_finite()), "{place} {value} {found:?}");
                }
            }
        }
    }

    #[test]
    fn scores_above_one_are_clamped() {
        let found = read(false, &[[10.0, 10.0, 20.0, 20.0, 1.8, 1.0]], &DetectSettings::default());
        assert_eq!(found[0].confidence, 1.0);
    }

    #[test]
    fn boxes_outside_the_frame_are_dropped() {
        assert!(read(false, &[[-50.0, -50.0, -46.0, -46.0, 0.9, 0.0]], &DetectSettings::default()).is_empty());
    }

    /// One box `[centre x, centre y, width, height, score, class, angle]`.
    #[derive(Debug)]
    struct OneRotated;

    impl OutputReader for OneRotated {
        fn accepts(&self, _: Outputs<'_>, _: (usize, usize)) -> bool {
            true
        }

        fn read(&self, outputs: Outputs<'_>, _: usize, _: (usize, usize), _: f32, scratch: &mut Scratch) {
            let [x, y, w, h, score, class, _] = outputs.views[0].values[..7] else { return };
            scratch.push([x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0], score, class as u32, 0);
        }

        fn extra_values(&self, outputs: Outputs<'_>, _: usize, _: (usize, usize), _: usize) -> Vec<f32> {
            outputs.views[0].values[6..].to_vec()
        }

        fn is_suppressed(&self) -> bool {
            true
        }

        fn collect(&self, _: Outputs<'_>, _: (usize, usize), _: &mut OutputStatistics) {}
    }

    #[test]
    fn rotated_boxes_at_edges_are_kept_if_they_reach_into_the_frame() {
        // Upright, the box lies left of the frame; rotated by 90 degrees, it reaches into it.
        let fit = Letterbox::new((64, 64), (64, 64), ResizeMode::Letterbox);
        let layout = OutputLayout::new("rotated", Arc::new(OneRotated));
        let read = |values: [f32; 7]| {
            let view = OutputView { shape: &[1, 1, 7], values: &values };
            let outputs = Outputs { views: &[view], images: 1 };
            Decoder::default().decode(&layout, Task::Obb, outputs, 0, &DetectSettings::default(), &fit)
        };
        let quarter = std::f32::consts::FRAC_PI_2;
        let found = read([-4.0, 32.0, 4.0, 20.0, 0.9, 1.0, quarter]);
        assert_eq!(found.len(), 1);
        assert!((found[0].x_max - 6.0).abs() < 1e-3 && found[0].x_min == 0.0, "{found:?}");
        assert!(read([-4.0, 32.0, 4.0, 20.0, 0.9, 1.0, 0.0]).is_empty());
    }
}
