// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vx detect` and `vx inspect` on HTTP URLs: nginx, and a server with faults.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use common::command::{errors, vx};
use common::http::{Manner, Nginx, Server, large};
use common::{clip, made, scratch};
use serde_json::Value;

/// Runs `vx detect` with the CPU provider.
fn detect(inputs: &[&str], more: &[&str]) -> Output {
    vx(&["--provider", "cpu", "--quiet"]).args(inputs).args(more).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn summary(output: &Output) -> Value {
    lines(output).pop().unwrap()
}

/// Returns the lines of frames without the file's name.
fn frames(output: &Output) -> Vec<Value> {
    let mut frames: Vec<Value> = lines(output).into_iter().filter(|line| line["detections"].is_array()).collect();
    frames.iter_mut().for_each(|frame| frame["file"] = Value::Null);
    frames
}

/// A folder with the same video in several containers.
fn folder() -> std::path::PathBuf {
    let folder = scratch("served");
    std::fs::create_dir_all(&folder).unwrap();
    let video = large().to_str().unwrap();
    for container in ["mp4", "mkv", "ts", "avi"] {
        made(&format!("served/large.{container}"), &["-i", video, "-c", "copy"]);
    }
    made("served/front.mp4", &["-i", video, "-c", "copy", "-movflags", "faststart"]);
    std::fs::copy(clip(), folder.join("a b%41?.mp4")).unwrap();
    folder
}

#[test]
fn records_from_a_server_match_those_of_the_file() {
    let folder = folder();
    let locations = format!(
        "location /plain/ {{ alias {0}/; max_ranges 0; }} location /moved/ {{ rewrite ^/moved/(.*) /$1 redirect; }}",
        folder.display()
    );
    let Some(nginx) = Nginx::start("records", &folder, &locations) else { return };
    for name in ["large.mp4", "front.mp4", "large.mkv", "large.ts", "large.avi"] {
        let path = folder.join(name).display().to_string();
        let local = detect(&[&path], &[]);
        let expected = frames(&local);
        assert!(!expected.is_empty(), "{}", errors(&local));
        let length = folder.join(name).metadata().unwrap().len();
        for (place, isolated) in [("", false), ("", true), ("/plain", false), ("/moved", false)] {
            let url = format!("{}{place}/{name}", nginx.url);
            let served = detect(&[&url], if isolated { &["--isolate"] } else { &[] });
            assert_eq!(frames(&served), expected, "{url}: {}", errors(&served));
            let (here, there) = (summary(&local), summary(&served));
            assert_eq!((&there["file"], &there["status"]), (&Value::from(&*url), &Value::from("ok")), "{there}");
            for field in ["keyframes", "detection_count", "covered_seconds"] {
                assert_eq!(here[field], there[field], "{url}: {field}");
            }
            let count = |summary: &Value, field: &str| summary[field].as_u64().unwrap();
            assert!(count(&there, "bytes_received") > 0);
            if place == "/plain" {
                continue;
            }
            assert_eq!(count(&there, "bytes"), length, "{there}");
            // Only index and keyframes are fetched, as from the disk.
            if name.ends_with(".mp4") {
                let (here, there) = (count(&here, "bytes_read") as f64, count(&there, "bytes_read") as f64);
                assert!((there / here - 1.0).abs() < 0.05, "{url}: {there} bytes, {here} from the disk");
                assert!(there < length as f64 / 4.0, "{url}: {there} of {length} bytes");
            }
        }
    }
}

#[test]
fn a_list_of_urls_is_read_and_each_refusal_is_reported() {
    let folder = folder();
    let locations = "location /denied/ { return 403; } location /locked/ { return 401; }";
    let Some(nginx) = Nginx::start("list", &folder, locations) else { return };
    let url = &nginx.url;
    // A signature may contain what would be a pattern in a path.
    let good = format!("{url}/front.mp4?signature=[a]*&expires=1");
    let spaced = format!("{url}/a%20b%2541%3F.mp4");
    let list =
        [&*good, &spaced, &format!("{url}/none.mp4"), &format!("{url}/denied/a.mp4"), &format!("{url}/locked/a.mp4")]
            .join("\n");
    let mut child = vx(&["--provider", "cpu", "--quiet", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    let summaries: Vec<Value> = lines(&output).into_iter().filter(|line| line["status"].is_string()).collect();
    assert_eq!(summaries.len(), 5);
    for (end, expected) in [
        (&*good, None),
        (&*spaced, None),
        ("/none.mp4", Some("does not have it (HTTP status 404)")),
        ("/denied/a.mp4", Some("the link may have expired")),
        ("/locked/a.mp4", Some("requires authentication")),
    ] {
        let summary = summaries.iter().find(|summary| summary["file"].as_str().unwrap().ends_with(end)).unwrap();
        match expected {
            None => assert_eq!(summary["status"], "ok", "{summary}"),
            Some(text) => assert!(summary["error"]["message"].as_str().unwrap().contains(text), "{summary}"),
        }
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let server = Server::start(large(), Manner::RefusesFirst(2, 503));
    let output = detect(&[&server.url], &[]);
    assert_eq!(summary(&output)["status"], "ok", "{}", errors(&output));
    assert_eq!(frames(&output), frames(&detect(&[large().to_str().unwrap()], &[])));
    // The same answer to every request.
    let server = Server::start(large(), Manner::RefusesFirst(usize::MAX, 503));
    let output = detect(&[&server.url], &[]);
    let failure = summary(&output);
    assert!(failure["error"]["message"].as_str().unwrap().contains("(HTTP status 503); try again later"), "{failure}");
    assert_eq!(server.asked().len(), 4);
}

#[test]
fn a_cut_connection_is_resumed_or_reported() {
    let server = Server::start(large(), Manner::CutsFirst(3));
    let output = detect(&[&server.url], &[]);
    assert_eq!(summary(&output)["status"], "ok", "{}", errors(&output));
    assert_eq!(frames(&output), frames(&detect(&[large().to_str().unwrap()], &[])));
    let server = Server::start(large(), Manner::CutsFirst(usize::MAX));
    let output = detect(&[&server.url], &["--set", "io-timeout=5s"]);
    let summary = summary(&output);
    assert_ne!(summary["status"], "ok", "{summary}");
}

#[test]
fn a_link_that_expires_while_it_is_read_fails() {
    let server = Server::start(large(), Manner::RefusesAfter(4, 403));
    let output = detect(&[&server.url], &[]);
    let failure = summary(&output);
    assert_eq!(failure["status"], "failed", "{failure}");
    assert!(failure["error"]["message"].as_str().unwrap().contains("the link may have expired"), "{failure}");
}

#[test]
fn a_stalled_server_fails_after_the_timeout_and_interrupts_end_the_wait() {
    common::reset_ignored_signals();
    let server = Server::start(large(), Manner::Stalls);
    let output = detect(&[&server.url], &["--set", "io-timeout=1s"]);
    let failure = summary(&output);
    assert!(failure["error"]["message"].as_str().unwrap().contains("io-timeout"), "{failure}");
    let started = Instant::now();
    let mut child =
        vx(&["--provider", "cpu", &server.url]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while server.asked().len() < 3 {
        assert!(started.elapsed() < common::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // The first lets the file finish, which waits for io-timeout.
    while child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < common::PATIENCE);
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    let status = child.wait().unwrap();
    let is_interrupted =
        status.code() == Some(130) || std::os::unix::process::ExitStatusExt::signal(&status) == Some(2);
    assert!(is_interrupted, "{status}");
}

#[test]
fn a_url_is_not_read_twice_and_its_pictures_are_saved() {
    let server = Server::start(large(), Manner::Ranges);
    let (output, pictures) = (scratch("urls.jsonl"), scratch("urls-pictures"));
    let arguments = [
        "--output",
        output.to_str().unwrap(),
        "--resume",
        "--save-frames",
        pictures.to_str().unwrap(),
        "--which-frames",
        "all",
    ];
    let first = detect(&[&server.url], &arguments);
    assert!(first.status.success(), "{}", errors(&first));
    let requests = server.asked().len();
    let saved = files_below(&pictures);
    assert!(saved > 0);
    let second = detect(&[&server.url], &arguments);
    assert!(second.status.success(), "{}", errors(&second));
    assert_eq!((server.asked().len(), files_below(&pictures)), (requests, saved));
}

/// Counts the files below a folder.
fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

#[test]
fn urls_can_be_inspected() {
    let inspect = |name: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_vx")).args(["inspect", "--json", name]).output().unwrap();
        (serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(), errors(&output))
    };
    let (local, _) = inspect(large().to_str().unwrap());
    for manner in [Manner::Ranges, Manner::NoRanges] {
        let server = Server::start(large(), manner);
        let (served, text) = inspect(&server.url);
        assert_eq!(served["file"], *server.url, "{text}");
        for field in ["container", "codec", "width", "keyframes", "duration_seconds", "spacing_seconds", "complete"] {
            assert_eq!(served[field], local[field], "{field}");
        }
    }
    let server = Server::start(large(), Manner::RefusesFirst(usize::MAX, 404));
    let (_, text) = inspect(&server.url);
    assert!(text.contains("(HTTP status 404); check the URL"), "{text}");
}
