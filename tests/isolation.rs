// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vx detect --isolate` with workers that crash, send invalid data, use too much memory, or cannot be started, and with
//! processes or threads that the system refuses.

#![allow(clippy::unwrap_used, reason = "tests may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use common::{PATIENCE, clip, made, scratch};
use serde_json::Value;

/// Creates a folder of six short files, f0.mp4 to f5.mp4.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = scratch("six");
    std::fs::create_dir_all(&folder).unwrap();
    let source = clip();
    let first =
        made("six/f0.mp4", &["-i", source.to_str().unwrap(), "-t", "4", "-an", "-vf", "scale=320:-2", "-g", "10"]);
    for number in 1..6 {
        std::fs::copy(&first, folder.join(format!("f{number}.mp4"))).unwrap();
    }
    folder
});

fn with_arguments(mut command: Command, output: &Path, more: &[&str]) -> Command {
    command
        .args(["detect", "--provider", "cpu", "--order", "as-given", "--output"])
        .arg(output)
        .arg(&*FOLDER)
        .args(more);
    command.env_remove("VX_TEST_WORKER").stdin(Stdio::null());
    command
}

fn vx(output: &Path, more: &[&str]) -> Command {
    with_arguments(Command::new(env!("CARGO_BIN_EXE_vx")), output, more)
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the summaries in an output of lines by file name.
fn summaries(output: &Path) -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(output).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let name = |line: &Value| line["file"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let mut all: Vec<_> = lines.filter(|line| line.get("status").is_some()).map(|line| (name(&line), line)).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

fn statuses(output: &Path) -> Vec<(String, String)> {
    let all = summaries(output).into_iter();
    all.map(|(name, line)| (name, line["status"].as_str().unwrap().to_owned())).collect()
}

/// Starts a run with one worker that crashes on f1.mp4. Returns when f0.mp4 is being read, with the output so far.
fn run_until_first_file_starts(command: Command, output: &Path) -> (Child, BufReader<ChildStderr>, String) {
    let mut command = with_arguments(command, output, &["--isolate", "--lanes", "1", "--debug"]);
    let mut run = command.env("VX_TEST_WORKER", "crash:f1").stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = BufReader::new(run.stderr.take().unwrap());
    let text = wait_until_file_starts(&mut pipe, "f0.mp4");
    (run, pipe, text)
}

/// Reads the output of a run with `--debug` until it starts a file whose path has this suffix. Returns the output up to that point.
fn wait_until_file_starts(errors: &mut impl BufRead, name: &str) -> String {
    let mut all = String::new();
    let begun = format!("{name}: started\n");
    while !all.ends_with(&begun) {
        assert!(errors.read_line(&mut all).unwrap() > 0, "{name} was not started: {all}");
    }
    all
}

/// Returns the processes whose parent is `parent`.
fn children_of(parent: u32) -> Vec<u32> {
    // Includes those that other threads than the main thread have started.
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let lists = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(|number| number.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// Returns whether the build has the test hooks of workers; only debug builds do.
fn has_hooks() -> bool {
    if !cfg!(debug_assertions) {
        println!("skipped: workers of release builds have no test hooks");
    }
    cfg!(debug_assertions)
}

#[test]
fn a_worker_that_sends_invalid_data_fails_its_file_with_a_reason() {
    if !has_hooks() {
        return;
    }
    for (hook, reason) in [
        ("crash", "signal: 6"),
        ("garbage", "a message of unknown kind"),
        ("mix", "not this file's"),
        ("outoforder", "out of turn"),
        ("lose", "without results"),
    ] {
        let output = scratch(&format!("{hook}.jsonl"));
        let run = vx(&output, &["--isolate"]).env("VX_TEST_WORKER", format!("{hook}:f2")).output().unwrap();
        let text = errors(&run);
        assert_eq!(run.status.code(), Some(1), "{hook}: {text}");
        let found = summaries(&output);
        assert_eq!(found.len(), 6, "{hook}: {text}");
        for (name, summary) in found {
            let expected = if name == "f2.mp4" { "failed" } else { "ok" };
            assert_eq!(summary["status"], expected, "{hook}: {summary}");
            assert!(name != "f2.mp4" || summary["error"]["message"].as_str().unwrap().contains(reason), "{summary}");
        }
    }
}

#[test]
fn a_time_limit_that_is_set_as_a_property_holds_for_workers() {
    if !has_hooks() {
        return;
    }
    let output = scratch("property.jsonl");
    let run =
        vx(&output, &["--isolate", "--set", "file-timeout=3s"]).env("VX_TEST_WORKER", "hang:f2").output().unwrap();
    let text = errors(&run);
    assert_eq!(run.status.code(), Some(1), "{text}");
    let failed: Vec<_> = summaries(&output).into_iter().filter(|(_, summary)| summary["status"] == "failed").collect();
    assert!(failed.iter().any(|(name, summary)| {
        name == "f2.mp4" && summary["error"]["message"].as_str().unwrap().contains("longer than 3.0 s")
    }));
    let both = vx(&output, &["--isolate", "--set", "file-timeout=3s", "--file-timeout", "4", "--overwrite"]).output();
    let both = both.unwrap();
    assert!(both.status.code() == Some(2) && errors(&both).contains("--file-timeout"), "{}", errors(&both));
}

#[test]
fn library_output_in_a_worker_is_not_part_of_the_results() {
    if !has_hooks() {
        return;
    }
    let [printed, plain] = ["printed.jsonl", "plain.jsonl"].map(scratch);
    assert!(vx(&plain, &["--isolate", "--quiet"]).status().unwrap().success());
    let run = vx(&printed, &["--isolate", "--quiet"]).env("VX_TEST_WORKER", "print:f").output().unwrap();
    assert!(run.status.success() && run.stdout.is_empty(), "{}", errors(&run));
    assert_eq!(errors(&run).matches(r#"{"status":"printed"}"#).count(), 6, "{}", errors(&run));
    let frames = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines: Vec<_> = text.lines().filter(|line| line.contains("pts_ns")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert!(!frames(&plain).is_empty());
    assert_eq!(frames(&printed), frames(&plain));
}

#[test]
fn workers_are_replaced_even_after_the_program_is_removed() {
    if !has_hooks() {
        return;
    }
    // ONNX Runtime is searched for relative to the program.
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vx-{}", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_vx"), &place).unwrap();
    let output = scratch("removed.jsonl");
    let (mut run, mut pipe, mut text) = run_until_first_file_starts(Command::new(&place), &output);
    std::fs::remove_file(&place).unwrap();
    // Child processes of a worker do not inherit the socket: it is no longer the worker's standard input.
    for worker in children_of(run.id()) {
        let input = std::fs::read_link(format!("/proc/{worker}/fd/0")).unwrap();
        assert_eq!(input, Path::new("/dev/null"));
    }
    pipe.read_to_string(&mut text).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(1), "{text}");
    let expected =
        (0..6).map(|number| (format!("f{number}.mp4"), if number == 1 { "failed" } else { "ok" }.to_owned()));
    assert_eq!(statuses(&output), expected.collect::<Vec<_>>(), "{text}");
}

#[test]
fn a_worker_that_does_not_exit_is_killed() {
    if !has_hooks() {
        return;
    }
    let started = Instant::now();
    let run =
        vx(&scratch("lingers.jsonl"), &["--isolate", "--quiet"]).env("VX_TEST_WORKER", "linger").output().unwrap();
    assert!(run.status.success(), "{}", errors(&run));
    assert!(started.elapsed() > Duration::from_secs(10), "no worker has lingered");
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn the_number_of_workers_is_limited_by_memory() {
    let output = scratch("fit.jsonl");
    let run = vx(&output, &["--isolate", "--lanes", "6", "--memory-limit", "512M"]).output().unwrap();
    let text = errors(&run);
    assert_eq!(run.status.code(), Some(0), "{text}");
    let number = |before: &str| {
        let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("no {before}: {text}"));
        rest.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let (workers, each) = (number("model       loaded "), number("memory      "));
    // The model is small, so that several workers fit.
    assert!(workers > 1 && workers * each <= 512, "{text}");
    assert!(statuses(&output).iter().all(|(_, status)| status == "ok"));

    let output = scratch("fits-not.jsonl");
    let run = vx(&output, &["--isolate", "--memory-limit", "70M"]).output().unwrap();
    let text = errors(&run);
    assert_eq!(run.status.code(), Some(2), "{text}");
    assert!(text.contains("MiB of memory, and 70 MiB are allowed") && text.contains("6 files were not read"), "{text}");
    assert!(!output.exists());
}

/// Creates a control group with this memory limit for this process. Prints the reason and returns `None` if it cannot be created.
fn memory_group(limit: u64) -> Option<PathBuf> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let found = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        match controllers {
            "memory" => Some((Path::new("/sys/fs/cgroup/memory").join(path), "memory.limit_in_bytes")),
            "" => Some((Path::new("/sys/fs/cgroup").join(path), "memory.max")),
            _ => None,
        }
    });
    let (parent, file) = found?;
    let group = parent.join(format!("vx-test-{}", std::process::id()));
    let is_made = std::fs::create_dir(&group).and_then(|()| std::fs::write(group.join(file), limit.to_string()));
    if let Err(error) = is_made {
        println!("skipped: no control group can be made at {}: {error}", group.display());
        let _ = std::fs::remove_dir(&group);
        return None;
    }
    Some(group)
}

#[test]
fn workers_fit_into_a_control_group_of_512_mib() {
    let Some(group) = memory_group(512 << 20) else { return };
    let output = scratch("group.jsonl");
    let mut command = Command::new("sh");
    let enter = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", group.display());
    command.args(["-c", &enter, "sh", env!("CARGO_BIN_EXE_vx")]);
    let run = with_arguments(command, &output, &["--isolate", "--lanes", "6"]).output().unwrap();
    std::fs::remove_dir(&group).unwrap();
    assert_eq!(run.status.code(), Some(0), "{}", errors(&run));
    assert_eq!(statuses(&output).iter().filter(|(_, status)| status == "ok").count(), 6);
}

/// Creates a command that runs `vx` as a user without a name or other processes, because limits do not apply to root. Prints
/// the reason and returns `None` if that is not possible.
fn as_nobody(user: u32, limits: &[&str]) -> Option<Command> {
    let command = |limits: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "prlimit"])
            .args(limits);
        command.arg(env!("CARGO_BIN_EXE_vx")).env("GST_REGISTRY", open_folder("nobody").join("registry.bin"));
        command
    };
    let check = command(&["--nproc=100"]).arg("--version").output();
    if check.as_ref().is_ok_and(|check| check.status.success()) {
        return Some(command(limits));
    }
    println!("skipped: vx cannot be run as another user: {check:?}");
    None
}

