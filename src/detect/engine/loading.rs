// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens a model's first session on the first provider that accepts it, and identifies the model.
//!
//! Owns what differs between providers before the workers start. Blocking: reads, compiles and runs the model.

use std::time::Duration;

use super::batches;
use super::plan::{EngineSpec, Plan};
use crate::detect::error::{Error, Result};
use crate::detect::model::description::{Batch, Model, max_images};
use crate::detect::model::identification::identify_model;
use crate::detect::onnx::file::ModelBytes;
use crate::detect::onnx::modelinfo::ModelInfo;
use crate::detect::onnx::tensor::Dimension;
use crate::detect::runtime::accelerator::{Accelerator, SessionDevice};
use crate::detect::runtime::cancel::CancelToken;
use crate::detect::runtime::library::Runtime;
use crate::detect::runtime::provider::{OperatorCounts, Provider, ProviderChoice, ProviderReport};
use crate::detect::runtime::session::{CPU_PROVIDER, OpenError, Session, Setup, SharedWeights};

/// A model with its first session.
pub(super) struct OpenedModel {
    pub model: Model,
    pub session: Session,
    pub setup: Setup,
    /// Lengths of dynamic dimensions, for all sessions.
    pub overrides: Vec<(String, usize)>,
    pub report: ProviderReport,
    pub plan: Plan,
}

/// What is common to all attempts to open a model.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub spec: &'a EngineSpec,
    /// The contents of the `.modelinfo` file beside the model.
    pub info: &'a ModelInfo,
    pub cancel: &'a CancelToken,
}

