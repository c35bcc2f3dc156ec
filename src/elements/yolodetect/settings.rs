// SPDX-License-Identifier: MIT OR Apache-2.0
//! The properties of `vxyolodetect` and their defaults.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use gst::glib;
use gst::prelude::*;

use super::enums::{
    ChannelOrder, InputRange, Meta, ModelLayout, OptimizeFor, Precision, ResizeFilter, ResizeMode, WhenLate,
};
use super::frame_selection::Region;
use crate::detect;

/// `confidence-threshold`: as the model recommends.
const AS_RECOMMENDED: f32 = -1.0;

/// Values of the properties.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub model_file: Option<PathBuf>,
    pub label_file: Option<PathBuf>,
    pub runtime_library: Option<PathBuf>,
    pub confidence_threshold: f32,
    pub iou_threshold: f32,
    pub max_detections: u32,
    pub classes: String,
    pub class_agnostic: bool,
    pub execution_provider: String,
    pub execution_provider_options: String,
    pub precision: Precision,
    pub optimize_for: OptimizeFor,
    pub cpu_affinity: bool,
    pub batch_timeout: u64,
    pub sessions: u32,
    pub intra_op_threads: u32,
    pub inter_op_threads: u32,
    pub batch_size: u32,
    pub max_inflight: u32,
    pub when_late: WhenLate,
    pub post_messages: bool,
    pub model_layout: ModelLayout,
    pub memory_limit: u64,
    pub load_timeout: u64,
    /// `None` for the user's; empty for none.
    pub cache_dir: Option<PathBuf>,
    /// As written; errors are reported when the element starts.
    pub input_size: String,
    pub resize_mode: ResizeMode,
    pub resize_filter: ResizeFilter,
    pub channel_order: ChannelOrder,
    pub input_range: InputRange,
    pub meta: Meta,
    pub inference_interval: u32,
    pub carry_over: bool,
    pub scene_change: f64,
    /// `region-of-interest` as written, and parsed; errors are reported when the element starts.
    pub region_of_interest: String,
    pub region: Option<Region>,
    pub region_type: String,
}

impl Default for Settings {
    fn default() -> Self {
        let detect = detect::DetectSettings::default();
        Self {
            model_file: None,
            label_file: None,
            runtime_library: None,
            confidence_threshold: AS_RECOMMENDED,
            iou_threshold: detect.iou_threshold,
            max_detections: u32::try_from(detect.max_detections).unwrap_or(u32::MAX),
            classes: String::new(),
            class_agnostic: detect.class_agnostic,
            execution_provider: detect::Provider::Auto.to_string(),
            execution_provider_options: String::new(),
            precision: Precision::default(),
            optimize_for: OptimizeFor::default(),
            cpu_affinity: false,
            batch_timeout: 0,
            sessions: 0,
            intra_op_threads: 0,
            inter_op_threads: 0,
            batch_size: 0,
            max_inflight: 0,
            when_late: WhenLate::default(),
            post_messages: false,
            model_layout: ModelLayout::default(),
            memory_limit: 0,
            load_timeout: 0,
            cache_dir: None,
            input_size: "auto".to_owned(),
            resize_mode: ResizeMode::default(),
            resize_filter: ResizeFilter::default(),
            channel_order: ChannelOrder::default(),
            input_range: InputRange::default(),
            meta: Meta::default(),
            inference_interval: 1,
            carry_over: false,
            scene_change: 0.0,
            region_of_interest: String::new(),
            region: None,
            region_type: String::new(),
        }
    }
}

impl Settings {
    /// Returns these settings, with those of `other` that may change at any time; `classes` are not among them.
    pub fn with_changeable_of(&self, other: &Self) -> Self {
        Self {
            meta: other.meta,
            region_of_interest: other.region_of_interest.clone(),
            region: other.region,
            region_type: other.region_type.clone(),
            confidence_threshold: other.confidence_threshold,
            iou_threshold: other.iou_threshold,
            max_detections: other.max_detections,
            class_agnostic: other.class_agnostic,
            inference_interval: other.inference_interval,
            carry_over: other.carry_over,
            when_late: other.when_late,
            scene_change: other.scene_change,
            post_messages: other.post_messages,
            ..self.clone()
        }
    }

