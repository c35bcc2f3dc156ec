// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs `vx detect` repeatedly: continued outputs, results from the cache.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use common::command::{FOLDER, assert_same, detect, errors, records, vx};
use common::{PATIENCE, clip, made, scratch};
use parquet::file::reader::{FileReader, SerializedFileReader};

#[test]
fn outputs_of_another_schema_are_not_resumed() {
    let clip = clip().display().to_string();
    let output = scratch("earlier.jsonl");
    let line = r#"{"schema":1,"file":"a.mp4","pts_ns":0,"width":1,"height":1,"detections":[]}"#;
    std::fs::write(&output, format!("{line}\n")).unwrap();
    let run = vx(&[&clip, "--provider", "cpu", "--resume", "--output", output.to_str().unwrap()]).output().unwrap();
    assert!(run.status.code() == Some(2) && errors(&run).contains("another version of vx"), "{}", errors(&run));
    assert_eq!(std::fs::read_to_string(&output).unwrap(), format!("{line}\n"));
}

#[test]
fn a_run_killed_at_any_moment_is_resumed_without_lost_or_repeated_results() {
    let rows = |path: &Path| std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let [lines, table] = ["undisturbed.jsonl", "undisturbed.csv"].map(scratch);
    let started = std::time::Instant::now();
    detect(&lines, &["--quiet"]);
    let took = started.elapsed();
    detect(&table, &["--quiet"]);
    let (expected, expected_rows) = (records(&lines), rows(&table));
    // A few moments here; `make kills` tests fifty.
    let mut cut = 0;
    let moments = std::env::var("VX_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(6_u64);
    for moment in 0..moments {
        let path = scratch(if moment % 2 == 0 { "killed.jsonl" } else { "killed.csv" });
        for left in [path.clone(), path.with_file_name("killed.csv.lines.jsonl")] {
            let _ = std::fs::remove_file(left);
        }
        let folder = FOLDER.display().to_string();
        let output = path.display().to_string();
        let mut run = vx(&[&folder, "-o", &output, "--provider", "cpu", "--quiet"]).spawn().unwrap();
        // From one tenth of the duration of a run to its end.
        std::thread::sleep(took.mul_f64(0.1 + 0.9 * ((moment * 61 + 40) % 101) as f64 / 101.0));
        run.kill().unwrap();
        cut += usize::from(!run.wait().unwrap().success());
        let resumed = detect(&path, &["--resume", "--quiet"]);
        assert!(matches!(resumed.status.code(), Some(0 | 1)), "{}", errors(&resumed));
        if moment % 2 == 1 {
            assert_same(&rows(&path), &expected_rows, &format!("moment {moment}"));
            continue;
        }
        assert_same(&records(&path), &expected, &format!("moment {moment}"));
    }
    assert!(cut > 0, "no run was killed before its end");
}

#[test]
fn a_table_is_continued_by_the_lines_beside_it() {
    let whole = scratch("table.csv");
    detect(&whole, &["--quiet", "--lanes", "1"]);
    let rows = |path: &Path| std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (lines, cut) = (scratch("whole-2.jsonl"), scratch("cut.csv"));
    detect(&lines, &["--quiet"]);
    let bytes = std::fs::read(&lines).unwrap();
    std::fs::write(scratch("cut.csv.lines.jsonl"), &bytes[..bytes.len() / 2]).unwrap();
    let refused = detect(&cut, &[]);
    assert!(refused.status.code() == Some(2) && errors(&refused).contains("--resume"), "{}", errors(&refused));
    detect(&cut, &["--resume", "--quiet"]);
    assert_same(&rows(&cut), &rows(&whole), "rows");
    // One of its files had failed, and still counts as failed.
    let again = detect(&cut, &["--resume"]);
    assert!(again.status.code() == Some(1) && errors(&again).contains("nothing to be done"), "{}", errors(&again));
    // Other spellings of the paths refer to the same files.
    let spelt = vx(&["./corpus", "-o", cut.to_str().unwrap(), "--resume", "--provider", "cpu"])
        .current_dir(FOLDER.parent().unwrap())
        .output()
        .unwrap();
    assert!(errors(&spelt).contains("nothing to be done"), "{}", errors(&spelt));
    let more = detect(&cut, &["--resume", clip().to_str().unwrap()]);
    assert!(errors(&more).contains("1 ok, 0 failed, of 1"), "{}", errors(&more));
    assert!(rows(&cut).is_superset(&rows(&whole)) && rows(&cut).len() > rows(&whole).len());
}

#[test]
fn the_cache_returns_results_of_unchanged_files() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache").display().to_string();
    let run = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let mut arguments = vec!["--cache", &cache];
        arguments.extend(more);
        let run = detect(&path, &arguments);
        (records(&path), errors(&run))
    };
    let (first, _) = run("1.jsonl", &[]);
    let (second, text) = run("2.jsonl", &[]);
    assert_same(&first, &second, "cached");
    assert!(text.contains("6 of them from the cache"), "{text}");
    let (_, text) = run("3.jsonl", &["--confidence", "0.5"]);
    assert!(!text.contains("from the cache"), "{text}");
    let labels = folder.path().join("labels.txt");
    for (number, name) in ["alpha", "beta"].into_iter().enumerate() {
        std::fs::write(&labels, name).unwrap();
        let (records, _) = run(&format!("labels-{number}.jsonl"), &["--labels", labels.to_str().unwrap()]);
        assert!(records.iter().any(|record| record.contains(name)), "{name}: {records:?}");
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_cached() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::copy(clip(), path("a.mp4")).unwrap();
    let arguments = [path("a.mp4"), "--cache".into(), path("cache"), "--provider".into(), "cpu".into()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut run = vx(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // Its first line exists, so it is being read.
    let mut out = std::io::BufReader::new(run.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut String::new()).unwrap();
    std::fs::write(path("new"), "another").unwrap();
    std::fs::rename(path("new"), path("a.mp4")).unwrap();
    std::io::Read::read_to_end(&mut out, &mut Vec::new()).unwrap();
    assert!(run.wait().unwrap().success());
    let again = vx(&arguments).output().unwrap();
    assert!(again.status.code() == Some(1) && !errors(&again).contains("from the cache"), "{}", errors(&again));
}

/// Creates a folder for this test with `count` copies of a file of one second.
fn folder(name: &str, count: usize) -> PathBuf {
    let source = clip();
    let short = ["-t", "1", "-i", source.to_str().unwrap(), "-an", "-vf", "scale=160:-2", "-g", "25"];
    let short = made(&format!("{name}-short.mp4"), &short);
    let folder = scratch(name);
    std::fs::create_dir_all(&folder).unwrap();
    for number in 0..count {
        std::fs::copy(&short, folder.join(format!("{number:03}.mp4"))).unwrap();
    }
    folder
}

/// Runs `vx detect FOLDER --output OUTPUT` on the CPU provider. Returns the exit status and the messages.
fn run(folder: &Path, output: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut arguments = vec![folder.to_str().unwrap(), "-o", output.to_str().unwrap(), "--provider", "cpu"];
    arguments.extend(more);
    let run = vx(&arguments).output().unwrap();
    (run.status.code(), errors(&run))
}

/// Returns the path of the file with the lines of an output.
fn lines_of(output: &Path) -> PathBuf {
    if output.extension().unwrap() == "jsonl" {
        output.to_owned()
    } else {
        format!("{}.lines.jsonl", output.display()).into()
    }
}

/// Returns the number of detection rows or of images in an output.
fn length(output: &Path) -> usize {
    let text = || std::fs::read_to_string(output).unwrap();
    match output.extension().unwrap().to_str().unwrap() {
        "csv" => text().lines().count() - 1,
        "json" => serde_json::from_str::<serde_json::Value>(&text()).unwrap()["annotations"].as_array().unwrap().len(),
        "jsonl" => text().matches("\"class_id\"").count(),
        _ => {
            let file = std::fs::File::open(output).unwrap();
            SerializedFileReader::new(file).unwrap().metadata().file_metadata().num_rows() as usize
        }
    }
}

#[test]
fn resumed_runs_over_three_nights_equal_a_single_run() {
    let other = clip();
    let other = made(
        "other.mp4",
        &["-ss", "6", "-t", "2", "-i", other.to_str().unwrap(), "-an", "-vf", "scale=160:-2", "-g", "25"],
    );
    for name in ["nights.jsonl", "nights.csv", "nights.json", "nights.parquet"] {
        let output = scratch(name);
        let folder = folder(&format!("of-{name}"), 4);
        std::fs::write(folder.join("bad.mp4"), "no video").unwrap();
        let file = |name: &str| folder.join(name);
        // The first night is a normal run.
        let (status, text) = run(&folder, &output, &["--resume"]);
        assert!(status == Some(1) && text.contains("4 ok, 1 failed, of 5"), "{text}");
        let first = records(&lines_of(&output));

        std::fs::copy(file("000.mp4"), file("new.mp4")).unwrap();
        std::fs::copy(&other, file("001.mp4")).unwrap();
        std::fs::remove_file(file("002.mp4")).unwrap();
        let (status, text) = run(&folder, &output, &["--resume"]);
        assert!(status == Some(1) && text.contains("2 ok, 0 failed, of 2"), "{text}");
        assert!(
            text.contains("3 files are in the output already, 1 of them failed, 0 damaged; 2 are left, 1 of these"),
            "{text}"
        );
        assert!(text.contains("1 file failed before; --retry-failed tries it again"), "{text}");
        assert!(text.contains("1 file of the output no longer exists; its lines are kept"), "{text}");
        let second = records(&lines_of(&output));
        let of = |records: &BTreeSet<String>, name: &str| -> BTreeSet<String> {
            records.iter().filter(|line| line.contains(name)).cloned().collect()
        };
        for name in ["000.mp4", "002.mp4", "003.mp4", "bad.mp4", "\"header\""] {
            assert_same(&of(&first, name), &of(&second, name), name);
        }
        assert!(of(&first, "001.mp4").is_disjoint(&of(&second, "001.mp4")));
        assert!(!of(&second, "new.mp4").is_empty());

        // Nothing is new: the table is not written.
        let written = || std::fs::metadata(&output).unwrap().modified().unwrap();
        let before = written();
        let (status, text) = run(&folder, &output, &["--resume"]);
        assert!(status == Some(1) && text.contains("nothing to be done"), "{text}");
        assert_eq!(written(), before);
        // The failed file is complete now, with the same time as if it had been copied in the first night.
        std::fs::copy(file("000.mp4"), file("bad.mp4")).unwrap();
        let (status, text) = run(&folder, &output, &["--resume", "--retry-failed"]);
        assert!(status == Some(0) && text.contains("1 ok, 0 failed, of 1"), "{text}");

        // The results of all nights equal those of a single run, plus those of the removed files.
        let (once, removed) = (scratch(&format!("once-{name}")), of(&first, "002.mp4"));
        assert_eq!(run(&folder, &once, &[]).0, Some(0));
        let expected: BTreeSet<String> = records(&lines_of(&once)).union(&removed).cloned().collect();
        assert_same(&records(&lines_of(&output)), &expected, name);
        let of_removed = removed.iter().map(|line| line.matches("\"class_id\"").count()).sum::<usize>();
        assert!(of_removed > 0 && length(&output) == length(&once) + of_removed, "{name}");
    }
}

#[test]
fn failed_files_stay_failed_until_a_retry() {
    let folder = folder("failing", 1);
    let output = scratch("failing.jsonl");
    for name in ["one.mp4", "two.mp4"] {
        std::fs::write(folder.join(name), "no video").unwrap();
    }
    assert_eq!(run(&folder, &output, &[]).0, Some(1));
    let before = records(&output);
    let (status, text) = run(&folder, &output, &["--resume"]);
    assert!(status == Some(1) && text.contains("2 files failed before; --retry-failed tries them again"), "{text}");
    let (status, text) = run(&folder, &output, &["--resume", "--retry-failed"]);
    assert!(status == Some(1) && text.contains("2 of these because they failed before"), "{text}");
    assert!(!text.contains("--retry-failed"), "{text}");
    // Listed once, not twice.
    assert_same(&records(&output), &before, "retried");
    let (status, text) = run(&folder, &scratch("alone.jsonl"), &["--retry-failed"]);
    assert!(status == Some(2) && text.contains("--resume"), "{text}");
}

#[test]
fn an_output_is_continued_only_with_the_same_settings() {
    let folder = folder("conditions", 1);
    let model = common::root().join("tests/models/v8_bytes_last.onnx").display().to_string();
    let copy = scratch("copied.onnx").display().to_string();
    std::fs::copy(&model, &copy).unwrap();
    for name in ["conditions.jsonl", "conditions.csv"] {
        let output = scratch(name);
        assert_eq!(run(&folder, &output, &["--model", &model]).0, Some(0));
        let before = std::fs::read(&output).unwrap();
        let header = std::fs::read_to_string(lines_of(&output)).unwrap().lines().next().unwrap().to_owned();
        let header: serde_json::Value = serde_json::from_str(&header).unwrap();
        assert_eq!(header["header"]["run"]["model"]["name"], "v8_bytes_last.onnx");
        assert_eq!(header["header"]["run"]["settings"]["execution-provider"], "cpu");
        // Copies of the model, and settings that affect only the execution, count as the same conditions.
        std::fs::copy(folder.join("000.mp4"), folder.join(format!("{name}.mp4"))).unwrap();
        let (status, text) = run(
            &folder,
            &output,
            &["--resume", "--model", &copy, "--lanes", "2", "--set", "confidence-threshold=-1.0"],
        );
        assert_eq!(status, Some(0), "{text}");
        let after = std::fs::read(&output).unwrap();
        assert_ne!(after, before);
        for (more, word) in [
            (vec!["--model", &*model, "-c", "0.5"], "confidence-threshold=-1 (the default), now 0.5"),
            (vec!["--model", &model, "--set", "decoder::max-frames=1"], "max-frames=0 (the default), now 1"),
            (vec![], "the model v8_bytes_last.onnx, now built-in"),
        ] {
            let (status, text) = run(&folder, &output, &[vec!["--resume"], more].concat());
            assert!(status == Some(2) && text.contains(word) && text.contains("--overwrite"), "{text}");
        }
        std::fs::write(scratch("copied.modelinfo"), "[input]\ndir=input\n").unwrap();
        let (status, text) = run(&folder, &output, &["--resume", "--model", &copy]);
        assert!(status == Some(2) && text.contains("now copied.onnx"), "{text}");
        std::fs::remove_file(scratch("copied.modelinfo")).unwrap();
        assert_eq!(std::fs::read(&output).unwrap(), after);
    }
}

#[test]
fn a_kill_while_lines_are_replaced_does_not_lose_other_files() {
    let folder = folder("replaced", 6);
    let output = scratch("replaced.jsonl");
    assert_eq!(run(&folder, &output, &[]).0, Some(0));
    let whole = records(&output);
    let others: BTreeSet<String> = whole.iter().filter(|line| !line.contains("/000.mp4")).cloned().collect();
    let identity = |path: &Path| std::fs::metadata(path).unwrap().ino();
    for _ in 0..3 {
        let file = std::fs::File::options().append(true).open(folder.join("000.mp4")).unwrap();
        file.set_modified(std::time::SystemTime::now()).unwrap();
        let before = identity(&output);
        let arguments = [folder.to_str().unwrap(), "-o", output.to_str().unwrap(), "--provider", "cpu", "--resume"];
        let mut replacing = vx(&arguments).stderr(Stdio::null()).spawn().unwrap();
        // Killed as soon as another file exists.
        let started = Instant::now();
        while identity(&output) == before && started.elapsed() < PATIENCE {
            std::hint::spin_loop();
        }
        let _ = replacing.kill();
        replacing.wait().unwrap();
        assert_ne!(identity(&output), before);
        let text = std::fs::read_to_string(&output).unwrap();
        let left = text.lines().filter(|line| !line.contains("/000.mp4") && line.ends_with('}'));
        assert_eq!(left.count(), others.len(), "{text}");
        assert_eq!(run(&folder, &output, &["--resume"]).0, Some(0));
        let of_others: BTreeSet<String> =
            records(&output).into_iter().filter(|line| !line.contains("/000.mp4")).collect();
        assert_same(&of_others, &others, "others");
        assert_eq!(records(&output).len(), whole.len());
    }
}

#[test]
fn a_long_list_with_bad_files_is_continued_at_the_interruption() {
    let folder = folder("many", 40);
    for number in [7, 23] {
        std::fs::write(folder.join(format!("{number:03}.mp4")), "no video").unwrap();
    }
    let (whole, cut) = (scratch("many.jsonl"), scratch("many-cut.jsonl"));
    assert_eq!(run(&folder, &whole, &["-q"]), (Some(1), String::new()));
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let (status, text) = run(&folder, &cut, &["--resume"]);
    assert!(status == Some(1) && text.contains("files are in the output already"), "{text}");
    assert_same(&records(&cut), &records(&whole), "continued");
}

#[test]
fn users_of_a_group_share_a_cache() {
    let has_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !has_root || Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: other users are played by setpriv, which needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let set = |path: &Path, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    set(folder.path(), 0o755);
    let (cache, first, second) =
        (folder.path().join("cache"), folder.path().join("a.mp4"), folder.path().join("b.mp4"));
    for file in [&first, &second] {
        std::fs::copy(FOLDER.join("f0.mp4"), file).unwrap();
        set(file, 0o644);
    }
    std::fs::create_dir(&cache).unwrap();
    const GROUP: u32 = 65_533;
    std::os::unix::fs::chown(&cache, None, Some(GROUP)).unwrap();
    set(&cache, 0o2775);
    let run = |user: u32, files: &[&Path]| {
        let mut command = Command::new("sh");
        // Like an administrator sets it up for a group that works together.
        let line = "umask 002; exec setpriv --reuid \"$0\" --regid \"$0\" --groups 65533 \"$@\"";
        command.args([
            "-c",
            line,
            &user.to_string(),
            env!("CARGO_BIN_EXE_vx"),
            "detect",
            "--provider",
            "cpu",
            "--cache",
        ]);
        let run = command.arg(&cache).args(files).env("HOME", "/nonexistent").process_group(0).output().unwrap();
        (run.status.success(), errors(&run))
    };
    let (is_well, text) = run(65_531, &[&first]);
    if text.contains("Permission denied") {
        println!("skipped: other users may not run the program where it lies: {text}");
        return;
    }
    assert!(is_well, "{text}");
    let (is_well, text) = run(65_532, &[&first, &second]);
    assert!(is_well && text.contains("of 2, 1 of them from the cache") && !text.contains("not kept"), "{text}");
    let (_, text) = run(65_531, &[&first, &second]);
    assert!(text.contains("of 2, 2 of them from the cache"), "{text}");
    // An entry that is unreadable or was modified counts as missing, and is replaced.
    let entries: Vec<PathBuf> = walkdir::WalkDir::new(&cache)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect();
    assert_eq!(entries.len(), 2);
    set(&entries[0], 0);
    std::fs::write(&entries[1], "somebody's").unwrap();
    let (is_well, text) = run(65_532, &[&first, &second]);
    assert!(
        is_well && text.contains("a result in the cache is not used") && !text.contains("from the cache"),
        "{text}"
    );
    let (_, text) = run(65_531, &[&first, &second]);
    assert!(text.contains("of 2, 2 of them from the cache"), "{text}");
}

#[test]
fn cached_results_depend_on_the_files_of_the_model_and_not_on_others_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let models = common::root().join("tests/models");
    for name in ["external.onnx", "external.weights"] {
        std::fs::copy(models.join(name), folder.path().join(name)).unwrap();
    }
    let model = folder.path().join("external.onnx").display().to_string();
    let (cache, file) =
        (folder.path().join("cache").display().to_string(), FOLDER.join("f1.mp4").display().to_string());
    let is_cached = |more: &[&str]| {
        let mut arguments = vec![&*file, "--model", &model, "--cache", &cache, "--provider", "cpu"];
        arguments.extend(more);
        let run = vx(&arguments).output().unwrap();
        assert!(run.status.success(), "{}", errors(&run));
        errors(&run).contains("from the cache")
    };
    assert!(!is_cached(&[]) && is_cached(&[]));
    // The graph uses this name, but it is not a file of the model.
    std::fs::write(folder.path().join("images"), "x").unwrap();
    assert!(is_cached(&[]));
    std::fs::write(folder.path().join("external.modelinfo"), "[other]\n").unwrap();
    assert!(!is_cached(&[]) && is_cached(&[]));
    let weights = folder.path().join("external.weights");
    let mut bytes = std::fs::read(&weights).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    assert!(!is_cached(&[]) && is_cached(&[]));
    assert!(is_cached(&["--lanes", "1"]) && !is_cached(&["--set", "detector::max-detections=3"]));
}

#[test]
fn a_model_counts_however_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let model = common::root().join("tests/models/external.onnx").display().to_string();
    let (cache, output, file) = (path("cache"), path("out.jsonl"), FOLDER.join("f1.mp4").display().to_string());
    let run = |more: &[&str]| {
        let mut arguments = vec![&*file, "--cache", &cache, "--provider", "cpu"];
        arguments.extend(more);
        vx(&arguments).output().unwrap()
    };
    let first = run(&["--output", &output]);
    assert!(first.status.success(), "{}", errors(&first));
    for name in ["detector::model-file", "model_file", "model-file"] {
        let set = format!("{name}={model}");
        let resumed = run(&["--output", &output, "--resume", "--set", &set]);
        assert!(
            resumed.status.code() == Some(2) && errors(&resumed).contains("the model built-in, now external.onnx"),
            "{name}: {}",
            errors(&resumed)
        );
        let cached = run(&["--set", &set]);
        let is_first = name == "detector::model-file";
        assert!(
            cached.status.success() && errors(&cached).contains("from the cache") != is_first,
            "{}",
            errors(&cached)
        );
    }
}

#[test]
fn results_of_a_fallback_are_marked_and_not_cached() {
    let (cache, file) = (scratch("fallback-cache").display().to_string(), FOLDER.join("f2.mp4").display().to_string());
    let arguments = [&*file, "--cache", &cache, "--set", "detector::execution-provider-options=device=NPU"];
    for _ in 0..2 {
        let run = vx(&arguments).output().unwrap();
        let (text, lines) = (errors(&run), String::from_utf8(run.stdout.clone()).unwrap());
        if !lines.contains("\"status\":\"ok\"") || !lines.contains("\"fallback\":") {
            println!("skipped: there is an NPU, or no fallback from it: {text}{lines}");
            return;
        }
        assert!(
            text.contains("not kept in the cache, because of a fallback") && !text.contains("from the cache"),
            "{text}"
        );
    }
}
