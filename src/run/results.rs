// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results of earlier runs, read back from their outputs file by file: JSON lines and Parquet tables.
//!
//! Outputs are untrusted: what is damaged or cut off is an error that names the line, and nothing is skipped. Any thread.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::parser::parse_message_type;

use super::error::Error;
use super::output::LINES_SUFFIX;
use crate::record::{Conditions, Detection, Frame, HeaderLine, SCHEMA, Summary};

/// Longest line in bytes. A frame with 300 masks of 160x160 has less than 10 MB.
pub(super) const MAX_LINE: u64 = 64 << 20;
/// Longest footer of a Parquet file, which holds the summaries of files.
const MAX_FOOTER: u64 = 256 << 20;

/// The results of one file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FileResults {
    /// Path or URL as in the records; empty where they do not name one.
    pub file: String,
    /// Analysed frames, without masks and keypoints. A Parquet table has only those with detections.
    pub frames: Vec<Frame>,
    /// Mean time between analysed frames, with and without detections; `None` for fewer than two, or frames without times.
    pub frame_distance: Option<Duration>,
    /// The summary; `None` for the lines of `vxjsonenc`.
    pub summary: Option<Summary>,
}

impl FileResults {
    fn new(file: String) -> Self {
        Self { file, frames: Vec::new(), frame_distance: None, summary: None }
    }
}

/// The results in outputs: an iterator over their files. It ends after an error.
pub struct Results {
    waiting: VecDeque<PathBuf>,
    current: Option<Source>,
    files: HashSet<String>,
    conditions: Vec<Conditions>,
}

enum Source {
    Lines(Box<Lines>),
    Table(Box<Table>),
}

impl Results {
    /// Opens `outputs` of `vx detect`, or lines of `vxjsonenc`: `.parquet` is a table, everything else JSON lines, `-` standard input.
    /// The first one is opened now, the others when they are reached.
    ///
    /// # Errors
    /// The first output cannot be read, or is in another format.
    pub fn open(outputs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Result<Self, Error> {
        let waiting: VecDeque<PathBuf> = outputs.into_iter().map(Into::into).collect();
        // Before a long reading of the first ones.
        waiting.iter().try_for_each(|path| check(path))?;
        let mut results = Self { waiting, current: None, files: HashSet::new(), conditions: Vec::new() };
        results.open_next()?;
        Ok(results)
    }

    /// Returns the model and settings of the runs that have been reached so far, each once; none for tables.
    #[must_use]
    pub fn conditions(&self) -> &[Conditions] {
        &self.conditions
    }

    fn open_next(&mut self) -> Result<(), Error> {
        self.current = match self.waiting.pop_front() {
            Some(path) if has_extension(&path, "parquet") => Some(Source::Table(Box::new(Table::open(path)?))),
            Some(path) => Some(Source::Lines(Box::new(Lines::open(path)?))),
            None => None,
        };
        Ok(())
    }

    fn read(&mut self) -> Result<Option<FileResults>, Error> {
        loop {
            let (found, path) = match &mut self.current {
                None => return Ok(None),
                Some(Source::Lines(lines)) => (lines.next(&mut self.conditions)?, &lines.path),
                Some(Source::Table(table)) => (table.next()?, &table.path),
            };
            let Some(found) = found else {
                self.open_next()?;
                continue;
            };
            if !found.file.is_empty() && !self.files.insert(found.file.clone()) {
                let reason = format!("{} was in the input before: its detections would count twice", found.file);
                return Err(input_error(path, reason));
            }
            return Ok(Some(found));
        }
    }
}

impl Iterator for Results {
    type Item = Result<FileResults, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.read();
        if result.is_err() {
            (self.current, self.waiting) = (None, VecDeque::new());
        }
        result.transpose()
    }
}

