// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests which files `vx detect` reads: all kinds of names, lists, links; what it refuses, and how it prints names.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use common::command::{errors, vx};
use common::{clip, made, quoted, scratch};
use gst::prelude::*;

/// Creates a file of one second.
static SHORT: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = clip();
    made("short.mp4", &["-t", "1", "-i", source.to_str().unwrap(), "-an", "-vf", "scale=160:-2", "-g", "25"])
});

/// Creates a folder with copies of the short file; names are given as bytes.
fn folder(name: &str, files: &[&[u8]]) -> PathBuf {
    let folder = scratch(name);
    std::fs::create_dir_all(&folder).unwrap();
    for file in files {
        std::fs::copy(&*SHORT, folder.join(OsStr::from_bytes(file))).unwrap();
    }
    folder
}

/// Runs `vx detect` on the CPU provider with `input` on standard input.
fn run(arguments: &[&OsStr], input: &[u8]) -> Output {
    let mut command = vx(&["--provider", "cpu"]);
    let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses its arguments does not read the input.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input);
    child.wait_with_output().unwrap()
}

fn os(text: &str) -> &OsStr {
    OsStr::new(text)
}

/// Returns names and status of the files in lines.
fn summaries(lines: &[u8]) -> Vec<(String, String)> {
    let lines = String::from_utf8(lines.to_vec()).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let mut found: Vec<_> = lines
        .filter(|line| line["status"].is_string())
        .map(|line| (text(&line["file"]), text(&line["status"])))
        .collect();
    found.sort();
    found
}

const ODD: [&[u8]; 4] = [b"not\xffutf8.mp4", b"esc\x1b[31m.mp4", b"new\nline.mp4", "ä %41.mp4".as_bytes()];

#[test]
fn all_kinds_of_names_are_read_and_printed_without_control_characters() {
    let folder = folder("odd", &ODD);
    let mut expected: Vec<(String, String)> = ["not%FFutf8.mp4", "esc\u{1b}[31m.mp4", "new\nline.mp4", "ä %41.mp4"]
        .iter()
        .map(|name| {
            let path = folder.join(name).display().to_string();
            (if name.contains("%FF") { format!("file://{path}") } else { path }, "ok".to_owned())
        })
        .collect();
    expected.sort();
    let frames = scratch("odd-frames");
    for more in [vec![], vec![os("--isolate")], vec![os("--debug"), os("--save-frames"), frames.as_os_str()]] {
        let mut arguments = vec![folder.as_os_str()];
        arguments.extend(more);
        let run = run(&arguments, b"");
        assert_eq!(summaries(&run.stdout), expected, "{}", errors(&run));
        assert!(run.status.success() && !errors(&run).contains('\u{1b}'), "{}", errors(&run));
    }
    assert_eq!(std::fs::read_dir(&frames).unwrap().count(), ODD.len());
    // All of them from find -print0, and each as an argument; a URI is also a path.
    let list: Vec<u8> =
        ODD.iter().flat_map(|name| [folder.as_os_str().as_bytes(), b"/", name, b"\0"].concat()).collect();
    for (arguments, input) in [(vec![os("-")], list.as_slice()), (vec![os("-"), os("--null")], &list)] {
        assert_eq!(summaries(&run(&arguments, input).stdout), expected);
    }
    let mut paths: Vec<OsString> = ODD.iter().map(|name| folder.join(OsStr::from_bytes(name)).into()).collect();
    paths.push(expected.iter().find(|(name, _)| name.starts_with("file://")).unwrap().0.clone().into());
    let run = run(&paths.iter().map(OsString::as_os_str).collect::<Vec<_>>(), b"");
    assert_eq!(summaries(&run.stdout), expected);
}

#[test]
fn failures_and_plans_show_names_with_escapes() {
    let folder = folder("escaped", &[]);
    let names: [&[u8]; 3] = [b"a\x1b]0;title\x07.mp4", b"b\xc2\x9b31m.mp4", b"c\xff\n.mp4"];
    for name in names {
        std::fs::write(folder.join(OsStr::from_bytes(name)), "no video").unwrap();
    }
    for more in [vec![], vec![os("--isolate")], vec![os("--debug")], vec![os("--dry-run")]] {
        let is_plan = more.contains(&os("--dry-run"));
        let mut arguments = vec![folder.as_os_str()];
        arguments.extend(more);
        let run = run(&arguments, b"");
        let shown = if is_plan { String::from_utf8(run.stdout.clone()).unwrap() } else { errors(&run) };
        assert!(shown.contains("a\\u{1b}]0;title\\u{7}.mp4") && shown.contains("c%FF%0A.mp4"), "{shown}");
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    }
    let inspected = Command::new(env!("CARGO_BIN_EXE_vx"))
        .arg("inspect")
        .args(std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()))
        .output()
        .unwrap();
    assert!(!errors(&inspected).contains(|c: char| c.is_control() && c != '\n'), "{:?}", errors(&inspected));
    assert!(errors(&inspected).contains("a\\u{1b}]0;title"), "{:?}", errors(&inspected));
}

