//! Opening a model's first session on a provider, and finding out what the model is.
//!
//! Owns what is done differently for each provider before the workers start. Blocking: reads, compiles and may run the model.

use std::path::PathBuf;

use super::decode::OutputView;
use super::error::{Error, Result};
use super::heads::Seen;
use super::model::{Batch, Draft, Model, most_images};
#[cfg(feature = "plugin-providers")]
use super::openvino;
use super::plan::Plan;
use super::provider::{Provider, ProviderReport};
use super::runtime::Runtime;
use super::session::{InputTensor, OpenError, Session, Setup, SharedWeights};
use super::source::ModelBytes;
#[cfg(feature = "plugin-providers")]
use super::tensor::Dimension;

/// A model whose first session runs.
pub(super) struct Opened {
    pub model: Model,
    pub session: Session,
    pub setup: Setup,
    /// Lengths of dynamic dimensions, for the other sessions.
    pub overrides: Vec<(String, usize)>,
    pub report: ProviderReport,
}

/// Opens `bytes` on the CPU provider; `fallback` is why, if it was not the first choice.
///
/// # Errors
/// Those of a model that is none, or none that can be read.
pub(super) fn open_cpu(
    runtime: &'static Runtime,
    bytes: &ModelBytes,
    plan: Plan,
    fallback: Option<String>,
) -> Result<Opened> {
    let setup = Setup::Cpu {
        intra_op_threads: plan.intra_op_threads,
        inter_op_threads: plan.inter_op_threads,
        weights: SharedWeights::new(runtime),
    };
    let mut session = Session::open(runtime, bytes, &setup, &[]).map_err(|error| invalid(bytes, error))?;
    let model = understand(bytes, &mut session)?;
    let report = report(Provider::Cpu, "CPUExecutionProvider", "as the model", fallback, plan, &model);
    Ok(Opened { model, session, setup, overrides: Vec::new(), report })
}

/// Opens `bytes` on OpenVINO's plugin provider in `library`.
///
/// # Errors
/// Those of the provider are [`Error::ProviderUnavailable`], so that they can be told from the model's.
#[cfg(feature = "plugin-providers")]
pub(super) fn open_openvino(
    runtime: &'static Runtime,
    bytes: &ModelBytes,
    plan: Plan,
    library: PathBuf,
) -> Result<Opened> {
    let mut inspected = Session::open(runtime, bytes, &Setup::Inspect, &[]).map_err(|error| invalid(bytes, error))?;
    let model = understand(bytes, &mut inspected)?;
    drop(inspected);
    let setup = Setup::OpenVino(openvino::Setup { library, threads: plan.intra_op_threads });
    let overrides = fixed_dimensions(&model, plan.batch_size);
    let unavailable = |reason: String| Error::ProviderUnavailable {
        provider: Provider::OpenVino.to_string(),
        reason: format!("{} does not run on it: {reason}; use the provider cpu", bytes.name),
    };
    let mut session = Session::open(runtime, bytes, &setup, &overrides).map_err(|error| unavailable(error.reason))?;
    // Some operators fail only when they run.
    let images = images_of(model.batch);
    let input = InputTensor::new(images, &model.input);
    session.run(&input, images, &model.read_outputs, |_| {}).map_err(unavailable)?;
    let report = report(Provider::OpenVino, openvino::NAME, openvino::precision(), None, plan, &model);
    Ok(Opened { model, session, setup, overrides, report })
}

#[cfg(not(feature = "plugin-providers"))]
pub(super) fn open_openvino(_: &'static Runtime, _: &ModelBytes, _: Plan, _: PathBuf) -> Result<Opened> {
    let reason = "this build has no plugin providers".to_owned();
    Err(Error::ProviderUnavailable { provider: Provider::OpenVino.to_string(), reason })
}

/// Tells what model a session runs; runs it once on black where it does not declare the shape of its output.
fn understand(bytes: &ModelBytes, session: &mut Session) -> Result<Model> {
    let description = session.describe();
    let every: Vec<usize> = (0..description.outputs.len()).collect();
    let draft = Draft::new(&bytes.name, description)?;
    let seen = match draft.declared.clone() {
        Some(declared) => declared,
        None => {
            let images = images_of(draft.batch);
            let input = InputTensor::new(images, &draft.input);
            let see = |outputs: &[OutputView<'_>]| {
                let seen = outputs.iter().map(|output| Seen {
                    shape: output.shape.to_vec(),
                    largest: output.values.iter().copied().filter(|value| value.is_finite()).reduce(f32::max),
                });
                seen.collect::<Vec<_>>()
            };
            session
                .run(&input, images, &every, see)
                .map_err(|reason| Error::Inference { model: bytes.name.clone(), reason })?
        }
    };
    draft.finish(&seen)
}

fn images_of(batch: Batch) -> usize {
    match batch {
        Batch::Fixed(count) => count,
        Batch::Dynamic => 1,
    }
}

/// Lengths for the dynamic dimensions of the input that have a name; compilers make better code for fixed shapes.
#[cfg(feature = "plugin-providers")]
fn fixed_dimensions(model: &Model, batch_size: usize) -> Vec<(String, usize)> {
    let picture = model.inputs.iter().find(|input| input.name == model.input.name);
    let shape = picture.map_or(&[][..], |input| &input.shape);
    let (width, height) = (model.width, model.height);
    let lengths =
        if model.input.channels_last { [batch_size, height, width, 3] } else { [batch_size, 3, height, width] };
    let dynamic = shape.iter().zip(lengths).enumerate().filter_map(|(axis, (dimension, length))| match dimension {
        // Batches of more than one are not always full.
        Dimension::Dynamic(name) if !name.is_empty() && (axis > 0 || batch_size == 1) => Some((name.clone(), length)),
        _ => None,
    });
    dynamic.collect()
}

fn report(
    provider: Provider,
    name: &str,
    precision: &str,
    fallback: Option<String>,
    plan: Plan,
    model: &Model,
) -> ProviderReport {
    ProviderReport {
        provider,
        name: name.to_owned(),
        device: "CPU".to_owned(),
        precision: precision.to_owned(),
        fallback,
        sessions: plan.sessions,
        intra_op_threads: plan.intra_op_threads,
        inter_op_threads: plan.inter_op_threads,
        batch_size: match model.batch {
            Batch::Fixed(count) => count,
            Batch::Dynamic => plan.batch_size.min(most_images(model.width, model.height)),
        },
    }
}

fn invalid(bytes: &ModelBytes, error: OpenError) -> Error {
    let reason = if error.is_no_model {
        format!("it is no ONNX file, or it is cut short; download or export it again ({})", error.reason)
    } else {
        format!("{}; export it again with an older opset, or use a newer ONNX Runtime", error.reason)
    };
    Error::ModelInvalid { model: bytes.name.clone(), reason }
}
