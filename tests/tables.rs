// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests tables and saved pictures of `vx detect`: their content, and whether common libraries open them.
//!
//! `VX_TEST_PYTHON` names a Python that has pandas, pyarrow, polars, duckdb and pycocotools. `make test-tables` sets one up in
//! `.deps/python`, which is the default if it exists; otherwise `python3` is. Without the packages the test prints that it is
//! skipped.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{clip, made, root, scratch};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Value, json};

/// Creates a folder with two short videos and one file that is not a video.
fn corpus(name: &str) -> PathBuf {
    let folder = scratch(name);
    std::fs::create_dir_all(&folder).unwrap();
    let source = clip();
    for number in 0..2 {
        let from = (8 * number).to_string();
        let options =
            ["-ss", &from, "-t", "3", "-i", source.to_str().unwrap(), "-an", "-vf", "scale=160:-2", "-g", "10"];
        made(&format!("{name}/f{number}.mp4"), &options);
    }
    std::fs::write(folder.join("notes.mp4"), "no video").unwrap();
    folder
}

fn detect(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vx")).args(["detect", "--provider", "cpu"]).args(arguments).output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn model(name: &str) -> String {
    root().join(format!("tests/models/{name}.onnx")).display().to_string()
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Lists all files under `folder`, relative to it.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found
}

/// Runs that together produce every kind of field: boxes, masks, keypoints, rotated boxes, frames between keyframes, a failed file.
fn runs(name: &str) -> Vec<PathBuf> {
    let media = corpus(name).display().to_string();
    let tasks = ["segment", "pose", "obb"];
    let folders =
        tasks.iter().map(|task| (*task, model(task))).chain([("boxes", String::new())]).map(|(task, model)| {
            let folder = scratch(&format!("{name}-{task}"));
            std::fs::create_dir_all(&folder).unwrap();
            for file in ["found.jsonl", "found.csv", "found.parquet", "found.json"] {
                let output = folder.join(file).display().to_string();
                let mut arguments =
                    vec![&*media, "--output", &output, "--quiet", "--set", "decoder::max-gap=200000000"];
                arguments.extend(["--lanes", "1", "--order", "as-given"]);
                if !model.is_empty() {
                    arguments.extend(["--model", &model]);
                }
                let run = detect(&arguments);
                assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
            }
            folder
        });
    folders.collect()
}

/// Returns the JSON types of every field by its path.
fn types(path: &str, value: &Value, seen: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Value::Null => return,
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "decimal",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    seen.entry(path.to_owned()).or_default().insert(kind);
    match value {
        Value::Array(values) => values.iter().for_each(|value| types(&format!("{path}[]"), value, seen)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| types(&format!("{path}.{name}"), value, seen)),
        _ => {}
    }
}

