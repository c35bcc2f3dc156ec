// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detections drawn into a picture: masks, boxes, keypoints and labels.
//!
//! The most confident detection is drawn last, so that it is on top, and its label is placed first, so that it has the best place.

mod labels;
mod paint;
mod text;

use self::labels::{Labels, Rectangle};
pub use self::paint::Colour;
use self::paint::Surface;
use self::text::Line;
use crate::detect::Rotated;
use crate::meta::Found;

/// Most characters of a class name that are drawn.
const MAX_CHARACTERS: usize = 40;

/// Confidence from which a keypoint is visible.
pub const KEYPOINT_CONFIDENCE: f64 = 0.5;

/// Pairs of keypoints of a person that are connected, counted from 0, in COCO's order of 17 points (the annotation files of
/// COCO's person keypoints, `categories[0].skeleton`, which counts from 1).
pub const PERSON_SKELETON: [[usize; 2]; 19] = [
    [15, 13],
    [13, 11],
    [16, 14],
    [14, 12],
    [11, 12],
    [5, 11],
    [6, 12],
    [5, 6],
    [5, 7],
    [6, 8],
    [7, 9],
    [8, 10],
    [1, 2],
    [0, 1],
    [0, 2],
    [1, 3],
    [2, 4],
    [3, 5],
    [4, 6],
];

/// Keypoints of a person in COCO's order.
pub const PERSON_KEYPOINTS: usize = 17;

/// Draws `found` into `pixels`, rows of `width` pixels of red, green and blue bytes, clipped to the picture.
pub fn draw(pixels: &mut [u8], width: u32, height: u32, found: &[Found]) {
    let mut surface = Surface::new(pixels, width, height);
    let mut order: Vec<&Found> = found.iter().collect();
    order.sort_by(|a, b| a.confidence.unwrap_or(0.0).total_cmp(&b.confidence.unwrap_or(0.0)));
    let style = Style::for_picture(width, height);
    for found in &order {
        draw_shape(&mut surface, found, style);
    }
    let mut labels = Labels::new(width, height);
    let mut placed = Vec::new();
    for found in order.iter().rev() {
        let line = Line::new(&text_of(found), style.text_height);
        let size = (line.width() + 2.0 * style.padding, style.text_height + style.padding);
        placed.push((labels.place(bounds(found, width, height), size), line, colour_of(found)));
    }
    for (place, line, colour) in placed.iter().rev() {
        surface.fill(*place, *colour);
        line.draw(&mut surface, place.left + style.padding, place.top + style.padding / 2.0, colour.text_colour());
    }
}

/// Sizes in pixels that grow with the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Style {
    line_width: f64,
    text_height: f64,
    padding: f64,
}

impl Style {
    fn for_picture(width: u32, height: u32) -> Self {
        // Of the side of a square with as many pixels, 1440 for full HD: lines of 3 pixels and letters of 20 there. Smaller
        // letters than 11 pixels cannot be read.
        let side = (f64::from(width) * f64::from(height)).sqrt();
        let text_height = (side / 72.0).max(11.0).round();
        Self { line_width: (side / 480.0).max(1.5), text_height, padding: (text_height / 5.0).ceil() }
    }
}

fn draw_shape(surface: &mut Surface<'_>, found: &Found, style: Style) {
    let colour = colour_of(found);
    if let Some(mask) = &found.details.mask {
        surface.tint(mask, found.rectangle, colour);
    }
    match &found.details.rotated {
        Some(rotated) => surface.outline(&corners(rotated), style.line_width, colour),
        None => surface.frame(Rectangle::from(found.rectangle), style.line_width, colour),
    }
    let seen = |point: &[f32; 3]| f64::from(point[2]) >= KEYPOINT_CONFIDENCE;
    let points = &found.details.keypoints;
    let at = |point: &[f32; 3]| (f64::from(point[0]), f64::from(point[1]));
    if points.len() == PERSON_KEYPOINTS {
        for [from, to] in PERSON_SKELETON {
            if seen(&points[from]) && seen(&points[to]) {
                surface.line(at(&points[from]), at(&points[to]), style.line_width / 2.0, colour);
            }
        }
    }
    for point in points.iter().filter(|point| seen(point)) {
        surface.disc(at(point), style.line_width * 1.75, Colour::BLACK);
        surface.disc(at(point), style.line_width * 1.25, colour);
    }
}

/// Returns the corners of a rotated box, clockwise.
pub fn corners(rotated: &Rotated) -> [(f64, f64); 4] {
    let (sin, cos) = f64::from(rotated.angle).sin_cos();
    let (along, across) = (f64::from(rotated.width) / 2.0, f64::from(rotated.height) / 2.0);
    [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)].map(|(a, b)| {
        let (a, b) = (a * along, b * across);
        (f64::from(rotated.x) + a * cos - b * sin, f64::from(rotated.y) + a * sin + b * cos)
    })
}

/// Returns the upright rectangle around a detection, clipped to the picture.
fn bounds(found: &Found, width: u32, height: u32) -> Rectangle {
    let [x, y, w, h] = found.rectangle;
    let mut bounds = Rectangle { left: x, top: y, right: x + w, bottom: y + h };
    if let Some(rotated) = &found.details.rotated {
        let corners = corners(rotated);
        let fold = |value: fn(&(f64, f64)) -> f64, pick: fn(f64, f64) -> f64| {
            corners.iter().map(value).reduce(pick).unwrap_or_default()
        };
        bounds = Rectangle {
            left: fold(|corner| corner.0, f64::min),
            top: fold(|corner| corner.1, f64::min),
            right: fold(|corner| corner.0, f64::max),
            bottom: fold(|corner| corner.1, f64::max),
        };
    }
    bounds.clipped(f64::from(width), f64::from(height))
}

