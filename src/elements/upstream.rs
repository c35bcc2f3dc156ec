//! What upstream says about where the bytes come from.

use gst::glib;
use gst::prelude::*;

/// Elements between a pad and its sources, at most.
const MOST_ELEMENTS: usize = 256;

/// Schemes of sources that read one file after the other: their URI is a pattern, which file a buffer is of they do not say.
/// (`multifle` is how multifilesrc writes its own.) A file descriptor's number says nothing about what is behind it.
const NAMELESS: [&str; 4] = ["fd:", "multifle:", "multifile:", "imagesequence:"];

/// Path of the file, or URI of the resource, that feeds `pad` with the stream `stream_id`, where upstream answers the URI query.
///
/// Where several sources feed the pad (`concat`, `funnel`), it is that whose stream it is, or none.
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

/// Whether a stream comes from the source with this URI: gst_pad_create_stream_id begins an identifier with the URI's SHA-256.
fn is_stream_of(uri: &str, stream_id: Option<&str>) -> bool {
    let source = stream_id.and_then(|id| id.split('/').next());
    let mut checksum = glib::Checksum::new(glib::ChecksumType::Sha256);
    if let Some(checksum) = &mut checksum {
        checksum.update(uri.as_bytes());
    }
    source.is_some() && checksum.and_then(glib::Checksum::string).as_deref() == source
}

/// The URIs of all that feeds `pad`: what the sources behind elements with several sink pads answer, each asked for itself.
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

/// The nearest element upstream of `pad` with more than one sink pad.
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

/// The element that `pad` is linked to, found through ghost pads in both directions.
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