#[test]
fn a_field_has_one_type_in_all_lines_and_tables_match_the_lines() {
    let mut seen = BTreeMap::new();
    for folder in runs("plain") {
        let lines = lines(&folder.join("found.jsonl"));
        lines.iter().for_each(|line| types("", line, &mut seen));
        let frames: Vec<&Value> =
            lines.iter().filter(|line| line["status"].is_null() && line["header"].is_null()).collect();
        let detections: Vec<(&Value, &Value)> = frames
            .iter()
            .flat_map(|frame| frame["detections"].as_array().unwrap().iter().map(move |found| (*frame, found)))
            .collect();
        assert!(detections.len() > 3, "{folder:?}");
        let between = frames.iter().filter(|frame| frame["keyframe"] == json!(false)).count();
        assert!(between > 0 && between < frames.len(), "{between}");

        let mut csv = csv::Reader::from_path(folder.join("found.csv")).unwrap();
        let names: Vec<String> = csv.headers().unwrap().iter().map(ToOwned::to_owned).collect();
        let rows: Vec<BTreeMap<String, String>> = csv
            .records()
            .map(|row| names.iter().cloned().zip(row.unwrap().iter().map(ToOwned::to_owned)).collect())
            .collect();
        assert_eq!(rows.len(), detections.len());
        for (row, (frame, found)) in rows.iter().zip(&detections) {
            let is_keyframe = frame.get("keyframe").is_none();
            assert_eq!(
                (&row["file"], &row["keyframe"]),
                (&frame["file"].as_str().unwrap().to_owned(), &is_keyframe.to_string())
            );
            let seconds: f64 = row["seconds"].parse().unwrap();
            assert!((seconds * 1e9 - frame["pts_ns"].as_f64().unwrap()).abs() < 1.0);
            assert_eq!(row["label"], found["label"].as_str().unwrap());
            for name in ["rotated_box", "keypoints", "mask"] {
                let cell = if row[name].is_empty() { Value::Null } else { serde_json::from_str(&row[name]).unwrap() };
                assert_eq!(cell, found.get(name).cloned().unwrap_or_default(), "{name}");
            }
        }
        let parquet = SerializedFileReader::new(File::open(folder.join("found.parquet")).unwrap()).unwrap();
        assert_eq!(parquet.metadata().file_metadata().num_rows() as usize, detections.len());
        for (row, (_, found)) in parquet.get_row_iter(None).unwrap().zip(&detections) {
            let row = row.unwrap();
            for name in ["rotated_box", "keypoints", "mask"] {
                let field = row.get_column_iter().find(|(column, _)| *column == name).unwrap().1;
                assert_eq!(matches!(field, parquet::record::Field::Null), found.get(name).is_none(), "{name}");
            }
        }
        let coco = json_file(&folder.join("found.json"));
        assert_eq!(coco["images"].as_array().unwrap().len(), frames.len());
        assert_eq!(coco["annotations"].as_array().unwrap().len(), detections.len());
    }
    let mixed: Vec<_> = seen.iter().filter(|(_, kinds)| kinds.len() > 1).collect();
    assert!(mixed.is_empty(), "{mixed:?}");
    for field in
        [".detections[].mask.counts[]", ".detections[].keypoints[][]", ".detections[].rotated_box[]", ".error.message"]
    {
        assert!(seen.contains_key(field), "{field} is in no line: {seen:?}");
    }
}

#[test]
fn pandas_pyarrow_polars_duckdb_and_pycocotools_open_the_outputs() {
    let own = root().join(".deps/python/bin/python");
    let default = if own.exists() { own.display().to_string() } else { "python3".to_owned() };
    let python = std::env::var("VX_TEST_PYTHON").unwrap_or(default);
    let script = root().join("tests/tables.py");
    let has_packages = Command::new(&python).arg(&script).arg("--check").output();
    if !has_packages.is_ok_and(|check| check.status.success()) {
        println!(
            "skipped: {python} lacks pandas, pyarrow, polars, duckdb or pycocotools; `make test-tables` sets them up"
        );
        return;
    }
    let check = Command::new(python).arg(script).args(runs("python")).output().unwrap();
    assert!(check.status.success(), "{}", errors(&check));
}

