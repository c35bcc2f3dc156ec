// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parquet: a row for each detection, in parts that appear when they are complete. Columns with several values are nested.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::super::file_record::FileRecord;
use super::super::inputs::with_suffix;
use super::{Description, Table, TableError, remove};
use crate::record::{Frame, Mask};

/// Rows after which a part is complete.
const PART_ROWS: usize = 2_000_000;
/// Files after which a part is complete, however few rows they have: their summaries are kept in memory until then.
const PART_FILES: usize = 50_000;
/// Rows of a row group.
const GROUP_ROWS: usize = 100_000;
/// Runs of masks after which a row group is written, however few rows it has.
const GROUP_RUNS: usize = 4_000_000;

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
        if self.part.rows() >= self.part_rows || self.part.summaries.len() >= PART_FILES {
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

const SCHEMA: &str = "message detection {
    required binary file (UTF8);
    optional int64 pts_ns;
    optional double seconds;
    required boolean keyframe;
    required int32 width;
    required int32 height;
    required binary label (UTF8);
    optional int32 class_id;
    optional float confidence;
    required float x;
    required float y;
    required float box_width;
    required float box_height;
    optional group rotated_box {
        required float center_x;
        required float center_y;
        required float width;
        required float height;
        required float rotation;
    }
    optional group keypoints (LIST) {
        repeated group list {
            required group element {
                required float x;
                required float y;
                required float confidence;
            }
        }
    }
    optional group mask {
        required int32 rows;
        required int32 columns;
        required group counts (LIST) {
            repeated group list {
                required int32 element;
            }
        }
    }
}";

/// Rows that are not written yet, by column.
#[derive(Default)]
struct Rows {
    file: Vec<ByteArray>,
    pts_ns: Vec<Option<i64>>,
    seconds: Vec<Option<f64>>,
    keyframe: Vec<bool>,
    sizes: [Vec<i32>; 2],
    label: Vec<ByteArray>,
    class_id: Vec<Option<i32>>,
    confidence: Vec<Option<f32>>,
    rectangle: [Vec<f32>; 4],
    rotated_box: Vec<Option<[f32; 5]>>,
    keypoints: Vec<Option<Vec<[f32; 3]>>>,
    mask: Vec<Option<Mask>>,
    /// Runs of all masks.
    run_count: usize,
}

/// A Parquet file being written.
struct Part {
    writer: SerializedFileWriter<File>,
    new: PathBuf,
    place: PathBuf,
    rows: Rows,
    written: usize,
    /// The summaries of its files, for the metadata `vx.files`.
    summaries: Vec<String>,
}

