// SPDX-License-Identifier: MIT OR Apache-2.0
//! Thumbnails of the best frames of events: which ones, how large, and made of saved pictures or of the media files.
//!
//! Media files are read by several threads. Files on servers are not fetched for thumbnails.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use parking_lot::Mutex;

use super::super::keyframes::{KeyframeSettings, Keyframes};
use super::super::pictures::jpeg;
use super::data::{Page, PageEvent, PageFile};
use crate::av::{Interrupt, Keyframe};
use crate::path::{is_http, path_of};
use crate::record::modified_ns;

/// Most thumbnails where their number is not set.
const DEFAULT_COUNT: usize = 1000;
/// Bytes in base 64 of all thumbnails where their number is not set.
const DEFAULT_BYTES: usize = 3_500_000;
/// Longest sides in pixels, each with the most thumbnails of that size: up to 100 thumbnails have 320 pixels.
const SIDES: [(u32, usize); 4] = [(320, 100), (240, 250), (160, 500), (112, usize::MAX)];
/// Quality of JPEG, of 100.
const QUALITY: u8 = 60;
/// Frames that are read behind the position of a seek: more than are between two keyframes of a usual recording.
const MAX_FRAMES: usize = 600;
/// Longest time for a frame. What a damaged file or a slow storage costs more is not worth a thumbnail.
const MAX_TIME: Duration = Duration::from_secs(20);
/// The time is compared with the limit this often.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Times that are closer are the same: pictures are named by milliseconds.
const SAME_TIME_NS: u64 = 1_000_000;

/// Frames of one file to make thumbnails of.
struct Job {
    /// Number in the page.
    file: usize,
    /// Times of the frames; `None` for a frame without one.
    times: Vec<Option<i64>>,
}

/// Adds thumbnails to events; returns reasons why files have none.
pub(super) fn add(page: &mut Page, count: Option<usize>) -> Vec<String> {
    let jobs = select(page, count.unwrap_or(DEFAULT_COUNT));
    let all: usize = jobs.iter().map(|job| job.times.len()).sum();
    let side = SIDES.iter().find(|(_, most)| all <= *most).map_or(SIDES[0].0, |(side, _)| *side);
    let mut reasons = Vec::new();
    let mut left = if count.is_some() { usize::MAX } else { DEFAULT_BYTES };
    let made = make_all(page, &jobs, side);
    for (job, made) in jobs.iter().zip(made) {
        let file = &mut page.files[job.file];
        reasons.extend(made.reason.map(|reason| format!("{}: {reason}", file.name)));
        let mut numbers = HashMap::new();
        for (time, jpeg) in made.pictures {
            let text = gst::glib::base64_encode(&jpeg);
            if let Some(rest) = left.checked_sub(text.len()) {
                left = rest;
                numbers.insert(time, page.thumbnails.len());
                page.thumbnails.push(text.into());
            }
        }
        // Events of several classes may have one best frame.
        for event in &mut file.events {
            event.thumbnail = numbers.get(&event.stretch.best.pts_ns).copied();
        }
    }
    reasons
}

/// Selects up to `count` frames: the best one of each file, then the second ones, and so on. The best one of each class in a file
/// comes before others of the class.
fn select(page: &Page, count: usize) -> Vec<Job> {
    let mut ranked: Vec<(Job, _)> = (0..page.files.len())
        .map(|file| (Job { file, times: Vec::new() }, ranked_times(&page.files[file]).into_iter()))
        .collect();
    let mut left = count;
    let mut jobs = Vec::new();
    while !ranked.is_empty() {
        let (mut more, mut done) = (Vec::new(), Vec::new());
        for (mut job, mut times) in ranked {
            match times.next().filter(|_| left > 0) {
                Some(time) => {
                    left -= 1;
                    job.times.push(time);
                    more.push((job, times));
                }
                None => done.push(job),
            }
        }
        jobs.append(&mut done);
        ranked = more;
    }
    jobs.retain(|job| !job.times.is_empty());
    jobs.sort_by_key(|job| job.file);
    jobs
}

