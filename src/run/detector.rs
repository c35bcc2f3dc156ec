// SPDX-License-Identifier: MIT OR Apache-2.0
//! A loaded model for frames that the program has from elsewhere, with the settings of a run.
//!
//! It shares its engine with runs of the same settings in this process: while it exists, they load no model. Any thread.

use std::sync::Arc;

use crossbeam_channel::unbounded;
use gst::prelude::*;

use super::error::Error;
use super::event::{EngineReport, Warning};
use super::pipeline::{Delivery, Pipeline, Update};
use super::resolved::Resolved;
use super::settings::Settings;
use crate::av;
use crate::detect::{self, Matrix, Picture, PixelFormat, Plane, Range};
use crate::elements::keyframedec;
use crate::elements::yolodetect::{Loaded, YoloDetect};
use crate::meta::Found;
use crate::record::Detection;

/// A loaded model.
pub struct Detector {
    loaded: Loaded,
    warnings: Vec<Warning>,
    /// Keeps the engine as a run would use it.
    pipeline: Pipeline,
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector").field("model", &self.loaded.engine.model().source).finish_non_exhaustive()
    }
}

impl Detector {
    /// Loads the model of `settings`, of which inputs and output do not matter.
    ///
    /// # Errors
    /// A setting is not valid, or the model cannot be loaded.
    pub fn load(settings: &Settings) -> Result<Self, Error> {
        super::pipeline::init()?;
        let Resolved { properties, .. } = Resolved::new(settings)?;
        let (sender, updates) = unbounded();
        let pipeline = Pipeline::new(&properties, &sender, Delivery::Files).map_err(Error::setting)?;
        pipeline.load().map_err(|reason| Error::Model { reason })?;
        let warnings = updates.try_iter().filter_map(|update| match update {
            Update::Warning(warning) => Some(warning),
            _ => None,
        });
        let warnings = warnings.collect();
        let element = pipeline.element().downcast::<gst::Bin>().ok().and_then(|bin| bin.by_name("detector"));
        let loaded = element.and_downcast::<YoloDetect>().and_then(|detector| detector.loaded());
        let loaded = loaded.ok_or_else(|| Error::Model { reason: "no model was loaded".to_owned() })?;
        Ok(Self { loaded, warnings, pipeline })
    }

    /// Returns warnings about the model and what it runs on.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Returns the engine, and how often a model was loaded in this process.
    #[must_use]
    pub fn report(&self) -> EngineReport {
        EngineReport::from_structure(&self.pipeline.stats())
    }

    /// Returns the names of the classes, by number.
    #[must_use]
    pub fn classes(&self) -> Vec<String> {
        self.loaded.labels.all()
    }

    /// Detects on `frames`, whose sizes are known; returns the detections on each, by falling confidence. Several callers share the engine. Gives up when
    /// `keep_waiting` returns false, which it asks some times each second.
    ///
    /// # Errors
    /// The first frame on which detection failed.
    pub fn detect(
        &self,
        frames: impl IntoIterator<Item = Box<dyn detect::Frame>>,
        keep_waiting: impl Fn() -> bool,
    ) -> Result<Vec<Vec<Detection>>, Error> {
        let Loaded { engine, labels, settings } = &self.loaded;
        let tickets: Vec<_> = frames
            .into_iter()
            .map(|frame| {
                let size = frame.size().unwrap_or((1, 1));
                (size, engine.submit_while(frame, Arc::clone(settings), None, &keep_waiting))
            })
            .collect();
        let mut results = Vec::with_capacity(tickets.len());
        for (size, ticket) in tickets {
            let result =
                ticket.wait_while(&keep_waiting).map_err(|error| Error::Failed { reason: error.to_string() })?;
            let found = result.detections.into_iter().map(|found| {
                let label = labels.name(found.class_id).into_owned();
                Found::of_detection(found, label, size).into()
            });
            results.push(found.collect());
        }
        Ok(results)
    }
}

/// Pixels in memory, as rows of whole pixels without padding.
#[derive(Debug, Clone)]
pub struct PixelBuffer {
    format: PixelFormat,
    size: (usize, usize),
    bytes_per_pixel: usize,
    pixels: Vec<u8>,
}

