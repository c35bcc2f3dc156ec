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
