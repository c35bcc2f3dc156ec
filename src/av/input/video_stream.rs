// SPDX-License-Identifier: MIT OR Apache-2.0
//! The video stream of an opened container: codec, time base, index, orientation.

use std::ffi::c_int;
use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use crate::av::c_enums;
use crate::av::error::Error;
use crate::av::frame::display_matrix;
use crate::av::frame::rotation::Rotation;
use crate::av::input::parameter_sets::Syntax;
use crate::av::input::text;

/// A video stream of an [`Input`](super::Input) and its decoder. It points into the input: the owner of both keeps it beside the input,
/// and replaces it whenever the input is closed or opened again.
pub(crate) struct VideoStream {
    stream: NonNull<ffi::AVStream>,
    codec: NonNull<ffi::AVCodec>,
    /// The codec's ID when the decoder was chosen.
    codec_id: u32,
}

// SAFETY: points into an Input (or BareStream) that lives beside it and moves to other threads with it; AVCodec is static.
unsafe impl Send for VideoStream {}

/// A sample in a demuxer's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Decoding time in units of the stream's time base.
    pub dts: i64,
    /// Byte position.
    pub position: i64,
    /// Byte position after it.
    pub end: i64,
    /// Whether the container flags it as a keyframe.
    pub is_key: bool,
    /// Whether it lies outside of the edit list.
    pub is_hidden: bool,
}

impl VideoStream {
    /// `stream` belongs to an open context, `codec` is one of libavcodec's static descriptions.
    pub(crate) fn new(stream: NonNull<ffi::AVStream>, codec: NonNull<ffi::AVCodec>) -> Self {
        let mut video = Self { stream, codec, codec_id: 0 };
        video.codec_id = video.codec_id();
        video
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::AVStream {
        self.stream.as_ptr()
    }

    fn get(&self) -> &ffi::AVStream {
        // SAFETY: the owner keeps the Input open beside it (see the type's docs); C enum fields are not read through this.
        unsafe { self.stream.as_ref() }
    }

    pub(crate) fn index(&self) -> c_int {
        self.get().index
    }

    /// Returns FFmpeg's own decoder for it.
    pub(crate) fn native_decoder(&self) -> NonNull<ffi::AVCodec> {
        self.codec
    }

    /// Returns the long name of the codec, for example "H.264 / AVC / MPEG-4 AVC / MPEG-4 part 10".
    pub(crate) fn codec_long_name(&self) -> String {
        // SAFETY: a static AVCodec.
        let (long, short) = unsafe { ((*self.codec.as_ptr()).long_name, (*self.codec.as_ptr()).name) };
        text(long).or_else(|| text(short)).unwrap_or_default()
    }

    pub(crate) fn parameters(&self) -> *const ffi::AVCodecParameters {
        self.get().codecpar
    }

    pub(crate) fn raw_time_base(&self) -> ffi::AVRational {
        self.get().time_base
    }

    /// Returns the seconds of one timestamp unit, as a fraction.
    pub(crate) fn time_base(&self) -> (i64, i64) {
        let base = self.get().time_base;
        (base.num.into(), base.den.max(1).into())
    }

    /// Returns the number of entries in the demuxer's index.
    pub(crate) fn index_len(&self) -> usize {
        // SAFETY: a valid stream, only read.
        usize::try_from(unsafe { ffi::avformat_index_get_entries_count(self.stream.as_ptr()) }).unwrap_or(0)
    }

    /// Returns the entries of the demuxer's index.
    pub(crate) fn index_entries(&self) -> impl Iterator<Item = IndexEntry> + '_ {
        (0..self.index_len()).filter_map(|number| self.index_entry(number))
    }

    /// Returns the byte position in the demuxer's index of the keyframe at or before `timestamp`.
    pub(crate) fn indexed_position(&self, timestamp: i64) -> Option<i64> {
        let stream = self.stream.as_ptr();
        // SAFETY: a valid stream; the entry is valid until the demuxer is called again.
        let entry = unsafe {
            ffi::avformat_index_get_entry_from_timestamp(stream, timestamp, ffi::AVSEEK_FLAG_BACKWARD).as_ref()
        };
        entry.map(|entry| entry.pos)
    }

    /// Adds an entry to the demuxer's index: a frame at byte `position` is decoded at `timestamp`, a keyframe or not.
    pub(crate) fn add_to_index(&self, position: i64, timestamp: i64, is_keyframe: bool) {
        let flags = if is_keyframe { ffi::AVINDEX_KEYFRAME } else { 0 };
        // SAFETY: a valid stream of an open input, not in use elsewhere. On failure the index stays as it is.
        unsafe { ffi::av_add_index_entry(self.stream.as_ptr(), position, timestamp, 0, 0, flags as c_int) };
    }

    /// Returns an entry of the demuxer's index.
    pub(crate) fn index_entry(&self, number: usize) -> Option<IndexEntry> {
        let number = c_int::try_from(number).ok()?;
        // SAFETY: a valid stream; numbers past the end give null; the entry is valid until the demuxer is called again.
        let entry = unsafe { ffi::avformat_index_get_entry(self.stream.as_ptr(), number).as_ref() }?;
        let flags = entry.flags();
        Some(IndexEntry {
            dts: entry.timestamp,
            position: entry.pos,
            end: entry.pos.saturating_add(entry.size().into()),
            is_key: flags & ffi::AVINDEX_KEYFRAME != 0,
            is_hidden: flags & ffi::AVINDEX_DISCARD_FRAME != 0,
        })
    }

