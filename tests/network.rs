// SPDX-License-Identifier: MIT OR Apache-2.0
//! Observes the system calls of `vx` with strace: no address is contacted but that of a named URL, also not by ONNX Runtime.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::process::Command;

use common::http::{Manner, Server, large};
use common::{clip, scratch};

/// Returns the calls about Internet addresses that `vx detect INPUT` makes; `None`, with the reason printed, where strace does not run.
fn internet_calls(name: &str, input: &str, provider: &str) -> Option<Vec<String>> {
    let log = scratch(name);
    let strace = |program: &str| {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "trace=network", "-o"]).arg(&log).arg(program);
        command
    };
    match strace("true").output() {
        Ok(tried) if tried.status.success() => {}
        Ok(tried) => {
            println!("skipped: strace does not run here: {}", String::from_utf8_lossy(&tried.stderr));
            return None;
        }
        Err(error) => {
            println!("skipped: strace: {error} (on Debian: apt install strace)");
            return None;
        }
    }
    let mut command = strace(env!("CARGO_BIN_EXE_vx"));
    let output = command.args(["detect", "--quiet", "--provider", provider, input]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"status\":\"ok\""));
    let calls = std::fs::read_to_string(log).unwrap();
    // GStreamer creates pairs of sockets, so an empty log is one of a strace that saw nothing.
    assert!(calls.contains("socketpair("), "{calls}");
    Some(calls.lines().filter(|call| call.contains("AF_INET")).map(ToOwned::to_owned).collect())
}

#[test]
fn a_file_is_read_without_the_network() {
    let file = clip().display().to_string();
    for provider in ["cpu", "auto"] {
        let Some(calls) = internet_calls(&format!("file-{provider}"), &file, provider) else { return };
        assert_eq!(calls, Vec::<String>::new(), "{provider}");
    }
}

#[test]
fn of_a_url_only_its_own_server_is_contacted() {
    let server = Server::start(large(), Manner::Ranges);
    let Some(calls) = internet_calls("url", &server.url, "cpu") else { return };
    let port = server.url.rsplit(':').next().unwrap().split('/').next().unwrap();
    let is_its_own = |call: &str| {
        // `socket` names no address.
        call.contains("socket(AF_INET")
            || (call.contains(&format!("htons({port})")) && call.contains("inet_addr(\"127.0.0.1\")"))
    };
    assert!(calls.iter().any(|call| call.contains("connect(") && is_its_own(call)), "{calls:?}");
    assert!(calls.iter().all(|call| is_its_own(call)), "{calls:?}");
}
