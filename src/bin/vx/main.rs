//! `vx`, the command beside the plugin.

#![forbid(unsafe_code)]

mod doctor;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Finds things in video files, with the GStreamer plugin vx.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is installed, found and missing, and what to do about it
    ///
    /// Exit status: 0 if everything is there, 1 if something has to be done, 2 for wrong usage.
    Doctor,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Doctor => doctor::run(),
    }
}
