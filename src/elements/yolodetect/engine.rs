// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads what the settings name into an engine that accepts frames: runtime, model, labels.

use std::sync::Arc;

use super::frame_selection::Region;
use super::imp::{CAT, FACTORY};
use super::settings::Settings;
use crate::detect;
use crate::elements::detector_event::DetectorInfo;
use crate::elements::library_paths;
use crate::elements::log::Category;

/// ONNX Runtime's own log.
static ORT_CAT: Category = Category::new("vxort", "ONNX Runtime");

/// A warning for the user.
pub enum SetupWarning {
    /// About how the model is read: it concerns every result.
    Model(String),
    /// About what it runs on.
    Setup(String),
}

/// A loaded engine, from READY to NULL.
pub struct LoadedEngine {
    pub engine: detect::Engine,
    pub labels: Arc<detect::Labels>,
    pub runtime: &'static detect::Runtime,
    pub detect: Arc<detect::DetectSettings>,
    /// The property `classes`, as class indices.
    classes: Option<Vec<usize>>,
    /// Most frames in the element.
    pub max_inflight: usize,
    made_from: Settings,
}

impl LoadedEngine {
    /// Loads what `settings` name, and passes warnings for the user to `warn`.
    pub fn new(settings: &Settings, mut warn: impl FnMut(SetupWarning)) -> Result<Self, detect::Error> {
        if !settings.region_of_interest.is_empty() {
            settings.region_of_interest.parse::<Region>()?;
        }
        let (runtime, spec, note) = prepare(settings)?;
        note.into_iter().map(SetupWarning::Setup).for_each(&mut warn);
        let engine = detect::Engine::acquire(runtime, &spec)?;
        let report = engine.provider();
        if let Some(reason) = &report.fallback {
            warn(SetupWarning::Setup(format!("falling back to {}: {reason}", report.name)));
        }
        let model = engine.model();
        model.warnings.iter().for_each(|warning| warn(SetupWarning::Model(format!("{}: {warning}", model.source))));
        let (labels, note) = detect::Labels::resolve(model, settings.label_file.as_deref())?;
        note.into_iter().map(SetupWarning::Model).for_each(&mut warn);
        let classes = classes(&labels, &settings.classes)?;
        gst::info!(
            CAT,
            "{}: {}x{}, {} ({}); {} on {}, {}{}, {} sessions of {} threads, ONNX Runtime {} ({}){}",
            model.source,
            model.width,
            model.height,
            model.layout,
            model.layout_reason,
            report.name,
            report.device,
            report.precision,
            if report.is_rewritten { " (weights rearranged for speed, results unchanged)" } else { "" },
            report.sessions,
            report.intra_op_threads,
            runtime.version(),
            runtime.library().display(),
            match (report.is_known, report.has_cache) {
                (true, _) => "; known from an earlier start",
                (false, true) => "; compiled for the first time, later starts are faster",
                (false, false) => "",
            },
        );
        match (&settings.cache_dir, engine.stats().cache_problem) {
            (_, None) => {}
            // A folder that nobody asked for may be missing, as for system users without a home.
            (None, Some(problem)) => gst::info!(CAT, "nothing is kept for later starts: {problem}"),
            (Some(_), Some(problem)) => warn(SetupWarning::Setup(format!(
                "cache-dir: {problem}. Nothing is kept for later starts; results are not affected. Set cache-dir to a folder that can be \
                 written"
            ))),
        }
        let mut ready = Self {
            detect: Arc::default(),
            engine,
            labels: Arc::new(labels),
            runtime,
            classes,
            max_inflight: 0,
            made_from: settings.clone(),
        };
        ready.adapt(settings);
        Ok(ready)
    }

    /// Applies `settings` before a stream begins; returns whether they are for this engine. The model is not read again then: its
    /// file may have been replaced.
    pub fn adapt(&mut self, settings: &Settings) -> bool {
        if !self.made_from.has_engine_of(settings) {
            return false;
        }
        let report = self.engine.provider();
        let automatic = report.sessions * report.batch_size.max(1) * 2 + 1;
        self.max_inflight = if settings.max_inflight == 0 { automatic } else { settings.max_inflight as usize };
        self.made_from.max_inflight = settings.max_inflight;
        self.made_from.load_timeout = settings.load_timeout;
        self.update(settings);
        true
    }

    /// Applies the settings that may change at any time; classes that the model does not have are left for the next start.
    pub fn update(&mut self, settings: &Settings) {
        self.made_from = self.made_from.with_changeable_of(settings);
        if self.made_from.classes != settings.classes
            && let Ok(classes) = classes(&self.labels, &settings.classes)
        {
            self.classes = classes;
            self.made_from.classes.clone_from(&settings.classes);
        }
        self.detect =
            Arc::new(settings.to_detect_settings(self.classes.clone(), self.engine.model().recommended_confidence));
    }

