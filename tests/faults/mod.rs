// SPDX-License-Identifier: MIT OR Apache-2.0
//! Structurally faulty media files, made out of good ones.
//!
//! [`faulty`] applies one to three faults to a file. The seed alone chooses
//! them, so a seed that shows an error can be run again. The faults change
//! the structure of the container (tables, flags, times, order of the parts).
//! They add no random bytes, so most results can still be read in part.
//!
//! Each container has a module with a table of faults. A fault takes the file
//! and gives back a new one with a short note, or `None` where the file lacks
//! what the fault needs. No result is larger than three times the input.
//!
//! The tests make their files with the `ffmpeg` command. Without it they
//! print a note and check only what needs no such file.

use std::ops::Range;

/// The container format of a file given to [`faulty`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// ISO base media file with its sample tables in `moov`.
    Mp4,
    /// ISO base media file with its samples in `moof` fragments.
    FragmentedMp4,
    /// Matroska or WebM.
    Matroska,
    /// MPEG-2 transport stream of 188-byte packets.
    TransportStream,
    /// Flash video.
    Flv,
    /// RIFF AVI with an `idx1` index.
    Avi,
}

/// How many times larger than the input a result may be.
const GROWTH_LIMIT: usize = 3;
/// How many further faults are tried in place of those that do not apply.
const SPARE_TRIES: usize = 4;
/// The most parts that a container is split into.
const MOST_PARTS: usize = 1 << 16;

/// A changed file and a note on what changed, or `None` if nothing could.
type Made = Option<(Vec<u8>, String)>;
/// A fault: its name and the function that applies it.
type Fault = (&'static str, fn(&[u8], &mut Draw) -> Made);
/// Consecutive byte ranges of a file that can be put in another order.
type Units = Vec<Range<usize>>;

/// Makes a faulty file out of `file`.
///
/// Returns the new bytes and an English description of the faults. The same
/// arguments always give the same result. Returns the bytes unchanged, with a
/// description that says so, if none of the chosen faults applies.
pub fn faulty(container: Container, file: &[u8], seed: u64) -> (Vec<u8>, String) {
    let faults = faults_of(container);
    let mut draw = Draw::new(seed, file.len().saturating_mul(GROWTH_LIMIT));
    let wanted = 1 + draw.below(3);
    let mut order: Vec<usize> = (0..faults.len()).collect();
    draw.shuffle(&mut order);

    let mut bytes = file.to_vec();
    let mut applied = Vec::new();
    let mut skipped = Vec::new();
    for index in order.into_iter().take(wanted + SPARE_TRIES) {
        if applied.len() == wanted {
            break;
        }
        let (name, apply) = faults[index];
        match apply(&bytes, &mut draw) {
            Some((made, note)) if made != bytes => {
                bytes = made;
                applied.push(format!("{name} ({note})"));
            }
            _ => skipped.push(name),
        }
    }
    if applied.is_empty() {
        return (bytes, format!("unchanged: nothing to alter for {}", skipped.join(", ")));
    }
    (bytes, applied.join("; "))
}

/// Returns the table of faults of a container.
fn faults_of(container: Container) -> &'static [Fault] {
    match container {
        Container::Mp4 => mp4::FAULTS,
        Container::FragmentedMp4 => fragmented_mp4::FAULTS,
        Container::Matroska => matroska::FAULTS,
        Container::TransportStream => transport_stream::FAULTS,
        Container::Flv => flv::FAULTS,
        Container::Avi => avi::FAULTS,
    }
}

/// The random choices of one call, and the size that its results may reach.
struct Draw {
    state: u64,
    limit: usize,
}

impl Draw {
    fn new(seed: u64, limit: usize) -> Self {
        Draw { state: seed, limit }
    }

    /// Returns the next number of the splitmix64 sequence.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, or 0 if `bound` is 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Returns a number from `low` up to but without `high`.
    fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low))
    }

    /// Is true once in `n` times.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Returns one of `items`.
    fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        let index = self.below(items.len());
        items.get(index).copied()
    }

    /// Returns a stretch of at least `least` of `count` items.
    fn stretch(&mut self, count: usize, least: usize) -> Option<Range<usize>> {
        if count < least {
            return None;
        }
        let start = self.below(count - least + 1);
        Some(start..self.between(start + least, count + 1))
    }

    /// Returns one item from `first` on, or all items from there to the end.
    fn one_or_rest(&mut self, first: usize, count: usize) -> Option<Range<usize>> {
        if count <= first {
            return None;
        }
        let start = self.between(first, count);
        Some(if self.one_in(2) { start..start + 1 } else { start..count })
    }

    /// Puts `items` in random order.
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Describes a choice of [`Draw::one_or_rest`].
fn scope(what: &str, chosen: &Range<usize>, count: usize) -> String {
    if chosen.len() == 1 && chosen.end != count {
        format!("{what} {} only", chosen.start)
    } else {
        format!("all from {what} {}", chosen.start)
    }
}

/// Reads a big-endian number of `width` bytes.
fn be(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(width)?)?;
    Some(field.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// Writes a big-endian number of `width` bytes.
fn put_be(bytes: &mut [u8], at: usize, width: usize, value: u64) -> Option<()> {
    let field = bytes.get_mut(at..at.checked_add(width)?)?;
    field.copy_from_slice(value.to_be_bytes().get(8usize.checked_sub(width)?..)?);
    Some(())
}

/// Reads a little-endian number of four bytes.
fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

/// Writes a little-endian number of four bytes.
fn put_le32(bytes: &mut [u8], at: usize, value: u32) -> Option<()> {
    bytes.get_mut(at..at.checked_add(4)?)?.copy_from_slice(&value.to_le_bytes());
    Some(())
}

/// Joins byte strings, or returns `None` where they pass the size limit.
fn join(parts: &[&[u8]], draw: &Draw) -> Option<Vec<u8>> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    (total <= draw.limit).then(|| parts.concat())
}

/// Joins ranges of `file`, under the same limit as [`join`].
fn join_ranges(file: &[u8], ranges: &[Range<usize>], draw: &Draw) -> Option<Vec<u8>> {
    let total: usize = ranges.iter().map(|range| range.len()).sum();
    if total > draw.limit {
        return None;
    }
    let mut out = Vec::with_capacity(total);
    for range in ranges {
        out.extend_from_slice(file.get(range.clone())?);
    }
    Some(out)
}

/// Appends the file to itself.
fn concatenated(file: &[u8], draw: &mut Draw) -> Made {
    Some((join(&[file, file], draw)?, "whole file twice".into()))
}

/// Cuts the file off at a random place inside `range`.
fn cut_within(file: &[u8], range: &Range<usize>, draw: &mut Draw) -> Made {
    if range.len() < 2 {
        return None;
    }
    let end = draw.between(range.start + 1, range.end);
    Some((file.get(..end)?.to_vec(), format!("{end} of {} bytes kept", file.len())))
}

/// Turns the starts of consecutive parts into ranges, the last up to `end`.
fn units_from_starts(starts: &[usize], end: usize) -> Units {
    let ends = starts.iter().skip(1).copied().chain([end]);
    starts.iter().zip(ends).map(|(&start, end)| start..end).collect()
}

/// A change to the order or the number of units.
type Reorder = fn(&mut Units, &mut Draw) -> Option<String>;

/// Puts `copies` more of the unit at `from` in front of index `to`.
fn insert_copies(units: &mut Units, from: usize, to: usize, copies: usize) -> Option<()> {
    let unit = units.get(from)?.clone();
    units.splice(to..to, std::iter::repeat_n(unit, copies));
    Some(())
}

/// Draws how many copies of a unit fit under the size limit, 2 to 8.
fn many_copies(units: &Units, index: usize, draw: &mut Draw) -> Option<usize> {
    let size = units.get(index)?.len().max(1);
    let total: usize = units.iter().map(|unit| unit.len()).sum();
    let room = (draw.limit.saturating_sub(total) / size).min(8);
    (room >= 2).then(|| draw.between(2, room + 1))
}

/// Repeats one unit once, right after itself.
fn repeat_adjacent(units: &mut Units, draw: &mut Draw) -> Option<String> {
    let index = draw.below(units.len());
    insert_copies(units, index, index + 1, 1)?;
    Some(format!("number {index} twice in a row"))
}

/// Repeats one unit many times, right after itself.
fn repeat_adjacent_often(units: &mut Units, draw: &mut Draw) -> Option<String> {
    let index = draw.below(units.len());
    let copies = many_copies(units, index, draw)?;
    insert_copies(units, index, index + 1, copies)?;
    Some(format!("number {index} with {copies} copies after it"))
}

/// Repeats one unit once, after the last unit.
fn repeat_at_end(units: &mut Units, draw: &mut Draw) -> Option<String> {
    let index = draw.below(units.len());
    let end = units.len();
    insert_copies(units, index, end, 1)?;
    Some(format!("number {index} again at the end"))
}

/// Repeats one unit many times, after the last unit.
fn repeat_at_end_often(units: &mut Units, draw: &mut Draw) -> Option<String> {
    let index = draw.below(units.len());
    let copies = many_copies(units, index, draw)?;
    let end = units.len();
    insert_copies(units, index, end, copies)?;
    Some(format!("{copies} copies of number {index} at the end"))
}

