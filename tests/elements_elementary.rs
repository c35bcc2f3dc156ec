// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vxkeyframedec` on access units from demuxers, depayloaders and parsers rather than on the bytes of files.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{Outcome, clip, made, pipeline, pixels, play, quoted, root, run, shared};
use gst::prelude::*;

/// The video of `file` through a demuxer of GStreamer.
fn demuxed(file: &Path) -> String {
    let demuxer = match file.extension().and_then(|extension| extension.to_str()) {
        Some("mkv" | "webm") => "matroskademux",
        Some("avi") => "avidemux",
        _ => "qtdemux",
    };
    format!("filesrc location={} ! {demuxer} name=demuxer demuxer.video_0 ! queue", quoted(file))
}

fn encoded(name: &str, how: &str) -> PathBuf {
    let source = clip();
    let how: Vec<_> = how.split_whitespace().collect();
    made(name, &[&["-i", source.to_str().unwrap(), "-an", "-t", "4", "-vf", "scale=320:240"], &how[..]].concat())
}

fn x264(name: &str) -> PathBuf {
    encoded(name, "-c:v libx264 -preset ultrafast -g 25 -bf 2")
}

/// Returns stream time and pixels of each frame.
fn frames(outcome: &Outcome) -> Vec<(Option<u64>, Vec<u8>)> {
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let frame = |sample: &gst::Sample| {
        let segment = sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap().clone();
        let time = segment.to_stream_time(sample.buffer().unwrap().pts());
        (time.map(gst::ClockTime::nseconds), pixels(sample))
    };
    outcome.samples.iter().map(frame).collect()
}

fn of_file(file: &Path) -> Vec<(Option<u64>, Vec<u8>)> {
    frames(&run(&format!("filesrc location={} ! vxkeyframedec", quoted(file))))
}

/// Compares two lists of frames. Times may differ by the rounding of `tolerance_ns`.
fn assert_same(left: &[(Option<u64>, Vec<u8>)], right: &[(Option<u64>, Vec<u8>)], tolerance_ns: u64, what: &str) {
    let times = |frames: &[(Option<u64>, Vec<u8>)]| frames.iter().map(|(time, _)| *time).collect::<Vec<_>>();
    assert_eq!(left.len(), right.len(), "{what}: {:?} and {:?}", times(left), times(right));
    for ((time, pixels), (other_time, other_pixels)) in left.iter().zip(right) {
        let distance = time.unwrap().abs_diff(other_time.unwrap());
        assert!(distance <= tolerance_ns, "{what}: {:?} and {:?}", times(left), times(right));
        assert!(pixels == other_pixels, "{what}: other pixels at {time:?}");
    }
}

/// Calls `change` for each buffer that leaves `element`.
fn probe(
    pipeline: &gst::Pipeline,
    element: &str,
    change: impl Fn(&mut gst::PadProbeInfo<'_>) -> gst::PadProbeReturn + Send + Sync + 'static,
) {
    let pad = pipeline.by_name(element).unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| change(info));
}

fn writable<'a>(info: &'a mut gst::PadProbeInfo<'_>) -> &'a mut gst::BufferRef {
    match &mut info.data {
        Some(gst::PadProbeData::Buffer(buffer)) => buffer.make_mut(),
        _ => unreachable!("the probe is for buffers"),
    }
}

