//! Where the libraries lie that the plugin loads while running: ONNX Runtime and its providers.

use std::path::{Path, PathBuf};

/// Folders to look in, for the plugin in `file`: its own, and `vx` beside that one, where `make install` puts them: inside
/// its own GStreamer would take every library for a broken plugin.
#[must_use]
pub fn library_dirs(file: &Path) -> Vec<PathBuf> {
    let Some(dir) = file.parent() else { return Vec::new() };
    let mut dirs = vec![dir.to_owned()];
    dirs.extend(dir.parent().map(|parent| parent.join("vx")));
    dirs
}

/// The file of the loaded plugin that has the element `factory`; `None` where it is linked into the program.
pub(super) fn plugin_file(factory: &str) -> Option<PathBuf> {
    use gst::prelude::*;
    let feature = gst::Registry::get().find_feature(factory, gst::ElementFactory::static_type())?;
    feature.plugin()?.filename()
}
