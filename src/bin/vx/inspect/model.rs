// SPDX-License-Identifier: MIT OR Apache-2.0
//! A model: inputs, outputs, how they are read and why, classes, how frames would be prepared.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use gstvx::detect::{
    Batch, ChannelOrder, Engine, EngineSpec, InputFormat, Labels, ModelSource, PADDING, Provider, ResizeMode, Runtime,
    RuntimeOptions,
};
use serde::Serialize;

use super::alternatives::{Alternative, Rgb, compare};

/// Most names that are printed; the others are counted.
const NAMES_SHOWN: usize = 12;

/// What is printed about a model.
#[derive(Debug, Serialize)]
pub struct ModelFile {
    file: String,
    bytes: u64,
    inputs: Vec<String>,
    outputs: Vec<String>,
    layout: String,
    reason: String,
    /// Evidence for the layout, in order of weight.
    evidence: Vec<String>,
    task: String,
    batch: String,
    class_count: usize,
    classes: Vec<String>,
    /// How a frame becomes the model's input.
    frames: String,
    /// The sizes of the input for frames of usual aspect ratios (`input-size=auto`).
    input_sizes: Vec<InputSize>,
    warnings: Vec<String>,
    /// Detections on a picture with other settings, the best first.
    #[serde(skip_serializing_if = "Option::is_none")]
    alternatives: Option<Vec<Alternative>>,
}

/// The size of a model's input for frames of one aspect ratio.
#[derive(Debug, Serialize)]
struct InputSize {
    aspect_ratio: &'static str,
    width: usize,
    height: usize,
    /// Why it is the exported size, if a smaller one was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl fmt::Display for InputSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} for {}", self.width, self.height, self.aspect_ratio)
    }
}

/// Loads a model on the CPU and describes it; with a `picture`, also tries other settings.
pub fn inspect(path: &Path, picture: Option<&Path>) -> Result<ModelFile, String> {
    let plugin = gst::init().ok().and_then(|()| gst::Registry::get().find_plugin("vx")?.filename());
    let options = RuntimeOptions {
        search_dirs: gstvx::run::library_dirs(plugin.as_deref()),
        provider: Provider::Cpu,
        ..RuntimeOptions::default()
    };
    let words = |error: gstvx::detect::Error| error.to_string();
    let (runtime, note) = Runtime::load(&options).map_err(words)?;
    let mut warnings: Vec<String> = note.into_iter().collect();
    let spec = EngineSpec {
        model: ModelSource::File(path.to_owned()),
        provider: Provider::Cpu,
        sessions: 1,
        ..EngineSpec::default()
    };
    let engine = Engine::acquire(runtime, &spec);
    let alternatives = picture.map(|picture| compare(runtime, path, picture)).transpose()?;
    let engine = engine.map_err(|error| {
        // A layout that was refused may still be readable when it is set.
        let lines = alternatives.iter().flatten().map(|alternative| format!("\n  tried    {alternative}"));
        format!("{error}{}", lines.collect::<String>())
    })?;
    let model = engine.model();
    let (labels, note) = Labels::resolve(model, None).map_err(words)?;
    warnings.extend(model.warnings.iter().cloned());
    warnings.extend(note);
    Ok(ModelFile {
        file: path.display().to_string(),
        bytes: std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
        inputs: model.inputs.iter().map(ToString::to_string).collect(),
        outputs: model.outputs.iter().map(ToString::to_string).collect(),
        layout: model.layout.to_string(),
        reason: model.layout_reason.clone(),
        evidence: model.evidence.clone(),
        task: model.task.to_string(),
        batch: match model.batch {
            Batch::Fixed(count) => format!("{count} at once"),
            Batch::Dynamic => "any number at once".to_owned(),
        },
        class_count: labels.len(),
        classes: (0..labels.len()).map(|class| labels.name(class).into_owned()).collect(),
        frames: preparation(&model.input_format()),
        input_sizes: input_sizes(&engine)?,
        warnings,
        alternatives,
    })
}

/// Runs the model on pictures of usual aspect ratios and returns the sizes of its input.
fn input_sizes(engine: &Engine) -> Result<Vec<InputSize>, String> {
    let ratios = [("16:9", 320, 180), ("4:3", 320, 240), ("9:16", 180, 320)];
    let size_for = |(aspect_ratio, width, height)| {
        let frame = Box::new(Rgb::black(width, height));
        let result = engine.submit(frame, Arc::default()).wait().map_err(|error| error.to_string())?;
        let (width, height) = result.input_size;
        let exported = (engine.model().width, engine.model().height);
        let reason = engine.stats().refused_size.filter(|_| result.input_size == exported);
        Ok(InputSize { aspect_ratio, width, height, reason })
    };
    ratios.into_iter().map(size_for).collect()
}

fn preparation(format: &InputFormat) -> String {
    let place = match format.resize_mode {
        ResizeMode::Letterbox => format!("in the middle, padded with {PADDING}"),
        ResizeMode::LetterboxTopLeft => format!("at the top left, padded with {PADDING}"),
        ResizeMode::Stretch => "stretched".to_owned(),
    };
    let order = match format.order {
        _ if format.is_grey => "grey",
        ChannelOrder::Rgb => "RGB",
        ChannelOrder::Bgr => "BGR",
    };
    let axes = if format.channels_last { "channels last" } else { "channels first" };
    let normalise = format.normalise.map_or(String::new(), |normalise| {
        format!(", less {:?} and divided by {:?}", normalise.mean, normalise.deviation)
    });
    format!("{}x{}, {place}; {order}, {axes}, 0 to {}{normalise}", format.width, format.height, format.white)
}

impl fmt::Display for ModelFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inputs.iter().try_for_each(|input| writeln!(f, "  input    {input}"))?;
        self.outputs.iter().try_for_each(|output| writeln!(f, "  output   {output}"))?;
        self.evidence.iter().try_for_each(|evidence| writeln!(f, "  evidence {evidence}"))?;
        writeln!(f, "  layout   {}: {}", self.layout, self.reason)?;
        writeln!(f, "  task     {}", self.task)?;
        writeln!(f, "  frames   {}; {}", self.frames, self.batch)?;
        let sizes = self.input_sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        writeln!(f, "  sizes    {sizes}")?;
        if let Some(reason) = self.input_sizes.iter().find_map(|size| size.reason.as_ref()) {
            writeln!(f, "           {reason}")?;
        }
        let names = self.classes.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let more = if self.class_count > NAMES_SHOWN { ", …" } else { "" };
        if self.class_count == 0 {
            write!(f, "  classes  not in the model; set --labels")?;
        } else {
            write!(f, "  classes  {}: {names}{more}", self.class_count)?;
        }
        self.warnings.iter().try_for_each(|warning| write!(f, "\n  warning  {warning}"))?;
        self.alternatives.iter().flatten().try_for_each(|alternative| write!(f, "\n  tried    {alternative}"))
    }
}
