// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties of the lanes' elements: those that the user sets are the same in all lanes, those that the user leaves at automatic are
//! set by the plan.
//!
//! Whether the user has set a property is known from its notifications, not from its value, which may be equal to a planned one.
//!
//! Thread rule: any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

use gst::glib;
use gst::prelude::*;
use parking_lot::Mutex;

use super::lane::Lane;
use super::plan::LanePlan;

/// Copies properties to all lanes; see the module.
#[derive(Default)]
pub(super) struct ChildProperties {
    /// Which of the planned properties the user has set.
    is_set: [AtomicBool; 2],
    /// The thread that is setting planned values.
    planner: Mutex<Option<ThreadId>>,
}

/// Returns the properties that the plan sets.
fn planned_properties(lane: &Lane) -> [(&gst::Element, &'static str); 2] {
    [(&lane.decoder, "threads"), (&lane.detector, "max-inflight")]
}

impl ChildProperties {
    /// Records what the user sets on `first`, the lane that the others copy.
    pub fn watch(self: &Arc<Self>, first: &Lane) {
        for (index, (element, name)) in planned_properties(first).into_iter().enumerate() {
            let properties = Arc::clone(self);
            element.connect_notify(Some(name), move |element, _| {
                if *properties.planner.lock() != Some(std::thread::current().id()) {
                    // 0 is automatic.
                    let is_set = element.property::<u32>(name) != 0;
                    properties.is_set[index].store(is_set, Ordering::Release);
                }
            });
        }
    }

    /// Copies the properties of the first lane to all, and sets the values of `plan` where they are automatic; `plan` then has the
    /// values in use.
    pub fn apply(&self, lanes: &[Lane], plan: &mut LanePlan) {
        let Some((first, others)) = lanes.split_first() else { return };
        *self.planner.lock() = Some(std::thread::current().id());
        let values = [&mut plan.decoder_threads, &mut plan.frames_in_flight];
        for (value, ((element, name), is_set)) in
            values.into_iter().zip(planned_properties(first).into_iter().zip(&self.is_set))
        {
            if is_set.load(Ordering::Acquire) {
                *value = element.property::<u32>(name) as usize;
            } else {
                element.set_property(name, u32::try_from(*value).unwrap_or(u32::MAX));
            }
        }
        *self.planner.lock() = None;
        for other in others {
            copy_properties(&first.decoder, &other.decoder);
            copy_properties(&first.detector, &other.detector);
            copy_properties(&first.encoder, &other.encoder);
        }
    }
}

/// Copies all settable properties, of any type, from `from` to `to`.
fn copy_properties(from: &gst::Element, to: &gst::Element) {
    let is_setting = |property: &glib::ParamSpec| {
        let flags = property.flags();
        flags.contains(glib::ParamFlags::READWRITE)
            && !flags.contains(glib::ParamFlags::CONSTRUCT_ONLY)
            && !["name", "parent"].contains(&property.name())
    };
    for property in from.list_properties().iter().filter(|property| is_setting(property)) {
        to.set_property_from_value(property.name(), &from.property_value(property.name()));
    }
}
