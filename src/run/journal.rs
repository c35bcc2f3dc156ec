// SPDX-License-Identifier: MIT OR Apache-2.0
//! The journal: a file of JSON lines to which each file's lines are appended in one piece and synced, before anything else is made of
//! them. It is the output itself or lies beside a table.
//!
//! The first line of a new journal is a header with the conditions of the run ([`Conditions`]). Lines of files that are read again are
//! removed by writing the others to a new file that replaces the old one, before the first result is appended: at any moment the file
//! in place is complete. One run at a time has the journal, under a lock of the file. The run's thread writes it.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::{Deref, DerefMut, Range};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::conditions::Current;
use super::error::Error;
use super::file_record::{Assembler, FileRecord};
use super::inputs::with_suffix;
use super::results::MAX_LINE;
use crate::record::{Conditions, HeaderLine, SCHEMA, Status, Summary};

/// What an output says about a file that it contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PastResult {
    pub status: Status,
    pub bytes: Option<u64>,
    pub modified_ns: Option<i64>,
}

/// The files of an output, by name.
pub(super) type Done = HashMap<String, PastResult>;

/// A file that is unlocked when it is closed.
///
/// Closing alone keeps the lock while another process has a copy of the descriptor: one that this process forks has it until it executes
/// its program (flock(2)).
struct LockedFile(File);

