// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events: the stretches of a file in which a class was seen, made of the detections on its frames. This file owns the rule.
//!
//! Two frames with the class belong to one stretch if they are at most the gap apart. The default gap is 2.5 times the mean time
//! between the file's frames, so that one frame without the class does not end a stretch, and two do. A stretch begins at its first
//! frame with the class and ends at its last: what lies beyond is not known before the frame where the detector looked next.
//!
//! Any thread.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Error;
use super::results::{FileResults, Results};
use super::settings::Output;
use super::tables::events::EventTable;
use crate::record::{Detection, Frame, Status};

/// The default gap, as a multiple of the mean time between a file's frames. Not a whole number, because times are not exact.
const DEFAULT_GAP: f64 = 2.5;

/// An event: a stretch of a file in which a class was seen.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stretch {
    /// Path or URL as in the records; empty where they do not name one.
    pub file: String,
    /// Name of the class.
    pub label: String,
    /// Number of the class in the model, where it is known.
    pub class_id: Option<i32>,
    /// Time of the first frame with the class in nanoseconds, on the container's clock; `None` if its frames have no times.
    pub start_ns: Option<i64>,
    /// Time of the last frame with the class.
    pub end_ns: Option<i64>,
    /// Frames with the class; frames without it in between do not count.
    pub frames: u64,
    /// Most objects of the class on one frame.
    pub most_at_once: u64,
    /// The most confident detection.
    pub best: Best,
}

/// The most confident detection of a stretch.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Best {
    /// 0 to 1; `None` where detections have no confidence.
    pub confidence: Option<f64>,
    /// Time of its frame.
    pub pts_ns: Option<i64>,
    /// x, y, width and height in pixels of the frame.
    pub rectangle: [f64; 4],
    /// Width and height of the frame in pixels.
    pub frame_size: (u32, u32),
}

/// Returns the gap that is used for a file where none is set; `None` if the file has fewer than two frames with times.
#[must_use]
pub fn default_gap(file: &FileResults) -> Option<Duration> {
    let gap = file.frame_distance?.as_secs_f64() * DEFAULT_GAP;
    Duration::try_from_secs_f64(gap).ok()
}

/// Returns the stretches of a file, by their start. `gap` is the longest time between two frames with a class that belong to one
/// stretch; `None`: the [default](default_gap).
#[must_use]
pub fn stretches(file: &FileResults, gap: Option<Duration>) -> Vec<Stretch> {
    let gap = gap.or_else(|| default_gap(file)).unwrap_or_default();
    let gap_ns = i64::try_from(gap.as_nanos()).unwrap_or(i64::MAX);
    let mut all: Vec<Stretch> = Vec::new();
    // For each class the index of its last stretch, and the number of the last frame in that.
    let mut latest: HashMap<Class<'_>, (usize, usize)> = HashMap::new();
    for (number, frame) in file.frames.iter().enumerate() {
        for (class, objects) in by_class(frame) {
            let continued = latest.get(&class).filter(|(index, last)| match (all[*index].end_ns, frame.pts_ns) {
                // Time that runs backwards ends a stretch.
                (Some(end), Some(pts_ns)) => (0..=gap_ns).contains(&pts_ns.saturating_sub(end)),
                // Without times, frames in a row belong together.
                (None, None) => last + 1 == number,
                _ => false,
            });
            let index = match continued {
                Some((index, _)) => {
                    all[*index].add(frame, &objects);
                    *index
                }
                None => {
                    all.push(Stretch::new(&file.file, frame, class, &objects));
                    all.len() - 1
                }
            };
            latest.insert(class, (index, number));
        }
    }
    let order = |stretch: &Stretch| (stretch.start_ns, stretch.label.clone(), stretch.class_id);
    all.sort_by_cached_key(order);
    all
}

/// Name and number.
type Class<'a> = (&'a str, Option<i32>);

