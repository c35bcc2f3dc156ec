// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines of one file, from its header to its summary: the piece that is written, cached and counted as one.
//!
//! Knows the schema of the lines and no place where they go. Any thread.

use crate::record::{DetectorInfo, Frame, HeaderLine, Summary};

/// All lines of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileRecord {
    /// The lines as bytes, the summary's included.
    pub lines: Vec<u8>,
    /// The summary.
    pub summary: Summary,
}

impl FileRecord {
    /// Creates a record that consists of a summary.
    #[must_use]
    pub fn of_summary(summary: Summary) -> Self {
        Self { lines: summary.to_line(), summary }
    }

    /// Returns the detector, if the lines begin with a header.
    #[must_use]
    pub fn detector(&self) -> Option<DetectorInfo> {
        HeaderLine::from_line(self.each_line().next()?)?.header.detector
    }

    /// Returns the frames, numbered from 1 as pictures of frames are.
    ///
    /// # Errors
    /// Each item: a line that is not a frame, with its number.
    pub fn frames(&self) -> impl Iterator<Item = Result<(u64, Frame), String>> {
        let lines = self.each_line().filter(|line| !HeaderLine::is_in(line) && Summary::from_line(line).is_none());
        (1..).zip(lines).map(|(number, line)| {
            let frame = Frame::from_line(line)
                .map_err(|error| format!("line {number} of {} is damaged: {error}", self.summary.file))?;
            Ok((number, frame))
        })
    }

    fn each_line(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }

    /// Splits the lines into the header, which may be empty, and the rest.
    pub(super) fn split_header(&self) -> (&[u8], &[u8]) {
        if HeaderLine::is_in(&self.lines) { self.lines.split_at(self.first_line_len()) } else { (&[], &self.lines) }
    }

    /// Removes the first line if `is_unwanted` returns true for it.
    pub(super) fn remove_first_line_if(&mut self, is_unwanted: impl FnOnce(&[u8]) -> bool) {
        let end = self.first_line_len();
        if is_unwanted(&self.lines[..end]) {
            self.lines.drain(..end);
        }
    }

    fn first_line_len(&self) -> usize {
        self.lines.iter().position(|byte| *byte == b'\n').map_or(self.lines.len(), |newline| newline + 1)
    }
}

/// Longest results of one file, in bytes.
pub(super) const MAX_RESULT_LEN: usize = 1 << 30;

/// Assembles the records of files from a stream of bytes. A file whose lines are longer than [`MAX_RESULT_LEN`] fails, and only its
/// summary is kept.
#[derive(Debug)]
pub(super) struct Assembler {
    bytes: Vec<u8>,
    /// The lines before this position are complete and end no file.
    checked: usize,
    /// Position up to which the bytes from `checked` contain no line feed.
    searched: usize,
    /// All lines but summaries are dropped.
    has_summaries_only: bool,
    limit: usize,
    /// The lines of this file were longer than the limit, and were dropped.
    is_too_long: bool,
}

impl Default for Assembler {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            checked: 0,
            searched: 0,
            has_summaries_only: false,
            limit: MAX_RESULT_LEN,
            is_too_long: false,
        }
    }
}

impl Assembler {
    /// Creates an assembler of records that consist of their summaries.
    pub fn of_summaries() -> Self {
        Self { has_summaries_only: true, ..Self::default() }
    }

    /// Adds bytes and returns the records that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<FileRecord> {
        self.bytes.extend_from_slice(bytes);
        let mut complete = Vec::new();
        // The position of the lines that are kept: what comes before it is removed once, at the end.
        let mut start = 0;
        while let Some(length) = memchr::memchr(b'\n', &self.bytes[self.searched..]) {
            let end = self.searched + length + 1;
            let summary = Summary::from_line(&self.bytes[self.checked..end]);
            if let Some(mut summary) = summary {
                let is_too_long = std::mem::take(&mut self.is_too_long) || end - start > self.limit;
                if is_too_long {
                    summary.lose(&too_long(self.limit), 0);
                    complete.push(FileRecord::of_summary(summary));
                } else if start == 0 && end == self.bytes.len() {
                    // Without a copy: they may be long.
                    complete.push(FileRecord { lines: std::mem::take(&mut self.bytes), summary });
                    (self.checked, self.searched) = (0, 0);
                    return complete;
                } else {
                    complete.push(FileRecord { lines: self.bytes[start..end].to_vec(), summary });
                }
                start = end;
            } else if self.has_summaries_only || self.is_too_long {
                start = end;
            }
            (self.checked, self.searched) = (end, end);
        }
        self.searched = self.bytes.len();
        if self.bytes.len() - start > self.limit {
            self.is_too_long = true;
            // The beginning of a line may be that of the summary, unless it is too long itself.
            start = if self.bytes.len() - self.checked > self.limit { self.bytes.len() } else { self.checked };
        }
        self.bytes.drain(..start);
        self.checked = self.checked.saturating_sub(start);
        self.searched -= start;
        complete
    }
}

