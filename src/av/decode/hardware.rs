// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decoding on a GPU or another device through FFmpeg's hwdevice contexts.
//!
//! One device context serves the whole process. A decoder with a device offers pictures in the device's own format; the
//! choice is made in [`Assignment::choose_format`], which libavcodec calls when it knows the stream, and again without
//! that format when the device has refused it. Pictures are downloaded to memory as NV12 or P010 (or another format of the
//! device, for other samplings).
//!
//! Thread rule: any thread.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use ffmpeg_sys_next as ffi;
use parking_lot::Mutex;

use crate::av::c_enums;
use crate::av::decode::options::Hardware;
use crate::av::error::{Error, message};
use crate::av::frame::Frame;
use crate::av::frame::pixel_format::PixelFormat;
use crate::av::frame::pool::PictureMemory;

/// Kinds of devices that [`Hardware::Auto`] tries, in this order: those whose decoders are FFmpeg's own, so that the processor
/// can take over in the middle of a stream.
const AUTOMATIC: &[&str] = if cfg!(target_vendor = "apple") {
    &["videotoolbox"]
} else if cfg!(windows) {
    &["cuda", "d3d11va"]
} else {
    &["cuda", "vaapi"]
};

/// A decoder of libavcodec and the device format that it offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceDecoder {
    codec: NonNull<ffi::AVCodec>,
    format: PixelFormat,
}

// SAFETY: AVCodec is static and never written.
unsafe impl Send for DeviceDecoder {}
// SAFETY: as above.
unsafe impl Sync for DeviceDecoder {}

impl DeviceDecoder {
    /// `codec` is one of libavcodec's static descriptions.
    pub(crate) fn new(codec: NonNull<ffi::AVCodec>, format: PixelFormat) -> Self {
        Self { codec, format }
    }
}

/// An opened device. Tests implement it without hardware.
pub(crate) trait Device: Send + Sync {
    /// Returns the name by which users know it.
    fn name(&self) -> &str;

    /// Returns the decoder for the codec that `native` decodes; `None` if the device has none.
    fn decoder_for(&self, native: NonNull<ffi::AVCodec>) -> Option<DeviceDecoder>;

    /// Makes a decoder context use the device.
    ///
    /// # Safety
    /// `context` is valid and not opened yet.
    unsafe fn attach(&self, context: *mut ffi::AVCodecContext) -> Result<(), Error>;

    /// Copies a picture from the device into memory.
    fn download(&self, frame: &Frame, memory: &PictureMemory) -> Result<Frame, Error>;
}

/// Opens a device by kind and device, as in [`Hardware::Named`]; fails with a reason in words.
pub(crate) type Opener<'a> = &'a dyn Fn(&str, Option<&str>) -> Result<Arc<dyn Device>, String>;

/// A decoder's device, and whether the processor may take over when it cannot decode.
#[derive(Clone)]
pub(crate) struct Assignment {
    device: Arc<dyn Device>,
    decoder: DeviceDecoder,
    may_fall_back: bool,
    /// Whether the device has refused the stream.
    has_refused: Arc<AtomicBool>,
}

/// The decision for a file.
pub(crate) struct Choice {
    /// The device that decodes; `None` for the processor.
    pub(crate) device: Option<Assignment>,
    /// Why it is the processor, where a device was requested.
    pub(crate) reason: Option<String>,
}

/// The reason when a device that has a decoder for the codec does not decode.
pub(crate) const REFUSED: &str = "the device cannot decode this profile, pixel format or size";

/// Decides what decodes the codec of `native`, FFmpeg's own decoder for it.
pub(crate) fn choose(wanted: &Hardware, native: NonNull<ffi::AVCodec>, open: Opener<'_>) -> Result<Choice, Error> {
    let (kinds, device, may_fall_back): (Vec<&str>, _, _) = match wanted {
        Hardware::None => return Ok(Choice { device: None, reason: None }),
        Hardware::Auto => (AUTOMATIC.to_vec(), None, true),
        Hardware::Named { kind, device } => (vec![kind], device.as_deref(), false),
    };
    // SAFETY: a static AVCodec; the names of codecs are static, terminated strings.
    let codec = unsafe { CStr::from_ptr(c_enums::avcodec_get_name(c_enums::id_of(native))) }.to_string_lossy();
    let mut reasons = Vec::new();
    for kind in kinds {
        let reason = match open(kind, device) {
            Ok(device) => match device.decoder_for(native) {
                // With a separate decoder for the device, the processor cannot take over.
                Some(decoder) if !may_fall_back || decoder.codec == native => {
                    let has_refused = Arc::default();
                    let device = Some(Assignment { device, decoder, may_fall_back, has_refused });
                    return Ok(Choice { device, reason: None });
                }
                _ => format!("FFmpeg has no {codec} decoder for it"),
            },
            Err(reason) => reason,
        };
        if !may_fall_back {
            return Err(Error::Hardware { kind: kind.to_owned(), reason });
        }
        reasons.push(format!("{kind}: {reason}"));
    }
    Ok(Choice { device: None, reason: Some(reasons.join("; ")) })
}

