// SPDX-License-Identifier: MIT OR Apache-2.0
//! The addon `vx.node`: the library `gstvx::run` in terms of Node-API. It holds no logic of its own; `index.js` gives it the shape of
//! JavaScript.
//!
//! Nothing waits on the event loop: threads answer promises, in `requests`. `unsafe` is allowed in `planes` only, for memory that
//! JavaScript shares.

#![deny(unsafe_code)]

mod error;
mod keyframes;
#[allow(unsafe_code, reason = "napi has no safe form of sharing memory")]
mod planes;
mod records;
mod requests;
mod run;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use gstvx::elements::library_paths::library_dir_of_source;
use napi_derive::napi;

static LIBRARY_DIRS: Once = Once::new();

/// Sets the folders that are searched for ONNX Runtime: `first`, and where `make setup` puts it for the checkout that this was built
/// from, by the path that the checkout's command uses: cached results depend on it.
#[napi]
pub fn add_library_dirs(first: Vec<String>) {
    // Each thread of JavaScript loads the package.
    LIBRARY_DIRS.call_once(|| {
        // Not where anybody may have created the folder since.
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).and_then(library_dir_of_source);
        gstvx::run::add_library_dirs(first.into_iter().map(PathBuf::from).chain(checkout));
    });
}

/// Stops everything that this thread of JavaScript has started, and waits for its end, at most this many milliseconds. For the end of the
/// process or of the thread.
#[napi]
pub fn close_all(milliseconds: u32) {
    requests::close_all(Duration::from_millis(milliseconds.into()));
}

/// Runs a worker process until its supervisor ends it.
#[napi]
pub fn serve_worker() -> napi::Result<()> {
    gstvx::run::serve_worker().map_err(|error| napi::Error::from_reason(error.to_string()))
}