#[test]
fn elements_accept_uris_and_use_them_for_names_outside_utf8() {
    let folder = folder("elements", &[b"x\xfe.mp4"]);
    let path = folder.join(OsStr::from_bytes(b"x\xfe.mp4"));
    let uri = format!("file://{}/x%FE.mp4", folder.display());
    let list = scratch("bytes.list");
    std::fs::write(&list, [path.as_os_str().as_bytes(), b"\n"].concat()).unwrap();
    let lines = common::run(&format!("vxbulkbin execution-provider=cpu file-list={}", quoted(&list))).json();
    assert!(lines.len() > 1 && lines.iter().all(|line| line["file"] == uri.as_str()), "{lines:?}");
    assert_eq!(lines.last().unwrap()["status"], "ok");
    let files = format!("vxbulkbin execution-provider=cpu location={}", quoted(Path::new(&uri)));
    assert_eq!(common::run(&files).json().len(), lines.len());

    let inspected = Command::new(env!("CARGO_BIN_EXE_vx")).args(["inspect", "--json", &uri]).output().unwrap();
    assert!(inspected.status.success(), "{}", errors(&inspected));

    // Applications pass strings.
    let (pipeline, sink) = common::pipeline("vxbulkbin name=bulk execution-provider=cpu");
    let bulk = pipeline.by_name("bulk").unwrap();
    bulk.set_property("files", vec![uri.clone()]);
    let outcome = common::play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(outcome.json().len(), lines.len());

    let (pipeline, sink) = common::pipeline("filesrc name=source ! vxkeyframedec ! vxjsonenc");
    pipeline.by_name("source").unwrap().set_property("location", &path);
    let outcome = common::play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(outcome.json().iter().all(|line| line["file"] == uri.as_str()));
    // Errors of such a file contain its name.
    std::fs::write(&path, "no video").unwrap();
    let error = common::play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(error.error_text().contains(&uri), "{}", error.error_text());
}

#[test]
fn a_file_is_read_once_even_if_it_is_named_several_times() {
    let folder = folder("names", &[b"a.mp4", b"b.mp4"]);
    symlink("a.mp4", folder.join("link.mp4")).unwrap();
    std::fs::hard_link(folder.join("b.mp4"), folder.join("hard.mp4")).unwrap();
    symlink("..", folder.join("loop")).unwrap();
    let first = folder.join("../names/b.mp4");
    let pattern = folder.join("**/*.mp4");
    for input in [folder.clone(), pattern] {
        let run = run(&[first.as_os_str(), input.as_os_str(), os("--debug")], b"");
        let text = errors(&run);
        let names: Vec<String> = summaries(&run.stdout).into_iter().map(|(name, _)| name).collect();
        let path = |name: &str| folder.join(name).display().to_string();
        assert_eq!(names, [path("../names/b.mp4"), path("a.mp4")], "{text}");
        assert!(text.contains("3 names of files that have other names were left out"), "{text}");
        assert!(text.contains("hard.mp4: the same file as") && text.contains("loop is a link to"), "{text}");
    }
}