impl LockedFile {
    /// Locks a file; returns `None` if another one has locked it. Not all file systems have locks.
    fn lock(file: File) -> Option<Self> {
        let result = file.try_lock();
        (!matches!(result, Err(TryLockError::WouldBlock))).then_some(Self(file))
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for LockedFile {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

/// See the module.
pub(super) struct Journal {
    file: LockedFile,
    path: PathBuf,
    /// The output as the user names it.
    output: PathBuf,
    /// The contents before this run, until it is first written to.
    before: Option<Contents>,
    /// Files whose lines are removed then.
    replaced: HashSet<String>,
    /// The first line of an empty journal.
    header: Vec<u8>,
    /// It did not exist before, and is removed if nothing is written to it.
    is_new: bool,
    /// The last header line of a detector in it.
    detector_header: Vec<u8>,
    /// It has changed in this run, so that a table made of it is out of date.
    has_changed: bool,
}

/// The lines of one file.
struct Section {
    file: String,
    result: PastResult,
    range: Range<u64>,
}

/// The contents of a journal.
#[derive(Default)]
struct Contents {
    header: Range<u64>,
    conditions: Option<Conditions>,
    /// The files, in order.
    sections: Vec<Section>,
    /// The end of the last complete line of a header or a file.
    end: u64,
}

impl Journal {
    /// Opens the journal at `path` of `output`; also returns the files in it, if it is resumed. Changes nothing before the first
    /// result.
    ///
    /// # Errors
    /// It cannot be written, or was made under other conditions.
    pub fn open(path: &Path, output: &Path, resume: bool, current: Option<&Current>) -> Result<(Self, Done), Error> {
        let failed = |error: std::io::Error| unwritten(output, &error);
        let unusable = |reason: &str, remedy: &str| Error::OutputUnusable {
            path: output.to_owned(),
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
        };
        let in_use = || unusable("is being written by another run", "wait for its end, or select another output");
        let is_new = !path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let file = LockedFile::lock(file).ok_or_else(in_use)?;
        // A run that has just ended may have replaced the file.
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        if std::fs::metadata(path).map(identity).ok() != Some(file.metadata().map(identity).map_err(failed)?) {
            return Err(in_use());
        }
        let mut before = Contents::default();
        if resume {
            before =
                Contents::read(&file).map_err(failed)?.map_err(|reason| unusable(&reason, "select another output"))?;
        }
        if let Some((current, then)) = current.zip(before.conditions.as_ref()) {
            let differences = current.differences(then);
            if !differences.is_empty() {
                return Err(Error::OutputDiffers { path: output.to_owned(), differences });
            }
        }
        let done = before.sections.iter().map(|section| (section.file.clone(), section.result)).collect();
        let journal = Self {
            file,
            // Without links, so that a new file replaces the file and not a link to it.
            path: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
            output: output.to_owned(),
            before: Some(before),
            replaced: HashSet::new(),
            header: current.map(|current| HeaderLine::of_run(current.conditions.clone()).to_line()).unwrap_or_default(),
            detector_header: Vec::new(),
            is_new,
            has_changed: false,
        };
        Ok((journal, done))
    }

    /// Removes incomplete lines, and the lines of files that are replaced. Does so once, before the first result.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(&mut self) -> Result<(), Error> {
        let Some(before) = self.before.take() else { return Ok(()) };
        let prepared = if before.sections.iter().any(|section| self.replaced.contains(&section.file)) {
            self.rewrite(&before)
        } else {
            self.truncate(before.end)
        };
        prepared.map_err(|error| {
            self.before = Some(before);
            unwritten(&self.output, &error)
        })
    }

    fn truncate(&mut self, end: u64) -> std::io::Result<()> {
        // The file is not touched without need: its time decides whether the table is up to date.
        if self.file.metadata()?.len() != end {
            self.file.set_len(end)?;
            self.has_changed = true;
        }
        self.file.seek(SeekFrom::Start(end))?;
        if end == 0 && !self.header.is_empty() {
            self.file.write_all(&self.header)?;
            self.file.sync_data()?;
            self.has_changed = true;
        }
        Ok(())
    }

    /// Replaces the file by one without the lines of the files that are replaced.
    fn rewrite(&mut self, before: &Contents) -> std::io::Result<()> {
        let path = with_suffix(&self.path, ".new");
        let options = || OpenOptions::new().read(true).write(true).create(true).truncate(true).to_owned();
        // Other runs find it locked.
        let new = options().open(&path)?;
        let mut new = LockedFile::lock(new).ok_or(std::io::ErrorKind::ResourceBusy)?;
        let mut copy = || {
            new.set_permissions(self.file.metadata()?.permissions())?;
            let kept = before.sections.iter().filter(|section| !self.replaced.contains(&section.file));
            for range in std::iter::once(&before.header).chain(kept.map(|section| &section.range)) {
                self.file.seek(SeekFrom::Start(range.start))?;
                std::io::copy(&mut (&*self.file).take(range.end - range.start), &mut *new)?;
            }
            new.sync_all()?;
            std::fs::rename(&path, &self.path)
        };
        let copied = copy();
        if copied.is_err() {
            // The old file is unchanged.
            let _ = std::fs::remove_file(&path);
            return copied;
        }
        if let Some(folder) = self.path.parent().and_then(|folder| File::open(folder).ok()) {
            // Not all file systems can; the next run may then find the old file, which is complete, too.
            let _ = folder.sync_all();
        }
        self.file = new;
        self.has_changed = true;
        Ok(())
    }

    /// Appends the lines of a file; its header only if the detector is another one than in the last header: with all names of classes
    /// it may be longer than the rest.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append_file(&mut self, file: &FileRecord) -> Result<(), Error> {
        let (header, rest) = file.split_header();
        let detector =
            |header: &[u8]| memchr::memmem::find(header, br#","detector":"#).map(|start| header[start..].to_vec());
        if header.is_empty() || detector(header) == detector(&self.detector_header) {
            return self.append(rest);
        }
        self.detector_header = header.to_vec();
        self.append(&file.lines)
    }

    /// Appends lines and syncs them.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), Error> {
        self.begin()?;
        self.has_changed = true;
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| Error::Write {
            path: self.output.clone(),
            reason: error.to_string(),
            remedy: "Earlier results are kept; `resume` continues when there is room".to_owned(),
        })
    }

    /// Removes the lines of `files` before the first result is appended.
    pub fn replace(&mut self, files: impl IntoIterator<Item = String>) {
        self.replaced.extend(files);
    }

