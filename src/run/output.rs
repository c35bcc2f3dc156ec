// SPDX-License-Identifier: MIT OR Apache-2.0
//! The output of a run: lines or rows to a writer, lines in a file, or a table made of such lines.
//!
//! A table's lines are kept beside it in `OUTPUT.lines.jsonl`: the next run adds to them and makes the table again, so that there is
//! one way to resume an output, interrupted or complete. The run's thread owns the output.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::conditions::Current;
use super::error::Error;
use super::file_record::FileRecord;
use super::inputs::with_suffix;
use super::journal::{Done, Journal, unwritten};
use super::settings::Existing;
use super::tables::{Format, IsFirst, Table, TableError, TableFormat};

/// An open output.
pub(super) enum OpenOutput {
    /// No output.
    None,
    /// Lines or rows to a writer.
    Writer { writer: Box<dyn Write + Send>, format: Format, is_first: bool },
    /// Lines in a file, and the table that is made of them.
    File { journal: Box<Journal>, format: Format, table: Option<Box<dyn Table>> },
}

/// Suffix of the lines beside a table.
pub(super) const LINES_SUFFIX: &str = ".lines.jsonl";

/// Returns the JSON lines of the output at `path`: the output itself, or the lines beside a table. `format` is
/// [`Settings::format`](super::Settings::format).
///
/// # Errors
/// The format is not known.
pub fn lines_of(path: &Path, format: Option<&str>) -> Result<PathBuf, Error> {
    let format = Format::select(format, Some(path))?;
    Ok(lines_path(&path.components().collect::<PathBuf>(), format))
}

fn lines_path(path: &Path, format: Format) -> PathBuf {
    match format {
        Format::Lines { .. } => path.to_owned(),
        Format::Table(_) => with_suffix(path, LINES_SUFFIX),
    }
}

impl OpenOutput {
    /// Opens the output at `path`; with [`Existing::Resume`], also returns the files in it. Changes nothing before the first result.
    ///
    /// # Errors
    /// It cannot be written, exists, or was made under other conditions.
    pub fn open(
        path: &Path,
        format: Format,
        existing: Existing,
        current: Option<&Current>,
    ) -> Result<(Self, Done), Error> {
        // Without a trailing slash, so that files beside a folder are not within it.
        let path: &Path = &path.components().collect::<PathBuf>();
        let table = match format {
            Format::Lines { .. } => None,
            Format::Table(table) => Some(table),
        };
        let lines_path = lines_path(path, format);
        let exists = |path: &Path| path.exists() && !(table.is_some_and(TableFormat::is_folder) && is_empty(path));
        if existing == Existing::Refuse
            && let Some(path) = [path, &lines_path].into_iter().find(|path| exists(path))
        {
            return Err(Error::OutputExists { path: path.to_owned() });
        }
        if path.is_dir() && !table.is_some_and(|table| (table.describe().is_own_folder)(path)) {
            return Err(Error::OutputUnusable {
                path: path.to_owned(),
                reason: "is a folder, and not an output of vx".to_owned(),
                remedy: "select a file".to_owned(),
            });
        }
        if existing == Existing::Resume && table.is_some() && exists(path) && !lines_path.exists() {
            let lines = lines_path.display();
            return Err(Error::OutputUnusable {
                path: path.to_owned(),
                reason: format!("cannot be resumed without {lines}, the lines that it was made of"),
                remedy: "restore that file, select another output, or replace this one with `overwrite`".to_owned(),
            });
        }
        let (journal, done) = Journal::open(&lines_path, path, existing == Existing::Resume, current)?;
        Ok((Self::File { journal: Box::new(journal), format, table: None }, done))
    }

    /// Removes the lines of `files` before the first result is added.
    pub fn replace(&mut self, files: impl IntoIterator<Item = String>) {
        if let Self::File { journal, .. } = self {
            journal.replace(files);
        }
    }

    /// Returns the file that this run has created, if it did not exist before.
    pub fn new_file(&self) -> Option<&Path> {
        self.journal().filter(|journal| journal.is_new()).map(Journal::path)
    }

    /// Returns whether the conditions of the results in it are not known, because it has no header.
    pub fn lacks_header(&self) -> bool {
        self.journal().is_some_and(Journal::lacks_header)
    }

    /// Returns the file that keeps the results if the run ends now.
    pub fn kept_in(&self) -> Option<&Path> {
        self.journal().map(Journal::path)
    }

    fn journal(&self) -> Option<&Journal> {
        match self {
            Self::File { journal, .. } => Some(journal),
            _ => None,
        }
    }