impl Part {
    fn create(place: PathBuf) -> Result<Self, TableError> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
        let new = with_suffix(&place, ".part");
        let writer = SerializedFileWriter::new(File::create(&new)?, schema, Arc::new(properties))?;
        Ok(Self { writer, new, place, rows: Rows::default(), written: 0, summaries: Vec::new() })
    }

    fn push(&mut self, frame: Frame) -> Result<(), TableError> {
        let seconds = frame.seconds();
        let file = ByteArray::from(frame.file.unwrap_or_default().as_str());
        for found in frame.detections {
            let rows = &mut self.rows;
            rows.file.push(file.clone());
            rows.pts_ns.push(frame.pts_ns);
            rows.seconds.push(seconds);
            rows.keyframe.push(frame.is_keyframe);
            rows.sizes[0].push(frame.width as i32);
            rows.sizes[1].push(frame.height as i32);
            rows.label.push(ByteArray::from(found.label.as_str()));
            rows.class_id.push(found.class_id);
            rows.confidence.push(found.confidence.map(|confidence| confidence as f32));
            for (column, value) in rows.rectangle.iter_mut().zip(found.rectangle) {
                column.push(value as f32);
            }
            rows.rotated_box.push(found.rotated_box.map(|values| values.map(|value| value as f32)));
            let points = found.keypoints.iter().map(|point| point.map(|value| value as f32));
            rows.keypoints.push((!found.keypoints.is_empty()).then(|| points.collect()));
            rows.run_count += found.mask.as_ref().map_or(0, |mask| mask.counts.len());
            rows.mask.push(found.mask);
        }
        let is_group = self.rows.file.len() >= GROUP_ROWS || self.rows.run_count >= GROUP_RUNS;
        if is_group { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<(), TableError> {
        let rows = std::mem::take(&mut self.rows);
        self.written += rows.file.len();
        let mut group = self.writer.next_row_group()?;
        let mut column = 0;
        while let Some(mut writer) = group.next_column()? {
            match column {
                0 => required::<ByteArrayType>(&mut writer, &rows.file)?,
                1 => optional::<Int64Type>(&mut writer, &rows.pts_ns)?,
                2 => optional::<DoubleType>(&mut writer, &rows.seconds)?,
                3 => required::<BoolType>(&mut writer, &rows.keyframe)?,
                4 | 5 => required::<Int32Type>(&mut writer, &rows.sizes[column - 4])?,
                6 => required::<ByteArrayType>(&mut writer, &rows.label)?,
                7 => optional::<Int32Type>(&mut writer, &rows.class_id)?,
                8 => optional::<FloatType>(&mut writer, &rows.confidence)?,
                9..13 => required::<FloatType>(&mut writer, &rows.rectangle[column - 9])?,
                13..18 => {
                    let part: Vec<_> =
                        rows.rotated_box.iter().map(|rotated| rotated.map(|values| values[column - 13])).collect();
                    optional::<FloatType>(&mut writer, &part)?;
                }
                18..21 => {
                    let part = |point: &[f32; 3]| point[column - 18];
                    let lists = rows.keypoints.iter();
                    lists_of::<FloatType>(&mut writer, lists.map(|points| Some(points.as_ref()?.iter().map(part))))?;
                }
                21 | 22 => {
                    let size = |mask: &Mask| i32::try_from(mask.size[column - 21]).unwrap_or(i32::MAX);
                    let part: Vec<_> = rows.mask.iter().map(|mask| mask.as_ref().map(size)).collect();
                    optional::<Int32Type>(&mut writer, &part)?;
                }
                _ => {
                    let count = |count: &usize| i32::try_from(*count).unwrap_or(i32::MAX);
                    let lists = rows.mask.iter();
                    lists_of::<Int32Type>(
                        &mut writer,
                        lists.map(|mask| Some(mask.as_ref()?.counts.iter().map(count))),
                    )?;
                }
            }
            writer.close()?;
            column += 1;
        }
        group.close()?;
        Ok(())
    }

    fn rows(&self) -> usize {
        self.written + self.rows.file.len()
    }

    fn is_empty(&self) -> bool {
        self.rows() == 0 && self.summaries.is_empty()
    }

    /// Removes the incomplete part.
    fn discard(self) -> Result<(), TableError> {
        drop(self.writer);
        Ok(std::fs::remove_file(&self.new)?)
    }

    fn close(mut self) -> Result<(), TableError> {
        if !self.rows.file.is_empty() {
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

pub(super) fn required<T: DataType>(
    writer: &mut parquet::file::writer::SerializedColumnWriter<'_>,
    values: &[T::T],
) -> Result<(), TableError> {
    writer.typed::<T>().write_batch(values, None, None)?;
    Ok(())
}

pub(super) fn optional<T: DataType>(
    writer: &mut parquet::file::writer::SerializedColumnWriter<'_>,
    values: &[Option<T::T>],
) -> Result<(), TableError> {
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let present: Vec<T::T> = values.iter().flatten().cloned().collect();
    writer.typed::<T>().write_batch(&present, Some(&levels), None)?;
    Ok(())
}

/// Writes a column of lists, each of which may be missing. Definition levels are 0 for a missing list, 1 for an empty one and 2 for
/// an element; repetition levels 0 for the first of a list and 1 for those after it (parquet.apache.org/docs/file-format/nestedencoding).
fn lists_of<T: DataType>(
    writer: &mut parquet::file::writer::SerializedColumnWriter<'_>,
    lists: impl Iterator<Item = Option<impl Iterator<Item = T::T>>>,
) -> Result<(), TableError> {
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    for list in lists {
        let first = values.len();
        let is_there = list.is_some();
        values.extend(list.into_iter().flatten());
        if values.len() == first {
            definitions.push(i16::from(is_there));
            repetitions.push(0);
        }
        for index in first..values.len() {
            definitions.push(2);
            repetitions.push(i16::from(index > first));
        }
    }
    writer.typed::<T>().write_batch(&values, Some(&definitions), Some(&repetitions))?;
    Ok(())
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
