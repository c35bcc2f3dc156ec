//! What a model wants to see, and the place in its input tensor where one picture goes.
//!
//! Plain data; [`prepare`](super::prepare) fills it.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::letterbox::Anchor;

/// Letterbox padding, in 8-bit units: the grey that YOLO models are trained with.
pub const PADDING: f32 = 114.0;

/// Order of the colour planes in the model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// What a picture is scaled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Filter {
    /// Between the two nearest samples each way, with half-pixel centres, as models are trained.
    #[default]
    Bilinear,
    /// The mean of all that a pixel of the input covers, where the picture is made smaller.
    Area,
}

/// What a model subtracts and divides by, for each channel in its own order, after white is at [`InputForm::white`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalise {
    /// Subtracted first.
    pub mean: [f32; 3],
    /// Divided by then; not 0.
    pub deviation: [f32; 3],
}

/// What a model wants to see: [1, channels, height, width], or with the channels last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputForm {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Order of the colour planes.
    pub order: ChannelOrder,
    /// The value of white: 1 or 255.
    pub white: f32,
    /// Place of the frame on the canvas.
    pub anchor: Anchor,
    /// Whether it is [1, height, width, channels].
    pub channels_last: bool,
    /// Whether there is one channel, of luma, in place of three.
    pub is_grey: bool,
    /// Mean and deviation that the model was trained with, where it was.
    pub normalise: Option<Normalise>,
    /// What pictures are scaled with.
    pub filter: Filter,
}

/// One image's part of the model's input tensor, channels * height * width values.
#[derive(Debug)]
pub enum SlotMut<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// 16-bit floats.
    F16(&'a mut [f16]),
    /// Bytes; white is 255 whatever the form says.
    U8(&'a mut [u8]),
}

impl SlotMut<'_> {
    /// Writes `value` in every place from `start` on, `step` apart, `count` of them.
    pub(crate) fn fill(&mut self, value: f32, start: usize, step: usize, count: usize) {
        fn every<T: Copy>(values: &mut [T], value: T, start: usize, step: usize, count: usize) {
            values[start..].iter_mut().step_by(step).take(count).for_each(|to| *to = value);
        }
        match self {
            Self::F32(values) => every(values, value, start, step, count),
            Self::F16(values) => every(values, f16::from_f32(value), start, step, count),
            Self::U8(values) => every(values, level(value), start, step, count),
        }
    }

    /// Writes a row of one channel from `start` on, `step` apart.
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
                values[start..].iter_mut().step_by(step).zip(row).for_each(|(to, &value)| *to = level(value));
            }
        }
    }
}

fn level(value: f32) -> u8 {
    (value + 0.5) as u8
}
