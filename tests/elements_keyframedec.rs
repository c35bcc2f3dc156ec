// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vxkeyframedec` in pipelines: its output for every kind of upstream, after seeks and after restarts.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{clip, damaged_keyframes, made, piped, pipeline, pixels, play, quoted, run, scratch};
use gst::prelude::*;

/// Returns the keyframes of a file according to ffprobe, as presentation times in nanoseconds.
fn probed(path: &std::path::Path) -> Vec<u64> {
    let probe = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts,flags:stream=time_base"])
        .args(["-of", "json"])
        .arg(path)
        .output()
        .expect("these tests need the ffprobe command: run `make setup`");
    let probe: serde_json::Value = serde_json::from_slice(&probe.stdout).unwrap();
    let (num, den) = probe["streams"][0]["time_base"].as_str().unwrap().split_once('/').unwrap();
    let (num, den): (u64, u64) = (num.parse().unwrap(), den.parse().unwrap());
    let keys = probe["packets"].as_array().unwrap().iter();
    let keys = keys.filter(|packet| packet["flags"].as_str().unwrap().starts_with('K'));
    let mut pts: Vec<u64> = keys.map(|packet| packet["pts"].as_u64().unwrap() * num * 1_000_000_000 / den).collect();
    pts.sort_unstable();
    pts
}

#[test]
fn every_keyframe_has_the_time_from_the_container() {
    let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&clip())));
    assert!(outcome.error.is_none() && outcome.warnings.is_empty(), "{outcome:?}");
    assert_eq!(outcome.pts(), probed(&clip()));
    let caps = outcome.samples[0].caps().unwrap().structure(0).unwrap();
    assert_eq!(caps.get::<&str>("format").unwrap(), "I420");
    assert!(caps.has_field("framerate") && caps.has_field("pixel-aspect-ratio"), "{caps}");
    let segment = outcome.samples[0].segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap();
    assert_eq!(segment.to_stream_time(outcome.samples[0].buffer().unwrap().pts()), Some(gst::ClockTime::ZERO));
}

#[test]
fn pixels_match_the_ffmpeg_command_bit_for_bit() {
    let raw = made(
        "keyframes.yuv",
        &["-skip_frame", "nokey", "-i", clip().to_str().unwrap(), "-vsync", "passthrough", "-f", "rawvideo"],
    );
    let expected = std::fs::read(raw).unwrap();
    let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&clip())));
    let found: Vec<u8> = outcome.samples.iter().flat_map(pixels).collect();
    assert!(found == expected, "{} and {} bytes", found.len(), expected.len());
}

/// In an open GOP, frames before the keyframe in display order refer to the previous GOP. A decoder that receives only keyframes
/// loses its reference state there, and with it most keyframes (FFmpeg's command with `-skip_frame nokey` outputs 3 of these 16).
#[test]
fn no_keyframe_of_open_gops_is_lost() {
    let source = clip();
    let encode = |name: &str, codec: &[&str]| {
        made(name, &[&["-i", source.to_str().unwrap(), "-an", "-preset", "ultrafast"], codec].concat())
    };
    let h264 = ["-c:v", "libx264", "-x264-params", "open-gop=1:keyint=25:min-keyint=25:scenecut=0:bframes=3"];
    let h265 = ["-c:v", "libx265", "-x265-params", "log-level=error:open-gop=1:keyint=32:min-keyint=32:bframes=3"];
    for file in [
        encode("opengop.mp4", &h264),
        encode("opengop.mkv", &h264),
        encode("opengop.ts", &h264),
        encode("opengop265.mp4", &h265),
    ] {
        let whole = made(
            &format!("{}.yuv", file.file_name().unwrap().display()),
            &["-i", file.to_str().unwrap(), "-vf", "select=key", "-vsync", "passthrough", "-f", "rawvideo"],
        );
        let expected = std::fs::read(whole).unwrap();
        for threads in ["thread-count=1", "thread-count=4", "thread-count=2 thread-type=slice"] {
            let outcome = run(&format!("filesrc location={} ! vxkeyframedec {threads}", quoted(&file)));
            assert_eq!(outcome.samples.len(), probed(&file).len(), "{file:?} {threads}");
            let pts = outcome.pts();
            assert!(pts.is_sorted_by(|a, b| a < b), "{file:?} {threads}: {pts:?}");
            let found: Vec<u8> = outcome.samples.iter().flat_map(pixels).collect();
            assert!(found == expected, "{file:?} {threads}: {} and {} bytes", found.len(), expected.len());
        }
    }
}

