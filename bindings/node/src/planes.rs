// SPDX-License-Identifier: MIT OR Apache-2.0
//! The planes of a decoded picture as arrays of JavaScript, without a copy. The only file with `unsafe`: napi has no safe form of this.

use std::sync::Arc;

use gstvx::av::{Frame, PlaneBytes};
use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;

/// One plane of a picture.
#[napi(object, object_from_js = false)]
pub struct Plane {
    /// Its bytes, rows from top to bottom.
    pub data: Uint8Array,
    /// Rows.
    pub rows: u32,
    /// Samples, or groups of interleaved samples, in a row.
    pub columns: u32,
    /// Bytes from one row to the next.
    pub stride: u32,
    /// Bytes from one column to the next.
    pub step: u32,
}

/// Returns the planes of a picture, if their memory is plain.
pub fn of(frame: &Arc<Frame>) -> Option<Vec<Plane>> {
    let format = frame.pixel_format().ok()?;
    let grid = format.grid(frame.width(), frame.height());
    let number = |count: usize| u32::try_from(count).ok();
    let planes = PlaneBytes::all(frame)?.into_iter().enumerate();
    let each = planes.map(|(index, bytes)| {
        // Formats that are not a grid of samples are rows of bytes.
        let (rows, columns, step) = match &grid {
            Some(planes) => (planes[index].rows, planes[index].columns, planes[index].step),
            None => (format.plane_rows(index, frame.height()), format.row_bytes(index, frame.width())?, 1),
        };
        let stride = number(frame.stride(index))?;
        Some(Plane { data: shared(bytes), rows: number(rows)?, columns: number(columns)?, stride, step: number(step)? })
    });
    each.collect()
}

/// Returns the bytes of a plane as an array that shares their memory.
fn shared(plane: PlaneBytes) -> Uint8Array {
    let bytes = plane.as_ref();
    let (start, length) = (bytes.as_ptr().cast_mut(), bytes.len());
    // SAFETY: `plane` keeps the bytes alive and in place until the array's memory is released, when it is dropped. No reference to them
    // exists in Rust afterwards. JavaScript may write to them: the memory is the frame's, which nothing else in Rust reads.
    unsafe { Uint8Array::with_external_data(start, length, move |_, _| drop(plane)) }
}
