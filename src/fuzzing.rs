// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entry points for fuzzing: one function for each kind of untrusted input. It ends for any bytes without a panic, in time, and checks
//! what is promised about the result.
//!
//! The programs in `fuzz/` call these functions, and a test calls them with the inputs in `tests/fuzz_regressions`, which once
//! failed. Compiled for these two only; what a layer does not export is called in its own module `fuzzing`.

#![forbid(unsafe_code)]

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::av::{
    ByteSource, Codec, DecoderOptions, ElementaryDecoder, Interrupt, Keyframe, KeyframeReader, Options, SourceError,
    Step, StreamFormat, ThreadOptions, ThreadType, UnitFlags,
};
use crate::detect::fuzzing::{models, outputs, pictures, texts};
use crate::detect::{Details, Mask, Matrix, PixelFormat, Range, Rotated};
use crate::draw::{PlaneMut, Style, Surface, draw};
use crate::meta::Found;
use crate::run::fuzzing::{lists, messages, results, tables};

/// Reads the bytes of an input, and panics where something is wrong.
type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("keyframes", keyframes),
    ("units", units),
    ("models", models),
    ("texts", texts),
    ("outputs", outputs),
    ("pictures", pictures),
    ("drawing", drawing),
    ("results", results),
    ("tables", tables),
    ("lists", lists),
    ("messages", messages),
];

/// Runs the target called `name`.
///
/// # Panics
/// Where there is none, and where the target fails.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("unknown target {name}")).1(input);
}

/// Most pixels of a decoded picture, and most frames of a file: larger ones take long and have the same paths.
const MAX_PIXELS: u64 = 1 << 19;
const MAX_FRAMES: u64 = 6;
/// Most results of a reader besides its frames.
const MAX_STEPS: usize = 100_000;

fn options() -> Options {
    let threads = ThreadOptions { count: 1, kind: ThreadType::None };
    let decoder = DecoderOptions { threads, max_pixels: MAX_PIXELS, ..DecoderOptions::default() };
    Options { decoder, max_frames: MAX_FRAMES, ..Options::default() }
}

/// Bytes in memory.
struct Memory {
    bytes: Vec<u8>,
    position: usize,
    is_seekable: bool,
}

impl ByteSource for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> std::result::Result<usize, SourceError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length;
        Ok(length)
    }

    fn seek(&mut self, position: u64) -> std::result::Result<(), SourceError> {
        self.position = usize::try_from(position).unwrap_or(usize::MAX);
        Ok(())
    }

    fn size(&mut self) -> Option<u64> {
        self.is_seekable.then_some(self.bytes.len() as u64)
    }

    fn is_seekable(&self) -> bool {
        self.is_seekable
    }

    fn has_cheap_seeks(&self) -> bool {
        true
    }
}

/// A media file, read as a file or from a pipe, with frames between keyframes, or with seeks, as its length decides.
pub fn keyframes(file: &[u8]) {
    let way = file.len() % 5;
    let options = Options { max_gap_ns: if way == 2 { 200_000_000 } else { 0 }, ..options() };
    let source = Memory { bytes: file.to_vec(), position: 0, is_seekable: way != 1 };
    let Ok(mut reader) = KeyframeReader::open(Box::new(source), &options, Interrupt::default()) else { return };
    if way == 3 {
        for _ in 0..MAX_STEPS {
            if !matches!(reader.list_next(), Ok(Some(_))) {
                return;
            }
        }
        panic!("the list of keyframes does not end");
    }
    let mut seeks = file.iter().take(3).filter(|_| way == 4);
    for _ in 0..MAX_STEPS {
        match reader.next() {
            Ok(Step::Keyframe(frame)) => check_frame(&frame),
            Ok(Step::Damaged { .. } | Step::Notice(_)) => {}
            Ok(Step::End) | Err(_) => {
                let _ = (reader.problems(), reader.info().streams.len(), reader.indexed_keyframes());
                return;
            }
        }
        if let Some(position) = seeks.next()
            && reader.seek(i64::from(*position) * 50_000_000).is_err()
        {
            return;
        }
    }
    panic!("reading does not end");
}

/// Checks that a frame is within the limits, and reads all of its planes, which a sanitizer watches.
fn check_frame(keyframe: &Keyframe) {
    let frame = &keyframe.frame;
    assert!((frame.width() as u64) * (frame.height() as u64) <= MAX_PIXELS, "{}x{}", frame.width(), frame.height());
    if let Ok(format) = frame.pixel_format() {
        let planes = (0..format.plane_count()).filter_map(|plane| frame.plane(plane));
        let sum: u64 = planes.flatten().map(|byte| u64::from(*byte)).sum();
        std::hint::black_box(sum);
    }
}

const CODECS: [Codec; 9] = [
    Codec::H264,
    Codec::H265,
    Codec::Av1,
    Codec::Vp8,
    Codec::Vp9,
    Codec::Jpeg,
    Codec::Mpeg1,
    Codec::Mpeg2,
    Codec::Mpeg4,
];

