// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults of MP4 files with fragments.

use super::isobmff::{self, BoxAt, boxes, child, children};
use super::*;

pub(super) const FAULTS: &[Fault] = &[
    ("fragment duplicated adjacent", duplicated_adjacent),
    ("fragment duplicated adjacent many times", duplicated_adjacent_often),
    ("fragment duplicated at the end", duplicated_at_end),
    ("fragment duplicated at the end many times", duplicated_at_end_often),
    ("fragments swapped", swapped),
    ("fragment dropped", dropped),
    ("fragments reversed", reversed),
    ("tfdt zero", decode_time_zero),
    ("tfdt lower", decode_time_lower),
    ("tfdt equal to the one before", decode_time_equal),
    ("tfdt huge", decode_time_huge),
    ("file concatenated", file_twice),
    ("file concatenated without second header", fragments_twice),
    ("sync flags cleared", sync_cleared),
    ("sync flags set", sync_set),
    ("trun first-sample-flags flipped", first_sample_flags_flipped),
    ("trun sample-flags flipped", sample_flags_flipped),
    ("tfhd default flags flipped", default_flags_flipped),
    ("sample durations zero", durations_zero),
    ("truncated in a fragment", truncated),
];

/// Lists the fragments: each `moof` with the boxes before and after it.
///
/// A fragment extends to the next one, so a second header in a file belongs to the fragment before it. The last one ends with its
/// `mdat`.
fn fragments(file: &[u8]) -> Units {
    let mut starts: Vec<usize> = Vec::new();
    let mut lead = None;
    let mut end = 0;
    for item in boxes(file, 0..file.len()) {
        match &item.kind {
            b"moof" => {
                starts.push(lead.take().unwrap_or(item.start));
                end = item.end;
            }
            b"mdat" => end = item.end,
            b"styp" | b"sidx" | b"prft" | b"emsg" if !starts.is_empty() => {
                lead.get_or_insert(item.start);
            }
            _ => lead = None,
        }
    }
    units_from_starts(&starts, end)
}

/// Lists all `moof` boxes.
fn moofs(file: &[u8]) -> Vec<BoxAt> {
    children(file, 0..file.len(), b"moof")
}

/// Adds `delta` to the explicit base data offsets in a range of the file.
fn rebase(out: &mut [u8], range: Range<usize>, delta: u64) {
    for moof in children(out, range, b"moof") {
        for traf in children(out, moof.inside(), b"traf") {
            let Some(tfhd) = child(out, traf.inside(), b"tfhd") else { continue };
            let explicit = isobmff::version_and_flags(out, &tfhd).is_some_and(|(_, flags)| flags & 1 != 0);
            let base = be(out, tfhd.body + 8, 8);
            if let (true, Some(base)) = (explicit, base) {
                let _ = put_be(out, tfhd.body + 8, 8, base.wrapping_add(delta));
            }
        }
    }
}

/// Joins ranges of whole boxes and adjusts their base data offsets.
fn place(file: &[u8], ranges: &[Range<usize>], draw: &Draw) -> Option<Vec<u8>> {
    let mut out = join_ranges(file, ranges, draw)?;
    let mut at = 0;
    for range in ranges {
        let delta = (at as u64).wrapping_sub(range.start as u64);
        rebase(&mut out, at..at + range.len(), delta);
        at += range.len();
    }
    Some(out)
}

/// Changes the order of the fragments.
///
/// In one of four cases, explicit base data offsets stay unchanged.
fn rearranged(file: &[u8], draw: &mut Draw, reorder: Reorder) -> Made {
    let mut units = fragments(file);
    let head = 0..units.first()?.start;
    let tail = units.last()?.end..file.len();
    let note = reorder(&mut units, draw)?;
    units.insert(0, head);
    units.push(tail);
    let placed = place(file, &units, draw)?;
    if draw.one_in(4) {
        let kept = join_ranges(file, &units, draw)?;
        if kept != placed {
            return Some((kept, note + ", base offsets kept"));
        }
    }
    Some((placed, note))
}

