// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detects objects in many files from an application: prints each frame with its detections and each file with its status.
//!
//! ```sh
//! cargo run --example many_files -- FILE...
//! ```

use std::time::Duration;

use gstvx::run::{Event, Run, SamplingSettings, Settings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut settings = Settings::new(std::env::args_os().skip(1));
    settings.detector.confidence = Some(0.4);
    settings.sampling = SamplingSettings::every(Duration::from_secs(2));
    for event in Run::start(settings)? {
        match event {
            Event::Frame(frame) => {
                let labels: Vec<&str> = frame.detections.iter().map(|found| &*found.label).collect();
                println!("{} {:?} {labels:?}", frame.file.unwrap_or_default(), frame.pts_ns);
            }
            Event::FileDone(done) => {
                let error = done.summary.error.map_or_else(String::new, |error| error.message);
                eprintln!("{}: {} {error}", done.summary.file, done.summary.status.name());
            }
            Event::Warning(warning) => eprintln!("{}", warning.text),
            Event::End(report) => return report.error.map_or(Ok(()), |error| Err(error.into())),
            _ => {}
        }
    }
    Ok(())
}