/// Exchanges two units.
fn swap_two(units: &mut Units, draw: &mut Draw) -> Option<String> {
    if units.len() < 2 {
        return None;
    }
    let first = draw.below(units.len() - 1);
    let second = if draw.one_in(2) { first + 1 } else { draw.between(first + 1, units.len()) };
    units.swap(first, second);
    Some(format!("numbers {first} and {second}"))
}

/// Leaves one unit out.
fn drop_one(units: &mut Units, draw: &mut Draw) -> Option<String> {
    if units.len() < 2 {
        return None;
    }
    let index = draw.below(units.len());
    units.remove(index);
    Some(format!("number {index}"))
}

/// Reverses the order of a stretch of units.
fn reverse_stretch(units: &mut Units, draw: &mut Draw) -> Option<String> {
    let stretch = draw.stretch(units.len(), 2)?;
    units[stretch.clone()].reverse();
    Some(format!("numbers {} to {}", stretch.start, stretch.end - 1))
}

/// The boxes of ISO base media files, for both kinds of MP4.
mod isobmff {
    use super::{MOST_PARTS, be, put_be};
    use std::ops::Range;

    /// The position of a box.
    #[derive(Clone)]
    pub(super) struct BoxAt {
        pub(super) kind: [u8; 4],
        pub(super) start: usize,
        /// Where the content after the header begins.
        pub(super) body: usize,
        pub(super) end: usize,
    }

    impl BoxAt {
        /// Returns the range of the content.
        pub(super) fn inside(&self) -> Range<usize> {
            self.body..self.end
        }
    }

    /// Reads the box header at `at`. A box that passes `end` is cut there.
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

    /// Lists the boxes of a range, up to the first that cannot be read.
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

    /// Finds the first box of a kind in a range.
    pub(super) fn child(file: &[u8], range: Range<usize>, kind: &[u8; 4]) -> Option<BoxAt> {
        boxes(file, range).into_iter().find(|item| &item.kind == kind)
    }

    /// Finds the box at a path of kinds.
    pub(super) fn descend(file: &[u8], range: Range<usize>, path: &[&[u8; 4]]) -> Option<BoxAt> {
        let (first, rest) = path.split_first()?;
        let item = child(file, range, first)?;
        if rest.is_empty() { Some(item) } else { descend(file, item.inside(), rest) }
    }

    /// Lists the boxes of a kind in a range.
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
}

/// Faults of MP4 files with fragments.
mod fragmented_mp4 {
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
    /// A fragment reaches to the next one, so a second header in a file
    /// belongs to the fragment before it. The last ends with its `mdat`.
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

    /// Adds `delta` to the explicit base data offsets of a stretch of the file.
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

    /// Joins ranges of whole boxes and moves their base data offsets along.
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
    /// One time in four, explicit base data offsets stay as they were.
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

    /// Exchanges two fragments.
    fn swapped(file: &[u8], draw: &mut Draw) -> Made {
        rearranged(file, draw, swap_two)
    }

    /// Leaves one fragment out.
    fn dropped(file: &[u8], draw: &mut Draw) -> Made {
        rearranged(file, draw, drop_one)
    }

    /// Reverses a stretch of fragments.
    fn reversed(file: &[u8], draw: &mut Draw) -> Made {
        rearranged(file, draw, reverse_stretch)
    }

    /// The position of a field with a number.
    #[derive(Clone, Copy)]
    struct Field {
        at: usize,
        width: usize,
    }

    /// Lists the video `traf` boxes with the number of their fragment.
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

    /// Gives new decode times to one fragment or to all from some fragment on.
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

    /// Sets decode times back by the distance to an earlier fragment.
    fn decode_time_lower(file: &[u8], draw: &mut Draw) -> Made {
        let choice = draw.next() as usize;
        retimed(file, draw, |times, first, index| {
            let step = times[first].saturating_sub(times[choice % first]);
            times[index].saturating_sub(step.max(times[first] / 4))
        })
    }

    /// Sets decode times to that of the fragment before.
    fn decode_time_equal(file: &[u8], draw: &mut Draw) -> Made {
        retimed(file, draw, |times, first, _| times[first - 1])
    }

    /// Moves decode times far ahead, at most close to the largest number.
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

    /// Appends the fragments to the file once more.
    fn fragments_twice(file: &[u8], draw: &mut Draw) -> Made {
        let first = fragments(file).first()?.start;
        let out = place(file, &[0..file.len(), first..file.len()], draw)?;
        Some((out, "fragments only".into()))
    }

    /// What a field of a fragment holds.
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

    /// A four-byte field: what it holds, its fragment and its position.
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
        let per_sample =
            [(0x100, Some(Holds::Duration)), (0x200, None), (0x400, Some(Holds::SampleFlags)), (0x800, None)];
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

    /// Writes the same sample flags in all places, or in all fragments but the first.
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

    /// Turns sync into non-sync and back in some fields of a sort.
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

    /// Sets sample durations to 0 in one fragment or in all from some on.
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

    /// Cuts the file inside the `moof` or, more often, the `mdat` of a fragment.
    fn truncated(file: &[u8], draw: &mut Draw) -> Made {
        let kind = draw.pick(&[b"moof", b"mdat", b"mdat"])?;
        let parts = children(file, 0..file.len(), kind);
        let part = parts.get(draw.below(parts.len()))?;
        cut_within(file, &part.inside(), draw)
    }
}

/// Faults of MP4 files with sample tables.
mod mp4 {
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

    /// Turns a box into a `free` box of the same size.
    fn freed(file: &[u8], item: &BoxAt) -> Option<Vec<u8>> {
        let mut out = file.to_vec();
        out.get_mut(item.start + 4..item.start + 8)?.copy_from_slice(b"free");
        Some(out)
    }

    /// Replaces the entries of `stss` by as many or fewer.
    ///
    /// A `free` box takes the place that is left, so that no position moves.
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

    /// Takes all entries out of `stss`.
    fn sync_table_emptied(file: &[u8], _: &mut Draw) -> Made {
        sync_table_changed(file, |_| Vec::new())
    }

    /// Keeps the first entry of `stss` only.
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

    /// Names each entry of the first half of `stss` twice.
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

    /// Turns `stss` into a `free` box.
    fn sync_table_removed(file: &[u8], _: &mut Draw) -> Made {
        Some((freed(file, &video_table(file, b"stss")?)?, "now free".into()))
    }

    /// Reads the runs of `stts`: sample count and sample delta.
    fn time_runs(file: &[u8], stts: &BoxAt) -> Option<Vec<(u64, u64)>> {
        let positions = entries(file, stts, 8)?.into_iter();
        positions.map(|at| Some((be(file, at, 4)?, be(file, at + 4, 4)?))).collect()
    }

    /// Gives the samples of `stretch` another delta. Splits runs where needed.
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

    /// Replaces a sample table of the video track by one of any size.
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

    /// Gives a stretch of samples another delta in `stts`.
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

    /// Sets the deltas of a stretch of samples to 0.
    fn deltas_zero(file: &[u8], draw: &mut Draw) -> Made {
        deltas_changed(file, draw, 0, usize::MAX)
    }

    /// Makes the delta of one sample or of some samples huge.
    fn deltas_huge(file: &[u8], draw: &mut Draw) -> Made {
        let delta = draw.pick(&[0x0100_0000, 0x7FFF_FFFF, 0xFFFF_FFFF])?;
        let most = draw.pick(&[1, 1, 5, usize::MAX])?;
        deltas_changed(file, draw, delta, most)
    }

    /// Gives a stretch of `ctts` runs another offset, and the box another version.
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

    /// Turns `ctts` into a `free` box.
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

    /// Makes the first edit begin at a sample between two keyframes.
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

    /// Sets a stretch of chunk offsets to the one before.
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

    /// Exchanges two chunk offsets.
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

    /// Sets some sample sizes to 0, in a stretch or here and there.
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

    /// Makes `mdat` reach past the end of the file.
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

    /// Cuts the file in its second half, or anywhere in its last box.
    fn truncated(file: &[u8], draw: &mut Draw) -> Made {
        isobmff::movie(file)?;
        let last = boxes(file, 0..file.len()).pop()?;
        if draw.one_in(3) {
            cut_within(file, &last.inside(), draw)
        } else {
            cut_within(file, &(file.len() / 2..file.len()), draw)
        }
    }
}

/// Faults of Matroska and WebM files.
mod matroska {
    use super::*;

    pub(super) const FAULTS: &[Fault] = &[
        ("cluster duplicated adjacent", duplicated_adjacent),
        ("cluster duplicated at the end", duplicated_at_end),
        ("clusters swapped", swapped),
        ("cluster dropped", dropped),
        ("clusters reversed", reversed),
        ("cluster Timestamp zero", timestamp_zero),
        ("cluster Timestamp equal to the one before", timestamp_equal),
        ("cluster Timestamp huge", timestamp_huge),
        ("keyframe flags cleared but the first", keyframes_first_only),
        ("every other keyframe flag cleared", keyframes_thinned),
        ("keyframe flags cleared", keyframes_cleared),
        ("keyframe flags set", keyframes_set),
        ("keyframe flags random", keyframes_random),
        ("block times negative", block_times_negative),
        ("block times equal", block_times_equal),
        ("Cues voided", cues_voided),
        ("Cues positions wrong", cues_wrong),
        ("file concatenated", file_twice),
        ("Segment size unknown", segment_size_unknown),
        ("Cluster sizes unknown", cluster_sizes_unknown),
        ("truncated in a cluster", truncated),
        ("lacing flags set", lacing_set),
        ("CodecPrivate voided", codec_private_voided),
    ];

