// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detections drawn into pictures of any supported format: masks, boxes, keypoints, labels, pixelation.
//!
//! `vxoverlay` draws into frames with it, and `vx detect --draw` into saved pictures. Knows neither GStreamer nor files: a
//! [`Surface`] borrows the planes.
//!
//! The most confident detection is drawn last, so that it is on top, and its label is placed first, so that it has the best place.

#![forbid(unsafe_code)]

mod classes;
mod colour;
mod coverage;
mod labels;
mod rectangle;
mod redact;
mod surface;
mod text;

pub use self::classes::ClassList;
use self::colour::Colour;
use self::coverage::Coverage;
use self::labels::Labels;
use self::rectangle::Rectangle;
use self::redact::Area;
pub use self::surface::{PlaneMut, Surface};
use self::text::Line;
use crate::detect::Rotated;
use crate::meta::Found;

/// Most characters of a class name that are drawn.
const MAX_CHARACTERS: usize = 40;

/// Opacity of masks, so that the object under them can be seen.
const MASK_OPACITY: f64 = 0.5;

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

/// What is drawn, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Style {
    /// Width of lines in pixels; 0 for one that grows with the picture.
    pub thickness: u32,
    /// Height of letters in pixels; 0 for one that grows with the picture.
    pub font_size: u32,
    /// 0 (invisible) to 1.
    pub opacity: f64,
    /// Classes that are drawn; all if it is empty.
    pub classes: ClassList,
    /// Draw boxes.
    pub boxes: bool,
    /// Draw masks.
    pub masks: bool,
    /// Draw keypoints.
    pub keypoints: bool,
    /// Draw class names.
    pub labels: bool,
    /// Draw confidences.
    pub confidence: bool,
    /// Classes whose objects are pixelated.
    pub redact: ClassList,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            thickness: 0,
            font_size: 0,
            opacity: 1.0,
            classes: ClassList::default(),
            boxes: true,
            masks: true,
            keypoints: true,
            labels: true,
            confidence: true,
            redact: ClassList::default(),
        }
    }
}

impl Style {
    /// Whether drawing `found` may change pixels.
    #[must_use]
    pub fn changes_pixels(&self, found: &[Found]) -> bool {
        let draws =
            self.opacity > 0.0 && (self.boxes || self.masks || self.keypoints || self.labels || self.confidence);
        found.iter().any(|found| draws && self.is_drawn(found) || self.redact.contains(found))
    }

    fn is_drawn(&self, found: &Found) -> bool {
        self.classes.is_empty() || self.classes.contains(found)
    }
}

/// Draws `found` into `surface`, clipped to the picture.
pub fn draw(surface: &mut Surface<'_>, found: &[Found], style: &Style) {
    let (width, height) = (surface.width(), surface.height());
    let redacted = found.iter().filter(|found| style.redact.contains(found));
    let areas: Vec<_> = redacted
        .map(|found| match &found.details.mask {
            Some(mask) => Area { rectangle: found.rectangle.into(), mask: Some(mask) },
            None => Area { rectangle: bounds(found), mask: None },
        })
        .collect();
    redact::pixelate(surface, &areas);
    let mut order: Vec<&Found> = found.iter().filter(|found| style.is_drawn(found)).collect();
    order.sort_by(|a, b| a.confidence.unwrap_or(0.0).total_cmp(&b.confidence.unwrap_or(0.0)));
    let mut pen =
        Pen { sizes: Sizes::new(style, width, height), coverage: Coverage::new(width, height), surface, style };
    for found in &order {
        pen.draw_shape(found);
    }
    let mut labels = Labels::new(width, height);
    let sizes = pen.sizes;
    let mut placed = Vec::new();
    for found in order.iter().rev() {
        if let Some(line) = label(found, style, sizes, (width, height)) {
            let bounds = bounds(found).clipped(width as f64, height as f64);
            let place = labels.place(bounds, (line.width() + 2.0 * sizes.padding, sizes.text_height + sizes.padding));
            placed.push((place, line, Colour::of_class(&found.label)));
        }
    }
    for (place, line, colour) in placed.iter().rev() {
        pen.draw_label(*place, line, *colour);
    }
}

/// Sizes in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sizes {
    line_width: f64,
    text_height: f64,
    padding: f64,
}

impl Sizes {
    fn new(style: &Style, width: usize, height: usize) -> Self {
        // Of the side of a square with as many pixels, 1440 for full HD upright or not: lines of 3 pixels and letters of 20
        // there. Smaller letters than 11 pixels cannot be read, and thinner lines lose their colour in subsampled formats.
        let side = (width as f64 * height as f64).sqrt();
        let line_width = if style.thickness > 0 { style.thickness.into() } else { (side / 480.0).max(2.0) };
        let text_height = if style.font_size > 0 { style.font_size.into() } else { (side / 72.0).max(11.0).round() };
        Self { line_width, text_height, padding: (text_height / 5.0).ceil() }
    }
}

/// Draws shapes in a style.
struct Pen<'a, 'b> {
    surface: &'a mut Surface<'b>,
    coverage: Coverage,
    style: &'a Style,
    sizes: Sizes,
}

