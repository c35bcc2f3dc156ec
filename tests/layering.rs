// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks the layers of the source tree: which modules may use which others, and where `unsafe` is allowed.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

fn layer(name: &str) -> Vec<(PathBuf, String)> {
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name))
}

/// Returns the lines of code without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"))
}

#[test]
fn layers_use_only_lower_layers() {
    let forbidden: [(&str, &[&str]); 7] = [
        (
            "av",
            &[
                "gst::",
                "gst_video::",
                "ort::",
                "crate::detect",
                "crate::meta",
                "crate::draw",
                "crate::record",
                "crate::elements",
                "crate::run",
            ],
        ),
        (
            "detect",
            &[
                "gst::",
                "gst_video::",
                "ffmpeg_sys_next",
                "crate::av",
                "crate::meta",
                "crate::draw",
                "crate::record",
                "crate::elements",
                "crate::run",
            ],
        ),
        (
            "draw",
            &[
                "gst::",
                "gst_video::",
                "ort::",
                "ffmpeg_sys_next",
                "crate::av",
                "crate::record",
                "crate::elements",
                "crate::run",
            ],
        ),
        (
            "meta",
            &["ort::", "ffmpeg_sys_next", "crate::av", "crate::draw", "crate::record", "crate::elements", "crate::run"],
        ),
        ("record", &["ort::", "ffmpeg_sys_next", "gst_video::", "crate::av", "crate::elements", "crate::run"]),
        ("elements", &["ort::", "ffmpeg_sys_next", "crate::run"]),
        ("run", &["ort::", "ffmpeg_sys_next", "clap", "console", "indicatif", "signal_hook", "std::process::exit"]),
    ];
    for (name, words) in forbidden {
        let files = layer(name);
        assert!(!files.is_empty(), "there is no layer {name}");
        for (path, text) in files {
            for line in code(&text) {
                let named =
                    words.iter().find(|word| line.split(|c: char| !is_path(c)).any(|path| path.starts_with(**word)));
                assert!(named.is_none(), "{}: {line}", path.display());
            }
        }
    }
}

/// The folders of each layer, lowest first. A folder may use the folders before it and files outside the folders.
const ROOMS: [(&str, &[&str]); 2] = [
    ("av", &["frame", "input", "containers", "decode", "keyframes"]),
    ("detect", &["pixels", "onnx", "layouts", "runtime", "model", "engine"]),
];

#[test]
fn folders_of_a_layer_use_only_lower_folders() {
    for (name, rooms) in ROOMS {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
        let mut folders: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.retain(|path| path.is_dir());
        assert_eq!(folders.len(), rooms.len(), "{name} has other rooms than {rooms:?}");
        for (index, room) in rooms.iter().enumerate() {
            for (path, text) in sources(&root.join(room)) {
                if path.to_string_lossy().ends_with("_tests.rs") {
                    continue;
                }
                // Unit tests at the end of a file may use everything.
                let text = text.split("\nmod tests {").next();
                for line in code(text.unwrap()) {
                    for above in &rooms[index + 1..] {
                        assert!(!line.contains(&format!("crate::{name}::{above}")), "{}: {line}", path.display());
                    }
                    if name == "detect" && *room != "runtime" {
                        assert!(!line.split(|c: char| !is_path(c)).any(|path| path.starts_with("ort::")), "{line}");
                    }
                }
            }
        }
    }
}

fn is_path(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == ':'
}

#[test]
fn unsafe_is_used_only_in_the_ffmpeg_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (path, text) in sources(&root) {
        if path.starts_with(root.join("av")) {
            continue;
        }
        let uses = code(&text).find(|line| line.split(|c: char| !is_path(c)).any(|word| word == "unsafe"));
        assert!(uses.is_none(), "{}: {}", path.display(), uses.unwrap());
    }
    for module in [
        "detect/mod.rs",
        "meta/mod.rs",
        "draw/mod.rs",
        "record/mod.rs",
        "elements/mod.rs",
        "run/mod.rs",
        "bin/vx/main.rs",
    ] {
        let text = std::fs::read_to_string(root.join(module)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{module}");
    }
}

#[test]
fn only_the_binary_prints() {
    for name in ["av", "detect", "meta", "draw", "record", "elements", "run"] {
        for (path, text) in layer(name) {
            if path.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("tests")) {
                continue;
            }
            let code = text.split("#[cfg(test)]").next().unwrap();
            let prints = self::code(code).find(|line| line.contains("print!(") || line.contains("println!("));
            assert!(prints.is_none(), "{}: {}", path.display(), prints.unwrap());
        }
    }
}

#[test]
fn every_file_starts_with_an_spdx_line_and_a_module_comment() {
    const LICENCE: &str = "// SPDX-License-Identifier: MIT OR Apache-2.0\n";
    for folder in ["src", "tests", "examples", "benches", "bindings/python/src", "bindings/node/src"] {
        for (path, text) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
            let Some(text) = text.strip_prefix(LICENCE) else { panic!("{} has no SPDX line", path.display()) };
            assert!(text.starts_with("//!"), "{} does not say what it owns", path.display());
        }
    }
}
