//! One ONNX Runtime session: opened for a provider, described, run.
//!
//! With `runtime` the only file that calls `ort`; none of its types leave these two. A [`Session`] belongs to one thread at a
//! time, because running one is not thread safe.

use half::f16;
use half::slice::HalfFloatSliceExt;
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use ort::value::{TensorElementType, TensorRef, ValueType};

use super::decode::OutputView;
use super::model::{Description, METADATA_KEYS};
use super::prepare::SlotMut;
use super::runtime::Runtime;
use super::source::{Content, ModelBytes};
use super::tensor::{Dimension, ElementType, TensorInfo};

/// Weights in the CPU provider's own order, shared by the sessions of one engine.
#[derive(Debug, Clone)]
pub(super) struct SharedWeights(PrepackedWeights);

impl SharedWeights {
    pub fn new(_proof_that_it_is_loaded: &'static Runtime) -> Self {
        Self(PrepackedWeights::new())
    }
}

/// What a session runs on.
#[derive(Debug, Clone)]
pub(super) enum Setup {
    #[cfg(feature = "plugin-providers")]
    /// Only to see what the model is: quick to open, slow to run.
    Inspect,
    Cpu {
        intra_op_threads: usize,
        inter_op_threads: usize,
        weights: SharedWeights,
    },
    #[cfg(feature = "plugin-providers")]
    OpenVino(super::openvino::Setup),
}

/// Why a session could not be opened.
#[derive(Debug)]
pub(super) struct OpenError {
    /// Whether the bytes are no model at all.
    pub is_no_model: bool,
    pub reason: String,
}

impl<R> From<ort::Error<R>> for OpenError {
    fn from(error: ort::Error<R>) -> Self {
        let is_no_model = error.code() == ort::ErrorCode::InvalidProtobuf;
        Self { is_no_model, reason: error.message().to_owned() }
    }
}

/// The model's input for up to as many images as it has room for.
#[derive(Debug)]
pub(super) struct InputTensor {
    values: Values,
    /// Values of one image.
    image: usize,
    width: usize,
    height: usize,
}

#[derive(Debug)]
enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl InputTensor {
    /// Room for `images` images of `width` by `height`, filled with black.
    pub fn new(images: usize, width: usize, height: usize, is_half: bool) -> Self {
        let image = 3 * width * height;
        let values =
            if is_half { Values::F16(vec![f16::ZERO; images * image]) } else { Values::F32(vec![0.0; images * image]) };
        Self { values, image, width, height }
    }

    /// The place of image `index`.
    pub fn slot(&mut self, index: usize) -> SlotMut<'_> {
        let range = index * self.image..(index + 1) * self.image;
        match &mut self.values {
            Values::F32(values) => SlotMut::F32(&mut values[range]),
            Values::F16(values) => SlotMut::F16(&mut values[range]),
        }
    }
}

/// A session and the scratch memory for its output.
pub(super) struct Session {
    inner: ort::session::Session,
    floats: Vec<f32>,
}

impl Session {
    /// Opens `model`. `overrides` fixes dynamic dimensions by name.
    pub fn open(
        runtime: &'static Runtime,
        model: &ModelBytes,
        setup: &Setup,
        overrides: &[(String, usize)],
    ) -> Result<Self, OpenError> {
        let mut builder = ort::session::Session::builder(&runtime.environment)?
            .with_memory_pattern(true)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?;
        for (name, length) in overrides {
            builder = builder.with_dimension_override(name, *length as i64)?;
        }
        builder = match setup {
            #[cfg(feature = "plugin-providers")]
            Setup::Inspect => cpu_only(builder)?
                .with_optimization_level(GraphOptimizationLevel::Disable)?
                .with_prepacking(false)?
                .with_intra_threads(1)?,
            Setup::Cpu { intra_op_threads, inter_op_threads, weights } => cpu_only(builder)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(*intra_op_threads)?
                .with_inter_threads(*inter_op_threads)?
                .with_parallel_execution(*inter_op_threads > 1)?
                .with_prepacked_weights(&weights.0)?,
            #[cfg(feature = "plugin-providers")]
            Setup::OpenVino(setup) => setup.apply(runtime, builder)?,
        };
        let inner = match &model.content {
            Content::Static(bytes) => builder.commit_from_memory(bytes)?,
            Content::Owned(bytes) => builder.commit_from_memory(bytes)?,
            Content::Path(path) => builder.commit_from_file(path)?,
        };
        Ok(Self { inner, floats: Vec::new() })
    }

