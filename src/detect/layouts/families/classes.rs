// SPDX-License-Identifier: MIT OR Apache-2.0
//! Image classifiers: `[1, C]`, a probability or a logit for each class of the whole picture.

use super::Family;
use crate::detect::layouts::common::reader::{OutputReader, OutputStatistics, Outputs, Scratch};
use crate::detect::layouts::evidence::Evidence;
use crate::detect::layouts::task::{Task, TaskName};
use crate::detect::layouts::{LayoutMatch, Recognition};

#[derive(Debug)]
struct Classes {
    count: usize,
}

pub(super) const FAMILY: Family = Family::new(recognise).ignoring_selection();

fn recognise(evidence: &Evidence<'_>) -> Recognition {
    if evidence.metadata.task != Some(TaskName::Classify) {
        return Recognition::NoMatch;
    }
    match evidence.outputs.as_slice() {
        [output] if matches!(output.shape, [_, count] if *count > 1) => {
            let count = output.shape[1];
            let reason =
                format!("its metadata says task = classify, and its output holds {count} scores for a picture");
            LayoutMatch::new("classes", Classes { count }, vec![0], reason).classes(count).task(Task::Classify).into()
        }
        _ => Recognition::unsupported(
            "its metadata says task = classify, but its output is not [1, classes]",
            "Export it as Ultralytics does, with one output [1, classes]",
        ),
    }
}

impl OutputReader for Classes {
    fn accepts(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        outputs.shape(0, 1) == Some(&[self.count])
    }

    fn read(&self, _: Outputs<'_>, _: usize, _: (usize, usize), _: f32, _: &mut Scratch) {}

    fn is_suppressed(&self) -> bool {
        true
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn collect(&self, _: Outputs<'_>, _: (usize, usize), _: &mut OutputStatistics) {}

    fn class_scores<'a>(&self, outputs: Outputs<'a>, image: usize) -> Option<&'a [f32]> {
        Some(outputs.part(0, image, 1).values)
    }
}
