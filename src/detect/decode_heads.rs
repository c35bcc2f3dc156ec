//! Readers of outputs that are several: boxes, scores and classes of their own, lists of finished boxes, grids of distances.
//!
//! The other half of [`decode`](super::decode), with the same rules: nothing here checks shapes, which
//! [`is_readable`](super::readable::is_readable) has done.

use super::decode::{Decoder, MAX_CLASS_ID, OutputView, best_of, centred};
use super::heads::DISTANCE_STRIDES;
use super::layout::{Distances, FlatForm, Scores, Separate};
use super::nms::Candidate;

impl Decoder {
    /// Boxes `[N, 4]`, scores `[N]` or `[N, C]`, classes `[N]` and how many of them there are.
    pub(super) fn separate(
        &mut self,
        form: Separate,
        [boxes, scores]: [OutputView<'_>; 2],
        (classes, count): (Option<OutputView<'_>>, Option<f32>),
        threshold: f32,
        (width, height): (usize, usize),
    ) {
        let most = count.map_or(usize::MAX, |count| count.max(0.0) as usize);
        let unit = if form.normalised { [width as f32, height as f32] } else { [1.0; 2] };
        let columns = scores.shape.last().copied().unwrap_or(1).max(1);
        for (index, values) in boxes.rows().take(most).enumerate() {
            let (class_id, score) = match (form.scores, classes) {
                (Scores::OfBoxes, Some(classes)) => {
                    let class = classes.values[index];
                    if !(0.0..MAX_CLASS_ID).contains(&class) {
                        continue;
                    }
                    (class as u32, scores.values[index])
                }
                (kind, _) => {
                    let row = &scores.values[index * columns..][..columns];
                    match kind {
                        Scores::Sigmoid => {
                            let (class, logit) = best_of(row);
                            (class, 1.0 / (1.0 + (-logit).exp()))
                        }
                        Scores::Softmax => {
                            let (class, logit) = best_of(&row[..columns - 1]);
                            let sum: f32 = row.iter().map(|other| (other - logit).exp()).sum();
                            (class, 1.0 / sum)
                        }
                        Scores::OfClasses | Scores::OfBoxes => best_of(row),
                    }
                }
            };
            if score > threshold {
                let corners = if form.centred { centred(values) } else { [values[0], values[1], values[2], values[3]] };
                let corners = [corners[0] * unit[0], corners[1] * unit[1], corners[2] * unit[0], corners[3] * unit[1]];
                self.candidates.push(Candidate { corners, score, class_id, index: index as u32 });
            }
        }
    }

    /// Finished boxes of all images in one list.
    pub(super) fn flat(&mut self, form: FlatForm, views: &[OutputView<'_>], image: usize, threshold: f32) {
        let of_image = move |row: &&[f32]| row[0] == image as f32;
        match form {
            FlatForm::ClassScore => {
                self.finished(views[0].rows().filter(of_image), threshold, |row| (&row[1..5], row[6], row[5]));
            }
            FlatForm::ScoreClass => {
                self.finished(views[0].rows().filter(of_image), threshold, |row| (&row[1..5], row[5], row[6]));
            }
            FlatForm::Paddle => {
                let counts = views[1].values;
                let before: f32 = counts[..image].iter().sum();
                let rows = views[0].rows().skip(before.max(0.0) as usize).take(counts[image].max(0.0) as usize);
                self.finished(rows, threshold, |row| (&row[2..6], row[1], row[0]));
            }
        }
    }

    /// Cells with a class score each and, for each side of the box, a distribution over distances from the cell's centre
    /// in strides: its mean is the distance. NanoDet (RangiLyu, nanodet/model/head/nanodet_plus_head.py) and PicoDet
    /// (PaddleDetection, ppdet/modeling/heads/pico_head.py), after Li et al., "Generalized Focal Loss", 2020.
    pub(super) fn distances(
        &mut self,
        head: Distances,
        views: &[OutputView<'_>],
        (image, images): (usize, usize),
        threshold: f32,
        (width, height): (usize, usize),
    ) {
        let Distances { class_count, bins, joined, half_shift } = head;
        let mut index = 0;
        for (level, stride) in DISTANCE_STRIDES.into_iter().enumerate() {
            let (across, down) = (width.div_ceil(stride), height.div_ceil(stride));
            let of_level = |view: usize| views[view].image(image, images, 2);
            let (scores, sides) = if joined {
                (of_level(0), of_level(0))
            } else {
                (of_level(level), of_level(DISTANCE_STRIDES.len() + level))
            };
            for cell in 0..across * down {
                let row = if joined { index } else { cell };
                let columns = |view: OutputView<'_>| view.shape.last().copied().unwrap_or(0);
                let score_row = &scores.values[row * columns(scores)..][..class_count];
                let first = row * columns(sides) + if joined { class_count } else { 0 };
                let side_row = &sides.values[first..][..4 * bins];
                let (class_id, score) = best_of(score_row);
                if score > threshold {
                    let shift = if half_shift { 0.5 } else { 0.0 };
                    let x = ((cell % across) as f32 + shift) * stride as f32;
                    let y = ((cell / across) as f32 + shift) * stride as f32;
                    let mut reach = side_row.chunks_exact(bins).map(|side| mean_of(side) * stride as f32);
                    let mut next = || reach.next().unwrap_or_default();
                    let (left, top, right, bottom) = (next(), next(), next(), next());
                    let corners = [x - left, y - top, x + right, y + bottom];
                    self.candidates.push(Candidate { corners, score, class_id, index: index as u32 });
                }
                index += 1;
            }
        }
    }
}

/// Mean of the places of a softmax.
fn mean_of(logits: &[f32]) -> f32 {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (place, logit) in logits.iter().enumerate() {
        let share = (logit - greatest).exp();
        sum += share;
        weighted += share * place as f32;
    }
    weighted / sum
}
