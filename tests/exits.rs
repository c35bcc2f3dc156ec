// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests that a process that exits during its work ends with the intended status, never by a signal, for every provider.
//!
//! `VX_EXITS` sets the number of tries for each case; `make exits` uses twenty.

#![allow(clippy::unwrap_used, reason = "tests may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use common::{PATIENCE, clip, made, quoted, root, scratch, shared};
use gst::prelude::*;

/// The exit status of the test programs.
const STATUS: i32 = 7;

fn times() -> u64 {
    std::env::var("VX_EXITS").ok().and_then(|times| times.parse().ok()).unwrap_or(3)
}

/// Returns moments during loading and working, all of them different.
fn moment(round: u64) -> Duration {
    Duration::from_millis(30 + round * 137 % 900)
}

/// The tested providers; `auto` is OpenVINO where it is installed.
const PROVIDERS: [&str; 2] = ["auto", "cpu"];

fn model() -> Option<PathBuf> {
    shared("models/yolov8n_fp32_dynamic.onnx")
}

/// Waits for the end of the process, and kills a hanging one.
fn wait_for_exit(mut child: Child, what: &str) -> ExitStatus {
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
    // The process may have ended already.
    let _ = Command::new("kill").args([name, &process.to_string()]).stderr(Stdio::null()).status();
}

/// Creates a file that takes long enough.
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
    common::reset_ignored_signals();
    for provider in PROVIDERS {
        for round in 0..times() {
            let child = vx(provider).spawn().unwrap();
            let process = child.id();
            std::thread::sleep(Duration::from_millis(600) + moment(round));
            signal(process, "-INT");
            std::thread::sleep(Duration::from_millis(50));
            signal(process, "-INT");
            let status = wait_for_exit(child, "vx detect");
            // An early signal kills the process by default, and a late one can arrive after the run.
            let is_fine = matches!(status.code(), Some(130 | 0)) || status.signal() == Some(2);
            assert!(is_fine, "{provider}, round {round}: {status}");
        }
    }
}

#[test]
fn unwritable_output_gives_status_2() {
    for provider in PROVIDERS {
        for round in 0..times() {
            let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
            let child = vx(provider).arg("--dry-run").stdout(full).spawn().unwrap();
            let status = wait_for_exit(child, "vx detect --dry-run");
            assert_eq!(status.code(), Some(2), "{provider}, round {round}: {status}");
        }
    }
}

/// Returns the processes whose parent is `parent`.
fn children_of(parent: u32) -> Vec<u32> {
    // Includes those that other threads than the main thread have started.
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|number| number.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn workers_end_with_their_supervisor_even_while_loading() {
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
                // A process without a waiting parent is a zombie.
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
fn loading_an_endless_model_ends_with_a_timeout_or_an_interrupt() {
    common::reset_ignored_signals();
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
        assert!(text.contains("did not finish loading within 10.0 s") && text.contains("--file-timeout"), "{text}");
        let child = run().spawn().unwrap();
        let process = child.id();
        std::thread::sleep(Duration::from_millis(700));
        signal(process, "-INT");
        let status = wait_for_exit(child, "vx detect, interrupted while it loads,");
        assert!(status.code() == Some(130) || status.signal() == Some(2), "isolated {isolated}: {status}");
    }
}

/// Creates a file of 10,000 pictures: no machine reads it completely during these tests.
static ENDLESS: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = "testsrc=size=320x240:rate=25:duration=400";
    made("endless.avi", &["-f", "lavfi", "-i", source, "-c:v", "mjpeg", "-q:v", "20"])
});

