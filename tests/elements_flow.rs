// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vxyolodetect` between neighbours that do unusual things: refuse frames, send several streams in a row, flush, relink.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use common::{PATIENCE, clip, init, pipeline, play, quoted, root};
use gst::prelude::*;
use parking_lot::Mutex;

/// What downstream received.
#[derive(Debug, Clone, PartialEq)]
enum Given {
    /// A frame: its time and the number of objects attached to it.
    Frame(u64, usize),
    Event(gst::EventType),
}

/// Returns downstream's answer to a frame with this time.
type Answer = Arc<Mutex<Box<dyn Fn(u64) -> Result<gst::FlowSuccess, gst::FlowError> + Send>>>;

/// A detector between two pads of the test. Its model finds one box in every frame.
struct Rig {
    pipeline: gst::Pipeline,
    detector: gst::Element,
    source: gst::Pad,
    sink: gst::Pad,
    given: Receiver<Given>,
    answer: Answer,
}

const WIDTH: u32 = 320;
const HEIGHT: u32 = 192;

fn sink_pad(name: &str, takes_video_meta: bool, given: Sender<Given>, answer: &Answer) -> gst::Pad {
    let (answer, events) = (Arc::clone(answer), given.clone());
    // A pad without a template accepts only its current caps.
    let (direction, presence) = (gst::PadDirection::Sink, gst::PadPresence::Always);
    let template = gst::PadTemplate::new(name, direction, presence, &gst::Caps::new_any()).unwrap();
    let sink = gst::Pad::builder_from_template(&template)
        .chain_function(move |pad, _parent, buffer| {
            let pts = buffer.pts().unwrap().nseconds();
            let found = buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>().count();
            if !takes_video_meta {
                let caps = pad.current_caps().unwrap();
                let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
                assert_eq!(buffer.size(), info.size(), "a frame with gaps between its lines");
            }
            let answer = answer.lock()(pts);
            given.send(Given::Frame(pts, found)).unwrap();
            answer
        })
        .event_function(move |_pad, _parent, event| {
            events.send(Given::Event(event.type_())).unwrap();
            true
        })
        .query_function(move |pad, parent, query| match query.view_mut() {
            gst::QueryViewMut::Allocation(allocation) => {
                if takes_video_meta {
                    allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
                }
                true
            }
            _ => gst::Pad::query_default(pad, parent, query),
        })
        .build();
    sink.set_active(true).unwrap();
    sink
}

