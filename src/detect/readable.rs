//! Whether outputs are still what the layout says: models with free shapes may change them from run to run.
//!
//! Pure functions.

use super::decode::Outputs;
use super::heads::DISTANCE_STRIDES;
use super::layout::{Distances, FlatForm, Layout, Scores, YOLOX_STRIDES, cell_count};
use super::task::Task;

/// Whether outputs of these shapes can be read as `layout` with `class_count` classes for a `width` by `height` input.
pub fn is_readable(
    (layout, task): (Layout, Task),
    class_count: Option<usize>,
    outputs: Outputs<'_>,
    (width, height): (usize, usize),
) -> bool {
    let Outputs { views, images } = outputs;
    let fits = |classes: usize| class_count.is_none_or(|count| count == classes);
    let extra = task.extra();
    let features = |count: usize, head: usize| count > head + extra && fits(count - head - extra);
    let part = |index: usize, rank: usize| -> Option<&[usize]> {
        let shape = views.get(index)?.shape;
        match shape.len().checked_sub(rank)? {
            0 if images == 1 => Some(shape),
            1 if shape[0] == images => Some(&shape[1..]),
            _ => None,
        }
    };
    let cells = |strides: &[usize]| -> usize {
        strides.iter().map(|stride| width.div_ceil(*stride) * height.div_ceil(*stride)).sum()
    };
    match layout {
        Layout::Classes => part(0, 1).is_some_and(|shape| fits(shape[0])),
        _ if matches!(task, Task::Segment { .. }) && part(1, 3).is_none_or(|shape| shape[0] != extra) => false,
        Layout::EndToEnd => part(0, 2).is_some_and(|shape| shape[1] == 6 + extra),
        Layout::V8 { .. } | Layout::V5 | Layout::Yolox => {
            let Some([rows, columns]) = part(0, 2) else { return false };
            match layout {
                _ if *rows == 0 || *columns == 0 => false,
                Layout::V8 { transposed: false } => features(*rows, 4),
                Layout::V8 { transposed: true } => features(*columns, 4),
                Layout::Yolox => features(*columns, 5) && *rows == cell_count(width, height, &YOLOX_STRIDES),
                _ => features(*columns, 5),
            }
        }
        Layout::Separate(form) => {
            let Some([boxes, 4]) = part(0, 2) else { return false };
            let of_boxes = |index: usize| part(index, 1).is_some_and(|shape| shape[0] == *boxes);
            let counted = || !form.counted || views.get(3).is_some_and(|count| count.values.len() == images);
            match form.scores {
                Scores::OfBoxes => of_boxes(1) && of_boxes(2) && counted(),
                kind => part(1, 2).is_some_and(|shape| {
                    let spare = usize::from(kind == Scores::Softmax);
                    shape[0] == *boxes && shape[1] > spare && fits(shape[1] - spare)
                }),
            }
        }
        Layout::Flat(form) => {
            let columns = if form == FlatForm::Paddle { 6 } else { 7 };
            let counted = || form != FlatForm::Paddle || views.get(1).is_some_and(|count| count.values.len() == images);
            views.first().is_some_and(|rows| matches!(rows.shape, [_, found] if *found == columns)) && counted()
        }
        Layout::Distances(Distances { class_count, bins, joined: true, .. }) => {
            part(0, 2).is_some_and(|shape| shape[0] == cells(&DISTANCE_STRIDES) && shape[1] == class_count + 4 * bins)
        }
        Layout::Distances(Distances { class_count, bins, joined: false, .. }) => {
            let levels = DISTANCE_STRIDES.len();
            DISTANCE_STRIDES.iter().enumerate().all(|(level, stride)| {
                part(level, 2).is_some_and(|shape| shape == [cells(&[*stride]), class_count])
                    && part(levels + level, 2).is_some_and(|shape| shape == [cells(&[*stride]), 4 * bins])
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::OutputView;
    use super::*;

    #[test]
    fn a_grid_that_is_not_the_inputs_is_not_readable() {
        for (rows, fits) in [(84, true), (85, false)] {
            let view = OutputView { shape: &[1, rows, 6], values: &vec![0.0; rows * 6] };
            let outputs = Outputs { views: &[view], images: 1 };
            assert_eq!(is_readable((Layout::Yolox, Task::Detect), Some(1), outputs, (64, 64)), fits);
        }
    }
}
