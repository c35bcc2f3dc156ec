//! From lines to tables: CSV, COCO's JSON, Parquet.
//!
//! Each is written beside its place and renamed when it is complete.

mod parquet;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::parquet::Parts;
use crate::files::with_suffix;
use crate::unit::summary_in;

type Error = Box<dyn std::error::Error>;

/// A form of output that is not lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Made at the end.
    Whole(Whole),
    /// Parquet, made as results come.
    Parts,
}

/// A form that is made of all lines at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// A row for each detection.
    Csv,
    /// COCO's annotation format, each frame an image.
    Coco,
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

impl Table {
    /// The form that the extension of `path` asks for; `None` for lines.
    pub fn for_path(path: &Path) -> Result<Option<Self>, String> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Ok(None),
            "csv" => Ok(Some(Self::Whole(Whole::Csv))),
            "json" => Ok(Some(Self::Whole(Whole::Coco))),
            "parquet" => Ok(Some(Self::Parts)),
            _ => Err(format!(
                "{}: the form is told by the extension: .jsonl (lines), .csv, .parquet, .json (COCO)",
                path.display()
            )),
        }
    }
}

impl Whole {
    /// Makes `path` of the lines in `journal`.
    pub fn write(self, journal: &Path, path: &Path) -> Result<(), Error> {
        replace(path, |file| match self {
            Self::Csv => write_csv(journal, file),
            Self::Coco => write_coco(journal, file),
        })
    }
}

/// Writes a file beside `path` and gives it that name when it is on the disk.
pub fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>) -> Result<(), Error> {
    let new = with_suffix(path, ".part");
    let mut file = BufWriter::new(File::create(&new)?);
    write(&mut file)?;
    file.into_inner()?.sync_all()?;
    remove(path)?;
    Ok(std::fs::rename(new, path)?)
}

/// Takes away what an earlier run left in this place: a file, or a folder of nothing but parts.
fn remove(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        if !is_of_parts(path) {
            return Err(format!("{} is a folder with other things than parts in it", path.display()).into());
        }
        return Ok(std::fs::remove_dir_all(path)?);
    }
    if path.exists() { Ok(std::fs::remove_file(path)?) } else { Ok(()) }
}

/// Whether there is nothing in a folder but parts of a table.
pub fn is_of_parts(folder: &Path) -> bool {
    let is_part =
        |name: &str| name.starts_with("part-") && (name.ends_with(".parquet") || name.ends_with(".parquet.part"));
    std::fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().all(|entry| is_part(&entry.file_name().to_string_lossy())))
}

/// The frame that a line is; `None` for the header that a file's lines may begin with.
fn frame_in(line: &[u8]) -> serde_json::Result<Option<Frame>> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "header")]
        _header: serde::de::IgnoredAny,
    }
    match serde_json::from_slice(line) {
        Ok(frame) => Ok(Some(frame)),
        Err(error) => serde_json::from_slice::<Header>(line).map(|_| None).map_err(|_| error),
    }
}

