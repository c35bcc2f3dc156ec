// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leaks: after a pipeline has ended, in whatever way, no element, pad, buffer, event or message of it is alive. GStreamer's tracer
//! `leaks` counts them. `make leaks` also runs a pipeline under valgrind.
//!
//! The tracer reports at the end of a process, so the test starts itself again for each way to end.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{PATIENCE, clip, init, made, piped, pipeline, play, quoted, root, scratch};
use gst::prelude::*;
use std::path::Path;
use std::process::Command;

/// Types whose objects must not remain. Caps and plugin features are kept by GStreamer itself.
const FILTERS: &str =
    "GstElement,GstPad,GstBuffer,GstBufferList,GstSample,GstEvent,GstMessage,GstQuery,GstBus,GstBufferPool";

/// The number of the way to end, in a process of its own.
const NUMBER: &str = "VX_LEAKS_NUMBER";

const DETECTOR: &str = "vxyolodetect execution-provider=cpu";

fn decoded(file: &Path) -> String {
    format!("filesrc location={} ! vxkeyframedec", quoted(file))
}

fn all_elements(file: &Path) -> String {
    format!("{} ! {DETECTOR} post-messages=true ! vxoverlay redact=person ! vxjsonenc", decoded(file))
}

/// Runs to the end, or to an error.
fn to_the_end(launch: &str) {
    let (pipeline, sink) = pipeline(launch);
    drop(play(&pipeline, &sink));
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Stops after so many buffers.
fn stopped_after(launch: &str, buffers: usize) {
    let (pipeline, sink) = pipeline(launch);
    let started = pipeline.set_state(gst::State::Playing);
    assert!(started.is_ok(), "{launch}: {:?}", pipeline.bus().unwrap().pop_filtered(&[gst::MessageType::Error]));
    for _ in 0..buffers {
        assert!(sink.try_pull_sample(gst::ClockTime::from_seconds(PATIENCE.as_secs())).is_some(), "{launch}");
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Seeks, and flushes, while frames are in flight.
fn sought(launch: &str) {
    let (pipeline, sink) = pipeline(launch);
    pipeline.set_state(gst::State::Playing).unwrap();
    for seconds in [3, 1, 7] {
        assert!(sink.try_pull_sample(gst::ClockTime::from_seconds(PATIENCE.as_secs())).is_some(), "{launch}");
        pipeline.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::from_seconds(seconds)).unwrap();
    }
    drop(play(&pipeline, &sink));
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Refuses the second buffer behind the element called `name`.
fn refused(launch: &str, name: &str, flow: gst::FlowError) {
    let (pipeline, sink) = pipeline(launch);
    let count = std::sync::atomic::AtomicUsize::new(0);
    let (sender, refusals) = std::sync::mpsc::channel();
    let pad = pipeline.by_name(name).unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            return gst::PadProbeReturn::Ok;
        }
        info.flow_res = Err(flow);
        let _ = sender.send(());
        gst::PadProbeReturn::Handled
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    refusals.recv_timeout(PATIENCE).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    drop(sink);
}

type Way = (&'static str, Box<dyn Fn()>);

/// Returns the ways in which pipelines end, with the same numbers in each process.
fn ways() -> Vec<Way> {
    fn way(name: &'static str, run: impl Fn() + 'static) -> Way {
        (name, Box::new(run))
    }
    let made = |name: &str| scratch_folder().join(name);
    let [mp4, mkv, ts, broken, list] = ["a.mp4", "b.mkv", "c.ts", "broken.mp4", "list.txt"].map(made);
    let rotated = root().join("tests/media/vga_portrait_unlabelled.mp4");
    let (all, manifest) = (all_elements(&mp4), root().join("Cargo.toml"));
    let named = format!(
        "{} name=decoder ! {DETECTOR} name=detector ! vxoverlay name=overlay ! vxjsonenc name=lines",
        decoded(&mp4)
    );
    let bin = format!("vxbulkbin execution-provider=cpu lanes=2 file-list={}", list.display());
    let detected = format!("{} ! {DETECTOR}", decoded(&mp4));
    let live = format!("videotestsrc is-live=true ! video/x-raw,width=320,height=180 ! {DETECTOR}");
    let units = format!("filesrc location={} ! matroskademux ! h264parse ! vxkeyframedec ! {DETECTOR}", quoted(&mkv));
    let scaled = format!("{detected} ! videoscale ! video/x-raw,width=200,height=100 ! vxoverlay ! vxjsonenc");
    let converted = format!("{} ! video/x-raw,format=RGB ! {DETECTOR}", decoded(&mp4));
    let (between, no_model) =
        (format!("{} max-gap=100000000", decoded(&mp4)), format!("{detected} model-file=/nowhere"));
    let (dropping, skipping) = (format!("{live} when-late=drop"), format!("{live} when-late=skip ! vxjsonenc"));
    let flight = format!("{detected} max-inflight=8");
    let mut ways = vec![
        // The tracer sees what is not freed.
        way("a buffer that is kept", || std::mem::forget(gst::Buffer::new())),
        way("the end of an mp4 file", {
            let all = all.clone();
            move || to_the_end(&all)
        }),
        way("the end of an mkv file", move || to_the_end(&all_elements(&mkv))),
        way("the end of a pipe", move || to_the_end(&format!("{} ! vxkeyframedec ! {DETECTOR}", piped(&ts)))),
        way("a rotated recording", move || to_the_end(&all_elements(&rotated))),
        way("a damaged file", move || to_the_end(&all_elements(&broken))),
        way("a file that is missing", || to_the_end(&all_elements(Path::new("/nowhere.mp4")))),
        way("a file that is not a video", move || to_the_end(&all_elements(&manifest))),
        way("frames between keyframes", move || to_the_end(&between)),
        way("access units of a demuxer", move || to_the_end(&units)),
        way("converted frames", move || to_the_end(&converted)),
        way("metas behind a scaler", move || to_the_end(&scaled)),
        way("a model that is missing", move || to_the_end(&no_model)),
        way("a live source", move || stopped_after(&skipping, 3)),
        way("late frames that are dropped", move || stopped_after(&dropping, 2)),
        way("many files", {
            let bin = bin.clone();
            move || to_the_end(&bin)
        }),
        way("many files, stopped", move || stopped_after(&bin, 2)),
        way("seeks", move || sought(&flight)),
    ];
    for buffers in [0, 1, 3] {
        let all = all.clone();
        ways.push(way("a stop", move || stopped_after(&all, buffers)));
    }
    for name in ["decoder", "detector", "overlay", "lines"] {
        for flow in [gst::FlowError::Eos, gst::FlowError::Flushing, gst::FlowError::Error] {
            let named = named.clone();
            ways.push(way("a refusal", move || refused(&named, name, flow)));
        }
    }
    ways
}

/// Returns the folder with the files, which all processes of this test use.
fn scratch_folder() -> std::path::PathBuf {
    std::env::var_os(NUMBER).map_or_else(|| scratch("files"), |value| Path::new(&value).parent().unwrap().to_owned())
}

/// Creates the files.
fn make_files() {
    std::fs::create_dir_all(scratch("files")).unwrap();
    let source = clip();
    for name in ["a.mp4", "b.mkv", "c.ts"] {
        let how = [
            "-i",
            source.to_str().unwrap(),
            "-t",
            "5",
            "-an",
            "-s",
            "320x180",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "12",
        ];
        made(&format!("files/{name}"), &how);
    }
    let folder = scratch("files");
    let mut bytes = std::fs::read(folder.join("a.mp4")).unwrap();
    let (middle, end) = (bytes.len() / 2, bytes.len() - 5000);
    bytes[middle..end].fill(0x55);
    std::fs::write(folder.join("broken.mp4"), bytes).unwrap();
    let names =
        ["a.mp4", "b.mkv", "broken.mp4", "c.ts", "missing.mp4"].map(|name| folder.join(name).display().to_string());
    std::fs::write(folder.join("list.txt"), names.join("\n")).unwrap();
}

#[test]
fn nothing_remains_alive_after_pipelines_that_end_in_all_ways() {
    if let Some(value) = std::env::var_os(NUMBER) {
        init();
        let number: usize = Path::new(&value).file_name().unwrap().to_str().unwrap().parse().unwrap();
        ways()[number].1();
        // SAFETY: nothing of GStreamer is used after this, and the pipelines have ended.
        unsafe { gst::deinit() };
        return;
    }
    make_files();
    if !Command::new("gst-inspect-1.0").arg("coretracers").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: GStreamer's tracer `leaks` is not installed");
        return;
    }
    for (number, (what, _)) in ways().iter().enumerate() {
        let log = scratch("leaks.log");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "nothing_remains_alive_after_pipelines_that_end_in_all_ways", "--nocapture"])
            .env(NUMBER, scratch("files").join(number.to_string()))
            .env("GST_TRACERS", format!("leaks(filters=\"{FILTERS}\")"))
            .env("GST_DEBUG", "GST_TRACER:7")
            .env("GST_DEBUG_FILE", &log);
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n");
        assert!(output.status.success() && text.contains("1 passed"), "{number}, {what}: {}\n{text}", output.status);
        let log = std::fs::read_to_string(log).unwrap();
        let alive: Vec<&str> =
            log.lines().filter(|line| line.contains("object-alive, type-name=(string)Gst")).collect();
        assert_eq!(alive.len(), usize::from(number == 0), "{number}, {what}: {}\n{text}", alive.join("\n"));
    }
}
