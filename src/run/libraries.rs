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

/// Returns the folders to search: those of the host program, beside the installed `plugin`, where `make install` puts the library, and,
/// for a program in the target folder of the source that it was built from, where `make setup` puts it.
#[must_use]
pub fn library_dirs(plugin: Option<&Path>) -> Vec<PathBuf> {
    let mut dirs = HOST_DIRS.lock().clone();
    dirs.extend(plugin.map(library_paths::library_dirs).unwrap_or_default());
    let program = std::env::current_exe().unwrap_or_default();
    // After an upgrade its path no longer exists, but the folders around it do.
    let program = program.canonicalize().unwrap_or(program);
    dirs.extend(dirs_of(&program, Path::new(env!("CARGO_MANIFEST_DIR"))));
    dirs
}

/// Returns the folders to search for `program`, which was built from the source in `source`.
fn dirs_of(program: &Path, source: &Path) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    let is_in_bin = program.parent().is_some_and(|folder| folder.ends_with("bin"));
    if let Some(prefix) = program.ancestors().nth(2).filter(|prefix| is_in_bin && !library_paths::is_shared(prefix)) {
        dirs.extend(places_of_installation().map(|place| prefix.join(place)));
    }
    // Elsewhere the folders above a program may be anybody's.
    let source = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    if program.starts_with(source.join("target")) {
        dirs.push(source.join(".deps/lib"));
    }
    dirs
}

/// Returns the folders below a prefix where the library may have been installed: in the library folder of GNU, of Fedora or of Debian, or
/// beside the plugins of one user.
fn places_of_installation() -> [String; 4] {
    let multiarch = format!("lib/{}-linux-gnu/vx", std::env::consts::ARCH);
    ["lib/vx".into(), "lib64/vx".into(), multiarch, "share/gstreamer-1.0/vx".into()]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_in_its_own_target_folder_uses_libraries_of_the_source() {
        let source = tempfile::tempdir().unwrap();
        let source = source.path().canonicalize().unwrap();
        let deps = source.join(".deps/lib");
        for program in ["target/debug/vx", "target/release/examples/demo", "target/tmp/vx-1"] {
            assert_eq!(dirs_of(&source.join(program), &source), std::slice::from_ref(&deps));
        }
        for program in ["/nowhere/vx-1.0/target/vx", "/nowhere/target/debug/vx", "/vx"] {
            assert!(dirs_of(Path::new(program), &source).is_empty(), "{program}");
        }
        let installed = places_of_installation().map(|place| Path::new("/nowhere/vx-1.0").join(place));
        assert_eq!(dirs_of(Path::new("/nowhere/vx-1.0/bin/vx"), &source), installed);
        // Anybody may create /tmp/lib/vx.
        if library_paths::is_shared(Path::new("/tmp")) {
            assert!(dirs_of(Path::new("/tmp/bin/vx"), &source).is_empty());
        }
    }
}