    /// Writes lines as they come, to a writer.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write_lines(&mut self, lines: &[u8]) -> Result<(), Error> {
        match self {
            Self::Writer { writer, .. } => write(writer, lines),
            _ => Ok(()),
        }
    }

    /// Adds the results of a file.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn add(&mut self, file: &FileRecord) -> Result<(), Error> {
        match self {
            Self::None => Ok(()),
            Self::Writer { writer, format, is_first } => {
                let text = match format {
                    Format::Table(table) => table.describe().text,
                    Format::Lines { .. } => None,
                };
                match (text, format) {
                    (Some(text), _) => {
                        let is_first = IsFirst(std::mem::replace(is_first, false));
                        let rows = text(file, is_first).map_err(|error| Error::Writer(error.to_string()))?;
                        write(writer, &rows)
                    }
                    (None, Format::Lines { with_headers: true }) => write(writer, &file.lines),
                    (None, _) => write(writer, file.split_header().1),
                }
            }
            Self::File { journal, format: Format::Table(format), table } => {
                journal.begin()?;
                let started = match table.take() {
                    Some(table) => table,
                    None => begin(format, journal)?,
                };
                let table = table.insert(started);
                journal.append_file(file)?;
                table.file(file).map_err(|error| incomplete(journal, &*error))
            }
            Self::File { journal, format: Format::Lines { with_headers: true }, .. } => journal.append(&file.lines),
            Self::File { journal, .. } => journal.append(file.split_header().1),
        }
    }

    /// Makes the table of the lines, if there is to be one and it is out of date.
    ///
    /// # Errors
    /// It cannot be written. The lines are kept.
    pub fn finish(self) -> Result<(), Error> {
        let Self::File { mut journal, format, table } = self else { return Ok(()) };
        // A run without any file has an output, too.
        journal.begin()?;
        let Format::Table(format) = format else { return Ok(()) };
        if !journal.has_changed() && is_newer(journal.output(), journal.path()) {
            return Ok(());
        }
        let table = match table {
            Some(table) => table,
            None => begin(format, &journal)?,
        };
        table.finish().map_err(|error| incomplete(&journal, &*error))?;
        make_newer(journal.output(), journal.path());
        Ok(())
    }
}

/// Begins the table of a journal, with the files that are in it.
fn begin(format: &TableFormat, journal: &Journal) -> Result<Box<dyn Table>, Error> {
    let begin = || {
        let mut table = format.begin(journal.output())?;
        journal.read(|file| table.file(file))?;
        Ok(table)
    };
    begin().map_err(|error: TableError| unwritten(journal.output(), &error))
}

/// The error of a table that cannot be written while its lines are.
fn incomplete(journal: &Journal, error: &dyn std::error::Error) -> Error {
    Error::Write {
        path: journal.output().to_owned(),
        reason: error.to_string(),
        remedy: format!("Results are kept in {}; `resume` makes the table of them", journal.path().display()),
    }
}

pub(super) fn write(writer: &mut dyn Write, bytes: &[u8]) -> Result<(), Error> {
    writer.write_all(bytes).and_then(|()| writer.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Error::Closed,
        _ => Error::Writer(error.to_string()),
    })
}

