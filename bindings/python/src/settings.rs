// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments of Python as settings of a run.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use gstvx::run::quantity;
use gstvx::run::{self, Existing, Input, Order, Output, SamplingSettings, WhichFrames, WorkerProgram};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString};

use crate::error::setting;

/// Names of files as runs report them, which are neither patterns nor folders: what `vx detect -` reads from standard input.
#[pyclass(frozen, module = "vx")]
pub struct FileList {
    names: Vec<String>,
}

#[pymethods]
impl FileList {
    #[new]
    fn new(names: Vec<String>) -> Self {
        Self { names }
    }

    #[getter]
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }
}

/// Converts `inputs`: a path, a list of files, or several of them.
pub fn inputs(inputs: &Bound<'_, PyAny>) -> PyResult<Vec<Input>> {
    if let Some(input) = input(inputs)? {
        return Ok(vec![input]);
    }
    let wrong = || PyTypeError::new_err("inputs: expected a path, a vx.FileList or a sequence of these");
    inputs.try_iter().map_err(|_| wrong())?.map(|item| input(&item?)?.ok_or_else(wrong)).collect()
}

fn input(value: &Bound<'_, PyAny>) -> PyResult<Option<Input>> {
    if let Ok(list) = value.cast::<FileList>() {
        return Ok(Some(Input::List(list.get().names.clone())));
    }
    Ok(value.extract::<PathBuf>().ok().map(|path| Input::Path(path.into_os_string())))
}

/// A duration: seconds, text with a unit ("1.5s", "5m"), or a `timedelta`.
pub fn duration(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let invalid = |reason: String| setting(&format!("`{name}`: {reason}"));
    if let Ok(text) = value.cast::<PyString>() {
        return quantity::duration(text.to_str()?).map_err(invalid);
    }
    if let Ok(seconds) = value.extract::<f64>() {
        return quantity::duration(&seconds.to_string()).map_err(invalid);
    }
    value
        .extract::<Duration>()
        .map_err(|_| PyTypeError::new_err(format!("{name}: expected seconds, text such as \"1.5s\", or a timedelta")))
}

/// A size: bytes, or text with a unit ("800M").
fn size(name: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    match value.cast::<PyString>() {
        Ok(text) => quantity::size(text.to_str()?).map_err(|reason| setting(&format!("`{name}`: {reason}"))),
        Err(_) => value.extract::<u64>(),
    }
}

fn names(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(vec![text.to_str()?.to_owned()]),
        Err(_) => value.try_iter()?.map(|item| Ok(item?.str()?.to_str()?.to_owned())).collect(),
    }
}

fn properties(set: &Bound<'_, PyDict>) -> PyResult<Vec<(String, String)>> {
    set.iter()
        .map(|(name, value)| {
            let text = match value.cast::<PyBool>() {
                Ok(value) => value.is_true().to_string(),
                Err(_) => value.str()?.to_str()?.to_owned(),
            };
            Ok((name.extract::<String>()?, text))
        })
        .collect()
}

fn one_of<T: Copy>(name: &str, value: &str, known: &[(&str, T)]) -> PyResult<T> {
    known.iter().find(|(known, _)| *known == value).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        setting(&format!("`{name}` {value} is not known: use {}", names.join(" or ")))
    })
}

/// The arguments of `detect` as Python passes them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Arguments<'py> {
    model: Option<PathBuf>,
    labels: Option<PathBuf>,
    confidence: Option<f32>,
    iou: Option<f32>,
    classes: Option<Bound<'py, PyAny>>,
    provider: Option<String>,
    cache_dir: Option<PathBuf>,
    every: Option<Bound<'py, PyAny>>,
    set: Option<Bound<'py, PyDict>>,
    output: Option<PathBuf>,
    format: Option<String>,
    resume: bool,
    retry_failed: bool,
    overwrite: bool,
    lanes: Option<u32>,
    order: String,
    stop_on_error: bool,
    memory_limit: Option<Bound<'py, PyAny>>,
    file_timeout: Option<Bound<'py, PyAny>>,
    shard: Option<Bound<'py, PyAny>>,
    probe: bool,
    cache: Option<PathBuf>,
    save_frames: Option<PathBuf>,
    which_frames: Option<String>,
    draw: bool,
    isolate: bool,
}

