// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keyframes of one file as pictures, for programs that look at them themselves: upright, in the format and size that they want.
//!
//! One thread at a time; [`KeyframeSettings::interrupt`] ends a wait from another one.

use std::path::PathBuf;

use super::error::Error;
use super::media_file::open_with;
use super::settings::SamplingSettings;
use crate::av::{
    DecoderOptions, FramePool, Info, Interrupt, Keyframe, KeyframeReader, Options, PixelFormat, Scaler, Step,
    ThreadOptions,
};
use crate::path::name_of;

/// Longest side of a picture that keyframes are scaled to, in pixels.
pub const MAX_SIDE: u32 = 16_384;

/// Most decoder threads where their number is not set: each has memory for the pictures of its own.
const MAX_THREADS: usize = 8;

/// How keyframes are read.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct KeyframeSettings {
    /// FFmpeg's name of the pixel format (`rgb24`, `yuv420p`); `None`: as decoded, without a copy.
    pub format: Option<String>,
    /// Width and height in pixels; where one is 0, it follows from the other. `None`: as stored.
    pub size: Option<(u32, u32)>,
    /// Leaves the container's rotation to the caller.
    pub is_as_stored: bool,
    /// Which frames to read.
    pub sampling: SamplingSettings,
    /// Decoder threads; `None`: one for each core, at most eight.
    pub threads: Option<u32>,
    /// Ends a wait from another thread.
    pub interrupt: Interrupt,
}

/// The keyframes of a file, in order of presentation: an iterator.
///
/// Keyframes that cannot be decoded are left out; [`problems`](Self::problems) says so at the end.
pub struct Keyframes {
    path: PathBuf,
    reader: KeyframeReader,
    scaler: Scaler,
    format: Option<PixelFormat>,
    size: Option<(u32, u32)>,
    is_as_stored: bool,
    has_ended: bool,
}

impl Keyframes {
    /// Opens a file.
    ///
    /// # Errors
    /// The format or the size is not valid, or the file cannot be opened.
    pub fn open(path: impl Into<PathBuf>, settings: &KeyframeSettings) -> Result<Self, Error> {
        let path = path.into();
        let format = settings.format.as_deref().map(pixel_format).transpose()?;
        if let Some((width, height)) = settings.size
            && (width.max(height) > MAX_SIDE || width.max(height) == 0)
        {
            return Err(Error::setting(format!(
                "`size` {width}x{height} is out of range: use 1 to {MAX_SIDE} pixels, or 0 for one side that follows from the other"
            )));
        }
        let nanoseconds = |time: Option<std::time::Duration>| {
            time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        let planned = u32::try_from(num_cpus::get().min(MAX_THREADS)).unwrap_or(1);
        let threads = ThreadOptions { count: settings.threads.unwrap_or(planned), ..ThreadOptions::default() };
        let options = Options {
            decoder: DecoderOptions { threads, ..DecoderOptions::default() },
            min_interval_ns: nanoseconds(settings.sampling.min_interval),
            max_gap_ns: nanoseconds(settings.sampling.max_gap),
            max_frames: settings.sampling.max_frames.unwrap_or(0),
            ..Options::default()
        };
        let reader = open_with(&name_of(&path), &options, settings.interrupt.clone())
            .map_err(|reason| Error::Media { path: path.clone(), reason })?;
        Ok(Self {
            path,
            reader,
            scaler: Scaler::new(&FramePool::default()),
            format,
            size: settings.size,
            is_as_stored: settings.is_as_stored,
            has_ended: false,
        })
    }

    /// Returns information about the file.
    #[must_use]
    pub fn info(&self) -> &Info {
        self.reader.info()
    }

    /// Returns why frames may be missing or incomplete, as far as the file was read: short English reasons.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.reader.problems()
    }

    /// Seeks to the keyframe at or before `pts_ns` on the container's clock, or to the first after it.
    ///
    /// # Errors
    /// The container cannot be sought in, or reading fails.
    pub fn seek(&mut self, pts_ns: i64) -> Result<(), Error> {
        self.has_ended = false;
        self.reader.seek(pts_ns).map_err(|error| self.failed(&error))
    }

    /// Returns the next keyframe as it is wanted; `None` at the end.
    fn read(&mut self) -> Result<Option<Keyframe>, Error> {
        let Some(mut keyframe) = self.read_stored().map_err(|error| self.failed(&error))? else { return Ok(None) };
        let frame = &keyframe.frame;
        let format = frame.pixel_format().map_err(|error| self.failed(&error))?;
        let stored = (frame.width(), frame.height());
        let size = self.size.map_or(stored, |size| fit(size, stored));
        if let Some((width, height)) = self.size
            && size.0.max(size.1) > MAX_SIDE as usize
        {
            return Err(Error::setting(format!(
                "`size` {width}x{height} makes pictures of {}x{} pixels of those in {}, which have {}x{}: use at most {MAX_SIDE} for \
                 each side, or set both",
                size.0,
                size.1,
                self.path.display(),
                stored.0,
                stored.1
            )));
        }
        let wanted = (self.format.unwrap_or(format), size);
        let converted = if wanted == (format, stored) {
            self.scaler.with_plain_planes(keyframe.frame)
        } else {
            self.scaler.resize(frame, wanted.0, wanted.1)
        };
        keyframe.frame = converted.map_err(|error| self.failed(&error))?;
        Ok(Some(keyframe))
    }

