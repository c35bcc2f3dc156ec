//! `vxkeyframedec` behind `souphttpsrc` and a real server, with and without range requests, and one that stalls.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use common::{clip, init, made, pixels, play, quoted, run};
use gst::prelude::*;

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Ranges,
    NoRanges,
    /// Ranges, but nothing more after some bytes.
    Stalls,
}

/// Serves one file; keeps the first byte of each request.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<u64>>>,
}

impl Server {
    fn start(file: &Path, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (file, log) = (file.to_owned(), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (file, log) = (file.clone(), Arc::clone(&log));
                // A client that has enough hangs up.
                std::thread::spawn(move || serve(stream.unwrap(), &file, manner, &log).ok());
            }
        });
        Self { url, requests }
    }
}

fn serve(mut stream: TcpStream, file: &PathBuf, manner: Manner, log: &Mutex<Vec<u64>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    loop {
        let mut start = None;
        let mut any = false;
        while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
            any = true;
            let range = line.to_ascii_lowercase();
            if let Some(range) = range.strip_prefix("range: bytes=").filter(|_| manner != Manner::NoRanges) {
                start = range.split('-').next().and_then(|start| start.parse::<u64>().ok());
            }
        }
        if !any {
            return Ok(());
        }
        log.lock().unwrap().push(start.unwrap_or(0));
        let mut file = std::fs::File::open(file)?;
        let size = file.metadata()?.len();
        let (status, from) = start.map_or(("200 OK", 0), |start| ("206 Partial Content", start));
        let accepts = if manner == Manner::NoRanges { "" } else { "Accept-Ranges: bytes\r\n" };
        let range = start.map_or_else(String::new, |_| format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1));
        write!(stream, "HTTP/1.1 {status}\r\n{accepts}{range}Content-Length: {}\r\n\r\n", size - from)?;
        file.seek(SeekFrom::Start(from))?;
        if manner == Manner::Stalls {
            std::io::copy(&mut file.take(100_000), &mut stream)?;
            std::thread::sleep(common::PATIENCE);
            return Ok(());
        }
        std::io::copy(&mut file, &mut stream)?;
    }
}

/// souphttpsrc is in GStreamer's "good" plugins, which `make setup` installs.
fn launch(server: &Server, properties: &str) -> String {
    init();
    assert!(gst::ElementFactory::find("souphttpsrc").is_some(), "souphttpsrc is missing: run `make setup`");
    format!("souphttpsrc location={} ! vxkeyframedec name=dec {properties}", server.url)
}

/// A file with much between its keyframes and its index at the end.
fn large() -> PathBuf {
    // Made once: the tests run side by side.
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let source = clip();
        let encode = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "1", "-g", "100", "-sc_threshold", "0"];
        made("large.mp4", &[&["-i", source.to_str().unwrap(), "-an", "-vf", "scale=1280:720"], &encode[..]].concat())
    };
    MADE.get_or_init(make).clone()
}

#[test]
fn a_server_gives_the_frames_of_the_file() {
    let copies = [
        large(),
        made("served.mkv", &["-i", clip().to_str().unwrap(), "-c", "copy"]),
        made("served.ts", &["-i", clip().to_str().unwrap(), "-c", "copy"]),
    ];
    for file in copies {
        let local = run(&format!("filesrc location={} ! vxkeyframedec", quoted(&file)));
        for manner in [Manner::Ranges, Manner::NoRanges] {
            let server = Server::start(&file, manner);
            let served = run(&launch(&server, ""));
            assert!(served.error.is_none(), "{file:?}: {:?}", served.error);
            assert_eq!(local.pts(), served.pts(), "{file:?}");
            let same = local.samples.iter().zip(&served.samples).all(|(a, b)| pixels(a) == pixels(b));
            assert!(same, "{file:?}");
            let requests = server.requests.lock().unwrap().clone();
            assert!(manner == Manner::Ranges || requests.iter().all(|&from| from == 0), "{requests:?}");
        }
    }
}

#[test]
fn only_what_is_needed_is_asked_for() {
    let file = large();
    let server = Server::start(&file, Manner::Ranges);
    let (pipeline, sink) = common::pipeline(&launch(&server, ""));
    let outcome = play(&pipeline, &sink);
    let stats: gst::Structure = pipeline.by_name("dec").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(outcome.error.is_none() && outcome.samples.len() == 4, "{outcome:?}");
    let (read, size) = (stats.get::<u64>("bytes-read").unwrap(), file.metadata().unwrap().len());
    assert!(read < size / 5, "{read} of {size} bytes");
    // The index at the end, and each keyframe.
    assert!(server.requests.lock().unwrap().len() >= 5);
}

#[test]
fn seeks_work_over_the_network() {
    let server = Server::start(&large(), Manner::Ranges);
    let (pipeline, sink) = common::pipeline(&launch(&server, ""));
    let wait = gst::ClockTime::from_seconds(common::PATIENCE.as_secs());
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(wait).0.unwrap();
    for position in [12, 4, 15, 0] {
        let position = gst::ClockTime::from_seconds(position);
        pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, position).unwrap();
        pipeline.state(wait).0.unwrap();
        let sample = sink.try_pull_preroll(wait).expect("a frame after the seek");
        let found = sample.buffer().unwrap().pts().unwrap();
        assert!(found <= position && position - found < gst::ClockTime::from_seconds(4), "{position}: {found}");
    }
    // To the end, and back from there.
    let outcome = play(&pipeline, &sink);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let start = gst::ClockTime::from_seconds(8);
    pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, start).unwrap();
    let outcome = play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(outcome.error.is_none() && outcome.samples.len() == 2, "{outcome:?}");
}

#[test]
fn a_server_that_stalls_is_given_up() {
    let server = Server::start(&large(), Manner::Stalls);
    let outcome = run(&launch(&server, "io-timeout=300000000"));
    assert!(outcome.error_text().contains("io-timeout"), "{outcome:?}");
}

#[test]
fn a_server_that_stalls_does_not_hold_up_a_stop() {
    let server = Server::start(&large(), Manner::Stalls);
    let (pipeline, _sink) = common::pipeline(&launch(&server, ""));
    pipeline.set_state(gst::State::Playing).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let started = std::time::Instant::now();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(started.elapsed() < common::PATIENCE / 4);
}
