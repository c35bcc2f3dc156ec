// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables of detections: each format is a file here with a type that implements [`Table`], and a line in [`TABLES`].
//!
//! Tables get the records of whole files, in the order in which files are done, and appear in their place when they are complete.
//! They know the schema of the records and nothing of the run. The run's thread calls them.

mod coco;
mod csv;
pub(super) mod events;
mod parquet;
mod shapes;
mod yolo;

use std::io::BufWriter;
use std::path::Path;

use super::error::Error;
use super::file_record::FileRecord;
use super::part_file::PartFile;

/// Why a table cannot be written.
pub(super) type TableError = Box<dyn std::error::Error>;

/// All table formats.
static TABLES: [TableFormat; 4] = [
    TableFormat::of::<csv::Csv>(),
    TableFormat::of::<parquet::Parquet>(),
    TableFormat::of::<coco::Coco>(),
    TableFormat::of::<yolo::Yolo>(),
];

/// The name of JSON lines, which are not a table, and their extensions.
const LINES: (&str, [&str; 2]) = ("jsonl", ["jsonl", "ndjson"]);

/// A table that is being written.
pub(super) trait Table: Send {
    /// Describes the format.
    fn describe() -> Description
    where
        Self: Sized;

    /// Begins a table whose place will be `path`.
    ///
    /// # Errors
    /// The table cannot be written.
    fn begin(path: &Path) -> Result<Self, TableError>
    where
        Self: Sized;

    /// Adds the results of a file.
    ///
    /// # Errors
    /// The table cannot be written.
    fn file(&mut self, file: &FileRecord) -> Result<(), TableError>;

    /// Completes the table and moves it to its place.
    ///
    /// # Errors
    /// The table cannot be written.
    fn finish(self: Box<Self>) -> Result<(), TableError>;
}

/// The properties of a format.
#[derive(Clone, Copy)]
pub(super) struct Description {
    /// The name of the format.
    pub name: &'static str,
    /// Extensions of files; none for a folder.
    pub extensions: &'static [&'static str],
    /// Returns whether a folder is such a table, or part of one, and nothing else.
    pub is_own_folder: fn(&Path) -> bool,
    /// Makes the text of a file, for formats that can be written file by file.
    pub text: Option<Text>,
    /// The folder within the table for pictures of frames, for formats that contain these.
    pub pictures: Option<&'static str>,
}

/// Makes the text of a file.
pub(super) type Text = fn(&FileRecord, IsFirst) -> Result<Vec<u8>, TableError>;

/// Whether a file is the first in a table, which may need a heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IsFirst(pub bool);

/// A table format: [`Table`] without its type.
pub(super) struct TableFormat {
    describe: fn() -> Description,
    begin: fn(&Path) -> Result<Box<dyn Table>, TableError>,
}

impl TableFormat {
    const fn of<T: Table + 'static>() -> Self {
        Self { describe: T::describe, begin: |path| Ok(Box::new(T::begin(path)?)) }
    }

    /// Describes the format.
    pub fn describe(&self) -> Description {
        (self.describe)()
    }

    /// Begins a table whose place will be `path`.
    ///
    /// # Errors
    /// The table cannot be written.
    pub fn begin(&self, path: &Path) -> Result<Box<dyn Table>, TableError> {
        (self.begin)(path)
    }

    /// Returns whether the table is a folder, which may exist before.
    pub fn is_folder(&self) -> bool {
        self.describe().extensions.is_empty()
    }
}

impl std::fmt::Debug for TableFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.describe().name)
    }
}

/// The format of an output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    /// JSON lines.
    Lines {
        /// With a header line for each file.
        with_headers: bool,
    },
    /// A table.
    Table(&'static TableFormat),
}

/// Returns the names of all formats.
pub fn format_names() -> impl Iterator<Item = &'static str> {
    std::iter::once(LINES.0).chain(TABLES.iter().map(|table| table.describe().name))
}

impl Format {
    /// Selects the format called `name`, or else the one for the extension of `path`, or else lines where there is no path.
    ///
    /// # Errors
    /// An unknown name or extension; a format that a writer does not take.
    pub fn select(name: Option<&str>, path: Option<&Path>) -> Result<Self, Error> {
        let lines = Self::Lines { with_headers: false };
        let format = match (name, path) {
            (Some(name), _) if name == LINES.0 => lines,
            (Some(name), _) => {
                let table = TABLES.iter().find(|table| table.describe().name == name);
                let unknown = || {
                    let names: Vec<&str> = format_names().collect();
                    Error::setting(format!("`format` {name} is not known: select one of {}", names.join(", ")))
                };
                Self::Table(table.ok_or_else(unknown)?)
            }
            (None, None) => lines,
            (None, Some(path)) => {
                let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
                let is_known = |known: &[&str]| known.iter().any(|known| extension.eq_ignore_ascii_case(known));
                match TABLES.iter().find(|table| is_known(table.describe().extensions)) {
                    Some(table) => Self::Table(table),
                    None if is_known(&LINES.1) => lines,
                    None => return Err(unknown_extension(path)),
                }
            }
        };
        match format {
            Self::Table(table) if path.is_none() && table.describe().text.is_none() => {
                let names = TABLES.iter().map(TableFormat::describe).filter(|table| table.text.is_some());
                let names: Vec<&str> = std::iter::once(LINES.0).chain(names.map(|table| table.name)).collect();
                Err(Error::setting(format!(
                    "`format` {} needs a file: set `output`; without it, use {}",
                    table.describe().name,
                    names.join(" or ")
                )))
            }
            format => Ok(format),
        }
    }
}

