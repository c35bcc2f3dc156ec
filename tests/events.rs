// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vx events`: the rule on real results, formats of input and output, and what it refuses.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use common::command::{FOLDER, detect, errors};
use common::{clip, scratch};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Value, json};

/// The results of a folder with six clips and a file that is not a video, and of a longer clip, as JSON lines and as a table.
static RESULTS: LazyLock<[PathBuf; 2]> = LazyLock::new(|| {
    ["results.jsonl", "results.parquet"].map(|name| {
        let path = scratch(name);
        let run = detect(&path, &[clip().to_str().unwrap(), "--quiet", "--lanes", "1", "--order", "as-given"]);
        assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
        path
    })
});

fn events(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vx")).arg("events").args(arguments).output().unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", errors(output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns what the command refuses to do.
fn refused(arguments: &[&str]) -> String {
    let output = events(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    let text = errors(&output);
    assert!(text.starts_with("vx: ") && !text.contains("panicked"), "{text}");
    text
}

/// Returns file, start and end in nanoseconds, frames and most at once of the stretches of persons, computed from the lines.
fn expected(lines: &Path, gap_ns: impl Fn(&Value) -> i64) -> Vec<(String, i64, i64, i64, i64)> {
    let lines = std::fs::read_to_string(lines).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut found: Vec<(String, i64, i64, i64, i64)> = Vec::new();
    for summary in lines.iter().filter(|line| line["status"].is_string()) {
        let gap = gap_ns(summary);
        let mut last: Option<(String, i64, i64, i64, i64)> = None;
        for frame in lines.iter().filter(|line| line["file"] == summary["file"] && line["detections"].is_array()) {
            let count = frame["detections"].as_array().unwrap().len() as i64;
            let time = frame["pts_ns"].as_i64().unwrap();
            if count == 0 {
                continue;
            }
            last = match last.take() {
                Some((file, start, end, frames, most)) if time - end <= gap => {
                    Some((file, start, time, frames + 1, most.max(count)))
                }
                before => {
                    found.extend(before);
                    Some((summary["file"].as_str().unwrap().to_owned(), time, time, 1, count))
                }
            };
        }
        found.extend(last);
    }
    found
}

fn rows(events: &[Value]) -> Vec<(String, i64, i64, i64, i64)> {
    let number = |event: &Value, name: &str| event[name].as_i64().unwrap();
    let row = |event: &Value| {
        assert_eq!(event["label"], "person");
        (
            event["file"].as_str().unwrap().to_owned(),
            number(event, "start_ns"),
            number(event, "end_ns"),
            number(event, "frames"),
            number(event, "most_at_once"),
        )
    };
    events.iter().map(row).collect()
}

#[test]
fn stretches_follow_the_rule_for_lines_and_for_tables() {
    let [lines, table] = RESULTS.each_ref().map(|path| path.to_str().unwrap());
    let default = |summary: &Value| {
        let frames = summary["keyframes"].as_f64().unwrap() - 1.0;
        summary["covered_seconds"].as_f64().map_or(0, |covered| (2.5e9 * covered / frames) as i64)
    };
    let output = events(&[lines]);
    let found = objects(&output);
    assert_eq!(rows(&found), expected(Path::new(lines), default));
    assert!(errors(&output).contains("1 of 8 files failed and 0 are damaged"), "{}", errors(&output));
    // The clip begins with a person.
    let long = found.iter().find(|event| event["file"].as_str().unwrap().ends_with("scenes.mp4")).unwrap();
    assert_eq!((&long["start_seconds"], &long["end_seconds"], &long["frames"]), (&json!(0.0), &json!(3.0), &json!(4)));
    assert!(long["best_confidence"].as_f64() > Some(0.7), "{long}");
    assert_eq!(objects(&events(&[table])), found);
    for (gap, gap_ns) in [("1ms", 1_000_000), ("1s", 1_000_000_000), ("1h", 3_600_000_000_000)] {
        let found = objects(&events(&[lines, "--gap", gap]));
        assert_eq!(rows(&found), expected(Path::new(lines), |_| gap_ns), "{gap}");
        assert_eq!(objects(&events(&[table, "--gap", gap])), found, "{gap}");
    }
    // An hour joins everything in a file, a millisecond nothing.
    let count = |gap: &str| objects(&events(&[lines, "--gap", gap])).len();
    assert!(count("1ms") > found.len() && found.len() >= count("1h"));
}

#[test]
fn lines_come_through_a_pipe() {
    let [lines, _] = &*RESULTS;
    let text = std::fs::read(lines).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vx"));
    let mut child = command.args(["events", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(objects(&output), objects(&events(&[lines.to_str().unwrap()])));
    // Lines of a pipeline have no summary.
    let frames = scratch("frames.jsonl");
    let is_frame = |line: &&str| line.contains("\"detections\":");
    let only: String =
        String::from_utf8(text).unwrap().lines().filter(is_frame).map(|line| format!("{line}\n")).collect();
    std::fs::write(&frames, only).unwrap();
    assert_eq!(objects(&events(&[frames.to_str().unwrap()])), objects(&events(&[lines.to_str().unwrap()])));
}

#[test]
fn all_formats_have_the_same_columns_and_values() {
    let [lines, _] = RESULTS.each_ref().map(|path| path.to_str().unwrap());
    let found = objects(&events(&[lines]));
    let columns: Vec<&str> = [
        "file label class_id start_ns end_ns start_seconds end_seconds frames most_at_once best_confidence best_ns",
        "best_seconds",
    ]
    .iter()
    .flat_map(|names| names.split(' '))
    .collect();
    let path = |name: &str| scratch(name).display().to_string();
    let (plain, csv, parquet) = (path("events.jsonl"), path("events.csv"), path("events.parquet"));
    for output in [&plain, &csv, &parquet] {
        let run = events(&[lines, "--output", output]);
        assert!(run.status.success() && run.stdout.is_empty(), "{}", errors(&run));
    }
    let text = std::fs::read_to_string(&plain).unwrap();
    assert_eq!(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>(), found);
    let mut csv = csv::Reader::from_path(&csv).unwrap();
    assert_eq!(csv.headers().unwrap().iter().collect::<Vec<_>>(), columns);
    let as_text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let cells: Vec<Vec<String>> =
        csv.records().map(|row| row.unwrap().iter().map(ToOwned::to_owned).collect()).collect();
    let expected = found.iter().map(|event| columns.iter().map(|name| as_text(&event[*name])).collect::<Vec<_>>());
    assert_eq!(cells, expected.collect::<Vec<_>>());
    let table = SerializedFileReader::new(File::open(&parquet).unwrap()).unwrap();
    let values = table.get_row_iter(None).unwrap().map(|row| {
        let fields = row.unwrap().into_columns();
        Value::Object(fields.into_iter().map(|(name, field)| (name, json_of(&field))).collect())
    });
    assert_eq!(values.collect::<Vec<_>>(), found);
    assert!(!Path::new(&format!("{parquet}.part")).exists());
}

fn json_of(field: &Field) -> Value {
    match field {
        Field::Str(text) => json!(text),
        Field::Long(number) => json!(number),
        Field::Double(number) => json!(number),
        Field::Null => Value::Null,
        other => panic!("{other:?}"),
    }
}

#[test]
fn outputs_are_replaced_only_on_request() {
    let [lines, _] = RESULTS.each_ref().map(|path| path.to_str().unwrap());
    let output = scratch("mine.csv");
    std::fs::write(&output, "mine").unwrap();
    let output_name = output.to_str().unwrap();
    assert!(refused(&[lines, "-o", output_name]).contains("--overwrite"));
    assert!(refused(&[lines, "-o", "events.txt"]).contains("use .jsonl, .csv or .parquet"));
    // Damaged results leave it as it is, also on request.
    let damaged = scratch("damaged-results.jsonl");
    std::fs::write(&damaged, "no results\n").unwrap();
    refused(&[damaged.to_str().unwrap(), "-o", output_name, "--overwrite"]);
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "mine");
    assert!(events(&[lines, "-o", output_name, "--overwrite"]).status.success());
    assert!(std::fs::read_to_string(&output).unwrap().starts_with("file,label,"));
    assert!(!Path::new(&format!("{output_name}.part")).exists());
}

#[test]
fn damaged_cut_and_foreign_results_are_refused_by_line() {
    let [lines, table] = RESULTS.each_ref().map(|path| path.to_str().unwrap());
    let text = std::fs::read_to_string(lines).unwrap();
    let rows: Vec<&str> = text.lines().collect();
    let write = |name: &str, text: &[u8]| {
        let path = scratch(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let third = text.replacen(rows[2], &rows[2].replace("\"width\":", "\"width\":x"), 1);
    assert!(refused(&[&write("third.jsonl", third.as_bytes())]).contains("line 3 is damaged"));
    let cut = write("cut.jsonl", &text.as_bytes()[..text.len() - 20]);
    let said = refused(&[&cut]);
    assert!(said.contains(&format!("line {} is cut off", rows.len())) && said.contains("--resume"), "{said}");
    let last_frame = rows.iter().rposition(|line| line.contains("\"detections\":")).unwrap();
    let unfinished = write("unfinished.jsonl", format!("{}\n", rows[..=last_frame].join("\n")).as_bytes());
    assert!(refused(&[&unfinished]).contains("without a summary"));
    assert!(refused(&[lines, lines]).contains("count twice"));
    assert!(refused(&["/nowhere/found.jsonl"]).contains("/nowhere/found.jsonl: No such file"));
    assert!(refused(&[FOLDER.to_str().unwrap()]).contains("is a folder"));
    assert!(refused(&[&write("found.csv", b"file\n")]).contains("use JSON lines or a Parquet table"));
    assert!(refused(&[&write("foreign.jsonl", b"{\"id\":1}\n")]).contains("line 1 is not a line of vx"));
    // A table that is not one of detections.
    let own = scratch("own-events.parquet").display().to_string();
    assert!(events(&[lines, "-o", &own]).status.success());
    assert!(refused(&[&own]).contains("not a table of `vx detect`"));
    let bytes = std::fs::read(table).unwrap();
    refused(&[&write("half.parquet", &bytes[..bytes.len() / 2])]);
}

#[test]
fn damaged_tables_are_read_or_refused() {
    let [_, table] = &*RESULTS;
    let bytes = std::fs::read(table).unwrap();
    let path = scratch("mutated.parquet");
    // A generator of numbers that are the same in all runs (Knuth's MMIX constants).
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut refusals = 0;
    for _ in 0..60 {
        let mut mutated = bytes.clone();
        for _ in 0..=next(4) {
            let at = next(mutated.len());
            mutated[at] ^= 1 << next(8);
        }
        std::fs::write(&path, mutated).unwrap();
        let output = events(&[path.to_str().unwrap()]);
        assert!(matches!(output.status.code(), Some(0 | 2)), "{output:?}");
        // The Parquet library panics on some damaged pages: that is an error like others.
        assert!(
            !errors(&output).contains("panicked") || errors(&output).contains("the table is damaged"),
            "{output:?}"
        );
        refusals += usize::from(output.status.code() == Some(2));
    }
    assert!(refusals > 0);
}
