// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages of the library in the terms of the command line.

use gstvx::run::{Comparison, Error};

/// Settings of the library that are options of the command.
const OPTIONS: [&str; 14] = [
    "resume",
    "overwrite",
    "retry_failed",
    "output",
    "format",
    "probe",
    "isolate",
    "memory_limit",
    "file_timeout",
    "lanes",
    "cache",
    "save_frames",
    "which_frames",
    "stop_on_error",
];

/// Replaces settings in backticks by options: `` `file_timeout` `` by `--file-timeout`.
pub fn with_options(text: &str) -> String {
    let replace =
        |text: String, name: &&str| text.replace(&format!("`{name}`"), &format!("--{}", name.replace('_', "-")));
    OPTIONS.iter().fold(text.to_owned(), replace)
}

/// Returns the message of an error.
pub fn message_of(error: &Error) -> String {
    match error {
        Error::Writer(reason) => format!("standard output cannot be written: {reason}"),
        error => with_options(&error.to_string()),
    }
}

/// Returns the line at the start of a run that resumes an output.
pub fn resuming(comparison: &Comparison, left: usize) -> String {
    let reasons = match (comparison.changed, comparison.retried) {
        (0, 0) => String::new(),
        (changed, 0) => format!(", {changed} of these because they have changed"),
        (0, retried) => format!(", {retried} of these because they failed before"),
        (changed, retried) => {
            format!(", {changed} of these because they have changed, {retried} because they failed before")
        }
    };
    let Comparison { known, failed, damaged, .. } = comparison;
    format!(
        "{known} files are in the output already, {failed} of them failed, {damaged} damaged; {left} are left{reasons}"
    )
}

/// Returns the lines at the end of a run that has resumed an output.
pub fn resumed(comparison: &Comparison) -> Vec<String> {
    let mut lines = Vec::new();
    match comparison.failed {
        0 => {}
        1 => lines.push("before      1 file failed before; --retry-failed tries it again".to_owned()),
        count => lines.push(format!("before      {count} files failed before; --retry-failed tries them again")),
    }
    match comparison.removed {
        0 => {}
        1 => lines.push("removed     1 file of the output no longer exists; its lines are kept".to_owned()),
        count => lines.push(format!("removed     {count} files of the output no longer exist; their lines are kept")),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::with_options;

    #[test]
    fn settings_are_shown_as_options() {
        assert_eq!(with_options("raise `file_timeout`, or `x`"), "raise --file-timeout, or `x`");
        let command = crate::command();
        let exists = |name: &str| {
            command
                .find_subcommand("detect")
                .is_some_and(|detect| detect.get_arguments().any(|argument| argument.get_id() == name))
        };
        assert!(super::OPTIONS.iter().all(|name| exists(name)));
    }
}
