// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detections as element messages on the bus, for applications without a pad probe. Any thread.

use gst::prelude::*;

use crate::meta;

/// Creates the structure `vx-detections` for a frame that carries its detections; `segment` is the one in which the frame is sent.
///
/// Times are those of GStreamer's own analysis elements (`level`, `spectrum`). Boxes are in pixels of the frame.
pub fn detections(
    frame: &gst::BufferRef,
    segment: Option<&gst::FormattedSegment<gst::ClockTime>>,
    info: &gst_video::VideoInfo,
) -> gst::Structure {
    let (width, height) = (info.width(), info.height());
    let found = meta::read(frame, width, height).found.into_iter().map(|found| {
        let [x, y, w, h] = found.rectangle;
        gst::Structure::builder("detection")
            .field("label", &found.label)
            .field_if_some("class-id", found.class_id)
            .field_if_some("confidence", found.confidence)
            .field("x", x)
            .field("y", y)
            .field("width", w)
            .field("height", h)
            .build()
            .to_send_value()
    });
    let pts = frame.pts();
    let time = segment.zip(pts);
    gst::Structure::builder("vx-detections")
        .field_if_some("timestamp", pts)
        .field_if_some("stream-time", time.and_then(|(segment, pts)| segment.to_stream_time(pts)))
        .field_if_some("running-time", time.and_then(|(segment, pts)| segment.to_running_time(pts)))
        .field_if_some("duration", frame.duration())
        .field("width", width as i32)
        .field("height", height as i32)
        .field("detections", gst::Array::from_values(found))
        .build()
}