fn input_error(path: &Path, reason: impl Into<String>) -> Error {
    let input = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    Error::Input { input, reason: reason.into() }
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

/// Checks that an output exists and is in a format that can be read back.
fn check(path: &Path) -> Result<(), Error> {
    if path == Path::new("-") {
        return Ok(());
    }
    let metadata = std::fs::metadata(path).map_err(|error| input_error(path, error.to_string()))?;
    let is_table = has_extension(path, "parquet");
    if let Some(other) = ["csv", "json"].into_iter().find(|other| has_extension(path, other)) {
        let mut lines = path.as_os_str().to_owned();
        lines.push(LINES_SUFFIX);
        let lines = Path::new(&lines);
        let remedy = if lines.exists() {
            format!("use {}, the lines that it was made of", lines.display())
        } else {
            "use JSON lines or a Parquet table".to_owned()
        };
        return Err(input_error(path, format!("{other} does not contain all results: {remedy}")));
    }
    if metadata.is_dir() && !is_table {
        return Err(input_error(path, "is a folder: name an output of `vx detect`, JSON lines or a Parquet table"));
    }
    Ok(())
}

/// JSON lines.
struct Lines {
    path: PathBuf,
    input: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
    /// The file whose frames are being read.
    open: Option<OpenFile>,
    /// Whether files end with a summary, as in the output of `vx detect`.
    has_summaries: bool,
}

/// A file whose lines are being read.
struct OpenFile {
    results: FileResults,
    times: Times,
}

/// The times of a file's analysed frames.
#[derive(Default)]
struct Times {
    first_ns: Option<i64>,
    last_ns: Option<i64>,
    count: u64,
}

impl Times {
    fn add(&mut self, pts_ns: i64) {
        self.first_ns = Some(self.first_ns.map_or(pts_ns, |first| first.min(pts_ns)));
        self.last_ns = Some(self.last_ns.map_or(pts_ns, |last| last.max(pts_ns)));
        self.count += 1;
    }

    fn mean_distance(&self) -> Option<Duration> {
        let covered = self.last_ns?.checked_sub(self.first_ns?)?;
        let distance = u64::try_from(covered).ok()?.checked_div(self.count.saturating_sub(1))?;
        (distance > 0).then(|| Duration::from_nanos(distance))
    }
}

impl OpenFile {
    fn end(self, summary: Option<Summary>) -> FileResults {
        FileResults { summary, frame_distance: self.times.mean_distance(), ..self.results }
    }
}

impl Lines {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let input: Box<dyn BufRead + Send> = if path == Path::new("-") {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file = File::open(&path).map_err(|error| input_error(&path, error.to_string()))?;
            Box::new(BufReader::with_capacity(1 << 18, file))
        };
        Ok(Self { path, input, line: Vec::new(), number: 0, open: None, has_summaries: false })
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        input_error(&self.path, reason)
    }

    /// Reads the next line; false at the end.
    fn read_line(&mut self) -> Result<bool, Error> {
        self.line.clear();
        self.number += 1;
        let read = self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.line);
        let length = read.map_err(|error| self.error(format!("line {} cannot be read: {error}", self.number)))?;
        if length as u64 == MAX_LINE && self.line.last() != Some(&b'\n') {
            return Err(self.error(format!("line {} has more than {} MiB", self.number, MAX_LINE >> 20)));
        }
        Ok(length > 0)
    }

    /// Returns the results of the next file.
    fn next(&mut self, conditions: &mut Vec<Conditions>) -> Result<Option<FileResults>, Error> {
        while self.read_line()? {
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            if HeaderLine::is_in(&self.line) {
                let Some(line) = HeaderLine::from_line(&self.line) else { return Err(self.damaged("a header")) };
                if let Some(run) = line.header.run {
                    self.has_summaries = true;
                    if !conditions.contains(&run) {
                        conditions.push(run);
                    }
                }
            } else if let Some(summary) = Summary::from_line(&self.line) {
                self.has_summaries = true;
                self.check_schema(summary.schema)?;
                let open = match self.open.take() {
                    Some(open) if open.results.file != summary.file => return Err(self.unfinished(&open)),
                    Some(open) => open,
                    None => OpenFile { results: FileResults::new(summary.file.clone()), times: Times::default() },
                };
                return Ok(Some(open.end(Some(summary))));
            } else {
                let frame = Frame::from_line(&self.line).map_err(|reason| self.damaged(&reason))?;
                self.check_schema(frame.schema)?;
                if let Some(complete) = self.add(frame)? {
                    return Ok(Some(complete));
                }
            }
        }
        match self.open.take() {
            Some(open) if self.has_summaries => Err(self.unfinished(&open)),
            open => Ok(open.map(|open| open.end(None))),
        }
    }

    /// Adds a frame; returns the file before, if the frame is of another one.
    fn add(&mut self, mut frame: Frame) -> Result<Option<FileResults>, Error> {
        let file = frame.file.take().unwrap_or_default();
        let before = match self.open.take() {
            Some(open) if open.results.file != file => {
                if self.has_summaries {
                    return Err(self.unfinished(&open));
                }
                Some(open.end(None))
            }
            Some(open) => {
                self.open = Some(open);
                None
            }
            None => None,
        };
        let open =
            self.open.get_or_insert_with(|| OpenFile { results: FileResults::new(file), times: Times::default() });
        if frame.is_analysed {
            if let Some(pts_ns) = frame.pts_ns {
                open.times.add(pts_ns);
            }
            for found in &mut frame.detections {
                (found.keypoints, found.mask) = (Vec::new(), None);
            }
            open.results.frames.push(frame);
        }
        Ok(before)
    }

    fn check_schema(&self, schema: u32) -> Result<(), Error> {
        if schema == SCHEMA {
            return Ok(());
        }
        let reason = format!(
            "line {} has version {schema} of the schema, and this vx reads version {SCHEMA}: detect the files again",
            self.number
        );
        Err(self.error(reason))
    }

    fn damaged(&self, reason: &str) -> Error {
        let is_object = self.line.trim_ascii_start().starts_with(b"{");
        if self.line.ends_with(b"\n") || !is_object {
            let what = match serde_json::from_slice::<serde_json::Value>(&self.line) {
                // A value that is JSON, but no record.
                Ok(value) if value.get("schema").is_none() => "is not a line of vx".to_owned(),
                _ if !is_object => "is not a line of vx".to_owned(),
                _ => format!("is damaged: {reason}"),
            };
            return self.error(format!("line {} {what}", self.number));
        }
        let rest = "the run was interrupted or is not finished; `resume` completes its output";
        self.error(format!("line {} is cut off: {rest}", self.number))
    }

    fn unfinished(&self, open: &OpenFile) -> Error {
        let name = &open.results.file;
        self.error(format!(
            "the lines of {name} end before line {} without a summary: the run was interrupted or is not finished; `resume` completes \
             its output",
            self.number
        ))
    }
}

