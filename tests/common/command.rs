// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared helpers for the tests of `vx detect`: a folder of short files, runs of the command, comparison of outputs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use super::{clip, made, scratch};

/// A folder with six short video files and one file that is not a video.
pub static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = scratch("corpus");
    std::fs::create_dir_all(&folder).unwrap();
    let source = clip();
    for number in 0..6 {
        let from = (2 * number).to_string();
        let made = made(
            &format!("corpus/f{number}.mp4"),
            &["-ss", &from, "-t", "2", "-i", source.to_str().unwrap(), "-an", "-vf", "scale=320:-2", "-g", "10"],
        );
        assert!(made.starts_with(&folder));
    }
    std::fs::write(folder.join("notes.mp4"), "no video").unwrap();
    folder
});

pub fn vx(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vx"));
    command.arg("detect").args(arguments).env_remove("VX_TEST_WORKER");
    command
}

/// Runs detection on the folder with the CPU provider and writes to `output`.
pub fn detect(output: &Path, more: &[&str]) -> Output {
    let folder = FOLDER.display().to_string();
    let output = output.display().to_string();
    let mut arguments = vec![&*folder, "--output", &output, "--provider", "cpu"];
    arguments.extend(more);
    vx(&arguments).output().unwrap()
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the lines without the parts that differ between runs: times, and the detector headers, because every run adds one.
pub fn records(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["header"]["detector"].is_null())
        .map(|mut line| {
            line.as_object_mut().unwrap().remove("seconds");
            line.to_string()
        })
        .collect();
    let set: BTreeSet<String> = lines.iter().cloned().collect();
    assert_eq!(set.len(), lines.len(), "a line is there twice");
    set
}

pub fn assert_same(left: &BTreeSet<String>, right: &BTreeSet<String>, what: &str) {
    let first = left.symmetric_difference(right).next();
    assert!(first.is_none(), "{what}: {} and {} lines, {first:?}", left.len(), right.len());
}
