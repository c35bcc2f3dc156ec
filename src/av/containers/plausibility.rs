// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the keyframes that a container names are all that there are.
//!
//! Two checks: gaps between keyframes that are implausibly long, and frames as large as keyframes that are not flagged as such
//! (see `unflagged.rs`).

use crate::av::containers::unflagged::UnflaggedSearch;
use crate::av::error::Error;
use crate::av::input::video_stream::VideoStream;

/// Gaps longer than this, or twice as long as any before, are doubtful. The common encoders place a keyframe every 250 frames
/// (x264 and x265), which is 42 s at the 6 frames per second of surveillance cameras. Shorter gaps are searched by size alone
/// (unflagged.rs).
const DOUBTFUL_SECONDS: i64 = 42;

/// The same limit for a file with a single keyframe.
const DOUBTFUL_SECONDS_SINGLE: i64 = 2;

/// State of both checks for one file.
pub(super) struct Plausibility {
    pub(super) search: UnflaggedSearch,
    /// Where the gap ends that is being read frame by frame because it is doubtful; `None` for the end of the file.
    gap_end: Option<i64>,
    keyframes: u64,
    /// Longest distance between keyframes that was confirmed.
    longest: i64,
    doubtful: i64,
    doubtful_single: i64,
}

impl Plausibility {
    pub(super) fn new(video: &VideoStream) -> Result<Self, Error> {
        let (num, den) = video.time_base();
        let units = |seconds: i64| seconds.saturating_mul(den) / num.max(1);
        Ok(Self {
            search: UnflaggedSearch::new(video)?,
            gap_end: None,
            keyframes: 0,
            longest: 0,
            doubtful: units(DOUBTFUL_SECONDS),
            doubtful_single: units(DOUBTFUL_SECONDS_SINGLE),
        })
    }

    /// Counts a keyframe that was delivered.
    pub(super) fn count_keyframe(&mut self) {
        self.keyframes += 1;
    }

    /// Records a distance between keyframes that is right.
    pub(super) fn confirm(&mut self, distance: i64) {
        self.longest = self.longest.max(distance);
    }

    /// Whether a gap of this length is doubtful; `is_last` for the one between the last keyframe and the end of the file.
    pub(super) fn is_doubtful(&self, distance: i64, is_last: bool) -> bool {
        let limit = if is_last && self.keyframes <= 1 { self.doubtful_single } else { self.doubtful };
        distance > limit.max(self.longest.saturating_mul(2))
    }

    /// Begins a doubtful gap that ends at byte `end`, or with `None` at the end of the file.
    pub(super) fn begin_gap(&mut self, end: Option<i64>) {
        self.gap_end = end;
    }

    /// Returns the byte position at which the doubtful gap ends.
    pub(super) fn gap_end(&self) -> Option<i64> {
        self.gap_end
    }
}
