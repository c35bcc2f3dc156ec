//! Ultralytics' RT-DETR: `[1, 300, 4 + C]`. Centre x, centre y, width, height as shares of the stretched input, then final
//! probabilities; nothing to suppress (ultralytics/models/rtdetr/predict.py).

use super::boxes::{BoxForm, Unit};
use super::evidence::{Evidence, MOST_FINISHED, Main};
use super::preparation::Preparation;
use super::rows::{RowScore, Rows};
use super::{Claim, Family, Verdict};

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    let Some(Main { index, rows, columns }) = evidence.main() else { return Verdict::No };
    let is_forced = match evidence.forced(Family::RtDetr) {
        Some(false) => return Verdict::No,
        forced => forced.is_some(),
    };
    if columns < 5 || (!is_forced && (rows > MOST_FINISHED || rows == evidence.cells() || rows == 3 * evidence.cells()))
    {
        return Verdict::No;
    }
    let is_named = evidence.class_count().is_some_and(|classes| columns == classes + 4);
    if !is_forced {
        // Named classes that fit elsewhere make it another family's.
        let is_elsewhere = evidence.class_count().is_some_and(|classes| rows == classes + 4 || columns == classes + 5);
        if !is_named && (is_elsewhere || rows < columns) {
            return Verdict::No;
        }
        match evidence.outputs[index].columns() {
            None => return Verdict::NeedsTrial,
            Some(values) => {
                let is_shares = evidence.unit_of(&values[..4]) == Unit::Shares;
                if !is_shares || values[4..].iter().any(|class| !class.is_share()) {
                    return Verdict::No;
                }
            }
        }
    }
    let classes = columns - 4;
    let why = match is_forced {
        true => "as was set",
        false => "few rows, and a trial run gave shares and probabilities",
    };
    let reason =
        format!("[1, {rows}, {columns}] is {rows} finished boxes as shares of the input and {classes} classes: {why}");
    let reader = Rows {
        is_finished: true,
        is_dense: false,
        ..Rows::new(columns, BoxForm::Centre, Unit::Shares, RowScore::Classes { first: 4, count: classes })
    };
    let claim = Claim::new("rtdetr", reader, vec![index], reason).classes(classes);
    claim.prepared([Preparation::STRETCHED]).into()
}
