// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults of Matroska and WebM files.

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
const AFTER_CLUSTER: [u32; 10] = [EBML, SEGMENT, SEEK_HEAD, INFO, TRACKS, CLUSTER, CUES, ATTACHMENTS, CHAPTERS, TAGS];

/// The position of an EBML element.
#[derive(Clone)]
struct Element {
    id: u32,
    start: usize,
    size_at: usize,
    body: usize,
    /// The end of the content, limited to the end of the parent.
    end: usize,
    /// The size in the header, or `None` if unknown.
    size: Option<u64>,
}

impl Element {
    fn inside(&self) -> Range<usize> {
        self.body..self.end
    }

    /// Returns the number of bytes in the size field.
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

/// Writes a size field of `width` bytes. A size that does not fit becomes unknown.
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

/// Lists the elements of a range, up to the first unreadable one.
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

/// Lists the elements with an ID in a range.
fn all_of(file: &[u8], range: Range<usize>, id: u32) -> Vec<Element> {
    let mut found = elements(file, range);
    found.retain(|item| item.id == id);
    found
}

/// Finds the first element with an ID in a range.
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
    all_of(file, tracks.inside(), TRACK_ENTRY)
        .into_iter()
        .find(|entry| first_of(file, entry.inside(), TRACK_TYPE).is_some_and(|kind| file.get(kind.body) == Some(&1)))
}

/// Reads the unsigned number in an element.
fn number(file: &[u8], item: &Element) -> Option<u64> {
    let width = item.end - item.body;
    if width > 8 { None } else { be(file, item.body, width) }
}

/// Reads the number of the first video track.
fn video_number(file: &[u8]) -> Option<u64> {
    number(file, &first_of(file, video_entry(file)?.inside(), TRACK_NUMBER)?)
}

/// Replaces an element by a Void element of the same size.
fn void(out: &mut [u8], item: &Element) -> Option<()> {
    let total = item.end - item.start;
    let width = (item.body - item.start - 1).min(8);
    *out.get_mut(item.start)? = VOID;
    put_size(out, item.start + 1, width, (total - 1 - width) as u64)
}

/// Replaces the checksums in a changed file by Void elements.
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

/// Corrects the segment size after the length of the file changed.
fn resize_segment(out: &mut [u8], segment: &Element, old_len: usize) -> Option<()> {
    let Some(size) = segment.size else { return Some(()) };
    let delta = (out.len() as u64).wrapping_sub(old_len as u64);
    put_size(out, segment.size_at, segment.size_width(), size.wrapping_add(delta))
}

/// Changes the order of the clusters.
///
/// In half of the cases, the outdated seek tables are replaced by Void elements.
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

/// Swaps two clusters.
fn swapped(file: &[u8], draw: &mut Draw) -> Made {
    rearranged(file, draw, swap_two)
}

/// Removes one cluster.
fn dropped(file: &[u8], draw: &mut Draw) -> Made {
    rearranged(file, draw, drop_one)
}

/// Reverses a range of clusters.
fn reversed(file: &[u8], draw: &mut Draw) -> Made {
    rearranged(file, draw, reverse_stretch)
}

/// Sets the Timestamp of a cluster. Enlarges the field if needed.
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

/// Changes the Timestamp of one cluster, or of all clusters from one on.
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

/// Sets cluster Timestamps to the Timestamp of the previous cluster.
fn timestamp_equal(file: &[u8], draw: &mut Draw) -> Made {
    retimed(file, draw, |times, first, _| times[first - 1])
}

/// Increases cluster Timestamps by a large amount.
fn timestamp_huge(file: &[u8], draw: &mut Draw) -> Made {
    let base = draw.pick(&[1 << 24, 1 << 32, 1 << 53, i64::MAX as u64, u64::MAX - 1])?;
    retimed(file, draw, |times, first, index| base.saturating_add(times[index].saturating_sub(times[first])))
}

/// The position of a block of the video track.
struct BlockAt {
    /// The index of its cluster.
    cluster: usize,
    /// The position of the two bytes with the relative time.
    time_at: usize,
    /// The position of the flags byte.
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

/// Sets the keyframe flag of each SimpleBlock to the result of `is_key` for its index.
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

/// Clears the keyframe flag of all blocks except the first.
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

/// Gives all blocks of one cluster, or of all clusters, the time of the first block there.
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

/// Replaces Cues by Void.
fn cues_voided(file: &[u8], _: &mut Draw) -> Made {
    let cues = first_of(file, segment(file)?.inside(), CUES)?;
    let mut out = file.to_vec();
    void(&mut out, &cues)?;
    Some((out, format!("{} bytes", cues.end - cues.start)))
}

/// Makes the cluster positions in Cues wrong: swapped, shifted or too large.
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

/// Makes the size of one cluster, or of all clusters from one on, unknown.
fn cluster_sizes_unknown(file: &[u8], draw: &mut Draw) -> Made {
    let clusters = clusters(file);
    let chosen = draw.one_or_rest(0, clusters.len())?;
    let mut out = file.to_vec();
    for cluster in &clusters[chosen.clone()] {
        forget_size(&mut out, cluster)?;
    }
    Some((out, scope("cluster", &chosen, clusters.len())))
}

/// Truncates the file inside a cluster.
fn truncated(file: &[u8], draw: &mut Draw) -> Made {
    let clusters = clusters(file);
    let cluster = clusters.get(draw.below(clusters.len()))?;
    cut_within(file, &cluster.inside(), draw)
}

/// Sets the lacing flags of one block, or of all blocks from one on.
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

/// Replaces the CodecPrivate of the video track by Void.
fn codec_private_voided(file: &[u8], _: &mut Draw) -> Made {
    let private = first_of(file, video_entry(file)?.inside(), CODEC_PRIVATE)?;
    let mut out = file.to_vec();
    void(&mut out, &private)?;
    Some((without_checksums(out), format!("{} bytes", private.end - private.start)))
}
