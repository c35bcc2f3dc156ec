//! Decoding on a GPU or another device through FFmpeg's hwdevice contexts.
//!
//! One device context serves the whole process. A decoder that has one offers pictures in the device's own format; the
//! choice is made in [`Assignment::choose_format`], which libavcodec calls when it knows the stream, and again without
//! that format when the device has refused it. Pictures are brought back into memory as NV12 or P010 (or what else the
//! device has, for other samplings).
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

use crate::av::error::{Error, message};
use crate::av::frame::Frame;
use crate::av::frame::pixel_format::PixelFormat;
use crate::av::frame::pool::PictureMemory;

/// What decodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Hardware {
    /// The processor.
    #[default]
    None,
    /// A device if there is one for the file's codec, else the processor.
    Auto,
    /// This kind of device and nothing else.
    Named {
        /// FFmpeg's name of the kind, for example "cuda" or "vaapi".
        kind: String,
        /// Which of several, as FFmpeg names them: an index for cuda, a path for vaapi. `None` for the first.
        device: Option<String>,
    },
}

/// Kinds of devices that [`Hardware::Auto`] tries, in this order: those whose decoders are FFmpeg's own, so that what the
/// device cannot do is decoded by the processor in the midst of a stream.
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

/// An opened device. The seam at which tests put one that needs no hardware.
pub(crate) trait Device: Send + Sync {
    /// How users name it.
    fn name(&self) -> &str;

    /// The decoder for the codec that `native` decodes; `None` if the device has none.
    fn decoder_for(&self, native: NonNull<ffi::AVCodec>) -> Option<DeviceDecoder>;

    /// Makes a decoder context use the device.
    ///
    /// # Safety
    /// `context` is valid and not opened yet.
    unsafe fn attach(&self, context: *mut ffi::AVCodecContext) -> Result<(), Error>;

    /// A copy in memory of a picture on the device.
    fn download(&self, frame: &Frame, memory: &PictureMemory) -> Result<Frame, Error>;
}

/// How devices are opened: kind and device, as in [`Hardware::Named`]; fails with a reason in words.
pub(crate) type Opener<'a> = &'a dyn Fn(&str, Option<&str>) -> Result<Arc<dyn Device>, String>;

/// A decoder's device, and what is to happen when it cannot do the job.
#[derive(Clone)]
pub(crate) struct Assignment {
    device: Arc<dyn Device>,
    decoder: DeviceDecoder,
    may_fall_back: bool,
    /// The device was offered the stream and refused it.
    has_refused: Arc<AtomicBool>,
}

/// What was decided for a file.
pub(crate) struct Choice {
    /// The device that decodes; `None` for the processor.
    pub(crate) device: Option<Assignment>,
    /// Why it is the processor, where a device was asked for.
    pub(crate) reason: Option<String>,
}

/// Why a device that has a decoder for the codec does not decode.
pub(crate) const REFUSED: &str = "the device cannot decode this profile, pixel format or size";

