// SPDX-License-Identifier: MIT OR Apache-2.0
//! The formats in which models give boxes and scores, and how they become corners in pixels of the input.
//!
//! Pure functions.

use std::fmt;

/// Order of the four numbers of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BoxFormat {
    /// x1, y1, x2, y2.
    Corners,
    /// y1, x1, y2, x2.
    CornersYFirst,
    /// Centre x, centre y, width, height.
    Centre,
}

/// Unit of a coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CoordinateUnit {
    /// Pixels of the model's input.
    Pixels,
    /// Fractions of the input's width and height, 0 to 1.
    Normalised,
}

/// Limit of class ids, which models return as floats; larger ones are ignored.
pub(crate) const MAX_CLASS_ID: f32 = 1e6;

/// Coordinates up to this are normalised: a little over 1 for boxes that extend beyond the edge.
pub(crate) const MAX_NORMALISED: f32 = 2.0;

/// Share of boxes whose corners a detector may return in the wrong order.
const MAX_REVERSED: f32 = 0.3;

impl CoordinateUnit {
    /// Returns the factors that convert x and y to pixels of a `width` by `height` input.
    pub fn scale(self, (width, height): (usize, usize)) -> [f32; 2] {
        match self {
            Self::Pixels => [1.0; 2],
            Self::Normalised => [width as f32, height as f32],
        }
    }

    /// Infers the unit of boxes from their largest coordinate.
    pub fn from_largest(largest: f32) -> Self {
        if largest > 0.0 && largest <= MAX_NORMALISED { Self::Normalised } else { Self::Pixels }
    }
}

impl fmt::Display for CoordinateUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pixels => "pixels",
            Self::Normalised => "normalised coordinates",
        })
    }
}

impl BoxFormat {
    /// Infers the format from the boxes of a trial run, the first four values of each row: a second corner never precedes the
    /// first one, but width and height are often smaller than the coordinates of the centre.
    pub fn infer<'a>(rows: impl Iterator<Item = &'a [f32]>) -> Self {
        let (mut count, mut reversed) = (0_usize, 0_usize);
        // Lists are padded with zeros.
        for row in rows.filter(|row| row[..4].iter().any(|value| *value != 0.0)) {
            count += 1;
            reversed += usize::from(row[2] < row[0] || row[3] < row[1]);
        }
        if reversed as f32 > MAX_REVERSED * count as f32 { Self::Centre } else { Self::Corners }
    }

    /// Returns x1, y1, x2, y2 in pixels of the input.
    #[inline]
    pub fn corners(self, values: &[f32], scale: [f32; 2]) -> [f32; 4] {
        let [a, b, c, d] = [values[0], values[1], values[2], values[3]];
        let corners = match self {
            Self::Corners => [a, b, c, d],
            Self::CornersYFirst => [b, a, d, c],
            Self::Centre => {
                return corners_from_centre(&[a * scale[0], b * scale[1], c * scale[0], d * scale[1]]);
            }
        };
        [corners[0] * scale[0], corners[1] * scale[1], corners[2] * scale[0], corners[3] * scale[1]]
    }
}

impl fmt::Display for BoxFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Corners => "corners",
            Self::CornersYFirst => "corners, y before x",
            Self::Centre => "centre and size",
        })
    }
}

/// Converts centre x, centre y, width, height to corners.
#[inline]
pub(crate) fn corners_from_centre(row: &[f32]) -> [f32; 4] {
    let (half_width, half_height) = (row[2] / 2.0, row[3] / 2.0);
    [row[0] - half_width, row[1] - half_height, row[0] + half_width, row[1] + half_height]
}

/// Returns index and value of the first of the greatest values; (0, -inf) if there are none.
#[inline]
pub(crate) fn best_of(values: &[f32]) -> (u32, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (index as u32, value);
        }
    }
    best
}

/// Returns 1 / (1 + e^-x).
#[inline]
pub(crate) fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_and_centres_differ_in_their_order() {
        let infer = |rows: &[[f32; 4]]| BoxFormat::infer(rows.iter().map(|row| &row[..]));
        assert_eq!(infer(&[[16.0, 8.0, 48.0, 40.0], [0.0; 4], [0.0; 4]]), BoxFormat::Corners);
        assert_eq!(infer(&[[0.5, 0.5, 0.1, 0.2], [0.2, 0.3, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]]), BoxFormat::Centre);
        assert_eq!(infer(&[[0.0; 4]]), BoxFormat::Corners);
    }
}
