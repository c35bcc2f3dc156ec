// SPDX-License-Identifier: MIT OR Apache-2.0
//! The enumerations of `vxyolodetect`'s properties, and what they are in the layers below.

use gst::glib;

use crate::{detect, meta};

macro_rules! model_layout {
    ($($variant:ident, $name:literal, $description:literal;)+) => {
        /// The layout of the model's output, one of those that `detect` lists as selectable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
        #[enum_type(name = "GstVxModelLayout")]
        pub enum ModelLayout {
            /// Inferred from the model.
            #[default]
            #[enum_value(name = "Auto: inferred from the model's shapes and metadata", nick = "auto")]
            Auto,
            $(
                #[doc = $description]
                #[enum_value(name = $description, nick = $name)]
                $variant,
            )+
        }

        impl From<ModelLayout> for Option<detect::ModelLayout> {
            fn from(layout: ModelLayout) -> Self {
                match layout {
                    ModelLayout::Auto => None,
                    $(ModelLayout::$variant => Some(detect::ModelLayout::$variant),)+
                }
            }
        }
    };
}
detect::selectable_layouts!(model_layout);

/// How a frame is fitted to the model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxResizeMode")]
pub enum ResizeMode {
    /// Inferred from the model.
    #[default]
    #[enum_value(name = "Auto: as the model's family was trained", nick = "auto")]
    Auto,
    /// In the middle.
    #[enum_value(name = "Letterbox: aspect ratio kept, in the middle", nick = "letterbox")]
    Letterbox,
    /// At the top left.
    #[enum_value(name = "Letterbox: aspect ratio kept, at the top left", nick = "letterbox-top-left")]
    LetterboxTopLeft,
    /// Without regard to the aspect ratio.
    #[enum_value(name = "Stretch: aspect ratio not kept", nick = "stretch")]
    Stretch,
}

impl From<ResizeMode> for Option<detect::ResizeMode> {
    fn from(mode: ResizeMode) -> Self {
        Some(match mode {
            ResizeMode::Auto => return None,
            ResizeMode::Letterbox => detect::ResizeMode::Letterbox,
            ResizeMode::LetterboxTopLeft => detect::ResizeMode::LetterboxTopLeft,
            ResizeMode::Stretch => detect::ResizeMode::Stretch,
        })
    }
}

/// Filter that scales a frame.
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
    /// Inferred from the model.
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

impl From<ChannelOrder> for Option<detect::ChannelOrder> {
    fn from(order: ChannelOrder) -> Self {
        match order {
            ChannelOrder::Auto => None,
            ChannelOrder::Rgb => Some(detect::ChannelOrder::Rgb),
            ChannelOrder::Bgr => Some(detect::ChannelOrder::Bgr),
        }
    }
}

/// Values of black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxInputRange")]
pub enum InputRange {
    /// Inferred from the model.
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

impl From<InputRange> for Option<detect::InputRange> {
    fn from(range: InputRange) -> Self {
        Some(match range {
            InputRange::Auto => return None,
            InputRange::One => detect::InputRange::One,
            InputRange::Byte => detect::InputRange::Byte,
            InputRange::Signed => detect::InputRange::Signed,
            InputRange::ImageNet => detect::InputRange::ImageNet,
        })
    }
}

/// Number format of computations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxPrecision")]
pub enum Precision {
    /// The provider's best.
    #[default]
    #[enum_value(name = "Auto: the fastest that keeps accuracy", nick = "auto")]
    Auto,
    /// 32-bit floats.
    #[enum_value(name = "32-bit floats", nick = "fp32")]
    Fp32,
    /// 16-bit brain floats.
    #[enum_value(name = "16-bit brain floats", nick = "bf16")]
    Bf16,
    /// 16-bit floats.
    #[enum_value(name = "16-bit floats", nick = "fp16")]
    Fp16,
}

impl From<Precision> for detect::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Auto => Self::Auto,
            Precision::Fp32 => Self::Fp32,
            Precision::Bf16 => Self::Bf16,
            Precision::Fp16 => Self::Fp16,
        }
    }
}

/// Goal of automatic numbers of sessions and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxOptimizeFor")]
pub enum OptimizeFor {
    /// Throughput, which suits keyframes of whole files.
    #[default]
    #[enum_value(name = "Auto: as throughput", nick = "auto")]
    Auto,
    /// Most frames per second.
    #[enum_value(name = "Throughput: a session for each core", nick = "throughput")]
    Throughput,
    /// Lowest latency of each frame.
    #[enum_value(name = "Latency: one session with all cores", nick = "latency")]
    Latency,
}

impl From<OptimizeFor> for detect::OptimizeFor {
    fn from(goal: OptimizeFor) -> Self {
        match goal {
            OptimizeFor::Auto | OptimizeFor::Throughput => Self::Throughput,
            OptimizeFor::Latency => Self::Latency,
        }
    }
}

/// What happens to frames that the detector has no time for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVxWhenLate")]
pub enum WhenLate {
    /// By the source.
    #[default]
    #[enum_value(name = "Auto: skip on a live stream, else block", nick = "auto")]
    Auto,
    /// They pass without inference.
    #[enum_value(name = "Skip: they pass without inference, marked as such", nick = "skip")]
    Skip,
    /// They wait.
    #[enum_value(name = "Block: they wait, and so does upstream", nick = "block")]
    Block,
    /// They are dropped.
    #[enum_value(name = "Drop: they are dropped", nick = "drop")]
    Drop,
}

/// Metas that are attached to frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVxMeta")]
pub enum Meta {
    /// Region-of-interest metas.
    #[enum_value(name = "GstVideoRegionOfInterestMeta", nick = "roi")]
    Roi,
    /// Analytics metas.
    #[enum_value(name = "GstAnalyticsRelationMeta (in builds for GStreamer 1.24 or newer)", nick = "analytics")]
    Analytics,
    /// Both.
    #[enum_value(name = "Both", nick = "both")]
    Both,
}

impl Default for Meta {
    fn default() -> Self {
        if meta::Kinds::HAS_ANALYTICS { Self::Both } else { Self::Roi }
    }
}

impl Meta {
    /// Whether this build can write them.
    pub fn is_supported(self) -> bool {
        meta::Kinds::HAS_ANALYTICS || self == Self::Roi
    }
}

impl From<Meta> for meta::Kinds {
    fn from(meta: Meta) -> Self {
        Self { roi: meta != Meta::Analytics, analytics: meta != Meta::Roi }
    }
}

#[cfg(test)]
mod tests {
    use glib::prelude::*;

    use super::*;

    #[test]
    fn the_property_offers_every_selectable_layout() {
        let class = glib::EnumClass::with_type(ModelLayout::static_type());
        let values: Vec<_> =
            class.iter().flat_map(|class| class.values()).map(|value| (value.nick(), value.name())).collect();
        let layouts = detect::ModelLayout::ALL.iter().map(|layout| (layout.name(), layout.description()));
        assert!(values[1..].iter().copied().eq(layouts), "{values:?}");
        assert_eq!(values[0].0, "auto");
    }
}
