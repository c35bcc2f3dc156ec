// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vx report`: writes an HTML page about the results of `vx detect`.

use std::path::{Path, PathBuf};

use clap::Args;
use gstvx::run::{ReportCounts, ReportSettings, write_report};

use crate::detect::message_of;
use crate::events::ResultArguments;
use crate::progress::count;
use crate::terminal::print_error;

/// The arguments.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    found: ResultArguments,

    /// The page; an earlier report is replaced
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,

    /// Folder of --save-frames of vx detect: its pictures are linked and used for thumbnails
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,

    /// Most thumbnails: a number, or none [default: up to 1000, in 3.5 MB]
    ///
    /// Thumbnails are made of saved pictures, or else of the files themselves. The more there are, the smaller they are.
    #[arg(long, value_name = "COUNT", value_parser = thumbnails)]
    thumbnails: Option<usize>,
}

fn thumbnails(text: &str) -> Result<usize, String> {
    if text == "none" { Ok(0) } else { text.parse().map_err(|_| "expected a number or none".to_owned()) }
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> u8 {
    // FFmpeg would print what it thinks of the files while thumbnails are made.
    gstvx::av::capture_log();
    let mut settings = ReportSettings::default();
    settings.found.clone_from(&arguments.found.found);
    settings.gap = arguments.found.gap;
    settings.output.clone_from(&arguments.output);
    settings.pictures.clone_from(&arguments.pictures);
    settings.thumbnails = arguments.thumbnails;
    match write_report(&settings) {
        Ok(counts) => {
            lines(&counts, &arguments.output).iter().for_each(|line| print_error!("{line}"));
            crate::SUCCESS
        }
        Err(error) => {
            print_error!("vx: {}", message_of(&error));
            crate::WRONG
        }
    }
}

/// Returns the lines that describe a report.
pub fn lines(counts: &ReportCounts, output: &Path) -> Vec<String> {
    let megabytes = counts.bytes as f64 / 1e6;
    let mut bad = String::new();
    if counts.failed + counts.damaged > 0 {
        bad = format!(" ({} failed, {} damaged: the report has the reasons)", counts.failed, counts.damaged);
    }
    let mut lines = vec![format!(
        "report      {}: {}{bad}, {}, {}, {megabytes:.1} MB",
        output.display(),
        count(counts.files as u64, "file"),
        count(counts.events as u64, "event"),
        count(counts.thumbnails as u64, "thumbnail")
    )];
    lines.extend(counts.reasons.iter().map(|reason| format!("no picture  {reason}")));
    match counts.without_thumbnails - counts.reasons.len() {
        0 => {}
        more => lines.push(format!("no picture  {}", count(more as u64, "more file"))),
    }
    lines
}
