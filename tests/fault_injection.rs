// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults from outside: downstream that refuses, files that change while they are read, paths that are not files, limits of the
//! system, a clock that is set back, a model that is replaced, a library that hangs. Each ends in time, with complete results or with a
//! reason. docs/robustness.md lists them.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use common::command::{FOLDER, assert_same, errors, records};
use common::{PATIENCE, clip, made, pipeline, play, quoted, root, scratch};
use gst::prelude::*;

const VX: &str = env!("CARGO_BIN_EXE_vx");

/// Creates a command that ends `program` if it hangs.
fn limited(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &(5 * PATIENCE.as_secs()).to_string(), program]);
    command
}

/// Runs a command and returns its output. Panics if it hangs, or if a thread of it panicked.
fn finished(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(!matches!(output.status.code(), Some(124 | 137)), "{command:?} hangs: {}", errors(&output));
    assert!(!errors(&output).contains("panicked"), "{command:?}: {}", errors(&output));
    output
}

/// Runs `vx detect` with the CPU provider.
fn detect(arguments: &[&str]) -> Output {
    finished(limited(VX).args(["detect", "--provider", "cpu"]).args(arguments))
}

/// Returns the complete records of the folder of short files, one of which is not a video.
fn expected() -> BTreeSet<String> {
    let output = scratch("expected.jsonl");
    if !output.exists() {
        let run = detect(&[FOLDER.to_str().unwrap(), "--output", output.to_str().unwrap()]);
        assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
    }
    records(&output)
}

/// Continues an output without any fault, and checks that it is complete then.
fn assert_resumable(output: &Path, what: &str) {
    let run = detect(&[FOLDER.to_str().unwrap(), "--output", output.to_str().unwrap(), "--resume", "--retry-failed"]);
    assert_eq!(run.status.code(), Some(1), "{what}: {}", errors(&run));
    assert_same(&records(output), &expected(), what);
}

/// Returns a path for a new file.
fn fresh(name: &str) -> PathBuf {
    let path = scratch(name);
    for suffix in ["", ".new", ".lines.jsonl"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    path
}

/// Refuses the buffer with this number, counted from 1, and all after it, behind the element called `name`. Returns what happened:
/// the errors on the bus, and whether the end of the stream was reached.
fn refused(source: &str, name: &str, moment: usize, flow: gst::FlowError) -> (Vec<String>, bool) {
    let launch = format!(
        "{source} ! vxkeyframedec name=decoder ! vxyolodetect name=detector execution-provider=cpu ! vxoverlay name=overlay ! \
         vxjsonenc name=lines"
    );
    let (pipeline, sink) = pipeline(&launch);
    // Nobody takes its frames.
    sink.set_wait_on_eos(false);
    let (sender, refusals) = channel();
    let count = AtomicUsize::new(0);
    let pad = pipeline.by_name(name).unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if count.fetch_add(1, Ordering::SeqCst) + 1 < moment {
            return gst::PadProbeReturn::Ok;
        }
        info.flow_res = Err(flow);
        let _ = sender.send(());
        gst::PadProbeReturn::Handled
    });
    // It fails where an error is faster.
    let _ = pipeline.set_state(gst::State::Playing);
    refusals.recv_timeout(PATIENCE).expect("no buffer arrived");
    let bus = pipeline.bus().unwrap();
    let mut errors = Vec::new();
    let mut has_ended = false;
    // An element that was told to flush says nothing.
    if flow != gst::FlowError::Flushing {
        let types = [gst::MessageType::Eos, gst::MessageType::Error];
        let patience = gst::ClockTime::from_seconds(PATIENCE.as_secs());
        let message =
            bus.timed_pop_filtered(patience, &types).unwrap_or_else(|| panic!("{name} {moment} {flow:?} hangs"));
        has_ended = message.type_() == gst::MessageType::Eos;
        if let gst::MessageView::Error(error) = message.view() {
            errors.push(error.error().message().to_owned());
        }
    }
    let (sender, stopped) = channel();
    let stopping = pipeline.clone();
    std::thread::spawn(move || sender.send(stopping.set_state(gst::State::Null).is_ok()));
    assert_eq!(stopped.recv_timeout(PATIENCE), Ok(true), "{name} {moment} {flow:?}: it cannot be stopped");
    while let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
        if let gst::MessageView::Error(error) = message.view() {
            errors.push(error.error().message().to_owned());
        }
    }
    (errors, has_ended)
}

