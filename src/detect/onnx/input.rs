// SPDX-License-Identifier: MIT OR Apache-2.0
//! The inputs of a model: the picture and, if the model takes them, its size or a mask.
//!
//! Plain data, inferred from the declared inputs.

use super::tensor::{Dimension, ElementType, TensorInfo};
use crate::detect::error::Unsupported;

/// The inputs of a model: the picture and, if the model takes them, its size or a mask.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InputSpec {
    /// Name of the input for the picture.
    pub name: String,
    /// F32, F16 or U8.
    pub element: ElementType,
    pub width: usize,
    pub height: usize,
    /// Whether the shape is [batch, height, width, channels].
    pub channels_last: bool,
    /// 3, or 1 for grey pictures.
    pub channels: usize,
    /// Whether the shape has a batch dimension; otherwise it is that of one picture.
    pub has_batch: bool,
    /// Inputs other than the picture.
    pub extras: Vec<ExtraInput>,
}

impl InputSpec {
    /// Returns the shape of `images` pictures.
    pub fn shape(&self, images: usize) -> Vec<usize> {
        let (width, height, channels) = (self.width, self.height, self.channels);
        let picture = if self.channels_last { [height, width, channels] } else { [channels, height, width] };
        self.has_batch.then_some(images).into_iter().chain(picture).collect()
    }

    /// Returns the number of values of one picture.
    pub fn values(&self) -> usize {
        self.channels * self.width * self.height
    }
}

/// Side of the input in pixels for models that take any size and do not say for which they were trained.
pub const DEFAULT_SIDE: usize = 640;
/// Longest side of a model's input, in pixels.
pub const MAX_SIDE: usize = 4096;

/// Returns width and height of a model's input: as declared; if free, as `wanted`, or the size that it was `trained` with.
pub(crate) fn picture_size(
    (columns, rows): (&Dimension, &Dimension),
    trained: Option<(usize, usize)>,
    wanted: Option<(usize, usize)>,
) -> Result<(usize, usize), Unsupported> {
    let free = wanted.or(trained).unwrap_or((DEFAULT_SIDE, DEFAULT_SIDE));
    let side = |dimension: &Dimension, free: usize| match dimension {
        Dimension::Fixed(length) => *length,
        Dimension::Dynamic(_) => free,
    };
    let (width, height) = (side(columns, free.0), side(rows, free.1));
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        let reason = format!("its input is {width}x{height} pixels; each side must be 1 to {MAX_SIDE}");
        return Err(Unsupported::new(reason, "Export it with a smaller input"));
    }
    let describe = |dimension: &Dimension| match dimension {
        Dimension::Fixed(length) => format!("fixed ({length})"),
        Dimension::Dynamic(_) => "free".to_owned(),
    };
    match wanted {
        Some(wanted) if wanted != (width, height) => Err(Unsupported::new(
            format!(
                "its input has {} width and {} height, but input-size is {}x{}",
                describe(columns),
                describe(rows),
                wanted.0,
                wanted.1
            ),
            "Set input-size=auto, or export the model with a free size (dynamic=True in Ultralytics' export)",
        )),
        _ => Ok((width, height)),
    }
}

/// An input other than the picture.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExtraInput {
    pub name: String,
    /// F32, I32 or I64.
    pub element: ElementType,
    pub kind: ExtraKind,
}

/// What such an input contains. Boxes are then returned in pixels of the model's input, because its size is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExtraKind {
    /// Width and height: `orig_target_sizes` of RT-DETR, D-FINE, DEIM.
    WidthHeight,
    /// Height and width: `im_shape` of PaddleDetection.
    HeightWidth,
    /// Vertical and horizontal scale of the picture: `scale_factor` of PaddleDetection.
    Scale,
    /// A mask of the pixels that are not padding, of this shape without the batch: `pixel_mask` of Hugging Face's exports.
    Ones(Vec<usize>),
}

