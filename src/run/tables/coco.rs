// SPDX-License-Identifier: MIT OR Apache-2.0
//! COCO's annotation format (cocodataset.org/#format-data): each frame an image, each detection an annotation.
//!
//! Images have the names of saved pictures, whether or not these were saved. There are fields beyond COCO's: `source`, `pts_ns`, `seconds` and `keyframe` of images, `score`, `rotated_box` and `keypoint_scores` of annotations, `class_id` of
//! categories.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use serde::Serialize;

use super::super::file_record::FileRecord;
use super::super::part_file::PartFile;
use super::super::pictures::names;
use super::shapes::{FrameMask, corners};
use super::{Description, Table, TableError, commit, never};
use crate::draw::{KEYPOINT_CONFIDENCE, PERSON_KEYPOINTS, PERSON_SKELETON};
use crate::record::{Detection, Frame};

/// Names of a person's keypoints (the annotation files of COCO's person keypoints, `categories[0].keypoints`).
const PERSON: [&str; PERSON_KEYPOINTS] = [
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
];

#[derive(Serialize)]
struct Image<'a> {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
    source: Option<&'a str>,
    pts_ns: Option<i64>,
    seconds: Option<f64>,
    keyframe: bool,
}

#[derive(Serialize)]
struct Annotation {
    id: u64,
    image_id: u64,
    category_id: i64,
    bbox: [f64; 4],
    area: f64,
    iscrowd: u8,
    score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segmentation: Option<Segmentation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keypoints: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_keypoints: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keypoint_scores: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotated_box: Option<[f64; 5]>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Segmentation {
    Runs { size: [u32; 2], counts: String },
    Polygons([Vec<f64>; 1]),
}

#[derive(Serialize)]
struct Category<'a> {
    id: i64,
    name: &'a str,
    supercategory: &'a str,
    class_id: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    keypoints: Option<Vec<String>>,
    /// Tools expect it where there are keypoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    skeleton: Option<Vec<[usize; 2]>>,
}

/// Returns the category of a class. COCO's categories count from 1, and tools (Datumaro, which CVAT imports with) read 0 as none.
fn category_id(class: i32) -> i64 {
    i64::from(class) + 1
}

/// The table: images are written to the file, annotations to a temporary one until all images are there.
pub struct Coco {
    out: BufWriter<PartFile>,
    annotations: BufWriter<File>,
    image_count: u64,
    annotation_count: u64,
    names: BTreeMap<i32, String>,
    /// Numbers of classes that the detector did not number.
    numbers: HashMap<String, i32>,
    /// Keypoints of an object.
    keypoints: usize,
}

impl Coco {
    /// Returns the number of a detection's class.
    fn class(&mut self, found: &Detection) -> i32 {
        let number = found.class_id.or_else(|| self.numbers.get(&found.label).copied());
        let number = number.unwrap_or_else(|| {
            let free = self.names.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
            self.numbers.insert(found.label.clone(), free);
            free
        });
        self.names.entry(number).or_insert_with(|| found.label.clone());
        number
    }

    fn add(&mut self, frame: &Frame, found: &Detection) -> Result<(), TableError> {
        let category_id = category_id(self.class(found));
        self.keypoints = self.keypoints.max(found.keypoints.len());
        let (segmentation, area) = segmentation(frame, found);
        let points = (!found.keypoints.is_empty()).then_some(&found.keypoints);
        self.annotation_count += 1;
        let annotation = Annotation {
            id: self.annotation_count,
            image_id: self.image_count,
            category_id,
            bbox: found.rectangle,
            area,
            iscrowd: 0,
            score: found.confidence,
            segmentation,
            keypoints: points.map(|points| points.iter().flat_map(keypoint).collect()),
            num_keypoints: points.map(|points| points.iter().filter(|[.., seen]| *seen >= KEYPOINT_CONFIDENCE).count()),
            keypoint_scores: points.map(|points| points.iter().map(|[.., seen]| *seen).collect()),
            rotated_box: found.rotated_box,
        };
        element(&mut self.annotations, self.annotation_count, &annotation)
    }
}

/// Returns x, y and visibility: 2 for a confident keypoint, otherwise 0, which COCO reads as not labelled.
fn keypoint([x, y, confidence]: &[f64; 3]) -> [f64; 3] {
    if *confidence >= KEYPOINT_CONFIDENCE { [*x, *y, 2.0] } else { [0.0; 3] }
}

/// Returns the shape of an object, where there is more than its box, and its area in pixels.
fn segmentation(frame: &Frame, found: &Detection) -> (Option<Segmentation>, f64) {
    let [.., width, height] = found.rectangle;
    if let Some(mask) = &found.mask {
        let mask = FrameMask::new(mask, found.rectangle, frame.width, frame.height);
        let runs = Segmentation::Runs { size: [frame.height, frame.width], counts: mask.compressed() };
        return (Some(runs), mask.area() as f64);
    }
    match found.rotated_box {
        Some(rotated) => {
            let polygon = corners(rotated).into_iter().flatten().map(|value| (value * 100.0).round() / 100.0);
            (Some(Segmentation::Polygons([polygon.collect()])), rotated[2] * rotated[3])
        }
        None => (None, width * height),
    }
}

/// Writes the element of an array with this number, the first being 1.
fn element(out: &mut impl Write, number: u64, element: &impl Serialize) -> Result<(), TableError> {
    out.write_all(if number == 1 { b"\n" } else { b",\n" })?;
    Ok(serde_json::to_writer(out, element)?)
}

