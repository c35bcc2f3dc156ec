// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data of a report: what the page's script reads, as JSON.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::super::events::{Stretch, default_gap, stretches};
use super::super::pictures::names;
use super::super::results::FileResults;
use super::{ReportCounts, ReportSettings};
use crate::path::{is_http, path_of, uri_of};
use crate::record::{Conditions, Status, Summary};

/// Bars of a histogram of confidences: 0 to 1 in steps of 0.05.
const BARS: usize = 20;

/// All data of a page.
#[derive(Default, serde::Serialize)]
pub(super) struct Page {
    /// Version of vx.
    version: &'static str,
    /// When the page was made, in milliseconds since 1970.
    made_ms: u64,
    /// Names of the outputs that it reports on.
    sources: Vec<String>,
    /// Model and settings of the runs, where they are known.
    runs: Vec<Conditions>,
    classes: Vec<Class>,
    pub files: Vec<PageFile>,
    /// JPEG pictures in base 64.
    pub thumbnails: Vec<String>,
    #[serde(skip)]
    class_numbers: HashMap<String, usize>,
}

/// A class.
#[derive(serde::Serialize)]
struct Class {
    name: String,
    /// Detections on all frames.
    detections: u64,
    /// Detections by confidence.
    confidences: [u64; BARS],
}

/// A file.
#[derive(serde::Serialize)]
pub(super) struct PageFile {
    pub name: String,
    /// URI of the file, if it is there.
    link: Option<String>,
    /// `ok`, `damaged` or `failed`; null where there is no summary.
    status: Option<Status>,
    /// In seconds, according to the container.
    duration: Option<f64>,
    /// Frames that were analysed.
    frames: u64,
    detections: u64,
    /// The gap within events in seconds.
    gap: Option<f64>,
    /// URI of the folder of its saved pictures.
    pictures: Option<String>,
    /// Why it failed, or is damaged.
    problems: Vec<String>,
    warnings: Vec<String>,
    pub events: Vec<PageEvent>,
    /// Length and time of the file when it was read.
    #[serde(skip)]
    pub read: Option<(u64, Option<i64>)>,
    #[serde(skip)]
    pub picture_folder: Option<PathBuf>,
}

/// An event; in JSON a list of the values in this order, since there may be hundreds of thousands.
pub(super) struct PageEvent {
    /// Number in `classes`.
    pub class: usize,
    pub stretch: Stretch,
    /// Number in `thumbnails`.
    pub thumbnail: Option<usize>,
    /// Name of the saved picture of the best frame.
    pub picture: Option<String>,
}

impl Serialize for PageEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Stretch { start_ns, end_ns, frames, most_at_once, best, .. } = &self.stretch;
        let seconds = |time: Option<i64>| time.map(|time| rounded(time as f64 / 1e9, 1e3));
        let mut list = serializer.serialize_seq(None)?;
        list.serialize_element(&self.class)?;
        list.serialize_element(&seconds(*start_ns))?;
        list.serialize_element(&seconds(*end_ns))?;
        list.serialize_element(frames)?;
        list.serialize_element(most_at_once)?;
        list.serialize_element(&best.confidence.map(|confidence| rounded(confidence, 1e3)))?;
        list.serialize_element(&seconds(best.pts_ns))?;
        list.serialize_element(&self.picture)?;
        list.serialize_element(&self.thumbnail)?;
        if self.thumbnail.is_some() {
            // The box in percent of the frame.
            let (width, height) = best.frame_size;
            let share = |pixels: f64, of: u32| rounded(pixels / f64::from(of.max(1)) * 100.0, 10.0);
            let [x, y, w, h] = best.rectangle;
            list.serialize_element(&[share(x, width), share(y, height), share(w, width), share(h, height)])?;
        }
        list.end()
    }
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

