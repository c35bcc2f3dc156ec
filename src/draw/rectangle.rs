// SPDX-License-Identifier: MIT OR Apache-2.0
//! Upright rectangles.

/// An upright rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rectangle {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl From<[f64; 4]> for Rectangle {
    /// Converts left, top, width and height.
    fn from([left, top, width, height]: [f64; 4]) -> Self {
        Self { left, top, right: left + width, bottom: top + height }
    }
}

impl Rectangle {
    /// Returns the part inside a picture; a coordinate that is not a number becomes 0.
    pub fn clipped(self, width: f64, height: f64) -> Self {
        let within = |value: f64, limit: f64| if value.is_nan() { 0.0 } else { value.clamp(0.0, limit) };
        Self {
            left: within(self.left, width),
            top: within(self.top, height),
            right: within(self.right, width),
            bottom: within(self.bottom, height),
        }
    }

    /// Returns the area that it shares with `other`, in pixels.
    pub fn overlap(&self, other: &Self) -> f64 {
        let across = self.right.min(other.right) - self.left.max(other.left);
        let down = self.bottom.min(other.bottom) - self.top.max(other.top);
        across.max(0.0) * down.max(0.0)
    }
}
