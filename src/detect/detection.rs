//! What counts as a detection, and what one is.
//!
//! Plain data, made by [`Decoder`](super::decode::Decoder).

use super::task::Details;

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
