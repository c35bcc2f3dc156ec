// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vxyolodetect` and `vxjsonenc` in pipelines, with the built-in model and the clip in the repository.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{clip, made, pipeline, play, play_to_end, quoted, run, scratch};
use gst::prelude::*;
use serde_json::Value;

/// Seconds of the clip with a person in the picture.
const WITH_PERSON: [std::ops::Range<u64>; 2] = [0..4, 8..12];
const DETECT: &str = "vxyolodetect execution-provider=cpu";

fn people(launch: &str) -> Vec<serde_json::Value> {
    run(&format!("filesrc location={} ! vxkeyframedec ! {launch} ! vxjsonenc", quoted(&clip()))).json()
}

/// Returns the intersection over union of two detections.
fn overlap(a: &serde_json::Value, b: &serde_json::Value) -> f64 {
    let [a, b] = [a, b].map(|value| {
        let numbers = value["box"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap());
        <[f64; 4]>::try_from(numbers.collect::<Vec<_>>()).unwrap()
    });
    let across = ((a[0] + a[2]).min(b[0] + b[2]) - a[0].max(b[0])).max(0.0);
    let down = ((a[1] + a[3]).min(b[1] + b[3]) - a[1].max(b[1])).max(0.0);
    let both = across * down;
    both / (a[2] * a[3] + b[2] * b[3] - both)
}

#[test]
fn people_are_found_at_their_positions_and_every_keyframe_has_a_line() {
    let lines = people(DETECT);
    assert_eq!(lines.len(), 16);
    for (second, line) in (0..).zip(&lines) {
        assert_eq!(line["pts_ns"], second * 1_000_000_000_u64);
        assert_eq!((line["width"].as_u64(), line["height"].as_u64()), (Some(640), Some(480)));
        assert!(line["file"].as_str().unwrap().ends_with("scenes.mp4"), "{line}");
        let found = line["detections"].as_array().unwrap();
        let has_person = WITH_PERSON.iter().any(|range| range.contains(&second));
        assert_eq!(found.len(), usize::from(has_person), "{line}");
        for person in found {
            assert_eq!((person["label"].as_str(), person["class_id"].as_u64()), (Some("person"), Some(0)));
            assert!(person["confidence"].as_f64().unwrap() > 0.5, "{person}");
            assert!(overlap(person, &serde_json::json!({"box": [0, 0, 430, 475]})) > 0.75, "{person}");
        }
    }
}

#[test]
fn detections_are_region_of_interest_metas_that_other_elements_can_read() {
    let outcome = run(&format!("filesrc location={} ! vxkeyframedec ! {DETECT}", quoted(&clip())));
    let buffer = outcome.samples[0].buffer().unwrap();
    let metas: Vec<_> = buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>().collect();
    assert_eq!(metas.len(), 1);
    assert_eq!(metas[0].roi_type(), "person");
    let (x, y, width, height) = metas[0].rect();
    assert!(width > 300 && height > 300 && x + width <= 640 && y + height <= 480);
    let parameter = metas[0].params().find(|parameter| parameter.name() == "detection").unwrap();
    assert!(parameter.get::<f64>("confidence").unwrap() > 0.5);
    assert_eq!(parameter.get::<i32>("label_id").unwrap(), 0);
    assert_eq!(parameter.get::<&str>("label").unwrap(), "person");
    let edge = |name| parameter.get::<f64>(name).unwrap();
    assert!((edge("x_min") * 640.0 - f64::from(x)).abs() <= 0.5 && (edge("y_min") * 480.0 - f64::from(y)).abs() <= 0.5);
    let (right, bottom) = (edge("x_max") * 640.0, edge("y_max") * 480.0);
    assert!((right - f64::from(x + width)).abs() <= 0.5 && (bottom - f64::from(y + height)).abs() <= 0.5);
    assert!(edge("x_max") <= 1.0 && edge("y_max") <= 1.0);
    // Frames without detections pass unchanged.
    let empty = outcome.samples[5].buffer().unwrap();
    assert!(empty.meta::<gst_video::VideoRegionOfInterestMeta>().is_none());
}

#[test]
fn every_format_is_read_from_its_own_planes() {
    let expected = people(DETECT);
    let formats = [
        "I420",
        "YV12",
        "NV12",
        "NV21",
        "Y42B",
        "Y444",
        "I420_10LE",
        "I422_10LE",
        "Y444_10LE",
        "P010_10LE",
        "RGB",
        "BGR",
        "RGBA",
        "BGRA",
        "RGBx",
        "BGRx",
        "GRAY8",
    ];
    for format in formats {
        let lines = people(&format!("videoconvert ! video/x-raw,format={format} ! {DETECT}"));
        for (line, expected) in lines.iter().zip(&expected) {
            let (found, expected) = (&line["detections"][0], &expected["detections"][0]);
            // Without colour a cat can be detected as a person; the photograph of the man is black and white anyway.
            let is_colourless =
                format == "GRAY8" && !(8..12).contains(&(line["pts_ns"].as_u64().unwrap() / 1_000_000_000));
            if !is_colourless {
                assert_eq!(found.is_null(), expected.is_null(), "{format}: {line}");
                assert!(found.is_null() || overlap(found, expected) > 0.9, "{format}: {found} is not {expected}");
            }
        }
    }
}

