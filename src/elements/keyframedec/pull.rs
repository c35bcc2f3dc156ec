//! Pull mode: bytes taken from upstream at any position (filesrc).

use gst::prelude::*;

use crate::av::{ByteSource, SourceError};

/// Random access to what upstream of a sink pad holds.
pub struct PullSource {
    pad: gst::Pad,
    position: u64,
}

impl PullSource {
    pub fn new(pad: gst::Pad) -> Self {
        Self { pad, position: 0 }
    }
}

impl ByteSource for PullSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let wanted = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let pulled = match self.pad.pull_range(self.position, wanted) {
            Ok(pulled) => pulled,
            Err(gst::FlowError::Eos) => return Ok(0),
            Err(gst::FlowError::Flushing) => return Err(SourceError::Interrupted),
            Err(error) => {
                let position = self.position;
                return Err(SourceError::Failed(format!("upstream could not read at byte {position} ({error})")));
            }
        };
        let map = pulled.map_readable().map_err(|_| SourceError::Failed("upstream's bytes cannot be read".into()))?;
        let count = map.len().min(buffer.len());
        buffer[..count].copy_from_slice(&map[..count]);
        self.position += count as u64;
        Ok(count)
    }

    fn seek(&mut self, position: u64) -> Result<(), SourceError> {
        self.position = position;
        Ok(())
    }

    fn size(&mut self) -> Option<u64> {
        self.pad.peer_query_duration::<gst::format::Bytes>().map(u64::from)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn jumps_are_free(&self) -> bool {
        true
    }
}