impl Assignment {
    pub(crate) fn name(&self) -> &str {
        self.device.name()
    }

    pub(crate) fn codec(&self) -> NonNull<ffi::AVCodec> {
        self.decoder.codec
    }

    /// Whether the device has refused the stream.
    pub(super) fn has_refused(&self) -> bool {
        self.has_refused.load(Ordering::Relaxed)
    }

    /// Returns the error of a decoder that produced no picture because its device refused the stream.
    pub(super) fn refusal_error(&self) -> Option<Error> {
        (self.has_refused() && !self.may_fall_back)
            .then(|| Error::Hardware { kind: self.name().to_owned(), reason: REFUSED.into() })
    }

    /// # Safety
    /// As [`Device::attach`].
    pub(super) unsafe fn attach(&self, context: *mut ffi::AVCodecContext) -> Result<(), Error> {
        // SAFETY: the caller's guarantee.
        unsafe { self.device.attach(context) }
    }

    /// Returns the picture in memory: itself if the processor decoded it.
    pub(crate) fn fetch(&self, frame: Frame, memory: &PictureMemory) -> Result<Frame, Error> {
        if frame.pixel_format().ok() == Some(self.decoder.format) {
            self.device.download(&frame, memory)
        } else {
            Ok(frame)
        }
    }

    /// Chooses one of the formats that libavcodec offers; `None` for none of them.
    pub(super) fn choose_format(&self, offered: &[c_int]) -> Option<PixelFormat> {
        if offered.contains(&(self.decoder.format.raw() as c_int)) {
            return Some(self.decoder.format);
        }
        self.has_refused.store(true, Ordering::Relaxed);
        if self.may_fall_back { software_format(offered) } else { None }
    }
}

/// Returns the first format in plain memory.
fn software_format(offered: &[c_int]) -> Option<PixelFormat> {
    offered.iter().filter_map(|&raw| PixelFormat::from_raw(raw)).find(|format| !format.is_on_device())
}

/// An FFmpeg device.
struct HwDevice {
    name: String,
    /// An AVHWDeviceType.
    kind: c_int,
    /// An AVHWDeviceContext.
    context: NonNull<ffi::AVBufferRef>,
}

// SAFETY: AVHWDeviceContext is reference-counted with atomics and made to be shared by decoders on several threads.
unsafe impl Send for HwDevice {}
// SAFETY: as above.
unsafe impl Sync for HwDevice {}

impl Drop for HwDevice {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: our own reference, not used afterwards.
        unsafe { ffi::av_buffer_unref(&raw mut context) };
    }
}

/// The AVHWDeviceType for none.
const NO_DEVICE: c_int = ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE as c_int;

/// ENOTSUP of Linux, which FFmpeg returns for a primary context with other flags than its own.
const NOT_SUPPORTED: c_int = 95;

/// Creates an AVHWDeviceContext, or returns FFmpeg's error code. `is_primary` uses the context that CUDA keeps for the process,
/// which inference uses as well, so that there is no second one on the device.
fn create_context(kind: c_int, device: Option<&CStr>, is_primary: bool) -> Result<NonNull<ffi::AVBufferRef>, c_int> {
    let mut options = std::ptr::null_mut();
    if is_primary {
        // SAFETY: a null dictionary is created; the strings are copied.
        unsafe { ffi::av_dict_set(&raw mut options, c"primary_ctx".as_ptr(), c"1".as_ptr(), 0) };
    }
    let device = device.map_or(std::ptr::null(), CStr::as_ptr);
    let mut context = std::ptr::null_mut();
    // SAFETY: the kind is one of FFmpeg's, the string is terminated or null, context receives a new reference.
    let result = unsafe { c_enums::av_hwdevice_ctx_create(&raw mut context, kind, device, options, 0) };
    // SAFETY: the dictionary is ours; null is allowed.
    unsafe { ffi::av_dict_free(&raw mut options) };
    if result < 0 { Err(result) } else { NonNull::new(context).ok_or(ffi::AVERROR(ffi::ENOMEM)) }
}

impl HwDevice {
    fn open(kind: &str, device: Option<&str>) -> Result<Self, String> {
        let c_kind = CString::new(kind).unwrap_or_default();
        // SAFETY: a terminated string.
        let found = unsafe { c_enums::av_hwdevice_find_type_by_name(c_kind.as_ptr()) };
        if found == NO_DEVICE {
            return Err("this FFmpeg does not have this kind of device".into());
        }
        if !is_built_in(found) {
            return Err(format!("this FFmpeg was built without {kind}"));
        }
        let c_device = device.and_then(|device| CString::new(device).ok());
        let is_cuda = found == ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA as c_int;
        let opened = create_context(found, c_device.as_deref(), is_cuda);
        // FFmpeg refuses a primary context that another library in the process has created with other flags. A second context on the
        // device uses memory there, and works.
        let opened = match opened {
            Err(code) if is_cuda && code == ffi::AVERROR(NOT_SUPPORTED) => {
                create_context(found, c_device.as_deref(), false)
            }
            opened => opened,
        };
        let context = opened.map_err(|code| {
            let which = device.map_or_else(String::new, |device| format!(" {device}"));
            format!("the {kind} device{which} cannot be opened ({})", message(code))
        })?;
        let name = device.map_or_else(|| kind.to_owned(), |device| format!("{kind} {device}"));
        Ok(Self { name, kind: found, context })
    }

