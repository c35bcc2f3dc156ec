//! Opening a model's first session, on the first provider that will have it, and finding out what the model is.
//!
//! Owns what is done differently for each provider before the workers start. Blocking: reads, compiles and runs the model.

use std::time::Duration;

use super::batches;
use super::plan::{EngineSpec, Plan};
use crate::detect::error::{Error, Result};
use crate::detect::model::description::{Batch, Model, most_images};
use crate::detect::model::trial::understand;
use crate::detect::onnx::file::ModelBytes;
use crate::detect::onnx::modelinfo::ModelInfo;
use crate::detect::onnx::tensor::Dimension;
use crate::detect::runtime::accelerator::{Accelerator, name_of};
use crate::detect::runtime::cancel::Cancel;
use crate::detect::runtime::library::Runtime;
use crate::detect::runtime::provider::{Choice, Provider, ProviderReport};
use crate::detect::runtime::session::{CPU_PROVIDER, OpenError, Session, Setup, SharedWeights};

/// A model whose first session runs.
pub(super) struct Opened {
    pub model: Model,
    pub session: Session,
    pub setup: Setup,
    /// Lengths of dynamic dimensions, for the other sessions.
    pub overrides: Vec<(String, usize)>,
    pub report: ProviderReport,
    pub plan: Plan,
}

/// What a loading is about.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub spec: &'a EngineSpec,
    /// What the file beside the model says.
    pub info: &'a ModelInfo,
    pub cancel: &'a Cancel,
}

/// Opens `bytes` on the first of `choices` that takes it; `modelinfo` is the text of the file beside it.
///
/// # Errors
/// Those of a model that is none, or none that can be read; [`Error::ProviderUnavailable`] of the last choice.
pub(super) fn open_first(
    runtime: &'static Runtime,
    bytes: &ModelBytes,
    choices: &[Choice],
    spec: &EngineSpec,
    modelinfo: &str,
    cancel: &Cancel,
) -> Result<Opened> {
    let info = ModelInfo::parse(modelinfo).map_err(|reason| Error::Setting {
        setting: ".modelinfo",
        reason: format!("beside {}: {reason}", bytes.name),
    })?;
    let load = Load { spec, info: &info, cancel };
    let mut reasons = Vec::new();
    for (index, choice) in choices.iter().enumerate() {
        let is_last = index + 1 == choices.len();
        let plan = Plan::new(spec, num_cpus::get(), choice.provider.is_device());
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
                    let tuning = "its own precision or options were asked for, of which the CPU provider has none";
                    reasons.push(format!("no other provider is there that suits {}, and {tuning}", bytes.name));
                }
                opened.report.fallback = (!reasons.is_empty()).then(|| reasons.join("; "));
                let Opened { model, session, report, plan, .. } = &mut opened;
                if model.batch == Batch::Dynamic
                    && report.batch_size > 1
                    && let Some(reason) = batches::objection(&bytes.name, session, model)?
                {
                    (plan.batch_size, report.batch_size) = (1, 1);
                    let note = format!("batches of one, although more were asked for: {reason}");
                    let before = report.fallback.take();
                    report.fallback = Some(before.map_or(note.clone(), |before| format!("{before}; {note}")));
                }
                return Ok(opened);
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::ProviderUnavailable { provider: spec.provider.to_string(), reason: "there is none to try".to_owned() })
}

/// Opens `bytes` on the CPU provider. Where it was not asked for by name it need not know the precision that was.
fn open_cpu(runtime: &'static Runtime, bytes: &ModelBytes, load: Load<'_>, plan: Plan) -> Result<Opened> {
    let spec = load.spec;
    if !spec.tuning.is_plain() && spec.provider != Provider::Auto {
        let reason =
            "it computes in the model's own number format and takes no options; set precision=auto, or use openvino";
        return Err(Error::ProviderUnavailable { provider: Provider::Cpu.to_string(), reason: reason.to_owned() });
    }
    let setup = cpu_setup(runtime, spec, plan);
    let (mut session, _) = Session::open(runtime, bytes, &setup, &[], None, Some(load.cancel))
        .map_err(|error| invalid(runtime, bytes, error))?;
    let model = understand(&bytes.name, &mut session, spec.reading, load.info, load.cancel)?;
    let name = name_of(&Provider::Cpu).unwrap_or_default().to_owned();
    let mut report = report(Provider::Cpu, name, "CPU".to_owned(), "as the model", (0, 0), plan, &model);
    report.is_rearranged = session.is_rearranged();
    Ok(Opened { model, session, setup, overrides: Vec::new(), report, plan })
}

/// How the CPU provider's sessions are set up.
pub(crate) fn cpu_setup(runtime: &'static Runtime, spec: &EngineSpec, plan: Plan) -> Setup {
    Setup::Cpu {
        intra_op_threads: plan.intra_op_threads,
        inter_op_threads: plan.inter_op_threads,
        weights: SharedWeights::new(runtime),
        first_core: spec.pin_threads.then_some(0),
    }
}

