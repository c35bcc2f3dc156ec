//! Files on a disk as bytes for FFmpeg, without GStreamer between.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use gstvx::av::{ByteSource, Interrupt, KeyframeReader, Options, SourceError};

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

/// Opens a file for its keyframes, `max_frames` of them or, with 0, all.
///
/// # Errors
/// Why that is not possible.
pub fn open(path: &Path, max_frames: u64) -> Result<KeyframeReader, String> {
    // Opening a pipe would wait for whoever writes to it.
    if !std::fs::metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err("it is no file; `vx detect` reads folders".to_owned());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let options = Options { max_frames, ..Options::default() };
    let source = Box::new(FileSource { file, length });
    KeyframeReader::open(source, &options, Interrupt::default()).map_err(|error| error.to_string())
}
