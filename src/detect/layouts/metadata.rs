// SPDX-License-Identifier: MIT OR Apache-2.0
//! What exporters write about a model into its ONNX metadata.
//!
//! Metadata is untrusted text: what does not parse counts as absent, with a warning.

use std::collections::HashMap;

use super::task::TaskName;
use crate::detect::onnx::python_literal;

/// Most keypoints of an object.
const MAX_KEYPOINTS: usize = 1000;
/// Longest metadata value that is shown, in characters.
const MAX_SHOWN: usize = 100;

/// What the metadata says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metadata {
    pub names: Option<Vec<String>>,
    /// What the model does.
    pub task: Option<TaskName>,
    /// The name of a task that is not supported.
    pub unknown_task: Option<String>,
    pub end_to_end: Option<bool>,
    /// Whether the graph suppresses overlapping boxes.
    pub has_nms: bool,
    pub is_ultralytics: bool,
    pub channels: Option<usize>,
    /// Largest stride, in pixels of the input.
    pub stride: Option<usize>,
    /// Height and width.
    pub image_size: Option<(usize, usize)>,
    /// Keypoints of an object, and values of each.
    pub keypoints: Option<(usize, usize)>,
    /// The confidence above which its author counts detections, 0 to 1.
    pub confidence: Option<f32>,
    /// What cannot be parsed.
    pub warnings: Vec<String>,
    /// The metadata as lines of text for the user.
    pub lines: Vec<String>,
}

impl Metadata {
    /// Parses the metadata of a model, given by key.
    pub fn parse(metadata: &HashMap<String, String>) -> Self {
        let text = |key: &str| metadata.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
        let flag = |text: &str| match text {
            "True" | "true" | "1" => Some(true),
            "False" | "false" | "0" => Some(false),
            _ => None,
        };
        let mut warnings = Vec::new();
        let names = text("names").and_then(|text| {
            let names = python_literal::class_names(text);
            if names.is_none() {
                warnings.push(
                    "the class names in its metadata cannot be parsed: they are neither a dictionary of numbers and names nor a \
                     list; set label-file to a file of class names"
                        .to_owned(),
                );
            }
            names
        });
        let mut lines = Vec::new();
        for key in [
            "author",
            "task",
            "end2end",
            "nms",
            "args",
            "head",
            "imgsz",
            "channels",
            "stride",
            "kpt_shape",
            "confidence",
        ] {
            if let Some(text) = text(key) {
                let mut short: String =
                    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SHOWN).collect();
                if short.len() < text.len() {
                    short.push('…');
                }
                lines.push(format!("metadata {key} = {short}"));
            }
        }
        if let Some(names) = &names {
            lines.push(format!("metadata names {} classes", names.len()));
        }
        Self {
            names,
            task: text("task").and_then(TaskName::parse),
            unknown_task: text("task").filter(|text| TaskName::parse(text).is_none()).map(str::to_owned),
            end_to_end: text("end2end").and_then(flag),
            has_nms: text("nms").and_then(flag) == Some(true) || text("args").is_some_and(has_nms),
            is_ultralytics: text("author").is_some_and(|author| author.contains("Ultralytics")),
            channels: text("channels").and_then(|text| text.parse().ok()),
            stride: text("stride").and_then(|text| text.parse().ok()),
            image_size: text("imgsz").and_then(python_literal::image_size),
            confidence: text("confidence")
                .and_then(|text| text.parse().ok())
                .filter(|number| (0.0..1.0).contains(number)),
            keypoints: text("kpt_shape")
                .and_then(python_literal::image_size)
                .filter(|&(points, values)| (2..=3).contains(&values) && points <= MAX_KEYPOINTS),
            warnings,
            lines,
        }
    }

    /// Returns the number of class names.
    pub fn class_count(&self) -> Option<usize> {
        self.names.as_ref().map(Vec::len)
    }
}

/// Whether a Python dictionary of export arguments contains `'nms': True`.
fn has_nms(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\'')).collect();
    ["{nms:True", ",nms:True", "{nms:true", ",nms:true"].iter().any(|wanted| plain.contains(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_arguments_say_whether_boxes_are_suppressed() {
        for (text, expected) in [
            ("{'batch': 1, 'half': False, 'nms': True}", true),
            ("{\"nms\": true}", true),
            ("{'nms': False}", false),
            ("{'agnostic_nms': True}", false),
            ("", false),
        ] {
            assert_eq!(has_nms(text), expected, "{text}");
        }
    }

    #[test]
    fn keypoints_beyond_the_limit_are_ignored() {
        let parse =
            |shape: &str| Metadata::parse(&HashMap::from([("kpt_shape".to_owned(), shape.to_owned())])).keypoints;
        assert_eq!(parse("[1000, 3]"), Some((MAX_KEYPOINTS, 3)));
        assert_eq!(parse("[1001, 3]"), None);
    }

    #[test]
    fn names_that_cannot_be_parsed_cause_a_warning() {
        let parse = |names: &str| Metadata::parse(&HashMap::from([("names".to_owned(), names.to_owned())]));
        assert!(parse("{0: 'a'}").warnings.is_empty());
        let broken = parse("person, car");
        assert!(broken.names.is_none() && broken.warnings[0].contains("label-file"), "{broken:?}");
    }
}