impl PixelBuffer {
    /// Wraps the pixels of a picture of `size` (width, height): `rgb`, `bgr`, `rgba`, `bgra` or `gray`.
    ///
    /// # Errors
    /// The format is not one of these, or the pixels do not match the size.
    pub fn new(format: &str, size: (usize, usize), pixels: Vec<u8>) -> Result<Self, Error> {
        let (format, bytes_per_pixel) = match format {
            "rgb" => (PixelFormat::Rgb, 3),
            "bgr" => (PixelFormat::Bgr, 3),
            "rgba" => (PixelFormat::Rgba, 4),
            "bgra" => (PixelFormat::Bgra, 4),
            "gray" => (PixelFormat::Gray8, 1),
            other => {
                return Err(Error::setting(format!("`format` {other} is not known: use rgb, bgr, rgba, bgra or gray")));
            }
        };
        let needed = size.0.checked_mul(size.1).and_then(|count| count.checked_mul(bytes_per_pixel));
        if needed != Some(pixels.len()) {
            return Err(Error::setting(format!(
                "a picture of {}x{} pixels with {bytes_per_pixel} bytes each does not have {} bytes",
                size.0,
                size.1,
                pixels.len()
            )));
        }
        let frame = Self { format, size, bytes_per_pixel, pixels };
        // Checks the size.
        detect::Frame::picture(&frame).map_err(|error| Error::setting(error.to_string()))?;
        Ok(frame)
    }
}

impl detect::Frame for PixelBuffer {
    fn size(&self) -> Option<(usize, usize)> {
        Some(self.size)
    }

    fn picture(&self) -> Result<Picture<'_>, detect::Error> {
        let plane = Plane { data: &self.pixels, stride: self.size.0 * self.bytes_per_pixel };
        Picture::new(self.format, self.size.0, self.size.1, &[plane], Matrix::default(), Range::Full)
    }
}

/// A decoded frame, without a copy of its planes.
#[derive(Debug, Clone)]
pub struct DecodedFrame(pub Arc<av::Frame>);

impl detect::Frame for DecodedFrame {
    fn size(&self) -> Option<(usize, usize)> {
        Some((self.0.width(), self.0.height()))
    }

    fn picture(&self) -> Result<Picture<'_>, detect::Error> {
        let refuse = |reason: String| detect::Error::Picture { reason };
        let frame = &*self.0;
        let decoded = frame.pixel_format().map_err(|error| refuse(error.to_string()))?;
        let format = keyframedec::gst_format(decoded).and_then(|format| PixelFormat::from_name(format.to_str()));
        let format = format.ok_or_else(|| {
            refuse(format!("the pixel format {} is not supported: read keyframes as rgb24", decoded.name()))
        })?;
        let planes: Option<Vec<_>> = (0..decoded.plane_count())
            .map(|plane| Some(Plane { data: frame.plane(plane)?, stride: frame.stride(plane) }))
            .collect();
        let planes = planes.ok_or_else(|| refuse("its planes are missing".to_owned()))?;
        let colour = frame.effective_colour();
        // Code points of ISO/IEC 23091-2; without one, BT.601 as in FFmpeg.
        let matrix = match colour.matrix {
            1 => Matrix::Bt709,
            4 => Matrix::Fcc,
            7 => Matrix::Smpte240m,
            9 | 10 => Matrix::Bt2020,
            _ => Matrix::Bt601,
        };
        let range = if colour.is_full_range() { Range::Full } else { Range::Limited };
        Picture::new(format, frame.width(), frame.height(), &planes, matrix, range)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn pixels_have_to_match_their_size_and_format() {
        assert!(PixelBuffer::new("rgb", (4, 2), vec![0; 24]).is_ok());
        for (format, size, bytes, word) in [
            ("rgb", (4, 2), 23, "23 bytes"),
            ("hsv", (4, 2), 24, "hsv"),
            ("gray", (0, 2), 0, "0x2"),
            ("gray", (usize::MAX, usize::MAX), 1, "1 bytes"),
        ] {
            let error = PixelBuffer::new(format, size, vec![0; bytes]).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
