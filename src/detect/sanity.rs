//! Whether a model's outputs make sense, looked at on the first frames: what no working detector gives is a sign of a wrong
//! layout, a wrong scale of the input, or a broken export.
//!
//! Pure functions. Looking costs a pass over the outputs, so workers stop after [`FRAMES`].

use super::decode::Outputs;
use super::layout::{Layout, Scores};

/// How many runs of a session are looked at.
pub(super) const FRAMES: u32 = 8;

/// Boxes this many times the input away from it are nonsense.
const FAR: f32 = 20.0;

/// What is wrong with the outputs of a run for a `width` by `height` input, in words for the user.
pub(super) fn complaint(layout: Layout, outputs: Outputs<'_>, (width, height): (usize, usize)) -> Option<String> {
    let views = outputs.views;
    if views.iter().any(|view| view.values.iter().any(|value| value.is_nan())) {
        return Some("its outputs hold values that are not numbers (NaN)".to_owned());
    }
    let (boxes, scores) = parts(layout, outputs)?;
    let (least, most) =
        scores.fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), score| (least.min(score), most.max(score)));
    if most == 0.0 && least == 0.0 {
        return Some("all of its scores are 0".to_owned());
    }
    if least >= 1.0 {
        return Some("all of its scores are 1 or more".to_owned());
    }
    if most > 1.01 {
        return Some(format!("its scores reach {most:.2}, and none is above 1"));
    }
    let limit = FAR * width.max(height) as f32;
    let farthest = boxes.fold(0.0_f32, |farthest, value| farthest.max(value.abs()));
    (farthest > limit).then(|| format!("its boxes reach {farthest:.0} pixels, for an input of {width}x{height}"))
}

/// The values of boxes in pixels, and the scores in 0..1, where the layout has them as they are.
#[allow(clippy::type_complexity, reason = "two iterators, named by the docs")]
fn parts<'a>(
    layout: Layout,
    outputs: Outputs<'a>,
) -> Option<(Box<dyn Iterator<Item = f32> + 'a>, Box<dyn Iterator<Item = f32> + 'a>)> {
    let first = outputs.views.first()?;
    let columns = first.shape.last().copied().filter(|&columns| columns > 0)?;
    let rows = first.values.chunks_exact(columns);
    Some(match layout {
        Layout::V8 { transposed: false } => {
            let features = first.shape.get(1).copied().filter(|&features| features > 4)?;
            let is_box = move |row: usize| row % features < 4;
            let boxes = rows.clone().enumerate().filter(move |(row, _)| is_box(*row));
            let scores = rows.enumerate().filter(move |(row, _)| !is_box(*row));
            (Box::new(boxes.flat_map(|(_, row)| row).copied()), Box::new(scores.flat_map(|(_, row)| row).copied()))
        }
        Layout::V8 { transposed: true } | Layout::V5 => (
            Box::new(rows.clone().flat_map(|row| &row[..4]).copied()),
            Box::new(rows.flat_map(|row| &row[4..]).copied()),
        ),
        Layout::EndToEnd => {
            (Box::new(rows.clone().flat_map(|row| &row[..4]).copied()), Box::new(rows.map(|row| row[4])))
        }
        // Its boxes are not yet in pixels.
        Layout::Yolox => (Box::new(std::iter::empty()), Box::new(rows.flat_map(|row| &row[4..]).copied())),
        Layout::Separate(form) if matches!(form.scores, Scores::OfClasses) => {
            (Box::new(first.values.iter().copied()), Box::new(outputs.views.get(1)?.values.iter().copied()))
        }
        // Lists of finished boxes may be empty or padded with zeros; the others' values are not yet scores and pixels.
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::decode::OutputView;
    use super::*;

    #[test]
    fn scores_above_one_are_complained_of() {
        // Cells of 6 numbers: box, objectness, one class.
        let cell = |objectness, class| [0.1, 0.2, 0.3, 0.4, objectness, class];
        let of = |cells: &[[f32; 6]]| {
            let values: Vec<f32> = cells.iter().flatten().copied().collect();
            let view = OutputView { shape: &[1, cells.len(), 6], values: &values };
            complaint(Layout::Yolox, Outputs { views: &[view], images: 1 }, (64, 64))
        };
        assert_eq!(of(&[cell(0.0, 0.5), cell(1.0, 0.0)]), None);
        assert!(of(&[cell(0.0, 0.5), cell(12.0, 0.0)]).is_some_and(|text| text.contains("12.00")));
    }
}
