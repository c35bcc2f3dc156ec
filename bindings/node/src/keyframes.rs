// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keyframes as pictures: a thread reads one ahead and answers requests.

use std::path::PathBuf;
use std::sync::Arc;

use gstvx::av::{self, Interrupt};
use gstvx::path::path_of;
use gstvx::run::{self, KeyframeSettings, SamplingSettings};
use napi::Env;
use napi::bindgen_prelude::{BigInt, Either, Object};
use napi_derive::napi;

use crate::error::Failure;
use crate::planes::{self, Plane};
use crate::requests::{Request, Requests, Source};
use crate::settings::duration;

/// FFmpeg's names of the formats with names of their own.
const FORMATS: [(&str, &str); 2] = [("rgb", "rgb24"), ("bgr", "bgr24")];

/// The options of `keyframes`. Durations are text, as the command reads them.
#[napi(object, object_to_js = false)]
pub struct KeyframeOptions {
    pub format: Option<String>,
    /// Width and height; 0 for a side that follows from the other.
    pub size: Option<Vec<u32>>,
    pub max_gap: Option<String>,
    pub min_interval: Option<String>,
    pub max_frames: Option<u32>,
    pub threads: Option<u32>,
    pub upright: Option<bool>,
}

impl KeyframeOptions {
    /// Converts them to settings.
    fn to_settings(&self) -> Result<KeyframeSettings, String> {
        let mut sampling = SamplingSettings::default();
        sampling.max_gap = duration("max_gap", &self.max_gap)?;
        sampling.min_interval = duration("min_interval", &self.min_interval)?;
        sampling.max_frames = self.max_frames.map(u64::from);
        let mut settings = KeyframeSettings::default();
        let format = self.format.as_deref().unwrap_or("rgb");
        let ffmpeg = FORMATS.iter().find(|(name, _)| *name == format).map_or(format, |(_, ffmpeg)| *ffmpeg);
        settings.format = (format != "native").then(|| ffmpeg.to_owned());
        settings.size = match self.size.as_deref() {
            None => None,
            Some([width, height]) => Some((*width, *height)),
            Some(_) => return Err("`size`: expected width and height".to_owned()),
        };
        settings.is_as_stored = !self.upright.unwrap_or(true);
        settings.sampling = sampling;
        settings.threads = self.threads;
        Ok(settings)
    }
}

/// A keyframe, or the end.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct KeyframeBatch {
    /// The keyframe.
    pub keyframe: Option<Keyframe>,
    /// The file; in the first answer.
    pub info: Option<FileInfo>,
    /// Why frames may be missing.
    pub problems: Vec<String>,
    /// Why the file cannot be read further.
    pub failure: Option<Failure>,
    /// Whether this is the last answer.
    pub is_last: bool,
}

impl KeyframeBatch {
    /// Creates the last answer.
    fn end() -> Self {
        Self { is_last: true, ..Self::default() }
    }
}

/// A keyframe.
#[napi(object, object_from_js = false)]
pub struct Keyframe {
    pub pts_ns: Option<BigInt>,
    pub duration_ns: Option<BigInt>,
    pub width: u32,
    pub height: u32,
    pub format: String,
    pub sample_bytes: u32,
    pub is_keyframe: bool,
    pub is_corrupt: bool,
    pub pixel_aspect_ratio: Vec<i32>,
    pub packet_bytes: i64,
    pub planes: Vec<Plane>,
}

/// The file.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct FileInfo {
    pub container: String,
    pub codec: String,
    pub duration_ns: Option<BigInt>,
    pub frame_rate: Option<Vec<i32>>,
    pub is_interlaced: bool,
    pub title: Option<String>,
}

impl From<&av::Info> for FileInfo {
    fn from(info: &av::Info) -> Self {
        Self {
            container: info.container.clone(),
            codec: info.codec.clone(),
            duration_ns: info.duration_ns.map(BigInt::from),
            frame_rate: info.frame_rate.map(|(numerator, denominator)| vec![numerator, denominator]),
            is_interlaced: info.is_interlaced,
            title: info.title.clone(),
        }
    }
}

