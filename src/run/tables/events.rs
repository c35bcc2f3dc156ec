// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables of events: JSON lines, CSV and Parquet with the same columns, which are listed here and nowhere else.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::super::error::Error;
use super::super::events::Stretch;
use super::super::journal::unwritten;
use super::super::output::write;
use super::super::part_file::PartFile;
use super::super::settings::Output;
use super::TableError;
use super::parquet::parquet_writer;

/// Rows of a row group in Parquet.
const GROUP_ROWS: usize = 100_000;

/// The value of a column.
enum Column {
    Text(fn(&Stretch) -> &str),
    Integer(fn(&Stretch) -> Option<i64>),
    Decimal(fn(&Stretch) -> Option<f64>),
}

/// Name and value of each column.
const COLUMNS: [(&str, Column); 12] = [
    ("file", Column::Text(|event| &event.file)),
    ("label", Column::Text(|event| &event.label)),
    ("class_id", Column::Integer(|event| event.class_id.map(i64::from))),
    ("start_ns", Column::Integer(|event| event.start_ns)),
    ("end_ns", Column::Integer(|event| event.end_ns)),
    ("start_seconds", Column::Decimal(|event| seconds(event.start_ns))),
    ("end_seconds", Column::Decimal(|event| seconds(event.end_ns))),
    ("frames", Column::Integer(|event| i64::try_from(event.frames).ok())),
    ("most_at_once", Column::Integer(|event| i64::try_from(event.most_at_once).ok())),
    ("best_confidence", Column::Decimal(|event| event.best.confidence)),
    ("best_ns", Column::Integer(|event| event.best.pts_ns)),
    ("best_seconds", Column::Decimal(|event| seconds(event.best.pts_ns))),
];

fn seconds(time_ns: Option<i64>) -> Option<f64> {
    time_ns.map(|time_ns| time_ns as f64 / 1e9)
}

/// An event as a JSON object.
struct Object<'a>(&'a Stretch);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(COLUMNS.len()))?;
        for (name, column) in &COLUMNS {
            match column {
                Column::Text(value) => object.serialize_entry(name, value(self.0))?,
                Column::Integer(value) => object.serialize_entry(name, &value(self.0))?,
                Column::Decimal(value) => object.serialize_entry(name, &value(self.0))?,
            }
        }
        object.end()
    }
}

/// An event as a row of CSV; values that are missing are empty.
fn cells(event: &Stretch) -> impl Iterator<Item = String> {
    COLUMNS.iter().map(|(_, column)| match column {
        Column::Text(value) => value(event).to_owned(),
        Column::Integer(value) => value(event).map(|value| value.to_string()).unwrap_or_default(),
        // With a decimal point, as the other tables have it.
        Column::Decimal(value) => value(event).map(|value| format!("{value:?}")).unwrap_or_default(),
    })
}

/// A table of events that is being written.
pub(in crate::run) enum EventTable {
    /// JSON lines for a writer.
    Writer(Box<dyn Write + Send>),
    /// No output.
    None,
    /// A file that appears when it is complete.
    File { path: PathBuf, rows: Box<Rows> },
}

/// The rows of a file, in its format.
pub(in crate::run) enum Rows {
    Lines(BufWriter<PartFile>),
    Csv(csv::Writer<PartFile>),
    Parquet { writer: ArrowWriter<PartFile>, schema: SchemaRef, waiting: Vec<Stretch> },
}

/// Creates the file of a format.
type Create = fn(PartFile) -> Result<Rows, TableError>;

/// The formats by extension.
const FORMATS: [(&str, Create); 4] = [
    ("jsonl", |file| Ok(Rows::Lines(BufWriter::new(file)))),
    ("ndjson", |file| Ok(Rows::Lines(BufWriter::new(file)))),
    ("csv", |file| {
        let mut csv = csv::Writer::from_writer(file);
        csv.write_record(COLUMNS.map(|(name, _)| name))?;
        Ok(Rows::Csv(csv))
    }),
    ("parquet", |file| {
        let field = |(name, column): &(&str, Column)| match column {
            Column::Text(_) => Field::new(*name, DataType::Utf8, false),
            Column::Integer(_) => Field::new(*name, DataType::Int64, true),
            Column::Decimal(_) => Field::new(*name, DataType::Float64, true),
        };
        let schema: SchemaRef = Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()));
        Ok(Rows::Parquet { writer: parquet_writer(file, "event", Arc::clone(&schema))?, schema, waiting: Vec::new() })
    }),
];