impl ExtraInput {
    /// Returns the values of the input for a picture that fills the model's input, to be repeated.
    pub fn values(&self, width: usize, height: usize) -> Vec<usize> {
        match self.kind {
            ExtraKind::WidthHeight => vec![width, height],
            ExtraKind::HeightWidth => vec![height, width],
            ExtraKind::Scale => vec![1, 1],
            ExtraKind::Ones(_) => vec![1],
        }
    }

    /// Returns the shape for one image, without the batch.
    pub fn shape(&self) -> &[usize] {
        match &self.kind {
            ExtraKind::Ones(shape) => shape,
            _ => &[2],
        }
    }
}

/// Most values of a mask for one picture.
const MAX_MASK_VALUES: usize = 1 << 22;

/// Recognises an input other than the picture: its size, as two values for each image, or a mask. The second argument is the size
/// of the picture.
pub(crate) fn extra_input(input: &TensorInfo, (width, height): (usize, usize)) -> Option<ExtraInput> {
    if !matches!(input.element, ElementType::F32 | ElementType::I32 | ElementType::I64) {
        return None;
    }
    let name = input.name.to_lowercase();
    let length = |dimension: &Dimension, free: usize| match dimension {
        Dimension::Fixed(length) => (1..=MAX_SIDE).contains(length).then_some(*length),
        Dimension::Dynamic(_) => Some(free),
    };
    let kind = match input.shape.as_slice() {
        [_, Dimension::Fixed(2)] if name.contains("scale") => ExtraKind::Scale,
        [_, Dimension::Fixed(2)] if name.contains("im_shape") || name.contains("image_shape") => ExtraKind::HeightWidth,
        [_, Dimension::Fixed(2)] => ExtraKind::WidthHeight,
        [_, rows, columns] if name.contains("mask") => {
            let (rows, columns) = (length(rows, height)?, length(columns, width)?);
            (rows * columns <= MAX_MASK_VALUES).then(|| ExtraKind::Ones(vec![rows, columns]))?
        }
        _ => return None,
    };
    Some(ExtraInput { name: input.name.clone(), element: input.element.clone(), kind })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_user_decides_the_size_that_the_model_leaves_free() {
        let free = || Dimension::Dynamic(String::new());
        let size =
            |columns: Dimension, rows: Dimension, trained, wanted| picture_size((&columns, &rows), trained, wanted);
        assert_eq!(size(free(), free(), None, None), Ok((640, 640)));
        assert_eq!(size(free(), free(), Some((320, 320)), None), Ok((320, 320)));
        assert_eq!(size(free(), free(), Some((320, 320)), Some((640, 384))), Ok((640, 384)));
        assert_eq!(size(Dimension::Fixed(640), free(), None, Some((640, 384))), Ok((640, 384)));
        let fixed = || Dimension::Fixed(640);
        assert_eq!(size(fixed(), fixed(), None, Some((640, 640))), Ok((640, 640)));
        let Unsupported { reason, advice } = size(fixed(), fixed(), None, Some((640, 384))).unwrap_err();
        assert!(
            reason.contains("fixed (640) width") && reason.contains("640x384") && advice.contains("free"),
            "{reason} {advice}"
        );
        assert!(size(Dimension::Fixed(99_999), fixed(), None, None).unwrap_err().reason.contains("99999x640"));
    }

    #[test]
    fn a_mask_of_too_many_values_is_not_known() {
        let mask = |rows: usize, columns: usize| {
            let shape = [1, rows, columns].map(Dimension::Fixed).to_vec();
            let input = TensorInfo { name: "pixel_mask".to_owned(), element: ElementType::I64, shape };
            extra_input(&input, (640, 640)).map(|extra| extra.shape().to_vec())
        };
        let columns = MAX_MASK_VALUES / MAX_SIDE;
        assert_eq!(mask(MAX_SIDE, columns), Some(vec![MAX_SIDE, columns]));
        assert_eq!(mask(MAX_SIDE, columns + 1), None);
    }
}
