// SPDX-License-Identifier: MIT OR Apache-2.0
//! Serializes the lines of all lanes into one stream in which each file's lines stay together.
//!
//! One lane at a time is the writer: its lines are output at once. The lines of other lanes wait in memory, beyond a megabyte in a
//! temporary file, and are output after the end of their file, when there is no writer. At most [`MAX_WAITING_FILES`] files wait for a
//! writer with a long file; then their lanes wait.
//!
//! Where whole files are wanted, a lane becomes the writer when its file has ended, so that no file waits for the end of another.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Seek, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tempfile::SpooledTempFile;

use crate::record::Summary;

/// Most bytes of a file's waiting lines in memory.
const MAX_MEMORY_BYTES: usize = 1 << 20;
/// Bytes of queued output beyond which lanes wait.
const MAX_QUEUED_BYTES: usize = 4 << 20;
/// Files that have ended and whose lines wait, beyond which lanes wait: each may have a megabyte in memory, or a temporary file.
const MAX_WAITING_FILES: usize = 64;
/// Bytes of waiting lines that are output in one buffer.
const BLOCK_BYTES: usize = 256 << 10;

/// Stores waiting lines: a temporary file, or in tests a disk that is full or broken.
pub(super) trait Spool: Read + Write + Seek + Send {}

impl<S: Read + Write + Seek + Send> Spool for S {}

/// Why lines are not accepted.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The stream is being stopped.
    Flushing,
    /// The waiting lines of this file are lost; the first `lines` are output already.
    Lost { error: gst::glib::Error, lines: u64 },
}

/// A file that had ended well, and whose lines were lost while they waited.
#[derive(Debug)]
pub(super) struct LostFile {
    /// The summary that was reported.
    pub before: Summary,
    /// The summary that is true now.
    pub summary: Summary,
}

fn write_failure(error: &std::io::Error) -> gst::glib::Error {
    let text = format!("its lines cannot be stored while they wait: {error}; is the temporary folder full?");
    gst::glib::Error::new(gst::ResourceError::NoSpaceLeft, &text)
}

fn read_failure(error: &std::io::Error) -> gst::glib::Error {
    let text = format!("its lines cannot be read back from the temporary folder: {error}; check that disk");
    gst::glib::Error::new(gst::ResourceError::Read, &text)
}

/// The next output.
#[derive(Debug, PartialEq)]
pub(super) enum OutputItem {
    Lines(Vec<u8>),
    End,
    Flushing,
}

struct State<S> {
    out: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Blocks of lines that were queued, taken and pushed.
    queued: u64,
    taken: u64,
    pushed: u64,
    has_ended: bool,
    is_flushing: bool,
    is_paused: bool,
    writer: Option<usize>,
    waiting: BTreeMap<usize, S>,
    /// Files that have ended: waiting lines, if any, and the summary that follows them.
    finished: VecDeque<(Option<S>, Summary)>,
}

impl<S> Default for State<S> {
    fn default() -> Self {
        Self {
            out: VecDeque::new(),
            bytes: 0,
            queued: 0,
            taken: 0,
            pushed: 0,
            has_ended: false,
            is_flushing: false,
            is_paused: false,
            writer: None,
            waiting: BTreeMap::new(),
            finished: VecDeque::new(),
        }
    }
}

/// See the module.
pub(super) struct Output<S = SpooledTempFile> {
    state: Mutex<State<S>>,
    changed: Condvar,
    new_spool: fn() -> S,
    has_whole_files: AtomicBool,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            new_spool: || SpooledTempFile::new(MAX_MEMORY_BYTES),
            has_whole_files: AtomicBool::new(false),
        }
    }
}

impl<S: Spool> Output<S> {
    /// Outputs the lines of each file at once when it has ended; set before the first line.
    pub fn set_whole_files(&self) {
        self.has_whole_files.store(true, Ordering::Release);
    }

    /// Resets the output and accepts lines again.
    pub fn start(&self) {
        let before = std::mem::take(&mut *self.state.lock());
        drop(before);
    }

    /// Interrupts every wait; no lines are accepted or output until [`start`](Self::start).
    pub fn flush(&self) {
        self.state.lock().is_flushing = true;
        self.changed.notify_all();
    }

    /// Interrupts the wait for output, or allows it again; lanes continue as far as there is room.
    pub fn pause(&self, is_paused: bool) {
        self.state.lock().is_paused = is_paused;
        self.changed.notify_all();
    }