#[test]
fn every_element_ends_whenever_downstream_refuses() {
    use gst::FlowError::{Eos, Error, Flushing, NotLinked, NotNegotiated};
    for name in ["decoder", "detector", "overlay", "lines"] {
        for flow in [Eos, Flushing, NotLinked, NotNegotiated, Error] {
            for moment in [1, 3] {
                let source = format!("filesrc location={}", quoted(&clip()));
                let (errors, has_ended) = refused(&source, name, moment, flow);
                let what = format!("{name}, buffer {moment}, {flow:?}: {errors:?}");
                if matches!(flow, Eos | Flushing) {
                    assert!(errors.is_empty() && has_ended == (flow == Eos), "{what}");
                } else {
                    assert!(errors.len() == 1 && !has_ended, "{what}");
                }
            }
        }
    }
}

/// What happens to a file while it is read.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    Nothing,
    Removed,
    Truncated,
    Growing,
}

/// Reads a file that changes after its first frame. Returns the number of frames, and what was reported.
fn read_while(file: &Path, change: Change) -> (usize, String) {
    let path = scratch(&format!("changing-{}", file.file_name().unwrap().display()));
    std::fs::copy(file, &path).unwrap();
    let launch = format!("filesrc location={} ! vxkeyframedec name=decoder thread-count=1", quoted(&path));
    let (pipeline, sink) = pipeline(&launch);
    sink.set_max_buffers(1);
    pipeline.set_state(gst::State::Playing).unwrap();
    let first = sink.try_pull_sample(gst::ClockTime::from_seconds(PATIENCE.as_secs()));
    assert!(first.is_some(), "{change:?}: no frame of {}", file.display());
    match change {
        Change::Nothing => {}
        Change::Removed => std::fs::remove_file(&path).unwrap(),
        Change::Truncated => {
            let opened = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            opened.set_len(opened.metadata().unwrap().len() / 3).unwrap();
        }
        Change::Growing => {
            let bytes = std::fs::read(file).unwrap();
            std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&bytes).unwrap();
        }
    }
    let outcome = play(&pipeline, &sink);
    let stats: gst::Structure = pipeline.by_name("decoder").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    let problems = stats.get::<gst::Array>("problems").map(|problems| format!("{problems:?}")).unwrap_or_default();
    let error = outcome.error.map(|(error, _)| error.message().to_owned()).unwrap_or_default();
    (1 + outcome.samples.len(), format!("{error}{}{problems}", outcome.warnings.join(" ")))
}

#[test]
fn files_that_change_while_they_are_read_lose_no_frame_without_a_report() {
    let source = clip();
    let make = |name: &str, more: &[&str]| {
        let how = [
            "-i",
            source.to_str().unwrap(),
            "-an",
            "-s",
            "320x180",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "12",
        ];
        made(name, &[&how[..], more].concat())
    };
    let mut reports = 0;
    for file in [
        make("whole.mp4", &["-movflags", "+faststart"]),
        make("whole-fragments.mp4", &["-movflags", "frag_keyframe+empty_moov"]),
        make("whole.mkv", &[]),
        make("whole.ts", &[]),
    ] {
        let name = file.display();
        let (frames, report) = read_while(&file, Change::Nothing);
        assert!(frames > 10 && report.is_empty(), "{name}: {frames}, {report}");
        // The open file is read to its end.
        assert_eq!(read_while(&file, Change::Removed), (frames, String::new()), "{name}");
        let (cut, report) = read_while(&file, Change::Truncated);
        assert!(cut == frames || !report.is_empty(), "{name}: {cut} of {frames} frames and no report");
        reports += usize::from(!report.is_empty());
        let (grown, report) = read_while(&file, Change::Growing);
        assert!(grown >= frames || !report.is_empty(), "{name}: {grown} of {frames} frames and no report");
    }
    assert!(reports > 1, "the files were read before they were truncated");
}

#[test]
fn paths_that_are_not_files_are_refused_in_every_role() {
    let pipe = fresh("a-pipe.mp4");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let socket = fresh("a-socket.mp4");
    let _listener = UnixListener::bind(&socket).unwrap();
    let file = FOLDER.join("f0.mp4");
    let good = file.to_str().unwrap();
    let names = [pipe.to_str().unwrap(), socket.to_str().unwrap(), "/dev/zero", "/dev/null", "/dev/urandom", "/"];
    for name in names {
        // As one input of two: it fails alone. A folder is searched.
        if name != "/" {
            let run = detect(&[good, name]);
            let text = errors(&run);
            assert!(run.status.code() == Some(1) && text.contains("1 ok, 1 failed, of 2"), "{name}: {text}");
            assert!(text.contains(&format!("{name}: ")), "{name}: {text}");
        }
        for role in ["--model", "--labels"] {
            let run = detect(&[good, role, name]);
            let text = errors(&run);
            assert!(run.status.code() == Some(2) && text.contains(name), "{role} {name}: {:?} {text}", run.status);
        }
        let inspected = finished(limited(VX).args(["inspect", name]));
        assert!(
            !inspected.status.success() && errors(&inspected).contains(name),
            "inspect {name}: {}",
            errors(&inspected)
        );
        // Lines may come from a pipe, and nothing is nothing.
        if name != pipe.to_str().unwrap() && name != "/dev/null" {
            let read = finished(limited(VX).args(["events", name]));
            assert!(!read.status.success() && errors(&read).contains(name), "events {name}: {}", errors(&read));
        }
    }
}