#[test]
fn push_and_pull_mode_produce_the_same_frames() {
    let source = clip();
    let source = source.to_str().unwrap();
    let copies = [
        made("index_last.mp4", &["-i", source, "-c", "copy"]),
        made("index_first.mp4", &["-i", source, "-c", "copy", "-movflags", "+faststart"]),
        made("fragments.mp4", &["-i", source, "-c", "copy", "-movflags", "frag_keyframe+empty_moov"]),
        made("copy.mov", &["-i", source, "-c", "copy"]),
        made("copy.mkv", &["-i", source, "-c", "copy"]),
        made("copy.ts", &["-i", source, "-c", "copy"]),
        made("copy.flv", &["-i", source, "-c", "copy"]),
        made("mpeg4.avi", &["-i", source, "-c:v", "mpeg4", "-g", "25", "-t", "4"]),
        made("mpeg2.mpg", &["-i", source, "-c:v", "mpeg2video", "-g", "15", "-bf", "2", "-t", "4"]),
        made("animation.gif", &["-i", source, "-t", "1", "-vf", "scale=160:-1"]),
        made("still.png", &["-i", source, "-frames:v", "1"]),
        made("still.jpg", &["-i", source, "-frames:v", "1"]),
    ];
    for copy in copies {
        let pulled = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&copy)));
        // Through a queue, pull mode is not available, but upstream handles seeks. Through a pipe, neither is available.
        let seeked = run(&format!("filesrc location={} ! queue ! vxkeyframedec", quoted(&copy)));
        let piped = run(&format!("{} ! vxkeyframedec", piped(&copy)));
        let name = copy.display();
        assert!(pulled.error.is_none() && !pulled.samples.is_empty(), "{name}: {:?}", pulled.error);
        for pushed in [seeked, piped] {
            assert_eq!(pulled.pts(), pushed.pts(), "{name}");
            for (a, b) in pulled.samples.iter().zip(&pushed.samples) {
                assert_eq!(a.caps(), b.caps(), "{name}");
                assert!(pixels(a) == pixels(b), "{name}");
            }
        }
    }
}

#[test]
fn little_data_besides_keyframes_is_read() {
    // Long groups of pictures with much data in between.
    let source = clip();
    let how = "-vf noise=alls=40:allf=t -c:v mpeg4 -q:v 3 -g 100 -sc_threshold 1000000000";
    let how: Vec<_> = ["-i", source.to_str().unwrap()].into_iter().chain(how.split(' ')).collect();
    let long = made("long_groups.mp4", &how);
    let copy = |name: &str, how: &[&str]| made(name, &[&["-i", long.to_str().unwrap(), "-c", "copy"], how].concat());
    for file in [
        long.clone(),
        copy("long_groups_first.mp4", &["-movflags", "+faststart"]),
        copy("long_groups.mov", &[]),
        copy("long_groups.mkv", &[]),
        copy("long_groups_live.mkv", &["-live", "1"]),
    ] {
        let (pipeline, sink) = pipeline(&format!("filesrc location={} ! vxkeyframedec name=dec", quoted(&file)));
        let outcome = play(&pipeline, &sink);
        assert_eq!(outcome.pts(), probed(&file), "{file:?}");
        let stats: gst::Structure = pipeline.by_name("dec").unwrap().property("stats");
        pipeline.set_state(gst::State::Null).unwrap();
        let (read, keyframes): (u64, u64) = (stats.get("bytes-read").unwrap(), stats.get("keyframe-bytes").unwrap());
        let size = std::fs::metadata(&file).unwrap().len();
        assert!(keyframes < size / 10, "{keyframes} of {size} bytes are keyframes: the test is off");
        // The index, block headers, and the data that is read while the file is opened.
        let most = keyframes * 12 / 10 + 64 * 1024;
        assert!(read < most, "{file:?}: {read} of {size} bytes were read for {keyframes} bytes of keyframes");
        assert_eq!(stats.get::<u64>("keyframes").unwrap(), outcome.samples.len() as u64);
    }
}

