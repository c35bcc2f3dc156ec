//! What a file came to: the line that ends its lines, and the message that says the same on the bus.

use gst::prelude::*;
use serde::{Deserialize, Serialize};

use crate::elements::jsonenc::record::SCHEMA;

/// The last line of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the schema, as in the frames' lines.
    pub schema: u32,
    /// The path, as it was given.
    pub file: String,
    /// No other line has this field.
    pub status: Status,
    /// Frames with a line.
    pub keyframes: u64,
    /// Objects on all of them.
    pub detections: u64,
    /// Length of the file; null where it could not be looked at.
    pub bytes: Option<u64>,
    /// How many of them were read.
    pub bytes_read: u64,
    /// Where the time went. Stages run side by side, so these do not add up to the total.
    pub seconds: Seconds,
    /// What was warned of, up to eight texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Why it failed; null if it did not.
    pub error: Option<Failure>,
}

/// How a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All of its keyframes have a line.
    Ok,
    /// It could not be read, or not to its end.
    Failed,
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
        Self {
            schema: SCHEMA,
            file: file.to_owned(),
            status: Status::Ok,
            keyframes: 0,
            detections: 0,
            bytes: std::fs::metadata(file).ok().map(|metadata| metadata.len()),
            bytes_read: 0,
            seconds: Seconds::default(),
            warnings: Vec::new(),
            error: None,
        }
    }

    /// Makes it that of a file that failed.
    pub fn fail(&mut self, error: &gst::glib::Error) {
        self.status = Status::Failed;
        self.error = Some(Failure::new(error, None));
    }

    /// Makes it that of a file whose lines were lost, all but the first `lines`. An earlier reason of its failure stays.
    pub(super) fn lose(&mut self, error: &gst::glib::Error, lines: u64) {
        if self.error.is_none() {
            self.fail(error);
        }
        self.keyframes = lines;
        if lines == 0 {
            self.detections = 0;
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
        self.detections = detector.get("detections").unwrap_or(0);
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

    /// The structure of the element message `vx-file`.
    pub(super) fn to_structure(&self) -> gst::Structure {
        let status = if self.status == Status::Ok { "ok" } else { "failed" };
        let mut structure = gst::Structure::builder("vx-file")
            .field("file", &self.file)
            .field("status", status)
            .field("keyframes", self.keyframes)
            .field("detections", self.detections)
            .field("bytes", self.bytes.unwrap_or(0))
            .field("bytes-read", self.bytes_read)
            .field("total-time", (self.seconds.total * 1e9) as u64)
            .field("warnings", self.warnings.len() as u32);
        if let Some(error) = &self.error {
            structure = structure
                .field("error", &error.message)
                .field("error-domain", &error.domain)
                .field("error-code", error.code);
        }
        structure.build()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

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
            Summary::from_line(br#"{"schema":1,"file":"a","pts_ns":0,"width":1,"height":1,"detections":[]}"#),
            None
        );
    }
}
