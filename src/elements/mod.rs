//! The GStreamer elements: pads, events, properties, messages. What they do lives in the layers below.

#![forbid(unsafe_code)]

pub mod jsonenc;
pub mod keyframedec;
mod layout;
mod origin;
pub mod places;
mod startup;
mod upstream;
pub mod yolodetect;