    const EBML: u32 = 0x1A45_DFA3;
    const SEGMENT: u32 = 0x1853_8067;
    const SEEK_HEAD: u32 = 0x114D_9B74;
    const INFO: u32 = 0x1549_A966;
    const TRACKS: u32 = 0x1654_AE6B;
    const TRACK_ENTRY: u32 = 0xAE;
    const TRACK_NUMBER: u32 = 0xD7;
    const TRACK_TYPE: u32 = 0x83;
    const CODEC_PRIVATE: u32 = 0x63A2;
    const CLUSTER: u32 = 0x1F43_B675;
    const TIMESTAMP: u32 = 0xE7;
    const SIMPLE_BLOCK: u32 = 0xA3;
    const BLOCK_GROUP: u32 = 0xA0;
    const BLOCK: u32 = 0xA1;
    const CUES: u32 = 0x1C53_BB6B;
    const CUE_POINT: u32 = 0xBB;
    const CUE_TRACK_POSITIONS: u32 = 0xB7;
    const CUE_CLUSTER_POSITION: u32 = 0xF1;
    const ATTACHMENTS: u32 = 0x1941_A469;
    const CHAPTERS: u32 = 0x1043_A770;
    const TAGS: u32 = 0x1254_C367;
    const CRC_32: u32 = 0xBF;
    const VOID: u8 = 0xEC;

    /// Elements that end a cluster of unknown size.
    const AFTER_CLUSTER: [u32; 10] =
        [EBML, SEGMENT, SEEK_HEAD, INFO, TRACKS, CLUSTER, CUES, ATTACHMENTS, CHAPTERS, TAGS];

    /// The position of an EBML element.
    #[derive(Clone)]
    struct Element {
        id: u32,
        start: usize,
        size_at: usize,
        body: usize,
        /// The end of the content, cut at the end of the parent.
        end: usize,
        /// The size in the header, or `None` if unknown.
        size: Option<u64>,
    }

    impl Element {
        fn inside(&self) -> Range<usize> {
            self.body..self.end
        }

        /// Returns how many bytes the size field has.
        fn size_width(&self) -> usize {
            self.body - self.size_at
        }
    }

    /// Returns the length of the variable-size number that starts with `first`.
    fn vint_width(first: u8, most: usize) -> Option<usize> {
        let width = first.leading_zeros() as usize + 1;
        (width <= most).then_some(width)
    }

    /// Reads a variable-size number without its marker bit: value and width.
    fn vint(file: &[u8], at: usize) -> Option<(u64, usize)> {
        let width = vint_width(*file.get(at)?, 8)?;
        Some((be(file, at, width)? & unknown_size(width), width))
    }

    /// Returns the value of a size field with all bits set.
    fn unknown_size(width: usize) -> u64 {
        (1 << (7 * width)) - 1
    }

    /// Writes a size field of `width` bytes. A size too large becomes unknown.
    fn put_size(out: &mut [u8], at: usize, width: usize, size: u64) -> Option<()> {
        let most = unknown_size(width);
        put_be(out, at, width, size.min(most) | (most + 1))
    }

    /// Reads the element header at `at`, inside a parent that ends at `end`.
    fn element(file: &[u8], at: usize, end: usize) -> Option<Element> {
        let id_width = vint_width(*file.get(at)?, 4)?;
        let id = be(file, at, id_width)? as u32;
        let size_at = at + id_width;
        let (value, width) = vint(file, size_at)?;
        let body = size_at + width;
        let size = (value != unknown_size(width)).then_some(value);
        let room = end.checked_sub(body)?;
        let inside = size.map_or(room, |size| room.min(size.min(usize::MAX as u64) as usize));
        Some(Element { id, start: at, size_at, body, end: body + inside, size })
    }

    /// Lists the elements of a range, up to the first that cannot be read.
    fn elements(file: &[u8], range: Range<usize>) -> Vec<Element> {
        let mut found = Vec::new();
        let mut at = range.start;
        while at < range.end && found.len() < MOST_PARTS {
            let Some(mut item) = element(file, at, range.end) else { break };
            if item.size.is_none() && item.id == CLUSTER {
                item.end = unknown_cluster_end(file, item.inside());
            }
            at = item.end;
            found.push(item);
        }
        found
    }

    /// Finds the end of a cluster of unknown size.
    fn unknown_cluster_end(file: &[u8], inside: Range<usize>) -> usize {
        let mut at = inside.start;
        while at < inside.end {
            match element(file, at, inside.end) {
                Some(item) if !AFTER_CLUSTER.contains(&item.id) => at = item.end,
                Some(_) => return at,
                None => break,
            }
        }
        inside.end
    }

    /// Lists the elements of a sort in a range.
    fn all_of(file: &[u8], range: Range<usize>, id: u32) -> Vec<Element> {
        let mut found = elements(file, range);
        found.retain(|item| item.id == id);
        found
    }

    /// Finds the first element of a sort in a range.
    fn first_of(file: &[u8], range: Range<usize>, id: u32) -> Option<Element> {
        elements(file, range).into_iter().find(|item| item.id == id)
    }

    /// Finds the first segment.
    fn segment(file: &[u8]) -> Option<Element> {
        first_of(file, 0..file.len(), SEGMENT)
    }

    /// Lists the clusters of the first segment.
    fn clusters(file: &[u8]) -> Vec<Element> {
        segment(file).map_or(Vec::new(), |segment| all_of(file, segment.inside(), CLUSTER))
    }

    /// Finds the entry of the first video track.
    fn video_entry(file: &[u8]) -> Option<Element> {
        let tracks = first_of(file, segment(file)?.inside(), TRACKS)?;
        all_of(file, tracks.inside(), TRACK_ENTRY).into_iter().find(|entry| {
            first_of(file, entry.inside(), TRACK_TYPE).is_some_and(|kind| file.get(kind.body) == Some(&1))
        })
    }

    /// Reads the unsigned number that an element holds.
    fn number(file: &[u8], item: &Element) -> Option<u64> {
        let width = item.end - item.body;
        if width > 8 { None } else { be(file, item.body, width) }
    }

    /// Reads the number of the first video track.
    fn video_number(file: &[u8]) -> Option<u64> {
        number(file, &first_of(file, video_entry(file)?.inside(), TRACK_NUMBER)?)
    }

    /// Turns an element into a Void element of the same size.
    fn void(out: &mut [u8], item: &Element) -> Option<()> {
        let total = item.end - item.start;
        let width = (item.body - item.start - 1).min(8);
        *out.get_mut(item.start)? = VOID;
        put_size(out, item.start + 1, width, (total - 1 - width) as u64)
    }

    /// Turns the checksums in a changed file into Void elements.
    fn without_checksums(mut out: Vec<u8>) -> Vec<u8> {
        let Some(segment) = segment(&out) else { return out };
        for item in elements(&out, segment.inside()) {
            match element(&out, item.body, item.end) {
                Some(inner) if inner.id == CRC_32 => out[inner.start] = VOID,
                _ => {}
            }
        }
        out
    }

    /// Corrects the segment size after the file got longer or shorter.
    fn resize_segment(out: &mut [u8], segment: &Element, old_len: usize) -> Option<()> {
        let Some(size) = segment.size else { return Some(()) };
        let delta = (out.len() as u64).wrapping_sub(old_len as u64);
        put_size(out, segment.size_at, segment.size_width(), size.wrapping_add(delta))
    }

    /// Changes the order of the clusters.
    ///
    /// Half the time the seek tables, which no longer hold, become Void.
    fn rearranged(file: &[u8], draw: &mut Draw, reorder: Reorder) -> Made {
        let clusters = clusters(file);
        let starts: Vec<usize> = clusters.iter().map(|cluster| cluster.start).collect();
        let mut units = units_from_starts(&starts, clusters.last()?.end);
        let head = 0..units.first()?.start;
        let tail = units.last()?.end..file.len();
        let mut note = reorder(&mut units, draw)?;
        units.insert(0, head);
        units.push(tail);
        let mut out = join_ranges(file, &units, draw)?;
        resize_segment(&mut out, &segment(file)?, file.len())?;
        if draw.one_in(2) {
            for item in elements(&out, segment(&out)?.inside()) {
                if item.id == SEEK_HEAD || item.id == CUES {
                    void(&mut out, &item)?;
                }
            }
            note += ", seek tables voided";
        }
        Some((out, note))
    }

    /// Repeats a cluster once or many times, next to itself.
    fn duplicated_adjacent(file: &[u8], draw: &mut Draw) -> Made {
        let reorder = draw.pick::<Reorder>(&[repeat_adjacent, repeat_adjacent_often])?;
        rearranged(file, draw, reorder)
    }

