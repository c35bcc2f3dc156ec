// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program that this command is part of, to start it again: as a worker process, or for a check that may end the process.

use std::ffi::OsString;
use std::sync::OnceLock;

use gstvx::run::WorkerProgram;

static PROGRAM: OnceLock<WorkerProgram> = OnceLock::new();

/// Sets the program. Only the first call has an effect.
pub fn set(program: WorkerProgram) {
    PROGRAM.get_or_init(|| program);
}

/// Returns the program with these arguments of the command.
///
/// # Errors
/// The system's, where the path of the running program is not known.
pub fn with_arguments<const N: usize>(arguments: [&str; N]) -> std::io::Result<WorkerProgram> {
    let mut program = match PROGRAM.get() {
        Some(program) => program.clone(),
        None => WorkerProgram::current(std::iter::empty::<OsString>())?,
    };
    program.arguments.extend(arguments.map(OsString::from));
    Ok(program)
}