/// Calls `take` with each frame.
fn each_frame(journal: &Path, mut take: impl FnMut(Frame) -> Result<(), Error>) -> Result<(), Error> {
    for (number, line) in (1..).zip(BufReader::new(File::open(journal)?).lines()) {
        let line = line?;
        if summary_in(line.as_bytes()).is_none() {
            let damaged = |error| format!("line {number} of {} is damaged: {error}", journal.display());
            frame_in(line.as_bytes()).map_err(damaged)?.map_or(Ok(()), &mut take)?;
        }
    }
    Ok(())
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

/// An image of COCO's annotation file; of its fields `pts_ns` is not COCO's.
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

/// Goes through the lines twice, so that nothing grows with them.
fn write_coco(journal: &Path, out: &mut impl Write) -> Result<(), Error> {
    let mut images = Elements::begin(out, "{\"images\":[")?;
    each_frame(journal, |Frame { file, pts_ns, width, height, .. }| {
        images.add(|id| CocoImage { id, file_name: file, pts_ns, width, height })
    })?;
    let mut image_id = 0;
    let mut names = BTreeMap::new();
    // Detectors that number no classes get numbers by name.
    let mut numbers = HashMap::new();
    let mut annotations = Elements::begin(out, "],\n\"annotations\":[")?;
    each_frame(journal, |frame| {
        image_id += 1;
        for found in frame.detections {
            let next = numbers.len() as i32;
            let category_id = found.class_id.unwrap_or_else(|| *numbers.entry(found.label.clone()).or_insert(next));
            names.entry(category_id).or_insert(found.label);
            let [_, _, width, height] = found.rectangle;
            annotations.add(|id| CocoAnnotation {
                id,
                image_id,
                category_id,
                bbox: found.rectangle,
                area: width * height,
                iscrowd: 0,
                score: found.confidence,
            })?;
        }
        Ok(())
    })?;
    let mut categories = Elements::begin(out, "],\n\"categories\":[")?;
    names.into_iter().try_for_each(|(id, name)| categories.add(|_| CocoCategory { id, name }))?;
    out.write_all(b"]}\n")?;
    Ok(out.flush()?)
}

/// The elements of a JSON array, one after the other.
struct Elements<'a, W> {
    out: &'a mut W,
    count: usize,
}

impl<'a, W: Write> Elements<'a, W> {
    fn begin(out: &'a mut W, before: &str) -> Result<Self, Error> {
        out.write_all(before.as_bytes())?;
        Ok(Self { out, count: 0 })
    }

    /// Adds what `element` makes of its number, from 1 on.
    fn add<T: Serialize>(&mut self, element: impl FnOnce(usize) -> T) -> Result<(), Error> {
        self.out.write_all(if self.count == 0 { b"\n" } else { b",\n" })?;
        self.count += 1;
        Ok(serde_json::to_writer(&mut *self.out, &element(self.count))?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::RowAccessor;

    use super::*;

    const LINES: &str = r#"{"schema":2,"header":{"file":null,"detector":null}}
{"schema":2,"file":"a, \"b\".mp4","pts_ns":null,"width":64,"height":48,"detections":[{"label":"dog","class_id":16,"confidence":0.5,"box":[1.0,2.0,3.0,4.5]},{"label":"cat","class_id":null,"confidence":null,"box":[0.0,0.0,1.0,1.0]}]}
{"schema":2,"file":"a, \"b\".mp4","pts_ns":40,"width":64,"height":48,"detections":[]}
{"schema":2,"file":"a, \"b\".mp4","status":"ok","complete":true,"keyframes":2,"indexed_keyframes":2,"frames_between":0,"damaged_frames":0,"detection_count":2,"duration_seconds":1.0,"covered_seconds":0.04,"bytes":9,"bytes_read":9,"seconds":{"total":1.0,"open":0.0,"lock_wait":0.0,"lock_hold":0.0,"read":0.0,"decode":0.0,"queued":0.0,"prepare":0.0,"infer":0.0},"error":null}
"#;

    #[test]
    fn every_table_has_what_the_lines_have() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("lines");
        std::fs::write(&journal, LINES).unwrap();
        let made = |name: &str| {
            let path = folder.path().join(name);
            match Table::for_path(&path).unwrap().unwrap() {
                Table::Whole(whole) => whole.write(&journal, &path).unwrap(),
                Table::Parts => {
                    let mut parts = Parts::create(&path).unwrap();
                    parts.add(LINES.as_bytes()).unwrap();
                    parts.finish().unwrap();
                }
            }
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

    #[test]
    fn many_rows_are_parts_that_appear_when_they_are_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        // What an earlier run left.
        std::fs::create_dir(folder.path().join("t.parquet.parts")).unwrap();
        std::fs::write(folder.path().join("t.parquet.parts/part-00007.parquet"), "cut").unwrap();
        let mut parts = Parts::with_rows(&path, 3).unwrap();
        let there = |folder: &Path| {
            let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        (0..4).for_each(|_| parts.add(LINES.as_bytes()).unwrap());
        // Two rows in each: after the second and the fourth there are enough.
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
            assert_eq!((metadata.num_rows(), files.as_ref().unwrap().matches("\"status\"").count()), (4, 2));
        }
    }
}
