// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vx events`: makes stretches of time of the results of `vx detect`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use gstvx::run::quantity::duration;
use gstvx::run::{Error, EventSettings, Output, write_events};

use crate::detect::message_of;
use crate::terminal::{CLOSED, print_error};

/// The results, and how events are made of them.
#[derive(Args)]
pub struct ResultArguments {
    /// Outputs of vx detect (.jsonl, .parquet), or - for JSON lines on stdin
    #[arg(required = true, value_name = "RESULTS")]
    pub found: Vec<PathBuf>,

    /// Longest time between two frames with a class that belong to one event [default: from the file]
    ///
    /// The default is 2.5 times the mean time between a file's frames: one frame without the class does not end an event, and two do.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub gap: Option<Duration>,
}

/// The arguments.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    found: ResultArguments,

    /// Output file: .jsonl, .csv or .parquet [default: JSON lines on stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace an output that exists
    #[arg(long)]
    overwrite: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> u8 {
    let mut settings = EventSettings::default();
    settings.found.clone_from(&arguments.found.found);
    settings.gap = arguments.found.gap;
    settings.output = match &arguments.output {
        Some(path) if path.as_os_str() != "-" => Output::File(path.clone()),
        _ => Output::Writer(Box::new(std::io::stdout())),
    };
    settings.overwrite = arguments.overwrite;
    match write_events(settings) {
        Ok(counts) => {
            if counts.failed + counts.damaged > 0 {
                let (failed, damaged, files) = (counts.failed, counts.damaged, counts.files);
                print_error!(
                    "vx: {failed} of {files} files failed and {damaged} are damaged: events in them may be missing"
                );
            }
            if counts.lost > 0 {
                print_error!(
                    "vx: {} detections were dropped by an element behind the detector: counts may be low",
                    counts.lost
                );
            }
            crate::SUCCESS
        }
        Err(Error::Closed) => CLOSED,
        Err(error) => {
            print_error!("vx: {}", message_of(&error));
            crate::WRONG
        }
    }
}