    /// Returns FFmpeg's ID of the codec, as the container has it now.
    pub(super) fn codec_id(&self) -> u32 {
        // SAFETY: valid parameters; the C enum is read as an integer, for a newer library may know more codecs.
        unsafe { (&raw const (*self.parameters()).codec_id).cast::<u32>().read() }
    }

    /// Whether the container has switched to another codec since the decoder was chosen.
    pub(crate) fn codec_has_changed(&self) -> bool {
        self.codec_id() != self.codec_id
    }

    /// Returns the syntax of parameter sets in the codec's packets; `None` where there are none.
    pub(crate) fn syntax(&self) -> Option<Syntax> {
        use ffi::AVCodecID as Codec;
        let syntaxes = [
            (Codec::AV_CODEC_ID_H264, Syntax::H264),
            (Codec::AV_CODEC_ID_HEVC, Syntax::Hevc),
            (Codec::AV_CODEC_ID_MPEG1VIDEO, Syntax::Mpeg12),
            (Codec::AV_CODEC_ID_MPEG2VIDEO, Syntax::Mpeg12),
            (Codec::AV_CODEC_ID_MPEG4, Syntax::Mpeg4),
            (Codec::AV_CODEC_ID_VC1, Syntax::Vc1),
            (Codec::AV_CODEC_ID_AV1, Syntax::Av1),
        ];
        syntaxes.into_iter().find(|(codec, _)| *codec as u32 == self.codec_id).map(|(_, syntax)| syntax)
    }

    /// Whether every frame of the codec is a keyframe, whatever containers say.
    pub(crate) fn is_intra_only(&self) -> bool {
        // SAFETY: a static AVCodec.
        let descriptor = unsafe { c_enums::avcodec_descriptor_get(c_enums::id_of(self.codec)) };
        // SAFETY: a static description, unless it is null.
        !descriptor.is_null() && unsafe { (*descriptor).props } & ffi::AV_CODEC_PROP_INTRA_ONLY != 0
    }

    /// Returns the container's data for the decoder: parameter sets, in a form that depends on the codec.
    pub(crate) fn extradata(&self) -> &[u8] {
        // SAFETY: valid parameters.
        let parameters = unsafe { &*self.parameters() };
        let len = usize::try_from(parameters.extradata_size).unwrap_or(0);
        if parameters.extradata.is_null() || len == 0 {
            return &[];
        }
        // SAFETY: extradata has that many bytes; they live as long as the stream, and the demuxer is not called meanwhile.
        unsafe { std::slice::from_raw_parts(parameters.extradata, len) }
    }

    /// Returns the length of the stream in its own time base, where the container states it.
    pub(crate) fn duration(&self) -> Option<i64> {
        Some(self.get().duration).filter(|&duration| duration != ffi::AV_NOPTS_VALUE && duration > 0)
    }

    /// Fails if the container states a picture size of more than `max_pixels`.
    pub(crate) fn check_size(&self, max_pixels: u64) -> Result<(), Error> {
        // SAFETY: valid parameters.
        let (width, height) = unsafe { ((*self.parameters()).width, (*self.parameters()).height) };
        let (width, height) = (u32::try_from(width).unwrap_or(0), u32::try_from(height).unwrap_or(0));
        let is_too_large = u64::from(width) * u64::from(height) > max_pixels;
        if is_too_large { Err(Error::TooLarge { width, height, max_pixels }) } else { Ok(()) }
    }

    /// Whether the codec parameters state that pictures consist of two fields.
    pub(crate) fn is_interlaced(&self) -> bool {
        // SAFETY: valid parameters; the C enum is read as an integer.
        let order = unsafe { (&raw const (*self.get().codecpar).field_order).cast::<u32>().read() };
        order > ffi::AVFieldOrder::AV_FIELD_PROGRESSIVE as u32
    }

    /// Returns the rotation that the container specifies.
    pub(crate) fn rotation(&self) -> Rotation {
        let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX;
        #[cfg(ffmpeg_6_1)]
        let bytes = {
            // SAFETY: valid parameters, whose side data list and length belong together.
            unsafe {
                let parameters = self.get().codecpar;
                let (list, count) = ((*parameters).coded_side_data, (*parameters).nb_coded_side_data);
                let entry = ffi::av_packet_side_data_get(list, count, kind);
                entry.as_ref().map(|entry| std::slice::from_raw_parts(entry.data, entry.size))
            }
        };
        #[cfg(not(ffmpeg_6_1))]
        let bytes = {
            let mut size = 0;
            // SAFETY: a valid stream; the result is null or `size` bytes that live as long as the stream.
            unsafe {
                let data = ffi::av_stream_get_side_data(self.stream.as_ptr(), kind, &raw mut size);
                (!data.is_null()).then(|| std::slice::from_raw_parts(data, size))
            }
        };
        bytes.and_then(display_matrix).map(|matrix| Rotation::from_display_matrix(&matrix)).unwrap_or_default()
    }
}
