//! The end of a process in the midst of its work: with the status that it asks for, never by a signal, for every provider.
//!
//! `VX_EXITS` says how often each is tried; `make exits` does so twenty times.

#![allow(clippy::unwrap_used, reason = "tests may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::{PATIENCE, clip, quoted, root, scratch, shared};
use gst::prelude::*;

/// The status that programs leave with here.
const STATUS: i32 = 7;

fn times() -> u64 {
    std::env::var("VX_EXITS").ok().and_then(|times| times.parse().ok()).unwrap_or(3)
}

/// Moments in the midst of loading and working, all of them different.
fn moment(round: u64) -> Duration {
    Duration::from_millis(30 + round * 137 % 900)
}

/// Providers that are tried; `auto` is OpenVINO where there is one.
const PROVIDERS: [&str; 2] = ["auto", "cpu"];

fn model() -> Option<PathBuf> {
    shared("models/yolov8n_fp32_dynamic.onnx")
}

/// Waits for the end; kills what hangs.
fn end_of(mut child: Child, what: &str) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what} hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(process: u32, name: &str) {
    // It may have ended already.
    let _ = Command::new("kill").args([name, &process.to_string()]).stderr(Stdio::null()).status();
}

/// A file that takes long enough.
fn long_clip() -> PathBuf {
    shared("media/intel/one-by-one-person-detection.mp4").unwrap_or_else(clip)
}

fn vx(provider: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vx"));
    command.args(["detect", "--quiet", "--provider", provider]).arg(long_clip());
    if let Some(model) = model() {
        command.arg("--model").arg(model);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_second_interrupt_ends_the_command_at_once() {
    for provider in PROVIDERS {
        for round in 0..times() {
            let child = vx(provider).spawn().unwrap();
            let process = child.id();
            std::thread::sleep(Duration::from_millis(600) + moment(round));
            signal(process, "-INT");
            std::thread::sleep(Duration::from_millis(50));
            signal(process, "-INT");
            let status = end_of(child, "vx detect");
            // Before there is a run the system ends it; and it may have been done already.
            let is_fine = matches!(status.code(), Some(130 | 0)) || status.signal() == Some(2);
            assert!(is_fine, "{provider}, round {round}: {status}");
        }
    }
}

#[test]
fn output_that_cannot_be_written_is_status_2() {
    for provider in PROVIDERS {
        for round in 0..times() {
            let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
            let child = vx(provider).arg("--dry-run").stdout(full).spawn().unwrap();
            let status = end_of(child, "vx detect --dry-run");
            assert_eq!(status.code(), Some(2), "{provider}, round {round}: {status}");
        }
    }
}

/// Processes whose parent is `parent`.
fn children_of(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    tasks.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

#[test]
fn workers_end_with_their_supervisor_also_while_they_load() {
    let endless = root().join("tests/models/endless_unknown.onnx");
    for provider in PROVIDERS {
        for round in 0..times() {
            let mut command = vx(provider);
            command.arg("--isolate");
            if round % 3 == 2 {
                command.arg("--model").arg(&endless);
            }
            let mut child = command.spawn().unwrap();
            std::thread::sleep(Duration::from_millis(500) + moment(round));
            let workers = children_of(child.id());
            child.kill().unwrap();
            child.wait().unwrap();
            let deadline = Instant::now() + PATIENCE;
            let is_there = |worker: &u32| {
                let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
                // What nobody has waited for is a zombie.
                stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
            };
            while workers.iter().any(is_there) {
                assert!(Instant::now() < deadline, "{provider}, round {round}: workers live on");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

#[test]
fn a_model_that_never_loads_ends_with_the_time_of_a_file_and_with_an_interrupt() {
    let endless = root().join("tests/models/endless_unknown.onnx");
    for isolated in [false, true] {
        let run = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_vx"));
            command.args(["detect", "--provider", "cpu", "--model"]).arg(&endless).arg(clip());
            if isolated {
                command.arg("--isolate");
            }
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command
        };
        let output = run().args(["--file-timeout", "1"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("did not finish loading within 1.0 s") && text.contains("--file-timeout"), "{text}");
        let child = run().spawn().unwrap();
        let process = child.id();
        std::thread::sleep(Duration::from_millis(700));
        signal(process, "-INT");
        let status = end_of(child, "vx detect, interrupted while it loads,");
        assert!(status.code() == Some(130) || status.signal() == Some(2), "isolated {isolated}: {status}");
    }
}

/// Not a test by itself: a program that plays and leaves in the midst of it.
#[test]
#[ignore = "a program that other tests start"]
fn a_program_that_exits() {
    let Ok(arguments) = std::env::var("VX_EXIT") else { return };
    let (provider, round) = arguments.split_once(' ').unwrap();
    let round: u64 = round.parse().unwrap();
    common::init();
    gstvx::elements::places::set_library_dirs(vec![root().join(".deps/lib")]);
    let model = model().map_or(String::new(), |model| format!("model-file={}", quoted(&model)));
    let launch = format!(
        "filesrc location={} ! vxkeyframedec ! vxyolodetect execution-provider={provider} {model} ! fakesink sync=false",
        quoted(&long_clip())
    );
    let pipeline = gst::parse::launch(&launch).unwrap();
    if round % 4 == 3 {
        // From another thread.
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(400) + moment(round) / 3);
            std::process::exit(STATUS);
        });
    }
    pipeline.set_state(gst::State::Playing).unwrap();
    std::thread::sleep(moment(round));
    std::process::exit(STATUS);
}

#[test]
fn a_program_may_exit_while_it_plays() {
    for provider in PROVIDERS {
        for round in 0..times() {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_program_that_exits", "--ignored", "--nocapture"])
                .env("VX_EXIT", format!("{provider} {round}"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let status = end_of(child, "a program that exits");
            assert_eq!(status.code(), Some(STATUS), "{provider}, round {round}: {status}");
        }
    }
}

const PYTHON: &str = r#"
import sys, time
import gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
launch, wait, status = sys.argv[1:]
Gst.init(None)
pipeline = Gst.parse_launch(launch)
pipeline.set_state(Gst.State.PLAYING)
time.sleep(float(wait))
sys.exit(int(status))
"#;

#[test]
fn a_python_program_may_exit_while_it_plays() {
    let Some(plugins) = std::env::var_os("VX_PLUGIN_DIR") else {
        println!("skipped: VX_PLUGIN_DIR is not set; `make test` builds the plugin and sets it");
        return;
    };
    let has_bindings = |python: &&str| {
        let check = ["-c", "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst"];
        Command::new(python).args(check).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let Some(python) = ["/usr/bin/python3", "python3"].into_iter().find(has_bindings) else {
        println!("skipped: Python has no GStreamer bindings; `apt install python3-gst-1.0`");
        return;
    };
    let model = model().map_or(String::new(), |model| format!("model-file={}", quoted(&model)));
    for provider in PROVIDERS {
        let launch = format!(
            "filesrc location={} ! vxkeyframedec ! vxyolodetect execution-provider={provider} {model} ! fakesink sync=false",
            quoted(&long_clip())
        );
        for round in 0..times() {
            let child = Command::new(python)
                .args(["-c", PYTHON, &launch, &moment(round).as_secs_f64().to_string(), &STATUS.to_string()])
                .env("GST_PLUGIN_PATH", Path::new(&plugins))
                .env("GST_REGISTRY", scratch("registry-python.bin"))
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let status = end_of(child, "a Python program that exits");
            assert_eq!(status.code(), Some(STATUS), "{provider}, round {round}: {status}");
        }
    }
}
