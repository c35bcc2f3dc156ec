// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file's summary: its last line.

use serde::{Deserialize, Serialize};

use super::SCHEMA;
use crate::path::path_of;

/// Per-file summary record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The path or URL as it was given, or a `file://` URI where the path is not UTF-8.
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
    /// Sizes of the model's input at which it ran, as `640x384`.
    #[serde(default)]
    pub input_sizes: Vec<String>,
    /// Duration according to the container, in seconds; null if it does not say.
    pub duration_seconds: Option<f64>,
    /// Time from the first to the last frame with a line, in seconds; null if frames have no times.
    pub covered_seconds: Option<f64>,
    /// Length of the file; null where it cannot be accessed, or a server does not say.
    pub bytes: Option<u64>,
    /// When the file was last modified, in nanoseconds since 1970; null where the file cannot be accessed.
    #[serde(default)]
    pub modified_ns: Option<i64>,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes that a server sent, of which `bytes_read` were used; absent for files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// Time by stage. Stages run in parallel, so these do not add up to the total.
    pub seconds: Seconds,
    /// Warnings, up to eight texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Why frames may be missing or incomplete, although the file was read to its end: short English reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Why the first choice of execution provider was not used; absent if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Why the file failed; null if it did not.
    pub error: Option<Failure>,
}

/// Result of reading a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All of its keyframes have a line.
    Ok,
    /// The file was read as far as possible; frames may be missing or incomplete, see [`Summary::problems`].
    Damaged,
    /// The file could not be read, or not to its end.
    Failed,
}

impl Status {
    /// Returns the name in lines and messages.
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
    /// From the start of the file to its end.
    pub total: f64,
    /// Opening and probing.
    pub open: f64,
    /// Part of `open`: waiting for other files to be opened.
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
    /// Inference, summed over frames.
    pub infer: f64,
}

/// An error of GStreamer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Domain, as `gst-stream-error-quark`.
    pub domain: String,
    /// Code in that domain.
    pub code: i32,
    /// Message for users.
    pub message: String,
    /// Details for developers; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub debug: String,
}

impl Failure {
    /// Creates it from an error and its debug text.
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
    /// Creates the summary of a file that has not been read.
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
            input_sizes: Vec::new(),
            duration_seconds: None,
            covered_seconds: None,
            bytes: metadata.as_ref().map(std::fs::Metadata::len),
            modified_ns: metadata.as_ref().and_then(modified_ns),
            bytes_read: 0,
            bytes_received: None,
            seconds: Seconds::default(),
            warnings: Vec::new(),
            problems: Vec::new(),
            fallback: None,
            error: None,
        }
    }

    /// Marks the file as failed.
    pub fn fail(&mut self, error: &gst::glib::Error) {
        self.end(Some(Failure::new(error, None)));
    }

    /// Sets the status: failed with an error, damaged with problems, else ok.
    pub(crate) fn end(&mut self, error: Option<Failure>) {
        self.status = match &error {
            Some(_) => Status::Failed,
            None if self.problems.is_empty() => Status::Ok,
            None => Status::Damaged,
        };
        self.error = error;
        self.complete = self.status == Status::Ok;
    }

    /// Marks the file as failed because its lines were lost, all but the first `lines`. An earlier error is kept.
    pub(crate) fn lose(&mut self, error: &gst::glib::Error, lines: u64) {
        if self.error.is_none() {
            self.fail(error);
        }
        self.keyframes = lines;
        if lines == 0 {
            self.detection_count = 0;
        }
    }

    /// Returns it as a line with its line feed.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        super::to_line(self)
    }

    /// Reads a summary; `None` for every other line.
    #[must_use]
    pub fn from_line(line: &[u8]) -> Option<Self> {
        Self::may_be_in(line).then(|| serde_json::from_slice(line).ok()).flatten()
    }

    /// Returns whether `line` can be a summary. Parsing every line of every frame would take as long as writing them.
    fn may_be_in(line: &[u8]) -> bool {
        memchr::memmem::find(line, br#""status":"#).is_some()
    }
}

/// Returns the time of a file's last modification, in nanoseconds since 1970.
#[must_use]
pub fn modified_ns(metadata: &std::fs::Metadata) -> Option<i64> {
    let modified = metadata.modified().ok()?;
    match modified.duration_since(std::time::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(|before| -before),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_problems_is_damaged_unless_it_failed() {
        let mut summary = Summary::new("a.mp4");
        summary.end(None);
        assert_eq!(summary.status, Status::Ok);
        assert!(!String::from_utf8(summary.to_line()).unwrap().contains("problems"));
        summary.problems = ["2 keyframes could not be decoded", "the file ends early"].map(str::to_owned).into();
        summary.end(None);
        let text = String::from_utf8(summary.to_line()).unwrap();
        let expected = r#""problems":["2 keyframes could not be decoded","the file ends early"],"error":null}"#;
        assert!(text.contains(r#""status":"damaged""#) && text.trim_end().ends_with(expected), "{text}");
        assert_eq!(Summary::from_line(text.as_bytes()).unwrap(), summary);
        summary.fail(&gst::glib::Error::new(gst::ResourceError::Read, "gone"));
        assert_eq!(summary.status, Status::Failed);
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
