// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tries a model with other layouts and other preparation of the picture: the answer to "it finds nothing".
//!
//! Opens the model once for each setting, on the CPU provider.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use gstvx::av::{FramePool, PixelFormat, Scaler, Step};
use gstvx::detect::{
    ChannelOrder, DetectSettings, Engine, EngineSpec, Error, Frame, InputRange, Matrix, ModelHints, ModelLayout,
    ModelSource, Picture, Plane, Provider, Range, ResizeMode, Runtime,
};
use serde::Serialize;

/// Detections count from this confidence on, as in `vx detect`.
const THRESHOLD: f32 = 0.25;

/// The result of one setting.
#[derive(Debug, Serialize)]
pub struct Alternative {
    /// The properties, as `--set` takes them; empty for the defaults.
    settings: String,
    layout: String,
    /// Number of detections of at least 0.25.
    detections: usize,
    /// The highest confidence of all, also below 0.25.
    best: f32,
    /// Mean confidence of the detections.
    mean: f32,
    /// Problems of the outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// More objects than these on a picture mean that scores are wrong.
const MOST: usize = 100;

/// A picture in memory, RGB.
#[derive(Clone)]
pub(super) struct Rgb {
    pixels: Arc<Vec<u8>>,
    width: usize,
    height: usize,
}

impl Rgb {
    /// Returns a black picture.
    pub(super) fn black(width: usize, height: usize) -> Self {
        Self { pixels: Arc::new(vec![0; 3 * width * height]), width, height }
    }
}

impl Frame for Rgb {
    fn size(&self) -> Option<(usize, usize)> {
        Some((self.width, self.height))
    }

    fn picture(&self) -> Result<Picture<'_>, Error> {
        let plane = Plane { data: &self.pixels, stride: 3 * self.width };
        Picture::new(gstvx::detect::PixelFormat::Rgb, self.width, self.height, &[plane], Matrix::default(), Range::Full)
    }
}

/// Reads the first keyframe of a file.
fn picture(path: &Path) -> Result<Rgb, String> {
    let words = |error: gstvx::av::Error| format!("{}: {error}", path.display());
    let mut reader = gstvx::run::open_media(&gstvx::path::name_of(path), 1)
        .map_err(|reason| format!("{}: {reason}", path.display()))?;
    let keyframe = loop {
        match reader.next().map_err(words)? {
            Step::Keyframe(keyframe) => break keyframe,
            Step::End => return Err(format!("{}: there is no picture in it", path.display())),
            Step::Damaged { .. } | Step::Notice(_) => {}
        }
    };
    let mut scaler = Scaler::new(&FramePool::default());
    let upright = keyframe.upright(&mut scaler).map_err(words)?;
    let rgb = PixelFormat::from_name("rgb24").ok_or_else(|| "FFmpeg has no rgb24".to_owned())?;
    let frame = scaler.convert(&upright.frame, rgb).map_err(words)?;
    let (width, height) = (frame.width(), frame.height());
    let rows = frame.plane(0).map(|plane| plane.chunks(frame.stride(0)).take(height));
    let pixels: Vec<u8> = rows.into_iter().flatten().flat_map(|row| row.iter().take(3 * width).copied()).collect();
    Ok(Rgb { pixels: Arc::new(pixels), width, height })
}

/// Returns the settings to try: single properties first, then ranges with the other channel order.
fn ways() -> Vec<(String, ModelHints)> {
    let plain = ModelHints::default();
    let modes = [
        ("letterbox", ResizeMode::Letterbox),
        ("letterbox-top-left", ResizeMode::LetterboxTopLeft),
        ("stretch", ResizeMode::Stretch),
    ];
    let ranges = [
        ("0-1", InputRange::One),
        ("0-255", InputRange::Byte),
        ("signed", InputRange::Signed),
        ("imagenet", InputRange::ImageNet),
    ];
    let orders = [("rgb", ChannelOrder::Rgb), ("bgr", ChannelOrder::Bgr)];
    let mut ways = vec![(String::new(), plain)];
    ways.extend(
        modes.map(|(name, mode)| (format!("resize-mode={name}"), ModelHints { resize_mode: Some(mode), ..plain })),
    );
    for (order_name, order) in orders {
        ways.extend(ranges.map(|(name, range)| {
            let hints = ModelHints { range: Some(range), order: Some(order), ..plain };
            (format!("input-range={name} channel-order={order_name}"), hints)
        }));
    }
    let layouts = ModelLayout::ALL.iter();
    ways.extend(
        layouts.map(|&layout| (format!("model-layout={layout}"), ModelHints { layout: Some(layout), ..plain })),
    );
    ways
}

/// Tries all settings on the first keyframe of `file`; the best come first, and those that do not fit the model are left out.
///
/// # Errors
/// Why the picture cannot be read.
pub fn compare(runtime: &'static Runtime, model: &Path, file: &Path) -> Result<Vec<Alternative>, String> {
    let frame = picture(file)?;
    let settings = Arc::new(DetectSettings { confidence_threshold: 0.01, ..DetectSettings::default() });
    let mut found = Vec::new();
    for (name, hints) in ways() {
        let spec = EngineSpec {
            model: ModelSource::File(model.to_owned()),
            provider: Provider::Cpu,
            sessions: 1,
            hints,
            ..EngineSpec::default()
        };
        let Ok(engine) = Engine::acquire(runtime, &spec) else { continue };
        let Ok(result) = engine.submit(Box::new(frame.clone()), Arc::clone(&settings)).wait() else { continue };
        let confidences: Vec<f32> = result.detections.iter().map(|found| found.confidence).collect();
        let counted: Vec<f32> = confidences.iter().copied().filter(|confidence| *confidence > THRESHOLD).collect();
        found.push(Alternative {
            settings: name,
            layout: engine.model().layout.to_string(),
            detections: counted.len(),
            best: confidences.iter().copied().fold(0.0, f32::max),
            warning: result.warning,
            mean: if counted.is_empty() { 0.0 } else { counted.iter().sum::<f32>() / counted.len() as f32 },
        });
    }
    // What is done without settings goes first among equals, nonsense goes last.
    let is_odd = |found: &Alternative| found.warning.is_some() || found.detections > MOST;
    found.sort_by(|a, b| is_odd(a).cmp(&is_odd(b)).then(b.best.total_cmp(&a.best)));
    Ok(found)
}

impl fmt::Display for Alternative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = if self.settings.is_empty() { "as inferred" } else { &self.settings };
        let Self { layout, detections, best, mean, .. } = self;
        write!(f, "{detections:>5} detections, best {best:.2}, mean {mean:.2}  {settings} ({layout})")?;
        match &self.warning {
            Some(warning) => write!(f, "; {warning}"),
            None => Ok(()),
        }
    }
}
