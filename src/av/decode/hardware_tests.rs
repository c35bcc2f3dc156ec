// SPDX-License-Identifier: MIT OR Apache-2.0
//! Selection, fallback and transfer with a device made of memory: what real ones do differently starts behind the seam.

use std::cell::Cell;
use std::fs::File;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::channel;

use super::*;
use crate::av::decode::options::DecoderOptions;
use crate::av::frame::pool::FramePool;
use crate::av::frame::scaler::Scaler;
use crate::av::io::{FileSource, Interrupt};
use crate::av::keyframes::KeyframeReader;
use crate::av::keyframes::keyframe::Step;
use crate::av::keyframes::options::Options;

/// Its "device format" is one that libavcodec offers anyway, or one that it never offers.
struct Fake {
    format: &'static str,
    has_decoder: bool,
    has_transfer: bool,
}

const ABLE: Fake = Fake { format: "yuv420p", has_decoder: true, has_transfer: true };

impl Device for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn decoder_for(&self, native: NonNull<ffi::AVCodec>) -> Option<DeviceDecoder> {
        let format = PixelFormat::from_name(self.format).unwrap();
        self.has_decoder.then(|| DeviceDecoder::new(native, format))
    }

    unsafe fn attach(&self, _context: *mut ffi::AVCodecContext) -> Result<(), Error> {
        Ok(())
    }

    fn download(&self, frame: &Frame, _memory: &PictureMemory) -> Result<Frame, Error> {
        if !self.has_transfer {
            return Err(Error::call("av_hwframe_transfer_data", ffi::AVERROR(ffi::EIO)));
        }
        Scaler::new(&FramePool::default()).convert(frame, PixelFormat::from_name("nv12").unwrap())
    }
}

fn named(kind: &str) -> Hardware {
    Hardware::Named { kind: kind.into(), device: None }
}

fn open(hardware: Hardware, opener: Opener<'_>) -> Result<KeyframeReader, Error> {
    open_file("examples/media/scenes.mp4", hardware, opener)
}

fn open_file(path: &str, hardware: Hardware, opener: Opener<'_>) -> Result<KeyframeReader, Error> {
    let clip = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let options = Options { decoder: DecoderOptions { hardware, ..DecoderOptions::default() }, ..Options::default() };
    KeyframeReader::open_with(Box::new(FileSource(clip)), &options, Interrupt::default(), opener)
}

/// Format and luma.
type Picture = (String, Vec<u8>);

/// Returns the clip's keyframes, and how often damage was reported.
fn read(reader: &mut KeyframeReader) -> Result<(Vec<Picture>, usize), Error> {
    let (mut pictures, mut damaged) = (Vec::new(), 0);
    loop {
        match reader.next()? {
            Step::Keyframe(keyframe) => {
                let frame = &keyframe.frame;
                let luma = frame.plane(0).unwrap().chunks(frame.stride(0)).flat_map(|line| &line[..frame.width()]);
                pictures.push((frame.pixel_format()?.name().to_owned(), luma.copied().collect()));
            }
            Step::Damaged { .. } => damaged += 1,
            Step::Notice(_) => {}
            Step::End => return Ok((pictures, damaged)),
        }
    }
}

fn with_fake(hardware: Hardware, fake: fn() -> Fake) -> Result<KeyframeReader, Error> {
    open(hardware, &move |_, _| Ok(Arc::new(fake())))
}

#[test]
fn pictures_of_a_device_are_downloaded_and_are_the_same() {
    let mut software = with_fake(Hardware::None, || ABLE).unwrap();
    assert_eq!((software.device(), software.fallback_reason()), (None, None));
    let (expected, _) = read(&mut software).unwrap();
    assert!(expected.len() > 3 && expected.iter().all(|(format, _)| format == "yuv420p"));
    for hardware in [Hardware::Auto, named("cuda")] {
        let mut reader = with_fake(hardware, || ABLE).unwrap();
        let (pictures, damaged) = read(&mut reader).unwrap();
        assert_eq!((reader.device(), reader.fallback_reason(), damaged), (Some("fake"), None, 0));
        assert!(pictures.iter().all(|(format, _)| format == "nv12"));
        assert!(pictures.iter().zip(&expected).all(|(picture, expected)| picture.1 == expected.1));
        assert_eq!(pictures.len(), expected.len());
    }
}

/// Every fourth of its pictures ends in a panic on the decoder's thread.
struct Panicking(AtomicUsize);

impl Device for Panicking {
    fn name(&self) -> &str {
        "panicking"
    }

    fn decoder_for(&self, native: NonNull<ffi::AVCodec>) -> Option<DeviceDecoder> {
        ABLE.decoder_for(native)
    }

    unsafe fn attach(&self, _context: *mut ffi::AVCodecContext) -> Result<(), Error> {
        Ok(())
    }

    fn download(&self, frame: &Frame, memory: &PictureMemory) -> Result<Frame, Error> {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) % 4 != 2, "no picture");
        ABLE.download(frame, memory)
    }
}

#[test]
fn a_panic_on_a_decoder_thread_loses_its_pictures_and_nothing_else() {
    let mut whole = with_fake(Hardware::None, || ABLE).unwrap();
    let (expected, _) = read(&mut whole).unwrap();
    let mut reader = open(named("cuda"), &|_, _| Ok(Arc::new(Panicking(AtomicUsize::new(0))))).unwrap();
    let (pictures, damaged) = read(&mut reader).unwrap();
    let lost = (expected.len() + 1) / 4;
    assert_eq!((pictures.len(), damaged), (expected.len() - lost, lost));
    assert!(reader.problems().iter().any(|problem| problem.contains("panic")), "{:?}", reader.problems());
}

