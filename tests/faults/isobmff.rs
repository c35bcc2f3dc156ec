// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boxes of ISO base media files, for both kinds of MP4.

use super::{MOST_PARTS, be, put_be};
use std::ops::Range;

/// The position of a box.
#[derive(Clone)]
pub(super) struct BoxAt {
    pub(super) kind: [u8; 4],
    pub(super) start: usize,
    /// The position of the content after the header.
    pub(super) body: usize,
    pub(super) end: usize,
}

impl BoxAt {
    /// Returns the range of the content.
    pub(super) fn inside(&self) -> Range<usize> {
        self.body..self.end
    }
}

/// Reads the box header at `at`. A box that passes `end` is truncated there.
fn box_at(file: &[u8], at: usize, end: usize) -> Option<BoxAt> {
    let kind = file.get(at + 4..at + 8)?.try_into().ok()?;
    let (header, size) = match be(file, at, 4)? {
        0 => (8, (end - at) as u64),
        1 => (16, be(file, at + 8, 8)?),
        size => (8, size),
    };
    if size < header as u64 || at + header > end {
        return None;
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    Some(BoxAt { kind, start: at, body: at + header, end: at.saturating_add(size).min(end) })
}

/// Lists the boxes of a range, up to the first unreadable one.
pub(super) fn boxes(file: &[u8], range: Range<usize>) -> Vec<BoxAt> {
    let mut found = Vec::new();
    let mut at = range.start;
    while at < range.end && found.len() < MOST_PARTS {
        let Some(item) = box_at(file, at, range.end) else { break };
        at = item.end;
        found.push(item);
    }
    found
}

/// Finds the first box of a type in a range.
pub(super) fn child(file: &[u8], range: Range<usize>, kind: &[u8; 4]) -> Option<BoxAt> {
    boxes(file, range).into_iter().find(|item| &item.kind == kind)
}

/// Finds the box at a path of types.
pub(super) fn descend(file: &[u8], range: Range<usize>, path: &[&[u8; 4]]) -> Option<BoxAt> {
    let (first, rest) = path.split_first()?;
    let item = child(file, range, first)?;
    if rest.is_empty() { Some(item) } else { descend(file, item.inside(), rest) }
}

/// Lists the boxes of a type in a range.
pub(super) fn children(file: &[u8], range: Range<usize>, kind: &[u8; 4]) -> Vec<BoxAt> {
    let mut found = boxes(file, range);
    found.retain(|item| &item.kind == kind);
    found
}

/// Finds `moov`.
pub(super) fn movie(file: &[u8]) -> Option<BoxAt> {
    child(file, 0..file.len(), b"moov")
}

/// Finds the `trak` of the first video track.
pub(super) fn video_trak(file: &[u8]) -> Option<BoxAt> {
    let traks = children(file, movie(file)?.inside(), b"trak");
    traks.into_iter().find(|trak| {
        descend(file, trak.inside(), &[b"mdia", b"hdlr"])
            .is_some_and(|hdlr| file.get(hdlr.body + 8..hdlr.body + 12) == Some(b"vide"))
    })
}

/// Reads the number of the first video track.
pub(super) fn video_track_id(file: &[u8]) -> Option<u64> {
    let tkhd = child(file, video_trak(file)?.inside(), b"tkhd")?;
    let offset = if file.get(tkhd.body)? == &1 { 20 } else { 12 };
    be(file, tkhd.body + offset, 4)
}

/// Reads the version byte and the flags of a full box.
pub(super) fn version_and_flags(file: &[u8], item: &BoxAt) -> Option<(u64, u64)> {
    Some((be(file, item.body, 1)?, be(file, item.body + 1, 3)?))
}

/// Adds `delta` to the size in the header of the box at `start`.
pub(super) fn grow_box(out: &mut [u8], start: usize, delta: u64) -> Option<()> {
    match be(out, start, 4)? {
        0 => Some(()),
        1 => {
            let size = be(out, start + 8, 8)?;
            put_be(out, start + 8, 8, size.wrapping_add(delta))
        }
        size => put_be(out, start, 4, size.wrapping_add(delta)),
    }
}
