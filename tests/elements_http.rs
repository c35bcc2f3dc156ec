// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vxkeyframedec` behind `souphttpsrc` and a real server: with and without range requests, and with a server that stalls.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::http::{Manner, Server, large};
use common::{clip, init, made, pixels, play, quoted, run};
use gst::prelude::*;

/// souphttpsrc is part of GStreamer's "good" plugins, which `make setup` installs.
fn launch(server: &Server, properties: &str) -> String {
    init();
    assert!(gst::ElementFactory::find("souphttpsrc").is_some(), "souphttpsrc is missing: run `make setup`");
    format!("souphttpsrc location={} ! vxkeyframedec name=dec {properties}", server.url)
}

#[test]
fn frames_over_http_match_those_of_the_file() {
    let copies = [
        large().to_owned(),
        made("served.mkv", &["-i", clip().to_str().unwrap(), "-c", "copy"]),
        made("served.ts", &["-i", clip().to_str().unwrap(), "-c", "copy"]),
    ];
    for file in copies {
        let local = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&file)));
        for manner in [Manner::Ranges, Manner::NoRanges] {
            let server = Server::start(&file, manner);
            let served = run(&launch(&server, ""));
            assert!(served.error.is_none(), "{file:?}: {:?}", served.error);
            assert_eq!(local.pts(), served.pts(), "{file:?}");
            let same = local.samples.iter().zip(&served.samples).all(|(a, b)| pixels(a) == pixels(b));
            assert!(same, "{file:?}");
            let requests = server.asked();
            assert!(manner == Manner::Ranges || requests.iter().all(|asked| asked.from == 0), "{requests:?}");
        }
    }
}

#[test]
fn only_needed_ranges_are_requested_and_sent() {
    let file = large();
    let server = Server::start(file, Manner::Ranges);
    let (pipeline, sink) = common::pipeline(&launch(&server, ""));
    let outcome = play(&pipeline, &sink);
    let stats: gst::Structure = pipeline.by_name("dec").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(outcome.error.is_none() && outcome.samples.len() == 4, "{outcome:?}");
    let (read, size) = (stats.get::<u64>("bytes-read").unwrap(), file.metadata().unwrap().len());
    assert!(read < size / 5, "{read} of {size} bytes");
    let asked = server.asked();
    let (first, ranges) = asked.split_first().unwrap();
    let sent: u64 = ranges.iter().map(|asked| asked.sent).sum();
    println!("{size} bytes, read {read}, sent {} and {sent}: {asked:?}, {stats}", first.sent);
    // The source sends the first request before it knows the file; it ends when the second one starts.
    assert!(first.end.is_none() && ranges.iter().all(|asked| asked.end.is_some()), "{asked:?}");
    // The index at the end, four keyframes, and three probed frames of similar size; the length of the first keyframe is unknown.
    assert!((5..=10).contains(&ranges.len()), "{asked:?}");
    assert!(sent <= read + (1 << 20), "{sent} bytes sent, {read} read: {asked:?}");
    let received = stats.get::<u64>("bytes-received").unwrap();
    assert!(received >= read && received <= first.sent + sent, "{received} bytes received: {asked:?}");
    assert_eq!(stats.get::<u64>("upstream-seeks").unwrap(), ranges.len() as u64);
}

/// For a file that is read from front to back, the requested ranges grow.
#[test]
fn sequential_reading_takes_few_requests() {
    let file = made("on.ts", &["-i", large().to_str().unwrap(), "-c", "copy"]);
    let size = file.metadata().unwrap().len();
    let server = Server::start(&file, Manner::Ranges);
    let outcome = run(&launch(&server, ""));
    assert!(outcome.error.is_none() && outcome.samples.len() == 4, "{outcome:?}");
    let asked = server.asked();
    let sent: u64 = asked.iter().map(|asked| asked.sent).sum();
    println!("{size} bytes, sent {sent}: {asked:?}");
    assert!(sent < size * 3 / 2 && asked.len() <= 12, "{asked:?}");
}

#[test]
fn seeks_work_over_the_network() {
    let server = Server::start(large(), Manner::Ranges);
    let (pipeline, sink) = common::pipeline(&launch(&server, ""));
    let wait = gst::ClockTime::from_seconds(common::PATIENCE.as_secs());
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(wait).0.unwrap();
    for position in [12, 4, 15, 0] {
        let position = gst::ClockTime::from_seconds(position);
        pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, position).unwrap();
        pipeline.state(wait).0.unwrap();
        let sample = sink.try_pull_preroll(wait).expect("a frame after the seek");
        let found = sample.buffer().unwrap().pts().unwrap();
        assert!(found <= position && position - found < gst::ClockTime::from_seconds(4), "{position}: {found}");
    }
    // To the end, then back.
    let outcome = play(&pipeline, &sink);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let start = gst::ClockTime::from_seconds(8);
    pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, start).unwrap();
    let outcome = play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(outcome.error.is_none() && outcome.samples.len() == 2, "{outcome:?}");
}

#[test]
fn a_stalled_server_causes_a_timeout_error() {
    let server = Server::start(large(), Manner::Stalls);
    let outcome = run(&launch(&server, "io-timeout=300000000"));
    assert!(outcome.error_text().contains("io-timeout"), "{outcome:?}");
}

#[test]
fn a_stalled_server_does_not_delay_a_stop() {
    let server = Server::start(large(), Manner::Stalls);
    let (pipeline, _sink) = common::pipeline(&launch(&server, ""));
    pipeline.set_state(gst::State::Playing).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let started = std::time::Instant::now();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(started.elapsed() < common::PATIENCE / 4);
}
