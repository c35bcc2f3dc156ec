//! YOLOv5, v6, v7, and YOLOX decoded in its graph: `[1, cells, 5 + C]`. Centre x, centre y, width, height, objectness, then class
//! probabilities. YOLOv6 has no objectness: it writes 1 in its place.

use super::boxes::BoxForm;
use super::evidence::{Column, Evidence, Main, Output};
use super::preparation::Preparation;
use super::rows::{RowScore, Rows};
use super::v8::{outputs_of, points_of, prototypes_of};
use super::{Claim, Family, Verdict};

/// The objectness of rows counts as low up to this.
const LOW: f32 = 0.05;

/// Class probabilities of rows of low objectness are higher than this on average where they are conditional on it.
const CONDITIONAL: f32 = 0.1;

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let Some(main) = evidence.main() else { return Verdict::No };
    let Main { rows, columns, .. } = main;
    let is_forced = match evidence.forced(Family::V5) {
        Some(false) => return Verdict::No,
        forced => forced.is_some(),
    };
    if columns < 6 {
        return Verdict::No;
    }
    let Ok(extra) = evidence.extra(columns, 5) else { return Verdict::No };
    let behind = extra.task.extra();
    if columns <= 5 + behind {
        return Verdict::No;
    }
    let is_named = evidence.class_count().is_some_and(|classes| columns == classes + 5 + behind);
    let is_other = evidence.class_count().is_some_and(|classes| columns == classes + 4 + behind);
    if !is_forced && !is_named && (is_other || rows <= columns) {
        return Verdict::No;
    }
    let output = &evidence.outputs[main.index];
    let Some(values) = output.columns() else { return Verdict::NeedsTrial };
    let cells = evidence.cells();
    let is_free_of_anchors = rows == cells;
    let has_one = values[4].is_one();
    // One row for each cell is also what transposed YOLOv8 has, with one value fewer.
    if is_free_of_anchors && !is_forced && !is_named && !has_one && !has_objectness(output, &values) {
        return Verdict::No;
    }
    let why = match evidence.class_count() {
        _ if is_forced => "as was set".to_owned(),
        Some(classes) if is_named => format!("the metadata names {classes} classes"),
        _ if has_one => "objectness is 1 throughout, as in YOLOv6".to_owned(),
        _ if rows == 3 * cells => "three rows for each cell".to_owned(),
        _ => "more rows than columns".to_owned(),
    };
    let unit = evidence.unit_of(&values[..4]);
    let classes = columns - 5 - behind;
    let reason = format!(
        "[1, {rows}, {columns}] is 4 box values in {}, objectness and {classes} classes for each of {rows} cells: {why}",
        unit.words()
    );
    let reader = Rows {
        extra: 5 + classes..columns,
        points: points_of(extra.task),
        prototypes: prototypes_of(extra.task),
        ..Rows::new(columns, BoxForm::Centre, unit, RowScore::Objectness { at: 4, first: 5, count: classes })
    };
    let claim = Claim::new("v5", reader, outputs_of(main, extra), reason).classes(classes).task(extra.task);
    if is_free_of_anchors && !has_one && !is_forced {
        return claim.prepared([Preparation::YOLOX, Preparation::YOLO]).into();
    }
    claim.into()
}

/// Whether the fifth value is an objectness on which the others are conditional, and not the probability of a class: then
/// there are boxes of low objectness with high class probabilities. 80 classes are COCO's.
fn has_objectness(output: &Output<'_>, values: &[Column]) -> bool {
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
    use super::super::boxes::Unit;
    use super::super::reader::testing::{read, view};
    use super::*;

    #[test]
    fn objectness_and_class_are_multiplied() {
        let values = [10.0, 10.0, 4.0, 4.0, 0.5, 0.2, 0.8, 40.0, 40.0, 8.0, 8.0, 0.5, 0.4, 0.1];
        let score = RowScore::Objectness { at: 4, first: 5, count: 2 };
        let reader = Rows::new(7, BoxForm::Centre, Unit::Pixels, score);
        assert_eq!(read(&reader, &[view(&[1, 2, 7], &values)], 0.3), [(1, 0.4, [8.0, 8.0, 12.0, 12.0])]);
    }
}
