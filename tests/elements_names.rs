// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests the file name that `vxjsonenc` writes when several sources feed it, or when one source reads several files.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::path::{Path, PathBuf};

use common::{clip, made, quoted, run, scratch};
use serde_json::Value;

/// Creates two clips with two and three keyframes.
fn clips() -> [PathBuf; 2] {
    ["1.9", "2.9"].map(|seconds| {
        let name = format!("names-{seconds}.mp4");
        made(&name, &["-i", clip().to_str().unwrap(), "-t", seconds, "-an", "-c", "copy", "-movflags", "+faststart"])
    })
}

fn names(launch: &str) -> Vec<Value> {
    run(launch).json().into_iter().map(|mut line| line["file"].take()).collect()
}

fn name(file: &Path) -> Value {
    file.to_str().unwrap().into()
}

#[test]
fn each_file_behind_concat_has_its_own_name() {
    let files = clips();
    let [first, second] = files.each_ref().map(|file| quoted(file));
    let expected: Vec<Value> =
        [(&files[0], 2), (&files[1], 3)].into_iter().flat_map(|(file, count)| vec![name(file); count]).collect();
    // Concatenates the bytes of the files, and also the frames of the files.
    let bytes = format!(
        "filesrc location={first} ! c. filesrc location={second} ! c. concat name=c ! vxkeyframedec ! vxjsonenc"
    );
    assert_eq!(names(&bytes), expected);
    let frames = format!(
        "filesrc location={first} ! vxkeyframedec ! c. filesrc location={second} ! vxkeyframedec ! c. concat name=c ! \
         videoconvert ! vxjsonenc"
    );
    assert_eq!(names(&frames), expected);
}

#[test]
fn a_source_of_several_files_produces_no_wrong_name() {
    let folder = scratch("numbered");
    std::fs::create_dir_all(&folder).unwrap();
    for number in 0..3 {
        let seek = number.to_string();
        let picture =
            made(&format!("picture-{number}.jpg"), &["-ss", &seek, "-i", clip().to_str().unwrap(), "-frames:v", "1"]);
        std::fs::copy(picture, folder.join(format!("{number}.jpg"))).unwrap();
    }
    let source = format!("multifilesrc location={}", quoted(&folder.join("%d.jpg")));
    let found = names(&format!("{source} ! vxkeyframedec ! vxjsonenc"));
    assert_eq!(found, vec![Value::Null; 3]);
    let found = names(&format!("{source} ! vxkeyframedec ! vxjsonenc file=numbered"));
    assert_eq!(found, vec![Value::from("numbered"); 3]);
}
