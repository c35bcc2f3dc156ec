// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vxkeyframedec` behind `souphttpsrc` and a real server: with and without range requests, and with a server that stalls.

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
    /// Supports ranges, but sends nothing more after some bytes.
    Stalls,
}

/// Serves one file and records every request.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Asked>>>,
}

/// One request.
#[derive(Debug, Clone, Copy)]
struct Asked {
    from: u64,
    /// The first byte after the requested range; `None` for an open range.
    end: Option<u64>,
    /// Bytes of the file that were written to the connection.
    sent: u64,
}

impl Server {
    fn asked(&self) -> Vec<Asked> {
        self.requests.lock().unwrap().clone()
    }
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
                // A client closes the connection when it needs no more data.
                std::thread::spawn(move || serve(stream.unwrap(), &file, manner, &log).ok());
            }
        });
        Self { url, requests }
    }
}

fn serve(mut stream: TcpStream, file: &PathBuf, manner: Manner, log: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    loop {
        let (mut start, mut stop) = (None, None);
        let mut any = false;
        while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
            any = true;
            let range = line.to_ascii_lowercase();
            if let Some(range) = range.strip_prefix("range: bytes=").filter(|_| manner != Manner::NoRanges) {
                let mut ends = range.split('-').map(|end| end.parse::<u64>().ok());
                (start, stop) = (ends.next().flatten(), ends.next().flatten());
            }
        }
        if !any {
            return Ok(());
        }
        let mut file = std::fs::File::open(file)?;
        let size = file.metadata()?.len();
        let (from, end) = (start.unwrap_or(0), stop.map_or(size, |last| size.min(last + 1)));
        let number = {
            let mut log = log.lock().unwrap();
            log.push(Asked { from, end: stop.map(|last| last + 1), sent: 0 });
            log.len() - 1
        };
        let status = if start.is_some() { "206 Partial Content" } else { "200 OK" };
        let accepts = if manner == Manner::NoRanges { "" } else { "Accept-Ranges: bytes\r\n" };
        let range = start.map_or_else(String::new, |_| format!("Content-Range: bytes {from}-{}/{size}\r\n", end - 1));
        write!(stream, "HTTP/1.1 {status}\r\n{accepts}{range}Content-Length: {}\r\n\r\n", end - from)?;
        file.seek(SeekFrom::Start(from))?;
        let mut file = file.take(end - from);
        if manner == Manner::Stalls {
            std::io::copy(&mut file.take(100_000), &mut stream)?;
            std::thread::sleep(common::PATIENCE);
            return Ok(());
        }
        let mut piece = vec![0; 16 * 1024];
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                break;
            }
            stream.write_all(&piece[..count])?;
            log.lock().unwrap()[number].sent += count as u64;
        }
    }
}

/// souphttpsrc is part of GStreamer's "good" plugins, which `make setup` installs.
fn launch(server: &Server, properties: &str) -> String {
    init();
    assert!(gst::ElementFactory::find("souphttpsrc").is_some(), "souphttpsrc is missing: run `make setup`");
    format!("souphttpsrc location={} ! vxkeyframedec name=dec {properties}", server.url)
}

/// Creates a file with much data between its keyframes and the index at the end.
fn large() -> PathBuf {
    // Created once, because the tests run in parallel.
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let source = clip();
        let encode = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "1", "-g", "100", "-sc_threshold", "0"];
        made("large.mp4", &[&["-i", source.to_str().unwrap(), "-an", "-vf", "scale=1280:720"], &encode[..]].concat())
    };
    MADE.get_or_init(make).clone()
}

#[test]
fn frames_over_http_match_those_of_the_file() {
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
            let requests = server.asked();
            assert!(manner == Manner::Ranges || requests.iter().all(|asked| asked.from == 0), "{requests:?}");
        }
    }
}

#[test]
fn only_needed_ranges_are_requested_and_sent() {
    let file = large();
    let server = Server::start(&file, Manner::Ranges);
    let (pipeline, sink) = common::pipeline(&launch(&server, ""));
    let outcome = play(&pipeline, &sink);
    let stats: gst::Structure = pipeline.by_name("dec").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(outcome.error.is_none() && outcome.samples.len() == 4, "{outcome:?}");
    let (read, size) = (stats.get::<u64>("bytes-read").unwrap(), file.metadata().unwrap().len());
    assert!(read < size / 5, "{read} of {size} bytes");
    let asked = server.asked();
    let (first, ranges) = asked.split_first().unwrap();
    let sent: u64 = ranges.iter().map(|asked| asked.sent).sum();
    println!("{size} bytes, read {read}, sent {} and {sent}: {asked:?}, {stats}", first.sent);
    // The source sends the first request before it knows the file; it ends when the second one starts.
    assert!(first.end.is_none() && ranges.iter().all(|asked| asked.end.is_some()), "{asked:?}");
    // The index at the end, four keyframes, and three probed frames of similar size; the length of the first keyframe is unknown.
    assert!((5..=10).contains(&ranges.len()), "{asked:?}");
    assert!(sent <= read + (1 << 20), "{sent} bytes sent, {read} read: {asked:?}");
    let received = stats.get::<u64>("bytes-received").unwrap();
    assert!(received >= read && received <= first.sent + sent, "{received} bytes received: {asked:?}");
    assert_eq!(stats.get::<u64>("upstream-seeks").unwrap(), ranges.len() as u64);
}

/// For a file that is read from front to back, the requested ranges grow.
#[test]
fn sequential_reading_takes_few_requests() {
    let file = made("on.ts", &["-i", large().to_str().unwrap(), "-c", "copy"]);
    let size = file.metadata().unwrap().len();
    let server = Server::start(&file, Manner::Ranges);
    let outcome = run(&launch(&server, ""));
    assert!(outcome.error.is_none() && outcome.samples.len() == 4, "{outcome:?}");
    let asked = server.asked();
    let sent: u64 = asked.iter().map(|asked| asked.sent).sum();
    println!("{size} bytes, sent {sent}: {asked:?}");
    assert!(sent < size * 3 / 2 && asked.len() <= 12, "{asked:?}");
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
    // To the end, then back.
    let outcome = play(&pipeline, &sink);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let start = gst::ClockTime::from_seconds(8);
    pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, start).unwrap();
    let outcome = play(&pipeline, &sink);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(outcome.error.is_none() && outcome.samples.len() == 2, "{outcome:?}");
}

#[test]
fn a_stalled_server_causes_a_timeout_error() {
    let server = Server::start(&large(), Manner::Stalls);
    let outcome = run(&launch(&server, "io-timeout=300000000"));
    assert!(outcome.error_text().contains("io-timeout"), "{outcome:?}");
}

#[test]
fn a_stalled_server_does_not_delay_a_stop() {
    let server = Server::start(&large(), Manner::Stalls);
    let (pipeline, _sink) = common::pipeline(&launch(&server, ""));
    pipeline.set_state(gst::State::Playing).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let started = std::time::Instant::now();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(started.elapsed() < common::PATIENCE / 4);
}
