//! Tables of detections, each in a file of its own below: what it is called, and how lines become it.
//!
//! A new format is a file here and a line in [`FORMATS`]. Tables get whole files, in the order in which they end, and are put in
//! their place when all are there.

mod coco;
mod csv;
mod parquet;
mod shapes;
mod yolo;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use gstvx::elements::detector::Detector;
use serde::Deserialize;

use crate::files::with_suffix;
use crate::unit::{Unit, is_header, summary_in};

pub type Error = Box<dyn std::error::Error>;

/// All tables.
const FORMATS: [&Format; 4] = [&csv::FORMAT, &parquet::FORMAT, &coco::FORMAT, &yolo::FORMAT];

/// The name of JSON lines, which are no table, and their extensions.
const LINES: (&str, [&str; 2]) = ("jsonl", ["jsonl", "ndjson"]);

/// A kind of table.
pub struct Format {
    /// As `--format` has it.
    pub name: &'static str,
    /// Of files; none for a folder.
    extensions: &'static [&'static str],
    /// Begins a table that is to lie at a path.
    pub begin: fn(&Path) -> Result<Box<dyn Table>, Error>,
    /// Whether a folder is such a table, or part of one, and nothing else.
    pub is_own_folder: fn(&Path) -> bool,
    /// The text of a file's lines, where the table is one that standard output can take as files end.
    pub text: Option<Text>,
    /// The folder within the table in which frames are saved as pictures, where they belong to it.
    pub pictures: Option<&'static str>,
}

/// Makes the text of a file's lines.
pub type Text = fn(&Unit, IsFirst) -> Result<Vec<u8>, Error>;

/// Whether a file is the first in a table, which may need a heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IsFirst(pub bool);

/// A table being written.
pub trait Table {
    /// Adds what a file came to.
    ///
    /// # Errors
    /// What keeps it from being written.
    fn file(&mut self, unit: &Unit) -> Result<(), Error>;

    /// Completes the table and puts it in its place.
    ///
    /// # Errors
    /// What keeps it from being written.
    fn finish(self: Box<Self>) -> Result<(), Error>;
}

