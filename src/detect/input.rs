//! What a model is given: the picture, and where it asks for that the picture's size.
//!
//! Plain data, told from the declared inputs.

use super::tensor::{Dimension, ElementType, TensorInfo};

/// What a model is given: the picture, and the picture's size where it asks for that.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct InputSpec {
    /// Name of the input for the picture.
    pub name: String,
    /// F32, F16 or U8.
    pub element: ElementType,
    pub width: usize,
    pub height: usize,
    /// Whether the shape is [batch, height, width, 3].
    pub channels_last: bool,
    pub sizes: Vec<SizeInput>,
}

/// Side of models that take any size and do not say which they were trained for, in pixels.
pub const DEFAULT_SIDE: usize = 640;
/// Longest side of a model's input, in pixels.
pub const MAX_SIDE: usize = 4096;

/// Width and height of what a model is given, by those it declares; where it leaves them free what is `wanted`, else what it
/// was `trained` with. Fails with the reason and advice.
pub(super) fn picture_size(
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

/// An input of two values for each image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SizeInput {
    pub name: String,
    /// F32, I32 or I64.
    pub element: ElementType,
    pub kind: SizeKind,
}

/// What such an input asks for. Boxes then come out in pixels of the model's input, since that is the size given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SizeKind {
    /// Width and height: `orig_target_sizes` of RT-DETR, D-FINE, DEIM.
    WidthHeight,
    /// Height and width: `im_shape` of PaddleDetection.
    HeightWidth,
    /// How much the picture was scaled, down and across: `scale_factor` of PaddleDetection.
    Scale,
}

impl SizeInput {
    /// What the input is given for a picture that fills the model's input.
    pub fn values(&self, width: usize, height: usize) -> [usize; 2] {
        match self.kind {
            SizeKind::WidthHeight => [width, height],
            SizeKind::HeightWidth => [height, width],
            SizeKind::Scale => [1, 1],
        }
    }
}

/// What an input beside the picture asks for, if it is a size: two values for each image.
pub(super) fn size_input(input: &TensorInfo) -> Option<SizeInput> {
    let is_pair = matches!(input.shape.as_slice(), [_, Dimension::Fixed(2)]);
    let is_number = matches!(input.element, ElementType::F32 | ElementType::I32 | ElementType::I64);
    let name = input.name.to_lowercase();
    let kind = if name.contains("scale") {
        SizeKind::Scale
    } else if name.contains("im_shape") || name.contains("image_shape") {
        SizeKind::HeightWidth
    } else {
        SizeKind::WidthHeight
    };
    (is_pair && is_number).then(|| SizeInput { name: input.name.clone(), element: input.element.clone(), kind })
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
