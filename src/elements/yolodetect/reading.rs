//! Properties by which a user says what a model is where its file does not.

use gst::glib;

use crate::detect;

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

        impl ModelLayout {
            /// Returns the selected layout; `None` for auto.
            pub fn layout(self) -> Option<detect::ModelLayout> {
                match self {
                    Self::Auto => None,
                    $(Self::$variant => Some(detect::ModelLayout::$variant),)+
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
    pub fn resize_mode(self) -> Option<detect::ResizeMode> {
        Some(match self {
            Self::Auto => return None,
            Self::Letterbox => detect::ResizeMode::Letterbox,
            Self::LetterboxTopLeft => detect::ResizeMode::LetterboxTopLeft,
            Self::Stretch => detect::ResizeMode::Stretch,
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
