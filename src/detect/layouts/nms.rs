// SPDX-License-Identifier: MIT OR Apache-2.0
//! Greedy non-maximum suppression.
//!
//! Pure functions over candidates; knows no tensors. Any thread.

use std::borrow::Borrow;
use std::cmp::Ordering;

/// A box before suppression, in pixels of the model's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// x1, y1, x2, y2.
    pub corners: [f32; 4],
    pub score: f32,
    pub class_id: u32,
    /// Index in the model's output; breaks ties.
    pub index: u32,
}

/// Most candidates that take part in suppression, the best ones. Ultralytics' `max_nms`.
pub(super) const MAX_CANDIDATES: usize = 30_000;

fn better_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(a.index.cmp(&b.index))
}

/// Sorts by falling score, the lower index first among equals, and keeps the best `limit`.
pub(crate) fn rank(candidates: &mut Vec<Candidate>, limit: usize) {
    if limit == 0 {
        candidates.clear();
    } else if candidates.len() > limit {
        candidates.select_nth_unstable_by(limit - 1, better_first);
        candidates.truncate(limit);
    }
    candidates.sort_unstable_by(better_first);
}

/// Keeps each candidate whose overlap with every better kept one is at most `iou_threshold`; up to `limit` of them.
///
/// Only candidates of the same class suppress each other, unless `class_agnostic`. `candidates` must be ranked, and may carry what
/// `overlap` needs; those that are suppressed are removed.
pub(crate) fn suppress<T: Borrow<Candidate> + Copy>(
    candidates: &mut Vec<T>,
    iou_threshold: f32,
    class_agnostic: bool,
    limit: usize,
    overlap: impl Fn(&T, &T) -> f32,
) {
    let mut kept = 0;
    for index in 0..candidates.len() {
        if kept == limit {
            break;
        }
        let candidate = candidates[index];
        let is_suppressed = candidates[..kept].iter().any(|better| {
            let is_same_class = better.borrow().class_id == candidate.borrow().class_id;
            (class_agnostic || is_same_class) && overlap(better, &candidate) > iou_threshold
        });
        if !is_suppressed {
            candidates[kept] = candidate;
            kept += 1;
        }
    }
    candidates.truncate(kept);
}

/// Returns the intersection over union of two boxes, 0 to 1.
pub(crate) fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let intersection = width * height;
    let union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection;
    (intersection / union.max(1e-12)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(index: u32, score: f32, class_id: u32, x: f32) -> Candidate {
        Candidate { corners: [x, 0.0, x + 10.0, 10.0], score, class_id, index }
    }

    fn kept(mut candidates: Vec<Candidate>, iou_threshold: f32, class_agnostic: bool, limit: usize) -> Vec<u32> {
        rank(&mut candidates, MAX_CANDIDATES);
        suppress(&mut candidates, iou_threshold, class_agnostic, limit, |a, b| iou(&a.corners, &b.corners));
        candidates.iter().map(|candidate| candidate.index).collect()
    }

    #[test]
    fn the_better_box_suppresses_the_worse_of_its_class() {
        let boxes = vec![
            candidate(0, 0.5, 1, 0.0),
            candidate(1, 0.9, 1, 1.0),
            candidate(2, 0.8, 2, 1.0),
            candidate(3, 0.4, 1, 40.0),
        ];
        assert_eq!(kept(boxes.clone(), 0.5, false, 300), [1, 2, 3]);
        assert_eq!(kept(boxes.clone(), 0.5, true, 300), [1, 3]);
        assert_eq!(kept(boxes.clone(), 1.0, true, 300), [1, 2, 0, 3]);
        assert_eq!(kept(boxes, 0.5, false, 2), [1, 2]);
    }

    #[test]
    fn ties_keep_the_lower_index() {
        let boxes = (0..50).rev().map(|index| candidate(index, 0.5, 0, 0.0)).collect();
        assert_eq!(kept(boxes, 0.5, false, 300), [0]);
        let apart = (0..5).rev().map(|index| candidate(index, 0.5, 0, index as f32 * 100.0)).collect();
        assert_eq!(kept(apart, 0.5, false, 300), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn overlap_equal_to_the_threshold_stays() {
        // Shifted by half a width: 50 / 150.
        assert_eq!(kept(vec![candidate(0, 0.9, 0, 0.0), candidate(1, 0.8, 0, 5.0)], 1.0 / 3.0, false, 9), [0, 1]);
    }

    #[test]
    fn degenerate_boxes_have_a_clamped_overlap() {
        let empty = [5.0, 5.0, 5.0, 5.0];
        assert_eq!(iou(&empty, &empty), 0.0);
        let reversed = [10.0, 10.0, 0.0, 0.0];
        assert!((0.0..=1.0).contains(&iou(&reversed, &[0.0, 0.0, 10.0, 10.0])));
        let huge = [-f32::MAX, -f32::MAX, f32::MAX, f32::MAX];
        suppress(
            &mut vec![candidate(0, 0.5, 0, 0.0), Candidate { corners: huge, ..candidate(1, 0.4, 0, 0.0) }],
            0.5,
            false,
            9,
            |a, b| iou(&a.corners, &b.corners),
        );
    }

    #[test]
    fn only_the_best_candidates_are_ranked() {
        let mut candidates: Vec<_> = (0..1000).map(|index| candidate(index, index as f32 / 1000.0, 0, 0.0)).collect();
        rank(&mut candidates, 10);
        assert_eq!(
            candidates.iter().map(|candidate| candidate.index).collect::<Vec<_>>(),
            (990..1000).rev().collect::<Vec<_>>()
        );
        rank(&mut candidates, 0);
        assert!(candidates.is_empty());
    }
}