/// Repeats a fragment once, next to itself.
fn duplicated_adjacent(file: &[u8], draw: &mut Draw) -> Made {
    rearranged(file, draw, repeat_adjacent)
}

/// Repeats a fragment many times, next to itself.
fn duplicated_adjacent_often(file: &[u8], draw: &mut Draw) -> Made {
    rearranged(file, draw, repeat_adjacent_often)
}

/// Repeats a fragment once, after the last one.
fn duplicated_at_end(file: &[u8], draw: &mut Draw) -> Made {
    rearranged(file, draw, repeat_at_end)
}

/// Repeats a fragment many times, after the last one.
fn duplicated_at_end_often(file: &[u8], draw: &mut Draw) -> Made {
    rearranged(file, draw, repeat_at_end_often)
}

/// Swaps two fragments.
fn swapped(file: &[u8], draw: &mut Draw) -> Made {
    rearranged(file, draw, swap_two)
}

/// Removes one fragment.
fn dropped(file: &[u8], draw: &mut Draw) -> Made {
    rearranged(file, draw, drop_one)
}

/// Reverses a range of fragments.
fn reversed(file: &[u8], draw: &mut Draw) -> Made {
    rearranged(file, draw, reverse_stretch)
}

/// The position of a numeric field.
#[derive(Clone, Copy)]
struct Field {
    at: usize,
    width: usize,
}

/// Lists the video `traf` boxes with the numbers of their fragments.
fn video_trafs(file: &[u8]) -> Vec<(usize, BoxAt)> {
    let video = isobmff::video_track_id(file);
    let mut found = Vec::new();
    for (fragment, moof) in moofs(file).into_iter().enumerate() {
        for traf in children(file, moof.inside(), b"traf") {
            let track = child(file, traf.inside(), b"tfhd").and_then(|tfhd| be(file, tfhd.body + 4, 4));
            if track.is_some() && (video.is_none() || track == video) {
                found.push((fragment, traf));
            }
        }
    }
    found
}

/// Lists the `tfdt` decode time fields of the video track.
fn decode_times(file: &[u8]) -> Vec<Field> {
    let trafs = video_trafs(file).into_iter();
    trafs
        .filter_map(|(_, traf)| {
            let tfdt = child(file, traf.inside(), b"tfdt")?;
            let (version, _) = isobmff::version_and_flags(file, &tfdt)?;
            let width = if version == 1 { 8 } else { 4 };
            be(file, tfdt.body + 4, width)?;
            Some(Field { at: tfdt.body + 4, width })
        })
        .collect()
}

/// Changes the decode time of one fragment, or of all fragments from one on.
///
/// `renew` gets the old times, the first changed index and the index.
fn retimed(file: &[u8], draw: &mut Draw, renew: impl Fn(&[u64], usize, usize) -> u64) -> Made {
    let fields = decode_times(file);
    let times: Vec<u64> = fields.iter().filter_map(|field| be(file, field.at, field.width)).collect();
    let chosen = draw.one_or_rest(1, times.len())?;
    let mut out = file.to_vec();
    for index in chosen.clone() {
        let Field { at, width } = fields[index];
        let most = u64::MAX >> (64 - 8 * width);
        put_be(&mut out, at, width, renew(&times, chosen.start, index).min(most))?;
    }
    Some((out, scope("fragment", &chosen, times.len())))
}

/// Sets decode times to 0.
fn decode_time_zero(file: &[u8], draw: &mut Draw) -> Made {
    retimed(file, draw, |_, _, _| 0)
}

/// Decreases decode times by the distance to an earlier fragment.
fn decode_time_lower(file: &[u8], draw: &mut Draw) -> Made {
    let choice = draw.next() as usize;
    retimed(file, draw, |times, first, index| {
        let step = times[first].saturating_sub(times[choice % first]);
        times[index].saturating_sub(step.max(times[first] / 4))
    })
}

/// Sets decode times to the decode time of the previous fragment.
fn decode_time_equal(file: &[u8], draw: &mut Draw) -> Made {
    retimed(file, draw, |times, first, _| times[first - 1])
}