#[test]
fn keyframes_of_every_codec_are_those_of_the_file() {
    for (name, how) in [
        ("units-h264.mp4", "-c:v libx264 -preset ultrafast -g 25 -bf 2"),
        ("units-open.mp4", "-c:v libx264 -preset ultrafast -g 25 -bf 2 -x264-params open-gop=1:scenecut=0"),
        ("units-h264.mkv", "-c:v libx264 -preset ultrafast -g 25"),
        ("units-fields.mp4", "-c:v libx264 -preset ultrafast -g 25 -flags +ildct+ilme"),
        ("units-h265.mp4", "-c:v libx265 -preset ultrafast -x265-params keyint=25:log-level=none -tag:v hvc1"),
        ("units-h265.mkv", "-c:v libx265 -preset ultrafast -x265-params keyint=25:open-gop=1:log-level=none"),
        ("units-av1.mkv", "-t 2 -c:v libaom-av1 -cpu-used 8 -g 25"),
        ("units-av1.mp4", "-t 2 -c:v libaom-av1 -cpu-used 8 -g 25"),
        ("units-vp8.webm", "-c:v libvpx -deadline realtime -g 25"),
        ("units-vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25"),
        ("units-mjpeg.mov", "-r 5 -c:v mjpeg -pix_fmt yuvj420p"),
        ("units-mpeg4.mp4", "-c:v mpeg4 -g 25"),
        ("units-mpeg2.mkv", "-c:v mpeg2video -g 25 -bf 2"),
    ] {
        let file = encoded(name, how);
        let expected = of_file(&file);
        assert!(expected.len() >= 2, "{name}: {} frames", expected.len());
        let units = frames(&run(&format!("{} ! vxkeyframedec", demuxed(&file))));
        // Matroska's times are in milliseconds.
        assert_same(&units, &expected, 1_000_000, name);
    }
}

#[test]
fn keyframes_of_other_programs_files_are_those_of_the_file() {
    for name in [
        "intel/car-detection.mp4",
        "rsmpeg/bear.mp4",
        "torchcodec/h265_video.mp4",
        "torchcodec/av1_video.mkv",
        "mp4parser/foreman-hevc-384.mp4",
        "small/webm.webm",
        "imageio/realshort.mp4",
    ] {
        let Some(file) = shared(&format!("media/{name}")) else { continue };
        let (mut units, mut expected) = (frames(&run(&format!("{} ! vxkeyframedec", demuxed(&file)))), of_file(&file));
        // GStreamer's stream time and ours may begin at another place, where audio comes first.
        for frames in [&mut units, &mut expected] {
            let first = frames[0].0;
            frames.iter_mut().for_each(|(time, _)| *time = time.zip(first).map(|(time, first)| time - first));
        }
        assert_same(&units, &expected, 1_000_000, name);
    }
}

#[test]
fn keyframes_from_parsers_are_those_of_the_file() {
    common::init();
    for (name, how, parser) in [
        ("parsed-h264.mp4", "-c:v libx264 -preset ultrafast -g 25 -bf 2", "h264parse"),
        (
            "parsed-open.mp4",
            "-c:v libx264 -preset ultrafast -g 25 -bf 2 -x264-params open-gop=1:scenecut=0",
            "h264parse",
        ),
        ("parsed-fields.mp4", "-c:v libx264 -preset ultrafast -g 25 -flags +ildct+ilme", "h264parse"),
        (
            "parsed-h265.mp4",
            "-c:v libx265 -preset ultrafast -x265-params keyint=25:log-level=none -tag:v hvc1",
            "h265parse",
        ),
        ("parsed-mpeg2.mkv", "-c:v mpeg2video -g 25 -bf 2", "mpegvideoparse"),
    ] {
        if gst::ElementFactory::find(parser).is_none() {
            println!("skipped: GStreamer has no {parser}");
            continue;
        }
        let file = encoded(name, how);
        let expected = of_file(&file);
        let units = frames(&run(&format!("{} ! {parser} ! vxkeyframedec", demuxed(&file))));
        assert_same(&units, &expected, 1_000_000, name);
        let streams = if parser == "h264parse" { "video/x-h264,stream-format=byte-stream" } else { continue };
        let units = frames(&run(&format!("{} ! {parser} ! {streams} ! vxkeyframedec", demuxed(&file))));
        assert_same(&units, &expected, 1_000_000, &format!("{name} as a byte stream"));
    }
}

