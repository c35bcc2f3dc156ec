// SPDX-License-Identifier: MIT OR Apache-2.0
//! A frame's line and the detections in it.

use serde::{Deserialize, Serialize};

use super::SCHEMA;
use crate::meta::Found;

/// One frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Path of the file or URI of the source; null where unknown.
    pub file: Option<String>,
    /// Presentation time of the container in nanoseconds (ffprobe's `pts_time`); null where the container has none.
    pub pts_ns: Option<i64>,
    /// False for a frame between keyframes (`max-gap` of `vxkeyframedec`); absent for keyframes.
    #[serde(rename = "keyframe", default = "yes", skip_serializing_if = "is_true")]
    pub is_keyframe: bool,
    /// False for a frame that the detector did not analyse (`inference-interval`, a copy made by `videorate`): its detections, if
    /// any, are those of an earlier frame. Absent for analysed frames.
    #[serde(rename = "looked", default = "yes", skip_serializing_if = "is_true")]
    pub is_analysed: bool,
    /// Detections that an element between detector and `vxjsonenc` has dropped; absent if there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: usize,
    /// Width of the frame in pixels.
    pub width: u32,
    /// Height of the frame in pixels.
    pub height: u32,
    /// Detections, by falling confidence.
    pub detections: Vec<Detection>,
}

/// One detected object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Name of the class.
    pub label: String,
    /// Index of the class in the model; null where the writer of the meta did not set it.
    pub class_id: Option<i32>,
    /// 0..1, four digits; null where the writer of the meta did not set it.
    pub confidence: Option<f64>,
    /// x, y, width and height in pixels of the frame, two digits.
    #[serde(rename = "box")]
    pub rectangle: [f64; 4],
    /// Keypoints: x and y in pixels of the frame, confidence 0..1; absent for models without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keypoints: Vec<[f64; 3]>,
    /// Centre x and y, width, height in pixels of the frame, and rotation in radians clockwise; absent for upright boxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_box: Option<[f64; 5]>,
    /// The part of the box that the object covers; absent for models without masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Mask>,
}

/// A grid over a box, row by row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mask {
    /// Rows and columns of the grid.
    pub size: [usize; 2],
    /// Lengths of runs, the first of background, then in turn object and background.
    pub counts: Vec<usize>,
}

impl Frame {
    /// Creates the record of an analysed keyframe of `width` x `height` pixels.
    #[must_use]
    pub fn new(file: Option<String>, pts_ns: Option<i64>, width: u32, height: u32) -> Self {
        Self {
            schema: SCHEMA,
            file,
            pts_ns,
            is_keyframe: true,
            is_analysed: true,
            lost: 0,
            width,
            height,
            detections: Vec::new(),
        }
    }

    /// Returns the time in seconds on the container's clock.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        // A division rounds once, so that the shortest decimal is the expected one.
        self.pts_ns.map(|pts_ns| pts_ns as f64 / 1e9)
    }

    /// Returns it as a line with its line feed.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        super::to_line(self)
    }

    /// Reads the line of a frame.
    ///
    /// # Errors
    /// The parser's reason for a line that is not a frame.
    pub fn from_line(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }
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

fn yes() -> bool {
    true
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
        let mut frame = Frame { detections: vec![found.into()], ..Frame::new(None, Some(-40), 64, 48) };
        assert_eq!(
            String::from_utf8(frame.to_line()).unwrap().trim_end(),
            r#"{"schema":2,"file":null,"pts_ns":-40,"width":64,"height":48,"detections":[{"label":"a \"dog\"","class_id":16,"confidence":0.1235,"box":[1.0,2.0,3.5,4.01]}]}"#
        );
        assert_eq!(Frame::from_line(&frame.to_line()).unwrap(), frame);
        (frame.is_keyframe, frame.is_analysed, frame.lost) = (false, false, 3);
        let line = frame.to_line();
        assert!(line.starts_with(br#"{"schema":2,"file":null,"pts_ns":-40,"keyframe":false,"looked":false,"lost":3,"#));
        assert_eq!(Frame::from_line(&line).unwrap(), frame);
        assert!(Frame::from_line(b"{}").is_err());
    }
}
