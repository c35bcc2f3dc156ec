// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of `vx detect` share: a folder of short files, runs of the command, outputs to compare.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use super::{clip, made, scratch};

/// Six short files and one that is no video, in a folder.
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

/// Detects on the folder into `output`, on the CPU provider.
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

/// Lines without what differs from run to run, so that two runs can be compared: times, and headers about the detector, of which each
/// run adds its own.
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
