// SPDX-License-Identifier: MIT OR Apache-2.0
//! The header line: the detector that a file's lines come from, or the conditions of a whole run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SCHEMA;

/// The line before the first of a stream or of an output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderLine {
    /// [`SCHEMA`].
    pub schema: u32,
    /// No other line has this field.
    pub header: Header,
}

/// What the lines after it come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// As in the frames' lines; null in the header of a run.
    pub file: Option<String>,
    /// The detector; null in the header of a run, or where upstream does not describe it.
    pub detector: Option<DetectorInfo>,
    /// The conditions of a run; absent in the header of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Conditions>,
}

/// Describes a detector.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectorInfo {
    /// File name of the model.
    pub model: String,
    /// Layout of its output.
    pub layout: String,
    /// Its task: detection, segmentation and so on.
    pub task: String,
    /// ONNX Runtime's name of the execution provider.
    pub provider: String,
    /// Kind of device.
    pub device: String,
    /// Number format of the arithmetic.
    pub precision: String,
    /// Why the first choice of provider is not used; null where it is.
    pub fallback: Option<String>,
    /// Names of all classes, by number; empty where the model does not give their count.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Keypoints of each object; 0 for models without.
    #[serde(default)]
    pub keypoints: u32,
    /// The setting `input-size`: `auto`, `model`, or width and height as `640x384`.
    #[serde(default)]
    pub input_size: String,
}

/// What the results of a run depend on beside the files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Version of vx.
    pub vx: String,
    /// The model.
    pub model: ModelId,
    /// Values of the properties that differ from their defaults, by name; `input-size` always.
    pub settings: BTreeMap<String, String>,
}

/// Identifies a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelId {
    /// File name, or "built-in".
    pub name: String,
    /// Hash of the model, its `.modelinfo` and its weights.
    pub hash: String,
}

impl HeaderLine {
    /// Creates the header of a file.
    #[must_use]
    pub fn of_file(file: Option<String>, detector: Option<DetectorInfo>) -> Self {
        Self { schema: SCHEMA, header: Header { file, detector, run: None } }
    }

    /// Creates the header of a run.
    #[must_use]
    pub fn of_run(conditions: Conditions) -> Self {
        Self { schema: SCHEMA, header: Header { run: Some(conditions), ..Header::default() } }
    }

    /// Returns it as a line with its line feed.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        super::to_line(self)
    }

    /// Reads a header line; `None` for every other line.
    #[must_use]
    pub fn from_line(line: &[u8]) -> Option<Self> {
        Self::is_in(line).then(|| serde_json::from_slice(line).ok()).flatten()
    }

    /// Returns whether `line` is a header, without parsing it.
    #[must_use]
    pub fn is_in(line: &[u8]) -> bool {
        // The field stands right behind the schema, where no other line has it.
        let schema = line.strip_prefix(br#"{"schema":"#.as_slice()).unwrap_or_default();
        let digits = schema.iter().take_while(|byte| byte.is_ascii_digit()).count();
        schema[digits..].starts_with(br#","header":"#)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn headers_of_files_and_of_runs_are_read_back() {
        let conditions = Conditions {
            vx: "0.1.0".into(),
            model: ModelId { name: "m.onnx".into(), hash: "00".into() },
            settings: [("classes".to_owned(), "person".to_owned())].into(),
        };
        let of_run = HeaderLine::of_run(conditions);
        let text = String::from_utf8(of_run.to_line()).unwrap();
        assert_eq!(
            text,
            "{\"schema\":2,\"header\":{\"file\":null,\"detector\":null,\"run\":{\"vx\":\"0.1.0\",\"model\":{\"name\":\"m.onnx\",\
             \"hash\":\"00\"},\"settings\":{\"classes\":\"person\"}}}}\n"
        );
        assert_eq!(HeaderLine::from_line(text.as_bytes()), Some(of_run));
        let of_file =
            HeaderLine::of_file(Some("a".into()), Some(DetectorInfo { model: "m".into(), ..DetectorInfo::default() }));
        assert!(!String::from_utf8(of_file.to_line()).unwrap().contains("\"run\""));
        assert_eq!(HeaderLine::from_line(&of_file.to_line()), Some(of_file));
        let frame = br#"{"schema":2,"file":"\"header\":","pts_ns":0,"width":1,"height":1,"detections":[]}"#;
        assert!(HeaderLine::from_line(frame).is_none() && !HeaderLine::is_in(b""));
    }
}