impl Rig {
    fn new(settings: &str) -> Self {
        init();
        let model = root().join("tests/models/free_size.onnx");
        let launch = format!(
            "vxyolodetect name=detector execution-provider=cpu meta=roi input-size=320x192 model-layout=v8 model-file={} {settings}",
            quoted(&model)
        );
        let detector = gst::parse::launch(&launch).unwrap();
        let pipeline = gst::Pipeline::new();
        pipeline.add(&detector).unwrap();
        let answer: Answer = Arc::new(Mutex::new(Box::new(|_| Ok(gst::FlowSuccess::Ok))));
        let (sender, given) = channel();
        let sink = sink_pad("test-sink", true, sender, &answer);
        let source = gst::Pad::builder(gst::PadDirection::Src).name("test-source").build();
        source.link(&detector.static_pad("sink").unwrap()).unwrap();
        detector.static_pad("src").unwrap().link(&sink).unwrap();
        source.set_active(true).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, detector, source, sink, given, answer }
    }

    fn answer(&self, answer: impl Fn(u64) -> Result<gst::FlowSuccess, gst::FlowError> + Send + 'static) {
        *self.answer.lock() = Box::new(answer);
    }

    fn begin(&self, name: &str) {
        assert!(self.source.push_event(gst::event::StreamStart::new(name)));
        self.announce(WIDTH, HEIGHT);
        self.segment();
    }

    fn announce(&self, width: u32, height: u32) {
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Gray8, width, height).build().unwrap();
        assert!(self.source.push_event(gst::event::Caps::new(&info.to_caps().unwrap())));
    }

    fn segment(&self) {
        assert!(self.source.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())));
    }

    fn end(&self) {
        self.source.push_event(gst::event::Eos::new());
    }

    /// Pushes a uniform grey frame with padding after each line.
    fn frame(&self, pts: u64) -> Result<gst::FlowSuccess, gst::FlowError> {
        let caps = self.source.current_caps().unwrap();
        let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
        let stride = info.width() + 32;
        let mut buffer = gst::Buffer::from_mut_slice(vec![100_u8; (stride * info.height()) as usize]);
        let writable = buffer.make_mut();
        writable.set_pts(gst::ClockTime::from_nseconds(pts));
        gst_video::VideoMeta::add_full(
            writable,
            gst_video::VideoFrameFlags::empty(),
            info.format(),
            info.width(),
            info.height(),
            &[0],
            &[stride as i32],
        )
        .unwrap();
        self.source.push(buffer)
    }

    /// Returns the next item that downstream receives.
    fn next(&self) -> Given {
        self.given.recv_timeout(PATIENCE).expect("the element hangs")
    }

    /// Returns everything that downstream receives until the end of a stream, without irrelevant events.
    fn until_end(&self) -> Vec<Given> {
        let mut all = Vec::new();
        loop {
            let given = self.next();
            let is_end = given == Given::Event(gst::EventType::Eos);
            let kinds = [gst::EventType::StreamStart, gst::EventType::Segment, gst::EventType::Eos];
            if matches!(given, Given::Frame(..)) || kinds.iter().any(|kind| given == Given::Event(*kind)) {
                all.push(given);
            }
            if is_end {
                return all;
            }
        }
    }

    fn looks(&self) -> u64 {
        self.detector.property::<gst::Structure>("stats").get("looks").unwrap()
    }

    fn errors(&self) -> Vec<String> {
        let bus = self.pipeline.bus().unwrap();
        let messages = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Error]));
        messages
            .map(|message| match message.view() {
                gst::MessageView::Error(error) => error.error().message().to_owned(),
                _ => unreachable!("only errors are taken"),
            })
            .collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.source.set_active(false);
        let _ = self.sink.set_active(false);
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

const START: Given = Given::Event(gst::EventType::StreamStart);
const SEGMENT: Given = Given::Event(gst::EventType::Segment);
const END: Given = Given::Event(gst::EventType::Eos);

#[test]
fn a_pipeline_ends_when_downstream_returns_eos() {
    for settings in ["max-inflight=1", "max-inflight=7", "max-inflight=64"] {
        let launch = format!(
            "filesrc location={} ! vxkeyframedec ! vxyolodetect execution-provider=cpu {settings} ! identity eos-after=3",
            quoted(&clip())
        );
        let (pipeline, sink) = pipeline(&launch);
        let outcome = play(&pipeline, &sink);
        pipeline.set_state(gst::State::Null).unwrap();
        assert!(outcome.error.is_none() && outcome.samples.len() < 4, "{settings}: {:?}", outcome.error);
    }
}

#[test]
fn after_eos_from_downstream_events_still_pass_and_a_new_segment_resumes_frames() {
    let rig = Rig::new("max-inflight=2");
    rig.answer(|pts| if (2..100).contains(&pts) { Err(gst::FlowError::Eos) } else { Ok(gst::FlowSuccess::Ok) });
    rig.begin("first");
    let answers: Vec<_> = (0..20).map(|pts| rig.frame(pts)).collect();
    assert_eq!(answers.last(), Some(&Err(gst::FlowError::Eos)));
    assert!(rig.source.push_event(gst::event::Tag::new(gst::TagList::new())));
    rig.segment();
    assert!(rig.frame(100).is_ok());
    assert!(rig.frame(101).is_ok());
    rig.end();
    let frame = |pts| Given::Frame(pts, 1);
    let expected = [START, SEGMENT, frame(0), frame(1), frame(2), SEGMENT, frame(100), frame(101), END];
    assert_eq!(rig.until_end(), expected);
    assert_eq!(rig.errors(), Vec::<String>::new());
}

