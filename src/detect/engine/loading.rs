// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens a model's first session on the first provider that accepts it, and identifies the model.
//!
//! Owns what differs between providers before the workers start. Blocking: reads, compiles and runs the model.

use std::sync::Arc;
use std::time::Duration;

use super::batches;
use super::findings::{Findings, FindingsStore, Verdicts};
use super::plan::{EngineSpec, ThreadPlan};
use super::sizes::{Size, SizedModel};
use crate::detect::cache::ModelCache;
use crate::detect::error::{Error, Result};
use crate::detect::model::description::{Batch, Model, max_images};
use crate::detect::model::identification::{identify_known, identify_model};
use crate::detect::onnx::file::ModelBytes;
use crate::detect::onnx::modelinfo::ModelInfo;
use crate::detect::onnx::tensor::Dimension;
use crate::detect::runtime::accelerator::Accelerator;
use crate::detect::runtime::cancel::CancelToken;
use crate::detect::runtime::library::Runtime;
use crate::detect::runtime::provider::{OperatorCounts, Provider, ProviderChoice, ProviderReport};
use crate::detect::runtime::session::{CPU_PROVIDER, OpenError, Session, Setup, SharedWeights};

/// A model with its first session.
pub(super) struct OpenedModel {
    pub model: Model,
    /// `None` if an earlier start found out everything that a session is needed for.
    pub session: Option<Session>,
    /// The input size of `session`.
    pub size: Size,
    pub setup: Setup,
    /// Lengths of dynamic dimensions, for all sessions.
    pub overrides: Vec<(String, usize)>,
    pub report: ProviderReport,
    pub plan: ThreadPlan,
    /// Whether the model may run at other input sizes, as far as earlier starts found out.
    pub verdicts: Option<Verdicts>,
}

/// What is common to all attempts to open a model.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub spec: &'a EngineSpec,
    /// The contents of the `.modelinfo` file beside the model.
    pub info: &'a ModelInfo,
    pub cancel: &'a CancelToken,
    /// Where findings and compiled models are kept.
    pub cache: Option<&'a ModelCache>,
}

