//! DeepStream-Yolo's exports: `[1, cells, 6]`, corners, score, class; not yet suppressed (marcoslucianops/DeepStream-Yolo,
//! utils/export_yoloV8.py). Those of its first generation have boxes, scores and classes as separate outputs.

use super::boxes::BoxForm;
use super::evidence::{Evidence, Main, Output};
use super::names::Names;
use super::rows::{RowScore, Rows};
use super::{Claim, Family, Verdict};

/// Share of the rows whose third and fourth values are not below the first and second: corners.
const MOST: f32 = 0.95;

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let Some(Main { index, rows, columns }) = evidence.main() else { return Verdict::No };
    let is_forced = match evidence.forced(Family::DeepStream) {
        Some(false) => return Verdict::No,
        forced => forced.is_some(),
    };
    if columns != 6 || (rows < 7 && !is_forced) {
        return Verdict::No;
    }
    let Some(values) = evidence.outputs[index].columns() else { return Verdict::NeedsTrial };
    let is_it = values[5].is_whole && values[4].is_share() && are_corners(&evidence.outputs[index]);
    if !is_forced && !is_it {
        return Verdict::No;
    }
    let unit = evidence.unit_of(&values[..4]);
    let why = if is_forced { "as was set" } else { "a trial run gave corners and whole numbers of classes" };
    let reason = format!(
        "[1, {rows}, 6] is a box in {} with score and class for each of {rows} cells, not yet suppressed: {why}",
        unit.words()
    );
    let reader = Rows::new(6, BoxForm::Corners, unit, RowScore::ScoreAndClass { score: 4, class: 5 });
    Claim::new("deepstream", reader, vec![index], reason).classes(evidence.class_count()).named(Names::Coco).into()
}

/// Whether boxes of the trial run are corners, and not centre and size.
fn are_corners(output: &Output<'_>) -> bool {
    let rows = output.values.unwrap_or_default().chunks_exact(6);
    let count = rows.len();
    let ordered = rows.clone().filter(|row| row[2] >= row[0] && row[3] >= row[1]).count();
    let is_empty = rows.clone().all(|row| row[2] <= row[0] && row[3] <= row[1]);
    count > 0 && !is_empty && ordered as f32 >= MOST * count as f32
}