/// Returns whether `table` was written after `lines`: a run may have been killed between the two.
fn is_newer(table: &Path, lines: &Path) -> bool {
    modified(table).zip(modified(lines)).is_some_and(|(table, lines)| table > lines)
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// Makes the time of `table` later than that of `lines`, also where both were written within one tick of the file system's clock.
fn make_newer(table: &Path, lines: &Path) {
    const TICK: Duration = Duration::from_nanos(1);
    if let Some(time) = modified(lines).filter(|_| !is_newer(table, lines)) {
        // Otherwise the next run makes it once more.
        let _ = File::open(table).and_then(|file| file.set_modified(time + TICK));
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;
    use crate::record::Summary;

    fn format_of(path: &Path) -> Format {
        Format::select(None, Some(path)).unwrap()
    }

    fn record(file: &str, frames: usize) -> FileRecord {
        let frame =
            format!("{{\"schema\":2,\"file\":\"{file}\",\"pts_ns\":0,\"width\":1,\"height\":1,\"detections\":[]}}\n");
        let mut lines = frame.repeat(frames).into_bytes();
        lines.extend(Summary::new(file).to_line());
        FileRecord { lines, summary: Summary::new(file) }
    }

    #[test]
    fn an_output_cut_at_any_byte_is_resumed_after_its_last_complete_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let files = [record("a", 2), record("b", 0), record("c", 3)];
        let whole: Vec<u8> = files.iter().flat_map(|record| record.lines.clone()).collect();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut output, done) = OpenOutput::open(&path, format_of(&path), Existing::Resume, None).unwrap();
            for record in files.iter().filter(|record| !done.contains_key(&record.summary.file)) {
                output.add(record).unwrap();
            }
            output.finish().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn nothing_is_overwritten_without_request_or_by_two_runs_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let (mut output, _) = OpenOutput::open(&path, format_of(&path), Existing::Refuse, None).unwrap();
        output.add(&record("a", 1)).unwrap();
        let second = OpenOutput::open(&path, format_of(&path), Existing::Resume, None).err().unwrap();
        assert!(second.to_string().contains("another run"), "{second}");
        drop(output);
        let refused = OpenOutput::open(&path, format_of(&path), Existing::Refuse, None).err().unwrap();
        assert!(refused.to_string().contains("`resume`") && refused.to_string().contains("out.jsonl"), "{refused}");
        // A run that could not be made leaves everything as it was.
        let before = std::fs::read(&path).unwrap();
        drop(OpenOutput::open(&path, format_of(&path), Existing::Overwrite, None).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let new = folder.path().join("new.jsonl");
        drop(OpenOutput::open(&new, format_of(&new), Existing::Refuse, None).unwrap());
        assert!(!new.exists());
        OpenOutput::open(&path, format_of(&path), Existing::Overwrite, None).unwrap().0.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        let foreign = folder.path().join("foreign.jsonl");
        std::fs::write(&foreign, "{\"id\":1}\n").unwrap();
        assert!(
            OpenOutput::open(&foreign, format_of(&foreign), Existing::Resume, None)
                .err()
                .unwrap()
                .to_string()
                .contains("not written by vx")
        );
        let full = folder.path().join("full.parquet");
        std::fs::create_dir(&full).unwrap();
        std::fs::write(full.join("mine"), "").unwrap();
        assert!(
            OpenOutput::open(&full, format_of(&full), Existing::Overwrite, None)
                .err()
                .unwrap()
                .to_string()
                .contains("is a folder")
        );
    }

    #[test]
    fn headers_of_detectors_are_left_out_and_a_journal_has_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let header = |file: &str, model: &str| {
            format!("{{\"schema\":2,\"header\":{{\"file\":\"{file}\",\"detector\":{{\"model\":\"{model}\"}}}}}}\n")
        };
        let with_header = |file: &str, model: &str| {
            let record = record(file, 1);
            FileRecord { lines: [header(file, model).as_bytes(), &record.lines].concat(), ..record }
        };
        let files = [with_header("a", "m"), with_header("b", "m"), with_header("c", "n")];
        let written = |name: &str, format: Format| {
            let path = folder.path().join(name);
            let (mut output, _) = OpenOutput::open(&path, format, Existing::Refuse, None).unwrap();
            files.iter().for_each(|record| output.add(record).unwrap());
            let text = std::fs::read_to_string(output.kept_in().unwrap()).unwrap();
            text.lines().filter(|line| line.contains("header")).map(|line| line.to_owned() + "\n").collect::<Vec<_>>()
        };
        let path = folder.path().join("t.json");
        assert_eq!(written("t.json", format_of(&path)), [header("a", "m"), header("c", "n")]);
        assert!(written("t.jsonl", Format::Lines { with_headers: false }).is_empty());
        assert_eq!(written("h.jsonl", Format::Lines { with_headers: true }).len(), 3);
    }

    #[test]
    fn a_table_is_continued_by_the_lines_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["t.csv", "t.json", "t.parquet"] {
            let path = folder.path().join(name);
            let (mut output, _) = OpenOutput::open(&path, format_of(&path), Existing::Refuse, None).unwrap();
            output.add(&record("a", 1)).unwrap();
            output.add(&record("b", 2)).unwrap();
            output.finish().unwrap();
            let written = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
            let lines = with_suffix(&path, LINES_SUFFIX);
            // That was last night.
            for (path, hours) in [(&lines, 2), (&path, 1)] {
                let time = SystemTime::now() - Duration::from_secs(3600 * hours);
                File::open(path).unwrap().set_modified(time).unwrap();
            }
            let table = written(&path);
            let (output, done) = OpenOutput::open(&path, format_of(&path), Existing::Resume, None).unwrap();
            assert!(done.contains_key("a") && done.contains_key("b"));
            // Nothing is added, so nothing is written.
            output.finish().unwrap();
            assert_eq!(written(&path), table);
            let (mut output, _) = OpenOutput::open(&path, format_of(&path), Existing::Resume, None).unwrap();
            output.add(&record("c", 1)).unwrap();
            // Killed before the table was made: it is made by the next run.
            drop(output);
            assert_eq!(written(&path), table);
            let (output, done) = OpenOutput::open(&path, format_of(&path), Existing::Resume, None).unwrap();
            assert_eq!(done.len(), 3);
            output.finish().unwrap();
            assert!(written(&path) > table);
            std::fs::remove_file(&lines).unwrap();
            let refused = OpenOutput::open(&path, format_of(&path), Existing::Resume, None).err().unwrap();
            assert!(
                refused.to_string().contains("`overwrite`") && refused.to_string().contains(".lines.jsonl"),
                "{refused}"
            );
            assert!(!lines.exists());
        }
    }

    #[test]
    fn an_output_with_an_endless_line_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let line = [b"{\"schema\":2,".as_slice(), &vec![b' '; super::super::results::MAX_LINE as usize]].concat();
        std::fs::write(&path, line).unwrap();
        let refused = OpenOutput::open(&path, format_of(&path), Existing::Resume, None).err().unwrap();
        assert!(refused.to_string().contains("longer than 64 MiB"), "{refused}");
    }

    #[test]
    fn replaced_files_lose_their_lines_when_the_first_result_comes_and_no_other_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let files: Vec<FileRecord> = ["a", "b", "c", "d"].map(|file| record(file, 2)).into();
        let lines = |files: &[&FileRecord]| files.iter().flat_map(|record| record.lines.clone()).collect::<Vec<u8>>();
        let whole = lines(&[&files[0], &files[1], &files[2], &files[3]]);
        let open = || {
            let (mut output, done) = OpenOutput::open(&path, format_of(&path), Existing::Resume, None).unwrap();
            assert_eq!(done.len(), 4);
            output.replace(["a".to_owned(), "c".to_owned()]);
            output
        };
        // A file of that name from an earlier run does not matter.
        std::fs::write(folder.path().join("out.jsonl.new"), "left").unwrap();
        std::fs::write(&path, [whole.as_slice(), b"{\"cut"].concat()).unwrap();
        drop(open());
        assert!(std::fs::read(&path).unwrap().starts_with(&whole));
        let mut output = open();
        output.add(&files[2]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), lines(&[&files[1], &files[3], &files[2]]));
        // The new file is locked as the old one was.
        assert!(
            OpenOutput::open(&path, format_of(&path), Existing::Resume, None)
                .err()
                .unwrap()
                .to_string()
                .contains("another run")
        );
        output.add(&files[0]).unwrap();
        output.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), lines(&[&files[1], &files[3], &files[2], &files[0]]));
        assert!(!folder.path().join("out.jsonl.new").exists());
        // Through a link the file is replaced, not the link.
        let link = folder.path().join("link.jsonl");
        std::os::unix::fs::symlink("out.jsonl", &link).unwrap();
        let (mut output, _) = OpenOutput::open(&link, format_of(&link), Existing::Resume, None).unwrap();
        output.replace(["b".to_owned()]);
        output.add(&files[1]).unwrap();
        assert!(
            link.is_symlink() && std::fs::read(&path).unwrap() == lines(&[&files[3], &files[2], &files[0], &files[1]])
        );
    }

    #[test]
    fn the_header_is_the_first_line_and_what_differs_from_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let current =
            |confidence: &str| Current::new(&vec![("confidence-threshold".to_owned(), confidence.to_owned())]).unwrap();
        let open = |current: &Current| OpenOutput::open(&path, format_of(&path), Existing::Resume, Some(current));
        let (mut output, _) = open(&current("0.5")).unwrap();
        output.add(&record("a", 1)).unwrap();
        output.add(&record("b", 1)).unwrap();
        drop(output);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("\"header\"").count(), 1);
        assert!(text.starts_with("{\"schema\":2,\"header\":{") && text.contains("\"confidence-threshold\":\"0.5\""));
        let refused = open(&current("-1")).err().unwrap();
        assert!(refused.to_string().contains("confidence-threshold=0.5, now -1 (the default)"), "{refused}");
        // A header without a file is as good as an empty output, and it stays when files are replaced.
        let (mut output, done) = open(&current("0.50")).unwrap();
        assert!(!output.lacks_header() && done.len() == 2);
        output.replace(done.into_keys());
        output.add(&record("c", 1)).unwrap();
        drop(output);
        let header = text.lines().next().unwrap();
        let expected = [header.as_bytes(), b"\n", &record("c", 1).lines].concat();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        std::fs::write(&path, format!("{header}\n{{\"schema\":2,\"fi")).unwrap();
        let (output, done) = open(&current("0.5")).unwrap();
        assert!(done.is_empty());
        output.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{header}\n"));
    }
}
