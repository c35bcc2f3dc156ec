//! Where ONNX Runtime may lie for a program that is not the plugin itself.

use std::path::{Path, PathBuf};

use gstvx::elements::library_paths;

/// Folders in which to look: beside the installed plugin, where `make setup` puts it for the build that this program is from,
/// and where `make install` does.
pub fn dirs(plugin: Option<&Path>) -> Vec<PathBuf> {
    let mut dirs = plugin.map(library_paths::library_dirs).unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    // Replaced by an upgrade while it runs, it has a path that does not exist, beside what does.
    let program = program.canonicalize().unwrap_or(program);
    dirs.extend(program.ancestors().nth(3).map(|root| root.join(".deps/lib")));
    if let Some(prefix) = program.ancestors().nth(2) {
        dirs.extend(["lib/vx", "share/gstreamer-1.0/vx"].map(|place| prefix.join(place)));
    }
    dirs
}
