// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rejects changes of properties that cannot change while an element runs.

use gst::glib;
use gst::prelude::*;

/// Rejects a change of `property` if `element` is past READY and the change would have no effect: posts a warning and returns true.
/// The caller then leaves the property unchanged.
///
/// Call it without holding a lock: the receiver of the message may read properties.
pub fn rejects_change(element: &impl IsA<gst::Element>, property: &glib::ParamSpec) -> bool {
    let always = gst::PARAM_FLAG_MUTABLE_PLAYING | gst::PARAM_FLAG_MUTABLE_PAUSED;
    if property.flags().intersects(always) || element.current_state() <= gst::State::Ready {
        return false;
    }
    let element = element.upcast_ref::<gst::Element>();
    let state = element.current_state();
    gst::element_warning!(
        element,
        gst::LibraryError::Settings,
        (
            "{} cannot change while {} is {state:?}; it is unchanged. Set it in READY or NULL",
            property.name(),
            element.name()
        )
    );
    true
}
