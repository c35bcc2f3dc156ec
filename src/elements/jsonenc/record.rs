//! The schema of a JSON line, version 1.
//!
//! Fields are only ever added within a version; readers should leave aside what they do not know.

use serde::Serialize;

use crate::meta::Found;

/// Version of this schema, in each line's `schema`.
pub const SCHEMA: u32 = 1;

/// One frame.
#[derive(Debug, Serialize, PartialEq)]
pub struct Record<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Path of the file or URI of the source; null where unknown.
    pub file: Option<&'a str>,
    /// Presentation time of the container in nanoseconds (ffprobe's `pts_time`); null where the container has none.
    pub pts_ns: Option<i64>,
    /// False for a frame that is no keyframe (`max-gap` of `vxkeyframedec`); not there for keyframes.
    #[serde(skip_serializing_if = "is_true")]
    pub keyframe: bool,
    /// Width of the frame in pixels.
    pub width: u32,
    /// Height of the frame in pixels.
    pub height: u32,
    /// What was found, by falling confidence; empty where nothing was.
    pub detections: Vec<Detection>,
}

/// One object.
#[derive(Debug, Serialize, PartialEq)]
pub struct Detection {
    /// Name of the class.
    pub label: String,
    /// Index of the class in the model; null where the writer of the meta did not say it.
    pub class_id: Option<i32>,
    /// 0..1, four digits; null where the writer of the meta did not say it.
    pub confidence: Option<f64>,
    /// x, y, width and height in pixels of the frame, two digits.
    #[serde(rename = "box")]
    pub rectangle: [f64; 4],
}

impl From<Found> for Detection {
    fn from(found: Found) -> Self {
        Self {
            label: found.label,
            class_id: found.class_id,
            confidence: found.confidence.map(|confidence| rounded(confidence, 1e4)),
            rectangle: found.rectangle.map(|pixels| rounded(pixels, 1e2)),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_true(value: &bool) -> bool {
    *value
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_the_readme_shows() {
        let found = Found {
            label: "a \"dog\"".into(),
            class_id: Some(16),
            confidence: Some(0.123456),
            rectangle: [1.0, 2.004, 3.5, 4.006],
        };
        let record = Record {
            schema: SCHEMA,
            file: None,
            pts_ns: Some(-40),
            keyframe: true,
            width: 64,
            height: 48,
            detections: vec![found.into()],
        };
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"schema":1,"file":null,"pts_ns":-40,"width":64,"height":48,"detections":[{"label":"a \"dog\"","class_id":16,"confidence":0.1235,"box":[1.0,2.0,3.5,4.01]}]}"#
        );
    }
}
