// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is returned before an error, and what remains to be done after an interruption.

use std::fs::File;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use ffmpeg_sys_next as ffi;
use parking_lot::{Condvar, Mutex};

use super::*;
use crate::av::decode::hardware::{Device, DeviceDecoder};
use crate::av::decode::options::{DecoderOptions, Hardware, ThreadOptions, ThreadType};
use crate::av::frame::pixel_format::PixelFormat;
use crate::av::frame::pool::{FramePool, PictureMemory};
use crate::av::frame::scaler::Scaler;
use crate::av::io::FileSource;

/// A device whose decoders wait until they may finish a picture.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    decoders: AtomicUsize,
}

impl Device for Gate {
    fn name(&self) -> &str {
        "gate"
    }

    fn decoder_for(&self, native: NonNull<ffi::AVCodec>) -> Option<DeviceDecoder> {
        Some(DeviceDecoder::new(native, PixelFormat::from_name("yuv420p").unwrap()))
    }

    unsafe fn attach(&self, _context: *mut ffi::AVCodecContext) -> Result<(), Error> {
        self.decoders.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn download(&self, frame: &Frame, _memory: &PictureMemory) -> Result<Frame, Error> {
        self.opened.wait_while(&mut self.is_open.lock(), |is_open| !*is_open);
        Scaler::new(&FramePool::default()).convert(frame, PixelFormat::from_name("nv12").unwrap())
    }
}

/// Opens the example clip with a single decoder.
fn open(gate: &Arc<Gate>, interrupt: &Interrupt) -> KeyframeReader {
    let clip = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/media/scenes.mp4")).unwrap();
    let decoder = DecoderOptions {
        hardware: Hardware::Named { kind: "gate".into(), device: None },
        threads: ThreadOptions { count: 1, kind: ThreadType::None },
        ..DecoderOptions::default()
    };
    let options = Options { decoder, ..Options::default() };
    let opener = |_: &str, _: Option<&str>| -> Result<Arc<dyn Device>, String> { Ok(gate.clone()) };
    KeyframeReader::open_with(Box::new(FileSource(clip)), &options, interrupt.clone(), &opener).unwrap()
}

#[test]
fn pictures_that_wait_come_before_an_error() {
    let gate = Arc::new(Gate::default());
    *gate.is_open.lock() = true;
    let mut reader = open(&gate, &Interrupt::default());
    reader.read_packet().unwrap();
    // The video changes to one that is refused.
    reader.packets.has_returned = true;
    reader.resources.options.max_pixels = 1;
    reader.read_packet().unwrap();
    assert!(matches!(reader.next(), Ok(Step::Keyframe(_))));
    let error = reader.next().err().unwrap();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[test]
fn new_decoders_are_opened_even_if_the_wait_for_the_old_ones_was_interrupted() {
    let (gate, interrupt) = (Arc::new(Gate::default()), Interrupt::default());
    let mut reader = open(&gate, &interrupt);
    reader.read_packet().unwrap();
    reader.packets.has_returned = true;
    interrupt.set();
    assert!(matches!(reader.read_packet(), Err(Error::Interrupted)));
    assert_eq!(gate.decoders.load(Ordering::SeqCst), 1);
    interrupt.clear();
    *gate.is_open.lock() = true;
    gate.opened.notify_all();
    for _ in 0..2 {
        assert!(matches!(reader.next(), Ok(Step::Keyframe(_))));
    }
    assert_eq!(gate.decoders.load(Ordering::SeqCst), 2);
}
