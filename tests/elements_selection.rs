// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests which frames `vxkeyframedec` outputs: intervals, counts, gaps, streams, limits.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{clip, made, pipeline, planes, play, quoted, run};
use gst::prelude::*;
use serde_json::Value;

const SECOND: u64 = 1_000_000_000;

/// Returns the times of the frames of `file` in milliseconds; frames between keyframes have negative times.
fn times(file: &std::path::Path, properties: &str) -> Vec<i64> {
    let lines = run(&format!("filesrc location={} ! vxkeyframedec {properties} ! vxjsonenc", quoted(file))).json();
    let time = |line: &Value| line["pts_ns"].as_i64().unwrap() / 1_000_000;
    lines.iter().map(|line| if line["keyframe"] == false { -time(line) } else { time(line) }).collect()
}

fn encoded(name: &str, arguments: &[&str]) -> std::path::PathBuf {
    let source = clip();
    made(name, &[&["-i", source.to_str().unwrap(), "-an", "-preset", "ultrafast"], arguments].concat())
}

#[test]
fn keyframes_that_follow_too_closely_are_skipped() {
    // One keyframe per second.
    let interval = |ns| format!("min-interval={ns}");
    let containers = [clip(), encoded("interval.mkv", &["-c", "copy"]), encoded("interval.ts", &["-c", "copy"])];
    for file in containers {
        assert_eq!(times(&file, &interval(SECOND)).len(), 16, "{file:?}");
        for ns in [SECOND + 1, 2 * SECOND] {
            let found = times(&file, &interval(ns));
            assert_eq!(found.len(), 8, "{file:?}: {found:?}");
            assert!(found.windows(2).all(|pair| pair[1] - pair[0] == 2000), "{file:?}: {found:?}");
        }
        assert_eq!(times(&file, &interval(5 * SECOND)).len(), 4, "{file:?}");
        assert_eq!(times(&file, &interval(u64::MAX)).len(), 1, "{file:?}");
    }
}

#[test]
fn skipped_keyframes_are_not_read_from_an_indexed_file() {
    let read = |properties: &str| {
        let launch = format!("filesrc location={} ! vxkeyframedec name=dec {properties}", quoted(&clip()));
        let (pipeline, sink) = common::pipeline(&launch);
        assert!(common::play(&pipeline, &sink).error.is_none());
        let stats: gst::Structure =
            gst::prelude::ObjectExt::property(&gst::prelude::GstBinExt::by_name(&pipeline, "dec").unwrap(), "stats");
        gst::prelude::ElementExt::set_state(&pipeline, gst::State::Null).unwrap();
        stats.get::<u64>("bytes-read").unwrap()
    };
    let all = read("");
    assert!(read("min-interval=4000000000") < all * 2 / 3);
    assert!(read("max-frames=1") < all / 2);
}

#[test]
fn the_requested_number_of_frames_is_output() {
    for count in [1, 3, 16, 99] {
        for threads in [1, 4] {
            let found = times(&clip(), &format!("max-frames={count} thread-count={threads}"));
            assert_eq!(found.len(), count.min(16), "{found:?}");
        }
    }
    let found = times(&clip(), "max-frames=2 min-interval=3000000000");
    assert_eq!(found, [0, 3000]);
    let found = times(&clip(), "max-frames=4 max-gap=300000000");
    assert_eq!(found, [0, -320, -640, -960]);
}

#[test]
fn a_long_gap_is_filled_with_frames_between_keyframes() {
    // One keyframe, 25 frames per second, with B-frames.
    let one_gop =
        encoded("one_gop.mp4", &["-c:v", "libx264", "-bf", "2", "-x264-params", "keyint=infinite:scenecut=0"]);
    assert_eq!(times(&one_gop, ""), [0]);
    for file in [
        &one_gop,
        &encoded("one_gop.mkv", &["-c:v", "libx265", "-x265-params", "log-level=error:keyint=-1:scenecut=0"]),
    ] {
        let found = times(file, "max-gap=3000000000");
        assert_eq!(found, [0, -3000, -6000, -9000, -12000, -15000], "{file:?}");
    }
    assert_eq!(times(&clip(), "max-gap=1000000000").iter().filter(|time| **time < 0).count(), 0);
    let found = times(&clip(), "max-gap=600000000");
    assert_eq!(found[..4], [0, -600, 1000, -1600]);
    assert_eq!(found.len(), 32);
}

