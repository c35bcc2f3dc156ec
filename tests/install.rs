// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `scripts/install.sh`, which `make install` and `make uninstall` run: the installed files, and what remains after an
//! uninstall.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{root, scratch};

/// Lists everything below a folder; folders end with a slash.
fn tree(folder: &Path) -> BTreeSet<String> {
    let entries = walkdir::WalkDir::new(folder).min_depth(1).into_iter().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.path().strip_prefix(folder).unwrap().display().to_string();
            if entry.file_type().is_dir() { format!("{name}/") } else { name }
        })
        .collect()
}

/// Creates the result of a build with these libraries.
fn fake_build(name: &str, libraries: &[&str]) -> PathBuf {
    let folder = scratch(name);
    for library in libraries {
        let path = folder.join("vx").join(library);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "a library").unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("libgstvx.so"), "a plugin").unwrap();
    folder
}

fn install(action: &str, built: &Path, prefix: &str, destdir: &Path) -> Output {
    Command::new(root().join("scripts/install.sh"))
        .arg(action)
        .arg(built.join("libgstvx.so"))
        .arg(built.join("vx"))
        .arg(env!("CARGO_BIN_EXE_vx"))
        .args([format!("{prefix}/lib/gstreamer-1.0"), format!("{prefix}/bin")])
        .arg(destdir)
        .output()
        .unwrap()
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn uninstall_removes_exactly_the_files_of_install() {
    let destdir = scratch("destdir");
    let others = destdir.join("opt/vx/share/man/man1/other.1");
    std::fs::create_dir_all(others.parent().unwrap()).unwrap();
    std::fs::write(&others, "a page of somebody else").unwrap();
    // An empty folder that install did not create.
    std::fs::create_dir_all(destdir.join("opt/vx/share/doc")).unwrap();
    let before = tree(&destdir);
    let first = fake_build("first", &["libonnxruntime.so", "libonnxruntime.so.1", "openvino/libopenvino.so"]);
    assert_success(&install("install", &first, "/opt/vx", &destdir));
    let installed = tree(&destdir);
    for file in [
        "bin/vx",
        "lib/gstreamer-1.0/libgstvx.so",
        "lib/vx/libonnxruntime.so",
        "lib/vx/openvino/libopenvino.so",
        "share/man/man1/vx.1",
        "share/man/man1/vx-detect.1",
        "share/man/man1/vx-doctor.1",
        "share/bash-completion/completions/vx",
        "share/doc/vx/LICENSE-MIT",
    ] {
        assert!(installed.contains(&format!("opt/vx/{file}")), "{file} is not in {installed:?}");
    }
    if root().join(".deps/licenses/onnxruntime").exists() {
        assert!(installed.contains("opt/vx/share/doc/vx/onnxruntime/ThirdPartyNotices.txt"), "{installed:?}");
    }
    // Another version installed over it, without some of the libraries.
    let second = fake_build("second", &["libonnxruntime.so"]);
    assert_success(&install("install", &second, "/opt/vx", &destdir));
    assert!(!destdir.join("opt/vx/lib/vx/libonnxruntime.so.1").exists());
    assert!(destdir.join("opt/vx/lib/vx/libonnxruntime.so").exists());
    assert_success(&install("uninstall", &second, "/opt/vx", &destdir));
    assert_eq!(tree(&destdir), before);
    let again = install("uninstall", &second, "/opt/vx", &destdir);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("PREFIX"), "{again:?}");
}

#[test]
fn a_dedicated_prefix_with_spaces_is_removed_completely() {
    let parent = scratch("a prefix");
    std::fs::create_dir_all(&parent).unwrap();
    let prefix = parent.join("my vx").display().to_string();
    let built = fake_build("spaces", &["libonnxruntime.so"]);
    assert_success(&install("install", &built, &prefix, Path::new("")));
    assert!(Path::new(&prefix).join("bin/vx").exists());
    assert_success(&install("uninstall", &built, &prefix, Path::new("")));
    assert!(tree(&parent).is_empty(), "{:?}", tree(&parent));
}

#[test]
fn manual_pages_render_without_warnings() {
    let vx = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_vx")).args(arguments).output().unwrap().stdout;
    for page in [&["man"][..], &["man", "detect"], &["man", "inspect"], &["man", "doctor"], &["man", "man"]] {
        let file = scratch(&format!("vx-{}.1", page.len()));
        std::fs::write(&file, vx(page)).unwrap();
        let Ok(rendered) = Command::new("groff").args(["-man", "-ww", "-Tutf8", "-k", "-P-cbou"]).arg(&file).output()
        else {
            println!("skipped: groff is not there");
            return;
        };
        assert!(rendered.stderr.is_empty(), "{page:?}: {}", String::from_utf8_lossy(&rendered.stderr));
        let text = String::from_utf8_lossy(&rendered.stdout).into_owned();
        let name = page.get(1).map_or("vx(1)".to_owned(), |page| format!("vx-{page}(1)"));
        assert!(text.contains(&name) && text.contains("SYNOPSIS"), "{text}");
    }
}