    /// Passes the records of all files in it to `take`.
    ///
    /// # Errors
    /// The journal cannot be read; the error of `take`.
    pub fn read(
        &self,
        mut take: impl FnMut(&FileRecord) -> Result<(), Box<dyn std::error::Error>>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let (mut assembler, mut block) = (Assembler::default(), vec![0; 1 << 16]);
        let mut file = File::open(&self.path)?;
        loop {
            let length = file.read(&mut block)?;
            if length == 0 {
                return Ok(());
            }
            for mut file in assembler.push(&block[..length]) {
                file.remove_first_line_if(|line| conditions_in(line).is_some());
                take(&file)?;
            }
        }
    }

    /// Returns the path of the file of lines.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the output as the user names it.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// Returns whether it did not exist before this run.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Returns whether it has changed in this run.
    pub fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// Returns whether it has results but no header, so that their conditions are not known.
    pub fn lacks_header(&self) -> bool {
        self.before.as_ref().is_some_and(|before| before.end > 0 && before.conditions.is_none())
    }
}

/// The error of an output that cannot be written, before anything was.
pub(super) fn unwritten(output: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Write {
        path: output.to_owned(),
        reason: error.to_string(),
        remedy: "Select a file that can be written".to_owned(),
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.is_new && self.before.is_some() {
            // It is empty, so nothing is lost if it stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Contents {
    /// Reads a journal up to its last complete file. Returns the reason if it has a line that is not one of this schema; only the last
    /// one may be incomplete.
    fn read(mut file: &File) -> std::io::Result<Result<Self, String>> {
        file.rewind()?;
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let (mut line, mut position, mut number) = (Vec::new(), 0, 0);
        let mut contents = Self::default();
        loop {
            line.clear();
            let length = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
            let is_complete = line.last() == Some(&b'\n');
            number += 1;
            if !is_complete && length == MAX_LINE {
                return Ok(Err(format!("line {number} is longer than {} MiB, which no line of vx is", MAX_LINE >> 20)));
            }
            if (is_complete || number == 1)
                && let Err(reason) = check_schema(&line)
            {
                return Ok(Err(format!("line {number} {reason}")));
            }
            if !is_complete {
                return Ok(Ok(contents));
            }
            if position == 0
                && let Some(conditions) = conditions_in(&line)
            {
                contents.conditions = Some(conditions);
                contents.header = 0..length;
                contents.end = length;
            }
            position += length;
            if let Some(summary) = Summary::from_line(&line) {
                let Summary { file, status, bytes, modified_ns, .. } = summary;
                let result = PastResult { status, bytes, modified_ns };
                contents.sections.push(Section { file, result, range: contents.end..position });
                contents.end = position;
            }
        }
    }
}

/// Returns the conditions in a header line, if it is one of a run.
fn conditions_in(line: &[u8]) -> Option<Conditions> {
    HeaderLine::from_line(line)?.header.run
}

/// Checks that a line, or the beginning of one, is of this schema; otherwise returns the reason to refuse it.
fn check_schema(line: &[u8]) -> Result<(), String> {
    const BEGINNING: &str = r#"{"schema":"#;
    let expected = format!("{BEGINNING}{SCHEMA},");
    let length = line.len().min(expected.len());
    if line[..length] == expected.as_bytes()[..length] {
        Ok(())
    } else if line.starts_with(BEGINNING.as_bytes()) {
        Err(format!("was written by another version of vx, whose lines differ (not schema {SCHEMA})"))
    } else {
        Err("was not written by vx".to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_descriptor_in_another_process_does_not_keep_the_lock() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let open = || LockedFile::lock(File::open(&path).unwrap());
        let file = open().unwrap();
        assert!(open().is_none());
        // As a process has it that is being started.
        let copy = file.try_clone().unwrap();
        drop(file);
        assert!(open().is_some());
        drop(copy);
    }
}