impl Page {
    /// Adds a file.
    pub fn add(&mut self, file: &FileResults, settings: &ReportSettings) {
        let mut detections = 0;
        let mut lost = 0;
        for frame in &file.frames {
            lost += frame.lost;
            for found in &frame.detections {
                detections += 1;
                let number = self.class_number(&found.label);
                let class = &mut self.classes[number];
                class.detections += 1;
                if let Some(confidence) = found.confidence {
                    // Out of range or not a number ends up in the first or the last bar.
                    class.confidences[((confidence * BARS as f64) as usize).min(BARS - 1)] += 1;
                }
            }
        }
        let saved = settings.pictures.as_deref().map(|folder| Saved::find(folder, &file.file)).unwrap_or_default();
        let event = |stretch: Stretch| PageEvent {
            class: self.class_numbers.get(&stretch.label).copied().unwrap_or_default(),
            thumbnail: None,
            picture: saved.picture(stretch.best.pts_ns),
            stretch,
        };
        let events = stretches(file, settings.gap).into_iter().map(event).collect();
        let summary = file.summary.as_ref();
        let mut problems = summary.map(problems).unwrap_or_default();
        if lost > 0 {
            problems.push(format!("{lost} detections were dropped by an element behind the detector"));
        }
        self.files.push(PageFile {
            name: file.file.clone(),
            link: link(&file.file),
            status: summary.map(|summary| summary.status),
            duration: summary.and_then(|summary| summary.duration_seconds).map(|seconds| rounded(seconds, 1e3)),
            frames: summary
                .map_or(file.frames.len() as u64, |summary| summary.keyframes.saturating_add(summary.frames_between)),
            detections,
            gap: settings.gap.or_else(|| default_gap(file)).map(|gap| rounded(gap.as_secs_f64(), 1e3)),
            pictures: saved.names.iter().next().map(|_| uri_of(&absolute(&saved.folder))),
            problems,
            warnings: summary.map(warnings).unwrap_or_default(),
            events,
            read: summary.and_then(|summary| Some((summary.bytes?, summary.modified_ns))),
            picture_folder: Some(saved.folder),
        });
    }

    /// Adds where the results come from.
    pub fn describe(&mut self, found: &[PathBuf], conditions: &[Conditions]) {
        self.version = env!("CARGO_PKG_VERSION");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.made_ms = now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        self.sources = found.iter().map(|path| path.display().to_string()).collect();
        self.runs = conditions.to_vec();
    }

    /// Counts what is in it.
    pub fn counts(&self) -> ReportCounts {
        let with = |status: Status| self.files.iter().filter(|file| file.status == Some(status)).count();
        ReportCounts {
            files: self.files.len(),
            failed: with(Status::Failed),
            damaged: with(Status::Damaged),
            events: self.files.iter().map(|file| file.events.len()).sum(),
            thumbnails: self.thumbnails.len(),
            ..ReportCounts::default()
        }
    }

    fn class_number(&mut self, label: &str) -> usize {
        if let Some(number) = self.class_numbers.get(label) {
            return *number;
        }
        let number = self.classes.len();
        self.classes.push(Class { name: label.to_owned(), detections: 0, confidences: [0; BARS] });
        self.class_numbers.insert(label.to_owned(), number);
        number
    }
}

fn problems(summary: &Summary) -> Vec<String> {
    let error = summary.error.iter().map(|error| error.message.clone());
    error.chain(summary.problems.iter().cloned()).collect()
}

/// Returns the warnings of a file that say more than its problems do.
fn warnings(summary: &Summary) -> Vec<String> {
    let problems = problems(summary);
    let name = format!("{}: ", absolute(&path_of(&summary.file)).display());
    let fallback = summary.fallback.iter().map(|reason| format!("another execution provider was used: {reason}"));
    let others = summary.warnings.iter().map(|warning| warning.strip_prefix(&name).unwrap_or(warning).to_owned());
    let is_new = |warning: &String| !problems.iter().any(|problem| warning.contains(problem.as_str()));
    fallback.chain(others).filter(is_new).collect()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns the URI of a file that exists, or of a URL.
fn link(name: &str) -> Option<String> {
    if is_http(name) {
        return Some(name.to_owned());
    }
    let path = absolute(&path_of(name));
    path.is_file().then(|| uri_of(&path))
}

/// The saved pictures of a file.
#[derive(Default)]
struct Saved {
    folder: PathBuf,
    /// Names by the part that stands for the time.
    names: HashMap<String, String>,
}

impl Saved {
    fn find(pictures: &Path, file: &str) -> Self {
        let folder = pictures.join(names::folder(file));
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| names::is_picture(name))
            .collect();
        // Of several frames with one time, the first counts.
        names.sort_by(|one, other| other.cmp(one));
        let names = names.into_iter().map(|name| (time_of(&name).to_owned(), name)).collect();
        Self { folder, names }
    }

    /// Returns the name of the picture of the frame at this time.
    fn picture(&self, pts_ns: Option<i64>) -> Option<String> {
        self.names.get(time_of(&names::picture(0, pts_ns))).cloned()
    }
}

/// Returns what follows the number in the name of a picture; nothing for frames without times.
fn time_of(name: &str) -> &str {
    name.split_once('-').map_or("", |(_, time)| time)
}
