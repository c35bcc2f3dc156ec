// SPDX-License-Identifier: MIT OR Apache-2.0
//! YOLOv5, v6, v7, and YOLOX decoded in its graph: `[1, cells, 5 + C]`. Centre x, centre y, width, height, objectness, then class
//! probabilities. YOLOv6 has no objectness: it writes 1 in its place.

use super::{Family, ModelLayout};
use crate::detect::layouts::common::boxes::BoxFormat;
use crate::detect::layouts::common::rows::{RowScore, Rows};
use crate::detect::layouts::evidence::{BoxOutput, Evidence, Output, ValueRange};
use crate::detect::layouts::preparation::Preparation;
use crate::detect::layouts::{LayoutMatch, Recognition};

/// Objectness below this counts as low.
const LOW: f32 = 0.05;

/// Mean class probability of rows with low objectness above which the classes are conditional on an object.
const CONDITIONAL: f32 = 0.1;

pub(super) const FAMILY: Family = Family::new(recognise).selected_by(&[ModelLayout::V5]);

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    let Some(main) = evidence.box_output() else { return Recognition::NoMatch };
    let BoxOutput { rows, columns, .. } = main;
    let is_selected = evidence.is_selected();
    if columns < 6 {
        return Recognition::NoMatch;
    }
    let Ok(extra) = evidence.extra_values(columns, 5) else { return Recognition::NoMatch };
    let extra_count = extra.task.extra_values();
    if columns <= 5 + extra_count {
        return Recognition::NoMatch;
    }
    let is_named = evidence.class_count().is_some_and(|classes| columns == classes + 5 + extra_count);
    let fits_v8 = evidence.class_count().is_some_and(|classes| columns == classes + 4 + extra_count);
    if !is_selected && !is_named && (fits_v8 || rows <= columns) {
        return Recognition::NoMatch;
    }
    let output = &evidence.outputs[main.index];
    let Some(values) = output.columns() else { return Recognition::NeedsTrialRun };
    let cells = evidence.cells();
    let is_anchor_free = rows == cells;
    let has_one = values[4].is_one();
    // Transposed YOLOv8 also has one row for each cell, with one value fewer.
    if is_anchor_free && !is_selected && !is_named && !has_one && !has_objectness(output, &values) {
        return Recognition::NoMatch;
    }
    let why = match evidence.class_count() {
        _ if is_selected => "as selected".to_owned(),
        Some(classes) if is_named => format!("its metadata names {classes} classes"),
        _ if has_one => "objectness is always 1, as in YOLOv6".to_owned(),
        _ if rows == 3 * cells => "three rows for each cell".to_owned(),
        _ => "more rows than columns".to_owned(),
    };
    let unit = evidence.unit_of(&values[..4]);
    let classes = columns - 5 - extra_count;
    let reason = format!(
        "[1, {rows}, {columns}] is 4 box values in {unit}, objectness and {classes} classes for each of {rows} cells: {why}"
    );
    let reader = Rows {
        extra: 5 + classes..columns,
        points: extra.task.values_after_point(),
        prototypes: extra.task.prototype_channels(),
        ..Rows::new(columns, BoxFormat::Centre, unit, RowScore::Objectness { at: 4, first: 5, count: classes })
    };
    let matched = LayoutMatch::new("v5", reader, extra.outputs(main), reason).classes(classes).task(extra.task);
    if is_anchor_free && !has_one && !is_selected {
        return matched.prepared([Preparation::YOLOX, Preparation::YOLO]).into();
    }
    matched.into()
}

/// Whether the fifth value is an objectness rather than the probability of a class: class probabilities are conditional on it, so
/// that there are boxes of low objectness with high class probabilities. 80 classes are COCO's.
fn has_objectness(output: &Output<'_>, values: &[ValueRange]) -> bool {
    match values.len() {
        85 => return true,
        84 => return false,
        _ => {}
    }
    let rows = output.values.unwrap_or_default().chunks_exact(values.len());
    let low = rows.filter(|row| row[4] < LOW).map(|row| row[5..].iter().copied().fold(0.0, f32::max));
    let (count, sum) = low.fold((0_u32, 0.0), |(count, sum), best| (count + 1, sum + best));
    count > 0 && sum / count as f32 > CONDITIONAL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::layouts::common::boxes::CoordinateUnit;
    use crate::detect::layouts::common::reader::testing::{read, view};

    #[test]
    fn objectness_and_class_are_multiplied() {
        let values = [10.0, 10.0, 4.0, 4.0, 0.5, 0.2, 0.8, 40.0, 40.0, 8.0, 8.0, 0.5, 0.4, 0.1];
        let score = RowScore::Objectness { at: 4, first: 5, count: 2 };
        let reader = Rows::new(7, BoxFormat::Centre, CoordinateUnit::Pixels, score);
        assert_eq!(read(&reader, &[view(&[1, 2, 7], &values)], 0.3), [(1, 0.4, [8.0, 8.0, 12.0, 12.0])]);
    }
}