impl Keyframe {
    /// Converts a keyframe; fails where its memory is not plain.
    fn new(keyframe: av::Keyframe) -> Result<Self, String> {
        let format = keyframe.frame.pixel_format().map_err(|error| error.to_string())?;
        let (width, height) = (keyframe.frame.width(), keyframe.frame.height());
        let is_corrupt = keyframe.frame.is_corrupt();
        let planes = planes::of(&Arc::new(keyframe.frame)).ok_or("the memory of the picture is not plain")?;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Self {
            pts_ns: keyframe.pts_ns.map(BigInt::from),
            duration_ns: keyframe.duration_ns.map(BigInt::from),
            width: number(width),
            height: number(height),
            format: format.name().to_owned(),
            sample_bytes: number(format.sample_bytes()),
            is_keyframe: keyframe.is_keyframe,
            is_corrupt,
            pixel_aspect_ratio: vec![keyframe.pixel_aspect_ratio.0, keyframe.pixel_aspect_ratio.1],
            packet_bytes: i64::try_from(keyframe.packet_bytes).unwrap_or(i64::MAX),
            planes,
        })
    }
}

/// The keyframes of a file.
#[napi]
pub struct NativeKeyframes {
    source: Source<KeyframeBatch>,
    interrupt: Interrupt,
}

#[napi]
impl NativeKeyframes {
    /// Requests the next keyframe.
    #[napi(ts_return_type = "Promise<KeyframeBatch>")]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        if self.interrupt.is_set() {
            let (request, promise) = Request::new(env)?;
            request.answer(KeyframeBatch::end());
            return Ok(promise);
        }
        self.source.next(env)
    }

    /// Ends reading. A server that does not respond does not delay the answer.
    #[napi]
    pub fn stop(&self) {
        self.source.end(KeyframeBatch::end);
    }
}

/// Opens a file, or says why the options are not valid.
#[napi]
pub fn keyframes(env: &Env, path: String, options: KeyframeOptions) -> napi::Result<Either<NativeKeyframes, Failure>> {
    let settings = match options.to_settings() {
        Ok(settings) => settings,
        Err(reason) => return Ok(Either::B(Failure::of_setting(reason))),
    };
    // A file:// URI is how records name a path that is not UTF-8.
    let path = path_of(&path).into_owned();
    let interrupt = settings.interrupt.clone();
    let cancelled = interrupt.clone();
    let work = move |requests: Requests<KeyframeBatch>| serve(path, &settings, &requests);
    let source = Source::start(env, "vxkeyframes", work, move || cancelled.set())?;
    Ok(Either::A(NativeKeyframes { source, interrupt }))
}

fn serve(path: PathBuf, settings: &KeyframeSettings, requests: &Requests<KeyframeBatch>) {
    let failed = |failure: Failure| KeyframeBatch { failure: Some(failure), ..KeyframeBatch::end() };
    let mut keyframes = match run::Keyframes::open(path, settings) {
        Ok(keyframes) => keyframes,
        Err(error) => {
            if let Some(request) = requests.next() {
                request.answer(failed(Failure::from(&error)));
            }
            return;
        }
    };
    let mut info = Some(FileInfo::from(keyframes.info()));
    loop {
        // Read before it is requested.
        let batch = match keyframes.next() {
            Some(Ok(keyframe)) => match Keyframe::new(keyframe) {
                Ok(keyframe) => KeyframeBatch { keyframe: Some(keyframe), ..KeyframeBatch::default() },
                Err(reason) => failed(Failure::of_setting(format!("`format`: {reason}"))),
            },
            Some(Err(_)) if settings.interrupt.is_set() => KeyframeBatch::end(),
            Some(Err(error)) => failed(Failure::from(&error)),
            None => KeyframeBatch { problems: keyframes.problems(), ..KeyframeBatch::end() },
        };
        let Some(request) = requests.next() else { return };
        let is_last = batch.is_last;
        request.answer(KeyframeBatch { info: info.take(), ..batch });
        if is_last {
            return;
        }
    }
}
