// SPDX-License-Identifier: MIT OR Apache-2.0
//! A compressed packet.

use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use crate::av::error::Error;

/// Side data of a packet.
pub(crate) struct SideData {
    kind: ffi::AVPacketSideDataType,
    bytes: Vec<u8>,
}

/// Longest side data that is carried over to later packets, in bytes: codec headers and palettes take kilobytes.
const PERSISTENT_LIMIT: usize = 1 << 20;

impl SideData {
    /// Kinds that apply to every later packet too, though demuxers attach them once: changed codec headers, palettes.
    const PERSISTENT: [ffi::AVPacketSideDataType; 2] =
        [ffi::AVPacketSideDataType::AV_PKT_DATA_NEW_EXTRADATA, ffi::AVPacketSideDataType::AV_PKT_DATA_PALETTE];
}

/// An AVPacket, reused from read to read.
pub(crate) struct Packet {
    packet: NonNull<ffi::AVPacket>,
}

// SAFETY: the packet is owned by this value alone; its data is reference-counted with atomics.
unsafe impl Send for Packet {}

impl Packet {
    pub(crate) fn new() -> Result<Self, Error> {
        // SAFETY: plain allocation; null is handled.
        let packet = unsafe { ffi::av_packet_alloc() };
        NonNull::new(packet).map(|packet| Self { packet }).ok_or_else(|| Error::memory("av_packet_alloc"))
    }

