// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults of Flash video.

use super::*;

pub(super) const FAULTS: &[Fault] = &[
    ("tag timestamps repeated", timestamps_repeated),
    ("tag timestamps back", timestamps_back),
    ("tag timestamps zero", timestamps_zero),
    ("frame types changed for some", frame_types_some),
    ("every other keyframe marked as inter frame", frame_types_thinned),
    ("frame types all keyframe", frame_types_all_key),
    ("frame types all inter", frame_types_all_inter),
    ("sequence header dropped", sequence_header_dropped),
    ("sequence header repeated", sequence_header_repeated),
    ("sequence header moved", sequence_header_moved),
    ("tags duplicated", tags_duplicated),
    ("GOPs shuffled", gops_shuffled),
    ("file concatenated", file_twice),
    ("file concatenated without second header", tags_twice),
    ("truncated", truncated),
];

/// The length of the header of a tag.
const TAG_HEADER: usize = 11;
/// The tag type of video.
const VIDEO: u8 = 9;
/// The codec number of AVC.
const AVC: u8 = 7;
/// The frame type of a keyframe, in the upper bits of the first byte.
const KEY: u8 = 0x10;
/// The frame type of an inter frame, in the upper bits of the first byte.
const INTER: u8 = 0x20;
/// The bits of the frame type in the first byte of video data.
const FRAME_TYPE: u8 = 0x70;

/// The position of a tag with the size field after it.
struct Tag {
    kind: u8,
    start: usize,
    /// The end, after the four bytes with the size of the tag.
    end: usize,
}