    /// Repeats a cluster once or many times, after the last one.
    fn duplicated_at_end(file: &[u8], draw: &mut Draw) -> Made {
        let reorder = draw.pick::<Reorder>(&[repeat_at_end, repeat_at_end_often])?;
        rearranged(file, draw, reorder)
    }

    /// Exchanges two clusters.
    fn swapped(file: &[u8], draw: &mut Draw) -> Made {
        rearranged(file, draw, swap_two)
    }

    /// Leaves one cluster out.
    fn dropped(file: &[u8], draw: &mut Draw) -> Made {
        rearranged(file, draw, drop_one)
    }

    /// Reverses a stretch of clusters.
    fn reversed(file: &[u8], draw: &mut Draw) -> Made {
        rearranged(file, draw, reverse_stretch)
    }

    /// Sets the Timestamp of a cluster. Makes the field larger where needed.
    fn set_timestamp(out: &mut Vec<u8>, cluster: &Element, value: u64) -> Option<()> {
        let field = first_of(out, cluster.inside(), TIMESTAMP)?;
        let width = field.end - field.body;
        if width >= 8 || (width > 0 && value >> (8 * width) == 0) {
            return put_be(out, field.body, width.min(8), value);
        }
        let grown = [&[TIMESTAMP as u8, 0x88][..], &value.to_be_bytes()].concat();
        let growth = grown.len() - (field.end - field.start);
        if let Some(size) = cluster.size {
            let mut header = CLUSTER.to_be_bytes().to_vec();
            header.extend([0; 8]);
            put_size(&mut header, 4, 8, size + growth as u64)?;
            out.splice(field.start..field.end, grown);
            out.splice(cluster.start..cluster.body, header);
        } else {
            out.splice(field.start..field.end, grown);
        }
        Some(())
    }

    /// Gives new Timestamps to one cluster or to all from some cluster on.
    ///
    /// `renew` gets the old times, the first changed index and the index.
    fn retimed(file: &[u8], draw: &mut Draw, renew: impl Fn(&[u64], usize, usize) -> u64) -> Made {
        let clusters = clusters(file);
        let times: Vec<u64> =
            clusters.iter().map_while(|cluster| number(file, &first_of(file, cluster.inside(), TIMESTAMP)?)).collect();
        let chosen = draw.one_or_rest(1, times.len())?;
        let mut out = file.to_vec();
        for index in chosen.clone().rev() {
            set_timestamp(&mut out, &clusters[index], renew(&times, chosen.start, index))?;
        }
        resize_segment(&mut out, &segment(file)?, file.len())?;
        Some((without_checksums(out), scope("cluster", &chosen, times.len())))
    }

    /// Sets cluster Timestamps to 0.
    fn timestamp_zero(file: &[u8], draw: &mut Draw) -> Made {
        retimed(file, draw, |_, _, _| 0)
    }

    /// Sets cluster Timestamps to that of the cluster before.
    fn timestamp_equal(file: &[u8], draw: &mut Draw) -> Made {
        retimed(file, draw, |times, first, _| times[first - 1])
    }

    /// Moves cluster Timestamps far ahead.
    fn timestamp_huge(file: &[u8], draw: &mut Draw) -> Made {
        let base = draw.pick(&[1 << 24, 1 << 32, 1 << 53, i64::MAX as u64, u64::MAX - 1])?;
        retimed(file, draw, |times, first, index| base.saturating_add(times[index].saturating_sub(times[first])))
    }

    /// The position of a block of the video track.
    struct BlockAt {
        /// The index of its cluster.
        cluster: usize,
        /// Where the two bytes of the relative time are.
        time_at: usize,
        /// Where the flags byte is.
        flags_at: usize,
        /// Whether the block is a SimpleBlock.
        simple: bool,
    }

    /// Lists the blocks of the video track.
    fn video_blocks(file: &[u8]) -> Vec<BlockAt> {
        let video = video_number(file).unwrap_or(1);
        let mut found = Vec::new();
        for (cluster, item) in clusters(file).iter().enumerate() {
            for item in elements(file, item.inside()) {
                let simple = item.id == SIMPLE_BLOCK;
                let block = match item.id {
                    SIMPLE_BLOCK => Some(item),
                    BLOCK_GROUP => first_of(file, item.inside(), BLOCK),
                    _ => None,
                };
                let Some(block) = block else { continue };
                let Some((track, width)) = vint(file, block.body) else { continue };
                let time_at = block.body + width;
                if track == video && time_at + 3 <= block.end {
                    found.push(BlockAt { cluster, time_at, flags_at: time_at + 2, simple });
                }
            }
        }
        found
    }

    /// Sets the keyframe flag of each SimpleBlock to what `is_key` says for its index.
    fn keyframes_marked(file: &[u8], mut is_key: impl FnMut(usize) -> bool) -> Made {
        let mut blocks = video_blocks(file);
        blocks.retain(|block| block.simple);
        let mut out = file.to_vec();
        let mut changed = 0;
        for (index, block) in blocks.iter().enumerate() {
            let old = out[block.flags_at];
            out[block.flags_at] = if is_key(index) { old | 0x80 } else { old & 0x7F };
            changed += usize::from(old != out[block.flags_at]);
        }
        Some((without_checksums(out), format!("{changed} of {} blocks", blocks.len()))).filter(|_| changed > 0)
    }

    /// Clears the keyframe flag of all blocks but the first.
    fn keyframes_first_only(file: &[u8], _: &mut Draw) -> Made {
        keyframes_marked(file, |index| index == 0)
    }

    /// Clears every other keyframe flag.
    fn keyframes_thinned(file: &[u8], draw: &mut Draw) -> Made {
        let keep = draw.below(2);
        let flags: Vec<_> = video_blocks(file).iter().map(|block| file[block.flags_at] & 0x80 != 0).collect();
        let mut number = 0;
        keyframes_marked(file, |index| {
            number += usize::from(flags[index]);
            flags[index] && number % 2 == keep
        })
    }

    /// Clears the keyframe flag of all blocks.
    fn keyframes_cleared(file: &[u8], _: &mut Draw) -> Made {
        keyframes_marked(file, |_| false)
    }

    /// Sets the keyframe flag of all blocks.
    fn keyframes_set(file: &[u8], _: &mut Draw) -> Made {
        keyframes_marked(file, |_| true)
    }

    /// Sets the keyframe flag of random blocks.
    fn keyframes_random(file: &[u8], draw: &mut Draw) -> Made {
        let often = draw.pick(&[2, 5, 20])?;
        keyframes_marked(file, |_| draw.one_in(often))
    }

    /// Makes the relative times of some blocks negative.
    fn block_times_negative(file: &[u8], draw: &mut Draw) -> Made {
        let blocks = video_blocks(file);
        let chosen = draw.stretch(blocks.len(), 1)?;
        let least = draw.pick(&[-1, -40, -3000, i16::MIN])?;
        let mut out = file.to_vec();
        for block in &blocks[chosen.clone()] {
            let time = be(file, block.time_at, 2)? as i16;
            let time = least.saturating_sub(time.checked_abs().unwrap_or(0));
            put_be(&mut out, block.time_at, 2, u64::from(time as u16))?;
        }
        let note = format!("blocks {} to {}, {least} and below", chosen.start, chosen.end - 1);
        Some((without_checksums(out), note))
    }

    /// Gives all blocks of one cluster, or of all, the time of the first block there.
    fn block_times_equal(file: &[u8], draw: &mut Draw) -> Made {
        let blocks = video_blocks(file);
        let count = blocks.last()?.cluster + 1;
        let chosen = draw.one_or_rest(0, count)?;
        let mut out = file.to_vec();
        let mut first: Option<&BlockAt> = None;
        for block in blocks.iter().filter(|block| chosen.contains(&block.cluster)) {
            match first {
                Some(first) if first.cluster == block.cluster => {
                    put_be(&mut out, block.time_at, 2, be(file, first.time_at, 2)?)?;
                }
                _ => first = Some(block),
            }
        }
        Some((without_checksums(out), scope("cluster", &chosen, count)))
    }

    /// Turns Cues into Void.
    fn cues_voided(file: &[u8], _: &mut Draw) -> Made {
        let cues = first_of(file, segment(file)?.inside(), CUES)?;
        let mut out = file.to_vec();
        void(&mut out, &cues)?;
        Some((out, format!("{} bytes", cues.end - cues.start)))
    }

    /// Makes the cluster positions in Cues wrong: exchanged, shifted or too large.
    fn cues_wrong(file: &[u8], draw: &mut Draw) -> Made {
        let cues = first_of(file, segment(file)?.inside(), CUES)?;
        let mut fields = Vec::new();
        for point in all_of(file, cues.inside(), CUE_POINT) {
            for positions in all_of(file, point.inside(), CUE_TRACK_POSITIONS) {
                fields.extend(first_of(file, positions.inside(), CUE_CLUSTER_POSITION));
            }
        }
        let values: Vec<u64> = fields.iter().map(|field| number(file, field)).collect::<Option<_>>()?;
        let way = draw.below(3);
        let shift = 1 + draw.below(1000) as u64;
        let mut out = file.to_vec();
        for (index, field) in fields.iter().enumerate() {
            let width = field.end - field.body;
            let value = match way {
                0 => values[values.len() - 1 - index],
                1 => values[index] + shift,
                _ => u64::MAX,
            };
            put_be(&mut out, field.body, width, value)?;
        }
        let note = ["in reverse", "shifted", "all ones"][way];
        Some((without_checksums(out), format!("{} positions {note}", fields.len())))
    }