impl Pen<'_, '_> {
    /// Gives what is covered a colour.
    fn blend(&mut self, colour: Colour, share: f64) {
        self.surface.blend(&mut self.coverage, colour, share * self.style.opacity);
    }

    fn draw_shape(&mut self, found: &Found) {
        let colour = Colour::of_class(&found.label);
        let line_width = self.sizes.line_width;
        if let Some(mask) = found.details.mask.as_ref().filter(|_| self.style.masks) {
            self.coverage.mask(mask, found.rectangle);
            self.blend(colour, MASK_OPACITY);
        }
        if self.style.boxes {
            match &found.details.rotated {
                Some(rotated) => self.coverage.outline(&corners(rotated), line_width),
                None => self.coverage.frame(Rectangle::from(found.rectangle), line_width),
            }
            self.blend(colour, 1.0);
        }
        if self.style.keypoints {
            self.draw_keypoints(&found.details.keypoints, colour);
        }
    }

    fn draw_keypoints(&mut self, points: &[[f32; 3]], colour: Colour) {
        let line_width = self.sizes.line_width;
        let is_visible = |point: &[f32; 3]| f64::from(point[2]) >= KEYPOINT_CONFIDENCE;
        let at = |point: &[f32; 3]| (f64::from(point[0]), f64::from(point[1]));
        let visible: Vec<_> = points.iter().filter(|point| is_visible(point)).map(at).collect();
        visible.iter().for_each(|point| self.coverage.disc(*point, line_width * 1.75));
        self.blend(Colour::BLACK, 1.0);
        if points.len() == PERSON_KEYPOINTS {
            let limbs = PERSON_SKELETON.map(|limb| limb.map(|point| &points[point]));
            for [from, to] in limbs.into_iter().filter(|limb| limb.iter().all(|point| is_visible(point))) {
                self.coverage.line(at(from), at(to), (line_width / 2.0).max(1.5));
            }
        }
        visible.iter().for_each(|point| self.coverage.disc(*point, line_width * 1.25));
        self.blend(colour, 1.0);
    }

    fn draw_label(&mut self, place: Rectangle, line: &Line, colour: Colour) {
        self.coverage.fill(place);
        self.blend(colour, 1.0);
        let padding = self.sizes.padding;
        line.cover(&mut self.coverage, place.left + padding, place.top + padding / 2.0);
        self.blend(colour.text_colour(), 1.0);
    }
}

