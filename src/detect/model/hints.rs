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
    /// The size of its input.
    pub size: InputSize,
}

/// The size at which a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum InputSize {
    /// For each frame the smallest size that contains the scaled frame, in multiples of the model's stride, if the model allows
    /// it; otherwise as [`Model`](Self::Model).
    #[default]
    Auto,
    /// The size that the model was exported for, or trained with if it leaves its size free.
    Model,
    /// This width and height, for models that leave their size free.
    Fixed(usize, usize),
}

impl InputSize {
    /// Returns the size that the user selected.
    pub(crate) fn fixed(self) -> Option<(usize, usize)> {
        match self {
            Self::Fixed(width, height) => Some((width, height)),
            Self::Auto | Self::Model => None,
        }
    }
}

impl std::str::FromStr for InputSize {
    type Err = Error;

    /// Parses "auto" or an empty text, "model", "WIDTHxHEIGHT", or one number for a square.
    ///
    /// # Errors
    /// [`Error::Setting`] for anything else, and for sides outside of 1 to [`MAX_SIDE`].
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        match text {
            "" | "auto" => return Ok(Self::Auto),
            "model" => return Ok(Self::Model),
            _ => {}
        }
        let side = |text: &str| text.trim().parse().ok().filter(|side| (1..=MAX_SIDE).contains(side));
        let (width, height) = text.split_once(['x', 'X']).unwrap_or((text, text));
        let size = side(width).zip(side(height)).ok_or_else(|| Error::Setting {
            setting: "input-size",
            reason: format!(
                "\"{text}\" is not a size; write auto, model, WIDTHxHEIGHT such as 640x384, or one number for a square, each side \
                 1 to {MAX_SIDE} pixels"
            ),
        })?;
        Ok(Self::Fixed(size.0, size.1))
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn sides_beyond_the_limit_are_refused() {
        assert!(format!("{MAX_SIDE}x{MAX_SIDE}").parse::<InputSize>().is_ok());
        let error = format!("{}x640", MAX_SIDE + 1).parse::<InputSize>().unwrap_err().to_string();
        assert!(error.contains("1 to 4096 pixels"), "{error}");
    }

    #[test]
    fn sizes_are_names_or_width_and_height() {
        let sizes = [
            (" ", InputSize::Auto),
            ("auto", InputSize::Auto),
            ("model", InputSize::Model),
            ("640x384", InputSize::Fixed(640, 384)),
            ("1280", InputSize::Fixed(1280, 1280)),
        ];
        for (text, size) in sizes {
            assert_eq!(text.parse::<InputSize>().unwrap(), size, "{text}");
        }
        for wrong in ["0", "640x", "x", "wide", "-3x3", "640x99999", "1x2x3"] {
            assert!(wrong.parse::<InputSize>().unwrap_err().to_string().contains(wrong), "{wrong}");
        }
    }
}