    /// Appends the whole file to itself.
    fn file_twice(file: &[u8], draw: &mut Draw) -> Made {
        segment(file)?;
        concatenated(file, draw)
    }

    /// Makes the size of an element unknown.
    fn forget_size(out: &mut [u8], item: &Element) -> Option<()> {
        put_size(out, item.size_at, item.size_width(), u64::MAX)
    }

    /// Makes the size of the segment unknown.
    fn segment_size_unknown(file: &[u8], _: &mut Draw) -> Made {
        let mut out = file.to_vec();
        forget_size(&mut out, &segment(file)?)?;
        Some((out, "all ones".into()))
    }

    /// Makes the sizes of one cluster, or of all from some on, unknown.
    fn cluster_sizes_unknown(file: &[u8], draw: &mut Draw) -> Made {
        let clusters = clusters(file);
        let chosen = draw.one_or_rest(0, clusters.len())?;
        let mut out = file.to_vec();
        for cluster in &clusters[chosen.clone()] {
            forget_size(&mut out, cluster)?;
        }
        Some((out, scope("cluster", &chosen, clusters.len())))
    }

    /// Cuts the file inside a cluster.
    fn truncated(file: &[u8], draw: &mut Draw) -> Made {
        let clusters = clusters(file);
        let cluster = clusters.get(draw.below(clusters.len()))?;
        cut_within(file, &cluster.inside(), draw)
    }

    /// Sets the lacing flags of one block or of all from some block on.
    fn lacing_set(file: &[u8], draw: &mut Draw) -> Made {
        let blocks = video_blocks(file);
        let chosen = draw.one_or_rest(0, blocks.len())?;
        let (lacing, name) = draw.pick(&[(0x02, "Xiph"), (0x04, "fixed"), (0x06, "EBML")])?;
        let mut out = file.to_vec();
        for block in &blocks[chosen.clone()] {
            out[block.flags_at] = out[block.flags_at] & !0x06 | lacing;
        }
        let note = format!("{name}, {}", scope("block", &chosen, blocks.len()));
        Some((without_checksums(out), note))
    }

    /// Turns the CodecPrivate of the video track into Void.
    fn codec_private_voided(file: &[u8], _: &mut Draw) -> Made {
        let private = first_of(file, video_entry(file)?.inside(), CODEC_PRIVATE)?;
        let mut out = file.to_vec();
        void(&mut out, &private)?;
        Some((without_checksums(out), format!("{} bytes", private.end - private.start)))
    }
}

/// Faults of MPEG-2 transport streams.
mod transport_stream {
    use super::*;

    pub(super) const FAULTS: &[Fault] = &[
        ("file concatenated", packets_twice),
        ("file concatenated with a time-shifted copy", shifted_copy),
        ("PTS and DTS equal", stamps_equal),
        ("PTS and DTS back", stamps_back),
        ("PTS and DTS missing", stamps_missing),
        ("PCR jump", clock_jump),
        ("video PID changed with a new PMT", pid_changed_with_map),
        ("video PID changed without a new PMT", pid_changed_alone),
        ("continuity counter errors", continuity_errors),
        ("packets dropped", packets_dropped),
        ("random_access_indicator cleared", random_access_cleared),
        ("PES packets duplicated", pes_duplicated),
        ("parameter sets in the first access unit only", parameter_sets_first_only),
        ("parameter sets not in the first access unit", parameter_sets_not_first),
    ];

    const PACKET: usize = 188;
    const SYNC_BYTE: u8 = 0x47;
    const H264: u8 = 0x1B;
    /// Stream types of video in a PMT.
    const VIDEO_TYPES: [u8; 6] = [0x01, 0x02, 0x10, H264, 0x24, 0x33];
    /// PTS and DTS have this many bits.
    const STAMP_BITS: u32 = 33;

