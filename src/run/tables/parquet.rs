// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parquet: a row for each detection, in parts that appear when they are complete. The columns are those of [`arrow`](super::super::arrow).

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
use super::super::part_file::PartFile;
use super::{Description, Table, TableError};
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
    /// The part that is being written; `None` when the table is complete.
    part: Option<Part>,
    /// Parts that are complete.
    count: usize,
    part_rows: usize,
}

impl Parquet {
    fn with_rows(path: &Path, part_rows: usize) -> Result<Self, TableError> {
        let folder = with_suffix(path, ".parts");
        // Left by an interrupted run. The table is made again from the lines.
        remove(&folder, is_of_parts)?;
        std::fs::create_dir(&folder)?;
        let mut table = Self { path: path.to_owned(), folder, part: None, count: 0, part_rows };
        table.part = Some(Part::create(&place(&table.folder, 0))?);
        Ok(table)
    }

    /// Returns the part that is being written.
    fn part(&mut self) -> Result<&mut Part, TableError> {
        if self.part.is_none() {
            self.part = Some(Part::create(&place(&self.folder, self.count))?);
        }
        self.part.as_mut().ok_or_else(|| "there is no part".into())
    }

    fn close_part(&mut self) -> Result<(), TableError> {
        if let Some(part) = self.part.take() {
            part.close()?;
            self.count += 1;
        }
        Ok(())
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
        let part_rows = self.part_rows;
        let part = self.part()?;
        for frame in file.frames() {
            part.push(frame?.1)?;
        }
        part.summaries.push(String::from_utf8_lossy(&file.summary.to_line()).trim_end().to_owned());
        if part.row_count >= part_rows || part.summaries.len() >= PART_FILES {
            self.close_part()?;
            self.part()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), TableError> {
        if self.count > 0 && self.part.as_ref().is_some_and(Part::is_empty) {
            self.part = None;
        }
        self.close_part()?;
        if self.count > 1 {
            replace_by(&self.folder, &self.path)?;
        } else if self.path.is_dir() {
            replace_by(&place(&self.folder, 0), &self.path)?;
        } else {
            // In one step.
            std::fs::rename(place(&self.folder, 0), &self.path)?;
        }
        // The folder of a single part. If it is not empty, it is not only ours.
        let _ = std::fs::remove_dir(&self.folder);
        Ok(())
    }
}

impl Drop for Parquet {
    fn drop(&mut self) {
        self.part = None;
        // There is none if the table is complete.
        let _ = remove(&self.folder, is_of_parts);
    }
}

/// Moves a table to `path`, where a folder cannot be replaced in one step: the table that is there is moved aside, and removed when the
/// new one is in its place.
fn replace_by(table: &Path, path: &Path) -> Result<(), TableError> {
    let aside = with_suffix(path, ".parts.old");
    remove(&aside, is_of_parts)?;
    if path.is_dir() && !is_of_parts(path) {
        return Err(format!("{} is a folder that contains more than a table", path.display()).into());
    }
    let had_old = path.exists();
    if had_old {
        std::fs::rename(path, &aside)?;
    }
    if let Err(error) = std::fs::rename(table, path) {
        if had_old {
            let _ = std::fs::rename(&aside, path);
        }
        return Err(error.into());
    }
    remove(&aside, is_of_parts)
}

/// Removes what an earlier run left in this place: a file, or a folder that is a table.
fn remove(path: &Path, is_own_folder: fn(&Path) -> bool) -> Result<(), TableError> {
    if path.is_dir() {
        if !is_own_folder(path) {
            return Err(format!("{} is a folder that contains more than a table", path.display()).into());
        }
        return Ok(std::fs::remove_dir_all(path)?);
    }
    if path.exists() { Ok(std::fs::remove_file(path)?) } else { Ok(()) }
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
pub(super) fn parquet_writer(
    file: PartFile,
    row: &str,
    schema: SchemaRef,
) -> Result<ArrowWriter<PartFile>, TableError> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_schema_root(row.to_owned());
    // The columns are types of Parquet, and readers of Arrow need no further description.
    let options = options.with_skip_arrow_metadata(true);
    Ok(ArrowWriter::try_new_with_options(file, schema, options)?)
}

/// A Parquet file being written.
struct Part {
    writer: ArrowWriter<PartFile>,
    rows: Rows,
    row_count: usize,
    /// The summaries of its files, for the metadata `vx.files`.
    summaries: Vec<String>,
}

impl Part {
    fn create(place: &Path) -> Result<Self, TableError> {
        let writer = parquet_writer(PartFile::create(place)?, "detection", schema())?;
        Ok(Self { writer, rows: Rows::default(), row_count: 0, summaries: Vec::new() })
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

    fn close(mut self) -> Result<(), TableError> {
        if !self.rows.is_empty() {
            self.write_group()?;
        }
        let text = format!("[{}]", self.summaries.join(","));
        self.writer.append_key_value_metadata(KeyValue::new("vx.files".to_owned(), text));
        self.writer.into_inner()?.commit()?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, ListAccessor, Row, RowAccessor};

    use std::fs::File;

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
        // A table that is given up leaves nothing, and the one in place as it is.
        let mut given_up = Parquet::with_rows(&path, 4).unwrap();
        (0..3).for_each(|_| given_up.file(&file()).unwrap());
        drop(given_up);
        assert_eq!((there(folder.path()), there(&path).len()), (vec!["t.parquet".to_owned()], 2));
        // Parts replace parts, a file replaces parts, and parts replace a file.
        for (files, parts) in [(6, 3), (1, 0), (4, 2)] {
            let mut table = Box::new(Parquet::with_rows(&path, 4).unwrap());
            (0..files).for_each(|_| table.file(&file()).unwrap());
            table.finish().unwrap();
            assert_eq!(there(folder.path()), ["t.parquet"]);
            assert_eq!(if path.is_dir() { there(&path).len() } else { 0 }, parts);
        }
        for part in there(&path) {
            let reader = SerializedFileReader::new(File::open(path.join(part)).unwrap()).unwrap();
            let metadata = reader.metadata().file_metadata();
            let files =
                &metadata.key_value_metadata().unwrap().iter().find(|pair| pair.key == "vx.files").unwrap().value;
            assert_eq!((metadata.num_rows(), files.as_ref().unwrap().matches("\"status\"").count()), (6, 2));
        }
    }
}
