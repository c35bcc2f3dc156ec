// SPDX-License-Identifier: MIT OR Apache-2.0
//! An opened container: streams, packets, seeks.
//!
//! An untrusted file must not reach anything but its own bytes: every attempt of a demuxer to open another file or address is
//! refused.

pub mod bare_stream;
pub mod container;
pub mod field_pairs;
mod open_error;
pub mod packet;
pub mod parameter_sets;
pub mod parser;
mod probe;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
pub(crate) mod test_files;
pub mod video_stream;

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use crate::av::error::{Error, version_text};
use crate::av::input::container::Container;
use crate::av::input::open_error::{open_error, unsupported_kind};
use crate::av::input::packet::Packet;
use crate::av::input::video_stream::VideoStream;
use crate::av::io::{ByteSource, Interrupt, Io};

/// Longest metadata text that is returned, in bytes.
const TEXT_LIMIT: usize = 4096;

/// Most bytes read to probe the streams.
const PROBE_BYTES: i64 = 5_000_000;

/// Most packets read to probe a stream.
const PROBE_PACKETS: c_int = 2500;

/// Most streams of a container; one with more is refused.
const STREAMS_LIMIT: c_int = 1000;

/// Most streams that are described individually.
const STREAMS_NAMED: usize = 32;

/// An AVFormatContext that reads through our own IO.
pub(crate) struct Input {
    /// Dropped before the IO and the flag under it.
    context: FormatContext,
    io: Io,
    container: Container,
    /// Keeps the flag alive that the context's interrupt callback points to.
    interrupt: Interrupt,
}

/// An open AVFormatContext that is closed when it is dropped. Its owner keeps what it reads from.
struct FormatContext(NonNull<ffi::AVFormatContext>);

// SAFETY: the context is owned by this value alone and FFmpeg does not tie it to a thread. It points to the Io and the Interrupt beside
// it, which are Send themselves.
unsafe impl Send for FormatContext {}

impl FormatContext {
    fn as_ptr(&self) -> *mut ffi::AVFormatContext {
        self.0.as_ptr()
    }
}

impl Drop for FormatContext {
    fn drop(&mut self) {
        let mut context = self.0.as_ptr();
        // SAFETY: opened by avformat_open_input and not used afterwards; Input drops the IO under it later.
        unsafe { ffi::avformat_close_input(&raw mut context) };
    }
}

unsafe extern "C" fn refuse_to_open(
    _context: *mut ffi::AVFormatContext,
    _io: *mut *mut ffi::AVIOContext,
    _url: *const c_char,
    _flags: c_int,
    _options: *mut *mut ffi::AVDictionary,
) -> c_int {
    ffi::AVERROR(ffi::EPERM)
}

impl Input {
    /// Opens a container and probes its streams. The caller holds the opening lock.
    pub(crate) fn open(source: Box<dyn ByteSource>, interrupt: Interrupt, max_pixels: u64) -> Result<Self, Error> {
        let mut input = Self::open_unprobed(source, interrupt)?;
        if !input.find_late_streams()? {
            let (source, bytes_read) = input.io.take_source()?;
            input = Self::open_unprobed(source, input.interrupt.clone())?;
            input.io.add_bytes_read(bytes_read);
        }
        let result = input.probe(max_pixels);
        input.check_source()?;
        match result {
            0.. => Ok(input),
            ffi::AVERROR_EOF => {
                let container = input.container_name();
                Err(Error::Damaged(format!("the {container} file ends before its first stream begins")))
            }
            _ => Err(Error::call("avformat_find_stream_info", result)),
        }
    }

