// SPDX-License-Identifier: MIT OR Apache-2.0
//! Media files opened directly with FFmpeg, without a pipeline: to find out whether a file is media, and to inspect it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::av::{ByteSource, Interrupt, KeyframeReader, Options, SourceError};

/// Bytes of a file.
struct FileSource {
    file: File,
    length: u64,
}

impl ByteSource for FileSource {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.file.read(buffer).map_err(|error| SourceError::Failed(error.to_string()))
    }

    fn seek(&mut self, position: u64) -> Result<(), SourceError> {
        self.file.seek(SeekFrom::Start(position)).map_err(|error| SourceError::Failed(error.to_string()))?;
        Ok(())
    }

    fn size(&mut self) -> Option<u64> {
        Some(self.length)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn has_cheap_seeks(&self) -> bool {
        true
    }
}

/// Opens a file to read keyframes, at most `max_frames`, or all if that is 0.
///
/// # Errors
/// Why the file cannot be opened.
pub fn open_media(path: &Path, max_frames: u64) -> Result<KeyframeReader, String> {
    open_with(path, &Options { max_frames, ..Options::default() }, Interrupt::default())
}

/// Opens a file to read keyframes; `interrupt` ends waits.
///
/// # Errors
/// Why the file cannot be opened.
pub(super) fn open_with(path: &Path, options: &Options, interrupt: Interrupt) -> Result<KeyframeReader, String> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err("not a regular file".to_owned());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let source = Box::new(FileSource { file, length });
    KeyframeReader::open(source, options, interrupt).map_err(|error| error.to_string())
}