    /// Whether an engine that was made from these settings is also the one for `other`.
    pub fn has_engine_of(&self, other: &Self) -> bool {
        let same = Self {
            max_inflight: other.max_inflight,
            load_timeout: other.load_timeout,
            ..self.with_changeable_of(other)
        };
        same == *other
    }

    /// Converts the settings into the specification of an engine, whose provider libraries are in `provider_dirs`.
    ///
    /// # Errors
    /// When a setting cannot be parsed.
    pub fn to_engine_spec(&self, provider_dirs: Vec<PathBuf>) -> Result<detect::EngineSpec, detect::Error> {
        Ok(detect::EngineSpec {
            model: self.model_file.clone().map_or(detect::ModelSource::BuiltIn, detect::ModelSource::File),
            provider: self.execution_provider.parse()?,
            tuning: detect::Tuning {
                precision: self.precision.into(),
                options: detect::Tuning::parse_options(&self.execution_provider_options)?,
            },
            hints: detect::ModelHints {
                layout: self.model_layout.into(),
                resize_mode: self.resize_mode.into(),
                order: self.channel_order.into(),
                range: self.input_range.into(),
                filter: self.resize_filter.into(),
                size: self.input_size.parse()?,
            },
            sessions: self.sessions as usize,
            intra_op_threads: self.intra_op_threads as usize,
            inter_op_threads: self.inter_op_threads as usize,
            batch_size: self.batch_size as usize,
            batch_timeout: Duration::from_nanos(self.batch_timeout),
            optimize_for: self.optimize_for.into(),
            pin_threads: self.cpu_affinity,
            memory_limit: self.memory_limit,
            load_timeout: (self.load_timeout > 0).then(|| Duration::from_nanos(self.load_timeout)),
            provider_dirs,
            cache_dir: match &self.cache_dir {
                Some(folder) => Some(folder.clone()).filter(|folder| !folder.as_os_str().is_empty()),
                None => detect::user_cache(),
            },
        })
    }

    /// Converts the settings for single frames; `classes` as numbers, `None` for all; `recommended` is the model's confidence threshold.
    pub fn to_detect_settings(&self, classes: Option<Vec<usize>>, recommended: Option<f32>) -> detect::DetectSettings {
        let set = Some(self.confidence_threshold).filter(|threshold| *threshold >= 0.0);
        detect::DetectSettings {
            confidence_threshold: set.or(recommended).unwrap_or(detect::DEFAULT_CONFIDENCE),
            iou_threshold: self.iou_threshold,
            max_detections: self.max_detections as usize,
            classes,
            class_agnostic: self.class_agnostic,
        }
    }

