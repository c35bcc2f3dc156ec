// SPDX-License-Identifier: MIT OR Apache-2.0
//! Damaged files: for any change to the bytes of a file, `vxkeyframedec` ends with frames or an error, in time and without growing
//! memory or open files: from a file, a pipe and a server, with seeks, and with a detector behind it. The normal run tests a hundred
//! files; `make mutations` tests thousands.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;
mod faults;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::http::{Manner, Server};
use common::kinds::KINDS;
use common::{clip, made, pipe_of, piped, pipeline, play, quoted, root, scratch};
use faults::{Container, faulty};
use gst::prelude::*;

/// Longest time for one damaged file.
const LIMIT: Duration = Duration::from_secs(20);

/// A number generator that gives the same sequence in every run (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    /// Spreads the bits of a small number (SplitMix64, Steele, Lea, Flood 2014).
    fn new(seed: u64) -> Self {
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self((mixed ^ (mixed >> 27)) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) as usize % limit.max(1)
    }
}

/// All kinds of files, small and short.
fn all_sources() -> Vec<Vec<u8>> {
    let source = clip();
    let mut sources = Vec::new();
    for (name, how) in KINDS.iter().filter(|(name, _)| !name.contains("8k")) {
        let has_size = ["scale", "crop", "-s "].iter().any(|option| how.contains(option));
        let small = if has_size { "-t 3" } else { "-t 3 -s 160x120" };
        let how: Vec<_> = how.split_whitespace().chain(small.split_whitespace()).collect();
        let file = made(&format!("source_{name}"), &[&["-i", source.to_str().unwrap(), "-an"], &how[..]].concat());
        sources.push(std::fs::read(file).unwrap());
    }
    sources
}

/// The most frequent kinds.
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

/// Returns the memory of this process in MiB, and its number of open files, on Linux.
fn resources() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    (kibibytes / 1024, std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count))
}

/// Reads a file in the way that `number` selects. Returns the number of frames, and whether there was an error.
fn read(file: &Path, number: usize, random: &mut Random) -> (usize, bool) {
    // Open until the pipeline has ended.
    let (mut server, mut pipe) = (None, None);
    let upstream = match number % 5 {
        0 | 1 => format!("filesrc location={}", quoted(file)),
        2 => format!("filesrc location={} ! queue", quoted(file)),
        3 => {
            let (source, end) = pipe_of(file);
            pipe = Some(end);
            source
        }
        _ => {
            let started = Server::start(file, if number.is_multiple_of(2) { Manner::Ranges } else { Manner::NoRanges });
            let source = format!("souphttpsrc retries=0 location={}", started.url);
            server = Some(started);
            source
        }
    };
    let gap = if number.is_multiple_of(4) { "max-gap=300000000" } else { "" };
    let model = root().join("tests/models/nanodet_plus.onnx");
    let detector = match number % 7 {
        0 => format!("! vxyolodetect execution-provider=cpu cache-dir=\"\" model-file={}", quoted(&model)),
        _ => String::new(),
    };
    let (pipeline, sink) = pipeline(&format!("{upstream} ! vxkeyframedec {gap} {detector}"));
    let mut frames = 0;
    if number % 5 == 1 && pipeline.set_state(gst::State::Playing).is_ok() {
        for _ in 0..3 {
            frames += usize::from(sink.try_pull_sample(gst::ClockTime::from_mseconds(50)).is_some());
            let position = gst::ClockTime::from_mseconds(random.below(4000) as u64);
            // Refused before the stream is known.
            let _ = pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, position);
        }
    }
    let outcome = play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    drop((server, pipe));
    (frames + outcome.samples.len(), outcome.error.is_some())
}

/// Reads `count` damaged files on `threads` threads.
fn campaign(sources: &[Vec<u8>], count: usize, seed: u64, threads: usize) {
    let (next, frames, errors) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let slowest = AtomicU64::new(0);
    let measured = Mutex::new(Vec::new());
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return;
        }
        let mut random = Random::new(seed.wrapping_mul(1 << 32).wrapping_add(number as u64));
        // The file remains if it crashes the process.
        let file = scratch(&format!("mutated_{seed}_{number}"));
        std::fs::write(&file, mutated(sources, &mut random)).unwrap();
        let started = Instant::now();
        let (found, has_error) = read(&file, number, &mut random);
        let elapsed = started.elapsed();
        assert!(elapsed < LIMIT, "{}: {elapsed:?}", file.display());
        // A seek may be behind the last frame.
        assert!(has_error || found > 0 || number % 5 == 1, "{}: neither frame nor error", file.display());
        frames.fetch_add(found, Ordering::Relaxed);
        errors.fetch_add(usize::from(has_error), Ordering::Relaxed);
        slowest.fetch_max(elapsed.as_millis() as u64, Ordering::Relaxed);
        std::fs::remove_file(file).unwrap();
        if number % (count / 10).max(1) == 0 {
            measured.lock().unwrap().push(resources());
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let (frames, errors) = (frames.into_inner(), errors.into_inner());
    let measured = measured.into_inner().unwrap();
    let slowest = slowest.into_inner();
    println!(
        "{count} files of {} kinds: {frames} frames, {errors} errors, {slowest} ms for the slowest",
        sources.len()
    );
    println!("MiB and open files: {measured:?}");
    assert!(frames > count / 2 && errors > count / 20, "the mutations are too strong or too weak: {frames}, {errors}");
    let (half, last) = (measured[measured.len() / 2], measured[measured.len() - 1]);
    assert!(last.0 < half.0 + 100 && last.1 < half.1 + 20, "memory or open files grow: {half:?}, then {last:?}");
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
    campaign(&sources(), 100, 1, 1);
}

#[test]
#[ignore = "takes minutes: `make mutations`"]
fn thousands_of_damaged_files_end_in_time() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    campaign(&all_sources(), number("COUNT", 3000) as usize, number("SEED", 2), num_cpus::get());
}