    /// Marks the end: no file follows.
    pub fn end(&self) {
        self.state.lock().has_ended = true;
        self.changed.notify_all();
    }

    /// Adds a line of the file on `lane`. No other thread adds to that file.
    pub fn line(&self, lane: usize, line: &[u8]) -> Result<(), WriteError> {
        let mut state = self.state.lock();
        let waiting = state.waiting.remove(&lane);
        if !self.has_whole_files.load(Ordering::Acquire) && *state.writer.get_or_insert(lane) == lane {
            // Lines that waited while another lane was the writer go first.
            if let Some(waiting) = waiting {
                self.write_out(&mut state, waiting)?;
            }
            return self.put(&mut state, line.to_vec());
        }
        // Other lanes continue while the disk is busy.
        drop(state);
        let mut waiting = waiting.unwrap_or_else(self.new_spool);
        // On failure they are dropped: a partial line is useless, and the file has failed.
        waiting.write_all(line).map_err(|error| WriteError::Lost { error: write_failure(&error), lines: 0 })?;
        self.state.lock().waiting.insert(lane, waiting);
        Ok(())
    }

    /// Ends the file on `lane` with its summary, which becomes that of a failed file if its lines are lost. Returns the files
    /// that had ended before and whose lines turn out to be lost now.
    ///
    /// # Errors
    /// `Flushing`.
    pub fn finish(&self, lane: usize, summary: &mut Summary) -> Result<Vec<LostFile>, WriteError> {
        let has_whole_files = self.has_whole_files.load(Ordering::Acquire);
        let mut state = self.state.lock();
        let waiting = state.waiting.remove(&lane);
        while *state.writer.get_or_insert(lane) != lane {
            if state.is_flushing {
                return Err(WriteError::Flushing);
            }
            if !has_whole_files && state.finished.len() < MAX_WAITING_FILES {
                state.finished.push_back((waiting, summary.clone()));
                return Ok(Vec::new());
            }
            // A writer of whole files is about to be done; any other may take as long as its file.
            self.changed.wait(&mut state);
        }
        self.write_file(&mut state, waiting, summary)?;
        let mut all_lost = Vec::new();
        // This lane stays the writer meanwhile, so that no other writes in between.
        while let Some((waiting, before)) = state.finished.pop_front() {
            let mut summary = before.clone();
            if self.write_file(&mut state, waiting, &mut summary)? {
                all_lost.push(LostFile { before, summary });
            }
        }
        state.writer = None;
        drop(state);
        self.changed.notify_all();
        Ok(all_lost)
    }

    /// Waits until what was output so far has been pushed, where whole files are wanted: a file is then delivered before its lane begins
    /// another one.
    pub fn wait_for_delivery(&self) {
        if !self.has_whole_files.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        let queued = state.queued;
        self.changed.wait_while(&mut state, |state| state.pushed < queued && !(state.is_flushing || state.is_paused));
        drop(state);
    }

    /// Outputs a file's waiting lines, and its summary. Returns whether lines were lost.
    fn write_file(
        &self,
        state: &mut MutexGuard<'_, State<S>>,
        waiting: Option<S>,
        summary: &mut Summary,
    ) -> Result<bool, WriteError> {
        let written = waiting.map_or(Ok(()), |waiting| self.write_out(state, waiting));
        let is_lost = match written {
            Ok(()) => false,
            Err(WriteError::Lost { error, lines }) => {
                summary.lose(&error, lines);
                true
            }
            Err(WriteError::Flushing) => return Err(WriteError::Flushing),
        };
        self.put(state, summary.to_line())?;
        Ok(is_lost)
    }

    /// Outputs waiting lines, always complete ones. Other lanes continue while they are read.
    fn write_out(&self, state: &mut MutexGuard<'_, State<S>>, mut waiting: S) -> Result<(), WriteError> {
        let mut count = 0;
        let lost = |error: std::io::Error, lines| WriteError::Lost { error: read_failure(&error), lines };
        MutexGuard::unlocked(state, || waiting.rewind()).map_err(|error| lost(error, 0))?;
        let mut rest = Vec::new();
        loop {
            let mut block = std::mem::take(&mut rest);
            block.reserve(BLOCK_BYTES);
            let read = MutexGuard::unlocked(state, || (&mut waiting).take(BLOCK_BYTES as u64).read_to_end(&mut block));
            let is_end = read.map_err(|error| lost(error, count))? == 0;
            if !is_end {
                rest = block.split_off(memchr::memrchr(b'\n', &block).map_or(0, |end| end + 1));
            }
            if !block.is_empty() {
                count += memchr::memchr_iter(b'\n', &block).count() as u64;
                self.put(state, block)?;
            }
            if is_end {
                return Ok(());
            }
        }
    }

