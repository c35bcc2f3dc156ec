//! A compressed packet.

use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use super::error::Error;

/// An AVPacket, reused from read to read.
pub(super) struct Packet {
    packet: NonNull<ffi::AVPacket>,
}

// SAFETY: the packet is owned by this value alone; its data is reference-counted with atomics.
unsafe impl Send for Packet {}

impl Packet {
    pub(super) fn new() -> Result<Self, Error> {
        // SAFETY: plain allocation; null is handled.
        let packet = unsafe { ffi::av_packet_alloc() };
        NonNull::new(packet).map(|packet| Self { packet }).ok_or_else(|| Error::memory("av_packet_alloc"))
    }

    pub(super) fn as_ptr(&self) -> *const ffi::AVPacket {
        self.packet.as_ptr()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut ffi::AVPacket {
        self.packet.as_ptr()
    }

    fn get(&self) -> &ffi::AVPacket {
        // SAFETY: allocated in new(), freed in Drop, changed only through &mut self. AVPacket has no C enum fields.
        unsafe { self.packet.as_ref() }
    }

    pub(super) fn stream_index(&self) -> i32 {
        self.get().stream_index
    }

    /// Whether the container or its parser calls this a keyframe.
    pub(super) fn is_key(&self) -> bool {
        self.get().flags & ffi::AV_PKT_FLAG_KEY != 0
    }

    pub(super) fn byte_len(&self) -> u64 {
        u64::try_from(self.get().size).unwrap_or(0)
    }

    /// Presentation time, or decoding time where there is none, in units of the stream's time base.
    pub(super) fn timestamp(&self) -> Option<i64> {
        self.pts().or_else(|| self.dts())
    }

    /// Decoding time in units of the stream's time base.
    pub(super) fn dts(&self) -> Option<i64> {
        Some(self.get().dts).filter(|&dts| dts != ffi::AV_NOPTS_VALUE)
    }

    /// Presentation time in units of the stream's time base.
    pub(super) fn pts(&self) -> Option<i64> {
        Some(self.get().pts).filter(|&pts| pts != ffi::AV_NOPTS_VALUE)
    }

    /// Whether the demuxer left the packet encrypted, for want of a key.
    pub(super) fn is_encrypted(&self) -> bool {
        let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_ENCRYPTION_INFO;
        // SAFETY: the packet is valid; a null size pointer is allowed.
        let data = unsafe { ffi::av_packet_get_side_data(self.as_ptr(), kind, std::ptr::null_mut()) };
        !data.is_null()
    }

    /// Lets the packet's data go.
    pub(super) fn clear(&mut self) {
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
