//! Safe Rust over FFmpeg: custom IO, demuxer, decoder, frames, format conversion.
//!
//! The only place in the crate with `unsafe`. It knows no GStreamer and logs nothing: what happens comes back as values.
//! FFmpeg's global state (its log callback among it) is left alone, since other libraries in the process share it.

mod boxes;
mod decoder;
mod decoders;
mod ending;
mod error;
mod fields;
mod frame;
mod gaps;
mod hardware;
mod input;
mod io;
mod jump;
mod keyframe;
mod keyframes;
mod log;
mod matroska;
pub mod opening;
mod options;
mod packet;
mod packets;
mod parameter_sets;
mod parser;
mod pixel;
mod pool;
mod probe;
pub mod process;
mod programme;
mod scaler;
mod still;
mod turn;
mod unmarked;
mod unopened;
mod unwritten;
mod video_stream;

pub use decoders::{ThreadOptions, ThreadType};
pub use error::{Error, SourceError};
pub use frame::{Colour, Frame, PlaneBytes};
pub use hardware::Hardware;
pub use io::{ByteSource, Interrupt};
pub use keyframe::{Counts, Info, Keyframe, Listed, Step};
pub use keyframes::KeyframeReader;
pub use log::{LogSink, capture_log};
pub use opening::LockTimes;
pub use options::{DEFAULT_MAX_PIXELS, Options};
pub use pixel::{PixelFormat, PlaneGeometry};
pub use pool::FramePool;
pub use scaler::Scaler;
pub use turn::Turn;

use ffmpeg_sys_next as ffi;

/// Versions of the FFmpeg libraries in use, for example "libavformat 59.27.100, libavcodec 59.37.100".
#[must_use]
pub fn version() -> String {
    // SAFETY: neither has preconditions.
    let (format, codec) = unsafe { (ffi::avformat_version(), ffi::avcodec_version()) };
    format!("libavformat {}, libavcodec {}", error::version_text(format), error::version_text(codec))
}

/// Fails if the FFmpeg loaded is not of the major version whose struct layouts this crate was built with.
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