fn too_long(limit: usize) -> gst::glib::Error {
    let text = format!("its results are longer than {} MiB, so its lines were dropped", limit >> 20);
    gst::glib::Error::new(gst::ResourceError::NoSpaceLeft, &text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_split_off() {
        let header = b"{\"schema\":2,\"header\":{\"file\":\"a\",\"detector\":null}}\n";
        let bare = FileRecord::of_summary(Summary::new("a"));
        let file = FileRecord { lines: [header.as_slice(), &bare.lines].concat(), summary: bare.summary.clone() };
        assert_eq!(file.split_header(), (header.as_slice(), &*bare.lines));
        assert_eq!(bare.split_header(), (b"".as_slice(), &*bare.lines));
    }

    #[test]
    fn records_end_with_their_summary_whatever_the_size_of_the_pieces() {
        let frame = br#"{"schema":2,"file":"\"status\":","pts_ns":0,"width":1,"height":1,"detections":[]}"#;
        let mut all = Vec::new();
        for (file, frames) in [("a", 2), ("b", 0), ("c", 1)] {
            (0..frames).for_each(|_| {
                all.extend_from_slice(frame);
                all.push(b'\n');
            });
            all.extend(Summary::new(file).to_line());
        }
        for step in [1, 7, 100, 100_000] {
            let mut assembler = Assembler::default();
            let found: Vec<FileRecord> = all.chunks(step).flat_map(|bytes| assembler.push(bytes)).collect();
            assert_eq!(found.iter().map(|file| &*file.summary.file).collect::<Vec<_>>(), ["a", "b", "c"]);
            assert_eq!(found.iter().flat_map(|file| file.lines.clone()).collect::<Vec<_>>(), all);
            assert_eq!(found[1], FileRecord::of_summary(Summary::new("b")));
            let mut assembler = Assembler::of_summaries();
            let found: Vec<FileRecord> = all.chunks(step).flat_map(|bytes| assembler.push(bytes)).collect();
            assert_eq!(found, ["a", "b", "c"].map(|file| FileRecord::of_summary(Summary::new(file))));
        }
    }

    #[test]
    fn a_file_with_too_many_lines_fails_and_the_others_do_not() {
        let frame = br#"{"schema":2,"file":"b","pts_ns":0,"width":1,"height":1,"detections":[]}"#;
        let mut all = Summary::new("a").to_line();
        (0..50).for_each(|_| all.extend([frame.as_slice(), b"\n"].concat()));
        all.extend(Summary { keyframes: 50, ..Summary::new("b") }.to_line());
        // A line that is too long itself.
        all.extend([&[b'x'; 4000], &b"\n"[..]].concat());
        all.extend(Summary::new("c").to_line());
        all.extend(Summary::new("d").to_line());
        for step in [1, 100, 100_000] {
            let mut assembler = Assembler { limit: 1500, ..Assembler::default() };
            let mut found = Vec::new();
            for bytes in all.chunks(step) {
                found.extend(assembler.push(bytes));
                assert!(assembler.bytes.len() <= 1500);
            }
            let files: Vec<_> = found.iter().map(|file| (&*file.summary.file, file.summary.status)).collect();
            let (ok, failed) = (crate::record::Status::Ok, crate::record::Status::Failed);
            assert_eq!(files, [("a", ok), ("b", failed), ("c", failed), ("d", ok)], "{step}");
            assert_eq!(found[1].summary.keyframes, 0);
            assert!(found[1].summary.error.as_ref().unwrap().message.contains("longer than"));
            assert_eq!(found[1].lines, found[1].summary.to_line());
        }
    }

    #[test]
    fn frames_and_the_detector_are_read_from_lines() {
        let file = super::super::tables::tests::file();
        let frames: Vec<(u64, Frame)> = file.frames().map(Result::unwrap).collect();
        assert_eq!(
            frames.iter().map(|(number, frame)| (*number, frame.is_keyframe)).collect::<Vec<_>>(),
            [(1, true), (2, false), (3, true)]
        );
        assert_eq!(frames[1].1.seconds(), Some(0.04));
        assert_eq!(file.detector().unwrap().classes, ["person", "dog", "cat"]);
        assert!(FileRecord::of_summary(file.summary).detector().is_none());
    }
}
