//! What models with other tasks than detection tell of an object, as parameter structures of its region-of-interest meta.
//!
//! `keypoints`: `x`, `y` (arrays of double, 0..1 of the frame) and `confidence` (array of double, 0..1). `rotated-box`:
//! `center_x`, `center_y`, `width`, `height` (double, in pixels) and `rotation` (double, radians clockwise).
//! `segmentation`: `width`, `height` (int) and `data` (GstBuffer): a grid over the box, row by row, 0 to 255, from 128 on the
//! object.

use crate::detect::{Details, Mask, Rotated};

const KEYPOINTS: &str = "keypoints";
const ROTATED: &str = "rotated-box";
const SEGMENTATION: &str = "segmentation";

/// The structures for an object in a frame of `width` x `height` pixels.
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
    if let Some(turned) = details.rotated {
        let structure = gst::Structure::builder(ROTATED)
            .field("center_x", f64::from(turned.x))
            .field("center_y", f64::from(turned.y))
            .field("width", f64::from(turned.width))
            .field("height", f64::from(turned.height))
            .field("rotation", f64::from(turned.angle));
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

/// Takes what `structure` says into `details`, if it is one of the above.
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