/// Increases decode times by a large amount, at most close to the largest number.
fn decode_time_huge(file: &[u8], draw: &mut Draw) -> Made {
    let base = draw.pick(&[1 << 24, 0xFFFF_0000, 1 << 40, 1 << 62, u64::MAX - 1])?;
    retimed(file, draw, |times, first, index| base.saturating_add(times[index].saturating_sub(times[first])))
}

/// Appends the whole file to itself.
fn file_twice(file: &[u8], draw: &mut Draw) -> Made {
    let whole = 0..file.len();
    moofs(file).first()?;
    Some((place(file, &[whole.clone(), whole], draw)?, "with second ftyp and moov".into()))
}

/// Appends all fragments to the file again.
fn fragments_twice(file: &[u8], draw: &mut Draw) -> Made {
    let first = fragments(file).first()?.start;
    let out = place(file, &[0..file.len(), first..file.len()], draw)?;
    Some((out, "fragments only".into()))
}

/// The content of a field in a fragment.
#[derive(Clone, Copy, PartialEq)]
enum Holds {
    FirstSampleFlags,
    SampleFlags,
    DefaultFlags,
    /// Default flags in `trex`, for all fragments.
    MovieDefaultFlags,
    Duration,
    DefaultDuration,
}

impl Holds {
    fn is_flags(self) -> bool {
        !matches!(self, Holds::Duration | Holds::DefaultDuration)
    }
}

/// A four-byte field: its content, its fragment and its position.
type SampleField = (Holds, usize, usize);

/// Lists the flag and duration fields of `tfhd`.
fn header_fields(file: &[u8], fragment: usize, tfhd: &BoxAt) -> Option<Vec<SampleField>> {
    let (_, flags) = isobmff::version_and_flags(file, tfhd)?;
    let mut at = tfhd.body + 8;
    let mut found = Vec::new();
    for (flag, width, holds) in [
        (0x01, 8, None),
        (0x02, 4, None),
        (0x08, 4, Some(Holds::DefaultDuration)),
        (0x10, 4, None),
        (0x20, 4, Some(Holds::DefaultFlags)),
    ] {
        if flags & flag != 0 {
            found.extend(holds.map(|holds| (holds, fragment, at)));
            at += width;
        }
    }
    (at <= tfhd.end).then_some(found)
}

/// Lists the flag and duration fields of `trun`.
fn run_fields(file: &[u8], fragment: usize, trun: &BoxAt) -> Option<Vec<SampleField>> {
    let (_, flags) = isobmff::version_and_flags(file, trun)?;
    let count = be(file, trun.body + 4, 4)? as usize;
    let mut at = trun.body + 8 + if flags & 1 != 0 { 4 } else { 0 };
    let mut found = Vec::new();
    if flags & 4 != 0 {
        found.push((Holds::FirstSampleFlags, fragment, at));
        at += 4;
    }
    let per_sample = [(0x100, Some(Holds::Duration)), (0x200, None), (0x400, Some(Holds::SampleFlags)), (0x800, None)];
    let width: usize = per_sample.iter().filter(|(flag, _)| flags & flag != 0).count() * 4;
    let fitting = trun.end.checked_sub(at)?.checked_div(width).unwrap_or(0);
    for _ in 0..count.min(fitting) {
        for (flag, holds) in per_sample {
            if flags & flag != 0 {
                found.extend(holds.map(|holds| (holds, fragment, at)));
                at += 4;
            }
        }
    }
    Some(found)
}

/// Lists the flag and duration fields of the video track.
fn sample_fields(file: &[u8]) -> Vec<SampleField> {
    let mut found = Vec::new();
    for (fragment, traf) in video_trafs(file) {
        for item in boxes(file, traf.inside()) {
            found.extend(match &item.kind {
                b"tfhd" => header_fields(file, fragment, &item).unwrap_or_default(),
                b"trun" => run_fields(file, fragment, &item).unwrap_or_default(),
                _ => Vec::new(),
            });
        }
    }
    found
}

