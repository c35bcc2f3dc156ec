//! A picture to draw detections into: boxes with their names, turned boxes, keypoints, masks.

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_9X15_BOLD;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Circle, PrimitiveStyle, Rectangle, StyledDrawable};
use embedded_graphics::text::{Baseline, Text};
use gstvx::detect::Mask;
use gstvx::meta::Found;

/// Rows of a picture for each step by which lines and letters grow.
const ROWS_FOR_A_STEP: u32 = 540;

/// Most letters of a name that are shown.
const LETTERS: usize = 40;

/// Colours that stand out from one another and from most pictures.
const COLOURS: [(u8, u8, u8); 10] = [
    (255, 64, 64),
    (64, 200, 64),
    (80, 120, 255),
    (255, 200, 0),
    (255, 96, 224),
    (0, 208, 208),
    (255, 136, 32),
    (160, 96, 255),
    (160, 216, 32),
    (0, 152, 255),
];

/// Rows of red, green and blue bytes. What is drawn beyond its edges is left out.
pub struct Canvas<'a> {
    pixels: &'a mut [u8],
    width: u32,
    height: u32,
    /// Pixels of the picture for each that is drawn, across and down.
    step: u32,
}

impl<'a> Canvas<'a> {
    /// Over `pixels`, three bytes for each of `width` times `height`.
    pub fn new(pixels: &'a mut [u8], width: u32, height: u32) -> Self {
        Self { pixels, width, height, step: (height / ROWS_FOR_A_STEP).max(1) }
    }

    /// Draws what was found.
    pub fn draw(&mut self, found: &Found) {
        let colour = colour_of(found);
        let [x, y, width, height] = found.rectangle;
        if let Some(mask) = &found.details.mask {
            self.tint(mask, found.rectangle, colour);
        }
        let place = |x: f64, y: f64| self.place(x, y);
        let corners = match &found.details.rotated {
            Some(turned) => {
                let (sin, cos) = f64::from(turned.angle).sin_cos();
                let (along, across) = (f64::from(turned.width) / 2.0, f64::from(turned.height) / 2.0);
                [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)].map(|(a, b)| {
                    let (a, b) = (a * along, b * across);
                    place(f64::from(turned.x) + a * cos - b * sin, f64::from(turned.y) + a * sin + b * cos)
                })
            }
            None => [(x, y), (x + width, y), (x + width, y + height), (x, y + height)].map(|(x, y)| place(x, y)),
        };
        let line = PrimitiveStyle::with_stroke(colour, 2);
        for (from, to) in corners.iter().zip(corners.iter().cycle().skip(1)) {
            let _ = embedded_graphics::primitives::Line::new(*from, *to).draw_styled(&line, self);
        }
        for [x, y, confidence] in &found.details.keypoints {
            if *confidence >= 0.5 {
                let centre = self.place(f64::from(*x), f64::from(*y));
                let _ = Circle::with_center(centre, 5).draw_styled(&PrimitiveStyle::with_fill(colour), self);
            }
        }
        self.write(found, corners[0], colour);
    }

    /// Name and confidence over the box, or inside where it touches the picture's edge.
    fn write(&mut self, found: &Found, corner: Point, colour: Rgb888) {
        let mut text: String = found.label.chars().take(LETTERS).collect();
        if let Some(confidence) = found.confidence {
            text.push_str(&format!(" {confidence:.2}"));
        }
        let dark = u32::from(colour.r()) * 3 + u32::from(colour.g()) * 6 + u32::from(colour.b()) < 1280;
        let style = MonoTextStyle::new(&FONT_9X15_BOLD, if dark { Rgb888::WHITE } else { Rgb888::BLACK });
        let letter = FONT_9X15_BOLD.character_size;
        let size = Size::new(letter.width * text.chars().count() as u32 + 4, letter.height + 2);
        let room = self.bounding_box().size;
        let left = corner.x.min(room.width as i32 - size.width as i32).max(0);
        let top = if corner.y >= size.height as i32 { corner.y - size.height as i32 } else { corner.y.max(0) };
        let _ = Rectangle::new(Point::new(left, top), size).draw_styled(&PrimitiveStyle::with_fill(colour), self);
        let _ = Text::with_baseline(&text, Point::new(left + 2, top + 1), style, Baseline::Top).draw(self);
    }

    /// A point of the picture as it is drawn.
    fn place(&self, x: f64, y: f64) -> Point {
        // Far outside is as good as just outside, and sooner drawn.
        let within = |value: f64, length: u32| value.clamp(-f64::from(length), 2.0 * f64::from(length));
        let step = f64::from(self.step);
        Point::new((within(x, self.width) / step) as i32, (within(y, self.height) / step) as i32)
    }

    /// Mixes the colour in where the mask over a box says that the object is.
    fn tint(&mut self, mask: &Mask, [left, top, width, height]: [f64; 4], colour: Rgb888) {
        if mask.values.is_empty() {
            return;
        }
        let end = |start: f64, length: f64, limit: u32| ((start + length).max(0.0) as u32).min(limit);
        for y in top.max(0.0) as u32..end(top, height, self.height) {
            let row = ((f64::from(y) + 0.5 - top) / height * mask.height as f64) as usize;
            for x in left.max(0.0) as u32..end(left, width, self.width) {
                let column = ((f64::from(x) + 0.5 - left) / width * mask.width as f64) as usize;
                let value = mask.values.get(row.min(mask.height - 1) * mask.width + column.min(mask.width - 1));
                if value.is_some_and(|value| *value >= 128) {
                    let start = (y as usize * self.width as usize + x as usize) * 3;
                    for (pixel, part) in
                        self.pixels[start..start + 3].iter_mut().zip([colour.r(), colour.g(), colour.b()])
                    {
                        *pixel = pixel.midpoint(part);
                    }
                }
            }
        }
    }
}