    /// Opens a container, of whose streams only what its header states is known then.
    fn open_unprobed(source: Box<dyn ByteSource>, interrupt: Interrupt) -> Result<Self, Error> {
        let mut io = Io::new(source, interrupt.clone())?;
        // SAFETY: plain allocation; null is handled.
        let mut context = unsafe { ffi::avformat_alloc_context() };
        if context.is_null() {
            return Err(Error::memory("avformat_alloc_context"));
        }
        // SAFETY: the context is ours and not opened yet, which is when these fields may be set.
        unsafe {
            (*context).pb = io.as_ptr();
            (*context).interrupt_callback = interrupt.callback();
            (*context).io_open = Some(refuse_to_open);
            (*context).probesize = PROBE_BYTES;
            (*context).max_probe_packets = PROBE_PACKETS;
            (*context).max_streams = STREAMS_LIMIT;
            // Containers without presentation times (avi, MPEG program streams): FFmpeg derives them from what follows.
            (*context).flags |= ffi::AVFMT_FLAG_GENPTS;
        }
        let mut options = std::ptr::null_mut();
        // Demuxers that open through a protocol instead of io_open find every protocol disabled.
        // SAFETY: terminated strings, copied by the call.
        unsafe { ffi::av_dict_set(&raw mut options, c"protocol_whitelist".as_ptr(), c"".as_ptr(), 0) };
        // SAFETY: context is allocated, the URL may be empty, the format is to be probed; on failure the call frees
        // the context and sets it to null, the IO stays ours.
        let result =
            unsafe { ffi::avformat_open_input(&raw mut context, c"".as_ptr(), std::ptr::null_mut(), &raw mut options) };
        // SAFETY: the dictionary is ours; null is allowed.
        unsafe { ffi::av_dict_free(&raw mut options) };
        let Some(context) = NonNull::new(context).filter(|_| result >= 0).map(FormatContext) else {
            return Err(open_error(&mut io, result));
        };
        // SAFETY: iformat is set in an open context and static, as is its name.
        let names = text(unsafe { (*(*context.as_ptr()).iformat).name }).unwrap_or_default();
        Ok(Self { context, io, container: Container::from_demuxer_names(&names), interrupt })
    }

