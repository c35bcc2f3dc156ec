// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of the library as exceptions with the attributes `stage`, `file` and `remedy`.

use std::path::Path;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyUserWarning};
use pyo3::prelude::*;

create_exception!(
    vx,
    Error,
    PyException,
    "What failed.\n\n`stage` is one of settings, inputs, output, cache, pictures, model, reading; `file` is the file or folder that it is \
     about, or None; `remedy` says what to do where the message does not, or is None."
);
create_exception!(vx, VxWarning, PyUserWarning, "A run that continues, but not as it could.");

/// Creates an exception.
pub fn with(stage: &str, file: Option<&Path>, reason: &str, remedy: &str) -> PyErr {
    Python::attach(|py| {
        let error = Error::new_err(format!("{reason}; {remedy}"));
        set(py, &error, stage, file, Some(remedy));
        error
    })
}

/// Converts an error of the library.
pub fn from(error: &gstvx::run::Error) -> PyErr {
    Python::attach(|py| {
        let exception = Error::new_err(error.to_string());
        set(py, &exception, error.stage().name(), error.file(), error.remedy());
        exception
    })
}

fn set(py: Python<'_>, error: &PyErr, stage: &str, file: Option<&Path>, remedy: Option<&str>) {
    let value = error.value(py);
    // Instances have a dictionary.
    let _ = value.setattr("stage", stage);
    let _ = value.setattr("file", file.map(Path::as_os_str));
    let _ = value.setattr("remedy", remedy);
}

/// Creates an exception for an argument that is not valid.
pub fn setting(reason: &str) -> PyErr {
    Python::attach(|py| {
        let error = Error::new_err(reason.to_owned());
        set(py, &error, "settings", None, None);
        error
    })
}

/// Issues a warning of the run; it is an error where the user has made it one.
pub fn warn(py: Python<'_>, text: &str) -> PyResult<()> {
    // A NUL would cut the text.
    let text = std::ffi::CString::new(text.replace('\0', " ")).unwrap_or_default();
    PyErr::warn(py, &py.get_type::<VxWarning>(), &text, 1)
}