/// Lays out the label of a detection, shortened to the picture's width; `None` if there is none or no room for it.
fn label(found: &Found, style: &Style, sizes: Sizes, (width, height): (usize, usize)) -> Option<Line> {
    if sizes.text_height + sizes.padding > height as f64 {
        return None;
    }
    let name: Vec<char> = found.label.chars().take(MAX_CHARACTERS + 1).filter(|_| style.labels).collect();
    let confidence = found.confidence.filter(|_| style.confidence).map(|confidence| format!("{confidence:.2}"));
    let text = |kept: usize| {
        let mut text: String = name[..kept].iter().collect();
        text.truncate(text.trim_end().len());
        text.push_str(if kept < name.len() { "…" } else { "" });
        let parts = [Some(text), confidence.clone()].into_iter().flatten().filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(" ")
    };
    let lines = (0..=name.len().min(MAX_CHARACTERS)).rev().map(text).filter(|text| !text.is_empty());
    let mut lines = lines.map(|text| Line::new(&text, sizes.text_height));
    lines.find(|line| line.width() + 2.0 * sizes.padding <= width as f64)
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

/// Returns the upright rectangle around a detection.
fn bounds(found: &Found) -> Rectangle {
    let Some(rotated) = found.details.rotated else { return Rectangle::from(found.rectangle) };
    let [left, top, right, bottom] = rotated.bounds().map(f64::from);
    Rectangle { left, top, right, bottom }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use crate::detect::{Details, Mask, Matrix, PixelFormat, Range};

    use super::*;

    fn found(rectangle: [f64; 4], label: &str, confidence: f64) -> Found {
        let details = Details::default();
        Found { label: label.into(), class_id: None, confidence: Some(confidence), rectangle, details }
    }

    /// Draws into a black RGB picture.
    fn drawn((width, height): (usize, usize), found: &[Found], style: &Style) -> Vec<[u8; 3]> {
        let mut pixels = vec![0; width * height * 3];
        let plane = PlaneMut { data: &mut pixels, stride: width * 3 };
        let mut surface =
            Surface::new(PixelFormat::Rgb, (width, height), vec![plane], Matrix::Bt709, Range::Full).unwrap();
        draw(&mut surface, found, style);
        pixels.chunks_exact(3).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
    }

    #[test]
    fn long_names_are_shortened() {
        // By its right edge: the colours depend on the whole name.
        let label = |length: usize| {
            let found = found([10.0, 100.0, 50.0, 50.0], &"a".repeat(length), 0.5);
            let pixels = drawn((4000, 200), &[found], &Style::default());
            pixels.iter().enumerate().filter(|(_, pixel)| **pixel != [0; 3]).map(|(index, _)| index % 4000).max()
        };
        assert_eq!(label(MAX_CHARACTERS + 1), label(10 * MAX_CHARACTERS));
        assert_ne!(label(MAX_CHARACTERS), label(MAX_CHARACTERS + 1));
    }

    #[test]
    fn a_box_is_drawn_where_it_is_and_larger_pictures_get_thicker_lines() {
        for (width, height, thickness) in [(200, 100, 2), (3840, 2160, 6)] {
            let (w, h) = (width as f64, height as f64);
            let pixels =
                drawn((width, height), &[found([w / 4.0, h / 4.0, w / 2.0, h / 2.0], "dog", 0.5)], &Style::default());
            let is_drawn = |x: &usize| pixels[height / 2 * width + x] != [0; 3];
            let middle: Vec<usize> = (0..width).filter(is_drawn).collect();
            assert!(middle.len().abs_diff(2 * thickness) <= 2, "{middle:?} at {width}x{height}");
            assert!(middle[0].abs_diff(width / 4) <= thickness, "{middle:?}");
        }
    }

    #[test]
    fn the_most_confident_is_on_top_in_whatever_order_they_come() {
        let weak = found([10.0, 30.0, 100.0, 60.0], "cat", 0.3);
        let strong = found([10.0, 30.0, 100.0, 60.0], "dog", 0.9);
        for order in [vec![weak.clone(), strong.clone()], vec![strong, weak]] {
            let pixels = drawn((200, 100), &order, &Style::default());
            assert_eq!(pixels[60 * 200 + 10], Colour::of_class("dog").0);
        }
    }

    #[test]
    fn what_lies_outside_is_left_out() {
        let mut odd = found([60.0, 40.0, 100.0, 100.0], "dog", 0.9);
        odd.details = Details {
            keypoints: vec![[1e9, -5.0, 1.0], [10.0, 10.0, 1.0], [f32::NAN, 1.0, 1.0]],
            rotated: Some(Rotated { x: 60.0, y: 40.0, width: 30.0, height: 10.0, angle: 0.7 }),
            mask: Some(Mask { width: 2, height: 2, values: vec![255; 4] }),
        };
        let mut huge = found([0.0; 4], "dog", 0.1);
        huge.details.rotated = Some(Rotated { x: 1e30, y: f32::NAN, width: 1e30, height: f32::INFINITY, angle: 1.0 });
        let all = [
            found([-1e9, -1e9, 2e9, 2e9], "dog", 0.2),
            found([f64::NAN, 0.0, f64::INFINITY, 1e300], "dog", f64::NAN),
            huge,
            odd,
        ];
        for redact in ["", "*"] {
            for size in [(64, 48), (1, 1), (17, 33), (2, 1)] {
                let style = Style { redact: redact.to_owned().into(), ..Style::default() };
                let pixels = drawn(size, &all, &style);
                assert!(size.0 < 64 || pixels[10 * 64 + 10] != [0; 3]);
            }
        }
    }

    #[test]
    fn labels_are_shortened_to_the_width_and_left_out_without_room() {
        let style = Style::default();
        let sizes = Sizes::new(&style, 200, 200);
        let long = found([0.0; 4], &"ab".repeat(300), 0.5);
        let width = |size| label(&long, &style, sizes, size).map(|line| line.width() + 2.0 * sizes.padding);
        // The confidence alone, behind an ellipsis, has a width; a part of the name comes with more.
        assert!(width((200, 200)).unwrap() <= 200.0 && width((200, 200)).unwrap() > 150.0);
        assert!(width((60, 200)).unwrap() <= 60.0);
        assert_eq!(width((10, 200)), None);
        assert_eq!(width((200, 5)), None);
        // However wide the picture is.
        assert!(width((100_000, 200)).unwrap() < 60.0 * sizes.text_height);
        let unlabelled = Style { labels: false, confidence: false, ..Style::default() };
        assert!(label(&long, &unlabelled, sizes, (200, 200)).is_none());
    }

    #[test]
    fn only_the_selected_classes_and_parts_are_drawn() {
        let all = [found([10.0, 30.0, 50.0, 40.0], "cat", 0.3), found([100.0, 30.0, 50.0, 40.0], "dog", 0.9)];
        let has = |style: &Style, name: &str| {
            assert_eq!(style.changes_pixels(&all), drawn((200, 100), &all, style).iter().any(|pixel| *pixel != [0; 3]));
            drawn((200, 100), &all, style).contains(&Colour::of_class(name).0)
        };
        let dogs = Style { classes: "dog".to_owned().into(), ..Style::default() };
        assert!(has(&dogs, "dog") && !has(&dogs, "cat"));
        let nothing = Style {
            boxes: false,
            labels: false,
            confidence: false,
            masks: false,
            keypoints: false,
            ..Style::default()
        };
        assert!(!has(&nothing, "dog"));
        assert!(!has(&Style { opacity: 0.0, ..Style::default() }, "dog"));
        assert!(!has(&Style { classes: "bird".to_owned().into(), ..Style::default() }, "dog"));
    }
}
