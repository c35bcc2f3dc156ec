// SPDX-License-Identifier: MIT OR Apache-2.0
//! Media files and URLs opened directly with FFmpeg, without a pipeline: to find out whether a file is media, and to inspect it.

use std::fs::File;

use crate::av::{ByteSource, FileSource, Interrupt, KeyframeReader, Options};
use crate::elements::keyframedec::url;
use crate::path::{is_http, path_of};

/// Opens a file or an HTTP URL to read keyframes, at most `max_frames`, or all if that is 0. `name` is as in records.
///
/// # Errors
/// Why it cannot be opened.
pub fn open_media(name: &str, max_frames: u64) -> Result<KeyframeReader, String> {
    open_with(name, &Options { max_frames, ..Options::default() }, Interrupt::default())
}

/// Opens a file or an HTTP URL to read keyframes; `interrupt` ends waits.
///
/// # Errors
/// Why it cannot be opened.
pub(super) fn open_with(name: &str, options: &Options, interrupt: Interrupt) -> Result<KeyframeReader, String> {
    let source = if is_http(name) {
        super::pipeline::init().map_err(|error| error.to_string())?;
        url::open(name)?
    } else {
        open_file(name)?
    };
    KeyframeReader::open(source, options, interrupt).map_err(|error| error.to_string())
}

fn open_file(name: &str) -> Result<Box<dyn ByteSource>, String> {
    let path = path_of(name);
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(&path).map_err(|error| error.to_string())?.is_file() {
        return Err("not a regular file".to_owned());
    }
    Ok(Box::new(FileSource(File::open(&path).map_err(|error| error.to_string())?)))
}
