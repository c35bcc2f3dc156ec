// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests how files of containers that leave something open about their streams are opened: without decoding, with the same facts as
//! FFmpeg finds by decoding, and with sizes from frames where a header is wrong.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use common::{clip, made, piped, quoted, run, shared};
use gstvx::av::{ByteSource, Error, Interrupt, KeyframeReader, LogSink, Options, SourceError, Step};
use serde_json::Value;

/// The bytes of a file, with random access or without.
struct Bytes {
    bytes: Cursor<Vec<u8>>,
    is_seekable: bool,
}

impl ByteSource for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.bytes.read(buffer).map_err(|error| SourceError::Failed(error.to_string()))
    }

    fn seek(&mut self, position: u64) -> Result<(), SourceError> {
        self.bytes.seek(SeekFrom::Start(position)).map(drop).map_err(|error| SourceError::Failed(error.to_string()))
    }

    fn size(&mut self) -> Option<u64> {
        self.is_seekable.then_some(self.bytes.get_ref().len() as u64)
    }

    fn is_seekable(&self) -> bool {
        self.is_seekable
    }

    fn has_cheap_seeks(&self) -> bool {
        self.is_seekable
    }
}

fn open(bytes: Vec<u8>, options: &Options) -> Result<KeyframeReader, Error> {
    let source = Bytes { bytes: Cursor::new(bytes), is_seekable: true };
    KeyframeReader::open(Box::new(source), options, Interrupt::default())
}

/// Returns width and height of all keyframes that can be decoded.
fn sizes(reader: &mut KeyframeReader) -> Vec<(usize, usize)> {
    let mut sizes = Vec::new();
    loop {
        match reader.next() {
            Ok(Step::Keyframe(keyframe)) => sizes.push((keyframe.frame.width(), keyframe.frame.height())),
            Ok(Step::End) | Err(_) => return sizes,
            Ok(_) => {}
        }
    }
}

/// Creates a file from the clip; `None` and a message if the local FFmpeg lacks the encoder.
fn from_clip(name: &str, arguments: &str) -> Option<std::path::PathBuf> {
    let mut words = arguments.split_whitespace();
    let encoder = words.find(|word| *word == "-c:v").and_then(|_| words.next()).unwrap();
    let known = Command::new("ffmpeg").args(["-hide_banner", "-h", &format!("encoder={encoder}")]).output().unwrap();
    if !String::from_utf8_lossy(&known.stdout).starts_with("Encoder") {
        println!("skipped: this FFmpeg has no encoder {encoder}");
        return None;
    }
    let source = clip();
    let arguments: Vec<_> = ["-i", source.to_str().unwrap()].into_iter().chain(arguments.split_whitespace()).collect();
    Some(made(name, &arguments))
}

