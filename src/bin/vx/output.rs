//! Where results go: lines as they come to standard output or into a file, or a table made of such lines.
//!
//! Every result is first appended, a file's lines and its summary in one piece and made durable, to a file of JSON lines: the
//! output itself, or `OUTPUT.lines.jsonl` beside a table, which is kept: the next run adds to it, and the table is made of it
//! anew. So there is one way to continue an output, interrupted or complete.
//!
//! The first line of such a file is a header with the conditions under which it was made ([`Conditions`]). Lines of files that
//! are read again are removed by writing the rest to a new file that replaces the old one, before the first result is added:
//! at any moment the file that is there is whole.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gstvx::elements::bulkbin::{Status, Summary};
use gstvx::elements::jsonenc::record::SCHEMA;

use crate::conditions::{Conditions, Current};
use crate::files::with_suffix;
use crate::tables::{self, Form, Format, IsFirst, Table};
use crate::terminal::is_stdout_closed;
use crate::unit::{Unit, Units, summary_in};

/// What an output that exists already means.
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
    /// Lines in a file, and the table that they become.
    File { lines: Box<Lines>, form: Form, table: Option<Box<dyn Table>> },
}

/// What an output says of a file that is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    pub status: Status,
    pub bytes: Option<u64>,
    pub modified_ns: Option<i64>,
}

/// Files of an output.
pub type Done = HashMap<String, Past>;

/// A file of JSON lines to which files' lines are added.
pub struct Lines {
    file: File,
    path: PathBuf,
    /// What the user calls it.
    output: PathBuf,
    /// What is in it, until it is first written to.
    before: Option<Before>,
    /// Files whose lines are removed then.
    replaced: HashSet<String>,
    /// The line that it begins with if it is empty.
    header: Vec<u8>,
    /// It was not there before, and goes again if nothing comes into it.
    is_new: bool,
    /// The detector's header line that was added last.
    detector_header: Vec<u8>,
    /// The table is no longer what it would become.
    has_changed: bool,
}

/// The lines of one file.
struct Piece {
    file: String,
    past: Past,
    range: Range<u64>,
}

/// What a file of lines holds.
#[derive(Default)]
struct Before {
    header: Range<u64>,
    conditions: Option<Conditions>,
    /// Files in their order, and where their lines are.
    files: Vec<Piece>,
    /// Where what is complete ends.
    end: u64,
}

impl Output {
    /// Opens `path`; also gives the files that are in it already, with [`Existing::Resume`]. Nothing is changed before the first
    /// result comes.
    ///
    /// # Errors
    /// What keeps it from being written, with its name; with [`Existing::Resume`], how it was made under other conditions.
    pub fn open(
        path: Option<&Path>,
        form: Form,
        existing: Existing,
        current: Option<&Current>,
    ) -> Result<(Self, Done), String> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return if existing == Existing::Resume {
                Err("--resume continues a file: name it with --output".to_owned())
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
        let lines_path = match table {
            None => path.to_owned(),
            Some(_) => with_suffix(path, LINES),
        };
        let is_there = |path: &Path| path.exists() && !(table.is_some_and(Format::is_folder) && is_empty(path));
        if existing == Existing::Refuse
            && let Some(there) = [path, &lines_path].into_iter().find(|path| is_there(path))
        {
            return Err(format!(
                "{} exists already: --resume adds what is missing in it, --overwrite replaces it",
                there.display()
            ));
        }
        if path.is_dir() && !table.is_some_and(|format| (format.is_own_folder)(path)) {
            return Err(format!("{} is a folder, and not one that this program made: name a file", path.display()));
        }
        if existing == Existing::Resume && table.is_some() && is_there(path) && !lines_path.exists() {
            return Err(format!(
                "{} cannot be continued without {}, the lines that it was made of: put it back, select another output, or replace \
                 this one with --overwrite",
                path.display(),
                lines_path.display()
            ));
        }
        let (lines, done) = Lines::open(&lines_path, path, existing == Existing::Resume, current)?;
        Ok((Self::File { lines: Box::new(lines), form, table: None }, done))
    }

