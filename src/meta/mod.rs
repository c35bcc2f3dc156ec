//! Detections as GstMeta on a frame's buffer, and back.
//!
//! Each detection is a GstVideoRegionOfInterestMeta whose type is the label. Its parameter structure `detection` holds
//! what the integer rectangle cannot: `confidence` (double, 0..1), `label_id` (int), `label` (string), and `x_min`,
//! `x_max`, `y_min`, `y_max` (double, 0..1 of the frame), which is what Intel DL Streamer's elements read.
//!
//! Builds with the feature `analytics` write and read GstAnalyticsRelationMeta as well.

#![forbid(unsafe_code)]

#[cfg(feature = "analytics")]
mod analytics;
mod details;

use crate::detect::{Details, Detection, Labels};

/// Name of the parameter structure.
const PARAMETER: &str = "detection";

/// A detection as read from a buffer, whoever wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Name of the class.
    pub label: String,
    /// Index of the class, where the writer said it.
    pub class_id: Option<i32>,
    /// 0..1, where the writer said it.
    pub confidence: Option<f64>,
    /// Left, top, width and height in pixels of the frame.
    pub rectangle: [f64; 4],
    /// Keypoints, turned box, mask, where the writer said them.
    pub details: Details,
}

/// Which metas are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds {
    /// GstVideoRegionOfInterestMeta.
    pub roi: bool,
    /// GstAnalyticsRelationMeta; nothing in builds without it.
    pub analytics: bool,
}

impl Kinds {
    /// Whether this build knows GstAnalyticsRelationMeta.
    pub const HAS_ANALYTICS: bool = cfg!(feature = "analytics");
}

/// Edges of a detection within the frame, in pixels.
struct Edges {
    x: [f64; 2],
    y: [f64; 2],
}

impl Edges {
    fn of(detection: &Detection, width: u32, height: u32) -> Self {
        Self {
            x: [detection.x_min, detection.x_max].map(|x| f64::from(x).clamp(0.0, f64::from(width))),
            y: [detection.y_min, detection.y_max].map(|y| f64::from(y).clamp(0.0, f64::from(height))),
        }
    }

    /// Left, top, width and height. Edges are rounded, once, and the size follows from them: both stay inside the frame.
    fn rectangle(&self) -> (u32, u32, u32, u32) {
        let [left, right, top, bottom] = [self.x[0], self.x[1], self.y[0], self.y[1]].map(|edge| edge.round() as u32);
        (left, top, right - left, bottom - top)
    }
}

/// Adds `detections` to `buffer`, a frame of `width` x `height` pixels.
pub fn write(
    buffer: &mut gst::BufferRef,
    detections: &[Detection],
    labels: &Labels,
    (width, height): (u32, u32),
    kinds: Kinds,
) {
    #[cfg(feature = "analytics")]
    if kinds.analytics {
        analytics::write(buffer, detections, labels, width, height);
    }
    if !kinds.roi {
        return;
    }
    let (frame_width, frame_height) = (f64::from(width), f64::from(height));
    for detection in detections {
        let label = labels.name(detection.class_id);
        let edges = Edges::of(detection, width, height);
        let parameter = gst::Structure::builder(PARAMETER)
            .field("confidence", f64::from(detection.confidence))
            .field("label_id", i32::try_from(detection.class_id).unwrap_or(i32::MAX))
            .field("label", label.as_ref())
            .field("x_min", edges.x[0] / frame_width)
            .field("x_max", edges.x[1] / frame_width)
            .field("y_min", edges.y[0] / frame_height)
            .field("y_max", edges.y[1] / frame_height)
            .build();
        let mut meta = gst_video::VideoRegionOfInterestMeta::add(buffer, &label, edges.rectangle());
        meta.add_param(parameter);
        for structure in details::structures(&detection.details, frame_width, frame_height) {
            meta.add_param(structure);
        }
    }
}

/// The detections on `buffer`, a frame of `width` x `height` pixels: those of region-of-interest metas, which say more, or
/// where there are none those of analytics metas.
#[must_use]
pub fn read(buffer: &gst::BufferRef, width: u32, height: u32) -> Vec<Found> {
    let metas = buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>();
    let found: Vec<_> = metas.map(|meta| from_roi(&meta, f64::from(width), f64::from(height))).collect();
    #[cfg(feature = "analytics")]
    if found.is_empty() {
        return analytics::read(buffer);
    }
    found
}

fn from_roi(meta: &gst_video::VideoRegionOfInterestMeta, frame_width: f64, frame_height: f64) -> Found {
    let (x, y, width, height) = meta.rect();
    let mut found = Found {
        label: meta.roi_type().to_owned(),
        class_id: None,
        confidence: None,
        rectangle: [x, y, width, height].map(f64::from),
        details: Details::default(),
    };
    meta.params().for_each(|parameter| details::take(parameter, &mut found.details, frame_width, frame_height));
    if let Some(parameter) = meta.params().find(|parameter| parameter.name() == PARAMETER) {
        let number = |name: &str| parameter.get::<f64>(name).ok().filter(|value| value.is_finite());
        found.class_id = parameter.get("label_id").ok();
        found.confidence = number("confidence");
        if let Ok(label) = parameter.get::<String>("label") {
            found.label = label;
        }
        if let (Some(x_min), Some(x_max), Some(y_min), Some(y_max)) =
            (number("x_min"), number("x_max"), number("y_min"), number("y_max"))
        {
            let (left, top) = (x_min * frame_width, y_min * frame_height);
            found.rectangle = [left, top, x_max * frame_width - left, y_max * frame_height - top];
        }
    }
    found
}