/// The objects of a class on a frame.
struct Objects<'a> {
    count: u64,
    best: &'a Detection,
}

fn by_class(frame: &Frame) -> Vec<(Class<'_>, Objects<'_>)> {
    let mut classes: Vec<(Class<'_>, Objects<'_>)> = Vec::new();
    for found in &frame.detections {
        let class = (&*found.label, found.class_id);
        match classes.iter_mut().find(|(known, _)| *known == class) {
            Some((_, objects)) => {
                objects.count += 1;
                if found.confidence > objects.best.confidence {
                    objects.best = found;
                }
            }
            None => classes.push((class, Objects { count: 1, best: found })),
        }
    }
    classes
}

impl Stretch {
    fn new(file: &str, frame: &Frame, (label, class_id): Class<'_>, objects: &Objects<'_>) -> Self {
        Self {
            file: file.to_owned(),
            label: label.to_owned(),
            class_id,
            start_ns: frame.pts_ns,
            end_ns: frame.pts_ns,
            frames: 1,
            most_at_once: objects.count,
            best: Best::new(frame, objects.best),
        }
    }

    fn add(&mut self, frame: &Frame, objects: &Objects<'_>) {
        self.end_ns = frame.pts_ns;
        self.frames += 1;
        self.most_at_once = self.most_at_once.max(objects.count);
        if objects.best.confidence > self.best.confidence {
            self.best = Best::new(frame, objects.best);
        }
    }

    /// Returns the time from the first to the last frame in seconds: 0 for one frame, or without times.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        let between = self.start_ns.zip(self.end_ns).map(|(start, end)| end.saturating_sub(start));
        between.unwrap_or(0) as f64 / 1e9
    }
}

impl Best {
    fn new(frame: &Frame, found: &Detection) -> Self {
        Self {
            confidence: found.confidence,
            pts_ns: frame.pts_ns,
            rectangle: found.rectangle,
            frame_size: (frame.width, frame.height),
        }
    }
}

/// What to make events of, and where to write them.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct EventSettings {
    /// Outputs of runs, as [`Results::open`] takes them.
    pub found: Vec<PathBuf>,
    /// Longest time between two frames with a class that belong to one stretch; `None`: the [default](default_gap) of each file.
    pub gap: Option<Duration>,
    /// Where the events go; the extension of a file selects JSON lines, CSV or Parquet.
    pub output: Output,
    /// Replaces an output that exists.
    pub overwrite: bool,
}

/// What was read and written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventCounts {
    /// Events.
    pub events: u64,
    /// Files in the results.
    pub files: u64,
    /// Files that could not be read, or not to their end.
    pub failed: u64,
    /// Files with missing or incomplete frames.
    pub damaged: u64,
    /// Detections that an element behind the detector dropped.
    pub lost: u64,
}