#[test]
fn invalid_lists_and_files_are_refused_before_any_output_is_written() {
    let output = scratch("untouched.jsonl");
    std::fs::write(&output, "mine\n").unwrap();
    let video = std::fs::read(clip()).unwrap();
    let model = os("/nowhere/m.onnx");
    let cases: [(&str, &[u8], &str); 5] = [
        ("-", &video, "fdsrc"),
        ("-", b"", "no file to read"),
        ("s3://bucket/a.mp4", b"", "only http, https and file URLs"),
        ("rtsp://camera", b"", "gst-launch-1.0"),
        ("/nowhere/**/*.mp4", b"", "/nowhere/**/*.mp4"),
    ];
    for (input, bytes, word) in cases {
        let arguments = [os(input), os("-m"), model, os("-o"), output.as_os_str(), os("--overwrite")];
        let run = run(&arguments, bytes);
        assert!(run.status.code() == Some(2) && errors(&run).contains(word), "{input}: {}", errors(&run));
    }
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "mine\n");
    // In a list, a URL fails only its own entry.
    let list = format!("ftp://host/a.mp4\n{}\n", SHORT.display());
    let run = run(&[os("-")], list.as_bytes());
    assert_eq!((run.status.code(), summaries(&run.stdout).len()), (Some(1), 1));
    assert!(errors(&run).contains("failed    ftp://host/a.mp4: only http, https and file URLs"), "{}", errors(&run));
    // The command that the error recommends for a pipe.
    let lines = common::run(&format!(
        "{} ! vxkeyframedec ! vxyolodetect execution-provider=cpu ! vxjsonenc",
        common::piped(&SHORT)
    ));
    assert!(!lines.json().is_empty());
}

#[test]
fn unreadable_folders_count_as_failures() {
    let folder = tempfile::tempdir().unwrap();
    let set = |path: &Path, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::copy(&*SHORT, folder.path().join("a.mp4")).unwrap();
    let closed = folder.path().join("closed\u{1b}");
    std::fs::create_dir(&closed).unwrap();
    set(folder.path(), 0o755);
    set(&folder.path().join("a.mp4"), 0o644);
    set(&closed, 0);
    let mut command = vx(&[folder.path().to_str().unwrap(), "--provider", "cpu"]);
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        // Root can read everything.
        command = Command::new("setpriv");
        command.args(["--reuid", "65532", "--regid", "65532", "--clear-groups", env!("CARGO_BIN_EXE_vx"), "detect"]);
        command.arg(folder.path()).args(["--provider", "cpu"]);
    }
    let run = match command.output() {
        Ok(run) if !errors(&run).contains("failed to execute") => run,
        other => {
            println!("skipped: another user is played by setpriv: {other:?}");
            return;
        }
    };
    set(&closed, 0o755);
    let text = errors(&run);
    assert_eq!(run.status.code(), Some(1), "{text}");
    assert!(
        text.contains("1 ok, 1 failed, of 2") && text.contains("closed\\u{1b}: the folder cannot be read"),
        "{text}"
    );
    assert_eq!(summaries(&run.stdout).len(), 1);
}

#[test]
fn pictures_in_folders_are_reported_and_read_on_request() {
    let folder = folder("pictures", &[b"a.mp4"]);
    let source = clip();
    made("pictures/thumb.jpg", &["-i", source.to_str().unwrap(), "-frames:v", "1", "-update", "1"]);
    let plain = run(&[folder.as_os_str()], b"");
    assert!(errors(&plain).contains("1 pictures in folders; name them"), "{}", errors(&plain));
    assert_eq!(summaries(&plain.stdout).len(), 1);
    for more in [vec![os("--probe"), folder.as_os_str()], vec![folder.as_os_str(), folder.join("*.jpg").as_os_str()]] {
        assert_eq!(summaries(&run(&more, b"").stdout).len(), 2);
    }
    std::fs::remove_file(folder.join("a.mp4")).unwrap();
    let none = run(&[folder.as_os_str()], b"");
    assert!(none.status.code() == Some(2) && errors(&none).contains("1 pictures in folders"), "{}", errors(&none));
}

#[test]
fn a_closed_or_full_stdout_is_an_error_and_a_closed_stderr_is_not() {
    let in_shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line, env!("CARGO_BIN_EXE_vx")]).arg(&*SHORT).output().unwrap()
    };
    for (line, word) in [
        ("\"$0\" detect --provider cpu \"$1\" >&-", "standard output is closed"),
        ("\"$0\" detect --provider cpu \"$1\" >/dev/full", "standard output cannot be written"),
        ("\"$0\" detect --provider cpu --isolate \"$1\" >/dev/full", "standard output cannot be written"),
    ] {
        let run = in_shell(line);
        assert!(run.status.code() == Some(2) && errors(&run).contains(word), "{line}: {}", errors(&run));
    }
    for line in
        ["\"$0\" detect --provider cpu \"$1\" >/dev/null", "\"$0\" detect --provider cpu \"$1\" 2>&- | grep -q status"]
    {
        assert!(in_shell(line).status.success(), "{line}");
    }
    let bytes = OsString::from_vec(b"/nowhere/\xff.mp4".to_vec());
    assert_eq!(run(&[&bytes], b"").status.code(), Some(1));
}
