// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the built plugin with GStreamer's tools gst-launch-1.0 and gst-inspect-1.0, and with the `vx` command.
//!
//! `make test` builds the plugin and sets VX_PLUGIN_DIR to its folder. Without this variable the tests are skipped.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{PATIENCE, clip, root, scratch};

fn plugin_dir() -> Option<PathBuf> {
    let dir = std::env::var_os("VX_PLUGIN_DIR").map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: VX_PLUGIN_DIR is not set; `make test` builds the plugin and sets it");
    }
    dir
}

/// Creates a command that finds the plugin in `plugins` and inherits no environment variable that affects the result.
fn command(program: impl AsRef<std::ffi::OsStr>, plugins: &Path) -> Command {
    let mut command = Command::new(program);
    let registry = format!("registry-{:x}.bin", plugins.as_os_str().len());
    command.env("GST_PLUGIN_PATH", plugins).env("GST_REGISTRY", scratch(&registry)).env("GST_DEBUG_NO_COLOR", "1");
    command.env_remove("ORT_DYLIB_PATH").env_remove("GST_DEBUG").current_dir(root());
    command
}

struct Finished {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

fn finish(mut command: Command) -> Finished {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let reader = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            pipe.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let stdout = reader(Box::new(child.stdout.take().unwrap()));
    let stderr = reader(Box::new(child.stderr.take().unwrap()));
    let status = wait(&mut child);
    Finished { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

/// Returns the exit status, or `None` if the program had to be killed.
fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code().expect("ended by a signal"));
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn launch(plugins: &Path, line: &str) -> Command {
    let mut command = command("gst-launch-1.0", plugins);
    command.args(line.split_whitespace());
    command
}

const CLIP: &str = "examples/media/scenes.mp4";
const DETECT: &str = "vxkeyframedec ! vxyolodetect execution-provider=cpu ! vxjsonenc ! fdsink";

fn lines(output: &str) -> Vec<serde_json::Value> {
    output.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

#[test]
fn a_file_and_a_pipe_produce_the_same_lines() {
    let Some(plugins) = plugin_dir() else { return };
    let from_file = finish(launch(&plugins, &format!("-q filesrc location={CLIP} ! {DETECT}")));
    assert_eq!(from_file.status, Some(0), "{}", from_file.stderr);
    let mut piped = launch(&plugins, &format!("-q fdsrc ! {DETECT}"));
    piped.stdin(std::fs::File::open(clip()).unwrap());
    let piped = finish(piped);
    assert_eq!(piped.status, Some(0), "{}", piped.stderr);
    let (mut from_file, piped) = (lines(&from_file.stdout), lines(&piped.stdout));
    assert_eq!(from_file.len(), 16);
    for line in &mut from_file {
        assert!(line["file"].as_str().unwrap().ends_with("/scenes.mp4"));
        // A pipe has no file name.
        line["file"] = serde_json::Value::Null;
    }
    assert_eq!(from_file, piped);
}

#[test]
fn no_objects_leak() {
    let Some(plugins) = plugin_dir() else { return };
    let text = scratch("text.mp4");
    std::fs::write(&text, "no video").unwrap();
    for file in [clip(), text] {
        let line = format!("-q filesrc location={} ! {DETECT}", file.display());
        let mut traced = launch(&plugins, &line);
        traced.env("GST_TRACERS", "leaks").env("GST_DEBUG", "GST_TRACER:7");
        let traced = finish(traced);
        assert!(traced.status.is_some(), "it does not end: {}", traced.stderr);
        assert!(traced.stderr.contains("object-alive"), "the tracer does not run");
        let alive: Vec<_> = traced
            .stderr
            .lines()
            .filter(|line| line.contains("object-alive, type-name=(string)") && !line.contains("%s"))
            .collect();
        assert!(alive.is_empty(), "{}", alive.join("\n"));
    }
}

#[test]
fn errors_name_the_unreadable_file_and_the_reason() {
    let Some(plugins) = plugin_dir() else { return };
    let file = |name: &str, bytes: &[u8]| {
        let path = scratch(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let whole = std::fs::read(clip()).unwrap();
    let cases = [
        (file("empty.mp4", b""), "empty"),
        (file("letter.mp4", b"Dear Sir or Madam, this is a letter."), "not a media file"),
        (file("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:1/a.ts\n"), "playlist"),
        (file("cut.mp4", &whole[..3000]), "index (moov box) is missing"),
        (common::made("sound.mp4", &["-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac"]), "no video"),
    ];
    for (path, reason) in cases {
        for queue in ["", "! queue"] {
            let line = format!("-q filesrc location={} {queue} ! vxkeyframedec ! fakesink", path.display());
            let run = finish(launch(&plugins, &line));
            assert!(run.status.is_some_and(|status| status != 0), "{}: {:?}", path.display(), run.status);
            let error = run.stderr.lines().find(|line| line.starts_with("ERROR: from element")).unwrap_or_default();
            assert!(
                error.contains(reason) && error.contains(path.to_str().unwrap()),
                "{}: {}",
                path.display(),
                run.stderr
            );
            assert!(!run.stderr.contains("Internal data stream error"), "{}", run.stderr);
        }
    }
}

#[test]
fn intact_parts_of_truncated_and_damaged_files_are_read() {
    let Some(plugins) = plugin_dir() else { return };
    let mut bytes = std::fs::read(clip()).unwrap();
    let cut = scratch("cut_in_the_middle.mp4");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let run = finish(launch(
        &plugins,
        &format!("-q filesrc location={} ! vxkeyframedec ! vxjsonenc ! fdsink", cut.display()),
    ));
    let found = lines(&run.stdout).len();
    assert!((4..16).contains(&found), "{found} keyframes; {}", run.stderr);
    // Overwrites a part of the data with noise: only the pictures in that part are affected.
    let middle = bytes.len() / 2;
    for (index, byte) in bytes[middle..middle + 30_000].iter_mut().enumerate() {
        *byte = (index * 31 % 251) as u8;
    }
    let damaged = scratch("damaged.mp4");
    std::fs::write(&damaged, &bytes).unwrap();
    let line = format!("filesrc location={} ! vxkeyframedec ! fakesink", damaged.display());
    let run = finish(launch(&plugins, &line));
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let line = format!("-q filesrc location={} ! vxkeyframedec ! vxjsonenc ! fdsink", damaged.display());
    let found = lines(&finish(launch(&plugins, &line)).stdout).len();
    assert!((13..=16).contains(&found), "{found} keyframes");
}

#[test]
fn without_onnx_runtime_other_elements_work_and_the_error_explains_the_installation() {
    let Some(plugins) = plugin_dir() else { return };
    let alone = scratch("alone/plugins");
    std::fs::create_dir_all(&alone).unwrap();
    let file = std::fs::read_dir(&plugins).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.to_string_lossy().contains("libgstvx")).unwrap();
    std::fs::copy(&file, alone.join(file.file_name().unwrap())).unwrap();
    let inspected = finish({
        let mut inspect = command("gst-inspect-1.0", &alone);
        inspect.arg("vx");
        inspect
    });
    assert_eq!(inspected.status, Some(0), "{}", inspected.stderr);
    let decoded = finish(launch(&alone, &format!("-q filesrc location={CLIP} ! vxkeyframedec ! vxjsonenc ! fdsink")));
    assert_eq!(lines(&decoded.stdout).len(), 16, "{}", decoded.stderr);
    let absent = scratch("alone/nothing");
    let mut detect = launch(&alone, &format!("-q filesrc location={CLIP} ! {DETECT}"));
    detect.env("ORT_DYLIB_PATH", &absent);
    let detected = finish(detect);
    assert!(detected.status.is_some_and(|status| status != 0), "{:?}", detected.status);
    assert!(detected.stderr.contains("make setup") && detected.stderr.contains("nothing"), "{}", detected.stderr);
    assert!(!detected.stderr.contains("panicked"), "{}", detected.stderr);
}

#[test]
fn the_plugin_folder_contains_nothing_blacklisted() {
    let Some(plugins) = plugin_dir() else { return };
    let mut inspect = command("gst-inspect-1.0", &plugins);
    inspect.arg("-b");
    let inspected = finish(inspect);
    for name in ["libgstvx", "onnxruntime", "openvino"] {
        assert!(!inspected.stdout.contains(name), "{}", inspected.stdout);
    }
}

/// Returns the fenced `sh` blocks of a page; the test runs these. Other commands are indented or fenced as `console`.
fn shell_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("```sh\n") {
        let (block, after) = after.split_once("```").expect("a fence is closed");
        blocks.push(block.to_owned());
        rest = after;
    }
    blocks
}

#[test]
fn the_commands_of_the_readme_and_the_manual_run() {
    let Some(plugins) = plugin_dir() else { return };
    let folder = scratch("manual");
    let program = Path::new(env!("CARGO_BIN_EXE_vx")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([program].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let pages = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages =
        pages.chain([root().join("README.md")]).filter(|path| path.extension().is_some_and(|name| name == "md"));
    let mut lines = 0;
    for page in pages {
        // One folder for each page: as for a reader, commands of a page can use the output of earlier commands.
        let folder = folder.join(page.strip_prefix(root()).unwrap());
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["examples", "models"] {
            std::os::unix::fs::symlink(root().join(name), folder.join(name)).unwrap();
        }
        for block in shell_blocks(&std::fs::read_to_string(&page).unwrap()) {
            for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let mut shell = command("sh", &plugins);
                shell.args(["-c", line]).current_dir(&folder).env("PATH", &path);
                let run = finish(shell);
                assert_eq!(run.status, Some(0), "{}: {line}\n{}", page.display(), run.stderr);
                lines += 1;
            }
        }
    }
    assert!(lines >= 9, "README and manual show {lines} commands");
}

/// Runs launch lines from the source tree like a user, with outputs in a separate folder.
fn run_lines<'a>(plugins: &Path, name: &str, lines: impl IntoIterator<Item = &'a str>) {
    let folder = scratch(name);
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["examples", "models"] {
        let link = folder.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(root().join(name), link).unwrap();
        }
    }
    for line in lines {
        let mut shell = command("sh", plugins);
        shell.args(["-c", line]).current_dir(&folder);
        let run = finish(shell);
        assert_eq!(run.status, Some(0), "{line}\n{}", run.stderr);
    }
}

#[test]
fn the_launch_lines_of_the_readme_run() {
    let Some(plugins) = plugin_dir() else { return };
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let lines: Vec<_> = readme.lines().filter(|line| line.starts_with("gst-launch-1.0")).collect();
    assert!(lines.len() >= 3, "the README shows {} launch lines", lines.len());
    run_lines(&plugins, "readme", lines);
}

#[test]
fn the_launch_lines_of_the_elements_documentation_run() {
    let Some(plugins) = plugin_dir() else { return };
    for folder in std::fs::read_dir(root().join("src/elements")).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(text) = std::fs::read_to_string(folder.join("mod.rs")) else { continue };
        let name = folder.file_name().unwrap().to_str().unwrap();
        let sections = ["element", "tracer"].map(|kind| format!("/**\n * SECTION:{kind}-vx"));
        let section = sections.iter().find_map(|start| text.split_once(start));
        let section = section.unwrap_or_else(|| panic!("{name} has no SECTION")).1;
        let section = section.split_once("*/").unwrap().0;
        assert!(section.starts_with(&format!("{name}\n")), "the section of {name} names another element");
        assert!(section.contains("## Example launch line") && section.contains("Since: "), "{section}");
        let lines = section.lines().map(|line| line.trim_start_matches(" * "));
        let lines: Vec<_> = lines.filter(|line| line.contains("gst-launch-1.0 ")).collect();
        assert!(!lines.is_empty(), "{name} has no launch line");
        run_lines(&plugins, &format!("documentation/{name}"), lines);
    }
}

#[test]
fn vx_doctor_reports_what_is_installed_and_what_is_missing() {
    let Some(plugins) = plugin_dir() else { return };
    let doctor = |plugins: &Path| {
        let mut doctor = command(env!("CARGO_BIN_EXE_vx"), plugins);
        doctor.arg("doctor");
        finish(doctor)
    };
    let healthy = doctor(&plugins);
    assert_eq!(healthy.status, Some(0), "{}", healthy.stdout);
    for part in ["GStreamer", "FFmpeg", "plugin", "ONNX Runtime", "model", "provider"] {
        assert!(healthy.stdout.contains(&format!("ok    {part}")), "{}", healthy.stdout);
    }
    // Whether these exist depends on the machine; none is required.
    for name in ["openvino", "webgpu", "tensorrt-rtx"] {
        assert!(healthy.stdout.contains(&format!("  plugin provider {name}: ")), "{}", healthy.stdout);
    }
    let lost = doctor(&scratch("no plugins here"));
    assert_eq!(lost.status, Some(1), "{}", lost.stdout);
    assert!(lost.stdout.contains("GST_PLUGIN_PATH"), "{}", lost.stdout);
    let usage = finish(command(env!("CARGO_BIN_EXE_vx"), &plugins));
    assert_eq!(usage.status, Some(2));
}

#[test]
fn many_lines_do_not_block_the_pipeline() {
    let Some(plugins) = plugin_dir() else { return };
    let (list, found) = (scratch("launched.txt"), scratch("launched.jsonl"));
    std::fs::write(&list, format!("{}\n", root().join(CLIP).display()).repeat(24)).unwrap();
    // Every candidate becomes a detection, so the lines exceed what the buffers between elements hold.
    let line = format!(
        "vxbulkbin execution-provider=cpu confidence-threshold=0 file-list={} ! filesink location={}",
        list.display(),
        found.display()
    );
    let run = finish(launch(&plugins, &line));
    assert_eq!(run.status, Some(0), "{}{}", run.stdout, run.stderr);
    let text = std::fs::read_to_string(found).unwrap();
    assert!(text.len() > 6 << 20, "{}", text.len());
    assert_eq!(text.lines().count(), 24 * 17);
    assert!(run.stdout.contains("24 of 24 files"), "{}", run.stdout);
}

/// Expects OpenVINO where setup found that it is faster, and only for models that it runs well.
#[test]
fn the_fastest_provider_is_selected_automatically() {
    let Some(plugins) = plugin_dir() else { return };
    let has = |file: &str| plugins.join("../vx").join(file).exists();
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let plugs_in = processor.contains("GenuineIntel") && has("libonnxruntime_providers_openvino_plugin.so");
    let is_built_in = !processor.contains("GenuineIntel")
        && processor.contains("avx512_bf16")
        && has("openvino/libonnxruntime_providers_openvino.so");
    let expected = if plugs_in || is_built_in { "OpenVINOExecutionProvider" } else { "CPUExecutionProvider" };
    let provider = |properties: &str| {
        let detect = format!("vxyolodetect {properties} ! vxjsonenc header=true ! fdsink");
        let run = finish(launch(&plugins, &format!("-q filesrc location={CLIP} ! vxkeyframedec ! {detect}")));
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        let lines = lines(&run.stdout);
        assert_eq!(lines.len(), 17);
        let people = lines.iter().filter_map(|line| line["detections"].as_array()).map(Vec::len).sum::<usize>();
        (lines[0]["header"]["detector"]["provider"].as_str().unwrap().to_owned(), people)
    };
    assert_eq!(provider(""), (expected.to_owned(), 8));
    assert_eq!(provider("execution-provider=cpu"), ("CPUExecutionProvider".to_owned(), 8));
    assert_eq!(provider("model-file=tests/models/quantised.onnx").0, "CPUExecutionProvider");
}

#[test]
fn the_onnx_runtime_log_does_not_flood_the_element_log() {
    let Some(plugins) = plugin_dir() else { return };
    let logged = |levels: &str| {
        let mut command = launch(&plugins, &format!("filesrc location={CLIP} ! {DETECT}"));
        command.env("GST_DEBUG", levels);
        let run = finish(command);
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        run.stderr.lines().filter(|line| line.contains(" vx")).map(str::to_owned).collect::<Vec<_>>()
    };
    let usual = logged("vx*:4");
    assert!((3..40).contains(&usual.len()), "{} lines", usual.len());
    assert!(usual.iter().all(|line| !line.contains(" vxort ")), "{usual:?}");
    // TIME PID THREAD LEVEL CATEGORY FILE:LINE:FUNCTION:<OBJECT> MESSAGE
    let place = |line: &str| line.split_whitespace().nth(5).unwrap_or_default().to_owned();
    assert!(usual.iter().all(|line| !place(line).contains("::<impl")), "{usual:?}");
    assert!(usual.iter().any(|line| place(line).contains(":push_keyframe:")), "{usual:?}");
    let closing = usual.iter().find(|line| line.contains("16 frames, 16 inference runs, 8 detections"));
    assert!(closing.is_some(), "{usual:?}");
    assert!(logged("vxort:6").len() > 100);
}

#[test]
fn the_tracer_logs_the_time_of_each_stage() {
    let Some(plugins) = plugin_dir() else { return };
    let line = format!("-q filesrc location={CLIP} ! vxkeyframedec ! vxyolodetect execution-provider=cpu ! fakesink");
    let mut launch = launch(&plugins, &line);
    launch.env("GST_TRACERS", "vxlatency");
    let finished = finish(launch);
    assert_eq!(finished.status, Some(0), "{}", finished.stderr);
    let count = |stage: &str| {
        let row = finished.stderr.lines().find_map(|line| line.strip_prefix(stage));
        let row = row.unwrap_or_else(|| panic!("{stage} is missing: {}", finished.stderr));
        assert!(row.matches(" ms").count() == 4, "{row}");
        row.split_whitespace().next().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(count("vxkeyframedec open"), 1);
    for stage in ["read", "decode", "push"] {
        assert_eq!(count(&format!("vxkeyframedec {stage}")), 16);
    }
    for stage in ["queue", "letterbox", "model", "outputs", "push"] {
        assert_eq!(count(&format!("vxyolodetect {stage}")), 16);
    }
}
