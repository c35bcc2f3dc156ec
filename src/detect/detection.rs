// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detections, and the settings that decide which boxes count as one.
//!
//! Plain data.

/// The confidence above which boxes count, where neither the user nor the model says.
pub const DEFAULT_CONFIDENCE: f32 = 0.25;

/// What counts as a detection.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectSettings {
    /// Boxes with a confidence above this count, 0 to 1. By default [`DEFAULT_CONFIDENCE`].
    pub confidence_threshold: f32,
    /// Overlap (intersection over union) above which the worse of two boxes is suppressed, 0 to 1.
    pub iou_threshold: f32,
    /// Most detections in a frame.
    pub max_detections: usize,
    /// Only these classes; all classes if `None`.
    pub classes: Option<Vec<usize>>,
    /// Whether boxes of different classes suppress each other.
    pub class_agnostic: bool,
}

impl Default for DetectSettings {
    fn default() -> Self {
        Self {
            confidence_threshold: DEFAULT_CONFIDENCE,
            iou_threshold: 0.7,
            max_detections: 300,
            classes: None,
            class_agnostic: false,
        }
    }
}

/// One object in a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Index of the class.
    pub class_id: usize,
    /// 0 to 1, as the model returns it.
    pub confidence: f32,
    /// Left edge in pixels of the frame, 0 to its width.
    pub x_min: f32,
    /// Top edge in pixels of the frame, 0 to its height.
    pub y_min: f32,
    /// Right edge in pixels of the frame, greater than `x_min`.
    pub x_max: f32,
    /// Bottom edge in pixels of the frame, greater than `y_min`.
    pub y_max: f32,
    /// What models for other tasks than plain detection add.
    pub details: Details,
}

impl Detection {
    /// Returns the detection moved by this many pixels, to convert from a part of a frame to the whole frame.
    #[must_use]
    pub fn moved(mut self, [right, down]: [f32; 2]) -> Self {
        self.x_min += right;
        self.x_max += right;
        self.y_min += down;
        self.y_max += down;
        for point in &mut self.details.keypoints {
            point[0] += right;
            point[1] += down;
        }
        if let Some(rotated) = &mut self.details.rotated {
            rotated.x += right;
            rotated.y += down;
        }
        self
    }
}

/// What describes an object in addition to its box.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Details {
    /// Keypoints: x and y in pixels of the frame, confidence 0 to 1.
    pub keypoints: Vec<[f32; 3]>,
    /// The rotated box.
    pub rotated: Option<Rotated>,
    /// The part of the box that belongs to the object.
    pub mask: Option<Mask>,
}

/// A rotated box in pixels of the frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotated {
    /// X coordinate of the centre.
    pub x: f32,
    /// Y coordinate of the centre.
    pub y: f32,
    /// Length of the side in the direction of `angle`.
    pub width: f32,
    /// Length of the other side.
    pub height: f32,
    /// Angle in radians, clockwise from the x axis.
    pub angle: f32,
}

/// A grid over a box, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Probability that this part belongs to the object, 0 to 255; from 128 on it does.
    pub values: Vec<u8>,
}

impl Rotated {
    /// Returns the four corners.
    #[must_use]
    pub fn corners(self) -> [[f32; 2]; 4] {
        let (sin, cos) = self.angle.sin_cos();
        let across = [self.width / 2.0 * cos, self.width / 2.0 * sin];
        let down = [-self.height / 2.0 * sin, self.height / 2.0 * cos];
        [[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]]
            .map(|[a, b]| [self.x + a * across[0] + b * down[0], self.y + a * across[1] + b * down[1]])
    }

    /// Returns the box in a picture that is scaled by these factors. If they differ, each side is scaled along its direction, and
    /// the angle is that of the first side: exact for upright boxes, an approximation for others, which lose their right angles.
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

    /// Returns the upright bounding box: x1, y1, x2, y2.
    pub(crate) fn bounds(self) -> [f32; 4] {
        let corners = self.corners();
        let min = |axis: usize| corners.iter().map(|corner| corner[axis]).fold(f32::INFINITY, f32::min);
        let max = |axis: usize| corners.iter().map(|corner| corner[axis]).fold(f32::NEG_INFINITY, f32::max);
        [min(0), min(1), max(0), max(1)]
    }

    /// Returns the probabilistic intersection over union of two rotated boxes, 0 to 1: one minus the Hellinger distance of the
    /// two as Gaussian distributions (Murrugarra-Llerena et al., "Gaussian Bounding Boxes and Probabilistic
    /// Intersection-over-Union for Object Detection", 2021). Ultralytics suppresses rotated boxes by it.
    pub(crate) fn probabilistic_iou(self, other: Self) -> f32 {
        const EPSILON: f32 = 1e-7;
        let covariance = |this: Self| {
            let (a, b) = (this.width * this.width / 12.0, this.height * this.height / 12.0);
            let (sin, cos) = this.angle.sin_cos();
            (a * cos * cos + b * sin * sin, a * sin * sin + b * cos * cos, (a - b) * cos * sin)
        };
        let ((a1, b1, c1), (a2, b2, c2)) = (covariance(self), covariance(other));
        let (a, b, c) = (a1 + a2, b1 + b2, c1 + c2);
        let (dx, dy) = (self.x - other.x, self.y - other.y);
        let determinant = a * b - c * c;
        let first = (a * dy * dy + b * dx * dx) / (determinant + EPSILON) / 4.0;
        let second = -c * dx * dy / (determinant + EPSILON) / 2.0;
        let separate = ((a1 * b1 - c1 * c1).max(0.0) * (a2 * b2 - c2 * c2).max(0.0)).sqrt();
        let third = (determinant / (4.0 * separate + EPSILON) + EPSILON).ln() / 2.0;
        let distance = (first + second + third).clamp(EPSILON, 100.0);
        1.0 - (1.0 - (-distance).exp() + EPSILON).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_boxes_have_corners_and_a_probabilistic_iou() {
        let upright = Rotated { x: 10.0, y: 20.0, width: 8.0, height: 4.0, angle: 0.0 };
        assert_eq!(upright.bounds(), [6.0, 18.0, 14.0, 22.0]);
        let quarter = Rotated { angle: std::f32::consts::FRAC_PI_2, ..upright };
        let close = quarter.bounds().iter().zip([8.0, 16.0, 12.0, 24.0]).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(close, "{:?}", quarter.bounds());
        assert!(upright.probabilistic_iou(upright) > 0.99);
        let far = Rotated { x: 100.0, ..upright };
        assert!(upright.probabilistic_iou(far) < 0.01);
        let like_quarter = upright.probabilistic_iou(quarter);
        assert!((0.3..0.95).contains(&like_quarter), "{like_quarter}");
    }
}
