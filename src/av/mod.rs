// SPDX-License-Identifier: MIT OR Apache-2.0
//! Safe Rust over FFmpeg: custom IO, demuxer, decoder, frames, format conversion.
//!
//! The only layer with `unsafe`. It does not know GStreamer and logs nothing: everything is reported by return values.
//! FFmpeg's global state, its log callback included, is left alone, since other libraries in the process share it.

mod c_enums;
mod codec_context;
mod containers;
mod decode;
mod error;
mod frame;
mod input;
mod io;
mod keyframes;
mod log;
pub mod opening_lock;
pub mod process;

pub use decode::options::{DEFAULT_MAX_PIXELS, DecoderOptions, Hardware, ThreadOptions, ThreadType};
pub use error::{Error, SourceError};
pub use frame::pixel_format::{PixelFormat, PlaneGeometry};
pub use frame::pool::FramePool;
pub use frame::rotation::Rotation;
pub use frame::scaler::Scaler;
pub use frame::{Colour, Frame, PlaneBytes};
pub use input::bare_stream::{Codec, StreamFormat};
pub use io::{ByteSource, FileSource, Interrupt};
pub use keyframes::KeyframeReader;
pub use keyframes::elementary::{ElementaryDecoder, KeyframeUnits, UnitFlags};
pub use keyframes::keyframe::{Counts, Info, Keyframe, KeyframeEntry, Step};
pub use keyframes::options::Options;
pub use log::{LogSink, capture_log};
pub use opening_lock::LockTimes;

use ffmpeg_sys_next as ffi;

/// Returns the versions of the FFmpeg libraries in use, for example "libavformat 59.27.100, libavcodec 59.37.100".
#[must_use]
pub fn version() -> String {
    // SAFETY: neither has preconditions.
    let (format, codec) = unsafe { (ffi::avformat_version(), ffi::avcodec_version()) };
    format!("libavformat {}, libavcodec {}", error::version_text(format), error::version_text(codec))
}

/// Fails if the major version of the loaded FFmpeg is not the one whose struct layouts this crate was built with.
///
/// # Errors
/// [`Error::WrongLibrary`].
pub fn check_version() -> Result<(), Error> {
    // SAFETY: none of the three has preconditions.
    let found = unsafe { [ffi::avcodec_version(), ffi::avformat_version(), ffi::avutil_version()] };
    let built = [ffi::LIBAVCODEC_VERSION_MAJOR, ffi::LIBAVFORMAT_VERSION_MAJOR, ffi::LIBAVUTIL_VERSION_MAJOR];
    for ((library, built), found) in ["libavcodec", "libavformat", "libavutil"].into_iter().zip(built).zip(found) {
        let found = found >> 16;
        #[allow(clippy::unnecessary_cast, reason = "the constant's type differs between FFmpeg releases")]
        let built = built as u32;
        if found != built {
            return Err(Error::WrongLibrary { library, built, found });
        }
    }
    Ok(())
}