#[test]
fn equal_interval_and_gap_sample_at_a_steady_rate() {
    let sampled = |file: &std::path::Path| times(file, "min-interval=1000000000 max-gap=1000000000");
    let of_gop = |frames: &str| {
        let x264 = format!("keyint={frames}:min-keyint={frames}:scenecut=0");
        encoded(&format!("gop_{frames}.mp4"), &["-c:v", "libx264", "-bf", "2", "-x264-params", &x264])
    };
    // 25 frames per second. Keyframes every 0.4 s are close enough together: no frame between them is decoded.
    let found = sampled(&of_gop("10"));
    assert!(found.windows(2).all(|pair| pair[1] - pair[0] == 1200) && found[0] == 0 && found.len() == 14, "{found:?}");
    // Every 1.68 s: a keyframe that follows a gap frame too closely is skipped.
    assert_eq!(sampled(&of_gop("42"))[..5], [0, -1000, -2000, -3000, -4000]);
    // Every 3 s, where the next due frame is a keyframe.
    assert_eq!(sampled(&of_gop("75"))[..7], [0, -1000, -2000, 3000, -4000, -5000, 6000]);
    assert_eq!(sampled(&of_gop("250"))[..3], [0, -1000, -2000]);
}

#[test]
fn a_recording_without_keyframes_produces_frames() {
    let file = encoded("refresh.ts", &["-c:v", "libx264", "-x264-params", "intra-refresh=1:keyint=50:scenecut=0"]);
    let found = times(&file, "max-gap=2000000000");
    let times: Vec<i64> = found.iter().map(|time| time.abs()).collect();
    assert!(times.len() >= 7 && times.windows(2).all(|pair| (1..=2040).contains(&(pair[1] - pair[0]))), "{found:?}");
}

#[test]
fn frames_between_keyframes_match_a_full_decode() {
    let file = encoded("gap.mp4", &["-c:v", "libx264", "-g", "100", "-sc_threshold", "0", "-bf", "3"]);
    let whole = made(
        "gap.yuv",
        &["-i", file.to_str().unwrap(), "-vf", "select='not(mod(n,50))'", "-vsync", "passthrough", "-f", "rawvideo"],
    );
    let expected = std::fs::read(whole).unwrap();
    let outcome = run(&format!("filesrc location={} ! vxkeyframedec max-gap=2000000000", quoted(&file)));
    let found: Vec<u8> = outcome.samples.iter().flat_map(common::pixels).collect();
    assert!(found == expected, "{} and {} bytes", found.len(), expected.len());
    let flags = |sample: &gst::Sample| sample.buffer().unwrap().flags().contains(gst::BufferFlags::DELTA_UNIT);
    assert_eq!(
        outcome.samples.iter().map(flags).collect::<Vec<_>>(),
        [false, true, false, true, false, true, false, true]
    );
}

/// A picture that is too large costs only itself, as a keyframe and as the beginning of a gap.
#[test]
fn a_gap_that_begins_with_a_picture_over_the_size_limit_is_damage() {
    let part = |start: &str, size: &str| {
        let how = ["-t", "4", "-s", size, "-c:v", "mpeg4", "-g", "50", "-output_ts_offset", start];
        std::fs::read(encoded(&format!("from_{start}.ts"), &how)).unwrap()
    };
    let file = common::scratch("sizes.ts");
    std::fs::write(&file, [part("0", "160x120"), part("4", "640x480"), part("8", "160x120")].concat()).unwrap();
    let outcome =
        run(&format!("filesrc location={} ! vxkeyframedec max-gap=1000000000 max-pixels=100000", quoted(&file)));
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(outcome.samples.len(), 8, "{:?}", outcome.warnings);
    let damage = outcome.warnings.iter().filter(|text| text.contains("damaged data"));
    assert!(damage.count() > 2, "{:?}", outcome.warnings);
}

