// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzing of the files that runs read back, and of the messages between processes; see `src/fuzzing.rs`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use once_cell::sync::Lazy;

use super::events::{EventSettings, stretches, write_events};
use super::file_record::{Assembler, FileRecord};
use super::journal::Journal;
use super::quantity;
use super::report::{ReportSettings, write_report};
use super::results::Results;
use super::settings::Output;
use super::workers::Decoder;
use crate::elements::bulkbin::read_list;
use crate::record::{Frame, HeaderLine, Summary};

static FOLDER: Lazy<tempfile::TempDir> = Lazy::new(|| tempfile::tempdir().expect("a temporary folder can be created"));

fn place(name: &str) -> PathBuf {
    let path = FOLDER.path().join(name);
    // Left by the last input.
    let _ = std::fs::remove_file(&path);
    path
}

/// The output of an earlier run as lines: read back, reported on, and resumed.
pub(crate) fn results(bytes: &[u8]) {
    let path = place("found.jsonl");
    std::fs::write(&path, bytes).expect("a temporary folder can be written");
    read_back(&path);
    pieces(bytes);
    resumed(&path);
}

/// The output of an earlier run as a Parquet table: read back and reported on.
pub(crate) fn tables(bytes: &[u8]) {
    let path = place("found.parquet");
    std::fs::write(&path, bytes).expect("a temporary folder can be written");
    read_back(&path);
}

/// Reading, report and events agree on whether an output is valid.
fn read_back(path: &Path) {
    let mut is_valid = false;
    if let Ok(results) = Results::open([path]) {
        let files: Result<Vec<_>, _> = results.collect();
        is_valid = files.is_ok();
        for file in files.iter().flatten() {
            for stretch in stretches(file, None) {
                assert!(stretch.frames > 0 && stretch.most_at_once > 0, "{stretch:?}");
            }
        }
    }
    let page = place("report.html");
    let report =
        ReportSettings { found: vec![path.to_owned()], output: page, thumbnails: Some(0), ..ReportSettings::default() };
    assert_eq!(write_report(&report).is_ok(), is_valid);
    let events = EventSettings {
        found: vec![path.to_owned()],
        output: Output::File(place("events.csv")),
        ..EventSettings::default()
    };
    assert_eq!(write_events(events).is_ok(), is_valid);
}

/// Records are the same in whatever pieces their bytes come.
fn pieces(bytes: &[u8]) {
    let whole = Assembler::default().push(bytes);
    let (mut assembler, mut parts) = (Assembler::default(), Vec::new());
    for part in bytes.chunks(7) {
        parts.extend(assembler.push(part));
    }
    assert_eq!(whole.len(), parts.len());
    for (one, other) in whole.iter().zip(&parts) {
        assert_eq!(one.lines, other.lines);
        let _ = (one.detector(), one.frames().filter(Result::is_ok).count());
    }
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if let Ok(frame) = Frame::from_line(line) {
            let again = Frame::from_line(&frame.to_line()).expect("a written line can be read");
            assert_eq!(again.detections.len(), frame.detections.len());
        }
        if let Some(header) = HeaderLine::from_line(line) {
            assert!(HeaderLine::from_line(&header.to_line()).is_some());
        }
    }
}

/// A journal that is continued keeps the files in it.
fn resumed(path: &Path) {
    const ADDED: &str = "added";
    let Ok((mut journal, done)) = Journal::open(path, path, true, None) else { return };
    // In any order; one of them is read again.
    let replaced = done.keys().min().cloned();
    journal.replace(replaced.clone());
    journal.append_file(&FileRecord::of_summary(Summary::new(ADDED))).expect("a temporary file can be written");
    let mut kept = HashSet::new();
    let read = journal.read(|record| {
        kept.insert(record.summary.file.clone());
        Ok(())
    });
    read.expect("a journal that was written can be read");
    let expected = done.keys().filter(|name| Some(*name) != replaced.as_ref());
    expected.for_each(|name| assert!(kept.contains(name), "{name} is lost"));
    assert!(kept.contains(ADDED));
    drop(journal);
    let (_, again) = Journal::open(path, path, true, None).expect("a journal that was written can be resumed");
    assert!(again.contains_key(ADDED));
}

/// A list of paths, and quantities with units.
pub(crate) fn lists(bytes: &[u8]) {
    for is_null in [false, true] {
        if let Ok(paths) = read_list(bytes, is_null) {
            assert!(paths.iter().all(|path| !path.is_empty() && !path.contains('\0')), "{paths:?}");
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        for line in text.lines() {
            let _ = (quantity::size(line), quantity::duration(line));
            let _ = crate::path::path_of(line);
        }
    }
}

/// What a worker process and its supervisor send to each other.
pub(crate) fn messages(bytes: &[u8]) {
    let read = |pieces: usize| {
        let (mut decoder, mut rest, mut messages) = (Decoder::default(), bytes, Vec::new());
        while !rest.is_empty() {
            let (mut piece, after) = rest.split_at(pieces.min(rest.len()));
            rest = after;
            decoder.read_from(&mut piece).expect("memory can be read");
            loop {
                match decoder.message() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(_) => return messages,
                }
            }
        }
        messages
    };
    let messages = read(1 << 16);
    assert_eq!(read(5), messages);
    for message in messages {
        let mut decoder = Decoder::default();
        decoder.read_from(&mut &message.to_frame()[..]).expect("memory can be read");
        let again = decoder.message();
        // Settings with numbers that JSON does not have are not equal to themselves.
        assert!(again.is_ok_and(|again| again.is_some()), "{message:?}");
    }
}