/// Finds the default flags of the video track in `trex`.
fn movie_default_flags(file: &[u8]) -> Option<SampleField> {
    let video = isobmff::video_track_id(file)?;
    let mvex = child(file, isobmff::movie(file)?.inside(), b"mvex")?;
    let mut trexes = children(file, mvex.inside(), b"trex").into_iter();
    let trex = trexes.find(|trex| be(file, trex.body + 4, 4) == Some(video))?;
    Some((Holds::MovieDefaultFlags, 0, trex.body + 20))
}

/// Sample flags of a sync sample that depends on no other sample.
const SYNC: u64 = 0x0200_0000;
/// Sample flags of a non-sync sample that depends on others.
const NON_SYNC: u64 = 0x0101_0000;

/// Writes the same sample flags everywhere, or in all fragments except the first.
fn all_flags(file: &[u8], draw: &mut Draw, value: u64) -> Made {
    let from = draw.below(2);
    let mut fields = sample_fields(file);
    fields.extend(movie_default_flags(file).filter(|_| from == 0));
    fields.retain(|(holds, fragment, _)| holds.is_flags() && *fragment >= from);
    fields.first()?;
    let mut out = file.to_vec();
    for (_, _, at) in &fields {
        put_be(&mut out, *at, 4, value)?;
    }
    Some((out, format!("{} fields from fragment {from} on", fields.len())))
}

/// Marks all samples as non-sync samples.
fn sync_cleared(file: &[u8], draw: &mut Draw) -> Made {
    all_flags(file, draw, NON_SYNC)
}

/// Marks all samples as sync samples.
fn sync_set(file: &[u8], draw: &mut Draw) -> Made {
    all_flags(file, draw, SYNC)
}

/// Swaps sync and non-sync in some fields of one type.
fn flipped(file: &[u8], draw: &mut Draw, sort: Holds) -> Made {
    let mut fields = sample_fields(file);
    fields.retain(|(holds, _, _)| *holds == sort);
    let always = draw.below(fields.len());
    let often = draw.between(1, 5);
    let mut out = file.to_vec();
    let mut count = 0;
    for (index, (_, _, at)) in fields.iter().enumerate() {
        if index == always || draw.one_in(often) {
            let sync = be(file, *at, 4)? & 0x1_0000 == 0;
            put_be(&mut out, *at, 4, if sync { NON_SYNC } else { SYNC })?;
            count += 1;
        }
    }
    (count > 0).then(|| (out, format!("{count} of {} fields", fields.len())))
}

/// Flips first-sample-flags of some `trun` boxes.
fn first_sample_flags_flipped(file: &[u8], draw: &mut Draw) -> Made {
    flipped(file, draw, Holds::FirstSampleFlags)
}

/// Flips sample-flags of some samples in `trun` boxes.
fn sample_flags_flipped(file: &[u8], draw: &mut Draw) -> Made {
    flipped(file, draw, Holds::SampleFlags)
}

/// Flips the default sample flags of some `tfhd` boxes.
fn default_flags_flipped(file: &[u8], draw: &mut Draw) -> Made {
    flipped(file, draw, Holds::DefaultFlags)
}

/// Sets sample durations to 0 in one fragment, or in all fragments from one on.
fn durations_zero(file: &[u8], draw: &mut Draw) -> Made {
    let count = moofs(file).len();
    let chosen = draw.one_or_rest(0, count)?;
    let mut fields = sample_fields(file);
    fields.retain(|(holds, fragment, _)| !holds.is_flags() && chosen.contains(fragment));
    let mut out = file.to_vec();
    for (_, _, at) in &fields {
        put_be(&mut out, *at, 4, 0)?;
    }
    Some((out, scope("fragment", &chosen, count)))
}

/// Truncates the file inside the `moof` or, more often, the `mdat` of a fragment.
fn truncated(file: &[u8], draw: &mut Draw) -> Made {
    let kind = draw.pick(&[b"moof", b"mdat", b"mdat"])?;
    let parts = children(file, 0..file.len(), kind);
    let part = parts.get(draw.below(parts.len()))?;
    cut_within(file, &part.inside(), draw)
}