/// The form of an output.
#[derive(Clone, Copy)]
pub enum Form {
    /// JSON lines; with the lines about the detector that files begin with, or without.
    Lines {
        with_headers: bool,
    },
    Table(&'static Format),
}

impl Format {
    /// Whether the table is a folder, which may be there before.
    pub fn is_folder(&self) -> bool {
        self.extensions.is_empty()
    }
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Names of all formats, as `--format` takes them.
pub fn names() -> impl Iterator<Item = &'static str> {
    std::iter::once(LINES.0).chain(FORMATS.iter().map(|format| format.name))
}

impl Form {
    /// The form called `name`, else the one that the extension of `path` asks for, else lines where there is no path.
    ///
    /// # Errors
    /// A name or an extension of no form; a form that standard output does not take.
    pub fn choose(name: Option<&str>, path: Option<&Path>) -> Result<Self, String> {
        let lines = Self::Lines { with_headers: false };
        let path = path.filter(|path| *path != Path::new("-"));
        let form = match (name, path) {
            (Some(name), _) if name == LINES.0 => lines,
            (Some(name), _) => {
                let format = FORMATS.into_iter().find(|format| format.name == name);
                let unknown = || format!("--format {name}: select one of {}", names().collect::<Vec<_>>().join(", "));
                Self::Table(format.ok_or_else(unknown)?)
            }
            (None, None) => lines,
            (None, Some(path)) => {
                let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
                let is_known = |known: &[&str]| known.iter().any(|known| extension.eq_ignore_ascii_case(known));
                let format = FORMATS.into_iter().find(|format| is_known(format.extensions));
                match format {
                    Some(format) => Self::Table(format),
                    None if is_known(&LINES.1) => lines,
                    None => return Err(unknown_extension(path)),
                }
            }
        };
        match form {
            Self::Table(format) if path.is_none() && format.text.is_none() => Err(format!(
                "--format {} cannot be written to standard output: add --output; standard output takes {}",
                format.name,
                std::iter::once(LINES.0)
                    .chain(FORMATS.iter().filter(|format| format.text.is_some()).map(|format| format.name))
                    .collect::<Vec<_>>()
                    .join(" and ")
            )),
            form => Ok(form),
        }
    }
}

fn unknown_extension(path: &Path) -> String {
    let known = FORMATS.iter().filter(|format| !format.extensions.is_empty());
    let known: Vec<String> = known.map(|format| format!(".{} ({})", format.extensions[0], format.name)).collect();
    format!(
        "{}: the extension selects the format, and it is none of .{} (lines), {}; or name the format: --format {}",
        path.display(),
        LINES.1[0],
        known.join(", "),
        names().collect::<Vec<_>>().join("|")
    )
}

/// A frame's line, as far as tables have it.
#[derive(Debug, Deserialize)]
pub struct Frame {
    pub file: Option<String>,
    pub pts_ns: Option<i64>,
    #[serde(default = "yes")]
    pub keyframe: bool,
    pub width: u32,
    pub height: u32,
    pub detections: Vec<Detection>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
pub struct Detection {
    pub label: String,
    pub class_id: Option<i32>,
    pub confidence: Option<f64>,
    #[serde(rename = "box")]
    pub rectangle: [f64; 4],
    #[serde(default)]
    pub keypoints: Vec<[f64; 3]>,
    pub rotated_box: Option<[f64; 5]>,
    pub mask: Option<Mask>,
}

/// A grid over a box, as runs, row by row.
#[derive(Debug, Clone, Deserialize, serde::Serialize)]
pub struct Mask {
    /// Rows and columns.
    pub size: [usize; 2],
    /// Lengths of runs, the first of what is not the object, then in turn.
    pub counts: Vec<usize>,
}

impl Frame {
    /// Seconds on the container's clock.
    pub fn seconds(&self) -> Option<f64> {
        // A division rounds once, so that the shortest decimal is the one that people expect.
        self.pts_ns.map(|pts_ns| pts_ns as f64 / 1e9)
    }
}

/// The frames in a file's lines, numbered from 1 as the pictures of frames are.
pub fn frames(unit: &Unit) -> impl Iterator<Item = Result<(u64, Frame), Error>> {
    let lines = lines(unit).filter(|line| !is_header(line) && summary_in(line).is_none());
    (1..).zip(lines).map(|(number, line)| {
        let frame = serde_json::from_slice(line)
            .map_err(|error| format!("line {number} of {} is damaged: {error}", unit.summary.file))?;
        Ok((number, frame))
    })
}

/// What found a file's objects, where its lines say so.
pub fn detector(unit: &Unit) -> Option<Detector> {
    #[derive(Deserialize)]
    struct Header {
        header: About,
    }
    #[derive(Deserialize)]
    struct About {
        detector: Option<Detector>,
    }
    let header = lines(unit).next().filter(|line| is_header(line))?;
    serde_json::from_slice::<Header>(header).ok()?.header.detector
}

fn lines(unit: &Unit) -> impl Iterator<Item = &[u8]> {
    unit.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// A new file beside its place.
struct Beside {
    out: BufWriter<File>,
}

impl Beside {
    fn create(path: &Path) -> Result<Self, Error> {
        Ok(Self { out: BufWriter::new(File::create(with_suffix(path, ".part"))?) })
    }

    /// Gives it the name `path` when it is on the disk.
    fn put(self, path: &Path) -> Result<(), Error> {
        self.out.into_inner()?.sync_all()?;
        remove(path, never)?;
        Ok(std::fs::rename(with_suffix(path, ".part"), path)?)
    }
}

/// Writes a file beside `path` and gives it that name when it is on the disk.
///
/// # Errors
/// What keeps it from being written.
pub fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Error>) -> Result<(), Error> {
    let mut file = Beside::create(path)?;
    write(&mut file.out)?;
    file.put(path)
}

/// Takes away what an earlier run left in this place: a file, or a folder that is a table.
fn remove(path: &Path, is_own_folder: fn(&Path) -> bool) -> Result<(), Error> {
    if path.is_dir() {
        if !is_own_folder(path) {
            return Err(format!("{} is a folder with other things than a table in it", path.display()).into());
        }
        return Ok(std::fs::remove_dir_all(path)?);
    }
    if path.exists() { Ok(std::fs::remove_file(path)?) } else { Ok(()) }
}

/// For tables that are files.
fn never(_folder: &Path) -> bool {
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
pub mod tests {
    use super::*;

    /// A file's lines: a header, a frame with a box, a frame between keyframes with everything that models of other tasks say, an
    /// empty one.
    pub const LINES: &str = r#"{"schema":2,"header":{"file":"a, \"b\".mp4","detector":{"model":"m.onnx","layout":"v8","task":"detect","provider":"CPUExecutionProvider","device":"CPU","precision":"f32","fallback":null,"classes":["person","dog","cat"],"keypoints":2}}}
{"schema":2,"file":"a, \"b\".mp4","pts_ns":null,"width":64,"height":48,"detections":[{"label":"dog","class_id":1,"confidence":0.5,"box":[1.0,2.0,3.0,4.5]}]}
{"schema":2,"file":"a, \"b\".mp4","pts_ns":40000000,"keyframe":false,"width":64,"height":48,"detections":[{"label":"cat","class_id":2,"confidence":0.75,"box":[10.0,10.0,8.0,4.0],"keypoints":[[11.0,12.0,0.9],[13.0,12.5,0.1]],"mask":{"size":[2,4],"counts":[1,2,2,3]}},{"label":"dog","class_id":1,"confidence":0.5,"box":[20.0,20.0,10.0,10.0],"rotated_box":[25.0,25.0,10.0,4.0,0.7125]}]}
{"schema":2,"file":"a, \"b\".mp4","pts_ns":1000000000,"width":64,"height":48,"detections":[]}
{"schema":2,"file":"a, \"b\".mp4","status":"ok","complete":true,"keyframes":2,"indexed_keyframes":2,"frames_between":1,"damaged_frames":0,"detection_count":3,"duration_seconds":1.0,"covered_seconds":0.04,"bytes":9,"bytes_read":9,"seconds":{"total":1.0,"open":0.0,"lock_wait":0.0,"lock_hold":0.0,"read":0.0,"decode":0.0,"queued":0.0,"prepare":0.0,"infer":0.0},"error":null}
"#;

    pub fn unit() -> Unit {
        crate::unit::Units::default().push(LINES.as_bytes()).remove(0)
    }

    /// Makes a table of one file.
    pub fn made(format: &Format, path: &Path) {
        let mut table = (format.begin)(path).unwrap();
        table.file(&unit()).unwrap();
        table.finish().unwrap();
    }

    #[test]
    fn a_form_is_chosen_by_name_or_extension() {
        let choose = |name: Option<&str>, path: &str| {
            Form::choose(name, (!path.is_empty()).then_some(Path::new(path))).map(|form| match form {
                Form::Lines { .. } => "jsonl",
                Form::Table(format) => format.name,
            })
        };
        for (name, path, form) in [
            (None, "", "jsonl"),
            (None, "-", "jsonl"),
            (None, "a.NDJSON", "jsonl"),
            (None, "a.csv", "csv"),
            (None, "a.json", "coco"),
            (None, "a.parquet", "parquet"),
            (Some("coco"), "a.txt", "coco"),
            (Some("jsonl"), "a.csv", "jsonl"),
            (Some("csv"), "", "csv"),
            (Some("yolo"), "folder", "yolo"),
        ] {
            assert_eq!(choose(name, path).unwrap(), form, "{name:?} {path}");
        }
        for wrong in [choose(None, "a.txt"), choose(None, "folder"), choose(Some("xml"), "a.xml")] {
            let text = wrong.unwrap_err();
            assert!(["jsonl", "csv", "parquet", "coco", "yolo"].iter().all(|name| text.contains(name)), "{text}");
        }
        assert!(choose(Some("parquet"), "-").unwrap_err().contains("jsonl and csv"));
    }

    #[test]
    fn frames_and_the_detector_are_read_from_lines() {
        let unit = unit();
        let frames: Vec<(u64, Frame)> = frames(&unit).map(Result::unwrap).collect();
        assert_eq!(
            frames.iter().map(|(number, frame)| (*number, frame.keyframe)).collect::<Vec<_>>(),
            [(1, true), (2, false), (3, true)]
        );
        assert_eq!(frames[1].1.seconds(), Some(0.04));
        assert_eq!(detector(&unit).unwrap().classes, ["person", "dog", "cat"]);
        assert!(detector(&Unit::bare(unit.summary)).is_none());
    }
}
