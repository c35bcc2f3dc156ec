// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real HTTP servers for tests: one with programmable faults, and nginx.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::{clip, made, scratch};

/// How a server answers.
#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    Ranges,
    NoRanges,
    /// Supports ranges, but sends nothing more after some bytes.
    Stalls,
    /// Answers the first requests with this status, and later ones properly.
    RefusesFirst(usize, u16),
    /// Answers this many requests properly, and later ones with this status, as when a link expires.
    RefusesAfter(usize, u16),
    /// Closes the connection after half of the bytes of the first answers.
    CutsFirst(usize),
}

/// Serves one file and records every request; accepts no more when dropped.
pub struct Server {
    pub url: String,
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Asked>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub from: u64,
    /// The first byte after the requested range; `None` for an open range.
    pub end: Option<u64>,
    /// Bytes of the file that were written to the connection.
    pub sent: u64,
}

impl Server {
    pub fn asked(&self) -> Vec<Asked> {
        self.requests.lock().unwrap().clone()
    }

    pub fn start(file: &Path, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}/file");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (file, log) = (file.to_owned(), Arc::clone(&requests));
        let is_stopped = Arc::<AtomicBool>::default();
        let is_over = Arc::clone(&is_stopped);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let (file, log) = (file.clone(), Arc::clone(&log));
                // A client closes the connection when it needs no more data.
                std::thread::spawn(move || serve(stream.unwrap(), &file, manner, &log).ok());
            }
        });
        Self { url, address, is_stopped, requests }
    }
}

fn serve(mut stream: TcpStream, file: &Path, manner: Manner, log: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
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
        let (from, end) = (start.unwrap_or(0), stop.map_or(size, |last| size.min(last.saturating_add(1))));
        if start.is_some() && from >= end {
            write!(
                stream,
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{size}\r\nContent-Length: 0\r\n\r\n"
            )?;
            continue;
        }
        let number = {
            let mut log = log.lock().unwrap();
            log.push(Asked { from, end: stop.map(|last| last + 1), sent: 0 });
            log.len() - 1
        };
        let refusal = match manner {
            Manner::RefusesFirst(count, status) if number < count => Some(status),
            Manner::RefusesAfter(count, status) if number >= count => Some(status),
            _ => None,
        };
        if let Some(status) = refusal {
            write!(stream, "HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        let status = if start.is_some() { "206 Partial Content" } else { "200 OK" };
        let accepts = if manner == Manner::NoRanges { "" } else { "Accept-Ranges: bytes\r\n" };
        let range = start.map_or_else(String::new, |_| format!("Content-Range: bytes {from}-{}/{size}\r\n", end - 1));
        write!(stream, "HTTP/1.1 {status}\r\n{accepts}{range}Content-Length: {}\r\n\r\n", end - from)?;
        file.seek(SeekFrom::Start(from))?;
        let is_cut = matches!(manner, Manner::CutsFirst(count) if number < count);
        let mut file = file.take(if is_cut { (end - from) / 2 } else { end - from });
        if manner == Manner::Stalls {
            std::io::copy(&mut file.take(100_000), &mut stream)?;
            std::thread::sleep(super::PATIENCE);
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
        if is_cut {
            return Ok(());
        }
    }
}

/// Creates a file with much data between its keyframes and the index at the end.
pub fn large() -> &'static Path {
    // Created once, because the tests run in parallel.
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let source = clip();
        let encode = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "1", "-g", "100", "-sc_threshold", "0"];
        made("large.mp4", &[&["-i", source.to_str().unwrap(), "-an", "-vf", "scale=1280:720"], &encode[..]].concat())
    };
    MADE.get_or_init(make)
}

/// An nginx server; ended when dropped.
pub struct Nginx {
    process: Child,
    pub url: String,
}

impl Nginx {
    /// Serves the files of `folder` at `/`, with these additional `location` blocks. `None`, with the reason printed, where nginx is not
    /// installed.
    pub fn start(name: &str, folder: &Path, locations: &str) -> Option<Self> {
        let program = ["nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"]
            .into_iter()
            .find(|program| Command::new(program).arg("-v").output().is_ok());
        let Some(program) = program else {
            println!("skipped: nginx is not installed (on Debian: apt install nginx-light)");
            return None;
        };
        let place = scratch(&format!("nginx-{name}"));
        std::fs::create_dir_all(place.join("temporary")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (place_text, folder) = (place.display(), folder.display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {place_text}/temporary;"))
            .concat();
        // As root its workers would be another user, who may not read the folder.
        let user = if std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
            "user root;"
        } else {
            ""
        };
        let configuration = format!(
            "daemon off; worker_processes 1; {user} pid {place_text}/pid; error_log {place_text}/error.log;
            events {{ worker_connections 64; }}
            http {{ access_log {place_text}/access.log; {temporary}
                server {{ listen 127.0.0.1:{port}; root {folder}; {locations} }} }}"
        );
        std::fs::write(place.join("nginx.conf"), configuration).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(&place).arg("-c").arg(place.join("nginx.conf"));
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = std::time::Instant::now() + super::PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(std::time::Instant::now() < deadline, "nginx does not answer: see {place_text}/error.log");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(Self { process, url: format!("http://127.0.0.1:{port}") })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its master ends its worker.
        let _ = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}
