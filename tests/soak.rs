// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long runs: threads, descriptors and memory of a process stay flat over many files, state changes and pipelines.
//!
//! The normal run takes seconds; `make soak` has thousands of each, prints what it sees, and checks the memory as well. Each test
//! measures its whole process, so it runs in one of its own.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{clip, init, made, pipeline, play_to_end, quoted, root, scratch};
use gst::prelude::*;
use gstvx::run::{Event, Run, Settings, Status};

/// Measurements in the course of a run. The first half is for pools to reach their size.
const MEASUREMENTS: usize = 20;
/// Growth of memory over the second half that `make soak` accepts, in MiB: the allocator's fragmentation.
const ACCEPTED_MIB: usize = 16;

/// What a process has.
#[derive(Debug, Clone, Copy)]
struct Resources {
    threads: usize,
    descriptors: usize,
    memory_mib: usize,
}

impl Resources {
    fn now() -> Self {
        let count = |folder: &str| std::fs::read_dir(folder).expect("needs Linux's /proc").count();
        Self {
            threads: count("/proc/self/task"),
            descriptors: count("/proc/self/fd"),
            memory_mib: gstvx::memory::resident().map_or(0, |bytes| bytes >> 20) as usize,
        }
    }
}

/// Number of steps: few in the normal run, `wanted` with `make soak`.
fn steps(few: usize, wanted: usize) -> usize {
    if is_long() { wanted } else { few }
}

fn is_long() -> bool {
    std::env::var_os("VX_SOAK").is_some()
}

/// Runs a test of this file in a process of its own.
fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var("VX_SOAK_TEST").is_ok_and(|wanted| wanted == name) {
        return test();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("VX_SOAK_TEST", name)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    println!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{name} failed");
}

/// Checks measurements of a process that always has the same to do. What is lost grows from each to the next, so that all of the
/// second half are above all of the first; threads that come and go do not.
fn assert_flat(seen: &[Resources]) {
    let (first, second) = seen.split_at(seen.len() / 2);
    let growth = |of: fn(&Resources) -> usize| {
        second.iter().map(of).min().unwrap().saturating_sub(first.iter().map(of).max().unwrap())
    };
    assert_eq!(growth(|seen| seen.threads), 0, "threads: {seen:?}");
    assert_eq!(growth(|seen| seen.descriptors), 0, "descriptors: {seen:?}");
    let memory = growth(|seen| seen.memory_mib);
    assert!(!is_long() || memory <= ACCEPTED_MIB, "memory grows by {memory} MiB: {seen:?}");
}

/// Repeats `step` with its number and measures after every twentieth of the steps.
fn measured(steps: usize, mut step: impl FnMut(usize)) -> Vec<Resources> {
    let mut seen = Vec::new();
    for number in 0..steps {
        step(number);
        if (number + 1) % (steps / MEASUREMENTS) == 0 {
            let now = Resources::now();
            println!("{} of {steps}: {now:?}", number + 1);
            seen.push(now);
        }
    }
    seen
}

fn detection(file: &Path) -> String {
    let model = root().join("tests/models/pose.onnx");
    format!(
        "filesrc location={} ! vxkeyframedec ! vxyolodetect execution-provider=cpu model-file={}",
        quoted(file),
        quoted(&model)
    )
}

/// A clip of few small keyframes.
fn small() -> PathBuf {
    let source = clip();
    made(
        "soak.mp4",
        &["-i", source.to_str().unwrap(), "-an", "-t", "2", "-s", "160x120", "-c:v", "libx264", "-g", "25"],
    )
}

#[test]
fn state_changes_in_any_order() {
    alone("state_changes_in_any_order", || {
        init();
        let (pipeline, _sink) = pipeline(&detection(&small()));
        let states = [gst::State::Null, gst::State::Ready, gst::State::Paused, gst::State::Playing];
        let mut random = 7_u32;
        let seen = measured(steps(200, 10_000), |number| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            pipeline.set_state(states[(random >> 24) as usize % states.len()]).unwrap();
            // Half of them are interrupted by the next.
            if number % 2 == 0 {
                let (result, ..) = pipeline.state(gst::ClockTime::from_seconds(60));
                result.unwrap();
            }
            if (number + 1) % 10 == 0 {
                pipeline.set_state(gst::State::Null).unwrap();
            }
        });
        assert_flat(&seen);
    });
}