impl EventTable {
    /// Opens the table.
    ///
    /// # Errors
    /// The output exists and is not to be replaced, has an unknown extension, or cannot be written.
    pub fn open(output: Output, overwrite: bool) -> Result<Self, Error> {
        let path = match output {
            Output::None => return Ok(Self::None),
            Output::Writer(writer) => return Ok(Self::Writer(writer)),
            Output::File(path) => path,
        };
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let Some((_, create)) = FORMATS.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension)) else {
            return Err(Error::setting(format!(
                "{}: the extension selects the format: use .jsonl, .csv or .parquet",
                path.display()
            )));
        };
        if path.exists() && !overwrite {
            return Err(Error::setting(format!(
                "{} exists already: select another output, or replace it with `overwrite`",
                path.display()
            )));
        }
        let rows = PartFile::create(&path).map_err(TableError::from).and_then(create);
        match rows {
            Ok(rows) => Ok(Self::File { path, rows: Box::new(rows) }),
            Err(error) => Err(unwritten(&path, &error)),
        }
    }

    /// Adds events.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn add(&mut self, events: &[Stretch]) -> Result<(), Error> {
        match self {
            Self::None => Ok(()),
            Self::Writer(writer) => {
                let mut lines = Vec::new();
                write_lines(&mut lines, events).map_err(|error| Error::Writer(error.to_string()))?;
                if lines.is_empty() { Ok(()) } else { write(writer, &lines) }
            }
            Self::File { path, rows } => rows.add(events).map_err(|error| unwritten(path, &error)),
        }
    }

    /// Completes the table and moves it to its place.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> Result<(), Error> {
        let Self::File { path, rows } = self else { return Ok(()) };
        let committed = rows.finish().and_then(|file| Ok(file.commit()?));
        committed.map(|_| ()).map_err(|error| unwritten(&path, &error))
    }
}

impl Rows {
    fn add(&mut self, events: &[Stretch]) -> Result<(), TableError> {
        match self {
            Self::Lines(out) => write_lines(out, events),
            Self::Csv(csv) => Ok(events.iter().try_for_each(|event| csv.write_record(cells(event)))?),
            Self::Parquet { writer, schema, waiting } => {
                waiting.extend_from_slice(events);
                if waiting.len() < GROUP_ROWS { Ok(()) } else { write_group(writer, schema, &std::mem::take(waiting)) }
            }
        }
    }

    fn finish(self) -> Result<PartFile, TableError> {
        match self {
            Self::Lines(out) => Ok(out.into_inner().map_err(|error| error.into_error())?),
            Self::Csv(csv) => Ok(csv.into_inner().map_err(|error| error.into_error())?),
            Self::Parquet { mut writer, schema, waiting } => {
                if !waiting.is_empty() {
                    write_group(&mut writer, &schema, &waiting)?;
                }
                Ok(writer.into_inner()?)
            }
        }
    }
}

fn write_lines(out: &mut impl Write, events: &[Stretch]) -> Result<(), TableError> {
    for event in events {
        serde_json::to_writer(&mut *out, &Object(event))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn write_group(writer: &mut ArrowWriter<PartFile>, schema: &SchemaRef, events: &[Stretch]) -> Result<(), TableError> {
    let values = |(_, column): &(&str, Column)| -> ArrayRef {
        match column {
            Column::Text(value) => Arc::new(StringArray::from_iter_values(events.iter().map(value))),
            Column::Integer(value) => Arc::new(events.iter().map(value).collect::<Int64Array>()),
            Column::Decimal(value) => Arc::new(events.iter().map(value).collect::<Float64Array>()),
        }
    };
    writer.write(&RecordBatch::try_new(Arc::clone(schema), COLUMNS.iter().map(values).collect())?)?;
    Ok(writer.flush()?)
}
