//! From lines to tables: CSV, COCO's JSON, Parquet.
//!
//! Each is written beside its place and renamed when it is complete.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};

use crate::files::with_suffix;
use crate::unit::summary_in;

type Error = Box<dyn std::error::Error>;

/// A form of output that is not lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// A row for each detection.
    Csv,
    /// COCO's annotation format, each frame an image.
    Coco,
    /// A row for each detection.
    Parquet,
}

/// A frame's line, as far as tables have it.
#[derive(Debug, Deserialize)]
struct Frame {
    file: Option<String>,
    pts_ns: Option<i64>,
    width: u32,
    height: u32,
    detections: Vec<Detection>,
}

#[derive(Debug, Deserialize)]
struct Detection {
    label: String,
    class_id: Option<i32>,
    confidence: Option<f64>,
    #[serde(rename = "box")]
    rectangle: [f64; 4],
}

/// Rows of a Parquet file; more go into a folder of such files.
const PART_ROWS: usize = 2_000_000;
/// Rows that are written at once.
const GROUP_ROWS: usize = 100_000;

impl Table {
    /// The form that the extension of `path` asks for; `None` for lines.
    pub fn for_path(path: &Path) -> Result<Option<Self>, String> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Ok(None),
            "csv" => Ok(Some(Self::Csv)),
            "json" => Ok(Some(Self::Coco)),
            "parquet" => Ok(Some(Self::Parquet)),
            _ => Err(format!(
                "{}: the form is told by the extension: .jsonl (lines), .csv, .parquet, .json (COCO)",
                path.display()
            )),
        }
    }

    /// Makes `path` of the lines in `journal`.
    pub fn write(self, journal: &Path, path: &Path) -> Result<(), Error> {
        match self {
            Self::Csv => replace(path, |file| write_csv(journal, file)),
            Self::Coco => replace(path, |file| write_coco(journal, file)),
            Self::Parquet => write_parquet(journal, path),
        }
    }
}

/// Writes a file beside `path` and gives it that name when it is on the disk.
fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>) -> Result<(), Error> {
    let new = with_suffix(path, ".part");
    let mut file = BufWriter::new(File::create(&new)?);
    write(&mut file)?;
    file.into_inner()?.sync_all()?;
    remove(path)?;
    Ok(std::fs::rename(new, path)?)
}

/// Takes away what an earlier run left in this place.
fn remove(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return std::fs::remove_dir_all(path);
    }
    if path.exists() { std::fs::remove_file(path) } else { Ok(()) }
}

/// Calls `take` with each frame; gives the summaries' lines.
fn each_frame(journal: &Path, mut take: impl FnMut(Frame) -> Result<(), Error>) -> Result<Vec<String>, Error> {
    let mut summaries = Vec::new();
    for line in BufReader::new(File::open(journal)?).lines() {
        let line = line?;
        if summary_in(line.as_bytes()).is_some() {
            summaries.push(line);
        } else if let Ok(frame) = serde_json::from_str(&line) {
            take(frame)?;
        }
    }
    Ok(summaries)
}

fn write_csv(journal: &Path, out: &mut impl Write) -> Result<(), Error> {
    let mut csv = csv::Writer::from_writer(out);
    let columns =
        ["file", "pts_ns", "width", "height", "label", "class_id", "confidence", "x", "y", "box_width", "box_height"];
    csv.write_record(columns)?;
    each_frame(journal, |frame| {
        for found in frame.detections {
            let [x, y, width, height] = found.rectangle;
            csv.serialize((
                &frame.file,
                frame.pts_ns,
                frame.width,
                frame.height,
                found.label,
                found.class_id,
                found.confidence,
                x,
                y,
                width,
                height,
            ))?;
        }
        Ok(())
    })?;
    Ok(csv.flush()?)
}

/// COCO's annotation file; the fields of images beyond COCO's are `pts_ns`.
#[derive(Default, Serialize)]
struct Coco {
    images: Vec<CocoImage>,
    annotations: Vec<CocoAnnotation>,
    categories: Vec<CocoCategory>,
}

#[derive(Serialize)]
struct CocoImage {
    id: usize,
    file_name: Option<String>,
    pts_ns: Option<i64>,
    width: u32,
    height: u32,
}

#[derive(Serialize)]
struct CocoAnnotation {
    id: usize,
    image_id: usize,
    category_id: i32,
    bbox: [f64; 4],
    area: f64,
    iscrowd: u8,
    score: Option<f64>,
}

#[derive(Serialize)]
struct CocoCategory {
    id: i32,
    name: String,
}

