// SPDX-License-Identifier: MIT OR Apache-2.0
//! Folders of the libraries that the plugin loads at run time: ONNX Runtime and its providers.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Returns the folders to search for the plugin in `file`: its own, and `vx` beside that one, where `make install` puts the
/// libraries: in the plugin's folder GStreamer would take each of them for a broken plugin.
#[must_use]
pub fn library_dirs(file: &Path) -> Vec<PathBuf> {
    let Some(dir) = file.parent() else { return Vec::new() };
    let beside = dir.parent().filter(|parent| !is_shared(parent)).map(|parent| parent.join("vx"));
    Some(dir.to_owned()).filter(|dir| !is_shared(dir)).into_iter().chain(beside).collect()
}

/// Returns the folder where `make setup` puts the libraries for the source in `root`, for what was built from it and lies elsewhere; `None`
/// where it is below a folder in which every user may create files: the source may have been removed from there.
#[must_use]
pub fn library_dir_of_source(root: &Path) -> Option<PathBuf> {
    (!root.ancestors().any(is_shared)).then(|| root.join(".deps/lib"))
}

/// Returns whether every user may create files in a folder that others cannot remove, as in `/tmp`: a library there may be anybody's.
#[must_use]
pub fn is_shared(folder: &Path) -> bool {
    const STICKY_AND_WRITABLE: u32 = 0o1002;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mode = std::fs::metadata(folder).map_or(0, |folder| folder.permissions().mode());
    mode & STICKY_AND_WRITABLE == STICKY_AND_WRITABLE
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_anybody_are_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let plugins = folder.path().join("gstreamer-1.0");
        std::fs::create_dir(&plugins).unwrap();
        let dirs = || library_dirs(&plugins.join("libgstvx.so"));
        assert_eq!(dirs(), [plugins.clone(), folder.path().join("vx")]);
        let set = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        set(folder.path(), 0o1777);
        assert_eq!(dirs(), std::slice::from_ref(&plugins));
        set(&plugins, 0o1777);
        assert!(dirs().is_empty());
        assert_eq!(library_dir_of_source(&folder.path().join("removed/source")), None);
        assert_eq!(library_dir_of_source(Path::new("/nowhere/source")), Some("/nowhere/source/.deps/lib".into()));
        set(folder.path(), 0o777);
        set(&plugins, 0o755);
        assert_eq!(dirs().len(), 2);
    }
}