/// Access units of an elementary stream: codec, flags, then extradata and units, each behind its length in 16 bits.
pub fn units(input: &[u8]) {
    let [codec, flags, rest @ ..] = input else { return };
    let mut rest = rest;
    let mut part = || {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let part;
        (part, rest) = after.split_at(usize::from(u16::from_le_bytes(*length)).min(after.len()));
        Some(part)
    };
    let extradata = part().unwrap_or_default().to_vec();
    let format = StreamFormat {
        codec: CODECS[usize::from(*codec) % CODECS.len()],
        extradata,
        size: (flags & 1 != 0).then_some((64, 64)),
        pixel_aspect_ratio: (flags & 2 != 0).then_some((4, 3)),
        frame_rate: None,
        is_interlaced: flags & 4 != 0,
    };
    let Ok(mut decoder) = ElementaryDecoder::open(&format, &options(), Interrupt::default()) else { return };
    let unit_flags = UnitFlags { is_key: flags & 8 != 0, is_trusted: flags & 16 != 0, is_corrupt: flags & 32 != 0 };
    while let Some(unit) = part() {
        let Ok(complete) = decoder.add(unit, unit_flags, ()) else { return };
        for keyframe in complete {
            if let Ok((frames, ())) = decoder.decode(keyframe) {
                frames.iter().for_each(check_frame);
            }
        }
    }
    if let Some(field) = decoder.take_field() {
        let _ = decoder.decode(field).map(|(frames, ())| frames.iter().for_each(check_frame));
    }
    let _ = decoder.no_picture_error();
}

/// Detections with any numbers, drawn into a picture of any format.
pub fn drawing(input: &[u8]) {
    // Too short inputs give zeros, never an error that matters.
    let _ = try_drawing(&mut Unstructured::new(input));
}

fn try_drawing(input: &mut Unstructured<'_>) -> Result<()> {
    let format = *input.choose(PixelFormat::ALL)?;
    let (width, height) = (input.int_in_range(1..=90_usize)?, input.int_in_range(1..=60_usize)?);
    // Wide enough for any format.
    let stride = width * 8 + input.int_in_range(0..=9_usize)?;
    let mut planes = vec![vec![input.arbitrary()?; stride * height]; 4];
    let style = Style {
        thickness: input.int_in_range(0..=30)?,
        font_size: input.int_in_range(0..=40)?,
        opacity: f64::from(input.arbitrary::<u8>()?) / 255.0,
        redact: if input.arbitrary()? { "*" } else { "" }.to_owned().into(),
        ..Style::default()
    };
    let found: Vec<Found> = (0..input.int_in_range(0..=6)?).map(|_| found(input)).collect::<Result<_>>()?;
    let planes = planes.iter_mut().map(|data| PlaneMut { data, stride }).collect();
    let mut surface = Surface::new(format, (width, height), planes, Matrix::Bt709, Range::Limited)
        .expect("the planes are large enough");
    draw(&mut surface, &found, &style);
    Ok(())
}

/// Returns a number near a small picture, or any.
fn coordinate(input: &mut Unstructured<'_>) -> Result<f32> {
    if input.ratio(7, 8)? { Ok(f32::from(input.arbitrary::<i16>()?) / 64.0) } else { f32::arbitrary(input) }
}

fn found(input: &mut Unstructured<'_>) -> Result<Found> {
    let coordinates = |input: &mut Unstructured<'_>| -> Result<[f32; 4]> {
        Ok([coordinate(input)?, coordinate(input)?, coordinate(input)?, coordinate(input)?])
    };
    let rectangle = coordinates(input)?.map(f64::from);
    let rotated = if input.arbitrary()? {
        let [x, y, width, height] = coordinates(input)?;
        Some(Rotated { x, y, width, height, angle: coordinate(input)? })
    } else {
        None
    };
    let mask = if input.arbitrary()? {
        let (width, height) = (input.int_in_range(0..=20)?, input.int_in_range(0..=20)?);
        // A mask from a meta has as many values as its size says.
        let values = input.bytes(width * height)?.to_vec();
        Some(Mask { width, height, values })
    } else {
        None
    };
    let count = *input.choose(&[0, 1, 17])?;
    let keypoints = (0..count).map(|_| Ok([coordinate(input)?, coordinate(input)?, coordinate(input)?]));
    let keypoints = keypoints.collect::<Result<_>>()?;
    Ok(Found {
        label: input.arbitrary::<&str>()?.to_owned(),
        class_id: input.arbitrary()?,
        confidence: input.arbitrary()?,
        rectangle,
        details: Details { keypoints, rotated, mask },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::path::Path;

    use super::*;

    /// Returns the files in a folder.
    fn files(folder: &Path) -> Vec<std::path::PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn inputs_that_once_failed_pass() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz_regressions");
        let mut count = 0;
        for folder in files(&root).iter().filter(|path| path.is_dir()) {
            let name = folder.file_name().unwrap().to_str().unwrap();
            for file in files(folder) {
                println!("{}", file.display());
                run(name, &std::fs::read(&file).unwrap());
                count += 1;
            }
        }
        assert!(count > 0);
    }

    #[test]
    fn every_target_has_a_program() {
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
        let names = files(&programs)
            .iter()
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect::<Vec<_>>();
        let mut targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        targets.sort_unstable();
        assert_eq!(names, targets);
        let manifest = std::fs::read_to_string(programs.join("../Cargo.toml")).unwrap();
        for name in targets {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        }
    }
}
