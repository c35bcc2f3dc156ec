// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hidden samples of fragments that overlap the one before.
//!
//! FFmpeg's mov demuxer hides samples for two reasons: the edit list omits them, or a fragment's times overlap those of the one before
//! (a fragment sent twice, concatenated recordings). The latter are valid.

use crate::av::input::video_stream::IndexEntry;

/// Finds out why samples are hidden, for the keyframes among them.
#[derive(Debug, Default)]
pub(super) struct OverlapSearch {
    last: Option<HiddenKeyframe>,
}

/// A hidden keyframe that was looked up.
#[derive(Debug, Clone, Copy)]
struct HiddenKeyframe {
    /// Its index number then: fragments may have put others before it since.
    number: usize,
    position: i64,
    dts: i64,
    overlaps: bool,
}

impl HiddenKeyframe {
    fn is_at(&self, entry: &IndexEntry) -> bool {
        (self.position, self.dts) == (entry.position, entry.dts)
    }
}

impl OverlapSearch {
    /// Whether the run of hidden samples up to the one at this position begins at a time that the sample before it has passed. `entry`
    /// returns the entries of an index of `len`.
    ///
    /// Keyframes nearly always come in the order of the index, so the search starts at the last one and reuses its result for the same
    /// run.
    pub(super) fn is_overlap(
        &mut self,
        (position, dts): (i64, i64),
        len: usize,
        entry: impl Fn(usize) -> Option<IndexEntry>,
    ) -> bool {
        let is_it = |number: &usize| entry(*number).is_some_and(|it| (it.position, it.dts) == (position, dts));
        let from = self.last.map_or(0, |last| last.number.min(len));
        let Some(number) = (from..len).chain(0..from).find(is_it) else { return false };
        let overlaps = self.begins_in_the_past(number, entry);
        self.last = Some(HiddenKeyframe { number, position, dts, overlaps });
        overlaps
    }

    fn begins_in_the_past(&self, mut number: usize, entry: impl Fn(usize) -> Option<IndexEntry>) -> bool {
        while let (Some(this), Some(before)) = (entry(number), number.checked_sub(1).and_then(&entry)) {
            if let Some(last) = self.last.filter(|last| last.number == number && last.is_at(&this)) {
                return last.overlaps;
            }
            if before.dts >= this.dts {
                return true;
            }
            if !before.is_hidden {
                return false;
            }
            number -= 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn sample(number: usize, dts: i64, is_hidden: bool) -> IndexEntry {
        let position = number as i64 * 10;
        IndexEntry { dts, position, end: position + 10, is_key: true, is_hidden }
    }

    #[test]
    fn a_run_that_begins_before_the_end_of_the_last_fragment_overlaps() {
        // Two samples that an edit list omits, two that are shown, a fragment that is sent again, one that is not.
        let times = [(0, true), (1, true), (2, false), (3, false), (2, true), (3, true), (4, false)];
        let index: Vec<_> = times.iter().enumerate().map(|(at, (dts, hidden))| sample(at, *dts, *hidden)).collect();
        let mut search = OverlapSearch::default();
        let mut overlaps = |number: usize| {
            let entry = &index[number];
            search.is_overlap((entry.position, entry.dts), index.len(), |number| index.get(number).copied())
        };
        assert_eq!([0, 1, 4, 5].map(&mut overlaps), [false, false, true, true]);
        // As after a seek back.
        assert_eq!([5, 1, 0, 4].map(&mut overlaps), [true, false, false, true]);
        assert!(!search.is_overlap((7, 7), index.len(), |number| index.get(number).copied()));
    }

    #[test]
    fn a_long_hidden_run_is_searched_once() {
        const LEN: usize = 10_000;
        let looked_up = Cell::new(0);
        let entry = |number: usize| {
            looked_up.set(looked_up.get() + 1);
            (number < LEN).then(|| sample(number, number as i64, true))
        };
        let mut search = OverlapSearch::default();
        for number in 0..LEN {
            assert!(!search.is_overlap((number as i64 * 10, number as i64), LEN, entry));
        }
        assert!(looked_up.get() < 10 * LEN, "{} look-ups", looked_up.get());
    }
}
