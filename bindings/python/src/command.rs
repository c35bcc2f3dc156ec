// SPDX-License-Identifier: MIT OR Apache-2.0
//! `python -m vx`.

use std::ffi::OsString;

use pyo3::prelude::*;

use crate::settings::itself;

/// Runs the command with these arguments, the first of which is its name, and returns its exit status.
#[pyfunction]
pub fn main(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<u8> {
    let itself = itself(py)?;
    Ok(py.detach(|| vx_command::run(arguments, itself)))
}
