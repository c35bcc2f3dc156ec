// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures resident memory while one `vxkeyframedec` reads many files.
//!
//! `cargo bench --bench memory [-- COUNT]`. The first run reads 500 files of 20 kinds and sizes in turn, and prints the memory at
//! every tenth and the growth over the second half, which shows a leak. The second run reads one 8K file and then 500 small ones,
//! and prints the memory before, after the large file, and after the small ones, which shows frame pools that never shrink.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;

use common::{clip, made, play_to_end};
use gst::prelude::*;

/// Size and encoder: from 320x240 to 4K, like a folder of mixed recordings.
const KINDS: [(&str, &str); 5] = [
    ("mp4", "-c:v libx264 -preset ultrafast -g 10"),
    ("mkv", "-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=10"),
    ("ts", "-c:v mpeg2video -g 10"),
    ("webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 10"),
    ("avi", "-c:v mjpeg"),
];
const SIZES: [&str; 4] = ["320:240", "1280:720", "1920:1080", "3840:2160"];

fn files() -> Vec<PathBuf> {
    let source = clip();
    let mut files = Vec::new();
    for size in SIZES {
        for (container, encoder) in KINDS {
            let scale = format!("scale={size}");
            let mut arguments = vec!["-i", source.to_str().unwrap(), "-an", "-t", "2", "-vf", &scale];
            arguments.extend(encoder.split_whitespace());
            files.push(made(&format!("{}.{container}", size.replace(':', "x")), &arguments));
        }
    }
    files
}

/// Returns the memory of this process in MiB according to Linux: current and peak.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("needs Linux's /proc");
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// Returns the resident memory of a run that reads one 8K file and then small ones.
fn one_large_among_small(count: usize) {
    let source = clip();
    let encode = |name: &str, size: &str| {
        let scale = format!("scale={size}");
        let how = ["-an", "-t", "1", "-vf", &scale, "-c:v", "libx264", "-preset", "ultrafast", "-g", "10"];
        made(name, &[&["-i", source.to_str().unwrap()], &how[..]].concat())
    };
    let (large, small) = (encode("large.mp4", "7680:4320"), encode("small.mp4", "320:240"));
    let launch = "filesrc name=source ! vxkeyframedec name=dec ! fakesink";
    let pipeline = gst::parse::launch(launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("source").unwrap();
    let play = |file: &PathBuf| {
        source.set_property("location", file.to_str().unwrap());
        play_to_end(pipeline.upcast_ref());
        pipeline.set_state(gst::State::Ready).unwrap();
        memory().0
    };
    let before = play(&small);
    println!("one 8K file among {count} of 320x240: {before} MiB before, {} MiB after the large one", play(&large));
    for number in 1..=count {
        let now = play(&small);
        if [1, 2, 5, 10, 20, 50, 100, 200, 500].contains(&number) {
            println!("{number:5} small files later: {now:4} MiB");
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

fn main() {
    let count: usize = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(500);
    common::init();
    one_large_among_small(count);
    let files = files();
    let launch = "filesrc name=source ! vxkeyframedec name=dec ! fakesink";
    let pipeline = gst::parse::launch(launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let [source, decoder] = ["source", "dec"].map(|name| pipeline.by_name(name).unwrap());
    let started = std::time::Instant::now();
    let (mut frames, mut half) = (0_u64, 0);
    for number in 0..count {
        source.set_property("location", files[number % files.len()].to_str().unwrap());
        play_to_end(pipeline.upcast_ref());
        frames += decoder.property::<gst::Structure>("stats").get::<u64>("frames").unwrap();
        pipeline.set_state(gst::State::Ready).unwrap();
        if (number + 1) % (count / 10).max(1) == 0 {
            let (now, most) = memory();
            println!("{:5} files, {frames:6} frames: {now:4} MiB, {most:4} MiB at most", number + 1);
            if number < count / 2 {
                half = now;
            }
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let (now, most) = memory();
    println!(
        "{count} files, {frames} frames in {:.1?}: {now} MiB after the end, {most} MiB at most, {:+} MiB since half way",
        started.elapsed(),
        now.cast_signed() - half.cast_signed()
    );
}