/// The columns that are read of a Parquet table. They stand in the file in this order.
const COLUMNS: &str = "message detection {
    required binary file (UTF8);
    optional int64 pts_ns;
    required boolean keyframe;
    required int32 width;
    required int32 height;
    required binary label (UTF8);
    optional int32 class_id;
    optional float confidence;
    required float x;
    required float y;
    required float box_width;
    required float box_height;
}";

/// A Parquet table: one file, or a folder of parts.
struct Table {
    path: PathBuf,
    parts: VecDeque<PathBuf>,
    rows: Option<RowIter<'static>>,
    /// A row that has been read and belongs to a later file.
    next_row: Option<(String, Frame)>,
    /// Summaries of the files of the part that are not reached yet.
    summaries: VecDeque<Summary>,
}

impl Table {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let parts = if path.is_dir() {
            let entries = std::fs::read_dir(&path).map_err(|error| input_error(&path, error.to_string()))?;
            let mut parts: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            parts.retain(|part| has_extension(part, "parquet"));
            parts.sort();
            if parts.is_empty() {
                return Err(input_error(&path, "is a folder without parts of a Parquet table"));
            }
            parts.into()
        } else {
            VecDeque::from([path.clone()])
        };
        let mut table = Self { path, parts, rows: None, next_row: None, summaries: VecDeque::new() };
        table.open_part()?;
        Ok(table)
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        input_error(&self.path, reason)
    }

    /// Opens the next part; false if there is none.
    fn open_part(&mut self) -> Result<bool, Error> {
        let Some(part) = self.parts.pop_front() else { return Ok(false) };
        let unreadable =
            |error: &dyn std::fmt::Display| input_error(&part, format!("cannot be read as Parquet: {error}"));
        let foreign = |what: &str| input_error(&part, format!("is not a table of `vx detect`: {what}"));
        let file = File::open(&part).map_err(|error| input_error(&part, error.to_string()))?;
        let length = file.metadata().map_err(|error| input_error(&part, error.to_string()))?.len();
        if footer_len(&file, length) > MAX_FOOTER {
            return Err(foreign("its footer, which holds the summaries of files, has more than 256 MiB"));
        }
        let reader = contained(|| SerializedFileReader::new(file)).map_err(|error| unreadable(&error))?;
        if !reader.metadata().row_groups().iter().all(|group| is_inside(group, length)) {
            return Err(foreign("its columns lie outside of the file"));
        }
        let pairs = reader.metadata().file_metadata().key_value_metadata();
        let text =
            pairs.into_iter().flatten().find(|pair| pair.key == "vx.files").and_then(|pair| pair.value.as_deref());
        let text = text.ok_or_else(|| foreign("it lacks the summaries of files, `vx.files`"))?;
        self.summaries = serde_json::from_str(text).map_err(|error| foreign(&format!("summaries: {error}")))?;
        let columns = parse_message_type(COLUMNS).map_err(|error| unreadable(&error))?;
        let rows = RowIter::from_file_into(Box::new(reader)).project(Some(columns));
        self.rows = Some(rows.map_err(|error| foreign(&error.to_string()))?);
        Ok(true)
    }

    /// Returns the results of the next file.
    fn next(&mut self) -> Result<Option<FileResults>, Error> {
        while self.summaries.is_empty() {
            if let Some((file, _)) = self.read_row()? {
                return Err(self.error(format!("is damaged: it has rows of {file}, and no summary of it")));
            }
            if !self.open_part()? {
                return Ok(None);
            }
        }
        let Some(summary) = self.summaries.pop_front() else { return Ok(None) };
        let frame_count = summary.keyframes.saturating_add(summary.frames_between);
        let mut results = FileResults::new(summary.file.clone());
        while let Some((file, mut row)) = self.read_row()? {
            if file != summary.file {
                self.next_row = Some((file, row));
                break;
            }
            if row.pts_ns.is_none() && frame_count > 1 {
                return Err(self.error(format!(
                    "{file} has frames without times, which a table does not tell apart: use JSON lines, for example the \
                     .lines.jsonl beside the table"
                )));
            }
            match results.frames.last_mut().filter(|frame| frame.pts_ns == row.pts_ns) {
                Some(frame) => frame.detections.append(&mut row.detections),
                None => results.frames.push(row),
            }
        }
        results.frame_distance = summary
            .covered_seconds
            .zip(frame_count.checked_sub(1).filter(|distances| *distances > 0))
            .and_then(|(covered, distances)| Duration::try_from_secs_f64(covered / distances as f64).ok())
            .filter(|distance| !distance.is_zero());
        results.summary = Some(summary);
        Ok(Some(results))
    }

    /// Reads a row: a file's name, and a frame with one detection.
    fn read_row(&mut self) -> Result<Option<(String, Frame)>, Error> {
        if let Some(row) = self.next_row.take() {
            return Ok(Some(row));
        }
        let Some(rows) = &mut self.rows else { return Ok(None) };
        let Some(row) = contained(|| rows.next().transpose()).transpose() else { return Ok(None) };
        let row = row.map_err(|error| self.error(format!("cannot be read as Parquet: {error}")))?;
        from_row(row).map(Some).ok_or_else(|| self.error("is damaged: a row has a value of another type"))
    }
}

