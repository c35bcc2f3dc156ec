//! What a model does beside finding boxes: masks, keypoints, rotated boxes, or naming whole pictures.
//!
//! Owns the readers of what such models put behind a box's class scores. Pure functions; layouts as Ultralytics exports
//! them (docs.ultralytics.com/tasks).

use super::decode::OutputView;
use super::letterbox::Letterbox;

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Task {
    /// Boxes alone.
    #[default]
    Detect,
    /// Boxes with masks: a sum of prototypes `[1, coefficients, rows, columns]`, a second output.
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
    /// Boxes that are turned.
    Obb,
    /// Names for the whole picture, without boxes.
    Classify,
}

impl Task {
    /// Values of a box behind its class scores.
    pub(super) fn extra(self) -> usize {
        match self {
            Self::Detect | Self::Classify => 0,
            Self::Segment { coefficients } => coefficients,
            Self::Pose { points, values } => points * values,
            Self::Obb => 1,
        }
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Detect => "detect",
            Self::Segment { .. } => "segment",
            Self::Pose { .. } => "pose",
            Self::Obb => "obb",
            Self::Classify => "classify",
        })
    }
}

/// What an object has beside its box.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Details {
    /// Keypoints: x and y in pixels of the frame, confidence 0 to 1.
    pub keypoints: Vec<[f32; 3]>,
    /// The box as it is turned.
    pub rotated: Option<Rotated>,
    /// Which part of the box the object is.
    pub mask: Option<Mask>,
}

/// A turned box in pixels of the frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotated {
    /// Centre.
    pub x: f32,
    /// Centre.
    pub y: f32,
    /// Length of the side that `angle` is that of.
    pub width: f32,
    /// Length of the other side.
    pub height: f32,
    /// In radians, clockwise from the x axis.
    pub angle: f32,
}

/// A grid over a box, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 0 to 255: how sure it is that this part belongs to the object; from 128 on it does.
    pub values: Vec<u8>,
}

impl Rotated {
    /// The four corners.
    #[must_use]
    pub fn corners(self) -> [[f32; 2]; 4] {
        let (sin, cos) = self.angle.sin_cos();
        let across = [self.width / 2.0 * cos, self.width / 2.0 * sin];
        let down = [-self.height / 2.0 * sin, self.height / 2.0 * cos];
        [[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]]
            .map(|[a, b]| [self.x + a * across[0] + b * down[0], self.y + a * across[1] + b * down[1]])
    }

    /// The box in a picture that is scaled by these factors. Under unequal ones its sides are scaled as they lie and its angle is
    /// that of the first: exact for upright boxes, near for others, which no longer have right angles.
    #[must_use]
    pub fn scaled(self, across: f32, down: f32) -> Self {
        let (sin, cos) = self.angle.sin_cos();
        let is_even = (across - down).abs() <= f32::EPSILON * across;
        Self {
            x: self.x * across,
            y: self.y * down,
            width: self.width * (cos * across).hypot(sin * down),
            height: self.height * (sin * across).hypot(cos * down),
            angle: if is_even { self.angle } else { (sin * down).atan2(cos * across) },
        }
    }

    /// The upright box around it: x1, y1, x2, y2.
    pub(super) fn bounds(self) -> [f32; 4] {
        let corners = self.corners();
        let least = |axis: usize| corners.iter().map(|corner| corner[axis]).fold(f32::INFINITY, f32::min);
        let most = |axis: usize| corners.iter().map(|corner| corner[axis]).fold(f32::NEG_INFINITY, f32::max);
        [least(0), least(1), most(0), most(1)]
    }

    /// How alike two turned boxes are, 0 to 1: one less the Hellinger distance of the two as Gaussian distributions
    /// (Murrugarra-Llerena et al., "Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object Detection",
    /// 2021), which is what Ultralytics suppresses by.
    pub(super) fn likeness(self, other: Self) -> f32 {
        const LEAST: f32 = 1e-7;
        let covariance = |this: Self| {
            let (a, b) = (this.width * this.width / 12.0, this.height * this.height / 12.0);
            let (sin, cos) = this.angle.sin_cos();
            (a * cos * cos + b * sin * sin, a * sin * sin + b * cos * cos, (a - b) * cos * sin)
        };
        let ((a1, b1, c1), (a2, b2, c2)) = (covariance(self), covariance(other));
        let (a, b, c) = (a1 + a2, b1 + b2, c1 + c2);
        let (dx, dy) = (self.x - other.x, self.y - other.y);
        let determinant = a * b - c * c;
        let first = (a * dy * dy + b * dx * dx) / (determinant + LEAST) / 4.0;
        let second = -c * dx * dy / (determinant + LEAST) / 2.0;
        let apart = ((a1 * b1 - c1 * c1).max(0.0) * (a2 * b2 - c2 * c2).max(0.0)).sqrt();
        let third = (determinant / (4.0 * apart + LEAST) + LEAST).ln() / 2.0;
        let distance = (first + second + third).clamp(LEAST, 100.0);
        1.0 - (1.0 - (-distance).exp() + LEAST).sqrt()
    }
}

/// Keypoints out of their values, in pixels of the frame.
pub(super) fn keypoints(values: &[f32], of_point: usize, fit: &Letterbox) -> Vec<[f32; 3]> {
    let points = values.chunks_exact(of_point.max(2)).map(|point| {
        let [x, y, ..] = fit.to_frame([point[0], point[1], point[0], point[1]]);
        let confidence = point.get(2).copied().unwrap_or(1.0);
        [x, y, if confidence.is_finite() { confidence.clamp(0.0, 1.0) } else { 0.0 }]
    });
    points.collect()
}

/// A box in pixels of the model's input, turned by `angle`, in pixels of the frame.
pub(super) fn rotated([x, y, width, height]: [f32; 4], angle: f32, fit: &Letterbox) -> Rotated {
    let (across, down) = (1.0 / fit.scale.0 as f32, 1.0 / fit.scale.1 as f32);
    let moved = Rotated { x: x - fit.left as f32, y: y - fit.top as f32, width, height, angle };
    moved.scaled(across, down)
}

/// The mask of a box with these corners in pixels of the model's input: the sum of prototypes `[coefficients, rows, columns]`
/// at the resolution that they have there, through a sigmoid.
pub(super) fn mask(
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
                .map(|(index, share)| share * prototypes.values[index * rows * columns + at])
                .sum();
            let share = 1.0 / (1.0 + (-sum).exp());
            values.push((share * 255.0) as u8);
        }
    }
    Some(Mask { width, height, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turned_boxes_have_their_corners_and_likeness() {
        let upright = Rotated { x: 10.0, y: 20.0, width: 8.0, height: 4.0, angle: 0.0 };
        assert_eq!(upright.bounds(), [6.0, 18.0, 14.0, 22.0]);
        let quarter = Rotated { angle: std::f32::consts::FRAC_PI_2, ..upright };
        let close = quarter.bounds().iter().zip([8.0, 16.0, 12.0, 24.0]).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(close, "{:?}", quarter.bounds());
        assert!(upright.likeness(upright) > 0.99);
        let far = Rotated { x: 100.0, ..upright };
        assert!(upright.likeness(far) < 0.01);
        let like_quarter = upright.likeness(quarter);
        assert!((0.3..0.95).contains(&like_quarter), "{like_quarter}");
    }

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