#[test]
fn fifty_restarts_produce_the_same_frames() {
    let (pipeline, sink) = pipeline(&format!("filesrc location={} ! vxkeyframedec", quoted(&clip())));
    let expected = probed(&clip());
    for round in 0..50 {
        assert_eq!(play(&pipeline, &sink).pts(), expected, "round {round}");
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn planes_are_not_copied_from_the_decoder() {
    // Two branches share frames without a copy: both ends see the same memory, with one memory block per plane.
    let (pipeline, sink) = pipeline(&format!(
        "filesrc location={} ! vxkeyframedec name=dec ! identity ! vxyolodetect execution-provider=cpu",
        quoted(&clip())
    ));
    let addresses = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let pad = pipeline.by_name("dec").unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, {
        let addresses = addresses.clone();
        move |_, info| {
            addresses.lock().unwrap().push(plane_addresses(info.buffer().unwrap()));
            gst::PadProbeReturn::Ok
        }
    });
    let outcome = play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    let before = addresses.lock().unwrap().clone();
    let after: Vec<_> = outcome.samples.iter().map(|sample| plane_addresses(sample.buffer().unwrap())).collect();
    assert_eq!(before, after);
    assert!(!before.is_empty() && before.iter().all(|planes| planes.len() == 3));
    // FFmpeg pads its lines. A copy into GStreamer's own layout would not have this padding.
    let meta = outcome.samples[0].buffer().unwrap().meta::<gst_video::VideoMeta>().unwrap();
    assert!(meta.stride()[0] as u32 >= meta.width());
}

fn plane_addresses(buffer: &gst::BufferRef) -> Vec<usize> {
    buffer.iter_memories().map(|memory| memory.map_readable().unwrap().as_ptr().addr()).collect()
}

#[test]
fn pictures_are_upright_or_stored_with_a_tag() {
    const ONE: i32 = 1 << 16;
    let source = std::fs::read(clip()).unwrap();
    // The display matrix is in the track header (ISO/IEC 14496-12, 8.3.2), 40 bytes after the box name.
    let matrix_at = source.windows(4).position(|word| word == b"tkhd").unwrap() + 4 + 40;
    let mut sizes = Vec::new();
    let turns = [
        ("0", [ONE, 0, 0, ONE]),
        ("90", [0, ONE, -ONE, 0]),
        ("180", [-ONE, 0, 0, -ONE]),
        ("270", [0, -ONE, ONE, 0]),
        ("0, mirrored", [-ONE, 0, 0, ONE]),
        ("90, mirrored", [0, ONE, ONE, 0]),
        ("180, mirrored", [ONE, 0, 0, -ONE]),
        ("270, mirrored", [0, -ONE, -ONE, 0]),
    ];
    for (rotate, [a, b, c, d]) in turns {
        let turned = scratch(&format!("turned_{rotate}.mp4"));
        let mut bytes = source.clone();
        for (position, number) in [(0, a), (1, b), (3, c), (4, d)] {
            let at = matrix_at + 4 * position;
            bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        std::fs::write(&turned, bytes).unwrap();
        let size = |launch: &str| {
            let outcome = run(&format!("filesrc location={} ! {launch}", quoted(&turned)));
            let info = gst_video::VideoInfo::from_caps(outcome.samples[0].caps().unwrap()).unwrap();
            (info.width(), info.height(), pixels(&outcome.samples[0]))
        };
        let upright = size("vxkeyframedec");
        let stored = size("vxkeyframedec orientation=stored");
        sizes.push((upright.0, upright.1));
        assert_eq!(upright.2 == stored.2, rotate == "0", "rotated by {rotate}");
        // The reference is the stored picture, rotated by GStreamer according to its tag.
        let turned_by_tag = size("vxkeyframedec orientation=stored ! videoflip video-direction=auto");
        assert!(upright == turned_by_tag, "rotated by {rotate}");
    }
    let (width, height) = sizes[0];
    assert_eq!(sizes, [(width, height), (height, width)].repeat(4));
}

#[test]
fn a_seek_selects_keyframes() {
    let (pipeline, sink) = pipeline(&format!("filesrc location={} ! vxkeyframedec name=dec", quoted(&clip())));
    let decoder = pipeline.by_name("dec").unwrap();
    let all = probed(&clip());
    pipeline.set_state(gst::State::Paused).unwrap();
    sink.pull_preroll().unwrap();
    let duration = pipeline.query_duration::<gst::ClockTime>().unwrap();
    assert!(duration.nseconds() > *all.last().unwrap(), "{duration}");
    let middle = all[all.len() / 2];
    let between = gst::ClockTime::from_nseconds(middle + 200_000_000);
    let nearest = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT | gst::SeekFlags::SNAP_NEAREST;
    for (after_ns, first) in [(0, 0), (200_000_000, 0), (500_000_000, 0), (800_000_000, 1)] {
        pipeline.seek_simple(nearest, gst::ClockTime::from_nseconds(middle + after_ns)).unwrap();
        assert_eq!(play(&pipeline, &sink).pts(), all[all.len() / 2 + first..], "nearest to {after_ns} ns behind");
    }
    // After the start of the last keyframe, only that keyframe follows.
    pipeline.seek_simple(nearest, duration - gst::ClockTime::from_mseconds(100)).unwrap();
    assert_eq!(play(&pipeline, &sink).pts(), all[all.len() - 1..]);
    // Reverse playback is refused, and the pipeline continues as before.
    let (zero, rate) = (gst::ClockTime::ZERO, -1.0);
    assert!(pipeline.seek(rate, nearest, gst::SeekType::Set, zero, gst::SeekType::Set, between).is_err());
    let cases = [
        (gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, &all[all.len() / 2..]),
        (gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT | gst::SeekFlags::SNAP_AFTER, &all[all.len() / 2 + 1..]),
        (gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, &all[all.len() / 2 + 1..]),
    ];
    for (flags, expected) in cases {
        pipeline.seek_simple(flags, between).unwrap();
        let outcome = play(&pipeline, &sink);
        let found = outcome.pts();
        assert_eq!(found, expected, "{flags:?}");
        let (start, segment) = (&outcome.samples[0], outcome.samples[0].segment().unwrap());
        let segment = segment.downcast_ref::<gst::ClockTime>().unwrap();
        assert!(segment.to_running_time(start.buffer().unwrap().pts()).is_some(), "{flags:?}: {segment:?}");
    }
    // A range with a start and a stop.
    let (start, stop) = (gst::ClockTime::from_nseconds(all[1]), gst::ClockTime::from_nseconds(all[4]));
    let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
    pipeline.seek(1.0, flags, gst::SeekType::Set, start, gst::SeekType::Set, stop).unwrap();
    assert_eq!(play(&pipeline, &sink).pts(), all[1..4]);
    let position = decoder.query_position::<gst::ClockTime>().unwrap();
    assert!(position.nseconds() >= all[3], "{position}");
    pipeline.set_state(gst::State::Null).unwrap();
}

/// What a seek skips is not missing.
#[test]
fn a_seek_to_the_last_seconds_causes_no_warning() {
    for (position, count) in [(12, 4), (14, 2), (15, 1)] {
        let (pipeline, sink) = pipeline(&format!("filesrc location={} ! vxkeyframedec name=dec", quoted(&clip())));
        pipeline.set_state(gst::State::Paused).unwrap();
        sink.pull_preroll().unwrap();
        pipeline.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::from_seconds(position)).unwrap();
        let outcome = play(&pipeline, &sink);
        let stats: gst::Structure = pipeline.by_name("dec").unwrap().property("stats");
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(outcome.samples.len(), count, "from {position} s");
        assert_eq!(outcome.warnings, [""; 0], "from {position} s");
        assert!(!stats.has_field("problems"), "{stats}");
    }
}

/// Keyframes one second apart do not get the 40 ms duration of the recorded frames.
#[test]
fn buffers_have_a_duration_only_if_no_frame_is_skipped() {
    let source = clip();
    let intra = made("intra.mkv", &["-i", source.to_str().unwrap(), "-an", "-t", "1", "-c:v", "mjpeg", "-r", "25"]);
    let frame = gst::ClockTime::from_mseconds(40);
    for (file, properties, expected) in [
        (&clip(), "", None),
        (&clip(), "max-gap=300000000", None),
        (&intra, "", Some(frame)),
        (&intra, "min-interval=100000000", None),
    ] {
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec {properties}", quoted(file)));
        assert!(outcome.samples.len() > 3, "{outcome:?}");
        let durations = outcome.samples.iter().map(|sample| sample.buffer().unwrap().duration());
        assert!(durations.clone().all(|duration| duration == expected), "{:?}", durations.collect::<Vec<_>>());
    }
}

/// In pull mode, a Matroska file is scanned by its block headers. Through a pipe, FFmpeg's demuxer reads the whole file.
#[test]
fn jumping_to_keyframes_loses_no_more_to_damage_than_sequential_reading() {
    let whole = made("damaged.mkv", &["-i", clip().to_str().unwrap(), "-c", "copy"]);
    let whole = std::fs::read(whole).unwrap();
    let file = scratch("damaged_copy.mkv");
    for part in 2..30 {
        let at = whole.len() * part / 32;
        for damage in [&[0_u8; 64][..], &[0xff; 64], &[]] {
            let mut bytes = whole.clone();
            if damage.is_empty() {
                bytes.truncate(at);
            } else {
                bytes[at..at + damage.len()].copy_from_slice(damage);
            }
            std::fs::write(&file, bytes).unwrap();
            let pulled = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&file)));
            let piped = run(&format!("{} ! vxkeyframedec", piped(&file)));
            let missing: Vec<_> = piped.pts().into_iter().filter(|pts| !pulled.pts().contains(pts)).collect();
            assert!(missing.is_empty(), "damaged at {at}: {missing:?} of {:?} are missing", piped.pts());
        }
    }
}

