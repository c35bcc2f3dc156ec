// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detects objects on a live source. The detector drops the frames that its model has no time for, and so always works on the newest.
//!
//! ```sh
//! make build
//! GST_PLUGIN_PATH=target/plugins cargo run --example live                  # a test picture, for five seconds
//! GST_PLUGIN_PATH=target/plugins cargo run --example live -- v4l2src 60    # a camera, for a minute
//! ```

use std::time::{Duration, Instant};

use gst::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    gst::init()?;
    let mut arguments = std::env::args().skip(1);
    let source = arguments.next().unwrap_or_else(|| "videotestsrc is-live=true pattern=ball".to_owned());
    let seconds = arguments.next().map_or(Ok(5), |seconds| seconds.parse())?;
    let launch = format!(
        "{source} ! videoconvert ! vxyolodetect name=detector when-late=drop post-messages=true ! fakesink sync=false"
    );
    let pipeline = gst::parse::launch(&launch)?.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline")?;
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut frames, mut result) = (0_u64, Ok(()));
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let Some(message) = bus.timed_pop(gst::ClockTime::try_from(left)?) else { break };
        match message.view() {
            gst::MessageView::Element(element) if element.has_name("vx-detections") => {
                frames += 1;
                let found = element.structure().and_then(|message| message.get::<gst::Array>("detections").ok());
                println!("frame {frames}: {} detections", found.map_or(0, |found| found.len()));
            }
            // The time that the model takes is known now, or has changed.
            gst::MessageView::Latency(_) => pipeline.recalculate_latency()?,
            gst::MessageView::Error(error) => {
                result = Err(error.error().into());
                break;
            }
            gst::MessageView::Eos(_) => break,
            _ => {}
        }
    }
    let stats = pipeline.by_name("detector").map(|detector| detector.property::<gst::Structure>("stats"));
    if let Some(dropped) = stats.and_then(|stats| stats.get::<u64>("dropped").ok()) {
        println!("{dropped} frames dropped");
    }
    pipeline.set_state(gst::State::Null)?;
    result
}
