// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests the command `vx detect`: outputs, resuming, the cache, worker processes.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::command::{FOLDER, assert_same, detect, errors, records, vx};
use common::{clip, made, scratch};

#[test]
fn model_warnings_are_printed_and_in_every_summary_even_when_quiet() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/broken_names.onnx");
    let model = model.to_str().unwrap();
    let files = ["f0.mp4", "f1.mp4"].map(|name| FOLDER.join(name).display().to_string());
    let run = vx(&[&files[0], &files[1], "--model", model, "--provider", "cpu", "--quiet"]).output().unwrap();
    let printed = errors(&run);
    assert_eq!(printed.matches("label-file").count(), 1, "{printed}");
    let lines = String::from_utf8(run.stdout).unwrap();
    let summaries: Vec<&str> = lines.lines().filter(|line| line.contains("\"status\"")).collect();
    assert_eq!(summaries.len(), 2, "{lines}");
    assert!(summaries.iter().all(|line| line.contains("\"warnings\"") && line.contains("label-file")), "{summaries:?}");
}

#[test]
fn the_extension_selects_the_output_format_and_failures_are_listed() {
    let jsonl = scratch("whole.jsonl");
    let run = detect(&jsonl, &[]);
    assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
    let text = errors(&run);
    assert!(text.contains("6 ok, 1 failed, of 7") && text.contains("notes.mp4: not a media file"), "{text}");
    assert!(text.contains("loaded 1 time"), "{text}");
    let lines = records(&jsonl);
    assert_eq!(lines.iter().filter(|line| line.contains("\"status\"")).count(), 7);
    for name in ["whole.csv", "whole.json", "whole.parquet"] {
        let path = scratch(name);
        let run = detect(&path, &["--quiet"]);
        assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
        assert_eq!(errors(&run), "");
        assert!(path.metadata().unwrap().len() > 100);
        // The JSON lines behind the table are kept, so that the next run can extend it.
        assert!(Path::new(&format!("{}.lines.jsonl", path.display())).exists());
    }
    let rows = std::fs::read_to_string(scratch("whole.csv")).unwrap().lines().count() - 1;
    let found: usize = lines
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["pts_ns"].is_number())
        .map(|line| line["detections"].as_array().unwrap().len())
        .sum();
    assert_eq!(rows, found);
}

