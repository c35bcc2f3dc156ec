// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detects objects on the keyframes of a file or HTTP URL: prints the detections that `vxyolodetect` posts on the bus.
//!
//! ```sh
//! make build
//! GST_PLUGIN_PATH=target/plugins cargo run --example detect_file -- FILE
//! ```

use gst::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    gst::init()?;
    let file = std::env::args().nth(1).ok_or("name a file or a URL")?;
    let uri =
        if file.contains("://") { file } else { gst::glib::filename_to_uri(std::path::absolute(file)?, None)?.into() };
    let source = gst::Element::make_from_uri(gst::URIType::Src, &uri, None)?;
    let decoder = gst::ElementFactory::make("vxkeyframedec").build()?;
    let detector = gst::ElementFactory::make("vxyolodetect").property("post-messages", true).build()?;
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &decoder, &detector, &sink])?;
    gst::Element::link_many([&source, &decoder, &detector, &sink])?;
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let mut result = Ok(());
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => {
                result = Err(error.error().into());
                break;
            }
            gst::MessageView::Element(element) => element.structure().map_or(Ok(()), print)?,
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null)?;
    result
}

/// Prints the detections in a message.
fn print(message: &gst::StructureRef) -> Result<(), Box<dyn std::error::Error>> {
    if message.name() != "vx-detections" {
        return Ok(());
    }
    let time = message.get_optional::<gst::ClockTime>("stream-time")?.unwrap_or_default();
    for detection in message.get::<gst::Array>("detections")?.iter() {
        let detection = detection.get::<gst::Structure>()?;
        let (label, confidence) = (detection.get::<&str>("label")?, detection.get::<f64>("confidence")?);
        let mut box_ = [0.0; 4];
        for (side, name) in box_.iter_mut().zip(["x", "y", "width", "height"]) {
            *side = detection.get::<f64>(name)?;
        }
        println!("{time} {label} {confidence:.2} {box_:.0?}");
    }
    Ok(())
}
