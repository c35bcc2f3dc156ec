// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests every codec and container that the local FFmpeg command can create: the keyframes from `vxkeyframedec` are bit-exact and
//! have the same times as in a full decode by the command.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::kinds::KINDS;
use common::{clip, made, planes, quoted, run, scratch};

/// Returns the time in microseconds and the bytes of each keyframe of a full decode.
fn expected(file: &std::path::Path) -> Vec<(i64, Vec<u8>)> {
    let name = file.file_name().unwrap().to_str().unwrap();
    let decode =
        ["-copyts", "-i", file.to_str().unwrap(), "-map", "0:v:0", "-vf", "select=key", "-vsync", "passthrough"];
    let times = made(&format!("{name}.times"), &[&decode[..], &["-enc_time_base", "-1", "-f", "framecrc"]].concat());
    let bytes = std::fs::read(made(&format!("{name}.raw"), &[&decode[..], &["-f", "rawvideo"]].concat())).unwrap();
    let times = std::fs::read_to_string(times).unwrap();
    let mut base = (1, 1);
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    for line in times.lines() {
        if let Some(text) = line.strip_prefix("#tb 0: ") {
            let (num, den) = text.split_once('/').unwrap();
            base = (num.parse().unwrap(), den.parse().unwrap());
        }
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        let [_, _, pts, _, size, ..] = fields[..] else { continue };
        let (pts, size): (i64, usize) = (pts.parse().unwrap(), size.parse().unwrap());
        let (frame, after) = rest.split_at(size);
        frames.push((pts * base.0 * 1_000_000 / base.1, frame.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty());
    frames
}

#[test]
fn keyframes_match_a_full_decode() {
    let source = clip();
    let mut failures = Vec::new();
    for (name, how) in KINDS {
        let how: Vec<_> = how.split_whitespace().collect();
        let file = made(name, &[&["-i", source.to_str().unwrap(), "-an"], &how[..]].concat());
        let expected = expected(&file);
        assert!(!expected.is_empty(), "{name}: ffmpeg decodes nothing of it");
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec ! vxjsonenc", quoted(&file)));
        let times: Vec<i64> = outcome.json().iter().map(|line| line["pts_ns"].as_i64().unwrap_or(0) / 1000).collect();
        let wanted: Vec<i64> = expected.iter().map(|(time, _)| *time).collect();
        // FFmpeg's command assigns times to streams that have none.
        let has_times = !["h264.h264", "hevc.h265", "mpeg4.m4v", "mpeg2.m2v", "mjpeg.mjpeg"].contains(name);
        let same = |(a, b): (&i64, &i64)| (a - b).abs() <= 1;
        if times.len() != wanted.len() || has_times && !times.iter().zip(&wanted).all(same) {
            failures.push(format!("{name}: times {times:?}, not {wanted:?}"));
        }
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&file)));
        let found: Vec<_> = outcome.samples.iter().map(planes).collect();
        for (index, (frame, (_, wanted))) in found.iter().zip(&expected).enumerate() {
            if frame != wanted {
                let (found, wanted) = (frame.len(), wanted.len());
                failures.push(format!("{name}: frame {index} differs ({found} and {wanted} bytes)"));
            }
        }
        for leftover in [scratch(&format!("{name}.raw")), file] {
            std::fs::remove_file(leftover).unwrap();
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
