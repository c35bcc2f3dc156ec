//! Parquet: a row for each detection, in parts that appear as they are complete.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::{Error, Frame, frame_in, remove};
use crate::files::with_suffix;
use crate::unit::summary_in;

/// Rows after which a part is complete.
const PART_ROWS: usize = 2_000_000;
/// Files after which it is, however few rows they have: their summaries are kept until then.
const PART_FILES: usize = 50_000;
/// Rows that are written at once.
const GROUP_ROWS: usize = 100_000;

/// A table in the making. Parts lie in a folder beside its place, `.parts`; at the end that folder takes the place, or where
/// there is but one part, that.
pub struct Parts {
    path: PathBuf,
    folder: PathBuf,
    part: Part,
    count: usize,
    part_rows: usize,
}

impl Parts {
    /// Begins a table that is to lie at `path`.
    pub fn create(path: &Path) -> Result<Self, Error> {
        Self::with_rows(path, PART_ROWS)
    }

    pub(super) fn with_rows(path: &Path, part_rows: usize) -> Result<Self, Error> {
        let folder = with_suffix(path, ".parts");
        // Of a run that was cut: all that is in them is in the lines too, from which they are made again.
        remove(&folder)?;
        std::fs::create_dir(&folder)?;
        let part = Part::create(place(&folder, 0))?;
        Ok(Self { path: path.to_owned(), folder, part, count: 1, part_rows })
    }

    /// Adds the lines of whole files.
    pub fn add(&mut self, lines: &[u8]) -> Result<(), Error> {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if summary_in(line).is_some() {
                self.part.summaries.push(String::from_utf8_lossy(line).into_owned());
            } else if let Some(frame) = frame_in(line)? {
                self.part.push(frame)?;
            }
        }
        if self.part.rows() >= self.part_rows || self.part.summaries.len() >= PART_FILES {
            let next = Part::create(place(&self.folder, self.count))?;
            self.count += 1;
            std::mem::replace(&mut self.part, next).close()?;
        }
        Ok(())
    }

    /// Puts the table in its place.
    pub fn finish(mut self) -> Result<(), Error> {
        if self.count > 1 && self.part.is_empty() {
            self.part.abandon()?;
            self.count -= 1;
        } else {
            self.part.close()?;
        }
        remove(&self.path)?;
        if self.count > 1 {
            return Ok(std::fs::rename(&self.folder, &self.path)?);
        }
        std::fs::rename(place(&self.folder, 0), &self.path)?;
        Ok(std::fs::remove_dir(&self.folder)?)
    }
}

fn place(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("part-{number:05}.parquet"))
}

const SCHEMA: &str = "message detection {
    required binary file (UTF8);
    optional int64 pts_ns;
    required int32 width;
    required int32 height;
    required binary label (UTF8);
    optional int32 class_id;
    optional float confidence;
    required float x;
    required float y;
    required float box_width;
    required float box_height;
}";

/// Rows by column, on their way into a file.
#[derive(Default)]
struct Rows {
    file: Vec<ByteArray>,
    pts_ns: Vec<Option<i64>>,
    sizes: [Vec<i32>; 2],
    label: Vec<ByteArray>,
    class_id: Vec<Option<i32>>,
    confidence: Vec<Option<f32>>,
    rectangle: [Vec<f32>; 4],
}

/// A Parquet file being written.
struct Part {
    writer: SerializedFileWriter<File>,
    new: PathBuf,
    place: PathBuf,
    rows: Rows,
    written: usize,
    /// Of its files, one after the other in the metadata `vx.files`.
    summaries: Vec<String>,
}

impl Part {
    fn create(place: PathBuf) -> Result<Self, Error> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
        let new = with_suffix(&place, ".part");
        let writer = SerializedFileWriter::new(File::create(&new)?, schema, Arc::new(properties))?;
        Ok(Self { writer, new, place, rows: Rows::default(), written: 0, summaries: Vec::new() })
    }

    fn push(&mut self, frame: Frame) -> Result<(), Error> {
        let file = ByteArray::from(frame.file.unwrap_or_default().as_str());
        for found in frame.detections {
            let rows = &mut self.rows;
            rows.file.push(file.clone());
            rows.pts_ns.push(frame.pts_ns);
            rows.sizes[0].push(frame.width as i32);
            rows.sizes[1].push(frame.height as i32);
            rows.label.push(ByteArray::from(found.label.as_str()));
            rows.class_id.push(found.class_id);
            rows.confidence.push(found.confidence.map(|confidence| confidence as f32));
            for (column, value) in rows.rectangle.iter_mut().zip(found.rectangle) {
                column.push(value as f32);
            }
        }
        if self.rows.file.len() >= GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.rows);
        self.written += rows.file.len();
        let mut group = self.writer.next_row_group()?;
        let mut column = 0;
        while let Some(mut writer) = group.next_column()? {
            match column {
                0 => required::<ByteArrayType>(&mut writer, &rows.file)?,
                1 => optional::<Int64Type>(&mut writer, &rows.pts_ns)?,
                2 | 3 => required::<Int32Type>(&mut writer, &rows.sizes[column - 2])?,
                4 => required::<ByteArrayType>(&mut writer, &rows.label)?,
                5 => optional::<Int32Type>(&mut writer, &rows.class_id)?,
                6 => optional::<FloatType>(&mut writer, &rows.confidence)?,
                _ => required::<FloatType>(&mut writer, &rows.rectangle[column - 7])?,
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

    /// Takes its beginnings away.
    fn abandon(self) -> Result<(), Error> {
        drop(self.writer);
        Ok(std::fs::remove_file(&self.new)?)
    }

    fn close(mut self) -> Result<(), Error> {
        if !self.rows.file.is_empty() {
            self.write_group()?;
        }
        let text = format!("[{}]", self.summaries.join(","));
        self.writer.append_key_value_metadata(KeyValue::new("vx.files".to_owned(), text));
        self.writer.finish()?;
        File::open(&self.new)?.sync_all()?;
        remove(&self.place)?;
        Ok(std::fs::rename(&self.new, &self.place)?)
    }
}

fn required<T: DataType>(
    writer: &mut parquet::file::writer::SerializedColumnWriter<'_>,
    values: &[T::T],
) -> Result<(), Error> {
    writer.typed::<T>().write_batch(values, None, None)?;
    Ok(())
}

fn optional<T: DataType>(
    writer: &mut parquet::file::writer::SerializedColumnWriter<'_>,
    values: &[Option<T::T>],
) -> Result<(), Error> {
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let present: Vec<T::T> = values.iter().flatten().cloned().collect();
    writer.typed::<T>().write_batch(&present, Some(&levels), None)?;
    Ok(())
}