#[test]
fn several_sessions_keep_the_order() {
    let expected = people(DETECT);
    for settings in
        ["sessions=2 max-inflight=7", "sessions=3 batch-size=1", "sessions=1 max-inflight=1", "batch-size=4"]
    {
        assert_eq!(people(&format!("{DETECT} {settings}")), expected, "{settings}");
    }
}

#[test]
fn fifty_restarts_produce_the_same_lines() {
    let launch = format!("filesrc location={} ! vxkeyframedec ! {DETECT} ! vxjsonenc", quoted(&clip()));
    let (pipeline, sink) = pipeline(&launch);
    let expected = play(&pipeline, &sink).json();
    for round in 0..50 {
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(play(&pipeline, &sink).json(), expected, "round {round}");
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn restarts_from_ready_produce_the_same_lines() {
    common::init();
    let output = scratch("restarts.jsonl");
    let launch = format!(
        "filesrc location={} ! vxkeyframedec ! {DETECT} ! vxjsonenc ! filesink location={}",
        quoted(&clip()),
        quoted(&output)
    );
    let pipeline = gst::parse::launch(&launch).unwrap();
    for round in 1..=10 {
        play_to_end(&pipeline);
        pipeline.set_state(gst::State::Ready).unwrap();
        let found = std::fs::read_to_string(&output).unwrap();
        // filesink keeps its file open in READY and continues to write.
        let lines: Vec<_> = found.lines().collect();
        assert_eq!(lines.len(), 16 * round);
        assert_eq!(lines[..16], lines[16 * (round - 1)..], "round {round}");
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn seeks_while_frames_are_in_flight_succeed() {
    let launch = format!("filesrc location={} ! vxkeyframedec ! {DETECT} ! vxjsonenc", quoted(&clip()));
    let (pipeline, sink) = pipeline(&launch);
    pipeline.set_state(gst::State::Playing).unwrap();
    for round in 0..40_u64 {
        let target = gst::ClockTime::from_seconds(round * 5 % 16);
        pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, target).unwrap();
        let line = sink.try_pull_sample(gst::ClockTime::from_seconds(60)).unwrap();
        assert_eq!(line.buffer().unwrap().pts(), Some(target), "seek {round}");
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn pipelines_share_one_engine() {
    let launch =
        format!("filesrc location={} ! vxkeyframedec ! {DETECT} inter-op-threads=2 name=detect", quoted(&clip()));
    // Uses an engine that no other test shares: only this test sets two inter-op threads.
    let pipelines: Vec<_> = (0..3).map(|_| pipeline(&launch)).collect();
    for (pipeline, _) in &pipelines {
        pipeline.set_state(gst::State::Ready).unwrap();
    }
    let stats: gst::Structure = pipelines[2].0.by_name("detect").unwrap().property("stats");
    assert_eq!(stats.get::<u32>("engine-users").unwrap(), 3, "{stats}");
    for (pipeline, sink) in &pipelines {
        assert_eq!(play(pipeline, sink).samples.len(), 16);
    }
    let stats: gst::Structure = pipelines[0].0.by_name("detect").unwrap().property("stats");
    assert_eq!(stats.get::<u64>("frames").unwrap(), 16, "{stats}");
    assert_eq!(stats.get::<u64>("detections").unwrap(), 8, "{stats}");
    for (pipeline, _) in &pipelines {
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn thresholds_can_change_while_playing_and_other_settings_in_ready() {
    let launch = format!(
        "filesrc location={} ! vxkeyframedec ! {DETECT} name=detect max-inflight=1 ! vxjsonenc",
        quoted(&clip())
    );
    let (pipeline, sink) = pipeline(&launch);
    let detect = pipeline.by_name("detect").unwrap();
    detect.set_property("confidence-threshold", 0.99_f32);
    let nobody = play(&pipeline, &sink).json();
    assert!(nobody.iter().all(|line| line["detections"].as_array().unwrap().is_empty()));
    detect.set_property("confidence-threshold", 0.25_f32);
    pipeline.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO).unwrap();
    let found = play(&pipeline, &sink).json();
    assert_eq!(found.iter().filter(|line| line["detections"][0].is_object()).count(), 8);
    pipeline.set_state(gst::State::Ready).unwrap();
    detect.set_property("model-file", "/nowhere/model.onnx");
    assert!(play(&pipeline, &sink).error_text().contains("/nowhere/model.onnx"));
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn missing_files_and_wrong_settings_are_reported_before_the_start() {
    let launch = |settings: &str| {
        let launch = format!("filesrc location={} ! vxkeyframedec ! {DETECT} {settings}", quoted(&clip()));
        let outcome = run(&launch);
        assert!(outcome.samples.is_empty());
        (outcome.error_text(), outcome.error.unwrap().0)
    };
    let (text, error) = launch("model-file=/nowhere/model.onnx");
    assert!(text.contains("/nowhere/model.onnx") && error.matches(gst::ResourceError::NotFound), "{text}");
    let garbage = scratch("garbage.onnx");
    std::fs::write(&garbage, "no model").unwrap();
    let (text, _) = launch(&format!("model-file={}", quoted(&garbage)));
    assert!(text.contains("garbage.onnx"), "{text}");
    let (text, _) = launch("classes=unicorn");
    assert!(text.contains("unicorn") && text.contains("person"), "{text}");
    let (text, _) = launch("execution-provider=abacus");
    assert!(text.contains("abacus") && text.contains("cpu"), "{text}");
    let (text, _) = launch("label-file=/nowhere/labels.txt");
    assert!(text.contains("/nowhere/labels.txt"), "{text}");
}

#[test]
fn labels_and_classes_from_the_user_take_precedence() {
    let labels = scratch("labels.txt");
    std::fs::write(&labels, "human being\n").unwrap();
    let lines = people(&format!("{DETECT} label-file={}", quoted(&labels)));
    assert_eq!(lines[0]["detections"][0]["label"], "human being");
    assert_eq!(people(&format!("{DETECT} classes=person")), people(DETECT));
    assert_eq!(people(&format!("{DETECT} classes=0")), people(DETECT));
}

#[test]
fn a_downstream_without_video_meta_gets_plain_frames() {
    // 328 pixels: FFmpeg pads such lines, GStreamer does not.
    let narrow = made(
        "narrow.avi",
        &["-i", clip().to_str().unwrap(), "-t", "1", "-c:v", "mpeg4", "-g", "5", "-vf", "scale=328:248"],
    );
    let raw = made(
        "narrow.yuv",
        &["-skip_frame", "nokey", "-i", narrow.to_str().unwrap(), "-vsync", "passthrough", "-f", "rawvideo"],
    );
    let found = scratch("found.yuv");
    for launch in ["vxkeyframedec".to_owned(), format!("vxkeyframedec ! {DETECT}")] {
        common::init();
        let launch = format!("filesrc location={} ! {launch} ! filesink location={}", quoted(&narrow), quoted(&found));
        let pipeline = gst::parse::launch(&launch).unwrap();
        play_to_end(&pipeline);
        pipeline.set_state(gst::State::Null).unwrap();
        assert!(std::fs::read(&found).unwrap() == std::fs::read(&raw).unwrap(), "{launch}");
    }
}

#[test]
fn times_are_those_of_the_container() {
    let source = clip();
    let source = source.to_str().unwrap();
    let late = made("late.ts", &["-i", source, "-t", "4", "-c", "copy", "-output_ts_offset", "5000"]);
    let lines = run(&format!("filesrc location={} ! vxkeyframedec ! vxjsonenc", quoted(&late))).json();
    let first = lines[0]["pts_ns"].as_u64().unwrap();
    assert!(first >= 5_000_000_000_000, "{first}");
    assert_eq!(lines[1]["pts_ns"].as_u64().unwrap(), first + 1_000_000_000);
    // Downstream still sees a stream that starts at zero.
    let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&late)));
    let segment = outcome.samples[0].segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap().clone();
    let pts = outcome.samples[0].buffer().unwrap().pts();
    assert_eq!(segment.to_stream_time(pts), Some(gst::ClockTime::ZERO));
    assert_eq!(segment.to_running_time(pts), Some(gst::ClockTime::ZERO));
}

#[test]
fn metas_of_other_elements_are_written_unchanged() {
    let outcome = {
        let (pipeline, sink) =
            pipeline("videotestsrc num-buffers=1 name=source ! video/x-raw,width=64,height=48 ! vxjsonenc");
        let pad = pipeline.by_name("source").unwrap().static_pad("src").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
            let buffer = info.buffer_mut().unwrap().make_mut();
            gst_video::VideoRegionOfInterestMeta::add(buffer, "face", (1, 2, 30, 40));
            gst::PadProbeReturn::Ok
        });
        let outcome = play(&pipeline, &sink);
        pipeline.set_state(gst::State::Null).unwrap();
        outcome
    };
    let line = &outcome.json()[0];
    let expected =
        serde_json::json!([{"label": "face", "class_id": null, "confidence": null, "box": [1.0, 2.0, 30.0, 40.0]}]);
    assert_eq!(line["detections"], expected);
    assert!(line["file"].is_null());
}

#[test]
fn only_every_nth_frame_is_analysed() {
    let source = format!("filesrc location={} ! vxkeyframedec", quoted(&clip()));
    let all = run(&format!("{source} ! {DETECT} ! vxjsonenc")).json();
    let third = run(&format!("{source} ! {DETECT} inference-interval=3 ! vxjsonenc")).json();
    let carried = run(&format!("{source} ! {DETECT} inference-interval=3 carry-over=true ! vxjsonenc")).json();
    for (index, line) in all.iter().enumerate() {
        let looked_at = &all[index - index % 3]["detections"];
        let expected = if index % 3 == 0 { line["detections"].clone() } else { Value::Array(Vec::new()) };
        assert_eq!(third[index]["detections"], expected);
        assert_eq!(&carried[index]["detections"], looked_at);
    }
}

#[test]
fn frames_similar_to_the_previous_one_are_skipped_on_request() {
    let source = "videotestsrc num-buffers=5 pattern=red ! video/x-raw,format=I420,width=320,height=240";
    for (property, looks) in [("", 5), ("scene-change=0.01", 1)] {
        let (pipeline, sink) = pipeline(&format!("{source} ! {DETECT} name=detect {property}"));
        let outcome = play(&pipeline, &sink);
        let stats: gst::Structure = pipeline.by_name("detect").unwrap().property("stats");
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(outcome.samples.len(), 5);
        assert_eq!(stats.get::<u64>("looks").unwrap(), looks, "{property}");
    }
}

#[test]
fn a_region_gives_the_detections_of_a_cropped_frame() {
    let source = format!("filesrc location={} ! vxkeyframedec", quoted(&clip()));
    let cut = run(&format!("{source} ! videocrop left=200 top=40 ! {DETECT} ! vxjsonenc")).json();
    let seen = run(&format!("{source} ! {DETECT} region-of-interest=200,40,2000,2000 ! vxjsonenc")).json();
    let mut count = 0;
    for (cut, seen) in cut.iter().zip(&seen) {
        let (cut, seen) = (cut["detections"].as_array().unwrap(), seen["detections"].as_array().unwrap());
        assert_eq!(cut.len(), seen.len());
        for (cut, seen) in cut.iter().zip(seen) {
            let place = |found: &Value| serde_json::from_value::<[f64; 4]>(found["box"].clone()).unwrap();
            let (a, b) = (place(cut), place(seen));
            assert!((a[0] + 200.0 - b[0]).abs() < 0.02 && (a[1] + 40.0 - b[1]).abs() < 0.02, "{a:?} {b:?}");
            assert_eq!(cut["confidence"], seen["confidence"]);
            count += 1;
        }
    }
    assert!(count > 5);
    let error =
        run(&format!("{source} ! {DETECT} region-of-interest=12 ! fakesink name=f {source} ! identity")).error_text();
    assert!(error.contains("region-of-interest") && error.contains("left,top,width,height"), "{error}");
}

#[test]
fn a_second_detector_runs_inside_the_boxes_of_the_first() {
    let source = format!("filesrc location={} ! vxkeyframedec", quoted(&clip()));
    let first = run(&format!("{source} ! {DETECT} ! vxjsonenc")).json();
    let (pipeline, sink) =
        pipeline(&format!("{source} ! {DETECT} ! {DETECT} name=second region-type=person ! vxjsonenc"));
    let both = play(&pipeline, &sink);
    let stats: gst::Structure = pipeline.by_name("second").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    let people: usize = first.iter().map(|line| line["detections"].as_array().unwrap().len()).sum();
    assert!(people > 5);
    assert_eq!(stats.get::<u64>("looks").unwrap(), people as u64);
    assert_eq!(both.json().len(), first.len());
}

#[test]
fn user_settings_for_a_model_override_its_metadata() {
    let of = |properties: &str| people(&format!("{DETECT} {properties}"));
    let told = of("");
    assert_eq!(of("model-layout=v8 resize-mode=letterbox channel-order=rgb input-range=0-1"), told);
    for other in ["resize-mode=stretch", "resize-mode=letterbox-top-left", "channel-order=bgr", "input-range=0-255"] {
        assert_ne!(of(other), told, "{other}");
    }
    let launch = format!("filesrc location={} ! vxkeyframedec ! {DETECT} model-layout=yolox", quoted(&clip()));
    let text = run(&launch).error_text();
    assert!(text.contains("[1, 5, 2100]") && text.contains("Set another model-layout"), "{text}");
}

#[test]
fn models_with_a_dynamic_size_use_the_requested_size() {
    let model = common::root().join("tests/models/free_size.onnx");
    // The model finds its box at (128, 80), 64 by 32 pixels, at every input size.
    let source = "videotestsrc num-buffers=1 ! video/x-raw,format=I420,width=320,height=192";
    let launch =
        |size: &str| format!("{source} ! {DETECT} model-file={} input-size={size} ! vxjsonenc", quoted(&model));
    let found = |size: &str| run(&launch(size)).json()[0]["detections"][0]["box"].clone();
    assert_eq!(found("320x192"), serde_json::json!([128.0, 80.0, 64.0, 32.0]));
    assert_eq!(found("640x384"), serde_json::json!([64.0, 40.0, 32.0, 16.0]));
    // A square input: 64 lines of padding above the frame.
    assert_eq!(found("320"), serde_json::json!([128.0, 16.0, 64.0, 32.0]));
    let text = run(&launch("wide")).error_text();
    assert!(text.contains("input-size") && text.contains("\"wide\""), "{text}");
    let fixed = format!("filesrc location={} ! vxkeyframedec ! {DETECT} input-size=320x192", quoted(&clip()));
    let text = run(&fixed).error_text();
    assert!(text.contains("fixed (320) width") && text.contains("Set input-size=auto"), "{text}");
}

/// Runs frames of this size through a model. Returns `stats` and the lines.
fn sized(width: u32, height: u32, settings: &str) -> (gst::Structure, Vec<Value>) {
    let source = format!("videotestsrc num-buffers=3 ! video/x-raw,format=I420,width={width},height={height}");
    let (pipeline, sink) = pipeline(&format!("{source} ! {DETECT} name=detect {settings} ! vxjsonenc"));
    let lines = play(&pipeline, &sink).json();
    let stats = pipeline.by_name("detect").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    (stats, lines)
}

#[test]
fn a_model_runs_at_the_smallest_size_that_contains_the_frame() {
    for (width, height, settings, expected) in [
        (640, 360, "", "320x192: 3"),
        (360, 640, "input-size=auto", "192x320: 3"),
        (640, 480, "input-size=auto batch-size=2", "320x256: 3"),
        (400, 400, "input-size=auto", "320x320: 3"),
        (640, 360, "input-size=model", "320x320: 3"),
    ] {
        let (stats, _) = sized(width, height, settings);
        assert_eq!(stats.get::<&str>("input-sizes").unwrap(), expected, "{settings} {stats}");
        assert!(!stats.has_field("refused-input-size"), "{stats}");
    }
}

#[test]
fn the_same_people_are_found_at_a_tight_size() {
    let wide = "videoscale ! videocrop top=60 bottom=60 ! video/x-raw,width=640,height=360";
    let found = |size: &str| {
        let source = format!("filesrc location={} ! vxkeyframedec ! {wide}", quoted(&clip()));
        run(&format!("{source} ! {DETECT} input-size={size} ! vxjsonenc")).json()
    };
    let (square, tight) = (found("model"), found("auto"));
    assert_eq!(square.len(), tight.len());
    for (square, tight) in square.iter().zip(&tight) {
        let (ones, others) = (&square["detections"], &tight["detections"]);
        assert_eq!(ones.as_array().unwrap().len(), others.as_array().unwrap().len(), "{square} {tight}");
        for (one, other) in ones.as_array().unwrap().iter().zip(others.as_array().unwrap()) {
            assert!(overlap(one, other) > 0.8, "{square} {tight}");
        }
    }
    assert!(square.iter().any(|line| !line["detections"].as_array().unwrap().is_empty()));
}

#[test]
fn streams_of_different_aspect_ratios_can_follow_each_other() {
    let part = |width: u32, height: u32| {
        format!(
            "videotestsrc num-buffers=2 ! video/x-raw,format=I420,width={width},height={height},framerate=30/1 ! c."
        )
    };
    let sizes =
        [(640, 360), (360, 640), (640, 480), (400, 400), (640, 160), (640, 420), (480, 640), (160, 640), (640, 360)];
    let parts: Vec<String> = sizes.iter().map(|&(width, height)| part(width, height)).collect();
    let (pipeline, sink) = pipeline(&format!("{} concat name=c ! {DETECT} name=detect ! vxjsonenc", parts.join(" ")));
    let lines = play(&pipeline, &sink).json();
    assert_eq!(lines.len(), 2 * sizes.len());
    let stats: gst::Structure = pipeline.by_name("detect").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    let used = stats.get::<String>("input-sizes").unwrap();
    for expected in ["320x192: 4", "192x320: 2", "320x256: 2", "320x224: 2", "256x320: 2", "320x320: 2", "320x160: 2"] {
        assert!(used.contains(expected), "{used}");
    }
    assert!(used.contains("160x320: 2"), "{used}");
}

#[test]
fn results_do_not_depend_on_the_frames_before() {
    let part = |width: u32, height: u32| {
        format!(
            "videotestsrc pattern=ball num-buffers=3 ! \
             video/x-raw,format=I420,width={width},height={height},framerate=30/1 ! c."
        )
    };
    // With the smallest memory limit a worker keeps two sessions, so that each size replaces another.
    let run_all = |sizes: &[(u32, u32)], settings: &str| {
        let parts: Vec<String> = sizes.iter().map(|&(width, height)| part(width, height)).collect();
        let launch =
            format!("{} concat name=c ! {DETECT} {settings} confidence-threshold=0.02 ! vxjsonenc", parts.join(" "));
        let lines = run(&launch).json();
        lines
            .iter()
            .map(|line| (line["width"].clone(), line["height"].clone(), line["detections"].clone()))
            .collect::<Vec<_>>()
    };
    let sizes = [(640, 360), (360, 640), (640, 480), (400, 400), (640, 160), (640, 360), (360, 640), (400, 400)];
    let alone: Vec<_> = sizes.iter().flat_map(|size| run_all(std::slice::from_ref(size), "")).collect();
    assert_eq!(alone.len(), 3 * sizes.len());
    assert!(alone.iter().any(|frame| !frame.2.as_array().unwrap().is_empty()), "nothing is detected");
    assert_eq!(run_all(&sizes, "sessions=1"), alone);
    assert_eq!(run_all(&sizes, "sessions=1 memory-limit=20000000"), alone);
}

#[test]
fn a_model_that_is_not_the_same_at_another_size_runs_at_its_own() {
    // The second stores the place of its box in the input: it finds it elsewhere when the frame is elsewhere.
    for (name, cause) in [("pose.onnx", "ScatterND"), ("v5_raw.onnx", "detects them elsewhere")] {
        let model = common::root().join("tests/models").join(name);
        let (stats, lines) = sized(640, 160, &format!("model-file={}", quoted(&model)));
        let reason = stats.get::<String>("refused-input-size").unwrap();
        assert!(reason.starts_with("not at 64x") && reason.contains(cause), "{name}: {reason}");
        assert_eq!(stats.get::<&str>("input-sizes").unwrap(), "64x64: 3", "{name}");
        let (_, expected) = sized(640, 160, &format!("model-file={} input-size=model", quoted(&model)));
        assert_eq!(lines, expected, "{name}");
        assert!(!lines[0]["detections"].as_array().unwrap().is_empty(), "{name}");
    }
}

#[test]
fn results_of_other_tasks_are_written_through_metas_into_the_lines() {
    let source = "videotestsrc num-buffers=1 pattern=red ! video/x-raw,format=I420,width=128,height=128";
    let line = |name: &str| {
        let model = common::root().join("tests/models").join(name).with_extension("onnx");
        let lines = run(&format!("{source} ! {DETECT} meta=roi model-file={} ! vxjsonenc", quoted(&model))).json();
        lines[0]["detections"][0].clone()
    };
    assert_eq!(line("pose")["keypoints"], serde_json::json!([[32.0, 16.0, 0.5], [96.0, 80.0, 1.0]]));
    let turned: [f64; 5] = serde_json::from_value(line("obb")["rotated_box"].clone()).unwrap();
    assert_eq!(turned[..4], [64.0, 48.0, 64.0, 64.0]);
    assert!((turned[4] - std::f64::consts::FRAC_PI_2).abs() < 1e-3);
    let mask = &line("segment")["mask"];
    assert_eq!(mask["size"], serde_json::json!([8, 8]));
    let counts: Vec<u64> = serde_json::from_value(mask["counts"].clone()).unwrap();
    assert_eq!((counts[0], counts.iter().sum::<u64>()), (0, 64));
    assert_eq!(line("classify")["label"], "c2");
    assert!(line("detr_sized").get("keypoints").is_none());
}

#[test]
fn a_header_line_describes_the_detector() {
    let outcome =
        run(&format!("filesrc location={} ! vxkeyframedec ! {DETECT} ! vxjsonenc header=true", quoted(&clip())));
    let map = outcome.samples[0].buffer().unwrap().map_readable().unwrap();
    let lines: Vec<Value> = map
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    let [header, first] = &lines[..] else { panic!("{lines:?}") };
    let about = &header["header"];
    assert!(about["file"].as_str().unwrap().ends_with("scenes.mp4"));
    let detector = &about["detector"];
    assert_eq!((&detector["provider"], &detector["layout"]), (&"CPUExecutionProvider".into(), &"v8".into()));
    assert_eq!((&detector["device"], &detector["fallback"]), (&"CPU".into(), &Value::Null));
    assert_eq!(detector["input_size"], "auto");
    assert!(first.get("header").is_none() && first.get("detections").is_some());
    let map = outcome.samples[1].buffer().unwrap().map_readable().unwrap();
    assert_eq!(map.iter().filter(|byte| **byte == b'\n').count(), 1);
}

/// Returns a launch line with a model that finds class 2 with confidence 0.75 in every frame.
fn class_two() -> String {
    let model = common::root().join("tests/models/yolo_nas.onnx");
    format!(
        "filesrc location={} ! vxkeyframedec name=decoder ! {DETECT} name=detector model-file={}",
        quoted(&clip()),
        quoted(&model)
    )
}

/// Calls `change` with the element `name` before each frame enters `pad`, with the frame's number.
fn on_frame(
    pipeline: &gst::Pipeline,
    name: &str,
    pad: &str,
    change: impl Fn(&gst::Element, usize) + Send + Sync + 'static,
) {
    let element = pipeline.by_name(name).unwrap();
    let counter = std::sync::atomic::AtomicUsize::new(0);
    let weak = element.downgrade();
    element.static_pad(pad).unwrap().add_probe(gst::PadProbeType::BUFFER, move |_pad, _info| {
        let number = counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        change(&weak.upgrade().unwrap(), number);
        gst::PadProbeReturn::Ok
    });
}

/// Returns the number of detections in each line.
fn counts(lines: &[Value]) -> Vec<usize> {
    lines.iter().map(|line| line["detections"].as_array().unwrap().len()).collect()
}

/// Returns the warnings, except the one that this model finds the same boxes in every picture.
fn refusals(outcome: &common::Outcome) -> Vec<&String> {
    outcome.warnings.iter().filter(|warning| !warning.contains("exactly the same boxes")).collect()
}

#[test]
fn classes_and_regions_can_change_while_playing() {
    let (pipeline, sink) = pipeline(&format!("{} ! vxjsonenc", class_two()));
    on_frame(&pipeline, "detector", "sink", |detector, number| match number {
        3 => detector.set_property("classes", "1"),
        6 => detector.set_property("classes", "1, 2"),
        8 => detector.set_property("region-of-interest", "0,0,0.5,0.5"),
        10 => {
            detector.set_property("classes", "dragon");
            detector.set_property("region-of-interest", "everywhere");
            assert_eq!(detector.property::<String>("classes"), "1, 2", "what is wrong is not taken");
            assert_eq!(detector.property::<String>("region-of-interest"), "0,0,0.5,0.5");
        }
        12 => detector.set_property("classes", None::<String>),
        _ => {}
    });
    let outcome = play(&pipeline, &sink);
    let lines = outcome.json();
    assert_eq!(counts(&lines), [1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    let width = |line: &Value| line["detections"][0]["box"][2].as_f64().unwrap();
    assert!(width(&lines[8]) < width(&lines[7]) * 0.6, "{} {}", lines[7], lines[8]);
    let refused = refusals(&outcome);
    let [classes, region] = refused.as_slice() else { panic!("{:?}", outcome.warnings) };
    assert!(classes.contains("dragon") && classes.contains("is unchanged"), "{classes}");
    assert!(region.contains("everywhere") && region.contains("is unchanged"), "{region}");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn invalid_changes_while_playing_are_refused_with_a_warning() {
    let (pipeline, sink) = pipeline(&class_two());
    let names = [("decoder", "stream-index"), ("detector", "sessions")];
    for (element, property) in names {
        on_frame(&pipeline, element, "src", move |element, number| {
            if number == 2 {
                element.set_property_from_str(property, "7");
            }
        });
    }
    let outcome = play(&pipeline, &sink);
    assert!(outcome.error.is_none() && outcome.samples.len() == 16, "{:?}", outcome.error);
    for (element, property) in names {
        let warning = outcome.warnings.iter().find(|text| text.contains(property)).unwrap();
        assert!(warning.contains(element) && warning.contains("READY"), "{warning}");
    }
    assert_eq!(refusals(&outcome).len(), 2, "{:?}", outcome.warnings);
    let detector = pipeline.by_name("detector").unwrap();
    assert_eq!(detector.property::<u32>("sessions"), 0);
    pipeline.set_state(gst::State::Ready).unwrap();
    detector.set_property("sessions", 7_u32);
    assert_eq!(detector.property::<u32>("sessions"), 7);
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn thresholds_follow_a_control_binding() {
    use gst_controller::prelude::*;
    let (pipeline, sink) = pipeline(&format!("{} ! vxjsonenc", class_two()));
    let detector = pipeline.by_name("detector").unwrap();
    let source = gst_controller::InterpolationControlSource::new();
    source.set_mode(gst_controller::InterpolationMode::None);
    for (second, threshold) in [(0, 0.5), (4, 0.9), (10, 0.6)] {
        assert!(source.set(gst::ClockTime::from_seconds(second), threshold));
    }
    let binding = gst_controller::DirectControlBinding::new_absolute(&detector, "confidence-threshold", &source);
    detector.add_control_binding(&binding).unwrap();
    let lines = play(&pipeline, &sink).json();
    assert_eq!(counts(&lines), [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn the_minimum_interval_can_change_while_playing() {
    let (pipeline, sink) =
        pipeline(&format!("filesrc location={} ! vxkeyframedec name=decoder thread-count=1", quoted(&clip())));
    on_frame(&pipeline, "decoder", "src", |decoder, number| {
        if number == 3 {
            decoder.set_property("min-interval", 3_000_000_000_u64);
        }
    });
    let times = play(&pipeline, &sink).pts();
    assert!(times.starts_with(&[0, 1_000_000_000, 2_000_000_000, 3_000_000_000]), "{times:?}");
    assert!((6..=11).contains(&times.len()), "{times:?}");
    let last = times[times.len() - 1] - times[times.len() - 2];
    assert!(last >= 3_000_000_000, "{times:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

/// The time limit for a file expires while the model runs forever.
#[test]
fn an_element_stops_while_its_model_is_running() {
    let model = common::root().join("tests/models/endless.onnx");
    let launch =
        format!("filesrc location={} ! vxkeyframedec ! {DETECT} model-file={}", quoted(&clip()), quoted(&model));
    let (pipeline, _sink) = pipeline(&launch);
    pipeline.set_state(gst::State::Playing).unwrap();
    let (state, ..) = pipeline.state(gst::ClockTime::from_mseconds(500));
    assert!(state.is_ok());
    let started = std::time::Instant::now();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

/// Returns the lines of the clip's first frames, detected and then converted.
fn converted(model: &str, conversion: &str) -> common::Outcome {
    run(&format!(
        "filesrc location={} ! vxkeyframedec max-frames=2 ! vxyolodetect execution-provider=cpu {model} ! {conversion} ! vxjsonenc",
        quoted(&clip())
    ))
}

#[test]
fn detections_survive_converters_completely() {
    let pose =
        format!("model-file={} confidence-threshold=0.1", quoted(&common::root().join("tests/models/pose.onnx")));
    let turned =
        format!("model-file={} confidence-threshold=0.1", quoted(&common::root().join("tests/models/obb.onnx")));
    for model in ["", &*pose, &*turned] {
        let expected = converted(model, "identity").json();
        assert!(!expected[0]["detections"].as_array().unwrap().is_empty(), "{model}");
        for (conversion, scale) in [
            ("videoconvert ! video/x-raw,format=RGB", 1.0),
            ("videoscale ! video/x-raw,width=320,height=240", 0.5),
            ("videoscale ! video/x-raw,width=1280,height=960 ! videoconvert ! video/x-raw,format=NV12", 2.0),
        ] {
            let lines = converted(model, conversion).json();
            for (line, expected) in lines.iter().zip(&expected) {
                let detections = line["detections"].as_array().unwrap();
                let originals = expected["detections"].as_array().unwrap();
                assert_eq!(detections.len(), originals.len(), "{conversion}: {line}");
                for (found, original) in detections.iter().zip(originals) {
                    for same in ["label", "class_id", "confidence"] {
                        assert_eq!(found[same], original[same], "{conversion}: {found}");
                    }
                    let near = |field: &str, numbers: usize| {
                        let values = |detection: &serde_json::Value| -> Vec<f64> {
                            let list = detection[field].as_array().cloned().unwrap_or_default();
                            let flat = list.iter().flat_map(|value| {
                                value.as_array().map_or(vec![value.clone()], |point| point[..2].to_vec())
                            });
                            flat.take(numbers).map(|value| value.as_f64().unwrap()).collect()
                        };
                        let (found, original) = (values(found), values(original));
                        assert_eq!(found.len(), original.len(), "{conversion}: {field}");
                        let is_near = |(a, b): (&f64, &f64)| (a - b * scale).abs() < 0.05;
                        assert!(
                            found.iter().zip(&original).all(is_near),
                            "{conversion}: {field} {found:?}, {original:?}"
                        );
                    };
                    near("box", 4);
                    near("keypoints", usize::MAX);
                    near("rotated_box", 4);
                }
            }
        }
    }
}

#[test]
fn detections_dropped_by_an_element_are_counted_and_reported() {
    let outcome = converted("", "videocrop left=40 top=20");
    let lines = outcome.json();
    assert_eq!(
        (lines[0]["lost"].as_u64(), lines[0]["detections"].as_array().unwrap().len()),
        (Some(1), 0),
        "{}",
        lines[0]
    );
    assert_eq!(
        outcome.warnings.iter().filter(|warning| warning.contains("videocrop")).count(),
        1,
        "{:?}",
        outcome.warnings
    );
    assert!(converted("", "identity").json()[0].get("lost").is_none());
}

#[test]
fn frames_without_analysis_are_marked() {
    let lines = people("vxyolodetect execution-provider=cpu inference-interval=3");
    let looked: Vec<_> = lines.iter().map(|line| line.get("looked").is_none()).collect();
    assert!((0..lines.len()).all(|index| looked[index] == (index % 3 == 0)), "{looked:?}");
    assert!(lines.iter().all(|line| line["looked"] != serde_json::json!(true)));
    // The mark survives converters.
    let lines =
        people("vxyolodetect execution-provider=cpu inference-interval=3 ! videoconvert ! video/x-raw,format=RGB");
    assert_eq!(
        lines.iter().filter(|line| line["looked"] == serde_json::json!(false)).count(),
        lines.len() - lines.len().div_ceil(3)
    );
}

#[test]
fn copies_from_videorate_have_the_detections_of_their_original() {
    let lines = people("videorate ! video/x-raw,framerate=2/1 ! vxyolodetect execution-provider=cpu");
    let copies: Vec<_> = lines.windows(2).filter(|pair| pair[1].get("looked").is_some()).collect();
    assert!(copies.len() > lines.len() / 3, "{} of {}", copies.len(), lines.len());
    for pair in copies {
        assert_eq!(pair[0]["detections"], pair[1]["detections"]);
    }
    assert!(
        lines.iter().any(|line| line.get("looked").is_some() && !line["detections"].as_array().unwrap().is_empty())
    );
}
