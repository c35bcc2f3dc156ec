//! Where results go: lines as they come to standard output or into a file, or a table made of such lines.
//!
//! Every result is first appended, a file's lines and its summary in one piece and made durable, to a file of JSON lines: the
//! output itself, or a journal beside a table that is removed when that is there. So there is one way to take up a run that
//! was cut. What a table cannot tell, which files were read and which failed, is in a file of summaries beside it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gstvx::elements::bulkbin::Status;
use gstvx::elements::jsonenc::record::SCHEMA;

use crate::files::with_suffix;
use crate::tables::{self, Form, Format, IsFirst, Table, replace};
use crate::unit::{Unit, Units, summary_in};

/// What an output that is there already means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    Resume,
    Overwrite,
}

/// An open output.
pub enum Output {
    /// Lines or rows on standard output.
    Standard { form: Form, is_first: bool },
    /// A table of a run that was not cut.
    Complete(PathBuf),
    /// Lines in a file, and the table that they become.
    File { lines: Lines, form: Form, table: Option<Box<dyn Table>> },
}

/// Files of an output, and how each ended.
pub type Done = HashMap<String, Status>;

/// A file of JSON lines that only grows.
pub struct Lines {
    file: File,
    path: PathBuf,
    /// What the user calls it.
    output: PathBuf,
    /// Where it is cut before anything is added; `None` when that is done.
    cut: Option<u64>,
    /// It was not there before, and goes again if nothing comes into it.
    is_new: bool,
    /// The header line that was added last.
    header: Vec<u8>,
}

impl Output {
    /// Opens `path`; also gives the files that are in it already, with [`Existing::Resume`]. Nothing is changed before the first
    /// result comes.
    ///
    /// # Errors
    /// What keeps it from being written, with its name.
    pub fn open(path: Option<&Path>, form: Form, existing: Existing) -> Result<(Self, Done), String> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return if existing == Existing::Resume {
                Err("--resume takes up a file: name it with --output".to_owned())
            } else {
                Ok((Self::Standard { form, is_first: true }, Done::new()))
            };
        };
        // Without a slash at its end, so that files beside a folder are not within it.
        let path: &Path = &path.components().collect::<PathBuf>();
        let table = match form {
            Form::Lines { .. } => None,
            Form::Table(format) => Some(format),
        };
        let journal = match table {
            None => path.to_owned(),
            Some(_) => with_suffix(path, ".journal.jsonl"),
        };
        let is_there = |path: &Path| path.exists() && !(table.is_some_and(Format::is_folder) && is_empty(path));
        if existing == Existing::Refuse
            && let Some(there) = [path, &journal].into_iter().find(|path| is_there(path))
        {
            return Err(format!("{} is there already: --resume takes it up, --overwrite begins anew", there.display()));
        }
        if path.is_dir() && !table.is_some_and(|format| (format.is_own_folder)(path)) {
            return Err(format!("{} is a folder, and not of this program's making: name a file", path.display()));
        }
        if existing == Existing::Resume && table.is_some() && is_there(path) && !journal.exists() {
            let summaries = with_suffix(path, SUMMARIES);
            let done = File::open(&summaries).and_then(|file| complete_part(&file)).map_err(|error| {
                format!(
                    "{} is complete, and of which files is not known ({}: {error}); --overwrite begins anew",
                    path.display(),
                    summaries.display()
                )
            })?;
            return Ok((Self::Complete(path.to_owned()), done.1));
        }
        let (lines, done) = Lines::open(&journal, path, existing == Existing::Resume)?;
        Ok((Self::File { lines, form, table: None }, done))
    }

    /// Where what was found is kept if the run ends now; `None` for standard output.
    pub fn kept_in(&self) -> Option<&Path> {
        match self {
            Self::File { lines, .. } => Some(&lines.path),
            Self::Standard { .. } | Self::Complete(_) => None,
        }
    }

    /// The file that this run has made, if it was not there before.
    pub fn new_file(&self) -> Option<&Path> {
        match self {
            Self::File { lines, .. } if lines.is_new => Some(&lines.path),
            _ => None,
        }
    }

    /// Adds what a file came to.
    ///
    /// # Errors
    /// What keeps it from being written, with the output's name.
    pub fn add(&mut self, unit: &Unit) -> Result<(), String> {
        match self {
            Self::Standard { form: Form::Table(Format { text: Some(text), .. }), is_first } => {
                let is_first = IsFirst(std::mem::replace(is_first, false));
                let rows = text(unit, is_first).map_err(|error| format!("rows cannot be written: {error}"))?;
                print(&rows)
            }
            Self::Standard { form: Form::Lines { with_headers: true }, .. } => print(&unit.lines),
            Self::Standard { .. } => print(unit.split_header().1),
            Self::Complete(_) => Ok(()),
            Self::File { lines, form: Form::Table(format), table } => {
                let begun = match table.take() {
                    Some(table) => table,
                    None => begin(format, lines)?,
                };
                let begun = table.insert(begun);
                lines.append_once(unit)?;
                begun.file(unit).map_err(|error| unwritten(&lines.output, &lines.path, &*error))
            }
            Self::File { lines, form: Form::Lines { with_headers: true }, .. } => lines.append(&unit.lines),
            Self::File { lines, .. } => lines.append(unit.split_header().1),
        }
    }

    /// Makes the table of the lines, if there is to be one.
    ///
    /// # Errors
    /// What keeps it from being written. The lines are kept then.
    pub fn finish(self) -> Result<(), String> {
        let Self::File { mut lines, form, table } = self else { return Ok(()) };
        let table = match (form, table) {
            (Form::Lines { .. }, _) => None,
            (Form::Table(format), None) => Some(begin(format, &lines)?),
            (_, table) => table,
        };
        // Also of a run in which there was nothing to be done there is an output.
        lines.begin()?;
        let Some(table) = table else { return Ok(()) };
        let journal = lines.path.clone();
        let path = lines.output.clone();
        let write = || {
            write_summaries(&journal, &with_suffix(&path, SUMMARIES))?;
            table.finish()
        };
        write().map_err(|error| unwritten(&path, &journal, &*error))?;
        // While it is locked nobody can take it for one to be resumed.
        let removed = std::fs::remove_file(&journal).map_err(|error| format!("{}: {error}", journal.display()));
        drop(lines);
        removed
    }
}

