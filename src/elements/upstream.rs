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
    let (mut uris, mut elements) = (Vec::new(), 0);
    collect_uris(pad, &mut uris, &mut elements);
    // Among sources that were not all reached, only its stream identifies one.
    let is_only = uris.len() < 2 && elements < MOST_ELEMENTS;
    let uri = if is_only { uris.pop()? } else { uris.into_iter().find(|uri| is_stream_of(uri, stream_id))? };
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
        // Behind elements that were not examined the query may reach any of several sources.
        if *elements < MOST_ELEMENTS && pad.peer_query(&mut query) {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn made(factory: &str) -> gst::Element {
        gst::ElementFactory::make(factory).build().unwrap()
    }

    /// Returns a source of this file behind so many elements, and its last element.
    fn chain(file: &str, elements: usize) -> (gst::Bin, gst::Element) {
        let bin = gst::Bin::new();
        let mut last = made("filesrc");
        last.set_property("location", file);
        bin.add(&last).unwrap();
        for _ in 0..elements {
            let next = made("identity");
            bin.add(&next).unwrap();
            last.link(&next).unwrap();
            last = next;
        }
        (bin, last)
    }

    #[test]
    fn sources_behind_many_elements_are_not_found() {
        gst::init().unwrap();
        let location_behind = |elements: usize| {
            let (bin, last) = chain("/a.mp4", elements);
            let sink = made("fakesink");
            bin.add(&sink).unwrap();
            last.link(&sink).unwrap();
            location(&sink.static_pad("sink").unwrap(), None)
        };
        assert_eq!(location_behind(MOST_ELEMENTS - 2).as_deref(), Some("/a.mp4"));
        assert_eq!(location_behind(MOST_ELEMENTS), None);
    }

    #[test]
    fn a_source_that_was_reached_does_not_stand_for_one_that_was_not() {
        gst::init().unwrap();
        let (near, last) = chain("/near.mp4", 0);
        let (far, other_last) = chain("/far.mp4", MOST_ELEMENTS);
        let (funnel, sink) = (made("funnel"), made("fakesink"));
        let pipeline = gst::Pipeline::new();
        pipeline.add_many([near.upcast_ref(), far.upcast_ref(), &funnel, &sink]).unwrap();
        for (bin, last) in [(&near, &last), (&far, &other_last)] {
            let ghost = gst::GhostPad::with_target(&last.static_pad("src").unwrap()).unwrap();
            bin.add_pad(&ghost).unwrap();
            bin.link(&funnel).unwrap();
        }
        funnel.link(&sink).unwrap();
        let pad = sink.static_pad("sink").unwrap();
        assert_eq!(location(&pad, None), None);
        let uri = glib::filename_to_uri("/near.mp4", None).unwrap();
        let mut checksum = glib::Checksum::new(glib::ChecksumType::Sha256).unwrap();
        checksum.update(uri.as_bytes());
        let stream_id = format!("{}/0", checksum.string().unwrap());
        assert_eq!(location(&pad, Some(&stream_id)).as_deref(), Some("/near.mp4"));
    }
}