#[test]
fn times_and_durations_are_those_of_the_access_units() {
    let file = x264("units-times.mp4");
    let (pipeline, sink) = pipeline(&format!("{} ! identity name=before ! vxkeyframedec name=decoder", demuxed(&file)));
    let units = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = Arc::clone(&units);
    probe(&pipeline, "before", move |info| {
        let buffer = writable(info);
        if !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            seen.lock().push((buffer.pts(), buffer.duration()));
        }
        gst::PadProbeReturn::Ok
    });
    let outcome = play(&pipeline, &sink);
    let stats: gst::Structure = pipeline.by_name("decoder").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    let frames: Vec<_> = outcome.samples.iter().map(|sample| sample.buffer().unwrap()).collect();
    let times: Vec<_> = frames.iter().map(|buffer| (buffer.pts(), buffer.duration())).collect();
    assert_eq!(times, *units.lock());
    assert!(times.len() >= 4 && times[0].1.is_some(), "{times:?}");
    // Only breaks in upstream's stream are marked.
    assert!(frames[1..].iter().all(|buffer| !buffer.flags().contains(gst::BufferFlags::DISCONT)));
    assert_eq!(stats.get::<u64>("keyframes").unwrap(), times.len() as u64, "{stats}");
    assert!(stats.get::<u64>("dropped-packets").unwrap() > 50, "{stats}");
}

#[test]
fn keyframes_arrive_through_rtp() {
    let file = x264("units-rtp.mp4");
    let launch = format!("{} ! rtph264pay ! rtph264depay ! vxkeyframedec", demuxed(&file));
    assert_same(&frames(&run(&launch)), &of_file(&file), 1_000_000, "RTP");
    let launch = format!("{} ! rtph264pay mtu=1200 config-interval=-1 ! rtph264depay ! vxkeyframedec", demuxed(&file));
    assert_same(&frames(&run(&launch)), &of_file(&file), 1_000_000, "RTP with repeated parameter sets");
}

#[test]
fn a_stream_that_is_joined_in_the_middle_begins_at_its_next_keyframe() {
    let file = x264("units-joined.mp4");
    let expected = of_file(&file);
    for launch in ["rtph264pay config-interval=-1 ! rtph264depay ! identity name=before", "identity name=before"] {
        let (pipeline, sink) = pipeline(&format!("{} ! {launch} ! vxkeyframedec", demuxed(&file)));
        let units = AtomicU64::new(0);
        probe(&pipeline, "before", move |_| match units.fetch_add(1, Ordering::Relaxed) {
            0..30 => gst::PadProbeReturn::Drop,
            _ => gst::PadProbeReturn::Ok,
        });
        let joined = frames(&play(&pipeline, &sink));
        pipeline.set_state(gst::State::Null).unwrap();
        assert_same(&joined, &expected[2..], 1_000_000, launch);
    }
}

#[test]
fn access_units_are_parsed_whatever_their_flags_say() {
    let file = x264("units-flags.mp4");
    let expected = of_file(&file);
    for is_delta in [true, false] {
        let launch = format!("{} ! rtph264pay ! rtph264depay ! identity name=before ! vxkeyframedec", demuxed(&file));
        let (pipeline, sink) = pipeline(&launch);
        probe(&pipeline, "before", move |info| {
            let buffer = writable(info);
            if is_delta {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            } else {
                buffer.unset_flags(gst::BufferFlags::DELTA_UNIT);
            }
            gst::PadProbeReturn::Ok
        });
        let found = frames(&play(&pipeline, &sink));
        pipeline.set_state(gst::State::Null).unwrap();
        assert_same(&found, &expected, 1_000_000, "flags");
    }
}

#[test]
fn a_damaged_keyframe_affects_only_itself() {
    let file = x264("units-damaged.mp4");
    let expected = of_file(&file);
    let (pipeline, sink) = pipeline(&format!("{} ! identity name=before ! vxkeyframedec", demuxed(&file)));
    let keyframes = AtomicU64::new(0);
    probe(&pipeline, "before", move |info| {
        let buffer = writable(info);
        let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if is_key && keyframes.fetch_add(1, Ordering::Relaxed) == 1 {
            // The picture's first part stays, so that it is still recognised.
            let mut map = buffer.map_writable().unwrap();
            let half = map.len() / 2;
            map[half..].iter_mut().enumerate().for_each(|(index, byte)| *byte = ((index * index * 31) >> 3) as u8);
        }
        gst::PadProbeReturn::Ok
    });
    let outcome = play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    let is_named = |warning: &String| warning.contains("damaged data at 0:00:01");
    assert!(outcome.warnings.iter().any(is_named), "{:?}", outcome.warnings);
    let damaged = expected[1].0;
    let without = |frames: Vec<(Option<u64>, Vec<u8>)>| -> Vec<_> {
        frames.into_iter().filter(|(time, _)| *time != damaged).collect()
    };
    assert_same(&without(frames(&outcome)), &without(expected), 0, "damaged");
}

