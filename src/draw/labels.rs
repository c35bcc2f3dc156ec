// SPDX-License-Identifier: MIT OR Apache-2.0
//! Placement of labels: at their box, inside the picture, without overlap.

use super::rectangle::Rectangle;

/// Most labels for which the whole picture is searched for a free place. Further ones stay at their box, so that a thousand labels
/// take little time.
const MAX_SEARCHES: usize = 100;

/// The labels of a picture, in order of preference.
pub struct Labels {
    width: f64,
    height: f64,
    placed: Vec<Rectangle>,
}

impl Labels {
    pub fn new(width: usize, height: usize) -> Self {
        Self { width: width as f64, height: height as f64, placed: Vec::new() }
    }

    /// Finds a place for a label of `size` at `bounds`: above the box, inside it, below it, as near above or below as is free, anywhere;
    /// without a free place, where it covers least.
    pub fn place(&mut self, bounds: Rectangle, (width, height): (f64, f64)) -> Rectangle {
        let at = |left: f64, top: f64| {
            let left = left.min(self.width - width).max(0.0).round();
            let top = top.min(self.height - height).max(0.0).round();
            Rectangle { left, top, right: left + width, bottom: top + height }
        };
        let sides = [bounds.left, bounds.right - width];
        let is_inside = |top: f64| top >= 0.0 && top + height <= self.height;
        let above = bounds.top - height;
        let rows = [above, bounds.top, bounds.bottom];
        let near = rows.into_iter().filter(|top| is_inside(*top));
        // Further up and down, the nearest first.
        let steps = (self.height / height).ceil().min(200.0) as usize;
        let far = (1..=steps).flat_map(|step| {
            let step = step as f64 * height;
            [above - step, bounds.top + step]
        });
        let candidates = near.chain(far.filter(|top| is_inside(*top)));
        let candidates = candidates.flat_map(|top| sides.map(|left| at(left, top)));
        // Where nothing is free at the box, anywhere, in columns of half a label.
        let columns = (self.width / width * 2.0).floor().min(100.0) as usize;
        let cell = move |number: usize| {
            at((number % (columns + 1)) as f64 * width / 2.0, (number / (columns + 1)) as f64 * height)
        };
        let anywhere = (0..(columns + 1) * (steps + 1)).map(cell);
        let mut best = (f64::INFINITY, at(bounds.left, above));
        let most = if self.placed.len() < MAX_SEARCHES { usize::MAX } else { 3 * sides.len() };
        for candidate in candidates.chain(anywhere).take(most) {
            let covered: f64 = self.placed.iter().map(|other| candidate.overlap(other)).sum();
            if covered < best.0 {
                best = (covered, candidate);
            }
            if covered <= 0.0 {
                break;
            }
        }
        self.placed.push(best.1);
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_above_else_inside_else_below() {
        let mut labels = Labels::new(400, 300);
        let bounds = Rectangle::from([100.0, 50.0, 80.0, 60.0]);
        let size = (60.0, 20.0);
        let tops: Vec<f64> = (0..6).map(|_| labels.place(bounds, size).top).collect();
        // Both sides above, then within, then below: the box is not twice as wide as the label.
        assert_eq!(tops[0], 30.0);
        assert_eq!(tops[1], 50.0);
        assert_eq!(tops[2], 110.0);
        let mut labels = Labels::new(400, 300);
        assert_eq!(labels.place(Rectangle::from([390.0, 5.0, 10.0, 290.0]), size).top, 5.0);
        assert_eq!(labels.placed[0].right, 400.0);
    }

    #[test]
    fn forty_labels_of_one_box_neither_collide_nor_leave_the_picture() {
        let mut labels = Labels::new(640, 480);
        for number in 0..40 {
            let number = f64::from(number);
            let bounds = Rectangle::from([200.0 + number, 100.0 + number * 3.0, 150.0, 120.0]);
            labels.place(bounds, (70.0, 14.0));
        }
        for (index, label) in labels.placed.iter().enumerate() {
            assert!(
                label.left >= 0.0 && label.right <= 640.0 && label.top >= 0.0 && label.bottom <= 480.0,
                "{label:?}"
            );
            assert!(labels.placed[..index].iter().all(|other| label.overlap(other) <= 0.0), "{index} collides");
        }
    }

    #[test]
    fn labels_go_elsewhere_when_there_is_no_room_at_their_box() {
        let mut labels = Labels::new(320, 240);
        // As wide as half of the picture: one column at the box is full after 24.
        (0..40).for_each(|_| {
            labels.place(Rectangle::from([0.0, 100.0, 100.0, 40.0]), (100.0, 10.0));
        });
        for (index, label) in labels.placed.iter().enumerate() {
            assert!(labels.placed[..index].iter().all(|other| label.overlap(other) <= 0.0), "{index} collides");
        }
    }

    #[test]
    fn a_thousand_labels_in_a_small_picture_stay_inside_it() {
        let mut labels = Labels::new(320, 240);
        for number in 0..1000 {
            let bounds = Rectangle::from([f64::from(number % 300), f64::from(number % 200), 20.0, 40.0]);
            let place = labels.place(bounds, (60.0, 14.0));
            assert!(place.left >= 0.0 && place.right <= 320.0 && place.top >= 0.0 && place.bottom <= 240.0);
        }
    }

    #[test]
    fn a_picture_smaller_than_a_label_is_no_trouble() {
        let mut labels = Labels::new(16, 8);
        let place = labels.place(Rectangle::from([0.0, 0.0, 16.0, 8.0]), (60.0, 20.0));
        assert_eq!((place.left, place.top), (0.0, 0.0));
    }
}