/// Of the summaries' file beside a table.
const SUMMARIES: &str = ".files.jsonl";

/// Takes the summaries out of the lines.
fn write_summaries(journal: &Path, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    replace(path, |out| {
        let mut reader = BufReader::new(File::open(journal)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if summary_in(&line).is_some() {
                out.write_all(&line)?;
            }
            line.clear();
        }
        Ok(())
    })
}

/// Nobody listens to standard output.
pub const UNREAD: &str = "standard output is read no more";

/// Writes to standard output.
///
/// # Errors
/// What keeps it from being written.
pub fn print(lines: &[u8]) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(lines).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => UNREAD.to_owned(),
        _ => format!("standard output cannot be written: {error}"),
    })
}

fn unwritten(path: &Path, journal: &Path, error: &dyn std::error::Error) -> String {
    format!("{} cannot be written: {error}. What was found is in {}", path.display(), journal.display())
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Begins the table of the output of `lines`, with what is in these already.
fn begin(format: &Format, lines: &Lines) -> Result<Box<dyn Table>, String> {
    let path = &lines.output;
    let begin = || {
        let mut table = (format.begin)(path)?;
        let (mut units, mut block) = (Units::default(), vec![0; 1 << 16]);
        let mut file = File::open(&lines.path)?.take(lines.cut.unwrap_or(u64::MAX));
        loop {
            let length = file.read(&mut block)?;
            if length == 0 {
                return Ok(table);
            }
            for unit in units.push(&block[..length]) {
                table.file(&unit)?;
            }
        }
    };
    begin().map_err(|error: tables::Error| format!("{} cannot be written: {error}", path.display()))
}

impl Lines {
    fn open(path: &Path, output: &Path, resume: bool) -> Result<(Self, Done), String> {
        let failed = |error: std::io::Error| format!("{} cannot be written: {error}", output.display());
        let is_new = !path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        // Where files cannot be locked, nobody looks after that.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(format!("another run is writing {}", output.display()));
        }
        if resume {
            check_schema(&file).map_err(failed)?.map_err(|reason| format!("{} {reason}", output.display()))?;
        }
        let (end, done) = if resume { complete_part(&file).map_err(failed)? } else { (0, Done::new()) };
        Ok((
            Self { file, path: path.to_owned(), output: output.to_owned(), cut: Some(end), is_new, header: Vec::new() },
            done,
        ))
    }

    /// Takes away what is not complete.
    fn begin(&mut self) -> Result<(), String> {
        let Some(end) = self.cut else { return Ok(()) };
        let cut = self.file.set_len(end).and_then(|()| self.file.seek(SeekFrom::Start(end)));
        cut.map_err(|error| format!("{} cannot be written: {error}", self.output.display()))?;
        self.cut = None;
        Ok(())
    }

    /// Adds what a file came to, its header line only where what it says of the detector is new: with all names of classes it may be
    /// longer than the rest.
    fn append_once(&mut self, unit: &Unit) -> Result<(), String> {
        let (header, rest) = unit.split_header();
        let detector =
            |header: &[u8]| memchr::memmem::find(header, br#","detector":"#).map(|start| header[start..].to_vec());
        if header.is_empty() || detector(header) == detector(&self.header) {
            return self.append(rest);
        }
        self.header = header.to_vec();
        self.append(&unit.lines)
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), String> {
        self.begin()?;
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| {
            format!(
                "{} cannot be written: {error}. What was found before is kept; --resume goes on when there is room",
                self.output.display()
            )
        })
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if self.is_new && self.cut.is_some() {
            // It is empty, so nothing is lost if it stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Checks that a file of lines is empty or begins with a line of this schema; otherwise returns the reason to refuse it.
fn check_schema(file: &File) -> std::io::Result<Result<(), String>> {
    const BEGINNING: &str = r#"{"schema":"#;
    let expected = format!("{BEGINNING}{SCHEMA},");
    let mut reader = file;
    reader.rewind()?;
    let mut head = Vec::new();
    reader.take(expected.len() as u64).read_to_end(&mut head)?;
    reader.rewind()?;
    Ok(if expected.as_bytes().starts_with(&head) {
        Ok(())
    } else if head.starts_with(BEGINNING.as_bytes()) {
        Err(format!(
            "was written by another version of vx, whose lines differ (not schema {SCHEMA}): select another output"
        ))
    } else {
        Err("was not written by vx: select another output".to_owned())
    })
}

/// Where the last complete unit of a file of lines ends, and the files of all complete ones.
fn complete_part(file: &File) -> std::io::Result<(u64, Done)> {
    let mut reader = BufReader::new(file);
    let (mut line, mut position, mut end) = (Vec::new(), 0, 0);
    let mut done = Done::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 || line.last() != Some(&b'\n') {
            return Ok((end, done));
        }
        position += length as u64;
        if let Some(summary) = summary_in(&line) {
            end = position;
            done.insert(summary.file, summary.status);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use gstvx::elements::bulkbin::Summary;

    use super::*;

    fn form(path: &Path) -> Form {
        Form::choose(None, Some(path)).unwrap()
    }

    fn unit(file: &str, frames: usize) -> Unit {
        let frame =
            format!("{{\"schema\":2,\"file\":\"{file}\",\"pts_ns\":0,\"width\":1,\"height\":1,\"detections\":[]}}\n");
        let mut lines = frame.repeat(frames).into_bytes();
        lines.extend(Summary::new(file).to_line());
        Unit { lines, summary: Summary::new(file) }
    }

    #[test]
    fn an_output_cut_at_any_byte_is_taken_up_at_its_last_complete_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let units = [unit("a", 2), unit("b", 0), unit("c", 3)];
        let whole: Vec<u8> = units.iter().flat_map(|unit| unit.lines.clone()).collect();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut output, done) = Output::open(Some(&path), form(&path), Existing::Resume).unwrap();
            for unit in units.iter().filter(|unit| !done.contains_key(&unit.summary.file)) {
                output.add(unit).unwrap();
            }
            output.finish().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn nothing_is_overwritten_unasked_nor_by_two_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let (mut output, _) = Output::open(Some(&path), form(&path), Existing::Refuse).unwrap();
        output.add(&unit("a", 1)).unwrap();
        let second = Output::open(Some(&path), form(&path), Existing::Resume).err().unwrap();
        assert!(second.contains("another run"), "{second}");
        drop(output);
        let refused = Output::open(Some(&path), form(&path), Existing::Refuse).err().unwrap();
        assert!(refused.contains("--resume") && refused.contains("out.jsonl"), "{refused}");
        // A run that could not be made leaves everything as it was.
        let before = std::fs::read(&path).unwrap();
        drop(Output::open(Some(&path), form(&path), Existing::Overwrite).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let new = folder.path().join("new.jsonl");
        drop(Output::open(Some(&new), form(&new), Existing::Refuse).unwrap());
        assert!(!new.exists());
        Output::open(Some(&path), form(&path), Existing::Overwrite).unwrap().0.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        let foreign = folder.path().join("foreign.jsonl");
        std::fs::write(&foreign, "{\"id\":1}\n").unwrap();
        assert!(
            Output::open(Some(&foreign), form(&foreign), Existing::Resume).err().unwrap().contains("not written by vx")
        );
        let full = folder.path().join("full.parquet");
        std::fs::create_dir(&full).unwrap();
        std::fs::write(full.join("mine"), "").unwrap();
        assert!(Output::open(Some(&full), form(&full), Existing::Overwrite).err().unwrap().contains("is a folder"));
    }

    #[test]
    fn lines_about_the_detector_are_left_out_and_a_journal_has_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let header = |file: &str, model: &str| {
            format!("{{\"schema\":2,\"header\":{{\"file\":\"{file}\",\"detector\":{{\"model\":\"{model}\"}}}}}}\n")
        };
        let with_header = |file: &str, model: &str| {
            let unit = unit(file, 1);
            Unit { lines: [header(file, model).as_bytes(), &unit.lines].concat(), ..unit }
        };
        let units = [with_header("a", "m"), with_header("b", "m"), with_header("c", "n")];
        let written = |name: &str, form: Form| {
            let path = folder.path().join(name);
            let (mut output, _) = Output::open(Some(&path), form, Existing::Refuse).unwrap();
            units.iter().for_each(|unit| output.add(unit).unwrap());
            let text = std::fs::read_to_string(output.kept_in().unwrap()).unwrap();
            text.lines().filter(|line| line.contains("header")).map(|line| line.to_owned() + "\n").collect::<Vec<_>>()
        };
        let path = folder.path().join("t.json");
        assert_eq!(written("t.json", form(&path)), [header("a", "m"), header("c", "n")]);
        assert!(written("t.jsonl", Form::Lines { with_headers: false }).is_empty());
        assert_eq!(written("h.jsonl", Form::Lines { with_headers: true }).len(), 3);
    }

    #[test]
    fn a_table_that_is_complete_tells_of_which_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["t.csv", "t.json", "t.parquet"] {
            let path = folder.path().join(name);
            let (mut output, _) = Output::open(Some(&path), form(&path), Existing::Refuse).unwrap();
            output.add(&unit("a", 1)).unwrap();
            output.add(&unit("b", 2)).unwrap();
            output.finish().unwrap();
            let (output, done) = Output::open(Some(&path), form(&path), Existing::Resume).unwrap();
            assert!(matches!(output, Output::Complete(_)) && done.contains_key("a") && done.contains_key("b"));
            std::fs::remove_file(with_suffix(&path, SUMMARIES)).unwrap();
            assert!(Output::open(Some(&path), form(&path), Existing::Resume).err().unwrap().contains("--overwrite"));
        }
    }
}