/// Writes the events of results.
///
/// # Errors
/// The results cannot be read, are damaged or not complete; the output exists or cannot be written. An output file is then not
/// changed.
pub fn write_events(settings: EventSettings) -> Result<EventCounts, Error> {
    let mut table = EventTable::open(settings.output, settings.overwrite)?;
    let mut counts = EventCounts::default();
    for file in Results::open(settings.found)? {
        let file = file?;
        counts.files += 1;
        match file.summary.as_ref().map(|summary| summary.status) {
            Some(Status::Failed) => counts.failed += 1,
            Some(Status::Damaged) => counts.damaged += 1,
            Some(Status::Ok) | None => {}
        }
        counts.lost += file.frames.iter().map(|frame| frame.lost as u64).sum::<u64>();
        let stretches = stretches(&file, settings.gap);
        counts.events += stretches.len() as u64;
        table.add(&stretches)?;
    }
    table.finish()?;
    Ok(counts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    /// Creates the results of frames at these seconds, each with the labels of its detections.
    fn file(frames: &[(Option<f64>, &[&str])], distance: f64) -> FileResults {
        let frame = |(seconds, labels): &(Option<f64>, &[&str])| {
            let detections = labels.iter().enumerate().map(|(index, label)| Detection {
                label: (*label).to_owned(),
                class_id: Some(0),
                confidence: Some(0.5 + 0.01 * seconds.unwrap_or(0.0) - 0.1 * index as f64),
                rectangle: [0.0; 4],
                keypoints: Vec::new(),
                rotated_box: None,
                mask: None,
            });
            let pts_ns = seconds.map(|seconds| (seconds * 1e9) as i64);
            Frame { detections: detections.collect(), ..Frame::new(None, pts_ns, 64, 48) }
        };
        FileResults {
            file: "a".to_owned(),
            frames: frames.iter().map(frame).collect(),
            frame_distance: Some(Duration::from_secs_f64(distance)),
            summary: None,
        }
    }

    /// Returns label, start and end in seconds, frames and most at once.
    fn found(file: &FileResults, gap: Option<f64>) -> Vec<(String, f64, f64, u64, u64)> {
        let seconds = |time: Option<i64>| time.map_or(f64::NAN, |time| time as f64 / 1e9);
        let all = stretches(file, gap.map(Duration::from_secs_f64));
        let row = |one: Stretch| (one.label, seconds(one.start_ns), seconds(one.end_ns), one.frames, one.most_at_once);
        all.into_iter().map(row).collect()
    }

    #[test]
    fn one_frame_without_the_class_does_not_end_a_stretch_and_two_do() {
        let file = file(
            &[
                (Some(0.0), &["person"]),
                (Some(2.0), &[]),
                (Some(4.0), &["person", "person", "dog"]),
                (Some(6.0), &[]),
                (Some(8.0), &[]),
                (Some(10.0), &["person"]),
            ],
            2.0,
        );
        let expected = [("person", 0.0, 4.0, 2, 2), ("dog", 4.0, 4.0, 1, 1), ("person", 10.0, 10.0, 1, 1)];
        assert_eq!(found(&file, None), expected.map(|(a, b, c, d, e)| (a.to_owned(), b, c, d, e)));
        // A set gap is the longest one that still counts.
        assert_eq!(found(&file, Some(3.999)).len(), 4);
        assert_eq!(found(&file, Some(4.0)).len(), 3);
        assert_eq!(found(&file, Some(6.0)).len(), 2);
    }

    #[test]
    fn the_default_follows_from_the_distance_of_the_frames() {
        for distance in [0.5, 2.0, 10.0] {
            let at = |frames: f64| Some(frames * distance);
            let labels: &[&str] = &["person"];
            let file = file(&[(at(0.0), labels), (at(1.01), labels), (at(2.99), labels), (at(6.0), labels)], distance);
            assert_eq!(found(&file, None).len(), 2, "{distance}");
        }
    }

    #[test]
    fn the_best_detection_is_the_most_confident_one() {
        let file = file(&[(Some(0.0), &["person"]), (Some(3.0), &["person"]), (Some(4.0), &[])], 2.0);
        let all = stretches(&file, None);
        assert_eq!((all[0].best.pts_ns, all[0].best.confidence), (Some(3_000_000_000), Some(0.53)));
        assert_eq!(all[0].seconds(), 3.0);
    }

    #[test]
    fn frames_without_times_in_a_row_and_time_that_runs_backwards() {
        let bare = file(&[(None, &["person"]), (None, &["person"]), (None, &[]), (None, &["person"])], 1.0);
        assert_eq!(found(&bare, None).iter().map(|stretch| stretch.3).collect::<Vec<_>>(), [2, 1]);
        let backwards = file(&[(Some(9.0), &["person"]), (Some(1.0), &["person"]), (Some(2.0), &["person"])], 1.0);
        assert_eq!(found(&backwards, None).iter().map(|stretch| stretch.3).collect::<Vec<_>>(), [2, 1]);
    }
}
