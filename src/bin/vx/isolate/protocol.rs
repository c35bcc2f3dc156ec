//! What a supervisor and its workers exchange, as frames on a socket of their own.
//!
//! A frame is its kind (1 byte), the number of the file that it belongs to (4 bytes; 0 for none), the length of its payload
//! (4 bytes) and the payload; numbers are little-endian. Both sides are the same program, but a worker may have overwritten its
//! memory: nothing that comes from it is believed without a check, and nothing is allocated for a length before its bytes come.

use std::io::{Read, Write};

use crate::bulk::Running;

/// Longest payload of a frame. Longer results are sent in several.
pub const MAX_PAYLOAD_LEN: usize = 1 << 20;

/// Longest results of one file.
pub const MAX_RESULT_LEN: usize = 1 << 30;

const HEADER_LEN: usize = 9;

const LAST_KIND: u8 = 10;

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// To a worker: read this file.
    Read { number: u32, file: String },
    /// The worker's process runs.
    Started,
    /// Its model is loaded.
    Ready,
    /// The next bytes of a file's results.
    Result { number: u32, bytes: Vec<u8> },
    /// A file's results are complete.
    End { number: u32 },
    /// How far a file is.
    Running { number: u32, running: Running },
    /// A warning about the run.
    Warning(String),
    /// A warning about the model.
    ModelWarning(String),
    /// Why the worker is about to exit.
    Error(String),
    /// Why it cannot begin any file, and is about to exit.
    Unable(String),
}

/// The other side sent what is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a message of unknown kind {0}")]
    Kind(u8),
    #[error("a message of {0} bytes, more than any has")]
    Length(u32),
    #[error("a text that is not UTF-8")]
    Text,
    #[error("progress that is not as it is sent")]
    Progress,
}

impl Message {
    /// The frame's bytes. Texts that are too long are cut.
    pub fn to_frame(&self) -> Vec<u8> {
        let progress;
        let (kind, number, payload): (u8, u32, &[u8]) = match self {
            Self::Read { number, file } => (1, *number, file.as_bytes()),
            Self::Started => (2, 0, &[]),
            Self::Ready => (3, 0, &[]),
            Self::Result { number, bytes } => (4, *number, bytes),
            Self::End { number } => (5, *number, &[]),
            Self::Warning(text) => (6, 0, cut(text)),
            Self::ModelWarning(text) => (7, 0, cut(text)),
            Self::Error(text) => (8, 0, cut(text)),
            Self::Running { number, running } => {
                progress = serde_json::to_vec(running).unwrap_or_default();
                (9, *number, &progress)
            }
            Self::Unable(text) => (10, 0, cut(text)),
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
            9 => Self::Running { number, running: serde_json::from_slice(&payload).map_err(|_| Malformed::Progress)? },
            10 => Self::Unable(text(payload)?),
            other => return Err(Malformed::Kind(other)),
        })
    }
}

/// A text's beginning, at most a payload long.
fn cut(text: &str) -> &[u8] {
    let end = (0..=text.len().min(MAX_PAYLOAD_LEN)).rev().find(|end| text.is_char_boundary(*end));
    &text.as_bytes()[..end.unwrap_or(0)]
}

/// Writes a file's results in as many frames as they need.
///
/// # Errors
/// Those of the socket.
pub fn write_result(out: &mut impl Write, number: u32, result: &[u8]) -> std::io::Result<()> {
    for bytes in result.chunks(MAX_PAYLOAD_LEN) {
        out.write_all(&Message::Result { number, bytes: bytes.to_vec() }.to_frame())?;
    }
    out.write_all(&Message::End { number }.to_frame())
}

/// Assembles messages from bytes as they come.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Up to here they are taken.
    position: usize,
}

impl Decoder {
    /// Reads once from `input`; the number of bytes, 0 at its end.
    ///
    /// # Errors
    /// Those of `input`.
    pub fn read_from(&mut self, input: &mut impl Read) -> std::io::Result<usize> {
        let mut block = [0; 1 << 16];
        let length = input.read(&mut block)?;
        self.bytes.extend_from_slice(&block[..length]);
        Ok(length)
    }

    /// The next complete message.
    ///
    /// # Errors
    /// When the bytes are not a message. No later one can be found then.
    pub fn message(&mut self) -> Result<Option<Message>, Malformed> {
        let rest = &self.bytes[self.position..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_LEN>() else { return Ok(self.wait()) };
        let [kind, a, b, c, d, e, f, g, h] = *header;
        let (number, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        // What is not a message must not be waited for.
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

    /// Gives up the bytes that are taken before more come.
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
            Message::Running { number: 7, running: Running { frames: 3, duration: Some(1.5), ..Running::default() } },
            Message::End { number: 7 },
            Message::Error("x".repeat(300)),
            Message::Unable("y".to_owned()),
        ]
    }

    #[test]
    fn messages_arrive_however_their_bytes_come() {
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
    fn long_results_come_in_pieces_and_long_texts_are_cut() {
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
    fn what_is_no_message_is_an_error_before_more_is_read() {
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