/// Creates a folder that everyone can write to.
fn open_folder(name: &str) -> PathBuf {
    let folder = scratch(name);
    std::fs::create_dir_all(&folder).unwrap();
    assert!(Command::new("chmod").arg("a+rwx").arg(&folder).arg(folder.parent().unwrap()).status().unwrap().success());
    folder
}

#[test]
fn failed_thread_starts_cause_an_error_or_fewer_lanes_and_never_a_panic() {
    let folder = open_folder("few-threads");
    for isolated in [false, true] {
        let mut ends = Vec::new();
        // Most threads first: that run writes the registry of GStreamer's plugins. GLib ends a process that has to load all plugins
        // for the registry and cannot start their threads.
        for threads in [40, 24, 16, 12, 10, 8, 6, 4, 3, 2, 1] {
            let limit = format!("--nproc={threads}");
            let Some(command) = as_nobody(64_100 + u32::from(isolated), &[&limit]) else { return };
            let output = folder.join(format!("{isolated}-{threads}.jsonl"));
            let more: &[&str] = if isolated { &["--isolate", "--lanes", "3"] } else { &["--lanes", "3"] };
            let run = with_arguments(command, &output, more).output().unwrap();
            let text = errors(&run);
            let what = format!("isolated {isolated}, {threads} threads, {}: {text}", run.status);
            assert!(!text.contains("panicked"), "{what}");
            let is_complete = statuses(&output).iter().filter(|(_, status)| status == "ok").count() == 6;
            match run.status.code() {
                Some(0) => assert!(is_complete, "{what}"),
                Some(2) => assert!(text.contains("thread") || text.contains("process"), "{what}"),
                _ => panic!("{what}"),
            }
            ends.push(run.status.code().unwrap());
        }
        assert!(ends.first() == Some(&0) && ends.contains(&2), "isolated {isolated}: {ends:?}");
    }
}

