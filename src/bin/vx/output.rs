//! Where results go: lines as they come to standard output or into a file, or a table made of such lines at the end.
//!
//! Every result is first appended, a file's lines and its summary in one piece and made durable, to a file of JSON lines: the
//! output itself, or a journal beside it that is removed when the table is there. So there is one way to take up a run that
//! was cut.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::files::with_suffix;
use crate::tables::{Parts, Table, Whole};
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
    /// A table of a run that was not cut: nothing is to be done.
    Complete(PathBuf),
    /// Lines in a file, and the table that they become.
    File { lines: Lines, table: Option<Becoming> },
}

/// A table that the lines become.
pub enum Becoming {
    /// At the end.
    Whole(Whole, PathBuf),
    /// As they come.
    Parts(Box<Parts>),
}

/// A file of JSON lines that only grows.
pub struct Lines {
    file: File,
    path: PathBuf,
}

impl Output {
    /// Opens `path`; also gives the summaries' files that are in it already, with [`Existing::Resume`].
    ///
    /// # Errors
    /// What keeps it from being written, with its name.
    pub fn open(path: Option<&Path>, existing: Existing) -> Result<(Self, HashSet<String>), String> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return if existing == Existing::Resume {
                Err("--resume takes up a file: name it with --output".to_owned())
            } else {
                Ok((Self::Standard, HashSet::new()))
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
        if existing == Existing::Resume && table.is_some() && path.exists() && !journal.exists() {
            return Ok((Self::Complete(path.to_owned()), HashSet::new()));
        }
        let (lines, done) = Lines::open(&journal, existing == Existing::Resume)?;
        let table = match table {
            None => None,
            Some(Table::Whole(whole)) => Some(Becoming::Whole(whole, path.to_owned())),
            Some(Table::Parts) => Some(Becoming::Parts(Box::new(parts_of(path, &journal)?))),
        };
        Ok((Self::File { lines, table }, done))
    }

    /// Adds what a file came to.
    ///
    /// # Errors
    /// What keeps it from being written, with the output's name.
    pub fn add(&mut self, unit: &Unit) -> Result<(), String> {
        match self {
            Self::Standard => print(&unit.lines),
            Self::Complete(_) => Ok(()),
            Self::File { lines, table } => {
                lines.append(&unit.lines)?;
                let Some(Becoming::Parts(parts)) = table else { return Ok(()) };
                parts.add(&unit.lines).map_err(|error| unwritten(parts.path(), &lines.path, &*error))
            }
        }
    }

    /// Makes the table of the lines, if there is to be one.
    ///
    /// # Errors
    /// What keeps it from being written. The lines are kept then.
    pub fn finish(self) -> Result<(), String> {
        let Self::File { lines: Lines { file, path: journal }, table: Some(table) } = self else {
            return Ok(());
        };
        let (path, written) = match table {
            Becoming::Whole(whole, path) => {
                let written = whole.write(&journal, &path);
                (path, written)
            }
            Becoming::Parts(parts) => (parts.path().to_owned(), parts.finish()),
        };
        written.map_err(|error| unwritten(&path, &journal, &*error))?;
        // Only now is nobody else's run taking it for one to be resumed.
        drop(file);
        std::fs::remove_file(&journal).map_err(|error| format!("{}: {error}", journal.display()))
    }
}

/// Writes to standard output.
///
/// # Errors
/// What keeps it from being written.
pub fn print(lines: &[u8]) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(lines).and_then(|()| out.flush());
    written.map_err(|error| format!("standard output cannot be written: {error}"))
}

fn unwritten(path: &Path, journal: &Path, error: &dyn std::error::Error) -> String {
    format!("{} cannot be written: {error}. What was found is in {}", path.display(), journal.display())
}

/// The table at `path` with what is in `journal` already.
fn parts_of(path: &Path, journal: &Path) -> Result<Parts, String> {
    let begin = || {
        let mut parts = Parts::create(path)?;
        let (mut file, mut units, mut block) = (File::open(journal)?, Units::default(), vec![0; 1 << 16]);
        loop {
            let length = file.read(&mut block)?;
            if length == 0 {
                return Ok(parts);
            }
            for unit in units.push(&block[..length]) {
                parts.add(&unit.lines)?;
            }
        }
    };
    begin().map_err(|error: Box<dyn std::error::Error>| format!("{} cannot be written: {error}", path.display()))
}

impl Lines {
    fn open(path: &Path, resume: bool) -> Result<(Self, HashSet<String>), String> {
        let failed = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        file.try_lock().map_err(|_| format!("another run is writing {}", path.display()))?;
        let (end, done) = if resume { complete_part(&file).map_err(failed)? } else { (0, HashSet::new()) };
        file.set_len(end).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok((Self { file, path: path.to_owned() }, done))
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), String> {
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| format!("{} cannot be written: {error}", self.path.display()))
    }
}

/// Where the last complete unit of a file of lines ends, and the files of all complete ones.
fn complete_part(file: &File) -> std::io::Result<(u64, HashSet<String>)> {
    let mut reader = BufReader::new(file);
    let (mut line, mut position, mut end) = (Vec::new(), 0, 0);
    let mut done = HashSet::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 || line.last() != Some(&b'\n') {
            return Ok((end, done));
        }
        position += length as u64;
        if let Some(summary) = summary_in(&line) {
            end = position;
            done.insert(summary.file);
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
            format!("{{\"schema\":1,\"file\":\"{file}\",\"pts_ns\":0,\"width\":1,\"height\":1,\"detections\":[]}}\n");
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
            for unit in units.iter().filter(|unit| !done.contains(&unit.summary.file)) {
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
        Output::open(Some(&path), Existing::Overwrite).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        let unknown = Output::open(Some(&folder.path().join("out.xyz")), Existing::Refuse).err().unwrap();
        assert!(unknown.contains(".parquet"), "{unknown}");
    }
}