    /// Returns a packet with a copy of `bytes`.
    ///
    /// # Errors
    /// When memory is short.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, Error> {
        let mut packet = Self::new()?;
        packet.prepend(bytes)?;
        Ok(packet)
    }

    /// Returns a packet without data that libavcodec does not take for the end of the stream, because it has side data.
    pub(crate) fn without_data() -> Result<Self, Error> {
        let mut packet = Self::new()?;
        packet.add_side_data(&SideData {
            kind: ffi::AVPacketSideDataType::AV_PKT_DATA_MPEGTS_STREAM_ID,
            bytes: vec![0],
        })?;
        Ok(packet)
    }

    pub(crate) fn as_ptr(&self) -> *const ffi::AVPacket {
        self.packet.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut ffi::AVPacket {
        self.packet.as_ptr()
    }

    fn get(&self) -> &ffi::AVPacket {
        // SAFETY: allocated in new(), freed in Drop, changed only through &mut self. AVPacket has no C enum fields.
        unsafe { self.packet.as_ref() }
    }

    pub(crate) fn stream_index(&self) -> i32 {
        self.get().stream_index
    }

    /// Whether the container or its parser flags this as a keyframe.
    pub(crate) fn is_key(&self) -> bool {
        self.get().flags & ffi::AV_PKT_FLAG_KEY != 0
    }

    pub(crate) fn byte_len(&self) -> u64 {
        u64::try_from(self.get().size).unwrap_or(0)
    }

    /// Returns the presentation time, or the decoding time where there is none, in units of the stream's time base.
    pub(crate) fn timestamp(&self) -> Option<i64> {
        self.pts().or_else(|| self.dts())
    }

    /// Returns the decoding time in units of the stream's time base.
    pub(crate) fn dts(&self) -> Option<i64> {
        Some(self.get().dts).filter(|&dts| dts != ffi::AV_NOPTS_VALUE)
    }

    /// Returns the presentation time in units of the stream's time base.
    pub(crate) fn pts(&self) -> Option<i64> {
        Some(self.get().pts).filter(|&pts| pts != ffi::AV_NOPTS_VALUE)
    }

    /// Returns the byte position in the file, where the demuxer reports it.
    pub(crate) fn position(&self) -> Option<i64> {
        Some(self.get().pos).filter(|&position| position >= 0)
    }

    /// Flags the packet as a keyframe.
    pub(crate) fn set_key(&mut self) {
        // SAFETY: the packet is valid and ours.
        unsafe { (*self.as_mut_ptr()).flags |= ffi::AV_PKT_FLAG_KEY };
    }

    /// Flags the packet as incomplete.
    pub(crate) fn set_corrupt(&mut self) {
        // SAFETY: the packet is valid and ours.
        unsafe { (*self.as_mut_ptr()).flags |= ffi::AV_PKT_FLAG_CORRUPT };
    }

    /// Whether the container hides the picture: later ones need it, but it lies outside of the edit list.
    pub(crate) fn is_hidden(&self) -> bool {
        self.get().flags & ffi::AV_PKT_FLAG_DISCARD != 0
    }

    /// Clears the hidden flag.
    pub(crate) fn show(&mut self) {
        // SAFETY: the packet is valid and ours.
        unsafe { (*self.as_mut_ptr()).flags &= !ffi::AV_PKT_FLAG_DISCARD };
    }

    /// Whether the demuxer reports missing bytes.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.get().flags & ffi::AV_PKT_FLAG_CORRUPT != 0
    }

    /// Returns the compressed bytes.
    pub(crate) fn data(&self) -> &[u8] {
        let packet = self.get();
        let len = usize::try_from(packet.size).unwrap_or(0);
        if packet.data.is_null() || len == 0 {
            return &[];
        }
        // SAFETY: non-null data has `size` bytes that live as long as the packet's reference, which &self keeps.
        unsafe { std::slice::from_raw_parts(packet.data, len) }
    }

    /// Inserts `prefix` before the packet's bytes.
    ///
    /// # Errors
    /// When memory is short.
    pub(crate) fn prepend(&mut self, prefix: &[u8]) -> Result<(), Error> {
        let mut longer = Self::new()?;
        let len = prefix.len().saturating_add(self.data().len());
        let len = std::ffi::c_int::try_from(len).map_err(|_| Error::memory("av_new_packet"))?;
        // SAFETY: the packet is valid and empty; on success it has `len` bytes and the padding that decoders ask for.
        let result = unsafe { ffi::av_new_packet(longer.as_mut_ptr(), len) };
        if result < 0 {
            return Err(Error::call("av_new_packet", result));
        }
        // SAFETY: both packets are valid; properties are copied and side data shared.
        let result = unsafe { ffi::av_packet_copy_props(longer.as_mut_ptr(), self.as_ptr()) };
        if result < 0 {
            return Err(Error::call("av_packet_copy_props", result));
        }
        // SAFETY: new memory of prefix.len() + data.len() bytes, not shared.
        let target = unsafe { std::slice::from_raw_parts_mut(longer.get().data, len as usize) };
        let (head, tail) = target.split_at_mut(prefix.len());
        head.copy_from_slice(prefix);
        tail.copy_from_slice(self.data());
        *self = longer;
        Ok(())
    }

    /// Whether the packet is encrypted and the demuxer had no key.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.side_data(ffi::AVPacketSideDataType::AV_PKT_DATA_ENCRYPTION_INFO).is_some()
    }

    /// Moves the packet's data and times into a new packet; this one is empty afterwards.
    pub(crate) fn take(&mut self) -> Result<Self, Error> {
        let mut taken = Self::new()?;
        // SAFETY: both packets are valid, the target is empty.
        unsafe { ffi::av_packet_move_ref(taken.as_mut_ptr(), self.as_mut_ptr()) };
        Ok(taken)
    }

    /// Returns codec headers that apply from this packet on, where the container changes them here.
    pub(crate) fn new_extradata(&self) -> Option<&[u8]> {
        self.side_data(ffi::AVPacketSideDataType::AV_PKT_DATA_NEW_EXTRADATA)
    }

    /// Returns another reference to the same data.
    pub(crate) fn share(&self) -> Result<Self, Error> {
        let mut other = Self::new()?;
        // SAFETY: both packets are valid, the target is empty.
        let result = unsafe { ffi::av_packet_ref(other.as_mut_ptr(), self.as_ptr()) };
        if result < 0 { Err(Error::call("av_packet_ref", result)) } else { Ok(other) }
    }

    /// Stores this packet's persistent side data in `persistent`, and attaches what earlier packets stored.
    pub(crate) fn carry_side_data(&mut self, persistent: &mut Vec<SideData>) -> Result<(), Error> {
        for kind in SideData::PERSISTENT {
            if let Some(bytes) = self.side_data(kind).filter(|bytes| bytes.len() <= PERSISTENT_LIMIT) {
                let bytes = bytes.to_vec();
                persistent.retain(|data| data.kind != kind);
                persistent.push(SideData { kind, bytes });
            } else if let Some(data) = persistent.iter().find(|data| data.kind == kind) {
                self.add_side_data(data)?;
            }
        }
        Ok(())
    }

    fn side_data(&self, kind: ffi::AVPacketSideDataType) -> Option<&[u8]> {
        let mut len = 0;
        // SAFETY: the packet is valid and `len` is where the size goes.
        let data = unsafe { ffi::av_packet_get_side_data(self.as_ptr(), kind, &raw mut len) };
        // SAFETY: non-null data has `len` bytes that live as long as the packet.
        (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data, len) })
    }

    fn add_side_data(&mut self, data: &SideData) -> Result<(), Error> {
        // SAFETY: the packet is valid and ours.
        let target = unsafe { ffi::av_packet_new_side_data(self.as_mut_ptr(), data.kind, data.bytes.len()) };
        if target.is_null() {
            return Err(Error::memory("av_packet_new_side_data"));
        }
        // SAFETY: the target is fresh memory of that many bytes.
        unsafe { std::ptr::copy_nonoverlapping(data.bytes.as_ptr(), target, data.bytes.len()) };
        Ok(())
    }

    /// Releases the packet's data.
    pub(crate) fn clear(&mut self) {
        // SAFETY: the packet is valid and ours.
        unsafe { ffi::av_packet_unref(self.packet.as_ptr()) };
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let mut packet = self.packet.as_ptr();
        // SAFETY: allocated by av_packet_alloc and not used afterwards.
        unsafe { ffi::av_packet_free(&raw mut packet) };
    }
}

