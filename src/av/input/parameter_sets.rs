// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parameter sets in packets: recorded from every packet, added to every keyframe that lacks them.
//!
//! Each keyframe is decoded alone, by whichever decoder is free. A stream may carry its parameter sets (SPS, PPS, VPS,
//! sequence headers) only where they change, so a decoder that has not seen that packet would use outdated ones. The sets in force
//! are therefore inserted before the data of every keyframe that does not bring its own.
//!
//! Pure functions over bytes: no FFmpeg call, no allocation beyond the sets themselves.
//!
//! Formats: ITU-T H.264 7.3 and Annex B, H.265 7.3 and Annex B, ISO/IEC 14496-15 (length-prefixed NAL units), ISO/IEC
//! 13818-2 6.2, ISO/IEC 14496-2 6.2, SMPTE 421M Annex G, AV1 Bitstream Specification 5.3.

/// Longest parameter set that is kept, in bytes.
const SET_BYTES: usize = 64 << 10;

/// Most parameter sets that are kept: H.264 allows 32 SPS and 256 PPS.
const SETS: usize = 300;

/// Most units of a packet that are parsed before its first picture data.
const UNITS: usize = 512;

/// Codecs whose packets may carry parameter sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    H264,
    Hevc,
    Mpeg12,
    Mpeg4,
    Vc1,
    Av1,
}

/// How units are delimited in packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// 00 00 01 before each.
    StartCodes,
    /// Its length before each, in this many bytes.
    Lengths(usize),
    /// AV1: each OBU contains its own size.
    Obus,
}

impl Framing {
    /// Returns the framing of a stream with this `extradata` in its container.
    pub(crate) fn of(syntax: Syntax, extradata: &[u8]) -> Self {
        match syntax {
            Syntax::H264 if extradata.first() == Some(&1) => {
                Self::Lengths(usize::from(extradata.get(4).map_or(3, |byte| byte & 3)) + 1)
            }
            Syntax::Hevc if extradata.first() == Some(&1) => {
                Self::Lengths(usize::from(extradata.get(21).map_or(3, |byte| byte & 3)) + 1)
            }
            Syntax::Av1 => Self::Obus,
            _ => Self::StartCodes,
        }
    }
}

/// Whether an H.264 packet holds an IDR picture, which depends on no other and separates later pictures from earlier ones.
pub(crate) fn is_idr(framing: Framing, packet: &[u8]) -> bool {
    /// nal_unit_type of a slice of an IDR picture (ITU-T H.264, table 7-1).
    const IDR_SLICE: u8 = 5;
    let mut pictures = units(Syntax::H264, framing, packet).take(UNITS).filter(|unit| unit.role == Role::Picture);
    pictures.next().and_then(|unit| unit.bytes.first()).is_some_and(|header| header & 31 == IDR_SLICE)
}

/// Identifies a parameter set by kind and ID: one with the same key replaces it.
type Key = (u8, u32);

/// The parameter sets in force at a position in a stream.
#[derive(Debug)]
pub(crate) struct ParameterSets {
    syntax: Syntax,
    framing: Framing,
    /// The container's sets, in force at the beginning and after a seek.
    initial: Vec<(Key, Vec<u8>)>,
    /// The sets in force, in the order in which they came.
    sets: Vec<(Key, Vec<u8>)>,
    /// Whether a packet ever carried a set that differs from the container's: until then decoders have all of them.
    has_changed: bool,
}

/// A unit of a packet.
struct Unit<'a> {
    /// With its header, without start code or length.
    bytes: &'a [u8],
    role: Role,
}

#[derive(Debug, PartialEq, Eq)]
enum Role {
    Parameters(Key),
    /// Picture data: no parameter set of this picture follows.
    Picture,
    Other,
}

impl ParameterSets {
    /// Creates the state for a stream with this `extradata` in its container.
    pub(crate) fn new(syntax: Syntax, extradata: &[u8]) -> Self {
        let framing = Framing::of(syntax, extradata);
        let mut sets = Self { syntax, framing, initial: Vec::new(), sets: Vec::new(), has_changed: false };
        for unit in sets.units_of_extradata(extradata) {
            if let Role::Parameters(key) = role(syntax, unit) {
                sets.keep(key, unit);
            }
        }
        sets.initial.clone_from(&sets.sets);
        sets.has_changed = false;
        sets
    }

