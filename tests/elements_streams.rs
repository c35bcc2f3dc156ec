// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vxkeyframedec` at the edges of a stream: streams in a row, seeks at any moment, an upstream that fails in the middle.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{PATIENCE, clip, made, pipeline, play, quoted, run};
use gst::prelude::*;

fn encoded(name: &str, how: &str) -> PathBuf {
    let source = clip();
    let how: Vec<_> = how.split_whitespace().collect();
    made(name, &[&["-i", source.to_str().unwrap(), "-an"], &how[..]].concat())
}

fn times(file: &Path) -> Vec<Option<i64>> {
    let lines = run(&format!("filesrc location={} ! vxkeyframedec ! vxjsonenc", quoted(file))).json();
    lines.iter().map(|line| line["pts_ns"].as_i64()).collect()
}

/// Creates four container files that are read from front to back, with three keyframes each.
fn streams() -> Vec<PathBuf> {
    let how = "-t 3 -s 320x240 -c:v libx264 -preset ultrafast -g 25";
    vec![
        encoded("stream.mkv", how),
        encoded("stream.ts", how),
        encoded("stream.flv", how),
        encoded("stream.mp4", &format!("{how} -movflags frag_keyframe+empty_moov")),
    ]
}

#[test]
fn files_behind_concat_are_decoded_in_order() {
    let files = streams();
    let sources: Vec<_> = files.iter().map(|file| format!("filesrc location={} ! all.", quoted(file))).collect();
    let launch = format!("{} concat name=all ! vxkeyframedec ! vxjsonenc", sources.join(" "));
    let outcome = run(&launch);
    let found: Vec<_> = outcome.json().iter().map(|line| line["pts_ns"].as_i64()).collect();
    let wanted: Vec<_> = files.iter().flat_map(|file| times(file)).collect();
    assert_eq!(wanted.len(), 12);
    assert_eq!(found, wanted);
    let launch = format!("{} concat name=all ! vxkeyframedec", sources.join(" "));
    let running: Vec<_> = run(&launch)
        .samples
        .iter()
        .map(|sample| {
            let segment = sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap().clone();
            segment.to_running_time(sample.buffer().unwrap().pts()).unwrap()
        })
        .collect();
    assert!(running.is_sorted_by(|a, b| a < b), "{running:?}");
}