/// The packets of one keyframe: one, or one for each of its fields.
pub(crate) struct KeyframePackets(Vec<Packet>);

impl KeyframePackets {
    pub(crate) fn new(packet: Packet) -> Self {
        Self(vec![packet])
    }

    /// Adds the second field.
    pub(crate) fn push(&mut self, field: Packet) {
        self.0.push(field);
    }

    pub(crate) fn as_slice(&self) -> &[Packet] {
        &self.0
    }

    pub(crate) fn into_packets(self) -> impl Iterator<Item = Packet> {
        self.0.into_iter()
    }

    /// Returns the time of the keyframe, in units of the stream's time base.
    pub(crate) fn timestamp(&self) -> Option<i64> {
        self.0.first().and_then(Packet::timestamp)
    }

    pub(crate) fn byte_len(&self) -> u64 {
        self.0.iter().map(Packet::byte_len).sum()
    }

    /// Returns other references to the same data.
    pub(crate) fn share(&self) -> Result<Self, Error> {
        self.0.iter().map(Packet::share).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn side_data_over_the_limit_stays_with_its_own_packet() {
        let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_NEW_EXTRADATA;
        for (len, is_carried) in [(PERSISTENT_LIMIT, true), (PERSISTENT_LIMIT + 1, false)] {
            let mut persistent = Vec::new();
            let mut first = Packet::of(&[1]).unwrap();
            first.add_side_data(&SideData { kind, bytes: vec![1; len] }).unwrap();
            first.carry_side_data(&mut persistent).unwrap();
            assert_eq!(first.new_extradata().map(<[u8]>::len), Some(len));
            let mut second = Packet::of(&[1]).unwrap();
            second.carry_side_data(&mut persistent).unwrap();
            assert_eq!(second.new_extradata().map(<[u8]>::len), is_carried.then_some(len));
        }
    }
}
