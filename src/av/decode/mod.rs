//! Decoding: one decoder, several side by side, and decoders on a device.

pub mod decoder;
pub mod hardware;
pub mod parallel;
