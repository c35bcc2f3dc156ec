// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vxbulkbin`: lines, summaries, messages, states.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::LazyLock;

use common::{PATIENCE, clip, damaged_keyframes, init, made, pipeline, play, root, run, scratch};
use gst::prelude::*;
use serde_json::Value;

/// Returns five files of several kinds. One of them does not exist, and one is not a video.
fn files() -> Vec<String> {
    static FILES: LazyLock<Vec<String>> = LazyLock::new(make_files);
    FILES.clone()
}

fn make_files() -> Vec<String> {
    let source = clip();
    let source = source.to_str().unwrap();
    let short = |name: &str, from: &str| {
        made(name, &["-ss", from, "-t", "3", "-i", source, "-an", "-vf", "scale=320:-2", "-g", "10"])
    };
    let text = scratch("notes.mp4");
    std::fs::write(&text, "no video at all").unwrap();
    let paths = [clip(), short("a.mp4", "0"), short("b.mkv", "4"), text, PathBuf::from("/nowhere/c.mp4")];
    paths.map(|path| path.display().to_string()).into()
}

fn list(files: &[String]) -> PathBuf {
    let list = scratch(&format!("list-{}.txt", std::thread::current().name().unwrap_or_default().replace(':', "_")));
    std::fs::write(&list, files.join("\n")).unwrap();
    list
}

