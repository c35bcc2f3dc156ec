// SPDX-License-Identifier: MIT OR Apache-2.0
//! Selection where packets are read ahead, and where a file changes while it is read.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::av::error::SourceError;
use crate::av::io::ByteSource;

/// A file in memory that others may change.
struct Shared {
    bytes: Arc<Mutex<Vec<u8>>>,
    position: usize,
}

impl ByteSource for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let bytes = self.bytes.lock();
        let rest = bytes.get(self.position..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        drop(bytes);
        self.position += count;
        Ok(count)
    }

    fn seek(&mut self, position: u64) -> Result<(), SourceError> {
        self.position = usize::try_from(position).unwrap();
        Ok(())
    }

    fn size(&mut self) -> Option<u64> {
        Some(self.bytes.lock().len() as u64)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn has_cheap_seeks(&self) -> bool {
        true
    }
}

/// Opens a small mp4 file, and returns its bytes as well.
fn open() -> (PacketSelector, Arc<Mutex<Vec<u8>>>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media/mp4_keyframes_at_equal_dts.mp4");
    let bytes = Arc::new(Mutex::new(std::fs::read(path).unwrap()));
    let source = Shared { bytes: bytes.clone(), position: 0 };
    let mut input = Input::open(Box::new(source), Interrupt::default(), u64::MAX).unwrap();
    let video = input.best_video().unwrap();
    let rules = SelectionOptions { max_pixels: u64::MAX, min_interval_ns: 0, wants_all: false };
    (PacketSelector::new(input, video, &rules, Interrupt::default()).unwrap(), bytes)
}

#[test]
fn a_file_that_has_lost_its_video_when_it_is_read_again_is_an_error() {
    let (mut packets, bytes) = open();
    let describe =
        |video: &VideoStream| (video.index(), video.time_base(), video.index_len(), video.extradata().to_vec());
    let before = describe(&packets.video);
    {
        let mut bytes = bytes.lock();
        let at = memchr::memmem::find(&bytes, b"vide").unwrap();
        bytes[at..at + 4].copy_from_slice(b"soun");
    }
    let error = packets.restart().unwrap_err();
    assert!(matches!(error, Error::NoSuchStream { .. }), "{error}");
    assert_eq!(describe(&packets.video), before);
}

/// A packet of MPEG-2 video with a single field: 1 for top, 2 for bottom.
fn field(structure: u8) -> Packet {
    let mut packet = Packet::of(&[0, 0, 1, 0xb5, 0x8f, 0xff, 0xf0 | structure, 0x41]).unwrap();
    packet.set_key();
    packet
}

/// As after a change to another stream, of which packets were held.
#[test]
fn the_second_field_of_a_keyframe_may_have_been_read_ahead() {
    let (mut packets, _) = open();
    packets.fields = Some(FieldParser::Mpeg2);
    packets.sets = None;
    packets.backlog.extend([field(1), field(2), field(1)]);
    let Next::Keyframe(keyframe) = packets.next().unwrap() else { panic!("no keyframe") };
    assert_eq!(keyframe.as_slice().iter().map(Packet::byte_len).collect::<Vec<_>>(), [8, 8]);
    assert_eq!(packets.backlog.len(), 1);
}