/// Returns the times of the best frames of a file's events, each once.
fn ranked_times(file: &PageFile) -> Vec<Option<i64>> {
    let mut order: Vec<&PageEvent> = file.events.iter().collect();
    let confidence = |event: &PageEvent| event.stretch.best.confidence.unwrap_or(0.0);
    order.sort_by(|one, other| confidence(other).total_cmp(&confidence(one)));
    let mut classes = HashSet::new();
    let (mut first, others): (Vec<_>, Vec<_>) = order.into_iter().partition(|event| classes.insert(event.class));
    first.extend(others);
    let mut times = HashSet::new();
    first.into_iter().map(|event| event.stretch.best.pts_ns).filter(|time| times.insert(*time)).collect()
}

/// The thumbnails that were made of a file.
#[derive(Default)]
struct Made {
    /// JPEG pictures by the time of their frame.
    pictures: Vec<(Option<i64>, Vec<u8>)>,
    /// Why one could not be made.
    reason: Option<String>,
}

/// Makes the thumbnails of all jobs, in their order.
fn make_all(page: &Page, jobs: &[Job], side: u32) -> Vec<Made> {
    let made: Vec<Mutex<Made>> = jobs.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(jobs.len());
    let work = |limit: &TimeLimit| {
        while let Some((job, made)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(index).zip(made.get(index))
        } {
            let result = make(&page.files[job.file], &job.times, side, limit);
            *made.lock() = result;
        }
    };
    let limits: Vec<TimeLimit> = (0..threads.max(1)).map(|_| TimeLimit::default()).collect();
    std::thread::scope(|scope| {
        let thread = |name: &str| std::thread::Builder::new().name(format!("vx{name}"));
        let (work, limits) = (&work, &limits);
        let (end, ended) = crossbeam_channel::bounded::<()>(0);
        // Without it a read that hangs is not interrupted; without the others this thread does their work.
        let _ = thread("limit").spawn_scoped(scope, move || {
            while ended.recv_timeout(CHECK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                limits.iter().for_each(TimeLimit::check);
            }
        });
        let others: Vec<_> = limits[1..]
            .iter()
            .filter_map(|limit| thread("thumbnail").spawn_scoped(scope, move || work(limit)).ok())
            .collect();
        work(&limits[0]);
        for other in others {
            if let Err(panic) = other.join() {
                std::panic::resume_unwind(panic);
            }
        }
        drop(end);
    });
    made.into_iter().map(Mutex::into_inner).collect()
}

/// Limits the time that one thread spends on a frame, also where a read does not return.
#[derive(Default)]
struct TimeLimit(Mutex<Option<(Instant, Interrupt)>>);

impl TimeLimit {
    /// Does something for a frame that `interrupt` ends after [`MAX_TIME`].
    fn run<T>(&self, make: impl FnOnce(&Interrupt) -> Result<T, String>) -> Result<T, String> {
        let interrupt = Interrupt::default();
        *self.0.lock() = Some((Instant::now() + MAX_TIME, interrupt.clone()));
        let made = make(&interrupt);
        *self.0.lock() = None;
        if made.is_err() && interrupt.is_set() {
            return Err(format!("finding the frame takes more than {} s", MAX_TIME.as_secs()));
        }
        made
    }

    /// Interrupts the work on a frame whose time is over.
    fn check(&self) {
        if let Some((deadline, interrupt)) = &*self.0.lock()
            && Instant::now() > *deadline
        {
            interrupt.set();
        }
    }
}

/// Makes the thumbnails of a file.
fn make(file: &PageFile, times: &[Option<i64>], side: u32, limit: &TimeLimit) -> Made {
    let mut made = Made::default();
    let mut source = None;
    for time in times {
        let Some(event) = file.events.iter().find(|event| event.stretch.best.pts_ns == *time) else { continue };
        let size = scaled(event.stretch.best.frame_size, side);
        let jpeg = limit.run(|interrupt| match saved(file, event) {
            Some(picture) => first_frame(&picture, size, interrupt),
            None => Source::get(&mut source, file).and_then(|source| source.frame(*time, size, interrupt)),
        });
        match jpeg {
            Ok(jpeg) => made.pictures.push((*time, jpeg)),
            Err(reason) => {
                made.reason.get_or_insert(reason);
            }
        }
    }
    made
}