/// Returns what ffprobe reports about a file after it has decoded frames.
fn probed(file: &Path) -> Value {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_format", "-show_streams"])
        .arg(file)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asserts that a reader describes a file, and decodes it, as ffprobe does.
fn assert_described_as_probed(file: &Path) {
    let (name, facts) = (file.display(), probed(file));
    let mut reader = open(std::fs::read(file).unwrap(), &Options::default()).unwrap();
    let info = reader.info().clone();
    let stream = &facts["streams"][info.stream_index as usize];
    assert_eq!(stream["codec_type"], "video", "{name}");
    assert!(info.streams.contains(stream["codec_long_name"].as_str().unwrap()), "{name}: {}", info.streams);
    assert_eq!(
        info.streams.split("; ").count(),
        facts["streams"].as_array().unwrap().len(),
        "{name}: {}",
        info.streams
    );
    let (num, den) = info.frame_rate.unwrap();
    let rate = |key: &str| stream[key] == format!("{num}/{den}").as_str();
    assert!(rate("r_frame_rate") || rate("avg_frame_rate"), "{name}: {num}/{den}, but {stream}");
    let seconds: Option<f64> = facts["format"]["duration"].as_str().map(|text| text.parse().unwrap());
    let duration_ns = seconds.map(|seconds| (seconds * 1e6).round() as u64 * 1000);
    assert_eq!(info.duration_ns, duration_ns, "{name}");
    let order = stream["field_order"].as_str().unwrap_or("unknown");
    assert_eq!(info.is_interlaced, !["unknown", "progressive"].contains(&order), "{name}: {order}");
    let Step::Keyframe(first) = reader.next().unwrap() else { panic!("{name}: no keyframe first") };
    assert_eq!(first.frame.width(), stream["width"], "{name}");
    assert_eq!(first.frame.height(), stream["height"], "{name}");
    assert_eq!(first.frame.pixel_format().unwrap().name(), stream["pix_fmt"], "{name}");
}

#[test]
fn streams_are_described_as_after_decoding_them() {
    let h264 = "-t 3 -c:v libx264 -preset ultrafast -bf 2 -g 25";
    let hevc = "-t 3 -c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=25";
    let files = [
        ("h264.ts", format!("-an {h264}")),
        ("h264_fields.ts", format!("-an -vf interlace -flags +ilme+ildct {h264}")),
        ("h264_10.ts", format!("-an -pix_fmt yuv420p10le {h264}")),
        ("h264_cropped.m2ts", format!("-an -vf scale=480:270 {h264}")),
        ("h264_audio.ts", format!("-f lavfi -i sine -map 1:a -map 0:v -c:a aac -shortest {h264}")),
        ("h264_audio.flv", format!("-f lavfi -i sine -map 1:a -map 0:v -c:a aac -shortest {h264}")),
        ("h264.vob", format!("-an {h264}")),
        ("h264.avi", format!("-an {h264}")),
        ("hevc.ts", format!("-an {hevc}")),
        ("hevc_10.m2ts", format!("-an -pix_fmt yuv420p10le {hevc}")),
        ("hevc.vob", format!("-an {hevc}")),
        ("mpeg1.mpg", "-t 3 -an -c:v mpeg1video -bf 2 -g 25".into()),
        ("mpeg1.avi", "-t 3 -an -c:v mpeg1video -bf 2 -g 25".into()),
        ("mpeg2.ts", "-t 3 -an -c:v mpeg2video -bf 2 -g 25".into()),
        ("mpeg2_fields.vob", "-t 3 -an -vf interlace -c:v mpeg2video -flags +ilme+ildct -g 25".into()),
        ("mpeg4.ts", "-t 3 -an -c:v mpeg4 -bf 2 -g 25".into()),
        ("mpeg4.avi", "-t 3 -an -c:v mpeg4 -bf 2 -g 25".into()),
        ("xvid.avi", "-t 3 -an -c:v libxvid -g 25".into()),
        ("mjpeg.avi", "-t 1 -an -c:v mjpeg".into()),
        ("ffv1.avi", "-t 1 -an -c:v ffv1".into()),
        ("huffyuv.avi", "-t 1 -an -c:v huffyuv".into()),
        ("raw.avi", "-t 1 -an -pix_fmt yuyv422 -c:v rawvideo".into()),
        ("png.avi", "-t 1 -an -c:v png".into()),
        ("flv1.flv", "-t 3 -an -c:v flv -g 25".into()),
        ("flashsv.flv", "-t 3 -an -c:v flashsv -g 25".into()),
        ("wmv1.wmv", "-t 3 -an -c:v wmv1 -g 25".into()),
        ("wmv2.wmv", "-t 3 -an -c:v wmv2 -g 25".into()),
        ("msmpeg4.asf", "-t 3 -an -c:v msmpeg4 -g 25".into()),
    ];
    let made: Vec<_> = files.iter().filter_map(|(name, arguments)| from_clip(name, arguments)).collect();
    assert!(made.len() > 20, "{} files", made.len());
    made.iter().for_each(|file| assert_described_as_probed(file));
}

#[test]
fn real_files_are_described_as_after_decoding_them() {
    for name in [
        "cases/media/02_h264_paff_1080i_ts.ts",
        "cases/media/06_ts_catted.ts",
        "media/rsmpeg/centaur.mpg",
        "media/rsmpeg/bunny.flv",
    ] {
        if let Some(file) = shared(name) {
            assert_described_as_probed(&file);
        }
    }
}

/// Overwrites picture data so that a decoder complains, but neither a demuxer nor a parser of headers.
fn damage_pictures(file: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(file).unwrap();
    let has_start_code = |bytes: &[u8]| bytes.windows(3).any(|three| three == [0, 0, 1]);
    // Blocks of the container in which nothing begins, nor in the one before, hold the middle of a picture.
    let block = match file.extension().unwrap().to_str().unwrap() {
        "ts" => 188,
        "m2ts" => 192,
        "vob" => 2048,
        _ => {
            let entries = ["-v", "error", "-show_entries", "packet=pos,size", "-of", "csv=p=0"];
            let output = Command::new("ffprobe").args(entries).arg(file).output().unwrap();
            for line in String::from_utf8(output.stdout).unwrap().lines() {
                let numbers: Vec<usize> = line.split(',').filter_map(|number| number.parse().ok()).collect();
                let (size, position) = (numbers[0], numbers[1]);
                bytes[position + size / 2..position + size * 3 / 4].fill(0xff);
            }
            return bytes;
        }
    };
    for start in (block..bytes.len() - block).step_by(block) {
        if !has_start_code(&bytes[start - block + 20..start]) && !has_start_code(&bytes[start + 20..start + block]) {
            bytes[start + block / 2..start + block].fill(0xff);
        }
    }
    bytes
}

#[test]
fn opening_decodes_no_picture() {
    gstvx::av::capture_log();
    let noise = "-t 1 -an -vf scale=640:360,noise=alls=20";
    let h264 = format!("{noise} -c:v libx264 -preset ultrafast -qp 10 -g 10");
    let files = [
        ("damaged_h264.ts", h264.clone()),
        ("damaged_h264.m2ts", h264.clone()),
        ("damaged_h264.vob", h264.clone()),
        ("damaged_h264.flv", h264),
        (
            "damaged_hevc.ts",
            format!("{noise} -c:v libx265 -preset ultrafast -x265-params log-level=error:qp=20:keyint=10"),
        ),
        ("damaged_ffv1.avi", format!("{noise} -c:v ffv1 -slicecrc 1")),
    ];
    for (name, arguments) in files {
        let Some(file) = from_clip(name, &arguments) else { continue };
        let lines = Arc::new(Mutex::new(Vec::<String>::new()));
        let sink = Arc::clone(&lines);
        let log = LogSink::new(move |line| sink.lock().unwrap().push(line.to_owned()));
        let mut reader = open(damage_pictures(&file), &Options { log, ..Options::default() }).unwrap();
        let at_opening = std::mem::take(&mut *lines.lock().unwrap());
        sizes(&mut reader);
        let counts = reader.counts();
        let is_noticed = !lines.lock().unwrap().is_empty() || counts.damaged + counts.corrupt > 0;
        assert!(is_noticed, "{name}: no decoder notices the damage, so this shows nothing");
        assert!(at_opening.is_empty(), "{name}: pictures were decoded: {at_opening:?}");
    }
}

/// Replaces the bytes `from`, which have to occur.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let positions: Vec<_> = (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    assert!(!positions.is_empty());
    for at in positions {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

#[test]
fn caps_have_the_size_of_frames_where_the_header_is_wrong() {
    let le = |width: u32, height: u32| [width.to_le_bytes(), height.to_le_bytes()].concat();
    let be = |value: f64| value.to_be_bytes();
    for (name, arguments) in [
        ("size.avi", "-t 2 -an -vf scale=320:180 -c:v mpeg4 -g 10"),
        ("size_jpeg.avi", "-t 1 -an -vf scale=320:180 -c:v mjpeg"),
        ("size.asf", "-t 2 -an -vf scale=320:180 -c:v mpeg4 -g 10"),
        ("size.flv", "-t 2 -an -vf scale=320:180 -c:v libx264 -g 10"),
        ("size_h263.flv", "-t 2 -an -vf scale=320:180 -c:v flv -g 10"),
    ] {
        let Some(file) = from_clip(name, arguments) else { continue };
        let bytes = std::fs::read(&file).unwrap();
        let wrong = if name.ends_with(".flv") {
            replaced(&replaced(&bytes, &be(320.0), &be(64.0)), &be(180.0), &be(48.0))
        } else {
            replaced(&bytes, &le(320, 180), &le(64, 48))
        };
        std::fs::write(&file, wrong).unwrap();
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&file)));
        assert!(outcome.error.is_none(), "{name}: {:?}", outcome.error);
        assert!(outcome.samples.len() > 1, "{name}");
        for sample in &outcome.samples {
            let caps = sample.caps().unwrap().structure(0).unwrap();
            let size = (caps.get::<i32>("width").unwrap(), caps.get::<i32>("height").unwrap());
            assert_eq!(size, (320, 180), "{name}");
        }
    }
}

