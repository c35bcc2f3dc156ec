//! Properties by which a user says what a model is where its file does not.

use gst::glib;

use crate::detect;

/// How the model's output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxModelLayout")]
pub enum ModelLayout {
    /// Told from the model.
    #[default]
    #[enum_value(name = "Auto: told from the model's shapes and metadata", nick = "auto")]
    Auto,
    /// YOLOv8 and kin.
    #[enum_value(name = "[1, 4 + classes, cells]: YOLOv8, 9, 11, 12", nick = "v8")]
    V8,
    /// The same, transposed.
    #[enum_value(name = "[1, cells, 4 + classes]", nick = "v8-transposed")]
    V8Transposed,
    /// YOLOv5 and kin.
    #[enum_value(name = "[1, cells, 5 + classes]: YOLOv5, 6, 7", nick = "v5")]
    V5,
    /// YOLOX.
    #[enum_value(name = "[1, cells, 5 + classes], cells not decoded: YOLOX", nick = "yolox")]
    Yolox,
    /// YOLOv10 and kin.
    #[enum_value(name = "[1, N, 6], finished boxes: YOLOv10, YOLO26", nick = "end-to-end")]
    EndToEnd,
    /// DeepStream-Yolo.
    #[enum_value(name = "[1, cells, 6], boxes still to be suppressed: DeepStream-Yolo", nick = "deepstream")]
    DeepStream,
    /// Ultralytics' RT-DETR.
    #[enum_value(name = "[1, N, 4 + classes], finished, as shares of the input: RT-DETR", nick = "rtdetr")]
    RtDetr,
    /// YOLOv5 without its last step.
    #[enum_value(name = "Three maps, not decoded, with the anchors of YOLOv5 and YOLOv7-tiny", nick = "v5-raw")]
    V5Raw,
    /// YOLOv7 without its last step.
    #[enum_value(name = "Three maps, not decoded, with the anchors of YOLOv7", nick = "v7-raw")]
    V7Raw,
}

impl ModelLayout {
    pub fn family(self) -> Option<detect::Family> {
        Some(match self {
            Self::Auto => return None,
            Self::V8 => detect::Family::V8,
            Self::V8Transposed => detect::Family::V8Transposed,
            Self::V5 => detect::Family::V5,
            Self::Yolox => detect::Family::Yolox,
            Self::EndToEnd => detect::Family::EndToEnd,
            Self::DeepStream => detect::Family::DeepStream,
            Self::RtDetr => detect::Family::RtDetr,
            Self::V5Raw => detect::Family::V5Raw,
            Self::V7Raw => detect::Family::V7Raw,
        })
    }
}

/// How a frame is fitted to the model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxResizeMode")]
pub enum ResizeMode {
    /// Told from the model.
    #[default]
    #[enum_value(name = "Auto: as the model's family was trained", nick = "auto")]
    Auto,
    /// In the middle.
    #[enum_value(name = "Letterbox: aspect ratio kept, in the middle", nick = "letterbox")]
    Letterbox,
    /// At the top left.
    #[enum_value(name = "Letterbox: aspect ratio kept, at the top left", nick = "letterbox-top-left")]
    LetterboxTopLeft,
    /// All over.
    #[enum_value(name = "Stretch: aspect ratio not kept", nick = "stretch")]
    Stretch,
}

impl ResizeMode {
    pub fn anchor(self) -> Option<detect::Anchor> {
        Some(match self {
            Self::Auto => return None,
            Self::Letterbox => detect::Anchor::Center,
            Self::LetterboxTopLeft => detect::Anchor::TopLeft,
            Self::Stretch => detect::Anchor::Stretch,
        })
    }
}

/// What a frame is scaled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxResizeFilter")]
pub enum ResizeFilter {
    /// As models are trained.
    #[default]
    #[enum_value(name = "Bilinear: between the nearest pixels, as models are trained", nick = "bilinear")]
    Bilinear,
    /// For large reductions.
    #[enum_value(name = "Area: the mean of all that is covered, for frames much larger than the input", nick = "area")]
    Area,
}

impl From<ResizeFilter> for detect::Filter {
    fn from(filter: ResizeFilter) -> Self {
        match filter {
            ResizeFilter::Bilinear => Self::Bilinear,
            ResizeFilter::Area => Self::Area,
        }
    }
}

/// Order of the colour planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxChannelOrder")]
pub enum ChannelOrder {
    /// Told from the model.
    #[default]
    #[enum_value(name = "Auto: as the model's family was trained", nick = "auto")]
    Auto,
    /// Red first.
    #[enum_value(name = "Red, green, blue", nick = "rgb")]
    Rgb,
    /// Blue first.
    #[enum_value(name = "Blue, green, red", nick = "bgr")]
    Bgr,
}

impl ChannelOrder {
    pub fn order(self) -> Option<detect::ChannelOrder> {
        match self {
            Self::Auto => None,
            Self::Rgb => Some(detect::ChannelOrder::Rgb),
            Self::Bgr => Some(detect::ChannelOrder::Bgr),
        }
    }
}

/// Values of black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxInputRange")]
pub enum InputRange {
    /// Told from the model.
    #[default]
    #[enum_value(name = "Auto: as the model's family was trained", nick = "auto")]
    Auto,
    /// White is 1.
    #[enum_value(name = "Black is 0, white is 1", nick = "0-1")]
    One,
    /// White is 255.
    #[enum_value(name = "Black is 0, white is 255", nick = "0-255")]
    Byte,
    /// Around 0.
    #[enum_value(name = "Black is -1, white is 1", nick = "signed")]
    Signed,
    /// As torchvision's backbones are trained.
    #[enum_value(name = "0 to 1, less ImageNet's mean and divided by its deviation", nick = "imagenet")]
    ImageNet,
}

impl InputRange {
    pub fn range(self) -> Option<detect::InputRange> {
        Some(match self {
            Self::Auto => return None,
            Self::One => detect::InputRange::One,
            Self::Byte => detect::InputRange::Byte,
            Self::Signed => detect::InputRange::Signed,
            Self::ImageNet => detect::InputRange::ImageNet,
        })
    }
}
