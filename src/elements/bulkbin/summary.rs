// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `vxbulkbin` adds to a file's summary: statistics of its elements, and the element message `vx-file`.

use gst::prelude::*;

use super::FILE_MESSAGE;
use crate::record::{Seconds, Summary};

impl Summary {
    /// Copies the statistics of the decoder and the detector.
    pub(super) fn add_stats(&mut self, decoder: &gst::Element, detector: &gst::Element) {
        let seconds = |stats: &gst::Structure, field: &str| stats.get::<u64>(field).unwrap_or(0) as f64 / 1e9;
        let decoder: gst::Structure = decoder.property("stats");
        let detector: gst::Structure = detector.property("stats");
        self.bytes_read = decoder.get("bytes-read").unwrap_or(0);
        self.bytes_received = decoder.get("bytes-received").ok();
        self.bytes = self.bytes.or_else(|| decoder.get("bytes").ok());
        self.problems = problems(&decoder);
        self.indexed_keyframes = decoder.get("indexed-keyframes").ok();
        self.damaged_frames = ["damaged", "corrupted"].map(|field| decoder.get::<u64>(field).unwrap_or(0)).iter().sum();
        self.duration_seconds = decoder.get::<u64>("duration").ok().map(|ns| ns as f64 / 1e9);
        self.fallback = detector.get("fallback").ok();
        self.detection_count = detector.get("detections").unwrap_or(0);
        self.input_sizes = input_sizes(detector.get("input-sizes").unwrap_or_default());
        self.seconds = Seconds {
            total: self.seconds.total,
            open: seconds(&decoder, "open-time"),
            lock_wait: seconds(&decoder, "lock-wait-time"),
            lock_hold: seconds(&decoder, "lock-hold-time"),
            read: seconds(&decoder, "read-time"),
            decode: seconds(&decoder, "decode-time"),
            queued: seconds(&detector, "queued-time"),
            prepare: seconds(&detector, "prepare-time"),
            infer: seconds(&detector, "infer-time"),
        };
    }

    /// Sets the numbers of lines, and the time from the first to the last.
    pub(super) fn set_counts(&mut self, keyframes: u64, between: u64, covered: Option<gst::ClockTime>) {
        (self.keyframes, self.frames_between) = (keyframes, between);
        self.covered_seconds = covered.map(|covered| covered.nseconds() as f64 / 1e9);
    }

    /// Returns the structure of the element message `vx-file`.
    pub(super) fn to_structure(&self) -> gst::Structure {
        let mut structure = gst::Structure::builder(FILE_MESSAGE)
            .field("file", &self.file)
            .field("status", self.status.name())
            .field("complete", self.complete)
            .field("keyframes", self.keyframes)
            .field("frames-between", self.frames_between)
            .field("detections", self.detection_count)
            .field("bytes", self.bytes.unwrap_or(0))
            .field("bytes-read", self.bytes_read)
            .field("total-time", (self.seconds.total * 1e9) as u64)
            .field("warnings", self.warnings.len() as u32);
        if !self.problems.is_empty() {
            structure = structure.field("problems", gst::Array::new(&self.problems));
        }
        if let Some(error) = &self.error {
            structure = structure
                .field("error", &error.message)
                .field("error-domain", &error.domain)
                .field("error-code", error.code);
        }
        structure.build()
    }
}

/// Returns the problems that the decoder reports for a file.
fn problems(stats: &gst::StructureRef) -> Vec<String> {
    let problems = stats.get::<gst::Array>("problems").unwrap_or_default();
    problems.iter().filter_map(|problem| problem.get().ok()).collect()
}

/// Returns the sizes in `input-sizes` of the detector: "640x384: 12, 640x640: 1".
fn input_sizes(text: &str) -> Vec<String> {
    text.split(", ").filter_map(|part| Some(part.split_once(": ")?.0.to_owned())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn input_sizes_are_those_in_the_stats() {
        assert_eq!(input_sizes("640x384: 12, 640x640: 1"), ["640x384", "640x640"]);
        assert!(input_sizes("").is_empty());
    }

    #[test]
    fn messages_have_the_status_and_the_problems() {
        gst::init().unwrap();
        let stats =
            |reasons: &[&str]| gst::Structure::builder("stats").field("problems", gst::Array::new(reasons)).build();
        assert!(problems(&gst::Structure::new_empty("stats")).is_empty() && problems(&stats(&[])).is_empty());
        let mut summary = Summary::new("a.mp4");
        summary.problems = problems(&stats(&["2 keyframes could not be decoded", "the file ends early"]));
        summary.end(None);
        let message = summary.to_structure();
        assert_eq!((message.get("status"), problems(&message).len()), (Ok("damaged"), 2));
        summary.fail(&gst::glib::Error::new(gst::ResourceError::Read, "gone"));
        assert_eq!(summary.to_structure().get("status"), Ok("failed"));
    }
}