#[test]
fn truncated_and_overwritten_headers_end_in_frames_of_the_right_size_or_an_error() {
    for (name, arguments) in [
        ("broken.ts", "-t 2 -an -vf scale=320:180 -c:v libx264 -preset ultrafast -g 10"),
        (
            "broken_hevc.ts",
            "-t 2 -an -vf scale=320:180 -c:v libx265 -preset ultrafast -x265-params log-level=error -g 10",
        ),
        ("broken.vob", "-t 2 -an -vf scale=320:180 -c:v mpeg2video -g 10"),
        ("broken.avi", "-t 2 -an -vf scale=320:180 -c:v mpeg4 -g 10"),
        ("broken.flv", "-t 2 -an -vf scale=320:180 -c:v libx264 -preset ultrafast -g 10"),
        ("broken.asf", "-t 2 -an -vf scale=320:180 -c:v mpeg4 -g 10"),
    ] {
        let Some(file) = from_clip(name, arguments) else { continue };
        let bytes = std::fs::read(&file).unwrap();
        let mut frames = 0;
        let mut check = |bytes: Vec<u8>, what: &str| {
            // A damaged size must not cost much memory.
            let mut options = Options::default();
            options.decoder.max_pixels = 1 << 20;
            let Ok(mut reader) = open(bytes, &options) else { return };
            let sizes = sizes(&mut reader);
            frames += sizes.len();
            assert!(sizes.iter().all(|&(width, height)| width * height <= 1 << 20), "{name}, {what}: {sizes:?}");
            if what.starts_with("cut") {
                assert!(sizes.iter().all(|&size| size == (320, 180)), "{name}, {what}: {sizes:?}");
            }
        };
        for len in [0, 1, 12, 13, 40, 188, 376, 500, 1000, 4000, bytes.len() / 2] {
            check(bytes[..len.min(bytes.len())].to_vec(), &format!("cut to {len} bytes"));
        }
        let mut state = 7_u32;
        for round in 0..40 {
            let mut garbled = bytes.clone();
            for _ in 0..12 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % 1000.min(garbled.len());
                garbled[at] = state as u8;
            }
            check(garbled, &format!("overwritten, round {round}"));
        }
        assert!(frames > 0, "{name}: no file was read");
    }
}

