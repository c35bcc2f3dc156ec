// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plane of a decoded picture, exported through Python's buffer protocol without a copy. The only file with `unsafe`: PyO3 has no safe
//! form of this.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use gstvx::av::Frame;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// One plane of a picture: a read-only buffer of rows, columns and, where samples are interleaved, channels.
#[pyclass(frozen, module = "vx")]
pub struct Plane {
    frame: Arc<Frame>,
    index: usize,
    shape: Vec<isize>,
    strides: Vec<isize>,
    item_bytes: usize,
    format: &'static CStr,
}

impl Plane {
    /// Returns the planes of a picture, if their memory is plain.
    pub fn all(frame: &Arc<Frame>) -> Option<Vec<Self>> {
        let format = frame.pixel_format().ok()?;
        let grid = format.grid(frame.width(), frame.height());
        let sample = format.sample_bytes();
        let (item_bytes, item) = match sample {
            2 if format.is_big_endian() => (2, c">H"),
            2 => (2, c"<H"),
            _ => (1, c"B"),
        };
        (0..format.plane_count())
            .map(|index| {
                let bytes = frame.plane(index)?;
                let stride = frame.stride(index);
                // Formats that are not a grid of samples are rows of bytes.
                let (rows, columns, step, item_bytes, item) = match &grid {
                    Some(planes) => (planes[index].rows, planes[index].columns, planes[index].step, item_bytes, item),
                    None => {
                        let columns = format.row_bytes(index, frame.width())?;
                        (format.plane_rows(index, frame.height()), columns, 1, 1, c"B")
                    }
                };
                // The last item ends within the plane.
                let end = rows.checked_sub(1)?.checked_mul(stride)?.checked_add(columns.checked_mul(step)?)?;
                if end > bytes.len() || step % item_bytes != 0 {
                    return None;
                }
                let signed = |number: usize| isize::try_from(number).ok();
                let mut shape = vec![signed(rows)?, signed(columns)?];
                let mut strides = vec![signed(stride)?, signed(step)?];
                if step > item_bytes {
                    shape.push(signed(step / item_bytes)?);
                    strides.push(signed(item_bytes)?);
                }
                Some(Self { frame: Arc::clone(frame), index, shape, strides, item_bytes, format: item })
            })
            .collect()
    }
}

#[pymethods]
impl Plane {
    /// Rows, columns and, where samples are interleaved, channels.
    #[getter]
    fn shape(&self) -> Vec<isize> {
        self.shape.clone()
    }

    /// Bytes from one row, column and channel to the next.
    #[getter]
    fn strides(&self) -> Vec<isize> {
        self.strides.clone()
    }

    unsafe fn __getbuffer__(this: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("the view is null"));
        }
        // SAFETY: the caller passes a view to be filled, checked above; it has no exporter until the last line.
        unsafe { (*view).obj = ptr::null_mut() };
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("pictures are read-only: copy them to change them"));
        }
        if flags & ffi::PyBUF_STRIDES != ffi::PyBUF_STRIDES {
            return Err(PyBufferError::new_err("rows may be padded: ask for strides, as numpy and memoryview do"));
        }
        let plane = this.get();
        let Some(bytes) = plane.frame.plane(plane.index) else {
            return Err(PyBufferError::new_err("the picture has no such plane"));
        };
        let has_format = flags & ffi::PyBUF_FORMAT == ffi::PyBUF_FORMAT;
        let items: isize = plane.shape.iter().product();
        // SAFETY: the view is valid for writes. What it points to belongs to the frozen object `this`: the bytes to its frame, shape and
        // strides to vectors that never change, the format is static. The view owns a reference to the object, below, so they
        // outlive it. Each item is inside the bytes (`Plane::all`). Nothing writes through it: it is marked read-only.
        unsafe {
            (*view).buf = bytes.as_ptr().cast_mut().cast::<c_void>();
            (*view).len = items * plane.item_bytes as isize;
            (*view).readonly = 1;
            (*view).itemsize = plane.item_bytes as isize;
            (*view).format = if has_format { plane.format.as_ptr().cast_mut() } else { ptr::null_mut() };
            (*view).ndim = plane.shape.len() as c_int;
            (*view).shape = plane.shape.as_ptr().cast_mut();
            (*view).strides = plane.strides.as_ptr().cast_mut();
            (*view).suboffsets = ptr::null_mut();
            (*view).internal = ptr::null_mut();
            (*view).obj = this.into_ptr();
        }
        Ok(())
    }
}