    /// Restores the container's sets, as after a seek.
    pub(crate) fn reset(&mut self) {
        self.sets.clone_from(&self.initial);
    }

    /// Replaces the container's sets when the container changes them (another sample description). After a seek the new ones are in
    /// force too: FFmpeg's demuxer sends a description only where it differs from the one sent last, wherever that was (mov.c,
    /// `last_stsd_index`).
    pub(crate) fn replace(&mut self, extradata: &[u8]) {
        let fresh = Self::new(self.syntax, extradata);
        self.framing = fresh.framing;
        self.initial = fresh.initial;
        self.sets = fresh.sets;
    }

    /// Records the sets that a packet establishes for itself and all after it.
    pub(crate) fn remember(&mut self, packet: &[u8]) {
        let mut found = Vec::new();
        for unit in units(self.syntax, self.framing, packet).take(UNITS) {
            match unit.role {
                Role::Parameters(key) => found.push((key, unit.bytes)),
                Role::Picture => break,
                Role::Other => {}
            }
        }
        found.into_iter().for_each(|(key, bytes)| self.keep(key, bytes));
    }

    /// Returns the data to insert before a keyframe so that a decoder with only the container's parameter sets can decode it; empty
    /// where the keyframe brings all sets itself or none ever changed.
    pub(crate) fn missing_in(&self, packet: &[u8]) -> Vec<u8> {
        if !self.has_changed {
            return Vec::new();
        }
        let mut own = Vec::new();
        for unit in units(self.syntax, self.framing, packet).take(UNITS) {
            match unit.role {
                Role::Parameters(key) => own.push(key),
                Role::Picture => break,
                Role::Other => {}
            }
        }
        let mut prefix = Vec::new();
        if self.sets.iter().all(|(key, _)| own.contains(key)) {
            return prefix;
        }
        // All sets, the packet's own included: a decoder drops picture parameter sets when their sequence parameter set is replaced by
        // one with other content.
        for (_, bytes) in &self.sets {
            match self.framing {
                Framing::StartCodes if self.syntax == Syntax::H264 || self.syntax == Syntax::Hevc => {
                    prefix.extend([0, 0, 0, 1]);
                }
                Framing::StartCodes => prefix.extend([0, 0, 1]),
                Framing::Lengths(size) => {
                    let length = (bytes.len() as u32).to_be_bytes();
                    prefix.extend(&length[4 - size..]);
                }
                Framing::Obus => {}
            }
            prefix.extend(bytes);
        }
        prefix
    }

    /// Whether a packet that begins with `head` carries parameter sets that are not in force.
    pub(crate) fn would_change(&self, head: &[u8]) -> bool {
        for unit in units(self.syntax, self.framing, head).take(UNITS) {
            match unit.role {
                Role::Parameters(key)
                    if !self.sets.iter().any(|(known, bytes)| *known == key && bytes == unit.bytes) =>
                {
                    return true;
                }
                Role::Picture => return false,
                _ => {}
            }
        }
        false
    }

    fn keep(&mut self, key: Key, bytes: &[u8]) {
        if bytes.len() > SET_BYTES
            || matches!(self.framing, Framing::Lengths(size) if size < 4 && bytes.len() >> (8 * size) > 0)
        {
            return;
        }
        match self.sets.iter().position(|(known, _)| *known == key) {
            Some(index) if self.sets[index].1 == bytes => {}
            Some(index) => {
                // At the same position: others may refer to it.
                self.sets[index].1 = bytes.to_vec();
                self.has_changed = true;
            }
            None if self.sets.len() < SETS => {
                self.sets.push((key, bytes.to_vec()));
                self.has_changed = true;
            }
            None => {}
        }
    }

    /// Returns the parameter sets in a decoder configuration: avcC, hvcC, av1C, or in the form of packets.
    fn units_of_extradata<'a>(&self, extradata: &'a [u8]) -> Vec<&'a [u8]> {
        match (self.syntax, self.framing) {
            (Syntax::H264, Framing::Lengths(_)) => avcc(extradata).unwrap_or_default(),
            (Syntax::Hevc, Framing::Lengths(_)) => hvcc(extradata).unwrap_or_default(),
            (Syntax::Av1, _) => {
                let obus =
                    if extradata.first() == Some(&0x81) { extradata.get(4..).unwrap_or_default() } else { extradata };
                units(self.syntax, self.framing, obus).take(UNITS).map(|unit| unit.bytes).collect()
            }
            _ => units(self.syntax, self.framing, extradata).take(UNITS).map(|unit| unit.bytes).collect(),
        }
    }
}

