// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes frames with their detections out of a pipeline: the pixels as RGB, the boxes from the frame's metas.
//!
//! ```sh
//! make build
//! GST_PLUGIN_PATH=target/plugins cargo run --example appsink -- FILE
//! ```

use gst::prelude::*;
use gst_video::VideoFrameExt;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    gst::init()?;
    let file = std::env::args().nth(1).ok_or("name a file")?;
    let launch = "filesrc name=source ! vxkeyframedec ! vxyolodetect ! videoconvert ! video/x-raw,format=RGB ! \
                  appsink name=sink sync=false max-buffers=4";
    let pipeline = gst::parse::launch(launch)?.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline")?;
    pipeline.by_name("source").ok_or("no source")?.set_property("location", file);
    let sink = pipeline.by_name("sink").and_downcast::<gst_app::AppSink>().ok_or("no appsink")?;
    pipeline.set_state(gst::State::Playing)?;
    while let Ok(sample) = sink.pull_sample() {
        let (buffer, caps) = (sample.buffer().ok_or("no buffer")?, sample.caps().ok_or("no caps")?);
        let info = gst_video::VideoInfo::from_caps(caps)?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
        let (pixels, stride) = (frame.plane_data(0)?, frame.plane_stride()[0] as usize);
        for region in buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>() {
            let (x, y, width, height) = region.rect();
            let center = (y + height / 2) as usize * stride + 3 * (x + width / 2) as usize;
            let label = region.roi_type();
            println!(
                "{} {label} {:?}, RGB at its center {:?}",
                time_of(buffer),
                region.rect(),
                &pixels[center..center + 3]
            );
        }
    }
    // pull_sample fails at the end of the stream and after an error.
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let last = bus.pop_filtered(&[gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null)?;
    match last.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => Err(error.error().into()),
        _ => Ok(()),
    }
}

fn time_of(buffer: &gst::BufferRef) -> String {
    buffer.pts().map_or_else(|| "?".to_owned(), |pts| pts.to_string())
}
