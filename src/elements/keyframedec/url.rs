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
    let wait_limit = WaitLimit { limit: Some(IO_TIMEOUT), is_idle_allowed: Arc::new(|| false) };
    match push::open(&connection.pad, &connection.queue, true, SPOOL_LIMIT, &wait_limit) {
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