/// Decides who decodes the codec of `native`, FFmpeg's own decoder for it.
pub(crate) fn choose(wanted: &Hardware, native: NonNull<ffi::AVCodec>, open: Opener<'_>) -> Result<Choice, Error> {
    let (kinds, device, may_fall_back): (Vec<&str>, _, _) = match wanted {
        Hardware::None => return Ok(Choice { device: None, reason: None }),
        Hardware::Auto => (AUTOMATIC.to_vec(), None, true),
        Hardware::Named { kind, device } => (vec![kind], device.as_deref(), false),
    };
    // SAFETY: an AVCodec and the names of codecs are static, terminated strings.
    let codec = unsafe { CStr::from_ptr(ffi::avcodec_get_name((*native.as_ptr()).id)) }.to_string_lossy();
    let mut reasons = Vec::new();
    for kind in kinds {
        let reason = match open(kind, device) {
            Ok(device) => match device.decoder_for(native) {
                // A decoder of its own cannot hand over to the processor.
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

    pub(crate) fn codec(&self) -> *const ffi::AVCodec {
        self.decoder.codec.as_ptr()
    }

    /// Whether the processor took over, or should have.
    pub(super) fn has_refused(&self) -> bool {
        self.has_refused.load(Ordering::Relaxed)
    }

    /// The error of a decoder that has got no picture because its device refused the stream.
    pub(super) fn refusal(&self) -> Option<Error> {
        (self.has_refused() && !self.may_fall_back)
            .then(|| Error::Hardware { kind: self.name().to_owned(), reason: REFUSED.into() })
    }

    /// # Safety
    /// As [`Device::attach`].
    pub(super) unsafe fn attach(&self, context: *mut ffi::AVCodecContext) -> Result<(), Error> {
        // SAFETY: the caller's promise.
        unsafe { self.device.attach(context) }
    }

    /// The picture in memory: itself if the processor decoded it.
    pub(crate) fn fetch(&self, frame: Frame, memory: &PictureMemory) -> Result<Frame, Error> {
        if frame.pixel_format().ok() == Some(self.decoder.format) {
            self.device.download(&frame, memory)
        } else {
            Ok(frame)
        }
    }

    /// Which of the formats that libavcodec offers it is to use; `None` for none of them.
    pub(super) fn choose_format(&self, offered: &[c_int]) -> Option<PixelFormat> {
        if offered.contains(&(self.decoder.format.raw() as c_int)) {
            return Some(self.decoder.format);
        }
        self.has_refused.store(true, Ordering::Relaxed);
        if self.may_fall_back { software_format(offered) } else { None }
    }
}

/// The first format that lies in plain memory.
fn software_format(offered: &[c_int]) -> Option<PixelFormat> {
    offered.iter().filter_map(|&raw| PixelFormat::from_raw(raw)).find(|format| !format.is_on_device())
}

/// A device of FFmpeg.
struct HwDevice {
    name: String,
    kind: ffi::AVHWDeviceType,
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

/// ENOTSUP of Linux, which FFmpeg gives for a primary context with other flags than its own.
const NOT_SUPPORTED: c_int = 95;

/// A new AVHWDeviceContext, or FFmpeg's error code. With `is_primary` it uses the context that CUDA keeps for the process, which
/// inference uses as well: no second one on the device.
fn create_context(
    kind: ffi::AVHWDeviceType,
    device: Option<&CStr>,
    is_primary: bool,
) -> Result<NonNull<ffi::AVBufferRef>, c_int> {
    let mut options = std::ptr::null_mut();
    if is_primary {
        // SAFETY: a null dictionary is created; the strings are copied.
        unsafe { ffi::av_dict_set(&raw mut options, c"primary_ctx".as_ptr(), c"1".as_ptr(), 0) };
    }
    let device = device.map_or(std::ptr::null(), CStr::as_ptr);
    let mut context = std::ptr::null_mut();
    // SAFETY: the kind is one of FFmpeg's, the string is terminated or null, context receives a new reference.
    let result = unsafe { ffi::av_hwdevice_ctx_create(&raw mut context, kind, device, options, 0) };
    // SAFETY: the dictionary is ours; null is allowed.
    unsafe { ffi::av_dict_free(&raw mut options) };
    if result < 0 { Err(result) } else { NonNull::new(context).ok_or(ffi::AVERROR(ffi::ENOMEM)) }
}

impl HwDevice {
    fn open(kind: &str, device: Option<&str>) -> Result<Self, String> {
        let c_kind = CString::new(kind).unwrap_or_default();
        // SAFETY: a terminated string.
        let found = unsafe { ffi::av_hwdevice_find_type_by_name(c_kind.as_ptr()) };
        if found == ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE {
            return Err("this FFmpeg knows no such kind of device".into());
        }
        if !is_built_in(found) {
            return Err(format!("this FFmpeg was built without {kind}"));
        }
        let c_device = device.and_then(|device| CString::new(device).ok());
        let is_cuda = found == ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA;
        let opened = create_context(found, c_device.as_deref(), is_cuda);
        // FFmpeg refuses a primary context that somebody else in the process has made with other flags than FFmpeg's. A second
        // context on the device takes memory there, and works.
        let opened = match opened {
            Err(code) if is_cuda && code == ffi::AVERROR(NOT_SUPPORTED) => {
                create_context(found, c_device.as_deref(), false)
            }
            opened => opened,
        };
        let context = opened.map_err(|code| {
            let which = device.map_or_else(String::new, |device| format!(" {device}"));
            format!("no {kind} device{which} can be opened ({})", message(code))
        })?;
        let name = device.map_or_else(|| kind.to_owned(), |device| format!("{kind} {device}"));
        Ok(Self { name, kind: found, context })
    }

    /// The device format of `codec`, if it can use this kind of device.
    fn format_of(&self, codec: NonNull<ffi::AVCodec>) -> Option<PixelFormat> {
        for index in 0.. {
            // SAFETY: a static AVCodec; the result is null past the last entry, else a static description.
            let config = unsafe { ffi::avcodec_get_hw_config(codec.as_ptr(), index).as_ref() }?;
            let by_device = ffi::AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX as c_int;
            // The enums are read as integers: a newer library may use values that these bindings do not know.
            // SAFETY: config is valid; both fields are C ints.
            let (kind, format) = unsafe {
                let kind = (&raw const config.device_type).cast::<c_int>().read();
                (kind, (&raw const config.pix_fmt).cast::<c_int>().read())
            };
            if config.methods & by_device != 0 && kind == self.kind as c_int {
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
            return Some(DeviceDecoder { codec: native, format });
        }
        // Decoders of their own (h264_qsv, h264_mediacodec).
        // SAFETY: a static AVCodec; AVCodecID is read as the integer it is.
        let id = unsafe { (&raw const (*native.as_ptr()).id).cast::<u32>().read() };
        let mut state: *mut c_void = std::ptr::null_mut();
        loop {
            // SAFETY: state is null at first and then what the function left in it; the result is static or null.
            let codec = NonNull::new(unsafe { ffi::av_codec_iterate(&raw mut state) }.cast_mut())?;
            // SAFETY: a static AVCodec, its id read as an integer.
            let is_decoder = unsafe {
                ffi::av_codec_is_decoder(codec.as_ptr()) != 0
                    && (&raw const (*codec.as_ptr()).id).cast::<u32>().read() == id
            };
            if is_decoder && let Some(format) = self.format_of(codec) {
                return Some(DeviceDecoder { codec, format });
            }
        }
    }

    unsafe fn attach(&self, context: *mut ffi::AVCodecContext) -> Result<(), Error> {
        // SAFETY: our own reference is valid.
        let reference = unsafe { ffi::av_buffer_ref(self.context.as_ptr()) };
        if reference.is_null() {
            return Err(Error::memory("av_buffer_ref"));
        }
        // SAFETY: the caller's promise; the context owns the new reference from here on.
        unsafe { (*context).hw_device_ctx = reference };
        Ok(())
    }

    fn download(&self, frame: &Frame, memory: &PictureMemory) -> Result<Frame, Error> {
        frame.download(memory)
    }
}

/// Whether libavutil has the code for a kind of device.
fn is_built_in(kind: ffi::AVHWDeviceType) -> bool {
    let none = ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE as c_int;
    let mut at = ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE;
    loop {
        // SAFETY: starts with NONE and goes on with what the function returned; the result is read as the integer it is,
        // and handed back only if these bindings know it.
        let next = unsafe { ffi::av_hwdevice_iterate_types(at) };
        // SAFETY: a C enum is an int.
        let raw = unsafe { (&raw const next).cast::<c_int>().read() };
        if raw == none || raw == kind as c_int {
            return raw != none;
        }
        at = next;
    }
}

/// What came of opening a device.
type Opened = Result<Arc<dyn Device>, String>;

/// Devices by kind and name, each opened by whoever asks for it first.
type Devices = HashMap<(String, Option<String>), Arc<OnceLock<Opened>>>;

/// Opens a device, or gives the one that the process has already.
pub(crate) fn open_shared(kind: &str, device: Option<&str>) -> Opened {
    shared(kind, device, || {
        if device.is_none() {
            surely_missing(kind)?;
        }
        HwDevice::open(kind, device).map(|device| Arc::new(device) as Arc<dyn Device>)
    })
}

/// What `open` returned when it was first called for this device. Failures are remembered as well: they take long, and
/// FFmpeg complains of each on standard error. Opening takes seconds for some devices, so only those who want the same one
/// wait for it.
fn shared(kind: &str, device: Option<&str>, open: impl FnOnce() -> Opened) -> Opened {
    static DEVICES: Mutex<Option<Devices>> = Mutex::new(None);
    let key = (kind.to_owned(), device.map(str::to_owned));
    let opened = Arc::clone(DEVICES.lock().get_or_insert_default().entry(key).or_default());
    opened.get_or_init(open).clone()
}

/// Fails where a look at the system tells that there is no such device, so that FFmpeg need not be asked, which prints
/// what it misses.
fn surely_missing(kind: &str) -> Result<(), String> {
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
    Err(format!("this system has no device for it: {driver} is missing"))
}

#[cfg(test)]
#[path = "hardware_tests.rs"]
mod tests;