/// Opens `bytes` on another provider, and makes sure that it runs there.
///
/// # Errors
/// Those of the provider are [`Error::ProviderUnavailable`], so that they can be told from the model's.
fn open_accelerated(
    runtime: &'static Runtime,
    bytes: &ModelBytes,
    choice: &Choice,
    load: Load<'_>,
    plan: Plan,
) -> Result<Opened> {
    let inspected = Session::open(runtime, bytes, &Setup::Inspect, &[], None, Some(load.cancel));
    let (mut inspected, _) = inspected.map_err(|error| invalid(runtime, bytes, error))?;
    let model = understand(&bytes.name, &mut inspected, load.spec.reading, load.info, load.cancel)?;
    drop(inspected);
    let unavailable = |reason: String| Error::ProviderUnavailable {
        provider: choice.provider.to_string(),
        reason: format!(
            "{} does not run on it: {reason}; use the provider cpu{}",
            bytes.name,
            if bytes.is_quantised { ", which is the one for dynamically quantised models" } else { "" }
        ),
    };
    let accelerator =
        Accelerator { choice: choice.clone(), tuning: load.spec.tuning.clone(), threads: plan.intra_op_threads };
    let setup = Setup::Accelerated(accelerator);
    let overrides = fixed_dimensions(&model, plan.batch_size);
    let profile = profile_folder().map_err(|error| unavailable(format!("no temporary folder: {error}")))?;
    let (mut session, description) =
        Session::open(runtime, bytes, &setup, &overrides, Some(&profile.path().join("run")), Some(load.cancel))
            .map_err(|error| unavailable(error.reason))?;
    // Some operators fail only when they run; and a provider that takes none leaves all to the CPU provider.
    let images = images_of(model.batch);
    let input = session.input(images, &model.input).map_err(unavailable)?;
    session.examine(&input, images, &model.read_outputs, load.cancel, |_| {}).map_err(unavailable)?;
    let operators =
        session.stop_profile().map_err(|error| unavailable(format!("what ran where is not known: {error}")))?;
    let Some(description) = description else { return Err(unavailable("it has no name".to_owned())) };
    let on_cpu = operators.get(CPU_PROVIDER).copied().unwrap_or(0);
    let on_it = operators.values().sum::<usize>() - on_cpu;
    if on_it == 0 {
        return Err(unavailable(
            "it takes none of the model's operators, all would run on the CPU provider".to_owned(),
        ));
    }
    let crate::detect::runtime::accelerator::Description { name, device, precision } = description;
    let report = report(choice.provider.clone(), name, device, precision, (on_it, on_cpu), plan, &model);
    Ok(Opened { model, session, setup, overrides, report, plan })
}

/// A folder for a profile, once those are gone that a program which was ended while it loaded a model has left behind.
fn profile_folder() -> std::io::Result<tempfile::TempDir> {
    const PREFIX: &str = "vx-profile-";
    const OLD: Duration = Duration::from_secs(3600);
    for entry in std::env::temp_dir().read_dir()?.flatten() {
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) && age().is_some_and(|age| age > OLD) {
            // Somebody else's stays.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    tempfile::Builder::new().prefix(PREFIX).tempdir()
}

fn images_of(batch: Batch) -> usize {
    match batch {
        Batch::Fixed(count) => count,
        Batch::Dynamic => 1,
    }
}

/// Lengths for the dynamic dimensions of the input that have a name; compilers make better code for fixed shapes.
fn fixed_dimensions(model: &Model, batch_size: usize) -> Vec<(String, usize)> {
    let picture = model.inputs.iter().find(|input| input.name == model.input.name);
    let shape = picture.map_or(&[][..], |input| &input.shape);
    let lengths = model.input.shape(batch_size);
    let dynamic = shape.iter().zip(lengths).enumerate().filter_map(|(axis, (dimension, length))| match dimension {
        // Batches of more than one are not always full.
        Dimension::Dynamic(name) if !name.is_empty() && (axis > 0 || batch_size == 1) => Some((name.clone(), length)),
        _ => None,
    });
    let lengths: Vec<(String, usize)> = dynamic.collect();
    // A name that stands for height and width can be fixed only where these are equal.
    let is_plain =
        |(name, length): &(String, usize)| lengths.iter().all(|other| other.0 != *name || other.1 == *length);
    lengths.iter().filter(|named| is_plain(named)).cloned().collect()
}

fn report(
    provider: Provider,
    name: String,
    device: String,
    precision: &str,
    operators: (usize, usize),
    plan: Plan,
    model: &Model,
) -> ProviderReport {
    ProviderReport {
        provider,
        name,
        device,
        precision: precision.to_owned(),
        fallback: None,
        operators,
        is_rearranged: false,
        sessions: plan.sessions,
        intra_op_threads: plan.intra_op_threads,
        inter_op_threads: plan.inter_op_threads,
        batch_size: match model.batch {
            Batch::Fixed(count) => count,
            Batch::Dynamic => plan.batch_size.min(most_images(model.width, model.height)),
        },
    }
}

fn invalid(runtime: &Runtime, bytes: &ModelBytes, error: OpenError) -> Error {
    let OpenError { is_no_model, reason } = error;
    let reason = reason.trim_end_matches('.');
    let words = reason.to_lowercase();
    let has = |any: &[&str]| any.iter().any(|part| words.contains(part));
    let version = runtime.version();
    let reason = if is_no_model {
        format!("it is no ONNX file, or it is cut short; download or export it again ({reason})")
    } else if has(&["external data", "cannot get file size"]) {
        format!("its weights are in a file of their own, which has to lie beside it ({reason})")
    } else if has(&["is not a registered function/op"]) {
        format!("{reason}: it needs an operator that ONNX Runtime does not have; export it without")
    } else if has(&["inferenceerror", "invalid model", "invalid graph", "not a dag", "type error"]) {
        format!(
            "{reason}: its graph contradicts itself; check it with onnx.checker.check_model, and export it again with another \
             version of the exporter"
        )
    } else if has(&["opset", "ir version", "ir_version", "implementation", "schema"]) {
        let newer =
            if runtime.has_provider(&Provider::OpenVino) { "execution-provider=cpu, which may have a" } else { "a" };
        format!("{reason}; export it again with an older opset, or use {newer} newer ONNX Runtime than {version}")
    } else {
        format!("{reason}; export it again, or use another ONNX Runtime than {version}")
    };
    Error::ModelInvalid { model: bytes.name.clone(), reason }
}
