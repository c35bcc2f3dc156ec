// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many files from within an application: each file's summary as a message, each frame's line through an appsink.
//!
//! ```sh
//! make build
//! GST_PLUGIN_PATH=target/plugins cargo run --example many_files -- FILE...
//! ```

use std::io::Write;

use gst::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    gst::init()?;
    let files: Vec<String> = std::env::args().skip(1).collect();
    let bulk = gst::ElementFactory::make("vxbulkbin").property("files", files).build()?;
    // Whatever is not a property of the bin is one of the elements inside: the first lane's, which the others follow.
    if let Some(decoder) = bulk.downcast_ref::<gst::Bin>().and_then(|bin| bin.by_name("decoder")) {
        decoder.set_property("min-interval", 2 * gst::ClockTime::SECOND.nseconds());
    }
    let sink = gst_app::AppSink::builder()
        .callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(|sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    let lines = sample.buffer().ok_or(gst::FlowError::Error)?;
                    let lines = lines.map_readable().map_err(|_| gst::FlowError::Error)?;
                    std::io::stdout().write_all(&lines).map_err(|_| gst::FlowError::Error)?;
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        )
        .sync(false)
        .build();
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&bulk, sink.upcast_ref()])?;
    bulk.link(&sink)?;
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Element(element) => {
                let summary = element.structure().filter(|structure| structure.name() == "vx-file");
                if let Some(summary) = summary
                    && let (Ok(file), Ok(status)) = (summary.get::<&str>("file"), summary.get::<&str>("status"))
                {
                    let problems = summary.get::<gst::Array>("problems").unwrap_or_default();
                    let problems: Vec<&str> = problems.iter().filter_map(|problem| problem.get().ok()).collect();
                    let error = summary.get::<&str>("error").unwrap_or_default();
                    eprintln!("{file}: {status} {error}{}", problems.join("; "));
                }
            }
            gst::MessageView::Error(error) => {
                pipeline.set_state(gst::State::Null)?;
                return Err(error.error().into());
            }
            gst::MessageView::Eos(_) => break,
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}