/// The element between `filesrc` and `vxkeyframedec`: none for pull mode, or a queue for push mode with seeks.
const BETWEEN: [&str; 2] = ["", "! queue"];

#[test]
fn many_seeks_while_playing_succeed() {
    for between in BETWEEN {
        let (pipeline, sink) = pipeline(&format!("filesrc location={} {between} ! vxkeyframedec", quoted(&clip())));
        let all = probed(&clip());
        pipeline.set_state(gst::State::Playing).unwrap();
        sink.pull_sample().unwrap();
        for step in 0..100_usize {
            let target = gst::ClockTime::from_nseconds(all[step * 7 % all.len()]);
            pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, target).unwrap();
            let sample = sink.try_pull_sample(gst::ClockTime::from_seconds(60));
            let sample = sample.unwrap_or_else(|| panic!("seek {step} {between}: nothing, EOS {}", sink.is_eos()));
            assert_eq!(sample.buffer().unwrap().pts(), Some(target), "seek {step} {between}");
        }
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn states_can_change_at_any_moment() {
    for between in BETWEEN {
        let (pipeline, sink) = pipeline(&format!("filesrc location={} {between} ! vxkeyframedec", quoted(&clip())));
        for round in 0..30_u64 {
            pipeline.set_state(gst::State::Playing).unwrap();
            sink.try_pull_sample(gst::ClockTime::from_mseconds(round % 4));
            pipeline.set_state(if round % 2 == 0 { gst::State::Ready } else { gst::State::Null }).unwrap();
        }
        assert_eq!(play(&pipeline, &sink).pts(), probed(&clip()), "{between}");
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn a_stream_that_requires_seeking_is_spooled_up_to_a_limit() {
    let last = made("spooled.mp4", &["-i", clip().to_str().unwrap(), "-c", "copy"]);
    let outcome = run(&format!("{} ! vxkeyframedec spool-limit=100000", piped(&last)));
    assert!(outcome.samples.is_empty());
    let text = outcome.error_text();
    assert!(text.contains("spool-limit") && text.contains("faststart"), "{text}");
}

/// Returns the tags of a copy of the clip with this metadata.
fn tags_of(metadata: &str) -> gst::TagList {
    let titled = made("titled.mkv", &["-i", clip().to_str().unwrap(), "-c", "copy", "-metadata", metadata]);
    let (pipeline, sink) = pipeline(&format!("filesrc location={} ! vxkeyframedec name=dec", quoted(&titled)));
    play(&pipeline, &sink);
    let pad = pipeline.by_name("dec").unwrap().static_pad("src").unwrap();
    let tags = pad.sticky_event::<gst::event::Tag>(0).unwrap().tag().to_owned();
    pipeline.set_state(gst::State::Null).unwrap();
    tags
}

#[test]
fn title_and_codecs_are_sent_as_tags() {
    let tags = tags_of("title=Two cats");
    assert_eq!(tags.get::<gst::tags::Title>().unwrap().get(), "Two cats");
    assert!(tags.get::<gst::tags::ContainerFormat>().unwrap().get().contains("Matroska"));
    assert!(tags.get::<gst::tags::VideoCodec>().unwrap().get().contains("H.264"));
    let long = tags_of(&format!("title={}", "Two cats ".repeat(10_000)));
    assert_eq!(long.get::<gst::tags::Title>().unwrap().get().len(), 4096);
    assert!(tags.get::<gst::tags::ImageOrientation>().is_none());
}

#[test]
fn caps_contain_pixel_aspect_ratio_and_colorimetry_of_the_file() {
    let described = made(
        "described.mkv",
        &[
            "-i",
            clip().to_str().unwrap(),
            "-t",
            "1",
            "-c:v",
            "mpeg2video",
            "-aspect",
            "16:9",
            "-vf",
            "scale=352:288,setsar=16/11",
            "-colorspace",
            "bt470bg",
            "-color_primaries",
            "bt470bg",
            "-color_trc",
            "gamma28",
            "-color_range",
            "tv",
        ],
    );
    let caps_of = |path: &std::path::Path| {
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(path)));
        outcome.samples[0].caps_owned().unwrap()
    };
    let caps = caps_of(&described);
    let structure = caps.structure(0).unwrap();
    assert_eq!(structure.get::<gst::Fraction>("pixel-aspect-ratio").unwrap(), gst::Fraction::new(16, 11));
    let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
    assert_eq!(info.colorimetry().matrix(), gst_video::VideoColorMatrix::Bt601);
    assert_eq!((info.width(), info.height()), (352, 288));
    // A file without colour information gets caps without it.
    let plain = made("plain.avi", &["-i", clip().to_str().unwrap(), "-t", "1", "-c:v", "mpeg4"]);
    assert!(!caps_of(&plain).structure(0).unwrap().has_field("colorimetry"));
    // A JPEG is full-range BT.601 at every size.
    let jpeg = made("full.jpg", &["-i", clip().to_str().unwrap(), "-frames:v", "1", "-vf", "scale=1280:720"]);
    let info = gst_video::VideoInfo::from_caps(&caps_of(&jpeg)).unwrap();
    assert_eq!(info.colorimetry().matrix(), gst_video::VideoColorMatrix::Bt601);
    assert_eq!(info.colorimetry().range(), gst_video::VideoColorRange::Range0_255);
}

#[test]
fn unsupported_formats_are_converted_or_refused_with_advice() {
    let source = quoted(&clip());
    let outcome = run(&format!("filesrc location={source} ! vxkeyframedec ! video/x-raw,format=RGB"));
    assert_eq!(outcome.samples[0].caps().unwrap().structure(0).unwrap().get::<&str>("format").unwrap(), "RGB");
    assert_eq!(outcome.pts(), probed(&clip()));
    // As pngenc: colours are kept where that is possible.
    for (accepted, expected) in [("{RGBA,RGB,GRAY8}", "RGB"), ("GRAY8", "GRAY8")] {
        let outcome = run(&format!("filesrc location={source} ! vxkeyframedec ! video/x-raw,format={accepted}"));
        let caps = outcome.samples[0].caps().unwrap();
        assert_eq!(caps.structure(0).unwrap().get::<&str>("format").unwrap(), expected, "{accepted}");
    }
    let outcome = run(&format!("filesrc location={source} ! vxkeyframedec ! video/x-raw,width=64"));
    assert!(outcome.error_text().contains("videoscale"), "{:?}", outcome.error);
}

#[test]
fn a_new_size_or_format_within_a_stream_sends_new_caps() {
    let source = clip();
    let part = |name: &str, how: &str| {
        let how: Vec<_> = how.split_whitespace().collect();
        made(name, &[&["-i", source.to_str().unwrap(), "-an", "-t", "2", "-g", "10"], &how[..]].concat())
    };
    let small = part("small.ts", "-c:v mpeg2video -vf scale=320:180");
    let large = part("large.ts", "-c:v mpeg2video -vf scale=640:360");
    let eight = part("eight.ts", "-c:v libx264 -preset ultrafast -vf scale=320:180");
    let ten = part("ten.ts", "-c:v libx264 -preset ultrafast -vf scale=320:180 -pix_fmt yuv422p10le");
    let frames = |file: &std::path::Path| {
        let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(file)));
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        let describe = |sample: &gst::Sample| {
            let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
            (info.format(), info.width(), pixels(sample))
        };
        outcome.samples.iter().map(describe).collect::<Vec<_>>()
    };
    for (first, second) in [(small, large), (eight, ten)] {
        let joined = scratch("joined.ts");
        std::fs::write(&joined, [std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap()].concat()).unwrap();
        let expected = [frames(&first), frames(&second)].concat();
        assert!(expected.first().unwrap().2.len() < expected.last().unwrap().2.len());
        assert!(frames(&joined) == expected, "{joined:?}");
    }
}

