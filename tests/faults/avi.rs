// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults of RIFF AVI files.

use super::*;

pub(super) const FAULTS: &[Fault] = &[
    ("idx1 flags cleared", flags_cleared),
    ("idx1 flags of the first frame only", flags_first_only),
    ("idx1 flags all set", flags_set),
    ("idx1 offsets wrong", offsets_wrong),
    ("idx1 offsets repeated", offsets_repeated),
    ("idx1 removed", index_removed),
    ("RIFF size wrong", riff_size_wrong),
    ("file concatenated", file_twice),
    ("truncated", truncated),
    ("strh rate zero", rate_zero),
    ("strh rate huge", rate_huge),
    ("strh scale zero", scale_zero),
    ("strh scale huge", scale_huge),
];

/// The flag of a keyframe in an index entry.
const KEYFRAME: u32 = 0x10;
/// The length of an index entry.
const ENTRY: usize = 16;

/// The position of a chunk.
struct Chunk {
    id: [u8; 4],
    start: usize,
    end: usize,
}

impl Chunk {
    /// Returns where the content starts.
    fn body(&self) -> usize {
        self.start + 8
    }

    /// Returns the range of the chunks inside a list, after its type.
    fn list(&self) -> Range<usize> {
        (self.body() + 4).min(self.end)..self.end
    }

    /// Returns whether the chunk is a list of this type.
    fn is_list(&self, file: &[u8], kind: &[u8; 4]) -> bool {
        let marked = &self.id == b"LIST" || &self.id == b"RIFF";
        marked && file.get(self.body()..self.body() + 4) == Some(kind)
    }
}

/// Lists the chunks of a range. A chunk that passes the end is truncated there.
fn chunks(file: &[u8], range: Range<usize>) -> Vec<Chunk> {
    let mut found = Vec::new();
    let mut at = range.start;
    while at + 8 <= range.end && found.len() < MOST_PARTS {
        let (Some(id), Some(size)) = (file.get(at..at + 4), le32(file, at + 4)) else { break };
        let Ok(id) = id.try_into() else { break };
        let end = (at + 8).saturating_add(size as usize).min(range.end);
        found.push(Chunk { id, start: at, end });
        at = end + (size as usize & 1);
    }
    found
}

/// Lists the chunks of the file, inside the RIFF chunk.
fn top_chunks(file: &[u8]) -> Vec<Chunk> {
    let riff = file.get(..4) == Some(b"RIFF") && file.get(8..12) == Some(b"AVI ");
    if riff { chunks(file, 12..file.len()) } else { Vec::new() }
}

/// Finds the index.
fn index(file: &[u8]) -> Option<Chunk> {
    top_chunks(file).into_iter().find(|chunk| &chunk.id == b"idx1")
}

/// Lists the positions of the video entries in the index.
fn video_entries(file: &[u8]) -> Option<Vec<usize>> {
    let index = index(file)?;
    let count = (index.end - index.body()) / ENTRY;
    let positions = (0..count).map(|number| index.body() + ENTRY * number);
    let is_video = |at: &usize| matches!(&file[at + 2..at + 4], b"dc" | b"db");
    Some(positions.filter(is_video).collect())
}

/// Sets the keyframe flag of each video entry to the result of `is_key` for its number.
fn flags_changed(file: &[u8], is_key: fn(usize) -> bool) -> Made {
    let mut out = file.to_vec();
    let mut changed = 0;
    for (number, at) in video_entries(file)?.into_iter().enumerate() {
        let old = le32(file, at + 4)?;
        let new = if is_key(number) { old | KEYFRAME } else { old & !KEYFRAME };
        put_le32(&mut out, at + 4, new)?;
        changed += usize::from(new != old);
    }
    (changed > 0).then(|| (out, format!("{changed} entries")))
}

/// Clears the keyframe flags.
fn flags_cleared(file: &[u8], _: &mut Draw) -> Made {
    flags_changed(file, |_| false)
}

/// Clears the keyframe flags of all frames but the first.
fn flags_first_only(file: &[u8], _: &mut Draw) -> Made {
    flags_changed(file, |number| number == 0)
}

/// Sets the keyframe flags of all frames.
fn flags_set(file: &[u8], _: &mut Draw) -> Made {
    flags_changed(file, |_| true)
}

