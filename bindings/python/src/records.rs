// SPDX-License-Identifier: MIT OR Apache-2.0
//! The records of a run as Python objects: immutable, comparable, and pickled as their line of JSON.

use gstvx::record;
use gstvx::run::FileDone;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

/// Returns JSON text without a line feed.
fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}

fn json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| PyValueError::new_err(error.to_string()))
}

fn parsed<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (text,))
}

/// A function, and its arguments that make a record again.
type Pickled<'py, Arguments> = (Bound<'py, PyAny>, Arguments);

/// Returns the function that makes a record of its class and its JSON, for pickles.
fn loader(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("vx._records")?.getattr("load")
}

/// One frame, with what was detected on it.
#[pyclass(frozen, eq, module = "vx")]
pub struct Frame {
    record: record::Frame,
    detections: PyOnceLock<Py<PyTuple>>,
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.record == other.record
    }
}

impl From<record::Frame> for Frame {
    fn from(record: record::Frame) -> Self {
        Self { record, detections: PyOnceLock::new() }
    }
}

#[pymethods]
impl Frame {
    /// Path of the file, or a file:// URI where the path is not UTF-8.
    #[getter]
    fn file(&self) -> &str {
        self.record.file.as_deref().unwrap_or_default()
    }

    /// Presentation time of the container in nanoseconds; None where the container has none.
    #[getter]
    fn pts_ns(&self) -> Option<i64> {
        self.record.pts_ns
    }

    /// The same in seconds.
    #[getter]
    fn seconds(&self) -> Option<f64> {
        self.record.seconds()
    }

    /// Width in pixels.
    #[getter]
    fn width(&self) -> u32 {
        self.record.width
    }

    /// Height in pixels.
    #[getter]
    fn height(&self) -> u32 {
        self.record.height
    }

    /// False for a frame between keyframes.
    #[getter]
    fn is_keyframe(&self) -> bool {
        self.record.is_keyframe
    }

    /// False for a frame that the detector did not analyse.
    #[getter]
    fn is_analysed(&self) -> bool {
        self.record.is_analysed
    }

    /// Detections, by falling confidence.
    #[getter]
    fn detections<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let made = self.detections.get_or_try_init(py, || {
            let each = self.record.detections.iter().map(|record| Detection { record: record.clone() });
            PyTuple::new(py, each.collect::<Vec<_>>()).map(Bound::unbind)
        })?;
        Ok(made.bind(py).clone())
    }

    /// Returns the line of `vx detect`, without its line feed.
    fn to_json(&self) -> String {
        text(&self.record.to_line())
    }

    /// Returns the fields of that line as a dictionary.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        parsed(py, &self.to_json())
    }

    /// Reads a frame's line of `vx detect`.
    #[staticmethod]
    fn from_json(line: &str) -> PyResult<Self> {
        record::Frame::from_line(line.as_bytes()).map(Self::from).map_err(PyValueError::new_err)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Pickled<'py, (&'static str, String)>> {
        Ok((loader(py)?, ("Frame", self.to_json())))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let pts_ns = self.record.pts_ns.map_or_else(|| "None".to_owned(), |pts_ns| pts_ns.to_string());
        let (file, count) = (repr(py, self.file())?, self.record.detections.len());
        Ok(format!("Frame(file={file}, pts_ns={pts_ns}, detections={count})"))
    }
}

/// Returns text as Python shows it.
fn repr(py: Python<'_>, text: &str) -> PyResult<String> {
    Ok(text.into_pyobject(py)?.repr()?.to_str()?.to_owned())
}

/// One detected object.
#[pyclass(frozen, eq, module = "vx")]
#[derive(PartialEq)]
pub struct Detection {
    record: record::Detection,
}

impl From<record::Detection> for Detection {
    fn from(record: record::Detection) -> Self {
        Self { record }
    }
}

#[pymethods]
impl Detection {
    /// Name of the class.
    #[getter]
    fn label(&self) -> &str {
        &self.record.label
    }

    /// Number of the class in the model.
    #[getter]
    fn class_id(&self) -> Option<i32> {
        self.record.class_id
    }

    /// Confidence, 0 to 1.
    #[getter]
    fn confidence(&self) -> Option<f64> {
        self.record.confidence
    }

    /// Left, top, width and height in pixels of the frame.
    #[getter]
    fn get_box(&self) -> (f64, f64, f64, f64) {
        let [x, y, width, height] = self.record.rectangle;
        (x, y, width, height)
    }

    /// x, y in pixels and confidence of each keypoint; empty for models without them.
    #[getter]
    fn keypoints(&self) -> Vec<(f64, f64, f64)> {
        self.record.keypoints.iter().map(|[x, y, confidence]| (*x, *y, *confidence)).collect()
    }

    /// Centre x and y, width, height in pixels, and rotation in radians clockwise; None for upright boxes.
    #[getter]
    fn rotated_box(&self) -> Option<(f64, f64, f64, f64, f64)> {
        self.record.rotated_box.map(|[x, y, width, height, rotation]| (x, y, width, height, rotation))
    }

    /// The part of the box that the object covers; None for models without masks.
    #[getter]
    fn mask(&self) -> Option<Mask> {
        self.record.mask.clone().map(|record| Mask { record })
    }

    /// Returns it as in the line of `vx detect`.
    fn to_json(&self) -> PyResult<String> {
        json(&self.record)
    }