    fn failed(&self, error: &crate::av::Error) -> Error {
        Error::Media { path: self.path.clone(), reason: error.to_string() }
    }

    /// Returns the next keyframe in its own format and size, upright.
    fn read_stored(&mut self) -> Result<Option<Keyframe>, crate::av::Error> {
        let mut keyframe = loop {
            match self.reader.next()? {
                Step::Keyframe(keyframe) => break keyframe,
                Step::End => return Ok(None),
                Step::Damaged { .. } | Step::Notice(_) => {}
            }
        };
        if !self.is_as_stored {
            keyframe = keyframe.upright(&mut self.scaler)?;
        }
        Ok(Some(keyframe))
    }
}

impl std::fmt::Debug for Keyframes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyframes").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Iterator for Keyframes {
    type Item = Result<Keyframe, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let result = self.read();
        self.has_ended = !matches!(result, Ok(Some(_)));
        result.transpose()
    }
}

fn pixel_format(name: &str) -> Result<PixelFormat, Error> {
    PixelFormat::from_name(name).filter(|format| !format.is_on_device()).ok_or_else(|| {
        Error::setting(format!(
            "`format` {name} is not a pixel format of FFmpeg: use rgb24, bgr24, rgba, gray, yuv420p or another of `ffmpeg -pix_fmts`"
        ))
    })
}

/// Returns `size` with the side that is 0 computed from the shape of `stored`.
fn fit((width, height): (u32, u32), stored: (usize, usize)) -> (usize, usize) {
    let (width, height) = (width as usize, height as usize);
    let side = |known: usize, of: usize, other: usize| ((known * other + of / 2) / of.max(1)).max(1);
    match (width, height) {
        (0, _) => (side(height, stored.1, stored.0), height),
        (_, 0) => (width, side(width, stored.0, stored.1)),
        both => both,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::super::pictures::jpeg;
    use super::*;

    const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/media/scenes.mp4");

    #[test]
    fn a_side_follows_from_the_other() {
        assert_eq!(fit((640, 0), (1920, 1080)), (640, 360));
        assert_eq!(fit((0, 360), (1920, 1080)), (640, 360));
        assert_eq!(fit((100, 100), (1920, 1080)), (100, 100));
        assert_eq!(fit((1, 0), (10_000, 1)), (1, 1));
    }

    #[test]
    fn keyframes_have_the_format_and_size_that_is_wanted() {
        let mut settings = KeyframeSettings::default();
        let native: Vec<Keyframe> = Keyframes::open(CLIP, &settings).unwrap().map(Result::unwrap).collect();
        settings.format = Some("rgb24".to_owned());
        settings.size = Some((64, 0));
        let scaled: Vec<Keyframe> = Keyframes::open(CLIP, &settings).unwrap().map(Result::unwrap).collect();
        assert!(!native.is_empty() && native.len() == scaled.len());
        assert_eq!(native[0].frame.pixel_format().unwrap().name(), "yuv420p");
        let frame = &scaled[0].frame;
        assert_eq!((frame.pixel_format().unwrap().name(), frame.width(), frame.height()), ("rgb24", 64, 48));
        assert!(frame.plane(0).unwrap().iter().any(|value| *value > 0));
        settings.sampling.max_frames = Some(1);
        assert_eq!(Keyframes::open(CLIP, &settings).unwrap().count(), 1);
    }

    #[test]
    fn a_side_that_follows_from_the_other_is_limited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("narrow.jpg");
        std::fs::write(&path, jpeg::encode(&[128; 16 * 4000 * 3], (16, 4000), 90).unwrap()).unwrap();
        let first = |size| {
            let settings = KeyframeSettings { size: Some(size), ..KeyframeSettings::default() };
            Keyframes::open(&path, &settings).unwrap().next().unwrap().map(|keyframe| keyframe.frame.height())
        };
        assert_eq!(first((32, 0)).unwrap(), 8000);
        let refused = first((320, 0)).unwrap_err();
        assert!(refused.to_string().contains("320x80000 pixels"), "{refused}");
    }

    #[test]
    fn wrong_settings_and_files_are_named() {
        let mut settings = KeyframeSettings { format: Some("purple".to_owned()), ..KeyframeSettings::default() };
        assert!(Keyframes::open(CLIP, &settings).unwrap_err().to_string().contains("purple"));
        settings = KeyframeSettings { size: Some((MAX_SIDE + 1, 0)), ..KeyframeSettings::default() };
        assert!(Keyframes::open(CLIP, &settings).unwrap_err().to_string().contains("`size`"));
        let error = Keyframes::open("/nowhere.mp4", &KeyframeSettings::default()).unwrap_err();
        assert_eq!(error.file(), Some(std::path::Path::new("/nowhere.mp4")));
    }
}
