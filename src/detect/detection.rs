//! What counts as a detection, and what one is.
//!
//! Plain data.

/// What counts as a detection.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectSettings {
    /// Confidence above which a box counts, 0 to 1; equal does not count.
    pub confidence_threshold: f32,
    /// Overlap (intersection over union) above which the worse of two boxes goes, 0 to 1.
    pub iou_threshold: f32,
    /// Most detections for each frame.
    pub max_detections: usize,
    /// Only these classes; all of them if `None`.
    pub classes: Option<Vec<usize>>,
    /// Whether boxes of different classes suppress each other.
    pub class_agnostic: bool,
}

impl Default for DetectSettings {
    fn default() -> Self {
        Self {
            confidence_threshold: 0.25,
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
    /// Index among the model's classes.
    pub class_id: usize,
    /// 0 to 1, as the model gives it.
    pub confidence: f32,
    /// Left edge in pixels of the frame, 0 to its width.
    pub x_min: f32,
    /// Top edge in pixels of the frame, 0 to its height.
    pub y_min: f32,
    /// Right edge in pixels of the frame, over `x_min`.
    pub x_max: f32,
    /// Bottom edge in pixels of the frame, over `y_min`.
    pub y_max: f32,
    /// What models with other tasks than detection tell of it.
    pub details: Details,
}

impl Detection {
    /// The same with everything moved by this many pixels: found in a part of a frame, told of the whole.
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
        if let Some(turned) = &mut self.details.rotated {
            turned.x += right;
            turned.y += down;
        }
        self
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
    pub(crate) fn bounds(self) -> [f32; 4] {
        let corners = self.corners();
        let least = |axis: usize| corners.iter().map(|corner| corner[axis]).fold(f32::INFINITY, f32::min);
        let most = |axis: usize| corners.iter().map(|corner| corner[axis]).fold(f32::NEG_INFINITY, f32::max);
        [least(0), least(1), most(0), most(1)]
    }

    /// How alike two turned boxes are, 0 to 1: one less the Hellinger distance of the two as Gaussian distributions
    /// (Murrugarra-Llerena et al., "Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object Detection",
    /// 2021), which is what Ultralytics suppresses by.
    pub(crate) fn likeness(self, other: Self) -> f32 {
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
}
