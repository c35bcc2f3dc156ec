//! How the user says that a model is to be read and given its pictures.
//!
//! Plain data, part of what an engine is asked for.

use crate::detect::error::{Error, Result};
use crate::detect::layouts::Family;
use crate::detect::onnx::input::MAX_SIDE;
use crate::detect::pixels::input_format::{ChannelOrder, Filter};
use crate::detect::pixels::letterbox::Anchor;

/// What the user says of a model; `None` for what is to be told from the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Reading {
    /// How its output is read.
    pub family: Option<Family>,
    /// Place of the frame on its canvas.
    pub anchor: Option<Anchor>,
    /// Order of the colour planes.
    pub order: Option<ChannelOrder>,
    /// Values of black and white.
    pub range: Option<InputRange>,
    /// What pictures are scaled with.
    pub filter: Filter,
    /// Width and height of the input, where the model leaves them free.
    pub size: Option<(usize, usize)>,
}

/// The values that a model expects for black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InputRange {
    /// 0 and 1.
    One,
    /// 0 and 255.
    Byte,
    /// -1 and 1.
    Signed,
    /// 0 and 1, less ImageNet's mean and divided by its deviation.
    ImageNet,
}

impl Reading {
    /// Takes "WIDTHxHEIGHT", one number for a square, or nothing.
    ///
    /// # Errors
    /// [`Error::Setting`] for anything else, and for sides outside of 1 to [`MAX_SIDE`].
    pub fn parse_size(text: &str) -> Result<Option<(usize, usize)>> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let side = |text: &str| text.trim().parse().ok().filter(|side| (1..=MAX_SIDE).contains(side));
        let (width, height) = text.split_once(['x', 'X']).unwrap_or((text, text));
        let size = side(width).zip(side(height)).ok_or_else(|| Error::Setting {
            setting: "input-size",
            reason: format!(
                "\"{text}\" is no size; write WIDTHxHEIGHT, such as 640x384, or one number for a square, 1 to {MAX_SIDE} pixels each"
            ),
        })?;
        Ok(Some(size))
    }
}
