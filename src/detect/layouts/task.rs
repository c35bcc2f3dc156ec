// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks other than plain detection: masks, keypoints, rotated boxes, and classification of whole pictures.
//!
//! Owns the decoding of the values that such models append to a box's class scores. Pure functions; formats as in Ultralytics'
//! exports (docs.ultralytics.com/tasks).

use crate::detect::detection::{Mask, Rotated};
use crate::detect::onnx::tensor::OutputView;
use crate::detect::pixels::letterbox::Letterbox;

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Task {
    /// Boxes only.
    #[default]
    Detect,
    /// Boxes with masks: weighted sums of prototypes `[1, coefficients, rows, columns]`, a second output.
    Segment {
        /// Number of prototypes.
        coefficients: usize,
    },
    /// Boxes with keypoints.
    Pose {
        /// Keypoints of an object.
        points: usize,
        /// Values of a keypoint: x and y, or x, y and confidence.
        values: usize,
    },
    /// Rotated boxes.
    Obb,
    /// Classes of the whole picture, without boxes.
    Classify,
}

impl Task {
    /// Returns the task without its parameters.
    pub(crate) fn name(self) -> TaskName {
        match self {
            Self::Detect => TaskName::Detect,
            Self::Segment { .. } => TaskName::Segment,
            Self::Pose { .. } => TaskName::Pose,
            Self::Obb => TaskName::Obb,
            Self::Classify => TaskName::Classify,
        }
    }

    /// Returns the number of values after the class scores of a box.
    pub(crate) fn extra_values(self) -> usize {
        match self {
            Self::Detect | Self::Classify => 0,
            Self::Segment { coefficients } => coefficients,
            Self::Pose { points, values } => points * values,
            Self::Obb => 1,
        }
    }

    /// Returns the number of values that follow x and y of each keypoint, for tasks with keypoints.
    pub(crate) fn values_after_point(self) -> Option<usize> {
        match self {
            Self::Pose { values, .. } => Some(values - 2),
            _ => None,
        }
    }

    /// Returns the number of mask prototypes, for tasks with masks.
    pub(crate) fn prototype_channels(self) -> Option<usize> {
        match self {
            Self::Segment { coefficients } => Some(coefficients),
            _ => None,
        }
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.name().fmt(f)
    }
}

/// A task without its parameters, as Ultralytics names it in metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskName {
    Detect,
    Segment,
    Pose,
    Obb,
    Classify,
}

impl TaskName {
    const ALL: [Self; 5] = [Self::Detect, Self::Segment, Self::Pose, Self::Obb, Self::Classify];

    /// Returns the task with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.to_string() == text)
    }
}

impl std::fmt::Display for TaskName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Detect => "detect",
            Self::Segment => "segment",
            Self::Pose => "pose",
            Self::Obb => "obb",
            Self::Classify => "classify",
        })
    }
}

/// Converts values of keypoints to keypoints in pixels of the frame. Without a finite place a keypoint is `[0, 0, 0]`, as in COCO those
/// without a label are.
pub(crate) fn keypoints(values: &[f32], values_per_point: usize, fit: &Letterbox) -> Vec<[f32; 3]> {
    let points = values.chunks_exact(values_per_point.max(2)).map(|point| {
        let [x, y, ..] = fit.to_frame([point[0], point[1], point[0], point[1]]);
        let confidence = point.get(2).copied().unwrap_or(1.0);
        let confidence = if confidence.is_finite() { confidence.clamp(0.0, 1.0) } else { 0.0 };
        if x.is_finite() && y.is_finite() { [x, y, confidence] } else { [0.0; 3] }
    });
    points.collect()
}

/// Converts a box in pixels of the model's input, rotated by `angle`, to pixels of the frame.
pub(crate) fn rotated([x, y, width, height]: [f32; 4], angle: f32, fit: &Letterbox) -> Rotated {
    let (across, down) = (1.0 / fit.scale.0 as f32, 1.0 / fit.scale.1 as f32);
    let moved = Rotated { x: x - fit.left as f32, y: y - fit.top as f32, width, height, angle };
    moved.scaled(across, down)
}

/// Returns the mask of a box with these corners in pixels of the model's input: the sigmoid of the weighted sum of prototypes
/// `[coefficients, rows, columns]`, at their resolution.
pub(crate) fn mask(
    coefficients: &[f32],
    prototypes: OutputView<'_>,
    corners: [f32; 4],
    canvas: (usize, usize),
) -> Option<Mask> {
    let [count, rows, columns] = *prototypes.shape else { return None };
    if count != coefficients.len() || rows == 0 || columns == 0 {
        return None;
    }
    let (across, down) = (columns as f32 / canvas.0 as f32, rows as f32 / canvas.1 as f32);
    let clamped = |value: f32, limit: usize| value.clamp(0.0, limit as f32);
    let (left, right) = (clamped(corners[0] * across, columns), clamped(corners[2] * across, columns));
    let (top, bottom) = (clamped(corners[1] * down, rows), clamped(corners[3] * down, rows));
    let (width, height) = (((right - left).round() as usize).max(1), ((bottom - top).round() as usize).max(1));
    let place = |index: usize, count: usize, from: f32, to: f32, limit: usize| {
        let at = from + (index as f32 + 0.5) / count as f32 * (to - from);
        (at as usize).min(limit - 1)
    };
    let mut values = Vec::with_capacity(width * height);
    for row in 0..height {
        let line = place(row, height, top, bottom, rows) * columns;
        for column in 0..width {
            let at = line + place(column, width, left, right, columns);
            let sum: f32 = coefficients
                .iter()
                .enumerate()
                .map(|(index, weight)| weight * prototypes.values[index * rows * columns + at])
                .sum();
            let probability = 1.0 / (1.0 + (-sum).exp());
            values.push((probability * 255.0) as u8);
        }
    }
    Some(Mask { width, height, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_sums_of_prototypes_over_the_box() {
        // Two prototypes of 2 x 4: the first is the left half, the second everything.
        let values = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        let prototypes = OutputView { shape: &[2, 2, 4], values: &values };
        let found = mask(&[20.0, -10.0], prototypes, [0.0, 0.0, 8.0, 4.0], (8, 4)).unwrap();
        assert_eq!((found.width, found.height), (4, 2));
        let inside: Vec<bool> = found.values.iter().map(|&value| value >= 128).collect();
        assert_eq!(inside, [true, true, false, false, true, true, false, false]);
        assert_eq!(mask(&[1.0], prototypes, [0.0; 4], (8, 4)), None);
        assert!(mask(&[1.0, 1.0], prototypes, [-9.0, 50.0, 60.0, -3.0], (8, 4)).is_some());
    }
}