fn write_coco(journal: &Path, out: &mut impl Write) -> Result<(), Error> {
    let mut coco = Coco::default();
    let mut names = BTreeMap::new();
    // Detectors that number no classes get numbers by name.
    let mut numbers = HashMap::new();
    each_frame(journal, |frame| {
        let image_id = coco.images.len() + 1;
        for found in frame.detections {
            let next = numbers.len() as i32;
            let category_id = found.class_id.unwrap_or_else(|| *numbers.entry(found.label.clone()).or_insert(next));
            names.entry(category_id).or_insert(found.label);
            let [_, _, width, height] = found.rectangle;
            coco.annotations.push(CocoAnnotation {
                id: coco.annotations.len() + 1,
                image_id,
                category_id,
                bbox: found.rectangle,
                area: width * height,
                iscrowd: 0,
                score: found.confidence,
            });
        }
        let Frame { file, pts_ns, width, height, .. } = frame;
        coco.images.push(CocoImage { id: image_id, file_name: file, pts_ns, width, height });
        Ok(())
    })?;
    coco.categories = names.into_iter().map(|(id, name)| CocoCategory { id, name }).collect();
    serde_json::to_writer(&mut *out, &coco)?;
    Ok(out.flush()?)
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
}

impl Part {
    fn create(place: PathBuf) -> Result<Self, Error> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
        let new = with_suffix(&place, ".part");
        let writer = SerializedFileWriter::new(File::create(&new)?, schema, Arc::new(properties))?;
        Ok(Self { writer, new, place, rows: Rows::default(), written: 0 })
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

    fn close(mut self, summaries: Option<&[String]>) -> Result<(), Error> {
        if !self.rows.file.is_empty() {
            self.write_group()?;
        }
        if let Some(summaries) = summaries {
            let text = format!("[{}]", summaries.join(","));
            self.writer.append_key_value_metadata(KeyValue::new("vx.files".to_owned(), text));
        }
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

/// One file; or, of many rows, a folder of files. The summaries are in the metadata `vx.files` of the last.
fn write_parquet(journal: &Path, path: &Path) -> Result<(), Error> {
    let folder = with_suffix(path, ".parts");
    remove(&folder)?;
    std::fs::create_dir(&folder)?;
    let place = |number: usize| folder.join(format!("part-{number:05}.parquet"));
    let mut part = Part::create(place(0))?;
    let mut count = 1;
    let summaries = each_frame(journal, |frame| {
        if part.written >= PART_ROWS {
            let next = Part::create(place(count))?;
            count += 1;
            std::mem::replace(&mut part, next).close(None)?;
        }
        part.push(frame)
    })?;
    part.close(Some(&summaries))?;
    remove(path)?;
    if count > 1 {
        return Ok(std::fs::rename(&folder, path)?);
    }
    std::fs::rename(place(0), path)?;
    Ok(std::fs::remove_dir(&folder)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;

    const LINES: &str = r#"{"schema":1,"file":"a, \"b\".mp4","pts_ns":null,"width":64,"height":48,"detections":[{"label":"dog","class_id":16,"confidence":0.5,"box":[1.0,2.0,3.0,4.5]},{"label":"cat","class_id":null,"confidence":null,"box":[0.0,0.0,1.0,1.0]}]}
{"schema":1,"file":"a, \"b\".mp4","pts_ns":40,"width":64,"height":48,"detections":[]}
{"schema":1,"file":"a, \"b\".mp4","status":"ok","keyframes":2,"detections":2,"bytes":9,"bytes_read":9,"seconds":{"total":1.0,"open":0.0,"lock_wait":0.0,"lock_hold":0.0,"read":0.0,"decode":0.0,"queued":0.0,"prepare":0.0,"infer":0.0},"error":null}
"#;

    #[test]
    fn every_table_has_what_the_lines_have() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("lines");
        std::fs::write(&journal, LINES).unwrap();
        let made = |name: &str| {
            let path = folder.path().join(name);
            Table::for_path(&path).unwrap().unwrap().write(&journal, &path).unwrap();
            path
        };
        let csv = std::fs::read_to_string(made("t.csv")).unwrap();
        let rows: Vec<&str> = csv.lines().collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[1], r#""a, ""b"".mp4",,64,48,dog,16,0.5,1.0,2.0,3.0,4.5"#);

        let coco: serde_json::Value = serde_json::from_slice(&std::fs::read(made("t.json")).unwrap()).unwrap();
        assert_eq!(coco["images"].as_array().unwrap().len(), 2);
        assert_eq!(coco["annotations"][0]["bbox"], serde_json::json!([1.0, 2.0, 3.0, 4.5]));
        assert_eq!(coco["annotations"][0]["image_id"], coco["images"][0]["id"]);
        assert_eq!(coco["categories"].as_array().unwrap().len(), 2);

        let reader = SerializedFileReader::new(File::open(made("t.parquet")).unwrap()).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[0].get_string(0).unwrap().as_str(), rows[0].get_string(4).unwrap().as_str()),
            ("a, \"b\".mp4", "dog")
        );
        assert_eq!((rows[0].get_int(5).unwrap(), rows[0].get_float(10).unwrap()), (16, 4.5));
        assert!(rows[1].get_int(5).is_err());
        let metadata = reader.metadata();
        let dictionary = metadata.row_group(0).column(4).dictionary_page_offset();
        assert!(dictionary.is_some());
        let files = metadata.file_metadata().key_value_metadata().unwrap().iter().find(|pair| pair.key == "vx.files");
        assert!(files.unwrap().value.as_ref().unwrap().contains("\"status\":\"ok\""));
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 4, "{left:?}");
    }
}