/// Opens `bytes` on the first of `choices` that accepts it; `modelinfo` is the text of the file beside it.
///
/// # Errors
/// Those of a model that is invalid or not supported; [`Error::ProviderUnavailable`] of the last choice.
pub(super) fn open_first(
    runtime: &'static Runtime,
    bytes: &Arc<ModelBytes>,
    choices: &[ProviderChoice],
    spec: &EngineSpec,
    modelinfo: &str,
    cancel: &CancelToken,
    cache: Option<&ModelCache>,
) -> Result<OpenedModel> {
    let info = ModelInfo::parse(modelinfo).map_err(|reason| Error::Setting {
        setting: ".modelinfo",
        reason: format!("in the file beside {}: {reason}", bytes.name),
    })?;
    let load = Load { spec, info: &info, cancel, cache };
    let mut reasons = Vec::new();
    for (index, choice) in choices.iter().enumerate() {
        let is_last = index + 1 == choices.len();
        let plan = ThreadPlan::new(spec, num_cpus::get(), choice.provider.is_device());
        let plan = plan.with_max_sessions(choice.max_sessions());
        let store = cache.and_then(|cache| {
            let hints = format!("{:?} {modelinfo}", spec.hints);
            FindingsStore::new(cache, runtime, bytes, &accelerator(choice, load, plan), plan, &hints)
        });
        let known = store.as_ref().and_then(|store| open_known(runtime, bytes, choice, load, plan, store));
        let opened = match (known, &choice.provider) {
            (Some(known), _) => Ok(known),
            (None, Provider::Cpu) => open_cpu(runtime, bytes, load, plan),
            (None, _) => open_accelerated(runtime, bytes, choice, load, plan),
        };
        match opened {
            Err(Error::ProviderUnavailable { provider, reason }) if !is_last => {
                reasons.push(format!("{provider}: {reason}"));
            }
            Ok((mut opened, mut findings)) => {
                if choice.provider == Provider::Cpu && !spec.tuning.is_plain() && reasons.is_empty() {
                    let tuning = "the CPU provider does not support the requested precision or options";
                    reasons.push(format!("no other available provider suits {}; {tuning}", bytes.name));
                }
                opened.report.fallback = (!reasons.is_empty()).then(|| reasons.join("; "));
                let OpenedModel { model, session, report, plan, .. } = &mut opened;
                if let Some(session) = session.as_mut().filter(|_| !report.is_known) {
                    if model.batch == Batch::Dynamic && report.batch_size > 1 {
                        findings.batching_fault = batches::batching_fault(&bytes.name, session, model)?;
                    }
                    // They must describe this very model.
                    let again = known_model(bytes, load, &findings);
                    if let Some(store) = store.as_ref()
                        && again.is_some_and(|again| format!("{again:?}") == format!("{model:?}"))
                    {
                        store.put(&findings);
                    }
                }
                if let Some(reason) = findings.batching_fault {
                    (plan.batch_size, report.batch_size) = (1, 1);
                    let note = format!("batch-size is reduced to 1: {reason}");
                    let before = report.fallback.take();
                    report.fallback = Some(before.map_or(note.clone(), |before| format!("{before}; {note}")));
                }
                opened.report.has_cache = store.is_some();
                opened.verdicts = store.map(|store| store.verdicts(&opened.model));
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

/// Prepares `bytes` for `choice` as the findings of an earlier start in `store` describe it; `None` if that is not possible. On the CPU
/// provider without a session: workers open those that the frames need. On others with one for the input size of the last start.
fn open_known(
    runtime: &'static Runtime,
    bytes: &Arc<ModelBytes>,
    choice: &ProviderChoice,
    load: Load<'_>,
    plan: ThreadPlan,
    store: &FindingsStore,
) -> Option<(OpenedModel, Findings)> {
    // Others may take minutes to open a session, or fail only then: that has to happen before the first frame.
    if !matches!(choice.provider, Provider::Cpu | Provider::OpenVino) {
        return None;
    }
    let spec = load.spec;
    let findings = store.get()?;
    let model = known_model(bytes, load, &findings)?;
    let (setup, overrides) = if choice.provider == Provider::Cpu {
        if !supports_tuning(spec) {
            return None;
        }
        (cpu_setup(runtime, spec, plan), Vec::new())
    } else {
        let accelerator = accelerator(choice, load, plan);
        accelerator.check(runtime).ok()?;
        (Setup::Accelerated(accelerator), fixed_dimensions(&model, plan.batch_size))
    };
    // OpenVINO loads libraries and creates static objects while it opens its first session. A process that exits meanwhile crashes
    // unless the exit hook is registered again and again, as it is while a model loads.
    let exported = SizedModel::exported(model.clone(), Arc::clone(bytes), overrides.clone());
    let open_at = |size| {
        let batch_size = if findings.batching_fault.is_some() { 1 } else { plan.batch_size };
        let sized = if size == exported.size() { &exported } else { &exported.at(size, batch_size) };
        Session::open(runtime, &*sized.bytes().ok()?, &setup, &sized.overrides, None, Some(load.cancel)).ok()
    };
    let (size, session) = if choice.provider == Provider::Cpu {
        (exported.size(), None)
    } else {
        let size = store.verdicts(&model).first_size().unwrap_or(exported.size());
        (size, Some(open_at(size)?.0))
    };
    let mut report = report(choice.provider.clone(), &findings, plan, &model);
    report.is_known = true;
    Some((OpenedModel { model, session, size, setup, overrides, report, plan, verdicts: None }, findings))
}

/// Returns the model as `findings` describe it.
fn known_model(bytes: &ModelBytes, load: Load<'_>, findings: &Findings) -> Option<Model> {
    identify_known(
        &bytes.name,
        findings.declaration.clone(),
        load.spec.hints,
        load.info,
        &findings.trial,
        &findings.trial_values,
    )
}

/// Whether the CPU provider may be used: as an automatic choice it may ignore the requested precision.
fn supports_tuning(spec: &EngineSpec) -> bool {
    spec.tuning.is_plain() || spec.provider == Provider::Auto
}

/// Opens `bytes` on the CPU provider.
fn open_cpu(
    runtime: &'static Runtime,
    bytes: &ModelBytes,
    load: Load<'_>,
    plan: ThreadPlan,
) -> Result<(OpenedModel, Findings)> {
    let spec = load.spec;
    if !supports_tuning(spec) {
        let reason =
            "it computes in the model's own number format and has no options; set precision=auto, or use openvino";
        return Err(Error::ProviderUnavailable { provider: Provider::Cpu.to_string(), reason: reason.to_owned() });
    }
    let setup = cpu_setup(runtime, spec, plan);
    let (mut session, _) = Session::open(runtime, bytes, &setup, &[], None, Some(load.cancel))
        .map_err(|error| invalid(runtime, bytes, error))?;
    let (model, trial, trial_values) = identify_model(&bytes.name, &mut session, spec.hints, load.info, load.cancel)?;
    let findings = Findings {
        declaration: session.declaration(),
        trial,
        trial_values,
        provider: CPU_PROVIDER.to_owned(),
        device: "CPU".to_owned(),
        precision: "as the model".to_owned(),
        operators: OperatorCounts::default(),
        is_rewritten: session.is_rewritten(),
        batching_fault: None,
    };
    let report = report(Provider::Cpu, &findings, plan, &model);
    let (size, overrides) = ((model.width, model.height), Vec::new());
    let session = Some(session);
    Ok((OpenedModel { model, session, size, setup, overrides, report, plan, verdicts: None }, findings))
}

/// Returns the setup of sessions on the CPU provider.
pub(crate) fn cpu_setup(runtime: &'static Runtime, spec: &EngineSpec, plan: ThreadPlan) -> Setup {
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
    plan: ThreadPlan,
) -> Result<(OpenedModel, Findings)> {
    let inspected = Session::open(runtime, bytes, &Setup::Inspect, &[], None, Some(load.cancel));
    let (mut inspected, _) = inspected.map_err(|error| invalid(runtime, bytes, error))?;
    let (model, trial, trial_values) =
        identify_model(&bytes.name, &mut inspected, load.spec.hints, load.info, load.cancel)?;
    let declaration = inspected.declaration();
    drop(inspected);
    let unavailable = |reason: String| Error::ProviderUnavailable {
        provider: choice.provider.to_string(),
        reason: format!(
            "{} does not run on it: {reason}; set execution-provider=cpu{}",
            bytes.name,
            if bytes.is_quantised { ", which supports dynamically quantised models" } else { "" }
        ),
    };
    let setup = Setup::Accelerated(accelerator(choice, load, plan));
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
    let findings = Findings {
        declaration,
        trial,
        trial_values,
        provider: device.name,
        device: device.device,
        precision: device.precision.to_owned(),
        operators: OperatorCounts { on_provider, on_cpu },
        is_rewritten: false,
        batching_fault: None,
    };
    let report = report(choice.provider.clone(), &findings, plan, &model);
    let (size, session) = ((model.width, model.height), Some(session));
    Ok((OpenedModel { model, session, size, setup, overrides, report, plan, verdicts: None }, findings))
}

/// Returns how sessions use the provider of `choice`.
fn accelerator(choice: &ProviderChoice, load: Load<'_>, plan: ThreadPlan) -> Accelerator {
    Accelerator {
        choice: choice.clone(),
        tuning: load.spec.tuning.clone(),
        threads: plan.intra_op_threads,
        cache: load.cache.cloned(),
    }
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

fn report(provider: Provider, findings: &Findings, plan: ThreadPlan, model: &Model) -> ProviderReport {
    ProviderReport {
        provider,
        name: findings.provider.clone(),
        device: findings.device.clone(),
        precision: findings.precision.clone(),
        fallback: None,
        operators: findings.operators,
        is_rewritten: findings.is_rewritten,
        is_known: false,
        has_cache: false,
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
