// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a file came to: the line that ends its lines, and the message that says the same on the bus.

use gst::prelude::*;
use serde::{Deserialize, Serialize};

use crate::elements::jsonenc::record::SCHEMA;
use crate::path::path_of;

/// The last line of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the schema, as in the frames' lines.
    pub schema: u32,
    /// The path as it was given, or a `file://` URI where the path is not UTF-8.
    pub file: String,
    /// No other line has this field.
    pub status: Status,
    /// Whether the file was read to its end and nothing of it is known to be missing or damaged.
    pub complete: bool,
    /// Keyframes with a line.
    pub keyframes: u64,
    /// Keyframes in the container's index; null if it has none.
    pub indexed_keyframes: Option<u64>,
    /// Frames between keyframes with a line (`max-gap`, the first visible frame of a trimmed clip).
    pub frames_between: u64,
    /// Frames that could not be decoded, or not completely.
    pub damaged_frames: u64,
    /// Detections on all frames.
    pub detection_count: u64,
    /// Duration according to the container, in seconds; null if it does not say.
    pub duration_seconds: Option<f64>,
    /// Time from the first to the last frame with a line, in seconds; null if frames have no times.
    pub covered_seconds: Option<f64>,
    /// Length of the file; null where it could not be looked at.
    pub bytes: Option<u64>,
    /// When the file was last modified, in nanoseconds since 1970; null where it could not be looked at.
    #[serde(default)]
    pub modified_ns: Option<i64>,
    /// How many of them were read.
    pub bytes_read: u64,
    /// Where the time went. Stages run side by side, so these do not add up to the total.
    pub seconds: Seconds,
    /// What was warned of, up to eight texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Why frames may be missing or incomplete, although the file was read to its end: short English reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Why another execution provider was used than the one that comes first; only there if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Why it failed; null if it did not.
    pub error: Option<Failure>,
}

/// How a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All of its keyframes have a line.
    Ok,
    /// It was read as far as possible; frames may be missing or incomplete, see [`Summary::problems`].
    Damaged,
    /// It could not be read, or not to its end.
    Failed,
}

impl Status {
    /// As it is written in lines and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Damaged => "damaged",
            Self::Failed => "failed",
        }
    }
}

/// Seconds by stage.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Seconds {
    /// From the file's turn to its end.
    pub total: f64,
    /// Opening and probing.
    pub open: f64,
    /// Of that, waiting for others to open theirs.
    pub lock_wait: f64,
    /// Holding the lock under which files are opened.
    pub lock_hold: f64,
    /// Reading packets.
    pub read: f64,
    /// Decoding keyframes, summed over threads.
    pub decode: f64,
    /// Frames waiting for the model, summed.
    pub queued: f64,
    /// Pixels to model input, summed.
    pub prepare: f64,
    /// The model's runs, summed over frames.
    pub infer: f64,
}

/// An error as GStreamer has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Domain, as `gst-stream-error-quark`.
    pub domain: String,
    /// Code in that domain.
    pub code: i32,
    /// For whoever reads it.
    pub message: String,
    /// For whoever looks for the cause; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub debug: String,
}

impl Failure {
    /// From an error message and its debug text.
    #[must_use]
    pub fn new(error: &gst::glib::Error, debug: Option<&str>) -> Self {
        Self {
            domain: error.domain().as_str().to_string(),
            code: error.code(),
            message: error.message().to_owned(),
            debug: debug.unwrap_or_default().to_owned(),
        }
    }
}

impl Summary {
    /// Of a file of which nothing is known yet.
    #[must_use]
    pub fn new(file: &str) -> Self {
        let metadata = std::fs::metadata(path_of(file)).ok();
        Self {
            schema: SCHEMA,
            file: file.to_owned(),
            status: Status::Ok,
            complete: false,
            keyframes: 0,
            indexed_keyframes: None,
            frames_between: 0,
            damaged_frames: 0,
            detection_count: 0,
            duration_seconds: None,
            covered_seconds: None,
            bytes: metadata.as_ref().map(std::fs::Metadata::len),
            modified_ns: metadata.as_ref().and_then(modified_ns),
            bytes_read: 0,
            seconds: Seconds::default(),
            warnings: Vec::new(),
            problems: Vec::new(),
            fallback: None,
            error: None,
        }
    }

    /// Makes it that of a file that failed.
    pub fn fail(&mut self, error: &gst::glib::Error) {
        self.end(Some(Failure::new(error, None)));
    }

    /// Sets the status: failed with an error, damaged with problems, else ok.
    pub(super) fn end(&mut self, error: Option<Failure>) {
        self.status = match &error {
            Some(_) => Status::Failed,
            None if self.problems.is_empty() => Status::Ok,
            None => Status::Damaged,
        };
        self.error = error;
        self.complete = self.status == Status::Ok;
    }

