// SPDX-License-Identifier: MIT OR Apache-2.0
//! Folders that may contain ONNX Runtime for a program that has the elements linked into it.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::elements::library_paths;

/// Folders of the host program, searched first.
static HOST_DIRS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Adds folders that are searched before the others, for a host program that is not installed with this library, such as an interpreter
/// that loads it. Call it before [`init`](super::init) and [`Run::start`](super::Run::start).
pub fn add_library_dirs(dirs: impl IntoIterator<Item = PathBuf>) {
    HOST_DIRS.lock().extend(dirs);
}

/// Returns the folders to search: those of the host program, beside the installed `plugin`, where `make setup` puts the library for the build of this program,
/// and where `make install` puts it.
#[must_use]
pub fn library_dirs(plugin: Option<&Path>) -> Vec<PathBuf> {
    let mut dirs = HOST_DIRS.lock().clone();
    dirs.extend(plugin.map(library_paths::library_dirs).unwrap_or_default());
    let program = std::env::current_exe().unwrap_or_default();
    // After an upgrade its path no longer exists, but the folders around it do.
    let program = program.canonicalize().unwrap_or(program);
    // target/debug/vx, and one folder deeper examples and tests.
    dirs.extend([3, 4].into_iter().filter_map(|depth| Some(program.ancestors().nth(depth)?.join(".deps/lib"))));
    if let Some(prefix) = program.ancestors().nth(2) {
        dirs.extend(["lib/vx", "share/gstreamer-1.0/vx"].map(|place| prefix.join(place)));
    }
    dirs
}