    /// Lists the positions of the packets.
    fn packets(file: &[u8]) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let count = file.len() / PACKET;
        (0..count).map(|index| index * PACKET).filter(|&at| file[at] == SYNC_BYTE)
    }

    /// Lists the positions of the packets of a PID.
    fn packets_of(file: &[u8], pid: u16) -> impl DoubleEndedIterator<Item = usize> + '_ {
        packets(file).filter(move |&at| pid_of(file, at) == pid)
    }

    /// Tells whether a whole packet of a PID is at `at`.
    fn is_packet_of(file: &[u8], at: usize, pid: u16) -> bool {
        at + PACKET <= file.len() && file[at] == SYNC_BYTE && pid_of(file, at) == pid
    }

    /// Reads the PID of the packet at `at`.
    fn pid_of(file: &[u8], at: usize) -> u16 {
        u16::from_be_bytes([file[at + 1], file[at + 2]]) & 0x1FFF
    }

    /// Writes a PID and leaves the three bits before it as they are.
    fn put_pid(out: &mut [u8], at: usize, pid: u16) {
        out[at] = out[at] & 0xE0 | (pid >> 8) as u8;
        out[at + 1] = pid as u8;
    }

    /// Tells whether a PES packet or a section starts in the packet.
    fn starts_unit(file: &[u8], at: usize) -> bool {
        file[at + 1] & 0x40 != 0
    }

    /// Returns where the flags of the adaptation field are.
    fn adaptation_flags(file: &[u8], at: usize) -> Option<usize> {
        (file[at + 3] & 0x20 != 0 && file[at + 4] > 0).then_some(at + 5)
    }

    /// Returns the range of the payload of a packet.
    fn payload(file: &[u8], at: usize) -> Option<Range<usize>> {
        let has_field = file[at + 3] & 0x20 != 0;
        let start = at + 4 + if has_field { 1 + usize::from(file[at + 4]) } else { 0 };
        (file[at + 3] & 0x10 != 0 && start < at + PACKET).then_some(start..at + PACKET)
    }

    /// Returns the range of the section that starts in a packet and ends in it.
    fn section(file: &[u8], at: usize) -> Option<Range<usize>> {
        let payload = payload(file, at).filter(|_| starts_unit(file, at))?;
        let start = payload.start + 1 + usize::from(file[payload.start]);
        let end = start + 3 + (be(file, start + 1, 2)? & 0xFFF) as usize;
        (end <= payload.end && end >= start + 12).then_some(start..end)
    }

    /// What the tables of the stream say about the video.
    struct Program {
        map_pid: u16,
        video_pid: u16,
        stream_type: u8,
    }

    /// Finds the video stream by way of the PAT and the PMT.
    fn program(file: &[u8]) -> Option<Program> {
        let map_pid = packets_of(file, 0).find_map(|at| map_pid(file, at))?;
        packets_of(file, map_pid).find_map(|at| {
            let entry = video_entry(file, at)?;
            let video_pid = be(file, entry + 1, 2)? as u16 & 0x1FFF;
            Some(Program { map_pid, video_pid, stream_type: file[entry] })
        })
    }

    /// Reads the PID of the first PMT out of the PAT in a packet.
    fn map_pid(file: &[u8], at: usize) -> Option<u16> {
        let section = section(file, at)?;
        (section.start + 8..section.end - 4)
            .step_by(4)
            .find(|&entry| be(file, entry, 2).is_some_and(|program| program != 0))
            .and_then(|entry| Some(be(file, entry + 2, 2)? as u16 & 0x1FFF))
    }

    /// Finds the entry of the first video stream in the PMT in a packet.
    fn video_entry(file: &[u8], at: usize) -> Option<usize> {
        let section = section(file, at)?;
        let mut entry = section.start + 12 + (be(file, section.start + 10, 2)? & 0xFFF) as usize;
        while entry + 5 <= section.end - 4 {
            if VIDEO_TYPES.contains(&file[entry]) {
                return Some(entry);
            }
            entry += 5 + (be(file, entry + 3, 2)? & 0xFFF) as usize;
        }
        None
    }

    /// Lists the packets in which a PES packet of a PID starts.
    fn pes_starts(file: &[u8], pid: u16) -> Vec<usize> {
        packets_of(file, pid).filter(|&at| pes_header(file, at).is_some()).collect()
    }

    /// Returns where the PES header in a packet starts.
    fn pes_header(file: &[u8], at: usize) -> Option<usize> {
        let payload = payload(file, at).filter(|_| starts_unit(file, at))?;
        let starts = payload.len() >= 9 && be(file, payload.start, 3) == Some(1);
        let optional_header = file.get(payload.start + 6)? & 0xC0 == 0x80;
        (starts && optional_header).then_some(payload.start)
    }

    /// Lists the positions of PTS and DTS in the PES header in a packet.
    fn stamps(file: &[u8], at: usize) -> Vec<usize> {
        let Some(header) = pes_header(file, at) else { return Vec::new() };
        let count = match file[header + 7] >> 6 {
            2 => 1,
            3 => 2,
            _ => 0,
        };
        let positions = (0..count).map(|index| header + 9 + 5 * index);
        positions.filter(|&stamp| stamp + 5 <= at + PACKET).collect()
    }

    /// Reads a PTS or DTS.
    fn stamp(file: &[u8], at: usize) -> u64 {
        let bytes = be(file, at, 5).unwrap_or(0);
        (bytes >> 33 & 7) << 30 | (bytes >> 17 & 0x7FFF) << 15 | bytes >> 1 & 0x7FFF
    }

    /// Writes a PTS or DTS and leaves the marker bits as they are.
    fn put_stamp(out: &mut [u8], at: usize, value: u64) {
        let marks = be(out, at, 5).unwrap_or(0) & 0xF1_0001_0001;
        let value = (value >> 30 & 7) << 33 | (value >> 15 & 0x7FFF) << 17 | (value & 0x7FFF) << 1;
        let _ = put_be(out, at, 5, marks | value);
    }

    /// Adds to a PTS or DTS, modulo its number of bits.
    fn add_to_stamp(out: &mut [u8], at: usize, delta: u64) {
        let value = stamp(out, at).wrapping_add(delta) & ((1 << STAMP_BITS) - 1);
        put_stamp(out, at, value);
    }

    /// Adds to the PCR of a packet, if it has one, in units of 90 kHz.
    fn add_to_clock(out: &mut [u8], at: usize, delta: u64) -> bool {
        let flags = adaptation_flags(out, at).filter(|&flags| out[flags] & 0x10 != 0);
        let Some((flags, clock)) = flags.and_then(|flags| Some((flags, be(out, flags + 1, 6)?))) else {
            return false;
        };
        let base = (clock >> 15).wrapping_add(delta) & ((1 << STAMP_BITS) - 1);
        put_be(out, flags + 1, 6, base << 15 | clock & 0x7FFF).is_some()
    }

    /// Returns the whole packets of the file, or `None` if it has none.
    fn whole_packets(file: &[u8]) -> Option<&[u8]> {
        packets(file).next()?;
        file.get(..file.len() / PACKET * PACKET)
    }

    /// Appends the file to itself.
    fn packets_twice(file: &[u8], draw: &mut Draw) -> Made {
        concatenated(whole_packets(file)?, draw)
    }

    /// Appends a copy whose PTS, DTS and PCR are shifted.
    fn shifted_copy(file: &[u8], draw: &mut Draw) -> Made {
        let whole = whole_packets(file)?;
        let mut copy = whole.to_vec();
        let shift = draw.pick(&[90_000 * 4, 3600, 90_000 * 3600, -45_000, -90_000 * 60, -3600])?;
        for at in packets(whole) {
            for stamp in stamps(whole, at) {
                add_to_stamp(&mut copy, stamp, shift as u64);
            }
            add_to_clock(&mut copy, at, shift as u64);
        }
        Some((join(&[whole, &copy], draw)?, format!("copy shifted by {shift} ticks")))
    }

    /// Changes PTS and DTS of one video PES packet or of all from some on.
    ///
    /// `renew` gets the time of the PES packet before and the old time.
    fn restamped(file: &[u8], draw: &mut Draw, renew: impl Fn(u64, u64) -> u64) -> Made {
        let starts = pes_starts(file, program(file)?.video_pid);
        let chosen = draw.one_or_rest(1, starts.len())?;
        let before = stamp(file, *stamps(file, starts[chosen.start - 1]).last()?);
        let mut out = file.to_vec();
        for &start in &starts[chosen.clone()] {
            for at in stamps(file, start) {
                put_stamp(&mut out, at, renew(before, stamp(file, at)));
            }
        }
        Some((out, scope("PES packet", &chosen, starts.len())))
    }

    /// Sets PTS and DTS to the decode time of the PES packet before.
    fn stamps_equal(file: &[u8], draw: &mut Draw) -> Made {
        restamped(file, draw, |before, _| before)
    }

    /// Sets PTS and DTS back.
    fn stamps_back(file: &[u8], draw: &mut Draw) -> Made {
        let step = draw.pick(&[3600, 45_000, 90_000, 90_000 * 20])?;
        restamped(file, draw, |_, old| old.wrapping_sub(step))
    }

    /// Takes PTS and DTS out of PES headers. Stuffing takes their place.
    fn stamps_missing(file: &[u8], draw: &mut Draw) -> Made {
        let starts = pes_starts(file, program(file)?.video_pid);
        let chosen = draw.one_or_rest(0, starts.len())?;
        let mut out = file.to_vec();
        for &start in &starts[chosen.clone()] {
            let header = pes_header(file, start)?;
            for at in stamps(file, start) {
                out[at..at + 5].fill(0xFF);
            }
            out[header + 7] &= 0x3F;
        }
        Some((out, scope("PES packet", &chosen, starts.len())))
    }

    /// Adds a jump to the PCR from some packet on.
    fn clock_jump(file: &[u8], draw: &mut Draw) -> Made {
        let first = draw.below(file.len() / PACKET) * PACKET;
        let jump = draw.pick(&[90_000 * 3600, 90_000 * 10, -90_000, -90_000 * 3600, 1i64 << 32])?;
        let mut out = file.to_vec();
        let mut count = 0;
        for at in packets(file).filter(|&at| at >= first) {
            count += usize::from(add_to_clock(&mut out, at, jump as u64));
        }
        (count > 0).then(|| (out, format!("{jump} ticks in {count} packets")))
    }

    /// Computes the CRC-32/MPEG-2 of a section.
    pub(super) fn section_crc(section: &[u8]) -> u32 {
        section.iter().fold(!0, |crc, &byte| {
            (0..8).fold(
                crc ^ u32::from(byte) << 24,
                |crc, _| {
                    if crc >> 31 == 1 { crc << 1 ^ 0x04C1_1DB7 } else { crc << 1 }
                },
            )
        })
    }

    /// Names another video PID in the PMT in a packet, as a new version.
    fn map_pid_changed(out: &mut [u8], at: usize, old: u16, new: u16) -> Option<()> {
        let section = section(out, at)?;
        let entry = video_entry(out, at)?;
        put_pid(out, entry + 1, new);
        if be(out, section.start + 8, 2)? as u16 & 0x1FFF == old {
            put_pid(out, section.start + 8, new);
        }
        let version = out[section.start + 5];
        out[section.start + 5] = version & !0x3E | version.wrapping_add(2) & 0x3E;
        let crc = section_crc(out.get(section.start..section.end - 4)?);
        put_be(out, section.end - 4, 4, u64::from(crc))
    }

    /// Adds to the continuity counter of a packet.
    fn add_to_counter(out: &mut [u8], at: usize, delta: u8) {
        let old = out[at + 3];
        out[at + 3] = old & 0xF0 | old.wrapping_add(delta) & 0x0F;
    }

    /// Moves the video to a PID that is free, from some PES packet on.
    ///
    /// Returns the bytes, the packet of the change and the new PID.
    fn video_moved(file: &[u8], draw: &mut Draw) -> Option<(Vec<u8>, usize, u16)> {
        let pid = program(file)?.video_pid;
        let starts = pes_starts(file, pid);
        let first = *starts.get(draw.between(starts.len() / 4, starts.len() * 3 / 4 + 1))?;
        let first_try = 0x100 + draw.below(0x1000) as u16;
        let new = (first_try..0x1FFF).find(|&new| packets_of(file, new).next().is_none())?;
        let mut out = file.to_vec();
        for at in packets_of(file, pid).filter(|&at| at >= first) {
            put_pid(&mut out, at + 1, new);
        }
        Some((out, first, new))
    }

    /// Changes the video PID with a new version of the PMT right before.
    fn pid_changed_with_map(file: &[u8], draw: &mut Draw) -> Made {
        let Program { map_pid, video_pid, .. } = program(file)?;
        let (mut moved, first, new) = video_moved(file, draw)?;
        let template = packets_of(file, map_pid).rfind(|&at| at < first && video_entry(file, at).is_some())?;
        let mut map = file.get(template..template + PACKET)?.to_vec();
        map_pid_changed(&mut map, 0, video_pid, new)?;
        add_to_counter(&mut map, 0, 1);
        for at in packets_of(file, map_pid).filter(|&at| at >= first) {
            let _ = map_pid_changed(&mut moved, at, video_pid, new);
            add_to_counter(&mut moved, at, 1);
        }
        let out = join(&[&moved[..first], &map, &moved[first..]], draw)?;
        Some((out, format!("PID {video_pid:#x} is {new:#x} from packet {} on", first / PACKET)))
    }

    /// Changes the video PID and leaves the PMT as it is.
    fn pid_changed_alone(file: &[u8], draw: &mut Draw) -> Made {
        let (out, first, new) = video_moved(file, draw)?;
        Some((out, format!("PID is {new:#x} from packet {} on", first / PACKET)))
    }

    /// Adds errors to the continuity counters of some video packets.
    fn continuity_errors(file: &[u8], draw: &mut Draw) -> Made {
        let pid = program(file)?.video_pid;
        let often = draw.pick(&[2, 10, 50])?;
        let mut out = file.to_vec();
        let mut count = 0;
        for at in packets_of(file, pid) {
            if draw.one_in(often) {
                add_to_counter(&mut out, at, draw.between(1, 16) as u8);
                count += 1;
            }
        }
        Some((out, format!("{count} packets")))
    }

    /// Drops a burst of packets, or video packets here and there.
    fn packets_dropped(file: &[u8], draw: &mut Draw) -> Made {
        let pid = program(file)?.video_pid;
        let first = draw.below(file.len() / PACKET) * PACKET;
        let burst = first..first + PACKET * draw.between(1, 41);
        let often = draw.pick(&[None, Some(10), Some(40)])?;
        let mut out = Vec::with_capacity(file.len());
        for at in packets(file) {
            let drop = match often {
                None => burst.contains(&at),
                Some(often) => pid_of(file, at) == pid && draw.one_in(often),
            };
            if !drop {
                out.extend_from_slice(&file[at..at + PACKET]);
            }
        }
        let count = (file.len() - out.len()) / PACKET;
        Some((out, format!("{count} packets, {}", often.map_or("a burst", |_| "scattered"))))
    }

    /// Clears random_access_indicator in all video packets, or in all but the first.
    fn random_access_cleared(file: &[u8], draw: &mut Draw) -> Made {
        let pid = program(file)?.video_pid;
        let kept = draw.below(2);
        let positions: Vec<usize> = packets_of(file, pid)
            .filter_map(|at| adaptation_flags(file, at))
            .filter(|&flags| file[flags] & 0x40 != 0)
            .skip(kept)
            .collect();
        let mut out = file.to_vec();
        for &flags in &positions {
            out[flags] &= !0x40;
        }
        Some((out, format!("{} cleared, {kept} kept", positions.len())))
    }

    /// Numbers the continuity counters of a PID anew.
    fn renumber(out: &mut [u8], pid: u16) {
        let positions: Vec<usize> = packets_of(out, pid).collect();
        let mut next = None;
        for at in positions {
            let counter = next.unwrap_or(out[at + 3]) & 0x0F;
            out[at + 3] = out[at + 3] & 0xF0 | counter;
            next = Some(counter + u8::from(out[at + 3] & 0x10 != 0));
        }
    }

    /// Repeats some video PES packets right after themselves.
    fn pes_duplicated(file: &[u8], draw: &mut Draw) -> Made {
        let pid = program(file)?.video_pid;
        let starts = pes_starts(file, pid);
        let always = draw.below(starts.len());
        let often = draw.pick(&[2, 10, 1000])?;
        let mut out = Vec::with_capacity(file.len());
        let (mut copied_to, mut count) = (0, 0);
        for (index, &start) in starts.iter().enumerate() {
            if index != always && !draw.one_in(often) {
                continue;
            }
            let next = starts.get(index + 1).copied().unwrap_or(file.len());
            let video = || (start..next).step_by(PACKET).filter(|&at| is_packet_of(file, at, pid));
            let end = video().next_back()? + PACKET;
            if out.len() + (file.len() - copied_to) + (end - start) > draw.limit {
                break;
            }
            out.extend_from_slice(&file[copied_to..end]);
            video().for_each(|at| out.extend_from_slice(&file[at..at + PACKET]));
            copied_to = end;
            count += 1;
        }
        out.extend_from_slice(&file[copied_to..]);
        let renumbered = draw.one_in(2);
        if renumbered {
            renumber(&mut out, pid);
        }
        let counters = if renumbered { "new" } else { "same" };
        Some((out, format!("{count} PES packets, {counters} counters")))
    }

    /// A NAL unit of the video, byte by byte.
    struct NalUnit {
        /// The index of its PES packet.
        pes: usize,
        /// The position of the header byte.
        header: usize,
        /// The positions of the bytes after the header.
        body: Vec<usize>,
    }

    /// Lists the SPS and PPS NAL units of the H.264 video.
    fn parameter_sets(file: &[u8]) -> Vec<NalUnit> {
        const LONGEST: usize = 4096;
        let mut found = Vec::new();
        let Some(program) = program(file).filter(|found| found.stream_type == H264) else {
            return found;
        };
        let mut current: Option<NalUnit> = None;
        let (mut pes, mut zeros, mut at_header) = (0, 0, false);
        for packet in packets_of(file, program.video_pid) {
            let Some(mut bytes) = payload(file, packet) else { continue };
            if let Some(header) = pes_header(file, packet) {
                bytes.start = (header + 9 + usize::from(file[header + 8])).min(bytes.end);
                pes += 1;
            }
            for at in bytes {
                let byte = file[at];
                if at_header && matches!(byte & 0x1F, 7 | 8) {
                    current = Some(NalUnit { pes, header: at, body: Vec::new() });
                } else if zeros >= 2 && byte == 1 {
                    found.extend(current.take().map(|mut unit| {
                        unit.body.truncate(unit.body.len().saturating_sub(zeros));
                        unit
                    }));
                } else if let Some(unit) = &mut current {
                    unit.body.push(at);
                }
                current = current.filter(|unit| unit.body.len() < LONGEST);
                at_header = zeros >= 2 && byte == 1;
                zeros = if byte == 0 { zeros + 1 } else { 0 };
            }
        }
        found
    }

    /// Turns a NAL unit into filler data of the same length.
    fn fill(out: &mut [u8], unit: &NalUnit) {
        const FILLER: u8 = 12;
        out[unit.header] = FILLER;
        for &at in &unit.body {
            out[at] = 0xFF;
        }
        if let Some(&last) = unit.body.last() {
            out[last] = 0x80;
        }
    }

    /// Turns the parameter sets of some access units into filler data.
    ///
    /// `chosen` gets whether it is the first access unit that has some.
    fn parameter_sets_filled(file: &[u8], chosen: impl Fn(bool) -> bool) -> Made {
        let mut units = parameter_sets(file);
        let first = units.first()?.pes;
        units.retain(|unit| chosen(unit.pes == first));
        let mut out = file.to_vec();
        for unit in &units {
            fill(&mut out, unit);
        }
        Some((out, format!("{} NAL units are filler", units.len())))
    }

    /// Keeps the parameter sets of the first access unit only.
    fn parameter_sets_first_only(file: &[u8], _: &mut Draw) -> Made {
        parameter_sets_filled(file, |first| !first)
    }

    /// Takes the parameter sets of the first access unit away.
    fn parameter_sets_not_first(file: &[u8], _: &mut Draw) -> Made {
        parameter_sets_filled(file, |first| first)
    }
}