/// Opens `bytes` on the first of `choices` that accepts it; `modelinfo` is the text of the file beside it.
///
/// # Errors
/// Those of a model that is invalid or not supported; [`Error::ProviderUnavailable`] of the last choice.
pub(super) fn open_first(
    runtime: &'static Runtime,
    bytes: &ModelBytes,
    choices: &[ProviderChoice],
    spec: &EngineSpec,
    modelinfo: &str,
    cancel: &CancelToken,
) -> Result<OpenedModel> {
    let info = ModelInfo::parse(modelinfo).map_err(|reason| Error::Setting {
        setting: ".modelinfo",
        reason: format!("in the file beside {}: {reason}", bytes.name),
    })?;
    let load = Load { spec, info: &info, cancel };
    let mut reasons = Vec::new();
    for (index, choice) in choices.iter().enumerate() {
        let is_last = index + 1 == choices.len();
        let plan = Plan::new(spec, num_cpus::get(), choice.provider.is_device());
        let plan = plan.with_max_sessions(choice.max_sessions());
        let opened = match choice.provider {
            Provider::Cpu => open_cpu(runtime, bytes, load, plan),
            _ => open_accelerated(runtime, bytes, choice, load, plan),
        };
        match opened {
            Err(Error::ProviderUnavailable { provider, reason }) if !is_last => {
                reasons.push(format!("{provider}: {reason}"));
            }
            Ok(mut opened) => {
                if choice.provider == Provider::Cpu && !spec.tuning.is_plain() && reasons.is_empty() {
                    let tuning = "the CPU provider does not support the requested precision or options";
                    reasons.push(format!("no other available provider suits {}; {tuning}", bytes.name));
                }
                opened.report.fallback = (!reasons.is_empty()).then(|| reasons.join("; "));
                let OpenedModel { model, session, report, plan, .. } = &mut opened;
                if model.batch == Batch::Dynamic
                    && report.batch_size > 1
                    && let Some(reason) = batches::batching_fault(&bytes.name, session, model)?
                {
                    (plan.batch_size, report.batch_size) = (1, 1);
                    let note = format!("batch-size is reduced to 1: {reason}");
                    let before = report.fallback.take();
                    report.fallback = Some(before.map_or(note.clone(), |before| format!("{before}; {note}")));
                }
                return Ok(opened);
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::ProviderUnavailable {
        provider: spec.provider.to_string(),
        reason: "there is no provider to try".to_owned(),
    })
}

/// Opens `bytes` on the CPU provider. As an automatic choice it may ignore the requested precision.
fn open_cpu(runtime: &'static Runtime, bytes: &ModelBytes, load: Load<'_>, plan: Plan) -> Result<OpenedModel> {
    let spec = load.spec;
    if !spec.tuning.is_plain() && spec.provider != Provider::Auto {
        let reason =
            "it computes in the model's own number format and has no options; set precision=auto, or use openvino";
        return Err(Error::ProviderUnavailable { provider: Provider::Cpu.to_string(), reason: reason.to_owned() });
    }
    let setup = cpu_setup(runtime, spec, plan);
    let (mut session, _) = Session::open(runtime, bytes, &setup, &[], None, Some(load.cancel))
        .map_err(|error| invalid(runtime, bytes, error))?;
    let model = identify_model(&bytes.name, &mut session, spec.hints, load.info, load.cancel)?;
    let device = SessionDevice { name: CPU_PROVIDER.to_owned(), device: "CPU".to_owned(), precision: "as the model" };
    let mut report = report(Provider::Cpu, device, OperatorCounts::default(), plan, &model);
    report.is_rewritten = session.is_rewritten();
    Ok(OpenedModel { model, session, setup, overrides: Vec::new(), report, plan })
}

/// Returns the setup of sessions on the CPU provider.
pub(crate) fn cpu_setup(runtime: &'static Runtime, spec: &EngineSpec, plan: Plan) -> Setup {
    Setup::Cpu {
        intra_op_threads: plan.intra_op_threads,
        inter_op_threads: plan.inter_op_threads,
        weights: SharedWeights::new(runtime),
        first_core: spec.pin_threads.then_some(0),
    }
}

/// Opens `bytes` on another provider, and checks that it runs there.
///
/// # Errors
/// Those of the provider are [`Error::ProviderUnavailable`], to distinguish them from those of the model.
fn open_accelerated(
    runtime: &'static Runtime,
    bytes: &ModelBytes,
    choice: &ProviderChoice,
    load: Load<'_>,
    plan: Plan,
) -> Result<OpenedModel> {
    let inspected = Session::open(runtime, bytes, &Setup::Inspect, &[], None, Some(load.cancel));
    let (mut inspected, _) = inspected.map_err(|error| invalid(runtime, bytes, error))?;
    let model = identify_model(&bytes.name, &mut inspected, load.spec.hints, load.info, load.cancel)?;
    drop(inspected);
    let unavailable = |reason: String| Error::ProviderUnavailable {
        provider: choice.provider.to_string(),
        reason: format!(
            "{} does not run on it: {reason}; set execution-provider=cpu{}",
            bytes.name,
            if bytes.is_quantised { ", which supports dynamically quantised models" } else { "" }
        ),
    };
    let accelerator =
        Accelerator { choice: choice.clone(), tuning: load.spec.tuning.clone(), threads: plan.intra_op_threads };
    let setup = Setup::Accelerated(accelerator);
    let overrides = fixed_dimensions(&model, plan.batch_size);
    let profile = profile_folder().map_err(|error| unavailable(format!("no temporary folder: {error}")))?;
    let (mut session, device) =
        Session::open(runtime, bytes, &setup, &overrides, Some(&profile.path().join("run")), Some(load.cancel))
            .map_err(|error| unavailable(error.reason))?;
    // Some operators fail only when they run; and a provider that accepts none leaves all of them to the CPU provider.
    let images = model.batch.images();
    let input = session.input(images, &model.input).map_err(unavailable)?;
    session.examine(&input, images, &model.read_outputs, load.cancel, |_| {}).map_err(unavailable)?;
    let operators =
        session.stop_profile().map_err(|error| unavailable(format!("its profile cannot be read: {error}")))?;
    let Some(device) = device else { return Err(unavailable("it did not report its name".to_owned())) };
    let on_cpu = operators.get(CPU_PROVIDER).copied().unwrap_or(0);
    let on_provider = operators.values().sum::<usize>() - on_cpu;
    if on_provider == 0 {
        return Err(unavailable(
            "it supports none of the model's operators; all would run on the CPU provider".to_owned(),
        ));
    }
    let operators = OperatorCounts { on_provider, on_cpu };
    let report = report(choice.provider.clone(), device, operators, plan, &model);
    Ok(OpenedModel { model, session, setup, overrides, report, plan })
}

/// Creates a temporary folder for a profile, and removes old ones that killed processes left behind.
fn profile_folder() -> std::io::Result<tempfile::TempDir> {
    const PREFIX: &str = "vx-profile-";
    const OLD: Duration = Duration::from_secs(3600);
    for entry in std::env::temp_dir().read_dir()?.flatten() {
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) && age().is_some_and(|age| age > OLD) {
            // Other users' folders stay.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    tempfile::Builder::new().prefix(PREFIX).tempdir()
}

/// Returns lengths for the named dynamic dimensions of the input; compilers generate better code for fixed shapes.
pub(super) fn fixed_dimensions(model: &Model, batch_size: usize) -> Vec<(String, usize)> {
    let picture = model.inputs.iter().find(|input| input.name == model.input.name);
    let shape = picture.map_or(&[][..], |input| &input.shape);
    let lengths = model.input.shape(batch_size);
    let dynamic = shape.iter().zip(lengths).enumerate().filter_map(|(axis, (dimension, length))| match dimension {
        // Batches of more than one are not always full.
        Dimension::Dynamic(name) if !name.is_empty() && (axis > 0 || batch_size == 1) => Some((name.clone(), length)),
        _ => None,
    });
    let lengths: Vec<(String, usize)> = dynamic.collect();
    // A name that stands for both height and width can be fixed only if these are equal.
    let is_unique =
        |(name, length): &(String, usize)| lengths.iter().all(|other| other.0 != *name || other.1 == *length);
    lengths.iter().filter(|named| is_unique(named)).cloned().collect()
}

fn report(
    provider: Provider,
    device: SessionDevice,
    operators: OperatorCounts,
    plan: Plan,
    model: &Model,
) -> ProviderReport {
    ProviderReport {
        provider,
        name: device.name,
        device: device.device,
        precision: device.precision.to_owned(),
        fallback: None,
        operators,
        is_rewritten: false,
        sessions: plan.sessions,
        intra_op_threads: plan.intra_op_threads,
        inter_op_threads: plan.inter_op_threads,
        batch_size: match model.batch {
            Batch::Fixed(count) => count,
            Batch::Dynamic => plan.batch_size.min(max_images(model.width, model.height)),
        },
    }
}

fn invalid(runtime: &Runtime, bytes: &ModelBytes, error: OpenError) -> Error {
    let OpenError { is_invalid_model, reason } = error;
    let reason = reason.trim_end_matches('.');
    let lower = reason.to_lowercase();
    let has = |any: &[&str]| any.iter().any(|part| lower.contains(part));
    let version = runtime.version();
    let reason = if is_invalid_model {
        format!("it is not an ONNX file, or it is truncated; download or export it again ({reason})")
    } else if has(&["external data", "cannot get file size"]) {
        format!("its weights are in a separate file, which must be in the same folder ({reason})")
    } else if has(&["is not a registered function/op"]) {
        format!("{reason}: it needs an operator that ONNX Runtime does not support; export it without this operator")
    } else if has(&["inferenceerror", "invalid model", "invalid graph", "not a dag", "type error"]) {
        format!(
            "{reason}: its graph is inconsistent; check it with onnx.checker.check_model, and export it again with another version \
             of the exporter"
        )
    } else if has(&["opset", "ir version", "ir_version", "implementation", "schema"]) {
        let newer =
            if runtime.has_provider(&Provider::OpenVino) { "execution-provider=cpu, which may load a" } else { "a" };
        format!("{reason}; export it again with an older opset, or use {newer} newer ONNX Runtime than {version}")
    } else {
        format!("{reason}; export it again, or use another ONNX Runtime than {version}")
    };
    Error::ModelInvalid { model: bytes.name.clone(), reason }
}