/// Returns the lines of a run.
fn lines(outcome: &common::Outcome) -> Vec<Value> {
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let bytes: Vec<u8> =
        outcome.samples.iter().flat_map(|sample| sample.buffer().unwrap().map_readable().unwrap().to_vec()).collect();
    String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Groups lines by file, and asserts that the lines of each file are contiguous and end with its summary.
fn by_file(lines: Vec<Value>) -> BTreeMap<String, Vec<Value>> {
    let mut found = BTreeMap::<String, Vec<Value>>::new();
    let mut current: Option<String> = None;
    for line in lines {
        let file = line["file"].as_str().unwrap().to_owned();
        assert!(current.as_ref().is_none_or(|current| *current == file), "{file} within {current:?}");
        current = line["status"].is_null().then(|| file.clone());
        found.entry(file).or_default().push(line);
    }
    assert_eq!(current, None);
    found
}

#[test]
fn each_file_has_the_lines_of_a_single_pipeline_and_bad_files_fail_alone() {
    let files = files();
    let bulk = run(&format!("vxbulkbin file-list={} execution-provider=cpu lanes=4", list(&files).display()));
    let found = by_file(lines(&bulk));
    assert_eq!(found.keys().collect::<BTreeSet<_>>(), files.iter().collect());
    for file in &files[..3] {
        let alone = run(&format!(
            "filesrc location={file} ! vxkeyframedec ! vxyolodetect execution-provider=cpu ! vxjsonenc file={file}"
        ));
        let (summary, frames) = found[file].split_last().unwrap();
        assert_eq!(frames, alone.json(), "{file}");
        assert_eq!((&summary["status"], &summary["error"]), (&"ok".into(), &Value::Null));
        assert_eq!(summary["keyframes"], frames.len());
        let detections: usize = frames.iter().map(|frame| frame["detections"].as_array().unwrap().len()).sum();
        assert_eq!(summary["detection_count"], detections);
        assert_eq!(summary["bytes"], std::fs::metadata(file).unwrap().len());
        assert!(summary["bytes_read"].as_u64().unwrap() > 0 && summary["seconds"]["infer"].as_f64().unwrap() > 0.0);
    }
    for (file, reason, domain) in [
        (&files[3], "not a media file", "gst-stream-error-quark"),
        (&files[4], "No such file", "gst-resource-error-quark"),
    ] {
        let [summary] = found[file].as_slice() else { panic!("{:?}", found[file]) };
        assert_eq!(summary["status"], "failed");
        let error = &summary["error"];
        assert!(error["message"].as_str().unwrap().contains(reason), "{error}");
        assert_eq!(error["domain"], domain);
        assert!(error["code"].as_i64().unwrap() > 0);
    }
    let warned = |file: &String| bulk.warnings.iter().any(|warning| warning.contains(file.as_str()));
    assert!(warned(&files[3]) && warned(&files[4]), "{:?}", bulk.warnings);
}

#[test]
fn bus_messages_report_each_file_and_the_whole_run() {
    let files = files();
    let (pipeline, sink) = pipeline(&format!("vxbulkbin file-list={} execution-provider=cpu", list(&files).display()));
    let (mut started, mut done, mut progress) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
    pipeline.set_state(gst::State::Playing).unwrap();
    while sink.try_pull_sample(gst::ClockTime::from_seconds(PATIENCE.as_secs())).is_some() {}
    let bus = pipeline.bus().unwrap();
    while let Some(message) = bus.pop() {
        match message.view() {
            gst::MessageView::Element(element) if element.has_name("vx-file") => {
                let structure = element.structure().unwrap();
                let file = structure.get::<String>("file").unwrap();
                match structure.get::<&str>("status").unwrap() {
                    "started" => assert!(started.insert(file)),
                    status => assert!(done.insert(file, (status.to_owned(), structure.to_owned())).is_none()),
                }
            }
            gst::MessageView::Progress(told) => {
                let (kind, _, text) = told.get();
                progress.push((kind, text.to_owned()));
            }
            gst::MessageView::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }
    assert_eq!(started, files.iter().cloned().collect());
    assert_eq!(done.len(), 5);
    let (status, structure) = &done[&files[4]];
    assert!(status == "failed" && structure.get::<&str>("error").unwrap().contains("No such file"), "{structure}");
    assert!(done[&files[0]].1.get::<u64>("keyframes").unwrap() > 0);
    assert_eq!(progress.first().unwrap().0, gst::ProgressType::Start);
    let (kind, text) = progress.last().unwrap();
    assert!(*kind == gst::ProgressType::Complete && text.contains("5 of 5 files, 2 failed"), "{text}");
    let stats: gst::Structure = pipeline.by_name("vxbulkbin0").map_or_else(
        || pipeline.iterate_sources().into_iter().flatten().next().unwrap().property("stats"),
        |bin| bin.property("stats"),
    );
    assert_eq!((stats.get::<u64>("done").unwrap(), stats.get::<u64>("failed").unwrap()), (5, 2));
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn statistics_increase_while_files_are_read_and_never_decrease() {
    let long = common::made(
        "bulk-long.mp4",
        &["-stream_loop", "3", "-i", common::clip().to_str().unwrap(), "-c", "copy", "-an"],
    );
    let long = long.display().to_string();
    let files = [long.clone(), files()[0].clone(), long];
    let launch = format!("vxbulkbin name=bulk lanes=2 execution-provider=cpu file-list={}", list(&files).display());
    let (pipeline, sink) = pipeline(&launch);
    let bulk = pipeline.by_name("bulk").unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let (mut last, mut within, mut shares) = (0, 0, BTreeSet::new());
    while !sink.is_eos() {
        let stats: gst::Structure = bulk.property("stats");
        let number = |field: &str| stats.get::<u64>(field).unwrap();
        assert!(number("keyframes") >= last, "{last} keyframes before, now {stats}");
        last = number("keyframes");
        if number("done") == 0 && last > 0 {
            let running = stats.get::<gst::Array>("running").unwrap();
            assert!((1..=2).contains(&running.len()), "{stats}");
            let first: gst::Structure = running[0].get().unwrap();
            assert!(
                first.get::<String>("file").unwrap().ends_with(".mp4") && first.get::<u64>("bytes-read").unwrap() > 0
            );
            within += 1;
        }
        let mut query = gst::query::Position::new(gst::Format::Percent);
        if bulk.query(&mut query)
            && let gst::GenericFormattedValue::Percent(Some(share)) = query.result()
        {
            shares.insert(share.ppm());
        }
        let _ = sink.try_pull_sample(gst::ClockTime::from_mseconds(1));
    }
    assert!(within > 3 && shares.len() > 6, "{within} looks, shares {shares:?}");
    let stats: gst::Structure = bulk.property("stats");
    assert_eq!((stats.get::<u64>("keyframes").unwrap(), stats.get::<u64>("done").unwrap()), (last, 3));
    assert!(last > 2 * 64, "{last}");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_damaged_file_has_its_own_status_and_lists_its_problems() {
    init();
    let Some(damaged) = common::damaged("bulk-damaged.mp4") else { return };
    let files = [damaged.display().to_string(), clip().display().to_string()];
    let launch =
        format!("vxbulkbin name=bulk file-list={} on-error=stop execution-provider=cpu", list(&files).display());
    let (pipeline, sink) = pipeline(&launch);
    let (messages, told) = std::sync::mpsc::channel();
    pipeline.bus().unwrap().set_sync_handler(move |_bus, message| {
        if let Some(structure) = message.structure().filter(|structure| structure.name() == "vx-file") {
            let _ = messages.send(structure.to_owned());
        }
        gst::BusSyncReply::Pass
    });
    let found = by_file(lines(&play(&pipeline, &sink)));
    let stats: gst::Structure = pipeline.by_name("bulk").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    let (summary, frames) = found[&files[0]].split_last().unwrap();
    assert_eq!((&summary["status"], &summary["error"]), (&"damaged".into(), &Value::Null));
    assert_eq!(summary["keyframes"], frames.len());
    assert!(summary["problems"][0].as_str().unwrap().contains(char::is_alphabetic), "{summary}");
    let (summary, _) = found[&files[1]].split_last().unwrap();
    assert!(summary["status"] == "ok" && summary.get("problems").is_none(), "{summary}");
    let counts = ["done", "damaged", "failed"].map(|name| stats.get::<u64>(name).unwrap());
    assert_eq!(counts, [2, 1, 0], "{stats}");
    let told = told.try_iter().find(|structure| structure.get("status") == Ok("damaged")).unwrap();
    assert_eq!(told.get::<&str>("file"), Ok(files[0].as_str()));
    assert!(!told.get::<gst::Array>("problems").unwrap().is_empty());
}

#[test]
fn all_lanes_and_runs_share_one_model() {
    let files: Vec<String> = files().into_iter().take(3).collect();
    // Uses settings that no other test here has, so that this test does not share its engine.
    let launch = format!(
        "vxbulkbin name=bulk file-list={} execution-provider=cpu lanes=3 detector::inter-op-threads=2",
        list(&files).display()
    );
    let (pipeline, sink) = pipeline(&launch);
    let bulk = pipeline.by_name("bulk").unwrap();
    let detector = bulk.downcast_ref::<gst::Bin>().unwrap().by_name("detector").unwrap();
    // Counts only this engine, regardless of what other tests open meanwhile.
    let users = || detector.property::<gst::Structure>("stats").get::<u32>("engine-users").unwrap();
    let frames = || detector.property::<gst::Structure>("stats").get::<u64>("engine-frames").unwrap();
    pipeline.set_state(gst::State::Ready).unwrap();
    assert_eq!(users(), 1);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let outcome = play(&pipeline, &sink);
        let found = by_file(lines(&outcome));
        assert!(found.values().all(|lines| lines.last().unwrap()["status"] == "ok"), "{found:?}");
        seen.push(found.into_iter().map(|(file, lines)| (file, lines.len())).collect::<Vec<_>>());
        pipeline.set_state(gst::State::Ready).unwrap();
        // appsink keeps the EOS state until it is in NULL.
        sink.set_state(gst::State::Null).unwrap();
    }
    assert_eq!(seen[0].len(), 3);
    assert!(seen.iter().all(|run| *run == seen[0]), "{seen:?}");
    let keyframes: usize = seen.iter().flatten().map(|(_, lines)| lines - 1).sum();
    assert_eq!((users(), frames()), (3, keyframes as u64));
    let inter: Vec<u32> = bulk
        .downcast_ref::<gst::Bin>()
        .unwrap()
        .iterate_elements()
        .into_iter()
        .map(Result::unwrap)
        .filter(|element| element.name().starts_with("detector"))
        .map(|element| element.property("inter-op-threads"))
        .collect();
    assert_eq!(inter, [2, 2, 2]);
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn the_first_failure_ends_the_run_on_request() {
    init();
    let files = ["/nowhere/a.mp4".to_owned(), clip().display().to_string(), clip().display().to_string()];
    let outcome = run(&format!(
        "vxbulkbin file-list={} on-error=stop order=as-given lanes=1 execution-provider=cpu",
        list(&files).display()
    ));
    assert!(outcome.error_text().contains("/nowhere/a.mp4: No such file"), "{}", outcome.error_text());
    // Only the missing file was started and has its summary.
    let lines: usize = outcome.samples.iter().map(|sample| sample.buffer().unwrap().size()).sum();
    assert!(lines == 0 || lines < 2000, "{lines} bytes: another file was begun");
}

#[test]
fn state_changes_and_eos_events_end_a_run_cleanly() {
    let files: Vec<String> = (0..6).map(|_| clip().display().to_string()).collect();
    let launch = format!("vxbulkbin name=bulk file-list={} execution-provider=cpu lanes=2", list(&files).display());
    let (pipeline, sink) = pipeline(&launch);
    for round in 0..8_u64 {
        pipeline.set_state(gst::State::Playing).unwrap();
        if round % 2 == 0 {
            pipeline.set_state(gst::State::Paused).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(round * 30));
        let state = if round % 3 == 0 { gst::State::Ready } else { gst::State::Null };
        pipeline.set_state(state).unwrap();
    }
    // After an EOS event it finishes the files that it has started, and starts no others.
    pipeline.set_state(gst::State::Playing).unwrap();
    let patience = gst::ClockTime::from_seconds(PATIENCE.as_secs());
    let mut samples = vec![sink.try_pull_sample(patience).unwrap()];
    let end = gst::event::Eos::new();
    let bulk = pipeline.by_name("bulk").unwrap();
    assert!(bulk.send_event(end.clone()));
    samples.extend(std::iter::from_fn(|| sink.try_pull_sample(patience)));
    assert!(sink.is_eos());
    // It ends with the event that it was sent, and is marked as a new stream.
    let pushed = bulk.static_pad("src").unwrap().sticky_event::<gst::event::Eos>(0).unwrap();
    assert_eq!(pushed.seqnum(), end.seqnum());
    let is_discont = |sample: &gst::Sample| sample.buffer().unwrap().flags().contains(gst::BufferFlags::DISCONT);
    assert_eq!(samples.iter().map(is_discont).filter(|is_discont| *is_discont).count(), 1);
    assert!(is_discont(&samples[0]));
    let outcome = common::Outcome { samples, ..common::Outcome::default() };
    let lines = lines(&outcome);
    let ended = lines.iter().filter(|line| line["status"] == "ok").count();
    assert!((1..6).contains(&ended), "{ended} files");
    assert_eq!(lines.len(), 17 * ended);
    assert!(!lines.last().unwrap()["status"].is_null());
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn errors_of_the_whole_run_are_reported_before_it_starts() {
    init();
    let error = |launch: &str| run(launch).error_text();
    assert!(error("vxbulkbin file-list=/nowhere/list.txt").contains("/nowhere/list.txt"));
    assert!(error("vxbulkbin model-file=/nowhere/m.onnx").contains("/nowhere/m.onnx"));
}

#[test]
fn an_empty_list_ends_the_stream_and_a_slow_file_times_out() {
    let outcome = run("vxbulkbin execution-provider=cpu");
    assert!(outcome.error.is_none() && outcome.samples.is_empty());
    let files = [clip().display().to_string()];
    let outcome = run(&format!("vxbulkbin file-list={} file-timeout=1 execution-provider=cpu", list(&files).display()));
    let lines = lines(&outcome);
    let summary = lines.last().unwrap();
    assert_eq!(summary["status"], "failed");
    assert!(summary["error"]["message"].as_str().unwrap().contains("file-timeout"), "{summary}");
}

#[test]
fn lanes_wait_while_memory_is_low_and_this_is_reported() {
    let files: Vec<String> = (0..4)
        .map(|number| {
            let name = format!("wide-{number}.mp4");
            let source = clip();
            made(
                &name,
                &[
                    "-i",
                    source.to_str().unwrap(),
                    "-t",
                    "1",
                    "-vf",
                    "scale=1920:1080",
                    "-preset",
                    "ultrafast",
                    "-g",
                    "5",
                ],
            )
            .display()
            .to_string()
        })
        .collect();
    // Enough for the lanes, but not for the frames of both.
    let limit = 240 << 20;
    let outcome = run(&format!(
        "vxbulkbin file-list={} lanes=2 memory-limit={limit} execution-provider=cpu",
        list(&files).display()
    ));
    let found = by_file(lines(&outcome));
    assert_eq!(found.len(), 4);
    assert!(found.values().all(|lines| lines.last().unwrap()["status"] == "ok"));
    assert!(outcome.warnings.iter().any(|warning| warning.contains("memory-limit")), "{:?}", outcome.warnings);
}

#[test]
fn a_path_that_is_not_a_regular_file_fails_without_blocking() {
    init();
    let pipe = scratch("pipe.mp4");
    let _ = std::fs::remove_file(&pipe);
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let files = [pipe.display().to_string(), "/dev/zero".into(), "/".into(), clip().display().to_string()];
    let found = by_file(lines(&run(&format!("vxbulkbin execution-provider=cpu file-list={}", list(&files).display()))));
    let message = |file: &String| found[file].last().unwrap()["error"]["message"].as_str().unwrap_or("none").to_owned();
    assert!(message(&files[0]).contains("not a regular file"), "{}", message(&files[0]));
    assert!(message(&files[1]).contains("not a regular file") && message(&files[2]).contains("folder"));
    assert_eq!(found[&files[3]].last().unwrap()["status"], "ok");
}

#[test]
fn a_flush_drops_lines_and_does_not_repeat_any() {
    let files: Vec<String> = (0..6).map(|_| clip().display().to_string()).collect();
    let launch = format!("vxbulkbin name=bulk lanes=2 execution-provider=cpu file-list={}", list(&files).display());
    let (pipeline, sink) = pipeline(&launch);
    let bulk = pipeline.by_name("bulk").unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let patience = gst::ClockTime::from_seconds(PATIENCE.as_secs());
    let first = sink.try_pull_sample(patience).unwrap();
    // GStreamer may not finish a change to PLAYING that a flush interrupts: the sink then waits for it for ever.
    assert!(pipeline.state(patience).0.is_ok());
    assert!(bulk.send_event(gst::event::FlushStart::new()));
    assert!(bulk.send_event(gst::event::FlushStop::new(true)));
    let mut bytes = first.buffer().unwrap().map_readable().unwrap().to_vec();
    while let Some(sample) = sink.try_pull_sample(patience) {
        bytes.extend_from_slice(&sample.buffer().unwrap().map_readable().unwrap());
    }
    assert!(sink.is_eos());
    let text = String::from_utf8(bytes).unwrap();
    // Six times the same file, with 16 keyframes and a summary.
    let times = text.lines().filter(|line| line.contains("\"pts_ns\":0,")).count();
    assert!(times <= 6 && text.lines().count() <= 6 * 17, "{times}, {}", text.lines().count());
    let stats: gst::Structure = bulk.property("stats");
    assert_eq!((stats.get::<u64>("done").unwrap(), stats.get::<u64>("failed").unwrap()), (6, 0));
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn eos_from_downstream_ends_the_run() {
    let files: Vec<String> = (0..6).map(|_| clip().display().to_string()).collect();
    let outcome = run(&format!(
        "vxbulkbin lanes=2 execution-provider=cpu file-list={} ! identity eos-after=3",
        list(&files).display()
    ));
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert!(outcome.samples.len() <= 3, "{}", outcome.samples.len());
}

#[test]
fn message_handlers_can_read_statistics() {
    let files = files();
    let list = list(&files);
    let (done, is_done) = std::sync::mpsc::channel();
    // Runs in a separate thread, so that a deadlock is a failure instead of a hang.
    std::thread::spawn(move || {
        let launch = |downstream: &str| {
            let launch = format!(
                "vxbulkbin name=bulk file-list={} execution-provider=cpu lanes=2 order=as-given{downstream}",
                list.display()
            );
            let (pipeline, sink) = pipeline(&launch);
            let bulk = pipeline.by_name("bulk").unwrap();
            let (asked, weak) = (std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)), bulk.downgrade());
            let count = std::sync::Arc::clone(&asked);
            pipeline.bus().unwrap().set_sync_handler(move |_bus, _message| {
                if let Some(bulk) = weak.upgrade() {
                    let stats: gst::Structure = bulk.property("stats");
                    assert!(stats.get::<u64>("files").is_ok());
                    let mut query = gst::query::Position::new(gst::Format::Percent);
                    let _ = bulk.query(&mut query);
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
                gst::BusSyncReply::Drop
            });
            (pipeline, sink, bulk, asked)
        };
        let patience = gst::ClockTime::from_seconds(PATIENCE.as_secs());
        let to_end = |sink: &gst_app::AppSink| {
            while sink.try_pull_sample(patience).is_some() {}
            assert!(sink.is_eos());
        };
        let (pipeline, sink, bulk, asked) = launch("");
        pipeline.set_state(gst::State::Playing).unwrap();
        to_end(&sink);
        assert_eq!(bulk.property::<gst::Structure>("stats").get::<u64>("failed"), Ok(2));
        // Back and forth, while the run continues or after its end.
        for state in [gst::State::Paused, gst::State::Playing, gst::State::Ready, gst::State::Paused, gst::State::Null]
        {
            pipeline.set_state(state).unwrap();
        }
        for states in [[gst::State::Paused, gst::State::Playing], [gst::State::Playing, gst::State::Paused]] {
            for state in states {
                pipeline.set_state(state).unwrap();
            }
            assert!(sink.try_pull_preroll(patience).is_some());
            pipeline.set_state(gst::State::Ready).unwrap();
        }
        pipeline.set_state(gst::State::Playing).unwrap();
        assert!(bulk.send_event(gst::event::Eos::new()));
        to_end(&sink);
        pipeline.set_state(gst::State::Null).unwrap();
        assert!(asked.load(std::sync::atomic::Ordering::Relaxed) > 100);
        let (pipeline, sink, ..) = launch(" ! identity eos-after=3");
        pipeline.set_state(gst::State::Playing).unwrap();
        to_end(&sink);
        pipeline.set_state(gst::State::Null).unwrap();
        done.send(()).unwrap();
    });
    is_done.recv_timeout(3 * PATIENCE).expect("asking for statistics from a message ends");
}

#[test]
fn each_run_gets_a_plan_that_keeps_the_settings_of_the_user() {
    let (pipeline, sink) = pipeline("vxbulkbin name=bulk execution-provider=cpu");
    let bulk = pipeline.by_name("bulk").unwrap();
    let decoder = bulk.downcast_ref::<gst::Bin>().unwrap().by_name("decoder").unwrap();
    let threads = |count: usize| {
        let files: Vec<String> = (0..count).map(|_| clip().display().to_string()).collect();
        bulk.set_property("files", files);
        play(&pipeline, &sink);
        pipeline.set_state(gst::State::Ready).unwrap();
        sink.set_state(gst::State::Null).unwrap();
        decoder.property::<u32>("thread-count") as usize
    };
    let cores = num_cpus::get();
    let one = cores.min(16);
    assert_eq!((threads(1), threads(4 * cores), threads(1)), (one, 1, one));
    // Values from the user remain, even if they equal those of the last plan; 0 makes a setting automatic again.
    for (name, by_user) in [("thread-count", one as u32), ("threads", 3), ("thread-count", 3), ("threads", one as u32)]
    {
        decoder.set_property(name, by_user);
        assert_eq!((threads(1), threads(4 * cores)), (by_user as usize, by_user as usize));
        let second = bulk.downcast_ref::<gst::Bin>().unwrap().by_name("decoder-1").unwrap();
        assert_eq!(second.property::<u32>("thread-count"), by_user);
        let stats: gst::Structure = bulk.property("stats");
        assert_eq!(stats.get::<u32>("decoder-threads"), Ok(by_user));
    }
    decoder.set_property("threads", 0_u32);
    assert_eq!((threads(4 * cores), threads(1)), (1, one));
    let detector = bulk.downcast_ref::<gst::Bin>().unwrap().by_name("detector").unwrap();
    let in_flight = detector.property::<u32>("max-inflight");
    assert!(in_flight > 1);
    for by_user in [in_flight, 1, 0] {
        detector.set_property("max-inflight", by_user);
        threads(2);
        let expected = if by_user == 0 { in_flight } else { by_user };
        let second = bulk.downcast_ref::<gst::Bin>().unwrap().by_name("detector-1").unwrap();
        let found = [&detector, &second].map(|detector| detector.property::<u32>("max-inflight"));
        assert_eq!(found, [expected; 2]);
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_model_that_is_replaced_after_ready_is_used_by_no_lane() {
    let models = root().join("tests/models");
    for lanes in [1, 3] {
        let [model, other] = ["first.onnx", "second.onnx"].map(scratch);
        std::fs::copy(models.join("all_one.onnx"), &model).unwrap();
        std::fs::copy(models.join("all_zero.onnx"), &other).unwrap();
        let copies: Vec<String> =
            (0..6).map(|number| scratch(&format!("same-{number}.mp4")).display().to_string()).collect();
        for copy in &copies {
            std::fs::copy(clip(), copy).unwrap();
        }
        let (pipeline, sink) = pipeline(&format!(
            "vxbulkbin file-list={} execution-provider=cpu lanes={lanes} model-file={}",
            list(&copies).display(),
            model.display()
        ));
        pipeline.set_state(gst::State::Ready).unwrap();
        std::fs::rename(other, &model).unwrap();
        let outcome = play(&pipeline, &sink);
        pipeline.set_state(gst::State::Null).unwrap();
        let found = lines(&outcome);
        let frames: Vec<&Value> = found.iter().filter(|line| line["detections"].is_array()).collect();
        assert_eq!(frames.len(), 6 * 16);
        // The first model finds an object in every frame, the second none.
        assert!(frames.iter().all(|frame| frame["detections"].as_array().unwrap().len() == 1), "{lanes} lanes");
        let replaced = outcome.warnings.iter().filter(|warning| warning.contains("replaced")).count();
        assert_eq!(replaced, lanes - 1, "{:?}", outcome.warnings);
    }
}

#[test]
fn the_summary_of_a_badly_damaged_file_has_few_warnings() {
    const MAX_WARNINGS: usize = 8;
    let files = [damaged_keyframes("summary_warnings.mp4", 30).display().to_string()];
    let bulk = run(&format!("vxbulkbin file-list={} execution-provider=cpu lanes=1", list(&files).display()));
    let summary = lines(&bulk).pop().unwrap();
    assert_eq!(summary["warnings"].as_array().unwrap().len(), MAX_WARNINGS, "{summary}");
}