/// Returns SPS and PPS of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15 5.3.3.1).
fn avcc(extradata: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    let mut rest = extradata.get(5..)?;
    for mask in [0x1f, 0xff] {
        let (&count, after) = rest.split_first()?;
        rest = after;
        for _ in 0..count & mask {
            let (unit, after) = sized(rest)?;
            found.push(unit);
            rest = after;
        }
    }
    Some(found)
}

/// Returns VPS, SPS and PPS of an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 8.3.3.1).
fn hvcc(extradata: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    let (&arrays, mut rest) = extradata.get(22..)?.split_first()?;
    for _ in 0..arrays {
        let count = u16::from_be_bytes(*rest.get(1..)?.first_chunk()?);
        rest = rest.get(3..)?;
        for _ in 0..count {
            let (unit, after) = sized(rest)?;
            found.push(unit);
            rest = after;
        }
    }
    Some(found)
}

/// Splits off a unit with a two-byte length before it.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

/// Iterates over the complete units of a packet; the last one of a truncated packet is returned as it is.
fn units(syntax: Syntax, framing: Framing, packet: &[u8]) -> impl Iterator<Item = Unit<'_>> {
    let mut rest = match framing {
        Framing::StartCodes => packet.get(start_code(packet)..).unwrap_or_default(),
        _ => packet,
    };
    std::iter::from_fn(move || {
        let (bytes, after) = match framing {
            Framing::StartCodes => {
                if rest.is_empty() {
                    return None;
                }
                // Picture data is not searched for its end: nothing after it is needed.
                if role(syntax, rest) == Role::Picture {
                    (rest, &rest[rest.len()..])
                } else {
                    let next = start_code(rest);
                    let end = next.min(rest.len()).saturating_sub(if next > rest.len() { 0 } else { 3 });
                    (rest[..end.min(rest.len())].trim_zeros(), rest.get(next..).unwrap_or_default())
                }
            }
            Framing::Lengths(size) => {
                let (length, after) = rest.split_at_checked(size)?;
                let length = length.iter().fold(0_usize, |value, &byte| value << 8 | usize::from(byte));
                after.split_at_checked(length).unwrap_or((after, &[]))
            }
            Framing::Obus => obu(rest)?,
        };
        rest = after;
        if bytes.is_empty() {
            return Some(Unit { bytes, role: Role::Other });
        }
        Some(Unit { bytes, role: role(syntax, bytes) })
    })
}

trait TrimZeros {
    fn trim_zeros(&self) -> &Self;
}

impl TrimZeros for [u8] {
    /// Removes the zeros that may follow a unit before the next start code.
    fn trim_zeros(&self) -> &[u8] {
        let end = self.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        &self[..end]
    }
}

/// Returns the position after the next 00 00 01; past the end where there is none.
fn start_code(bytes: &[u8]) -> usize {
    let mut from = 0;
    while let Some(one) = bytes.get(from + 2..).and_then(|rest| memchr::memchr(1, rest)).map(|at| from + 2 + at) {
        if bytes[one - 1] == 0 && bytes[one - 2] == 0 {
            return one + 1;
        }
        from = one - 1;
    }
    bytes.len() + 1
}

/// Splits off the first OBU (AV1 5.3.2; those without a size run to the end).
fn obu(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let &header = bytes.first()?;
    let mut at = if header & 4 != 0 { 2 } else { 1 };
    if header & 2 == 0 {
        return Some((bytes, &[]));
    }
    let (mut size, mut shift) = (0_u64, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        size |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 || shift >= 56 {
            break;
        }
    }
    let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size))?;
    Some(bytes.split_at_checked(end).unwrap_or((bytes, &[])))
}

