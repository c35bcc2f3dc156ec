// SPDX-License-Identifier: MIT OR Apache-2.0
//! Damaged files: for any change to the bytes of a file, `vxkeyframedec` ends with frames or an error, in time and without growing
//! memory. The normal run tests a hundred files; `make mutations` tests thousands.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;
mod faults;

use std::path::PathBuf;
use std::time::Instant;

use common::{clip, made, piped, pipeline, play, quoted, run, scratch};
use faults::{Container, faulty};
use gst::prelude::*;

/// Longest time for one damaged file.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// A number generator that gives the same sequence in every run (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) as usize % limit.max(1)
    }
}

fn sources() -> Vec<Vec<u8>> {
    let source = clip();
    let encode = |name: &str, how: &str| {
        let how: Vec<_> = how.split_whitespace().collect();
        made(name, &[&["-i", source.to_str().unwrap(), "-an", "-s", "160x120"], &how[..]].concat())
    };
    let files = [
        encode("mutated.mp4", "-t 4 -c:v libx264 -preset ultrafast -g 25"),
        encode("mutated_open.mp4", "-t 4 -c:v libx264 -preset fast -x264-params open-gop=1 -g 25"),
        encode("mutated_fragments.mp4", "-t 4 -c:v libx264 -preset ultrafast -g 25 -movflags frag_keyframe+empty_moov"),
        encode("mutated.mkv", "-t 4 -c:v libx265 -preset ultrafast -x265-params log-level=error -g 25"),
        encode("mutated.ts", "-t 4 -c:v libx264 -preset ultrafast -g 25"),
        encode("mutated.webm", "-t 2 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25"),
        encode("mutated_av1.mkv", "-t 2 -c:v libaom-av1 -cpu-used 8 -usage realtime -g 25"),
        encode("mutated.avi", "-t 4 -c:v mpeg4 -g 25 -bf 2"),
        encode("mutated.mpg", "-t 4 -c:v mpeg2video -g 15 -bf 2"),
        encode("mutated.flv", "-t 4 -c:v flv -g 25"),
        encode("mutated.mov", "-t 1 -c:v prores_ks"),
        encode("mutated.gif", "-t 1"),
        encode("mutated.png", "-frames:v 1"),
        encode("mutated.jpg", "-frames:v 1"),
        encode("mutated.webp", "-frames:v 1 -c:v libwebp"),
    ];
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn mutated(sources: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = sources[random.below(sources.len())].clone();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        let len = random.below(bytes.len() - at).min(1 + random.below(5000));
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + len)),
            2 => bytes[at..at + len].fill(0),
            3 => bytes[at..at + len].fill(0xff),
            4 => {
                let other = &sources[random.below(sources.len())];
                let from = random.below(other.len());
                let upto = (from + len).min(other.len());
                bytes.splice(at..at, other[from..upto].iter().copied());
            }
            // The head contains the fields that demuxers trust.
            5 => {
                let head = bytes.len().min(600);
                (0..1 + random.below(8)).for_each(|_| bytes[random.below(head)] = random.below(256) as u8);
            }
            _ => {
                let len = bytes.len();
                (0..1 + random.below(60)).for_each(|_| bytes[random.below(len)] ^= 1 << random.below(8));
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Returns the memory of this process in MiB, on Linux.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn campaign(count: usize, seed: u64) {
    let sources = sources();
    let mut random = Random(seed);
    let (mut frames, mut errors) = (0, 0);
    let mut early = None;
    for number in 0..count {
        // The file remains if it crashes the process.
        let file: PathBuf = scratch(&format!("mutated_{seed}_{number}"));
        std::fs::write(&file, mutated(&sources, &mut random)).unwrap();
        let upstream = match number % 3 {
            0 => format!("filesrc location={}", quoted(&file)),
            1 => format!("filesrc location={} ! queue", quoted(&file)),
            _ => piped(&file),
        };
        let gap = if number % 4 == 0 { "max-gap=300000000" } else { "" };
        let started = Instant::now();
        let outcome = run(&format!("{upstream} ! vxkeyframedec {gap}"));
        assert!(started.elapsed() < LIMIT, "{}: {:?}", file.display(), started.elapsed());
        assert!(outcome.error.is_some() || !outcome.samples.is_empty(), "{}: neither frame nor error", file.display());
        frames += outcome.samples.len();
        errors += usize::from(outcome.error.is_some());
        std::fs::remove_file(file).unwrap();
        if number == count / 2 {
            early = Some(resident());
        }
    }
    let (early, late) = (early.unwrap_or(0), resident());
    println!("{count} files: {frames} frames, {errors} errors; {early} MiB half way, {late} MiB at the end");
    assert!(frames > count && errors > count / 20, "the mutations are too strong or too weak: {frames}, {errors}");
    assert!(late < early + 100, "memory grows: {early} MiB, then {late} MiB");
}

/// Creates good files, whose structure is then corrupted.
fn well_formed() -> Vec<(Container, &'static str, Vec<u8>)> {
    let source = clip();
    let files = [
        (Container::Mp4, "formed.mp4", "-t 5 -c:v libx264 -preset ultrafast -bf 2 -g 25"),
        (
            Container::FragmentedMp4,
            "formed_fragments.mp4",
            "-t 5 -c:v libx264 -g 25 -movflags frag_keyframe+empty_moov",
        ),
        (Container::Mp4, "formed_index_first.mp4", "-t 5 -c:v libx264 -preset ultrafast -g 25 -movflags faststart"),
        (Container::Matroska, "formed.mkv", "-t 5 -c:v libx264 -preset ultrafast -g 25 -cluster_time_limit 500"),
        (Container::Matroska, "formed.webm", "-t 3 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25"),
        (Container::TransportStream, "formed.ts", "-t 5 -c:v libx264 -preset ultrafast -g 25"),
        (Container::Flv, "formed.flv", "-t 5 -c:v libx264 -preset ultrafast -g 25"),
        (Container::Avi, "formed.avi", "-t 5 -c:v mpeg4 -g 25"),
    ];
    let made = files.map(|(container, name, how)| {
        let how: Vec<_> = how.split_whitespace().collect();
        let file = made(name, &[&["-i", source.to_str().unwrap(), "-an", "-s", "160x120"], &how[..]].concat());
        (container, name, std::fs::read(file).unwrap())
    });
    made.into()
}

/// Returns the number of decoded keyframes, and whether the run reported no problem.
fn keyframes(upstream: &str) -> (usize, bool) {
    let (pipeline, sink) = pipeline(&format!("{upstream} ! vxkeyframedec name=decoder"));
    let outcome = play(&pipeline, &sink);
    let stats: gst::Structure = pipeline.by_name("decoder").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    let is_plain = outcome.error.is_none() && outcome.warnings.is_empty() && !stats.has_field("problems");
    (outcome.samples.len(), is_plain)
}

/// Tests repeated, shuffled, missing or wrong times, flags and parameter sets: every run ends in time, and none gives fewer
/// keyframes than the same bytes through a pipe without a report.
fn structured_campaign(count: u64, seed: u64) {
    let files = well_formed();
    let mut wrong = Vec::new();
    let mut frames = 0;
    for number in 0..count {
        let (container, name, good) = &files[number as usize % files.len()];
        let (bytes, faults) = faulty(*container, good, seed + number);
        let file = scratch(&format!("faulty_{seed}_{number}_{name}"));
        std::fs::write(&file, bytes).unwrap();
        let started = Instant::now();
        let (found, is_plain) = keyframes(&format!("filesrc location={}", quoted(&file)));
        let (through_pipe, _) = keyframes(&piped(&file));
        let is_late = started.elapsed() > LIMIT;
        if is_late || is_plain && found < through_pipe {
            wrong.push(format!("{}: {found} keyframes, {through_pipe} through a pipe: {faults}", file.display()));
        } else {
            std::fs::remove_file(file).unwrap();
        }
        frames += found;
    }
    println!("{count} faulty files: {frames} frames, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(frames as u64 > count, "the faults are too strong: {frames} frames");
}

#[test]
fn files_with_a_corrupted_structure_end_in_time() {
    structured_campaign(42, 1);
}

#[test]
#[ignore = "takes minutes: `make mutations`"]
fn thousands_of_files_with_a_corrupted_structure_end_in_time() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    structured_campaign(number("COUNT", 3000), number("SEED", 1000));
}

#[test]
fn a_hundred_damaged_files_end_in_time() {
    campaign(100, 1);
}

#[test]
#[ignore = "takes minutes: `make mutations`"]
fn thousands_of_damaged_files_end_in_time() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    campaign(number("COUNT", 3000), number("SEED", 2) as u64);
}
