// SPDX-License-Identifier: MIT OR Apache-2.0
//! One ONNX Runtime session: opens it on a provider, reads its declaration, runs it.
//!
//! Calls `ort`; none of its types leave this module. A [`Session`] is used by one thread at a time, because its runs reuse memory.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use ort::session::{RunOptions, SessionOutputs};
use ort::value::{TensorElementType, ValueType};
use smallvec::SmallVec;

use super::accelerator::{self, Accelerator};
use super::binding::{InputTensor, OutputBinding};
use super::cancel::CancelToken;
use super::library::Runtime;
use crate::detect::cache::{CacheKey, ModelCache};
use crate::detect::error::without_source_location;
use crate::detect::onnx::declaration::{Declaration, METADATA_KEYS};
use crate::detect::onnx::file::{LoadFrom, ModelBytes, read_regular};
use crate::detect::onnx::input::InputSpec;
use crate::detect::onnx::tensor::OutputView;
use crate::detect::onnx::tensor::{Dimension, ElementType, TensorInfo};

/// Prepacked weights of the CPU provider, shared by the sessions of one engine.
#[derive(Debug, Clone)]
pub(crate) struct SharedWeights(PrepackedWeights);

impl SharedWeights {
    pub fn new(_loaded: &'static Runtime) -> Self {
        Self(PrepackedWeights::new())
    }
}

/// ONNX Runtime's name of its own CPU provider.
pub(crate) const CPU_PROVIDER: &str = "CPUExecutionProvider";

/// The reason for a session that is not opened or run because loading was cancelled.
const CANCELLED: &str = "its loading was cancelled";

/// How a session is opened.
#[derive(Debug, Clone)]
pub(crate) enum Setup {
    /// To identify the model only: fast to open, slow to run.
    Inspect,
    Cpu {
        intra_op_threads: usize,
        inter_op_threads: usize,
        weights: SharedWeights,
        /// The processor core of the worker's own thread, followed by those of the other threads; `None` to let the system decide.
        first_core: Option<usize>,
    },
    Accelerated(Accelerator),
}

impl Setup {
    /// Returns the setup for a worker whose own thread is pinned to `core`.
    pub fn for_core(&self, core: Option<usize>) -> Self {
        let mut setup = self.clone();
        if let Self::Cpu { first_core, .. } = &mut setup {
            *first_core = core;
        }
        setup
    }
}

/// Why a session could not be opened.
#[derive(Debug)]
pub(crate) struct OpenError {
    /// Whether the bytes are not a model.
    pub is_invalid_model: bool,
    pub reason: String,
}

impl<R> From<ort::Error<R>> for OpenError {
    fn from(error: ort::Error<R>) -> Self {
        let is_invalid_model = error.code() == ort::ErrorCode::InvalidProtobuf;
        Self { is_invalid_model, reason: without_source_location(error.message()) }
    }
}

/// A session, its output binding, and memory for outputs that are not f32.
pub(crate) struct Session {
    inner: ort::session::Session,
    /// Whether it runs the model as rewritten for the CPU provider.
    is_rewritten: bool,
    /// Whether the device copies faster from and to pinned memory.
    wants_pinned: bool,
    binding: OutputBinding,
    floats: Vec<Vec<f32>>,
    shapes: Vec<SmallVec<[usize; 4]>>,
}

