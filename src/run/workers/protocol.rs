// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages between a supervisor and its workers, as frames on a socket.
//!
//! A frame is its kind (1 byte), the number of the file that it belongs to (4 bytes; 0 for none), the length of its payload
//! (4 bytes) and the payload; numbers are little-endian. Both sides are the same program, but a worker may have overwritten its
//! memory: everything that comes from it is checked, and nothing is allocated for a length before its bytes are there.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use super::super::event::Progress;
use super::super::pictures::Pictures;
use super::super::properties::Properties;
use super::super::settings::WhichFrames;
use crate::path::{name_of, path_of};

/// The settings of a worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerSettings {
    /// Properties of `vxbulkbin` and of the elements inside.
    pub properties: Properties,
    pictures: Option<PictureSettings>,
}

/// [`Pictures`], with the folder as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PictureSettings {
    folder: String,
    all: bool,
    draw: bool,
}

impl WorkerSettings {
    /// Creates them.
    pub fn new(properties: Properties, pictures: Option<&Pictures>) -> Self {
        let pictures = pictures.map(|pictures| PictureSettings {
            folder: name_of(&pictures.folder),
            all: pictures.which == WhichFrames::All,
            draw: pictures.draw,
        });
        Self { properties, pictures }
    }

    /// Returns the pictures to save.
    pub fn pictures(&self) -> Option<Pictures> {
        self.pictures.as_ref().map(|pictures| Pictures {
            folder: path_of(&pictures.folder).into_owned(),
            which: if pictures.all { WhichFrames::All } else { WhichFrames::Detections },
            draw: pictures.draw,
        })
    }
}

/// Longest payload of a frame. Longer results are sent in several frames.
pub const MAX_PAYLOAD_LEN: usize = 1 << 20;

const HEADER_LEN: usize = 9;

const LAST_KIND: u8 = 11;

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// To a worker, first: its settings.
    Settings(WorkerSettings),
    /// To a worker: read this file.
    Read { number: u32, file: String },
    /// The worker's process is running.
    Started,
    /// Its model is loaded.
    Ready,
    /// The next bytes of a file's results.
    Result { number: u32, bytes: Vec<u8> },
    /// A file's results are complete.
    End { number: u32 },
    /// How far a file is.
    Progress { number: u32, progress: Progress },
    /// A warning about the run.
    Warning(String),
    /// A warning about the model.
    ModelWarning(String),
    /// Why the worker is about to exit.
    Error(String),
    /// Why the worker cannot begin any file and is about to exit.
    Unable(String),
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a message of unknown kind {0}")]
    Kind(u8),
    #[error("a message of {0} bytes, longer than any message")]
    Length(u32),
    #[error("a text that is not UTF-8")]
    Text,
    #[error("values that cannot be parsed")]
    Values,
}

impl Message {
    /// Returns the bytes of the frame. Texts that are too long are truncated.
    pub fn to_frame(&self) -> Vec<u8> {
        let values;
        let (kind, number, payload): (u8, u32, &[u8]) = match self {
            Self::Read { number, file } => (1, *number, file.as_bytes()),
            Self::Started => (2, 0, &[]),
            Self::Ready => (3, 0, &[]),
            Self::Result { number, bytes } => (4, *number, bytes),
            Self::End { number } => (5, *number, &[]),
            Self::Warning(text) => (6, 0, truncated(text)),
            Self::ModelWarning(text) => (7, 0, truncated(text)),
            Self::Error(text) => (8, 0, truncated(text)),
            Self::Progress { number, progress } => {
                values = serde_json::to_vec(progress).unwrap_or_default();
                (9, *number, &values)
            }
            Self::Settings(settings) => {
                values = serde_json::to_vec(settings).unwrap_or_default();
                (11, 0, &values)
            }
            Self::Unable(text) => (10, 0, truncated(text)),
        };
        debug_assert!(payload.len() <= MAX_PAYLOAD_LEN, "results are sent in pieces");
        let mut frame = Vec::with_capacity(HEADER_LEN + payload.len());
        frame.push(kind);
        frame.extend(number.to_le_bytes());
        frame.extend((payload.len() as u32).to_le_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    fn new(kind: u8, number: u32, payload: Vec<u8>) -> Result<Self, Malformed> {
        let text = |bytes| String::from_utf8(bytes).map_err(|_| Malformed::Text);
        Ok(match kind {
            1 => Self::Read { number, file: text(payload)? },
            2 => Self::Started,
            3 => Self::Ready,
            4 => Self::Result { number, bytes: payload },
            5 => Self::End { number },
            6 => Self::Warning(text(payload)?),
            7 => Self::ModelWarning(text(payload)?),
            8 => Self::Error(text(payload)?),
            9 => Self::Progress { number, progress: serde_json::from_slice(&payload).map_err(|_| Malformed::Values)? },
            11 => Self::Settings(serde_json::from_slice(&payload).map_err(|_| Malformed::Values)?),
            10 => Self::Unable(text(payload)?),
            other => return Err(Malformed::Kind(other)),
        })
    }
}

/// Returns the beginning of a text, at most as long as a payload.
fn truncated(text: &str) -> &[u8] {
    let end = (0..=text.len().min(MAX_PAYLOAD_LEN)).rev().find(|end| text.is_char_boundary(*end));
    &text.as_bytes()[..end.unwrap_or(0)]
}

/// Writes a file's results in as many frames as they need.
///
/// # Errors
/// The socket's.
pub fn write_result(out: &mut impl Write, number: u32, result: &[u8]) -> std::io::Result<()> {
    for bytes in result.chunks(MAX_PAYLOAD_LEN) {
        out.write_all(&Message::Result { number, bytes: bytes.to_vec() }.to_frame())?;
    }
    out.write_all(&Message::End { number }.to_frame())
}

/// Assembles messages from bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// The bytes before this position have been returned as messages.
    position: usize,
}

impl Decoder {
    /// Reads once from `input`; returns the number of bytes, 0 at its end.
    ///
    /// # Errors
    /// Those of `input`.
    pub fn read_from(&mut self, input: &mut impl Read) -> std::io::Result<usize> {
        let mut block = [0; 1 << 16];
        let length = input.read(&mut block)?;
        self.bytes.extend_from_slice(&block[..length]);
        Ok(length)
    }

