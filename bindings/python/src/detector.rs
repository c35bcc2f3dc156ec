// SPDX-License-Identifier: MIT OR Apache-2.0
//! A loaded model for pictures that the program has.

use std::cell::RefCell;
use std::sync::Arc;

use gstvx::detect::Frame;
use gstvx::run::{self, DecodedFrame, PixelBuffer};
use parking_lot::Mutex;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::keyframes::Keyframe;
use crate::records::Detection;
use crate::run::describe;
use crate::settings::Arguments;
use crate::waiting::interruptible;
use crate::{error, process};

/// A loaded model. Threads may share it.
#[pyclass(frozen, module = "vx", subclass)]
pub struct Detector {
    detector: Mutex<process::Own<Arc<run::Detector>>>,
}

impl Detector {
    fn get(&self) -> PyResult<Arc<run::Detector>> {
        process::enter()?;
        let detector = self.detector.lock().get().cloned();
        detector.ok_or_else(|| error::setting("the detector is closed"))
    }

    fn run<'py>(&self, py: Python<'py>, pictures: Vec<Box<dyn Frame>>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let detector = self.get()?;
        let result = py.detach(|| {
            // Signals are handled while it waits, on the thread that called.
            let raised = RefCell::new(None);
            let keep_waiting = || {
                let checked = Python::attach(|py| py.check_signals());
                let goes_on = checked.is_ok();
                if let Err(error) = checked {
                    raised.replace(Some(error));
                }
                goes_on
            };
            let found = detector.detect(pictures, keep_waiting);
            match raised.into_inner() {
                Some(error) => Err(error),
                None => found.map_err(|error| error::from(&error)),
            }
        })?;
        let each = |found: Vec<gstvx::record::Detection>| {
            PyTuple::new(py, found.into_iter().map(Detection::from).collect::<Vec<_>>())
        };
        result.into_iter().map(each).collect()
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        // Closing an engine waits for its threads.
        if process::enter().is_ok() {
            let detector = self.detector.get_mut().take();
            Python::try_attach(|py| py.detach(|| drop(detector)));
        }
    }
}

#[pymethods]
impl Detector {
    #[new]
    fn new(py: Python<'_>, arguments: &Bound<'_, PyDict>) -> PyResult<Self> {
        process::enter()?;
        let settings = arguments.extract::<Arguments<'_>>()?.to_settings(py, Vec::new())?;
        let loaded = interruptible(py, "vxload", move || run::Detector::load(&settings))?;
        let detector = loaded.map_err(|error| error::from(&error))?;
        for warning in detector.warnings() {
            error::warn(py, &warning.text)?;
        }
        Ok(Self { detector: Mutex::new(process::Own::new(Arc::new(detector))) })
    }

    /// Returns the detections on a picture.
    fn _detect<'py>(
        &self,
        py: Python<'py>,
        image: &Bound<'py, PyAny>,
        format: Option<&str>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let found = self.run(py, vec![picture(image, format)?])?;
        Ok(found.into_iter().next().unwrap_or_else(|| PyTuple::empty(py)))
    }

    /// Returns the detections on each of several pictures.
    fn _batch<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
        format: Option<&str>,
    ) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let pictures: PyResult<Vec<_>> = images.try_iter()?.map(|image| picture(&image?, format)).collect();
        self.run(py, pictures?)
    }

    /// Names of the classes, by number.
    #[getter]
    fn classes(&self) -> PyResult<Vec<String>> {
        Ok(self.get()?.classes())
    }

    /// The engine: model, provider, device, precision, sessions, intra_op_threads, model_loads.
    #[getter]
    fn engine<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let detector = self.get()?;
        let fields = describe(py, &py.detach(|| detector.report()))?;
        // Those of a run.
        fields.del_item("lanes")?;
        fields.del_item("decoder_threads")?;
        Ok(fields)
    }

    /// Unloads the model, unless something else in the process uses it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        process::enter()?;
        let detector = self.detector.lock().take();
        py.detach(|| drop(detector));
        Ok(())
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }
}

/// Converts a picture: a keyframe as it is, without a copy; anything with a buffer of bytes by a copy, since Python may change it meanwhile.
fn picture(image: &Bound<'_, PyAny>, format: Option<&str>) -> PyResult<Box<dyn Frame>> {
    if let Ok(keyframe) = image.cast::<Keyframe>() {
        return Ok(Box::new(DecodedFrame(Arc::clone(&keyframe.get().frame))));
    }
    let Some(format) = format else {
        return Err(PyTypeError::new_err(
            "say how the picture's channels are ordered: format=\"rgb\" (PIL, PyAV's rgb24), \"bgr\" (OpenCV), \"rgba\", \"bgra\" or \
             \"gray\"",
        ));
    };
    let py = image.py();
    let wrong = || {
        PyTypeError::new_err(
            "expected a keyframe of vx, or an array of bytes (uint8) with rows, columns and channels, such as numpy's",
        )
    };
    let array = match image.hasattr("__array_interface__")? && PyBuffer::<u8>::get(image).is_err() {
        // A picture of PIL has no buffer of its own.
        true => py.import("numpy")?.call_method1("asarray", (image,))?,
        false => image.clone(),
    };
    let buffer = PyBuffer::<u8>::get(&array).map_err(|_| wrong())?;
    let size = match buffer.shape() {
        [height, width] if format == "gray" => (*width, *height),
        [height, width, channels] => {
            let expected = match format {
                "gray" => 1,
                "rgba" | "bgra" => 4,
                _ => 3,
            };
            if *channels != expected {
                return Err(PyTypeError::new_err(format!(
                    "the picture has {channels} channels, and format=\"{format}\" has {expected}"
                )));
            }
            (*width, *height)
        }
        _ => return Err(wrong()),
    };
    let pixels = PixelBuffer::new(format, size, buffer.to_vec(py)?).map_err(|error| error::from(&error))?;
    Ok(Box::new(pixels))
}
