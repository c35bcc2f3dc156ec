// SPDX-License-Identifier: MIT OR Apache-2.0
//! Thumbnails of the best frames of events: which ones, how large, and made of saved pictures or of the media files.
//!
//! Media files are read by several threads. Files on servers are not fetched for thumbnails.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::keyframes::{KeyframeSettings, Keyframes};
use super::data::{Page, PageEvent, PageFile};
use crate::av::Keyframe;
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
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((job, made)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(index).zip(made.get(index))
                } {
                    let result = make(&page.files[job.file], &job.times, side);
                    *made.lock() = result;
                }
            });
        }
    });
    made.into_iter().map(Mutex::into_inner).collect()
}

/// Makes the thumbnails of a file.
fn make(file: &PageFile, times: &[Option<i64>], side: u32) -> Made {
    let mut made = Made::default();
    let mut source = None;
    for time in times {
        let Some(event) = file.events.iter().find(|event| event.stretch.best.pts_ns == *time) else { continue };
        let size = scaled(event.stretch.best.frame_size, side);
        let jpeg = match saved(file, event) {
            Some(picture) => first_frame(&picture, size),
            None => Source::get(&mut source, file).and_then(|source| source.frame(*time, size)),
        };
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

fn first_frame(path: &Path, size: (u32, u32)) -> Result<Vec<u8>, String> {
    let frames = open(path, size, None)?.take(1);
    frames.last().ok_or("it has no frame")?.map_err(|error| error.to_string()).and_then(|frame| jpeg(&frame))
}

fn open(path: &Path, size: (u32, u32), max_gap: Option<Duration>) -> Result<Keyframes, String> {
    let mut settings =
        KeyframeSettings { format: Some("rgb24".to_owned()), size: Some(size), threads: Some(1), ..Default::default() };
    settings.sampling.max_gap = max_gap;
    Keyframes::open(path, &settings).map_err(|error| error.to_string())
}

fn jpeg(keyframe: &Keyframe) -> Result<Vec<u8>, String> {
    let frame = &keyframe.frame;
    let (width, height) = (frame.width(), frame.height());
    let (Ok(width_px), Ok(height_px), Some(pixels)) = (u16::try_from(width), u16::try_from(height), frame.plane(0))
    else {
        return Err("the frame is too large".to_owned());
    };
    let rows = pixels.chunks(frame.stride(0).max(1)).take(height);
    let pixels: Vec<u8> = rows.flat_map(|row| &row[..(width * 3).min(row.len())]).copied().collect();
    let mut jpeg = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut jpeg, QUALITY);
    encoder.encode(&pixels, width_px, height_px, jpeg_encoder::ColorType::Rgb).map_err(|error| error.to_string())?;
    Ok(jpeg)
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
    fn frame(&self, time: Option<i64>, size: (u32, u32)) -> Result<Vec<u8>, String> {
        let Some(time_ns) = time else { return first_frame(&self.path, size) };
        let started = Instant::now();
        // As a keyframe where the seek ends; among all frames behind that, if it is not a keyframe; and from the start, because not
        // all containers can be sought in exactly.
        for (max_gap, seeks) in [(None, true), (Some(Duration::from_nanos(1)), true), (None, false)] {
            let mut frames = open(&self.path, size, max_gap)?;
            if seeks && frames.seek(time_ns).is_err() {
                continue;
            }
            for frame in frames.take(MAX_FRAMES) {
                let frame = frame.map_err(|error| error.to_string())?;
                if started.elapsed() > MAX_TIME {
                    return Err(format!("finding the frame takes more than {} s", MAX_TIME.as_secs()));
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
        let frame = |seconds: f64| source.frame(Some((seconds * 1e9) as i64), (64, 48));
        let (one, other, between) = (frame(1.0).unwrap(), frame(15.0).unwrap(), frame(1.2).unwrap());
        assert!(one.starts_with(&[0xff, 0xd8, 0xff]) && one != other && between != one);
        assert_eq!(source.frame(None, (64, 48)).unwrap(), frame(0.0).unwrap());
        assert!(frame(99.0).unwrap_err().contains("not found"));
    }
}