/// Returns a pipeline whose source fails in the middle of the clip.
fn failing_pipeline() -> (gst::Pipeline, gst_app::AppSink) {
    common::init();
    let pipeline = gst::Pipeline::new();
    let source: gst::Element = gst::glib::Object::new::<dying::Disk>().upcast();
    let decoder = gst::ElementFactory::make("vxkeyframedec").build().unwrap();
    let sink = gst_app::AppSink::builder().sync(false).build();
    pipeline.add_many([&source, &decoder, sink.upcast_ref()]).unwrap();
    gst::Element::link_many([&source, &decoder, sink.upcast_ref()]).unwrap();
    (pipeline, sink)
}

#[test]
fn an_upstream_failure_gives_the_readable_frames_and_then_an_error_with_the_position() {
    let (pipeline, sink) = failing_pipeline();
    let outcome = play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    let (error, _) = outcome.error.as_ref().unwrap();
    assert!(error.matches(gst::ResourceError::Read), "{error:?}");
    assert!(error.message().contains("at byte"), "{error}");
    let all = probed(&clip());
    assert!((1..all.len()).contains(&outcome.samples.len()), "{}", outcome.samples.len());
    assert_eq!(outcome.pts(), all[..outcome.samples.len()]);
}

#[test]
fn a_segment_ends_with_segment_done_or_with_an_error() {
    let whole = format!("filesrc location={} ! vxkeyframedec", quoted(&clip()));
    for ((pipeline, sink), fails) in [(common::pipeline(&whole), false), (failing_pipeline(), true)] {
        pipeline.set_state(gst::State::Paused).unwrap();
        sink.pull_preroll().unwrap();
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::SEGMENT;
        // The stop is between two keyframes: the segment still ends there.
        let stop = gst::ClockTime::from_mseconds(15_300);
        pipeline.seek(1.0, flags, gst::SeekType::Set, gst::ClockTime::ZERO, gst::SeekType::Set, stop).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        // The sink pad is the last one to receive the event.
        let told = sink.static_pad("sink").unwrap();
        let (end, ended) = std::sync::mpsc::channel();
        told.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let kind = info.event().map(|event| event.type_());
            if let Some(kind @ (gst::EventType::Eos | gst::EventType::SegmentDone)) = kind {
                let _ = end.send(kind);
            }
            gst::PadProbeReturn::Ok
        });
        let kind = loop {
            match ended.recv_timeout(std::time::Duration::from_millis(20)) {
                Ok(kind) => break kind,
                Err(_) => drop(sink.try_pull_sample(gst::ClockTime::from_mseconds(20))),
            }
        };
        let bus = pipeline.bus().unwrap();
        let messages: Vec<_> = std::iter::from_fn(|| bus.pop()).collect();
        let position = messages.iter().find_map(|message| match message.view() {
            gst::MessageView::SegmentDone(done) => Some(done.get()),
            _ => None,
        });
        assert_eq!(position, (!fails).then_some(stop.into()));
        let messages: Vec<_> = messages.iter().map(|message| message.type_()).collect();
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(messages.contains(&gst::MessageType::Error), fails);
        assert_eq!(messages.contains(&gst::MessageType::SegmentDone), !fails, "{messages:?}");
        assert_eq!(kind, if fails { gst::EventType::Eos } else { gst::EventType::SegmentDone });
    }
}