    /// Sets a property.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        let fits = "GObject has checked the value against the property's type";
        let path = || value.get::<Option<String>>().expect(fits).filter(|text| !text.is_empty()).map(PathBuf::from);
        let text = || value.get::<Option<String>>().expect(fits).unwrap_or_default();
        match name {
            "model-file" => self.model_file = path(),
            "label-file" => self.label_file = path(),
            "runtime-library" => self.runtime_library = path(),
            "confidence-threshold" => self.confidence_threshold = value.get().expect(fits),
            "iou-threshold" => self.iou_threshold = value.get().expect(fits),
            "max-detections" => self.max_detections = value.get().expect(fits),
            "classes" => self.classes = text(),
            "class-agnostic" => self.class_agnostic = value.get().expect(fits),
            "execution-provider" => self.execution_provider = text(),
            "execution-provider-options" => self.execution_provider_options = text(),
            "precision" => self.precision = value.get().expect(fits),
            "optimize-for" => self.optimize_for = value.get().expect(fits),
            "cpu-affinity" => self.cpu_affinity = value.get().expect(fits),
            "batch-timeout" => self.batch_timeout = value.get().expect(fits),
            "sessions" => self.sessions = value.get().expect(fits),
            "intra-op-threads" => self.intra_op_threads = value.get().expect(fits),
            "inter-op-threads" => self.inter_op_threads = value.get().expect(fits),
            "batch-size" => self.batch_size = value.get().expect(fits),
            "model-layout" => self.model_layout = value.get().expect(fits),
            "memory-limit" => self.memory_limit = value.get().expect(fits),
            "load-timeout" => self.load_timeout = value.get().expect(fits),
            "cache-dir" => self.cache_dir = value.get::<Option<String>>().expect(fits).map(PathBuf::from),
            "input-size" => self.input_size = text(),
            "resize-mode" => self.resize_mode = value.get().expect(fits),
            "resize-filter" => self.resize_filter = value.get().expect(fits),
            "channel-order" => self.channel_order = value.get().expect(fits),
            "input-range" => self.input_range = value.get().expect(fits),
            "inference-interval" => self.inference_interval = value.get().expect(fits),
            "carry-over" => self.carry_over = value.get().expect(fits),
            "scene-change" => self.scene_change = value.get().expect(fits),
            "region-of-interest" => {
                self.region_of_interest = text();
                self.region = self.region_of_interest.parse().ok();
            }
            "region-type" => self.region_type = text(),
            "meta" => self.meta = value.get().expect(fits),
            "max-inflight" => self.max_inflight = value.get().expect(fits),
            "when-late" => self.when_late = value.get().expect(fits),
            "post-messages" => self.post_messages = value.get().expect(fits),
            _ => unreachable!("GObject passes on only properties of the list below"),
        }
    }

    /// Returns a property's value; `None` for those that are not settings.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned()).to_value();
        Some(match name {
            "model-file" => path(&self.model_file),
            "label-file" => path(&self.label_file),
            "runtime-library" => path(&self.runtime_library),
            "confidence-threshold" => self.confidence_threshold.to_value(),
            "iou-threshold" => self.iou_threshold.to_value(),
            "max-detections" => self.max_detections.to_value(),
            "classes" => self.classes.to_value(),
            "class-agnostic" => self.class_agnostic.to_value(),
            "execution-provider" => self.execution_provider.to_value(),
            "execution-provider-options" => self.execution_provider_options.to_value(),
            "precision" => self.precision.to_value(),
            "optimize-for" => self.optimize_for.to_value(),
            "cpu-affinity" => self.cpu_affinity.to_value(),
            "batch-timeout" => self.batch_timeout.to_value(),
            "sessions" => self.sessions.to_value(),
            "intra-op-threads" => self.intra_op_threads.to_value(),
            "inter-op-threads" => self.inter_op_threads.to_value(),
            "batch-size" => self.batch_size.to_value(),
            "model-layout" => self.model_layout.to_value(),
            "memory-limit" => self.memory_limit.to_value(),
            "load-timeout" => self.load_timeout.to_value(),
            "cache-dir" => path(&self.cache_dir),
            "input-size" => self.input_size.to_value(),
            "resize-mode" => self.resize_mode.to_value(),
            "resize-filter" => self.resize_filter.to_value(),
            "channel-order" => self.channel_order.to_value(),
            "input-range" => self.input_range.to_value(),
            "inference-interval" => self.inference_interval.to_value(),
            "carry-over" => self.carry_over.to_value(),
            "scene-change" => self.scene_change.to_value(),
            "region-of-interest" => self.region_of_interest.to_value(),
            "region-type" => self.region_type.to_value(),
            "meta" => self.meta.to_value(),
            "max-inflight" => self.max_inflight.to_value(),
            "when-late" => self.when_late.to_value(),
            "post-messages" => self.post_messages.to_value(),
            _ => return None,
        })
    }
}

/// The properties.
pub static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> =
    LazyLock::new(|| param_specs(gst::PARAM_FLAG_MUTABLE_PLAYING, gst::PARAM_FLAG_CONTROLLABLE));