    fn put(&self, state: &mut MutexGuard<'_, State<S>>, lines: Vec<u8>) -> Result<(), WriteError> {
        while state.bytes > MAX_QUEUED_BYTES && !state.is_flushing {
            self.changed.wait(state);
        }
        if state.is_flushing {
            return Err(WriteError::Flushing);
        }
        state.bytes += lines.len();
        state.queued += 1;
        state.out.push_back(lines);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits for the next output; the caller has pushed the last one.
    pub fn take(&self) -> OutputItem {
        let mut state = self.state.lock();
        if state.pushed < state.taken {
            state.pushed = state.taken;
            self.changed.notify_all();
        }
        self.changed.wait_while(&mut state, |state| {
            !(state.is_flushing || state.is_paused || state.has_ended) && state.out.is_empty()
        });
        let out = state.next();
        drop(state);
        self.changed.notify_all();
        out
    }
}

impl<S> State<S> {
    fn next(&mut self) -> OutputItem {
        if self.is_flushing || self.is_paused {
            return OutputItem::Flushing;
        }
        match self.out.pop_front() {
            Some(lines) => {
                self.bytes -= lines.len();
                self.taken += 1;
                OutputItem::Lines(lines)
            }
            None => OutputItem::End,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::io::{Cursor, SeekFrom};

    use super::*;
    use crate::record::Status;

    /// Lines and the names and states of files, as they come out.
    fn all<S: Spool>(output: &Output<S>) -> String {
        let mut text = Vec::new();
        while let OutputItem::Lines(lines) = output.take() {
            text.extend(lines);
        }
        let text = String::from_utf8(text).unwrap();
        let line = |line: &str| match Summary::from_line(line.as_bytes()) {
            Some(summary) if summary.status == Status::Ok => format!("{}!", summary.file),
            Some(summary) => format!("{} failed after {}", summary.file, summary.keyframes),
            None => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>().join(" ")
    }

    fn finish<S: Spool>(output: &Output<S>, lane: usize, file: &str) -> Vec<String> {
        let lost = output.finish(lane, &mut Summary::new(file)).unwrap();
        lost.into_iter().map(|lost| format!("{} {:?}", lost.summary.file, lost.summary.status)).collect()
    }

    #[test]
    fn lines_of_a_file_stay_together() {
        let output = Output::default();
        output.line(0, b"a1\n").unwrap();
        output.line(1, b"b1\n").unwrap();
        output.line(2, b"c1\n").unwrap();
        output.line(0, b"a2\n").unwrap();
        finish(&output, 1, "b");
        output.line(1, b"d1\n").unwrap();
        finish(&output, 0, "a");
        // There is no writer: the next lane to write becomes it, and its waiting lines go first.
        output.line(2, b"c2\n").unwrap();
        finish(&output, 1, "d");
        finish(&output, 2, "c");
        output.end();
        assert_eq!(all(&output), "a1 a2 a! b1 b! c1 c2 c! d1 d!");
    }

    #[test]
    fn whole_files_do_not_wait_for_a_file_that_is_being_read() {
        let output = Output::default();
        output.set_whole_files();
        output.line(0, b"a1\n").unwrap();
        output.line(1, b"b1\n").unwrap();
        output.line(0, b"a2\n").unwrap();
        finish(&output, 1, "b");
        assert_eq!(output.state.lock().finished.len(), 0);
        output.line(1, b"c1\n").unwrap();
        output.line(0, b"a3\n").unwrap();
        finish(&output, 2, "d");
        finish(&output, 0, "a");
        finish(&output, 1, "c");
        output.end();
        assert_eq!(all(&output), "b1 b! d! a1 a2 a3 a! c1 c!");
    }

    #[test]
    fn a_whole_file_is_delivered_before_its_lane_continues() {
        let output = Output::default();
        output.wait_for_delivery();
        output.set_whole_files();
        output.line(0, b"a1\n").unwrap();
        finish(&output, 0, "a");
        std::thread::scope(|scope| {
            let lane = scope.spawn(|| output.wait_for_delivery());
            // Taken is not pushed.
            for _ in 0..2 {
                assert!(matches!(output.take(), OutputItem::Lines(_)));
                std::thread::sleep(std::time::Duration::from_millis(20));
                assert!(!lane.is_finished());
            }
            let next = scope.spawn(|| output.take());
            lane.join().unwrap();
            output.end();
            assert_eq!(next.join().unwrap(), OutputItem::End);
        });
        output.start();
        finish(&output, 0, "b");
        std::thread::scope(|scope| {
            scope.spawn(|| output.wait_for_delivery());
            output.flush();
        });
    }

    #[test]
    fn whole_files_of_several_lanes_stay_together_while_output_is_full() {
        let output = Output::default();
        output.set_whole_files();
        let line = [vec![b'x'; 9999], vec![b'\n']].concat();
        std::thread::scope(|scope| {
            let lanes = [0, 1, 2].map(|lane| {
                let (output, line) = (&output, &line);
                scope.spawn(move || {
                    (0..600).for_each(|_| output.line(lane, line).unwrap());
                    finish(output, lane, &format!("f{lane}"));
                })
            });
            scope.spawn(|| {
                lanes.into_iter().for_each(|lane| lane.join().unwrap());
                output.end();
            });
            let text = all(&output).replace(&"x".repeat(9999), "x");
            let file = |name: &str| "x ".repeat(600) + name + "!";
            let names: Vec<&str> = text.split(' ').filter(|word| *word != "x").map(|word| &word[..2]).collect();
            assert_eq!(text, names.iter().map(|name| file(name)).collect::<Vec<_>>().join(" "));
            assert_eq!(names.len(), 3);
        });
    }

    #[test]
    fn lanes_wait_when_many_files_wait_for_a_long_one() {
        let output = Output::default();
        output.line(0, b"a1\n").unwrap();
        for number in 0..MAX_WAITING_FILES {
            finish(&output, 1, &format!("b{number}"));
        }
        std::thread::scope(|scope| {
            let lane = scope.spawn(|| finish(&output, 1, "last"));
            // It would return at once if it did not wait.
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!lane.is_finished());
            assert_eq!(output.state.lock().finished.len(), MAX_WAITING_FILES);
            finish(&output, 0, "a");
            lane.join().unwrap();
        });
        output.end();
        let text = all(&output);
        assert!(text.starts_with("a1 a! b0! ") && text.ends_with(" last!"), "{text}");
        // The end of a run interrupts the wait.
        output.start();
        output.line(0, b"a1\n").unwrap();
        (0..MAX_WAITING_FILES).for_each(|_| drop(finish(&output, 1, "b")));
        std::thread::scope(|scope| {
            let lane = scope.spawn(|| output.finish(1, &mut Summary::new("last")));
            output.flush();
            assert!(matches!(lane.join().unwrap(), Err(WriteError::Flushing)));
        });
    }

    #[test]
    fn lanes_wait_while_output_is_full_until_it_is_stopped() {
        let output = std::sync::Arc::new(Output::default());
        let lane = {
            let output = std::sync::Arc::clone(&output);
            std::thread::spawn(move || (0..100).find_map(|_| output.line(0, &vec![b'x'; 1 << 20]).err()))
        };
        while output.state.lock().bytes <= MAX_QUEUED_BYTES {
            std::thread::yield_now();
        }
        output.flush();
        assert!(matches!(lane.join().unwrap(), Some(WriteError::Flushing)));
        assert_eq!(output.take(), OutputItem::Flushing);
        output.start();
        output.end();
        assert_eq!(output.take(), OutputItem::End);
    }

    #[test]
    fn long_files_wait_on_the_disk() {
        let output = Output::default();
        output.line(0, b"a\n").unwrap();
        let line = [vec![b'b'; 99_999], vec![b'\n']].concat();
        (0..30).for_each(|_| output.line(1, &line).unwrap());
        assert!(output.state.lock().waiting[&1].is_rolled());
        finish(&output, 1, "b");
        finish(&output, 0, "a");
        output.end();
        assert_eq!(all(&output).len(), "a a! ".len() + 3_000_000 + "b!".len());
    }

    /// A disk that has room for so many bytes and gives back so many.
    struct Broken {
        bytes: Cursor<Vec<u8>>,
        room: usize,
        readable: u64,
    }

    impl Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.bytes.get_ref().len() + bytes.len() > self.room {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.bytes.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let left = self.readable.saturating_sub(self.bytes.position());
            if left == 0 && self.bytes.position() < self.bytes.get_ref().len() as u64 {
                return Err(std::io::Error::other("a bad sector"));
            }
            let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.bytes.read(&mut buffer[..count])
        }
    }

    impl Seek for Broken {
        fn seek(&mut self, position: SeekFrom) -> std::io::Result<u64> {
            self.bytes.seek(position)
        }
    }

    fn broken(new_spool: fn() -> Broken) -> Output<Broken> {
        Output { state: Mutex::default(), changed: Condvar::new(), new_spool, has_whole_files: AtomicBool::new(false) }
    }

    #[test]
    fn lines_that_cannot_be_read_back_fail_only_their_own_file() {
        let output = broken(|| Broken { bytes: Cursor::default(), room: 1 << 30, readable: BLOCK_BYTES as u64 + 5 });
        // Of the second block not even a line can be read.
        let line = [vec![b'b'; BLOCK_BYTES / 2 - 1], vec![b'\n']].concat();
        output.line(0, b"a1\n").unwrap();
        (0..4).for_each(|_| output.line(1, &line).unwrap());
        output.line(2, b"c1\n").unwrap();
        let mut b = Summary { keyframes: 4, ..Summary::new("b") };
        assert!(output.finish(1, &mut b).unwrap().is_empty());
        assert!(finish(&output, 2, "c").is_empty());
        let mut a = Summary::new("a");
        let lost = output.finish(0, &mut a).unwrap();
        assert_eq!((a.status, lost.len()), (Status::Ok, 1));
        let LostFile { before, summary } = &lost[0];
        assert_eq!((before, summary.status, summary.keyframes), (&b, Status::Failed, 2));
        assert!(summary.error.as_ref().unwrap().message.contains("a bad sector"));
        // The same for a file whose lane becomes the writer in the middle.
        (0..4).for_each(|_| output.line(1, &line).unwrap());
        output.end();
        let text = all(&output).replace(&"b".repeat(BLOCK_BYTES / 2 - 1), "b1");
        assert!(text.starts_with("a1 a! b1 b1 b failed after 2 c1 c! "), "{}", text.len());
    }

    #[test]
    fn a_full_disk_fails_only_the_file_that_is_written() {
        let output = broken(|| Broken { bytes: Cursor::default(), room: 6, readable: 1 << 30 });
        output.line(0, b"a1\n").unwrap();
        output.line(1, b"b1\n").unwrap();
        output.line(2, b"c1\n").unwrap();
        output.line(1, b"b2\n").unwrap();
        let refused = output.line(1, b"b3\n").unwrap_err();
        assert!(
            matches!(refused, WriteError::Lost { lines: 0, error } if error.message().contains("temporary folder full"))
        );
        let mut failed = Summary::new("b");
        failed.fail(&write_failure(&std::io::ErrorKind::StorageFull.into()));
        output.finish(1, &mut failed).unwrap();
        assert!(finish(&output, 2, "c").is_empty() && finish(&output, 0, "a").is_empty());
        output.end();
        assert_eq!(all(&output), "a1 a! b failed after 0 c1 c!");
    }

    #[test]
    fn a_file_whose_waiting_lines_cannot_be_read_reports_how_many_were_output() {
        let output = broken(|| Broken { bytes: Cursor::default(), room: 1 << 30, readable: 4 });
        output.line(0, b"a1\n").unwrap();
        output.line(1, b"b1\n").unwrap();
        output.line(1, b"b2\n").unwrap();
        finish(&output, 0, "a");
        let refused = output.line(1, b"b3\n").unwrap_err();
        assert!(matches!(refused, WriteError::Lost { lines: 0, .. }), "{refused:?}");
        let mut summary = Summary::new("c");
        output.line(2, b"c1\n").unwrap();
        output.finish(2, &mut summary).unwrap();
        let mut failed = Summary::new("b");
        failed.fail(&read_failure(&std::io::Error::other("a bad sector")));
        output.finish(1, &mut failed).unwrap();
        output.end();
        assert_eq!(all(&output), "a1 a! b failed after 0 c1 c!");
    }
}
