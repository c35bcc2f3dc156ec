// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detections as GstMeta on a frame's buffer, and back.
//!
//! Each detection is a GstVideoRegionOfInterestMeta whose type is the label. Its parameter structure `detection` holds what the
//! integer rectangle cannot: `confidence` (double, 0..1), `label_id` (int), `label` (string), and `x_min`, `x_max`, `y_min`, `y_max`
//! (double, fractions of the frame), which Intel DL Streamer's elements read.
//!
//! A meta of this plugin records for each frame whether inference ran on it, and keeps what converters drop (frame_meta.rs).
//!
//! Builds with the feature `analytics` write and read GstAnalyticsRelationMeta as well.

#![forbid(unsafe_code)]

#[cfg(feature = "analytics")]
mod analytics;
mod details;
mod frame_meta;

use self::frame_meta::{Entry, Record};
use crate::detect::{Details, Detection, Labels};

/// Name of the parameter structure.
const PARAMETER: &str = "detection";

/// Most pixels between an integer rectangle and the exact one that it was rounded from. Converters that enlarge the rectangle enlarge
/// this too.
const ROUNDING: f64 = 1.5;

/// The detections of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameDetections {
    /// Detections whose metas are still on the frame.
    pub found: Vec<Found>,
    /// False if this plugin's detector skipped inference on the frame: the detections are then those of an earlier frame.
    pub is_looked_at: bool,
    /// Detections whose metas an element between detector and reader has dropped.
    pub lost: usize,
}

/// A detection read from a buffer, whatever element wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Name of the class.
    pub label: String,
    /// Index of the class, where the writer specified it.
    pub class_id: Option<i32>,
    /// 0..1, where the writer specified it.
    pub confidence: Option<f64>,
    /// Left, top, width and height in pixels of the frame.
    pub rectangle: [f64; 4],
    /// Keypoints, rotated box, mask, where the writer specified them.
    pub details: Details,
}

impl Found {
    /// Creates it from a detection on a frame of this width and height in pixels, as if it had been written into a meta and read back.
    #[must_use]
    pub fn of_detection(detection: Detection, label: String, (width, height): (usize, usize)) -> Self {
        let clamped = |edge: f32, side: usize| f64::from(edge).clamp(0.0, side as f64) / side as f64 * side as f64;
        let [left, right] = [detection.x_min, detection.x_max].map(|edge| clamped(edge, width));
        let [top, bottom] = [detection.y_min, detection.y_max].map(|edge| clamped(edge, height));
        Self {
            label,
            class_id: i32::try_from(detection.class_id).ok(),
            confidence: Some(f64::from(detection.confidence)),
            rectangle: [left, top, right - left, bottom - top],
            details: detection.details,
        }
    }
}

/// Which metas are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds {
    /// GstVideoRegionOfInterestMeta.
    pub roi: bool,
    /// GstAnalyticsRelationMeta; ignored in builds without it.
    pub analytics: bool,
}

impl Kinds {
    /// Whether this build supports GstAnalyticsRelationMeta.
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

    /// Returns left, top, width and height. Edges are rounded once, and the size follows from them: both stay inside the frame.
    fn rectangle(&self) -> (u32, u32, u32, u32) {
        let [left, right, top, bottom] = [self.x[0], self.x[1], self.y[0], self.y[1]].map(|edge| edge.round() as u32);
        (left, top, right - left, bottom - top)
    }
}

/// Marks a frame on which the detector skips inference and which gets no detections.
pub fn write_skipped(buffer: &mut gst::BufferRef, (width, height): (u32, u32)) {
    frame_meta::write(buffer, Record { size: [width, height], ..Record::default() });
}

