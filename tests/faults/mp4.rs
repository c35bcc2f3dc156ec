// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults of MP4 files with sample tables.

use super::isobmff::{self, BoxAt, boxes, child, children, descend, grow_box};
use super::*;

pub(super) const FAULTS: &[Fault] = &[
    ("stss emptied", sync_table_emptied),
    ("stss with the first entry only", sync_table_first_only),
    ("stss with every other entry", sync_table_thinned),
    ("stss shuffled", sync_table_shuffled),
    ("stss entries duplicated", sync_table_duplicated),
    ("stss naming non-keyframes", sync_table_shifted),
    ("stss removed", sync_table_removed),
    ("stts deltas zero", deltas_zero),
    ("stts deltas huge", deltas_huge),
    ("ctts negative", offsets_negative),
    ("ctts huge", offsets_huge),
    ("ctts removed", offsets_removed),
    ("elst media time inside a GOP", edit_inside_gop),
    ("chunk offsets repeated", chunks_repeated),
    ("chunk offsets swapped", chunks_swapped),
    ("chunk offsets past the end", chunks_past_end),
    ("stsz sizes zero", sizes_zero),
    ("mdhd timescale one", timescale_one),
    ("mdhd timescale huge", timescale_huge),
    ("mdat larger than the file", media_data_too_large),
    ("file concatenated", file_twice),
    ("truncated", truncated),
];

/// The path from the file to the box with the sample tables.
const TABLE_PATH: [&[u8; 4]; 3] = [b"mdia", b"minf", b"stbl"];

/// Finds a sample table of the video track.
fn video_table(file: &[u8], kind: &[u8; 4]) -> Option<BoxAt> {
    let stbl = descend(file, isobmff::video_trak(file)?.inside(), &TABLE_PATH)?;
    child(file, stbl.inside(), kind)
}

/// Returns the positions of the entries of a table with entries of `width` bytes.
fn entries(file: &[u8], table: &BoxAt, width: usize) -> Option<Vec<usize>> {
    let count = be(file, table.body + 4, 4)? as usize;
    let first = table.body + 8;
    let fitting = table.end.checked_sub(first)? / width;
    Some((0..count.min(fitting)).map(|index| first + index * width).collect())
}

/// Reads the entries of a table of four-byte numbers.
fn numbers(file: &[u8], table: &BoxAt) -> Option<Vec<u64>> {
    entries(file, table, 4)?.into_iter().map(|at| be(file, at, 4)).collect()
}

/// Replaces a box by a `free` box of the same size.
fn freed(file: &[u8], item: &BoxAt) -> Option<Vec<u8>> {
    let mut out = file.to_vec();
    out.get_mut(item.start + 4..item.start + 8)?.copy_from_slice(b"free");
    Some(out)
}

/// Replaces the entries of `stss` by the same number of entries or fewer.
///
/// A `free` box fills the remaining space, so that no position changes.
fn sync_table_changed(file: &[u8], change: impl FnOnce(Vec<u64>) -> Vec<u64>) -> Made {
    let stss = video_table(file, b"stss")?;
    let old = numbers(file, &stss)?;
    let count = old.len();
    let new = change(old);
    let mut out = file.to_vec();
    put_be(&mut out, stss.body + 4, 4, new.len() as u64)?;
    let mut at = stss.body + 8;
    for number in &new {
        put_be(&mut out, at, 4, *number)?;
        at += 4;
    }
    let left = stss.end.checked_sub(at)?;
    if left >= 8 && stss.body - stss.start == 8 {
        put_be(&mut out, stss.start, 4, (at - stss.start) as u64)?;
        put_be(&mut out, at, 4, left as u64)?;
        out.get_mut(at + 4..at + 8)?.copy_from_slice(b"free");
    }
    Some((out, format!("{count} entries before, {} after", new.len())))
}

/// Removes all entries from `stss`.
fn sync_table_emptied(file: &[u8], _: &mut Draw) -> Made {
    sync_table_changed(file, |_| Vec::new())
}

/// Keeps only the first entry of `stss`.
fn sync_table_first_only(file: &[u8], _: &mut Draw) -> Made {
    sync_table_changed(file, |old| old.into_iter().take(1).collect())
}

/// Keeps every other entry of `stss`.
fn sync_table_thinned(file: &[u8], draw: &mut Draw) -> Made {
    let first = draw.below(2);
    sync_table_changed(file, |old| old.into_iter().skip(first).step_by(2).collect())
}

