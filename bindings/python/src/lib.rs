// SPDX-License-Identifier: MIT OR Apache-2.0
//! The extension module `vx._vx`: the library `gstvx::run` in Python's terms. It holds no logic of its own.
//!
//! Nothing waits while it holds the interpreter: waits are in `waiting`, and every call checks in `process` that it is not made in a
//! forked process. `unsafe` is allowed in `plane` only, for Python's buffer protocol.

#![deny(unsafe_code)]

mod arrow;
mod command;
mod detector;
mod error;
mod keyframes;
#[allow(unsafe_code, reason = "PyO3 has no safe form of exporting a buffer")]
mod plane;
mod process;
mod records;
mod run;
mod settings;
mod waiting;

use std::path::{Path, PathBuf};

use gstvx::elements::library_paths::library_dir_of_source;
use pyo3::prelude::*;

/// Returns where `make setup` puts ONNX Runtime for the checkout that this was built from, by the path that the checkout's command uses:
/// cached results depend on it. `None` where anybody may have created the folder since.
fn checkout_libraries() -> Option<PathBuf> {
    library_dir_of_source(Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?)
}

/// Sets the folders that are searched for ONNX Runtime: `first`, the checkout's, and `last`.
#[pyfunction]
fn _add_library_dirs(first: Vec<PathBuf>, last: Vec<PathBuf>) {
    gstvx::run::add_library_dirs(first.into_iter().chain(checkout_libraries()).chain(last));
}

#[pymodule]
fn _vx(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    waiting::remember_main_thread(py)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    let base = py.get_type::<error::Error>();
    // Of exceptions that others raise.
    base.setattr("stage", "reading")?;
    base.setattr("file", py.None())?;
    base.setattr("remedy", py.None())?;
    module.add("Error", base)?;
    module.add("VxWarning", py.get_type::<error::VxWarning>())?;
    module.add_class::<records::Frame>()?;
    module.add_class::<records::Detection>()?;
    module.add_class::<records::Mask>()?;
    module.add_class::<records::FileSummary>()?;
    module.add_class::<run::Run>()?;
    module.add_class::<run::Summary>()?;
    module.add_class::<run::Plan>()?;
    module.add_class::<arrow::ArrowStream>()?;
    module.add_class::<settings::FileList>()?;
    module.add_class::<keyframes::Keyframes>()?;
    module.add_class::<keyframes::Keyframe>()?;
    module.add_class::<plane::Plane>()?;
    module.add_class::<detector::Detector>()?;
    module.add_function(wrap_pyfunction!(run::detect, module)?)?;
    module.add_function(wrap_pyfunction!(run::plan, module)?)?;
    module.add_function(wrap_pyfunction!(run::find, module)?)?;
    module.add_function(wrap_pyfunction!(run::_close_all, module)?)?;
    module.add_function(wrap_pyfunction!(keyframes::keyframes, module)?)?;
    module.add_function(wrap_pyfunction!(command::main, module)?)?;
    module.add_function(wrap_pyfunction!(_add_library_dirs, module)?)
}
