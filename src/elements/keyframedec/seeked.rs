//! Push mode from an upstream that pushes from wherever it is told to: souphttpsrc on a server that takes range requests,
//! fdsrc on a file.
//!
//! Thread rule: used by the element's task. The flush that its seeks send round comes back on the same thread.

use std::sync::Arc;

use gst::prelude::*;

use super::queue::{ByteQueue, Patience};
use crate::av::{ByteSource, SourceError};

/// Gaps up to this are read through: asking a server anew takes longer.
const READ_THROUGH: u64 = 256 * 1024;

/// Bytes that may wait while upstream is asked for other ones every now and then.
const QUEUE_BYTES: usize = 128 * 1024;

/// Whether upstream of `pad` can be told where to push from. Ask when its first bytes have arrived.
pub fn is_offered(pad: &gst::Pad) -> bool {
    let mut query = gst::query::Seeking::new(gst::Format::Bytes);
    if !pad.peer_query(&mut query) || !query.result().0 {
        return false;
    }
    // souphttpsrc believes it of every server that tells a length, and fails on those that know no ranges.
    let headers = pad.sticky_event::<gst::event::CustomDownstreamSticky>(0);
    let headers =
        headers.as_ref().and_then(|event| event.structure()).filter(|headers| headers.name() == "http-headers");
    let Some(headers) = headers else { return true };
    let Ok(response) = headers.get::<gst::Structure>("response-headers") else { return false };
    response.iter().any(|(name, value)| {
        name.as_str().eq_ignore_ascii_case("accept-ranges")
            && value.get::<&str>().is_ok_and(|ranges| ranges.trim().eq_ignore_ascii_case("bytes"))
    })
}

/// Random access by seek events.
pub struct SeekedSource {
    pad: gst::Pad,
    queue: Arc<ByteQueue>,
    patience: Patience,
    position: u64,
}

impl SeekedSource {
    /// Over `queue`, which has what upstream of `pad` pushed from the beginning.
    pub fn new(pad: gst::Pad, queue: Arc<ByteQueue>, patience: Patience) -> Self {
        queue.set_limit(QUEUE_BYTES);
        Self { pad, queue, patience, position: 0 }
    }

    /// Has upstream push from `position` on.
    ///
    /// To the end: souphttpsrc of GStreamer 1.22 takes the end of a range that was asked for as the end of the file.
    fn go_to(&mut self, position: u64) -> Result<(), SourceError> {
        let start = gst::format::Bytes::from_u64(position);
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        let seek =
            gst::event::Seek::new(1.0, flags, gst::SeekType::Set, start, gst::SeekType::None, gst::format::Bytes::NONE);
        if !self.queue.while_seeking(|| self.pad.push_event(seek)) {
            return Err(SourceError::Failed(format!("upstream could not go to byte {position}")));
        }
        self.position = position;
        Ok(())
    }

    fn read_through(&mut self, mut count: u64) -> Result<(), SourceError> {
        let mut buffer = [0; 16 * 1024];
        while count > 0 {
            let part = usize::try_from(count).map_or(buffer.len(), |count| count.min(buffer.len()));
            let read = self.read(&mut buffer[..part])?;
            if read == 0 {
                break;
            }
            count -= read as u64;
        }
        Ok(())
    }
}

impl ByteSource for SeekedSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        if self.queue.was_cut() {
            self.go_to(self.position)?;
        }
        let mut count = self.queue.read(buffer, &self.patience)?;
        if count == 0 && self.size().is_some_and(|size| self.position < size) {
            // An end before the end: a connection that was lost, or an EOS that a queue upstream was about to send when
            // the seek came, and sent after it.
            self.go_to(self.position)?;
            count = self.queue.read(buffer, &self.patience)?;
        }
        self.position += count as u64;
        Ok(count)
    }

    fn seek(&mut self, position: u64) -> Result<(), SourceError> {
        let ahead = position.checked_sub(self.position);
        if let Some(ahead) = ahead.filter(|&ahead| ahead <= READ_THROUGH) {
            self.read_through(ahead)?;
            if self.position == position {
                return Ok(());
            }
        }
        self.go_to(position)
    }

    fn size(&mut self) -> Option<u64> {
        self.pad.peer_query_duration::<gst::format::Bytes>().map(u64::from)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn jumps_are_free(&self) -> bool {
        false
    }
}