impl Table for Coco {
    fn describe() -> Description {
        Description { name: "coco", extensions: &["json"], is_own_folder: never, text: None, pictures: None }
    }

    fn begin(path: &Path) -> Result<Self, TableError> {
        let mut out = BufWriter::new(PartFile::create(path)?);
        let version = env!("CARGO_PKG_VERSION");
        let description = "Detections of vx on the keyframes of media files";
        let info = serde_json::json!({ "description": description, "version": version });
        write!(out, "{{\"info\":{info},\n\"licenses\":[],\n\"images\":[")?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self {
            out,
            annotations: BufWriter::new(tempfile::tempfile_in(folder)?),
            image_count: 0,
            annotation_count: 0,
            names: BTreeMap::new(),
            numbers: HashMap::new(),
            keypoints: 0,
        })
    }

    fn file(&mut self, file: &FileRecord) -> Result<(), TableError> {
        if let Some(detector) = file.detector() {
            self.keypoints = self.keypoints.max(detector.keypoints as usize);
            for (id, name) in (0..).zip(detector.classes) {
                self.names.entry(id).or_insert(name);
            }
        }
        for frame in file.frames() {
            let (number, frame) = frame?;
            self.image_count += 1;
            let source = frame.file.as_deref();
            let name = names::picture(number, frame.pts_ns);
            let image = Image {
                id: self.image_count,
                file_name: format!("{}/{name}", names::folder(source.unwrap_or_default())),
                width: frame.width,
                height: frame.height,
                source,
                pts_ns: frame.pts_ns,
                seconds: frame.seconds(),
                keyframe: frame.is_keyframe,
            };
            element(&mut self.out, self.image_count, &image)?;
            for found in &frame.detections {
                self.add(&frame, found)?;
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), TableError> {
        let Self { mut out, annotations, names, keypoints, .. } = *self;
        out.write_all(b"],\n\"annotations\":[")?;
        let mut annotations = annotations.into_inner()?;
        annotations.rewind()?;
        std::io::copy(&mut annotations, &mut out)?;
        out.write_all(b"],\n\"categories\":[")?;
        let is_person = keypoints == PERSON_KEYPOINTS;
        let point = |index: usize| if is_person { PERSON[index].to_owned() } else { format!("keypoint_{}", index + 1) };
        for (number, (class_id, name)) in (1..).zip(&names) {
            let skeleton =
                if is_person { PERSON_SKELETON.map(|pair| pair.map(|index| index + 1)).to_vec() } else { vec![] };
            let has_keypoints = keypoints > 0;
            let category = Category {
                id: category_id(*class_id),
                name,
                supercategory: "",
                class_id: *class_id,
                keypoints: has_keypoints.then(|| (0..keypoints).map(point).collect()),
                skeleton: has_keypoints.then_some(skeleton),
            };
            element(&mut out, number, &category)?;
        }
        out.write_all(b"]}\n")?;
        commit(out)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::write_table;
    use super::*;

    #[test]
    fn frames_are_images_of_their_own_and_all_classes_are_categories() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.json");
        write_table::<Coco>(&path);
        let coco: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let images = coco["images"].as_array().unwrap();
        let name = names::folder("a, \"b\".mp4");
        let expected = ["000001.jpg", "000002-00h00m00.040s.jpg", "000003-00h00m01.000s.jpg"];
        assert_eq!(
            images.iter().map(|image| image["file_name"].as_str().unwrap().to_owned()).collect::<Vec<_>>(),
            expected.map(|picture| format!("{name}/{picture}"))
        );
        assert_eq!((&images[1]["keyframe"], &images[1]["seconds"]), (&json!(false), &json!(0.04)));
        let annotations = coco["annotations"].as_array().unwrap();
        assert_eq!(annotations.len(), 3);
        assert_eq!(
            (&annotations[0]["bbox"], &annotations[0]["image_id"]),
            (&json!([1.0, 2.0, 3.0, 4.5]), &images[0]["id"])
        );
        assert_eq!((&annotations[0]["area"], &annotations[0]["segmentation"]), (&json!(13.5), &Value::Null));
        let masked = &annotations[1];
        assert_eq!((&masked["segmentation"]["size"], &masked["area"]), (&json!([48, 64]), &json!(20.0)));
        assert_eq!(
            (&masked["keypoints"], &masked["num_keypoints"]),
            (&json!([11.0, 12.0, 2.0, 0.0, 0.0, 0.0]), &json!(1))
        );
        let rotated = &annotations[2];
        assert_eq!(rotated["area"], json!(40.0));
        assert_eq!(rotated["segmentation"][0].as_array().unwrap().len(), 8);
        let categories: Vec<(&Value, &Value)> = coco["categories"]
            .as_array()
            .unwrap()
            .iter()
            .map(|category| (&category["id"], &category["name"]))
            .collect();
        assert_eq!(categories, [(&json!(1), &json!("person")), (&json!(2), &json!("dog")), (&json!(3), &json!("cat"))]);
        assert_eq!((&annotations[0]["category_id"], &coco["categories"][1]["class_id"]), (&json!(2), &json!(1)));
        assert_eq!(coco["categories"][0]["skeleton"], json!([]));
        assert_eq!(coco["categories"][0]["keypoints"], json!(["keypoint_1", "keypoint_2"]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