fn unknown_extension(path: &Path) -> Error {
    let tables = TABLES.iter().map(TableFormat::describe).filter(|table| !table.extensions.is_empty());
    let known: Vec<String> = tables.map(|table| format!(".{} ({})", table.extensions[0], table.name)).collect();
    let names: Vec<&str> = format_names().collect();
    Error::setting(format!(
        "{}: the extension selects the format: use .{} (lines), {}, or set `format` to one of {}",
        path.display(),
        LINES.1[0],
        known.join(", "),
        names.join(", ")
    ))
}

/// Completes a file with a buffer before it.
fn commit(out: BufWriter<PartFile>) -> Result<(), TableError> {
    out.into_inner().map_err(|error| error.into_error())?.commit()?;
    Ok(())
}

/// For tables that are files.
fn never(_folder: &Path) -> bool {
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
pub mod tests {
    use super::*;

    /// A file's lines: a header, a frame with a box, a frame between keyframes with keypoints, mask and rotated box, an empty frame.
    pub const LINES: &str = r#"{"schema":2,"header":{"file":"a, \"b\".mp4","detector":{"model":"m.onnx","layout":"v8","task":"detect","provider":"CPUExecutionProvider","device":"CPU","precision":"f32","fallback":null,"classes":["person","dog","cat"],"keypoints":2}}}
{"schema":2,"file":"a, \"b\".mp4","pts_ns":null,"width":64,"height":48,"detections":[{"label":"dog","class_id":1,"confidence":0.5,"box":[1.0,2.0,3.0,4.5]}]}
{"schema":2,"file":"a, \"b\".mp4","pts_ns":40000000,"keyframe":false,"width":64,"height":48,"detections":[{"label":"cat","class_id":2,"confidence":0.75,"box":[10.0,10.0,8.0,4.0],"keypoints":[[11.0,12.0,0.9],[13.0,12.5,0.1]],"mask":{"size":[2,4],"counts":[1,2,2,3]}},{"label":"dog","class_id":1,"confidence":0.5,"box":[20.0,20.0,10.0,10.0],"rotated_box":[25.0,25.0,10.0,4.0,0.7125]}]}
{"schema":2,"file":"a, \"b\".mp4","pts_ns":1000000000,"width":64,"height":48,"detections":[]}
{"schema":2,"file":"a, \"b\".mp4","status":"ok","complete":true,"keyframes":2,"indexed_keyframes":2,"frames_between":1,"damaged_frames":0,"detection_count":3,"duration_seconds":1.0,"covered_seconds":0.04,"bytes":9,"bytes_read":9,"seconds":{"total":1.0,"open":0.0,"lock_wait":0.0,"lock_hold":0.0,"read":0.0,"decode":0.0,"queued":0.0,"prepare":0.0,"infer":0.0},"error":null}
"#;

    pub fn file() -> FileRecord {
        super::super::file_record::Assembler::default().push(LINES.as_bytes()).remove(0)
    }

    /// Writes a table of one file.
    pub fn write_table<T: Table>(path: &Path) {
        let mut table = Box::new(T::begin(path).unwrap());
        table.file(&file()).unwrap();
        table.finish().unwrap();
    }

    #[test]
    fn a_format_is_selected_by_name_or_extension() {
        let select = |name: Option<&str>, path: &str| {
            Format::select(name, (!path.is_empty()).then_some(Path::new(path))).map(|format| match format {
                Format::Lines { .. } => "jsonl",
                Format::Table(table) => table.describe().name,
            })
        };
        for (name, path, format) in [
            (None, "", "jsonl"),
            (None, "a.NDJSON", "jsonl"),
            (None, "a.csv", "csv"),
            (None, "a.json", "coco"),
            (None, "a.parquet", "parquet"),
            (Some("coco"), "a.txt", "coco"),
            (Some("jsonl"), "a.csv", "jsonl"),
            (Some("csv"), "", "csv"),
            (Some("yolo"), "folder", "yolo"),
        ] {
            assert_eq!(select(name, path).unwrap(), format, "{name:?} {path}");
        }
        for wrong in [select(None, "a.txt"), select(None, "folder"), select(Some("xml"), "a.xml")] {
            let text = wrong.unwrap_err().to_string();
            assert!(["jsonl", "csv", "parquet", "coco", "yolo"].iter().all(|name| text.contains(name)), "{text}");
        }
        assert!(select(Some("parquet"), "").unwrap_err().to_string().contains("jsonl or csv"));
    }
}
