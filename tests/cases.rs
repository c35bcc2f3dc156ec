// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kinds of files that users report as bugs of other tools, with the correct result: repeated or decreasing times, wrong key flags,
//! parameter sets in earlier packets, clips that start between keyframes, colours, still images.
//!
//! Each file is read directly and through a pipe, with one decoder thread and with four.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::path::{Path, PathBuf};

use common::{clip, made, piped, pixels, planes, quoted, root, run, scratch};
use gst::prelude::*;
use gstvx::av::{FileSource, Interrupt, KeyframeReader, Options, Step};

/// Returns the times in nanoseconds of all keyframes from here on.
fn times_to_end(reader: &mut KeyframeReader) -> Vec<i64> {
    let mut times = Vec::new();
    loop {
        match reader.next().unwrap() {
            Step::Keyframe(keyframe) => times.push(keyframe.pts_ns.unwrap()),
            Step::Damaged { reason, .. } => panic!("{reason}"),
            Step::Notice(_) => {}
            Step::End => return times,
        }
    }
}

/// The correct result for a file.
struct Case {
    file: PathBuf,
    /// Presentation times of the keyframes in milliseconds, in file order; `None` where a keyframe has no time.
    times: Vec<Option<i64>>,
    sizes: Vec<[u64; 2]>,
    /// Every picture also occurs in a full decode.
    has_pictures: bool,
}

impl Case {
    fn new(file: PathBuf, times: &[i64], size: [u64; 2]) -> Self {
        let times = times.iter().map(|time| Some(*time)).collect::<Vec<_>>();
        let sizes = vec![size; times.len()];
        Self { file, times, sizes, has_pictures: true }
    }
}

fn media(name: &str) -> PathBuf {
    root().join("tests/media").join(name)
}

/// Returns the luma of every frame of a full decode, with its size.
fn full_decode(file: &Path) -> Vec<(usize, Vec<u8>)> {
    let size = |index: usize, line: &str| line.split(',').nth(index).and_then(|text| text.trim().parse::<usize>().ok());
    let name = file.file_name().unwrap().to_str().unwrap();
    let input = ["-copyts", "-i", file.to_str().unwrap(), "-map", "0:v", "-vsync", "passthrough", "-autoscale", "0"];
    let gray = ["-vf", "format=yuv420p,extractplanes=y"];
    let sizes = made(&format!("{name}.crc"), &[&input[..], &gray, &["-f", "framecrc"]].concat());
    let raw = std::fs::read(made(&format!("{name}.luma"), &[&input[..], &gray, &["-f", "rawvideo"]].concat())).unwrap();
    let mut rest = &raw[..];
    let sizes = std::fs::read_to_string(sizes).unwrap();
    let sizes = sizes.lines().filter(|line| !line.starts_with('#')).filter_map(|line| size(4, line));
    sizes
        .map(|bytes| {
            let (frame, after) = rest.split_at(bytes);
            rest = after;
            (bytes, frame.to_vec())
        })
        .collect()
}

fn difference(a: &[u8], b: &[u8]) -> f64 {
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.len().max(1) as f64
}