fn saved(file: &PageFile, event: &PageEvent) -> Option<PathBuf> {
    Some(file.picture_folder.as_ref()?.join(event.picture.as_ref()?))
}

/// Returns the size of a frame whose longer side is scaled down to `side` pixels.
fn scaled((width, height): (u32, u32), side: u32) -> (u32, u32) {
    let longest = width.max(height).max(1);
    let scale = |length: u32| {
        let scaled = u64::from(length) * u64::from(side.min(longest)) / u64::from(longest);
        u32::try_from(scaled).unwrap_or(side).max(1)
    };
    (scale(width), scale(height))
}

fn first_frame(path: &Path, size: (u32, u32), interrupt: &Interrupt) -> Result<Vec<u8>, String> {
    let frames = open(path, size, None, interrupt)?.take(1);
    frames.last().ok_or("it has no frame")?.map_err(|error| error.to_string()).and_then(|frame| jpeg(&frame))
}

fn open(path: &Path, size: (u32, u32), max_gap: Option<Duration>, interrupt: &Interrupt) -> Result<Keyframes, String> {
    let mut settings = KeyframeSettings {
        format: Some("rgb24".to_owned()),
        size: Some(size),
        threads: Some(1),
        interrupt: interrupt.clone(),
        ..Default::default()
    };
    settings.sampling.max_gap = max_gap;
    Keyframes::open(path, &settings).map_err(|error| error.to_string())
}

fn jpeg(keyframe: &Keyframe) -> Result<Vec<u8>, String> {
    let frame = &keyframe.frame;
    let (width, height) = (frame.width(), frame.height());
    let bytes = frame.plane(0).ok_or("the frame has no pixels")?;
    let pixels = jpeg::without_padding(bytes, frame.stride(0), width * 3, height);
    jpeg::encode(&pixels, (width, height), QUALITY)
}

/// A media file from which thumbnails are made.
struct Source {
    path: PathBuf,
}

