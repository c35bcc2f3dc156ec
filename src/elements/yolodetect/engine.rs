//! From settings to an engine that is ready to take frames: runtime, model, labels.

use std::sync::Arc;
use std::time::Duration;

use super::imp::{CAT, FACTORY};
use super::scope::Region;
use super::settings::Settings;
use crate::detect;
use crate::elements::detector::Detector;
use crate::elements::log::Category;
use crate::elements::places;

/// ONNX Runtime's own log.
static ORT_CAT: Category = Category::new("vxort", "ONNX Runtime");

/// What the user should know of.
pub enum Note {
    /// How the model is read: it concerns every result.
    Model(String),
    /// What it runs on.
    Setup(String),
}

/// From READY to NULL.
pub struct Ready {
    pub engine: detect::Engine,
    pub labels: Arc<detect::Labels>,
    pub runtime: &'static detect::Runtime,
    pub detect: Arc<detect::DetectSettings>,
    /// `classes`, as numbers.
    classes: Option<Vec<usize>>,
    /// Most frames that the element holds.
    pub max_inflight: usize,
    made_from: Settings,
}

impl Ready {
    /// Loads what `settings` name, and passes what the user should know of to `warn`.
    pub fn new(settings: &Settings, mut warn: impl FnMut(Note)) -> Result<Self, detect::Error> {
        if !settings.region_of_interest.is_empty() {
            settings.region_of_interest.parse::<Region>()?;
        }
        let (runtime, spec, note) = prepare(settings)?;
        note.into_iter().map(Note::Setup).for_each(&mut warn);
        let engine = detect::Engine::acquire(runtime, &spec)?;
        let report = engine.provider();
        if let Some(reason) = &report.fallback {
            warn(Note::Setup(format!("{} is used, not as it was to be: {reason}", report.name)));
        }
        let model = engine.model();
        model.warnings.iter().for_each(|warning| warn(Note::Model(format!("{}: {warning}", model.source))));
        let (labels, note) = detect::Labels::resolve(model, settings.label_file.as_deref())?;
        note.into_iter().map(Note::Model).for_each(&mut warn);
        let classes = classes(&labels, &settings.classes)?;
        gst::info!(
            CAT,
            "{}: {}x{}, {} ({}); {} on {}, {}{}, {} sessions of {} threads, ONNX Runtime {} ({})",
            model.source,
            model.width,
            model.height,
            model.layout,
            model.layout_reason,
            report.name,
            report.device,
            report.precision,
            if report.is_rewritten { " (its bytes rearranged for speed, with the same results)" } else { "" },
            report.sessions,
            report.intra_op_threads,
            runtime.version(),
            runtime.library().display(),
        );
        let automatic = report.sessions * report.batch_size.max(1) * 2 + 1;
        let max_inflight = if settings.max_inflight == 0 { automatic } else { settings.max_inflight as usize };
        let mut ready = Self {
            detect: Arc::default(),
            engine,
            labels: Arc::new(labels),
            runtime,
            classes,
            max_inflight,
            made_from: settings.clone(),
        };
        ready.update(settings);
        Ok(ready)
    }

    /// Whether it is what `settings` ask for.
    pub fn fits(&self, settings: &Settings) -> bool {
        self.made_from == *settings
    }

    /// Takes over the settings that may change at any time; classes that the model does not have are left for the next start.
    pub fn update(&mut self, settings: &Settings) {
        self.made_from = self.made_from.with_changeable_of(settings);
        if self.made_from.classes != settings.classes
            && let Ok(classes) = classes(&self.labels, &settings.classes)
        {
            self.classes = classes;
            self.made_from.classes.clone_from(&settings.classes);
        }
        self.detect = Arc::new(detect::DetectSettings {
            confidence_threshold: settings.confidence_threshold,
            iou_threshold: settings.iou_threshold,
            max_detections: settings.max_detections as usize,
            classes: self.classes.clone(),
            class_agnostic: settings.class_agnostic,
        });
    }

    /// What downstream is told of it.
    pub fn detector(&self) -> Detector {
        let (report, model) = (self.engine.provider(), self.engine.model());
        Detector {
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
        }
    }

    /// What `stats` reports of it.
    pub fn report(&self) -> Report {
        Report { engine: self.engine.clone(), runtime: self.runtime }
    }
}