/// Starts a run over the clip and then the endless file; `--debug` prints when a file starts and ends.
fn endless_run(output: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vx"));
    command.args(["detect", "--provider", "cpu", "--lanes", "1", "--order", "as-given", "--debug"]);
    command
        .arg("--output")
        .arg(output)
        .arg(clip())
        .arg(&*ENDLESS)
        .args(more)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Reads the output of a run until it contains all of these texts. Returns the output up to that point.
fn wait_for(errors: &mut impl BufRead, words: &[&str]) -> String {
    let mut all = String::new();
    while !words.iter().all(|word| all.contains(word)) {
        assert!(errors.read_line(&mut all).unwrap() > 0, "no {words:?}: {all}");
    }
    all
}

/// Returns the summaries in an output of lines.
fn summaries(output: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(output).unwrap_or_default();
    text.lines().filter(|line| line.contains(r#""status":"#)).map(str::to_owned).collect()
}

#[test]
fn two_signals_end_a_run_at_once_and_one_within_the_grace_period() {
    common::reset_ignored_signals();
    let endings = [
        ("int-term", vec!["-INT", "-TERM"]),
        ("term-int", vec!["-TERM", "-INT"]),
        ("hup-hup", vec!["-HUP", "-HUP"]),
        ("term", vec!["-TERM"]),
        ("hup", vec!["-HUP"]),
    ];
    // All at the same time, because a grace period is ten seconds.
    std::thread::scope(|scope| {
        for isolated in [false, true] {
            for (name, signals) in &endings {
                scope.spawn(move || signal_and_wait(name, signals, isolated));
            }
        }
    });
}

fn signal_and_wait(name: &str, signals: &[&str], isolated: bool) {
    let output = scratch(&format!("endless-{name}-{isolated}.jsonl"));
    let mut run = endless_run(&output, if isolated { &["--isolate"] } else { &[] }).spawn().unwrap();
    let mut errors = BufReader::new(run.stderr.take().unwrap());
    let mut text = wait_for(&mut errors, &["endless.avi: started"]);
    let workers = children_of(run.id());
    let sent = Instant::now();
    for (index, kind) in signals.iter().enumerate() {
        if index > 0 {
            text += &wait_for(&mut errors, &["to stop at once"]);
        }
        signal(run.id(), kind);
    }
    let status = wait_for_exit(run, &format!("vx detect, {name}, isolated {isolated},"));
    let took = sent.elapsed();
    // Workers share standard error, so this also waits for their end.
    errors.read_to_string(&mut text).unwrap();
    let what = format!("{name}, isolated {isolated}, after {took:?}, {status}: {text}");
    assert_eq!(status.code(), Some(130), "{what}");
    if signals.len() > 1 {
        assert!(took < Duration::from_secs(8), "{what}");
    } else {
        assert!(took > Duration::from_secs(9) && took < Duration::from_secs(25), "{what}");
        assert!(text.contains("10 s to finish") && text.contains("--resume continues"), "{what}");
    }
    assert!(workers.iter().all(|worker| !Path::new(&format!("/proc/{worker}/exe")).exists()), "{what}");
    // The complete file is in the output; the other one is left for `--resume`.
    let found = summaries(&output);
    assert!(found.len() == 1 && found[0].contains("scenes.mp4"), "{what}");
}

#[test]
fn signals_that_are_ignored_at_the_start_stay_ignored() {
    common::reset_ignored_signals();
    // `nohup` starts programs like this, and so does a shell without job control for background commands.
    for (ignored, kind) in [("HUP", "-HUP"), ("INT", "-INT")] {
        let output = scratch(&format!("ignored-{ignored}.jsonl"));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("trap '' {ignored}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_vx")]);
        command.args(["detect", "--provider", "cpu", "--debug", "--lanes", "1", "--output"]).arg(&output);
        let copy = scratch(&format!("ignored-{ignored}.mp4"));
        std::fs::copy(clip(), &copy).unwrap();
        let mut run = command.arg(&copy).arg(clip()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(run.stderr.take().unwrap());
        let mut text = wait_for(&mut errors, &["started"]);
        signal(run.id(), kind);
        errors.read_to_string(&mut text).unwrap();
        assert_eq!(wait_for_exit(run, "vx detect").code(), Some(0), "{text}");
        assert!(summaries(&output).len() == 2 && !text.contains("interrupted"), "{text}");
        // Other tests here check that the same signal is handled if it is not ignored.
    }
}

#[test]
fn a_signal_before_the_first_file_ends_a_run_without_an_output() {
    common::reset_ignored_signals();
    let endless = root().join("tests/models/endless_unknown.onnx");
    for (name, kind) in [("early.jsonl", "-INT"), ("early.csv", "-TERM"), ("early.parquet", "-HUP")] {
        // While the model loads.
        let output = scratch(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_vx"));
        command.args(["detect", "--provider", "cpu", "--model"]).arg(&endless).arg(clip());
        let mut run = command.arg("--output").arg(&output).stderr(Stdio::piped()).spawn().unwrap();
        let journal = scratch(&format!("{name}.lines.jsonl"));
        let deadline = Instant::now() + PATIENCE;
        while !output.exists() && !journal.exists() {
            assert!(Instant::now() < deadline, "no output is opened");
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut errors = run.stderr.take().unwrap();
        let sent = Instant::now();
        signal(run.id(), kind);
        assert_eq!(wait_for_exit(run, "vx detect, interrupted while it loads,").code(), Some(130));
        assert!(sent.elapsed() < Duration::from_secs(8));
        let mut text = String::new();
        errors.read_to_string(&mut text).unwrap();
        assert!(text.contains("interrupted before the first file"), "{text}");
        assert!(!output.exists() && !journal.exists(), "{name}");

        // While inputs are read from a pipe that does not end.
        let mut run = Command::new(env!("CARGO_BIN_EXE_vx"))
            .args(["detect", "-", "--output"])
            .arg(&output)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = run.stdin.take();
        let handles = |process: u32| {
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << 14 != 0
        };
        while !handles(run.id()) {
            assert!(Instant::now() < deadline, "SIGTERM is not handled");
            std::thread::sleep(Duration::from_millis(2));
        }
        signal(run.id(), kind);
        let status = wait_for_exit(run, "vx detect, interrupted while it reads inputs,");
        drop(input);
        // HUP is registered shortly after TERM.
        assert!(status.code() == Some(130) || kind == "-HUP" && status.signal() == Some(1), "{status}");
        assert!(!output.exists() && !journal.exists(), "{name}");
    }
}

/// Runs vx in a pseudo terminal of 100 columns, interrupts it while it reads a file, and prints the final content of the screen.
const TERMINAL: &str = r#"
import fcntl, os, pty, re, select, signal, struct, sys, termios
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
data, is_sent = b"", False
while True:
    if not select.select([terminal], [], [], 60)[0]:
        os.kill(child, signal.SIGKILL)
        break
    try:
        block = os.read(terminal, 4096)
    except OSError:
        break
    if not block:
        break
    data += block
    if not is_sent and b"scenes.mp4" in data:
        is_sent = True
        os.kill(child, signal.SIGINT)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
lines, row, column = [""], 0, 0
for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", data.decode(errors="replace")):
    if token == "\r":
        column = 0
    elif token == "\n":
        row += 1
    elif token.startswith("\x1b["):
        kind, count = token[-1], re.sub(r"\D", "", token[2:-1])
        if kind == "A":
            row = max(0, row - int(count or 1))
        elif kind == "B":
            row += int(count or 1)
        elif kind == "K":
            lines[row] = "" if count == "2" else lines[row][:column]
        elif kind not in "mhl":
            sys.exit("not known to this test: " + repr(token))
    else:
        lines[row] = lines[row].ljust(column)[:column] + token + lines[row][column + len(token):]
        column += len(token)
    while len(lines) <= row:
        lines.append("")
print("\n".join(lines))
print("status", status)
"#;

#[test]
fn what_a_signal_did_stays_on_the_screen() {
    common::reset_ignored_signals();
    let python = std::env::var("VX_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !Command::new(&python).args(["-c", "import pty, termios"]).status().is_ok_and(|status| status.success()) {
        println!("skipped: {python} has no module pty");
        return;
    }
    let output = scratch("terminal.jsonl");
    let copies: Vec<PathBuf> = (0..4).map(|number| scratch(&format!("{number}-scenes.mp4"))).collect();
    copies.iter().for_each(|copy| assert!(std::fs::copy(clip(), copy).is_ok()));
    let run = Command::new(&python)
        .args(["-c", TERMINAL, env!("CARGO_BIN_EXE_vx"), "detect", "--provider", "cpu", "--lanes", "1", "--output"])
        .arg(&output)
        .args(&copies)
        .env("TERM", "xterm")
        .output()
        .unwrap();
    let screen = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(screen.contains("status 130"), "{screen}");
    let words = "vx: interrupted: finishing the files that have begun; interrupt again to stop at once";
    assert!(screen.lines().any(|line| line.trim_end() == words), "{screen}");
    assert!(screen.contains("--resume continues"), "{screen}");
    assert_eq!(summaries(&output).len(), 1, "{screen}");
}

/// Asserts that a run whose output cannot grow reports an error, keeps its results, and can be resumed.
fn assert_write_error_is_resumable(mut run: Command, output: &Path, what: &str, more: &[&str]) {
    let copies: Vec<PathBuf> = (0..4).map(|number| scratch(&format!("{what}-{number}.mp4"))).collect();
    copies.iter().for_each(|copy| assert!(std::fs::copy(clip(), copy).is_ok()));
    run.args(["detect", "--provider", "cpu", "--lanes", "1", "--output"]).arg(output).args(&copies);
    let cut = run.args(more).output().unwrap();
    let text = String::from_utf8_lossy(&cut.stderr);
    assert_eq!(cut.status.code(), Some(2), "{what}: {}: {text}", cut.status);
    assert!(text.contains("Earlier results are kept; --resume continues"), "{what}: {text}");
    let kept = summaries(output).len();
    assert!((1..4).contains(&kept), "{what}: {kept} files");
    // Space is available again.
    let elsewhere = scratch(&format!("{what}-elsewhere.jsonl"));
    std::fs::copy(output, &elsewhere).unwrap();
    let mut again = Command::new(env!("CARGO_BIN_EXE_vx"));
    again.args(["detect", "--provider", "cpu", "--resume", "--output"]).arg(&elsewhere).args(&copies);
    let resumed = again.output().unwrap();
    assert!(resumed.status.success(), "{what}: {}", String::from_utf8_lossy(&resumed.stderr));
    let ok = summaries(&elsewhere).into_iter().filter(|line| line.contains(r#""status":"ok""#)).count();
    assert_eq!(ok, 4, "{what}");
}

#[test]
fn a_file_size_limit_causes_a_write_error() {
    for more in [vec![], vec!["--isolate"]] {
        let what = format!("limited-{}", more.len());
        let output = scratch(&format!("{what}.jsonl"));
        let mut run = Command::new("prlimit");
        // The lines of a file take about 3 KB.
        run.args(["--fsize=8192", env!("CARGO_BIN_EXE_vx")]);
        assert_write_error_is_resumable(run, &output, &what, &more);
    }
}

#[test]
fn a_full_disk_causes_a_write_error() {
    let disk = scratch("small-disk");
    std::fs::create_dir_all(&disk).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8k", "none"]).arg(&disk).output();
    if !mount.as_ref().is_ok_and(|mount| mount.status.success()) {
        println!("skipped: no small disk can be mounted: {mount:?}");
        return;
    }
    let result = std::panic::catch_unwind(|| {
        assert_write_error_is_resumable(Command::new(env!("CARGO_BIN_EXE_vx")), &disk.join("out.jsonl"), "full", &[]);
    });
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    result.unwrap();
}

/// A program that exits while it plays. It is not a test by itself.
#[test]
#[ignore = "a program that other tests start"]
fn a_program_that_exits() {
    let Ok(arguments) = std::env::var("VX_EXIT") else { return };
    let (provider, round) = arguments.split_once(' ').unwrap();
    let round: u64 = round.parse().unwrap();
    common::init();
    gstvx::elements::library_paths::set_library_dirs(vec![root().join(".deps/lib")]);
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
fn a_program_can_exit_while_it_plays() {
    for provider in PROVIDERS {
        for round in 0..times() {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_program_that_exits", "--ignored", "--nocapture"])
                .env("VX_EXIT", format!("{provider} {round}"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let status = wait_for_exit(child, "a program that exits");
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
fn a_python_program_can_exit_while_it_plays() {
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
            let status = wait_for_exit(child, "a Python program that exits");
            assert_eq!(status.code(), Some(STATUS), "{provider}, round {round}: {status}");
        }
    }
}