#[test]
fn damaged_files_are_listed_with_reasons_and_count_as_done() {
    let Some(damaged) = common::damaged("damaged.mp4") else { return };
    let (damaged, clip) = (damaged.display().to_string(), clip().display().to_string());
    let cache = scratch("damaged-cache").display().to_string();
    for (name, more) in [("damaged.jsonl", vec![]), ("isolated-damaged.jsonl", vec!["--isolate"])] {
        let output = scratch(name).display().to_string();
        let mut arguments = vec![&*damaged, &clip, "--provider", "cpu", "--output", &output];
        arguments.extend(more);
        let run = vx(&arguments).output().unwrap();
        let text = errors(&run);
        assert_eq!(run.status.code(), Some(0), "{text}");
        assert!(text.contains("1 ok, 1 damaged, 0 failed, of 2"), "{text}");
        assert_eq!(text.matches(&format!("{damaged}: ")).count(), 1, "{text}");
        let summaries = records(Path::new(&output));
        let summary = summaries.iter().find(|line| line.contains(r#""status":"damaged""#)).unwrap();
        let summary: serde_json::Value = serde_json::from_str(summary).unwrap();
        let problem = summary["problems"][0].as_str().unwrap();
        assert!(text.contains(&format!("  damaged   {damaged}: {problem}")), "{text}");
        // The file counts as done and is not read again.
        arguments.push("--resume");
        let again = vx(&arguments).output().unwrap();
        let text = errors(&again);
        assert_eq!(again.status.code(), Some(0), "{text}");
        assert!(text.contains("0 of them failed, 1 damaged; 0 are left"), "{text}");
    }
    let cached = || vx(&[&damaged, "--provider", "cpu", "--cache", &cache]).output().unwrap();
    let (first, second) = (cached(), cached());
    assert_eq!(first.stdout, second.stdout);
    let text = errors(&second);
    assert!(text.contains("0 ok, 1 damaged, 0 failed, of 1, 1 of them from the cache"), "{text}");
}

#[test]
fn truncated_files_count_as_damaged_in_every_container() {
    let source = clip();
    let kinds: [(&str, &[&str]); 12] = [
        ("mp4", &["-c", "copy", "-movflags", "+faststart"]),
        ("mkv", &["-c", "copy"]),
        ("webm", &["-c:v", "libvpx", "-deadline", "realtime", "-g", "25"]),
        ("ts", &["-c", "copy"]),
        ("avi", &["-c", "copy"]),
        ("flv", &["-c", "copy"]),
        ("nut", &["-c", "copy"]),
        ("wmv", &["-c:v", "wmv2"]),
        ("ogv", &["-c:v", "libtheora"]),
        ("mxf", &["-c:v", "mpeg2video"]),
        ("mpg", &["-c:v", "mpeg2video"]),
        ("gif", &["-r", "2", "-vf", "scale=160:-1"]),
    ];
    for (extension, arguments) in kinds {
        let input = ["-i", source.to_str().unwrap(), "-an"];
        let whole = made(&format!("whole.{extension}"), &[&input, arguments].concat());
        let bytes = std::fs::read(&whole).unwrap();
        let cut = scratch(&format!("cut.{extension}"));
        std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
        let summary = |file: &Path| {
            let run = vx(&[file.to_str().unwrap(), "--provider", "cpu", "--quiet"]).output().unwrap();
            let line = String::from_utf8(run.stdout).unwrap().lines().last().unwrap().to_owned();
            serde_json::from_str::<serde_json::Value>(&line).unwrap()
        };
        let (whole_summary, cut_summary) = (summary(&whole), summary(&cut));
        assert_eq!(
            (&whole_summary["status"], &whole_summary["complete"]),
            (&"ok".into(), &true.into()),
            "{whole_summary}"
        );
        assert_eq!(
            (&cut_summary["status"], &cut_summary["complete"]),
            (&"damaged".into(), &false.into()),
            "{cut_summary}"
        );
        let inspected = |file: &Path| {
            let run = Command::new(env!("CARGO_BIN_EXE_vx")).arg("inspect").arg(file).output().unwrap();
            (run.status.code(), String::from_utf8(run.stdout).unwrap())
        };
        assert_eq!(inspected(&whole).0, Some(0), "{extension}");
        if ["ts", "nut", "mpg"].contains(&extension) {
            // Only the decoder detects that the last frame is incomplete.
            continue;
        }
        let (code, text) = inspected(&cut);
        assert!(code == Some(1) && text.contains("incomplete"), "{extension}: {code:?} {text}");
    }
}

#[test]
fn ffmpeg_messages_are_in_the_debug_log_with_the_file_name() {
    let Some(damaged) = common::damaged("said.mp4") else { return };
    let damaged = damaged.display().to_string();
    for more in [vec![], vec!["--isolate"]] {
        let output = scratch("said.jsonl").display().to_string();
        let arguments = [vec![&*damaged, "--provider", "cpu", "--output", &output, "--overwrite"], more].concat();
        let log = errors(
            &vx(&arguments).env("GST_DEBUG", "vxkeyframedec:5").env("GST_DEBUG_NO_COLOR", "1").output().unwrap(),
        );
        assert!(log.contains(&format!("{damaged}: FFmpeg: [")), "{log}");
        let quiet = errors(&vx(&arguments).output().unwrap());
        assert!(!quiet.contains(" @ 0x"), "{quiet}");
    }
}

#[test]
fn an_interrupt_lets_workers_finish_their_files_and_resume_reads_the_others() {
    common::reset_ignored_signals();
    let files: Vec<String> = (0..8)
        .map(|number| {
            let copy = scratch(&format!("interrupted-{number}.mp4"));
            std::fs::copy(clip(), &copy).unwrap();
            copy.display().to_string()
        })
        .collect();
    let output = scratch("interrupted.jsonl").display().to_string();
    let mut arguments: Vec<&str> = files.iter().map(String::as_str).collect();
    arguments.extend(["-o", &output, "--provider", "cpu", "--isolate"]);
    // Uses a separate process group: as from a terminal, the interrupt reaches the whole group.
    let run = std::os::unix::process::CommandExt::process_group(&mut vx(&arguments), 0)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let group = format!("-{}", run.id());
    let written = || std::fs::metadata(&output).map_or(0, |file| file.len());
    let started = std::time::Instant::now();
    while written() == 0 && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
    let ended = run.wait_with_output().unwrap();
    assert!(ended.status.code() == Some(130), "{:?} {}", ended.status, errors(&ended));
    assert!(errors(&ended).contains("--resume continues"), "{}", errors(&ended));
    arguments.push("--resume");
    let resumed = vx(&arguments).output().unwrap();
    assert!(resumed.status.success(), "{}", errors(&resumed));
    let done = records(Path::new(&output)).iter().filter(|line| line.contains(r#""status":"ok""#)).count();
    assert_eq!(done, files.len());
}

#[test]
fn terminal_progress_is_one_line_that_fits_and_is_cleared_at_the_end() {
    let long = made(
        "a long name of a clip that no narrow terminal has room for.mp4",
        &["-stream_loop", "3", "-i", clip().to_str().unwrap(), "-c", "copy", "-an"],
    );
    for columns in [40, 80, 200] {
        let inside = format!(
            "stty -F /dev/tty rows 24 cols {columns}; {} detect '{}' --provider cpu --output '{}' --overwrite",
            env!("CARGO_BIN_EXE_vx"),
            long.display(),
            scratch("progress.jsonl").display()
        );
        let run = Command::new("script").args(["-qefc", &inside, "/dev/null"]).env("TERM", "xterm").output().unwrap();
        let shown = String::from_utf8(run.stdout).unwrap();
        let (progress, table) = shown.split_once("files       1 ok").unwrap();
        let plain = |text: &str| console::strip_ansi_codes(text).into_owned();
        let lines: Vec<String> = progress
            .split(['\r', '\n'])
            .map(plain)
            .filter(|line| !line.trim().is_empty() && !line.starts_with("vx: "))
            .collect();
        assert!(!lines.is_empty() && lines.iter().all(|line| line.chars().count() <= columns), "{columns}: {lines:?}");
        // Progress is also shown within the only file.
        assert!(lines.iter().any(|line| line.contains(" left")), "{lines:?}");
        // The line is cleared immediately before the table.
        assert!(progress.trim_end_matches('\r').ends_with("\u{1b}[2K"), "{progress:?}");
        assert!(table.contains("progress.jsonl"), "{table}");
    }
}

#[test]
fn closed_standard_streams_do_not_stop_a_run_and_patterns_do_not_repeat_files() {
    let clip = clip().display().to_string();
    let table = scratch("unread.csv").display().to_string();
    // Standard error cannot be written, and standard output has no reader.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let run = vx(&[&clip, "-o", &table, "--provider", "cpu"]).stderr(full).status().unwrap();
    assert!(run.success() && Path::new(&table).exists(), "{run}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let run = vx(&[&clip, "--provider", "cpu"]).stdout(writer).output().unwrap();
    assert_eq!((run.status.code(), errors(&run).contains("panicked")), (Some(141), false));

    let mut run = vx(&["-", "--provider", "cpu"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let list = [b"\xef\xbb\xbf".as_slice(), clip.as_bytes(), b"\r\n\r\nbad\xff.mp4\n"].concat();
    std::io::Write::write_all(&mut run.stdin.take().unwrap(), &list).unwrap();
    let run = run.wait_with_output().unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert_eq!((run.status.code(), text.matches(r#""status":"ok""#).count()), (Some(1), 1), "{text}");

    let mut summaries = 0;
    for number in 1..=3 {
        let shard = format!("{number}/3");
        let output = scratch(&format!("share-{number}.jsonl")).display().to_string();
        let share = vx(&[&clip, "--shard", &shard, "-o", &output, "--provider", "cpu"]).output().unwrap();
        assert!(share.status.success(), "{}", errors(&share));
        // A shard without files also has an output.
        summaries += std::fs::read_to_string(&output).unwrap().matches("\"status\"").count();
    }
    assert_eq!(summaries, 1);
    let failed = vx(&[&clip, "-m", "/nowhere/m.onnx", "-o", &table, "--overwrite"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(2));
    assert!(
        std::fs::read_to_string(&table).unwrap().lines().count() > 1,
        "a run that could not be made changed the output"
    );
}

#[test]
fn workers_give_the_same_results_and_a_crash_fails_only_its_file() {
    let whole = scratch("one-process.jsonl");
    detect(&whole, &["--quiet"]);
    let isolated = scratch("isolated.jsonl");
    let run = detect(&isolated, &["--isolate"]);
    assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
    assert_same(&records(&isolated), &records(&whole), "isolated");

    let folder = FOLDER.display().to_string();
    for (hook, more, reason) in [
        ("crash:f2", vec![], "signal: 6"),
        ("hang:f2", vec!["--file-timeout", "10"], "longer than 10.0 s"),
        ("eat:f2", vec!["--memory-limit", "1G", "--lanes", "2"], "MiB of memory"),
    ] {
        let path = scratch(&format!("{}.jsonl", hook.replace(':', "-")));
        let output = path.display().to_string();
        let mut arguments = vec![&*folder, "-o", &output, "--provider", "cpu", "--isolate"];
        arguments.extend(more);
        let run = vx(&arguments).env("VX_TEST_WORKER", hook).output().unwrap();
        assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
        assert!(errors(&run).contains("5 ok, 2 failed") && errors(&run).contains(reason), "{hook}: {}", errors(&run));
        let of_others = |records: BTreeSet<String>| {
            records.into_iter().filter(|line| !line.contains("f2.mp4")).collect::<BTreeSet<_>>()
        };
        assert_same(&of_others(records(&path)), &of_others(records(&whole)), hook);
    }
    let path = scratch("no-model.jsonl").display().to_string();
    let run = vx(&[&folder, "-o", &path, "--isolate", "-m", "/nowhere/m.onnx"]).output().unwrap();
    assert_eq!(run.status.code(), Some(2));
    assert!(errors(&run).contains("/nowhere/m.onnx"), "{}", errors(&run));
}

/// `v8_bytes_last.onnx` has ten classes and detects the third one.
#[test]
fn label_files_of_every_format_are_read_or_cause_an_error() {
    let model = common::root().join("tests/models/v8_bytes_last.onnx").display().to_string();
    let clip = clip().display().to_string();
    let output = scratch("named.jsonl").display().to_string();
    let named = |name: &str, content: &str| {
        let file = scratch(name);
        std::fs::write(&file, content).unwrap();
        let labels = file.display().to_string();
        let arguments =
            [&*clip, "--provider", "cpu", "--model", &model, "--labels", &labels, "-o", &output, "--overwrite"];
        let run = vx(&arguments).output().unwrap();
        (run.status.code(), errors(&run), std::fs::read_to_string(&output).unwrap_or_default())
    };
    let rest = |line: fn(usize) -> String| (3..10).map(line).collect::<String>();
    let forms = [
        format!("names:\n  0: x\n  1: y\n  2: 'tug, red'\n{}nc: 10\n", rest(|id| format!("  {id}: c{id}\n"))),
        format!("0: x\n1: y\n2: tug, red\n{}", rest(|id| format!("{id}: c{id}\n"))),
        format!("[\"x\", \"y\", \"tug, red\"{}]", rest(|id| format!(", \"c{id}\""))),
    ];
    for content in &forms {
        let (status, text, lines) = named("data.yaml", content);
        assert_eq!(status, Some(0), "{text}");
        assert!(lines.contains(r#""label":"tug, red","class_id":2"#), "{content}: {lines}");
    }
    let (status, text, _) = named("short.txt", "barge\n");
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("it has 1 names") && text.contains("10 classes"), "{text}");
}

#[test]
fn wrong_arguments_cause_usage_errors_and_dry_runs_print_plans() {
    let folder = FOLDER.display().to_string();
    let says = |arguments: &[&str], status: i32, word: &str| {
        let run = vx(arguments).output().unwrap();
        assert_eq!(run.status.code(), Some(status), "{arguments:?}: {}", errors(&run));
        assert!(errors(&run).contains(word), "{arguments:?}: {}", errors(&run));
    };
    says(&[&folder, "--set", "decoder::nothing=1"], 2, "no property nothing");
    says(&[&folder, "--confidence", "7"], 2, "out of its range");
    says(&[&folder, "--classes", "bicycle"], 2, "vx detect --model");
    says(&[&folder, "--model", "/nowhere/m.onnx"], 2, "/nowhere/m.onnx");
    says(&[&folder, "-o", "/nowhere/x.jsonl"], 2, "/nowhere/x.jsonl");
    says(&[&folder, "-o", "x.xls"], 2, ".parquet");
    says(&["/nowhere/*.mp4"], 2, "/nowhere/*.mp4");
    says(&["/nowhere/a.mp4", "-q"], 1, "");
    let plan = vx(&[&folder, "--dry-run", "--provider", "cpu", "--lanes", "2"]).output().unwrap();
    let text = String::from_utf8(plan.stdout).unwrap();
    assert!(
        plan.status.success() && text.contains("2 lanes") && text.contains("f5.mp4") && text.contains("sessions"),
        "{text}"
    );
    let plan = vx(&[&folder, "--dry-run", "--provider", "cpu", "--lanes", "2", "--isolate"]).output().unwrap();
    let text = String::from_utf8(plan.stdout).unwrap();
    assert!(text.contains("2 processes") && text.contains("1 sessions of") && text.contains("1 lanes"), "{text}");
    let shares = ["1/2", "2/2"].map(|share| {
        let share = vx(&[&folder, "--dry-run", "--shard", share]).output().unwrap();
        String::from_utf8(share.stdout).unwrap().matches(".mp4").count()
    });
    assert_eq!(shares.iter().sum::<usize>(), 7);
    let debug = vx(&[&folder, "--debug", "--provider", "cpu"]).output().unwrap();
    assert!(errors(&debug).contains("decode") && errors(&debug).contains("f0.mp4: started"), "{}", errors(&debug));
    assert_eq!(String::from_utf8(debug.stdout).unwrap().matches("\"status\"").count(), 7);
}

/// Returns the JPEG files in the folders under `folder`: number, time and bytes of each.
fn pictures(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let folders = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let mut pictures: Vec<_> = files
        .map(|file| (file.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(file).unwrap()))
        .collect();
    pictures.sort();
    pictures
}

#[test]
fn saved_pictures_match_the_lines_of_their_keyframes() {
    let clip = clip().display().to_string();
    let save = |name: &str, more: &[&str]| {
        let (folder, lines) = (scratch(name), scratch(&format!("{name}.jsonl")));
        let _ = std::fs::remove_dir_all(&folder);
        let (folder_name, lines_name) = (folder.display().to_string(), lines.display().to_string());
        let mut arguments = vec![&*clip, "-o", &lines_name, "--provider", "cpu", "--save-frames", &folder_name];
        arguments.extend(more);
        let run = vx(&arguments).output().unwrap();
        assert!(run.status.success(), "{}", errors(&run));
        let text = std::fs::read_to_string(lines).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<(String, bool)> = (1..)
            .zip(lines.iter().filter(|line| line["pts_ns"].is_number()))
            .map(|(number, line)| {
                // Seconds of a short clip with one keyframe per second.
                let seconds = line["pts_ns"].as_u64().unwrap() / 1_000_000_000;
                (format!("{number:06}-00h00m{seconds:02}.000s"), line["detections"] != serde_json::json!([]))
            })
            .collect();
        (pictures(&folder), names)
    };
    let (all, names) = save("frames-all", &["--which-frames", "all"]);
    assert_eq!(
        all.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        names.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    let size = |name: &str| {
        let folder = std::fs::read_dir(scratch(name)).unwrap().next().unwrap().unwrap().path();
        let picture = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
        let probe = Command::new("ffprobe")
            .args(["-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0"])
            .arg(picture)
            .output()
            .unwrap();
        String::from_utf8(probe.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(size("frames-all"), "mjpeg,640,480");

    let (drawn, _) = save("frames-drawn", &["--draw", "--isolate"]);
    let with_detections: Vec<_> = names.iter().filter(|(_, found)| *found).map(|(name, _)| name).collect();
    assert!(!with_detections.is_empty() && with_detections.len() < all.len());
    assert_eq!(drawn.iter().map(|(name, _)| name).collect::<Vec<_>>(), with_detections);
    let plain: std::collections::BTreeMap<_, _> = all.into_iter().collect();
    assert!(drawn.iter().all(|(name, bytes)| plain[name] != *bytes), "nothing is drawn");
    assert_eq!(size("frames-drawn"), "mjpeg,640,480");
}

#[test]
fn stages_of_each_frame_of_one_file_are_printed() {
    let clip = common::clip().display().to_string();
    let output = vx(&[&clip, "--debug", "--provider", "cpu"]).env("GST_TRACERS", "vxlatency").output().unwrap();
    let (errors, lines) = (errors(&output), String::from_utf8(output.stdout).unwrap());
    let frames = lines.lines().filter(|line| line.contains("\"pts_ns\"")).count();
    // A row for each frame: its time, and seven stages.
    let rows: Vec<&str> = errors.lines().filter(|line| line.starts_with("00:00:") && line.ends_with(" ms")).collect();
    assert_eq!((frames, rows.len()), (16, 16), "{errors}");
    assert!(rows[3].starts_with("00:00:03.000") && rows[3].matches(" ms").count() == 7, "{errors}");
    // The tracer is started although GStreamer read the variable before the elements were registered.
    assert!(errors.contains("vxyolodetect model"), "{errors}");
}
