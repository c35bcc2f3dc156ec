// SPDX-License-Identifier: MIT OR Apache-2.0
//! An HTTP URL as random-access bytes without a pipeline, through the source and the range requests that `vxkeyframedec` uses in one.
//!
//! Thread rule: used by one thread at a time; the source element has a thread of its own.

use std::sync::Arc;
use std::time::Duration;

use gst::prelude::*;

use super::byte_queue::{ByteQueue, WaitLimit};
use super::push;
use crate::av::{ByteSource, SourceError};
use crate::elements::http;

/// Longest wait for the next bytes.
const IO_TIMEOUT: Duration = Duration::from_secs(60);

/// Most bytes of a temporary file, for servers without range requests.
const SPOOL_LIMIT: u64 = 4 << 30;

/// The bytes of a URL.
struct UrlSource {
    // Dropped first: it uses the others.
    bytes: Box<dyn ByteSource>,
    connection: Connection,
}

/// A source element that pushes into a queue; stopped when dropped.
struct Connection {
    source: gst::Element,
    bus: gst::Bus,
    queue: Arc<ByteQueue>,
    /// Holds the pad alive.
    pad: gst::Pad,
}

/// Opens an HTTP URL.
///
/// # Errors
/// Why its first bytes cannot be read: the URL is not valid, or the server's answer.
pub fn open(url: &str) -> Result<Box<dyn ByteSource>, String> {
    open_within(url, IO_TIMEOUT, SPOOL_LIMIT)
}

/// As [`open`], with these limits.
fn open_within(url: &str, io_timeout: Duration, spool_limit: u64) -> Result<Box<dyn ByteSource>, String> {
    let source = http::source(url).map_err(|error| error.message().to_owned())?;
    let queue = Arc::<ByteQueue>::default();
    let (chained, ended) = (Arc::clone(&queue), Arc::clone(&queue));
    let pad = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_pad, _parent, buffer| chained.push(buffer).map(|()| gst::FlowSuccess::Ok))
        .event_function(move |_pad, _parent, event| {
            match event.type_() {
                gst::EventType::Eos => ended.end(),
                gst::EventType::FlushStart => return ended.handle_own_flush(true),
                gst::EventType::FlushStop => return ended.handle_own_flush(false),
                _ => {}
            }
            true
        })
        .build();
    let bus = gst::Bus::new();
    source.set_bus(Some(&bus));
    let connection = Connection { source, bus, queue, pad };
    connection.start()?;
    let wait_limit = WaitLimit { limit: Some(io_timeout), is_idle_allowed: Arc::new(|| false) };
    match push::open(&connection.pad, &connection.queue, true, spool_limit, &wait_limit) {
        Ok(_) if connection.refusal().is_some() => Err(connection.refusal().unwrap_or_default()),
        Ok(bytes) => Ok(Box::new(UrlSource { bytes, connection })),
        Err(error) => Err(connection.refusal().unwrap_or_else(|| error.to_string())),
    }
}

impl Connection {
    fn start(&self) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("the HTTP source cannot be started: {error}");
        self.pad.set_active(true).map_err(|error| failed(&error))?;
        let output = self.source.static_pad("src").ok_or_else(|| failed(&"it has no pad src"))?;
        output.link(&self.pad).map_err(|error| failed(&error))?;
        let started = self.source.set_state(gst::State::Playing);
        started.map(|_| ()).map_err(|error| self.refusal().unwrap_or_else(|| failed(&error)))
    }

    /// Returns why the source failed, if it did.
    fn refusal(&self) -> Option<String> {
        // Peeked: it stays the reason of every later read.
        let message = self.bus.peek()?;
        let gst::MessageView::Error(error) = message.view() else {
            self.bus.pop();
            return self.refusal();
        };
        Some(
            http::Refusal::from_message(error).map_or_else(|| error.error().message().to_owned(), |known| known.reason),
        )
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Ends a push that waits for room.
        self.queue.flush();
        let _ = self.source.set_state(gst::State::Null);
        let _ = self.pad.set_active(false);
    }
}

impl ByteSource for UrlSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let result = self.bytes.read(buffer);
        match result {
            Ok(count @ 1..) => Ok(count),
            // An end may be one because the source failed.
            Ok(_) | Err(_) => self.connection.refusal().map_or(result, |reason| Err(SourceError::Failed(reason))),
        }
    }

    fn seek(&mut self, position: u64) -> Result<(), SourceError> {
        self.bytes.seek(position)
    }

    fn expect(&mut self, end: u64) {
        self.bytes.expect(end);
    }

    fn size(&mut self) -> Option<u64> {
        self.bytes.size()
    }

    fn is_seekable(&self) -> bool {
        self.bytes.is_seekable()
    }

    fn has_cheap_seeks(&self) -> bool {
        self.bytes.has_cheap_seeks()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Starts a server that sends this many of the bytes that it announces, and then nothing until the connection is closed. It has
    /// no range requests. Returns the URL of an AVI file.
    fn serve(announced: usize, sent: usize) -> String {
        gst::init().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a.avi", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = BufReader::new(connection.try_clone().unwrap());
            let mut lines = request.by_ref().lines().map_while(Result::ok);
            assert!(lines.any(|line| line.is_empty()));
            let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\n\r\n").into_bytes();
            let head = answer.len();
            answer.extend(b"RIFF\0\0\0\0AVI LIST");
            answer.resize(head + sent, 0);
            // The client may close the connection earlier.
            let _ = connection.write_all(&answer);
            let _ = request.read_line(&mut String::new());
        });
        url
    }

    #[test]
    fn a_server_that_sends_nothing_more_is_an_error() {
        let reason = open_within(&serve(1000, 100), Duration::from_millis(200), SPOOL_LIMIT).err().unwrap();
        assert!(reason.contains("delivered nothing for 0.2 s"), "{reason}");
    }

    #[test]
    fn a_temporary_file_has_a_limit() {
        let open = |limit: u64| open_within(&serve(300_000, 300_000), IO_TIMEOUT, limit);
        assert_eq!(open(300_000).unwrap().size(), Some(300_000));
        let reason = open(299_999).err().unwrap();
        assert!(reason.contains("longer than spool-limit (299999 bytes)"), "{reason}");
    }
}