/// Loads ONNX Runtime; it, what the engine is made from, and what the user should know of.
fn prepare(
    settings: &Settings,
) -> Result<(&'static detect::Runtime, detect::EngineSpec, Option<String>), detect::Error> {
    let provider: detect::Provider = settings.execution_provider.parse()?;
    let tuning = detect::Tuning {
        precision: settings.precision.into(),
        options: detect::Tuning::parse_options(&settings.execution_provider_options)?,
    };
    let size = detect::ModelHints::parse_size(&settings.input_size)?;
    let search_dirs = places::library_dirs_of(FACTORY);
    let log_level = match ORT_CAT.threshold() {
        gst::DebugLevel::None | gst::DebugLevel::Error => detect::LogLevel::Error,
        gst::DebugLevel::Log => detect::LogLevel::Info,
        gst::DebugLevel::Trace | gst::DebugLevel::Memdump => detect::LogLevel::Verbose,
        _ => detect::LogLevel::Warning,
    };
    let (runtime, note) = detect::Runtime::load(&detect::RuntimeOptions {
        library: settings.runtime_library.clone(),
        search_dirs: search_dirs.clone(),
        provider: provider.clone(),
        tuning: tuning.clone(),
        log: Arc::new(log),
        log_level,
    })?;
    let spec = detect::EngineSpec {
        model: settings.model_file.clone().map_or(detect::ModelSource::BuiltIn, detect::ModelSource::File),
        provider,
        sessions: settings.sessions as usize,
        intra_op_threads: settings.intra_op_threads as usize,
        inter_op_threads: settings.inter_op_threads as usize,
        batch_size: settings.batch_size as usize,
        batch_timeout: Duration::from_nanos(settings.batch_timeout),
        optimize_for: settings.optimize_for.into(),
        pin_threads: settings.cpu_affinity,
        tuning,
        hints: detect::ModelHints {
            layout: settings.model_layout.layout(),
            resize_mode: settings.resize_mode.resize_mode(),
            order: settings.channel_order.order(),
            range: settings.input_range.range(),
            filter: settings.resize_filter.into(),
            size,
        },
        memory_limit: settings.memory_limit,
        load_timeout: (settings.load_timeout > 0).then(|| Duration::from_nanos(settings.load_timeout)),
        provider_dirs: search_dirs,
    };
    Ok((runtime, spec, note))
}

/// ONNX Runtime's version and the providers that would be tried with these settings, in words; loads no model.
pub fn candidates(settings: &Settings) -> Result<String, detect::Error> {
    let (runtime, spec, _) = prepare(settings)?;
    detect::Engine::candidates(runtime, &spec)
}

/// `classes` as numbers; `None` for all.
pub fn classes(labels: &detect::Labels, classes: &str) -> Result<Option<Vec<usize>>, detect::Error> {
    if classes.trim().is_empty() { Ok(None) } else { labels.parse_classes(classes).map(Some) }
}

/// An engine to be described while nobody waits for [`Ready`].
pub struct Report {
    engine: detect::Engine,
    runtime: &'static detect::Runtime,
}

impl Report {
    /// Adds the engine's part of `stats`.
    pub fn describe(&self, stats: gst::structure::Builder) -> gst::structure::Builder {
        let (report, model, engine) = (self.engine.provider(), self.engine.model(), self.engine.stats());
        let mut stats = stats
            .field("model", &model.source)
            .field("layout", model.layout.to_string())
            .field("provider", &report.name)
            .field("device", &report.device)
            .field("precision", &report.precision)
            .field("provider-operators", report.operators.on_provider as u32)
            .field("cpu-operators", report.operators.on_cpu as u32)
            .field("rearranged", report.is_rewritten)
            .field("batch-size", report.batch_size as u32)
            .field("sessions", report.sessions as u32)
            .field("intra-op-threads", report.intra_op_threads as u32)
            .field("runtime-version", self.runtime.version())
            .field("runtime-library", self.runtime.library().display().to_string())
            .field("model-loads", engine.model_loads)
            // Without the handle of this report.
            .field("engine-users", engine.users.saturating_sub(1) as u32)
            .field("engine-frames", engine.frames)
            .field("engine-batches", engine.batches);
        if let Some(reason) = report.fallback.as_ref().or(engine.cpu_fallback.as_ref()) {
            stats = stats.field("fallback", reason);
        }
        stats
    }
}

/// What ONNX Runtime calls INFO is hundreds of lines for each session.
fn log(level: detect::LogLevel, text: &str) {
    match level {
        detect::LogLevel::Verbose => gst::trace!(ORT_CAT, "{text}"),
        detect::LogLevel::Info => gst::log!(ORT_CAT, "{text}"),
        detect::LogLevel::Warning => gst::warning!(ORT_CAT, "{text}"),
        _ => gst::error!(ORT_CAT, "{text}"),
    }
}