#[test]
fn pipelines_that_come_and_go_while_others_run() {
    alone("pipelines_that_come_and_go_while_others_run", || {
        init();
        let file = small();
        let is_over = Arc::new(AtomicBool::new(false));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (launch, is_over) = (format!("{} ! fakesink", detection(&file)), Arc::clone(&is_over));
                std::thread::spawn(move || {
                    let pipeline = gst::parse::launch(&launch).unwrap();
                    while !is_over.load(Ordering::Relaxed) {
                        play_to_end(&pipeline);
                        pipeline.set_state(gst::State::Ready).unwrap();
                    }
                    pipeline.set_state(gst::State::Null).unwrap();
                })
            })
            .collect();
        let seen = measured(steps(40, 1000), |number| {
            let pipeline = gst::parse::launch(&format!("{} ! fakesink", detection(&file))).unwrap();
            match number % 3 {
                // Ends, is interrupted, never starts.
                0 => play_to_end(&pipeline),
                1 => drop(pipeline.set_state(gst::State::Playing).unwrap()),
                _ => {}
            }
            pipeline.set_state(gst::State::Null).unwrap();
        });
        is_over.store(true, Ordering::Relaxed);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_flat(&seen);
    });
}

#[test]
fn thousands_of_files_in_one_run() {
    alone("thousands_of_files_in_one_run", || {
        let source = clip();
        let encoded = |name: &str, how: &str| {
            let how: Vec<_> = how.split_whitespace().collect();
            made(name, &[&["-i", source.to_str().unwrap(), "-an", "-t", "1"], &how[..]].concat())
        };
        // Of the size of thumbnails, and a large one now and then.
        let mut kinds = vec![
            encoded("soak_1.mp4", "-s 160x120 -c:v libx264 -preset ultrafast -g 10"),
            encoded("soak_2.mkv", "-s 320x240 -c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=10"),
            encoded("soak_3.ts", "-s 160x120 -c:v mpeg2video -g 10"),
            encoded("soak_4.webm", "-s 160x120 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 10"),
            encoded("soak_5.avi", "-s 160x120 -frames:v 1 -c:v mjpeg"),
        ];
        let broken = scratch("soak_broken.mp4");
        std::fs::write(&broken, &std::fs::read(&kinds[0]).unwrap()[..1000]).unwrap();
        kinds.push(broken);
        let large = encoded("soak_8k.mp4", "-vf scale=7680:4320 -t 0.04 -c:v libx264 -preset ultrafast");
        let count = steps(100, 10_000);
        let folder = scratch("soak_files");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        for number in 0..count {
            let original = if number % 100 == 50 { &large } else { &kinds[number % kinds.len()] };
            let name = format!("{number:05}.{}", original.extension().unwrap().to_str().unwrap());
            std::fs::copy(original, folder.join(name)).unwrap();
        }
        let mut settings = Settings::new([folder.as_os_str()]);
        settings.detector.provider = Some("cpu".to_owned());
        settings.detector.model = Some(root().join("tests/models/pose.onnx"));
        let mut run = Run::start(settings).unwrap();
        let mut failed = 0;
        let seen = measured(count, |_| {
            let done = run.find_map(|event| if let Event::FileDone(done) = event { Some(done) } else { None }).unwrap();
            failed += usize::from(done.summary.status == Status::Failed);
        });
        let Some(Event::End(report)) = run.last() else { panic!("no report") };
        assert!(report.error.is_none() && report.missing == 0, "{report:?}");
        // Every sixth, except where the large ones are.
        assert!(failed.abs_diff(count / 6) <= count / 100, "{failed} of {count} failed");
        std::fs::remove_dir_all(&folder).unwrap();
        assert_flat(&seen);
    });
}
