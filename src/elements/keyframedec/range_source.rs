// SPDX-License-Identifier: MIT OR Apache-2.0
//! Push mode with an upstream that supports byte seeks: souphttpsrc on a server with range requests, fdsrc on a file.
//!
//! An HTTP server sends until the end of the requested range, or until the connection is closed: of an open range, megabytes are in
//! transit by then. So ranges have an end where upstream supports that.
//!
//! Thread rule: used by the element's task. The flush of its seeks arrives on the same thread.

use std::sync::Arc;

use gst::prelude::*;
use gst_base::prelude::*;

use super::byte_queue::{ByteQueue, WaitLimit};
use crate::av::{ByteSource, SourceError};
use crate::elements::upstream;

/// Gaps up to this many bytes are read and discarded: another request takes longer.
const MAX_SKIP: u64 = 256 * 1024;

/// Most queued bytes while upstream receives a seek every now and then.
const QUEUE_BYTES: usize = 128 * 1024;

/// Length of a range after a seek whose reader did not announce how much it will read.
const FIRST_RANGE: u64 = MAX_SKIP;

/// Longest range. Ranges double while reading is sequential, so the unread rest of one is never longer than what was read before.
const LONGEST_RANGE: u64 = 16 << 20;

/// Requests for the same byte before its absence counts as the end of the file.
const ATTEMPTS: u32 = 3;

/// Most elements between an HTTP source and this one.
const ELEMENTS_BETWEEN: usize = 32;

/// Whether upstream of `pad` supports byte seeks. Call when its first bytes have arrived.
pub fn is_offered(pad: &gst::Pad) -> bool {
    let mut query = gst::query::Seeking::new(gst::Format::Bytes);
    if !pad.peer_query(&mut query) || !query.result().0 {
        return false;
    }
    // souphttpsrc claims it for every server that reports a length, and fails on those without ranges.
    let Some(event) = http_headers(pad) else { return true };
    header(&event, "accept-ranges").is_some_and(|ranges| ranges.eq_ignore_ascii_case("bytes"))
}

/// Returns the event in which an HTTP source passes on headers.
fn http_headers(pad: &gst::Pad) -> Option<gst::Event> {
    let event = pad.sticky_event::<gst::event::CustomDownstreamSticky>(0)?;
    event.structure().is_some_and(|headers| headers.name() == "http-headers").then(|| event.into())
}

/// Returns a response header in an event from [`http_headers`].
fn header(event: &gst::Event, name: &str) -> Option<String> {
    let response = event.structure()?.get::<gst::Structure>("response-headers").ok()?;
    let (_, value) = response.iter().find(|(found, _)| found.as_str().eq_ignore_ascii_case(name))?;
    value.get::<&str>().ok().map(|value| value.trim().to_owned())
}

/// Returns the length of the file: after the slash of `Content-Range: bytes 0-9/100`, where the response was a range.
fn size_of(pad: &gst::Pad) -> Option<u64> {
    let range = http_headers(pad).and_then(|event| header(&event, "content-range"));
    let size = range.and_then(|range| range.rsplit_once('/')?.1.parse().ok());
    size.or_else(|| pad.peer_query_duration::<gst::format::Bytes>().map(u64::from))
}

/// Random access by seek events.
pub struct RangeSource {
    pad: gst::Pad,
    queue: Arc<ByteQueue>,
    wait_limit: WaitLimit,
    /// Position of the next read.
    position: u64,
    /// Position of the byte that the queue delivers next.
    arriving: u64,
    ranges: Ranges,
    /// End of the announced reads, if it is behind the position.
    expected_end: u64,
}

/// How far upstream is requested to push.
enum Ranges {
    /// To the end of the file.
    Open,
    /// To the end of a range.
    Closed(Closed),
}

struct Closed {
    source: gst_base::BaseSrc,
    size: u64,
    /// End of the range that is arriving; of the first, which was not requested, the end of the file.
    end: u64,
    /// Length of the last range.
    length: u64,
}

impl Closed {
    /// Supports souphttpsrc only: how other sources treat the end of a range is unknown.
    fn new(pad: &gst::Pad) -> Option<Self> {
        let source = source_of(pad)?;
        if source.factory()?.name() != "souphttpsrc" {
            return None;
        }
        let size = size_of(pad)?;
        Some(Self { source, size, end: size, length: FIRST_RANGE })
    }

    /// Chooses the range for a reader that moves from `last` to `position`, and needs all up to `expected_end`.
    fn next_range(&mut self, last: u64, position: u64, expected_end: u64) -> u64 {
        let is_sequential = position.checked_sub(last).is_some_and(|ahead| ahead <= MAX_SKIP);
        self.length = if is_sequential {
            self.length.saturating_mul(2).min(LONGEST_RANGE).max(expected_end.saturating_sub(position))
        } else if expected_end > position {
            expected_end - position
        } else {
            FIRST_RANGE
        };
        self.end = position.saturating_add(self.length).min(self.size);
        self.length = self.length.max(FIRST_RANGE);
        self.end
    }

    /// Restores the length of the file in the source: souphttpsrc (to 1.28 at least) takes the end of a range for the end of the file,
    /// and GstBaseSrc limits seeks to it.
    fn restore_size(&self) {
        // The seek that follows sets all other fields of the segment.
        let mut segment = gst::FormattedSegment::<gst::format::Bytes>::new();
        segment.set_duration(gst::format::Bytes::from_u64(self.size));
        if let Err(error) = self.source.new_segment(segment.upcast_ref()) {
            gst::debug!(super::imp::CAT, "the length of the file cannot be restored: {error}");
        }
    }
}