#[test]
fn ten_thousand_lanes_are_refused_or_limited() {
    for more in [&["--lanes", "10000"][..], &["--lanes", "10000", "--isolate"]] {
        let output = fresh("lanes.jsonl");
        let run = detect(&[&[FOLDER.to_str().unwrap(), "--output", output.to_str().unwrap()], more].concat());
        match run.status.code() {
            // Limited.
            Some(1) => assert_same(&records(&output), &expected(), "10000 lanes"),
            Some(2) => assert!(errors(&run).contains("lanes"), "{}", errors(&run)),
            _ => panic!("{:?}: {}", run.status, errors(&run)),
        }
    }
}

/// Runs with a limit of the system. Returns the exit status, `None` for a signal.
fn run_with_limit(limit: &str, more: &[&str]) -> Option<i32> {
    let output = fresh(&format!("limit{limit}-{}.jsonl", more.len()));
    let mut command = limited("prlimit");
    command.args([limit, VX, "detect", "--provider", "cpu", "--lanes", "2"]).arg(&*FOLDER).arg("--output").arg(&output);
    let run = finished(command.args(more));
    let what = format!("{limit} {more:?}: {}: {}", run.status, errors(&run));
    match run.status.code() {
        // All files were read, and one of them is not a video.
        Some(1) if errors(&run).contains("6 ok, 1 failed, of 7") => assert_same(&records(&output), &expected(), &what),
        Some(1) => assert!(errors(&run).contains("failed"), "{what}"),
        Some(2) => assert!(errors(&run).contains("vx: ") || errors(&run).contains("error"), "{what}"),
        _ => {}
    }
    assert_resumable(&output, &what);
    run.status.code()
}

#[test]
fn few_file_descriptors_cause_errors_and_no_wrong_results() {
    for more in [&[][..], &["--isolate"]] {
        let limits = [6, 10, 14, 18, 24, 32, 64, 256];
        let ends: Vec<_> = limits.iter().map(|count| run_with_limit(&format!("--nofile={count}"), more)).collect();
        assert!(ends.iter().all(Option::is_some) && ends.last() == Some(&Some(1)), "{more:?}: {ends:?}");
        assert!(ends.iter().any(|end| *end != Some(1)), "the limits are too high: {ends:?}");
    }
}

/// Threads cannot be started, and allocations fail at any place. Rust, ONNX Runtime and FFmpeg may abort the process then, and a file
/// whose decoder has no memory may look damaged.
#[test]
fn little_address_space_causes_an_error_or_an_abort_and_never_a_hang() {
    let isolated = ["--isolate"];
    for (mebibytes, more) in
        [(700, &[][..]), (850, &[]), (950, &[]), (1050, &[]), (1125, &[]), (8000, &[]), (600, &isolated)]
    {
        let output = fresh("address-space.jsonl");
        let mut command = limited("prlimit");
        command.args([&format!("--as={}", mebibytes << 20), VX, "detect", "--provider", "cpu", "--lanes", "2"]);
        let run = finished(command.arg(&*FOLDER).arg("--output").arg(&output).args(more));
        let what = format!("{mebibytes} MiB {more:?}: {}: {}", run.status, errors(&run));
        match run.status.code() {
            // One of the files is not a video.
            Some(1) => assert!(errors(&run).contains("failed"), "{what}"),
            Some(2) => assert!(errors(&run).contains("vx: "), "{what}"),
            // Ended by SIGTRAP (GLib), SIGABRT or SIGSEGV, as `timeout` reports it.
            other => assert!(matches!(other, None | Some(133 | 134 | 139)) && mebibytes < 8000, "{what}"),
        }
        let text = output.to_str().unwrap();
        let again = detect(&[FOLDER.to_str().unwrap(), "--output", text, "--resume", "--retry-failed"]);
        assert_eq!(again.status.code(), Some(1), "{what}: {}", errors(&again));
        if mebibytes == 8000 {
            assert_same(&records(&output), &expected(), &what);
        }
    }
}

