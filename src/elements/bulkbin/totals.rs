// SPDX-License-Identifier: MIT OR Apache-2.0
//! Totals of a run: what `stats` and progress messages report.

use std::collections::BTreeMap;

use super::lane::FileProgress;
use crate::record::{Status, Summary};

/// Totals over the files so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Totals {
    pub files: u64,
    pub done: u64,
    pub failed: u64,
    pub damaged: u64,
    pub keyframes: u64,
    pub frames_between: u64,
    pub detections: u64,
    pub bytes_read: u64,
    pub open: f64,
    pub lock_wait: f64,
    pub lock_hold: f64,
    pub read: f64,
    pub decode: f64,
    pub prepare: f64,
    pub infer: f64,
    /// Number of the last file of each lane that is counted.
    pub last_counted: BTreeMap<usize, u64>,
}

impl Totals {
    /// Adds the progress of files that have not ended. Returns the progress that was added: files that are counted already are
    /// omitted.
    pub fn add_running(&mut self, lanes: &[(usize, FileProgress)]) -> Vec<FileProgress> {
        let counted = |lane: usize, number: u64| self.last_counted.get(&lane).is_some_and(|last| *last >= number);
        let running = lanes.iter().filter(|(lane, running)| running.number > 0 && !counted(*lane, running.number));
        let running: Vec<FileProgress> = running.map(|(_, running)| running.clone()).collect();
        for file in &running {
            self.keyframes += file.counts.keyframes;
            self.frames_between += file.counts.between;
            self.detections += file.detections;
            self.bytes_read += file.bytes_read;
        }
        running
    }

    /// Adds a file that has ended.
    pub fn add(&mut self, summary: &Summary) {
        self.done += 1;
        self.failed += u64::from(summary.status == Status::Failed);
        self.damaged += u64::from(summary.status == Status::Damaged);
        self.keyframes += summary.keyframes;
        self.frames_between += summary.frames_between;
        self.detections += summary.detection_count;
        self.bytes_read += summary.bytes_read;
        let seconds = &summary.seconds;
        self.open += seconds.open;
        self.lock_wait += seconds.lock_wait;
        self.lock_hold += seconds.lock_hold;
        self.read += seconds.read;
        self.decode += seconds.decode;
        self.prepare += seconds.prepare;
        self.infer += seconds.infer;
    }

    /// Corrects the totals for a file whose lines were lost after it was added.
    pub fn replace(&mut self, before: &Summary, after: &Summary) {
        let is = |status, summary: &Summary| u64::from(summary.status == status);
        self.failed = self.failed + is(Status::Failed, after) - is(Status::Failed, before);
        self.damaged = self.damaged + is(Status::Damaged, after) - is(Status::Damaged, before);
        self.frames_between = self.frames_between + after.frames_between - before.frames_between;
        self.keyframes = self.keyframes + after.keyframes - before.keyframes;
        self.detections = self.detections + after.detection_count - before.detection_count;
    }

    /// Returns the fraction of the files that is done; files that are being read count in part.
    pub fn fraction_done(&self, running: &[FileProgress]) -> f32 {
        let parts: f64 = running.iter().filter_map(FileProgress::fraction_done).sum();
        ((self.done as f64 + parts) / self.files.max(1) as f64) as f32
    }

    /// Returns the fields of `stats`.
    pub fn to_structure(&self) -> gst::structure::Builder {
        let time = |seconds: f64| (seconds * 1e9) as u64;
        gst::Structure::builder("vxbulkbin-stats")
            .field("files", self.files)
            .field("done", self.done)
            .field("failed", self.failed)
            .field("damaged", self.damaged)
            .field("keyframes", self.keyframes)
            .field("frames-between", self.frames_between)
            .field("detections", self.detections)
            .field("bytes-read", self.bytes_read)
            .field("open-time", time(self.open))
            .field("lock-wait-time", time(self.lock_wait))
            .field("lock-hold-time", time(self.lock_hold))
            .field("read-time", time(self.read))
            .field("decode-time", time(self.decode))
            .field("prepare-time", time(self.prepare))
            .field("infer-time", time(self.infer))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn totals_follow_the_results_of_files() {
        let damaged = Summary { status: Status::Damaged, keyframes: 5, detection_count: 3, ..Summary::new("a") };
        let failed = Summary { status: Status::Failed, keyframes: 2, detection_count: 3, ..Summary::new("a") };
        let mut totals = Totals { files: 3, ..Totals::default() };
        [Summary::new("b"), damaged.clone(), failed.clone()].iter().for_each(|summary| totals.add(summary));
        assert_eq!((totals.done, totals.damaged, totals.failed, totals.keyframes, totals.detections), (3, 1, 1, 7, 6));
        totals.replace(&damaged, &failed);
        assert_eq!((totals.done, totals.damaged, totals.failed, totals.keyframes, totals.detections), (3, 0, 2, 4, 6));
    }
}
