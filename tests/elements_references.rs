// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests files that refer to other files or addresses: only their own bytes are ever opened.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{clip, made, piped, quoted, run, scratch};

/// A file that detects whether it was opened: a named pipe, whose writer waits for a reader.
struct Canary {
    path: std::path::PathBuf,
    opened: Arc<AtomicBool>,
}

impl Canary {
    fn new(name: &str) -> Self {
        let path = scratch(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let opened = Arc::new(AtomicBool::new(false));
        let (writer, flag) = (path.clone(), Arc::clone(&opened));
        std::thread::spawn(move || {
            drop(std::fs::OpenOptions::new().write(true).open(writer));
            flag.store(true, Ordering::SeqCst);
        });
        Self { path, opened }
    }
}

#[test]
fn references_in_a_file_are_never_opened() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let port = address.port();
    for (number, target) in ["file", "relative", "http"].into_iter().enumerate() {
        let canary = Canary::new(&format!("canary{number}.ts"));
        let path = canary.path.display();
        let url = match target {
            "file" => format!("file://{path}"),
            "relative" => format!("canary{number}.ts"),
            _ => format!("http://{address}/video.ts"),
        };
        let mut texts = vec![
            (
                "list.m3u8",
                format!(
                    "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:4,\n{url}\n#EXT-X-ENDLIST\n"
                ),
            ),
            ("master.m3u8", format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n")),
            (
                "key.m3u8",
                format!(
                    "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-KEY:METHOD=AES-128,URI=\"{url}\"\n#EXTINF:4,\n{url}\n"
                ),
            ),
            ("list.ffconcat", format!("ffconcat version 1.0\nfile '{url}'\n")),
            (
                "manifest.mpd",
                format!(
                    "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" mediaPresentationDuration=\"PT4S\">\
                     <Period><AdaptationSet mimeType=\"video/mp4\"><Representation id=\"1\" bandwidth=\"1\">\
                     <BaseURL>{url}</BaseURL><SegmentList><Initialization sourceURL=\"{url}\"/><SegmentURL media=\"{url}\"/></SegmentList>\
                     </Representation></AdaptationSet></Period></MPD>"
                ),
            ),
            (
                "playlist.imf",
                format!(
                    "<?xml version=\"1.0\"?><CompositionPlaylist><Id>urn:uuid:1</Id><URL>{url}</URL></CompositionPlaylist>"
                ),
            ),
        ];
        if target == "http" {
            texts.push((
                "session.sdp",
                format!("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video {port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"),
            ));
        }
        for (name, text) in texts {
            let file = scratch(name);
            std::fs::write(&file, text).unwrap();
            for upstream in [format!("filesrc location={}", quoted(&file)), piped(&file)] {
                let outcome = run(&format!("{upstream} ! vxkeyframedec"));
                assert!(outcome.samples.is_empty() && outcome.error.is_some(), "{name}: {outcome:?}");
            }
            assert!(!canary.opened.load(Ordering::SeqCst), "{name} opened {target}");
            assert!(listener.accept().is_err(), "{name} connected to {url}");
        }
        // Releases the writer.
        drop(std::fs::File::open(&canary.path));
    }
}

/// A QuickTime reference movie stores its media data in another file.
#[test]
fn a_movie_with_external_media_data_reads_only_itself() {
    let canary = Canary::new("elsewhere.mov");
    let movie = made("reference.mov", &["-i", clip().to_str().unwrap(), "-c", "copy", "-movflags", "+faststart"]);
    let mut bytes = std::fs::read(&movie).unwrap();
    // The only data reference is "in this file" (flag 1); the test replaces it by a reference to the canary.
    let at = bytes.windows(4).position(|word| word == b"dref").unwrap();
    let entry = at + 12;
    let kind = String::from_utf8_lossy(&bytes[entry + 4..entry + 8]).into_owned();
    assert!(["alis", "url "].contains(&kind.as_str()), "{kind}");
    let url = format!("file://{}\0", canary.path.display());
    let size = u32::try_from(12 + url.len()).unwrap();
    let mut reference = size.to_be_bytes().to_vec();
    reference.extend(b"url \0\0\0\0");
    reference.extend(url.as_bytes());
    let old = u32::from_be_bytes(bytes[entry..entry + 4].try_into().unwrap()) as usize;
    let grown = reference.len() - old;
    bytes.splice(entry..entry + old, reference);
    // Every enclosing box becomes longer.
    for kind in [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"] {
        let at = bytes.windows(4).position(|word| word == kind).unwrap() - 4;
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) + u32::try_from(grown).unwrap();
        bytes[at..at + 4].copy_from_slice(&size.to_be_bytes());
    }
    std::fs::write(&movie, bytes).unwrap();
    run(&format!("filesrc location={} ! vxkeyframedec", quoted(&movie)));
    assert!(!canary.opened.load(Ordering::SeqCst));
    drop(std::fs::File::open(&canary.path));
}
