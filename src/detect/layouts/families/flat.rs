// SPDX-License-Identifier: MIT OR Apache-2.0
//! Final boxes of all images in one list `[D, 6 or 7]`: YOLOv7 with NMS (image, corners, class, score), YOLO-NAS (image, corners,
//! score, class), and exports for a single image (corners, score, class).

use super::Family;
use crate::detect::layouts::common::boxes::{BoxFormat, CoordinateUnit, MAX_CLASS_ID};
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::evidence::Evidence;
use crate::detect::layouts::{LayoutMatch, Recognition};

/// The columns of a row.
#[derive(Debug)]
struct FlatList {
    columns: usize,
    /// Column of the image number, if there is one.
    image: Option<usize>,
    /// First column of the corners.
    first: usize,
    score: usize,
    class: usize,
    unit: CoordinateUnit,
}

pub(super) const FAMILY: Family = Family::new(recognise);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let [output] = evidence.outputs.as_slice() else { return Recognition::NoMatch };
    let [_, columns @ (6 | 7)] = *output.shape else { return Recognition::NoMatch };
    let Some(values) = output.columns() else { return Recognition::NeedsTrialRun };
    let is_empty = output.values.is_none_or(<[f32]>::is_empty);
    let is_class_and_score = |class: usize, score: usize| {
        !is_empty && values[class].is_integer && values[score].is_probability() && !values[score].is_integer
    };
    let (name, image, first, score, class, reason) = match columns {
        7 if output.is_called(&["flat"]) || is_class_and_score(6, 5) => {
            ("flat-score-class", Some(0), 1, 5, 6, "rows of 7: image, corners, score, class, as YOLO-NAS exports")
        }
        7 => (
            "flat-class-score",
            Some(0),
            1,
            6,
            5,
            "rows of 7: image, corners, class, score, as YOLOv7 exports with NMS",
        ),
        // PaddleDetection without a count.
        _ if is_class_and_score(0, 1) || evidence.has_input("scale_factor") => return Recognition::NoMatch,
        _ => ("flat", None, 0, 4, 5, "rows of 6: corners, score, class"),
    };
    let unit = evidence.unit_of(&values[first..first + 4]);
    let reader = FlatList { columns, image, first, score, class, unit };
    let reason = format!("{reason}; {unit}");
    LayoutMatch::new(name, reader, vec![0], reason).classes(evidence.class_count()).into()
}

impl OutputReader for FlatList {
    fn accepts(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        let is_separable = self.image.is_some() || outputs.images == 1;
        is_separable
            && outputs.views.first().is_some_and(|rows| matches!(rows.shape, [_, columns] if *columns == self.columns))
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let scale = self.unit.scale(size);
        let rows = outputs.views[0].rows().enumerate();
        for (index, row) in rows.filter(|(_, row)| self.image.is_none_or(|column| row[column] == image as f32)) {
            if row[self.score] > threshold && (0.0..MAX_CLASS_ID).contains(&row[self.class]) {
                let corners = BoxFormat::Corners.corners(&row[self.first..], scale);
                scratch.push(corners, row[self.score], row[self.class] as u32, index);
            }
        }
    }

    fn is_suppressed(&self) -> bool {
        true
    }

    fn collect(&self, outputs: Outputs<'_>, _size: (usize, usize), statistics: &mut OutputStatistics) {
        statistics.is_in_pixels = self.unit == CoordinateUnit::Pixels;
        for row in outputs.views[0].rows() {
            if statistics.is_in_pixels {
                statistics.boxes(&row[self.first..self.first + 4]);
            }
            statistics.scores([&row[self.score]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::layouts::common::reader::testing::{read, view};

    #[test]
    fn absurd_class_ids_are_ignored() {
        let reader = FlatList { columns: 6, image: None, first: 0, score: 4, class: 5, unit: CoordinateUnit::Pixels };
        let rows: Vec<f32> = [3.0, MAX_CLASS_ID, -1.0, 1e30, f32::NAN]
            .iter()
            .flat_map(|class| [8.0, 8.0, 24.0, 24.0, 0.9, *class])
            .collect();
        let found = read(&reader, &[view(&[5, 6], &rows)], 0.5);
        assert_eq!(found.iter().map(|(class, ..)| *class).collect::<Vec<_>>(), [3]);
    }
}