/// Waits for the end of the process, and kills a hanging one.
fn wait(mut run: Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = run.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    panic!("the run hangs");
}

#[test]
fn files_without_a_worker_are_left_for_resume() {
    if !has_hooks() {
        return;
    }
    let folder = open_folder("no-process");
    let output = folder.join("left.jsonl");
    let Some(command) = as_nobody(64_110, &["--nproc=60"]) else { return };
    let (run, mut pipe, mut text) = run_until_first_file_starts(command, &output);
    // From here on it cannot start any process.
    let mut limit = Command::new("setpriv");
    limit.args(["--reuid=64110", "--regid=64110", "--clear-groups", "prlimit", "--nproc=1:1", "--pid"]);
    let limited = limit.arg(run.id().to_string()).status().unwrap();
    assert!(limited.success());
    pipe.read_to_string(&mut text).unwrap();
    assert_eq!(wait(run), Some(2), "{text}");
    assert!(text.contains("no worker process could be started: ") && text.contains("5 files were not read"), "{text}");
    assert!(text.contains("--resume"), "{text}");
    // The second file is not marked as failed yet: the first one may have caused the loss of the worker.
    assert_eq!(statuses(&output), [("f0.mp4".to_owned(), "ok".to_owned())], "{text}");
    let again = vx(&output, &["--isolate", "--resume"]).output().unwrap();
    let done = statuses(&output);
    assert_eq!(done.iter().filter(|(_, status)| status == "ok").count(), 6, "{}", errors(&again));
}

#[test]
fn users_cannot_start_a_worker_directly() {
    let run =
        Command::new(env!("CARGO_BIN_EXE_vx")).args(["detect", "--worker"]).stdin(Stdio::null()).output().unwrap();
    assert!(run.status.code() == Some(1) && errors(&run).contains("not for users"), "{}", errors(&run));
}