/// Faults of Flash video.
mod flv {
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
    /// The frame type of a keyframe, in its bits of the first byte.
    const KEY: u8 = 0x10;
    /// The frame type of an inter frame, in its bits of the first byte.
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

    /// Lists the whole tags. Passes over further file headers.
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

    /// Reads the packet type of a video tag, in the old or the enhanced form.
    fn packet_type(file: &[u8], tag: &Tag) -> u8 {
        match file[tag.start + TAG_HEADER] {
            first if first & 0x80 != 0 => first & 0x0F,
            first if first & 0x0F == AVC => file[tag.start + TAG_HEADER + 1],
            _ => 1,
        }
    }

    /// Tells whether a video tag holds a sequence header.
    fn is_sequence_header(file: &[u8], tag: &Tag) -> bool {
        packet_type(file, tag) == 0
    }

    /// Lists the video tags that hold frames: no sequence header, no end of sequence.
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

    /// Changes the timestamps of a stretch of frames.
    ///
    /// `renew` gets the first old time of the stretch and the old time.
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

    /// Gives a stretch of frames the same timestamp.
    fn timestamps_repeated(file: &[u8], draw: &mut Draw) -> Made {
        retimed(file, draw, |first, _| first)
    }

    /// Sets the timestamps of a stretch of frames back.
    fn timestamps_back(file: &[u8], draw: &mut Draw) -> Made {
        let step = draw.pick(&[40, 500, 1000, 100_000])?;
        retimed(file, draw, |_, old| old.saturating_sub(step))
    }

    /// Sets the timestamps of a stretch of frames to 0.
    fn timestamps_zero(file: &[u8], draw: &mut Draw) -> Made {
        retimed(file, draw, |_, _| 0)
    }

    /// Sets the frame types of video tags to what `renew` gives for the old one.
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

    /// Exchanges keyframe and inter frame, or sets rarer types, in some tags.
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

    /// Moves the sequence header to after the first keyframe or a later one.
    fn sequence_header_moved(file: &[u8], draw: &mut Draw) -> Made {
        let header = sequence_header(file)?;
        let mut frames = frames(file);
        frames.retain(|frame| frame.start >= header.end);
        let place = draw.below(frames.len());
        let to = frames.get(place)?.end;
        let ranges = [0..header.start, header.end..to, header.range(), to..file.len()];
        Some((join_ranges(file, &ranges, draw)?, format!("to after frame {place}")))
    }

    /// Repeats each tag of a stretch, of video or of all tags.
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