/// Pushes the bytes of a file into `pad` like a source element, until the decoder needs no more.
fn push(pad: &gst::Pad, file: &Path, number: usize) {
    pad.push_event(gst::event::StreamStart::new(&format!("stream-{number}")));
    pad.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Bytes>::new()));
    for piece in std::fs::read(file).unwrap().chunks(10_000) {
        match pad.push(gst::Buffer::from_slice(piece.to_vec())) {
            Ok(_) => {}
            Err(gst::FlowError::Eos) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn several_streams_work_without_a_flush_between_them() {
    let files = streams();
    for has_eos in [true, false] {
        let (pipeline, _) = pipeline("vxkeyframedec name=decoder ! vxjsonenc name=encoder");
        let decoder = pipeline.by_name("decoder").unwrap();
        let lines = pipeline.by_name("encoder").unwrap().static_pad("src").unwrap();
        let (sender, received) = std::sync::mpsc::channel();
        lines.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => {
                    let map = buffer.map_readable().unwrap();
                    let line: serde_json::Value = serde_json::from_slice(&map).unwrap();
                    let _ = sender.send(line["pts_ns"].as_i64());
                }
                Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Eos => {
                    let _ = sender.send(Some(-1));
                    // Sinks accept nothing after EOS without a flush.
                    return gst::PadProbeReturn::Handled;
                }
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        let pad = gst::Pad::new(gst::PadDirection::Src);
        pad.set_active(true).unwrap();
        pad.link(&decoder.static_pad("sink").unwrap()).unwrap();
        let upstream = std::thread::spawn({
            let (pad, files) = (pad.clone(), files.clone());
            move || {
                for (number, file) in files.iter().enumerate() {
                    push(&pad, file, number);
                    if has_eos {
                        pad.push_event(gst::event::Eos::new());
                    }
                }
                if !has_eos {
                    pad.push_event(gst::event::Eos::new());
                }
            }
        });
        let mut wanted = Vec::new();
        for file in &files {
            wanted.extend(times(file));
            wanted.extend(has_eos.then_some(Some(-1)));
        }
        wanted.extend((!has_eos).then_some(Some(-1)));
        let mut found = Vec::new();
        while found.len() < wanted.len() {
            found.push(
                received
                    .recv_timeout(PATIENCE)
                    .unwrap_or_else(|_| panic!("only {found:?} arrive, EOS between them: {has_eos}")),
            );
        }
        upstream.join().unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(found, wanted, "EOS between them: {has_eos}");
    }
}

#[test]
fn frames_decoded_before_a_failure_are_delivered() {
    let file = encoded("fails.mkv", "-t 8 -s 640x480 -c:v libx264 -preset ultrafast -g 25");
    let bytes = std::fs::read(&file).unwrap();
    // Whole keyframes in the part that arrives: those of the truncated file, except the last one, which can be truncated.
    let part = &bytes[..bytes.len() / 2];
    let cut = common::scratch("fails_cut.mkv");
    std::fs::write(&cut, part).unwrap();
    let least = times(&cut).len() - 1;
    assert!(least >= 3, "{least}");
    let (reader, mut writer) = std::io::pipe().unwrap();
    let (stall, has_stalled) = std::sync::mpsc::channel::<()>();
    let part = part.to_vec();
    let writing = std::thread::spawn(move || {
        writer.write_all(&part).unwrap();
        // No more data follows, and no EOS.
        let _ = has_stalled.recv();
    });
    let fd = std::os::fd::IntoRawFd::into_raw_fd(std::os::fd::OwnedFd::from(reader));
    let outcome = run(&format!("fdsrc fd={fd} ! vxkeyframedec io-timeout=500000000 threads=4"));
    drop(stall);
    writing.join().unwrap();
    assert!(outcome.error_text().contains("io-timeout"), "{}", outcome.error_text());
    assert!(outcome.samples.len() >= least, "{} of {least}", outcome.samples.len());
}

/// Returns moments between 0 and 80 ms that are the same in every run.
fn moment(state: &mut u64) -> Duration {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    Duration::from_micros((*state >> 33) % 80_000)
}

/// Seeks to the beginning at random moments during start-up: every run ends with frames. The environment variable VX_SEEKS sets the
/// number of runs for each container (default 20).
#[test]
fn a_seek_at_any_moment_is_carried_out() {
    let count: usize = std::env::var("VX_SEEKS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let files = [
        encoded("seek.ts", "-t 6 -c:v libx264 -preset ultrafast -g 25"),
        encoded("seek.mpg", "-t 6 -c:v mpeg2video -g 15 -bf 2 -b:v 3M"),
        encoded("seek.avi", "-t 6 -c:v mpeg4 -g 25"),
        encoded("seek.mp4", "-t 6 -c:v libx264 -preset ultrafast -g 25"),
        encoded("seek.mkv", "-t 6 -c:v libx264 -preset ultrafast -g 25"),
        encoded("seek.flv", "-t 6 -c:v flv -g 25"),
    ];
    let mut state = 5;
    for file in files {
        for number in 0..count {
            let (pipeline, sink) = pipeline(&format!("filesrc location={} ! vxkeyframedec", quoted(&file)));
            pipeline.set_state(gst::State::Playing).unwrap();
            let wait = moment(&mut state);
            std::thread::sleep(wait);
            let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
            // Refused while the elements are not linked yet.
            let _ = pipeline.seek_simple(flags, gst::ClockTime::ZERO);
            let outcome = play(&pipeline, &sink);
            pipeline.set_state(gst::State::Null).unwrap();
            assert!(outcome.error.is_none(), "{file:?} {number} after {wait:?}: {:?}", outcome.error);
            assert!(!outcome.samples.is_empty(), "{file:?} {number} after {wait:?}");
        }
    }
}