    /// Opens the container again, to be read from its beginning, and returns it. Nothing more can be read from this one, but its streams
    /// stay valid until it is dropped. The caller holds the opening lock.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn reopen(&mut self, max_pixels: u64) -> Result<Self, Error> {
        let (source, bytes_read) = self.io.take_source()?;
        let mut again = Self::open(source, self.interrupt.clone(), max_pixels)?;
        again.io.add_bytes_read(bytes_read);
        Ok(again)
    }

    /// Returns why the file yields no picture, where its first bytes show that.
    pub(crate) fn unsupported_kind(&self) -> Option<Error> {
        unsupported_kind(self.io.head())
    }

    /// Fails with the source's own error, if there was one, or if the work was interrupted.
    pub(super) fn check_source(&mut self) -> Result<(), Error> {
        if let Some(error) = self.io.take_error() {
            return Err(error.into());
        }
        if self.interrupt.is_set() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn get(&self) -> &ffi::AVFormatContext {
        // SAFETY: open until Drop, changed only through &mut self. No C enum field of it is read through this.
        unsafe { &*self.context.as_ptr() }
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.io.bytes_read()
    }

    pub(crate) fn is_seekable(&self) -> bool {
        self.io.is_seekable()
    }

    pub(crate) fn has_cheap_seeks(&self) -> bool {
        self.io.has_cheap_seeks()
    }

    /// Stops read-ahead at byte `end`: what follows is not needed for now.
    pub(crate) fn limit_read_ahead(&mut self, end: i64) {
        self.io.limit_read_ahead(u64::try_from(end).unwrap_or(0));
    }

    /// Sets whether seeks go straight to the source and reads take no more than they need: for jumps, where FFmpeg would
    /// otherwise read through gaps of up to 64 KiB.
    pub(crate) fn set_unbuffered(&mut self, is_direct: bool) {
        // SAFETY: the IO context is ours and valid; the field may be changed between calls.
        unsafe { (*self.io.as_ptr()).direct = is_direct.into() };
    }

    /// Reads bytes of the file without changing the demuxer's position; 0 at the end.
    pub(crate) fn read_at(&mut self, position: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        self.io.read_at(position, buffer)
    }

    /// Reads up to `len` bytes of the file without changing the demuxer's position; fewer at the end. The caller bounds `len`.
    pub(crate) fn read_range(&mut self, position: u64, len: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read_at(position.saturating_add(filled as u64), &mut bytes[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    pub(crate) fn byte_len(&mut self) -> Option<u64> {
        self.io.size()
    }

    /// Returns the size in bytes and what it was when reading began, if the file has become smaller.
    pub(crate) fn shrinkage(&mut self) -> Option<(u64, u64)> {
        self.io.shrinkage()
    }

    /// Returns the long name of the container, for example "QuickTime / MOV".
    pub(crate) fn container_name(&self) -> String {
        // SAFETY: iformat is set in an open context and static, as are its names.
        let name = unsafe {
            let format = self.get().iformat;
            if (*format).long_name.is_null() { (*format).name } else { (*format).long_name }
        };
        text(name).unwrap_or_default()
    }

    /// Returns the container format.
    pub(crate) fn container(&self) -> Container {
        self.container
    }

    /// Returns a metadata entry of the container.
    pub(crate) fn metadata(&self, key: &CStr) -> Option<String> {
        // SAFETY: the dictionary (or null) belongs to the context; the key is terminated.
        let entry = unsafe { ffi::av_dict_get(self.get().metadata, key.as_ptr(), std::ptr::null(), 0).as_ref() }?;
        text(entry.value).filter(|value| !value.trim().is_empty())
    }

    /// Returns the duration in microseconds, where known.
    pub(crate) fn duration_us(&self) -> Option<i64> {
        Some(self.get().duration).filter(|&duration| duration != ffi::AV_NOPTS_VALUE && duration > 0)
    }

    /// Returns the container's first presentation time in microseconds, where known.
    pub(crate) fn start_us(&self) -> Option<i64> {
        Some(self.get().start_time).filter(|&start| start != ffi::AV_NOPTS_VALUE)
    }

    pub(crate) fn streams(&self) -> &[*mut ffi::AVStream] {
        let context = self.get();
        if context.streams.is_null() {
            return &[];
        }
        // SAFETY: an open context holds nb_streams valid stream pointers.
        unsafe { std::slice::from_raw_parts(context.streams, context.nb_streams as usize) }
    }

    /// Selects the video to decode: as in players, the first that is flagged as default, else the first. Videos without a size or a
    /// decoder are used only where there is no better one, cover pictures never.
    pub(crate) fn best_video(&mut self) -> Result<VideoStream, Error> {
        let mut videos: Vec<usize> = (0..self.streams().len()).filter(|&index| self.is_video(index)).collect();
        if videos.is_empty() {
            let (container, found) = (self.container_name(), self.contents());
            return Err(Error::NoVideo { container, found });
        }
        videos.sort_by_key(|&index| (!self.has_size(index), !self.is_default(index), index));
        self.open_video(&videos)
    }

    /// Opens the first of these streams for which there is a decoder.
    fn open_video(&mut self, videos: &[usize]) -> Result<VideoStream, Error> {
        for &index in videos {
            if let Some(codec) = self.decoder_of(index)
                && let Some(stream) = NonNull::new(self.streams()[index])
            {
                return Ok(VideoStream::new(stream, codec));
            }
        }
        if videos.iter().any(|&index| self.is_encrypted(index)) {
            return Err(Error::Encrypted);
        }
        let codec = self.codec_name(videos[0]);
        // SAFETY: no preconditions.
        let version = version_text(unsafe { ffi::avcodec_version() });
        Err(Error::UnknownCodec { codec, version: format!("libavcodec {version}") })
    }

    /// Returns the video stream with this index.
    pub(crate) fn video_at(&mut self, wanted: u32) -> Result<VideoStream, Error> {
        let index = wanted as usize;
        let all = 0..self.streams().len();
        if !all.contains(&index) || !self.has_pictures(index) {
            let videos: Vec<_> = all.filter(|&index| self.has_pictures(index)).map(|index| index.to_string()).collect();
            let videos =
                if videos.is_empty() { "no video stream".into() } else { format!("video in {}", videos.join(", ")) };
            return Err(Error::NoSuchStream { index: wanted, container: self.container_name(), videos });
        }
        self.open_video(&[index])
    }

    /// Returns FFmpeg's decoder for a video stream.
    fn decoder_of(&mut self, index: usize) -> Option<NonNull<ffi::AVCodec>> {
        let mut codec: *const ffi::AVCodec = std::ptr::null();
        let video = ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
        let wanted = c_int::try_from(index).ok()?;
        // SAFETY: the context is open; codec receives a static AVCodec or stays null.
        // The cast covers FFmpeg releases in which the last output parameter is a pointer to a mutable codec.
        let found =
            unsafe { ffi::av_find_best_stream(self.context.as_ptr(), video, wanted, -1, (&raw mut codec).cast(), 0) };
        if found == wanted { NonNull::new(codec.cast_mut()) } else { None }
    }

    /// Discards all streams but `video`, and with `only_keyframes` all its packets but keyframes. Where the video may continue in
    /// another stream, other videos are read too.
    pub(crate) fn select(&mut self, video: &VideoStream, only_keyframes: bool) {
        let may_move = self.container.streams_may_change();
        for (index, &stream) in self.streams().iter().enumerate() {
            let discard = match stream == video.as_ptr() {
                true if only_keyframes => ffi::AVDiscard::AVDISCARD_NONKEY,
                true => ffi::AVDiscard::AVDISCARD_DEFAULT,
                false if may_move && self.is_video(index) => ffi::AVDiscard::AVDISCARD_DEFAULT,
                false => ffi::AVDiscard::AVDISCARD_ALL,
            };
            // SAFETY: a valid stream of the open context, which &mut self owns.
            unsafe { (*stream).discard = discard };
        }
    }

    /// Discards the packets of a stream.
    pub(crate) fn discard_stream(&mut self, index: c_int) {
        let stream = usize::try_from(index).ok().and_then(|index| self.streams().get(index).copied());
        if let Some(stream) = stream {
            // SAFETY: a valid stream of the open context, which &mut self owns.
            unsafe { (*stream).discard = ffi::AVDiscard::AVDISCARD_ALL };
        }
    }

    /// Whether the container itself states how long its streams are; elsewhere FFmpeg estimates from times or bytes.
    pub(crate) fn states_duration(&self) -> bool {
        // SAFETY: an open context; the C enum is read as an integer.
        let method = unsafe { (&raw const (*self.context.as_ptr()).duration_estimation_method).cast::<u32>().read() };
        method == ffi::AVDurationEstimationMethod::AVFMT_DURATION_FROM_STREAM as u32
    }

    /// Whether the file has a single stream.
    pub(crate) fn has_single_stream(&self) -> bool {
        self.streams().len() == 1
    }

    fn media_type(&self, index: usize) -> i32 {
        // SAFETY: a valid stream with codec parameters; the C enum is read as an integer.
        unsafe { (&raw const (*(*self.streams()[index]).codecpar).codec_type).cast::<i32>().read() }
    }

    pub(crate) fn is_video(&self, index: usize) -> bool {
        self.has_pictures(index) && !self.is_cover(index)
    }

    fn has_pictures(&self, index: usize) -> bool {
        self.media_type(index) == ffi::AVMediaType::AVMEDIA_TYPE_VIDEO as i32
    }

    /// Whether the stream is a cover picture, not a video.
    fn is_cover(&self, index: usize) -> bool {
        // SAFETY: a valid stream of the open context.
        unsafe { (*self.streams()[index]).disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0 }
    }

    fn is_default(&self, index: usize) -> bool {
        // SAFETY: a valid stream of the open context.
        unsafe { (*self.streams()[index]).disposition & ffi::AV_DISPOSITION_DEFAULT != 0 }
    }

    /// Whether the size of a video is known, or its packets had parameter sets that state it.
    fn has_size(&self, index: usize) -> bool {
        // SAFETY: a valid stream with codec parameters.
        let (width, set_bytes) = unsafe {
            let parameters = (*self.streams()[index]).codecpar;
            ((*parameters).width, (*parameters).extradata_size)
        };
        width > 0 || set_bytes > 0 && self.states_size_in_sets(index)
    }

    fn is_encrypted(&self, index: usize) -> bool {
        // SAFETY: a valid stream with codec parameters.
        let tag = unsafe { (*(*self.streams()[index]).codecpar).codec_tag };
        tag == u32::from_le_bytes(*b"encv")
    }

    /// Describes all streams, for example "0: video (h264); 1: audio (aac)".
    pub(crate) fn describe_streams(&self) -> String {
        let streams = (0..self.streams().len()).map(|index| {
            let kind = match self.media_type(index) {
                _ if self.is_cover(index) => "cover picture",
                kind if kind == ffi::AVMediaType::AVMEDIA_TYPE_VIDEO as i32 => "video",
                kind if kind == ffi::AVMediaType::AVMEDIA_TYPE_AUDIO as i32 => "audio",
                kind if kind == ffi::AVMediaType::AVMEDIA_TYPE_SUBTITLE as i32 => "subtitles",
                _ => "other",
            };
            let default = if self.is_default(index) { ", default" } else { "" };
            format!("{index}: {kind} ({}{default})", self.codec_name(index))
        });
        streams.take(STREAMS_NAMED).collect::<Vec<_>>().join("; ")
    }

    /// Describes the contents of a container without video, for example "1 audio stream, 1 cover picture".
    fn contents(&self) -> String {
        let mut counts = [("cover picture", 0), ("audio stream", 0), ("subtitle stream", 0), ("other stream", 0)];
        for index in 0..self.streams().len() {
            let kind = match self.media_type(index) {
                _ if self.is_cover(index) => 0,
                kind if kind == ffi::AVMediaType::AVMEDIA_TYPE_AUDIO as i32 => 1,
                kind if kind == ffi::AVMediaType::AVMEDIA_TYPE_SUBTITLE as i32 => 2,
                _ => 3,
            };
            counts[kind].1 += 1;
        }
        let words = counts.iter().filter(|(_, count)| *count > 0);
        let words: Vec<_> = words.map(|(word, n)| format!("{n} {word}{}", if *n == 1 { "" } else { "s" })).collect();
        if words.is_empty() { "no streams".into() } else { words.join(", ") }
    }

    /// Returns FFmpeg's number of a stream's codec, which these bindings may not know.
    fn codec_id(&self, index: usize) -> u32 {
        // SAFETY: a valid stream with codec parameters; the C enum is read as an integer.
        unsafe { (&raw const (*(*self.streams()[index]).codecpar).codec_id).cast::<u32>().read() }
    }

    /// Returns the name of a stream's codec, or its four-character code.
    fn codec_name(&self, index: usize) -> String {
        let id = self.codec_id(index);
        // SAFETY: a valid stream with codec parameters.
        let tag = unsafe { (*(*self.streams()[index]).codecpar).codec_tag };
        // A newer library may name codecs that these bindings do not know, so its own list is searched by number.
        let mut descriptor = std::ptr::null();
        loop {
            // SAFETY: null or the result of the call before, as the function asks.
            descriptor = unsafe { ffi::avcodec_descriptor_next(descriptor) };
            if descriptor.is_null() {
                let tag: String = tag.to_le_bytes().iter().map(|&b| b.escape_ascii().to_string()).collect();
                return format!("this codec (tag \"{tag}\")");
            }
            // SAFETY: a valid static descriptor; the C enum is read as an integer.
            let this = unsafe { (&raw const (*descriptor).id).cast::<u32>().read() };
            if this == id && id != 0 {
                // SAFETY: as above; names are static terminated strings, long_name may be null.
                let (long, short) = unsafe { ((*descriptor).long_name, (*descriptor).name) };
                return text(long).or_else(|| text(short)).unwrap_or_default();
            }
        }
    }

    /// Reads the next packet of any stream; false at the end.
    pub(crate) fn read(&mut self, packet: &mut Packet) -> Result<bool, Error> {
        packet.clear();
        // SAFETY: the context is open and the packet is empty and ours.
        let result = unsafe { ffi::av_read_frame(self.context.as_ptr(), packet.as_mut_ptr()) };
        if result >= 0 {
            // Read-ahead may have been interrupted nevertheless: the interrupter learns of that by other means.
            self.io.forget_interruption();
            return Ok(true);
        }
        self.check_source()?;
        if result == ffi::AVERROR_EOF { Ok(false) } else { Err(Error::call("av_read_frame", result)) }
    }

    /// Seeks to the keyframe at or before `timestamp` (in the stream's time base), or where there is none to the one after it.
    pub(crate) fn seek(&mut self, video: &VideoStream, timestamp: i64) -> Result<(), Error> {
        let context = self.context.as_ptr();
        let flags = ffi::AVSEEK_FLAG_BACKWARD;
        // An interrupted read leaves an error in the IO context, which would end the next one.
        self.io.forget_interruption();
        self.io.reset_read_budget();
        // SAFETY: the IO context is ours and valid.
        unsafe {
            (*self.io.as_ptr()).error = 0;
            (*self.io.as_ptr()).eof_reached = 0;
        }
        // SAFETY: the context is open.
        let mut result = unsafe { ffi::av_seek_frame(context, video.index(), timestamp, flags) };
        if result < 0 && self.io.take_error().is_none() {
            // SAFETY: the context is open.
            result = unsafe { ffi::av_seek_frame(context, video.index(), timestamp, 0) };
        }
        self.check_source()?;
        if result < 0 { Err(Error::call("av_seek_frame", result)) } else { Ok(()) }
    }

    /// Returns the pixel aspect ratio that players use: the container's before the codec's; 1/1 where neither states one.
    pub(crate) fn sample_aspect_ratio(&self, video: &VideoStream, frame: &super::Frame) -> (i32, i32) {
        let (context, stream) = (self.context.as_ptr(), video.as_ptr());
        // SAFETY: all three are valid; the call only reads them.
        let ratio = unsafe { ffi::av_guess_sample_aspect_ratio(context, stream, frame.as_ptr().cast_mut()) };
        if ratio.num > 0 && ratio.den > 0 { (ratio.num, ratio.den) } else { (1, 1) }
    }

    /// Returns the frame rate of the whole stream (not of its keyframes) as a fraction, where known.
    pub(crate) fn frame_rate(&self, video: &VideoStream) -> Option<(i32, i32)> {
        let (context, stream) = (self.context.as_ptr(), video.as_ptr());
        // SAFETY: both are valid; a null frame is allowed.
        let guessed = unsafe { ffi::av_guess_frame_rate(context, stream, std::ptr::null_mut()) };
        (guessed.num > 0 && guessed.den > 0).then_some((guessed.num, guessed.den))
    }
}

/// Copies a C string, bounded, with invalid UTF-8 replaced; `None` for null.
pub(crate) fn text(string: *const c_char) -> Option<String> {
    if string.is_null() {
        return None;
    }
    // SAFETY: FFmpeg's strings are terminated, and live while they are copied here.
    let bytes = unsafe { CStr::from_ptr(string) }.to_bytes();
    Some(String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_LIMIT)]).into_owned())
}

