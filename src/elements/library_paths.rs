// SPDX-License-Identifier: MIT OR Apache-2.0
//! Folders of the libraries that the plugin loads at run time: ONNX Runtime and its providers.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Returns the folders to search for the plugin in `file`: its own, and `vx` beside that one, where `make install` puts the
/// libraries: in the plugin's folder GStreamer would take each of them for a broken plugin.
#[must_use]
pub fn library_dirs(file: &Path) -> Vec<PathBuf> {
    let Some(dir) = file.parent() else { return Vec::new() };
    let mut dirs = vec![dir.to_owned()];
    dirs.extend(dir.parent().map(|parent| parent.join("vx")));
    dirs
}

/// Folders set by a program that has the elements linked into it.
static PROGRAM_DIRS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Sets the folders for elements that are linked into a program and so have no folder of their own. Call it before the first starts.
pub fn set_library_dirs(dirs: Vec<PathBuf>) {
    *PROGRAM_DIRS.lock() = dirs;
}

/// Returns the folders to search for the element `factory`.
pub(super) fn library_dirs_of(factory: &str) -> Vec<PathBuf> {
    plugin_file(factory).map_or_else(|| PROGRAM_DIRS.lock().clone(), |file| library_dirs(&file))
}

/// Returns the file of the loaded plugin with the element `factory`; `None` where it is linked into the program.
fn plugin_file(factory: &str) -> Option<PathBuf> {
    use gst::prelude::*;
    let feature = gst::Registry::get().find_feature(factory, gst::ElementFactory::static_type())?;
    feature.plugin()?.filename()
}