/// What a unit with these first bytes is.
fn role(syntax: Syntax, unit: &[u8]) -> Role {
    let Some(&first) = unit.first() else { return Role::Other };
    match syntax {
        Syntax::H264 => match first & 0x1f {
            kind @ 7 => Role::Parameters((kind, h264_sps_number(unit).unwrap_or(0))),
            // Subset SPS and SPS extensions are numbered like the SPS they belong to.
            kind @ (13 | 15) => Role::Parameters((kind, 0)),
            kind @ 8 => Role::Parameters((kind, exp_golomb(unit, 8).unwrap_or(0))),
            1..=5 => Role::Picture,
            _ => Role::Other,
        },
        Syntax::Hevc => match first >> 1 & 0x3f {
            kind @ 32 => Role::Parameters((kind, unit.get(2).map_or(0, |byte| u32::from(byte >> 4)))),
            kind @ 33 => Role::Parameters((kind, hevc_sps_number(unit).unwrap_or(0))),
            kind @ 34 => Role::Parameters((kind, exp_golomb(unit, 16).unwrap_or(0))),
            0..=31 => Role::Picture,
            _ => Role::Other,
        },
        Syntax::Mpeg12 => match first {
            0xb3 => Role::Parameters((first, 0)),
            // Sequence extension and sequence display extension.
            0xb5 => match unit.get(1).map(|byte| byte >> 4) {
                Some(kind @ (1 | 2)) => Role::Parameters((first, kind.into())),
                _ => Role::Other,
            },
            0x00..=0xaf => Role::Picture,
            _ => Role::Other,
        },
        Syntax::Mpeg4 => match first {
            0x20..=0x2f | 0xb0 | 0xb5 => Role::Parameters((first, 0)),
            0xb6 => Role::Picture,
            _ => Role::Other,
        },
        Syntax::Vc1 => match first {
            0x0e | 0x0f => Role::Parameters((first, 0)),
            0x0a..=0x0d => Role::Picture,
            _ => Role::Other,
        },
        Syntax::Av1 => match first >> 3 & 0xf {
            kind @ 1 => Role::Parameters((kind, 0)),
            3 | 4 | 6 => Role::Picture,
            _ => Role::Other,
        },
    }
}

/// seq_parameter_set_id (H.264 7.3.2.1.1): after profile, constraints and level.
fn h264_sps_number(unit: &[u8]) -> Option<u32> {
    exp_golomb(unit, 32)
}

/// sps_seq_parameter_set_id (H.265 7.3.2.2.1): after profile_tier_level, whose length depends on the sub-layers.
fn hevc_sps_number(unit: &[u8]) -> Option<u32> {
    let unit = unescaped(unit);
    let sub_layers = usize::from(unit.get(2)? >> 1 & 7);
    // Two bytes of header, one of numbers, 88 bits of general profile, 8 of level.
    let mut bit = (2 + 1 + 11 + 1) * 8;
    if sub_layers > 0 {
        let flags = bit;
        // Two flags for each, eight places in all.
        bit += 16;
        for layer in 0..sub_layers {
            bit += if bit_at(&unit, flags + 2 * layer)? { 88 } else { 0 };
            bit += if bit_at(&unit, flags + 2 * layer + 1)? { 8 } else { 0 };
        }
    }
    exp_golomb(&unit, bit)
}

/// The head of a unit without emulation prevention bytes (00 00 03).
fn unescaped(unit: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(unit.len().min(256));
    for &byte in unit.iter().take(256) {
        if byte == 3 && plain.ends_with(&[0, 0]) {
            continue;
        }
        plain.push(byte);
    }
    plain
}

fn bit_at(bytes: &[u8], bit: usize) -> Option<bool> {
    Some(bytes.get(bit / 8)? >> (7 - bit % 8) & 1 != 0)
}

