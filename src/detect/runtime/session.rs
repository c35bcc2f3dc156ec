//! One ONNX Runtime session: opened for a provider, described, run.
//!
//! With `runtime`, `binding`, `cancel` and `accelerator` the only file that calls `ort`; none of its types leave these. A [`Session`] belongs to one thread at a
//! time, because running one is not thread safe.

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
use super::cancel::Cancel;
use super::library::Runtime;
use crate::detect::error::plain_words;
use crate::detect::onnx::declaration::{Declaration, METADATA_KEYS};
use crate::detect::onnx::file::{Form, ModelBytes};
use crate::detect::onnx::input::InputSpec;
use crate::detect::onnx::tensor::OutputView;
use crate::detect::onnx::tensor::{Dimension, ElementType, TensorInfo};

/// Weights in the CPU provider's own order, shared by the sessions of one engine.
#[derive(Debug, Clone)]
pub(crate) struct SharedWeights(PrepackedWeights);

impl SharedWeights {
    pub fn new(_proof_that_it_is_loaded: &'static Runtime) -> Self {
        Self(PrepackedWeights::new())
    }
}

/// ONNX Runtime's name of its own CPU provider.
pub(crate) const CPU_PROVIDER: &str = "CPUExecutionProvider";

/// Why a session was not opened or run where its loading was ended from elsewhere.
const CANCELLED: &str = "its loading was cancelled";

/// What a session runs on.
#[derive(Debug, Clone)]
pub(crate) enum Setup {
    /// Only to see what the model is: quick to open, slow to run.
    Inspect,
    Cpu {
        intra_op_threads: usize,
        inter_op_threads: usize,
        weights: SharedWeights,
        /// The processor core of the worker's own thread, the others' follow; `None` where the system decides.
        first_core: Option<usize>,
    },
    Accelerated(Accelerator),
}

impl Setup {
    /// The same for a worker whose own thread is on `core`.
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
    /// Whether the bytes are no model at all.
    pub is_no_model: bool,
    pub reason: String,
}

impl<R> From<ort::Error<R>> for OpenError {
    fn from(error: ort::Error<R>) -> Self {
        let is_no_model = error.code() == ort::ErrorCode::InvalidProtobuf;
        Self { is_no_model, reason: plain_words(error.message()) }
    }
}

/// A session, what its runs are bound to, and scratch memory for outputs that are no f32.
pub(crate) struct Session {
    inner: ort::session::Session,
    /// Whether it runs the form of the model that the CPU provider is faster with.
    is_rearranged: bool,
    /// Whether the device copies faster from and to memory of its own kind.
    wants_pinned: bool,
    binding: OutputBinding,
    floats: Vec<Vec<f32>>,
    shapes: Vec<SmallVec<[usize; 4]>>,
}