    /// What the model is, by its own declaration.
    pub fn describe(&self) -> Description {
        let tensors = |outlets: &[ort::value::Outlet]| {
            outlets.iter().map(|outlet| tensor_info(outlet.name(), outlet.dtype())).collect()
        };
        let metadata = self.inner.metadata().ok();
        let metadata = metadata.iter().flat_map(|metadata| {
            METADATA_KEYS.iter().filter_map(|&key| metadata.custom(key).map(|value| (key.to_owned(), value)))
        });
        Description {
            inputs: tensors(self.inner.inputs()),
            outputs: tensors(self.inner.outputs()),
            metadata: metadata.collect(),
        }
    }

    /// Runs the first `images` images of `input` and shows output `output_index` of each to `read`, by index.
    ///
    /// # Errors
    /// ONNX Runtime's words, or what is wrong with the output's shape; `read` has then not been called.
    pub fn run(
        &mut self,
        input: &InputTensor,
        images: usize,
        output_index: usize,
        mut read: impl FnMut(usize, OutputView<'_>),
    ) -> Result<(), String> {
        let shape = [images, 3, input.height, input.width];
        let outputs = match &input.values {
            Values::F32(values) => {
                let tensor = TensorRef::from_array_view((shape, &values[..images * input.image]));
                self.inner.run(ort::inputs![tensor.map_err(|error| error.to_string())?])
            }
            Values::F16(values) => {
                let tensor = TensorRef::from_array_view((shape, &values[..images * input.image]));
                self.inner.run(ort::inputs![tensor.map_err(|error| error.to_string())?])
            }
        }
        .map_err(|error| error.to_string())?;
        let output = outputs.values().nth(output_index).ok_or("it gave fewer outputs than it declares")?;
        let (shape, values) = if let Ok((shape, values)) = output.try_extract_tensor::<f32>() {
            (shape, values)
        } else {
            let (shape, values) = output.try_extract_tensor::<f16>().map_err(|error| error.to_string())?;
            self.floats.resize(values.len(), 0.0);
            values.convert_to_f32_slice(&mut self.floats);
            (shape, &self.floats[..])
        };
        let dimensions: Option<Vec<usize>> = shape.iter().map(|&length| usize::try_from(length).ok()).collect();
        let Some([given, rows, columns]) = dimensions.as_deref() else {
            return Err(format!("its output has the shape {shape:?}, not three dimensions"));
        };
        if *given != images || given * rows * columns != values.len() {
            return Err(format!("its output has the shape {shape:?} for {images} images"));
        }
        for index in 0..images {
            let image = rows * columns;
            read(index, OutputView { rows: *rows, columns: *columns, values: &values[index * image..][..image] });
        }
        Ok(())
    }
}

/// Keeps a plugin provider that another engine has registered from taking this session too.
#[cfg(feature = "plugin-providers")]
fn cpu_only(builder: SessionBuilder) -> Result<SessionBuilder, OpenError> {
    Ok(builder.with_auto_device(ort::session::builder::AutoDevicePolicy::PreferCPU)?)
}

#[cfg(not(feature = "plugin-providers"))]
fn cpu_only(builder: SessionBuilder) -> Result<SessionBuilder, OpenError> {
    Ok(builder)
}

fn tensor_info(name: &str, kind: &ValueType) -> TensorInfo {
    let (element, shape) = match kind {
        ValueType::Tensor { ty, shape, dimension_symbols } => {
            let element = match ty {
                TensorElementType::Float32 => ElementType::F32,
                TensorElementType::Float16 => ElementType::F16,
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
