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
use crate::tables::{Parts, Table, Whole, is_of_parts, replace};
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
    /// Lines on standard output.
    Standard,
    /// A table of a run that was not cut.
    Complete(PathBuf),
    /// Lines in a file, and the table that they become.
    File { lines: Lines, table: Option<Becoming> },
}

/// A table that the lines become.
pub enum Becoming {
    /// At the end.
    Whole(Whole, PathBuf),
    /// As they come, from the first on.
    Parts(Option<Box<Parts>>, PathBuf),
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
}

impl Output {
    /// Opens `path`; also gives the files that are in it already, with [`Existing::Resume`]. Nothing is changed before the first
    /// result comes.
    ///
    /// # Errors
    /// What keeps it from being written, with its name.
    pub fn open(path: Option<&Path>, existing: Existing) -> Result<(Self, Done), String> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return if existing == Existing::Resume {
                Err("--resume takes up a file: name it with --output".to_owned())
            } else {
                Ok((Self::Standard, Done::new()))
            };
        };
        let table = Table::for_path(path)?;
        let journal = match table {
            None => path.to_owned(),
            Some(_) => with_suffix(path, ".journal.jsonl"),
        };
        if existing == Existing::Refuse
            && let Some(there) = [path, &journal].into_iter().find(|path| path.exists())
        {
            return Err(format!("{} is there already: --resume takes it up, --overwrite begins anew", there.display()));
        }
        if path.is_dir() && !(table == Some(Table::Parts) && is_of_parts(path)) {
            return Err(format!("{} is a folder, and not of this program's making: name a file", path.display()));
        }
        if existing == Existing::Resume && table.is_some() && path.exists() && !journal.exists() {
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
        let table = match table {
            None => None,
            Some(Table::Whole(whole)) => Some(Becoming::Whole(whole, path.to_owned())),
            Some(Table::Parts) => Some(Becoming::Parts(None, path.to_owned())),
        };
        Ok((Self::File { lines, table }, done))
    }

    /// Where what was found is kept if the run ends now; `None` for standard output.
    pub fn kept_in(&self) -> Option<&Path> {
        match self {
            Self::File { lines, .. } => Some(&lines.path),
            Self::Standard | Self::Complete(_) => None,
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
            Self::Standard => print(&unit.lines),
            Self::Complete(_) => Ok(()),
            Self::File { lines, table: Some(Becoming::Parts(parts, path)) } => {
                let begun = match parts.take() {
                    Some(parts) => parts,
                    None => parts_of(path, lines)?,
                };
                let begun = parts.insert(begun);
                lines.append(&unit.lines)?;
                begun.add(&unit.lines).map_err(|error| unwritten(path, &lines.path, &*error))
            }
            Self::File { lines, .. } => lines.append(&unit.lines),
        }
    }

    /// Makes the table of the lines, if there is to be one.
    ///
    /// # Errors
    /// What keeps it from being written. The lines are kept then.
    pub fn finish(self) -> Result<(), String> {
        let Self::File { mut lines, table } = self else { return Ok(()) };
        // Also of a run in which there was nothing to be done there is an output.
        lines.begin()?;
        let Some(table) = table else { return Ok(()) };
        let journal = lines.path.clone();
        let path = lines.output.clone();
        let table = match table {
            Becoming::Parts(None, path) => Becoming::Parts(Some(parts_of(&path, &lines)?), path),
            other => other,
        };
        let write = || {
            write_summaries(&journal, &with_suffix(&path, SUMMARIES))?;
            match table {
                Becoming::Whole(whole, path) => whole.write(&journal, &path),
                Becoming::Parts(parts, _) => parts.map_or(Ok(()), |parts| parts.finish()),
            }
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

/// The table at `path` with what is in `lines` already.
fn parts_of(path: &Path, lines: &Lines) -> Result<Box<Parts>, String> {
    let begin = || {
        let mut parts = Parts::create(path)?;
        let (mut units, mut block) = (Units::default(), vec![0; 1 << 16]);
        let mut file = File::open(&lines.path)?.take(lines.cut.unwrap_or(u64::MAX));
        loop {
            let length = file.read(&mut block)?;
            if length == 0 {
                return Ok(Box::new(parts));
            }
            for unit in units.push(&block[..length]) {
                parts.add(&unit.lines)?;
            }
        }
    };
    begin().map_err(|error: Box<dyn std::error::Error>| format!("{} cannot be written: {error}", path.display()))
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
        Ok((Self { file, path: path.to_owned(), output: output.to_owned(), cut: Some(end), is_new }, done))
    }

    /// Takes away what is not complete.
    fn begin(&mut self) -> Result<(), String> {
        let Some(end) = self.cut else { return Ok(()) };
        let cut = self.file.set_len(end).and_then(|()| self.file.seek(SeekFrom::Start(end)));
        cut.map_err(|error| format!("{} cannot be written: {error}", self.output.display()))?;
        self.cut = None;
        Ok(())
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
            let (mut output, done) = Output::open(Some(&path), Existing::Resume).unwrap();
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
        let (mut output, _) = Output::open(Some(&path), Existing::Refuse).unwrap();
        output.add(&unit("a", 1)).unwrap();
        let second = Output::open(Some(&path), Existing::Resume).err().unwrap();
        assert!(second.contains("another run"), "{second}");
        drop(output);
        let refused = Output::open(Some(&path), Existing::Refuse).err().unwrap();
        assert!(refused.contains("--resume") && refused.contains("out.jsonl"), "{refused}");
        // A run that could not be made leaves everything as it was.
        let before = std::fs::read(&path).unwrap();
        drop(Output::open(Some(&path), Existing::Overwrite).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let new = folder.path().join("new.jsonl");
        drop(Output::open(Some(&new), Existing::Refuse).unwrap());
        assert!(!new.exists());
        Output::open(Some(&path), Existing::Overwrite).unwrap().0.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        let foreign = folder.path().join("foreign.jsonl");
        std::fs::write(&foreign, "{\"id\":1}\n").unwrap();
        assert!(Output::open(Some(&foreign), Existing::Resume).err().unwrap().contains("not written by vx"));
        let full = folder.path().join("full.parquet");
        std::fs::create_dir(&full).unwrap();
        std::fs::write(full.join("mine"), "").unwrap();
        assert!(Output::open(Some(&full), Existing::Overwrite).err().unwrap().contains("is a folder"));
        let unknown = Output::open(Some(&folder.path().join("out.xyz")), Existing::Refuse).err().unwrap();
        assert!(unknown.contains(".parquet"), "{unknown}");
    }

    #[test]
    fn a_table_that_is_complete_tells_of_which_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["t.csv", "t.json", "t.parquet"] {
            let path = folder.path().join(name);
            let (mut output, _) = Output::open(Some(&path), Existing::Refuse).unwrap();
            output.add(&unit("a", 1)).unwrap();
            output.add(&unit("b", 2)).unwrap();
            output.finish().unwrap();
            let (output, done) = Output::open(Some(&path), Existing::Resume).unwrap();
            assert!(matches!(output, Output::Complete(_)) && done.contains_key("a") && done.contains_key("b"));
            std::fs::remove_file(with_suffix(&path, SUMMARIES)).unwrap();
            assert!(Output::open(Some(&path), Existing::Resume).err().unwrap().contains("--overwrite"));
        }
    }
}