fn check(case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = case.file.file_name().unwrap().to_str().unwrap().to_owned();
    let ways: [(&str, &dyn Fn() -> String); 2] =
        [("file", &|| format!("filesrc location={}", quoted(&case.file))), ("pipe", &|| piped(&case.file))];
    for (way, source) in ways {
        for threads in [1, 4] {
            let decoder = format!("{} ! vxkeyframedec threads={threads}", source());
            let outcome = run(&format!("{decoder} ! vxjsonenc"));
            if let Some(error) = &outcome.error {
                wrong.push(format!("{name} ({way}): {error:?}"));
                continue;
            }
            let lines = outcome.json();
            let times: Vec<_> =
                lines.iter().map(|line| line["pts_ns"].as_i64().map(|ns| (ns + 500_000) / 1_000_000)).collect();
            let sizes: Vec<_> =
                lines.iter().map(|line| [line["width"].as_u64().unwrap(), line["height"].as_u64().unwrap()]).collect();
            if times != case.times {
                wrong.push(format!("{name} ({way}, {threads} threads): times {times:?}, not {:?}", case.times));
            }
            if sizes != case.sizes {
                wrong.push(format!("{name} ({way}, {threads} threads): sizes {sizes:?}, not {:?}", case.sizes));
            }
        }
    }
    if case.has_pictures {
        let truth = full_decode(&case.file);
        for threads in [1, 4] {
            let source = format!("filesrc location={} ! vxkeyframedec threads={threads}", quoted(&case.file));
            let outcome = run(&format!("{source} orientation=stored ! videoconvert ! video/x-raw,format=I420"));
            let outcome = if outcome.error.is_some() { run(&source) } else { outcome };
            for (index, sample) in outcome.samples.iter().enumerate() {
                let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
                let mut picture = pixels(sample);
                picture.truncate(info.width() as usize * info.height() as usize);
                let likeness = truth.iter().filter(|(bytes, _)| *bytes == picture.len());
                let nearest = likeness.map(|(_, frame)| difference(frame, &picture)).fold(f64::MAX, f64::min);
                if nearest > 1.0 {
                    wrong.push(format!(
                        "{name} ({threads} threads): picture {index} is none of a full decode: {nearest:.1}"
                    ));
                }
            }
        }
    }
    wrong
}

