//! From many lanes to one stream of lines in which each file's lines stay together.
//!
//! One lane at a time has the pen: its lines go out at once. The others' wait in memory, beyond a megabyte in a file, and go
//! out when their file has ended and the pen is free.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Seek, Write};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tempfile::SpooledTempFile;

use crate::record::Summary;

/// Bytes of a file's lines that are kept in memory.
const IN_MEMORY: usize = 1 << 20;
/// Bytes on their way out beyond which lanes wait.
const ROOM: usize = 4 << 20;
/// Bytes that go out in one buffer of those that waited.
const BLOCK: usize = 256 << 10;

/// Where lines wait for their turn: temporary files, or in tests what fails as a full or broken disk does.
pub(super) trait Spool: Read + Write + Seek + Send {}

impl<S: Read + Write + Seek + Send> Spool for S {}

/// Why lines are not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// The stream is being stopped.
    Flushing,
    /// The lines of this file that waited are lost, all but the first `lines`, which are out.
    Lost { error: gst::glib::Error, lines: u64 },
}

/// A file that was finished well, and whose lines were lost while they waited.
#[derive(Debug)]
pub(super) struct Lost {
    /// What was reported of it.
    pub before: Summary,
    /// What is true of it.
    pub summary: Summary,
}

fn unwritten(error: &std::io::Error) -> gst::glib::Error {
    let text = format!("its lines cannot be kept until their turn: {error}; is the temporary folder full?");
    gst::glib::Error::new(gst::ResourceError::NoSpaceLeft, &text)
}

fn unread(error: &std::io::Error) -> gst::glib::Error {
    let text = format!("its lines cannot be read back from the temporary folder: {error}; check that disk");
    gst::glib::Error::new(gst::ResourceError::Read, &text)
}

/// What goes out next.
#[derive(Debug, PartialEq)]
pub(super) enum Out {
    Lines(Vec<u8>),
    End,
    Flushing,
}

struct State<S> {
    out: VecDeque<Vec<u8>>,
    bytes: usize,
    has_ended: bool,
    is_flushing: bool,
    is_paused: bool,
    pen: Option<usize>,
    waiting: BTreeMap<usize, S>,
    /// Files that have ended: lines that wait, if there are any, and the summary that follows them.
    finished: VecDeque<(Option<S>, Summary)>,
}

impl<S> Default for State<S> {
    fn default() -> Self {
        Self {
            out: VecDeque::new(),
            bytes: 0,
            has_ended: false,
            is_flushing: false,
            is_paused: false,
            pen: None,
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
}

impl Default for Output {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), new_spool: || SpooledTempFile::new(IN_MEMORY) }
    }
}

impl<S: Spool> Output<S> {
    /// Forgets everything and takes lines again.
    pub fn start(&self) {
        let before = std::mem::take(&mut *self.state.lock());
        drop(before);
    }

    /// Ends every wait; nothing is taken or given until [`start`](Self::start).
    pub fn flush(&self) {
        self.state.lock().is_flushing = true;
        self.changed.notify_all();
    }

    /// Ends the wait for what goes out next, or lets it begin again; lanes go on as far as there is room.
    pub fn pause(&self, is_paused: bool) {
        self.state.lock().is_paused = is_paused;
        self.changed.notify_all();
    }

    /// No file follows.
    pub fn end(&self) {
        self.state.lock().has_ended = true;
        self.changed.notify_all();
    }

    /// Adds a line of the file on `lane`. No other thread adds to that file.
    pub fn line(&self, lane: usize, line: &[u8]) -> Result<(), Refused> {
        let mut state = self.state.lock();
        let waiting = state.waiting.remove(&lane);
        if *state.pen.get_or_insert(lane) == lane {
            // What waited while another had the pen goes first.
            if let Some(waiting) = waiting {
                self.write_out(&mut state, waiting)?;
            }
            return self.put(&mut state, line.to_vec());
        }
        // Others go on while the disk is busy.
        drop(state);
        let mut waiting = waiting.unwrap_or_else(self.new_spool);
        // Where that fails they are dropped: half a line is none, and the others are of a file that failed.
        waiting.write_all(line).map_err(|error| Refused::Lost { error: unwritten(&error), lines: 0 })?;
        self.state.lock().waiting.insert(lane, waiting);
        Ok(())
    }