/// Runs a shell script with its own mounts. `None`, with the reason, where that is not possible.
fn in_mount_namespace(script: &str, arguments: &[&Path]) -> Option<Output> {
    let unshare = |script: &str| {
        let mut command = limited("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command
    };
    let check = unshare("mount -t tmpfs none /mnt").output();
    if !check.as_ref().is_ok_and(|check| check.status.success()) {
        println!("skipped: no file system can be mounted: {check:?}");
        return None;
    }
    Some(finished(unshare(script).args(arguments)))
}

#[test]
fn a_read_only_file_system_is_an_error_before_any_file_is_read() {
    let file = FOLDER.join("f0.mp4");
    for (what, arguments) in [
        ("lines", "--output /mnt/out.jsonl"),
        ("a table", "--output /mnt/out.csv"),
        ("parts", "--output /mnt/out.parquet"),
        ("pictures", "--save-frames /mnt/pictures"),
        ("results in a cache", "--cache /mnt/cache"),
    ] {
        let script = format!(
            "mount -t tmpfs none /mnt && mount -o remount,ro /mnt && exec \"$1\" detect --provider cpu \"$2\" {arguments}"
        );
        let Some(run) = in_mount_namespace(&script, &[Path::new(VX), &file]) else { return };
        let text = errors(&run);
        assert_eq!(run.status.code(), Some(2), "{what}: {text}");
        assert!(text.contains("/mnt/") && text.contains("Read-only file system"), "{what}: {text}");
    }
    // What models cost to load is kept in a cache, too: without it they only load slower.
    let script = "mount -t tmpfs none /mnt && mount -o remount,ro /mnt && exec \"$1\" detect --provider cpu \"$2\" --cache-dir /mnt/models";
    let Some(run) = in_mount_namespace(script, &[Path::new(VX), &file]) else { return };
    assert!(run.status.success() && errors(&run).contains("cache-dir"), "{}", errors(&run));
}

/// Compiles a C library. `None`, with the reason, where there is no compiler.
fn library(name: &str, source: &str) -> Option<PathBuf> {
    let (code, library) = (scratch(&format!("{name}.c")), scratch(&format!("lib{name}.so")));
    std::fs::write(&code, source).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&code).output();
    if compiled.as_ref().is_ok_and(|compiled| compiled.status.success()) {
        return Some(library);
    }
    println!("skipped: no C compiler: {compiled:?}");
    None
}

#[test]
fn a_clock_that_is_set_back_changes_no_results() {
    // Each look at the clock is a second before the last one.
    let source = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdatomic.h>
        #include <time.h>
        static atomic_long back;
        int clock_gettime(clockid_t clock, struct timespec *time) {
            static int (*real)(clockid_t, struct timespec *);
            if (!real) real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
            int result = real(clock, time);
            if (clock == CLOCK_REALTIME) time->tv_sec -= atomic_fetch_add(&back, 1);
            return result;
        }
    "#;
    let Some(library) = library("backwards", source) else { return };
    for more in [&[][..], &["--isolate"]] {
        let output = fresh("backwards.jsonl");
        let cache = scratch("backwards-cache");
        let mut command = limited(VX);
        command
            .args(["detect", "--provider", "cpu"])
            .arg(&*FOLDER)
            .arg("--output")
            .arg(&output)
            .arg("--cache")
            .arg(&cache);
        let run = finished(command.args(more).env("LD_PRELOAD", &library));
        assert_eq!(run.status.code(), Some(1), "{more:?}: {}", errors(&run));
        assert_same(&records(&output), &expected(), "a clock that is set back");
    }
}

/// A network file system may have no locks, and reports a full quota only when data are synced.
#[test]
fn storage_without_locks_is_used_and_a_quota_is_an_error_that_can_be_resumed() {
    let source = r#"
        #include <errno.h>
        #include <stdatomic.h>
        #include <stdlib.h>
        static atomic_int syncs;
        static int fails_with(int error) { errno = error; return -1; }
        static int sync_file() {
            const char *room = getenv("VX_TEST_SYNCS");
            return room && atomic_fetch_add(&syncs, 1) >= atoi(room) ? fails_with(EDQUOT) : 0;
        }
        int flock(int file, int operation) { return fails_with(ENOLCK); }
        int fsync(int file) { return sync_file(); }
        int fdatasync(int file) { return sync_file(); }
    "#;
    let Some(library) = library("network_storage", source) else { return };
    for more in [&[][..], &["--isolate"]] {
        for room in [None, Some("0"), Some("1"), Some("3")] {
            let output = fresh("network_storage.jsonl");
            let mut command = limited(VX);
            command.args(["detect", "--provider", "cpu"]).arg(&*FOLDER).arg("--output").arg(&output);
            command.args(more).env("LD_PRELOAD", &library).envs(room.map(|room| ("VX_TEST_SYNCS", room)));
            let run = finished(&mut command);
            let what = format!("{more:?}, {room:?} syncs: {}: {}", run.status, errors(&run));
            if room.is_none() {
                assert_eq!(run.status.code(), Some(1), "{what}");
                assert_same(&records(&output), &expected(), &what);
            } else {
                assert_eq!(run.status.code(), Some(2), "{what}");
                assert!(errors(&run).contains("quota"), "{what}");
                assert_resumable(&output, &what);
            }
        }
    }
}

