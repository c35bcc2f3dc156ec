//! Image classifiers: `[1, C]`, a probability or logit for each class of the whole picture.

use super::evidence::Evidence;
use super::reader::{Reader, Scratch, Survey};
use super::{Claim, Verdict};
use crate::detect::layouts::decoder::Outputs;
use crate::detect::layouts::task::Task;

#[derive(Debug)]
struct Classes {
    count: usize,
}

pub(crate) fn recognise(evidence: &Evidence<'_>) -> Verdict {
    if !evidence.is_task("classify") {
        return Verdict::No;
    }
    match evidence.outputs.as_slice() {
        [output] if matches!(output.shape, [_, count] if *count > 1) => {
            let count = output.shape[1];
            let reason = format!("the metadata says that it classifies: {count} scores for a picture");
            Claim::new("classes", Classes { count }, vec![0], reason).classes(count).task(Task::Classify).into()
        }
        _ => Verdict::Refused(
            "its metadata says that it classifies, but its output is not [1, classes]".to_owned(),
            "Export it as Ultralytics does, with one output [1, classes]".to_owned(),
        ),
    }
}

impl Reader for Classes {
    fn is_readable(&self, outputs: Outputs<'_>, _size: (usize, usize)) -> bool {
        outputs.shape(0, 1) == Some(&[self.count])
    }

    fn read(&self, _: Outputs<'_>, _: usize, _: (usize, usize), _: f32, _: &mut Scratch) {}

    fn is_finished(&self) -> bool {
        true
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn survey(&self, _: Outputs<'_>, _: (usize, usize), _: &mut Survey) {}

    fn classes<'a>(&self, outputs: Outputs<'a>, image: usize) -> Option<&'a [f32]> {
        Some(outputs.part(0, image, 1).values)
    }
}
