// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of the library as objects, of which JavaScript makes exceptions with `stage`, `file` and `remedy`.

use gstvx::path::name_of;
use gstvx::run::Error;
use napi_derive::napi;

/// Why something failed.
#[napi(object, object_from_js = false)]
#[derive(Debug, Clone)]
pub struct Failure {
    /// What failed.
    pub message: String,
    /// The stage in which it failed.
    pub stage: String,
    /// The file or folder that it is about.
    pub file: Option<String>,
    /// What to do, where the message does not say it.
    pub remedy: Option<String>,
}

impl Failure {
    /// Creates the failure of an option that is not valid.
    pub fn of_setting(reason: impl Into<String>) -> Self {
        Self { message: reason.into(), stage: "settings".to_owned(), file: None, remedy: None }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            message: error.to_string(),
            stage: error.stage().name().to_owned(),
            file: error.file().map(name_of),
            remedy: error.remedy().map(str::to_owned),
        }
    }
}
