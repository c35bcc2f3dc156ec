// SPDX-License-Identifier: MIT OR Apache-2.0
//! How models expect frames to be prepared: colour order, range, mean and deviation, place on the canvas.
//!
//! Plain data. Owns the preparations that several families share; the others are constants of their families. Each cites its
//! source.

use crate::detect::pixels::input_format::{ChannelOrder, Normalise};
use crate::detect::pixels::letterbox::ResizeMode;

/// How a frame is converted to a model's input, apart from size and memory order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Preparation {
    pub order: ChannelOrder,
    /// The value of white: 1 or 255.
    pub white: f32,
    pub resize_mode: ResizeMode,
    pub normalise: Option<Normalise>,
}

/// The mean and deviation of ImageNet, which torchvision's backbones are trained with, for white at 1.
pub(crate) const IMAGENET: Normalise = Normalise { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };

impl Preparation {
    /// RGB 0..1 in a letterbox, as YOLOv5 and its successors are trained.
    pub const YOLO: Self =
        Self { order: ChannelOrder::Rgb, white: 1.0, resize_mode: ResizeMode::Letterbox, normalise: None };
    /// RGB 0..1, stretched: RT-DETR, pytorch-YOLOv4.
    pub const STRETCHED: Self = Self { resize_mode: ResizeMode::Stretch, ..Self::YOLO };
    /// RGB with ImageNet's mean and deviation, stretched: the DETR family, PaddleDetection.
    pub const IMAGENET: Self = Self { normalise: Some(IMAGENET), ..Self::STRETCHED };
    /// BGR 0..255, at the top left (Megvii, yolox/data/data_augment.py, `preproc`).
    pub const YOLOX: Self =
        Self { order: ChannelOrder::Bgr, white: 255.0, resize_mode: ResizeMode::LetterboxTopLeft, normalise: None };
}

impl std::fmt::Display for Preparation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let order = if self.order == ChannelOrder::Rgb { "RGB" } else { "BGR" };
        let place = match self.resize_mode {
            ResizeMode::Letterbox => "in a letterbox",
            ResizeMode::LetterboxTopLeft => "at the top left",
            ResizeMode::Stretch => "stretched",
        };
        match self.normalise {
            Some(normalise) if normalise == IMAGENET => {
                write!(f, "{order} with ImageNet's mean and deviation, {place}")
            }
            Some(_) => write!(f, "{order} with its own mean and deviation, {place}"),
            None => write!(f, "{order} 0..{}, {place}", self.white),
        }
    }
}