/// Removes all slices but the first of each picture of an H.265 stream (ITU-T H.265 7.3.1, 7.3.6.1), except in its keyframes.
fn without_later_slices(stream: &[u8]) -> Vec<u8> {
    let starts: Vec<_> = memchr::memmem::find_iter(stream, &[0, 0, 1]).chain([stream.len()]).collect();
    let units = starts.windows(2).map(|range| &stream[range[0]..range[1]]);
    let is_later_slice = |unit: &&[u8]| (unit[3] >> 1 & 63) < 16 && unit[5] & 0x80 == 0;
    units.filter(|unit| !is_later_slice(unit)).collect::<Vec<_>>().concat()
}

#[test]
fn frames_in_gaps_of_which_parts_are_missing_are_reported() {
    let x265 = ["-c:v", "libx265", "-x265-params", "log-level=error:keyint=-1:scenecut=0:bframes=0:slices=4"];
    let whole = encoded("slices.hevc", &[&["-t", "4", "-s", "640x480"][..], &x265].concat());
    let cut = common::scratch("later_slices_missing.hevc");
    std::fs::write(&cut, without_later_slices(&std::fs::read(&whole).unwrap())).unwrap();
    let corrupt = |raw: &std::path::Path, name: &str| {
        let file = made(name, &["-framerate", "25", "-i", raw.to_str().unwrap(), "-c", "copy"]);
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec max-gap=1000000000", quoted(&file)));
        let is_corrupt = |sample: &gst::Sample| sample.buffer().unwrap().flags().contains(gst::BufferFlags::CORRUPTED);
        outcome.samples.iter().map(is_corrupt).collect::<Vec<_>>()
    };
    assert_eq!(corrupt(&whole, "slices.mkv"), [false; 4]);
    assert_eq!(corrupt(&cut, "later_slices_missing.mkv"), [false, true, true, true]);
}

#[test]
fn any_video_stream_of_a_file_can_be_selected() {
    let source = clip();
    let source = source.to_str().unwrap();
    let two = made(
        "two.mkv",
        &[
            "-i", source, "-i", source, "-map", "0:v", "-map", "1:v", "-c:v:0", "copy", "-c:v:1", "mpeg4", "-s:v:1",
            "320x240",
        ],
    );
    let width = |properties: &str| {
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec {properties}", quoted(&two)));
        outcome.samples[0].caps().unwrap().structure(0).unwrap().get::<i32>("width").unwrap()
    };
    assert_eq!((width(""), width("stream-index=0"), width("stream-index=1")), (640, 640, 320));
    let error = run(&format!("filesrc location={} ! vxkeyframedec stream-index=2", quoted(&two))).error_text();
    assert!(error.contains("stream 2 is not a video stream") && error.contains("video in 0, 1"), "{error}");
}

#[test]
fn a_picture_over_the_size_limit_is_refused() {
    let pictures = [clip(), made("large.png", &["-f", "lavfi", "-i", "color=s=640x480", "-frames:v", "1"])];
    for file in pictures {
        let error = run(&format!("filesrc location={} ! vxkeyframedec max-pixels=307199", quoted(&file))).error_text();
        assert!(error.contains("max-pixels"), "{error}");
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec max-pixels=307200", quoted(&file)));
        assert!(outcome.error.is_none() && !outcome.samples.is_empty(), "{outcome:?}");
    }
}

#[test]
fn a_stalled_upstream_causes_a_timeout_error() {
    let started = std::time::Instant::now();
    let error = run("appsrc is-live=true ! vxkeyframedec io-timeout=200000000").error_text();
    assert!(error.contains("delivered nothing for 0.2 s (io-timeout)"), "{error}");
    assert!(started.elapsed() < common::PATIENCE / 4);
}