fn assert_right(cases: &[Case]) {
    let wrong: Vec<_> = cases.iter().flat_map(check).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn repeated_or_decreasing_times_lose_no_keyframes() {
    assert_right(&[
        Case::new(
            media("fmp4_last_fragment_sent_twice.mp4"),
            &[80, 1080, 2080, 3080, 4080, 5080, 5080],
            size_of(&media("fmp4_last_fragment_sent_twice.mp4")),
        ),
        // FFmpeg's full decode drops the fragment whose times overlap, so its first keyframe is not among those frames.
        Case {
            has_pictures: false,
            ..Case::new(
                media("fmp4_times_start_over_lower.mp4"),
                &[3080, 4080, 80, 1080, 2080],
                size_of(&media("fmp4_times_start_over_lower.mp4")),
            )
        },
        Case::new(media("webm_catted.webm"), &[0, 1000, 2000, 0, 1000, 2000], size_of(&media("webm_catted.webm"))),
    ]);
    let lines = run(&format!(
        "filesrc location={} ! vxkeyframedec ! vxjsonenc",
        quoted(&media("mp4_keyframes_at_equal_dts.mp4"))
    ));
    assert_eq!(lines.json().len(), 3, "two keyframes with the same decoding time");
}

fn size_of(file: &Path) -> [u64; 2] {
    let line =
        run(&format!("filesrc location={} ! vxkeyframedec max-frames=1 ! vxjsonenc", quoted(file))).json().remove(0);
    [line["width"].as_u64().unwrap(), line["height"].as_u64().unwrap()]
}

fn joined(name: &str, parts: &[&Path]) -> PathBuf {
    let whole = scratch(name);
    std::fs::write(&whole, parts.iter().flat_map(|part| std::fs::read(part).unwrap()).collect::<Vec<_>>()).unwrap();
    whole
}

fn encoded(name: &str, how: &str) -> PathBuf {
    let source = clip();
    let how: Vec<_> = how.split_whitespace().collect();
    made(name, &[&["-i", source.to_str().unwrap(), "-an"], &how[..]].concat())
}

#[test]
fn a_stream_of_two_recordings_is_read_completely() {
    let how = "-t 3 -s 320x240 -c:v libx264 -preset ultrafast -bf 0 -g 25";
    let first = encoded("first.ts", how);
    let second = encoded("second.ts", &format!("{how} -mpegts_start_pid 0x200 -mpegts_pmt_start_pid 0x1000"));
    let times = |file: &Path| -> Vec<i64> {
        let lines = run(&format!("filesrc location={} ! vxkeyframedec ! vxjsonenc", quoted(file))).json();
        lines.iter().map(|line| (line["pts_ns"].as_i64().unwrap() + 500_000) / 1_000_000).collect()
    };
    let twice = [times(&first), times(&first)].concat();
    assert_eq!(twice.len(), 6);
    assert_right(&[
        Case::new(joined("twice.ts", &[&first, &first]), &twice, [320, 240]),
        Case::new(joined("moved.ts", &[&first, &second]), &twice, [320, 240]),
    ]);
    let outcome =
        run(&format!("filesrc location={} ! vxkeyframedec", quoted(&joined("moved_again.ts", &[&first, &second]))));
    assert!(outcome.warnings.iter().any(|text| text.contains("continues in stream 1")), "{:?}", outcome.warnings);
    // Running time continues where times restart, so that sinks show all frames in order.
    let running: Vec<_> = outcome
        .samples
        .iter()
        .map(|sample| {
            let segment = sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap().clone();
            segment.to_running_time(sample.buffer().unwrap().pts()).unwrap()
        })
        .collect();
    assert!(running.is_sorted_by(|a, b| a < b), "{running:?}");
    let is_discontinuous = outcome.samples[3].buffer().unwrap().flags().contains(gst::BufferFlags::DISCONT);
    assert!(is_discontinuous, "the second recording does not follow on the first");
}

/// A recording whose video moves to another stream, with times that start over and with times that continue.
#[test]
fn a_seek_back_leads_into_the_stream_that_the_video_has_left() {
    let how = "-t 4 -s 320x240 -c:v libx264 -preset ultrafast -bf 0 -g 25";
    let moved = "-mpegts_start_pid 0x200 -mpegts_pmt_start_pid 0x1000";
    let first = encoded("before.ts", how);
    let rest = [
        encoded("over.ts", &format!("{how} {moved}")),
        encoded("on.ts", &format!("{how} {moved} -output_ts_offset 4")),
    ];
    for (number, (second, continues)) in rest.iter().zip([false, true]).enumerate() {
        let file = joined(&format!("left{number}.ts"), &[&first, second]);
        let source = Box::new(FileSource(std::fs::File::open(file).unwrap()));
        let mut reader = KeyframeReader::open(source, &Options::default(), Interrupt::default()).unwrap();
        let all = times_to_end(&mut reader);
        assert_eq!((all.len(), all.is_sorted()), (8, continues), "{all:?}");
        for from in [0, 2, 5, 1, 7, 0] {
            let wanted = if continues || from < 4 { &all[from..] } else { continue };
            reader.seek(wanted[0]).unwrap();
            assert_eq!(times_to_end(&mut reader), wanted, "from {from}");
        }
    }
}

#[test]
fn a_recording_that_continues_as_two_videos_continues_with_the_first() {
    let how = "-t 4 -s 320x240 -c:v libx264 -preset ultrafast -bf 0 -g 25";
    let first = encoded("alone.ts", how);
    let source = clip();
    let source = source.to_str().unwrap();
    let two = format!("-map 0:v -map 0:v {how} -mpegts_start_pid 0x200 -mpegts_pmt_start_pid 0x1000");
    let two: Vec<_> = ["-i", source, "-an"].into_iter().chain(two.split_whitespace()).collect();
    let file = joined("one_then_two.ts", &[&first, &made("both.ts", &two)]);
    let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&file)));
    assert_eq!(outcome.samples.len(), 8, "{:?}", outcome.warnings);
    for text in ["continues in stream 1", "stream 2 is another video"] {
        assert!(outcome.warnings.iter().any(|warning| warning.contains(text)), "{:?}", outcome.warnings);
    }
}

#[test]
fn two_programmes_in_one_stream_are_not_mixed() {
    let source = clip();
    let file = made(
        "two_programmes.ts",
        &[
            &["-i", source.to_str().unwrap(), "-an", "-t", "4", "-map", "0:v", "-map", "0:v"][..],
            &["-s:v:0", "320x240", "-s:v:1", "160x120", "-c:v", "libx264", "-preset", "ultrafast", "-g", "25"],
            &["-program", "title=a:st=0", "-program", "title=b:st=1"],
        ]
        .concat(),
    );
    let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&file)));
    assert_eq!(outcome.samples.len(), 4, "{:?}", outcome.warnings);
    assert!(outcome.warnings.iter().any(|text| text.contains("stream-index=1 decodes it")), "{:?}", outcome.warnings);
}

