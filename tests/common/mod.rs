// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared helpers for the element tests: GStreamer with the plugin, test media, and pipelines that run until EOS or an error.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

pub mod alive;
pub mod browser;
pub mod command;
pub mod http;
pub mod kinds;

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::Once;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_video::prelude::*;
use serde_json::Value;

/// Upper limit for every wait. Only a hang takes this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Initialises GStreamer and registers the plugin in this process.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstvx::plugin_register_static().unwrap();
    });
    alive::watch();
}

/// Returns the path of the clip in the repository.
pub fn clip() -> PathBuf {
    root().join("examples/media/scenes.mp4")
}

/// Returns the path of a file in the shared test material; prints a message if it is missing.
pub fn shared(path: &str) -> Option<PathBuf> {
    let found = root().join("../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    println!("skipped: {} is not there", found.display());
    None
}

/// Creates a file for this test with the `ffmpeg` command. `arguments` go between the global options and the output.
pub fn made(name: &str, arguments: &[&str]) -> PathBuf {
    let output = scratch(name);
    let ffmpeg = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .args(arguments)
        .arg(&output)
        .output()
        .expect("these tests make media with the ffmpeg command: run `make setup`");
    assert!(ffmpeg.status.success(), "ffmpeg {arguments:?}: {}", String::from_utf8_lossy(&ffmpeg.stderr));
    output
}

/// Creates a file with 8 keyframes, some of which cannot be decoded. Returns `None` and prints the reason while `vxkeyframedec`
/// does not report problems.
pub fn damaged(name: &str) -> Option<PathBuf> {
    let source = clip();
    let whole = made(
        &format!("whole-{name}"),
        &[
            "-i",
            source.to_str().unwrap(),
            "-t",
            "8",
            "-an",
            "-vf",
            "scale=320:-2",
            "-g",
            "10",
            "-movflags",
            "+faststart",
        ],
    );
    let mut bytes = std::fs::read(whole).unwrap();
    let (from, to) = (bytes.len() / 2, bytes.len() * 3 / 4);
    bytes[from..to].fill(0xff);
    let damaged = scratch(name);
    std::fs::write(&damaged, bytes).unwrap();
    let launch = format!("filesrc location={} ! vxkeyframedec name=decoder", quoted(&damaged));
    let (pipeline, sink) = pipeline(&launch);
    play(&pipeline, &sink);
    let stats: gst::Structure = pipeline.by_name("decoder").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    if stats.get::<gst::Array>("problems").is_ok_and(|problems| !problems.is_empty()) {
        return Some(damaged);
    }
    println!("skipped: vxkeyframedec reports no problems: {stats}");
    None
}

/// Creates a file of 40 keyframes, of which so many cannot be decoded.
pub fn damaged_keyframes(name: &str, count: usize) -> PathBuf {
    let how = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=1.6", "-c:v", "mpeg4", "-g", "1"];
    let file = made(name, &how);
    let mut bytes = std::fs::read(&file).unwrap();
    // The headers of pictures (ISO/IEC 14496-2 6.2.5).
    let starts: Vec<_> = memchr::memmem::find_iter(&bytes, &[0, 0, 1, 0xb6]).take(count + 5).skip(5).collect();
    assert_eq!(starts.len(), count);
    starts.into_iter().for_each(|start| bytes[start + 3] = 0xff);
    std::fs::write(&file, bytes).unwrap();
    file
}

/// Returns a source element that reads `file` through a pipe, which stays open.
pub fn piped(file: &Path) -> String {
    let (source, end) = pipe_of(file);
    let _ = end.into_raw_fd();
    source
}

/// Returns a source element that reads `file` through a pipe, and the end of the pipe that it reads.
pub fn pipe_of(file: &Path) -> (String, OwnedFd) {
    let mut cat = Command::new("cat").arg(file).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let output = OwnedFd::from(cat.stdout.take().unwrap());
    // The writer ends at the end of the file, or when the reader stops.
    std::thread::spawn(move || cat.wait());
    (format!("fdsrc fd={}", output.as_raw_fd()), output)
}

/// Returns a path for a file called `name` that only this test process uses.
pub fn scratch(name: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let name = format!("{}-", std::process::id());
        tempfile::Builder::new().prefix(&name).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep()
    });
    FOLDER.join(name)
}

/// The result of a pipeline run.
#[derive(Debug, Default)]
pub struct Outcome {
    pub samples: Vec<gst::Sample>,
    /// The first error message, and the error in it.
    pub error: Option<(gst::glib::Error, String)>,
    pub warnings: Vec<String>,
}

impl Outcome {
    /// Presentation times of the buffers, in nanoseconds.
    pub fn pts(&self) -> Vec<u64> {
        self.samples.iter().map(|sample| sample.buffer().unwrap().pts().unwrap().nseconds()).collect()
    }

    /// Returns the text of the error message. Panics if there was no error.
    pub fn error_text(&self) -> String {
        self.error.as_ref().expect("an error message").0.message().to_owned()
    }

