// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detections as GstAnalyticsRelationMeta, which GStreamer's own overlay, tracker and ONVIF elements read.
//!
//! Each is an object-detection entry whose type is the label, with a related classification entry of the same label: some elements
//! read the one, some the other.

use gst::glib;
use gst_analytics::prelude::*;
use gst_analytics::{
    AnalyticsClassificationMtd, AnalyticsODMtd, AnalyticsRelationMeta, AnalyticsRelationMetaClassificationExt,
    AnalyticsRelationMetaODExt, RelTypes,
};

use super::{Edges, Found};
use crate::detect::{Details, Detection, Labels};

/// Adds `detections` to the meta on `buffer`, or to a new one.
pub fn write(buffer: &mut gst::BufferRef, detections: &[Detection], labels: &Labels, width: u32, height: u32) {
    if buffer.meta::<AnalyticsRelationMeta>().is_none() {
        AnalyticsRelationMeta::add(buffer);
    }
    for detection in detections {
        let Some(mut meta) = buffer.meta_mut::<AnalyticsRelationMeta>() else { return };
        let label = glib::Quark::from_str(&*labels.name(detection.class_id));
        let (x, y, w, h) = Edges::of(detection, width, height).rectangle();
        let side = |length: u32| i32::try_from(length).unwrap_or(i32::MAX);
        // Detections that do not fit into the meta are omitted there; the frame keeps its other metas.
        let found = meta.add_od_mtd(label, side(x), side(y), side(w), side(h), detection.confidence);
        let Ok(found) = found.map(|found| found.id()) else { return };
        let class = meta.add_one_cls_mtd(detection.confidence, label).map(|class| class.id());
        if let Ok(class) = class {
            let related = meta.set_relation(RelTypes::RELATE_TO, found, class);
            let back = meta.set_relation(RelTypes::RELATE_TO, class, found);
            if related.is_err() || back.is_err() {
                return;
            }
        }
    }
}

/// Returns the detections in the metas on `buffer`.
pub fn read(buffer: &gst::BufferRef) -> Vec<Found> {
    let Some(meta) = buffer.meta::<AnalyticsRelationMeta>() else { return Vec::new() };
    let found = meta.iter::<AnalyticsODMtd>().filter_map(|entry| {
        let place = entry.location().ok()?;
        let related = || {
            let mut classes = meta.iter_direct_related::<AnalyticsClassificationMtd>(entry.id(), RelTypes::RELATE_TO);
            classes.next().filter(|class| !class.is_empty()).map(|class| class.quark(0))
        };
        let label = entry.obj_type().or_else(related).map(|label| label.as_str().to_string()).unwrap_or_default();
        Some(Found {
            label,
            class_id: None,
            confidence: Some(f64::from(place.loc_conf_lvl)),
            rectangle: [place.x, place.y, place.w, place.h].map(f64::from),
            details: Details::default(),
        })
    });
    found.collect()
}
