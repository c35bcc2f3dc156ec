// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults of MPEG-2 transport streams.

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
/// The number of bits in PTS and DTS.
const STAMP_BITS: u32 = 33;

/// Lists the positions of the packets.
fn packets(file: &[u8]) -> impl DoubleEndedIterator<Item = usize> + '_ {
    let count = file.len() / PACKET;
    (0..count).map(|index| index * PACKET).filter(|&at| file[at] == SYNC_BYTE)
}

/// Lists the positions of the packets with a PID.
fn packets_of(file: &[u8], pid: u16) -> impl DoubleEndedIterator<Item = usize> + '_ {
    packets(file).filter(move |&at| pid_of(file, at) == pid)
}

/// Returns whether a complete packet with a PID is at `at`.
fn is_packet_of(file: &[u8], at: usize, pid: u16) -> bool {
    at + PACKET <= file.len() && file[at] == SYNC_BYTE && pid_of(file, at) == pid
}

/// Reads the PID of the packet at `at`.
fn pid_of(file: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([file[at + 1], file[at + 2]]) & 0x1FFF
}

/// Writes a PID and keeps the three bits before it.
fn put_pid(out: &mut [u8], at: usize, pid: u16) {
    out[at] = out[at] & 0xE0 | (pid >> 8) as u8;
    out[at + 1] = pid as u8;
}

/// Returns whether a PES packet or a section starts in the packet.
fn starts_unit(file: &[u8], at: usize) -> bool {
    file[at + 1] & 0x40 != 0
}

/// Returns the position of the flags of the adaptation field.
fn adaptation_flags(file: &[u8], at: usize) -> Option<usize> {
    (file[at + 3] & 0x20 != 0 && file[at + 4] > 0).then_some(at + 5)
}

/// Returns the range of the payload of a packet.
fn payload(file: &[u8], at: usize) -> Option<Range<usize>> {
    let has_field = file[at + 3] & 0x20 != 0;
    let start = at + 4 + if has_field { 1 + usize::from(file[at + 4]) } else { 0 };
    (file[at + 3] & 0x10 != 0 && start < at + PACKET).then_some(start..at + PACKET)
}

/// Returns the range of a section that starts and ends in a packet.
fn section(file: &[u8], at: usize) -> Option<Range<usize>> {
    let payload = payload(file, at).filter(|_| starts_unit(file, at))?;
    let start = payload.start + 1 + usize::from(file[payload.start]);
    let end = start + 3 + (be(file, start + 1, 2)? & 0xFFF) as usize;
    (end <= payload.end && end >= start + 12).then_some(start..end)
}

/// The information about the video in the tables of the stream.
struct Program {
    map_pid: u16,
    video_pid: u16,
    stream_type: u8,
}

/// Finds the video stream through the PAT and the PMT.
fn program(file: &[u8]) -> Option<Program> {
    let map_pid = packets_of(file, 0).find_map(|at| map_pid(file, at))?;
    packets_of(file, map_pid).find_map(|at| {
        let entry = video_entry(file, at)?;
        let video_pid = be(file, entry + 1, 2)? as u16 & 0x1FFF;
        Some(Program { map_pid, video_pid, stream_type: file[entry] })
    })
}

/// Reads the PID of the first PMT from the PAT in a packet.
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

/// Lists the packets in which a PES packet with a PID starts.
fn pes_starts(file: &[u8], pid: u16) -> Vec<usize> {
    packets_of(file, pid).filter(|&at| pes_header(file, at).is_some()).collect()
}

/// Returns the position of the PES header in a packet.
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

/// Writes a PTS or DTS and keeps the marker bits.
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

/// Returns the complete packets of the file, or `None` if there are none.
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

/// Changes PTS and DTS of one video PES packet, or of all packets from one on.
///
/// `renew` gets the time of the previous PES packet and the old time.
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

/// Sets PTS and DTS to the decode time of the previous PES packet.
fn stamps_equal(file: &[u8], draw: &mut Draw) -> Made {
    restamped(file, draw, |before, _| before)
}

/// Decreases PTS and DTS.
fn stamps_back(file: &[u8], draw: &mut Draw) -> Made {
    let step = draw.pick(&[3600, 45_000, 90_000, 90_000 * 20])?;
    restamped(file, draw, |_, old| old.wrapping_sub(step))
}

/// Removes PTS and DTS from PES headers. Stuffing replaces them.
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

/// Adds a jump to the PCR from one packet on.
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

/// Writes another video PID into the PMT in a packet, as a new version.
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

/// Moves the video to a free PID, from one PES packet on.
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

/// Changes the video PID, with a new version of the PMT directly before.
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

/// Changes the video PID and keeps the PMT.
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

/// Drops consecutive packets, or scattered video packets.
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

/// Clears random_access_indicator in all video packets, or in all except the first.
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

/// Renumbers the continuity counters of a PID.
fn renumber(out: &mut [u8], pid: u16) {
    let positions: Vec<usize> = packets_of(out, pid).collect();
    let mut next = None;
    for at in positions {
        let counter = next.unwrap_or(out[at + 3]) & 0x0F;
        out[at + 3] = out[at + 3] & 0xF0 | counter;
        next = Some(counter + u8::from(out[at + 3] & 0x10 != 0));
    }
}

/// Repeats some video PES packets directly after themselves.
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

/// Replaces a NAL unit by filler data of the same length.
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

/// Replaces the parameter sets of some access units by filler data.
///
/// `chosen` gets whether the access unit is the first one with parameter sets.
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

/// Keeps only the parameter sets of the first access unit.
fn parameter_sets_first_only(file: &[u8], _: &mut Draw) -> Made {
    parameter_sets_filled(file, |first| !first)
}

/// Removes the parameter sets of the first access unit.
fn parameter_sets_not_first(file: &[u8], _: &mut Draw) -> Made {
    parameter_sets_filled(file, |first| first)
}