impl Arguments<'_> {
    /// Converts them to settings.
    pub fn to_settings(&self, py: Python<'_>, inputs: Vec<Input>) -> PyResult<run::Settings> {
        let mut settings = run::Settings::new(std::iter::empty::<OsString>());
        settings.inputs = inputs;
        settings.probe = self.probe;
        if let Some(shard) = &self.shard {
            let text = match shard.extract::<(u64, u64)>() {
                Ok((number, count)) => format!("{number}/{count}"),
                Err(_) => shard.extract::<String>()?,
            };
            settings.shard = Some(text.parse().map_err(|reason: String| setting(&format!("`shard`: {reason}")))?);
        }
        let detector = &mut settings.detector;
        detector.model.clone_from(&self.model);
        detector.labels.clone_from(&self.labels);
        (detector.confidence, detector.iou) = (self.confidence, self.iou);
        detector.classes = self.classes.as_ref().map(names).transpose()?.unwrap_or_default();
        detector.provider.clone_from(&self.provider);
        detector.cache_dir.clone_from(&self.cache_dir);
        let every = self.every.as_ref().map(|every| duration("every", every)).transpose()?;
        settings.sampling = every.map(SamplingSettings::every).unwrap_or_default();
        settings.properties = self.set.as_ref().map(properties).transpose()?.unwrap_or_default();
        settings.output = self.output.clone().map_or(Output::None, Output::File);
        settings.format.clone_from(&self.format);
        settings.existing = match (self.resume, self.overwrite) {
            (true, true) => return Err(setting("`resume` and `overwrite` contradict each other: use one of them")),
            (true, false) => Existing::Resume,
            (false, true) => Existing::Overwrite,
            (false, false) => Existing::Refuse,
        };
        if self.retry_failed && !self.resume {
            return Err(setting("`retry_failed` reads files of an output again: set `resume`"));
        }
        settings.retry_failed = self.retry_failed;
        settings.lanes = self.lanes;
        settings.order =
            one_of("order", &self.order, &[("largest-first", Order::LargestFirst), ("as-given", Order::AsGiven)])?;
        settings.stop_on_error = self.stop_on_error;
        settings.memory_limit = self.memory_limit.as_ref().map(|limit| size("memory_limit", limit)).transpose()?;
        settings.file_timeout = self.file_timeout.as_ref().map(|time| duration("file_timeout", time)).transpose()?;
        settings.cache.clone_from(&self.cache);
        settings.save_frames.clone_from(&self.save_frames);
        let known = [("detections", WhichFrames::Detections), ("all", WhichFrames::All)];
        settings.which_frames =
            self.which_frames.as_ref().map(|which| one_of("which_frames", which, &known)).transpose()?;
        if self.draw && self.save_frames.is_none() {
            return Err(setting("`draw` draws into saved keyframes: set `save_frames`"));
        }
        settings.draw = self.draw;
        settings.isolate = self.isolate.then(|| worker(py)).transpose()?;
        Ok(settings)
    }
}

/// Returns the program of worker processes: this interpreter, with `python -m vx` wherever the package is.
fn worker(py: Python<'_>) -> PyResult<WorkerProgram> {
    let mut program = itself(py)?;
    program.arguments.extend(["detect", "--worker"].map(OsString::from));
    Ok(program)
}

/// Returns `python -m vx` as a program.
pub fn itself(py: Python<'_>) -> PyResult<WorkerProgram> {
    let (program, arguments): (Option<PathBuf>, Vec<OsString>) =
        py.import("vx.__main__")?.call_method0("itself")?.extract()?;
    let program = program.filter(|program| !program.as_os_str().is_empty());
    let program = program.ok_or_else(|| {
        setting(
            "the Python interpreter is not known (sys.executable is empty), which `isolate` starts: set sys.executable",
        )
    })?;
    Ok(WorkerProgram { program, name: None, arguments })
}
