// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parquet: a row for each detection, in parts that appear when they are complete. The columns are those of [`arrow`](super::super::arrow).

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::super::arrow::{Rows, schema};
use super::super::file_record::FileRecord;
use super::super::inputs::with_suffix;
use super::{Description, Table, TableError, remove};
use crate::record::Frame;

/// Rows after which a part is complete.
const PART_ROWS: usize = 2_000_000;
/// Files after which a part is complete, however few rows they have: their summaries are kept in memory until then.
const PART_FILES: usize = 50_000;

/// The table. Its parts are written to a folder beside its place, `.parts`, which becomes the table at the end; a single part
/// becomes the table itself.
pub struct Parquet {
    path: PathBuf,
    folder: PathBuf,
    part: Part,
    count: usize,
    part_rows: usize,
}

impl Parquet {
    fn with_rows(path: &Path, part_rows: usize) -> Result<Self, TableError> {
        let folder = with_suffix(path, ".parts");
        // Left by an interrupted run. The table is made again from the lines.
        remove(&folder, is_of_parts)?;
        std::fs::create_dir(&folder)?;
        let part = Part::create(place(&folder, 0))?;
        Ok(Self { path: path.to_owned(), folder, part, count: 1, part_rows })
    }
}

impl Table for Parquet {
    fn describe() -> Description {
        let extensions = &["parquet"];
        Description { name: "parquet", extensions, is_own_folder: is_of_parts, text: None, pictures: None }
    }

    fn begin(path: &Path) -> Result<Self, TableError> {
        Self::with_rows(path, PART_ROWS)
    }

    fn file(&mut self, file: &FileRecord) -> Result<(), TableError> {
        for frame in file.frames() {
            self.part.push(frame?.1)?;
        }
        self.part.summaries.push(String::from_utf8_lossy(&file.summary.to_line()).trim_end().to_owned());
        if self.part.row_count >= self.part_rows || self.part.summaries.len() >= PART_FILES {
            let next = Part::create(place(&self.folder, self.count))?;
            self.count += 1;
            std::mem::replace(&mut self.part, next).close()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), TableError> {
        if self.count > 1 && self.part.is_empty() {
            self.part.discard()?;
            self.count -= 1;
        } else {
            self.part.close()?;
        }
        remove(&self.path, is_of_parts)?;
        if self.count > 1 {
            return Ok(std::fs::rename(&self.folder, &self.path)?);
        }
        std::fs::rename(place(&self.folder, 0), &self.path)?;
        Ok(std::fs::remove_dir(&self.folder)?)
    }
}

/// Returns whether a folder contains nothing but parts of a table.
fn is_of_parts(folder: &Path) -> bool {
    let is_part =
        |name: &str| name.starts_with("part-") && (name.ends_with(".parquet") || name.ends_with(".parquet.part"));
    std::fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().all(|entry| is_part(&entry.file_name().to_string_lossy())))
}

fn place(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("part-{number:05}.parquet"))
}

/// Starts a compressed Parquet file whose rows are called `row`.
pub(super) fn parquet_writer(file: File, row: &str, schema: SchemaRef) -> Result<ArrowWriter<File>, TableError> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_schema_root(row.to_owned());
    // The columns are types of Parquet, and readers of Arrow need no further description.
    let options = options.with_skip_arrow_metadata(true);
    Ok(ArrowWriter::try_new_with_options(file, schema, options)?)
}

/// A Parquet file being written.
struct Part {
    writer: ArrowWriter<File>,
    new: PathBuf,
    place: PathBuf,
    rows: Rows,
    row_count: usize,
    /// The summaries of its files, for the metadata `vx.files`.
    summaries: Vec<String>,
}

impl Part {
    fn create(place: PathBuf) -> Result<Self, TableError> {
        let new = with_suffix(&place, ".part");
        let writer = parquet_writer(File::create(&new)?, "detection", schema())?;
        Ok(Self { writer, new, place, rows: Rows::default(), row_count: 0, summaries: Vec::new() })
    }

    fn push(&mut self, frame: Frame) -> Result<(), TableError> {
        self.row_count += frame.detections.len();
        self.rows.push(frame);
        if self.rows.is_complete() { self.write_group() } else { Ok(()) }
    }

    /// Writes the rows as a row group.
    fn write_group(&mut self) -> Result<(), TableError> {
        self.writer.write(&self.rows.take()?)?;
        Ok(self.writer.flush()?)
    }

