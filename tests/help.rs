// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests help, examples, suggestions for mistakes, and `vx doctor` on broken installations.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{clip, made, root, scratch};

fn vx(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vx")).args(arguments).output().unwrap()
}

fn errors(arguments: &[&str]) -> String {
    let output = vx(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn help(arguments: &[&str]) -> String {
    String::from_utf8(vx(&[arguments, &["--help"]].concat()).stdout).unwrap()
}

/// Returns the lines under `Examples:`.
fn examples(help: &str) -> Vec<String> {
    let (_, examples) = help.split_once("Examples:\n").unwrap();
    examples.lines().map(|line| line.trim().to_owned()).take_while(|line| !line.is_empty()).collect()
}

#[test]
fn the_examples_of_the_help_run() {
    let folder = scratch("examples");
    std::fs::create_dir_all(folder.join("recordings")).unwrap();
    let short = made("short.mp4", &["-i", clip().to_str().unwrap(), "-an", "-t", "3", "-c", "copy"]);
    for copy in ["clip.mp4", "recordings/a.mp4", "recordings/b.mp4"] {
        std::fs::copy(&short, folder.join(copy)).unwrap();
    }
    std::fs::copy(root().join("models/person-320.onnx"), folder.join("model.onnx")).unwrap();
    let picture = made("picture.jpg", &["-i", clip().to_str().unwrap(), "-frames:v", "1"]);
    std::fs::copy(picture, folder.join("picture.jpg")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_vx")).parent().unwrap();
    let path = std::env::join_paths(
        [program.to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let mut count = 0;
    for command in ["detect", "events", "report", "inspect", "completions", "man"] {
        for line in examples(&help(&[command])) {
            assert!(line.contains("vx "), "{line}");
            let run = Command::new("sh").args(["-c", &line]).current_dir(&folder).env("PATH", &path).output().unwrap();
            assert!(run.status.success(), "{line}: {}", String::from_utf8_lossy(&run.stderr));
            count += 1;
        }
    }
    assert!(count >= 18, "{count} examples");
    for file in [
        "people.csv",
        "people.jsonl",
        "people.json",
        "pictures",
        "events.csv",
        "report.html",
        "people.html",
        "vx.bash",
        "_vx",
        "vx.1",
        "vx-detect.1",
    ] {
        assert!(folder.join(file).exists(), "{file}");
    }
}

#[test]
fn the_help_of_detect_has_sections() {
    let text = help(&["detect"]);
    for word in ["Exit status:", "130", "141", "Signals:", "Examples:"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    for section in ["Input:", "Model:", "Output:", "Performance:", "Robustness:"] {
        assert!(text.lines().any(|line| line == section), "{section} is not in {text}");
    }
    // Options outside the sections.
    let (_, rest) = text.split_once("Options:\n").unwrap();
    let (rest, _) = rest.split_once("Input:").unwrap();
    let options = rest.lines().filter(|line| line.trim_start().starts_with('-')).count();
    assert_eq!(options, 2, "only help and version: {rest}");
}

#[test]
fn mistyped_names_get_a_suggestion() {
    let clip = clip();
    let clip = clip.to_str().unwrap();
    for (arguments, meant) in [
        (&["inspekt", clip][..], "'inspect'"),
        (&["detect", clip, "--ouput", "x"], "'--output'"),
        (&["detect", clip, "--provider", "openvno"], "'openvino'"),
        (&["detect", clip, "--order", "largestfirst"], "'largest-first'"),
        (&["detect", clip, "--set", "max-gp=1s"], "did you mean decoder::max-gap?"),
        (&["detect", clip, "--set", "detector::iou-treshold=1"], "iou-threshold"),
    ] {
        let said = errors(arguments);
        assert!(said.contains(meant), "{arguments:?}: {said}");
    }
    // From the classes of a model.
    let model = root().join("tests/models/v8_raw.onnx");
    let labels = scratch("names.txt");
    let names: Vec<String> =
        (0..80).map(|class| if class == 7 { "bicycle".into() } else { format!("thing {class}") }).collect();
    std::fs::write(&labels, names.join("\n")).unwrap();
    let (model, labels) = (model.to_str().unwrap(), labels.to_str().unwrap());
    let said =
        errors(&["detect", clip, "--model", model, "--labels", labels, "--classes", "bycicle", "--provider", "cpu"]);
    assert!(said.contains("did you mean bicycle?"), "{said}");
}

#[test]
fn shells_complete_the_names_of_providers() {
    let script = String::from_utf8(vx(&["completions", "bash"]).stdout).unwrap();
    assert!(script.contains("auto cpu openvino cuda tensorrt"), "no providers in the completions of bash");
}

/// Runs `vx doctor` with this plugin folder.
fn doctor(plugins: &Path, runtime: Option<&Path>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vx"));
    command.arg("doctor").env("GST_PLUGIN_PATH", plugins).env_remove("ORT_DYLIB_PATH");
    command.env("GST_REGISTRY", plugins.join("the registry.bin"));
    if let Some(runtime) = runtime {
        command.env("ORT_DYLIB_PATH", runtime);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Creates a folder with this file as the plugin.
fn with_plugin(name: &str, plugin: &[u8]) -> std::path::PathBuf {
    let folder = scratch(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("libgstvx.so"), plugin).unwrap();
    folder
}

#[test]
fn doctor_quotes_the_loader_and_names_the_registry() {
    let folder = with_plugin("no elf", "This is not a library at all. ".repeat(100).as_bytes());
    let said = doctor(&folder, None);
    assert!(said.contains("invalid ELF header"), "{said}");
    let remove = format!("rm '{}'", folder.join("the registry.bin").display());
    assert!(said.contains(&remove), "{said}");
    // A library of the same name that depends on a missing one.
    let folder = with_plugin("lacking", b"");
    let compile = |arguments: &[&str]| {
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC"]).args(arguments).current_dir(&folder).output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    };
    std::fs::write(folder.join("gone.c"), "int gone (void) { return 1; }").unwrap();
    std::fs::write(folder.join("plugin.c"), "extern int gone (void); int user (void) { return gone (); }").unwrap();
    compile(&["gone.c", "-o", "libgone.so.77", "-Wl,-soname,libgone.so.77"]);
    compile(&["plugin.c", "-o", "libgstvx.so", "./libgone.so.77"]);
    std::fs::remove_file(folder.join("libgone.so.77")).unwrap();
    let said = doctor(&folder, None);
    assert!(said.contains("libgone.so.77: cannot open shared object file"), "{said}");
    assert!(said.contains("Install the package that has libgone.so.77"), "{said}");
}

#[test]
fn doctor_prints_the_path_to_set_for_a_plugin_that_gstreamer_does_not_see() {
    // Like an installation: the command in bin/, the plugin in lib/.
    let prefix = scratch("prefix");
    std::fs::create_dir_all(prefix.join("bin")).unwrap();
    std::fs::create_dir_all(prefix.join("lib/gstreamer-1.0")).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_vx"), prefix.join("bin/vx")).unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_vx")).with_file_name("libgstvx.so");
    if !built.exists() {
        println!("skipped: {} is not built", built.display());
        return;
    }
    std::fs::copy(built, prefix.join("lib/gstreamer-1.0/libgstvx.so")).unwrap();
    let mut command = Command::new(prefix.join("bin/vx"));
    let registry = prefix.join("registry.bin");
    command.arg("doctor").env("GST_PLUGIN_PATH", prefix.join("none")).env("GST_REGISTRY", registry);
    let output = command.env_remove("ORT_DYLIB_PATH").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let export = format!("export GST_PLUGIN_PATH={}", prefix.join("lib/gstreamer-1.0").display());
    assert!(said.contains(&export), "{said}");
}

#[test]
fn doctor_quotes_the_loader_on_onnx_runtime() {
    let folder = scratch("runtimes");
    std::fs::create_dir_all(&folder).unwrap();
    let library = folder.join("libonnxruntime.so.1.9.0");
    std::fs::write(&library, "This is not a library at all. ".repeat(100)).unwrap();
    let said = doctor(&folder, Some(&library));
    assert!(said.contains("invalid ELF header") && said.contains("ORT_DYLIB_PATH"), "{said}");
}
