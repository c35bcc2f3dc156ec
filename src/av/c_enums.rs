// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions of FFmpeg that return or take C enums of which a newer library may have more values than the bindings.
//!
//! A Rust enum must not have a value that it does not name. So these functions are declared here once more, with integers: a C enum is
//! an int in every ABI that FFmpeg supports.

use std::ffi::{c_char, c_int, c_uint};
use std::ptr::NonNull;

use ffmpeg_sys_next as ffi;

unsafe extern "C" {
    /// Returns the pixel format of this name, an AVPixelFormat.
    pub(super) fn av_get_pix_fmt(name: *const c_char) -> c_int;
    /// Returns the name of a codec, given its AVCodecID.
    pub(super) fn avcodec_get_name(id: c_uint) -> *const c_char;
    /// Returns the description of a codec, given its AVCodecID; null for an unknown one.
    pub(super) fn avcodec_descriptor_get(id: c_uint) -> *const ffi::AVCodecDescriptor;
    /// Returns the kind of device with this name, an AVHWDeviceType.
    pub(super) fn av_hwdevice_find_type_by_name(name: *const c_char) -> c_int;
    /// Returns the kind of device after `previous`, both AVHWDeviceType.
    pub(super) fn av_hwdevice_iterate_types(previous: c_int) -> c_int;
    /// Opens a device of an AVHWDeviceType.
    pub(super) fn av_hwdevice_ctx_create(
        context: *mut *mut ffi::AVBufferRef,
        kind: c_int,
        device: *const c_char,
        options: *mut ffi::AVDictionary,
        flags: c_int,
    ) -> c_int;
}

/// Returns a codec's AVCodecID.
///
/// # Safety
/// `codec` is valid.
pub(super) unsafe fn id_of(codec: NonNull<ffi::AVCodec>) -> c_uint {
    // SAFETY: the caller's guarantee; the C enum is read as the integer it is.
    unsafe { (&raw const (*codec.as_ptr()).id).cast::<c_uint>().read() }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn integers_are_the_values_of_the_bindings() {
        // SAFETY: terminated strings; any integer is allowed.
        unsafe {
            assert_eq!(av_get_pix_fmt(c"nv12".as_ptr()), ffi::AVPixelFormat::AV_PIX_FMT_NV12 as c_int);
            assert_eq!(av_get_pix_fmt(c"nonsense".as_ptr()), ffi::AVPixelFormat::AV_PIX_FMT_NONE as c_int);
            let hevc = ffi::AVCodecID::AV_CODEC_ID_HEVC;
            assert_eq!(CStr::from_ptr(avcodec_get_name(hevc as c_uint)), c"hevc");
            assert!(!avcodec_descriptor_get(hevc as c_uint).is_null() && avcodec_descriptor_get(c_uint::MAX).is_null());
            assert_eq!(id_of(NonNull::new(ffi::avcodec_find_decoder(hevc).cast_mut()).unwrap()), hevc as c_uint);
            let cuda = ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA as c_int;
            assert_eq!(av_hwdevice_find_type_by_name(c"cuda".as_ptr()), cuda);
        }
    }
}