#[test]
fn missing_hardware_causes_an_error_or_a_software_fallback() {
    let file = quoted(&clip());
    let software = run(&format!("filesrc location={file} ! vxkeyframedec"));
    let (automatic, sink) = pipeline(&format!("filesrc location={file} ! vxkeyframedec name=dec hardware=auto"));
    let bus = automatic.bus().unwrap();
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = told.clone();
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::Info(info) = message.view() {
            heard.lock().unwrap().push(format!("{} {:?}", info.error(), info.debug()));
        }
        gst::BusSyncReply::Pass
    });
    let outcome = play(&automatic, &sink);
    let stats: gst::Structure = automatic.by_name("dec").unwrap().property("stats");
    automatic.set_state(gst::State::Null).unwrap();
    assert_eq!(outcome.pts(), software.pts());
    let told = std::mem::take(&mut *told.lock().unwrap());
    if stats.get::<&str>("hardware").unwrap() == "none" {
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("decoded by the processor") && told[0].contains("cuda"), "{told:?}");
        let same = |(a, b): (&gst::Sample, &gst::Sample)| common::pixels(a) == common::pixels(b);
        assert!(outcome.samples.iter().zip(&software.samples).all(same));
    } else {
        assert!(told.is_empty(), "{told:?}");
    }
    // This API does not exist on Linux.
    let text = run(&format!("filesrc location={file} ! vxkeyframedec hardware=dxva2")).error_text();
    let expected = ["scenes.mp4", "dxva2 cannot decode this file", "hardware=auto"];
    assert!(expected.iter().all(|part| text.contains(part)), "{text}");
    let text =
        run(&format!("filesrc location={file} ! vxkeyframedec hardware=vaapi hardware-device=/dev/null")).error_text();
    assert!(text.contains("/dev/null"), "{text}");
}

#[test]
fn the_loop_filter_is_skipped_on_request_only() {
    let frames = |properties: &str| -> Vec<Vec<u8>> {
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec {properties}", quoted(&clip())));
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        outcome.samples.iter().map(planes).collect()
    };
    let by_ffmpeg = |name: &str, skipped: &str| {
        let source = clip();
        let decode =
            ["-skip_loop_filter", skipped, "-i", source.to_str().unwrap(), "-map", "0:v:0", "-vf", "select=key"];
        std::fs::read(made(name, &[&decode[..], &["-vsync", "passthrough", "-f", "rawvideo"]].concat())).unwrap()
    };
    let (filtered, unfiltered) = (frames("skip-loop-filter=none"), frames("skip-loop-filter=all"));
    assert_eq!(filtered.len(), 16);
    assert!(filtered.concat() == by_ffmpeg("filtered.raw", "none"), "the complete decode differs from FFmpeg's");
    assert!(
        unfiltered.concat() == by_ffmpeg("unfiltered.raw", "all"),
        "the decode without filter differs from FFmpeg's"
    );
    assert!(filtered != unfiltered, "the filter changes nothing");
    assert!(filtered == frames(""), "the filter is skipped by default");
}

/// A clip whose edit list begins long after the keyframe that its first frames need.
#[test]
fn a_clip_that_begins_too_far_behind_its_keyframe_begins_at_the_next_one() {
    let source = ["-f", "lavfi", "-i", "color=gray:size=16x16:rate=100:duration=54"];
    // Keyframes at 0 and 52.5 s.
    let x264 = "keyint=10000:scenecut=0:bframes=0:threads=1";
    let how = ["-c:v", "libx264", "-preset", "ultrafast", "-x264-params", x264, "-force_key_frames", "52.5"];
    let whole = made("lead_in_whole.mp4", &[&source[..], &how].concat());
    let clip_from = |start: &str| {
        let name = format!("lead_in_{start}.mp4");
        let file = made(&name, &["-ss", start, "-i", whole.to_str().unwrap(), "-c", "copy"]);
        run(&format!("filesrc location={} ! vxkeyframedec", quoted(&file)))
    };
    let times = |outcome: &common::Outcome| {
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        outcome.pts().iter().map(|pts| pts / 1_000_000).collect::<Vec<_>>()
    };
    let near = clip_from("49.5");
    assert_eq!((times(&near), near.warnings.len()), (vec![0, 3000], 0), "{:?}", near.warnings);
    let far = clip_from("50.5");
    assert_eq!(times(&far), [2000]);
    assert!(far.warnings.iter().any(|text| text.contains("damaged data")), "{:?}", far.warnings);
}