/// Creates the properties. `live` flags those that this element accepts while it runs, `controllable` those of them that can follow
/// a curve.
pub fn param_specs(live: glib::ParamFlags, controllable: glib::ParamFlags) -> Vec<glib::ParamSpec> {
    let defaults = Settings::default();
    let live = glib::ParamFlags::READWRITE | live;
    let controllable = live | controllable;
    let text = |name, nick, blurb| glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).mutable_ready().build();
    let count = |name, nick, blurb, most: usize| {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        glib::ParamSpecUInt::builder(name).nick(nick).blurb(blurb).maximum(most).mutable_ready().build()
    };
    let share = |name, nick, blurb, default| {
        let spec = glib::ParamSpecFloat::builder(name).nick(nick).blurb(blurb);
        spec.minimum(0.0).maximum(1.0).default_value(default).flags(controllable).build()
    };
    vec![
        text("model-file", "Model file", "ONNX model (default: the built-in person detector)"),
        text(
            "label-file",
            "Label file",
            "Class names, one per line, or an Ultralytics data.yaml (default: the model's own, else COCO's if there are 80)",
        ),
        text(
            "runtime-library",
            "Runtime library",
            "libonnxruntime.so, or its folder (default: ORT_DYLIB_PATH, then beside the plugin, then the system's)",
        ),
        glib::ParamSpecFloat::builder("confidence-threshold")
            .nick("Confidence threshold")
            .blurb("Minimum confidence of a detection, 0 to 1 (-1: as the model recommends in its metadata, else 0.25)")
            .minimum(AS_RECOMMENDED)
            .maximum(1.0)
            .default_value(defaults.confidence_threshold)
            .flags(controllable)
            .build(),
        share(
            "iou-threshold",
            "IoU threshold",
            "Overlap (intersection over union) above which the less confident of two boxes is suppressed",
            defaults.iou_threshold,
        ),
        glib::ParamSpecUInt::builder("max-detections")
            .nick("Maximum detections")
            .blurb("Most detections per frame")
            .default_value(defaults.max_detections)
            .flags(live)
            .build(),
        glib::ParamSpecString::builder("classes")
            .nick("Classes")
            .blurb("Classes to detect: names or numbers, separated by commas (default: all)")
            .flags(live)
            .build(),
        glib::ParamSpecBoolean::builder("class-agnostic")
            .nick("Class agnostic")
            .blurb("Let boxes of different classes suppress each other")
            .default_value(defaults.class_agnostic)
            .flags(live)
            .build(),
        glib::ParamSpecString::builder("execution-provider")
            .nick("Execution provider")
            .blurb(
                "Provider that runs the model: auto (the fastest present), cpu, openvino, cuda, tensorrt, tensorrt-rtx, coreml, \
                 directml, webgpu, or the path of a plugin provider's library",
            )
            .default_value(Some(defaults.execution_provider.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("execution-provider-options")
            .nick("Execution provider options")
            .blurb("Options of the provider, by its own names, as key=value,key=value; device=GPU or NPU for openvino")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<Precision>("precision")
            .nick("Precision")
            .blurb("Number format of computations; one that the provider does not support is an error")
            .default_value(defaults.precision)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<OptimizeFor>("optimize-for")
            .nick("Optimize for")
            .blurb("Goal of automatic numbers of sessions and threads")
            .default_value(defaults.optimize_for)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("cpu-affinity")
            .nick("CPU affinity")
            .blurb("Pin the CPU provider's threads to processor cores")
            .default_value(defaults.cpu_affinity)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("batch-timeout")
            .nick("Batch timeout")
            .blurb("Longest wait of a run for its batch to fill, in nanoseconds (0 = run with the frames present)")
            .default_value(defaults.batch_timeout)
            .mutable_ready()
            .build(),
        count("sessions", "Sessions", "Sessions that run the model in parallel (0 = automatic)", detect::MAX_THREADS),
        count("intra-op-threads", "Intra-op threads", "Threads of each session (0 = automatic)", detect::MAX_THREADS),
        count(
            "inter-op-threads",
            "Inter-op threads",
            "Operators of one session that run in parallel (0 = automatic: 1)",
            detect::MAX_THREADS,
        ),
        count(
            "batch-size",
            "Batch size",
            "Most frames in one run of the model (0 = automatic)",
            detect::MAX_BATCH_SIZE,
        ),
        count(
            "max-inflight",
            "Maximum in flight",
            "Most frames in the element, or with when-late=skip or drop in its model (0 = automatic)",
            1024,
        ),
        glib::ParamSpecEnum::builder::<WhenLate>("when-late")
            .nick("When late")
            .blurb("What happens to frames that the detector has no time for")
            .default_value(defaults.when_late)
            .flags(live)
            .build(),
        glib::ParamSpecBoolean::builder("post-messages")
            .nick("Post messages")
            .blurb("Post an element message `vx-detections` on the bus for each frame on which inference runs")
            .default_value(defaults.post_messages)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("memory-limit")
            .nick("Memory limit")
            .blurb("Reject a model whose weights need more bytes of memory than this (0 = 80 % of the available memory)")
            .default_value(defaults.memory_limit)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("load-timeout")
            .nick("Load timeout")
            .blurb("Fail when loading the model takes longer than this, in nanoseconds (0 = no limit)")
            .default_value(defaults.load_timeout)
            .mutable_ready()
            .build(),
        text(
            "cache-dir",
            "Cache directory",
            "Folder for compiled models, which make later starts faster (default: vx in the user's cache directory; empty = none)",
        ),
        glib::ParamSpecEnum::builder::<ModelLayout>("model-layout")
            .nick("Model layout")
            .blurb("Layout of the model's output, where it cannot be inferred")
            .default_value(defaults.model_layout)
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("input-size")
            .nick("Input size")
            .blurb(
                "Size of the model's input: auto (the smallest that contains the scaled frame), model (as exported), or WIDTHxHEIGHT if \
                 the model leaves its size free",
            )
            .default_value(Some(defaults.input_size.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<ResizeMode>("resize-mode")
            .nick("Resize mode")
            .blurb("How frames are fitted to the model's input")
            .default_value(defaults.resize_mode)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<ResizeFilter>("resize-filter")
            .nick("Resize filter")
            .blurb("Filter used to scale frames to the model's input")
            .default_value(defaults.resize_filter)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<ChannelOrder>("channel-order")
            .nick("Channel order")
            .blurb("Order of the colour planes in the model's input")
            .default_value(defaults.channel_order)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<InputRange>("input-range")
            .nick("Input range")
            .blurb("Values of black and white in the model's input")
            .default_value(defaults.input_range)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("inference-interval")
            .nick("Inference interval")
            .blurb("Run inference on every n-th frame")
            .minimum(1)
            .default_value(defaults.inference_interval)
            .flags(live)
            .build(),
        glib::ParamSpecBoolean::builder("carry-over")
            .nick("Carry over")
            .blurb("Copy detections of the frame before to frames without inference")
            .default_value(defaults.carry_over)
            .flags(live)
            .build(),
        glib::ParamSpecDouble::builder("scene-change")
            .nick("Scene change")
            .blurb(
                "Skip inference on frames that differ from the last one with inference by less than this fraction of white, on average; \
                 they get its detections (0 = skip none)",
            )
            .minimum(0.0)
            .maximum(1.0)
            .default_value(defaults.scene_change)
            .flags(controllable)
            .build(),
        glib::ParamSpecString::builder("region-of-interest")
            .nick("Region of interest")
            .blurb("Part of frames to run inference on: left,top,width,height in pixels, or as fractions of the frame (unset = all)")
            .flags(live)
            .build(),
        glib::ParamSpecString::builder("region-type")
            .nick("Region type")
            .blurb("Run inference inside the region-of-interest metas of this type on incoming frames, * for all types (unset = off)")
            .flags(live)
            .build(),
        glib::ParamSpecEnum::builder::<Meta>("meta")
            .nick("Meta")
            .blurb("Metas to attach to frames")
            .default_value(defaults.meta)
            .flags(live)
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Frames, detections, provider, and times in nanoseconds")
            .read_only()
            .build(),
    ]
}