/// Adds `detections` to `buffer`, a frame of `width` x `height` pixels. `is_looked_at` is false where they come from an earlier
/// frame.
pub fn write(
    buffer: &mut gst::BufferRef,
    detections: &[Detection],
    labels: &Labels,
    (width, height): (u32, u32),
    kinds: Kinds,
    is_looked_at: bool,
) {
    #[cfg(feature = "analytics")]
    if kinds.analytics {
        analytics::write(buffer, detections, labels, width, height);
    }
    let size = [width, height];
    if !kinds.roi {
        let analytics = u32::try_from(detections.len()).unwrap_or(u32::MAX);
        frame_meta::write(buffer, Record { is_looked_at, size, entries: Vec::new(), analytics });
        return;
    }
    let metas = buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>();
    let first_id = metas.map(|meta| meta.id()).max().unwrap_or(0).saturating_add(1);
    let mut entries = Vec::with_capacity(detections.len());
    let (frame_width, frame_height) = (f64::from(width), f64::from(height));
    for (id, detection) in (first_id..).zip(detections) {
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
        let mut parameters = vec![parameter];
        parameters.extend(details::structures(&detection.details, frame_width, frame_height));
        let mut meta = gst_video::VideoRegionOfInterestMeta::add(buffer, &label, edges.rectangle());
        meta.set_id(id);
        parameters.iter().for_each(|parameter| meta.add_param(parameter.clone()));
        entries.push(Entry { id, label: label.into_owned(), parameters });
    }
    frame_meta::write(buffer, Record { is_looked_at, size, entries, analytics: 0 });
}

/// Whether the meta of a detector of this plugin is on `buffer`: it is on each frame that has passed through one.
#[must_use]
pub fn has_record(buffer: &gst::BufferRef) -> bool {
    frame_meta::read(buffer).is_some()
}

/// Returns the detections on `buffer`, a frame of `width` x `height` pixels: those of region-of-interest metas, which hold more,
/// or if there are none, those of analytics metas.
#[must_use]
pub fn read(buffer: &gst::BufferRef, width: u32, height: u32) -> FrameDetections {
    let record = frame_meta::read(buffer);
    let is_looked_at = record.as_ref().is_none_or(|record| record.is_looked_at);
    let record = record.unwrap_or_default();
    let entries = &record.entries;
    let metas = || buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>();
    let found: Vec<_> = metas().map(|meta| from_roi(&meta, &record, f64::from(width), f64::from(height))).collect();
    let is_there = |entry: &&Entry| metas().any(|meta| meta.id() == entry.id && meta.roi_type() == entry.label);
    let lost = entries.iter().filter(|entry| !is_there(entry)).count();
    #[cfg(feature = "analytics")]
    if found.is_empty() {
        let found = analytics::read(buffer);
        let lost = if found.is_empty() { lost + record.analytics as usize } else { 0 };
        return FrameDetections { found, is_looked_at, lost };
    }
    FrameDetections { found, is_looked_at, lost }
}

/// Converts a meta with its parameters, or those of its entry in `record` where converters have dropped them.
fn from_roi(
    meta: &gst_video::VideoRegionOfInterestMeta,
    record: &Record,
    frame_width: f64,
    frame_height: f64,
) -> Found {
    let (x, y, width, height) = meta.rect();
    let rectangle = [x, y, width, height].map(f64::from);
    let mut found = Found {
        label: meta.roi_type().to_owned(),
        class_id: None,
        confidence: None,
        rectangle,
        details: Details::default(),
    };
    let own: Vec<_> = meta.params().map(gst::StructureRef::to_owned).collect();
    let from_entry = || record.entries.iter().find(|entry| entry.id == meta.id() && entry.label == found.label);
    let has_own = own.iter().any(|parameter| parameter.name() == PARAMETER);
    let parameters = if has_own { own } else { from_entry().map_or(own, |entry| entry.parameters.clone()) };
    for parameter in &parameters {
        details::take(parameter, &mut found.details, frame_width, frame_height);
    }
    if let Some(turned) = found.details.rotated.as_mut().filter(|_| !has_own) {
        let [before, now] = [record.size.map(f64::from), [frame_width, frame_height]].map(|[w, h]| [0.0, 0.0, w, h]);
        *turned = details::moved_box(*turned, before, now);
    }
    let Some(parameter) = parameters.iter().find(|parameter| parameter.name() == PARAMETER) else { return found };
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
        let exact = [left, top, x_max * frame_width - left, y_max * frame_height - top];
        // An element that moves a meta, such as a crop, moves its rectangle and leaves its parameters.
        let [before, now] = [record.size.map(f64::from), [frame_width, frame_height]];
        let growth = before.iter().zip(now).filter(|(before, _)| **before > 0.0).map(|(before, now)| now / before);
        let tolerance = ROUNDING * growth.fold(1.0, f64::max);
        if exact.iter().zip(rectangle).all(|(exact, rounded)| (exact - rounded).abs() <= tolerance) {
            found.rectangle = exact;
        } else {
            details::transform(&mut found.details, exact, rectangle);
        }
    }
    found
}
