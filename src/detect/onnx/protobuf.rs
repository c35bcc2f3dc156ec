// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading and writing the fields of protobuf messages, for rewriting parts of an ONNX file without decoding the rest.
//!
//! Field numbers: onnx.proto. Messages are untrusted: their number of fields is limited. Pure functions.

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};

/// Field `graph` of `ModelProto`.
pub(super) const MODEL_GRAPH: u32 = 7;
/// Field `initializer` of `GraphProto`.
pub(super) const GRAPH_INITIALIZER: u32 = 5;

/// Most fields of a message, and so most nodes of a graph.
pub(super) const MAX_FIELDS: usize = 200_000;

/// A field of a message.
pub(super) struct Field<'a> {
    pub number: u32,
    /// All bytes of the field, including its key and length.
    pub whole: &'a [u8],
    /// The text, bytes or message in it; empty for a number.
    pub payload: &'a [u8],
}

impl Field<'_> {
    /// Decodes the message in the field, if it has no other fields than the `known`.
    pub fn message<M: Message + Default>(&self, known: &[u32]) -> Option<M> {
        let is_known = fields(self.payload)?.iter().all(|field| known.contains(&field.number));
        is_known.then(|| M::decode(self.payload).ok()).flatten()
    }

    /// Returns the number in the field, if it contains one.
    pub fn integer(&self) -> Option<u64> {
        let mut bytes = self.whole;
        let (_, kind) = decode_key(&mut bytes).ok()?;
        if kind != WireType::Varint {
            return None;
        }
        decode_varint(&mut bytes).ok()
    }
}

/// Returns the fields of a message; `None` if it is invalid or has too many.
pub(super) fn fields(mut rest: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while rest.has_remaining() {
        if fields.len() == MAX_FIELDS {
            return None;
        }
        let start = rest;
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        let mut payload = &start[..0];
        if wire_type == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            (payload, rest) = rest.split_at_checked(length)?;
        } else {
            skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
        }
        fields.push(Field { number, whole: &start[..start.len() - rest.len()], payload });
    }
    Some(fields)
}

/// Returns the only field with this number; `None` if there are several.
pub(super) fn only<'a, 'b>(parts: &'a [Field<'b>], number: u32) -> Option<&'a Field<'b>> {
    let mut found = parts.iter().filter(|part| part.number == number);
    found.next().filter(|_| found.next().is_none())
}

/// Returns the payload of the last field with this number in `message`.
pub(super) fn payload_of(message: &[u8], number: u32) -> Option<&[u8]> {
    fields(message)?.iter().rev().find(|field| field.number == number).map(|field| field.payload)
}

/// Appends a message as field `number`.
pub(super) fn put(number: u32, message: &impl Message, into: &mut Vec<u8>) {
    put_bytes(number, &message.encode_to_vec(), into);
}

/// Appends text, bytes or an encoded message as field `number`.
pub(super) fn put_bytes(number: u32, payload: &[u8], into: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, into);
    encode_varint(payload.len() as u64, into);
    into.extend_from_slice(payload);
}
