// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests many elements that open files at the same time: a blocked upstream delays only the elements behind it, and every wait ends
//! in time.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::time::{Duration, Instant};

use common::{clip, made, pipeline, play, quoted, run};
use gst::prelude::*;

/// Much longer than a wait that ends immediately takes, and much shorter than one that does not.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn an_upstream_without_data_does_not_delay_other_elements() {
    // One source has sent nothing, another one a part of the index: here FFmpeg is inside its opening call.
    let index_first = made("opening.mp4", &["-i", clip().to_str().unwrap(), "-c", "copy", "-movflags", "+faststart"]);
    let head = std::fs::read(index_first).unwrap()[..600].to_vec();
    let stalled: Vec<_> = [Vec::new(), head]
        .into_iter()
        .map(|bytes| {
            let (pipeline, _sink) = pipeline("appsrc name=source ! vxkeyframedec");
            let source = pipeline.by_name("source").unwrap().downcast::<gst_app::AppSrc>().unwrap();
            if !bytes.is_empty() {
                source.push_buffer(gst::Buffer::from_slice(bytes)).unwrap();
            }
            pipeline.set_state(gst::State::Playing).unwrap();
            pipeline
        })
        .collect();
    std::thread::sleep(Duration::from_millis(100));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&clip())));
                assert_eq!(outcome.samples.len(), 16);
            });
        }
    });
    for pipeline in stalled {
        let started = Instant::now();
        pipeline.set_state(gst::State::Null).unwrap();
        assert!(started.elapsed() < SOON);
    }
}

#[test]
fn sixty_four_elements_open_at_once() {
    let stats: Vec<gst::Structure> = std::thread::scope(|scope| {
        let threads = (0..64).map(|_| {
            scope.spawn(|| {
                let launch = format!("filesrc location={} ! vxkeyframedec name=dec thread-count=1", quoted(&clip()));
                let (pipeline, sink) = pipeline(&launch);
                let outcome = play(&pipeline, &sink);
                let stats = pipeline.by_name("dec").unwrap().property("stats");
                pipeline.set_state(gst::State::Null).unwrap();
                assert_eq!(outcome.samples.len(), 16);
                stats
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let held = stats.iter().map(|stats| stats.get::<u64>("lock-hold-time").unwrap());
    assert!(held.min().unwrap() > 0);
    assert!(stats.iter().all(|stats| stats.get::<u64>("lock-wait-time").is_ok()));
}

#[test]
fn a_range_that_never_arrives_causes_an_error_in_time() {
    let bytes = std::fs::read(clip()).unwrap();
    for delivered in [0, 20_000] {
        let launch = "appsrc name=source stream-type=random-access ! vxkeyframedec name=dec io-timeout=300000000";
        let (pipeline, sink) = pipeline(launch);
        let source = pipeline.by_name("source").unwrap().downcast::<gst_app::AppSrc>().unwrap();
        source.set_size(bytes.len() as i64);
        let position = std::sync::Arc::new(std::sync::Mutex::new(0));
        let (sought, wanted, head) = (position.clone(), position, bytes[..delivered].to_vec());
        let callbacks = gst_app::AppSrcCallbacks::builder()
            .seek_data(move |_, offset| {
                *sought.lock().unwrap() = offset as usize;
                true
            })
            .need_data(move |source, length| {
                let from = *wanted.lock().unwrap();
                let range = head.get(from..head.len().min(from + length as usize));
                if let Some(range) = range.filter(|range| !range.is_empty()) {
                    let _ = source.push_buffer(gst::Buffer::from_slice(range.to_vec()));
                }
            });
        source.set_callbacks(callbacks.build());
        let started = Instant::now();
        let outcome = play(&pipeline, &sink);
        assert!(outcome.error_text().contains("within 0.3 s (io-timeout)"), "{}", outcome.error_text());
        assert!(started.elapsed() < SOON);
        let started = Instant::now();
        pipeline.set_state(gst::State::Null).unwrap();
        assert!(started.elapsed() < SOON);
    }
}

#[test]
fn a_stop_ends_every_wait() {
    let index_first = made("stopped.mp4", &["-i", clip().to_str().unwrap(), "-c", "copy", "-movflags", "+faststart"]);
    let bytes = std::fs::read(index_first).unwrap();
    // Before any data, in the index, between index and first keyframe, and between keyframes.
    for delivered in [0, 200, 6000, bytes.len() / 2] {
        let (pipeline, _sink) = pipeline("appsrc name=source ! vxkeyframedec");
        let source = pipeline.by_name("source").unwrap().downcast::<gst_app::AppSrc>().unwrap();
        if delivered > 0 {
            source.push_buffer(gst::Buffer::from_slice(bytes[..delivered].to_vec())).unwrap();
        }
        pipeline.set_state(gst::State::Playing).unwrap();
        std::thread::sleep(Duration::from_millis(150));
        let started = Instant::now();
        pipeline.set_state(gst::State::Null).unwrap();
        assert!(started.elapsed() < SOON, "{delivered} bytes");
    }
    // Downstream accepts no frames.
    let (pipeline, sink) = pipeline(&format!("filesrc location={} ! vxkeyframedec", quoted(&clip())));
    sink.set_max_buffers(1);
    pipeline.set_state(gst::State::Playing).unwrap();
    std::thread::sleep(Duration::from_millis(150));
    let started = Instant::now();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(started.elapsed() < SOON);
}

#[test]
fn a_stop_does_not_wait_for_a_picture_to_be_decoded() {
    let picture = ["-f", "lavfi", "-i", "testsrc2=size=8192x4320,noise=alls=30", "-frames:v", "1", "-c:v", "libx265"];
    let quickly = ["-preset", "ultrafast", "-x265-params", "log-level=error:qp=8"];
    let file = made("slow.mkv", &[&picture[..], &quickly].concat());
    for threads in ["thread-type=none", "threads=2"] {
        let launch = format!("filesrc location={} ! vxkeyframedec name=dec {threads}", quoted(&file));
        let (whole, sink) = pipeline(&launch);
        assert_eq!(play(&whole, &sink).samples.len(), 1);
        let stats: gst::Structure = whole.by_name("dec").unwrap().property("stats");
        whole.set_state(gst::State::Null).unwrap();
        let [open, decode] = ["open-time", "decode-time"].map(|name| {
            let time = stats.get::<gst::ClockTime>(name).map(gst::ClockTime::nseconds);
            Duration::from_nanos(time.or_else(|_| stats.get::<u64>(name)).unwrap())
        });
        let (cut, _sink) = pipeline(&launch);
        cut.set_state(gst::State::Playing).unwrap();
        std::thread::sleep(open + decode / 3);
        let started = Instant::now();
        cut.set_state(gst::State::Null).unwrap();
        let took = started.elapsed();
        println!("a picture takes {decode:?}, a stop in the midst of it {took:?}");
        assert!(took < decode / 3, "the stop took {took:?} of {decode:?}");
    }
}