    /// Returns the information that is sent downstream.
    pub fn detector(&self) -> DetectorInfo {
        let (report, model) = (self.engine.provider(), self.engine.model());
        DetectorInfo {
            model: model.source.clone(),
            layout: model.layout.to_string(),
            task: model.task.to_string(),
            provider: report.name.clone(),
            device: report.device.clone(),
            precision: report.precision.clone(),
            fallback: report.fallback.clone(),
            classes: self.labels.all(),
            keypoints: match model.task {
                detect::Task::Pose { points, .. } => u32::try_from(points).unwrap_or(0),
                _ => 0,
            },
            input_size: self.made_from.input_size.trim().to_owned(),
        }
    }

    /// Returns a handle for `stats`.
    pub fn report(&self) -> EngineReport {
        let confidence_threshold = self.detect.confidence_threshold;
        EngineReport { engine: self.engine.clone(), runtime: self.runtime, confidence_threshold }
    }
}

/// Loads ONNX Runtime. Returns it, the specification of the engine, and a warning for the user.
fn prepare(
    settings: &Settings,
) -> Result<(&'static detect::Runtime, detect::EngineSpec, Option<String>), detect::Error> {
    let spec = settings.to_engine_spec(library_paths::library_dirs_of(FACTORY))?;
    let log_level = match ORT_CAT.threshold() {
        gst::DebugLevel::None | gst::DebugLevel::Error => detect::LogLevel::Error,
        gst::DebugLevel::Log => detect::LogLevel::Info,
        gst::DebugLevel::Trace | gst::DebugLevel::Memdump => detect::LogLevel::Verbose,
        _ => detect::LogLevel::Warning,
    };
    let (runtime, note) = detect::Runtime::load(&detect::RuntimeOptions {
        library: settings.runtime_library.clone(),
        search_dirs: spec.provider_dirs.clone(),
        provider: spec.provider.clone(),
        tuning: spec.tuning.clone(),
        log: Arc::new(log),
        log_level,
    })?;
    Ok((runtime, spec, note))
}

/// Describes ONNX Runtime's version and the providers that these settings would try; loads no model.
pub fn candidates(settings: &Settings) -> Result<String, detect::Error> {
    let (runtime, spec, _) = prepare(settings)?;
    detect::Engine::candidates(runtime, &spec)
}

/// Parses `classes` into class indices; `None` for all.
pub fn classes(labels: &detect::Labels, classes: &str) -> Result<Option<Vec<usize>>, detect::Error> {
    if classes.trim().is_empty() { Ok(None) } else { labels.parse_classes(classes).map(Some) }
}

/// Describes an engine without holding the lock of [`LoadedEngine`].
pub struct EngineReport {
    engine: detect::Engine,
    runtime: &'static detect::Runtime,
    confidence_threshold: f32,
}

impl EngineReport {
    /// Adds the engine's fields to `stats`.
    pub fn describe(&self, stats: gst::structure::Builder) -> gst::structure::Builder {
        let (report, model, engine) = (self.engine.provider(), self.engine.model(), self.engine.stats());
        let mut stats = stats
            .field("model", &model.source)
            .field("layout", model.layout.to_string())
            .field("confidence-threshold", self.confidence_threshold)
            .field("provider", &report.name)
            .field("device", &report.device)
            .field("precision", &report.precision)
            .field("provider-operators", report.operators.on_provider as u32)
            .field("cpu-operators", report.operators.on_cpu as u32)
            .field("rearranged", report.is_rewritten)
            .field("batch-size", report.batch_size as u32)
            .field("sessions", report.sessions as u32)
            .field("intra-op-threads", report.intra_op_threads as u32)
            .field("session-memory", engine.session_memory)
            .field("runtime-version", self.runtime.version())
            .field("runtime-library", self.runtime.library().display().to_string())
            .field("model-loads", engine.model_loads)
            // Without this report's own handle.
            .field("engine-users", engine.users.saturating_sub(1) as u32)
            .field("engine-frames", engine.frames)
            .field("engine-batches", engine.batches);
        stats = match &engine.cache_problem {
            Some(problem) => stats.field("cache", problem),
            None if report.is_known => stats.field("cache", "used"),
            None if report.has_cache => stats.field("cache", "filled"),
            None => stats.field("cache", "none"),
        };
        if let Some(reason) = &engine.refused_size {
            stats = stats.field("refused-input-size", reason);
        }
        if let Some(reason) = report.fallback.as_ref().or(engine.cpu_fallback.as_ref()) {
            stats = stats.field("fallback", reason);
        }
        stats
    }
}

/// Writes a line of ONNX Runtime's log. Its INFO level has hundreds of lines per session.
fn log(level: detect::LogLevel, text: &str) {
    match level {
        detect::LogLevel::Verbose => gst::trace!(ORT_CAT, "{text}"),
        detect::LogLevel::Info => gst::log!(ORT_CAT, "{text}"),
        detect::LogLevel::Warning => gst::warning!(ORT_CAT, "{text}"),
        _ => gst::error!(ORT_CAT, "{text}"),
    }
}
