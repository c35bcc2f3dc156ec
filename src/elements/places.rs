//! Where the libraries lie that the plugin loads while running: ONNX Runtime and its providers.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Folders to look in, for the plugin in `file`: its own, and `vx` beside that one, where `make install` puts them: inside
/// its own GStreamer would take every library for a broken plugin.
#[must_use]
pub fn library_dirs(file: &Path) -> Vec<PathBuf> {
    let Some(dir) = file.parent() else { return Vec::new() };
    let mut dirs = vec![dir.to_owned()];
    dirs.extend(dir.parent().map(|parent| parent.join("vx")));
    dirs
}

/// Where a program that has the elements linked into it keeps the libraries.
static OF_PROGRAM: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Folders for elements that are linked into a program and so have no folder of their own. Call it before the first starts.
pub fn set_library_dirs(dirs: Vec<PathBuf>) {
    *OF_PROGRAM.lock() = dirs;
}

/// Folders to look in, for the element `factory`.
pub(super) fn library_dirs_of(factory: &str) -> Vec<PathBuf> {
    plugin_file(factory).map_or_else(|| OF_PROGRAM.lock().clone(), |file| library_dirs(&file))
}

/// The file of the loaded plugin that has the element `factory`; `None` where it is linked into the program.
fn plugin_file(factory: &str) -> Option<PathBuf> {
    use gst::prelude::*;
    let feature = gst::Registry::get().find_feature(factory, gst::ElementFactory::static_type())?;
    feature.plugin()?.filename()
}