#[test]
fn an_upstream_failure_in_push_mode_ends_the_stream() {
    let launch =
        format!("filesrc blocksize=4096 location={} ! queue ! identity name=fails ! vxkeyframedec", quoted(&clip()));
    let (pipeline, sink) = pipeline(&launch);
    // The error-after of identity fails once only: a seek of the decoder would go on behind it.
    let blocks = std::sync::atomic::AtomicUsize::new(0);
    let pad = pipeline.by_name("fails").unwrap().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if blocks.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 20 {
            return gst::PadProbeReturn::Ok;
        }
        info.flow_res = Err(gst::FlowError::Error);
        gst::PadProbeReturn::Handled
    });
    let outcome = play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(outcome.error.is_some());
    assert!(outcome.samples.len() < 16);
}

#[test]
fn an_upstream_without_data_does_not_delay_a_stop() {
    for given in [0, 5000, 200_000] {
        let (pipeline, sink) = pipeline("appsrc name=source ! vxkeyframedec");
        let source = pipeline.by_name("source").unwrap().downcast::<gst_app::AppSrc>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let bytes = std::fs::read(clip()).unwrap();
        if given > 0 {
            source.push_buffer(gst::Buffer::from_slice(bytes[..given].to_vec())).unwrap();
        }
        sink.try_pull_sample(gst::ClockTime::from_mseconds(100));
        let stopping = std::time::Instant::now();
        pipeline.set_state(gst::State::Null).unwrap();
        assert!(stopping.elapsed() < common::PATIENCE / 10, "{:?} after {given} bytes", stopping.elapsed());
    }
}