impl Tag {
    fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// Returns where the tags start after a file header at `at`.
fn after_header(file: &[u8], at: usize) -> Option<usize> {
    let header = (file.get(at..at + 3)? == b"FLV").then(|| be(file, at + 5, 4))??;
    at.checked_add(header as usize)?.checked_add(4)
}

/// Lists the complete tags. Skips further file headers.
fn tags(file: &[u8]) -> Vec<Tag> {
    let mut found = Vec::new();
    let Some(mut at) = after_header(file, 0) else { return found };
    while let Some(&kind) = file.get(at) {
        if let Some(next) = after_header(file, at) {
            at = next;
            continue;
        }
        let Some(size) = be(file, at + 1, 3) else { break };
        let end = at + TAG_HEADER + size as usize + 4;
        if end > file.len() || found.len() >= MOST_PARTS {
            break;
        }
        found.push(Tag { kind, start: at, end });
        at = end;
    }
    found
}

/// Lists the video tags.
fn video_tags(file: &[u8]) -> Vec<Tag> {
    let mut found = tags(file);
    found.retain(|tag| tag.kind == VIDEO && tag.end > tag.start + TAG_HEADER + 4);
    found
}

/// Reads the packet type of a video tag, in the old or the enhanced format.
fn packet_type(file: &[u8], tag: &Tag) -> u8 {
    match file[tag.start + TAG_HEADER] {
        first if first & 0x80 != 0 => first & 0x0F,
        first if first & 0x0F == AVC => file[tag.start + TAG_HEADER + 1],
        _ => 1,
    }
}

/// Returns whether a video tag holds a sequence header.
fn is_sequence_header(file: &[u8], tag: &Tag) -> bool {
    packet_type(file, tag) == 0
}

/// Lists the video tags that hold frames, without sequence headers and ends of sequence.
fn frames(file: &[u8]) -> Vec<Tag> {
    let mut found = video_tags(file);
    found.retain(|tag| matches!(packet_type(file, tag), 1 | 3));
    found
}

/// Lists the frames that are keyframes.
fn keyframes(file: &[u8]) -> Vec<Tag> {
    let mut found = frames(file);
    found.retain(|tag| file[tag.start + TAG_HEADER] & FRAME_TYPE == KEY);
    found
}

/// Reads the timestamp of a tag.
fn timestamp(file: &[u8], tag: &Tag) -> Option<u32> {
    Some((be(file, tag.start + 7, 1)? << 24 | be(file, tag.start + 4, 3)?) as u32)
}

/// Writes the timestamp of a tag.
fn put_timestamp(out: &mut [u8], tag: &Tag, value: u32) -> Option<()> {
    put_be(out, tag.start + 4, 3, u64::from(value & 0xFF_FFFF))?;
    put_be(out, tag.start + 7, 1, u64::from(value >> 24))
}

/// Changes the timestamps of consecutive frames.
///
/// `renew` gets the first old timestamp and the old timestamp of the frame.
fn retimed(file: &[u8], draw: &mut Draw, renew: impl Fn(u32, u32) -> u32) -> Made {
    let frames = frames(file);
    let mut stretch = draw.stretch(frames.len(), 2)?;
    if draw.one_in(2) {
        stretch.end = frames.len();
    }
    let first = timestamp(file, &frames[stretch.start])?;
    let mut out = file.to_vec();
    for frame in &frames[stretch.clone()] {
        put_timestamp(&mut out, frame, renew(first, timestamp(file, frame)?))?;
    }
    Some((out, format!("frames {} to {}", stretch.start, stretch.end - 1)))
}

/// Gives consecutive frames the same timestamp.
fn timestamps_repeated(file: &[u8], draw: &mut Draw) -> Made {
    retimed(file, draw, |first, _| first)
}

/// Decreases the timestamps of consecutive frames.
fn timestamps_back(file: &[u8], draw: &mut Draw) -> Made {
    let step = draw.pick(&[40, 500, 1000, 100_000])?;
    retimed(file, draw, |_, old| old.saturating_sub(step))
}

/// Sets the timestamps of consecutive frames to 0.
fn timestamps_zero(file: &[u8], draw: &mut Draw) -> Made {
    retimed(file, draw, |_, _| 0)
}

/// Sets the frame types of video tags to the result of `renew` for the old type.
fn frame_types_changed(file: &[u8], mut renew: impl FnMut(u8) -> u8) -> Made {
    let mut out = file.to_vec();
    let mut changed = 0;
    for frame in frames(file) {
        let at = frame.start + TAG_HEADER;
        out[at] = file[at] & !FRAME_TYPE | renew(file[at] & FRAME_TYPE);
        changed += usize::from(out[at] != file[at]);
    }
    (changed > 0).then(|| (out, format!("{changed} frames")))
}

/// Swaps keyframe and inter frame, or sets rarer types, in some tags.
fn frame_types_some(file: &[u8], draw: &mut Draw) -> Made {
    let often = draw.pick(&[2, 5, 20])?;
    frame_types_changed(file, |old| match (draw.one_in(often), old) {
        (true, KEY) => INTER,
        (true, _) => [KEY, KEY, 0x30, 0x40, 0x00][draw.below(5)],
        (false, _) => old,
    })
}

/// Marks every other keyframe as an inter frame.
fn frame_types_thinned(file: &[u8], draw: &mut Draw) -> Made {
    let keep = draw.below(2);
    let mut number = 0;
    frame_types_changed(file, |old| {
        number += usize::from(old == KEY);
        if old == KEY && number % 2 != keep { INTER } else { old }
    })
}

/// Marks all frames as keyframes.
fn frame_types_all_key(file: &[u8], _: &mut Draw) -> Made {
    frame_types_changed(file, |_| KEY)
}

/// Marks all frames as inter frames.
fn frame_types_all_inter(file: &[u8], _: &mut Draw) -> Made {
    frame_types_changed(file, |_| INTER)
}

/// Finds the first sequence header of the video.
fn sequence_header(file: &[u8]) -> Option<Tag> {
    video_tags(file).into_iter().find(|tag| is_sequence_header(file, tag))
}

/// Drops the sequence header.
fn sequence_header_dropped(file: &[u8], draw: &mut Draw) -> Made {
    let header = sequence_header(file)?;
    let out = join(&[&file[..header.start], &file[header.end..]], draw)?;
    Some((out, format!("{} bytes", header.range().len())))
}

/// Repeats the sequence header before some keyframes after it.
fn sequence_header_repeated(file: &[u8], draw: &mut Draw) -> Made {
    let header = sequence_header(file)?;
    let mut places: Vec<usize> = keyframes(file).iter().map(|tag| tag.start).collect();
    places.retain(|&place| place >= header.end);
    let chosen = draw.stretch(places.len(), 1)?;
    let mut ranges = Vec::new();
    let mut at = 0;
    for &place in &places[chosen.clone()] {
        ranges.push(at..place);
        ranges.push(header.range());
        at = place;
    }
    ranges.push(at..file.len());
    Some((join_ranges(file, &ranges, draw)?, format!("{} more", chosen.len())))
}

/// Moves the sequence header behind the first keyframe or a later one.
fn sequence_header_moved(file: &[u8], draw: &mut Draw) -> Made {
    let header = sequence_header(file)?;
    let mut frames = frames(file);
    frames.retain(|frame| frame.start >= header.end);
    let place = draw.below(frames.len());
    let to = frames.get(place)?.end;
    let ranges = [0..header.start, header.end..to, header.range(), to..file.len()];
    Some((join_ranges(file, &ranges, draw)?, format!("to after frame {place}")))
}

/// Repeats each tag of a range, either video tags or all tags.
fn tags_duplicated(file: &[u8], draw: &mut Draw) -> Made {
    let tags = if draw.one_in(2) { video_tags(file) } else { tags(file) };
    let mut stretch = draw.stretch(tags.len(), 1)?;
    stretch.end = stretch.end.min(stretch.start + draw.between(1, 60));
    let mut ranges = Vec::new();
    let mut at = 0;
    for tag in &tags[stretch.clone()] {
        ranges.push(at..tag.end);
        ranges.push(tag.range());
        at = tag.end;
    }
    ranges.push(at..file.len());
    let note = format!("{} tags from number {} on", stretch.len(), stretch.start);
    Some((join_ranges(file, &ranges, draw)?, note))
}

/// Puts the GOPs in random order, each with the audio between its frames.
fn gops_shuffled(file: &[u8], draw: &mut Draw) -> Made {
    let starts: Vec<usize> = keyframes(file).iter().map(|tag| tag.start).collect();
    let mut units = units_from_starts(&starts, tags(file).last()?.end);
    let head = 0..units.first()?.start;
    let tail = units.last()?.end..file.len();
    draw.shuffle(&mut units);
    let note = format!("{} GOPs", units.len());
    units.insert(0, head);
    units.push(tail);
    Some((join_ranges(file, &units, draw)?, note))
}

/// Appends the whole file to itself.
fn file_twice(file: &[u8], draw: &mut Draw) -> Made {
    after_header(file, 0)?;
    concatenated(file, draw)
}

/// Appends all tags to the file again.
fn tags_twice(file: &[u8], draw: &mut Draw) -> Made {
    let first = after_header(file, 0)?;
    Some((join(&[file, file.get(first..)?], draw)?, "tags only".into()))
}

/// Truncates the file inside a tag.
fn truncated(file: &[u8], draw: &mut Draw) -> Made {
    let tags = tags(file);
    let tag = tags.get(draw.between(tags.len() / 4, tags.len()))?;
    cut_within(file, &tag.range(), draw)
}