#[test]
fn eos_follows_every_downstream_error_and_errors_are_reported_once() {
    use gst::FlowError::{Eos, Error, Flushing, NotLinked, NotNegotiated};
    for flow in [Eos, Error, Flushing, NotLinked, NotNegotiated] {
        // Upstream pushes until a frame is refused, or ends the stream before it can see the refusal.
        for is_told in [true, false] {
            let rig = Rig::new("max-inflight=4");
            rig.answer(move |_| Err(flow));
            rig.begin("first");
            if is_told {
                let answered = (0..).find_map(|pts| rig.frame(pts).err());
                assert_eq!(answered, Some(flow));
            } else {
                // Downstream answers only after the end of the stream was sent.
                let answer = rig.answer.lock();
                rig.frame(0).unwrap();
                rig.end();
                drop(answer);
            }
            rig.end();
            assert_eq!(rig.until_end(), [START, SEGMENT, Given::Frame(0, 1), END], "{flow:?} {is_told}");
            let is_ours = !is_told && !matches!(flow, Eos | Flushing);
            let errors = rig.errors();
            assert_eq!(errors.len(), usize::from(is_ours), "{flow:?}: {errors:?}");
            assert!(errors.iter().all(|error| error.contains(&format!("{flow:?}"))), "{errors:?}");
            // The next stream gets another try.
            rig.answer(|_| Ok(gst::FlowSuccess::Ok));
            rig.begin("second");
            rig.frame(50).unwrap();
            rig.end();
            assert_eq!(rig.until_end(), [START, SEGMENT, Given::Frame(50, 1), END]);
        }
    }
}

#[test]
fn streams_in_quick_succession_all_arrive() {
    let rig = Rig::new("max-inflight=3 sessions=2");
    for stream in 0..100_u64 {
        rig.begin(&format!("stream {stream}"));
        (0..3).for_each(|number| assert!(rig.frame(10 * stream + number).is_ok()));
        rig.end();
    }
    for stream in 0..100_u64 {
        let frame = |number| Given::Frame(10 * stream + number, 1);
        assert_eq!(rig.until_end(), [START, SEGMENT, frame(0), frame(1), frame(2), END], "stream {stream}");
    }
}

#[test]
fn detections_do_not_carry_over_into_another_stream_or_across_a_flush() {
    for settings in ["inference-interval=1000 carry-over=true", "scene-change=0.5"] {
        let rig = Rig::new(settings);
        let two_frames = |first: u64| (first..first + 2).for_each(|pts| assert!(rig.frame(pts).is_ok()));
        rig.begin("first");
        two_frames(0);
        rig.end();
        rig.until_end();
        assert_eq!(rig.looks(), 1, "{settings}");
        rig.begin("second");
        two_frames(10);
        rig.end();
        rig.until_end();
        assert_eq!(rig.looks(), 2, "{settings}: another stream");
        // A flush, including one that starts while frames are in flight.
        rig.begin("third");
        two_frames(20);
        assert!(rig.source.push_event(gst::event::FlushStart::new()));
        assert!(rig.source.push_event(gst::event::FlushStop::new(true)));
        let looks = rig.looks();
        rig.segment();
        two_frames(30);
        // Boxes from frames of another size are not carried over.
        rig.announce(2 * WIDTH, 2 * HEIGHT);
        two_frames(40);
        rig.end();
        rig.until_end();
        assert_eq!(rig.looks(), looks + 2, "{settings}: after a flush and after other caps");
    }
}