    /// Returns the fields as a dictionary.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        parsed(py, &self.to_json()?)
    }

    /// Reads a detection from JSON.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        let record = serde_json::from_str(text).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { record })
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Pickled<'py, (&'static str, String)>> {
        Ok((loader(py)?, ("Detection", self.to_json()?)))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let confidence = self.record.confidence.map_or_else(|| "None".to_owned(), |value| value.to_string());
        let [x, y, width, height] = self.record.rectangle;
        let label = repr(py, &self.record.label)?;
        Ok(format!("Detection(label={label}, confidence={confidence}, box=({x}, {y}, {width}, {height}))"))
    }
}

/// A grid over a box, row by row.
#[pyclass(frozen, eq, module = "vx")]
#[derive(PartialEq)]
pub struct Mask {
    record: record::Mask,
}

#[pymethods]
impl Mask {
    /// Rows and columns of the grid.
    #[getter]
    fn size(&self) -> (usize, usize) {
        (self.record.size[0], self.record.size[1])
    }

    /// Lengths of runs, the first of background, then in turn object and background.
    #[getter]
    fn counts(&self) -> Vec<usize> {
        self.record.counts.clone()
    }

    fn __repr__(&self) -> String {
        format!("Mask(size=({}, {}))", self.record.size[0], self.record.size[1])
    }
}

/// The result of a file.
#[pyclass(frozen, eq, module = "vx")]
#[derive(PartialEq)]
pub struct FileSummary {
    pub done: FileDone,
}

#[pymethods]
impl FileSummary {
    /// Path of the file, or a file:// URI where the path is not UTF-8.
    #[getter]
    fn file(&self) -> &str {
        &self.done.summary.file
    }

    /// "ok", "damaged" or "failed".
    #[getter]
    fn status(&self) -> &'static str {
        self.done.summary.status.name()
    }

    /// Whether the file was read to its end and nothing of it is known to be missing or damaged.
    #[getter]
    fn complete(&self) -> bool {
        self.done.summary.complete
    }

    /// Keyframes with a record.
    #[getter]
    fn keyframes(&self) -> u64 {
        self.done.summary.keyframes
    }

    /// Keyframes in the container's index; None if it has none.
    #[getter]
    fn indexed_keyframes(&self) -> Option<u64> {
        self.done.summary.indexed_keyframes
    }

    /// Frames between keyframes with a record.
    #[getter]
    fn frames_between(&self) -> u64 {
        self.done.summary.frames_between
    }

    /// Frames that could not be decoded, or not completely.
    #[getter]
    fn damaged_frames(&self) -> u64 {
        self.done.summary.damaged_frames
    }

    /// Detections on all frames.
    #[getter]
    fn detection_count(&self) -> u64 {
        self.done.summary.detection_count
    }

    /// Duration according to the container.
    #[getter]
    fn duration_seconds(&self) -> Option<f64> {
        self.done.summary.duration_seconds
    }

    /// Time from the first to the last frame with a record.
    #[getter]
    fn covered_seconds(&self) -> Option<f64> {
        self.done.summary.covered_seconds
    }

    /// Length of the file; None where it cannot be accessed.
    #[getter]
    fn bytes(&self) -> Option<u64> {
        self.done.summary.bytes
    }

    /// Bytes read.
    #[getter]
    fn bytes_read(&self) -> u64 {
        self.done.summary.bytes_read
    }

    /// Seconds by stage. Stages run in parallel, so these do not add up to the total.
    #[getter]
    fn seconds<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        parsed(py, &json(&self.done.summary.seconds)?)
    }

    /// Warnings, up to eight texts.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.done.summary.warnings.clone()
    }

    /// Why frames may be missing or incomplete although the file was read to its end.
    #[getter]
    fn problems(&self) -> Vec<String> {
        self.done.summary.problems.clone()
    }

    /// Why the first choice of execution provider was not used; None if it was.
    #[getter]
    fn fallback(&self) -> Option<String> {
        self.done.summary.fallback.clone()
    }

    /// Why the file failed; None if it did not.
    #[getter]
    fn error(&self) -> Option<String> {
        self.done.summary.error.as_ref().map(|error| error.message.clone())
    }

    /// Whether the result was in the cache.
    #[getter]
    fn is_cached(&self) -> bool {
        self.done.is_cached
    }

    /// Returns the line of `vx detect`, without its line feed.
    fn to_json(&self) -> String {
        text(&self.done.summary.to_line())
    }

    /// Returns the fields of that line as a dictionary.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        parsed(py, &self.to_json())
    }

    /// Reads a file's summary from a line of `vx detect`.
    #[staticmethod]
    #[pyo3(signature = (line, is_cached=false))]
    fn from_json(line: &str, is_cached: bool) -> PyResult<Self> {
        let summary = record::Summary::from_line(line.as_bytes());
        let summary = summary.ok_or_else(|| PyValueError::new_err("the line is not the summary of a file"))?;
        Ok(Self { done: FileDone { summary, is_cached } })
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Pickled<'py, (&'static str, String, bool)>> {
        Ok((loader(py)?, ("FileSummary", self.to_json(), self.done.is_cached)))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (file, status) = (repr(py, self.file())?, self.status());
        Ok(format!("FileSummary(file={file}, status='{status}', keyframes={})", self.done.summary.keyframes))
    }
}
