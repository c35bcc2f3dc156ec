// SPDX-License-Identifier: MIT OR Apache-2.0
//! The schema of a JSON line, version 2.
//!
//! Version 2 gave each field one type in all lines: the number of detections in a summary, `detections` in version 1, is
//! `detection_count`.
//!
//! Fields are only ever added within a version; readers should leave aside what they do not know.

use serde::Serialize;

use crate::elements::detector::Detector;
use crate::meta::Found;

/// Version of this schema, in each line's `schema`.
pub const SCHEMA: u32 = 2;

/// The line before a stream's first, where it is asked for.
#[derive(Debug, Serialize, PartialEq)]
pub struct Header<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// No frame has this field.
    pub header: About<'a>,
}

/// What the lines after it come from.
#[derive(Debug, Serialize, PartialEq)]
pub struct About<'a> {
    /// As in the frames' lines.
    pub file: Option<&'a str>,
    /// Model, provider, device, precision; null where upstream does not tell.
    pub detector: Option<&'a Detector>,
}

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
    /// False for a frame that the detector passed on without a look (`inference-interval`, a copy made by `videorate`): its
    /// detections, if any, are those of an earlier frame. Not there for frames that were looked at.
    #[serde(skip_serializing_if = "is_true")]
    pub looked: bool,
    /// Detections that an element between detector and `vxjsonenc` has dropped; not there if none was.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost: usize,
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
    /// Keypoints: x and y in pixels of the frame, confidence 0..1; not there for models without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keypoints: Vec<[f64; 3]>,
    /// Centre x and y, width, height in pixels of the frame, and rotation in radians clockwise; not there for upright boxes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotated_box: Option<[f64; 5]>,
    /// Which part of the box the object is; not there for models that do not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Mask>,
}

/// A grid over a box, row by row.
#[derive(Debug, Serialize, PartialEq)]
pub struct Mask {
    /// Rows and columns of the grid.
    pub size: [usize; 2],
    /// Lengths of runs, the first of what is not the object, then in turn.
    pub counts: Vec<usize>,
}

impl From<crate::detect::Mask> for Mask {
    fn from(mask: crate::detect::Mask) -> Self {
        let (mut counts, mut is_object) = (vec![0], false);
        for value in &mask.values {
            if (*value >= 128) != is_object {
                is_object = !is_object;
                counts.push(0);
            }
            if let Some(last) = counts.last_mut() {
                *last += 1;
            }
        }
        Self { size: [mask.height, mask.width], counts }
    }
}

impl From<Found> for Detection {
    fn from(found: Found) -> Self {
        let keypoints = found.details.keypoints.iter().map(|[x, y, confidence]| {
            [rounded((*x).into(), 1e2), rounded((*y).into(), 1e2), rounded((*confidence).into(), 1e4)]
        });
        Self {
            label: found.label,
            class_id: found.class_id,
            confidence: found.confidence.map(|confidence| rounded(confidence, 1e4)),
            rectangle: found.rectangle.map(|pixels| rounded(pixels, 1e2)),
            keypoints: keypoints.collect(),
            rotated_box: found.details.rotated.map(|turned| {
                let [x, y, w, h] =
                    [turned.x, turned.y, turned.width, turned.height].map(|side| rounded(side.into(), 1e2));
                [x, y, w, h, rounded(turned.angle.into(), 1e4)]
            }),
            mask: found.details.mask.map(Mask::from),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_true(value: &bool) -> bool {
    *value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_tasks_add_stands_behind_the_box() {
        use crate::detect;
        let details = detect::Details {
            keypoints: vec![[1.5, 2.25, 0.875]],
            rotated: Some(detect::Rotated { x: 4.0, y: 5.0, width: 6.0, height: 2.0, angle: 0.5 }),
            mask: Some(detect::Mask { width: 3, height: 2, values: vec![0, 200, 255, 128, 127, 0] }),
        };
        let found = Found { label: "a".into(), class_id: None, confidence: None, rectangle: [0.0; 4], details };
        let text = serde_json::to_string(&Detection::from(found)).unwrap();
        let expected = r#","keypoints":[[1.5,2.25,0.875]],"rotated_box":[4.0,5.0,6.0,2.0,0.5],"mask":{"size":[2,3],"counts":[1,3,2]}}"#;
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_line_is_what_the_readme_shows() {
        let found = Found {
            label: "a \"dog\"".into(),
            class_id: Some(16),
            confidence: Some(0.123456),
            rectangle: [1.0, 2.004, 3.5, 4.006],
            details: Default::default(),
        };
        let record = Record {
            schema: SCHEMA,
            file: None,
            pts_ns: Some(-40),
            keyframe: true,
            looked: true,
            lost: 0,
            width: 64,
            height: 48,
            detections: vec![found.into()],
        };
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"schema":2,"file":null,"pts_ns":-40,"width":64,"height":48,"detections":[{"label":"a \"dog\"","class_id":16,"confidence":0.1235,"box":[1.0,2.0,3.5,4.01]}]}"#
        );
    }
}
