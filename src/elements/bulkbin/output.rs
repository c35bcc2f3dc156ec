//! From many lanes to one stream of lines in which each file's lines stay together.
//!
//! One lane at a time has the pen: its lines go out at once. The others' wait in memory, beyond a megabyte in a file, and go
//! out when their file has ended and the pen is free.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Seek, Write};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tempfile::SpooledTempFile;

/// Bytes of a file's lines that are kept in memory.
const IN_MEMORY: usize = 1 << 20;
/// Bytes on their way out beyond which lanes wait.
const ROOM: usize = 4 << 20;
/// Bytes that go out in one buffer of those that waited.
const BLOCK: usize = 256 << 10;

/// Why lines are not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// The stream is being stopped.
    Flushing,
    /// There is no room on the disk, or no disk.
    NoRoom(std::io::Error),
}

/// Says that lines cannot wait for their turn.
pub(super) fn no_room(error: &std::io::Error) -> gst::glib::Error {
    let text = format!("its lines cannot be kept until their turn: {error}; is the temporary folder full?");
    gst::glib::Error::new(gst::ResourceError::NoSpaceLeft, &text)
}

/// What goes out next.
#[derive(Debug, PartialEq)]
pub(super) enum Out {
    Lines(Vec<u8>),
    End,
    Flushing,
}

#[derive(Default)]
struct State {
    out: VecDeque<Vec<u8>>,
    bytes: usize,
    has_ended: bool,
    is_flushing: bool,
    is_paused: bool,
    pen: Option<usize>,
    waiting: BTreeMap<usize, SpooledTempFile>,
    finished: VecDeque<SpooledTempFile>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Output {
    state: Mutex<State>,
    changed: Condvar,
}

impl Output {
    /// Forgets everything and takes lines again.
    pub fn start(&self) {
        *self.state.lock() = State::default();
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

    /// Adds a line of the file on `lane`.
    pub fn line(&self, lane: usize, line: &[u8]) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if *state.pen.get_or_insert(lane) != lane {
            let waiting = state.waiting.entry(lane).or_insert_with(|| SpooledTempFile::new(IN_MEMORY));
            let written = waiting.write_all(line);
            if written.is_err() {
                // Half a line is none, and the others are of a file that failed.
                state.waiting.remove(&lane);
            }
            return written.map_err(Refused::NoRoom);
        }
        // What waited while another had the pen goes first.
        if let Some(waiting) = state.waiting.remove(&lane) {
            self.write_out(&mut state, waiting)?;
        }
        self.put(&mut state, line.to_vec())
    }

    /// Ends the file on `lane` with its last line.
    pub fn finish(&self, lane: usize, line: &[u8]) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if *state.pen.get_or_insert(lane) != lane {
            let mut waiting = state.waiting.remove(&lane).unwrap_or_else(|| SpooledTempFile::new(IN_MEMORY));
            waiting.write_all(line).map_err(Refused::NoRoom)?;
            state.finished.push_back(waiting);
            return Ok(());
        }
        if let Some(waiting) = state.waiting.remove(&lane) {
            self.write_out(&mut state, waiting)?;
        }
        self.put(&mut state, line.to_vec())?;
        // The pen is kept meanwhile, so that nobody writes in between.
        while let Some(finished) = state.finished.pop_front() {
            self.write_out(&mut state, finished)?;
        }
        state.pen = None;
        Ok(())
    }

    /// Ends the file on `lane` with its last line and nothing of what waited.
    pub fn finish_bare(&self, lane: usize, line: &[u8]) -> Result<(), Refused> {
        self.state.lock().waiting.remove(&lane);
        self.finish(lane, line)
    }

    fn write_out(&self, state: &mut MutexGuard<'_, State>, mut lines: SpooledTempFile) -> Result<(), Refused> {
        lines.rewind().map_err(Refused::NoRoom)?;
        loop {
            let mut block = Vec::with_capacity(BLOCK);
            (&mut lines).take(BLOCK as u64).read_to_end(&mut block).map_err(Refused::NoRoom)?;
            if block.is_empty() {
                return Ok(());
            }
            self.put(state, block)?;
        }
    }

    fn put(&self, state: &mut MutexGuard<'_, State>, lines: Vec<u8>) -> Result<(), Refused> {
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
        loop {
            if state.is_flushing || state.is_paused {
                return Out::Flushing;
            }
            if let Some(lines) = state.out.pop_front() {
                state.bytes -= lines.len();
                self.changed.notify_all();
                return Out::Lines(lines);
            }
            if state.has_ended {
                return Out::End;
            }
            self.changed.wait(&mut state);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn all(output: &Output) -> String {
        let mut text = Vec::new();
        while let Out::Lines(lines) = output.take() {
            text.extend(lines);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn lines_of_a_file_stay_together() {
        let output = Output::default();
        output.line(0, b"a1 ").unwrap();
        output.line(1, b"b1 ").unwrap();
        output.line(2, b"c1 ").unwrap();
        output.line(0, b"a2 ").unwrap();
        output.finish(1, b"b! ").unwrap();
        output.line(1, b"d1 ").unwrap();
        output.finish(0, b"a! ").unwrap();
        // The pen is free: whoever writes next has it, and what it had waiting goes first.
        output.line(2, b"c2 ").unwrap();
        output.finish(1, b"d! ").unwrap();
        output.finish(2, b"c! ").unwrap();
        output.end();
        assert_eq!(all(&output), "a1 a2 a! b1 b! c1 c2 c! d1 d! ");
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
        output.line(0, b"a").unwrap();
        (0..30).for_each(|_| output.line(1, &[b'b'; 100_000]).unwrap());
        assert!(output.state.lock().waiting[&1].is_rolled());
        output.finish(1, b"!").unwrap();
        output.finish(0, b"!").unwrap();
        output.end();
        assert_eq!(all(&output).len(), 3_000_003);
    }
}
