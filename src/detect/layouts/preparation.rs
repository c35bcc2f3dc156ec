// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the models of a family expect frames to be prepared: colour order, range, mean and deviation, place on the canvas.
//!
//! Plain data; each value cites where it comes from.

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
    /// RGB 0..255, at the top left (DAMO-YOLO, damo/utils/demo_utils.py, `transform_img`).
    pub const BYTES_TOP_LEFT: Self = Self { order: ChannelOrder::Rgb, ..Self::YOLOX };
    /// RGB 0..255, stretched: TensorFlow's detectors, which scale in their graph.
    pub const BYTES_STRETCHED: Self = Self { white: 255.0, ..Self::STRETCHED };
    /// BGR, stretched, with its own mean and deviation (RangiLyu, nanodet/config/nanodet-plus-m_416.yml).
    pub const NANODET: Self = Self {
        order: ChannelOrder::Bgr,
        white: 255.0,
        resize_mode: ResizeMode::Stretch,
        normalise: Some(Normalise { mean: [103.53, 116.28, 123.675], deviation: [57.375, 57.12, 58.395] }),
    };
    /// The same in a letterbox (open-mmlab, mmdetection/configs/rtmdet/rtmdet_l_8xb32-300e_coco.py).
    pub const RTMDET: Self = Self { resize_mode: ResizeMode::LetterboxTopLeft, ..Self::NANODET };
    /// RGB, (value - 127) / 128, stretched (Linzaer, Ultra-Light-Fast-Generic-Face-Detector-1MB, run_video_face_detect_onnx.py).
    pub const ULTRAFACE: Self = Self {
        order: ChannelOrder::Rgb,
        white: 255.0,
        resize_mode: ResizeMode::Stretch,
        normalise: Some(Normalise { mean: [127.0; 3], deviation: [128.0; 3] }),
    };
    /// RGB, (value - 127.5) / 128, at the top left (deepinsight/insightface, detection/scrfd/tools/scrfd.py).
    pub const SCRFD: Self = Self {
        resize_mode: ResizeMode::LetterboxTopLeft,
        normalise: Some(Normalise { mean: [127.5; 3], deviation: [128.0; 3] }),
        ..Self::ULTRAFACE
    };
    /// BGR 0..255 minus a mean, at the top left (biubug6, Pytorch_Retinaface/detect.py).
    pub const RETINAFACE: Self =
        Self { normalise: Some(Normalise { mean: [104.0, 117.0, 123.0], deviation: [1.0; 3] }), ..Self::YOLOX };
    /// BGR 0..1, stretched (dog-qiuqiu, FastestDet/example/onnx-runtime/runtime.py).
    pub const FASTESTDET: Self = Self { order: ChannelOrder::Bgr, ..Self::STRETCHED };
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