impl Source {
    /// Returns the source of a file, which is checked once.
    fn get<'a>(source: &'a mut Option<Result<Self, String>>, file: &PageFile) -> Result<&'a Self, String> {
        source.get_or_insert_with(|| Self::check(file)).as_ref().map_err(Clone::clone)
    }

    fn check(file: &PageFile) -> Result<Self, String> {
        if is_http(&file.name) {
            return Err("files on servers are not fetched for thumbnails".to_owned());
        }
        let path = path_of(&file.name).into_owned();
        let metadata = std::fs::metadata(&path).map_err(|error| error.to_string())?;
        if !metadata.is_file() {
            return Err("it is not a file".to_owned());
        }
        if file.read.is_some_and(|read| read != (metadata.len(), modified_ns(&metadata))) {
            return Err("the file has changed since it was read".to_owned());
        }
        Ok(Self { path })
    }

    /// Returns the frame at a time of the container, or the first one.
    fn frame(&self, time: Option<i64>, size: (u32, u32), interrupt: &Interrupt) -> Result<Vec<u8>, String> {
        let Some(time_ns) = time else { return first_frame(&self.path, size, interrupt) };
        // As a keyframe where the seek ends; among all frames behind that, if it is not a keyframe; and from the start, because not
        // all containers can be sought in exactly.
        for (max_gap, seeks) in [(None, true), (Some(Duration::from_nanos(1)), true), (None, false)] {
            let mut frames = open(&self.path, size, max_gap, interrupt)?;
            if seeks && frames.seek(time_ns).is_err() {
                continue;
            }
            for frame in frames.take(MAX_FRAMES) {
                let frame = frame.map_err(|error| error.to_string())?;
                if interrupt.is_set() {
                    return Err("interrupted".to_owned());
                }
                if frame.pts_ns.is_some_and(|pts_ns| pts_ns.abs_diff(time_ns) < SAME_TIME_NS) {
                    return jpeg(&frame);
                }
                if frame.pts_ns.is_some_and(|pts_ns| pts_ns > time_ns) {
                    break;
                }
            }
        }
        Err("the frame is not found".to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/media/scenes.mp4");

    #[test]
    fn the_time_for_a_frame_ends_a_read_that_does_not_return() {
        let limit = TimeLimit::default();
        let started = Instant::now();
        let ended = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                limit.run(|interrupt| {
                    while !interrupt.is_set() {
                        std::thread::yield_now();
                    }
                    // As a file that was being read.
                    Source { path: CLIP.into() }.frame(Some(0), (64, 48), interrupt)
                })
            });
            // The deadline of a read that began long ago.
            while !reader.is_finished() {
                if let Some((deadline, _)) = &mut *limit.0.lock() {
                    *deadline = started;
                }
                limit.check();
            }
            reader.join().unwrap()
        });
        assert!(ended.unwrap_err().contains("more than 20 s"));
        assert!(limit.0.lock().is_none());
    }

    #[test]
    fn sizes_keep_the_shape_and_are_not_enlarged() {
        assert_eq!(scaled((1920, 1080), 320), (320, 180));
        assert_eq!(scaled((1080, 1920), 320), (180, 320));
        assert_eq!(scaled((64, 48), 320), (64, 48));
        assert_eq!(scaled((60_000, 1), 112), (112, 1));
        assert_eq!(scaled((0, 0), 112), (1, 1));
    }

    #[test]
    fn keyframes_and_frames_between_them_are_found_by_their_time() {
        let source = Source { path: CLIP.into() };
        let interrupt = Interrupt::default();
        let frame = |seconds: f64| source.frame(Some((seconds * 1e9) as i64), (64, 48), &interrupt);
        let (one, other, between) = (frame(1.0).unwrap(), frame(15.0).unwrap(), frame(1.2).unwrap());
        assert!(one.starts_with(&[0xff, 0xd8, 0xff]) && one != other && between != one);
        assert_eq!(source.frame(None, (64, 48), &interrupt).unwrap(), frame(0.0).unwrap());
        assert!(frame(99.0).unwrap_err().contains("not found"));
    }

    /// A GIF of 2x2 pixels, of which all frames but the first show one pixel and so are not keyframes; 40 ms each.
    fn gif(frames: usize) -> Vec<u8> {
        let frame = |side: u8, data: &[u8]| {
            let control = b"\x21\xf9\x04\0\x04\0\0\0";
            [control, &b"\x2c\0\0\0\0"[..], &[side, 0, side, 0, 0, 2, data.len() as u8], data, b"\0"].concat()
        };
        // LZW codes of three bits: clear (4) before each pixel of colour 0, then the end (5).
        let (whole, pixel) = (frame(2, &[0x04, 0x41, 0x10, 0x05]), frame(1, &[0x44, 0x01]));
        let head = b"GIF89a\x02\0\x02\0\x80\0\0\0\0\0\xff\xff\xff";
        [head, &whole[..], &pixel.repeat(frames - 1), b"\x3b"].concat()
    }

    #[test]
    fn a_frame_behind_many_others_is_not_found() {
        let file = tempfile::Builder::new().suffix(".gif").tempfile().unwrap();
        std::fs::write(file.path(), gif(MAX_FRAMES + 10)).unwrap();
        let source = Source { path: file.path().to_owned() };
        let frame = |number: usize| source.frame(Some(number as i64 * 40_000_000), (2, 2), &Interrupt::default());
        assert!(frame(MAX_FRAMES - 1).unwrap().starts_with(&[0xff, 0xd8, 0xff]));
        assert!(frame(MAX_FRAMES).unwrap_err().contains("not found"));
    }
}