    /// Makes it that of a file whose lines were lost, all but the first `lines`. An earlier reason of its failure stays.
    pub(super) fn lose(&mut self, error: &gst::glib::Error, lines: u64) {
        if self.error.is_none() {
            self.fail(error);
        }
        self.keyframes = lines;
        if lines == 0 {
            self.detection_count = 0;
        }
    }

    /// As a line, with its end.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// The summary that `line` is, if it is one.
    #[must_use]
    pub fn from_line(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Takes over what the decoder and the detector say of themselves.
    pub(super) fn add_stats(&mut self, decoder: &gst::Element, detector: &gst::Element) {
        let seconds = |stats: &gst::Structure, field: &str| stats.get::<u64>(field).unwrap_or(0) as f64 / 1e9;
        let decoder: gst::Structure = decoder.property("stats");
        let detector: gst::Structure = detector.property("stats");
        self.bytes_read = decoder.get("bytes-read").unwrap_or(0);
        self.problems = problems(&decoder);
        self.indexed_keyframes = decoder.get("indexed-keyframes").ok();
        self.damaged_frames = ["damaged", "corrupted"].map(|field| decoder.get::<u64>(field).unwrap_or(0)).iter().sum();
        self.duration_seconds = decoder.get::<u64>("duration").ok().map(|ns| ns as f64 / 1e9);
        self.fallback = detector.get("fallback").ok();
        self.detection_count = detector.get("detections").unwrap_or(0);
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

    /// Takes over how many lines of which kind there are, and the times of the first and the last.
    pub(super) fn set_counts(&mut self, keyframes: u64, between: u64, covered: Option<gst::ClockTime>) {
        (self.keyframes, self.frames_between) = (keyframes, between);
        self.covered_seconds = covered.map(|covered| covered.nseconds() as f64 / 1e9);
    }

    /// The structure of the element message `vx-file`.
    pub(super) fn to_structure(&self) -> gst::Structure {
        let mut structure = gst::Structure::builder("vx-file")
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

/// When a file was last modified, in nanoseconds since 1970.
#[must_use]
pub fn modified_ns(metadata: &std::fs::Metadata) -> Option<i64> {
    let modified = metadata.modified().ok()?;
    match modified.duration_since(std::time::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(|before| -before),
    }
}

/// What the decoder says is wrong with a file that it has read.
fn problems(stats: &gst::StructureRef) -> Vec<String> {
    let problems = stats.get::<gst::Array>("problems").unwrap_or_default();
    problems.iter().filter_map(|problem| problem.get().ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_problems_is_damaged_unless_it_failed() {
        gst::init().unwrap();
        let stats =
            |reasons: &[&str]| gst::Structure::builder("stats").field("problems", gst::Array::new(reasons)).build();
        assert!(problems(&gst::Structure::new_empty("stats")).is_empty() && problems(&stats(&[])).is_empty());
        let mut summary = Summary::new("a.mp4");
        summary.end(None);
        assert_eq!(summary.status, Status::Ok);
        assert!(!String::from_utf8(summary.to_line()).unwrap().contains("problems"));
        summary.problems = problems(&stats(&["2 keyframes could not be decoded", "the file ends early"]));
        summary.end(None);
        let text = String::from_utf8(summary.to_line()).unwrap();
        let expected = r#""problems":["2 keyframes could not be decoded","the file ends early"],"error":null}"#;
        assert!(text.contains(r#""status":"damaged""#) && text.trim_end().ends_with(expected), "{text}");
        assert_eq!(Summary::from_line(text.as_bytes()).unwrap(), summary);
        let message = summary.to_structure();
        assert_eq!((message.get("status"), problems(&message).len()), (Ok("damaged"), 2));
        summary.fail(&gst::glib::Error::new(gst::ResourceError::Read, "gone"));
        assert_eq!((summary.status, summary.to_structure().get("status")), (Status::Failed, Ok("failed")));
    }

    #[test]
    fn a_summary_is_a_line_that_no_frame_is() {
        let mut summary = Summary::new("/nowhere/a.mp4");
        summary.status = Status::Failed;
        let error = gst::glib::Error::new(gst::ResourceError::NotFound, "no such file");
        summary.error = Some(Failure::new(&error, None));
        let line = summary.to_line();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(Summary::from_line(&line).unwrap(), summary);
        let text = String::from_utf8(line).unwrap();
        assert!(
            text.contains(r#""status":"failed""#) && text.contains(r#""domain":"gst-resource-error-quark","code":3"#),
            "{text}"
        );
        assert_eq!(
            Summary::from_line(br#"{"schema":2,"file":"a","pts_ns":0,"width":1,"height":1,"detections":[]}"#),
            None
        );
    }
}