#[test]
fn size_and_codec_may_change_in_the_middle() {
    let (first, second) = (x264("units-first.mp4"), clip());
    let third = encoded("units-third.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25");
    let launch = format!(
        "concat name=all ! vxkeyframedec ! appsink name=sink sync=false \
         filesrc location={} ! qtdemux name=a a.video_0 ! queue ! all. \
         filesrc location={} ! qtdemux name=b b.video_0 ! queue ! all. \
         filesrc location={} ! matroskademux name=c c.video_0 ! queue ! all.",
        quoted(&first),
        quoted(&second),
        quoted(&third)
    );
    common::init();
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    let found = frames(&play(&pipeline, &sink));
    pipeline.set_state(gst::State::Null).unwrap();
    let expected: Vec<_> = [&first, &second, &third].into_iter().flat_map(|file| of_file(file)).collect();
    let pixels =
        |frames: &[(Option<u64>, Vec<u8>)]| frames.iter().map(|(_, pixels)| pixels.clone()).collect::<Vec<_>>();
    assert_eq!(found.len(), expected.len());
    assert!(pixels(&found) == pixels(&expected));
}

#[test]
fn seeks_go_upstream() {
    let launch = format!("{} ! vxkeyframedec", demuxed(&clip()));
    let (pipeline, sink) = pipeline(&launch);
    let expected = of_file(&clip());
    pipeline.set_state(gst::State::Paused).unwrap();
    assert!(pipeline.state(gst::ClockTime::from_seconds(60)).0.is_ok());
    assert_eq!(pipeline.query_duration::<gst::ClockTime>().map(gst::ClockTime::seconds), Some(16));
    for second in [9_u64, 3, 14] {
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
        pipeline.seek_simple(flags, gst::ClockTime::from_seconds(second)).unwrap();
        assert!(pipeline.state(gst::ClockTime::from_seconds(60)).0.is_ok());
        let sample = sink.pull_preroll().unwrap();
        assert!(pixels(&sample) == expected[second as usize].1, "at {second} s");
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn intervals_and_limits_apply() {
    let file = clip();
    let count = |settings: &str| run(&format!("{} ! vxkeyframedec {settings}", demuxed(&file))).samples.len();
    assert_eq!(count(""), 16);
    assert_eq!(count("max-frames=3"), 3);
    assert_eq!(count("min-interval=5000000000"), 4);
}

#[test]
fn downstreams_lateness_saves_decoding() {
    let (pipeline, sink) = pipeline(&format!("{} ! vxkeyframedec name=decoder", demuxed(&clip())));
    let decoder = pipeline.by_name("decoder").unwrap();
    let pad = decoder.static_pad("src").unwrap();
    let sent = AtomicU64::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
        if sent.fetch_add(1, Ordering::Relaxed) == 0 {
            let running_time = gst::ClockTime::from_seconds(1);
            let late =
                gst::event::Qos::builder(gst::QOSType::Underflow, 2.0, 2_500_000_000).timestamp(running_time).build();
            pad.send_event(late);
        }
        gst::PadProbeReturn::Ok
    });
    let outcome = play(&pipeline, &sink);
    let stats: gst::Structure = decoder.property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    // The first, and those from six seconds on.
    assert_eq!(outcome.samples.len(), 1 + 10, "{stats}");
    assert_eq!(stats.get::<u64>("skipped-keyframes").unwrap(), 5, "{stats}");
}

/// Returns the error for `buffers` of a stream with these caps.
fn error_of(caps: &str, buffers: &[&[u8]]) -> String {
    common::init();
    let launch = format!("appsrc name=source format=time caps=\"{caps}\" ! vxkeyframedec");
    let (pipeline, sink) = pipeline(&launch);
    let source = pipeline.by_name("source").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    for bytes in buffers {
        let mut buffer = gst::Buffer::from_slice(bytes.to_vec());
        buffer.make_mut().set_pts(gst::ClockTime::ZERO);
        let _ = source.push_buffer(buffer);
    }
    let _ = source.end_of_stream();
    let outcome = play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    outcome.error_text()
}