    /// Returns the device format of `codec`, if it can use this kind of device.
    fn format_of(&self, codec: NonNull<ffi::AVCodec>) -> Option<PixelFormat> {
        for index in 0.. {
            // SAFETY: a static AVCodec; the result is null past the last entry, else a static description.
            let config =
                NonNull::new(unsafe { ffi::avcodec_get_hw_config(codec.as_ptr(), index) }.cast_mut())?.as_ptr();
            let by_device = ffi::AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX as c_int;
            // The enums are read as integers: a newer library may use values that these bindings do not have.
            // SAFETY: config is valid; all three fields are C ints.
            let (methods, kind, format) = unsafe {
                let kind = (&raw const (*config).device_type).cast::<c_int>().read();
                ((*config).methods, kind, (&raw const (*config).pix_fmt).cast::<c_int>().read())
            };
            if methods & by_device != 0 && kind == self.kind {
                return PixelFormat::from_raw(format);
            }
        }
        None
    }
}

impl Device for HwDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn decoder_for(&self, native: NonNull<ffi::AVCodec>) -> Option<DeviceDecoder> {
        if let Some(format) = self.format_of(native) {
            return Some(DeviceDecoder::new(native, format));
        }
        // Separate decoders (h264_qsv, h264_mediacodec).
        // SAFETY: a static AVCodec.
        let id = unsafe { c_enums::id_of(native) };
        let mut state: *mut c_void = std::ptr::null_mut();
        loop {
            // SAFETY: state is null at first and then what the function left in it; the result is static or null.
            let codec = NonNull::new(unsafe { ffi::av_codec_iterate(&raw mut state) }.cast_mut())?;
            // SAFETY: a static AVCodec.
            let is_decoder = unsafe { ffi::av_codec_is_decoder(codec.as_ptr()) != 0 && c_enums::id_of(codec) == id };
            if is_decoder && let Some(format) = self.format_of(codec) {
                return Some(DeviceDecoder::new(codec, format));
            }
        }
    }

    unsafe fn attach(&self, context: *mut ffi::AVCodecContext) -> Result<(), Error> {
        // SAFETY: our own reference is valid.
        let reference = unsafe { ffi::av_buffer_ref(self.context.as_ptr()) };
        if reference.is_null() {
            return Err(Error::memory("av_buffer_ref"));
        }
        // SAFETY: the caller's guarantee; the context owns the new reference from here on.
        unsafe { (*context).hw_device_ctx = reference };
        Ok(())
    }

    fn download(&self, frame: &Frame, memory: &PictureMemory) -> Result<Frame, Error> {
        frame.download(memory)
    }
}

/// Whether libavutil was built with support for a kind of device.
fn is_built_in(kind: c_int) -> bool {
    let mut at = NO_DEVICE;
    loop {
        // SAFETY: starts with none and continues with what the function returned.
        at = unsafe { c_enums::av_hwdevice_iterate_types(at) };
        if at == NO_DEVICE || at == kind {
            return at != NO_DEVICE;
        }
    }
}

/// Result of opening a device.
type Opened = Result<Arc<dyn Device>, String>;

/// Devices by kind and name, each opened by the first that requests it.
type Devices = HashMap<(String, Option<String>), Arc<OnceLock<Opened>>>;

/// Opens a device, or returns the one that the process has already.
pub(crate) fn open_shared(kind: &str, device: Option<&str>) -> Opened {
    shared(kind, device, || {
        if device.is_none() {
            check_device_nodes(kind)?;
        }
        HwDevice::open(kind, device).map(|device| Arc::new(device) as Arc<dyn Device>)
    })
}

/// Returns what `open` returned when it was first called for this device. Failures are cached as well: they take long, and
/// FFmpeg reports each on standard error. Opening takes seconds for some devices, so only requests for the same one wait for it.
fn shared(kind: &str, device: Option<&str>, open: impl FnOnce() -> Opened) -> Opened {
    static DEVICES: Mutex<Option<Devices>> = Mutex::new(None);
    let key = (kind.to_owned(), device.map(str::to_owned));
    let opened = Arc::clone(DEVICES.lock().get_or_insert_default().entry(key).or_default());
    opened.get_or_init(open).clone()
}

/// Fails where the device nodes show that there is no such device, so that FFmpeg, which prints what it misses, need not be
/// called.
fn check_device_nodes(kind: &str) -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let (places, driver): (&[&str], _) = match kind {
        "cuda" => {
            (&["/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu"], "an NVIDIA driver")
        }
        "vaapi" | "qsv" | "drm" => (&["/dev/dri"], "a graphics driver (/dev/dri)"),
        _ => return Ok(()),
    };
    if places.iter().any(|place| Path::new(place).exists()) {
        return Ok(());
    }
    Err(format!("this system has no such device: {driver} is missing"))
}

#[cfg(test)]
#[path = "hardware_tests.rs"]
mod tests;
