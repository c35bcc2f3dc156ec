// SPDX-License-Identifier: MIT OR Apache-2.0
//! CSV: a row for each detection, under a heading. A cell with several values is JSON text.

use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::super::file_record::FileRecord;
use super::super::part_file::PartFile;
use super::{Description, IsFirst, Table, TableError, commit, never};

const COLUMNS: [&str; 16] = [
    "file",
    "pts_ns",
    "seconds",
    "keyframe",
    "width",
    "height",
    "label",
    "class_id",
    "confidence",
    "x",
    "y",
    "box_width",
    "box_height",
    "rotated_box",
    "keypoints",
    "mask",
];

/// The table.
pub struct Csv {
    out: BufWriter<PartFile>,
    is_first: bool,
}

impl Table for Csv {
    fn describe() -> Description {
        Description { name: "csv", extensions: &["csv"], is_own_folder: never, text: Some(text), pictures: None }
    }

    fn begin(path: &Path) -> Result<Self, TableError> {
        Ok(Self { out: BufWriter::new(PartFile::create(path)?), is_first: true })
    }

    fn file(&mut self, file: &FileRecord) -> Result<(), TableError> {
        let is_first = IsFirst(std::mem::replace(&mut self.is_first, false));
        Ok(self.out.write_all(&text(file, is_first)?)?)
    }

    fn finish(mut self: Box<Self>) -> Result<(), TableError> {
        if self.is_first {
            // A table without files has a heading, too.
            self.out.write_all(&heading()?)?;
        }
        commit(self.out)
    }
}

fn heading() -> Result<Vec<u8>, TableError> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(COLUMNS)?;
    Ok(csv.into_inner()?)
}

/// Returns the rows of a file.
fn text(file: &FileRecord, IsFirst(is_first): IsFirst) -> Result<Vec<u8>, TableError> {
    let out = if is_first { heading()? } else { Vec::new() };
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(out);
    for frame in file.frames() {
        let (_, frame) = frame?;
        for found in &frame.detections {
            let [x, y, width, height] = found.rectangle;
            csv.serialize((
                &frame.file,
                frame.pts_ns,
                frame.seconds(),
                frame.is_keyframe,
                frame.width,
                frame.height,
                &found.label,
                found.class_id,
                found.confidence,
                (x, y, width, height),
                cell(found.rotated_box.as_ref())?,
                cell(Some(&found.keypoints).filter(|points| !points.is_empty()))?,
                cell(found.mask.as_ref())?,
            ))?;
        }
    }
    Ok(csv.into_inner()?)
}

/// Returns JSON text; empty for a missing value.
fn cell(value: Option<&impl Serialize>) -> Result<String, TableError> {
    Ok(value.map(serde_json::to_string).transpose()?.unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::super::tests::{file, write_table};
    use super::*;

    #[test]
    fn a_row_for_each_detection_under_a_heading() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        write_table::<Csv>(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], COLUMNS.join(","));
        assert_eq!(rows[1], r#""a, ""b"".mp4",,,true,64,48,dog,1,0.5,1.0,2.0,3.0,4.5,,,"#);
        assert_eq!(
            rows[2],
            r#""a, ""b"".mp4",40000000,0.04,false,64,48,cat,2,0.75,10.0,10.0,8.0,4.0,,"[[11.0,12.0,0.9],[13.0,12.5,0.1]]","{""size"":[2,4],""counts"":[1,2,2,3]}""#
        );
        assert!(rows[3].ends_with(r#","[25.0,25.0,10.0,4.0,0.7125]",,"#), "{}", rows[3]);
        assert_eq!(rows.len(), 4);
        assert_eq!(super::text(&file(), IsFirst(true)).unwrap(), text.as_bytes());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let empty = Box::new(Csv::begin(&path).unwrap());
        empty.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim_end(), COLUMNS.join(","));
    }
}
