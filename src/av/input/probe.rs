// SPDX-License-Identifier: MIT OR Apache-2.0
//! Probing: what has to be known about the streams before the first keyframe is read, determined without decoding.
//!
//! FFmpeg's avformat_find_stream_info reads the first seconds for frame rate, duration and parameter sets, and decodes frames until
//! it knows the size and pixel format of every video. That takes as long as a few keyframes (of H.264 up to seven frames, to
//! learn their delay), under the opening lock. Nothing here needs either: both are taken from each decoded keyframe. So they are
//! presumed while the probe runs, its decoders are told to skip every frame, and afterwards they are unknown again, unless a parser
//! has found the size.
//!
//! Codecs and containers for which this would change times or the choice of the video are probed by FFmpeg alone.
//!
//! Thread rule: the thread that holds the opening lock.

use std::ffi::{CString, c_int};

use ffmpeg_sys_next as ffi;

use crate::av::error::Error;
use crate::av::input::Input;
use crate::av::input::container::Container;
use crate::av::input::packet::Packet;

/// Presumed width and height in pixels, where the container does not state them.
const PRESUMED_SIZE: c_int = 1;

/// Presumed pixel format.
const PRESUMED_FORMAT: c_int = ffi::AVPixelFormat::AV_PIX_FMT_YUV420P as c_int;

/// Moves nothing and returns the position.
const SEEK_CUR: c_int = 1;

/// Most packets that are read to find the first video of a container that does not list its streams.
const LATE_STREAM_PACKETS: usize = 200;

/// What is presumed about a video while it is probed: its pixel format, and maybe its size.
struct Presumption {
    index: usize,
    with_size: bool,
}

