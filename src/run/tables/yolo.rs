// SPDX-License-Identifier: MIT OR Apache-2.0
//! A data set as Ultralytics' tools read it (docs.ultralytics.com/datasets): pictures in `images/`, beside each a text file in
//! `labels/` with a line for each detection, and `data.yaml` with the names of the classes.
//!
//! The run itself saves the pictures. The folder is written in place; `data.yaml`, which every tool needs, is written last.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::super::file_record::FileRecord;
use super::super::part_file::PartFile;
use super::super::pictures::names;
use super::shapes::{corners, outline};
use super::{Description, Table, TableError};
use crate::draw::{KEYPOINT_CONFIDENCE, PERSON_KEYPOINTS};
use crate::record::{Detection, Frame};

const IMAGES: &str = "images";
const LABELS: &str = "labels";
const DATA: &str = "data.yaml";

/// Returns whether a folder contains nothing but parts of a data set.
fn is_data_set(folder: &Path) -> bool {
    let is_own = |name: &str| [IMAGES, LABELS, DATA].contains(&name) || name == format!("{DATA}.part");
    std::fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().all(|entry| is_own(&entry.file_name().to_string_lossy())))
}

/// The keypoint that a person's becomes in a mirrored picture.
const PERSON_MIRRORED: [usize; PERSON_KEYPOINTS] = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15];

/// The data set.
pub struct Yolo {
    path: PathBuf,
    names: BTreeMap<i32, String>,
    keypoints: usize,
    /// Folders of the files in it.
    folders: HashSet<String>,
}

