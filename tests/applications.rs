// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the programs in docs/applications.md exactly as printed there.
//!
//! `make test` builds the plugin and sets VX_PLUGIN_DIR to its folder. Without this variable the tests are skipped.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};

use common::{clip, made, root, scratch};

/// Returns the first code block in this language.
fn program(language: &str) -> String {
    let page = std::fs::read_to_string(root().join("docs/applications.md")).unwrap();
    let (_, code) = page.split_once(&format!("```{language}\n")).unwrap();
    code.split_once("```").unwrap().0.to_owned()
}

fn plugin_dir() -> Option<PathBuf> {
    let dir = std::env::var_os("VX_PLUGIN_DIR").map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: VX_PLUGIN_DIR is not set; `make test` builds the plugin and sets it");
    }
    dir
}

/// Creates two files, one with a comma and a space in its name.
fn files() -> [PathBuf; 2] {
    let short = ["-i", clip().to_str().unwrap(), "-t", "1.9", "-an", "-c", "copy"].map(str::to_owned);
    let short: Vec<&str> = short.iter().map(String::as_str).collect();
    [made("first.mp4", &short), made("second, <of> two.mp4", &short)]
}

fn run(mut command: Command, plugins: &PathBuf) -> Output {
    command.args(files());
    output_of(command, plugins)
}

/// Runs a program that has its arguments.
fn output_of(mut command: Command, plugins: &PathBuf) -> Output {
    let registry = scratch("registry-applications.bin");
    command.env("GST_PLUGIN_PATH", plugins).env("GST_REGISTRY", registry).env_remove("ORT_DYLIB_PATH");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Returns a Python with bindings of GStreamer.
fn python() -> Option<&'static str> {
    let check = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstVideo', '1.0')
from gi.repository import Gst, GstVideo";
    let has_bindings =
        |python: &&str| Command::new(python).args(["-c", check]).output().is_ok_and(|output| output.status.success());
    let found = ["/usr/bin/python3", "python3"].into_iter().find(has_bindings);
    if found.is_none() {
        println!(
            "skipped: Python has no bindings of GStreamer; \
             `apt install python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0`"
        );
    }
    found
}

/// Compiles a C program with warnings as errors.
fn compiled(source: &std::path::Path, name: &str, package: &str) -> PathBuf {
    let built = scratch(name);
    let flags = Command::new("pkg-config").args(["--cflags", "--libs", package]).output().unwrap();
    let flags = String::from_utf8(flags.stdout).unwrap();
    let compiled = Command::new("cc")
        .args(["-Wall", "-Werror"])
        .arg(source)
        .arg("-o")
        .arg(&built)
        .args(flags.split_whitespace())
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    built
}

/// Returns an example, if it was built; it uses the plugin, not the library.
fn example(name: &str) -> Option<Command> {
    let example = std::path::Path::new(env!("CARGO_BIN_EXE_vx")).with_file_name("examples").join(name);
    if !example.exists() {
        println!("skipped: {} is not built; `cargo test` without --test builds it", example.display());
        return None;
    }
    Some(Command::new(example))
}

/// Asserts that a text contains each file's name followed by `behind`.
fn assert_names(text: &str, behind: &str) {
    for file in files() {
        let wanted = format!("{}{behind}", file.display());
        assert!(text.contains(&wanted), "{wanted} is not in {text}");
    }
}

#[test]
fn the_python_program_reads_its_files_without_overrides() {
    let Some(plugins) = plugin_dir() else { return };
    let Some(python) = python() else { return };
    let mut command = Command::new(python);
    command.args(["-c", &program("python")]);
    let output = run(command, &plugins);
    assert_names(&String::from_utf8(output.stderr).unwrap(), " ok");
    assert_names(&String::from_utf8(output.stdout).unwrap(), " 0 ['person']");
}

#[test]
fn the_rust_example_reads_its_files() {
    let Some(example) = example("many_files") else { return };
    let source = std::fs::read_to_string(root().join("examples/many_files.rs")).unwrap();
    assert!(source.lines().count() < 40);
    let output = run(example, &scratch("no-plugins"));
    assert_names(&String::from_utf8(output.stderr).unwrap(), ": ok");
    assert_names(&String::from_utf8(output.stdout).unwrap(), " Some(0) [\"person\"]");
}

#[test]
fn the_c_program_reads_its_files() {
    let Some(plugins) = plugin_dir() else { return };
    let source = scratch("many_files.c");
    std::fs::write(&source, program("c")).unwrap();
    let built = compiled(&source, "many_files", "gstreamer-1.0");
    let folder = scratch("found");
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new(built);
    command.current_dir(&folder);
    let output = run(command, &plugins);
    assert_names(&String::from_utf8(output.stdout).unwrap(), " ok");
    let lines = std::fs::read_to_string(folder.join("found.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 6, "{lines}");
}

/// The first second of the clip shows a person, whom every program prints.
fn assert_prints_persons(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or_default();
    assert!(first.contains("person") && first.contains('.'), "{text}");
}

#[test]
fn examples_print_the_detections_of_each_frame() {
    let Some(plugins) = plugin_dir() else { return };
    let clip = clip();
    let mut printed = Vec::new();
    for name in ["detect_file", "appsink"] {
        let Some(mut command) = example(name) else { continue };
        command.arg(&clip);
        printed.push(output_of(command, &plugins));
    }
    let mut command = Command::new(compiled(&root().join("examples/detect.c"), "detect", "gstreamer-video-1.0"));
    command.arg(&clip);
    printed.push(output_of(command, &plugins));
    if let Some(python) = python() {
        let mut command = Command::new(python);
        command.arg(root().join("examples/detect.py")).arg(&clip);
        printed.push(output_of(command, &plugins));
    }
    let lines = |output: &Output| String::from_utf8_lossy(&output.stdout).lines().count();
    for output in &printed {
        assert_prints_persons(output);
        assert_eq!(lines(output), lines(&printed[0]), "{output:?}");
    }
}

#[test]
fn the_live_example_looks_at_frames_of_a_live_source() {
    let (Some(plugins), Some(mut command)) = (plugin_dir(), example("live")) else { return };
    command.args(["videotestsrc is-live=true num-buffers=60", "60"]);
    let output = output_of(command, &plugins);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("frame 1: "), "{output:?}");
}
