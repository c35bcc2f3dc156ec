// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results of other tasks than detection, as parameter structures of an object's region-of-interest meta.
//!
//! `keypoints`: `x`, `y` (arrays of double, fractions of the frame) and `confidence` (array of double, 0..1). `rotated-box`:
//! `center_x`, `center_y`, `width`, `height` (double, in pixels) and `rotation` (double, radians clockwise).
//! `segmentation`: `width`, `height` (int) and `data` (GstBuffer): a grid over the box, row by row, 0 to 255, at least 128 on the
//! object.

use crate::detect::{Details, Mask, Rotated};

const KEYPOINTS: &str = "keypoints";
const ROTATED: &str = "rotated-box";
const SEGMENTATION: &str = "segmentation";

/// Returns the structures for an object in a frame of `width` x `height` pixels.
pub fn structures(details: &Details, width: f64, height: f64) -> Vec<gst::Structure> {
    let mut structures = Vec::new();
    if !details.keypoints.is_empty() {
        let array = |part: fn(&[f32; 3]) -> f32, whole: f64| {
            gst::Array::new(details.keypoints.iter().map(|point| f64::from(part(point)) / whole))
        };
        let structure = gst::Structure::builder(KEYPOINTS)
            .field("x", array(|point| point[0], width))
            .field("y", array(|point| point[1], height))
            .field("confidence", array(|point| point[2], 1.0));
        structures.push(structure.build());
    }
    if let Some(rotated) = details.rotated {
        let structure = gst::Structure::builder(ROTATED)
            .field("center_x", f64::from(rotated.x))
            .field("center_y", f64::from(rotated.y))
            .field("width", f64::from(rotated.width))
            .field("height", f64::from(rotated.height))
            .field("rotation", f64::from(rotated.angle));
        structures.push(structure.build());
    }
    if let Some(mask) = &details.mask {
        let side = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
        let structure = gst::Structure::builder(SEGMENTATION)
            .field("width", side(mask.width))
            .field("height", side(mask.height))
            .field("data", gst::Buffer::from_slice(mask.values.clone()));
        structures.push(structure.build());
    }
    structures
}

/// Reads `structure` into `details`, if it is one of the above.
pub fn take(structure: &gst::StructureRef, details: &mut Details, width: f64, height: f64) {
    let number =
        |name: &str| structure.get::<f64>(name).ok().filter(|value| value.is_finite()).map(|value| value as f32);
    match structure.name().as_str() {
        KEYPOINTS => {
            let array = |name: &str| -> Vec<f64> {
                let values = structure.get::<gst::Array>(name).ok();
                values.iter().flat_map(|array| array.iter().filter_map(|value| value.get::<f64>().ok())).collect()
            };
            let (x, y, confidence) = (array("x"), array("y"), array("confidence"));
            let points = x.iter().zip(&y).zip(&confidence);
            details.keypoints = points
                .map(|((x, y), confidence)| [(x * width) as f32, (y * height) as f32, *confidence as f32])
                .collect();
        }
        ROTATED => {
            let parts = ["center_x", "center_y", "width", "height", "rotation"].map(number);
            if let [Some(x), Some(y), Some(width), Some(height), Some(angle)] = parts {
                details.rotated = Some(Rotated { x, y, width, height, angle });
            }
        }
        SEGMENTATION => {
            let side = |name: &str| structure.get::<i32>(name).ok().and_then(|side| usize::try_from(side).ok());
            let data =
                structure.get::<gst::Buffer>("data").ok().and_then(|data| data.into_mapped_buffer_readable().ok());
            if let (Some(width), Some(height), Some(data)) = (side("width"), side("height"), data)
                && width.checked_mul(height) == Some(data.len())
            {
                details.mask = Some(Mask { width, height, values: data.to_vec() });
            }
        }
        _ => {}
    }
}

/// Moves keypoints and rotated box as their box was moved: `from` and `to` are left, top, width and height.
pub fn transform(details: &mut Details, from: [f64; 4], to: [f64; 4]) {
    for point in &mut details.keypoints {
        let [x, y] = moved([point[0], point[1]], from, to);
        (point[0], point[1]) = (x, y);
    }
    if let Some(rotated) = &mut details.rotated {
        *rotated = moved_box(*rotated, from, to);
    }
}

/// Returns the rotated box after `from` has become `to`.
pub fn moved_box(rotated: Rotated, from: [f64; 4], to: [f64; 4]) -> Rotated {
    let [x, y] = moved([rotated.x, rotated.y], from, to);
    let [across, down] = scales(from, to).map(|scale| scale as f32);
    Rotated { x, y, ..rotated.scaled(across, down) }
}

fn scales(from: [f64; 4], to: [f64; 4]) -> [f64; 2] {
    let scale = |from: f64, to: f64| if from > 0.0 { to / from } else { 1.0 };
    [scale(from[2], to[2]), scale(from[3], to[3])]
}

fn moved([x, y]: [f32; 2], from: [f64; 4], to: [f64; 4]) -> [f32; 2] {
    let [across, down] = scales(from, to);
    let along = |value: f32, from: f64, to: f64, scale: f64| ((f64::from(value) - from) * scale + to) as f32;
    [along(x, from[0], to[0], across), along(y, from[1], to[1], down)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_move_and_grow_with_their_box() {
        let rotated = Rotated { x: 20.0, y: 30.0, width: 8.0, height: 4.0, angle: 0.0 };
        let mut details = Details { keypoints: vec![[20.0, 30.0, 0.5]], rotated: Some(rotated), mask: None };
        transform(&mut details, [10.0, 10.0, 20.0, 40.0], [0.0, 5.0, 40.0, 20.0]);
        assert_eq!(details.keypoints, [[20.0, 15.0, 0.5]]);
        let wanted = Rotated { x: 20.0, y: 15.0, width: 16.0, height: 2.0, angle: 0.0 };
        assert_eq!(details.rotated, Some(wanted));
        let quarter = Rotated { angle: std::f32::consts::FRAC_PI_2, ..rotated };
        let moved = moved_box(quarter, [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 20.0, 5.0]);
        assert!((moved.width - 4.0).abs() < 1e-4 && (moved.height - 8.0).abs() < 1e-4, "{moved:?}");
    }
}