/// Converts a key for [`Input::metadata`].
pub(crate) fn metadata_key(key: &str) -> CString {
    CString::new(key).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::av::input::test_files::{element, file_of, matroska, opened, track};

    #[test]
    fn a_file_with_too_many_streams_is_refused() {
        let file = |streams: u16| {
            let tracks: Vec<u8> = (1..=streams).flat_map(|number| track(number, 1, "V_MPEG4/ISO/AVC")).collect();
            opened(file_of(&matroska(&tracks, &[])))
        };
        let limit = u16::try_from(STREAMS_LIMIT).unwrap();
        assert_eq!(file(limit).map(|input| input.streams().len()).unwrap(), usize::from(limit));
        let refused = file(limit + 1).err();
        assert!(matches!(refused, Some(Error::NotMedia { .. })), "{refused:?}");
    }

    #[test]
    fn probing_ends_after_some_megabytes() {
        const BLOCK: usize = 1 << 20;
        // The picture size of VP9 is in its frames, and there are none.
        let tracks = [track(1, 1, "V_VP9"), track(2, 2, "A_PCM/INT/LIT")].concat();
        let block = element(0xA3, &[&[0x82, 0, 0, 0x80][..], &vec![0; BLOCK]].concat());
        let file = matroska(&tracks, &block.repeat(12));
        let input = opened(file_of(&file)).unwrap();
        assert_eq!(input.streams().len(), 2);
        let read = input.bytes_read();
        assert!(read >= PROBE_BYTES as u64 && read < PROBE_BYTES as u64 + 3 * BLOCK as u64, "{read} bytes");
    }
}
