//! Properties that cannot change while an element is at work.

use gst::glib;
use gst::prelude::*;

/// Whether `element` is past READY, where a change of `property` would have no effect. It then says so in a warning, and the
/// caller must leave the property as it is.
///
/// Call it without a lock: whoever gets the message may ask for properties.
pub fn is_refused(element: &impl IsA<gst::Element>, property: &glib::ParamSpec) -> bool {
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
            "{} cannot change while {} is {state:?}: it stays as it is. Set it in READY or NULL",
            property.name(),
            element.name()
        )
    );
    true
}
