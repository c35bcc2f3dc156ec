//! The forms in which models give boxes and scores, and how they become corners in pixels of the input.
//!
//! Building blocks shared by the families. Pure functions.

/// Order of the four numbers of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BoxForm {
    /// x1, y1, x2, y2.
    Corners,
    /// y1, x1, y2, x2.
    CornersYFirst,
    /// Centre x, centre y, width, height.
    Centre,
}

/// What a coordinate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Pixels of the model's input.
    Pixels,
    /// Shares of the model's input, 0 to 1.
    Shares,
}

/// Class ids that come as floats; beyond this they are nonsense.
pub(super) const MAX_CLASS_ID: f32 = 1e6;

/// Coordinates up to this are shares: a little over 1 for boxes that reach over the edge.
pub(super) const LARGEST_SHARE: f32 = 2.0;

/// Share of boxes that a detector may give the wrong way round.
const MOST_ODD: f32 = 0.3;

impl Unit {
    /// What x and y are multiplied by for a `width` by `height` input.
    pub fn scale(self, (width, height): (usize, usize)) -> [f32; 2] {
        match self {
            Self::Pixels => [1.0; 2],
            Self::Shares => [width as f32, height as f32],
        }
    }

    /// The unit of boxes whose largest coordinate is this.
    pub fn of(largest: f32) -> Self {
        if largest > 0.0 && largest <= LARGEST_SHARE { Self::Shares } else { Self::Pixels }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Pixels => "pixels",
            Self::Shares => "shares of the input",
        }
    }
}

impl BoxForm {
    /// Whether boxes of a trial run, of which each row begins with four numbers, are corners or centre and size: a second corner
    /// is never before the first, but sizes are often below the place of the centre.
    pub fn of<'a>(rows: impl Iterator<Item = &'a [f32]>) -> Self {
        let (mut count, mut before) = (0_usize, 0_usize);
        // Lists are padded with zeros.
        for row in rows.filter(|row| row[..4].iter().any(|value| *value != 0.0)) {
            count += 1;
            before += usize::from(row[2] < row[0] || row[3] < row[1]);
        }
        if before as f32 > MOST_ODD * count as f32 { Self::Centre } else { Self::Corners }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Corners => "corners",
            Self::CornersYFirst => "corners, y before x",
            Self::Centre => "centre and size",
        }
    }

    /// x1, y1, x2, y2 in pixels of the input.
    #[inline]
    pub fn corners(self, values: &[f32], scale: [f32; 2]) -> [f32; 4] {
        let [a, b, c, d] = [values[0], values[1], values[2], values[3]];
        let corners = match self {
            Self::Corners => [a, b, c, d],
            Self::CornersYFirst => [b, a, d, c],
            Self::Centre => return centred(&[a * scale[0], b * scale[1], c * scale[0], d * scale[1]]),
        };
        [corners[0] * scale[0], corners[1] * scale[1], corners[2] * scale[0], corners[3] * scale[1]]
    }
}

/// Corners from centre x, centre y, width, height.
#[inline]
pub(super) fn centred(row: &[f32]) -> [f32; 4] {
    let (half_width, half_height) = (row[2] / 2.0, row[3] / 2.0);
    [row[0] - half_width, row[1] - half_height, row[0] + half_width, row[1] + half_height]
}

/// The first of the greatest values; (0, -inf) where there is none.
#[inline]
pub(super) fn best_of(values: &[f32]) -> (u32, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (index as u32, value);
        }
    }
    best
}

/// 1 / (1 + e^-x).
#[inline]
pub(super) fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

/// Cells of a detector with one prediction for each position of these strides.
pub(super) fn cell_count((width, height): (usize, usize), strides: &[usize]) -> usize {
    strides.iter().map(|stride| (width / stride) * (height / stride)).sum()
}

/// The same with grids rounded up: a cell that is not whole still sees something.
pub(super) fn cell_count_up((width, height): (usize, usize), strides: &[usize]) -> usize {
    strides.iter().map(|stride| width.div_ceil(*stride) * height.div_ceil(*stride)).sum()
}

/// Strides of the three levels of most detectors, in the order in which their cells are listed.
pub(super) const STRIDES: [usize; 3] = [8, 16, 32];
/// With the fourth level of larger variants (P6), NanoDet-Plus and PicoDet.
pub(super) const FOUR_STRIDES: [usize; 4] = [8, 16, 32, 64];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_and_centres_differ_in_their_order() {
        let of = |rows: &[[f32; 4]]| BoxForm::of(rows.iter().map(|row| &row[..]));
        assert_eq!(of(&[[16.0, 8.0, 48.0, 40.0], [0.0; 4], [0.0; 4]]), BoxForm::Corners);
        assert_eq!(of(&[[0.5, 0.5, 0.1, 0.2], [0.2, 0.3, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]]), BoxForm::Centre);
        assert_eq!(of(&[[0.0; 4]]), BoxForm::Corners);
    }
}