    /// Ends the file on `lane` with its summary, which becomes that of a file that failed if its lines are lost. Gives the files
    /// that were finished before and whose lines turn out to be lost now.
    ///
    /// # Errors
    /// `Flushing`.
    pub fn finish(&self, lane: usize, summary: &mut Summary) -> Result<Vec<Lost>, Refused> {
        let mut state = self.state.lock();
        let waiting = state.waiting.remove(&lane);
        if *state.pen.get_or_insert(lane) != lane {
            state.finished.push_back((waiting, summary.clone()));
            return Ok(Vec::new());
        }
        self.write_unit(&mut state, waiting, summary)?;
        let mut all_lost = Vec::new();
        // The pen is kept meanwhile, so that nobody writes in between.
        while let Some((waiting, before)) = state.finished.pop_front() {
            let mut summary = before.clone();
            if self.write_unit(&mut state, waiting, &mut summary)? {
                all_lost.push(Lost { before, summary });
            }
        }
        state.pen = None;
        drop(state);
        Ok(all_lost)
    }

    /// Puts out what waited of a file, and its summary; whether lines were lost.
    fn write_unit(
        &self,
        state: &mut MutexGuard<'_, State<S>>,
        waiting: Option<S>,
        summary: &mut Summary,
    ) -> Result<bool, Refused> {
        let written = waiting.map_or(Ok(()), |waiting| self.write_out(state, waiting));
        let is_lost = match written {
            Ok(()) => false,
            Err(Refused::Lost { error, lines }) => {
                summary.lose(&error, lines);
                true
            }
            Err(Refused::Flushing) => return Err(Refused::Flushing),
        };
        self.put(state, summary.to_line())?;
        Ok(is_lost)
    }

