// SPDX-License-Identifier: MIT OR Apache-2.0
//! Folders that may contain ONNX Runtime for a program that has the elements linked into it.

use std::path::{Path, PathBuf};

use crate::elements::library_paths;

/// Returns the folders to search: beside the installed `plugin`, where `make setup` puts the library for the build of this program,
/// and where `make install` puts it.
#[must_use]
pub fn library_dirs(plugin: Option<&Path>) -> Vec<PathBuf> {
    let mut dirs = plugin.map(library_paths::library_dirs).unwrap_or_default();
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
