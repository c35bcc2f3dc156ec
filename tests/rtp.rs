// SPDX-License-Identifier: MIT OR Apache-2.0
//! Receives video over the network, as from a camera: RTP in UDP packets, and an RTSP session with GStreamer's server.
//!
//! The server is tests/rtsp_server.py; without python3-gi and gir1.2-gst-rtsp-server-1.0 (`scripts/test_tools.sh` installs them) its
//! tests are skipped.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use common::{PATIENCE, clip, pipeline, quoted, root, run};
use gst::prelude::*;
use parking_lot::Mutex;
use serde_json::Value;

/// Keyframes that are received: one each second.
const COUNT: usize = 5;

/// The detector: no frame is skipped, however slow the machine is.
const DETECT: &str = "vxyolodetect execution-provider=cpu when-late=block";

/// An RTSP server that serves the clip.
struct Server {
    process: Child,
    output: BufReader<ChildStdout>,
    url: String,
}

impl Server {
    /// Returns `None` and prints the reason where the server's libraries are missing.
    fn start() -> Option<Self> {
        if gst::init().is_ok() && gst::ElementFactory::find("rtspsrc").is_none() {
            println!("skipped: GStreamer has no rtspsrc");
            return None;
        }
        let imports = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer";
        // Debian's interpreter, which sees Debian's packages, need not be the first one.
        let has_libraries = |python: &&str| {
            let mut check = Command::new(python);
            let check = check.args(["-c", imports]).stderr(Stdio::null()).status();
            check.is_ok_and(|status| status.success())
        };
        let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_libraries) else {
            println!("skipped: python3-gi and gir1.2-gst-rtsp-server-1.0 are not installed (scripts/test_tools.sh)");
            return None;
        };
        let mut command = Command::new(python);
        command.arg(root().join("tests/rtsp_server.py")).arg(clip()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut url = String::new();
        output.read_line(&mut url).unwrap();
        assert!(url.starts_with("rtsp://"), "the server does not start: {url:?}");
        Some(Self { process, output, url: url.trim().to_owned() })
    }

    /// Returns the server's next line.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Returns the detections of the first keyframes of the clip, as they are in the file.
fn detections_of_the_file() -> Vec<Value> {
    let launch =
        format!("filesrc location={} ! vxkeyframedec max-frames={COUNT} ! {DETECT} ! vxjsonenc", quoted(&clip()));
    let found: Vec<Value> = run(&launch).json().iter().map(|line| line["detections"].clone()).collect();
    assert!(found.iter().any(|detections| !detections.as_array().unwrap().is_empty()));
    found
}

/// Records the running time of each buffer that leaves `element`, of those with a keyframe only if `only_keyframes`.
fn running_times(pipeline: &gst::Pipeline, element: &str, only_keyframes: bool) -> Arc<Mutex<Vec<gst::ClockTime>>> {
    let times = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&times);
    let pad = pipeline.by_name(element).unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let buffer = info.buffer().unwrap();
        if !only_keyframes || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            let segment = pad.sticky_event::<gst::event::Segment>(0).unwrap();
            let segment = segment.segment().downcast_ref::<gst::ClockTime>().unwrap().clone();
            recorded.lock().push(segment.to_running_time(buffer.pts()).unwrap());
        }
        gst::PadProbeReturn::Ok
    });
    times
}

/// Receives `source`, which delivers RTP packets, until the decoder has output `COUNT` keyframes; checks detections and times.
/// `send` is called when the pipeline plays.
fn receive(source: &str, send: impl FnOnce(&gst::Pipeline)) {
    let parse =
        if gst::ElementFactory::find("h264parse").is_some() { "h264parse name=units" } else { "identity name=units" };
    let launch = format!(
        "{source} ! rtph264depay ! {parse} ! vxkeyframedec max-frames={COUNT} ! {DETECT} name=detector ! vxjsonenc"
    );
    let (pipeline, sink) = pipeline(&launch);
    let before = running_times(&pipeline, "units", true);
    let behind = running_times(&pipeline, "detector", false);
    pipeline.set_state(gst::State::Playing).unwrap();
    send(&pipeline);
    let outcome = common::play(&pipeline, &sink);
    let stopped = Instant::now();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(stopped.elapsed() < PATIENCE, "stopping takes {:?}", stopped.elapsed());
    let found: Vec<Value> = outcome.json().iter().map(|line| line["detections"].clone()).collect();
    assert_eq!(found, detections_of_the_file(), "{source}");
    assert_eq!(outcome.warnings, [""; 0], "{source}");
    // Frames keep the running time of their access units. More of these may have come before the stream ended.
    let (before, behind) = (before.lock().clone(), behind.lock().clone());
    assert_eq!(behind.len(), COUNT);
    assert_eq!(before[..COUNT], behind, "{source}");
    // Keyframes are a second apart, as in the file.
    for pair in behind.windows(2) {
        let distance = pair[1].saturating_sub(pair[0]);
        assert!(distance.mseconds().abs_diff(1000) < 100, "{source}: {behind:?}");
    }
}

/// The clip through a socket, at the pace of a camera.
#[test]
fn keyframes_arrive_through_udp() {
    common::init();
    let caps = "application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=96";
    let receiver = format!("udpsrc name=socket address=127.0.0.1 port=0 caps=\"{caps}\" ! rtpjitterbuffer mode=none");
    let mut sender = None;
    receive(&receiver, |pipeline| {
        let port: i32 = pipeline.by_name("socket").unwrap().property("port");
        let launch = format!(
            "filesrc location={} ! qtdemux ! rtph264pay config-interval=-1 ! udpsink host=127.0.0.1 port={port}",
            quoted(&clip())
        );
        sender.insert(gst::parse::launch(&launch).unwrap()).set_state(gst::State::Playing).unwrap();
    });
    sender.unwrap().set_state(gst::State::Null).unwrap();
}

#[test]
fn keyframes_arrive_from_an_rtsp_server_and_the_session_is_torn_down() {
    for protocol in ["tcp", "udp"] {
        let Some(mut server) = Server::start() else { return };
        receive(&format!("rtspsrc location={} protocols={protocol} buffer-mode=none", server.url), |_| ());
        assert_eq!(server.line(), "teardown", "{protocol}");
    }
}