fn text_of(found: &Found) -> String {
    let mut text: String = found.label.chars().take(MAX_CHARACTERS).collect();
    if found.label.chars().nth(MAX_CHARACTERS).is_some() {
        text.push('…');
    }
    if let Some(confidence) = found.confidence {
        text.push_str(&format!(" {confidence:.2}"));
    }
    text
}

fn colour_of(found: &Found) -> Colour {
    // A class without a number gets one from its name by FNV-1a (Fowler, Noll, Vo), short and the same everywhere.
    let by_name = || {
        let hash =
            found.label.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        i64::from(hash % 4096)
    };
    Colour::of_class(found.class_id.map_or_else(by_name, i64::from))
}

#[cfg(test)]
mod tests {
    use crate::detect::{Details, Mask};

    use super::*;

    fn found(rectangle: [f64; 4], class_id: i32, confidence: f64) -> Found {
        let details = Details::default();
        Found { label: "dog".into(), class_id: Some(class_id), confidence: Some(confidence), rectangle, details }
    }

    fn pixel(pixels: &[u8], width: u32, x: usize, y: usize) -> [u8; 3] {
        let start = (y * width as usize + x) * 3;
        [pixels[start], pixels[start + 1], pixels[start + 2]]
    }

    #[test]
    fn a_box_is_drawn_where_it_is_and_larger_pictures_get_thicker_lines() {
        for (width, height, thickness) in [(200_u32, 100_u32, 2_usize), (3840, 2160, 6)] {
            let mut pixels = vec![0; (width * height * 3) as usize];
            let (w, h) = (f64::from(width), f64::from(height));
            draw(&mut pixels, width, height, &[found([w / 4.0, h / 4.0, w / 2.0, h / 2.0], 0, 0.5)]);
            let is_drawn = |x: usize, y: usize| pixel(&pixels, width, x, y) != [0; 3];
            let middle: Vec<usize> = (0..width as usize).filter(|x| is_drawn(*x, height as usize / 2)).collect();
            assert!(middle.len().abs_diff(2 * thickness) <= 2, "{middle:?} at {width}x{height}");
            assert!(middle[0].abs_diff(width as usize / 4) <= thickness, "{middle:?}");
        }
    }

    #[test]
    fn the_most_confident_is_on_top_in_whatever_order_they_come() {
        let weak = found([10.0, 30.0, 100.0, 60.0], 1, 0.3);
        let strong = found([10.0, 30.0, 100.0, 60.0], 0, 0.9);
        for order in [vec![weak.clone(), strong.clone()], vec![strong.clone(), weak]] {
            let mut pixels = vec![0; 200 * 100 * 3];
            draw(&mut pixels, 200, 100, &order);
            assert_eq!(pixel(&pixels, 200, 10, 60), colour_of(&strong).bytes());
        }
    }

    #[test]
    fn what_lies_outside_is_left_out() {
        let mut pixels = vec![0; 64 * 48 * 3];
        let mut odd = found([60.0, 40.0, 100.0, 100.0], 2, 0.9);
        odd.details = Details {
            keypoints: vec![[1e9, -5.0, 1.0], [10.0, 10.0, 1.0], [f32::NAN, 1.0, 1.0]],
            rotated: Some(Rotated { x: 60.0, y: 40.0, width: 30.0, height: 10.0, angle: 0.7 }),
            mask: Some(Mask { width: 2, height: 2, values: vec![255; 4] }),
        };
        let mut huge = found([0.0; 4], 3, 0.1);
        huge.details.rotated = Some(Rotated { x: 1e30, y: f32::NAN, width: 1e30, height: f32::INFINITY, angle: 1.0 });
        let all = [
            found([-1e9, -1e9, 2e9, 2e9], 0, 0.2),
            found([f64::NAN, 0.0, f64::INFINITY, 1e300], 1, f64::NAN),
            huge,
            odd,
        ];
        draw(&mut pixels, 64, 48, &all);
        assert_ne!(pixel(&pixels, 64, 10, 10), [0; 3]);
    }

    #[test]
    fn classes_have_colours_of_their_own_and_text_that_can_be_read() {
        let colours: Vec<Colour> = (0..80).map(Colour::of_class).collect();
        for pair in colours.windows(2) {
            let [one, other] = [pair[0].bytes(), pair[1].bytes()];
            let distance: u32 = one.iter().zip(other).map(|(a, b)| u32::from(a.abs_diff(b))).sum();
            assert!(distance > 150, "{one:?} and {other:?}");
        }
        for colour in &colours {
            assert!(colour.contrast(colour.text_colour()) >= 4.5, "{colour:?}");
        }
        assert_eq!(colours.iter().map(|colour| colour.bytes()).collect::<std::collections::HashSet<_>>().len(), 80);
        let mut unnumbered = found([0.0; 4], 0, 0.5);
        unnumbered.class_id = None;
        assert_eq!(colour_of(&unnumbered), colour_of(&unnumbered.clone()));
    }
}