/// An unsigned Exp-Golomb code (H.264 9.1) that begins at bit `bit`.
fn exp_golomb(bytes: &[u8], bit: usize) -> Option<u32> {
    let zeros = (0..32).take_while(|at| bit_at(bytes, bit + at) == Some(false)).count();
    if zeros == 32 {
        return None;
    }
    let value =
        (0..=zeros).try_fold(0_u64, |value, at| Some(value << 1 | u64::from(bit_at(bytes, bit + zeros + at)?)))?;
    u32::try_from(value - 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// profile, constraints, level, then the number as an Exp-Golomb code.
    fn sps(number: u8, rest: u8) -> Vec<u8> {
        vec![0x67, 0x42, 0, 30, [0x80, 0x40, 0x60][usize::from(number)], rest]
    }

    fn pps(number: u8) -> Vec<u8> {
        vec![0x68, [0x80, 0x40, 0x60][usize::from(number)], 0x11]
    }

    fn with_lengths(units: &[Vec<u8>]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat()).collect()
    }

    fn with_start_codes(units: &[Vec<u8>]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&[0, 0, 0, 1][..], unit].concat()).collect()
    }

    fn avc_configuration(sps: &[u8], pps: &[u8]) -> Vec<u8> {
        [&[1, 0x42, 0, 30, 0xff, 0xe1, 0, sps.len() as u8][..], sps, &[1, 0, pps.len() as u8], pps].concat()
    }

    const IDR: [u8; 3] = [0x65, 0x88, 0x80];

    #[test]
    fn keyframes_get_what_changed_before_them_and_no_more() {
        let mut sets = ParameterSets::new(Syntax::H264, &avc_configuration(&sps(0, 1), &pps(0)));
        let plain = with_lengths(&[IDR.to_vec()]);
        sets.remember(&with_lengths(&[sps(0, 1), pps(0), IDR.to_vec()]));
        assert!(sets.missing_in(&plain).is_empty(), "the container says the same");
        let change = with_lengths(&[sps(0, 2), IDR.to_vec()]);
        assert!(sets.would_change(&change) && !sets.would_change(&plain));
        sets.remember(&change);
        assert_eq!(sets.missing_in(&plain), with_lengths(&[sps(0, 2), pps(0)]));
        assert_eq!(sets.missing_in(&change), with_lengths(&[sps(0, 2), pps(0)]));
        assert!(sets.missing_in(&with_lengths(&[sps(0, 2), pps(0), IDR.to_vec()])).is_empty());
        // After a seek the container's are in force, and decoders may have seen others.
        sets.reset();
        assert_eq!(sets.missing_in(&plain), with_lengths(&[sps(0, 1), pps(0)]));
    }

    #[test]
    fn a_seek_restores_the_description_that_the_container_gave_last() {
        let first = avc_configuration(&sps(0, 1), &pps(0));
        let second = avc_configuration(&sps(0, 2), &pps(0));
        let mut sets = ParameterSets::new(Syntax::H264, &first);
        sets.replace(&second);
        sets.remember(&with_lengths(&[sps(0, 3)]));
        assert!(sets.would_change(&with_lengths(&[sps(0, 2)])));
        sets.reset();
        assert!(!sets.would_change(&with_lengths(&[sps(0, 2)])));
        assert!(sets.would_change(&with_lengths(&[sps(0, 1)])));
    }

    #[test]
    fn sets_are_distinguished_by_their_ids() {
        let mut sets = ParameterSets::new(Syntax::H264, &[]);
        sets.remember(&with_start_codes(&[vec![9, 0x10], sps(0, 1), sps(1, 1), pps(0), pps(2), IDR.to_vec()]));
        let prefix = sets.missing_in(&with_start_codes(&[IDR.to_vec()]));
        assert_eq!(prefix, with_start_codes(&[sps(0, 1), sps(1, 1), pps(0), pps(2)]));
        let own = with_start_codes(&[sps(0, 1), sps(1, 1), pps(0), pps(2), IDR.to_vec()]);
        assert!(sets.missing_in(&own).is_empty());
    }

    #[test]
    fn hevc_sequence_parameter_sets_have_numbers_behind_their_profile() {
        let mut unit = vec![0x42, 1, 0b0000_0001];
        unit.extend([0x11; 12]);
        unit.push(0b0110_0000); // 2
        assert_eq!(role(Syntax::Hevc, &unit), Role::Parameters((33, 2)));
        // One sub-layer with a profile and a level of its own.
        let mut unit = vec![0x42, 1, 0b0000_0011];
        unit.extend([0x11; 12]);
        unit.extend([0b1100_0000, 0]);
        unit.extend([0x11; 12]);
        unit.push(0b0100_0000); // 1
        assert_eq!(role(Syntax::Hevc, &unit), Role::Parameters((33, 1)));
    }

    #[test]
    fn sequence_headers_of_other_codecs_are_carried_over() {
        let header: &[u8] = &[0, 0, 1, 0xb3, 7, 7, 7, 0, 0, 1, 0xb5, 0x14, 9];
        let picture: &[u8] = &[0, 0, 1, 0xb8, 1, 2, 0, 0, 1, 0, 5, 5];
        let mut sets = ParameterSets::new(Syntax::Mpeg12, &[]);
        sets.remember(&[header, picture].concat());
        assert_eq!(sets.missing_in(picture), header);
        assert!(sets.missing_in(&[header, picture].concat()).is_empty());

        let volume: &[u8] = &[0, 0, 1, 0xb0, 1, 0, 0, 1, 0x20, 8, 8];
        let picture: &[u8] = &[0, 0, 1, 0xb6, 1, 1];
        let mut sets = ParameterSets::new(Syntax::Mpeg4, &[]);
        sets.remember(&[volume, picture].concat());
        assert_eq!(sets.missing_in(picture), volume);

        // An OBU of type 1 (sequence header) with a size of 2, then one of type 6 (frame).
        let header: &[u8] = &[0x0a, 2, 5, 5];
        let picture: &[u8] = &[0x32, 1, 9];
        let mut sets = ParameterSets::new(Syntax::Av1, &[]);
        sets.remember(&[header, picture].concat());
        assert_eq!(sets.missing_in(picture), header);
    }

    #[test]
    fn idr_pictures_are_recognised_by_their_first_slice() {
        let lengths = Framing::of(Syntax::H264, &[1, 100, 0, 31, 0xff, 0xe1, 0, 25]);
        // SEI, then a slice.
        let with = |slice: u8| [0, 0, 0, 2, 6, 9, 0, 0, 0, 1, slice];
        assert!(is_idr(lengths, &with(0x65)));
        assert!(!is_idr(lengths, &with(0x41)));
        assert!(is_idr(Framing::StartCodes, &[0, 0, 0, 1, 0x09, 0xf0, 0, 0, 1, 0x65, 0x88]));
        assert!(!is_idr(Framing::StartCodes, &[0, 0, 1, 0x41, 0x9a, 0, 0, 1, 0x65, 0x88]));
        for cut in [&[][..], &[0, 0, 0], &[0, 0, 0, 0], &[0, 0, 0, 1]] {
            assert!(!is_idr(lengths, cut) && !is_idr(Framing::StartCodes, cut), "{cut:?}");
        }
    }

    #[test]
    fn bytes_that_make_no_sense_are_harmless() {
        let mut state = 1_u32;
        for syntax in [Syntax::H264, Syntax::Hevc, Syntax::Mpeg12, Syntax::Mpeg4, Syntax::Vc1, Syntax::Av1] {
            for len in 0..300 {
                let bytes: Vec<u8> = (0..len)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        [0, 0, 1, (state >> 24) as u8][(state >> 9) as usize % 4]
                    })
                    .collect();
                let mut sets = ParameterSets::new(syntax, &bytes);
                sets.remember(&bytes);
                sets.missing_in(&bytes);
                assert!(sets.sets.len() <= SETS);
            }
        }
    }

    #[test]
    fn a_long_parameter_set_is_not_kept() {
        for (len, is_kept) in [(SET_BYTES, true), (SET_BYTES + 1, false)] {
            let mut long = sps(0, 1);
            long.resize(len, 1);
            let mut sets = ParameterSets::new(Syntax::H264, &[]);
            sets.remember(&with_start_codes(&[long, pps(0), IDR.to_vec()]));
            assert_eq!(sets.sets.len(), 1 + usize::from(is_kept), "{len} bytes");
        }
    }

    #[test]
    fn no_more_than_some_units_of_a_packet_are_searched() {
        let other = vec![9, 0x10];
        for (others, is_found) in [(UNITS - 1, true), (UNITS, false)] {
            let mut sets = ParameterSets::new(Syntax::H264, &[]);
            let packet = with_start_codes(&[vec![other.clone(); others], vec![sps(0, 1)]].concat());
            assert_eq!(sets.would_change(&packet), is_found);
            sets.remember(&packet);
            assert_eq!(sets.sets.len(), usize::from(is_found));
            assert_eq!(ParameterSets::new(Syntax::H264, &packet).sets.len(), usize::from(is_found));
            let packet = with_start_codes(&[vec![other.clone(); others], vec![IDR.to_vec()]].concat());
            assert_eq!(is_idr(Framing::StartCodes, &packet), is_found);
        }
    }
}
