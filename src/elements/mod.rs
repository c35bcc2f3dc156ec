//! The GStreamer elements: pads, events, properties, messages. What they do lives in the layers below.

pub mod keyframedec;
mod layout;
mod origin;
mod upstream;