/// Returns the length in bytes that a Parquet file of `length` bytes states for its footer, which is read as a whole; 0 for other files.
fn footer_len(file: &File, length: u64) -> u64 {
    let mut end = [0; 8];
    match length.checked_sub(8).map(|position| file.read_exact_at(&mut end, position)) {
        Some(Ok(())) => u32::from_le_bytes([end[0], end[1], end[2], end[3]]).into(),
        _ => 0,
    }
}

/// Reads with the Parquet library, which panics on some damaged pages; its panic is an error.
fn contained<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    std::panic::catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(ParquetError::General("the table is damaged".to_owned())))
}

/// Returns whether the columns of a row group lie inside a file of `length` bytes, and none of its numbers is negative: the reader takes
/// both for granted.
fn is_inside(group: &RowGroupMetaData, length: u64) -> bool {
    group.num_rows() >= 0
        && group.columns().iter().all(|column| {
            let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            let end = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
            end.and_then(|(start, size)| start.checked_add(size)).is_some_and(|end| end <= length)
                && column.data_page_offset() >= start
                && column.num_values() >= 0
                && column.uncompressed_size() >= 0
        })
}

/// Returns a row as a file's name, and a frame with one detection.
fn from_row(row: Row) -> Option<(String, Frame)> {
    let mut fields = row.into_columns().into_iter().map(|(_, field)| field);
    let mut next = || fields.next();
    let text = |field: Option<Field>| if let Some(Field::Str(text)) = field { Some(text) } else { None };
    let number = |field: Option<Field>| if let Some(Field::Int(number)) = field { Some(number) } else { None };
    // The digits of the JSON lines.
    let decimal = |field: Option<Field>, steps: f64| match field {
        Some(Field::Float(value)) if value.is_finite() => Some((f64::from(value) * steps).round() / steps),
        _ => None,
    };
    let file = text(next())?;
    let pts_ns = match next()? {
        Field::Long(pts_ns) => Some(pts_ns),
        _ => None,
    };
    let is_keyframe = !matches!(next()?, Field::Bool(false));
    let width = u32::try_from(number(next())?).ok()?;
    let height = u32::try_from(number(next())?).ok()?;
    let label = text(next())?;
    let class_id = number(next());
    let confidence = decimal(next(), 1e4);
    let mut rectangle = [0.0; 4];
    for side in &mut rectangle {
        *side = decimal(next(), 1e2)?;
    }
    let found =
        Detection { label, class_id, confidence, rectangle, keypoints: Vec::new(), rotated_box: None, mask: None };
    Some((file, Frame { is_keyframe, detections: vec![found], ..Frame::new(None, pts_ns, width, height) }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;
    use crate::run::tables::tests::LINES;

    fn read(text: &str) -> Result<Vec<FileResults>, String> {
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let results = Results::open([file.path()]).map_err(|error| error.to_string())?;
        let all: Result<Vec<_>, _> = results.collect();
        all.map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_over_the_limit_is_refused() {
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        file.as_file().set_len(MAX_LINE + 1).unwrap();
        let mut results = Results::open([file.path()]).unwrap();
        let error = results.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("line 1 has more than 64 MiB"), "{error}");
    }

    #[test]
    fn a_long_footer_of_a_table_is_refused() {
        let file = tempfile::Builder::new().suffix(".parquet").tempfile().unwrap();
        let error_of = |footer: u64| {
            file.as_file().set_len(footer + 100).unwrap();
            let end = [&u32::try_from(footer).unwrap().to_le_bytes()[..], b"PAR1"].concat();
            file.as_file().write_all_at(&end, footer + 92).unwrap();
            Results::open([file.path()]).err().unwrap().to_string()
        };
        assert!(error_of(MAX_FOOTER + 1).contains("more than 256 MiB"));
        let error = error_of(MAX_FOOTER / 256);
        assert!(error.contains("cannot be read as Parquet"), "{error}");
    }

    #[test]
    fn lines_are_read_file_by_file_without_what_is_not_needed() {
        let files = read(LINES).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!((&*files[0].file, files[0].frames.len()), ("a, \"b\".mp4", 3));
        assert!(files[0].summary.is_some() && files[0].frames[1].detections[0].mask.is_none());
        // Of the two frames with a time.
        assert_eq!(files[0].frame_distance, Some(Duration::from_millis(960)));
        let frames: String =
            LINES.lines().filter(|line| !line.contains("status")).map(|line| format!("{line}\n")).collect();
        let bare = read(&frames).unwrap();
        assert!(bare.len() == 1 && bare[0].summary.is_none());
    }

    #[test]
    fn damaged_lines_and_cut_outputs_are_named() {
        let damaged = LINES.replacen("\"pts_ns\":40000000", "\"pts_ns\":4000x", 1);
        assert!(read(&damaged).unwrap_err().contains("line 3 is damaged: expected"), "{:?}", read(&damaged));
        let cut = &LINES[..LINES.len() - 30];
        assert!(read(cut).unwrap_err().contains("line 5 is cut off: the run was interrupted"), "{:?}", read(cut));
        let twice = format!("{LINES}{LINES}");
        assert!(read(&twice).unwrap_err().contains("count twice"));
        let lines: Vec<&str> = LINES.lines().collect();
        let unfinished = format!("{LINES}{}\n", lines[1].replace("a, ", "c, "));
        assert!(read(&unfinished).unwrap_err().contains("without a summary"));
        for foreign in ["{\"id\":1}\n", "x", "\u{0}\u{0}\u{0}"] {
            assert!(read(foreign).unwrap_err().contains("line 1 is not a line of vx"), "{foreign:?}");
        }
        let older = LINES.replace("\"schema\":2", "\"schema\":1");
        assert!(read(&older).unwrap_err().contains("version 1 of the schema"));
        assert_eq!(read("").unwrap(), []);
    }
}
