// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detections as Arrow record batches, a row for each detection: the columns of the Parquet tables and of bindings.
//!
//! Knows the schema of the records and nothing of a run. Any thread.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{BooleanBuilder, Float32Builder, Float64Builder, Int32Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, Float32Array, Int32Array, ListArray, RecordBatch, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
pub use arrow_schema::ArrowError;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use crate::record::{Frame, Mask};

/// Rows after which a batch is complete.
const BATCH_ROWS: usize = 65_536;
/// Runs of masks after which a batch is complete, however few rows it has.
const BATCH_RUNS: usize = 4_000_000;

fn required(name: &str, kind: DataType) -> Field {
    Field::new(name, kind, false)
}

fn floats(names: &[&str]) -> Fields {
    names.iter().map(|name| required(name, DataType::Float32)).collect()
}

static ROTATED_BOX: LazyLock<Fields> =
    LazyLock::new(|| floats(&["center_x", "center_y", "width", "height", "rotation"]));
static KEYPOINT: LazyLock<Fields> = LazyLock::new(|| floats(&["x", "y", "confidence"]));
static MASK: LazyLock<Fields> = LazyLock::new(|| {
    let counts = DataType::List(Arc::new(required("element", DataType::Int32)));
    vec![required("rows", DataType::Int32), required("columns", DataType::Int32), required("counts", counts)].into()
});

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let keypoint = required("element", DataType::Struct(KEYPOINT.clone()));
    Arc::new(Schema::new(vec![
        required("file", DataType::Utf8),
        Field::new("pts_ns", DataType::Int64, true),
        Field::new("seconds", DataType::Float64, true),
        required("keyframe", DataType::Boolean),
        required("width", DataType::Int32),
        required("height", DataType::Int32),
        required("label", DataType::Utf8),
        Field::new("class_id", DataType::Int32, true),
        Field::new("confidence", DataType::Float32, true),
        required("x", DataType::Float32),
        required("y", DataType::Float32),
        required("box_width", DataType::Float32),
        required("box_height", DataType::Float32),
        Field::new("rotated_box", DataType::Struct(ROTATED_BOX.clone()), true),
        Field::new("keypoints", DataType::List(Arc::new(keypoint)), true),
        Field::new("mask", DataType::Struct(MASK.clone()), true),
    ]))
});

/// Returns the schema of the batches.
#[must_use]
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// Rows of a batch, by column.
#[derive(Debug, Default)]
pub struct Rows {
    file: StringBuilder,
    pts_ns: Int64Builder,
    seconds: Float64Builder,
    keyframe: BooleanBuilder,
    sizes: [Int32Builder; 2],
    label: StringBuilder,
    class_id: Int32Builder,
    confidence: Float32Builder,
    rectangle: [Float32Builder; 4],
    rotated_box: Vec<Option<[f32; 5]>>,
    keypoints: Vec<Option<Vec<[f32; 3]>>>,
    mask: Vec<Option<Mask>>,
    /// Runs of all masks.
    run_count: usize,
}

impl Rows {
    /// Adds the detections of a frame.
    pub fn push(&mut self, frame: Frame) {
        let seconds = frame.seconds();
        let file = frame.file.unwrap_or_default();
        for found in frame.detections {
            self.file.append_value(&file);
            self.pts_ns.append_option(frame.pts_ns);
            self.seconds.append_option(seconds);
            self.keyframe.append_value(frame.is_keyframe);
            self.sizes[0].append_value(frame.width as i32);
            self.sizes[1].append_value(frame.height as i32);
            self.label.append_value(&found.label);
            self.class_id.append_option(found.class_id);
            self.confidence.append_option(found.confidence.map(|confidence| confidence as f32));
            for (column, value) in self.rectangle.iter_mut().zip(found.rectangle) {
                column.append_value(value as f32);
            }
            self.rotated_box.push(found.rotated_box.map(|values| values.map(|value| value as f32)));
            let points = found.keypoints.iter().map(|point| point.map(|value| value as f32));
            self.keypoints.push((!found.keypoints.is_empty()).then(|| points.collect()));
            self.run_count += found.mask.as_ref().map_or(0, |mask| mask.counts.len());
            self.mask.push(found.mask);
        }
    }