/// Puts the entries of `stss` in random order.
fn sync_table_shuffled(file: &[u8], draw: &mut Draw) -> Made {
    sync_table_changed(file, |mut old| {
        draw.shuffle(&mut old);
        old
    })
}

/// Repeats each entry in the first half of `stss`.
fn sync_table_duplicated(file: &[u8], _: &mut Draw) -> Made {
    sync_table_changed(file, |old| (0..old.len()).map(|index| old[index / 2]).collect())
}

/// Moves the entries of `stss`, or some of them, to samples after the keyframes.
fn sync_table_shifted(file: &[u8], draw: &mut Draw) -> Made {
    let shift = 1 + draw.below(7) as u64;
    let often = draw.between(1, 3);
    let (out, _) = sync_table_changed(file, |old| {
        old.into_iter().map(|number| if draw.one_in(often) { number + shift } else { number }).collect()
    })?;
    Some((out, format!("{shift} samples late, one in {often}")))
}

/// Replaces `stss` by a `free` box.
fn sync_table_removed(file: &[u8], _: &mut Draw) -> Made {
    Some((freed(file, &video_table(file, b"stss")?)?, "now free".into()))
}

/// Reads the runs of `stts`: sample count and sample delta.
fn time_runs(file: &[u8], stts: &BoxAt) -> Option<Vec<(u64, u64)>> {
    let positions = entries(file, stts, 8)?.into_iter();
    positions.map(|at| Some((be(file, at, 4)?, be(file, at + 4, 4)?))).collect()
}

/// Gives the samples of `stretch` another delta. Splits runs if needed.
fn runs_with(runs: &[(u64, u64)], stretch: &Range<u64>, delta: u64) -> Vec<(u64, u64)> {
    let mut new = Vec::new();
    let mut first = 0;
    for &(count, old) in runs {
        let end = first + count;
        let from = stretch.start.clamp(first, end);
        let to = stretch.end.clamp(first, end);
        for (count, delta) in [(from - first, old), (to - from, delta), (end - to, old)] {
            if count > 0 {
                new.push((count, delta));
            }
        }
        first = end;
    }
    new
}

/// Replaces a sample table of the video track by a table of any size.
///
/// Corrects the sizes of the boxes around it and the chunk offsets.
fn replace_table(file: &[u8], old: &BoxAt, new: &[u8], draw: &Draw) -> Option<Vec<u8>> {
    let mut out = join(&[file.get(..old.start)?, new, file.get(old.end..)?], draw)?;
    let delta = (new.len() as u64).wrapping_sub((old.end - old.start) as u64);
    let trak = isobmff::video_trak(file)?;
    grow_box(&mut out, isobmff::movie(file)?.start, delta)?;
    grow_box(&mut out, trak.start, delta)?;
    for depth in 1..=TABLE_PATH.len() {
        let parent = descend(file, trak.inside(), &TABLE_PATH[..depth])?;
        grow_box(&mut out, parent.start, delta)?;
    }
    for trak in children(&out, isobmff::movie(&out)?.inside(), b"trak") {
        for (at, width) in chunk_offsets(&out, &trak).unwrap_or_default() {
            let offset = be(&out, at, width)?;
            if offset >= old.end as u64 {
                put_be(&mut out, at, width, offset.wrapping_add(delta))?;
            }
        }
    }
    Some(out)
}

/// Gives consecutive samples another delta in `stts`.
fn deltas_changed(file: &[u8], draw: &mut Draw, delta: u64, most: usize) -> Made {
    let stts = video_table(file, b"stts")?;
    let runs = time_runs(file, &stts)?;
    let total = runs.iter().map(|(count, _)| *count).sum::<u64>().min(MOST_PARTS as u64);
    let mut stretch = draw.stretch(total as usize, 1)?;
    stretch.end = stretch.end.min(stretch.start.saturating_add(most));
    let new = runs_with(&runs, &(stretch.start as u64..stretch.end as u64), delta);

    let mut table = file.get(stts.start..stts.start + 16)?.to_vec();
    put_be(&mut table, 0, 4, 16 + 8 * new.len() as u64)?;
    table.get_mut(4..8)?.copy_from_slice(b"stts");
    put_be(&mut table, 12, 4, new.len() as u64)?;
    for (count, delta) in new {
        table.extend_from_slice(&(count as u32).to_be_bytes());
        table.extend_from_slice(&(delta as u32).to_be_bytes());
    }
    let out = replace_table(file, &stts, &table, draw)?;
    Some((out, format!("{delta:#x} for samples {} to {}", stretch.start, stretch.end - 1)))
}

/// Sets the deltas of consecutive samples to 0.
fn deltas_zero(file: &[u8], draw: &mut Draw) -> Made {
    deltas_changed(file, draw, 0, usize::MAX)
}