#[test]
fn coco_output_names_the_saved_pictures_and_all_classes_for_every_kind_of_run() {
    let media = corpus("coco").display().to_string();
    let (pictures, cache) = (scratch("coco-pictures"), scratch("coco-cache"));
    let (pictures_name, cache_name) = (pictures.display().to_string(), cache.display().to_string());
    let output = scratch("coco.json");
    let segment = model("segment");
    let common = ["--output", output.to_str().unwrap(), "--model", &segment, "--overwrite", "--quiet"];
    let categories = |more: &[&str]| {
        let run = detect(&[&[&*media], &common[..], more].concat());
        assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
        let coco = json_file(&output);
        let names: Vec<String> =
            coco["categories"].as_array().unwrap().iter().map(|category| category["name"].to_string()).collect();
        assert_eq!(coco["annotations"][0]["category_id"], json!(3));
        (names, coco)
    };
    let (all, coco) = categories(&["--save-frames", &pictures_name, "--which-frames", "all"]);
    assert_eq!(all.len(), 10);
    let names: BTreeSet<String> = coco["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["file_name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(files(&pictures), names);
    assert_eq!(categories(&["--isolate"]).0, all);
    // First into the cache, then out of it without the model.
    assert_eq!(categories(&["--cache", &cache_name]).0, all);
    assert_eq!(categories(&["--cache", &cache_name]).0, all);
    // From the cache into lines, which have a detector header only on request.
    let plain = scratch("cached.jsonl");
    let run =
        detect(&[&media, "--output", plain.to_str().unwrap(), "--model", &segment, "--cache", &cache_name, "--quiet"]);
    assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
    assert!(lines(&plain).iter().all(|line| line["header"]["detector"].is_null()));
    let headed = scratch("headed.jsonl");
    detect(&[
        &media,
        "--output",
        headed.to_str().unwrap(),
        "--model",
        &segment,
        "--set",
        "encoder::header=true",
        "--quiet",
    ]);
    let headers: Vec<Value> = lines(&headed).into_iter().filter(|line| !line["header"]["detector"].is_null()).collect();
    assert_eq!(headers.len(), 2);
    assert_eq!(headers[0]["header"]["detector"]["classes"].as_array().unwrap().len(), 10);
}

#[test]
fn formats_are_selected_by_name_and_rows_go_to_standard_output() {
    let media = corpus("formats").display().to_string();
    let output = scratch("rows.txt");
    let in_file = detect(&[&media, "--format", "csv", "--output", output.to_str().unwrap(), "--quiet", "--lanes", "1"]);
    assert_eq!(in_file.status.code(), Some(1), "{}", errors(&in_file));
    let printed = detect(&[&media, "--format", "csv", "--quiet", "--lanes", "1"]);
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), std::fs::read_to_string(&output).unwrap());
    for (arguments, word) in [
        (&["--output", "found.txt"][..], "set --format to one of jsonl, csv, parquet, coco, yolo"),
        (&["--format", "parquet"], "set --output"),
        (&["--which-frames", "all"], "--save-frames"),
        (&["--format", "yolo", "--output", "set", "--save-frames", "frames"], "leave --save-frames out"),
    ] {
        let refused = detect(&[&[&*media], arguments].concat());
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(errors(&refused).contains(word), "{}", errors(&refused));
    }
}

