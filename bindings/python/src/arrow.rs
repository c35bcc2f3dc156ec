// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detections of a run as an Arrow stream, through the PyCapsule interface.
//!
//! The consumer reads the stream on a thread of its own choice, with or without the interpreter lock; so only Python's main thread, which
//! handles signals and warnings, takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, SchemaRef};
use gstvx::run::arrow::{Rows, schema};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::run::{Handle, Pulled, Shared, let_go};
use crate::waiting::{SIGNAL_INTERVAL, is_main_thread};
use crate::{error, process};

/// Time after which a batch is delivered, however few rows it has.
const BATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The detections of a run as an Arrow stream, which can be read once. Consumers may ask for it several times before, for its schema.
#[pyclass(frozen, module = "vx")]
pub struct ArrowStream {
    source: Option<Arc<Source>>,
}

impl Drop for ArrowStream {
    fn drop(&mut self) {
        if let Some(source) = self.source.take().and_then(Arc::into_inner) {
            let_go(source.handle);
        }
    }
}

/// The run, and whether a consumer reads it.
struct Source {
    run: Arc<Shared>,
    /// Keeps the run going.
    handle: Option<Arc<Handle>>,
    is_started: AtomicBool,
}

const READ_BEFORE: &str = "the stream was read before: start another run";

impl ArrowStream {
    /// Creates the stream of a run that has started.
    pub fn new(run: Arc<Shared>, handle: Option<Arc<Handle>>) -> Self {
        Self { source: Some(Arc::new(Source { run, handle, is_started: AtomicBool::new(false) })) }
    }
}

#[pymethods]
impl ArrowStream {
    /// Returns the stream as a capsule.
    #[pyo3(signature = (requested_schema=None))]
    pub fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // A producer may ignore the request; consumers then cast.
        let _ = requested_schema;
        process::enter()?;
        let source = self.source.clone().filter(|source| !source.is_started.load(Ordering::Acquire));
        let source = source.ok_or_else(|| PyRuntimeError::new_err(READ_BEFORE))?;
        let batches = Batches { source, rows: Rows::default(), is_started: false, has_ended: false };
        let stream = FFI_ArrowArrayStream::new(Box::new(batches));
        Ok(PyCapsule::new_with_value(py, stream, c"arrow_array_stream")?.into_any())
    }

    /// Returns the schema as a capsule.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let schema =
            FFI_ArrowSchema::try_from(&*schema()).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        Ok(PyCapsule::new_with_value(py, schema, c"arrow_schema")?.into_any())
    }
}

struct Batches {
    source: Arc<Source>,
    rows: Rows,
    is_started: bool,
    has_ended: bool,
}

impl Drop for Batches {
    fn drop(&mut self) {
        // The consumer has stopped reading.
        if self.is_started && !self.has_ended && process::enter().is_ok() {
            self.source.run.close();
        }
    }
}

impl RecordBatchReader for Batches {
    fn schema(&self) -> SchemaRef {
        schema()
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        if process::enter().is_err() {
            self.has_ended = true;
            return Some(Err(ArrowError::ExternalError("vx was used before this process was forked".into())));
        }
        if !self.is_started {
            if self.source.is_started.swap(true, Ordering::AcqRel) {
                self.has_ended = true;
                return Some(Err(ArrowError::ExternalError(READ_BEFORE.into())));
            }
            self.is_started = true;
        }
        let begun = Instant::now();
        loop {
            let pulled = match self.pull() {
                Ok(pulled) => pulled,
                Err(reason) => {
                    self.has_ended = true;
                    self.source.run.close();
                    return Some(Err(ArrowError::ExternalError(reason.into())));
                }
            };
            match pulled {
                Pulled::Frame(frame) => self.rows.push(*frame),
                Pulled::End(Some(error)) => {
                    self.has_ended = true;
                    return Some(Err(ArrowError::ExternalError(Box::new(error))));
                }
                // A table must not look complete because the run was closed meanwhile.
                Pulled::End(None) if self.source.run.is_stopped() => {
                    self.has_ended = true;
                    return Some(Err(ArrowError::ExternalError("the run was stopped".into())));
                }
                Pulled::End(None) => self.has_ended = true,
                Pulled::File(done) => self.source.run.keep(*done),
                Pulled::Warning(_) | Pulled::Nothing => {}
            }
            let is_due = self.has_ended || self.rows.is_complete() || begun.elapsed() >= BATCH_INTERVAL;
            if is_due && !self.rows.is_empty() {
                return Some(self.rows.take());
            }
            if self.has_ended {
                return None;
            }
        }
    }
}

impl Batches {
    /// Waits a short time for a record. On the main thread it handles signals and issues warnings, also about files that failed, which
    /// have no rows.
    ///
    /// # Errors
    /// A signal was handled by an exception.
    fn pull(&self) -> Result<Pulled, &'static str> {
        let pull = || self.source.run.pull(SIGNAL_INTERVAL);
        if !is_main_thread() {
            return Ok(pull());
        }
        let handle = |py: Python<'_>| {
            let pulled = py.detach(pull);
            let text = match &pulled {
                Pulled::Warning(text) => Some(text.clone()),
                Pulled::File(done) => done.summary.error.as_ref().map(|error| {
                    format!("{} failed and has no rows, or not all: {}", done.summary.file, error.message)
                }),
                _ => None,
            };
            let issued = text.map_or(Ok(()), |text| error::warn(py, &text));
            issued.and_then(|()| py.check_signals()).map(|()| pulled)
        };
        match Python::try_attach(handle) {
            Some(Ok(pulled)) => Ok(pulled),
            Some(Err(error)) => {
                let interrupts = |py: Python<'_>| {
                    if error.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py) {
                        // The consumer reports an error of its own; the interrupt follows when it returns to Python.
                        let _ = py.import("_thread").and_then(|thread| thread.call_method0("interrupt_main"));
                    }
                };
                let _ = Python::try_attach(interrupts);
                Err("the run was stopped by an exception")
            }
            None => Err("the interpreter has ended"),
        }
    }
}