#[test]
fn parameter_sets_apply_to_all_later_keyframes() {
    let raw = |name: &str, how: &str| encoded(name, &format!("{how} -c:v libx264 -preset ultrafast -g 25 -bf 0"));
    let strip = |name: &str, file: &Path| {
        let bsf = ["-c", "copy", "-bsf:v", "filter_units=remove_types=7-8"];
        made(name, &[&["-i", file.to_str().unwrap()], &bsf[..]].concat())
    };
    let small = raw("small.h264", "-t 3 -s 320x240");
    let turned = raw("turned.h264", "-t 1 -s 240x320");
    let rest = strip("rest.h264", &raw("turned_rest.h264", "-ss 1 -t 2 -s 240x320"));
    let whole = joined("sizes.h264", &[&small, &turned, &rest]);
    let copied = made("sizes.mkv", &["-f", "h264", "-i", whole.to_str().unwrap(), "-c", "copy"]);
    let sizes = [vec![[320, 240]; 3], vec![[240, 320]; 3]].concat();
    let times = run(&format!("filesrc location={} ! vxkeyframedec ! vxjsonenc", quoted(&copied)));
    let times = times.json().iter().map(|line| line["pts_ns"].as_i64().map(|ns| (ns + 500_000) / 1_000_000)).collect();
    assert_right(&[Case { file: copied.clone(), times, sizes, has_pictures: false }]);
    // The keyframe that carries them is one of the skipped ones.
    for interval in [1_500_000_000_u64, 2_500_000_000] {
        let decoder = format!("vxkeyframedec min-interval={interval}");
        let outcome = run(&format!("filesrc location={} ! {decoder} ! vxjsonenc", quoted(&copied)));
        let lines = outcome.json();
        let last = lines.last().unwrap();
        assert_eq!((last["width"].as_u64(), last["height"].as_u64()), (Some(240), Some(320)), "{interval}");
    }
}

#[test]
fn keyframes_without_a_container_flag_are_found() {
    let seconds = [0, 1000, 2000, 3000, 4000, 5000];
    let size = size_of(&media("mkv_only_first_block_flagged_key.mkv"));
    assert_right(&[
        Case::new(media("mkv_only_first_block_flagged_key.mkv"), &seconds, size),
        Case::new(media("mp4_stss_names_first_only.mp4"), &seconds, size_of(&media("mp4_stss_names_first_only.mp4"))),
    ]);
    let file = media("mp4_stss_names_first_only.mp4");
    let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&file)));
    assert!(outcome.warnings.iter().any(|text| text.contains("does not flag all keyframes")), "{:?}", outcome.warnings);
    // Every frame of an intra-only codec is a keyframe, regardless of the container's flags.
    let lying = encoded("lying.mkv", "-t 1 -s 160x120 -c:v mjpeg");
    let mut bytes = std::fs::read(&lying).unwrap();
    let mut blocks = 0;
    // A SimpleBlock: track 1 (its size in two bytes), then time and flags.
    for at in 0..bytes.len() - 8 {
        if bytes[at] == 0xa3 && bytes[at + 1] & 0xe0 != 0 && bytes[at + 3] == 0x81 && bytes[at + 6] == 0x80 {
            bytes[at + 6] = 0;
            blocks += 1;
        }
    }
    assert!(blocks > 10, "{blocks}");
    std::fs::write(&lying, bytes).unwrap();
    let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&lying)));
    assert_eq!(outcome.samples.len(), 25, "{:?}", outcome.warnings);
}

#[test]
fn a_clip_that_starts_between_keyframes_includes_its_first_frame() {
    let file = media("trimmed_clip_keyframe_before_edit_list.mp4");
    for source in [format!("filesrc location={}", quoted(&file)), piped(&file)] {
        let outcome = run(&format!("{source} ! vxkeyframedec ! vxjsonenc"));
        let lines = outcome.json();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["keyframe"], false, "it is a frame between keyframes");
    }
}

