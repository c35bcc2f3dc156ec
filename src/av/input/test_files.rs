// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files for tests, made byte by byte.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;

use crate::av::error::Error;
use crate::av::input::Input;
use crate::av::io::{FileSource, Interrupt};

/// Returns a file of these bytes.
pub(crate) fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// Opens a file.
pub(crate) fn opened(file: File) -> Result<Input, Error> {
    Input::open(Box::new(FileSource(file)), Interrupt::default(), u64::MAX)
}

/// Opens a file of these bytes, of which only the header is read.
pub(crate) fn unprobed(bytes: &[u8]) -> Result<Input, Error> {
    Input::open_unprobed(Box::new(FileSource(file_of(bytes))), Interrupt::default())
}

/// Returns the bytes of a file of the repository.
pub(crate) fn bytes_of(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Returns an element of a Matroska file.
pub(crate) fn element(id: u32, content: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    let zeros = id.iter().take_while(|byte| **byte == 0).count();
    let mut bytes = id[zeros..].to_vec();
    // Eight bytes of size, the first of which only says so.
    bytes.extend((content.len() as u64 | 1 << 56).to_be_bytes());
    bytes.extend(content);
    bytes
}

/// Returns a Matroska file with these tracks, which are the content of a `Tracks` element, and this content of a cluster.
pub(crate) fn matroska(tracks: &[u8], cluster: &[u8]) -> Vec<u8> {
    let head = element(0x1A45_DFA3, &element(0x4282, b"matroska"));
    let segment = [element(0x1654_AE6B, tracks), element(0x1F43_B675, cluster)].concat();
    [head, element(0x1853_8067, &segment)].concat()
}

/// Returns a track of a Matroska file: its number, its type (1 for video, 2 for audio) and its codec.
pub(crate) fn track(number: u16, kind: u8, codec: &str) -> Vec<u8> {
    let number = element(0xD7, &number.to_be_bytes());
    element(0xAE, &[number, element(0x83, &[kind]), element(0x86, codec.as_bytes())].concat())
}