#[test]
fn after_a_flush_from_upstream_another_file_can_follow() {
    let (pipeline, sink) = pipeline("appsrc name=source ! vxkeyframedec");
    let source = pipeline.by_name("source").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    let bytes = std::fs::read(clip()).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    source.push_buffer(gst::Buffer::from_slice(bytes[..200_000].to_vec())).unwrap();
    sink.pull_sample().unwrap();
    source.send_event(gst::event::FlushStart::new());
    source.send_event(gst::event::FlushStop::new(true));
    source.send_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Bytes>::new()));
    source.push_buffer(gst::Buffer::from_slice(bytes)).unwrap();
    source.end_of_stream().unwrap();
    assert_eq!(play(&pipeline, &sink).pts(), probed(&clip()));
    pipeline.set_state(gst::State::Null).unwrap();
}

/// A source with random access that fails after a number of reads.
mod dying {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use gst::glib;
    use gst_base::prelude::*;
    use gst_base::subclass::prelude::*;

    #[derive(Default)]
    pub struct DiskImp(AtomicUsize);

    #[glib::object_subclass]
    impl ObjectSubclass for DiskImp {
        const NAME: &'static str = "VxTestDyingDisk";
        type Type = Disk;
        type ParentType = gst_base::BaseSrc;
    }

