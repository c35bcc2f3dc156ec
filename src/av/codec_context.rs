// SPDX-License-Identifier: MIT OR Apache-2.0
//! An AVCodecContext that is freed when it is dropped.

use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

use crate::av::error::Error;

/// An AVCodecContext. Whatever it points to (`opaque`, say) is the owner's: it has to be Send, and to outlive the context.
pub(crate) struct CodecContext(NonNull<ffi::AVCodecContext>);

// SAFETY: the context is owned by this value alone and FFmpeg does not tie it to a thread.
unsafe impl Send for CodecContext {}

impl CodecContext {
    /// Allocates a context for `codec`, which is one of libavcodec's static descriptions.
    pub(crate) fn new(codec: NonNull<ffi::AVCodec>) -> Result<Self, Error> {
        // SAFETY: codec is a static AVCodec; null is handled.
        let context = unsafe { ffi::avcodec_alloc_context3(codec.as_ptr()) };
        NonNull::new(context).map(Self).ok_or_else(|| Error::memory("avcodec_alloc_context3"))
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::AVCodecContext {
        self.0.as_ptr()
    }
}

impl Drop for CodecContext {
    fn drop(&mut self) {
        let mut context = self.0.as_ptr();
        // SAFETY: from avcodec_alloc_context3 and not used afterwards.
        unsafe { ffi::avcodec_free_context(&raw mut context) };
    }
}
