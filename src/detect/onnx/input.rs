//! What a model is given: the picture, and where it asks for them the picture's size or a mask.
//!
//! Plain data, told from the declared inputs.

use super::tensor::{Dimension, ElementType, TensorInfo};

/// What a model is given: the picture, and its size or a mask where it asks for them.
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
    /// 3, or 1 for models of grey pictures.
    pub channels: usize,
    /// Whether there is a dimension for the batch; without it the shape is that of one picture.
    pub has_batch: bool,
    /// What is given beside the picture.
    pub extras: Vec<ExtraInput>,
}

impl InputSpec {
    /// The shape of `images` pictures.
    pub fn shape(&self, images: usize) -> Vec<usize> {
        let (width, height, channels) = (self.width, self.height, self.channels);
        let picture = if self.channels_last { [height, width, channels] } else { [channels, height, width] };
        self.has_batch.then_some(images).into_iter().chain(picture).collect()
    }

    /// Values of one picture.
    pub fn values(&self) -> usize {
        self.channels * self.width * self.height
    }
}

/// Side of models that take any size and do not say which they were trained for, in pixels.
pub const DEFAULT_SIDE: usize = 640;
/// Longest side of a model's input, in pixels.
pub const MAX_SIDE: usize = 4096;

/// Width and height of what a model is given, by those it declares; where it leaves them free what is `wanted`, else what it
/// was `trained` with. Fails with the reason and advice.
pub(crate) fn picture_size(
    (columns, rows): (&Dimension, &Dimension),
    trained: Option<(usize, usize)>,
    wanted: Option<(usize, usize)>,
) -> Result<(usize, usize), (String, &'static str)> {
    let free = wanted.or(trained).unwrap_or((DEFAULT_SIDE, DEFAULT_SIDE));
    let side = |dimension: &Dimension, free: usize| match dimension {
        Dimension::Fixed(length) => *length,
        Dimension::Dynamic(_) => free,
    };
    let (width, height) = (side(columns, free.0), side(rows, free.1));
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        let reason = format!("its input is {width}x{height} pixels; each side must be 1 to {MAX_SIDE}");
        return Err((reason, "Export it with a smaller input"));
    }
    let told = |dimension: &Dimension| match dimension {
        Dimension::Fixed(length) => format!("fixed ({length})"),
        Dimension::Dynamic(_) => "free".to_owned(),
    };
    match wanted {
        Some(wanted) if wanted != (width, height) => Err((
            format!(
                "its input is of {} width and {} height, and input-size is {}x{}",
                told(columns),
                told(rows),
                wanted.0,
                wanted.1
            ),
            "Leave input-size away, or export the model with a free size (dynamic=True in Ultralytics' export)",
        )),
        _ => Ok((width, height)),
    }
}

/// An input beside the picture.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExtraInput {
    pub name: String,
    /// F32, I32 or I64.
    pub element: ElementType,
    pub kind: ExtraKind,
}

/// What such an input asks for. Boxes then come out in pixels of the model's input, since that is the size given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExtraKind {
    /// Width and height: `orig_target_sizes` of RT-DETR, D-FINE, DEIM.
    WidthHeight,
    /// Height and width: `im_shape` of PaddleDetection.
    HeightWidth,
    /// How much the picture was scaled, down and across: `scale_factor` of PaddleDetection.
    Scale,
    /// A mask of the pixels that are not padding, of this shape without the batch: `pixel_mask` of Hugging Face's exports.
    Ones(Vec<usize>),
}

impl ExtraInput {
    /// What the input is given for a picture that fills the model's input: numbers that are repeated.
    pub fn values(&self, width: usize, height: usize) -> Vec<usize> {
        match self.kind {
            ExtraKind::WidthHeight => vec![width, height],
            ExtraKind::HeightWidth => vec![height, width],
            ExtraKind::Scale => vec![1, 1],
            ExtraKind::Ones(_) => vec![1],
        }
    }

    /// Its shape for one image, without the batch.
    pub fn shape(&self) -> &[usize] {
        match &self.kind {
            ExtraKind::Ones(shape) => shape,
            _ => &[2],
        }
    }
}

/// Most values of a mask for one picture.
const MOST_MASK: usize = 1 << 22;

/// What an input beside the picture asks for: its size, as two values for each image, or a mask; `size` is that of the
/// picture.
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
            (rows * columns <= MOST_MASK).then(|| ExtraKind::Ones(vec![rows, columns]))?
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
    fn the_user_decides_on_what_the_model_leaves_free() {
        let free = || Dimension::Dynamic(String::new());
        let size =
            |columns: Dimension, rows: Dimension, trained, wanted| picture_size((&columns, &rows), trained, wanted);
        assert_eq!(size(free(), free(), None, None), Ok((640, 640)));
        assert_eq!(size(free(), free(), Some((320, 320)), None), Ok((320, 320)));
        assert_eq!(size(free(), free(), Some((320, 320)), Some((640, 384))), Ok((640, 384)));
        assert_eq!(size(Dimension::Fixed(640), free(), None, Some((640, 384))), Ok((640, 384)));
        let fixed = || Dimension::Fixed(640);
        assert_eq!(size(fixed(), fixed(), None, Some((640, 640))), Ok((640, 640)));
        let (reason, advice) = size(fixed(), fixed(), None, Some((640, 384))).unwrap_err();
        assert!(
            reason.contains("fixed (640) width") && reason.contains("640x384") && advice.contains("free"),
            "{reason} {advice}"
        );
        assert!(size(Dimension::Fixed(99_999), fixed(), None, None).unwrap_err().0.contains("99999x640"));
    }
}