    /// Returns whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mask.is_empty()
    }

    /// Returns whether a batch is complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.mask.len() >= BATCH_ROWS || self.run_count >= BATCH_RUNS
    }

    /// Takes the rows as a batch.
    ///
    /// # Errors
    /// A batch of more than 2³¹ values in one column.
    pub fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut rows = std::mem::take(self);
        let [width, height] = rows.sizes.each_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(rows.file.finish()),
            Arc::new(rows.pts_ns.finish()),
            Arc::new(rows.seconds.finish()),
            Arc::new(rows.keyframe.finish()),
            width,
            height,
            Arc::new(rows.label.finish()),
            Arc::new(rows.class_id.finish()),
            Arc::new(rows.confidence.finish()),
        ];
        columns.extend(rows.rectangle.each_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.push(Arc::new(rotated_boxes(&rows.rotated_box)?));
        columns.push(Arc::new(keypoints(&rows.keypoints)?));
        columns.push(Arc::new(masks(&rows.mask)?));
        RecordBatch::try_new(schema(), columns)
    }
}

/// Returns the columns of `values` as arrays.
fn columns<const N: usize>(values: impl Iterator<Item = [f32; N]> + Clone) -> Vec<ArrayRef> {
    (0..N)
        .map(|column| Arc::new(Float32Array::from_iter_values(values.clone().map(|value| value[column]))) as _)
        .collect()
}

fn rotated_boxes(boxes: &[Option<[f32; 5]>]) -> Result<StructArray, ArrowError> {
    let arrays = columns(boxes.iter().map(|values| values.unwrap_or_default()));
    StructArray::try_new(ROTATED_BOX.clone(), arrays, Some(presence(boxes)))
}

fn keypoints(lists: &[Option<Vec<[f32; 3]>>]) -> Result<ListArray, ArrowError> {
    let arrays = columns(lists.iter().flatten().flatten().copied());
    let points = StructArray::try_new(KEYPOINT.clone(), arrays, None)?;
    let field = Arc::new(required("element", DataType::Struct(KEYPOINT.clone())));
    let offsets = offsets(lists.iter().map(|list| list.as_ref().map_or(0, Vec::len)))?;
    ListArray::try_new(field, offsets, Arc::new(points), Some(presence(lists)))
}

fn masks(masks: &[Option<Mask>]) -> Result<StructArray, ArrowError> {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let side = |side: usize| {
        let sides = masks.iter().map(|mask| mask.as_ref().map_or(0, |mask| number(mask.size[side])));
        Arc::new(Int32Array::from_iter_values(sides)) as ArrayRef
    };
    let runs = masks.iter().flatten().flat_map(|mask| mask.counts.iter().map(|count| number(*count)));
    let field = Arc::new(required("element", DataType::Int32));
    let offsets = offsets(masks.iter().map(|mask| mask.as_ref().map_or(0, |mask| mask.counts.len())))?;
    let counts = ListArray::try_new(field, offsets, Arc::new(Int32Array::from_iter_values(runs)), None)?;
    StructArray::try_new(MASK.clone(), vec![side(0), side(1), Arc::new(counts)], Some(presence(masks)))
}

fn presence<T>(values: &[Option<T>]) -> NullBuffer {
    values.iter().map(Option::is_some).collect::<Vec<bool>>().into()
}

fn offsets(lengths: impl Iterator<Item = usize>) -> Result<OffsetBuffer<i32>, ArrowError> {
    let mut end = 0_usize;
    let mut ends = vec![0_i32];
    for length in lengths {
        end += length;
        ends.push(i32::try_from(end).map_err(|_| ArrowError::OffsetOverflowError(end))?);
    }
    Ok(OffsetBuffer::new(ends.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use arrow_array::Array;

    use super::*;

    #[test]
    fn a_row_for_each_detection_with_nested_values() {
        let file = super::super::tables::tests::file();
        let mut rows = Rows::default();
        file.frames().for_each(|frame| rows.push(frame.unwrap().1));
        let batch = rows.take().unwrap();
        assert!(rows.is_empty() && batch.num_rows() == 3);
        let nulls = |name: &str| batch.column_by_name(name).unwrap().null_count();
        assert_eq!((nulls("pts_ns"), nulls("rotated_box"), nulls("keypoints"), nulls("mask")), (1, 2, 2, 2));
        let mask = batch.column_by_name("mask").unwrap().as_any().downcast_ref::<StructArray>().unwrap();
        let counts = mask.column_by_name("counts").unwrap().as_any().downcast_ref::<ListArray>().unwrap();
        assert_eq!(counts.value(1).as_any().downcast_ref::<Int32Array>().unwrap().values(), &[1, 2, 2, 3]);
    }
}