/// Returns the colours of the first picture at positions given as fractions of its size.
fn colours(launch: &str, places: &[[f64; 2]]) -> Vec<[i32; 3]> {
    let outcome = run(&format!("{launch} ! videoconvert ! video/x-raw,format=RGB"));
    assert!(outcome.error.is_none(), "{launch}: {:?}", outcome.error);
    let sample = outcome.samples.first().unwrap();
    let caps = sample.caps().unwrap().structure(0).unwrap();
    let (width, height) = (caps.get::<i32>("width").unwrap() as usize, caps.get::<i32>("height").unwrap() as usize);
    let picture = planes(sample);
    assert_eq!(picture.len(), width * height * 3);
    let at = |[x, y]: &[f64; 2]| (height as f64 * y) as usize * width + (width as f64 * x) as usize;
    places.iter().map(|place| std::array::from_fn(|channel| picture[at(place) * 3 + channel].into())).collect()
}

#[test]
fn colours_are_correct_after_conversions() {
    const QUARTERS: [[f64; 2]; 4] = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]];
    let bars = [[220, 30, 30], [30, 200, 40], [40, 60, 220]];
    let cases: [(&str, &[[i32; 3]]); 4] = [
        ("gray_to_I420.jpg", &[[87; 3], [131; 3], [72; 3]]),
        ("rgb48.tif", &bars),
        ("rgb_to_I420.gif", &bars),
        ("vga_portrait_unlabelled.mp4", &[[29, 198, 39], [239, 238, 229], [219, 29, 30], [40, 59, 219]]),
    ];
    for (name, wanted) in cases {
        let source = format!("filesrc location={} ! vxkeyframedec", quoted(&media(name)));
        for through in ["", " ! video/x-raw,format=I420", " ! video/x-raw,format=NV12", " ! video/x-raw,format=BGRA"] {
            let found = colours(&format!("{source}{through}"), &QUARTERS[..wanted.len()]);
            for (found, wanted) in found.iter().zip(wanted) {
                let apart = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).max().unwrap();
                assert!(apart <= 6, "{name}{through}: {found:?}, not {wanted:?}");
            }
        }
    }
    // Formats that have no GStreamer equivalent, made from the same bars.
    let bars_file = media("rgb_to_I420.gif");
    let convert =
        |name: &str, how: &[&str]| made(name, &[&["-i", bars_file.to_str().unwrap(), "-frames:v", "1"], how].concat());
    let files = [
        convert("bars48.png", &["-pix_fmt", "rgb48be"]),
        convert("bars64.png", &["-pix_fmt", "rgba64be"]),
        convert("bars.pcx", &[]),
        convert("bars.dpx", &["-pix_fmt", "gbrp10be"]),
        convert("bars_rgb.mkv", &["-c:v", "libx264rgb", "-qp", "0"]),
    ];
    for file in &files {
        for through in ["", " ! video/x-raw,format=I420", " ! video/x-raw,format=RGBA"] {
            let found = colours(&format!("filesrc location={} ! vxkeyframedec{through}", quoted(file)), &QUARTERS[..3]);
            for (found, wanted) in found.iter().zip(&bars) {
                let apart = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).max().unwrap();
                assert!(apart <= 6, "{}{through}: {found:?}, not {wanted:?}", file.display());
            }
        }
    }
    // Grey, with and without alpha.
    let gray = media("gray_to_I420.jpg");
    let convert =
        |name: &str, how: &[&str]| made(name, &[&["-i", gray.to_str().unwrap(), "-frames:v", "1"], how].concat());
    let files = [
        convert("grey.png", &["-pix_fmt", "gray"]),
        convert("grey_alpha.png", &["-pix_fmt", "ya8"]),
        convert("grey16.png", &["-pix_fmt", "gray16be"]),
    ];
    for file in &files {
        for through in ["", " ! video/x-raw,format=I420", " ! video/x-raw,format=RGBA"] {
            let found = colours(&format!("filesrc location={} ! vxkeyframedec{through}", quoted(file)), &QUARTERS[..3]);
            for (found, wanted) in found.iter().zip([87, 131, 72]) {
                assert!(
                    found.iter().all(|value| (value - wanted).abs() <= 6),
                    "{}{through}: {found:?}, not {wanted}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn still_images_give_one_upright_picture_or_an_error_that_names_the_format() {
    let lines =
        |name: &str| run(&format!("filesrc location={} ! vxkeyframedec ! vxjsonenc", quoted(&media(name)))).json();
    assert_eq!(lines("mpf.jpg").len(), 1, "the preview is no second frame");
    for name in ["orientation6_ignored.png", "orientation6_ignored.webp"] {
        let lines = lines(name);
        assert_eq!((lines[0]["width"].as_u64(), lines[0]["height"].as_u64()), (Some(200), Some(320)), "{name}");
    }
    for (name, word) in [("animated_webp.webp", "animated WebP"), ("heic.heic", "HEIC still image")] {
        for source in [format!("filesrc location={}", quoted(&media(name))), piped(&media(name))] {
            let outcome = run(&format!("{source} ! vxkeyframedec"));
            // A newer FFmpeg may support it.
            assert!(outcome.error.is_none() || outcome.error_text().contains(word), "{}", outcome.error_text());
        }
    }
}

#[test]
fn missing_pictures_are_reported() {
    let whole = encoded("whole.mp4", "-t 8 -s 320x240 -c:v libx264 -preset ultrafast -g 25 -movflags +faststart");
    let bytes = std::fs::read(&whole).unwrap();
    let cut = scratch("cut.mp4");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let stats = |file: &Path| {
        let (pipeline, sink) =
            common::pipeline(&format!("filesrc location={} ! vxkeyframedec name=decoder", quoted(file)));
        let outcome = common::play(&pipeline, &sink);
        let stats: gst::Structure = pipeline.by_name("decoder").unwrap().property("stats");
        pipeline.set_state(gst::State::Null).unwrap();
        (outcome, stats)
    };
    let (outcome, found) = stats(&cut);
    assert!(outcome.error.is_none() && (2..8).contains(&outcome.samples.len()), "{outcome:?}");
    assert!(outcome.warnings.iter().any(|text| text.contains("truncated")), "{:?}", outcome.warnings);
    let missing = found.get::<u64>("missing-keyframes").unwrap();
    assert_eq!(outcome.samples.len() as u64 + missing, 8, "{found}");
    assert!(found.has_field("problems"));
    let (outcome, found) = stats(&whole);
    assert!(outcome.warnings.is_empty() && !found.has_field("problems"), "{:?} {found}", outcome.warnings);

    // Half of a JPEG yields half of a picture: the rest is black instead of old memory, and a warning reports it.
    let picture = made("whole.jpg", &["-i", clip().to_str().unwrap(), "-frames:v", "1", "-q:v", "2"]);
    let bytes = std::fs::read(&picture).unwrap();
    let cut = scratch("half.jpg");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let (outcome, found) = stats(&cut);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(found.get::<u64>("corrupted"), Ok(1), "{found}");
    let is_flagged = outcome.samples[0].buffer().unwrap().flags().contains(gst::BufferFlags::CORRUPTED);
    assert!(is_flagged && !outcome.warnings.is_empty());
}

/// Checks the cases in the shared test material, some of which the project cannot redistribute.
#[test]
fn shared_cases_give_the_correct_result() {
    let Some(folder) = common::shared("cases/media") else { return };
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap();
    for (name, want) in expected.as_object().unwrap() {
        if want.get("error").is_some() {
            continue;
        }
        let file = folder.join(name.split('#').next().unwrap());
        let decoder = want["decoder"].as_str().unwrap_or_default();
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec {decoder} ! vxjsonenc", quoted(&file)));
        let lines = outcome.json();
        assert_eq!(lines.len() as u64, want["count"].as_u64().unwrap(), "{name}");
        if let Some(sizes) = want["sizes"].as_array() {
            let found: Vec<_> = lines.iter().map(|line| serde_json::json!([line["width"], line["height"]])).collect();
            assert_eq!(&found, sizes, "{name}");
        }
    }
}