#[test]
fn streams_that_appear_late_are_found_with_random_access_and_without() {
    for (name, arguments) in [
        ("late.flv", "-f lavfi -i sine -map 1:a -map 0:v -c:a aac -t 3 -c:v libx264 -preset ultrafast -g 25"),
        ("late.mpg", "-f lavfi -i sine -map 1:a -map 0:v -c:a mp2 -t 3 -c:v mpeg2video -g 25"),
        ("late.vob", "-f lavfi -i sine -map 1:a -map 0:v -c:a mp2 -t 3 -c:v libx264 -preset ultrafast -g 25"),
    ] {
        let Some(file) = from_clip(name, arguments) else { continue };
        let whole = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&file)));
        let pushed = run(&format!("{} ! vxkeyframedec", piped(&file)));
        assert!(whole.error.is_none() && pushed.error.is_none(), "{name}: {:?} {:?}", whole.error, pushed.error);
        assert!(whole.samples.len() >= 3, "{name}: {} keyframes", whole.samples.len());
        assert_eq!(whole.pts(), pushed.pts(), "{name}");
        let pixels = |outcome: &common::Outcome| outcome.samples.iter().map(common::pixels).collect::<Vec<_>>();
        assert!(pixels(&whole) == pixels(&pushed), "{name}: frames differ");
    }
}
