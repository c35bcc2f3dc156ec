// SPDX-License-Identifier: MIT OR Apache-2.0
//! A record of the detector's results for a whole frame: whether inference ran, and a copy of each detection's parameters.
//!
//! Converters (`videoconvert`, `videoscale`) scale region-of-interest metas and drop their parameters, `videocrop` drops the metas
//! too, and a frame without metas does not show whether inference ran. This GstCustomMeta, [`NAME`], has no tags, so that
//! converters keep it. Region-of-interest metas are matched to its entries by their `id`.
//!
//! Its structure: `looked` (boolean), `width` and `height` of the frame that the detector saw (uint), `detections` (array of
//! structures `entry`: `id` (int), `label` (string), `parameters` (array of the meta's parameter structures)), `analytics` (uint: the
//! number of detections that are only in a GstAnalyticsRelationMeta).

use std::sync::Once;

use gst::meta::CustomMeta;

/// Name of the meta.
pub const NAME: &str = "GstVxFrameMeta";

const LOOKED: &str = "looked";
const DETECTIONS: &str = "detections";
const ENTRY: &str = "entry";
const ANALYTICS: &str = "analytics";

/// A detection as the detector wrote it.
pub struct Entry {
    /// `id` of its region-of-interest meta.
    pub id: i32,
    /// Type of that meta.
    pub label: String,
    /// Parameters of that meta.
    pub parameters: Vec<gst::Structure>,
}

/// Results of the detectors for a frame.
#[derive(Default)]
pub struct Record {
    /// Whether any of them ran inference.
    pub is_looked_at: bool,
    /// Width and height of the frame at that time, in pixels.
    pub size: [u32; 2],
    /// Their detections in region-of-interest metas.
    pub entries: Vec<Entry>,
    /// Number of their detections that are only in an analytics meta.
    pub analytics: u32,
}

/// Registers the meta with GStreamer, once.
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Another copy of this code in the process may have registered it.
        if gst::glib::Type::from_name(format!("{NAME}-api")).is_some() {
            return;
        }
        // The record survives every kind of conversion, not only copies.
        CustomMeta::register_with_transform(NAME, &[], |to, meta, _from, _kind| {
            let source = meta.structure().to_owned();
            if CustomMeta::from_buffer(to, NAME).is_ok() {
                return true;
            }
            let Ok(mut copy) = CustomMeta::add(to, NAME) else { return false };
            for (field, value) in source.iter() {
                copy.mut_structure().set_value(field, value.clone());
            }
            true
        });
    });
}

/// Adds a detector's results for the frame in `buffer` to those of earlier detectors.
pub fn write(buffer: &mut gst::BufferRef, record: Record) {
    register();
    let Record { is_looked_at, size: [width, height], entries, analytics } = record;
    let before = read(buffer);
    let known = before.as_ref().map_or(0, |record| record.entries.len());
    if before.is_none() && CustomMeta::add(buffer, NAME).is_err() {
        return;
    }
    let before = before.unwrap_or_default();
    let Ok(mut meta) = CustomMeta::from_mut_buffer(buffer, NAME) else { return };
    let structure = meta.mut_structure();
    structure.set(LOOKED, is_looked_at || before.is_looked_at);
    structure.set("width", width);
    structure.set("height", height);
    structure.set(ANALYTICS, before.analytics.saturating_add(analytics));
    if known + entries.len() > 0 {
        let all = before.entries.into_iter().chain(entries).map(|entry| {
            let parameters = gst::Array::new(entry.parameters);
            gst::Structure::builder(ENTRY)
                .field("id", entry.id)
                .field("label", entry.label)
                .field("parameters", parameters)
                .build()
        });
        structure.set(DETECTIONS, gst::Array::new(all));
    }
}

/// Returns the results of the detectors for the frame in `buffer`; `None` if no detector of this plugin has seen it.
pub fn read(buffer: &gst::BufferRef) -> Option<Record> {
    register();
    let meta = CustomMeta::from_buffer(buffer, NAME).ok()?;
    let structure = meta.structure();
    let entries = structure.get::<gst::Array>(DETECTIONS).ok();
    let entries = entries.iter().flat_map(|array| array.iter()).filter_map(|value| {
        let entry = value.get::<gst::Structure>().ok()?;
        let parameters = entry.get::<gst::Array>("parameters").ok()?;
        Some(Entry {
            id: entry.get("id").ok()?,
            label: entry.get("label").ok()?,
            parameters: parameters.iter().filter_map(|value| value.get().ok()).collect(),
        })
    });
    let [width, height, analytics] = ["width", "height", ANALYTICS].map(|name| structure.get(name).unwrap_or(0));
    let is_looked_at = structure.get(LOOKED).unwrap_or(true);
    Some(Record { is_looked_at, size: [width, height], entries: entries.collect(), analytics })
}