    /// Removes the lines of `files` before the first result is added.
    pub fn replace(&mut self, files: impl IntoIterator<Item = String>) {
        if let Self::File { lines, .. } = self {
            lines.replaced.extend(files);
        }
    }

    /// The file that this run has made, if it was not there before.
    pub fn new_file(&self) -> Option<&Path> {
        match self {
            Self::File { lines, .. } if lines.is_new => Some(&lines.path),
            _ => None,
        }
    }

    /// Whether the conditions under which an output was made are not known, because it has no header.
    pub fn lacks_header(&self) -> bool {
        let Self::File { lines, .. } = self else { return false };
        lines.before.as_ref().is_some_and(|before| before.end > 0 && before.conditions.is_none())
    }

    /// Where results are kept if the run ends now; `None` for standard output.
    pub fn kept_in(&self) -> Option<&Path> {
        match self {
            Self::File { lines, .. } => Some(&lines.path),
            Self::Standard { .. } => None,
        }
    }

    /// Adds the results of a file.
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
            Self::File { lines, form: Form::Table(format), table } => {
                lines.begin()?;
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

    /// Makes the table of the lines, if there is to be one and it is not up to date.
    ///
    /// # Errors
    /// What keeps it from being written. The lines are kept then.
    pub fn finish(self) -> Result<(), String> {
        let Self::File { mut lines, form, table } = self else { return Ok(()) };
        // Also of a run in which there was nothing to be done there is an output.
        lines.begin()?;
        let Form::Table(format) = form else { return Ok(()) };
        if !lines.has_changed && is_newer(&lines.output, &lines.path) {
            return Ok(());
        }
        let table = match table {
            Some(table) => Ok(table),
            None => begin(format, &lines),
        };
        let written = table?.finish();
        written.map_err(|error| unwritten(&lines.output, &lines.path, &*error))?;
        make_newer(&lines.output, &lines.path);
        Ok(())
    }
}

/// Of the file of lines beside a table.
const LINES: &str = ".lines.jsonl";

/// Whether `table` was written after `lines`: a run may have been killed between the two.
fn is_newer(table: &Path, lines: &Path) -> bool {
    modified(table).zip(modified(lines)).is_some_and(|(table, lines)| table > lines)
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// Makes the time of `table` later than that of `lines` also where both were written within one tick of the file system's clock.
fn make_newer(table: &Path, lines: &Path) {
    const TICK: Duration = Duration::from_nanos(1);
    if let Some(time) = modified(lines).filter(|_| !is_newer(table, lines)) {
        // Otherwise the next run makes it once more.
        let _ = File::open(table).and_then(|file| file.set_modified(time + TICK));
    }
}

/// Nobody listens to standard output.
pub const UNREAD: &str = "standard output is read no more";

/// Checks that lines on standard output will go somewhere.
///
/// # Errors
/// Where it is closed.
pub fn check_standard() -> Result<(), String> {
    if is_stdout_closed() {
        return Err("standard output is closed: write to a file with --output".to_owned());
    }
    Ok(())
}

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

fn unwritten(path: &Path, lines: &Path, error: &dyn std::error::Error) -> String {
    format!("{} cannot be written: {error}. Results are kept in {}", path.display(), lines.display())
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
        let mut file = File::open(&lines.path)?;
        loop {
            let length = file.read(&mut block)?;
            if length == 0 {
                return Ok(table);
            }
            for mut unit in units.push(&block[..length]) {
                unit.remove_line_if(|line| Conditions::from_line(line).is_some());
                table.file(&unit)?;
            }
        }
    };
    begin().map_err(|error: tables::Error| format!("{} cannot be written: {error}", path.display()))
}

impl Lines {
    fn open(path: &Path, output: &Path, resume: bool, current: Option<&Current>) -> Result<(Self, Done), String> {
        let failed = |error: std::io::Error| format!("{} cannot be written: {error}", output.display());
        let in_use = || format!("another run is writing {}", output.display());
        let is_new = !path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        // Where files cannot be locked, nobody looks after that.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(in_use());
        }
        // A run that has just ended may have put another file in its place.
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        if std::fs::metadata(path).map(identity).ok() != Some(file.metadata().map(identity).map_err(failed)?) {
            return Err(in_use());
        }
        let mut before = Before::default();
        if resume {
            check_schema(&file).map_err(failed)?.map_err(|reason| format!("{} {reason}", output.display()))?;
            before = Before::read(&file).map_err(failed)?;
        }
        if let Some((current, then)) = current.zip(before.conditions.as_ref()) {
            let differences = current.differences(then);
            if !differences.is_empty() {
                return Err(format!(
                    "{} was made with {}: select another output, or replace it with --overwrite",
                    output.display(),
                    differences.join("; ")
                ));
            }
        }
        let done = before.files.iter().map(|piece| (piece.file.clone(), piece.past)).collect();
        let lines = Self {
            file,
            // Through links, so that a new file takes the place of the file and not of a link to it.
            path: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
            output: output.to_owned(),
            before: Some(before),
            replaced: HashSet::new(),
            header: current.map(|current| current.conditions.to_line()).unwrap_or_default(),
            detector_header: Vec::new(),
            is_new,
            has_changed: false,
        };
        Ok((lines, done))
    }

