// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the scenarios in tests/validate with gst-validate-1.0, which checks events, segments, flags, flow returns and seeks on every pad.
//!
//! Debian has no package of it; docs/contributing.md describes how to build it. Without it the test is skipped.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::process::Command;

use common::{PATIENCE, root, scratch};

#[test]
fn scenarios_run_without_issues() {
    let Some(plugins) = std::env::var_os("VX_PLUGIN_DIR") else {
        println!("skipped: VX_PLUGIN_DIR is not set; `make test` builds the plugin and sets it");
        return;
    };
    if Command::new("gst-validate-1.0").arg("--version").output().is_err() {
        println!("skipped: gst-validate-1.0 is not installed (docs/contributing.md)");
        return;
    }
    let files = std::fs::read_dir(root().join("tests/validate")).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "validatetest")) {
        // A scenario that waits for what does not come has no end of its own.
        let mut command = Command::new("timeout");
        command.args([&(2 * PATIENCE.as_secs()).to_string(), "gst-validate-1.0", "--set-test-file"]);
        command.arg(&file).env("GST_PLUGIN_PATH", &plugins);
        command.env("GST_REGISTRY", scratch("registry.bin")).env_remove("ORT_DYLIB_PATH").env_remove("GST_DEBUG");
        let output = command.output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {}\n{text}", file.display(), output.status);
        // Issues below the level `critical` do not fail the run by themselves; those that a scenario expects have the level `expected`.
        let levels = ["warning :", "issue :", "critical :"];
        let issues: Vec<_> =
            text.lines().filter(|line| levels.iter().any(|level| line.trim_start().starts_with(level))).collect();
        assert!(issues.is_empty(), "{}: {issues:?}\n{text}", file.display());
        assert!(text.contains("Issues found: "), "{}: no report\n{text}", file.display());
        count += 1;
    }
    assert!(count >= 5, "{count} scenarios");
}