impl Session {
    /// Opens `model`. `overrides` fixes dynamic dimensions by name; with `profile` what runs where is noted in files that
    /// begin with that path, until [`stop_profile`](Self::stop_profile). With `cancel` it can be ended from elsewhere. Gives the
    /// session and what it runs on, where that is not the CPU provider.
    pub fn open(
        runtime: &'static Runtime,
        model: &ModelBytes,
        setup: &Setup,
        overrides: &[(String, usize)],
        profile: Option<&Path>,
        cancel: Option<&Cancel>,
    ) -> Result<(Self, Option<accelerator::Description>), OpenError> {
        let mut builder = ort::session::Session::builder(&runtime.environment)?
            .with_memory_pattern(true)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?;
        for (name, length) in overrides {
            builder = builder.with_dimension_override(name, *length as i64)?;
        }
        if let Some(profile) = profile {
            builder = builder.with_profiling(profile)?;
        }
        let mut runs_on = None;
        let mut builder = match setup {
            // With the least optimisation, which checks an invalid graph before it runs: without any, ONNX Runtime 1.31 lets
            // an exception out of a kernel that must not throw, and ends the process.
            Setup::Inspect => cpu_only(runtime, builder)?
                .with_optimization_level(GraphOptimizationLevel::Level1)?
                .with_prepacking(false)?
                .with_intra_threads(1)?,
            Setup::Cpu { intra_op_threads, inter_op_threads, weights, first_core } => {
                let builder = cpu_only(runtime, builder)?
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
            Setup::Accelerated(accelerator) => {
                let (builder, description) = accelerator.apply(runtime, builder)?;
                runs_on = Some(description);
                builder
            }
        };
        if cancel.is_some_and(|cancel| !cancel.compiles(&builder)) {
            return Err(OpenError { is_no_model: false, reason: CANCELLED.to_owned() });
        }
        let faster = matches!(setup, Setup::Cpu { .. }).then(|| model.for_cpu(runtime.quantised_gain())).flatten();
        let faster = faster.and_then(|bytes| builder.commit_from_memory(bytes).ok());
        let is_rearranged = faster.is_some();
        let inner = match (faster, model.form()) {
            (Some(session), _) => session,
            (None, Form::Memory(bytes)) => builder.commit_from_memory(bytes)?,
            (None, Form::File(path)) => builder.commit_from_file(path)?,
        };
        let wants_pinned =
            matches!(setup, Setup::Accelerated(accelerator) if accelerator.choice.provider.has_pinned_memory());
        let session = Self {
            inner,
            is_rearranged,
            wants_pinned,
            binding: OutputBinding::default(),
            floats: Vec::new(),
            shapes: Vec::new(),
        };
        Ok((session, runs_on))
    }

    /// Whether it runs the form of the model that the CPU provider is faster with.
    pub fn is_rearranged(&self) -> bool {
        self.is_rearranged
    }

    /// Ends the profile and tells how many operators ran on each provider, by ONNX Runtime's name.
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

    /// What the model is, by its own declaration.
    pub fn describe(&self) -> Declaration {
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

    /// Inputs for up to `images` images as `spec` says, filled with black, in the session's order.
    ///
    /// # Errors
    /// ONNX Runtime's words where there is no memory for them.
    pub fn input(&self, images: usize, spec: &InputSpec) -> Result<InputTensor, String> {
        let order: SmallVec<[&str; 4]> = self.inner.inputs().iter().map(ort::value::Outlet::name).collect();
        InputTensor::new(&allocator(&self.inner, self.wants_pinned), images, spec, &order)
            .map_err(|error| words(&error))
    }

    /// The shapes of the outputs do not depend on what is in the pictures, also where the model does not declare them.
    pub fn expect_same_shapes(&mut self) {
        self.binding = OutputBinding::dense();
    }

    /// Runs the first `images` images of `input` once and shows the outputs `wanted` to `read`, in that order; `cancel` ends it.
    ///
    /// # Errors
    /// ONNX Runtime's words, or what is wrong with the outputs; `read` has then not been called.
    pub fn examine<R>(
        &mut self,
        input: &InputTensor,
        images: usize,
        wanted: &[usize],
        cancel: &Cancel,
        mut read: impl FnMut(&[OutputView<'_>]) -> R,
    ) -> Result<R, String> {
        let feeds = input.feeds(images).map_err(|error| words(&error))?;
        // Options that select outputs cannot be shared with the thread that cancels: all are made, and the wanted shown.
        let options = Arc::new(RunOptions::new().map_err(|error| words(&error))?);
        if !cancel.runs(&options) {
            return Err(CANCELLED.to_owned());
        }
        let Self { inner, floats, shapes, .. } = self;
        let outputs = inner.run_with_options(&feeds[..], &*options).map_err(|error| words(&error))?;
        show(&outputs, wanted.iter().copied(), floats, shapes, &mut read)
    }

    /// Runs the first `images` images of `input` and shows the outputs `wanted` to `read`, in that order.
    ///
    /// A run of as many images as there is room for writes its outputs, if their shapes are known, where the last such run
    /// wrote them.
    ///
    /// # Errors
    /// ONNX Runtime's words, or what is wrong with the outputs; `read` has then not been called.
    pub fn run<R>(
        &mut self,
        input: &InputTensor,
        images: usize,
        wanted: &[usize],
        mut read: impl FnMut(&[OutputView<'_>]) -> R,
    ) -> Result<R, String> {
        let is_full = images == input.images();
        let feeds = input.feeds(images).map_err(|error| words(&error))?;
        let Self { inner, binding, floats, shapes, .. } = self;
        binding.choose(inner.outputs(), wanted).map_err(|error| words(&error))?;
        loop {
            let Some((options, is_bound)) = binding.options(images) else {
                return Err("it could not be prepared to run".to_owned());
            };
            let outcome = inner.run_with_options(&feeds[..], options).map_err(|error| words(&error));
            let outcome = outcome.map(|outputs| show(&outputs, 0..outputs.len(), floats, shapes, &mut read));
            match outcome {
                Ok(result) => {
                    if is_full && !is_bound && result.is_ok() {
                        let allocator = allocator(inner, self.wants_pinned);
                        binding.bind(&allocator, inner.outputs(), images, shapes).map_err(|error| words(&error))?;
                    }
                    return result;
                }
                // The model may give another shape than it declares, for which the fixed place is no good.
                Err(_) if is_bound => binding.release(),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Shows all of `outputs` to `read`.
fn show<R>(
    outputs: &SessionOutputs<'_>,
    wanted: impl ExactSizeIterator<Item = usize> + Clone,
    floats: &mut Vec<Vec<f32>>,
    shapes: &mut Vec<SmallVec<[usize; 4]>>,
    read: &mut impl FnMut(&[OutputView<'_>]) -> R,
) -> Result<R, String> {
    floats.resize_with(wanted.len(), Vec::new);
    shapes.clear();
    for (index, floats) in wanted.clone().zip(floats.iter_mut()) {
        let shape = to_floats(&outputs[index], floats).map_err(|error| words(&error))?;
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

/// Of the memory where inputs and outputs of `session` lie.
fn allocator(session: &ort::session::Session, wants_pinned: bool) -> Allocator {
    let pinned = || {
        let info = pinned_memory()?;
        Allocator::new(session, info).ok()
    };
    wants_pinned.then(pinned).flatten().unwrap_or_default()
}

/// Memory that cannot be swapped out. `None` where ort takes it for the device's, as it does with an API before 1.23: it would
/// refuse to write there.
fn pinned_memory() -> Option<MemoryInfo<'static>> {
    let kind = AllocationDevice::CUDA_PINNED;
    let info = MemoryInfo::new(kind, 0, AllocatorType::Device, MemoryType::CPUInput).ok()?;
    info.is_cpu_accessible().then_some(info)
}

fn words(error: &ort::Error) -> String {
    plain_words(error.message())
}

/// Runs sessions of `builder` on ONNX Runtime's own CPU provider.
///
/// Without a provider named, ONNX Runtime gives a session to any plugin provider for the CPU that has been registered in the
/// process, also under the policy "prefer CPU"; so its own device is named where ONNX Runtime lists it (from 1.22 on).
#[cfg(feature = "plugin-providers")]
fn cpu_only(runtime: &Runtime, builder: SessionBuilder) -> Result<SessionBuilder, OpenError> {
    let is_own = |device: &ort::device::Device<'_>| device.ep().is_ok_and(|name| name == CPU_PROVIDER);
    Ok(builder.with_devices(runtime.environment.devices().filter(is_own).take(1), None)?)
}

#[cfg(not(feature = "plugin-providers"))]
fn cpu_only(_: &Runtime, builder: SessionBuilder) -> Result<SessionBuilder, OpenError> {
    Ok(builder)
}

/// The shape of an output; what is no f32 is converted into `floats`.
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

#[cfg(all(test, feature = "plugin-providers"))]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::super::library::RuntimeOptions;
    use super::*;

    #[test]
    fn pinned_memory_is_within_reach_of_the_processor() {
        let search_dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/lib")];
        Runtime::load(&RuntimeOptions { search_dirs, ..RuntimeOptions::default() }).unwrap();
        assert!(pinned_memory().is_some());
    }
}