#[test]
fn caps_and_tags_flushed_from_the_queue_still_reach_downstream() {
    let rig = Rig::new("max-inflight=1");
    // Downstream blocks until the flush, so that caps and tags wait in the queue.
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    rig.answer(move |pts| {
        if pts == 0 {
            let _ = released.lock().recv();
            return Err(gst::FlowError::Flushing);
        }
        Ok(gst::FlowSuccess::Ok)
    });
    rig.begin("first");
    rig.frame(0).unwrap();
    rig.announce(2 * WIDTH, 2 * HEIGHT);
    rig.segment();
    let flush = {
        let source = rig.source.clone();
        std::thread::spawn(move || source.push_event(gst::event::FlushStart::new()))
    };
    while rig.next() != Given::Event(gst::EventType::FlushStart) {}
    drop(release);
    assert!(flush.join().unwrap());
    assert!(rig.source.push_event(gst::event::FlushStop::new(true)));
    rig.segment();
    rig.frame(10).unwrap();
    rig.end();
    assert_eq!(rig.until_end().last(), Some(&END));
    let caps = rig.sink.current_caps().unwrap();
    assert_eq!(gst_video::VideoInfo::from_caps(&caps).unwrap().width(), 2 * WIDTH);
}

#[test]
fn a_peer_linked_while_playing_is_queried_for_its_capabilities() {
    let rig = Rig::new("");
    rig.begin("first");
    rig.frame(0).unwrap();
    while rig.next() != Given::Frame(0, 1) {}
    let output = rig.detector.static_pad("src").unwrap();
    let (sender, given) = channel();
    // This pad checks that lines have no padding.
    let plain = sink_pad("plain-sink", false, sender, &rig.answer);
    output.unlink(&rig.sink).unwrap();
    // Frames are dropped while the pad is unlinked; after a new link the error is cleared.
    assert_eq!((1..).find_map(|pts| rig.frame(pts).err()), Some(gst::FlowError::NotLinked));
    output.link(&plain).unwrap();
    rig.frame(1000).unwrap();
    let next = || given.recv_timeout(PATIENCE).expect("the element hangs");
    while next() != Given::Frame(1000, 1) {}
    output.unlink(&plain).unwrap();
    output.link(&rig.sink).unwrap();
    rig.frame(1001).unwrap();
    while rig.next() != Given::Frame(1001, 1) {}
    assert_eq!(rig.errors(), Vec::<String>::new());
    let _ = plain.set_active(false);
}

#[test]
fn no_lock_is_held_during_callbacks() {
    let rig = Rig::new("region-of-interest=5000,0,10,10 inter-op-threads=3");
    let read = |detector: &gst::glib::WeakRef<gst::Element>| {
        let Some(detector) = detector.upgrade() else { return };
        for property in detector.list_properties() {
            if property.owner_type() == detector.type_() {
                let _ = detector.property_value(property.name());
            }
        }
        detector.set_property("confidence-threshold", 0.5_f32);
    };
    // Every callee reads and sets properties: on messages, queries, events and frames.
    let detector = rig.detector.downgrade();
    rig.pipeline.bus().unwrap().set_sync_handler(move |_bus, _message| {
        read(&detector);
        gst::BusSyncReply::Drop
    });
    let probe =
        gst::PadProbeType::DATA_DOWNSTREAM | gst::PadProbeType::QUERY_DOWNSTREAM | gst::PadProbeType::EVENT_UPSTREAM;
    for pad in ["sink", "src"] {
        let detector = rig.detector.downgrade();
        rig.detector.static_pad(pad).unwrap().add_probe(probe, move |_pad, _info| {
            read(&detector);
            gst::PadProbeReturn::Ok
        });
    }
    rig.begin("first");
    (0..5).for_each(|pts| assert!(rig.frame(pts).is_ok()));
    rig.end();
    assert_eq!(rig.until_end().len(), 8);
    rig.answer(|_| Err(gst::FlowError::Error));
    rig.begin("second");
    let _ = rig.frame(10);
    rig.end();
    rig.until_end();
}