    /// Appends the tags to the file once more.
    fn tags_twice(file: &[u8], draw: &mut Draw) -> Made {
        let first = after_header(file, 0)?;
        Some((join(&[file, file.get(first..)?], draw)?, "tags only".into()))
    }

    /// Cuts the file inside a tag.
    fn truncated(file: &[u8], draw: &mut Draw) -> Made {
        let tags = tags(file);
        let tag = tags.get(draw.between(tags.len() / 4, tags.len()))?;
        cut_within(file, &tag.range(), draw)
    }
}

/// Faults of RIFF AVI files.
mod avi {
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

        /// Tells whether the chunk is a list of this type.
        fn is_list(&self, file: &[u8], kind: &[u8; 4]) -> bool {
            let marked = &self.id == b"LIST" || &self.id == b"RIFF";
            marked && file.get(self.body()..self.body() + 4) == Some(kind)
        }
    }

    /// Lists the chunks of a range. A chunk that passes the end is cut there.
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

    /// Lists the positions of the index entries of video.
    fn video_entries(file: &[u8]) -> Option<Vec<usize>> {
        let index = index(file)?;
        let count = (index.end - index.body()) / ENTRY;
        let positions = (0..count).map(|number| index.body() + ENTRY * number);
        let is_video = |at: &usize| matches!(&file[at + 2..at + 4], b"dc" | b"db");
        Some(positions.filter(is_video).collect())
    }

    /// Sets the keyframe flag of each video entry to what `is_key` says for its number.
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

    /// Shifts the offsets of one video entry or of all from some entry on.
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

    /// Sets the offsets of a stretch of video entries to that of the first.
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

    /// Turns the index into a `JUNK` chunk, or cuts the file before it.
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

    /// Cuts the file inside the list of frames, or inside the index.
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

    /// Where the scale is in a stream header.
    const SCALE: usize = 20;
    /// Where the rate is in a stream header.
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::sync::OnceLock;

    const CONTAINERS: [Container; 6] = [
        Container::Mp4,
        Container::FragmentedMp4,
        Container::Matroska,
        Container::TransportStream,
        Container::Flv,
        Container::Avi,
    ];

    /// How many seeds a test tries with each file.
    const SEEDS: u64 = 400;

    /// A good file: its container, the suffix of its name and its bytes.
    struct Sample {
        container: Container,
        suffix: &'static str,
        bytes: Vec<u8>,
    }

    /// Makes a short file with the `ffmpeg` command, if there is one.
    fn encoded(suffix: &str, options: &str, number: usize) -> Option<Vec<u8>> {
        let name = format!("faults-{}-{number}.{suffix}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let inputs = "-f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine -t 4";
        let status = Command::new("ffmpeg")
            .args("-nostdin -loglevel error -y -threads 1".split(' '))
            .args(inputs.split(' '))
            .args("-pix_fmt yuv420p -g 25".split(' '))
            .args(options.split(' '))
            .arg(&path)
            .status();
        let bytes = status.ok().filter(|status| status.success()).and(std::fs::read(&path).ok());
        let _ = std::fs::remove_file(path);
        bytes
    }

    /// Returns the good files. There are none without an `ffmpeg` command.
    fn samples() -> &'static [Sample] {
        const FRAGMENTS: &str = "-c:v libx264 -movflags frag_keyframe+empty_moov";
        const SHORT_FRAGMENTS: &str = "-c:v libx264 -frag_duration 400000 -movflags empty_moov+default_base_moof";
        static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
        SAMPLES.get_or_init(|| {
            let kinds = [
                (Container::Mp4, "mp4", "-c:v libx264"),
                (Container::Mp4, "mp4", "-c:v libx264 -movflags faststart"),
                (Container::FragmentedMp4, "mp4", FRAGMENTS),
                (Container::FragmentedMp4, "mp4", SHORT_FRAGMENTS),
                (Container::Matroska, "mkv", "-c:v libx264 -cluster_time_limit 500"),
                (Container::Matroska, "webm", "-c:v libvpx-vp9 -b:v 150k -cpu-used 8"),
                (Container::TransportStream, "ts", "-c:v libx264"),
                (Container::Flv, "flv", "-c:v libx264 -ar 44100"),
                (Container::Avi, "avi", "-c:v mpeg4 -b:v 200k"),
            ];
            let mut made = Vec::new();
            for (number, (container, suffix, options)) in kinds.into_iter().enumerate() {
                match encoded(suffix, options, number) {
                    Some(bytes) => made.push(Sample { container, suffix, bytes }),
                    None => eprintln!("left out: ffmpeg makes no {suffix} with {options}"),
                }
            }
            made
        })
    }

    #[test]
    fn same_seed_gives_same_bytes() {
        for sample in samples() {
            for seed in 0..50 {
                let first = faulty(sample.container, &sample.bytes, seed);
                assert!(first == faulty(sample.container, &sample.bytes, seed), "seed {seed}");
            }
        }
    }

    #[test]
    fn every_fault_is_reached() {
        for container in CONTAINERS {
            let mut descriptions = String::new();
            let mut tried = false;
            for sample in samples().iter().filter(|sample| sample.container == container) {
                tried = true;
                for seed in 0..SEEDS {
                    let (_, description) = faulty(container, &sample.bytes, seed);
                    descriptions += &format!("; {description}\n");
                }
            }
            for (name, _) in faults_of(container) {
                let reached = descriptions.contains(&format!("; {name} ("));
                assert!(reached || !tried, "{container:?}: {name}");
            }
        }
    }

    #[test]
    fn results_differ_and_stay_small() {
        for sample in samples() {
            for seed in 0..SEEDS {
                let (made, description) = faulty(sample.container, &sample.bytes, seed);
                assert!(made != sample.bytes, "seed {seed}: {description}");
                assert!(!description.starts_with("unchanged"), "seed {seed}: {description}");
                assert!(made.len() <= GROWTH_LIMIT * sample.bytes.len(), "{description}");
            }
        }
    }

    #[test]
    fn input_without_structure_is_unchanged() {
        let inputs = [vec![], vec![0], vec![0; 7], vec![0xFF; 1000], vec![0x47; 187]];
        for container in CONTAINERS {
            for (input, seed) in inputs.iter().flat_map(|input| (0..100).map(move |seed| (input, seed))) {
                let (made, description) = faulty(container, input, seed);
                assert!(&made == input, "{container:?} seed {seed}: {description}");
                assert!(description.starts_with("unchanged"), "{container:?} seed {seed}: {description}");
            }
        }
    }

    #[test]
    fn truncated_input_makes_no_panic() {
        for sample in samples() {
            let len = sample.bytes.len();
            let ends = (0..600).chain((0..60).map(|step| len * step / 60)).chain(len - 60..len);
            for (seed, end) in ends.enumerate() {
                faulty(sample.container, &sample.bytes[..end], seed as u64);
            }
        }
    }

    #[test]
    fn faulty_and_foreign_input_makes_no_panic() {
        for sample in samples() {
            let mut bytes = sample.bytes.clone();
            for seed in 0..150 {
                let (made, _) = faulty(sample.container, &bytes, seed);
                let fits = made.len() > 1000 && made.len() < 4 * sample.bytes.len();
                bytes = if fits && seed % 10 != 0 { made } else { sample.bytes.clone() };
                for container in CONTAINERS {
                    faulty(container, &bytes, seed);
                }
            }
        }
    }

    #[test]
    fn damaged_fields_make_no_panic() {
        for sample in samples() {
            let mut draw = Draw::new(1, usize::MAX);
            for seed in 0..300 {
                let mut bytes = sample.bytes.clone();
                for _ in 0..40 {
                    let at = draw.below(bytes.len().min(4000));
                    bytes[at] = draw.next() as u8;
                }
                faulty(sample.container, &bytes, seed);
            }
        }
    }

    /// Counts the packets that `ffprobe` finds in a file.
    fn packet_count(bytes: &[u8], suffix: &str) -> usize {
        let name = format!("faults-{}-probe.{suffix}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).expect("the temporary folder takes a file");
        let output = Command::new("ffprobe")
            .args("-v quiet -show_entries packet=pts -of csv".split(' '))
            .arg(&path)
            .stderr(Stdio::null())
            .output()
            .expect("the ffprobe command runs");
        let _ = std::fs::remove_file(path);
        output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count()
    }

    #[test]
    #[ignore = "runs ffprobe some hundred times"]
    fn most_results_still_give_packets() {
        const TRIES: u64 = 60;
        for sample in samples() {
            let mut with_packets = 0;
            for seed in 0..TRIES {
                let (made, description) = faulty(sample.container, &sample.bytes, seed);
                let count = packet_count(&made, sample.suffix);
                with_packets += u64::from(count > 0);
                println!("{:?} seed {seed}: {count} packets, {description}", sample.container);
            }
            println!("{:?} {}: {with_packets} of {TRIES}", sample.container, sample.suffix);
            assert!(with_packets * 2 > TRIES, "{:?}: {with_packets}", sample.container);
        }
    }

    #[test]
    pub(super) fn section_crc_has_the_check_value() {
        // The check value of CRC-32/MPEG-2 in the usual catalogues.
        assert_eq!(transport_stream::section_crc(b"123456789"), 0x0376_E6E7);
    }
}