fn colour_of(found: &Found) -> Rgb888 {
    let number = found.class_id.map_or_else(
        || found.label.bytes().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(byte.into())),
        |class| usize::try_from(class).unwrap_or(0),
    );
    let (red, green, blue) = COLOURS[number % COLOURS.len()];
    Rgb888::new(red, green, blue)
}

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.width.div_ceil(self.step), self.height.div_ceil(self.step))
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, drawn: I) -> Result<(), Self::Error> {
        for Pixel(point, colour) in drawn {
            let (Ok(x), Ok(y)) = (u32::try_from(point.x), u32::try_from(point.y)) else { continue };
            let rows = y.saturating_mul(self.step)..y.saturating_add(1).saturating_mul(self.step).min(self.height);
            let (left, right) =
                (x.saturating_mul(self.step), x.saturating_add(1).saturating_mul(self.step).min(self.width));
            for row in rows {
                let start = row as usize * self.width as usize;
                let bytes = self.pixels.get_mut((start + left as usize) * 3..(start + right as usize) * 3);
                for pixel in bytes.into_iter().flat_map(|bytes| bytes.chunks_exact_mut(3)) {
                    pixel.copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gstvx::detect::{Details, Rotated};

    use super::*;

    fn found(rectangle: [f64; 4]) -> Found {
        Found { label: "dog".into(), class_id: Some(0), confidence: Some(0.5), rectangle, details: Details::default() }
    }

    #[test]
    fn a_box_is_drawn_where_it_is_and_larger_pictures_get_thicker_lines() {
        for (width, height, thickness) in [(200_u32, 100_u32, 2_usize), (3840, 2160, 8)] {
            let mut pixels = vec![0; (width * height * 3) as usize];
            let (half_width, half_height) = (f64::from(width / 2), f64::from(height / 2));
            Canvas::new(&mut pixels, width, height).draw(&found([
                half_width / 2.0,
                half_height / 2.0,
                half_width,
                half_height,
            ]));
            let red = |x: usize, y: usize| pixels[(y * width as usize + x) * 3] == 255;
            let column = (0..height as usize).filter(|y| red(width as usize * 5 / 8, *y)).count();
            // The lines above and below; the name may cover more above.
            assert!(column >= 2 * thickness, "{column} at {width}x{height}");
            let middle: Vec<usize> = (0..width as usize).filter(|x| red(*x, height as usize / 2)).collect();
            assert_eq!(middle.len(), 2 * thickness, "{middle:?}");
            assert!(middle[0].abs_diff(width as usize / 4) <= thickness, "{middle:?}");
        }
    }

    #[test]
    fn what_lies_outside_is_left_out() {
        let mut pixels = vec![0; 64 * 48 * 3];
        let mut canvas = Canvas::new(&mut pixels, 64, 48);
        canvas.draw(&found([-1e9, -1e9, 2e9, 2e9]));
        canvas.draw(&found([f64::NAN, 0.0, f64::INFINITY, 1e300]));
        let mut odd = found([60.0, 40.0, 100.0, 100.0]);
        odd.details = Details {
            keypoints: vec![[1e9, -5.0, 1.0], [10.0, 10.0, 1.0]],
            rotated: Some(Rotated { x: 60.0, y: 40.0, width: 30.0, height: 10.0, angle: 0.7 }),
            mask: Some(Mask { width: 2, height: 2, values: vec![255; 4] }),
        };
        canvas.draw(&odd);
        assert!(pixels[(10 * 64 + 10) * 3] == 255 && pixels[(47 * 64 + 63) * 3] > 100);
    }
}
