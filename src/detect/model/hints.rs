// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the user says about a model and the pictures that it takes.
//!
//! Plain data, part of an engine's specification.

use crate::detect::error::{Error, Result};
use crate::detect::layouts::ModelLayout;
use crate::detect::onnx::input::MAX_SIDE;
use crate::detect::pixels::input_format::{ChannelOrder, Filter};
use crate::detect::pixels::letterbox::ResizeMode;

/// What the user says about a model; `None` for what is inferred from the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ModelHints {
    /// The layout of its outputs.
    pub layout: Option<ModelLayout>,
    /// How frames are fitted to the input.
    pub resize_mode: Option<ResizeMode>,
    /// Order of the colour planes.
    pub order: Option<ChannelOrder>,
    /// Values of black and white.
    pub range: Option<InputRange>,
    /// The filter that scales pictures.
    pub filter: Filter,
    /// Width and height of the input, if the model leaves them free.
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
    /// 0 and 1, minus ImageNet's mean and divided by its deviation.
    ImageNet,
}

impl ModelHints {
    /// Parses "WIDTHxHEIGHT", one number for a square, or an empty text.
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
                "\"{text}\" is not a size; write WIDTHxHEIGHT, such as 640x384, or one number for a square, each 1 to {MAX_SIDE} pixels"
            ),
        })?;
        Ok(Some(size))
    }
}
