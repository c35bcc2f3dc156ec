// SPDX-License-Identifier: MIT OR Apache-2.0
//! The format of a model's input, and the slot of one picture in its input tensor.
//!
//! Plain data; [`Preparer`](super::preparer::Preparer) fills the slots.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::letterbox::ResizeMode;

/// Grey level of the letterbox padding, 0 to 255, as YOLO models are trained.
pub const PADDING: f32 = 114.0;

/// Order of the colour planes in the model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// The filter that scales pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Filter {
    /// Bilinear with half-pixel centres, as models are trained.
    #[default]
    Bilinear,
    /// The mean of all pixels that a pixel of the input covers, when a picture is reduced.
    Area,
}

/// Mean and deviation of each channel, in the model's channel order, for white at [`InputFormat::white`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalise {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Then divided by; not 0.
    pub deviation: [f32; 3],
}

/// The format of a model's pictures: [1, channels, height, width], or with the channels last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputFormat {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Order of the colour planes.
    pub order: ChannelOrder,
    /// The value of white: 1 or 255.
    pub white: f32,
    /// How a frame is fitted to the input.
    pub resize_mode: ResizeMode,
    /// Whether the shape is [1, height, width, channels].
    pub channels_last: bool,
    /// Whether there is one channel, luma, instead of three.
    pub is_grey: bool,
    /// Mean and deviation that the model was trained with, if any.
    pub normalise: Option<Normalise>,
    /// The filter that scales pictures.
    pub filter: Filter,
}

/// One picture's part of the model's input tensor, channels * height * width values.
#[derive(Debug)]
pub enum SlotMut<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// 16-bit floats.
    F16(&'a mut [f16]),
    /// Bytes; white is always 255.
    U8(&'a mut [u8]),
}

impl SlotMut<'_> {
    /// Writes `value` `count` times, from `start` on at every `step`th index.
    pub(crate) fn fill(&mut self, value: f32, start: usize, step: usize, count: usize) {
        fn fill<T: Copy>(values: &mut [T], value: T, start: usize, step: usize, count: usize) {
            values[start..].iter_mut().step_by(step).take(count).for_each(|to| *to = value);
        }
        match self {
            Self::F32(values) => fill(values, value, start, step, count),
            Self::F16(values) => fill(values, f16::from_f32(value), start, step, count),
            Self::U8(values) => fill(values, to_byte(value), start, step, count),
        }
    }

    /// Writes a row of one channel from `start` on at every `step`th index.
    pub(crate) fn write(&mut self, row: &[f32], start: usize, step: usize) {
        match self {
            Self::F32(values) => {
                values[start..].iter_mut().step_by(step).zip(row).for_each(|(to, &value)| *to = value);
            }
            Self::F16(values) if step == 1 => values[start..start + row.len()].convert_from_f32_slice(row),
            Self::F16(values) => {
                values[start..].iter_mut().step_by(step).zip(row).for_each(|(to, &value)| *to = f16::from_f32(value));
            }
            Self::U8(values) => {
                values[start..].iter_mut().step_by(step).zip(row).for_each(|(to, &value)| *to = to_byte(value));
            }
        }
    }
}

fn to_byte(value: f32) -> u8 {
    (value + 0.5) as u8
}