    /// Returns the next complete message.
    ///
    /// # Errors
    /// The bytes are not a message. No later message can be found then.
    pub fn message(&mut self) -> Result<Option<Message>, Malformed> {
        let rest = &self.bytes[self.position..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_LEN>() else { return Ok(self.wait()) };
        let [kind, a, b, c, d, e, f, g, h] = *header;
        let (number, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        // Fails before the rest of a payload is waited for.
        if !(1..=LAST_KIND).contains(&kind) {
            return Err(Malformed::Kind(kind));
        }
        if length as usize > MAX_PAYLOAD_LEN {
            return Err(Malformed::Length(length));
        }
        let Some(payload) = rest.get(..length as usize) else { return Ok(self.wait()) };
        let payload = payload.to_vec();
        self.position += HEADER_LEN + payload.len();
        Message::new(kind, number, payload).map(Some)
    }

    /// Drops the bytes that have been returned, before more are read.
    fn wait(&mut self) -> Option<Message> {
        self.bytes.drain(..self.position);
        self.position = 0;
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn messages() -> Vec<Message> {
        vec![
            Message::Started,
            Message::Warning("ä".to_owned()),
            Message::ModelWarning(String::new()),
            Message::Ready,
            Message::Read { number: 7, file: "a b\n.mp4".to_owned() },
            Message::Result { number: 7, bytes: vec![0, 255, 10] },
            Message::Progress {
                number: 7,
                progress: Progress { frames: 3, duration_seconds: Some(1.5), ..Progress::default() },
            },
            Message::Settings(WorkerSettings::new(
                vec![("lanes".to_owned(), "1".to_owned())],
                Some(&Pictures { folder: "a b".into(), which: WhichFrames::All, draw: true }),
            )),
            Message::End { number: 7 },
            Message::Error("x".repeat(300)),
            Message::Unable("y".to_owned()),
        ]
    }

    #[test]
    fn messages_arrive_whatever_the_size_of_the_pieces() {
        let bytes: Vec<u8> = messages().iter().flat_map(Message::to_frame).collect();
        for step in [1, 2, 9, 10, 1000] {
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for mut part in bytes.chunks(step) {
                decoder.read_from(&mut part).unwrap();
                while let Some(message) = decoder.message().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, messages(), "{step}");
        }
    }

    #[test]
    fn long_results_come_in_pieces_and_long_texts_are_truncated() {
        let result: Vec<u8> = (0..MAX_PAYLOAD_LEN + 5).map(|index| index as u8).collect();
        let mut bytes = Vec::new();
        write_result(&mut bytes, 3, &result).unwrap();
        let (mut decoder, mut input, mut found) = (Decoder::default(), bytes.as_slice(), Vec::new());
        while decoder.read_from(&mut input).unwrap() > 0 {
            while let Some(message) = decoder.message().unwrap() {
                match message {
                    Message::Result { number: 3, bytes } => found.extend(bytes),
                    other => assert_eq!(other, Message::End { number: 3 }),
                }
            }
        }
        assert!(found == result);
        let text = "ä".repeat(MAX_PAYLOAD_LEN);
        assert_eq!(Message::Error(text).to_frame().len(), HEADER_LEN + MAX_PAYLOAD_LEN);
    }

    #[test]
    fn bytes_that_are_not_a_message_are_an_error_before_more_is_read() {
        for (bytes, error) in [
            (&b"Hello, this is a library\n"[..], Malformed::Kind(b'H')),
            (&[0; 9], Malformed::Kind(0)),
            (&[4, 0, 0, 0, 0, 255, 255, 255, 255], Malformed::Length(u32::MAX)),
            (&[6, 0, 0, 0, 0, 1, 0, 0, 0, 0xff], Malformed::Text),
        ] {
            let mut decoder = Decoder::default();
            decoder.read_from(&mut &*bytes).unwrap();
            assert_eq!(decoder.message(), Err(error));
        }
    }
}
