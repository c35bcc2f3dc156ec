// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads detections from each frame in an application with its own pipeline.
//!
//! ```sh
//! make build
//! GST_PLUGIN_PATH=target/plugins cargo run --example on_each_frame -- FILE
//! ```

use std::io::Write;

use gst::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    gst::init()?;
    let file = std::env::args().nth(1).ok_or("name a file")?;
    let launch = "filesrc name=source ! vxkeyframedec ! vxyolodetect name=detector ! fakesink sync=false";
    let pipeline = gst::parse::launch(launch)?.downcast::<gst::Pipeline>().map_err(|_| "no pipeline")?;
    let [source, detector] = ["source", "detector"].map(|name| pipeline.by_name(name));
    source.ok_or("no source")?.set_property("location", file);
    let pad = detector.and_then(|detector| detector.static_pad("src")).ok_or("no detector")?;
    pad.add_probe(gst::PadProbeType::BUFFER, |_pad, info| {
        if let Some(frame) = info.buffer() {
            for region in frame.iter_meta::<gst_video::VideoRegionOfInterestMeta>() {
                let detection = region.params().find(|parameter| parameter.name() == "detection");
                let confidence = detection.and_then(|detection| detection.get::<f64>("confidence").ok());
                let time = frame.pts().map_or_else(|| "?".to_owned(), |time| time.to_string());
                let (label, confidence) = (region.roi_type(), confidence.unwrap_or(0.0));
                // A panic must not unwind into a GStreamer callback, so this does not use println.
                let _ = writeln!(std::io::stdout(), "{time} {label} {confidence:.2} {:?}", region.rect());
            }
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let last = bus.timed_pop_filtered(gst::ClockTime::NONE, &[gst::MessageType::Eos, gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null)?;
    match last.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => Err(error.error().into()),
        _ => Ok(()),
    }
}