impl Input {
    /// Reads a container that does not list its streams up to its first video, and returns to its beginning. Without random access
    /// nothing is read. False if it does not return there: the caller opens it again.
    ///
    /// # Errors
    /// An error of the source.
    pub(super) fn find_late_streams(&mut self) -> Result<bool, Error> {
        let is_needed = self.container.names_streams_late() && self.streams().is_empty();
        if !is_needed || !self.has_cheap_seeks() || self.byte_len().is_none() {
            return Ok(true);
        }
        // SAFETY: the context is open and has IO.
        let beginning = unsafe { ffi::avio_seek((*self.context.as_ptr()).pb, 0, SEEK_CUR) };
        let mut packet = Packet::new()?;
        for _ in 0..LATE_STREAM_PACKETS {
            match self.read(&mut packet) {
                Ok(true) if !(0..self.streams().len()).any(|index| self.is_video(index)) => {}
                // The probe reports what is wrong with the container.
                Ok(_) | Err(Error::Call { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        // SAFETY: the context is open.
        let result =
            unsafe { ffi::av_seek_frame(self.context.as_ptr(), -1, beginning, ffi::AVSEEK_FLAG_BYTE as c_int) };
        Ok(result >= 0)
    }

    /// Determines what the container does not state, with decoders that refuse pictures of more than `max_pixels`.
    pub(super) fn probe(&mut self, max_pixels: u64) -> c_int {
        let mut options = vec![std::ptr::null_mut::<ffi::AVDictionary>(); self.streams().len()];
        if self.container.states_frame_rate() {
            // No need to read dozens of frames to estimate the frame rate.
            // SAFETY: the context is ours; a plain setting of the probe that follows.
            unsafe { (*self.context.as_ptr()).fps_probe_size = 0 };
        }
        let presumed: Vec<_> = (0..options.len()).filter_map(|index| self.presumption(index)).collect();
        let limit = CString::new(max_pixels.to_string()).unwrap_or_default();
        for (index, entry) in options.iter_mut().enumerate() {
            // A stream that is not decoded need not be refused here, where FFmpeg would forget its size.
            let (key, value) = match presumed.iter().any(|presumption| presumption.index == index) {
                true => (c"skip_frame", c"all"),
                false => (c"max_pixels", limit.as_c_str()),
            };
            // SAFETY: a null dictionary is created; both strings are terminated and copied.
            unsafe { ffi::av_dict_set(entry, key.as_ptr(), value.as_ptr(), 0) };
        }
        presumed.iter().for_each(|presumption| self.presume(presumption));
        // Without streams there is nothing to point to.
        let list = if options.is_empty() { std::ptr::null_mut() } else { options.as_mut_ptr() };
        // SAFETY: the context is open; the list has a dictionary for each of its streams.
        let result = unsafe { ffi::avformat_find_stream_info(self.context.as_ptr(), list) };
        for entry in &mut options {
            // SAFETY: ours, or what the call left in its place.
            unsafe { ffi::av_dict_free(entry) };
        }
        presumed.iter().for_each(|presumption| self.forget(presumption));
        result
    }

    /// Returns what to presume about a stream so that it is not decoded; `None` where FFmpeg knows all or has to decode.
    fn presumption(&self, index: usize) -> Option<Presumption> {
        if !self.container.describes_streams() || !self.is_video(index) {
            return None;
        }
        // SAFETY: a valid stream with codec parameters.
        let parameters = unsafe { &*(*self.streams()[index]).codecpar };
        let has_size = parameters.width > 0 && parameters.height > 0;
        let is_possible = if has_size { !self.needs_decoded_delay(index) } else { self.states_size_in_sets(index) };
        (is_possible && parameters.format < 0).then_some(Presumption { index, with_size: !has_size })
    }

    /// Whether times depend on the delay of a codec, which FFmpeg learns by decoding: in AVI, which has no presentation times, and for
    /// MPEG-1 and MPEG-2, of which it decodes nothing but headers.
    fn needs_decoded_delay(&self, index: usize) -> bool {
        let is_codec = |codec: ffi::AVCodecID| codec as u32 == self.codec_id(index);
        let is_mpeg12 =
            is_codec(ffi::AVCodecID::AV_CODEC_ID_MPEG1VIDEO) || is_codec(ffi::AVCodecID::AV_CODEC_ID_MPEG2VIDEO);
        match self.container {
            Container::Mp4 | Container::Matroska => false,
            Container::Avi => is_mpeg12 || is_codec(ffi::AVCodecID::AV_CODEC_ID_H264),
            _ => is_mpeg12,
        }
    }

    /// Whether parameter sets, which FFmpeg extracts without decoding, state the size of a stream's pictures.
    pub(super) fn states_size_in_sets(&self, index: usize) -> bool {
        let codecs = [ffi::AVCodecID::AV_CODEC_ID_H264, ffi::AVCodecID::AV_CODEC_ID_HEVC];
        codecs.iter().any(|&codec| codec as u32 == self.codec_id(index))
    }

    fn presume(&mut self, presumption: &Presumption) {
        // SAFETY: a valid stream with codec parameters of the context that &mut self owns.
        let parameters = unsafe { &mut *(*self.streams()[presumption.index]).codecpar };
        parameters.format = PRESUMED_FORMAT;
        if presumption.with_size {
            (parameters.width, parameters.height) = (PRESUMED_SIZE, PRESUMED_SIZE);
        }
    }

    fn forget(&mut self, presumption: &Presumption) {
        // SAFETY: a valid stream with codec parameters of the context that &mut self owns; the probe removes no stream.
        let parameters = unsafe { &mut *(*self.streams()[presumption.index]).codecpar };
        parameters.format = ffi::AVPixelFormat::AV_PIX_FMT_NONE as c_int;
        if presumption.with_size && (parameters.width, parameters.height) == (PRESUMED_SIZE, PRESUMED_SIZE) {
            (parameters.width, parameters.height) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::av::input::test_files::{file_of, opened};

    /// An FLV file (Adobe Flash Video specification 10.1, annex E) whose video comes after this many packets of audio.
    fn file(audio_packets: usize) -> Vec<u8> {
        // Uncompressed audio; together more bytes than FFmpeg's own probe reads.
        let audio = [&[0x3e][..], &vec![0; 30_000]].concat();
        // A keyframe of Sorenson Spark.
        let video = [&[0x12][..], &[0; 100]].concat();
        let tags = std::iter::repeat_n((8, &audio), audio_packets).chain([(9, &video)]);
        let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for (kind, content) in tags {
            let len = u32::try_from(content.len()).unwrap();
            file.push(kind);
            file.extend(&len.to_be_bytes()[1..]);
            file.extend([0; 7]);
            file.extend(content);
            file.extend((len + 11).to_be_bytes());
        }
        file
    }

    #[test]
    fn the_search_for_the_first_video_ends_after_some_packets() {
        let mut input = opened(file_of(&file(LATE_STREAM_PACKETS - 1))).unwrap();
        assert!(input.best_video().is_ok());
        let mut input = opened(file_of(&file(LATE_STREAM_PACKETS))).unwrap();
        let error = input.best_video().err();
        assert!(matches!(error, Some(Error::NoVideo { .. })), "{error:?}");
    }
}