    /// Parses the buffers as JSON lines. Panics on an error message.
    pub fn json(&self) -> Vec<Value> {
        assert!(self.error.is_none(), "{:?}", self.error);
        let line = |sample: &gst::Sample| {
            let map = sample.buffer().unwrap().map_readable().unwrap();
            assert_eq!(map.iter().filter(|byte| **byte == b'\n').count(), 1, "one line in a buffer");
            serde_json::from_slice(&map).unwrap()
        };
        self.samples.iter().map(line).collect()
    }
}

/// Builds `launch` with an appsink called `sink` at the end.
pub fn pipeline(launch: &str) -> (gst::Pipeline, gst_app::AppSink) {
    init();
    let launch = format!("{launch} ! appsink name=sink sync=false");
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    (pipeline, sink)
}

/// Runs `launch` from NULL to EOS or an error, then back to NULL.
pub fn run(launch: &str) -> Outcome {
    let (pipeline, sink) = pipeline(launch);
    let outcome = play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    outcome
}

/// Plays until EOS or an error and collects every sample.
pub fn play(pipeline: &gst::Pipeline, sink: &gst_app::AppSink) -> Outcome {
    let mut outcome = Outcome::default();
    let bus = pipeline.bus().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let started = pipeline.set_state(gst::State::Playing);
    loop {
        if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(20)) {
            outcome.samples.push(sample);
            continue;
        }
        let is_over = started.is_err() || sink.is_eos();
        while let Some(message) = bus.pop() {
            match message.view() {
                gst::MessageView::Error(error) if outcome.error.is_none() => {
                    outcome.error = Some((error.error(), error.debug().unwrap_or_default().to_string()));
                }
                gst::MessageView::Warning(warning) => outcome.warnings.push(warning.error().message().to_owned()),
                _ => {}
            }
        }
        if is_over || outcome.error.is_some() {
            return outcome;
        }
        assert!(Instant::now() < deadline, "the pipeline hangs");
    }
}

/// Plays a pipeline without an appsink until EOS. Panics on an error.
pub fn play_to_end(pipeline: &gst::Element) {
    pipeline.set_state(gst::State::Playing).unwrap();
    let types = [gst::MessageType::Eos, gst::MessageType::Error];
    let patience = gst::ClockTime::from_seconds(PATIENCE.as_secs());
    let message = pipeline.bus().unwrap().timed_pop_filtered(patience, &types).expect("the pipeline hangs");
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
}

/// Quotes a path for gst-launch syntax.
pub fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// Returns the bytes of the picture without the padding between lines.
pub fn pixels(sample: &gst::Sample) -> Vec<u8> {
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer().unwrap(), &info).unwrap();
    let mut bytes = Vec::new();
    for component in 0..info.n_components() {
        let plane = info.format_info().plane()[component as usize];
        let (width, height) = (frame.comp_width(component) as usize, frame.comp_height(component) as usize);
        let row = width * frame.comp_pstride(component) as usize;
        let data = frame.plane_data(plane).unwrap();
        let stride = frame.plane_stride()[plane as usize] as usize;
        for y in 0..height {
            bytes.extend(&data[y * stride..y * stride + row]);
        }
    }
    bytes
}

/// Returns the bytes of the picture plane by plane without line padding, like FFmpeg's rawvideo.
pub fn planes(sample: &gst::Sample) -> Vec<u8> {
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer().unwrap(), &info).unwrap();
    let format = info.format_info();
    let plane_of = format.plane();
    let mut bytes = Vec::new();
    for plane in 0..info.n_planes() {
        let components = (0..info.n_components()).filter(|&component| plane_of[component as usize] == plane);
        let sizes = components.map(|component| {
            let row = frame.comp_width(component) as usize * frame.comp_pstride(component) as usize;
            (row, frame.comp_height(component) as usize)
        });
        let (row, height) = sizes.max().unwrap();
        let data = frame.plane_data(plane).unwrap();
        let stride = frame.plane_stride()[plane as usize] as usize;
        (0..height).for_each(|y| bytes.extend(&data[y * stride..y * stride + row]));
    }
    bytes
}

/// Resets SIGINT, SIGTERM and SIGHUP so that they stop the programs that this test starts.
///
/// A shell without job control starts background jobs with SIGINT ignored, and `vx` leaves ignored signals ignored. A signal that
/// this process handles is reset to its default action in the programs that it starts.
#[allow(dead_code, reason = "only some tests send signals")]
pub fn reset_ignored_signals() {
    static RESET: std::sync::Once = std::sync::Once::new();
    RESET.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        for signal in [signal_hook::consts::SIGHUP, signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            if mask >> (signal - 1) & 1 == 1 {
                signal_hook::flag::register(signal, std::sync::Arc::<std::sync::atomic::AtomicBool>::default())
                    .unwrap();
            }
        }
    });
}
