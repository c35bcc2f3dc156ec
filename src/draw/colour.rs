// SPDX-License-Identifier: MIT OR Apache-2.0
//! Colours: one for each class, readable text on it, and their values in the components of a frame.

use crate::detect::{COCO, ColourModel, Matrix, Range, SampleLayout};

/// Number of hues for names that are not COCO's.
const OTHER_NAMES: u32 = 4096;

/// Red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

impl Colour {
    pub const BLACK: Self = Self([0; 3]);
    pub const WHITE: Self = Self([255; 3]);

    /// Returns the colour of the class called `name`, which depends on nothing else: the same in every run, file and model.
    ///
    /// COCO's 80 names are numbered as in COCO, so that these differ as much as possible; a hash numbers all others (FNV-1a by
    /// Fowler, Noll and Vo). Letter case makes no difference.
    pub fn of_class(name: &str) -> Self {
        let name = name.trim().to_lowercase();
        let number = COCO.iter().position(|class| *class == name).unwrap_or_else(|| {
            let hash =
                name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
            COCO.len() + (hash % OTHER_NAMES) as usize
        });
        Self::numbered(number)
    }

    /// Returns a colour by number: hues a golden angle apart, so that neighbouring numbers differ much and the circle is never
    /// exhausted (H. Vogel, "A better way to construct the sunflower head", 1979); every third is lighter, every third darker.
    fn numbered(number: usize) -> Self {
        const GOLDEN_ANGLE: f64 = 137.507_764;
        // The first class, a person, is red.
        let hue = (number as f64 * GOLDEN_ANGLE + 350.0).rem_euclid(360.0);
        let lightness = [0.56, 0.42, 0.70][number % 3];
        Self::from_hsl(hue, 0.85, lightness)
    }

    /// Converts hue in degrees, saturation and lightness 0 to 1 (CSS Color Module Level 4, section 7.1).
    fn from_hsl(hue: f64, saturation: f64, lightness: f64) -> Self {
        let channel = |offset: f64| {
            let k = (offset + hue / 30.0) % 12.0;
            let a = saturation * f64::min(lightness, 1.0 - lightness);
            let value = lightness - a * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
            (value * 255.0).round() as u8
        };
        Self([channel(0.0), channel(8.0), channel(4.0)])
    }

    /// Returns the relative luminance (WCAG 2.1).
    fn luminance(self) -> f64 {
        let linear = |byte: u8| {
            let value = f64::from(byte) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        let [red, green, blue] = self.0.map(linear);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    /// Returns the contrast ratio of two colours, 1 to 21 (WCAG 2.1).
    pub fn contrast(self, other: Self) -> f64 {
        let [one, other] = [self.luminance(), other.luminance()];
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// Returns black or white, whichever is easier to read on this colour.
    pub fn text_colour(self) -> Self {
        if self.contrast(Self::BLACK) >= self.contrast(Self::WHITE) { Self::BLACK } else { Self::WHITE }
    }

    /// Returns the values of the three components of a format, in the units of its bits: ITU-T H.273 (07/2021), section 8.3.
    pub(super) fn components(self, layout: &SampleLayout, matrix: Matrix, range: Range) -> [f32; 3] {
        let [red, green, blue] = self.0.map(|byte| f64::from(byte) / 255.0);
        let full = f64::from((1_u32 << layout.bits) - 1);
        if layout.colour_model == ColourModel::Rgb {
            return [red, green, blue].map(|share| (share * full) as f32);
        }
        let (red_share, blue_share) = matrix.luma_shares();
        let luma = red_share * red + (1.0 - red_share - blue_share) * green + blue_share * blue;
        let differences = [(blue - luma) / (2.0 * (1.0 - blue_share)), (red - luma) / (2.0 * (1.0 - red_share))];
        let unit = f64::from(1_u32 << (layout.bits - 8));
        let (luma, differences) = match range {
            Range::Full => (luma * full, differences.map(|share| share * full + 128.0 * unit)),
            Range::Limited => ((219.0 * luma + 16.0) * unit, differences.map(|share| (224.0 * share + 128.0) * unit)),
        };
        [luma, differences[0], differences[1]].map(|value| value.clamp(0.0, full) as f32)
    }
}

#[cfg(test)]
mod tests {
    use crate::detect::PixelFormat;

    use super::*;

    #[test]
    fn classes_have_colours_of_their_own_and_text_that_can_be_read() {
        let colours: Vec<Colour> = COCO.iter().map(|name| Colour::of_class(name)).collect();
        for pair in colours.windows(2) {
            let [one, other] = [pair[0].0, pair[1].0];
            let distance: u32 = one.iter().zip(other).map(|(a, b)| u32::from(a.abs_diff(b))).sum();
            assert!(distance > 150, "{one:?} and {other:?}");
        }
        let others: Vec<Colour> = (0..500).map(|number| Colour::of_class(&format!("class-{number}"))).collect();
        for colour in colours.iter().chain(&others) {
            assert!(colour.contrast(colour.text_colour()) >= 4.5, "{colour:?}");
        }
        assert_eq!(colours.iter().map(|colour| colour.0).collect::<std::collections::HashSet<_>>().len(), 80);
        // Half of the names of a large model may share a colour with another at most.
        assert!(others.iter().map(|colour| colour.0).collect::<std::collections::HashSet<_>>().len() > 250);
    }

    #[test]
    fn the_colour_of_a_name_is_the_same_everywhere() {
        // Recorded: files of earlier runs have these colours.
        assert_eq!(Colour::of_class("person"), Colour([238, 47, 79]));
        assert_eq!(Colour::of_class(" Person"), Colour::of_class("person"));
        assert_ne!(Colour::of_class("forklift"), Colour::of_class("pallet"));
    }

    #[test]
    fn red_has_the_values_of_its_standards() {
        let red = Colour([255, 0, 0]);
        let values = |format: PixelFormat, matrix, range| {
            red.components(&format.layout(), matrix, range).map(|value| value.round() as u32)
        };
        // ITU-R BT.601 and BT.709, limited range; JPEG (JFIF 1.02).
        assert_eq!(values(PixelFormat::I420, Matrix::Bt601, Range::Limited), [81, 90, 240]);
        assert_eq!(values(PixelFormat::I420, Matrix::Bt709, Range::Limited), [63, 102, 240]);
        assert_eq!(values(PixelFormat::I420, Matrix::Bt601, Range::Full), [76, 85, 255]);
        assert_eq!(values(PixelFormat::P01010le, Matrix::Bt709, Range::Limited), [250, 409, 960]);
        assert_eq!(values(PixelFormat::Gbr12le, Matrix::Bt709, Range::Full), [4095, 0, 0]);
    }
}