/// Makes the delta of one sample or of some samples huge.
fn deltas_huge(file: &[u8], draw: &mut Draw) -> Made {
    let delta = draw.pick(&[0x0100_0000, 0x7FFF_FFFF, 0xFFFF_FFFF])?;
    let most = draw.pick(&[1, 1, 5, usize::MAX])?;
    deltas_changed(file, draw, delta, most)
}

/// Gives consecutive `ctts` runs another offset, and the box another version.
fn offsets_changed(file: &[u8], draw: &mut Draw, version: Option<u8>, offset: i32) -> Made {
    let ctts = video_table(file, b"ctts")?;
    let positions = entries(file, &ctts, 8)?;
    let stretch = draw.stretch(positions.len(), 1)?;
    let mut out = file.to_vec();
    if let Some(version) = version {
        out[ctts.body] = version;
    }
    for &at in &positions[stretch.clone()] {
        put_be(&mut out, at + 4, 4, u64::from(offset as u32))?;
    }
    Some((out, format!("{offset} for runs {} to {}", stretch.start, stretch.end - 1)))
}

/// Makes composition offsets negative, in version 1 or, wrongly, in version 0.
fn offsets_negative(file: &[u8], draw: &mut Draw) -> Made {
    let offset = draw.pick(&[-1, -512, -1_000_000, i32::MIN])?;
    let version = draw.pick(&[Some(1), Some(1), Some(0)])?;
    offsets_changed(file, draw, version, offset)
}

/// Makes composition offsets huge.
fn offsets_huge(file: &[u8], draw: &mut Draw) -> Made {
    let offset = draw.pick(&[0x0100_0000, i32::MAX])?;
    offsets_changed(file, draw, None, offset)
}

/// Replaces `ctts` by a `free` box.
fn offsets_removed(file: &[u8], _: &mut Draw) -> Made {
    Some((freed(file, &video_table(file, b"ctts")?)?, "now free".into()))
}

/// Returns the decode time of a sample, counted from 0.
fn decode_time(runs: &[(u64, u64)], sample: u64) -> u64 {
    let mut left = sample;
    let mut time = 0u64;
    for &(count, delta) in runs {
        let here = left.min(count);
        time = time.saturating_add(here.saturating_mul(delta));
        left -= here;
    }
    time
}

/// Makes the first edit start at a sample between two keyframes.
fn edit_inside_gop(file: &[u8], draw: &mut Draw) -> Made {
    let trak = isobmff::video_trak(file)?;
    let elst = descend(file, trak.inside(), &[b"edts", b"elst"])?;
    let (version, _) = isobmff::version_and_flags(file, &elst)?;
    let width = if version == 1 { 8 } else { 4 };
    let edits = entries(file, &elst, 2 * width + 4)?.into_iter();
    let most = if width == 4 { 1 << 31 } else { 1 << 63 };
    let at = edits.map(|edit| edit + width).find(|&at| be(file, at, width).is_some_and(|time| time < most))?;

    let keyframe = match video_table(file, b"stss") {
        Some(stss) => draw.pick(&numbers(file, &stss)?).unwrap_or(1),
        None => 1,
    };
    let sample = keyframe.saturating_sub(1) + 1 + draw.below(12) as u64;
    let time = decode_time(&time_runs(file, &video_table(file, b"stts")?)?, sample);
    let mut out = file.to_vec();
    put_be(&mut out, at, width, time.min(most - 1))?;
    Some((out, format!("media time {time}, sample {sample}")))
}

/// Lists the chunk offsets of a track: position and width.
fn chunk_offsets(file: &[u8], trak: &BoxAt) -> Option<Vec<(usize, usize)>> {
    let stbl = descend(file, trak.inside(), &TABLE_PATH)?;
    let (table, width) = match child(file, stbl.inside(), b"stco") {
        Some(stco) => (stco, 4),
        None => (child(file, stbl.inside(), b"co64")?, 8),
    };
    Some(entries(file, &table, width)?.into_iter().map(|at| (at, width)).collect())
}

/// Lists the chunk offsets of the video track.
fn video_chunk_offsets(file: &[u8]) -> Option<Vec<(usize, usize)>> {
    chunk_offsets(file, &isobmff::video_trak(file)?)
}