impl Session {
    /// Opens `model`. `overrides` fixes dynamic dimensions by name. With `profile`, a profile is written to a file that starts with
    /// that path, until [`stop_profile`](Self::stop_profile). `cancel` stops the opening. Returns the session and what it runs on,
    /// unless that is the CPU provider.
    pub fn open(
        runtime: &'static Runtime,
        model: &ModelBytes,
        setup: &Setup,
        overrides: &[(String, usize)],
        profile: Option<&Path>,
        cancel: Option<&CancelToken>,
    ) -> Result<(Self, Option<accelerator::SessionDevice>), OpenError> {
        let opening = Opening { runtime, model, setup, overrides, profile, cancel };
        let (inner, runs_on, is_rewritten) = match setup {
            Setup::Accelerated(accelerator) => {
                let (inner, device) = opening.accelerated(accelerator)?;
                (inner, Some(device), false)
            }
            _ => {
                let (inner, is_rewritten) = opening.on_cpu()?;
                (inner, None, is_rewritten)
            }
        };
        let wants_pinned =
            matches!(setup, Setup::Accelerated(accelerator) if accelerator.choice.provider.has_pinned_memory());
        let session = Self {
            inner,
            is_rewritten,
            wants_pinned,
            binding: OutputBinding::default(),
            floats: Vec::new(),
            shapes: Vec::new(),
        };
        Ok((session, runs_on))
    }

    /// Whether it runs the model as rewritten for the CPU provider.
    pub fn is_rewritten(&self) -> bool {
        self.is_rewritten
    }

    /// Stops the profile. Returns how many operators ran on each provider, by ONNX Runtime's name.
    pub fn stop_profile(&mut self) -> Result<HashMap<String, usize>, String> {
        #[derive(serde::Deserialize)]
        struct Event {
            #[serde(default)]
            name: String,
            #[serde(default)]
            args: HashMap<String, serde_json::Value>,
        }
        let path = self.inner.end_profiling().map_err(|error| error.to_string())?;
        let text = std::fs::read(path).map_err(|error| error.to_string())?;
        let events: Vec<Event> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let mut operators = HashMap::<String, HashSet<String>>::new();
        for Event { name, mut args } in events {
            if let Some(serde_json::Value::String(provider)) = args.remove("provider") {
                operators.entry(provider).or_default().insert(name);
            }
        }
        Ok(operators.into_iter().map(|(provider, names)| (provider, names.len())).collect())
    }

    /// Returns the declaration of the model: inputs, outputs and metadata.
    pub fn declaration(&self) -> Declaration {
        let tensors = |outlets: &[ort::value::Outlet]| {
            outlets.iter().map(|outlet| tensor_info(outlet.name(), outlet.dtype())).collect()
        };
        let metadata = self.inner.metadata().ok();
        let metadata = metadata.iter().flat_map(|metadata| {
            METADATA_KEYS.iter().filter_map(|&key| metadata.custom(key).map(|value| (key.to_owned(), value)))
        });
        Declaration {
            inputs: tensors(self.inner.inputs()),
            outputs: tensors(self.inner.outputs()),
            metadata: metadata.collect(),
        }
    }

    /// Allocates inputs for up to `images` images, filled with black.
    ///
    /// # Errors
    /// ONNX Runtime's message if there is not enough memory.
    pub fn input(&self, images: usize, spec: &InputSpec) -> Result<InputTensor, String> {
        let order: SmallVec<[&str; 4]> = self.inner.inputs().iter().map(ort::value::Outlet::name).collect();
        InputTensor::new(&allocator(&self.inner, self.wants_pinned), images, spec, &order)
            .map_err(|error| message(&error))
    }

    /// States that output shapes do not depend on the contents of pictures, even if the model does not declare them.
    pub fn expect_same_shapes(&mut self) {
        self.binding = OutputBinding::dense();
    }