#[test]
fn errors_name_what_is_missing() {
    let slice: &[u8] = &[0, 0, 0, 1, 0x41, 0x9a, 0x24, 0x6c, 0x41, 0x4f];
    let h264 = "video/x-h264,stream-format=byte-stream";
    assert!(error_of(&format!("{h264},alignment=nal"), &[slice]).contains("Add h264parse before vxkeyframedec"));
    assert!(error_of("video/mpeg,mpegversion=2,systemstream=false", &[slice]).contains("Add mpegvideoparse"));
    let none = error_of(&format!("{h264},alignment=au"), &[slice, slice]);
    assert!(none.contains("no frame of the H.264") && none.contains("2 other frames"), "{none}");
    let broken = error_of("image/jpeg,framerate=1/1", &[&[0xff, 0xd8, 0xff, 0xd9]]);
    assert!(broken.contains("the only keyframe cannot be decoded"), "{broken}");
    // Damaged configuration.
    let error = error_of("video/x-h264,stream-format=avc,alignment=au,codec_data=(buffer)01ff", &[slice]);
    assert!(!error.is_empty());
}

#[test]
fn few_events_wait_for_the_first_caps_and_a_segment_always_does() {
    const MAX_HELD_EVENTS: usize = 256;
    let (pipeline, sink) = pipeline("vxkeyframedec name=decoder");
    let decoder = pipeline.by_name("decoder").unwrap();
    let numbers = Arc::new(Mutex::new(Vec::new()));
    let seen = numbers.clone();
    decoder.static_pad("src").unwrap().add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let number = info.event().and_then(|event| event.structure()?.get::<u32>("number").ok());
        if let Some(number) = number {
            assert!(pad.sticky_event::<gst::event::Segment>(0).is_some());
            seen.lock().unwrap().push(number);
        }
        gst::PadProbeReturn::Ok
    });
    let pad = gst::Pad::new(gst::PadDirection::Src);
    pad.link(&decoder.static_pad("sink").unwrap()).unwrap();
    pad.set_active(true).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let caps = gst::Caps::builder("image/jpeg").field("framerate", gst::Fraction::new(25, 1)).build();
    assert!(pad.push_event(gst::event::StreamStart::new("test")));
    assert!(pad.push_event(gst::event::Caps::new(&caps)));
    let segment = |start: gst::ClockTime| {
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(start);
        gst::event::Segment::new(&segment)
    };
    let numbered = |number: u32| {
        let structure = gst::Structure::builder(format!("event-{number}")).field("number", number).build();
        gst::event::CustomDownstreamSticky::new(structure)
    };
    assert!(pad.push_event(segment(gst::ClockTime::ZERO)));
    let more = MAX_HELD_EVENTS as u32 + 44;
    (0..more).for_each(|number| assert!(pad.push_event(numbered(number))));
    // A flush removes the segment, and makes room for another event.
    assert!(pad.push_event(gst::event::FlushStart::new()));
    assert!(pad.push_event(gst::event::FlushStop::new(true)));
    assert!(pad.push_event(numbered(more)) && pad.push_event(numbered(more + 1)));
    let start = gst::ClockTime::from_seconds(7);
    assert!(pad.push_event(segment(start)));
    let mut picture = gst::Buffer::from_slice(std::fs::read(root().join("tests/media/gray_to_I420.jpg")).unwrap());
    picture.get_mut().unwrap().set_pts(start);
    pad.push(picture).unwrap();
    // The sink returns from this when its frames have been read.
    let end = std::thread::spawn(move || pad.push_event(gst::event::Eos::new()));
    let outcome = play(&pipeline, &sink);
    assert!(end.join().unwrap());
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(frames(&outcome).iter().map(|(time, _)| *time).collect::<Vec<_>>(), [Some(0)]);
    let held: Vec<u32> = (0..MAX_HELD_EVENTS as u32 - 1).chain([more]).collect();
    assert_eq!(*numbers.lock().unwrap(), held);
}
