//! Probing: what FFmpeg finds out of the streams before a file counts as opened, and what it need not find out.

use std::ffi::{CString, c_int};

use ffmpeg_sys_next as ffi;

use crate::av::input::Input;

impl Input {
    /// Finds out what the container does not say, with decoders that refuse pictures of more than `max_pixels`.
    ///
    /// Where the container tells size and frame rate, nothing but the pixel format is left to find out, for which FFmpeg would
    /// decode a frame (of H.264 up to seven, to learn their delay): as much as a keyframe costs, and under the opening lock.
    /// What keyframes are made of is seen when they are decoded; so the probe is told that it knows.
    pub(crate) fn probe(&mut self, max_pixels: u64) -> c_int {
        let mut options = vec![std::ptr::null_mut::<ffi::AVDictionary>(); self.streams().len()];
        let mut presumed = Vec::new();
        if self.container_names().contains("mp4") || self.container_names().contains("matroska") {
            // No need to read a score of frames to estimate the frame rate.
            // SAFETY: the context is ours; a plain setting of the probe that follows.
            unsafe { (*self.context.as_ptr()).fps_probe_size = 0 };
            presumed =
                (0..options.len()).filter(|&index| self.is_video(index) && self.lacks_only_format(index)).collect();
        }
        let limit = CString::new(max_pixels.to_string()).unwrap_or_default();
        for (index, entry) in options.iter_mut().enumerate() {
            // What is not decoded need not be refused here, where FFmpeg would forget its size.
            let (key, value) = match presumed.contains(&index) {
                true => (c"skip_frame", c"all"),
                false => (c"max_pixels", limit.as_c_str()),
            };
            // SAFETY: a null dictionary is made anew; both strings are terminated and copied.
            unsafe { ffi::av_dict_set(entry, key.as_ptr(), value.as_ptr(), 0) };
        }
        for &index in &presumed {
            self.set_format(index, ffi::AVPixelFormat::AV_PIX_FMT_YUV420P as c_int);
        }
        // Without streams so far there is nothing to point to.
        let list = if options.is_empty() { std::ptr::null_mut() } else { options.as_mut_ptr() };
        // SAFETY: the context is open; the list has a dictionary for each of its streams.
        let result = unsafe { ffi::avformat_find_stream_info(self.context.as_ptr(), list) };
        for entry in &mut options {
            // SAFETY: ours, or what the call left in its place.
            unsafe { ffi::av_dict_free(entry) };
        }
        for index in presumed {
            self.set_format(index, ffi::AVPixelFormat::AV_PIX_FMT_NONE as c_int);
        }
        result
    }

    /// Whether the container tells a video's size, but not its pixel format.
    fn lacks_only_format(&self, index: usize) -> bool {
        // SAFETY: a valid stream with codec parameters.
        let parameters = unsafe { &*(*self.streams()[index]).codecpar };
        parameters.width > 0 && parameters.height > 0 && parameters.format < 0
    }

    fn set_format(&mut self, index: usize, format: c_int) {
        // SAFETY: a valid stream with codec parameters of the context that &mut self owns.
        unsafe { (*(*self.streams()[index]).codecpar).format = format };
    }
}