/// A device's decoder of H.264 is not flushed between IDR pictures.
#[test]
fn pictures_decoded_without_a_flush_are_the_same() {
    for clip in [
        "fmp4_times_start_over_lower.mp4",
        "mkv_only_first_block_flagged_key.mkv",
        "mp4_keyframes_at_equal_dts.mp4",
        "mp4_stss_names_first_only.mp4",
        "trimmed_clip_keyframe_before_edit_list.mp4",
    ] {
        let [expected, pictures] = [Hardware::None, named("cuda")].map(|hardware| {
            let opener = |_: &str, _: Option<&str>| -> Opened { Ok(Arc::new(ABLE)) };
            let mut reader = open_file(&format!("tests/media/{clip}"), hardware, &opener).unwrap();
            let (pictures, damaged) = read(&mut reader).unwrap();
            (pictures.into_iter().map(|(_, luma)| luma).collect::<Vec<_>>(), damaged)
        });
        assert!(!expected.0.is_empty() && expected == pictures, "{clip}");
    }
}

#[test]
fn a_stream_that_the_device_refuses_is_decoded_by_the_processor_or_an_error() {
    let refusing = || Fake { format: "yuv444p16le", ..ABLE };
    let mut reader = with_fake(Hardware::Auto, refusing).unwrap();
    let (pictures, damaged) = read(&mut reader).unwrap();
    assert!(pictures.len() > 3 && pictures.iter().all(|(format, _)| format == "yuv420p"));
    assert_eq!((reader.device(), damaged), (None, 0));
    assert!(reader.fallback_reason().unwrap().contains("profile"));

    let error = read(&mut with_fake(named("cuda"), refusing).unwrap()).unwrap_err();
    assert!(matches!(&error, Error::Hardware { reason, .. } if reason.contains("profile")), "{error}");
}

#[test]
fn devices_are_tried_in_order_and_each_failure_is_reported() {
    let tried = Cell::new(Vec::new());
    let opener = |kind: &str, device: Option<&str>| -> Opened {
        assert_eq!(device, None);
        let mut so_far = tried.take();
        so_far.push(kind.to_owned());
        tried.set(so_far);
        if kind == "vaapi" { Ok(Arc::new(ABLE)) } else { Err("none here".into()) }
    };
    let reader = open(Hardware::Auto, &opener).unwrap();
    assert_eq!(reader.device(), Some("fake"));
    assert_eq!(tried.take(), AUTOMATIC);

    let reader = open(Hardware::Auto, &|_, _| Err("none here".into())).unwrap();
    assert_eq!(reader.device(), None);
    let reason = reader.fallback_reason().unwrap();
    assert!(AUTOMATIC.iter().all(|kind| reason.contains(&format!("{kind}: none here"))), "{reason}");

    let error = open(named("qsv"), &|_, _| Err("none here".into())).err().unwrap().to_string();
    assert_eq!(error, "qsv cannot decode this file: none here");
}

#[test]
fn a_codec_that_the_device_cannot_decode_is_reported() {
    let without = || Fake { has_decoder: false, ..ABLE };
    assert!(with_fake(Hardware::Auto, without).unwrap().fallback_reason().unwrap().contains("no h264 decoder"));
    let error = with_fake(named("cuda"), without).err().unwrap().to_string();
    assert!(error.contains("no h264 decoder"), "{error}");
}

#[test]
fn pictures_that_cannot_be_downloaded_are_damage() {
    let mut reader = with_fake(Hardware::Auto, || Fake { has_transfer: false, ..ABLE }).unwrap();
    let error = read(&mut reader).unwrap_err().to_string();
    assert!(error.contains("av_hwframe_transfer_data"), "{error}");
    assert!(reader.counts().damaged > 3);
}

#[test]
fn a_device_is_opened_once_and_so_is_a_missing_one() {
    let opened = Cell::new(0);
    let open = || -> Opened {
        opened.set(opened.get() + 1);
        Ok(Arc::new(ABLE))
    };
    let first = shared("test", Some("0"), open).unwrap();
    assert!(Arc::ptr_eq(&first, &shared("test", Some("0"), open).unwrap()));
    assert!(!Arc::ptr_eq(&first, &shared("test", Some("1"), open).unwrap()));
    assert_eq!(opened.get(), 2);
    let reason = open_shared("nonsense", None).err().unwrap();
    assert_eq!(reason, "this FFmpeg does not have this kind of device");
}

#[test]
fn only_requests_for_the_same_device_wait_while_it_is_being_opened() {
    let opened = AtomicUsize::new(0);
    let (started, has_started) = channel();
    let (proceed, may_continue) = channel::<()>();
    let other = || shared("slow", Some("another"), || Ok(Arc::new(ABLE))).unwrap();
    std::thread::scope(|scope| {
        let opened = &opened;
        let first = scope.spawn(move || {
            shared("slow", None, || {
                opened.fetch_add(1, Ordering::SeqCst);
                started.send(()).unwrap();
                may_continue.recv().unwrap();
                Ok(Arc::new(ABLE))
            })
        });
        has_started.recv().unwrap();
        let second = scope.spawn(move || {
            shared("slow", None, || {
                opened.fetch_add(1, Ordering::SeqCst);
                Ok(Arc::new(ABLE))
            })
        });
        // While the first is still being opened.
        other();
        proceed.send(()).unwrap();
        let [first, second] = [first, second].map(|thread| thread.join().unwrap().unwrap());
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &other()));
    });
    assert_eq!(opened.into_inner(), 1);
}