impl Yolo {
    /// Removes pictures and labels of files that are not in the data set, and Ultralytics' cache of the labels. Files that a user has
    /// added are kept.
    fn remove_others(&self) -> std::io::Result<()> {
        for kind in [IMAGES, LABELS] {
            for entry in std::fs::read_dir(self.path.join(kind))? {
                let (entry, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
                let name = entry.to_string_lossy();
                if path.is_dir() && !self.folders.contains(&*name) {
                    names::remove_pictures(&path, |_| false)?;
                    remove_labels(&path)?;
                    // It is kept if something is left in it.
                    let _ = std::fs::remove_dir(&path);
                } else if path.is_file() && name.ends_with(".cache") {
                    std::fs::remove_file(&path)?;
                }
            }
        }
        Ok(())
    }
}

/// Removes the label files in a folder.
fn remove_labels(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let picture = path.with_extension("jpg");
        let is_label = path.extension().is_some_and(|extension| extension == "txt");
        if is_label && picture.file_name().and_then(|name| name.to_str()).is_some_and(names::is_picture) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

impl Table for Yolo {
    fn describe() -> Description {
        Description { name: "yolo", extensions: &[], is_own_folder: is_data_set, text: None, pictures: Some(IMAGES) }
    }

    fn begin(path: &Path) -> Result<Self, TableError> {
        for folder in [IMAGES, LABELS] {
            std::fs::create_dir_all(path.join(folder))?;
        }
        let data = path.join(DATA);
        if data.exists() {
            // The data set of an earlier run is no longer complete.
            std::fs::remove_file(data)?;
        }
        Ok(Self { path: path.to_owned(), names: BTreeMap::new(), keypoints: 0, folders: HashSet::new() })
    }

    fn file(&mut self, file: &FileRecord) -> Result<(), TableError> {
        if let Some(detector) = file.detector() {
            self.keypoints = self.keypoints.max(detector.keypoints as usize);
            self.names.extend((0..).zip(detector.classes));
        }
        let name = names::folder(&file.summary.file);
        let (images, labels) = (self.path.join(IMAGES).join(&name), self.path.join(LABELS).join(&name));
        if labels.exists() {
            remove_labels(&labels)?;
        }
        let mut pictures = HashSet::new();
        for frame in file.frames() {
            let (number, frame) = frame?;
            let picture = names::picture(number, frame.pts_ns);
            let mut text = String::new();
            for found in &frame.detections {
                let Some(class) = found.class_id else { continue };
                self.names.entry(class).or_insert_with(|| found.label.clone());
                self.keypoints = self.keypoints.max(found.keypoints.len());
                line(&mut text, class, &frame, found);
            }
            // A picture without a label file has no objects.
            if !text.is_empty() {
                std::fs::create_dir_all(&labels)?;
                std::fs::write(labels.join(Path::new(&picture).with_extension("txt")), text)?;
            }
            pictures.insert(picture);
        }
        // A file that ended before its first frame may have pictures of an earlier run.
        names::remove_pictures(&images, |name| pictures.contains(name))?;
        self.folders.insert(name);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), TableError> {
        self.remove_others()?;
        let mut text = String::from("# All pictures are in images/; divide them into train and val as you need.\n");
        text += "train: images\nval: images\n";
        if self.keypoints > 0 {
            writeln!(text, "kpt_shape: [{}, 3]", self.keypoints)?;
        }
        if self.keypoints == PERSON_KEYPOINTS {
            writeln!(text, "flip_idx: {PERSON_MIRRORED:?}")?;
        }
        text += "names:\n";
        for (class, name) in &self.names {
            // Strings of JSON are strings of YAML.
            writeln!(text, "  {class}: {}", serde_json::to_string(name)?)?;
        }
        let mut data = PartFile::create(&self.path.join(DATA))?;
        std::io::Write::write_all(&mut data, text.as_bytes())?;
        data.commit()?;
        Ok(())
    }
}

/// Appends the line of a detection: corners of its rotated box or of its mask's outline, otherwise its box and keypoints; all as
/// shares of the picture's width and height.
fn line(text: &mut String, class: i32, frame: &Frame, found: &Detection) {
    let share = |value: f64, whole: u32| (value / f64::from(whole.max(1))).clamp(0.0, 1.0);
    let [left, top, width, height] = found.rectangle;
    let (right, bottom) = (left + width, top + height);
    let mut values = Vec::new();
    let polygon = match (&found.rotated_box, &found.mask) {
        (Some(rotated), _) => Some(corners(*rotated).to_vec()),
        (None, Some(mask)) => {
            let outline = outline(mask, found.rectangle);
            // Tools expect all lines of a data set to be of one kind.
            let edges = || vec![[left, top], [right, top], [right, bottom], [left, bottom]];
            Some(if outline.is_empty() { edges() } else { outline })
        }
        (None, None) => None,
    };
    if let Some(polygon) = polygon {
        values.extend(polygon.into_iter().flat_map(|[x, y]| [share(x, frame.width), share(y, frame.height)]));
    } else {
        let [left, right] = [left, right].map(|x| share(x, frame.width));
        let [top, bottom] = [top, bottom].map(|y| share(y, frame.height));
        values.extend([f64::midpoint(left, right), f64::midpoint(top, bottom), right - left, bottom - top]);
        for [x, y, confidence] in &found.keypoints {
            let is_seen = *confidence >= KEYPOINT_CONFIDENCE;
            values.extend(if is_seen { [share(*x, frame.width), share(*y, frame.height), 2.0] } else { [0.0; 3] });
        }
    }
    let _ = write!(text, "{class}");
    for value in values {
        // Six digits are a hundredth of a pixel in the widest pictures.
        let _ = write!(text, " {}", (value * 1e6).round() / 1e6);
    }
    text.push('\n');
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::super::tests::{file, write_table};
    use super::*;

    #[test]
    fn labels_lie_beside_pictures_and_files_of_other_runs_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set");
        let name = names::folder(&file().summary.file);
        let images = path.join("images").join(&name);
        std::fs::create_dir_all(&images).unwrap();
        std::fs::create_dir_all(path.join("labels/other-0123")).unwrap();
        std::fs::write(path.join("labels.cache"), "").unwrap();
        assert!(!is_data_set(&path));
        std::fs::remove_file(path.join("labels.cache")).unwrap();
        assert!(is_data_set(&path));
        for picture in ["000001.jpg", "000009-00h00m09.000s.jpg"] {
            std::fs::write(images.join(picture), "").unwrap();
        }
        write_table::<Yolo>(&path);
        assert!(images.join("000001.jpg").exists() && !images.join("000009-00h00m09.000s.jpg").exists());
        assert!(!path.join("labels/other-0123").exists());
        let labels = path.join("labels").join(&name);
        let text = |name: &str| std::fs::read_to_string(labels.join(name)).unwrap();
        assert_eq!(text("000001.txt"), "1 0.039063 0.088542 0.046875 0.09375\n");
        let second = text("000002-00h00m00.040s.txt");
        let lines: Vec<Vec<f64>> =
            second.lines().map(|line| line.split(' ').map(|value| value.parse().unwrap()).collect()).collect();
        // The mask's larger part, cells 1 and 2 of the first row and 1 of the second row; then the box turned by 45 degrees.
        assert_eq!(lines[0][0], 2.0);
        assert!(lines[0].len() > 9 && lines[0].iter().skip(1).all(|value| (0.0..=1.0).contains(value)), "{lines:?}");
        assert_eq!((lines[1][0], lines[1].len()), (1.0, 9));
        assert_eq!(std::fs::read_dir(&labels).unwrap().count(), 2);
        let data = std::fs::read_to_string(path.join("data.yaml")).unwrap();
        assert!(
            data.contains("kpt_shape: [2, 3]\n")
                && data.ends_with("names:\n  0: \"person\"\n  1: \"dog\"\n  2: \"cat\"\n"),
            "{data}"
        );
    }
}