    /// Puts out lines that waited, always whole ones. Others go on while they are read.
    fn write_out(&self, state: &mut MutexGuard<'_, State<S>>, mut waiting: S) -> Result<(), Refused> {
        let mut count = 0;
        let lost = |error: std::io::Error, lines| Refused::Lost { error: unread(&error), lines };
        MutexGuard::unlocked(state, || waiting.rewind()).map_err(|error| lost(error, 0))?;
        let mut rest = Vec::new();
        loop {
            let mut block = std::mem::take(&mut rest);
            block.reserve(BLOCK);
            let read = MutexGuard::unlocked(state, || (&mut waiting).take(BLOCK as u64).read_to_end(&mut block));
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

    fn put(&self, state: &mut MutexGuard<'_, State<S>>, lines: Vec<u8>) -> Result<(), Refused> {
        while state.bytes > ROOM && !state.is_flushing {
            self.changed.wait(state);
        }
        if state.is_flushing {
            return Err(Refused::Flushing);
        }
        state.bytes += lines.len();
        state.out.push_back(lines);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits for what goes out next.
    pub fn take(&self) -> Out {
        let mut state = self.state.lock();
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
    fn next(&mut self) -> Out {
        if self.is_flushing || self.is_paused {
            return Out::Flushing;
        }
        match self.out.pop_front() {
            Some(lines) => {
                self.bytes -= lines.len();
                Out::Lines(lines)
            }
            None => Out::End,
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
        while let Out::Lines(lines) = output.take() {
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
        // The pen is free: whoever writes next has it, and what it had waiting goes first.
        output.line(2, b"c2\n").unwrap();
        finish(&output, 1, "d");
        finish(&output, 2, "c");
        output.end();
        assert_eq!(all(&output), "a1 a2 a! b1 b! c1 c2 c! d1 d!");
    }

    #[test]
    fn lanes_wait_where_nobody_takes_until_it_is_stopped() {
        let output = std::sync::Arc::new(Output::default());
        let lane = {
            let output = std::sync::Arc::clone(&output);
            std::thread::spawn(move || (0..100).find_map(|_| output.line(0, &vec![b'x'; 1 << 20]).err()))
        };
        while output.state.lock().bytes <= ROOM {
            std::thread::yield_now();
        }
        output.flush();
        assert!(matches!(lane.join().unwrap(), Some(Refused::Flushing)));
        assert_eq!(output.take(), Out::Flushing);
        output.start();
        output.end();
        assert_eq!(output.take(), Out::End);
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
        Output { state: Mutex::default(), changed: Condvar::new(), new_spool }
    }

    #[test]
    fn lines_that_cannot_be_read_back_are_lost_by_their_own_file_and_no_other() {
        let output = broken(|| Broken { bytes: Cursor::default(), room: 1 << 30, readable: BLOCK as u64 + 5 });
        // Of the second block not even a line can be read.
        let line = [vec![b'b'; BLOCK / 2 - 1], vec![b'\n']].concat();
        output.line(0, b"a1\n").unwrap();
        (0..4).for_each(|_| output.line(1, &line).unwrap());
        output.line(2, b"c1\n").unwrap();
        let mut b = Summary { keyframes: 4, ..Summary::new("b") };
        assert!(output.finish(1, &mut b).unwrap().is_empty());
        assert!(finish(&output, 2, "c").is_empty());
        let mut a = Summary::new("a");
        let lost = output.finish(0, &mut a).unwrap();
        assert_eq!((a.status, lost.len()), (Status::Ok, 1));
        let Lost { before, summary } = &lost[0];
        assert_eq!((before, summary.status, summary.keyframes), (&b, Status::Failed, 2));
        assert!(summary.error.as_ref().unwrap().message.contains("a bad sector"));
        // Its own are its own also where it gets the pen in the middle.
        (0..4).for_each(|_| output.line(1, &line).unwrap());
        output.end();
        let text = all(&output).replace(&"b".repeat(BLOCK / 2 - 1), "b1");
        assert!(text.starts_with("a1 a! b1 b1 b failed after 2 c1 c! "), "{}", text.len());
    }

    #[test]
    fn a_full_disk_costs_the_file_that_is_written() {
        let output = broken(|| Broken { bytes: Cursor::default(), room: 6, readable: 1 << 30 });
        output.line(0, b"a1\n").unwrap();
        output.line(1, b"b1\n").unwrap();
        output.line(2, b"c1\n").unwrap();
        output.line(1, b"b2\n").unwrap();
        let refused = output.line(1, b"b3\n").unwrap_err();
        assert!(
            matches!(refused, Refused::Lost { lines: 0, error } if error.message().contains("temporary folder full"))
        );
        let mut failed = Summary::new("b");
        failed.fail(&unwritten(&std::io::ErrorKind::StorageFull.into()));
        output.finish(1, &mut failed).unwrap();
        assert!(finish(&output, 2, "c").is_empty() && finish(&output, 0, "a").is_empty());
        output.end();
        assert_eq!(all(&output), "a1 a! b failed after 0 c1 c!");
    }

    #[test]
    fn a_file_that_gets_the_pen_and_cannot_read_what_waited_says_how_much_is_out() {
        let output = broken(|| Broken { bytes: Cursor::default(), room: 1 << 30, readable: 4 });
        output.line(0, b"a1\n").unwrap();
        output.line(1, b"b1\n").unwrap();
        output.line(1, b"b2\n").unwrap();
        finish(&output, 0, "a");
        let refused = output.line(1, b"b3\n").unwrap_err();
        assert!(matches!(refused, Refused::Lost { lines: 0, .. }), "{refused:?}");
        let mut summary = Summary::new("c");
        output.line(2, b"c1\n").unwrap();
        output.finish(2, &mut summary).unwrap();
        let mut failed = Summary::new("b");
        failed.fail(&unread(&std::io::Error::other("a bad sector")));
        output.finish(1, &mut failed).unwrap();
        output.end();
        assert_eq!(all(&output), "a1 a! b failed after 0 c1 c!");
    }
}
