// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vxyolodetect` on live streams that are faster than its model.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{PATIENCE, clip, init, pipeline, quoted, root, run};
use gst::prelude::*;

/// A model that takes a good part of a second and finds one box in every frame.
fn slow(settings: &str) -> String {
    let model = root().join("tests/models/slow.onnx");
    let settings = format!("execution-provider=cpu sessions=1 intra-op-threads=1 {settings}");
    format!("vxyolodetect name=detector model-file={} {settings}", quoted(&model))
}

/// What downstream received.
#[derive(Debug, Clone, PartialEq)]
enum Given {
    Frame {
        /// In milliseconds.
        pts: u64,
        is_looked_at: bool,
        is_discont: bool,
        boxes: usize,
    },
    Event(gst::EventType),
}

/// A detector between two pads of the test, of which the first claims to be a live source.
struct Rig {
    pipeline: gst::Pipeline,
    detector: gst::Element,
    source: gst::Pad,
    sink: gst::Pad,
    given: Receiver<Given>,
}

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;

impl Rig {
    fn new(detector: &str, is_live: bool) -> Self {
        init();
        let detector = gst::parse::launch(detector).unwrap();
        let pipeline = gst::Pipeline::new();
        pipeline.add(&detector).unwrap();
        let source = gst::Pad::builder(gst::PadDirection::Src)
            .name("test-source")
            .query_function(move |pad, parent, query| match query.view_mut() {
                gst::QueryViewMut::Latency(latency) => {
                    latency.set(is_live, gst::ClockTime::from_mseconds(7), None);
                    true
                }
                _ => gst::Pad::query_default(pad, parent, query),
            })
            .build();
        let (frames, given) = channel();
        let events = frames.clone();
        let template =
            gst::PadTemplate::new("in", gst::PadDirection::Sink, gst::PadPresence::Always, &gst::Caps::new_any())
                .unwrap();
        let sink = gst::Pad::builder_from_template(&template)
            .chain_function(move |_, _, buffer| {
                let pts = buffer.pts().unwrap().mseconds();
                let found = gstvx::meta::read(&buffer, WIDTH, HEIGHT);
                let is_discont = buffer.flags().contains(gst::BufferFlags::DISCONT);
                let (is_looked_at, boxes) = (found.is_looked_at, found.found.len());
                frames.send(Given::Frame { pts, is_looked_at, is_discont, boxes }).unwrap();
                Ok(gst::FlowSuccess::Ok)
            })
            .event_function(move |_, _, event| {
                events.send(Given::Event(event.type_())).unwrap();
                true
            })
            .build();
        sink.set_active(true).unwrap();
        source.link(&detector.static_pad("sink").unwrap()).unwrap();
        detector.static_pad("src").unwrap().link(&sink).unwrap();
        source.set_active(true).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let rig = Self { pipeline, detector, source, sink, given };
        assert!(rig.source.push_event(gst::event::StreamStart::new("live")));
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Gray8, WIDTH, HEIGHT)
            .fps(gst::Fraction::new(25, 1))
            .build()
            .unwrap();
        assert!(rig.source.push_event(gst::event::Caps::new(&info.to_caps().unwrap())));
        rig.segment();
        rig
    }

    fn segment(&self) {
        assert!(self.source.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())));
    }

    fn frame(&self, pts: u64) {
        let mut buffer = gst::Buffer::from_mut_slice(vec![100_u8; (WIDTH * HEIGHT) as usize]);
        buffer.make_mut().set_pts(gst::ClockTime::from_mseconds(pts));
        assert_eq!(self.source.push(buffer), Ok(gst::FlowSuccess::Ok));
    }

    /// Pushes frames, each when the one before has left, until inference has run on one: the element then knows how long that takes.
    fn warm_up(&self) {
        for pts in 0.. {
            self.frame(pts);
            if matches!(self.next_frame(), Some(Given::Frame { is_looked_at: true, .. })) {
                // A frame is counted after it has left.
                let started = std::time::Instant::now();
                while self.count("frames") <= pts {
                    assert!(started.elapsed() < PATIENCE, "frame {pts} is not counted");
                    std::thread::sleep(Duration::from_millis(1));
                }
                return;
            }
        }
    }

    fn frames(&self, times: impl IntoIterator<Item = u64>) {
        times.into_iter().for_each(|pts| self.frame(pts));
    }

    fn end(&self) {
        self.source.push_event(gst::event::Eos::new());
    }

    /// Returns the next frame, or `None` at the end of the stream.
    fn next_frame(&self) -> Option<Given> {
        loop {
            match self.given.recv_timeout(PATIENCE).expect("the element hangs") {
                frame @ Given::Frame { .. } => return Some(frame),
                Given::Event(gst::EventType::Eos) => return None,
                Given::Event(_) => {}
            }
        }
    }

    /// Returns the times of the frames until the end, and of those with inference.
    fn until_end(&self) -> (Vec<u64>, Vec<u64>) {
        let (mut all, mut looked_at) = (Vec::new(), Vec::new());
        while let Some(Given::Frame { pts, is_looked_at, .. }) = self.next_frame() {
            all.push(pts);
            looked_at.extend(is_looked_at.then_some(pts));
        }
        (all, looked_at)
    }

    fn stats(&self) -> gst::Structure {
        self.detector.property("stats")
    }

    fn count(&self, name: &str) -> u64 {
        self.stats().get(name).unwrap()
    }

    fn latency(&self) -> (bool, Duration) {
        let mut query = gst::query::Latency::new();
        assert!(self.sink.peer_query(&mut query));
        let (is_live, least, _) = query.result();
        (is_live, Duration::from_nanos(least.nseconds()))
    }

    fn messages(&self, kind: gst::MessageType) -> usize {
        let bus = self.pipeline.bus().unwrap();
        std::iter::from_fn(|| bus.pop_filtered(&[kind])).count()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.source.set_active(false);
        let _ = self.sink.set_active(false);
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// A model that finds one box in every frame, quickly.
fn quick() -> String {
    let model = root().join("tests/models/free_size.onnx");
    format!("vxyolodetect execution-provider=cpu input-size=320x192 model-layout=v8 model-file={}", quoted(&model))
}

/// A model that never ends.
fn endless(settings: &str) -> String {
    let model = root().join("tests/models/endless.onnx");
    format!("vxyolodetect execution-provider=cpu sessions=1 {settings} model-file={}", quoted(&model))
}

/// Times of a burst of frames, which is pushed faster than the model runs.
fn burst() -> Vec<u64> {
    (25..45).map(|frame| frame * 40).collect()
}

#[test]
fn inference_runs_on_the_newest_frame_when_the_model_has_room_and_the_others_pass() {
    let rig = Rig::new(&slow(""), true);
    rig.warm_up();
    let before = ["frames", "looks", "skipped"].map(|name| rig.count(name));
    rig.frames(burst());
    rig.end();
    let (all, looked_at) = rig.until_end();
    assert_eq!(all, burst());
    // The first has room. When it is done the last has come, or else it has when the next one is done.
    assert_eq!((looked_at.first(), looked_at.last()), (burst().first(), burst().last()), "{looked_at:?}");
    assert!(looked_at.len() < 10, "{looked_at:?}");
    assert_eq!(rig.stats().get::<&str>("when-late").unwrap(), "skip");
    let after = ["frames", "looks", "skipped"].map(|name| rig.count(name));
    let looks = looked_at.len() as u64;
    assert_eq!([0, 1, 2].map(|index| after[index] - before[index]), [20, looks, 20 - looks]);
    assert_eq!(rig.count("dropped"), 0);
}

#[test]
fn carried_over_detections_fill_the_frames_between() {
    let rig = Rig::new(&slow("carry-over=true"), true);
    rig.warm_up();
    rig.frames(burst());
    rig.end();
    let frames: Vec<_> = std::iter::from_fn(|| rig.next_frame()).collect();
    let is_between = |frame: &&Given| matches!(frame, Given::Frame { is_looked_at: false, .. });
    assert_eq!(frames.len(), 20);
    assert!(frames.iter().filter(is_between).count() > 10, "{frames:?}");
    assert!(frames.iter().all(|frame| matches!(frame, Given::Frame { boxes: 1, .. })), "{frames:?}");
}

#[test]
fn late_frames_are_dropped_on_request() {
    let rig = Rig::new(&slow("when-late=drop"), true);
    rig.frames(burst());
    rig.end();
    let frames: Vec<_> = std::iter::from_fn(|| rig.next_frame()).collect();
    let frame =
        |index: usize, is_discont| Given::Frame { pts: burst()[index], is_looked_at: true, is_discont, boxes: 1 };
    assert_eq!((frames.first(), frames.last()), (Some(&frame(0, false)), Some(&frame(19, true))), "{frames:?}");
    assert!(frames.len() < 10, "{frames:?}");
    let counts = ["frames", "looks", "skipped", "late", "dropped"].map(|name| rig.count(name));
    let looks = frames.len() as u64;
    assert_eq!(counts, [looks, looks, 0, 0, 20 - looks]);
}

#[test]
fn frames_wait_on_request_and_where_the_source_is_not_live() {
    for (settings, is_live) in [("when-late=block", true), ("when-late=auto", false)] {
        let rig = Rig::new(&format!("{} {settings}", quick()), is_live);
        rig.frames((0..50).map(|frame| frame * 40));
        rig.end();
        let (all, looked_at) = rig.until_end();
        assert_eq!((all.len(), looked_at.len()), (50, 50), "{settings}");
        assert_eq!(rig.stats().get::<&str>("when-late").unwrap(), "block");
        assert_eq!(rig.count("skipped") + rig.count("late") + rig.count("dropped"), 0);
    }
    // On request also where it is not live; then upstream waits, and no frame leaves before its result.
    let rig = Rig::new(&slow("when-late=skip"), false);
    rig.frames((0..20).map(|frame| frame * 40));
    rig.end();
    let (all, looked_at) = rig.until_end();
    assert_eq!(all.len(), 20);
    assert!(looked_at.len() > 2 && looked_at.len() < 20 && looked_at[0] == 0, "{looked_at:?}");
    assert_eq!(rig.count("late"), 0);
}

#[test]
fn a_frame_without_a_result_leaves_and_the_stream_goes_on() {
    let rig = Rig::new(&endless(""), true);
    rig.frames((0..5).map(|frame| frame * 40));
    let first: Vec<_> = (0..5).map(|_| rig.next_frame().unwrap()).collect();
    assert!(first.iter().all(|frame| matches!(frame, Given::Frame { is_looked_at: false, .. })), "{first:?}");
    assert_eq!((rig.count("late"), rig.count("skipped")), (1, 4));
    // From here on nothing waits.
    rig.frame(200);
    assert!(matches!(rig.next_frame(), Some(Given::Frame { pts: 200, is_looked_at: false, .. })));
}

#[test]
fn the_latency_is_measured_and_announced() {
    let rig = Rig::new(&slow(""), true);
    let (is_live, before) = rig.latency();
    assert!(is_live && before >= Duration::from_millis(7));
    assert_eq!(rig.messages(gst::MessageType::Latency), 0);
    rig.warm_up();
    let started = Instant::now();
    rig.frame(2000);
    rig.next_frame();
    let took = started.elapsed();
    // The element announces what it has measured before it takes the next frame.
    rig.frame(2040);
    rig.next_frame();
    let (_, after) = rig.latency();
    assert!(after > took, "{took:?}, announced {after:?}");
    assert!(rig.messages(gst::MessageType::Latency) >= 1);
    let of_stats = Duration::from_nanos(rig.count("latency"));
    assert_eq!(of_stats + Duration::from_millis(7), after);
}

#[test]
fn no_inference_runs_on_frames_that_downstream_would_drop() {
    let rig = Rig::new(&quick(), true);
    let late = gst::event::Qos::builder(gst::QOSType::Underflow, 1.5, 60_000_000)
        .timestamp(gst::ClockTime::from_mseconds(100));
    assert!(rig.sink.push_event(late.build()) || rig.count("late") == 0);
    for pts in [120, 180, 220, 260] {
        rig.frame(pts);
        let is_early = pts < 220;
        let frame = rig.next_frame().unwrap();
        assert!(matches!(frame, Given::Frame { is_looked_at, .. } if is_looked_at != is_early), "{frame:?}");
    }
    assert_eq!((rig.count("late"), rig.count("looks")), (2, 2));
    // A new segment has other running times.
    rig.segment();
    rig.frame(0);
    assert!(matches!(rig.next_frame(), Some(Given::Frame { is_looked_at: true, .. })));
}

#[test]
fn a_flush_interrupts_the_wait_and_the_next_stream_starts_afresh() {
    for when_late in ["skip", "drop"] {
        let rig = Rig::new(&endless(&format!("when-late={when_late}")), false);
        rig.frames((0..3).map(|frame| frame * 40));
        assert!(rig.source.push_event(gst::event::FlushStart::new()));
        assert!(rig.source.push_event(gst::event::FlushStop::new(true)));
        rig.segment();
        // The model still runs, so this one finds no room.
        rig.frame(1000);
        rig.end();
        let frames: Vec<_> = std::iter::from_fn(|| rig.next_frame()).collect();
        match when_late {
            "skip" => {
                assert!(matches!(frames[..], [Given::Frame { pts: 1000, is_looked_at: false, .. }]), "{frames:?}")
            }
            _ => assert!(frames.is_empty(), "{frames:?}"),
        }
    }
}

/// Runs a live pipeline for four seconds, or on a busy machine until inference has run twice. Returns how late each frame is at the
/// sink, and the number of frames with inference.
fn run_live() -> (Vec<Duration>, u64) {
    let launch = format!("videotestsrc is-live=true ! video/x-raw,width=640,height=480,framerate=30/1 ! {}", slow(""));
    let (pipeline, sink) = pipeline(&launch);
    pipeline.set_state(gst::State::Playing).unwrap();
    let (mut late, mut looks, mut has_ended) = (Vec::new(), 0, false);
    let started = Instant::now();
    while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(PATIENCE.as_secs())) {
        let buffer = sample.buffer().unwrap();
        let segment = sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap();
        let time = segment.to_running_time(buffer.pts()).unwrap();
        let now = pipeline.current_running_time().unwrap();
        late.push(Duration::from_nanos(now.nseconds().saturating_sub(time.nseconds())));
        looks += u64::from(gstvx::meta::read(buffer, WIDTH, HEIGHT).is_looked_at);
        if late.len() >= 120 && looks > 1 && !has_ended {
            has_ended = pipeline.send_event(gst::event::Eos::new());
        }
        assert!(started.elapsed() < 2 * PATIENCE, "{looks} of {} frames with inference", late.len());
    }
    let stats: gst::Structure = pipeline.by_name("detector").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    let counts = ["frames", "skipped", "late", "dropped"].map(|name| stats.get::<u64>(name).unwrap());
    let frames = late.len() as u64;
    assert_eq!((counts[0], counts[1] + counts[2] + looks, counts[3]), (frames, frames, 0), "{stats}");
    (late, looks)
}

#[test]
fn a_slow_model_does_not_fall_behind_a_live_source() {
    for pipelines in [1, 2] {
        let runs: Vec<_> = (0..pipelines).map(|_| std::thread::spawn(run_live)).collect();
        for run in runs {
            let (late, looks) = run.join().unwrap();
            assert!(looks > 1 && looks < late.len() as u64, "{looks} of {} frames, {pipelines} pipelines", late.len());
            // A queue that grew would make the last frames later than all before: with the model three times too slow, by seconds.
            let longest = |frames: &[Duration]| frames.iter().max().copied().unwrap();
            let (first, last) = (longest(&late[..late.len() / 2]), longest(&late[late.len() - 20..]));
            assert!(last < 3 * first + Duration::from_secs(1), "{pipelines} pipelines: {first:?}, then {last:?}");
        }
    }
}

#[test]
fn files_are_looked_at_completely() {
    let outcome =
        run(&format!("filesrc location={} ! vxkeyframedec ! {} ! vxjsonenc", quoted(&clip()), slow("max-inflight=2")));
    let lines = outcome.json();
    assert_eq!(lines.len(), 16);
    assert!(lines.iter().all(|line| line.get("looked").is_none()));
}