#[test]
fn a_yolo_data_set_has_a_label_file_beside_each_picture() {
    let media = corpus("yolo").display().to_string();
    for (task, values) in [("segment", None), ("obb", Some(9)), ("pose", Some(11)), ("", Some(5))] {
        let set = scratch(&format!("set-{task}"));
        std::fs::create_dir_all(&set).unwrap();
        let set_name = format!("{}/", set.display());
        let model = model(task);
        let mut arguments = vec![&*media, "--format", "yolo", "--output", &set_name, "--quiet"];
        if !task.is_empty() {
            arguments.extend(["--model", &*model, "--which-frames", "all"]);
        }
        let run = detect(&arguments);
        assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
        let found = files(&set);
        // Ultralytics' data/utils.py finds the labels of a picture like this: the last /images/ becomes /labels/, the extension
        // .txt.
        let pictures: BTreeSet<String> = found.iter().filter(|name| name.ends_with(".jpg")).cloned().collect();
        let labels: BTreeSet<String> = found.iter().filter(|name| name.ends_with(".txt")).cloned().collect();
        let expected = pictures.iter().map(|name| name.replacen("images/", "labels/", 1).replace(".jpg", ".txt"));
        assert_eq!(labels, expected.collect(), "{task}");
        assert!(labels.len() > 3, "{found:?}");
        for name in &labels {
            for line in std::fs::read_to_string(set.join(name)).unwrap().lines() {
                let numbers: Vec<f64> = line.split(' ').map(|value| value.parse().unwrap()).collect();
                assert!(values.is_none_or(|values| values == numbers.len()), "{task}: {line}");
                assert!(numbers.len() == 5 || numbers.len() % 2 == 1, "{line}");
                let shares =
                    numbers[1..].iter().enumerate().filter(|(index, _)| task != "pose" || *index < 4 || index % 3 != 0);
                assert!(shares.into_iter().all(|(_, value)| (0.0..=1.0).contains(value)), "{line}");
            }
        }
        let data = std::fs::read_to_string(set.join("data.yaml")).unwrap();
        assert!(data.contains("train: images\n") && data.contains("names:\n  0: "), "{data}");
        assert_eq!(data.contains("kpt_shape: [2, 3]"), task == "pose", "{data}");
        // Again with fewer files: the files of removed inputs are deleted, those of the user are kept.
        std::fs::write(set.join("images/mine.jpg"), "").unwrap();
        let one = Path::new(&media).join("f1.mp4").display().to_string();
        arguments[0] = &one;
        assert_eq!(detect(&arguments).status.code(), Some(2), "a data set is not overwritten unasked");
        arguments.push("--overwrite");
        let run = detect(&arguments);
        assert!(run.status.success(), "{}", errors(&run));
        let left = files(&set);
        assert!(left.contains("images/mine.jpg") && left.iter().all(|name| !name.contains("f0.mp4")), "{left:?}");
        assert!(left.iter().any(|name| name.starts_with("labels/f1.mp4-")), "{left:?}");
    }
}

#[test]
fn an_unwritable_picture_fails_its_file_and_removes_old_pictures() {
    let media = corpus("pictures");
    let (one, other) = (media.join("f0.mp4").display().to_string(), media.join("f1.mp4").display().to_string());
    let folder = scratch("pictures-saved");
    let folder_name = folder.display().to_string();
    let output = scratch("pictures.jsonl");
    let run = |more: &[&str]| {
        let fixed = ["--save-frames", &folder_name, "--output", output.to_str().unwrap(), "--overwrite", "--quiet"];
        detect(&[&[&*one, &*other], &fixed[..], more].concat())
    };
    assert!(run(&["--which-frames", "all"]).status.success());
    let all = files(&folder);
    let of_one = all.iter().find(|name| name.starts_with("f0.mp4-")).unwrap().split('/').next().unwrap().to_owned();
    // At this confidence no frame has a detection.
    std::fs::write(folder.join(&of_one).join("holiday.jpg"), "mine").unwrap();
    assert!(run(&["--confidence", "0.9999"]).status.success());
    assert_eq!(files(&folder), BTreeSet::from([format!("{of_one}/holiday.jpg")]));

    std::fs::remove_dir_all(folder.join(&of_one)).unwrap();
    // A file in place of a folder: nobody can write there, not even root.
    std::fs::write(folder.join(&of_one), "").unwrap();
    for isolation in [&[][..], &["--isolate"]] {
        let failed = run(&[&["--which-frames", "all"], isolation].concat());
        assert_eq!(failed.status.code(), Some(1), "{}", errors(&failed));
        let summaries: Vec<Value> = lines(&output).into_iter().filter(|line| !line["status"].is_null()).collect();
        let status = |file: &str| {
            let summary = summaries.iter().find(|summary| summary["file"] == file).unwrap();
            (summary["status"].as_str().unwrap().to_owned(), summary["error"]["message"].to_string())
        };
        let (failed, reason) = status(&one);
        assert!(
            failed == "failed" && reason.contains("picture") && reason.contains(".jpg cannot be written"),
            "{reason}"
        );
        assert_eq!(status(&other), ("ok".to_owned(), "null".to_owned()));
        assert!(files(&folder).iter().any(|name| name.starts_with("f1.mp4-")));
    }
}
