//! Finished boxes of all images in one list `[D, 6 or 7]`: YOLOv7 with NMS (image, corners, class, score), YOLO-NAS (image, corners,
//! score, class), and exports with a list for one image (corners, score, class).

use super::boxes::{BoxForm, MAX_CLASS_ID, Unit};
use super::evidence::Evidence;
use super::reader::{Reader, Scratch, Survey};
use super::{Claim, Verdict};
use crate::detect::layouts::decoder::Outputs;

/// Columns of a row.
#[derive(Debug)]
struct Flat {
    columns: usize,
    /// The number of the image, where there is one.
    image: Option<usize>,
    /// The first corner.
    first: usize,
    score: usize,
    class: usize,
    unit: Unit,
}

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let [output] = evidence.outputs.as_slice() else { return Verdict::No };
    let [_, columns @ (6 | 7)] = *output.shape else { return Verdict::No };
    if evidence.forced.is_some() {
        return Verdict::No;
    }
    let Some(values) = output.columns() else { return Verdict::NeedsTrial };
    let is_empty = output.values.is_none_or(<[f32]>::is_empty);
    let swaps = |class: usize, score: usize| {
        !is_empty && values[class].is_whole && values[score].is_share() && !values[score].is_whole
    };
    let (name, image, first, score, class, reason) = match columns {
        7 if output.is_called(&["flat"]) || swaps(6, 5) => {
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
        // PaddleDetection without its count.
        _ if swaps(0, 1) || evidence.has_input("scale_factor") => return Verdict::No,
        _ => ("flat", None, 0, 4, 5, "rows of 6: corners, score, class"),
    };
    let unit = evidence.unit_of(&values[first..first + 4]);
    let reader = Flat { columns, image, first, score, class, unit };
    let reason = format!("{reason}; {}", unit.words());
    Claim::new(name, reader, vec![0], reason).classes(evidence.class_count()).into()
}

impl Reader for Flat {
    fn is_readable(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        outputs.views.first().is_some_and(|rows| matches!(rows.shape, [_, columns] if *columns == self.columns))
    }

    fn read(&self, outputs: Outputs<'_>, image: usize, size: (usize, usize), threshold: f32, scratch: &mut Scratch) {
        let scale = self.unit.scale(size);
        let rows = outputs.views[0].rows().enumerate();
        for (index, row) in rows.filter(|(_, row)| self.image.is_none_or(|column| row[column] == image as f32)) {
            if row[self.score] > threshold && (0.0..MAX_CLASS_ID).contains(&row[self.class]) {
                let corners = BoxForm::Corners.corners(&row[self.first..], scale);
                scratch.push(corners, row[self.score], row[self.class] as u32, index);
            }
        }
    }

    fn is_finished(&self) -> bool {
        true
    }

    fn survey(&self, outputs: Outputs<'_>, _size: (usize, usize), survey: &mut Survey) {
        survey.is_in_pixels = self.unit == Unit::Pixels;
        for row in outputs.views[0].rows() {
            if survey.is_in_pixels {
                survey.boxes(&row[self.first..self.first + 4]);
            }
            survey.scores([&row[self.score]]);
        }
    }
}
