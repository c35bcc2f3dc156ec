// SPDX-License-Identifier: MIT OR Apache-2.0
//! Creates structurally faulty media files from good ones.
//!
//! [`faulty`] applies one to three faults to a file. Only the seed selects them, so a seed that shows an error can be run again.
//! The faults change the structure of the container (tables, flags, times, order of the parts). They add no random bytes, so most
//! results are still partly readable.
//!
//! Each container has a module with a table of faults. A fault receives the file and returns a new one with a short note, or `None`
//! if the file lacks what the fault needs. No result is larger than three times the input.
//!
//! The tests create their files with the `ffmpeg` command. Without it they print a note and run only the checks that need no such
//! file.

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

/// The maximum size of a result, as a multiple of the input.
const GROWTH_LIMIT: usize = 3;
/// The number of other faults that are tried in place of those that do not apply.
const SPARE_TRIES: usize = 4;
/// The maximum number of parts that a container is split into.
const MOST_PARTS: usize = 1 << 16;

/// A changed file and a note on the change, or `None` if the fault does not apply.
type Made = Option<(Vec<u8>, String)>;
/// A fault: its name and the function that applies it.
type Fault = (&'static str, fn(&[u8], &mut Draw) -> Made);
/// Consecutive byte ranges of a file that can be put in another order.
type Units = Vec<Range<usize>>;

/// Creates a faulty file from `file`.
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

/// The random choices of one call, and the maximum size of its results.
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

    /// Returns a number from `low` up to, but not including, `high`.
    fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low))
    }

    /// Returns `true` in one of `n` cases.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Returns one of `items`.
    fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        let index = self.below(items.len());
        items.get(index).copied()
    }

    /// Returns a range of at least `least` of `count` items.
    fn stretch(&mut self, count: usize, least: usize) -> Option<Range<usize>> {
        if count < least {
            return None;
        }
        let start = self.below(count - least + 1);
        Some(start..self.between(start + least, count + 1))
    }

    /// Returns one item from `first` on, or all items from one on.
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

/// Joins byte strings, or returns `None` if the result exceeds the size limit.
fn join(parts: &[&[u8]], draw: &Draw) -> Option<Vec<u8>> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    (total <= draw.limit).then(|| parts.concat())
}

/// Joins ranges of `file`, with the same limit as [`join`].
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

/// Truncates the file at a random position inside `range`.
fn cut_within(file: &[u8], range: &Range<usize>, draw: &mut Draw) -> Made {
    if range.len() < 2 {
        return None;
    }
    let end = draw.between(range.start + 1, range.end);
    Some((file.get(..end)?.to_vec(), format!("{end} of {} bytes kept", file.len())))
}

/// Converts the starts of consecutive parts to ranges; the last one ends at `end`.
fn units_from_starts(starts: &[usize], end: usize) -> Units {
    let ends = starts.iter().skip(1).copied().chain([end]);
    starts.iter().zip(ends).map(|(&start, end)| start..end).collect()
}

/// A change to the order or the number of units.
type Reorder = fn(&mut Units, &mut Draw) -> Option<String>;

/// Inserts `copies` copies of the unit at `from` before index `to`.
fn insert_copies(units: &mut Units, from: usize, to: usize, copies: usize) -> Option<()> {
    let unit = units.get(from)?.clone();
    units.splice(to..to, std::iter::repeat_n(unit, copies));
    Some(())
}

/// Chooses a number of copies of a unit that fits the size limit, 2 to 8.
fn many_copies(units: &Units, index: usize, draw: &mut Draw) -> Option<usize> {
    let size = units.get(index)?.len().max(1);
    let total: usize = units.iter().map(|unit| unit.len()).sum();
    let room = (draw.limit.saturating_sub(total) / size).min(8);
    (room >= 2).then(|| draw.between(2, room + 1))
}

/// Repeats one unit once, directly after itself.
fn repeat_adjacent(units: &mut Units, draw: &mut Draw) -> Option<String> {
    let index = draw.below(units.len());
    insert_copies(units, index, index + 1, 1)?;
    Some(format!("number {index} twice in a row"))
}

/// Repeats one unit many times, directly after itself.
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

/// Swaps two units.
fn swap_two(units: &mut Units, draw: &mut Draw) -> Option<String> {
    if units.len() < 2 {
        return None;
    }
    let first = draw.below(units.len() - 1);
    let second = if draw.one_in(2) { first + 1 } else { draw.between(first + 1, units.len()) };
    units.swap(first, second);
    Some(format!("numbers {first} and {second}"))
}

/// Removes one unit.
fn drop_one(units: &mut Units, draw: &mut Draw) -> Option<String> {
    if units.len() < 2 {
        return None;
    }
    let index = draw.below(units.len());
    units.remove(index);
    Some(format!("number {index}"))
}

/// Reverses the order of a range of units.
fn reverse_stretch(units: &mut Units, draw: &mut Draw) -> Option<String> {
    let stretch = draw.stretch(units.len(), 2)?;
    units[stretch.clone()].reverse();
    Some(format!("numbers {} to {}", stretch.start, stretch.end - 1))
}

mod isobmff;

mod fragmented_mp4;

mod mp4;

mod matroska;

mod transport_stream;

mod flv;

mod avi;

#[cfg(test)]
mod tests;