    glib::wrapper! {
        pub struct Disk(ObjectSubclass<DiskImp>) @extends gst_base::BaseSrc, gst::Element, gst::Object;
    }

    impl ObjectImpl for DiskImp {
        fn constructed(&self) {
            self.parent_constructed();
            self.obj().set_format(gst::Format::Bytes);
        }
    }
    impl GstObjectImpl for DiskImp {}
    impl ElementImpl for DiskImp {
        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: std::sync::LazyLock<Vec<gst::PadTemplate>> = std::sync::LazyLock::new(|| {
                let any = gst::Caps::new_any();
                vec![gst::PadTemplate::new("src", gst::PadDirection::Src, gst::PadPresence::Always, &any).unwrap()]
            });
            &TEMPLATES
        }
    }
    impl BaseSrcImpl for DiskImp {
        fn is_seekable(&self) -> bool {
            true
        }
        fn size(&self) -> Option<u64> {
            std::fs::metadata(crate::clip()).ok().map(|file| file.len())
        }
        fn create(
            &self,
            offset: u64,
            _buffer: Option<&mut gst::BufferRef>,
            length: u32,
        ) -> Result<gst_base::subclass::base_src::CreateSuccess, gst::FlowError> {
            if self.0.fetch_add(1, Ordering::Relaxed) >= 8 {
                return Err(gst::FlowError::Error);
            }
            let bytes = std::fs::read(crate::clip()).unwrap();
            let start = (offset as usize).min(bytes.len());
            let end = (start + length as usize).min(bytes.len());
            let buffer = gst::Buffer::from_slice(bytes[start..end].to_vec());
            Ok(gst_base::subclass::base_src::CreateSuccess::NewBuffer(buffer))
        }
    }
}

#[test]
fn every_decoder_knows_which_version_of_x264_made_the_file() {
    // Versions before 151 coded 4:4:4 pictures differently; only the first keyframe has the version.
    let encode = "-an -t 6 -c:v libx264 -pix_fmt yuv444p -qp 20 -g 25 -sc_threshold 0";
    let encode: Vec<_> = encode.split_whitespace().collect();
    let new = made("x264-new.mp4", &[&["-i", clip().to_str().unwrap()], &encode[..]].concat());
    let mut bytes = std::fs::read(&new).unwrap();
    let start = b"x264 - core ";
    let at = bytes.windows(start.len()).position(|window| window == start).unwrap() + start.len();
    bytes[at..at + 3].copy_from_slice(b"148");
    let old = scratch("x264-old.mp4");
    std::fs::write(&old, bytes).unwrap();
    let frames = |file: &std::path::Path, threads: u32| {
        let launch = format!("filesrc location={} ! vxkeyframedec thread-count={threads}", quoted(file));
        let outcome = run(&launch);
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        outcome.samples.iter().map(pixels).collect::<Vec<_>>()
    };
    let alone = frames(&old, 1);
    assert!(alone.len() == 6 && alone[5] != frames(&new, 1)[5], "the version makes no difference");
    assert!(frames(&old, 4) == alone);
}

#[test]
fn a_badly_damaged_file_causes_few_warnings() {
    const MAX_WARNINGS: usize = 20;
    let outcome = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&damaged_keyframes("warnings.mp4", 30))));
    let damage: Vec<_> = outcome.warnings.iter().filter(|text| text.contains("damaged data")).collect();
    assert_eq!(damage.len(), MAX_WARNINGS, "{:?}", outcome.warnings);
    assert!(damage[MAX_WARNINGS - 1].ends_with("further ones are only logged"), "{damage:?}");
}