    /// Runs the first `images` images of `input` once and passes the outputs `wanted` to `read`, in that order; `cancel` stops the
    /// run.
    ///
    /// # Errors
    /// ONNX Runtime's message, or what is wrong with the outputs; `read` is not called then.
    pub fn examine<R>(
        &mut self,
        input: &InputTensor,
        images: usize,
        wanted: &[usize],
        cancel: &CancelToken,
        mut read: impl FnMut(&[OutputView<'_>]) -> R,
    ) -> Result<R, String> {
        let feeds = input.feeds(images).map_err(|error| message(&error))?;
        // Options that select outputs cannot be shared with the cancelling thread: the run computes all outputs.
        let options = Arc::new(RunOptions::new().map_err(|error| message(&error))?);
        if !cancel.start_run(&options) {
            return Err(CANCELLED.to_owned());
        }
        let Self { inner, floats, shapes, .. } = self;
        let outputs = inner.run_with_options(&feeds[..], &*options).map_err(|error| message(&error))?;
        read_outputs(&outputs, wanted.iter().copied(), floats, shapes, &mut read)
    }

    /// Runs the first `images` images of `input` and passes the outputs `wanted` to `read`, in that order.
    ///
    /// Runs of a full batch reuse the memory of their outputs, if the shapes are known.
    ///
    /// # Errors
    /// ONNX Runtime's message, or what is wrong with the outputs; `read` is not called then.
    pub fn run<R>(
        &mut self,
        input: &InputTensor,
        images: usize,
        wanted: &[usize],
        mut read: impl FnMut(&[OutputView<'_>]) -> R,
    ) -> Result<R, String> {
        let is_full = images == input.images();
        let feeds = input.feeds(images).map_err(|error| message(&error))?;
        let Self { inner, binding, floats, shapes, .. } = self;
        binding.choose(inner.outputs(), wanted).map_err(|error| message(&error))?;
        loop {
            let Some((options, is_bound)) = binding.options(images) else {
                return Err("its outputs are not bound".to_owned());
            };
            let outcome = inner.run_with_options(&feeds[..], options).map_err(|error| message(&error));
            let outcome = outcome.map(|outputs| read_outputs(&outputs, 0..outputs.len(), floats, shapes, &mut read));
            match outcome {
                Ok(result) => {
                    if is_full && !is_bound && result.is_ok() {
                        let allocator = allocator(inner, self.wants_pinned);
                        binding.bind(&allocator, inner.outputs(), images, shapes).map_err(|error| message(&error))?;
                    }
                    return result;
                }
                // The model may return another shape than it declares, which does not fit the preallocated output.
                Err(_) if is_bound => binding.release(),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Largest model whose compiled form is kept: ONNX Runtime writes it as one protobuf message, which is limited to 2 GiB.
const MAX_KEPT_MODEL: usize = 512 << 20;

/// The arguments of [`Session::open`].
struct Opening<'a> {
    runtime: &'static Runtime,
    model: &'a ModelBytes,
    setup: &'a Setup,
    overrides: &'a [(String, usize)],
    profile: Option<&'a Path>,
    cancel: Option<&'a CancelToken>,
}

impl Opening<'_> {
    /// Returns a builder with what is common to all providers.
    fn builder(&self) -> Result<SessionBuilder, OpenError> {
        let mut builder = ort::session::Session::builder(&self.runtime.environment)?
            .with_memory_pattern(true)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?;
        for (name, length) in self.overrides {
            builder = builder.with_dimension_override(name, *length as i64)?;
        }
        if let Some(profile) = self.profile {
            builder = builder.with_profiling(profile)?;
        }
        Ok(builder)
    }

    /// Registers that `builder` is about to compile a session.
    fn start_compiling(&self, builder: &SessionBuilder) -> Result<(), OpenError> {
        match self.cancel {
            Some(cancel) if !cancel.start_compiling(builder) => {
                Err(OpenError { is_invalid_model: false, reason: CANCELLED.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Creates a session of the model's own bytes.
    fn commit(&self, mut builder: SessionBuilder) -> Result<ort::session::Session, OpenError> {
        self.start_compiling(&builder)?;
        Ok(match self.model.load_from() {
            LoadFrom::Memory(bytes) => builder.commit_from_memory(bytes)?,
            LoadFrom::File(path) => builder.commit_from_file(path)?,
        })
    }

    /// Opens a session on the CPU provider. Returns whether it runs the model as rewritten for it.
    fn on_cpu(&self) -> Result<(ort::session::Session, bool), OpenError> {
        let builder = cpu_only(self.runtime, self.builder()?)?;
        let mut builder = match self.setup {
            Setup::Cpu { intra_op_threads, inter_op_threads, weights, first_core } => {
                let builder = builder
                    .with_optimization_level(GraphOptimizationLevel::All)?
                    .with_intra_threads(*intra_op_threads)?
                    .with_inter_threads(*inter_op_threads)?
                    .with_parallel_execution(*inter_op_threads > 1)?
                    .with_prepacked_weights(&weights.0)?;
                match first_core {
                    // The first thread is the worker's own; ONNX Runtime counts cores from 1.
                    Some(first) if *intra_op_threads > 1 => {
                        let cores = (1..*intra_op_threads).map(|thread| (first + thread + 1).to_string());
                        let cores = cores.collect::<Vec<_>>().join(";");
                        builder.with_config_entry("session.intra_op_thread_affinities", cores)?
                    }
                    _ => builder,
                }
            }
            // The lowest optimisation level rejects an invalid graph before it runs: without any, an exception escapes from a
            // noexcept kernel of ONNX Runtime 1.31, which aborts the process.
            _ => builder
                .with_optimization_level(GraphOptimizationLevel::Level1)?
                .with_prepacking(false)?
                .with_intra_threads(1)?,
        };
        self.start_compiling(&builder)?;
        let may_rewrite = matches!(self.setup, Setup::Cpu { .. });
        let faster = may_rewrite.then(|| self.model.for_cpu(self.runtime.kernel_preference())).flatten();
        match faster.and_then(|bytes| builder.commit_from_memory(bytes).ok()) {
            Some(session) => Ok((session, true)),
            None => Ok((self.commit(builder)?, false)),
        }
    }

    /// Opens a session on another provider: from the cache if it holds the compiled model; otherwise compiles it, and keeps it there.
    fn accelerated(
        &self,
        accelerator: &Accelerator,
    ) -> Result<(ort::session::Session, accelerator::SessionDevice), OpenError> {
        let Some((cache, key)) = self.compiled_key(accelerator) else { return self.compile(accelerator, None) };
        if let Some(compiled) = cache.get(&key) {
            let (mut builder, device) = accelerator.apply(self.runtime, self.builder()?)?;
            self.start_compiling(&builder)?;
            match builder.commit_from_memory(&compiled) {
                Ok(session) => return Ok((session, device)),
                // The provider rejects it.
                Err(_) => cache.remove(&key),
            }
        }
        let Ok(folder) = cache.temporary().inspect_err(|error| cache.report(error)) else {
            return self.compile(accelerator, None);
        };
        let file = folder.path().join("model.onnx");
        match self.compile(accelerator, Some(&file)) {
            Ok(compiled) => {
                // A provider that supports none of the operators writes no file.
                if let Ok(bytes) = read_regular(&file) {
                    cache.put(&key, &bytes);
                }
                Ok(compiled)
            }
            Err(error) if self.cancel.is_some_and(CancelToken::is_cancelled) => Err(error),
            // The folder may be full.
            Err(_) => self.compile(accelerator, None),
        }
    }

    /// Returns the cache and the key of the compiled model in it, if it is to be kept.
    fn compiled_key<'b>(&self, accelerator: &'b Accelerator) -> Option<(&'b ModelCache, CacheKey)> {
        let cache = accelerator.cache.as_ref()?;
        let LoadFrom::Memory(bytes) = self.model.load_from() else { return None };
        let key = accelerator.compiled_key(self.runtime).filter(|_| bytes.len() <= MAX_KEPT_MODEL)?;
        let key = key.with(self.model.digest()?.as_bytes()).with(format!("{:?}", self.overrides));
        Some((cache, key))
    }

    /// Compiles the model, and writes the compiled model to `file`.
    fn compile(
        &self,
        accelerator: &Accelerator,
        file: Option<&Path>,
    ) -> Result<(ort::session::Session, accelerator::SessionDevice), OpenError> {
        let (mut builder, device) = accelerator.apply(self.runtime, self.builder()?)?;
        if let Some(file) = file {
            // onnxruntime_session_options_config_keys.h: the compiled model with the provider's own data inside.
            builder = builder
                .with_config_entry("ep.context_enable", "1")?
                .with_config_entry("ep.context_embed_mode", "1")?
                .with_config_entry("ep.context_file_path", file.to_string_lossy())?;
        }
        Ok((self.commit(builder)?, device))
    }
}

/// Converts the outputs `wanted` to f32 views and passes them to `read`.
fn read_outputs<R>(
    outputs: &SessionOutputs<'_>,
    wanted: impl ExactSizeIterator<Item = usize> + Clone,
    floats: &mut Vec<Vec<f32>>,
    shapes: &mut Vec<SmallVec<[usize; 4]>>,
    read: &mut impl FnMut(&[OutputView<'_>]) -> R,
) -> Result<R, String> {
    floats.resize_with(wanted.len(), Vec::new);
    shapes.clear();
    for (index, floats) in wanted.clone().zip(floats.iter_mut()) {
        let shape = to_floats(&outputs[index], floats).map_err(|error| message(&error))?;
        let lengths = shape.iter().map(|&length| usize::try_from(length));
        let lengths = lengths.collect::<Result<SmallVec<_>, _>>();
        shapes.push(lengths.map_err(|_| format!("an output has the shape {shape:?}"))?);
    }
    let mut views = SmallVec::<[OutputView<'_>; 4]>::new();
    for (index, (floats, shape)) in wanted.zip(floats.iter().zip(shapes.iter())) {
        let values = outputs[index].try_extract_tensor::<f32>().map_or(&floats[..], |(_, values)| values);
        if shape.iter().product::<usize>() != values.len() {
            return Err(format!("an output has the shape {shape:?} and {} values", values.len()));
        }
        views.push(OutputView { shape, values });
    }
    Ok(read(&views))
}

/// Returns the allocator for inputs and outputs of `session`.
fn allocator(session: &ort::session::Session, wants_pinned: bool) -> Allocator {
    let pinned = || {
        let info = pinned_memory()?;
        Allocator::new(session, info).ok()
    };
    wants_pinned.then(pinned).flatten().unwrap_or_default()
}

/// Returns pinned memory. `None` if ort considers it device memory, as it does with an API before 1.23: it would refuse to write to
/// it.
fn pinned_memory() -> Option<MemoryInfo<'static>> {
    let kind = AllocationDevice::CUDA_PINNED;
    let info = MemoryInfo::new(kind, 0, AllocatorType::Device, MemoryType::CPUInput).ok()?;
    info.is_cpu_accessible().then_some(info)
}

fn message(error: &ort::Error) -> String {
    without_source_location(error.message())
}

/// Restricts sessions of `builder` to ONNX Runtime's own CPU provider.
///
/// Without an explicit device, ONNX Runtime uses any plugin provider for the CPU that is registered in the process, even with the
/// policy "prefer CPU"; so its own device is selected, if ONNX Runtime lists it (from 1.22 on).
#[cfg(feature = "plugin-providers")]
fn cpu_only(runtime: &Runtime, builder: SessionBuilder) -> Result<SessionBuilder, OpenError> {
    let is_own = |device: &ort::device::Device<'_>| device.ep().is_ok_and(|name| name == CPU_PROVIDER);
    Ok(builder.with_devices(runtime.environment.devices().filter(is_own).take(1), None)?)
}

#[cfg(not(feature = "plugin-providers"))]
fn cpu_only(_: &Runtime, builder: SessionBuilder) -> Result<SessionBuilder, OpenError> {
    Ok(builder)
}

/// Returns the shape of an output, and converts values of other types than f32 into `floats`.
fn to_floats<'a>(output: &'a ort::value::DynValue, floats: &mut Vec<f32>) -> ort::Result<&'a ort::value::Shape> {
    if let Ok((shape, _)) = output.try_extract_tensor::<f32>() {
        return Ok(shape);
    }
    if let Ok((shape, values)) = output.try_extract_tensor::<f16>() {
        floats.resize(values.len(), 0.0);
        values.convert_to_f32_slice(floats);
        return Ok(shape);
    }
    floats.clear();
    if let Ok((shape, values)) = output.try_extract_tensor::<f64>() {
        floats.extend(values.iter().map(|&value| value as f32));
        return Ok(shape);
    }
    if let Ok((shape, values)) = output.try_extract_tensor::<u8>() {
        floats.extend(values.iter().map(|&value| f32::from(value)));
        return Ok(shape);
    }
    if let Ok((shape, values)) = output.try_extract_tensor::<i64>() {
        floats.extend(values.iter().map(|&value| value as f32));
        return Ok(shape);
    }
    let (shape, values) = output.try_extract_tensor::<i32>()?;
    floats.extend(values.iter().map(|&value| value as f32));
    Ok(shape)
}

fn tensor_info(name: &str, kind: &ValueType) -> TensorInfo {
    let (element, shape) = match kind {
        ValueType::Tensor { ty, shape, dimension_symbols } => {
            let element = match ty {
                TensorElementType::Float32 => ElementType::F32,
                TensorElementType::Float16 => ElementType::F16,
                TensorElementType::Float64 => ElementType::F64,
                TensorElementType::Uint8 => ElementType::U8,
                TensorElementType::Int32 => ElementType::I32,
                TensorElementType::Int64 => ElementType::I64,
                other => ElementType::Other(other.to_string()),
            };
            let shape = shape.iter().zip(0..).map(|(&length, index)| {
                usize::try_from(length).map_or_else(
                    |_| Dimension::Dynamic(dimension_symbols.get(index).cloned().unwrap_or_default()),
                    Dimension::Fixed,
                )
            });
            (element, shape.collect())
        }
        other => (ElementType::Other(other.to_string()), Vec::new()),
    };
    TensorInfo { name: name.to_owned(), element, shape }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::super::library::RuntimeOptions;
    use super::super::provider::{Provider, ProviderChoice, Tuning};
    use super::*;
    use crate::detect::onnx::file::ModelSource;

    #[test]
    #[cfg(feature = "plugin-providers")]
    fn pinned_memory_is_accessible_to_the_processor() {
        let search_dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/lib")];
        Runtime::load(&RuntimeOptions { search_dirs, ..RuntimeOptions::default() }).unwrap();
        assert!(pinned_memory().is_some());
    }

    #[test]
    fn the_compiled_form_of_a_long_model_is_not_kept() {
        let search_dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/lib")];
        let (runtime, _) = Runtime::load(&RuntimeOptions { search_dirs, ..RuntimeOptions::default() }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let choice = ProviderChoice { provider: Provider::OpenVino, library: Some("/nowhere/openvino.so".into()) };
        let cache = Some(ModelCache::open(folder.path()).unwrap());
        let accelerator = Accelerator { choice, tuning: Tuning::default(), threads: 1, cache };
        let setup = Setup::Accelerated(accelerator.clone());
        let model = ModelSource::BuiltIn.read(None).unwrap();
        // Never read: the memory of zeros is not touched.
        let long = model.rewritten(vec![0; MAX_KEPT_MODEL + 1]);
        for (model, is_kept) in [(&model, true), (&long, false)] {
            let opening = Opening { runtime, model, setup: &setup, overrides: &[], profile: None, cancel: None };
            assert_eq!(opening.compiled_key(&accelerator).is_some(), is_kept);
        }
    }
}
