// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of JavaScript as settings of a run. `index.js` has checked their types.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use gstvx::run::{Existing, Input, Order, Output, SamplingSettings, Settings, WhichFrames, WorkerProgram, quantity};
use napi::bindgen_prelude::Either;
use napi_derive::napi;

/// The options of `detect`. Durations, sizes and shares are text, as the command reads them.
#[napi(object, object_to_js = false)]
pub struct Options {
    pub model: Option<String>,
    pub labels: Option<String>,
    pub confidence: Option<f64>,
    pub iou: Option<f64>,
    pub classes: Option<Vec<String>>,
    pub provider: Option<String>,
    pub cache_dir: Option<String>,
    pub every: Option<String>,
    pub set: Option<HashMap<String, String>>,
    pub output: Option<String>,
    pub format: Option<String>,
    pub resume: Option<bool>,
    pub retry_failed: Option<bool>,
    pub overwrite: Option<bool>,
    pub lanes: Option<u32>,
    pub order: Option<String>,
    pub stop_on_error: Option<bool>,
    pub memory_limit: Option<String>,
    pub file_timeout: Option<String>,
    pub shard: Option<String>,
    pub probe: Option<bool>,
    pub cache: Option<String>,
    pub save_frames: Option<String>,
    pub which_frames: Option<String>,
    pub draw: Option<bool>,
    /// The program of worker processes with its arguments; without it files are read in this process.
    pub isolate: Option<Vec<String>>,
}

/// Reads a duration.
pub fn duration(name: &str, text: &Option<String>) -> Result<Option<Duration>, String> {
    text.as_deref().map(|text| quantity::duration(text).map_err(|reason| format!("`{name}`: {reason}"))).transpose()
}

fn one_of<T: Copy>(name: &str, value: &Option<String>, known: &[(&str, T)]) -> Result<Option<T>, String> {
    let Some(value) = value else { return Ok(None) };
    known.iter().find(|(known, _)| known == value).map(|(_, value)| Some(*value)).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("`{name}` {value} is not known: use {}", names.join(" or "))
    })
}

impl Options {
    /// Converts them to settings.
    ///
    /// # Errors
    /// What is wrong with an option.
    pub fn to_settings(&self, inputs: Vec<Either<String, Vec<String>>>) -> Result<Settings, String> {
        let is_set = |flag: Option<bool>| flag.unwrap_or(false);
        let path = |path: &Option<String>| path.as_ref().map(PathBuf::from);
        let mut settings = Settings::new(std::iter::empty::<String>());
        settings.inputs = inputs
            .into_iter()
            .map(|input| match input {
                Either::A(path) => Input::Path(path.into()),
                Either::B(names) => Input::List(names),
            })
            .collect();
        settings.probe = is_set(self.probe);
        let shard = self.shard.as_ref().map(|shard| shard.parse());
        settings.shard = shard.transpose().map_err(|reason: String| format!("`shard`: {reason}"))?;
        let detector = &mut settings.detector;
        (detector.model, detector.labels) = (path(&self.model), path(&self.labels));
        detector.confidence = self.confidence.map(|confidence| confidence as f32);
        detector.iou = self.iou.map(|iou| iou as f32);
        detector.classes = self.classes.clone().unwrap_or_default();
        detector.provider.clone_from(&self.provider);
        detector.cache_dir = path(&self.cache_dir);
        settings.sampling = duration("every", &self.every)?.map(SamplingSettings::every).unwrap_or_default();
        settings.properties = self.set.clone().unwrap_or_default().into_iter().collect();
        settings.output = path(&self.output).map_or(Output::None, Output::File);
        settings.format.clone_from(&self.format);
        settings.existing = match (is_set(self.resume), is_set(self.overwrite)) {
            (true, true) => {
                return Err("`resume` and `overwrite` contradict each other: use one of them".to_owned());
            }
            (true, false) => Existing::Resume,
            (false, true) => Existing::Overwrite,
            (false, false) => Existing::Refuse,
        };
        settings.retry_failed = is_set(self.retry_failed);
        if settings.retry_failed && settings.existing != Existing::Resume {
            return Err("`retry_failed` reads files of an output again: set `resume`".to_owned());
        }
        settings.lanes = self.lanes;
        let orders = [("largest-first", Order::LargestFirst), ("as-given", Order::AsGiven)];
        settings.order = one_of("order", &self.order, &orders)?.unwrap_or_default();
        settings.stop_on_error = is_set(self.stop_on_error);
        let limit = self.memory_limit.as_deref().map(quantity::size);
        settings.memory_limit = limit.transpose().map_err(|reason| format!("`memory_limit`: {reason}"))?;
        settings.file_timeout = duration("file_timeout", &self.file_timeout)?;
        (settings.cache, settings.save_frames) = (path(&self.cache), path(&self.save_frames));
        let known = [("detections", WhichFrames::Detections), ("all", WhichFrames::All)];
        settings.which_frames = one_of("which_frames", &self.which_frames, &known)?;
        settings.draw = is_set(self.draw);
        if settings.draw && settings.save_frames.is_none() {
            return Err("`draw` draws into saved keyframes: set `save_frames`".to_owned());
        }
        settings.isolate = self.isolate.as_ref().and_then(|command| {
            let (program, arguments) = command.split_first()?;
            let arguments = arguments.iter().map(Into::into).collect();
            Some(WorkerProgram { program: program.into(), name: None, arguments })
        });
        Ok(settings)
    }
}
