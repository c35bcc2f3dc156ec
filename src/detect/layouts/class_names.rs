// SPDX-License-Identifier: MIT OR Apache-2.0
//! Class names of models whose files have none, by family.

/// The 80 classes of COCO (Lin et al., "Microsoft COCO", 2014) in the order that detectors are trained with.
pub const COCO: [&str; 80] = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
];

/// The class names of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ClassNames {
    /// COCO's 80 if there are 80 classes, or its 91 category numbers if a DETR has 91.
    #[default]
    Unknown,
    /// COCO's 80; the outputs do not say how many classes there are.
    Coco,
    /// COCO's category numbers, 0 to 90, as DETR and torchvision number their classes.
    CocoIds,
    /// COCO's category numbers minus one, as TensorFlow's detectors number their classes.
    CocoIdsFromOne,
    /// One class, a face.
    Face,
}

/// COCO's category numbers that are not assigned (Lin et al., "Microsoft COCO", 2014; instances_val2017.json).
const UNUSED: [usize; 11] = [0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83];

impl ClassNames {
    /// Returns the names, by class.
    pub fn list(self) -> Option<Vec<String>> {
        match self {
            Self::Unknown => None,
            Self::Coco => Some(COCO.map(str::to_owned).to_vec()),
            Self::CocoIds => Some(coco_ids()),
            Self::CocoIdsFromOne => Some(coco_ids().split_off(1)),
            Self::Face => Some(vec!["face".to_owned()]),
        }
    }
}

/// Returns 91 names; numbers that are not assigned are called "class-N".
fn coco_ids() -> Vec<String> {
    let mut names = COCO.iter();
    let name = |id: usize| match UNUSED.contains(&id) {
        true => format!("class-{id}"),
        false => names.next().map_or_else(|| format!("class-{id}"), ToString::to_string),
    };
    (0..91).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn category_numbers_are_those_of_coco() {
        let ids = coco_ids();
        let named = |id: usize| ids[id].as_str();
        assert_eq!((ids.len(), named(1), named(3), named(17), named(90)), (91, "person", "car", "cat", "toothbrush"));
        assert_eq!((named(13), named(44), named(67), named(84)), ("stop sign", "bottle", "dining table", "book"));
        assert_eq!(ClassNames::CocoIdsFromOne.list().map(|names| names[2].clone()), Some("car".to_owned()));
    }
}