    /// Removes what is not complete, and the lines of files that are replaced.
    fn begin(&mut self) -> Result<(), String> {
        let Some(before) = self.before.take() else { return Ok(()) };
        let begun = if before.files.iter().any(|piece| self.replaced.contains(&piece.file)) {
            self.rewrite(&before)
        } else {
            self.cut(before.end)
        };
        begun.map_err(|error| {
            self.before = Some(before);
            format!("{} cannot be written: {error}", self.output.display())
        })
    }

    fn cut(&mut self, end: u64) -> std::io::Result<()> {
        // Nothing that is there already is touched, so that its time tells whether the table is up to date.
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

    /// Puts a file in the place of this one that has all but the lines of the files that are replaced.
    fn rewrite(&mut self, before: &Before) -> std::io::Result<()> {
        let path = with_suffix(&self.path, ".new");
        let options = || OpenOptions::new().read(true).write(true).create(true).truncate(true).to_owned();
        let mut new = options().open(&path)?;
        let mut copy = || {
            new.set_permissions(self.file.metadata()?.permissions())?;
            // Whoever opens it under its name finds it locked. Where files cannot be locked, nobody looks after that.
            let _ = new.try_lock();
            let kept = before.files.iter().filter(|piece| !self.replaced.contains(&piece.file));
            for range in std::iter::once(&before.header).chain(kept.map(|piece| &piece.range)) {
                self.file.seek(SeekFrom::Start(range.start))?;
                std::io::copy(&mut (&self.file).take(range.end - range.start), &mut new)?;
            }
            new.sync_all()?;
            std::fs::rename(&path, &self.path)
        };
        let copied = copy();
        if copied.is_err() {
            // The old file is as it was.
            let _ = std::fs::remove_file(&path);
            return copied;
        }
        if let Some(folder) = self.path.parent().and_then(|folder| File::open(folder).ok()) {
            // Not all file systems can; the next run would then find the old file, which is whole too.
            let _ = folder.sync_all();
        }
        self.file = new;
        self.has_changed = true;
        Ok(())
    }

    /// Adds what a file came to, its header line only where what it says of the detector is new: with all names of classes it may be
    /// longer than the rest.
    fn append_once(&mut self, unit: &Unit) -> Result<(), String> {
        let (header, rest) = unit.split_header();
        let detector =
            |header: &[u8]| memchr::memmem::find(header, br#","detector":"#).map(|start| header[start..].to_vec());
        if header.is_empty() || detector(header) == detector(&self.detector_header) {
            return self.append(rest);
        }
        self.detector_header = header.to_vec();
        self.append(&unit.lines)
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), String> {
        self.begin()?;
        self.has_changed = true;
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| {
            format!(
                "{} cannot be written: {error}. Earlier results are kept; --resume continues when there is room",
                self.output.display()
            )
        })
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if self.is_new && self.before.is_some() {
            // It is empty, so nothing is lost if it stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Before {
    /// Reads a file of lines up to its last complete file.
    fn read(file: &File) -> std::io::Result<Self> {
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let (mut line, mut position) = (Vec::new(), 0);
        let mut before = Self::default();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line)? as u64;
            if length == 0 || line.last() != Some(&b'\n') {
                return Ok(before);
            }
            if position == 0
                && let Some(conditions) = Conditions::from_line(&line)
            {
                before.conditions = Some(conditions);
                before.header = 0..length;
                before.end = length;
            }
            position += length;
            if let Some(summary) = summary_in(&line) {
                let Summary { file, status, bytes, modified_ns, .. } = summary;
                let past = Past { status, bytes, modified_ns };
                before.files.push(Piece { file, past, range: before.end..position });
                before.end = position;
            }
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
            let (mut output, done) = Output::open(Some(&path), form(&path), Existing::Resume, None).unwrap();
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
        let (mut output, _) = Output::open(Some(&path), form(&path), Existing::Refuse, None).unwrap();
        output.add(&unit("a", 1)).unwrap();
        let second = Output::open(Some(&path), form(&path), Existing::Resume, None).err().unwrap();
        assert!(second.contains("another run"), "{second}");
        drop(output);
        let refused = Output::open(Some(&path), form(&path), Existing::Refuse, None).err().unwrap();
        assert!(refused.contains("--resume") && refused.contains("out.jsonl"), "{refused}");
        // A run that could not be made leaves everything as it was.
        let before = std::fs::read(&path).unwrap();
        drop(Output::open(Some(&path), form(&path), Existing::Overwrite, None).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let new = folder.path().join("new.jsonl");
        drop(Output::open(Some(&new), form(&new), Existing::Refuse, None).unwrap());
        assert!(!new.exists());
        Output::open(Some(&path), form(&path), Existing::Overwrite, None).unwrap().0.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        let foreign = folder.path().join("foreign.jsonl");
        std::fs::write(&foreign, "{\"id\":1}\n").unwrap();
        assert!(
            Output::open(Some(&foreign), form(&foreign), Existing::Resume, None)
                .err()
                .unwrap()
                .contains("not written by vx")
        );
        let full = folder.path().join("full.parquet");
        std::fs::create_dir(&full).unwrap();
        std::fs::write(full.join("mine"), "").unwrap();
        assert!(
            Output::open(Some(&full), form(&full), Existing::Overwrite, None).err().unwrap().contains("is a folder")
        );
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
            let (mut output, _) = Output::open(Some(&path), form, Existing::Refuse, None).unwrap();
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
    fn a_table_is_continued_by_the_lines_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["t.csv", "t.json", "t.parquet"] {
            let path = folder.path().join(name);
            let (mut output, _) = Output::open(Some(&path), form(&path), Existing::Refuse, None).unwrap();
            output.add(&unit("a", 1)).unwrap();
            output.add(&unit("b", 2)).unwrap();
            output.finish().unwrap();
            let written = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
            let lines = with_suffix(&path, LINES);
            // That was last night.
            for (path, hours) in [(&lines, 2), (&path, 1)] {
                let time = SystemTime::now() - Duration::from_secs(3600 * hours);
                File::open(path).unwrap().set_modified(time).unwrap();
            }
            let table = written(&path);
            let (output, done) = Output::open(Some(&path), form(&path), Existing::Resume, None).unwrap();
            assert!(done.contains_key("a") && done.contains_key("b"));
            // Nothing is added, so nothing is written.
            output.finish().unwrap();
            assert_eq!(written(&path), table);
            let (mut output, _) = Output::open(Some(&path), form(&path), Existing::Resume, None).unwrap();
            output.add(&unit("c", 1)).unwrap();
            // Killed before the table was made: it is made by the next run.
            drop(output);
            assert_eq!(written(&path), table);
            let (output, done) = Output::open(Some(&path), form(&path), Existing::Resume, None).unwrap();
            assert_eq!(done.len(), 3);
            output.finish().unwrap();
            assert!(written(&path) > table);
            std::fs::remove_file(&lines).unwrap();
            let refused = Output::open(Some(&path), form(&path), Existing::Resume, None).err().unwrap();
            assert!(refused.contains("--overwrite") && refused.contains(".lines.jsonl"), "{refused}");
            assert!(!lines.exists());
        }
    }

    #[test]
    fn replaced_files_lose_their_lines_when_the_first_result_comes_and_no_other_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let units: Vec<Unit> = ["a", "b", "c", "d"].map(|file| unit(file, 2)).into();
        let lines = |units: &[&Unit]| units.iter().flat_map(|unit| unit.lines.clone()).collect::<Vec<u8>>();
        let whole = lines(&[&units[0], &units[1], &units[2], &units[3]]);
        let open = || {
            let (mut output, done) = Output::open(Some(&path), form(&path), Existing::Resume, None).unwrap();
            assert_eq!(done.len(), 4);
            output.replace(["a".to_owned(), "c".to_owned()]);
            output
        };
        // What an earlier run left of such a file is in nobody's way.
        std::fs::write(folder.path().join("out.jsonl.new"), "left").unwrap();
        std::fs::write(&path, [whole.as_slice(), b"{\"cut"].concat()).unwrap();
        drop(open());
        assert!(std::fs::read(&path).unwrap().starts_with(&whole));
        let mut output = open();
        output.add(&units[2]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), lines(&[&units[1], &units[3], &units[2]]));
        // The new file is locked as the old one was.
        assert!(Output::open(Some(&path), form(&path), Existing::Resume, None).err().unwrap().contains("another run"));
        output.add(&units[0]).unwrap();
        output.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), lines(&[&units[1], &units[3], &units[2], &units[0]]));
        assert!(!folder.path().join("out.jsonl.new").exists());
        // Through a link the file is replaced, not the link.
        let link = folder.path().join("link.jsonl");
        std::os::unix::fs::symlink("out.jsonl", &link).unwrap();
        let (mut output, _) = Output::open(Some(&link), form(&link), Existing::Resume, None).unwrap();
        output.replace(["b".to_owned()]);
        output.add(&units[1]).unwrap();
        assert!(
            link.is_symlink() && std::fs::read(&path).unwrap() == lines(&[&units[3], &units[2], &units[0], &units[1]])
        );
    }

    #[test]
    fn the_header_is_the_first_line_and_what_differs_from_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let current =
            |confidence: &str| Current::new(&vec![("confidence-threshold".to_owned(), confidence.to_owned())]).unwrap();
        let open = |current: &Current| Output::open(Some(&path), form(&path), Existing::Resume, Some(current));
        let (mut output, _) = open(&current("0.5")).unwrap();
        output.add(&unit("a", 1)).unwrap();
        output.add(&unit("b", 1)).unwrap();
        drop(output);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("\"header\"").count(), 1);
        assert!(text.starts_with("{\"schema\":2,\"header\":{") && text.contains("\"confidence-threshold\":\"0.5\""));
        let refused = open(&current("0.25")).err().unwrap();
        assert!(refused.contains("confidence-threshold=0.5, now 0.25 (the default)"), "{refused}");
        // A header without a file is as good as an empty output, and it stays when files are replaced.
        let (mut output, done) = open(&current("0.50")).unwrap();
        assert!(!output.lacks_header() && done.len() == 2);
        output.replace(done.into_keys());
        output.add(&unit("c", 1)).unwrap();
        drop(output);
        let header = text.lines().next().unwrap();
        let expected = [header.as_bytes(), b"\n", &unit("c", 1).lines].concat();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        std::fs::write(&path, format!("{header}\n{{\"schema\":2,\"fi")).unwrap();
        let (output, done) = open(&current("0.5")).unwrap();
        assert!(done.is_empty());
        output.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{header}\n"));
    }
}