/// Returns the source element at the end of a chain of elements with one sink pad each.
fn source_of(pad: &gst::Pad) -> Option<gst_base::BaseSrc> {
    let mut pad = pad.clone();
    for _ in 0..ELEMENTS_BETWEEN {
        let element = upstream::element_behind(&pad)?;
        match element.downcast::<gst_base::BaseSrc>() {
            Ok(source) => return Some(source),
            Err(element) => {
                let mut sinks = element.sink_pads();
                pad = sinks.pop().filter(|_| sinks.is_empty())?;
            }
        }
    }
    None
}

impl RangeSource {
    /// Creates a source over `queue`, which holds what upstream of `pad` pushed from the beginning.
    pub fn new(pad: gst::Pad, queue: Arc<ByteQueue>, wait_limit: WaitLimit) -> Self {
        queue.set_limit(QUEUE_BYTES);
        let ranges = Closed::new(&pad).map_or(Ranges::Open, Ranges::Closed);
        Self { pad, queue, wait_limit, position: 0, arriving: 0, ranges, expected_end: 0 }
    }

    /// Requests the bytes from `position` on.
    fn request(&mut self) -> Result<(), SourceError> {
        let position = self.position;
        let (mut from, mut stop) = (position, gst::format::Bytes::NONE);
        if let Ranges::Closed(ranges) = &mut self.ranges {
            // Asked to continue where a range ended, souphttpsrc continues to read that range: it would be at its end at once.
            if position == ranges.end {
                from = position.saturating_sub(1);
            }
            stop = Some(gst::format::Bytes::from_u64(ranges.next_range(self.arriving, position, self.expected_end)));
            ranges.restore_size();
        }
        let start = gst::format::Bytes::from_u64(from);
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        let seek = gst::event::Seek::new(1.0, flags, gst::SeekType::Set, start, gst::SeekType::Set, stop);
        gst::log!(super::imp::CAT, obj = self.pad, "bytes {from} to {stop:?}");
        if !self.queue.while_seeking(|| self.pad.push_event(seek)) {
            return Err(SourceError::Failed(format!("upstream failed to seek to byte {position}")));
        }
        self.arriving = from;
        Ok(())
    }

    /// Whether the next byte to read will arrive soon enough that waiting for it is quicker than another request.
    fn is_arriving(&self) -> bool {
        let is_near = self.position.checked_sub(self.arriving).is_some_and(|ahead| ahead <= MAX_SKIP);
        let end = if let Ranges::Closed(ranges) = &self.ranges { ranges.end } else { u64::MAX };
        is_near && self.position < end
    }

    /// Discards what arrives before the next byte to read; false if the range ends before.
    fn skip_to_position(&mut self) -> Result<bool, SourceError> {
        let mut buffer = [0; 16 * 1024];
        while let ahead @ 1.. = self.position.saturating_sub(self.arriving) {
            let part = usize::try_from(ahead).map_or(buffer.len(), |ahead| ahead.min(buffer.len()));
            let count = self.queue.read(&mut buffer[..part], &self.wait_limit)?;
            if count == 0 {
                return Ok(false);
            }
            self.arriving += count as u64;
        }
        Ok(true)
    }
}

impl ByteSource for RangeSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let size = self.size();
        // Servers reject a range behind the end of the file.
        if size.is_some_and(|size| self.position >= size) {
            return Ok(0);
        }
        for attempt in 0..ATTEMPTS {
            // After the first attempt: an early end, because of a lost connection, or of an EOS that a queue upstream was about to
            // send when the seek came, and sent after it.
            if self.queue.take_discontinuity() || attempt > 0 || !self.is_arriving() {
                self.request()?;
            }
            if self.skip_to_position()? {
                let count = self.queue.read(buffer, &self.wait_limit)?;
                if count > 0 || size.is_none() {
                    self.position += count as u64;
                    self.arriving = self.position;
                    return Ok(count);
                }
            }
        }
        Ok(0)
    }

    fn seek(&mut self, position: u64) -> Result<(), SourceError> {
        // Requested when it is read: some seeks are followed by another.
        self.position = position;
        Ok(())
    }

    fn expect(&mut self, end: u64) {
        self.expected_end = end;
    }

    fn size(&mut self) -> Option<u64> {
        match &self.ranges {
            Ranges::Closed(ranges) => Some(ranges.size),
            Ranges::Open => self.pad.peer_query_duration::<gst::format::Bytes>().map(u64::from),
        }
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn has_cheap_seeks(&self) -> bool {
        false
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_up_to_the_longest_and_are_longer_only_for_announced_reads() {
        gst::init().unwrap();
        let source = gst::ElementFactory::make("fakesrc").build().unwrap().downcast().unwrap();
        let mut ranges = Closed { source, size: 1 << 40, end: 1 << 40, length: FIRST_RANGE };
        let mut position = 0;
        let lengths = std::iter::repeat_with(|| {
            let end = ranges.next_range(position, position, 0);
            end - std::mem::replace(&mut position, end)
        });
        let lengths: Vec<u64> = lengths.take(20).collect();
        assert!(lengths.is_sorted() && lengths[0] < LONGEST_RANGE, "{lengths:?}");
        assert_eq!(lengths[10..], [LONGEST_RANGE; 10]);
        let announced = position + 2 * LONGEST_RANGE;
        assert_eq!(ranges.next_range(position, position, announced), announced);
        assert_eq!(ranges.next_range(announced, announced, 0), announced + LONGEST_RANGE);
    }
}
