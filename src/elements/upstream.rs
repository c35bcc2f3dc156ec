//! What upstream says about where the bytes come from.

use gst::prelude::*;

/// Path of the file, or URI of the resource, that feeds `pad`, where upstream answers the URI query.
pub fn location(pad: &gst::Pad) -> Option<String> {
    let mut query = gst::query::Uri::new();
    if !pad.peer_query(&mut query) {
        return None;
    }
    let uri = query.uri().filter(|uri| !uri.is_empty())?;
    // A file descriptor's number says nothing about what is behind it.
    if uri.starts_with("fd:") {
        return None;
    }
    match gst::glib::filename_from_uri(&uri) {
        Ok((path, _)) => Some(crate::path::name_of(&path)),
        Err(_) => Some(uri.to_string()),
    }
}