    fn is_empty(&self) -> bool {
        self.row_count == 0 && self.summaries.is_empty()
    }

    /// Removes the incomplete part.
    fn discard(self) -> Result<(), TableError> {
        drop(self.writer);
        Ok(std::fs::remove_file(&self.new)?)
    }

    fn close(mut self) -> Result<(), TableError> {
        if !self.rows.is_empty() {
            self.write_group()?;
        }
        let text = format!("[{}]", self.summaries.join(","));
        self.writer.append_key_value_metadata(KeyValue::new("vx.files".to_owned(), text));
        self.writer.finish()?;
        File::open(&self.new)?.sync_all()?;
        remove(&self.place, is_of_parts)?;
        Ok(std::fs::rename(&self.new, &self.place)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, ListAccessor, Row, RowAccessor};

    use super::super::tests::{file, write_table};
    use super::*;

    fn rows(path: &Path) -> Vec<Row> {
        let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
    }

    fn field(row: &Row, name: &str) -> Field {
        row.get_column_iter().find(|(column, _)| *column == name).unwrap().1.clone()
    }

    #[test]
    fn a_row_for_each_detection_with_nested_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        write_table::<Parquet>(&path);
        let rows = rows(&path);
        assert_eq!(rows.len(), 3);
        assert_eq!(
            (field(&rows[0], "file"), field(&rows[0], "label")),
            (Field::Str("a, \"b\".mp4".into()), Field::Str("dog".into()))
        );
        assert_eq!((field(&rows[0], "class_id"), field(&rows[0], "box_height")), (Field::Int(1), Field::Float(4.5)));
        for name in ["pts_ns", "seconds", "rotated_box", "keypoints", "mask"] {
            assert_eq!(field(&rows[0], name), Field::Null, "{name}");
        }
        assert_eq!(
            (field(&rows[1], "seconds"), field(&rows[1], "keyframe")),
            (Field::Double(0.04), Field::Bool(false))
        );
        let Field::ListInternal(points) = field(&rows[1], "keypoints") else { panic!("no list") };
        let Field::Group(point) = &points.elements()[1] else { panic!("no point") };
        assert_eq!((points.len(), point.get_float(0).unwrap(), point.get_float(2).unwrap()), (2, 13.0, 0.1));
        let Field::Group(mask) = field(&rows[1], "mask") else { panic!("no mask") };
        let counts = mask.get_list(2).unwrap();
        assert_eq!((mask.get_int(0).unwrap(), mask.get_int(1).unwrap(), counts.len()), (2, 4, 4));
        assert_eq!((0..4).map(|index| counts.get_int(index).unwrap()).collect::<Vec<_>>(), [1, 2, 2, 3]);
        let Field::Group(rotated) = field(&rows[2], "rotated_box") else { panic!("no rotated box") };
        assert_eq!((rotated.get_float(0).unwrap(), rotated.get_float(4).unwrap()), (25.0, 0.7125));
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let metadata = reader.metadata().file_metadata();
        let files = metadata.key_value_metadata().unwrap().iter().find(|pair| pair.key == "vx.files").unwrap();
        assert!(files.value.as_ref().unwrap().contains("\"status\":\"ok\""));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn many_rows_are_parts_that_appear_when_they_are_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        // Left by an earlier run.
        std::fs::create_dir(folder.path().join("t.parquet.parts")).unwrap();
        std::fs::write(folder.path().join("t.parquet.parts/part-00007.parquet"), "cut").unwrap();
        let mut parts = Box::new(Parquet::with_rows(&path, 4).unwrap());
        let there = |folder: &Path| {
            let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        (0..4).for_each(|_| parts.file(&file()).unwrap());
        // Three rows in each: after the second and the fourth there are enough.
        let complete: Vec<_> = there(&folder.path().join("t.parquet.parts"));
        assert_eq!(complete, ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet.part"]);
        parts.finish().unwrap();
        assert_eq!(there(folder.path()), ["t.parquet"]);
        assert_eq!(there(&path), ["part-00000.parquet", "part-00001.parquet"]);
        for part in there(&path) {
            let reader = SerializedFileReader::new(File::open(path.join(part)).unwrap()).unwrap();
            let metadata = reader.metadata().file_metadata();
            let files =
                &metadata.key_value_metadata().unwrap().iter().find(|pair| pair.key == "vx.files").unwrap().value;
            assert_eq!((metadata.num_rows(), files.as_ref().unwrap().matches("\"status\"").count()), (6, 2));
        }
    }
}
