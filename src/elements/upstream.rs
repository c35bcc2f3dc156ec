// SPDX-License-Identifier: MIT OR Apache-2.0
//! The origin of a stream: path or URI, as upstream reports it.

use gst::glib;
use gst::prelude::*;

/// Most elements between a pad and its sources.
const MOST_ELEMENTS: usize = 256;

/// Schemes of sources that read several files in sequence: their URI is a pattern, and does not identify the file of a buffer.
/// (`multifle` is multifilesrc's own spelling.) A file descriptor's number does not identify what is behind it.
const NAMELESS: [&str; 4] = ["fd:", "multifle:", "multifile:", "imagesequence:"];

/// Returns the path of the file, or the URI of the resource, that feeds `pad` with the stream `stream_id`, where upstream answers
/// the URI query.
///
/// Where several sources feed the pad (`concat`, `funnel`), the one with that stream is returned, or none.
pub fn location(pad: &gst::Pad, stream_id: Option<&str>) -> Option<String> {
    let mut uris = Vec::new();
    collect_uris(pad, &mut uris, &mut 0);
    let uri = if uris.len() < 2 { uris.pop()? } else { uris.into_iter().find(|uri| is_stream_of(uri, stream_id))? };
    if NAMELESS.iter().any(|scheme| uri.starts_with(scheme)) {
        return None;
    }
    match glib::filename_from_uri(&uri) {
        Ok((path, _)) => Some(crate::path::name_of(&path)),
        Err(_) => Some(uri),
    }
}

/// Whether a stream comes from the source with this URI: gst_pad_create_stream_id begins an ID with the URI's SHA-256.
fn is_stream_of(uri: &str, stream_id: Option<&str>) -> bool {
    let source = stream_id.and_then(|id| id.split('/').next());
    let mut checksum = glib::Checksum::new(glib::ChecksumType::Sha256);
    if let Some(checksum) = &mut checksum {
        checksum.update(uri.as_bytes());
    }
    source.is_some() && checksum.and_then(glib::Checksum::string).as_deref() == source
}

/// Collects the URIs of all sources of `pad`. Sources behind elements with several sink pads are queried individually.
fn collect_uris(pad: &gst::Pad, uris: &mut Vec<String>, elements: &mut usize) {
    let Some(fork) = fork_behind(pad, elements) else {
        let mut query = gst::query::Uri::new();
        if pad.peer_query(&mut query) {
            uris.extend(query.uri().filter(|uri| !uri.is_empty()).map(Into::into));
        }
        return;
    };
    for pad in fork.sink_pads().iter().filter(|pad| pad.is_linked()) {
        if *elements < MOST_ELEMENTS {
            collect_uris(pad, uris, elements);
        }
    }
}

/// Returns the nearest element upstream of `pad` with more than one sink pad.
fn fork_behind(pad: &gst::Pad, elements: &mut usize) -> Option<gst::Element> {
    let mut pad = pad.clone();
    while *elements < MOST_ELEMENTS {
        *elements += 1;
        let element = element_behind(&pad)?;
        let mut sinks = element.sink_pads();
        if sinks.len() > 1 {
            return Some(element);
        }
        pad = sinks.pop()?;
    }
    None
}

/// Returns the element that `pad` is linked to, through ghost pads in both directions.
pub fn element_behind(pad: &gst::Pad) -> Option<gst::Element> {
    let mut pad = pad.clone();
    for _ in 0..MOST_ELEMENTS {
        let mut peer = pad.peer()?;
        while let Some(ghost) = peer.downcast_ref::<gst::GhostPad>() {
            peer = ghost.target()?;
        }
        match peer.parent()?.downcast::<gst::GhostPad>() {
            // The inner side of the ghost pad of a bin that the element is in.
            Ok(ghost) => pad = ghost.upcast(),
            Err(parent) => return parent.downcast().ok(),
        }
    }
    None
}