/// Shifts the offset of one video entry, or of all entries from one on.
fn offsets_wrong(file: &[u8], draw: &mut Draw) -> Made {
    let positions = video_entries(file)?;
    let chosen = draw.one_or_rest(0, positions.len())?;
    let shift = draw.pick(&[1, 8, 5000, -8, 0x4000_0000])?;
    let mut out = file.to_vec();
    for &at in &positions[chosen.clone()] {
        put_le32(&mut out, at + 8, le32(file, at + 8)?.wrapping_add_signed(shift))?;
    }
    let note = format!("shifted by {shift}, {}", scope("entry", &chosen, positions.len()));
    Some((out, note))
}

/// Sets the offsets of consecutive video entries to the offset of the first one.
fn offsets_repeated(file: &[u8], draw: &mut Draw) -> Made {
    let positions = video_entries(file)?;
    let stretch = draw.stretch(positions.len(), 2)?;
    let offset = le32(file, positions[stretch.start] + 8)?;
    let mut out = file.to_vec();
    for &at in &positions[stretch.clone()] {
        put_le32(&mut out, at + 8, offset)?;
    }
    Some((out, format!("entries {} to {}", stretch.start, stretch.end - 1)))
}

/// Replaces the index by a `JUNK` chunk, or truncates the file before it.
fn index_removed(file: &[u8], draw: &mut Draw) -> Made {
    let index = index(file)?;
    if draw.one_in(2) {
        return Some((file.get(..index.start)?.to_vec(), "file ends before it".into()));
    }
    let mut out = file.to_vec();
    out.get_mut(index.start..index.start + 4)?.copy_from_slice(b"JUNK");
    Some((out, "now JUNK".into()))
}

/// Writes a wrong size in the RIFF header.
fn riff_size_wrong(file: &[u8], draw: &mut Draw) -> Made {
    top_chunks(file).first()?;
    let size = le32(file, 4)?;
    let new = draw.pick(&[0, 4, size / 2, size.saturating_mul(2), u32::MAX])?;
    let mut out = file.to_vec();
    put_le32(&mut out, 4, new)?;
    Some((out, format!("{new} in place of {size}")))
}

/// Appends the whole file to itself.
fn file_twice(file: &[u8], draw: &mut Draw) -> Made {
    top_chunks(file).first()?;
    concatenated(file, draw)
}

/// Truncates the file inside the list of frames, or inside the index.
fn truncated(file: &[u8], draw: &mut Draw) -> Made {
    let mut parts = top_chunks(file);
    parts.retain(|chunk| chunk.is_list(file, b"movi") || &chunk.id == b"idx1");
    let part = parts.get(draw.below(parts.len()))?;
    cut_within(file, &part.list(), draw)
}

/// Finds the stream header of the first video stream.
fn video_stream_header(file: &[u8]) -> Option<Chunk> {
    let header = top_chunks(file).into_iter().find(|chunk| chunk.is_list(file, b"hdrl"))?;
    let streams = chunks(file, header.list());
    let streams = streams.into_iter().filter(|chunk| chunk.is_list(file, b"strl"));
    let mut parts = streams.flat_map(|stream| chunks(file, stream.list()));
    parts.find(|part| {
        let kind = file.get(part.body()..part.body() + 4);
        &part.id == b"strh" && kind == Some(b"vids") && part.end - part.start >= 36
    })
}

/// Writes a number into the header of the video stream.
fn stream_header_set(file: &[u8], offset: usize, value: u32) -> Made {
    let at = video_stream_header(file)?.body() + offset;
    let old = le32(file, at)?;
    let mut out = file.to_vec();
    put_le32(&mut out, at, value)?;
    Some((out, format!("{value} in place of {old}")))
}

/// The position of the scale in a stream header.
const SCALE: usize = 20;
/// The position of the rate in a stream header.
const RATE: usize = 24;

/// Sets the rate of the video stream to 0.
fn rate_zero(file: &[u8], _: &mut Draw) -> Made {
    stream_header_set(file, RATE, 0)
}

/// Makes the rate of the video stream huge.
fn rate_huge(file: &[u8], draw: &mut Draw) -> Made {
    let value = draw.pick(&[1_000_000_000, u32::MAX])?;
    stream_header_set(file, RATE, value)
}

/// Sets the scale of the video stream to 0.
fn scale_zero(file: &[u8], _: &mut Draw) -> Made {
    stream_header_set(file, SCALE, 0)
}

/// Makes the scale of the video stream huge.
fn scale_huge(file: &[u8], draw: &mut Draw) -> Made {
    let value = draw.pick(&[1_000_000_000, u32::MAX])?;
    stream_header_set(file, SCALE, value)
}