/// Reads the messages of a run with `--debug` until it starts the file with this name. Returns them.
fn wait_until_file_starts(stderr: &mut impl BufRead, name: &str) -> String {
    let mut all = String::new();
    while !all.ends_with(&format!("{name}: started\n")) {
        assert!(stderr.read_line(&mut all).unwrap() > 0, "{name} was not started: {all}");
    }
    all
}

/// Starts a run of one lane with a copy of a model, and replaces the copy when a file has started.
fn run_until_model_is_replaced(output: &Path, more: &[&str], file: &str) -> (Child, BufReader<ChildStderr>) {
    let models = root().join("tests/models");
    let [model, other] = ["replaced.onnx", "other.onnx"].map(scratch);
    std::fs::copy(models.join("all_one.onnx"), &model).unwrap();
    std::fs::copy(models.join("all_zero.onnx"), &other).unwrap();
    let mut command = Command::new(VX);
    command.args(["detect", "--provider", "cpu", "--lanes", "1", "--debug", "--order", "as-given"]).args(more);
    command.arg("--model").arg(&model).arg("--output").arg(output).arg(&*FOLDER);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).env("VX_TEST_WORKER", "hang:f3");
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    wait_until_file_starts(&mut stderr, file);
    std::fs::rename(other, &model).unwrap();
    (child, stderr)
}

/// Returns the lines of frames.
fn frames(path: &Path) -> BTreeSet<String> {
    records(path).into_iter().filter(|line| line.contains("\"detections\"")).collect()
}

#[test]
fn a_model_that_is_replaced_during_a_run_is_not_mixed_with_the_first() {
    let plain = fresh("not-replaced.jsonl");
    let first = root().join("tests/models/all_one.onnx");
    let arguments = ["--model", first.to_str().unwrap(), "--output", plain.to_str().unwrap()];
    let run = detect(&[&[FOLDER.to_str().unwrap()], &arguments[..]].concat());
    assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
    let all = frames(&plain);
    assert!(!all.is_empty());

    let output = fresh("replaced.jsonl");
    let (mut run, mut stderr) = run_until_model_is_replaced(&output, &[], "f0.mp4");
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(1), "{text}");
    assert_same(&frames(&output), &all, "a replaced model");

    if !cfg!(debug_assertions) {
        println!("skipped: workers of release builds have no test hooks");
        return;
    }
    // A worker that is lost is replaced by one that loads the model again.
    let output = fresh("replaced-isolated.jsonl");
    let (mut run, mut stderr) = run_until_model_is_replaced(&output, &["--isolate"], "f3.mp4");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", run.id())).unwrap();
    let children = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    let children = children.collect::<Vec<_>>().join(" ");
    assert!(Command::new("kill").arg("-KILL").args(children.split_whitespace()).status().unwrap().success());
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(2), "{text}");
    assert!(text.contains("was replaced during the run"), "{text}");
    let found = frames(&output);
    assert!(!found.is_empty() && found.is_subset(&all), "{:?}", found.difference(&all).next());
}

#[test]
fn a_provider_library_that_hangs_while_loading_ends_with_a_timeout() {
    let source = "#include <unistd.h>\n__attribute__((constructor)) static void hang(void) { for (;;) pause(); }\n";
    let Some(library) = library("hanging", source) else { return };
    for more in [&[][..], &["--isolate"]] {
        let mut command = limited(VX);
        command
            .args(["detect", "--file-timeout", "1s", "--set", "load-timeout=2s", "--provider"])
            .arg(&library)
            .arg(clip());
        let run = finished(command.args(more));
        let text = errors(&run);
        assert_eq!(run.status.code(), Some(2), "{more:?}: {text}");
        assert!(text.contains("did not finish loading within"), "{more:?}: {text}");
    }
}