/// Sets consecutive chunk offsets to the previous one.
fn chunks_repeated(file: &[u8], draw: &mut Draw) -> Made {
    let offsets = video_chunk_offsets(file)?;
    let stretch = draw.stretch(offsets.len().checked_sub(1)?, 1)?;
    let (before, width) = offsets[stretch.start];
    let value = be(file, before, width)?;
    let mut out = file.to_vec();
    for &(at, width) in &offsets[stretch.start + 1..=stretch.end] {
        put_be(&mut out, at, width, value)?;
    }
    Some((out, format!("chunks {} to {} at {value}", stretch.start, stretch.end)))
}

/// Swaps two chunk offsets.
fn chunks_swapped(file: &[u8], draw: &mut Draw) -> Made {
    let offsets = video_chunk_offsets(file)?;
    let pair = draw.stretch(offsets.len(), 2)?;
    let (first, second) = (offsets[pair.start], offsets[pair.end - 1]);
    let mut out = file.to_vec();
    put_be(&mut out, first.0, first.1, be(file, second.0, second.1)?)?;
    put_be(&mut out, second.0, second.1, be(file, first.0, first.1)?)?;
    Some((out, format!("chunks {} and {}", pair.start, pair.end - 1)))
}

/// Moves some chunk offsets past the end of the file.
fn chunks_past_end(file: &[u8], draw: &mut Draw) -> Made {
    let offsets = video_chunk_offsets(file)?;
    let chosen = draw.one_or_rest(0, offsets.len())?;
    let past = draw.pick(&[0, 1, 1000, 0x7000_0000])?;
    let mut out = file.to_vec();
    for &(at, width) in &offsets[chosen.clone()] {
        put_be(&mut out, at, width, file.len() as u64 + past)?;
    }
    Some((out, scope("chunk", &chosen, offsets.len()) + &format!(", {past} bytes past")))
}

/// Sets some sample sizes to 0, either consecutive or scattered ones.
fn sizes_zero(file: &[u8], draw: &mut Draw) -> Made {
    let stsz = video_table(file, b"stsz")?;
    if be(file, stsz.body + 4, 4)? != 0 {
        return None;
    }
    let fitting = stsz.end.checked_sub(stsz.body + 12)? / 4;
    let count = fitting.min(be(file, stsz.body + 8, 4)? as usize);
    let stretch = draw.stretch(count, 1)?;
    let often = draw.pick(&[1, 4, 10])?;
    let mut out = file.to_vec();
    for index in stretch.clone() {
        if index == stretch.start || draw.one_in(often) {
            put_be(&mut out, stsz.body + 12 + 4 * index, 4, 0)?;
        }
    }
    let note = format!("one in {often} of samples {} to {}", stretch.start, stretch.end - 1);
    Some((out, note))
}

/// Sets the timescale of the video track.
fn timescale_set(file: &[u8], value: u64) -> Made {
    let trak = isobmff::video_trak(file)?;
    let mdhd = descend(file, trak.inside(), &[b"mdia", b"mdhd"])?;
    let (version, _) = isobmff::version_and_flags(file, &mdhd)?;
    let at = mdhd.body + if version == 1 { 20 } else { 12 };
    let old = be(file, at, 4)?;
    let mut out = file.to_vec();
    put_be(&mut out, at, 4, value)?;
    Some((out, format!("{old} before, {value} after")))
}

/// Sets the timescale of the video track to 1.
fn timescale_one(file: &[u8], _: &mut Draw) -> Made {
    timescale_set(file, 1)
}

/// Makes the timescale of the video track huge.
fn timescale_huge(file: &[u8], draw: &mut Draw) -> Made {
    let value = draw.pick(&[1_000_000_000, 0x7FFF_FFFF, 0xFFFF_FFFF])?;
    timescale_set(file, value)
}

/// Makes `mdat` extend past the end of the file.
fn media_data_too_large(file: &[u8], draw: &mut Draw) -> Made {
    let mdat = child(file, 0..file.len(), b"mdat")?;
    let more = (file.len() - mdat.end + 1 + draw.below(file.len())) as u64;
    let mut out = file.to_vec();
    grow_box(&mut out, mdat.start, more)?;
    Some((out, format!("{more} bytes more")))
}

/// Appends the whole file to itself.
fn file_twice(file: &[u8], draw: &mut Draw) -> Made {
    isobmff::movie(file)?;
    concatenated(file, draw)
}

/// Truncates the file in its second half, or anywhere in its last box.
fn truncated(file: &[u8], draw: &mut Draw) -> Made {
    isobmff::movie(file)?;
    let last = boxes(file, 0..file.len()).pop()?;
    if draw.one_in(3) {
        cut_within(file, &last.inside(), draw)
    } else {
        cut_within(file, &(file.len() / 2..file.len()), draw)
    }
}
